//! Envelopes: padded, and sealed so that only the receiving device can tell who may have sent one.
//!
//! ```text
//! version 1 B = 1 ‖ nonce 24 B ‖ tag 8 B ‖ XChaCha20-Poly1305(length 4 B ‖ content ‖ zeros)
//! ```
//! The keys come from the right by HKDF. The tag lets the receiver find the right among many without trial decryption;
//! to everyone else it is random, as it depends on the nonce. All before the ciphertext is authenticated with it.

use bytes::Bytes;
use prost::Message as _;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::CryptoError;
use super::seal::{NONCE, OVERHEAD, open as open_sealed, seal as seal_bytes};
use crate::id::{EnvelopeId, SessionId};
use crate::identity::derive;
use crate::limits;
use crate::secret::Secret32;
use crate::wire::{WireError, decode, exact, id, opt_exact, proto, short};

const VERSION: u8 = 1;
const TAG: usize = 8;
const HEADER: usize = 1 + NONCE + TAG;
const LENGTH: usize = 4;
/// Everything an envelope adds to its content.
const FRAME: usize = HEADER + LENGTH + OVERHEAD;
/// What session, start and ratchet add to a payload: 16 random bytes, Olm's frame, a start with a certificate and an
/// X-Wing ciphertext, and the field headers, rounded up.
const SESSION_FRAME: usize = 2560;
const CLASSES: [usize; 5] = [256, 512, 1024, 2048, 4096];
/// Length of an X-Wing ciphertext.
pub(crate) const KEM_CIPHERTEXT: usize = x_wing::CIPHERTEXT_SIZE;

/// What an envelope holds: one message of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The session.
    pub session: SessionId,
    /// Number of the message in its session and direction, from 0.
    pub number: u64,
    /// How the session starts; on each message of the initiator until the first answer.
    pub start: Option<SessionStart>,
    /// Olm's message type: 0 until the first answer, 1 afterwards.
    pub message_type: u8,
    /// The ratchet's message.
    pub message: Bytes,
}

/// What the responder needs to derive the session's first secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStart {
    /// The initiator's certificate as the initiator has it; not verified yet.
    pub certificate: Bytes,
    /// The initiator's ephemeral X25519 key: the base key.
    pub base_key: [u8; 32],
    /// Id of the responder's bundle.
    pub bundle: u32,
    /// Hash of that bundle as the initiator got it.
    pub bundle_hash: [u8; 32],
    /// X-Wing ciphertext to the bundle's key.
    pub kem_ciphertext: Bytes,
    /// The one-time X25519 key used, if any.
    pub one_time_key: Option<[u8; 32]>,
}

impl SessionStart {
    pub(super) fn from_proto(start: proto::SessionStart) -> Result<Self, WireError> {
        let len = start.certificate.len();
        if len > limits::CERTIFICATE {
            return Err(WireError::TooLong { what: "the certificate", len, max: limits::CERTIFICATE });
        }
        if start.kem_ciphertext.len() != KEM_CIPHERTEXT {
            return Err(WireError::Field("the X-Wing ciphertext"));
        }
        Ok(Self {
            certificate: start.certificate,
            base_key: exact("the base key", &start.base_key)?,
            bundle: start.bundle,
            bundle_hash: exact("the bundle's hash", &start.bundle_hash)?,
            kem_ciphertext: start.kem_ciphertext,
            one_time_key: opt_exact("the one-time key", &start.one_time_key)?,
        })
    }

    pub(super) fn to_proto(&self) -> proto::SessionStart {
        proto::SessionStart {
            certificate: self.certificate.clone(),
            base_key: Bytes::copy_from_slice(&self.base_key),
            bundle: self.bundle,
            kem_ciphertext: self.kem_ciphertext.clone(),
            one_time_key: self.one_time_key.map_or_else(Bytes::new, |key| Bytes::copy_from_slice(&key)),
            bundle_hash: Bytes::copy_from_slice(&self.bundle_hash),
        }
    }

    /// The bytes a session row keeps.
    pub(super) fn encode(&self) -> Bytes {
        self.to_proto().encode_to_vec().into()
    }

    /// Reads those bytes again.
    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, WireError> {
        Self::from_proto(decode("the session start", bytes.clone(), SESSION_FRAME)?)
    }
}

/// The longest payload that fits an envelope, whatever the state of the session.
#[must_use]
pub const fn max_payload() -> usize {
    limits::ENVELOPE - FRAME - SESSION_FRAME
}

/// Pads and seals `content` for whoever gave us `right`.
///
/// # Errors
/// [`CryptoError::TooLong`] if it does not fit [`limits::ENVELOPE`].
pub fn seal(
    right: &Secret32,
    content: &Content,
    rng: &mut dyn rand::CryptoRng,
) -> Result<Bytes, CryptoError> {
    let content = proto::EnvelopeContent {
        session: Bytes::copy_from_slice(content.session.as_bytes()),
        number: content.number,
        start: content.start.as_ref().map(SessionStart::to_proto),
        message_type: content.message_type.into(),
        message: content.message.clone(),
    };
    let len = content.encoded_len();
    let max = limits::ENVELOPE - FRAME;
    let too_long = CryptoError::TooLong { len, max };
    let length = u32::try_from(len).map_err(|_| too_long.clone())?;
    if len > max {
        return Err(too_long);
    }
    let size = class(len + FRAME);

    let mut plaintext = Zeroizing::new(Vec::with_capacity(size - HEADER - OVERHEAD));
    plaintext.extend_from_slice(&length.to_be_bytes());
    plaintext.extend_from_slice(&content.encode_to_vec());
    plaintext.resize(size - HEADER - OVERHEAD, 0);

    let mut nonce = [0; NONCE];
    rng.fill_bytes(&mut nonce);
    let mut envelope = Vec::with_capacity(size);
    envelope.push(VERSION);
    envelope.extend_from_slice(&nonce);
    envelope.extend_from_slice(&tag(right, &nonce));
    let sealed = seal_bytes(&header_key(right), &nonce, &envelope, &plaintext).ok_or(CryptoError::Sealed)?;
    envelope.extend_from_slice(&sealed);
    Ok(envelope.into())
}

/// Whether the envelope may have been sealed under this right. One in 2⁶⁴ others matches too, so [`open`] decides.
#[must_use]
pub fn tag_matches(right: &Secret32, envelope: &[u8]) -> bool {
    Parts::of(envelope).is_ok_and(|parts| tag(right, parts.nonce).ct_eq(parts.tag).into())
}

/// Opens an envelope sealed under `right`.
///
/// # Errors
/// [`CryptoError::Wire`] if it is no envelope of this version, [`CryptoError::Sealed`] if the right is another or a bit
/// was changed.
pub fn open(right: &Secret32, envelope: &[u8]) -> Result<Content, CryptoError> {
    let parts = Parts::of(envelope)?;
    let plaintext = open_sealed(&header_key(right), parts.nonce, parts.header, parts.sealed)
        .ok_or(CryptoError::Sealed)?;
    let (length, rest) = plaintext.split_first_chunk::<LENGTH>().ok_or(WireError::Field("the length"))?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| WireError::Field("the length"))?;
    let (content, padding) = rest.split_at_checked(length).ok_or(WireError::Field("the length"))?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(WireError::Field("the padding").into());
    }
    Ok(decode_content(content)?)
}

/// Reads what an opened envelope holds, without its padding.
///
/// # Errors
/// [`WireError`] naming the part that is wrong.
pub fn decode_content(bytes: &[u8]) -> Result<Content, WireError> {
    let what = "the envelope's content";
    short(what, bytes.len(), limits::ENVELOPE)?;
    let content: proto::EnvelopeContent = decode(what, Bytes::copy_from_slice(bytes), limits::ENVELOPE)?;
    Ok(Content {
        session: id("the session id", &content.session)?,
        number: content.number,
        start: content.start.map(SessionStart::from_proto).transpose()?,
        message_type: match content.message_type {
            0 => 0,
            1 => 1,
            _ => return Err(WireError::Field("the message type")),
        },
        message: content.message,
    })
}

/// The name of an envelope: copies have the same.
#[must_use]
pub fn envelope_id(envelope: &[u8]) -> EnvelopeId {
    let mut id = [0; EnvelopeId::LEN];
    blake3::Hasher::new().update(envelope).finalize_xof().fill(&mut id);
    EnvelopeId(id)
}

/// Kinds of envelope by size, for quotas: the five fixed classes, then up to 16 KiB, then the rest.
pub const SIZE_KINDS: usize = CLASSES.len() + 2;

/// The kind of an envelope of this length, or `None` if no envelope has it.
#[must_use]
pub fn size_kind(len: usize) -> Option<usize> {
    if !(FRAME..=limits::ENVELOPE).contains(&len) || class(len) != len {
        return None;
    }
    let fixed = CLASSES.iter().position(|class| *class == len);
    Some(fixed.unwrap_or(if len <= 16 * 1024 { CLASSES.len() } else { CLASSES.len() + 1 }))
}

struct Parts<'a> {
    header: &'a [u8],
    nonce: &'a [u8; NONCE],
    tag: &'a [u8; TAG],
    sealed: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(envelope: &'a [u8]) -> Result<Self, WireError> {
        let (what, len, max) = ("the envelope", envelope.len(), limits::ENVELOPE);
        if len > max {
            return Err(WireError::TooLong { what, len, max });
        }
        if envelope.first() != Some(&VERSION) {
            return Err(WireError::Field("the envelope's version"));
        }
        if len < FRAME || class(len) != len {
            return Err(WireError::Malformed(what));
        }
        let (header, sealed) = envelope.split_at_checked(HEADER).ok_or(WireError::Malformed(what))?;
        let (nonce, tag) = header
            .get(1..)
            .and_then(|rest| rest.split_first_chunk::<NONCE>())
            .ok_or(WireError::Malformed(what))?;
        let tag = tag.first_chunk::<TAG>().ok_or(WireError::Malformed(what))?;
        Ok(Self { header, nonce, tag, sealed })
    }
}

fn header_key(right: &Secret32) -> Secret32 {
    Secret32::new(derive(right.expose(), "kith/header-key/1", &[]))
}

fn tag(right: &Secret32, nonce: &[u8; NONCE]) -> [u8; TAG] {
    let key = Secret32::new(derive(right.expose(), "kith/header-tag/1", &[]));
    let mut tag = [0; TAG];
    blake3::Hasher::new_keyed(key.expose()).update(nonce).finalize_xof().fill(&mut tag);
    tag
}

/// The smallest size class that holds `len` bytes: fixed ones, then Padmé, which adds at most an eighth here.
fn class(len: usize) -> usize {
    if let Some(class) = CLASSES.iter().find(|class| len <= **class) {
        return *class;
    }
    let exponent = usize::BITS - 1 - len.leading_zeros();
    let digits = u32::BITS - exponent.leading_zeros();
    let mask = (1_usize << (exponent - digits)) - 1;
    (len + mask) & !mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(len: usize) -> Content {
        Content {
            session: SessionId([1; 16]),
            number: 3,
            start: None,
            message_type: 1,
            message: Bytes::from(vec![7; len]),
        }
    }

    #[test]
    fn every_envelope_has_exactly_a_class_and_opens() {
        let right = Secret32::new([1; 32]);
        let mut sizes = std::collections::BTreeSet::new();
        for len in (0..300).chain((300..60_000).step_by(997)) {
            let envelope = seal(&right, &content(len), &mut rand::rng()).unwrap();
            assert!(tag_matches(&right, &envelope));
            assert_eq!(open(&right, &envelope).unwrap(), content(len));
            sizes.insert(envelope.len());
        }
        for size in &sizes {
            assert!(CLASSES.contains(size) || (*size > 4096 && size % 256 == 0), "{size}");
        }
        assert!(sizes.first() == Some(&256) && sizes.last().is_some_and(|max| *max <= limits::ENVELOPE));
    }

    #[test]
    fn padme_never_leaves_the_limit_nor_shrinks() {
        for len in 1..=limits::ENVELOPE {
            let class = class(len);
            assert!(
                class >= len
                    && class <= limits::ENVELOPE
                    && class <= (len + len / 8).max(256).max(2 * len.min(2048))
            );
            assert_eq!(super::class(class), class);
        }
    }

    #[test]
    fn only_lengths_of_envelopes_have_a_kind() {
        assert_eq!([256, 512, 1024, 2048, 4096].map(size_kind), [0, 1, 2, 3, 4].map(Some));
        assert_eq!([4608, 16_384, 17_408, 65_536].map(size_kind), [5, 5, 6, 6].map(Some));
        for len in [0, 1, 255, 257, 4097, 65_535, 65_537, usize::MAX] {
            assert_eq!(size_kind(len), None, "{len}");
        }
    }

    #[test]
    fn content_that_does_not_fit_is_refused() {
        let right = Secret32::new([1; 32]);
        assert!(seal(&right, &content(limits::ENVELOPE - FRAME - 40), &mut rand::rng()).is_ok());
        let error = seal(&right, &content(limits::ENVELOPE - FRAME), &mut rand::rng()).unwrap_err();
        assert!(matches!(error, CryptoError::TooLong { .. }));
    }

    #[test]
    fn another_right_neither_matches_nor_opens() {
        let envelope = seal(&Secret32::new([1; 32]), &content(5), &mut rand::rng()).unwrap();
        let other = Secret32::new([2; 32]);
        assert!(!tag_matches(&other, &envelope));
        assert_eq!(open(&other, &envelope), Err(CryptoError::Sealed));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let right = Secret32::new([1; 32]);
        let envelope = seal(&right, &content(5), &mut rand::rng()).unwrap();
        for at in 0..envelope.len() {
            assert!(open(&right, &envelope[..at]).is_err());
            let mut bytes = envelope.to_vec();
            bytes[at] ^= 1 << (at % 8);
            assert!(open(&right, &bytes).is_err(), "byte {at}");
            assert_ne!(envelope_id(&bytes), envelope_id(&envelope));
        }
    }

    #[test]
    fn two_envelopes_of_one_content_have_nothing_in_common() {
        let right = Secret32::new([1; 32]);
        let a = seal(&right, &content(5), &mut rand::rng()).unwrap();
        let b = seal(&right, &content(5), &mut rand::rng()).unwrap();
        assert_ne!(a[1..25], b[1..25]);
        assert_ne!(a[25..33], b[25..33]);
        assert_ne!(a[33..], b[33..]);
    }
}
