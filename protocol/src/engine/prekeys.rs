//! What relays give to those who start sessions with us while we are away: a bundle, and keys that are good once.

use super::stations::Asked;
use super::{Engine, Fault};
use crate::crypto::session;
use crate::id::DeviceId;
use crate::limits;
use crate::record::{Key, KeyRange, OneTimeKey, RelayState};
use crate::time::Wall;
use crate::wire::relay::Ask;

/// How often old one-time keys are looked for.
const SWEEP: u64 = limits::DAY;
/// One-time keys looked at in one sweep.
const SWEPT: usize = 4 * 1024;

impl Engine {
    /// Gives a relay our newest bundle, and one-time keys when it runs short.
    pub(super) fn refresh_bundle(&mut self, relay: DeviceId) -> Result<(), Fault> {
        let Some(mailbox) = self.mailbox_at(&relay) else { return Ok(()) };
        let Some(row) = self.relay_row(&relay)? else { return Ok(()) };
        let asking = |station: &super::stations::Station| {
            station.is_asking(|asked| matches!(asked, Asked::Bundle { .. }))
        };
        let Some(station) = self.stations.get(&relay).filter(|station| !asking(station)) else {
            return Ok(());
        };
        let left = station.holds.one_time_keys;
        if matches!(row.state, RelayState::Leaving(_)) {
            return Ok(());
        }
        let prekey = self.current_prekey()?;
        let fresh = row.bundle != Some(prekey.id);
        if !fresh && left >= limits::ONE_TIME_KEYS_LOW {
            return Ok(());
        }
        // keys given out with the bundle before end with it
        let kept = if fresh { 0 } else { left };
        let count = (limits::ONE_TIME_KEYS as u64).saturating_sub(kept);
        let now = self.core.now.wall;
        let mut one_time_keys = Vec::new();
        for _ in 0..count {
            let (secret, public) = session::one_time_key(&mut *self.core.rng);
            self.core.put(OneTimeKey { public, secret, relay, made: now });
            one_time_keys.push(public);
        }
        let lifetime = prekey.expires.since(now) / limits::SECOND;
        let bundle = fresh.then_some(prekey.bundle);
        let ask = Ask::PutBundle { mailbox, bundle, lifetime, one_time_keys, replace: fresh };
        self.ask(relay, ask, Asked::Bundle { id: prekey.id });
        Ok(())
    }

    /// The relay has the bundle.
    pub(super) fn bundle_given(&mut self, relay: DeviceId, id: u32) -> Result<(), Fault> {
        if let Some(mut row) = self.relay_row(&relay)?
            && row.bundle != Some(id)
        {
            row.bundle = Some(id);
            self.core.put(row);
        }
        Ok(())
    }

    /// Renews bundles at relays, and wipes one-time keys nobody can use any more.
    pub(super) fn tend_prekeys(&mut self) -> Result<(), Fault> {
        let relays: Vec<DeviceId> = self.stations.keys().copied().collect();
        for relay in relays {
            self.refresh_bundle(relay)?;
        }
        let Some(believed) = self.core.believed() else { return Ok(()) };
        if believed.since(self.keys_swept) < SWEEP {
            return Ok(());
        }
        self.keys_swept = believed;
        self.sweep_one_time_keys(believed)
    }

    fn sweep_one_time_keys(&mut self, believed: Wall) -> Result<(), Fault> {
        for key in self.core.range::<OneTimeKey>(&KeyRange::OneTimeKeys, SWEPT)? {
            if believed.since(key.made) > limits::ONE_TIME_KEY_TTL {
                self.core.delete(Key::OneTimeKey(key.public));
            }
        }
        Ok(())
    }
}
