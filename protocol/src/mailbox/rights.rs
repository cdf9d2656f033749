//! Rights come into force and end.

use super::ENDED_RIGHT;
use super::batch::{Stop, Tx};
use super::clock::BelievedTime;
use super::expire::{Due, bucket};
use super::owner::{own, state};
use super::policy::Policy;
use super::row::{MailboxRow, RightRow, Row, RowKey, Totals, Usage, Work};
use super::service::Outcome;
use crate::id::{MailboxId, RightId};
use crate::limits;
use crate::time::Wall;
use crate::wire::relay::{RefusalCode, RightSpec};

pub(super) fn set_rights(
    tx: &mut Tx<'_>,
    policy: &Policy,
    id: MailboxId,
    put: &[RightSpec],
    revoke: &[RightId],
    time: BelievedTime,
) -> Result<Outcome, Stop> {
    let rights = put.iter().map(|spec| spec.right).chain(revoke.iter().copied());
    tx.need(std::iter::once(RowKey::Mailbox(id)).chain(rights.map(|right| RowKey::Right(id, right))))?;
    let mut mailbox = own(tx, id)?;
    for spec in put {
        put_right(tx, policy, id, &mut mailbox, spec, time.wall)?;
    }
    for right in revoke {
        revoke_right(tx, id, &mut mailbox, *right, time.wall)?;
    }
    let state = state(id, &mailbox, policy, time.wall, false);
    tx.set_mailbox(id, mailbox);
    Ok(Outcome::Opened(state))
}

fn put_right(
    tx: &mut Tx<'_>,
    policy: &Policy,
    id: MailboxId,
    mailbox: &mut MailboxRow,
    spec: &RightSpec,
    now: Wall,
) -> Result<(), Stop> {
    let expires = (spec.lifetime != 0).then(|| now.plus(spec.lifetime.saturating_mul(limits::SECOND)));
    let max = Usage { bytes: spec.bytes, items: spec.items };
    let row = match tx.right(id, spec.right)? {
        Some(row) => {
            if row.revoked.is_some() {
                mailbox.revoked = mailbox.revoked.saturating_sub(1);
                mailbox.rights = mailbox.rights.saturating_add(1);
                tx.count(Totals { rights: 1, ..Totals::default() });
                tx.set(RowKey::Work(id, Work::Purge(spec.right)), None);
            }
            RightRow {
                key: spec.key.clone(),
                max,
                deposits_max: spec.deposits,
                expires,
                revoked: None,
                ..row
            }
        }
        None => {
            if mailbox.rights.saturating_add(mailbox.revoked) >= policy.rights {
                return Err(RefusalCode::TooMany.into());
            }
            mailbox.rights = mailbox.rights.saturating_add(1);
            tx.count(Totals { rights: 1, ..Totals::default() });
            RightRow {
                key: spec.key.clone(),
                max,
                deposits_max: spec.deposits,
                expires,
                usage: Usage::default(),
                deposits: 0,
                keys_day: 0,
                keys_taken: 0,
                revoked: None,
            }
        }
    };
    if let Some(expires) = expires {
        let forgotten = bucket(expires.plus(ENDED_RIGHT));
        tx.set(RowKey::Due(forgotten, id, Due::Right(spec.right)), Some(Row::Mark));
    }
    tx.set_right(id, spec.right, Some(row));
    Ok(())
}

fn revoke_right(
    tx: &mut Tx<'_>,
    id: MailboxId,
    mailbox: &mut MailboxRow,
    right: RightId,
    now: Wall,
) -> Result<(), Stop> {
    let Some(mut row) = tx.right(id, right)?.filter(|row| row.revoked.is_none()) else { return Ok(()) };
    mailbox.rights = mailbox.rights.saturating_sub(1);
    mailbox.revoked = mailbox.revoked.saturating_add(1);
    tx.count(Totals { rights: -1, ..Totals::default() });
    if row.usage.items > 0 {
        tx.set(RowKey::Work(id, Work::Purge(right)), Some(Row::Work(0)));
    }
    tx.set(RowKey::Due(bucket(now.plus(ENDED_RIGHT)), id, Due::Right(right)), Some(Row::Mark));
    row.revoked = Some(now);
    tx.set_right(id, right, Some(row));
    Ok(())
}
