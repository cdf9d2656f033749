//! Which connection carries the link to a peer, and when a link is up.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};

use kith_protocol::engine::LinkId;
use kith_protocol::{Address, DeviceId, Mono};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;
use tracing::debug;

use super::handler::{EndReason, Handler, Order, Report, Start};
use super::queue::{Links, Outgoing};
use crate::address;
use crate::environment::Environment;
use crate::event::Event;

/// A stream on another connection than the leader's is the follower's word that it lost the link. It must last this
/// long to count, because it may just have been overtaken.
const CHALLENGE: u64 = 1_000;
/// The leader's choice must be answered within this time if the peer waits on another connection.
const ANSWER: u64 = 3_000;
/// The leader closes connections that carry nothing this long after the link is up,
const SURPLUS_LEADER: u64 = 5_000;
/// and the follower this long, in case the leader does not.
const SURPLUS_FOLLOWER: u64 = 30_000;

/// What the network's task is told.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// A link is up; [`Behaviour::start`] lets frames in.
    Up { peer: PeerId, device: DeviceId, link: LinkId, address: Option<Address>, connection: ConnectionId },
    /// A link that was up is gone.
    Down { peer: PeerId, device: DeviceId, link: LinkId },
    /// No connection to the peer can carry a link.
    Failed { peer: PeerId },
    /// The peer broke the protocol.
    Violation { peer: PeerId, reason: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outbound {
    None,
    Opening,
    Open,
}

struct Conn {
    id: ConnectionId,
    address: Option<Address>,
    since: Mono,
    outbound: Outbound,
    /// When their stream arrived.
    inbound: Option<Mono>,
    /// Carries no link any more.
    failed: bool,
}

struct Up {
    link: LinkId,
    since: Mono,
    /// Taken by the start.
    queue: Option<Arc<Outgoing>>,
}

struct Peer {
    device: DeviceId,
    leads: bool,
    wanted: bool,
    conns: Vec<Conn>,
    /// The connection the link is, or is to be, on.
    chosen: Option<(ConnectionId, Mono)>,
    up: Option<Up>,
}

pub(crate) struct Behaviour {
    environment: Arc<dyn Environment>,
    local: DeviceId,
    links: Links,
    sink: mpsc::Sender<Event>,
    stall_timeout: u64,
    next_link: u64,
    peers: HashMap<PeerId, Peer>,
    actions: VecDeque<ToSwarm<LinkEvent, Order>>,
}

impl Behaviour {
    pub(crate) fn new(
        environment: Arc<dyn Environment>,
        local: DeviceId,
        links: Links,
        sink: mpsc::Sender<Event>,
        stall_timeout: u64,
    ) -> Self {
        Self {
            environment,
            local,
            links,
            sink,
            stall_timeout,
            next_link: 1,
            peers: HashMap::new(),
            actions: VecDeque::new(),
        }
    }

    /// A link to the peer is wanted on whatever connection there is or will be. Returns whether one is up.
    pub(crate) fn want(&mut self, id: PeerId, device: DeviceId) -> bool {
        let leads = self.local < device;
        let peer = self.peers.entry(id).or_insert_with(|| Peer::new(device, leads));
        peer.wanted = true;
        if peer.up.is_some() {
            return true;
        }
        self.settle(id);
        false
    }

    /// Nobody waits for a link any more; one that is up stays.
    pub(crate) fn unwant(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.wanted = false;
            if peer.conns.is_empty() {
                self.peers.remove(&id);
            }
        }
    }

    pub(crate) fn is_up(&self, id: &PeerId) -> bool {
        self.peers.get(id).is_some_and(|peer| peer.up.is_some())
    }

    pub(crate) fn count(&self) -> usize {
        self.peers.values().filter(|peer| peer.up.is_some()).count()
    }

    /// `Connected` is in the owner's channel: frames may follow.
    pub(crate) fn start(&mut self, id: PeerId, link: LinkId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some((connection, _)) = peer.chosen else { return };
        let Some(up) = peer.up.as_mut().filter(|up| up.link == link) else { return };
        let Some(queue) = up.queue.take() else { return };
        let start = Start { link, peer: peer.device, queue, sink: PollSender::new(self.sink.clone()) };
        self.actions.push_back(order(id, connection, Order::Start(start)));
    }

    /// Has every link written out and ended. The peers close the connections, so that nothing on the way is lost.
    pub(crate) fn finish(&mut self) {
        for (id, peer) in &self.peers {
            if let (Some((connection, _)), Some(_)) = (peer.chosen, &peer.up) {
                self.actions.push_back(order(*id, connection, Order::Finish));
            }
        }
    }

    /// Does what is due; call about once a second.
    pub(crate) fn tick(&mut self) {
        let now = self.environment.mono();
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            self.tick_peer(id, now);
        }
    }

    fn tick_peer(&mut self, id: PeerId, now: Mono) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some((chosen, chosen_at)) = peer.chosen else { return };
        if peer.leads {
            // The follower's newest stream on another connection.
            let challenger = peer
                .conns
                .iter()
                .filter(|conn| conn.id != chosen && !conn.failed)
                .filter_map(|conn| conn.inbound.map(|at| (at, conn.id)))
                .max_by_key(|(at, _)| *at);
            if let Some((at, other)) = challenger {
                let lost = peer.up.is_some() && now.since(at) >= CHALLENGE;
                let unanswered = peer.up.is_none() && now.since(chosen_at) >= ANSWER;
                if lost || unanswered {
                    debug!(peer = %id, lost, "the peer waits for its link on another connection");
                    self.retire(id, chosen);
                    self.choose(id, other);
                    self.settle(id);
                    return;
                }
            }
        }
        let grace = if peer.leads { SURPLUS_LEADER } else { SURPLUS_FOLLOWER };
        if peer.up.as_ref().is_some_and(|up| now.since(up.since) >= grace) {
            for conn in &mut peer.conns {
                let idle = conn.outbound == Outbound::None && conn.inbound.is_none();
                if conn.id != chosen && idle && !conn.failed && now.since(conn.since) >= grace {
                    debug!(peer = %id, connection = %conn.id, "closing a connection the link does not need");
                    conn.failed = true;
                    self.actions.push_back(close(id, conn.id));
                }
            }
        }
    }

    /// Ends the link on a connection and the connection itself.
    fn retire(&mut self, id: PeerId, connection: ConnectionId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if let Some(conn) = peer.conns.iter_mut().find(|conn| conn.id == connection) {
            conn.failed = true;
            conn.outbound = Outbound::None;
            conn.inbound = None;
            self.actions.push_back(order(id, connection, Order::Drop));
            self.actions.push_back(close(id, connection));
        }
        self.leave(id, connection);
    }

    /// Forgets the choice of a connection; the link on it, if any, is down.
    fn leave(&mut self, id: PeerId, connection: ConnectionId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.chosen.is_none_or(|(chosen, _)| chosen != connection) {
            return;
        }
        peer.chosen = None;
        if let Some(up) = peer.up.take() {
            self.links.remove(up.link);
            let event = LinkEvent::Down { peer: id, device: peer.device, link: up.link };
            self.actions.push_back(ToSwarm::GenerateEvent(event));
        }
    }

    fn choose(&mut self, id: PeerId, connection: ConnectionId) {
        let now = self.environment.mono();
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.chosen = Some((connection, now));
        }
    }

    /// Chooses a connection if there is none, opens our stream on it, and brings the link up once both are there.
    fn settle(&mut self, id: PeerId) {
        let now = self.environment.mono();
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if !peer.wanted || peer.up.is_some() {
            return;
        }
        if peer.chosen.is_none() {
            peer.chosen = peer.best().map(|connection| (connection, now));
        }
        let Some((chosen, _)) = peer.chosen else { return };
        let Some(conn) = peer.conns.iter_mut().find(|conn| conn.id == chosen) else { return };
        match (conn.outbound, conn.inbound) {
            (Outbound::None, _) => {
                conn.outbound = Outbound::Opening;
                self.actions.push_back(order(id, chosen, Order::Open));
            }
            (Outbound::Open, Some(_)) => {
                let link = LinkId(self.next_link);
                self.next_link += 1;
                let queue = self.links.insert(link);
                peer.up = Some(Up { link, since: now, queue: Some(queue) });
                let address = conn.address.clone();
                let event =
                    LinkEvent::Up { peer: id, device: peer.device, link, address, connection: chosen };
                self.actions.push_back(ToSwarm::GenerateEvent(event));
            }
            (Outbound::Opening | Outbound::Open, _) => {}
        }
    }

    fn connected(&mut self, event: ConnectionEstablished<'_>) {
        // Only Ed25519 keys are compiled in, so every peer is a device.
        let Some(device) = DeviceId::from_peer_id(&event.peer_id) else { return };
        let leads = self.local < device;
        let peer = self.peers.entry(event.peer_id).or_insert_with(|| Peer::new(device, leads));
        let dialled = match event.endpoint {
            libp2p::core::ConnectedPoint::Dialer { address, .. } => address::to_address(address),
            libp2p::core::ConnectedPoint::Listener { .. } => None,
        };
        peer.conns.push(Conn {
            id: event.connection_id,
            address: dialled,
            since: self.environment.mono(),
            outbound: Outbound::None,
            inbound: None,
            failed: false,
        });
        self.settle(event.peer_id);
    }

    fn disconnected(&mut self, event: ConnectionClosed<'_>) {
        let id = event.peer_id;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.conns.retain(|conn| conn.id != event.connection_id);
        let empty = peer.conns.is_empty();
        self.leave(id, event.connection_id);
        if empty {
            self.peers.remove(&id);
        } else {
            self.settle(id);
        }
    }

    fn reported(&mut self, id: PeerId, connection: ConnectionId, report: Report) {
        let now = self.environment.mono();
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some(conn) = peer.conns.iter_mut().find(|conn| conn.id == connection) else { return };
        if conn.failed {
            return;
        }
        match report {
            Report::OutboundOpen => conn.outbound = Outbound::Open,
            Report::InboundOpen if peer.up.is_some() && peer.chosen.is_some_and(|(c, _)| c == connection) => {
                // It came just before the handler was told to start.
                debug!(peer = %id, "the peer opened a second stream");
                let event = LinkEvent::Violation { peer: id, reason: EndReason::SecondStream.to_string() };
                self.actions.push_back(ToSwarm::GenerateEvent(event));
                self.retire(id, connection);
            }
            Report::InboundOpen => {
                conn.inbound = Some(now);
                peer.wanted = true;
                // The follower goes where the leader went.
                if !peer.leads
                    && let Some((chosen, _)) = peer.chosen
                    && chosen != connection
                {
                    if peer.up.is_some() {
                        debug!(peer = %id, "the peer moved its link to another connection");
                        self.retire(id, chosen);
                    } else {
                        if let Some(old) = peer.conns.iter_mut().find(|conn| conn.id == chosen) {
                            old.outbound = Outbound::None;
                            self.actions.push_back(order(id, chosen, Order::Drop));
                        }
                    }
                    self.choose(id, connection);
                }
            }
            Report::OutboundFailed { unsupported, reason } => {
                debug!(peer = %id, unsupported, "no link: {reason}");
                conn.failed = true;
                conn.outbound = Outbound::None;
                self.leave(id, connection);
                self.fail_if_hopeless(id);
            }
            Report::Ended { link, reason } => {
                debug!(peer = %id, link = ?link.map(|link| link.0), "link ended: {reason}");
                if reason.is_violation() {
                    let event = LinkEvent::Violation { peer: id, reason: reason.to_string() };
                    self.actions.push_back(ToSwarm::GenerateEvent(event));
                }
                let idle = link.is_none() && !reason.is_violation();
                let unused = peer.chosen.is_none_or(|(chosen, _)| chosen != connection);
                if idle && unused {
                    // The peer took its own first stream back, as the follower does.
                    conn.inbound = None;
                    conn.outbound = Outbound::None;
                } else {
                    self.retire(id, connection);
                    self.fail_if_hopeless(id);
                }
            }
        }
        self.settle(id);
    }

    fn fail_if_hopeless(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get(&id)
            && peer.wanted
            && peer.conns.iter().all(|conn| conn.failed)
        {
            self.actions.push_back(ToSwarm::GenerateEvent(LinkEvent::Failed { peer: id }));
        }
    }

    fn handler(&self) -> Handler {
        Handler::new(Arc::clone(&self.environment), self.stall_timeout)
    }
}

impl Peer {
    fn new(device: DeviceId, leads: bool) -> Self {
        Self { device, leads, wanted: false, conns: Vec::new(), chosen: None, up: None }
    }

    /// Where the other side already waits, else the oldest.
    fn best(&self) -> Option<ConnectionId> {
        let usable = || self.conns.iter().filter(|conn| !conn.failed);
        usable()
            .filter_map(|conn| conn.inbound.map(|at| (at, conn.id)))
            .max_by_key(|(at, _)| *at)
            .map(|(_, connection)| connection)
            .or_else(|| usable().next().map(|conn| conn.id))
    }
}

fn order(peer_id: PeerId, connection: ConnectionId, event: Order) -> ToSwarm<LinkEvent, Order> {
    ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(connection), event }
}

fn close(peer_id: PeerId, connection: ConnectionId) -> ToSwarm<LinkEvent, Order> {
    ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(connection) }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = LinkEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => self.connected(event),
            FromSwarm::ConnectionClosed(event) => self.disconnected(event),
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.reported(peer, connection, event);
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // Everything is queued from within the Swarm's own calls or from its task, which polls right after.
        self.actions.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
