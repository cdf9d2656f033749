//! Nodes that are never on-line together, and relays on loopback between them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use kith_node::api::{Handle, RelayStatus, Session, Status};
use support::relay::Relay;
use support::{Person, deliver, incoming, meet, patient};

/// The relay is open, named, and knows our rights.
async fn ready(handle: &Handle, relays: usize) {
    patient(async {
        loop {
            let open = handle.relays().unwrap().into_iter();
            if open.filter(|relay| relay.state == RelayStatus::Open && relay.connected).count() == relays {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

async fn add(person: &Person, relays: &[&Relay]) {
    let handle = person.handle();
    for relay in relays {
        handle.add_relay(relay.address.clone(), None).await.unwrap();
    }
    ready(&handle, relays.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_while_the_other_is_off_waits_at_relays_and_the_receipt_comes_back_by_them() {
    let (one, two) = (Relay::start(201).await, Relay::start(202).await);
    let (mut ann, mut bob) = (Person::new("Ann"), Person::new("Bob"));
    meet(&mut ann, &mut bob).await;
    add(&ann, &[&one, &two]).await;
    add(&bob, &[&one, &two]).await;
    // the news of each other's relays has arrived once something written after it has
    deliver(&ann.session(), bob.account, "relays?").await;
    deliver(&bob.session(), ann.account, "relays!").await;
    bob.stop().await;

    let a = ann.session();
    let mut last = None;
    for number in 0..20 {
        last = Some(a.send(bob.account, format!("line {number}"), None, None).await.unwrap());
    }
    let last = last.unwrap();
    let view = patient(a.wait(last.id, Status::Sent, support::PATIENCE)).await.unwrap();
    assert!(view.reached, "{:?}", a.journey(last.id).await.unwrap());
    let journey = a.journey(last.id).await.unwrap();
    assert_eq!((journey.custody.have, journey.custody.of), (2, 2));
    ann.stop().await;

    let b = Session::Local(bob.start().await);
    let mut events = b.events(Some(0)).await.unwrap();
    incoming(&mut events, "line 19").await;
    let texts: Vec<String> =
        b.history(ann.account, 100, None).await.unwrap().into_iter().map(|m| m.text).collect();
    let wanted: Vec<String> = (0..20).map(|number| format!("line {number}")).collect();
    assert_eq!(&texts[2..], wanted);
    // its receipt is in custody before it goes
    patient(async {
        while b.status().await.unwrap().queued > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    bob.stop().await;
    let a = Session::Local(ann.start().await);
    assert!(patient(a.wait(last.id, Status::Delivered, support::PATIENCE)).await.unwrap().reached);
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_is_enough_for_a_first_message_to_somebody_who_is_off() {
    let relay = Relay::start(203).await;
    let (mut ann, mut bob) = (Person::new("Ann"), Person::new("Bob"));
    ann.start().await;
    add(&ann, &[&relay]).await;
    let invite = ann.handle().invite(1, 3_600_000).await.unwrap();
    assert_eq!(invite.relays, 1);
    ann.stop().await;

    bob.start().await;
    add(&bob, &[&relay]).await;
    let b = bob.session();
    b.accept(invite.uri).await.unwrap();
    let sent = b.send(ann.account, "hello, stranger".to_owned(), None, None).await.unwrap();
    let view = patient(b.wait(sent.id, Status::Sent, support::PATIENCE)).await.unwrap();
    assert!(view.reached, "{:?}", b.journey(sent.id).await.unwrap());
    bob.stop().await;

    let a = Session::Local(ann.start().await);
    let mut events = a.events(Some(0)).await.unwrap();
    let got = incoming(&mut events, "hello, stranger").await;
    assert_eq!(got.author_name, "Bob");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_are_remembered_listed_and_given_up() {
    let relay = Relay::start(204).await;
    let mut ann = Person::new("Ann");
    ann.start().await;
    assert!(ann.handle().add_relay("/ip4/127.0.0.1/tcp/9".to_owned(), None).await.is_err(), "no peer id");
    add(&ann, &[&relay]).await;
    ann.stop().await;
    let handle = ann.start().await;
    ready(&handle, 1).await;
    let view = handle.relays().unwrap().remove(0);
    assert_eq!((view.address.as_str(), view.relay), (relay.address.as_str(), relay.device));
    assert!(view.named && view.connected);
    // a link may be replaced just after a start: both are asked until they are of the same moment
    patient(async {
        while handle.status().unwrap().relays != [view.clone()] {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    handle.remove_relay(relay.device).await.unwrap();
    assert_eq!(handle.relays().unwrap()[0].state, RelayStatus::Leaving);
    relay.stop().await;
}
