//! The audits: of one store now and then, of all of them in the end.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use kith_protocol::Wall;

use super::World;
use super::person::State;
use crate::host::Life;
use crate::judge::{self, Audit, Story};

impl World {
    /// Everything that was accepted has arrived, and everybody is there.
    pub(super) fn is_settled(&self) -> bool {
        let apart = self.scenario.nodes.turns.is_some();
        let here = self.able().into_iter().all(|host| {
            let person = &self.people[host as usize];
            apart || person.gone || person.state == State::Up || person.lives == 0
        });
        if let Some(crowd) = &self.crowd {
            return here && crowd.is_settled();
        }
        let (gone, honest) = (self.gone(), self.honest());
        let ledger = self.watch.ledger();
        let told = |story: &Story| {
            gone.contains(&story.author) || story.ticked.is_some() || story.withdrawn || !story.visible
        };
        let settled = |story: &Story| {
            story.to.iter().all(|to| gone.contains(to))
                || story.has_arrived() && told(story)
                || gone.contains(&story.author) && !ledger.custodies.is_with(&story.entry, &honest)
        };
        here && ledger.stories.values().filter(|story| story.accepted.is_some()).all(settled)
    }

    /// People who never come back.
    fn gone(&self) -> BTreeSet<u32> {
        self.people.iter().filter(|person| person.gone).map(|person| person.host).collect()
    }

    /// Relays that run, or will, and never lost anything.
    fn honest(&self) -> BTreeSet<u32> {
        let honest = self.relays.iter().filter(|relay| !relay.gone && relay.conduct.is_honest());
        honest.map(|relay| relay.host).collect()
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

    /// Looks at the next relay in turn.
    pub(super) fn audit_next_relay(&mut self) {
        if !self.relays.is_empty() {
            self.audited_relay = (self.audited_relay + 1) % self.relays.len();
            self.audit_relay(self.audited_relay);
        }
    }

    /// Looks at what a relay keeps, as far as its word holds.
    fn audit_relay(&self, n: usize) {
        let Some(relay) = self.relays.get(n).filter(|relay| relay.conduct.is_honest()) else { return };
        let Some(rows) = relay.rows() else { return };
        let skew = relay.skew.load(Ordering::Relaxed);
        let now = Wall(Life::wall_at(self.now()).saturating_add_signed(skew));
        let (broken, checks) = {
            let ledger = self.watch.ledger();
            ledger.custodies.audit(relay.host, &rows, now)
        };
        self.watch.ledger().checks += checks;
        for (what, entry) in broken {
            self.watch.breach(relay.host, entry, what);
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
        // deposits for each friend go under a key and over a connection of their own; a key lives for a day
        let own = |meeting: &&super::Meeting| meeting.host == host || meeting.guest == host;
        let ways = 2 * (self.meetings.iter().filter(own).count() + 1);
        self.watch.ledger().checks += 1;
        for (peer, n) in self.net.connections(host) {
            let of_relay = self.relay_of(peer).map_or(0, |_| ways);
            if n > limit + of_relay {
                self.watch.breach(host, None, format!("{n} connections with node {peer}"));
            }
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
        for n in 0..self.relays.len() {
            self.audit_relay(n);
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
        let (gone, honest) = (self.gone(), self.honest());
        for (entry, author, to, _) in stories {
            for to in to {
                if gone.contains(&to) {
                    continue;
                }
                let (Some(mine), Some(theirs), Some(account)) = (
                    self.people[author as usize].reader(),
                    self.people[to as usize].reader(),
                    self.people[to as usize].account,
                ) else {
                    continue;
                };
                self.watch.ledger().checks += 1;
                let there = judge::has(&theirs, entry);
                if gone.contains(&author) {
                    // its author brings it no more; relays that signed for it do
                    if matches!(there, Ok(false)) && self.watch.ledger().custodies.is_with(&entry, &honest) {
                        let what = format!(
                            "message {} was in custody of an honest relay and never came to node {to}",
                            entry.short()
                        );
                        self.watch.breach(to, Some(entry), what);
                    }
                    continue;
                }
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
