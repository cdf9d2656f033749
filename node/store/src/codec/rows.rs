//! Rows, changes and their schema version; cutting rows into chunks.

use kith_protocol::record::{Change, Row};
use zeroize::Zeroizing;

use super::seal::OVERHEAD;
use super::{Codec, CodecError};
use crate::engine::{Pair, VALUE_MAX};

/// The schema version this code writes. A change to the layout of any row raises it, and [`decode_row`] learns to
/// read the version before: rows are brought to the newest version when they are next written, indexes at open.
pub(crate) const SCHEMA: u16 = 2;
/// Indexes and counts are as they are now since this version: a store of an older one gets them anew.
pub(crate) const INDEXED_SINCE: u16 = 1;

/// Longest piece of a row in one value: one tag byte and the seal come on top.
const PIECE: usize = VALUE_MAX - OVERHEAD - 1;
/// Longest encoded row.
const ROW_MAX: usize = 16 * 1024 * 1024;

const WHOLE: u8 = 0;
const CHUNKED: u8 = 1;
const CHUNK: u8 = 2;

/// What an opened value says about its row.
#[derive(Debug)]
pub(crate) enum Head {
    /// It is here.
    Whole(Zeroizing<Vec<u8>>),
    /// It lies in chunks.
    Chunked {
        /// Part of the chunks' keys: a new one each time the row is written.
        generation: u64,
        /// How many.
        count: u16,
    },
}

fn encode<T: serde::Serialize + ?Sized>(value: &T) -> Result<Zeroizing<Vec<u8>>, CodecError> {
    let start = Zeroizing::new(SCHEMA.to_le_bytes().to_vec());
    // `to_extend` grows the buffer, and what it leaves behind is not wiped; so the size is known before
    let size = postcard::experimental::serialized_size(value).map_err(|_| CodecError::Row)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(size + 2));
    bytes.extend_from_slice(&start);
    let filled = postcard::to_extend(value, std::mem::take(&mut *bytes)).map_err(|_| CodecError::Row)?;
    Ok(Zeroizing::new(filled))
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (schema, body) = bytes.split_first_chunk::<2>().ok_or(CodecError::Row)?;
    match u16::from_le_bytes(*schema) {
        // version 0 had the rows of version 1, without indexes and counts; version 2 has more kinds of rows
        0 | 1 | SCHEMA => postcard::from_bytes(body).map_err(|_| CodecError::Row),
        newer => Err(CodecError::Schema(newer)),
    }
}

/// Changes as a record of the export log.
pub(crate) fn encode_changes(changes: &[Change]) -> Result<Zeroizing<Vec<u8>>, CodecError> {
    encode(changes)
}

/// What [`encode_changes`] made.
pub(crate) fn decode_changes(bytes: &[u8]) -> Result<Vec<Change>, CodecError> {
    decode(bytes)
}

/// Rows as a record of a snapshot.
pub(crate) fn encode_rows(rows: &[Row]) -> Result<Zeroizing<Vec<u8>>, CodecError> {
    encode(rows)
}

/// What [`encode_rows`] made.
pub(crate) fn decode_rows(bytes: &[u8]) -> Result<Vec<Row>, CodecError> {
    decode(bytes)
}

impl Codec {
    /// The values that hold a row: its own first, then its chunks.
    pub(crate) fn row_values(&self, key: &[u8], row: &Row) -> Result<Vec<Pair>, CodecError> {
        let body = encode(row)?;
        if body.len() > ROW_MAX {
            return Err(CodecError::Row);
        }
        if body.len() <= PIECE {
            let mut plain = Zeroizing::new(Vec::with_capacity(body.len() + 1));
            plain.push(WHOLE);
            plain.extend_from_slice(&body);
            return Ok(vec![(key.to_vec(), self.seal(key, &plain)?)]);
        }
        let mut generation = [0; 8];
        getrandom::fill(&mut generation).map_err(CodecError::Random)?;
        let generation = u64::from_le_bytes(generation);
        let mut values = Vec::with_capacity(body.len() / PIECE + 2);
        let mut count: u16 = 0;
        for piece in body.chunks(PIECE) {
            let chunk_key = self.chunk_key(key, generation, count);
            let mut plain = Zeroizing::new(Vec::with_capacity(piece.len() + 1));
            plain.push(CHUNK);
            plain.extend_from_slice(piece);
            let sealed = self.seal(&chunk_key, &plain)?;
            values.push((chunk_key, sealed));
            count = count.checked_add(1).ok_or(CodecError::Row)?;
        }
        let mut head = vec![CHUNKED];
        head.extend_from_slice(&generation.to_le_bytes());
        head.extend_from_slice(&count.to_le_bytes());
        values.insert(0, (key.to_vec(), self.seal(key, &head)?));
        Ok(values)
    }

    /// Opens the value that stands under a row's own key.
    pub(crate) fn open_head(&self, key: &[u8], value: &[u8]) -> Result<Head, CodecError> {
        let mut plain = self.open(key, value)?;
        match plain.first() {
            Some(&WHOLE) => {
                plain.remove(0);
                Ok(Head::Whole(plain))
            }
            Some(&CHUNKED) => {
                let (_, rest) = plain.split_first().ok_or(CodecError::Row)?;
                let (generation, rest) = rest.split_first_chunk::<8>().ok_or(CodecError::Row)?;
                let count: [u8; 2] = rest.try_into().map_err(|_| CodecError::Row)?;
                let (generation, count) = (u64::from_le_bytes(*generation), u16::from_le_bytes(count));
                Ok(Head::Chunked { generation, count })
            }
            _ => Err(CodecError::Row),
        }
    }

    /// The keys of a row's chunks.
    pub(crate) fn chunk_keys(&self, key: &[u8], generation: u64, count: u16) -> Vec<Vec<u8>> {
        (0..count).map(|number| self.chunk_key(key, generation, number)).collect()
    }

    /// Opens the value that stands under a row's own key and, where it is cut up, the rest.
    pub(crate) fn open_row(
        &self,
        key: &[u8],
        value: &[u8],
        mut get: impl FnMut(&[u8]) -> Result<Option<Vec<u8>>, crate::engine::EngineError>,
    ) -> Result<Row, OpenRowError> {
        let body = match self.open_head(key, value)? {
            Head::Whole(body) => body,
            Head::Chunked { generation, count } => {
                let mut body = Zeroizing::new(Vec::with_capacity(usize::from(count) * PIECE));
                for chunk_key in self.chunk_keys(key, generation, count) {
                    let sealed = get(&chunk_key)?.ok_or(CodecError::Chunk)?;
                    let plain = self.open(&chunk_key, &sealed)?;
                    match plain.split_first() {
                        Some((&CHUNK, piece)) => body.extend_from_slice(piece),
                        _ => return Err(CodecError::Row.into()),
                    }
                }
                body
            }
        };
        let row: Row = decode(&body)?;
        if self.key(&row.key()) != key {
            return Err(CodecError::Key.into());
        }
        Ok(row)
    }
}

/// A row that could not be opened: damaged, or the engine failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpenRowError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Engine(#[from] crate::engine::EngineError),
}
