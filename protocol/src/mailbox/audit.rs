//! Whether what is counted is what is there.

use std::collections::HashMap;

use super::row::{KnownRow, MailboxRow, Row, RowKey, Totals, Usage, signed};
use crate::crypto::envelope::{SIZE_KINDS, envelope_id, size_kind};
use crate::id::{MailboxId, RightId};

/// Something that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where; `None` for the sums.
    pub mailbox: Option<MailboxId>,
    /// What.
    pub what: String,
}

/// Adds up a whole store, row by row, in the order of mailboxes: all rows of one mailbox that lie together must come
/// together, the mailbox's own first. Memory does not grow with the number of mailboxes.
#[derive(Debug, Default)]
pub struct Audit {
    current: Option<Count>,
    totals: Totals,
    faults: Vec<Fault>,
    more_faults: u64,
}

#[derive(Debug)]
struct Count {
    id: MailboxId,
    row: Option<Box<MailboxRow>>,
    usage: Usage,
    kinds: [Usage; SIZE_KINDS],
    known: Usage,
    tombstones: u64,
    rights: u64,
    revoked: u64,
    keys: u64,
    bundle: bool,
    /// Counted, and what the right's row says.
    by_right: HashMap<RightId, (Usage, Option<Usage>)>,
}

/// Faults kept.
const FAULTS: usize = 100;

impl Audit {
    fn fault(&mut self, mailbox: Option<MailboxId>, what: String) {
        if self.faults.len() < FAULTS {
            self.faults.push(Fault { mailbox, what });
        } else {
            self.more_faults = self.more_faults.saturating_add(1);
        }
    }

    /// Takes the next row. Rows that do not count are skipped.
    pub fn row(&mut self, key: &RowKey, row: &Row) {
        let id = match key {
            RowKey::Mailbox(id)
            | RowKey::Right(id, _)
            | RowKey::Envelope(id, _)
            | RowKey::Known(id, _)
            | RowKey::OneTimeKey(id, _)
            | RowKey::Bundle(id) => *id,
            RowKey::Due(..) | RowKey::Visit(..) | RowKey::Work(..) | RowKey::Token(_) => return,
        };
        if self.current.as_ref().is_none_or(|count| count.id != id) {
            self.close();
            self.current = Some(Count::new(id));
        }
        let damaged = self.current.as_mut().and_then(|count| count.row(key, row));
        if let Some(what) = damaged {
            self.fault(Some(id), what);
        }
    }

    fn close(&mut self) {
        let Some(count) = self.current.take() else { return };
        let Some(row) = &count.row else {
            self.fault(Some(count.id), "has rows but no mailbox".into());
            return;
        };
        self.totals = self.totals.plus(Totals {
            mailboxes: 1,
            envelopes: signed(count.usage.items),
            bytes: signed(count.usage.bytes),
            tombstones: signed(if row.evicting { row.tombstones } else { count.tombstones }),
            rights: signed(if row.evicting { row.rights } else { count.rights }),
        });
        for what in count.faults(row) {
            self.fault(Some(count.id), what);
        }
    }

    /// The sums, and what does not fit. `stored` is what the store says the sums are.
    #[must_use]
    pub fn finish(mut self, stored: Totals) -> (Totals, Vec<Fault>) {
        self.close();
        if self.totals != stored {
            self.fault(None, format!("the sums are {:?}, stored are {stored:?}", self.totals));
        }
        if self.more_faults > 0 {
            let what = format!("and {} more", self.more_faults);
            self.faults.push(Fault { mailbox: None, what });
        }
        (self.totals, self.faults)
    }
}

impl Count {
    fn new(id: MailboxId) -> Self {
        Self {
            id,
            row: None,
            usage: Usage::default(),
            kinds: [Usage::default(); SIZE_KINDS],
            known: Usage::default(),
            tombstones: 0,
            rights: 0,
            revoked: 0,
            keys: 0,
            bundle: false,
            by_right: HashMap::new(),
        }
    }

    fn row(&mut self, key: &RowKey, row: &Row) -> Option<String> {
        match (key, row) {
            (RowKey::Mailbox(_), Row::Mailbox(row)) => self.row = Some(row.clone()),
            (RowKey::Right(_, id), Row::Right(row)) => {
                self.by_right.entry(*id).or_default().1 = Some(row.usage);
                if row.revoked.is_some() {
                    self.revoked += 1;
                } else {
                    self.rights += 1;
                }
            }
            (RowKey::Envelope(_, cursor), Row::Envelope(row)) => {
                let size = row.body.len() as u64;
                self.usage.add(size);
                self.by_right.entry(row.right).or_default().0.add(size);
                if let Some(kind) = size_kind(row.body.len()).and_then(|kind| self.kinds.get_mut(kind)) {
                    kind.add(size);
                }
                if envelope_id(&row.body) != row.id {
                    return Some(format!("envelope {cursor} is not what was stored"));
                }
            }
            (RowKey::Known(..), Row::Known(KnownRow::Stored { size, .. })) => {
                self.known.add(u64::from(*size))
            }
            (RowKey::Known(..), Row::Known(KnownRow::Collected { .. })) => self.tombstones += 1,
            (RowKey::OneTimeKey(..), Row::OneTimeKey(_)) => self.keys += 1,
            (RowKey::Bundle(_), Row::Bundle(_)) => self.bundle = true,
            _ => return Some(format!("a row of another kind stands under {key:?}")),
        }
        None
    }

    fn faults(&self, row: &MailboxRow) -> Vec<String> {
        let mut faults = Vec::new();
        let mut compare = |what: &str, counted: String, stored: String| {
            if counted != stored {
                faults.push(format!("{what}: {counted} counted, {stored} stored"));
            }
        };
        let text = |usage: &Usage| format!("{} bytes in {}", usage.bytes, usage.items);
        compare("envelopes", text(&self.usage), text(&row.usage));
        compare("known envelopes", text(&self.known), text(&row.usage));
        for (counted, stored) in self.kinds.iter().zip(&row.kinds) {
            compare("envelopes of one size", text(counted), text(stored));
        }
        if !row.evicting {
            compare("tombstones", self.tombstones.to_string(), row.tombstones.to_string());
            compare("rights", self.rights.to_string(), row.rights.to_string());
            compare("revoked rights", self.revoked.to_string(), row.revoked.to_string());
            let keys = row.next_key.saturating_sub(row.first_key);
            compare("one-time keys", self.keys.to_string(), keys.to_string());
            compare("bundle", self.bundle.to_string(), row.bundle_until.is_some().to_string());
            for (counted, stored) in self.by_right.values() {
                let stored = stored.map_or_else(|| "no right".to_owned(), |usage| text(&usage));
                compare("envelopes of one right", text(counted), stored);
            }
        }
        faults
    }
}
