//! What a relay does in a second, what it costs, and what an idle connection takes.
//!
//! `KITH_BENCH_ENVELOPES` (1,000,000) is the size of the store it is started on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench that cannot go on fails")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kith_protocol::crypto::envelope::{SIZE_KINDS, envelope_id};
use kith_protocol::mailbox::{
    Batch, EnvelopeRow, KnownRow, MailboxRow, RightRow, Row, RowKey, Totals, Usage,
};
use kith_protocol::secret::Secret32;
use kith_protocol::wire::relay::{Answer, Ask};
use kith_protocol::{EnvelopeId, MailboxId, RightId, Wall};
use kith_store::EngineKind;
use kith_store::mailbox::{KvConfig, KvStore, MailboxStore as _};
use support::peer::*;
use support::process::{Process, rss};
use tokio::time::Instant;

const TTL: u32 = 30 * 86_400;
/// Links with requests under way,
const LINKS: u64 = 8;
/// and requests under way on each.
const WINDOW: usize = 32;
/// Mailboxes the deposits go to.
const MAILBOXES: u64 = 64;
const DEPOSITS: usize = 40_000;
const SINGLE: usize = 1_000;
const CONFIG: &str = "log = \"error\"\n[rate]\nrequests_per_link = 0\nrequests_per_network = 0\nmailboxes_per_network = 0\n\
                      [connections]\nper_network = 20000";

/// `BENCH name unit samples median p99 bar`, separated by tabs, as `cargo xtask bench` reads it.
fn report(name: &str, unit: &str, samples: &mut [f64], bar: &str) {
    samples.sort_by(f64::total_cmp);
    let at = |percent: usize| samples[((samples.len() - 1) * percent).div_ceil(100)];
    let p99 = if samples.len() >= 20 { at(99).to_string() } else { "-".into() };
    println!("BENCH\t{name}\t{unit}\t{}\t{}\t{p99}\t{bar}", samples.len(), at(50));
}

/// Processor time a process has used, in microseconds.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after = stat.rsplit(')').next().unwrap();
    let ticks: u64 =
        after.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    ticks as f64 * 10_000.0
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[allow(clippy::disallowed_methods, reason = "a bench's own tasks")]
async fn throughput(relay: &Process, store: &str) {
    let mut owners = Vec::new();
    for n in 0..MAILBOXES {
        let owner = Owner::connect(relay.tcp(), 1_000 + n).await;
        owner.ready(0..1).await;
        owners.push(Arc::new(owner));
    }
    let mut contacts = Vec::new();
    for n in 0..LINKS {
        contacts.push(Peer::connect(relay.tcp(), n).await);
    }
    // what is signed and hashed by the clients is made before
    let mut asks: Vec<Vec<Ask>> = vec![Vec::new(); contacts.len()];
    for n in 0..DEPOSITS {
        let owner = &owners[n % owners.len()];
        let letter = envelope(&format!("{n}"), 256);
        asks[n % contacts.len()].push(owner.deposit(0, &letter, TTL));
    }
    let (started, before) = (Instant::now(), cpu(relay.pid()));
    let mut tasks = tokio::task::JoinSet::new();
    for (contact, asks) in contacts.into_iter().zip(asks) {
        tasks.spawn(async move {
            let mut under_way = std::collections::VecDeque::new();
            for ask in asks {
                if under_way.len() >= WINDOW {
                    let answer: tokio::sync::oneshot::Receiver<Vec<Answer>> = under_way.pop_front().unwrap();
                    assert!(matches!(answer.await.unwrap()[0], Answer::Custody(_)));
                }
                under_way.push_back(contact.send(ask).await);
            }
            for answer in under_way {
                assert!(matches!(answer.await.unwrap()[0], Answer::Custody(_)));
            }
            contact
        });
    }
    let contacts = tasks.join_all().await;
    let (took, used) = (started.elapsed(), cpu(relay.pid()) - before);
    let bar = if store == "redb" { "60" } else { "-" };
    report(&format!("relay {store}: deposit, CPU each"), "us", &mut [used / DEPOSITS as f64], bar);
    report(
        &format!("relay {store}: deposits, durable"),
        "/s",
        &mut [DEPOSITS as f64 / took.as_secs_f64()],
        "-",
    );
    report(
        &format!("relay {store}: memory after the deposits"),
        "MB",
        &mut [rss(relay.pid()) as f64 / 1e6],
        "-",
    );

    let (started, before) = (Instant::now(), cpu(relay.pid()));
    let mut tasks = tokio::task::JoinSet::new();
    for owner in owners.iter().cloned() {
        tasks.spawn(async move {
            let mut fetched = 0;
            loop {
                let ask = Ask::List { mailbox: owner.mailbox, after: 0, max: 512 };
                let Answer::Listed { envelopes, .. } = owner.peer.ask(ask).await else { panic!("no list") };
                if envelopes.is_empty() {
                    return fetched;
                }
                let ids: Vec<EnvelopeId> = envelopes.iter().map(|listed| listed.id).collect();
                fetched += owner.get(&ids).await.len();
                owner.collect(ids).await.unwrap();
            }
        });
    }
    let fetched: usize = tasks.join_all().await.into_iter().sum();
    assert_eq!(fetched, DEPOSITS);
    let (took, used) = (started.elapsed(), cpu(relay.pid()) - before);
    report(&format!("relay {store}: fetch and delete, CPU each"), "us", &mut [used / DEPOSITS as f64], bar);
    report(
        &format!("relay {store}: fetches and deletes"),
        "/s",
        &mut [DEPOSITS as f64 / took.as_secs_f64()],
        "-",
    );

    let mut times = Vec::new();
    for n in 0..SINGLE {
        let ask = owners[0].deposit(0, &envelope(&format!("single {n}"), 256), TTL);
        let started = Instant::now();
        let answer = contacts[0].ask(ask).await;
        times.push(micros(started.elapsed()));
        assert!(matches!(answer, Answer::Custody(_)));
    }
    report(&format!("relay {store}: deposit, one at a time"), "us", &mut times, "-");
    let listed = owners[0].list().await;
    let mut times = Vec::new();
    for listed in listed {
        let started = Instant::now();
        let got = owners[0].get(&[listed.id]).await;
        owners[0].collect(vec![listed.id]).await.unwrap();
        times.push(micros(started.elapsed()));
        assert_eq!(got.len(), 1);
    }
    report(&format!("relay {store}: fetch and delete, one at a time"), "us", &mut times, "-");
    relay.audit();
}

/// Two processes on one database: each takes any mailbox, or has its own.
#[cfg(all(unix, feature = "postgres"))]
#[allow(clippy::disallowed_methods, reason = "a bench's own tasks")]
async fn together(relays: &[Process; 2], own: bool) {
    let which = if own { "their own mailboxes" } else { "any mailboxes" };
    const MANY: u64 = 2_000;
    let mut owners = Vec::new();
    for n in 0..MANY {
        let relay = &relays[(n % 2) as usize];
        let owner = Owner::connect(relay.tcp(), 100_000 + n).await;
        owner.ready(0..1).await;
        owners.push(owner);
    }
    let mut contacts = Vec::new();
    for n in 0..LINKS {
        contacts.push(Peer::connect(relays[(n % 2) as usize].tcp(), 500 + n).await);
    }
    let mut asks: Vec<Vec<Ask>> = vec![Vec::new(); contacts.len()];
    for n in 0..DEPOSITS {
        let any = u32::from_le_bytes(blake(n as u64)[..4].try_into().unwrap()) as usize;
        // contacts with an odd number are at the second process
        let any = if own { any / 2 * 2 + n % 2 } else { any };
        let owner = &owners[any % owners.len()];
        asks[n % contacts.len()].push(owner.deposit(0, &envelope(&format!("{which} {n}"), 256), TTL));
    }
    drop(owners);
    let used = || relays.iter().map(|relay| cpu(relay.pid())).sum::<f64>();
    let conflicts = || -> f64 {
        relays.iter().map(|relay| relay.status()["counters"]["conflicts"].as_f64().unwrap()).sum()
    };
    let batches = || -> f64 {
        relays.iter().map(|relay| relay.status()["counters"]["batches"].as_f64().unwrap()).sum()
    };
    let (conflicts_before, batches_before) = (conflicts(), batches());
    let (started, before) = (Instant::now(), used());
    let mut tasks = tokio::task::JoinSet::new();
    for (contact, asks) in contacts.into_iter().zip(asks) {
        tasks.spawn(async move {
            let mut under_way = std::collections::VecDeque::new();
            for ask in asks {
                if under_way.len() >= WINDOW {
                    let answer: tokio::sync::oneshot::Receiver<Vec<Answer>> = under_way.pop_front().unwrap();
                    assert!(matches!(answer.await.unwrap()[0], Answer::Custody(_)));
                }
                under_way.push_back(contact.send(ask).await);
            }
            for answer in under_way {
                assert!(matches!(answer.await.unwrap()[0], Answer::Custody(_)));
            }
        });
    }
    tasks.join_all().await;
    let (took, used) = (started.elapsed(), used() - before);
    let (conflicts, batches) = (conflicts() - conflicts_before, batches() - batches_before);
    let deposits = DEPOSITS as f64;
    report(
        &format!("relay postgres, two processes, {which}: deposit, CPU each"),
        "us",
        &mut [used / deposits],
        "-",
    );
    report(
        &format!("relay postgres, two processes, {which}: deposits"),
        "/s",
        &mut [deposits / took.as_secs_f64()],
        "-",
    );
    report(
        &format!("relay postgres, two processes, {which}: decided again"),
        "%",
        &mut [100.0 * conflicts / batches],
        "-",
    );
    relays[0].audit();
}

/// Links that say nothing: those of owners who wait for their mail.
async fn idle() {
    let relay = Process::started(CONFIG);
    let mut links = Vec::new();
    let mut connect = async |to: u64| {
        while (links.len() as u64) < to {
            let owner = Owner::connect(relay.tcp(), 10_000 + links.len() as u64).await;
            owner.open().await;
            let wait = Ask::Wait { mailbox: owner.mailbox, after: 0, max: 10, deadline: 600_000 };
            let waiting = owner.peer.send(wait).await;
            links.push((owner, waiting));
        }
        // what the handshakes took is given back
        tokio::time::sleep(Duration::from_secs(3)).await;
        rss(relay.pid()) as f64
    };
    connect(50).await;
    let base = connect(100).await;
    let one = connect(1_100).await;
    let before = cpu(relay.pid());
    report("relay: memory of an idle link, 1,000", "KB", &mut [(one - base) / 1_000.0 / 1e3], "30");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let used = (cpu(relay.pid()) - before) / 10.0 / 1e3;
    report("relay: CPU of 1,000 idle links", "ms/s", &mut [used], "10");
    let five = connect(5_100).await;
    report("relay: memory of an idle link, 5,000", "KB", &mut [(five - base) / 5_000.0 / 1e3], "30");
    let status = relay.status();
    assert_eq!(status["waits"], 5_100);
    drop(links);
}

/// A store with so many envelopes in mailboxes of 100, written past the network.
async fn fill(folder: &std::path::Path, envelopes: u64) {
    let config = KvConfig {
        engine: EngineKind::Redb,
        owner: None,
        folder: folder.to_owned(),
        cache_bytes: 128 * 1024 * 1024,
        min_free: 0,
    };
    let store = KvStore::open(config).unwrap();
    let now = Wall(1_900_000_000_000);
    let expires_at = now.plus(30 * 86_400_000);
    let each = 100;
    for group in 0..envelopes / each / 10 {
        let mut batch = Batch::default();
        for number in group * 10..group * 10 + 10 {
            let mut id = [0; 16];
            id.copy_from_slice(&blake(number)[..16]);
            let (id, right) = (MailboxId(id), RightId([1; 16]));
            let usage = Usage { bytes: each * 256, items: each };
            let mut kinds = [Usage::default(); SIZE_KINDS];
            kinds[0] = usage;
            let row = MailboxRow {
                version: 1,
                read_key: [1; 32],
                created: now,
                visited: now,
                blocked: false,
                evicting: false,
                usage,
                kinds,
                tombstones: 0,
                rights: 1,
                revoked: 0,
                cursor: each,
                first_key: 0,
                next_key: 0,
                bundle_until: None,
                quota: None,
            };
            let of_right = RightRow {
                key: Secret32::new([1; 32]),
                max: Usage::default(),
                deposits_max: 0,
                expires: None,
                usage,
                deposits: each,
                keys_day: 0,
                keys_taken: 0,
                revoked: None,
            };
            batch.changes.push((RowKey::Mailbox(id), Some(Row::Mailbox(Box::new(row)))));
            batch.changes.push((RowKey::Right(id, right), Some(Row::Right(of_right))));
            batch.changes.push((RowKey::Visit(21_990, id), Some(Row::Mark)));
            for cursor in 1..=each {
                let body = envelope(&format!("{number} {cursor}"), 256);
                let envelope = envelope_id(&body);
                let known = KnownRow::Stored { cursor, right, size: 256, stored_at: now, expires_at };
                let due = RowKey::Due(
                    kith_protocol::mailbox::bucket(expires_at),
                    id,
                    kith_protocol::mailbox::Due::Envelope(envelope),
                );
                let row = EnvelopeRow { id: envelope, right, stored_at: now, body };
                batch.changes.push((RowKey::Known(id, envelope), Some(Row::Known(known))));
                batch.changes.push((due, Some(Row::Mark)));
                batch.changes.push((RowKey::Envelope(id, cursor), Some(Row::Envelope(row))));
            }
            batch.totals = batch.totals.plus(Totals {
                mailboxes: 1,
                envelopes: each as i64,
                bytes: (each * 256) as i64,
                rights: 1,
                tombstones: 0,
            });
        }
        assert!(store.write(vec![batch], now).await.unwrap().is_whole());
    }
    store.close().await.unwrap();
}

fn blake(number: u64) -> [u8; 32] {
    let id = envelope_id(&Bytes::copy_from_slice(&number.to_be_bytes()));
    let mut out = [0; 32];
    out[..16].copy_from_slice(&id.0);
    out
}

async fn start_full() {
    let envelopes: u64 =
        std::env::var("KITH_BENCH_ENVELOPES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let mut relay = Process::init(CONFIG);
    fill(&relay.folder.join("store"), envelopes).await;
    let start = |relay: &mut Process| {
        let started = Instant::now();
        relay.start();
        micros(started.elapsed()) / 1e3
    };
    let mut empty = Process::init(CONFIG);
    let nothing = start(&mut empty);
    report("relay: start with nothing stored", "ms", &mut [nothing], "-");
    let full = start(&mut relay);
    report(&format!("relay: start with {envelopes} envelopes"), "ms", &mut [full], "1000");
    report("relay: memory then", "MB", &mut [rss(relay.pid()) as f64 / 1e6], "-");
    assert_eq!(relay.status()["envelopes"], envelopes);
    relay.kill();
    let killed = start(&mut relay);
    report("relay: the same after SIGKILL", "ms", &mut [killed], "1000");
    // a relay that is full of others' mail is as quick for one
    let owner = Owner::connect(relay.tcp(), 5).await;
    owner.ready(0..1).await;
    let contact = Peer::connect(relay.tcp(), 6).await;
    let mut times = Vec::new();
    for n in 0..200 {
        let ask = owner.deposit(0, &envelope(&format!("{n}"), 256), TTL);
        let started = Instant::now();
        let answer = contact.ask(ask).await;
        times.push(micros(started.elapsed()));
        assert!(matches!(answer, Answer::Custody(_)), "{answer:?}");
    }
    report(&format!("relay: deposit among {envelopes}, one at a time"), "us", &mut times, "-");
}

#[tokio::main]
async fn main() {
    // cargo passes its own flags; a word chooses a part
    let part = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    for store in ["redb", "sled", "memory"] {
        if wanted(store) {
            let relay = Process::started(&format!("{CONFIG}\n[store]\nkind = \"{store}\""));
            throughput(&relay, store).await;
        }
    }
    #[cfg(all(unix, feature = "postgres"))]
    if wanted("postgres")
        && let Some(server) = support::postgres::Server::started()
    {
        let config = format!("{CONFIG}\n{}", server.config("kith"));
        let relay = Process::started(&config);
        throughput(&relay, "postgres").await;
        let mut second = relay.another(&config);
        second.start();
        let relays = [relay, second];
        together(&relays, true).await;
        together(&relays, false).await;
    }
    if wanted("idle") {
        idle().await;
    }
    if wanted("start") {
        start_full().await;
    }
}
