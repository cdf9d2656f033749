//! The engine of the simulator and of tests: a map, on a "disk" that outlives the process it simulates.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Batch, Direction, Durability, Engine, EngineError, EngineStats, Pair, Precondition, bounds};
use crate::config::EngineKind;
use crate::ticket::{CommitError, Promise};

/// What stood under a key before a write that is not synced.
#[derive(Debug, Clone)]
struct Undo {
    write: u64,
    key: Vec<u8>,
    old: Option<Vec<u8>>,
}

/// Told of each write to a disk that is held.
#[derive(Clone)]
struct Hook(Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook(..)")
    }
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Oldest first.
    undo: Vec<Undo>,
    /// Writes so far.
    written: u64,
    /// While somebody holds the disk, writes are durable only once he says so.
    held: Option<Hook>,
    /// Commits to answer then, by the number of their write.
    waiting: VecDeque<(u64, Promise)>,
    /// Raised by each crash: engines of before are cut off.
    generation: u64,
    bytes: u64,
}

impl State {
    fn set(&mut self, key: &[u8], value: Option<&[u8]>) -> Option<Vec<u8>> {
        let size = |value: &[u8]| (key.len() + value.len()) as u64;
        let old = match value {
            Some(value) => {
                self.bytes = self.bytes.saturating_add(size(value));
                self.rows.insert(key.to_vec(), value.to_vec())
            }
            None => self.rows.remove(key),
        };
        self.bytes = self.bytes.saturating_sub(old.as_deref().map_or(0, size));
        old
    }
}

/// What a memory engine's rows lie on. Clones are the same disk. It survives [`MemoryDisk::crash`], which takes away
/// every write that was not synced.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

impl MemoryDisk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An engine on this disk. Engines opened before a crash fail after it.
    #[must_use]
    pub fn engine(&self) -> MemoryEngine {
        let generation = self.lock().generation;
        MemoryEngine { disk: self.clone(), generation }
    }

    /// Power off: unsynced writes are gone and engines opened so far can neither read nor write any more.
    pub fn crash(&self) {
        self.crash_after(0);
    }

    /// Power off, but everything up to this write had reached the disk although no sync has said so.
    pub fn crash_after(&self, write: u64) {
        let mut state = self.lock();
        while state.undo.last().is_some_and(|undo| undo.write > write)
            && let Some(Undo { key, old, .. }) = state.undo.pop()
        {
            state.set(&key, old.as_deref());
        }
        state.undo.clear();
        state.generation = state.generation.saturating_add(1);
        let unanswered = std::mem::take(&mut state.waiting);
        drop(state);
        drop(unanswered);
    }

    /// From now on nothing written is durable, and no commit is answered, before [`MemoryDisk::settle`]: a disk whose
    /// syncs take as long as the caller wants. `told` is called after each write that waits.
    pub fn hold(&self, told: impl Fn() + Send + Sync + 'static) {
        self.lock().held = Some(Hook(Arc::new(told)));
    }

    /// Number of the newest write.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.lock().written
    }

    /// A sync that began after this write has ended: it and all before it are durable, and their commits are answered.
    pub fn settle(&self, write: u64) {
        let mut state = self.lock();
        let settled = state.undo.partition_point(|undo| undo.write <= write);
        state.undo.drain(..settled);
        let answered = state.waiting.partition_point(|(number, _)| *number <= write);
        let answered: Vec<_> = state.waiting.drain(..answered).collect();
        drop(state);
        for (_, promise) in answered {
            promise.answer(Ok(()));
        }
    }

    /// Answers a durable commit that was just written: at once, or when the disk's holder says so.
    pub(crate) fn answer(&self, promise: Promise, result: Result<(), CommitError>) {
        let mut state = self.lock();
        match (state.held.clone(), result) {
            (Some(Hook(told)), Ok(())) => {
                let write = state.written;
                state.waiting.push_back((write, promise));
                drop(state);
                told();
            }
            (_, result) => {
                drop(state);
                promise.answer(result);
            }
        }
    }

    /// A disk with the same durable and unsynced content, apart from this one from now on: the backup that a person
    /// puts back.
    #[must_use]
    pub fn copy(&self) -> Self {
        let state = self.lock();
        Self {
            state: Arc::new(Mutex::new(State {
                rows: state.rows.clone(),
                undo: state.undo.clone(),
                generation: 0,
                bytes: state.bytes,
                written: state.written,
                held: None,
                waiting: VecDeque::new(),
            })),
        }
    }

    /// Number of stored pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().rows.len()
    }

    /// Whether nothing is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Flips a bit of the n-th value (modulo their number), as a bad disk would. `false` if there is none.
    pub fn flip_bit(&self, n: usize, bit: usize) -> bool {
        let mut state = self.lock();
        let count = state.rows.len();
        let Some(value) = n.checked_rem(count).and_then(|n| state.rows.values_mut().nth(n)) else {
            return false;
        };
        let len = value.len() * 8;
        let Some(bit) = bit.checked_rem(len) else { return false };
        let Some(byte) = value.get_mut(bit / 8) else { return false };
        *byte ^= 1 << (bit % 8);
        true
    }
}

/// Rows on a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryEngine {
    disk: MemoryDisk,
    generation: u64,
}

impl MemoryEngine {
    fn lock(&self) -> Result<MutexGuard<'_, State>, EngineError> {
        let state = self.disk.lock();
        if state.generation == self.generation { Ok(state) } else { Err(EngineError::Gone) }
    }
}

impl Engine for MemoryEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Memory
    }

    fn write(
        &self,
        batch: &Batch,
        preconditions: &[Precondition],
        durability: Durability,
    ) -> Result<(), EngineError> {
        let mut state = self.lock()?;
        for condition in preconditions {
            if !condition.holds(state.rows.get(condition.key()).map(Vec::as_slice)) {
                return Err(EngineError::Precondition { key: condition.key().to_vec() });
            }
        }
        state.written = state.written.saturating_add(1);
        let write = state.written;
        let settled = durability == Durability::Durable && state.held.is_none();
        for (key, value) in &batch.rows {
            let old = state.set(key, value.as_deref());
            if !settled {
                state.undo.push(Undo { write, key: key.clone(), old });
            }
        }
        if settled {
            state.undo.clear();
        }
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.lock()?.rows.get(key).cloned())
    }

    fn page(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Pair>, EngineError> {
        let state = self.lock()?;
        let (start, end) = bounds(prefix, from, direction);
        if super::is_empty_range(&start, &end) {
            return Ok(Vec::new());
        }
        let range = state.rows.range((start, end)).map(|(key, value)| (key.clone(), value.clone()));
        Ok(match direction {
            Direction::Forward => range.take(limit).collect(),
            Direction::Backward => range.rev().take(limit).collect(),
        })
    }

    fn sync(&self) -> Result<(), EngineError> {
        let written = self.lock()?.written;
        self.disk.settle(written);
        Ok(())
    }

    fn stats(&self) -> Result<EngineStats, EngineError> {
        Ok(EngineStats { bytes: self.lock()?.bytes })
    }

    fn check(&self) -> Result<(), EngineError> {
        self.lock().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use kith_protocol::Wall;
    use kith_protocol::record::{Change, Clock, Key, Row};

    use super::*;
    use crate::keys::MasterKey;
    use crate::{Store, StoreConfig};

    fn open(disk: &MemoryDisk) -> Store {
        Store::open(StoreConfig::memory(disk.clone(), MasterKey::from_bytes([7; 32]))).unwrap().0
    }

    fn clock(n: u64) -> Vec<Change> {
        vec![Change::Put(Row::from(Clock { believed: Wall(n) }))]
    }

    #[test]
    fn a_held_disk_answers_when_it_is_told_and_loses_the_rest_in_a_crash() {
        let disk = MemoryDisk::default();
        let store = open(&disk);
        let told = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = Arc::clone(&told);
        disk.hold(move || {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        });
        let first = store.commit(clock(1));
        let mark = disk.written();
        let second = store.commit(clock(2));
        assert_eq!(told.load(std::sync::atomic::Ordering::SeqCst), 2);
        assert_eq!((first.try_result(), second.try_result()), (None, None));
        disk.settle(mark);
        assert_eq!((first.try_result(), second.try_result()), (Some(Ok(())), None));
        disk.crash();
        assert_eq!(second.try_result(), Some(Err(CommitError::Closed)));
        let found: Clock = open(&disk).row(&Key::Clock).unwrap().unwrap();
        assert_eq!(found.believed, Wall(1));
    }
}
