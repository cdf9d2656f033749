//! Both directions of a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use futures::io::{AsyncRead, AsyncWrite};
use futures::{Sink, Stream};

use crate::codec::{Decoder, Encoder};
use crate::incoming::Incoming;
use crate::outgoing::Outgoing;

/// Items from a stream and to it, by one codec.
#[derive(Debug)]
pub struct Framed<T, U> {
    io: T,
    codec: U,
    incoming: Incoming,
    outgoing: Outgoing,
}

/// What a [`Framed`] is made of.
#[derive(Debug)]
pub struct FramedParts<T, U> {
    /// The stream.
    pub io: T,
    /// The codec.
    pub codec: U,
    /// What was read and not decoded.
    pub read_buffer: BytesMut,
    /// What was encoded and not written.
    pub write_buffer: BytesMut,
}

/// A codec is never pinned.
impl<T: Unpin, U> Unpin for Framed<T, U> {}

impl<T, U> Framed<T, U> {
    /// Puts a codec on a stream.
    pub fn new(io: T, codec: U) -> Self {
        Self { io, codec, incoming: Incoming::default(), outgoing: Outgoing::default() }
    }

    /// Goes on where another one was taken apart; the mark is [`HIGH_WATER_MARK`](crate::HIGH_WATER_MARK) again.
    pub fn from_parts(parts: FramedParts<T, U>) -> Self {
        let FramedParts { io, codec, read_buffer, write_buffer } = parts;
        Self { io, codec, incoming: read_buffer.into(), outgoing: write_buffer.into() }
    }

    /// Takes it apart, to go on with another codec or without one.
    pub fn into_parts(self) -> FramedParts<T, U> {
        FramedParts {
            io: self.io,
            codec: self.codec,
            read_buffer: self.incoming.buffer,
            write_buffer: self.outgoing.buffer,
        }
    }

    /// The stream alone. What is in the buffers is lost.
    pub fn into_inner(self) -> T {
        self.io
    }

    /// The codec.
    pub const fn codec(&self) -> &U {
        &self.codec
    }

    /// The codec, to be changed.
    pub const fn codec_mut(&mut self) -> &mut U {
        &mut self.codec
    }

    /// What was read and not decoded.
    pub const fn read_buffer(&self) -> &BytesMut {
        &self.incoming.buffer
    }

    /// Bytes that may wait to be written before a sender has to wait.
    pub const fn send_high_water_mark(&self) -> usize {
        self.outgoing.high_water_mark
    }

    /// Sets how many bytes may wait to be written before a sender has to wait.
    pub const fn set_send_high_water_mark(&mut self, bytes: usize) {
        self.outgoing.high_water_mark = bytes;
    }
}

impl<T, U> FramedParts<T, U> {
    /// The same with another codec.
    pub fn map_codec<V>(self, change: impl FnOnce(U) -> V) -> FramedParts<T, V> {
        let Self { io, codec, read_buffer, write_buffer } = self;
        FramedParts { io, codec: change(codec), read_buffer, write_buffer }
    }
}

impl<T: AsyncRead + Unpin, U: Decoder> Stream for Framed<T, U> {
    type Item = Result<U::Item, U::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.incoming.poll_next(&mut this.io, &mut this.codec, cx)
    }
}

impl<'a, T: AsyncWrite + Unpin, U: Encoder> Sink<U::Item<'a>> for Framed<T, U> {
    type Error = U::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), U::Error>> {
        let this = self.get_mut();
        this.outgoing.poll_ready(&mut this.io, cx).map_err(U::Error::from)
    }

    fn start_send(self: Pin<&mut Self>, item: U::Item<'a>) -> Result<(), U::Error> {
        let this = self.get_mut();
        this.outgoing.send(&mut this.codec, item)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), U::Error>> {
        let this = self.get_mut();
        this.outgoing.poll_flush(&mut this.io, cx).map_err(U::Error::from)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), U::Error>> {
        let this = self.get_mut();
        this.outgoing.poll_close(&mut this.io, cx).map_err(U::Error::from)
    }
}
