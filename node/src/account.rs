//! Making an account: keys, 24 words, the first device, the store.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kith_protocol::engine::{NewAccount as Seed, genesis};
use kith_protocol::identity::{NameError, Phrase, PhraseError, check_name};
use kith_protocol::record::{Key, Own, ReadError};
use kith_protocol::{AccountId, DeviceId};
use kith_store::{CommitError, StoreConfig};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::folder::Folder;
use crate::host::Host;
use crate::keys::{self, EngineKind, KeyError, KeyKind, MasterKey, MemoryDisk};

/// What a new account is made of.
#[derive(Debug)]
pub struct NewAccount {
    /// The name contacts see.
    pub name: String,
    /// The 24 words of an account that exists already; without them new ones are drawn.
    pub restore: Option<Zeroizing<String>>,
    /// A file that does not exist yet, for the words.
    pub phrase_file: Option<PathBuf>,
    /// Where the store's key is kept.
    pub key: KeyKind,
    /// For a key that is kept under a passphrase.
    pub passphrase: Option<Zeroizing<String>>,
    /// Engine of the store.
    pub engine: EngineKind,
}

impl NewAccount {
    /// A new account of this name.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            restore: None,
            phrase_file: None,
            key: KeyKind::Auto,
            passphrase: None,
            engine: EngineKind::Sled,
        }
    }
}

/// An account that was made.
#[derive(Debug)]
pub struct Created {
    /// The account.
    pub account: AccountId,
    /// This device.
    pub device: DeviceId,
    /// This device's libp2p name.
    pub peer_id: String,
    /// Where the store's key is kept.
    pub key: KeyKind,
    /// The 24 words. They are stored nowhere: who loses them and the device, loses the account.
    pub phrase: Zeroizing<String>,
}

/// Why no account was made. Nothing was written over.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CreateError {
    /// There is one.
    #[error("{folder} has an account already{}; use another folder with --data", shown(.name))]
    Exists {
        /// The data folder.
        folder: String,
        /// Its name, if it could be read.
        name: Option<String>,
    },
    /// The name cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The words to restore from.
    #[error(transparent)]
    Phrase(#[from] PhraseError),
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store.
    #[error(transparent)]
    Store(#[from] kith_store::OpenError),
    /// A row.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store refused the account.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The file for the words is there already: they may be an account's.
    #[error(
        "{path} is there already and may hold the words of an account, so it is not written over: \
         move it away, or name another file with --phrase-file"
    )]
    WordsExist {
        /// Which.
        path: String,
    },
    /// Others could put files of their own in the place of ours.
    #[error(
        "others on this machine can write in {path} (mode {mode:o}), and it is not empty: name a folder of your own \
         with --data, or close this one with `chmod 700 {path}`"
    )]
    Open {
        /// Which.
        path: String,
        /// Its permissions.
        mode: u32,
    },
    /// A file or folder.
    #[error("{path} cannot be written: {source}; is it yours to write in? --data names another folder")]
    Io {
        /// Which.
        path: String,
        /// The system's reason.
        source: io::Error,
    },
}

impl CreateError {
    /// The request itself is at fault: a program ends with status 2.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Name(_)
                | Self::Phrase(_)
                | Self::Key(KeyError::PassphraseNeeded | KeyError::UnknownKind(_))
        )
    }
}

fn shown(name: &Option<String>) -> String {
    name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default()
}

/// Makes an account in a data folder. Cut off at any moment it leaves either no account or a whole one; it can be
/// called again after a failure.
///
/// # Errors
/// [`CreateError`].
pub fn create(host: &dyn Host, folder: &Folder, new: NewAccount) -> Result<Created, CreateError> {
    check_name(&new.name)?;
    let restore = new.restore.as_ref().map(|words| Phrase::parse(words)).transpose()?;
    let exists = |name| CreateError::Exists { folder: folder.path().display().to_string(), name };
    folder.create().map_err(|source| io_at(folder.path(), source))?;
    if let Some(mode) = closed(folder.path()).map_err(|source| io_at(folder.path(), source))? {
        return Err(CreateError::Open { path: folder.path().display().to_string(), mode });
    }
    // two at once would each make a key, and the store has one
    let _lock = kith_store::DataLock::acquire(folder.path()).map_err(kith_store::OpenError::from)?;
    let passphrase = new.passphrase.as_deref().map(String::as_str);
    // a key without an account is what an interrupted call leaves
    let (key, kind) = match keys::kind(folder.path())? {
        None if folder.has_store() => return Err(KeyError::Missing(folder.path().join("key.json")).into()),
        None => keys::create(folder.path(), new.key, passphrase)?,
        Some(kind) => match keys::open(folder.path(), passphrase) {
            Ok(key) => (key, kind),
            Err(KeyError::PassphraseNeeded | KeyError::WrongPassphrase) => return Err(exists(None)),
            Err(error) => return Err(error.into()),
        },
    };
    let config = StoreConfig::new(folder.store(), new.engine, key);
    match write(host, config, &new.name, restore, new.phrase_file.as_deref()) {
        Ok(Written::New(created)) => Ok(Created { key: kind, ..created }),
        Ok(Written::Taken(name)) => Err(exists(Some(name))),
        // nobody works with a store that has no account
        Err(CreateError::Store(kith_store::OpenError::Locked(_))) => Err(exists(None)),
        Err(error) => Err(error),
    }
}

/// Closes a folder that others may look into, if nothing is in it yet. The permissions of one that others may write in
/// and that holds something: it may be anybody's.
#[cfg(unix)]
fn closed(folder: &Path) -> io::Result<Option<u32>> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(folder)?.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(None);
    }
    if std::fs::read_dir(folder)?.next().is_none() {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
        tracing::warn!(folder = %folder.display(), "others could use this folder; now they cannot");
        return Ok(None);
    }
    Ok((mode & 0o022 != 0).then_some(mode & 0o777))
}

#[cfg(not(unix))]
fn closed(_folder: &Path) -> io::Result<Option<u32>> {
    Ok(None)
}

/// Makes an account on a memory disk.
///
/// # Errors
/// [`CreateError`].
pub fn create_in_memory(
    host: &dyn Host,
    disk: &MemoryDisk,
    key: &MasterKey,
    name: &str,
) -> Result<Created, CreateError> {
    match write(host, StoreConfig::memory(disk.clone(), key.clone()), name, None, None)? {
        Written::New(created) => Ok(created),
        Written::Taken(name) => {
            Err(CreateError::Exists { folder: "this memory".to_owned(), name: Some(name) })
        }
    }
}

enum Written {
    New(Created),
    Taken(String),
}

fn write(
    host: &dyn Host,
    config: StoreConfig,
    name: &str,
    restore: Option<Phrase>,
    phrase_file: Option<&Path>,
) -> Result<Written, CreateError> {
    let (store, _) = host.open_store(config)?;
    if let Some(own) = store.row::<Own>(&Key::Own)? {
        return Ok(Written::Taken(own.name));
    }
    let mut rng = host.rng();
    let made = genesis(Seed { name, phrase: restore }, host.wall(), rng.as_mut())?;
    let phrase = made.phrase.words();
    // the words first: an account whose words nobody has must not exist
    if let Some(path) = phrase_file {
        write_words(path, &phrase).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => CreateError::WordsExist { path: path.display().to_string() },
            _ => io_at(path, source),
        })?;
    }
    store.commit(made.changes).wait()?;
    store.close()?;
    Ok(Written::New(Created {
        account: made.account,
        device: made.device,
        peer_id: made.device.peer_id().map(|peer| peer.to_string()).unwrap_or_default(),
        key: KeyKind::File,
        phrase,
    }))
}

fn write_words(path: &Path, words: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(words.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

fn io_at(path: &Path, source: io::Error) -> CreateError {
    CreateError::Io { path: path.display().to_string(), source }
}
