//! Reading rows, and the overlay of rows that are not on disk yet.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use thiserror::Error;

use super::{Change, Key, KeyRange, Record, Row};
use crate::EntryId;

/// A row that could not be read. The row is damaged or the store failed; the Engine goes on without it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The bytes under this key are not what was written.
    #[error("a stored row is damaged ({0:?}); run `kith store check`")]
    Damaged(Key),
    /// The store could not answer.
    #[error("the store could not be read: {0}; run `kith store check`")]
    Store(String),
}

/// Synchronous reads by key or short range.
pub trait Reader: Send {
    /// The row under a key.
    ///
    /// # Errors
    /// [`ReadError`] if the row is damaged or the store fails.
    fn get(&self, key: &Key) -> Result<Option<Row>, ReadError>;

    /// At most `limit` rows of a range, those after `after` if given.
    ///
    /// # Errors
    /// [`ReadError`] if a row is damaged or the store fails.
    fn range(&self, range: &KeyRange, after: Option<&Key>, limit: usize) -> Result<Vec<Row>, ReadError>;
}

/// Weight of the rows remembered, above which all are forgotten: they are read again as they are needed.
const KNOWN_BYTES: usize = 2 * 1024 * 1024;
/// Weight of a key, and of a range.
const KEY_WEIGHT: usize = size_of::<Key>();

/// Rows as they will be once everything handed out is on disk: the store's rows under the changes not yet persisted.
///
/// Changes are collected in one open batch; [`Overlay::seal`] closes it, [`Overlay::abandon`] takes it back. Nobody else
/// writes these rows, so what was read or written lately is remembered.
pub struct Overlay {
    base: Box<dyn Reader>,
    known: RefCell<Known>,
    changed: BTreeMap<Key, Version>,
    sealed: VecDeque<Batch>,
    open: Batch,
    undo: Vec<(Key, Option<Version>)>,
    bytes: usize,
}

/// What the store holds, as far as it is remembered.
#[derive(Default)]
struct Known {
    rows: BTreeMap<Key, Row>,
    /// Ranges of which every row is remembered.
    whole: BTreeSet<KeyRange>,
    /// Ranges ordered by a number of which every row behind a key is remembered: what is new comes behind all else.
    tails: BTreeMap<KeyRange, Key>,
    bytes: usize,
}

impl Known {
    fn insert(&mut self, key: Key, row: Row) {
        let bytes = weight(Some(&row));
        if self.bytes.saturating_add(bytes) > KNOWN_BYTES {
            *self = Self::default();
        }
        self.bytes = self.bytes.saturating_add(bytes);
        let before = self.rows.insert(key, row);
        self.lighten(before.as_ref());
    }

    fn remove(&mut self, key: &Key) {
        let before = self.rows.remove(key);
        self.lighten(before.as_ref());
    }

    fn lighten(&mut self, gone: Option<&Row>) {
        self.bytes = self.bytes.saturating_sub(gone.map_or(0, |row| weight(Some(row))));
    }

    /// Every row of the range, or of what of it lies behind `after`, is among `rows`.
    fn has(&self, range: &KeyRange, after: Option<&Key>) -> bool {
        let behind = |range: &KeyRange, after: &Key| self.tails.get(range).is_some_and(|from| from <= after);
        self.whole.contains(range)
            || after.is_some_and(|after| behind(range, after))
            || before_number(range).is_some_and(|(stream, before)| behind(&stream, &before))
    }

    fn note_whole(&mut self, range: KeyRange) {
        if self.whole.insert(range) {
            self.bytes = self.bytes.saturating_add(KEY_WEIGHT);
        }
    }

    fn note_tail(&mut self, range: KeyRange, after: Key) {
        if self.tails.insert(range, after).is_none() {
            self.bytes = self.bytes.saturating_add(KEY_WEIGHT * 2);
        }
    }
}

/// The stream of a number, and the last key that can stand before it.
fn before_number(range: &KeyRange) -> Option<(KeyRange, Key)> {
    let KeyRange::StreamNumber(stream, number) = range else { return None };
    let before = Key::StreamEntry(*stream, number.checked_sub(1)?, EntryId([0xff; 32]));
    Some((KeyRange::StreamEntries(*stream), before))
}

fn weight(row: Option<&Row>) -> usize {
    KEY_WEIGHT.saturating_add(row.map_or(0, Row::weight))
}

/// The newest value of a key, and the batch that holds it.
#[derive(Clone)]
struct Version {
    batch: u64,
    row: Option<Row>,
}

#[derive(Default)]
struct Batch {
    n: u64,
    keys: Vec<Key>,
    bytes: usize,
}

impl std::fmt::Debug for Overlay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Overlay")
            .field("changed", &self.changed.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Overlay {
    /// An empty overlay over a store. Batches are numbered from 1.
    #[must_use]
    pub fn new(base: Box<dyn Reader>) -> Self {
        let open = Batch { n: 1, ..Batch::default() };
        Self {
            base,
            known: RefCell::default(),
            changed: BTreeMap::new(),
            sealed: VecDeque::new(),
            open,
            undo: Vec::new(),
            bytes: 0,
        }
    }

    /// The store's row under a key.
    fn stored(&self, key: &Key) -> Result<Option<Row>, ReadError> {
        if let Some(row) = self.known.borrow().rows.get(key) {
            return Ok(Some(row.clone()));
        }
        let row = self.base.get(key)?;
        // most keys asked for in vain are asked for once: new ids
        if let Some(row) = &row {
            self.known.borrow_mut().insert(key.clone(), row.clone());
        }
        Ok(row)
    }

    /// The store's rows of a range.
    fn stored_range(
        &self,
        range: &KeyRange,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Row>, ReadError> {
        let (first, last) = range.bounds();
        let has_it = self.known.borrow().has(range, after);
        if has_it || self.ends_before(range)? {
            let from = after.filter(|after| **after >= first && **after <= last);
            let from = from.map_or(Bound::Included(&first), Bound::Excluded);
            let known = self.known.borrow();
            let rows =
                known.rows.range((from, Bound::Included(&last))).filter(|(key, _)| range.contains(key));
            return Ok(rows.map(|(_, row)| row.clone()).take(limit).collect());
        }
        let rows = self.base.range(range, after, limit)?;
        let all = rows.iter().map(|row| weight(Some(row))).fold(KEY_WEIGHT, usize::saturating_add);
        let numbered = matches!(range, KeyRange::Jobs(_) | KeyRange::StreamEntries(_));
        if (after.is_none() || numbered) && rows.len() < limit && all < KNOWN_BYTES / 4 {
            let mut known = self.known.borrow_mut();
            // all is forgotten before, not between two rows of the range
            if known.bytes.saturating_add(all) > KNOWN_BYTES {
                *known = Known::default();
            }
            for row in &rows {
                known.insert(row.key(), row.clone());
            }
            match after {
                None => known.note_whole(range.clone()),
                Some(after) => known.note_tail(range.clone(), after.clone()),
            }
        }
        Ok(rows)
    }

    /// Whether the range is of a number behind all that the store has of a stream. Once that is known, it and what is
    /// written behind it is known without the store.
    fn ends_before(&self, range: &KeyRange) -> Result<bool, ReadError> {
        let Some((stream, before)) = before_number(range) else { return Ok(false) };
        if self.known.borrow().tails.contains_key(&stream) {
            return Ok(false);
        }
        let ends = self.base.range(&stream, Some(&before), 1)?.is_empty();
        if ends {
            self.known.borrow_mut().note_tail(stream, before);
        }
        Ok(ends)
    }

    /// Takes a range as known that nobody ever wrote into: it belongs to something new.
    pub(crate) fn begin(&mut self, range: KeyRange) {
        self.known.get_mut().note_whole(range);
    }

    /// The row under a key, as this kind of record.
    ///
    /// # Errors
    /// [`ReadError`] as for [`Reader::get`]; also if the row is of another kind.
    pub fn get<T: Record>(&self, key: &Key) -> Result<Option<T>, ReadError> {
        let row = match self.changed.get(key) {
            Some(version) => version.row.clone(),
            None => self.stored(key)?,
        };
        row.map(|row| T::from_row(row).ok_or_else(|| ReadError::Damaged(key.clone()))).transpose()
    }

    /// The rows of a range, at most `limit`. Paging with `after` holds only for ranges ordered by a number.
    ///
    /// # Errors
    /// [`ReadError`] as for [`Reader::range`].
    pub fn range<T: Record>(
        &self,
        range: &KeyRange,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<T>, ReadError> {
        let mut rows = BTreeMap::new();
        let (first, last) = range.bounds();
        // a start behind the end would panic
        let after_inside = after.filter(|after| **after >= first && **after <= last);
        let from = after_inside.map_or(Bound::Included(&first), Bound::Excluded);
        let changed =
            || self.changed.range((from, Bound::Included(&last))).filter(|(key, _)| range.contains(key));
        // rows that the overlay hides must not use up the limit
        let hidden = changed().filter(|(_, version)| version.row.is_none()).count();
        for row in self.stored_range(range, after, limit.saturating_add(hidden))? {
            rows.insert(row.key(), row);
        }
        for (key, version) in changed() {
            match &version.row {
                Some(row) => rows.insert(key.clone(), row.clone()),
                None => rows.remove(key),
            };
        }
        rows.into_iter()
            .take(limit)
            .map(|(key, row)| T::from_row(row).ok_or(ReadError::Damaged(key)))
            .collect()
    }

    /// The store below, for sweeps that may miss the newest changes.
    #[must_use]
    pub fn base(&self) -> &dyn Reader {
        self.base.as_ref()
    }

    /// Writes or removes a row in the open batch.
    pub fn set(&mut self, key: Key, row: Option<Row>) {
        let bytes = weight(row.as_ref());
        let version = Version { batch: self.open.n, row };
        let before = self.changed.insert(key.clone(), version);
        if before.as_ref().is_none_or(|before| before.batch != self.open.n) {
            self.open.keys.push(key.clone());
            self.open.bytes = self.open.bytes.saturating_add(bytes);
        }
        self.undo.push((key, before));
    }

    /// Keys in the open batch.
    #[must_use]
    pub const fn open_rows(&self) -> usize {
        self.open.keys.len()
    }

    /// Closes the open batch: its number and changes, or `None` if it is empty.
    pub fn seal(&mut self) -> Option<(u64, Vec<Change>)> {
        self.undo.clear();
        if self.open.keys.is_empty() {
            return None;
        }
        let next = Batch { n: self.open.n.saturating_add(1), ..Batch::default() };
        let batch = std::mem::replace(&mut self.open, next);
        let changes = batch
            .keys
            .iter()
            .filter_map(|key| {
                let version = self.changed.get(key)?;
                Some(version.row.clone().map_or_else(|| Change::Delete(key.clone()), Change::Put))
            })
            .collect();
        let n = batch.n;
        self.bytes = self.bytes.saturating_add(batch.bytes);
        self.sealed.push_back(batch);
        Some((n, changes))
    }

    /// Number of the newest batch that was closed.
    pub const fn newest(&self) -> u64 {
        self.open.n.saturating_sub(1)
    }

    /// Whether all batches up to `n` are on disk.
    pub fn is_persisted(&self, n: u64) -> bool {
        self.sealed.front().is_none_or(|batch| batch.n > n)
    }

    /// Takes the open batch back, as if nothing had been set.
    pub fn abandon(&mut self) {
        while let Some((key, before)) = self.undo.pop() {
            match before {
                Some(version) => self.changed.insert(key, version),
                None => self.changed.remove(&key),
            };
        }
        self.open.keys.clear();
        self.open.bytes = 0;
    }

    /// Batches up to `n` are on disk.
    pub fn persisted(&mut self, n: u64) {
        let known = self.known.get_mut();
        while self.sealed.front().is_some_and(|batch| batch.n <= n) {
            let Some(batch) = self.sealed.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(batch.bytes);
            for key in batch.keys {
                let newest = self.changed.get(&key).is_some_and(|newest| newest.batch == batch.n);
                if newest && let Some(version) = self.changed.remove(&key) {
                    match version.row {
                        Some(row) => known.insert(key, row),
                        None => known.remove(&key),
                    }
                }
            }
        }
    }

    /// Estimated bytes not yet on disk.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::*;
    use crate::StreamId;
    use crate::record::StreamEntry;

    /// A store's rows, shared with whoever writes them.
    #[derive(Clone, Default)]
    struct Shelf(Arc<Mutex<BTreeMap<Key, Row>>>);

    impl Reader for Shelf {
        fn get(&self, key: &Key) -> Result<Option<Row>, ReadError> {
            Ok(self.0.lock().unwrap().get(key).cloned())
        }

        fn range(&self, range: &KeyRange, after: Option<&Key>, limit: usize) -> Result<Vec<Row>, ReadError> {
            let rows = self.0.lock().unwrap();
            let inside =
                rows.iter().filter(|(key, _)| range.contains(key) && after.is_none_or(|after| *key > after));
            Ok(inside.map(|(_, row)| row.clone()).take(limit).collect())
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Put(u8, u64, u8),
        Remove(u8, u64, u8),
        /// A number nobody has used, and a row under it.
        Begin(u8),
        Seal,
        Abandon,
        /// The oldest batch is on disk.
        Persist,
        /// All is forgotten, as after a start.
        Forget,
        Look(u8, u64),
        /// At what stands behind a number, this many rows at most.
        Behind(u8, u64, usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let place = || (0..2_u8, 0..6_u64, 0..2_u8);
        let step = prop_oneof![
            4 => place().prop_map(|(stream, number, id)| Step::Put(stream, number, id)),
            1 => place().prop_map(|(stream, number, id)| Step::Remove(stream, number, id)),
            1 => (0..2_u8).prop_map(Step::Begin),
            2 => Just(Step::Seal),
            1 => Just(Step::Abandon),
            2 => Just(Step::Persist),
            1 => Just(Step::Forget),
            6 => (0..2_u8, 0..8_u64).prop_map(|(stream, number)| Step::Look(stream, number)),
            4 => (0..2_u8, 0..8_u64, 1..9_usize).prop_map(|(stream, number, limit)| {
                Step::Behind(stream, number, limit)
            }),
        ];
        prop::collection::vec(step, 1..60)
    }

    fn row(stream: u8, number: u64, id: u8) -> StreamEntry {
        StreamEntry { stream: StreamId([stream; 16]), number, entry: EntryId([id; 32]) }
    }

    proptest! {
        /// What is remembered, and what is known of the ends of streams, never changes an answer.
        #[test]
        fn what_is_remembered_is_what_is_there(steps in steps()) {
            let shelf = Shelf::default();
            let mut overlay = Overlay::new(Box::new(shelf.clone()));
            // what is true once all is on disk, now and before the open batch
            let (mut rows, mut before) = (BTreeMap::new(), BTreeMap::new());
            let mut waiting = VecDeque::new();
            let mut fresh = 100;
            for step in steps {
                match step {
                    Step::Put(stream, number, id) => {
                        let row = Row::from(row(stream, number, id));
                        rows.insert(row.key(), row.clone());
                        overlay.set(row.key(), Some(row));
                    }
                    Step::Remove(stream, number, id) => {
                        let key = row(stream, number, id).key();
                        rows.remove(&key);
                        overlay.set(key, None);
                    }
                    Step::Begin(stream) => {
                        fresh += 1;
                        overlay.begin(KeyRange::StreamNumber(StreamId([stream; 16]), fresh));
                        let row = Row::from(row(stream, fresh, 0));
                        rows.insert(row.key(), row.clone());
                        overlay.set(row.key(), Some(row));
                    }
                    Step::Seal => {
                        waiting.extend(overlay.seal());
                        before = rows.clone();
                    }
                    Step::Abandon => {
                        overlay.abandon();
                        rows = before.clone();
                    }
                    Step::Persist => {
                        let Some((n, changes)) = waiting.pop_front() else { continue };
                        let mut shelf = shelf.0.lock().unwrap();
                        for change in changes {
                            match change {
                                Change::Put(row) => shelf.insert(row.key(), row),
                                Change::Delete(key) => shelf.remove(&key),
                            };
                        }
                        drop(shelf);
                        overlay.persisted(n);
                    }
                    Step::Forget => *overlay.known.get_mut() = Known::default(),
                    Step::Look(stream, number) => {
                        // the newest one too
                        let number = if number == 7 { fresh } else { number };
                        let range = KeyRange::StreamNumber(StreamId([stream; 16]), number);
                        let found: Vec<StreamEntry> = overlay.range(&range, None, 10).unwrap();
                        let found: Vec<Row> = found.into_iter().map(Row::from).collect();
                        let wanted = rows.iter().filter(|(key, _)| range.contains(key));
                        prop_assert_eq!(found, wanted.map(|(_, row)| row.clone()).collect::<Vec<_>>());
                    }
                    Step::Behind(stream, number, limit) => {
                        let range = KeyRange::StreamEntries(StreamId([stream; 16]));
                        let after = Key::StreamEntry(StreamId([stream; 16]), number, EntryId([0xff; 32]));
                        let found: Vec<StreamEntry> = overlay.range(&range, Some(&after), limit).unwrap();
                        let found: Vec<Row> = found.into_iter().map(Row::from).collect();
                        let wanted = rows.iter().filter(|(key, _)| range.contains(key) && **key > after);
                        let wanted = wanted.map(|(_, row)| row.clone()).take(limit);
                        prop_assert_eq!(found, wanted.collect::<Vec<_>>());
                    }
                }
            }
        }
    }

    #[test]
    fn a_new_number_of_a_stream_is_not_looked_for_in_the_store() {
        struct Counting(Shelf, Arc<Mutex<usize>>);
        impl Reader for Counting {
            fn get(&self, key: &Key) -> Result<Option<Row>, ReadError> {
                self.0.get(key)
            }
            fn range(
                &self,
                range: &KeyRange,
                after: Option<&Key>,
                limit: usize,
            ) -> Result<Vec<Row>, ReadError> {
                *self.1.lock().unwrap() += 1;
                self.0.range(range, after, limit)
            }
        }
        let reads = Arc::new(Mutex::new(0));
        let mut overlay = Overlay::new(Box::new(Counting(Shelf::default(), reads.clone())));
        for number in 1..100 {
            let range = KeyRange::StreamNumber(StreamId([1; 16]), number);
            assert_eq!(overlay.range::<StreamEntry>(&range, None, 4).unwrap(), []);
            let row = Row::from(row(1, number, 1));
            overlay.set(row.key(), Some(row));
            let (n, _) = overlay.seal().unwrap();
            overlay.persisted(n);
        }
        assert_eq!(*reads.lock().unwrap(), 1);
    }
}
