//! The one task of a relay. It takes what arrives, decides it in groups, and answers once a group is durable.

mod group;
mod links;
mod reads;
mod upkeep;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use kith_network::{Environment, Event, Network};
use kith_protocol::engine::LinkId;
use kith_protocol::mailbox::{Load, Mailbox};
use kith_protocol::wire::Frame;
use kith_protocol::wire::relay::{AccessMode, Answer, Refusal, RefusalCode, RelayReply};
use kith_protocol::{MailboxId, Mono, Now};
use kith_store::mailbox::{MailboxStore, MailboxStoreError};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, info, warn};

use crate::counters::Counters;
use crate::order::{Order, OrderError, Status};
use crate::rate::RateLimits;
use crate::relay::Settings;
use group::Pending;
use links::{Links, Taken};

/// Frames that are no frames, after which a link is closed.
const MALFORMED: u32 = 8;
/// How often load and time are looked at.
const TICK: u64 = 1_000;
/// How often those are looked at who do not take what was sent.
const UNREAD: u64 = 20;
/// How long a shutdown goes on answering what was asked before it.
const DRAIN: u64 = 2_000;
/// Least time after which devices come back after a shutdown,
const RECONNECT_MIN: u64 = 1_000;
/// and how much longer for each link: a core takes some two milliseconds for one that comes back.
const RECONNECT_PER_LINK: u64 = 5;

pub(crate) struct Driver {
    environment: Arc<dyn Environment>,
    mailbox: Mailbox,
    store: Arc<dyn MailboxStore>,
    network: Network,
    counters: Arc<Counters>,
    links: Links,
    rates: RateLimits,
    /// To be decided before what waits at the links: orders of the operator, what did not fit the group before, and what
    /// has to be decided again.
    carried: VecDeque<Pending>,
    queue_bytes: usize,
    reserve_bytes: u64,
    started: Mono,
    upkeep_due: Mono,
    tick_due: Mono,
    turns: u64,
    store_failed: bool,
    /// As it was told last.
    clock_in_doubt: bool,
    /// Mailboxes in which another process has stored something.
    arrived: BTreeSet<MailboxId>,
    /// Mailboxes in which one may have, still to be looked at in this round.
    unseen: Vec<MailboxId>,
    /// Whether the store tells what others do.
    listening: bool,
    stopping: Option<oneshot::Sender<()>>,
}

impl Driver {
    pub(crate) fn new(
        environment: Arc<dyn Environment>,
        mailbox: Mailbox,
        store: Arc<dyn MailboxStore>,
        network: Network,
        counters: Arc<Counters>,
        settings: &Settings,
    ) -> Self {
        let started = environment.mono();
        let listening = store.is_shared();
        Self {
            environment,
            mailbox,
            store,
            network,
            counters,
            links: Links::default(),
            rates: RateLimits::new(settings.rates),
            carried: VecDeque::new(),
            queue_bytes: settings.queue_bytes.max(1),
            reserve_bytes: settings.reserve_bytes,
            started,
            upkeep_due: started,
            tick_due: started,
            turns: 0,
            store_failed: false,
            clock_in_doubt: false,
            arrived: BTreeSet::new(),
            unseen: Vec::new(),
            listening,
            stopping: None,
        }
    }

    fn now(&self) -> Now {
        Now { wall: self.environment.wall(), mono: self.environment.mono() }
    }

    pub(crate) async fn run(mut self, mut events: mpsc::Receiver<Event>, mut orders: mpsc::Receiver<Order>) {
        let mut stop_at = None;
        loop {
            self.take_all(&mut events, &mut orders).await;
            let now = self.now();
            if now.mono >= self.tick_due {
                self.tick(now).await;
            }
            if !self.arrived.is_empty() {
                let arrived = std::mem::take(&mut self.arrived);
                self.look_at(arrived).await;
            }
            self.end_waits(now.mono);
            if self.stopping.is_some() {
                let until = *stop_at.get_or_insert(now.mono.plus(DRAIN));
                if !self.has_work() || now.mono >= until {
                    break;
                }
            }
            // upkeep has its turn also while there is always something to do
            if self.has_work() && self.turn(&mut events).await {
                if self.turns.is_multiple_of(16) {
                    self.upkeep(now).await;
                }
            } else if now.mono >= self.upkeep_due {
                self.upkeep(now).await;
            } else if !self.wait(&mut events, &mut orders, now.mono).await {
                break;
            }
        }
        self.end().await;
    }

    fn has_work(&self) -> bool {
        self.links.has_ready() || !self.carried.is_empty()
    }

    /// Waits until something happens; `false` if nothing more will.
    async fn wait(
        &mut self,
        events: &mut mpsc::Receiver<Event>,
        orders: &mut mpsc::Receiver<Order>,
        now: Mono,
    ) -> bool {
        let deadline = self.mailbox.waits().next_deadline();
        let due = [Some(self.tick_due), Some(self.upkeep_due), deadline].into_iter().flatten().min();
        let pause = due.map_or(TICK, |due| due.since(now)).max(1);
        // what is still to do waits for peers that do not take what was sent
        let pause = if self.has_work() { pause.min(UNREAD) } else { pause };
        let sleep = self.environment.sleep(pause);
        let store = Arc::clone(&self.store);
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => self.event(event),
                None => return false,
            },
            order = orders.recv() => match order {
                Some(order) => self.order(order).await,
                None => return false,
            },
            arrived = store.arrivals(), if self.listening => self.told(arrived),
            () = sleep => {}
        }
        true
    }

    /// Takes what is there without waiting.
    async fn take_all(&mut self, events: &mut mpsc::Receiver<Event>, orders: &mut mpsc::Receiver<Order>) {
        while self.links.queued_bytes() < self.queue_bytes
            && let Ok(event) = events.try_recv()
        {
            self.event(event);
        }
        while let Ok(order) = orders.try_recv() {
            self.order(order).await;
        }
        while self.listening
            && let Some(arrived) = self.store.arrivals().now_or_never()
        {
            self.told(arrived);
        }
    }

    fn told(&mut self, arrived: Result<Vec<MailboxId>, MailboxStoreError>) {
        match arrived {
            Ok(mailboxes) => self.arrived.extend(mailboxes),
            // closed: nothing more will be told
            Err(_) => self.listening = false,
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Connected { peer, link, origin, .. } => {
                self.counters.add(|c| &c.links_opened, 1);
                let now = self.now();
                let mut nonce = [0; 32];
                self.environment.rng().fill_bytes(&mut nonce);
                let hello = self.mailbox.connected(link, peer, nonce, now);
                self.links.insert(link, peer, origin, self.rates.connected(origin, now.mono));
                self.send(link, hello);
            }
            Event::Disconnected { link, .. } => {
                self.mailbox.disconnected(link);
                if let Some(origin) = self.links.remove(link) {
                    self.rates.disconnected(origin);
                }
            }
            Event::Frame { link, bytes, .. } => self.frame(link, &bytes),
            Event::Listening(addresses) => info!(count = addresses.len(), "listening"),
            _ => {}
        }
    }

    fn frame(&mut self, link: LinkId, bytes: &Bytes) {
        match Frame::decode(bytes) {
            Ok(Frame::RelayRequest(request)) => {
                self.counters.add(|c| &c.requests, 1);
                let (number, now) = (request.id, self.environment.mono());
                match self.links.take(link, request, bytes.len(), &mut self.rates, now) {
                    Taken::Queued | Taken::Gone => {}
                    Taken::TooFast => {
                        self.counters.add(|c| &c.rate_limited, 1);
                        self.refuse(link, number, Refusal::after(RefusalCode::Busy, 1));
                    }
                    Taken::TooMany => self.refuse(link, number, Refusal::after(RefusalCode::Busy, 1)),
                }
            }
            // what devices say to each other is not for a relay
            Ok(_) => {}
            Err(error) => {
                self.counters.add(|c| &c.malformed, 1);
                debug!(link = link.0, "not a frame: {error}");
                self.refuse(link, 0, Refusal::new(RefusalCode::Malformed));
                if self.links.malformed(link) >= MALFORMED
                    && let Some(peer) = self.links.peer(link)
                {
                    let network = self.network.clone();
                    let close = async move {
                        // a network that stopped has closed it already
                        let _ = network.disconnect(peer).await;
                    };
                    self.environment.spawn("disconnect", Box::pin(close));
                }
            }
        }
    }

    fn refuse(&mut self, link: LinkId, request: u64, refusal: Refusal) {
        self.reply(link, RelayReply { id: request, answer: Answer::Refused(refusal) });
    }

    fn reply(&mut self, link: LinkId, reply: RelayReply) {
        match &reply.answer {
            Answer::Refused(refusal) => self.counters.refused(refusal.code),
            Answer::Envelopes { envelopes, .. } => {
                let bytes: usize = envelopes.iter().map(|stored| stored.envelope.len()).sum();
                self.counters.add(|c| &c.fetched, envelopes.len() as u64);
                self.counters.add(|c| &c.fetched_bytes, bytes as u64);
            }
            _ => {}
        }
        self.send(link, Frame::RelayReply(reply).encode());
    }

    fn send(&self, link: LinkId, frame: Bytes) {
        if let Err(error) = self.network.send(link, frame) {
            // gone, or closed because it takes nothing: its end will be told
            debug!(link = link.0, "not sent: {error}");
        }
    }

    fn end_waits(&mut self, now: Mono) {
        while let Some(wait) = self.mailbox.waits().expired(now) {
            self.reply(wait.link, Mailbox::nothing(&wait));
        }
    }

    async fn order(&mut self, order: Order) {
        match order {
            Order::Write(kind, reply) => self.carried.push_back(Pending::of_operator(kind, reply)),
            Order::Read(read, reply) => {
                let found = self.store.read(vec![read]).await;
                let found = found.map(|mut found| found.pop()).map_err(OrderError::from);
                // whoever asked may be gone
                let _ = reply.send(found.and_then(|found| found.ok_or(OrderError::Busy)));
            }
            Order::Status(reply) => {
                let status = self.status().await;
                let _ = reply.send(Ok(status));
            }
            Order::Settings(policy, rates) => {
                self.mailbox.set_policy(*policy);
                self.rates.set(rates);
                info!("new settings are in force");
            }
            Order::ConfirmClock => {
                let now = self.now();
                self.mailbox.confirm_clock(now);
                self.upkeep_due = now.mono;
                info!("the operator has confirmed the clock");
            }
            Order::Shutdown(done) => {
                self.say_goodbye();
                self.stopping = Some(done);
            }
        }
    }

    /// Learns what other relays on the same store have done, and whether it can be reached at all.
    async fn look_around(&mut self) {
        match self.store.state().await {
            Ok(state) => self.mailbox.set_totals(state.totals),
            Err(error) => return self.store_failure(&error),
        }
        self.look_for_arrivals().await;
    }

    async fn status(&mut self) -> Status {
        let now = self.now();
        let network = self.network.status();
        let stats = match self.store.stats().await {
            Ok(stats) => stats,
            Err(error) => {
                warn!("{error}");
                Default::default()
            }
        };
        let totals = self.mailbox.totals();
        let named = |address: &String| format!("{address}/p2p/{}", network.peer_id);
        Status {
            addresses: addresses(&network).iter().map(named).collect(),
            peer_id: network.peer_id.clone(),
            mode: mode_name(self.mailbox.policy().mode).into(),
            mailboxes: totals.mailboxes,
            envelopes: totals.envelopes,
            bytes: totals.bytes,
            tombstones: totals.tombstones,
            rights: totals.rights,
            connections: network.peers,
            links: self.mailbox.links(),
            waits: self.mailbox.waits().len(),
            queued: self.links.queued(),
            load: load_name(self.mailbox.load()).into(),
            clock_in_doubt: self.mailbox.time(now).in_doubt,
            uptime_s: now.mono.since(self.started) / 1_000,
            store: self.store.name().into(),
            store_bytes: stats.bytes,
            free_bytes: stats.free,
            // whoever runs it knows
            certificate_expires: None,
            version: env!("CARGO_PKG_VERSION").into(),
            counters: self.counters.snapshot(),
        }
    }

    /// Looks how much the relay can still take.
    async fn tick(&mut self, now: Now) {
        self.tick_due = now.mono.plus(TICK);
        let in_doubt = self.mailbox.time(now).in_doubt;
        if in_doubt && !self.clock_in_doubt {
            warn!(
                "the clock has jumped by more than a day against what this relay remembers: nothing expires for now. If the \
                 time is right, `kith-relay confirm-clock`; else set it right"
            );
        } else if self.clock_in_doubt && !in_doubt {
            info!("the clock is believed again");
        }
        self.clock_in_doubt = in_doubt;
        if self.store.is_shared() {
            self.look_around().await;
        }
        let free = self.store.stats().await.ok().and_then(|stats| stats.free);
        let of_disk = match free {
            _ if self.store_failed => Load::Critical,
            Some(free) if free < self.reserve_bytes => Load::Critical,
            Some(free) if free < self.reserve_bytes.saturating_mul(3) / 2 => Load::Heavy,
            Some(free) if free < self.reserve_bytes.saturating_mul(2) => Load::High,
            _ => Load::Normal,
        };
        let queued = self.links.queued_bytes().saturating_mul(100) / self.queue_bytes;
        let of_queue = match queued {
            0..25 => Load::Normal,
            25..50 => Load::High,
            50..80 => Load::Heavy,
            _ => Load::Critical,
        };
        let load = of_disk.max(of_queue);
        if load != self.mailbox.load() {
            warn!(load = load_name(load), ?free, queued, "the load has changed");
            self.mailbox.set_load(load);
        }
        // after a failure somebody has to find out whether the store works again
        if self.store_failed {
            self.upkeep_due = now.mono;
        }
    }

    /// Tells every device when to come back, so that they do not come all at once.
    fn say_goodbye(&mut self) {
        let spread = self.links.len() as u64 * RECONNECT_PER_LINK + RECONNECT_MIN;
        let mut rng = self.environment.rng();
        for link in self.links.all() {
            let mut random = [0; 8];
            rng.fill_bytes(&mut random);
            let reconnect_after = RECONNECT_MIN + u64::from_le_bytes(random) % spread;
            self.send(
                link,
                Frame::RelayReply(RelayReply { id: 0, answer: Answer::Closing { reconnect_after } }).encode(),
            );
        }
    }

    async fn end(mut self) {
        self.network.shutdown().await;
        if let Err(error) = self.store.close().await {
            warn!("the store did not close in order: {error}");
        }
        for mut pending in self.carried.drain(..) {
            pending.tell(Err(OrderError::Stopping));
        }
        if let Some(done) = self.stopping.take() {
            // nobody waits any more: fine
            let _ = done.send(());
        }
    }
}

/// Those it is told to others under, and those it listens on otherwise.
fn addresses(status: &kith_network::Status) -> Vec<String> {
    let mut addresses = status.external.clone();
    for address in &status.listening {
        if !addresses.contains(address) {
            addresses.push(address.clone());
        }
    }
    addresses
}

pub(crate) const fn mode_name(mode: AccessMode) -> &'static str {
    match mode {
        AccessMode::Open => "open",
        AccessMode::Token => "token",
        AccessMode::AllowList => "allow-list",
        AccessMode::Closed => "closed",
        _ => "unknown",
    }
}

const fn load_name(load: Load) -> &'static str {
    match load {
        Load::Normal => "normal",
        Load::High => "high",
        Load::Heavy => "heavy",
        Load::Critical => "critical",
    }
}
