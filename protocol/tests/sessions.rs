//! Sessions between two devices, through the public interface.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

mod common;

use common::{NOW, Person};
use kith_protocol::crypto::CryptoError;
use kith_protocol::crypto::bundle::Bundle;
use kith_protocol::crypto::session::{self, Accepted, Content, DecryptError, SessionStart};
use kith_protocol::identity::{Certificate, KeyPair};
use kith_protocol::record::{Prekey, Session};
use kith_protocol::secret::Secret32;
use kith_protocol::{crypto::envelope, limits};
use proptest::prelude::*;

struct Pair {
    a: Person,
    b: Person,
    prekey: Prekey,
    at_a: Session,
    at_b: Session,
}

fn start(a: &Person, prekey: &Prekey) -> Session {
    let bundle = Bundle::parse(&prekey.bundle).unwrap();
    session::start(&a.local, &bundle, None, NOW, &mut rand::rng()).unwrap()
}

fn accept(b: &Person, prekey: &Prekey, content: &Content) -> Result<Accepted, CryptoError> {
    session::accept(&b.local, prekey, content, NOW, &mut rand::rng())
}

fn send(session: &mut Session, text: &[u8]) -> Content {
    session::encrypt(session, text, &mut rand::rng()).unwrap()
}

fn receive(session: &mut Session, content: &Content) -> Result<Vec<u8>, DecryptError> {
    session::decrypt(session, content).map(|text| text.to_vec())
}

/// A session whose first message has been opened, and not yet answered.
fn pair() -> Pair {
    let (a, b) = (Person::new(1), Person::new(11));
    let prekey = b.prekey(7, &mut rand::rng());
    let mut at_a = start(&a, &prekey);
    let first = send(&mut at_a, b"first");
    let accepted = accept(&b, &prekey, &first).unwrap();
    assert_eq!(*accepted.plaintext, b"first");
    assert_eq!(accepted.initiator, a.local.certificate);
    assert_eq!(accepted.base_key, first.start.unwrap().base_key);
    Pair { a, b, prekey, at_a, at_b: accepted.session }
}

#[test]
fn two_devices_talk_and_the_start_is_repeated_until_the_first_answer() {
    let mut p = pair();
    assert_eq!((p.at_a.id, p.at_a.initiator, p.at_b.initiator), (p.at_b.id, true, false));
    assert_eq!(p.at_b.device, p.a.local.certificate.device);
    assert_eq!(p.at_a.device, p.b.local.certificate.device);

    let second = send(&mut p.at_a, b"second");
    assert!(second.start.is_some() && second.message_type == 0 && second.number == 1);
    assert_eq!(receive(&mut p.at_b, &second).unwrap(), b"second");

    for turn in 0..20_u8 {
        let answer = send(&mut p.at_b, &[turn]);
        assert_eq!((answer.number, answer.start.is_some()), (u64::from(turn), false));
        assert_eq!(receive(&mut p.at_a, &answer).unwrap(), [turn]);
        assert!(p.at_a.start.is_none(), "an answer ends the repetition");
        let question = send(&mut p.at_a, &[turn, turn]);
        assert!(question.start.is_none() && question.message_type == 1);
        assert_eq!(receive(&mut p.at_b, &question).unwrap(), [turn, turn]);
    }
}

#[test]
fn any_message_with_a_start_can_be_the_one_that_opens_the_session() {
    let (a, b) = (Person::new(1), Person::new(11));
    let prekey = b.prekey(7, &mut rand::rng());
    let mut at_a = start(&a, &prekey);
    let messages: Vec<_> = (0..3_u8).map(|n| send(&mut at_a, &[n])).collect();
    let mut at_b = accept(&b, &prekey, &messages[2]).unwrap().session;
    assert_eq!(receive(&mut at_b, &messages[0]).unwrap(), [0]);
    assert_eq!(receive(&mut at_b, &messages[1]).unwrap(), [1]);
}

#[test]
fn a_copy_is_told_from_garbage_and_neither_changes_the_session() {
    let mut p = pair();
    let message = send(&mut p.at_a, b"x");
    receive(&mut p.at_b, &message).unwrap();
    let before = p.at_b.clone();
    assert_eq!(receive(&mut p.at_b, &message), Err(DecryptError::Duplicate));

    let mut changed = send(&mut p.at_a, b"y");
    let intact = changed.clone();
    let mut bytes = changed.message.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    changed.message = bytes.into();
    assert_eq!(receive(&mut p.at_b, &changed), Err(DecryptError::Undecryptable));
    let other = Content { session: kith_protocol::SessionId([0; 16]), ..intact.clone() };
    assert_eq!(receive(&mut p.at_b, &other), Err(DecryptError::Undecryptable));
    assert_eq!(p.at_b, before);
    assert_eq!(receive(&mut p.at_b, &intact).unwrap(), b"y");
}

#[test]
fn what_lies_beyond_the_ratchets_limits_is_named() {
    let mut p = pair();
    let messages: Vec<_> = (0..2005_u32).map(|n| send(&mut p.at_a, &n.to_be_bytes())).collect();
    assert_eq!(receive(&mut p.at_b, &messages[2004]), Err(DecryptError::TooFar));
    assert!(receive(&mut p.at_b, &messages[500]).is_ok());
    assert!(receive(&mut p.at_b, &messages[499]).is_ok(), "the last 40 skipped ones are kept");
    assert_eq!(receive(&mut p.at_b, &messages[0]), Err(DecryptError::Duplicate), "older ones are not");
}

#[test]
fn both_may_start_at_the_same_moment_and_both_sessions_work() {
    let (a, b) = (Person::new(1), Person::new(11));
    let (of_a, of_b) = (a.prekey(1, &mut rand::rng()), b.prekey(1, &mut rand::rng()));
    let (mut a_to_b, mut b_to_a) = (start(&a, &of_b), start(&b, &of_a));
    let (from_a, from_b) = (send(&mut a_to_b, b"from a"), send(&mut b_to_a, b"from b"));
    let mut b_from_a = accept(&b, &of_b, &from_a).unwrap();
    let mut a_from_b = accept(&a, &of_a, &from_b).unwrap();
    assert_eq!((&**b_from_a.plaintext, &**a_from_b.plaintext), (b"from a".as_slice(), b"from b".as_slice()));
    assert_ne!(a_to_b.id, b_to_a.id);
    let answer = send(&mut b_from_a.session, b"1");
    assert_eq!(receive(&mut a_to_b, &answer).unwrap(), b"1");
    let answer = send(&mut a_from_b.session, b"2");
    assert_eq!(receive(&mut b_to_a, &answer).unwrap(), b"2");
}

#[test]
fn a_cloned_state_never_repeats_key_and_text() {
    let mut p = pair();
    let mut clone = p.at_a.clone();
    let text = [0x55; 96];
    let (one, two) = (send(&mut p.at_a, &text), send(&mut clone, &text));
    assert_eq!(one.number, two.number, "the same message key was used");
    // Olm's frame differs in nothing; the ciphertext is its tail before the 32-byte MAC.
    let tail = |content: &Content| content.message[content.message.len() - 32 - 112..].to_vec();
    let (one, two) = (tail(&one), tail(&two));
    for block in 0..7 {
        let range = block * 16..block * 16 + 16;
        assert_ne!(one[range.clone()], two[range], "block {block} repeats");
    }
}

#[test]
fn a_foreign_identity_key_in_my_certificate_fails() {
    let (alice, bob, mallory) = (Person::new(1), Person::new(11), Person::new(21));
    let bobs = bob.prekey(7, &mut rand::rng());
    let claimed = Certificate::sign(
        &mallory.account,
        &mallory.device,
        bob.local.certificate.identity_key,
        NOW,
        NOW.plus(1000),
        1,
    );

    // Mallory certifies Bob's keys as her own; Alice means Mallory, Mallory passes the message on to Bob.
    let bundle = Bundle::parse(&bobs.bundle).unwrap();
    let offered = rebind(&bundle, &claimed, &mallory.device);
    let mut at_alice = session::start(&alice.local, &offered, None, NOW, &mut rand::rng()).unwrap();
    let mut message = send(&mut at_alice, b"for mallory");
    let refused = accept(&bob, &bobs, &message);
    assert_eq!(refused.unwrap_err(), CryptoError::Start("it was made for another bundle"));
    let start = message.start.as_mut().unwrap();
    start.bundle_hash = bundle.hash();
    message.session = named(&bob, &alice, start);
    assert_eq!(accept(&bob, &bobs, &message).unwrap_err(), CryptoError::FirstMessage);

    // Mallory certifies Alice's identity key as her own and passes Alice's start on as hers.
    let stolen = Certificate::sign(
        &mallory.account,
        &mallory.device,
        alice.local.certificate.identity_key,
        NOW,
        NOW.plus(1000),
        1,
    );
    let mut at_alice = session::start(&alice.local, &bundle, None, NOW, &mut rand::rng()).unwrap();
    let mut message = send(&mut at_alice, b"from alice");
    assert!(accept(&bob, &bobs, &message).is_ok());
    let start = message.start.as_mut().unwrap();
    start.certificate = stolen.bytes;
    message.session = named(&bob, &mallory, start);
    assert_eq!(accept(&bob, &bobs, &message).unwrap_err(), CryptoError::FirstMessage);
}

/// The session id a start must have, found through the error that a wrong one gives.
fn named(responder: &Person, initiator: &Person, start: &SessionStart) -> kith_protocol::SessionId {
    let parts: [&[u8]; 3] = [
        &start.base_key,
        initiator.local.certificate.device.as_bytes(),
        responder.local.certificate.device.as_bytes(),
    ];
    let mut hasher = blake3::Hasher::new_derive_key("kith/session-id/1");
    parts.iter().for_each(|part| {
        hasher.update(part);
    });
    kith_protocol::SessionId(hasher.finalize().as_bytes()[..16].try_into().unwrap())
}

/// The same prekeys, offered and signed by another device.
fn rebind(bundle: &Bundle, certificate: &Certificate, device: &KeyPair) -> Bundle {
    // A bundle's body begins with the certificate field; the rest is taken over as it is.
    let field = |tag: u8, bytes: &[u8]| {
        let mut out = vec![tag];
        let mut len = bytes.len();
        while len >= 0x80 {
            out.push(len as u8 | 0x80);
            len >>= 7;
        }
        out.push(len as u8);
        out.extend_from_slice(bytes);
        out
    };
    let old = field(0x0a, &bundle.certificate.bytes);
    let at = bundle.bytes.windows(old.len()).position(|window| window == old).unwrap();
    let rest = &bundle.bytes[at + old.len()..bundle.bytes.len() - 66];
    let body = [field(0x0a, &certificate.bytes), rest.to_vec()].concat();
    let signature = device.sign("kith/prekey-bundle/1", &[&body]);
    Bundle::parse(&[field(0x0a, &body), field(0x12, &signature)].concat()).unwrap()
}

#[test]
fn one_time_keys_are_bound_and_needed() {
    let (a, b) = (Person::new(1), Person::new(11));
    let prekey = b.prekey(7, &mut rand::rng());
    let one_time = Secret32::new([99; 32]);
    let public = session::LocalDevice::identity_key(&one_time);
    let bundle = Bundle::parse(&prekey.bundle).unwrap();
    let mut at_a = session::start(&a.local, &bundle, Some(public), NOW, &mut rand::rng()).unwrap();
    let message = send(&mut at_a, b"x");
    let unknown = CryptoError::Start("its one-time key is not known");
    assert_eq!(accept(&b, &prekey, &message).unwrap_err(), unknown);
    let with = |secret: &Secret32, message: &Content| {
        session::accept_one_time(&b.local, &prekey, Some(secret), message, NOW, &mut rand::rng())
    };
    assert_eq!(with(&Secret32::new([98; 32]), &message).unwrap_err(), unknown);
    assert_eq!(*with(&one_time, &message).unwrap().plaintext, b"x");
    let mut without = message;
    without.start.as_mut().unwrap().one_time_key = None;
    assert_eq!(accept(&b, &prekey, &without).unwrap_err(), CryptoError::FirstMessage);
}

#[test]
fn bundles_end_for_senders_first_and_for_their_owner_a_month_later() {
    let (a, b) = (Person::new(1), Person::new(11));
    let prekey = b.prekey(7, &mut rand::rng());
    let bundle = Bundle::parse(&prekey.bundle).unwrap();
    let late = session::start(&a.local, &bundle, None, prekey.expires, &mut rand::rng());
    assert_eq!(late.unwrap_err(), CryptoError::Expired);
    let mut at_a =
        session::start(&a.local, &bundle, None, prekey.expires.minus(1), &mut rand::rng()).unwrap();
    let message = send(&mut at_a, b"x");
    let end = prekey.expires.plus(limits::PREKEY_GRACE);
    let accept_at = |at| session::accept(&b.local, &prekey, &message, at, &mut rand::rng());
    assert!(accept_at(end.minus(1)).is_ok());
    assert_eq!(accept_at(end).unwrap_err(), CryptoError::Expired);
}

#[test]
fn degenerate_keys_are_refused() {
    let (a, b) = (Person::new(1), Person::new(11));
    let prekey = b.prekey(7, &mut rand::rng());
    let bundle = Bundle { prekey: [0; 32], ..Bundle::parse(&prekey.bundle).unwrap() };
    let refused = session::start(&a.local, &bundle, None, NOW, &mut rand::rng());
    assert_eq!(refused.unwrap_err(), CryptoError::WeakKey);

    let mut message = send(&mut start(&a, &prekey), b"x");
    let start = message.start.as_mut().unwrap();
    start.base_key = [0; 32];
    message.session = named(&b, &a, start);
    assert_eq!(accept(&b, &prekey, &message).unwrap_err(), CryptoError::WeakKey);
}

#[test]
fn the_largest_payload_fits_an_envelope_with_a_start() {
    let (a, b) = (Person::new(1), Person::new(11));
    let prekey = b.prekey(u32::MAX, &mut rand::rng());
    let bundle = Bundle::parse(&prekey.bundle).unwrap();
    let mut at_a = session::start(&a.local, &bundle, Some([9; 32]), NOW, &mut rand::rng()).unwrap();
    let payload = vec![1; envelope::max_payload()];
    let content = send(&mut at_a, &payload);
    let sealed = envelope::seal(&Secret32::new([1; 32]), &content, &mut rand::rng()).unwrap();
    assert!(sealed.len() <= limits::ENVELOPE);
    let too_long = session::encrypt(&mut at_a, &[payload, vec![1]].concat(), &mut rand::rng());
    assert!(matches!(too_long, Err(CryptoError::TooLong { .. })));
}

#[test]
fn a_short_first_message_takes_2048_bytes_and_a_later_one_the_smallest_class() {
    let mut p = pair();
    let right = Secret32::new([1; 32]);
    let first = envelope::seal(&right, &send(&mut p.at_a, b"hello"), &mut rand::rng()).unwrap();
    assert_eq!(first.len(), 2048);
    let answer = send(&mut p.at_b, b"hi");
    receive(&mut p.at_a, &answer).unwrap();
    let later = envelope::seal(&right, &send(&mut p.at_a, b"hello"), &mut rand::rng()).unwrap();
    assert_eq!(later.len(), 256);
}

#[test]
fn a_damaged_row_is_an_error_and_no_panic() {
    let mut p = pair();
    let message = send(&mut p.at_a, b"x");
    let mut damaged = p.at_b.clone();
    damaged.state = damaged.state.slice(..damaged.state.len() / 2);
    assert_eq!(receive(&mut damaged, &message), Err(DecryptError::Damaged));
    assert_eq!(session::encrypt(&mut damaged, b"x", &mut rand::rng()).unwrap_err(), CryptoError::State);
    assert_eq!(p.prekey.id, 7);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever order 40 messages come in, each opens once.
    #[test]
    fn messages_open_in_any_order_within_the_ratchets_window(
        order in Just((0..40_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut p = pair();
        let messages: Vec<_> = (0..40_u8).map(|n| send(&mut p.at_a, &[n])).collect();
        for n in order {
            prop_assert_eq!(receive(&mut p.at_b, &messages[n]).unwrap(), [n as u8]);
            prop_assert_eq!(receive(&mut p.at_b, &messages[n]), Err(DecryptError::Duplicate));
        }
    }

    /// Any turn taking, any loss: what is sent in one chain opens there.
    #[test]
    fn turns_and_losses_leave_a_working_session(steps in prop::collection::vec((any::<bool>(), any::<bool>()), 1..60)) {
        let mut p = pair();
        for (from_a, lost) in steps {
            let (sender, receiver) = if from_a { (&mut p.at_a, &mut p.at_b) } else { (&mut p.at_b, &mut p.at_a) };
            let message = send(sender, b"text");
            if !lost {
                prop_assert_eq!(receive(receiver, &message).unwrap(), b"text");
            }
        }
    }

    #[test]
    fn changed_states_and_messages_never_panic(
        at in any::<prop::sample::Index>(), bit in 0..8_u32, message in prop::collection::vec(any::<u8>(), 0..300),
        message_type in 0..=1_u8,
    ) {
        let mut p = pair();
        let real = send(&mut p.at_a, b"x");
        let content = Content { message: message.into(), message_type, ..real.clone() };
        prop_assert!(receive(&mut p.at_b, &content).is_err());
        let mut state = p.at_b.state.to_vec();
        let at = at.index(state.len());
        state[at] ^= 1 << bit;
        p.at_b.state = state.into();
        let _ = receive(&mut p.at_b, &real);
        let _ = session::encrypt(&mut p.at_b, b"x", &mut rand::rng());
    }
}

proptest! {
    /// One side remembers its ratchets, the other reads them from the row each time; the first is also put back to a row
    /// it had before, as a turn that is taken back does, and offered messages twice.
    #[test]
    fn remembered_ratchets_stand_only_for_the_row_they_were_saved_to(steps in prop::collection::vec(0..5_u8, 1..60)) {
        let mut p = pair();
        let mut ratchets = session::Ratchets::default();
        let mut under_way: Vec<Content> = Vec::new();
        for (n, step) in steps.into_iter().enumerate() {
            let text = vec![n as u8; n];
            match step {
                0 | 1 => {
                    let before = p.at_a.clone();
                    let content = ratchets.encrypt(&mut p.at_a, &text, &mut rand::rng()).unwrap();
                    let taken_back = step == 1;
                    if taken_back {
                        p.at_a = before;
                    } else {
                        prop_assert_eq!(receive(&mut p.at_b, &content).unwrap(), text);
                        // old chains are forgotten after a few turns
                        under_way.clear();
                    }
                }
                // more would be beyond the ratchet's window
                2 if under_way.len() < 20 => under_way.push(send(&mut p.at_b, &text)),
                3 => while let Some(content) = under_way.pop() {
                    let before = p.at_a.clone();
                    let opened = ratchets.decrypt(&mut p.at_a, &content).unwrap();
                    let after = std::mem::replace(&mut p.at_a, before);
                    prop_assert_eq!(&ratchets.decrypt(&mut p.at_a, &content).unwrap(), &opened, "taken back");
                    p.at_a = after;
                    prop_assert_eq!(ratchets.decrypt(&mut p.at_a, &content), Err(DecryptError::Duplicate));
                },
                _ => {
                    let content = send(&mut p.at_b, &text);
                    prop_assert_eq!(&*ratchets.decrypt(&mut p.at_a, &content).unwrap(), &text);
                }
            }
        }
    }
}
