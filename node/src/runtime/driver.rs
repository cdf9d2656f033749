//! The task that owns the Engine: inputs in, outputs in order, what they rest on first on disk.
//!
//! While commits are on their way to the disk, inputs go on being taken and the next commit forms, so that one fsync
//! pays for many messages. Nothing here waits for a peer: a link that takes nothing is the network's to close.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use kith_network::{Answered, DepositRequest, Deposits, Event, Network};
use kith_protocol::engine::{CommandId, Output};
use kith_protocol::record::{Change, Key, Row};
use kith_protocol::{Engine, Input, Mono};
use kith_store::{CommitError, Store};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::links::Links;
use super::live::{Call, Live, LiveSender};
use super::orders::{Order, Orders};
use super::presence::Presence;
use super::queue::Queue;
use crate::api::Error;
use crate::host::{Host, now};

/// Inputs handled in one turn before their outputs are committed.
const TURN: usize = 64;

/// Inputs behind a commit up to which it may be written in this thread: with more there is enough to do while the disk
/// works. A receipt and an acknowledgement come together.
const FEW: usize = 2;

/// What outlives an Engine.
pub(super) struct Ports {
    pub(super) host: Arc<dyn Host>,
    pub(super) network: Network,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) calls: mpsc::Receiver<Call>,
    pub(super) live: LiveSender,
    pub(super) presence: Arc<Presence>,
    pub(super) orders: Orders,
    pub(super) links: Links,
    pub(super) deposits: Deposits,
    pub(super) answers: mpsc::Receiver<Answered>,
    pub(super) stop: CancellationToken,
}

impl Ports {
    /// Nothing waits to be taken.
    fn is_quiet(&self) -> bool {
        self.events.is_empty() && self.calls.is_empty() && self.answers.is_empty()
    }
}

/// Why the Engine's life is over.
#[derive(Debug)]
pub(super) enum Ended {
    /// It was told to stop; everything it wanted written is on disk.
    Stopped,
    /// The network's task is gone.
    NetworkGone,
    /// A commit was refused: what the Engine believes is not what is on disk.
    Commit(CommitError),
}

/// One Engine from its opening to its end.
pub(super) struct Driver {
    engine: Engine,
    store: Store,
    queue: Queue,
    pending: BTreeMap<CommandId, oneshot::Sender<Result<kith_protocol::engine::Answer, Error>>>,
    next_command: u64,
    timer: Option<(Mono, BoxFuture<'static, ()>)>,
    /// Inputs since outputs were last handed to the store.
    taken: usize,
    /// Deposits that could not even be begun.
    not_begun: Vec<Answered>,
}

enum Turn {
    Persisted(Result<(u64, Vec<Output>), CommitError>),
    Event(Option<Event>),
    Call(Option<Call>),
    Answer(Option<Answered>),
    Timeout,
    Room,
    Stop,
}

impl Driver {
    pub(super) fn new(engine: Engine, store: Store) -> Self {
        Self {
            engine,
            store,
            queue: Queue::default(),
            pending: BTreeMap::new(),
            next_command: 0,
            timer: None,
            taken: 0,
            not_begun: Vec::new(),
        }
    }

    /// The store, once the Engine's life is over.
    pub(super) fn into_store(self) -> Store {
        self.store
    }

    /// Drives the Engine until its life is over. Commands that were not answered by then are answered with an error.
    pub(super) async fn run(&mut self, ports: &mut Ports) -> Ended {
        for event in ports.links.replay() {
            self.take_event(event, ports);
        }
        let ended = self.turns(ports).await;
        let error = match &ended {
            // known to have changed nothing
            Ended::Commit(error) if error.is_space() => Error::Store { message: error.to_string() },
            Ended::Commit(_) => Error::Interrupted,
            Ended::Stopped | Ended::NetworkGone => Error::Stopped,
        };
        for (_, reply) in std::mem::take(&mut self.pending) {
            // whoever asked may be gone
            let _ = reply.send(Err(error.clone()));
        }
        ended
    }

    async fn turns(&mut self, ports: &mut Ports) -> Ended {
        let mut stopping = false;
        loop {
            self.drain(ports);
            for answered in std::mem::take(&mut self.not_begun) {
                self.take_answer(answered, ports);
            }
            if stopping && self.queue.is_empty() {
                return Ended::Stopped;
            }
            match self.turn(ports, stopping).await {
                Turn::Persisted(Ok((n, behind))) => {
                    // others wait for these; what follows from them comes behind them either way
                    for output in behind {
                        self.release(output, ports);
                    }
                    self.engine.persisted(n);
                }
                Turn::Persisted(Err(error)) => return Ended::Commit(error),
                Turn::Event(Some(event)) => self.take_events(event, ports),
                Turn::Event(None) => return Ended::NetworkGone,
                Turn::Call(Some(call)) => self.take_calls(call, ports),
                Turn::Answer(Some(answered)) => self.take_answers(answered, ports),
                Turn::Answer(None) => {}
                Turn::Call(None) | Turn::Stop => stopping = true,
                Turn::Timeout => {
                    self.timer = None;
                    self.engine.handle_timeout(now(ports.host.as_ref()));
                }
                Turn::Room => ports.orders.flush(),
            }
        }
    }

    /// Waits for the next thing to do.
    async fn turn(&mut self, ports: &mut Ports, stopping: bool) -> Turn {
        let open = !stopping && !self.engine.is_full() && !self.queue.is_full() && !ports.orders.is_full();
        if open {
            self.set_timer(ports.host.as_ref());
        }
        let timer = self.timer.as_mut().map(|(_, sleep)| sleep);
        let timeout = async {
            match timer {
                Some(sleep) => sleep.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = ports.stop.cancelled(), if !stopping => Turn::Stop,
            result = self.queue.persisted() => Turn::Persisted(result),
            () = timeout, if open => Turn::Timeout,
            () = ports.orders.room() => Turn::Room,
            // between people and the network neither may starve the other
            turn = async {
                tokio::select! {
                    event = ports.events.recv() => Turn::Event(event),
                    call = ports.calls.recv() => Turn::Call(call),
                    answered = ports.answers.recv() => Turn::Answer(answered),
                }
            }, if open => turn,
        }
    }

    fn set_timer(&mut self, host: &dyn Host) {
        match self.engine.poll_timeout() {
            None => self.timer = None,
            Some((at, _)) if self.timer.as_ref().is_some_and(|(set, _)| *set == at) => {}
            Some((at, reason)) => {
                let millis = at.since(host.mono());
                tracing::trace!(reason, millis, "next timeout");
                self.timer = Some((at, host.sleep(millis)));
            }
        }
    }

    fn take_events(&mut self, event: Event, ports: &mut Ports) {
        let mut next = Some(event);
        for _ in 0..TURN {
            let Some(event) = next.take() else { return };
            ports.links.note(&event);
            self.take_event(event, ports);
            if self.engine.is_full() || self.queue.is_formed() {
                return;
            }
            next = ports.events.try_recv().ok();
        }
        if let Some(event) = next {
            ports.links.note(&event);
            self.take_event(event, ports);
        }
    }

    fn take_event(&mut self, event: Event, ports: &mut Ports) {
        let input = match event {
            Event::Connected { peer, link, address, .. } => Input::Connected { peer, link, address },
            Event::Disconnected { peer, link } => Input::Disconnected { peer, link },
            Event::Frame { peer, link, bytes } => {
                if !ports.links.is_current(link) {
                    return; // of a link that came up before this Engine did
                }
                Input::Frame { peer, link, bytes }
            }
            Event::DialFailed { peer } => Input::DialFailed { peer },
            Event::Discovered { peer, addresses } => Input::Discovered { peer, addresses },
            Event::Addresses(addresses) => Input::Addresses(addresses),
            Event::Found { key, record } => Input::Found { key, record },
            Event::FindEnded { key } => Input::FindEnded { key },
            Event::Provided { key, stored } => Input::Provided { key, stored },
            Event::DirectoryReady => Input::DirectoryReady,
            _ => return,
        };
        self.tell(input, ports);
    }

    fn tell(&mut self, input: Input, ports: &mut Ports) {
        ports.host.hear(&input);
        self.taken += 1;
        self.engine.handle_input(input, now(ports.host.as_ref()));
        self.drain_outputs(ports);
    }

    fn take_answers(&mut self, answered: Answered, ports: &mut Ports) {
        let mut next = Some(answered);
        for _ in 0..TURN {
            let Some(answered) = next.take() else { return };
            self.take_answer(answered, ports);
            if self.engine.is_full() || self.queue.is_formed() {
                return;
            }
            next = ports.answers.try_recv().ok();
        }
        if let Some(answered) = next {
            self.take_answer(answered, ports);
        }
    }

    fn take_answer(&mut self, answered: Answered, ports: &mut Ports) {
        let Answered { id, result } = answered;
        self.tell(Input::Deposited { id, result }, ports);
    }

    fn take_calls(&mut self, call: Call, ports: &mut Ports) {
        let mut next = Some(call);
        for _ in 0..TURN {
            let Some(call) = next.take() else { return };
            self.take_call(call, ports);
            if self.engine.is_full() || self.queue.is_formed() {
                return;
            }
            next = ports.calls.try_recv().ok();
        }
        if let Some(call) = next {
            self.take_call(call, ports);
        }
    }

    fn take_call(&mut self, call: Call, ports: &mut Ports) {
        let id = CommandId(self.next_command);
        self.next_command += 1;
        self.pending.insert(id, call.reply);
        self.tell(Input::Command { id, command: call.command }, ports);
    }

    /// Reads outputs ahead and hands what they want written to the store as one batch.
    fn drain(&mut self, ports: &mut Ports) {
        loop {
            self.drain_outputs(ports);
            let formed = self.queue.is_formed();
            let nothing_else = self.taken <= FEW && self.queue.is_light() && ports.is_quiet();
            self.taken = 0;
            let store = &self.store;
            self.queue.commit(|changes| match nothing_else {
                true => store.commit_here(changes),
                false => store.commit(changes),
            });
            if !formed || self.queue.is_full() {
                return;
            }
        }
    }

    fn drain_outputs(&mut self, ports: &mut Ports) {
        while !self.queue.is_formed() && !self.queue.is_full() {
            let Some(output) = self.engine.poll_output() else { return };
            match output {
                // these promise nothing and may overtake
                Output::Dial { .. } | Output::Find { .. } | Output::Transient(_) => {
                    self.release(output, ports);
                }
                output => {
                    if let Output::Persist { changes, .. } = &output {
                        ports.host.observe(&output);
                        prefer_contacts(changes, &mut ports.orders);
                        announce_relays(changes, &mut ports.orders);
                    }
                    if let Some(output) = self.queue.push(output) {
                        self.release(output, ports);
                    }
                }
            }
        }
    }

    /// Lets one output take effect.
    fn release(&mut self, output: Output, ports: &mut Ports) {
        ports.host.observe(&output);
        match output {
            // taken by the queue; it takes effect on disk
            Output::Persist { .. } => {}
            Output::Send { peer, link, frame } => {
                if let Err(error) = ports.network.send(link, frame) {
                    // the link's end comes, or came, as an event of its own
                    tracing::debug!(peer = %peer.short(), %error, "frame dropped");
                }
            }
            Output::Deposit { id, relay, address, pseudonym, request } => {
                let request = DepositRequest { id, relay, address, pseudonym, frame: request };
                if let Err(failure) = ports.deposits.send(request) {
                    self.not_begun.push(Answered { id, result: Err(failure) });
                }
            }
            Output::Answer { id, result } => {
                if let Some(reply) = self.pending.remove(&id) {
                    // whoever asked may be gone
                    let _ = reply.send(result.map_err(Error::from));
                }
            }
            Output::Event(event) => {
                // nobody may be listening
                let _ = ports.live.send(Live::Stored(Arc::new(event)));
            }
            Output::Transient(transient) => {
                ports.presence.note(&transient);
                let _ = ports.live.send(Live::Transient(transient));
            }
            Output::Dial { peer, addresses } => ports.orders.push(Order::Dial { peer, addresses }),
            Output::Refuse { peer } => ports.orders.push(Order::Refuse(peer)),
            Output::Admit { peer } => ports.orders.push(Order::Admit(peer)),
            Output::Provide { key, record, ttl } => ports.orders.push(Order::Provide { key, record, ttl }),
            Output::Withdraw { key } => ports.orders.push(Order::Withdraw(key)),
            Output::Find { key } => ports.orders.push(Order::Find(key)),
        }
    }
}

/// Devices of contacts pass the limits that hold for strangers.
fn prefer_contacts(changes: &[Change], orders: &mut Orders) {
    let mut seen = BTreeSet::new();
    for change in changes.iter().rev() {
        let (device, preferred) = match change {
            Change::Put(Row::Owner(owner)) => (owner.device, true),
            Change::Delete(Key::Owner(device)) => (*device, false),
            _ => continue,
        };
        // the last word about a device counts
        if seen.insert(device) {
            orders.push(Order::Prefer(device, preferred));
        }
    }
}

/// Our own relays may be dialled whatever their scope, pass the limits for strangers, and know the directory.
fn announce_relays(changes: &[Change], orders: &mut Orders) {
    for change in changes {
        match change {
            Change::Put(Row::Relay(relay)) => orders.announce(&relay.relay, &relay.address),
            Change::Delete(Key::Relay(relay)) => orders.push(Order::Prefer(*relay, false)),
            _ => {}
        }
    }
}
