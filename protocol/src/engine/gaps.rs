//! What is missing: gaps in streams, sessions that broke, and this device finding itself older than it was.

use std::collections::BTreeMap;

use super::core::About;
use super::entries::missing;
use super::timer::Timer;
use super::{Engine, Fault};
use crate::id::{AccountId, ConversationId, DeviceId, EnvelopeId, StreamId};
use crate::limits;
use crate::record::{
    Contact, ContactState, Conversation, Delivery, Entry, JobBody, Key, KeyRange, Session, Stream,
    StreamEntry,
};
use crate::wire::{Frontier, Payload, PayloadBody, StreamHead};

/// A stream with something missing, while this process lives.
#[derive(Debug, Default)]
pub(super) struct Gap {
    /// The stream is known to reach this number.
    known_end: u64,
    /// How often the missing numbers were asked for.
    asked: u32,
    /// Whose word it is that something is missing: one device can make us watch only so much.
    told_by: Option<DeviceId>,
    /// Whom to ask besides the author's device (for our own lost entries).
    from: Option<DeviceId>,
    /// Which conversation.
    conversation: Option<ConversationId>,
}

/// Gaps by stream.
pub(super) type Gaps = BTreeMap<StreamId, Gap>;

/// Streams watched at a time.
const WATCHED: usize = 4096;

impl Engine {
    /// Looks at a stream that moved: starts, moves or ends the watch over its gap.
    pub(super) fn watch_gap(&mut self, stream: &Stream) {
        let held_end = stream.beyond.last().map_or(stream.gapless, |(first, count)| first + count - 1);
        let known = self.gaps.get(&stream.id).map_or(0, |gap| gap.known_end);
        if held_end.max(known) <= stream.gapless && !self.lost_numbers.contains_key(&stream.id) {
            self.gaps.remove(&stream.id);
            self.core.timers.cancel(Timer::Gap(stream.id));
            return;
        }
        let Some(gap) = self.gap(stream.id, stream.device) else { return };
        gap.known_end = gap.known_end.max(held_end);
        if !self.core.timers.is_set(Timer::Gap(stream.id)) {
            self.core.timers.set(Timer::Gap(stream.id), self.core.now.mono.plus(limits::GAP_WAIT));
        }
    }

    /// The watch over a stream, begun if there is room for one more.
    fn gap(&mut self, stream: StreamId, told_by: DeviceId) -> Option<&mut Gap> {
        if !self.gaps.contains_key(&stream) {
            let told = self.gaps.values().filter(|gap| gap.told_by == Some(told_by)).count();
            if self.gaps.len() >= WATCHED || told >= limits::STREAMS {
                return None;
            }
            self.gaps.insert(stream, Gap { told_by: Some(told_by), ..Gap::default() });
        }
        self.gaps.get_mut(&stream)
    }

    /// Whether something of a stream is missed and was asked for.
    pub(super) fn is_missed(&self, stream: &StreamId) -> bool {
        self.gaps.get(stream).is_some_and(|gap| gap.asked > 0)
    }

    /// A contact's device says how far its streams go.
    pub(super) fn streams_announced(&mut self, peer: DeviceId, heads: &[StreamHead]) -> Result<(), Fault> {
        let Some(contact) = self.core.contact_of(&peer)? else { return Ok(()) };
        let direct = self.direct_id(contact.account);
        if contact.state != ContactState::Accepted || heads.iter().any(|head| head.conversation != direct) {
            return Err(Fault::Misbehaviour("announces streams of a conversation it has no part in".into()));
        }
        for head in heads {
            let held = self.stream(&head.stream)?.map_or(0, |stream| stream.gapless);
            if head.number > held {
                self.expect(head.stream, head.conversation, peer, head.number);
            }
        }
        Ok(())
    }

    /// Watches over a stream that is known to go further than what is here, and asks this device for the rest. False: that
    /// device has made us watch over as much as it may.
    pub(super) fn expect(
        &mut self,
        stream: StreamId,
        conversation: ConversationId,
        from: DeviceId,
        end: u64,
    ) -> bool {
        let Some(gap) = self.gap(stream, from) else { return false };
        gap.known_end = gap.known_end.max(end);
        gap.from = Some(from);
        gap.conversation = Some(conversation);
        self.core.timers.set_earlier(Timer::Gap(stream), self.core.now.mono.plus(limits::GAP_WAIT));
        true
    }

    /// Whether a stream is watched over.
    pub(super) fn is_watched(&self, stream: &StreamId) -> bool {
        self.gaps.contains_key(stream)
    }

    /// A gap has stood long enough: ask for what is missing, a stretch at a time.
    pub(super) fn gap_timeout(&mut self, id: StreamId) -> Result<(), Fault> {
        let stream = self.stream(&id)?;
        let Some(gap) = self.gaps.get_mut(&id) else { return Ok(()) };
        let from = gap.from.or(stream.as_ref().map(|stream| stream.device));
        let conversation = gap.conversation.or(stream.as_ref().map(|stream| stream.conversation));
        let (Some(from), Some(conversation)) = (from, conversation) else { return Ok(()) };
        let empty = Stream {
            id,
            device: from,
            account: AccountId([0; 32]),
            conversation,
            gapless: 0,
            gapless_id: crate::id::EntryId([0; 32]),
            beyond: Vec::new(),
            read: 0,
            forked: false,
            closed: false,
        };
        let (known_end, asked) = (gap.known_end, gap.asked);
        let mut lacking = missing(stream.as_ref().unwrap_or(&empty), known_end.saturating_add(1));
        lacking.extend(self.still_lost(&id)?);
        lacking.sort_unstable();
        let ranges = first_of(&lacking, limits::REQUESTED as u64);
        if ranges.is_empty() {
            self.gaps.remove(&id);
            return Ok(());
        }
        // while what is missing is on its way anyway, or nobody can be asked, only wait
        let linked = self.links.contains_key(&from);
        let can_ask = (linked || self.has_relays(&from)?) && !self.is_backed_up(&from)?;
        // who is away cannot answer soon, and relays carry what was asked: their custody ends its job, and it is asked anew
        let pause = if linked { limits::GAP_WAIT << asked.min(8) } else { limits::MINUTE << asked.min(10) };
        let Some(gap) = self.gaps.get_mut(&id) else { return Ok(()) };
        if can_ask {
            gap.asked = gap.asked.saturating_add(1);
            tracing::debug!(peer = %from.short(), ?ranges, asked, "asking for missing entries");
            let account = self.core.owner(&from)?;
            if let Some(account) = account {
                let body = PayloadBody::EntryRequest { conversation, stream: id, ranges };
                self.enqueue_payload(from, account, body)?;
            }
        }
        self.core.timers.set(Timer::Gap(id), self.core.now.mono.plus(pause));
        Ok(())
    }

    /// Whether we asked for this number of one of our own streams.
    pub(super) fn asked_for(&self, stream: &StreamId, number: u64) -> bool {
        self.gaps.get(stream).is_some_and(|gap| gap.from.is_some() && number <= gap.known_end)
    }

    pub(super) fn enqueue_payload(
        &mut self,
        device: DeviceId,
        account: AccountId,
        body: PayloadBody,
    ) -> Result<u64, Fault> {
        let body = JobBody::Payload(encode_body(body));
        self.enqueue(device, account, body, limits::MESSAGE_TTL, None)
    }

    /// A device asks for entries: those once addressed to it, and its own that it lost.
    pub(super) fn entries_asked(
        &mut self,
        contact: &Contact,
        from: DeviceId,
        conversation: ConversationId,
        stream: StreamId,
        ranges: &[(u64, u64)],
    ) -> Result<(), Fault> {
        if conversation != self.direct_id(contact.account) {
            return Err(Fault::Misbehaviour("asks for entries of a conversation it has no part in".into()));
        }
        let Some(row) = self.stream(&stream)? else { return Ok(()) };
        if row.conversation != conversation {
            return Err(Fault::Misbehaviour("asks for entries of a conversation it has no part in".into()));
        }
        if self.is_backed_up(&from)? {
            return Ok(());
        }
        let mut void = Vec::new();
        let mut left = limits::REQUESTED;
        for number in ranges.iter().flat_map(|(first, count)| *first..first.saturating_add(*count)) {
            if left == 0 || number > row.gapless {
                break;
            }
            left -= 1;
            if !self.send_again(&row, contact.account, from, number)? {
                void.push((number, 1));
            }
        }
        if row.device == self.core.own.device && !void.is_empty() {
            let ranges = join(void);
            self.enqueue_payload(from, contact.account, PayloadBody::Voids { conversation, stream, ranges })?;
        }
        Ok(())
    }

    /// Queues an entry once more for a device that may have it. False: the number holds nothing for it.
    fn send_again(
        &mut self,
        stream: &Stream,
        account: AccountId,
        device: DeviceId,
        number: u64,
    ) -> Result<bool, Fault> {
        let rows: Vec<StreamEntry> = self.core.range(&KeyRange::StreamNumber(stream.id, number), 4)?;
        let mut any = false;
        for row in rows {
            let Some(entry) = self.core.get::<Entry>(&Key::Entry(row.entry))? else { continue };
            if entry.bytes.is_empty() {
                continue;
            }
            let delivery: Option<Delivery> = self.core.get(&Key::Delivery(row.entry, device))?;
            if entry.author != account && delivery.is_none() {
                continue;
            }
            any = true;
            if delivery.is_some_and(|delivery| delivery.job.is_some()) {
                // its job is at work already
                continue;
            }
            self.enqueue(device, account, JobBody::Resend(row.entry), limits::MESSAGE_TTL, None)?;
        }
        Ok(any)
    }

    /// A device that once had more has less now: send again what it lost.
    pub(super) fn send_lost(
        &mut self,
        stream: &Stream,
        account: AccountId,
        device: DeviceId,
        has: u64,
        had: u64,
    ) -> Result<(), Fault> {
        if self.is_backed_up(&device)? {
            return Ok(());
        }
        // what is past this stretch the device asks for itself: it knows how far the stream goes
        for number in has.saturating_add(1)..=had.min(has.saturating_add(limits::REQUESTED as u64)) {
            self.send_again(stream, account, device, number)?;
        }
        Ok(())
    }

    /// Numbers of a contact's stream hold nothing and never will.
    pub(super) fn voids_came(
        &mut self,
        contact: &Contact,
        conversation: ConversationId,
        stream: StreamId,
        ranges: &[(u64, u64)],
    ) -> Result<(), Fault> {
        let Some(mut row) = self.stream(&stream)? else { return Ok(()) };
        if row.conversation != conversation || row.account != contact.account {
            return Err(Fault::Misbehaviour("declares numbers void in somebody else's stream".into()));
        }
        for (first, count) in first_of(ranges, limits::IN_FLIGHT as u64) {
            self.fill(&mut row, first, first.saturating_add(count));
            self.lost_are_void(stream, first, count);
        }
        self.settle_head(&mut row)?;
        self.owe_receipt(&row)?;
        self.core.put(row);
        Ok(())
    }

    // ---- broken sessions --------------------------------------------------------------------------------------

    /// Our bundle request for a repair was answered: the request is the first message of the fresh session.
    pub(super) fn seal_repair(&mut self, device: DeviceId, session: Session) -> Result<(), Fault> {
        let Some(account) = self.core.owner(&device)? else { return Ok(()) };
        let rolled_back = self.is_rolled_back(&account);
        let unopened = self.inbound.get_mut(&device).map(|inbound| std::mem::take(&mut inbound.unopened));
        let envelopes: Vec<EnvelopeId> = unopened.into_iter().flatten().take(limits::REQUESTED).collect();
        let body = PayloadBody::Repair { envelopes: envelopes.clone(), rolled_back };
        let Some(sealed) = self.seal_in(session, body.clone())? else { return Ok(()) };
        for envelope in envelopes {
            // relays need not keep what will be sealed anew
            self.collect(envelope);
        }
        let job = JobBody::Payload(encode_body(body));
        let seq = self.enqueue(device, account, job, limits::MESSAGE_TTL, Some(sealed.clone()))?;
        self.send_sealed(device, seq, &sealed);
        Ok(())
    }

    /// A device cannot open what we sealed for it. Everything open for it is sealed anew in the session the request
    /// came in; what it already confirmed it asks for by number.
    pub(super) fn repair_asked(
        &mut self,
        from: DeviceId,
        session: &Session,
        envelopes: &[EnvelopeId],
        rolled_back: bool,
    ) -> Result<(), Fault> {
        let Some(mut peer) = self.core.peer(&from)? else { return Ok(()) };
        let now = self.core.now.wall;
        if peer.repair_served.is_some_and(|served| now.since(served) < limits::REPAIR_INTERVAL / 2) {
            return Ok(());
        }
        peer.repair_served = Some(now);
        self.core.put(peer);
        tracing::debug!(peer = %from.short(), envelopes = envelopes.len(), rolled_back, "repairing");
        let mut kept = session.clone();
        kept.retired = false;
        self.core.put(kept);
        self.retire_sessions(&from, session.id, true)?;
        if let Some(link) = self.links.get_mut(&from) {
            link.rewind();
        }
        self.carry_anew(from);
        self.pump.insert(from);
        Ok(())
    }

    // ---- an older self ------------------------------------------------------------------------------------------

    /// A receipt names a stream of ours that we do not know.
    pub(super) fn unknown_own_stream(
        &mut self,
        contact: &Contact,
        device: DeviceId,
        frontier: &Frontier,
    ) -> Result<(), Fault> {
        if contact.state != ContactState::Accepted || frontier.delivered == 0 {
            return Ok(());
        }
        let conversation = self.direct_id(contact.account);
        self.expect(frontier.stream, conversation, device, frontier.delivered);
        self.claimed_rolled_back(contact)
    }

    /// A receipt speaks of entries of ours that we do not have: this device was put back to an older state.
    pub(super) fn rolled_back(
        &mut self,
        contact: &Contact,
        device: DeviceId,
        stream: &Stream,
        delivered: u64,
    ) -> Result<(), Fault> {
        self.expect(stream.id, stream.conversation, device, delivered);
        if stream.closed {
            return Ok(());
        }
        self.claimed_rolled_back(contact)
    }

    /// Whether this device is, or may be, older than it was, as far as an account is concerned.
    fn is_rolled_back(&self, account: &AccountId) -> bool {
        self.rolled_back_at.is_some() || self.rolled_back_for.contains(account)
    }

    /// A contact says that this device is older than it was. That cannot be proved, so it concerns this contact alone: a
    /// new stream and new sessions, once per process. Other contacts say so themselves, and our own directory record
    /// proves it.
    fn claimed_rolled_back(&mut self, contact: &Contact) -> Result<(), Fault> {
        if self.is_rolled_back(&contact.account) {
            return Ok(());
        }
        self.rolled_back_for.insert(contact.account);
        if let Some(conversation) = self.direct(contact.account)? {
            self.close_own_stream(conversation)?;
        }
        self.break_sessions(contact)?;
        let name = contact.display_name();
        let text = format!(
            "{name} has receipts for messages that this device does not have: it may have been restored from a copy, \
             or a copy of it is running, or {name}'s Kith is at fault. A new session with {name} is started, and what \
             is missing is asked for."
        );
        self.core.notice("rolled-back", text, About::account(contact.account));
        Ok(())
    }

    fn close_own_stream(&mut self, mut conversation: Conversation) -> Result<(), Fault> {
        let Some(id) = conversation.own_stream.take() else { return Ok(()) };
        if let Some(mut stream) = self.stream(&id)? {
            stream.closed = true;
            self.core.put(stream);
        }
        self.core.put(conversation);
        Ok(())
    }

    fn break_sessions(&mut self, contact: &Contact) -> Result<(), Fault> {
        for device in &contact.devices {
            for mut session in self.core.sessions(device)? {
                if !session.broken {
                    session.broken = true;
                    session.retired = true;
                    self.core.put(session);
                }
            }
        }
        Ok(())
    }

    /// Our own directory record proves that this device is older than it was: new streams and new sessions with
    /// everybody, and the person is told, once per process.
    pub(super) fn become_rolled_back(&mut self) -> Result<(), Fault> {
        if self.rolled_back_at.is_some() {
            return Ok(());
        }
        self.renew_everything()?;
        let text = "This device holds an older state than before: it was restored from a copy, or a copy of it is \
                    running. New sessions are started, and messages written since the copy are asked for.";
        self.core.notice("rolled-back", text.into(), About::default());
        Ok(())
    }

    /// New streams and new sessions with everybody. In batches of its own if there are many: nothing is sent meanwhile, and
    /// whoever asks for it asks again after a stop.
    pub(super) fn renew_everything(&mut self) -> Result<(), Fault> {
        self.rolled_back_at = Some(self.core.now.wall);
        let conversations: Vec<Conversation> = self.core.range(&KeyRange::Conversations, limits::CONTACTS)?;
        for conversation in conversations {
            if !self.rolled_back_for.contains(&conversation.with) {
                self.close_own_stream(conversation)?;
                self.core.cut();
            }
        }
        let contacts: Vec<Contact> = self.core.range(&KeyRange::Contacts, limits::CONTACTS)?;
        for contact in &contacts {
            if !self.rolled_back_for.contains(&contact.account) {
                self.break_sessions(contact)?;
                self.core.cut();
            }
        }
        Ok(())
    }
}

/// A payload that waits in a job. The device list's version is filled in when it is sealed.
pub(super) fn encode_body(body: PayloadBody) -> bytes::Bytes {
    Payload { list_version: 0, list_hash: [0; 32], body }.encode()
}

/// The first `count` numbers of some ranges.
fn first_of(ranges: &[(u64, u64)], mut count: u64) -> Vec<(u64, u64)> {
    let mut taken = Vec::new();
    for (first, length) in ranges {
        let length = (*length).min(count);
        if length == 0 {
            break;
        }
        taken.push((*first, length));
        count = count.saturating_sub(length);
    }
    taken
}

/// Joins neighbouring ranges.
fn join(ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (first, count) in ranges {
        match joined.last_mut() {
            Some((last, length)) if last.saturating_add(*length) == first => {
                *length = length.saturating_add(count)
            }
            Some(_) | None => joined.push((first, count)),
        }
    }
    joined
}
