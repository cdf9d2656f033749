//! Reading rows, and the overlay of rows that are not on disk yet.

use std::collections::{BTreeMap, VecDeque};

use thiserror::Error;

use super::{Change, Key, KeyRange, Record, Row};

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

/// Rows as they will be once everything handed out is on disk: the store's rows under the changes not yet persisted.
pub struct Overlay {
    base: Box<dyn Reader>,
    changed: BTreeMap<Key, (u64, Option<Row>)>,
    batches: VecDeque<(u64, Vec<Key>, usize)>,
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
    /// An empty overlay over a store.
    #[must_use]
    pub fn new(base: Box<dyn Reader>) -> Self {
        Self { base, changed: BTreeMap::new(), batches: VecDeque::new(), bytes: 0 }
    }

    /// The row under a key, as this kind of record.
    ///
    /// # Errors
    /// [`ReadError`] as for [`Reader::get`]; also if the row is of another kind.
    pub fn get<T: Record>(&self, key: &Key) -> Result<Option<T>, ReadError> {
        let row = match self.changed.get(key) {
            Some((_, row)) => row.clone(),
            None => self.base.get(key)?,
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
        // rows that the overlay hides must not use up the limit
        let hidden = self.changed.keys().filter(|key| range.contains(key)).count();
        for row in self.base.range(range, after, limit.saturating_add(hidden))? {
            rows.insert(row.key(), row);
        }
        for (key, (_, row)) in &self.changed {
            if range.contains(key) && after.is_none_or(|after| key > after) {
                match row {
                    Some(row) => rows.insert(key.clone(), row.clone()),
                    None => rows.remove(key),
                };
            }
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

    /// Lays batch `n` on top.
    pub fn push(&mut self, n: u64, changes: &[Change], bytes: usize) {
        let mut keys = Vec::with_capacity(changes.len());
        for change in changes {
            let (key, row) = match change {
                Change::Put(row) => (row.key(), Some(row.clone())),
                Change::Delete(key) => (key.clone(), None),
            };
            self.changed.insert(key.clone(), (n, row));
            keys.push(key);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.batches.push_back((n, keys, bytes));
    }

    /// Batches up to `n` are on disk: their rows are read from the store from now on.
    pub fn persisted(&mut self, n: u64) {
        while self.batches.front().is_some_and(|(batch, _, _)| *batch <= n) {
            let Some((batch, keys, bytes)) = self.batches.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(bytes);
            for key in keys {
                if self.changed.get(&key).is_some_and(|(newest, _)| *newest == batch) {
                    self.changed.remove(&key);
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
