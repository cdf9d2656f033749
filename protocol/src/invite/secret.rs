//! What an invite's secret gives both sides.

use std::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::id::{AccountId, DeviceId, InviteId};
use crate::identity::{KeyPair, derive, verify};
use crate::secret::Secret32;

const ACCEPT_DOMAIN: &str = "kith/invite-accept/1";

/// The 16 secret bytes of an invite.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct InviteSecret([u8; 16]);

/// What an acceptance's signature covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acceptance {
    /// Who invited.
    pub inviter: AccountId,
    /// Who accepts.
    pub accepter: AccountId,
    /// On which device the invite was made.
    pub inviter_device: DeviceId,
    /// Which device accepts.
    pub accepter_device: DeviceId,
    /// Base key of the session that carries the acceptance.
    pub base_key: [u8; 32],
}

impl InviteSecret {
    /// Takes the bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Draws fresh bytes.
    #[must_use]
    pub fn random(rng: &mut dyn rand::CryptoRng) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// From the form rows keep: the bytes, then 16 zeros.
    #[must_use]
    pub fn from_padded(padded: &Secret32) -> Self {
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(padded.expose()).for_each(|(to, from)| *to = *from);
        Self(bytes)
    }

    /// The form rows keep.
    #[must_use]
    pub fn to_padded(&self) -> Secret32 {
        let mut padded = [0; 32];
        padded.iter_mut().zip(self.0).for_each(|(to, from)| *to = from);
        Secret32::new(padded)
    }

    /// The bytes. Whoever copies them wipes the copy.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The invite's id.
    #[must_use]
    pub fn id(&self) -> InviteId {
        InviteId(derive(&self.0, "kith/invite/id/1", &[]))
    }

    /// The right under which the acceptance is sealed and deposited.
    #[must_use]
    pub fn right(&self) -> Secret32 {
        Secret32::new(derive(&self.0, "kith/invite/right/1", &[]))
    }

    /// Seals and opens the invite's own directory record.
    #[must_use]
    pub fn directory_secret(&self) -> Secret32 {
        Secret32::new(derive(&self.0, "kith/invite/directory/1", &[]))
    }

    /// Proves to the device `asked` that `asking` holds the invite. The link's transport has proven both devices, so the
    /// proof is of use to nobody else.
    #[must_use]
    pub fn bundle_proof(&self, asking: &DeviceId, asked: &DeviceId) -> [u8; 32] {
        derive(&self.0, "kith/invite/bundle/1", &[asking.as_bytes(), asked.as_bytes()])
    }

    /// Whether [`bundle_proof`](Self::bundle_proof) gave this proof; takes the same time for each wrong one.
    #[must_use]
    pub fn verify_bundle_proof(&self, asking: &DeviceId, asked: &DeviceId, proof: &[u8; 32]) -> bool {
        self.bundle_proof(asking, asked).ct_eq(proof).into()
    }

    /// Signs an acceptance as a holder of the invite.
    #[must_use]
    pub fn sign_accept(&self, acceptance: &Acceptance) -> [u8; 64] {
        self.signing_pair().sign(ACCEPT_DOMAIN, &acceptance.parts())
    }

    /// Whether a holder of the invite signed this acceptance.
    #[must_use]
    pub fn verify_accept(&self, acceptance: &Acceptance, signature: &[u8]) -> bool {
        verify(&self.signing_pair().public(), ACCEPT_DOMAIN, &acceptance.parts(), signature)
    }

    fn signing_pair(&self) -> KeyPair {
        KeyPair::from_seed(&Secret32::new(derive(&self.0, "kith/invite/sign/1", &[])))
    }
}

impl Acceptance {
    fn parts(&self) -> [&[u8]; 5] {
        [
            self.inviter.as_bytes(),
            self.accepter.as_bytes(),
            self.inviter_device.as_bytes(),
            self.accepter_device.as_bytes(),
            &self.base_key,
        ]
    }
}

impl PartialEq for InviteSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for InviteSecret {}

impl fmt::Debug for InviteSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acceptance_is_signed_for_these_people_devices_and_session_only() {
        let secret = InviteSecret::new([1; 16]);
        let acceptance = Acceptance {
            inviter: AccountId([1; 32]),
            accepter: AccountId([2; 32]),
            inviter_device: DeviceId([3; 32]),
            accepter_device: DeviceId([4; 32]),
            base_key: [5; 32],
        };
        let signature = secret.sign_accept(&acceptance);
        assert!(secret.verify_accept(&acceptance, &signature));
        assert!(!InviteSecret::new([2; 16]).verify_accept(&acceptance, &signature));
        for other in [
            Acceptance { inviter: AccountId([9; 32]), ..acceptance },
            Acceptance { accepter: AccountId([9; 32]), ..acceptance },
            Acceptance { inviter_device: DeviceId([9; 32]), ..acceptance },
            Acceptance { accepter_device: DeviceId([9; 32]), ..acceptance },
            Acceptance { base_key: [9; 32], ..acceptance },
        ] {
            assert!(!secret.verify_accept(&other, &signature), "{other:?}");
        }
    }

    #[test]
    fn a_bundle_proof_is_for_one_pair_of_devices_in_one_direction() {
        let secret = InviteSecret::from_padded(&InviteSecret::new([1; 16]).to_padded());
        let (a, b) = (DeviceId([1; 32]), DeviceId([2; 32]));
        let proof = secret.bundle_proof(&a, &b);
        assert!(secret.verify_bundle_proof(&a, &b, &proof));
        assert!(!secret.verify_bundle_proof(&b, &a, &proof));
    }
}
