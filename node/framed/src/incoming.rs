//! What was read and is not decoded yet.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use futures::io::AsyncRead;

use crate::codec::Decoder;
use crate::scratch;

#[derive(Debug, Default)]
pub(crate) struct Incoming {
    /// Has no memory while it is empty, but while a decoder looks at it.
    pub(crate) buffer: BytesMut,
    ended: bool,
}

impl From<BytesMut> for Incoming {
    fn from(buffer: BytesMut) -> Self {
        Self { buffer, ended: false }
    }
}

impl Incoming {
    /// The next item; `None` once the stream has ended and everything is decoded. Frames that were cut off by the end are one
    /// error of the kind [`io::ErrorKind::UnexpectedEof`].
    pub(crate) fn poll_next<T, D>(
        &mut self,
        io: &mut T,
        decoder: &mut D,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<D::Item, D::Error>>>
    where
        T: AsyncRead + Unpin,
        D: Decoder,
    {
        loop {
            let decoded = if self.ended {
                decoder.decode_eof(&mut self.buffer)
            } else {
                decoder.decode(&mut self.buffer)
            };
            let left = self.buffer.len();
            if left == 0 {
                self.buffer = BytesMut::new();
            }
            match decoded {
                Ok(Some(item)) => return Poll::Ready(Some(Ok(item))),
                Err(error) => return Poll::Ready(Some(Err(error))),
                Ok(None) if self.ended && left == 0 => return Poll::Ready(None),
                Ok(None) if self.ended => {
                    self.buffer = BytesMut::new();
                    let text = format!("the stream ended within a frame: {left} bytes of it are left");
                    let error = io::Error::new(io::ErrorKind::UnexpectedEof, text);
                    return Poll::Ready(Some(Err(error.into())));
                }
                Ok(None) => {}
            }
            match ready!(scratch::poll_read(io, cx, &mut self.buffer)) {
                Ok(read) => self.ended = read == 0,
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }
}
