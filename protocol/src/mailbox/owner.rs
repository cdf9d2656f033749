//! What a mailbox's owner asks.

use bytes::Bytes;

use super::access::Admission;
use super::batch::{Stop, Tx};
use super::clock::BelievedTime;
use super::expire::day;
use super::policy::Policy;
use super::row::{KnownRow, MailboxRow, Row, RowKey, Totals, Usage};
use super::service::Outcome;
use crate::crypto::envelope::SIZE_KINDS;
use crate::crypto::right::mailbox_id;
use crate::id::{EnvelopeId, MailboxId};
use crate::limits;
use crate::time::Wall;
use crate::wire::relay::{MailboxState, Refusal, RefusalCode};

/// What a mailbox's owner is told about it.
pub(super) fn state(
    mailbox: MailboxId,
    row: &MailboxRow,
    policy: &Policy,
    now: Wall,
    created: bool,
) -> MailboxState {
    let quota = row.quota.unwrap_or(policy.mailbox);
    MailboxState {
        mailbox,
        created,
        bytes: row.usage.bytes,
        items: row.usage.items,
        quota_bytes: quota.bytes,
        quota_items: quota.items,
        rights: row.rights,
        one_time_keys: row.next_key.saturating_sub(row.first_key),
        newest: row.cursor,
        bundle_left: row.bundle_until.map_or(0, |until| until.since(now).div_ceil(limits::SECOND)),
    }
}

/// The mailbox of somebody who has opened it.
pub(super) fn own(tx: &mut Tx<'_>, id: MailboxId) -> Result<Box<MailboxRow>, Stop> {
    let row = tx.mailbox(id)?.filter(|row| !row.evicting).ok_or(RefusalCode::MailboxUnknown)?;
    if row.blocked { Err(RefusalCode::Blocked.into()) } else { Ok(row) }
}

pub(super) fn open(
    tx: &mut Tx<'_>,
    policy: &Policy,
    read_key: &[u8; 32],
    admission: Admission,
    time: BelievedTime,
) -> Result<Outcome, Stop> {
    let id = mailbox_id(read_key);
    let today = day(time.wall);
    if let Some(mut row) = tx.mailbox(id)? {
        if row.evicting {
            return Err(Refusal::after(RefusalCode::Busy, 1).into());
        }
        if row.blocked {
            return Err(RefusalCode::Blocked.into());
        }
        let before = day(row.visited);
        let state = state(id, &row, policy, time.wall, false);
        if before != today && !time.in_doubt {
            tx.set(RowKey::Visit(before, id), None);
            tx.set(RowKey::Visit(today, id), Some(Row::Mark));
            row.visited = time.wall;
            tx.set_mailbox(id, row);
        }
        return Ok(Outcome::Opened(state));
    }
    admit(tx, admission, time.wall)?;
    let row = Box::new(MailboxRow {
        version: 0,
        read_key: *read_key,
        created: time.wall,
        visited: time.wall,
        blocked: false,
        evicting: false,
        usage: Usage::default(),
        kinds: [Usage::default(); SIZE_KINDS],
        tombstones: 0,
        rights: 0,
        revoked: 0,
        cursor: 0,
        first_key: 0,
        next_key: 0,
        bundle_until: None,
        quota: None,
    });
    let state = state(id, &row, policy, time.wall, true);
    tx.set(RowKey::Visit(today, id), Some(Row::Mark));
    tx.set_mailbox(id, row);
    tx.count(Totals { mailboxes: 1, ..Totals::default() });
    Ok(Outcome::Opened(state))
}

fn admit(tx: &mut Tx<'_>, admission: Admission, now: Wall) -> Result<(), Stop> {
    match admission {
        Admission::Free => Ok(()),
        Admission::Token(key) => {
            let mut token = tx.token(key)?.ok_or(RefusalCode::TokenNeeded)?;
            if token.revoked || token.uses_left == 0 || token.expires.is_some_and(|expires| now >= expires) {
                return Err(RefusalCode::TokenNeeded.into());
            }
            token.uses_left = token.uses_left.saturating_sub(1);
            token.used = token.used.saturating_add(1);
            tx.set_token(key, token);
            Ok(())
        }
        Admission::NoToken => Err(RefusalCode::TokenNeeded.into()),
        Admission::NotAllowed => Err(RefusalCode::NotAllowed.into()),
        Admission::Closed => Err(RefusalCode::Closed.into()),
        Admission::Busy => Err(Refusal::after(RefusalCode::Busy, 60).into()),
        Admission::Full => Err(Refusal::after(RefusalCode::RelayFull, 3600).into()),
    }
}

pub(super) fn collect(
    tx: &mut Tx<'_>,
    policy: &Policy,
    id: MailboxId,
    envelopes: &[EnvelopeId],
    time: BelievedTime,
) -> Result<Outcome, Stop> {
    tx.need(
        std::iter::once(RowKey::Mailbox(id))
            .chain(envelopes.iter().map(|envelope| RowKey::Known(id, *envelope))),
    )?;
    let mut mailbox = own(tx, id)?;
    let mut found = Vec::new();
    for envelope in envelopes {
        if let Some(KnownRow::Stored { cursor, right, size, expires_at, .. }) = tx.known(id, *envelope)? {
            found.push((*envelope, (cursor, right, size), expires_at));
        }
    }
    tx.need(found.iter().map(|(_, (_, right, _), _)| RowKey::Right(id, *right)))?;
    let mut changed = false;
    for (envelope, stored, expires_at) in found {
        // the same id may be asked for twice
        if !matches!(tx.known(id, envelope)?, Some(KnownRow::Stored { .. })) {
            continue;
        }
        changed = true;
        tx.remove(id, &mut mailbox, stored)?;
        tx.set(RowKey::Known(id, envelope), Some(Row::Known(KnownRow::Collected { expires_at })));
        mailbox.tombstones = mailbox.tombstones.saturating_add(1);
        tx.count(Totals { tombstones: 1, ..Totals::default() });
    }
    let state = state(id, &mailbox, policy, time.wall, false);
    if changed {
        tx.set_mailbox(id, mailbox);
    }
    Ok(Outcome::Opened(state))
}

/// What an owner leaves for those who start sessions.
#[derive(Debug)]
pub(super) struct Bundle<'a> {
    pub(super) bundle: Option<&'a Bytes>,
    pub(super) lifetime: u64,
    pub(super) one_time_keys: &'a [[u8; 32]],
    pub(super) replace: bool,
}

pub(super) fn put_bundle(
    tx: &mut Tx<'_>,
    policy: &Policy,
    id: MailboxId,
    put: &Bundle<'_>,
    time: BelievedTime,
) -> Result<Outcome, Stop> {
    let mut mailbox = own(tx, id)?;
    if let Some(bundle) = put.bundle {
        let lifetime = put.lifetime.saturating_mul(limits::SECOND).min(limits::RELAY_TTL);
        let kept = lifetime > 0;
        tx.set(RowKey::Bundle(id), kept.then(|| Row::Bundle(bundle.clone())));
        mailbox.bundle_until = kept.then(|| time.wall.plus(lifetime));
    }
    if put.replace {
        for number in mailbox.first_key..mailbox.next_key {
            tx.set(RowKey::OneTimeKey(id, number), None);
        }
        mailbox.first_key = mailbox.next_key;
    }
    let left = mailbox.next_key.saturating_sub(mailbox.first_key);
    if left.saturating_add(put.one_time_keys.len() as u64) > limits::ONE_TIME_KEYS as u64 {
        return Err(RefusalCode::TooMany.into());
    }
    for key in put.one_time_keys {
        tx.set(RowKey::OneTimeKey(id, mailbox.next_key), Some(Row::OneTimeKey(*key)));
        mailbox.next_key = mailbox.next_key.saturating_add(1);
    }
    let state = state(id, &mailbox, policy, time.wall, false);
    tx.set_mailbox(id, mailbox);
    Ok(Outcome::Opened(state))
}
