//! Device certificates: the account and the device each say that they belong together.

use bytes::Bytes;
use prost::Message as _;
use thiserror::Error;

use super::{KeyPair, verify};
use crate::id::{AccountId, DeviceId};
use crate::limits;
use crate::time::Wall;
use crate::wire::{WireError, canonical, decode, exact, id, proto};

const ACCOUNT_DOMAIN: &str = "kith/device-certificate/1";
const DEVICE_DOMAIN: &str = "kith/device-certificate/counter/1";

/// A certificate or device list that proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Not well formed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A signature does not fit.
    #[error("the {0} is wrong")]
    Signature(&'static str),
    /// Well formed and signed, but against the rules.
    #[error("{0}")]
    Rule(&'static str),
}

/// Says that a device with its identity key belongs to an account, signed by both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The account.
    pub account: AccountId,
    /// The device.
    pub device: DeviceId,
    /// The device's X25519 identity key.
    pub identity_key: [u8; 32],
    /// When it was made.
    pub created: Wall,
    /// When it ends: afterwards it warns, it stops nothing.
    pub expires: Wall,
    /// Counts the account's certificates.
    pub number: u64,
    /// As signed and received: sessions bind exactly these.
    pub bytes: Bytes,
}

impl Certificate {
    /// Makes a certificate.
    #[must_use]
    pub fn sign(
        account: &KeyPair,
        device: &KeyPair,
        identity_key: [u8; 32],
        created: Wall,
        expires: Wall,
        number: u64,
    ) -> Self {
        let body = proto::DeviceCertificateBody {
            account: Bytes::copy_from_slice(&account.public()),
            device: Bytes::copy_from_slice(&device.public()),
            identity_key: Bytes::copy_from_slice(&identity_key),
            created: created.0,
            expires: expires.0,
            number,
        }
        .encode_to_vec();
        let account_signature = account.sign(ACCOUNT_DOMAIN, &[&body]);
        let device_signature = device.sign(DEVICE_DOMAIN, &[&body, &account_signature]);
        let bytes = proto::DeviceCertificate {
            body: body.into(),
            account_signature: Bytes::copy_from_slice(&account_signature),
            device_signature: Bytes::copy_from_slice(&device_signature),
        }
        .encode_to_vec();
        Self {
            account: AccountId(account.public()),
            device: DeviceId(device.public()),
            identity_key,
            created,
            expires,
            number,
            bytes: bytes.into(),
        }
    }

    /// Reads a certificate and checks both signatures.
    ///
    /// # Errors
    /// [`IdentityError`] if it is malformed or a signature does not fit.
    pub fn parse(bytes: &[u8]) -> Result<Self, IdentityError> {
        if bytes.len() > limits::CERTIFICATE {
            let (what, len, max) = ("the device certificate", bytes.len(), limits::CERTIFICATE);
            return Err(WireError::TooLong { what, len, max }.into());
        }
        let bytes = Bytes::copy_from_slice(bytes);
        let outer: proto::DeviceCertificate =
            canonical("the device certificate", &bytes, limits::CERTIFICATE)?;
        let body: proto::DeviceCertificateBody =
            decode("the device certificate", outer.body.clone(), limits::CERTIFICATE)?;
        let account: AccountId = id("the certificate's account", &body.account)?;
        let device: DeviceId = id("the certificate's device", &body.device)?;
        let identity_key = exact("the certificate's identity key", &body.identity_key)?;
        if !verify(account.as_bytes(), ACCOUNT_DOMAIN, &[&outer.body], &outer.account_signature) {
            return Err(IdentityError::Signature("account's signature of the device certificate"));
        }
        let signed: [&[u8]; 2] = [&outer.body, &outer.account_signature];
        if !verify(device.as_bytes(), DEVICE_DOMAIN, &signed, &outer.device_signature) {
            return Err(IdentityError::Signature("device's signature of its certificate"));
        }
        Ok(Self {
            account,
            device,
            identity_key,
            created: Wall(body.created),
            expires: Wall(body.expires),
            number: body.number,
            bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret32;

    fn pairs() -> (KeyPair, KeyPair) {
        (KeyPair::from_seed(&Secret32::new([1; 32])), KeyPair::from_seed(&Secret32::new([2; 32])))
    }

    #[test]
    fn a_certificate_comes_back_as_it_was_signed() {
        let (account, device) = pairs();
        let made = Certificate::sign(&account, &device, [3; 32], Wall(4), Wall(5), 6);
        assert_eq!(Certificate::parse(&made.bytes).unwrap(), made);
        assert!(made.bytes.len() <= limits::CERTIFICATE);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let (account, device) = pairs();
        let made = Certificate::sign(&account, &device, [3; 32], Wall(4), Wall(5), 6);
        for at in 0..made.bytes.len() {
            assert!(Certificate::parse(&made.bytes[..at]).is_err());
            for bit in 0..8 {
                let mut bytes = made.bytes.to_vec();
                bytes[at] ^= 1 << bit;
                assert!(Certificate::parse(&bytes).is_err(), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn a_device_cannot_be_claimed_without_its_consent() {
        let (account, device) = pairs();
        let made = Certificate::sign(&account, &device, [3; 32], Wall(4), Wall(5), 6);
        let mut outer = proto::DeviceCertificate::decode(made.bytes).unwrap();
        outer.device_signature = Bytes::copy_from_slice(&account.sign(DEVICE_DOMAIN, &[&outer.body]));
        let error = Certificate::parse(&outer.encode_to_vec()).unwrap_err();
        assert_eq!(error, IdentityError::Signature("device's signature of its certificate"));
    }

    #[test]
    fn a_newer_field_inside_the_signed_body_is_kept_and_one_outside_it_refused() {
        let (account, device) = pairs();
        let made = Certificate::sign(&account, &device, [3; 32], Wall(4), Wall(5), 6);
        let newer_field = [0xa0, 0x06, 0x01]; // field 100, varint 1
        let mut body = proto::DeviceCertificate::decode(made.bytes.clone()).unwrap().body.to_vec();
        body.extend_from_slice(&newer_field);
        let account_signature = account.sign(ACCOUNT_DOMAIN, &[&body]);
        let device_signature = device.sign(DEVICE_DOMAIN, &[&body, &account_signature]);
        let newer = proto::DeviceCertificate {
            body: body.into(),
            account_signature: Bytes::copy_from_slice(&account_signature),
            device_signature: Bytes::copy_from_slice(&device_signature),
        }
        .encode_to_vec();
        assert_eq!(Certificate::parse(&newer).unwrap().bytes, newer);
        let padded = [made.bytes.as_ref(), &newer_field].concat();
        assert!(Certificate::parse(&padded).is_err());
    }
}
