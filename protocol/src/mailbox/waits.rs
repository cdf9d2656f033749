//! Parked waits: who is to be told when something arrives.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::engine::LinkId;
use crate::id::MailboxId;
use crate::time::Mono;

/// Waits of one link.
const PER_LINK: usize = 8;

/// A parked wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parked {
    /// On this link,
    pub link: LinkId,
    /// under this number.
    pub request: u64,
    /// Where.
    pub mailbox: MailboxId,
    /// Beyond this cursor.
    pub after: u64,
    /// At most so many.
    pub max: u32,
    /// Until then.
    pub deadline: Mono,
}

/// All parked waits.
#[derive(Debug, Default)]
pub struct Waits {
    parked: BTreeMap<u64, Parked>,
    by_mailbox: HashMap<MailboxId, BTreeSet<u64>>,
    by_link: HashMap<LinkId, BTreeSet<u64>>,
    by_deadline: BTreeSet<(Mono, u64)>,
    next: u64,
}

impl Waits {
    /// Parks a wait. What has to give way (an older one for the same mailbox on the same link, or the oldest of a link
    /// with too many) is returned, to be answered with nothing.
    pub fn park(&mut self, wait: Parked) -> Option<Parked> {
        let of_link = self.by_link.get(&wait.link);
        let same = of_link
            .into_iter()
            .flatten()
            .copied()
            .find(|number| self.parked.get(number).is_some_and(|parked| parked.mailbox == wait.mailbox));
        let oldest = || of_link.filter(|numbers| numbers.len() >= PER_LINK).and_then(|n| n.first().copied());
        let gives_way = same.or_else(oldest).and_then(|number| self.take(number));
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.by_mailbox.entry(wait.mailbox).or_default().insert(number);
        self.by_link.entry(wait.link).or_default().insert(number);
        self.by_deadline.insert((wait.deadline, number));
        self.parked.insert(number, wait);
        gives_way
    }

    fn take(&mut self, number: u64) -> Option<Parked> {
        let wait = self.parked.remove(&number)?;
        self.by_deadline.remove(&(wait.deadline, number));
        if let Some(numbers) = self.by_mailbox.get_mut(&wait.mailbox) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_mailbox.remove(&wait.mailbox);
            }
        }
        if let Some(numbers) = self.by_link.get_mut(&wait.link) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_link.remove(&wait.link);
            }
        }
        Some(wait)
    }

    /// Something arrived in a mailbox: these are to be answered.
    pub fn arrived(&mut self, mailbox: MailboxId) -> Vec<Parked> {
        let numbers = self.by_mailbox.get(&mailbox).cloned().unwrap_or_default();
        numbers.into_iter().filter_map(|number| self.take(number)).collect()
    }

    /// The link is gone.
    pub fn disconnected(&mut self, link: LinkId) {
        for number in self.by_link.get(&link).cloned().unwrap_or_default() {
            self.take(number);
        }
    }

    /// When the next deadline is.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// One whose deadline has passed.
    pub fn expired(&mut self, now: Mono) -> Option<Parked> {
        let (deadline, number) = *self.by_deadline.first()?;
        if deadline <= now { self.take(number) } else { None }
    }

    /// Mailboxes somebody waits at: where another process may have stored something.
    pub fn mailboxes(&self) -> impl Iterator<Item = MailboxId> + '_ {
        self.by_mailbox.keys().copied()
    }

    /// How many are parked.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parked.len()
    }

    /// Whether none is parked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(link: u64, request: u64, mailbox: u8, deadline: u64) -> Parked {
        let mailbox = MailboxId([mailbox; 16]);
        Parked { link: LinkId(link), request, mailbox, after: 0, max: 1, deadline: Mono(deadline) }
    }

    #[test]
    fn an_arrival_wakes_those_who_wait_there_once() {
        let mut waits = Waits::default();
        for wait in [wait(1, 1, 1, 10), wait(2, 1, 1, 5), wait(1, 2, 2, 7)] {
            assert_eq!(waits.park(wait), None);
        }
        assert_eq!(waits.next_deadline(), Some(Mono(5)));
        assert_eq!(waits.arrived(MailboxId([1; 16])).len(), 2);
        assert_eq!(waits.arrived(MailboxId([1; 16])), []);
        assert_eq!(waits.next_deadline(), Some(Mono(7)));
        assert_eq!((waits.expired(Mono(6)), waits.len()), (None, 1));
        assert_eq!(waits.expired(Mono(7)), Some(wait(1, 2, 2, 7)));
        assert!(waits.is_empty());
    }

    #[test]
    fn a_second_wait_for_a_mailbox_replaces_the_first_and_a_link_has_only_so_many() {
        let mut waits = Waits::default();
        assert_eq!(waits.park(wait(1, 1, 1, 10)), None);
        assert_eq!(waits.park(wait(1, 2, 1, 20)), Some(wait(1, 1, 1, 10)));
        for mailbox in 2..=8 {
            assert_eq!(waits.park(wait(1, 2, mailbox, 20)), None);
        }
        assert_eq!(waits.park(wait(1, 3, 9, 20)), Some(wait(1, 2, 1, 20)));
        waits.disconnected(LinkId(1));
        assert!(waits.is_empty() && waits.next_deadline().is_none());
        assert_eq!(waits.mailboxes().count(), 0);
    }
}
