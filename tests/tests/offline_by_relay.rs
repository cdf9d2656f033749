//! People who are never on-line together, and real relays between them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::time::Duration;

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

/// What befalls the second of the relays.
enum Trouble {
    None,
    /// It is killed when so many lines are sent.
    Killed(usize),
    /// It has lost everything when Ben comes back.
    Forgetful,
    /// It has gone back to what it kept before the lines were sent, when Ben comes back.
    Restored,
    /// It works for a fifth of the time.
    Slow,
}

/// Ben is off; Ana sends and goes off; Ben comes and goes; Ana learns that all is delivered.
fn a_thousand(relays: &mut [Relay], trouble: &Trouble) {
    const COUNT: usize = 1_000;
    let (mut ana, mut ben) = friends(relays);
    ben.kill();
    let backup = matches!(trouble, Trouble::Restored).then(|| relays[1].backup());
    let limping = matches!(trouble, Trouble::Slow)
        .then(|| relays[1].limp(Duration::from_millis(200), Duration::from_secs(1)));
    let sending = ana.start_with_input(&["send", "Ben", "--lines", "-", "--wait", "sent"], input(COUNT));
    if let Trouble::Killed(after) = trouble {
        wait_until("some lines are in custody", 2 * PATIENCE, || {
            ana.history("Ben").iter().filter(|message| message["status"] == "sent").count() > *after
        });
        relays[1].kill();
    }
    let sent = sending.finish(4 * PATIENCE).ok().object();
    assert_eq!((&sent["sent"], &sent["delivered"]), (&COUNT.into(), &COUNT.into()), "{sent}");
    let last = ana.last_message("Ben").unwrap();
    assert_eq!(last["status"], "sent");
    assert!(last["custody"]["have"].as_u64().unwrap() >= 2, "{last}");
    if matches!(trouble, Trouble::Forgetful | Trouble::Restored) {
        // the lines are at the two that keep their word before the third forgets them
        wait_until("all three have signed", 2 * PATIENCE, || {
            ana.history("Ben").iter().filter(|message| message["custody"]["have"] == 3).count() >= COUNT
        });
    }
    ana.kill();
    match (trouble, &backup) {
        (Trouble::Forgetful, _) => relays[1].forget(),
        (Trouble::Restored, Some(backup)) => relays[1].restore(backup),
        _ => {}
    }

    ben.run();
    wait_until("everything is there", 2 * PATIENCE, || came(&ben, "Ana").len() >= COUNT);
    assert_eq!(came(&ben, "Ana"), lines(COUNT), "once each, in order");
    wait_until("what Ben has to say is in custody", PATIENCE, || {
        // contacts are told of a relay that forgot; that waits for their word
        let open = ben.kith(&["status"]).ok().object()["queued"].as_u64().unwrap();
        open == 0 || (matches!(trouble, Trouble::Forgetful) && open <= 1)
    });
    if matches!(trouble, Trouble::Forgetful) {
        let told = ben.kith(&["relay", "list"]).ok().lines;
        assert!(told.iter().any(|relay| relay["broken"] == 1 && relay["named"] == false), "{told:?}");
    }
    ben.kill();

    ana.run();
    let id = last["id"].as_str().unwrap().to_owned();
    wait_until("the last is delivered", PATIENCE, || ana.status_of(&id) == "delivered");
    wait_until("all are delivered", PATIENCE, || {
        ana.history("Ben").iter().filter(|message| message["status"] == "delivered").count() > COUNT
    });
    drop(limping);
}

fn three() -> [Relay; 3] {
    [Relay::start(), Relay::start(), Relay::start()]
}

#[test]
fn a_thousand_messages_wait_for_somebody_who_is_off_and_come_once_in_order() {
    a_thousand(&mut [Relay::start(), Relay::start()], &Trouble::None);
}

#[test]
fn nothing_is_lost_when_one_of_three_relays_is_killed_under_load() {
    let after = rand::random_range(1..900);
    eprintln!("killed when {after} are in custody");
    a_thousand(&mut three(), &Trouble::Killed(after));
}

#[test]
fn nothing_is_lost_when_one_of_three_relays_signs_and_forgets_everything() {
    a_thousand(&mut three(), &Trouble::Forgetful);
}

#[test]
fn nothing_is_lost_when_one_of_three_relays_goes_back_to_an_older_copy() {
    a_thousand(&mut three(), &Trouble::Restored);
}

#[test]
fn nothing_is_lost_when_one_of_three_relays_is_slow() {
    a_thousand(&mut three(), &Trouble::Slow);
}

#[test]
fn nothing_is_lost_when_one_of_three_relays_is_full() {
    let mut relays = [Relay::start(), Relay::start_with(&[("items", "300")]), Relay::start()];
    a_thousand(&mut relays, &Trouble::None);
}

#[test]
fn what_the_only_relay_has_lost_arrives_although_the_two_never_meet_again() {
    let mut relays = [Relay::start()];
    let (mut ana, mut ben) = friends(&relays);
    ben.kill();
    ana.kith(&["send", "Ben", "line 0", "--wait", "sent", "--timeout", "30s"]).ok();
    ana.kill();
    relays[0].forget();
    // both are on now and reach each other by the relay only: neither knows where the other is
    ana.move_to(&[]);
    ben.move_to(&[]);
    ben.run();
    ana.run();
    wait_until("the message is there", 2 * PATIENCE, || came(&ben, "Ana") == lines(1));
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
fn a_blocked_contact_cannot_deposit_any_more_within_a_minute() {
    let relays = [Relay::start(), Relay::start()];
    let (ana, ben) = friends(&relays);
    ben.kith(&["contacts", "block", "Ana"]).ok();
    // each message tells in its journey what became of it
    wait_until("the relays refuse Ana's deposits and say why", Duration::from_secs(60), || {
        let sent = ana.kith(&["send", "Ben", "line 0", "--wait", "sent", "--timeout", "2s"]).object();
        let journey = ana.kith(&["status", sent["id"].as_str().unwrap()]).ok().object();
        journey["status"] == "queued" && journey.to_string().contains("the right was revoked")
    });
    assert_eq!(came(&ben, "Ana"), Vec::<String>::new());
    ben.kith(&["contacts", "unblock", "Ana"]).ok();
    wait_until("what waited is let in", 2 * PATIENCE, || !came(&ben, "Ana").is_empty());
}

/// Somebody with mailboxes at these relays.
fn at(relays: &[Relay], name: &str) -> Person {
    let addresses: Vec<String> = relays.iter().map(|relay| relay.address.clone()).collect();
    let mut person = Person::new(name).relayed_by(&addresses);
    person.run();
    person.wait_for_relays(relays.len());
    person
}

#[test]
fn an_invite_that_was_used_up_is_refused_with_that_reason() {
    let relays = [Relay::start(), Relay::start()];
    let mut ana = at(&relays, "Ana");
    let uri = ana.invite();
    let ben = at(&relays, "Ben");
    ben.kith(&["accept", &uri, "--timeout", "20s"]).ok();
    wait_until("Ben is in", PATIENCE, || ana.contact("Ben").is_some());
    ana.kill();
    // Cid's answer waits at the relays
    let cid = at(&relays, "Cid");
    cid.kith(&["accept", &uri, "--timeout", "1s"]).ok();
    ana.run();
    wait_until("Cid is refused", 2 * PATIENCE, || {
        cid.contact("Ana").is_some_and(|contact| contact["state"] == "refused")
    });
    assert_eq!(cid.contact("Ana").unwrap()["refused"], "it was used up");
    let shown = cid.readable_command(&["contacts"]).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("it was used up"), "{shown}");
    assert!(ana.contact("Cid").is_none());
}

#[test]
fn an_invite_that_was_taken_back_is_refused_by_the_relays_with_that_reason() {
    let relays = [Relay::start(), Relay::start()];
    let mut ana = at(&relays, "Ana");
    let made = ana.kith(&["invite"]).ok().object();
    let cid = at(&relays, "Cid");
    ana.kith(&["invite", "revoke", made["id"].as_str().unwrap()]).ok();
    wait_until("Cid is told by the relays", PATIENCE, || {
        ana.kill();
        let uri = made["uri"].as_str().unwrap();
        let asked = cid.readable_command(&["accept", uri, "--timeout", "5s"]).output().unwrap();
        ana.run();
        String::from_utf8_lossy(&asked.stderr).contains("the right was revoked")
    });
    assert!(ana.contact("Cid").is_none());
}

#[test]
fn an_invite_that_has_expired_is_refused_with_that_reason_here_and_at_the_relays() {
    let mut relays = [Relay::start()];
    let mut ana = at(&relays, "Ana");
    let made = ana.kith(&["invite", "--expires", "20s"]).ok().object();
    let uri = made["uri"].as_str().unwrap().to_owned();
    let cid = at(&relays, "Cid");
    let ben = at(&relays, "Ben");
    ana.kill();
    // Ben takes it in time, but the relay is away until it is too late
    relays[0].kill();
    let asked = ben.kith(&["accept", &uri, "--timeout", "100ms"]).ok().object();
    assert_eq!(asked["state"], "waiting");
    wait_until("the invite is over", PATIENCE, || {
        let said = cid.kith(&["accept", &uri, "--timeout", "100ms"]);
        if said.code == Some(0) {
            // a second try is a first one again
            cid.kith(&["contacts", "remove", "Ana", "--yes"]).ok();
        }
        said.code != Some(0) && said.stderr.contains("this invite has expired: ")
    });
    relays[0].run();
    let sent = ben.kith(&["send", "Ana", "hello"]).ok().object();
    wait_until("the relay tells Ben why it takes nothing", 2 * PATIENCE, || {
        let journey = ben.kith(&["status", sent["id"].as_str().unwrap()]).ok().object();
        journey.to_string().contains("the right has expired")
    });
}
