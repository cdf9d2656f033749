//! Reports.

use std::io;
use std::path::Path;

use crate::run::Run;

/// Writes the report of a run into a folder.
///
/// # Errors
/// If a file cannot be written.
pub fn write(run: &Run, folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("report.json"), run.summary.to_json())
}
