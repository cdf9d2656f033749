//! AutoNAT's client, told only of addresses worth testing: global ones, and not without end. The library tests and
//! remembers everything any peer claims to have seen.

use std::collections::HashSet;
use std::task::{Context, Poll};

use libp2p::autonat::v2::client;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use rand::rngs::StdRng;

use crate::address::{self, Scope};

/// Addresses tested in the life of the process.
const MAX_CANDIDATES: usize = 32;

pub(crate) struct Candidates {
    inner: client::Behaviour<StdRng>,
    seen: HashSet<Multiaddr>,
}

impl Candidates {
    pub(super) fn new(rng: StdRng) -> Self {
        Self { inner: client::Behaviour::new(rng, client::Config::default()), seen: HashSet::new() }
    }

    fn is_worth_testing(&mut self, address: &Multiaddr) -> bool {
        if address::multiaddr_scope(address) != Some(Scope::Global) {
            return false;
        }
        if self.seen.contains(address) {
            return true;
        }
        self.seen.len() < MAX_CANDIDATES && self.seen.insert(address.clone())
    }
}

impl NetworkBehaviour for Candidates {
    type ConnectionHandler = THandler<client::Behaviour<StdRng>>;
    type ToSwarm = client::Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_outbound_connection(id, peer, address, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::NewExternalAddrCandidate(candidate) = &event
            && !self.is_worth_testing(candidate.addr)
        {
            return;
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        self.inner.on_connection_handler_event(peer, id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}
