//! The audits: of one store now and then, of all of them in the end.

use super::World;
use super::person::State;
use crate::judge::{self, Audit};

impl World {
    /// Everything that was accepted has arrived, and everybody is there.
    pub(super) fn is_settled(&self) -> bool {
        let here = self.able().into_iter().all(|host| {
            let person = &self.people[host as usize];
            person.state == State::Up || person.lives == 0
        });
        if let Some(crowd) = &self.crowd {
            return here && crowd.is_settled();
        }
        here && self
            .watch
            .ledger()
            .stories
            .values()
            .filter(|story| story.accepted.is_some())
            .all(|story| story.has_arrived() && (story.ticked.is_some() || story.withdrawn || !story.visible))
    }

    /// Looks at the next store in turn.
    pub(super) fn audit_next(&mut self) {
        let n = self.people.len();
        let next = (0..n).map(|k| (self.audited + k) % n).find(|&k| self.people[k].state == State::Up);
        if let Some(next) = next {
            self.audited = next + 1;
            self.audit(next as u32);
            self.bound(next as u32);
        }
    }

    /// Looks at a store.
    pub(super) fn audit(&self, host: u32) {
        if self.crowd.is_some() {
            return;
        }
        let Some(reader) = self.people[host as usize].reader() else { return };
        let result = {
            let ledger = self.watch.ledger();
            let own =
                ledger.stories.values().filter(|story| story.author == host || story.to.contains(&host));
            judge::audit(host, &reader, own)
        };
        match result {
            Ok(audit) => self.report(host, audit),
            // it crashed a moment ago
            Err(_) if self.people[host as usize].state != State::Up => {}
            Err(error) => self.watch.breach(host, None, format!("the store cannot be read: {error}")),
        }
    }

    /// Nobody holds more connections with a peer than the product allows.
    fn bound(&self, host: u32) {
        let limit = kith_network::Limits::default().connections_per_peer + 2;
        let most = self.net.connections(host).into_iter().max_by_key(|(_, n)| *n);
        self.watch.ledger().checks += 1;
        if let Some((peer, n)) = most
            && n > limit
        {
            self.watch.breach(host, None, format!("{n} connections with node {peer}"));
        }
    }

    fn report(&self, host: u32, audit: Audit) {
        {
            let mut ledger = self.watch.ledger();
            ledger.checks += audit.checks;
            for entry in &audit.delivered {
                if let Some(story) = ledger.stories.get_mut(entry) {
                    story.ticked.get_or_insert(self.now());
                }
            }
        }
        for (what, entry) in audit.broken {
            self.watch.breach(host, entry, what);
        }
    }

    /// Looks at everything in the end.
    pub(super) fn judge(&mut self) {
        if self.crowd.is_some() {
            return;
        }
        for host in 0..self.people.len() as u32 {
            self.audit(host);
        }
        if !self.quiet {
            return;
        }
        self.judge_losses();
        for meeting in self.meetings.clone() {
            let readers =
                (self.people[meeting.host as usize].reader(), self.people[meeting.guest as usize].reader());
            let (Some(a), Some(b)) = readers else { continue };
            let Some(with) = self.people[meeting.guest as usize].account else { continue };
            match judge::compare(&a, &b, with) {
                Ok(audit) => self.report(meeting.host, audit),
                Err(error) => {
                    self.watch.breach(meeting.host, None, format!("the store cannot be read: {error}"))
                }
            }
        }
    }

    /// No accepted message is lost while somebody holds it.
    fn judge_losses(&self) {
        let stories: Vec<_> = {
            let ledger = self.watch.ledger();
            let accepted =
                ledger.stories.values().filter(|story| story.accepted.is_some() && !story.withdrawn);
            accepted.map(|story| (story.entry, story.author, story.to.clone(), story.rank)).collect()
        };
        for (entry, author, to, _) in stories {
            for to in to {
                let (Some(mine), Some(theirs), Some(account)) = (
                    self.people[author as usize].reader(),
                    self.people[to as usize].reader(),
                    self.people[to as usize].account,
                ) else {
                    continue;
                };
                self.watch.ledger().checks += 1;
                let there = judge::has(&theirs, entry);
                let held = judge::is_held(&mine, entry, account);
                if matches!((there, held), (Ok(false), Ok(false))) {
                    let what = format!(
                        "message {} was accepted, is not at node {to}, and nobody brings it",
                        entry.short()
                    );
                    self.watch.breach(author, Some(entry), what);
                }
            }
        }
    }
}
