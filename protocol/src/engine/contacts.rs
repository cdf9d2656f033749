//! Contacts: what they tell us about themselves, and what the person does with them.

use super::command::{Answer, CommandError};
use super::invites::{new_contact, new_peer};
use super::output::{Output, Transient};
use super::{Engine, Fault};
use crate::id::{AccountId, DeviceId};
use crate::identity::{self, DeviceList};
use crate::limits;
use crate::record::{Contact, ContactState, EventBody, GrantOf, Key, Owner, Session};
use crate::secret::Secret32;
use crate::wire::{ContactInfo, Frame};

impl Engine {
    /// Both sides know each other now: the contact, its device and its list, in one batch with what caused it.
    pub(super) fn befriend(
        &mut self,
        account: AccountId,
        device: DeviceId,
        info: &ContactInfo,
    ) -> Result<(), Fault> {
        let now = self.core.now.wall;
        let list =
            DeviceList::parse(&info.device_list).map_err(|error| Fault::Misbehaviour(error.to_string()))?;
        if list.account != account || list.certificate(&device).is_none() {
            return Err(Fault::Misbehaviour("shows a device list that it is not on".into()));
        }
        let mut contact = self.core.contact(&account)?.unwrap_or_else(|| new_contact(account, now));
        let news = contact.state != ContactState::Accepted;
        contact.state = ContactState::Accepted;
        contact.pending = None;
        contact.last_seen = Some(now);
        if contact.devices.is_empty() {
            contact.devices = vec![device];
        }
        self.core.put(contact.clone());
        self.core.put(Owner { device, account });
        match self.core.peer(&device)? {
            Some(peer) => self.grant(&peer.right_given, GrantOf::Peer(device), None)?,
            None => {
                let right = Secret32::random(&mut *self.core.rng);
                self.put_new_peer(new_peer(device, account, right, now))?;
            }
        }
        self.info_came(contact, device, info)?;
        if news {
            self.core.event(EventBody::Contact { account, state: ContactState::Accepted });
            if self.links.contains_key(&device) {
                self.core.say(Output::Transient(Transient::Online { account, online: true }));
            }
        }
        self.greet(device);
        Ok(())
    }

    /// Now that the device is a contact's, it is told what contacts are told.
    fn greet(&mut self, device: DeviceId) {
        let list = Some((self.core.keys.list.version, self.core.keys.list_hash));
        self.send_frame(device, &Frame::Hello { version: 1, list, time: self.core.now.wall });
    }

    /// A contact's device tells about its person and itself.
    pub(super) fn info_came(
        &mut self,
        mut contact: Contact,
        from: DeviceId,
        info: &ContactInfo,
    ) -> Result<(), Fault> {
        let before = (contact.name.clone(), contact.about.clone());
        contact.name.clone_from(&info.name);
        contact.about.clone_from(&info.about);
        contact.contact_key = Some(info.contact_key.clone());
        let changed = before != (contact.name.clone(), contact.about.clone());
        let (account, state) = (contact.account, contact.state);
        self.core.put(contact);
        let list =
            DeviceList::parse(&info.device_list).map_err(|error| Fault::Misbehaviour(error.to_string()))?;
        self.list_came(account, &list)?;
        let Some(mut peer) = self.core.peer(&from)? else { return Ok(()) };
        let before_right = peer.right_received.replace(info.right.clone());
        // what the directory still holds from before this must not undo it
        peer.directory_seq = peer.directory_seq.max(info.directory_seq);
        peer.first_week = info.first_week;
        peer.week_keys.clone_from(&info.week_keys);
        if peer.relays != info.relays || before_right != peer.right_received {
            peer.relays.clone_from(&info.relays);
            self.carry_anew(from);
        }
        for address in info.addresses.iter().rev() {
            peer.addresses.retain(|known| known != address);
            peer.addresses.insert(0, address.clone());
        }
        peer.addresses.truncate(limits::ADDRESSES);
        self.core.put(peer);
        self.pump.insert(from);
        if changed {
            self.core.event(EventBody::Contact { account, state });
        }
        Ok(())
    }

    /// Forgets a device's keys and sessions. What others remember of it (receipts, journeys) stays.
    pub(super) fn forget_device(&mut self, device: DeviceId) -> Result<(), Fault> {
        let sessions: Vec<Session> = self.core.sessions(&device)?;
        for session in sessions {
            self.delete_session(device, session.id)?;
        }
        if let Some(peer) = self.core.peer(&device)? {
            self.revoke(&peer.right_given)?;
        }
        self.wishes.remove(&device);
        self.inbound.remove(&device);
        self.relayed.owed.remove(&device);
        self.lacking.remove(&device);
        self.lost.retain(|(of, _), _| *of != device);
        self.lists_told.remove(&device);
        self.drop_jobs(device, "the contact was removed here")?;
        self.core.delete(Key::Peer(device));
        Ok(())
    }

    // ---- what the person does ------------------------------------------------------------------------------------

    fn known(&self, account: &AccountId) -> Result<Contact, CommandError> {
        self.core.contact(account)?.ok_or(CommandError::UnknownContact)
    }

    pub(super) fn rename(
        &mut self,
        account: AccountId,
        name: Option<String>,
    ) -> Result<Answer, CommandError> {
        let mut contact = self.known(&account)?;
        contact.own_name = name.map(|name| check_name(&name)).transpose()?;
        self.put_changed(contact);
        Ok(Answer::Done)
    }

    pub(super) fn verify_contact(
        &mut self,
        account: AccountId,
        verified: bool,
    ) -> Result<Answer, CommandError> {
        let mut contact = self.known(&account)?;
        contact.verified = verified;
        self.put_changed(contact);
        Ok(Answer::Done)
    }

    fn put_changed(&mut self, contact: Contact) {
        let (account, state) = (contact.account, contact.state);
        self.core.put(contact);
        self.core.event(EventBody::Contact { account, state });
    }

    pub(super) fn block(&mut self, account: AccountId) -> Result<Answer, CommandError> {
        let mut contact = self.known(&account)?;
        if contact.state == ContactState::Blocked {
            return Ok(Answer::Done);
        }
        self.out_of_sight(&contact);
        contact.before_block = Some(contact.state);
        contact.state = ContactState::Blocked;
        self.turn_away(&contact.devices);
        for device in &contact.devices {
            if let Some(peer) = self.core.peer(device)? {
                self.revoke(&peer.right_given)?;
            }
        }
        self.put_changed(contact);
        self.renew_secrets()?;
        Ok(Answer::Done)
    }

    pub(super) fn unblock(&mut self, account: AccountId) -> Result<Answer, CommandError> {
        let mut contact = self.known(&account)?;
        if contact.state != ContactState::Blocked {
            return Ok(Answer::Done);
        }
        contact.state = contact.before_block.take().unwrap_or(ContactState::Removed);
        let (devices, state) = (contact.devices.clone(), contact.state);
        self.put_changed(contact);
        for device in devices {
            self.core.say(Output::Admit { peer: device });
            if matches!(state, ContactState::Accepted | ContactState::Waiting)
                && let Some(peer) = self.core.peer(&device)?
            {
                self.grant(&peer.right_given, GrantOf::Peer(device), None)?;
            }
            if state == ContactState::Accepted {
                self.tell_about_us(account, device)?;
            }
            self.reach_now(device);
        }
        Ok(Answer::Done)
    }

    pub(super) fn remove(&mut self, account: AccountId) -> Result<Answer, CommandError> {
        let mut contact = self.known(&account)?;
        let was_known = contact.state == ContactState::Accepted;
        self.out_of_sight(&contact);
        if contact.state == ContactState::Blocked {
            for device in &contact.devices {
                self.core.say(Output::Admit { peer: *device });
            }
        }
        contact.state = ContactState::Removed;
        contact.pending = None;
        contact.contact_key = None;
        contact.before_block = None;
        for device in contact.devices.clone() {
            self.forget_device(device)?;
            self.reached(device);
        }
        self.core.delete(Key::DeviceList(account));
        self.put_changed(contact);
        if was_known {
            self.renew_secrets()?;
        }
        Ok(Answer::Done)
    }

    /// Whoever is about to be a contact no more is not seen on-line any more, whatever becomes of the link.
    fn out_of_sight(&mut self, contact: &Contact) {
        let linked = contact.devices.iter().any(|device| self.links.contains_key(device));
        if contact.state == ContactState::Accepted && linked {
            let account = contact.account;
            self.core.say(Output::Transient(Transient::Online { account, online: false }));
        }
    }

    fn turn_away(&mut self, devices: &[DeviceId]) {
        for device in devices {
            self.core.say(Output::Refuse { peer: *device });
            self.reached(*device);
        }
    }

    /// Who was blocked or removed must not find us any more: new directory keys, told to everyone who stays.
    fn renew_secrets(&mut self) -> Result<(), Fault> {
        self.core.own.directory_seed = Secret32::random(&mut *self.core.rng);
        self.core.own.contact_key = Secret32::random(&mut *self.core.rng);
        self.core.put_own();
        self.publish_soon();
        self.tell_contacts()
    }

    pub(super) fn set_read_receipts(
        &mut self,
        account: Option<AccountId>,
        on: Option<bool>,
    ) -> Result<Answer, CommandError> {
        match account {
            Some(account) => {
                let mut contact = self.known(&account)?;
                contact.read_receipts = on;
                self.core.put(contact);
            }
            None => {
                self.core.settings.read_receipts = on.unwrap_or(true);
                let settings = self.core.settings.clone();
                self.core.put(settings);
            }
        }
        Ok(Answer::Done)
    }

    pub(super) fn set_typing(&mut self, on: bool) -> Result<Answer, CommandError> {
        self.core.settings.typing = on;
        let settings = self.core.settings.clone();
        self.core.put(settings);
        Ok(Answer::Done)
    }

    pub(super) fn set_profile(
        &mut self,
        name: Option<String>,
        about: Option<String>,
    ) -> Result<Answer, CommandError> {
        if let Some(name) = name {
            self.core.own.name = check_name(&name)?;
        }
        if let Some(about) = about {
            identity::check_line(&about).map_err(|error| CommandError::Invalid(error.to_string()))?;
            self.core.own.about = about;
        }
        self.core.put_own();
        self.tell_contacts()?;
        Ok(Answer::Done)
    }

    pub(super) fn typing(&mut self, to: AccountId, active: bool) -> Result<Answer, CommandError> {
        let contact = self.known(&to)?;
        if contact.state == ContactState::Accepted && self.core.settings.typing {
            let conversation = self.direct_id(to);
            for device in contact.devices {
                self.send_frame(device, &Frame::Typing { conversation, active });
            }
        }
        Ok(Answer::Done)
    }

    /// Our device list is renewed long before it ends, where the account key is.
    pub(super) fn renew_list(&mut self) -> Result<(), Fault> {
        let now = self.core.now.wall;
        let list = &self.core.keys.list;
        if list.expires.since(now) > limits::DEVICE_LIST_TTL / 3 {
            return Ok(());
        }
        let Some(account) = &self.core.keys.account else { return Ok(()) };
        let expires = now.plus(limits::DEVICE_LIST_TTL);
        let version = list.version.saturating_add(1);
        let renewed =
            DeviceList::sign(account, version, Some(list.hash()), now, expires, list.devices.clone());
        self.core.set_own_list(renewed);
        self.tell_contacts()
    }
}

fn check_name(name: &str) -> Result<String, CommandError> {
    identity::check_name(name).map_err(|error| CommandError::Invalid(error.to_string()))
}
