//! Making a backup.

use kith_protocol::identity::KeyPair;
use kith_protocol::mailbox::{Row, RowKey, Totals};
use kith_protocol::{DeviceId, Wall};
use kith_store::mailbox::{Found, MailboxSnapshot, MailboxStore as _, MailboxStoreError, Read, StoredState};
use tokio::io::AsyncWrite;

use super::BackupError;
use super::format::{End, Head, Part, Sink, VERSION};
use super::record::Record;
use crate::folder::Folder;
use crate::observed::ObservedStore;

/// Rows read while writes wait.
const PAGE: usize = 256;
/// So few changed rows are read in the last moment, while writes wait,
const LAST: usize = 512;
/// or what there is after so many rounds.
const ROUNDS: usize = 16;
/// Tokens there may be.
const TOKENS: usize = 10_000;

/// A backup that was made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    /// When it was begun.
    pub made: Wall,
    /// The sums.
    pub totals: Totals,
    /// Bytes written.
    pub bytes: u64,
    /// Records written.
    pub records: u64,
    /// Rows that are damaged, and not in it.
    pub damaged: Vec<String>,
}

/// Writes a backup of this store and folder.
///
/// # Errors
/// [`BackupError`]. The reader of what was written by then is told, too.
pub async fn write(
    folder: &Folder,
    store: &ObservedStore,
    now: Wall,
    running: bool,
    to: &mut (dyn AsyncWrite + Send + Unpin),
) -> Result<Summary, BackupError> {
    let key = folder.read_key()?;
    let head = Head {
        version: VERSION,
        made: now,
        program: env!("CARGO_PKG_VERSION").into(),
        relay: DeviceId(KeyPair::from_seed(&key).public()),
        running,
        draining: folder.is_draining(),
        config: std::fs::read_to_string(folder.config())?,
        key,
    };
    if !store.look() {
        return Err(BackupError::Busy);
    }
    let _looking = Looking(store);
    let mut sink = Sink::new(to).await?;
    sink.part(&Part::Head(Box::new(head))).await?;
    let mut damaged = Vec::new();
    match rows(store, &mut sink, &mut damaged).await {
        Ok(state) => {
            let records = sink.records;
            let end = End { totals: state.totals, last: state.last, records };
            let (bytes, _) = sink.finish(end).await?;
            Ok(Summary { made: now, totals: state.totals, bytes, records, damaged })
        }
        Err(error) => {
            // whoever reads may be what failed
            let _ = sink.part(&Part::Failed(error.to_string())).await;
            Err(error)
        }
    }
}

struct Looking<'a>(&'a ObservedStore);

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.0.look_away();
    }
}

async fn rows(
    store: &ObservedStore,
    sink: &mut Sink<'_>,
    damaged: &mut Vec<String>,
) -> Result<StoredState, BackupError> {
    if let Some(snapshot) = store.snapshot().await? {
        return all_at_once(snapshot.as_ref(), sink, damaged).await;
    }
    let mut after = Vec::new();
    loop {
        let page = {
            let _quiet = store.quiet().await;
            store.scan(after, PAGE).await?
        };
        damaged.extend(page.damaged);
        for (key, row) in page.rows {
            put(sink, &key, Some(row)).await?;
        }
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    for _ in 0..ROUNDS {
        let changed = store.changed().ok_or(BackupError::TooFast)?;
        let few = changed.len() <= LAST;
        for keys in changed.chunks(PAGE) {
            let found = {
                let _quiet = store.quiet().await;
                read(store, keys).await?
            };
            write_found(sink, found, damaged).await?;
        }
        if few {
            break;
        }
    }
    let (found, tokens, state) = {
        let _quiet = store.quiet().await;
        let changed = store.changed().ok_or(BackupError::TooFast)?;
        let mut found = Vec::new();
        for keys in changed.chunks(PAGE) {
            found.extend(read(store, keys).await?);
        }
        (found, store.read(vec![Read::Tokens { max: TOKENS }]).await?.pop(), store.state().await?)
    };
    write_found(sink, found, damaged).await?;
    write_tokens(sink, tokens, damaged).await?;
    sink.flush().await?;
    Ok(state)
}

/// The rows of a store that other processes change, too.
async fn all_at_once(
    snapshot: &dyn MailboxSnapshot,
    sink: &mut Sink<'_>,
    damaged: &mut Vec<String>,
) -> Result<StoredState, BackupError> {
    let mut after = Some(Vec::new());
    while let Some(from) = after {
        let page = snapshot.scan(from, PAGE).await?;
        damaged.extend(page.damaged);
        for (key, row) in page.rows {
            put(sink, &key, Some(row)).await?;
        }
        after = page.next;
    }
    let tokens = snapshot.read(vec![Read::Tokens { max: TOKENS }]).await?.pop();
    write_tokens(sink, tokens, damaged).await?;
    sink.flush().await?;
    Ok(snapshot.state().await?)
}

async fn write_tokens(
    sink: &mut Sink<'_>,
    tokens: Option<Found>,
    damaged: &mut Vec<String>,
) -> Result<(), BackupError> {
    match tokens {
        Some(Found::Rows(rows)) => {
            for (key, row) in rows {
                put(sink, &key, Some(row)).await?;
            }
        }
        Some(Found::Damaged(what)) => damaged.push(what),
        _ => return Err(MailboxStoreError::Damaged("the tokens cannot be listed".into()).into()),
    }
    Ok(())
}

async fn read(store: &ObservedStore, keys: &[RowKey]) -> Result<Vec<(RowKey, Found)>, BackupError> {
    let wanted = |key: &&RowKey| !matches!(key, RowKey::Due(..) | RowKey::Visit(..) | RowKey::Work(..));
    let keys: Vec<RowKey> = keys.iter().filter(wanted).copied().collect();
    let found = store.read(keys.iter().copied().map(Read::Row).collect()).await?;
    Ok(keys.into_iter().zip(found).collect())
}

async fn write_found(
    sink: &mut Sink<'_>,
    found: Vec<(RowKey, Found)>,
    damaged: &mut Vec<String>,
) -> Result<(), BackupError> {
    for (key, found) in found {
        match found {
            Found::Row(row) => put(sink, &key, row).await?,
            Found::Damaged(what) => damaged.push(what),
            _ => {}
        }
    }
    Ok(())
}

async fn put(sink: &mut Sink<'_>, key: &RowKey, row: Option<Row>) -> Result<(), BackupError> {
    if let Some(record) = Record::new(key, row) {
        sink.record(record).await?;
    }
    Ok(())
}
