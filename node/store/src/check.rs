//! Reading a whole store to see whether it is sound.

use std::fmt;
use std::path::Path;

use kith_protocol::record::ReadError;

use crate::codec::{
    Codec, FIRST_INDEX, FIRST_ROW, Head, INDEXED_SINCE, OpenRowError, SCHEMA, SCHEMA_KEY, index_target,
    is_index,
};
use crate::config::EngineKind;
use crate::engine::{Direction, Engine, EngineError};
use crate::log;
use crate::reader::Core;
use crate::staging::{Meta, read_schema};

/// Problems named one by one; more are only counted.
const NAMED: usize = 100;

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What.
    pub what: String,
    /// Where: the start of the stored key, which is blinded. Empty where no single row is meant.
    pub at: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.is_empty() { f.write_str(&self.what) } else { write!(f, "{} at {}", self.what, self.at) }
    }
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// The engine read.
    pub engine: Option<EngineKind>,
    /// Rows that are sound.
    pub rows: u64,
    /// Index rows that are sound.
    pub indexes: u64,
    /// Chunks of large rows.
    pub chunks: u64,
    /// Readable commits in the export log.
    pub log_commits: u64,
    /// Bytes of the export log that cannot be read. After a power cut its end may be torn: the rows are not.
    pub log_damaged_bytes: u64,
    /// Commits that the export log lacks.
    pub log_missing: u64,
    /// The first problems of the rows.
    pub problems: Vec<Problem>,
    /// Their number.
    pub problem_count: u64,
}

impl CheckReport {
    /// Nothing is wrong with the rows. A log that is not whole is rewritten from sound rows.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.problem_count == 0
    }

    /// The whole store could be restored from its export log. Holds for a store in memory, which has none.
    #[must_use]
    pub const fn is_log_whole(&self) -> bool {
        self.log_damaged_bytes == 0 && self.log_missing == 0
    }

    fn add(&mut self, what: impl Into<String>, key: &[u8]) {
        self.problem_count = self.problem_count.saturating_add(1);
        if self.problems.len() < NAMED {
            let at = data_encoding::HEXLOWER.encode(key.get(..9).unwrap_or(key));
            self.problems.push(Problem { what: what.into(), at });
        }
    }
}

/// Checks an open store, and its export log if it has one.
pub(crate) fn check(
    core: &Core,
    log_folder: Option<&Path>,
    tell: &mut dyn FnMut(u64),
) -> Result<CheckReport, ReadError> {
    let failed = |error: &dyn fmt::Display| ReadError::Store(error.to_string());
    let engine = core.engine.as_ref();
    let meta = match Meta::read(engine, &core.codec) {
        Ok(meta) => meta.unwrap_or_default(),
        Err(error) => return Err(failed(&error)),
    };
    let mut report = match check_engine(engine, &core.codec, meta, tell) {
        Ok(report) => report,
        Err(error) if error.is_damage() => {
            let mut report = CheckReport { engine: Some(engine.kind()), ..CheckReport::default() };
            report.add(error.to_string(), &[]);
            report
        }
        Err(error) => return Err(failed(&error)),
    };
    if let Some(folder) = log_folder {
        check_log(folder, &core.codec, meta, &mut report).map_err(|error| failed(&error))?;
    }
    Ok(report)
}

/// Checks an engine's rows, chunks and indexes.
pub(crate) fn check_engine(
    engine: &dyn Engine,
    codec: &Codec,
    meta: Meta,
    tell: &mut dyn FnMut(u64),
) -> Result<CheckReport, EngineError> {
    let mut report = CheckReport { engine: Some(engine.kind()), ..CheckReport::default() };
    if let Err(error) = engine.check() {
        if !error.is_damage() {
            return Err(error);
        }
        report.add(error.to_string(), &[]);
    }
    match read_schema(engine, codec) {
        Ok(Some(INDEXED_SINCE..=SCHEMA)) => {}
        Ok(_) => report.add("the schema version is missing or not this one", SCHEMA_KEY),
        Err(OpenRowError::Codec(error)) => report.add(error.to_string(), SCHEMA_KEY),
        Err(OpenRowError::Engine(error)) => return Err(error),
    }
    let (mut wanted_indexes, mut wanted_chunks) = (0_u64, 0_u64);
    each(engine, FIRST_ROW..FIRST_INDEX, |key, value| {
        match codec.open_row(key, value, |chunk| engine.get(chunk)) {
            Ok(row) => {
                report.rows = report.rows.saturating_add(1);
                for index in codec.index_keys(&row) {
                    wanted_indexes = wanted_indexes.saturating_add(1);
                    if engine.get(&index)?.as_deref() != Some(codec.index_value(&index).as_slice()) {
                        report.add("an index row is missing or damaged", &index);
                    }
                }
                if let Ok(Head::Chunked { count, .. }) = codec.open_head(key, value) {
                    wanted_chunks = wanted_chunks.saturating_add(u64::from(count));
                }
            }
            Err(OpenRowError::Codec(error)) => report.add(error.to_string(), key),
            Err(OpenRowError::Engine(error)) => return Err(error),
        }
        if report.rows.is_multiple_of(1024) {
            tell(report.rows);
        }
        Ok(())
    })?;
    let mut indexes = 0_u64;
    each(engine, FIRST_INDEX..u8::MAX, |key, _| {
        if !key.first().is_some_and(|space| is_index(*space)) {
            report.chunks = report.chunks.saturating_add(1);
            return Ok(());
        }
        indexes = indexes.saturating_add(1);
        match index_target(key) {
            Some(target) if engine.get(&target)?.is_some() => {
                report.indexes = report.indexes.saturating_add(1);
            }
            _ => report.add("an index row leads nowhere", key),
        }
        Ok(())
    })?;
    // each wanted index row was looked up above: one more is stale
    if report.is_sound() && indexes != wanted_indexes {
        report.add(format!("there are {indexes} index rows where {wanted_indexes} belong"), &[]);
    }
    if report.is_sound() && report.chunks != wanted_chunks {
        report.add(format!("there are {} chunks where {wanted_chunks} belong", report.chunks), &[]);
    }
    if report.is_sound() && report.rows != meta.rows {
        report.add(format!("there are {} rows where {} belong", report.rows, meta.rows), &[]);
    }
    Ok(report)
}

fn each(
    engine: &dyn Engine,
    spaces: std::ops::Range<u8>,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let mut from = vec![spaces.start.saturating_sub(1), u8::MAX];
    from.extend([u8::MAX; 80]);
    loop {
        let page = engine.page(&[], Some(&from), Direction::Forward, 512)?;
        for (key, value) in &page {
            if key.first().is_none_or(|space| *space >= spaces.end) {
                return Ok(());
            }
            visit(key, value)?;
        }
        match page.last() {
            Some((key, _)) => from.clone_from(key),
            None => return Ok(()),
        }
    }
}

fn check_log(folder: &Path, codec: &Codec, meta: Meta, report: &mut CheckReport) -> std::io::Result<()> {
    let listing = log::Listing::read(folder)?;
    let mut base = 0;
    if let Some((number, path)) = listing.snapshots.last() {
        base = *number;
        report.log_damaged_bytes = log::snapshot_rows::<std::io::Error>(path, codec, |_| Ok(()))?.damaged;
    }
    let walk = log::walk::<std::io::Error>(folder, codec, base, |_| Ok(()))?;
    report.log_commits = walk.commits;
    report.log_damaged_bytes = report.log_damaged_bytes.saturating_add(walk.damaged_bytes);
    let reached = walk.last.unwrap_or(0).max(base);
    report.log_missing = walk.missing.saturating_add(meta.commit.saturating_sub(reached));
    Ok(())
}
