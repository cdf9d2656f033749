//! After the store was restored with a loss: what its streams lack is found, told, and asked for again.

use std::collections::{BTreeMap, BTreeSet};

use super::command::{Answer, CommandError};
use super::core::About;
use super::entries::missing;
use super::{Engine, Fault};
use crate::entry::Body;
use crate::id::{AccountId, DeviceId, EntryId, StreamId};
use crate::limits;
use crate::record::{
    Contact, ContactState, Conversation, Entry, EntryKind, Key, KeyRange, Lost, ReceivedFrontier, Record,
    Restoration, Row, Stream, StreamEntry,
};

/// Ranges of numbers that hold nothing any more, by stream: (first, count), ascending, apart.
pub(super) type LostNumbers = BTreeMap<StreamId, Vec<(u64, u64)>>;

/// Rows read at a time while streams are looked through.
const PAGE: usize = 1_000;
/// Ranges that are asked for; what lies beyond so many holes is counted as gone.
const RANGES: usize = 4_096;

impl Engine {
    /// Looks through what a restore left, once; then, until all of it is there or its time is over, asks again.
    ///
    /// Much to put right is written in batches of their own, each of which the next look finds done; the last one holds the
    /// row that says that it was done. A stop before that makes all begin anew.
    pub(super) fn look_after_restore(&mut self) -> Result<(), Fault> {
        let Some(mut row) = self.core.get::<Restoration>(&Key::Restoration)? else { return Ok(()) };
        if row.looked_through.is_none() {
            if row.has_loss() {
                // what we wrote last may be among what is lost: no number and no key may be used a second time
                self.renew_everything()?;
                self.find_lost(&mut row)?;
            }
            row.looked_through = Some(self.core.now.wall);
            self.core.notice("restored", row.sentence(), About::default());
            if row.has_loss() {
                self.core.put(row.clone());
            } else {
                self.core.delete(Key::Restoration);
            }
        }
        self.lost_numbers = row.lost.into_iter().map(|lost| (lost.stream, lost.ranges)).collect();
        self.ask_for_lost()
    }

    /// Asks for what is lost and not asked for yet: of one device so many streams are watched over at a time, the others
    /// have their turn when some of these have come.
    pub(super) fn ask_for_lost(&mut self) -> Result<(), Fault> {
        let mut busy = BTreeSet::new();
        for id in self.lost_numbers.keys().copied().collect::<Vec<_>>() {
            if self.is_watched(&id) {
                continue;
            }
            let Some(stream) = self.stream(&id)? else { continue };
            let Some(from) = self.who_has(&stream)? else { continue };
            if busy.contains(&from) || self.still_lost(&id)?.is_empty() {
                continue;
            }
            let end = self.lost_numbers.get(&id).and_then(|ranges| ranges.last());
            let end = end.map_or(0, |(first, count)| first.saturating_add(*count) - 1);
            if !self.expect(id, stream.conversation, from, end) {
                busy.insert(from);
            }
        }
        Ok(())
    }

    /// Finds numbers that are noted as held and hold nothing.
    fn find_lost(&mut self, row: &mut Restoration) -> Result<(), Fault> {
        row.lost.clear();
        row.gone = 0;
        let placed = self.place_again()?;
        let mut room = RANGES;
        let streams: Vec<Stream> = self.core.range(&KeyRange::Streams, usize::MAX / 4)?;
        for stream in streams {
            let holes = self.holes_of(&stream, placed.get(&stream.id))?;
            if holes.is_empty() {
                continue;
            }
            let ours = stream.device == self.core.own.device;
            let mut ranges = match self.who_has(&stream)? {
                Some(device) if ours => within(&holes, &self.confirmed(device, &stream)?),
                Some(_) => holes.clone(),
                None => Vec::new(),
            };
            ranges.truncate(room);
            room = room.saturating_sub(ranges.len());
            row.gone = row.gone.saturating_add(total(&holes).saturating_sub(total(&ranges)));
            if !ranges.is_empty() {
                row.lost.push(Lost { stream: stream.id, ranges });
            }
        }
        Ok(())
    }

    /// An entry's own row is written again when its rank rises, what points at it is not: an entry may be here whose place in
    /// its stream, or whose word about another entry, was lost. Returns the numbers that were given their entries back.
    fn place_again(&mut self) -> Result<BTreeMap<StreamId, BTreeSet<u64>>, Fault> {
        let mut placed: BTreeMap<StreamId, BTreeSet<u64>> = BTreeMap::new();
        let mut after: Option<Key> = None;
        loop {
            let page = self.core.rows.base().range(&KeyRange::Entries, after.as_ref(), PAGE)?;
            let full = page.len() == PAGE;
            after = page.last().map(Row::key);
            for entry in page.into_iter().filter_map(Entry::from_row) {
                let place = StreamEntry { stream: entry.stream, number: entry.number, entry: entry.id };
                let key = Key::StreamEntry(place.stream, place.number, place.entry);
                self.core.cut();
                if self.core.rows.base().get(&key)?.is_none() {
                    placed.entry(place.stream).or_default().insert(place.number);
                    self.core.put(place);
                }
                if let Some(target) = spoken_of(&entry)
                    && self.core.rows.base().get(&Key::Annotation(target, entry.id))?.is_none()
                {
                    self.annotate(target, entry.id)?;
                }
            }
            if !full {
                return Ok(placed);
            }
        }
    }

    /// Numbers of a stream that count as held although no entry is there. Places of entries that are gone are given up.
    fn holes_of(
        &mut self,
        stream: &Stream,
        placed: Option<&BTreeSet<u64>>,
    ) -> Result<Vec<(u64, u64)>, Fault> {
        let end =
            stream.beyond.last().map_or(stream.gapless, |(first, count)| first.saturating_add(*count) - 1);
        let range = KeyRange::StreamEntries(stream.id);
        let mut holes = Vec::new();
        let mut gone = Vec::new();
        let mut next = 1_u64;
        let mut after: Option<Key> = None;
        loop {
            // nothing waits to be written yet, and what is read once need not be remembered
            let page = self.core.rows.base().range(&range, after.as_ref(), PAGE)?;
            let full = page.len() == PAGE;
            after = page.last().map(Row::key);
            for place in page.into_iter().filter_map(StreamEntry::from_row) {
                let is_void = place.entry == EntryId([0; 32]);
                if !is_void && self.core.rows.base().get(&Key::Entry(place.entry))?.is_none() {
                    gone.push(Key::StreamEntry(place.stream, place.number, place.entry));
                    continue;
                }
                if place.number > next {
                    holes.push((next, place.number - next));
                }
                next = next.max(place.number.saturating_add(1));
            }
            if !full {
                break;
            }
        }
        if next <= end {
            holes.push((next, end - next + 1));
        }
        for key in gone {
            self.core.delete(key);
            self.core.cut();
        }
        let placed: Vec<(u64, u64)> = placed.into_iter().flatten().map(|number| (*number, 1)).collect();
        let holes = without(&holes, &placed);
        // what was never here is asked for as ever
        Ok(without(&holes, &missing(stream, end.saturating_add(1))))
    }

    /// The device that can be asked for entries of a stream: its author's, or for our own the other person's.
    fn who_has(&self, stream: &Stream) -> Result<Option<DeviceId>, Fault> {
        let account = if stream.device == self.core.own.device {
            let conversation: Option<Conversation> =
                self.core.get(&Key::Conversation(stream.conversation))?;
            conversation.map(|conversation| conversation.with)
        } else {
            Some(stream.account)
        };
        let Some(contact) = self.accepted(account)? else { return Ok(None) };
        if stream.device != self.core.own.device {
            return Ok(contact.devices.contains(&stream.device).then_some(stream.device));
        }
        let mut best = None;
        for device in contact.devices {
            let frontier: Option<ReceivedFrontier> = self.core.get(&Key::Frontier(device, stream.id))?;
            if let Some(frontier) = frontier {
                best = best.max(Some((frontier.delivered, device)));
            }
        }
        Ok(best.map(|(_, device)| device))
    }

    fn accepted(&self, account: Option<AccountId>) -> Result<Option<Contact>, Fault> {
        let Some(account) = account else { return Ok(None) };
        Ok(self.core.contact(&account)?.filter(|contact| contact.state == ContactState::Accepted))
    }

    /// What a device has confirmed of one of our streams.
    fn confirmed(&self, device: DeviceId, stream: &Stream) -> Result<Vec<(u64, u64)>, Fault> {
        let Some(frontier) = self.core.get::<ReceivedFrontier>(&Key::Frontier(device, stream.id))? else {
            return Ok(Vec::new());
        };
        let mut ranges = vec![(1, frontier.delivered)];
        ranges.extend(frontier.beyond);
        Ok(ranges)
    }

    /// The next lost numbers of a stream that still hold nothing, as many as are asked for at a time.
    pub(super) fn still_lost(&mut self, id: &StreamId) -> Result<Vec<(u64, u64)>, Fault> {
        let Some(ranges) = self.lost_numbers.get(id).cloned() else { return Ok(Vec::new()) };
        let mut found: Vec<(u64, u64)> = Vec::new();
        let mut wanted = limits::REQUESTED;
        let numbers = ranges.iter().flat_map(|(first, count)| *first..first.saturating_add(*count));
        for number in numbers {
            if wanted == 0 || found.len() == limits::RANGES {
                break;
            }
            let there: Vec<StreamEntry> = self.core.range(&KeyRange::StreamNumber(*id, number), 1)?;
            if !there.is_empty() {
                continue;
            }
            wanted = wanted.saturating_sub(1);
            match found.last_mut() {
                Some((first, count)) if first.saturating_add(*count) == number => {
                    *count = count.saturating_add(1);
                }
                Some(_) | None => found.push((number, 1)),
            }
        }
        match found.first() {
            // what is there again is not looked at again
            Some((first, _)) => {
                let rest = within(&ranges, &[(*first, u64::MAX)]);
                self.lost_numbers.insert(*id, rest);
            }
            None => {
                self.lost_numbers.remove(id);
            }
        }
        Ok(found)
    }

    /// Whether this number of a stream was here, and was lost by a restore.
    pub(super) fn was_lost(&self, stream: &StreamId, number: u64) -> bool {
        let ranges = self.lost_numbers.get(stream);
        ranges.is_some_and(|ranges| !within(ranges, &[(number, 1)]).is_empty())
    }

    /// The author says that numbers hold nothing: of those that were lost, that is noted.
    pub(super) fn lost_are_void(&mut self, stream: StreamId, first: u64, count: u64) {
        let Some(ranges) = self.lost_numbers.get(&stream) else { return };
        let numbers: Vec<u64> = within(ranges, &[(first, count)])
            .into_iter()
            .flat_map(|(first, count)| first..first.saturating_add(count))
            .collect();
        for number in numbers {
            self.core.put(StreamEntry { stream, number, entry: EntryId([0; 32]) });
        }
    }

    pub(super) fn acknowledge_restoration(&mut self) -> Result<Answer, CommandError> {
        if let Some(mut row) = self.core.get::<Restoration>(&Key::Restoration)? {
            row.acknowledged = true;
            self.core.put(row);
        }
        Ok(Answer::Done)
    }

    /// Ends the word about a loss, and the asking, when its time is over.
    pub(super) fn forget_restoration(&mut self) -> Result<(), Fault> {
        let Some(row) = self.core.get::<Restoration>(&Key::Restoration)? else { return Ok(()) };
        let (Some(since), Some(now)) = (row.looked_through, self.core.believed()) else { return Ok(()) };
        if now.since(since) > limits::RESTORATION_TTL {
            self.core.delete(Key::Restoration);
            self.lost_numbers.clear();
        }
        Ok(())
    }
}

/// The entry that one edits, deletes or reacts to.
fn spoken_of(entry: &Entry) -> Option<EntryId> {
    match entry.kind {
        EntryKind::Edit | EntryKind::Delete | EntryKind::Reaction => {}
        EntryKind::Text | EntryKind::Unknown => return None,
    }
    match crate::entry::parse(&entry.bytes).ok()?.1.body {
        Body::Edit { target, .. } | Body::Delete { target } | Body::Reaction { target, .. } => Some(target),
        Body::Text { .. } | Body::Unknown => None,
    }
}

fn total(ranges: &[(u64, u64)]) -> u64 {
    ranges.iter().map(|(_, count)| *count).fold(0, u64::saturating_add)
}

/// What of some ranges lies in others. Both ascend.
fn within(ranges: &[(u64, u64)], others: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut common = Vec::new();
    for (first, count) in ranges {
        let end = first.saturating_add(*count);
        for (other, length) in others {
            let (from, to) = ((*first).max(*other), end.min(other.saturating_add(*length)));
            if from < to {
                common.push((from, to - from));
            }
        }
    }
    common
}

/// What of some ranges does not lie in others. Both ascend.
fn without(ranges: &[(u64, u64)], others: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut rest = Vec::new();
    for (first, count) in ranges {
        let mut from = *first;
        let end = first.saturating_add(*count);
        for (other, length) in others {
            let other_end = other.saturating_add(*length);
            if other_end <= from || *other >= end {
                continue;
            }
            if *other > from {
                rest.push((from, other - from));
            }
            from = from.max(other_end);
        }
        if from < end {
            rest.push((from, end - from));
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_by_others() {
        assert_eq!(within(&[(1, 5), (10, 3)], &[(4, 8)]), [(4, 2), (10, 2)]);
        assert_eq!(within(&[(1, 5)], &[(6, 2)]), []);
        assert_eq!(within(&[(5, 1)], &[(3, u64::MAX)]), [(5, 1)]);
        assert_eq!(without(&[(1, 10)], &[(3, 2), (8, 5)]), [(1, 2), (5, 3)]);
        assert_eq!(without(&[(1, 3)], &[]), [(1, 3)]);
        assert_eq!(without(&[(2, 3)], &[(1, 9)]), []);
    }
}
