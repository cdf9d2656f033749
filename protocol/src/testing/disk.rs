//! A store in memory: what is on it survives its engine.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::record::{Change, Key, KeyRange, ReadError, Reader, Row};

/// Rows by key, shared between an engine's reader and the test that looks on.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    rows: Arc<Mutex<BTreeMap<Key, Row>>>,
}

impl Disk {
    /// A disk that holds what these changes write.
    #[must_use]
    pub fn holding(changes: Vec<Change>) -> Self {
        let disk = Self::default();
        disk.apply(changes);
        disk
    }

    /// Writes a batch.
    pub fn apply(&self, changes: Vec<Change>) {
        let mut rows = self.lock();
        for change in changes {
            match change {
                Change::Put(row) => rows.insert(row.key(), row),
                Change::Delete(key) => rows.remove(&key),
            };
        }
    }

    /// An independent copy, as of a data folder.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self { rows: Arc::new(Mutex::new(self.lock().clone())) }
    }

    /// How many rows of a range are like this.
    #[must_use]
    pub fn count(&self, range: &KeyRange, like: impl Fn(&Row) -> bool) -> usize {
        let (first, last) = range.bounds();
        let rows = self.lock();
        rows.range(first..=last).filter(|(key, row)| range.contains(key) && like(row)).count()
    }

    /// All rows.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader for Disk {
    fn get(&self, key: &Key) -> Result<Option<Row>, ReadError> {
        Ok(self.lock().get(key).cloned())
    }

    fn range(&self, range: &KeyRange, after: Option<&Key>, limit: usize) -> Result<Vec<Row>, ReadError> {
        let (first, last) = range.bounds();
        let rows = self.lock();
        let rows = rows.range(first..=last).filter(|(key, _)| range.contains(key));
        Ok(rows
            .filter(|(key, _)| after.is_none_or(|after| *key > after))
            .take(limit)
            .map(|(_, row)| row.clone())
            .collect())
    }
}
