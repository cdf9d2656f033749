//! Requests to relays that are not ours, under keys that mean nothing to anybody.
//!
//! For each relay and pseudonym there is one key a day and, while it is used, one short-lived Swarm of its own: it dials
//! and does nothing else. It shares no port, no identity and no protocol but the held link with the device's main Swarm,
//! so a relay cannot tell by anything but time and IP address who asks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use kith_protocol::engine::{DepositFailure, DepositId, LinkId};
use kith_protocol::wire::Frame;
use kith_protocol::{Address, DeviceId, Mono, limits};
use libp2p::core::Transport as _;
use libp2p::identity::Keypair;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{self, SwarmEvent};
use libp2p::{PeerId, Swarm};
use tokio::sync::mpsc;
use tracing::debug;

use crate::address;
use crate::config::Limits;
use crate::environment::{Environment, Purpose};
use crate::event::Event;
use crate::gate::{Gate, Policy};
use crate::link::{self, LinkEvent, Links};

/// Ways open at a time; an idle one gives way.
const WAYS: usize = 256;
/// Requests waiting on one way.
const REQUESTS: usize = 2 * limits::DEPOSITS;
/// A relay must be reached within this time,
const CONNECT: u64 = 15_000;
/// and answer each request within this.
const ANSWER: u64 = 30_000;
/// A way without use is closed after this.
const IDLE: u64 = 30_000;
/// How often deadlines are looked at.
const TICK: u64 = 500;

/// What became of a request.
#[derive(Debug)]
pub struct Answered {
    /// Which.
    pub id: DepositId,
    /// The relay's reply frame.
    pub result: Result<Bytes, DepositFailure>,
}

/// A request to a relay.
#[derive(Debug, Clone)]
pub struct DepositRequest {
    /// Also the number of the request in `frame`.
    pub id: DepositId,
    /// The relay.
    pub relay: DeviceId,
    /// Where it is.
    pub address: Address,
    /// Requests with one pseudonym share a key and a connection.
    pub pseudonym: [u8; 16],
    /// The request frame.
    pub frame: Bytes,
}

/// The near end of all ways to others' relays.
pub struct Deposits {
    environment: Arc<dyn Environment>,
    policy: Arc<Policy>,
    answers: mpsc::Sender<Answered>,
    ways: HashMap<(DeviceId, [u8; 16]), Way>,
    keys: HashMap<(DeviceId, [u8; 16]), (u64, Keypair)>,
}

struct Way {
    sender: mpsc::Sender<DepositRequest>,
    day: u64,
    open: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Deposits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deposits").field("ways", &self.ways.len()).finish_non_exhaustive()
    }
}

impl Deposits {
    pub(crate) fn new(
        environment: Arc<dyn Environment>,
        policy: Arc<Policy>,
        answers: mpsc::Sender<Answered>,
    ) -> Self {
        Self { environment, policy, answers, ways: HashMap::new(), keys: HashMap::new() }
    }

    /// Sends a request. It is answered once, whatever becomes of it; the error says why it is not even begun.
    ///
    /// # Errors
    /// [`DepositFailure::Unreachable`] if too much is under way.
    pub fn send(&mut self, request: DepositRequest) -> Result<(), DepositFailure> {
        let day = self.environment.wall().0 / limits::DAY;
        let way = (request.relay, request.pseudonym);
        self.ways.retain(|_, way| !way.sender.is_closed());
        let request = match self.ways.get(&way).filter(|open| open.day == day) {
            Some(open) => match open.enter(request) {
                Ok(()) => return Ok(()),
                Err(request) => request,
            },
            None => request,
        };
        if self.ways.len() >= WAYS && !self.make_room() {
            return Err(DepositFailure::Unreachable);
        }
        let key = self.key(way, day)?;
        let opened = self.open(key, &request, day);
        let result = opened.enter(request).map_err(|_| DepositFailure::Unreachable);
        self.ways.insert(way, opened);
        result
    }

    /// Closes a way nobody waits for.
    fn make_room(&mut self) -> bool {
        let idle = self.ways.iter().find(|(_, way)| way.open.load(Ordering::Relaxed) == 0);
        match idle.map(|(key, _)| *key) {
            Some(key) => self.ways.remove(&key).is_some(),
            None => false,
        }
    }

    fn key(&mut self, way: (DeviceId, [u8; 16]), day: u64) -> Result<Keypair, DepositFailure> {
        self.keys.retain(|_, (made, _)| *made == day);
        if let Some((_, key)) = self.keys.get(&way) {
            return Ok(key.clone());
        }
        let mut seed = [0; 32];
        self.environment.rng().fill_bytes(&mut seed);
        let key = Keypair::ed25519_from_bytes(&mut seed).map_err(|_| DepositFailure::Unreachable)?;
        self.keys.insert(way, (day, key.clone()));
        Ok(key)
    }

    fn open(&self, key: Keypair, request: &DepositRequest, day: u64) -> Way {
        let (sender, requests) = mpsc::channel(REQUESTS);
        let open = Arc::new(AtomicUsize::new(0));
        let (relay, address) = (request.relay, request.address.clone());
        let task = Task {
            environment: Arc::clone(&self.environment),
            requests,
            answers: self.answers.clone(),
            open: Arc::clone(&open),
            pending: HashMap::new(),
        };
        let policy = Arc::clone(&self.policy);
        self.environment.spawn("deposit", Box::pin(task.run(key, policy, relay, address)));
        Way { sender, day, open }
    }
}

impl Way {
    fn enter(&self, request: DepositRequest) -> Result<(), DepositRequest> {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.sender.try_send(request).map_err(|error| {
            self.open.fetch_sub(1, Ordering::Relaxed);
            match error {
                mpsc::error::TrySendError::Full(request) | mpsc::error::TrySendError::Closed(request) => {
                    request
                }
            }
        })
    }
}

/// One way: the Swarm of one throwaway key.
struct Task {
    environment: Arc<dyn Environment>,
    requests: mpsc::Receiver<DepositRequest>,
    answers: mpsc::Sender<Answered>,
    open: Arc<AtomicUsize>,
    /// Requests without an answer, and since when.
    pending: HashMap<DepositId, (Mono, Bytes)>,
}

impl Task {
    async fn run(mut self, key: Keypair, policy: Arc<Policy>, relay: DeviceId, address: Address) {
        let failure = match self.swarm(&key, policy) {
            Ok((swarm, links, events)) => self.serve(swarm, links, events, relay, &address).await,
            Err(error) => {
                debug!(relay = %relay.short(), %error, "no way to the relay");
                DepositFailure::Unreachable
            }
        };
        self.requests.close();
        while let Ok(request) = self.requests.try_recv() {
            self.pending.insert(request.id, (Mono(0), Bytes::new()));
        }
        for id in self.pending.keys().copied().collect::<Vec<_>>() {
            self.answer(id, Err(failure)).await;
        }
    }

    fn swarm(
        &self,
        key: &Keypair,
        policy: Arc<Policy>,
    ) -> Result<(Swarm<link::Behaviour>, Links, mpsc::Receiver<Event>), String> {
        let local = DeviceId::from_public_key(&key.public()).ok_or("the key is no Ed25519 key")?;
        let limits = Limits::default();
        let links = Links::new(&limits);
        let (sink, events) = mpsc::channel(limits.events);
        let behaviour = link::Behaviour::new(
            Arc::clone(&self.environment),
            local,
            links.clone(),
            sink,
            limits.stall_timeout,
        );
        let inner = self.environment.transport(key, Purpose::Deposit).map_err(|error| error.to_string())?;
        let transport = Gate::new(inner, policy, Arc::clone(&self.environment)).boxed();
        let executor = {
            let environment = Arc::clone(&self.environment);
            move |task| environment.spawn("deposit connection", task)
        };
        let settings =
            swarm::Config::with_executor(executor).with_idle_connection_timeout(Duration::from_millis(IDLE));
        Ok((Swarm::new(transport, behaviour, key.public().to_peer_id(), settings), links, events))
    }

    /// Serves until the way is idle or broken; what is still open then has failed for the reason returned.
    async fn serve(
        &mut self,
        mut swarm: Swarm<link::Behaviour>,
        links: Links,
        mut events: mpsc::Receiver<Event>,
        relay: DeviceId,
        address: &Address,
    ) -> DepositFailure {
        let (Some(peer), Some(address)) = (relay.peer_id(), address::to_multiaddr(address)) else {
            return DepositFailure::Unreachable;
        };
        swarm.behaviour_mut().want(peer, relay);
        if let Err(error) = swarm.dial(DialOpts::peer_id(peer).addresses(vec![address]).build()) {
            debug!(relay = %relay.short(), %error, "not dialled");
            return DepositFailure::Unreachable;
        }
        let begun = self.environment.mono();
        let mut used = begun;
        let mut up: Option<LinkId> = None;
        let mut tick = self.environment.sleep(TICK);
        loop {
            tokio::select! {
                request = self.requests.recv() => {
                    let Some(request) = request else { return DepositFailure::Closed };
                    used = self.environment.mono();
                    let DepositRequest { id, frame, .. } = request;
                    if let Some(link) = up
                        && let Err(error) = links.send(link, frame.clone())
                    {
                        debug!(relay = %relay.short(), %error, "the way to the relay broke");
                        self.pending.insert(id, (used, frame));
                        return DepositFailure::Closed;
                    }
                    self.pending.insert(id, (used, frame));
                }
                event = events.recv() => {
                    if let Some(Event::Frame { bytes, .. }) = event
                        && let Ok(Frame::RelayReply(reply)) = Frame::decode(&bytes)
                        && self.pending.remove(&DepositId(reply.id)).is_some()
                    {
                        used = self.environment.mono();
                        self.answer(DepositId(reply.id), Ok(bytes)).await;
                    }
                }
                event = swarm.select_next_some() => match on_swarm(event, peer) {
                    Happened::Up(link) => {
                        swarm.behaviour_mut().start(peer, link);
                        up = Some(link);
                        let mut open: Vec<(&DepositId, &(Mono, Bytes))> = self.pending.iter().collect();
                        open.sort_by_key(|(id, _)| **id);
                        for (_, (_, frame)) in open {
                            if links.send(link, frame.clone()).is_err() {
                                return DepositFailure::Closed;
                            }
                        }
                    }
                    Happened::Gone => {
                        return if up.is_some() { DepositFailure::Closed } else { DepositFailure::Unreachable };
                    }
                    Happened::Nothing => {}
                },
                () = &mut tick => {
                    tick = self.environment.sleep(TICK);
                    swarm.behaviour_mut().tick();
                    let now = self.environment.mono();
                    if up.is_none() && now.since(begun) >= CONNECT {
                        return DepositFailure::Unreachable;
                    }
                    if self.pending.is_empty() && now.since(used) >= IDLE {
                        return DepositFailure::Closed;
                    }
                    if self.pending.values().any(|(since, _)| now.since(*since) >= ANSWER) {
                        return DepositFailure::TimedOut;
                    }
                }
            }
        }
    }

    async fn answer(&self, id: DepositId, result: Result<Bytes, DepositFailure>) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        // an error means that nobody waits any more
        let _ = self.answers.send(Answered { id, result }).await;
    }
}

enum Happened {
    Up(LinkId),
    Gone,
    Nothing,
}

fn on_swarm(event: SwarmEvent<LinkEvent>, relay: PeerId) -> Happened {
    match event {
        SwarmEvent::Behaviour(LinkEvent::Up { peer, link, .. }) if peer == relay => Happened::Up(link),
        SwarmEvent::Behaviour(
            LinkEvent::Down { .. } | LinkEvent::Failed { .. } | LinkEvent::Violation { .. },
        )
        | SwarmEvent::OutgoingConnectionError { .. }
        | SwarmEvent::ConnectionClosed { num_established: 0, .. } => Happened::Gone,
        _ => Happened::Nothing,
    }
}
