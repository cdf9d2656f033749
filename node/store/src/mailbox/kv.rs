//! A relay's rows in one of the engines of this crate: redb, sled, or memory.
//!
//! Reads are made where they are asked for: they come from the engine's cache or the system's. Writes of a disk engine
//! are made by one thread, which waits for the disk; those of the memory engine are made at once, so that a simulator
//! has no thread. After a failed write the engine is opened anew before the next one.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use futures::channel::oneshot;
use kith_protocol::mailbox::{Batch, Row, RowKey, Totals};
use kith_protocol::wire::relay::Listed;
use kith_protocol::{MailboxId, Wall};

use super::codec::{self, damaged};
use super::{
    Doing, Found, MailboxStore, MailboxStoreError, MailboxStoreStats, Read, ScanPage, StoredState, Written,
};
use crate::config::EngineKind;
use crate::disk;
use crate::engine::memory::MemoryDisk;
use crate::engine::{self, Direction, Durability, Engine, EngineError};
use crate::private;

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
    /// The store's own folder; each engine has one of its own in it. Not used by memory.
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
    state: Mutex<StoredState>,
}

#[derive(Debug)]
enum Request {
    Write(Box<Batch>, Wall, oneshot::Sender<Result<Written, MailboxStoreError>>),
    Close(oneshot::Sender<Result<(), MailboxStoreError>>),
}

fn failed(error: EngineError) -> MailboxStoreError {
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
        let engine = open_engine(&config)?;
        let state = first_state(engine.as_ref())?;
        let shared = Arc::new(Shared {
            config: Some(config),
            kind,
            engine: RwLock::new(Some(engine)),
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
        let state = first_state(engine.as_ref())?;
        let shared = Arc::new(Shared {
            config: None,
            kind: EngineKind::Memory,
            engine: RwLock::new(Some(engine)),
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

fn open_engine(config: &KvConfig) -> Result<Arc<dyn Engine>, MailboxStoreError> {
    private::make_folder(&config.folder)
        .map_err(|error| MailboxStoreError::Unavailable(format!("{}: {error}", config.folder.display())))?;
    engine::open(config.engine, &config.folder.join(config.engine.name()), config.cache_bytes).map_err(failed)
}

fn first_state(engine: &dyn Engine) -> Result<StoredState, MailboxStoreError> {
    match engine.get(codec::VERSION).map_err(failed)? {
        Some(value) => {
            let found: u16 = codec::from_plain(codec::VERSION, &value)?;
            if found > codec::SCHEMA {
                return Err(MailboxStoreError::Newer { found, known: codec::SCHEMA });
            }
        }
        None => {
            let mut batch = engine::Batch::default();
            batch.put(codec::VERSION.to_vec(), codec::plain(codec::VERSION, &codec::SCHEMA)?);
            engine.write(&batch, &[], Durability::Durable).map_err(failed)?;
        }
    }
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
                Request::Write(batch, now, done) => {
                    let result = self.write(&batch, now);
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

    fn close(&self) -> Result<(), MailboxStoreError> {
        let engine = self.engine.write().unwrap_or_else(PoisonError::into_inner).take();
        engine.map_or(Ok(()), |engine| engine.sync()).map_err(failed)
    }

    /// The engine, opened anew if it failed.
    fn working(&self) -> Result<Arc<dyn Engine>, MailboxStoreError> {
        if let Ok(engine) = self.engine() {
            return Ok(engine);
        }
        let config = self.config.as_ref().ok_or(MailboxStoreError::Closed)?;
        let engine = open_engine(config)?;
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = first_state(engine.as_ref())?;
        *self.engine.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&engine));
        tracing::warn!("the store works again");
        Ok(engine)
    }

    fn write(&self, batch: &Batch, now: Wall) -> Result<Written, MailboxStoreError> {
        if let Some(config) = &self.config
            && let Some(free) = disk::free_bytes(&config.folder)
            && free < config.min_free
        {
            return Err(MailboxStoreError::NoSpace { free, needed: config.min_free });
        }
        let engine = self.working()?;
        match write(engine.as_ref(), self.state(), batch, now) {
            Ok(None) => Ok(Written::Conflict),
            Ok(Some(state)) => {
                *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
                Ok(Written::Done(state.totals))
            }
            Err(error) => {
                tracing::error!(%error, "a write failed");
                if self.config.is_some() && matches!(error, MailboxStoreError::Unavailable(_)) {
                    drop(engine);
                    *self.engine.write().unwrap_or_else(PoisonError::into_inner) = None;
                }
                Err(error)
            }
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

/// Writes a batch; `None` if something expected does not hold.
fn write(
    engine: &dyn Engine,
    state: StoredState,
    batch: &Batch,
    now: Wall,
) -> Result<Option<StoredState>, MailboxStoreError> {
    for (key, expected) in &batch.expected {
        if version(engine, key)? != *expected {
            return Ok(None);
        }
    }
    let mut rows = engine::Batch::default();
    for (key, row) in &batch.changes {
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
    let state = StoredState { totals: state.totals.plus(batch.totals), last: Some(now) };
    rows.put(codec::STATE.to_vec(), codec::plain(codec::STATE, &(state.totals, state.last))?);
    engine.write(&rows, &[], Durability::Durable).map_err(failed)?;
    Ok(Some(state))
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

fn row(engine: &dyn Engine, key: &RowKey) -> Result<Option<Row>, MailboxStoreError> {
    let own = codec::key(key);
    let Some(value) = engine.get(&own).map_err(failed)? else { return Ok(None) };
    codec::decode(key, &own, &value, |key| engine.get(key).map_err(failed)).map(Some)
}

fn keys(
    engine: &dyn Engine,
    prefix: &[u8],
    max: usize,
    wanted: impl Fn(&RowKey) -> bool,
) -> Result<Vec<RowKey>, MailboxStoreError> {
    let page = engine.page(prefix, None, Direction::Forward, max).map_err(failed)?;
    Ok(page.iter().map_while(|(key, _)| codec::parse_key(key).filter(&wanted)).collect())
}

fn rows(engine: &dyn Engine, prefix: &[u8], max: usize) -> Result<Vec<(RowKey, Row)>, MailboxStoreError> {
    let page = engine.page(prefix, None, Direction::Forward, max).map_err(failed)?;
    let mut rows = Vec::with_capacity(page.len());
    for (own, value) in page {
        if let Some(key) = codec::parse_key(&own) {
            rows.push((key, codec::decode(&key, &own, &value, |key| engine.get(key).map_err(failed))?));
        }
    }
    Ok(rows)
}

fn list(
    engine: &dyn Engine,
    mailbox: MailboxId,
    after: u64,
    max: usize,
) -> Result<Vec<Listed>, MailboxStoreError> {
    let from = codec::key(&RowKey::Envelope(mailbox, after));
    let page =
        engine.page(&codec::envelopes(&mailbox), Some(&from), Direction::Forward, max).map_err(failed)?;
    let mut listed = Vec::with_capacity(page.len());
    for (own, value) in &page {
        match codec::listed(own, value) {
            Ok(envelope) => listed.push(envelope),
            // one damaged row must not hide the others
            Err(error) => tracing::error!(%error, "an envelope is left out of a list"),
        }
    }
    Ok(listed)
}

/// All mailboxes' own rows, one jump for each.
fn mailboxes(
    engine: &dyn Engine,
    after: Option<MailboxId>,
    max: usize,
) -> Result<Vec<(RowKey, Row)>, MailboxStoreError> {
    let mut found = Vec::new();
    // beyond every row of the mailbox before
    let past = |id: &MailboxId| {
        let mut key = codec::key(&RowKey::Mailbox(*id));
        key.pop();
        key.push(u8::MAX);
        key
    };
    let mut from = after.as_ref().map(past);
    while found.len() < max {
        let page = engine.page(b"m", from.as_deref(), Direction::Forward, 1).map_err(failed)?;
        let Some((own, value)) = page.into_iter().next() else { break };
        let Some(id) = own.get(1..17).and_then(|id| MailboxId::try_from(id).ok()) else { break };
        let key = RowKey::Mailbox(id);
        if codec::parse_key(&own) == Some(key) {
            match codec::decode(&key, &own, &value, |_| Ok(None)) {
                Ok(row) => found.push((key, row)),
                Err(error) => tracing::error!(%error, "a mailbox is left out of a list"),
            }
        }
        from = Some(past(&id));
    }
    Ok(found)
}

fn answer(engine: &dyn Engine, read: &Read) -> Result<Found, MailboxStoreError> {
    Ok(match *read {
        Read::Row(key) => Found::Row(row(engine, &key)?),
        Read::List { mailbox, after, max } => Found::List(list(engine, mailbox, after, max)?),
        Read::Due { up_to, max } => Found::Keys(keys(
            engine,
            b"d",
            max,
            |key| matches!(key, RowKey::Due(hour, ..) if *hour <= up_to),
        )?),
        Read::Visits { up_to, max } => {
            Found::Keys(keys(engine, b"v", max, |key| matches!(key, RowKey::Visit(day, _) if *day <= up_to))?)
        }
        Read::Work { max } => Found::Rows(rows(engine, b"w", max)?),
        Read::Rest { mailbox, max } => {
            let mut found = Vec::new();
            for prefix in codec::rest(&mailbox) {
                let left = max.saturating_sub(found.len());
                found.extend(keys(engine, &prefix, left, |_| true)?);
            }
            Found::Keys(found)
        }
        Read::Mailboxes { after, max } => Found::Rows(mailboxes(engine, after, max)?),
        Read::Tokens { max } => Found::Rows(rows(engine, b"t", max)?),
    })
}

fn scan(engine: &dyn Engine, after: &[u8], max: usize) -> Result<ScanPage, MailboxStoreError> {
    let from = (!after.is_empty()).then_some(after);
    let page = engine.page(b"m", from, Direction::Forward, max).map_err(failed)?;
    let next = page.last().filter(|_| page.len() == max).map(|(key, _)| key.clone());
    let mut found = ScanPage { next, ..ScanPage::default() };
    for (own, value) in page {
        let Some(key) = codec::parse_key(&own) else { continue };
        match codec::decode(&key, &own, &value, |key| engine.get(key).map_err(failed)) {
            Ok(row) => found.rows.push((key, row)),
            Err(MailboxStoreError::Damaged(what)) => found.damaged.push(what),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
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
        Box::pin(async move {
            let engine = self.shared.engine()?;
            let answers = reads.iter().map(|read| match answer(engine.as_ref(), read) {
                Err(MailboxStoreError::Damaged(what)) => {
                    tracing::error!("the store is damaged: {what}");
                    Ok(Found::Damaged(what))
                }
                other => other,
            });
            answers.collect()
        })
    }

    fn write(&self, batch: Batch, now: Wall) -> Doing<'_, Written> {
        Box::pin(async move {
            if self.in_memory {
                return self.shared.write(&batch, now);
            }
            let (done, result) = oneshot::channel();
            self.send(Request::Write(Box::new(batch), now, done))?;
            result.await.unwrap_or(Err(MailboxStoreError::Closed))
        })
    }

    fn stats(&self) -> Doing<'_, MailboxStoreStats> {
        Box::pin(async {
            let bytes = self.shared.engine()?.stats().map_err(failed)?.bytes;
            let free = self.shared.config.as_ref().and_then(|config| disk::free_bytes(&config.folder));
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
