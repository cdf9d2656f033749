//! The engine of the simulator and of tests: a map, on a "disk" that outlives the process it simulates.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Batch, Direction, Durability, Engine, EngineError, EngineStats, Pair, Precondition, bounds};
use crate::config::EngineKind;

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What stood under keys before writes that are not synced, oldest first.
    undo: Vec<(Vec<u8>, Option<Vec<u8>>)>,
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
        let mut state = self.lock();
        while let Some((key, value)) = state.undo.pop() {
            state.set(&key, value.as_deref());
        }
        state.generation = state.generation.saturating_add(1);
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
        for (key, value) in &batch.rows {
            let old = state.set(key, value.as_deref());
            if durability == Durability::Lazy {
                state.undo.push((key.clone(), old));
            }
        }
        if durability == Durability::Durable {
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
        self.lock()?.undo.clear();
        Ok(())
    }

    fn stats(&self) -> Result<EngineStats, EngineError> {
        Ok(EngineStats { bytes: self.lock()?.bytes })
    }

    fn check(&self) -> Result<(), EngineError> {
        self.lock().map(drop)
    }
}
