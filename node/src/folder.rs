//! The data folder: what lies where, and small files written whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kith_protocol::AccountId;
use kith_store::{MasterKey, SealedFile, private};

use crate::api::Error;
use crate::api::who::Pins;

/// Largest small file that is read.
const SMALL: u64 = 1024 * 1024;

/// Where a node keeps everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(PathBuf);

impl Folder {
    /// A folder of one's choice.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder for this person by the XDG rules: `$XDG_DATA_HOME/kith`, else `~/.local/share/kith`.
    #[must_use]
    pub fn default_path() -> Option<PathBuf> {
        let absolute =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        absolute("XDG_DATA_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
            .map(|data| data.join("kith"))
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// There is a store: an account, if its key is not lost.
    #[must_use]
    pub fn has_store(&self) -> bool {
        self.store().join("current").exists()
    }

    /// Remembered run options.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.0.join("config.json")
    }

    /// How to reach the running node.
    #[must_use]
    pub fn api(&self) -> PathBuf {
        self.0.join("api.json")
    }

    fn names(&self) -> PathBuf {
        self.0.join("names.sealed")
    }

    /// As they were written before they were sealed.
    fn names_in_clear(&self) -> PathBuf {
        self.0.join("names.json")
    }

    /// Makes the folder, for its owner only.
    ///
    /// # Errors
    /// The system's reason.
    pub fn create(&self) -> io::Result<()> {
        private::make_folder(&self.0)
    }
}

/// Reads a small file; `None` if there is none.
pub(crate) fn read_small(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let size = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if size > SMALL {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is too large to be ours"));
    }
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Names in use, remembered in the data folder, sealed with the store's key.
#[derive(Debug)]
pub(crate) struct PinFile {
    file: Option<SealedFile>,
    pins: Pins,
}

impl PinFile {
    /// Reads the file. One that an earlier Kith wrote in clear is taken over and removed.
    pub(crate) fn open(folder: &Folder, key: &MasterKey) -> Result<Self, Error> {
        let file = SealedFile::new(key, folder.names(), "names");
        let sealed = file.read().map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => damaged(file.path(), &error),
            _ => unreadable(file.path(), &error),
        })?;
        let mut pins = match sealed.as_deref().map(|bytes| serde_json::from_slice(bytes)) {
            None => Pins::default(),
            Some(Ok(pins)) => pins,
            Some(Err(error)) => return Err(damaged(file.path(), &error)),
        };
        let clear = folder.names_in_clear();
        if let Some(bytes) = read_small(&clear).map_err(|error| unreadable(&clear, &error))? {
            let before: Pins = serde_json::from_slice(&bytes).map_err(|error| damaged(&clear, &error))?;
            pins.add(before);
            write(&file, &pins)?;
            fs::remove_file(&clear).map_err(|error| Error::Store {
                message: format!("{} cannot be removed: {error}", clear.display()),
            })?;
        }
        Ok(Self { file: Some(file), pins })
    }

    /// Names in use that are forgotten with the process.
    pub(crate) fn in_memory() -> Self {
        Self { file: None, pins: Pins::default() }
    }

    pub(crate) const fn pins(&self) -> &Pins {
        &self.pins
    }

    pub(crate) fn pin(&mut self, name: &str, account: AccountId) -> Result<(), Error> {
        if !self.pins.pin(name, account) {
            return Ok(());
        }
        match &self.file {
            Some(file) => write(file, &self.pins),
            None => Ok(()),
        }
    }
}

fn write(file: &SealedFile, pins: &Pins) -> Result<(), Error> {
    let bytes = serde_json::to_vec(pins).map_err(|error| Error::Store { message: error.to_string() })?;
    file.write(&bytes).map_err(|error| Error::Store {
        message: format!("{} cannot be written: {error}", file.path().display()),
    })
}

fn damaged(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Store {
        message: format!(
            "{} is damaged ({error}); it keeps names from being taken over: look at it, then move it away",
            path.display()
        ),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::Store { message: format!("{} cannot be read: {error}", path.display()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_use_are_sealed_and_those_written_in_clear_are_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        let key = MasterKey::from_bytes([7; 32]);
        let (ben, eve) = (AccountId([1; 32]), AccountId([2; 32]));
        fs::write(folder.names_in_clear(), format!(r#"{{"ben":"{ben}","eve":"{eve}"}}"#)).unwrap();
        let mut names = PinFile::open(&folder, &key).unwrap();
        assert_eq!((names.pins().get("Ben"), names.pins().get("Eve")), (Some(ben), Some(eve)));
        assert!(!folder.names_in_clear().exists());
        names.pin("Benjamin", ben).unwrap();
        let again = PinFile::open(&folder, &key).unwrap();
        assert_eq!(again.pins().get("benjamin"), Some(ben));
        let stored = fs::read(folder.names()).unwrap();
        assert!(!stored.windows(3).any(|part| part.eq_ignore_ascii_case(b"ben")));
        // a name that came to mean somebody since goes on to do so
        fs::write(folder.names_in_clear(), format!(r#"{{"benjamin":"{eve}"}}"#)).unwrap();
        assert_eq!(PinFile::open(&folder, &key).unwrap().pins().get("benjamin"), Some(ben));
        let wrong = PinFile::open(&folder, &MasterKey::from_bytes([8; 32])).unwrap_err().to_string();
        assert!(wrong.contains("names.sealed is damaged"), "{wrong}");
    }
}
