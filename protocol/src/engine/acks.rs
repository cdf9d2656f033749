//! What devices are owed: acknowledgements of envelopes and receipts of entries, joined while there are many.

use super::timer::Timer;
use super::{Engine, Fault};
use crate::id::{DeviceId, EnvelopeId};
use crate::limits;
use crate::wire::Frame;

/// Acknowledgements wait for company no longer than this many.
const ACKS_JOINED: usize = 48;

impl Engine {
    /// Acknowledges an envelope, together with others that come close behind.
    pub(super) fn ack(&mut self, from: DeviceId, id: EnvelopeId) {
        self.collect(id);
        if let Some(link) = self.links.get_mut(&from) {
            link.acks.push(id);
            self.tell.insert(from);
        }
    }

    /// Tells devices what they are owed: at once unless they were told often lately; then joined. It is not counted while
    /// all they were told before has left: whoever sends one message after the other waits for each.
    pub(super) fn tell_all(&mut self) {
        while let Some(device) = self.tell.pop_first() {
            let now = self.core.now.mono;
            let Some(link) = self.links.get(&device) else { continue };
            let many = link.acks.len() >= ACKS_JOINED;
            let calm = link.told_times < limits::RECEIPTS_AT_ONCE;
            let due = link.told.plus(limits::RECEIPT_JOIN);
            if many || calm || now >= due {
                if let Err(fault) = self.tell_device(device) {
                    self.core.abandon();
                    self.report(&fault, "answering");
                }
                self.core.commit();
                let newest = self.core.rows.newest();
                if let Some(link) = self.links.get_mut(&device) {
                    link.told_behind = newest;
                }
            } else {
                self.core.timers.set_earlier(Timer::Receipts(device), due);
            }
        }
    }

    /// Sends the acknowledgements and receipts a device is owed.
    pub(super) fn tell_device(&mut self, device: DeviceId) -> Result<(), Fault> {
        self.core.timers.cancel(Timer::Receipts(device));
        let now = self.core.now.mono;
        let Some(link) = self.links.get_mut(&device) else { return Ok(()) };
        if now >= link.told.plus(limits::RECEIPT_JOIN) {
            link.told = now;
            link.told_times = 0;
        }
        if !self.core.rows.is_persisted(link.told_behind) {
            link.told_times += 1;
        }
        let acks = std::mem::take(&mut link.acks);
        let streams = std::mem::take(&mut link.receipts);
        // the receipt first: it is what the person waits for
        self.send_receipts(device, &streams)?;
        for acks in acks.chunks(limits::ACKS) {
            self.send_frame(device, &Frame::Ack(acks.to_vec()));
        }
        Ok(())
    }
}
