//! One record of the export log as bytes, found again behind damage.

use std::io::{self, Read as _};

/// Starts every record; looked for behind damage.
const MAGIC: [u8; 4] = *b"\xf1KxR";
const HEAD: usize = 4 + 4 + 4 + 17;
/// Longest payload taken for true.
const PAYLOAD_MAX: usize = 64 * 1024 * 1024;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A commit that was acknowledged only once it was durable.
    Durable,
    /// A commit that was acknowledged before.
    Lazy,
    /// Rows of a snapshot.
    Rows,
    /// The end of a snapshot; its number counts the records before it.
    End,
    /// The log was closed in order after the commit of this number.
    Closed,
    /// The engine has every commit up to this number on disk by itself.
    Synced,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Durable => 1,
            Self::Lazy => 2,
            Self::Rows => 3,
            Self::End => 4,
            Self::Closed => 5,
            Self::Synced => 6,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Durable),
            2 => Some(Self::Lazy),
            3 => Some(Self::Rows),
            4 => Some(Self::End),
            5 => Some(Self::Closed),
            6 => Some(Self::Synced),
            _ => None,
        }
    }
}

/// What stands in clear before a record's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// Of the commit, or of the record in its snapshot.
    pub(crate) number: u64,
    /// Commits written together share it; in a snapshot, the commit it was begun at.
    pub(crate) group: u64,
}

impl Header {
    /// The bytes the payload is bound to.
    pub(crate) fn bytes(self) -> [u8; 17] {
        let mut bytes = [0; 17];
        let (kind, numbers) = bytes.split_at_mut(1);
        let (number, group) = numbers.split_at_mut(8);
        kind.copy_from_slice(&[self.kind.byte()]);
        number.copy_from_slice(&self.number.to_le_bytes());
        group.copy_from_slice(&self.group.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; 17]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (number, group) = rest.split_first_chunk::<8>()?;
        Some(Self {
            kind: Kind::from_byte(*kind)?,
            number: u64::from_le_bytes(*number),
            group: u64::from_le_bytes(group.try_into().ok()?),
        })
    }
}

/// Appends a record to a buffer.
pub(crate) fn encode(header: Header, payload: &[u8], into: &mut Vec<u8>) -> io::Result<()> {
    if payload.len() > PAYLOAD_MAX {
        return Err(io::Error::other("a record of the export log is too large"));
    }
    let len = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let header = header.bytes();
    into.extend_from_slice(&MAGIC);
    into.extend_from_slice(&len.to_le_bytes());
    into.extend_from_slice(&checksum(&header, payload).to_le_bytes());
    into.extend_from_slice(&header);
    into.extend_from_slice(payload);
    Ok(())
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(payload.len() as u64).to_le_bytes());
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}

/// Reads the next record of a file that must be whole; `None` at its end.
pub(crate) fn read_from(from: &mut impl io::Read) -> io::Result<Option<(Header, Vec<u8>)>> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a record is damaged");
    let mut head = [0; HEAD];
    let mut filled = 0;
    while let Some(rest) = head.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest)? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(damaged()),
            count => filled += count,
        }
    }
    let rest = head.strip_prefix(&MAGIC).ok_or_else(damaged)?;
    let (len, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
    let (sum, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
    let header: &[u8; 17] = rest.try_into().map_err(|_| damaged())?;
    let len = u64::from(u32::from_le_bytes(*len));
    if len > PAYLOAD_MAX as u64 {
        return Err(damaged());
    }
    let mut payload = Vec::new();
    // grows with what is there, not with what the length claims
    io::Read::take(from, len).read_to_end(&mut payload)?;
    if payload.len() as u64 != len || checksum(header, &payload) != u32::from_le_bytes(*sum) {
        return Err(damaged());
    }
    Ok(Some((Header::from_bytes(header).ok_or_else(damaged)?, payload)))
}

/// The records of one file, in order; damaged stretches are stepped over and counted. Zeros at the end are room that
/// was made for records to come.
#[derive(Debug)]
pub(crate) struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the next record is to be written.
    pub(crate) end: usize,
    /// Bytes that belong to no whole record.
    pub(crate) damaged: u64,
}

impl<'a> Frames<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let room = bytes.iter().rev().take_while(|byte| **byte == 0).count();
        let end = bytes.len().saturating_sub(room);
        Self { bytes, at: 0, end, damaged: 0 }
    }

    /// The whole record that starts here, if one does, and its length.
    fn parse(bytes: &'a [u8]) -> Option<(Header, &'a [u8], usize)> {
        let rest = bytes.strip_prefix(&MAGIC)?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (sum, rest) = rest.split_first_chunk::<4>()?;
        let (header, rest) = rest.split_first_chunk::<17>()?;
        let len = usize::try_from(u32::from_le_bytes(*len)).ok().filter(|len| *len <= PAYLOAD_MAX)?;
        let payload = rest.get(..len)?;
        if checksum(header, payload) != u32::from_le_bytes(*sum) {
            return None;
        }
        Some((Header::from_bytes(header)?, payload, HEAD + len))
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = (Header, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
            if let Some((header, payload, len)) = Self::parse(rest) {
                self.at += len;
                // a record may itself end with zeros
                self.end = self.end.max(self.at);
                return Some((header, payload));
            }
            if self.at >= self.end {
                self.at = self.bytes.len();
                return None;
            }
            // on to the next place that could start a record
            let step = rest
                .get(1..)
                .and_then(|rest| rest.windows(MAGIC.len()).position(|window| window == MAGIC))
                .map_or(rest.len(), |at| at + 1)
                .min(self.end.saturating_sub(self.at));
            self.damaged = self.damaged.saturating_add(step as u64);
            self.at += step;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(count: u64) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        for number in 1..=count {
            starts.push(bytes.len());
            let header = Header { kind: Kind::Durable, number, group: number };
            encode(header, &vec![7; 40 + number as usize], &mut bytes).unwrap();
        }
        (bytes, starts)
    }

    #[test]
    fn records_come_back_as_they_were_written() {
        let (bytes, _) = sample(20);
        let mut frames = Frames::new(&bytes);
        let found: Vec<_> = frames.by_ref().map(|(header, payload)| (header.number, payload.len())).collect();
        assert_eq!(found, (1..=20).map(|n| (n, 40 + n as usize)).collect::<Vec<_>>());
        assert_eq!(frames.damaged, 0);
    }

    #[test]
    fn any_flipped_bit_costs_one_record_and_never_yields_a_wrong_one() {
        let (bytes, starts) = sample(8);
        for bit in 0..bytes.len() * 8 {
            let mut harmed = bytes.clone();
            harmed[bit / 8] ^= 1 << (bit % 8);
            let hit = starts.iter().filter(|start| **start <= bit / 8).count() as u64;
            let found: Vec<_> = Frames::new(&harmed).map(|(header, _)| header.number).collect();
            assert_eq!(found, (1..=8).filter(|n| *n != hit).collect::<Vec<_>>(), "bit {bit}");
        }
    }

    #[test]
    fn a_truncated_file_gives_all_whole_records() {
        let (bytes, starts) = sample(8);
        for len in 0..bytes.len() {
            let whole = starts.iter().skip(1).chain([&bytes.len()]).filter(|end| **end <= len).count();
            assert_eq!(Frames::new(&bytes[..len]).count(), whole);
        }
    }

    #[test]
    fn zeros_behind_the_last_record_are_room_and_no_damage() {
        let (bytes, _) = sample(3);
        let mut roomy = bytes.clone();
        roomy.resize(bytes.len() + 5000, 0);
        let mut frames = Frames::new(&roomy);
        assert_eq!(frames.by_ref().count(), 3);
        assert_eq!((frames.end, frames.damaged), (bytes.len(), 0));
        // a torn record in front of the room is damage
        let mut torn = roomy.clone();
        torn[bytes.len() - 1] = 0;
        let mut frames = Frames::new(&torn);
        assert_eq!(frames.by_ref().count(), 2);
        assert!(frames.damaged > 0);
        assert_eq!(Frames::new(&[0; 100]).count(), 0);
    }

    #[test]
    fn random_bytes_hold_no_record() {
        let mut state = 1_u64;
        let bytes: Vec<u8> = (0..100_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as u8
            })
            .collect();
        let mut frames = Frames::new(&bytes);
        assert!(frames.next().is_none());
        assert_eq!(frames.damaged, 100_000);
    }
}
