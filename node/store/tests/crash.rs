//! Nothing acknowledged is lost when the process is killed or the power goes.
//!
//! `KITH_SOAK=1` runs the long version: 100 kills and 60 power cuts for each engine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use common::*;
use kith_protocol::record::{Clock, Job, Key, KeyRange};
use kith_store::{CommitTicket, EngineKind, OpenReport, Store, StoreConfig};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

const FOLDER: &str = "KITH_CRASH_FOLDER";
const ENGINE: &str = "KITH_CRASH_ENGINE";
const START: &str = "KITH_CRASH_START";

fn is_soak() -> bool {
    std::env::var_os("KITH_SOAK").is_some()
}

fn crash_config(folder: &Path, engine: EngineKind) -> StoreConfig {
    // the export log is rewritten often, so that cuts hit that too
    StoreConfig { export_min_bytes: 100_000, ..config(folder, engine) }
}

/// Not a test of its own: what the killed process does. It writes messages, by turns a few on the way at a time and one
/// after the other in its own thread, and says which are acknowledged.
#[test]
fn writer() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let engine = std::env::var(ENGINE).unwrap().parse().unwrap();
    let start: u64 = std::env::var(START).unwrap().parse().unwrap();
    let (store, _) = Store::open(crash_config(Path::new(&folder), engine)).unwrap();
    let mut waiting: std::collections::VecDeque<(u64, CommitTicket)> = std::collections::VecDeque::new();
    let mut out = std::io::stdout();
    for n in start.. {
        let alone = n / 16 % 2 == 0;
        let commit = if alone { Store::commit_here } else { Store::commit };
        waiting.push_back((n, commit(&store, message(n))));
        let under_way = if alone { 0 } else { n % 4 };
        while waiting.len() as u64 > under_way {
            let (n, ticket) = waiting.pop_front().unwrap();
            ticket.wait().unwrap();
            writeln!(out, "ack {n}").unwrap();
            out.flush().unwrap();
        }
    }
}

struct Writer {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    acknowledged: u64,
}

impl Writer {
    fn start(folder: &Path, engine: EngineKind, start: u64, shadow: Option<&Path>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "writer", "--nocapture"])
            .env(FOLDER, folder)
            .env(ENGINE, engine.name())
            .env(START, start.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        if let Some(shadow) = shadow {
            command.env("LD_PRELOAD", shim()).env("POWERCUT_ROOT", folder).env("POWERCUT_SHADOW", shadow);
        }
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, acknowledged: 0 }
    }

    fn read(&mut self) -> bool {
        let Some(line) = self.lines.next() else { return false };
        // the test program's own lines share the pipe
        if let Some(n) = line.unwrap().split("ack ").nth(1).and_then(|n| n.parse().ok()) {
            self.acknowledged = n;
        }
        true
    }

    /// Waits for some acknowledgements and kills. Returns the last one given.
    fn kill_after(mut self, acknowledgements: u64) -> u64 {
        let mut seen = 0;
        while seen < acknowledgements {
            let before = self.acknowledged;
            assert!(self.read(), "the writer ended by itself");
            seen += u64::from(self.acknowledged != before);
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // what it said before it died is a promise too
        while self.read() {}
        self.acknowledged
    }
}

/// All that was acknowledged is there, and nothing is there in part. Returns the newest message there is.
fn assert_kept(store: &Store, acknowledged: u64) -> u64 {
    let newest = store.row::<Clock>(&Key::Clock).unwrap().unwrap().believed.0;
    assert!(newest >= acknowledged, "the overwritten row is of {newest}, {acknowledged} was acknowledged");
    // also those that were not acknowledged are whole up to the newest
    assert_messages(store, 1, newest);
    assert_eq!(store.entry(&entry_id(newest + 1)).unwrap(), None);
    let jobs: Vec<Job> = store.rows(&KeyRange::Jobs(device_id(1)), None, 1_000).unwrap();
    assert_eq!(jobs.first().unwrap().seq, if newest > 20 { newest - 19 } else { 1 });
    let history = store.history(&conversation_id(1), None, 1_000_000).unwrap();
    assert_eq!(history.len() as u64, newest);
    let report = store.check().unwrap();
    assert!(report.is_sound(), "{report:?}");
    newest
}

/// Waits until the export log, whose end a power cut may take, is whole again.
fn await_whole_log(store: &Store) {
    let whole = (0..1_000).any(|_| store.check().unwrap().is_log_whole());
    assert!(whole, "the log is not rewritten: {:?}", store.check());
}

fn kills(engine: EngineKind) {
    let mut rng = StdRng::seed_from_u64(1);
    let folder = tempfile::tempdir().unwrap();
    let mut start = 1;
    for _ in 0..if is_soak() { 100 } else { 6 } {
        let writer = Writer::start(folder.path(), engine, start, None);
        let acknowledged = writer.kill_after(rng.random_range(1..120));
        let (store, report) = Store::open(crash_config(folder.path(), engine)).unwrap();
        assert!(!report.restored && report.lost_commits == 0 && report.set_aside.is_none(), "{report:?}");
        start = assert_kept(&store, acknowledged) + 1;
        // every other time the next writer finds a store that was not closed in order
        if start % 2 == 0 {
            store.close().unwrap();
        }
    }
}

#[test]
fn killed_sled_keeps_what_it_acknowledged() {
    kills(EngineKind::Sled);
}

#[test]
fn killed_redb_keeps_what_it_acknowledged() {
    kills(EngineKind::Redb);
}

/// Builds the library that keeps the shadow folder, once.
fn shim() -> &'static Path {
    static SHIM: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = SHIM.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("powercut.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/powercut.c");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let status = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O1", "-D_LARGEFILE64_SOURCE", "-o"])
            .arg(&path)
            .arg(source)
            .arg("-ldl")
            .status()
            .expect("a C compiler (cc) is needed to simulate power cuts");
        assert!(status.success());
        (folder, path)
    });
    path
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Lets a random half of the blocks that were written and never synced reach the disk after all.
fn tear(root: &Path, shadow: &Path, rng: &mut StdRng) {
    for entry in std::fs::read_dir(shadow).unwrap() {
        let shadow = entry.unwrap().path();
        let root = root.join(shadow.file_name().unwrap());
        if shadow.is_dir() {
            tear(&root, &shadow, rng);
            continue;
        }
        let Ok(written) = std::fs::read(&root) else { continue };
        let mut kept = std::fs::read(&shadow).unwrap();
        for (number, block) in written.chunks(4096).enumerate() {
            let at = number * 4096;
            if kept.get(at..at + block.len()) != Some(block) && rng.random_bool(0.5) {
                // a block beyond the end makes the file longer, with zeros before it
                kept.resize(kept.len().max(at + block.len()), 0);
                kept[at..at + block.len()].copy_from_slice(block);
            }
        }
        std::fs::write(&shadow, kept).unwrap();
    }
}

fn power_cuts(engine: EngineKind) {
    let mut restored: Vec<OpenReport> = Vec::new();
    let mut disk: Option<(tempfile::TempDir, u64)> = None;
    for round in 0..if is_soak() { 60 } else { 6 } {
        let mut rng = StdRng::seed_from_u64(round);
        let (root, shadow) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        // every third round starts with an empty disk, the others with what the last cut left
        let start = match disk.take().filter(|_| round % 3 != 0) {
            Some((last, start)) => {
                copy_tree(last.path(), root.path());
                copy_tree(last.path(), shadow.path());
                start
            }
            None => 1,
        };
        let writer = Writer::start(root.path(), engine, start, Some(shadow.path()));
        let acknowledged = writer.kill_after(rng.random_range(1..150));
        if round % 2 == 1 {
            tear(root.path(), shadow.path(), &mut rng);
        }
        let (store, report) = Store::open(crash_config(shadow.path(), engine)).unwrap();
        assert_eq!(report.lost_commits, 0, "{report:?}");
        let newest = assert_kept(&store, acknowledged);
        await_whole_log(&store);
        if report.restored {
            restored.push(report);
        }
        store.close().unwrap();
        drop(store);
        disk = Some((shadow, newest + 1));
    }
    assert!(restored.is_empty(), "the engine itself must come through: {restored:?}");
}

#[test]
fn a_power_cut_takes_nothing_acknowledged_from_sled() {
    power_cuts(EngineKind::Sled);
}

#[test]
fn a_power_cut_takes_nothing_acknowledged_from_redb() {
    power_cuts(EngineKind::Redb);
}

/// Without this the power-cut tests would prove nothing.
#[test]
fn a_power_cut_takes_what_was_not_synced() {
    let (root, shadow) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "careless", "--nocapture"])
        .env("KITH_CARELESS", root.path())
        .env("LD_PRELOAD", shim())
        .env("POWERCUT_ROOT", root.path())
        .env("POWERCUT_SHADOW", shadow.path())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let read = |name| std::fs::read(shadow.path().join("sub").join(name)).ok();
    assert_eq!(read("synced").as_deref(), Some(b"first".as_slice()));
    assert_eq!(read("unsynced").as_deref(), Some(b"".as_slice()));
    assert_eq!(read("renamed").as_deref(), Some(b"".as_slice()));
    assert_eq!(read("old-name"), None);
    assert_eq!(read("removed"), None);
}

/// Not a test of its own: the process of the test above.
#[test]
fn careless() {
    let Some(root) = std::env::var_os("KITH_CARELESS") else { return };
    let folder = Path::new(&root).join("sub");
    std::fs::create_dir(&folder).unwrap();
    let mut file = std::fs::File::create(folder.join("synced")).unwrap();
    file.write_all(b"first").unwrap();
    file.sync_data().unwrap();
    file.write_all(b"second").unwrap();
    std::fs::write(folder.join("unsynced"), b"lost").unwrap();
    std::fs::write(folder.join("old-name"), b"lost").unwrap();
    std::fs::rename(folder.join("old-name"), folder.join("renamed")).unwrap();
    std::fs::write(folder.join("removed"), b"lost").unwrap();
    std::fs::remove_file(folder.join("removed")).unwrap();
}
