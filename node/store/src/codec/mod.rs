//! Rows as bytes: blinded keys, sealed values.
//!
//! **Keys.** One byte names the keyspace. Parts that identify someone or something follow as 16 bytes of a keyed
//! BLAKE3 hash, numbers as clear big-endian bytes, so that ranges by number keep their order. Sixteen bytes are enough:
//! among 2^32 rows two share a blinded key with a chance of 2^-65, nobody without the key can search for such a pair,
//! and if it happened the true key inside the sealed value would not fit and the read would fail, not lie.
//!
//! **Values.** A format byte, a random 24-byte nonce, and XChaCha20-Poly1305 over the row, with the key bytes as
//! associated data: a value that is moved under another key does not open. Rows over 4 KiB are cut into chunk rows.

mod keyspace;
mod rows;
mod seal;

pub(crate) use keyspace::{ENTRY_START, FIRST_INDEX, FIRST_ROW, META, SCHEMA_KEY, index_target, is_index};
pub(crate) use rows::{
    Head, INDEXED_SINCE, OpenRowError, SCHEMA, decode_changes, decode_rows, encode_changes, encode_rows,
};
pub(crate) use seal::{Codec, CodecError};

#[cfg(test)]
mod tests;
