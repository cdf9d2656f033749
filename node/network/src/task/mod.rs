//! The one task that owns the Swarm. Nothing slow happens here: it moves commands in and events out.

mod book;
mod dialing;
mod dials;
mod reach;
mod swarm_events;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use kith_protocol::engine::LinkId;
use kith_protocol::{Address, DeviceId, Mono};
use libp2p::kad;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId, Swarm};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, info};

use crate::address;
use crate::behaviour::{Behaviour, Compact};
use crate::config::{Config, Limits};
use crate::directory::{Keeper, Outcome};
use crate::environment::Environment;
use crate::event::{Event, Status};
use crate::gate::{Network as Origin, Policy};
use crate::handle::Command;
use crate::link::Links;

use book::Book;
use dials::Dials;
pub(crate) use reach::Listener;
use reach::Reach;

/// Events waiting for room at the owner's, above which nothing more is taken from the Swarm,
const MAX_WAITING: usize = 1024;
/// and above which no commands are taken, either.
const MAX_WAITING_COMMANDS: usize = 4 * MAX_WAITING;
/// Commands handled before the Swarm has its turn.
const COMMANDS_PER_TURN: usize = 32;
/// How often timers are looked at.
const TICK: u64 = 500;
/// How long a shutdown waits for queued frames to be written and links to end,
const FLUSH: u64 = 200;
/// and for connections to close after that.
const CLOSE: u64 = 250;

/// An event on its way to the owner.
enum Waiting {
    Event(Event),
    /// `Connected`, after which frames of the link may follow.
    Connected {
        peer: PeerId,
        link: LinkId,
        event: Event,
    },
}

/// What is remembered of a connection.
struct Conn {
    origin: Origin,
    /// Where we dialled.
    dialled: Option<Multiaddr>,
}

/// Nodes to start from, and when to try them next.
struct Bootstrap {
    entries: Vec<(Multiaddr, Option<PeerId>)>,
    due: Mono,
    pause: u64,
}

pub(crate) struct Task {
    environment: Arc<dyn Environment>,
    swarm: Swarm<Compact<Behaviour>>,
    policy: Arc<Policy>,
    limits: Limits,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    status: watch::Sender<Status>,
    waiting: VecDeque<Waiting>,
    conns: HashMap<ConnectionId, Conn>,
    reach: Reach,
    dials: Dials,
    book: Book,
    keeper: Keeper,
    bootstrap: Bootstrap,
    directory_ready: bool,
    /// Listen addresses or reachability changed since they were told.
    reach_changed: bool,
    told: Option<(Vec<String>, Vec<Address>)>,
    started: Mono,
    queued: Links,
}

impl Task {
    #[expect(clippy::too_many_arguments, reason = "called once, from the one place that has all of it")]
    pub(crate) fn new(
        environment: Arc<dyn Environment>,
        swarm: Swarm<Compact<Behaviour>>,
        config: Config,
        policy: Arc<Policy>,
        listeners: Vec<Listener>,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<Event>,
        status: watch::Sender<Status>,
        queued: Links,
    ) -> Self {
        let reach = Reach::new(&config, listeners);
        let started = environment.mono();
        let mut task = Self {
            swarm,
            policy,
            limits: config.limits,
            commands,
            events,
            status,
            waiting: VecDeque::new(),
            conns: HashMap::new(),
            reach,
            dials: Dials::default(),
            book: Book::default(),
            keeper: Keeper::new(Arc::clone(&environment)),
            bootstrap: Bootstrap { entries: Vec::new(), due: started, pause: dialing::BOOTSTRAP_MIN },
            directory_ready: false,
            reach_changed: true,
            told: None,
            started,
            queued,
            environment,
        };
        for address in config.external {
            task.swarm.add_external_address(address);
        }
        for (address, peer) in config.bootstrap {
            task.add_bootstrap(address, peer);
        }
        task
    }

    /// Runs until it is told to stop, or nobody is left to tell.
    pub(crate) async fn run(mut self) {
        let mut tick = self.environment.sleep(TICK);
        let events = self.events.clone();
        let done = loop {
            self.settle();
            tokio::select! {
                permit = events.reserve(), if !self.waiting.is_empty() => {
                    let Ok(permit) = permit else { break None };
                    if let Some(waiting) = self.waiting.pop_front() {
                        let (event, start) = split(waiting);
                        permit.send(event);
                        self.delivered(start);
                    }
                    self.deliver_more();
                }
                command = self.commands.recv(), if self.waiting.len() < MAX_WAITING_COMMANDS => {
                    match self.handle_commands(command) {
                        Flow::Continue => {}
                        Flow::Stop(done) => break done,
                    }
                }
                event = self.swarm.select_next_some(), if self.waiting.len() < MAX_WAITING => {
                    self.on_swarm_event(event);
                }
                () = &mut tick => {
                    tick = self.environment.sleep(TICK);
                    if self.events.is_closed() {
                        break None;
                    }
                    self.tick();
                }
            }
        };
        drop(events);
        Box::pin(self.shut_down(done)).await;
    }

    fn delivered(&mut self, start: Option<(PeerId, LinkId)>) {
        if let Some((peer, link)) = start {
            self.swarm.behaviour_mut().link.start(peer, link);
        }
    }

    fn deliver_more(&mut self) {
        while !self.waiting.is_empty() {
            let Ok(permit) = self.events.try_reserve() else { return };
            let Some(waiting) = self.waiting.pop_front() else { return };
            let (event, start) = split(waiting);
            permit.send(event);
            self.delivered(start);
        }
    }

    fn tell(&mut self, event: Event) {
        self.waiting.push_back(Waiting::Event(event));
    }

    fn handle_commands(&mut self, first: Option<Command>) -> Flow {
        let mut next = first;
        for _ in 0..COMMANDS_PER_TURN {
            match next {
                // Every handle was dropped.
                None => return Flow::Stop(None),
                Some(Command::Shutdown(done)) => return Flow::Stop(Some(done)),
                Some(command) => self.handle_command(command),
            }
            match self.commands.try_recv() {
                Ok(command) => next = Some(command),
                Err(_) => break,
            }
        }
        Flow::Continue
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Dial { peer, addresses } => self.dial(peer, addresses),
            Command::Refuse(device) => self.with_peer(device, |task, peer| {
                task.swarm.behaviour_mut().gatekeeper.refuse(peer);
            }),
            Command::Admit(device) => self.with_peer(device, |task, peer| {
                task.swarm.behaviour_mut().gatekeeper.admit(&peer);
            }),
            Command::Prefer { peer, preferred } => self.with_peer(peer, |task, peer| {
                task.policy.prefer(peer, preferred);
                let limits = &mut task.swarm.behaviour_mut().limits;
                if preferred {
                    limits.bypass_peer_id(&peer);
                } else {
                    limits.remove_peer_id(&peer);
                }
            }),
            Command::Disconnect(device) => self.with_peer(device, |task, peer| {
                task.swarm.behaviour_mut().gatekeeper.disconnect(peer);
            }),
            Command::Provide { key, record, ttl } => {
                self.keeper.provide(&mut self.swarm.behaviour_mut().kad, key, record, ttl);
            }
            Command::Withdraw(key) => self.keeper.withdraw(&mut self.swarm.behaviour_mut().kad, &key),
            Command::Find(key) => self.keeper.find(&mut self.swarm.behaviour_mut().kad, key),
            Command::AddBootstrap { address, peer } => {
                self.add_bootstrap(address, peer);
                self.bootstrap.due = self.environment.mono();
                self.bootstrap_if_due();
            }
            // Taken by the caller.
            Command::Shutdown(_) => {}
        }
    }

    fn with_peer(&mut self, device: DeviceId, act: impl FnOnce(&mut Self, PeerId)) {
        match device.peer_id() {
            Some(peer) => act(self, peer),
            None => debug!(%device, "not an Ed25519 key"),
        }
    }

    /// Turns what the parts have come to since the last turn into events.
    fn settle(&mut self) {
        for outcome in self.keeper.take_outcomes() {
            self.tell(match outcome {
                Outcome::Found { key, record } => Event::Found { key, record },
                Outcome::FindEnded { key } => Event::FindEnded { key },
                Outcome::Provided { key, stored } => Event::Provided { key, stored },
            });
        }
        if self.reach_changed {
            self.reach_changed = false;
            self.apply_reach();
        }
    }

    fn apply_reach(&mut self) {
        self.policy.set_scopes(self.reach.dialled());
        let announced = self.reach.announced();
        let old: Vec<Multiaddr> = self.swarm.external_addresses().cloned().collect();
        for address in old.iter().filter(|address| !announced.contains(address)) {
            self.swarm.remove_external_address(address);
        }
        for address in announced.into_iter().filter(|address| !old.contains(address)) {
            self.swarm.add_external_address(address);
        }
        let serves = self.reach.serves();
        let mode = if serves { kad::Mode::Server } else { kad::Mode::Client };
        let behaviour = self.swarm.behaviour_mut();
        if behaviour.kad.mode() != mode {
            debug!(?mode, "directory mode");
            behaviour.kad.set_mode(Some(mode));
        }
        if serves {
            behaviour.serve_autonat(&self.environment);
        }
        // Partial lists would make contacts learn addresses one by one.
        let waited = self.environment.mono().since(self.started) >= TICK;
        if !self.reach.is_complete() && !waited {
            return;
        }
        let listening: Vec<String> = self.reach.bound().map(Multiaddr::to_string).collect();
        let addresses = self.reach.addresses();
        let told = self.told.replace((listening.clone(), addresses.clone()));
        let first = told.is_none();
        let (old_listening, old_addresses) = told.unwrap_or_default();
        if first || listening != old_listening {
            info!(addresses = ?listening, "listening");
            self.tell(Event::Listening(listening));
        }
        if first || addresses != old_addresses {
            self.tell(Event::Addresses(addresses));
        }
        self.bootstrap_if_due();
        self.publish_status();
    }

    fn tick(&mut self) {
        let behaviour = self.swarm.behaviour_mut();
        behaviour.link.tick();
        behaviour.kad.store_mut().sweep();
        self.keeper.tick(&mut behaviour.kad);
        self.tick_dials();
        self.check_directory();
        self.bootstrap_if_due();
        if self.told.is_none() {
            self.reach_changed = true;
        }
        self.publish_status();
    }

    fn directory_peers(&mut self) -> usize {
        self.swarm.behaviour_mut().kad.kbuckets().map(|bucket| bucket.num_entries()).sum()
    }

    /// Notices when the directory comes into reach.
    fn check_directory(&mut self) {
        let reachable = self.directory_peers() > 0;
        if reachable && !self.directory_ready {
            self.tell(Event::DirectoryReady);
            self.keeper.ready(&mut self.swarm.behaviour_mut().kad);
        }
        self.directory_ready = reachable;
    }

    fn publish_status(&mut self) {
        let directory_peers = self.directory_peers();
        let behaviour = self.swarm.behaviour_mut();
        let links = behaviour.link.count();
        let directory_server = behaviour.kad.mode() == kad::Mode::Server;
        let directory_records = behaviour.kad.store_mut().len();
        let (listening, addresses) = self.told.clone().unwrap_or_default();
        let status = Status {
            peer_id: self.swarm.local_peer_id().to_string(),
            listening,
            listening_everywhere: self.told.is_some() && self.reach.is_complete(),
            listen_again: self.reach.listen_again(),
            external: addresses.iter().map(address::to_text).collect(),
            peers: self.swarm.network_info().num_peers(),
            links,
            reachability: self.reach.reachability(),
            directory_server,
            directory_peers,
            directory_records,
            queued_bytes: self.queued.bytes(),
            bytes_in: self.policy.meter.received(),
            bytes_out: self.policy.meter.sent(),
            counters: self.policy.counters(),
        };
        self.status.send_if_modified(|old| {
            let changed = *old != status;
            *old = status;
            changed
        });
    }

    async fn shut_down(mut self, done: Option<oneshot::Sender<()>>) {
        self.commands.close();
        let mut timer = self.environment.sleep(FLUSH);
        self.swarm.behaviour_mut().link.finish();
        while self.swarm.behaviour().link.count() > 0 && self.poll_until(&mut timer).await {}
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            // An error means that it is gone already.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let mut timer = self.environment.sleep(CLOSE);
        while self.swarm.network_info().num_peers() > 0 && self.poll_until(&mut timer).await {}
        drop(self);
        if let Some(done) = done {
            // Nobody waits any more: fine.
            let _ = done.send(());
        }
    }

    /// Lets the Swarm work for one event or a few milliseconds; `false` once the timer has run out.
    async fn poll_until(&mut self, timer: &mut BoxFuture<'static, ()>) -> bool {
        let pause = self.environment.sleep(5);
        tokio::select! {
            biased;
            () = timer => false,
            _ = self.swarm.select_next_some() => true,
            () = pause => true,
        }
    }
}

enum Flow {
    Continue,
    Stop(Option<oneshot::Sender<()>>),
}

fn split(waiting: Waiting) -> (Event, Option<(PeerId, LinkId)>) {
    match waiting {
        Waiting::Event(event) => (event, None),
        Waiting::Connected { peer, link, event } => (event, Some((peer, link))),
    }
}
