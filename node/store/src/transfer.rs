//! A whole store from one place to another: into another engine, into itself without the waste, into a sealed file
//! and back.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use kith_protocol::record::{Change, Row};
use thiserror::Error;

use crate::codec::{Codec, FIRST_INDEX, FIRST_ROW, decode_rows, encode_rows};
use crate::config::{EngineKind, OpenError, StoreConfig};
use crate::disk;
use crate::engine::{self, Batch, Direction, Durability, Engine, EngineError};
use crate::keys::{KeyError, MasterKey, Stretch};
use crate::log::{Header, Kind, encode_record, read_record};
use crate::open::{self, current};
use crate::private;
use crate::store::Store;
use crate::ticket::CommitError;

/// Starts an exported file.
const MAGIC: &[u8; 12] = b"KITHEXPORT1\n";
/// Rows in one record of an exported file.
const ROWS: usize = 32;
/// Pairs copied between engines at a time.
const PAIRS: usize = 500;

/// Why a store could not be moved. What was there before is still there.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The store could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A commit was refused.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Rows live in memory only.
    #[error("a store in memory has no files")]
    Memory,
    /// The disk is too full for a second copy.
    #[error("{needed} bytes are needed for the new copy and {free} are free: free some space")]
    NoSpace {
        /// Bytes free.
        free: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// A file could not be read or written.
    #[error("cannot use {path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: std::path::PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A row could not be read; the check says which.
    #[error("a row cannot be read ({0}); run `kith store check` first")]
    Row(String),
    /// The file is no export, or is cut short or changed.
    #[error("{0} is not a whole export of a Kith store")]
    NotAnExport(std::path::PathBuf),
    /// Another passphrase or key sealed it.
    #[error("the passphrase or key does not fit this export")]
    WrongKey,
    /// The store to import into has rows already.
    #[error("the store in {0} is not empty: import into a new data folder")]
    NotEmpty(std::path::PathBuf),
}

/// What moving a store came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferReport {
    /// Engine before.
    pub from: EngineKind,
    /// Engine now.
    pub to: EngineKind,
    /// Rows, with their chunks and indexes.
    pub pairs: u64,
    /// Bytes of the engine's files before.
    pub bytes_before: u64,
    /// Bytes of the engine's files now.
    pub bytes_after: u64,
}

/// What seals an exported file.
#[derive(Debug, Clone)]
pub enum ExportKey {
    /// Something a person remembers.
    Passphrase(String),
    /// A key kept elsewhere.
    Key(MasterKey),
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> TransferError {
    let path = path.to_owned();
    move |source| TransferError::Io { path, source }
}

/// Moves a closed store into another engine. Cut off at any moment, the store is whole, in one engine or the other.
///
/// # Errors
/// [`TransferError`]; the store is as it was.
pub fn migrate(config: &StoreConfig, to: EngineKind) -> Result<TransferReport, TransferError> {
    if config.engine == EngineKind::Memory || to == EngineKind::Memory {
        return Err(TransferError::Memory);
    }
    let path = &config.path;
    let mut opened = open::open(config)?;
    opened.writer.close()?;
    let from = opened.core.engine.as_ref();
    let bytes_before = from.stats()?.bytes;
    if let Some(free) = disk::free_bytes(path) {
        let needed = bytes_before.saturating_mul(2).saturating_add(config.min_free_bytes);
        if free < needed {
            return Err(TransferError::NoSpace { free, needed });
        }
    }
    let old = match current::find(path)? {
        current::Found::Named(current) => current,
        current::Found::Guessed(_) => return Err(TransferError::Memory),
    };
    let number = current::next_number(path)?;
    let fresh = current::Current { engine: to, number, key_check: old.key_check };
    let draft = path.join(format!("new-{}", current::folder_name(to, number)));
    let pairs = copy_pairs(from, to, &draft, config.cache_bytes)?;
    std::fs::rename(&draft, fresh.folder(path))
        .and_then(|()| disk::sync_folder(path))
        .and_then(|()| fresh.write(path))
        .map_err(io_at(path))?;
    let report = TransferReport {
        from: from.kind(),
        to,
        pairs,
        bytes_before,
        bytes_after: disk::used_bytes(&fresh.folder(path)),
    };
    drop(opened);
    // the copy is whole, synced and named: the old rows are waste
    let waste = old.folder(path);
    std::fs::remove_dir_all(&waste).map_err(io_at(&waste))?;
    Ok(report)
}

/// Rewrites a closed store into the same engine: what was deleted takes no more space.
///
/// # Errors
/// [`TransferError`]; the store is as it was.
pub fn compact(config: &StoreConfig) -> Result<TransferReport, TransferError> {
    let engine = match current::find(&config.path)? {
        current::Found::Named(current) => current.engine,
        current::Found::Guessed(Some((engine, _))) => engine,
        current::Found::Guessed(None) => config.engine,
    };
    migrate(config, engine)
}

/// Copies all pairs into a fresh engine and reads them back.
fn copy_pairs(from: &dyn Engine, to: EngineKind, draft: &Path, cache: u64) -> Result<u64, TransferError> {
    let fresh = engine::open(to, draft, cache)?;
    let mut pairs = 0_u64;
    let mut cursor: Option<Vec<u8>> = None;
    loop {
        let page = from.page(&[], cursor.as_deref(), Direction::Forward, PAIRS)?;
        let Some((last, _)) = page.last() else { break };
        cursor = Some(last.clone());
        let mut batch = Batch::default();
        for (key, value) in page {
            pairs = pairs.saturating_add(1);
            batch.put(key, value);
        }
        fresh.write(&batch, &[], Durability::Lazy)?;
    }
    fresh.sync()?;
    let mut cursor: Option<Vec<u8>> = None;
    loop {
        let page = from.page(&[], cursor.as_deref(), Direction::Forward, PAIRS)?;
        if fresh.page(&[], cursor.as_deref(), Direction::Forward, PAIRS)? != page {
            let detail = "what was written is not what is read back".to_owned();
            return Err(EngineError::Damaged { engine: to, detail }.into());
        }
        match page.last() {
            Some((last, _)) => cursor = Some(last.clone()),
            None => return Ok(pairs),
        }
    }
}

/// Writes all rows into a sealed file. Commits wait meanwhile, so the file holds one moment. Returns the number of rows.
///
/// # Errors
/// [`TransferError`]; a file that was there before is as it was.
pub fn export(store: &Store, file: &Path, key: &ExportKey) -> Result<u64, TransferError> {
    let (codec, stretch) = match key {
        ExportKey::Key(key) => (Codec::new(key), None),
        ExportKey::Passphrase(text) => {
            let stretch = Stretch::random()?;
            (Codec::new(&stretch.key(text)?), Some(stretch))
        }
    };
    let reader = store.reader();
    let path = file.to_owned();
    store.between(move |_| {
        let mut draft = path.clone().into_os_string();
        draft.push(".new");
        let draft = Path::new(&draft);
        let out = private::make_file(draft).map_err(io_at(draft))?;
        let rows = write_export(&reader, &codec, stretch.as_ref(), &out, draft)?;
        out.sync_all().map_err(io_at(draft))?;
        std::fs::rename(draft, &path).map_err(io_at(&path))?;
        disk::sync_folder(path.parent().unwrap_or_else(|| Path::new(""))).map_err(io_at(&path))?;
        Ok(rows)
    })?
}

fn write_export(
    reader: &crate::StoreReader,
    codec: &Codec,
    stretch: Option<&Stretch>,
    out: &File,
    name: &Path,
) -> Result<u64, TransferError> {
    let mut out = BufWriter::new(out);
    let mut head = MAGIC.to_vec();
    match stretch {
        None => head.push(0),
        Some(stretch) => {
            head.push(1);
            head.extend_from_slice(&stretch.bytes());
        }
    }
    out.write_all(&head).map_err(io_at(name))?;
    let (mut records, mut count) = (0_u64, 0_u64);
    let mut write = |kind, number, plain: &[u8]| {
        let header = Header { kind, number, group: 0 };
        let payload =
            codec.seal_log(&header.bytes(), plain).map_err(|error| TransferError::Row(error.to_string()))?;
        let mut record = Vec::new();
        encode_record(header, &payload, &mut record).map_err(io_at(name))?;
        out.write_all(&record).map_err(io_at(name))
    };
    for space in FIRST_ROW..FIRST_INDEX {
        let mut from: Option<Vec<u8>> = None;
        loop {
            let page = reader
                .page(&[space], from.as_deref(), Direction::Forward, ROWS)
                .map_err(|error| TransferError::Row(error.to_string()))?;
            let Some((last, _)) = page.last() else { break };
            from = Some(last.clone());
            let rows = reader.open_page(&page).map_err(|error| TransferError::Row(error.to_string()))?;
            count = count.saturating_add(rows.len() as u64);
            let plain = encode_rows(&rows).map_err(|error| TransferError::Row(error.to_string()))?;
            write(Kind::Rows, records, &plain)?;
            records = records.saturating_add(1);
        }
    }
    write(Kind::End, records, &count.to_le_bytes())?;
    out.flush().map_err(io_at(name))?;
    Ok(count)
}

/// Fills a new store from an exported file. The file is read to its end before the first row is written. Returns
/// the number of rows.
///
/// # Errors
/// [`TransferError`] if the file is not whole, the key does not fit, or the store is not empty.
pub fn import(store: &Store, file: &Path, key: &ExportKey) -> Result<u64, TransferError> {
    let is_empty = store.between(|writer| writer.meta().rows == 0)?;
    if !is_empty {
        return Err(TransferError::NotEmpty(store.folder().unwrap_or_default()));
    }
    let codec = read_export(file, key, None, |_| Ok(()))?;
    let mut count = 0_u64;
    read_export(file, key, Some(codec), |rows| {
        count = count.saturating_add(rows.len() as u64);
        Ok(store.commit_lazy(rows.into_iter().map(Change::Put).collect()).wait()?)
    })?;
    store.sync().wait()?;
    Ok(count)
}

fn read_export(
    file: &Path,
    key: &ExportKey,
    codec: Option<Codec>,
    mut visit: impl FnMut(Vec<Row>) -> Result<(), TransferError>,
) -> Result<Codec, TransferError> {
    let not_whole = || TransferError::NotAnExport(file.to_owned());
    let mut input = BufReader::new(File::open(file).map_err(io_at(file))?);
    let mut head = [0; MAGIC.len() + 1];
    input.read_exact(&mut head).map_err(|_| not_whole())?;
    let mode = head.strip_prefix(MAGIC).and_then(|rest| rest.first()).ok_or_else(not_whole)?;
    let stretch = match mode {
        0 => None,
        1 => {
            let mut bytes = [0; Stretch::LEN];
            input.read_exact(&mut bytes).map_err(|_| not_whole())?;
            Some(Stretch::from_bytes(&bytes).ok_or_else(not_whole)?)
        }
        _ => return Err(not_whole()),
    };
    let codec = match (codec, stretch, key) {
        (Some(codec), _, _) => codec,
        (None, None, ExportKey::Key(key)) => Codec::new(key),
        (None, Some(stretch), ExportKey::Passphrase(text)) => Codec::new(&stretch.key(text)?),
        (None, None, ExportKey::Passphrase(_)) | (None, Some(_), ExportKey::Key(_)) => {
            return Err(TransferError::WrongKey);
        }
    };
    let (mut records, mut count) = (0_u64, 0_u64);
    loop {
        let (header, payload) = match read_record(&mut input) {
            Ok(Some(record)) => record,
            Ok(None) => return Err(not_whole()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(not_whole()),
            Err(error) => return Err(io_at(file)(error)),
        };
        // the checksum fits, so it is the key that does not
        let plain = codec.open_log(&header.bytes(), &payload).map_err(|_| TransferError::WrongKey)?;
        if header.number != records {
            return Err(not_whole());
        }
        match header.kind {
            Kind::Rows => {
                let rows = decode_rows(&plain).map_err(|error| TransferError::Row(error.to_string()))?;
                records = records.saturating_add(1);
                count = count.saturating_add(rows.len() as u64);
                visit(rows)?;
            }
            Kind::End if plain.as_slice() == count.to_le_bytes() => return Ok(codec),
            _ => return Err(not_whole()),
        }
    }
}
