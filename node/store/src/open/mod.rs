//! Opening a store: compare the engine with the export log, and restore it where it lost or damaged something.

pub(crate) mod current;
mod migrate;
mod restore;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use current::{Current, Found};

use crate::check;
use crate::codec::{Codec, CodecError, INDEXED_SINCE, OpenRowError, SCHEMA};
use crate::config::{EngineKind, OpenError, OpenReport, OpenStage, StoreConfig};
use crate::disk;
use crate::engine::{self, Buffered, Durability, Engine, Flow};
use crate::lock::DataLock;
use crate::log::{self, Commit, ExportLog, Listing, LogState};
use crate::reader::{Core, Suspect};
use crate::staging::{Meta, Staging, read_schema};
use crate::writer::{GROUP_ROWS, SpaceGuard, Writer};

/// Note of a run that saw damage.
const SUSPECT: &str = "suspect";
/// Less than this free and not even opening is tried.
const OPEN_FREE: u64 = 1024 * 1024;
/// Commits replayed into an engine that is behind; more than it may ever lack mean that it lost something.
const REPLAY: usize = 64 * 1024;

pub(crate) struct Opened {
    pub(crate) core: Arc<Core>,
    pub(crate) writer: Writer,
    pub(crate) report: OpenReport,
}

/// An engine that is fit for use.
pub(crate) struct Ready {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) meta: Meta,
    pub(crate) log_incomplete: bool,
    /// It holds records that must never be applied: it is rewritten before anything else.
    pub(crate) log_torn: bool,
    pub(crate) keep_in: Option<PathBuf>,
}

pub(crate) fn open(config: &StoreConfig) -> Result<Opened, OpenError> {
    if config.engine == EngineKind::Memory { open_memory(config) } else { open_disk(config) }
}

/// An engine's failure while opening, told apart from a codec's.
pub(crate) fn row_error(error: OpenRowError) -> OpenError {
    match error {
        OpenRowError::Engine(error) => OpenError::Engine(error),
        OpenRowError::Codec(CodecError::Schema(found)) => OpenError::Newer { found, known: SCHEMA },
        OpenRowError::Codec(error) => OpenError::Row(error.to_string()),
    }
}

fn open_memory(config: &StoreConfig) -> Result<Opened, OpenError> {
    let engine: Arc<dyn Engine> = Arc::new(config.memory.engine());
    let codec = Codec::new(&config.key);
    let mut report = OpenReport { engine: Some(EngineKind::Memory), ..OpenReport::default() };
    let meta = match Meta::read(engine.as_ref(), &codec) {
        Ok(Some(meta)) => meta,
        Ok(None) => {
            report.created = true;
            initialise(engine.as_ref(), &codec)?
        }
        Err(OpenRowError::Codec(_)) => return Err(OpenError::WrongKey(config.path.clone())),
        Err(error) => return Err(row_error(error)),
    };
    let schema = read_schema(engine.as_ref(), &codec).map_err(row_error)?.unwrap_or(0);
    if schema > SCHEMA {
        return Err(OpenError::Newer { found: schema, known: SCHEMA });
    }
    let meta = migrate::migrate(config, &codec, engine.as_ref(), meta, schema, &mut report)?;
    let core = Arc::new(Core { engine, codec, suspect: Suspect::new(None), _lock: None });
    let writer = Writer::without_log(Arc::clone(&core), meta);
    Ok(Opened { core, writer, report })
}

/// Writes the first rows of an empty engine.
pub(crate) fn initialise(engine: &dyn Engine, codec: &Codec) -> Result<Meta, OpenError> {
    let mut staging = Staging::new(engine, codec, Meta::default());
    staging.state_schema().map_err(row_error)?;
    let (batch, meta) = staging.finish().map_err(row_error)?;
    engine.write(&batch, &[], Durability::Durable)?;
    Ok(meta)
}

/// What lies in the engine's folder.
enum Examined {
    Good {
        engine: Arc<dyn Engine>,
        meta: Meta,
        schema: u16,
    },
    /// Opened, and nothing in it.
    Empty(Arc<dyn Engine>),
    /// Not to be used, but rows may be readable.
    Damaged {
        engine: Option<Arc<dyn Engine>>,
        reason: String,
    },
}

fn examine(kind: EngineKind, folder: &Path, codec: &Codec, cache: u64) -> Result<Examined, OpenError> {
    let engine = match engine::open(kind, folder, cache) {
        Ok(engine) => engine,
        Err(error) if error.is_damage() => {
            return Ok(Examined::Damaged { engine: None, reason: error.to_string() });
        }
        Err(error) => return Err(error.into()),
    };
    let meta = Meta::read(engine.as_ref(), codec);
    let schema = read_schema(engine.as_ref(), codec);
    match (meta, schema) {
        (Ok(Some(meta)), Ok(schema)) => {
            let schema = schema.unwrap_or(0);
            if schema > SCHEMA {
                return Err(OpenError::Newer { found: schema, known: SCHEMA });
            }
            Ok(Examined::Good { engine, meta, schema })
        }
        (Ok(None), Ok(None)) => match engine.page(&[], None, engine::Direction::Forward, 1) {
            Ok(page) if page.is_empty() => Ok(Examined::Empty(engine)),
            Ok(_) => {
                let reason = "its commit number is missing".to_owned();
                Ok(Examined::Damaged { engine: Some(engine), reason })
            }
            Err(error) => Ok(Examined::Damaged { engine: Some(engine), reason: error.to_string() }),
        },
        (Err(OpenRowError::Engine(error)), _) | (_, Err(OpenRowError::Engine(error)))
            if !error.is_damage() =>
        {
            Err(error.into())
        }
        (Err(error), _) | (_, Err(error)) => {
            Ok(Examined::Damaged { engine: Some(engine), reason: format!("its commit number: {error}") })
        }
        (Ok(None), Ok(Some(_))) => {
            let reason = "its commit number is missing".to_owned();
            Ok(Examined::Damaged { engine: Some(engine), reason })
        }
    }
}

fn open_disk(config: &StoreConfig) -> Result<Opened, OpenError> {
    let path = &config.path;
    let lock = DataLock::acquire(path)?;
    if let Some(free) = disk::free_bytes(path)
        && free < OPEN_FREE
    {
        return Err(OpenError::NoSpace { free, needed: OPEN_FREE });
    }
    current::remove_drafts(path)?;
    let codec = Codec::new(&config.key);
    let mut report = OpenReport::default();
    let ready = prepare(config, &codec, &mut report)?;
    report.engine = Some(ready.engine.kind());
    let mut log = ExportLog::open(
        &path.join(log::FOLDER),
        LogState {
            next: ready.meta.commit.saturating_add(1),
            incomplete: ready.log_incomplete,
            keep_in: ready.keep_in,
            least: config.export_min_bytes,
        },
    )
    .map_err(OpenError::io("cannot open the export log in", path))?;
    if ready.log_torn {
        log.rewrite();
    }
    // a store whose log is not whole could not be restored: that must not wait for the next commits
    while log.is_rewriting() {
        match log.tend(ready.engine.as_ref(), &codec, ready.meta.commit) {
            Ok(()) => {}
            Err(error) if ready.log_torn => {
                return Err(OpenError::io("cannot rewrite the export log in", path)(error));
            }
            // as on a full disk: the rows are sound and can be read
            Err(error) => {
                tracing::error!(%error, "the export log is damaged and could not be written anew; it is tried again later");
                report.log_missing = 0;
                break;
            }
        }
    }
    let suspect = path.join(SUSPECT);
    if suspect.exists() {
        std::fs::remove_file(&suspect).map_err(OpenError::io("cannot remove", &suspect))?;
    }
    let engine = Buffered::start(ready.engine, Flow::LAZY)
        .map_err(OpenError::io("cannot start a thread for the store in", path))?;
    let core = Arc::new(Core {
        engine: Arc::new(engine),
        codec,
        suspect: Suspect::new(Some(suspect)),
        _lock: Some(lock),
    });
    let space = SpaceGuard::new(Some(path.clone()), config.quota_bytes, config.min_free_bytes);
    let writer = Writer::with_log(Arc::clone(&core), ready.meta, log, space)
        .map_err(OpenError::io("cannot start a thread for the store in", path))?;
    Ok(Opened { core, writer, report })
}

fn prepare(config: &StoreConfig, codec: &Codec, report: &mut OpenReport) -> Result<Ready, OpenError> {
    let path = &config.path;
    let listing = Listing::read(&path.join(log::FOLDER)).map_err(OpenError::io("cannot read", path))?;
    let (current, named) = match current::find(path)? {
        Found::Named(current) => {
            if current.key_check != codec.key_check() {
                return Err(OpenError::WrongKey(path.clone()));
            }
            (current, true)
        }
        Found::Guessed(folder) => {
            report.created = folder.is_none() && listing.is_empty();
            let (engine, number) = folder.unwrap_or((config.engine, 1));
            (Current { engine, number, key_check: codec.key_check() }, false)
        }
    };
    let folder = current.folder(path);
    let missing = !folder.exists() && !report.created;
    config.tell(OpenStage::Engine);
    let examined = if missing {
        Examined::Damaged { engine: None, reason: "its folder is missing".to_owned() }
    } else {
        examine(current.engine, &folder, codec, config.cache_bytes)?
    };
    let suspected = config.verify || path.join(SUSPECT).exists();
    let (old, known, reason) = match examined {
        // nothing was ever committed: the file is written before the first commit
        Examined::Empty(engine) if !named && listing.is_empty() => {
            let meta = initialise(engine.as_ref(), codec)?;
            current.write(path).map_err(OpenError::io("cannot write in", path))?;
            report.created = true;
            return Ok(Ready { engine, meta, log_incomplete: false, log_torn: false, keep_in: None });
        }
        Examined::Damaged { reason, engine } if !named && listing.is_empty() => {
            return first_start_failed(config, codec, &current, engine, &reason, report);
        }
        Examined::Empty(engine) => (Some(engine), None, "it is empty".to_owned()),
        Examined::Damaged { engine, reason } => (engine, None, reason),
        Examined::Good { engine, meta, schema } => {
            if !named {
                current.write(path).map_err(OpenError::io("cannot write in", path))?;
            }
            // a rewriting migration reads every row itself
            let verify = suspected && schema >= INDEXED_SINCE;
            match compare(config, codec, &engine, meta, verify, report)? {
                Verdict::Sound { meta: found, log_incomplete, torn } => {
                    match migrate::migrate(config, codec, engine.as_ref(), found, schema, report) {
                        Ok(meta) => {
                            return Ok(Ready { engine, meta, log_incomplete, log_torn: torn, keep_in: None });
                        }
                        Err(OpenError::Row(reason)) => (Some(engine), Some(meta), reason),
                        Err(OpenError::Engine(error)) if error.is_damage() => {
                            (Some(engine), Some(meta), error.to_string())
                        }
                        Err(error) => return Err(error),
                    }
                }
                Verdict::Restore(reason) => (Some(engine), Some(meta), reason),
            }
        }
    };
    restore::restore(
        config,
        codec,
        &current,
        named,
        restore::Old { engine: old, meta: known },
        reason,
        report,
    )
}

/// The very first start was cut off before anything was committed. Starts anew, and keeps what is there.
fn first_start_failed(
    config: &StoreConfig,
    codec: &Codec,
    current: &Current,
    engine: Option<Arc<dyn Engine>>,
    reason: &str,
    report: &mut OpenReport,
) -> Result<Ready, OpenError> {
    // rows without a commit number that opens, and no log: more likely another key than an early end
    if let Some(engine) = &engine
        && Meta::read(engine.as_ref(), codec).is_err()
    {
        return Err(OpenError::WrongKey(config.path.clone()));
    }
    drop(engine);
    report.set_aside = current::set_aside(&config.path, &current.folder(&config.path))?;
    report.reason = Some(format!("the first start was cut off: {reason}"));
    report.created = true;
    let number = current::next_number(&config.path)?;
    let current = Current { engine: config.engine, number, key_check: codec.key_check() };
    let engine = engine::open(current.engine, &current.folder(&config.path), config.cache_bytes)?;
    let meta = initialise(engine.as_ref(), codec)?;
    current.write(&config.path).map_err(OpenError::io("cannot write in", &config.path))?;
    Ok(Ready { engine, meta, log_incomplete: false, log_torn: false, keep_in: None })
}

enum Verdict {
    Sound {
        meta: Meta,
        log_incomplete: bool,
        /// The log ends with records that must never be applied.
        torn: bool,
    },
    Restore(String),
}

/// Compares an engine with the log, and brings it up to it where only what it had not put on disk yet is missing.
fn compare(
    config: &StoreConfig,
    codec: &Codec,
    engine: &Arc<dyn Engine>,
    meta: Meta,
    suspected: bool,
    report: &mut OpenReport,
) -> Result<Verdict, OpenError> {
    let folder = config.path.join(log::FOLDER);
    let listing = Listing::read(&folder).map_err(OpenError::io("cannot read", &folder))?;
    let base = listing.snapshots.last().map_or(0, |(base, _)| *base);
    // with the engine's own newest commit, to see whether the log reaches as far
    let after = if base >= meta.commit { meta.commit } else { meta.commit.saturating_sub(1) };
    let mut beyond: Vec<Commit> = Vec::new();
    let mut count = 0_usize;
    let walk = log::walk::<std::io::Error>(&folder, codec, after, |commit| {
        if commit.number > meta.commit {
            count += 1;
            if beyond.len() < REPLAY {
                beyond.push(commit);
            }
        }
        Ok(())
    })
    .map_err(OpenError::io("cannot read the export log in", &folder))?;
    if let Some(found) = walk.newer {
        return Err(OpenError::Newer { found, known: SCHEMA });
    }
    let reached = walk.last.unwrap_or(0).max(base);
    if walk.synced > meta.commit || count > beyond.len() {
        let lost = reached.saturating_sub(meta.commit);
        return Ok(Verdict::Restore(format!("the engine had lost {lost} commits")));
    }
    // A power cut may save a later record of the last group and not an earlier one: none of these was acknowledged, and
    // the order must have no holes. A hole among older groups, each on disk before the next was begun, is damage.
    let whole = (meta.commit.saturating_add(1)..)
        .zip(&beyond)
        .take_while(|(number, commit)| commit.number == *number)
        .count();
    let first_missing = meta.commit.saturating_add(1).saturating_add(whole as u64);
    if beyond.get(whole..).and_then(<[_]>::last).is_some_and(|last| first_missing < last.group) {
        return Ok(Verdict::Restore(format!(
            "commit {first_missing} is neither in the engine nor in the log"
        )));
    }
    if suspected {
        let mut tell = |rows| config.tell(OpenStage::Verifying(rows));
        let problem = match check::check_engine(engine.as_ref(), codec, meta, &mut tell) {
            Ok(found) => found.problems.first().map(ToString::to_string),
            Err(error) if error.is_damage() => Some(error.to_string()),
            Err(error) => return Err(error.into()),
        };
        if let Some(problem) = problem {
            return Ok(Verdict::Restore(problem));
        }
    }
    // what a snapshot has may be missing in the files behind it
    let older = walk
        .holes
        .iter()
        .map(|(before, behind)| behind.saturating_sub((*before).max(base)).saturating_sub(1));
    let missing = older.fold(walk.missing, u64::saturating_add);
    let missing = missing.saturating_add(meta.commit.saturating_sub(reached));
    let log_incomplete = missing > 0;
    if beyond.is_empty() {
        report.log_missing = missing;
        return Ok(Verdict::Sound { meta, log_incomplete, torn: false });
    }
    let torn = whole < beyond.len();
    if !torn {
        report.log_missing = missing;
    }
    beyond.truncate(whole);
    let mut meta = replay(engine.as_ref(), codec, meta, beyond, report)?;
    // numbers in the log are not given a second time
    meta.commit = reached;
    let (batch, meta) = Staging::new(engine.as_ref(), codec, meta).finish().map_err(row_error)?;
    engine.write(&batch, &[], Durability::Durable)?;
    Ok(Verdict::Sound { meta, log_incomplete, torn })
}

/// Gives an engine the commits it lacks, in groups of a size it can take.
fn replay(
    engine: &dyn Engine,
    codec: &Codec,
    mut meta: Meta,
    commits: Vec<Commit>,
    report: &mut OpenReport,
) -> Result<Meta, OpenError> {
    let mut commits = commits.into_iter().peekable();
    while commits.peek().is_some() {
        let mut staging = Staging::new(engine, codec, meta);
        while staging.rows() < GROUP_ROWS
            && let Some(commit) = commits.next()
        {
            for change in &commit.changes {
                staging.apply(change).map_err(row_error)?;
            }
            staging.meta.commit = commit.number;
            report.replayed = report.replayed.saturating_add(1);
        }
        let (batch, written) = staging.finish().map_err(row_error)?;
        engine.write(&batch, &[], Durability::Lazy)?;
        meta = written;
    }
    Ok(meta)
}

#[cfg(test)]
mod tests;
