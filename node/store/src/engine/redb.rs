//! redb: one file, one table, every commit immediately durable, repaired quickly after a kill.

use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition};

use super::{Batch, Direction, Durability, Engine, EngineError, EngineStats, Pair, Precondition, bounds};
use crate::config::EngineKind;
use crate::disk;

const KIND: EngineKind = EngineKind::Redb;
const TABLE: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("rows");
type Guard<'a> = redb::AccessGuard<'a, &'static [u8]>;
/// The file's name in the engine's folder.
pub(crate) const FILE: &str = "data.redb";

#[derive(Debug)]
pub(super) struct RedbEngine {
    /// Written only by the file check, which redb wants to have the database to itself.
    db: RwLock<Database>,
    path: std::path::PathBuf,
}

fn damaged(detail: impl Into<String>) -> EngineError {
    EngineError::Damaged { engine: KIND, detail: detail.into() }
}

fn io(error: &std::io::Error) -> EngineError {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData => damaged(error.to_string()),
        // a damaged page number makes redb ask the system for an offset that cannot be
        std::io::ErrorKind::InvalidInput => damaged(error.to_string()),
        _ => EngineError::Io { engine: KIND, detail: error.to_string() },
    }
}

fn failed(error: redb::Error) -> EngineError {
    match error {
        redb::Error::Io(error) => io(&error),
        redb::Error::DatabaseAlreadyOpen => EngineError::Busy { engine: KIND },
        redb::Error::PreviousIo | redb::Error::DatabaseClosed | redb::Error::TransactionInProgress => {
            EngineError::Io { engine: KIND, detail: error.to_string() }
        }
        other => damaged(other.to_string()),
    }
}

fn storage(error: StorageError) -> EngineError {
    failed(error.into())
}

impl RedbEngine {
    pub(super) fn open(folder: &Path, cache_bytes: u64) -> Result<Self, EngineError> {
        std::fs::create_dir_all(folder).map_err(|error| io(&error))?;
        let path = folder.join(FILE);
        let is_new = !path.try_exists().map_err(|error| io(&error))?;
        let cache = usize::try_from(cache_bytes).unwrap_or(usize::MAX);
        let mut tries = 0;
        let db = loop {
            let mut builder = Database::builder();
            builder.set_cache_size(cache);
            // an existing file is never taken for a new one, also if it is damaged to nothing
            let result = if is_new { builder.create(&path) } else { builder.open(&path) };
            match result {
                Ok(db) => break db,
                Err(DatabaseError::DatabaseAlreadyOpen) if tries < 40 => {
                    tries += 1;
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => return Err(failed(error.into())),
            }
        };
        let engine = Self { db: RwLock::new(db), path };
        // the table exists from the start, so that readers need not care
        engine.write(&Batch::default(), &[], Durability::Durable)?;
        disk::sync_folder(folder).map_err(|error| io(&error))?;
        if let Some(parent) = folder.parent() {
            disk::sync_folder(parent).map_err(|error| io(&error))?;
        }
        Ok(engine)
    }

    fn db(&self) -> RwLockReadGuard<'_, Database> {
        self.db.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for RedbEngine {
    fn kind(&self) -> EngineKind {
        KIND
    }

    /// Pages that lazy writes free are free for use only after the next durable one: whoever writes lazily syncs often.
    fn write(
        &self,
        batch: &Batch,
        preconditions: &[Precondition],
        durability: Durability,
    ) -> Result<(), EngineError> {
        let db = self.db();
        let mut transaction = db.begin_write().map_err(|error| failed(error.into()))?;
        let durability = match durability {
            Durability::Durable => redb::Durability::Immediate,
            Durability::Lazy => redb::Durability::None,
        };
        transaction.set_durability(durability).map_err(|error| failed(error.into()))?;
        // only what is durable is ever repaired
        transaction.set_quick_repair(matches!(durability, redb::Durability::Immediate));
        let mut refused = None;
        {
            let mut table = transaction.open_table(TABLE).map_err(|error| failed(error.into()))?;
            for condition in preconditions {
                let found = table.get(condition.key()).map_err(storage)?;
                if !condition.holds(found.as_ref().map(redb::AccessGuard::value)) {
                    refused = Some(condition.key().to_vec());
                    break;
                }
            }
            if refused.is_none() {
                for (key, value) in &batch.rows {
                    match value {
                        Some(value) => drop(table.insert(key.as_slice(), value.as_slice()).map_err(storage)?),
                        None => drop(table.remove(key.as_slice()).map_err(storage)?),
                    }
                }
            }
        }
        if let Some(key) = refused {
            transaction.abort().map_err(storage)?;
            return Err(EngineError::Precondition { key });
        }
        transaction.commit().map_err(|error| failed(error.into()))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        // held to the end, so that the file check never meets a reader
        let db = self.db();
        let read = db.begin_read().map_err(|error| failed(error.into()))?;
        let table = read.open_table(TABLE).map_err(|error| failed(error.into()))?;
        Ok(table.get(key).map_err(storage)?.map(|value| value.value().to_vec()))
    }

    fn get_all(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        // held to the end, so that the file check never meets a reader
        let db = self.db();
        let read = db.begin_read().map_err(|error| failed(error.into()))?;
        let table = read.open_table(TABLE).map_err(|error| failed(error.into()))?;
        let get = |key: &&[u8]| {
            table.get(*key).map(|value| value.map(|value| value.value().to_vec())).map_err(storage)
        };
        keys.iter().map(get).collect()
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
        // held to the end, so that the file check never meets a reader
        let db = self.db();
        let read = db.begin_read().map_err(|error| failed(error.into()))?;
        let table = read.open_table(TABLE).map_err(|error| failed(error.into()))?;
        let range = (start.as_ref().map(Vec::as_slice), end.as_ref().map(Vec::as_slice));
        let range = table.range::<&[u8]>(range).map_err(storage)?;
        let pair = |pair: Result<(Guard<'_>, Guard<'_>), StorageError>| {
            pair.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())).map_err(storage)
        };
        match direction {
            Direction::Forward => range.take(limit).map(pair).collect(),
            Direction::Backward => range.rev().take(limit).map(pair).collect(),
        }
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.write(&Batch::default(), &[], Durability::Durable)
    }

    fn stats(&self) -> Result<EngineStats, EngineError> {
        Ok(EngineStats { bytes: std::fs::metadata(&self.path).map_err(|error| io(&error))?.len() })
    }

    fn check(&self) -> Result<(), EngineError> {
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        match db.check_integrity() {
            Ok(true) => Ok(()),
            Ok(false) => Err(damaged("its checksums do not fit")),
            Err(error) => Err(failed(error.into())),
        }
    }
}
