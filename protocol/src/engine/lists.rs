//! Device lists of contacts: those that come, and those that are only heard of.

use std::collections::BTreeMap;

use super::core::About;
use super::invites::new_peer;
use super::timer::Timer;
use super::{Engine, Fault};
use crate::id::{AccountId, DeviceId};
use crate::identity::{DeviceList, ListChange};
use crate::limits;
use crate::record::{Contact, ContactState, Key, Owner, PeerDeviceList};
use crate::secret::Secret32;
use crate::wire::PayloadBody;

/// The directory has this long to show a list before the contact is asked for it.
const WAIT: u64 = 10 * limits::SECOND;
/// First pause between two asks.
const PAUSE: u64 = limits::MINUTE;
/// Whoever names lists that do not exist is asked so often in one process.
const ASKS: u32 = 8;
/// Least time between two answers to one device.
const ANSWERS: u64 = limits::MINUTE;

/// A list that a contact named and that is not here.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) version: u64,
    hash: [u8; 32],
    asked: u32,
}

/// Lists heard of, by account.
pub(super) type Lists = BTreeMap<AccountId, Heard>;

impl Engine {
    /// A signed device list of a contact: newer ones replace what is known, and news are told.
    pub(super) fn list_came(&mut self, account: AccountId, list: &DeviceList) -> Result<(), Fault> {
        if list.account != account {
            return Err(Fault::Misbehaviour("shows another account's device list".into()));
        }
        let Some(mut contact) = self.core.contact(&account)? else { return Ok(()) };
        let known: Option<PeerDeviceList> = self.core.get(&Key::DeviceList(account))?;
        if let Some(mut known) = known {
            let parsed = DeviceList::parse(&known.list)
                .map_err(|_| Fault::Internal("reading a stored device list"))?;
            match list.compare(&parsed) {
                ListChange::Newer => {}
                ListChange::Same | ListChange::Older => return Ok(()),
                ListChange::Fork => {
                    if !known.forked {
                        known.forked = true;
                        self.core.put(known);
                        let text = format!(
                            "{}'s account has signed two different device lists. Somebody else may hold the account: \
                             compare safety numbers before you go on.",
                            contact.display_name()
                        );
                        self.core.notice("fork", text, About::account(account));
                    }
                    return Ok(());
                }
            }
            for certificate in &list.devices {
                if !contact.devices.contains(&certificate.device) {
                    let text = format!("{} uses a new device.", contact.display_name());
                    self.core.notice("new-device", text, About::device(account, certificate.device));
                }
            }
        }
        let devices: Vec<DeviceId> = list.devices.iter().map(|certificate| certificate.device).collect();
        for gone in contact.devices.iter().filter(|device| !devices.contains(device)) {
            self.drop_jobs(*gone, "the device left its account")?;
            self.forget_device(*gone)?;
        }
        let now = self.core.now.wall;
        for device in &devices {
            self.core.put(Owner { device: *device, account });
            if self.core.peer(device)?.is_none() {
                let right = Secret32::random(&mut *self.core.rng);
                self.put_new_peer(new_peer(*device, account, right, now))?;
            }
        }
        if self.lists.remove(&account).is_some_and(|heard| heard.version > list.version) {
            tracing::debug!(contact = %account.short(), "a still newer device list exists");
        }
        let (version, bytes) = (list.version, list.bytes.clone());
        self.core.put(PeerDeviceList { account, version, list: bytes, forked: false });
        contact.devices = devices;
        self.core.put(contact);
        Ok(())
    }

    /// A contact's device names its account's device list. If that is not the one we know, it is looked for in the
    /// directory, then asked for: it may take a device off the account, or show that somebody else signs lists.
    pub(super) fn list_heard(
        &mut self,
        contact: &Contact,
        from: DeviceId,
        version: u64,
        hash: &[u8; 32],
    ) -> Result<(), Fault> {
        let account = contact.account;
        if !self.is_unknown_list(&account, version, hash)? {
            return Ok(());
        }
        if let Some(heard) = self.lists.get_mut(&account) {
            (heard.version, heard.hash) = (version, *hash);
            return Ok(());
        }
        tracing::debug!(contact = %account.short(), version, "another device list exists");
        self.lists.insert(account, Heard { version, hash: *hash, asked: 0 });
        if let Some(peer) = self.core.peer(&from)? {
            self.look_up(contact, &peer)?;
        }
        self.core.timers.set(Timer::List(from), self.core.now.mono.plus(WAIT));
        Ok(())
    }

    /// Newer than what we know, or different under the same number.
    fn is_unknown_list(&self, account: &AccountId, version: u64, hash: &[u8; 32]) -> Result<bool, Fault> {
        let known: Option<PeerDeviceList> = self.core.get(&Key::DeviceList(*account))?;
        let Some(known) = known.filter(|_| hash != &[0; 32]) else { return Ok(false) };
        if version != known.version || known.forked {
            return Ok(version > known.version);
        }
        // with every payload that comes: nothing here may cost a signature
        Ok(DeviceList::hash_of(&known.list) != *hash)
    }

    /// A list has not come: the device that named it is asked, with growing pauses, and the directory looked at again.
    pub(super) fn list_missing(&mut self, device: DeviceId) -> Result<(), Fault> {
        let Some(contact) = self.core.contact_of(&device)? else { return Ok(()) };
        let account = contact.account;
        let Some(heard) = self.lists.get(&account) else { return Ok(()) };
        let (version, hash, asked) = (heard.version, heard.hash, heard.asked);
        if !self.is_unknown_list(&account, version, &hash)? {
            self.lists.remove(&account);
            return Ok(());
        }
        let Some(peer) = self.core.peer(&device)? else { return Ok(()) };
        if asked >= ASKS || contact.state != ContactState::Accepted {
            return Ok(());
        }
        if let Some(heard) = self.lists.get_mut(&account) {
            heard.asked = asked.saturating_add(1);
        }
        self.look_up(&contact, &peer)?;
        if !self.is_backed_up(&device)? {
            self.enqueue_payload(device, account, PayloadBody::ListRequest)?;
        }
        self.core.timers.set(Timer::List(device), self.core.now.mono.plus(PAUSE << asked.min(16)));
        Ok(())
    }

    /// A contact's device asks for our device list: an update brings it.
    pub(super) fn list_asked(&mut self, account: AccountId, device: DeviceId) -> Result<(), Fault> {
        let now = self.core.now.mono;
        let lately = self.lists_told.get(&device).is_some_and(|told| now.since(*told) < ANSWERS);
        if lately || self.is_backed_up(&device)? {
            return Ok(());
        }
        self.lists_told.insert(device, now);
        self.tell_about_us(account, device)
    }
}
