//! Reading rows.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kith_protocol::record::{Key, KeyRange, ReadError, Reader, Record, Row};

use crate::codec::{Codec, CodecError, OpenRowError};
use crate::engine::{Direction, Engine, EngineError, Pair};
use crate::lock::DataLock;

/// What an open store consists of, for everyone who reads or writes it. The engine closes when the last is gone.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) codec: Codec,
    pub(crate) suspect: Suspect,
    /// After the engine in order, so that it is let go last.
    pub(crate) _lock: Option<DataLock>,
}

/// Remembers over restarts that damage was seen: the next open reads every row and restores what is damaged.
#[derive(Debug)]
pub(crate) struct Suspect {
    file: Option<PathBuf>,
    seen: AtomicBool,
}

impl Suspect {
    pub(crate) const fn new(file: Option<PathBuf>) -> Self {
        Self { file, seen: AtomicBool::new(false) }
    }

    pub(crate) fn raise(&self, why: &dyn std::fmt::Display) {
        if self.seen.swap(true, Ordering::SeqCst) {
            return;
        }
        tracing::error!("the store is damaged: {why}; it is checked and restored at the next start");
        if let Some(file) = &self.file
            && let Err(error) = std::fs::write(file, why.to_string())
        {
            tracing::error!(%error, "cannot note the damage for the next start; run `kith store check`");
        }
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.seen.load(Ordering::SeqCst)
    }
}

/// Reads rows and answers queries. Clones are cheap and may live on any thread.
#[derive(Debug, Clone)]
pub struct StoreReader {
    pub(crate) core: Arc<Core>,
}

impl StoreReader {
    pub(crate) fn failed(&self, error: &EngineError) -> ReadError {
        if error.is_damage() {
            self.core.suspect.raise(error);
        }
        ReadError::Store(error.to_string())
    }

    fn damaged(&self, key: Option<&Key>, error: &CodecError) -> ReadError {
        match (error, key) {
            // a newer Kith wrote it: nothing is wrong with the store
            (CodecError::Format(_) | CodecError::Schema(_), _) => ReadError::Store(error.to_string()),
            (_, Some(key)) => {
                self.core.suspect.raise(&format_args!("{error} ({key:?})"));
                ReadError::Damaged(key.clone())
            }
            (_, None) => {
                self.core.suspect.raise(error);
                ReadError::Store(format!("a row is damaged: {error}"))
            }
        }
    }

    pub(crate) fn raw(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.core.engine.get(key).map_err(|error| self.failed(&error))
    }

    /// The row under key bytes.
    pub(crate) fn row_at(&self, key: &[u8], name: Option<&Key>) -> Result<Option<Row>, ReadError> {
        let mut value = self.raw(key)?;
        loop {
            let Some(bytes) = value else { return Ok(None) };
            match self.core.codec.open_row(key, &bytes, |chunk| self.core.engine.get(chunk)) {
                Ok(row) => return Ok(Some(row)),
                Err(OpenRowError::Engine(error)) => return Err(self.failed(&error)),
                Err(OpenRowError::Codec(error)) => {
                    // chunks of a row that was overwritten between our reads are gone: then its head has changed
                    let again = self.raw(key)?;
                    if error == CodecError::Chunk && again.as_ref() != Some(&bytes) {
                        value = again;
                        continue;
                    }
                    return Err(self.damaged(name, &error));
                }
            }
        }
    }

    /// The row under a key, as this kind of record.
    ///
    /// # Errors
    /// [`ReadError`] if the row is damaged, is of another kind, or the store fails.
    pub fn row<T: Record>(&self, key: &Key) -> Result<Option<T>, ReadError> {
        self.get(key)?.map(|row| T::from_row(row).ok_or_else(|| ReadError::Damaged(key.clone()))).transpose()
    }

    /// At most `limit` rows of a range, as this kind of record, those after `after` if given.
    ///
    /// # Errors
    /// [`ReadError`] if a row is damaged or the store fails.
    pub fn rows<T: Record>(
        &self,
        range: &KeyRange,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<T>, ReadError> {
        Ok(self.range(range, after, limit)?.into_iter().filter_map(T::from_row).collect())
    }

    /// Opens the rows of a page of row keys; those deleted meanwhile are left out.
    pub(crate) fn open_page(&self, page: &[Pair]) -> Result<Vec<Row>, ReadError> {
        let mut rows = Vec::with_capacity(page.len());
        for (key, value) in page {
            match self.core.codec.open_row(key, value, |chunk| self.core.engine.get(chunk)) {
                Ok(row) => rows.push(row),
                // it may have changed since the page was read
                Err(OpenRowError::Codec(CodecError::Chunk)) => rows.extend(self.row_at(key, None)?),
                Err(OpenRowError::Codec(error)) => return Err(self.damaged(None, &error)),
                Err(OpenRowError::Engine(error)) => return Err(self.failed(&error)),
            }
        }
        Ok(rows)
    }

    pub(crate) fn page(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Pair>, ReadError> {
        self.core.engine.page(prefix, from, direction, limit).map_err(|error| self.failed(&error))
    }
}

impl Reader for StoreReader {
    fn get(&self, key: &Key) -> Result<Option<Row>, ReadError> {
        self.row_at(&self.core.codec.key(key), Some(key))
    }

    fn range(&self, range: &KeyRange, after: Option<&Key>, limit: usize) -> Result<Vec<Row>, ReadError> {
        let prefix = self.core.codec.prefix(range);
        let mut from = after.map(|key| self.core.codec.key(key));
        let mut rows = Vec::new();
        // in pages, so that a wide range does not hold all its sealed values at once
        while rows.len() < limit {
            let want = (limit - rows.len()).min(512);
            let page = self.page(&prefix, from.as_deref(), Direction::Forward, want)?;
            rows.extend(self.open_page(&page)?);
            match page.last() {
                Some((key, _)) if page.len() == want => from = Some(key.clone()),
                _ => break,
            }
        }
        Ok(rows)
    }
}
