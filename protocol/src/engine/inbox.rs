//! Envelopes that come in: dropped when seen before, opened in order, stored, then acknowledged.

use bytes::Bytes;

use super::links::{BundleFor, Held};
use super::timer::Timer;
use super::{Engine, Fault};
use crate::crypto::envelope::{self, Content};
use crate::crypto::session::{self, DecryptError};
use crate::id::{DeviceId, EnvelopeId};
use crate::limits;
use crate::record::{ContactState, Invite, Key, KeyRange, Prekey, Replay, Seen, Session};
use crate::secret::Secret32;
use crate::wire::{Frame, Payload, PayloadBody, RefuseReason};

/// Acknowledgements wait for company no longer than this many.
const ACKS_JOINED: usize = 48;

/// A message of a session, opened.
pub(super) struct Opened {
    pub(super) from: DeviceId,
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
        self.content(from, id, content, bytes.len(), false)?;
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
    fn content(
        &mut self,
        from: DeviceId,
        id: EnvelopeId,
        content: Content,
        size: usize,
        force: bool,
    ) -> Result<(), Fault> {
        let session: Option<Session> = self.core.get(&Key::Session(from, content.session))?;
        let expected = session.as_ref().map_or(0, |session| session.next_received);
        let startable = session.is_some() || content.start.is_some();
        if startable && content.number > expected && !force {
            return self.hold(from, id, content, size);
        }
        match session {
            Some(mut session) => match session::decrypt(&mut session, &content) {
                Ok(plaintext) => {
                    session.next_received = session.next_received.max(content.number.saturating_add(1));
                    self.opened(from, id, session, None, &plaintext)
                }
                // the key is used up although the hash is unknown: a clone of the sender wrote another text with it
                Err(DecryptError::Duplicate) | Err(_) => self.unopenable(from, id),
            },
            None if content.start.is_some() => self.start(from, id, &content),
            None => self.unopenable(from, id),
        }
    }

    /// A device starts a session with us.
    fn start(&mut self, from: DeviceId, id: EnvelopeId, content: &Content) -> Result<(), Fault> {
        let Some(start) = &content.start else { return Ok(()) };
        if self.core.get::<Replay>(&Key::Replay(start.base_key))?.is_some() {
            // recorded and played again, or the session it made is gone: nothing new can come of it
            return self.unopenable(from, id);
        }
        let Some(prekey) = self.core.get::<Prekey>(&Key::Prekey(start.bundle))? else {
            return self.unopenable(from, id);
        };
        let now = self.core.now.wall;
        let accepted =
            match session::accept(&self.core.keys.local, &prekey, content, now, &mut *self.core.rng) {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "a session start could not be opened");
                    return self.unopenable(from, id);
                }
            };
        if accepted.initiator.device != from {
            return Err(Fault::Misbehaviour("starts a session in another device's name".into()));
        }
        let mut session = self.admit_session(accepted.session)?;
        session.next_received = session.next_received.max(content.number.saturating_add(1));
        let until = prekey.expires.plus(limits::PREKEY_GRACE);
        self.core.put(Replay { base_key: accepted.base_key, until });
        let started = Some((accepted.base_key, accepted.initiator.account));
        self.opened(from, id, session, started, &accepted.plaintext)
    }

    /// A plaintext is here: the session's step, the envelope's hash and what the payload does are one batch.
    fn opened(
        &mut self,
        from: DeviceId,
        id: EnvelopeId,
        session: Session,
        started: Option<([u8; 32], crate::id::AccountId)>,
        plaintext: &[u8],
    ) -> Result<(), Fault> {
        let seen = Seen { envelope: id, until: self.core.now.wall.plus(limits::SEEN_TTL) };
        let result = match Payload::decode(plaintext) {
            Ok(payload) => {
                self.core.put(session.clone());
                self.core.put(seen.clone());
                self.payload(Opened {
                    from,
                    session: session.clone(),
                    base_key: started.map(|(base_key, _)| base_key),
                    account: started.map(|(_, account)| account),
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
                if let Some((base_key, _)) = started {
                    self.core.put(Replay { base_key, until: self.core.now.wall.plus(limits::SEEN_TTL) });
                }
                self.core.put(session);
                self.core.put(seen);
                tracing::debug!(peer = %from.short(), why, "a payload made no sense");
                self.tell_senseless(from)?;
            }
            Err(other) => return Err(other),
        }
        if let Some(link) = self.links.get_mut(&from) {
            link.unopened.remove(&id);
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
        self.list_heard(&contact, opened.payload.list_version, &opened.payload.list_hash)?;
        match opened.payload.body {
            PayloadBody::Entry(bytes) => self.entry_came(&contact, from, &bytes),
            PayloadBody::Frontiers(frontiers) => {
                let word = Payload {
                    list_version: 0,
                    list_hash: [0; 32],
                    body: PayloadBody::Frontiers(frontiers.clone()),
                };
                self.frontiers(from, &frontiers, &word.encode())
            }
            PayloadBody::Repair { envelopes, rolled_back } => {
                self.repair_asked(from, &opened.session, &envelopes, rolled_back)
            }
            PayloadBody::EntryRequest { conversation, stream, ranges } => {
                self.entries_asked(&contact, from, conversation, stream, &ranges)
            }
            PayloadBody::Update(info) => self.info_came(contact, from, &info),
            PayloadBody::Voids { conversation, stream, ranges } => {
                self.voids_came(&contact, conversation, stream, &ranges)
            }
            PayloadBody::Accept { .. } | PayloadBody::Welcome { .. } | PayloadBody::Refused { .. } => Ok(()),
            // a newer Kith may say more than we understand; its entries come as entries
            PayloadBody::Unknown => Ok(()),
        }
    }

    /// Keeps an envelope, unacknowledged, until its predecessors are here.
    fn hold(&mut self, from: DeviceId, id: EnvelopeId, content: Content, size: usize) -> Result<(), Fault> {
        let now = self.core.now.mono;
        let Some(link) = self.links.get_mut(&from) else { return Ok(()) };
        if link.held.len() >= limits::HELD || link.held_bytes.saturating_add(size) > limits::HELD_BYTES {
            // not acknowledged, so it comes again
            return Ok(());
        }
        let place = (content.session, content.number);
        if let std::collections::btree_map::Entry::Vacant(free) = link.held.entry(place) {
            free.insert(Held { id, content, size, since: now });
            link.held_bytes = link.held_bytes.saturating_add(size);
        }
        self.core.timers.set_earlier(Timer::Hole(from), now.plus(limits::HOLE_WAIT));
        Ok(())
    }

    /// Opens held envelopes whose predecessors are here now.
    fn drain_held(&mut self, from: DeviceId) -> Result<(), Fault> {
        loop {
            let Some(link) = self.links.get(&from) else { return Ok(()) };
            let mut next = None;
            let mut last_session = None;
            for place @ (session, number) in link.held.keys() {
                if last_session == Some(*session) {
                    continue;
                }
                last_session = Some(*session);
                let row: Option<Session> = self.core.get(&Key::Session(from, *session))?;
                if *number <= row.map_or(0, |row| row.next_received) {
                    next = Some(*place);
                    break;
                }
            }
            let Some(place) = next else { return Ok(()) };
            self.open_held(from, place)?;
        }
    }

    fn open_held(&mut self, from: DeviceId, place: (crate::id::SessionId, u64)) -> Result<(), Fault> {
        let Some(link) = self.links.get_mut(&from) else { return Ok(()) };
        let Some(held) = link.held.remove(&place) else { return Ok(()) };
        link.held_bytes = link.held_bytes.saturating_sub(held.size);
        if link.held.is_empty() {
            self.core.timers.cancel(Timer::Hole(from));
        }
        if self.core.get::<Seen>(&Key::Seen(held.id))?.is_some() {
            self.ack(from, held.id);
            return Ok(());
        }
        self.content(from, held.id, held.content, held.size, true)
    }

    /// Envelopes have waited long enough: step past the hole before each of them.
    pub(super) fn hole_timeout(&mut self, from: DeviceId) -> Result<(), Fault> {
        let now = self.core.now.mono;
        loop {
            let Some(link) = self.links.get(&from) else { return Ok(()) };
            let due = link.held.iter().find(|(_, held)| now.since(held.since) >= limits::HOLE_WAIT);
            let Some((place, _)) = due else { break };
            // the first of its session, so that the others still open in order
            let first = (place.0, 0);
            let place = link.held.range(first..).next().map_or(*place, |(place, _)| *place);
            self.open_held(from, place)?;
            self.drain_held(from)?;
        }
        let oldest = self.links.get(&from).and_then(|link| link.held.values().map(|held| held.since).min());
        if let Some(oldest) = oldest {
            self.core.timers.set(Timer::Hole(from), oldest.plus(limits::HOLE_WAIT));
        }
        Ok(())
    }

    /// An envelope that no session of ours opens: ask its device to seal it anew.
    fn unopenable(&mut self, from: DeviceId, id: EnvelopeId) -> Result<(), Fault> {
        let known =
            self.core.contact_of(&from)?.is_some_and(|contact| contact.state == ContactState::Accepted);
        let Some(link) = self.links.get_mut(&from) else { return Ok(()) };
        if !known {
            return Err(Fault::Misbehaviour("sent an envelope that no session opens".into()));
        }
        if link.unopened.len() < limits::REQUESTED {
            link.unopened.insert(id);
        }
        self.ask_repair(from)
    }

    /// Asks for a fresh session and everything open again, at most once a minute.
    pub(super) fn ask_repair(&mut self, from: DeviceId) -> Result<(), Fault> {
        let Some(mut peer) = self.core.peer(&from)? else { return Ok(()) };
        let Some(link) = self.links.get(&from) else { return Ok(()) };
        if link.unopened.is_empty() || link.bundle == Some(BundleFor::Repair) {
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
        self.want_bundle(from, BundleFor::Repair);
        Ok(())
    }

    /// Acknowledges an envelope, together with others that come close behind.
    pub(super) fn ack(&mut self, from: DeviceId, id: EnvelopeId) {
        if let Some(link) = self.links.get_mut(&from) {
            link.acks.push(id);
            self.tell.insert(from);
        }
    }

    /// Tells devices what they are owed: at once unless they were told often lately; then joined.
    pub(super) fn tell_all(&mut self) {
        while let Some(device) = self.tell.pop_first() {
            let now = self.core.now.mono;
            let Some(link) = self.links.get(&device) else { continue };
            let many = link.acks.len() >= ACKS_JOINED;
            let calm = link.told_times < limits::RECEIPTS_AT_ONCE;
            let due = link.told.plus(limits::RECEIPT_JOIN);
            if many || calm || now >= due {
                if let Err(fault) = self.tell_device(device) {
                    self.core.abandon();
                    self.report(&fault, "answering");
                }
                self.core.commit();
            } else {
                self.core.timers.set_earlier(Timer::Receipts(device), due);
            }
        }
    }

    /// Sends the acknowledgements and receipts a device is owed.
    pub(super) fn tell_device(&mut self, device: DeviceId) -> Result<(), Fault> {
        self.core.timers.cancel(Timer::Receipts(device));
        let now = self.core.now.mono;
        let Some(link) = self.links.get_mut(&device) else { return Ok(()) };
        if now >= link.told.plus(limits::RECEIPT_JOIN) {
            link.told = now;
            link.told_times = 0;
        }
        link.told_times += 1;
        let acks = std::mem::take(&mut link.acks);
        let streams = std::mem::take(&mut link.receipts);
        // the receipt first: it is what the person waits for
        self.send_receipts(device, &streams)?;
        for acks in acks.chunks(limits::ACKS) {
            self.send_frame(device, &Frame::Ack(acks.to_vec()));
        }
        Ok(())
    }
}
