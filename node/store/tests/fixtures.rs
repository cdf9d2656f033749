//! Stores of older schemas still open: one exported file for each, made when that schema was the newest.
//!
//! If this fails because the layout of a row changed, raise `SCHEMA` in `src/codec/rows.rs`, teach it the layout before,
//! and add the fixture of the new schema with `KITH_WRITE_FIXTURES=1 cargo test -p kith-store --test fixtures`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::path::{Path, PathBuf};

use common::*;
use kith_protocol::record::{Key, Lost, Restoration, Telling};
use kith_store::{EngineKind, ExportKey};

const MESSAGES: u64 = 18;
/// The schema whose fixture this code writes.
const NEWEST: u16 = 2;

fn fixture(schema: u16) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/schema-{schema}.export"))
}

/// What schema 2 has more.
fn newer_rows() -> (Restoration, Telling) {
    let lost = vec![Lost { stream: stream_id(1), ranges: vec![(1, 2), (7, 1)] }];
    let restoration =
        Restoration { reason: "a test".to_owned(), lost_commits: 3, lost, ..Restoration::default() };
    (restoration, Telling { after: Some(account_id(1)) })
}

#[test]
fn exports_of_all_schemas_still_import() {
    let newest = fixture(NEWEST);
    if std::env::var_os("KITH_WRITE_FIXTURES").is_some() {
        let store = Place::new(EngineKind::Memory).open();
        for n in 1..=MESSAGES {
            store.commit(message(n)).wait().unwrap();
        }
        let (restoration, telling) = newer_rows();
        let rows = vec![put(contact(1, "Ann")), put(invite(1)), put(restoration), put(telling)];
        store.commit(rows).wait().unwrap();
        kith_store::export(&store, &newest, &ExportKey::Key(key())).unwrap();
    }
    for (engine, schema) in DISK_ENGINES.into_iter().flat_map(|engine| [(engine, 1), (engine, NEWEST)]) {
        let path = fixture(schema);
        let place = Place::new(engine);
        let store = place.open();
        let rows = kith_store::import(&store, &path, &ExportKey::Key(key())).unwrap();
        assert_eq!(rows, store.stats().unwrap().rows);
        assert_messages(&store, 1, MESSAGES);
        assert_eq!(store.contacts().unwrap(), [contact(1, "Ann")]);
        assert_eq!(store.invites().unwrap(), [invite(1)]);
        if schema >= 2 {
            let (restoration, telling) = newer_rows();
            assert_eq!(store.row(&Key::Restoration).unwrap(), Some(restoration));
            assert_eq!(store.row(&Key::Telling).unwrap(), Some(telling));
        }
        assert!(store.check().unwrap().is_sound());
    }
}
