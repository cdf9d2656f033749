use std::collections::BTreeMap;

use super::*;

fn group(number: u64, len: usize) -> Batch {
    let mut batch = Batch::default();
    batch.put(number.to_be_bytes().to_vec(), vec![number as u8; len]);
    batch.put(b"empty".to_vec(), Vec::new());
    batch.delete(b"gone".to_vec());
    batch
}

/// A journal that turns whenever it must, with an engine that has everything up to `delivered`.
fn append(journal: &mut Journal, batch: &Batch, delivered: u64) {
    if journal.wants_file() {
        assert!(journal.turn(delivered).unwrap());
    }
    journal.append(batch).unwrap();
}

fn found(folder: &Path, after: u64) -> (BTreeMap<u64, Batch>, Recovered) {
    let mut groups = BTreeMap::new();
    let report = recover::<io::Error>(folder, after, |number, group| {
        assert!(number > after && groups.last_key_value().is_none_or(|(last, _)| *last < number));
        groups.insert(number, group);
        Ok(())
    });
    (groups, report.unwrap())
}

fn only_file(folder: &Path) -> PathBuf {
    let mut files = files(folder).unwrap();
    assert_eq!(files.len(), 1);
    files.remove(0).1
}

#[test]
fn groups_come_back_in_order_from_whatever_number_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(found(folder.path(), 7).1, Recovered { last: 7, ..Recovered::default() });
    let mut journal = Journal::begin(folder.path(), 4).unwrap();
    for number in 5..=20 {
        assert_eq!(journal.next(), number);
        append(&mut journal, &group(number, 100 * number as usize), 4);
    }
    drop(journal);
    let (groups, report) = found(folder.path(), 9);
    assert_eq!(report, Recovered { groups: 11, last: 20, missing: 0, unreadable: 0 });
    for (number, rows) in groups {
        assert_eq!(rows, group(number, 100 * number as usize));
    }
    assert_eq!(found(folder.path(), 20).1.groups, 0);
}

#[test]
fn a_file_is_used_again_only_once_the_engine_has_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::begin(folder.path(), 0).unwrap();
    let large = 3 * 1024 * 1024;
    let mut number = 0;
    let refused = loop {
        if journal.wants_file() && !journal.turn(0).unwrap() {
            break number;
        }
        number += 1;
        journal.append(&group(number, large)).unwrap();
    };
    // three groups a file, in all files
    assert_eq!((refused, files(folder.path()).unwrap().len()), (3 * FILES as u64, FILES));
    assert_eq!(found(folder.path(), 0).1.groups, refused);
    // the engine has what is in the first one
    assert!(!journal.turn(2).unwrap());
    assert!(journal.turn(3).unwrap());
    journal.append(&group(refused + 1, 10)).unwrap();
    assert_eq!(files(folder.path()).unwrap().len(), FILES);
    let (groups, report) = found(folder.path(), 3);
    assert_eq!((report.missing, report.unreadable), (0, 0));
    assert_eq!(groups.keys().copied().collect::<Vec<_>>(), (4..=refused + 1).collect::<Vec<_>>());
    drop(journal);
    // what is left of an earlier use is not what was written since, whatever its numbers say
    let mut journal = Journal::begin(folder.path(), refused + 1).unwrap();
    append(&mut journal, &group(refused + 2, 10), refused + 1);
    let (groups, report) = found(folder.path(), refused + 1);
    assert_eq!((groups.len(), report.missing, report.unreadable), (1, 0, 0));
    journal.remove().unwrap();
    assert!(files(folder.path()).unwrap().is_empty());
}

#[test]
fn any_flipped_bit_costs_one_group_that_is_missed_if_another_is_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::begin(folder.path(), 0).unwrap();
    let mut starts = Vec::new();
    for number in 1..=4 {
        append(&mut journal, &group(number, 20), 0);
        starts.push(journal.current.as_ref().unwrap().end as usize);
    }
    drop(journal);
    let path = only_file(folder.path());
    let bytes = std::fs::read(&path).unwrap();
    let end = starts[3];
    for bit in 0..end * 8 {
        let mut harmed = bytes.clone();
        harmed[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, harmed).unwrap();
        let (groups, report) = found(folder.path(), 0);
        let hit =
            (bit / 8 >= 2 * HEADER).then(|| starts.iter().position(|end| bit / 8 < *end).unwrap() as u64 + 1);
        let expected: Vec<u64> = (1..=4).filter(|number| Some(*number) != hit).collect();
        assert_eq!(groups.keys().copied().collect::<Vec<_>>(), expected, "bit {bit}");
        assert!(groups.iter().all(|(number, rows)| *rows == group(*number, 20)));
        assert_eq!(report.missing, u64::from(hit.is_some_and(|hit| hit < 4)));
    }
}

#[test]
fn a_torn_last_group_is_as_if_it_had_not_been_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::begin(folder.path(), 0).unwrap();
    append(&mut journal, &group(1, 2_000), 0);
    let start = journal.current.as_ref().unwrap().end as usize;
    append(&mut journal, &group(2, 2_000), 0);
    let end = journal.current.as_ref().unwrap().end as usize;
    drop(journal);
    let path = only_file(folder.path());
    let bytes = std::fs::read(&path).unwrap();
    for (from, to) in
        [(start, start + 1), (start, start + 512), (start + 512, end), (end - 1, end), (start, end)]
    {
        let mut torn = bytes.clone();
        torn[from..to].fill(0);
        std::fs::write(&path, torn).unwrap();
        assert_eq!(found(folder.path(), 0).1, Recovered { groups: 1, last: 1, missing: 0, unreadable: 0 });
    }
    // what comes after a crash is found beside it
    let mut journal = Journal::begin(folder.path(), 1).unwrap();
    append(&mut journal, &group(2, 10), 1);
    assert_eq!(found(folder.path(), 1).0.into_iter().collect::<Vec<_>>(), [(2, group(2, 10))]);
}

#[test]
fn what_somebody_wrote_into_an_envelope_is_no_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut forged = Vec::new();
    header([9; 16], &mut forged);
    header([9; 16], &mut forged);
    for number in 1..100 {
        record([9; 16], number, &group(number, 10), &mut forged).unwrap();
    }
    let mut journal = Journal::begin(folder.path(), 0).unwrap();
    let mut batch = Batch::default();
    batch.put(b"envelope".to_vec(), forged);
    append(&mut journal, &batch, 0);
    drop(journal);
    let mut journal = Journal::begin(folder.path(), 1).unwrap();
    append(&mut journal, &group(2, 1), 1);
    assert_eq!(found(folder.path(), 1).0.into_iter().collect::<Vec<_>>(), [(2, group(2, 1))]);
}

#[test]
fn random_files_hold_nothing_and_a_journal_begins_among_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = 1_u64;
    let bytes: Vec<u8> = (0..100_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        })
        .collect();
    std::fs::write(folder.path().join("redo-00000000"), bytes).unwrap();
    std::fs::write(folder.path().join("redo-00000001"), []).unwrap();
    std::fs::write(folder.path().join("something else"), [1]).unwrap();
    assert_eq!(found(folder.path(), 0).1, Recovered { unreadable: 1, ..Recovered::default() });
    let mut journal = Journal::begin(folder.path(), 0).unwrap();
    append(&mut journal, &group(1, 1), 0);
    assert_eq!(found(folder.path(), 0).1.groups, 1);
}
