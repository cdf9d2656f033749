//! One process per data folder.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A data folder that could not be taken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process has it.
    #[error(
        "{folder} is in use by another process{}: stop that one first, or use another folder with --data",
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(),
        folder = folder.display()
    )]
    Held {
        /// The folder.
        folder: PathBuf,
        /// The other process, if it said so.
        pid: Option<u32>,
    },
    /// The lock file could not be made.
    #[error(
        "cannot write in {folder}: {source}; make it a folder that is yours to write in, or use another one with --data",
        folder = folder.display()
    )]
    Io {
        /// The folder.
        folder: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// Holds a data folder for this process. The system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

impl DataLock {
    /// Takes a folder, made if it does not exist.
    ///
    /// # Errors
    /// [`LockError::Held`] if another process has it.
    pub fn acquire(folder: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io { folder: folder.to_owned(), source };
        crate::private::make_folder(folder).map_err(io)?;
        let path = folder.join("lock");
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // only for the message
                let read = Read::take(&file, 16).read_to_string(&mut text);
                let pid = read.ok().and_then(|_| text.trim().parse().ok());
                return Err(LockError::Held { folder: folder.to_owned(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let told = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(std::process::id().to_string().as_bytes()));
        if let Err(error) = told {
            tracing::debug!(%error, "the lock file does not name this process");
        }
        Ok(Self { _file: file })
    }
}
