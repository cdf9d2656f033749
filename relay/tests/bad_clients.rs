//! Clients that mean harm: refused with a reason, nobody else is held up, and memory stays within bounds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use kith_protocol::wire::relay::{Answer, Ask, RefusalCode};
use kith_protocol::{EnvelopeId, MailboxId, limits};
use support::peer::*;
use support::process::Process;

const TTL: u32 = 86_400;
const MIB: u64 = 1024 * 1024;

/// An honest owner and contact, and how long a deposit takes them.
struct Honest {
    owner: Owner,
    contact: Peer,
    count: u64,
}

impl Honest {
    async fn new(relay: &Process) -> Self {
        let owner = Owner::connect(relay.tcp(), 1).await;
        owner.ready(0..1).await;
        Self { owner, contact: Peer::connect(relay.tcp(), 2).await, count: 0 }
    }

    /// A letter comes through, and soon.
    async fn chats(&mut self) -> Duration {
        let started = tokio::time::Instant::now();
        self.count += 1;
        let letter = envelope(&format!("honest {}", self.count), 256);
        let receipt = custody(&self.contact.ask(self.owner.deposit(0, &letter, TTL)).await);
        let took = started.elapsed();
        let got = self.owner.get(&[receipt.envelope]).await;
        assert_eq!(got[0].envelope, letter);
        self.owner.collect(vec![receipt.envelope]).await.unwrap();
        took
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_refused_and_holds_nobody_up() {
    let relay = Process::started("[rate]\nrequests_per_link = 200\nrequests_per_network = 0");
    let mut honest = Honest::new(&relay).await;
    let before = relay.rss();
    #[allow(clippy::disallowed_methods, reason = "a test's own task")]
    let flood = {
        let address = relay.tcp().to_owned();
        tokio::spawn(async move {
            let owner = Owner::connect(&address, 77).await;
            owner.ready(0..1).await;
            let mut busy = 0;
            for round in 0..40 {
                let mut answers = Vec::new();
                for n in 0..250 {
                    let letter = envelope(&format!("flood {round} {n}"), 4096);
                    answers.push(owner.peer.send(owner.deposit(0, &letter, TTL)).await);
                }
                for answer in answers {
                    match &answer.await.unwrap()[0] {
                        Answer::Custody(_) => {}
                        other => {
                            assert_eq!(refused(other), Some(RefusalCode::Busy));
                            busy += 1;
                        }
                    }
                }
            }
            busy
        })
    };
    let mut worst = Duration::ZERO;
    while !flood.is_finished() {
        worst = worst.max(honest.chats().await);
    }
    assert!(flood.await.unwrap() > 1_000);
    assert!(worst < Duration::from_secs(5), "{worst:?}");
    let grown = relay.rss().saturating_sub(before);
    assert!(grown < 200 * MIB, "{grown}");
    relay.audit();
}

#[tokio::test(flavor = "multi_thread")]
async fn other_peoples_mailboxes_and_guessed_rights_are_refused_each_with_its_reason() {
    let relay = Process::started("");
    let mut honest = Honest::new(&relay).await;
    let thief = Owner::connect(relay.tcp(), 66).await;
    thief.ready(0..1).await;
    let mailbox = honest.owner.mailbox;
    let id = EnvelopeId([1; 16]);
    for ask in [
        Ask::List { mailbox, after: 0, max: 10 },
        Ask::Wait { mailbox, after: 0, max: 10, deadline: 10 },
        Ask::Get { mailbox, envelopes: vec![id] },
        Ask::Collect { mailbox, envelopes: vec![id] },
        Ask::SetRights { mailbox, put: vec![thief.spec(0)], revoke: vec![] },
        Ask::PutBundle { mailbox, bundle: None, lifetime: 0, one_time_keys: vec![], replace: true },
    ] {
        assert_eq!(refused(&thief.peer.ask(ask).await), Some(RefusalCode::NotOpened));
    }
    let letter = envelope("stolen", 256);
    let Ask::Deposit(good) = honest.owner.deposit(0, &letter, TTL) else { unreachable!() };
    let Ask::Deposit(own) = thief.deposit(0, &letter, TTL) else { unreachable!() };
    let mut tries = Vec::new();
    for n in 0..50_u8 {
        let mut guessed = good.clone();
        guessed.right.0[0] ^= n + 1;
        tries.push((guessed, RefusalCode::RightUnknown));
        let mut forged = good.clone();
        forged.mac[usize::from(n) % 32] ^= 1;
        tries.push((forged, RefusalCode::WrongMac));
    }
    let mut elsewhere = own.clone();
    elsewhere.mailbox = mailbox;
    tries.push((elsewhere, RefusalCode::RightUnknown));
    let mut swapped = good.clone();
    swapped.mac = own.mac;
    tries.push((swapped, RefusalCode::WrongMac));
    let mut nowhere = good.clone();
    nowhere.mailbox = MailboxId([9; 16]);
    tries.push((nowhere, RefusalCode::MailboxUnknown));
    let mut other = good.clone();
    other.envelope = envelope("something else", 256);
    tries.push((other, RefusalCode::Malformed));
    for (deposit, reason) in tries {
        assert_eq!(refused(&thief.peer.ask(Ask::Deposit(deposit)).await), Some(reason));
    }
    // a replay of what came through changes nothing and takes no room
    let first = custody(&thief.peer.ask(Ask::Deposit(good.clone())).await);
    for _ in 0..100 {
        assert_eq!(custody(&thief.peer.ask(Ask::Deposit(good.clone())).await), first);
    }
    assert_eq!(honest.owner.list().await.len(), 1);
    honest.chats().await;
    assert_eq!(relay.audit()["envelopes"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_no_frame_ends_at_most_its_own_link() {
    let relay = Process::started("[mailbox]\nenvelope = 4096");
    let mut honest = Honest::new(&relay).await;
    let too_large = honest.owner.deposit(0, &envelope("large", 8192), TTL);
    assert_eq!(refused(&honest.contact.ask(too_large).await), Some(RefusalCode::TooLarge));
    let odd = honest.owner.deposit(0, &envelope("odd", 300), TTL);
    assert_eq!(refused(&honest.contact.ask(odd).await), Some(RefusalCode::Malformed));
    let mut bad = Peer::connect(relay.tcp(), 55).await;
    bad.send_raw(Bytes::from_static(&[0xff; 40])).await;
    let told = async {
        while bad.unasked.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(support::CEILING, told).await.unwrap();
    let reason = refused(&bad.unasked.lock().unwrap()[0]);
    assert_eq!(reason, Some(RefusalCode::Malformed));
    for _ in 0..20 {
        bad.send_raw(Bytes::from_static(&[0xff; 40])).await;
    }
    bad.closed().await;
    let mut longer = Peer::connect(relay.tcp(), 56).await;
    longer.send_raw(vec![0; limits::FRAME + 1].into()).await;
    longer.closed().await;
    honest.chats().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_thousand_mailboxes_in_a_loop_are_not_made() {
    let relay = Process::started(
        "[rate]\nmailboxes_per_network = 100\nrequests_per_link = 0\nrequests_per_network = 0",
    );
    let mut honest = Honest::new(&relay).await;
    let before = relay.rss();
    let greedy = Peer::connect(relay.tcp(), 44).await;
    let mut made = 0;
    for chunk in 0..1_000_u64 {
        let mut answers = Vec::new();
        for n in 0..50_u64 {
            let mut seed = [4; 32];
            seed[..8].copy_from_slice(&(chunk * 50 + n).to_le_bytes());
            let key =
                kith_protocol::identity::KeyPair::from_seed(&kith_protocol::secret::Secret32::new(seed));
            let open = kith_protocol::wire::relay::OpenMailbox {
                read_key: key.public(),
                signature: kith_protocol::crypto::right::sign_open(&key, &greedy.relay, &greedy.hello.nonce),
                token: Bytes::new(),
            };
            answers.push(greedy.send(Ask::Open(open)).await);
        }
        for answer in answers {
            match &answer.await.unwrap()[0] {
                Answer::Opened(_) => made += 1,
                other => assert_eq!(refused(other), Some(RefusalCode::Busy)),
            }
        }
        if chunk % 100 == 0 {
            honest.chats().await;
        }
    }
    assert!((90..=100).contains(&made), "{made}");
    let grown = relay.rss().saturating_sub(before);
    assert!(grown < 100 * MIB, "{grown}");
    assert_eq!(relay.audit()["mailboxes"], made + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_and_does_not_read_costs_a_bounded_amount() {
    let relay = Process::started(
        "[rate]\nrequests_per_link = 0\nrequests_per_network = 0\nmailboxes_per_network = 0",
    );
    let mut honest = Honest::new(&relay).await;
    let before = relay.rss();
    let mut held = Vec::new();
    for seed in 0..20 {
        let owner = Owner::connect(relay.tcp(), 300 + seed).await;
        owner.ready(0..1).await;
        let mut ids = Vec::new();
        for n in 0..16 {
            let letter = envelope(&format!("{seed} {n}"), 65_536);
            ids.push(custody(&owner.peer.ask(owner.deposit(0, &letter, TTL)).await).envelope);
        }
        let frames = (1..2_000_u64).map(|id| {
            let ask = Ask::Get { mailbox: owner.mailbox, envelopes: ids.clone() };
            kith_protocol::wire::Frame::RelayRequest(kith_protocol::wire::relay::RelayRequest { id, ask })
                .encode()
        });
        // the answers are never taken from the stream
        let deaf = owner.peer.deafen();
        for frame in frames {
            if !deaf.push(frame).await {
                break;
            }
        }
        held.push(deaf);
        honest.chats().await;
    }
    for _ in 0..20 {
        honest.chats().await;
    }
    let grown = relay.rss().saturating_sub(before);
    assert!(grown < 150 * MIB, "{grown}");
    drop(held);
}
