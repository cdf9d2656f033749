//! Many reads as one round trip: a statement for each table, sent one behind the other.

use std::collections::HashMap;

use futures::try_join;
use kith_protocol::mailbox::{Row, RowKey, Totals};
use kith_protocol::wire::relay::Listed;
use kith_protocol::{EnvelopeId, MailboxId, RightId, Wall};
use kith_store::mailbox::{Found, MailboxStoreError, Read, StoredState};
use tokio_postgres::Row as Columns;
use tokio_postgres::types::ToSql;
use tracing::error;

use super::error::Failure;
use super::rows::{self, Place, cursor, damaged};
use super::session::Session;

pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];
/// Rows found, and what is wrong with those that are damaged.
type Known = HashMap<RowKey, Result<Row, String>>;

/// Single rows, by table.
#[derive(Default)]
struct Wanted {
    head_kinds: Vec<i16>,
    head_ids: Vec<Vec<u8>>,
    item_mailboxes: Vec<Vec<u8>>,
    item_kinds: Vec<i16>,
    item_keys: Vec<Vec<u8>>,
    envelope_mailboxes: Vec<Vec<u8>>,
    envelope_cursors: Vec<i64>,
    mark_kinds: Vec<i16>,
    mark_times: Vec<i64>,
    mark_mailboxes: Vec<Vec<u8>>,
    mark_keys: Vec<Vec<u8>>,
    list_mailboxes: Vec<Vec<u8>>,
    list_after: Vec<i64>,
    list_most: Vec<i64>,
}

impl Wanted {
    fn add(&mut self, read: &Read) {
        match read {
            Read::Row(key) => match rows::place(key) {
                Place::Head { kind, id } => {
                    self.head_kinds.push(kind);
                    self.head_ids.push(id.to_vec());
                }
                Place::Item { mailbox, kind, key } => {
                    self.item_mailboxes.push(mailbox.to_vec());
                    self.item_kinds.push(kind);
                    self.item_keys.push(key);
                }
                Place::Envelope { mailbox, cursor } => {
                    self.envelope_mailboxes.push(mailbox.to_vec());
                    self.envelope_cursors.push(cursor);
                }
                Place::Mark { kind, time, mailbox, key } => {
                    self.mark_kinds.push(kind);
                    self.mark_times.push(time);
                    self.mark_mailboxes.push(mailbox.to_vec());
                    self.mark_keys.push(key);
                }
            },
            Read::List { mailbox, after, max } => {
                self.list_mailboxes.push(mailbox.0.to_vec());
                self.list_after.push(cursor(*after));
                self.list_most.push(most(*max));
            }
            _ => {}
        }
    }
}

fn most(max: usize) -> i64 {
    i64::try_from(max).unwrap_or(i64::MAX)
}

async fn ask(
    session: &Session,
    statement: &tokio_postgres::Statement,
    wanted: bool,
    params: Params<'_>,
) -> Result<Vec<Columns>, Failure> {
    if wanted { Ok(session.client.query(statement, params).await?) } else { Ok(Vec::new()) }
}

/// Answers all reads. `upkeep` tells whether this relay is the one that looks for what is due.
pub(super) async fn read(session: &Session, reads: &[Read], upkeep: bool) -> Result<Vec<Found>, Failure> {
    let mut wanted = Wanted::default();
    reads.iter().for_each(|read| wanted.add(read));
    let statements = &session.statements;
    // Statements of one connection are worked off in the order in which they are asked here, each on what was committed
    // before it: heads come first, so nothing else is older than the version it is decided upon.
    let of_heads: Params<'_> = &[&wanted.head_kinds, &wanted.head_ids];
    let of_items: Params<'_> = &[&wanted.item_mailboxes, &wanted.item_kinds, &wanted.item_keys];
    let of_envelopes: Params<'_> = &[&wanted.envelope_mailboxes, &wanted.envelope_cursors];
    let of_marks: Params<'_> =
        &[&wanted.mark_kinds, &wanted.mark_times, &wanted.mark_mailboxes, &wanted.mark_keys];
    let of_lists: Params<'_> = &[&wanted.list_mailboxes, &wanted.list_after, &wanted.list_most];
    let found = async {
        try_join!(
            ask(session, &statements.heads, !wanted.head_ids.is_empty(), of_heads),
            ask(session, &statements.items, !wanted.item_keys.is_empty(), of_items),
            ask(session, &statements.envelopes, !wanted.envelope_cursors.is_empty(), of_envelopes),
            ask(session, &statements.marks, !wanted.mark_keys.is_empty(), of_marks),
            ask(session, &statements.lists, !wanted.list_after.is_empty(), of_lists),
            futures::future::try_join_all(reads.iter().map(|read| range(session, read, upkeep))),
        )
    };
    let (heads, items, envelopes, marks, lists, ranges) = Box::pin(found).await?;
    let mut known = Known::with_capacity(heads.len() + items.len() + envelopes.len() + marks.len());
    note(&mut known, &heads, head)?;
    note(&mut known, &items, item)?;
    note(&mut known, &envelopes, envelope)?;
    note(&mut known, &marks, mark)?;
    let mut listed = listed(&lists)?;
    let mut number = 0;
    let mut found = Vec::with_capacity(reads.len());
    for (read, range) in reads.iter().zip(ranges) {
        found.push(match (read, range) {
            (_, Some(found)) => found,
            (Read::Row(key), None) => match known.get(key) {
                Some(Ok(row)) => Found::Row(Some(row.clone())),
                Some(Err(what)) => {
                    error!("the store is damaged: {what}");
                    Found::Damaged(what.clone())
                }
                None => Found::Row(None),
            },
            (Read::List { .. }, None) => {
                number += 1;
                Found::List(listed.remove(&number).unwrap_or_default())
            }
            (_, None) => Found::Keys(Vec::new()),
        });
    }
    Ok(found)
}

/// The sums and the last instant.
pub(super) async fn state(session: &Session) -> Result<StoredState, Failure> {
    let row = session.client.query_one(&session.statements.state, &[]).await?;
    let totals = Totals {
        mailboxes: row.try_get(0)?,
        envelopes: row.try_get(1)?,
        bytes: row.try_get(2)?,
        tombstones: row.try_get(3)?,
        rights: row.try_get(4)?,
    };
    let last: Option<i64> = row.try_get(5)?;
    Ok(StoredState { totals, last: last.map(|last| Wall(last.cast_unsigned())) })
}

/// Bytes the relay's tables take.
pub(super) async fn size(session: &Session) -> Result<u64, Failure> {
    let sql = "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c \
               WHERE c.relnamespace = 'kith_relay'::regnamespace AND c.relkind = 'r'";
    let row = session.client.query_one(sql, &[]).await?;
    Ok(u64::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0))
}

/// Reads other than of single rows and lists.
async fn range(session: &Session, read: &Read, upkeep: bool) -> Result<Option<Found>, Failure> {
    let (client, statements) = (&session.client, &session.statements);
    let keys = |rows: Vec<Result<RowKey, MailboxStoreError>>| {
        let good = rows
            .into_iter()
            .filter_map(|key| key.inspect_err(|error| error!(%error, "a row is left out")).ok());
        Some(Found::Keys(good.collect()))
    };
    let until = async |kind: i16, time: u32, max: usize| {
        if !upkeep {
            return Ok(Vec::new());
        }
        client.query(&statements.marks_until, &[&kind, &i64::from(time), &most(max)]).await
    };
    Ok(match read {
        Read::Row(_) | Read::List { .. } => None,
        Read::Due { up_to, max } => {
            let rows = until(rows::DUE, *up_to, *max).await?;
            keys(rows.iter().map(mark_key).collect::<Result<Vec<_>, _>>()?)
        }
        Read::Visits { up_to, max } => {
            let rows = until(rows::VISIT, *up_to, *max).await?;
            keys(rows.iter().map(mark_key).collect::<Result<Vec<_>, _>>()?)
        }
        Read::Work { max } => Some(all(&until(rows::WORK, 0, *max).await?, mark)?),
        Read::Rest { mailbox, max } => {
            let rows = client.query(&statements.rest, &[&mailbox.0.as_slice(), &most(*max)]).await?;
            keys(rows.iter().map(item_key).collect::<Result<Vec<_>, _>>()?)
        }
        Read::Mailboxes { after, max } => {
            let after: &[u8] = after.as_ref().map_or(&[], |id| &id.0);
            Some(all(
                &client.query(&statements.heads_after, &[&rows::MAILBOX, &after, &most(*max)]).await?,
                head,
            )?)
        }
        Read::Tokens { max } => {
            let after: &[u8] = &[];
            Some(all(
                &client.query(&statements.heads_after, &[&rows::TOKEN, &after, &most(*max)]).await?,
                head,
            )?)
        }
    })
}

/// A key, with its row or what is wrong with it.
pub(super) type Keyed = Result<(RowKey, Result<Row, MailboxStoreError>), MailboxStoreError>;

fn note(
    known: &mut Known,
    rows: &[Columns],
    read: fn(&Columns) -> Result<Keyed, Failure>,
) -> Result<(), Failure> {
    for row in rows {
        match read(row)? {
            Ok((key, row)) => {
                known.insert(key, row.map_err(|error| error.to_string()));
            }
            // it was asked for by its key, so this cannot be
            Err(error) => error!(%error, "a row is left out"),
        }
    }
    Ok(())
}

/// Rows with their keys. One damaged row must not hide the others.
fn all(rows: &[Columns], read: fn(&Columns) -> Result<Keyed, Failure>) -> Result<Found, Failure> {
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        match read(row)? {
            Ok((key, Ok(row))) => found.push((key, row)),
            Ok((_, Err(error))) | Err(error) => error!(%error, "a row is left out of a list"),
        }
    }
    Ok(Found::Rows(found))
}

pub(super) fn head(row: &Columns) -> Result<Keyed, Failure> {
    let (kind, id, content): (i16, &[u8], &[u8]) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    Ok(rows::head_key(kind, id).map(|key| (key, rows::decode(&key, content))))
}

fn item_key(row: &Columns) -> Result<Result<RowKey, MailboxStoreError>, Failure> {
    Ok(rows::item_key(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
}

pub(super) fn item(row: &Columns) -> Result<Keyed, Failure> {
    let content: &[u8] = row.try_get(3)?;
    Ok(item_key(row)?.map(|key| (key, rows::decode(&key, content))))
}

pub(super) fn envelope(row: &Columns) -> Result<Keyed, Failure> {
    let (mailbox, number): (&[u8], i64) = (row.try_get(0)?, row.try_get(1)?);
    let content = rows::envelope(row.try_get(2)?, row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
    let id = MailboxId::try_from(mailbox).map_err(damaged);
    Ok(id.map(|id| (RowKey::Envelope(id, number.cast_unsigned()), content)))
}

fn mark_key(row: &Columns) -> Result<Result<RowKey, MailboxStoreError>, Failure> {
    Ok(rows::mark_key(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?))
}

fn mark(row: &Columns) -> Result<Keyed, Failure> {
    let content: &[u8] = row.try_get(4)?;
    Ok(mark_key(row)?.map(|key| (key, rows::decode(&key, content))))
}

/// Lists by the number of their question, from 1.
fn listed(rows: &[Columns]) -> Result<HashMap<i64, Vec<Listed>>, Failure> {
    let mut lists: HashMap<i64, Vec<Listed>> = HashMap::new();
    for row in rows {
        let (number, place, id, right): (i64, i64, &[u8], &[u8]) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        let (stored_at, bytes): (i64, i32) = (row.try_get(4)?, row.try_get(5)?);
        match (EnvelopeId::try_from(id), RightId::try_from(right)) {
            (Ok(id), Ok(right)) => lists.entry(number).or_default().push(Listed {
                id,
                right,
                bytes: bytes.cast_unsigned(),
                stored_at: Wall(stored_at.cast_unsigned()),
                cursor: place.cast_unsigned(),
            }),
            // one damaged row must not hide the others
            _ => error!("a damaged envelope is left out of a list"),
        }
    }
    Ok(lists)
}
