//! What was encoded and is not written yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use futures::io::AsyncWrite;

use crate::codec::Encoder;

/// Bytes that may wait to be written before a sender has to wait, unless set otherwise.
pub const HIGH_WATER_MARK: usize = 128 * 1024;

#[derive(Debug)]
pub(crate) struct Outgoing {
    /// Has no memory while it is empty.
    pub(crate) buffer: BytesMut,
    pub(crate) high_water_mark: usize,
}

impl From<BytesMut> for Outgoing {
    fn from(buffer: BytesMut) -> Self {
        Self { buffer, high_water_mark: HIGH_WATER_MARK }
    }
}

impl Default for Outgoing {
    fn default() -> Self {
        Self::from(BytesMut::new())
    }
}

impl Outgoing {
    /// Ready for another item unless more waits than the mark says.
    pub(crate) fn poll_ready<T>(&mut self, io: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        T: AsyncWrite + Unpin,
    {
        self.poll_down_to(self.high_water_mark, io, cx)
    }

    /// Takes an item, whole or not at all.
    pub(crate) fn send<E: Encoder>(&mut self, encoder: &mut E, item: E::Item<'_>) -> Result<(), E::Error> {
        let before = self.buffer.len();
        let encoded = encoder.encode(item, &mut self.buffer);
        if encoded.is_err() {
            self.buffer.truncate(before);
            self.give_back();
        }
        encoded
    }

    /// Writes everything, and has the stream send it.
    pub(crate) fn poll_flush<T>(&mut self, io: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        T: AsyncWrite + Unpin,
    {
        ready!(self.poll_down_to(0, io, cx))?;
        Pin::new(io).poll_flush(cx)
    }

    /// Writes everything, and closes the stream.
    pub(crate) fn poll_close<T>(&mut self, io: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        T: AsyncWrite + Unpin,
    {
        ready!(self.poll_down_to(0, io, cx))?;
        Pin::new(io).poll_close(cx)
    }

    /// Writes until no more than so many bytes wait.
    fn poll_down_to<T>(&mut self, most: usize, io: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        T: AsyncWrite + Unpin,
    {
        while self.buffer.len() > most {
            let written = ready!(Pin::new(&mut *io).poll_write(cx, &self.buffer))?;
            if written == 0 {
                let text = format!("the stream takes no more; {} bytes were not sent", self.buffer.len());
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::WriteZero, text)));
            }
            self.buffer.advance(written.min(self.buffer.len()));
        }
        self.give_back();
        Poll::Ready(Ok(()))
    }

    fn give_back(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}
