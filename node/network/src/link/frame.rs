//! Frames: an unsigned varint, then that many bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kith_protocol::limits;
use thiserror::Error;

/// Longest length prefix: three groups of seven bits hold every allowed length.
const MAX_PREFIX: usize = 3;
/// A shorter frame is copied, so that it does not keep the whole receive buffer alive.
const COPY_BELOW: usize = 4096;

/// What a peer that keeps the protocol never sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum FrameError {
    #[error("a frame of {0} bytes announced; at most {max} are allowed", max = limits::FRAME)]
    TooLong(usize),
    #[error("an empty frame")]
    Empty,
    #[error("a malformed frame length")]
    Length,
}

/// Appends a frame. The caller has checked its size.
pub(crate) fn encode(frame: &[u8], out: &mut BytesMut) {
    let mut rest = frame.len();
    while rest >= 0x80 {
        out.put_u8((rest as u8 & 0x7f) | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
    out.put_slice(frame);
}

/// Bytes that the length prefix and a frame take.
pub(crate) fn encoded_len(frame: usize) -> usize {
    frame
        + match frame {
            0..0x80 => 1,
            0x80..0x4000 => 2,
            _ => 3,
        }
}

/// Takes the first frame off the buffer, `None` if it is not whole yet. Nothing is allocated by what the peer claims.
pub(crate) fn decode(buffer: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
    let mut len = 0;
    let mut prefix = 0;
    loop {
        let Some(&byte) = buffer.get(prefix) else { return Ok(None) };
        len |= usize::from(byte & 0x7f) << (7 * prefix);
        prefix += 1;
        if byte & 0x80 == 0 {
            if byte == 0 && prefix > 1 {
                return Err(FrameError::Length);
            }
            break;
        }
        if prefix == MAX_PREFIX {
            return Err(FrameError::Length);
        }
    }
    if len == 0 {
        return Err(FrameError::Empty);
    }
    if len > limits::FRAME {
        return Err(FrameError::TooLong(len));
    }
    if buffer.len() < prefix + len {
        return Ok(None);
    }
    buffer.advance(prefix);
    let frame = buffer.split_to(len);
    Ok(Some(if len < COPY_BELOW { Bytes::copy_from_slice(&frame) } else { frame.freeze() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn oversized_empty_and_malformed_lengths_are_errors() {
        let mut long = BytesMut::new();
        long.extend_from_slice(&[0xff, 0xff, 0x7f]);
        assert_eq!(decode(&mut long), Err(FrameError::TooLong(0x1f_ffff)));
        assert_eq!(decode(&mut BytesMut::from(&[0u8][..])), Err(FrameError::Empty));
        assert_eq!(decode(&mut BytesMut::from(&[0x80u8, 0x00][..])), Err(FrameError::Length));
        assert_eq!(decode(&mut BytesMut::from(&[0xffu8, 0xff, 0xff][..])), Err(FrameError::Length));
        assert_eq!(decode(&mut BytesMut::from(&[0x80u8][..])), Ok(None));
    }

    #[test]
    fn the_longest_frame_passes_and_one_byte_more_does_not() {
        let mut out = BytesMut::new();
        encode(&vec![1; limits::FRAME], &mut out);
        assert_eq!(out.len(), encoded_len(limits::FRAME));
        assert_eq!(decode(&mut out).unwrap().unwrap().len(), limits::FRAME);
        let mut out = BytesMut::new();
        encode(&vec![1; limits::FRAME + 1], &mut out);
        assert_eq!(decode(&mut out), Err(FrameError::TooLong(limits::FRAME + 1)));
    }

    proptest! {
        #[test]
        fn frames_come_back_in_order_however_they_are_cut(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..6000), 1..20),
            cut in 1usize..700,
        ) {
            let mut wire = BytesMut::new();
            for frame in &frames { encode(frame, &mut wire); }
            prop_assert_eq!(wire.len(), frames.iter().map(|f| encoded_len(f.len())).sum::<usize>());
            let mut buffer = BytesMut::new();
            let mut got = Vec::new();
            for piece in wire.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = decode(&mut buffer).unwrap() { got.push(frame.to_vec()); }
            }
            prop_assert_eq!(got, frames);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(frame)) = decode(&mut buffer) { prop_assert!(!frame.is_empty()); }
        }
    }
}
