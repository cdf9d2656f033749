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
use super::bundle::{Bundle, public};
use super::envelope::SessionStart;
use super::session::LocalDevice;
use crate::identity::{Certificate, derive, hash};
use crate::record::Prekey;
use crate::secret::Secret32;

const LABEL: &str = "kith/pqxdh/1";

/// What the initiator drew and derived.
pub(crate) struct Initiated {
    /// What the responder needs.
    pub(crate) start: SessionStart,
    /// The session's first root key.
    pub(crate) root: Secret32,
}

/// The initiator's side: draws a base key, encapsulates to the bundle, derives the root key.
pub(crate) fn initiate(
    own: &LocalDevice,
    bundle: &Bundle,
    one_time_key: Option<[u8; 32]>,
    rng: &mut dyn rand::CryptoRng,
) -> Result<Initiated, CryptoError> {
    let base = Secret32::random(rng);
    let key = EncapsulationKey::try_from(bundle.kem_key.as_ref()).map_err(|_| CryptoError::WeakKey)?;
    let (ciphertext, mut shared) = key.encapsulate_with_rng(rng);
    let kem = Zeroizing::new(shared.0);
    shared.zeroize();
    let start = SessionStart {
        certificate: own.certificate.bytes.clone(),
        base_key: public(&base),
        bundle: bundle.id,
        bundle_hash: bundle.hash(),
        kem_ciphertext: Bytes::copy_from_slice(&ciphertext),
        one_time_key,
    };
    let secrets = Secrets {
        identity_prekey: agree(&own.identity_secret, &bundle.prekey)?,
        base_identity: agree(&base, &bundle.certificate.identity_key)?,
        base_prekey: agree(&base, &bundle.prekey)?,
        base_one_time: one_time_key.map(|key| agree(&base, &key)).transpose()?,
        kem,
    };
    let root = secrets.root(&start, &bundle.certificate);
    Ok(Initiated { start, root })
}

/// The responder's side. The caller has checked that the start names this bundle and this one-time key.
pub(crate) fn respond(
    own: &LocalDevice,
    prekey: &Prekey,
    one_time: Option<&Secret32>,
    start: &SessionStart,
    initiator: &Certificate,
) -> Result<Secret32, CryptoError> {
    let key = DecapsulationKeyRejectNonContrib::from(*prekey.kem_seed.expose());
    let ciphertext =
        start.kem_ciphertext.as_ref().try_into().map_err(|_| CryptoError::Start("the X-Wing ciphertext"))?;
    let mut shared = key.try_decapsulate(ciphertext).map_err(|_| CryptoError::WeakKey)?;
    let kem = Zeroizing::new(shared.0);
    shared.zeroize();
    let secrets = Secrets {
        identity_prekey: agree(&prekey.secret, &initiator.identity_key)?,
        base_identity: agree(&own.identity_secret, &start.base_key)?,
        base_prekey: agree(&prekey.secret, &start.base_key)?,
        base_one_time: one_time.map(|secret| agree(secret, &start.base_key)).transpose()?,
        kem,
    };
    Ok(secrets.root(start, &own.certificate))
}

/// The Diffie-Hellman secrets in the formula's order, then the KEM's.
struct Secrets {
    identity_prekey: Zeroizing<[u8; 32]>,
    base_identity: Zeroizing<[u8; 32]>,
    base_prekey: Zeroizing<[u8; 32]>,
    base_one_time: Option<Zeroizing<[u8; 32]>>,
    kem: Zeroizing<[u8; 32]>,
}

impl Secrets {
    fn root(&self, start: &SessionStart, responder: &Certificate) -> Secret32 {
        let mut ikm = Zeroizing::new(Vec::with_capacity(32 * 6));
        ikm.extend_from_slice(&[0xff; 32]);
        ikm.extend_from_slice(self.identity_prekey.as_ref());
        ikm.extend_from_slice(self.base_identity.as_ref());
        ikm.extend_from_slice(self.base_prekey.as_ref());
        if let Some(secret) = &self.base_one_time {
            ikm.extend_from_slice(secret.as_ref());
        }
        ikm.extend_from_slice(self.kem.as_ref());
        Secret32::new(derive(&ikm, LABEL, &[&transcript(start, responder)]))
    }
}

/// What both sides must agree on. Fixed lengths only, so no two transcripts have the same bytes; the one-time key, if
/// any, is last.
fn transcript(start: &SessionStart, responder: &Certificate) -> [u8; 32] {
    let certificate_hash = |bytes: &[u8]| hash("kith/certificate-hash/1", &[bytes]);
    hash(
        "kith/pqxdh-transcript/1",
        &[
            &start.bundle_hash,
            &certificate_hash(&start.certificate),
            &certificate_hash(&responder.bytes),
            &start.base_key,
            &hash("kith/kem-ciphertext-hash/1", &[&start.kem_ciphertext]),
            start.one_time_key.as_ref().map_or(&[], |key| key.as_slice()),
        ],
    )
}

/// X25519 that refuses keys which would make the result predictable.
fn agree(secret: &Secret32, public: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, CryptoError> {
    let shared = StaticSecret::from(*secret.expose()).diffie_hellman(&PublicKey::from(*public));
    if shared.was_contributory() { Ok(Zeroizing::new(shared.to_bytes())) } else { Err(CryptoError::WeakKey) }
}

/// Keys of the initiator's first sending chain, in Olm's terms.
pub(super) struct FirstChain {
    pub(super) root_key: Zeroizing<[u8; 32]>,
    pub(super) chain_key: Zeroizing<[u8; 32]>,
}

/// The initiator's one step of the root ratchet.
pub(super) fn root_step(
    root: &Secret32,
    ratchet: &Secret32,
    prekey: &[u8; 32],
) -> Result<FirstChain, CryptoError> {
    let shared = agree(ratchet, prekey)?;
    let mut out = Zeroizing::new([0u8; 64]);
    let kdf = Hkdf::<Sha256>::new(Some(root.expose()), shared.as_ref());
    kdf.expand(b"OLM_RATCHET", out.as_mut()).map_err(|_| CryptoError::State)?;
    let mut chain = FirstChain { root_key: Zeroizing::new([0; 32]), chain_key: Zeroizing::new([0; 32]) };
    let (root_key, chain_key) = out.split_at(32);
    chain.root_key.copy_from_slice(root_key);
    chain.chain_key.copy_from_slice(chain_key);
    Ok(chain)
}
