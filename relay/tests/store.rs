//! What the relay relies on in a store, for each of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use kith_protocol::mailbox::{
    Batch, Due, EnvelopeRow, KnownRow, MailboxRow, RightRow, Row, RowKey, TokenRow, Totals, Usage, Work,
};
use kith_protocol::secret::Secret32;
use kith_protocol::{EnvelopeId, MailboxId, RightId, Wall};
use kith_store::EngineKind;
use kith_store::mailbox::{Found, KvConfig, KvStore, MailboxStore, Read, StoredState, Written};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

const NOW: Wall = Wall(1_900_000_000_000);

type Rows = BTreeMap<RowKey, Row>;

/// A store that can be closed and opened again.
enum Kind {
    Kv(EngineKind, tempfile::TempDir),
    #[cfg(all(unix, feature = "postgres"))]
    Postgres(support::postgres::Server),
}

impl Kind {
    fn kv(engine: EngineKind) -> Self {
        Self::Kv(engine, tempfile::tempdir().unwrap())
    }

    async fn open(&self) -> Arc<dyn MailboxStore> {
        match self {
            Self::Kv(engine, folder) => {
                let config = KvConfig {
                    engine: *engine,
                    owner: None,
                    folder: PathBuf::from(folder.path()),
                    cache_bytes: 1 << 20,
                    min_free: 0,
                };
                Arc::new(KvStore::open(config).unwrap())
            }
            #[cfg(all(unix, feature = "postgres"))]
            Self::Postgres(server) => {
                use kith_network::ProductEnvironment;
                use kith_relay::config::{DatabaseSection, DatabaseUrl};
                use kith_relay::postgres::{PostgresConfig, PostgresStore};
                let section = DatabaseSection {
                    url: DatabaseUrl(server.url("kith")),
                    password_file: server.password_file().display().to_string(),
                    ca: String::new(),
                };
                let relay = kith_protocol::DeviceId([7; 32]);
                let config = PostgresConfig { login: section.login().unwrap(), ca: None, relay };
                Arc::new(
                    PostgresStore::open(
                        Arc::new(ProductEnvironment::current().unwrap().without_lan()),
                        &config,
                    )
                    .await
                    .unwrap(),
                )
            }
        }
    }

    /// Whether rows are there after it was closed.
    const fn is_durable(&self) -> bool {
        !matches!(self, Self::Kv(EngineKind::Memory, _))
    }
}

fn mailbox(version: u64) -> Row {
    Row::Mailbox(Box::new(MailboxRow {
        version,
        read_key: [1; 32],
        created: NOW,
        visited: NOW,
        blocked: false,
        evicting: false,
        usage: Usage { bytes: version * 256, items: version },
        kinds: Default::default(),
        tombstones: u64::MAX,
        rights: 1,
        revoked: 0,
        cursor: version,
        first_key: 0,
        next_key: 0,
        bundle_until: Some(Wall(u64::MAX)),
        quota: None,
    }))
}

fn right(deposits: u64) -> Row {
    Row::Right(RightRow {
        key: Secret32::new([3; 32]),
        max: Usage::default(),
        deposits_max: 0,
        expires: None,
        usage: Usage::default(),
        deposits,
        keys_day: u32::MAX,
        keys_taken: 1,
        revoked: Some(Wall(0)),
    })
}

fn token(version: u64) -> Row {
    Row::Token(TokenRow {
        version,
        label: "äöü \u{0}".into(),
        created: NOW,
        uses_left: 1,
        used: 0,
        expires: None,
        revoked: false,
    })
}

fn letter(n: u8, len: usize) -> Row {
    Row::Envelope(EnvelopeRow {
        id: EnvelopeId([n; 16]),
        right: RightId([n; 16]),
        stored_at: NOW,
        body: Bytes::from(vec![n; len]),
    })
}

const fn id(n: u8) -> MailboxId {
    MailboxId([n; 16])
}

/// Some of every kind, in two mailboxes.
fn all_kinds() -> Rows {
    let mut rows = Rows::new();
    for n in [1, 200] {
        let known =
            KnownRow::Stored { cursor: 3, right: RightId([n; 16]), size: 7, stored_at: NOW, expires_at: NOW };
        rows.extend([
            (RowKey::Mailbox(id(n)), mailbox(u64::from(n))),
            (RowKey::Right(id(n), RightId([0; 16])), right(0)),
            (RowKey::Right(id(n), RightId([255; 16])), right(u64::MAX)),
            (RowKey::Envelope(id(n), 1), letter(n, 0)),
            (RowKey::Envelope(id(n), 2), letter(n.wrapping_add(1), 256)),
            (RowKey::Envelope(id(n), 300), letter(n.wrapping_add(2), 65_536)),
            (RowKey::Known(id(n), EnvelopeId([n; 16])), Row::Known(known)),
            (RowKey::Known(id(n), EnvelopeId([9; 16])), Row::Known(KnownRow::Collected { expires_at: NOW })),
            (RowKey::OneTimeKey(id(n), 0), Row::OneTimeKey([n; 32])),
            (RowKey::OneTimeKey(id(n), 256), Row::OneTimeKey([0; 32])),
            (RowKey::Bundle(id(n)), Row::Bundle(Bytes::from(vec![n; 12_000]))),
            (RowKey::Due(u32::from(n), id(n), Due::Envelope(EnvelopeId([n; 16]))), Row::Mark),
            (RowKey::Due(u32::from(n), id(n), Due::Right(RightId([n; 16]))), Row::Mark),
            (RowKey::Visit(u32::from(n), id(n)), Row::Mark),
            (RowKey::Work(id(n), Work::Purge(RightId([n; 16]))), Row::Work(u64::MAX)),
            (RowKey::Work(id(n), Work::Evict), Row::Work(0)),
            (RowKey::Token([n; 16]), token(u64::from(n))),
        ]);
    }
    rows
}

fn batch(rows: &Rows) -> Batch {
    let expected = rows.keys().filter(|key| matches!(key, RowKey::Mailbox(_) | RowKey::Token(_)));
    Batch {
        expected: expected.map(|key| (*key, None)).collect(),
        changes: rows.iter().map(|(key, row)| (*key, Some(row.clone()))).collect(),
        totals: Totals { mailboxes: 2, envelopes: 6, bytes: 131_584, tombstones: 2, rights: -4 },
    }
}

async fn written(store: &dyn MailboxStore, batch: Batch) -> Totals {
    let written = store.write(vec![batch], NOW).await.unwrap();
    assert!(written.is_whole(), "{written:?}");
    written.totals.unwrap()
}

async fn one(store: &dyn MailboxStore, read: Read) -> Found {
    store.read(vec![read]).await.unwrap().remove(0)
}

/// Upkeep may be another process's work for a moment.
async fn upkeep(store: &dyn MailboxStore, read: Read) -> Found {
    for _ in 0..600 {
        match one(store, read).await {
            Found::Keys(keys) if keys.is_empty() && store.is_shared() => {}
            Found::Rows(rows) if rows.is_empty() && store.is_shared() => {}
            found => return found,
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("nobody does the upkeep");
}

/// Everything that is counted, by pages of this many.
async fn scanned(store: &dyn MailboxStore, max: usize) -> Vec<(RowKey, Row)> {
    let (mut rows, mut after) = (Vec::new(), Some(Vec::new()));
    while let Some(from) = after {
        let page = store.scan(from, max).await.unwrap();
        assert!(page.damaged.is_empty() && page.rows.len() <= max);
        rows.extend(page.rows);
        after = page.next;
    }
    rows
}

fn is_counted(key: &RowKey) -> bool {
    !matches!(key, RowKey::Due(..) | RowKey::Visit(..) | RowKey::Work(..) | RowKey::Token(_))
}

/// What the store holds is this.
async fn assert_holds(store: &dyn MailboxStore, rows: &Rows) {
    let keys: Vec<RowKey> = rows.keys().copied().collect();
    let found = store.read(keys.iter().copied().map(Read::Row).collect()).await.unwrap();
    for (key, found) in keys.iter().zip(found) {
        assert_eq!(found, Found::Row(rows.get(key).cloned()), "{key:?}");
    }
    let all: Rows = scanned(store, 1_000).await.into_iter().collect();
    let counted: Rows =
        rows.iter().filter(|(key, _)| is_counted(key)).map(|(key, row)| (*key, row.clone())).collect();
    assert!(all == counted, "{:?} instead of {:?}", all.keys(), counted.keys());
}

async fn every_read_finds_what_was_written(kind: &Kind) {
    let store = kind.open().await;
    let rows = all_kinds();
    assert_eq!(store.state().await.unwrap(), StoredState::default());
    assert!(store.read(Vec::new()).await.unwrap().is_empty());
    let batch = batch(&rows);
    assert_eq!(written(store.as_ref(), batch.clone()).await, batch.totals);
    assert_holds(store.as_ref(), &rows).await;
    let missing = vec![
        Read::Row(RowKey::Mailbox(id(7))),
        Read::Row(RowKey::Envelope(id(1), 3)),
        Read::Row(RowKey::Bundle(id(7))),
        Read::Row(RowKey::Visit(2, id(1))),
    ];
    assert_eq!(store.read(missing).await.unwrap(), vec![Found::Row(None); 4]);
    // lists, in the order they were asked for
    let list = |n, after, max| Read::List { mailbox: id(n), after, max };
    let reads = vec![list(200, 0, 10), list(7, 0, 10), list(1, 1, 10), list(1, 0, 1), list(1, u64::MAX, 5)];
    let lists: Vec<Vec<(u64, u32)>> = store
        .read(reads)
        .await
        .unwrap()
        .into_iter()
        .map(|found| match found {
            Found::List(listed) => listed.iter().map(|listed| (listed.cursor, listed.bytes)).collect(),
            other => panic!("{other:?}"),
        })
        .collect();
    let all = vec![(1, 0), (2, 256), (300, 65_536)];
    assert_eq!(lists, [all.clone(), vec![], all[1..].to_vec(), all[..1].to_vec(), vec![]]);
    // what is kept by time
    let due = |n: u8| {
        [
            RowKey::Due(u32::from(n), id(n), Due::Envelope(EnvelopeId([n; 16]))),
            RowKey::Due(u32::from(n), id(n), Due::Right(RightId([n; 16]))),
        ]
    };
    assert_eq!(upkeep(store.as_ref(), Read::Due { up_to: 1, max: 10 }).await, Found::Keys(due(1).to_vec()));
    assert_eq!(
        upkeep(store.as_ref(), Read::Due { up_to: u32::MAX, max: 3 }).await,
        Found::Keys([due(1).as_slice(), &due(200)[..1]].concat())
    );
    assert_eq!(
        upkeep(store.as_ref(), Read::Visits { up_to: 200, max: 9 }).await,
        Found::Keys(vec![RowKey::Visit(1, id(1)), RowKey::Visit(200, id(200))])
    );
    assert_eq!(one(store.as_ref(), Read::Visits { up_to: 0, max: 9 }).await, Found::Keys(vec![]));
    match upkeep(store.as_ref(), Read::Work { max: 1 }).await {
        Found::Rows(found) => {
            assert_eq!(found, [(RowKey::Work(id(1), Work::Purge(RightId([1; 16]))), Row::Work(u64::MAX))])
        }
        other => panic!("{other:?}"),
    }
    let Found::Keys(rest) = one(store.as_ref(), Read::Rest { mailbox: id(1), max: 100 }).await else {
        panic!()
    };
    let others = |key: &&RowKey| {
        key.mailbox() == Some(id(1))
            && matches!(
                key,
                RowKey::Right(..) | RowKey::Known(..) | RowKey::OneTimeKey(..) | RowKey::Bundle(_)
            )
    };
    let mut sorted = rest.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, rows.keys().filter(others).copied().collect::<Vec<_>>());
    // people and tokens
    let Found::Rows(found) = one(store.as_ref(), Read::Mailboxes { after: None, max: 10 }).await else {
        panic!()
    };
    assert_eq!(found, [(RowKey::Mailbox(id(1)), mailbox(1)), (RowKey::Mailbox(id(200)), mailbox(200))]);
    let after = Read::Mailboxes { after: Some(id(1)), max: 10 };
    let Found::Rows(found) = one(store.as_ref(), after).await else { panic!() };
    assert_eq!(found.len(), 1);
    let Found::Rows(found) = one(store.as_ref(), Read::Tokens { max: 10 }).await else { panic!() };
    assert_eq!(found, [(RowKey::Token([1; 16]), token(1)), (RowKey::Token([200; 16]), token(200))]);
    assert!(store.stats().await.unwrap().bytes > 0 || !kind.is_durable());
    // a scan of any size of pages is the same, and mailboxes come whole
    let all = scanned(store.as_ref(), 1_000).await;
    for max in [1, 2, 3, 7, all.len(), all.len() + 1] {
        assert!(scanned(store.as_ref(), max).await == all, "pages of {max}");
    }
    assert!(matches!(all[0].0, RowKey::Mailbox(first) if first == id(1)));
    let order: Vec<_> = all.iter().map(|(key, _)| key.mailbox()).collect();
    assert!(order.is_sorted());
    store.close().await.unwrap();
    if kind.is_durable() {
        let store = kind.open().await;
        let state = store.state().await.unwrap();
        assert_eq!(state, StoredState { totals: batch.totals, last: Some(NOW) });
        assert_holds(store.as_ref(), &rows).await;
        // everything goes again, and an instant alone can be noted
        let totals = Totals { mailboxes: -2, envelopes: -6, bytes: -131_584, tombstones: -2, rights: 4 };
        let versions = |key: &RowKey, row: &Row| match row {
            Row::Mailbox(row) => Some((*key, Some(row.version))),
            Row::Token(row) => Some((*key, Some(row.version))),
            _ => None,
        };
        let gone = Batch {
            expected: rows.iter().filter_map(|(key, row)| versions(key, row)).collect(),
            changes: rows.keys().map(|key| (*key, None)).collect(),
            totals,
        };
        assert_eq!(written(store.as_ref(), gone).await, Totals::default());
        store.write(Vec::new(), NOW.plus(5)).await.unwrap();
        assert_eq!(store.state().await.unwrap().last, Some(NOW.plus(5)));
        assert_holds(store.as_ref(), &Rows::new()).await;
        store.close().await.unwrap();
    }
}

async fn what_is_expected_decides_whether_anything_is_written(kind: &Kind) {
    let store = kind.open().await;
    let rows = all_kinds();
    written(store.as_ref(), batch(&rows)).await;
    let state = store.state().await.unwrap();
    let (first, token_key, nobody) =
        (RowKey::Mailbox(id(1)), RowKey::Token([200; 16]), RowKey::Mailbox(id(3)));
    for wrong in [
        vec![(first, None)],
        vec![(first, Some(0))],
        vec![(first, Some(2))],
        vec![(first, Some(1)), (token_key, Some(1))],
        vec![(token_key, None)],
        vec![(nobody, Some(1))],
        vec![(first, Some(1)), (nobody, Some(0))],
    ] {
        let changed = Batch {
            changes: vec![
                (first, Some(mailbox(2))),
                (RowKey::Envelope(id(1), 4), Some(letter(5, 9))),
                (RowKey::Bundle(id(1)), None),
                (RowKey::Visit(9, id(1)), Some(Row::Mark)),
                (token_key, Some(token(201))),
                (nobody, Some(mailbox(1))),
            ],
            expected: wrong.clone(),
            totals: Totals { envelopes: 1, ..Totals::default() },
        };
        let none = Written { totals: None, conflicts: wrong.iter().map(|(key, _)| *key).collect() };
        assert_eq!(store.write(vec![changed], NOW.plus(9)).await.unwrap(), none);
        assert_holds(store.as_ref(), &rows).await;
        assert_eq!(store.state().await.unwrap(), state);
    }
    // with the right ones it is
    let good = Batch {
        changes: vec![(first, Some(mailbox(2))), (token_key, Some(token(201))), (nobody, Some(mailbox(1)))],
        expected: vec![(first, Some(1)), (token_key, Some(200)), (nobody, None)],
        totals: Totals { mailboxes: 1, ..Totals::default() },
    };
    assert_eq!(written(store.as_ref(), good.clone()).await.mailboxes, 3);
    assert_eq!(store.write(vec![good], NOW).await.unwrap().totals, None);
    store.close().await.unwrap();
    assert!(store.write(Vec::new(), NOW).await.is_err());
}

fn version(row: Option<&Row>) -> Option<u64> {
    match row {
        Some(Row::Mailbox(row)) => Some(row.version),
        Some(Row::Token(row)) => Some(row.version),
        _ => None,
    }
}

async fn what_fits_is_written_beside_what_does_not(kind: &Kind) {
    let store = kind.open().await;
    let token_key = RowKey::Token([200; 16]);
    let mut rows: Rows = [(RowKey::Mailbox(id(1)), mailbox(4)), (token_key, token(7))].into();
    let made = Batch {
        expected: rows.keys().map(|key| (*key, None)).collect(),
        changes: rows.iter().map(|(key, row)| (*key, Some(row.clone()))).collect(),
        totals: Totals { mailboxes: 1, ..Totals::default() },
    };
    written(store.as_ref(), made).await;
    let part = |heads: &[(RowKey, Option<u64>, Row)], n: u8| Batch {
        expected: heads.iter().map(|(key, expected, _)| (*key, *expected)).collect(),
        changes: heads
            .iter()
            .map(|(key, _, row)| (*key, Some(row.clone())))
            .chain([
                (RowKey::Envelope(id(n), 1), Some(letter(n, 300))),
                (RowKey::Bundle(id(n)), Some(Row::Bundle(Bytes::from(vec![n; 99])))),
                (RowKey::Visit(9, id(n)), Some(Row::Mark)),
            ])
            .collect(),
        totals: Totals { envelopes: i64::from(n), ..Totals::default() },
    };
    let [first, second, third, fourth] = [1, 2, 3, 4].map(|n| RowKey::Mailbox(id(n)));
    let fits = [part(&[(first, Some(4), mailbox(5))], 1), part(&[(third, None, mailbox(1))], 3)];
    let wrong = [
        // it has gone, or was never there
        part(&[(second, Some(1), mailbox(2))], 2),
        // the mailbox alone would fit
        part(&[(fourth, None, mailbox(1)), (token_key, Some(8), token(9))], 4),
    ];
    for batch in &fits {
        rows.extend(batch.changes.iter().map(|(key, row)| (*key, row.clone().unwrap())));
    }
    let [fits_a, fits_b] = fits;
    let [wrong_a, wrong_b] = wrong;
    let batches = vec![wrong_a.clone(), fits_a, wrong_b.clone(), fits_b];
    let done = store.write(batches, NOW.plus(3)).await.unwrap();
    assert_eq!((done.totals.unwrap().envelopes, done.conflicts), (4, vec![second, fourth, token_key]));
    assert_holds(store.as_ref(), &rows).await;
    let state = store.state().await.unwrap();
    assert_eq!((state.totals.envelopes, state.last), (4, Some(NOW.plus(3))));
    // nothing fits: nothing is written
    let done = store.write(vec![wrong_a, wrong_b], NOW.plus(4)).await.unwrap();
    assert_eq!(done, Written { totals: None, conflicts: vec![second, fourth, token_key] });
    assert_holds(store.as_ref(), &rows).await;
    assert_eq!(store.state().await.unwrap(), state);
    store.close().await.unwrap();
}

/// Random batches, next to a map that does the same.
async fn a_store_does_what_a_map_does(kind: &Kind) {
    let store = kind.open().await;
    let mut rng = StdRng::seed_from_u64(42);
    let (mut rows, mut totals) = (Rows::new(), Totals::default());
    for round in 0..60_u64 {
        let mut changes = Rows::new();
        let mut gone = Vec::new();
        for _ in 0..rng.random_range(1..40) {
            let n = rng.random_range(0..4_u8);
            let (x, small) = (rng.random_range(0..6_u8), rng.random_range(0..9_usize));
            let (key, row) = match rng.random_range(0..9) {
                0 | 1 => (RowKey::Mailbox(id(n)), mailbox(round + 1)),
                2 => (RowKey::Right(id(n), RightId([x; 16])), right(round)),
                3 | 4 => {
                    let len = [0, 1, 256, 4_000, 5_000, 9_000, 16_384, 65_535, 65_536][small];
                    // a cursor is never used twice
                    (RowKey::Envelope(id(n), round * 100 + u64::from(x)), letter(x, len))
                }
                5 => (RowKey::OneTimeKey(id(n), u64::from(x) * 255), Row::OneTimeKey([x; 32])),
                6 => (RowKey::Bundle(id(n)), Row::Bundle(Bytes::from(vec![x; small * 1_900]))),
                7 => (RowKey::Token([x; 16]), token(round + 1)),
                _ => (RowKey::Work(id(n), Work::Evict), Row::Work(round)),
            };
            changes.insert(key, row);
        }
        for key in rows.keys() {
            if rng.random_range(0..4) == 0 && !changes.contains_key(key) {
                gone.push(*key);
            }
        }
        // a batch for each mailbox and token; of some, somebody else was faster with the mailbox
        let mut parts: BTreeMap<RowKey, Batch> = BTreeMap::new();
        let changes = changes.into_iter().map(|(key, row)| (key, Some(row)));
        for (key, row) in changes.chain(gone.into_iter().map(|key| (key, None))) {
            let batch = parts.entry(key.head()).or_default();
            if key == key.head() {
                batch.expected.push((key, version(rows.get(&key))));
            }
            batch.changes.push((key, row));
        }
        let (mut conflicts, mut batches) = (Vec::new(), Vec::new());
        for (head, mut batch) in parts {
            batch.totals = Totals {
                envelopes: rng.random_range(-5..9),
                bytes: -(round.cast_signed()),
                ..Totals::default()
            };
            if rng.random_range(0..4) == 0 {
                batch.expected = vec![(head, version(rows.get(&head)).map_or(Some(0), |_| None))];
                conflicts.push(head);
            } else {
                totals = totals.plus(batch.totals);
                for (key, row) in &batch.changes {
                    match row {
                        Some(row) => drop(rows.insert(*key, row.clone())),
                        None => drop(rows.remove(key)),
                    }
                }
            }
            batches.push(batch);
        }
        let sums = (conflicts.len() < batches.len()).then_some(totals);
        let written = store.write(batches, NOW).await.unwrap();
        assert_eq!(written, Written { totals: sums, conflicts });
        if round % 7 == 0 {
            assert_holds(store.as_ref(), &rows).await;
        }
    }
    assert_holds(store.as_ref(), &rows).await;
    assert_eq!(store.state().await.unwrap().totals, totals);
    store.close().await.unwrap();
}

macro_rules! suite {
    ($name:ident, $kind:expr) => {
        mod $name {
            use super::*;

            #[tokio::test]
            async fn every_read_finds_what_was_written() {
                let Some(kind) = $kind else { return };
                super::every_read_finds_what_was_written(&kind).await;
            }

            #[tokio::test]
            async fn what_is_expected_decides_whether_anything_is_written() {
                let Some(kind) = $kind else { return };
                super::what_is_expected_decides_whether_anything_is_written(&kind).await;
            }

            #[tokio::test]
            async fn what_fits_is_written_beside_what_does_not() {
                let Some(kind) = $kind else { return };
                super::what_fits_is_written_beside_what_does_not(&kind).await;
            }

            #[tokio::test]
            async fn a_store_does_what_a_map_does() {
                let Some(kind) = $kind else { return };
                super::a_store_does_what_a_map_does(&kind).await;
            }
        }
    };
}

suite!(memory, Some(Kind::kv(EngineKind::Memory)));
suite!(redb, Some(Kind::kv(EngineKind::Redb)));
suite!(sled, Some(Kind::kv(EngineKind::Sled)));
#[cfg(all(unix, feature = "postgres"))]
suite!(postgres, support::postgres::Server::started().map(Kind::Postgres));
