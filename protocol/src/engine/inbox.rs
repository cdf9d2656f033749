//! Envelopes that come in: dropped when seen before, opened in order, stored, then acknowledged.

use bytes::Bytes;

use super::holes::HoleStep;
use super::links::BundleFor;
use super::timer::Timer;
use super::{Engine, Fault};
use crate::crypto::envelope::{self, Content};
use crate::crypto::session;
use crate::id::{DeviceId, EnvelopeId, RightId};
use crate::identity::Certificate;
use crate::limits;
use crate::record::{
    ContactState, Grant, GrantOf, Invite, Key, KeyRange, OneTimeKey, Prekey, Replay, Seen, Session,
};
use crate::secret::Secret32;
use crate::wire::{Frame, Payload, PayloadBody, RefuseReason};

/// An envelope whose header is open, on its way to its session.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) from: DeviceId,
    pub(super) id: EnvelopeId,
    pub(super) content: Content,
    pub(super) size: usize,
    /// It came by a relay, not over a link.
    pub(super) relayed: bool,
}

/// What opening a message changes, whatever its payload turns out to be.
struct Step {
    session: Session,
    hole: HoleStep,
    /// The initiator's base key and account, if the message started the session.
    started: Option<([u8; 32], crate::id::AccountId)>,
}

/// A message of a session, opened.
pub(super) struct Opened {
    pub(super) from: DeviceId,
    pub(super) id: EnvelopeId,
    /// It came by a relay, not over a link.
    pub(super) relayed: bool,
    pub(super) session: Session,
    /// The initiator's base key, if this message started the session.
    pub(super) base_key: Option<[u8; 32]>,
    /// The initiator's account by its certificate, if this message started the session.
    pub(super) account: Option<crate::id::AccountId>,
    pub(super) payload: Payload,
}

impl Engine {
    pub(super) fn envelope(&mut self, from: DeviceId, bytes: &Bytes) -> Result<(), Fault> {
        let id = envelope::envelope_id(bytes);
        if self.core.get::<Seen>(&Key::Seen(id))?.is_some() {
            // a copy: say again that we have it, and where we are
            self.receipts_again(&from)?;
            self.ack(from, id);
            return Ok(());
        }
        let Some(right) = self.right_for(&from, bytes)? else { return self.stranger(from, id) };
        let Ok(content) = envelope::open(&right, bytes) else {
            self.send_frame(from, &Frame::Refuse { envelope: id, reason: RefuseReason::Malformed });
            return Err(Fault::Misbehaviour("sent an envelope that does not open".into()));
        };
        let arrived = Arrived { from, id, content, size: bytes.len(), relayed: false };
        self.content(arrived, false)?;
        self.drain_held(from)
    }

    /// An envelope that one of our relays kept for us, deposited under `right`.
    pub(super) fn relayed(&mut self, relay: DeviceId, right: RightId, bytes: &Bytes) -> Result<(), Fault> {
        let id = envelope::envelope_id(bytes);
        if self.core.get::<Seen>(&Key::Seen(id))?.is_some() {
            self.collect(id);
            return Ok(());
        }
        let opened = match self.core.get::<Grant>(&Key::Grant(relay, right))?.map(|grant| grant.of) {
            Some(GrantOf::Peer(device)) => {
                let right = self.right_for(&device, bytes)?;
                right.and_then(|right| Some((device, envelope::open(&right, bytes).ok()?)))
            }
            Some(GrantOf::Invite(invite)) => {
                let invite: Option<Invite> = self.core.get(&Key::Invite(invite))?;
                let content =
                    invite.and_then(|invite| envelope::open(&super::invites::right_of(&invite), bytes).ok());
                // whoever holds the invite says by the session's start who it is, which the session proves
                content.and_then(|content| Some((initiator(&content)?, content)))
            }
            Some(GrantOf::Canary) | None => None,
        };
        let Some((from, content)) = opened else {
            self.collect(id);
            return Err(Fault::Misbehaviour("a relay brought an envelope under no right of ours".into()));
        };
        let contact = self.core.contact_of(&from)?;
        if contact.is_some_and(|contact| contact.state == ContactState::Blocked) {
            self.collect(id);
            return Ok(());
        }
        self.content(Arrived { from, id, content, size: bytes.len(), relayed: true }, false)?;
        self.drain_held(from)
    }

    /// The right an envelope was sealed under: the one we gave this device, else one of our invites.
    fn right_for(&self, from: &DeviceId, bytes: &[u8]) -> Result<Option<Secret32>, Fault> {
        if let Some(peer) = self.core.peer(from)?
            && envelope::tag_matches(&peer.right_given, bytes)
        {
            return Ok(Some(peer.right_given));
        }
        let invites: Vec<Invite> = self.core.range(&KeyRange::Invites, limits::INVITES)?;
        for invite in invites {
            let right = super::invites::right_of(&invite);
            if envelope::tag_matches(&right, bytes) {
                return Ok(Some(right));
            }
        }
        Ok(None)
    }

    /// Somebody we have no right in common with. Those we removed are told so.
    fn stranger(&mut self, from: DeviceId, id: EnvelopeId) -> Result<(), Fault> {
        let contact = self.core.contact_of(&from)?;
        if contact.is_some_and(|contact| contact.state == ContactState::Removed) {
            self.send_frame(from, &Frame::Refuse { envelope: id, reason: RefuseReason::Removed });
            return Ok(());
        }
        Err(Fault::Misbehaviour("sent an envelope under no right of ours".into()))
    }

    /// Opens the content of an envelope, or holds it until its predecessors are here (`force`: waits no more).
    pub(super) fn content(&mut self, arrived: Arrived, force: bool) -> Result<(), Fault> {
        let (from, number) = (arrived.from, arrived.content.number);
        let session: Option<Session> = self.core.get(&Key::Session(from, arrived.content.session))?;
        let expected = session.as_ref().map_or(0, |session| session.next_received);
        let startable = session.is_some() || arrived.content.start.is_some();
        if startable && number > expected && !force {
            self.hold(arrived);
            return Ok(());
        }
        match session {
            Some(session) => self.open_in(&arrived, session),
            None if arrived.content.start.is_some() => self.start(&arrived),
            None => self.unopenable(&arrived),
        }
    }

    fn open_in(&mut self, arrived: &Arrived, mut session: Session) -> Result<(), Fault> {
        let (number, expected) = (arrived.content.number, session.next_received);
        let before = (number > expected).then(|| session.state.clone());
        match self.core.ratchets.decrypt(&mut session, &arrived.content) {
            Ok(plaintext) => {
                session.next_received = expected.max(number.saturating_add(1));
                let hole = match before {
                    Some(state) => self.keep_copy(&session, expected, number, state)?,
                    None if number < expected => self.fill_hole(&arrived.from, &session.id, number)?,
                    None => HoleStep::default(),
                };
                self.opened(arrived, Step { session, hole, started: None }, &plaintext)
            }
            Err(_) if number < expected => match self.open_late(&arrived.from, &arrived.content)? {
                Some((plaintext, hole)) => {
                    self.opened(arrived, Step { session, hole, started: None }, &plaintext)
                }
                // the key is used up although the hash is unknown: a clone of the sender wrote another text with it
                None => self.unopenable(arrived),
            },
            Err(_) => self.unopenable(arrived),
        }
    }

    /// A device starts a session with us.
    fn start(&mut self, arrived: &Arrived) -> Result<(), Fault> {
        let content = &arrived.content;
        let Some(start) = &content.start else { return Ok(()) };
        if self.core.get::<Replay>(&Key::Replay(start.base_key))?.is_some() {
            // recorded and played again, or the session it made is gone: nothing new can come of it
            return self.unopenable(arrived);
        }
        let Some(prekey) = self.core.get::<Prekey>(&Key::Prekey(start.bundle))? else {
            return self.unopenable(arrived);
        };
        let one_time: Option<OneTimeKey> = match start.one_time_key {
            Some(public) => self.core.get(&Key::OneTimeKey(public))?,
            None => None,
        };
        let secret = one_time.as_ref().map(|key| &key.secret);
        let now = self.core.now.wall;
        let accepted = match session::accept_one_time(
            &self.core.keys.local,
            &prekey,
            secret,
            content,
            now,
            &mut *self.core.rng,
        ) {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a session start could not be opened");
                return self.unopenable(arrived);
            }
        };
        if accepted.initiator.device != arrived.from {
            return Err(Fault::Misbehaviour("starts a session in another device's name".into()));
        }
        let mut session = self.admit_session(accepted.session)?;
        session.next_received = session.next_received.max(content.number.saturating_add(1));
        let mut hole = match accepted.before {
            Some(state) => self.keep_copy(&session, 0, content.number, state)?,
            None => HoleStep::default(),
        };
        hole.gone.extend(one_time.map(|key| Key::OneTimeKey(key.public)));
        let until = prekey.expires.plus(limits::PREKEY_GRACE);
        hole.rows.push(Replay { base_key: accepted.base_key, until }.into());
        let started = Some((accepted.base_key, accepted.initiator.account));
        self.opened(arrived, Step { session, hole, started }, &accepted.plaintext)
    }

    /// Writes what opening a message changes, whatever its payload turns out to be.
    fn write_step(&mut self, id: EnvelopeId, step: &Step) {
        self.core.put(step.session.clone());
        for row in &step.hole.rows {
            self.core.put(row.clone());
        }
        for key in &step.hole.gone {
            self.core.delete(key.clone());
        }
        self.core.put(Seen { envelope: id, until: self.core.now.wall.plus(limits::SEEN_TTL) });
    }

    /// A plaintext is here: the session's step, the envelope's hash and what the payload does are one batch.
    fn opened(&mut self, arrived: &Arrived, step: Step, plaintext: &[u8]) -> Result<(), Fault> {
        let Arrived { from, id, relayed, .. } = *arrived;
        let mut owed = relayed;
        if relayed {
            self.note_lacking(from, id);
        }
        let result = match Payload::decode(plaintext) {
            Ok(payload) => {
                self.write_step(id, &step);
                owed &= is_owed_by_envelope(&payload.body);
                self.payload(Opened {
                    from,
                    id,
                    relayed,
                    session: step.session.clone(),
                    base_key: step.started.map(|(base_key, _)| base_key),
                    account: step.started.map(|(_, account)| account),
                    payload,
                })
            }
            Err(error) => Err(Fault::Misbehaviour(error.to_string())),
        };
        match result {
            Ok(()) => {}
            Err(Fault::Misbehaviour(why)) => {
                // senseless, but its key is spent: remember that, or it would come again for ever
                self.core.abandon();
                self.write_step(id, &step);
                tracing::debug!(peer = %from.short(), why, "a payload made no sense");
                self.tell_senseless(from)?;
            }
            Err(other) => return Err(other),
        }
        if owed {
            self.owe_taken(from, id)?;
        }
        if let Some(inbound) = self.inbound.get_mut(&from) {
            inbound.unopened.remove(&id);
        }
        self.ack(from, id);
        // what this message wrote is one batch, whatever the next one brings
        self.core.commit();
        Ok(())
    }

    /// Something of a contact was dropped: nothing is lost silently, so the person is told, once per device and process.
    fn tell_senseless(&mut self, from: DeviceId) -> Result<(), Fault> {
        let Some(contact) = self.core.contact_of(&from)? else { return Ok(()) };
        if contact.state == ContactState::Accepted && self.senseless.insert(from) {
            let text = format!(
                "Something {} sent could not be understood and was dropped. One of you may need a newer Kith.",
                contact.display_name()
            );
            self.core.notice("unreadable", text, super::core::About::device(contact.account, from));
        }
        Ok(())
    }

    fn payload(&mut self, opened: Opened) -> Result<(), Fault> {
        let from = opened.from;
        if let PayloadBody::Accept { invite, signature, info } = &opened.payload.body {
            return self.accept_came(&opened, *invite, signature, info);
        }
        let Some(contact) = self.core.contact_of(&from)? else {
            return Err(Fault::Misbehaviour("writes without having accepted an invite".into()));
        };
        match &opened.payload.body {
            PayloadBody::Welcome { invite, info } => return self.welcomed(contact, from, *invite, info),
            PayloadBody::Refused { invite, reason } => {
                return self.acceptance_refused(contact, from, *invite, *reason);
            }
            _ => {}
        }
        if contact.state != ContactState::Accepted {
            return Err(Fault::Misbehaviour("writes although it is no contact".into()));
        }
        self.list_heard(&contact, from, opened.payload.list_version, &opened.payload.list_hash)?;
        match opened.payload.body {
            PayloadBody::Entry(bytes) => {
                let again = self.entry_came(&contact, from, &bytes)?;
                if again && opened.relayed {
                    self.owe_taken(from, opened.id)?;
                }
                Ok(())
            }
            PayloadBody::Receipt(receipt) => self.receipt_came(from, receipt),
            PayloadBody::Repair { envelopes, rolled_back } => {
                self.repair_asked(from, &opened.session, &envelopes, rolled_back)
            }
            PayloadBody::EntryRequest { conversation, stream, ranges } => {
                self.entries_asked(&contact, from, conversation, stream, &ranges)
            }
            PayloadBody::ListRequest => self.list_asked(contact.account, from),
            PayloadBody::Update(info) => self.info_came(contact, from, &info),
            PayloadBody::Voids { conversation, stream, ranges } => {
                self.voids_came(&contact, conversation, stream, &ranges)
            }
            PayloadBody::Accept { .. } | PayloadBody::Welcome { .. } | PayloadBody::Refused { .. } => Ok(()),
            // a newer Kith may say more than we understand; its entries come as entries
            PayloadBody::Unknown => Ok(()),
        }
    }

    /// An envelope that no session of ours opens: ask its device to seal it anew.
    fn unopenable(&mut self, arrived: &Arrived) -> Result<(), Fault> {
        let Arrived { from, id, relayed, .. } = *arrived;
        let known =
            self.core.contact_of(&from)?.is_some_and(|contact| contact.state == ContactState::Accepted);
        if !known {
            if relayed {
                self.collect(id);
            }
            return Err(Fault::Misbehaviour("sent an envelope that no session opens".into()));
        }
        let inbound = self.inbound.entry(from).or_default();
        if inbound.unopened.len() < limits::REQUESTED {
            inbound.unopened.insert(id);
        }
        self.ask_repair(from)
    }

    /// Asks for a fresh session and everything open again, at most once a minute.
    pub(super) fn ask_repair(&mut self, from: DeviceId) -> Result<(), Fault> {
        let Some(mut peer) = self.core.peer(&from)? else { return Ok(()) };
        let broken = self.inbound.get(&from).is_some_and(|inbound| !inbound.unopened.is_empty());
        if !broken || self.wants_bundle(&from, BundleFor::Repair) {
            return Ok(());
        }
        let now = self.core.now;
        let elapsed = peer.repair_asked.map_or(u64::MAX, |asked| now.wall.since(asked));
        if elapsed < limits::REPAIR_INTERVAL {
            let left = limits::REPAIR_INTERVAL.saturating_sub(elapsed);
            self.core.timers.set_earlier(Timer::Repair(from), now.mono.plus(left));
            return Ok(());
        }
        peer.repair_asked = Some(now.wall);
        let account = peer.account;
        self.core.put(peer);
        self.core.notice(
            "repair",
            "A message could not be opened. It is being repaired: the sender is asked to send it again."
                .into(),
            super::core::About::device(account, from),
        );
        self.want_bundle(from, BundleFor::Repair)
    }
}

/// The device that a session's start names.
fn initiator(content: &Content) -> Option<DeviceId> {
    let start = content.start.as_ref()?;
    Certificate::parse(&start.certificate).ok().map(|certificate| certificate.device)
}

/// Whether the sender of such a payload, if it came by a relay, is told of its envelope: entries are receipted by
/// number, receipts not at all, and acceptances have answers of their own.
const fn is_owed_by_envelope(body: &PayloadBody) -> bool {
    !matches!(
        body,
        PayloadBody::Entry(_)
            | PayloadBody::Receipt(_)
            | PayloadBody::Accept { .. }
            | PayloadBody::Refused { .. }
    )
}
