//! What devices and relays say to each other on a held link.
//!
//! A relay's first frame is its [`RelayHello`]. A device sends [`RelayRequest`]s, numbered by itself, and the relay
//! answers each with one [`RelayReply`] of that number ([`Answer::Envelopes`] may come in several). Requests of one link
//! are begun in order; a parked [`Ask::Wait`] holds up nothing.

mod answer;
mod ask;
mod hello;
mod refusal;

pub use answer::{Answer, Listed, MailboxState, RelayReply, Stored};
pub use ask::{Ask, Deposit, OpenMailbox, RelayRequest, RightSpec};
pub use hello::{AccessMode, RelayHello, RelayLimits};
pub use refusal::{Refusal, RefusalCode};

use bytes::Bytes;

/// The bytes of an id or key as the wire wants them.
fn copy(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
