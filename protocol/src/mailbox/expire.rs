//! Upkeep: what is past its time goes, and long work goes on, a few rows at a time.

use super::batch::{Stop, Tx};
use super::row::{KnownRow, MailboxRow, Row, RowKey, Totals, Work, signed};
use super::{ABANDONED, ENDED_RIGHT};
use crate::id::{EnvelopeId, MailboxId, RightId};
use crate::limits;
use crate::time::Wall;
use crate::wire::relay::Listed;

/// What ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Due {
    /// An envelope, or what is remembered of it.
    Envelope(EnvelopeId),
    /// What is remembered of an ended right.
    Right(RightId),
}

/// What to read for upkeep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpkeepRead {
    /// [`RowKey::Due`] up to this hour, and
    Due(u32),
    /// [`RowKey::Visit`] up to this day, oldest first, and
    Visits(u32),
    /// [`RowKey::Work`], in any order.
    Work,
}

/// Upkeep for which the rows were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upkeep {
    /// These are due.
    Due(Vec<RowKey>),
    /// These mailboxes were not visited for long.
    Visits(Vec<RowKey>),
    /// A revoked right's envelopes go.
    Purge {
        /// Where.
        mailbox: MailboxId,
        /// Which right.
        right: RightId,
        /// The next envelopes of the mailbox beyond what is done.
        listed: Vec<Listed>,
        /// There are more.
        more: bool,
    },
    /// A mailbox goes.
    Evict {
        /// Which.
        mailbox: MailboxId,
        /// Its first envelopes.
        listed: Vec<Listed>,
        /// Once there are none: its other rows, the mailbox's own not among them.
        rest: Vec<RowKey>,
    },
}

/// The hour from which on something that ends then may go: the first full hour not before.
#[must_use]
pub fn bucket(ends: Wall) -> u32 {
    u32::try_from(ends.0.div_ceil(limits::HOUR)).unwrap_or(u32::MAX)
}

/// The hour up to which everything may go now.
pub(super) fn hour(now: Wall) -> u32 {
    u32::try_from(now.0 / limits::HOUR).unwrap_or(u32::MAX)
}

/// Days since the epoch.
pub(super) fn day(at: Wall) -> u32 {
    u32::try_from(at.0 / limits::DAY).unwrap_or(u32::MAX)
}

/// The day up to which visits are too long ago.
pub(super) fn abandoned_day(now: Wall) -> u32 {
    day(now.minus(ABANDONED + limits::DAY))
}

pub(super) fn run(tx: &mut Tx<'_>, upkeep: &Upkeep, now: Wall) -> Result<(), Stop> {
    match upkeep {
        Upkeep::Due(keys) => due(tx, keys, now),
        Upkeep::Visits(keys) => visits(tx, keys, now),
        Upkeep::Purge { mailbox, right, listed, more } => purge(tx, *mailbox, *right, listed, *more),
        Upkeep::Evict { mailbox, listed, rest } => evict(tx, *mailbox, listed, rest),
    }
}

fn due(tx: &mut Tx<'_>, keys: &[RowKey], now: Wall) -> Result<(), Stop> {
    tx.need(keys.iter().filter_map(RowKey::mailbox).map(RowKey::Mailbox))?;
    tx.need(keys.iter().filter_map(|key| match key {
        RowKey::Due(_, id, Due::Envelope(envelope)) => Some(RowKey::Known(*id, *envelope)),
        RowKey::Due(_, id, Due::Right(right)) => Some(RowKey::Right(*id, *right)),
        _ => None,
    }))?;
    for key in keys {
        match *key {
            RowKey::Due(hour, id, Due::Envelope(envelope)) => envelope_due(tx, hour, id, envelope)?,
            RowKey::Due(hour, id, Due::Right(right)) => right_due(tx, hour, id, right, now)?,
            _ => continue,
        }
        tx.set(*key, None);
    }
    Ok(())
}

fn envelope_due(tx: &mut Tx<'_>, hour: u32, id: MailboxId, envelope: EnvelopeId) -> Result<(), Stop> {
    // without a mailbox this is what was left of a removed one
    let (Some(known), Some(mut mailbox)) = (tx.known(id, envelope)?, tx.mailbox(id)?) else {
        return Ok(());
    };
    match known {
        // the mark of an earlier life of the same envelope
        KnownRow::Stored { expires_at, .. } | KnownRow::Collected { expires_at }
            if bucket(expires_at) > hour =>
        {
            return Ok(());
        }
        KnownRow::Stored { cursor, right, size, .. } => {
            tx.remove(id, &mut mailbox, (cursor, right, size))?;
        }
        KnownRow::Collected { .. } => {
            mailbox.tombstones = mailbox.tombstones.saturating_sub(1);
            tx.count(Totals { tombstones: -1, ..Totals::default() });
        }
    }
    tx.set(RowKey::Known(id, envelope), None);
    tx.set_mailbox(id, mailbox);
    Ok(())
}

fn right_due(tx: &mut Tx<'_>, hour: u32, id: MailboxId, right: RightId, now: Wall) -> Result<(), Stop> {
    let (Some(row), Some(mut mailbox)) = (tx.right(id, right)?, tx.mailbox(id)?) else { return Ok(()) };
    let Some(ended) = row.revoked.or(row.expires) else { return Ok(()) };
    if bucket(ended.plus(ENDED_RIGHT)) > hour {
        return Ok(());
    }
    if row.usage.items > 0 {
        // an envelope may outlive its right by more than a month
        let later = bucket(now.plus(limits::WEEK)).max(hour.saturating_add(1));
        tx.set(RowKey::Due(later, id, Due::Right(right)), Some(Row::Mark));
        return Ok(());
    }
    if row.revoked.is_some() {
        mailbox.revoked = mailbox.revoked.saturating_sub(1);
    } else {
        mailbox.rights = mailbox.rights.saturating_sub(1);
        tx.count(Totals { rights: -1, ..Totals::default() });
    }
    tx.set_right(id, right, None);
    tx.set_mailbox(id, mailbox);
    Ok(())
}

fn visits(tx: &mut Tx<'_>, keys: &[RowKey], now: Wall) -> Result<(), Stop> {
    tx.need(keys.iter().filter_map(RowKey::mailbox).map(RowKey::Mailbox))?;
    for key in keys {
        let RowKey::Visit(on, id) = *key else { continue };
        tx.set(*key, None);
        let Some(mailbox) = tx.mailbox(id)? else { continue };
        if day(mailbox.visited) == on && !mailbox.evicting && now.since(mailbox.visited) >= ABANDONED {
            mark_for_eviction(tx, id, mailbox);
        }
    }
    Ok(())
}

/// From now on nobody can use the mailbox, and upkeep removes it.
pub(super) fn mark_for_eviction(tx: &mut Tx<'_>, id: MailboxId, mut mailbox: Box<MailboxRow>) {
    mailbox.evicting = true;
    tx.set(RowKey::Work(id, Work::Evict), Some(Row::Work(0)));
    tx.set_mailbox(id, mailbox);
}

/// Removes those of the listed envelopes that are still there, and what is known of them.
fn forget(tx: &mut Tx<'_>, id: MailboxId, mailbox: &mut MailboxRow, listed: &[Listed]) -> Result<(), Stop> {
    tx.need(listed.iter().map(|listed| RowKey::Known(id, listed.id)))?;
    tx.need(listed.iter().map(|listed| RowKey::Right(id, listed.right)))?;
    for listed in listed {
        if let Some(KnownRow::Stored { cursor, right, size, .. }) = tx.known(id, listed.id)? {
            tx.remove(id, mailbox, (cursor, right, size))?;
            tx.set(RowKey::Known(id, listed.id), None);
        }
    }
    Ok(())
}

fn purge(tx: &mut Tx<'_>, id: MailboxId, right: RightId, listed: &[Listed], more: bool) -> Result<(), Stop> {
    tx.need([RowKey::Mailbox(id), RowKey::Right(id, right)])?;
    let work = RowKey::Work(id, Work::Purge(right));
    let revoked = tx.right(id, right)?.is_some_and(|row| row.revoked.is_some());
    let (Some(mut mailbox), true) = (tx.mailbox(id)?, revoked) else {
        tx.set(work, None);
        return Ok(());
    };
    let of_right: Vec<Listed> = listed.iter().filter(|listed| listed.right == right).copied().collect();
    forget(tx, id, &mut mailbox, &of_right)?;
    let last = listed.last().map(|listed| listed.cursor).filter(|_| more);
    tx.set(work, last.map(Row::Work));
    tx.set_mailbox(id, mailbox);
    Ok(())
}

fn evict(tx: &mut Tx<'_>, id: MailboxId, listed: &[Listed], rest: &[RowKey]) -> Result<(), Stop> {
    let work = RowKey::Work(id, Work::Evict);
    let Some(mut mailbox) = tx.mailbox(id)? else {
        tx.set(work, None);
        return Ok(());
    };
    if !listed.is_empty() {
        forget(tx, id, &mut mailbox, listed)?;
        tx.set_mailbox(id, mailbox);
        return Ok(());
    }
    // from here on the mailbox's own row counts, not its rights and tombstones
    tx.count(Totals {
        tombstones: -signed(mailbox.tombstones),
        rights: -signed(mailbox.rights),
        ..Totals::default()
    });
    (mailbox.tombstones, mailbox.rights, mailbox.revoked) = (0, 0, 0);
    for key in rest.iter().filter(|key| key.mailbox() == Some(id)) {
        tx.set(*key, None);
    }
    if rest.is_empty() {
        tx.set(RowKey::Visit(day(mailbox.visited), id), None);
        tx.set(work, None);
        tx.set(RowKey::Mailbox(id), None);
        tx.count(Totals { mailboxes: -1, ..Totals::default() });
    } else {
        tx.set_mailbox(id, mailbox);
    }
    Ok(())
}
