//! The queue of events and what they do.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::ready;
use libp2p::Multiaddr;
use libp2p::core::transport::{ListenerId, TransportEvent};
use libp2p::multiaddr::Protocol;
use tokio::sync::Notify;

use super::connection::{Connection, End, Parcel, Side, WINDOW};
use super::meter::Purposes;
use super::nat::Socket;
use super::node::{Incoming, Line, Node, Outage, Place};
use super::stream::Stream;
use super::transport::PORT;
use super::weather::{Weather, backoff};
use crate::draw::Draw;
use crate::trace::{SECOND, Trace};

/// Most bytes of one write.
const CHUNK: usize = 64 * 1024;
/// A connection whose bytes were not acknowledged for this long is given up, as Linux does.
const GIVE_UP: u64 = 924 * SECOND;

/// What the last mile takes less time for is there at once.
const AT_ONCE: u64 = 50_000;

/// Hosts that reach each other unless their cells are cut off.
pub(crate) type Cell = u16;

enum Happening {
    Syn(u64),
    SynAck {
        dial: u64,
        answer: io::Result<(u64, Side)>,
    },
    Arrival {
        connection: u64,
        to: Side,
        parcel: Parcel,
    },
    /// Past the last mile.
    Delivery {
        connection: u64,
        to: Side,
        parcel: Parcel,
    },
    Retry {
        connection: u64,
        to: Side,
    },
    Reset {
        connection: u64,
        to: Side,
    },
}

struct Due {
    at: u64,
    number: u64,
    what: Happening,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

struct Dial {
    from: u32,
    boot: u32,
    source: u16,
    to: Socket,
    attempt: u32,
    answer: oneshot::Sender<io::Result<Stream>>,
}

/// What the network did so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) dials: u64,
    pub(crate) connected: u64,
    pub(crate) segments_lost: u64,
    pub(crate) queue_drops: u64,
    pub(crate) bytes_out: u64,
    pub(crate) bytes_in: u64,
    pub(crate) peak_connections: usize,
}

struct Inner {
    draw: Draw,
    weather: Weather,
    nodes: Vec<Node>,
    boots: Vec<u32>,
    by_ip: BTreeMap<Ipv4Addr, u32>,
    cut: BTreeSet<(Cell, Cell)>,
    queue: BinaryHeap<Reverse<Due>>,
    number: u64,
    wake_at: u64,
    dials: BTreeMap<u64, Dial>,
    connections: BTreeMap<u64, Connection>,
    next: u64,
    totals: Totals,
}

/// What is to be done once the lock is released: wakers run other code, dropped streams come back here.
#[derive(Default)]
struct After {
    wake: Vec<Waker>,
    unclaimed: Vec<io::Result<Stream>>,
    untaken: VecDeque<Incoming>,
}

impl After {
    fn wake(&mut self, wakers: impl IntoIterator<Item = Option<Waker>>) {
        self.wake.extend(wakers.into_iter().flatten());
    }

    fn run(self) {
        drop(self.unclaimed);
        drop(self.untaken);
        self.wake.into_iter().for_each(Waker::wake);
    }
}

/// The whole network.
pub(crate) struct Net {
    inner: Mutex<Inner>,
    more: Notify,
    trace: Arc<Trace>,
    purposes: Purposes,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net").finish_non_exhaustive()
    }
}

impl Inner {
    fn node(&mut self, host: u32) -> &mut Node {
        &mut self.nodes[host as usize]
    }

    fn schedule(&mut self, at: u64, what: Happening) -> bool {
        self.number += 1;
        self.queue.push(Reverse(Due { at, number: self.number, what }));
        let sooner = at < self.wake_at;
        self.wake_at = self.wake_at.min(at);
        sooner
    }

    fn cell(&self, host: u32) -> Cell {
        self.nodes[host as usize].cell
    }

    /// Packets get from one host to another, as far as the wires go.
    fn open(&self, from: u32, to: u32) -> bool {
        let (a, b) = (&self.nodes[from as usize], &self.nodes[to as usize]);
        a.powered && b.powered && !self.cut.contains(&(self.cell(from), self.cell(to)))
    }

    /// Bytes of a connection that was idle for so long get through, and so do their acknowledgements.
    fn passes(&self, from: u32, to: u32, idle: u64) -> bool {
        let forgotten =
            |host: u32| self.nodes[host as usize].nat.as_ref().is_some_and(|nat| idle >= nat.timeout());
        !forgotten(from) && !forgotten(to) && self.open(from, to) && self.open(to, from)
    }

    fn latency(&mut self, from: u32, to: u32) -> u64 {
        let (a, b) = (self.node(from).place.region, self.node(to).place.region);
        self.weather.latency(a, b, &mut self.draw)
    }

    fn loss(&self, from: u32, to: u32) -> f64 {
        let (a, b) = (self.nodes[from as usize].place.line.loss, self.nodes[to as usize].place.line.loss);
        1.0 - (1.0 - a) * (1.0 - b)
    }
}

impl Net {
    pub(crate) fn new(seed: u64, weather: Weather, trace: Arc<Trace>) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                draw: Draw::new(seed, "net", 0),
                weather,
                nodes: Vec::new(),
                boots: Vec::new(),
                by_ip: BTreeMap::new(),
                cut: BTreeSet::new(),
                queue: BinaryHeap::new(),
                number: 0,
                wake_at: u64::MAX,
                dials: BTreeMap::new(),
                connections: BTreeMap::new(),
                next: 0,
                totals: Totals::default(),
            }),
            more: Notify::new(),
            trace,
            purposes: Purposes::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn purposes(&self) -> Purposes {
        self.purposes.clone()
    }

    /// Bytes sent in streams, by what they are for.
    pub(crate) fn by_purpose(&self) -> BTreeMap<String, u64> {
        self.purposes.totals()
    }

    /// Adds a host; they are numbered from 0.
    pub(crate) fn add(&self, place: Place) -> u32 {
        let mut inner = self.lock();
        let number = u32::try_from(inner.nodes.len()).unwrap_or(u32::MAX);
        let node = Node::new(number, place);
        inner.by_ip.insert(node.outside, number);
        if node.inside != node.outside {
            inner.by_ip.insert(node.inside, number);
        }
        inner.nodes.push(node);
        inner.boots.push(0);
        number
    }

    /// The program of a host starts; its so-manieth life.
    pub(crate) fn boot(&self, host: u32) -> u32 {
        let mut inner = self.lock();
        inner.boots[host as usize] += 1;
        let node = inner.node(host);
        node.powered = true;
        node.alive = true;
        inner.boots[host as usize]
    }

    /// Where a host without a router listens.
    pub(crate) fn address(&self, host: u32) -> String {
        format!("/ip4/{}/tcp/{PORT}", self.lock().node(host).inside)
    }

    /// Bytes a host has received and sent.
    pub(crate) fn bytes(&self, host: u32) -> (u64, u64) {
        let mut inner = self.lock();
        let node = inner.node(host);
        (node.bytes_in, node.bytes_out)
    }

    /// Connections a host holds, by the host at the other end.
    pub(crate) fn connections(&self, host: u32) -> BTreeMap<u32, usize> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let mut peers = BTreeMap::new();
        for id in &inner.nodes[host as usize].connections {
            let Some(connection) = inner.connections.get(id) else { continue };
            let (a, b) = (connection.host(Side::Dialler), connection.host(Side::Listener));
            *peers.entry(if a == host { b } else { a }).or_insert(0) += 1;
        }
        peers
    }

    pub(crate) fn totals(&self) -> Totals {
        let inner = self.lock();
        let sum = |count: fn(&Node) -> u64| inner.nodes.iter().map(count).sum();
        Totals { bytes_out: sum(|node| node.bytes_out), bytes_in: sum(|node| node.bytes_in), ..inner.totals }
    }

    /// Changes the weather.
    pub(crate) fn set_weather(&self, change: impl FnOnce(&mut Weather)) {
        change(&mut self.lock().weather);
    }

    /// Changes a host's line.
    pub(crate) fn set_line(&self, host: u32, change: impl FnOnce(&mut Line)) {
        change(&mut self.lock().node(host).place.line);
    }

    /// Puts a host into a cell.
    pub(crate) fn set_cell(&self, host: u32, cell: Cell) {
        self.lock().node(host).cell = cell;
    }

    /// Cuts cells off from each other: packets from the first of a pair do not reach the second.
    pub(crate) fn set_cuts(&self, cut: BTreeSet<(Cell, Cell)>) {
        self.lock().cut = cut;
    }

    /// A host goes down, and everything it was saying.
    pub(crate) fn down(&self, host: u32, how: Outage) {
        let mut after = After::default();
        let mut kick = false;
        {
            let mut inner = self.lock();
            let inner = &mut *inner;
            let now = self.trace.now();
            let connections = std::mem::take(&mut inner.node(host).connections);
            for id in connections {
                let Some(connection) = inner.connections.get_mut(&id) else { continue };
                let side =
                    if connection.host(Side::Dialler) == host { Side::Dialler } else { Side::Listener };
                let end = connection.end(side);
                end.dropped = true;
                after.wake(end.fail(io::ErrorKind::ConnectionAborted));
                let peer = connection.host(side.other());
                if how == Outage::Crash && inner.open(host, peer) {
                    let at = now + inner.latency(host, peer);
                    kick |= inner.schedule(at, Happening::Reset { connection: id, to: side.other() });
                }
            }
            let node = inner.node(host);
            after.untaken = node.clear();
            node.powered = how == Outage::Crash;
            if let (Outage::Power, Some(nat)) = (how, &mut node.nat) {
                nat.clear();
            }
        }
        after.run();
        if kick {
            self.more.notify_one();
        }
    }

    /// Runs the network until it is dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let next = loop {
                let now = self.trace.now();
                let mut inner = self.lock();
                match inner.queue.peek() {
                    Some(Reverse(due)) if due.at <= now => {
                        let Some(Reverse(due)) = inner.queue.pop() else { break None };
                        drop(inner);
                        self.happen(due.what, now);
                    }
                    next => {
                        let next = next.map(|Reverse(due)| due.at);
                        inner.wake_at = next.unwrap_or(u64::MAX);
                        break next;
                    }
                }
            };
            match next {
                Some(at) => {
                    let until = self.trace.start() + Duration::from_nanos(at);
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep_until(until) => {}
                        () = self.more.notified() => {}
                    }
                }
                None => self.more.notified().await,
            }
        }
    }

    fn happen(self: &Arc<Self>, what: Happening, now: u64) {
        let mut after = After::default();
        match what {
            Happening::Syn(dial) => self.syn(dial, now, &mut after),
            Happening::SynAck { dial, answer } => self.answered(dial, answer, &mut after),
            Happening::Arrival { connection, to, parcel } => {
                self.arrive(connection, to, parcel, now, &mut after)
            }
            Happening::Delivery { connection, to, parcel } => {
                self.deliver(connection, to, parcel, &mut after)
            }
            Happening::Retry { connection, to } => self.retry(connection, to, now, &mut after),
            Happening::Reset { connection, to } => self.reset(connection, to, &mut after),
        }
        after.run();
    }

    /// Begins a dial.
    pub(super) fn dial(
        self: &Arc<Self>,
        from: u32,
        boot: u32,
        to: Socket,
        reuse: bool,
    ) -> oneshot::Receiver<io::Result<Stream>> {
        let (answer, receiver) = oneshot::channel();
        let now = self.trace.now();
        let mut inner = self.lock();
        let id = inner.next;
        inner.next += 1;
        inner.totals.dials += 1;
        let node = inner.node(from);
        let source = if reuse && node.listeners.contains_key(&PORT) { PORT } else { node.ephemeral() };
        self.trace.note(from, format_args!("dial {id} {}:{}", to.0, to.1));
        inner.dials.insert(id, Dial { from, boot, source, to, attempt: 0, answer });
        let target = inner.by_ip.get(&to.0).copied();
        let at = now + target.map_or(0, |target| inner.latency(from, target));
        let kick = inner.schedule(at, Happening::Syn(id));
        drop(inner);
        if kick {
            self.more.notify_one();
        }
        receiver
    }

    /// A SYN arrives, or does not.
    fn syn(self: &Arc<Self>, id: u64, now: u64, after: &mut After) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let Some(dial) = inner.dials.get(&id) else { return };
        let (from, source, to, attempt) = (dial.from, dial.source, dial.to, dial.attempt);
        let current = inner.boots[from as usize] == dial.boot && inner.nodes[from as usize].alive;
        if dial.answer.is_canceled() || !current {
            inner.dials.remove(&id);
            return;
        }
        let target = inner.by_ip.get(&to.0).copied();
        let seen = {
            let node = inner.node(from);
            let outside = node.outside;
            match &mut node.nat {
                Some(nat) => (outside, nat.outbound(source, to, now)),
                None => (outside, source),
            }
        };
        // who gets in, and where
        let entrance = target.and_then(|target| {
            if target == from {
                return None;
            }
            let loss = inner.loss(from, target);
            let through = inner.open(from, target)
                && inner.open(target, from)
                && inner.weather.shakes_hands(loss, &mut inner.draw);
            let node = inner.node(target);
            let port = match &mut node.nat {
                // from outside, an address behind a router leads nowhere
                Some(_) if to.0 == node.inside => None,
                Some(nat) if through => nat.inbound(to.1, seen, now),
                Some(_) => None,
                None => Some(to.1),
            };
            port.filter(|_| through).map(|port| (target, port))
        });
        let Some((target, port)) = entrance else {
            let Some(pause) = Weather::redial(attempt) else {
                self.trace.note(from, format_args!("dial {id} timed out"));
                inner.schedule(
                    now,
                    Happening::SynAck { dial: id, answer: Err(io::ErrorKind::TimedOut.into()) },
                );
                return;
            };
            if let Some(dial) = inner.dials.get_mut(&id) {
                dial.attempt += 1;
            }
            inner.schedule(now + pause, Happening::Syn(id));
            return;
        };
        let back = now + inner.latency(target, from);
        let node = inner.node(target);
        let listener = node.listeners.get(&port).filter(|_| node.alive && node.has_room()).map(|(id, _)| *id);
        let Some(listener) = listener else {
            let answer = Err(io::ErrorKind::ConnectionRefused.into());
            inner.schedule(back, Happening::SynAck { dial: id, answer });
            return;
        };
        let local = multiaddr((node.inside, port));
        let connection = inner.next;
        inner.next += 1;
        let mut dialler = End::new(from);
        dialler.last_arrival = back;
        let ends = Connection::new(dialler, End::new(target), now);
        inner.connections.insert(connection, ends);
        inner.node(target).connections.insert(connection);
        inner.node(from).connections.insert(connection);
        inner.totals.connected += 1;
        inner.totals.peak_connections = inner.totals.peak_connections.max(inner.connections.len());
        self.trace.note(target, format_args!("accept {connection} of {from}"));
        let stream = Stream { net: Arc::clone(self), id: connection, side: Side::Listener };
        let event: Incoming = TransportEvent::Incoming {
            listener_id: listener,
            upgrade: ready(Ok(stream)),
            local_addr: local,
            send_back_addr: multiaddr(seen),
        };
        after.wake([inner.node(target).push(event)]);
        inner.schedule(back, Happening::SynAck { dial: id, answer: Ok((connection, Side::Dialler)) });
    }

    fn answered(self: &Arc<Self>, id: u64, answer: io::Result<(u64, Side)>, after: &mut After) {
        let answer = answer.map(|(id, side)| Stream { net: Arc::clone(self), id, side });
        let dial = self.lock().dials.remove(&id);
        match dial {
            // who dialled may have lost interest: the stream comes back and is let go outside the lock
            Some(dial) => {
                let how = if answer.is_ok() { "connected" } else { "refused" };
                self.trace.note(dial.from, format_args!("dial {id} {how}"));
                after.unclaimed.extend(dial.answer.send(answer).err());
            }
            None => after.unclaimed.push(answer),
        }
    }

    fn arrive(&self, id: u64, to: Side, parcel: Parcel, now: u64, after: &mut After) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let Some(connection) = inner.connections.get_mut(&id) else { return };
        if !connection.end(to).held.is_empty() {
            connection.end(to).held.push_back(parcel);
            return;
        }
        let (from, target) = (connection.host(to.other()), connection.host(to));
        let idle = now.saturating_sub(connection.used);
        let passes = inner.passes(from, target, idle);
        let Some(connection) = inner.connections.get_mut(&id) else { return };
        if !passes {
            let end = connection.end(to);
            end.held.push_back(parcel);
            end.attempts = 0;
            end.held_since = now;
            inner.schedule(now + backoff(0), Happening::Retry { connection: id, to });
            return;
        }
        connection.used = now;
        if connection.end(to).dropped {
            self.reject(inner, id, to, now);
            return;
        }
        let bytes = match &parcel {
            Parcel::Data(bytes) => bytes.len(),
            Parcel::End => 0,
        };
        let segments = inner.weather.segments(bytes);
        // a full queue at the last mile: the packet is sent again a little later
        let there = inner.node(target).receive(now, bytes, segments).unwrap_or_else(|| {
            inner.totals.queue_drops += 1;
            now + backoff(0)
        });
        let Some(connection) = inner.connections.get_mut(&id) else { return };
        let end = connection.end(to);
        // nothing overtakes what is still on the last mile
        if there.saturating_sub(now) < AT_ONCE && end.last_delivery < now {
            self.hand_over(inner, id, to, parcel, after);
        } else {
            end.last_delivery = there.max(end.last_delivery);
            let at = end.last_delivery;
            inner.schedule(at, Happening::Delivery { connection: id, to, parcel });
        }
    }

    fn deliver(&self, id: u64, to: Side, parcel: Parcel, after: &mut After) {
        let mut inner = self.lock();
        self.hand_over(&mut inner, id, to, parcel, after);
    }

    fn hand_over(&self, inner: &mut Inner, id: u64, to: Side, parcel: Parcel, after: &mut After) {
        let Some(connection) = inner.connections.get_mut(&id) else { return };
        let end = connection.end(to);
        if end.dropped || end.failed.is_some() {
            return;
        }
        match parcel {
            Parcel::Data(bytes) => {
                self.trace.note(end.host, format_args!("in {id} {}", bytes.len()));
                end.inbox.push_back(bytes);
            }
            Parcel::End => end.ended = true,
        }
        after.wake([end.reader.take()]);
    }

    /// The program at this end is gone: its system says so.
    fn reject(&self, inner: &mut Inner, id: u64, gone: Side, now: u64) {
        let Some(connection) = inner.connections.get_mut(&id) else { return };
        let (host, peer) = (connection.host(gone), connection.host(gone.other()));
        if connection.end(gone.other()).dropped {
            inner.connections.remove(&id);
            return;
        }
        let at = now + inner.latency(host, peer);
        inner.schedule(at, Happening::Reset { connection: id, to: gone.other() });
    }

    fn retry(&self, id: u64, to: Side, now: u64, after: &mut After) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let Some(connection) = inner.connections.get_mut(&id) else { return };
        let (from, target) = (connection.host(to.other()), connection.host(to));
        if connection.end(to.other()).dropped && connection.end(to).dropped {
            inner.connections.remove(&id);
            return;
        }
        let idle = now.saturating_sub(connection.used);
        let open = inner.passes(from, target, idle);
        let Some(connection) = inner.connections.get_mut(&id) else { return };
        if open {
            connection.used = now;
            let held = std::mem::take(&mut connection.end(to).held);
            for parcel in held {
                self.arrive_again(inner, id, to, parcel, now, after);
            }
            return;
        }
        let end = connection.end(to);
        if now.saturating_sub(end.held_since) >= GIVE_UP {
            end.held.clear();
            let sender = connection.end(to.other());
            after.wake(sender.fail(io::ErrorKind::TimedOut));
            return;
        }
        end.attempts += 1;
        let pause = backoff(end.attempts);
        inner.schedule(now + pause, Happening::Retry { connection: id, to });
    }

    /// What was held arrives all at once.
    fn arrive_again(
        &self,
        inner: &mut Inner,
        id: u64,
        to: Side,
        parcel: Parcel,
        now: u64,
        after: &mut After,
    ) {
        let gone = inner.connections.get_mut(&id).is_some_and(|connection| connection.end(to).dropped);
        if gone {
            self.reject(inner, id, to, now);
        } else {
            self.hand_over(inner, id, to, parcel, after);
        }
    }

    fn reset(&self, id: u64, to: Side, after: &mut After) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let Some(connection) = inner.connections.get_mut(&id) else { return };
        let (target, from) = (connection.host(to), connection.host(to.other()));
        // a reset is never repeated
        if !inner.open(from, target) {
            return;
        }
        let Some(connection) = inner.connections.get_mut(&id) else { return };
        let end = connection.end(to);
        if !end.dropped {
            self.trace.note(end.host, format_args!("reset {id}"));
        }
        after.wake(end.fail(io::ErrorKind::ConnectionReset));
    }

    /// Puts bytes or their end on the wire. The caller wakes the network if this says so.
    fn put(&self, inner: &mut Inner, id: u64, from: Side, parcel: Parcel) -> bool {
        let now = self.trace.now();
        let Some(connection) = inner.connections.get_mut(&id) else { return false };
        let (host, target) = (connection.host(from), connection.host(from.other()));
        let bytes = match &parcel {
            Parcel::Data(bytes) => bytes.len(),
            Parcel::End => 0,
        };
        let segments = inner.weather.segments(bytes);
        let left = inner.node(host).send(now, bytes, segments).unwrap_or_else(|| {
            inner.totals.queue_drops += 1;
            now + backoff(0)
        });
        let latency = inner.latency(host, target);
        let loss = inner.loss(host, target);
        let (late, lost) = {
            let Inner { weather, draw, .. } = &mut *inner;
            weather.mishaps(segments, loss, draw)
        };
        inner.totals.segments_lost += lost;
        let Some(connection) = inner.connections.get_mut(&id) else { return false };
        let end = connection.end(from.other());
        let at = (left + latency + late).max(end.last_arrival + 1);
        end.last_arrival = at;
        inner.schedule(at, Happening::Arrival { connection: id, to: from.other(), parcel })
    }

    pub(super) fn read(
        &self,
        id: u64,
        side: Side,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        let Some(connection) = inner.connections.get_mut(&id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let end = connection.end(side);
        let mut read = 0;
        while let Some(first) = end.inbox.front()
            && let Some(room) = bytes.get_mut(read..)
            && !room.is_empty()
        {
            let rest = first.get(end.offset..).unwrap_or_default();
            let n = rest.len().min(room.len());
            if let (Some(to), Some(from)) = (room.get_mut(..n), rest.get(..n)) {
                to.copy_from_slice(from);
            }
            read += n;
            if n == rest.len() {
                end.inbox.pop_front();
                end.offset = 0;
            } else {
                end.offset += n;
            }
        }
        if read > 0 {
            let peer = connection.end(side.other());
            peer.outstanding = peer.outstanding.saturating_sub(read);
            let waker = peer.writer.take();
            drop(inner);
            if let Some(waker) = waker {
                waker.wake();
            }
            return Poll::Ready(Ok(read));
        }
        if let Some(kind) = end.failed {
            return Poll::Ready(Err(kind.into()));
        }
        if end.ended {
            return Poll::Ready(Ok(0));
        }
        end.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn write(
        &self,
        id: u64,
        side: Side,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        let Some(connection) = inner.connections.get_mut(&id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let end = connection.end(side);
        if let Some(kind) = end.failed {
            return Poll::Ready(Err(kind.into()));
        }
        if end.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let n = WINDOW.saturating_sub(end.outstanding).min(bytes.len()).min(CHUNK);
        if n == 0 && !bytes.is_empty() {
            end.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        end.outstanding += n;
        let data = bytes.get(..n).unwrap_or_default().to_vec();
        let kick = self.put(&mut inner, id, side, Parcel::Data(data));
        drop(inner);
        if kick {
            self.more.notify_one();
        }
        Poll::Ready(Ok(n))
    }

    pub(super) fn finish(&self, id: u64, side: Side) {
        let mut inner = self.lock();
        let Some(connection) = inner.connections.get_mut(&id) else { return };
        let end = connection.end(side);
        if end.finished || end.failed.is_some() {
            return;
        }
        end.finished = true;
        let kick = self.put(&mut inner, id, side, Parcel::End);
        drop(inner);
        if kick {
            self.more.notify_one();
        }
    }

    pub(super) fn let_go(&self, id: u64, side: Side) {
        self.finish(id, side);
        let mut inner = self.lock();
        let Some(connection) = inner.connections.get_mut(&id) else { return };
        connection.end(side).dropped = true;
        connection.end(side).inbox.clear();
        let host = connection.host(side);
        let over = connection.is_over();
        inner.node(host).connections.remove(&id);
        if over {
            inner.connections.remove(&id);
        }
    }

    pub(super) fn listen(&self, host: u32, id: ListenerId, ip: Ipv4Addr, port: u16) -> io::Result<()> {
        let mut inner = self.lock();
        let node = inner.node(host);
        if !ip.is_unspecified() && ip != node.inside {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let port = if port == 0 { PORT } else { port };
        if node.listeners.contains_key(&port) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let address = multiaddr((node.inside, port));
        node.listeners.insert(port, (id, address.clone()));
        let waker = node.push(TransportEvent::NewAddress { listener_id: id, listen_addr: address });
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    pub(super) fn unlisten(&self, host: u32, id: ListenerId) -> bool {
        let mut inner = self.lock();
        let node = inner.node(host);
        let before = node.listeners.len();
        node.listeners.retain(|_, (known, _)| *known != id);
        node.listeners.len() != before
    }

    pub(super) fn poll_incoming(&self, host: u32, cx: &mut Context<'_>) -> Poll<Incoming> {
        let mut inner = self.lock();
        let node = inner.node(host);
        match node.incoming.pop_front() {
            Some(event) => Poll::Ready(event),
            None => {
                node.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn multiaddr((ip, port): Socket) -> Multiaddr {
    Multiaddr::empty().with(Protocol::Ip4(ip)).with(Protocol::Tcp(port))
}
