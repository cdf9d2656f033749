//! The data folder: what lies where, and small files written whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kith_protocol::AccountId;
use kith_store::private;

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

/// Names in use, remembered in the data folder.
#[derive(Debug)]
pub(crate) struct PinFile {
    path: Option<PathBuf>,
    pins: Pins,
}

impl PinFile {
    /// Reads the file.
    pub(crate) fn open(folder: &Folder) -> Result<Self, Error> {
        let path = folder.names();
        let bytes = read_small(&path).map_err(|error| unreadable(&path, &error))?;
        let pins = match bytes.map(|bytes| serde_json::from_slice(&bytes)) {
            None => Pins::default(),
            Some(Ok(pins)) => pins,
            Some(Err(error)) => {
                return Err(Error::Store {
                    message: format!(
                        "{} is damaged ({error}); it keeps names from being taken over: look at it, then move it away",
                        path.display()
                    ),
                });
            }
        };
        Ok(Self { path: Some(path), pins })
    }

    /// Names in use that are forgotten with the process.
    pub(crate) fn in_memory() -> Self {
        Self { path: None, pins: Pins::default() }
    }

    pub(crate) const fn pins(&self) -> &Pins {
        &self.pins
    }

    pub(crate) fn pin(&mut self, name: &str, account: AccountId) -> Result<(), Error> {
        if !self.pins.pin(name, account) {
            return Ok(());
        }
        let Some(path) = &self.path else { return Ok(()) };
        let bytes = serde_json::to_vec_pretty(&self.pins)
            .map_err(|error| Error::Store { message: error.to_string() })?;
        private::write(path, &bytes).map_err(|error| Error::Store {
            message: format!("{} cannot be written: {error}", path.display()),
        })
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::Store { message: format!("{} cannot be read: {error}", path.display()) }
}
