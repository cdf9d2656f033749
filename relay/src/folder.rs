//! A relay's folder: its key, its configuration, its store, and how to reach it while it runs.

use std::io;
use std::path::{Path, PathBuf};

use kith_protocol::Wall;
use kith_protocol::secret::Secret32;
use kith_store::private;
use thiserror::Error;
use zeroize::Zeroizing;

/// Longest key file.
const KEY_FILE: u64 = 256;

/// A folder that cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FolderError {
    /// There is no relay.
    #[error("there is no relay in {0}; run `kith-relay init --data {0}` first")]
    Empty(String),
    /// There is one already.
    #[error("there is a relay in {0} already; nothing was changed")]
    Taken(String),
    /// There was one, and its key is not there.
    #[error(
        "{key} is missing, though there was a relay in {folder}: put the copy of it back, or name it with --key; without it \
         the mailboxes here are lost, and a new relay belongs into another folder"
    )]
    KeyMissing {
        /// The key's file.
        key: String,
        /// The folder.
        folder: String,
    },
    /// The key cannot be read.
    #[error("{0} does not hold a relay's key: put the original back, or begin anew in another folder")]
    Key(String),
    /// The system refused.
    #[error("{path}: {source}{}", advice(source))]
    Io {
        /// On what.
        path: String,
        /// What it said.
        source: io::Error,
    },
}

/// What to do about it, where that can be told.
pub(crate) fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; do this as the user to whom the relay's folder belongs, and give that user all that is in it"
        }
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            "; this must be a folder: name another one with --data"
        }
        io::ErrorKind::StorageFull => "; free some space",
        _ => "",
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.display().to_string();
    move |source| FolderError::Io { path, source }
}

/// Where everything of one relay is.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    key: Option<PathBuf>,
}

impl Folder {
    /// Names a folder; nothing is touched.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), key: None }
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.path.join("relay.toml")
    }

    /// The same folder with its key elsewhere: a credential of systemd, for example.
    #[must_use]
    pub fn with_key(self, key: PathBuf) -> Self {
        Self { key: Some(key), ..self }
    }

    /// The secret key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.key.clone().unwrap_or_else(|| self.path.join("relay.key"))
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.path.join("store")
    }

    /// How to reach the running relay; only its owner may read it.
    #[must_use]
    pub fn admin(&self) -> PathBuf {
        self.path.join("admin.json")
    }

    fn backup_mark(&self) -> PathBuf {
        self.path.join("last-backup")
    }

    /// When the last backup was made, if one was.
    #[must_use]
    pub fn last_backup(&self) -> Option<Wall> {
        std::fs::read_to_string(self.backup_mark()).ok()?.trim().parse().ok().map(Wall)
    }

    /// Notes when a backup was made, in milliseconds since the epoch.
    ///
    /// # Errors
    /// [`FolderError::Io`].
    pub fn set_last_backup(&self, at: Wall) -> Result<(), FolderError> {
        let path = self.backup_mark();
        private::write(&path, format!("{}\n", at.0).as_bytes()).map_err(failed(&path))
    }

    /// Whether there is a relay here, wherever its key is.
    #[must_use]
    pub fn is_made(&self) -> bool {
        self.config().exists() || self.key().exists()
    }

    fn draining(&self) -> PathBuf {
        self.path.join("draining")
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn without_key(&self) -> FolderError {
        FolderError::KeyMissing { key: self.key().display().to_string(), folder: self.name() }
    }

    /// Whether nothing here can be lost by making a relay.
    ///
    /// # Errors
    /// [`FolderError::Taken`] if there is one, [`FolderError::KeyMissing`] if there was.
    pub fn check_is_free(&self) -> Result<(), FolderError> {
        if self.key().exists() {
            return Err(FolderError::Taken(self.name()));
        }
        if self.config().exists() || self.store().exists() { Err(self.without_key()) } else { Ok(()) }
    }

    /// Makes a relay here: a key, and this configuration.
    ///
    /// # Errors
    /// [`FolderError::Taken`] if there is one, [`FolderError::KeyMissing`] if there was.
    pub fn create(&self, key: &Secret32, config: &str) -> Result<(), FolderError> {
        if self.key().exists() {
            return Err(FolderError::Taken(self.name()));
        }
        // the operator's file, and mailboxes of another key
        if self.config().exists() {
            return Err(self.without_key());
        }
        private::make_folder(&self.path).map_err(failed(&self.path))?;
        let text = Zeroizing::new(format!("{}\n", data_encoding::HEXLOWER.encode(key.expose())));
        private::write(&self.config(), config.as_bytes()).map_err(failed(&self.config()))?;
        // last: with it the relay exists
        private::write(&self.key(), text.as_bytes()).map_err(failed(&self.key()))
    }

    /// The relay's key.
    ///
    /// # Errors
    /// [`FolderError::Empty`] if there is no relay, [`FolderError::KeyMissing`] if there was.
    pub fn read_key(&self) -> Result<Secret32, FolderError> {
        let path = self.key();
        let wrong = || FolderError::Key(path.display().to_string());
        match std::fs::metadata(&path) {
            Ok(meta) if meta.len() > KEY_FILE => return Err(wrong()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let was_one = self.config().exists() || self.store().exists();
                return Err(if was_one { self.without_key() } else { FolderError::Empty(self.name()) });
            }
            Err(error) => return Err(failed(&path)(error)),
        }
        let text = Zeroizing::new(std::fs::read_to_string(&path).map_err(failed(&path))?);
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).map_err(|_| wrong())?;
        let bytes = Zeroizing::new(bytes);
        let key: [u8; 32] = bytes.as_slice().try_into().map_err(|_| wrong())?;
        Ok(Secret32::new(key))
    }

    /// Whether the operator has it drained, also after a restart.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining().exists()
    }

    /// Remembers that it is drained, or that it is not any more.
    ///
    /// # Errors
    /// [`FolderError::Io`].
    pub fn set_draining(&self, draining: bool) -> Result<(), FolderError> {
        let path = self.draining();
        if draining {
            return private::write(&path, b"`kith-relay drain --off` ends it\n").map_err(failed(&path));
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path)(error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_made_once_and_its_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().join("relay"));
        assert!(matches!(folder.read_key(), Err(FolderError::Empty(_))));
        let key = Secret32::new([7; 32]);
        folder.create(&key, "mode = \"open\"\n").unwrap();
        assert_eq!(folder.read_key().unwrap(), key);
        assert!(matches!(folder.create(&key, ""), Err(FolderError::Taken(_))));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(folder.path()), mode(&folder.key())), (0o700, 0o600));
        }
        // the configuration alone is a relay that has lost its key, and nothing is laid over it
        std::fs::rename(folder.key(), dir.path().join("copy")).unwrap();
        for error in [folder.read_key().unwrap_err(), folder.check_is_free().unwrap_err()] {
            assert!(matches!(error, FolderError::KeyMissing { .. }), "{error}");
        }
        assert!(matches!(folder.create(&key, ""), Err(FolderError::KeyMissing { .. })));
        assert_eq!(std::fs::read_to_string(folder.config()).unwrap(), "mode = \"open\"\n");
        std::fs::write(folder.key(), "not a key").unwrap();
        assert!(matches!(folder.read_key(), Err(FolderError::Key(_))));
        assert!(!folder.is_draining());
        folder.set_draining(true).unwrap();
        assert!(folder.is_draining());
        folder.set_draining(false).unwrap();
        folder.set_draining(false).unwrap();
        assert!(!folder.is_draining());
    }
}
