//! Rows as keys and values of an engine.
//!
//! ```text
//! m mailbox 1            mailbox          d hour mailbox kind id   what ends
//! m mailbox 2 right      right            v day mailbox            last visit
//! m mailbox 3 cursor     envelope         w mailbox kind right     work
//! m mailbox 4 cursor n   its chunks       t token                  token
//! m mailbox 5 id         known            s                        sums and last instant
//! m mailbox 6 number     one-time key     S                        schema version
//! m mailbox 7            bundle           n                        newest group of the journal that is here
//! m mailbox 8 n          its chunks       o                        the relay whose store it is
//! ```
//! Numbers are big endian. A value is its number of chunks, its (first) part, and the CRC-32 of key and all before; so a
//! flipped bit is noticed, as is a row in a wrong place.

use bytes::Bytes;
use kith_protocol::mailbox::{Due, EnvelopeRow, Row, RowKey, Work};
use kith_protocol::wire::relay::Listed;
use kith_protocol::{EnvelopeId, MailboxId, RightId, Wall};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::MailboxStoreError;
use crate::engine::{Pair, VALUE_MAX};

/// Version of this layout. 2: the newest rows may be in a journal.
pub(super) const SCHEMA: u16 = 2;
/// Key of the sums and the last instant.
pub(super) const STATE: &[u8] = b"s";
/// Key of the number of the newest group in the engine.
pub(super) const NUMBER: &[u8] = b"n";
/// Key of the relay's id.
pub(super) const OWNER: &[u8] = b"o";
/// Key of the schema version.
pub(super) const VERSION: &[u8] = b"S";

/// Values up to this stay in one piece.
const INLINE: usize = 2304;
/// The first part of a longer value: what lists need of an envelope is in it.
const HEAD: usize = 64;
/// The other parts.
const CHUNK: usize = VALUE_MAX - 16;

const RIGHT: u8 = 2;
const ENVELOPE: u8 = 3;
const ENVELOPE_CHUNK: u8 = 4;
const KNOWN: u8 = 5;
const ONE_TIME_KEY: u8 = 6;
const BUNDLE: u8 = 7;
const BUNDLE_CHUNK: u8 = 8;

pub(super) fn damaged(what: impl Into<String>) -> MailboxStoreError {
    MailboxStoreError::Damaged(what.into())
}

fn of_mailbox(id: &MailboxId, tag: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(18 + rest.len());
    key.push(b'm');
    key.extend_from_slice(id.as_bytes());
    key.push(tag);
    key.extend_from_slice(rest);
    key
}

fn by_time(prefix: u8, time: u32, id: &MailboxId) -> Vec<u8> {
    let mut key = vec![prefix];
    key.extend_from_slice(&time.to_be_bytes());
    key.extend_from_slice(id.as_bytes());
    key
}

pub(super) fn key(key: &RowKey) -> Vec<u8> {
    match key {
        RowKey::Mailbox(id) => of_mailbox(id, 1, &[]),
        RowKey::Right(id, right) => of_mailbox(id, RIGHT, right.as_bytes()),
        RowKey::Envelope(id, cursor) => of_mailbox(id, ENVELOPE, &cursor.to_be_bytes()),
        RowKey::Known(id, envelope) => of_mailbox(id, KNOWN, envelope.as_bytes()),
        RowKey::OneTimeKey(id, number) => of_mailbox(id, ONE_TIME_KEY, &number.to_be_bytes()),
        RowKey::Bundle(id) => of_mailbox(id, BUNDLE, &[]),
        RowKey::Due(hour, id, due) => {
            let mut key = by_time(b'd', *hour, id);
            let (kind, bytes) = match due {
                Due::Envelope(envelope) => (1, envelope.as_bytes()),
                Due::Right(right) => (2, right.as_bytes()),
            };
            key.push(kind);
            key.extend_from_slice(bytes);
            key
        }
        RowKey::Visit(day, id) => by_time(b'v', *day, id),
        RowKey::Work(id, work) => {
            let mut key = vec![b'w'];
            key.extend_from_slice(id.as_bytes());
            match work {
                Work::Purge(right) => {
                    key.push(1);
                    key.extend_from_slice(right.as_bytes());
                }
                Work::Evict => key.push(2),
            }
            key
        }
        RowKey::Token(token) => [b"t".as_slice(), token].concat(),
    }
}

/// The key behind these bytes; `None` if they name a chunk, or nothing known here.
pub(super) fn parse_key(bytes: &[u8]) -> Option<RowKey> {
    let (prefix, rest) = bytes.split_first()?;
    let mailbox = |rest: &[u8]| -> Option<(MailboxId, Vec<u8>)> {
        let (id, rest) = rest.split_first_chunk::<16>()?;
        Some((MailboxId(*id), rest.to_vec()))
    };
    let number = |bytes: &[u8]| Some(u64::from_be_bytes(bytes.try_into().ok()?));
    match prefix {
        b'm' => {
            let (id, rest) = mailbox(rest)?;
            let (tag, rest) = rest.split_first()?;
            Some(match *tag {
                1 => RowKey::Mailbox(id),
                RIGHT => RowKey::Right(id, RightId::try_from(rest).ok()?),
                ENVELOPE => RowKey::Envelope(id, number(rest)?),
                KNOWN => RowKey::Known(id, EnvelopeId::try_from(rest).ok()?),
                ONE_TIME_KEY => RowKey::OneTimeKey(id, number(rest)?),
                BUNDLE => RowKey::Bundle(id),
                _ => return None,
            })
        }
        b'd' => {
            let (hour, rest) = rest.split_first_chunk::<4>()?;
            let (id, rest) = mailbox(rest)?;
            let (kind, rest) = rest.split_first()?;
            let due = match *kind {
                1 => Due::Envelope(EnvelopeId::try_from(rest).ok()?),
                2 => Due::Right(RightId::try_from(rest).ok()?),
                _ => return None,
            };
            Some(RowKey::Due(u32::from_be_bytes(*hour), id, due))
        }
        b'v' => {
            let (day, rest) = rest.split_first_chunk::<4>()?;
            Some(RowKey::Visit(u32::from_be_bytes(*day), mailbox(rest)?.0))
        }
        b'w' => {
            let (id, rest) = mailbox(rest)?;
            match rest.split_first()? {
                (1, right) => Some(RowKey::Work(id, Work::Purge(RightId::try_from(right).ok()?))),
                (2, []) => Some(RowKey::Work(id, Work::Evict)),
                _ => None,
            }
        }
        b't' => Some(RowKey::Token(rest.try_into().ok()?)),
        _ => None,
    }
}

/// All envelopes of a mailbox.
pub(super) fn envelopes(id: &MailboxId) -> Vec<u8> {
    of_mailbox(id, ENVELOPE, &[])
}

/// Prefixes of a mailbox's other rows.
pub(super) fn rest(id: &MailboxId) -> [Vec<u8>; 4] {
    [RIGHT, KNOWN, ONE_TIME_KEY, BUNDLE].map(|tag| of_mailbox(id, tag, &[]))
}

/// Keys of a long row's chunks.
pub(super) fn chunk_key(key: &RowKey, number: u8) -> Option<Vec<u8>> {
    match key {
        RowKey::Envelope(id, cursor) => {
            let mut rest = cursor.to_be_bytes().to_vec();
            rest.push(number);
            Some(of_mailbox(id, ENVELOPE_CHUNK, &rest))
        }
        RowKey::Bundle(id) => Some(of_mailbox(id, BUNDLE_CHUNK, &[number])),
        _ => None,
    }
}

fn to_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, MailboxStoreError> {
    postcard::to_allocvec(value).map_err(|error| damaged(error.to_string()))
}

fn payload(row: &Row) -> Result<Vec<u8>, MailboxStoreError> {
    match row {
        Row::Mailbox(row) => to_bytes(row),
        Row::Right(row) => to_bytes(row),
        Row::Envelope(row) => to_bytes(row),
        Row::Known(row) => to_bytes(row),
        Row::OneTimeKey(key) => Ok(key.to_vec()),
        Row::Bundle(bundle) => Ok(bundle.to_vec()),
        Row::Mark => Ok(Vec::new()),
        Row::Work(done) => to_bytes(done),
        Row::Token(row) => to_bytes(row),
    }
}

fn sealed(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut sum = crc32fast::Hasher::new();
    sum.update(key);
    let mut value = Vec::with_capacity(parts.iter().map(|part| part.len()).sum::<usize>() + 4);
    for part in parts {
        sum.update(part);
        value.extend_from_slice(part);
    }
    value.extend_from_slice(&sum.finalize().to_be_bytes());
    value
}

fn unsealed<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], MailboxStoreError> {
    let wrong =
        || damaged(format!("the row {} is not what was written", data_encoding::HEXLOWER.encode(key)));
    let (content, sum) = value.split_last_chunk::<4>().ok_or_else(wrong)?;
    let mut found = crc32fast::Hasher::new();
    found.update(key);
    found.update(content);
    if found.finalize().to_be_bytes() == *sum { Ok(content) } else { Err(wrong()) }
}

/// A plain value with its sum.
pub(super) fn plain<T: Serialize>(key: &[u8], value: &T) -> Result<Vec<u8>, MailboxStoreError> {
    Ok(sealed(key, &[&to_bytes(value)?]))
}

/// Reads it again.
pub(super) fn from_plain<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, MailboxStoreError> {
    postcard::from_bytes(unsealed(key, value)?).map_err(|error| damaged(error.to_string()))
}

/// The pairs a row is kept as: the first under its own key.
pub(super) fn encode(key: &RowKey, row: &Row) -> Result<Vec<Pair>, MailboxStoreError> {
    let payload = payload(row)?;
    let own = self::key(key);
    if payload.len() <= INLINE {
        let value = sealed(&own, &[&[0], &payload]);
        return Ok(vec![(own, value)]);
    }
    let (head, rest) = payload.split_at_checked(HEAD).unwrap_or((&payload, &[]));
    let chunks = rest.chunks(CHUNK);
    let count = u8::try_from(chunks.len()).map_err(|_| damaged("a row is too long"))?;
    let value = sealed(&own, &[&[count], head]);
    let mut pairs = vec![(own, value)];
    for (number, chunk) in (0..count).zip(chunks) {
        let key = chunk_key(key, number).ok_or_else(|| damaged("a row is too long"))?;
        let value = sealed(&key, &[chunk]);
        pairs.push((key, value));
    }
    Ok(pairs)
}

/// The number of chunks and the (first) part.
pub(super) fn head<'a>(own: &[u8], value: &'a [u8]) -> Result<(u8, &'a [u8]), MailboxStoreError> {
    let (count, part) = unsealed(own, value)?.split_first().ok_or_else(|| damaged("an empty row"))?;
    Ok((*count, part))
}

/// The row behind a value; `chunk` reads its chunks.
pub(super) fn decode(
    key: &RowKey,
    own: &[u8],
    value: &[u8],
    mut chunk: impl FnMut(&[u8]) -> Result<Option<Vec<u8>>, MailboxStoreError>,
) -> Result<Row, MailboxStoreError> {
    let (count, part) = head(own, value)?;
    if count == 0 {
        return from_payload(key, part);
    }
    let mut payload = part.to_vec();
    for number in 0..count {
        let key = chunk_key(key, number).ok_or_else(|| damaged("a row has chunks it cannot have"))?;
        let value = chunk(&key)?.ok_or_else(|| damaged("a chunk of a row is missing"))?;
        payload.extend_from_slice(unsealed(&key, &value)?);
    }
    from_payload(key, &payload)
}

fn from_payload(key: &RowKey, payload: &[u8]) -> Result<Row, MailboxStoreError> {
    fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, MailboxStoreError> {
        postcard::from_bytes(payload).map_err(|error| damaged(error.to_string()))
    }
    Ok(match key {
        RowKey::Mailbox(_) => Row::Mailbox(read(payload)?),
        RowKey::Right(..) => Row::Right(read(payload)?),
        RowKey::Envelope(..) => Row::Envelope(read::<EnvelopeRow>(payload)?),
        RowKey::Known(..) => Row::Known(read(payload)?),
        RowKey::OneTimeKey(..) => {
            Row::OneTimeKey(payload.try_into().map_err(|_| damaged("a one-time key has a wrong length"))?)
        }
        RowKey::Bundle(_) => Row::Bundle(Bytes::copy_from_slice(payload)),
        RowKey::Due(..) | RowKey::Visit(..) => Row::Mark,
        RowKey::Work(..) => Row::Work(read(payload)?),
        RowKey::Token(_) => Row::Token(read(payload)?),
    })
}

/// What a list tells of an envelope, from the first part of its value alone.
pub(super) fn listed(own: &[u8], value: &[u8]) -> Result<Listed, MailboxStoreError> {
    let wrong = || damaged("an envelope's row cannot be read");
    let Some(RowKey::Envelope(_, cursor)) = parse_key(own) else { return Err(wrong()) };
    let (_, part) = head(own, value)?;
    // the fields of `EnvelopeRow` in their order; the body begins with its length
    let ((id, right, stored_at, bytes), _) =
        postcard::take_from_bytes::<(EnvelopeId, RightId, Wall, u32)>(part).map_err(|_| wrong())?;
    Ok(Listed { id, right, bytes, stored_at, cursor })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(len: usize) -> (RowKey, Row) {
        let row = EnvelopeRow {
            id: EnvelopeId([3; 16]),
            right: RightId([4; 16]),
            stored_at: Wall(u64::MAX),
            body: Bytes::from(vec![7; len]),
        };
        (RowKey::Envelope(MailboxId([1; 16]), 9), Row::Envelope(row))
    }

    #[test]
    fn rows_of_every_length_come_back_and_are_listed_by_their_first_part() {
        for len in [0, 1, 256, 2048, 2304, 4096, 65_536] {
            let (key, row) = envelope(len);
            let pairs = encode(&key, &row).unwrap();
            assert!(pairs.iter().all(|(_, value)| value.len() <= VALUE_MAX));
            let (own, value) = &pairs[0];
            assert_eq!(parse_key(own), Some(key));
            let chunk =
                |key: &[u8]| Ok(pairs.iter().find(|(own, _)| own == key).map(|(_, value)| value.clone()));
            assert_eq!(decode(&key, own, value, chunk).unwrap(), row);
            let listed = listed(own, value).unwrap();
            assert_eq!((listed.bytes as usize, listed.cursor, listed.stored_at), (len, 9, Wall(u64::MAX)));
            if pairs.len() > 1 {
                assert!(decode(&key, own, value, |_| Ok(None)).is_err());
            }
        }
    }

    #[test]
    fn every_key_comes_back() {
        let (id, right, envelope) = (MailboxId([1; 16]), RightId([2; 16]), EnvelopeId([3; 16]));
        for row in [
            RowKey::Mailbox(id),
            RowKey::Right(id, right),
            RowKey::Envelope(id, 258),
            RowKey::Known(id, envelope),
            RowKey::OneTimeKey(id, 5),
            RowKey::Bundle(id),
            RowKey::Due(700, id, Due::Envelope(envelope)),
            RowKey::Due(700, id, Due::Right(right)),
            RowKey::Visit(70, id),
            RowKey::Work(id, Work::Purge(right)),
            RowKey::Work(id, Work::Evict),
            RowKey::Token([6; 16]),
        ] {
            assert_eq!(parse_key(&key(&row)), Some(row));
            assert_eq!(
                parse_key(&[key(&row), vec![0; 17]].concat()).filter(|found| *found == row),
                match row {
                    // nothing follows these, and nothing is looked for there
                    RowKey::Mailbox(_) | RowKey::Bundle(_) | RowKey::Visit(..) => Some(row),
                    _ => None,
                }
            );
        }
    }

    #[test]
    fn a_flipped_bit_or_a_row_in_a_wrong_place_is_noticed() {
        let (key, row) = envelope(256);
        let (own, value) = encode(&key, &row).unwrap().remove(0);
        for bit in 0..value.len() * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&key, &own, &flipped, |_| Ok(None)).is_err());
        }
        let other = RowKey::Envelope(MailboxId([1; 16]), 10);
        assert!(decode(&other, &super::key(&other), &value, |_| Ok(None)).is_err());
    }
}
