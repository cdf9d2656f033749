//! What relays that share a PostgreSQL server rely on in its store.

#![cfg(all(unix, feature = "postgres"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "a test's own tasks")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use kith_network::ProductEnvironment;
use kith_protocol::mailbox::{Batch, MailboxRow, Row, RowKey, Totals, Usage};
use kith_protocol::{DeviceId, MailboxId, Wall};
use kith_relay::config::{DatabaseSection, DatabaseUrl};
use kith_relay::postgres::{PostgresConfig, PostgresStore};
use kith_store::mailbox::{Found, MailboxStore, MailboxStoreError, Read, Written};
use support::peer::envelope;
use support::postgres::{PASSWORD, Server};

const NOW: Wall = Wall(1_900_000_000_000);

fn config(url: &str, server: &Server) -> PostgresConfig {
    let section = DatabaseSection {
        url: DatabaseUrl(url.to_owned()),
        password_file: server.password_file().display().to_string(),
        ca: String::new(),
    };
    PostgresConfig { login: section.login().unwrap(), ca: None, relay: DeviceId([7; 32]) }
}

async fn open_with(config: &PostgresConfig) -> Result<PostgresStore, MailboxStoreError> {
    PostgresStore::open(Arc::new(ProductEnvironment::current().unwrap().without_lan()), config).await
}

async fn open(server: &Server) -> PostgresStore {
    open_with(&config(&server.url("kith"), server)).await.unwrap()
}

const fn id(n: u8) -> MailboxId {
    MailboxId([n; 16])
}

fn mailbox(version: u64) -> Row {
    Row::Mailbox(Box::new(MailboxRow {
        version,
        read_key: [1; 32],
        created: NOW,
        visited: NOW,
        blocked: false,
        evicting: false,
        usage: Usage { bytes: 0, items: version },
        kinds: Default::default(),
        tombstones: 0,
        rights: 0,
        revoked: 0,
        cursor: 0,
        first_key: 0,
        next_key: 0,
        bundle_until: None,
        quota: None,
    }))
}

/// Raises the version of these mailboxes by one, made if they are missing.
async fn raise(store: &dyn MailboxStore, ids: &[MailboxId]) -> Result<Written, MailboxStoreError> {
    let reads = ids.iter().map(|id| Read::Row(RowKey::Mailbox(*id))).collect();
    let mut batch = Batch::default();
    for (id, found) in ids.iter().zip(store.read(reads).await?) {
        let version = match found {
            Found::Row(Some(Row::Mailbox(row))) => Some(row.version),
            _ => None,
        };
        batch.expected.push((RowKey::Mailbox(*id), version));
        batch.changes.push((RowKey::Mailbox(*id), Some(mailbox(version.unwrap_or(0) + 1))));
        batch.totals = batch.totals.plus(Totals {
            mailboxes: i64::from(version.is_none()),
            envelopes: 1,
            ..Totals::default()
        });
    }
    store.write(vec![batch], NOW).await
}

/// Nothing was written, and these were not as expected.
fn none(ids: &[MailboxId]) -> Written {
    Written { totals: None, conflicts: ids.iter().map(|id| RowKey::Mailbox(*id)).collect() }
}

async fn version(store: &dyn MailboxStore, id: MailboxId) -> u64 {
    match store.read(vec![Read::Row(RowKey::Mailbox(id))]).await.unwrap().remove(0) {
        Found::Row(Some(Row::Mailbox(row))) => row.version,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_update_is_lost_between_stores_and_the_sums_are_exact() {
    const EACH: u64 = 40;
    let Some(server) = Server::started() else { return };
    // several relays may start at once on nothing
    let (a, b, c) = tokio::join!(open(&server), open(&server), open(&server));
    let stores = [Arc::new(a), Arc::new(b), Arc::new(c)];
    let mut tasks = tokio::task::JoinSet::new();
    for (n, store) in stores.iter().enumerate() {
        let store = Arc::clone(store);
        // in another order each: who locks in the order of asking would wait for each other
        let ids = [[id(1), id(2), id(3)], [id(3), id(1), id(2)], [id(2), id(3), id(1)]][n];
        tasks.spawn(async move {
            let (mut done, mut conflicts) = (0, 0_u64);
            while done < EACH {
                let written = raise(store.as_ref(), &ids).await.unwrap();
                if written.is_whole() { done += 1 } else { conflicts += 1 }
            }
            conflicts
        });
    }
    let conflicts: u64 = tasks.join_all().await.into_iter().sum();
    assert!(conflicts > 0, "nothing was provoked");
    for n in 1..=3 {
        assert_eq!(version(stores[0].as_ref(), id(n)).await, 3 * EACH);
    }
    let expected = i64::try_from(9 * EACH).unwrap();
    for store in &stores {
        let totals = store.state().await.unwrap().totals;
        assert_eq!((totals.mailboxes, totals.envelopes), (3, expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_is_made_by_one_store_only() {
    let Some(server) = Server::started() else { return };
    let (a, b) = tokio::join!(open(&server), open(&server));
    let make = Batch {
        changes: vec![(RowKey::Mailbox(id(1)), Some(mailbox(1)))],
        expected: vec![(RowKey::Mailbox(id(1)), None)],
        totals: Totals { mailboxes: 1, ..Totals::default() },
    };
    // the first is held up before it commits, so that the second comes to wait for it
    server.sql(
        "kith",
        "CREATE FUNCTION kith_relay.slow() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END $$; \
         CREATE TRIGGER slow AFTER INSERT ON kith_relay.heads FOR EACH ROW EXECUTE FUNCTION kith_relay.slow()",
    );
    let (first, second) = tokio::join!(a.write(vec![make.clone()], NOW), b.write(vec![make.clone()], NOW));
    let written = [first.unwrap(), second.unwrap()];
    assert_eq!(written.iter().filter(|written| **written == none(&[id(1)])).count(), 1, "{written:?}");
    assert_eq!(a.state().await.unwrap().totals.mailboxes, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_when_it_is_committed_is_not_acknowledged() {
    let Some(server) = Server::started() else { return };
    let store = open(&server).await;
    server.sql(
        "kith",
        "CREATE FUNCTION kith_relay.never() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'at the commit' USING ERRCODE = '40001'; END $$; \
         CREATE CONSTRAINT TRIGGER never AFTER INSERT ON kith_relay.heads DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION kith_relay.never()",
    );
    assert_eq!(raise(&store, &[id(1)]).await, Ok(none(&[id(1)])));
    server.sql("kith", "ALTER TABLE kith_relay.heads DISABLE TRIGGER never");
    assert_eq!(raise(&store, &[id(1)]).await.unwrap().totals.unwrap().mailboxes, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_during_a_write_acknowledges_nothing_and_the_store_recovers() {
    let Some(mut server) = Server::started() else { return };
    let store = open(&server).await;
    raise(&store, &[id(1)]).await.unwrap();
    server.sql(
        "kith",
        "CREATE FUNCTION kith_relay.slow() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$; \
         CREATE TRIGGER slow BEFORE UPDATE ON kith_relay.heads FOR EACH ROW EXECUTE FUNCTION kith_relay.slow()",
    );
    let store = Arc::new(store);
    let of_task = Arc::clone(&store);
    let write = tokio::spawn(async move { raise(of_task.as_ref(), &[id(1)]).await });
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    while server.sql("kith", sleeping) != "1" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.kill();
    let failed = write.await.unwrap();
    assert!(matches!(failed, Err(MailboxStoreError::Unavailable(_))), "{failed:?}");
    // while there is no server it says so at once, every time
    for _ in 0..5 {
        assert!(matches!(store.state().await, Err(MailboxStoreError::Unavailable(_))));
    }
    server.start();
    server.sql("kith", "DROP TRIGGER slow ON kith_relay.heads");
    while store.state().await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(version(store.as_ref(), id(1)).await, 1);
    assert!(raise(store.as_ref(), &[id(1)]).await.unwrap().is_whole());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_hears_what_another_has_written() {
    let Some(server) = Server::started() else { return };
    let (a, b) = tokio::join!(open(&server), open(&server));
    let letter = Row::Envelope(kith_protocol::mailbox::EnvelopeRow {
        id: kith_protocol::EnvelopeId([1; 16]),
        right: kith_protocol::RightId([1; 16]),
        stored_at: NOW,
        body: envelope("x", 256),
    });
    // it may not listen yet: it is written until it is heard
    let write = async {
        for cursor in 1.. {
            let changes = vec![(RowKey::Envelope(id(5), cursor), Some(letter.clone()))];
            b.write(vec![Batch { changes, ..Batch::default() }], NOW).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        heard = a.arrivals() => assert_eq!(heard.unwrap(), [id(5)]),
        () = write => {}
        () = tokio::time::sleep(support::CEILING) => panic!("nothing is heard"),
    }
    // a closed store ends those who listen
    a.close().await.unwrap();
    drop(a);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_store_does_the_upkeep_and_another_takes_it_over() {
    let Some(server) = Server::started() else { return };
    let (a, b) = tokio::join!(open(&server), open(&server));
    let mark = RowKey::Visit(1, id(1));
    b.write(vec![Batch { changes: vec![(mark, Some(Row::Mark))], ..Batch::default() }], NOW).await.unwrap();
    let does = async |store: &PostgresStore| {
        let found = store.read(vec![Read::Visits { up_to: 9, max: 9 }]).await.unwrap();
        found == [Found::Keys(vec![mark])]
    };
    let (mut first, mut second) = (a, b);
    loop {
        match (does(&first).await, does(&second).await) {
            (true, true) => panic!("both do it"),
            (true, false) => break,
            (false, true) => std::mem::swap(&mut first, &mut second),
            (false, false) => {}
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    first.close().await.unwrap();
    drop(first);
    while !does(&second).await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_stops_when_a_newer_relay_has_changed_the_tables() {
    let Some(server) = Server::started() else { return };
    let store = open(&server).await;
    raise(&store, &[id(1)]).await.unwrap();
    server.sql("kith", "INSERT INTO kith_relay.migrations (version) VALUES (99)");
    let stopped = loop {
        match raise(&store, &[id(1)]).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => break error,
        }
    };
    assert_eq!(stopped, MailboxStoreError::Newer { found: 99, known: 2 });
    server.sql("kith", "DELETE FROM kith_relay.migrations WHERE version = 99");
    while raise(&store, &[id(1)]).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_does_not_see_what_is_written_after_it() {
    let Some(server) = Server::started() else { return };
    let store = open(&server).await;
    raise(&store, &[id(1)]).await.unwrap();
    let snapshot = store.snapshot().await.unwrap().unwrap();
    raise(&store, &[id(1), id(2)]).await.unwrap();
    assert_eq!(snapshot.scan(vec![], 100).await.unwrap().rows.len(), 1);
    assert_eq!(snapshot.state().await.unwrap().totals.envelopes, 1);
    assert_eq!(store.scan(vec![], 100).await.unwrap().rows.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_fit_is_refused_with_what_to_do_and_without_the_password() {
    let Some(mut server) = Server::started() else { return };
    let fit = config(&server.url("kith"), &server);
    drop(open(&server).await);
    let said = async |config: &PostgresConfig| {
        let error = open_with(config).await.expect_err("it was taken").to_string();
        assert!(!error.contains(PASSWORD), "{error}");
        error
    };
    // another relay's database
    let other = PostgresConfig { relay: DeviceId([9; 32]), ..fit.clone() };
    assert!(said(&other).await.contains("copy that relay's"));
    // a database that does not exist, a wrong password
    let nowhere = config(&server.url("nowhere"), &server);
    assert!(said(&nowhere).await.contains("does not exist"));
    let mut wrong = fit.clone();
    wrong.login.password = Some("wrong".to_owned().into());
    assert!(said(&wrong).await.contains("password authentication failed"));
    // a newer schema
    server.sql("kith", "INSERT INTO kith_relay.migrations (version) VALUES (99)");
    assert!(said(&fit).await.contains("schema version 99"));
    server.sql("kith", "DELETE FROM kith_relay.migrations WHERE version = 99");
    drop(open(&server).await);
    // a server that forgets, and none
    server.stop();
    server.options = vec!["fsync=off".into()];
    server.start();
    assert!(said(&fit).await.contains("fsync = on"));
    server.stop();
    assert!(said(&fit).await.contains(&server.folder().display().to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_are_durable_whatever_the_server_does_for_others() {
    let Some(mut server) = Server::started() else { return };
    server.stop();
    server.options = vec!["synchronous_commit=off".into(), "log_statement=all".into()];
    server.start();
    let store = open(&server).await;
    raise(&store, &[id(1)]).await.unwrap();
    // at once after it was acknowledged
    server.kill();
    drop(store);
    server.start();
    assert_eq!(version(&open(&server).await, id(1)).await, 1);
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
async fn a_certificate_is_verified_and_wrong_ones_are_refused() {
    let Some(mut server) = Server::made() else { return };
    let made = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let (good, other) = (made("localhost"), made("localhost"));
    let file = |name: &str, text: &str| {
        let path = server.folder().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let chain = file("server.crt", &good.cert.pem());
    let key = file("server.key", &good.key_pair.serialize_pem());
    let (ca, wrong_ca) = (chain.clone(), file("other.crt", &other.cert.pem()));
    support::postgres::give_to_the_server(&key);
    server.options = vec![
        "listen_addresses=localhost".into(),
        "ssl=on".into(),
        format!("ssl_cert_file={}", chain.display()),
        format!("ssl_key_file={}", key.display()),
    ];
    server.start();
    server.sql("postgres", "CREATE DATABASE kith");
    let at = |host: &str, mode: &str, ca: &std::path::Path| {
        let url = format!("postgres://kith@{host}:{}/kith?sslmode={mode}", server.port);
        PostgresConfig { ca: Some(ca.to_owned()), ..config(&url, &server) }
    };
    for mode in ["require", "verify-full", "prefer"] {
        let store = open_with(&at("localhost", mode, &ca)).await.unwrap();
        assert_eq!(raise(&store, &[id(1)]).await.map(|_| ()), Ok(()));
        let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
                         WHERE application_name = 'kith-relay' AND state IS NOT NULL";
        assert_eq!(server.sql("kith", encrypted), "t", "{mode}");
        store.close().await.unwrap();
        drop(store);
        until("gone", || {
            let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'kith-relay'";
            server.sql("kith", left) == "0"
        });
    }
    let said = async |config: PostgresConfig| open_with(&config).await.expect_err("it was taken").to_string();
    for mode in ["require", "verify-full"] {
        let error = said(at("localhost", mode, &wrong_ca)).await;
        assert!(error.contains("certificate"), "{error}");
        // the right authority, but another name
        let error = said(at("127.0.0.1", mode, &ca)).await;
        assert!(error.contains("certificate"), "{error}");
    }
    drop(open_with(&at("127.0.0.1", "disable", &ca)).await.unwrap());
    // a server without TLS is not used where it is required
    let required = at("localhost", "require", &ca);
    server.stop();
    server.options = vec!["listen_addresses=localhost".into()];
    server.start();
    let error = said(required).await;
    assert!(error.to_lowercase().contains("tls"), "{error}");
}
