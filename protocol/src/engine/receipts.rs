//! Receipts: telling authors what we have of their streams, and believing what others say of ours.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::timer::Timer;
use super::{Engine, Fault};
use crate::entry::Body;
use crate::id::{AccountId, DeviceId, EntryId, StreamId};
use crate::limits;
use crate::record::{
    Contact, Delivery, Entry, EntryKind, EventBody, Key, KeyRange, Proof, Rank, ReceivedFrontier, StepKind,
    Stream, StreamEntry,
};
use crate::wire::{Frame, Frontier};

impl Engine {
    /// A stream has moved: its author is owed a receipt.
    pub(super) fn owe_receipt(&mut self, stream: &Stream) -> Result<(), Fault> {
        let Some(link) = self.links.get_mut(&stream.device) else {
            return self.owe_by_relay(stream.device);
        };
        link.receipts.insert(stream.id);
        self.tell.insert(stream.device);
        Ok(())
    }

    /// All receipts for a device, as after a connection.
    pub(super) fn receipts_after_connect(
        &mut self,
        device: DeviceId,
        account: AccountId,
    ) -> Result<(), Fault> {
        let Some(conversation) = self.direct(account)? else { return Ok(()) };
        for id in conversation.streams {
            if let Some(stream) = self.stream(&id)?
                && stream.device == device
            {
                self.owe_receipt(&stream)?;
            }
        }
        Ok(())
    }

    pub(super) fn receipts_again(&mut self, device: &DeviceId) -> Result<(), Fault> {
        match self.core.owner(device)? {
            Some(account) => self.receipts_after_connect(*device, account),
            None => Ok(()),
        }
    }

    pub(super) fn send_receipts(
        &mut self,
        device: DeviceId,
        streams: &BTreeSet<StreamId>,
    ) -> Result<(), Fault> {
        let frontiers = self.frontiers_of(device, streams)?;
        if let Some(link) = self.links.get_mut(&device)
            && !frontiers.is_empty()
        {
            link.receipted = Some(self.core.now.mono);
        }
        for frontiers in frontiers.chunks(limits::FRONTIERS) {
            self.send_frame(device, &Frame::Frontiers(frontiers.to_vec()));
        }
        Ok(())
    }

    /// What we have of some of a device's streams.
    pub(super) fn frontiers_of(
        &self,
        device: DeviceId,
        streams: &BTreeSet<StreamId>,
    ) -> Result<Vec<Frontier>, Fault> {
        let Some(contact) = self.core.contact_of(&device)? else { return Ok(Vec::new()) };
        let show_read = contact.read_receipts.unwrap_or(self.core.settings.read_receipts);
        let mut frontiers = Vec::new();
        for id in streams {
            let Some(stream) = self.stream(id)? else { continue };
            if stream.gapless == 0 && stream.beyond.is_empty() {
                continue;
            }
            let hash = (stream.gapless_id.0 != [0; 32]).then_some(stream.gapless_id);
            let read = if show_read { stream.read } else { 0 };
            let mut beyond = stream.beyond.clone();
            beyond.truncate(limits::RANGES);
            frontiers.push(Frontier { stream: *id, delivered: stream.gapless, hash, read, beyond });
        }
        Ok(frontiers)
    }

    /// A device says what it has of our streams.
    pub(super) fn frontiers(
        &mut self,
        device: DeviceId,
        frontiers: &[Frontier],
        word: &Bytes,
    ) -> Result<(), Fault> {
        let Some(contact) = self.core.contact_of(&device)? else {
            return Err(Fault::Misbehaviour("sends receipts without being a contact".into()));
        };
        for frontier in frontiers {
            self.frontier(&contact, device, frontier, word)?;
        }
        Ok(())
    }

    fn frontier(
        &mut self,
        contact: &Contact,
        device: DeviceId,
        frontier: &Frontier,
        word: &Bytes,
    ) -> Result<(), Fault> {
        let Some(stream) = self.stream(&frontier.stream)? else {
            // a stream of ours that we do not know: it was written before this device was put back to an older state
            return self.unknown_own_stream(contact, device, frontier);
        };
        if stream.device != self.core.own.device || self.direct_id(contact.account) != stream.conversation {
            return Err(Fault::Misbehaviour("sends a receipt for a stream that is not ours".into()));
        }
        if frontier.delivered > stream.gapless {
            return self.rolled_back(contact, device, &stream, frontier.delivered);
        }
        if frontier.delivered > 0 && !self.is_entry_at(&stream, frontier.delivered, frontier.hash)? {
            return self.rolled_back(contact, device, &stream, frontier.delivered);
        }
        let key = Key::Frontier(device, stream.id);
        let known: Option<ReceivedFrontier> = self.core.get(&key)?;
        if let Some(known) = &known
            && frontier.delivered < known.delivered
        {
            // it had more: the device was put back to an older state; ticks stay, what it lost is sent again
            self.send_lost(&stream, contact.account, device, frontier.delivered, known.delivered)?;
        }
        let mut row = known.unwrap_or(ReceivedFrontier {
            device,
            stream: stream.id,
            delivered: 0,
            read: 0,
            beyond: Vec::new(),
            receipt: Bytes::new(),
            at: self.core.now.wall,
            applied_delivered: 0,
            applied_read: 0,
        });
        let news =
            frontier.delivered > row.delivered || frontier.read > row.read || frontier.beyond != row.beyond;
        if !news {
            return Ok(());
        }
        row.delivered = row.delivered.max(frontier.delivered);
        row.read = row.read.max(frontier.read.min(frontier.delivered));
        row.beyond.clone_from(&frontier.beyond);
        row.receipt = word.clone();
        row.at = self.core.now.wall;
        self.core.put(row);
        self.apply_frontier(device, stream.id)
    }

    /// Raises ranks for what a stored frontier says, a bounded number at a time.
    pub(super) fn apply_frontier(&mut self, device: DeviceId, stream: StreamId) -> Result<(), Fault> {
        let Some(mut row) = self.core.get::<ReceivedFrontier>(&Key::Frontier(device, stream))? else {
            return Ok(());
        };
        let mut left = limits::ROWS_PER_TURN;
        while row.applied_delivered < row.delivered && left > 0 {
            row.applied_delivered = row.applied_delivered.saturating_add(1);
            left = left.saturating_sub(1);
            self.raise(&row, row.applied_delivered, Rank::Delivered)?;
        }
        while row.applied_read < row.read && row.applied_read < row.applied_delivered && left > 0 {
            row.applied_read = row.applied_read.saturating_add(1);
            left = left.saturating_sub(1);
            self.raise(&row, row.applied_read, Rank::Read)?;
        }
        for (first, count) in row.beyond.clone() {
            let last = first.saturating_add(count.min(left as u64));
            for number in first..last {
                left = left.saturating_sub(1);
                self.raise(&row, number, Rank::Delivered)?;
            }
        }
        if row.applied_delivered < row.delivered || row.applied_read < row.read {
            self.core.timers.set(Timer::Apply(device, stream), self.core.now.mono);
        }
        self.core.put(row);
        Ok(())
    }

    fn raise(&mut self, frontier: &ReceivedFrontier, number: u64, rank: Rank) -> Result<(), Fault> {
        let rows: Vec<StreamEntry> = self.core.range(&KeyRange::StreamNumber(frontier.stream, number), 4)?;
        let what = if rank == Rank::Read { StepKind::Read } else { StepKind::Delivered };
        for row in rows {
            let delivery: Option<Delivery> = self.core.get(&Key::Delivery(row.entry, frontier.device))?;
            if delivery.is_some_and(|delivery| delivery.rank < rank || delivery.job.is_some()) {
                self.settle(row.entry, frontier.device, rank, Proof::Frontier(frontier.stream), what, "")?;
            }
        }
        Ok(())
    }

    /// Whether `hash` is the entry with this number in our stream (a void number has none).
    fn is_entry_at(&self, stream: &Stream, number: u64, hash: Option<EntryId>) -> Result<bool, Fault> {
        let rows: Vec<StreamEntry> = self.core.range(&KeyRange::StreamNumber(stream.id, number), 4)?;
        let wanted = hash.unwrap_or(EntryId([0; 32]));
        if rows.iter().any(|row| row.entry == wanted) {
            return Ok(true);
        }
        // the receiver holds nothing for a number whose entry was taken back before it left
        let void = |row: &StreamEntry| -> Result<bool, Fault> {
            let entry: Option<Entry> = self.core.get(&Key::Entry(row.entry))?;
            Ok(entry.is_none_or(|entry| entry.bytes.is_empty()))
        };
        if hash.is_none() {
            for row in &rows {
                if void(row)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Computes what is shown for a message from its deliveries, and never lowers it. `why` is told if it ends badly.
    pub(super) fn show_rank(&mut self, id: EntryId, why: &str) -> Result<(), Fault> {
        let Some(mut entry) = self.core.get::<Entry>(&Key::Entry(id))? else { return Ok(()) };
        let deliveries: Vec<Delivery> = self.core.range(&KeyRange::Deliveries(id), limits::DEVICES * 4)?;
        let others = deliveries.iter().filter(|delivery| delivery.account != self.core.own.account);
        let with = others.clone().map(|delivery| delivery.account).next();
        let Some(rank) = person_rank(others.map(|delivery| delivery.rank)) else { return Ok(()) };
        let rank = rank.max(entry.rank);
        let custody = match self.custody_of(&deliveries)? {
            Some(custody) if custody.have > entry.custody.have => custody,
            Some(_) | None => entry.custody,
        };
        let rose = rank > entry.rank;
        if !rose && custody == entry.custody {
            return Ok(());
        }
        let arrived = entry.rank < Rank::Delivered && rank >= Rank::Delivered;
        let ended = matches!(rank, Rank::Expired | Rank::Rejected);
        entry.rank = rank;
        entry.custody = custody;
        let conversation = entry.conversation;
        let body = EventBody::Status { conversation: entry.conversation, entry: id, rank, custody };
        let (visible, author) = (entry.visible, entry.author);
        let changed = if arrived || ended { changed_by(&entry) } else { None };
        self.core.put(entry);
        if let Some(target) = changed
            && author == self.core.own.account
        {
            // what is shown of the message depends on whether its edit or deletion has arrived
            self.core.event(EventBody::Changed { conversation, entry: target });
        }
        if visible && author == self.core.own.account {
            self.core.event(body);
            if !rose {
                return Ok(());
            }
            let about = super::core::About { account: with, device: None, entry: Some(id) };
            match rank {
                Rank::Expired => {
                    let text = format!("A message was not delivered and has expired: {why}.");
                    self.core.notice("expired", text, about);
                }
                Rank::Rejected => {
                    self.core.notice("rejected", format!("A message was refused: {why}."), about)
                }
                Rank::Queued | Rank::Carried | Rank::Sent | Rank::Delivered | Rank::Read => {}
            }
        }
        Ok(())
    }
}

/// The message that one of our entries edits or takes back.
fn changed_by(entry: &Entry) -> Option<EntryId> {
    if !matches!(entry.kind, EntryKind::Edit | EntryKind::Delete) {
        return None;
    }
    match crate::entry::parse(&entry.bytes).ok()?.1.body {
        Body::Edit { target, .. } | Body::Delete { target } => Some(target),
        _ => None,
    }
}

/// A person's rank: Delivered or Read on any device, else the best device still open, else the best terminal one.
fn person_rank(ranks: impl Iterator<Item = Rank> + Clone) -> Option<Rank> {
    let arrived = ranks.clone().filter(|rank| matches!(rank, Rank::Delivered | Rank::Read)).max();
    let open = || ranks.clone().filter(|rank| rank.is_open()).max();
    let terminal = || ranks.clone().max();
    arrived.or_else(open).or_else(terminal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_has_the_message_when_one_device_has_it() {
        assert_eq!(person_rank([Rank::Queued, Rank::Delivered].into_iter()), Some(Rank::Delivered));
        assert_eq!(person_rank([Rank::Expired, Rank::Read].into_iter()), Some(Rank::Read));
    }

    #[test]
    fn an_open_device_keeps_a_message_open() {
        assert_eq!(person_rank([Rank::Expired, Rank::Queued].into_iter()), Some(Rank::Queued));
        assert_eq!(person_rank([Rank::Expired, Rank::Rejected].into_iter()), Some(Rank::Rejected));
        assert_eq!(person_rank([].into_iter()), None);
    }
}
