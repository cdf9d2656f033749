//! Data that was damaged in two places: what the restore could not bring back is told until somebody takes note, and
//! comes again from the contacts who have it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::path::{Path, PathBuf};

use kith_tests::{PATIENCE, Person, two_friends, wait_until};
use serde_json::Value;

/// The largest file of the export log.
fn log_of(data: &Path) -> PathBuf {
    let files = std::fs::read_dir(data.join("store/export")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.is_file()).max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

/// Takes the engine's files away, and some records in the middle out of the log.
fn damage(data: &Path) {
    let log = log_of(data);
    let mut bytes = std::fs::read(&log).unwrap();
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    for part in 4..8 {
        bytes[written * part / 10] ^= 0x55;
    }
    std::fs::write(&log, bytes).unwrap();
    for entry in std::fs::read_dir(data.join("store")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("sled-") {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
}

fn restored(person: &Person) -> Value {
    person.kith(&["status"]).ok().object()["restored"].clone()
}

#[test]
fn what_a_restore_lost_is_shown_until_somebody_takes_note_and_comes_back_from_the_contact() {
    let (mut ana, ben) = two_friends();
    let lines = |who: &str| (0..60).map(|n| format!("{who} {n}\n")).collect::<String>();
    ana.kith_with_input(&["send", "Ben", "--lines", "-"], lines("ana").as_bytes()).ok();
    ben.kith_with_input(&["send", "Ana", "--lines", "-"], lines("ben").as_bytes()).ok();
    // what is damaged does not end the log
    for n in 0..3 {
        ana.deliver(&ben, &format!("at last {n}"));
    }
    let before = ana.texts("Ben");
    assert_eq!(before.len(), 123);
    assert_eq!(restored(&ana), Value::Null);
    ana.stop();
    damage(&ana.data());

    let checked = ana.kith(&["store", "check"]).ok();
    let report = checked.object();
    assert!(report["sound"] == true && report["restored"]["lost_commits"].as_u64() > Some(0), "{report}");
    assert!(!checked.stderr.contains("panicked"), "{}", checked.stderr);
    assert!(ana.texts("Ben").len() < 123, "this test is about messages that are lost");
    // not once, but as long as nobody took note
    for _ in 0..2 {
        let notice = ana.kith(&["store", "check"]).ok().object()["notice"].clone();
        assert!(notice.as_str().unwrap().contains("are lost"), "{notice}");
        assert!(restored(&ana)["text"].as_str().unwrap().contains("store acknowledge"));
        let doctor = ana.kith(&["doctor"]).ok().lines;
        let told = |finding: &&Value| finding["text"].as_str().unwrap().contains("are lost");
        assert_eq!(doctor.iter().find(told).expect("the doctor tells")["level"], "warning");
    }

    ana.run();
    wait_until("everything is here again", PATIENCE, || {
        let (mut now, mut all) = (ana.texts("Ben"), before.clone());
        now.sort();
        all.sort();
        now == all
    });
    let view = restored(&ana);
    assert!(view["asked"].as_u64() > Some(0), "{view}");
    wait_until("nothing is missing any more", PATIENCE, || restored(&ana)["missing"] == 0);
    ana.deliver(&ben, "and on it goes");
    ben.deliver(&ana, "so it does");

    assert_eq!(ana.kith(&["store", "acknowledge"]).ok().object()["acknowledged"], true);
    assert_eq!(restored(&ana), Value::Null);
    ana.stop();
    ana.run();
    assert_eq!(restored(&ana), Value::Null);
    assert_eq!(ana.kith(&["store", "acknowledge"]).ok().object()["acknowledged"], false);
}

#[test]
fn damaged_settings_of_the_engine_cost_nothing_and_no_panic_reaches_the_terminal() {
    let (mut ana, ben) = two_friends();
    ana.deliver(&ben, "before");
    ana.stop();
    let engine = ana.data().join("store/sled-1");
    for (file, junk) in [("conf", vec![0xf7; 62]), ("db", vec![0x5a; 300_000])] {
        let engine = newest(&engine);
        std::fs::write(engine.join(file), junk).unwrap();
        let answer = ana.kith(&["history", "Ben"]).ok();
        assert_eq!(answer.lines.len(), 1, "{file}");
        assert!(
            !answer.stderr.contains("panicked") && !answer.stderr.contains("backtrace"),
            "{}",
            answer.stderr
        );
        assert!(answer.stderr.contains("nothing was lost"), "{file}: {}", answer.stderr);
    }
    ana.run();
    ana.deliver(&ben, "after");
}

/// The engine's folder with the highest number.
fn newest(first: &Path) -> PathBuf {
    let folders = std::fs::read_dir(first.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("sled-")?.parse::<u32>().ok();
    folders.filter_map(|path| Some((number(&path)?, path))).max().unwrap().1
}
