//! Custody receipts: a relay's signed word that it keeps an envelope until a time.

use bytes::Bytes;
use prost::Message as _;
use thiserror::Error;

use crate::id::{DeviceId, EnvelopeId, MailboxId};
use crate::identity::{KeyPair, verify};
use crate::limits;
use crate::time::Wall;
use crate::wire::{WireError, canonical, decode, id, proto};

const DOMAIN: &str = "kith/custody/1";

/// What a custody receipt says. Both times are the relay's clock; their difference is what it promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Custody {
    /// Who keeps it.
    pub relay: DeviceId,
    /// Where.
    pub mailbox: MailboxId,
    /// What.
    pub envelope: EnvelopeId,
    /// Its length, which is its size class.
    pub size: u32,
    /// Since when.
    pub stored_at: Wall,
    /// Until when.
    pub expires_at: Wall,
}

/// A receipt that proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CustodyError {
    /// Not well formed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Not signed by the relay it names.
    #[error("the custody receipt is not signed by its relay")]
    Signature,
}

impl Custody {
    /// Signs it with the relay's key. The same custody always gives the same bytes.
    #[must_use]
    pub fn sign(&self, relay: &KeyPair) -> Bytes {
        let body = proto::CustodyBody {
            relay: Bytes::copy_from_slice(self.relay.as_bytes()),
            mailbox: Bytes::copy_from_slice(self.mailbox.as_bytes()),
            envelope: Bytes::copy_from_slice(self.envelope.as_bytes()),
            size: self.size,
            stored_at: self.stored_at.0,
            expires_at: self.expires_at.0,
        };
        let body = Bytes::from(body.encode_to_vec());
        let signature = Bytes::copy_from_slice(&relay.sign(DOMAIN, &[&body]));
        proto::CustodyReceipt { body, signature }.encode_to_vec().into()
    }

    /// Reads a receipt and checks that the relay it names has signed it. Whether that relay, mailbox and envelope are the
    /// ones meant, the caller compares.
    ///
    /// # Errors
    /// [`CustodyError`].
    pub fn verify(receipt: &Bytes) -> Result<Self, CustodyError> {
        let (custody, signed) = Self::read(receipt)?;
        if !verify(custody.relay.as_bytes(), DOMAIN, &[&signed.body], &signed.signature) {
            return Err(CustodyError::Signature);
        }
        Ok(custody)
    }

    /// Reads a receipt from our own store: its signature was checked before it was put there.
    ///
    /// # Errors
    /// [`CustodyError`], but for a wrong signature.
    pub fn stored(receipt: &Bytes) -> Result<Self, CustodyError> {
        Self::read(receipt).map(|(custody, _)| custody)
    }

    fn read(receipt: &Bytes) -> Result<(Self, proto::CustodyReceipt), CustodyError> {
        let what = "the custody receipt";
        let signed: proto::CustodyReceipt = canonical(what, receipt, limits::CUSTODY)?;
        let body: proto::CustodyBody = decode(what, signed.body.clone(), limits::CUSTODY)?;
        let custody = Self {
            relay: id("the relay's key", &body.relay)?,
            mailbox: id("the mailbox id", &body.mailbox)?,
            envelope: id("the envelope id", &body.envelope)?,
            size: body.size,
            stored_at: Wall(body.stored_at),
            expires_at: Wall(body.expires_at),
        };
        if custody.expires_at < custody.stored_at {
            return Err(WireError::Field("the time of custody").into());
        }
        Ok((custody, signed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret32;

    fn custody(relay: &KeyPair) -> Custody {
        Custody {
            relay: DeviceId(relay.public()),
            mailbox: MailboxId([2; 16]),
            envelope: EnvelopeId([3; 16]),
            size: 256,
            stored_at: Wall(u64::MAX - 1),
            expires_at: Wall(u64::MAX),
        }
    }

    #[test]
    fn a_receipt_is_its_relays_and_says_what_was_signed() {
        let relay = KeyPair::from_seed(&Secret32::new([1; 32]));
        let receipt = custody(&relay).sign(&relay);
        assert!(receipt.len() <= limits::CUSTODY, "{}", receipt.len());
        assert_eq!(Custody::verify(&receipt), Ok(custody(&relay)));
        assert_eq!(custody(&relay).sign(&relay), receipt);
        let other = KeyPair::from_seed(&Secret32::new([9; 32]));
        assert_eq!(Custody::verify(&custody(&relay).sign(&other)), Err(CustodyError::Signature));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let relay = KeyPair::from_seed(&Secret32::new([1; 32]));
        let receipt = custody(&relay).sign(&relay);
        for at in 0..receipt.len() {
            assert!(Custody::verify(&receipt.slice(..at)).is_err());
            let mut bytes = receipt.to_vec();
            bytes[at] ^= 1 << (at % 8);
            assert!(Custody::verify(&bytes.into()).is_err(), "byte {at}");
        }
    }

    #[test]
    fn custody_that_ends_before_it_begins_is_none() {
        let relay = KeyPair::from_seed(&Secret32::new([1; 32]));
        let custody = Custody { stored_at: Wall(2), expires_at: Wall(1), ..custody(&relay) };
        assert!(matches!(Custody::verify(&custody.sign(&relay)), Err(CustodyError::Wire(_))));
    }
}
