//! The wire format: size-checked domain types over private protobuf messages.
//!
//! Decoding looks at the whole length first, then at each count and size, and only then builds domain types. What a
//! newer Kith adds decodes to `Unknown` and is never an error.

mod check;
mod contact_info;
mod frame;
mod payload;
pub mod relay;

#[allow(missing_docs, unreachable_pub, clippy::all)]
pub(crate) mod proto {
    include!(concat!(env!("OUT_DIR"), "/kith.v1.rs"));
}

pub use check::WireError;
pub(crate) use check::{canonical, decode, exact, id, opt_exact, opt_id, ranges, short};
pub use contact_info::ContactInfo;
pub(crate) use contact_info::{addresses, relays, relays_to_proto};
pub use frame::{Frame, RefuseReason, StreamHead};
pub use payload::{Frontier, Lacking, Payload, PayloadBody, Receipt, RefusedReason};

/// The version of the frames and payloads spoken here.
pub const VERSION: u32 = 1;
