//! Frames on byte streams: a codec turns bytes into items and back.
//!
//! libp2p builds its encrypted connections and most of its protocols on a crate of this name. This one takes its place (by
//! `[patch.crates-io]`) and keeps the part of its interface that libp2p uses. The difference is what waiting costs: a
//! connection here has buffers while bytes are in them, not as long as it exists. For a relay with thousands of connections on
//! which nothing happens most of the time, that is more than half of its memory.
//!
//! - Reads go into one scratch of the thread; what the decoder did not take yet is kept, in a buffer of its size.
//! - Whatever is empty after decoding or writing is given back at once.
//! - Nothing is bounded here but the sender: a decoder that wants ever more bytes gets them, so decoders check lengths first.

mod codec;
mod framed;
mod incoming;
mod outgoing;
mod read;
mod scratch;
mod write;

pub use bytes::{Bytes, BytesMut};
pub use codec::{Decoder, Encoder};
pub use framed::{Framed, FramedParts};
pub use outgoing::HIGH_WATER_MARK;
pub use read::FramedRead;
pub use write::FramedWrite;
