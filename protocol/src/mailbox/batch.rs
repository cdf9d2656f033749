//! Deciding on rows that were read, and what is to be written.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::parts::Parts;
use super::row::{EnvelopeRow, KnownRow, MailboxRow, RightRow, Row, RowKey, TokenRow, Totals, signed};
use crate::crypto::envelope::size_kind;
use crate::id::{EnvelopeId, MailboxId, RightId};
use crate::wire::relay::{Refusal, RefusalCode};

/// What is to be written: all of it, if everything expected still holds, or nothing. Several batches of one write have no
/// row in common.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// New rows; `None` deletes.
    pub changes: Vec<(RowKey, Option<Row>)>,
    /// Versions decided upon: `None` where no row was.
    pub expected: Vec<(RowKey, Option<u64>)>,
    /// How the sums change.
    pub totals: Totals,
}

impl Batch {
    /// Whether there is nothing to write.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Why a decision was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Rows must be read first.
    Missing,
    /// It is refused, and nothing is changed.
    Refused(Refusal),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<RefusalCode> for Stop {
    fn from(code: RefusalCode) -> Self {
        Self::Refused(Refusal::new(code))
    }
}

#[derive(Debug)]
struct Slot {
    /// As of the jobs decided so far.
    row: Option<Row>,
    /// As it was read.
    version: Option<u64>,
    changed: bool,
}

/// Jobs decided one after the other on the same rows, and written together.
#[derive(Debug, Default)]
pub struct Group {
    slots: HashMap<RowKey, Slot>,
    parts: Parts,
    totals: Totals,
    changed: usize,
}

impl Group {
    /// A row that was read; `None` if there is none. What was supplied before stands.
    pub fn supply(&mut self, key: RowKey, row: Option<Row>) {
        let version = row.as_ref().and_then(version);
        self.slots.entry(key).or_insert(Slot { row, version, changed: false });
    }

    /// Whether a row was supplied.
    #[must_use]
    pub fn has(&self, key: &RowKey) -> bool {
        self.slots.contains_key(key)
    }

    /// The right under which an envelope is stored, as far as that was supplied.
    pub(super) fn stored_under(&self, id: MailboxId, envelope: EnvelopeId) -> Option<RightId> {
        match self.slots.get(&RowKey::Known(id, envelope))?.row {
            Some(Row::Known(KnownRow::Stored { right, .. })) => Some(right),
            _ => None,
        }
    }

    /// How the sums change by what was decided so far.
    pub(super) const fn totals_so_far(&self) -> Totals {
        self.totals
    }

    /// Rows changed so far.
    #[must_use]
    pub const fn changed(&self) -> usize {
        self.changed
    }

    /// Makes one decision. Its changes count only if it is made.
    ///
    /// # Errors
    /// The rows to supply before it is tried again.
    pub fn decide<T>(
        &mut self,
        decision: impl FnOnce(&mut Tx<'_>) -> Result<T, Stop>,
    ) -> Result<Result<T, Refusal>, Vec<RowKey>> {
        let mut tx = Tx {
            group: self,
            changes: HashMap::new(),
            order: Vec::new(),
            missing: Vec::new(),
            totals: Totals::default(),
        };
        match decision(&mut tx) {
            Ok(value) if tx.missing.is_empty() => {
                tx.keep();
                Ok(Ok(value))
            }
            Ok(_) | Err(Stop::Missing) => Err(std::mem::take(&mut tx.missing)),
            Err(Stop::Refused(refusal)) => Ok(Err(refusal)),
        }
    }

    /// What is to be written: a batch for each mailbox or token, or for those that one decision has changed together. Each
    /// may fail without the others: the jobs that [concern](super::Mailbox::heads) it are then decided again.
    #[must_use]
    pub fn batches(self) -> Vec<Batch> {
        let mut batches: BTreeMap<usize, Batch> = BTreeMap::new();
        for (key, slot) in self.slots {
            // every changed row was noted with the decision that changed it
            let Some(part) = self.parts.of(&key).filter(|_| slot.changed) else { continue };
            let batch = batches
                .entry(part)
                .or_insert_with(|| Batch { totals: self.parts.totals(part), ..Batch::default() });
            if key == key.head() {
                batch.expected.push((key, slot.version));
            }
            batch.changes.push((key, slot.row));
        }
        for batch in batches.values_mut() {
            batch.changes.sort_unstable_by_key(|(key, _)| *key);
            batch.expected.sort_unstable_by_key(|(key, _)| *key);
        }
        batches.into_values().collect()
    }
}

const fn version(row: &Row) -> Option<u64> {
    match row {
        Row::Mailbox(row) => Some(row.version),
        Row::Token(row) => Some(row.version),
        _ => None,
    }
}

/// One decision under way.
#[derive(Debug)]
pub struct Tx<'a> {
    group: &'a mut Group,
    changes: HashMap<RowKey, Option<Row>>,
    order: Vec<RowKey>,
    missing: Vec<RowKey>,
    totals: Totals,
}

impl Tx<'_> {
    fn keep(mut self) {
        self.group.parts.add(self.order.iter().map(RowKey::head), self.totals);
        for key in std::mem::take(&mut self.order) {
            let Some(row) = self.changes.remove(&key) else { continue };
            let slot =
                self.group.slots.entry(key).or_insert(Slot { row: None, version: None, changed: false });
            slot.row = row;
            if !slot.changed {
                slot.changed = true;
                self.group.changed += 1;
            }
        }
        self.group.totals = self.group.totals.plus(self.totals);
    }

    fn get(&mut self, key: RowKey) -> Result<Option<&Row>, Stop> {
        if self.changes.contains_key(&key) {
            return Ok(self.changes.get(&key).and_then(Option::as_ref));
        }
        match self.group.slots.get(&key) {
            Some(slot) => Ok(slot.row.as_ref()),
            None => {
                self.missing.push(key);
                Err(Stop::Missing)
            }
        }
    }

    /// Notes all of these as needed at once, so that one more round of reading is enough.
    pub(super) fn need(&mut self, keys: impl IntoIterator<Item = RowKey>) -> Result<(), Stop> {
        for key in keys {
            if !self.changes.contains_key(&key) && !self.group.has(&key) {
                self.missing.push(key);
            }
        }
        if self.missing.is_empty() { Ok(()) } else { Err(Stop::Missing) }
    }

    /// Writes a row, or deletes it. A row that only this relay's own bookkeeping reads need not be read before.
    pub(super) fn set(&mut self, key: RowKey, row: Option<Row>) {
        if self.changes.insert(key, row).is_none() {
            self.order.push(key);
        }
    }

    /// The mailbox, if it is there and not being removed.
    pub(super) fn mailbox(&mut self, id: MailboxId) -> Result<Option<Box<MailboxRow>>, Stop> {
        Ok(match self.get(RowKey::Mailbox(id))? {
            Some(Row::Mailbox(row)) => Some(row.clone()),
            _ => None,
        })
    }

    /// Writes the mailbox with its next version.
    pub(super) fn set_mailbox(&mut self, id: MailboxId, mut row: Box<MailboxRow>) {
        row.version = row.version.wrapping_add(1);
        self.set(RowKey::Mailbox(id), Some(Row::Mailbox(row)));
    }

    pub(super) fn right(&mut self, id: MailboxId, right: RightId) -> Result<Option<RightRow>, Stop> {
        Ok(match self.get(RowKey::Right(id, right))? {
            Some(Row::Right(row)) => Some(row.clone()),
            _ => None,
        })
    }

    pub(super) fn set_right(&mut self, id: MailboxId, right: RightId, row: Option<RightRow>) {
        self.set(RowKey::Right(id, right), row.map(Row::Right));
    }

    pub(super) fn known(&mut self, id: MailboxId, envelope: EnvelopeId) -> Result<Option<KnownRow>, Stop> {
        Ok(match self.get(RowKey::Known(id, envelope))? {
            Some(Row::Known(row)) => Some(*row),
            _ => None,
        })
    }

    pub(super) fn one_time_key(&mut self, id: MailboxId, number: u64) -> Result<Option<[u8; 32]>, Stop> {
        Ok(match self.get(RowKey::OneTimeKey(id, number))? {
            Some(Row::OneTimeKey(key)) => Some(*key),
            _ => None,
        })
    }

    pub(super) fn bundle(&mut self, id: MailboxId) -> Result<Option<Bytes>, Stop> {
        Ok(match self.get(RowKey::Bundle(id))? {
            Some(Row::Bundle(bundle)) => Some(bundle.clone()),
            _ => None,
        })
    }

    pub(super) fn token(&mut self, key: [u8; 16]) -> Result<Option<TokenRow>, Stop> {
        Ok(match self.get(RowKey::Token(key))? {
            Some(Row::Token(row)) => Some(row.clone()),
            _ => None,
        })
    }

    pub(super) fn set_token(&mut self, key: [u8; 16], mut row: TokenRow) {
        row.version = row.version.wrapping_add(1);
        self.set(RowKey::Token(key), Some(Row::Token(row)));
    }

    /// Counts a change of the sums.
    pub(super) fn count(&mut self, change: Totals) {
        self.totals = self.totals.plus(change);
    }

    /// Stores an envelope under the next cursor of its mailbox and counts it there and under its right.
    pub(super) fn store(
        &mut self,
        id: MailboxId,
        mailbox: &mut MailboxRow,
        right: &mut RightRow,
        row: EnvelopeRow,
        expires_at: crate::Wall,
    ) {
        let size = row.body.len() as u64;
        mailbox.cursor = mailbox.cursor.wrapping_add(1);
        mailbox.usage.add(size);
        if let Some(kind) = size_kind(row.body.len()).and_then(|kind| mailbox.kinds.get_mut(kind)) {
            kind.add(size);
        }
        right.usage.add(size);
        right.deposits = right.deposits.saturating_add(1);
        let known = KnownRow::Stored {
            cursor: mailbox.cursor,
            right: row.right,
            size: u32::try_from(size).unwrap_or(u32::MAX),
            stored_at: row.stored_at,
            expires_at,
        };
        let due = RowKey::Due(super::bucket(expires_at), id, super::Due::Envelope(row.id));
        self.set(RowKey::Known(id, row.id), Some(Row::Known(known)));
        self.set(due, Some(Row::Mark));
        self.set(RowKey::Envelope(id, mailbox.cursor), Some(Row::Envelope(row)));
        self.count(Totals { envelopes: 1, bytes: signed(size), ..Totals::default() });
    }

    /// Keeps a stored envelope longer. The mark of its earlier end finds nothing to do.
    pub(super) fn prolong(
        &mut self,
        id: MailboxId,
        mailbox: Box<MailboxRow>,
        envelope: EnvelopeId,
        known: KnownRow,
        (stored_at, expires_at): (crate::Wall, crate::Wall),
    ) {
        let KnownRow::Stored { cursor, right, size, .. } = known else { return };
        let known = KnownRow::Stored { cursor, right, size, stored_at, expires_at };
        self.set(RowKey::Known(id, envelope), Some(Row::Known(known)));
        let due = RowKey::Due(super::bucket(expires_at), id, super::Due::Envelope(envelope));
        self.set(due, Some(Row::Mark));
        self.set_mailbox(id, mailbox);
    }

    /// Removes a stored envelope and what was counted for it; what is known of its id is the caller's to say.
    pub(super) fn remove(
        &mut self,
        id: MailboxId,
        mailbox: &mut MailboxRow,
        (cursor, right, size): (u64, RightId, u32),
    ) -> Result<(), Stop> {
        let bytes = u64::from(size);
        mailbox.usage.remove(bytes);
        let kind = usize::try_from(size).ok().and_then(size_kind);
        if let Some(kind) = kind.and_then(|kind| mailbox.kinds.get_mut(kind)) {
            kind.remove(bytes);
        }
        if let Some(mut row) = self.right(id, right)? {
            row.usage.remove(bytes);
            self.set_right(id, right, Some(row));
        }
        self.set(RowKey::Envelope(id, cursor), None);
        self.count(Totals { envelopes: -1, bytes: -signed(bytes), ..Totals::default() });
        Ok(())
    }
}
