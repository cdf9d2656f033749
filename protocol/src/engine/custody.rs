//! What relays answer to deposits: signed custody, refusals, silence.

use bytes::Bytes;

use super::carry::{Purpose, renewed_with};
use super::core::About;
use super::{DepositFailure, DepositId, Engine, Fault};
use crate::crypto::custody::Custody as Signed;
use crate::id::{DeviceId, EnvelopeId, RightId};
use crate::limits;
use crate::record::{
    Carriage, Custodian, Custody, Delivery, Job, JobBody, Key, KeyRange, Peer, Proof, Rank, RelayRef,
    StepKind,
};
use crate::time::Wall;
use crate::wire::relay::{Answer, Refusal, RefusalCode};
use crate::wire::{Frame, PayloadBody};

/// Longest pause before a relay that could not be reached is tried again.
const PAUSE_MAX: u64 = 10 * limits::MINUTE;
/// Pause after a refusal that only somebody's doing will lift.
const PAUSE_REFUSED: u64 = 30 * limits::SECOND;
/// Longest such pause.
const PAUSE_REFUSED_MAX: u64 = limits::HOUR;

/// A deposited envelope, and where.
struct Handed {
    device: DeviceId,
    seq: u64,
    envelope: EnvelopeId,
    right: RightId,
    place: RelayRef,
}

impl Engine {
    /// A request to somebody else's relay was answered, or was not.
    pub(super) fn deposited(
        &mut self,
        id: DepositId,
        result: Result<Bytes, DepositFailure>,
    ) -> Result<(), Fault> {
        let Some((relay, purpose)) = self.carry.requests.remove(&id) else { return Ok(()) };
        self.carry.heard(relay, result.is_ok());
        self.feed_starved();
        let answer = match result {
            Err(failure) => Err(failure),
            Ok(bytes) => match Frame::decode(&bytes) {
                Ok(Frame::RelayReply(reply)) => Ok(reply.answer),
                Ok(_) | Err(_) => Ok(Answer::Unknown),
            },
        };
        match purpose {
            Purpose::Job { device, seq, envelope, right, place } => {
                let handed = Handed { device, seq, envelope, right, place };
                self.handed_over(&handed, answer)
            }
            Purpose::Bundle { device } => self.bundle_answered(device, id, answer),
            Purpose::Canary { envelope } => self.canary_answered(relay, envelope, answer),
        }
    }

    fn handed_over(&mut self, handed: &Handed, answer: Result<Answer, DepositFailure>) -> Result<(), Fault> {
        let way = (handed.device, handed.place.relay);
        self.pump.insert(handed.device);
        if let Some(carrier) = self.carry.carriers.get_mut(&way) {
            carrier.landed(handed.seq);
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => return self.not_reached(handed, failure),
        };
        match answer {
            Answer::Custody(receipt) => match self.signed(handed, &receipt) {
                Some(signed) => {
                    self.reached_relay(handed);
                    self.in_custody(handed, receipt, &signed)
                }
                None => self.turned_down(handed, "its receipt is not valid", PAUSE_REFUSED_MAX),
            },
            Answer::Collected(_) => {
                self.reached_relay(handed);
                self.collected(handed)
            }
            Answer::Refused(refusal) => self.relay_refused(handed, refusal),
            _ => self.turned_down(handed, "its answer makes no sense", PAUSE_REFUSED_MAX),
        }
    }

    fn reached_relay(&mut self, handed: &Handed) {
        if let Some(carrier) = self.carry.carriers.get_mut(&(handed.device, handed.place.relay)) {
            carrier.attempts = 0;
            carrier.why = None;
        }
    }

    /// A receipt counts only if the relay we asked signed for this envelope in this mailbox.
    fn signed(&self, handed: &Handed, receipt: &Bytes) -> Option<Signed> {
        let signed = Signed::verify(receipt).ok()?;
        let fits = signed.relay == handed.place.relay
            && signed.mailbox == handed.place.mailbox
            && signed.envelope == handed.envelope;
        fits.then_some(signed)
    }

    fn not_reached(&mut self, handed: &Handed, failure: DepositFailure) -> Result<(), Fault> {
        let jitter = self.core.below(limits::SECOND);
        let now = self.core.now.mono;
        let way = (handed.device, handed.place.relay);
        let Some(carrier) = self.carry.carriers.get_mut(&way) else { return Ok(()) };
        carrier.back_to(handed.seq);
        if carrier.not_before > now {
            return Ok(()); // the others of the same attempt say the same
        }
        let pause = (limits::BACKOFF_MIN << carrier.attempts.min(16)).min(PAUSE_MAX);
        carrier.attempts = carrier.attempts.saturating_add(1);
        carrier.not_before = now.plus(pause).plus(jitter);
        let detail = format!("{}: {failure}", handed.place.relay.short());
        tracing::debug!(peer = %handed.device.short(), relay = detail, pause, "a deposit failed");
        carrier.why = Some((StepKind::RelayUnreachable, detail.clone()));
        self.note_step(handed.device, handed.seq, StepKind::RelayUnreachable, &detail)
    }

    fn relay_refused(&mut self, handed: &Handed, refusal: Refusal) -> Result<(), Fault> {
        let way = (handed.device, handed.place.relay);
        let Some(carrier) = self.carry.carriers.get_mut(&way) else { return Ok(()) };
        match refusal.code {
            RefusalCode::TooLarge | RefusalCode::Malformed | RefusalCode::Unsupported => {
                carrier.never.insert(handed.seq);
                let detail = format!("{}: {}", handed.place.relay.short(), refusal.code);
                return self.note_step(handed.device, handed.seq, StepKind::RelayRefused, &detail);
            }
            RefusalCode::TtlTooLong => {
                // it does not say how long it would keep it: half as long is asked for next
                let ttl = carrier.ttl.unwrap_or(limits::MESSAGE_TTL / limits::SECOND);
                carrier.ttl = Some((ttl / 2).max(limits::HOUR / limits::SECOND));
                carrier.back_to(handed.seq);
                return Ok(());
            }
            _ => {}
        }
        let asked = refusal.retry_after.saturating_mul(limits::SECOND);
        let pause = if refusal.code.passes() {
            (limits::BACKOFF_MIN << carrier.attempts.min(16)).min(PAUSE_MAX).max(asked.min(PAUSE_REFUSED_MAX))
        } else {
            (PAUSE_REFUSED << carrier.attempts.min(16)).min(PAUSE_REFUSED_MAX).max(asked.min(limits::DAY))
        };
        // a right that is not known yet is probably on its way there
        let pause = match refusal.code {
            RefusalCode::RightUnknown | RefusalCode::MailboxUnknown if carrier.attempts < 6 => {
                limits::BACKOFF_MIN << carrier.attempts
            }
            _ => pause,
        };
        self.turned_down(handed, &refusal.code.to_string(), pause)
    }

    /// The relay does not take it now: a step in the journey, and a reason to wait.
    fn turned_down(&mut self, handed: &Handed, why: &str, pause: u64) -> Result<(), Fault> {
        let jitter = self.core.below(pause / 4 + 1);
        let now = self.core.now.mono;
        let way = (handed.device, handed.place.relay);
        let Some(carrier) = self.carry.carriers.get_mut(&way) else { return Ok(()) };
        carrier.back_to(handed.seq);
        if carrier.not_before > now {
            return Ok(());
        }
        carrier.attempts = carrier.attempts.saturating_add(1);
        carrier.not_before = now.plus(pause).plus(jitter);
        let detail = format!("{}: {why}", handed.place.relay.short());
        tracing::debug!(peer = %handed.device.short(), relay = detail, pause, "a deposit was refused");
        carrier.why = Some((StepKind::RelayRefused, detail.clone()));
        self.note_step(handed.device, handed.seq, StepKind::RelayRefused, &detail)
    }

    /// A relay signed that it keeps an envelope.
    fn in_custody(&mut self, handed: &Handed, receipt: Bytes, signed: &Signed) -> Result<(), Fault> {
        let until = self.custody_ends(handed, signed)?;
        self.renew_near(handed.device, handed.place.relay, until, renewed_with(&receipt));
        let Some(carriage) = self.note_custodian(handed, receipt, until)? else { return Ok(()) };
        let Some(job) = self.core.get::<Job>(&Key::Job(handed.device, handed.seq))? else { return Ok(()) };
        match job.body {
            JobBody::Entry(entry) => {
                let rank = if carriage.have() >= carriage.needed() { Rank::Sent } else { Rank::Carried };
                let detail = handed.place.relay.short();
                self.settle(entry, handed.device, rank, Proof::Custody, StepKind::Custody, &detail)
            }
            // nobody answers a receipt, and a stranger's answer is not waited for
            JobBody::Receipt if carriage.have() >= carriage.needed() => {
                self.end_job(handed.device, handed.seq)
            }
            JobBody::Payload(body) if carriage.have() >= carriage.needed() => {
                // a question is asked again if no answer comes
                if is_question(&body) {
                    self.end_job(handed.device, handed.seq)
                } else {
                    self.end_answer(handed)
                }
            }
            JobBody::Receipt | JobBody::Payload(_) | JobBody::Resend(_) | JobBody::Accept => Ok(()),
        }
    }

    /// When what a relay promised ends, by our own clock: a receipt may be one that was given before.
    fn custody_ends(&self, handed: &Handed, signed: &Signed) -> Result<Wall, Fault> {
        let now = self.core.now.wall;
        let known: Option<Carriage> = self.core.get(&Key::Carriage(handed.device, handed.seq))?;
        let before = known.and_then(|carriage| {
            let same = |custodian: &&Custodian| {
                custodian.relay == handed.place.relay && custodian.envelope == handed.envelope
            };
            let custodian = carriage.custodians.iter().find(same)?;
            let word = Signed::stored(&custodian.receipt).ok()?;
            (word.stored_at == signed.stored_at && signed.expires_at >= word.expires_at)
                .then(|| custodian.until.plus(signed.expires_at.since(word.expires_at)))
        });
        if let Some(until) = before {
            return Ok(until);
        }
        // a first receipt that was lost may be as old as the job
        let job: Option<Job> = self.core.get(&Key::Job(handed.device, handed.seq))?;
        let age = job.map_or(0, |job| now.since(job.created)).min(now.since(signed.stored_at));
        Ok(now.plus(signed.expires_at.since(signed.stored_at)).minus(age))
    }

    fn note_custodian(
        &mut self,
        handed: &Handed,
        receipt: Bytes,
        until: Wall,
    ) -> Result<Option<Carriage>, Fault> {
        let Some(job) = self.core.get::<Job>(&Key::Job(handed.device, handed.seq))? else {
            return Ok(None); // the device has it, or nobody wants it any more
        };
        if job.sealed.is_none_or(|sealed| sealed.id != handed.envelope) {
            return Ok(None); // sealed anew meanwhile
        }
        let known: Option<Carriage> = self.core.get(&Key::Carriage(handed.device, handed.seq))?;
        let mut carriage = match known {
            Some(carriage) => carriage,
            None => {
                let peer: Option<Peer> = self.core.peer(&handed.device)?;
                let of = peer.map_or(1, |peer| peer.relays.len());
                Carriage {
                    device: handed.device,
                    seq: handed.seq,
                    of: u32::try_from(of).unwrap_or(u32::MAX),
                    custodians: Vec::new(),
                }
            }
        };
        let said = Custodian {
            relay: handed.place.relay,
            envelope: handed.envelope,
            right: handed.right,
            receipt,
            until,
        };
        match carriage.custodians.iter_mut().find(|custodian| custodian.relay == said.relay) {
            // a tombstone proves nothing, so it does not take a receipt's place
            Some(there) if said.receipt.is_empty() && !there.receipt.is_empty() => {
                *there = Custodian { receipt: there.receipt.clone(), ..said };
            }
            Some(there) => *there = said,
            None => carriage.custodians.push(said),
        }
        carriage.custodians.truncate(limits::OWN_RELAYS);
        self.core.put(carriage.clone());
        Ok(Some(carriage))
    }

    /// The owner took it from the relay: nothing more is to be done there; the device's own word is awaited.
    fn collected(&mut self, handed: &Handed) -> Result<(), Fault> {
        let until = self.core.now.wall.plus(limits::RELAY_TTL);
        self.note_custodian(handed, Bytes::new(), until)?;
        let detail = handed.place.relay.short();
        self.note_step(handed.device, handed.seq, StepKind::Collected, &detail)
    }

    /// An answer to somebody who is no contact is with their relays: nothing of them is kept.
    fn end_answer(&mut self, handed: &Handed) -> Result<(), Fault> {
        if !self.is_stranger(&handed.device)? {
            return Ok(());
        }
        self.end_job(handed.device, handed.seq)?;
        self.forget_stranger(handed.device)
    }

    /// What relays hold of a job that has ended is of no interest any more.
    pub(super) fn end_carriage(&mut self, device: DeviceId, seq: u64) -> Result<(), Fault> {
        if self.core.get::<Carriage>(&Key::Carriage(device, seq))?.is_some() {
            self.core.delete(Key::Carriage(device, seq));
        }
        Ok(())
    }

    /// Custody of the least advanced device that is still open, for the person to see.
    pub(super) fn custody_of(&self, deliveries: &[Delivery]) -> Result<Option<Custody>, Fault> {
        let own = self.core.own.account;
        let mut least: Option<Custody> = None;
        for delivery in deliveries.iter().filter(|delivery| delivery.account != own) {
            let Some(seq) = delivery.job else { continue };
            let Some(carriage) = self.core.get::<Carriage>(&Key::Carriage(delivery.device, seq))? else {
                continue;
            };
            let custody = Custody { have: carriage.have(), of: carriage.of };
            if least.is_none_or(|least| custody.have < least.have) {
                least = Some(custody);
            }
        }
        Ok(least)
    }

    fn bundle_answered(
        &mut self,
        device: DeviceId,
        id: DepositId,
        answer: Result<Answer, DepositFailure>,
    ) -> Result<(), Fault> {
        let Some(wish) = self.wishes.get_mut(&device) else { return Ok(()) };
        if wish.deposit != Some(id) {
            return Ok(());
        }
        wish.deposit = None;
        let mut lasting = false;
        let why = match answer {
            Ok(Answer::Bundle { bundle, one_time_key }) => {
                match self.bundle_came(device, &bundle, one_time_key) {
                    Ok(()) => return Ok(()),
                    Err(Fault::Misbehaviour(why)) => {
                        self.core.abandon();
                        why
                    }
                    Err(other) => return Err(other),
                }
            }
            Ok(Answer::Refused(refusal)) => {
                let code = refusal.code;
                lasting = matches!(
                    code,
                    RefusalCode::RightRevoked | RefusalCode::RightExpired | RefusalCode::RightUsedUp
                );
                code.to_string()
            }
            Ok(_) => "its answer makes no sense".to_owned(),
            Err(failure) => failure.to_string(),
        };
        tracing::debug!(peer = %device.short(), why, "a relay gave no bundle");
        if lasting {
            self.invite_turned_down(device, &why)?;
        }
        self.no_bundle(device, &why)
    }

    /// The invite we accepted is good no more at a relay: the person is told, once. Its maker's own word is still awaited.
    fn invite_turned_down(&mut self, device: DeviceId, why: &str) -> Result<(), Fault> {
        if self.pending_invite(&device)?.is_none() {
            return Ok(());
        }
        let Some(contact) = self.core.contact_of(&device)? else { return Ok(()) };
        let Some(wish) = self.wishes.get_mut(&device) else { return Ok(()) };
        if !std::mem::replace(&mut wish.turned_down, true) {
            let text = format!(
                "{}'s relay does not take your answer to the invite: {why}. Ask for a new one.",
                contact.display_name()
            );
            self.core.notice("invite-refused", text, About::account(contact.account));
        }
        Ok(())
    }

    /// The next relay is asked at once; when all were asked in vain, after a pause.
    fn no_bundle(&mut self, device: DeviceId, why: &str) -> Result<(), Fault> {
        let now = self.core.now.mono;
        let relays = self.core.peer(&device)?.map_or(0, |peer| peer.relays.len());
        let Some(wish) = self.wishes.get_mut(&device) else { return Ok(()) };
        wish.tries = wish.tries.saturating_add(1);
        let rounds = wish.tries.checked_div(relays.max(1)).unwrap_or(0);
        if wish.tries.checked_rem(relays.max(1)) == Some(0) {
            let doublings = u32::try_from(rounds).unwrap_or(u32::MAX).min(16);
            wish.not_before = now.plus(((2 * limits::BACKOFF_MIN) << doublings).min(PAUSE_MAX));
        }
        self.note_waiting(device, why)?;
        self.take_bundle(device)
    }

    /// Journeys of what waits for a session say why, a few of them.
    fn note_waiting(&mut self, device: DeviceId, why: &str) -> Result<(), Fault> {
        const NOTED: usize = 8;
        let jobs: Vec<Job> = self.core.range(&KeyRange::Jobs(device), NOTED)?;
        for job in jobs.into_iter().filter(|job| job.sealed.is_none()) {
            self.note_step(device, job.seq, StepKind::RelayRefused, why)?;
        }
        Ok(())
    }
}

/// Whether a job only asks for something, which is asked again when no answer comes.
fn is_question(body: &Bytes) -> bool {
    matches!(PayloadBody::decode(body), Ok(PayloadBody::EntryRequest { .. } | PayloadBody::ListRequest))
}
