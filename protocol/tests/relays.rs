//! Two engines that are never, or seldom, on-line together, and the relays between them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use common::apart::{apart, lines, settled, texts};
use kith_protocol::engine::{Answer, Command};
use kith_protocol::record::{
    Carriage, Contact, ContactState, Delivery, EventBody, Grant, Key, KeyRange, OneTimeKey, Rank, Relay,
    SessionCopy, StepKind,
};
use kith_protocol::testing::{Pair, Temper, Weather, Who};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

fn rank(pair: &Pair, who: Who) -> Rank {
    pair.history(who).last().expect("a message").rank
}

fn invite(pair: &mut Pair, who: Who, uses: u32) -> String {
    match pair.command(who, Command::CreateInvite { uses, ttl: DAY }) {
        Ok(Answer::Invite { uri, .. }) => uri,
        other => panic!("{other:?}"),
    }
}

fn state(pair: &Pair, who: Who) -> Option<ContactState> {
    let other = pair.side(who.other()).account;
    pair.row::<Contact>(who, &Key::Contact(other)).map(|contact| contact.state)
}

fn notices(pair: &Pair, who: Who) -> Vec<String> {
    let events = pair.side(who).events.iter();
    events
        .filter_map(|event| match &event.body {
            EventBody::Notice { text, .. } => Some(text.clone()),
            _ => None,
        })
        .collect()
}

/// A with two relays and B with one, strangers; nobody reaches anybody directly.
fn strangers(seed: u64) -> Pair {
    let mut pair = Pair::new(seed, Weather::FAIR);
    pair.set_network(false);
    pair.add_relay(Temper::Good, &[Who::A]);
    pair.add_relay(Temper::Good, &[Who::A]);
    pair.add_relay(Temper::Good, &[Who::B]);
    let ready = |pair: &Pair| [Who::A, Who::B].into_iter().all(|who| settled(pair, who));
    assert!(pair.run_until(HOUR, ready));
    pair
}

#[test]
fn a_first_message_by_invite_alone_arrives_although_the_two_are_never_on_line_together() {
    let mut pair = strangers(1);
    let uri = invite(&mut pair, Who::A, 1);
    assert!(pair.run_until(MINUTE, |pair| settled(pair, Who::A)), "the invite's right is at the relays");
    pair.stop(Who::A);
    pair.command(Who::B, Command::AcceptInvite { uri }).expect("accepted");
    pair.send(Who::B, "hello Ana, we have not met").expect("sent");
    assert!(pair.run_until(MINUTE, |pair| rank(pair, Who::B) == Rank::Sent), "{:?}", pair.history(Who::B));
    pair.stop(Who::B);
    pair.start(Who::A);
    assert!(pair.run_until(MINUTE, |pair| texts(pair, Who::A) == ["hello Ana, we have not met"]));
    assert_eq!(state(&pair, Who::A), Some(ContactState::Accepted));
    pair.run_for(MINUTE);
    pair.check();
    pair.stop(Who::A);
    pair.start(Who::B);
    assert!(pair.run_until(MINUTE, |pair| pair.all_delivered() && pair.are_contacts()));
    // a one-time key was used, and its secret is gone with the session it started
    let left: Vec<OneTimeKey> = pair.rows(Who::A, &KeyRange::OneTimeKeys);
    assert_eq!(left.len(), 199);
    pair.check();
}

#[test]
fn a_used_up_a_revoked_and_an_expired_invite_are_refused_with_the_reason() {
    let mut pair = strangers(2);
    let uri = invite(&mut pair, Who::A, 1);
    pair.run_for(MINUTE);
    let Ok(Answer::Invite { id, uri: revoked, .. }) =
        pair.command(Who::A, Command::CreateInvite { uses: 1, ttl: DAY })
    else {
        panic!("an invite is always granted");
    };
    pair.run_for(MINUTE);
    pair.command(Who::A, Command::RevokeInvite(id)).unwrap();
    assert!(pair.run_until(MINUTE, |pair| settled(pair, Who::A)), "revoked at the relays within a minute");
    // revoked: the relays say so, and it is a step, not an end
    pair.command(Who::B, Command::AcceptInvite { uri: revoked }).expect("accepted");
    pair.send(Who::B, "hello").expect("sent");
    let refused = |pair: &Pair| {
        let entry = pair.history(Who::B).pop().unwrap();
        let delivery: Option<Delivery> = pair.row(Who::B, &Key::Delivery(entry.id, pair.side(Who::A).device));
        delivery.is_some_and(|d| d.steps.iter().any(|step| step.detail.contains("the right was revoked")))
    };
    assert!(pair.run_until(MINUTE, refused));
    assert_eq!(rank(&pair, Who::B), Rank::Queued);
    // the other invite is taken instead, so now it is used up
    pair.command(Who::B, Command::AcceptInvite { uri: uri.clone() }).expect("accepted");
    assert!(pair.run_until(HOUR, |pair| pair.are_contacts()));
    let them = pair.side(Who::A).account;
    pair.command(Who::B, Command::RemoveContact(them)).unwrap();
    let them = pair.side(Who::B).account;
    pair.command(Who::A, Command::RemoveContact(them)).unwrap();
    pair.run_for(5 * MINUTE);
    pair.stop(Who::A);
    pair.command(Who::B, Command::AcceptInvite { uri }).expect("accepted");
    pair.run_for(5 * MINUTE);
    pair.start(Who::A);
    pair.run_for(5 * MINUTE);
    assert!(pair.run_until(HOUR, |pair| state(pair, Who::B) == Some(ContactState::Refused)));
    assert!(notices(&pair, Who::B).iter().any(|text| text.contains("did not take the invite")));
    pair.check();
}

#[test]
fn custody_is_signed_shown_and_proved() {
    let mut pair = apart(3, &[Temper::Good, Temper::Good, Temper::Good]);
    pair.stop(Who::B);
    let id = pair.send(Who::A, "hello").expect("sent");
    assert_eq!(rank(&pair, Who::A), Rank::Queued);
    assert!(pair.run_until(MINUTE, |pair| rank(pair, Who::A) == Rank::Sent));
    pair.run_for(MINUTE);
    let entry = pair.history(Who::A).pop().unwrap();
    assert_eq!((entry.custody.have, entry.custody.of), (3, 3));
    let delivery: Delivery = pair.row(Who::A, &Key::Delivery(id, pair.side(Who::B).device)).unwrap();
    assert_eq!(delivery.steps.iter().filter(|step| step.what == StepKind::Custody).count(), 3);
    pair.check();
    pair.start(Who::B);
    assert!(pair.run_until(MINUTE, |pair| rank(pair, Who::A) == Rank::Delivered));
    let left: Vec<Carriage> = pair.rows(Who::A, &KeyRange::Carriages(pair.side(Who::B).device));
    assert_eq!(left, []);
    pair.run_for(MINUTE);
    assert!(pair.jobs(Who::A).is_empty() && pair.jobs(Who::B).is_empty(), "{:?}", pair.jobs(Who::B));
    for number in 0..3 {
        assert_eq!(pair.relay(number).audit(), []);
    }
    pair.check();
}

#[test]
fn one_signature_of_two_is_carried_and_not_sent() {
    let mut pair = apart(4, &[Temper::Good, Temper::Good]);
    pair.stop(Who::B);
    pair.set_relay(1, false);
    pair.send(Who::A, "hello").expect("sent");
    pair.run_for(5 * MINUTE);
    let entry = pair.history(Who::A).pop().unwrap();
    assert_eq!((entry.rank, entry.custody.have, entry.custody.of), (Rank::Carried, 1, 2));
    pair.check();
    pair.set_relay(1, true);
    assert!(pair.run_until(HOUR, |pair| rank(pair, Who::A) == Rank::Sent), "{:?}", pair.history(Who::A));
    pair.check();
}

/// A thousand lines for somebody who is off, then the writer goes off too.
fn a_thousand(mut pair: Pair, mut meanwhile: impl FnMut(&mut Pair, usize)) {
    pair.stop(Who::B);
    for number in 0..1000 {
        meanwhile(&mut pair, number);
        pair.send(Who::A, &format!("line {number}")).expect("sent");
    }
    let sent = |pair: &Pair| pair.history(Who::A).iter().all(|entry| entry.rank == Rank::Sent);
    assert!(pair.run_until(DAY, sent), "not all came into custody");
    pair.check();
    pair.stop(Who::A);
    pair.start(Who::B);
    let there = |pair: &Pair| pair.history(Who::B).len() == 1000;
    assert!(pair.run_until(HOUR, there), "{} came", pair.history(Who::B).len());
    assert_eq!(texts(&pair, Who::B), lines(1000));
    pair.run_for(MINUTE);
    pair.stop(Who::B);
    pair.start(Who::A);
    assert!(pair.run_until(HOUR, Pair::all_delivered), "receipts came by relay");
    assert_eq!(pair.standing(Who::A), pair.standing(Who::B));
    pair.check();
}

#[test]
fn a_thousand_messages_wait_at_relays_in_order_and_once() {
    a_thousand(apart(5, &[Temper::Good, Temper::Good]), |_, _| {});
}

#[test]
fn nothing_is_lost_with_one_of_three_relays_killed() {
    a_thousand(apart(6, &[Temper::Good, Temper::Good, Temper::Good]), |pair, number| {
        if number == 437 {
            pair.set_relay(1, false);
        }
    });
}

#[test]
fn nothing_is_lost_with_a_relay_that_signs_and_forgets() {
    a_thousand(apart(7, &[Temper::Lying, Temper::Good, Temper::Good]), |_, _| {});
}

#[test]
fn nothing_is_lost_with_a_slow_relay() {
    a_thousand(apart(8, &[Temper::Good, Temper::Slow(3_000), Temper::Good]), |_, _| {});
}

#[test]
fn nothing_is_lost_with_a_full_relay() {
    a_thousand(apart(9, &[Temper::Full(300), Temper::Good, Temper::Good]), |_, _| {});
}

#[test]
fn a_full_mailbox_holds_back_and_says_so() {
    let mut pair = apart(10, &[Temper::Full(20)]);
    pair.stop(Who::B);
    for number in 0..40 {
        pair.send(Who::A, &format!("line {number}")).expect("sent");
    }
    pair.run_for(10 * MINUTE);
    let history = pair.history(Who::A);
    assert!(history.iter().filter(|entry| entry.rank == Rank::Sent).count() <= 20);
    assert!(history.iter().all(|entry| matches!(entry.rank, Rank::Sent | Rank::Queued)));
    let told = pair.rows::<Delivery>(Who::A, &KeyRange::Deliveries(history[20].id)).pop().unwrap();
    assert!(told.steps.iter().any(|step| step.detail.contains("full")), "{told:?}");
    pair.check();
    pair.start(Who::B);
    assert!(pair.run_until(2 * HOUR, |pair| texts(pair, Who::B) == lines(40)), "{:?}", texts(&pair, Who::B));
    assert!(pair.run_until(2 * HOUR, Pair::all_delivered));
    pair.check();
}

#[test]
fn what_one_relay_brings_late_still_opens_after_the_hole_was_stepped_past() {
    let mut pair = apart(11, &[Temper::Good, Temper::Good]);
    pair.stop(Who::B);
    pair.set_relay(1, false);
    for number in 0..300 {
        pair.send(Who::A, &format!("line {number}")).expect("sent");
    }
    pair.run_for(5 * MINUTE);
    pair.set_relay(0, false);
    pair.stop(Who::A);
    pair.start(Who::A);
    pair.set_relay(1, true);
    // the first three hundred go to the second relay too, unless it stays away: it takes only what comes now
    pair.run_for(1_000);
    pair.stop(Who::A);
    pair.set_relay(1, false);
    pair.set_relay(0, true);
    pair.start(Who::B);
    assert!(
        pair.run_until(2 * HOUR, |pair| texts(pair, Who::B) == lines(300)),
        "{}",
        texts(&pair, Who::B).len()
    );
    pair.check();
}

#[test]
fn blocking_stops_deposits_at_the_relays_within_a_minute_and_unblocking_lets_them_in() {
    let mut pair = apart(12, &[Temper::Good, Temper::Good]);
    let them = pair.side(Who::A).account;
    pair.command(Who::B, Command::Block(them)).unwrap();
    assert!(pair.run_until(MINUTE, |pair| {
        let relays: Vec<Relay> = pair.rows(Who::B, &KeyRange::Relays);
        relays.iter().all(|relay| {
            let grants: Vec<Grant> = pair.rows(Who::B, &KeyRange::Grants(relay.relay));
            grants.len() == 1 // the canaries'
        })
    }));
    pair.send(Who::A, "let me in").expect("sent");
    pair.run_for(10 * MINUTE);
    assert_eq!(rank(&pair, Who::A), Rank::Queued);
    pair.command(Who::B, Command::Unblock(them)).unwrap();
    assert!(pair.run_until(3 * HOUR, |pair| texts(pair, Who::B) == ["let me in"]));
    pair.check();
}

#[test]
fn a_relay_that_forgets_is_noticed_named_no_more_and_replaced() {
    let mut pair = apart(13, &[Temper::Good, Temper::Good, Temper::Lying, Temper::Good]);
    let liar = pair.relay_id(2);
    let found = |pair: &Pair| {
        let relay: Relay = pair.row(Who::B, &Key::Relay(liar)).unwrap();
        relay.figures.broken > 0 && !relay.named
    };
    assert!(pair.run_until(DAY, found));
    let relays: Vec<Relay> = pair.rows(Who::B, &KeyRange::Relays);
    assert_eq!(relays.iter().filter(|relay| relay.named).count(), 3);
    assert!(notices(&pair, Who::B).iter().any(|text| text.contains("did not keep")));
    // contacts are told, by relay
    let peer = |pair: &Pair| -> kith_protocol::record::Peer {
        pair.row(Who::A, &Key::Peer(pair.side(Who::B).device)).unwrap()
    };
    assert!(pair.run_until(HOUR, |pair| peer(pair).relays.iter().all(|place| place.relay != liar)));
    pair.check();
}

#[test]
fn canaries_measure_a_relay_that_keeps_its_word() {
    let mut pair = apart(14, &[Temper::Good]);
    let kept = |pair: &Pair| {
        let relay: Relay = pair.row(Who::A, &Key::Relay(pair.relay_id(0))).unwrap();
        relay.figures.kept > 0 && relay.figures.latency > 0 && relay.figures.broken == 0
    };
    assert!(pair.run_until(DAY, kept));
    pair.run_for(DAY);
    let relay: Relay = pair.row(Who::A, &Key::Relay(pair.relay_id(0))).unwrap();
    assert!(relay.figures.uptime().unwrap() > 990, "{:?}", relay.figures);
    assert_eq!(relay.figures.broken, 0);
}

#[test]
fn a_relay_that_is_given_up_is_still_emptied_and_contacts_hear_of_it() {
    let mut pair = apart(15, &[Temper::Good, Temper::Good]);
    pair.stop(Who::B);
    pair.send(Who::A, "before").expect("sent");
    pair.run_for(MINUTE);
    pair.stop(Who::A);
    pair.start(Who::B);
    pair.command(Who::B, Command::RemoveRelay(pair.relay_id(0))).unwrap();
    assert!(pair.run_until(MINUTE, |pair| texts(pair, Who::B) == ["before"]));
    pair.start(Who::A);
    let peer = |pair: &Pair| -> kith_protocol::record::Peer {
        pair.row(Who::A, &Key::Peer(pair.side(Who::B).device)).unwrap()
    };
    assert!(pair.run_until(HOUR, |pair| peer(pair).relays.len() == 1));
    pair.run_for(8 * DAY);
    assert_eq!(pair.rows::<Relay>(Who::B, &KeyRange::Relays).len(), 1);
    pair.send(Who::A, "after").expect("sent");
    assert!(pair.run_until(HOUR, |pair| texts(pair, Who::B) == ["before", "after"]));
    pair.check();
}

#[test]
fn copies_of_sessions_go_when_their_holes_are_filled() {
    let mut pair = apart(16, &[Temper::Good, Temper::Good]);
    pair.stop(Who::B);
    for number in 0..50 {
        pair.send(Who::A, &format!("line {number}")).expect("sent");
        pair.run_for(50);
    }
    pair.run_for(MINUTE);
    pair.start(Who::B);
    assert!(pair.run_until(HOUR, |pair| texts(pair, Who::B) == lines(50)));
    pair.run_for(MINUTE);
    assert_eq!(pair.rows::<SessionCopy>(Who::B, &KeyRange::AllSessionCopies), []);
    pair.check();
}
