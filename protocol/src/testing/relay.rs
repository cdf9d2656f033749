//! A whole relay on rows in memory: every request is decided, "durable" and answered at once.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::engine::LinkId;
use crate::id::{DeviceId, MailboxId};
use crate::identity::KeyPair;
use crate::mailbox::{
    Accepted, Audit, Batch, Fault, Group, Mailbox, Outcome, Policy, ReadJob, ReadKind, Row, RowKey, Totals,
    Upkeep, UpkeepRead, Work, WriteJob,
};
use crate::secret::Secret32;
use crate::time::{Mono, Now, Wall};
use crate::wire::Frame;
use crate::wire::relay::{Listed, RelayReply, RelayRequest, Stored};

/// Rows of upkeep done at a time.
const UPKEEP: usize = 8;

/// What a relay keeps, in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryRows {
    rows: BTreeMap<RowKey, Row>,
    totals: Totals,
}

impl MemoryRows {
    /// A row.
    #[must_use]
    pub fn get(&self, key: &RowKey) -> Option<Row> {
        self.rows.get(key).cloned()
    }

    /// The sums.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// All rows.
    pub fn iter(&self) -> impl Iterator<Item = (&RowKey, &Row)> {
        self.rows.iter()
    }

    /// Writes a batch if what it expects holds.
    #[must_use]
    pub fn write(&mut self, batch: &Batch) -> bool {
        let version = |key: &RowKey| match self.rows.get(key) {
            Some(Row::Mailbox(row)) => Some(row.version),
            Some(Row::Token(row)) => Some(row.version),
            _ => None,
        };
        if batch.expected.iter().any(|(key, expected)| version(key) != *expected) {
            return false;
        }
        for (key, row) in &batch.changes {
            match row {
                Some(row) => drop(self.rows.insert(*key, row.clone())),
                None => drop(self.rows.remove(key)),
            }
        }
        self.totals = self.totals.plus(batch.totals);
        true
    }

    /// Envelopes beyond a cursor.
    #[must_use]
    pub fn list(&self, mailbox: MailboxId, after: u64, max: usize) -> Vec<Listed> {
        let Some(from) = after.checked_add(1) else { return Vec::new() };
        let range = RowKey::Envelope(mailbox, from)..=RowKey::Envelope(mailbox, u64::MAX);
        let listed = self.rows.range(range).filter_map(|(key, row)| match (key, row) {
            (RowKey::Envelope(_, cursor), Row::Envelope(row)) => Some(Listed {
                id: row.id,
                right: row.right,
                bytes: u32::try_from(row.body.len()).unwrap_or(u32::MAX),
                stored_at: row.stored_at,
                cursor: *cursor,
            }),
            _ => None,
        });
        listed.take(max).collect()
    }

    fn upkeep(&self, read: UpkeepRead) -> Option<Upkeep> {
        let keys = |wanted: &dyn Fn(&RowKey) -> bool| -> Vec<RowKey> {
            self.rows.keys().filter(|key| wanted(key)).take(UPKEEP).copied().collect()
        };
        match read {
            UpkeepRead::Due(up_to) => {
                let keys = keys(&|key| matches!(key, RowKey::Due(hour, ..) if *hour <= up_to));
                (!keys.is_empty()).then_some(Upkeep::Due(keys))
            }
            UpkeepRead::Visits(up_to) => {
                let keys = keys(&|key| matches!(key, RowKey::Visit(day, _) if *day <= up_to));
                (!keys.is_empty()).then_some(Upkeep::Visits(keys))
            }
            UpkeepRead::Work => {
                let (key, done) = self.rows.iter().find_map(|(key, row)| match (key, row) {
                    (RowKey::Work(mailbox, work), Row::Work(done)) => Some(((*mailbox, *work), *done)),
                    _ => None,
                })?;
                Some(self.work(key.0, key.1, done))
            }
        }
    }

    fn work(&self, mailbox: MailboxId, work: Work, done: u64) -> Upkeep {
        match work {
            Work::Purge(right) => {
                let mut listed = self.list(mailbox, done, UPKEEP + 1);
                let more = listed.len() > UPKEEP;
                listed.truncate(UPKEEP);
                Upkeep::Purge { mailbox, right, listed, more }
            }
            Work::Evict => {
                let rest = self.rows.keys().filter(|key| {
                    key.mailbox() == Some(mailbox)
                        && matches!(
                            key,
                            RowKey::Right(..)
                                | RowKey::Known(..)
                                | RowKey::OneTimeKey(..)
                                | RowKey::Bundle(_)
                        )
                });
                let rest = rest.take(UPKEEP).copied().collect();
                Upkeep::Evict { mailbox, listed: self.list(mailbox, 0, UPKEEP), rest }
            }
        }
    }
}

/// A relay for tests of others.
#[derive(Debug)]
pub struct TestRelay {
    seed: [u8; 32],
    mailbox: Mailbox,
    rows: MemoryRows,
    links: u64,
    last: Wall,
    /// Before each write, so many times, another process changes the same mailboxes.
    pub conflicts: u32,
}

/// A frame for a link.
pub type Sent = (LinkId, Bytes);

impl TestRelay {
    /// An empty relay with the key of this seed.
    #[must_use]
    pub fn new(seed: [u8; 32], policy: Policy, now: Now) -> Self {
        let key = KeyPair::from_seed(&Secret32::new(seed));
        let mailbox = Mailbox::new(key, policy, None, Totals::default(), now);
        Self { seed, mailbox, rows: MemoryRows::default(), links: 0, last: now.wall, conflicts: 0 }
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> DeviceId {
        self.mailbox.relay()
    }

    /// Its state machine.
    #[must_use]
    pub const fn mailbox(&mut self) -> &mut Mailbox {
        &mut self.mailbox
    }

    /// What it keeps.
    #[must_use]
    pub const fn rows(&self) -> &MemoryRows {
        &self.rows
    }

    /// All links are gone, and the relay starts again with what is durable.
    pub fn restart(&mut self, now: Now) {
        let key = KeyPair::from_seed(&Secret32::new(self.seed));
        let policy = self.mailbox.policy().clone();
        self.mailbox = Mailbox::new(key, policy, Some(self.last), self.rows.totals(), now);
    }

    /// Everything it kept is gone; it starts again with its key.
    pub fn wipe(&mut self, now: Now) {
        self.rows = MemoryRows::default();
        self.restart(now);
    }

    /// A device connects; the frame is the relay's hello.
    pub fn connect(&mut self, peer: DeviceId, now: Now) -> (LinkId, Bytes) {
        self.links += 1;
        let link = LinkId(self.links);
        let nonce = *blake3::hash(&[self.seed.as_slice(), &self.links.to_be_bytes()].concat()).as_bytes();
        (link, self.mailbox.connected(link, peer, nonce, now))
    }

    /// A device is gone.
    pub fn disconnect(&mut self, link: LinkId) {
        self.mailbox.disconnected(link);
    }

    /// A device sends a frame. Everything the relay sends because of it.
    pub fn frame(&mut self, link: LinkId, frame: &Bytes, now: Now) -> Vec<Sent> {
        match Frame::decode(frame) {
            Ok(Frame::RelayRequest(request)) => self.request(link, request, now),
            _ => Vec::new(),
        }
    }

    /// A device asks.
    pub fn request(&mut self, link: LinkId, request: RelayRequest, now: Now) -> Vec<Sent> {
        let mut sent = Vec::new();
        match self.mailbox.accept(link, request, now) {
            Accepted::Reply(reply) => push(&mut sent, link, reply),
            Accepted::Read(job) => self.read(&job, now, &mut sent),
            Accepted::Write(job) => {
                let outcome = self.decide(&job, now);
                let (reply, arrived) = self.mailbox.finish_write(&job, outcome);
                if let Some(reply) = reply {
                    push(&mut sent, link, reply);
                }
                for wait in arrived.map(|mailbox| self.mailbox.waits().arrived(mailbox)).unwrap_or_default() {
                    if let Some(job) = self.mailbox.resume(&wait) {
                        self.read(&job, now, &mut sent);
                    }
                }
            }
            Accepted::Nothing => {}
        }
        sent
    }

    /// The operator orders something, or a job is done without its link.
    pub fn decide(&mut self, job: &WriteJob, now: Now) -> Outcome {
        loop {
            let mut group = Group::default();
            for key in Mailbox::needs(job) {
                group.supply(key, self.rows.get(&key));
            }
            let outcome = loop {
                match self.mailbox.decide(&mut group, job, now) {
                    Ok(outcome) => break outcome,
                    Err(keys) => {
                        for key in keys {
                            group.supply(key, self.rows.get(&key));
                        }
                    }
                }
            };
            if self.write(group) {
                return outcome;
            }
        }
    }

    fn write(&mut self, group: Group) -> bool {
        let batches = group.batches();
        let mut expected = batches.iter().flat_map(|batch| &batch.expected).peekable();
        if self.conflicts > 0 && expected.peek().is_some() {
            self.conflicts -= 1;
            for (key, _) in expected {
                if let Some(Row::Mailbox(row)) = self.rows.rows.get_mut(key) {
                    row.version += 1;
                }
            }
        }
        // one decision makes one batch
        let written = batches.iter().all(|batch| self.rows.write(batch));
        self.mailbox.set_totals(self.rows.totals());
        written
    }

    fn read(&mut self, job: &ReadJob, now: Now, sent: &mut Vec<Sent>) {
        match &job.kind {
            ReadKind::List { after, max, .. } => {
                let listed = self.rows.list(job.mailbox, *after, *max as usize + 1);
                let (reply, gave_way) = self.mailbox.finish_list(job, listed, now);
                if let Some(reply) = reply {
                    push(sent, job.link, reply);
                }
                if let Some((link, reply)) = gave_way {
                    push(sent, link, reply);
                }
            }
            ReadKind::Get(envelopes) => {
                let (mut found, mut missing) = (Vec::new(), Vec::new());
                for id in envelopes {
                    let known = self.rows.get(&RowKey::Known(job.mailbox, *id));
                    let cursor = match known {
                        Some(Row::Known(crate::mailbox::KnownRow::Stored { cursor, .. })) => Some(cursor),
                        _ => None,
                    };
                    let row = cursor.and_then(|cursor| self.rows.get(&RowKey::Envelope(job.mailbox, cursor)));
                    match row {
                        Some(Row::Envelope(row)) => {
                            found.push(Stored { id: *id, right: row.right, envelope: row.body });
                        }
                        _ => missing.push(*id),
                    }
                }
                for reply in self.mailbox.finish_get(job, found, missing) {
                    push(sent, job.link, reply);
                }
            }
        }
    }

    /// When something happens without being asked.
    pub fn next_deadline(&mut self) -> Option<Mono> {
        self.mailbox.waits().next_deadline()
    }

    /// Time has passed: waits end, and all upkeep there is to do is done.
    pub fn tick(&mut self, now: Now) -> Vec<Sent> {
        let mut sent = Vec::new();
        while let Some(wait) = self.mailbox.waits().expired(now.mono) {
            push(&mut sent, wait.link, Mailbox::nothing(&wait));
        }
        self.last = self.mailbox.time(now).wall;
        while self.upkeep(now) {}
        sent
    }

    /// One step of upkeep; `false` if there was none to do.
    pub fn upkeep(&mut self, now: Now) -> bool {
        for read in self.mailbox.upkeep_reads(now) {
            let Some(upkeep) = self.rows.upkeep(read) else { continue };
            let mut group = Group::default();
            while let Err(keys) = self.mailbox.upkeep(&mut group, &upkeep, now) {
                for key in keys {
                    group.supply(key, self.rows.get(&key));
                }
            }
            // after a conflict the next step reads again
            let _ = self.write(group);
            return true;
        }
        false
    }

    /// What does not fit of what is counted.
    #[must_use]
    pub fn audit(&self) -> Vec<Fault> {
        let mut by_mailbox: BTreeMap<MailboxId, Vec<(&RowKey, &Row)>> = BTreeMap::new();
        for (key, row) in self.rows.iter() {
            if let Some(mailbox) = key.mailbox() {
                by_mailbox.entry(mailbox).or_default().push((key, row));
            }
        }
        let mut audit = Audit::default();
        for (key, row) in by_mailbox.into_values().flatten() {
            audit.row(key, row);
        }
        audit.finish(self.rows.totals()).1
    }
}

fn push(sent: &mut Vec<Sent>, link: LinkId, reply: RelayReply) {
    sent.push((link, Frame::RelayReply(reply).encode()));
}
