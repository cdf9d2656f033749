//! The directory between real nodes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests only")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use kith_network::{Environment, Event, Limits};
use kith_protocol::directory::{DeviceAddresses, build, directory_key, week_key_pair};
use kith_protocol::identity::KeyPair;
use kith_protocol::secret::Secret32;
use kith_protocol::{DeviceId, DirectoryKey, limits};
use libp2p::kad::store::MemoryStore;
use libp2p::kad::{self, Quorum, Record};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, StreamProtocol, Swarm};
use support::{Node, environment, link};

/// A valid record of a made-up device.
fn record(seq: u64) -> (DirectoryKey, Bytes) {
    let device = KeyPair::from_seed(&Secret32::new([50; 32]));
    let id = DeviceId(device.public());
    let week = week_key_pair(&Secret32::new([51; 32]), &id, 7);
    let says = DeviceAddresses {
        device: id,
        seq,
        expires: environment().wall().plus(limits::DAY),
        addresses: vec![],
        relays: vec![],
        device_list: Bytes::from_static(b"list"),
    };
    let record = build(&week, &device, &Secret32::new([52; 32]), &says, &mut rand::rng()).unwrap();
    (directory_key(&week.public()), record)
}

async fn with_bootstrap(seed: u8, to: &Node) -> Node {
    let bootstrap = to.multiaddr();
    Node::start_with(seed, |options| options.bootstrap = vec![bootstrap]).await
}

async fn ready(node: &mut Node) {
    node.wait("directory", |event| (*event == Event::DirectoryReady).then_some(())).await;
}

async fn provided(node: &mut Node, key: DirectoryKey) -> bool {
    node.wait("publication", |event| match event {
        Event::Provided { key: other, stored } if *other == key => Some(*stored),
        _ => None,
    })
    .await
}

/// Searches once; the newest record found.
async fn find(node: &mut Node, key: DirectoryKey) -> Option<Bytes> {
    node.network.find(key).await.unwrap();
    let mut newest = None;
    loop {
        match node.next().await {
            Event::Found { key: other, record } if other == key => newest = Some(record),
            Event::FindEnded { key: other } if other == key => return newest,
            _ => {}
        }
    }
}

/// A Kademlia node that checks nothing, connected to `to`.
async fn careless(to: &Node) -> Swarm<kad::Behaviour<MemoryStore>> {
    let keypair = support::keypair(77);
    let local = keypair.public().to_peer_id();
    let config = kad::Config::new(StreamProtocol::new("/kith/kad/1"));
    let behaviour = kad::Behaviour::with_config(local, MemoryStore::new(local), config);
    let transport =
        kith_network::product_transport(&keypair, &kith_network::WssCertificate::default()).unwrap();
    let config =
        libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(60));
    let mut swarm = Swarm::new(transport, behaviour, local, config);
    let address: Multiaddr = kith_network::address::to_text(&to.addresses[0]).parse().unwrap();
    let peer = to.device.peer_id().unwrap();
    swarm.behaviour_mut().add_address(&peer, address.clone());
    swarm.dial(address).unwrap();
    loop {
        if let SwarmEvent::ConnectionEstablished { .. } = swarm.select_next_some().await {
            return swarm;
        }
    }
}

/// Puts a record at `to` whatever it is; the node answers as if all were well.
async fn put(swarm: &mut Swarm<kad::Behaviour<MemoryStore>>, to: &Node, key: &[u8], value: Vec<u8>) {
    let peer = to.device.peer_id().unwrap();
    let record = Record::new(key.to_vec(), value);
    swarm.behaviour_mut().put_record_to(record, [peer].into_iter(), Quorum::One);
    loop {
        if let SwarmEvent::Behaviour(kad::Event::OutboundQueryProgressed {
            result: kad::QueryResult::PutRecord(_),
            ..
        }) = swarm.select_next_some().await
        {
            return;
        }
    }
}

#[tokio::test]
async fn a_record_provided_by_one_node_is_found_by_another_through_a_third() {
    let c = Node::start(3).await;
    let mut a = with_bootstrap(1, &c).await;
    let mut b = with_bootstrap(2, &c).await;
    ready(&mut a).await;
    ready(&mut b).await;
    let (key, record) = record(1);
    a.network.provide(key, record.clone(), limits::DAY).await.unwrap();
    assert!(provided(&mut a, key).await);
    assert_eq!(find(&mut b, key).await, Some(record));
    assert_eq!(find(&mut b, DirectoryKey([9; 32])).await, None);
    assert!(c.network.status().directory_server);
}

#[tokio::test]
async fn a_record_provided_before_the_directory_is_in_reach_is_published_when_it_is() {
    let mut a = Node::start(1).await;
    let (key, record) = record(1);
    a.network.provide(key, record.clone(), limits::DAY).await.unwrap();
    assert!(!provided(&mut a, key).await);
    let c = Node::start(3).await;
    a.network.add_bootstrap(&c.multiaddr()).await.unwrap();
    ready(&mut a).await;
    while !provided(&mut a, key).await {}
    let mut b = with_bootstrap(2, &c).await;
    ready(&mut b).await;
    assert_eq!(find(&mut b, key).await, Some(record));
}

#[tokio::test]
async fn an_update_replaces_the_record_and_a_withdrawn_one_is_not_published_again() {
    let c = Node::start(3).await;
    let mut a = with_bootstrap(1, &c).await;
    ready(&mut a).await;
    let (key, first) = record(1);
    let (_, second) = record(2);
    a.network.provide(key, first, limits::DAY).await.unwrap();
    assert!(provided(&mut a, key).await);
    a.network.provide(key, second.clone(), limits::DAY).await.unwrap();
    assert!(provided(&mut a, key).await);
    let mut b = with_bootstrap(2, &c).await;
    ready(&mut b).await;
    assert_eq!(find(&mut b, key).await, Some(second));
    a.network.withdraw(key).await.unwrap();
    a.until("withdrawn", |status| status.directory_records == 0).await;
}

#[tokio::test]
async fn junk_is_not_stored_and_an_older_record_does_not_replace_a_newer_one() {
    let mut c = Node::start(3).await;
    let (key, newer) = record(5);
    let (_, older) = record(4);
    let mut swarm = careless(&c).await;
    put(&mut swarm, &c, key.as_bytes(), b"junk".to_vec()).await;
    put(&mut swarm, &c, b"short key", newer.to_vec()).await;
    put(&mut swarm, &c, &[7; 32], newer.to_vec()).await;
    put(&mut swarm, &c, key.as_bytes(), vec![1; limits::DIRECTORY_RECORD + 1]).await;
    c.until("rejected", |status| status.counters.records_rejected == 4).await;
    assert_eq!(c.network.status().directory_records, 0);
    put(&mut swarm, &c, key.as_bytes(), newer.to_vec()).await;
    put(&mut swarm, &c, key.as_bytes(), older.to_vec()).await;
    c.until("rejected", |status| status.counters.records_rejected == 5).await;
    assert_eq!(find(&mut c, key).await, Some(newer));
}

/// Valid records under different keys.
fn records(count: u8) -> Vec<(DirectoryKey, Bytes)> {
    let device = KeyPair::from_seed(&Secret32::new([50; 32]));
    let id = DeviceId(device.public());
    let made = (0..count).map(|n| {
        let week = week_key_pair(&Secret32::new([n; 32]), &id, 7);
        let says = DeviceAddresses {
            device: id,
            seq: 1,
            expires: environment().wall().plus(limits::DAY),
            addresses: vec![],
            relays: vec![],
            device_list: Bytes::new(),
        };
        let record = build(&week, &device, &Secret32::new([52; 32]), &says, &mut rand::rng()).unwrap();
        (directory_key(&week.public()), record)
    });
    made.collect()
}

#[tokio::test]
async fn one_source_cannot_fill_a_node() {
    let c = Node::start_with(3, |options| {
        options.limits = Limits { records_per_source: 3, ..Limits::default() };
    })
    .await;
    let mut swarm = careless(&c).await;
    for (key, record) in records(5) {
        put(&mut swarm, &c, key.as_bytes(), record.to_vec()).await;
    }
    c.until("full", |status| status.counters.records_rejected == 2 && status.directory_records == 3).await;
}

#[tokio::test]
async fn a_full_node_keeps_the_records_nearest_to_it() {
    let mut c = Node::start_with(3, |options| options.limits.records = 3).await;
    let mut swarm = careless(&c).await;
    let mut all = records(8);
    for (key, record) in &all {
        put(&mut swarm, &c, key.as_bytes(), record.to_vec()).await;
    }
    c.until("full", |status| status.directory_records == 3).await;
    drop(swarm);
    let own = kad::KBucketKey::from(c.device.peer_id().unwrap());
    all.sort_by_key(|(key, _)| own.distance(&kad::KBucketKey::new(kad::RecordKey::new(key.as_bytes()))));
    for (n, (key, record)) in all.into_iter().enumerate() {
        assert_eq!(find(&mut c, key).await, (n < 3).then_some(record), "{n}");
    }
}

#[tokio::test]
async fn a_connection_nobody_uses_is_closed() {
    let c = Node::start(3).await;
    let bootstrap = c.multiaddr();
    let mut a = Node::start_with(1, |options| {
        options.bootstrap = vec![bootstrap];
        options.limits.idle_timeout = 300;
    })
    .await;
    ready(&mut a).await;
    // The directory is still known, and is dialled when it is needed.
    a.until("alone", |status| status.peers == 0 && status.directory_peers == 1).await;
    c.until("alone", |status| status.peers == 0 && status.bytes_in > 0).await;
    let (key, record) = record(1);
    a.network.provide(key, record, limits::DAY).await.unwrap();
    assert!(provided(&mut a, key).await);
}

#[tokio::test]
async fn a_directory_node_that_lost_its_memory_is_given_the_records_again() {
    let c = Node::start(3).await;
    let address = kith_network::address::to_text(&c.addresses[0]);
    let mut a = with_bootstrap(1, &c).await;
    ready(&mut a).await;
    let (key, record) = record(1);
    a.network.provide(key, record.clone(), limits::DAY).await.unwrap();
    assert!(provided(&mut a, key).await);
    c.network.shutdown().await;
    drop(c);
    a.until("alone", |status| status.peers == 0).await;
    let mut c = Node::start_with(3, |options| options.listen = vec![address]).await;
    // Looking for anything makes the node notice that its directory is gone, and come back to it.
    while c.network.status().directory_records == 0 {
        find(&mut a, DirectoryKey([1; 32])).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(find(&mut c, key).await, Some(record));
}

#[tokio::test]
async fn linked_nodes_know_each_other_and_a_dial_needs_no_address_then() {
    let c = Node::start(3).await;
    let mut a = with_bootstrap(1, &c).await;
    let mut b = with_bootstrap(2, &c).await;
    ready(&mut a).await;
    ready(&mut b).await;
    let (on_a, _) = link(&mut a, &mut b).await;
    a.network.disconnect(b.device).await.unwrap();
    a.disconnected(on_a).await;
    a.network.dial(b.device, vec![]).await.unwrap();
    a.connected(b.device).await;
}
