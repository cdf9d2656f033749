//! Any way a stream may cut and stall leaves the frames whole, and what waits takes no memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use asynchronous_codec::{BytesMut, Decoder, Encoder, Framed, FramedRead, FramedWrite, HIGH_WATER_MARK};
use bytes::Buf as _;
use futures::io::{AsyncRead, AsyncWrite};
use futures::{Sink, Stream};
use proptest::prelude::*;

/// Longest frame of [`Short`].
const LONGEST: usize = 5_000;

/// Two bytes of length, then the frame.
#[derive(Debug, Default)]
struct Short;

impl Decoder for Short {
    type Item = Vec<u8>;
    type Error = io::Error;

    fn decode(&mut self, src: &mut BytesMut) -> io::Result<Option<Vec<u8>>> {
        let Some(length) = src.first_chunk::<2>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes(*length));
        if length > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too long"));
        }
        if src.len() < 2 + length {
            return Ok(None);
        }
        src.advance(2);
        Ok(Some(src.split_to(length).to_vec()))
    }
}

impl Encoder for Short {
    type Item<'a> = &'a [u8];
    type Error = io::Error;

    fn encode(&mut self, item: &[u8], dst: &mut BytesMut) -> io::Result<()> {
        // begun before it is known to be wrong, as codecs may
        dst.extend_from_slice(&u16::try_from(item.len()).map_err(io::Error::other)?.to_be_bytes());
        dst.extend_from_slice(item);
        if item.len() > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too long"));
        }
        Ok(())
    }
}

/// What is left when the stream ends is an item, too.
#[derive(Debug)]
struct Rest;

impl Decoder for Rest {
    type Item = usize;
    type Error = io::Error;

    fn decode(&mut self, _: &mut BytesMut) -> io::Result<Option<usize>> {
        Ok(None)
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> io::Result<Option<usize>> {
        Ok(if src.is_empty() { None } else { Some(src.split_to(src.len().min(3)).len()) })
    }
}

/// A stream that does as it is told. Steps are numbers of bytes; 0 is a stall.
#[derive(Debug, Default)]
struct Wire {
    to_read: VecDeque<u8>,
    reads: VecDeque<usize>,
    /// Only this much comes before it stalls for good; then the end.
    stalls_at_end: bool,
    fails: bool,
    written: Vec<u8>,
    writes: VecDeque<usize>,
    /// Takes nothing once the steps are used up.
    stuck: bool,
    full: bool,
    flushed: usize,
    closed: bool,
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.fails {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let step = match self.reads.pop_front() {
            Some(0) => return Poll::Pending,
            Some(step) => step,
            None => usize::MAX,
        };
        if self.to_read.is_empty() && self.stalls_at_end {
            return Poll::Pending;
        }
        let read = step.min(buf.len()).min(self.to_read.len());
        for (to, from) in buf.iter_mut().zip(self.to_read.drain(..read)) {
            *to = from;
        }
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.full {
            return Poll::Ready(Ok(0));
        }
        let step = match self.writes.pop_front() {
            Some(0) => return Poll::Pending,
            Some(step) => step,
            None if self.stuck => return Poll::Pending,
            None => usize::MAX,
        };
        let written = step.min(buf.len());
        self.written.extend_from_slice(&buf[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushed = self.written.len();
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.closed = true;
        Poll::Ready(Ok(()))
    }
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn next<S: Stream + Unpin>(stream: &mut S) -> Poll<Option<S::Item>> {
    Pin::new(stream).poll_next(&mut context())
}

/// Everything up to the end, whatever stalls are between.
fn all<S: Stream<Item = io::Result<T>> + Unpin, T>(stream: &mut S) -> io::Result<Vec<T>> {
    let mut items = Vec::new();
    for _ in 0..1_000_000 {
        match next(stream) {
            Poll::Pending => {}
            Poll::Ready(None) => return Ok(items),
            Poll::Ready(Some(item)) => items.push(item?),
        }
    }
    panic!("it never ends");
}

/// Until it is done, whatever stalls are between.
fn done<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    for _ in 0..1_000_000 {
        if let Poll::Ready(done) = poll(&mut context()) {
            return done;
        }
    }
    panic!("it never ends");
}

fn bytes_of(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    for frame in frames {
        Short.encode(frame, &mut bytes).unwrap();
    }
    bytes.to_vec()
}

fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let short = prop::collection::vec(any::<u8>(), 0..40);
    let long = (any::<u8>(), 40..LONGEST).prop_map(|(byte, len)| vec![byte; len]);
    prop::collection::vec(prop_oneof![3 => short, 1 => long], 0..20)
}

fn steps() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![Just(0), 1_usize..5, 1_usize..9_000], 0..200)
}

proptest! {
    #[test]
    fn frames_come_whole_however_they_are_cut(frames in frames(), reads in steps()) {
        let wire = Wire { to_read: bytes_of(&frames).into(), reads: reads.into(), ..Wire::default() };
        let mut framed = Framed::new(wire, Short);
        prop_assert_eq!(all(&mut framed).unwrap(), frames);
        let parts = framed.into_parts();
        prop_assert_eq!((parts.read_buffer.capacity(), parts.write_buffer.capacity()), (0, 0));
    }

    #[test]
    fn frames_go_whole_however_little_is_taken(frames in frames(), writes in steps(), mark in 0_usize..20_000) {
        let mut framed = Framed::new(Wire { writes: writes.into(), ..Wire::default() }, Short);
        framed.set_send_high_water_mark(mark);
        for frame in &frames {
            done(|cx| Pin::new(&mut framed).poll_ready(cx)).unwrap();
            Pin::new(&mut framed).start_send(frame.as_slice()).unwrap();
        }
        done(|cx| Pin::new(&mut framed).poll_flush(cx)).unwrap();
        let parts = framed.into_parts();
        prop_assert_eq!(parts.write_buffer.capacity(), 0);
        prop_assert_eq!(parts.io.flushed, parts.io.written.len());
        prop_assert_eq!(parts.io.written, bytes_of(&frames));
    }

    #[test]
    fn a_stream_taken_apart_anywhere_goes_on_where_it_was(
        frames in frames(), reads in steps(), apart in 0_usize..20,
    ) {
        let wire = Wire { to_read: bytes_of(&frames).into(), reads: reads.into(), ..Wire::default() };
        let mut framed = Framed::new(wire, Short);
        let mut got = Vec::new();
        while got.len() < apart.min(frames.len()) {
            if let Poll::Ready(item) = next(&mut framed) {
                got.push(item.unwrap().unwrap());
            }
        }
        let mut framed = Framed::from_parts(framed.into_parts().map_codec(|Short| Short));
        got.extend(all(&mut framed).unwrap());
        prop_assert_eq!(got, frames);
    }

    #[test]
    fn a_stream_that_ends_within_a_frame_says_so_once(frames in frames(), cut in 1_usize..5_000) {
        let mut bytes = bytes_of(&frames);
        let kept = bytes.len().saturating_sub(cut);
        bytes.truncate(kept);
        let mut whole = FramedRead::new(Wire { to_read: bytes.clone().into(), ..Wire::default() }, Short);
        let (mut items, mut failure) = (Vec::new(), None);
        while let Poll::Ready(Some(item)) = next(&mut whole) {
            match item {
                Ok(item) => items.push(item),
                Err(error) => prop_assert!(failure.replace(error).is_none()),
            }
        }
        let ends_whole = bytes_of(&items).len() == bytes.len();
        prop_assert_eq!(failure.map(|error| error.kind()), (!ends_whole).then_some(io::ErrorKind::UnexpectedEof));
        prop_assert_eq!(whole.read_buffer().capacity(), 0);
    }
}

#[test]
fn whoever_waits_for_a_frame_holds_no_buffer() {
    let bytes = bytes_of(&[vec![1; 4_000], vec![2; 300]]);
    let wire = Wire { to_read: bytes.into(), stalls_at_end: true, ..Wire::default() };
    let mut framed = Framed::new(wire, Short);
    assert_eq!(framed.read_buffer().capacity(), 0);
    assert!(matches!(next(&mut framed), Poll::Ready(Some(Ok(_)))));
    assert_eq!(framed.read_buffer().len(), 302);
    assert!(matches!(next(&mut framed), Poll::Ready(Some(Ok(_)))));
    assert!(next(&mut framed).is_pending());
    Pin::new(&mut framed).start_send(&[3; 700]).unwrap();
    done(|cx| Pin::new(&mut framed).poll_flush(cx)).unwrap();
    let parts = framed.into_parts();
    assert_eq!((parts.read_buffer.capacity(), parts.write_buffer.capacity()), (0, 0));
}

#[test]
fn part_of_a_frame_takes_about_its_size() {
    let bytes = bytes_of(&[vec![1; 100]]);
    let wire = Wire { to_read: bytes[..60].to_vec().into(), stalls_at_end: true, ..Wire::default() };
    let mut framed = FramedRead::new(wire, Short);
    assert!(next(&mut framed).is_pending());
    assert_eq!(framed.read_buffer().len(), 60);
    assert!(framed.read_buffer().capacity() <= 128);
}

#[test]
fn more_than_the_mark_keeps_a_sender_waiting_until_it_is_written() {
    let mut framed = FramedWrite::new(Wire { stuck: true, ..Wire::default() }, Short);
    let mut waiting = 0;
    while Pin::new(&mut framed).poll_ready(&mut context()).is_ready() {
        Pin::new(&mut framed).start_send(&[7; 1_000]).unwrap();
        waiting += 1_002;
    }
    assert!(waiting > HIGH_WATER_MARK && waiting <= HIGH_WATER_MARK + 1_002);
    let mut framed = Framed::new(Wire { stuck: true, writes: [1_002].into(), ..Wire::default() }, Short);
    framed.set_send_high_water_mark(1_500);
    assert_eq!(framed.send_high_water_mark(), 1_500);
    for _ in 0..2 {
        assert!(Pin::new(&mut framed).poll_ready(&mut context()).is_ready());
        Pin::new(&mut framed).start_send(&[7; 1_000]).unwrap();
    }
    // one of two is written, so that there is room again
    assert!(Pin::new(&mut framed).poll_ready(&mut context()).is_ready());
    assert_eq!(framed.into_parts().write_buffer.len(), 1_002);
}

#[test]
fn an_item_that_cannot_be_a_frame_is_refused_and_leaves_nothing() {
    let mut framed = Framed::new(Wire::default(), Short);
    Pin::new(&mut framed).start_send(b"before").unwrap();
    let refused = Pin::new(&mut framed).start_send(&[0; LONGEST + 1]).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    Pin::new(&mut framed).start_send(b"behind").unwrap();
    done(|cx| Pin::new(&mut framed).poll_close(cx)).unwrap();
    let wire = framed.into_inner();
    assert!(wire.closed);
    assert_eq!(wire.written, bytes_of(&[b"before".to_vec(), b"behind".to_vec()]));
}

#[test]
fn a_frame_too_long_is_the_decoders_error_and_is_not_waited_for() {
    let wire = Wire { to_read: [0xff, 0xff, 1].into(), stalls_at_end: true, ..Wire::default() };
    let Poll::Ready(Some(Err(error))) = next(&mut Framed::new(wire, Short)) else { panic!("no error") };
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn errors_of_the_stream_are_passed_on() {
    let mut framed = Framed::new(Wire { fails: true, full: true, ..Wire::default() }, Short);
    let Poll::Ready(Some(Err(error))) = next(&mut framed) else { panic!("no error") };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    Pin::new(&mut framed).start_send(b"never").unwrap();
    let error = done(|cx| Pin::new(&mut framed).poll_flush(cx)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WriteZero);
}

#[test]
fn a_decoder_may_take_what_is_left_when_the_stream_ends() {
    let wire = Wire { to_read: vec![1; 7].into(), reads: [2, 0, 4].into(), ..Wire::default() };
    let mut framed = FramedRead::new(wire, Rest);
    assert_eq!(all(&mut framed).unwrap(), [3, 3, 1]);
    assert!(matches!(next(&mut framed), Poll::Ready(None)));
    assert!(framed.into_inner().to_read.is_empty());
}

/// A stream that is itself frames of another one.
#[derive(Debug)]
struct Inner(Framed<Wire, Short>);

impl AsyncRead for Inner {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_next(cx).map(|frame| match frame {
            None => Ok(0),
            Some(frame) => frame.map(|frame| {
                buf[..frame.len()].copy_from_slice(&frame);
                frame.len()
            }),
        })
    }
}

#[test]
fn frames_within_frames_are_read_on_one_thread() {
    let frames = vec![vec![1; 300], vec![2; 50], vec![3; 4_000]];
    let outer: Vec<Vec<u8>> = bytes_of(&frames).chunks(111).map(<[u8]>::to_vec).collect();
    let wire = Wire { to_read: bytes_of(&outer).into(), reads: [5, 0, 500].into(), ..Wire::default() };
    let mut framed = FramedRead::new(Inner(Framed::new(wire, Short)), Short);
    assert_eq!(all(&mut framed).unwrap(), frames);
}
