//! A change of the own profile or keys is told to all contacts, however many: in batches that a store takes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use kith_protocol::engine::Command;
use kith_protocol::record::{
    Change, Contact, ContactState, Key, KeyRange, Outbox, Owner, Peer, Row, Telling,
};
use kith_protocol::testing::{Pair, Weather, Who};
use kith_protocol::{AccountId, DeviceId, limits};

/// Contacts that take several stretches.
const SOME: usize = 600;

fn id(n: usize) -> [u8; 32] {
    let mut id = [3; 32];
    id[..8].copy_from_slice(&(n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    id
}

/// Two friends, the first of whom has this many contacts; all others are away.
fn popular(seed: u64, contacts: usize) -> Pair {
    let mut pair = Pair::friends(seed, Weather::FAIR);
    pair.run_for(2_000);
    pair.stop(Who::A);
    let friend = pair.side(Who::B).device;
    let template: Peer = pair.row(Who::A, &Key::Peer(friend)).unwrap();
    let like: Contact = pair.row(Who::A, &Key::Contact(template.account)).unwrap();
    let mut changes = Vec::new();
    for n in 1..contacts {
        let (account, device) = (AccountId(id(2 * n)), DeviceId(id(2 * n + 1)));
        let name = format!("contact {n}");
        changes.push(Change::Put(Contact { account, name, devices: vec![device], ..like.clone() }.into()));
        changes.push(Change::Put(Owner { device, account }.into()));
        changes.push(Change::Put(Peer { device, account, ..template.clone() }.into()));
    }
    pair.side(Who::A).disk.apply(changes);
    pair.start(Who::A);
    pair
}

fn told(pair: &Pair) -> usize {
    let friend = pair.side(Who::B).device;
    pair.side(Who::A).disk.count(
        &KeyRange::Outboxes,
        |row| matches!(row, Row::Outbox(outbox) if outbox.device != friend && outbox.open > 0),
    )
}

fn is_telling(pair: &Pair) -> bool {
    pair.row::<Telling>(Who::A, &Key::Telling).is_some()
}

fn rename(pair: &mut Pair, name: &str) {
    pair.command(Who::A, Command::SetProfile { name: Some(name.to_owned()), about: None }).unwrap();
}

fn name_at_the_friend(pair: &Pair) -> String {
    let contact: Contact = pair.row(Who::B, &Key::Contact(pair.side(Who::A).account)).unwrap();
    contact.name
}

#[test]
fn a_new_name_reaches_all_contacts_in_short_batches() {
    let mut pair = popular(1, limits::CONTACTS);
    rename(&mut pair, "Anna");
    assert!(is_telling(&pair) && told(&pair) < limits::ROWS_PER_TURN, "{} were told at once", told(&pair));
    assert!(pair.run_until(60_000, |pair| !is_telling(pair)));
    assert_eq!(told(&pair), limits::CONTACTS - 1);
    assert!(pair.run_until(60_000, |pair| name_at_the_friend(pair) == "Anna"));
    let most = pair.largest_batch();
    assert!(most <= limits::BATCH_ROWS, "{most} rows in one batch");
    let twice = pair.rows::<Outbox>(Who::A, &KeyRange::Outboxes);
    assert!(twice.iter().all(|outbox| outbox.open <= 1), "each once");
}

#[test]
fn the_telling_goes_on_after_a_stop_and_a_second_change_is_told_to_all_again() {
    let mut pair = popular(2, SOME);
    rename(&mut pair, "Anna");
    assert!(pair.run_until(60_000, |pair| told(pair) > 150));
    pair.crash(Who::A);
    let before = told(&pair);
    assert!(is_telling(&pair) && before < SOME - 1);
    assert!(pair.run_until(60_000, |pair| told(pair) > before));
    rename(&mut pair, "Annika");
    assert!(pair.run_until(60_000, |pair| !is_telling(pair)));
    let friend = pair.side(Who::B).device;
    for outbox in pair.rows::<Outbox>(Who::A, &KeyRange::Outboxes) {
        assert!((1..=2).contains(&outbox.open) || outbox.device == friend, "{}", outbox.open);
    }
    assert_eq!(told(&pair), SOME - 1);
    assert!(pair.run_until(60_000, |pair| name_at_the_friend(pair) == "Annika"));
}

#[test]
fn who_is_blocked_meanwhile_is_not_told() {
    let mut pair = popular(3, SOME);
    rename(&mut pair, "Anna");
    let contacts: Vec<Contact> = pair.rows(Who::A, &KeyRange::Contacts);
    let last = contacts.iter().max_by_key(|contact| contact.account).unwrap();
    pair.command(Who::A, Command::Block(last.account)).unwrap();
    assert!(pair.run_until(60_000, |pair| !is_telling(pair)));
    assert_eq!(told(&pair), SOME - 2);
    let blocked: Contact = pair.row(Who::A, &Key::Contact(last.account)).unwrap();
    assert_eq!(blocked.state, ContactState::Blocked);
}
