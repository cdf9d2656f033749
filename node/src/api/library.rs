//! What the API reads: rows by key or range, and the two queries that have indexes of their own.

use kith_protocol::record::{Entry, Key, KeyRange, ReadError, Record, Row};
use kith_protocol::{ConversationId, EntryId};

/// Reads of a store, cheap and callable from any thread.
pub(crate) trait Library: Send + Sync {
    /// The row under a key.
    fn row(&self, key: &Key) -> Result<Option<Row>, ReadError>;

    /// At most `limit` rows of a range after a key.
    fn rows(&self, range: &KeyRange, after: Option<&Key>, limit: usize) -> Result<Vec<Row>, ReadError>;

    /// The newest visible entries of a conversation, or those before one; newest first.
    fn history(
        &self,
        conversation: ConversationId,
        before: Option<EntryId>,
        limit: usize,
    ) -> Result<Vec<Entry>, ReadError>;

    /// At most `limit` entries whose ids start with these hex digits; none for fewer than eight.
    fn with_prefix(&self, digits: &str, limit: usize) -> Result<Vec<Entry>, ReadError>;

    /// Visible entries that hold all words, newest first.
    fn search(
        &self,
        words: &str,
        conversation: Option<ConversationId>,
        limit: usize,
    ) -> Result<Vec<Entry>, ReadError>;
}

/// The row under a key as this kind of record.
pub(crate) fn get<T: Record>(library: &dyn Library, key: &Key) -> Result<Option<T>, ReadError> {
    library.row(key)?.map(|row| T::from_row(row).ok_or_else(|| ReadError::Damaged(key.clone()))).transpose()
}

/// All rows of a range that are this kind of record.
pub(crate) fn all<T: Record>(library: &dyn Library, range: &KeyRange) -> Result<Vec<T>, ReadError> {
    Ok(library.rows(range, None, usize::MAX)?.into_iter().filter_map(T::from_row).collect())
}
