//! Rights at our own relays: put before they are given out, revoked with whoever loses them.

use std::collections::BTreeSet;

use super::stations::Asked;
use super::{Engine, Fault};
use crate::crypto::right::RelayRight;
use crate::id::{DeviceId, RightId};
use crate::limits;
use crate::record::{
    Contact, ContactState, Grant, GrantOf, GrantState, Invite, InviteState, Key, KeyRange, Peer, Relay,
    RelayState,
};
use crate::secret::Secret32;
use crate::time::Wall;
use crate::wire::relay::{Ask, Refusal, RightSpec};

impl Engine {
    /// A right is to be good at all our relays.
    pub(super) fn grant(
        &mut self,
        right: &Secret32,
        of: GrantOf,
        expires: Option<Wall>,
    ) -> Result<(), Fault> {
        for relay in self.own_relays()? {
            if !matches!(relay.state, RelayState::Leaving(_)) {
                self.grant_at(&relay, right, of, expires)?;
            }
        }
        Ok(())
    }

    fn grant_at(
        &mut self,
        relay: &Relay,
        right: &Secret32,
        of: GrantOf,
        expires: Option<Wall>,
    ) -> Result<(), Fault> {
        let RelayRight { id, key } = RelayRight::derive(right, &relay.relay, &relay.mailbox);
        let known: Option<Grant> = self.core.get(&Key::Grant(relay.relay, id))?;
        if known.is_some_and(|grant| grant.state != GrantState::Revoking && grant.of == of) {
            return Ok(());
        }
        self.core.put(Grant { relay: relay.relay, right: id, key, of, state: GrantState::Wanted, expires });
        if let Some(station) = self.stations.get_mut(&relay.relay) {
            station.grants.insert(id);
        }
        Ok(())
    }

    /// A right is to be good nowhere any more: a durable job for each relay.
    pub(super) fn revoke(&mut self, right: &Secret32) -> Result<(), Fault> {
        for relay in self.own_relays()? {
            let id = RelayRight::derive(right, &relay.relay, &relay.mailbox).id;
            let Some(mut grant) = self.core.get::<Grant>(&Key::Grant(relay.relay, id))? else { continue };
            grant.state = GrantState::Revoking;
            self.core.put(grant);
            if let Some(station) = self.stations.get_mut(&relay.relay) {
                station.grants.insert(id);
            }
        }
        Ok(())
    }

    pub(super) fn own_relays(&self) -> Result<Vec<Relay>, Fault> {
        self.core.range(&KeyRange::Relays, limits::OWN_RELAYS * 2)
    }

    /// Everybody who may deposit with us may do so at a new relay too.
    pub(super) fn grant_all_at(&mut self, relay: &Relay) -> Result<(), Fault> {
        let contacts: Vec<Contact> = self.core.range(&KeyRange::Contacts, limits::CONTACTS)?;
        for contact in contacts {
            if !matches!(contact.state, ContactState::Accepted | ContactState::Waiting) {
                continue;
            }
            for device in contact.devices {
                if let Some(peer) = self.core.peer(&device)? {
                    self.grant_at(relay, &peer.right_given, GrantOf::Peer(device), None)?;
                }
            }
        }
        let invites: Vec<Invite> = self.core.range(&KeyRange::Invites, limits::INVITES)?;
        for invite in invites {
            if matches!(invite.state, InviteState::Live | InviteState::Used) {
                let right = super::invites::right_of(&invite);
                self.grant_at(relay, &right, GrantOf::Invite(invite.id), Some(invite.expires))?;
            }
        }
        self.grant_at(relay, &relay.canary_right, GrantOf::Canary, None)
    }

    /// A device that may deposit with us: the row, and its right at our relays.
    pub(super) fn put_new_peer(&mut self, peer: Peer) -> Result<(), Fault> {
        self.grant(&peer.right_given, GrantOf::Peer(peer.device), None)?;
        self.core.put(peer);
        // it has none of our directory keys yet
        self.topped_up = None;
        Ok(())
    }

    /// The relay lost everything it knew of us.
    pub(super) fn want_all_grants(&mut self, relay: DeviceId) -> Result<(), Fault> {
        for mut grant in self.grants_at(relay)? {
            if grant.state == GrantState::Registered {
                grant.state = GrantState::Wanted;
                self.core.put(grant);
            }
        }
        Ok(())
    }

    fn grants_at(&self, relay: DeviceId) -> Result<Vec<Grant>, Fault> {
        self.core.range(&KeyRange::Grants(relay), limits::MAILBOX_RIGHTS)
    }

    /// Finds what the relay was not told yet.
    pub(super) fn load_grants(&mut self, relay: DeviceId) -> Result<(), Fault> {
        let open: BTreeSet<RightId> = self
            .grants_at(relay)?
            .into_iter()
            .filter(|grant| grant.state != GrantState::Registered)
            .map(|grant| grant.right)
            .collect();
        if let Some(station) = self.stations.get_mut(&relay) {
            station.grants = open;
        }
        Ok(())
    }

    /// Tells a relay about rights, a request at a time.
    pub(super) fn send_grants(&mut self, relay: DeviceId) -> Result<(), Fault> {
        let Some(mailbox) = self.mailbox_at(&relay) else { return Ok(()) };
        let Some(station) = self.stations.get_mut(&relay) else { return Ok(()) };
        if station.grants.is_empty() || station.is_asking(|asked| matches!(asked, Asked::Rights { .. })) {
            return Ok(());
        }
        let mut ids = Vec::new();
        while ids.len() < limits::RELAY_RIGHTS
            && let Some(id) = station.grants.pop_first()
        {
            ids.push(id);
        }
        let now = self.core.now.wall;
        let (mut put, mut revoke) = (Vec::new(), Vec::new());
        for id in ids {
            let Some(grant) = self.core.get::<Grant>(&Key::Grant(relay, id))? else { continue };
            match grant.state {
                GrantState::Registered => {}
                GrantState::Revoking => revoke.push(id),
                GrantState::Wanted => put.push(spec(grant, now)),
            }
        }
        if put.is_empty() && revoke.is_empty() {
            return Ok(());
        }
        let asked =
            Asked::Rights { put: put.iter().map(|spec| spec.right).collect(), revoke: revoke.clone() };
        self.ask(relay, Ask::SetRights { mailbox, put, revoke }, asked);
        Ok(())
    }

    /// Tells every relay what it was not told yet.
    pub(super) fn send_all_grants(&mut self) -> Result<(), Fault> {
        let relays: Vec<DeviceId> = self
            .stations
            .iter()
            .filter(|(_, station)| station.opened && !station.grants.is_empty())
            .map(|(relay, _)| *relay)
            .collect();
        for relay in relays {
            self.send_grants(relay)?;
        }
        Ok(())
    }

    pub(super) fn rights_set(
        &mut self,
        relay: DeviceId,
        put: &[RightId],
        revoked: &[RightId],
    ) -> Result<(), Fault> {
        for id in put {
            if let Some(mut grant) = self.core.get::<Grant>(&Key::Grant(relay, *id))?
                && grant.state == GrantState::Wanted
            {
                grant.state = GrantState::Registered;
                self.core.put(grant);
            }
        }
        for id in revoked {
            let grant: Option<Grant> = self.core.get(&Key::Grant(relay, *id))?;
            if grant.is_some_and(|grant| grant.state == GrantState::Revoking) {
                self.core.delete(Key::Grant(relay, *id));
            }
        }
        self.send_grants(relay)
    }

    /// The rows keep what was not done; it is tried again when the mailbox is next opened, or within the hour.
    pub(super) fn rights_refused(
        &mut self,
        relay: DeviceId,
        put: Vec<RightId>,
        revoke: Vec<RightId>,
        refusal: Refusal,
    ) -> Result<(), Fault> {
        tracing::warn!(relay = %relay.short(), reason = %refusal.code, "a relay did not take rights");
        if let Some(station) = self.stations.get_mut(&relay) {
            station.grants.extend(put);
            station.grants.extend(revoke);
        }
        Ok(())
    }
}

fn spec(grant: Grant, now: Wall) -> RightSpec {
    let (bytes, items) = match grant.of {
        GrantOf::Peer(_) => (0, 0),
        GrantOf::Invite(_) => (limits::INVITE_BYTES, limits::INVITE_ITEMS),
        GrantOf::Canary => (64 * 1024, 16),
    };
    let lifetime = grant.expires.map_or(0, |expires| (expires.since(now) / limits::SECOND).max(1));
    RightSpec { right: grant.right, key: grant.key, bytes, items, deposits: 0, lifetime }
}
