//! Receipts that travel by relays: what a device is owed while no link to it is up.

use std::collections::{BTreeMap, BTreeSet};

use super::links::Link;
use super::timer::Timer;
use super::{Engine, Fault};
use crate::id::{DeviceId, EnvelopeId};
use crate::limits;
use crate::record::{ContactState, Conversation, Job, JobBody, Key, KeyRange, Stream};
use crate::time::Mono;
use crate::wire::{Payload, PayloadBody, Receipt};

/// Least time between two receipts that one device is sent by relays.
const PAUSE: u64 = limits::SECOND;
/// Least time between two receipts for what a device sent although we had it.
const AGAIN: u64 = limits::MINUTE;
/// It may take so long until a link is known to be dead.
const UNNOTICED: u64 = 5 * limits::MINUTE;
/// After a start, links to whoever is on-line come up within this time.
const AFTER_START: u64 = 20 * limits::SECOND;
/// Conversations without anything new for so long owe nobody a receipt after a start.
const LATELY: u64 = 3 * limits::DAY;
/// Jobs looked through for envelopes that were taken.
const LOOKED_AT: usize = 2048;

/// A receipt that is being joined; its job is on disk already.
#[derive(Debug)]
pub(super) struct Owed {
    pub(super) job: u64,
    pub(super) due: Mono,
    taken: Vec<EnvelopeId>,
}

/// Receipts by relay, while this process lives.
#[derive(Debug, Default)]
pub(super) struct Relayed {
    pub(super) owed: BTreeMap<DeviceId, Owed>,
    /// When a device was last sent one,
    last: BTreeMap<DeviceId, Mono>,
    /// and last sent one for a copy.
    again: BTreeMap<DeviceId, Mono>,
}

impl Engine {
    /// A device is owed a receipt and no link to it is up. The job that brings it is in this turn's batch.
    pub(super) fn owe_by_relay(&mut self, device: DeviceId) -> Result<(), Fault> {
        if self.relayed.owed.contains_key(&device) || !self.has_relays(&device)? {
            return Ok(());
        }
        let Some(contact) = self.core.contact_of(&device)? else { return Ok(()) };
        if contact.state != ContactState::Accepted {
            return Ok(());
        }
        let job = self.enqueue(device, contact.account, JobBody::Receipt, limits::MESSAGE_TTL, None)?;
        let now = self.core.now.mono;
        let last = self.relayed.last.get(&device).map_or(Mono(0), |last| last.plus(PAUSE));
        let due = last.max(now.plus(limits::RECEIPT_JOIN));
        self.relayed.owed.insert(device, Owed { job, due, taken: Vec::new() });
        self.core.timers.set(Timer::RelayReceipt(device), due);
        Ok(())
    }

    /// A device is to be told that an envelope without an entry was taken.
    pub(super) fn owe_taken(&mut self, device: DeviceId, envelope: EnvelopeId) -> Result<(), Fault> {
        if self.links.contains_key(&device) {
            return Ok(()); // acknowledged by a frame
        }
        self.owe_by_relay(device)?;
        if let Some(owed) = self.relayed.owed.get_mut(&device)
            && owed.taken.len() < limits::ACKS
        {
            owed.taken.push(envelope);
        }
        Ok(())
    }

    /// A relay still had what a device had sent us before: perhaps our receipt never came.
    pub(super) fn owe_again(&mut self, device: DeviceId) -> Result<(), Fault> {
        let now = self.core.now.mono;
        let due = self.relayed.again.get(&device).is_none_or(|last| now.since(*last) >= AGAIN);
        if due && !self.links.contains_key(&device) {
            self.relayed.again.insert(device, now);
            self.receipts_again(&device)?;
        }
        Ok(())
    }

    /// The link is gone, and with it perhaps receipts: those not told yet, and those told in its last moments.
    pub(super) fn receipts_by_relay(&mut self, device: DeviceId, gone: &Link) -> Result<(), Fault> {
        let now = self.core.now.mono;
        let lately = gone.receipted.is_some_and(|at| now.since(at) < UNNOTICED);
        if gone.receipts.is_empty() && !lately { Ok(()) } else { self.owe_by_relay(device) }
    }

    /// After a start nobody knows which receipts reached whom before it: whoever wrote lately, and is not linked soon, is
    /// sent one by relay.
    pub(super) fn plan_receipts(&mut self) -> Result<(), Fault> {
        let now = self.core.now;
        let conversations: Vec<Conversation> = self.core.range(&KeyRange::Conversations, limits::CONTACTS)?;
        for conversation in conversations {
            if now.wall.since(conversation.last_activity) > LATELY {
                continue;
            }
            let Some(contact) = self.core.contact(&conversation.with)? else { continue };
            for device in contact.devices {
                let jitter = self.core.below(AFTER_START);
                let at = now.mono.plus(AFTER_START).plus(jitter);
                self.core.timers.set(Timer::ReceiptAfterStart(device), at);
            }
        }
        Ok(())
    }

    pub(super) fn receipt_after_start(&mut self, device: DeviceId) -> Result<(), Fault> {
        if self.links.contains_key(&device) { Ok(()) } else { self.receipts_again(&device) }
    }

    /// A joined receipt is due: its job moves again.
    pub(super) fn relay_receipt_due(&mut self, device: DeviceId) -> Result<(), Fault> {
        let Some(owed) = self.relayed.owed.get(&device) else { return Ok(()) };
        let job = owed.job;
        if self.core.get::<Job>(&Key::Job(device, job))?.is_none() {
            // the step that queued it was taken back
            self.relayed.owed.remove(&device);
            return self.owe_by_relay(device);
        }
        self.carry_from(device, job);
        self.pump.insert(device);
        Ok(())
    }

    /// Whether a receipt still waits for company.
    pub(super) fn is_joining(&self, device: &DeviceId) -> bool {
        self.relayed.owed.get(device).is_some_and(|owed| owed.due > self.core.now.mono)
    }

    /// The receipt for a device as of now; `None` if there is nothing to say.
    pub(super) fn receipt_for(&mut self, device: DeviceId) -> Result<Option<Receipt>, Fault> {
        let taken = self.relayed.owed.remove(&device).map(|owed| owed.taken).unwrap_or_default();
        self.relayed.last.insert(device, self.core.now.mono);
        let mut streams = BTreeSet::new();
        if let Some(account) = self.core.owner(&device)?
            && let Some(conversation) = self.direct(account)?
        {
            for id in conversation.streams {
                let stream: Option<Stream> = self.stream(&id)?;
                if stream.is_some_and(|stream| stream.device == device) {
                    streams.insert(id);
                }
            }
        }
        let mut frontiers = self.frontiers_of(device, &streams)?;
        frontiers.truncate(limits::FRONTIERS);
        let lacking = self.take_lacking(&device);
        let empty = frontiers.is_empty() && taken.is_empty() && lacking.is_empty();
        Ok((!empty).then_some(Receipt { frontiers, taken, lacking }))
    }

    /// A link is up: what was to go by relays is told over it.
    pub(super) fn tell_owed_over_link(&mut self, device: DeviceId) -> Result<(), Fault> {
        let owed = self.relayed.owed.remove(&device);
        self.core.timers.cancel(Timer::RelayReceipt(device));
        if let (Some(owed), Some(link)) = (owed, self.links.get_mut(&device)) {
            link.acks.extend(owed.taken);
            self.tell.insert(device);
        }
        self.receipts_again(&device)
    }

    /// A device says by relay what it has.
    pub(super) fn receipt_came(&mut self, from: DeviceId, receipt: Receipt) -> Result<(), Fault> {
        self.relays_lacked(from, &receipt.lacking)?;
        self.taken_by_relay(from, &receipt.taken)?;
        let frontiers = receipt.frontiers.clone();
        let body = PayloadBody::Receipt(receipt);
        let word = Payload { list_version: 0, list_hash: [0; 32], body }.encode();
        self.frontiers(from, &frontiers, &word)
    }

    /// Ends the jobs whose envelopes a device took from relays; entries end by their numbers.
    fn taken_by_relay(&mut self, device: DeviceId, taken: &[EnvelopeId]) -> Result<(), Fault> {
        if taken.is_empty() {
            return Ok(());
        }
        let jobs: Vec<Job> = self.core.range(&KeyRange::Jobs(device), LOOKED_AT)?;
        for job in jobs {
            let ends = matches!(job.body, JobBody::Payload(_) | JobBody::Resend(_));
            if ends && job.sealed.is_some_and(|sealed| taken.contains(&sealed.id)) {
                self.end_job(device, job.seq)?;
            }
        }
        Ok(())
    }
}
