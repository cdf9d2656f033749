//! What the Engine wants done, in this order.

use bytes::Bytes;

use super::command::{Answer, CommandError};
use super::input::{CommandId, DepositId, LinkId};
use crate::id::{AccountId, Address, ConversationId, DeviceId, DirectoryKey};
use crate::record::{Change, Event};

/// One effect. All outputs are one stream: the driver makes a [`Persist`](Output::Persist) durable before it releases
/// anything that stands behind it. Only [`Dial`](Output::Dial), [`Find`](Output::Find) and
/// [`Transient`](Output::Transient) may overtake.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Write these changes as one batch, durably, then call `Engine::persisted(n)`.
    Persist {
        /// Number of the batch, ascending.
        n: u64,
        /// All or none of them.
        changes: Vec<Change>,
    },
    /// Send a frame over a link; drop it if the link is gone.
    Send {
        /// To this device,
        peer: DeviceId,
        /// over this link.
        link: LinkId,
        /// The frame.
        frame: Bytes,
    },
    /// Ask a relay that is not ours, under a key that is used for this pseudonym alone: no link of our own leads there.
    /// Ends with one [`Input::Deposited`](super::Input::Deposited).
    Deposit {
        /// Pairs it with its answer; also the number of the request in `request`.
        id: DepositId,
        /// The relay.
        relay: DeviceId,
        /// Where it is.
        address: Address,
        /// Stands for the recipient: requests with one pseudonym may share a connection, others must not.
        pseudonym: [u8; 16],
        /// The frame.
        request: Bytes,
    },
    /// Answer a command.
    Answer {
        /// The command.
        id: CommandId,
        /// Its result.
        result: Result<Answer, CommandError>,
    },
    /// Tell programs; the event is stored by a `Persist` before it.
    Event(Event),
    /// Tell programs of something that is not stored.
    Transient(Transient),
    /// Try to reach a device at these addresses, and by what the network knows of it.
    Dial {
        /// The device.
        peer: DeviceId,
        /// Best first; may be empty.
        addresses: Vec<Address>,
    },
    /// Close every connection with a device and refuse new ones.
    Refuse {
        /// The device.
        peer: DeviceId,
    },
    /// Stop refusing a device.
    Admit {
        /// The device.
        peer: DeviceId,
    },
    /// Keep this record in the directory: publish now and whenever the network's own schedule says so.
    Provide {
        /// Where.
        key: DirectoryKey,
        /// At most [`limits::DIRECTORY_RECORD`](crate::limits::DIRECTORY_RECORD) bytes.
        record: Bytes,
        /// Milliseconds until it ends.
        ttl: u64,
    },
    /// Stop keeping a record.
    Withdraw {
        /// Where.
        key: DirectoryKey,
    },
    /// Search the directory.
    Find {
        /// Where.
        key: DirectoryKey,
    },
}

/// Happenings that are told and forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transient {
    /// A contact came on-line (some device is connected) or went.
    Online {
        /// Who.
        account: AccountId,
        /// Connected now.
        online: bool,
    },
    /// A contact is typing, or stopped.
    Typing {
        /// Where.
        conversation: ConversationId,
        /// Who.
        account: AccountId,
        /// Typing now.
        active: bool,
    },
    /// What others' clocks say of ours changed.
    Clock(ClockReport),
}

/// What the clocks of contacts' devices and of relays say of ours: of those heard of last, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClockReport {
    /// Devices that told their time.
    pub heard: usize,
    /// Those of them whose clock is more than [`limits::CLOCK_OFF`](crate::limits::CLOCK_OFF) away from ours.
    pub differing: usize,
    /// The middle one of all, milliseconds ahead of ours.
    pub ahead: i64,
    /// Ours jumped by more than [`limits::CLOCK_JUMP`](crate::limits::CLOCK_JUMP), and not enough others agree with it yet:
    /// nothing expires meanwhile.
    pub doubted: bool,
}
