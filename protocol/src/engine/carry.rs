//! Deposits: each job's envelope goes to all relays of its device, beside the direct attempt, until the device itself
//! has it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use super::outbox::Ready;
use super::output::Output;
use super::timer::Timer;
use super::{DepositId, Engine, Fault};
use crate::crypto::custody::Custody as Signed;
use crate::crypto::right::{RelayRight, deposit_mac, take_bundle_mac};
use crate::id::{DeviceId, EnvelopeId, RightId};
use crate::identity;
use crate::limits;
use crate::record::{Carriage, ContactState, Job, JobBody, Key, KeyRange, Peer, RelayRef, Sealed, StepKind};
use crate::secret::Secret32;
use crate::time::{Mono, Wall};
use crate::wire::Frame;
use crate::wire::relay::{Ask, Deposit, RelayRequest};

/// Jobs read from the store at a time.
const PAGE: usize = 32;
/// Shortest time to live a deposit asks for, in seconds.
const TTL_MIN: u64 = 60;
/// Requests on the way to relays that have not answered lately, all together: the others always have the rest.
const UNPROVEN_ALL: usize = limits::DEPOSITS_ALL / 2;
/// Such requests to one relay.
const UNPROVEN: usize = 2 * limits::DEPOSITS;
/// Custody is renewed when no more than this is left of it,
const RENEW_LEFT: u64 = limits::DAY;
/// or this part of its time, if that is less.
const RENEW_PART: u64 = 4;

/// The way to one relay of one device.
#[derive(Debug, Default)]
pub(super) struct Carrier {
    /// Jobs from this place on were not deposited yet.
    next_seq: u64,
    pub(super) in_flight: BTreeMap<u64, usize>,
    pub(super) bytes: usize,
    /// Nothing is deposited before.
    pub(super) not_before: Mono,
    pub(super) attempts: u32,
    /// Why it waits: the step of whatever was tried last.
    pub(super) why: Option<(StepKind, String)>,
    /// The longest time to live this relay takes, as far as it was found out: seconds.
    pub(super) ttl: Option<u64>,
    /// Jobs this relay will never take.
    pub(super) never: BTreeSet<u64>,
    /// When the first custody here nears its end.
    pub(super) renew: Option<Wall>,
}

impl Carrier {
    /// A deposit was answered, one way or the other.
    pub(super) fn landed(&mut self, seq: u64) {
        if let Some(size) = self.in_flight.remove(&seq) {
            self.bytes = self.bytes.saturating_sub(size);
        }
    }

    /// This job, and those behind it, are to be deposited again.
    pub(super) fn back_to(&mut self, seq: u64) {
        self.next_seq = self.next_seq.min(seq);
    }

    /// After a failure one deposit goes ahead, to see whether the relay takes it.
    fn has_room(&self) -> bool {
        let most = if self.attempts == 0 { limits::DEPOSITS } else { 1 };
        self.in_flight.len() < most && self.bytes < limits::DEPOSIT_BYTES
    }
}

/// What a request to somebody else's relay was for.
#[derive(Debug, Clone)]
pub(super) enum Purpose {
    /// Brings a job's envelope.
    Job { device: DeviceId, seq: u64, envelope: EnvelopeId, right: RightId, place: RelayRef },
    /// Asks for a device's bundle.
    Bundle { device: DeviceId },
    /// Puts a canary in our own mailbox.
    Canary { envelope: EnvelopeId },
}

/// Deposits on their way.
#[derive(Debug)]
pub(super) struct Carry {
    pub(super) carriers: BTreeMap<(DeviceId, DeviceId), Carrier>,
    /// Requests on the way: to which relay, and what for.
    pub(super) requests: BTreeMap<DepositId, (DeviceId, Purpose)>,
    /// Relays that answered when they were last asked.
    proven: BTreeSet<DeviceId>,
    next: u64,
    /// Devices that wait until fewer requests are on the way.
    starved: BTreeSet<DeviceId>,
    /// The last of them that was let try.
    fed: DeviceId,
    /// Random, so that pseudonyms mean nothing outside this process.
    salt: [u8; 16],
}

impl Carry {
    /// `first`: random, so that an answer to a request of an earlier Engine is nobody's.
    pub(super) fn new(salt: [u8; 16], first: u32) -> Self {
        Self {
            carriers: BTreeMap::new(),
            requests: BTreeMap::new(),
            proven: BTreeSet::new(),
            next: u64::from(first) << 16,
            starved: BTreeSet::new(),
            fed: DeviceId([0; 32]),
            salt,
        }
    }

    /// Whether there is room for one more request to a relay: those that do not answer must not fill it.
    fn has_room(&self, relay: &DeviceId) -> bool {
        if self.requests.len() >= limits::DEPOSITS_ALL {
            return false;
        }
        if self.proven.contains(relay) {
            return true;
        }
        let unproven = || self.requests.values().map(|(to, _)| to).filter(|to| !self.proven.contains(to));
        unproven().count() < UNPROVEN_ALL && unproven().filter(|to| *to == relay).count() < UNPROVEN
    }

    /// A relay answered, or did not.
    pub(super) fn heard(&mut self, relay: DeviceId, answered: bool) {
        const REMEMBERED: usize = 4 * 1024;
        if !answered {
            self.proven.remove(&relay);
        } else if self.proven.len() < REMEMBERED || self.proven.contains(&relay) {
            self.proven.insert(relay);
        }
    }
}

impl Engine {
    /// Whether a device names relays, and we may deposit there.
    pub(super) fn has_relays(&self, device: &DeviceId) -> Result<bool, Fault> {
        let peer = self.core.peer(device)?;
        Ok(peer.is_some_and(|peer| !peer.relays.is_empty() && peer.right_received.is_some()))
    }

    /// Deposits what is open for a device at each of its relays, as far as there is room on the way.
    pub(super) fn carry(&mut self, device: DeviceId) -> Result<(), Fault> {
        let Some(peer) = self.core.peer(&device)? else { return Ok(()) };
        let Some(right) = peer.right_received.clone() else { return Ok(()) };
        self.forget_other_carriers(&peer);
        if peer.relays.is_empty() || !self.may_write_to(&peer)? {
            return Ok(());
        }
        for place in &peer.relays {
            self.carry_to(&peer, &right, place)?;
        }
        Ok(())
    }

    /// Nobody blocked or removed is sent anything; whoever is answered without being a contact is.
    fn may_write_to(&self, peer: &Peer) -> Result<bool, Fault> {
        let contact = self.core.contact(&peer.account)?;
        Ok(contact.is_none_or(|contact| {
            matches!(contact.state, ContactState::Accepted | ContactState::Waiting | ContactState::Removed)
                || !contact.devices.contains(&peer.device)
        }))
    }

    /// Relays that a device no longer names.
    fn forget_other_carriers(&mut self, peer: &Peer) {
        let range = (peer.device, DeviceId([0; 32]))..=(peer.device, DeviceId([0xff; 32]));
        let gone: Vec<(DeviceId, DeviceId)> = self
            .carry
            .carriers
            .range(range)
            .map(|(key, _)| *key)
            .filter(|(_, relay)| peer.relays.iter().all(|place| place.relay != *relay))
            .collect();
        for key in gone {
            self.carry.carriers.remove(&key);
        }
    }

    fn carry_to(&mut self, peer: &Peer, right: &Secret32, place: &RelayRef) -> Result<(), Fault> {
        let device = peer.device;
        let key = RelayRight::derive(right, &place.relay, &place.mailbox);
        loop {
            let carrier = self.carry.carriers.entry((device, place.relay)).or_default();
            if carrier.not_before > self.core.now.mono {
                self.core.timers.set_earlier(Timer::Carry(device), carrier.not_before);
                return Ok(());
            }
            let after = carrier.next_seq.checked_sub(1).map(|seq| Key::Job(device, seq));
            if !carrier.has_room() {
                return Ok(());
            }
            let jobs: Vec<Job> = self.core.rows.range(&KeyRange::Jobs(device), after.as_ref(), PAGE)?;
            if jobs.is_empty() {
                return Ok(());
            }
            for job in jobs {
                if !self.carry_job(peer, place, &key, job)? {
                    return Ok(());
                }
                self.core.commit();
            }
        }
    }

    /// Deposits one job's envelope at one relay, unless that has it. False: the queue must wait.
    fn carry_job(
        &mut self,
        peer: &Peer,
        place: &RelayRef,
        right: &RelayRight,
        mut job: Job,
    ) -> Result<bool, Fault> {
        let (device, seq) = (job.device, job.seq);
        let now = self.core.now;
        let joining = job.body == JobBody::Receipt && job.sealed.is_none() && self.is_joining(&device);
        let way = (device, place.relay);
        let Some(carrier) = self.carry.carriers.get_mut(&way) else { return Ok(false) };
        if joining || carrier.in_flight.contains_key(&seq) || carrier.never.contains(&seq) {
            carrier.next_seq = carrier.next_seq.max(seq.saturating_add(1));
            return Ok(true);
        }
        if !carrier.has_room() {
            return Ok(false);
        }
        let young = limits::DEPOSIT_GRACE.saturating_sub(now.wall.since(job.created));
        if young > 0 && job.created <= now.wall && self.links.contains_key(&device) {
            // the direct copy is probably there before a relay could sign for one
            self.core.timers.set_earlier(Timer::Carry(device), now.mono.plus(young));
            return Ok(false);
        }
        if !self.carry.has_room(&place.relay) {
            self.carry.starved.insert(device);
            return Ok(false);
        }
        match self.ready(device, &mut job)? {
            Ready::Sealed { .. } => {}
            Ready::Nothing => return Ok(true),
            Ready::Waits => return Ok(false),
        }
        let Some(sealed) = job.sealed.clone() else { return Ok(false) };
        let Some(carrier) = self.carry.carriers.get_mut(&way) else { return Ok(false) };
        carrier.next_seq = carrier.next_seq.max(seq.saturating_add(1));
        if self.is_carried(&job, place, &sealed, right.id)? {
            return Ok(true);
        }
        self.deposit(peer, place, right, &job, &sealed);
        Ok(true)
    }

    /// Whether a relay signed for this envelope under this right, and its custody is not near its end. Notes when to look
    /// again.
    fn is_carried(
        &mut self,
        job: &Job,
        place: &RelayRef,
        sealed: &Sealed,
        right: RightId,
    ) -> Result<bool, Fault> {
        let Some(carriage) = self.core.get::<Carriage>(&Key::Carriage(job.device, job.seq))? else {
            return Ok(false);
        };
        let custodian = carriage.custodians.iter().find(|custodian| custodian.relay == place.relay);
        let Some(custodian) = custodian else { return Ok(false) };
        if custodian.envelope != sealed.id || custodian.right != right {
            return Ok(false);
        }
        let now = self.core.now.wall;
        let until = custodian.until;
        let left = renewed_with(&custodian.receipt);
        // custody that lasts about as long as the job needs no more
        let lasts = job.created.plus(job.ttl).since(until) <= left / 2;
        self.renew_near(job.device, place.relay, until, left);
        Ok(now < until.minus(left) || (lasts && now < until))
    }

    /// Notes when to renew custody at a relay: what is still open then is deposited again. If it does not get longer by
    /// that, it is tried again after a while.
    pub(super) fn renew_near(&mut self, device: DeviceId, relay: DeviceId, until: Wall, left: u64) {
        let again = self.core.now.wall.plus((left / 4).max(limits::MINUTE));
        let at = until.minus(left);
        let at = if at > self.core.now.wall { at } else { again };
        if let Some(carrier) = self.carry.carriers.get_mut(&(device, relay)) {
            carrier.renew = Some(carrier.renew.map_or(at, |renew| renew.min(at)));
        }
    }

    fn deposit(&mut self, peer: &Peer, place: &RelayRef, right: &RelayRight, job: &Job, sealed: &Sealed) {
        let age = self.core.now.wall.since(job.created);
        let left = job.ttl.saturating_sub(age) / limits::SECOND;
        let Some(carrier) = self.carry.carriers.get_mut(&(job.device, place.relay)) else { return };
        let longest = carrier.ttl.unwrap_or(limits::MESSAGE_TTL / limits::SECOND);
        let ttl = u32::try_from(left.clamp(TTL_MIN, longest.max(TTL_MIN))).unwrap_or(u32::MAX);
        carrier.in_flight.insert(job.seq, sealed.bytes.len());
        carrier.bytes = carrier.bytes.saturating_add(sealed.bytes.len());
        let ask = Ask::Deposit(Deposit {
            mailbox: place.mailbox,
            right: right.id,
            id: sealed.id,
            ttl,
            mac: deposit_mac(&right.key, &place.mailbox, &sealed.id, ttl),
            envelope: sealed.bytes.clone(),
        });
        let purpose = Purpose::Job {
            device: job.device,
            seq: job.seq,
            envelope: sealed.id,
            right: right.id,
            place: place.clone(),
        };
        self.request(peer.device, place, ask, purpose);
    }

    /// Sends a request to somebody else's relay; stands behind this turn's batch.
    pub(super) fn request(
        &mut self,
        recipient: DeviceId,
        place: &RelayRef,
        ask: Ask,
        purpose: Purpose,
    ) -> DepositId {
        self.carry.next = self.carry.next.saturating_add(1);
        let id = DepositId(self.carry.next);
        self.carry.requests.insert(id, (place.relay, purpose));
        let parts: [&[u8]; 2] = [&self.carry.salt, recipient.as_bytes()];
        let mut pseudonym = [0; 16];
        pseudonym
            .iter_mut()
            .zip(identity::hash("kith/pseudonym/1", &parts))
            .for_each(|(to, from)| *to = from);
        self.core.say(Output::Deposit {
            id,
            relay: place.relay,
            address: place.address.clone(),
            pseudonym,
            request: Frame::RelayRequest(RelayRequest { id: id.0, ask }).encode(),
        });
        id
    }

    /// Asks one of a device's relays for its bundle; the next one if that has none.
    pub(super) fn take_bundle(&mut self, device: DeviceId) -> Result<(), Fault> {
        let Some(peer) = self.core.peer(&device)? else { return Ok(()) };
        let Some(right) = &peer.right_received else { return Ok(()) };
        let now = self.core.now.mono;
        let Some(wish) = self.wishes.get(&device) else { return Ok(()) };
        if wish.deposit.is_some() || peer.relays.is_empty() {
            return Ok(());
        }
        if wish.not_before > now {
            self.core.timers.set_earlier(Timer::Carry(device), wish.not_before);
            return Ok(());
        }
        let which = wish.tries.checked_rem(peer.relays.len()).unwrap_or(0);
        let Some(place) = peer.relays.get(which) else { return Ok(()) };
        let right = RelayRight::derive(right, &place.relay, &place.mailbox);
        let nonce: [u8; 16] = self.core.random();
        let ask = Ask::TakeBundle {
            mailbox: place.mailbox,
            right: right.id,
            nonce,
            mac: take_bundle_mac(&right.key, &place.mailbox, &nonce),
        };
        let id = self.request(device, place, ask, Purpose::Bundle { device });
        if let Some(wish) = self.wishes.get_mut(&device) {
            wish.deposit = Some(id);
        }
        Ok(())
    }

    /// Why nothing is deposited for a device now, if all its relays are waited for.
    pub(super) fn why_waiting(&self, device: DeviceId) -> Option<(StepKind, String)> {
        let now = self.core.now.mono;
        let range = (device, DeviceId([0; 32]))..=(device, DeviceId([0xff; 32]));
        let carriers = || self.carry.carriers.range(range.clone()).map(|(_, carrier)| carrier);
        if carriers().any(|carrier| carrier.not_before <= now) {
            return None;
        }
        carriers().find_map(|carrier| carrier.why.clone())
    }

    /// A carrier that waited may move again; bundles that could not be had are asked for again.
    pub(super) fn carry_due(&mut self, device: DeviceId) -> Result<(), Fault> {
        self.pump.insert(device);
        if self.wishes.contains_key(&device) && !self.links.contains_key(&device) {
            self.take_bundle(device)?;
        }
        Ok(())
    }

    /// Everything open for a device is to be looked at again from the start.
    pub(super) fn carry_anew(&mut self, device: DeviceId) {
        self.carry_from(device, 0);
    }

    /// Jobs of a device from this place on are to be looked at again.
    pub(super) fn carry_from(&mut self, device: DeviceId, seq: u64) {
        let range = (device, DeviceId([0; 32]))..=(device, DeviceId([0xff; 32]));
        for (_, carrier) in self.carry.carriers.range_mut(range) {
            carrier.back_to(seq);
        }
    }

    /// Custody that nears its end is renewed while its job is open.
    pub(super) fn renew_custody(&mut self) {
        let now = self.core.now.wall;
        for ((device, _), carrier) in &mut self.carry.carriers {
            if carrier.renew.is_some_and(|renew| renew <= now) {
                carrier.renew = None;
                carrier.back_to(0);
                self.pump.insert(*device);
            }
        }
    }

    /// There is room on the way again: some of those that wait may try, each in its turn.
    pub(super) fn feed_starved(&mut self) {
        const FED: usize = 16;
        for _ in 0..FED {
            let carry = &mut self.carry;
            let next = carry.starved.range((Bound::Excluded(carry.fed), Bound::Unbounded)).next().copied();
            let Some(device) = next.or_else(|| carry.starved.first().copied()) else { return };
            carry.starved.remove(&device);
            carry.fed = device;
            self.pump.insert(device);
        }
    }

    /// Queues that a stop interrupted go on: links are not needed for that.
    pub(super) fn resume_carrying(&mut self) -> Result<(), Fault> {
        let outboxes: Vec<crate::record::Outbox> = self.core.range(&KeyRange::Outboxes, limits::CONTACTS)?;
        for outbox in outboxes.into_iter().filter(|outbox| outbox.open > 0) {
            self.pump.insert(outbox.device);
        }
        Ok(())
    }
}

/// Custody is renewed when so much of it is left; by a receipt that was verified.
pub(super) fn renewed_with(receipt: &Bytes) -> u64 {
    let lasts = Signed::stored(receipt).map_or(0, |signed| signed.expires_at.since(signed.stored_at));
    (lasts / RENEW_PART).min(RENEW_LEFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAD: DeviceId = DeviceId([1; 32]);
    const LIVE: DeviceId = DeviceId([2; 32]);

    fn ask(carry: &mut Carry, relay: DeviceId) {
        carry.next += 1;
        let id = DepositId(carry.next);
        carry.requests.insert(id, (relay, Purpose::Bundle { device: DeviceId([9; 32]) }));
    }

    fn fill(carry: &mut Carry, relay: DeviceId) -> usize {
        let before = carry.requests.len();
        while carry.has_room(&relay) {
            ask(carry, relay);
        }
        carry.requests.len() - before
    }

    #[test]
    fn relays_that_do_not_answer_leave_room_for_those_that_do() {
        let mut carry = Carry::new([0; 16], 0);
        carry.heard(LIVE, true);
        assert_eq!(fill(&mut carry, DEAD), UNPROVEN);
        for other in 3..40 {
            fill(&mut carry, DeviceId([other; 32]));
        }
        assert_eq!(carry.requests.len(), UNPROVEN_ALL, "whatever the number of dead relays");
        assert_eq!(fill(&mut carry, LIVE), limits::DEPOSITS_ALL - UNPROVEN_ALL);
        assert!(!carry.has_room(&LIVE), "and there is a bound for all");
    }

    #[test]
    fn a_relay_is_proven_by_its_last_answer_only() {
        let mut carry = Carry::new([0; 16], 0);
        carry.heard(LIVE, true);
        carry.heard(LIVE, false);
        assert_eq!(fill(&mut carry, LIVE), UNPROVEN);
    }

    #[test]
    fn after_a_failure_one_deposit_goes_ahead() {
        let mut carrier = Carrier { attempts: 1, ..Carrier::default() };
        assert!(carrier.has_room());
        carrier.in_flight.insert(1, 256);
        assert!(!carrier.has_room());
        carrier.attempts = 0;
        assert!(carrier.has_room());
    }
}
