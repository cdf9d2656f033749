use kith_protocol::record::{Change, Replay, Row};
use kith_protocol::time::Wall;

use super::*;
use crate::codec::Codec;
use crate::engine::memory::MemoryDisk;
use crate::keys::MasterKey;
use crate::staging::{Meta, Staging};

fn codec() -> Codec {
    Codec::new(&MasterKey::from_bytes([3; 32]))
}

fn row(n: u64) -> Row {
    let mut base_key = [0; 32];
    base_key[..8].copy_from_slice(&n.to_be_bytes());
    Replay { base_key, until: Wall(n) }.into()
}

fn open(folder: &Path, next: u64) -> ExportLog {
    let state = LogState { next, incomplete: false, keep_in: None, least: 1 << 30 };
    ExportLog::open(folder, state).unwrap()
}

fn write(log: &mut ExportLog, codec: &Codec, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        log.append(codec, number, number, true, &[Change::Put(row(number))]).unwrap();
        log.write().unwrap();
    }
}

/// Where the last record of a file ends.
fn logical_end(bytes: &[u8]) -> usize {
    let mut frames = frame::Frames::new(bytes);
    frames.by_ref().for_each(drop);
    frames.end
}

fn read(folder: &Path, after: u64) -> (Vec<u64>, Walk) {
    let mut numbers = Vec::new();
    let walk = walk::<io::Error>(folder, &codec(), after, |commit| {
        assert_eq!(commit.changes, [Change::Put(row(commit.number))]);
        numbers.push(commit.number);
        Ok(())
    })
    .unwrap();
    (numbers, walk)
}

#[test]
fn commits_come_back_in_order_over_several_runs() {
    let folder = tempfile::tempdir().unwrap();
    let codec = codec();
    for run in 0..4_u64 {
        let mut log = open(folder.path(), run * 10 + 1);
        write(&mut log, &codec, run * 10 + 1..=run * 10 + 10);
        log.close(run * 10 + 10).unwrap();
    }
    let (numbers, walk) = read(folder.path(), 0);
    assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
    assert!(walk.closed && walk.missing == 0 && walk.damaged_bytes == 0, "{walk:?}");
    assert_eq!(read(folder.path(), 35).0, [36, 37, 38, 39, 40]);
    assert_eq!(Listing::read(folder.path()).unwrap().segments.len(), 1, "intact files are continued");
}

#[test]
fn a_torn_end_is_left_alone_and_a_new_file_begun() {
    let folder = tempfile::tempdir().unwrap();
    let codec = codec();
    write(&mut open(folder.path(), 1), &codec, 1..=10);
    let path = Listing::read(folder.path()).unwrap().segments[0].path.clone();
    let mut torn = std::fs::read(&path).unwrap();
    torn.truncate(logical_end(&torn));
    std::fs::write(&path, &torn[..torn.len() - 3]).unwrap();
    write(&mut open(folder.path(), 11), &codec, 11..=12);
    let (numbers, walk) = read(folder.path(), 0);
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12]);
    assert_eq!(walk.missing, 1);
    assert!(walk.damaged_bytes > 0 && !walk.closed);
    assert_eq!(std::fs::read(&path).unwrap().len(), torn.len() - 3);
}

#[test]
fn damage_in_the_middle_costs_one_commit() {
    let folder = tempfile::tempdir().unwrap();
    write(&mut open(folder.path(), 1), &codec(), 1..=9);
    let path = Listing::read(folder.path()).unwrap().segments[0].path.clone();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = logical_end(&bytes) / 2;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (numbers, walk) = read(folder.path(), 0);
    assert_eq!(numbers, [1, 2, 3, 4, 6, 7, 8, 9]);
    assert_eq!((walk.missing, walk.last), (1, Some(9)));
}

#[test]
fn records_of_another_key_are_damage() {
    let folder = tempfile::tempdir().unwrap();
    let other = Codec::new(&MasterKey::from_bytes([4; 32]));
    let mut log = open(folder.path(), 1);
    write(&mut log, &other, 1..=3);
    write(&mut log, &codec(), 4..=5);
    assert_eq!(read(folder.path(), 0).0, [4, 5]);
}

#[test]
fn a_snapshot_with_the_commits_made_while_it_was_written_is_the_whole_store() {
    let folder = tempfile::tempdir().unwrap();
    let codec = codec();
    let engine = MemoryDisk::default().engine();
    let mut meta = Meta::default();
    let mut log = open(folder.path(), 1);
    let mut commit = |log: &mut ExportLog, n: u64, change: Change| {
        let mut staging = Staging::new(&engine, &codec, meta);
        staging.apply(&change).unwrap();
        staging.meta.commit = n;
        let (batch, next) = staging.finish().unwrap();
        crate::engine::Engine::write(&engine, &batch, &[], crate::engine::Durability::Durable).unwrap();
        meta = next;
        log.append(&codec, n, n, true, &[change]).unwrap();
        log.write().unwrap();
    };
    for n in 1..=900 {
        commit(&mut log, n, Change::Put(row(n)));
    }
    log.rewrite();
    let mut last = 900;
    while log.needs_tending() {
        log.tend(&engine, &codec, last).unwrap();
        last += 1;
        let change =
            if last % 2 == 0 { Change::Put(row(last)) } else { Change::Delete(row(last - 900).key()) };
        commit(&mut log, last, change);
    }
    let listing = Listing::read(folder.path()).unwrap();
    assert_eq!(listing.snapshots.len(), 1);
    assert!(listing.drafts.is_empty() && listing.segments.iter().all(|segment| segment.first > 900));
    let mut rows = std::collections::BTreeMap::new();
    let (base, path) = &listing.snapshots[0];
    let found = snapshot_rows::<io::Error>(path, &codec, |some| {
        rows.extend(some.into_iter().map(|row| (row.key(), row)));
        Ok(())
    });
    assert_eq!((found.unwrap(), *base), (SnapshotWalk::default(), 900));
    walk::<io::Error>(folder.path(), &codec, *base, |commit| {
        for change in commit.changes {
            match change {
                Change::Put(row) => drop(rows.insert(row.key(), row)),
                Change::Delete(key) => drop(rows.remove(&key)),
            }
        }
        Ok(())
    })
    .unwrap();
    let expected: std::collections::BTreeMap<_, _> = (1..=last)
        .filter(|n| *n <= 900 || n % 2 == 0)
        .filter(|n| !(901..=last).any(|m| m % 2 == 1 && m - 900 == *n))
        .map(|n| (row(n).key(), row(n)))
        .collect();
    assert!(last > 903);
    assert_eq!(rows, expected);
}
