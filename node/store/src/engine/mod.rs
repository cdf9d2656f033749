//! The seam: what any engine must do, and nothing only one of them can.
//!
//! Keys and values are bytes that mean nothing here. No iterator, transaction or type of an engine crosses this line.

mod buffered;
mod guarded;
pub mod memory;
mod redb;
mod sled;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use thiserror::Error;

pub(crate) use buffered::{Buffered, Flow};
pub use guarded::Guarded;
pub(crate) use sled::copy_without_snapshots as copy_sled_without_snapshots;
pub(crate) use sled::is_own_thread as is_thread_of_engine;

use crate::config::EngineKind;

/// Longest value an engine is given: sled keeps larger ones in files it never syncs.
pub const VALUE_MAX: usize = 4096;

/// Rows written together: all or none. The last word on a key counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// New values; `None` deletes.
    pub rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Batch {
    /// Sets a value.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.rows.insert(key, Some(value));
    }

    /// Removes a key.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.rows.insert(key, None);
    }

    /// Bytes of its keys and values.
    pub(crate) fn bytes(&self) -> usize {
        let size =
            |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| key.len() + value.as_ref().map_or(0, Vec::len);
        self.rows.iter().map(size).fold(0, usize::saturating_add)
    }
}

/// What must hold for a batch to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// No value stands under this key.
    Absent(Vec<u8>),
    /// Exactly this value stands under this key.
    Equals(Vec<u8>, Vec<u8>),
}

impl Precondition {
    /// The key it speaks of.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Absent(key) | Self::Equals(key, _) => key,
        }
    }

    /// Whether it holds for what stands under its key.
    #[must_use]
    pub fn holds(&self, found: Option<&[u8]>) -> bool {
        match self {
            Self::Absent(_) => found.is_none(),
            Self::Equals(_, value) => found == Some(value.as_slice()),
        }
    }
}

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When it would survive a power cut.
    Durable,
    /// At once; the next durable write or [`Engine::sync`] makes it durable.
    Lazy,
}

/// Which way a page reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Ascending keys.
    Forward,
    /// Descending keys.
    Backward,
}

/// An engine's failure.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The bytes on disk are not what the engine wrote.
    #[error("{engine}: damaged: {detail}")]
    Damaged {
        /// Which engine.
        engine: EngineKind,
        /// What it said.
        detail: String,
    },
    /// The operating system refused.
    #[error("{engine}: {detail}")]
    Io {
        /// Which engine.
        engine: EngineKind,
        /// What it said.
        detail: String,
    },
    /// Another process has it open.
    #[error("{engine}: in use by another process")]
    Busy {
        /// Which engine.
        engine: EngineKind,
    },
    /// A precondition did not hold; nothing was written.
    #[error("a precondition does not hold")]
    Precondition {
        /// The key it spoke of.
        key: Vec<u8>,
    },
    /// The memory disk was crashed under this engine.
    #[error("the disk is gone")]
    Gone,
}

impl EngineError {
    /// Damage, as opposed to a full disk, a lock or a refusal.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// What an engine says about itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Bytes on disk.
    pub bytes: u64,
}

/// An open engine. One writer at a time; any number of readers.
pub trait Engine: std::fmt::Debug + Send + Sync {
    /// Which one.
    fn kind(&self) -> EngineKind;

    /// Writes a batch if all preconditions hold.
    ///
    /// # Errors
    /// [`EngineError`]; after anything but [`EngineError::Precondition`] it is unknown what was written until the
    /// engine is opened anew.
    fn write(
        &self,
        batch: &Batch,
        preconditions: &[Precondition],
        durability: Durability,
    ) -> Result<(), EngineError>;

    /// The value under a key.
    ///
    /// # Errors
    /// [`EngineError`] if the engine fails.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError>;

    /// The values under many keys, in their order; where nobody writes meanwhile, from one state of the engine.
    ///
    /// # Errors
    /// [`EngineError`] if the engine fails.
    fn get_all(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    /// At most `limit` pairs whose keys start with `prefix`, beyond `from` (exclusive) in the direction.
    ///
    /// # Errors
    /// [`EngineError`] if the engine fails.
    fn page(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Pair>, EngineError>;

    /// Makes everything written durable.
    ///
    /// # Errors
    /// [`EngineError`] if the engine fails.
    fn sync(&self) -> Result<(), EngineError>;

    /// What it says about itself.
    ///
    /// # Errors
    /// [`EngineError`] if the engine fails.
    fn stats(&self) -> Result<EngineStats, EngineError>;

    /// Runs the engine's own check of its files, where it has one.
    ///
    /// # Errors
    /// [`EngineError::Damaged`] if they are damaged.
    fn check(&self) -> Result<(), EngineError>;
}

/// Opens the engine in a folder, which is made if it does not exist. A panic of the engine comes back as damage.
///
/// # Errors
/// [`EngineError`] if it is damaged, busy or the system refuses.
pub fn open(kind: EngineKind, folder: &Path, cache_bytes: u64) -> Result<Arc<dyn Engine>, EngineError> {
    let folder = folder.to_owned();
    match kind {
        EngineKind::Sled => {
            let engine = guarded::catch(kind, || sled::SledEngine::open(&folder, cache_bytes))?;
            Ok(Arc::new(Guarded::new(engine)))
        }
        EngineKind::Redb => {
            let engine = guarded::catch(kind, || redb::RedbEngine::open(&folder, cache_bytes))?;
            Ok(Arc::new(Guarded::new(engine)))
        }
        EngineKind::Memory => Ok(Arc::new(memory::MemoryDisk::default().engine())),
    }
}

/// The first key after all keys that start with `prefix`; `None` if there is none.
pub(crate) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

/// The bounds of a page, ascending.
pub(crate) fn bounds(
    prefix: &[u8],
    from: Option<&[u8]>,
    direction: Direction,
) -> (std::ops::Bound<Vec<u8>>, std::ops::Bound<Vec<u8>>) {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let start = Included(prefix.to_vec());
    let end = prefix_end(prefix).map_or(Unbounded, Excluded);
    match (from, direction) {
        (None, _) => (start, end),
        // a `from` outside the prefix must not widen or invert the range
        (Some(from), Direction::Forward) if from < prefix => (start, end),
        (Some(from), Direction::Forward) if !from.starts_with(prefix) => (start, Excluded(prefix.to_vec())),
        (Some(from), Direction::Forward) => (Excluded(from.to_vec()), end),
        (Some(from), Direction::Backward) if from <= prefix => (start, Excluded(prefix.to_vec())),
        (Some(from), Direction::Backward) if !from.starts_with(prefix) => (start, end),
        (Some(from), Direction::Backward) => (start, Excluded(from.to_vec())),
    }
}

/// Whether bounds hold nothing: engines panic on, or refuse, a range whose start lies beyond its end.
pub(crate) fn is_empty_range(start: &std::ops::Bound<Vec<u8>>, end: &std::ops::Bound<Vec<u8>>) -> bool {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    match (start, end) {
        (Unbounded, _) | (_, Unbounded) => false,
        (Included(a), Included(b)) => a > b,
        (Included(a) | Excluded(a), Excluded(b)) | (Excluded(a), Included(b)) => a >= b,
    }
}
