//! Flipped bits and lost ends: detected, told, the original kept, and everything restored from the export log.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::path::{Path, PathBuf};

use common::*;
use kith_protocol::record::{Key, Reader as _, Restoration};
use kith_store::{EngineKind, OpenError, OpenReport, Store, StoreConfig};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

const MESSAGES: u64 = 120;

/// A closed store that several runs have written messages into.
fn filled(engine: EngineKind) -> Place {
    let place = Place::new(engine);
    for run in 0..3 {
        let store = place.open();
        for n in run * MESSAGES / 3 + 1..=(run + 1) * MESSAGES / 3 {
            store.commit(message(n)).wait().unwrap();
        }
        store.close().unwrap();
    }
    place
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn copy_of(place: &Place) -> Place {
    let copy = Place::new(place.engine);
    copy_tree(place.folder.path(), copy.folder.path());
    copy
}

fn flip(path: &Path, bit: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = usize::try_from(bit / 8).unwrap();
    bytes[at] ^= 1 << (bit % 8);
    std::fs::write(path, bytes).unwrap();
}

fn truncate(path: &Path, by: u64) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let len = file.metadata().unwrap().len();
    file.set_len(len.saturating_sub(by)).unwrap();
}

fn aside(report: &OpenReport) -> PathBuf {
    let path = report.set_aside.clone().expect("the original is kept");
    assert!(path.is_dir());
    path
}

/// Opens a harmed store, which must come back whole; says whether it had to be restored.
fn opens_whole(place: &Place, what: &str) -> bool {
    let harmed = std::fs::metadata(place.engine_file()).unwrap().len();
    let config = StoreConfig { verify: true, ..place.config() };
    let (store, report) = Store::open(config).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_messages(&store, 1, MESSAGES);
    let check = store.check().unwrap();
    assert!(check.is_sound(), "{what}: {check:?}");
    assert_eq!(report.lost_commits, 0, "{what}: {report:?}");
    assert_eq!(store.history(&conversation_id(1), None, 1_000).unwrap().len() as u64, MESSAGES);
    if report.restored {
        let kept = aside(&report).join(if place.engine == EngineKind::Sled { "db" } else { "data.redb" });
        // sled itself lengthens a shortened file when it opens it
        assert!(std::fs::metadata(kept).unwrap().len() >= harmed, "{what}: the original is not kept");
        assert!(report.notice().unwrap().contains("nothing was lost"), "{what}: {report:?}");
    }
    // and it goes on
    store.commit(message(MESSAGES + 1)).wait().unwrap();
    store.close().unwrap();
    drop(store);
    let (store, again) = place.open_report();
    assert!(!again.restored, "{what}: {again:?}");
    assert_messages(&store, MESSAGES + 1, MESSAGES + 1);
    report.restored
}

fn bit_flips(engine: EngineKind) {
    let original = filled(engine);
    let mut rng = StdRng::seed_from_u64(3);
    let len = std::fs::metadata(original.engine_file()).unwrap().len();
    let rounds = if std::env::var_os("KITH_SOAK").is_some() { 200 } else { 12 };
    let mut restored = 0;
    for round in 0..rounds {
        let place = copy_of(&original);
        let bit = rng.random_range(0..len * 8);
        flip(&place.engine_file(), bit);
        restored += u32::from(opens_whole(&place, &format!("round {round}, bit {bit}")));
    }
    println!("{engine}: {restored} of {rounds} stores were restored");
}

fn truncations(engine: EngineKind) {
    let original = filled(engine);
    for by in [1, 100, 4_096, 50_000, 200_000, u64::MAX] {
        let place = copy_of(&original);
        truncate(&place.engine_file(), by);
        opens_whole(&place, &format!("truncated by {by}"));
    }
}

fn zeroed_blocks(engine: EngineKind) {
    let original = filled(engine);
    let mut rng = StdRng::seed_from_u64(4);
    for round in 0..6 {
        let place = copy_of(&original);
        let mut bytes = std::fs::read(place.engine_file()).unwrap();
        let at = rng.random_range(0..bytes.len() / 4096) * 4096;
        bytes[at..at + 4096].fill(0);
        std::fs::write(place.engine_file(), bytes).unwrap();
        opens_whole(&place, &format!("round {round}, zeroed at {at}"));
    }
}

#[test]
fn sled_comes_back_from_flipped_bits() {
    bit_flips(EngineKind::Sled);
}

#[test]
fn redb_comes_back_from_flipped_bits() {
    bit_flips(EngineKind::Redb);
}

#[test]
fn sled_comes_back_from_a_lost_end() {
    truncations(EngineKind::Sled);
}

#[test]
fn redb_comes_back_from_a_lost_end() {
    truncations(EngineKind::Redb);
}

#[test]
fn sled_comes_back_from_zeroed_blocks() {
    zeroed_blocks(EngineKind::Sled);
}

#[test]
fn redb_comes_back_from_zeroed_blocks() {
    zeroed_blocks(EngineKind::Redb);
}

#[test]
fn a_missing_engine_folder_is_restored() {
    for engine in DISK_ENGINES {
        let place = filled(engine);
        std::fs::remove_dir_all(place.engine_folder()).unwrap();
        let (store, report) = place.open_report();
        assert!(report.restored && report.set_aside.is_none(), "{report:?}");
        assert_messages(&store, 1, MESSAGES);
        assert!(store.check().unwrap().is_sound());
    }
}

#[test]
fn a_missing_or_damaged_pointer_file_is_made_again() {
    for engine in DISK_ENGINES {
        let place = filled(engine);
        let pointer = place.folder.path().join("current");
        std::fs::write(&pointer, "kith-store 1\nnonsense\n").unwrap();
        assert_messages(&place.open(), 1, MESSAGES);
        std::fs::remove_file(&pointer).unwrap();
        let (store, report) = place.open_report();
        assert!(!report.restored && !report.created, "{report:?}");
        assert_messages(&store, 1, MESSAGES);
        assert!(pointer.exists());
        drop(store);
        std::fs::remove_file(&pointer).unwrap();
        let wrong = StoreConfig { key: kith_store::MasterKey::from_bytes([1; 32]), ..place.config() };
        assert!(matches!(Store::open(wrong), Err(OpenError::WrongKey(_))));
        assert_messages(&place.open(), 1, MESSAGES);
    }
}

#[test]
fn damage_in_the_log_costs_a_sound_engine_nothing_and_the_log_is_rewritten() {
    for engine in DISK_ENGINES {
        let place = filled(engine);
        let log = log_files(&place).pop().unwrap();
        flip(&log, std::fs::metadata(&log).unwrap().len() * 4);
        let store = place.open();
        assert_messages(&store, 1, MESSAGES);
        let first = store.check().unwrap();
        assert!(first.is_sound());
        assert!(store.check().unwrap().is_log_whole(), "{:?}", store.check());
        drop(store);
        // and the rewritten log is good for a restore
        std::fs::remove_dir_all(place.engine_folder()).unwrap();
        let (store, report) = place.open_report();
        assert!(report.restored && report.lost_commits == 0, "{report:?}");
        assert_messages(&store, 1, MESSAGES);
    }
}

fn log_files(place: &Place) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(place.folder.path().join("export"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && std::fs::metadata(path).unwrap().len() > 1_000)
        .collect();
    files.sort();
    files
}

#[test]
fn damage_in_both_loses_no_more_than_what_lay_there_and_counts_it() {
    for engine in DISK_ENGINES {
        let place = filled(engine);
        let log = log_files(&place).pop().unwrap();
        flip(&log, std::fs::metadata(&log).unwrap().len() * 4);
        std::fs::remove_dir_all(place.engine_folder()).unwrap();
        let (store, report) = place.open_report();
        assert!(report.restored && report.damaged_log_bytes > 0, "{report:?}");
        assert_eq!(report.lost_commits, 1, "{report:?}");
        assert!(report.notice().unwrap().contains("1 commit is lost"), "{report:?}");
        let history = store.history(&conversation_id(1), None, 1_000).unwrap();
        assert_eq!(history.len() as u64, MESSAGES - 1);
        assert!(store.check().unwrap().is_sound());
        assert!(store.check().unwrap().is_log_whole(), "{:?}", store.check());
        // the damaged records are kept, too
        let kept = std::fs::read_dir(place.folder.path()).unwrap().any(|entry| {
            let path = entry.unwrap().path().join("export");
            path.is_dir() && std::fs::read_dir(path).unwrap().count() > 0
        });
        assert!(kept);
    }
}

#[test]
fn junk_in_sleds_small_files_costs_nothing() {
    let original = filled(EngineKind::Sled);
    let mut rng = StdRng::seed_from_u64(5);
    let conf = std::fs::read(original.engine_folder().join("conf")).unwrap();
    let noise: Vec<u8> = (0..conf.len()).map(|_| rng.random()).collect();
    let other_size = String::from_utf8_lossy(&conf).replace("segment_size: ", "segment_size: 1").into_bytes();
    let other_version = String::from_utf8_lossy(&conf).replace("version: 0.", "version: 7.").into_bytes();
    let long = vec![0xff; 100_000];
    for junk in [
        noise,
        vec![0; conf.len()],
        b"junk".to_vec(),
        long,
        other_size,
        other_version,
        b"a\nb\nc\nd\ne".to_vec(),
    ] {
        let place = copy_of(&original);
        std::fs::write(place.engine_folder().join("conf"), &junk).unwrap();
        opens_whole(
            &place,
            &format!("settings {:?}", String::from_utf8_lossy(&junk).chars().take(40).collect::<String>()),
        );
    }
    for bytes in [16, 512, 4_096, 100_000] {
        let place = copy_of(&original);
        let mut log = std::fs::read(place.engine_file()).unwrap();
        let end = log.len().min(bytes);
        rng.fill(&mut log[..end]);
        std::fs::write(place.engine_file(), log).unwrap();
        opens_whole(&place, &format!("the first {bytes} bytes of the log"));
    }
    let place = copy_of(&original);
    for entry in std::fs::read_dir(place.engine_folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let mut bytes = std::fs::read(&path).unwrap();
            rng.fill(bytes.as_mut_slice());
            std::fs::write(&path, bytes).unwrap();
        }
    }
    assert!(opens_whole(&place, "every file is noise"));
}

#[test]
fn a_damaged_snapshot_of_the_log_is_not_called_no_loss() {
    for engine in DISK_ENGINES {
        let place = filled(engine);
        // the log is written anew: what is older lies in its snapshot
        let store = Store::open(StoreConfig { export_min_bytes: 1, ..place.config() }).unwrap().0;
        for n in MESSAGES + 1..=MESSAGES + 40 {
            store.commit(message(n)).wait().unwrap();
        }
        store.close().unwrap();
        drop(store);
        let snapshot = std::fs::read_dir(place.folder.path().join("export"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.is_dir())
            .expect("a snapshot");
        let part = std::fs::read_dir(snapshot).unwrap().next().unwrap().unwrap().path();
        flip(&part, std::fs::metadata(&part).unwrap().len() * 4);
        std::fs::remove_dir_all(place.engine_folder()).unwrap();
        let (store, report) = place.open_report();
        assert!(report.restored && report.rows_lost, "{report:?}");
        let notice = report.notice().unwrap();
        assert!(!notice.contains("nothing was lost") && notice.contains("some older rows"), "{notice}");
        let kept: Restoration = store.row(&Key::Restoration).unwrap().unwrap();
        assert!(kept.rows_lost && kept.looked_through.is_none(), "{kept:?}");
    }
}

#[test]
fn a_loss_is_kept_in_the_store_and_a_second_one_adds_to_it() {
    for engine in DISK_ENGINES {
        let place = filled(engine);
        let harm = |place: &Place| {
            let log = log_files(place).pop().unwrap();
            flip(&log, std::fs::metadata(&log).unwrap().len() * 4);
            std::fs::remove_dir_all(place.engine_folder()).unwrap();
        };
        harm(&place);
        let (store, report) = place.open_report();
        assert_eq!(report.lost_commits, 1, "{report:?}");
        let kept: Restoration = store.row(&Key::Restoration).unwrap().unwrap();
        assert_eq!((kept.lost_commits, kept.acknowledged), (1, false));
        assert!(kept.sentence().contains("1 group of changes is lost"), "{}", kept.sentence());
        for n in 1..=40 {
            store.commit(message(MESSAGES + n)).wait().unwrap();
        }
        store.close().unwrap();
        drop(store);
        // an ordinary start forgets nothing
        let (store, report) = place.open_report();
        assert!(!report.restored);
        assert_eq!(store.row::<Restoration>(&Key::Restoration).unwrap().unwrap().lost_commits, 1);
        store.close().unwrap();
        drop(store);
        harm(&place);
        let (store, report) = place.open_report();
        assert!(report.restored, "{report:?}");
        let kept: Restoration = store.row(&Key::Restoration).unwrap().unwrap();
        assert_eq!(kept.lost_commits, 1 + report.lost_commits, "{kept:?}");
        assert!(store.check().unwrap().is_sound());
    }
}

#[test]
fn nothing_to_restore_from_is_a_clear_error_that_touches_nothing() {
    for engine in DISK_ENGINES {
        let place = filled(engine);
        std::fs::remove_dir_all(place.folder.path().join("export")).unwrap();
        truncate(&place.engine_file(), u64::MAX);
        let before = std::fs::metadata(place.engine_file()).unwrap().len();
        let error = match Store::open(place.config()) {
            Err(error) => error,
            // sled takes an empty log for a new one
            Ok((_, report)) => panic!("{engine} opened: {report:?}"),
        };
        assert!(matches!(error, OpenError::Damaged { .. }), "{engine}: {error}");
        assert!(error.to_string().contains("no export log"), "{error}");
        assert!(std::fs::metadata(place.engine_file()).unwrap().len() >= before);
    }
}

#[test]
fn damage_seen_while_reading_is_repaired_at_the_next_start() {
    // redb returns what it finds: the seal of each value tells
    let original = filled(EngineKind::Redb);
    let mut rng = StdRng::seed_from_u64(9);
    let len = std::fs::metadata(original.engine_file()).unwrap().len();
    let mut repaired = 0;
    for _ in 0..40 {
        let place = copy_of(&original);
        flip(&place.engine_file(), rng.random_range(0..len * 8));
        let Ok((store, report)) = Store::open(place.config()) else { panic!("does not open") };
        if report.restored {
            continue;
        }
        let failed =
            (1..=MESSAGES).any(|n| message(n).iter().any(|change| store.get(&change.key()).is_err()));
        drop(store);
        if failed {
            let (store, report) = place.open_report();
            assert!(report.restored, "{report:?}");
            assert_messages(&store, 1, MESSAGES);
            repaired += 1;
        }
    }
    println!("{repaired} of 40 flipped bits were met while reading");
}

#[test]
fn a_memory_disk_loses_unsynced_writes_only_and_shows_flipped_bits() {
    let place = Place::new(EngineKind::Memory);
    let store = place.open();
    store.commit(message(1)).wait().unwrap();
    store.commit_lazy(message(2)).wait().unwrap();
    assert_messages(&store, 1, 2);
    place.disk.crash();
    assert!(store.entry(&entry_id(1)).is_err(), "the old process is dead");
    assert!(store.commit(message(3)).wait().is_err());
    let store = place.open();
    assert_messages(&store, 1, 1);
    assert_eq!(store.entry(&entry_id(2)).unwrap(), None);
    store.commit_lazy(message(2)).wait().unwrap();
    store.commit(message(3)).wait().unwrap();
    place.disk.crash();
    let store = place.open();
    assert_messages(&store, 1, 3);
    assert!(store.check().unwrap().is_sound());
    for n in 0..place.disk.len() {
        let disk = place.disk.copy();
        assert!(disk.flip_bit(n, 77 * n));
        let opened = Store::open(StoreConfig::memory(disk, key()));
        let noticed = match opened {
            Err(_) => true,
            Ok((store, _)) => store.check().map_or(true, |report| !report.is_sound()),
        };
        assert!(noticed, "value {n}");
    }
}
