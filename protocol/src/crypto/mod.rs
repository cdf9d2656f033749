//! End-to-end encryption between two devices.
//!
//! A [session] is a PQXDH-shaped start (X25519 and X-Wing) into vodozemac's double ratchet. What it encrypts
//! travels in an [envelope], sealed under a key that only the two devices know and padded to a size class. A
//! [bundle] is what a device gives others to start with. A [right] lets a device deposit at another's relays, and
//! [custody] is what a relay signs for it.

pub mod bundle;
pub mod custody;
pub mod envelope;
pub(crate) mod pqxdh;
pub mod right;
mod seal;
pub mod session;

pub(crate) use seal::{open, seal};
use thiserror::Error;

use crate::identity::IdentityError;
use crate::wire::WireError;

/// A cryptographic step that failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CryptoError {
    /// Not well formed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A certificate that proves nothing.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The envelope was made for another right, or was changed on its way.
    #[error("the envelope does not open with this key")]
    Sealed,
    /// The content does not fit an envelope.
    #[error("the content has {len} bytes; an envelope holds at most {max}")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The bundle's signature is not its device's.
    #[error("the bundle is not signed by its device")]
    Bundle,
    /// The bundle is past its time.
    #[error("the bundle has expired; a newer one is needed")]
    Expired,
    /// The start does not fit this device's bundle, certificate or session id.
    #[error("the session start does not fit: {0}")]
    Start(&'static str),
    /// A key that would make the shared secret predictable.
    #[error("a key of the other device is degenerate")]
    WeakKey,
    /// The first message does not open: the two sides did not derive the same secret.
    #[error("the first message of the session does not open")]
    FirstMessage,
    /// The saved session cannot be read.
    #[error("the saved session is damaged")]
    State,
}
