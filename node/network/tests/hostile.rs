//! Peers that mean harm, beside honest ones on the same address.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests only")]

mod support;

use futures::AsyncWriteExt;
use kith_network::Event;
use support::raw::{LINK, Raw};
use support::{Node, device, exchange, keypair, link};
use tokio::io::AsyncWriteExt as _;

fn port(node: &Node) -> u16 {
    let text = kith_network::address::to_text(&node.addresses[0]);
    text.rsplit('/').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_broken_and_slow_handshakes_do_not_keep_honest_peers_out() {
    let mut a = Node::start(1).await;
    let mut b = Node::start(2).await;
    let mut held = Vec::new();
    for n in 0..2_000u32 {
        let Ok(mut socket) = tokio::net::TcpStream::connect(("127.0.0.1", port(&a))).await else { continue };
        if n % 2 == 0 {
            // An error means that the node has closed it already.
            let _ = socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
        } else {
            held.push(socket);
            if held.len() > 300 {
                held.remove(0);
            }
        }
    }
    assert!(!held.is_empty());
    let (on_b, on_a) = link(&mut b, &mut a).await;
    exchange(&mut b, on_b, &mut a, on_a).await;
    a.until("counted", |status| status.counters.handshakes_failed >= 900).await;
    assert!(a.network.status().counters.handshakes_evicted > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_strangers_make_room_and_contacts_stay() {
    let mut a = Node::start_with(1, |options| options.limits.connections = 10).await;
    let mut contact = Node::start(2).await;
    a.network.prefer(contact.device, true).await.unwrap();
    let (on_contact, on_a) = link(&mut contact, &mut a).await;
    let address = a.multiaddr();
    let mut crowd = Vec::new();
    for seed in 0..40 {
        crowd.push(Raw::connect(&keypair(100 + seed), &address).await.unwrap());
    }
    a.until("evicting", |status| status.counters.connections_evicted >= 20).await;
    a.until("small", |status| status.peers <= 12).await;
    exchange(&mut contact, on_contact, &mut a, on_a).await;
    let mut newcomer = Node::start(3).await;
    let (on_new, on_a) = link(&mut newcomer, &mut a).await;
    exchange(&mut newcomer, on_new, &mut a, on_a).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_frames_end_the_link_and_three_ban_the_device() {
    let mut a = Node::start(1).await;
    let mut honest = Node::start(2).await;
    let (on_honest, on_a) = link(&mut honest, &mut a).await;
    let address = a.multiaddr();
    let attacker = device(66);
    let broken: [&[u8]; 3] = [&[0xff, 0xff, 0x7f], &[0x00], &[0x81, 0x00]];
    for (strikes, bytes) in (1..).zip(broken) {
        let mut raw = Raw::connect(&keypair(66), &address).await.unwrap();
        let (mut ours, _theirs) = raw.link().await.unwrap();
        let link = a.connected(attacker).await;
        ours.write_all(b"\x05hello").await.unwrap();
        ours.flush().await.unwrap();
        assert_eq!(a.frame(link).await, "hello");
        ours.write_all(bytes).await.unwrap();
        ours.flush().await.unwrap();
        a.disconnected(link).await;
        a.until("counted", |status| status.counters.violations == strikes).await;
    }
    // Banned: the connection does not last long enough to open anything.
    let banned = async {
        let mut raw = Raw::connect(&keypair(66), &address).await?;
        raw.link().await.map(|_| ())
    };
    assert!(banned.await.is_err());
    exchange(&mut honest, on_honest, &mut a, on_a).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_stream_is_a_violation() {
    let mut a = Node::start(1).await;
    let mut raw = Raw::connect(&keypair(66), &a.multiaddr()).await.unwrap();
    let (_ours, _theirs) = raw.link().await.unwrap();
    let link = a.connected(device(66)).await;
    // Its answer may be cut off by the end of the connection.
    let _second = raw.open(LINK).await;
    a.disconnected(link).await;
    a.until("counted", |status| status.counters.violations == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_never_reads_is_closed_and_memory_stays_bounded() {
    let mut a = Node::start_with(1, |options| {
        options.limits.stall_timeout = 1_000;
        options.limits.queue_frames = 100_000;
        options.limits.queue_bytes = 8 * 1024 * 1024;
    })
    .await;
    let mut raw = Raw::connect(&keypair(66), &a.multiaddr()).await.unwrap();
    let (_ours, _theirs) = raw.link().await.unwrap();
    let link = a.connected(device(66)).await;
    for _ in 0..100 {
        a.network.send(link, vec![1; 60_000].into()).unwrap();
    }
    a.disconnected(link).await;
    // It only did not read: that is no violation.
    assert_eq!(a.network.status().counters.violations, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_a_stranger_opens_is_told_and_ends_with_its_connection() {
    let mut a = Node::start(1).await;
    let mut raw = Raw::connect(&keypair(66), &a.multiaddr()).await.unwrap();
    let (_ours, _theirs) = raw.link().await.unwrap();
    let link = a.connected(device(66)).await;
    drop(raw);
    drop(_ours);
    drop(_theirs);
    a.disconnected(link).await;
    assert!(!a.unclaimed().iter().any(|event| matches!(event, Event::Connected { .. })));
}

/// Also what a peer does that lost a connection we still hold for alive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_follows_its_peer_to_another_connection_and_back() {
    let mut a = Node::start(1).await;
    // One whose key is smaller than ours leads, one whose key is larger follows.
    let leader = (2..=255).find(|seed| device(*seed) < a.device).unwrap();
    let follower = (2..=255).find(|seed| device(*seed) > a.device).unwrap();
    for seed in [leader, follower] {
        let peer = device(seed);
        let mut first = Raw::connect(&keypair(seed), &a.multiaddr()).await.unwrap();
        let _first_streams = first.link().await.unwrap();
        let old = a.connected(peer).await;
        let mut second = Raw::connect(&keypair(seed), &a.multiaddr()).await.unwrap();
        let (mut ours, _theirs) = second.link().await.unwrap();
        a.disconnected(old).await;
        let new = a.connected(peer).await;
        assert!(new > old);
        ours.write_all(b"\x03new").await.unwrap();
        ours.flush().await.unwrap();
        assert_eq!(a.frame(new).await, "new");
        // The second dies while a third is there: the link comes up on the third.
        let mut third = Raw::connect(&keypair(seed), &a.multiaddr()).await.unwrap();
        drop((ours, _theirs, second));
        a.disconnected(new).await;
        let _third_streams = third.link().await.unwrap();
        assert!(a.connected(peer).await > new);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_with_too_many_connections_loses_its_oldest() {
    let mut a = Node::start(1).await;
    a.network.prefer(device(66), true).await.unwrap();
    let mut all = Vec::new();
    for _ in 0..20 {
        all.push(Raw::connect(&keypair(66), &a.multiaddr()).await.unwrap());
    }
    a.until("evicting", |status| status.counters.connections_evicted >= 16).await;
    let mut newest = all.pop().unwrap();
    let _streams = newest.link().await.unwrap();
    a.connected(device(66)).await;
}
