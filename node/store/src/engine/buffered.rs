//! Holds new rows in memory and gives them to an engine in large batches, in a thread of its own.
//!
//! Rows that change with every message reach the engine once in a thousand changes instead of each time, and nobody waits
//! for it. Only for an engine whose rows are safe elsewhere until it has them: in the export log of a node, in the journal
//! of a relay. What the engine itself has is at any time all that was written up to some moment, and nothing later.

use std::collections::BTreeMap;
use std::io;
use std::iter::Peekable;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;

use super::{
    Batch, Direction, Durability, Engine, EngineError, EngineStats, Pair, Precondition, bounds,
    is_empty_range,
};
use crate::config::EngineKind;

/// How rows go over to the engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flow {
    /// Rows given to it at once,
    pub(crate) rows: usize,
    /// or bytes of keys and values.
    pub(crate) bytes: usize,
    /// Whether they are on disk when they have gone over, or only after [`Engine::sync`].
    pub(crate) durability: Durability,
}

impl Flow {
    /// Rows that suit every engine: sled's memory grows out of all proportion with its batches.
    pub(crate) const ROWS: usize = 1_000;
    /// Small batches that somebody else syncs.
    pub(crate) const LAZY: Self = Self { rows: Self::ROWS, bytes: 1024 * 1024, durability: Durability::Lazy };
}

/// So many times as much may wait while the engine is busy; then writers wait for it.
const AHEAD: usize = 4;
/// Reads beside a busy writer before one holds it up.
const TRIES: usize = 4;

/// Rows that an engine has not taken yet, the newest first.
#[derive(Debug, Default)]
struct Tables {
    fresh: Batch,
    bytes: usize,
    /// On their way to the engine.
    leaving: Option<Arc<Batch>>,
    /// How often `fresh` became `leaving`.
    turns: u64,
    /// The number given with the newest rows: of all, of those that are leaving, of those the engine has.
    newest: u64,
    newest_leaving: u64,
    delivered: u64,
}

impl Tables {
    /// What is known here of a key.
    fn find(&self, key: &[u8]) -> Option<&Option<Vec<u8>>> {
        let leaving = || self.leaving.as_ref().and_then(|leaving| leaving.rows.get(key));
        self.fresh.rows.get(key).or_else(leaving)
    }

    fn put(&mut self, batch: Batch) {
        for (key, value) in batch.rows {
            let (key_len, len) = (key.len(), value.as_ref().map_or(0, Vec::len));
            self.bytes = self.bytes.saturating_add(key_len).saturating_add(len);
            if let Some(before) = self.fresh.rows.insert(key, value) {
                let len = before.as_ref().map_or(0, Vec::len);
                self.bytes = self.bytes.saturating_sub(key_len).saturating_sub(len);
            }
        }
    }

    fn is_over(&self, flow: Flow, times: usize) -> bool {
        self.fresh.rows.len() >= flow.rows.saturating_mul(times)
            || self.bytes >= flow.bytes.saturating_mul(times)
    }

    /// Sends the fresh rows on their way; the ones before must have arrived.
    fn turn(&mut self) -> Arc<Batch> {
        let leaving = Arc::new(std::mem::take(&mut self.fresh));
        self.leaving = Some(Arc::clone(&leaving));
        self.newest_leaving = self.newest;
        self.bytes = 0;
        self.turns = self.turns.wrapping_add(1);
        leaving
    }

    /// The rows of a range in a direction, up to the one with which `limit` live ones are complete.
    fn range(&self, range: &Range, direction: Direction, limit: usize) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let empty = BTreeMap::new();
        let leaving = self.leaving.as_ref().map_or(&empty, |leaving| &leaving.rows);
        let mut newer = walk(&self.fresh.rows, range, direction);
        let mut older = walk(leaving, range, direction);
        let (mut found, mut live) = (Vec::new(), 0);
        while live < limit
            && let Some((key, value)) = first_of(&mut newer, &mut older, direction, |row| row.0)
        {
            live += usize::from(value.is_some());
            found.push((key.clone(), value.clone()));
        }
        found
    }
}

type Range = (std::ops::Bound<Vec<u8>>, std::ops::Bound<Vec<u8>>);
type Row<'a> = (&'a Vec<u8>, &'a Option<Vec<u8>>);

fn walk<'a>(
    rows: &'a BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    range: &Range,
    direction: Direction,
) -> Peekable<Box<dyn Iterator<Item = Row<'a>> + 'a>> {
    let range = rows.range::<Vec<u8>, _>((range.0.as_ref(), range.1.as_ref()));
    let rows: Box<dyn Iterator<Item = Row<'a>>> = match direction {
        Direction::Forward => Box::new(range),
        Direction::Backward => Box::new(range.rev()),
    };
    rows.peekable()
}

/// The next of two sorted sequences; of equal keys the newer counts and the older is dropped.
fn first_of<T>(
    newer: &mut Peekable<impl Iterator<Item = T>>,
    older: &mut Peekable<impl Iterator<Item = T>>,
    direction: Direction,
    key: impl Fn(&T) -> &Vec<u8>,
) -> Option<T> {
    let order = match (newer.peek(), older.peek()) {
        (Some(newer), Some(older)) => key(newer).cmp(key(older)),
        (Some(_), None) => return newer.next(),
        (None, _) => return older.next(),
    };
    let order = if direction == Direction::Backward { order.reverse() } else { order };
    if order.is_gt() {
        return older.next();
    }
    if order.is_eq() {
        older.next();
    }
    newer.next()
}

#[derive(Debug, Default)]
struct State {
    /// Rows are to be brought to the engine.
    wanted: bool,
    closed: bool,
    /// The engine refused rows: it takes no more.
    failed: Option<EngineError>,
}

/// What the thread and its owner share. Whoever needs both locks takes `state` first.
#[derive(Debug)]
struct Shared {
    inner: Arc<dyn Engine>,
    flow: Flow,
    tables: RwLock<Tables>,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn tables(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn tables_mut(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings rows to the engine.
    fn deliver(&self, rows: &Batch) -> Result<(), EngineError> {
        let written = self.inner.write(rows, &[], self.flow.durability);
        if written.is_ok() {
            let mut tables = self.tables_mut();
            tables.leaving = None;
            tables.delivered = tables.newest_leaving;
        }
        let mut state = self.state();
        if let Err(error) = &written {
            state.failed = Some(error.clone());
        }
        self.changed.notify_all();
        written
    }

    /// The thread's whole life.
    fn run(&self) {
        loop {
            let mut state = self.state();
            while !state.wanted && !state.closed {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closed {
                return;
            }
            state.wanted = false;
            drop(state);
            let leaving = self.tables().leaving.clone();
            if let Some(rows) = leaving
                && let Err(error) = self.deliver(&rows)
            {
                tracing::error!(%error, "the engine takes no more rows; the log has them");
            }
        }
    }

    /// Waits until the engine has what is on its way.
    fn settle(&self) -> Result<(), EngineError> {
        let mut state = self.state();
        loop {
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            if self.tables().leaving.is_none() {
                return Ok(());
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Sends the fresh rows on their way if they are many and the engine is free; waits for it if they are too many.
    fn relieve(&self) -> Result<(), EngineError> {
        if self.tables().is_over(self.flow, AHEAD) {
            self.settle()?;
        }
        let mut tables = self.tables_mut();
        if !tables.is_over(self.flow, 1) || tables.leaving.is_some() {
            return Ok(());
        }
        tables.turn();
        drop(tables);
        self.state().wanted = true;
        self.changed.notify_all();
        Ok(())
    }

    /// A page of what was here when it began, unless a turn came between.
    fn page(
        &self,
        tables: &Tables,
        prefix: &[u8],
        from: Option<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> PageRead<'_> {
        let range = bounds(prefix, from, direction);
        let fresh = if is_empty_range(&range.0, &range.1) {
            Vec::new()
        } else {
            tables.range(&range, direction, limit)
        };
        PageRead {
            inner: self.inner.as_ref(),
            prefix: prefix.to_vec(),
            from: from.map(<[u8]>::to_vec),
            direction,
            limit,
            fresh,
        }
    }
}

/// A page of which the rows in memory are known.
struct PageRead<'a> {
    inner: &'a dyn Engine,
    prefix: Vec<u8>,
    from: Option<Vec<u8>>,
    direction: Direction,
    limit: usize,
    fresh: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl PageRead<'_> {
    /// Reads the engine's rows and lays those in memory over them.
    fn finish(self) -> Result<Vec<Pair>, EngineError> {
        let Self { inner, prefix, mut from, direction, limit, fresh } = self;
        let mut newer = fresh.into_iter().peekable();
        let mut older = Vec::new().into_iter().peekable();
        let (mut page, mut ended) = (Vec::new(), false);
        while page.len() < limit {
            if older.peek().is_none() && !ended {
                let want = limit - page.len();
                let read = inner.page(&prefix, from.as_deref(), direction, want)?;
                ended = read.len() < want;
                from = read.last().map(|(key, _)| key.clone()).or(from);
                let read: Vec<_> = read.into_iter().map(|(key, value)| (key, Some(value))).collect();
                older = read.into_iter().peekable();
            }
            match first_of(&mut newer, &mut older, direction, |row| &row.0) {
                Some((key, Some(value))) => page.push((key, value)),
                Some((_, None)) => {}
                None => break,
            }
        }
        Ok(page)
    }
}

/// An engine behind rows held in memory. One writer at a time, as for any engine.
#[derive(Debug)]
pub(crate) struct Buffered {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Buffered {
    /// Puts an engine behind memory.
    ///
    /// # Errors
    /// If the system starts no thread.
    pub(crate) fn start(inner: Arc<dyn Engine>, flow: Flow) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            inner,
            flow,
            tables: RwLock::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("kith-rows".into()).spawn(move || theirs.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Takes rows into memory, and sends what is there on its way if it is enough. Their number is larger than those of all
    /// rows before.
    ///
    /// # Errors
    /// [`EngineError`] if the engine refused rows before.
    pub(crate) fn take(&self, batch: Batch, number: u64) -> Result<(), EngineError> {
        if let Some(error) = &self.shared.state().failed {
            return Err(error.clone());
        }
        let mut tables = self.shared.tables_mut();
        tables.put(batch);
        tables.newest = number;
        drop(tables);
        self.shared.relieve()
    }

    /// The number of the newest rows the engine has taken as durably as the flow says; 0 if none has gone over.
    pub(crate) fn delivered(&self) -> u64 {
        self.shared.tables().delivered
    }
}

impl Engine for Buffered {
    fn kind(&self) -> EngineKind {
        self.shared.inner.kind()
    }

    fn write(
        &self,
        batch: &Batch,
        preconditions: &[Precondition],
        durability: Durability,
    ) -> Result<(), EngineError> {
        for condition in preconditions {
            if !condition.holds(self.get(condition.key())?.as_deref()) {
                return Err(EngineError::Precondition { key: condition.key().to_vec() });
            }
        }
        self.take(batch.clone(), 0)?;
        match durability {
            Durability::Durable => self.sync(),
            Durability::Lazy => Ok(()),
        }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        if let Some(found) = self.shared.tables().find(key) {
            return Ok(found.clone());
        }
        self.shared.inner.get(key)
    }

    fn get_all(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
        let tables = self.shared.tables();
        let mut values: Vec<_> = keys.iter().map(|key| tables.find(key).cloned()).collect();
        drop(tables);
        let unknown: Vec<&[u8]> =
            keys.iter().zip(&values).filter(|(_, value)| value.is_none()).map(|(key, _)| *key).collect();
        let mut found = self.shared.inner.get_all(&unknown)?.into_iter();
        for value in values.iter_mut().filter(|value| value.is_none()) {
            *value = found.next();
        }
        Ok(values.into_iter().map(Option::flatten).collect())
    }

    fn page(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Pair>, EngineError> {
        let shared = &self.shared;
        for _ in 1..TRIES {
            let tables = shared.tables();
            let turns = tables.turns;
            let read = shared.page(&tables, prefix, from, direction, limit);
            drop(tables);
            let page = read.finish()?;
            // else the engine may have rows that are newer than the ones seen in memory
            if shared.tables().turns == turns {
                return Ok(page);
            }
        }
        let tables = shared.tables();
        shared.page(&tables, prefix, from, direction, limit).finish()
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.shared.settle()?;
        let mut tables = self.shared.tables_mut();
        if !tables.fresh.rows.is_empty() {
            let rows = tables.turn();
            drop(tables);
            self.shared.deliver(&rows)?;
        }
        self.shared.inner.sync()
    }

    fn stats(&self) -> Result<EngineStats, EngineError> {
        self.shared.inner.stats()
    }

    fn check(&self) -> Result<(), EngineError> {
        self.shared.inner.check()
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.changed.notify_all();
        // the engine closes before anyone is told that the store is closed
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that brings rows to the engine ended with a panic");
        }
    }
}

#[cfg(test)]
mod tests;
