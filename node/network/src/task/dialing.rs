//! Reaching devices somebody asked for, and the directory's first nodes.

use std::num::NonZeroU8;

use kith_protocol::{Address, DeviceId};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};
use tracing::debug;

use super::Task;
use crate::address;
use crate::event::Event;

/// Addresses tried at once.
const CONCURRENCY: NonZeroU8 = NonZeroU8::new(16).unwrap();
/// A connection that is there already must carry a link within this time, else others are tried.
const FALLBACK: u64 = 2_000;
/// First and longest pause between two rounds of bootstrap dials.
pub(super) const BOOTSTRAP_MIN: u64 = 1_000;
const BOOTSTRAP_MAX: u64 = 30_000;
/// Bootstrap nodes remembered.
const MAX_BOOTSTRAP: usize = 128;

impl Task {
    pub(super) fn dial(&mut self, device: DeviceId, addresses: Vec<Address>) {
        let Some(peer) = device.peer_id().filter(|peer| peer != self.swarm.local_peer_id()) else {
            debug!(%device, "not dialled: it is no device, or ourselves");
            return self.tell(Event::DialFailed { peer: device });
        };
        if self.swarm.behaviour().link.is_up(&peer) {
            return;
        }
        if self.swarm.behaviour().gatekeeper.is_shut_out(&peer) {
            debug!(%peer, "not dialled: refused or banned");
            return self.tell(Event::DialFailed { peer: device });
        }
        let now = self.environment.mono();
        if !self.dials.wanted(peer, device, now.plus(self.limits.dial_timeout)) {
            debug!(%peer, "not dialled: too many dials at once");
            return self.tell(Event::DialFailed { peer: device });
        }
        self.swarm.behaviour_mut().link.want(peer, device);
        // Addresses given while there is a connection are for later, if no link comes up on it.
        for address in addresses.iter().rev().filter_map(address::to_multiaddr) {
            self.book.add(peer, address, now);
        }
        if self.swarm.is_connected(&peer) {
            self.dials.fall_back_at(&peer, now.plus(FALLBACK));
        } else {
            self.attempt(peer);
        }
    }

    /// Tries every address not tried yet. If nothing is under way afterwards, the dial has failed.
    fn attempt(&mut self, peer: PeerId) {
        let mut known = self.book.get(&peer);
        known.retain(|address| self.policy.may_dial(address));
        let addresses = self.dials.untried(&peer, known);
        if !addresses.is_empty() || self.dials.is_idle(&peer) {
            let opts = DialOpts::peer_id(peer)
                .condition(PeerCondition::Always)
                .addresses(addresses)
                .extend_addresses_through_behaviour()
                .override_dial_concurrency_factor(CONCURRENCY)
                .build();
            let connection = opts.connection_id();
            match self.swarm.dial(opts) {
                Ok(()) => self.dials.attempted(&peer, connection),
                Err(error) => debug!(%peer, "not dialled: {error}"),
            }
        }
        self.fail_if_idle(peer);
    }

    /// Answers a dial for which nothing is under way any more.
    pub(super) fn fail_if_idle(&mut self, peer: PeerId) {
        if self.dials.is_idle(&peer) && !self.swarm.is_connected(&peer) {
            self.dial_failed(peer);
        }
    }

    pub(super) fn dial_failed(&mut self, peer: PeerId) {
        if let Some(device) = self.dials.end(&peer) {
            self.swarm.behaviour_mut().link.unwant(peer);
            self.tell(Event::DialFailed { peer: device });
        }
    }

    pub(super) fn tick_dials(&mut self) {
        let now = self.environment.mono();
        for peer in self.dials.overdue(now) {
            debug!(%peer, "the dial took too long");
            self.dial_failed(peer);
        }
        for peer in self.dials.due_fallbacks(now) {
            debug!(%peer, "no link on the connection that was there; dialling");
            self.attempt(peer);
        }
    }

    pub(super) fn add_bootstrap(&mut self, address: Multiaddr, peer: Option<PeerId>) {
        let known = self.bootstrap.entries.iter().any(|(other, _)| *other == address);
        let own = peer.as_ref() == Some(self.swarm.local_peer_id());
        if known || own || self.bootstrap.entries.len() >= MAX_BOOTSTRAP {
            return;
        }
        self.policy.exempt(&address);
        self.bootstrap.entries.push((address, peer));
    }

    /// Dials the first nodes while no other is known.
    pub(super) fn bootstrap_if_due(&mut self) {
        let now = self.environment.mono();
        // Before the own addresses are known, others could not be told them.
        if self.told.is_none() || self.bootstrap.entries.is_empty() || now < self.bootstrap.due {
            return;
        }
        if self.directory_peers() > 0 {
            self.bootstrap.pause = BOOTSTRAP_MIN;
            return;
        }
        self.bootstrap.due = now.plus(self.bootstrap.pause);
        self.bootstrap.pause = (self.bootstrap.pause * 2).min(BOOTSTRAP_MAX);
        for (address, peer) in self.bootstrap.entries.clone() {
            let opts = match peer {
                Some(peer) => DialOpts::peer_id(peer)
                    .condition(PeerCondition::DisconnectedAndNotDialing)
                    .addresses(vec![address.clone()])
                    .build(),
                None => DialOpts::unknown_peer_id().address(address.clone()).build(),
            };
            if let Err(error) = self.swarm.dial(opts) {
                debug!(%address, "bootstrap node not dialled: {error}");
            }
        }
    }

    /// A node that cannot be reached is no use in the routing table. Without other ways back it stays, because the fault
    /// may be ours.
    pub(super) fn unreachable(&mut self, peer: PeerId) {
        let others = self.swarm.network_info().num_peers() > 0 || !self.bootstrap.entries.is_empty();
        if others && !self.swarm.is_connected(&peer) {
            self.swarm.behaviour_mut().kad.remove_peer(&peer);
            self.check_directory();
        }
    }
}
