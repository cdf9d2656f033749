//! Rows as they stand in a backup.

use bytes::Bytes;
use kith_protocol::mailbox::{EnvelopeRow, KnownRow, MailboxRow, RightRow, Row, RowKey, TokenRow};
use kith_protocol::{EnvelopeId, MailboxId, RightId};
use serde::{Deserialize, Serialize};

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Key {
    Mailbox(MailboxId),
    Right(MailboxId, RightId),
    Envelope(MailboxId, u64),
    Known(MailboxId, EnvelopeId),
    OneTime(MailboxId, u64),
    Bundle(MailboxId),
    Token([u8; 16]),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Value {
    Mailbox(Box<MailboxRow>),
    Right(RightRow),
    Envelope(EnvelopeRow),
    Known(KnownRow),
    OneTimeKey([u8; 32]),
    Bundle(Bytes),
    Token(TokenRow),
}

/// A row, or that there is none any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    key: Key,
    value: Option<Value>,
}

impl Record {
    /// Of a row; `None` if it follows from others.
    pub(super) fn new(key: &RowKey, row: Option<Row>) -> Option<Self> {
        let key = match *key {
            RowKey::Mailbox(id) => Key::Mailbox(id),
            RowKey::Right(id, right) => Key::Right(id, right),
            RowKey::Envelope(id, cursor) => Key::Envelope(id, cursor),
            RowKey::Known(id, envelope) => Key::Known(id, envelope),
            RowKey::OneTimeKey(id, number) => Key::OneTime(id, number),
            RowKey::Bundle(id) => Key::Bundle(id),
            RowKey::Token(token) => Key::Token(token),
            RowKey::Due(..) | RowKey::Visit(..) | RowKey::Work(..) => return None,
        };
        let value = match row {
            None => None,
            Some(Row::Mailbox(row)) => Some(Value::Mailbox(row)),
            Some(Row::Right(row)) => Some(Value::Right(row)),
            Some(Row::Envelope(row)) => Some(Value::Envelope(row)),
            Some(Row::Known(row)) => Some(Value::Known(row)),
            Some(Row::OneTimeKey(key)) => Some(Value::OneTimeKey(key)),
            Some(Row::Bundle(bundle)) => Some(Value::Bundle(bundle)),
            Some(Row::Token(row)) => Some(Value::Token(row)),
            Some(Row::Mark | Row::Work(_)) => return None,
        };
        Some(Self { key, value })
    }

    /// Bytes it takes, roughly.
    pub(super) fn len(&self) -> usize {
        64 + match &self.value {
            Some(Value::Envelope(row)) => row.body.len(),
            Some(Value::Bundle(bundle)) => bundle.len(),
            Some(Value::Mailbox(_)) => 256,
            _ => 64,
        }
    }

    /// The row again; `None` if the key is of another kind than the row.
    pub(super) fn into_row(self) -> Option<(RowKey, Option<Row>)> {
        let key = match self.key {
            Key::Mailbox(id) => RowKey::Mailbox(id),
            Key::Right(id, right) => RowKey::Right(id, right),
            Key::Envelope(id, cursor) => RowKey::Envelope(id, cursor),
            Key::Known(id, envelope) => RowKey::Known(id, envelope),
            Key::OneTime(id, number) => RowKey::OneTimeKey(id, number),
            Key::Bundle(id) => RowKey::Bundle(id),
            Key::Token(token) => RowKey::Token(token),
        };
        let row = match (self.key, self.value) {
            (_, None) => None,
            (Key::Mailbox(_), Some(Value::Mailbox(row))) => Some(Row::Mailbox(row)),
            (Key::Right(..), Some(Value::Right(row))) => Some(Row::Right(row)),
            (Key::Envelope(..), Some(Value::Envelope(row))) => Some(Row::Envelope(row)),
            (Key::Known(..), Some(Value::Known(row))) => Some(Row::Known(row)),
            (Key::OneTime(..), Some(Value::OneTimeKey(key))) => Some(Row::OneTimeKey(key)),
            (Key::Bundle(_), Some(Value::Bundle(bundle))) => Some(Row::Bundle(bundle)),
            (Key::Token(_), Some(Value::Token(row))) => Some(Row::Token(row)),
            _ => return None,
        };
        Some((key, row))
    }
}
