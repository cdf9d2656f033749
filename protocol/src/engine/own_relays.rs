//! Which relays are ours: adding and removing them, and naming the best of them to contacts.

use bytes::Bytes;

use super::command::{Answer, CommandError};
use super::{Engine, Fault};
use crate::id::{Address, DeviceId};
use crate::limits;
use crate::record::{Key, KeyRange, MailboxFigures, Relay, RelayFigures, RelayRef, RelayState};
use crate::secret::Secret32;
use crate::time::Wall;

impl Engine {
    pub(super) fn add_relay(
        &mut self,
        relay: DeviceId,
        address: Address,
        token: Bytes,
    ) -> Result<Answer, CommandError> {
        if relay == self.core.own.device {
            return Err(CommandError::Invalid("this device cannot be its own relay".into()));
        }
        if token.len() > limits::TOKEN {
            let max = limits::TOKEN;
            return Err(CommandError::Invalid(format!("a relay's token has at most {max} bytes")));
        }
        let known = self.own_relays()?;
        let before = known.iter().find(|row| row.relay == relay);
        let in_use = known.iter().filter(|row| !matches!(row.state, RelayState::Leaving(_))).count();
        if before.is_none_or(|row| matches!(row.state, RelayState::Leaving(_)))
            && in_use >= limits::OWN_RELAYS
        {
            let most = limits::OWN_RELAYS;
            return Err(CommandError::Full(format!(
                "there are {most} relays already; remove one first with `kith relay remove`"
            )));
        }
        let row = match before {
            Some(row) if row.address == address && row.token == token && !is_given_up(row) => {
                return Ok(Answer::Done);
            }
            Some(row) => {
                let state = if is_given_up(row) { RelayState::New } else { row.state };
                let token = if token.is_empty() { row.token.clone() } else { token };
                Relay { address, token, state, ..row.clone() }
            }
            None => self.new_relay(relay, address, token),
        };
        self.core.put(row.clone());
        self.stations.entry(relay).or_default();
        self.grant_all_at(&row)?;
        self.reach_now(relay);
        self.open_again(relay)?;
        self.name_relays()?;
        Ok(Answer::Done)
    }

    fn new_relay(&mut self, relay: DeviceId, address: Address, token: Bytes) -> Relay {
        let now = self.core.now.wall;
        Relay {
            relay,
            address,
            mailbox: self.own_mailbox(&relay, 0),
            epoch: 0,
            token,
            state: RelayState::New,
            added: now,
            named: false,
            bundle: None,
            holds: MailboxFigures::default(),
            figures: RelayFigures { down_since: Some(now), ..RelayFigures::default() },
            canary_right: Secret32::random(&mut *self.core.rng),
            canary: None,
        }
    }

    /// Gives a relay up. It is still emptied for a while: contacts hear of it one by one.
    pub(super) fn remove_relay(&mut self, relay: DeviceId) -> Result<Answer, CommandError> {
        let Some(mut row) = self.relay_row(&relay)? else {
            return Err(CommandError::UnknownRelay);
        };
        match row.state {
            RelayState::Leaving(_) => return Ok(Answer::Done),
            RelayState::Open => {
                row.state = RelayState::Leaving(self.core.now.wall);
                row.named = false;
                self.core.put(row);
            }
            // nothing was ever left there
            RelayState::New | RelayState::Refused(_) => self.forget_relay(relay)?,
        }
        self.name_relays()?;
        self.tell_relays_changed()?;
        Ok(Answer::Done)
    }

    fn forget_relay(&mut self, relay: DeviceId) -> Result<(), Fault> {
        for grant in
            self.core.range::<crate::record::Grant>(&KeyRange::Grants(relay), limits::MAILBOX_RIGHTS)?
        {
            self.core.delete(Key::Grant(relay, grant.right));
        }
        self.core.delete(Key::Relay(relay));
        self.stations.remove(&relay);
        self.reached(relay);
        for timer in [
            super::timer::Timer::Relay(relay),
            super::timer::Timer::Canary(relay),
            super::timer::Timer::OpenAgain(relay),
        ] {
            self.core.timers.cancel(timer);
        }
        Ok(())
    }

    /// What contacts and invites are told: the relays that are named now.
    pub(super) fn named_relays(&self) -> Result<Vec<RelayRef>, Fault> {
        let named = self.own_relays()?.into_iter().filter(|row| row.named);
        Ok(named
            .take(limits::RELAYS)
            .map(|row| RelayRef { relay: row.relay, mailbox: row.mailbox, address: row.address })
            .collect())
    }

    /// Chooses the relays to name: open ones, those that do well first. Contacts are told when the choice changes.
    pub(super) fn name_relays(&mut self) -> Result<(), Fault> {
        let now = self.core.now.wall;
        let mut rows = self.own_relays()?;
        rows.retain(|row| row.state == RelayState::Open);
        // whoever is named stays while it does as well as the others
        // while no relay is connected, it is this device that is away
        let up = self.stations.values().any(|station| station.opened);
        let failed = |row: &Relay| has_failed(row, up, now);
        rows.sort_by_key(|row| (failed(row), !row.named, row.added, row.relay));
        let well = rows.iter().filter(|row| !failed(row)).count();
        // a relay that failed is named only while there is none that did not
        let count = if well > 0 { well.min(limits::RELAYS) } else { rows.len().min(limits::RELAYS) };
        let chosen: Vec<DeviceId> = rows.iter().take(count).map(|row| row.relay).collect();
        let mut changed = false;
        for mut row in self.own_relays()? {
            let named = chosen.contains(&row.relay);
            if row.named != named {
                row.named = named;
                self.core.put(row);
                changed = true;
            }
        }
        if changed { self.tell_relays_changed() } else { Ok(()) }
    }

    fn tell_relays_changed(&mut self) -> Result<(), Fault> {
        self.publish_soon();
        self.tell_contacts()
    }

    /// Once a minute: counts, gives up, renews.
    pub(super) fn tend_relays(&mut self) -> Result<(), Fault> {
        let now = self.core.now.wall;
        for mut row in self.own_relays()? {
            if let RelayState::Leaving(since) = row.state
                && now.since(since) > limits::RELAY_LEAVING
            {
                self.forget_relay(row.relay)?;
                continue;
            }
            let Some(station) = self.stations.get_mut(&row.relay) else { continue };
            if station.opened {
                station.minutes.0 += 1;
            } else {
                station.minutes.1 += 1;
            }
            const WRITTEN_EVERY: u64 = 30;
            if station.minutes.0 + station.minutes.1 >= WRITTEN_EVERY {
                let (up, down) = std::mem::take(&mut station.minutes);
                row.figures.up = row.figures.up.saturating_add(up);
                row.figures.down = row.figures.down.saturating_add(down);
                row.holds = station.holds;
                self.core.put(row);
            }
        }
        self.name_relays()?;
        self.send_all_grants()?;
        self.renew_custody();
        self.tend_prekeys()
    }
}

const fn is_given_up(row: &Relay) -> bool {
    matches!(row.state, RelayState::Leaving(_) | RelayState::Refused(_))
}

/// A relay that broke its word lately, or was away long while this device was up.
fn has_failed(row: &Relay, up: bool, now: Wall) -> bool {
    let broke = row.figures.broken_at.is_some_and(|at| now.since(at) < limits::RELAY_BROKEN);
    let down = row.figures.down_since.is_some_and(|since| now.since(since) > limits::RELAY_DOWN);
    broke || (up && down)
}
