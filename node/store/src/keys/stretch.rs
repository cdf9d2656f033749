//! A passphrase made into a key: argon2id, 64 MiB, three passes, four lanes.

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::{KeyError, MasterKey};

const AAD: &[u8] = b"kith master key 1";
const NONCE: usize = 24;

/// Salt and costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: [u8; 16],
}

impl Stretch {
    /// Length of [`Stretch::bytes`].
    pub(crate) const LEN: usize = 28;

    /// Today's costs with a fresh salt.
    pub(crate) fn random() -> Result<Self, KeyError> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|error| KeyError::Random(error.to_string()))?;
        Ok(Self { memory_kib: 64 * 1024, passes: 3, lanes: 4, salt })
    }

    pub(crate) fn bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let parts = [self.memory_kib, self.passes, self.lanes].map(u32::to_le_bytes);
        let all = parts.as_flattened().iter().chain(&self.salt);
        bytes.iter_mut().zip(all).for_each(|(to, from)| *to = *from);
        bytes
    }

    /// Takes stored costs, within bounds: a changed file must not take all memory or forever.
    pub(crate) fn from_bytes(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let (costs, salt) = bytes.split_at(12);
        let mut costs =
            costs.chunks_exact(4).filter_map(|four| Some(u32::from_le_bytes(four.try_into().ok()?)));
        let stretch = Self {
            memory_kib: costs.next()?,
            passes: costs.next()?,
            lanes: costs.next()?,
            salt: salt.try_into().ok()?,
        };
        let sane = (8 * 1024..=1024 * 1024).contains(&stretch.memory_kib)
            && (1..=16).contains(&stretch.passes)
            && (1..=16).contains(&stretch.lanes);
        sane.then_some(stretch)
    }

    /// The key a passphrase stands for.
    pub(crate) fn key(&self, passphrase: &str) -> Result<MasterKey, KeyError> {
        let failed = |error: argon2::Error| KeyError::Stretch(error.to_string());
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).map_err(failed)?;
        let mut key = [0; 32];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.as_bytes(), &self.salt, &mut key)
            .map_err(failed)?;
        Ok(MasterKey::from_bytes(key))
    }

    /// Seals a key under a passphrase.
    pub(crate) fn wrap(&self, passphrase: &str, key: &MasterKey) -> Result<Vec<u8>, KeyError> {
        let cipher = XChaCha20Poly1305::new(&(*self.key(passphrase)?.expose()).into());
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|error| KeyError::Random(error.to_string()))?;
        let sealed = cipher
            .encrypt(&XNonce::from(nonce), Payload { msg: key.expose(), aad: AAD })
            .map_err(|_| KeyError::Stretch("sealing failed".to_owned()))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens what [`Stretch::wrap`] sealed.
    pub(crate) fn unwrap(&self, passphrase: &str, wrapped: &[u8]) -> Result<MasterKey, KeyError> {
        let (nonce, msg) = wrapped.split_first_chunk::<NONCE>().ok_or(KeyError::WrongPassphrase)?;
        let cipher = XChaCha20Poly1305::new(&(*self.key(passphrase)?.expose()).into());
        let plain = cipher
            .decrypt(&XNonce::from(*nonce), Payload { msg, aad: AAD })
            .map(Zeroizing::new)
            .map_err(|_| KeyError::WrongPassphrase)?;
        let bytes: [u8; 32] = plain.as_slice().try_into().map_err(|_| KeyError::WrongPassphrase)?;
        Ok(MasterKey::from_bytes(bytes))
    }
}
