//! Nobody is on-line at the right time, processes die, and no tick lies about it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::collections::HashSet;

use kith_tests::{DELIVERED, PATIENCE, Person, real_text, two_friends, wait_until};

#[test]
fn a_queued_message_survives_the_death_of_the_sender_and_is_delivered_when_both_are_up() {
    let (mut ana, mut ben) = two_friends();
    ben.kill();
    let sent = ana.kith(&["send", "Ben", "for later"]).ok().object();
    assert_eq!(sent["status"], "queued");
    let id = sent["id"].as_str().unwrap().to_owned();
    ana.kill();

    // Without a node the store itself answers.
    let message = ana.last_message("Ben").unwrap();
    assert_eq!((&message["id"], &message["status"]), (&sent["id"], &"queued".into()));

    ana.run();
    assert_eq!(ana.status_of(&id), "queued");
    ben.run();
    wait_until("delivered", DELIVERED, || ana.status_of(&id) == "delivered");
    assert_eq!(ben.last_message("Ana").unwrap()["text"], "for later");
}

#[test]
fn a_message_written_without_a_node_is_queued_and_says_how_to_deliver_it() {
    let (mut ana, mut ben) = two_friends();
    ben.kill();
    ana.kill();
    let answer = ana.kith(&["send", "Ben", "all alone", "--timeout", "2s"]);
    assert_eq!(answer.code, Some(0), "without --wait, queued is done: {}", answer.stderr);
    assert_eq!(answer.object()["status"], "queued");
    ana.run();
    ben.run();
    wait_until("delivered", DELIVERED, || ben.texts("Ana").contains(&"all alone".to_owned()));
}

#[test]
fn a_wait_that_is_not_met_fails_and_still_prints_the_message() {
    let (ana, mut ben) = two_friends();
    ben.kill();
    let answer = ana.kith(&["send", "Ben", "hello?", "--wait", "delivered", "--timeout", "1s"]).failed(1);
    let sent = answer.object();
    assert_eq!(sent["status"], "queued");
    assert_eq!(ana.status_of(sent["id"].as_str().unwrap()), "queued");
}

#[test]
fn delivered_is_never_shown_before_the_receiver_has_the_message_on_disk() {
    let (mut ana, mut ben) = two_friends();
    let text = real_text(2_000);
    for round in 1..=5 {
        let expected = ben.texts("Ana").len();
        let mut input = text.join("\n");
        input.push('\n');
        let sending = ana.start_with_input(&["send", "Ben", "--lines", "-"], input.into_bytes());
        wait_until("some lines arrive", PATIENCE, || {
            ben.kith(&["history", "Ana", "--limit", &(expected + round * 40).to_string()]).ok().lines.len()
                >= expected + round * 40
        });
        // First the receiver, so that whatever the sender shows was sent before.
        ben.kill();
        ana.kill();
        sending.kill();

        let on_disk: HashSet<String> = ids(&ben, "Ana").into_iter().map(|(id, _)| id).collect();
        let mut delivered = 0;
        for (id, status) in ids(&ana, "Ben") {
            if status == "delivered" || status == "read" {
                delivered += 1;
                assert!(on_disk.contains(&id), "round {round}: {id} is shown as {status} and is not there");
            }
        }
        println!("round {round}: {delivered} delivered, {} on disk", on_disk.len());
        ana.run();
        ben.run();
        wait_until("the rest is delivered", PATIENCE * 2, || {
            ana.history("Ben").iter().all(|message| message["status"] == "delivered")
        });
    }
}

#[test]
fn a_receiver_that_was_restarted_many_times_has_each_message_once() {
    let (ana, mut ben) = two_friends();
    for number in 0..10 {
        ben.kill();
        ana.kith(&["send", "Ben", &format!("number {number}")]).ok();
        ben.run();
        ana.kith(&[
            "send",
            "Ben",
            &format!("number {number}, again"),
            "--wait",
            "delivered",
            "--timeout",
            "20s",
        ])
        .ok();
    }
    let expected: Vec<String> =
        (0..10).flat_map(|number| [format!("number {number}"), format!("number {number}, again")]).collect();
    assert_eq!(ben.texts("Ana"), expected);
}

fn ids(person: &Person, with: &str) -> Vec<(String, String)> {
    let text = |message: &serde_json::Value, key: &str| message[key].as_str().unwrap().to_owned();
    person.history(with).iter().map(|message| (text(message, "id"), text(message, "status"))).collect()
}
