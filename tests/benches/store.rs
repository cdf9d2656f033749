//! The store with a million messages: append, page, open. `KITH_BENCH_MESSAGES` changes the number.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use kith_protocol::id::{AccountId, ConversationId, DeviceId, EntryId, StreamId};
use kith_protocol::record::{Change, Custody, Entry, EntryKind, Rank};
use kith_protocol::time::Wall;
use kith_store::{EngineKind, MasterKey, Store, StoreConfig};
use kith_tests::bench::{Bar, Disk, median, once, report, time};
use kith_tests::real_text;

/// Messages put into the store in one batch while it is filled.
const BATCH: u64 = 1_000;
/// Messages of a long history, which opens quickly.
const MANY: u64 = 200_000;
/// Messages of a page.
const PAGE: usize = 50;

fn main() {
    let messages =
        std::env::var("KITH_BENCH_MESSAGES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    for engine in [EngineKind::Sled, EngineKind::Redb] {
        measure(engine, messages);
    }
}

fn measure(engine: EngineKind, messages: u64) {
    let folder = tempfile::tempdir().unwrap();
    let config = || StoreConfig::new(folder.path().join("store"), engine, MasterKey::from_bytes([7; 32]));
    let (store, _) = Store::open(config()).unwrap();
    let texts = real_text(10_000);
    let text = |n: u64| texts[usize::try_from(n).unwrap_or(0) % texts.len()].as_str();

    let fill = |store: &Store, from: u64, until: u64| {
        for batch in from / BATCH..until / BATCH {
            let changes =
                (batch * BATCH..(batch + 1) * BATCH).map(|n| Change::Put(entry(n, text(n)).into())).collect();
            store.commit_lazy(changes).wait().unwrap();
        }
        store.sync().wait().unwrap();
    };
    let open = |bar: Bar, count: u64| {
        let ((store, _), opening) = once(|| Store::open(config()).unwrap());
        let ((), first) = once(|| drop(store.reader().history(&CONVERSATION, None, PAGE).unwrap()));
        let total: Duration = opening + first;
        let name = format!("{engine}: open and first page at {count}");
        report(&name, "ms", &[total.as_secs_f64() * 1e3], bar);
        store
    };
    let first = messages.min(MANY);
    let ((), filling) = once(|| fill(&store, 0, first));
    store.close().unwrap();
    drop(store);
    // what a person with a long history waits for
    let store = open(Bar::AtMost(1_000.0), first);
    let ((), more) = once(|| fill(&store, first, messages));
    let rate = messages as f64 / (filling + more).as_secs_f64();
    report(&format!("{engine}: messages stored a second, in bulk"), "/s", &[rate], Bar::None);

    // The disk is still busy with the bulk, for its own sake as for ours.
    let mut disk = Disk::new(folder.path());
    let fsync = median(&std::array::from_fn::<_, 100, _>(|_| disk.sync_micros()));
    let mut next = messages;
    let append = time(300, || {
        store.commit(vec![Change::Put(entry(next, text(next)).into())]).wait().unwrap();
        next += 1;
    });
    let name = format!("{engine}: durable append at {messages} (fsync {fsync:.0})");
    report(&name, "us", &append, Bar::AtMost(2.0 * fsync + 1_000.0));

    let reader = store.reader();
    let newest = time(300, || drop(black_box(reader.history(&CONVERSATION, None, PAGE).unwrap())));
    report(&format!("{engine}: newest page of {PAGE}"), "us", &newest, Bar::AtMost(20_000.0));
    let mut place = None;
    let older = time(300, || {
        let page = reader.history(&CONVERSATION, place.as_ref(), PAGE).unwrap();
        place = page.last().map(Entry::place);
        black_box(page);
    });
    report(&format!("{engine}: pages back in time"), "us", &older, Bar::AtMost(20_000.0));

    store.close().unwrap();
    drop((reader, store));
    let store = open(Bar::None, messages);
    let size: u64 = size_of_folder(folder.path());
    report(&format!("{engine}: bytes on disk per message"), "B", &[size as f64 / next as f64], Bar::None);
    store.close().unwrap();
}

const CONVERSATION: ConversationId = ConversationId([1; 32]);

fn entry(n: u64, text: &str) -> Entry {
    let mut id = *blake3_of(n).as_bytes();
    id[0] = 2;
    Entry {
        id: EntryId(id),
        conversation: CONVERSATION,
        author: AccountId([3; 32]),
        device: DeviceId([4; 32]),
        stream: StreamId([5; 16]),
        number: n + 1,
        order: 1_790_000_000_000 + n,
        time: Wall(1_790_000_000_000 + n),
        stored: Wall(1_790_000_000_000 + n),
        bytes: Bytes::copy_from_slice(text.as_bytes()),
        kind: EntryKind::Text,
        visible: true,
        text: text.to_owned(),
        reply_to: None,
        edited: None,
        deleted: false,
        reactions: Vec::new(),
        late: false,
        recovered: false,
        rank: Rank::Delivered,
        custody: Custody::default(),
    }
}

fn blake3_of(n: u64) -> blake3::Hash {
    blake3::hash(&n.to_le_bytes())
}

fn size_of_folder(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            let path = entry.path();
            if path.is_dir() { size_of_folder(&path) } else { entry.metadata().map_or(0, |meta| meta.len()) }
        })
        .sum()
}
