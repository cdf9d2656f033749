//! Sessions: asking for and giving prekey bundles, starting sessions, choosing the one to send in, sealing.

use bytes::Bytes;

use super::input::{DepositId, LinkId};
use super::links::BundleFor;
use super::{Engine, Fault};
use crate::crypto::bundle::Bundle;
use crate::crypto::{envelope, session};
use crate::id::{DeviceId, InviteId, SessionId};
use crate::limits;
use crate::record::{ContactState, JobBody, Key, KeyRange, Prekey, Sealed, Session};
use crate::time::Mono;
use crate::wire::{Frame, Payload, PayloadBody};

/// A bundle that is wanted of a device.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) purpose: BundleFor,
    /// It was asked for over this link.
    asked: Option<LinkId>,
    /// A relay is being asked for it.
    pub(super) deposit: Option<DepositId>,
    /// How many relays were asked in vain.
    pub(super) tries: usize,
    /// No relay is asked before.
    pub(super) not_before: Mono,
    /// The person was told that relays do not take the invite.
    pub(super) turned_down: bool,
}

impl Wish {
    const fn new(purpose: BundleFor) -> Self {
        Self { purpose, asked: None, deposit: None, tries: 0, not_before: Mono(0), turned_down: false }
    }
}

impl Engine {
    /// The session to send in: the live one with the smallest id, so that both sides choose the same after starting
    /// at the same moment.
    pub(super) fn sending_session(&mut self, device: &DeviceId) -> Result<Option<Session>, Fault> {
        let sessions = self.core.sessions(device)?;
        Ok(sessions
            .into_iter()
            .filter(|session| !session.retired && !session.broken)
            .min_by_key(|session| session.id))
    }

    /// Seals a payload for a device. `None`: there is no session or right to do it with.
    pub(super) fn seal(&mut self, device: DeviceId, body: PayloadBody) -> Result<Option<Sealed>, Fault> {
        let Some(session) = self.sending_session(&device)? else { return Ok(None) };
        if self.core.now.wall.since(session.started) > limits::SESSION_AGE {
            // the fresh session will be used once the bundle is here; until then the old one does
            self.want_bundle(device, BundleFor::Sending)?;
        }
        self.seal_in(session, body)
    }

    /// Seals a payload in a given session and stores the ratchet's step.
    pub(super) fn seal_in(
        &mut self,
        mut session: Session,
        body: PayloadBody,
    ) -> Result<Option<Sealed>, Fault> {
        let Some(peer) = self.core.peer(&session.device)? else { return Ok(None) };
        let Some(right) = peer.right_received else { return Ok(None) };
        let payload =
            Payload { list_version: self.core.keys.list.version, list_hash: self.core.keys.list_hash, body }
                .encode();
        let content = self.core.ratchets.encrypt(&mut session, &payload, &mut *self.core.rng)?;
        let bytes = envelope::seal(&right, &content, &mut *self.core.rng)?;
        let sealed =
            Sealed { id: envelope::envelope_id(&bytes), session: session.id, number: content.number, bytes };
        self.core.put(session);
        Ok(Some(sealed))
    }

    /// The device said that it cannot open what was sealed in this session, or the session is gone.
    pub(super) fn is_broken(&self, device: &DeviceId, sealed: &Sealed) -> Result<bool, Fault> {
        let session: Option<Session> = self.core.get(&Key::Session(*device, sealed.session))?;
        Ok(session.is_none_or(|session| session.broken))
    }

    /// Asks a device for a bundle, once per link and purpose; while no link is up, its relays.
    pub(super) fn want_bundle(&mut self, device: DeviceId, purpose: BundleFor) -> Result<(), Fault> {
        let wish = self.wishes.entry(device).or_insert_with(|| Wish::new(purpose));
        if purpose == BundleFor::Repair {
            wish.purpose = purpose;
        }
        let Some(link) = self.links.get(&device) else { return self.take_bundle(device) };
        if wish.asked == Some(link.id) {
            return Ok(());
        }
        wish.asked = Some(link.id);
        let invite = self.pending_invite(&device)?;
        let own = self.core.own.device;
        let invite = invite.map(|invite| (invite.id(), invite.bundle_proof(&own, &device)));
        self.send_frame(device, &Frame::BundleRequest { invite });
        Ok(())
    }

    pub(super) fn wants_bundle(&self, device: &DeviceId, purpose: BundleFor) -> bool {
        self.wishes.get(device).is_some_and(|wish| wish.purpose == purpose)
    }

    /// A link is up, or brings nothing: what was wanted of the device is asked for over it.
    pub(super) fn ask_bundle_again(&mut self, device: DeviceId) -> Result<(), Fault> {
        let Some(wish) = self.wishes.get_mut(&device) else { return Ok(()) };
        wish.asked = None;
        let purpose = wish.purpose;
        self.want_bundle(device, purpose)
    }

    /// A device asks for our bundle. Contacts get it, and strangers who prove that they hold one of our invites.
    pub(super) fn bundle_requested(
        &mut self,
        peer: DeviceId,
        invite: Option<(InviteId, [u8; 32])>,
    ) -> Result<(), Fault> {
        let contact = self.core.contact_of(&peer)?;
        let known = contact.is_some_and(|contact| {
            matches!(contact.state, ContactState::Accepted | ContactState::Waiting | ContactState::Expired)
        });
        if !known && !self.holds_invite(&peer, invite)? {
            return Err(Fault::Misbehaviour(
                "asks for a bundle without being a contact or holding an invite".into(),
            ));
        }
        let bundle = self.current_bundle()?;
        self.send_frame(peer, &Frame::Bundle(bundle));
        Ok(())
    }

    /// Our bundle in force.
    pub(super) fn current_bundle(&mut self) -> Result<Bytes, Fault> {
        Ok(self.current_prekey()?.bundle)
    }

    /// Our newest prekey, made anew when it is seven days old.
    pub(super) fn current_prekey(&mut self) -> Result<Prekey, Fault> {
        let prekeys: Vec<Prekey> = self.core.range(&KeyRange::Prekeys, 64)?;
        let newest = prekeys.into_iter().max_by_key(|prekey| prekey.id);
        if let Some(newest) = newest
            && self.core.now.wall.since(newest.issued) < limits::BUNDLE_RENEW
            && newest.issued <= self.core.now.wall
        {
            return Ok(newest);
        }
        let id = self.core.next_prekey();
        let now = self.core.now.wall;
        let certificate = self.core.keys.local.certificate.clone();
        let prekey = Bundle::create(&self.core.keys.device, &certificate, id, now, &mut *self.core.rng);
        self.core.put(prekey.clone());
        Ok(prekey)
    }

    /// Prekeys whose last envelopes cannot come any more are wiped.
    pub(super) fn prune_prekeys(&mut self) -> Result<(), Fault> {
        let Some(believed) = self.core.believed() else { return Ok(()) };
        let prekeys: Vec<Prekey> = self.core.range(&KeyRange::Prekeys, 64)?;
        for prekey in prekeys {
            if believed.since(prekey.expires) > limits::PREKEY_GRACE {
                self.core.delete(Key::Prekey(prekey.id));
            }
        }
        Ok(())
    }

    /// A device's bundle is here, with a one-time key if a relay gave it: start a session with it and say what it was
    /// wanted for.
    pub(super) fn bundle_came(
        &mut self,
        peer: DeviceId,
        bytes: &Bytes,
        one_time_key: Option<[u8; 32]>,
    ) -> Result<(), Fault> {
        let Some(purpose) = self.wishes.get(&peer).map(|wish| wish.purpose) else {
            return Err(Fault::Misbehaviour("sent a bundle nobody asked for".into()));
        };
        let bundle = Bundle::parse(bytes).map_err(|error| Fault::Misbehaviour(error.to_string()))?;
        let Some(contact) = self.core.contact_of(&peer)? else { return Ok(()) };
        if bundle.certificate.device != peer || bundle.certificate.account != contact.account {
            return Err(Fault::Misbehaviour("sent a bundle that is not its own".into()));
        }
        if !bundle.is_usable(self.core.now.wall) {
            return Err(Fault::Misbehaviour(
                "sent a bundle that is not valid now; one of the clocks may be wrong".into(),
            ));
        }
        let now = self.core.now.wall;
        let session = session::start(&self.core.keys.local, &bundle, one_time_key, now, &mut *self.core.rng)?;
        self.retire_sessions(&peer, session.id, false)?;
        self.core.put(session.clone());
        self.wishes.remove(&peer);
        let accepting = self.seal_accept(peer, &session)?;
        if purpose == BundleFor::Repair && !accepting {
            self.seal_repair(peer, session)?;
        }
        self.pump.insert(peer);
        Ok(())
    }

    /// Stops sending in all sessions with a device but one; keeps the newest few for receiving.
    pub(super) fn retire_sessions(
        &mut self,
        device: &DeviceId,
        keep: SessionId,
        broken: bool,
    ) -> Result<(), Fault> {
        let mut sessions = self.core.sessions(device)?;
        sessions.retain(|session| session.id != keep);
        sessions.sort_by_key(|session| std::cmp::Reverse((session.started, session.id)));
        for (place, mut session) in sessions.into_iter().enumerate() {
            if place + 1 >= limits::SESSIONS {
                self.delete_session(*device, session.id)?;
            } else if !session.retired || (broken && !session.broken) {
                session.retired = true;
                session.broken |= broken;
                self.core.put(session);
            }
        }
        Ok(())
    }

    /// Makes the place of a session another device started: after starts at the same moment both sides send in the one
    /// with the smaller id; otherwise the newcomer replaces what was there.
    pub(super) fn admit_session(&mut self, mut started: Session) -> Result<Session, Fault> {
        let sessions = self.core.sessions(&started.device)?;
        let ours = sessions
            .into_iter()
            .filter(|session| {
                session.initiator && session.start.is_some() && !session.retired && !session.broken
            })
            .min_by_key(|session| session.id);
        match ours {
            Some(ours) if ours.id < started.id => started.retired = true,
            Some(_) | None => self.retire_sessions(&started.device, started.id, false)?,
        }
        Ok(started)
    }

    /// Whether some job for this device waits for our acceptance to be sealed.
    pub(super) fn open_accept(&self, device: &DeviceId) -> Result<Option<crate::record::Job>, Fault> {
        let jobs: Vec<crate::record::Job> = self.core.range(&KeyRange::Jobs(*device), limits::IN_FLIGHT)?;
        Ok(jobs.into_iter().find(|job| job.body == JobBody::Accept))
    }
}
