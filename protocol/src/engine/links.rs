//! Held links: what is known of each while it lives, and the frames that come over it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::output::{Output, Transient};
use super::timer::Timer;
use super::{Engine, Fault, LinkId};
use crate::id::{AccountId, Address, DeviceId, EnvelopeId, StreamId};
use crate::limits;
use crate::record::{ContactState, StepKind};
use crate::time::{Mono, Wall};
use crate::wire::{Frame, StreamHead};

/// The protocol version this code speaks.
const VERSION: u32 = 1;

/// One live link to a device.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: LinkId,
    /// When it came to be.
    pub(super) since: Mono,
    /// Links before it that broke early, one after the other.
    pub(super) short_lived: u32,
    /// Jobs sent over this link and not yet acknowledged: by place in the queue.
    pub(super) in_flight: BTreeMap<u64, (EnvelopeId, usize)>,
    pub(super) in_flight_bytes: usize,
    /// Jobs from this place on were not sent over this link yet.
    pub(super) next_seq: u64,
    /// Envelopes to acknowledge.
    pub(super) acks: Vec<EnvelopeId>,
    /// Streams whose frontier the device is to be told.
    pub(super) receipts: BTreeSet<StreamId>,
    /// Since when what it is told is counted.
    pub(super) told: Mono,
    /// How often it was told something since then.
    pub(super) told_times: u32,
    /// The batch that what it was told last stood behind.
    pub(super) told_behind: u64,
    /// When it was last sent receipts: those of the last moments may be lost with the link.
    pub(super) receipted: Option<Mono>,
}

/// What a bundle will be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BundleFor {
    /// There is something to send and no session to send it in, or the session is old.
    Sending,
    /// The device's envelopes cannot be opened.
    Repair,
}

impl Link {
    fn new(id: LinkId, since: Mono, short_lived: u32) -> Self {
        Self {
            id,
            since,
            short_lived,
            in_flight: BTreeMap::new(),
            in_flight_bytes: 0,
            next_seq: 0,
            acks: Vec::new(),
            receipts: BTreeSet::new(),
            told: Mono(0),
            told_times: 0,
            told_behind: 0,
            receipted: None,
        }
    }

    /// The job at this place needs no more room in the window.
    pub(super) fn landed(&mut self, seq: u64) {
        if let Some((_, size)) = self.in_flight.remove(&seq) {
            self.in_flight_bytes = self.in_flight_bytes.saturating_sub(size);
        }
    }

    /// Everything open is to be sent again.
    pub(super) fn rewind(&mut self) {
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.next_seq = 0;
    }

    pub(super) fn has_room(&self) -> bool {
        self.in_flight.len() < limits::IN_FLIGHT && self.in_flight_bytes < limits::IN_FLIGHT_BYTES
    }
}

impl Engine {
    pub(super) fn connected(
        &mut self,
        peer: DeviceId,
        link: LinkId,
        address: Option<Address>,
    ) -> Result<(), Fault> {
        let contact = self.core.contact_of(&peer)?;
        if contact.as_ref().is_some_and(|contact| contact.state == ContactState::Blocked) {
            self.core.say_now(Output::Refuse { peer });
            return Ok(());
        }
        let short_lived =
            self.links.get(&peer).map_or_else(|| self.short_lived(&peer), |old| old.short_lived);
        let new = Link::new(link, self.core.now.mono, short_lived);
        let fresh = self.links.insert(peer, new).is_none();
        self.reached(peer);
        if self.stations.contains_key(&peer) {
            self.station_connected(peer, link)?;
            if contact.is_none() {
                return Ok(());
            }
        }
        let accepted = contact.as_ref().filter(|contact| contact.state == ContactState::Accepted);
        let list = accepted.map(|_| (self.core.keys.list.version, self.core.keys.list_hash));
        self.send_frame(peer, &Frame::Hello { version: VERSION, list, time: self.core.now.wall });
        let Some(contact) = contact else { return Ok(()) };
        self.pump.insert(peer);
        self.ask_bundle_again(peer)?;
        if let (Some(address), Some(mut row)) = (address, self.core.peer(&peer)?)
            && row.addresses.first() != Some(&address)
        {
            row.addresses.retain(|known| *known != address);
            row.addresses.insert(0, address);
            row.addresses.truncate(limits::ADDRESSES);
            self.core.put(row);
        }
        if contact.state != ContactState::Accepted {
            return Ok(());
        }
        // also here: a stop or a crash of this device sees no link end
        let mut contact = contact;
        contact.last_seen = Some(self.core.now.wall);
        self.core.put(contact.clone());
        if fresh && self.live_links(&contact.devices) == 1 {
            self.core
                .say_now(Output::Transient(Transient::Online { account: contact.account, online: true }));
        }
        self.announce_streams(peer, contact.account)?;
        self.receipts_after_connect(peer, contact.account)
    }

    pub(super) fn disconnected(&mut self, peer: DeviceId, link: LinkId) -> Result<(), Fault> {
        if self.links.get(&peer).is_none_or(|live| live.id != link) {
            return Ok(());
        }
        let Some(gone) = self.links.remove(&peer) else { return Ok(()) };
        for timer in [Timer::Receipts(peer), Timer::Stalled(peer)] {
            self.core.timers.cancel(timer);
        }
        if self.stations.contains_key(&peer) {
            self.station_gone(peer, &gone)?;
        }
        let contact = self.core.contact_of(&peer)?;
        self.forget_direct(peer, contact.is_some());
        let Some(mut contact) = contact else { return Ok(()) };
        // what was left to the link goes by relays now
        self.pump.insert(peer);
        self.note_link_lost(peer, &gone)?;
        if contact.state == ContactState::Accepted && self.live_links(&contact.devices) == 0 {
            contact.last_seen = Some(self.core.now.wall);
            let account = contact.account;
            self.core.put(contact);
            self.core.say(Output::Transient(Transient::Online { account, online: false }));
        }
        self.reach_soon(peer, &gone);
        self.receipts_by_relay(peer, &gone)?;
        Ok(())
    }

    /// Journeys of what was on its way get a line, a few of them: a broken link must not cost a thousand writes.
    fn note_link_lost(&mut self, peer: DeviceId, gone: &Link) -> Result<(), Fault> {
        const NOTED: usize = 16;
        for seq in gone.in_flight.keys().take(NOTED) {
            self.note_step(peer, *seq, StepKind::LinkLost, "")?;
        }
        Ok(())
    }

    fn live_links(&self, devices: &[DeviceId]) -> usize {
        devices.iter().filter(|device| self.links.contains_key(device)).count()
    }

    pub(super) fn frame(&mut self, peer: DeviceId, link: LinkId, bytes: &Bytes) -> Result<(), Fault> {
        if self.links.get(&peer).is_none_or(|live| live.id != link) {
            return Ok(());
        }
        let frame = Frame::decode(bytes).map_err(|error| Fault::Misbehaviour(error.to_string()))?;
        match frame {
            Frame::Hello { version: _, list, time } => self.hello(peer, list, time),
            Frame::Envelope(envelope) => self.envelope(peer, &envelope),
            Frame::BundleRequest { invite } => self.bundle_requested(peer, invite),
            Frame::Bundle(bundle) => self.bundle_came(peer, &bundle, None),
            Frame::Frontiers(frontiers) => self.frontiers(peer, &frontiers, bytes),
            Frame::Typing { conversation, active } => self.typing_came(peer, conversation, active),
            Frame::Ack(envelopes) => self.acked(peer, &envelopes),
            Frame::Refuse { envelope, reason } => self.refused(peer, envelope, reason, bytes),
            Frame::Streams(heads) => self.streams_announced(peer, &heads),
            // a newer Kith may say more than we understand
            Frame::RelayRequest(_) | Frame::Unknown => Ok(()),
            Frame::RelayHello(hello) => self.relay_hello(peer, &hello),
            Frame::RelayReply(reply) => self.relay_reply(peer, reply),
        }
    }

    fn hello(&mut self, peer: DeviceId, list: Option<(u64, [u8; 32])>, time: Wall) -> Result<(), Fault> {
        let Some(contact) = self.core.contact_of(&peer)? else { return Ok(()) };
        if contact.state != ContactState::Accepted {
            return Ok(());
        }
        let needed = self.agreeing_peers_needed()?;
        self.core.clock.heard(peer, time, needed);
        if let Some((version, hash)) = list {
            self.list_heard(&contact, peer, version, &hash)?;
        }
        Ok(())
    }

    /// Two contacts must agree with a doubted clock, or the only one there is.
    pub(super) fn agreeing_peers_needed(&self) -> Result<usize, Fault> {
        let contacts: Vec<crate::record::Contact> =
            self.core.range(&crate::record::KeyRange::Contacts, 16)?;
        let accepted = contacts.iter().filter(|contact| contact.state == ContactState::Accepted).count();
        Ok(accepted.clamp(1, 2))
    }

    /// A frame that stands behind this turn's batch.
    pub(super) fn send_frame(&mut self, peer: DeviceId, frame: &Frame) {
        if let Some(link) = self.links.get(&peer) {
            self.core.say(Output::Send { peer, link: link.id, frame: frame.encode() });
        }
    }

    /// Tells a contact's device how far our own streams with that person go.
    fn announce_streams(&mut self, peer: DeviceId, account: AccountId) -> Result<(), Fault> {
        let Some(conversation) = self.direct(account)? else { return Ok(()) };
        let mut heads = Vec::new();
        for id in &conversation.streams {
            let Some(stream) = self.stream(id)? else { continue };
            if stream.account == self.core.own.account
                && stream.device == self.core.own.device
                && stream.gapless > 0
            {
                heads.push(StreamHead { conversation: conversation.id, stream: *id, number: stream.gapless });
            }
        }
        heads.truncate(limits::FRONTIERS);
        if !heads.is_empty() {
            self.send_frame(peer, &Frame::Streams(heads));
        }
        Ok(())
    }
}
