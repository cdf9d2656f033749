//! Blinding and sealing.

use std::fmt;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::keys::MasterKey;

/// The only value format so far.
const FORMAT: u8 = 1;
const NONCE: usize = 24;
/// Bytes a sealed value is longer than what is in it: format, nonce, tag.
pub(crate) const OVERHEAD: usize = 1 + NONCE + 16;

/// Bytes that are not what this store wrote.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum CodecError {
    #[error("the value has format {0}, this Kith knows {FORMAT}: install a newer Kith")]
    Format(u8),
    #[error("the row has schema version {0}, this Kith knows {known}: install a newer Kith", known = super::SCHEMA)]
    Schema(u16),
    #[error("the sealed value does not open")]
    Seal,
    #[error("the row does not decode")]
    Row,
    #[error("a part of the row is missing")]
    Chunk,
    #[error("another row stands under this key")]
    Key,
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

/// Holds the keys made from the master key.
pub(crate) struct Codec {
    blind: [u8; 32],
    values: XChaCha20Poly1305,
    log: XChaCha20Poly1305,
    key_check: [u8; 8],
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codec(..)")
    }
}

impl Drop for Codec {
    fn drop(&mut self) {
        self.blind.zeroize();
    }
}

impl Codec {
    pub(crate) fn new(master: &MasterKey) -> Self {
        let derive = |context| Zeroizing::new(blake3::derive_key(context, master.expose()));
        let cipher = |context| XChaCha20Poly1305::new(&(*derive(context)).into());
        let check = derive("kith store 2026-11 key check");
        Self {
            blind: *derive("kith store 2026-11 blinded keys"),
            values: cipher("kith store 2026-11 values"),
            log: cipher("kith store 2026-11 export log"),
            key_check: check.first_chunk().copied().unwrap_or_default(),
        }
    }

    /// Tells a wrong key from damage.
    pub(crate) const fn key_check(&self) -> [u8; 8] {
        self.key_check
    }

    pub(crate) fn blind(&self, space: u8, place: u8, id: &[u8]) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(&self.blind);
        hasher.update(&[space, place]);
        hasher.update(id);
        let hash = hasher.finalize();
        hash.as_bytes().first_chunk().copied().unwrap_or_default()
    }

    /// Seals a value for one key.
    pub(crate) fn seal(&self, key: &[u8], plain: &[u8]) -> Result<Vec<u8>, CodecError> {
        seal(&self.values, key, plain)
    }

    /// Opens what [`Codec::seal`] made.
    pub(crate) fn open(&self, key: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CodecError> {
        open(&self.values, key, sealed)
    }

    /// Seals a record of the export log.
    pub(crate) fn seal_log(&self, header: &[u8], plain: &[u8]) -> Result<Vec<u8>, CodecError> {
        seal(&self.log, header, plain)
    }

    /// Opens what [`Codec::seal_log`] made.
    pub(crate) fn open_log(&self, header: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CodecError> {
        open(&self.log, header, sealed)
    }
}

fn seal(cipher: &XChaCha20Poly1305, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut nonce = [0; NONCE];
    getrandom::fill(&mut nonce).map_err(CodecError::Random)?;
    let sealed =
        cipher.encrypt(&XNonce::from(nonce), Payload { msg: plain, aad }).map_err(|_| CodecError::Seal)?;
    let mut value = Vec::with_capacity(OVERHEAD + plain.len());
    value.push(FORMAT);
    value.extend_from_slice(&nonce);
    value.extend_from_slice(&sealed);
    Ok(value)
}

fn open(cipher: &XChaCha20Poly1305, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CodecError> {
    let (format, rest) = sealed.split_first().ok_or(CodecError::Seal)?;
    if *format != FORMAT {
        return Err(CodecError::Format(*format));
    }
    let (nonce, msg) = rest.split_first_chunk::<NONCE>().ok_or(CodecError::Seal)?;
    cipher
        .decrypt(&XNonce::from(*nonce), Payload { msg, aad })
        .map(Zeroizing::new)
        .map_err(|_| CodecError::Seal)
}
