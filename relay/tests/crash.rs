//! Nothing acknowledged is lost, and nothing that was taken away comes back, when the process is killed or the power goes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use kith_protocol::EnvelopeId;
use kith_protocol::crypto::envelope::envelope_id;
use kith_protocol::wire::relay::Answer;
use support::peer::*;
use support::process::Process;

const TTL: u32 = 86_400;
const OWNERS: u64 = 3;
/// Loads are not what is limited here.
const CONFIG: &str = "[rate]\nrequests_per_link = 0\nrequests_per_network = 0\nmailboxes_per_network = 0";

/// What was promised for one mailbox.
#[derive(Default)]
struct Promised {
    /// In custody.
    kept: HashSet<EnvelopeId>,
    /// Collected, and that was acknowledged.
    gone: HashSet<EnvelopeId>,
    /// Collected, with no answer: either may be.
    asked: HashSet<EnvelopeId>,
    deposited: u64,
}

type Ledger = Arc<Vec<Mutex<Promised>>>;

/// Deposits and collects until the relay is gone; returns after `enough` acknowledgements at the latest by the kill.
async fn load(address: String, round: u64, ledger: Ledger) {
    // all are there before the first promise is made, since with enough of them the relay is killed
    let mut people = Vec::new();
    for n in 0..OWNERS {
        let owner = Arc::new(Owner::connect(&address, 100 + n).await);
        owner.ready(0..1).await;
        people.push((n, owner, Peer::connect(&address, 1_000 + n).await));
    }
    let mut tasks = tokio::task::JoinSet::new();
    for (n, owner, contact) in people {
        let of_contact = Arc::clone(&ledger);
        let contact_owner = Arc::clone(&owner);
        tasks.spawn(async move {
            for number in 0_u64.. {
                let size = [256, 512, 4096, 8192][(number % 4) as usize];
                let letter = envelope(&format!("{round} {n} {number}"), size);
                // a few under way at a time
                let mut answers = Vec::new();
                let again = envelope(&format!("{round} {n} {number} too"), 256);
                for letter in [&letter, &again] {
                    answers.push((
                        envelope_id(letter),
                        contact.send(contact_owner.deposit(0, letter, TTL)).await,
                    ));
                }
                for (id, answer) in answers {
                    let Ok(answers) = answer.await else { return };
                    match &answers[0] {
                        Answer::Custody(_) => {
                            let mut promised = of_contact[n as usize].lock().unwrap();
                            promised.kept.insert(id);
                            promised.deposited += 1;
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
        });
        let ledger = Arc::clone(&ledger);
        tasks.spawn(async move {
            loop {
                let some: Vec<EnvelopeId> = {
                    let mut promised = ledger[n as usize].lock().unwrap();
                    let some: Vec<EnvelopeId> =
                        promised.kept.iter().filter(|id| id.0[0] % 3 == 0).take(5).copied().collect();
                    for id in &some {
                        promised.kept.remove(id);
                        promised.asked.insert(*id);
                    }
                    some
                };
                if some.is_empty() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    if owner.peer.is_closed() {
                        return;
                    }
                    continue;
                }
                if owner.collect(some.clone()).await.is_none() {
                    return;
                }
                let mut promised = ledger[n as usize].lock().unwrap();
                for id in some {
                    promised.asked.remove(&id);
                    promised.gone.insert(id);
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

/// Runs a load and kills the relay once so much was acknowledged.
async fn killed_under_load(relay: &mut Process, round: u64, ledger: &Ledger, enough: u64) {
    let count = || ledger.iter().map(|promised| promised.lock().unwrap().deposited).sum::<u64>();
    let before = count();
    #[allow(clippy::disallowed_methods, reason = "a test's own task")]
    let running = tokio::spawn(load(relay.tcp().to_owned(), round, Arc::clone(ledger)));
    let reached = async {
        while count() < before + enough {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    // the long version has much to sync
    tokio::time::timeout(support::CEILING * 10, reached).await.expect("too slow");
    relay.kill();
    tokio::time::timeout(support::CEILING, running).await.expect("the load does not end").unwrap();
}

/// What was promised is so.
async fn assert_promises(relay: &Process, ledger: &Ledger) {
    for n in 0..OWNERS {
        let owner = Owner::connect(relay.tcp(), 100 + n).await;
        owner.open().await;
        let listed: BTreeSet<EnvelopeId> = owner.list().await.iter().map(|listed| listed.id).collect();
        let (kept, gone) = {
            let mut promised = ledger[n as usize].lock().unwrap();
            // what was asked for without an answer may be either; from now on it is known
            for id in std::mem::take(&mut promised.asked) {
                if listed.contains(&id) {
                    promised.kept.insert(id);
                } else {
                    promised.gone.insert(id);
                }
            }
            (promised.kept.clone(), promised.gone.clone())
        };
        let lost: Vec<_> = kept.iter().filter(|id| !listed.contains(id)).collect();
        let risen: Vec<_> = gone.iter().filter(|id| listed.contains(id)).collect();
        assert!(lost.is_empty() && risen.is_empty(), "lost {lost:?}, risen {risen:?}");
        let ids: Vec<EnvelopeId> = kept.into_iter().collect();
        for stored in owner.get(&ids).await {
            assert_eq!(envelope_id(&stored.envelope), stored.id);
        }
    }
    relay.audit();
}

async fn kills(store: &str) {
    let mut relay = Process::init(&format!("{CONFIG}\n[store]\nkind = \"{store}\""));
    let ledger: Ledger = Arc::new((0..OWNERS).map(|_| Mutex::default()).collect());
    for round in 0..rounds() {
        relay.start();
        assert_promises(&relay, &ledger).await;
        killed_under_load(&mut relay, round, &ledger, 20 + round * 37).await;
    }
    relay.start();
    assert_promises(&relay, &ledger).await;
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
    let ledger: Ledger = Arc::new((0..OWNERS).map(|_| Mutex::default()).collect());
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
