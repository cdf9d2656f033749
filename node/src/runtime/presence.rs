//! Who is on-line now, for whoever asks.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use kith_protocol::AccountId;

/// Contacts with a connected device.
#[derive(Debug, Default)]
pub(crate) struct Presence(Mutex<BTreeSet<AccountId>>);

impl Presence {
    pub(crate) fn set(&self, account: AccountId, online: bool) {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if online {
            accounts.insert(account);
        } else {
            accounts.remove(&account);
        }
    }

    pub(crate) fn clear(&self) -> Vec<AccountId> {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *accounts).into_iter().collect()
    }

    pub(crate) fn is_online(&self, account: AccountId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&account)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
