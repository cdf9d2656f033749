//! A batch as one call of `write_batch`: one statement is one transaction and one round trip.

use std::collections::BTreeMap;

use kith_protocol::mailbox::{Batch, Row, RowKey, Totals};
use kith_protocol::{MailboxId, Wall};
use kith_store::mailbox::MailboxStoreError;

use super::error::Failure;
use super::rows::{self, Place, damaged};
use super::session::Session;

/// A mailbox or token: expected, new version, new content, whether it changes.
type Head = (Option<i64>, Option<i64>, Option<Vec<u8>>, bool);

/// The arguments, column by column.
#[derive(Default)]
pub(super) struct Arguments {
    head_kind: Vec<i16>,
    head_id: Vec<Vec<u8>>,
    head_expected: Vec<Option<i64>>,
    head_version: Vec<Option<i64>>,
    head_content: Vec<Option<Vec<u8>>>,
    head_change: Vec<bool>,
    item_mailbox: Vec<Vec<u8>>,
    item_kind: Vec<i16>,
    item_key: Vec<Vec<u8>>,
    item_content: Vec<Vec<u8>>,
    item_gone_mailbox: Vec<Vec<u8>>,
    item_gone_kind: Vec<i16>,
    item_gone_key: Vec<Vec<u8>>,
    envelope_mailbox: Vec<Vec<u8>>,
    envelope_cursor: Vec<i64>,
    envelope_id: Vec<Vec<u8>>,
    envelope_right: Vec<Vec<u8>>,
    envelope_stored_at: Vec<i64>,
    envelope_body: Vec<bytes::Bytes>,
    envelope_gone_mailbox: Vec<Vec<u8>>,
    envelope_gone_cursor: Vec<i64>,
    mark_kind: Vec<i16>,
    mark_time: Vec<i64>,
    mark_mailbox: Vec<Vec<u8>>,
    mark_key: Vec<Vec<u8>>,
    mark_content: Vec<Vec<u8>>,
    mark_gone_kind: Vec<i16>,
    mark_gone_time: Vec<i64>,
    mark_gone_mailbox: Vec<Vec<u8>>,
    mark_gone_key: Vec<Vec<u8>>,
    totals: Totals,
    instant: i64,
    /// Where something arrives.
    pub(super) arrivals: Vec<MailboxId>,
}

fn version(row: &Row) -> Option<i64> {
    match row {
        Row::Mailbox(row) => Some(row.version.cast_signed()),
        Row::Token(row) => Some(row.version.cast_signed()),
        _ => None,
    }
}

impl Arguments {
    pub(super) fn new(batch: Batch, now: Wall) -> Result<Self, MailboxStoreError> {
        let mut arguments = Self { totals: batch.totals, instant: now.0.cast_signed(), ..Self::default() };
        // in the order in which they are locked
        let mut heads: BTreeMap<(i16, [u8; 16]), Head> = BTreeMap::new();
        for (key, expected) in batch.expected {
            if let Place::Head { kind, id } = rows::place(&key) {
                heads.insert((kind, id), (expected.map(u64::cast_signed), None, None, false));
            }
        }
        for (key, row) in batch.changes {
            match (rows::place(&key), row) {
                (Place::Head { kind, id }, row) => {
                    let head = heads.entry((kind, id)).or_default();
                    head.1 = row.as_ref().and_then(version);
                    head.2 = row.as_ref().map(rows::encode).transpose()?;
                    head.3 = true;
                }
                (place, row) => arguments.change(&key, place, row)?,
            }
        }
        for ((kind, id), (expected, version, content, change)) in heads {
            arguments.head_kind.push(kind);
            arguments.head_id.push(id.to_vec());
            arguments.head_expected.push(expected);
            arguments.head_version.push(version);
            arguments.head_content.push(content);
            arguments.head_change.push(change);
        }
        Ok(arguments)
    }

    fn change(&mut self, key: &RowKey, place: Place, row: Option<Row>) -> Result<(), MailboxStoreError> {
        match (place, row) {
            (Place::Head { .. }, _) => {}
            (Place::Item { mailbox, kind, key }, Some(row)) => {
                self.item_mailbox.push(mailbox.to_vec());
                self.item_kind.push(kind);
                self.item_key.push(key);
                self.item_content.push(rows::encode(&row)?);
            }
            (Place::Item { mailbox, kind, key }, None) => {
                self.item_gone_mailbox.push(mailbox.to_vec());
                self.item_gone_kind.push(kind);
                self.item_gone_key.push(key);
            }
            (Place::Envelope { mailbox, cursor }, Some(Row::Envelope(row))) => {
                self.envelope_mailbox.push(mailbox.to_vec());
                self.envelope_cursor.push(cursor);
                self.envelope_id.push(row.id.0.to_vec());
                self.envelope_right.push(row.right.0.to_vec());
                self.envelope_stored_at.push(row.stored_at.0.cast_signed());
                self.envelope_body.push(row.body);
                self.arrivals.extend(key.mailbox());
            }
            (Place::Envelope { .. }, Some(_)) => {
                return Err(damaged("another row where an envelope belongs"));
            }
            (Place::Envelope { mailbox, cursor }, None) => {
                self.envelope_gone_mailbox.push(mailbox.to_vec());
                self.envelope_gone_cursor.push(cursor);
            }
            (Place::Mark { kind, time, mailbox, key }, Some(row)) => {
                self.mark_kind.push(kind);
                self.mark_time.push(time);
                self.mark_mailbox.push(mailbox.to_vec());
                self.mark_key.push(key);
                self.mark_content.push(rows::encode(&row)?);
            }
            (Place::Mark { kind, time, mailbox, key }, None) => {
                self.mark_gone_kind.push(kind);
                self.mark_gone_time.push(time);
                self.mark_gone_mailbox.push(mailbox.to_vec());
                self.mark_gone_key.push(key);
            }
        }
        Ok(())
    }

    /// Writes; `None` if something expected does not hold.
    pub(super) async fn write(&self, session: &Session) -> Result<Option<Totals>, Failure> {
        let bodies: Vec<&[u8]> = self.envelope_body.iter().map(AsRef::as_ref).collect();
        let row = session
            .client
            .query_opt(
                &session.statements.write,
                &[
                    &self.head_kind,
                    &self.head_id,
                    &self.head_expected,
                    &self.head_version,
                    &self.head_content,
                    &self.head_change,
                    &self.item_mailbox,
                    &self.item_kind,
                    &self.item_key,
                    &self.item_content,
                    &self.item_gone_mailbox,
                    &self.item_gone_kind,
                    &self.item_gone_key,
                    &self.envelope_mailbox,
                    &self.envelope_cursor,
                    &self.envelope_id,
                    &self.envelope_right,
                    &self.envelope_stored_at,
                    &bodies,
                    &self.envelope_gone_mailbox,
                    &self.envelope_gone_cursor,
                    &self.mark_kind,
                    &self.mark_time,
                    &self.mark_mailbox,
                    &self.mark_key,
                    &self.mark_content,
                    &self.mark_gone_kind,
                    &self.mark_gone_time,
                    &self.mark_gone_mailbox,
                    &self.mark_gone_key,
                    &self.totals.mailboxes,
                    &self.totals.envelopes,
                    &self.totals.bytes,
                    &self.totals.tombstones,
                    &self.totals.rights,
                    &self.instant,
                ],
            )
            .await?;
        row.map(|row| {
            Ok(Totals {
                mailboxes: row.try_get(0)?,
                envelopes: row.try_get(1)?,
                bytes: row.try_get(2)?,
                tombstones: row.try_get(3)?,
                rights: row.try_get(4)?,
            })
        })
        .transpose()
    }
}
