//! A host as the network sees it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::Ipv4Addr;
use std::task::Waker;

use futures::future::Ready;
use libp2p::Multiaddr;
use libp2p::core::transport::{ListenerId, TransportEvent};

use super::nat::{Nat, NatKind};
use super::stream::Stream;
use super::weather::HEADERS;

/// Incoming connections a host has not taken yet; more are refused.
const BACKLOG: usize = 1_024;

pub(super) type Incoming = TransportEvent<Ready<io::Result<Stream>>, io::Error>;

/// Where and how a host is connected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) region: usize,
    /// Behind a router of this kind that forgets after so many nanoseconds.
    pub(crate) nat: Option<(NatKind, u64)>,
    pub(crate) line: Line,
}

/// A host's line: bytes a second, bytes its router queues, and its own share of packets lost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    pub(crate) up: f64,
    pub(crate) down: f64,
    pub(crate) queue: f64,
    pub(crate) loss: f64,
}

/// How a host goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outage {
    /// The program ends: the system tells its peers.
    Crash,
    /// Nobody is told.
    Power,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) outside: Ipv4Addr,
    pub(super) inside: Ipv4Addr,
    pub(super) place: Place,
    /// The machine runs: closed ports are refused instead of silent.
    pub(super) powered: bool,
    /// The program runs, for the so-manieth time.
    pub(super) alive: bool,
    pub(super) cell: u16,
    pub(super) nat: Option<Nat>,
    pub(super) listeners: BTreeMap<u16, (ListenerId, Multiaddr)>,
    pub(super) incoming: VecDeque<Incoming>,
    pub(super) waker: Option<Waker>,
    pub(super) connections: BTreeSet<u64>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    next_port: u16,
    up_free: u64,
    down_free: u64,
}

impl Node {
    pub(super) fn new(number: u32, place: Place) -> Self {
        let [_, a, b, c] = number.to_be_bytes();
        // each host is in a /24 of its own
        let outside = Ipv4Addr::new(20_u8.saturating_add(a), b, c, 1);
        let inside = match place.nat {
            Some(_) => Ipv4Addr::new(10, b, c, 2),
            None => outside,
        };
        Self {
            outside,
            inside,
            place,
            powered: true,
            alive: false,
            cell: 0,
            nat: place.nat.map(|(kind, timeout)| Nat::new(kind, timeout)),
            listeners: BTreeMap::new(),
            incoming: VecDeque::new(),
            waker: None,
            connections: BTreeSet::new(),
            bytes_in: 0,
            bytes_out: 0,
            next_port: 32_768,
            up_free: 0,
            down_free: 0,
        }
    }

    /// A port for a dial.
    pub(super) fn ephemeral(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = self.next_port.checked_add(1).unwrap_or(32_768);
        port
    }

    /// Hands the program an event of its listeners; whom to wake.
    pub(super) fn push(&mut self, event: Incoming) -> Option<Waker> {
        self.incoming.push_back(event);
        self.waker.take()
    }

    pub(super) fn has_room(&self) -> bool {
        self.incoming.len() < BACKLOG
    }

    /// When so many bytes in so many packets have left; `None` if the router's queue is full and drops them.
    pub(super) fn send(&mut self, now: u64, bytes: usize, segments: usize) -> Option<u64> {
        let bytes = bytes + segments * HEADERS;
        let left = pass(&mut self.up_free, now, bytes, self.place.line.up, self.place.line.queue);
        if left.is_some() {
            self.bytes_out += bytes as u64;
        }
        left
    }

    /// When so many bytes have come down the last mile.
    pub(super) fn receive(&mut self, now: u64, bytes: usize, segments: usize) -> Option<u64> {
        let bytes = bytes + segments * HEADERS;
        let there = pass(&mut self.down_free, now, bytes, self.place.line.down, self.place.line.queue);
        if there.is_some() {
            self.bytes_in += bytes as u64;
        }
        there
    }

    /// The program is gone. The events it did not take hold streams, to be dropped outside the network's lock.
    pub(super) fn clear(&mut self) -> VecDeque<Incoming> {
        self.alive = false;
        self.listeners.clear();
        self.connections.clear();
        self.waker = None;
        std::mem::take(&mut self.incoming)
    }
}

/// Bytes queue for a line that is free at `free`.
fn pass(free: &mut u64, now: u64, bytes: usize, rate: f64, queue: f64) -> Option<u64> {
    let waiting = free.saturating_sub(now);
    if waiting as f64 * rate / 1e9 > queue {
        return None;
    }
    *free = (*free).max(now) + (bytes as f64 / rate * 1e9) as u64;
    Some(*free)
}
