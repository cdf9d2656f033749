//! Rights: who may deposit in a mailbox, and how the owner proves that a mailbox is theirs.
//!
//! A right is 32 secret bytes R, given by the receiving device to the sending one or derived from an invite. Both sides
//! derive from it what envelopes are sealed under (see [`envelope`](super::envelope)) and, for one mailbox at one relay,
//! an id and a key. The owner registers these two at the relay; the depositor proves the key with each request. A relay
//! can use neither at another relay, and rights at two relays have nothing in common.

use subtle::ConstantTimeEq as _;

use crate::id::{DeviceId, EnvelopeId, MailboxId, RightId};
use crate::identity::{KeyPair, derive, hash, verify};
use crate::secret::Secret32;

const OPEN_DOMAIN: &str = "kith/mailbox/open/1";
const DEPOSIT: &[u8] = b"kith/deposit/1";
const TAKE_BUNDLE: &[u8] = b"kith/take-bundle/1";

/// A right as one relay knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayRight {
    /// Its id there.
    pub id: RightId,
    /// Its key there.
    pub key: Secret32,
}

impl RelayRight {
    /// What the right R is for this mailbox at this relay.
    #[must_use]
    pub fn derive(right: &Secret32, relay: &DeviceId, mailbox: &MailboxId) -> Self {
        let context: [&[u8]; 2] = [relay.as_bytes(), mailbox.as_bytes()];
        Self {
            id: RightId(derive(right.expose(), "kith/right/id/1", &context)),
            key: Secret32::new(derive(right.expose(), "kith/right/key/1", &context)),
        }
    }
}

/// Proves the right's key for a deposit. `ttl` is in seconds.
#[must_use]
pub fn deposit_mac(key: &Secret32, mailbox: &MailboxId, envelope: &EnvelopeId, ttl: u32) -> [u8; 32] {
    mac(key, &[DEPOSIT, mailbox.as_bytes(), envelope.as_bytes(), &ttl.to_be_bytes()])
}

/// Whether [`deposit_mac`] gave this MAC; takes the same time for each wrong one.
#[must_use]
pub fn verify_deposit(
    key: &Secret32,
    mailbox: &MailboxId,
    envelope: &EnvelopeId,
    ttl: u32,
    given: &[u8; 32],
) -> bool {
    deposit_mac(key, mailbox, envelope, ttl).ct_eq(given).into()
}

/// Proves the right's key when asking for a bundle.
#[must_use]
pub fn take_bundle_mac(key: &Secret32, mailbox: &MailboxId, nonce: &[u8; 16]) -> [u8; 32] {
    mac(key, &[TAKE_BUNDLE, mailbox.as_bytes(), nonce])
}

/// Whether [`take_bundle_mac`] gave this MAC; takes the same time for each wrong one.
#[must_use]
pub fn verify_take_bundle(key: &Secret32, mailbox: &MailboxId, nonce: &[u8; 16], given: &[u8; 32]) -> bool {
    take_bundle_mac(key, mailbox, nonce).ct_eq(given).into()
}

/// BLAKE3 keyed; the parts behind a label have fixed lengths, so no two requests have the same input.
fn mac(key: &Secret32, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(key.expose());
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// The key pair with which the device of this seed reads its mailbox at a relay. `epoch` counts a device's mailboxes at
/// one relay: another one gives a mailbox that has nothing in common with the first.
#[must_use]
pub fn read_key(device_seed: &Secret32, relay: &DeviceId, epoch: u32) -> KeyPair {
    let context: [&[u8]; 2] = [relay.as_bytes(), &epoch.to_be_bytes()];
    KeyPair::from_seed(&Secret32::new(derive(device_seed.expose(), "kith/mailbox/read/1", &context)))
}

/// The mailbox that is read with this public key.
#[must_use]
pub fn mailbox_id(read_key: &[u8; 32]) -> MailboxId {
    let mut id = [0; MailboxId::LEN];
    id.iter_mut().zip(hash("kith/mailbox/id/1", &[read_key])).for_each(|(to, from)| *to = from);
    MailboxId(id)
}

/// Proves the read key to `relay`, on the link whose [hello](crate::wire::relay::RelayHello) had this nonce.
#[must_use]
pub fn sign_open(read_key: &KeyPair, relay: &DeviceId, nonce: &[u8; 32]) -> [u8; 64] {
    read_key.sign(OPEN_DOMAIN, &[relay.as_bytes(), nonce, &read_key.public()])
}

/// Whether [`sign_open`] gave this signature.
#[must_use]
pub fn verify_open(read_key: &[u8; 32], relay: &DeviceId, nonce: &[u8; 32], signature: &[u8; 64]) -> bool {
    verify(read_key, OPEN_DOMAIN, &[relay.as_bytes(), nonce, read_key], signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_has_another_id_and_key_in_each_mailbox_and_at_each_relay() {
        let right = Secret32::new([1; 32]);
        let (relay, mailbox) = (DeviceId([2; 32]), MailboxId([3; 16]));
        let one = RelayRight::derive(&right, &relay, &mailbox);
        assert_eq!(one, RelayRight::derive(&right, &relay, &mailbox));
        for other in [
            RelayRight::derive(&Secret32::new([9; 32]), &relay, &mailbox),
            RelayRight::derive(&right, &DeviceId([9; 32]), &mailbox),
            RelayRight::derive(&right, &relay, &MailboxId([9; 16])),
        ] {
            assert!(one.id != other.id && one.key != other.key);
        }
        assert_ne!(one.key.expose()[..16], one.id.0);
    }

    #[test]
    fn a_mac_is_for_one_mailbox_envelope_time_and_purpose() {
        let (key, mailbox, envelope) = (Secret32::new([1; 32]), MailboxId([2; 16]), EnvelopeId([3; 16]));
        let mac = deposit_mac(&key, &mailbox, &envelope, 60);
        assert!(verify_deposit(&key, &mailbox, &envelope, 60, &mac));
        assert!(!verify_deposit(&Secret32::new([9; 32]), &mailbox, &envelope, 60, &mac));
        assert!(!verify_deposit(&key, &MailboxId([9; 16]), &envelope, 60, &mac));
        assert!(!verify_deposit(&key, &mailbox, &EnvelopeId([9; 16]), 60, &mac));
        assert!(!verify_deposit(&key, &mailbox, &envelope, 61, &mac));
        let take = take_bundle_mac(&key, &mailbox, &envelope.0);
        assert!(verify_take_bundle(&key, &mailbox, &envelope.0, &take));
        assert!(!verify_take_bundle(&key, &mailbox, &envelope.0, &mac));
        assert!(!verify_take_bundle(&key, &mailbox, &[9; 16], &take));
    }

    #[test]
    fn an_opening_is_for_one_relay_and_one_link() {
        let (relay, nonce) = (DeviceId([1; 32]), [2; 32]);
        let key = read_key(&Secret32::new([3; 32]), &relay, 0);
        let signature = sign_open(&key, &relay, &nonce);
        assert!(verify_open(&key.public(), &relay, &nonce, &signature));
        assert!(!verify_open(&key.public(), &DeviceId([9; 32]), &nonce, &signature));
        assert!(!verify_open(&key.public(), &relay, &[9; 32], &signature));
        let other = read_key(&Secret32::new([3; 32]), &DeviceId([9; 32]), 0);
        assert!(!verify_open(&other.public(), &relay, &nonce, &signature));
        assert_ne!(mailbox_id(&key.public()), mailbox_id(&other.public()));
        assert_ne!(key.public(), read_key(&Secret32::new([3; 32]), &relay, 1).public());
    }
}
