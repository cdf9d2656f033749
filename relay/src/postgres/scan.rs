//! Every row that is counted, mailbox by mailbox, a page at a time.

use kith_protocol::mailbox::RowKey;
use kith_store::mailbox::{MailboxStoreError, ScanPage};

use super::error::Failure;
use super::read::{self, Keyed, Params};
use super::rows::{self, Place};
use super::session::Session;

/// Rows asked for at once: envelopes come with their bodies.
const MOST: usize = 1_024;

const ITEMS: &str = "SELECT mailbox, kind, key, content FROM items WHERE (mailbox, kind, key) > ($1, $2, $3) \
                     ORDER BY mailbox, kind, key LIMIT $4";
const ENVELOPES: &str = "SELECT mailbox, cursor, id, right_id, stored_at, body FROM envelopes \
                         WHERE (mailbox, cursor) > ($1, $2) ORDER BY mailbox, cursor LIMIT $3";

/// The last row of a page: the next begins beyond it. In a mailbox its own row comes first, then items, then envelopes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    mailbox: Vec<u8>,
    table: u8,
    kind: i16,
    key: Vec<u8>,
    cursor: i64,
}

impl Position {
    fn start() -> Self {
        Self { mailbox: Vec::new(), table: 0, kind: 0, key: Vec::new(), cursor: 0 }
    }

    fn of(key: &RowKey) -> Self {
        let mut position = Self::start();
        match rows::place(key) {
            Place::Head { id, .. } => position.mailbox = id.to_vec(),
            Place::Item { mailbox, kind, key } => {
                position = Self { mailbox: mailbox.to_vec(), table: 1, kind, key, cursor: 0 };
            }
            Place::Envelope { mailbox, cursor } => {
                position = Self { mailbox: mailbox.to_vec(), table: 2, kind: 0, key: Vec::new(), cursor };
            }
            Place::Mark { mailbox, .. } => position.mailbox = mailbox.to_vec(),
        }
        position
    }

    fn to_bytes(&self) -> Result<Vec<u8>, MailboxStoreError> {
        let parts = (&self.mailbox, self.table, self.kind, &self.key, self.cursor);
        postcard::to_allocvec(&parts).map_err(rows::damaged)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, Failure> {
        if bytes.is_empty() {
            return Ok(Self::start());
        }
        let (mailbox, table, kind, key, cursor) = postcard::from_bytes(bytes)
            .map_err(|error| Failure::Lost(format!("this is no position in a scan: {error}")))?;
        Ok(Self { mailbox, table, kind, key, cursor })
    }
}

pub(super) async fn scan(session: &Session, after: &[u8], max: usize) -> Result<ScanPage, Failure> {
    let from = Position::from_bytes(after)?;
    let max = max.clamp(1, MOST);
    let most = i64::try_from(max).unwrap_or(i64::MAX);
    let (kind, key) = match from.table {
        0 => (i16::MIN, Vec::new()),
        1 => (from.kind, from.key.clone()),
        _ => (i16::MAX, Vec::new()),
    };
    let cursor = if from.table < 2 { i64::MIN } else { from.cursor };
    let of_heads: Params<'_> = &[&rows::MAILBOX, &from.mailbox, &most];
    let of_items: Params<'_> = &[&from.mailbox, &kind, &key, &most];
    let of_envelopes: Params<'_> = &[&from.mailbox, &cursor, &most];
    let (heads, items, envelopes) = futures::try_join!(
        session.client.query(&session.statements.heads_after, of_heads),
        session.client.query(ITEMS, of_items),
        session.client.query(ENVELOPES, of_envelopes),
    )?;
    let mut found: Vec<(Position, RowKey, Keyed)> = Vec::new();
    let mut page = ScanPage::default();
    let tables: [(&[_], fn(&_) -> _); 3] =
        [(&heads, read::head), (&items, read::item), (&envelopes, read::envelope)];
    for (rows, read) in tables {
        for row in rows {
            match read(row)? {
                Ok((key, row)) => found.push((Position::of(&key), key, Ok((key, row)))),
                Err(error) => page.damaged.push(error.to_string()),
            }
        }
    }
    found.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    // beyond that many, a table may have rows that were not asked for
    found.truncate(max);
    if found.len() == max {
        page.next = found
            .last()
            .map(|(position, ..)| position.to_bytes())
            .transpose()
            .map_err(|error| Failure::Damaged(error.to_string()))?;
    }
    for (_, _, keyed) in found {
        match keyed {
            Ok((key, Ok(row))) => page.rows.push((key, row)),
            Ok((_, Err(error))) | Err(error) => page.damaged.push(error.to_string()),
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use kith_protocol::{EnvelopeId, MailboxId, RightId};

    use super::*;

    #[test]
    fn a_mailboxes_own_row_comes_first_and_all_others_before_the_next_mailbox() {
        let (a, b) = (MailboxId([1; 16]), MailboxId([2; 16]));
        let keys = [
            RowKey::Mailbox(a),
            RowKey::Right(a, RightId([9; 16])),
            RowKey::Known(a, EnvelopeId([1; 16])),
            RowKey::Bundle(a),
            RowKey::Envelope(a, 1),
            RowKey::Envelope(a, 300),
            RowKey::Mailbox(b),
        ];
        let positions = keys.map(|key| Position::of(&key));
        assert!(positions.is_sorted());
        for position in positions {
            let bytes = position.to_bytes().unwrap();
            assert_eq!(Position::from_bytes(&bytes).unwrap(), position);
        }
        assert_eq!(Position::from_bytes(&[]).unwrap(), Position::start());
        assert!(Position::from_bytes(&[200]).is_err());
    }
}
