//! Bringing an older store to this code's schema. Where indexes or counts changed, every row is written anew and they are
//! made anew; else the store's version number is enough, for rows of all versions can be read.

use super::row_error;
use crate::codec::{Codec, FIRST_INDEX, FIRST_ROW, INDEXED_SINCE, SCHEMA, is_index};
use crate::config::{OpenError, OpenReport, OpenStage, StoreConfig};
use crate::engine::{Batch, Direction, Durability, Engine};
use crate::staging::{Meta, Staging};

/// Rows read and written together.
const ROWS: usize = 250;

/// Does nothing for a store of this schema. Cut off half way, it starts over at the next open.
pub(super) fn migrate(
    config: &StoreConfig,
    codec: &Codec,
    engine: &dyn Engine,
    meta: Meta,
    schema: u16,
    report: &mut OpenReport,
) -> Result<Meta, OpenError> {
    if schema == SCHEMA {
        return Ok(meta);
    }
    tracing::info!(from = schema, to = SCHEMA, "the store is brought to a newer schema");
    report.migrated_from = Some(schema);
    let meta = if schema < INDEXED_SINCE { rewrite(config, codec, engine, meta)? } else { meta };
    let mut staging = Staging::new(engine, codec, meta);
    // before the first row that an older Kith would call damaged
    staging.state_schema().map_err(row_error)?;
    let (batch, meta) = staging.finish().map_err(row_error)?;
    engine.write(&batch, &[], Durability::Durable)?;
    Ok(meta)
}

fn rewrite(config: &StoreConfig, codec: &Codec, engine: &dyn Engine, meta: Meta) -> Result<Meta, OpenError> {
    drop_indexes(engine)?;
    let meta = Meta { rows: 0, ..meta };
    let mut rows = 0_u64;
    for space in FIRST_ROW..FIRST_INDEX {
        let mut from: Option<Vec<u8>> = None;
        loop {
            let page = engine.page(&[space], from.as_deref(), Direction::Forward, ROWS)?;
            let Some((last, _)) = page.last() else { break };
            from = Some(last.clone());
            let mut staging = Staging::new(engine, codec, meta);
            for (key, value) in &page {
                let row = codec.open_row(key, value, |chunk| engine.get(chunk)).map_err(row_error)?;
                staging.put(&row).map_err(row_error)?;
                rows = rows.saturating_add(1);
            }
            let (batch, _) = staging.finish().map_err(row_error)?;
            engine.write(&batch, &[], Durability::Lazy)?;
            config.tell(OpenStage::Migrating(rows));
        }
    }
    Ok(Meta { rows, ..meta })
}

fn drop_indexes(engine: &dyn Engine) -> Result<(), OpenError> {
    for space in (FIRST_INDEX..=u8::MAX).filter(|space| is_index(*space)) {
        loop {
            let page = engine.page(&[space], None, Direction::Forward, ROWS)?;
            if page.is_empty() {
                break;
            }
            let mut batch = Batch::default();
            for (key, _) in page {
                batch.delete(key);
            }
            engine.write(&batch, &[], Durability::Lazy)?;
        }
    }
    Ok(())
}
