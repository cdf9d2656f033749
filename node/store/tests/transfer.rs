//! Whole stores on the move, and what keeps a store from being opened or filled.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use common::*;
use kith_protocol::record::{Clock, Key};
use kith_store::{
    CommitError, DataLock, EngineKind, ExportKey, LockError, OpenError, Store, StoreConfig, TransferError,
};

fn filled(engine: EngineKind) -> Place {
    let place = Place::new(engine);
    let store = place.open();
    for n in 1..=50 {
        store.commit(message(n)).wait().unwrap();
    }
    store.close().unwrap();
    place
}

#[test]
fn a_store_moves_to_the_other_engine_and_back() {
    let mut place = filled(EngineKind::Sled);
    for to in [EngineKind::Redb, EngineKind::Sled] {
        let report = kith_store::migrate(&place.config(), to).unwrap();
        assert_eq!((report.from, report.to), (place.engine, to));
        assert!(report.pairs > 400);
        // the configuration still names the old engine: the store knows better
        let (store, opened) = place.open_report();
        assert_eq!(opened.engine, Some(to));
        assert!(!opened.restored);
        assert_messages(&store, 1, 50);
        assert!(store.check().unwrap().is_sound());
        place.engine = to;
        assert!(place.engine_file().exists());
    }
    let left = std::fs::read_dir(place.folder.path()).unwrap();
    let names: Vec<_> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names.iter().filter(|name| name.contains('-')).count(), 1, "{names:?}");
}

#[test]
fn compacting_gives_space_back() {
    for engine in DISK_ENGINES {
        let place = Place::new(engine);
        let store = place.open();
        for round in 0..12 {
            let rows = (0..200).map(|n| put(long_entry(1, n, 3_000 + round)));
            store.commit(rows.collect()).wait().unwrap();
        }
        let gone = (10..200).map(|n| kith_protocol::record::Change::Delete(Key::Entry(entry_id(n))));
        store.commit(gone.collect()).wait().unwrap();
        drop(store);
        let report = kith_store::compact(&place.config()).unwrap();
        assert!(report.bytes_after < report.bytes_before, "{report:?}");
        let store = place.open();
        assert_eq!(store.entry(&entry_id(9)).unwrap(), Some(long_entry(1, 9, 3_011)));
        assert!(store.check().unwrap().is_sound());
    }
}

#[test]
fn an_interrupted_move_leaves_no_waste_and_the_old_store() {
    let place = filled(EngineKind::Sled);
    let draft = place.folder.path().join("new-redb-2");
    std::fs::create_dir(&draft).unwrap();
    std::fs::write(draft.join("data.redb"), b"half").unwrap();
    assert_messages(&place.open(), 1, 50);
    assert!(!draft.exists());
}

#[test]
fn an_export_comes_back_whole_in_any_engine() {
    let folder = tempfile::tempdir().unwrap();
    let place = filled(EngineKind::Redb);
    let store = place.open();
    for (name, seal) in
        [("p", ExportKey::Passphrase("correct horse".to_owned())), ("k", ExportKey::Key(key()))]
    {
        let file = folder.path().join(name);
        let rows = kith_store::export(&store, &file, &seal).unwrap();
        assert_eq!(rows, store.stats().unwrap().rows);
        let other = Place::new(EngineKind::Sled);
        let config = StoreConfig { key: kith_store::MasterKey::from_bytes([9; 32]), ..other.config() };
        let (copy, _) = Store::open(config).unwrap();
        assert_eq!(kith_store::import(&copy, &file, &seal).unwrap(), rows);
        assert_messages(&copy, 1, 50);
        assert!(copy.check().unwrap().is_sound());
        assert!(matches!(kith_store::import(&copy, &file, &seal), Err(TransferError::NotEmpty(_))));
    }
}

#[test]
fn an_export_that_is_cut_short_or_changed_or_opened_with_another_key_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("export");
    let place = filled(EngineKind::Memory);
    let source = place.open();
    // the memory engine's rows are those of this run
    for n in 1..=50 {
        source.commit(message(n)).wait().unwrap();
    }
    let seal = ExportKey::Key(key());
    kith_store::export(&source, &file, &seal).unwrap();
    let whole = std::fs::read(&file).unwrap();
    let target = Place::new(EngineKind::Memory).open();
    let refuse = |bytes: &[u8], seal: &ExportKey| {
        std::fs::write(&file, bytes).unwrap();
        let error = kith_store::import(&target, &file, seal).unwrap_err();
        assert_eq!(target.stats().unwrap().rows, 0);
        error
    };
    for len in [0, 5, 12, 13, 40, whole.len() / 2, whole.len() - 1] {
        assert!(matches!(refuse(&whole[..len], &seal), TransferError::NotAnExport(_)), "{len}");
    }
    for at in (0..whole.len()).step_by(whole.len() / 50) {
        let mut changed = whole.clone();
        changed[at] ^= 4;
        let error = refuse(&changed, &seal);
        assert!(matches!(error, TransferError::NotAnExport(_) | TransferError::WrongKey), "{at}: {error}");
    }
    let other = ExportKey::Key(kith_store::MasterKey::from_bytes([1; 32]));
    assert!(matches!(refuse(&whole, &other), TransferError::WrongKey));
    assert!(matches!(refuse(&whole, &ExportKey::Passphrase("x".to_owned())), TransferError::WrongKey));
}

#[test]
fn a_second_process_is_told_who_has_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let lock = DataLock::acquire(folder.path()).unwrap();
    let error = DataLock::acquire(folder.path()).unwrap_err();
    let LockError::Held { pid, .. } = &error else { panic!("{error}") };
    assert_eq!(*pid, Some(std::process::id()));
    assert!(error.to_string().contains("in use by another process"));
    drop(lock);
    DataLock::acquire(folder.path()).unwrap();
    for engine in DISK_ENGINES {
        let place = Place::new(engine);
        let store = place.open();
        assert!(matches!(Store::open(place.config()), Err(OpenError::Locked(_))));
        let reader = store.reader();
        drop(store);
        assert!(matches!(Store::open(place.config()), Err(OpenError::Locked(_))), "a reader holds it");
        drop(reader);
        place.open();
    }
}

#[test]
fn a_full_disk_refuses_writes_and_they_go_on_when_there_is_space() {
    for engine in DISK_ENGINES {
        let place = Place::new(engine);
        drop(place.open());
        let full = StoreConfig { min_free_bytes: u64::MAX, ..place.config() };
        let (store, _) = Store::open(full).unwrap();
        let first = store.commit(message(1));
        let second = store.commit(message(2));
        assert!(matches!(first.wait(), Err(CommitError::NoSpace { .. })));
        assert!(matches!(second.wait(), Err(CommitError::Halted(_) | CommitError::NoSpace { .. })));
        assert!(matches!(store.resume(), Err(CommitError::NoSpace { .. })));
        assert!(store.stats().unwrap().halted.is_some());
        assert_eq!(store.entry(&entry_id(1)).unwrap(), None);
        drop(store);
        let store = place.open();
        assert_eq!(store.stats().unwrap().commits, 0);
        store.commit(message(1)).wait().unwrap();
        assert!(store.check().unwrap().is_sound());
    }
}

#[test]
fn a_quota_is_kept_and_nothing_is_lost_by_it() {
    for engine in DISK_ENGINES {
        let place = Place::new(engine);
        let quota = 6_000_000;
        let (store, _) = Store::open(StoreConfig { quota_bytes: Some(quota), ..place.config() }).unwrap();
        let mut stored = 0;
        let refusal = (0..5_000).find_map(|n| {
            let result = store.commit(vec![put(long_entry(1, n, 8_000)), put(Clock::default())]).wait();
            stored += u64::from(result.is_ok());
            result.err()
        });
        assert!(matches!(refusal, Some(CommitError::Quota { .. })), "{refusal:?}");
        assert!(stored > 50, "{stored}");
        drop(store);
        let store = place.open();
        assert_eq!(store.history(&conversation_id(1), None, 10_000).unwrap().len() as u64, stored);
        assert!(store.check().unwrap().is_sound());
    }
}

#[test]
fn the_log_stays_in_proportion_to_what_lives() {
    for engine in DISK_ENGINES {
        let place = Place::new(engine);
        let config = || StoreConfig { export_min_bytes: 200_000, ..place.config() };
        let (store, _) = Store::open(config()).unwrap();
        for n in 0..600 {
            store.commit(vec![put(long_entry(1, n % 20, 8_000)), put(Clock::default())]).wait().unwrap();
        }
        let bounded = (0..1_000).any(|_| store.stats().unwrap().log_bytes < 1_500_000);
        assert!(bounded, "{:?}", store.stats());
        assert!(store.check().unwrap().is_log_whole());
        drop(store);
        std::fs::remove_dir_all(place.engine_folder()).unwrap();
        let (store, report) = Store::open(config()).unwrap();
        assert!(report.restored && report.lost_commits == 0, "{report:?}");
        for n in 0..20 {
            assert_eq!(store.entry(&entry_id(n)).unwrap(), Some(long_entry(1, n, 8_000)));
        }
        assert_eq!(store.stats().unwrap().commits, 600);
    }
}

#[test]
fn a_newer_layout_is_a_clear_error() {
    let place = filled(EngineKind::Redb);
    let pointer = place.folder.path().join("current");
    let text = std::fs::read_to_string(&pointer).unwrap();
    let (body, _) = text.trim_end().rsplit_once('\n').unwrap();
    let newer = format!("{}\n", body.replace("kith-store 1", "kith-store 7"));
    std::fs::write(&pointer, format!("{newer}{:08x}\n", crc32fast::hash(newer.as_bytes()))).unwrap();
    let error = Store::open(place.config()).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 7, known: 1 }), "{error}");
    assert!(error.to_string().contains("install a newer Kith"));
}
