//! What the Swarm reports, one function for each part.

use std::collections::BTreeMap;

use kith_protocol::{Address, DeviceId, limits};
use libp2p::core::ConnectedPoint;
use libp2p::swarm::{ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, autonat, gossipsub, identify, kad, mdns, ping, relay};
use tracing::{debug, warn};

use super::{Conn, Task, Waiting};
use crate::address;
use crate::behaviour::{BehaviourEvent, KAD};
use crate::directory::Source;
use crate::event::Event;
use crate::gate::Network as Origin;
use crate::link::LinkEvent;

/// Below this many nodes in the directory, each of them is among the closest to any key.
const SMALL_DIRECTORY: usize = 20;

impl Task {
    pub(super) fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_established(peer_id, connection_id, endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, num_established, .. } => {
                self.conns.remove(&connection_id);
                debug!(peer = %peer_id, cause = cause.map(|c| c.to_string()), "connection closed");
                if num_established == 0 {
                    self.fail_if_idle(peer_id);
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id, connection_id, error } => {
                debug!(peer = ?peer_id, "dial failed: {error}");
                if let Some(peer) = peer_id {
                    self.dials.attempt_ended(&peer, connection_id);
                    self.fail_if_idle(peer);
                    if matches!(error, DialError::Transport(_) | DialError::WrongPeerId { .. }) {
                        self.unreachable(peer);
                    }
                }
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                debug!(address = %send_back_addr, "incoming connection failed: {error}");
            }
            SwarmEvent::NewListenAddr { listener_id, address } => {
                self.reach.listening(listener_id, address);
                self.reach_changed = true;
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.reach.expired(&address);
                self.reach_changed = true;
            }
            SwarmEvent::ListenerClosed { listener_id, addresses, reason } => {
                warn!(?addresses, ?reason, "stopped listening");
                self.reach.closed(listener_id);
                addresses.iter().for_each(|address| self.reach.expired(address));
                self.reach_changed = true;
            }
            SwarmEvent::ListenerError { error, .. } => debug!("listener: {error}"),
            SwarmEvent::ExternalAddrConfirmed { address } => {
                self.reach.confirmed(&address);
                self.reach_changed = true;
            }
            SwarmEvent::ExternalAddrExpired { address } => {
                self.reach.unconfirmed(&address);
                self.reach_changed = true;
            }
            _ => {}
        }
    }

    fn on_established(&mut self, peer: PeerId, connection: ConnectionId, endpoint: ConnectedPoint) {
        let (remote, dialled) = match &endpoint {
            ConnectedPoint::Dialer { address, .. } => (address, Some(address::split_peer(address.clone()).0)),
            ConnectedPoint::Listener { send_back_addr, .. } => (send_back_addr, None),
        };
        debug!(%peer, address = %remote, outgoing = dialled.is_some(), "connected");
        if let Some(address) = &dialled {
            self.book.add(peer, address.clone(), self.environment.mono());
        }
        self.conns.insert(connection, Conn { origin: Origin::of(remote), dialled });
        self.dials.attempt_ended(&peer, connection);
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Link(event) => self.on_link(event),
            BehaviourEvent::Kad(event) => self.on_kad(event),
            BehaviourEvent::Identify(identify::Event::Received { peer_id, connection_id, info }) => {
                self.on_identified(peer_id, connection_id, info);
            }
            BehaviourEvent::Ping(event) => self.on_ping(event),
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => self.on_discovered(found),
            BehaviourEvent::AutonatClient(event) => self.on_tested(&event),
            BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, .. }) => {
                // No topic is joined, so this was not asked for and is not passed on.
                if let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut() {
                    gossip.0.0.report_message_validation_result(
                        &message_id,
                        &propagation_source,
                        gossipsub::MessageAcceptance::Ignore,
                    );
                }
            }
            BehaviourEvent::Relay(event) => self.on_circuit(&event),
            BehaviourEvent::Upnp(event) => debug!(?event, "router"),
            _ => {}
        }
    }

    fn on_circuit(&self, event: &relay::Event) {
        self.policy.count(|counters| match event {
            relay::Event::ReservationReqAccepted { renewed: false, .. } => counters.reservations += 1,
            relay::Event::CircuitReqAccepted { .. } => counters.circuits += 1,
            relay::Event::ReservationReqDenied { .. } | relay::Event::CircuitReqDenied { .. } => {
                counters.circuits_refused += 1;
            }
            _ => {}
        });
    }

    fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { peer, device, link, address, connection } => {
                debug!(%peer, link = link.0, "link up");
                self.dials.end(&peer);
                self.swarm.behaviour_mut().gatekeeper.set_linked(peer, true);
                let origin = self.conns.get(&connection).map_or(Origin::Other, |conn| conn.origin);
                let event = Event::Connected { peer: device, link, address, origin };
                self.waiting.push_back(Waiting::Connected { peer, link, event });
            }
            LinkEvent::Down { peer, device, link } => {
                debug!(%peer, link = link.0, "link down");
                self.swarm.behaviour_mut().gatekeeper.set_linked(peer, false);
                self.tell(Event::Disconnected { peer: device, link });
            }
            LinkEvent::Failed { peer } => {
                if self.dials.is_idle(&peer) {
                    self.dial_failed(peer);
                }
            }
            LinkEvent::Violation { peer, reason } => {
                self.swarm.behaviour_mut().gatekeeper.strike(peer, &reason);
            }
        }
    }

    fn on_kad(&mut self, event: kad::Event) {
        match event {
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => {
                self.keeper.progressed(&mut self.swarm.behaviour_mut().kad, id, result, step.last);
            }
            kad::Event::InboundRequest {
                request: kad::InboundRequest::PutRecord { source, connection, record: Some(record) },
            } => {
                let network = self.conns.get(&connection).map_or(Origin::Other, |conn| conn.origin);
                let source = Source { peer: source, network };
                if let Err(rejected) = self.swarm.behaviour_mut().kad.store_mut().insert(record, Some(source))
                {
                    debug!(peer = %source.peer, "directory record not stored: {rejected}");
                    self.policy.count(|counters| counters.records_rejected += 1);
                }
            }
            kad::Event::RoutingUpdated { .. } => self.check_directory(),
            _ => {}
        }
    }

    fn on_identified(&mut self, peer: PeerId, connection: ConnectionId, info: identify::Info) {
        let now = self.environment.mono();
        let claimed: Vec<Multiaddr> = info
            .listen_addrs
            .into_iter()
            .map(|address| address::split_peer(address).0)
            .filter(|address| address.len() <= limits::ADDRESS && self.reach.learns(address))
            .take(limits::ADDRESSES)
            .collect();
        for address in claimed.iter().rev() {
            self.book.add(peer, address.clone(), now);
        }
        if !info.protocols.contains(&KAD) {
            self.swarm.behaviour_mut().kad.remove_peer(&peer);
            return;
        }
        // The address we dialled works for certain.
        let dialled = self.conns.get(&connection).and_then(|conn| conn.dialled.clone());
        let kad = &mut self.swarm.behaviour_mut().kad;
        for address in claimed.into_iter().chain(dialled) {
            kad.add_address(&peer, address);
        }
        self.check_directory();
        let small = self.directory_peers() <= SMALL_DIRECTORY;
        self.keeper.push(&mut self.swarm.behaviour_mut().kad, peer, small);
    }

    fn on_ping(&mut self, event: ping::Event) {
        match event.result {
            Ok(_) | Err(ping::Failure::Unsupported) => {}
            Err(failure) => {
                debug!(peer = %event.peer, "the peer does not answer: {failure}");
                self.swarm.close_connection(event.connection);
            }
        }
    }

    fn on_discovered(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        let now = self.environment.mono();
        let mut by_peer: BTreeMap<PeerId, Vec<Address>> = BTreeMap::new();
        for (peer, address) in found {
            let (address, _) = address::split_peer(address);
            if peer == *self.swarm.local_peer_id() || !self.policy.may_dial(&address) {
                continue;
            }
            let Some(binary) = address::to_address(&address) else { continue };
            let addresses = by_peer.entry(peer).or_default();
            if addresses.len() < limits::ADDRESSES {
                addresses.push(binary);
                self.book.add(peer, address, now);
            }
        }
        for (peer, addresses) in by_peer {
            if let Some(peer) = DeviceId::from_peer_id(&peer) {
                self.tell(Event::Discovered { peer, addresses });
            }
        }
    }

    fn on_tested(&mut self, event: &autonat::v2::client::Event) {
        let reached = event.result.is_ok();
        debug!(address = %event.tested_addr, server = %event.server, reached, "reachability tested");
        self.reach.tested(reached);
        self.reach_changed = true;
    }
}
