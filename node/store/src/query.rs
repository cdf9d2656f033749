//! What people ask for: pages of history, lists, events, search.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use kith_protocol::id::{ConversationId, DeviceId, EntryId};
use kith_protocol::record::{
    Contact, Conversation, Delivery, Entry, Event, Invite, Key, KeyRange, ReadError, Row,
};

use crate::codec::{Codec, ENTRY_START, index_target};
use crate::engine::Direction;
use crate::reader::StoreReader;

/// A place in a conversation: order, device, entry. Equal on all devices.
pub type Place = (u64, DeviceId, EntryId);

/// Index rows read at a time.
const PAGE: usize = 64;
/// Entries with one order that are sorted by their full place. Their authors choose the order, so it has a bound.
const TIES: usize = 4096;

impl StoreReader {
    /// The visible entries of a conversation before a place (or from the end), newest first.
    ///
    /// # Errors
    /// [`ReadError`] if a row is damaged or the store fails.
    pub fn history(
        &self,
        conversation: &ConversationId,
        before: Option<&Place>,
        limit: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        // the index sorts equal orders by blinded ids: start with all of that order, drop what is not before
        let from = before
            .and_then(|(order, _, _)| order.checked_add(1))
            .map(|order| self.core.codec.history_order(&conversation.0, order));
        let wanted = |place: &Place| before.is_none_or(|before| place < before);
        let mut entries = self.by_place(conversation, from, Direction::Backward, wanted, limit)?;
        entries.sort_by_key(|entry| Reverse(entry.place()));
        entries.truncate(limit);
        Ok(entries)
    }

    /// The visible entries of a conversation after a place (or from the start), oldest first.
    ///
    /// # Errors
    /// [`ReadError`] if a row is damaged or the store fails.
    pub fn history_after(
        &self,
        conversation: &ConversationId,
        after: Option<&Place>,
        limit: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        // a key without its last parts lies before all keys of that order
        let from = after.map(|(order, _, _)| self.core.codec.history_order(&conversation.0, *order));
        let wanted = |place: &Place| after.is_none_or(|after| place > after);
        let mut entries = self.by_place(conversation, from, Direction::Forward, wanted, limit)?;
        entries.sort_by_key(Entry::place);
        entries.truncate(limit);
        Ok(entries)
    }

    /// At least `limit` wanted entries, with all of the last one's order.
    fn by_place(
        &self,
        conversation: &ConversationId,
        mut from: Option<Vec<u8>>,
        direction: Direction,
        wanted: impl Fn(&Place) -> bool,
        limit: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let prefix = self.core.codec.history_prefix(&conversation.0);
        let mut entries: Vec<Entry> = Vec::new();
        if limit == 0 {
            return Ok(entries);
        }
        let mut last_order = None;
        loop {
            let page = self.page(&prefix, from.as_deref(), direction, PAGE.min(limit.saturating_add(1)))?;
            for (index, value) in &page {
                let Some(entry) = self.entry_of_index(index, value)? else { continue };
                let full = entries.len() >= limit
                    && (last_order != Some(entry.order) || entries.len() >= limit.saturating_add(TIES));
                if full {
                    return Ok(entries);
                }
                last_order = Some(entry.order);
                if wanted(&entry.place()) {
                    entries.push(entry);
                }
            }
            match page.last() {
                Some((key, _)) => from = Some(key.clone()),
                None => return Ok(entries),
            }
        }
    }

    /// The row an index row leads to; `None` if both were deleted since the page was read.
    fn target(&self, index: &[u8], value: &[u8]) -> Result<Option<Row>, ReadError> {
        let sound = value == self.core.codec.index_value(index);
        if let (true, Some(key)) = (sound, index_target(index)) {
            if let Some(row) = self.row_at(&key, None)? {
                return Ok(Some(row));
            }
            if self.raw(index)?.is_none() {
                return Ok(None);
            }
        }
        self.core.suspect.raise(&"an index row leads nowhere");
        Err(ReadError::Store("an index row is damaged; run `kith store check`".to_owned()))
    }

    fn entry_of_index(&self, index: &[u8], value: &[u8]) -> Result<Option<Entry>, ReadError> {
        match self.target(index, value)? {
            Some(row) if !self.core.codec.index_keys(&row).iter().any(|key| key == index) => {
                // it was changed meanwhile, and the index with it
                if self.raw(index)?.is_none() {
                    return Ok(None);
                }
                self.core.suspect.raise(&"an index row leads to a row that does not belong to it");
                Err(ReadError::Store("an index row is damaged; run `kith store check`".to_owned()))
            }
            Some(Row::Entry(entry)) => Ok(Some(*entry)),
            _ => Ok(None),
        }
    }

    /// One entry.
    ///
    /// # Errors
    /// [`ReadError`] if the row is damaged or the store fails.
    pub fn entry(&self, id: &EntryId) -> Result<Option<Entry>, ReadError> {
        self.row(&Key::Entry(*id))
    }

    /// The entries whose ids start with these hex digits; none for fewer than eight or for other text.
    ///
    /// # Errors
    /// [`ReadError`] if a row is damaged or the store fails.
    pub fn entries_with_prefix(&self, hex: &str, limit: usize) -> Result<Vec<Entry>, ReadError> {
        let hex = hex.to_ascii_lowercase();
        let start: Option<Vec<u8>> = (hex.len() >= 2 * ENTRY_START && hex.len() <= 64)
            .then(|| hex.get(..2 * ENTRY_START))
            .flatten()
            .and_then(|start| data_encoding::HEXLOWER.decode(start.as_bytes()).ok());
        let Some(start) = start.as_deref().and_then(|start| start.first_chunk::<ENTRY_START>()) else {
            return Ok(Vec::new());
        };
        let prefix = self.core.codec.entry_start_prefix(start);
        let mut found = Vec::new();
        for (index, value) in self.page(&prefix, None, Direction::Forward, TIES)? {
            if let Some(Row::Entry(entry)) = self.target(&index, &value)?
                && entry.id.to_string().starts_with(&hex)
                && found.len() < limit
            {
                found.push(*entry);
            }
        }
        Ok(found)
    }

    /// All contacts, by the names shown.
    ///
    /// # Errors
    /// [`ReadError`] if a row is damaged or the store fails.
    pub fn contacts(&self) -> Result<Vec<Contact>, ReadError> {
        let mut contacts: Vec<Contact> = self.rows(&KeyRange::Contacts, None, usize::MAX)?;
        contacts.sort_by_cached_key(|contact| (contact.display_name().to_lowercase(), contact.account));
        Ok(contacts)
    }

    /// At most `limit` conversations, newest activity first.
    ///
    /// # Errors
    /// [`ReadError`] if a row is damaged or the store fails.
    pub fn conversations(&self, limit: usize) -> Result<Vec<Conversation>, ReadError> {
        let mut conversations: Vec<Conversation> = Vec::new();
        let mut from: Option<Vec<u8>> = None;
        while conversations.len() < limit {
            let want = (limit - conversations.len()).min(PAGE);
            let prefix = Codec::activity_prefix();
            let page = self.page(&prefix, from.as_deref(), Direction::Backward, want)?;
            for (index, value) in &page {
                if let Some(Row::Conversation(conversation)) = self.target(index, value)? {
                    conversations.push(*conversation);
                }
            }
            match page.last() {
                Some((key, _)) if page.len() == want => from = Some(key.clone()),
                _ => break,
            }
        }
        Ok(conversations)
    }

    /// Our own invites, newest first.
    ///
    /// # Errors
    /// [`ReadError`] if a row is damaged or the store fails.
    pub fn invites(&self) -> Result<Vec<Invite>, ReadError> {
        let mut invites: Vec<Invite> = self.rows(&KeyRange::Invites, None, usize::MAX)?;
        invites.sort_by_key(|invite| Reverse((invite.created, invite.id)));
        Ok(invites)
    }

    /// At most `limit` events with a cursor above `after`, oldest first.
    ///
    /// # Errors
    /// [`ReadError`] if a row is damaged or the store fails.
    pub fn events(&self, after: Option<u64>, limit: usize) -> Result<Vec<Event>, ReadError> {
        self.rows(&KeyRange::Events, after.map(Key::Event).as_ref(), limit)
    }

    /// One entry on its way to each recipient device.
    ///
    /// # Errors
    /// [`ReadError`] if a row is damaged or the store fails.
    pub fn deliveries(&self, entry: &EntryId) -> Result<Vec<Delivery>, ReadError> {
        let mut deliveries: Vec<Delivery> = self.rows(&KeyRange::Deliveries(*entry), None, usize::MAX)?;
        deliveries.sort_by_key(|delivery| (delivery.account, delivery.device));
        Ok(deliveries)
    }

    /// At most `limit` visible entries whose text holds all these words, whatever their case, newest first. Reads
    /// every entry, of one conversation if one is named.
    ///
    /// # Errors
    /// [`ReadError`] if a row is damaged or the store fails.
    pub fn search(
        &self,
        words: &str,
        within: Option<&ConversationId>,
        limit: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let words: Vec<String> = words.split_whitespace().map(str::to_lowercase).collect();
        let fits = |entry: &Entry| {
            let text = entry.text.to_lowercase();
            entry.visible && !entry.deleted && words.iter().all(|word| text.contains(word))
        };
        if words.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        match within {
            Some(conversation) => self.search_one(conversation, fits, limit),
            None => self.search_all(fits, limit),
        }
    }

    fn search_one(
        &self,
        conversation: &ConversationId,
        fits: impl Fn(&Entry) -> bool,
        limit: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let mut found = Vec::new();
        let mut before = None;
        while found.len() < limit {
            let page = self.history(conversation, before.as_ref(), 256)?;
            let Some(last) = page.last() else { break };
            before = Some(last.place());
            found.extend(page.into_iter().filter(&fits));
        }
        found.truncate(limit);
        Ok(found)
    }

    fn search_all(&self, fits: impl Fn(&Entry) -> bool, limit: usize) -> Result<Vec<Entry>, ReadError> {
        let prefix = self.core.codec.prefix(&KeyRange::Entries);
        let mut newest: BinaryHeap<Reverse<Hit>> = BinaryHeap::new();
        let mut from: Option<Vec<u8>> = None;
        loop {
            let page = self.page(&prefix, from.as_deref(), Direction::Forward, 256)?;
            let Some((last, _)) = page.last() else { break };
            from = Some(last.clone());
            for row in self.open_page(&page)? {
                if let Row::Entry(entry) = row
                    && fits(&entry)
                {
                    newest.push(Reverse(Hit(*entry)));
                    if newest.len() > limit {
                        newest.pop();
                    }
                }
            }
        }
        Ok(newest.into_sorted_vec().into_iter().map(|Reverse(Hit(entry))| entry).collect())
    }
}

/// An entry ordered by when it came to this device: an author cannot choose that.
struct Hit(Entry);

impl Hit {
    fn rank(&self) -> (u64, Place) {
        (self.0.stored.0, self.0.place())
    }
}

impl PartialEq for Hit {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Hit {}

impl PartialOrd for Hit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Hit {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}
