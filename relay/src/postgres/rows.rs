//! Rows as columns.
//!
//! ```text
//! heads      kind id                    mailboxes (1), tokens (0), with their version
//! items      mailbox kind key           rights (2), what is known of envelopes (5), one-time keys (6), the bundle (7)
//! envelopes  mailbox cursor             in columns, so that lists are made without their bodies
//! marks      kind time mailbox key      what ends (1, by hour), last visits (2, by day), work (3)
//! ```
//! Contents are postcard, as in the other stores. Numbers that are larger than a `bigint` keep their bits.

use bytes::Bytes;
use kith_protocol::mailbox::{Due, EnvelopeRow, Row, RowKey, Work};
use kith_protocol::{EnvelopeId, MailboxId, RightId, Wall};
use kith_store::mailbox::MailboxStoreError;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(super) const TOKEN: i16 = 0;
pub(super) const MAILBOX: i16 = 1;
const RIGHT: i16 = 2;
const KNOWN: i16 = 5;
const ONE_TIME_KEY: i16 = 6;
const BUNDLE: i16 = 7;
pub(super) const DUE: i16 = 1;
pub(super) const VISIT: i16 = 2;
pub(super) const WORK: i16 = 3;

/// Where a row is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Head { kind: i16, id: [u8; 16] },
    Item { mailbox: [u8; 16], kind: i16, key: Vec<u8> },
    Envelope { mailbox: [u8; 16], cursor: i64 },
    Mark { kind: i16, time: i64, mailbox: [u8; 16], key: Vec<u8> },
}

/// A cursor as a number that sorts; no mailbox lives to see the bound.
pub(super) fn cursor(cursor: u64) -> i64 {
    i64::try_from(cursor).unwrap_or(i64::MAX)
}

fn tagged(tag: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + rest.len());
    key.push(tag);
    key.extend_from_slice(rest);
    key
}

pub(super) fn place(key: &RowKey) -> Place {
    let item = |id: &MailboxId, kind, key| Place::Item { mailbox: id.0, kind, key };
    match key {
        RowKey::Mailbox(id) => Place::Head { kind: MAILBOX, id: id.0 },
        RowKey::Token(token) => Place::Head { kind: TOKEN, id: *token },
        RowKey::Right(id, right) => item(id, RIGHT, right.0.to_vec()),
        RowKey::Known(id, envelope) => item(id, KNOWN, envelope.0.to_vec()),
        RowKey::OneTimeKey(id, number) => item(id, ONE_TIME_KEY, number.to_be_bytes().to_vec()),
        RowKey::Bundle(id) => item(id, BUNDLE, Vec::new()),
        RowKey::Envelope(id, number) => Place::Envelope { mailbox: id.0, cursor: cursor(*number) },
        RowKey::Due(hour, id, due) => {
            let key = match due {
                Due::Envelope(envelope) => tagged(1, &envelope.0),
                Due::Right(right) => tagged(2, &right.0),
            };
            Place::Mark { kind: DUE, time: i64::from(*hour), mailbox: id.0, key }
        }
        RowKey::Visit(day, id) => {
            Place::Mark { kind: VISIT, time: i64::from(*day), mailbox: id.0, key: Vec::new() }
        }
        RowKey::Work(id, work) => {
            let key = match work {
                Work::Purge(right) => tagged(1, &right.0),
                Work::Evict => tagged(2, &[]),
            };
            Place::Mark { kind: WORK, time: 0, mailbox: id.0, key }
        }
    }
}

pub(super) fn damaged(what: impl std::fmt::Display) -> MailboxStoreError {
    MailboxStoreError::Damaged(what.to_string())
}

fn id16(bytes: &[u8]) -> Result<[u8; 16], MailboxStoreError> {
    bytes.try_into().map_err(|_| damaged("an id has a wrong length"))
}

pub(super) fn head_key(kind: i16, id: &[u8]) -> Result<RowKey, MailboxStoreError> {
    match kind {
        MAILBOX => Ok(RowKey::Mailbox(MailboxId(id16(id)?))),
        TOKEN => Ok(RowKey::Token(id16(id)?)),
        other => Err(damaged(format!("there is no kind {other} of heads"))),
    }
}

pub(super) fn item_key(mailbox: &[u8], kind: i16, key: &[u8]) -> Result<RowKey, MailboxStoreError> {
    let id = MailboxId(id16(mailbox)?);
    Ok(match kind {
        RIGHT => RowKey::Right(id, RightId(id16(key)?)),
        KNOWN => RowKey::Known(id, EnvelopeId(id16(key)?)),
        ONE_TIME_KEY => {
            let number = key.try_into().map_err(|_| damaged("a one-time key's number has a wrong length"))?;
            RowKey::OneTimeKey(id, u64::from_be_bytes(number))
        }
        BUNDLE => RowKey::Bundle(id),
        other => return Err(damaged(format!("there is no kind {other} of items"))),
    })
}

pub(super) fn mark_key(
    kind: i16,
    time: i64,
    mailbox: &[u8],
    key: &[u8],
) -> Result<RowKey, MailboxStoreError> {
    let id = MailboxId(id16(mailbox)?);
    let time = u32::try_from(time).map_err(|_| damaged("a mark has an impossible time"))?;
    Ok(match (kind, key.split_first()) {
        (DUE, Some((1, envelope))) => RowKey::Due(time, id, Due::Envelope(EnvelopeId(id16(envelope)?))),
        (DUE, Some((2, right))) => RowKey::Due(time, id, Due::Right(RightId(id16(right)?))),
        (VISIT, None) => RowKey::Visit(time, id),
        (WORK, Some((1, right))) => RowKey::Work(id, Work::Purge(RightId(id16(right)?))),
        (WORK, Some((2, []))) => RowKey::Work(id, Work::Evict),
        _ => return Err(damaged(format!("a mark of kind {kind} cannot be read"))),
    })
}

fn to_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, MailboxStoreError> {
    postcard::to_allocvec(value).map_err(damaged)
}

/// What a row other than an envelope is stored as.
pub(super) fn encode(row: &Row) -> Result<Vec<u8>, MailboxStoreError> {
    match row {
        Row::Mailbox(row) => to_bytes(row),
        Row::Right(row) => to_bytes(row),
        Row::Known(row) => to_bytes(row),
        Row::OneTimeKey(key) => Ok(key.to_vec()),
        Row::Bundle(bundle) => Ok(bundle.to_vec()),
        Row::Mark => Ok(Vec::new()),
        Row::Work(done) => to_bytes(done),
        Row::Token(row) => to_bytes(row),
        Row::Envelope(_) => Err(damaged("an envelope where another row belongs")),
    }
}

pub(super) fn decode(key: &RowKey, content: &[u8]) -> Result<Row, MailboxStoreError> {
    fn read<T: DeserializeOwned>(key: &RowKey, content: &[u8]) -> Result<T, MailboxStoreError> {
        postcard::from_bytes(content)
            .map_err(|error| damaged(format!("the row {key:?} is not what was written: {error}")))
    }
    Ok(match key {
        RowKey::Mailbox(_) => Row::Mailbox(read(key, content)?),
        RowKey::Right(..) => Row::Right(read(key, content)?),
        RowKey::Known(..) => Row::Known(read(key, content)?),
        RowKey::OneTimeKey(..) => {
            Row::OneTimeKey(content.try_into().map_err(|_| damaged("a one-time key has a wrong length"))?)
        }
        RowKey::Bundle(_) => Row::Bundle(Bytes::copy_from_slice(content)),
        RowKey::Due(..) | RowKey::Visit(..) => Row::Mark,
        RowKey::Work(..) => Row::Work(read(key, content)?),
        RowKey::Token(_) => Row::Token(read(key, content)?),
        RowKey::Envelope(..) => return Err(damaged("an envelope where another row belongs")),
    })
}

/// An envelope from its columns.
pub(super) fn envelope(
    id: &[u8],
    right: &[u8],
    stored_at: i64,
    body: Vec<u8>,
) -> Result<Row, MailboxStoreError> {
    Ok(Row::Envelope(EnvelopeRow {
        id: EnvelopeId(id16(id)?),
        right: RightId(id16(right)?),
        stored_at: Wall(stored_at.cast_unsigned()),
        body: Bytes::from(body),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_comes_back_from_its_columns() {
        let (id, right, envelope) = (MailboxId([1; 16]), RightId([2; 16]), EnvelopeId([3; 16]));
        for key in [
            RowKey::Mailbox(id),
            RowKey::Right(id, right),
            RowKey::Envelope(id, 258),
            RowKey::Known(id, envelope),
            RowKey::OneTimeKey(id, 5),
            RowKey::Bundle(id),
            RowKey::Due(700, id, Due::Envelope(envelope)),
            RowKey::Due(u32::MAX, id, Due::Right(right)),
            RowKey::Visit(70, id),
            RowKey::Work(id, Work::Purge(right)),
            RowKey::Work(id, Work::Evict),
            RowKey::Token([6; 16]),
        ] {
            let back = match place(&key) {
                Place::Head { kind, id } => head_key(kind, &id),
                Place::Item { mailbox, kind, key } => item_key(&mailbox, kind, &key),
                Place::Envelope { mailbox, cursor } => {
                    Ok(RowKey::Envelope(MailboxId(mailbox), cursor.cast_unsigned()))
                }
                Place::Mark { kind, time, mailbox, key } => mark_key(kind, time, &mailbox, &key),
            };
            assert_eq!(back, Ok(key));
        }
    }

    #[test]
    fn columns_that_make_no_sense_are_damage_and_no_panic() {
        assert!(head_key(9, &[1; 16]).is_err());
        assert!(head_key(MAILBOX, &[1; 15]).is_err());
        assert!(item_key(&[1; 16], ONE_TIME_KEY, &[1]).is_err());
        assert!(mark_key(DUE, 1, &[1; 16], &[]).is_err());
        assert!(mark_key(VISIT, -1, &[1; 16], &[]).is_err());
        assert!(decode(&RowKey::Mailbox(MailboxId([1; 16])), &[1, 2]).is_err());
        assert!(decode(&RowKey::OneTimeKey(MailboxId([1; 16]), 1), &[1; 31]).is_err());
    }
}
