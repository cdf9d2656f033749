//! Reading rows from an engine.

use kith_protocol::MailboxId;
use kith_protocol::mailbox::{Row, RowKey};
use kith_protocol::wire::relay::Listed;

use super::codec;
use super::kv::failed;
use super::{Found, MailboxStoreError, Read, ScanPage};
use crate::engine::{Direction, Engine};

pub(super) fn row(engine: &dyn Engine, key: &RowKey) -> Result<Option<Row>, MailboxStoreError> {
    let own = codec::key(key);
    let Some(value) = engine.get(&own).map_err(failed)? else { return Ok(None) };
    codec::decode(key, &own, &value, |key| engine.get(key).map_err(failed)).map(Some)
}

fn keys(
    engine: &dyn Engine,
    prefix: &[u8],
    max: usize,
    wanted: impl Fn(&RowKey) -> bool,
) -> Result<Vec<RowKey>, MailboxStoreError> {
    let page = engine.page(prefix, None, Direction::Forward, max).map_err(failed)?;
    Ok(page.iter().map_while(|(key, _)| codec::parse_key(key).filter(&wanted)).collect())
}

fn rows(engine: &dyn Engine, prefix: &[u8], max: usize) -> Result<Vec<(RowKey, Row)>, MailboxStoreError> {
    let page = engine.page(prefix, None, Direction::Forward, max).map_err(failed)?;
    let mut rows = Vec::with_capacity(page.len());
    for (own, value) in page {
        if let Some(key) = codec::parse_key(&own) {
            rows.push((key, codec::decode(&key, &own, &value, |key| engine.get(key).map_err(failed))?));
        }
    }
    Ok(rows)
}

fn list(
    engine: &dyn Engine,
    mailbox: MailboxId,
    after: u64,
    max: usize,
) -> Result<Vec<Listed>, MailboxStoreError> {
    let from = codec::key(&RowKey::Envelope(mailbox, after));
    let page =
        engine.page(&codec::envelopes(&mailbox), Some(&from), Direction::Forward, max).map_err(failed)?;
    let mut listed = Vec::with_capacity(page.len());
    for (own, value) in &page {
        match codec::listed(own, value) {
            Ok(envelope) => listed.push(envelope),
            // one damaged row must not hide the others
            Err(error) => tracing::error!(%error, "an envelope is left out of a list"),
        }
    }
    Ok(listed)
}

/// All mailboxes' own rows, one jump for each.
fn mailboxes(
    engine: &dyn Engine,
    after: Option<MailboxId>,
    max: usize,
) -> Result<Vec<(RowKey, Row)>, MailboxStoreError> {
    let mut found = Vec::new();
    // beyond every row of the mailbox before
    let past = |id: &MailboxId| {
        let mut key = codec::key(&RowKey::Mailbox(*id));
        key.pop();
        key.push(u8::MAX);
        key
    };
    let mut from = after.as_ref().map(past);
    while found.len() < max {
        let page = engine.page(b"m", from.as_deref(), Direction::Forward, 1).map_err(failed)?;
        let Some((own, value)) = page.into_iter().next() else { break };
        let Some(id) = own.get(1..17).and_then(|id| MailboxId::try_from(id).ok()) else { break };
        let key = RowKey::Mailbox(id);
        if codec::parse_key(&own) == Some(key) {
            match codec::decode(&key, &own, &value, |_| Ok(None)) {
                Ok(row) => found.push((key, row)),
                Err(error) => tracing::error!(%error, "a mailbox is left out of a list"),
            }
        }
        from = Some(past(&id));
    }
    Ok(found)
}

/// Answers reads in their order; damage concerns one of them alone.
pub(super) fn answers(engine: &dyn Engine, reads: &[Read]) -> Result<Vec<Found>, MailboxStoreError> {
    // rows by their keys are most of what is read
    let own = |read: &Read| if let Read::Row(key) = read { Some(codec::key(key)) } else { None };
    let keys: Vec<Vec<u8>> = reads.iter().filter_map(own).collect();
    let values = match engine.get_all(&keys.iter().map(Vec::as_slice).collect::<Vec<_>>()) {
        Ok(values) => Some(values),
        // one of them: row by row
        Err(error) if error.is_damage() => None,
        Err(error) => return Err(failed(error)),
    };
    let mut values = values.map(|values| keys.iter().zip(values));
    let found = reads.iter().map(|read| {
        let value = match (read, &mut values) {
            (Read::Row(key), Some(values)) => values.next().map(|(own, value)| (key, own, value)),
            _ => None,
        };
        let found = match value {
            Some((_, _, None)) => Ok(Found::Row(None)),
            Some((key, own, Some(value))) => {
                let row = codec::decode(key, own, &value, |chunk| engine.get(chunk).map_err(failed));
                row.map(|row| Found::Row(Some(row)))
            }
            None => answer(engine, read),
        };
        match found {
            Err(MailboxStoreError::Damaged(what)) => {
                tracing::error!("the store is damaged: {what}");
                Ok(Found::Damaged(what))
            }
            other => other,
        }
    });
    found.collect()
}

fn answer(engine: &dyn Engine, read: &Read) -> Result<Found, MailboxStoreError> {
    Ok(match *read {
        Read::Row(key) => Found::Row(row(engine, &key)?),
        Read::List { mailbox, after, max } => Found::List(list(engine, mailbox, after, max)?),
        Read::Due { up_to, max } => Found::Keys(keys(
            engine,
            b"d",
            max,
            |key| matches!(key, RowKey::Due(hour, ..) if *hour <= up_to),
        )?),
        Read::Visits { up_to, max } => {
            Found::Keys(keys(engine, b"v", max, |key| matches!(key, RowKey::Visit(day, _) if *day <= up_to))?)
        }
        Read::Work { max } => Found::Rows(rows(engine, b"w", max)?),
        Read::Rest { mailbox, max } => {
            let mut found = Vec::new();
            for prefix in codec::rest(&mailbox) {
                let left = max.saturating_sub(found.len());
                found.extend(keys(engine, &prefix, left, |_| true)?);
            }
            Found::Keys(found)
        }
        Read::Mailboxes { after, max } => Found::Rows(mailboxes(engine, after, max)?),
        Read::Tokens { max } => Found::Rows(rows(engine, b"t", max)?),
    })
}

pub(super) fn scan(engine: &dyn Engine, after: &[u8], max: usize) -> Result<ScanPage, MailboxStoreError> {
    let from = (!after.is_empty()).then_some(after);
    let page = engine.page(b"m", from, Direction::Forward, max).map_err(failed)?;
    let next = page.last().filter(|_| page.len() == max).map(|(key, _)| key.clone());
    let mut found = ScanPage { next, ..ScanPage::default() };
    for (own, value) in page {
        let Some(key) = codec::parse_key(&own) else { continue };
        match codec::decode(&key, &own, &value, |key| engine.get(key).map_err(failed)) {
            Ok(row) => found.rows.push((key, row)),
            Err(MailboxStoreError::Damaged(what)) => found.damaged.push(what),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
