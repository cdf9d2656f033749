//! Who may be connected: refused and banned devices stay out, contacts pass the limits, and when strangers are too many
//! the oldest idle one makes room for the newcomer. Polled before every other behaviour.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use kith_protocol::Mono;
use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use thiserror::Error;
use tracing::debug;

use crate::config::Limits;
use crate::environment::Environment;
use crate::gate::{Network, Policy};

/// Devices whose strikes and bans are remembered.
const MAX_MARKED: usize = 4096;
/// Strikes are forgotten after this.
const STRIKE_WINDOW: u64 = 10 * 60 * 1000;

#[derive(Debug, Error)]
enum Denied {
    #[error("this device is refused")]
    Refused,
    #[error("this device is banned for a while")]
    Banned,
    #[error("too many connections, and none can be spared")]
    Full,
}

struct Conn {
    peer: PeerId,
    network: Network,
    inbound: bool,
    since: Mono,
    closing: bool,
}

#[derive(Default)]
struct Mark {
    strikes: u32,
    since: Mono,
    banned_until: Option<Mono>,
}

pub(crate) struct Gatekeeper {
    environment: Arc<dyn Environment>,
    policy: Arc<Policy>,
    limits: Limits,
    refused: HashSet<PeerId>,
    marks: HashMap<PeerId, Mark>,
    linked: HashSet<PeerId>,
    conns: HashMap<ConnectionId, Conn>,
    actions: VecDeque<ToSwarm<Infallible, Infallible>>,
}

impl Gatekeeper {
    pub(crate) fn new(environment: Arc<dyn Environment>, policy: Arc<Policy>, limits: Limits) -> Self {
        Self {
            environment,
            policy,
            limits,
            refused: HashSet::new(),
            marks: HashMap::new(),
            linked: HashSet::new(),
            conns: HashMap::new(),
            actions: VecDeque::new(),
        }
    }

    /// Closes every connection with a peer and lets none in until [`Gatekeeper::admit`].
    pub(crate) fn refuse(&mut self, peer: PeerId) {
        self.refused.insert(peer);
        self.disconnect(peer);
    }

    /// Takes a refusal and a ban back.
    pub(crate) fn admit(&mut self, peer: &PeerId) {
        self.refused.remove(peer);
        self.marks.remove(peer);
    }

    /// Closes every connection with a peer.
    pub(crate) fn disconnect(&mut self, peer: PeerId) {
        self.actions.push_back(ToSwarm::CloseConnection { peer_id: peer, connection: CloseConnection::All });
    }

    /// A link with the peer came up or went down: linked strangers are the last to make room.
    pub(crate) fn set_linked(&mut self, peer: PeerId, linked: bool) {
        if linked {
            self.linked.insert(peer);
        } else {
            self.linked.remove(&peer);
        }
    }

    /// The peer broke a protocol.
    pub(crate) fn strike(&mut self, peer: PeerId, reason: &str) {
        self.policy.count(|counters| counters.violations += 1);
        let now = self.environment.mono();
        if self.marks.len() >= MAX_MARKED && !self.marks.contains_key(&peer) {
            self.marks.retain(|_, mark| mark.matters(now));
            if self.marks.len() >= MAX_MARKED
                && let Some(oldest) =
                    self.marks.iter().min_by_key(|(_, mark)| mark.since).map(|(peer, _)| *peer)
            {
                self.marks.remove(&oldest);
            }
        }
        let mark = self.marks.entry(peer).or_default();
        if now.since(mark.since) >= STRIKE_WINDOW {
            mark.strikes = 0;
        }
        mark.since = now;
        mark.strikes += 1;
        debug!(%peer, strikes = mark.strikes, "strike: {reason}");
        if mark.strikes >= self.limits.strikes {
            debug!(%peer, millis = self.limits.ban, "banned");
            mark.banned_until = Some(now.plus(self.limits.ban));
            mark.strikes = 0;
            self.disconnect(peer);
        }
    }

    /// Whether connections with the peer are out of the question now.
    pub(crate) fn is_shut_out(&self, peer: &PeerId) -> bool {
        self.shut_out(peer).is_some()
    }

    fn shut_out(&self, peer: &PeerId) -> Option<Denied> {
        if self.refused.contains(peer) {
            return Some(Denied::Refused);
        }
        let until = self.marks.get(peer)?.banned_until?;
        (self.environment.mono() < until).then_some(Denied::Banned)
    }

    fn check(&mut self, peer: PeerId, address: &Multiaddr, inbound: bool) -> Result<(), Denied> {
        if let Some(denied) = self.shut_out(&peer) {
            return Err(denied);
        }
        // A peer with too many loses its own oldest, which may be dead without our knowing.
        let of_peer = self.conns.values().filter(|conn| conn.peer == peer && !conn.closing).count();
        if of_peer >= self.limits.connections_per_peer.max(1) {
            self.evict(|conn| conn.peer == peer);
        }
        if self.policy.is_preferred(&peer) {
            return Ok(());
        }
        if !inbound {
            return Ok(());
        }
        let network = Network::of(address);
        let strangers = |of: Option<Network>| {
            let policy = &self.policy;
            self.conns
                .values()
                .filter(|conn| {
                    conn.inbound && !conn.closing && of.is_none_or(|network| conn.network == network)
                })
                .filter(|conn| !policy.is_preferred(&conn.peer))
                .count()
        };
        // Everybody on this machine comes from one address.
        let room = match network {
            Network::Loopback => self.limits.connections,
            _ => self.limits.connections_per_network,
        };
        let within = if strangers(Some(network)) >= room {
            Some(network)
        } else if strangers(None) >= self.limits.connections {
            None
        } else {
            return Ok(());
        };
        let policy = Arc::clone(&self.policy);
        let evicted = self.evict(|conn| {
            let counts = conn.inbound && within.is_none_or(|network| conn.network == network);
            counts && !policy.is_preferred(&conn.peer)
        });
        evicted.then_some(()).ok_or(Denied::Full)
    }

    /// Closes the oldest connection that matches, one without a link first.
    fn evict(&mut self, matches: impl Fn(&Conn) -> bool) -> bool {
        let candidate = self
            .conns
            .iter()
            .filter(|(_, conn)| !conn.closing && matches(conn))
            .min_by_key(|(id, conn)| (self.linked.contains(&conn.peer), conn.since, **id))
            .map(|(id, _)| *id);
        let Some((id, conn)) = candidate.and_then(|id| Some((id, self.conns.get_mut(&id)?))) else {
            return false;
        };
        conn.closing = true;
        debug!(peer = %conn.peer, "an old connection makes room for a new one");
        self.policy.count(|counters| counters.connections_evicted += 1);
        let connection = CloseConnection::One(id);
        self.actions.push_back(ToSwarm::CloseConnection { peer_id: conn.peer, connection });
        true
    }

    fn admit_or_deny(
        &mut self,
        peer: PeerId,
        address: &Multiaddr,
        inbound: bool,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        self.check(peer, address, inbound).map(|()| dummy::ConnectionHandler).map_err(|denied| {
            debug!(%peer, %address, "connection refused: {denied}");
            self.policy.count(|counters| counters.connections_refused += 1);
            ConnectionDenied::new(denied)
        })
    }
}

impl Mark {
    fn matters(&self, now: Mono) -> bool {
        self.banned_until.is_some_and(|until| now < until) || now.since(self.since) < STRIKE_WINDOW
    }
}

impl NetworkBehaviour for Gatekeeper {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit_or_deny(peer, remote, true)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        match peer.and_then(|peer| self.shut_out(&peer)) {
            Some(denied) => Err(ConnectionDenied::new(denied)),
            None => Ok(Vec::new()),
        }
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit_or_deny(peer, address, false)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                let (remote, inbound) = match event.endpoint {
                    ConnectedPoint::Dialer { address, .. } => (address, false),
                    ConnectedPoint::Listener { send_back_addr, .. } => (send_back_addr, true),
                };
                let conn = Conn {
                    peer: event.peer_id,
                    network: Network::of(remote),
                    inbound,
                    since: self.environment.mono(),
                    closing: false,
                };
                self.conns.insert(event.connection_id, conn);
            }
            FromSwarm::ConnectionClosed(event) => {
                self.conns.remove(&event.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.actions.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
