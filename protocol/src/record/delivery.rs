//! Rows of delivery: ranks with their proofs, jobs, and what devices said they have.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Key;
use crate::id::{AccountId, DeviceId, EntryId, EnvelopeId, SessionId, StreamId};
use crate::time::Wall;

/// How far a message has come towards one device or person. Merged by maximum, never lowered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Rank {
    /// On this device's disk, with a job.
    Queued,
    /// In custody of fewer relays than *Sent* needs.
    Carried,
    /// In signed custody of enough of the device's relays.
    Sent,
    /// Nobody confirmed it within the time to live.
    Expired,
    /// The recipient said it will not take it.
    Rejected,
    /// On the recipient's disk.
    Delivered,
    /// Displayed there.
    Read,
}

/// Relays that signed for a message, out of those it was meant for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Custody {
    /// Have signed.
    pub have: u32,
    /// Were asked.
    pub of: u32,
}

/// Why a rank may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proof {
    /// A frontier of the device, stored as a [`ReceivedFrontier`].
    Frontier(StreamId),
    /// The device's own refusal, as received.
    Refusal(Bytes),
    /// The time to live ran out at this instant.
    Ttl(Wall),
    /// Signed custody: the receipts stand in the job's [`Carriage`](super::Carriage).
    Custody,
}

/// One entry on its way to one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// The entry.
    pub entry: EntryId,
    /// The recipient device, fixed when the entry was written.
    pub device: DeviceId,
    /// Its account.
    pub account: AccountId,
    /// How far it has come.
    pub rank: Rank,
    /// What proves a rank above Queued.
    pub proof: Option<Proof>,
    /// Its place in the device's queue while a job is open.
    pub job: Option<u64>,
    /// The journey, oldest first, at most [`limits::STEPS`](crate::limits::STEPS).
    pub steps: Vec<Step>,
}

/// One step of a journey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When.
    pub at: Wall,
    /// What happened.
    pub what: StepKind,
    /// More, for people; may be empty.
    pub detail: String,
}

/// What can happen on a journey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StepKind {
    /// Written to disk with its job.
    Queued,
    /// Sealed for the device.
    Sealed,
    /// Handed to a live link.
    SentDirect,
    /// The link broke before the device answered.
    LinkLost,
    /// The device has it on disk.
    Delivered,
    /// It was displayed there.
    Read,
    /// The device could not open it and asked for it again.
    RepairAsked,
    /// Sealed anew in a fresh session.
    Resealed,
    /// The device's person does not take messages from us.
    Rejected,
    /// The time to live ran out.
    Expired,
    /// A relay signed that it keeps it; the detail names the relay and how long.
    Custody,
    /// A relay did not take it; the detail says which and why. It is tried again.
    RelayRefused,
    /// A relay could not be reached; it is tried again.
    RelayUnreachable,
    /// The device took it from a relay; its receipt is awaited.
    Collected,
}

/// An envelope as it travels on every path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sealed {
    /// Its id.
    pub id: EnvelopeId,
    /// The session it was sealed in.
    pub session: SessionId,
    /// Its number there.
    pub number: u64,
    /// The bytes.
    pub bytes: Bytes,
}

/// What a job delivers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum JobBody {
    /// An entry; ends with that device's receipt.
    Entry(EntryId),
    /// An entry the device has confirmed before and asked for again; ends with the acknowledgement.
    Resend(EntryId),
    /// Another payload, encoded; ends with the acknowledgement.
    Payload(Bytes),
    /// Our acceptance of an invite; built when a session can be started; ends with the answer.
    Accept,
    /// What we have of the device's streams, as of the moment it is sealed; ends with the acknowledgement or custody.
    Receipt,
}

/// One thing to bring to one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The device.
    pub device: DeviceId,
    /// Place in the device's queue.
    pub seq: u64,
    /// What to bring.
    pub body: JobBody,
    /// When the job was made.
    pub created: Wall,
    /// Time to live from `created`, in milliseconds.
    pub ttl: u64,
    /// The envelope, once sealed: encrypted once per device.
    pub sealed: Option<Sealed>,
}

/// A device's queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outbox {
    /// The device.
    pub device: DeviceId,
    /// Its account.
    pub account: AccountId,
    /// Number of open jobs.
    pub open: u64,
    /// Place of the next job.
    pub next_seq: u64,
}

/// What a device says it has of one of our streams: the proof behind ticks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReceivedFrontier {
    /// The device that spoke.
    pub device: DeviceId,
    /// Our stream.
    pub stream: StreamId,
    /// Highest gapless number delivered.
    pub delivered: u64,
    /// Highest gapless number read.
    pub read: u64,
    /// Beyond a gap.
    pub beyond: Vec<(u64, u64)>,
    /// The authenticated receipt, as received.
    pub receipt: Bytes,
    /// When.
    pub at: Wall,
    /// Numbers up to here have their ranks applied as delivered,
    pub applied_delivered: u64,
    /// and up to here as read.
    pub applied_read: u64,
}

impl Rank {
    /// Nothing more will happen by itself.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Expired | Self::Rejected | Self::Read)
    }

    /// A job is still at work.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Carried | Self::Sent)
    }
}

impl Delivery {
    pub(super) fn key(&self) -> Key {
        Key::Delivery(self.entry, self.device)
    }
}

impl Job {
    pub(super) fn key(&self) -> Key {
        Key::Job(self.device, self.seq)
    }
}

impl Outbox {
    pub(super) fn key(&self) -> Key {
        Key::Outbox(self.device)
    }
}

impl ReceivedFrontier {
    pub(super) fn key(&self) -> Key {
        Key::Frontier(self.device, self.stream)
    }
}
