//! Jobs: one thing to bring to one device, durable, in order, at most a window on the way at a time.

use super::links::{BundleFor, Link};
use super::output::Output;
use super::timer::Timer;
use super::{Engine, Fault};
use crate::id::{AccountId, DeviceId, EntryId, EnvelopeId};
use crate::limits;
use crate::record::{
    ContactState, Delivery, Entry, Job, JobBody, Key, KeyRange, Outbox, Proof, Rank, Sealed, Step, StepKind,
};
use crate::wire::{Frame, PayloadBody, RefuseReason};
use bytes::Bytes;

/// Jobs read from the store at a time.
const PAGE: usize = 32;

/// Whether a job can be sent.
pub(super) enum Ready {
    /// It is sealed; `first`: just now, for the first time.
    Sealed { first: bool },
    /// There was nothing to bring; it has ended.
    Nothing,
    /// The queue must wait for a session.
    Waits,
}

impl Engine {
    /// Adds a job at the end of a device's queue; returns its place.
    pub(super) fn enqueue(
        &mut self,
        device: DeviceId,
        account: AccountId,
        body: JobBody,
        ttl: u64,
        sealed: Option<Sealed>,
    ) -> Result<u64, Fault> {
        let mut outbox: Outbox =
            self.core.get(&Key::Outbox(device))?.unwrap_or(Outbox { device, account, open: 0, next_seq: 1 });
        let seq = outbox.next_seq;
        outbox.next_seq = seq.saturating_add(1);
        outbox.open = outbox.open.saturating_add(1);
        self.core.put(outbox);
        self.core.put(Job { device, seq, body, created: self.core.now.wall, ttl, sealed });
        self.pump.insert(device);
        Ok(seq)
    }

    /// Whether so much waits for a device that what it asks for has to wait, too: it asks again.
    pub(super) fn is_backed_up(&self, device: &DeviceId) -> Result<bool, Fault> {
        let outbox: Option<Outbox> = self.core.get(&Key::Outbox(*device))?;
        Ok(outbox.is_some_and(|outbox| outbox.open >= limits::IN_FLIGHT as u64))
    }

    /// Ends a job, whatever became of it.
    pub(super) fn end_job(&mut self, device: DeviceId, seq: u64) -> Result<(), Fault> {
        if self.core.get::<Job>(&Key::Job(device, seq))?.is_none() {
            return Ok(());
        }
        self.core.delete(Key::Job(device, seq));
        if let Some(mut outbox) = self.core.get::<Outbox>(&Key::Outbox(device))? {
            outbox.open = outbox.open.saturating_sub(1);
            self.core.put(outbox);
        }
        self.end_carriage(device, seq)?;
        if let Some(link) = self.links.get_mut(&device) {
            link.landed(seq);
            self.core.timers.cancel(Timer::Stalled(device));
            self.pump.insert(device);
        }
        Ok(())
    }

    /// Sends what fits into the window of each device that has something to send.
    pub(super) fn pump_all(&mut self) {
        while let Some(device) = self.pump.pop_first() {
            let result = self
                .pump_device(device)
                .and_then(|()| self.watch_progress(device))
                .and_then(|()| self.carry(device));
            if let Err(fault) = result {
                self.core.abandon();
                self.report(&fault, "sending");
            }
            self.core.commit();
        }
    }

    /// While a linked device owes us something, silence has a limit.
    fn watch_progress(&mut self, device: DeviceId) -> Result<(), Fault> {
        let outbox: Option<Outbox> = self.core.get(&Key::Outbox(device))?;
        let open = outbox.is_some_and(|outbox| outbox.open > 0);
        if open && self.links.contains_key(&device) {
            self.core.timers.set_earlier(Timer::Stalled(device), self.core.now.mono.plus(limits::STALL));
        } else {
            self.core.timers.cancel(Timer::Stalled(device));
        }
        Ok(())
    }

    /// Nothing came back over a live link: what is open is sent once more, and a bundle asked for anew.
    pub(super) fn stalled(&mut self, device: DeviceId) -> Result<(), Fault> {
        if let Some(link) = self.links.get_mut(&device) {
            link.rewind();
            self.pump.insert(device);
            self.ask_bundle_again(device)?;
        }
        Ok(())
    }

    fn pump_device(&mut self, device: DeviceId) -> Result<(), Fault> {
        loop {
            let Some(link) = self.links.get(&device) else { return Ok(()) };
            if !link.has_room() {
                return Ok(());
            }
            let after = link.next_seq.checked_sub(1).map(|seq| Key::Job(device, seq));
            let jobs: Vec<Job> = self.core.rows.range(&KeyRange::Jobs(device), after.as_ref(), PAGE)?;
            if jobs.is_empty() {
                return Ok(());
            }
            for job in jobs {
                if !self.send_job(device, job)? {
                    return Ok(());
                }
                self.core.commit();
            }
        }
    }

    /// Sends one job over the link, sealing it first if need be. False: the queue must wait.
    fn send_job(&mut self, device: DeviceId, mut job: Job) -> Result<bool, Fault> {
        let seq = job.seq;
        let Some(link) = self.links.get(&device) else { return Ok(false) };
        if link.in_flight.contains_key(&seq) {
            self.advance(device, seq);
            return Ok(true);
        }
        if !link.has_room() {
            return Ok(false);
        }
        if job.body == JobBody::Receipt && job.sealed.is_none() {
            // over a link receipts are plain frames
            self.end_job(device, seq)?;
            self.tell_owed_over_link(device)?;
            return Ok(true);
        }
        match self.ready(device, &mut job)? {
            Ready::Nothing => return Ok(true),
            Ready::Waits => return Ok(false),
            Ready::Sealed { first } => {
                if first {
                    self.note_step(device, seq, StepKind::SentDirect, "")?;
                }
            }
        }
        if let Some(sealed) = &job.sealed {
            self.send_sealed(device, seq, sealed);
        }
        self.advance(device, seq);
        Ok(true)
    }

    /// Makes sure that a job is sealed in a session the device can open.
    pub(super) fn ready(&mut self, device: DeviceId, job: &mut Job) -> Result<Ready, Fault> {
        match &job.sealed {
            Some(sealed) if !self.is_broken(&device, sealed)? => return Ok(Ready::Sealed { first: false }),
            Some(_) | None => {}
        }
        if job.body == JobBody::Accept {
            // an acceptance is bound to the session it starts, so it is sealed when that session is made
            self.want_bundle(device, BundleFor::Sending)?;
            return Ok(Ready::Waits);
        }
        if self.sending_session(&device)?.is_none() {
            self.want_bundle(device, BundleFor::Sending)?;
            return Ok(Ready::Waits);
        }
        let Some(body) = self.payload_of(job)? else {
            self.end_job(device, job.seq)?;
            return Ok(Ready::Nothing);
        };
        let Some(sealed) = self.seal(device, body)? else {
            return Ok(Ready::Waits);
        };
        let first = job.sealed.replace(sealed).is_none();
        self.core.put(job.clone());
        let what = if first { StepKind::Sealed } else { StepKind::Resealed };
        self.note_step(device, job.seq, what, "")?;
        Ok(Ready::Sealed { first })
    }

    fn advance(&mut self, device: DeviceId, seq: u64) {
        if let Some(link) = self.links.get_mut(&device) {
            link.next_seq = link.next_seq.max(seq.saturating_add(1));
        }
    }

    /// Sends an envelope at once, whatever the window says; the queue will not send it a second time.
    pub(super) fn send_sealed(&mut self, device: DeviceId, seq: u64, sealed: &Sealed) {
        let Some(link) = self.links.get_mut(&device) else { return };
        let size = sealed.bytes.len();
        if link.in_flight.insert(seq, (sealed.id, size)).is_none() {
            link.in_flight_bytes = link.in_flight_bytes.saturating_add(size);
        }
        let frame = Frame::Envelope(sealed.bytes.clone()).encode();
        self.core.say(Output::Send { peer: device, link: link.id, frame });
    }

    /// What a job brings, or `None` if there is nothing left to bring.
    fn payload_of(&mut self, job: &Job) -> Result<Option<PayloadBody>, Fault> {
        Ok(match &job.body {
            JobBody::Entry(id) | JobBody::Resend(id) => {
                self.core.get::<Entry>(&Key::Entry(*id))?.map(|entry| {
                    if entry.bytes.is_empty() {
                        // taken back before it left: its number holds nothing
                        let ranges = vec![(entry.number, 1)];
                        PayloadBody::Voids { conversation: entry.conversation, stream: entry.stream, ranges }
                    } else {
                        PayloadBody::Entry(entry.bytes)
                    }
                })
            }
            JobBody::Payload(bytes) => {
                Some(PayloadBody::decode(bytes).map_err(|_| Fault::Internal("reading a job"))?)
            }
            JobBody::Receipt => self.receipt_for(job.device)?.map(PayloadBody::Receipt),
            JobBody::Accept => None,
        })
    }

    /// The device has these envelopes on disk.
    pub(super) fn acked(&mut self, device: DeviceId, envelopes: &[EnvelopeId]) -> Result<(), Fault> {
        let Some(link) = self.links.get_mut(&device) else { return Ok(()) };
        let landed: Vec<u64> = link
            .in_flight
            .iter()
            .filter(|(_, (id, _))| envelopes.contains(id))
            .map(|(seq, _)| *seq)
            .collect();
        for seq in landed {
            let Some(job) = self.core.get::<Job>(&Key::Job(device, seq))? else { continue };
            match job.body {
                JobBody::Payload(_) | JobBody::Resend(_) | JobBody::Receipt => self.end_job(device, seq)?,
                // these end with a receipt or an answer; until then the disk keeps them, the window does not
                JobBody::Entry(_) | JobBody::Accept => {
                    if let Some(link) = self.links.get_mut(&device) {
                        link.landed(seq);
                    }
                }
            }
        }
        self.pump.insert(device);
        Ok(())
    }

    /// The device will never take an envelope.
    pub(super) fn refused(
        &mut self,
        device: DeviceId,
        envelope: EnvelopeId,
        reason: RefuseReason,
        word: &Bytes,
    ) -> Result<(), Fault> {
        let in_flight =
            |link: &Link| link.in_flight.iter().find(|(_, (id, _))| *id == envelope).map(|(seq, _)| *seq);
        let Some(seq) = self.links.get(&device).and_then(in_flight) else { return Ok(()) };
        let Some(job) = self.core.get::<Job>(&Key::Job(device, seq))? else { return Ok(()) };
        let detail = match reason {
            RefuseReason::Removed => "the contact was removed there",
            RefuseReason::TooLarge => "too large for the other side",
            RefuseReason::Malformed => "the other side could not read it",
            RefuseReason::Other(_) => "refused by the other side",
        };
        self.end_job(device, seq)?;
        if let JobBody::Entry(id) = job.body {
            self.settle(
                id,
                device,
                Rank::Rejected,
                Proof::Refusal(word.clone()),
                StepKind::Rejected,
                detail,
            )?;
        }
        Ok(())
    }

    /// Raises a delivery to a rank, with its proof; a rank never falls.
    pub(super) fn settle(
        &mut self,
        entry: EntryId,
        device: DeviceId,
        rank: Rank,
        proof: Proof,
        what: StepKind,
        detail: &str,
    ) -> Result<(), Fault> {
        let Some(mut delivery) = self.core.get::<Delivery>(&Key::Delivery(entry, device))? else {
            return Ok(());
        };
        if let Some(seq) = delivery.job
            && !rank.is_open()
        {
            delivery.job = None;
            self.end_job(device, seq)?;
        }
        if rank > delivery.rank {
            delivery.rank = rank;
            delivery.proof = Some(proof);
        }
        push_step(&mut delivery.steps, Step { at: self.core.now.wall, what, detail: detail.to_owned() });
        self.core.put(delivery);
        self.show_rank(entry, detail)
    }

    /// Adds a line to the journey of the entry that a job brings.
    pub(super) fn note_step(
        &mut self,
        device: DeviceId,
        seq: u64,
        what: StepKind,
        detail: &str,
    ) -> Result<(), Fault> {
        let Some(job) = self.core.get::<Job>(&Key::Job(device, seq))? else { return Ok(()) };
        let JobBody::Entry(entry) = job.body else { return Ok(()) };
        let Some(mut delivery) = self.core.get::<Delivery>(&Key::Delivery(entry, device))? else {
            return Ok(());
        };
        push_step(&mut delivery.steps, Step { at: self.core.now.wall, what, detail: detail.to_owned() });
        self.core.put(delivery);
        Ok(())
    }

    /// Ends jobs whose time to live is over, oldest first, some at a time. True: there are more.
    pub(super) fn expire_jobs(&mut self) -> Result<bool, Fault> {
        let Some(believed) = self.core.believed() else { return Ok(false) };
        let outboxes: Vec<Outbox> = self.core.range(&KeyRange::Outboxes, limits::CONTACTS)?;
        let mut left = limits::ROWS_PER_TURN;
        let mut more = false;
        for outbox in outboxes.into_iter().filter(|outbox| outbox.open > 0) {
            let mut jobs: Vec<Job> = self.core.range(&KeyRange::Jobs(outbox.device), left.min(PAGE))?;
            let looked_at = jobs.len();
            jobs.retain(|job| believed.since(job.created) >= job.ttl);
            more |= !jobs.is_empty() && jobs.len() == looked_at;
            left = left.saturating_sub(jobs.len());
            for job in jobs {
                self.end_job(job.device, job.seq)?;
                match job.body {
                    JobBody::Entry(id) => {
                        self.expire_entry(id, job.device, "nobody confirmed it in 30 days")?
                    }
                    JobBody::Accept => self.accept_expired(outbox.account)?,
                    JobBody::Resend(_) | JobBody::Payload(_) | JobBody::Receipt => {}
                }
            }
            if left == 0 {
                return Ok(true);
            }
        }
        Ok(more)
    }

    fn expire_entry(&mut self, id: EntryId, device: DeviceId, why: &str) -> Result<(), Fault> {
        self.settle(id, device, Rank::Expired, Proof::Ttl(self.core.now.wall), StepKind::Expired, why)
    }

    /// Ends all jobs queued so far for a device that will not be served any more; its deliveries end as expired. A long
    /// queue is ended a stretch at a time: a batch has a limit.
    pub(super) fn drop_jobs(&mut self, device: DeviceId, why: &'static str) -> Result<(), Fault> {
        let outbox: Option<Outbox> = self.core.get(&Key::Outbox(device))?;
        let end = outbox.map_or(0, |outbox| outbox.next_seq);
        self.drop_stretch(device, end, why)
    }

    /// Goes on with it, unless the device is served again meanwhile.
    pub(super) fn drop_more(&mut self, device: DeviceId) -> Result<(), Fault> {
        let Some((end, why)) = self.dropping.remove(&device) else { return Ok(()) };
        if self.is_served(&device)? {
            return Ok(());
        }
        self.drop_stretch(device, end, why)
    }

    fn drop_stretch(&mut self, device: DeviceId, end: u64, why: &'static str) -> Result<(), Fault> {
        const STRETCH: usize = limits::ROWS_PER_TURN / 2;
        let jobs: Vec<Job> = self.core.range(&KeyRange::Jobs(device), STRETCH)?;
        let full = jobs.len() == STRETCH;
        for job in jobs.into_iter().take_while(|job| job.seq < end) {
            self.end_job(device, job.seq)?;
            if let JobBody::Entry(id) = job.body {
                self.expire_entry(id, device, why)?;
            }
        }
        if full {
            self.dropping.insert(device, (end, why));
            self.core.timers.set(Timer::Drop(device), self.core.now.mono);
        }
        Ok(())
    }

    /// Queues that a stop kept from being ended are ended now.
    pub(super) fn resume_dropping(&mut self) -> Result<(), Fault> {
        for outbox in self.core.range::<Outbox>(&KeyRange::Outboxes, limits::CONTACTS)? {
            if outbox.open > 0 && !self.is_served(&outbox.device)? {
                self.dropping.insert(outbox.device, (outbox.next_seq, "the contact was removed here"));
                self.core.timers.set(Timer::Drop(outbox.device), self.core.now.mono);
            }
        }
        Ok(())
    }

    /// Whether a device is one that messages go to.
    fn is_served(&self, device: &DeviceId) -> Result<bool, Fault> {
        let own = self.core.keys.list.certificate(device).is_some();
        let contact = self.core.contact_of(device)?;
        // somebody who is no contact is owed an answer
        let answered = self.is_stranger(device)? && self.core.peer(device)?.is_some();
        Ok(own
            || answered
            || contact.is_some_and(|contact| {
                let state = match contact.state {
                    ContactState::Waiting | ContactState::Accepted | ContactState::Blocked => true,
                    ContactState::Refused | ContactState::Expired | ContactState::Removed => false,
                };
                state && contact.devices.contains(device)
            }))
    }
}

/// Adds a step; the oldest but the first go when the journey is full, and a repeated step only moves its time.
fn push_step(steps: &mut Vec<Step>, step: Step) {
    if let Some(last) = steps.last_mut()
        && last.what == step.what
        && last.detail == step.detail
    {
        *last = step;
        return;
    }
    if steps.len() >= limits::STEPS {
        steps.remove(1);
    }
    steps.push(step);
}
