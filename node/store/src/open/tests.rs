use kith_protocol::id::{AccountId, ConversationId};
use kith_protocol::record::{Change, Conversation, Restoration, Row};
use kith_protocol::time::Wall;

use crate::codec::{Codec, FIRST_INDEX, SCHEMA, SCHEMA_KEY};
use crate::config::{EngineKind, OpenError, StoreConfig};
use crate::engine::{self, Batch, Direction, Durability, Engine};
use crate::keys::MasterKey;
use crate::store::Store;

fn config(folder: &std::path::Path, engine: EngineKind) -> StoreConfig {
    StoreConfig { min_free_bytes: 0, ..StoreConfig::new(folder, engine, MasterKey::from_bytes([7; 32])) }
}

fn conversation(n: u64) -> Row {
    Conversation {
        id: ConversationId([u8::try_from(n).unwrap(); 32]),
        with: AccountId([1; 32]),
        own_stream: None,
        streams: Vec::new(),
        heads: Vec::new(),
        last_order: n,
        last_activity: Wall(n),
        unread: 0,
        read_up_to: 0,
    }
    .into()
}

/// Makes a store, then hands its closed engine to a change.
fn changed(engine: EngineKind, change: impl FnOnce(&dyn Engine, &Codec)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(config(folder.path(), engine)).unwrap();
    store.commit((0..100).map(|n| Change::Put(conversation(n))).collect()).wait().unwrap();
    drop(store);
    let files = folder.path().join(format!("{engine}-1"));
    let codec = Codec::new(&MasterKey::from_bytes([7; 32]));
    let raw = engine::open(engine, &files, 1 << 20).unwrap();
    change(raw.as_ref(), &codec);
    raw.sync().unwrap();
    folder
}

fn state_schema(engine: &dyn Engine, codec: &Codec, schema: u16) {
    let mut batch = Batch::default();
    batch.put(SCHEMA_KEY.to_vec(), codec.seal(SCHEMA_KEY, &schema.to_le_bytes()).unwrap());
    engine.write(&batch, &[], Durability::Durable).unwrap();
}

#[test]
fn a_store_of_schema_zero_gets_its_indexes_and_counts() {
    for kind in [EngineKind::Sled, EngineKind::Redb] {
        let folder = changed(kind, |engine, codec| {
            let mut batch = Batch::default();
            for (key, _) in
                engine.page(&[], Some(&[FIRST_INDEX - 1, 255]), Direction::Forward, 10_000).unwrap()
            {
                batch.delete(key);
            }
            assert!(batch.rows.len() >= 100);
            // an index row that leads nowhere, too
            batch.put([vec![0x81; 9], vec![3; 16]].concat(), vec![1; 16]);
            engine.write(&batch, &[], Durability::Durable).unwrap();
            state_schema(engine, codec, 0);
        });
        let (store, report) = Store::open(config(folder.path(), kind)).unwrap();
        assert_eq!(report.migrated_from, Some(0));
        assert!(!report.restored, "{report:?}");
        let newest = store.conversations(3).unwrap();
        assert_eq!(newest.iter().map(|it| it.last_order).collect::<Vec<_>>(), [99, 98, 97]);
        let check = store.check().unwrap();
        assert!(check.is_sound() && check.rows == 100, "{check:?}");
        drop(store);
        let (_, report) = Store::open(config(folder.path(), kind)).unwrap();
        assert_eq!(report.migrated_from, None);
    }
}

/// Writes every row as a Kith of an older schema did: the layout is the same.
fn as_of_schema(engine: &dyn Engine, codec: &Codec, schema: u16) {
    let mut batch = Batch::default();
    for (key, value) in engine.page(&[], None, Direction::Forward, 10_000).unwrap() {
        if (crate::codec::FIRST_ROW..FIRST_INDEX).contains(&key[0]) {
            let mut plain = codec.open(&key, &value).unwrap().to_vec();
            assert_eq!(plain[1..3], SCHEMA.to_le_bytes());
            plain[1..3].copy_from_slice(&schema.to_le_bytes());
            batch.put(key.clone(), codec.seal(&key, &plain).unwrap());
        }
    }
    assert_eq!(batch.rows.len(), 100);
    engine.write(&batch, &[], Durability::Durable).unwrap();
    state_schema(engine, codec, schema);
}

#[test]
fn a_store_of_schema_one_is_raised_before_a_row_that_it_did_not_know_is_written() {
    for kind in [EngineKind::Sled, EngineKind::Redb] {
        let folder = changed(kind, |engine, codec| as_of_schema(engine, codec, 1));
        let (store, report) = Store::open(config(folder.path(), kind)).unwrap();
        assert_eq!((report.migrated_from, report.restored), (Some(1), false), "{report:?}");
        let newest = store.conversations(3).unwrap();
        assert_eq!(newest.iter().map(|it| it.last_order).collect::<Vec<_>>(), [99, 98, 97]);
        let row = Restoration { reason: "a test".to_owned(), ..Restoration::default() };
        store.commit(vec![Change::Put(row.into())]).wait().unwrap();
        let check = store.check().unwrap();
        assert!(check.is_sound() && check.is_log_whole() && check.rows == 101, "{check:?}");
        drop(store);
        let codec = Codec::new(&MasterKey::from_bytes([7; 32]));
        let raw = engine::open(kind, &folder.path().join(format!("{kind}-1")), 1 << 20).unwrap();
        assert_eq!(crate::staging::read_schema(raw.as_ref(), &codec).unwrap(), Some(SCHEMA));
        drop(raw);
        let (_, report) = Store::open(config(folder.path(), kind)).unwrap();
        assert_eq!(report.migrated_from, None);
    }
}

#[test]
fn a_log_of_a_newer_schema_is_not_taken_for_a_damaged_one() {
    for engine_is_there in [true, false] {
        let folder = changed(EngineKind::Redb, |_, _| ());
        let codec = Codec::new(&MasterKey::from_bytes([7; 32]));
        let header = crate::log::Header { kind: crate::log::Kind::Durable, number: 2, group: 2 };
        let payload = codec.seal_log(&header.bytes(), &[200, 0, 1]).unwrap();
        let mut record = Vec::new();
        crate::log::encode_record(header, &payload, &mut record).unwrap();
        let segment = folder.path().join("export").join(format!("log-{:016x}-{:04x}", 2, 0));
        std::fs::write(&segment, &record).unwrap();
        let engine = folder.path().join("redb-1");
        if !engine_is_there {
            std::fs::remove_dir_all(&engine).unwrap();
        }
        let error = Store::open(config(folder.path(), EngineKind::Redb)).unwrap_err();
        assert!(matches!(error, OpenError::Newer { found: 200, known: SCHEMA }), "{error}");
        assert!(error.to_string().contains("install a newer Kith"), "{error}");
        assert_eq!(engine.exists(), engine_is_there);
        assert_eq!(std::fs::read(&segment).unwrap(), record, "left as it is");
        let left = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(!left.into_iter().any(|name| name.to_string_lossy().starts_with("new-")));
    }
}

#[test]
fn a_torn_last_group_is_taken_up_to_its_first_hole_and_never_beyond() {
    for kind in [EngineKind::Sled, EngineKind::Redb] {
        let folder = changed(kind, |_, _| ());
        let codec = Codec::new(&MasterKey::from_bytes([7; 32]));
        let export = folder.path().join("export");
        let state = crate::log::LogState { next: 2, incomplete: false, keep_in: None, least: 1 << 30 };
        let mut log = crate::log::ExportLog::open(&export, state).unwrap();
        // commits 2, 3 and 5 of one group: what a power cut left of 2 to 5
        for (number, row) in [(2, 102), (3, 103), (5, 105)] {
            log.append(&codec, number, 2, true, &[Change::Put(conversation(row))]).unwrap();
        }
        log.write().unwrap();
        drop(log);
        let orders = |store: &Store| {
            let found = store.conversations(3).unwrap();
            found.into_iter().map(|it| it.last_order).collect::<Vec<_>>()
        };
        let (store, report) = Store::open(config(folder.path(), kind)).unwrap();
        assert_eq!((report.restored, report.replayed, report.lost_commits), (false, 2, 0), "{report:?}");
        assert_eq!(orders(&store), [103, 102, 99]);
        store.commit(vec![Change::Put(conversation(110))]).wait().unwrap();
        assert_eq!(store.stats().unwrap().commits, 6);
        assert!(store.check().unwrap().is_log_whole());
        drop(store);
        std::fs::remove_dir_all(folder.path().join(format!("{kind}-1"))).unwrap();
        let (store, report) = Store::open(config(folder.path(), kind)).unwrap();
        assert!(report.restored && report.lost_commits == 0, "{report:?}");
        assert_eq!(orders(&store), [110, 103, 102]);
    }
}

#[test]
fn commits_the_engine_lost_after_they_were_acknowledged_are_brought_back() {
    for kind in [EngineKind::Sled, EngineKind::Redb] {
        let folder = changed(kind, |_, _| ());
        let codec = Codec::new(&MasterKey::from_bytes([7; 32]));
        let state = crate::log::LogState { next: 2, incomplete: false, keep_in: None, least: 1 << 30 };
        let mut log = crate::log::ExportLog::open(&folder.path().join("export"), state).unwrap();
        for number in [2, 3] {
            log.append(&codec, number, number, true, &[Change::Put(conversation(100 + number))]).unwrap();
        }
        log.write().unwrap();
        // the engine had them
        log.note_synced(3).unwrap();
        drop(log);
        let (store, report) = Store::open(config(folder.path(), kind)).unwrap();
        assert!(report.restored && report.set_aside.is_some(), "{report:?}");
        assert_eq!(report.lost_commits, 0);
        assert!(report.notice().unwrap().contains("the engine had lost 2 commits"), "{report:?}");
        assert_eq!(store.conversations(1).unwrap()[0].last_order, 103);
        assert!(store.check().unwrap().is_sound());
    }
}

#[test]
fn what_the_engine_had_not_put_on_disk_yet_comes_from_the_log() {
    for kind in [EngineKind::Sled, EngineKind::Redb] {
        let folder = changed(kind, |_, _| ());
        let codec = Codec::new(&MasterKey::from_bytes([7; 32]));
        let state = crate::log::LogState { next: 2, incomplete: false, keep_in: None, least: 1 << 30 };
        let mut log = crate::log::ExportLog::open(&folder.path().join("export"), state).unwrap();
        // more rows than the engine may be given in one batch
        for number in 2..1_500 {
            log.append(&codec, number, number, true, &[Change::Put(conversation(number % 250))]).unwrap();
            log.write().unwrap();
        }
        drop(log);
        let (store, report) = Store::open(config(folder.path(), kind)).unwrap();
        assert_eq!((report.restored, report.replayed, report.lost_commits), (false, 1_498, 0), "{report:?}");
        assert_eq!(store.stats().unwrap().commits, 1_499);
        let check = store.check().unwrap();
        assert!(check.is_sound() && check.is_log_whole() && check.rows == 250, "{check:?}");
    }
}

#[test]
fn a_hole_among_groups_that_were_on_disk_is_damage_and_counted() {
    for kind in [EngineKind::Sled, EngineKind::Redb] {
        let folder = changed(kind, |_, _| ());
        let codec = Codec::new(&MasterKey::from_bytes([7; 32]));
        let state = crate::log::LogState { next: 2, incomplete: false, keep_in: None, least: 1 << 30 };
        let mut log = crate::log::ExportLog::open(&folder.path().join("export"), state).unwrap();
        for number in [2, 4] {
            log.append(&codec, number, number, true, &[Change::Put(conversation(100 + number))]).unwrap();
        }
        log.write().unwrap();
        drop(log);
        let (store, report) = Store::open(config(folder.path(), kind)).unwrap();
        assert!(report.restored && report.lost_commits == 1, "{report:?}");
        assert!(report.notice().unwrap().contains("commit 3"), "{report:?}");
        assert_eq!(store.conversations(1).unwrap()[0].last_order, 104);
    }
}

#[test]
fn a_log_with_a_hole_is_written_anew_before_anything_else_and_told() {
    for kind in [EngineKind::Sled, EngineKind::Redb] {
        let folder = changed(kind, |_, _| ());
        let (store, _) = Store::open(config(folder.path(), kind)).unwrap();
        for n in 100..140 {
            store.commit(vec![Change::Put(conversation(n))]).wait().unwrap();
        }
        drop(store);
        let export = folder.path().join("export");
        let log = std::fs::read_dir(&export).unwrap().map(|entry| entry.unwrap().path());
        let log =
            log.filter(|path| path.is_file()).max_by_key(|path| path.metadata().unwrap().len()).unwrap();
        let mut bytes = std::fs::read(&log).unwrap();
        let written = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        bytes[written * 2 / 3] ^= 1;
        std::fs::write(&log, bytes).unwrap();

        let (store, report) = Store::open(config(folder.path(), kind)).unwrap();
        assert_eq!((report.restored, report.log_missing), (false, 1), "{report:?}");
        assert!(report.notice().unwrap().contains("1 commit is unreadable"), "{report:?}");
        assert!(store.check().unwrap().is_log_whole());
        drop(store);
        std::fs::remove_dir_all(folder.path().join(format!("{kind}-1"))).unwrap();
        let (store, report) = Store::open(config(folder.path(), kind)).unwrap();
        assert!(report.restored && report.lost_commits == 0, "{report:?}");
        // and the row that tells of the restore
        assert_eq!(store.stats().unwrap().rows, 141);
    }
}

#[test]
fn a_store_of_a_newer_schema_is_left_alone() {
    let folder = changed(EngineKind::Redb, |engine, codec| state_schema(engine, codec, SCHEMA + 1));
    let error = Store::open(config(folder.path(), EngineKind::Redb)).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found, known: SCHEMA } if found == SCHEMA + 1), "{error}");
    assert!(folder.path().join("redb-1").is_dir());
}

#[test]
fn preconditions_keep_a_batch_out_and_hold_for_it() {
    use crate::engine::{EngineError, Precondition};
    let folder = tempfile::tempdir().unwrap();
    for kind in [EngineKind::Sled, EngineKind::Redb, EngineKind::Memory] {
        let engine = engine::open(kind, &folder.path().join(kind.name()), 1 << 20).unwrap();
        let write = |value: &[u8], conditions: &[Precondition]| {
            let mut batch = Batch::default();
            batch.put(b"a".to_vec(), value.to_vec());
            batch.put(b"b".to_vec(), value.to_vec());
            engine.write(&batch, conditions, Durability::Durable)
        };
        write(b"1", &[Precondition::Absent(b"a".to_vec())]).unwrap();
        let refused = Err(EngineError::Precondition { key: b"a".to_vec() });
        assert_eq!(write(b"2", &[Precondition::Absent(b"a".to_vec())]), refused);
        assert_eq!(write(b"2", &[Precondition::Equals(b"a".to_vec(), b"0".to_vec())]), refused);
        assert_eq!(engine.get(b"b").unwrap().as_deref(), Some(b"1".as_slice()));
        write(
            b"2",
            &[Precondition::Equals(b"a".to_vec(), b"1".to_vec()), Precondition::Absent(b"c".to_vec())],
        )
        .unwrap();
        assert_eq!(engine.get(b"b").unwrap().as_deref(), Some(b"2".as_slice()));
    }
}

#[test]
fn pages_stay_within_their_prefix_in_both_directions() {
    let folder = tempfile::tempdir().unwrap();
    for kind in [EngineKind::Sled, EngineKind::Redb, EngineKind::Memory] {
        let engine = engine::open(kind, &folder.path().join(kind.name()), 1 << 20).unwrap();
        let mut batch = Batch::default();
        let keys: [&[u8]; 7] = [b"a", b"b", b"b1", b"b2", b"b\xff", b"c", b"\xff\xff"];
        for key in keys {
            batch.put(key.to_vec(), key.to_vec());
        }
        engine.write(&batch, &[], Durability::Durable).unwrap();
        let page = |prefix: &[u8], from: Option<&[u8]>, direction, limit| -> Vec<Vec<u8>> {
            engine.page(prefix, from, direction, limit).unwrap().into_iter().map(|(key, _)| key).collect()
        };
        use Direction::{Backward, Forward};
        assert_eq!(page(b"b", None, Forward, 9), keys[1..5]);
        assert_eq!(page(b"b", Some(b"b1"), Forward, 1), [b"b2"]);
        assert_eq!(page(b"b", Some(b"b1"), Backward, 9), [b"b"]);
        assert_eq!(page(b"b", None, Backward, 2), [b"b\xff".to_vec(), b"b2".to_vec()]);
        assert_eq!(page(b"\xff", None, Backward, 9), [b"\xff\xff"]);
        assert_eq!(page(b"", None, Forward, 99).len(), 7);
        // a place outside the prefix neither widens nor inverts the range
        assert_eq!(page(b"b", Some(b"a"), Forward, 9).len(), 4);
        assert_eq!(page(b"b", Some(b"c"), Backward, 9).len(), 4);
        assert!(page(b"b", Some(b"c"), Forward, 9).is_empty());
        assert!(page(b"b", Some(b"a"), Backward, 9).is_empty());
        assert!(page(b"b", Some(b"b"), Backward, 9).is_empty());
        assert!(page(b"d", None, Forward, 9).is_empty());
    }
}
