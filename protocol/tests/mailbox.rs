//! What a relay does, case by case.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, also in its own functions")]

#[path = "common/relay.rs"]
mod people;

use bytes::Bytes;
use kith_protocol::crypto::envelope::envelope_id;
use kith_protocol::mailbox::{
    ABANDONED, Load, Outcome, Policy, TokenRow, Usage, WriteJob, WriteKind, token_key,
};
use kith_protocol::testing::TestRelay;
use kith_protocol::wire::relay::{AccessMode, Answer, Ask, OpenMailbox, RefusalCode};
use kith_protocol::{DeviceId, EnvelopeId, Mono, Now, Wall, limits};
use people::*;

const T: u64 = 1_800_000_000_000;
const HOUR_S: u32 = 3600;

fn at(millis: u64) -> Now {
    Now { wall: Wall(T + millis), mono: Mono(millis) }
}

fn now() -> Now {
    at(0)
}

fn relay(policy: Policy) -> TestRelay {
    TestRelay::new([1; 32], policy, now())
}

/// A relay, an owner with right 1 in force, and somebody to deposit.
fn open_relay(policy: Policy) -> (TestRelay, Owner, kith_protocol::engine::LinkId) {
    let mut relay = relay(policy);
    let owner = Owner::new(&mut relay, 2, now());
    assert!(owner.open(&mut relay, now()).created);
    assert_eq!(refused(&owner.put(&mut relay, vec![owner.spec(1)], now())), None);
    let link = stranger(&mut relay, now());
    (relay, owner, link)
}

#[test]
fn a_deposit_is_in_custody_listed_fetched_and_collected_once() {
    let (mut relay, owner, link) = open_relay(Policy::default());
    let letter = envelope("letter", 512);
    let id = envelope_id(&letter);
    let deposit = owner.deposit(1, &letter, HOUR_S);
    let custody = custody(&ask(&mut relay, link, Ask::Deposit(deposit.clone()), now()));
    assert_eq!((custody.relay, custody.mailbox, custody.envelope), (relay.id(), owner.mailbox, id));
    assert_eq!((custody.size, custody.stored_at, custody.expires_at), (512, Wall(T), Wall(T + limits::HOUR)));
    // again, later: the same receipt, nothing twice
    let again = ask(&mut relay, link, Ask::Deposit(deposit.clone()), at(5000));
    assert_eq!(people::custody(&again), custody);
    assert_eq!(listed(&owner.list(&mut relay, 0, 10, now())), [(id, owner.right(1).id, 1)]);
    let get = Ask::Get { mailbox: owner.mailbox, envelopes: vec![id, EnvelopeId([9; 16])] };
    let Answer::Envelopes { envelopes, missing, more: false } = ask(&mut relay, owner.link, get, now())
    else {
        panic!("no envelopes");
    };
    assert_eq!((envelopes[0].envelope.clone(), missing), (letter, vec![EnvelopeId([9; 16])]));
    let Answer::Opened(state) = owner.collect(&mut relay, vec![id, id], now()) else {
        panic!("not collected")
    };
    assert_eq!((state.bytes, state.items, state.newest), (0, 0, 1));
    assert_eq!(listed(&owner.list(&mut relay, 0, 10, now())), []);
    // a late copy does not rise again, and proves nothing
    assert_eq!(ask(&mut relay, link, Ask::Deposit(deposit.clone()), now()), Answer::Collected(id));
    assert_eq!(relay.audit(), []);
    // until its time is over
    relay.tick(at(2 * limits::HOUR));
    assert_eq!((relay.rows().totals().tombstones, relay.audit()), (0, vec![]));
    people::custody(&ask(&mut relay, link, Ask::Deposit(deposit), at(2 * limits::HOUR)));
}

#[test]
fn custody_that_is_asked_for_anew_lasts_longer_and_a_repeated_deposit_changes_nothing() {
    let (mut relay, owner, link) = open_relay(Policy { ttl: 10 * 3600, ..Policy::default() });
    owner.put(&mut relay, vec![owner.spec(1)], now());
    let letter = envelope("letter", 512);
    let hours = |hours: u64| at(hours * limits::HOUR);
    let deposit = |relay: &mut TestRelay, ttl: u32, when| {
        ask(relay, link, Ask::Deposit(owner.deposit(1, &letter, ttl * 3600)), when)
    };
    let first = deposit(&mut relay, 10, hours(0));
    assert_eq!(deposit(&mut relay, 10, hours(4)), first, "more than half of it is left");
    let renewed = custody(&deposit(&mut relay, 10, hours(6)));
    assert_eq!(
        (renewed.stored_at, renewed.expires_at),
        (Wall(T + 6 * limits::HOUR), Wall(T + 16 * limits::HOUR))
    );
    assert_eq!(refused(&deposit(&mut relay, 100, hours(6))), Some(RefusalCode::TtlTooLong));
    // the end it had before passes
    relay.tick(hours(12));
    assert_eq!((listed(&owner.list(&mut relay, 0, 10, hours(12))).len(), relay.audit()), (1, Vec::new()));
    // whose right is gone renews nothing
    let mut ended = owner.spec(1);
    ended.lifetime = 3600;
    owner.put(&mut relay, vec![ended], hours(12));
    assert_eq!(custody(&deposit(&mut relay, 10, hours(14))), renewed);
    relay.tick(hours(17));
    assert_eq!((listed(&owner.list(&mut relay, 0, 10, hours(17))).len(), relay.audit()), (0, Vec::new()));
}

#[test]
fn only_who_proves_the_read_key_on_this_link_may_look() {
    let (mut relay, owner, link) = open_relay(Policy::default());
    let asks = |mailbox| {
        [
            Ask::List { mailbox, after: 0, max: 1 },
            Ask::Wait { mailbox, after: 0, max: 1, deadline: 1 },
            Ask::Get { mailbox, envelopes: vec![] },
            Ask::Collect { mailbox, envelopes: vec![] },
            Ask::SetRights { mailbox, put: vec![], revoke: vec![] },
            Ask::PutBundle { mailbox, bundle: None, lifetime: 0, one_time_keys: vec![], replace: true },
        ]
    };
    for wanted in asks(owner.mailbox) {
        let answer = ask(&mut relay, link, wanted, now());
        assert_eq!(refused(&answer), Some(RefusalCode::NotOpened));
    }
    // a signature made for another link
    let elsewhere = Owner::new(&mut relay, 2, now());
    let signature = kith_protocol::crypto::right::sign_open(&owner.key, &relay.id(), &[7; 32]);
    let open = OpenMailbox { read_key: owner.key.public(), signature, token: Bytes::new() };
    let answer = ask(&mut relay, elsewhere.link, Ask::Open(open), now());
    assert_eq!(refused(&answer), Some(RefusalCode::WrongSignature));
    assert!(!elsewhere.open(&mut relay, now()).created);
}

#[test]
fn forged_guessed_and_foreign_rights_are_refused() {
    let (mut relay, owner, link) = open_relay(Policy::default());
    let letter = envelope("letter", 256);
    let good = owner.deposit(1, &letter, HOUR_S);
    let mut try_it = |deposit| refused(&ask(&mut relay, link, Ask::Deposit(deposit), now())).unwrap();
    assert_eq!(try_it(owner.deposit(9, &letter, HOUR_S)), RefusalCode::RightUnknown);
    let mut forged = good.clone();
    forged.mac = owner.deposit(9, &letter, HOUR_S).mac;
    assert_eq!(try_it(forged), RefusalCode::WrongMac);
    let mut longer = good.clone();
    longer.ttl += 1;
    assert_eq!(try_it(longer), RefusalCode::WrongMac);
    let mut other_letter = good.clone();
    other_letter.envelope = envelope("other", 256);
    assert_eq!(try_it(other_letter), RefusalCode::Malformed);
    let mut other_mailbox = good;
    other_mailbox.mailbox = kith_protocol::MailboxId([9; 16]);
    assert_eq!(try_it(other_mailbox), RefusalCode::MailboxUnknown);
    assert_eq!(try_it(owner.deposit(1, &envelope("odd", 300), HOUR_S)), RefusalCode::Malformed);
    assert_eq!(try_it(owner.deposit(1, &letter, 0)), RefusalCode::Malformed);
    assert_eq!(try_it(owner.deposit(1, &letter, 31 * 24 * HOUR_S)), RefusalCode::TtlTooLong);
    assert_eq!(relay.rows().totals().envelopes, 0);
}

#[test]
fn a_right_ends_by_use_by_time_and_by_revocation_and_each_is_told() {
    let (mut relay, owner, link) = open_relay(Policy::default());
    let mut twice = owner.spec(2);
    twice.deposits = 2;
    let mut short = owner.spec(3);
    short.lifetime = 60;
    owner.put(&mut relay, vec![twice, short], now());
    let deposit = |relay: &mut TestRelay, right, text, now| {
        let deposit = owner.deposit(right, &envelope(text, 256), HOUR_S);
        refused(&ask(relay, link, Ask::Deposit(deposit), now))
    };
    assert_eq!(deposit(&mut relay, 2, "a", now()), None);
    assert_eq!(deposit(&mut relay, 2, "b", now()), None);
    assert_eq!(deposit(&mut relay, 2, "c", now()), Some(RefusalCode::RightUsedUp));
    // what is in custody stays in custody
    assert_eq!(deposit(&mut relay, 2, "a", now()), None);
    assert_eq!(deposit(&mut relay, 3, "d", at(59_999)), None);
    assert_eq!(deposit(&mut relay, 3, "e", at(60_000)), Some(RefusalCode::RightExpired));
    assert_eq!(deposit(&mut relay, 1, "f", now()), None);
    owner.revoke(&mut relay, 1, now());
    assert_eq!(deposit(&mut relay, 1, "f", now()), Some(RefusalCode::RightRevoked));
    assert_eq!(relay.rows().totals().envelopes, 4);
    relay.tick(now());
    // what was stored under the revoked right is gone, the rest is not
    let left: Vec<_> =
        listed(&owner.list(&mut relay, 0, 10, now())).iter().map(|(_, right, _)| *right).collect();
    assert_eq!(left, [owner.right(2).id, owner.right(2).id, owner.right(3).id]);
    assert_eq!(relay.audit(), []);
    // a month later nobody remembers it
    relay.tick(at(31 * limits::DAY));
    assert_eq!(deposit(&mut relay, 1, "g", at(31 * limits::DAY)), Some(RefusalCode::RightUnknown));
    assert_eq!(relay.audit(), []);
}

#[test]
fn a_right_without_end_ends_half_a_year_after_the_owners_last_visit() {
    let (mut relay, owner, link) = open_relay(Policy::default());
    let deposit = |relay: &mut TestRelay, text, now| {
        let deposit = owner.deposit(1, &envelope(text, 256), HOUR_S);
        refused(&ask(relay, link, Ask::Deposit(deposit), now))
    };
    let later = at(100 * limits::DAY);
    owner.open(&mut relay, later);
    assert_eq!(deposit(&mut relay, "a", at(279 * limits::DAY)), None);
    assert_eq!(deposit(&mut relay, "b", at(280 * limits::DAY)), Some(RefusalCode::RightExpired));
    // and when nothing can be left, the mailbox goes
    relay.tick(at(100 * limits::DAY + ABANDONED));
    assert_eq!(relay.rows().totals().mailboxes, 1);
    relay.tick(at(102 * limits::DAY + ABANDONED));
    assert_eq!(relay.rows().totals(), Default::default());
    assert_eq!((relay.rows().iter().count(), relay.audit()), (0, vec![]));
}

#[test]
fn every_quota_holds_to_the_byte_and_to_the_item() {
    let mut policy = Policy { mailbox: Usage { bytes: 1024, items: 3 }, ..Policy::default() };
    policy.kinds[1] = Usage { bytes: 0, items: 1 };
    let (mut relay, owner, link) = open_relay(policy);
    let mut bounded = owner.spec(2);
    (bounded.bytes, bounded.items) = (256, 1);
    owner.put(&mut relay, vec![bounded], now());
    let deposit = |relay: &mut TestRelay, right, text, len| {
        let deposit = owner.deposit(right, &envelope(text, len), HOUR_S);
        refused(&ask(relay, link, Ask::Deposit(deposit), now()))
    };
    assert_eq!(deposit(&mut relay, 1, "a", 512), None);
    assert_eq!(deposit(&mut relay, 1, "b", 512), Some(RefusalCode::ClassFull));
    assert_eq!(deposit(&mut relay, 1, "c", 1024), Some(RefusalCode::MailboxFull));
    assert_eq!(deposit(&mut relay, 2, "d", 256), None);
    assert_eq!(deposit(&mut relay, 2, "e", 256), Some(RefusalCode::RightFull));
    assert_eq!(deposit(&mut relay, 1, "f", 256), None);
    // 1,024 bytes, three items: both are reached
    assert_eq!(deposit(&mut relay, 1, "g", 256), Some(RefusalCode::MailboxFull));
    owner.collect(&mut relay, vec![envelope_id(&envelope("f", 256))], now());
    assert_eq!(deposit(&mut relay, 1, "g", 256), None);
    assert_eq!(relay.audit(), []);
}

#[test]
fn a_full_relay_refuses_and_does_not_evict() {
    let policy = Policy { total_bytes: 600, mailboxes: 1, ..Policy::default() };
    let (mut relay, owner, link) = open_relay(policy);
    let other = Owner::new(&mut relay, 3, now());
    assert_eq!(refused(&other.open_with(&mut relay, b"", now())), Some(RefusalCode::RelayFull));
    let deposit = |relay: &mut TestRelay, text| {
        let deposit = owner.deposit(1, &envelope(text, 256), HOUR_S);
        refused(&ask(relay, link, Ask::Deposit(deposit), now()))
    };
    assert_eq!(deposit(&mut relay, "a"), None);
    assert_eq!(deposit(&mut relay, "b"), None);
    assert_eq!(deposit(&mut relay, "c"), Some(RefusalCode::RelayFull));
    assert_eq!(listed(&owner.list(&mut relay, 0, 9, now())).len(), 2);
}

#[test]
fn a_wait_is_answered_at_once_on_arrival_or_at_its_deadline() {
    let (mut relay, owner, link) = open_relay(Policy::default());
    let wait = |after| Ask::Wait { mailbox: owner.mailbox, after, max: 5, deadline: 1000 };
    assert_eq!(ask_all(&mut relay, owner.link, 1, wait(0), now()), []);
    let deposit = |text: &str| Ask::Deposit(owner.deposit(1, &envelope(text, 256), HOUR_S));
    let answers = ask_all(&mut relay, link, 2, deposit("a"), now());
    assert_eq!(
        answers.iter().map(|(to, id, _)| (*to, *id)).collect::<Vec<_>>(),
        [(link, 2), (owner.link, 1)]
    );
    assert_eq!(listed(&answers[1].2).len(), 1);
    // at once
    assert_eq!(ask_all(&mut relay, owner.link, 3, wait(0), now()).len(), 1);
    // beyond it there is nothing; a copy of what is there is no arrival
    assert_eq!(ask_all(&mut relay, owner.link, 4, wait(1), at(500)), []);
    assert_eq!(ask_all(&mut relay, link, 5, deposit("a"), at(600)).len(), 1);
    assert_eq!(relay.next_deadline(), Some(Mono(1500)));
    let ended = relay.tick(at(1500));
    let (to, id, answer) = decoded(ended[0].0, &ended[0].1);
    assert_eq!((to, id, listed(&answer)), (owner.link, 4, vec![]));
    // gone with its link
    assert_eq!(ask_all(&mut relay, owner.link, 6, wait(1), now()), []);
    relay.disconnect(owner.link);
    assert_eq!((relay.next_deadline(), ask_all(&mut relay, link, 7, deposit("b"), now()).len()), (None, 1));
}

#[test]
fn one_time_keys_are_given_once_and_only_so_many_to_one_right_a_day() {
    let (mut relay, owner, link) = open_relay(Policy::default());
    owner.put(&mut relay, vec![owner.spec(2)], now());
    let take = |relay: &mut TestRelay, right, now| ask(relay, link, owner.take_bundle(right, 1), now);
    assert_eq!(refused(&take(&mut relay, 1, now())), Some(RefusalCode::NoBundle));
    let put = |keys: std::ops::Range<u8>, replace| Ask::PutBundle {
        mailbox: owner.mailbox,
        bundle: Some(Bytes::from_static(b"bundle")),
        lifetime: 14 * 86_400,
        one_time_keys: keys.map(|n| [n; 32]).collect(),
        replace,
    };
    let Answer::Opened(state) = ask(&mut relay, owner.link, put(0..20, false), now()) else { panic!() };
    assert_eq!((state.one_time_keys, state.bundle_left), (20, 14 * 86_400));
    assert_eq!(refused(&ask(&mut relay, owner.link, put(0..81, false), now())), Some(RefusalCode::TooMany));
    let mut given = std::collections::BTreeSet::new();
    for (right, now) in (0..10).map(|_| (1, now())).chain((0..9).map(|_| (2, now()))) {
        let Answer::Bundle { bundle, one_time_key } = take(&mut relay, right, now) else {
            panic!("no bundle")
        };
        assert_eq!(bundle, b"bundle".as_slice());
        given.extend(one_time_key);
    }
    assert_eq!(given.len(), 16);
    let Answer::Bundle { one_time_key: Some(key), .. } = take(&mut relay, 1, at(limits::DAY)) else {
        panic!()
    };
    assert!(!given.contains(&key));
    assert_eq!(relay.audit(), []);
    ask(&mut relay, owner.link, put(50..51, true), at(limits::DAY));
    let Answer::Bundle { one_time_key, .. } = take(&mut relay, 2, at(limits::DAY)) else { panic!() };
    assert_eq!(one_time_key, Some([50; 32]));
    let Answer::Bundle { one_time_key, .. } = take(&mut relay, 2, at(limits::DAY)) else { panic!() };
    assert_eq!(one_time_key, None);
    assert_eq!(refused(&take(&mut relay, 2, at(16 * limits::DAY))), Some(RefusalCode::NoBundle));
    assert_eq!(relay.audit(), []);
}

fn operator(relay: &mut TestRelay, kind: WriteKind) -> Outcome {
    relay.decide(&WriteJob { link: None, request: 0, kind }, now())
}

#[test]
fn who_may_make_a_mailbox_is_the_operators_to_say() {
    let mut relay = relay(Policy { mode: AccessMode::Token, ..Policy::default() });
    let owner = Owner::new(&mut relay, 2, now());
    let denied = |answer: &Answer| refused(answer).unwrap();
    assert_eq!(denied(&owner.open_with(&mut relay, b"", now())), RefusalCode::TokenNeeded);
    assert_eq!(denied(&owner.open_with(&mut relay, b"word", now())), RefusalCode::TokenNeeded);
    let token = TokenRow {
        version: 0,
        label: "friends".into(),
        created: Wall(T),
        uses_left: 1,
        used: 0,
        expires: Some(Wall(T + 1000)),
        revoked: false,
    };
    let key = token_key(b"word");
    assert_eq!(operator(&mut relay, WriteKind::PutToken(key, token.clone())), Outcome::Operator(true));
    assert_eq!(denied(&owner.open_with(&mut relay, b"word", at(1000))), RefusalCode::TokenNeeded);
    assert_eq!(refused(&owner.open_with(&mut relay, b"word", now())), None);
    // a mailbox that is there needs none
    assert_eq!(refused(&owner.open_with(&mut relay, b"", now())), None);
    let other = Owner::new(&mut relay, 3, now());
    assert_eq!(denied(&other.open_with(&mut relay, b"word", now())), RefusalCode::TokenNeeded);
    operator(&mut relay, WriteKind::PutToken(key, token));
    operator(&mut relay, WriteKind::RevokeToken(key));
    assert_eq!(denied(&other.open_with(&mut relay, b"word", now())), RefusalCode::TokenNeeded);

    let mut policy = Policy { mode: AccessMode::AllowList, ..Policy::default() };
    relay.mailbox().set_policy(policy.clone());
    assert_eq!(denied(&other.open_with(&mut relay, b"", now())), RefusalCode::NotAllowed);
    policy.allowed.insert(DeviceId([3; 32]));
    relay.mailbox().set_policy(policy.clone());
    assert_eq!(refused(&other.open_with(&mut relay, b"", now())), None);

    other.put(&mut relay, vec![other.spec(1)], now());
    policy.mode = AccessMode::Closed;
    relay.mailbox().set_policy(policy);
    let third = Owner::new(&mut relay, 4, now());
    assert_eq!(denied(&third.open_with(&mut relay, b"", now())), RefusalCode::Closed);
    let deposit = Ask::Deposit(other.deposit(1, &envelope("a", 256), HOUR_S));
    let link = stranger(&mut relay, now());
    assert_eq!(denied(&ask(&mut relay, link, deposit, now())), RefusalCode::Closed);
    assert_eq!(listed(&other.list(&mut relay, 0, 9, now())), []);
}

#[test]
fn load_is_shed_in_the_order_that_is_documented() {
    let (mut relay, owner, link) = open_relay(Policy::default());
    let newcomer = Owner::new(&mut relay, 3, now());
    let small = |n: u8| Ask::Deposit(owner.deposit(1, &envelope(&format!("s{n}"), 256), HOUR_S));
    let large = |n: u8| Ask::Deposit(owner.deposit(1, &envelope(&format!("l{n}"), 8192), HOUR_S));
    let mut shed = Vec::new();
    for (n, load) in [Load::Normal, Load::High, Load::Heavy, Load::Critical].into_iter().enumerate() {
        relay.mailbox().set_load(load);
        let n = n as u8;
        let refusals = [
            newcomer.open_with(&mut relay, b"", now()),
            ask(&mut relay, link, large(n), now()),
            ask(&mut relay, link, small(n), now()),
            owner.list(&mut relay, 0, 9, now()),
            owner.collect(&mut relay, vec![envelope_id(&envelope("s0", 256))], now()),
            owner.revoke(&mut relay, 9, now()),
        ];
        let busy = refusals.iter().filter(|answer| match refused(answer) {
            None => false,
            Some(code) => {
                assert_eq!(code, RefusalCode::Busy);
                true
            }
        });
        shed.push(busy.count());
        // the newcomer's mailbox of the first round goes again
        operator(&mut relay, WriteKind::Evict(newcomer.mailbox));
        relay.tick(now());
    }
    assert_eq!(shed, [0, 1, 2, 3]);
}

#[test]
fn an_operator_can_block_and_remove_a_mailbox() {
    let (mut relay, owner, link) = open_relay(Policy::default());
    let deposit = |text: &str| Ask::Deposit(owner.deposit(1, &envelope(text, 256), HOUR_S));
    for n in 0..20 {
        custody(&ask(&mut relay, link, deposit(&format!("{n}")), now()));
    }
    owner.collect(&mut relay, vec![envelope_id(&envelope("3", 256))], now());
    assert_eq!(operator(&mut relay, WriteKind::Block(owner.mailbox, true)), Outcome::Operator(true));
    assert_eq!(refused(&ask(&mut relay, link, deposit("a"), now())), Some(RefusalCode::Blocked));
    assert_eq!(refused(&owner.open_with(&mut relay, b"", now())), Some(RefusalCode::Blocked));
    operator(&mut relay, WriteKind::Block(owner.mailbox, false));
    owner.open(&mut relay, now());
    assert_eq!(operator(&mut relay, WriteKind::Evict(owner.mailbox)), Outcome::Operator(true));
    assert_eq!(refused(&ask(&mut relay, link, deposit("a"), now())), Some(RefusalCode::MailboxUnknown));
    assert_eq!(refused(&owner.open_with(&mut relay, b"", now())), Some(RefusalCode::Busy));
    // also while it is half done, and after a restart in between, the sums are right
    while relay.upkeep(now()) {
        assert_eq!(relay.audit(), []);
        relay.restart(now());
    }
    assert_eq!(relay.rows().totals(), Default::default());
    let nothing = kith_protocol::MailboxId([9; 16]);
    assert_eq!(operator(&mut relay, WriteKind::Evict(nothing)), Outcome::Operator(false));
    relay.tick(at(2 * limits::HOUR));
    assert_eq!(relay.rows().iter().count(), 0);
}

#[test]
fn a_jump_of_the_clock_expires_nothing() {
    let (mut relay, owner, link) = open_relay(Policy::default());
    let deposit = |text: &str| Ask::Deposit(owner.deposit(1, &envelope(text, 256), HOUR_S));
    custody(&ask(&mut relay, link, deposit("a"), now()));
    let jumped = |mono| Now { wall: Wall(T + 400 * limits::DAY), mono: Mono(mono) };
    relay.tick(jumped(1000));
    assert_eq!(relay.rows().totals().envelopes, 1);
    // receipts go on with the time there was
    assert_eq!(custody(&ask(&mut relay, link, deposit("b"), jumped(2000))).stored_at, Wall(T + 2000));
    relay.restart(jumped(3000));
    relay.tick(jumped(4000));
    assert_eq!(relay.rows().totals().envelopes, 2);
    relay.mailbox().confirm_clock(jumped(5000));
    relay.tick(jumped(6000));
    assert_eq!((relay.rows().totals().envelopes, relay.audit()), (0, vec![]));
}

#[test]
fn a_large_fetch_comes_in_several_frames_each_within_the_limit() {
    let (mut relay, owner, link) = open_relay(Policy::default());
    let letters: Vec<Bytes> = (0..4).map(|n| envelope(&format!("{n}"), 40_960)).collect();
    for letter in &letters {
        custody(&ask(&mut relay, link, Ask::Deposit(owner.deposit(1, letter, HOUR_S)), now()));
    }
    let mut ids: Vec<EnvelopeId> = letters.iter().map(|letter| envelope_id(letter)).collect();
    ids.extend(
        (0..500_u16).map(|n| EnvelopeId([[n as u8; 8], [(n >> 8) as u8; 8]].concat().try_into().unwrap())),
    );
    let get = Ask::Get { mailbox: owner.mailbox, envelopes: ids };
    let answers = ask_all(&mut relay, owner.link, 5, get, now());
    let mut got = Vec::new();
    for (n, (_, id, answer)) in answers.iter().enumerate() {
        let Answer::Envelopes { envelopes, missing, more } = answer else { panic!("{answer:?}") };
        assert_eq!((*id, *more, missing.len()), (5, n + 1 < answers.len(), if n == 0 { 500 } else { 0 }));
        got.extend(envelopes.iter().map(|stored| stored.envelope.clone()));
    }
    assert_eq!((answers.len(), got), (4, letters));
}

#[test]
fn too_many_requests_at_once_are_refused_until_some_are_answered() {
    let mut relay = relay(Policy::default());
    let link = stranger(&mut relay, now());
    let mailbox = relay.mailbox();
    let request = |id| kith_protocol::wire::relay::RelayRequest {
        id,
        ask: Ask::TakeBundle {
            mailbox: kith_protocol::MailboxId([1; 16]),
            right: kith_protocol::RightId([1; 16]),
            nonce: [1; 16],
            mac: [1; 32],
        },
    };
    let mut jobs = Vec::new();
    for id in 1..=limits::RELAY_REQUESTS as u64 {
        match mailbox.accept(link, request(id), now()) {
            kith_protocol::mailbox::Accepted::Write(job) => jobs.push(job),
            other => panic!("{other:?}"),
        }
    }
    let kith_protocol::mailbox::Accepted::Reply(reply) = mailbox.accept(link, request(99), now()) else {
        panic!("not refused");
    };
    assert_eq!(refused(&reply.answer), Some(RefusalCode::Busy));
    mailbox.fail(link, jobs[0].request);
    assert!(matches!(mailbox.accept(link, request(100), now()), kith_protocol::mailbox::Accepted::Write(_)));
}
