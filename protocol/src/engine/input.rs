//! What the driver tells the Engine.

use bytes::Bytes;

use super::command::Command;
use crate::id::{Address, DeviceId, DirectoryKey};

/// Pairs a command with its [`Answer`](super::Output::Answer).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// One held link to a device. A new number for each time a link comes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// One request to somebody else's relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DepositId(pub u64);

/// Why a request to somebody else's relay has no answer. Whether the relay acted on it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DepositFailure {
    /// The relay could not be reached.
    #[error("the relay could not be reached")]
    Unreachable,
    /// It did not answer in time.
    #[error("the relay did not answer in time")]
    TimedOut,
    /// The connection ended before the answer.
    #[error("the connection to the relay ended before its answer")]
    Closed,
}

/// Something that happened outside.
#[derive(Debug, Clone)]
pub enum Input {
    /// The person or a program wants something.
    Command {
        /// Returned with the answer.
        id: CommandId,
        /// What.
        command: Command,
    },
    /// A link to a device is up; the transport has proven the device's key.
    Connected {
        /// The device.
        peer: DeviceId,
        /// The link.
        link: LinkId,
        /// The address we dialled, if we did.
        address: Option<Address>,
    },
    /// A link is gone; what was sent on it and not acknowledged may be lost.
    Disconnected {
        /// The device.
        peer: DeviceId,
        /// The link.
        link: LinkId,
    },
    /// A frame came.
    Frame {
        /// From this device,
        peer: DeviceId,
        /// over this link.
        link: LinkId,
        /// At most [`limits::FRAME`](crate::limits::FRAME) bytes.
        bytes: Bytes,
    },
    /// No address of a device could be reached.
    DialFailed {
        /// The device.
        peer: DeviceId,
    },
    /// A device announced itself on the local network.
    Discovered {
        /// The device.
        peer: DeviceId,
        /// Where.
        addresses: Vec<Address>,
    },
    /// The addresses we can be reached at, best first; replaces the earlier ones.
    Addresses(Vec<Address>),
    /// A directory record was found; it may be anybody's invention.
    Found {
        /// Asked for under this key.
        key: DirectoryKey,
        /// At most [`limits::DIRECTORY_RECORD`](crate::limits::DIRECTORY_RECORD) bytes.
        record: Bytes,
    },
    /// A search is over, whatever it found.
    FindEnded {
        /// The key.
        key: DirectoryKey,
    },
    /// A record was stored and read back, or was not.
    Provided {
        /// The key.
        key: DirectoryKey,
        /// It was read back.
        stored: bool,
    },
    /// What became of an [`Output::Deposit`](super::Output::Deposit).
    Deposited {
        /// Which.
        id: DepositId,
        /// The relay's reply frame, at most [`limits::FRAME`](crate::limits::FRAME) bytes.
        result: Result<Bytes, DepositFailure>,
    },
    /// The directory became reachable (a first peer answered), so publishing and searching make sense now.
    DirectoryReady,
}
