//! People who meet, write and read.

use std::sync::Arc;

use kith_node::api::Handle;
use kith_protocol::EntryId;

use super::agenda::{Action, Word};
use super::person::{Reach, State};
use super::{World, graph};
use crate::draw::Draw;
use crate::judge::News;
use crate::trace::SECOND;

/// A meeting that did not come about is tried again after this.
const AGAIN: u64 = 2 * SECOND;
/// An invite lives this long, in milliseconds.
const INVITE: u64 = 30 * 86_400_000;

/// Two people who are to become friends.
#[derive(Debug, Clone)]
pub(crate) struct Meeting {
    pub(crate) host: u32,
    pub(crate) guest: u32,
    /// Made by the host, on its way to the guest.
    invite: Option<String>,
    /// The invite was accepted; the rest is the nodes' business.
    pub(crate) asked: bool,
}

impl World {
    pub(super) fn plan_meetings(&mut self) {
        if self.crowd.is_some() {
            return;
        }
        let nodes = &self.scenario.nodes;
        let first = if self.scenario.friends.bootstrap_too { 0 } else { nodes.bootstrap };
        let people: Vec<u32> = (first..nodes.count - nodes.liars).collect();
        // with relays, everybody can be reached by an invite
        let reach = |host: u32| match self.people[host as usize].reach {
            Reach::Routed if !self.relays.is_empty() => Reach::Open,
            reach => reach,
        };
        let pairs = graph::pairs(&self.scenario.friends, &people, reach, self.seed);
        let mut draw = Draw::new(self.seed, "meetings", 0);
        // an invite names its maker's addresses: he knows them a little after his start
        let from = self.scenario.nodes.start_within.nanos() + 5 * SECOND;
        for (host, guest) in pairs {
            self.agenda
                .plan(from + (10.0 * SECOND as f64 * draw.unit()) as u64, Action::Meet(self.meetings.len()));
            self.meetings.push(Meeting { host, guest, invite: None, asked: false });
        }
    }

    #[allow(clippy::disallowed_methods, reason = "what people do is no task of their nodes")]
    pub(super) fn meet(&mut self, pair: usize) {
        let Some(Meeting { host, guest, invite, asked: false }) = self.meetings.get(pair).cloned() else {
            return;
        };
        let (inviting, accepting) =
            (self.people[host as usize].handle(), self.people[guest as usize].handle());
        // they exchange an invite when both are there, unless they never are
        let apart = self.scenario.nodes.turns.is_some();
        let together = inviting.is_some() && accepting.is_some();
        let mailbox = Arc::clone(&self.mailbox);
        match (invite, inviting, accepting) {
            (None, Some(inviting), _) if (together || apart) && self.can_invite(&inviting) => {
                drop(tokio::spawn(async move {
                    match Box::pin(inviting.invite(1, INVITE)).await {
                        Ok(invite) => mailbox.put(Word::Invited { pair, uri: invite.uri }),
                        Err(_) => mailbox.put(Word::Met { pair, met: false }),
                    }
                }));
            }
            (Some(uri), _, Some(accepting)) if together || apart => {
                drop(tokio::spawn(async move {
                    let met = Box::pin(accepting.accept(uri)).await.is_ok();
                    mailbox.put(Word::Met { pair, met });
                }));
            }
            // somebody is not there yet, or not now
            _ => {
                let were_here = |host: u32| self.people[host as usize].lives > 0;
                if !self.quiet || were_here(host) && were_here(guest) {
                    let at = self.now() + AGAIN;
                    self.agenda.plan(at, Action::Meet(pair));
                }
            }
        }
    }

    pub(super) fn invited(&mut self, pair: usize, uri: String) {
        if let Some(meeting) = self.meetings.get_mut(pair) {
            meeting.invite = Some(uri);
            let at = self.now();
            self.agenda.plan(at, Action::Meet(pair));
        }
    }

    pub(super) fn met(&mut self, pair: usize, met: bool) {
        let at = self.now() + AGAIN;
        if let Some(meeting) = self.meetings.get_mut(pair) {
            meeting.asked = met;
            if !met {
                self.agenda.plan(at, Action::Meet(pair));
            }
        }
    }

    /// Everybody who is to meet before the work begins has.
    pub(super) fn all_met(&self) -> bool {
        self.meetings.iter().all(|meeting| {
            let late = |host: u32| self.people[host as usize].lives == 0;
            late(meeting.host) || late(meeting.guest) || self.watch.are_friends(meeting.host, meeting.guest)
        })
    }

    /// Friendships that came about.
    pub(crate) fn friendships(&self) -> usize {
        self.meetings.iter().filter(|meeting| self.watch.are_friends(meeting.host, meeting.guest)).count()
    }

    pub(super) fn plan_writing(&mut self) {
        if self.scenario.workload.rate > 0.0 && !self.quiet {
            let pause = self.work.exponential(1.0 / self.scenario.workload.rate);
            let at = self.now() + (pause * SECOND as f64) as u64;
            self.agenda.plan(at, Action::Write);
        }
    }

    /// Somebody writes to a friend.
    pub(super) fn write(&mut self) {
        self.plan_writing();
        if self.quiet {
            return;
        }
        self.written += 1;
        let number = self.written;
        let workload = &self.scenario.workload;
        let size = self.work.between(workload.min_size.0 as f64, workload.max_size.0 as f64 + 1.0) as usize;
        let change = self.work.chance(workload.changes.0);
        if let Some(crowd) = &self.crowd {
            let up: Vec<u32> = self.people.iter().filter(|p| p.state == State::Up).map(|p| p.host).collect();
            if let Some(&from) = up.get(self.work.below(up.len())) {
                crowd.publish(from, number, size, &up);
            }
            return;
        }
        let (pick, turn) = (self.work.word(), self.work.word());
        let Some(meeting) =
            usize::try_from(pick % self.meetings.len().max(1) as u64).ok().and_then(|n| self.meetings.get(n))
        else {
            return;
        };
        let (host, guest) = (meeting.host, meeting.guest);
        let (from, to) = if turn % 2 == 0 { (host, guest) } else { (guest, host) };
        let (Some(handle), Some(account)) =
            (self.people[from as usize].handle(), self.people[to as usize].account)
        else {
            return;
        };
        let earlier = self.people[from as usize].wrote.last().copied();
        self.submit(handle, from, account, number, size, change.then_some(earlier).flatten());
    }

    #[allow(clippy::disallowed_methods, reason = "what people do is no task of their nodes")]
    fn submit(
        &self,
        handle: Handle,
        from: u32,
        to: kith_protocol::AccountId,
        number: u64,
        size: usize,
        earlier: Option<EntryId>,
    ) {
        let mailbox = Arc::clone(&self.mailbox);
        drop(tokio::spawn(async move {
            if let Some(earlier) = earlier {
                // a change that comes too late is refused, which is right
                let _ = match number % 3 {
                    0 => handle.edit(earlier, format!("edited {number}")).await,
                    1 => handle.react(earlier, "👍".to_owned()).await,
                    _ => handle.delete(earlier).await,
                };
                return;
            }
            let text: String = format!("message {number} ")
                .chars()
                .chain(std::iter::repeat('.'))
                .take(size.max(16))
                .collect();
            // an error means that the node went down, or that they are no friends yet
            if let Ok(sent) = handle.send(to, text, None, None).await {
                mailbox.put(Word::Wrote { host: from, entry: sent.id });
            }
        }));
    }

    /// Who got a message reads it in a while.
    pub(super) fn read_news(&mut self) {
        let news = std::mem::take(&mut self.watch.ledger().news);
        for News { host, from, entry } in news {
            let workload = &self.scenario.workload;
            if self.work.chance(workload.read.0) {
                let after = self.work.exponential(workload.read_after.nanos() as f64) as u64;
                let at = self.now() + after;
                self.agenda.plan(at, Action::Read { host, from, entry });
            }
        }
    }

    #[allow(clippy::disallowed_methods, reason = "what people do is no task of their nodes")]
    pub(super) fn read(&mut self, host: u32, from: u32, entry: EntryId) {
        let (Some(handle), Some(with)) =
            (self.people[host as usize].handle(), self.people[from as usize].account)
        else {
            return;
        };
        drop(tokio::spawn(async move {
            // an error means that the node went down: it stays unread
            let _ = handle.mark_read(with, Some(entry)).await;
        }));
    }
}
