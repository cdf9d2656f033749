//! One place per thread into which all its streams are read.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use futures::io::AsyncRead;

/// Read at once: a few frames of a busy connection.
const SIZE: usize = 32 * 1024;

thread_local! {
    /// Away while a read is under way: a stream that is itself made of frames then has one for the moment.
    static SCRATCH: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Appends what a stream has; 0 at its end.
pub(crate) fn poll_read<T: AsyncRead + Unpin>(
    io: &mut T,
    cx: &mut Context<'_>,
    buffer: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    let mut scratch = SCRATCH.take().unwrap_or_else(|| vec![0; SIZE].into_boxed_slice());
    let read = Pin::new(io).poll_read(cx, &mut scratch).map_ok(|read| {
        let bytes = scratch.get(..read).unwrap_or(&scratch);
        buffer.extend_from_slice(bytes);
        bytes.len()
    });
    SCRATCH.set(Some(scratch));
    read
}
