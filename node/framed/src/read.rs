//! The reading direction alone.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use futures::Stream;
use futures::io::AsyncRead;

use crate::codec::Decoder;
use crate::incoming::Incoming;

/// Items from a stream.
#[derive(Debug)]
pub struct FramedRead<T, D> {
    io: T,
    decoder: D,
    incoming: Incoming,
}

/// A decoder is never pinned.
impl<T: Unpin, D> Unpin for FramedRead<T, D> {}

impl<T, D> FramedRead<T, D> {
    /// Puts a decoder on a stream.
    pub fn new(io: T, decoder: D) -> Self {
        Self { io, decoder, incoming: Incoming::default() }
    }

    /// The stream alone. What was read and not decoded is lost.
    pub fn into_inner(self) -> T {
        self.io
    }

    /// What was read and not decoded.
    pub const fn read_buffer(&self) -> &BytesMut {
        &self.incoming.buffer
    }
}

impl<T: AsyncRead + Unpin, D: Decoder> Stream for FramedRead<T, D> {
    type Item = Result<D::Item, D::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.incoming.poll_next(&mut this.io, &mut this.decoder, cx)
    }
}
