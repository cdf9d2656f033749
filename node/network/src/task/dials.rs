//! Dials somebody waits for: joined per device, answered exactly once.

use std::collections::{HashMap, HashSet};

use kith_protocol::{DeviceId, Mono};
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

/// Dials under way.
const MAX_DIALS: usize = 1024;
/// Addresses tried for one device.
const MAX_TRIED: usize = 32;

struct Dial {
    device: DeviceId,
    deadline: Mono,
    attempts: HashSet<ConnectionId>,
    tried: HashSet<Multiaddr>,
    /// There was a connection already; if no link comes up on it by then, dial nevertheless.
    fallback: Option<Mono>,
}

#[derive(Default)]
pub(super) struct Dials {
    dials: HashMap<PeerId, Dial>,
}

impl Dials {
    /// Notes that somebody waits for a link. `false`: too many do.
    pub(super) fn wanted(&mut self, peer: PeerId, device: DeviceId, deadline: Mono) -> bool {
        if !self.dials.contains_key(&peer) && self.dials.len() >= MAX_DIALS {
            return false;
        }
        self.dials.entry(peer).or_insert_with(|| Dial {
            device,
            deadline,
            attempts: HashSet::new(),
            tried: HashSet::new(),
            fallback: None,
        });
        true
    }

    /// The addresses not tried yet; from now on they count as tried.
    pub(super) fn untried(&mut self, peer: &PeerId, addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
        let Some(dial) = self.dials.get_mut(peer) else { return Vec::new() };
        let mut fresh = addresses;
        fresh.retain(|address| dial.tried.len() < MAX_TRIED && dial.tried.insert(address.clone()));
        fresh
    }

    pub(super) fn is_idle(&self, peer: &PeerId) -> bool {
        self.dials.get(peer).is_some_and(|dial| dial.attempts.is_empty())
    }

    pub(super) fn attempted(&mut self, peer: &PeerId, connection: ConnectionId) {
        if let Some(dial) = self.dials.get_mut(peer) {
            dial.attempts.insert(connection);
            dial.fallback = None;
        }
    }

    pub(super) fn fall_back_at(&mut self, peer: &PeerId, at: Mono) {
        if let Some(dial) = self.dials.get_mut(peer) {
            dial.fallback.get_or_insert(at);
        }
    }

    /// An attempt ended, in a connection or not.
    pub(super) fn attempt_ended(&mut self, peer: &PeerId, connection: ConnectionId) {
        if let Some(dial) = self.dials.get_mut(peer) {
            dial.attempts.remove(&connection);
        }
    }

    /// Somebody got what they waited for, or will not.
    pub(super) fn end(&mut self, peer: &PeerId) -> Option<DeviceId> {
        self.dials.remove(peer).map(|dial| dial.device)
    }

    pub(super) fn overdue(&self, now: Mono) -> Vec<PeerId> {
        self.dials.iter().filter(|(_, dial)| dial.deadline <= now).map(|(peer, _)| *peer).collect()
    }

    pub(super) fn due_fallbacks(&mut self, now: Mono) -> Vec<PeerId> {
        let due = self.dials.iter_mut().filter(|(_, dial)| dial.fallback.is_some_and(|at| at <= now));
        due.map(|(peer, dial)| {
            dial.fallback = None;
            *peer
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_for_one_device_are_joined_and_ended_once() {
        let mut dials = Dials::default();
        let peer = PeerId::random();
        assert!(dials.wanted(peer, DeviceId([1; 32]), Mono(10)));
        assert!(dials.wanted(peer, DeviceId([1; 32]), Mono(99)));
        assert_eq!(dials.overdue(Mono(10)), [peer]);
        assert_eq!(dials.end(&peer), Some(DeviceId([1; 32])));
        assert_eq!(dials.end(&peer), None);
    }

    #[test]
    fn an_address_is_tried_once() {
        let mut dials = Dials::default();
        let peer = PeerId::random();
        dials.wanted(peer, DeviceId([1; 32]), Mono(10));
        let address: Multiaddr = "/ip4/1.2.3.4/tcp/1".parse().unwrap();
        assert_eq!(dials.untried(&peer, vec![address.clone(), address.clone()]).len(), 1);
        assert!(dials.untried(&peer, vec![address]).is_empty());
    }

    #[test]
    fn dials_are_bounded() {
        let mut dials = Dials::default();
        for _ in 0..MAX_DIALS {
            assert!(dials.wanted(PeerId::random(), DeviceId([1; 32]), Mono(1)));
        }
        assert!(!dials.wanted(PeerId::random(), DeviceId([1; 32]), Mono(1)));
    }
}
