//! What contacts are told about us. Something new is told to all of them a stretch at a time: each device costs some rows, a
//! batch has a limit, and others want to be served meanwhile.

use std::collections::VecDeque;

use super::timer::Timer;
use super::{Engine, Fault};
use crate::directory::week_key_pair;
use crate::id::{AccountId, DeviceId};
use crate::limits;
use crate::record::{Contact, ContactState, Key, KeyRange, Peer, Telling};
use crate::secret::Secret32;
use crate::wire::{ContactInfo, PayloadBody};

/// Devices told in one batch.
const STRETCH: usize = limits::ROWS_PER_TURN / 4;

/// Public keys of our weekly directory records, as they were told last.
#[derive(Debug)]
pub(super) struct WeekKeys {
    seed: Secret32,
    first: u64,
    keys: Vec<[u8; 32]>,
}

/// Accounts whose devices are still to be told, ascending.
pub(super) type Untold = VecDeque<AccountId>;

impl Engine {
    /// What a contact's device is told about us. Notes up to which week it has our directory keys.
    pub(super) fn info_for(&mut self, device: DeviceId) -> Result<ContactInfo, Fault> {
        let first_week = self.core.now.wall.week().saturating_sub(1);
        let directory_seq = self.core.next_directory_seq();
        let week_keys = self.week_keys_from(first_week);
        let own = &self.core.own;
        let Some(mut peer) = self.core.peer(&device)? else {
            return Err(Fault::Internal("telling a stranger about ourselves"));
        };
        peer.weeks_given_until = first_week.saturating_add(limits::WEEK_KEYS as u64);
        let info = ContactInfo {
            device_list: own.device_list.clone(),
            name: own.name.clone(),
            about: own.about.clone(),
            contact_key: own.contact_key.clone(),
            first_week,
            week_keys,
            right: peer.right_given.clone(),
            addresses: self.directory.addresses.iter().take(limits::ADDRESSES).cloned().collect(),
            relays: self.named_relays()?,
            directory_seq,
        };
        self.core.put(peer);
        Ok(info)
    }

    /// Our weekly directory keys from a week on: the same for all who are told, and dear to make.
    fn week_keys_from(&mut self, first: u64) -> Vec<[u8; 32]> {
        let own = &self.core.own;
        if let Some(made) = &self.week_keys
            && made.first == first
            && made.seed == own.directory_seed
        {
            return made.keys.clone();
        }
        let weeks = first..first.saturating_add(limits::WEEK_KEYS as u64);
        let keys: Vec<[u8; 32]> =
            weeks.map(|week| week_key_pair(&own.directory_seed, &own.device, week).public()).collect();
        self.week_keys = Some(WeekKeys { seed: own.directory_seed.clone(), first, keys: keys.clone() });
        keys
    }

    /// Every contact's devices are told anew about us: a first stretch in this turn, the others in turns of their own, also
    /// after a stop.
    pub(super) fn tell_contacts(&mut self) -> Result<(), Fault> {
        self.untold = self.told_after(None)?;
        self.tell_stretch(None)
    }

    /// Tells the next stretch, if all have not been told.
    pub(super) fn tell_more(&mut self) -> Result<(), Fault> {
        let Some(row) = self.core.get::<Telling>(&Key::Telling)? else {
            self.untold.clear();
            return Ok(());
        };
        // once more if this fails
        self.core.timers.set(Timer::Tell, self.core.now.mono.plus(limits::MINUTE));
        if self.untold.is_empty() {
            self.untold = self.told_after(row.after)?;
        }
        let told = self.tell_stretch(row.after);
        if told.is_err() {
            self.untold.clear();
        }
        told
    }

    /// Goes on where a stop came between.
    pub(super) fn resume_telling(&mut self) -> Result<(), Fault> {
        if self.core.get::<Telling>(&Key::Telling)?.is_some() {
            self.core.timers.set(Timer::Tell, self.core.now.mono);
        }
        Ok(())
    }

    fn told_after(&self, after: Option<AccountId>) -> Result<Untold, Fault> {
        let contacts: Vec<Contact> = self.core.range(&KeyRange::Contacts, limits::CONTACTS)?;
        let accepted = contacts.into_iter().filter(|contact| contact.state == ContactState::Accepted);
        let mut accounts: Vec<AccountId> =
            accepted.map(|contact| contact.account).filter(|account| Some(*account) > after).collect();
        accounts.sort_unstable();
        Ok(accounts.into())
    }

    fn tell_stretch(&mut self, after: Option<AccountId>) -> Result<(), Fault> {
        let (mut told, mut after) = (0, after);
        while told < STRETCH
            && let Some(account) = self.untold.pop_front()
        {
            after = Some(account);
            told += match self.tell_contact(account) {
                // one that cannot be read must not keep the others from being told
                Err(fault @ Fault::Read(_)) => {
                    self.report(&fault, "telling a contact about us");
                    1
                }
                told => told?,
            };
        }
        if !self.untold.is_empty() {
            self.core.put(Telling { after });
            self.core.timers.set(Timer::Tell, self.core.now.mono.plus(1));
            return Ok(());
        }
        if self.core.get::<Telling>(&Key::Telling)?.is_some() {
            self.core.delete(Key::Telling);
        }
        self.core.timers.cancel(Timer::Tell);
        Ok(())
    }

    fn tell_contact(&mut self, account: AccountId) -> Result<usize, Fault> {
        let contact = self.core.contact(&account)?;
        let Some(contact) = contact.filter(|contact| contact.state == ContactState::Accepted) else {
            return Ok(1);
        };
        for device in &contact.devices {
            self.tell_about_us(account, *device)?;
        }
        Ok(contact.devices.len().max(1))
    }

    pub(super) fn tell_about_us(&mut self, account: AccountId, device: DeviceId) -> Result<(), Fault> {
        if self.core.peer(&device)?.is_none() {
            return Ok(());
        }
        let info = Box::new(self.info_for(device)?);
        self.enqueue_payload(device, account, PayloadBody::Update(info))?;
        Ok(())
    }

    /// Contacts' devices that run short of our weekly directory keys get the next ones: looked at once a week and at the
    /// start, some are told at a time. True: there are more.
    pub(super) fn top_up_weeks(&mut self) -> Result<bool, Fault> {
        let week = self.core.now.wall.week();
        if self.topped_up == Some(week) {
            return Ok(false);
        }
        let low = week.saturating_add(limits::WEEK_KEYS_LOW as u64);
        let contacts: Vec<Contact> = self.core.range(&KeyRange::Contacts, limits::CONTACTS)?;
        let mut told = 0;
        for contact in contacts.into_iter().filter(|contact| contact.state == ContactState::Accepted) {
            for device in contact.devices {
                let peer: Option<Peer> = self.core.peer(&device)?;
                if peer.is_some_and(|peer| peer.weeks_given_until < low) {
                    if told == STRETCH {
                        return Ok(true);
                    }
                    self.tell_about_us(contact.account, device)?;
                    told += 1;
                }
            }
        }
        self.topped_up = Some(week);
        Ok(false)
    }
}
