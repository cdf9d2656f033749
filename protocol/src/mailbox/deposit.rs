//! What depositors ask.

use super::batch::{Stop, Tx};
use super::clock::BelievedTime;
use super::policy::Policy;
use super::row::{EnvelopeRow, KnownRow, MailboxRow, RightRow, RowKey, Usage};
use super::service::Outcome;
use crate::crypto::custody::Custody;
use crate::crypto::envelope::size_kind;
use crate::crypto::right::{verify_deposit, verify_take_bundle};
use crate::id::{DeviceId, MailboxId, RightId};
use crate::limits;
use crate::time::Wall;
use crate::wire::relay::{Answer, Deposit, Refusal, RefusalCode};

/// When to try again where room may come by itself, in seconds.
const FULL_RETRY: u64 = 10 * 60;

/// The mailbox and the right, if the right's key was used. Why a right has ended is told only to its holder.
fn entitled(
    tx: &mut Tx<'_>,
    id: MailboxId,
    right: RightId,
    proven: impl FnOnce(&RightRow) -> bool,
) -> Result<(Box<MailboxRow>, RightRow), Stop> {
    tx.need([RowKey::Mailbox(id), RowKey::Right(id, right)])?;
    let mailbox = tx.mailbox(id)?.filter(|row| !row.evicting).ok_or(RefusalCode::MailboxUnknown)?;
    let row = tx.right(id, right)?.ok_or(RefusalCode::RightUnknown)?;
    if !proven(&row) {
        return Err(RefusalCode::WrongMac.into());
    }
    if mailbox.blocked {
        return Err(RefusalCode::Blocked.into());
    }
    if row.revoked.is_some() {
        return Err(RefusalCode::RightRevoked.into());
    }
    Ok((mailbox, row))
}

fn in_force(mailbox: &MailboxRow, right: &RightRow, now: Wall) -> Result<(), Stop> {
    let ends = right.expires.unwrap_or_else(|| mailbox.visited.plus(limits::RIGHT_TTL));
    if now >= ends {
        return Err(RefusalCode::RightExpired.into());
    }
    if right.deposits_max != 0 && right.deposits >= right.deposits_max {
        return Err(RefusalCode::RightUsedUp.into());
    }
    Ok(())
}

/// The smaller of two bounds, 0 being none.
const fn tighter(a: u64, b: u64) -> u64 {
    if a == 0 || (b != 0 && b < a) { b } else { a }
}

/// From when to when an envelope that is here is in custody, if that is asked for anew: a deposit that was only repeated
/// finds more than half of its time left and changes nothing.
fn renewed(
    policy: &Policy,
    ask: &Deposit,
    expires_at: Wall,
    now: Wall,
) -> Result<Option<(Wall, Wall)>, Stop> {
    let asked = u64::from(ask.ttl).saturating_mul(limits::SECOND);
    if expires_at.since(now) >= asked / 2 {
        return Ok(None);
    }
    if u64::from(ask.ttl) > policy.ttl {
        return Err(RefusalCode::TtlTooLong.into());
    }
    Ok(Some((now, now.plus(asked))))
}

pub(super) fn deposit(
    tx: &mut Tx<'_>,
    policy: &Policy,
    relay: DeviceId,
    total_bytes: u64,
    ask: &Deposit,
    time: BelievedTime,
) -> Result<Outcome, Stop> {
    let id = ask.mailbox;
    tx.need([RowKey::Mailbox(id), RowKey::Right(id, ask.right), RowKey::Known(id, ask.id)])?;
    let (mut mailbox, mut right) =
        entitled(tx, id, ask.right, |row| verify_deposit(&row.key, &id, &ask.id, ask.ttl, &ask.mac))?;
    match tx.known(id, ask.id)? {
        Some(known @ KnownRow::Stored { size, stored_at, expires_at, .. }) => {
            let renewed = match in_force(&mailbox, &right, time.wall) {
                Ok(()) => renewed(policy, ask, expires_at, time.wall)?,
                Err(_) => None,
            };
            let (stored_at, expires_at) = renewed.unwrap_or((stored_at, expires_at));
            if renewed.is_some() {
                tx.prolong(id, mailbox, ask.id, known, (stored_at, expires_at));
            }
            let envelope = ask.id;
            return Ok(Outcome::Custody {
                custody: Custody { relay, mailbox: id, envelope, size, stored_at, expires_at },
                new: false,
                receipt: None,
            });
        }
        Some(KnownRow::Collected { .. }) => return Ok(Outcome::Answer(Answer::Collected(ask.id))),
        None => {}
    }
    in_force(&mailbox, &right, time.wall)?;
    if u64::from(ask.ttl) > policy.ttl {
        return Err(RefusalCode::TtlTooLong.into());
    }
    let size = ask.envelope.len() as u64;
    let kind = size_kind(ask.envelope.len()).filter(|_| size <= policy.envelope);
    let kind = kind.ok_or(RefusalCode::TooLarge)?;
    let full = |code| Stop::Refused(Refusal::after(code, FULL_RETRY));
    if policy.total_bytes != 0 && total_bytes.saturating_add(size) > policy.total_bytes {
        return Err(full(RefusalCode::RelayFull));
    }
    if !mailbox.usage.has_room(size, mailbox.quota.unwrap_or(policy.mailbox))
        || (policy.tombstones != 0 && mailbox.tombstones >= policy.tombstones)
    {
        return Err(full(RefusalCode::MailboxFull));
    }
    let of_kind = mailbox.kinds.get(kind).copied().unwrap_or_default();
    if !of_kind.has_room(size, policy.kinds.get(kind).copied().unwrap_or_default()) {
        return Err(full(RefusalCode::ClassFull));
    }
    let max = Usage {
        bytes: tighter(right.max.bytes, policy.right.bytes),
        items: tighter(right.max.items, policy.right.items),
    };
    if !right.usage.has_room(size, max) {
        return Err(full(RefusalCode::RightFull));
    }
    let stored_at = time.wall;
    let expires_at = stored_at.plus(u64::from(ask.ttl).saturating_mul(limits::SECOND));
    let row = EnvelopeRow { id: ask.id, right: ask.right, stored_at, body: ask.envelope.clone() };
    tx.store(id, &mut mailbox, &mut right, row, expires_at);
    tx.set_right(id, ask.right, Some(right));
    tx.set_mailbox(id, mailbox);
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    let custody = Custody { relay, mailbox: id, envelope: ask.id, size, stored_at, expires_at };
    Ok(Outcome::Custody { custody, new: true, receipt: None })
}

pub(super) fn take_bundle(
    tx: &mut Tx<'_>,
    id: MailboxId,
    right_id: RightId,
    nonce: &[u8; 16],
    mac: &[u8; 32],
    time: BelievedTime,
) -> Result<Outcome, Stop> {
    tx.need([RowKey::Mailbox(id), RowKey::Right(id, right_id), RowKey::Bundle(id)])?;
    let (mut mailbox, mut right) =
        entitled(tx, id, right_id, |row| verify_take_bundle(&row.key, &id, nonce, mac))?;
    in_force(&mailbox, &right, time.wall)?;
    let bundle = tx.bundle(id)?.filter(|_| mailbox.bundle_until.is_some_and(|until| time.wall < until));
    let bundle = bundle.ok_or(RefusalCode::NoBundle)?;
    let today = super::expire::day(time.wall);
    if right.keys_day != today {
        right.keys_day = today;
        right.keys_taken = 0;
    }
    let mut one_time_key = None;
    if mailbox.first_key < mailbox.next_key && right.keys_taken < limits::ONE_TIME_KEYS_PER_DAY {
        let number = mailbox.first_key;
        one_time_key = tx.one_time_key(id, number)?;
        tx.set(RowKey::OneTimeKey(id, number), None);
        mailbox.first_key = number.saturating_add(1);
        right.keys_taken = right.keys_taken.saturating_add(1);
        tx.set_right(id, right_id, Some(right));
        tx.set_mailbox(id, mailbox);
    }
    Ok(Outcome::Answer(Answer::Bundle { bundle, one_time_key }))
}
