//! What has to be written together, and what need not be.

use std::collections::HashMap;

use super::row::{RowKey, Totals};

/// Which mailboxes and tokens were changed by the same decisions, and how the sums change by them. What no decision has
/// joined stands or falls by itself when it is written.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// The part of each [head](RowKey::head) that was changed.
    of: HashMap<RowKey, usize>,
    /// How each part changes the sums.
    totals: Vec<Totals>,
}

impl Parts {
    /// Notes one decision: the heads of the rows it changed, and how it changed the sums.
    pub(super) fn add(&mut self, heads: impl IntoIterator<Item = RowKey>, change: Totals) {
        let mut part = None;
        for head in heads {
            let found = self.of.get(&head).copied();
            let joined = part.or(found).unwrap_or_else(|| {
                self.totals.push(Totals::default());
                self.totals.len() - 1
            });
            part = Some(joined);
            match found {
                None => drop(self.of.insert(head, joined)),
                Some(found) if found != joined => self.merge(found, joined),
                Some(_) => {}
            }
        }
        if let Some(totals) = part.and_then(|part| self.totals.get_mut(part)) {
            *totals = totals.plus(change);
        }
    }

    /// Rare: a decision on more than one mailbox or token.
    fn merge(&mut self, from: usize, into: usize) {
        for part in self.of.values_mut().filter(|part| **part == from) {
            *part = into;
        }
        let moved = self.totals.get_mut(from).map(std::mem::take).unwrap_or_default();
        if let Some(totals) = self.totals.get_mut(into) {
            *totals = totals.plus(moved);
        }
    }

    /// The part of a changed row.
    pub(super) fn of(&self, key: &RowKey) -> Option<usize> {
        self.of.get(&key.head()).copied()
    }

    /// How a part changes the sums.
    pub(super) fn totals(&self, part: usize) -> Totals {
        self.totals.get(part).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{MailboxId, RightId};
    use crate::mailbox::{Batch, Group, Row};

    fn mailbox(n: u8) -> RowKey {
        RowKey::Mailbox(MailboxId([n; 16]))
    }

    fn right(n: u8) -> RowKey {
        RowKey::Right(MailboxId([n; 16]), RightId([1; 16]))
    }

    /// Changes these rows in one decision that counts one envelope for each.
    fn decide(group: &mut Group, keys: &[RowKey]) {
        let decided = group.decide(|tx| {
            for key in keys {
                tx.set(*key, Some(Row::Mark));
                tx.count(Totals { envelopes: 1, ..Totals::default() });
            }
            Ok(())
        });
        assert_eq!(decided, Ok(Ok(())));
    }

    fn summary(batches: &[Batch]) -> Vec<(Vec<RowKey>, i64)> {
        let keys = |batch: &Batch| batch.changes.iter().map(|(key, _)| *key).collect();
        batches.iter().map(|batch| (keys(batch), batch.totals.envelopes)).collect()
    }

    #[test]
    fn what_no_decision_joined_is_a_batch_of_its_own_with_its_own_sums() {
        let mut group = Group::default();
        decide(&mut group, &[mailbox(1), right(1)]);
        decide(&mut group, &[mailbox(2)]);
        decide(&mut group, &[right(1)]);
        assert_eq!(group.totals_so_far().envelopes, 4);
        let batches = group.batches();
        assert_eq!(summary(&batches), [(vec![mailbox(1), right(1)], 3), (vec![mailbox(2)], 1)]);
        assert_eq!(batches[0].expected, [(mailbox(1), None)]);
        assert_eq!(batches[1].expected, [(mailbox(2), None)]);
    }

    #[test]
    fn what_a_decision_joined_stays_together_also_with_what_came_before() {
        let token = RowKey::Token([7; 16]);
        let mut group = Group::default();
        decide(&mut group, &[mailbox(1)]);
        decide(&mut group, &[mailbox(2), token]);
        decide(&mut group, &[mailbox(3)]);
        decide(&mut group, &[token, mailbox(1)]);
        decide(&mut group, &[mailbox(2)]);
        let batches = group.batches();
        let joined = vec![mailbox(1), mailbox(2), token];
        let mut found = summary(&batches);
        found.sort();
        assert_eq!(found, [(joined, 6), (vec![mailbox(3)], 1)]);
    }

    #[test]
    fn a_decision_that_changes_nothing_makes_no_batch() {
        let mut group = Group::default();
        decide(&mut group, &[]);
        assert!(group.batches().is_empty());
    }
}
