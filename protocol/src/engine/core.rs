//! What every part of the Engine stands on: rows, keys, clocks, timers, and the turn that makes one batch.

use std::collections::VecDeque;

use rand::CryptoRng;

use super::clock::ClockGuard;
use super::output::{Output, Transient};
use super::timer::Timers;
use super::{Fault, OpenError};
use crate::crypto::session::{LocalDevice, Ratchets};
use crate::id::{AccountId, DeviceId, EntryId};
use crate::identity::{Certificate, DeviceList, KeyPair};
use crate::limits;
use crate::record::{
    Contact, Counters, Event, EventBody, Key, KeyRange, Overlay, Own, Owner, Peer, ReadError, Reader, Record,
    Row, Session, Settings,
};
use crate::time::{Now, Wall};

/// Rows, keys and clocks of this device. One input is one turn; what it writes is one batch, and what it says to the
/// outside stands behind that batch.
pub(super) struct Core {
    pub(super) rows: Overlay,
    pub(super) rng: Box<dyn CryptoRng + Send>,
    pub(super) ratchets: Ratchets,
    pub(super) now: Now,
    pub(super) clock: ClockGuard,
    pub(super) timers: Timers,
    pub(super) own: Own,
    pub(super) settings: Settings,
    pub(super) keys: Keys,
    counters: Counters,
    before: Option<Before>,
    later: Vec<Output>,
    outputs: VecDeque<Output>,
}

/// Key pairs and signed statements of this device, ready for use.
pub(super) struct Keys {
    pub(super) device: KeyPair,
    pub(super) account: Option<KeyPair>,
    pub(super) local: LocalDevice,
    pub(super) list: DeviceList,
    pub(super) list_hash: [u8; 32],
}

/// What a turn restores when it is abandoned.
struct Before {
    own: Own,
    settings: Settings,
    counters: Counters,
}

impl Core {
    pub(super) fn open(
        reader: Box<dyn Reader>,
        rng: Box<dyn CryptoRng + Send>,
        now: Now,
    ) -> Result<Self, OpenError> {
        let rows = Overlay::new(reader);
        let own: Own = rows.get(&Key::Own)?.ok_or(OpenError::NoAccount)?;
        let settings = rows.get(&Key::Settings)?.unwrap_or_default();
        let counters = rows.get(&Key::Counters)?.unwrap_or_default();
        let clock = ClockGuard::new(rows.get(&Key::Clock)?.unwrap_or_default(), now);
        let keys = Keys::of(&own).ok_or(OpenError::Damaged)?;
        Ok(Self {
            rows,
            rng,
            ratchets: Ratchets::default(),
            now,
            clock,
            timers: Timers::default(),
            own,
            settings,
            keys,
            counters,
            before: None,
            later: Vec::new(),
            outputs: VecDeque::new(),
        })
    }

    /// Starts a turn.
    pub(super) fn begin(&mut self, now: Now) {
        self.now = now;
        if let Some(clock) = self.clock.observe(now) {
            self.put(clock);
        }
        self.remember();
    }

    fn remember(&mut self) {
        self.before = Some(Before {
            own: self.own.clone(),
            settings: self.settings.clone(),
            counters: self.counters.clone(),
        });
    }

    /// Ends a batch: what was written becomes one `Persist`, what was said stands behind it.
    pub(super) fn commit(&mut self) {
        if let Some((n, changes)) = self.rows.seal() {
            self.outputs.push_back(Output::Persist { n, changes });
        }
        self.outputs.extend(self.later.drain(..));
        if let Some(report) = self.clock.news() {
            self.outputs.push_back(Output::Transient(Transient::Clock(report)));
        }
        self.remember();
    }

    /// Makes what is written so far a batch of its own if it is long: for steps that a stop may cut off, because they are
    /// begun anew and find done what is done. What was said waits for the turn's end.
    pub(super) fn cut(&mut self) {
        if self.rows.open_rows() < limits::BATCH_ROWS {
            return;
        }
        if let Some((n, changes)) = self.rows.seal() {
            self.outputs.push_back(Output::Persist { n, changes });
        }
        self.remember();
    }

    /// Takes back what was written and said since the last commit.
    pub(super) fn abandon(&mut self) {
        self.rows.abandon();
        self.later.clear();
        if let Some(before) = &self.before {
            self.own = before.own.clone();
            self.settings = before.settings.clone();
            self.counters = before.counters.clone();
        }
    }

    /// Something that stands behind this turn's batch.
    pub(super) fn say(&mut self, output: Output) {
        self.later.push(output);
    }

    /// Something that may overtake.
    pub(super) fn say_now(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(super) fn put(&mut self, row: impl Into<Row>) {
        let row = row.into();
        self.rows.set(row.key(), Some(row));
    }

    pub(super) fn delete(&mut self, key: Key) {
        self.rows.set(key, None);
    }

    pub(super) fn get<T: Record>(&self, key: &Key) -> Result<Option<T>, Fault> {
        Ok(self.rows.get(key)?)
    }

    pub(super) fn range<T: Record>(&self, range: &KeyRange, limit: usize) -> Result<Vec<T>, Fault> {
        Ok(self.rows.range(range, None, limit)?)
    }

    pub(super) fn put_own(&mut self) {
        let own = self.own.clone();
        self.put(own);
    }

    /// Tells programs of something, durably.
    pub(super) fn event(&mut self, body: EventBody) {
        let event = Event { cursor: self.counters.next_event.max(1), at: self.now.wall, body };
        self.counters.next_event = event.cursor.saturating_add(1);
        if event.cursor.saturating_sub(self.counters.first_event) >= limits::EVENTS {
            self.delete(Key::Event(self.counters.first_event));
            self.counters.first_event = self.counters.first_event.saturating_add(1);
        }
        self.put(event.clone());
        self.put_counters();
        self.say(Output::Event(event));
    }

    /// Drops events whose time is over, a few at a time.
    pub(super) fn prune_events(&mut self) -> Result<(), Fault> {
        let oldest: Vec<Event> = self.range(&KeyRange::Events, limits::ROWS_PER_TURN)?;
        for event in oldest {
            if self.now.wall.since(event.at) < limits::EVENTS_TTL {
                break;
            }
            self.delete(Key::Event(event.cursor));
            self.counters.first_event = event.cursor.saturating_add(1);
            self.put_counters();
        }
        Ok(())
    }

    /// Says something to people.
    pub(super) fn notice(&mut self, code: &str, text: String, about: About) {
        self.event(EventBody::Notice {
            account: about.account,
            device: about.device,
            entry: about.entry,
            code: code.to_owned(),
            text,
        });
    }

    pub(super) fn next_prekey(&mut self) -> u32 {
        let id = self.counters.next_prekey.max(1);
        self.counters.next_prekey = id.saturating_add(1);
        self.put_counters();
        id
    }

    pub(super) fn next_directory_seq(&mut self) -> u64 {
        self.counters.directory_seq = self.counters.directory_seq.saturating_add(1);
        self.put_counters();
        self.counters.directory_seq
    }

    pub(super) const fn directory_seq(&self) -> u64 {
        self.counters.directory_seq
    }

    pub(super) fn raise_directory_seq(&mut self, seq: u64) {
        self.counters.directory_seq = self.counters.directory_seq.max(seq);
        self.put_counters();
    }

    fn put_counters(&mut self) {
        let counters = self.counters.clone();
        self.put(counters);
    }

    pub(super) fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    /// A number below `bound` (at least 1), for jitter.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64().checked_rem(bound).unwrap_or(0)
    }

    pub(super) fn contact(&self, account: &AccountId) -> Result<Option<Contact>, Fault> {
        self.get(&Key::Contact(*account))
    }

    pub(super) fn owner(&self, device: &DeviceId) -> Result<Option<AccountId>, Fault> {
        Ok(self.get::<Owner>(&Key::Owner(*device))?.map(|owner| owner.account))
    }

    /// The contact a device belongs to.
    pub(super) fn contact_of(&self, device: &DeviceId) -> Result<Option<Contact>, Fault> {
        self.owner(device)?.map_or(Ok(None), |account| self.contact(&account))
    }

    pub(super) fn peer(&self, device: &DeviceId) -> Result<Option<Peer>, Fault> {
        self.get(&Key::Peer(*device))
    }

    /// All sessions with a device. A damaged one is dropped: a fresh session takes its place.
    pub(super) fn sessions(&mut self, device: &DeviceId) -> Result<Vec<Session>, Fault> {
        for _ in 0..limits::SESSIONS {
            match self.rows.range(&KeyRange::Sessions(*device), None, limits::SESSIONS * 2) {
                Err(ReadError::Damaged(key @ Key::Session(..))) => self.delete(key),
                other => return Ok(other?),
            }
        }
        Ok(Vec::new())
    }

    /// Takes over a new device list of our own account.
    pub(super) fn set_own_list(&mut self, list: DeviceList) {
        self.own.device_list = list.bytes.clone();
        self.keys.list_hash = list.hash();
        self.keys.list = list;
        self.put_own();
    }
}

/// Whom a notice concerns.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct About {
    pub(super) account: Option<AccountId>,
    pub(super) device: Option<DeviceId>,
    pub(super) entry: Option<EntryId>,
}

impl About {
    pub(super) const fn account(account: AccountId) -> Self {
        Self { account: Some(account), device: None, entry: None }
    }

    pub(super) const fn device(account: AccountId, device: DeviceId) -> Self {
        Self { account: Some(account), device: Some(device), entry: None }
    }
}

impl Keys {
    fn of(own: &Own) -> Option<Self> {
        let certificate = Certificate::parse(&own.certificate).ok()?;
        let list = DeviceList::parse(&own.device_list).ok()?;
        let list_hash = list.hash();
        Some(Self {
            device: KeyPair::from_seed(&own.device_seed),
            account: own.account_seed.as_ref().map(KeyPair::from_seed),
            local: LocalDevice { identity_secret: own.identity_secret.clone(), certificate },
            list,
            list_hash,
        })
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("rows", &self.rows).field("now", &self.now).finish_non_exhaustive()
    }
}

impl Core {
    /// The wall clock as far as it is believed: lifetimes are judged by it.
    pub(super) fn believed(&self) -> Option<Wall> {
        self.clock.believed(self.now)
    }
}
