//! What knows where a frame ends.

use std::io;

use bytes::BytesMut;

/// Takes items from the front of a buffer.
pub trait Decoder {
    /// What a frame holds.
    type Item;
    /// Why there is none. An error of the stream becomes one of these.
    type Error: From<io::Error>;

    /// Takes the next item from the buffer; `None`, and nothing taken, if its end is not there yet.
    ///
    /// # Errors
    /// If the bytes are no frame, or one too large to wait for. What is left in the buffer stays there.
    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Self::Item>, Self::Error>;

    /// The same once the stream has ended: asked until there is nothing more. Unless a codec says otherwise, an item that was
    /// not whole before is not whole now.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Self::Item>, Self::Error> {
        self.decode(src)
    }
}

/// Appends items to a buffer.
pub trait Encoder {
    /// What is sent.
    type Item<'a>;
    /// Why it is not. An error of the stream becomes one of these.
    type Error: From<io::Error>;

    /// Appends an item.
    ///
    /// # Errors
    /// If the item cannot be a frame; of what was appended until then nothing is sent.
    fn encode(&mut self, item: Self::Item<'_>, dst: &mut BytesMut) -> Result<(), Self::Error>;
}
