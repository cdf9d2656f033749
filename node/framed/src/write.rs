//! The writing direction alone.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Sink;
use futures::io::AsyncWrite;

use crate::codec::Encoder;
use crate::outgoing::Outgoing;

/// Items to a stream.
#[derive(Debug)]
pub struct FramedWrite<T, E> {
    io: T,
    encoder: E,
    outgoing: Outgoing,
}

/// An encoder is never pinned.
impl<T: Unpin, E> Unpin for FramedWrite<T, E> {}

impl<T, E> FramedWrite<T, E> {
    /// Puts an encoder on a stream.
    pub fn new(io: T, encoder: E) -> Self {
        Self { io, encoder, outgoing: Outgoing::default() }
    }

    /// The stream alone. What was encoded and not written is lost.
    pub fn into_inner(self) -> T {
        self.io
    }

    /// Sets how many bytes may wait to be written before a sender has to wait.
    pub const fn set_high_water_mark(&mut self, bytes: usize) {
        self.outgoing.high_water_mark = bytes;
    }
}

impl<'a, T: AsyncWrite + Unpin, E: Encoder> Sink<E::Item<'a>> for FramedWrite<T, E> {
    type Error = E::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), E::Error>> {
        let this = self.get_mut();
        this.outgoing.poll_ready(&mut this.io, cx).map_err(E::Error::from)
    }

    fn start_send(self: Pin<&mut Self>, item: E::Item<'a>) -> Result<(), E::Error> {
        let this = self.get_mut();
        this.outgoing.send(&mut this.encoder, item)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), E::Error>> {
        let this = self.get_mut();
        this.outgoing.poll_flush(&mut this.io, cx).map_err(E::Error::from)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), E::Error>> {
        let this = self.get_mut();
        this.outgoing.poll_close(&mut this.io, cx).map_err(E::Error::from)
    }
}
