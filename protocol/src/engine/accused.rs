//! Relays that receivers say broke their word.

use std::collections::BTreeMap;

use super::core::About;
use super::{Engine, Fault};
use crate::crypto::custody::Custody as Signed;
use crate::id::{AccountId, DeviceId};
use crate::limits;
use crate::record::{Carriage, Custodian, KeyRange};
use crate::time::Wall;
use crate::wire::Lacking;

/// Custody looked at for one word.
const LOOKED_AT: usize = 2048;
/// Two clocks may be off by so much.
const SLACK: u64 = 10 * limits::MINUTE;
/// So many people must say it of a relay of ours before it counts: one of them may lie.
const WITNESSES: usize = 2;
/// A relay that says again and again that it lost everything is a reason to tell people once in this time.
const AGAIN: u64 = 10 * limits::MINUTE;
/// A device is believed that a relay has lost everything once in this time. Shorter than the pause between two words of
/// an honest one, which may come closer together than they were said.
const BELIEVED_AGAIN: u64 = limits::MINUTE;

/// Who said when that a relay broke its word, in this process: by relay.
pub(super) type Accused = BTreeMap<DeviceId, BTreeMap<AccountId, Wall>>;

impl Engine {
    /// A device says that relays did not have what they had signed for.
    pub(super) fn relays_lacked(&mut self, device: DeviceId, lacking: &[Lacking]) -> Result<(), Fault> {
        if lacking.is_empty() {
            return Ok(());
        }
        let carriages: Vec<Carriage> = self.core.range(&KeyRange::Carriages(device), LOOKED_AT)?;
        for word in lacking {
            if word.envelopes.is_empty() {
                self.relay_lost_all(device, word, carriages.clone());
                continue;
            }
            let custodians = carriages.iter().flat_map(|carriage| &carriage.custodians);
            let broke = custodians.filter(|custodian| is_broken(custodian, word)).count();
            if broke > 0 {
                self.accused(device, word.relay, broke)?;
            }
        }
        Ok(())
    }

    /// The receiver found its mailbox at a relay empty and new: what is open goes there again. Receipts stay what they
    /// are, proofs that the relay signed.
    fn relay_lost_all(&mut self, device: DeviceId, word: &Lacking, carriages: Vec<Carriage>) {
        let (now, mono) = (self.core.now.wall, self.core.now.mono);
        // this is their word alone, and each makes us send everything open once more
        if self.lost.get(&(device, word.relay)).is_some_and(|before| mono.since(*before) < BELIEVED_AGAIN) {
            return;
        }
        let at = word.at.min(now).plus(SLACK);
        let lost = |custodian: &Custodian| {
            custodian.relay == word.relay
                && custodian.until > now
                && Signed::stored(&custodian.receipt).is_ok_and(|signed| signed.stored_at < at)
        };
        let mut any = false;
        for mut carriage in carriages {
            let mut changed = false;
            for custodian in carriage.custodians.iter_mut().filter(|custodian| lost(custodian)) {
                custodian.until = now;
                changed = true;
            }
            if changed {
                self.core.put(carriage);
                any = true;
            }
        }
        if any {
            tracing::debug!(relay = %word.relay.short(), "a relay lost what it kept; it is deposited again");
            self.lost.insert((device, word.relay), mono);
            self.carry_anew(device);
            self.pump.insert(device);
        }
    }

    /// Somebody says that a relay did not have what it had signed for. The signature is proven, the rest is their word.
    fn accused(&mut self, device: DeviceId, relay: DeviceId, broke: usize) -> Result<(), Fault> {
        let Some(contact) = self.core.contact_of(&device)? else { return Ok(()) };
        let now = self.core.now.wall;
        let witnesses = self.accused.entry(relay).or_default();
        witnesses.retain(|_, at| now.since(*at) < limits::RELAY_BROKEN);
        let said = witnesses.insert(contact.account, now);
        let many = witnesses.len();
        if said.is_some_and(|at| now.since(at) < limits::DAY) {
            return Ok(());
        }
        let messages = if broke == 1 { "a message".to_owned() } else { format!("{broke} messages") };
        let it = if broke == 1 { "it" } else { "them" };
        let text = format!(
            "Relay {} signed for {messages} and did not keep {it}, says {}. Other relays had {it}.",
            relay.short(),
            contact.display_name(),
        );
        let about = About { account: Some(contact.account), device: Some(device), entry: None };
        self.core.notice("relay-broke-word", text, about);
        if said.is_none() && many >= WITNESSES {
            let broke = u32::try_from(broke).unwrap_or(u32::MAX);
            return self.count_broken(relay, broke, "signed for envelopes and did not keep them");
        }
        Ok(())
    }

    /// One of our relays made our mailbox anew although it kept one: everything in it is lost. Those who write to us
    /// hear of it, as their messages may have been there only.
    pub(super) fn relay_forgot(&mut self, relay: DeviceId) -> Result<(), Fault> {
        let (now, mono) = (self.core.now.wall, self.core.now.mono);
        if self.forgetful.get(&relay).is_some_and(|told| mono.since(*told) < AGAIN) {
            return Ok(());
        }
        self.forgetful.insert(relay, mono);
        tracing::warn!(relay = %relay.short(), "a relay has lost our mailbox");
        self.count_broken(relay, 1, "has lost everything it kept for you")?;
        let word = Lacking { relay, envelopes: Vec::new(), at: now };
        for contact in self.core.range::<crate::record::Contact>(&KeyRange::Contacts, limits::CONTACTS)? {
            for device in contact.devices {
                if self.links.contains_key(&device) {
                    continue; // everything open came, or comes, over the link
                }
                self.lacking.entry(device).or_default().insert(relay, word.clone());
                self.owe_by_relay(device)?;
            }
        }
        Ok(())
    }
}

/// A relay had signed for an envelope well before, and until well after, it had not got it.
fn is_broken(custodian: &Custodian, word: &Lacking) -> bool {
    custodian.relay == word.relay
        && word.envelopes.contains(&custodian.envelope)
        && Signed::stored(&custodian.receipt).is_ok_and(|signed| {
            signed.stored_at.plus(SLACK) < word.at && word.at.plus(SLACK) < signed.expires_at
        })
}
