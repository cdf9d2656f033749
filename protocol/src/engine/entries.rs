//! Entries that come in: each once, numbered in their streams, placed by their own order, applied to what they speak of.

use bytes::Bytes;

use super::core::About;
use super::messages::{push_stream, row_of};
use super::output::{Output, Transient};
use super::{Engine, Fault};
use crate::entry::{self, Body};
use crate::id::{AccountId, ConversationId, DeviceId, EntryId};
use crate::limits;
use crate::record::{
    Annotation, Contact, Conversation, Entry, EntryKind, EventBody, Head, Key, KeyRange, Rank, Reaction,
    Stream, StreamEntry,
};

/// Edits, deletes and reactions looked at for one entry.
const ANNOTATIONS: usize = 1024;
/// An entry may be this far ahead of our clock.
const AHEAD: u64 = 100 * 365 * limits::DAY;

impl Engine {
    /// A device gives us an entry: its person's, or one of our own that we lost. True: it was sent once more, on request
    /// or because it was thought lost.
    pub(super) fn entry_came(
        &mut self,
        contact: &Contact,
        from: DeviceId,
        bytes: &Bytes,
    ) -> Result<bool, Fault> {
        let (id, new) = entry::parse(bytes).map_err(|error| Fault::Misbehaviour(error.to_string()))?;
        let own = new.account == self.core.own.account;
        if new.conversation != self.direct_id(contact.account) || (!own && new.account != contact.account) {
            return Err(Fault::Misbehaviour("sends an entry of a conversation it has no part in".into()));
        }
        if !own && new.device != from && !contact.devices.contains(&new.device) {
            return Err(Fault::Misbehaviour("sends an entry of a device that is not its person's".into()));
        }
        if own && !self.asked_for(&new.stream, new.number) {
            return Err(Fault::Misbehaviour("sends us an entry of our own that we did not ask for".into()));
        }
        self.check_place(&new)?;
        let mut conversation = self.direct_or_new(contact.account)?;
        let mut stream = match self.stream(&new.stream)? {
            Some(stream) => stream,
            None => new_stream(&new),
        };
        if stream.device != new.device || stream.conversation != new.conversation {
            return Err(Fault::Misbehaviour("sends an entry in somebody else's stream".into()));
        }
        if self.core.get::<Entry>(&Key::Entry(id))?.is_some() {
            if !holds(&stream, new.number) {
                // it came while its stream had too many holes to note it
                self.fill(&mut stream, new.number, new.number.saturating_add(1));
                self.settle_head(&mut stream)?;
                self.core.put(stream.clone());
            }
            if self.was_lost(&stream.id, new.number) {
                self.core.put(StreamEntry { stream: stream.id, number: new.number, entry: id });
            }
            self.owe_receipt(&stream)?;
            return Ok(true);
        }
        let again = own || self.is_missed(&stream.id);
        push_stream(&mut conversation, stream.id);
        self.place_in_stream(contact, &mut stream, &new, id)?;
        let visible = matches!(new.body, Body::Text { .. } | Body::Unknown);
        let mut row = row_of(&new, id, bytes.clone(), self.core.now.wall, visible, Rank::Delivered);
        row.late = visible && new.order < conversation.last_order;
        row.recovered = own;
        add_head(&mut conversation, &new, id);
        if visible {
            conversation.last_order = conversation.last_order.max(new.order);
            conversation.last_activity = self.core.now.wall;
            // one that was here before it was lost has been counted
            if !own && !self.was_lost(&stream.id, new.number) {
                conversation.unread = conversation.unread.saturating_add(1);
            }
        }
        self.core.put(row);
        self.core.put(conversation);
        if own {
            stream.read = stream.gapless;
        } else {
            self.owe_receipt(&stream)?;
        }
        self.core.put(stream);
        match new.body {
            Body::Text { .. } | Body::Unknown => {
                let body =
                    EventBody::Message { conversation: new.conversation, entry: id, author: new.account };
                self.core.event(body);
                let there: Vec<Annotation> = self.core.range(&KeyRange::Annotations(id), ANNOTATIONS)?;
                self.apply(id, there.into_iter().map(|annotation| annotation.by))?;
            }
            Body::Edit { target, .. } | Body::Delete { target } | Body::Reaction { target, .. } => {
                self.annotate(target, id)?;
            }
        }
        Ok(again)
    }

    /// A place so far ahead that no clock can have given it would leave no room for what follows: whoever answers takes the
    /// next one. Only what follows an entry that has such a place may have it.
    fn check_place(&self, new: &entry::Entry) -> Result<(), Fault> {
        if new.order <= self.core.now.wall.plus(AHEAD).0 {
            return Ok(());
        }
        for parent in &new.parents {
            let parent: Option<Entry> = self.core.get(&Key::Entry(*parent))?;
            if parent.is_some_and(|parent| parent.order.saturating_add(1) >= new.order) {
                return Ok(());
            }
        }
        Err(Fault::Misbehaviour("sends an entry from more than a hundred years ahead".into()))
    }

    /// Numbers the entry in its stream; keeps both when two entries claim one number.
    fn place_in_stream(
        &mut self,
        contact: &Contact,
        stream: &mut Stream,
        new: &entry::Entry,
        id: EntryId,
    ) -> Result<(), Fault> {
        let there: Vec<StreamEntry> = self.core.range(&KeyRange::StreamNumber(stream.id, new.number), 4)?;
        self.core.put(StreamEntry { stream: stream.id, number: new.number, entry: id });
        let holds_another = there.iter().any(|row| row.entry != id && row.entry.0 != [0; 32]);
        if holds_another && !stream.forked {
            stream.forked = true;
            let text = format!(
                "Two different messages carry the same number on one of {}'s devices: it was restored from a copy, or \
                 there are two of it. Both are kept.",
                contact.display_name()
            );
            self.core.notice("fork", text, About::device(contact.account, new.device));
        }
        if there.is_empty() {
            self.fill(stream, new.number, new.number.saturating_add(1));
        }
        self.settle_head(stream)
    }

    /// Marks the numbers from `first` to before `end` as held, and joins what becomes gapless.
    pub(super) fn fill(&mut self, stream: &mut Stream, first: u64, end: u64) {
        let mut ranges = std::mem::take(&mut stream.beyond);
        ranges.push((first, end.saturating_sub(first)));
        ranges.sort_unstable();
        for (first, count) in ranges {
            let end = first.saturating_add(count);
            if first <= stream.gapless.saturating_add(1) {
                stream.gapless = stream.gapless.max(end.saturating_sub(1));
                continue;
            }
            match stream.beyond.last_mut() {
                Some((last, count)) if first <= last.saturating_add(*count) => {
                    *count = (*count).max(end.saturating_sub(*last));
                }
                Some(_) | None => stream.beyond.push((first, count)),
            }
        }
        // a row has a limit: what lies beyond more holes than that is confirmed when it is sent again
        stream.beyond.truncate(limits::HOLES);
        self.watch_gap(stream);
    }

    /// Finds the id of the entry at the gapless head.
    pub(super) fn settle_head(&mut self, stream: &mut Stream) -> Result<(), Fault> {
        let rows: Vec<StreamEntry> =
            self.core.range(&KeyRange::StreamNumber(stream.id, stream.gapless), 4)?;
        if rows.iter().all(|row| row.entry != stream.gapless_id) {
            stream.gapless_id = rows.first().map_or(EntryId([0; 32]), |row| row.entry);
        }
        Ok(())
    }

    /// Applies to an entry what others say of it. Each is merged by its place, so that every device comes to the same
    /// text, deletion and reactions, in whatever order they came.
    pub(super) fn apply(
        &mut self,
        target: EntryId,
        sayings: impl IntoIterator<Item = EntryId>,
    ) -> Result<(), Fault> {
        let Some(before) = self.core.get::<Entry>(&Key::Entry(target))? else { return Ok(()) };
        if before.kind != EntryKind::Text {
            return Ok(());
        }
        let mut after = before.clone();
        for saying in sayings {
            let Some(by) = self.core.get::<Entry>(&Key::Entry(saying))? else { continue };
            if by.conversation != before.conversation {
                continue;
            }
            let Ok((_, said)) = entry::parse(&by.bytes) else { continue };
            apply(&mut after, &by, said.body);
        }
        if after.deleted {
            after.text.clear();
            after.reactions.clear();
        }
        if after != before {
            let body = EventBody::Changed { conversation: after.conversation, entry: target };
            self.core.put(after);
            self.core.event(body);
        }
        Ok(())
    }

    /// The person has seen incoming messages up to one of them, or all.
    pub(super) fn mark_read(&mut self, with: AccountId, up_to: Option<EntryId>) -> Result<(), Fault> {
        let Some(mut conversation) = self.direct(with)? else { return Ok(()) };
        let place = match up_to {
            Some(id) => match self.core.get::<Entry>(&Key::Entry(id))? {
                Some(entry) if entry.conversation == conversation.id => entry.order,
                Some(_) | None => return Ok(()),
            },
            None => u64::MAX,
        };
        let mut unread = 0_u64;
        for id in conversation.streams.clone() {
            let Some(mut stream) = self.stream(&id)? else { continue };
            if stream.account == self.core.own.account {
                continue;
            }
            let read = self.last_up_to(&stream, place)?;
            if read > stream.read {
                stream.read = read;
                self.owe_receipt(&stream)?;
                self.core.put(stream.clone());
            }
            unread = unread.saturating_add(self.count_visible(&stream)?);
        }
        let seen = if place == u64::MAX { conversation.last_order } else { place };
        let changed = conversation.unread != unread || seen > conversation.read_up_to;
        conversation.read_up_to = conversation.read_up_to.max(seen);
        conversation.unread = unread;
        let body = EventBody::Read { conversation: conversation.id, unread };
        self.core.put(conversation);
        if changed {
            self.core.event(body);
        }
        Ok(())
    }

    /// The highest gapless number of a stream whose entry stands at or before a place. Orders ascend in a stream.
    fn last_up_to(&self, stream: &Stream, place: u64) -> Result<u64, Fault> {
        if place == u64::MAX {
            return Ok(stream.gapless);
        }
        let (mut low, mut high) = (stream.read, stream.gapless);
        while low < high {
            let middle = low.saturating_add(high.saturating_sub(low).div_ceil(2));
            let rows: Vec<StreamEntry> = self.core.range(&KeyRange::StreamNumber(stream.id, middle), 4)?;
            let order = match rows.first() {
                Some(row) => self.core.get::<Entry>(&Key::Entry(row.entry))?.map_or(0, |entry| entry.order),
                None => 0,
            };
            if order <= place {
                low = middle;
            } else {
                high = middle.saturating_sub(1);
            }
        }
        Ok(low)
    }

    /// Unread messages of a stream; beyond a thousand all entries count as messages.
    fn count_visible(&self, stream: &Stream) -> Result<u64, Fault> {
        const EXACT: u64 = 1000;
        let open = stream.gapless.saturating_sub(stream.read);
        if open > EXACT {
            return Ok(open);
        }
        let mut visible = 0_u64;
        for number in stream.read.saturating_add(1)..=stream.gapless {
            for row in self.core.range::<StreamEntry>(&KeyRange::StreamNumber(stream.id, number), 4)? {
                let entry: Option<Entry> = self.core.get(&Key::Entry(row.entry))?;
                visible = visible.saturating_add(u64::from(entry.is_some_and(|entry| entry.visible)));
            }
        }
        Ok(visible)
    }

    pub(super) fn typing_came(
        &mut self,
        from: DeviceId,
        conversation: ConversationId,
        active: bool,
    ) -> Result<(), Fault> {
        let Some(contact) = self.core.contact_of(&from)? else { return Ok(()) };
        if contact.state == crate::record::ContactState::Accepted
            && conversation == self.direct_id(contact.account)
        {
            let account = contact.account;
            self.core.say_now(Output::Transient(Transient::Typing { conversation, account, active }));
        }
        Ok(())
    }
}

/// A stream nobody told us of before.
fn new_stream(new: &entry::Entry) -> Stream {
    Stream {
        id: new.stream,
        device: new.device,
        account: new.account,
        conversation: new.conversation,
        gapless: 0,
        gapless_id: EntryId([0; 32]),
        beyond: Vec::new(),
        read: 0,
        forked: false,
        closed: false,
    }
}

/// The new entry takes the place of its parents among the conversation's heads.
fn add_head(conversation: &mut Conversation, new: &entry::Entry, id: EntryId) {
    conversation.heads.retain(|head| !new.parents.contains(&head.entry));
    conversation.heads.push(Head { order: new.order, entry: id });
    conversation.heads.sort_unstable();
    while conversation.heads.len() > limits::PARENTS {
        conversation.heads.remove(0);
    }
}

/// Applies what one entry says of another: the author alone edits and deletes; of several the last in order wins. What
/// the other side gave back as ours could be invented: it leaves its mark, and takes no bytes off our disk.
fn apply(target: &mut Entry, by: &Entry, said: Body) {
    let place = (by.order, by.id);
    match said {
        Body::Edit { text, .. } if by.author == target.author => {
            if target.edited.is_none_or(|edited| edited < place) {
                target.edited = Some(place);
                target.text = text;
                target.recovered |= by.recovered;
            }
        }
        Body::Delete { .. } if by.author == target.author => {
            target.recovered |= by.recovered && !target.deleted;
            target.deleted = true;
            if !by.recovered {
                target.bytes = Bytes::new();
            }
        }
        Body::Reaction { emoji, .. } => {
            let full = target.reactions.len() >= limits::REACTIONS_PER_ENTRY;
            match target.reactions.iter_mut().find(|reaction| reaction.account == by.author) {
                Some(reaction) if reaction.at < place => {
                    reaction.emoji = emoji;
                    reaction.at = place;
                }
                Some(_) => {}
                None if full => {}
                None => target.reactions.push(Reaction { account: by.author, emoji, at: place }),
            }
        }
        Body::Edit { .. } | Body::Delete { .. } | Body::Text { .. } | Body::Unknown => {}
    }
}

/// Whether a number of a stream is noted as held or void.
fn holds(stream: &Stream, number: u64) -> bool {
    number <= stream.gapless
        || stream.beyond.iter().any(|(first, count)| (*first..first.saturating_add(*count)).contains(&number))
}

/// Numbers missing in a stream below `end`: (first, count), at most [`limits::RANGES`].
pub(super) fn missing(stream: &Stream, end: u64) -> Vec<(u64, u64)> {
    let mut missing = Vec::new();
    let mut next = stream.gapless.saturating_add(1);
    for (first, count) in &stream.beyond {
        if *first > next && next < end {
            missing.push((next, first.min(&end).saturating_sub(next)));
        }
        next = next.max(first.saturating_add(*count));
    }
    if next < end {
        missing.push((next, end.saturating_sub(next)));
    }
    missing.truncate(limits::RANGES);
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::StreamId;

    fn stream(gapless: u64, beyond: &[(u64, u64)]) -> Stream {
        Stream {
            id: StreamId([1; 16]),
            device: DeviceId([2; 32]),
            account: AccountId([3; 32]),
            conversation: ConversationId([4; 32]),
            gapless,
            gapless_id: EntryId([0; 32]),
            beyond: beyond.to_vec(),
            read: 0,
            forked: false,
            closed: false,
        }
    }

    #[test]
    fn missing_numbers_are_those_between_what_is_held() {
        assert_eq!(missing(&stream(3, &[]), 4), []);
        assert_eq!(missing(&stream(3, &[]), 7), [(4, 3)]);
        assert_eq!(missing(&stream(3, &[(6, 2), (10, 1)]), 11), [(4, 2), (8, 2)]);
        assert_eq!(missing(&stream(3, &[(6, 2)]), 9), [(4, 2), (8, 1)]);
        assert_eq!(missing(&stream(3, &[(6, 2)]), 5), [(4, 1)]);
    }
}
