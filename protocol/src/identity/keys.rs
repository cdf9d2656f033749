//! Ed25519 key pairs, and the one way anything is signed, hashed and derived.

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroize as _;

use crate::secret::Secret32;

/// An Ed25519 key pair: an account's, a device's, a directory week's, an invite's.
#[derive(Clone)]
pub struct KeyPair(SigningKey);

impl KeyPair {
    /// The pair of a 32-byte seed.
    #[must_use]
    pub fn from_seed(seed: &Secret32) -> Self {
        Self(SigningKey::from_bytes(seed.expose()))
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Signs `parts` for one purpose, the `domain`.
    #[must_use]
    pub fn sign(&self, domain: &str, parts: &[&[u8]]) -> [u8; 64] {
        self.0.sign(&signed_bytes(domain, parts)).to_bytes()
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({})", data_encoding::HEXLOWER.encode(&self.public()))
    }
}

/// Whether `sig` is the signature of `public` over `parts` for this `domain`. Weak keys and second forms of a signature
/// are refused.
#[must_use]
pub fn verify(public: &[u8; 32], domain: &str, parts: &[&[u8]], sig: &[u8]) -> bool {
    let (Ok(key), Ok(sig)) = (VerifyingKey::from_bytes(public), Signature::from_slice(sig)) else {
        return false;
    };
    key.verify_strict(&signed_bytes(domain, parts), &sig).is_ok()
}

/// What is really signed: each part, the domain first, behind its length as 4 bytes big endian, so that no two calls
/// sign the same bytes.
fn signed_bytes(domain: &str, parts: &[&[u8]]) -> Vec<u8> {
    let total = parts.iter().map(|part| part.len() + 4).sum::<usize>() + domain.len() + 4;
    let mut bytes = Vec::with_capacity(total);
    for part in std::iter::once(domain.as_bytes()).chain(parts.iter().copied()) {
        // Nothing signed here comes near 4 GiB: every caller is bounded by limits.rs.
        bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// HKDF-SHA256 without salt: a key for one purpose from a secret, bound to `context`.
pub(crate) fn derive<const N: usize>(secret: &[u8], label: &str, context: &[&[u8]]) -> [u8; N] {
    let mut info = vec![label.as_bytes()];
    info.extend_from_slice(context);
    let mut out = [0; N];
    if Hkdf::<Sha256>::new(None, secret).expand_multi_info(&info, &mut out).is_err() {
        // Only possible above 255 × 32 bytes of output, which no caller asks for.
        out.zeroize();
    }
    out
}

/// BLAKE3 for one purpose.
pub(crate) fn hash(context: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_domain_and_its_split_into_parts_only() {
        let pair = KeyPair::from_seed(&Secret32::new([1; 32]));
        let sig = pair.sign("a", &[b"bc", b"d"]);
        assert!(verify(&pair.public(), "a", &[b"bc", b"d"], &sig));
        assert!(!verify(&pair.public(), "a", &[b"b", b"cd"], &sig));
        assert!(!verify(&pair.public(), "ab", &[b"c", b"d"], &sig));
        assert!(!verify(&pair.public(), "a", &[b"bcd"], &sig));
        assert!(!verify(&pair.public(), "a", &[b"bc", b"d"], &sig[..63]));
        let other = KeyPair::from_seed(&Secret32::new([2; 32]));
        assert!(!verify(&other.public(), "a", &[b"bc", b"d"], &sig));
    }

    #[test]
    fn a_weak_key_verifies_nothing() {
        // The neutral element accepts R = 0, s = 0 for every message under lenient rules.
        let mut weak = [0; 32];
        weak[0] = 1;
        let mut sig = [0; 64];
        sig[0] = 1;
        assert!(!verify(&weak, "a", &[b"anything"], &sig));
    }
}
