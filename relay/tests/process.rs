//! The program: made, run, asked, reloaded, ended; and the whole way of an envelope through it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use kith_protocol::crypto::envelope::envelope_id;
use kith_protocol::wire::relay::{AccessMode, Answer, Ask, RefusalCode};
use support::peer::*;
use support::process::{Process, command};

const TTL: u32 = 86_400;

#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_goes_its_whole_way_over_each_transport() {
    let relay = Process::started("");
    for (seed, kind) in [(10, "/tcp/"), (20, "/quic-v1"), (30, "/ws")] {
        let address = relay.address(kind);
        let owner = Owner::connect(address, seed).await;
        assert_eq!(owner.peer.hello.mode, AccessMode::Open);
        assert!(owner.open().await.created);
        owner.ready(0..3).await;
        let contact = Peer::connect(address, seed + 1).await;
        // nothing is there yet: the owner waits
        let wait = Ask::Wait { mailbox: owner.mailbox, after: 0, max: 10, deadline: 60_000 };
        let waiting = owner.peer.send(wait).await;
        let letter = envelope(&format!("{kind} small"), 256);
        let receipt = custody(&contact.ask(owner.deposit(1, &letter, TTL)).await);
        assert_eq!((receipt.relay, receipt.mailbox, receipt.size), (owner.peer.relay, owner.mailbox, 256));
        let woken = tokio::time::timeout(support::CEILING, waiting).await.unwrap().unwrap();
        assert!(matches!(&woken[..], [Answer::Listed { envelopes, .. }] if envelopes.len() == 1));
        let large: Vec<Bytes> = (0..12).map(|n| envelope(&format!("{kind} {n}"), 65_536)).collect();
        for letter in &large {
            custody(&contact.ask(owner.deposit(2, letter, TTL)).await);
        }
        let listed = owner.list().await;
        assert_eq!(listed.len(), 13);
        let ids: Vec<_> = listed.iter().map(|listed| listed.id).collect();
        let got = owner.get(&ids).await;
        let bodies: Vec<Bytes> = got.into_iter().map(|stored| stored.envelope).collect();
        assert_eq!(bodies, [vec![letter.clone()], large].concat());
        assert_eq!(owner.collect(ids).await.unwrap().items, 0);
        assert_eq!(
            contact.ask(owner.deposit(1, &letter, TTL)).await,
            Answer::Collected(envelope_id(&letter))
        );
        let put = Ask::PutBundle {
            mailbox: owner.mailbox,
            bundle: Some(Bytes::from(vec![7; 4096])),
            lifetime: 100,
            one_time_keys: vec![[1; 32], [2; 32]],
            replace: true,
        };
        assert!(matches!(owner.peer.ask(put).await, Answer::Opened(state) if state.one_time_keys == 2));
        let mut keys = Vec::new();
        for _ in 0..3 {
            let Answer::Bundle { bundle, one_time_key } = contact.ask(owner.take_bundle(1)).await else {
                panic!("no bundle");
            };
            assert_eq!(bundle, vec![7; 4096]);
            keys.push(one_time_key);
        }
        assert_eq!(keys, [Some([1; 32]), Some([2; 32]), None]);
    }
    let report = relay.audit();
    assert_eq!((&report["mailboxes"], &report["tombstones"]), (&3.into(), &39.into()));
}

#[test]
fn a_relay_is_made_once_run_once_and_tells_how_it_does() {
    let mut relay = Process::init("");
    let again = command(&relay.folder, &["init"]);
    assert!(!again.status.success());
    let status = command(&relay.folder, &["status"]);
    let said = String::from_utf8_lossy(&status.stderr).into_owned();
    assert!(
        !status.status.success() && said.contains("no relay is running") && said.contains("kith-relay run")
    );
    relay.start();
    let second = command(&relay.folder, &["run"]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains("is running on"), "{said}");
    let status = relay.status();
    for field in [
        "peer_id",
        "addresses",
        "mode",
        "mailboxes",
        "envelopes",
        "bytes",
        "connections",
        "uptime_s",
        "store",
        "version",
    ] {
        assert!(!status[field].is_null(), "{field}");
    }
    assert_eq!((&status["store"], &status["mode"]), (&"redb".into(), &"open".into()));
    let suffix = format!("/p2p/{}", relay.peer_id);
    assert!(relay.addresses.len() == 3 && relay.addresses.iter().all(|a| a.ends_with(&suffix)));
    let started = tokio::time::Instant::now();
    relay.signal("-TERM");
    assert!(relay.ended().success());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(!relay.folder.join("admin.json").exists());
}

#[test]
fn a_relay_that_lost_its_key_or_gets_a_foreign_store_is_not_begun_anew() {
    let mut relay = Process::started("");
    relay.signal("-TERM");
    assert!(relay.ended().success());
    let said = |args: &[&str]| {
        let output = command(&relay.folder, args);
        assert!(!output.status.success(), "{args:?}: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    // the key of another relay
    let other = Process::init("");
    let (key, copy) = (relay.folder.join("relay.key"), relay.folder.join("copy"));
    std::fs::rename(&key, &copy).unwrap();
    std::fs::copy(other.folder.join("relay.key"), &key).unwrap();
    let error = said(&["run"]);
    assert!(
        error.contains(&relay.peer_id) && error.contains("put the key that belongs here back"),
        "{error}"
    );
    // none: the configuration and the mailboxes stay as they are
    std::fs::remove_file(&key).unwrap();
    let config = std::fs::read_to_string(relay.folder.join("relay.toml")).unwrap();
    for args in [["run"], ["init"], ["status"]] {
        let error = said(&args);
        assert!(error.contains("is missing") || error.contains("no relay is running"), "{args:?}: {error}");
    }
    std::fs::remove_file(relay.folder.join("relay.toml")).unwrap();
    assert!(said(&["init"]).contains("is missing"));
    assert!(!key.exists());
    // another kind of store would be an empty one
    std::fs::rename(&copy, &key).unwrap();
    for kind in ["sled", "memory", "postgres"] {
        let database = "[database]\nurl = \"postgres://kith@127.0.0.1/kith\"";
        std::fs::write(
            relay.folder.join("relay.toml"),
            format!("{config}\n[store]\nkind = \"{kind}\"\n{database}"),
        )
        .unwrap();
        let error = said(&["run"]);
        assert!(error.contains("redb") && error.contains("set it back"), "{kind}: {error}");
    }
    std::fs::write(relay.folder.join("relay.toml"), config).unwrap();
    relay.start();
    relay.audit();
}

#[test]
fn a_mistyped_configuration_starts_nothing_and_names_the_line() {
    let relay = Process::init("mod = \"open\"");
    let run = command(&relay.folder, &["run"]);
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(!run.status.success() && said.contains("did you mean `mode`?"), "{said}");
    let nothing = command(&relay.folder.join("nowhere"), &["run"]);
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("kith-relay init"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_open_mailboxes_and_can_be_taken_back() {
    let relay = Process::started("mode = \"token\"");
    let made = relay.json(&["token", "create", "--uses", "1", "--label", "friends"]).remove(0);
    let token = made["token"].as_str().unwrap().to_owned();
    let first = Owner::connect(relay.tcp(), 1).await;
    let denied = first.peer.ask(first.open_ask("wrong")).await;
    assert_eq!(refused(&denied), Some(RefusalCode::TokenNeeded));
    assert_eq!(refused(&first.peer.ask(first.open_ask(&token)).await), None);
    let second = Owner::connect(relay.tcp(), 2).await;
    assert_eq!(refused(&second.peer.ask(second.open_ask(&token)).await), Some(RefusalCode::TokenNeeded));
    let listed = relay.json(&["token", "list"]).remove(0);
    assert_eq!(
        (&listed["used"], &listed["uses_left"], &listed["label"]),
        (&1.into(), &0.into(), &"friends".into())
    );
    let other = relay.json(&["token", "create", "--uses", "5"]).remove(0);
    relay.json(&["token", "revoke", &other["id"].as_str().unwrap()[..8]]);
    let answer = second.peer.ask(second.open_ask(other["token"].as_str().unwrap())).await;
    assert_eq!(refused(&answer), Some(RefusalCode::TokenNeeded));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_reloads_drains_blocks_and_evicts() {
    let mut relay = Process::started("");
    let owner = Owner::connect(relay.tcp(), 1).await;
    owner.ready(0..2).await;
    let contact = Peer::connect(relay.tcp(), 2).await;
    for n in 0..300 {
        custody(&contact.ask(owner.deposit(1, &envelope(&format!("{n}"), 256), TTL)).await);
    }
    let id = owner.mailbox.to_string();
    assert_eq!(relay.json(&["mailbox", "list"])[0]["mailbox"], id);
    assert_eq!(relay.json(&["mailbox", "inspect", &id])[0]["envelopes"], 300);

    relay.configure("[mailbox]\nitems = 300");
    relay.signal("-HUP");
    let full = async || refused(&contact.ask(owner.deposit(1, &envelope("x", 256), TTL)).await);
    // until it was read; another one each time, because what was collected is never taken again
    for n in 0.. {
        let letter = envelope(&format!("x {n}"), 256);
        if refused(&contact.ask(owner.deposit(1, &letter, TTL)).await) == Some(RefusalCode::MailboxFull) {
            break;
        }
        owner.collect(vec![envelope_id(&letter)]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    relay.configure("[connections]\ntotal = 10");
    assert_eq!(relay.json(&["reload"])[0]["restart"], serde_json::json!(["[connections]"]));
    relay.configure("");
    assert_eq!(relay.json(&["reload"])[0], serde_json::json!({}));

    relay.json(&["drain"]);
    assert_eq!(full().await, Some(RefusalCode::Closed));
    assert_eq!(owner.list().await.len(), 300);
    relay.signal("-TERM");
    // whoever was connected is told when to come back
    let mut contact = contact;
    contact.closed().await;
    assert!(matches!(contact.unasked.lock().unwrap()[..], [Answer::Closing { reconnect_after: 1.. }]));
    assert!(relay.ended().success());
    relay.start();
    assert_eq!(relay.status()["mode"], "closed");
    relay.json(&["drain", "--off"]);

    let owner = Owner::connect(relay.tcp(), 1).await;
    assert!(!owner.open().await.created);
    let contact = Peer::connect(relay.tcp(), 2).await;
    relay.json(&["mailbox", "block", &id]);
    let deposit = owner.deposit(1, &envelope("y", 256), TTL);
    assert_eq!(refused(&contact.ask(deposit.clone()).await), Some(RefusalCode::Blocked));
    relay.json(&["mailbox", "block", "--off", &id]);
    custody(&contact.ask(deposit.clone()).await);
    relay.json(&["mailbox", "evict", &id]);
    relay.until("the mailbox is gone", |status| status["mailboxes"] == 0);
    assert_eq!(refused(&contact.ask(deposit).await), Some(RefusalCode::MailboxUnknown));
    let report = relay.audit();
    assert_eq!((&report["envelopes"], &report["bytes"]), (&0.into(), &0.into()));
    let nothing = command(&relay.folder, &["mailbox", "inspect", &id]);
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("there is no mailbox"));
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_a_right_stops_its_deposits_and_removes_what_was_stored_under_it() {
    let relay = Process::started("");
    let owner = Owner::connect(relay.tcp(), 1).await;
    owner.ready(0..2).await;
    let contact = Peer::connect(relay.tcp(), 2).await;
    for n in 0..600 {
        custody(&contact.ask(owner.deposit(n % 2, &envelope(&format!("{n}"), 256), TTL)).await);
    }
    let revoke = vec![owner.right(0).id];
    let ask = Ask::SetRights { mailbox: owner.mailbox, put: vec![], revoke };
    assert_eq!(refused(&owner.peer.ask(ask).await), None);
    let answer = contact.ask(owner.deposit(0, &envelope("late", 256), TTL)).await;
    assert_eq!(refused(&answer), Some(RefusalCode::RightRevoked));
    relay.until("only the others are left", |status| status["envelopes"] == 300);
    let left = owner.right(1).id;
    assert!(owner.list().await.iter().all(|listed| listed.right == left));
    relay.audit();
}
