//! Nodes with their event streams, and a peer that speaks the wire by hand.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests and benches only")]
#![allow(missing_debug_implementations, reason = "tests and benches only")]

pub mod raw;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kith_network::{Config, Event, Keypair, Network, Options, ProductEnvironment};
use kith_protocol::engine::LinkId;
use kith_protocol::secret::Secret32;
use kith_protocol::{Address, DeviceId};
use tokio::sync::mpsc;

/// No condition may take longer than this.
pub const CEILING: Duration = Duration::from_secs(30);

/// The world of the products, without a local network around it.
pub fn environment() -> Arc<ProductEnvironment> {
    Arc::new(ProductEnvironment::current().unwrap().without_lan())
}

pub fn device(seed: u8) -> DeviceId {
    DeviceId::from_public_key(&keypair(seed).public()).unwrap()
}

pub fn keypair(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

pub struct Node {
    pub network: Network,
    pub device: DeviceId,
    pub addresses: Vec<Address>,
    events: mpsc::Receiver<Event>,
    unclaimed: VecDeque<Event>,
}

impl Node {
    /// A node on one loopback port per transport.
    pub async fn start(seed: u8) -> Self {
        Self::start_with(seed, |_| {}).await
    }

    pub async fn start_with(seed: u8, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::new(Secret32::new([seed; 32]));
        options.listen = vec!["/ip4/127.0.0.1/tcp/0".into()];
        options.listen_explicit = true;
        options.mdns = false;
        change(&mut options);
        let (network, events) = kith_network::start(environment(), Config::new(options).unwrap()).unwrap();
        let mut node =
            Self { network, device: device(seed), addresses: Vec::new(), events, unclaimed: VecDeque::new() };
        node.addresses = node
            .wait("its addresses", |event| match event {
                Event::Addresses(addresses) => Some(addresses.clone()),
                _ => None,
            })
            .await;
        node
    }

    /// The multiaddr of the first address, with the peer.
    pub fn multiaddr(&self) -> String {
        format!(
            "{}/p2p/{}",
            kith_network::address::to_text(&self.addresses[0]),
            self.device.peer_id().unwrap()
        )
    }

    /// Waits for an event that `pick` accepts; others stay for later calls.
    pub async fn wait<T>(&mut self, what: &str, pick: impl Fn(&Event) -> Option<T>) -> T {
        if let Some(index) = self.unclaimed.iter().position(|event| pick(event).is_some()) {
            let event = self.unclaimed.remove(index).unwrap();
            return pick(&event).unwrap();
        }
        let search = async {
            loop {
                let event = self.events.recv().await.unwrap_or_else(|| panic!("ended before {what}"));
                match pick(&event) {
                    Some(found) => return found,
                    None => self.unclaimed.push_back(event),
                }
            }
        };
        tokio::time::timeout(CEILING, search).await.unwrap_or_else(|_| panic!("no {what} in time"))
    }

    pub async fn next(&mut self) -> Event {
        if let Some(event) = self.unclaimed.pop_front() {
            return event;
        }
        tokio::time::timeout(CEILING, self.events.recv()).await.expect("no event in time").expect("ended")
    }

    /// Events that were received and not asked for yet.
    pub fn unclaimed(&mut self) -> Vec<Event> {
        while let Ok(event) = self.events.try_recv() {
            self.unclaimed.push_back(event);
        }
        self.unclaimed.iter().cloned().collect()
    }

    pub async fn connected(&mut self, peer: DeviceId) -> LinkId {
        self.wait("link", |event| match event {
            Event::Connected { peer: other, link, .. } if *other == peer => Some(*link),
            _ => None,
        })
        .await
    }

    pub async fn disconnected(&mut self, link: LinkId) {
        self.wait("end of link", |event| match event {
            Event::Disconnected { link: other, .. } if *other == link => Some(()),
            _ => None,
        })
        .await;
    }

    pub async fn dial_failed(&mut self, peer: DeviceId) {
        self.wait("failed dial", |event| (*event == Event::DialFailed { peer }).then_some(())).await;
    }

    pub async fn frame(&mut self, link: LinkId) -> Bytes {
        self.wait("frame", |event| match event {
            Event::Frame { link: other, bytes, .. } if *other == link => Some(bytes.clone()),
            _ => None,
        })
        .await
    }

    pub async fn until(&self, what: &str, holds: impl Fn(&kith_network::Status) -> bool) {
        let mut watch = self.network.watch();
        tokio::time::timeout(CEILING, watch.wait_for(|status| holds(status)))
            .await
            .unwrap_or_else(|_| panic!("never {what}: {:?}", self.network.status()))
            .expect("ended");
    }
}

/// Links two nodes; the first dials.
pub async fn link(a: &mut Node, b: &mut Node) -> (LinkId, LinkId) {
    a.network.dial(b.device, b.addresses.clone()).await.unwrap();
    (a.connected(b.device).await, b.connected(a.device).await)
}

/// Sends a frame each way and waits for both.
pub async fn exchange(a: &mut Node, on_a: LinkId, b: &mut Node, on_b: LinkId) {
    a.network.send(on_a, Bytes::from_static(b"ping")).unwrap();
    assert_eq!(b.frame(on_b).await, "ping");
    b.network.send(on_b, Bytes::from_static(b"pong")).unwrap();
    assert_eq!(a.frame(on_a).await, "pong");
}
