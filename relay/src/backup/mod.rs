//! Backups: a whole relay in one file, made while it runs or not, and checked before it is trusted.
//!
//! ```text
//! "kith-relay backup 1\n"   (u32 length, part)*   BLAKE3 of everything before
//! ```
//! Parts are one [`Head`] with key and configuration, rows, and one [`End`] with the sums. While the relay runs, rows are
//! read a page at a time, and what was changed meanwhile is read again, until so little is left that it can be read in a
//! moment without writes: the file holds the store as it was in that moment. A database of several relays is read as it was
//! at the beginning. Rows that follow from others are left out
//! ([`derived`](kith_protocol::mailbox::derived)). Whoever reads the file can pretend to be the relay, but read no message.

mod format;
mod record;
mod restore;
mod write;

use kith_store::mailbox::MailboxStoreError;
use thiserror::Error;

pub use format::{End, Head, Verified, verify};
pub use restore::{Restored, restore};
pub use write::{Summary, write};

use crate::folder::FolderError;

/// Why a backup was not made or not restored.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The file cannot be read or written.
    #[error("the backup file: {0}")]
    Io(#[from] std::io::Error),
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] MailboxStoreError),
    /// One is being made.
    #[error("another backup is being made; wait for its end")]
    Busy,
    /// There is something in the store.
    #[error(
        "there are mailboxes in the store already, and nothing is ever overwritten: restore into another one, or remove \
         what is there (in PostgreSQL, DROP SCHEMA kith_relay CASCADE)"
    )]
    StoreNotEmpty,
    /// More was changed than can be remembered.
    #[error(
        "too much was changed while the backup was made: try again when less happens, or stop the relay for it"
    )]
    TooFast,
    /// The relay said why it ended.
    #[error("the relay could not finish the backup: {0}")]
    Failed(String),
    /// The file is no backup, or was damaged.
    #[error("this is no whole backup: {0}")]
    Damaged(String),
    /// Written by a newer relay.
    #[error("the backup has version {0}, which this relay does not know: install a newer one")]
    Newer(u16),
    /// There is something in the folder.
    #[error("{0} is not empty, and nothing is ever overwritten: restore into a new folder")]
    NotEmpty(String),
    /// The relay ran when the backup was made.
    #[error(
        "the backup was made while the relay ran, so it may have promised more since: leave --moved away"
    )]
    NotMoved,
    /// What was restored is not what was in the file.
    #[error("what was restored does not fit: {0}")]
    Faults(String),
}
