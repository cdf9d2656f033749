//! Emptying our mailboxes: list all, fetch each envelope once, open in order, collect what is on disk.

use std::collections::BTreeMap;

use super::stations::{Asked, Fetch, Listing};
use super::{Engine, Fault};
use crate::crypto::envelope;
use crate::id::{DeviceId, EnvelopeId};
use crate::limits;
use crate::record::{Grant, GrantOf, Key, Seen};
use crate::time::{Mono, Wall};
use crate::wire::Lacking;
use crate::wire::relay::{Ask, Listed, Stored};

/// Envelopes asked for in one request.
const GET: usize = 64;
/// Such requests on the way to one relay.
const GETS: usize = 3;
/// Envelopes of one device whose absence at a relay is remembered.
const LACKING: usize = limits::REQUESTED;

/// What relays did not have although they were asked, by the device that sent it.
pub(super) type LackingBy = BTreeMap<DeviceId, BTreeMap<DeviceId, Lacking>>;

impl Engine {
    /// Asks a relay what it has beyond what it listed.
    pub(super) fn list(&mut self, relay: DeviceId) {
        let Some(mailbox) = self.mailbox_at(&relay) else { return };
        let Some(station) = self.stations.get(&relay) else { return };
        if station.is_asking(|asked| matches!(asked, Asked::List)) {
            return;
        }
        let ask = Ask::List { mailbox, after: station.cursor, max: page() };
        self.ask(relay, ask, Asked::List);
    }

    /// Our mailbox at a relay where it is open now.
    pub(super) fn mailbox_at(&self, relay: &DeviceId) -> Option<crate::id::MailboxId> {
        self.stations.get(relay).filter(|station| station.opened)?;
        self.relay_row(relay).ok().flatten().map(|row| row.mailbox)
    }

    /// A relay says what it has. `asked`: since when this was the answer to; `None` for what it told by itself.
    pub(super) fn listed(
        &mut self,
        relay: DeviceId,
        envelopes: &[Listed],
        more: bool,
        asked: Option<Mono>,
    ) -> Result<(), Fault> {
        let canary = self.relay_row(&relay)?.and_then(|row| row.canary).map(|canary| canary.envelope);
        for listed in envelopes {
            let seen = self.core.get::<Seen>(&Key::Seen(listed.id))?.is_some();
            let taken = seen && !self.taken.contains(&listed.id);
            let Some(station) = self.stations.get_mut(&relay) else { return Ok(()) };
            station.cursor = station.cursor.max(listed.cursor);
            if canary == Some(listed.id) {
                continue;
            }
            if seen {
                station.collect.insert(listed.id);
                if taken && let Some(device) = self.granted_to(&relay, listed)? {
                    self.owe_again(device)?;
                }
                continue;
            }
            let (right, cursor) = (listed.right, listed.cursor);
            let listing = Listing { right, cursor, state: Fetch::Wanted };
            if station.listed.entry(listed.id).or_insert(listing).state == Fetch::Wanted {
                station.want(listed.id);
            }
        }
        if more {
            self.list(relay);
        } else {
            if let Some(station) = self.stations.get_mut(&relay) {
                station.answered = station.answered.max(asked);
            }
            self.wait(relay);
        }
        self.fetch(relay);
        Ok(())
    }

    fn granted_to(&self, relay: &DeviceId, listed: &Listed) -> Result<Option<DeviceId>, Fault> {
        let grant: Option<Grant> = self.core.get(&Key::Grant(*relay, listed.right))?;
        Ok(match grant.map(|grant| grant.of) {
            Some(GrantOf::Peer(device)) => Some(device),
            Some(GrantOf::Invite(_) | GrantOf::Canary) | None => None,
        })
    }

    /// Asks a relay to say when something comes.
    fn wait(&mut self, relay: DeviceId) {
        let Some(mailbox) = self.mailbox_at(&relay) else { return };
        let Some(station) = self.stations.get(&relay) else { return };
        if station.is_asking(|asked| matches!(asked, Asked::Wait | Asked::List)) {
            return;
        }
        let deadline = u32::try_from(limits::RELAY_WAIT).unwrap_or(u32::MAX);
        let ask = Ask::Wait { mailbox, after: station.cursor, max: page(), deadline };
        self.ask(relay, ask, Asked::Wait);
    }

    /// Asks a relay for what it listed and no other is being asked for.
    fn fetch(&mut self, relay: DeviceId) {
        let Some(mailbox) = self.mailbox_at(&relay) else { return };
        loop {
            let Some(station) = self.stations.get(&relay) else { return };
            if station.gets >= GETS {
                return;
            }
            let next: Vec<(u64, EnvelopeId)> = station
                .wanted
                .iter()
                .filter(|(_, id)| !self.comes_from_another(&relay, id))
                .take(GET)
                .copied()
                .collect();
            if next.is_empty() {
                return;
            }
            if let Some(station) = self.stations.get_mut(&relay) {
                station.gets += 1;
                for place @ (_, id) in &next {
                    station.wanted.remove(place);
                    if let Some(listing) = station.listed.get_mut(id) {
                        listing.state = Fetch::Asked;
                    }
                }
            }
            let envelopes: Vec<EnvelopeId> = next.into_iter().map(|(_, id)| id).collect();
            let ask = Ask::Get { mailbox, envelopes: envelopes.clone() };
            self.ask(relay, ask, Asked::Get(envelopes));
        }
    }

    fn comes_from_another(&self, relay: &DeviceId, id: &EnvelopeId) -> bool {
        self.stations.iter().any(|(other, station)| {
            other != relay
                && station
                    .listed
                    .get(id)
                    .is_some_and(|listing| matches!(listing.state, Fetch::Asked | Fetch::Here))
        })
    }

    /// Goes on fetching everywhere: there is room again, or a relay has gone.
    pub(super) fn fetch_all(&mut self) {
        let relays: Vec<DeviceId> = self.stations.keys().copied().collect();
        for station in self.stations.values_mut() {
            let later: Vec<EnvelopeId> = station
                .listed
                .iter()
                .filter(|(_, listing)| listing.state == Fetch::Later)
                .map(|(id, _)| *id)
                .collect();
            for id in later {
                station.want(id);
            }
        }
        for relay in relays {
            self.fetch(relay);
        }
    }

    /// There was no room for an envelope that came from a relay.
    pub(super) fn fetch_later(&mut self, id: EnvelopeId) {
        for station in self.stations.values_mut() {
            if let Some(listing) = station.listed.get_mut(&id) {
                listing.state = Fetch::Later;
            }
        }
    }

    /// Envelopes came from a relay.
    pub(super) fn fetched(
        &mut self,
        relay: DeviceId,
        asked: &[EnvelopeId],
        envelopes: Vec<Stored>,
        missing: &[EnvelopeId],
        more: bool,
    ) -> Result<(), Fault> {
        let progress = !envelopes.is_empty() || !missing.is_empty();
        for stored in envelopes {
            if !asked.contains(&stored.id) || envelope::envelope_id(&stored.envelope) != stored.id {
                continue;
            }
            // the right it was listed with: the same relay said so before
            let right =
                match self.stations.get_mut(&relay).and_then(|station| station.listed.get_mut(&stored.id)) {
                    Some(listing) => {
                        listing.state = Fetch::Here;
                        listing.right
                    }
                    None => continue, // came another way meanwhile
                };
            if let Err(fault) = self.relayed(relay, right, &stored.envelope) {
                self.core.abandon();
                self.report(&fault, "opening what a relay brought");
            }
            self.core.commit();
        }
        let Some(station) = self.stations.get_mut(&relay) else { return Ok(()) };
        for id in missing {
            station.unlist(id);
        }
        if !more {
            station.gets = station.gets.saturating_sub(1);
            for id in asked {
                let Some(listing) = station.listed.get_mut(id) else { continue };
                if listing.state != Fetch::Asked {
                    continue;
                }
                // a relay gives as much as it likes at a time; one that gives nothing is not asked again at once
                listing.state = Fetch::Later;
                if progress {
                    station.want(*id);
                }
            }
        }
        if missing.is_empty() {
            self.fetch(relay);
        } else {
            self.fetch_all();
        }
        Ok(())
    }

    /// A relay did not give what it was asked for.
    pub(super) fn not_fetched(&mut self, relay: DeviceId, asked: &[EnvelopeId]) -> Result<(), Fault> {
        if let Some(station) = self.stations.get_mut(&relay) {
            station.gets = station.gets.saturating_sub(1);
            for id in asked {
                if let Some(listing) = station.listed.get_mut(id) {
                    listing.state = Fetch::Later;
                }
            }
        }
        Ok(())
    }

    /// An envelope is on our disk, or will never be of use: relays need not keep it any longer.
    pub(super) fn collect(&mut self, id: EnvelopeId) {
        let mut relayed = false;
        for station in self.stations.values_mut() {
            if station.unlist(&id) {
                station.collect.insert(id);
                relayed = true;
            }
        }
        if relayed {
            self.note_taken(id);
        }
    }

    /// Tells relays what they need not keep; stands behind the batches that took it.
    pub(super) fn collect_all(&mut self) {
        let relays: Vec<DeviceId> = self
            .stations
            .iter()
            .filter(|(_, station)| station.opened && !station.collect.is_empty())
            .map(|(relay, _)| *relay)
            .collect();
        for relay in relays {
            let Some(mailbox) = self.mailbox_at(&relay) else { continue };
            let Some(station) = self.stations.get_mut(&relay) else { continue };
            let ids: Vec<EnvelopeId> = std::mem::take(&mut station.collect).into_iter().collect();
            for envelopes in ids.chunks(limits::RELAY_PAGE) {
                let ask = Ask::Collect { mailbox, envelopes: envelopes.to_vec() };
                self.ask(relay, ask, Asked::Collect);
            }
        }
    }

    /// Whether every relay that keeps a mailbox for us has listed, and given, everything it had at an instant.
    pub(super) fn relays_answered(&self, since: Mono) -> bool {
        self.stations.values().filter(|station| station.counts).all(|station| {
            station.opened
                && station.gets == 0
                && station.answered.is_some_and(|answered| answered >= since)
                && station.listed.keys().all(|id| self.is_here(id))
        })
    }

    /// Whether an envelope came from some relay.
    fn is_here(&self, id: &EnvelopeId) -> bool {
        let here = |listing: &Listing| listing.state == Fetch::Here;
        self.stations.values().any(|station| station.listed.get(id).is_some_and(here))
    }

    /// Asks relays whether they have what is missing.
    pub(super) fn probe_relays(&mut self, since: Mono) {
        let behind: Vec<DeviceId> = self
            .stations
            .iter()
            .filter(|(_, station)| station.opened && station.answered.is_none_or(|answered| answered < since))
            .map(|(relay, _)| *relay)
            .collect();
        for relay in behind {
            self.list(relay);
        }
    }

    /// Envelopes taken from relays in this process: a second relay that lists one later is no reason to say anything.
    fn note_taken(&mut self, id: EnvelopeId) {
        const REMEMBERED: usize = 4 * 1024;
        if self.taken.len() >= REMEMBERED {
            self.taken.pop_first();
        }
        self.taken.insert(id);
    }

    /// An envelope that some relays had is opened: those that were asked and had it not are named to its sender, who
    /// knows which of them had signed for it.
    pub(super) fn note_lacking(&mut self, from: DeviceId, id: EnvelopeId) {
        let now = self.core.now;
        for (relay, station) in &self.stations {
            let Some(answered) = station.answered.filter(|_| station.opened) else { continue };
            if station.listed.contains_key(&id) {
                continue;
            }
            let words = self.lacking.entry(from).or_default();
            if words.get(relay).is_some_and(|word| word.envelopes.is_empty()) {
                continue; // it has lost all, which says more
            }
            let word = words.entry(*relay).or_insert_with(|| Lacking {
                relay: *relay,
                envelopes: Vec::new(),
                at: Wall(u64::MAX),
            });
            // the earliest counts: what was signed for later, the relay need not have had
            word.at = word.at.min(now.wall.minus(now.mono.since(answered)));
            if word.envelopes.len() < LACKING {
                word.envelopes.push(id);
            }
        }
    }

    /// What is to be told to a device of relays that had not what it sent.
    pub(super) fn take_lacking(&mut self, device: &DeviceId) -> Vec<Lacking> {
        let lacking = self.lacking.remove(device).unwrap_or_default();
        lacking.into_values().take(limits::RELAYS).collect()
    }
}

fn page() -> u32 {
    u32::try_from(limits::RELAY_PAGE).unwrap_or(u32::MAX)
}
