//! The door around every transport: bounds handshakes per network, times them out, counts bytes, and lets only dials
//! in scope out. It stands below libp2p's behaviours because those learn of a peer only after the handshake.
//!
//! Too many handshakes from one network never shut that network out: the oldest gives way. So an honest peer, whose
//! handshake takes milliseconds, gets through beside an attacker on the same address.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::future::{AbortHandle, Abortable, BoxFuture, Either, select};
use kith_protocol::Mono;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::{Multiaddr, PeerId, Transport};
use tracing::debug;

use crate::address::{self, Scope};
use crate::config::Limits;
use crate::environment::Environment;
use crate::event::Counters;

mod meter;

pub(crate) use meter::Meter;

/// Handshakes under way from a network that failed too often.
const THROTTLED_HANDSHAKES: usize = 8;
/// Networks whose failures are remembered.
const MAX_NETWORKS: usize = 4096;
/// Addresses that may be dialled whatever their scope.
const MAX_EXEMPT: usize = 4096;
const MINUTE: u64 = 60_000;

/// Where a connection comes from, as coarse as one owner is likely to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// This machine.
    Loopback,
    /// A /24 of IPv4.
    V4([u8; 3]),
    /// A /48 of IPv6.
    V6([u8; 6]),
    /// Not known by an IP address.
    Other,
}

impl Network {
    pub(crate) fn of(address: &Multiaddr) -> Self {
        match address::ip(address) {
            Some(ip) if ip.is_loopback() => Self::Loopback,
            Some(IpAddr::V4(ip)) => {
                let [a, b, c, _] = ip.octets();
                Self::V4([a, b, c])
            }
            Some(IpAddr::V6(ip)) => {
                let [a, b, c, d, e, f, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f])
            }
            None => Self::Other,
        }
    }
}

/// Shared by the gate, the gatekeeper and the network's task.
pub(crate) struct Policy {
    state: Mutex<State>,
    pub(crate) meter: Arc<Meter>,
    handshakes: usize,
    handshakes_per_network: usize,
    failures_per_minute: u32,
    handshake_timeout: u64,
}

#[derive(Default)]
struct State {
    counters: Counters,
    next: u64,
    /// Handshakes under way, oldest first.
    under_way: HashMap<Network, VecDeque<(u64, AbortHandle)>>,
    total: usize,
    failures: HashMap<Network, (Mono, u32)>,
    preferred: HashSet<PeerId>,
    scopes: Vec<Scope>,
    exempt: HashSet<Multiaddr>,
}

impl Policy {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            meter: Arc::default(),
            handshakes: limits.handshakes.max(1),
            handshakes_per_network: limits.handshakes_per_network.max(1),
            failures_per_minute: limits.failures_per_minute,
            handshake_timeout: limits.handshake_timeout,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The critical sections below do not panic; a poisoned lock would still guard sound data.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn counters(&self) -> Counters {
        self.state().counters
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut self.state().counters);
    }

    pub(crate) fn prefer(&self, peer: PeerId, preferred: bool) {
        let mut state = self.state();
        if preferred {
            state.preferred.insert(peer);
        } else {
            state.preferred.remove(&peer);
        }
    }

    pub(crate) fn is_preferred(&self, peer: &PeerId) -> bool {
        self.state().preferred.contains(peer)
    }

    /// Sets in which scopes may be dialled.
    pub(crate) fn set_scopes(&self, scopes: Vec<Scope>) {
        self.state().scopes = scopes;
    }

    /// Lets an address be dialled whatever its scope: it was configured, or announced on the local network.
    pub(crate) fn exempt(&self, address: &Multiaddr) {
        let (address, _) = address::split_peer(address.clone());
        let mut state = self.state();
        if state.exempt.len() < MAX_EXEMPT {
            state.exempt.insert(address);
        }
    }

    /// Whether an address may be dialled.
    pub(crate) fn may_dial(&self, address: &Multiaddr) -> bool {
        let (address, _) = address::split_peer(address.clone());
        let Some(scope) = address::multiaddr_scope(&address) else { return false };
        let state = self.state();
        state.scopes.contains(&scope) || state.exempt.contains(&address)
    }

    /// Makes room for a handshake and notes it.
    fn enter(self: &Arc<Self>, network: Network, now: Mono) -> (Ticket, futures::future::AbortRegistration) {
        let (abort, registration) = AbortHandle::new_pair();
        let mut state = self.state();
        let failures = state.failures.get(&network).filter(|(since, _)| now.since(*since) < MINUTE);
        let throttled = failures.is_some_and(|(_, count)| *count > self.failures_per_minute);
        let room = if throttled { THROTTLED_HANDSHAKES } else { self.handshakes_per_network };
        if state.under_way.get(&network).map_or(0, VecDeque::len) >= room {
            state.evict(network);
        } else if state.total >= self.handshakes {
            let busiest =
                state.under_way.iter().max_by_key(|(_, queue)| queue.len()).map(|(network, _)| *network);
            if let Some(busiest) = busiest {
                state.evict(busiest);
            }
        }
        let id = state.next;
        state.next += 1;
        state.total += 1;
        state.under_way.entry(network).or_default().push_back((id, abort));
        (Ticket { policy: Arc::clone(self), network, id }, registration)
    }

    fn ended(&self, network: Network, result: Result<&PeerId, &io::Error>, now: Mono) {
        let mut state = self.state();
        match result {
            Ok(peer) if state.preferred.contains(peer) => return,
            Ok(_) => {}
            Err(error) => {
                state.counters.handshakes_failed += 1;
                debug!(?network, "incoming handshake failed: {error}");
            }
        }
        if state.failures.len() >= MAX_NETWORKS && !state.failures.contains_key(&network) {
            state.failures.retain(|_, (since, _)| now.since(*since) < MINUTE);
            if state.failures.len() >= MAX_NETWORKS {
                return;
            }
        }
        let entry = state.failures.entry(network).or_insert((now, 0));
        if now.since(entry.0) >= MINUTE {
            *entry = (now, 0);
        }
        entry.1 = entry.1.saturating_add(1);
    }
}

impl State {
    fn evict(&mut self, network: Network) {
        if let Some(queue) = self.under_way.get_mut(&network)
            && let Some((_, abort)) = queue.pop_front()
        {
            abort.abort();
            if queue.is_empty() {
                self.under_way.remove(&network);
            }
            self.total -= 1;
            self.counters.handshakes_evicted += 1;
            debug!(?network, "too many handshakes under way: the oldest was dropped");
        }
    }
}

/// A handshake under way; ends with its drop.
struct Ticket {
    policy: Arc<Policy>,
    network: Network,
    id: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.policy.state();
        let state = &mut *state;
        if let Some(queue) = state.under_way.get_mut(&self.network)
            && let Some(index) = queue.iter().position(|(id, _)| *id == self.id)
        {
            queue.remove(index);
            if queue.is_empty() {
                state.under_way.remove(&self.network);
            }
            state.total -= 1;
        }
    }
}

type Output = (PeerId, StreamMuxerBox);

/// The transport with the door around it.
pub(crate) struct Gate {
    inner: Boxed<Output>,
    policy: Arc<Policy>,
    environment: Arc<dyn Environment>,
}

impl Gate {
    pub(crate) fn new(inner: Boxed<Output>, policy: Arc<Policy>, environment: Arc<dyn Environment>) -> Self {
        Self { inner, policy, environment }
    }
}

async fn in_time<F>(future: F, timer: BoxFuture<'static, ()>) -> io::Result<Output>
where
    F: Future<Output = io::Result<Output>> + Unpin,
{
    match select(future, timer).await {
        Either::Left((result, _)) => result,
        Either::Right(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long")),
    }
}

impl Transport for Gate {
    type Output = Output;
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<Output>>;
    type Dial = BoxFuture<'static, io::Result<Output>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        if !self.policy.may_dial(&address) {
            self.policy.count(|counters| counters.dials_filtered += 1);
            debug!(%address, "not dialled: we do not listen in its scope");
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        let dial = self.inner.dial(address, opts)?;
        let timer = self.environment.sleep(self.policy.handshake_timeout);
        let meter = Arc::clone(&self.policy.meter);
        Ok(Box::pin(async move {
            let (peer, muxer) = in_time(dial, timer).await?;
            Ok((peer, meter::metered(muxer, meter)))
        }))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let this = &mut *self;
        Pin::new(&mut this.inner).poll(cx).map(|event| match event {
            TransportEvent::Incoming { listener_id, upgrade, local_addr, send_back_addr } => {
                let network = Network::of(&send_back_addr);
                let (ticket, registration) = this.policy.enter(network, this.environment.mono());
                let timer = this.environment.sleep(this.policy.handshake_timeout);
                let environment = Arc::clone(&this.environment);
                let upgrade = async move {
                    let result = match Abortable::new(in_time(upgrade, timer), registration).await {
                        Ok(result) => result,
                        Err(_) => Err(io::Error::other("dropped to make room for newer handshakes")),
                    };
                    ticket.policy.ended(network, result.as_ref().map(|(peer, _)| peer), environment.mono());
                    let (peer, muxer) = result?;
                    Ok((peer, meter::metered(muxer, Arc::clone(&ticket.policy.meter))))
                };
                TransportEvent::Incoming {
                    listener_id,
                    upgrade: Box::pin(upgrade) as _,
                    local_addr,
                    send_back_addr,
                }
            }
            TransportEvent::NewAddress { listener_id, listen_addr } => {
                TransportEvent::NewAddress { listener_id, listen_addr }
            }
            TransportEvent::AddressExpired { listener_id, listen_addr } => {
                TransportEvent::AddressExpired { listener_id, listen_addr }
            }
            TransportEvent::ListenerClosed { listener_id, reason } => {
                TransportEvent::ListenerClosed { listener_id, reason }
            }
            TransportEvent::ListenerError { listener_id, error } => {
                TransportEvent::ListenerError { listener_id, error }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(per_network: usize, total: usize) -> Arc<Policy> {
        Policy::new(&Limits {
            handshakes: total,
            handshakes_per_network: per_network,
            failures_per_minute: 3,
            ..Limits::default()
        })
    }

    #[test]
    fn the_oldest_handshake_of_a_network_gives_way() {
        let policy = policy(2, 10);
        let network = Network::V4([1, 2, 3]);
        let tickets: Vec<_> = (0..3).map(|_| policy.enter(network, Mono(0))).collect();
        let aborted: Vec<bool> = tickets
            .into_iter()
            .map(|(ticket, registration)| {
                drop(ticket);
                registration.handle().is_aborted()
            })
            .collect();
        assert_eq!(aborted, [true, false, false]);
        assert_eq!(policy.state().total, 0);
        assert!(policy.state().under_way.is_empty());
        assert_eq!(policy.counters().handshakes_evicted, 1);
    }

    #[test]
    fn a_full_node_takes_from_the_busiest_network() {
        let policy = policy(8, 3);
        let busy: Vec<_> = (0..2).map(|_| policy.enter(Network::V4([1, 1, 1]), Mono(0))).collect();
        let quiet = policy.enter(Network::V4([2, 2, 2]), Mono(0));
        let new = policy.enter(Network::V4([3, 3, 3]), Mono(0));
        assert!(busy[0].1.handle().is_aborted());
        assert!(
            !busy[1].1.handle().is_aborted()
                && !quiet.1.handle().is_aborted()
                && !new.1.handle().is_aborted()
        );
    }

    #[test]
    fn many_failures_narrow_the_door_for_a_minute() {
        let policy = policy(64, 256);
        let network = Network::V6([1; 6]);
        for _ in 0..5 {
            policy.ended(network, Err(&io::Error::other("x")), Mono(0));
        }
        let tickets: Vec<_> = (0..9).map(|_| policy.enter(network, Mono(1))).collect();
        assert!(tickets[0].1.handle().is_aborted());
        drop(tickets);
        let tickets: Vec<_> = (0..9).map(|_| policy.enter(network, Mono(MINUTE + 1))).collect();
        assert!(!tickets[0].1.handle().is_aborted());
    }

    #[test]
    fn dials_out_of_scope_need_an_exemption() {
        let policy = policy(1, 1);
        policy.set_scopes(vec![Scope::Global]);
        let local: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        assert!(!policy.may_dial(&local));
        assert!(policy.may_dial(&"/ip4/8.8.8.8/tcp/1".parse().unwrap()));
        policy.exempt(&local);
        assert!(policy.may_dial(&local));
        assert!(!policy.may_dial(&"/ip4/8.8.8.8/tcp/0".parse().unwrap()));
    }

    #[test]
    fn networks_are_24_and_48_bits_wide() {
        let of = |text: &str| Network::of(&text.parse().unwrap());
        assert_eq!(of("/ip4/1.2.3.4/tcp/1"), of("/ip4/1.2.3.200/udp/9/quic-v1"));
        assert_ne!(of("/ip4/1.2.3.4/tcp/1"), of("/ip4/1.2.4.4/tcp/1"));
        assert_eq!(of("/ip6/2001:db8:1::1/tcp/1"), of("/ip6/2001:db8:1:ffff::1/tcp/1"));
        assert_eq!(of("/ip4/127.9.0.1/tcp/1"), Network::Loopback);
    }
}
