//! From changes to one batch of bytes: chunks, indexes and counts included.

use kith_protocol::record::{Change, Key, Row};
use serde::{Deserialize, Serialize};

use crate::codec::{Codec, CodecError, Head, META, OpenRowError, SCHEMA, SCHEMA_KEY};
use crate::engine::{Batch, Engine};

/// Written in every batch, so that it is exactly as new as the rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// Number of the newest commit in the engine.
    pub(crate) commit: u64,
    /// Number of rows, not counting chunks and indexes: a row that vanished without a trace is noticed.
    pub(crate) rows: u64,
}

impl Meta {
    pub(crate) fn read(engine: &dyn Engine, codec: &Codec) -> Result<Option<Self>, OpenRowError> {
        let Some(value) = engine.get(META)? else { return Ok(None) };
        let plain = codec.open(META, &value)?;
        Ok(Some(postcard::from_bytes(&plain).map_err(|_| CodecError::Row)?))
    }
}

/// The schema version that stands in an engine.
pub(crate) fn read_schema(engine: &dyn Engine, codec: &Codec) -> Result<Option<u16>, OpenRowError> {
    let Some(value) = engine.get(SCHEMA_KEY)? else { return Ok(None) };
    let plain = codec.open(SCHEMA_KEY, &value)?;
    let bytes: [u8; 2] = plain.as_slice().try_into().map_err(|_| CodecError::Row)?;
    Ok(Some(u16::from_le_bytes(bytes)))
}

/// Bytes of a value that says a row lies in chunks: format, nonce, tag, 1 + 8 + 2.
const HEAD_LEN: usize = 1 + 24 + 16 + 11;

/// Changes laid over an engine, until they are written.
#[derive(Debug)]
pub(crate) struct Staging<'a> {
    engine: &'a dyn Engine,
    codec: &'a Codec,
    batch: Batch,
    bytes: usize,
    pub(crate) meta: Meta,
}

impl<'a> Staging<'a> {
    pub(crate) fn new(engine: &'a dyn Engine, codec: &'a Codec, meta: Meta) -> Self {
        Self { engine, codec, batch: Batch::default(), bytes: 0, meta }
    }

    pub(crate) fn rows(&self) -> usize {
        self.batch.rows.len()
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, OpenRowError> {
        match self.batch.rows.get(key) {
            Some(staged) => Ok(staged.clone()),
            None => Ok(self.engine.get(key)?),
        }
    }

    pub(crate) fn apply(&mut self, change: &Change) -> Result<(), OpenRowError> {
        match change {
            Change::Put(row) => self.put(row),
            Change::Delete(key) => self.delete(key),
        }
    }

    pub(crate) fn put(&mut self, row: &Row) -> Result<(), OpenRowError> {
        let name = row.key();
        let key = self.codec.key(&name);
        if !self.clear(&name, &key)? {
            self.meta.rows = self.meta.rows.saturating_add(1);
        }
        for (key, value) in self.codec.row_values(&key, row)? {
            self.bytes = self.bytes.saturating_add(key.len() + value.len());
            self.batch.put(key, value);
        }
        for index in self.codec.index_keys(row) {
            let value = self.codec.index_value(&index);
            self.bytes = self.bytes.saturating_add(index.len() + value.len());
            self.batch.put(index, value);
        }
        Ok(())
    }

    fn delete(&mut self, name: &Key) -> Result<(), OpenRowError> {
        let key = self.codec.key(name);
        if self.clear(name, &key)? {
            self.meta.rows = self.meta.rows.saturating_sub(1);
            self.bytes = self.bytes.saturating_add(key.len());
            self.batch.delete(key);
        }
        Ok(())
    }

    /// Stages the removal of what belongs to the row that stands there now; says whether there is one.
    fn clear(&mut self, name: &Key, key: &[u8]) -> Result<bool, OpenRowError> {
        let Some(value) = self.get(key)? else { return Ok(false) };
        // a damaged old row must not keep a good new one out: what it leaves behind, a check finds
        if Codec::is_indexed(name) {
            match self.codec.open_row(key, &value, |chunk| match self.batch.rows.get(chunk) {
                Some(staged) => Ok(staged.clone()),
                None => self.engine.get(chunk),
            }) {
                Ok(old) => {
                    for index in self.codec.index_keys(&old) {
                        self.batch.delete(index);
                    }
                }
                Err(OpenRowError::Engine(error)) => return Err(error.into()),
                Err(OpenRowError::Codec(error)) => tracing::warn!(%error, ?name, "a damaged row is replaced"),
            }
        }
        if value.len() == HEAD_LEN
            && let Ok(Head::Chunked { generation, count }) = self.codec.open_head(key, &value)
        {
            for chunk in self.codec.chunk_keys(key, generation, count) {
                self.batch.delete(chunk);
            }
        }
        Ok(true)
    }

    /// The batch, with the commit number and counts in it.
    pub(crate) fn finish(mut self) -> Result<(Batch, Meta), OpenRowError> {
        let plain = postcard::to_stdvec(&self.meta).map_err(|_| CodecError::Row)?;
        self.batch.put(META.to_vec(), self.codec.seal(META, &plain)?);
        Ok((self.batch, self.meta))
    }

    /// Also states that what is written has this code's schema version.
    pub(crate) fn state_schema(&mut self) -> Result<(), OpenRowError> {
        let value = self.codec.seal(SCHEMA_KEY, &SCHEMA.to_le_bytes())?;
        self.batch.put(SCHEMA_KEY.to_vec(), value);
        Ok(())
    }
}
