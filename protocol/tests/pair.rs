//! Two engines against each other: the main path, and what goes wrong on it.

use kith_protocol::engine::{Answer, Command, CommandError};
use kith_protocol::limits;
use kith_protocol::record::{Contact, ContactState, EventBody, Key, Rank};
use kith_protocol::testing::{Pair, Weather, Who};

#[test]
fn two_strangers_become_contacts_by_an_invite() {
    let pair = Pair::friends(1, Weather::FAIR);
    pair.check();
}

#[test]
fn a_message_is_queued_delivered_and_read() {
    let mut pair = Pair::friends(2, Weather::FAIR);
    let id = pair.send(Who::A, "hello Ben").expect("sent");
    assert!(pair.run_until(5_000, Pair::all_delivered));
    let there = pair.history(Who::B);
    assert_eq!(there.len(), 1);
    assert_eq!(there[0].text, "hello Ben");
    let with = pair.side(Who::A).account;
    pair.command(Who::B, Command::MarkRead { with, up_to: None }).expect("marked");
    let read = |pair: &Pair| pair.history(Who::A)[0].rank == Rank::Read;
    assert!(pair.run_until(5_000, read), "{:?}", pair.history(Who::A));
    assert_eq!(pair.history(Who::A)[0].id, id);
    pair.check();
    pair.check_same_history();
}

#[test]
fn what_was_written_while_the_other_was_off_arrives_once_in_order() {
    let mut pair = Pair::friends(3, Weather::FAIR);
    pair.stop(Who::B);
    for number in 0..1000 {
        pair.send(Who::A, &format!("line {number}")).expect("sent");
    }
    pair.check();
    pair.start(Who::B);
    assert!(pair.run_until(600_000, Pair::all_delivered));
    let texts: Vec<String> = pair.history(Who::B).into_iter().map(|entry| entry.text).collect();
    let wanted: Vec<String> = (0..1000).map(|number| format!("line {number}")).collect();
    assert_eq!(texts, wanted);
    pair.check();
}

#[test]
fn both_write_first_at_the_same_moment() {
    let mut pair = Pair::friends(4, Weather::FAIR);
    pair.set_network(false);
    for number in 0..20 {
        pair.send(Who::A, &format!("a{number}"));
        pair.send(Who::B, &format!("b{number}"));
    }
    pair.set_network(true);
    assert!(pair.run_until(600_000, Pair::all_delivered));
    pair.check_same_history();
    pair.check();
}

#[test]
fn foul_weather_loses_repeats_and_reorders_but_nothing_is_lost() {
    for seed in 10..16 {
        let mut pair = Pair::friends(seed, Weather::FOUL);
        for number in 0..60 {
            pair.send(Who::A, &format!("a{number}"));
            if number % 3 == 0 {
                pair.send(Who::B, &format!("b{number}"));
            }
            pair.run_for(200);
        }
        assert!(pair.run_until(3_600_000, Pair::all_delivered), "seed {seed}");
        pair.check_same_history();
        pair.check();
    }
}

#[test]
fn edits_deletes_and_reactions_reach_the_other_side() {
    let mut pair = Pair::friends(5, Weather::FAIR);
    let one = pair.send(Who::A, "frist").expect("sent");
    let two = pair.send(Who::A, "regret").expect("sent");
    pair.command(Who::A, Command::Edit { target: one, text: "first".into() }).expect("edited");
    pair.command(Who::A, Command::Delete { target: two }).expect("deleted");
    assert!(pair.run_until(10_000, |pair| {
        let there = pair.history(Who::B);
        there.len() == 2 && there[0].text == "first" && there[1].deleted && there[1].text.is_empty()
    }));
    pair.command(Who::B, Command::React { target: one, emoji: "👍".into() }).expect("reacted");
    assert!(pair.run_until(10_000, |pair| pair.history(Who::A)[0].reactions.len() == 1));
    assert!(pair.command(Who::B, Command::Edit { target: one, text: "no".into() }).is_err());
    pair.check_same_history();
    pair.check();
}

#[test]
fn a_client_id_makes_submitting_twice_harmless() {
    let mut pair = Pair::friends(6, Weather::FAIR);
    let client = Some(kith_protocol::ClientId([7; 16]));
    let to = pair.side(Who::B).account;
    let command = Command::Send { to, text: "once".into(), reply_to: None, client };
    let first = pair.command(Who::A, command.clone()).expect("sent");
    let second = pair.command(Who::A, command).expect("sent");
    let (Answer::Sent { entry: one, repeated: false, .. }, Answer::Sent { entry: two, repeated: true, .. }) =
        (first, second)
    else {
        panic!("not sent as expected");
    };
    assert_eq!(one, two);
    assert!(pair.run_until(5_000, Pair::all_delivered));
    assert_eq!(pair.history(Who::B).len(), 1);
}

#[test]
fn a_device_restored_from_an_old_copy_loses_nothing_for_good() {
    for restored in [Who::A, Who::B] {
        let mut pair = Pair::friends(7, Weather::FAIR);
        for number in 0..10 {
            pair.send(Who::A, &format!("a{number}"));
            pair.send(Who::B, &format!("b{number}"));
        }
        assert!(pair.run_until(60_000, Pair::all_delivered));
        let copy = pair.side(restored).disk.copy();
        for number in 10..30 {
            pair.send(Who::A, &format!("a{number}"));
            pair.send(Who::B, &format!("b{number}"));
        }
        assert!(pair.run_until(60_000, Pair::all_delivered));
        pair.stop(restored);
        pair.restore(restored, &copy);
        pair.start(restored);
        pair.run_for(1_000);
        pair.send(Who::A, "after a");
        pair.send(Who::B, "after b");
        let whole = |pair: &Pair| {
            [Who::A, Who::B].into_iter().all(|who| pair.history(who).len() == 62) && pair.all_delivered()
        };
        let done = pair.run_until(3_600_000, whole);
        let counts = [Who::A, Who::B].map(|who| pair.history(who).len());
        assert!(done, "{restored:?}: {counts:?} of 62");
        pair.check_same_history();
    }
}

#[test]
fn a_blocked_contact_stays_out_until_unblocked() {
    let mut pair = Pair::friends(8, Weather::FAIR);
    let (a, b) = (pair.side(Who::A).account, pair.side(Who::B).account);
    pair.command(Who::A, Command::Block(b)).expect("blocked");
    let id = pair.send(Who::B, "are you there?").expect("queued");
    pair.run_for(120_000);
    assert_eq!(pair.history(Who::A).len(), 0);
    let entry: kith_protocol::record::Entry = pair.row(Who::B, &Key::Entry(id)).expect("stored");
    assert_eq!(entry.rank, Rank::Queued);
    pair.command(Who::A, Command::Unblock(b)).expect("unblocked");
    assert!(pair.run_until(3_600_000, Pair::all_delivered));
    assert_eq!(pair.history(Who::A).len(), 1);
    assert!(pair.command(Who::B, Command::Block(a)).is_ok());
    pair.check();
}

#[test]
fn an_invite_is_used_once() {
    let mut pair = Pair::new(9, Weather::FAIR);
    let Ok(Answer::Invite { uri, id, .. }) =
        pair.command(Who::A, Command::CreateInvite { uses: 1, ttl: 86_400_000 })
    else {
        panic!("no invite");
    };
    pair.command(Who::A, Command::RevokeInvite(id)).expect("revoked");
    pair.command(Who::B, Command::AcceptInvite { uri }).expect("accepting");
    let a = pair.side(Who::A).account;
    let refused = |pair: &Pair| {
        let contact: Option<Contact> = pair.row(Who::B, &Key::Contact(a));
        contact.is_some_and(|contact| contact.state == ContactState::Refused)
    };
    assert!(pair.run_until(60_000, refused));
    assert!(!pair.are_contacts());
    pair.check();
}

#[test]
fn a_message_nobody_confirms_expires_after_thirty_days() {
    let mut pair = Pair::friends(11, Weather::FAIR);
    pair.stop(Who::B);
    pair.send(Who::A, "into the void").expect("queued");
    pair.run_for(29 * 86_400_000);
    assert_eq!(pair.history(Who::A)[0].rank, Rank::Queued);
    pair.run_for(2 * 86_400_000);
    assert_eq!(pair.history(Who::A)[0].rank, Rank::Expired);
    pair.check();
}

#[test]
fn a_removed_contact_cannot_come_back_by_the_old_invite() {
    let mut pair = Pair::new(12, Weather::FAIR);
    let command = Command::CreateInvite { uses: 5, ttl: 86_400_000 };
    let Ok(Answer::Invite { uri, .. }) = pair.command(Who::A, command) else { panic!("no invite") };
    pair.command(Who::B, Command::AcceptInvite { uri: uri.clone() }).expect("accepting");
    assert!(pair.run_until(60_000, Pair::are_contacts));
    let (a, b) = (pair.side(Who::A).account, pair.side(Who::B).account);
    pair.command(Who::A, Command::RemoveContact(b)).expect("removed");
    pair.command(Who::B, Command::RemoveContact(a)).expect("removed");
    pair.cut();
    pair.command(Who::B, Command::AcceptInvite { uri }).expect("accepting");
    pair.run_for(600_000);
    let contact: Contact = pair.row(Who::A, &Key::Contact(b)).expect("known");
    assert_eq!(contact.state, ContactState::Removed);
    let contact: Contact = pair.row(Who::B, &Key::Contact(a)).expect("known");
    assert_eq!(contact.state, ContactState::Refused);
}

#[test]
fn removing_a_contact_ends_a_long_queue_in_small_batches_and_says_why() {
    const QUEUED: usize = 1_500;
    let mut pair = Pair::friends(13, Weather::FAIR);
    pair.stop(Who::B);
    for number in 0..QUEUED {
        pair.send(Who::A, &number.to_string()).expect("queued");
    }
    let b = pair.side(Who::B).account;
    pair.command(Who::A, Command::RemoveContact(b)).expect("removed");
    // a stop in the middle of it: what is left is ended after the next start
    pair.crash(Who::A);
    let ended = |pair: &Pair| pair.history(Who::A).iter().all(|entry| entry.rank == Rank::Expired);
    let done = (0..60).any(|_| {
        pair.run_for(1_000);
        ended(&pair)
    });
    assert!(done);
    assert!(pair.largest_batch() < 5_000, "{} rows in one batch", pair.largest_batch());
    let said = pair.side(Who::A).events.iter().any(|event| {
        matches!(&event.body, EventBody::Notice { code, text, .. }
            if code == "expired" && text.contains("removed") && !text.contains("30 days"))
    });
    assert!(said, "no notice says that the contact was removed");
    pair.check();
}

#[test]
fn what_a_contact_sent_and_nobody_understands_is_not_dropped_silently() {
    use kith_protocol::crypto::{envelope, session};
    use kith_protocol::record::{EventBody, KeyRange, Peer, Reader as _, Record as _, Session};
    use kith_protocol::testing::vectors::FixedRng;

    let mut pair = Pair::friends(14, Weather::FAIR);
    pair.send(Who::B, "sense");
    assert!(pair.run_until(5_000, Pair::all_delivered));
    let a = pair.side(Who::A).device;
    let rows = pair.side(Who::B).disk.range(&KeyRange::Sessions(a), None, 10).expect("readable");
    let mut sending = rows.into_iter().find_map(Session::from_row).expect("a session");
    let peer: Peer = pair.row(Who::B, &Key::Peer(a)).expect("known");
    let mut rng = FixedRng::new("nonsense");
    for _ in 0..2 {
        let content = session::encrypt(&mut sending, b"\xff\xff\xff", &mut rng).expect("sealed");
        let right = peer.right_received.as_ref().expect("a right");
        let bytes = envelope::seal(right, &content, &mut rng).expect("sealed");
        pair.inject(Who::A, kith_protocol::wire::Frame::Envelope(bytes).encode());
    }
    let told = pair.side(Who::A).events.iter().filter(|event| {
        matches!(&event.body, EventBody::Notice { code, text, .. } if code == "unreadable" && text.contains("Ben"))
    });
    assert_eq!(told.count(), 1);
}

#[test]
fn an_edit_and_a_deletion_are_told_of_once_they_have_arrived() {
    let mut pair = Pair::friends(21, Weather::FAIR);
    let edited = pair.send(Who::A, "first").expect("sent");
    let deleted = pair.send(Who::A, "second").expect("sent");
    assert!(pair.run_until(5_000, Pair::all_delivered));
    pair.set_network(false);
    pair.command(Who::A, Command::Edit { target: edited, text: "changed".into() }).expect("edited");
    pair.command(Who::A, Command::Delete { target: deleted }).expect("deleted");
    let told = |pair: &Pair, id| {
        let events = &pair.side(Who::A).events;
        events
            .iter()
            .filter(|event| matches!(event.body, EventBody::Changed { entry, .. } if entry == id))
            .count()
    };
    // once when it was done here
    assert_eq!((told(&pair, edited), told(&pair, deleted)), (1, 1));
    pair.set_network(true);
    let both = |pair: &Pair| told(pair, edited) == 2 && told(pair, deleted) == 2;
    assert!(pair.run_until(600_000, both), "and once when it had arrived");
    assert_eq!(pair.history(Who::B)[0].text, "changed");
    assert!(pair.history(Who::B)[1].deleted);
}

#[test]
fn when_somebody_was_last_seen_is_known_after_a_stop_of_ones_own() {
    let mut pair = Pair::friends(22, Weather::FAIR);
    pair.run_for(3_600_000);
    pair.cut();
    assert!(pair.run_until(60_000, Pair::is_linked));
    pair.run_for(1_000);
    let met = pair.now(Who::A).wall;
    pair.crash(Who::A);
    let contact: Contact = pair.row(Who::A, &Key::Contact(pair.side(Who::B).account)).expect("a contact");
    let seen = contact.last_seen.expect("was seen");
    assert!(met.since(seen) < 60_000, "seen {} ms before", met.since(seen));
}

#[test]
fn an_invite_whose_time_is_over_is_refused_with_both_times() {
    let mut pair = Pair::new(21, Weather::FAIR);
    let Ok(Answer::Invite { uri, expires, .. }) =
        pair.command(Who::A, Command::CreateInvite { uses: 1, ttl: limits::MINUTE })
    else {
        panic!("an invite is always granted");
    };
    pair.skew(Who::B, 2 * limits::MINUTE as i64);
    let now = pair.now(Who::B).wall;
    let refused = pair.command(Who::B, Command::AcceptInvite { uri: uri.clone() });
    assert_eq!(refused, Err(CommandError::InviteExpired { expired: expires, now }));
    // the clock was wrong, and is set right
    pair.skew(Who::B, 0);
    assert!(matches!(
        pair.command(Who::B, Command::AcceptInvite { uri }),
        Ok(Answer::Accepted { state: ContactState::Waiting, .. })
    ));
}
