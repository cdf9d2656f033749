//! Stores of older schemas still open: one exported file for each, made when that schema was the newest.
//!
//! If this fails because the layout of a row changed, raise `SCHEMA` in `src/codec/rows.rs`, teach it the layout before,
//! and add the fixture of the new schema with `KITH_WRITE_FIXTURES=1 cargo test -p kith-store --test fixtures`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::path::{Path, PathBuf};

use common::*;
use kith_store::{EngineKind, ExportKey};

const MESSAGES: u64 = 18;

fn fixture(schema: u16) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/schema-{schema}.export"))
}

#[test]
fn an_export_of_schema_1_still_imports() {
    let path = fixture(1);
    if std::env::var_os("KITH_WRITE_FIXTURES").is_some() {
        let store = Place::new(EngineKind::Memory).open();
        for n in 1..=MESSAGES {
            store.commit(message(n)).wait().unwrap();
        }
        store.commit(vec![put(contact(1, "Ann")), put(invite(1))]).wait().unwrap();
        kith_store::export(&store, &path, &ExportKey::Key(key())).unwrap();
    }
    for engine in DISK_ENGINES {
        let place = Place::new(engine);
        let store = place.open();
        let rows = kith_store::import(&store, &path, &ExportKey::Key(key())).unwrap();
        assert_eq!(rows, store.stats().unwrap().rows);
        assert_messages(&store, 1, MESSAGES);
        assert_eq!(store.contacts().unwrap(), [contact(1, "Ann")]);
        assert_eq!(store.invites().unwrap(), [invite(1)]);
        assert!(store.check().unwrap().is_sound());
    }
}
