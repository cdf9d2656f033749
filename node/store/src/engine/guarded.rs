//! Turns an engine's panics into errors. Both disk engines panic on some damaged files.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Batch, Direction, Durability, Engine, EngineError, EngineStats, Pair, Precondition};
use crate::config::EngineKind;
use crate::panics::Inside;

/// An engine whose panics come back as [`EngineError::Damaged`]. After one it takes no more writes.
#[derive(Debug)]
pub struct Guarded<E: Engine> {
    /// `None` only while dropping.
    inner: Option<E>,
    kind: EngineKind,
    broken: AtomicBool,
}

/// Runs something of an engine that may panic.
pub(super) fn catch<T>(
    kind: EngineKind,
    run: impl FnOnce() -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    let _inside = Inside::enter();
    // what a panic leaves behind is never used for writing again
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no reason given");
        let detail = format!("the engine stopped: {}", said.chars().take(200).collect::<String>());
        Err(EngineError::Damaged { engine: kind, detail })
    })
}

impl<E: Engine> Guarded<E> {
    /// Guards an open engine.
    #[must_use]
    pub fn new(inner: E) -> Self {
        Self { kind: inner.kind(), inner: Some(inner), broken: AtomicBool::new(false) }
    }

    fn run<T>(&self, run: impl FnOnce(&E) -> Result<T, EngineError>) -> Result<T, EngineError> {
        let Some(inner) = &self.inner else { return Err(EngineError::Gone) };
        let result = catch(self.kind, || run(inner));
        if matches!(&result, Err(error) if error.is_damage()) {
            self.broken.store(true, Ordering::SeqCst);
        }
        result
    }

    fn refuse_if_broken(&self) -> Result<(), EngineError> {
        if self.broken.load(Ordering::SeqCst) {
            let detail = "damage was seen; open the store anew to repair it".to_owned();
            return Err(EngineError::Damaged { engine: self.kind, detail });
        }
        Ok(())
    }
}

impl<E: Engine> Engine for Guarded<E> {
    fn kind(&self) -> EngineKind {
        self.kind
    }

    fn write(
        &self,
        batch: &Batch,
        preconditions: &[Precondition],
        durability: Durability,
    ) -> Result<(), EngineError> {
        self.refuse_if_broken()?;
        self.run(|engine| engine.write(batch, preconditions, durability))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.run(|engine| engine.get(key))
    }

    fn get_all(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
        self.run(|engine| engine.get_all(keys))
    }

    fn page(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Pair>, EngineError> {
        self.run(|engine| engine.page(prefix, from, direction, limit))
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.refuse_if_broken()?;
        self.run(Engine::sync)
    }

    fn stats(&self) -> Result<EngineStats, EngineError> {
        self.run(Engine::stats)
    }

    fn check(&self) -> Result<(), EngineError> {
        self.run(Engine::check)
    }
}

impl<E: Engine> Drop for Guarded<E> {
    fn drop(&mut self) {
        let inner = self.inner.take();
        let _inside = Inside::enter();
        // a damaged engine may panic once more while it closes
        if catch_unwind(AssertUnwindSafe(move || drop(inner))).is_err() {
            tracing::warn!(engine = %self.kind, "the engine did not close cleanly");
        }
    }
}
