//! A store that was damaged and restored with holes: the loss is told, kept, and what contacts have comes back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;

use kith_protocol::engine::Command;
use kith_protocol::record::{
    Change, Entry, EventBody, Key, KeyRange, Record, Restoration, Row, Stream, StreamEntry,
};
use kith_protocol::testing::{Pair, Weather, Who};
use kith_protocol::{EntryId, StreamId, Wall, limits};

/// Two people with a conversation in both directions, all of it delivered.
fn talked(seed: u64, messages: usize) -> Pair {
    let mut pair = Pair::friends(seed, Weather::FAIR);
    for n in 0..messages {
        pair.send(Who::A, &format!("a {n}")).unwrap();
        pair.send(Who::B, &format!("b {n}")).unwrap();
    }
    assert!(pair.run_until(60_000, Pair::all_delivered));
    pair
}

/// Takes entries out of a stopped side's store, as a hole in the export log would: the rows written later stay.
/// `places`: also the rows that say which entry has a number.
fn lose(pair: &Pair, who: Who, keep: impl Fn(&Entry) -> bool, places: bool) -> BTreeSet<String> {
    let disk = &pair.side(who).disk;
    let mut lost = BTreeSet::new();
    let mut changes = Vec::new();
    for entry in disk.rows().into_iter().filter_map(Entry::from_row) {
        if keep(&entry) {
            continue;
        }
        changes.push(Change::Delete(Key::Entry(entry.id)));
        if places {
            changes.push(Change::Delete(Key::StreamEntry(entry.stream, entry.number, entry.id)));
        }
        lost.insert(entry.text);
    }
    let row = Restoration { reason: "a test".to_owned(), lost_commits: 5, ..Restoration::default() };
    changes.push(Change::Put(row.into()));
    disk.apply(changes);
    lost
}

fn texts(pair: &Pair, who: Who) -> BTreeSet<String> {
    pair.history(who).into_iter().map(|entry| entry.text).collect()
}

fn notices(pair: &Pair, who: Who) -> Vec<String> {
    let told = pair.side(who).events.iter().filter_map(|event| match &event.body {
        EventBody::Notice { code, text, .. } if code == "restored" => Some(text.clone()),
        _ => None,
    });
    told.collect()
}

fn stored_notices(pair: &Pair, who: Who) -> usize {
    pair.side(who).disk.count(&KeyRange::Events, |row| {
        matches!(row, Row::Event(event)
            if matches!(&event.body, EventBody::Notice { code, .. } if code == "restored"))
    })
}

fn row(pair: &Pair, who: Who) -> Option<Restoration> {
    pair.row(who, &Key::Restoration)
}

#[test]
fn what_a_restore_lost_of_either_side_is_asked_for_again_and_comes() {
    for places in [true, false] {
        let mut pair = talked(11, 100);
        let all = texts(&pair, Who::B);
        assert_eq!(all.len(), 200);
        pair.stop(Who::B);
        let lost =
            lose(&pair, Who::B, |entry| !(20..=90).contains(&entry.number) || entry.number == 50, places);
        assert_eq!(lost.len(), 140);
        pair.start(Who::B);
        assert!(
            pair.run_until(120_000, |pair| pair.message_count(Who::B) == 200),
            "{:?}",
            row(&pair, Who::B)
        );
        pair.run_for(5_000);
        assert_eq!(texts(&pair, Who::B), all);
        assert_eq!(pair.history(Who::B).len(), 200, "each once");
        let row = row(&pair, Who::B).unwrap();
        assert_eq!((row.asked(), row.gone, row.acknowledged), (140, 0, false));
        let told = notices(&pair, Who::B);
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("5 groups of changes are lost"), "{}", told[0]);
        assert!(
            told[0].contains("140 messages (edits and reactions counted) are asked for again"),
            "{}",
            told[0]
        );
        for entry in pair.history(Who::B).iter().filter(|entry| lost.contains(&entry.text)) {
            let own = entry.author == pair.side(Who::B).account;
            assert_eq!(entry.recovered, own, "our own words come from somebody else");
        }
        // nothing is new that was read or counted before
        let unread: Vec<kith_protocol::record::Conversation> = pair.rows(Who::B, &KeyRange::Conversations);
        assert_eq!(unread[0].unread, 100);
        pair.send(Who::A, "still here").unwrap();
        pair.send(Who::B, "so am I").unwrap();
        assert!(pair.run_until(60_000, Pair::all_delivered));
    }
}

#[test]
fn the_asking_goes_on_after_a_second_stop() {
    let mut pair = talked(12, 90);
    let all = texts(&pair, Who::B);
    pair.stop(Who::B);
    lose(&pair, Who::B, |entry| !(5..=85).contains(&entry.number), true);
    pair.set_network(false);
    pair.start(Who::B);
    pair.run_for(1_000);
    assert_eq!(notices(&pair, Who::B).len(), 1);
    pair.stop(Who::B);
    pair.start(Who::B);
    pair.set_network(true);
    assert!(pair.run_until(600_000, |pair| pair.message_count(Who::B) == 180), "{:?}", row(&pair, Who::B));
    assert_eq!(texts(&pair, Who::B), all);
    assert_eq!(notices(&pair, Who::B).len(), 1, "told once as an event");
    assert_eq!(row(&pair, Who::B).unwrap().asked(), 162, "kept until somebody takes note");
    pair.command(Who::B, Command::AcknowledgeRestoration).unwrap();
    pair.run_for(100);
    assert!(row(&pair, Who::B).unwrap().acknowledged);
    // and no longer than a month
    pair.stop(Who::B);
    let since = pair.now(Who::B).wall.0 - limits::RESTORATION_TTL - limits::HOUR;
    let old = Restoration { looked_through: Some(Wall(since)), ..row(&pair, Who::B).unwrap() };
    pair.side(Who::B).disk.apply(vec![Change::Put(old.into())]);
    pair.start(Who::B);
    assert!(pair.run_until(5 * limits::MINUTE, |pair| row(pair, Who::B).is_none()));
}

#[test]
fn an_entry_that_is_here_without_its_place_is_not_called_lost_and_its_word_counts_again() {
    let mut pair = talked(16, 10);
    let with = pair.side(Who::B).account;
    let first = pair.history(Who::B).into_iter().find(|entry| entry.author == with).unwrap();
    pair.command(Who::B, Command::Edit { target: first.id, text: "edited".to_owned() }).unwrap();
    assert!(pair.run_until(60_000, Pair::all_delivered));
    pair.run_for(1_000);
    pair.stop(Who::B);
    lose(&pair, Who::B, |_| true, true);
    let disk = &pair.side(Who::B).disk;
    let changes = disk.rows().into_iter().filter_map(|row| match row {
        Row::StreamEntry(_) | Row::Annotation(_) => Some(Change::Delete(row.key())),
        // as it was before the edit
        Row::Entry(entry) if entry.id == first.id => Some(Change::Put(first.clone().into())),
        _ => None,
    });
    disk.apply(changes.collect());
    pair.start(Who::B);
    pair.run_for(10_000);
    let row = row(&pair, Who::B).unwrap();
    assert_eq!((row.asked(), row.gone), (0, 0));
    assert!(texts(&pair, Who::B).contains("edited"));
    pair.send(Who::B, "on it goes").unwrap();
    assert!(pair.run_until(60_000, Pair::all_delivered));
}

#[test]
fn what_the_author_took_back_is_not_asked_for_for_ever() {
    let mut pair = talked(13, 10);
    let taken_back = pair.history(Who::A).into_iter().find(|entry| entry.text == "a 3").unwrap();
    pair.command(Who::A, Command::Delete { target: taken_back.id }).unwrap();
    assert!(pair.run_until(60_000, Pair::all_delivered));
    pair.stop(Who::B);
    let author = pair.side(Who::A).account;
    lose(&pair, Who::B, |entry| entry.author != author || entry.number != taken_back.number, true);
    pair.start(Who::B);
    let stream = taken_back.stream;
    let settled = pair.run_until(60_000, |pair| {
        !pair.rows::<StreamEntry>(Who::B, &KeyRange::StreamNumber(stream, taken_back.number)).is_empty()
    });
    assert!(settled, "the author said that this number holds nothing");
    let stream: Stream = pair.row(Who::B, &Key::Stream(stream)).unwrap();
    assert!(stream.beyond.is_empty());
}

#[test]
fn own_messages_that_nobody_confirmed_are_told_as_gone() {
    let mut pair = talked(14, 5);
    pair.set_network(false);
    pair.send(Who::B, "nobody has this").unwrap();
    pair.run_for(1_000);
    pair.stop(Who::B);
    lose(&pair, Who::B, |entry| entry.text != "nobody has this", true);
    pair.start(Who::B);
    pair.run_for(1_000);
    let row = row(&pair, Who::B).unwrap();
    assert_eq!((row.asked(), row.gone), (0, 1));
    assert!(
        row.sentence().contains("1 message (or edit or reaction) is lost for good"),
        "{}",
        row.sentence()
    );
    pair.set_network(true);
    pair.send(Who::B, "but this").unwrap();
    assert!(pair.run_until(120_000, |pair| texts(pair, Who::A).contains("but this")));
}

#[test]
fn a_restore_without_a_loss_is_told_and_not_kept() {
    let mut pair = talked(15, 3);
    pair.stop(Who::B);
    let quiet = Restoration { reason: "a test".to_owned(), ..Restoration::default() };
    pair.side(Who::B).disk.apply(vec![Change::Put(quiet.into())]);
    pair.start(Who::B);
    pair.run_for(1_000);
    assert!(notices(&pair, Who::B)[0].contains("nothing was lost"));
    assert_eq!(row(&pair, Who::B), None);
}

/// A stopped side's store with this many entries of the other side's stream more, all without their places.
fn misplace(pair: &Pair, who: Who, entries: u64) -> StreamId {
    let disk = &pair.side(who).disk;
    let other = pair.side(who.other()).account;
    let template = pair.history(who).into_iter().rfind(|entry| entry.author == other).unwrap();
    let mut stream: Stream = pair.row(who, &Key::Stream(template.stream)).unwrap();
    let mut changes = Vec::new();
    for number in stream.gapless + 1..=stream.gapless + entries {
        let mut id = [7; 32];
        id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        let id = EntryId(id);
        changes.push(Change::Put(Entry { id, number, ..template.clone() }.into()));
        stream.gapless_id = id;
    }
    stream.gapless += entries;
    changes.push(Change::Put(stream.clone().into()));
    let row = Restoration { reason: "a test".to_owned(), lost_commits: 5, ..Restoration::default() };
    changes.push(Change::Put(row.into()));
    disk.apply(changes);
    stream.id
}

fn places(pair: &Pair, who: Who, stream: StreamId) -> u64 {
    pair.side(who).disk.count(&KeyRange::StreamEntries(stream), |_| true) as u64
}

#[test]
fn places_of_many_entries_are_put_right_in_batches_that_a_store_takes() {
    const MANY: u64 = 40_000;
    let mut pair = talked(17, 3);
    pair.stop(Who::B);
    pair.set_network(false);
    let stream = misplace(&pair, Who::B, MANY);
    pair.start(Who::B);
    assert_eq!(places(&pair, Who::B, stream), MANY + 3);
    let row = row(&pair, Who::B).unwrap();
    assert_eq!((row.asked(), row.gone), (0, 0));
    let most = pair.largest_batch();
    assert!(most <= limits::BATCH_ROWS + 100, "{most} rows in one batch");
}

#[test]
fn a_stop_while_places_are_put_right_costs_nothing() {
    const MANY: u64 = 4_500;
    for outputs in [0, 1, 3, 4, 5, 6, 7] {
        let mut pair = talked(18, 3);
        pair.stop(Who::B);
        pair.set_network(false);
        let stream = misplace(&pair, Who::B, MANY);
        let gone = pair.history(Who::B).into_iter().find(|entry| entry.number == 2).unwrap();
        pair.side(Who::B).disk.apply(vec![Change::Delete(Key::Entry(gone.id))]);
        pair.crash_in(Who::B, outputs);
        pair.start(Who::B);
        let before = places(&pair, Who::B, stream);
        let done = row(&pair, Who::B).unwrap().looked_through.is_some();
        assert_eq!(stored_notices(&pair, Who::B), usize::from(done), "told with what is told of");
        assert!(outputs > 0 || before == 3);
        pair.run_for(5_000);
        let row = row(&pair, Who::B).unwrap();
        assert!(row.looked_through.is_some());
        assert_eq!((row.asked(), row.gone), (1, 0), "after {outputs} outputs and {before} places");
        let lost = u64::from(gone.stream == stream);
        assert_eq!(places(&pair, Who::B, stream), MANY + 3 - lost);
        assert_eq!(stored_notices(&pair, Who::B), 1);
    }
}

#[test]
fn what_many_streams_lost_is_asked_for_in_one_run() {
    const STREAMS: usize = limits::STREAMS + 16;
    let mut pair = talked(19, 1);
    for n in 0..STREAMS {
        // a device that was restored begins a new stream
        pair.stop(Who::A);
        let row = Restoration { lost_commits: 1, ..Restoration::default() };
        pair.side(Who::A).disk.apply(vec![Change::Put(row.into())]);
        pair.start(Who::A);
        pair.send(Who::A, &format!("stream {n}")).unwrap();
        assert!(pair.run_until(600_000, Pair::all_delivered));
    }
    let all = texts(&pair, Who::B);
    pair.stop(Who::B);
    let author = pair.side(Who::A).account;
    let lost = lose(&pair, Who::B, |entry| entry.author != author, true);
    assert_eq!(lost.len(), STREAMS + 1);
    pair.start(Who::B);
    pair.run_for(1_000);
    assert_eq!(row(&pair, Who::B).unwrap().lost.len(), STREAMS + 1);
    let back = pair.run_until(20 * limits::MINUTE, |pair| pair.message_count(Who::B) == all.len());
    assert!(back, "{} of {} are back", pair.message_count(Who::B), all.len());
    assert_eq!(texts(&pair, Who::B), all);
}
