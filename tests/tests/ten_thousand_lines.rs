//! Ten thousand lines of a text through `send --lines -`: all arrive, once, in order, and each is delivered, also
//! while the receiver's and the sender's nodes are killed in the middle of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::collections::HashMap;
use std::time::Duration;

use kith_tests::{PATIENCE, Person, real_text, resident_bytes, two_friends, wait_for, wait_until};

const LINES: usize = 10_000;
const KILLS: usize = 10;
/// For all lines, on a busy machine with a slow disk.
const CEILING: Duration = Duration::from_secs(420);

#[test]
fn all_lines_arrive_once_in_order_and_memory_stays_flat() {
    let (ana, ben) = two_friends();
    // Warm caches first: what is compared is the growth per message, not the start.
    let warm_up = real_text(1_000);
    send(&ana, &ben, &warm_up).finish(CEILING).ok();
    let before = [&ana, &ben].map(|person| resident_bytes(person.node().pid()));

    let text = real_text(LINES);
    let done = send(&ana, &ben, &text).finish(CEILING).ok().object();
    assert_eq!(done["sent"], LINES);
    assert_eq!(done["delivered"], LINES);
    for (person, before) in [&ana, &ben].into_iter().zip(before) {
        let after = resident_bytes(person.node().pid());
        let growth = after.saturating_sub(before);
        println!("{}: {} MiB, then {} MiB", person.name, before >> 20, after >> 20);
        assert!(growth < 96 << 20, "{} grew by {} MiB", person.name, growth >> 20);
    }
    let all: Vec<String> = warm_up.into_iter().chain(text).collect();
    check(&ana, &ben, &all);
}

#[test]
fn all_lines_arrive_once_in_order_while_the_receiver_is_killed() {
    let (ana, mut ben) = two_friends();
    let text = real_text(LINES);
    let sending = send(&ana, &ben, &text);
    kill_on_the_way(&text, KILLS, |_| ana.name.clone(), &mut ben);
    let done = sending.finish(CEILING).ok().object();
    assert_eq!(done["delivered"], LINES);
    check(&ana, &ben, &text);
}

#[test]
fn all_lines_arrive_once_in_order_while_the_senders_node_is_killed() {
    let (mut ana, ben) = two_friends();
    let text = real_text(LINES);
    let mut sending = send(&ana, &ben, &text);
    kill_on_the_way(&text, KILLS, |_| ben.name.clone(), &mut ana);
    assert!(sending.is_running() || ana.node_mut().is_running());
    let done = sending.finish(CEILING).ok().object();
    assert_eq!(done["sent"], LINES);
    assert_eq!(done["delivered"], LINES);
    check(&ana, &ben, &text);
}

#[test]
fn a_line_that_is_too_long_stops_with_its_number_before_it_is_sent() {
    let (ana, ben) = two_friends();
    let mut text = real_text(3);
    text.push("x".repeat(16 * 1024 + 1));
    text.push("never sent".to_owned());
    let stopped = send(&ana, &ben, &text).finish(PATIENCE).failed(1);
    assert!(stopped.stderr.contains('4'), "it names the line: {}", stopped.stderr);
    wait_until("the lines before it are there", PATIENCE, || ben.texts("Ana") == text[..3]);
}

fn send(from: &Person, to: &Person, lines: &[String]) -> kith_tests::Command {
    let mut input = lines.join("\n");
    input.push('\n');
    from.start_with_input(&["send", &to.name, "--lines", "-"], input.into_bytes())
}

/// Kills and restarts `victim` each time another share of the text has passed its store.
fn kill_on_the_way(text: &[String], kills: usize, with: impl Fn(&Person) -> String, victim: &mut Person) {
    let positions = positions(text);
    for kill in 0..kills {
        let goal = text.len() * (kill + 1) / (kills + 2);
        wait_for("the next share of the text", CEILING, || {
            let last = victim.last_message(&with(victim))?;
            let position = *positions.get(last["text"].as_str()?)?;
            (position >= goal).then_some(())
        });
        victim.kill();
        victim.run();
    }
}

/// Where in the text each line is that occurs once.
fn positions(text: &[String]) -> HashMap<&str, usize> {
    let mut positions = HashMap::new();
    let mut repeated = Vec::new();
    for (position, line) in text.iter().enumerate() {
        if positions.insert(line.as_str(), position).is_some() {
            repeated.push(line.as_str());
        }
    }
    for line in repeated {
        positions.remove(line);
    }
    positions
}

fn check(ana: &Person, ben: &Person, text: &[String]) {
    let received = ben.texts("Ana");
    for (number, (is, should)) in received.iter().zip(text).enumerate() {
        assert_eq!(is, should, "line {number} of {}", text.len());
    }
    assert_eq!(received.len(), text.len());
    let sent = ana.history("Ben");
    assert_eq!(sent.len(), text.len());
    for (message, line) in sent.iter().zip(text) {
        assert_eq!(message["text"], line.as_str());
        assert!(message["status"] == "delivered" || message["status"] == "read", "{message}");
    }
}
