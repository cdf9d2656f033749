//! The checks every decoder shares.

use bytes::Bytes;
use thiserror::Error;

use super::proto;

/// Bytes that are not what they claim to be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WireError {
    /// Longer than the protocol allows.
    #[error("{what} has {len} bytes; at most {max} are allowed")]
    TooLong {
        /// The part.
        what: &'static str,
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// More parts than the protocol allows.
    #[error("{count} {what}; at most {max} are allowed")]
    TooMany {
        /// The parts.
        what: &'static str,
        /// How many.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// Not a protobuf message of the expected kind.
    #[error("{0} cannot be decoded")]
    Malformed(&'static str),
    /// A field is missing, has the wrong size or a value that is not allowed.
    #[error("{0} is missing or wrong")]
    Field(&'static str),
}

/// Decodes a message whose length is checked first.
pub(crate) fn decode<M: prost::Message + Default>(
    what: &'static str,
    bytes: Bytes,
    max: usize,
) -> Result<M, WireError> {
    if bytes.len() > max {
        return Err(WireError::TooLong { what, len: bytes.len(), max });
    }
    M::decode(bytes).map_err(|_| WireError::Malformed(what))
}

/// Decodes the wrapper of signed bytes, which has one valid encoding only: nobody can make a second form of it.
pub(crate) fn canonical<M: prost::Message + Default>(
    what: &'static str,
    bytes: &Bytes,
    max: usize,
) -> Result<M, WireError> {
    let message: M = decode(what, bytes.clone(), max)?;
    if message.encoded_len() != bytes.len() || message.encode_to_vec() != *bytes {
        return Err(WireError::Malformed(what));
    }
    Ok(message)
}

/// Bytes of exactly one length.
pub(crate) fn exact<const N: usize>(what: &'static str, bytes: &[u8]) -> Result<[u8; N], WireError> {
    bytes.try_into().map_err(|_| WireError::Field(what))
}

/// Bytes of exactly one length, or none at all.
pub(crate) fn opt_exact<const N: usize>(
    what: &'static str,
    bytes: &[u8],
) -> Result<Option<[u8; N]>, WireError> {
    if bytes.is_empty() { Ok(None) } else { exact(what, bytes).map(Some) }
}

/// An identifier.
pub(crate) fn id<'a, T: TryFrom<&'a [u8]>>(what: &'static str, bytes: &'a [u8]) -> Result<T, WireError> {
    T::try_from(bytes).map_err(|_| WireError::Field(what))
}

/// An identifier, or nothing.
pub(crate) fn opt_id<'a, T: TryFrom<&'a [u8]>>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<Option<T>, WireError> {
    if bytes.is_empty() { Ok(None) } else { id(what, bytes).map(Some) }
}

/// Refuses what is longer than `max`.
pub(crate) fn short(what: &'static str, len: usize, max: usize) -> Result<(), WireError> {
    if len > max { Err(WireError::TooLong { what, len, max }) } else { Ok(()) }
}

/// Refuses more than `max` parts.
pub(super) fn few(what: &'static str, count: usize, max: usize) -> Result<(), WireError> {
    if count > max { Err(WireError::TooMany { what, count, max }) } else { Ok(()) }
}

/// Ranges of numbers above `after` as (first, count): not empty, ascending, not overlapping, not past the last number.
pub(crate) fn ranges(
    what: &'static str,
    given: &[proto::Range],
    after: u64,
    max: usize,
) -> Result<Vec<(u64, u64)>, WireError> {
    few(what, given.len(), max)?;
    let mut last = after;
    let mut ranges = Vec::with_capacity(given.len());
    for range in given {
        let end = range.count.checked_sub(1).and_then(|more| range.first.checked_add(more));
        match end {
            Some(end) if range.first > last => last = end,
            _ => return Err(WireError::Field(what)),
        }
        ranges.push((range.first, range.count));
    }
    Ok(ranges)
}

/// The other way.
pub(super) fn ranges_to_proto(ranges: &[(u64, u64)]) -> Vec<proto::Range> {
    ranges.iter().map(|&(first, count)| proto::Range { first, count }).collect()
}
