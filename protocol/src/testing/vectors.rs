//! What known-answer tests need beyond the public interface: a random source with known output, and the secret a session
//! starts from.

use std::convert::Infallible;

use crate::crypto::session::{LocalDevice, SessionStart};
use crate::crypto::{CryptoError, bundle::Bundle, pqxdh};
use crate::identity::Certificate;
use crate::record::Prekey;
use crate::secret::Secret32;

/// "Random" bytes anybody can repeat: the output of BLAKE3, keyed by a label.
#[derive(Debug)]
pub struct FixedRng(blake3::OutputReader);

impl FixedRng {
    /// The source with this label.
    #[must_use]
    pub fn new(label: &str) -> Self {
        Self(blake3::Hasher::new_derive_key("kith/test-vectors/1").update(label.as_bytes()).finalize_xof())
    }
}

impl rand::TryRng for FixedRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(to);
        Ok(())
    }
}

impl rand::TryCryptoRng for FixedRng {}

/// The initiator's first root key and the start it sends.
///
/// # Errors
/// As [`session::start`](crate::crypto::session::start).
pub fn initiator_root(
    own: &LocalDevice,
    bundle: &Bundle,
    one_time: Option<[u8; 32]>,
    rng: &mut dyn rand::CryptoRng,
) -> Result<(SessionStart, Secret32), CryptoError> {
    pqxdh::initiate(own, bundle, one_time, rng).map(|initiated| (initiated.start, initiated.root))
}

/// The responder's first root key.
///
/// # Errors
/// As [`session::accept`](crate::crypto::session::accept).
pub fn responder_root(
    own: &LocalDevice,
    prekey: &Prekey,
    one_time: Option<&Secret32>,
    start: &SessionStart,
) -> Result<Secret32, CryptoError> {
    let initiator = Certificate::parse(&start.certificate)?;
    pqxdh::respond(own, prekey, one_time, start, &initiator)
}
