//! Links on real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests only")]

mod support;

use bytes::Bytes;
use kith_network::{Event, SendError};
use kith_protocol::limits;
use support::{Node, device, exchange, link};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_frames_arrive_in_order_both_ways_at_a_slow_owner() {
    const FRAMES: u32 = 10_000;
    let mut a = Node::start_with(1, |options| options.limits.events = 4).await;
    let mut b = Node::start_with(2, |options| options.limits.events = 4).await;
    let (on_a, on_b) = link(&mut a, &mut b).await;
    // Like the Engine, at most so many frames without an acknowledgement.
    const WINDOW: u32 = 256;
    let (got_b, seen_b) = tokio::sync::watch::channel(0);
    let (got_a, seen_a) = tokio::sync::watch::channel(0);
    for (sender, link, mut seen) in [(a.network.clone(), on_a, seen_b), (b.network.clone(), on_b, seen_a)] {
        #[allow(clippy::disallowed_methods, reason = "a test's own task")]
        tokio::spawn(async move {
            for n in 0..FRAMES {
                seen.wait_for(|seen| n < seen + WINDOW).await.unwrap();
                let mut frame = n.to_be_bytes().to_vec();
                frame.resize(4 + (n as usize * 37) % 3000, 7);
                sender.send(link, frame.into()).unwrap();
            }
        });
    }
    for n in 0..FRAMES {
        assert_eq!(b.frame(on_b).await[..4], n.to_be_bytes());
        got_b.send_replace(n);
        assert_eq!(a.frame(on_a).await[..4], n.to_be_bytes());
        got_a.send_replace(n);
    }
}

#[tokio::test]
async fn every_transport_carries_a_link_with_the_longest_frame() {
    for listen in
        ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/udp/0/quic-v1", "/ip6/::1/tcp/0"]
    {
        let mut a = Node::start_with(1, |options| options.listen = vec![listen.into()]).await;
        let mut b = Node::start_with(2, |options| options.listen = vec![listen.into()]).await;
        let (on_a, on_b) = link(&mut a, &mut b).await;
        exchange(&mut a, on_a, &mut b, on_b).await;
        let long = Bytes::from(vec![9; limits::FRAME]);
        a.network.send(on_a, long.clone()).unwrap();
        assert_eq!(b.frame(on_b).await, long, "{listen}");
    }
}

#[tokio::test]
async fn a_simultaneous_dial_ends_in_one_link_on_the_same_connection() {
    for round in 0..10 {
        let mut a = Node::start(2 * round + 1).await;
        let mut b = Node::start(2 * round + 2).await;
        let (to_a, to_b) =
            (a.network.dial(b.device, b.addresses.clone()), b.network.dial(a.device, a.addresses.clone()));
        let (first, second) = tokio::join!(to_a, to_b);
        first.unwrap();
        second.unwrap();
        let (on_a, on_b) = (a.connected(b.device).await, b.connected(a.device).await);
        exchange(&mut a, on_a, &mut b, on_b).await;
        for node in [&mut a, &mut b] {
            let ended = node.unclaimed();
            assert!(
                !ended.iter().any(|e| matches!(e, Event::Disconnected { .. } | Event::Connected { .. })),
                "{ended:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_link_that_comes_back_has_a_new_number() {
    let mut a = Node::start(1).await;
    let mut b = Node::start(2).await;
    let (first_a, first_b) = link(&mut a, &mut b).await;
    a.network.disconnect(b.device).await.unwrap();
    a.disconnected(first_a).await;
    b.disconnected(first_b).await;
    assert_eq!(a.network.send(first_a, Bytes::from_static(b"x")), Err(SendError::Gone));
    let (second_a, second_b) = link(&mut b, &mut a).await;
    assert!(second_a > first_b && second_b > first_a);
    exchange(&mut b, second_a, &mut a, second_b).await;
}

#[tokio::test]
async fn a_peer_that_died_and_came_back_is_linked_anew_though_nobody_said_goodbye() {
    let mut a = Node::start(1).await;
    for _ in 0..3 {
        let mut b = Node::start(2).await;
        let (on_b, on_a) = link(&mut b, &mut a).await;
        exchange(&mut b, on_b, &mut a, on_a).await;
        // Dropped without a shutdown call: the task ends by itself.
        drop(b);
        a.disconnected(on_a).await;
    }
}

#[tokio::test]
async fn an_owner_that_takes_nothing_stalls_its_own_link_only() {
    let mut a = Node::start_with(1, |options| {
        options.limits.stall_timeout = 1_500;
        options.limits.queue_bytes = 256 * 1024 * 1024;
        options.limits.queue_frames = 100_000;
    })
    .await;
    let mut stalled = Node::start_with(2, |options| options.limits.events = 2).await;
    let mut b = Node::start(3).await;
    let (to_stalled, _) = link(&mut a, &mut stalled).await;
    let (on_a, on_b) = link(&mut a, &mut b).await;
    // From here on nobody reads the events of `stalled`.
    for _ in 0..1_000 {
        a.network.send(to_stalled, Bytes::from(vec![1; 60_000])).unwrap();
    }
    exchange(&mut a, on_a, &mut b, on_b).await;
    a.disconnected(to_stalled).await;
    exchange(&mut a, on_a, &mut b, on_b).await;
}

#[tokio::test]
async fn a_full_queue_closes_the_link() {
    let mut a = Node::start_with(1, |options| options.limits.queue_frames = 16).await;
    let mut b = Node::start(2).await;
    let (on_a, on_b) = link(&mut a, &mut b).await;
    // One thread: the connection's task has no turn while this loop runs.
    let overflow = (0..100).map(|_| a.network.send(on_a, Bytes::from_static(b"x"))).find_map(Result::err);
    assert_eq!(overflow, Some(SendError::Overflow));
    a.disconnected(on_a).await;
    b.disconnected(on_b).await;
}

#[tokio::test]
async fn a_failed_dial_is_told_once_and_quickly() {
    let mut a = Node::start(1).await;
    let mut b = Node::start(2).await;
    let nobody = device(9);
    let closed = kith_network::address::parse("/ip4/127.0.0.1/tcp/1").unwrap();
    for _ in 0..3 {
        a.network.dial(nobody, vec![closed.clone()]).await.unwrap();
    }
    a.dial_failed(nobody).await;
    // Somebody else answers there: not the device we asked for.
    a.network.dial(nobody, b.addresses.clone()).await.unwrap();
    a.dial_failed(nobody).await;
    link(&mut a, &mut b).await;
    assert!(!a.unclaimed().contains(&Event::DialFailed { peer: nobody }));
}

#[tokio::test]
async fn a_dial_without_any_address_to_ourselves_or_out_of_scope_fails() {
    let mut a = Node::start(1).await;
    let own = a.device;
    let lan = kith_network::address::parse("/ip4/10.255.255.1/tcp/1").unwrap();
    for (peer, addresses) in [(device(9), vec![]), (own, a.addresses.clone()), (device(8), vec![lan])] {
        a.network.dial(peer, addresses).await.unwrap();
        a.dial_failed(peer).await;
    }
    // The one without addresses never reaches the transport.
    assert_eq!(a.network.status().links, 0);
}

#[tokio::test]
async fn a_refused_device_stays_out_until_admitted() {
    let mut a = Node::start(1).await;
    let mut b = Node::start(2).await;
    let (on_a, on_b) = link(&mut a, &mut b).await;
    a.network.refuse(b.device).await.unwrap();
    a.disconnected(on_a).await;
    b.disconnected(on_b).await;
    b.network.dial(a.device, a.addresses.clone()).await.unwrap();
    b.dial_failed(a.device).await;
    a.network.dial(b.device, b.addresses.clone()).await.unwrap();
    a.dial_failed(b.device).await;
    a.network.admit(b.device).await.unwrap();
    link(&mut b, &mut a).await;
}

#[tokio::test]
async fn shutdown_sends_what_is_queued_and_is_quick() {
    let mut a = Node::start(1).await;
    let mut b = Node::start(2).await;
    let (on_a, on_b) = link(&mut a, &mut b).await;
    for n in 0..100u8 {
        a.network.send(on_a, Bytes::from(vec![n; 1000])).unwrap();
    }
    let begun = tokio::time::Instant::now();
    a.network.shutdown().await;
    let took = begun.elapsed();
    assert!(took.as_millis() <= 1_000, "{took:?}");
    for n in 0..100u8 {
        assert_eq!(b.frame(on_b).await[0], n);
    }
    b.disconnected(on_b).await;
    assert_eq!(
        a.network.find(kith_protocol::DirectoryKey([0; 32])).await,
        Err(kith_network::Stopped::ShutDown)
    );
}

#[tokio::test]
async fn a_taken_port_is_an_error_if_chosen_and_replaced_if_remembered() {
    let a = Node::start(1).await;
    let taken = kith_network::address::to_text(&a.addresses[0]);
    let mut options = kith_network::Options::new(kith_protocol::secret::Secret32::new([2; 32]));
    options.listen = vec![taken.clone()];
    options.listen_explicit = true;
    options.mdns = false;
    let config = kith_network::Config::new(options).unwrap();
    let error = kith_network::start(support::environment(), config).unwrap_err().to_string();
    assert!(error.contains(&taken) && error.contains("in use"), "{error}");
    let b = Node::start_with(2, |options| {
        options.listen = vec![taken.clone()];
        options.listen_explicit = false;
    })
    .await;
    assert_ne!(b.addresses, a.addresses);
    assert_eq!(b.network.status().listen_again, b.network.status().listening);
}
