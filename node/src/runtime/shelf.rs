//! The store as the API reads it: exchanged when the store is opened anew, absent meanwhile.

use std::sync::{PoisonError, RwLock};

use kith_protocol::record::{Entry, Key, KeyRange, ReadError, Reader, Row};
use kith_protocol::{ConversationId, EntryId};
use kith_store::{Place, StoreReader};

use crate::api::Library;

/// Holds the reader of the store in use.
#[derive(Debug)]
pub(crate) struct Shelf(RwLock<Result<StoreReader, String>>);

impl Shelf {
    pub(crate) const fn new(reader: StoreReader) -> Self {
        Self(RwLock::new(Ok(reader)))
    }

    /// The store in use, or why there is none now.
    pub(crate) fn replace(&self, reader: Result<StoreReader, String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = reader;
    }

    fn reader(&self) -> Result<StoreReader, ReadError> {
        let reader = self.0.read().unwrap_or_else(PoisonError::into_inner);
        reader.clone().map_err(ReadError::Store)
    }
}

impl Library for Shelf {
    fn row(&self, key: &Key) -> Result<Option<Row>, ReadError> {
        self.reader()?.get(key)
    }

    fn rows(&self, range: &KeyRange, after: Option<&Key>, limit: usize) -> Result<Vec<Row>, ReadError> {
        self.reader()?.range(range, after, limit)
    }

    fn history(
        &self,
        conversation: ConversationId,
        before: Option<EntryId>,
        limit: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let reader = self.reader()?;
        let place: Option<Place> = match before {
            None => None,
            Some(before) => match reader.row::<Entry>(&Key::Entry(before))? {
                Some(entry) => Some(entry.place()),
                None => return Ok(Vec::new()),
            },
        };
        reader.history(&conversation, place.as_ref(), limit)
    }

    fn with_prefix(&self, digits: &str, limit: usize) -> Result<Vec<Entry>, ReadError> {
        self.reader()?.entries_with_prefix(digits, limit)
    }

    fn search(
        &self,
        words: &str,
        conversation: Option<ConversationId>,
        limit: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        self.reader()?.search(words, conversation.as_ref(), limit)
    }
}
