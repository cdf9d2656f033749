//! Rows that follow from others: marks of time, and work begun. A backup leaves them out.

use super::ENDED_RIGHT;
use super::expire::{Due, bucket, day};
use super::row::{KnownRow, Row, RowKey, Work};

/// What stands beside a row: marks and work that must be there, or (`None`) must not. One mark too many does no harm:
/// upkeep looks at the row it stands for, and takes it away.
#[must_use]
pub fn derived(key: &RowKey, row: &Row) -> Vec<(RowKey, Option<Row>)> {
    match (*key, row) {
        (RowKey::Mailbox(id), Row::Mailbox(row)) => vec![
            (RowKey::Visit(day(row.visited), id), Some(Row::Mark)),
            (RowKey::Work(id, Work::Evict), row.evicting.then_some(Row::Work(0))),
        ],
        (RowKey::Known(id, envelope), Row::Known(known)) => {
            let (KnownRow::Stored { expires_at, .. } | KnownRow::Collected { expires_at }) = known;
            vec![(RowKey::Due(bucket(*expires_at), id, Due::Envelope(envelope)), Some(Row::Mark))]
        }
        (RowKey::Right(id, right), Row::Right(row)) => {
            let ends = row.revoked.or(row.expires);
            let mark = ends.map(|at| {
                (RowKey::Due(bucket(at.plus(ENDED_RIGHT)), id, Due::Right(right)), Some(Row::Mark))
            });
            let purge = row.revoked.is_some() && row.usage.items > 0;
            let work = purge.then_some((RowKey::Work(id, Work::Purge(right)), Some(Row::Work(0))));
            mark.into_iter().chain(work).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{DAY, HOUR};
    use crate::mailbox::{RightRow, Usage};
    use crate::secret::Secret32;
    use crate::{EnvelopeId, MailboxId, RightId, Wall};

    const ID: MailboxId = MailboxId([1; 16]);

    #[test]
    fn what_ends_has_a_mark_at_the_first_full_hour_not_before() {
        let envelope = EnvelopeId([2; 16]);
        let known = KnownRow::Collected { expires_at: Wall(10 * HOUR + 1) };
        let rows = derived(&RowKey::Known(ID, envelope), &Row::Known(known));
        assert_eq!(rows, [(RowKey::Due(11, ID, Due::Envelope(envelope)), Some(Row::Mark))]);
    }

    #[test]
    fn a_revoked_right_with_something_under_it_is_purged_and_one_without_an_end_has_no_mark() {
        let right = RightId([3; 16]);
        let mut row = RightRow {
            key: Secret32::new([4; 32]),
            max: Usage::default(),
            deposits_max: 0,
            expires: None,
            usage: Usage { bytes: 256, items: 1 },
            deposits: 1,
            keys_day: 0,
            keys_taken: 0,
            revoked: None,
        };
        let key = RowKey::Right(ID, right);
        assert!(derived(&key, &Row::Right(row.clone())).is_empty());
        row.revoked = Some(Wall(2 * DAY));
        let keys: Vec<RowKey> = derived(&key, &Row::Right(row)).into_iter().map(|(key, _)| key).collect();
        let hour = bucket(Wall(2 * DAY + ENDED_RIGHT));
        assert_eq!(keys, [RowKey::Due(hour, ID, Due::Right(right)), RowKey::Work(ID, Work::Purge(right))]);
    }
}
