//! Two people who have nothing but an invite meet and chat, as a new user would do it in two terminals.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use kith_tests::{DELIVERED, ONLINE, PATIENCE, Person, meet, two_friends, wait_for, wait_until};

#[test]
fn strangers_meet_by_an_invite_and_the_first_message_is_delivered() {
    let mut ana = Person::new("Ana");
    let mut ben = Person::new("Ben");
    ana.run();
    ben.run();

    let invite = ana.invite();
    assert!(invite.starts_with("KITH:"), "{invite}");
    let accepted = ben.kith(&["accept", &invite]).ok().object();
    assert_eq!(accepted["account"], ana.account.as_str());
    assert_eq!(accepted["name"], "Ana");
    let online = wait_until("the friend is on-line", ONLINE, || {
        ben.contact("Ana").is_some_and(|contact| contact["state"] == "accepted" && contact["online"] == true)
    });
    let (contact, _) = wait_for("the inviter sees the guest", ONLINE, || {
        ana.contact("Ben").filter(|contact| contact["online"] == true)
    });
    assert_eq!(contact["account"], ben.account.as_str());
    assert_eq!(contact["state"], "accepted");

    let sent =
        ben.kith(&["send", "Ana", "hello, Ana", "--wait", "delivered", "--timeout", "20s"]).ok().object();
    assert!(sent["status"] == "delivered" || sent["status"] == "read", "{sent}");
    let id = sent["id"].as_str().unwrap();
    assert!(id.chars().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase()), "{id}");

    let message = ana.last_message("Ben").unwrap();
    assert_eq!(message["id"], id);
    assert_eq!(message["conversation"], sent["conversation"]);
    assert_eq!(message["author"], ben.account.as_str());
    assert_eq!(message["direction"], "in");
    assert_eq!(message["text"], "hello, Ana");
    assert_eq!(message["status"], "delivered");
    let time = message["time"].as_str().unwrap();
    assert!(time.ends_with('Z') && time.len() == "2026-01-01T00:00:00.000Z".len(), "{time}");

    println!("on-line {online:?} after accept returned");
}

#[test]
fn the_journey_of_a_message_names_the_device_and_its_steps_in_order() {
    let (ana, ben) = two_friends();
    let id = ana.deliver(&ben, "where are you now?");

    let journey = ana.kith(&["status", &id]).ok().object();
    assert_eq!(journey["id"], id.as_str());
    assert!(journey["status"] == "delivered", "{journey}");
    let devices = journey["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 1, "{journey}");
    assert_eq!(devices[0]["account"], ben.account.as_str());
    assert_eq!(devices[0]["status"], "delivered");
    let steps = devices[0]["steps"].as_array().unwrap();
    assert!(!steps.is_empty(), "{journey}");
    let times: Vec<_> = steps.iter().map(|step| step["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert!(steps.iter().all(|step| step["what"].as_str().is_some_and(|what| !what.is_empty())), "{journey}");
}

#[test]
fn read_is_told_only_after_the_person_has_read() {
    let (ana, ben) = two_friends();
    let id = ana.deliver(&ben, "seen?");
    assert_eq!(ben.last_message("Ana").unwrap()["text"], "seen?");
    assert_eq!(ana.status_of(&id), "delivered", "history alone marks nothing as read");

    ben.kith(&["read", "Ana"]).ok();
    wait_until("the tick turns to read", DELIVERED, || ana.status_of(&id) == "read");
}

#[test]
fn read_receipts_can_be_switched_off() {
    let (ana, ben) = two_friends();
    ben.kith(&["settings", "receipts", "off"]).ok();
    let first = ana.deliver(&ben, "read this quietly");
    ben.kith(&["read", "Ana"]).ok();
    // A later message passes the same way, so by its delivery a read receipt would have come.
    ana.deliver(&ben, "and this one later");
    assert_eq!(ana.status_of(&first), "delivered");
}

#[test]
fn an_edit_a_reply_and_a_deletion_reach_the_other_side() {
    let (ana, ben) = two_friends();
    let first = ana.deliver(&ben, "see you at nnie");
    ana.kith(&["edit", &first, "see you at nine"]).ok();
    wait_until("the edit arrives", DELIVERED, || ben.texts("Ana").contains(&"see you at nine".to_owned()));
    ben.kith(&["reply", &first, "fine"]).ok();
    wait_until("the reply arrives", DELIVERED, || ana.texts("Ben").contains(&"fine".to_owned()));
    ana.kith(&["delete", &first]).ok();
    wait_until("the text is gone at the other side", DELIVERED, || {
        !ben.texts("Ana").iter().any(|text| text.contains("nine"))
    });
    assert!(ben.texts("Ana").contains(&"fine".to_owned()));
}

#[test]
fn an_invite_for_one_cannot_be_used_by_a_second_person() {
    let (mut ana, mut ben, mut cy) = (Person::new("Ana"), Person::new("Ben"), Person::new("Cy"));
    ana.run();
    ben.run();
    cy.run();
    let invite = ana.invite();
    ben.kith(&["accept", &invite]).ok();
    wait_until("the first guest is accepted", PATIENCE, || {
        ben.contact("Ana").is_some_and(|contact| contact["state"] == "accepted")
    });
    // The answer may be given at once or come a moment later.
    let _ = cy.kith(&["accept", &invite]);
    wait_until("the second guest is refused", PATIENCE, || {
        cy.contact("Ana").is_some_and(|contact| contact["state"] == "refused")
    });
    assert!(ana.contact("Cy").is_none());
}

#[test]
fn accept_waits_while_the_inviter_is_off_and_completes_when_both_are_on() {
    let (mut ana, mut ben) = (Person::new("Ana"), Person::new("Ben"));
    // The address in the invite must be the one after the restart.
    let port = kith_tests::free_port();
    ana.move_to(&[kith_tests::loopback(port)]);
    ana.run();
    let invite = ana.invite();
    ana.kill();

    ben.run();
    let answer = ben.kith(&["accept", &invite]);
    assert_eq!(answer.code, Some(0), "waiting is no failure: {}", answer.stderr);
    assert_eq!(answer.object()["state"], "waiting");
    ana.run();
    wait_until("the invite is completed", PATIENCE, || {
        ben.contact("Ana").is_some_and(|contact| contact["state"] == "accepted")
    });
    ben.deliver(&ana, "there you are");
}

#[test]
fn a_blocked_contact_gets_nothing_through_and_is_not_told() {
    let (ana, ben) = two_friends();
    ana.deliver(&ben, "before");
    ben.kith(&["contacts", "block", "Ana"]).ok();
    let sent =
        ana.kith(&["send", "Ben", "after", "--wait", "delivered", "--timeout", "2s"]).failed(1).object();
    assert_eq!(sent["status"], "queued");
    assert!(!ben.texts("Ana").contains(&"after".to_owned()));

    ben.kith(&["contacts", "unblock", "Ana"]).ok();
    let id = sent["id"].as_str().unwrap();
    wait_until("delivered after the block was taken back", PATIENCE, || ana.status_of(id) == "delivered");
}

#[test]
fn events_are_json_lines_and_go_on_after_a_cursor() {
    let (ana, ben) = two_friends();
    ana.deliver(&ben, "one");
    let mut listener = Listener::start(&ben, &["events", "--after", "0"]);
    let first = listener.next(|event| event["type"] == "message" && event["message"]["text"] == "one");
    let cursor = first["cursor"].to_string().trim_matches('"').to_owned();
    drop(listener);

    ana.deliver(&ben, "two");
    let mut listener = Listener::start(&ben, &["events", "--after", &cursor]);
    let next = listener.next(|event| event["type"] == "message");
    assert_eq!(next["message"]["text"], "two", "nothing is told twice, nothing is left out");
}

#[test]
fn three_people_chat_each_with_each() {
    let (ana, ben) = two_friends();
    let mut cy = Person::new("Cy");
    cy.run();
    meet(&ana, &cy);
    meet(&cy, &ben);
    for (one, other) in [(&ana, &ben), (&ben, &cy), (&cy, &ana)] {
        one.deliver(other, &format!("{} to {}", one.name, other.name));
    }
    assert_eq!(cy.texts("Ben"), ["Ben to Cy"]);
    assert_eq!(cy.texts("Ana"), ["Cy to Ana"]);
}

/// A `kith events` whose lines are read as they come.
struct Listener {
    child: std::process::Child,
    lines: std::sync::mpsc::Receiver<serde_json::Value>,
}

impl Listener {
    fn start(person: &Person, args: &[&str]) -> Self {
        use std::io::BufRead;
        let mut child = person.command(args).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = std::sync::mpsc::sync_channel(1024);
        std::thread::spawn(move || {
            for line in std::io::BufReader::new(stdout).lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap();
                if sender.send(event).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    fn next(&mut self, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        loop {
            let event = self.lines.recv_timeout(DELIVERED).expect("an event in time");
            if wanted(&event) {
                return event;
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
