//! Prekey bundles: what a device gives others so that they can start a session while it is away.

use bytes::Bytes;
use prost::Message as _;
use x_wing::{DecapsulationKey, Decapsulator as _, EncapsulationKey, KeyExport as _};
use x25519_dalek::{PublicKey, StaticSecret};

use super::CryptoError;
use crate::identity::{Certificate, KeyPair, hash, verify};
use crate::limits;
use crate::record::Prekey;
use crate::secret::Secret32;
use crate::time::Wall;
use crate::wire::{WireError, canonical, decode, exact, proto};

const DOMAIN: &str = "kith/prekey-bundle/1";
const HASH: &str = "kith/prekey-bundle-hash/1";

/// A device's bundle: its certificate, a signed X25519 prekey and a signed X-Wing key, both good for many starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The device.
    pub certificate: Certificate,
    /// Number of the bundle at its device.
    pub id: u32,
    /// The X25519 prekey.
    pub prekey: [u8; 32],
    /// The X-Wing key.
    pub kem_key: Bytes,
    /// When it was signed.
    pub issued: Wall,
    /// When senders stop using it.
    pub expires: Wall,
    /// As signed and received.
    pub bytes: Bytes,
}

impl Bundle {
    /// Makes a bundle with fresh secrets: the row to keep, and in it the bundle to give away.
    #[must_use]
    pub fn create(
        device: &KeyPair,
        certificate: &Certificate,
        id: u32,
        issued: Wall,
        rng: &mut dyn rand::CryptoRng,
    ) -> Prekey {
        let (secret, kem_seed) = (Secret32::random(rng), Secret32::random(rng));
        let kem = DecapsulationKey::from(*kem_seed.expose());
        let expires = issued.plus(limits::BUNDLE_TTL);
        let body = proto::PrekeyBundleBody {
            certificate: certificate.bytes.clone(),
            id,
            prekey: Bytes::copy_from_slice(&public(&secret)),
            kem_key: Bytes::copy_from_slice(&kem.encapsulation_key().to_bytes()),
            issued: issued.0,
            expires: expires.0,
        }
        .encode_to_vec();
        let signature = Bytes::copy_from_slice(&device.sign(DOMAIN, &[&body]));
        let bundle = proto::PrekeyBundle { body: body.into(), signature }.encode_to_vec().into();
        Prekey { id, bundle, secret, kem_seed, issued, expires }
    }

    /// Reads a bundle and checks its certificate, its signature, and that its keys are keys.
    ///
    /// # Errors
    /// [`CryptoError`] naming what is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, CryptoError> {
        let (bundle, outer) = Self::decode(bytes)?;
        let device = bundle.certificate.device;
        if !verify(device.as_bytes(), DOMAIN, &[&outer.body], &outer.signature) {
            return Err(CryptoError::Bundle);
        }
        Ok(bundle)
    }

    fn decode(bytes: &[u8]) -> Result<(Self, proto::PrekeyBundle), CryptoError> {
        let (what, len, max) = ("the prekey bundle", bytes.len(), limits::BUNDLE);
        if len > max {
            return Err(WireError::TooLong { what, len, max }.into());
        }
        let bytes = Bytes::copy_from_slice(bytes);
        let outer: proto::PrekeyBundle = canonical(what, &bytes, max)?;
        let body: proto::PrekeyBundleBody = decode(what, outer.body.clone(), max)?;
        if EncapsulationKey::try_from(body.kem_key.as_ref()).is_err() {
            return Err(WireError::Field("the bundle's X-Wing key").into());
        }
        // A device that could sign a bundle for ever would take its owner's forward secrecy away.
        if body.expires.saturating_sub(body.issued) > limits::BUNDLE_TTL {
            return Err(WireError::Field("the bundle's lifetime").into());
        }
        let bundle = Self {
            certificate: Certificate::parse(&body.certificate)?,
            id: body.id,
            prekey: exact("the bundle's prekey", &body.prekey)?,
            kem_key: body.kem_key,
            issued: Wall(body.issued),
            expires: Wall(body.expires),
            bytes,
        };
        Ok((bundle, outer))
    }

    /// Whether a session may still be started with it.
    #[must_use]
    pub fn is_usable(&self, now: Wall) -> bool {
        now < self.expires
    }

    /// What a session start names it by.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        bundle_hash(&self.bytes)
    }
}

/// [`Bundle::hash`] of encoded bytes.
pub(super) fn bundle_hash(bytes: &[u8]) -> [u8; 32] {
    hash(HASH, &[bytes])
}

/// The X25519 public key of a secret.
pub(super) fn public(secret: &Secret32) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(*secret.expose())).to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> (KeyPair, Certificate) {
        let account = KeyPair::from_seed(&Secret32::new([1; 32]));
        let device = KeyPair::from_seed(&Secret32::new([2; 32]));
        let certificate = Certificate::sign(&account, &device, [3; 32], Wall(0), Wall(1), 1);
        (device, certificate)
    }

    #[test]
    fn a_bundle_comes_back_as_it_was_signed_and_ends_on_time() {
        let (device, certificate) = device();
        let row = Bundle::create(&device, &certificate, 7, Wall(1000), &mut rand::rng());
        let bundle = Bundle::parse(&row.bundle).unwrap();
        assert_eq!((bundle.id, bundle.issued, bundle.expires), (7, Wall(1000), row.expires));
        assert_eq!(bundle.certificate, certificate);
        assert_eq!(bundle.prekey, public(&row.secret));
        assert!(bundle.is_usable(Wall(1000)) && bundle.is_usable(row.expires.minus(1)));
        assert!(!bundle.is_usable(row.expires));
        assert!(row.bundle.len() < 1700, "{} bytes", row.bundle.len());
    }

    #[test]
    fn flipped_bits_cuts_and_foreign_signatures_are_noticed() {
        let (device, certificate) = device();
        let row = Bundle::create(&device, &certificate, 7, Wall(1000), &mut rand::rng());
        for at in (0..row.bundle.len()).step_by(7) {
            assert!(Bundle::parse(&row.bundle[..at]).is_err());
            let mut bytes = row.bundle.to_vec();
            bytes[at] ^= 1 << (at % 8);
            assert!(Bundle::parse(&bytes).is_err(), "byte {at}");
        }
        let other = KeyPair::from_seed(&Secret32::new([9; 32]));
        let forged = Bundle::create(&other, &certificate, 7, Wall(1000), &mut rand::rng());
        assert_eq!(Bundle::parse(&forged.bundle), Err(CryptoError::Bundle));
    }
}
