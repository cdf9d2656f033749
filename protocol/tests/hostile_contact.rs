//! What a contact with a program of its own can do to us: B is the hostile one.

use kith_protocol::engine::{Answer, Command};
use kith_protocol::entry::{self, Body};
use kith_protocol::identity::direct_conversation;
use kith_protocol::record::{Entry, JobBody, Key, Rank, Stream};
use kith_protocol::testing::{Pair, Weather, Who};
use kith_protocol::wire::{Frame, Frontier, PayloadBody, StreamHead};
use kith_protocol::{AccountId, ConversationId, DeviceId, EntryId, StreamId, Wall, limits};

fn friends(seed: u64) -> Pair {
    Pair::friends(seed, Weather::FAIR)
}

fn conversation(pair: &Pair) -> ConversationId {
    direct_conversation(&pair.side(Who::A).account, &pair.side(Who::B).account)
}

/// An entry as `author` would write it.
fn made(
    pair: &Pair,
    (account, device): (AccountId, DeviceId),
    stream: StreamId,
    number: u64,
    order: u64,
    body: Body,
) -> (EntryId, bytes::Bytes) {
    entry::encode(&entry::Entry {
        conversation: conversation(pair),
        account,
        device,
        stream,
        number,
        previous: None,
        parents: Vec::new(),
        time: Wall(order.min(1_790_000_000_000)),
        order,
        body,
    })
}

fn ids(pair: &Pair, who: Who) -> (AccountId, DeviceId) {
    (pair.side(who).account, pair.side(who).device)
}

fn text(text: &str) -> Body {
    Body::Text { text: text.to_owned(), reply_to: None }
}

/// A wrote ten messages, and B has them.
fn ten_messages(pair: &mut Pair) -> Vec<Entry> {
    for number in 0..10 {
        assert!(pair.send(Who::A, &format!("message {number}")).is_some());
    }
    assert!(pair.run_until(10_000, Pair::all_delivered));
    pair.history(Who::A)
}

#[test]
fn asking_for_the_same_entries_again_and_again_fills_no_queue() {
    let mut pair = friends(1);
    let sent = ten_messages(&mut pair);
    for _ in 0..100 {
        pair.whisper(
            Who::B,
            PayloadBody::EntryRequest {
                conversation: conversation(&pair),
                stream: sent[0].stream,
                ranges: vec![(1, 10)],
            },
        );
    }
    // B's envelopes reach A; B never confirms what A sends
    assert!(pair.run_until(60_000, Pair::is_linked));
    pair.run_until(2_000, |pair| pair.jobs(Who::A).len() > 10);
    let resends =
        |pair: &Pair| pair.jobs(Who::A).iter().filter(|job| matches!(job.body, JobBody::Resend(_))).count();
    pair.run_for(15);
    let most = limits::IN_FLIGHT + limits::REQUESTED;
    assert!(resends(&pair) <= most, "{} resends wait for ten entries", resends(&pair));
}

#[test]
fn a_receipt_that_falls_back_again_and_again_fills_no_queue() {
    let mut pair = friends(2);
    let sent = ten_messages(&mut pair);
    for _ in 0..200 {
        let low = Frontier {
            stream: sent[0].stream,
            delivered: 1,
            hash: Some(sent[0].id),
            read: 0,
            beyond: Vec::new(),
        };
        pair.inject(Who::A, Frame::Frontiers(vec![low]).encode());
    }
    let most = limits::IN_FLIGHT + limits::REQUESTED;
    assert!(pair.jobs(Who::A).len() <= most, "{} jobs for nine entries", pair.jobs(Who::A).len());
}

#[test]
fn invented_streams_do_not_keep_the_gaps_of_others_from_being_repaired() {
    let mut pair = friends(3);
    for round in 0..200_u64 {
        let heads = (0..64_u64)
            .map(|number| {
                let mut stream = [7; 16];
                stream[..8].copy_from_slice(&(round * 64 + number).to_be_bytes());
                StreamHead { conversation: conversation(&pair), stream: StreamId(stream), number: u64::MAX }
            })
            .collect();
        pair.inject(Who::A, Frame::Streams(heads).encode());
    }
    let before = pair.outputs();
    pair.run_for(60_000);
    let spent = pair.outputs() - before;
    assert!(spent <= 64 * 5 * 16, "{spent} outputs in a minute for streams that are not there");
}

#[test]
fn entries_a_contact_gives_back_as_ours_change_none_that_we_hold_unmarked() {
    let mut pair = friends(4);
    let sent = ten_messages(&mut pair);
    let own = ids(&pair, Who::A);
    // B says that A has written in a stream A does not know: A asks for it
    let stream = StreamId([9; 16]);
    let order = sent[9].order + 10;
    let (edit, edit_bytes) = made(
        &pair,
        own,
        stream,
        1,
        order,
        Body::Edit { target: sent[0].id, text: "I owe you a thousand".to_owned() },
    );
    let (_, delete_bytes) = made(&pair, own, stream, 2, order + 1, Body::Delete { target: sent[1].id });
    let claim = Frontier { stream, delivered: 2, hash: Some(edit), read: 0, beyond: Vec::new() };
    pair.inject(Who::A, Frame::Frontiers(vec![claim]).encode());
    pair.whisper(Who::B, PayloadBody::Entry(edit_bytes));
    pair.whisper(Who::B, PayloadBody::Entry(delete_bytes));
    pair.run_for(60_000);
    let history = pair.history(Who::A);
    let find = |id: EntryId| history.iter().find(|entry| entry.id == id).expect("there");
    let (edited, deleted) = (find(sent[0].id), find(sent[1].id));
    assert!(edited.text == "message 0" || edited.recovered, "an edit we never made stands unmarked");
    assert!(!deleted.deleted || deleted.recovered, "a deletion we never made stands unmarked");
    assert!(!deleted.bytes.is_empty(), "what we wrote is gone from our own disk by a contact's word");
}

#[test]
fn a_thousand_reactions_do_not_keep_an_edit_from_being_seen() {
    let mut pair = friends(5);
    let sent = ten_messages(&mut pair);
    let hostile = ids(&pair, Who::B);
    let stream = StreamId([5; 16]);
    for number in 1..=1_100_u64 {
        let body = Body::Reaction {
            target: sent[0].id,
            emoji: if number % 2 == 0 { "👍" } else { "" }.to_owned(),
        };
        let (_, bytes) = made(&pair, hostile, stream, number, 1_790_000_000_000 + number, body);
        pair.whisper(Who::B, PayloadBody::Entry(bytes));
        if number % 200 == 0 {
            pair.run_for(1_000);
        }
    }
    pair.run_for(60_000);
    for round in 0..8 {
        let text = format!("edited {round}");
        pair.command(Who::A, Command::Edit { target: sent[0].id, text: text.clone() }).expect("edited");
        assert_eq!(pair.history(Who::A)[0].text, text);
    }
    pair.command(Who::A, Command::Delete { target: sent[0].id }).expect("deleted");
    assert!(pair.history(Who::A)[0].deleted);
}

#[test]
fn a_message_from_the_end_of_time_does_not_mix_up_what_comes_after_it() {
    let mut pair = friends(6);
    ten_messages(&mut pair);
    let hostile = ids(&pair, Who::B);
    let (_, bytes) = made(&pair, hostile, StreamId([6; 16]), 1, u64::MAX, text("for ever the last"));
    pair.whisper(Who::B, PayloadBody::Entry(bytes));
    pair.run_for(10_000);
    let wanted: Vec<String> = (0..20).map(|number| format!("after {number}")).collect();
    for text in &wanted {
        pair.send(Who::A, text).expect("sent");
    }
    assert!(pair.run_until(60_000, Pair::all_delivered));
    let shown: Vec<String> = pair
        .history(Who::A)
        .into_iter()
        .map(|entry| entry.text)
        .filter(|text| text.starts_with("after"))
        .collect();
    assert_eq!(shown, wanted);
}

#[test]
fn a_contact_without_proof_cannot_say_that_our_device_is_an_old_copy() {
    let mut pair = friends(7);
    ten_messages(&mut pair);
    let claim = Frontier {
        stream: StreamId([3; 16]),
        delivered: 5,
        hash: Some(EntryId([3; 32])),
        read: 0,
        beyond: Vec::new(),
    };
    pair.inject(Who::A, Frame::Frontiers(vec![claim]).encode());
    pair.run_for(60_000);
    pair.send(Who::A, "still here").expect("sent");
    assert!(pair.run_until(600_000, Pair::all_delivered));
    pair.check();
}

#[test]
fn huge_numbers_cost_nothing_and_break_nothing() {
    let mut pair = friends(8);
    let hostile = ids(&pair, Who::B);
    let stream = StreamId([8; 16]);
    for number in [u64::MAX, u64::MAX - 1, 1 << 63, 2] {
        let (_, bytes) = made(&pair, hostile, stream, number, 1_790_000_000_000, text("far"));
        pair.whisper(Who::B, PayloadBody::Entry(bytes));
    }
    for ranges in [vec![(1, u64::MAX)], vec![(u64::MAX, 1)], vec![(3, 1), (u64::MAX - 3, 3)]] {
        pair.whisper(Who::B, PayloadBody::Voids { conversation: conversation(&pair), stream, ranges });
    }
    pair.whisper(
        Who::B,
        PayloadBody::EntryRequest { conversation: conversation(&pair), stream, ranges: vec![(1, u64::MAX)] },
    );
    pair.run_for(60_000);
    let row: Stream = pair.row(Who::A, &Key::Stream(stream)).expect("kept");
    assert!(row.beyond.len() <= 8, "{row:?}");
    pair.send(Who::A, "still here").expect("sent");
    assert!(pair.run_until(60_000, Pair::all_delivered));
    pair.check();
}

#[test]
fn a_stream_with_every_second_number_stays_small() {
    let mut pair = friends(9);
    let hostile = ids(&pair, Who::B);
    let stream = StreamId([8; 16]);
    for number in 1..=600_u64 {
        let (_, bytes) = made(&pair, hostile, stream, number * 2, 1_790_000_000_000 + number, text("hole"));
        pair.whisper(Who::B, PayloadBody::Entry(bytes));
        if number % 100 == 0 {
            pair.run_for(1_000);
        }
    }
    pair.run_for(60_000);
    let row: Stream = pair.row(Who::A, &Key::Stream(stream)).expect("kept");
    assert!(row.beyond.len() <= limits::HOLES, "{} ranges in one row", row.beyond.len());
}

#[test]
fn a_contact_cannot_change_what_we_wrote() {
    let mut pair = friends(10);
    let sent = ten_messages(&mut pair);
    let hostile = ids(&pair, Who::B);
    let own = ids(&pair, Who::A);
    let stream = StreamId([1; 16]);
    let order = sent[9].order + 1;
    let edit = Body::Edit { target: sent[0].id, text: "no".to_owned() };
    let (_, first) = made(&pair, hostile, stream, 1, order, edit.clone());
    let (_, second) = made(&pair, hostile, stream, 2, order, Body::Delete { target: sent[1].id });
    // in A's name, in A's own stream, unasked
    let (_, third) = made(&pair, own, sent[0].stream, 11, order, edit);
    let (_, fourth) = made(&pair, (own.0, hostile.1), StreamId([2; 16]), 1, order, text("A says so"));
    for bytes in [first, second, third, fourth] {
        pair.whisper(Who::B, PayloadBody::Entry(bytes));
    }
    pair.run_for(60_000);
    let history = pair.history(Who::A);
    assert_eq!(history.len(), 10);
    assert!(history.iter().all(|entry| entry.edited.is_none() && !entry.deleted));
    assert!(history.iter().all(|entry| entry.rank == Rank::Delivered));
}

#[test]
fn a_receipt_with_a_hash_that_is_not_ours_proves_nothing() {
    let mut pair = friends(11);
    pair.set_network(false);
    let id = pair.send(Who::A, "not there yet").expect("queued");
    let entry: Entry = pair.row(Who::A, &Key::Entry(id)).expect("there");
    pair.set_network(true);
    assert!(pair.run_until(600_000, Pair::is_linked));
    for (delivered, hash) in [(1, Some(EntryId([1; 32]))), (1, None), (2, Some(id)), (u64::MAX, Some(id))] {
        let forged = Frontier { stream: entry.stream, delivered, hash, read: delivered, beyond: Vec::new() };
        pair.inject(Who::A, Frame::Frontiers(vec![forged]).encode());
        let entry: Entry = pair.row(Who::A, &Key::Entry(id)).expect("there");
        assert_eq!(entry.rank, Rank::Queued, "{delivered} {hash:?}");
    }
    let Ok(Answer::Done) =
        pair.command(Who::A, Command::MarkRead { with: pair.side(Who::B).account, up_to: None })
    else {
        panic!("marking failed");
    };
}

#[test]
fn what_came_beyond_too_many_holes_is_confirmed_once_they_are_filled() {
    let mut pair = friends(12);
    let hostile = ids(&pair, Who::B);
    let stream = StreamId([8; 16]);
    let order = |number: u64| 1_790_000_000_000 + number;
    let entry = |pair: &Pair, number: u64| made(pair, hostile, stream, number, order(number), text("x")).1;
    let last = 2 * (limits::HOLES as u64 + 4);
    for number in (2..=last).step_by(2) {
        let bytes = entry(&pair, number);
        pair.whisper(Who::B, PayloadBody::Entry(bytes));
    }
    pair.run_for(2_000);
    let ranges: Vec<(u64, u64)> = (1..=last).step_by(2).map(|number| (number, 1)).collect();
    for ranges in ranges.chunks(limits::RANGES) {
        let voids = PayloadBody::Voids { conversation: conversation(&pair), stream, ranges: ranges.to_vec() };
        pair.whisper(Who::B, voids);
    }
    for number in (2..=last).step_by(2) {
        let bytes = entry(&pair, number);
        pair.whisper(Who::B, PayloadBody::Entry(bytes));
    }
    let whole =
        |pair: &Pair| pair.row::<Stream>(Who::A, &Key::Stream(stream)).is_some_and(|row| row.gapless == last);
    assert!(pair.run_until(60_000, whole), "{:?}", pair.row::<Stream>(Who::A, &Key::Stream(stream)));
    assert_eq!(pair.history(Who::A).len() as u64, last / 2);
}

#[test]
fn a_device_whose_links_never_last_is_not_dialled_again_and_again() {
    let mut pair = friends(13);
    let mut links = 0;
    for _ in 0..6_000 {
        if pair.is_linked() {
            links += 1;
            pair.cut();
        }
        pair.run_for(100);
    }
    assert!((4..=40).contains(&links), "{links} links in ten minutes");
    // one that lasts ends the suspicion
    assert!(pair.run_until(3_600_000, Pair::is_linked));
    pair.run_for(60_000);
    pair.cut();
    assert!(pair.run_until(2_000, Pair::is_linked));
}
