//! Held links: length-framed messages over one stream each way, on one of the connections to a peer.
//!
//! Protocol `/kith/link/1`: each side opens one stream and writes only there. A frame is its length as an unsigned
//! varint, then that many bytes (1 to [`limits::FRAME`](kith_protocol::limits::FRAME)). Both halves of both streams
//! stay open as long as the link lives.
//!
//! Of two devices the one with the smaller key leads: it chooses the connection, and the other answers where the
//! leader's stream arrives. So both use the same one, also after a simultaneous dial. The follower's own first stream
//! only tells the leader that a link is wanted.

mod behaviour;
mod frame;
mod handler;
mod queue;

use libp2p::StreamProtocol;

pub(crate) use behaviour::{Behaviour, LinkEvent};
pub(crate) use queue::Links;

/// The protocol's name.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/kith/link/1");
/// How long the other side may take to agree to the protocol.
const NEGOTIATION_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
