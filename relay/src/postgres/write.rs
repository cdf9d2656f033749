//! Batches as one call of `write_batches`: one statement is one transaction and one round trip.

use std::collections::{BTreeMap, BTreeSet};

use kith_protocol::mailbox::{Batch, Row, RowKey, Totals};
use kith_protocol::{MailboxId, Wall};
use kith_store::mailbox::{MailboxStoreError, Written};

use super::error::Failure;
use super::rows::{self, Place, damaged};
use super::session::Session;

/// A mailbox or token: its batch, expected, new version, new content, whether it changes.
#[derive(Default)]
struct Head {
    batch: i32,
    expected: Option<i64>,
    version: Option<i64>,
    content: Option<Vec<u8>>,
    change: bool,
}

type Heads = BTreeMap<(i16, [u8; 16]), Head>;

/// The arguments, column by column.
#[derive(Default)]
pub(super) struct Arguments {
    head_batch: Vec<i32>,
    head_kind: Vec<i16>,
    head_id: Vec<Vec<u8>>,
    head_expected: Vec<Option<i64>>,
    head_version: Vec<Option<i64>>,
    head_content: Vec<Option<Vec<u8>>>,
    head_change: Vec<bool>,
    item_batch: Vec<i32>,
    item_mailbox: Vec<Vec<u8>>,
    item_kind: Vec<i16>,
    item_key: Vec<Vec<u8>>,
    item_content: Vec<Vec<u8>>,
    item_gone_batch: Vec<i32>,
    item_gone_mailbox: Vec<Vec<u8>>,
    item_gone_kind: Vec<i16>,
    item_gone_key: Vec<Vec<u8>>,
    envelope_batch: Vec<i32>,
    envelope_mailbox: Vec<Vec<u8>>,
    envelope_cursor: Vec<i64>,
    envelope_id: Vec<Vec<u8>>,
    envelope_right: Vec<Vec<u8>>,
    envelope_stored_at: Vec<i64>,
    envelope_body: Vec<bytes::Bytes>,
    envelope_gone_batch: Vec<i32>,
    envelope_gone_mailbox: Vec<Vec<u8>>,
    envelope_gone_cursor: Vec<i64>,
    mark_batch: Vec<i32>,
    mark_kind: Vec<i16>,
    mark_time: Vec<i64>,
    mark_mailbox: Vec<Vec<u8>>,
    mark_key: Vec<Vec<u8>>,
    mark_content: Vec<Vec<u8>>,
    mark_gone_batch: Vec<i32>,
    mark_gone_kind: Vec<i16>,
    mark_gone_time: Vec<i64>,
    mark_gone_mailbox: Vec<Vec<u8>>,
    mark_gone_key: Vec<Vec<u8>>,
    totals: [Vec<i64>; 5],
    instant: i64,
    /// What each batch expects something of.
    expected: Vec<Vec<RowKey>>,
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
    pub(super) fn new(batches: Vec<Batch>, now: Wall) -> Result<Self, MailboxStoreError> {
        let mut arguments = Self { instant: now.0.cast_signed(), ..Self::default() };
        // in the order in which they are locked
        let mut heads = Heads::new();
        for (number, batch) in (1..).zip(batches) {
            arguments.add(number, batch, &mut heads)?;
        }
        for ((kind, id), head) in heads {
            arguments.head_batch.push(head.batch);
            arguments.head_kind.push(kind);
            arguments.head_id.push(id.to_vec());
            arguments.head_expected.push(head.expected);
            arguments.head_version.push(head.version);
            arguments.head_content.push(head.content);
            arguments.head_change.push(head.change);
        }
        Ok(arguments)
    }

    /// What all batches expect something of.
    pub(super) fn all_expected(self) -> Vec<RowKey> {
        self.expected.into_iter().flatten().collect()
    }

    fn add(&mut self, number: i32, batch: Batch, heads: &mut Heads) -> Result<(), MailboxStoreError> {
        let Totals { mailboxes, envelopes, bytes, tombstones, rights } = batch.totals;
        for (column, change) in self.totals.iter_mut().zip([mailboxes, envelopes, bytes, tombstones, rights])
        {
            column.push(change);
        }
        self.expected.push(batch.expected.iter().map(|(key, _)| *key).collect());
        for (key, expected) in batch.expected {
            if let Place::Head { kind, id } = rows::place(&key) {
                let expected = expected.map(u64::cast_signed);
                heads.insert((kind, id), Head { batch: number, expected, ..Head::default() });
            }
        }
        for (key, row) in batch.changes {
            match (rows::place(&key), row) {
                (Place::Head { kind, id }, row) => {
                    let head = heads.entry((kind, id)).or_default();
                    head.batch = number;
                    head.version = row.as_ref().and_then(version);
                    head.content = row.as_ref().map(rows::encode).transpose()?;
                    head.change = true;
                }
                (place, row) => self.change(number, &key, place, row)?,
            }
        }
        Ok(())
    }

    fn change(
        &mut self,
        batch: i32,
        key: &RowKey,
        place: Place,
        row: Option<Row>,
    ) -> Result<(), MailboxStoreError> {
        match (place, row) {
            (Place::Head { .. }, _) => {}
            (Place::Item { mailbox, kind, key }, Some(row)) => {
                self.item_batch.push(batch);
                self.item_mailbox.push(mailbox.to_vec());
                self.item_kind.push(kind);
                self.item_key.push(key);
                self.item_content.push(rows::encode(&row)?);
            }
            (Place::Item { mailbox, kind, key }, None) => {
                self.item_gone_batch.push(batch);
                self.item_gone_mailbox.push(mailbox.to_vec());
                self.item_gone_kind.push(kind);
                self.item_gone_key.push(key);
            }
            (Place::Envelope { mailbox, cursor }, Some(Row::Envelope(row))) => {
                self.envelope_batch.push(batch);
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
                self.envelope_gone_batch.push(batch);
                self.envelope_gone_mailbox.push(mailbox.to_vec());
                self.envelope_gone_cursor.push(cursor);
            }
            (Place::Mark { kind, time, mailbox, key }, Some(row)) => {
                self.mark_batch.push(batch);
                self.mark_kind.push(kind);
                self.mark_time.push(time);
                self.mark_mailbox.push(mailbox.to_vec());
                self.mark_key.push(key);
                self.mark_content.push(rows::encode(&row)?);
            }
            (Place::Mark { kind, time, mailbox, key }, None) => {
                self.mark_gone_batch.push(batch);
                self.mark_gone_kind.push(kind);
                self.mark_gone_time.push(time);
                self.mark_gone_mailbox.push(mailbox.to_vec());
                self.mark_gone_key.push(key);
            }
        }
        Ok(())
    }

    /// Writes the batches of which everything expected holds.
    pub(super) async fn write(&self, session: &Session) -> Result<Written, Failure> {
        let [mailboxes, envelopes, all_bytes, tombstones, rights] = &self.totals;
        let bodies: Vec<&[u8]> = self.envelope_body.iter().map(AsRef::as_ref).collect();
        let row = session
            .client
            .query_one(
                &session.statements.write,
                &[
                    &self.head_batch,
                    &self.head_kind,
                    &self.head_id,
                    &self.head_expected,
                    &self.head_version,
                    &self.head_content,
                    &self.head_change,
                    &self.item_batch,
                    &self.item_mailbox,
                    &self.item_kind,
                    &self.item_key,
                    &self.item_content,
                    &self.item_gone_batch,
                    &self.item_gone_mailbox,
                    &self.item_gone_kind,
                    &self.item_gone_key,
                    &self.envelope_batch,
                    &self.envelope_mailbox,
                    &self.envelope_cursor,
                    &self.envelope_id,
                    &self.envelope_right,
                    &self.envelope_stored_at,
                    &bodies,
                    &self.envelope_gone_batch,
                    &self.envelope_gone_mailbox,
                    &self.envelope_gone_cursor,
                    &self.mark_batch,
                    &self.mark_kind,
                    &self.mark_time,
                    &self.mark_mailbox,
                    &self.mark_key,
                    &self.mark_content,
                    &self.mark_gone_batch,
                    &self.mark_gone_kind,
                    &self.mark_gone_time,
                    &self.mark_gone_mailbox,
                    &self.mark_gone_key,
                    mailboxes,
                    envelopes,
                    all_bytes,
                    tombstones,
                    rights,
                    &self.instant,
                ],
            )
            .await?;
        let wrong: Option<Vec<i32>> = row.try_get(0)?;
        let wrong: BTreeSet<usize> =
            wrong.unwrap_or_default().into_iter().filter_map(|number| usize::try_from(number).ok()).collect();
        // they are counted from 1
        let conflicts = wrong.into_iter().filter_map(|number| self.expected.get(number.checked_sub(1)?));
        let conflicts = conflicts.flatten().copied().collect();
        // without sums nothing was written
        let Some(mailboxes) = row.try_get(1)? else { return Ok(Written { totals: None, conflicts }) };
        let totals = Totals {
            mailboxes,
            envelopes: row.try_get(2)?,
            bytes: row.try_get(3)?,
            tombstones: row.try_get(4)?,
            rights: row.try_get(5)?,
        };
        Ok(Written { totals: Some(totals), conflicts })
    }
}
