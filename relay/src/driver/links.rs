//! Requests that wait, by link. Links have their turn one after the other, so a flood on one holds up the others by one
//! request a round.

use std::collections::{HashMap, VecDeque};

use kith_network::Origin;
use kith_protocol::engine::LinkId;
use kith_protocol::wire::relay::{Ask, RelayRequest};
use kith_protocol::{DeviceId, Mono, limits};

use crate::rate::{Bucket, RateLimits};

/// Bytes of requests that may wait on one link.
const LINK_BYTES: usize = 512 * 1024;

struct Link {
    peer: DeviceId,
    origin: Origin,
    bucket: Bucket,
    requests: VecDeque<(RelayRequest, usize)>,
    bytes: usize,
    malformed: u32,
    /// It is in the round.
    ready: bool,
}

/// What became of a request.
pub(super) enum Taken {
    Queued,
    /// The peer or its network asks too fast.
    TooFast,
    /// Too much waits on this link.
    TooMany,
    Gone,
}

/// A request's way of being answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It changes nothing.
    Read,
    /// It changes something.
    Write,
    /// What comes behind it on the same link depends on it.
    Open,
}

impl Kind {
    fn of(request: &RelayRequest) -> Self {
        match &request.ask {
            Ask::List { .. } | Ask::Wait { .. } | Ask::Get { .. } => Self::Read,
            Ask::Open(_) => Self::Open,
            _ => Self::Write,
        }
    }
}

/// All links with their requests.
#[derive(Default)]
pub(super) struct Links {
    map: HashMap<LinkId, Link>,
    round: VecDeque<LinkId>,
    bytes: usize,
    queued: usize,
}

impl Links {
    pub(super) fn insert(&mut self, link: LinkId, peer: DeviceId, origin: Origin, bucket: Bucket) {
        let state =
            Link { peer, origin, bucket, requests: VecDeque::new(), bytes: 0, malformed: 0, ready: false };
        self.map.insert(link, state);
    }

    pub(super) fn remove(&mut self, link: LinkId) -> Option<Origin> {
        let state = self.map.remove(&link)?;
        self.bytes = self.bytes.saturating_sub(state.bytes);
        self.queued = self.queued.saturating_sub(state.requests.len());
        Some(state.origin)
    }

    pub(super) fn take(
        &mut self,
        link: LinkId,
        request: RelayRequest,
        bytes: usize,
        rates: &mut RateLimits,
        now: Mono,
    ) -> Taken {
        let Some(state) = self.map.get_mut(&link) else { return Taken::Gone };
        if !rates.request(state.origin, &mut state.bucket, now) {
            return Taken::TooFast;
        }
        if state.requests.len() >= limits::RELAY_REQUESTS || state.bytes.saturating_add(bytes) > LINK_BYTES {
            return Taken::TooMany;
        }
        state.requests.push_back((request, bytes));
        state.bytes += bytes;
        self.bytes += bytes;
        self.queued += 1;
        if !state.ready {
            state.ready = true;
            self.round.push_back(link);
        }
        Taken::Queued
    }

    /// Counts a malformed frame; how many there were on this link.
    pub(super) fn malformed(&mut self, link: LinkId) -> u32 {
        self.map.get_mut(&link).map_or(0, |state| {
            state.malformed = state.malformed.saturating_add(1);
            state.malformed
        })
    }

    pub(super) fn peer(&self, link: LinkId) -> Option<DeviceId> {
        self.map.get(&link).map(|state| state.peer)
    }

    pub(super) fn origin(&self, link: LinkId) -> Option<Origin> {
        self.map.get(&link).map(|state| state.origin)
    }

    pub(super) fn all(&self) -> Vec<LinkId> {
        self.map.keys().copied().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) const fn queued(&self) -> usize {
        self.queued
    }

    pub(super) const fn queued_bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.round.is_empty()
    }

    /// Takes requests in rounds, one of each link, as long as `wanted` says so. A link whose next request may not be
    /// taken in this turn stays where it is.
    pub(super) fn pick(
        &mut self,
        mut wanted: impl FnMut(LinkId, Kind) -> bool,
    ) -> Vec<(LinkId, RelayRequest)> {
        let mut picked = Vec::new();
        let mut later = VecDeque::new();
        while let Some(link) = self.round.pop_front() {
            let Some(state) = self.map.get_mut(&link) else { continue };
            let Some((request, _)) = state.requests.front() else {
                state.ready = false;
                continue;
            };
            if !wanted(link, Kind::of(request)) {
                later.push_back(link);
                continue;
            }
            if let Some((request, bytes)) = state.requests.pop_front() {
                state.bytes = state.bytes.saturating_sub(bytes);
                self.bytes = self.bytes.saturating_sub(bytes);
                self.queued = self.queued.saturating_sub(1);
                picked.push((link, request));
            }
            if state.requests.is_empty() {
                state.ready = false;
            } else {
                self.round.push_back(link);
            }
        }
        self.round = later;
        picked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate::Rates;
    use kith_protocol::MailboxId;

    fn request(id: u64) -> RelayRequest {
        RelayRequest { id, ask: Ask::List { mailbox: MailboxId([1; 16]), after: 0, max: 1 } }
    }

    #[test]
    fn a_flood_on_one_link_holds_up_another_by_one_request_a_round() {
        let rates = Rates { requests_per_link: 0, requests_per_network: 0, mailboxes_per_network: 0 };
        let (mut links, mut rates) = (Links::default(), RateLimits::new(rates));
        for link in [LinkId(1), LinkId(2)] {
            let bucket = rates.connected(Origin::Loopback, Mono(0));
            links.insert(link, DeviceId([1; 32]), Origin::Loopback, bucket);
        }
        let mut refused = 0;
        for id in 1..=100 {
            if !matches!(links.take(LinkId(1), request(id), 100, &mut rates, Mono(0)), Taken::Queued) {
                refused += 1;
            }
        }
        links.take(LinkId(2), request(1), 100, &mut rates, Mono(0));
        assert_eq!((refused, links.queued()), (100 - limits::RELAY_REQUESTS, limits::RELAY_REQUESTS + 1));
        let mut left = 4;
        let picked = links.pick(|_, _| {
            left -= 1;
            left >= 0
        });
        let picked: Vec<_> = picked.iter().map(|(link, request)| (link.0, request.id)).collect();
        assert_eq!(picked, [(1, 1), (2, 1), (1, 2), (1, 3)]);
        assert!(links.has_ready());
        links.remove(LinkId(1));
        assert_eq!((links.queued(), links.queued_bytes()), (0, 0));
        assert!(links.pick(|_, _| true).is_empty() && !links.has_ready());
    }
}
