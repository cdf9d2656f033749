//! XChaCha20-Poly1305 with the nonce given.

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use zeroize::Zeroizing;

use crate::secret::Secret32;

/// Length of a nonce.
pub(crate) const NONCE: usize = 24;
/// What sealing adds.
pub(crate) const OVERHEAD: usize = 16;

/// Seals `plaintext`; `None` only above 256 GiB.
pub(crate) fn seal(key: &Secret32, nonce: &[u8; NONCE], aad: &[u8], plaintext: &[u8]) -> Option<Vec<u8>> {
    let cipher = XChaCha20Poly1305::new(key.expose().into());
    cipher.encrypt(nonce.into(), Payload { msg: plaintext, aad }).ok()
}

/// Opens what [`seal`] made; `None` if the key, nonce or `aad` is another or a bit was changed.
pub(crate) fn open(
    key: &Secret32,
    nonce: &[u8; NONCE],
    aad: &[u8],
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let cipher = XChaCha20Poly1305::new(key.expose().into());
    cipher.decrypt(nonce.into(), Payload { msg: sealed, aad }).ok().map(Zeroizing::new)
}
