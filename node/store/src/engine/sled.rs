//! sled 0.34.7. Alone it loses acknowledged data at a power cut; each guard here closes one hole.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use super::{Batch, Direction, Durability, Engine, EngineError, EngineStats, Pair, Precondition, bounds};
use crate::config::EngineKind;
use crate::disk;

const KIND: EngineKind = EngineKind::Sled;

#[derive(Debug)]
pub(super) struct SledEngine {
    db: sled::Db,
    /// Our own handle of sled's log: its flush on Linux is `sync_file_range`, which saves neither the file's length
    /// nor the disk's cache.
    log: File,
}

/// sled writes in threads of its own, too; redb has none.
pub(crate) fn is_own_thread(name: &str) -> bool {
    name.starts_with("sled-")
}

fn damaged(detail: impl Into<String>) -> EngineError {
    EngineError::Damaged { engine: KIND, detail: detail.into() }
}

fn io(error: &std::io::Error) -> EngineError {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData => damaged(error.to_string()),
        // sled wraps some of its own findings as "other"
        std::io::ErrorKind::Other if error.raw_os_error().is_none() => damaged(error.to_string()),
        _ => EngineError::Io { engine: KIND, detail: error.to_string() },
    }
}

fn failed(error: sled::Error) -> EngineError {
    match error {
        sled::Error::Io(error) => io(&error),
        sled::Error::Unsupported(detail) => EngineError::Io { engine: KIND, detail },
        sled::Error::Corruption { at, .. } => damaged(format!("corrupted data at {at:?}")),
        sled::Error::ReportableBug(detail) => damaged(detail),
        sled::Error::CollectionNotFound(_) => damaged("its only collection is missing"),
    }
}

impl SledEngine {
    pub(super) fn open(folder: &Path, cache_bytes: u64) -> Result<Self, EngineError> {
        // one process may close a store and open it again at once: sled's lock goes when its last thread does
        let mut tries = 0;
        let db = loop {
            // no timer thread: the storage thread says when to flush
            let config = sled::Config::new()
                .path(folder)
                .cache_capacity(cache_bytes)
                .flush_every_ms(None)
                .print_profile_on_drop(false);
            match config.open() {
                Ok(db) => break db,
                Err(sled::Error::Io(error)) if is_lock(&error) => {
                    tries += 1;
                    if tries > 40 {
                        return Err(EngineError::Busy { engine: KIND });
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
                // its settings file differs from what is asked for, which is always the same
                Err(sled::Error::Unsupported(detail)) => return Err(damaged(detail)),
                Err(error) => return Err(failed(error)),
            }
        };
        // `conf` is written once and never synced by sled; zero-filled it makes the store unopenable
        let sync = || -> std::io::Result<File> {
            File::open(folder.join("conf"))?.sync_all()?;
            let log = File::options().read(true).write(true).open(folder.join("db"))?;
            log.sync_all()?;
            disk::sync_folder(folder)?;
            if let Some(parent) = folder.parent() {
                disk::sync_folder(parent)?;
            }
            Ok(log)
        };
        let log = sync().map_err(|error| io(&error))?;
        Ok(Self { db, log })
    }

    fn make_durable(&self) -> Result<(), EngineError> {
        self.db.flush().map_err(failed)?;
        self.log.sync_data().map_err(|error| io(&error))
    }
}

fn is_lock(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::WouldBlock || error.to_string().contains("could not acquire lock")
}

impl Engine for SledEngine {
    fn kind(&self) -> EngineKind {
        KIND
    }

    fn write(
        &self,
        batch: &Batch,
        preconditions: &[Precondition],
        durability: Durability,
    ) -> Result<(), EngineError> {
        for condition in preconditions {
            let found = self.db.get(condition.key()).map_err(failed)?;
            if !condition.holds(found.as_deref()) {
                return Err(EngineError::Precondition { key: condition.key().to_vec() });
            }
        }
        let mut rows = sled::Batch::default();
        for (key, value) in &batch.rows {
            match value {
                Some(value) => rows.insert(key.as_slice(), value.as_slice()),
                None => rows.remove(key.as_slice()),
            }
        }
        self.db.apply_batch(rows).map_err(failed)?;
        match durability {
            Durability::Durable => self.make_durable(),
            Durability::Lazy => Ok(()),
        }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.db.get(key).map_err(failed)?.map(|value| value.to_vec()))
    }

    fn page(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Pair>, EngineError> {
        let (start, end) = bounds(prefix, from, direction);
        if super::is_empty_range(&start, &end) {
            return Ok(Vec::new());
        }
        let pair = |pair: sled::Result<(sled::IVec, sled::IVec)>| {
            pair.map(|(key, value)| (key.to_vec(), value.to_vec())).map_err(failed)
        };
        let range = self.db.range::<Vec<u8>, _>((start, end));
        match direction {
            Direction::Forward => range.take(limit).map(pair).collect(),
            Direction::Backward => range.rev().take(limit).map(pair).collect(),
        }
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.make_durable()
    }

    fn stats(&self) -> Result<EngineStats, EngineError> {
        Ok(EngineStats { bytes: self.db.size_on_disk().map_err(failed)? })
    }

    fn check(&self) -> Result<(), EngineError> {
        // sled has none that is safe to call on an open store; whoever checks reads every row
        Ok(())
    }
}

/// Copies a damaged sled folder without the files that can be made again (a damaged snapshot alone stops sled from
/// opening, and so do damaged settings, which are always the same), so that the copy may open where the original does
/// not.
pub(crate) fn copy_without_snapshots(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        let made_again = text.starts_with("snap.") || text.ends_with(".generating") || text == "conf";
        if entry.file_type()?.is_file() && !made_again {
            std::fs::copy(entry.path(), to.join(&name))?;
        }
    }
    std::fs::create_dir_all(to.join("blobs"))?;
    Ok(())
}
