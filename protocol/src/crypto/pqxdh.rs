//! The first secret of a session: PQXDH's formula with X-Wing as its KEM.
//!
//! ```text
//! SK = HKDF-SHA256(salt 0, ikm = FF×32 ‖ DH(IKa,SPKb) ‖ DH(EKa,IKb) ‖ DH(EKa,SPKb) [‖ DH(EKa,OPKb)] ‖ SS, info)
//! ```
//! `info` names everything both sides must agree on: the bundle, both certificates as received, and the start's own
//! keys. Olm has no associated data, so this is where identities are bound.

use bytes::Bytes;
use hkdf::Hkdf;
use sha2::Sha256;
use x_wing::kem::TryDecapsulate as _;
use x_wing::{DecapsulationKeyRejectNonContrib, Encapsulate as _, EncapsulationKey};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize as _, Zeroizing};

use super::CryptoError;
use crate::identity::{derive, hash};
use crate::secret::Secret32;

const LABEL: &str = "kith/pqxdh/1";

/// What both sides bind into the secret.
pub(super) struct Transcript<'a> {
    pub(super) bundle_hash: &'a [u8; 32],
    pub(super) initiator_certificate: &'a [u8],
    pub(super) responder_certificate: &'a [u8],
    pub(super) base_key: &'a [u8; 32],
    pub(super) kem_ciphertext: &'a [u8],
    pub(super) one_time_key: Option<&'a [u8; 32]>,
}

impl Transcript<'_> {
    /// Fixed lengths only, so no two transcripts have the same bytes; the one-time key, if any, is last.
    fn info(&self) -> [u8; 32] {
        hash(
            "kith/pqxdh-transcript/1",
            &[
                self.bundle_hash,
                &hash("kith/certificate-hash/1", &[self.initiator_certificate]),
                &hash("kith/certificate-hash/1", &[self.responder_certificate]),
                self.base_key,
                &hash("kith/kem-ciphertext-hash/1", &[self.kem_ciphertext]),
                self.one_time_key.map_or(&[], |key| key.as_slice()),
            ],
        )
    }
}

/// The Diffie-Hellman secrets in the formula's order, then the KEM's.
pub(super) struct Shared {
    pub(super) identity_prekey: Zeroizing<[u8; 32]>,
    pub(super) base_identity: Zeroizing<[u8; 32]>,
    pub(super) base_prekey: Zeroizing<[u8; 32]>,
    pub(super) base_one_time: Option<Zeroizing<[u8; 32]>>,
    pub(super) kem: Zeroizing<[u8; 32]>,
}

impl Shared {
    /// The session's first root key.
    pub(super) fn root(&self, transcript: &Transcript<'_>) -> Secret32 {
        let mut ikm = Zeroizing::new(Vec::with_capacity(32 * 6));
        ikm.extend_from_slice(&[0xff; 32]);
        ikm.extend_from_slice(self.identity_prekey.as_ref());
        ikm.extend_from_slice(self.base_identity.as_ref());
        ikm.extend_from_slice(self.base_prekey.as_ref());
        if let Some(secret) = &self.base_one_time {
            ikm.extend_from_slice(secret.as_ref());
        }
        ikm.extend_from_slice(self.kem.as_ref());
        Secret32::new(derive(&ikm, LABEL, &[&transcript.info()]))
    }
}

/// X25519 that refuses keys which would make the result predictable.
pub(super) fn agree(secret: &Secret32, public: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, CryptoError> {
    let shared = StaticSecret::from(*secret.expose()).diffie_hellman(&PublicKey::from(*public));
    if shared.was_contributory() { Ok(Zeroizing::new(shared.to_bytes())) } else { Err(CryptoError::WeakKey) }
}

/// A fresh secret for the holder of an X-Wing key, and the ciphertext that carries it.
pub(super) fn encapsulate(
    key: &[u8],
    rng: &mut dyn rand::CryptoRng,
) -> Result<(Bytes, Zeroizing<[u8; 32]>), CryptoError> {
    let key = EncapsulationKey::try_from(key).map_err(|_| CryptoError::WeakKey)?;
    let (ciphertext, mut shared) = key.encapsulate_with_rng(rng);
    let secret = Zeroizing::new(shared.0);
    shared.zeroize();
    Ok((Bytes::copy_from_slice(&ciphertext), secret))
}

/// The other side's [`encapsulate`].
pub(super) fn decapsulate(seed: &Secret32, ciphertext: &[u8]) -> Result<Zeroizing<[u8; 32]>, CryptoError> {
    let key = DecapsulationKeyRejectNonContrib::from(*seed.expose());
    let ciphertext = ciphertext.try_into().map_err(|_| CryptoError::Start("the X-Wing ciphertext"))?;
    let mut shared = key.try_decapsulate(ciphertext).map_err(|_| CryptoError::WeakKey)?;
    let secret = Zeroizing::new(shared.0);
    shared.zeroize();
    Ok(secret)
}

/// The initiator's one step of the root ratchet, in Olm's terms: (root key, chain key).
pub(super) fn root_step(
    root: &Secret32,
    ratchet: &Secret32,
    prekey: &[u8; 32],
) -> Result<(Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>), CryptoError> {
    let shared = agree(ratchet, prekey)?;
    let mut out = Zeroizing::new([0u8; 64]);
    let kdf = Hkdf::<Sha256>::new(Some(root.expose()), shared.as_ref());
    kdf.expand(b"OLM_RATCHET", out.as_mut()).map_err(|_| CryptoError::State)?;
    let (mut root_key, mut chain_key) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
    let (first, second) = out.split_at(32);
    root_key.copy_from_slice(first);
    chain_key.copy_from_slice(second);
    Ok((root_key, chain_key))
}
