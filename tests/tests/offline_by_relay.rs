//! People who are never on-line together, and real relays between them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use kith_tests::{DELIVERED, PATIENCE, Person, Relay, wait_until};

/// Two contacts who know each other's relays, and are both off.
fn friends(relays: &[Relay]) -> (Person, Person) {
    let addresses: Vec<String> = relays.iter().map(|relay| relay.address.clone()).collect();
    let mut ana = Person::new("Ana").relayed_by(&addresses);
    let mut ben = Person::new("Ben").relayed_by(&addresses);
    for person in [&mut ana, &mut ben] {
        person.run();
    }
    for person in [&ana, &ben] {
        person.wait_for_relays(relays.len());
    }
    let uri = ana.invite();
    ben.kith(&["accept", &uri, "--timeout", "20s"]).ok();
    ana.deliver(&ben, "now we know each other");
    ben.deliver(&ana, "and our relays");
    (ana, ben)
}

fn lines(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("line {number}")).collect()
}

fn input(count: usize) -> Vec<u8> {
    (lines(count).join("\n") + "\n").into_bytes()
}

/// The lines that came, without what was said before.
fn came(person: &Person, with: &str) -> Vec<String> {
    person.texts(with).into_iter().filter(|text| text.starts_with("line ")).collect()
}

/// Ben is off; Ana sends and goes off; Ben comes and goes; Ana learns that all is delivered.
fn a_thousand(relays: &mut [Relay], kill: Option<usize>) {
    const COUNT: usize = 1_000;
    let (mut ana, mut ben) = friends(relays);
    ben.kill();
    let sending = ana.start_with_input(&["send", "Ben", "--lines", "-", "--wait", "sent"], input(COUNT));
    if let Some(which) = kill {
        wait_until("some lines are in custody", PATIENCE, || {
            ana.history("Ben").iter().filter(|message| message["status"] == "sent").count() > COUNT / 4
        });
        relays[which].kill();
    }
    let sent = sending.finish(4 * PATIENCE).ok().object();
    assert_eq!((&sent["sent"], &sent["delivered"]), (&COUNT.into(), &COUNT.into()), "{sent}");
    let last = ana.last_message("Ben").unwrap();
    assert_eq!(last["status"], "sent");
    assert!(last["custody"]["have"].as_u64().unwrap() >= 2, "{last}");
    ana.kill();

    ben.run();
    wait_until("everything is there", 2 * PATIENCE, || came(&ben, "Ana").len() >= COUNT);
    assert_eq!(came(&ben, "Ana"), lines(COUNT), "once each, in order");
    wait_until("the receipt is in custody", PATIENCE, || ben.kith(&["status"]).ok().object()["queued"] == 0);
    ben.kill();

    ana.run();
    let id = last["id"].as_str().unwrap().to_owned();
    wait_until("the last is delivered", DELIVERED, || ana.status_of(&id) == "delivered");
    wait_until("all are delivered", DELIVERED, || {
        ana.history("Ben").iter().filter(|message| message["status"] == "delivered").count() > COUNT
    });
}

#[test]
fn a_thousand_messages_wait_for_somebody_who_is_off_and_come_once_in_order() {
    a_thousand(&mut [Relay::start(), Relay::start()], None);
}

#[test]
fn nothing_is_lost_when_one_of_three_relays_is_killed_under_load() {
    a_thousand(&mut [Relay::start(), Relay::start(), Relay::start()], Some(1));
}

#[test]
fn a_first_message_by_invite_alone_arrives_although_the_two_never_meet() {
    let relays = [Relay::start(), Relay::start()];
    let addresses: Vec<String> = relays.iter().map(|relay| relay.address.clone()).collect();
    let mut ana = Person::new("Ana").relayed_by(&addresses);
    let mut ben = Person::new("Ben").relayed_by(&addresses);
    ana.run();
    ana.wait_for_relays(2);
    let made = ana.kith(&["invite"]).ok().object();
    assert_eq!(made["relays"], 2);
    ana.kill();

    ben.run();
    ben.wait_for_relays(2);
    ben.kith(&["accept", made["uri"].as_str().unwrap(), "--timeout", "1s"]).ok();
    let sent =
        ben.kith(&["send", "Ana", "hello, stranger", "--wait", "sent", "--timeout", "30s"]).ok().object();
    let id = sent["id"].as_str().unwrap().to_owned();
    ben.kill();

    ana.run();
    wait_until("the message is there", PATIENCE, || {
        ana.contact("Ben").is_some() && ana.texts("Ben") == ["hello, stranger"]
    });
    wait_until("welcome and receipt are in custody", PATIENCE, || {
        let open = ana.kith(&["status"]).ok().object()["queued"].as_u64().unwrap();
        open <= 1 // the welcome waits for its answer
    });
    ana.kill();
    ben.run();
    wait_until("the author learns it", DELIVERED, || ben.status_of(&id) == "delivered");
    assert_eq!(ben.contact("Ana").unwrap()["state"], "accepted");
}

#[test]
fn a_blocked_contact_cannot_deposit_any_more() {
    let relays = [Relay::start(), Relay::start()];
    let (ana, mut ben) = friends(&relays);
    ben.kith(&["contacts", "block", "Ana"]).ok();
    // the rights are gone at the relays before this ends, so what is sent now never gets there
    wait_until("revoked", PATIENCE, || {
        let sent = ana.kith(&["send", "Ben", "line 0", "--wait", "sent", "--timeout", "2s"]);
        sent.code == Some(1)
    });
    ben.kill();
    let sent = ana.kith(&["send", "Ben", "line 1", "--wait", "sent", "--timeout", "4s"]).failed(1).object();
    let journey = ana.kith(&["status", sent["id"].as_str().unwrap()]).ok().object();
    assert!(journey.to_string().contains("the right was revoked"), "{journey}");
    assert_eq!(journey["status"], "queued");
}
