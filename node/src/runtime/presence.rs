//! What is so now and not stored, for whoever asks: who is on-line, and what others' clocks say.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kith_protocol::AccountId;
use kith_protocol::engine::{ClockReport, Transient};

/// What the Engine told and does not store.
#[derive(Debug, Default)]
pub(crate) struct Presence(Mutex<Now>);

#[derive(Debug, Default)]
struct Now {
    /// Contacts with a connected device.
    online: BTreeSet<AccountId>,
    clock: ClockReport,
}

impl Presence {
    pub(crate) fn note(&self, told: &Transient) {
        let mut now = self.lock();
        match told {
            Transient::Online { account, online: true } => {
                now.online.insert(*account);
            }
            Transient::Online { account, online: false } => {
                now.online.remove(account);
            }
            Transient::Clock(report) => now.clock = *report,
            Transient::Typing { .. } => {}
        }
    }

    /// The Engine is gone. Returns who was on-line.
    pub(crate) fn clear(&self) -> Vec<AccountId> {
        std::mem::take(&mut *self.lock()).online.into_iter().collect()
    }

    pub(crate) fn is_online(&self, account: AccountId) -> bool {
        self.lock().online.contains(&account)
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().online.len()
    }

    pub(crate) fn clock(&self) -> ClockReport {
        self.lock().clock
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
