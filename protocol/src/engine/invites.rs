//! Invites: making and taking back our own, accepting others', answering acceptances.

use super::command::{Answer, CommandError};
use super::inbox::Opened;
use super::{Engine, Fault};
use crate::crypto::envelope::SessionStart;
use crate::id::{AccountId, DeviceId, InviteId};
use crate::identity::KeyPair;
use crate::invite::{Acceptance, Invite as Link, InviteSecret};
use crate::limits;
use crate::record::{
    Contact, ContactState, EventBody, GrantOf, Invite, InviteState, Job, JobBody, Key, KeyRange, Owner, Peer,
    PendingAccept, Session,
};
use crate::secret::Secret32;
use crate::time::Wall;
use crate::wire::{ContactInfo, PayloadBody, RefusedReason};

/// How long the answer to somebody who is no contact is kept on its way.
const ANSWER_TTL: u64 = 7 * limits::DAY;

impl Engine {
    pub(super) fn create_invite(&mut self, uses: u32, ttl: u64) -> Result<Answer, CommandError> {
        const USES: u32 = 1000;
        if uses == 0 || uses > USES {
            return Err(CommandError::Invalid(format!("an invite can be used 1 to {USES} times")));
        }
        if !(limits::SECOND..=limits::INVITE_TTL).contains(&ttl) {
            let days = limits::INVITE_TTL / limits::DAY;
            return Err(CommandError::Invalid(format!("an invite lives from 1 second to {days} days")));
        }
        let invites: Vec<Invite> = self.core.range(&KeyRange::Invites, limits::INVITES + 1)?;
        if invites.len() >= limits::INVITES {
            let most = limits::INVITES;
            return Err(CommandError::Full(format!("there are {most} invites already; revoke some first")));
        }
        let secret = InviteSecret::random(&mut *self.core.rng);
        let directory_seed = Secret32::random(&mut *self.core.rng);
        let created = self.core.now.wall;
        // the link counts whole seconds
        let expires = Wall(created.plus(ttl).0 / limits::SECOND * limits::SECOND);
        let addresses = self.directory.addresses.iter();
        let relays = self.named_relays()?;
        let link = Link {
            account: self.core.own.account,
            device: self.core.own.device,
            secret: secret.clone(),
            directory_key: KeyPair::from_seed(&directory_seed).public(),
            expires,
            addresses: addresses
                .filter(|address| address.as_bytes().len() <= limits::INVITE_ADDRESS)
                .take(limits::INVITE_ADDRESSES)
                .cloned()
                .collect(),
            relays: relays
                .into_iter()
                .filter(|relay| relay.address.as_bytes().len() <= limits::INVITE_ADDRESS)
                .collect(),
            group: None,
            name: self.core.own.name.clone(),
        };
        let id = link.id();
        self.grant(&link.right(), GrantOf::Invite(id), Some(expires))?;
        self.core.put(Invite {
            id,
            secret: secret.to_padded(),
            directory_seed,
            created,
            expires,
            uses,
            uses_total: uses,
            state: InviteState::Live,
            used_by: Vec::new(),
        });
        self.publish_soon();
        Ok(Answer::Invite { id, uri: link.to_uri(), expires })
    }

    pub(super) fn revoke_invite(&mut self, id: InviteId) -> Result<Answer, CommandError> {
        let invite: Option<Invite> = self.core.get(&Key::Invite(id))?;
        let mut invite = invite.ok_or(CommandError::UnknownInvite)?;
        if invite.state == InviteState::Live {
            invite.state = InviteState::Revoked;
            self.withdraw_invite(&invite);
            self.revoke(&right_of(&invite))?;
            self.core.put(invite);
        }
        Ok(Answer::Done)
    }

    /// Starts to accept somebody's invite; says how it stands if that was done before.
    pub(super) fn accept_invite(&mut self, uri: &str) -> Result<Answer, CommandError> {
        let link = Link::parse(uri)?;
        let account = link.account;
        if account == self.core.own.account {
            return Err(CommandError::OwnInvite);
        }
        let known = self.core.contact(&account)?;
        match known.as_ref().map(|contact| contact.state) {
            Some(ContactState::Blocked) => return Err(CommandError::Blocked),
            Some(state @ ContactState::Accepted) => return Ok(Answer::Accepted { account, state }),
            Some(
                ContactState::Waiting | ContactState::Refused | ContactState::Expired | ContactState::Removed,
            )
            | None => {}
        }
        let bytes = link.to_bytes();
        if let Some(contact) = &known
            && contact.state == ContactState::Waiting
            && contact.pending.as_ref().is_some_and(|pending| pending.invite == bytes)
        {
            self.reach_now(link.device);
            return Ok(Answer::Accepted { account, state: ContactState::Waiting });
        }
        let now = self.core.now.wall;
        if link.expires <= now {
            return Err(CommandError::InviteExpired { expired: link.expires, now });
        }
        if let Some(owner) = self.core.owner(&link.device)?
            && owner != account
        {
            return Err(CommandError::Invalid(
                "this invite names a device of somebody else; do not use it".into(),
            ));
        }
        let contacts: Vec<Contact> = self.core.range(&KeyRange::Contacts, limits::CONTACTS + 1)?;
        if known.is_none() && contacts.len() >= limits::CONTACTS {
            let most = limits::CONTACTS;
            return Err(CommandError::Full(format!("there are {most} contacts already; remove some first")));
        }
        self.put_waiting(known, &link, bytes)?;
        let ttl = link.expires.since(now).saturating_add(limits::INVITE_GRACE);
        self.enqueue(link.device, account, JobBody::Accept, ttl, None)?;
        self.reach_now(link.device);
        let state = ContactState::Waiting;
        self.core.event(EventBody::Contact { account, state });
        Ok(Answer::Accepted { account, state })
    }

    fn put_waiting(&mut self, known: Option<Contact>, link: &Link, bytes: bytes::Bytes) -> Result<(), Fault> {
        let now = self.core.now.wall;
        if let Some(known) = &known {
            // an earlier attempt, or a removed contact: nothing of it is in the way
            for device in known.devices.clone() {
                self.forget_device(device)?;
            }
        }
        let mut contact = known.unwrap_or_else(|| new_contact(link.account, now));
        contact.name.clone_from(&link.name);
        contact.state = ContactState::Waiting;
        contact.pending = Some(PendingAccept { invite: bytes, refused: None });
        contact.devices = vec![link.device];
        contact.contact_key = None;
        self.core.put(contact);
        self.core.put(Owner { device: link.device, account: link.account });
        let right_given = Secret32::random(&mut *self.core.rng);
        let mut peer = new_peer(link.device, link.account, right_given, now);
        peer.right_received = Some(link.right());
        peer.addresses.clone_from(&link.addresses);
        peer.relays.clone_from(&link.relays);
        self.put_new_peer(peer)
    }

    /// The invite whose acceptance is on its way to a device.
    pub(super) fn pending_invite(&self, device: &DeviceId) -> Result<Option<Link>, Fault> {
        let Some(contact) = self.core.contact_of(device)? else { return Ok(None) };
        let Some(pending) = &contact.pending else { return Ok(None) };
        if contact.state != ContactState::Waiting {
            return Ok(None);
        }
        Ok(Link::from_bytes(&pending.invite).ok().filter(|link| link.device == *device))
    }

    /// Seals our acceptance in the session just started for it. True: there was one.
    pub(super) fn seal_accept(&mut self, device: DeviceId, session: &Session) -> Result<bool, Fault> {
        let Some(link) = self.pending_invite(&device)? else { return Ok(false) };
        let Some(mut job) = self.open_accept(&device)? else { return Ok(false) };
        let start = session.start.as_ref().and_then(|start| SessionStart::decode(start).ok());
        let Some(start) = start else { return Err(Fault::Internal("reading a session start")) };
        let acceptance = Acceptance {
            inviter: link.account,
            accepter: self.core.own.account,
            inviter_device: device,
            accepter_device: self.core.own.device,
            base_key: start.base_key,
        };
        let signature = link.secret.sign_accept(&acceptance);
        let info = Box::new(self.info_for(device)?);
        let body = PayloadBody::Accept { invite: link.id(), signature, info };
        job.sealed = self.seal_in(session.clone(), body)?;
        let (seq, sealed) = (job.seq, job.sealed.clone());
        self.core.put(job);
        if let Some(sealed) = sealed {
            self.send_sealed(device, seq, &sealed);
        }
        Ok(true)
    }

    /// Whether a stranger proves that it holds one of our invites. Spent ones count too: their holder is owed an answer.
    pub(super) fn holds_invite(
        &self,
        peer: &DeviceId,
        invite: Option<(InviteId, [u8; 32])>,
    ) -> Result<bool, Fault> {
        let Some((id, proof)) = invite else { return Ok(false) };
        let Some(row) = self.core.get::<Invite>(&Key::Invite(id))? else { return Ok(false) };
        let secret = InviteSecret::from_padded(&row.secret);
        Ok(secret.verify_bundle_proof(peer, &self.core.own.device, &proof))
    }

    /// Somebody accepts one of our invites.
    pub(super) fn accept_came(
        &mut self,
        opened: &Opened,
        invite: InviteId,
        signature: &[u8; 64],
        info: &ContactInfo,
    ) -> Result<(), Fault> {
        let from = opened.from;
        let (Some(base_key), Some(account)) = (opened.base_key, opened.account) else {
            return Err(Fault::Misbehaviour("accepts an invite in a session that is not fresh".into()));
        };
        let Some(mut row) = self.core.get::<Invite>(&Key::Invite(invite))? else {
            return Err(Fault::Misbehaviour("accepts an invite that is not ours".into()));
        };
        let acceptance = Acceptance {
            inviter: self.core.own.account,
            accepter: account,
            inviter_device: self.core.own.device,
            accepter_device: from,
            base_key,
        };
        if account == self.core.own.account
            || !InviteSecret::from_padded(&row.secret).verify_accept(&acceptance, signature)
        {
            return Err(Fault::Misbehaviour("accepts an invite without holding it".into()));
        }
        let state = self.core.contact(&account)?.map(|contact| contact.state);
        if state == Some(ContactState::Blocked) {
            return Ok(());
        }
        // repeating is harmless while it changes nothing; whoever was removed needs a new invite
        let used = row.used_by.contains(&account);
        let again = used && state == Some(ContactState::Accepted);
        let late = self.core.now.wall > row.expires;
        let refusal = match row.state {
            _ if again => None,
            _ if used => Some(RefusedReason::Revoked),
            InviteState::Revoked => Some(RefusedReason::Revoked),
            InviteState::Used => Some(RefusedReason::Used),
            InviteState::Expired => Some(RefusedReason::Expired),
            InviteState::Live if late => Some(RefusedReason::Expired),
            InviteState::Live => None,
        };
        if let Some(reason) = refusal {
            return self.refuse_acceptance(opened, invite, reason, info);
        }
        if !again {
            row.uses = row.uses.saturating_sub(1);
            row.used_by.push(account);
            if row.uses == 0 {
                row.state = InviteState::Used;
                self.withdraw_invite(&row);
            }
            self.core.put(row);
        }
        self.befriend(account, from, info)?;
        let body = PayloadBody::Welcome { invite, info: Box::new(self.info_for(from)?) };
        self.enqueue_payload(from, account, body)?;
        Ok(())
    }

    /// Turns an acceptance down, in the session it came in. Nothing of the stranger is kept.
    fn refuse_acceptance(
        &mut self,
        opened: &Opened,
        invite: InviteId,
        reason: RefusedReason,
        info: &ContactInfo,
    ) -> Result<(), Fault> {
        let from = opened.from;
        let stranger = self.core.peer(&from)?.is_none();
        let account = opened.account.unwrap_or(AccountId([0; 32]));
        if stranger {
            // only to seal the answer with, and to bring it to their relays
            let right = Secret32::random(&mut *self.core.rng);
            let mut peer = new_peer(from, account, right, self.core.now.wall);
            peer.right_received = Some(info.right.clone());
            peer.relays.clone_from(&info.relays);
            self.core.put(peer);
        }
        let body = PayloadBody::Refused { invite, reason };
        let sealed = self.seal_in(opened.session.clone(), body.clone())?;
        let Some(sealed) = sealed else { return self.forget_stranger(from) };
        if self.links.contains_key(&from) {
            self.send_frame(from, &crate::wire::Frame::Envelope(sealed.bytes));
        } else if !info.relays.is_empty() {
            let body = JobBody::Payload(super::gaps::encode_body(body));
            self.enqueue(from, account, body, ANSWER_TTL, Some(sealed))?;
            return Ok(());
        }
        self.forget_stranger(from)
    }

    /// Whether a device is nobody's whom we know, or theirs whom we removed.
    pub(super) fn is_stranger(&self, device: &DeviceId) -> Result<bool, Fault> {
        let contact = self.core.contact_of(device)?;
        Ok(contact.is_none_or(|contact| contact.state == ContactState::Removed))
    }

    /// Nothing is kept of somebody who is no contact.
    pub(super) fn forget_stranger(&mut self, device: DeviceId) -> Result<(), Fault> {
        if !self.is_stranger(&device)? {
            return Ok(());
        }
        for session in self.core.sessions(&device)? {
            self.delete_session(device, session.id)?;
        }
        self.core.delete(Key::Peer(device));
        Ok(())
    }

    /// Our acceptance was answered with a welcome.
    pub(super) fn welcomed(
        &mut self,
        contact: Contact,
        from: DeviceId,
        invite: InviteId,
        info: &ContactInfo,
    ) -> Result<(), Fault> {
        let ours = self.pending_invite(&from)?.is_some_and(|link| link.id() == invite);
        if contact.state == ContactState::Accepted {
            // a welcome that is repeated, or that crossed with theirs
            return self.info_came(contact, from, info);
        }
        if !ours {
            return Err(Fault::Misbehaviour("welcomes without being asked".into()));
        }
        self.end_accept(from)?;
        self.befriend(contact.account, from, info)
    }

    /// Our acceptance was turned down.
    pub(super) fn acceptance_refused(
        &mut self,
        mut contact: Contact,
        from: DeviceId,
        invite: InviteId,
        reason: RefusedReason,
    ) -> Result<(), Fault> {
        if self.pending_invite(&from)?.is_none_or(|link| link.id() != invite) {
            return Err(Fault::Misbehaviour("refuses what was not asked".into()));
        }
        let why = reason.why();
        let text = format!("{} did not take the invite: {why}. Ask for a new one.", contact.display_name());
        contact.state = ContactState::Refused;
        if let Some(pending) = &mut contact.pending {
            pending.refused = Some(reason.number());
        }
        let account = contact.account;
        self.core.put(contact);
        self.drop_jobs(from, "the invite was refused")?;
        self.core.event(EventBody::Contact { account, state: ContactState::Refused });
        self.core.notice("refused", text, super::core::About::account(account));
        Ok(())
    }

    /// The time to have an acceptance answered is over.
    pub(super) fn accept_expired(&mut self, account: AccountId) -> Result<(), Fault> {
        let Some(mut contact) = self.core.contact(&account)? else { return Ok(()) };
        if contact.state != ContactState::Waiting {
            return Ok(());
        }
        contact.state = ContactState::Expired;
        let devices = contact.devices.clone();
        let name = contact.display_name();
        self.core.put(contact);
        for device in devices {
            self.drop_jobs(device, "the invite expired before both were on-line")?;
        }
        self.core.event(EventBody::Contact { account, state: ContactState::Expired });
        let text = format!("{name}'s invite expired before both of you were on-line. Ask for a new one.");
        self.core.notice("expired", text, super::core::About::account(account));
        Ok(())
    }

    fn end_accept(&mut self, device: DeviceId) -> Result<(), Fault> {
        let open: Option<Job> = self.open_accept(&device)?;
        match open {
            Some(job) => self.end_job(device, job.seq),
            None => Ok(()),
        }
    }

    /// Invites whose time is over are marked, and forgotten when nobody is owed an answer any more.
    pub(super) fn prune_invites(&mut self) -> Result<(), Fault> {
        let Some(believed) = self.core.believed() else { return Ok(()) };
        let invites: Vec<Invite> = self.core.range(&KeyRange::Invites, limits::INVITES)?;
        for mut invite in invites {
            if believed > invite.expires.plus(limits::INVITE_GRACE) {
                self.revoke(&right_of(&invite))?;
                self.core.delete(Key::Invite(invite.id));
            } else if believed > invite.expires && invite.state == InviteState::Live {
                invite.state = InviteState::Expired;
                self.withdraw_invite(&invite);
                self.core.put(invite);
            }
        }
        Ok(())
    }
}

/// The right that envelopes under an invite are sealed with.
pub(super) fn right_of(invite: &Invite) -> Secret32 {
    InviteSecret::from_padded(&invite.secret).right()
}

pub(super) fn new_contact(account: AccountId, since: Wall) -> Contact {
    Contact {
        account,
        name: String::new(),
        about: String::new(),
        own_name: None,
        state: ContactState::Waiting,
        verified: false,
        read_receipts: None,
        since,
        last_seen: None,
        contact_key: None,
        pending: None,
        before_block: None,
        devices: Vec::new(),
    }
}

pub(super) const fn new_peer(
    device: DeviceId,
    account: AccountId,
    right_given: Secret32,
    first_seen: Wall,
) -> Peer {
    Peer {
        device,
        account,
        right_given,
        right_received: None,
        addresses: Vec::new(),
        relays: Vec::new(),
        first_week: 0,
        week_keys: Vec::new(),
        directory_seq: 0,
        weeks_given_until: 0,
        repair_asked: None,
        repair_served: None,
        first_seen,
    }
}
