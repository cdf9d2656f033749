//! The demo is the first thing a newcomer sees, so it has to work on any machine.

use std::process::{Command, Stdio};

use kith_tests::{PATIENCE, kith_binary, relay_binary, wait_until};

#[test]
fn the_demo_runs_to_its_end_by_itself_and_shows_ticks() {
    // the demo shows a relay if its program lies beside it
    assert_eq!(relay_binary().parent(), kith_binary().parent());
    let home = tempfile::tempdir().unwrap();
    let out = tempfile::NamedTempFile::new().unwrap();
    let mut demo = Command::new(kith_binary())
        .arg("demo")
        .env("HOME", home.path())
        .env("TMPDIR", home.path())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(out.reopen().unwrap())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let time = wait_until("the demo ends", PATIENCE * 2, || demo.try_wait().unwrap().is_some());
    let status = demo.wait().unwrap();
    let shown = std::fs::read_to_string(out.path()).unwrap();
    println!("{time:?}\n{shown}");
    assert!(status.success(), "{status}\n{shown}");
    assert!(shown.contains("✓✓") && shown.contains("Never on-line together"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "no colours without a terminal");
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "the demo cleans up behind itself: {left:?}");
}
