//! An engine on disk behind memory and a journal: a group of rows is acknowledged once it is on disk in the journal, and
//! reaches the engine with many others, in a thread of its own.
//!
//! The engine has, on disk, all groups up to the number it keeps beside the rows, and perhaps some rows of later ones (sled
//! takes them in parts). The journal has all later groups. As rows are always written whole, bringing over the journal's
//! groups again makes the same store whatever part of them was there.

use std::path::PathBuf;
use std::sync::Arc;

use super::codec::{self, damaged};
use super::journal::{self, Journal};
use super::kv::{KvConfig, failed};
use super::{MailboxStoreError, kv};
use crate::config::EngineKind;
use crate::engine::{self, Batch, Buffered, Durability, Engine, Flow};
use crate::private;

/// Rows that wait in memory before redb is given them: the more, the fewer of its pages are written twice.
const ROWS: usize = 32 * 1024;
/// And their bytes.
const BYTES: usize = 4 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Backed {
    /// With the rows in memory.
    engine: Arc<Buffered>,
    journal: Journal,
}

/// The journal's folder.
pub(super) fn folder(config: &KvConfig) -> PathBuf {
    config.folder.join(format!("{}-journal", config.engine.name()))
}

fn io(error: std::io::Error) -> MailboxStoreError {
    MailboxStoreError::Unavailable(format!("the journal: {error}"))
}

fn flow(kind: EngineKind) -> Flow {
    let rows = if kind == EngineKind::Sled { Flow::ROWS } else { ROWS };
    Flow { rows, bytes: BYTES, durability: Durability::Durable }
}

/// The newest group whose rows an engine that was just opened has.
fn newest(engine: &dyn Engine) -> Result<u64, MailboxStoreError> {
    engine.get(codec::NUMBER).map_err(failed)?.map_or(Ok(0), |value| codec::from_plain(codec::NUMBER, &value))
}

/// Brings to an engine what only the journal has.
fn recover(config: &KvConfig, engine: &dyn Engine) -> Result<u64, MailboxStoreError> {
    let flow = flow(config.engine);
    let mut rows = Batch::default();
    let mut bytes = 0_usize;
    let found = journal::recover(&folder(config), newest(engine)?, |_, group: Batch| {
        bytes = bytes.saturating_add(group.bytes());
        rows.rows.extend(group.rows);
        if rows.rows.len() >= flow.rows || bytes >= flow.bytes {
            engine.write(&std::mem::take(&mut rows), &[], Durability::Durable).map_err(Failed::Engine)?;
            bytes = 0;
        }
        Ok(())
    });
    let found = found.map_err(|error| match error {
        Failed::Engine(error) => failed(error),
        Failed::Journal(error) => io(error),
    })?;
    if !rows.rows.is_empty() {
        engine.write(&rows, &[], Durability::Durable).map_err(failed)?;
    }
    if found.missing > 0 || found.unreadable > 0 {
        tracing::error!(
            missing = found.missing,
            unreadable_files = found.unreadable,
            "the journal is damaged: rows may be missing; `kith-relay audit` names them"
        );
    }
    if found.groups > 0 {
        tracing::info!(groups = found.groups, "brought over from the journal what came last");
    }
    Ok(found.last)
}

enum Failed {
    Engine(engine::EngineError),
    Journal(std::io::Error),
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::Journal(error)
    }
}

impl Backed {
    /// Opens both, made if they do not exist.
    pub(super) fn open(config: &KvConfig) -> Result<Self, MailboxStoreError> {
        private::make_folder(&config.folder).map_err(|error| {
            MailboxStoreError::Unavailable(format!("{}: {error}", config.folder.display()))
        })?;
        let folder_of_engine = config.folder.join(config.engine.name());
        let inner = engine::open(config.engine, &folder_of_engine, config.cache_bytes).map_err(failed)?;
        kv::check_version(inner.as_ref())?;
        if let Some(owner) = config.owner {
            kv::check_owner(inner.as_ref(), owner)?;
        }
        let last = recover(config, inner.as_ref())?;
        let journal = Journal::begin(&folder(config), last).map_err(io)?;
        let engine = Buffered::start(inner, flow(config.engine)).map_err(io)?;
        Ok(Self { engine: Arc::new(engine), journal })
    }

    pub(super) fn engine(&self) -> Arc<dyn Engine> {
        Arc::<Buffered>::clone(&self.engine)
    }

    /// Writes rows so that they would survive a power cut.
    pub(super) fn write(&mut self, mut rows: Batch) -> Result<(), MailboxStoreError> {
        // sled shows rows before they are on disk: what it has is not asked of it, but of who waited for it
        if self.journal.wants_file() && !self.journal.turn(self.engine.delivered()).map_err(io)? {
            self.engine.sync().map_err(failed)?;
            if !self.journal.turn(self.engine.delivered()).map_err(io)? {
                return Err(damaged("the engine does not keep what it is given"));
            }
        }
        let number = self.journal.next();
        rows.put(codec::NUMBER.to_vec(), codec::plain(codec::NUMBER, &number)?);
        self.journal.append(&rows).map_err(io)?;
        self.engine.take(rows, number).map_err(failed)
    }

    /// Ends in order: the engine has everything then, and there is no journal.
    pub(super) fn close(self) -> Result<(), MailboxStoreError> {
        self.engine.sync().map_err(failed)?;
        self.journal.remove().map_err(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Direction;

    fn config(folder: &std::path::Path, engine: EngineKind) -> KvConfig {
        KvConfig { engine, owner: None, folder: folder.to_owned(), cache_bytes: 1 << 20, min_free: 0 }
    }

    fn key(n: u32) -> Vec<u8> {
        [b"m".as_slice(), &n.to_be_bytes()].concat()
    }

    fn group(number: u32) -> Batch {
        let mut rows = Batch::default();
        for n in 0..40 {
            rows.put(key(number * 20 + n), number.to_be_bytes().repeat(200));
        }
        if number >= 5 {
            rows.delete(key((number - 5) * 20));
        }
        rows
    }

    fn all(engine: &dyn Engine) -> Vec<engine::Pair> {
        engine.page(b"m", None, Direction::Forward, usize::MAX).unwrap()
    }

    /// A dropped store is one whose process was killed: what waits in memory is gone.
    fn killed_again_and_again(kind: EngineKind) {
        let (folder, reference) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut expected = Batch::default();
        let mut number = 0;
        // enough to go round all files
        for groups in [0, 1, 3, 400, 1_500, 50, 2] {
            let mut store = Backed::open(&config(folder.path(), kind)).unwrap();
            let left: Vec<_> = expected
                .rows
                .iter()
                .filter_map(|(key, value)| value.as_ref().map(|value| (key.clone(), value.clone())))
                .collect();
            assert_eq!(all(store.engine().as_ref()), left);
            for _ in 0..groups {
                expected.rows.extend(group(number).rows);
                store.write(group(number)).unwrap();
                number += 1;
            }
        }
        let store = Backed::open(&config(folder.path(), kind)).unwrap();
        store.close().unwrap();
        // closed in order, everything is in the engine
        std::fs::remove_dir_all(super::folder(&config(folder.path(), kind))).unwrap();
        let store = Backed::open(&config(folder.path(), kind)).unwrap();
        let mut once = Backed::open(&config(reference.path(), kind)).unwrap();
        once.write(expected).unwrap();
        assert_eq!(all(store.engine().as_ref()), all(once.engine().as_ref()));
    }

    #[test]
    fn a_store_knows_whose_it_is() {
        let folder = tempfile::tempdir().unwrap();
        for kind in [EngineKind::Redb, EngineKind::Sled] {
            let of = |owner: u8| KvConfig {
                owner: Some(kith_protocol::DeviceId([owner; 32])),
                ..config(folder.path(), kind)
            };
            // one that was made before owners were noted is the first one's
            drop(Backed::open(&config(folder.path(), kind)).unwrap());
            drop(Backed::open(&of(1)).unwrap());
            let refused = Backed::open(&of(2)).map(drop);
            assert!(matches!(refused, Err(MailboxStoreError::Refused(_))), "{refused:?}");
            drop(Backed::open(&of(1)).unwrap());
        }
    }

    #[test]
    fn redb_gets_from_the_journal_what_it_lacks() {
        killed_again_and_again(EngineKind::Redb);
    }

    #[test]
    fn sled_gets_from_the_journal_what_it_lacks() {
        killed_again_and_again(EngineKind::Sled);
    }
}
