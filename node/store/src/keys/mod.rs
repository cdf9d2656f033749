//! The master key: 32 random bytes that everything at rest is sealed under, and where they are kept.
//!
//! `key.json` in the data folder says how: in the system's keyring, sealed under a passphrase, or plainly in that file,
//! which only its owner may read.

mod keyring;
mod stretch;

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

pub(crate) use stretch::Stretch;

use crate::private;

/// The file that says where the key is.
const FILE: &str = "key.json";
const VERSION: u32 = 1;
/// No `key.json` is longer.
const FILE_MAX: u64 = 4096;

/// 32 secret bytes; wiped when dropped, never shown.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey([u8; 32]);

impl MasterKey {
    /// Takes the bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Draws fresh bytes from the system.
    ///
    /// # Errors
    /// [`KeyError::Random`] if the system has none.
    pub fn random() -> Result<Self, KeyError> {
        let mut key = Self([0; 32]);
        getrandom::fill(&mut key.0).map_err(|error| KeyError::Random(error.to_string()))?;
        Ok(key)
    }

    pub(crate) const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// Where a master key is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// The keyring if there is one, else a passphrase if one is given, else a file.
    Auto,
    /// In the system's keyring.
    Keyring,
    /// Sealed under a passphrase.
    Passphrase,
    /// In a file that only its owner may read.
    File,
}

impl KeyKind {
    /// The word for it on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Keyring => "keyring",
            Self::Passphrase => "passphrase",
            Self::File => "file",
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KeyKind {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        [Self::Auto, Self::Keyring, Self::Passphrase, Self::File]
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| KeyError::UnknownKind(text.chars().take(32).collect()))
    }
}

/// Why there is no key.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No `key.json`.
    #[error(
        "there is no {0}, without which the store cannot be read: put the file back from a copy, or run `kith init --name YOU` in another folder (--data)"
    )]
    Missing(PathBuf),
    /// A key is there already.
    #[error("{0} exists already: this folder has an account; use another folder with --data")]
    Exists(PathBuf),
    /// A passphrase is needed to open or make this key.
    #[error("a passphrase is needed: give --passphrase-file or KITH_PASSPHRASE")]
    PassphraseNeeded,
    /// It is empty.
    #[error("the passphrase is empty")]
    PassphraseEmpty,
    /// It does not open the key.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// There is no keyring, or it does not answer.
    #[error(
        "the system's keyring cannot be used ({0}): unlock it or log in to the desktop that keeps \
         it; a new account can do without, by --key passphrase or --key file"
    )]
    NoKeyring(String),
    /// The keyring answers and does not have the key.
    #[error(
        "the system's keyring has no entry {entry:?} for this data folder: \
         log in as the user who made it, or restore the keyring from a copy"
    )]
    NoEntry {
        /// Name of the entry.
        entry: String,
    },
    /// Not what Kith wrote.
    #[error("{path} is damaged ({detail}): put the file back from a copy", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// Written by a newer Kith.
    #[error("{path} has version {found}, this Kith knows {VERSION}: install a newer Kith", path = path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Not a word for a kind.
    #[error("no kind of key is called {0:?}: take auto, keyring, passphrase or file")]
    UnknownKind(String),
    /// The system has no random numbers.
    #[error("no random numbers: {0}")]
    Random(String),
    /// Stretching the passphrase failed.
    #[error("the passphrase cannot be stretched: {0}")]
    Stretch(String),
    /// A file could not be read or written.
    #[error("cannot use {path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Kept {
    Keyring { entry: String },
    Passphrase { stretch: String, wrapped: String },
    File { key: SecretText },
}

/// Text that is wiped when dropped.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
struct SecretText(String);

#[derive(Serialize, Deserialize)]
struct KeyFile {
    version: u32,
    #[serde(flatten)]
    kept: Kept,
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    let path = path.to_owned();
    move |source| KeyError::Io { path, source }
}

/// Makes the key of a new data folder. Returns it with where it is kept.
///
/// # Errors
/// [`KeyError`] if there is one already, or it cannot be kept as wanted.
pub fn create(
    folder: &Path,
    kind: KeyKind,
    passphrase: Option<&str>,
) -> Result<(MasterKey, KeyKind), KeyError> {
    let path = folder.join(FILE);
    if path.try_exists().map_err(io_at(&path))? {
        return Err(KeyError::Exists(path));
    }
    let key = MasterKey::random()?;
    let kind = keep(folder, &key, kind, passphrase)?;
    Ok((key, kind))
}

/// Keeps an existing key in another way, or under another passphrase. Returns where it is kept.
///
/// # Errors
/// [`KeyError`] if it cannot be kept as wanted; then it is kept as before.
pub fn keep(
    folder: &Path,
    key: &MasterKey,
    kind: KeyKind,
    passphrase: Option<&str>,
) -> Result<KeyKind, KeyError> {
    let (kept, kind) = match kind {
        KeyKind::Auto => match (in_keyring(key), passphrase) {
            (Ok(kept), _) => (kept, KeyKind::Keyring),
            (Err(error), Some(passphrase)) => {
                tracing::info!(%error, "the key is kept under the passphrase");
                (under_passphrase(key, passphrase)?, KeyKind::Passphrase)
            }
            (Err(error), None) => {
                tracing::info!(%error, "the key is kept in a file");
                (in_file(key), KeyKind::File)
            }
        },
        KeyKind::Keyring => (in_keyring(key)?, KeyKind::Keyring),
        KeyKind::Passphrase => {
            (under_passphrase(key, passphrase.ok_or(KeyError::PassphraseNeeded)?)?, KeyKind::Passphrase)
        }
        KeyKind::File => (in_file(key), KeyKind::File),
    };
    private::make_folder(folder).map_err(io_at(folder))?;
    let path = folder.join(FILE);
    let text = serde_json::to_vec_pretty(&KeyFile { version: VERSION, kept })
        .map(Zeroizing::new)
        .map_err(|error| KeyError::Damaged { path: path.clone(), detail: error.to_string() })?;
    private::write(&path, &text).map_err(io_at(&path))?;
    Ok(kind)
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn in_keyring(key: &MasterKey) -> Result<Kept, KeyError> {
    let mut name = [0; 8];
    getrandom::fill(&mut name).map_err(|error| KeyError::Random(error.to_string()))?;
    let entry = format!("data-{}", hex(&name));
    keyring::set(&entry, key)?;
    // some keyrings take a secret and do not give it back
    match keyring::get(&entry) {
        Ok(found) if found.0 == key.0 => Ok(Kept::Keyring { entry }),
        Ok(_) => Err(KeyError::NoKeyring("it gives back another secret than it was given".to_owned())),
        Err(error) => Err(KeyError::NoKeyring(error.to_string())),
    }
}

fn under_passphrase(key: &MasterKey, passphrase: &str) -> Result<Kept, KeyError> {
    if passphrase.is_empty() {
        return Err(KeyError::PassphraseEmpty);
    }
    let stretch = Stretch::random()?;
    let wrapped = stretch.wrap(passphrase, key)?;
    Ok(Kept::Passphrase { stretch: hex(&stretch.bytes()), wrapped: hex(&wrapped) })
}

fn in_file(key: &MasterKey) -> Kept {
    Kept::File { key: SecretText(hex(&key.0)) }
}

fn read(folder: &Path) -> Result<(PathBuf, Kept), KeyError> {
    let path = folder.join(FILE);
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(KeyError::Missing(path)),
        Err(error) => return Err(io_at(&path)(error)),
    };
    tighten(&file, &path);
    let mut text = Zeroizing::new(Vec::new());
    file.take(FILE_MAX).read_to_end(&mut text).map_err(io_at(&path))?;
    let damaged =
        |error: serde_json::Error| KeyError::Damaged { path: path.clone(), detail: error.to_string() };
    let VersionOnly { version } = serde_json::from_slice(&text).map_err(damaged)?;
    if version > VERSION {
        return Err(KeyError::Newer { path, found: version });
    }
    let file: KeyFile = serde_json::from_slice(&text).map_err(damaged)?;
    Ok((path, file.kept))
}

/// A copy may have lost its permissions.
fn tighten(file: &std::fs::File, path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // what a link leads to is somebody else's to decide about
        if !path.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
            return;
        }
        let open = file.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0);
        if open && file.set_permissions(std::fs::Permissions::from_mode(0o600)).is_ok() {
            tracing::warn!(path = %path.display(), "others could read this file; now they cannot");
        }
    }
    #[cfg(not(unix))]
    let _ = (file, path);
}

/// Where the key of a data folder is kept; `None` if there is no key.
///
/// # Errors
/// [`KeyError`] if `key.json` cannot be read.
pub fn kind(folder: &Path) -> Result<Option<KeyKind>, KeyError> {
    match read(folder) {
        Ok((_, Kept::Keyring { .. })) => Ok(Some(KeyKind::Keyring)),
        Ok((_, Kept::Passphrase { .. })) => Ok(Some(KeyKind::Passphrase)),
        Ok((_, Kept::File { .. })) => Ok(Some(KeyKind::File)),
        Err(KeyError::Missing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The key of a data folder.
///
/// # Errors
/// [`KeyError`] says what is missing and what to do.
pub fn open(folder: &Path, passphrase: Option<&str>) -> Result<MasterKey, KeyError> {
    let (path, kept) = read(folder)?;
    let damaged = |detail: &str| KeyError::Damaged { path: path.clone(), detail: detail.to_owned() };
    let unhex = |text: &str| {
        data_encoding::HEXLOWER
            .decode(text.as_bytes())
            .map_err(|_| damaged("not hexadecimal"))
            .map(Zeroizing::new)
    };
    match kept {
        Kept::Keyring { entry } => keyring::get(&entry),
        Kept::Passphrase { stretch, wrapped } => {
            let stretch = unhex(&stretch)?;
            let stretch = stretch
                .as_slice()
                .try_into()
                .ok()
                .and_then(Stretch::from_bytes)
                .ok_or_else(|| damaged("its parameters are not valid"))?;
            let wrapped = unhex(&wrapped)?;
            stretch.unwrap(passphrase.ok_or(KeyError::PassphraseNeeded)?, &wrapped)
        }
        Kept::File { key } => {
            let key = unhex(&key.0)?;
            let bytes: [u8; 32] =
                key.as_slice().try_into().map_err(|_| damaged("the key is not 32 bytes"))?;
            Ok(MasterKey(bytes))
        }
    }
}

#[cfg(test)]
mod tests;
