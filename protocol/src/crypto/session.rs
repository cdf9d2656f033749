//! Sessions: a PQXDH-shaped start into vodozemac's double ratchet, one per pair of devices.
//!
//! These functions work on [`record::Session`] rows and touch nothing else: the caller stores the row in the batch that
//! lets the result out.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use thiserror::Error;
use vodozemac::Curve25519PublicKey;
use vodozemac::olm::{
    DecryptionError, OlmMessage, Session as Ratchet, SessionConfig, SessionKeys, SessionPickle,
};
use zeroize::Zeroizing;

use super::CryptoError;
use super::bundle::{Bundle, bundle_hash, public};
pub use super::envelope::{Content, SessionStart};
use super::pqxdh::{Initiated, initiate, respond, root_step};
use crate::id::{DeviceId, SessionId};
use crate::identity::{Certificate, hash};
use crate::limits;
use crate::record::{self, Prekey};
use crate::secret::Secret32;
use crate::time::Wall;

/// Every plaintext begins with this many random bytes, so that a cloned state never repeats key and text.
const RANDOM: usize = 16;
/// Ratchets remembered, of a few kilobytes each.
const RATCHETS: usize = 64;

/// This device, as sessions need it.
#[derive(Debug, Clone)]
pub struct LocalDevice {
    /// Secret of the certificate's identity key.
    pub identity_secret: Secret32,
    /// Our certificate.
    pub certificate: Certificate,
}

impl LocalDevice {
    /// The X25519 key a certificate names for this secret.
    #[must_use]
    pub fn identity_key(identity_secret: &Secret32) -> [u8; 32] {
        public(identity_secret)
    }
}

/// A session that another device started.
#[derive(Debug)]
pub struct Accepted {
    /// The row to store.
    pub session: record::Session,
    /// Who started it: both its signatures are checked; whether its account is known is the caller's business.
    pub initiator: Certificate,
    /// To store as [`record::Replay`]: the same start must be refused a second time.
    pub base_key: [u8; 32],
    /// The first message.
    pub plaintext: Zeroizing<Vec<u8>>,
    /// The ratchet before that message, if others should have come first.
    pub before: Option<Bytes>,
}

/// A message that did not open. The session is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecryptError {
    /// Its key was used before: a copy, or it was stepped past too long ago.
    #[error("the message's key is gone: it was opened before, or is too old")]
    Duplicate,
    /// Too many messages before it are missing for the ratchet to step past.
    #[error("too many messages before this one are missing")]
    TooFar,
    /// It was not made by this session in this state, or was changed.
    #[error("the message does not open in this session")]
    Undecryptable,
    /// The saved session cannot be read.
    #[error("the saved session is damaged")]
    Damaged,
}

/// Starts a session with the device of a bundle.
///
/// # Errors
/// [`CryptoError::Expired`] for an old bundle, [`CryptoError::WeakKey`] for degenerate keys.
pub fn start(
    own: &LocalDevice,
    bundle: &Bundle,
    one_time: Option<[u8; 32]>,
    now: Wall,
    rng: &mut dyn rand::CryptoRng,
) -> Result<record::Session, CryptoError> {
    if !bundle.is_usable(now) {
        return Err(CryptoError::Expired);
    }
    let Initiated { start, root } = initiate(own, bundle, one_time, rng)?;
    let ratchet = Secret32::random(rng);
    let first = root_step(&root, &ratchet, &bundle.prekey)?;
    let state = Ratchet::from_root_key_material(
        SessionConfig::version_2(),
        session_keys(&own.certificate.identity_key, &start.base_key, &bundle.prekey),
        *first.root_key,
        *first.chain_key,
        *ratchet.expose(),
    );
    Ok(record::Session {
        device: bundle.certificate.device,
        id: session_id(&start.base_key, &own.certificate.device, &bundle.certificate.device),
        started: now,
        initiator: true,
        state: save(&state)?,
        next_sent: 0,
        next_received: 0,
        start: Some(start.encode()),
        retired: false,
        broken: false,
    })
}

/// Takes a session that another device started with our bundle `prekey`, and opens the message it came with.
///
/// # Errors
/// [`CryptoError`] if the start is malformed, does not fit the bundle, or the message does not open. A start that used a
/// one-time key is refused: see [`accept_one_time`].
pub fn accept(
    own: &LocalDevice,
    prekey: &Prekey,
    content: &Content,
    now: Wall,
    rng: &mut dyn rand::CryptoRng,
) -> Result<Accepted, CryptoError> {
    accept_one_time(own, prekey, None, content, now, rng)
}

/// [`accept`] with the secret of the one-time key that the start names.
///
/// # Errors
/// As [`accept`], also if the start names another one-time key or none.
pub fn accept_one_time(
    own: &LocalDevice,
    prekey: &Prekey,
    one_time: Option<&Secret32>,
    content: &Content,
    now: Wall,
    rng: &mut dyn rand::CryptoRng,
) -> Result<Accepted, CryptoError> {
    let start = content.start.as_ref().ok_or(CryptoError::Start("the message carries none"))?;
    let (bundle_hash, prekey_public) = (bundle_hash(&prekey.bundle), public(&prekey.secret));
    if start.bundle != prekey.id || start.bundle_hash != bundle_hash {
        return Err(CryptoError::Start("it was made for another bundle"));
    }
    if now >= prekey.expires.plus(limits::PREKEY_GRACE) {
        return Err(CryptoError::Expired);
    }
    if start.one_time_key != one_time.map(public) {
        return Err(CryptoError::Start("its one-time key is not known"));
    }
    let initiator = Certificate::parse(&start.certificate)?;
    let own_device = own.certificate.device;
    if content.session != session_id(&start.base_key, &initiator.device, &own_device) {
        return Err(CryptoError::Start("its session id is another"));
    }
    let root = respond(own, prekey, one_time, start, &initiator)?;
    // The responder's sending chain has no agreed key yet; it is replaced when the first message steps the ratchet, which
    // happens right here. Nothing is ever encrypted with the random one.
    let unused_chain = Secret32::random(rng);
    let mut state = Ratchet::from_root_key_material(
        SessionConfig::version_2(),
        session_keys(&initiator.identity_key, &start.base_key, &prekey_public),
        *root.expose(),
        *unused_chain.expose(),
        *prekey.secret.expose(),
    );
    let before = (content.number > 0).then(|| save(&state)).transpose()?;
    let plaintext = decrypt_with(&mut state, content).map_err(|_| CryptoError::FirstMessage)?;
    let session = record::Session {
        device: initiator.device,
        id: content.session,
        started: now,
        initiator: false,
        state: save(&state)?,
        next_sent: 0,
        next_received: 0,
        start: None,
        retired: false,
        broken: false,
    };
    Ok(Accepted { session, initiator, base_key: start.base_key, plaintext, before })
}

/// Ratchets as they were last saved. Reading one from its row costs more than a message does; a ratchet from here stands
/// only for exactly the bytes that were saved from it.
#[derive(Default)]
pub struct Ratchets(VecDeque<(Bytes, Ratchet)>);

impl fmt::Debug for Ratchets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ratchets").field(&self.0.len()).finish()
    }
}

impl Ratchets {
    fn take(&mut self, saved: &Bytes) -> Option<Ratchet> {
        match self.0.iter().position(|(bytes, _)| bytes == saved) {
            Some(at) => self.0.remove(at).map(|(_, ratchet)| ratchet),
            None => load(saved),
        }
    }

    fn save(&mut self, state: Ratchet) -> Result<Bytes, CryptoError> {
        let saved = save(&state)?;
        if self.0.len() >= RATCHETS {
            self.0.pop_front();
        }
        self.0.push_back((saved.clone(), state));
        Ok(saved)
    }

    /// Encrypts one message and counts it.
    ///
    /// # Errors
    /// [`CryptoError::TooLong`] above [`max_payload`](super::envelope::max_payload), [`CryptoError::State`] if the row is
    /// damaged.
    pub fn encrypt(
        &mut self,
        session: &mut record::Session,
        plaintext: &[u8],
        rng: &mut dyn rand::CryptoRng,
    ) -> Result<Content, CryptoError> {
        let max = super::envelope::max_payload();
        if plaintext.len() > max {
            return Err(CryptoError::TooLong { len: plaintext.len(), max });
        }
        let mut state = self.take(&session.state).ok_or(CryptoError::State)?;
        let start = session.start.as_ref().map(SessionStart::decode).transpose()?;
        let mut random_and_text = Zeroizing::new(vec![0; RANDOM + plaintext.len()]);
        let (random, text) = random_and_text.split_at_mut(RANDOM);
        rng.fill_bytes(random);
        text.copy_from_slice(plaintext);
        let message = state.encrypt(random_and_text.as_slice()).map_err(|_| CryptoError::WeakKey)?;
        let (message_type, message) = message.to_parts();
        let content = Content {
            session: session.id,
            number: session.next_sent,
            start,
            message_type: u8::from(message_type != 0),
            message: message.into(),
        };
        session.state = self.save(state)?;
        session.next_sent = session.next_sent.saturating_add(1);
        Ok(content)
    }

    /// Opens one message. An answer ends the repetition of our start; `next_received` is the caller's.
    ///
    /// # Errors
    /// [`DecryptError`]; the session is then unchanged.
    pub fn decrypt(
        &mut self,
        session: &mut record::Session,
        content: &Content,
    ) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
        if content.session != session.id {
            return Err(DecryptError::Undecryptable);
        }
        let mut state = self.take(&session.state).ok_or(DecryptError::Damaged)?;
        let plaintext = decrypt_with(&mut state, content)?;
        session.state = self.save(state).map_err(|_| DecryptError::Damaged)?;
        session.start = None;
        Ok(plaintext)
    }
}

/// [`Ratchets::encrypt`] from the row alone.
///
/// # Errors
/// As there.
pub fn encrypt(
    session: &mut record::Session,
    plaintext: &[u8],
    rng: &mut dyn rand::CryptoRng,
) -> Result<Content, CryptoError> {
    Ratchets::default().encrypt(session, plaintext, rng)
}

/// [`Ratchets::decrypt`] from the row alone.
///
/// # Errors
/// As there.
pub fn decrypt(session: &mut record::Session, content: &Content) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
    Ratchets::default().decrypt(session, content)
}

/// Opens a message that came after others had been stepped past, with the ratchet as it was before that. The copy
/// itself never moves: it opens any message of its hole, each once by the caller's account.
///
/// # Errors
/// [`DecryptError`].
pub fn decrypt_late(
    copy: &record::SessionCopy,
    content: &Content,
) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
    if content.session != copy.session {
        return Err(DecryptError::Undecryptable);
    }
    let mut state = load(&copy.state).ok_or(DecryptError::Damaged)?;
    decrypt_with(&mut state, content)
}

/// A key that starts one session: its secret, and the public half that relays give out.
#[must_use]
pub fn one_time_key(rng: &mut dyn rand::CryptoRng) -> (Secret32, [u8; 32]) {
    let secret = Secret32::random(rng);
    let public = public(&secret);
    (secret, public)
}

fn decrypt_with(state: &mut Ratchet, content: &Content) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
    let message = OlmMessage::from_parts(content.message_type.into(), &content.message)
        .map_err(|_| DecryptError::Undecryptable)?;
    if let OlmMessage::PreKey(message) = &message
        && message.session_keys() != state.session_keys()
    {
        return Err(DecryptError::Undecryptable);
    }
    let opened = state.decrypt(&message).map(Zeroizing::new).map_err(|error| match error {
        DecryptionError::MissingMessageKey(_) => DecryptError::Duplicate,
        DecryptionError::TooBigMessageGap(..) => DecryptError::TooFar,
        _ => DecryptError::Undecryptable,
    })?;
    let plaintext = opened.get(RANDOM..).ok_or(DecryptError::Undecryptable)?;
    Ok(Zeroizing::new(plaintext.to_vec()))
}

fn session_keys(identity: &[u8; 32], base: &[u8; 32], prekey: &[u8; 32]) -> SessionKeys {
    SessionKeys {
        identity_key: Curve25519PublicKey::from_bytes(*identity),
        base_key: Curve25519PublicKey::from_bytes(*base),
        one_time_key: Curve25519PublicKey::from_bytes(*prekey),
    }
}

fn session_id(base_key: &[u8; 32], initiator: &DeviceId, responder: &DeviceId) -> SessionId {
    let parts: [&[u8]; 3] = [base_key, initiator.as_bytes(), responder.as_bytes()];
    let hash = hash("kith/session-id/1", &parts);
    let mut id = [0; SessionId::LEN];
    id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    SessionId(id)
}

/// A saved ratchet is JSON: vodozemac's form is an internally tagged enum, which formats that do not describe themselves
/// (postcard) write and cannot read back.
fn save(state: &Ratchet) -> Result<Bytes, CryptoError> {
    serde_json::to_vec(&state.pickle()).map(Bytes::from).map_err(|_| CryptoError::State)
}

fn load(state: &[u8]) -> Option<Ratchet> {
    serde_json::from_slice::<SessionPickle>(state).ok().map(Ratchet::from_pickle)
}
