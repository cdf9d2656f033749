//! People and devices with fixed keys.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod apart;

use kith_protocol::Wall;
use kith_protocol::crypto::bundle::Bundle;
use kith_protocol::crypto::session::LocalDevice;
use kith_protocol::identity::{Certificate, KeyPair};
use kith_protocol::record::Prekey;
use kith_protocol::secret::Secret32;

/// When everything happens.
pub(crate) const NOW: Wall = Wall(1_790_000_000_000);

/// A person with one device.
pub(crate) struct Person {
    pub(crate) account: KeyPair,
    pub(crate) device: KeyPair,
    pub(crate) local: LocalDevice,
}

impl Person {
    /// Seeds are `n`, `n + 1`, `n + 2`, 32 times each.
    pub(crate) fn new(n: u8) -> Self {
        let account = KeyPair::from_seed(&Secret32::new([n; 32]));
        let device = KeyPair::from_seed(&Secret32::new([n + 1; 32]));
        let identity_secret = Secret32::new([n + 2; 32]);
        let identity_key = LocalDevice::identity_key(&identity_secret);
        let certificate =
            Certificate::sign(&account, &device, identity_key, NOW, NOW.plus(365 * 86_400_000), 1);
        Self { account, device, local: LocalDevice { identity_secret, certificate } }
    }

    /// A bundle and its secrets.
    pub(crate) fn prekey(&self, id: u32, rng: &mut dyn rand::CryptoRng) -> Prekey {
        Bundle::create(&self.device, &self.local.certificate, id, NOW, rng)
    }
}
