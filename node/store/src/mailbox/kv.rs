//! A relay's rows in one of the engines of this crate: redb, sled, or memory.
//!
//! Reads are made where they are asked for: they come from memory, the engine's cache or the system's. Writes of a disk
//! engine are made by one thread, which waits until they are in the [journal](super::journal); those of the memory engine
//! are made at once, so that a simulator has no thread. After a failed write the engine is opened anew before the next one.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use futures::channel::oneshot;
use kith_protocol::mailbox::{Batch, Row, RowKey, Totals};
use kith_protocol::{DeviceId, Wall};

use super::backed::{self, Backed};
use super::codec::{self, damaged};
use super::query::{answers, row, scan};
use super::{
    Doing, Found, MailboxStore, MailboxStoreError, MailboxStoreStats, Read, ScanPage, StoredState, Written,
};
use crate::config::EngineKind;
use crate::disk;
use crate::engine::memory::MemoryDisk;
use crate::engine::{self, Durability, Engine, EngineError};

/// Writes waiting for the thread; the driver has one under way at a time.
const QUEUE: usize = 4;
/// sled's memory grows out of all proportion with its batches.
const SLED_ROWS: usize = 1_000;
const ROWS: usize = 8_000;

/// Where the rows are.
#[derive(Debug, Clone)]
pub struct KvConfig {
    /// Which engine.
    pub engine: EngineKind,
    /// The relay's id: a store that was made for another one is refused. `None`: whoever.
    pub owner: Option<DeviceId>,
    /// The store's own folder; each engine has one of its own in it, and one for its journal. Not used by memory.
    pub folder: PathBuf,
    /// Memory the engine may use to cache pages.
    pub cache_bytes: u64,
    /// Nothing is written when less than this is free.
    pub min_free: u64,
}

/// A store in an engine of this crate.
#[derive(Debug)]
pub struct KvStore {
    shared: Arc<Shared>,
    /// `None` in memory, and once closed.
    writer: Mutex<Option<SyncSender<Request>>>,
    in_memory: bool,
}

#[derive(Debug)]
struct Shared {
    config: Option<KvConfig>,
    kind: EngineKind,
    /// `None` after a failure, until it is opened anew, and once closed.
    engine: RwLock<Option<Arc<dyn Engine>>>,
    /// The same engine for its only writer; `None` in memory.
    backed: Mutex<Option<Backed>>,
    state: Mutex<StoredState>,
}

#[derive(Debug)]
enum Request {
    Write(Vec<Batch>, Wall, oneshot::Sender<Result<Written, MailboxStoreError>>),
    Close(oneshot::Sender<Result<(), MailboxStoreError>>),
}

pub(super) fn failed(error: EngineError) -> MailboxStoreError {
    match error {
        EngineError::Damaged { .. } => damaged(error.to_string()),
        EngineError::Gone => MailboxStoreError::Closed,
        EngineError::Io { .. } | EngineError::Busy { .. } | EngineError::Precondition { .. } => {
            MailboxStoreError::Unavailable(error.to_string())
        }
    }
}

impl KvStore {
    /// Opens a store on disk, made if it does not exist. It takes as long with many mailboxes as with none (but with
    /// sled, which reads its whole log).
    ///
    /// # Errors
    /// [`MailboxStoreError`].
    pub fn open(config: KvConfig) -> Result<Self, MailboxStoreError> {
        let kind = config.engine;
        if kind == EngineKind::Memory {
            return Self::memory(&MemoryDisk::default());
        }
        let backed = Backed::open(&config)?;
        let engine = backed.engine();
        let state = first_state(engine.as_ref())?;
        let shared = Arc::new(Shared {
            config: Some(config),
            kind,
            engine: RwLock::new(Some(engine)),
            backed: Mutex::new(Some(backed)),
            state: Mutex::new(state),
        });
        let (sender, receiver) = sync_channel(QUEUE);
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("mailbox-store".into())
            .spawn(move || of_thread.run(&receiver))
            .map_err(|error| MailboxStoreError::Unavailable(error.to_string()))?;
        Ok(Self { shared, writer: Mutex::new(Some(sender)), in_memory: false })
    }

    /// Opens a store on a memory disk.
    ///
    /// # Errors
    /// [`MailboxStoreError::Damaged`] if the disk holds something else.
    pub fn memory(disk: &MemoryDisk) -> Result<Self, MailboxStoreError> {
        let engine: Arc<dyn Engine> = Arc::new(disk.engine());
        check_version(engine.as_ref())?;
        let state = first_state(engine.as_ref())?;
        let shared = Arc::new(Shared {
            config: None,
            kind: EngineKind::Memory,
            engine: RwLock::new(Some(engine)),
            backed: Mutex::new(None),
            state: Mutex::new(state),
        });
        Ok(Self { shared, writer: Mutex::new(None), in_memory: true })
    }

    fn send(&self, request: Request) -> Result<(), MailboxStoreError> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = writer.as_ref().ok_or(MailboxStoreError::Closed)?;
        writer.try_send(request).map_err(|_| MailboxStoreError::Unavailable("too many writes at once".into()))
    }
}

/// Refuses a store of a newer layout, and notes the layout of this one.
pub(super) fn check_version(engine: &dyn Engine) -> Result<(), MailboxStoreError> {
    if let Some(value) = engine.get(codec::VERSION).map_err(failed)? {
        let found: u16 = codec::from_plain(codec::VERSION, &value)?;
        if found > codec::SCHEMA {
            return Err(MailboxStoreError::Newer { found, known: codec::SCHEMA });
        }
        if found == codec::SCHEMA {
            return Ok(());
        }
    }
    let mut batch = engine::Batch::default();
    batch.put(codec::VERSION.to_vec(), codec::plain(codec::VERSION, &codec::SCHEMA)?);
    engine.write(&batch, &[], Durability::Durable).map_err(failed)
}

/// Refuses the store of another relay, and notes whose it is: mailboxes belong to a key.
pub(super) fn check_owner(engine: &dyn Engine, owner: DeviceId) -> Result<(), MailboxStoreError> {
    if let Some(value) = engine.get(codec::OWNER).map_err(failed)? {
        let found: [u8; 32] = codec::from_plain(codec::OWNER, &value)?;
        if found == owner.0 {
            return Ok(());
        }
        let name =
            |id: DeviceId| id.peer_id().map_or_else(|| "without a name".into(), |peer| peer.to_string());
        return Err(MailboxStoreError::Refused(format!(
            "it is that of the relay {}, and relay.key is that of {}: put the key that belongs here back",
            name(DeviceId(found)),
            name(owner)
        )));
    }
    let mut batch = engine::Batch::default();
    batch.put(codec::OWNER.to_vec(), codec::plain(codec::OWNER, &owner.0)?);
    engine.write(&batch, &[], Durability::Durable).map_err(failed)
}

fn first_state(engine: &dyn Engine) -> Result<StoredState, MailboxStoreError> {
    let Some(value) = engine.get(codec::STATE).map_err(failed)? else { return Ok(StoredState::default()) };
    let (totals, last): (Totals, Option<Wall>) = codec::from_plain(codec::STATE, &value)?;
    Ok(StoredState { totals, last })
}

impl Shared {
    fn engine(&self) -> Result<Arc<dyn Engine>, MailboxStoreError> {
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        engine
            .clone()
            .ok_or_else(|| MailboxStoreError::Unavailable("it failed and is being opened anew".into()))
    }

    fn state(&self) -> StoredState {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, requests: &Receiver<Request>) {
        while let Ok(request) = requests.recv() {
            match request {
                Request::Write(batches, now, done) => {
                    let result = self.write(&batches, now);
                    // nobody waits any more: fine
                    let _ = done.send(result);
                }
                Request::Close(done) => {
                    let _ = done.send(self.close());
                    return;
                }
            }
        }
        if let Err(error) = self.close() {
            tracing::error!(%error, "the store did not close in order");
        }
    }

    fn backed(&self) -> MutexGuard<'_, Option<Backed>> {
        self.backed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) -> Result<(), MailboxStoreError> {
        let engine = self.engine.write().unwrap_or_else(PoisonError::into_inner).take();
        match self.backed().take() {
            Some(backed) => {
                drop(engine);
                backed.close()
            }
            None => engine.map_or(Ok(()), |engine| engine.sync()).map_err(failed),
        }
    }

    /// The engine, opened anew if it failed.
    fn working(&self) -> Result<Arc<dyn Engine>, MailboxStoreError> {
        if let Ok(engine) = self.engine() {
            return Ok(engine);
        }
        let config = self.config.as_ref().ok_or(MailboxStoreError::Closed)?;
        let backed = Backed::open(config)?;
        let engine = backed.engine();
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = first_state(engine.as_ref())?;
        *self.backed() = Some(backed);
        *self.engine.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&engine));
        tracing::warn!("the store works again");
        Ok(engine)
    }

    fn write(&self, batches: &[Batch], now: Wall) -> Result<Written, MailboxStoreError> {
        if let Some(config) = &self.config
            && let Some(free) = disk::free_bytes(&config.folder)
            && free < config.min_free
        {
            return Err(MailboxStoreError::NoSpace { free, needed: config.min_free });
        }
        let engine = self.working()?;
        match self.write_to(engine.as_ref(), batches, now) {
            Ok((state, conflicts)) => {
                if let Some(state) = state {
                    *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
                }
                Ok(Written { totals: state.map(|state| state.totals), conflicts })
            }
            Err(error) => {
                tracing::error!(%error, "a write failed");
                if matches!(error, MailboxStoreError::Unavailable(_)) {
                    self.give_up();
                }
                Err(error)
            }
        }
    }

    fn write_to(
        &self,
        engine: &dyn Engine,
        batches: &[Batch],
        now: Wall,
    ) -> Result<(Option<StoredState>, Vec<RowKey>), MailboxStoreError> {
        let (fit, conflicts) = sorted(engine, batches)?;
        if fit.is_empty() && !batches.is_empty() {
            return Ok((None, conflicts));
        }
        let (rows, state) = encode(engine, self.state(), &fit, now)?;
        let written = match self.backed().as_mut() {
            Some(backed) => backed.write(rows),
            None => engine.write(&rows, &[], Durability::Durable).map_err(failed),
        };
        if written.is_err() {
            // it may be in the journal and not in memory: nothing may be decided on what is in memory any more
            self.give_up();
        }
        written.map(|()| (Some(state), conflicts))
    }

    /// Has the engine opened anew before the next write.
    fn give_up(&self) {
        if self.config.is_some() {
            *self.engine.write().unwrap_or_else(PoisonError::into_inner) = None;
            *self.backed() = None;
        }
    }
}

fn version(engine: &dyn Engine, key: &RowKey) -> Result<Option<u64>, MailboxStoreError> {
    Ok(match row(engine, key)? {
        Some(Row::Mailbox(row)) => Some(row.version),
        Some(Row::Token(row)) => Some(row.version),
        _ => None,
    })
}

/// The batches of which everything expected holds, and what the others expected something of.
fn sorted<'a>(
    engine: &dyn Engine,
    batches: &'a [Batch],
) -> Result<(Vec<&'a Batch>, Vec<RowKey>), MailboxStoreError> {
    let (mut fit, mut conflicts) = (Vec::with_capacity(batches.len()), Vec::new());
    for batch in batches {
        let mut holds = true;
        for (key, expected) in &batch.expected {
            holds &= version(engine, key)? == *expected;
        }
        if holds {
            fit.push(batch);
        } else {
            conflicts.extend(batch.expected.iter().map(|(key, _)| *key));
        }
    }
    Ok((fit, conflicts))
}

/// What batches write, and the sums after them.
fn encode(
    engine: &dyn Engine,
    state: StoredState,
    batches: &[&Batch],
    now: Wall,
) -> Result<(engine::Batch, StoredState), MailboxStoreError> {
    let mut rows = engine::Batch::default();
    for (key, row) in batches.iter().flat_map(|batch| &batch.changes) {
        if matches!(key, RowKey::Envelope(..) | RowKey::Bundle(_)) {
            remove_chunks(engine, key, row.is_none(), &mut rows)?;
        }
        match row {
            Some(row) => {
                for (key, value) in codec::encode(key, row)? {
                    rows.put(key, value);
                }
            }
            None => rows.delete(codec::key(key)),
        }
    }
    let totals = batches.iter().fold(state.totals, |sum, batch| sum.plus(batch.totals));
    rows.put(codec::STATE.to_vec(), codec::plain(codec::STATE, &(totals, Some(now)))?);
    Ok((rows, StoredState { totals, last: Some(now) }))
}

/// What a row leaves beside its own key when it goes or is replaced. A cursor is never used twice.
fn remove_chunks(
    engine: &dyn Engine,
    key: &RowKey,
    gone: bool,
    rows: &mut engine::Batch,
) -> Result<(), MailboxStoreError> {
    if !gone && matches!(key, RowKey::Envelope(..)) {
        return Ok(());
    }
    let own = codec::key(key);
    let Some(value) = engine.get(&own).map_err(failed)? else { return Ok(()) };
    // a damaged row must not keep its mailbox from being emptied
    let chunks = codec::head(&own, &value).map_or(u8::MAX, |(count, _)| count);
    for chunk in (0..chunks).map_while(|number| codec::chunk_key(key, number)) {
        rows.delete(chunk);
    }
    Ok(())
}

impl MailboxStore for KvStore {
    fn name(&self) -> &str {
        self.shared.kind.name()
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn batch_rows(&self) -> usize {
        if self.shared.kind == EngineKind::Sled { SLED_ROWS } else { ROWS }
    }

    fn state(&self) -> Doing<'_, StoredState> {
        Box::pin(async { Ok(self.shared.state()) })
    }

    fn read(&self, reads: Vec<Read>) -> Doing<'_, Vec<Found>> {
        Box::pin(async move { answers(self.shared.engine()?.as_ref(), &reads) })
    }

    fn write(&self, batches: Vec<Batch>, now: Wall) -> Doing<'_, Written> {
        Box::pin(async move {
            if self.in_memory {
                return self.shared.write(&batches, now);
            }
            let (done, result) = oneshot::channel();
            self.send(Request::Write(batches, now, done))?;
            result.await.unwrap_or(Err(MailboxStoreError::Closed))
        })
    }

    fn stats(&self) -> Doing<'_, MailboxStoreStats> {
        Box::pin(async {
            let config = self.shared.config.as_ref();
            let journal = config.map_or(0, |config| disk::used_bytes(&backed::folder(config)));
            let bytes = self.shared.engine()?.stats().map_err(failed)?.bytes.saturating_add(journal);
            let free = config.and_then(|config| disk::free_bytes(&config.folder));
            Ok(MailboxStoreStats { bytes, free })
        })
    }

    fn scan(&self, after: Vec<u8>, max: usize) -> Doing<'_, ScanPage> {
        Box::pin(async move { scan(self.shared.engine()?.as_ref(), &after, max) })
    }

    fn close(&self) -> Doing<'_, ()> {
        Box::pin(async {
            if self.in_memory {
                return self.shared.close();
            }
            let (done, result) = oneshot::channel();
            self.send(Request::Close(done))?;
            *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = None;
            result.await.unwrap_or(Err(MailboxStoreError::Closed))
        })
    }
}
