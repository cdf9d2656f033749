//! What every engine must do, run against each.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use common::*;
use kith_protocol::id::ConversationId;
use kith_protocol::record::{
    Change, Clock, Conversation, Entry, Event, Job, Key, KeyRange, Reader as _, StreamEntry,
};
use kith_protocol::time::Wall;
use kith_store::{CommitError, EngineKind, OpenError, Store, StoreConfig};

macro_rules! for_each_engine {
    ($($name:ident),* $(,)?) => {
        mod sled {
            $(#[test] fn $name() { super::$name(&super::Place::new(super::EngineKind::Sled)); })*
        }
        mod redb {
            $(#[test] fn $name() { super::$name(&super::Place::new(super::EngineKind::Redb)); })*
        }
        mod memory {
            $(#[test] fn $name() { super::$name(&super::Place::new(super::EngineKind::Memory)); })*
        }
    };
}

for_each_engine!(
    rows_come_back_after_reopening,
    a_deleted_row_is_gone_with_its_chunks_and_indexes,
    later_changes_of_a_batch_win,
    ranges_by_number_keep_their_order,
    ranges_hold_their_own_rows_only,
    history_pages_are_newest_first_and_complete,
    entries_of_one_order_are_sorted_by_device_and_id,
    conversations_come_by_newest_activity,
    hidden_entries_are_not_in_history,
    search_folds_case_and_finds_all_words,
    entries_are_found_by_the_start_of_their_id,
    events_resume_after_a_cursor,
    commits_of_many_threads_are_all_kept,
    a_commit_in_the_callers_thread_keeps_its_place_among_the_others,
    a_commit_that_is_too_large_is_refused_and_stops_those_behind_it,
    another_key_is_told_from_damage,
    a_check_of_a_sound_store_finds_nothing,
    a_check_beside_commits_finds_nothing,
    an_overlay_over_the_store_reads_like_the_store_after_the_commit,
    lists_are_sorted_for_people,
);

fn rows_come_back_after_reopening(place: &Place) {
    let store = place.open();
    for n in 1..=60 {
        store.commit(message(n)).wait().unwrap();
    }
    assert_messages(&store, 1, 60);
    store.close().unwrap();
    drop(store);
    let (store, report) = place.open_report();
    assert!(!report.created && !report.restored && report.replayed == 0, "{report:?}");
    assert_messages(&store, 1, 60);
    assert_eq!(store.row::<Clock>(&Key::Clock).unwrap().unwrap().believed, Wall(60));
}

fn a_deleted_row_is_gone_with_its_chunks_and_indexes(place: &Place) {
    let store = place.open();
    let empty = store.check().unwrap();
    store.commit(vec![put(long_entry(1, 1, 16_000)), put(entry(1, 2))]).wait().unwrap();
    assert!(store.check().unwrap().chunks >= 4);
    // shorter, and so with fewer chunks
    store.commit(vec![put(long_entry(1, 1, 5_000))]).wait().unwrap();
    assert_eq!(store.entry(&entry_id(1)).unwrap().unwrap(), long_entry(1, 1, 5_000));
    assert!(store.check().unwrap().is_sound());
    let gone = vec![Change::Delete(Key::Entry(entry_id(1))), Change::Delete(Key::Entry(entry_id(2)))];
    store.commit(gone).wait().unwrap();
    assert_eq!(store.entry(&entry_id(1)).unwrap(), None);
    assert!(store.history(&conversation_id(1), None, 10).unwrap().is_empty());
    assert_eq!(store.check().unwrap().chunks, empty.chunks);
    assert_eq!(store.check().unwrap().indexes, empty.indexes);
}

fn later_changes_of_a_batch_win(place: &Place) {
    let store = place.open();
    let changes = vec![
        put(long_entry(1, 1, 9_000)),
        Change::Delete(Key::Entry(entry_id(1))),
        put(entry(1, 1)),
        put(entry(1, 2)),
        Change::Delete(Key::Entry(entry_id(2))),
    ];
    store.commit(changes).wait().unwrap();
    assert_eq!(store.entry(&entry_id(1)).unwrap(), Some(entry(1, 1)));
    assert_eq!(store.entry(&entry_id(2)).unwrap(), None);
    assert!(store.check().unwrap().is_sound());
}

fn ranges_by_number_keep_their_order(place: &Place) {
    let store = place.open();
    let numbers = [3, 1 << 40, 255, 256, 0, u64::MAX, 65_535];
    store.commit(numbers.iter().map(|n| put(job(1, *n))).collect()).wait().unwrap();
    store.commit(numbers.iter().map(|n| put(stream_entry(1, *n))).collect()).wait().unwrap();
    let mut sorted = numbers;
    sorted.sort_unstable();
    let jobs: Vec<Job> = store.rows(&KeyRange::Jobs(device_id(1)), None, 100).unwrap();
    assert_eq!(jobs.iter().map(|job| job.seq).collect::<Vec<_>>(), sorted);
    let after = Key::Job(device_id(1), 255);
    let jobs: Vec<Job> = store.rows(&KeyRange::Jobs(device_id(1)), Some(&after), 2).unwrap();
    assert_eq!(jobs.iter().map(|job| job.seq).collect::<Vec<_>>(), [256, 65_535]);
    let entries: Vec<StreamEntry> = store.rows(&KeyRange::StreamEntries(stream_id(1)), None, 100).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.number).collect::<Vec<_>>(), sorted);
    let one: Vec<StreamEntry> = store.rows(&KeyRange::StreamNumber(stream_id(1), 256), None, 100).unwrap();
    assert_eq!(one, [stream_entry(1, 256)]);
}

fn ranges_hold_their_own_rows_only(place: &Place) {
    let store = place.open();
    let changes = (0..1_200).map(|n| put(job(n % 3, n))).chain((0..5).map(|n| put(contact(n, "Ann"))));
    store.commit(changes.collect()).wait().unwrap();
    let jobs: Vec<Job> = store.rows(&KeyRange::Jobs(device_id(1)), None, usize::MAX).unwrap();
    assert_eq!(jobs.len(), 400);
    assert!(jobs.iter().all(|job| job.device == device_id(1)));
    assert_eq!(store.range(&KeyRange::Contacts, None, 100).unwrap().len(), 5);
    assert_eq!(store.range(&KeyRange::Contacts, None, 3).unwrap().len(), 3);
    assert!(store.range(&KeyRange::Invites, None, 100).unwrap().is_empty());
    // paging by key holds for every range
    let first = store.range(&KeyRange::Contacts, None, 2).unwrap();
    let rest = store.range(&KeyRange::Contacts, Some(&first[1].key()), 100).unwrap();
    assert_eq!(rest.len(), 3);
    assert!(rest.iter().all(|row| !first.contains(row)));
}

fn history_pages_are_newest_first_and_complete(place: &Place) {
    let store = place.open();
    for batch in (1..=300_u64).collect::<Vec<_>>().chunks(50) {
        let rows = batch.iter().flat_map(|n| [put(entry(1, *n)), put(entry(2, *n + 10_000))]);
        store.commit(rows.collect()).wait().unwrap();
    }
    let mut before = None;
    let mut seen: Vec<u64> = Vec::new();
    loop {
        let page = store.history(&conversation_id(1), before.as_ref(), 47).unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.place());
        seen.extend(page.iter().map(|entry| entry.order));
    }
    assert_eq!(seen, (1..=300).rev().collect::<Vec<_>>());
    let page = store.history_after(&conversation_id(1), None, 3).unwrap();
    assert_eq!(page.iter().map(|entry| entry.order).collect::<Vec<_>>(), [1, 2, 3]);
    let page = store.history_after(&conversation_id(1), Some(&page[2].place()), 2).unwrap();
    assert_eq!(page.iter().map(|entry| entry.order).collect::<Vec<_>>(), [4, 5]);
    assert!(store.history(&conversation_id(3), None, 10).unwrap().is_empty());
    assert!(store.history(&conversation_id(1), None, 0).unwrap().is_empty());
}

fn entries_of_one_order_are_sorted_by_device_and_id(place: &Place) {
    let store = place.open();
    let mut entries: Vec<Entry> =
        (0..40).map(|n| Entry { order: if n < 35 { 7 } else { u64::MAX }, ..entry(1, n) }).collect();
    store.commit(entries.iter().cloned().map(put).collect()).wait().unwrap();
    entries.sort_by_key(Entry::place);
    assert_eq!(store.history_after(&conversation_id(1), None, 100).unwrap(), entries);
    let (mut before, mut seen) = (None, Vec::new());
    loop {
        let page = store.history(&conversation_id(1), before.as_ref(), 6).unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.place());
        seen.extend(page);
    }
    entries.reverse();
    assert_eq!(seen, entries);
}

fn conversations_come_by_newest_activity(place: &Place) {
    let store = place.open();
    store.commit((0..100).map(|n| put(conversation(n, 1_000 + n))).collect()).wait().unwrap();
    store.commit(vec![put(conversation(3, 5_000))]).wait().unwrap();
    let ids = |list: Vec<Conversation>| list.into_iter().map(|it| it.id).collect::<Vec<_>>();
    assert_eq!(ids(store.conversations(3).unwrap()), [3, 99, 98].map(conversation_id));
    let all = store.conversations(usize::MAX).unwrap();
    assert_eq!(all.len(), 100);
    assert!(all.is_sorted_by(|a, b| a.last_activity >= b.last_activity));
    assert!(store.check().unwrap().is_sound());
}

fn hidden_entries_are_not_in_history(place: &Place) {
    let store = place.open();
    let hidden = Entry { visible: false, ..entry(1, 2) };
    store.commit(vec![put(entry(1, 1)), put(hidden.clone())]).wait().unwrap();
    assert_eq!(store.history(&conversation_id(1), None, 10).unwrap(), [entry(1, 1)]);
    assert_eq!(store.entry(&entry_id(2)).unwrap(), Some(hidden));
    store.commit(vec![put(entry(1, 2)), put(Entry { visible: false, ..entry(1, 1) })]).wait().unwrap();
    assert_eq!(store.history(&conversation_id(1), None, 10).unwrap(), [entry(1, 2)]);
    assert!(store.check().unwrap().is_sound());
}

fn search_folds_case_and_finds_all_words(place: &Place) {
    let store = place.open();
    let texts = ["Straße nach Ålesund", "nothing here", "ÅLESUND, again: Straße", "ålesund"];
    let entries: Vec<Entry> =
        (0..).zip(texts).map(|(n, text)| Entry { text: text.to_owned(), ..entry(n % 2, n) }).collect();
    store.commit(entries.iter().cloned().map(put).collect()).wait().unwrap();
    let texts = |words: &str, within: Option<&ConversationId>, limit| {
        let hits = store.search(words, within, limit).unwrap();
        hits.into_iter().map(|entry| entry.text).collect::<Vec<_>>()
    };
    assert_eq!(texts("straße ålesund", None, 10), ["ÅLESUND, again: Straße", "Straße nach Ålesund"]);
    assert_eq!(texts("ÅLESUND", None, 1), ["ålesund"]);
    assert_eq!(texts("ålesund", Some(&conversation_id(1)), 10), ["ålesund"]);
    assert!(texts("  ", None, 10).is_empty());
    assert!(texts("absent", Some(&conversation_id(1)), 10).is_empty());
}

fn entries_are_found_by_the_start_of_their_id(place: &Place) {
    let store = place.open();
    store.commit((0..50).map(|n| put(entry(1, n))).collect()).wait().unwrap();
    let id = entry_id(17).to_string();
    assert_eq!(store.entries_with_prefix(&id[..8], 10).unwrap(), [entry(1, 17)]);
    assert_eq!(store.entries_with_prefix(&id.to_uppercase(), 10).unwrap(), [entry(1, 17)]);
    assert!(store.entries_with_prefix(&id[..7], 10).unwrap().is_empty());
    assert!(store.entries_with_prefix("zzzzzzzz", 10).unwrap().is_empty());
    assert!(store.entries_with_prefix("äääääääää", 10).unwrap().is_empty());
    let other = format!("{}ffff", &id[..12]);
    assert!(store.entries_with_prefix(&other, 10).unwrap().is_empty());
}

fn events_resume_after_a_cursor(place: &Place) {
    let store = place.open();
    store.commit((1..=700).map(|n| put(event(n))).collect()).wait().unwrap();
    let cursors = |events: Vec<Event>| events.into_iter().map(|event| event.cursor).collect::<Vec<_>>();
    assert_eq!(cursors(store.events(None, 2).unwrap()), [1, 2]);
    assert_eq!(cursors(store.events(Some(600), 1_000).unwrap()), (601..=700).collect::<Vec<_>>());
    assert!(store.events(Some(700), 10).unwrap().is_empty());
}

fn commits_of_many_threads_are_all_kept(place: &Place) {
    let store = place.open();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = store.clone();
            scope.spawn(move || {
                let tickets: Vec<_> = (0..100)
                    .map(|n| {
                        let changes =
                            vec![put(entry(thread, thread * 1_000 + n)), put(seen(thread * 1_000 + n))];
                        match n % 3 {
                            0 => store.commit(changes),
                            1 => store.commit_lazy(changes),
                            _ => store.commit_here(changes),
                        }
                    })
                    .collect();
                for ticket in tickets {
                    ticket.wait().unwrap();
                }
            });
        }
    });
    store.close().unwrap();
    drop(store);
    let store = place.open();
    for thread in 0..4 {
        assert_eq!(store.history(&conversation_id(thread), None, 1_000).unwrap().len(), 100);
    }
    assert_eq!(store.stats().unwrap().commits, 400);
    assert_eq!(store.stats().unwrap().rows, 800);
    assert!(store.check().unwrap().is_sound());
}

fn a_commit_in_the_callers_thread_keeps_its_place_among_the_others(place: &Place) {
    let store = place.open();
    let mut answered = 0;
    for round in 0..50 {
        for n in 0..round % 3 {
            // its ticket is dropped: nobody waits, and it is under way when the next comes
            drop(store.commit(vec![put(Clock { believed: Wall(round * 10 + n) })]));
        }
        let ticket = store.commit_here(vec![put(Clock { believed: Wall(round * 10 + 9) })]);
        answered += usize::from(ticket.try_result().is_some());
        ticket.wait().unwrap();
        assert_eq!(store.row::<Clock>(&Key::Clock).unwrap().unwrap().believed, Wall(round * 10 + 9));
    }
    assert!(answered > 0, "an idle store's first commit is written in the caller's thread");
    store.close().unwrap();
    if place.engine != EngineKind::Memory {
        assert_eq!(store.commit_here(vec![put(entry(1, 1))]).wait(), Err(CommitError::Closed));
    }
    drop(store);
    let store = place.open();
    assert_eq!(store.row::<Clock>(&Key::Clock).unwrap().unwrap().believed, Wall(499));
    assert_eq!(store.stats().unwrap().commits, 99);
}

fn a_commit_that_is_too_large_is_refused_and_stops_those_behind_it(place: &Place) {
    let store = place.open();
    store.commit(vec![put(entry(1, 1))]).wait().unwrap();
    let huge = store.commit((0..40_000).map(|n| put(seen(n))).collect());
    let behind = store.commit(vec![put(entry(1, 2))]);
    assert!(matches!(huge.wait(), Err(CommitError::TooLarge { .. })));
    assert!(matches!(behind.wait(), Err(CommitError::Halted(_))));
    assert_eq!(store.entry(&entry_id(2)).unwrap(), None);
    store.resume().unwrap();
    store.commit(vec![put(entry(1, 3))]).wait().unwrap();
    assert_eq!(store.stats().unwrap().commits, 2);
    assert!(store.check().unwrap().is_sound());
}

fn another_key_is_told_from_damage(place: &Place) {
    let store = place.open();
    store.commit(message(1)).wait().unwrap();
    drop(store);
    let wrong = StoreConfig { key: kith_store::MasterKey::from_bytes([8; 32]), ..place.config() };
    assert!(matches!(Store::open(wrong), Err(OpenError::WrongKey(_))));
    assert_messages(&place.open(), 1, 1);
}

fn a_check_of_a_sound_store_finds_nothing(place: &Place) {
    let store = place.open();
    for n in 1..=40 {
        store.commit(message(n)).wait().unwrap();
    }
    let report = store.check().unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.rows, store.stats().unwrap().rows);
    assert!(report.indexes > 80 && report.chunks >= 4);
    if place.engine != EngineKind::Memory {
        assert!(report.log_commits >= 40);
    }
}

fn a_check_beside_commits_finds_nothing(place: &Place) {
    let store = place.open();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut n = 1;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                store.commit(message(n)).wait().unwrap();
                n += 1;
            }
            n
        });
        while store.stats().unwrap().commits < 80 {
            let report = store.check().unwrap();
            assert!(report.is_sound(), "{report:?}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(writer.join().unwrap() > 80);
    });
    assert!(!store.stats().unwrap().suspect);
}

fn an_overlay_over_the_store_reads_like_the_store_after_the_commit(place: &Place) {
    use kith_protocol::record::Overlay;
    let store = place.open();
    store.commit((0..20).map(|n| put(job(1, n))).collect()).wait().unwrap();
    let mut overlay = Overlay::new(Box::new(store.reader()));
    let changes: Vec<Change> = (15..25)
        .map(|n| put(Job { ttl: 9, ..job(1, n) }))
        .chain((0..5).map(|n| Change::Delete(Key::Job(device_id(1), n))))
        .collect();
    for change in &changes {
        let row = if let Change::Put(row) = change { Some(row.clone()) } else { None };
        overlay.set(change.key(), row);
    }
    let (n, sealed) = overlay.seal().unwrap();
    assert_eq!(sealed, changes);
    let range = KeyRange::Jobs(device_id(1));
    let read = |overlay: &Overlay| {
        let after = Key::Job(device_id(1), 7);
        let one: Option<Job> = overlay.get(&Key::Job(device_id(1), 16)).unwrap();
        let all: Vec<Job> = overlay.range(&range, None, 100).unwrap();
        let some: Vec<Job> = overlay.range(&range, Some(&after), 10).unwrap();
        (one, all, some)
    };
    let before = read(&overlay);
    assert_eq!(before.1.len(), 20);
    store.commit(changes).wait().unwrap();
    assert_eq!(read(&overlay), before);
    overlay.persisted(n);
    assert_eq!(read(&overlay), before);
}

fn lists_are_sorted_for_people(place: &Place) {
    let store = place.open();
    let mut rows: Vec<Change> =
        ["bob", "Ann", "Carl"].iter().zip(0..).map(|(name, n)| put(contact(n, name))).collect();
    rows.extend((0..3).map(|n| put(invite(n))));
    rows.extend((0..3).map(|n| put(delivery(5, n))));
    store.commit(rows).wait().unwrap();
    let names: Vec<_> = store.contacts().unwrap().into_iter().map(|contact| contact.name).collect();
    assert_eq!(names, ["Ann", "bob", "Carl"]);
    let invites: Vec<_> = store.invites().unwrap().into_iter().map(|invite| invite.created.0).collect();
    assert_eq!(invites, [2, 1, 0]);
    assert_eq!(store.deliveries(&entry_id(5)).unwrap().len(), 3);
    assert!(store.deliveries(&entry_id(6)).unwrap().is_empty());
}
