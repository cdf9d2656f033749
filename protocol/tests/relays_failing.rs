//! Relays that fail: custody is renewed and replaced, and nobody's mere word does harm.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeSet;

use common::apart::{apart, lines, settled, texts};
use kith_protocol::engine::Command;
use kith_protocol::identity::{DeviceList, KeyPair};
use kith_protocol::record::{
    Carriage, Change, Conversation, EventBody, Grant, GrantState, Job, JobBody, Key, KeyRange, Own, Peer,
    PeerDeviceList, Rank, Relay, Row,
};
use kith_protocol::testing::{Pair, Temper, Weather, Who};
use kith_protocol::wire::{Frame, Frontier, Lacking, PayloadBody, Receipt};
use kith_protocol::{EnvelopeId, Wall, limits};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

fn send_lines(pair: &mut Pair, count: usize) {
    for line in lines(count) {
        pair.send(Who::A, &line).expect("sent");
    }
}

fn all_sent(pair: &Pair) -> bool {
    pair.history(Who::A).iter().all(|entry| entry.rank >= Rank::Sent)
}

fn notices(pair: &Pair, who: Who, code: &str) -> Vec<String> {
    let events = pair.side(who).events.iter();
    events
        .filter_map(|event| match &event.body {
            EventBody::Notice { text, code: said, .. } if said == code => Some(text.clone()),
            _ => None,
        })
        .collect()
}

fn carriages(pair: &Pair) -> Vec<Carriage> {
    pair.rows(Who::A, &KeyRange::Carriages(pair.side(Who::B).device))
}

/// Envelopes that B's mailbox at a relay holds.
fn kept(pair: &Pair, relay: usize) -> usize {
    let row: Relay = pair.row(Who::B, &Key::Relay(pair.relay_id(relay))).unwrap();
    pair.relay(relay).rows().list(row.mailbox, 0, 10_000).len()
}

#[test]
fn custody_is_renewed_before_it_ends_for_as_long_as_the_message_is_open() {
    const WEEK: u64 = 7 * 24 * 3600;
    let mut pair = apart(1, &[Temper::Brief(WEEK), Temper::Brief(3600)]);
    pair.stop(Who::B);
    pair.run_for(HOUR); // canaries of B's have ended at the brief one
    let before = [kept(&pair, 0), kept(&pair, 1)];
    send_lines(&mut pair, 3);
    assert!(pair.run_until(2 * HOUR, all_sent));
    let outputs = pair.outputs();
    for step in 0..24 * 9 * 4 {
        pair.run_for(15 * MINUTE);
        let now = pair.now(Who::A).wall;
        for carriage in carriages(&pair) {
            assert_eq!(carriage.custodians.len(), 2);
            for custodian in &carriage.custodians {
                assert!(custodian.until > now, "custody ended, quarter hour {step}");
            }
        }
        assert!(kept(&pair, 0) >= 3 && kept(&pair, 1) >= 3, "quarter hour {step}: {before:?}");
    }
    // the brief one was asked every three quarters of an hour, the other once every six days
    let outputs = pair.outputs() - outputs;
    assert!(outputs < 50_000, "{outputs} outputs in nine days");
    assert!(all_sent(&pair));
    pair.check();
    pair.stop(Who::A);
    pair.start(Who::B);
    assert!(pair.run_until(HOUR, |pair| texts(pair, Who::B) == lines(3)));
    pair.run_for(MINUTE);
    pair.stop(Who::B);
    pair.start(Who::A);
    assert!(pair.run_until(HOUR, Pair::all_delivered));
    assert_eq!(carriages(&pair), []);
    for number in 0..2 {
        assert_eq!(pair.relay(number).audit(), []);
    }
    pair.check();
}

#[test]
fn what_all_relays_have_lost_is_deposited_again_when_its_receiver_finds_out() {
    let mut pair = apart(2, &[Temper::Good, Temper::Good]);
    pair.stop(Who::B);
    send_lines(&mut pair, 20);
    assert!(pair.run_until(MINUTE, all_sent));
    pair.wipe_relay(0);
    pair.wipe_relay(1);
    pair.run_for(MINUTE);
    assert_eq!((kept(&pair, 0), kept(&pair, 1)), (0, 0));
    pair.start(Who::B);
    assert!(pair.run_until(2 * HOUR, |pair| texts(pair, Who::B) == lines(20)), "{:?}", texts(&pair, Who::B));
    assert!(pair.run_until(HOUR, Pair::all_delivered));
    let relays: Vec<Relay> = pair.rows(Who::B, &KeyRange::Relays);
    assert!(relays.iter().all(|relay| relay.figures.broken == 1 && relay.named), "there are no better ones");
    let told = notices(&pair, Who::B, "relay-broke-word");
    assert_eq!(told.iter().filter(|text| text.contains("has lost everything it kept for you")).count(), 2);
    // and once more on the same day
    pair.stop(Who::B);
    pair.send(Who::A, "line 20").expect("sent");
    assert!(pair.run_until(MINUTE, all_sent));
    pair.wipe_relay(0);
    pair.wipe_relay(1);
    pair.run_for(MINUTE);
    pair.start(Who::B);
    assert!(pair.run_until(2 * HOUR, |pair| texts(pair, Who::B) == lines(21)), "{:?}", texts(&pair, Who::B));
    pair.check();
}

#[test]
fn a_dead_relay_is_replaced_and_contacts_deposit_at_the_new_one() {
    let mut pair = apart(3, &[Temper::Good, Temper::Good, Temper::Good, Temper::Good]);
    let (dead, spare) = (pair.relay_id(0), pair.relay_id(3));
    let named = |pair: &Pair, who: Who| -> Vec<_> {
        let relays: Vec<Relay> = pair.rows(who, &KeyRange::Relays);
        relays.into_iter().filter(|relay| relay.named).map(|relay| relay.relay).collect()
    };
    assert!(named(&pair, Who::B).contains(&dead) && !named(&pair, Who::B).contains(&spare));
    pair.set_relay(0, false);
    assert!(pair.run_until(2 * HOUR, |pair| named(pair, Who::B).contains(&spare)));
    assert!(!named(&pair, Who::B).contains(&dead));
    let known = |pair: &Pair| -> Vec<_> {
        let peer: Peer = pair.row(Who::A, &Key::Peer(pair.side(Who::B).device)).unwrap();
        peer.relays.into_iter().map(|place| place.relay).collect()
    };
    assert!(pair.run_until(HOUR, |pair| known(pair).contains(&spare) && !known(pair).contains(&dead)));
    pair.stop(Who::B);
    pair.send(Who::A, "line 0").expect("sent");
    pair.run_for(MINUTE);
    let custodians: BTreeSet<_> =
        carriages(&pair).into_iter().flat_map(|carriage| carriage.custodians).map(|c| c.relay).collect();
    assert!(
        custodians.len() == 3 && custodians.contains(&spare) && !custodians.contains(&dead),
        "{custodians:?}"
    );
    pair.check();
}

#[test]
fn what_waits_for_dead_relays_goes_to_the_one_that_replaces_them() {
    let mut pair = Pair::friends(4, Weather::FAIR);
    pair.add_relay(Temper::Good, &[Who::A]);
    pair.add_relay(Temper::Good, &[Who::B]);
    pair.add_relay(Temper::Good, &[Who::B]);
    let ready = |pair: &Pair| [Who::A, Who::B].into_iter().all(|who| settled(pair, who));
    assert!(pair.run_until(HOUR, ready));
    pair.run_for(5 * SECOND);
    pair.set_network(false);
    pair.set_relay(1, false);
    pair.set_relay(2, false);
    send_lines(&mut pair, 5);
    pair.run_for(30 * MINUTE);
    assert!(pair.history(Who::A).iter().all(|entry| entry.rank == Rank::Queued));
    pair.add_relay(Temper::Good, &[Who::B]);
    assert!(pair.run_until(2 * HOUR, |pair| texts(pair, Who::B) == lines(5)), "{:?}", texts(&pair, Who::B));
    assert!(pair.run_until(HOUR, Pair::all_delivered));
    pair.check();
}

#[test]
fn a_relay_that_takes_connections_and_answers_nothing_slows_nobody() {
    let time = |tempers: &[Temper]| {
        let mut pair = apart(5, tempers);
        pair.stop(Who::B);
        let start = pair.now(Who::A).mono;
        send_lines(&mut pair, 300);
        assert!(pair.run_until(HOUR, all_sent));
        pair.now(Who::A).mono.since(start)
    };
    let good = time(&[Temper::Good, Temper::Good, Temper::Good]);
    let mute = time(&[Temper::Mute, Temper::Good, Temper::Good]);
    assert!(mute <= good + SECOND, "{mute} ms with a mute relay, {good} ms without");
}

/// B claims that a relay did not have what it had signed for; A has no other word for that.
#[test]
fn one_contacts_word_that_a_relay_lacked_something_is_told_and_unnames_no_relay() {
    let mut pair = apart(6, &[Temper::Good, Temper::Good, Temper::Good, Temper::Good]);
    let relay = pair.relay_id(0);
    pair.stop(Who::B);
    send_lines(&mut pair, 3);
    assert!(pair.run_until(MINUTE, all_sent));
    pair.run_for(30 * MINUTE);
    let envelopes: Vec<EnvelopeId> = carriages(&pair)
        .into_iter()
        .flat_map(|carriage| carriage.custodians)
        .filter(|custodian| custodian.relay == relay)
        .map(|custodian| custodian.envelope)
        .collect();
    assert_eq!(envelopes.len(), 3);
    let at = pair.now(Who::B).wall;
    pair.start(Who::B);
    for _ in 0..5 {
        let lacking = vec![Lacking { relay, envelopes: envelopes.clone(), at }];
        pair.whisper(Who::B, PayloadBody::Receipt(Receipt { lacking, ..Receipt::default() }));
    }
    assert!(pair.run_until(HOUR, Pair::all_delivered));
    pair.run_for(MINUTE);
    let told = notices(&pair, Who::A, "relay-broke-word");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("says Ben"), "{told:?}");
    let row: Relay = pair.row(Who::A, &Key::Relay(relay)).unwrap();
    assert!(row.named && row.figures.broken == 0, "{:?}", row.figures);
    pair.check();
}

#[test]
fn an_accusation_without_a_signature_behind_it_is_nothing() {
    let mut pair = apart(7, &[Temper::Good, Temper::Good]);
    let relay = pair.relay_id(0);
    let at = pair.now(Who::B).wall.plus(DAY);
    let lacking = vec![Lacking { relay, envelopes: vec![EnvelopeId([7; 16])], at }];
    pair.whisper(Who::B, PayloadBody::Receipt(Receipt { lacking, ..Receipt::default() }));
    // nor does anything come of relays that are said to have lost what they never had
    let lacking = vec![Lacking { relay, envelopes: Vec::new(), at: Wall(u64::MAX) }];
    pair.whisper(Who::B, PayloadBody::Receipt(Receipt { lacking, ..Receipt::default() }));
    pair.send(Who::B, "a word that comes after").expect("sent");
    assert!(pair.run_until(MINUTE, |pair| texts(pair, Who::A) == ["a word that comes after"]));
    assert_eq!(notices(&pair, Who::A, "relay-broke-word"), [""; 0]);
    pair.check();
}

#[test]
fn a_question_ends_in_custody_and_keeps_no_queue_open() {
    let mut pair = apart(8, &[Temper::Good, Temper::Good]);
    pair.send(Who::A, "line 0").expect("sent");
    assert!(pair.run_until(MINUTE, Pair::all_delivered));
    pair.run_for(MINUTE);
    let stream = pair.history(Who::A)[0].stream;
    let conversation = pair.history(Who::A)[0].conversation;
    pair.stop(Who::A);
    pair.whisper(Who::B, PayloadBody::EntryRequest { conversation, stream, ranges: vec![(1, 1)] });
    assert_eq!(pair.jobs(Who::B).len(), 1);
    assert!(pair.run_until(MINUTE, |pair| pair.jobs(Who::B).is_empty()), "{:?}", pair.jobs(Who::B));
    pair.start(Who::A);
    pair.run_for(MINUTE);
    assert_eq!(texts(&pair, Who::B), lines(1));
    pair.check();
}

/// One of three relays is dead, one so slow that a hole is stepped past before it brings what fills it: what was asked of
/// the author meanwhile must not wait for the author, who is off.
#[test]
fn a_receiver_has_nothing_left_to_say_although_one_relay_is_dead_and_one_slow() {
    let mut pair = apart(14, &[Temper::Good, Temper::Good, Temper::Slow(6_000)]);
    pair.stop(Who::B);
    send_lines(&mut pair, 20);
    let signed = |pair: &Pair| carriages(pair).iter().filter(|carriage| carriage.have() == 3).count();
    assert!(pair.run_until(10 * MINUTE, |pair| signed(pair) == 20));
    pair.stop(Who::A);
    let first = carriages(&pair)[0].custodians[0].envelope;
    for relay in [0, 1] {
        let row: Relay = pair.row(Who::B, &Key::Relay(pair.relay_id(relay))).unwrap();
        let before = kept(&pair, relay);
        pair.lose(relay, row.mailbox, first);
        assert_eq!(kept(&pair, relay), before - 1);
    }
    pair.set_relay(1, false);
    pair.start(Who::B);
    assert!(
        pair.run_until(10 * MINUTE, |pair| texts(pair, Who::B) == lines(20)),
        "{:?}",
        texts(&pair, Who::B)
    );
    assert!(pair.run_until(MINUTE, |pair| pair.jobs(Who::B).is_empty()), "{:?}", pair.jobs(Who::B));
    pair.check();
}

/// B's directory record is from before it had relays; B told A of them, and stopped before it could publish that.
#[test]
fn an_older_directory_record_does_not_undo_what_a_contact_told_of_its_relays() {
    let mut pair = Pair::friends(15, Weather::FAIR);
    pair.run_for(SECOND);
    pair.add_relay(Temper::Good, &[Who::A, Who::B]);
    let known = |pair: &Pair| {
        let peer: Peer = pair.row(Who::A, &Key::Peer(pair.side(Who::B).device)).unwrap();
        peer.relays.len()
    };
    let registered = |pair: &Pair| {
        let grants: Vec<Grant> = pair.rows(Who::B, &KeyRange::Grants(pair.relay_id(0)));
        grants.len() == 2 && grants.iter().all(|grant| grant.state == GrantState::Registered)
    };
    assert!(pair.run_until(250, |pair| known(pair) == 1 && registered(pair)), "before it publishes");
    pair.stop(Who::B);
    pair.run_for(MINUTE);
    assert_eq!(known(&pair), 1);
    send_lines(&mut pair, 1);
    assert!(pair.run_until(MINUTE, all_sent));
    pair.check();
}

// ---- an older self, as a contact claims ----------------------------------------------------------------------------

#[test]
fn a_contact_that_claims_we_are_older_than_we_were_changes_nothing_with_others() {
    let mut pair = Pair::friends(9, Weather::FAIR);
    let own = pair.side(Who::A).account;
    let note = Command::Send { to: own, text: "a note".into(), reply_to: None, client: None };
    pair.command(Who::A, note).expect("notes are a conversation too");
    pair.send(Who::A, "line 0").expect("sent");
    assert!(pair.run_until(MINUTE, |pair| texts(pair, Who::B) == lines(1)));
    let stream = |pair: &Pair, with| {
        let all: Vec<Conversation> = pair.rows(Who::A, &KeyRange::Conversations);
        all.into_iter().find(|conversation| conversation.with == with).and_then(|found| found.own_stream)
    };
    let with = pair.side(Who::B).account;
    let (notes, direct) = (stream(&pair, own), stream(&pair, with));
    assert!(notes.is_some() && direct.is_some());
    for delivered in [99, 100, 1_000_000] {
        let frontier =
            Frontier { stream: direct.unwrap(), delivered, hash: None, read: 0, beyond: Vec::new() };
        pair.inject(Who::A, Frame::Frontiers(vec![frontier]).encode());
        pair.run_for(MINUTE);
    }
    assert_eq!(stream(&pair, own), notes, "another conversation goes on as it was");
    assert_ne!(stream(&pair, with), direct, "this one goes on in a new stream");
    let told = notices(&pair, Who::A, "rolled-back");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("Ben"), "it is said whose word it is: {told:?}");
    pair.send(Who::A, "line 1").expect("sent");
    assert!(pair.run_until(10 * MINUTE, |pair| texts(pair, Who::B) == lines(2)));
    pair.check();
}

// ---- device lists that are only heard of ---------------------------------------------------------------------------

/// A's list gets a new version behind the back of its engine, as after an update that never arrived.
fn renew_list_unsaid(pair: &mut Pair) {
    pair.stop(Who::A);
    let mut own: Own = pair.row(Who::A, &Key::Own).unwrap();
    let list = DeviceList::parse(&own.device_list).unwrap();
    let account = KeyPair::from_seed(own.account_seed.as_ref().unwrap());
    let now = pair.now(Who::A).wall;
    let newer = DeviceList::sign(
        &account,
        list.version + 1,
        Some(list.hash()),
        now,
        now.plus(limits::DEVICE_LIST_TTL),
        list.devices,
    );
    own.device_list = newer.bytes;
    pair.side(Who::A).disk.apply(vec![Change::Put(Row::Own(Box::new(own)))]);
    pair.start(Who::A);
}

fn known_list(pair: &Pair) -> u64 {
    let known: PeerDeviceList = pair.row(Who::B, &Key::DeviceList(pair.side(Who::A).account)).unwrap();
    known.version
}

#[test]
fn a_newer_device_list_is_fetched_from_the_directory() {
    let mut pair = Pair::friends(10, Weather::FAIR);
    renew_list_unsaid(&mut pair);
    assert!(pair.run_until(MINUTE, |pair| known_list(pair) == 2));
    pair.check();
}

#[test]
fn a_newer_device_list_is_asked_for_when_the_directory_has_none() {
    let mut pair = Pair::friends(11, Weather::FAIR);
    pair.set_directory(false);
    renew_list_unsaid(&mut pair);
    assert!(pair.run_until(MINUTE, |pair| known_list(pair) == 2));
    pair.run_for(MINUTE);
    assert!(pair.jobs(Who::A).is_empty() && pair.jobs(Who::B).is_empty());
    pair.check();
}

#[test]
fn a_newer_device_list_that_a_message_names_is_asked_for_by_relay() {
    let mut pair = apart(12, &[Temper::Good, Temper::Good]);
    pair.set_directory(false);
    renew_list_unsaid(&mut pair);
    pair.send(Who::A, "line 0").expect("sent");
    assert!(pair.run_until(5 * MINUTE, |pair| known_list(pair) == 2));
    assert_eq!(texts(&pair, Who::B), lines(1));
    pair.check();
}

#[test]
fn whoever_names_lists_that_do_not_exist_is_asked_a_few_times_and_still_served() {
    let mut pair = Pair::friends(13, Weather::FAIR);
    let mut asked = 0;
    for version in 2..200_u64 {
        let list = Some((version, [7; 32]));
        let hello = Frame::Hello { version: 1, list, time: pair.now(Who::A).wall };
        pair.inject(Who::A, hello.encode());
        for _ in 0..60 {
            pair.run_for(MINUTE);
            let question = |job: &Job| {
                matches!(&job.body, JobBody::Payload(body)
                    if PayloadBody::decode(body) == Ok(PayloadBody::ListRequest))
            };
            asked += pair.jobs(Who::A).iter().filter(|job| question(job)).count();
        }
    }
    assert!(asked <= 8, "asked {asked} times");
    send_lines(&mut pair, 2);
    assert!(pair.run_until(MINUTE, |pair| texts(pair, Who::B) == lines(2)));
    pair.check();
}
