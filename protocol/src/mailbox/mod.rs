//! The state machine of a relay: mailboxes, rights, deposits. Used by the relay, by gateway nodes and by the simulator.
//!
//! It does no IO. A driver feeds it, reads what it needs, and makes durable what it decides:
//!
//! ```text
//! accept(link, request) ─▶ Reply            at once, nothing was changed
//!                       ─▶ Read(job)        finish_read(job, rows) ─▶ reply, or parked
//!                       ─▶ Write(job)       many jobs ─▶ one Group
//!
//! Group::run(job) ─▶ Err(keys)              read these rows, supply them, run the job again
//!                 ─▶ Ok(outcome)            the next job sees what this one changed
//! Group::batches() ─▶ Batch…                each written as a whole, if everything it expects still holds
//!                                           only then: finish_write(outcome) ─▶ reply
//! ```
//!
//! A reply never leaves before what it tells is durable. A [`Batch`] says which version of each mailbox it was decided
//! upon; each change of anything in a mailbox raises its version, so several processes may share one store: when a batch
//! does not fit any more, the jobs that concern its mailboxes are decided again on fresh rows. The mailbox's own row must be read before, or
//! together with, the others.
//!
//! **What is never taken back**: an envelope with a custody receipt stays until the owner collects it, its time is over,
//! the owner revokes its right, or the operator removes the mailbox. A full relay refuses; it does not evict. What
//! makes room, in this order: what is past its time (whole hours at once), rights that ended a month ago, mailboxes whose owner
//! has not come for [`ABANDONED`] and in which nothing can be left.
//!
//! **What is refused under load**, in this order ([`Load`]): new mailboxes; envelopes above 4 KiB; all deposits and
//! bundles. Owners can always list, get and collect.

mod access;
mod audit;
mod batch;
mod clock;
mod deposit;
mod derived;
mod expire;
mod owner;
mod parts;
mod policy;
mod rights;
mod row;
mod service;
mod waits;

pub use access::Admission;
pub use audit::{Audit, Fault};
pub use batch::{Batch, Group, Stop};
pub use clock::{BelievedTime, RelayClock};
pub use derived::derived;
pub use expire::{Due, Upkeep, UpkeepRead, bucket};
pub use policy::{Load, Policy};
pub use row::{
    EnvelopeRow, KnownRow, MailboxRow, RightRow, Row, RowKey, TokenRow, Totals, Usage, Work, token_key,
};
pub use service::{Accepted, Mailbox, Outcome, ReadJob, ReadKind, WriteJob, WriteKind};
pub use waits::{Parked, Waits};

use crate::limits;

/// A mailbox is removed so long after its owner's last visit: all rights have ended, and so has the time of the last
/// envelope.
pub const ABANDONED: u64 = limits::RIGHT_TTL + limits::RELAY_TTL;
/// An ended right is remembered for so long, so that its holders are told why they are refused.
pub const ENDED_RIGHT: u64 = 30 * limits::DAY;
