//! Reaching devices: dialling, looking up and publishing directory records.

use std::collections::BTreeMap;

use super::links::Link;
use super::output::Output;
use super::timer::Timer;
use super::{Engine, Fault};
use crate::directory::{self, DeviceAddresses};
use crate::id::{Address, DeviceId, DirectoryKey};
use crate::identity::{DeviceList, KeyPair};
use crate::invite::InviteSecret;
use crate::limits;
use crate::record::{Contact, ContactState, Invite, InviteState, KeyRange, Peer};
use crate::secret::Secret32;
use bytes::Bytes;

/// What is known of the directory while this process lives.
#[derive(Debug, Default)]
pub(super) struct Directory {
    /// Where we can be reached.
    pub(super) addresses: Vec<Address>,
    /// A first peer answered.
    ready: bool,
    /// Searches under way, and for whom.
    finds: BTreeMap<DirectoryKey, Wanted>,
    /// Records we keep there.
    provided: Vec<DirectoryKey>,
}

#[derive(Debug, Clone)]
enum Wanted {
    /// A contact's device; the key opens its record.
    Device(DeviceId, Secret32),
    /// Our own record, to see whether this device is older than it was.
    Own,
}

/// Attempts to reach one device.
#[derive(Debug, Default)]
pub(super) struct Reach {
    attempts: u32,
    /// Links in a row that did not last.
    short_lived: u32,
}

/// A link that lasted so long is no sign of trouble.
const SETTLED: u64 = 10 * limits::SECOND;
/// So many links in a row may break early before the next one has to wait.
const RESTLESS: u32 = 3;

/// A record is published a little after the reason for it, so that several reasons make one.
const PUBLISH_DELAY: u64 = 300;
/// In the first and last day of a week the neighbouring week's record is published too.
const WEEK_EDGE: u64 = limits::DAY;

impl Engine {
    /// Plans the first attempts after a start.
    pub(super) fn plan_reach(&mut self) -> Result<(), Fault> {
        let contacts: Vec<Contact> = self.core.range(&KeyRange::Contacts, limits::CONTACTS)?;
        for contact in contacts {
            match contact.state {
                ContactState::Accepted | ContactState::Waiting => {
                    for device in contact.devices {
                        self.reach_now(device);
                    }
                }
                ContactState::Blocked => {
                    for peer in contact.devices {
                        self.core.say_now(Output::Refuse { peer });
                    }
                }
                ContactState::Refused | ContactState::Expired | ContactState::Removed => {}
            }
        }
        Ok(())
    }

    pub(super) fn reach_now(&mut self, device: DeviceId) {
        self.reach.insert(device, Reach::default());
        if !self.links.contains_key(&device) {
            self.core.timers.set(Timer::Reach(device), self.core.now.mono);
        }
    }

    /// After a link was lost: soon, but not both sides at the same moment, and with pauses if links to this device never
    /// last, as with one whose disk is full.
    pub(super) fn reach_soon(&mut self, device: DeviceId, gone: &Link) {
        let lasted = self.core.now.mono.since(gone.since) >= SETTLED;
        let short_lived = if lasted { 0 } else { gone.short_lived.saturating_add(1) };
        self.reach.insert(device, Reach { attempts: 0, short_lived });
        let pause = match short_lived.checked_sub(RESTLESS) {
            None => 100,
            Some(many) => (limits::BACKOFF_MIN << many.min(16)).min(limits::BACKOFF_MAX),
        };
        let jitter = self.core.below(pause.max(400));
        self.core.timers.set(Timer::Reach(device), self.core.now.mono.plus(pause).plus(jitter));
    }

    /// How many links to a device broke early, one after the other.
    pub(super) fn short_lived(&self, device: &DeviceId) -> u32 {
        self.reach.get(device).map_or(0, |reach| reach.short_lived)
    }

    /// No more attempts: the device is there, or is not wanted.
    pub(super) fn reached(&mut self, device: DeviceId) {
        self.reach.remove(&device);
        self.core.timers.cancel(Timer::Reach(device));
    }

    /// Tries to reach a device at the addresses we know, and looks for newer ones at the same time.
    pub(super) fn reach_timeout(&mut self, device: DeviceId) -> Result<(), Fault> {
        if self.links.contains_key(&device) {
            return Ok(());
        }
        if self.stations.contains_key(&device) {
            return self.reach_relay(device);
        }
        let Some(contact) = self.core.contact_of(&device)? else { return Ok(()) };
        if !matches!(contact.state, ContactState::Accepted | ContactState::Waiting) {
            return Ok(());
        }
        let Some(peer) = self.core.peer(&device)? else { return Ok(()) };
        self.core.say_now(Output::Dial { peer: device, addresses: peer.addresses.clone() });
        self.look_up(&contact, &peer)?;
        self.plan_next_reach(device);
        Ok(())
    }

    /// The next attempt comes later than the one before, up to a bound.
    pub(super) fn plan_next_reach(&mut self, device: DeviceId) {
        let reach = self.reach.entry(device).or_default();
        let pause = (limits::BACKOFF_MIN << reach.attempts.min(16)).min(limits::BACKOFF_MAX);
        reach.attempts = reach.attempts.saturating_add(1);
        let jitter = self.core.below(pause / 2);
        self.core.timers.set(Timer::Reach(device), self.core.now.mono.plus(pause).plus(jitter));
    }

    /// Searches a device's records of this week and, near the edge or in vain, of its neighbours.
    pub(super) fn look_up(&mut self, contact: &Contact, peer: &Peer) -> Result<(), Fault> {
        if !self.directory.ready {
            return Ok(());
        }
        if let Some(link) = self.pending_invite(&peer.device)? {
            let wanted = Wanted::Device(peer.device, link.directory_secret());
            self.find(link.directory(), wanted);
            return Ok(());
        }
        let Some(contact_key) = &contact.contact_key else { return Ok(()) };
        let week = self.core.now.wall.week();
        let weeks = [week, week.saturating_sub(1), week.saturating_add(1)];
        let tried = self.reach.get(&peer.device).map_or(0, |reach| reach.attempts);
        // the neighbours matter when a clock is off or a device has not published this week yet
        let count = if tried == 0 { 1 } else { weeks.len() };
        for week in weeks.into_iter().take(count) {
            let place = week.checked_sub(peer.first_week).and_then(|place| usize::try_from(place).ok());
            let Some(public) = place.and_then(|place| peer.week_keys.get(place)) else { continue };
            let wanted = Wanted::Device(peer.device, contact_key.clone());
            self.find(directory::directory_key(public), wanted);
        }
        Ok(())
    }

    fn find(&mut self, key: DirectoryKey, wanted: Wanted) {
        if self.directory.finds.insert(key, wanted).is_none() {
            self.core.say_now(Output::Find { key });
        }
    }

    /// Something was found under a key we searched; it may be anybody's invention.
    pub(super) fn found(&mut self, key: DirectoryKey, record: &Bytes) -> Result<(), Fault> {
        let Some(wanted) = self.directory.finds.get(&key).cloned() else { return Ok(()) };
        let now = self.core.now.wall;
        match wanted {
            Wanted::Own => {
                let Ok(outer) = directory::check(&key, record, now) else { return Ok(()) };
                if outer.seq > self.core.directory_seq() {
                    self.core.raise_directory_seq(outer.seq);
                    self.publish_soon();
                    self.become_rolled_back()?;
                }
                Ok(())
            }
            Wanted::Device(device, secret) => {
                let Ok(says) = directory::open(&key, record, &secret, &device, now) else { return Ok(()) };
                self.found_device(device, &says)
            }
        }
    }

    fn found_device(&mut self, device: DeviceId, says: &DeviceAddresses) -> Result<(), Fault> {
        let Some(mut peer) = self.core.peer(&device)? else { return Ok(()) };
        if says.seq < peer.directory_seq {
            return Ok(());
        }
        peer.directory_seq = says.seq;
        let before = peer.addresses.clone();
        for address in says.addresses.iter().rev() {
            peer.addresses.retain(|known| known != address);
            peer.addresses.insert(0, address.clone());
        }
        peer.addresses.truncate(limits::ADDRESSES);
        let (account, addresses) = (peer.account, peer.addresses.clone());
        if peer.relays != says.relays {
            peer.relays.clone_from(&says.relays);
            self.pump.insert(device);
        }
        self.core.put(peer);
        if self.core.contact(&account)?.is_some_and(|contact| contact.state == ContactState::Accepted)
            && let Ok(list) = DeviceList::parse(&says.device_list)
        {
            self.list_came(account, &list)?;
        }
        if !self.links.contains_key(&device) && addresses != before {
            self.core.say_now(Output::Dial { peer: device, addresses });
        }
        Ok(())
    }

    pub(super) fn find_ended(&mut self, key: DirectoryKey) {
        self.directory.finds.remove(&key);
    }

    /// A device announced itself on the local network.
    pub(super) fn discovered(&mut self, device: DeviceId, addresses: Vec<Address>) -> Result<(), Fault> {
        if self.links.contains_key(&device) {
            return Ok(());
        }
        let wanted = self
            .core
            .contact_of(&device)?
            .is_some_and(|contact| matches!(contact.state, ContactState::Accepted | ContactState::Waiting));
        if wanted {
            self.core.say_now(Output::Dial { peer: device, addresses });
        }
        Ok(())
    }

    /// A first directory peer answered: what had to wait for that is done now.
    pub(super) fn directory_ready(&mut self) -> Result<(), Fault> {
        self.directory.ready = true;
        let own = &self.core.own;
        let week = self.core.now.wall.week();
        let key = directory::directory_key(&week_key_pair_of(own, week).public());
        self.find(key, Wanted::Own);
        self.publish_soon();
        self.plan_reach()
    }

    pub(super) fn addresses_changed(&mut self, addresses: Vec<Address>) {
        if self.directory.addresses != addresses {
            self.directory.addresses = addresses;
            self.publish_soon();
        }
    }

    pub(super) fn publish_soon(&mut self) {
        self.core.timers.set_earlier(Timer::Publish, self.core.now.mono.plus(PUBLISH_DELAY));
    }

    /// Publishes where this device is: under this week's key, near the edges also the neighbour's, and for each invite.
    pub(super) fn publish(&mut self) -> Result<(), Fault> {
        self.core.timers.set(Timer::Publish, self.core.now.mono.plus(limits::DIRECTORY_REPUBLISH));
        let relays = self.named_relays()?;
        if !self.directory.ready || (self.directory.addresses.is_empty() && relays.is_empty()) {
            return Ok(());
        }
        let now = self.core.now.wall;
        let week = now.week();
        let into = now.0.checked_rem(limits::WEEK).unwrap_or(0);
        let mut weeks = vec![week];
        if into < WEEK_EDGE {
            weeks.push(week.saturating_sub(1));
        } else if into >= limits::WEEK - WEEK_EDGE {
            weeks.push(week.saturating_add(1));
        }
        let mut records = Vec::new();
        let contact_key = self.core.own.contact_key.clone();
        for week in weeks {
            records.push((week_key_pair_of(&self.core.own, week), contact_key.clone()));
        }
        let invites: Vec<Invite> = self.core.range(&KeyRange::Invites, limits::INVITES)?;
        for invite in
            invites.iter().filter(|invite| invite.state == InviteState::Live && invite.expires > now)
        {
            let secret = InviteSecret::from_padded(&invite.secret).directory_secret();
            records.push((KeyPair::from_seed(&invite.directory_seed), secret));
        }
        let seq = self.core.next_directory_seq();
        let says = DeviceAddresses {
            device: self.core.own.device,
            seq,
            expires: now.plus(limits::DIRECTORY_TTL),
            addresses: self.directory.addresses.clone(),
            relays,
            device_list: self.core.own.device_list.clone(),
        };
        let mut provided = Vec::new();
        for (pair, secret) in records {
            let record = directory::build(&pair, &self.core.keys.device, &secret, &says, &mut *self.core.rng)
                .map_err(|_| Fault::Internal("building a directory record"))?;
            let key = directory::directory_key(&pair.public());
            provided.push(key);
            self.core.say(Output::Provide { key, record, ttl: limits::DIRECTORY_TTL });
        }
        for old in std::mem::replace(&mut self.directory.provided, provided) {
            if !self.directory.provided.contains(&old) {
                self.core.say(Output::Withdraw { key: old });
            }
        }
        Ok(())
    }

    pub(super) fn withdraw_invite(&mut self, invite: &Invite) {
        let key = directory::directory_key(&KeyPair::from_seed(&invite.directory_seed).public());
        if self.directory.provided.contains(&key) {
            self.directory.provided.retain(|provided| *provided != key);
            self.core.say(Output::Withdraw { key });
        }
    }
}

fn week_key_pair_of(own: &crate::record::Own, week: u64) -> KeyPair {
    directory::week_key_pair(&own.directory_seed, &own.device, week)
}

/// The key under which this device's own directory record of the week stands.
#[must_use]
pub fn own_directory_key(own: &crate::record::Own, now: crate::time::Wall) -> DirectoryKey {
    directory::directory_key(&week_key_pair_of(own, now.week()).public())
}
