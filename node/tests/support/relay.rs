//! A relay in this process: the real network, the real state machine, rows in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kith_network::{Config, Environment as _, Event, Network, Options};
use kith_node::ProductHost;
use kith_node::protocol::engine::LinkId;
use kith_node::protocol::mailbox::Policy;
use kith_node::protocol::secret::Secret32;
use kith_node::protocol::testing::{Sent, TestRelay};
use kith_node::protocol::{DeviceId, Now};

/// How often waits and upkeep are looked at.
const TICK: u64 = 100;

pub struct Relay {
    /// With `/p2p/…`.
    pub address: String,
    pub device: DeviceId,
    network: Network,
}

impl Relay {
    pub async fn start(seed: u8) -> Self {
        let host = Arc::new(ProductHost::current().unwrap());
        let options = Options {
            listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
            listen_explicit: true,
            mdns: false,
            ..Options::new(Secret32::new([seed; 32]))
        };
        let (network, mut events) = kith_network::start(host.clone(), Config::new(options).unwrap()).unwrap();
        let now = {
            let host = host.clone();
            move || Now { wall: host.wall(), mono: host.mono() }
        };
        let mut relay = TestRelay::new([seed; 32], Policy::default(), now());
        let device = relay.id();
        let sender = network.clone();
        let ticks = host.clone();
        host.spawn(
            "relay",
            Box::pin(async move {
                let mut theirs: HashMap<LinkId, LinkId> = HashMap::new();
                let mut ours: HashMap<LinkId, LinkId> = HashMap::new();
                loop {
                    let sent: Vec<Sent> = tokio::select! {
                        () = ticks.sleep(TICK) => relay.tick(now()),
                        event = events.recv() => match event {
                            None => return,
                            Some(Event::Connected { peer, link, .. }) => {
                                let (inner, hello) = relay.connect(peer, now());
                                theirs.insert(link, inner);
                                ours.insert(inner, link);
                                vec![(inner, hello)]
                            }
                            Some(Event::Disconnected { link, .. }) => {
                                if let Some(inner) = theirs.remove(&link) {
                                    ours.remove(&inner);
                                    relay.disconnect(inner);
                                }
                                Vec::new()
                            }
                            Some(Event::Frame { link, bytes, .. }) => match theirs.get(&link) {
                                Some(inner) => relay.frame(*inner, &bytes, now()),
                                None => Vec::new(),
                            },
                            Some(_) => Vec::new(),
                        },
                    };
                    for (inner, frame) in sent {
                        if let Some(link) = ours.get(&inner) {
                            // a link that is gone tells so by itself
                            let _ = sender.send(*link, frame);
                        }
                    }
                }
            }),
        );
        let mut status = network.watch();
        let listening = tokio::time::timeout(
            Duration::from_secs(10),
            status.wait_for(|status| !status.listening.is_empty()),
        );
        let address = listening.await.unwrap().unwrap().listening[0].clone();
        let address = match address.contains("/p2p/") {
            true => address,
            false => format!("{address}/p2p/{}", device.peer_id().unwrap()),
        };
        Self { address, device, network }
    }

    pub async fn stop(self) {
        self.network.shutdown().await;
    }
}
