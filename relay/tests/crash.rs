//! Nothing acknowledged is lost, and nothing that was taken away comes back, when the process is killed or the power goes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use support::load::{CONFIG, Ledger, assert_promises, load};
use support::process::Process;

/// Runs a load and kills the relay once so much was acknowledged.
async fn killed_under_load(relay: &mut Process, round: u64, ledger: &Ledger, enough: u64) {
    let before = ledger.count();
    let at = relay.tcp().to_owned();
    #[allow(clippy::disallowed_methods, reason = "a test's own task")]
    let mut running = tokio::spawn(load(at.clone(), at, round.to_string(), ledger.clone()));
    // a load that ends by itself would be waited for until it is too late to see why
    tokio::select! {
        () = ledger.reaches(before, enough) => {}
        ended = &mut running => panic!("the load of round {round} ended before the relay was killed: {ended:?}"),
    }
    relay.kill();
    tokio::time::timeout(support::CEILING, running).await.expect("the load does not end").unwrap();
}

async fn kills(store: &str) {
    let mut relay = Process::init(&format!("{CONFIG}\n[store]\nkind = \"{store}\""));
    let ledger = Ledger::default();
    for round in 0..rounds() {
        relay.start();
        assert_promises(&relay, &ledger).await;
        killed_under_load(&mut relay, round, &ledger, enough(round)).await;
    }
    relay.start();
    assert_promises(&relay, &ledger).await;
}

/// What is acknowledged before the end: now and then so much that the store's journal goes on to its next file.
fn enough(round: u64) -> u64 {
    if round % 10 == 9 { 6_000 } else { 20 + round * 37 }
}

fn rounds() -> u64 {
    if std::env::var_os("KITH_SOAK").is_some() { 40 } else { 4 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_relay_on_redb_keeps_what_it_acknowledged() {
    kills("redb").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_relay_on_sled_keeps_what_it_acknowledged() {
    kills("sled").await;
}

/// Builds the library that keeps what a disk without power would keep, once.
fn shim() -> &'static Path {
    static SHIM: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = SHIM.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("powercut.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../node/store/tests/powercut.c");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let status = std::process::Command::new(compiler)
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

async fn power_cuts(store: &str) {
    let mut relay = Process::init(&format!("{CONFIG}\n[store]\nkind = \"{store}\""));
    let ledger = Ledger::default();
    let root = relay.folder.join("store");
    for round in 0..rounds() {
        let shadow = tempfile::tempdir().unwrap();
        if root.exists() {
            copy_tree(&root, shadow.path());
        }
        relay.env = [
            ("LD_PRELOAD", shim().display().to_string()),
            ("POWERCUT_ROOT", root.display().to_string()),
            ("POWERCUT_SHADOW", shadow.path().display().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        relay.start();
        assert_promises(&relay, &ledger).await;
        killed_under_load(&mut relay, round, &ledger, 20 + round * 37).await;
        // the power is back: what was not synced is gone
        std::fs::remove_dir_all(&root).unwrap();
        copy_tree(shadow.path(), &root);
    }
    relay.env.clear();
    relay.start();
    assert_promises(&relay, &ledger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_takes_nothing_acknowledged_from_a_relay_on_redb() {
    power_cuts("redb").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_takes_nothing_acknowledged_from_a_relay_on_sled() {
    power_cuts("sled").await;
}
