//! Several processes of one relay on a PostgreSQL server, any of which is killed.

#![cfg(all(unix, feature = "postgres"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "a test's own tasks")]

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use kith_protocol::wire::relay::{Answer, Ask, RefusalCode};
use support::load::{CONFIG, Ledger, assert_promises, load};
use support::peer::*;
use support::postgres::{PASSWORD, Server};
use support::process::{Process, command};

const TTL: u32 = 86_400;

/// Two processes of one relay.
fn two(server: &Server) -> [Process; 2] {
    let config = format!("{CONFIG}\n{}", server.config("kith"));
    let mut first = Process::init(&config);
    let mut second = first.another(&config);
    first.start();
    second.start();
    assert_eq!(first.peer_id, second.peer_id);
    [first, second]
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_at_one_process_learns_what_another_has_taken() {
    let Some(server) = Server::started() else { return };
    let [a, b] = two(&server);
    let owner = Owner::connect(a.tcp(), 1).await;
    owner.ready(0..1).await;
    let contact = Peer::connect(b.tcp(), 2).await;
    let mut after = 0;
    for n in 0..30 {
        let wait = Ask::Wait { mailbox: owner.mailbox, after, max: 10, deadline: 60_000 };
        let waiting = owner.peer.send(wait).await;
        if n % 2 == 0 {
            // parked for sure
            a.until("waiting", |status| status["waits"] == 1);
        }
        custody(&contact.ask(owner.deposit(0, &envelope(&format!("{n}"), 256), TTL)).await);
        let answers = tokio::time::timeout(support::CEILING, waiting).await.unwrap().unwrap();
        match &answers[0] {
            Answer::Listed { envelopes, .. } => {
                assert_eq!(envelopes.len(), 1);
                after = envelopes[0].cursor;
            }
            other => panic!("{other:?}"),
        }
    }
    // it can be fetched and collected at either, and the other knows
    let elsewhere = Owner::connect(b.tcp(), 1).await;
    elsewhere.open().await;
    let ids: Vec<_> = elsewhere.list().await.iter().map(|listed| listed.id).collect();
    assert_eq!((ids.len(), elsewhere.get(&ids).await.len()), (30, 30));
    elsewhere.collect(ids).await.unwrap();
    assert!(owner.list().await.is_empty());
    // a late copy is not taken again, wherever it comes
    let late = contact.ask(owner.deposit(0, &envelope("3", 256), TTL)).await;
    assert!(matches!(late, Answer::Collected(_)), "{late:?}");
    a.until("the sums", |status| status["envelopes"] == 0 && status["tombstones"] == 30);
}

fn rounds() -> u64 {
    if std::env::var_os("KITH_SOAK").is_some() { 40 } else { 4 }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_processes_is_killed_under_load_again_and_again() {
    let Some(server) = Server::started() else { return };
    let mut relays = two(&server);
    let ledger = Ledger::default();
    let mut conflicts = 0;
    for round in 0..rounds() {
        ledger.stop.store(false, Ordering::SeqCst);
        let at = |n: usize| relays[n].tcp().to_owned();
        // owners and contacts meet at one process, and across both ways: everybody changes the same mailboxes
        let tasks: Vec<_> = [(0, 0), (0, 1), (1, 0), (1, 1)]
            .into_iter()
            .map(|(owners, contacts)| {
                let name = format!("{round} {owners} {contacts}");
                tokio::spawn(load(at(owners), at(contacts), name, ledger.clone()))
            })
            .collect();
        ledger.begun(4 * (round + 1)).await;
        ledger.reaches(ledger.count(), 30 + round * 41).await;
        let (victim, survivor) = ((round % 2) as usize, ((round + 1) % 2) as usize);
        conflicts += relays[survivor].status()["counters"]["conflicts"].as_u64().unwrap();
        relays[victim].kill();
        // the other goes on
        ledger.reaches(ledger.count(), 20).await;
        ledger.stop.store(true, Ordering::SeqCst);
        for task in tasks {
            tokio::time::timeout(support::CEILING, task).await.expect("the load does not end").unwrap();
        }
        assert_promises(&relays[survivor], &ledger).await;
        relays[victim].start();
        assert_promises(&relays[victim], &ledger).await;
    }
    assert!(conflicts > 0, "nothing was provoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn deposits_at_two_processes_in_the_same_mailboxes_keep_their_order_and_hold_up_no_others() {
    const EACH: u64 = 300;
    let Some(server) = Server::started() else { return };
    let relays = two(&server);
    let mut owners = Vec::new();
    for n in 0..4 {
        let owner = Owner::connect(relays[0].tcp(), 1 + n).await;
        owner.ready(0..1).await;
        owners.push(std::sync::Arc::new(owner));
    }
    let mut tasks = tokio::task::JoinSet::new();
    for (n, relay) in relays.iter().enumerate() {
        let contact = Peer::connect(relay.tcp(), 50 + n as u64).await;
        let owners = owners.clone();
        tasks.spawn(async move {
            let mut under_way = std::collections::VecDeque::new();
            for number in 0..EACH {
                // the first two mailboxes are everybody's, each of the others is one process's own
                let at = if number % 4 == 3 { 2 + n } else { (number % 2) as usize };
                let letter = envelope(&format!("{n} {number}"), 256);
                under_way.push_back(contact.send(owners[at].deposit(0, &letter, TTL)).await);
                if under_way.len() >= 32 {
                    custody(&under_way.pop_front().unwrap().await.unwrap()[0]);
                }
            }
            for answer in under_way {
                custody(&answer.await.unwrap()[0]);
            }
        });
    }
    tasks.join_all().await;
    let mut counted = 0;
    for owner in &owners {
        let ids: Vec<_> = owner.list().await.iter().map(|listed| listed.id).collect();
        let bodies: std::collections::HashMap<_, _> =
            owner.get(&ids).await.into_iter().map(|stored| (stored.id, stored.envelope)).collect();
        let mut last = [None; 2];
        for id in &ids {
            let text = std::str::from_utf8(&bodies[id]).unwrap().trim_end_matches('\0');
            let (n, number) = text.split_once(' ').unwrap();
            let (n, number): (usize, u64) = (n.parse().unwrap(), number.parse().unwrap());
            assert!(last[n] < Some(number), "{number} of {n} after {:?}", last[n]);
            last[n] = Some(number);
        }
        counted += ids.len() as u64;
    }
    assert_eq!(counted, 2 * EACH);
    let sum = |counter: &str| -> u64 {
        relays.iter().map(|relay| relay.status()["counters"][counter].as_u64().unwrap()).sum()
    };
    assert!(sum("conflicts") > 0 && sum("decided_again") >= sum("conflicts"), "nothing was provoked");
    relays[0].audit();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_killed_under_load_and_comes_back() {
    let Some(mut server) = Server::started() else { return };
    let relays = two(&server);
    let ready = |relay: &Process| support::http::get(&relay.web, "/readyz").status;
    let ledger = Ledger::default();
    for round in 0..rounds() {
        ledger.stop.store(false, Ordering::SeqCst);
        let tasks: Vec<_> = [(0, 1), (1, 0)]
            .into_iter()
            .map(|(owners, contacts)| {
                let [owners, contacts] = [owners, contacts].map(|n: usize| relays[n].tcp().to_owned());
                let name = format!("{round} {owners}");
                tokio::spawn(load(owners, contacts, name, ledger.clone()))
            })
            .collect();
        ledger.begun(2 * (round + 1)).await;
        ledger.reaches(ledger.count(), 30 + round * 41).await;
        if round % 2 == 0 {
            server.kill()
        } else {
            server.stop()
        }
        for relay in &relays {
            until("not ready", || ready(relay) == 503);
        }
        // whoever asks is told to come again, at once
        let late = Peer::connect(relays[0].tcp(), 77).await;
        let owner = Owner::connect(relays[1].tcp(), 100).await;
        let answer = late.ask(owner.deposit(0, &envelope("late", 256), TTL)).await;
        assert_eq!(refused(&answer), Some(RefusalCode::Busy));
        server.start();
        for relay in &relays {
            until("ready", || ready(relay) == 200);
        }
        ledger.reaches(ledger.count(), 20).await;
        ledger.stop.store(true, Ordering::SeqCst);
        for task in tasks {
            tokio::time::timeout(support::CEILING, task).await.expect("the load does not end").unwrap();
        }
        for relay in &relays {
            assert_promises(relay, &ledger).await;
        }
    }
}

fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1_200 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("never {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_hang_are_given_up() {
    let Some(server) = Server::started() else { return };
    let relay = Process::started(&format!("{CONFIG}\n{}", server.config("kith")));
    let owner = Owner::connect(relay.tcp(), 1).await;
    owner.ready(0..1).await;
    let contact = Peer::connect(relay.tcp(), 2).await;
    let signal = |signal: &str, pids: &str| {
        let status = std::process::Command::new("kill").arg(signal).args(pids.lines()).status().unwrap();
        assert!(status.success());
    };
    let pids = server.sql("kith", "SELECT pid FROM pg_stat_activity WHERE application_name = 'kith-relay'");
    signal("-STOP", &pids);
    // nothing is acknowledged by a server that is silent, and nobody waits for it for ever
    for n in 0.. {
        let answer = contact.ask(owner.deposit(0, &envelope(&format!("{n}"), 256), TTL)).await;
        match refused(&answer) {
            Some(RefusalCode::Busy) => {}
            None => break,
            other => panic!("{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(relay.status()["counters"]["store_failures"].as_u64().unwrap() > 0);
    until("ready", || support::http::get(&relay.web, "/readyz").status == 200);
    signal("-CONT", &pids);
    relay.audit();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_checks_runs_backs_up_and_restores_a_relay_on_a_database() {
    let Some(server) = Server::started() else { return };
    let config = format!("mode = \"token\"\n{CONFIG}\n{}", server.config("kith"));
    let mut a = Process::init(&config);
    let findings = |relay: &Process| {
        let output = command(&relay.folder, &["check", "--json"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!text.contains(PASSWORD));
        let all = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        all.filter(|finding| finding["what"] == "database").collect::<Vec<_>>()
    };
    let before = findings(&a);
    assert_eq!((before.len(), &before[0]["level"]), (1, &"fit".into()), "{before:?}");
    assert!(before[0]["found"].as_str().unwrap().contains("no tables yet"), "{before:?}");
    let mut b = a.another(&config);
    a.start();
    b.start();
    assert!(findings(&a)[0]["found"].as_str().unwrap().contains("tables of version 2"));
    assert_eq!(a.status()["store"], "postgres");
    // a token of one process opens a mailbox at the other
    let made = a.json(&["token", "create", "--uses", "1", "--label", "friends"]).remove(0);
    let owner = Owner::connect(b.tcp(), 1).await;
    assert_eq!(refused(&owner.peer.ask(owner.open_ask("")).await), Some(RefusalCode::TokenNeeded));
    assert_eq!(refused(&owner.peer.ask(owner.open_ask(made["token"].as_str().unwrap())).await), None);
    owner.ready(0..1).await;
    let contact = Peer::connect(a.tcp(), 2).await;
    for n in 0..40 {
        custody(&contact.ask(owner.deposit(0, &envelope(&format!("{n}"), 2_048), TTL)).await);
    }
    let listed = b.json(&["mailbox", "list"]).remove(0);
    assert_eq!(listed["envelopes"], 40);
    // a backup of one process while deposits go on at the other
    let file = a.folder.join("backup");
    let path = file.display().to_string();
    let more = async {
        for n in 40.. {
            custody(&contact.ask(owner.deposit(0, &envelope(&format!("{n}"), 2_048), TTL)).await);
        }
    };
    let backup = async {
        let folder = b.folder.clone();
        let path = path.clone();
        tokio::task::spawn_blocking(move || command(&folder, &["backup", "--json", &path])).await.unwrap()
    };
    let output = tokio::select! { output = backup => output, () = more => unreachable!() };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["envelopes"].as_u64().unwrap() >= 40 && report["damaged"] == serde_json::json!([]));
    a.audit();
    // nothing is overwritten; another database is filled
    let new = tempfile::tempdir().unwrap();
    let folder = new.path().join("relay");
    let refused = command(&folder, &["restore", &path]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("DROP SCHEMA"), "{refused:?}");
    server.sql("postgres", "CREATE DATABASE second");
    std::fs::remove_dir_all(&folder).unwrap();
    let restore = std::process::Command::new(env!("CARGO_BIN_EXE_kith-relay"))
        .args(["restore", &path, "--json", "--data"])
        .arg(&folder)
        .env("KITH_RELAY_DATABASE", server.url("second"))
        .output()
        .unwrap();
    assert!(restore.status.success(), "{}", String::from_utf8_lossy(&restore.stderr));
    let mut restored = Process::existing(folder);
    restored.env = vec![("KITH_RELAY_DATABASE".into(), server.url("second"))];
    restored.start();
    let counted = restored.audit();
    assert_eq!((&counted["mailboxes"], &counted["envelopes"]), (&1.into(), &report["envelopes"]));
    for relay in [&a, &b, &restored] {
        assert!(!relay.log().contains(PASSWORD));
    }
    // in order, and at once
    b.signal("-TERM");
    assert!(b.ended().success());
    custody(&contact.ask(owner.deposit(0, &envelope("last", 256), TTL)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_moves_from_its_disk_to_a_database() {
    let Some(server) = Server::started() else { return };
    let mut old = Process::started(CONFIG);
    let owner = Owner::connect(old.tcp(), 1).await;
    owner.ready(0..1).await;
    let contact = Peer::connect(old.tcp(), 2).await;
    for n in 0..20 {
        custody(&contact.ask(owner.deposit(0, &envelope(&format!("{n}"), 512), TTL)).await);
    }
    old.signal("-TERM");
    assert!(old.ended().success());
    let file = old.folder.join("backup").display().to_string();
    old.json(&["backup", &file]);
    old.configure(&format!("{CONFIG}\n{}", server.config("kith")));
    let copy = old.folder.join("relay.toml").display().to_string();
    let parent = tempfile::tempdir().unwrap();
    let mut new = Process::existing(parent.path().join("relay"));
    new.json(&["restore", &file, "--moved", "--config", &copy]);
    new.start();
    assert_eq!((new.peer_id.clone(), &new.status()["store"]), (old.peer_id.clone(), &"postgres".into()));
    let owner = Owner::connect(new.tcp(), 1).await;
    owner.open().await;
    let ids: Vec<_> = owner.list().await.iter().map(|listed| listed.id).collect();
    assert_eq!((ids.len(), owner.get(&ids).await.len()), (20, 20));
    new.audit();
}
