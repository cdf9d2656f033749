//! Two engines, a wire and a clock.
//!
//! The wire delays, loses, repeats and reorders frames as its [`Weather`] says; either side can be crashed between any
//! two outputs and comes back from its [`Disk`]. Ranks and proofs are watched while the pair runs.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

use super::check::check;
use super::disk::Disk;
use super::mesh::{Mesh, Temper};
use super::relay::TestRelay;
use crate::engine::{
    Answer, Command, CommandError, CommandId, Engine, Input, LinkId, NewAccount, Output, genesis,
};
use crate::id::{AccountId, Address, DeviceId, DirectoryKey, EntryId, EnvelopeId, MailboxId};
use crate::identity::direct_conversation;
use crate::record::{
    Change, Contact, ContactState, Entry, Event, EventBody, Job, Key, KeyRange, Rank, Reader as _, Record,
    Row,
};
use crate::time::{Mono, Now, Wall};
use crate::wire::PayloadBody;

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The first.
    A,
    /// The second.
    B,
}

impl Who {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// What the wire does to frames. Shares are of 1,000.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Shortest delay, milliseconds.
    pub delay: u64,
    /// Longest delay; frames overtake each other within it if `reorder`.
    pub delay_max: u64,
    /// Frames lost.
    pub loss: u32,
    /// Frames delivered twice.
    pub duplicate: u32,
    /// Frames keep no order.
    pub reorder: bool,
}

impl Weather {
    /// A good link.
    pub const FAIR: Self = Self { delay: 5, delay_max: 10, loss: 0, duplicate: 0, reorder: false };
    /// Everything that can go wrong does.
    pub const FOUL: Self = Self { delay: 5, delay_max: 400, loss: 50, duplicate: 50, reorder: true };
}

/// One device of the pair.
#[derive(Debug)]
pub struct Side {
    /// What survives a crash.
    pub disk: Disk,
    /// The account.
    pub account: AccountId,
    /// The device.
    pub device: DeviceId,
    /// All durable events it released, in order.
    pub events: Vec<Event>,
    engine: Option<Engine>,
    link: Option<LinkId>,
    skew: i64,
    answers: BTreeMap<CommandId, Result<Answer, CommandError>>,
    /// Crash when this many more outputs were released.
    crash_in: Option<u64>,
    down_until: Option<Mono>,
    restored: bool,
}

/// Two engines, a wire and a clock.
#[derive(Debug)]
pub struct Pair {
    a: Side,
    b: Side,
    now: Mono,
    weather: Weather,
    /// No link can be made while false.
    network: bool,
    in_transit: BTreeMap<(Mono, u64), (Who, LinkId, Bytes)>,
    last_arrival: BTreeMap<Who, Mono>,
    directory: BTreeMap<DirectoryKey, Bytes>,
    directory_up: bool,
    pending: Vec<(Who, Input)>,
    mesh: Mesh,
    dials: BTreeSet<Who>,
    rng: StdRng,
    counter: u64,
    outputs: u64,
    largest_batch: usize,
}

/// Wall clock at the start: some instant in 2026.
const START: u64 = 1_790_000_000_000;
/// A crashed side stays down this long.
const DOWN: u64 = 700;

impl Pair {
    /// Two strangers with a network between them.
    #[must_use]
    pub fn new(seed: u64, weather: Weather) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let now = Mono(1_000);
        let side = |name: &str, rng: &mut StdRng| {
            let new = NewAccount { name, phrase: None };
            let genesis = genesis(new, Wall(START), rng).unwrap_or_else(|error| unreachable!("{error}"));
            Side {
                disk: Disk::holding(genesis.changes),
                account: genesis.account,
                device: genesis.device,
                events: Vec::new(),
                engine: None,
                link: None,
                skew: 0,
                answers: BTreeMap::new(),
                crash_in: None,
                down_until: Some(now),
                restored: false,
            }
        };
        let a = side("Ana", &mut rng);
        let b = side("Ben", &mut rng);
        let mut pair = Self {
            a,
            b,
            now,
            weather,
            network: true,
            in_transit: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
            directory: BTreeMap::new(),
            directory_up: true,
            pending: Vec::new(),
            mesh: Mesh::default(),
            dials: BTreeSet::new(),
            rng,
            counter: 0,
            outputs: 0,
            largest_batch: 0,
        };
        pair.start_due();
        pair
    }

    /// Two contacts with a live link.
    #[must_use]
    pub fn friends(seed: u64, weather: Weather) -> Self {
        let mut pair = Self::new(seed, weather);
        pair.befriend();
        pair
    }

    /// A invites, B accepts.
    ///
    /// # Panics
    /// If that does not come to an end.
    pub fn befriend(&mut self) {
        let Ok(Answer::Invite { uri, .. }) =
            self.command(Who::A, Command::CreateInvite { uses: 1, ttl: 86_400_000 })
        else {
            unreachable!("an invite is always granted");
        };
        let accepted = self.command(Who::B, Command::AcceptInvite { uri });
        assert!(accepted.is_ok(), "{accepted:?}");
        let met = self.run_until(3_600_000, |pair| pair.are_contacts());
        assert!(met, "the two never became contacts");
    }

    /// Each has the other as accepted contact.
    #[must_use]
    pub fn are_contacts(&self) -> bool {
        [Who::A, Who::B].into_iter().all(|who| {
            let other = self.side(who.other()).account;
            let contact: Option<Contact> = self.row(who, &Key::Contact(other));
            contact.is_some_and(|contact| contact.state == ContactState::Accepted)
        })
    }

    /// Adds a relay to the world, and to the accounts of these. Returns its number.
    ///
    /// # Panics
    /// If a side does not take it.
    pub fn add_relay(&mut self, temper: Temper, owners: &[Who]) -> usize {
        let (relay, address) = self.mesh.add(temper, self.relay_now());
        let number = self.mesh.len().saturating_sub(1);
        for who in owners {
            let command = Command::AddRelay { relay, address: address.clone(), token: Bytes::new() };
            let added = self.command(*who, command);
            assert!(added.is_ok(), "{added:?}");
        }
        number
    }

    /// Takes a relay off the network, or brings it back with what it keeps.
    pub fn set_relay(&mut self, number: usize, up: bool) {
        let inputs = self.mesh.set_up(number, up, self.relay_now());
        self.pending.extend(inputs);
    }

    /// A relay loses everything it keeps but its key, and starts again.
    pub fn wipe_relay(&mut self, number: usize) {
        let inputs = self.mesh.wipe(number, self.relay_now());
        self.pending.extend(inputs);
    }

    /// A relay loses one envelope.
    pub fn lose(&mut self, number: usize, mailbox: MailboxId, envelope: EnvelopeId) {
        let now = self.relay_now();
        self.mesh.lose(number, mailbox, envelope, now);
    }

    /// Lets the directory answer, or find nothing.
    pub const fn set_directory(&mut self, up: bool) {
        self.directory_up = up;
    }

    /// A relay.
    #[must_use]
    pub fn relay(&self, number: usize) -> &TestRelay {
        self.mesh.relay(number)
    }

    /// A relay's id.
    #[must_use]
    pub fn relay_id(&self, number: usize) -> DeviceId {
        self.relay(number).id()
    }

    /// Relays go by the true time.
    const fn relay_now(&self) -> Now {
        Now { wall: Wall(START.saturating_add(self.now.0)), mono: self.now }
    }

    /// The rows of one kind that a side keeps.
    #[must_use]
    pub fn rows<T: Record>(&self, who: Who, range: &KeyRange) -> Vec<T> {
        let rows = self.side(who).disk.range(range, None, usize::MAX).unwrap_or_default();
        rows.into_iter().filter_map(T::from_row).collect()
    }

    /// One side.
    #[must_use]
    pub const fn side(&self, who: Who) -> &Side {
        match who {
            Who::A => &self.a,
            Who::B => &self.b,
        }
    }

    const fn side_mut(&mut self, who: Who) -> &mut Side {
        match who {
            Who::A => &mut self.a,
            Who::B => &mut self.b,
        }
    }

    /// A stored row.
    #[must_use]
    pub fn row<T: Record>(&self, who: Who, key: &Key) -> Option<T> {
        self.side(who).disk.get(key).ok().flatten().and_then(T::from_row)
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self, who: Who) -> Now {
        let wall = START.saturating_add(self.now.0).saturating_add_signed(self.side(who).skew);
        Now { wall: Wall(wall), mono: self.now }
    }

    /// Sets one side's wall clock off by this many milliseconds.
    pub fn skew(&mut self, who: Who, millis: i64) {
        self.side_mut(who).skew = millis;
    }

    /// Changes the weather.
    pub fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// Cuts the network or mends it.
    pub fn set_network(&mut self, up: bool) {
        self.network = up;
        if !up {
            self.cut();
        }
    }

    /// Breaks the live link; a new one may come.
    pub fn cut(&mut self) {
        self.in_transit.clear();
        for who in [Who::A, Who::B] {
            let peer = self.side(who.other()).device;
            if let Some(link) = self.side_mut(who).link.take() {
                self.pending.push((who, Input::Disconnected { peer, link }));
            }
        }
    }

    /// Gives a command and returns its answer.
    ///
    /// # Panics
    /// If the side is down and does not come back.
    pub fn command(&mut self, who: Who, command: Command) -> Result<Answer, CommandError> {
        let up = self.run_until(60_000, |pair| pair.side(who).engine.is_some());
        assert!(up, "the side is down");
        self.counter += 1;
        let id = CommandId(self.counter);
        self.input(who, Input::Command { id, command });
        self.drain(who);
        self.side_mut(who).answers.remove(&id).unwrap_or(Err(CommandError::Internal("a crash")))
    }

    /// Writes a message to the other side; `None` if a crash came in between.
    pub fn send(&mut self, who: Who, text: &str) -> Option<EntryId> {
        let to = self.side(who.other()).account;
        let command = Command::Send { to, text: text.to_owned(), reply_to: None, client: None };
        match self.command(who, command) {
            Ok(Answer::Sent { entry, .. }) => Some(entry),
            _ => None,
        }
    }

    /// Visible messages in the conversation's order: id, author, text, rank.
    #[must_use]
    pub fn history(&self, who: Who) -> Vec<Entry> {
        let rows = self.side(who).disk.range(&KeyRange::Entries, None, usize::MAX).unwrap_or_default();
        let mut entries: Vec<Entry> =
            rows.into_iter().filter_map(Entry::from_row).filter(|entry| entry.visible).collect();
        entries.sort_by_key(Entry::place);
        entries
    }

    /// How many messages a side sees: cheaper than [`Pair::history`], for what is asked at every instant.
    #[must_use]
    pub fn message_count(&self, who: Who) -> usize {
        let visible = |row: &Row| matches!(row, Row::Entry(entry) if entry.visible);
        self.side(who).disk.count(&KeyRange::Entries, visible)
    }

    /// Every message one side wrote is confirmed by the other.
    #[must_use]
    pub fn all_delivered(&self) -> bool {
        [Who::A, Who::B].into_iter().all(|who| {
            let side = self.side(who);
            let open = side.disk.count(&KeyRange::Entries, |row| {
                matches!(row, Row::Entry(entry)
                    if entry.visible && entry.author == side.account && entry.rank < Rank::Delivered)
            });
            open == 0
        })
    }

    /// Crashes a side now.
    pub fn crash(&mut self, who: Who) {
        let now = self.now;
        let side = self.side_mut(who);
        side.engine = None;
        side.down_until = Some(now.plus(DOWN));
        side.answers.clear();
        self.pending.retain(|(whom, _)| *whom != who);
        self.cut();
        self.pending.retain(|(whom, _)| *whom != who);
        self.dials.remove(&who);
        self.mesh.forget(who);
    }

    /// Crashes a side after it has released this many more outputs.
    pub fn crash_in(&mut self, who: Who, outputs: u64) {
        self.side_mut(who).crash_in = Some(outputs);
    }

    /// Stops a side for good, until [`Pair::start`].
    pub fn stop(&mut self, who: Who) {
        self.crash(who);
        self.side_mut(who).down_until = None;
    }

    /// Whether a side was stopped for good.
    #[must_use]
    pub fn is_stopped(&self, who: Who) -> bool {
        let side = self.side(who);
        side.engine.is_none() && side.down_until.is_none()
    }

    /// Starts a stopped side.
    pub fn start(&mut self, who: Who) {
        let now = self.now;
        self.side_mut(who).down_until = Some(now);
        self.start_due();
    }

    /// Puts a stopped side back to an older copy of its disk.
    pub fn restore(&mut self, who: Who, disk: &Disk) {
        let side = self.side_mut(who);
        assert!(side.engine.is_none(), "stop the side first");
        side.disk = disk.copy();
        side.restored = true;
    }

    /// Hands an input in from outside, as a hostile peer would.
    pub fn inject(&mut self, who: Who, bytes: Bytes) {
        let peer = self.side(who.other()).device;
        if let Some(link) = self.side(who).link {
            self.input(who, Input::Frame { peer, link, bytes });
            self.drain(who);
        }
    }

    /// Seals any payload for the other side, as a contact with a program of its own would.
    ///
    /// # Panics
    /// If the side is down.
    pub fn whisper(&mut self, who: Who, body: PayloadBody) {
        let now = self.now(who);
        let (device, account) = (self.side(who.other()).device, self.side(who.other()).account);
        let said =
            self.side_mut(who).engine.as_mut().map(|engine| engine.whisper(device, account, body, now));
        assert_eq!(said, Some(true), "the side is down or cannot speak");
        self.drain(who);
    }

    /// Whether a side's next message would travel at once.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        self.a.link.is_some() && self.b.link.is_some()
    }

    /// Jobs that wait for the other side's device.
    #[must_use]
    pub fn jobs(&self, who: Who) -> Vec<Job> {
        let range = KeyRange::Jobs(self.side(who.other()).device);
        let rows = self.side(who).disk.range(&range, None, usize::MAX).unwrap_or_default();
        rows.into_iter().filter_map(Job::from_row).collect()
    }

    /// Lets virtual time pass until the condition holds (true) or `millis` are over (false).
    pub fn run_until(&mut self, millis: u64, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now.plus(millis);
        loop {
            self.settle();
            if done(self) {
                return true;
            }
            let Some(next) = self.next_instant() else { return false };
            if next > end {
                self.now = end;
                return false;
            }
            self.now = self.now.max(next);
        }
    }

    /// Lets virtual time pass.
    pub fn run_for(&mut self, millis: u64) {
        self.run_until(millis, |_| false);
    }

    /// Everything that can happen at this instant.
    fn settle(&mut self) {
        loop {
            self.start_due();
            let mut busy = false;
            for (who, input) in std::mem::take(&mut self.pending) {
                busy = true;
                self.input(who, input);
                self.drain(who);
            }
            busy |= self.connect_dialled();
            while let Some((who, input)) = self.mesh.next_due(self.relay_now()) {
                busy = true;
                self.input(who, input);
                self.drain(who);
            }
            while let Some((place, _)) = self.in_transit.first_key_value()
                && place.0 <= self.now
            {
                busy = true;
                let Some((_, (who, link, bytes))) = self.in_transit.pop_first() else { break };
                if self.side(who).link == Some(link) {
                    let peer = self.side(who.other()).device;
                    self.input(who, Input::Frame { peer, link, bytes });
                    self.drain(who);
                }
            }
            for who in [Who::A, Who::B] {
                let now = self.now(who);
                let side = self.side_mut(who);
                if let Some(engine) = &mut side.engine
                    && engine.poll_timeout().is_some_and(|(at, _)| at <= now.mono)
                {
                    busy = true;
                    engine.handle_timeout(now);
                    self.drain(who);
                }
            }
            if !busy {
                return;
            }
        }
    }

    fn next_instant(&mut self) -> Option<Mono> {
        let relays = self.mesh.next_instant();
        let wire = self.in_transit.first_key_value().map(|(place, _)| place.0);
        let timers = [&self.a, &self.b].into_iter().filter_map(|side| match &side.engine {
            Some(engine) => engine.poll_timeout().map(|(at, _)| at),
            None => side.down_until,
        });
        timers.chain(wire).chain(relays).min()
    }

    fn start_due(&mut self) {
        for who in [Who::A, Who::B] {
            let now = self.now(who);
            let seed = self.rng.next_u64();
            let address = Address::new(vec![if who == Who::A { 1 } else { 2 }]);
            let side = self.side_mut(who);
            if side.engine.is_some() || side.down_until.is_none_or(|until| until > now.mono) {
                continue;
            }
            let rng = Box::new(StdRng::seed_from_u64(seed));
            match Engine::open(Box::new(side.disk.clone()), rng, now) {
                Ok(engine) => side.engine = Some(engine),
                Err(error) => unreachable!("an engine did not open: {error}"),
            }
            side.down_until = None;
            self.drain(who);
            self.pending.push((who, Input::Addresses(address.into_iter().collect())));
            self.pending.push((who, Input::DirectoryReady));
        }
    }

    /// Links the two if one of them dialled and both are there.
    fn connect_dialled(&mut self) -> bool {
        let up = self.a.engine.is_some() && self.b.engine.is_some() && self.network;
        let dialled = std::mem::take(&mut self.dials);
        if dialled.is_empty() || !up || self.a.link.is_some() {
            return false;
        }
        self.counter += 1;
        let link = LinkId(self.counter);
        for who in [Who::A, Who::B] {
            let peer = self.side(who.other()).device;
            self.side_mut(who).link = Some(link);
            self.pending.push((who, Input::Connected { peer, link, address: None }));
        }
        true
    }

    fn input(&mut self, who: Who, input: Input) {
        let now = self.now(who);
        if let Some(engine) = &mut self.side_mut(who).engine {
            engine.handle_input(input, now);
        }
    }

    /// Releases a side's outputs in order; it may crash before any of them.
    fn drain(&mut self, who: Who) {
        while let Some(output) = self.side_mut(who).engine.as_mut().and_then(Engine::poll_output) {
            self.outputs += 1;
            if let Some(left) = &mut self.side_mut(who).crash_in {
                if *left == 0 {
                    self.side_mut(who).crash_in = None;
                    self.crash(who);
                    return;
                }
                *left -= 1;
            }
            self.release(who, output);
        }
    }

    fn release(&mut self, who: Who, output: Output) {
        match output {
            Output::Persist { n, changes } => {
                self.watch(who, &changes);
                self.largest_batch = self.largest_batch.max(changes.len());
                let side = self.side_mut(who);
                side.disk.apply(changes);
                if let Some(engine) = &mut side.engine {
                    engine.persisted(n);
                }
            }
            Output::Send { peer, link, frame } if self.mesh.has(&peer) => {
                let now = self.relay_now();
                self.mesh.send(who, peer, link, frame, now);
            }
            Output::Send { peer: _, link, frame } => self.transmit(who, link, frame),
            Output::Answer { id, result } => {
                self.side_mut(who).answers.insert(id, result);
            }
            Output::Event(event) => {
                if let EventBody::Status { entry, rank, .. } = &event.body {
                    let stored: Option<Entry> = self.row(who, &Key::Entry(*entry));
                    assert!(
                        stored.is_some_and(|stored| stored.rank >= *rank),
                        "a tick was shown before it was stored"
                    );
                }
                self.side_mut(who).events.push(event);
            }
            Output::Dial { peer, .. } if self.mesh.has(&peer) => {
                self.counter += 1;
                let (device, link, now) = (self.side(who).device, LinkId(self.counter), self.relay_now());
                self.mesh.dial(who, device, peer, link, now);
            }
            Output::Dial { .. } => {
                self.dials.insert(who);
            }
            Output::Provide { key, record, .. } => {
                self.directory.insert(key, record);
                self.pending.push((who, Input::Provided { key, stored: true }));
            }
            Output::Withdraw { key } => {
                self.directory.remove(&key);
            }
            Output::Find { key } => {
                if let Some(record) = self.directory.get(&key).filter(|_| self.directory_up) {
                    let record = record.clone();
                    self.pending.push((who, Input::Found { key, record }));
                }
                self.pending.push((who, Input::FindEnded { key }));
            }
            Output::Deposit { id, relay, address: _, pseudonym, request } => {
                let now = self.relay_now();
                self.mesh.deposit(who, id, relay, pseudonym, request, now);
            }
            Output::Refuse { peer } if self.mesh.has(&peer) => {
                self.pending.extend(self.mesh.hang_up(who, peer));
            }
            Output::Refuse { .. } => self.cut(),
            Output::Admit { .. } | Output::Transient(_) => {}
        }
    }

    /// Ranks never fall, and no tick stands before the other side has the message on disk.
    fn watch(&self, who: Who, changes: &[Change]) {
        for change in changes {
            let Change::Put(Row::Entry(entry)) = change else { continue };
            let before: Option<Entry> = self.row(who, &Key::Entry(entry.id));
            if let Some(before) = &before {
                assert!(entry.rank >= before.rank, "the rank of a message fell: {before:?} {entry:?}");
            }
            // what was taken back before it left travels as a void number
            let account = self.side(who).account;
            let own = entry.author == account && !entry.recovered && !entry.deleted;
            let own = own && entry.conversation != direct_conversation(&account, &account);
            let rose = before.is_none_or(|before| before.rank < Rank::Delivered);
            let other = self.side(who.other());
            if own && rose && entry.rank >= Rank::Delivered && !other.restored && !self.side(who).restored {
                let there: Option<Entry> = self.row(who.other(), &Key::Entry(entry.id));
                assert!(there.is_some(), "shown as delivered, but it is not on the other disk: {entry:?}");
            }
        }
    }

    fn transmit(&mut self, from: Who, link: LinkId, frame: Bytes) {
        if self.side(from).link != Some(link) || self.rng.random_range(0..1000) < self.weather.loss {
            return;
        }
        let copies = if self.rng.random_range(0..1000) < self.weather.duplicate { 2 } else { 1 };
        let to = from.other();
        for _ in 0..copies {
            let delay = self.rng.random_range(self.weather.delay..=self.weather.delay_max);
            let mut at = self.now.plus(delay);
            if !self.weather.reorder {
                let last = self.last_arrival.entry(to).or_default();
                at = at.max(*last);
                *last = at;
            }
            self.counter += 1;
            self.in_transit.insert((at, self.counter), (to, link, frame.clone()));
        }
    }

    /// How many outputs both sides released so far.
    #[must_use]
    pub const fn outputs(&self) -> u64 {
        self.outputs
    }

    /// Rows of the largest batch either side wrote so far.
    #[must_use]
    pub const fn largest_batch(&self) -> usize {
        self.largest_batch
    }

    /// The invariants of delivery on both disks.
    ///
    /// # Panics
    /// If one is broken.
    pub fn check(&self) {
        for who in [Who::A, Who::B] {
            let broken = check(&self.side(who).disk);
            assert_eq!(broken, Ok(Vec::new()), "invariants of {who:?}");
        }
    }

    /// Messages that were not taken back: id and text, in the conversation's order.
    #[must_use]
    pub fn standing(&self, who: Who) -> Vec<(EntryId, String)> {
        let standing = self.history(who).into_iter().filter(|entry| !entry.deleted);
        standing.map(|entry| (entry.id, entry.text)).collect()
    }

    /// Both have the same messages in the same order, each once. One taken back before it left never arrives.
    ///
    /// # Panics
    /// If not.
    pub fn check_same_history(&self) {
        assert_eq!(self.standing(Who::A), self.standing(Who::B), "the two histories differ");
    }
}
