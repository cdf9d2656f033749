//! Care of a store at rest: check, migrate, compact, export, import. Nobody else may use the data folder meanwhile.

use std::path::Path;

use kith_store::{CheckReport, TransferError};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::api::RestoredView;
use crate::keys::EngineKind;
use crate::node::{Builder, StartError};
use crate::runtime::Shelf;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckView {
    /// Nothing is wrong.
    pub sound: bool,
    /// `sled` or `redb`.
    pub engine: String,
    /// Rows that are sound.
    pub rows: u64,
    /// Index rows that are sound.
    pub indexes: u64,
    /// Readable commits in the export log.
    pub log_commits: u64,
    /// The first problems, each in a sentence.
    pub problems: Vec<String>,
    /// Their number.
    pub problem_count: u64,
    /// What opening the store found out of the ordinary, or what an earlier restore lost and nobody has taken note of.
    pub notice: Option<String>,
    /// What a restore lost, until the person takes note of it or 30 days are over.
    #[serde(default)]
    pub restored: Option<RestoredView>,
}

/// What moving a store came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferView {
    /// Engine before.
    pub from: String,
    /// Engine now.
    pub to: String,
    /// Stored pairs moved.
    pub pairs: u64,
    /// Bytes before.
    pub bytes_before: u64,
    /// Bytes now.
    pub bytes_after: u64,
}

/// Why a store could not be cared for. It is as it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MaintenanceError {
    /// It could not be opened.
    #[error(transparent)]
    Open(#[from] StartError),
    /// It could not be moved.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] kith_protocol::record::ReadError),
}

/// Reads everything in a store.
///
/// # Errors
/// [`MaintenanceError`] if it cannot be opened or read; damage found is in the report.
pub fn check(builder: &Builder) -> Result<CheckView, MaintenanceError> {
    let host = builder.host_or_default()?;
    let (store, opened) = host.open_store(builder.store_config()?).map_err(StartError::from)?;
    let report: CheckReport = store.check()?;
    let log = if !report.is_sound() || report.is_log_whole() {
        None
    } else if store.check()?.is_log_whole() {
        Some("the export log was damaged; it was written anew from the store, and nothing was lost")
    } else {
        Some(
            "the export log is damaged and could not be written anew; is there room on the disk? Nothing is lost yet",
        )
    };
    let restored = crate::restored::read(&Shelf::new(store.reader()))?;
    let kept = restored.as_ref().map(|restored| restored.text.clone());
    Ok(CheckView {
        restored,
        sound: report.is_sound(),
        engine: report.engine.map(|engine| engine.to_string()).unwrap_or_default(),
        rows: report.rows,
        indexes: report.indexes,
        log_commits: report.log_commits,
        problems: report.problems.iter().map(ToString::to_string).collect(),
        problem_count: report.problem_count,
        notice: opened.notice().or(kept).or_else(|| log.map(ToOwned::to_owned)),
    })
}

/// Moves a store into another engine.
///
/// # Errors
/// [`MaintenanceError`].
pub fn migrate(builder: &Builder, to: EngineKind) -> Result<TransferView, MaintenanceError> {
    Ok(show(&kith_store::migrate(&builder.store_config()?, to)?))
}

/// Rewrites a store: what was deleted takes no more space.
///
/// # Errors
/// [`MaintenanceError`].
pub fn compact(builder: &Builder) -> Result<TransferView, MaintenanceError> {
    Ok(show(&kith_store::compact(&builder.store_config()?)?))
}

/// Writes everything into a file sealed under a passphrase. Returns the number of rows.
///
/// # Errors
/// [`MaintenanceError`].
pub fn export(
    builder: &Builder,
    file: &Path,
    passphrase: &Zeroizing<String>,
) -> Result<u64, MaintenanceError> {
    let host = builder.host_or_default()?;
    let (store, _) = host.open_store(builder.store_config()?).map_err(StartError::from)?;
    let key = kith_store::ExportKey::Passphrase(passphrase.to_string());
    Ok(kith_store::export(&store, file, &key)?)
}

/// Fills the store of a data folder that has a key and no account from an exported file. Returns the number of rows.
///
/// # Errors
/// [`MaintenanceError`].
pub fn import(
    builder: &Builder,
    file: &Path,
    passphrase: &Zeroizing<String>,
) -> Result<u64, MaintenanceError> {
    let host = builder.host_or_default()?;
    let (store, _) = host.open_store(builder.store_config()?).map_err(StartError::from)?;
    let key = kith_store::ExportKey::Passphrase(passphrase.to_string());
    Ok(kith_store::import(&store, file, &key)?)
}

fn show(report: &kith_store::TransferReport) -> TransferView {
    TransferView {
        from: report.from.to_string(),
        to: report.to.to_string(),
        pairs: report.pairs,
        bytes_before: report.bytes_before,
        bytes_after: report.bytes_after,
    }
}
