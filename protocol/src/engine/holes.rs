//! Envelopes that came before their predecessors: held a while, then opened past the hole with a copy of the session
//! kept for what is missing.

use std::collections::{BTreeMap, BTreeSet};

use zeroize::Zeroizing;

use super::inbox::Arrived;
use super::timer::Timer;
use super::{Engine, Fault};
use crate::crypto::envelope::Content;
use crate::crypto::session;
use crate::id::{DeviceId, EnvelopeId, SessionId};
use crate::limits;
use crate::record::{Key, KeyRange, Row, Seen, Session, SessionCopy};
use crate::time::Mono;

/// How often a hole is looked at while relays are asked.
const LOOK: u64 = limits::SECOND;

/// What came from one device and could not be opened yet, or not at all.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// Envelopes that wait for their predecessors.
    held: BTreeMap<(SessionId, u64), Held>,
    held_bytes: usize,
    /// Envelopes that no session of ours opens.
    pub(super) unopened: BTreeSet<EnvelopeId>,
}

#[derive(Debug)]
struct Held {
    arrived: Arrived,
    since: Mono,
}

impl Inbound {
    fn is_full(&self, size: usize) -> bool {
        self.held.len() >= limits::HELD || self.held_bytes.saturating_add(size) > limits::HELD_BYTES
    }

    fn take(&mut self, place: &(SessionId, u64)) -> Option<Arrived> {
        let held = self.held.remove(place)?;
        self.held_bytes = self.held_bytes.saturating_sub(held.arrived.size);
        Some(held.arrived)
    }
}

/// A message of a hole, opened, and what that changes.
type Late = (Zeroizing<Vec<u8>>, HoleStep);

/// Rows that opening a message changes besides its session.
#[derive(Debug, Default)]
pub(super) struct HoleStep {
    pub(super) rows: Vec<Row>,
    pub(super) gone: Vec<Key>,
}

impl Engine {
    /// Keeps an envelope, unacknowledged, until its predecessors are here.
    pub(super) fn hold(&mut self, arrived: Arrived) {
        let now = self.core.now.mono;
        let (from, id, size, relayed) = (arrived.from, arrived.id, arrived.size, arrived.relayed);
        let inbound = self.inbound.entry(from).or_default();
        let place = (arrived.content.session, arrived.content.number);
        let mut surplus = Vec::new();
        while inbound.is_full(size) {
            // the last has to go: what comes first is what the others wait for
            let last = inbound.held.last_key_value().map(|(place, _)| *place).filter(|last| *last > place);
            let Some(given_up) = last.and_then(|last| inbound.take(&last)) else { break };
            surplus.push((given_up.id, given_up.relayed));
        }
        if inbound.is_full(size) {
            surplus.push((id, relayed));
        }
        let full = inbound.is_full(size);
        for (id, _) in surplus.into_iter().filter(|(_, relayed)| *relayed) {
            self.fetch_later(id);
        }
        if full {
            return; // not acknowledged, so it comes again
        }
        let inbound = self.inbound.entry(from).or_default();
        if let std::collections::btree_map::Entry::Vacant(free) = inbound.held.entry(place) {
            free.insert(Held { arrived, since: now });
            inbound.held_bytes = inbound.held_bytes.saturating_add(size);
        }
        let wait = if relayed { limits::HOLE_PROBE } else { limits::HOLE_WAIT };
        self.core.timers.set_earlier(Timer::Hole(from), now.plus(wait));
    }

    /// The link is gone: what it brought comes again over the next.
    pub(super) fn forget_direct(&mut self, from: DeviceId, is_known: bool) {
        let Some(inbound) = self.inbound.get_mut(&from) else { return };
        let direct: Vec<(SessionId, u64)> =
            inbound.held.iter().filter(|(_, held)| !held.arrived.relayed).map(|(place, _)| *place).collect();
        for place in direct {
            inbound.take(&place);
        }
        if inbound.held.is_empty() {
            self.core.timers.cancel(Timer::Hole(from));
            if !is_known {
                self.inbound.remove(&from);
            }
        }
    }

    /// Opens held envelopes whose predecessors are here now.
    pub(super) fn drain_held(&mut self, from: DeviceId) -> Result<(), Fault> {
        let mut drained = false;
        loop {
            let Some(inbound) = self.inbound.get(&from) else { return Ok(()) };
            let mut next = None;
            let mut last_session = None;
            for place @ (session, number) in inbound.held.keys() {
                if last_session == Some(*session) {
                    continue;
                }
                last_session = Some(*session);
                let row: Option<Session> = self.core.get(&Key::Session(from, *session))?;
                if *number <= row.map_or(0, |row| row.next_received) {
                    next = Some(*place);
                    break;
                }
            }
            let Some(place) = next else { break };
            self.open_held(from, place)?;
            drained = true;
        }
        if drained && self.inbound.get(&from).is_some_and(|inbound| inbound.held.is_empty()) {
            self.fetch_all();
        }
        Ok(())
    }

    fn open_held(&mut self, from: DeviceId, place: (SessionId, u64)) -> Result<(), Fault> {
        let Some(inbound) = self.inbound.get_mut(&from) else { return Ok(()) };
        let Some(arrived) = inbound.take(&place) else { return Ok(()) };
        if inbound.held.is_empty() {
            self.core.timers.cancel(Timer::Hole(from));
        }
        if self.core.get::<Seen>(&Key::Seen(arrived.id))?.is_some() {
            self.ack(from, arrived.id);
            return Ok(());
        }
        self.content(arrived, true)
    }

    /// Envelopes have waited at a hole: step past it once nothing can fill it any more, or after the longest wait.
    pub(super) fn hole_timeout(&mut self, from: DeviceId) -> Result<(), Fault> {
        loop {
            let Some(inbound) = self.inbound.get(&from) else { return Ok(()) };
            let due = inbound.held.iter().find(|(_, held)| self.is_over(from, held));
            let Some((place, _)) = due else { break };
            // the first of its session, so that the others still open in order
            let first = (place.0, 0);
            let place = inbound.held.range(first..).next().map_or(*place, |(place, _)| *place);
            self.open_held(from, place)?;
            self.drain_held(from)?;
        }
        let Some(inbound) = self.inbound.get(&from) else { return Ok(()) };
        let now = self.core.now.mono;
        let oldest = inbound.held.values().map(|held| held.since).min();
        let relayed = inbound.held.values().any(|held| held.arrived.relayed);
        if let Some(oldest) = oldest {
            let end = oldest.plus(limits::HOLE_WAIT);
            let at = if relayed { end.min(now.plus(LOOK)) } else { end };
            self.core.timers.set(Timer::Hole(from), at.max(now.plus(1)));
            if relayed {
                self.probe_relays(oldest);
            }
        }
        Ok(())
    }

    /// Nothing more is waited for: it took long enough, or no link is up and every relay has said what it has.
    fn is_over(&self, from: DeviceId, held: &Held) -> bool {
        let waited = self.core.now.mono.since(held.since);
        let answered = || !self.links.contains_key(&from) && self.relays_answered(held.since);
        waited >= limits::HOLE_WAIT || (held.arrived.relayed && waited >= limits::HOLE_PROBE && answered())
    }

    /// What is kept when message `number` is opened although those from `first` on have not come.
    pub(super) fn keep_copy(
        &mut self,
        session: &Session,
        first: u64,
        number: u64,
        state: bytes::Bytes,
    ) -> Result<HoleStep, Fault> {
        let mut copies = self.copies(&session.device, &session.id)?;
        copies.sort_by_key(|copy| copy.made);
        let surplus = (copies.len() + 1).saturating_sub(limits::SESSION_COPIES);
        let gone =
            copies.iter().take(surplus).map(|copy| Key::SessionCopy(copy.device, copy.session, copy.first));
        let copy = SessionCopy {
            device: session.device,
            session: session.id,
            first,
            missing: vec![(first, number.saturating_sub(first))],
            state,
            made: self.core.now.wall,
        };
        Ok(HoleStep { rows: vec![copy.into()], gone: gone.collect() })
    }

    fn copies(&self, device: &DeviceId, session: &SessionId) -> Result<Vec<SessionCopy>, Fault> {
        let range = KeyRange::SessionCopies(*device);
        let mut copies: Vec<SessionCopy> =
            self.core.range(&range, limits::SESSIONS * limits::SESSION_COPIES * 4)?;
        copies.retain(|copy| copy.session == *session);
        Ok(copies)
    }

    /// A message of a hole is here: its number is missing no more.
    pub(super) fn fill_hole(
        &mut self,
        device: &DeviceId,
        session: &SessionId,
        number: u64,
    ) -> Result<HoleStep, Fault> {
        let mut step = HoleStep::default();
        for mut copy in self.copies(device, session)? {
            if !without(&mut copy.missing, number) {
                continue;
            }
            if copy.missing.is_empty() {
                step.gone.push(Key::SessionCopy(copy.device, copy.session, copy.first));
            } else {
                step.rows.push(copy.into());
            }
        }
        Ok(step)
    }

    /// Opens a message that was stepped past, on the copy kept for it.
    pub(super) fn open_late(&mut self, device: &DeviceId, content: &Content) -> Result<Option<Late>, Fault> {
        for copy in self.copies(device, &content.session)? {
            let lacks = copy
                .missing
                .iter()
                .any(|(first, count)| (*first..first.saturating_add(*count)).contains(&content.number));
            if !lacks {
                continue;
            }
            if let Ok(plaintext) = session::decrypt_late(&copy, content) {
                let step = self.fill_hole(device, &content.session, content.number)?;
                return Ok(Some((plaintext, step)));
            }
        }
        Ok(None)
    }

    /// Copies weaken forward secrecy while they live: they go after a week, filled or not.
    pub(super) fn prune_copies(&mut self) -> Result<(), Fault> {
        let copies: Vec<SessionCopy> = self.core.range(&KeyRange::AllSessionCopies, limits::ROWS_PER_TURN)?;
        for copy in copies {
            if self.core.now.wall.since(copy.made) > limits::SESSION_COPY_TTL {
                self.core.delete(Key::SessionCopy(copy.device, copy.session, copy.first));
            }
        }
        Ok(())
    }

    /// A session goes, and its copies with it.
    pub(super) fn delete_session(&mut self, device: DeviceId, session: SessionId) -> Result<(), Fault> {
        self.core.delete(Key::Session(device, session));
        for copy in self.copies(&device, &session)? {
            self.core.delete(Key::SessionCopy(copy.device, copy.session, copy.first));
        }
        Ok(())
    }
}

/// Takes a number out of ranges. False: it was not in them.
fn without(ranges: &mut Vec<(u64, u64)>, number: u64) -> bool {
    let Some(place) =
        ranges.iter().position(|(first, count)| (*first..first.saturating_add(*count)).contains(&number))
    else {
        return false;
    };
    let (first, count) = ranges.remove(place);
    let before = (first, number.saturating_sub(first));
    let after =
        (number.saturating_add(1), first.saturating_add(count).saturating_sub(number).saturating_sub(1));
    for part in [after, before] {
        if part.1 > 0 {
            ranges.insert(place, part);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_leaves_its_range_and_no_other() {
        let mut ranges = vec![(3, 4), (9, 1)];
        assert!(without(&mut ranges, 4));
        assert_eq!(ranges, [(3, 1), (5, 2), (9, 1)]);
        assert!(!without(&mut ranges, 4));
        assert!(without(&mut ranges, 9) && without(&mut ranges, 6) && without(&mut ranges, 3));
        assert_eq!(ranges, [(5, 1)]);
        assert!(without(&mut ranges, 5));
        assert_eq!(ranges, []);
    }
}
