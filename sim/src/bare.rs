//! Bare libp2p nodes that gossip: how far the simulator itself goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{self, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, gossipsub, identify, kad};
use tokio::sync::mpsc;

use crate::draw::Draw;
use crate::host::Life;
use crate::judge::Samples;
use crate::net::{Net, transport};
use crate::trace::{SECOND, Trace};

/// Messages a node has not published yet.
const COMMANDS: usize = 64;
/// A message that a node does not get within this is lost to it.
const WITHIN: u64 = 30 * SECOND;
/// Unused connections end after this.
const IDLE: Duration = Duration::from_secs(120);

#[derive(NetworkBehaviour)]
struct Behaviour {
    gossip: gossipsub::Behaviour,
    identify: identify::Behaviour,
    kad: Toggle<kad::Behaviour<kad::store::MemoryStore>>,
}

struct Published {
    at: u64,
    waiting: BTreeSet<u32>,
}

#[derive(Default)]
struct Inner {
    nodes: BTreeMap<u32, mpsc::Sender<Vec<u8>>>,
    under_way: BTreeMap<u64, Published>,
    latency: Samples,
    arrivals: Vec<(u64, u64)>,
    published: u64,
    expected: u64,
    arrived: u64,
}

/// All bare nodes, and what they gossip.
pub(crate) struct Crowd {
    trace: Arc<Trace>,
    copies: Arc<AtomicU64>,
    inner: Mutex<Inner>,
}

/// What gossip came to.
pub(crate) struct Gossip {
    pub(crate) published: u64,
    pub(crate) expected: u64,
    pub(crate) arrived: u64,
    pub(crate) copies: u64,
    pub(crate) latency: Samples,
    pub(crate) arrivals: Vec<(u64, u64)>,
}

impl Crowd {
    pub(crate) fn new(trace: Arc<Trace>) -> Arc<Self> {
        Arc::new(Self { trace, copies: Arc::default(), inner: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hosts a host dials: some that started before it.
    pub(crate) fn acquaintances(&self, host: u32, dials: u32, seed: u64) -> Vec<u32> {
        let mut draw = Draw::new(seed, "dials", u64::from(host));
        (0..dials.min(host)).map(|_| draw.below(host as usize) as u32).collect()
    }

    /// Starts a node in a life; its libp2p name.
    pub(crate) fn start(
        self: &Arc<Self>,
        life: &Arc<Life>,
        net: &Arc<Net>,
        seed: u64,
        dials: Vec<u32>,
        kademlia: bool,
    ) -> String {
        let host = life.host;
        let (commands, receiver) = mpsc::channel(COMMANDS);
        self.lock().nodes.insert(host, commands);
        let key = keypair(seed, host);
        let name = key.public().to_peer_id().to_string();
        let peers = dials.iter().map(|&peer| (name_of(seed, peer), net.address(peer))).collect();
        let node = Node {
            crowd: Arc::clone(self),
            net: Arc::clone(net),
            life: Arc::clone(life),
            key,
            peers,
            kademlia,
        };
        life.run(Box::pin(node.run(receiver)));
        name
    }

    /// Has a node publish; the others that are up should get it.
    pub(crate) fn publish(&self, from: u32, number: u64, size: usize, up: &[u32]) {
        let mut inner = self.lock();
        let waiting: BTreeSet<u32> = up.iter().copied().filter(|host| *host != from).collect();
        let mut message = number.to_be_bytes().to_vec();
        message.resize(size.max(8), 0);
        let sent = inner.nodes.get(&from).is_some_and(|node| node.try_send(message).is_ok());
        if sent {
            self.trace.note(from, format_args!("publishes {number}"));
            inner.published += 1;
            inner.expected += waiting.len() as u64;
            inner.under_way.insert(number, Published { at: self.trace.now(), waiting });
        }
    }

    fn got(&self, host: u32, number: u64) {
        let now = self.trace.now();
        let mut inner = self.lock();
        let inner = &mut *inner;
        self.trace.note(host, format_args!("got {number}"));
        let Some(published) = inner.under_way.get_mut(&number) else { return };
        let took = now - published.at;
        if published.waiting.remove(&host) && took <= WITHIN {
            inner.arrived += 1;
            inner.latency.add(took);
            inner.arrivals.push((now, took));
        }
        if published.waiting.is_empty() {
            inner.under_way.remove(&number);
        }
    }

    /// A node went down: nobody expects it to get what is under way.
    pub(crate) fn down(&self, host: u32) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.nodes.remove(&host);
        for published in inner.under_way.values_mut() {
            if published.waiting.remove(&host) {
                inner.expected -= 1;
            }
        }
    }

    /// Published and arrived so far.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.expected, inner.arrived)
    }

    /// Nothing is under way that could still arrive in time.
    pub(crate) fn is_settled(&self) -> bool {
        let now = self.trace.now();
        self.lock().under_way.values().all(|published| now - published.at > WITHIN)
    }

    pub(crate) fn gossip(&self) -> Gossip {
        let inner = self.lock();
        Gossip {
            published: inner.published,
            expected: inner.expected,
            arrived: inner.arrived,
            copies: self.copies.load(Ordering::Relaxed).saturating_sub(inner.published),
            latency: inner.latency.clone(),
            arrivals: inner.arrivals.clone(),
        }
    }
}

/// The key of a host that is no person.
pub(crate) fn keypair(seed: u64, host: u32) -> Keypair {
    let mut draw = Draw::new(seed, "key", u64::from(host));
    loop {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&draw.word().to_le_bytes());
        }
        // every 32 bytes make a key
        if let Ok(key) = Keypair::ed25519_from_bytes(bytes) {
            return key;
        }
    }
}

fn name_of(seed: u64, host: u32) -> PeerId {
    keypair(seed, host).public().to_peer_id()
}

struct Node {
    crowd: Arc<Crowd>,
    net: Arc<Net>,
    life: Arc<Life>,
    key: Keypair,
    peers: Vec<(PeerId, String)>,
    kademlia: bool,
}

impl Node {
    async fn run(self, mut commands: mpsc::Receiver<Vec<u8>>) {
        let host = self.life.host;
        let Some(mut swarm) = self.swarm() else { return };
        let topic = gossipsub::IdentTopic::new("sim");
        // a topic of our own is never refused, and neither is our own address
        let _ = swarm.behaviour_mut().gossip.subscribe(&topic);
        if let Ok(address) = self.net.address(host).parse::<Multiaddr>() {
            let _ = swarm.listen_on(address.clone());
            swarm.add_external_address(address);
        }
        for (peer, address) in &self.peers {
            let Ok(address) = address.parse::<Multiaddr>() else { continue };
            if let Some(kad) = swarm.behaviour_mut().kad.as_mut() {
                kad.add_address(peer, address.clone());
            }
            // one that cannot be dialled is one fewer
            let _ = swarm.dial(address.with(Protocol::P2p(*peer)));
        }
        loop {
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    // without peers nobody hears it
                    Some(message) => { let _ = swarm.behaviour_mut().gossip.publish(topic.clone(), message); }
                    None => return,
                },
                event = swarm.select_next_some() => self.on_event(&mut swarm, event),
            }
        }
    }

    fn on_event(&self, swarm: &mut Swarm<Behaviour>, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message { message, .. })) => {
                if let Some(number) = message.data.first_chunk() {
                    self.crowd.got(self.life.host, u64::from_be_bytes(*number));
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                info,
                ..
            })) => {
                if let Some(kad) = swarm.behaviour_mut().kad.as_mut() {
                    for address in info.listen_addrs {
                        kad.add_address(&peer_id, address);
                    }
                }
            }
            _ => {}
        }
    }

    fn swarm(&self) -> Option<Swarm<Behaviour>> {
        let peer = self.key.public().to_peer_id();
        let copies = Arc::clone(&self.crowd.copies);
        let config = gossipsub::ConfigBuilder::default()
            .validation_mode(gossipsub::ValidationMode::Strict)
            .message_id_fn(move |message| {
                copies.fetch_add(1, Ordering::Relaxed);
                gossipsub::MessageId::new(message.data.first_chunk::<8>().map_or(&[][..], |number| number))
            })
            .build()
            .ok()?;
        let authenticity = gossipsub::MessageAuthenticity::Signed(self.key.clone());
        let kad = self.kademlia.then(|| {
            let config = kad::Config::new(StreamProtocol::new("/sim/kad/1"));
            let mut kad = kad::Behaviour::with_config(peer, kad::store::MemoryStore::new(peer), config);
            kad.set_mode(Some(kad::Mode::Server));
            kad
        });
        let behaviour = Behaviour {
            gossip: gossipsub::Behaviour::new(authenticity, config).ok()?,
            identify: identify::Behaviour::new(identify::Config::new("/sim/1".to_owned(), self.key.public())),
            kad: kad.into(),
        };
        let transport =
            transport(Arc::clone(&self.net), self.life.host, self.life.boot(), &self.key, true).ok()?;
        let life = Arc::clone(&self.life);
        let config =
            swarm::Config::with_executor(move |task| life.run(task)).with_idle_connection_timeout(IDLE);
        Some(Swarm::new(transport, behaviour, peer, config))
    }
}
