//! What a store must look like at any moment, and what two stores must agree on after quiet.

use std::collections::{BTreeMap, BTreeSet};

use kith_protocol::record::{
    Conversation, Delivery, Entry, EntryKind, Key, KeyRange, Rank, ReadError, Reader, Record, Session,
};
use kith_protocol::{AccountId, ConversationId, EntryId, limits, testing};
use kith_store::StoreReader;

use super::story::Story;

/// Messages of a conversation compared at a time.
const PAGE: usize = 512;

/// What an audit found.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// Checks made.
    pub(crate) checks: u64,
    /// One sentence for each broken promise, with the message concerned.
    pub(crate) broken: Vec<(String, Option<EntryId>)>,
    /// Own messages whose stored rank says that they were delivered: a crash may have come
    /// between that reaching the disk and anybody being told.
    pub(crate) delivered: Vec<EntryId>,
}

impl Audit {
    fn expect(&mut self, holds: bool, entry: Option<EntryId>, what: impl FnOnce() -> String) {
        self.checks += 1;
        if !holds {
            self.broken.push((what(), entry));
        }
    }
}

fn all<T: Record>(reader: &StoreReader, range: &KeyRange) -> Result<Vec<T>, ReadError> {
    reader.rows(range, None, usize::MAX / 4)
}

/// Checks one host's store. `own` are the stories that concern it.
///
/// # Errors
/// If the store cannot be read.
pub(crate) fn audit<'a>(
    host: u32,
    reader: &StoreReader,
    own: impl Iterator<Item = &'a Story>,
) -> Result<Audit, ReadError> {
    let mut audit = Audit::default();
    let stored: Vec<Entry> = all(reader, &KeyRange::Entries)?;
    for what in testing::check(reader)? {
        audit.broken.push((what, None));
    }
    audit.checks += stored.len() as u64 + 1;
    bounds(reader, &mut audit)?;
    let ranks: BTreeMap<EntryId, Rank> = stored.iter().map(|entry| (entry.id, entry.rank)).collect();
    for story in own {
        let rank = ranks.get(&story.entry);
        if story.author == host {
            if rank.is_some_and(|rank| *rank >= Rank::Delivered) {
                audit.delivered.push(story.entry);
            }
            let id = story.entry.short();
            audit.expect(story.accepted.is_none() || rank.is_some(), Some(story.entry), || {
                format!("message {id} was accepted and is gone from its author's store")
            });
            audit.expect(rank.is_none_or(|rank| *rank >= story.rank), Some(story.entry), || {
                format!("message {id} was shown as {:?} and is stored as {rank:?}", story.rank)
            });
        } else if story.withdrawn {
            // what is left of it may be a tombstone
        } else if story.shown.contains_key(&host)
            || (story.rank >= Rank::Delivered && story.to.contains(&host))
        {
            audit.expect(rank.is_some(), Some(story.entry), || {
                format!(
                    "message {} was delivered and is gone from the recipient's store",
                    story.entry.short()
                )
            });
        }
    }
    unique(&stored, &mut audit);
    Ok(audit)
}

/// Everything remembered for one peer is bounded.
fn bounds(reader: &StoreReader, audit: &mut Audit) -> Result<(), ReadError> {
    for outbox in all::<kith_protocol::record::Outbox>(reader, &KeyRange::Outboxes)? {
        let sessions = all::<Session>(reader, &KeyRange::Sessions(outbox.device))?.len();
        audit.expect(sessions <= limits::SESSIONS + 2, None, || {
            format!("{sessions} sessions with one device; {} are kept", limits::SESSIONS)
        });
    }
    for conversation in all::<Conversation>(reader, &KeyRange::Conversations)? {
        let (streams, heads) = (conversation.streams.len(), conversation.heads.len());
        audit.expect(streams <= limits::STREAMS && heads <= limits::PARENTS, None, || {
            format!("a conversation with {streams} streams and {heads} heads")
        });
    }
    Ok(())
}

/// No text is there twice: each message of the workload is another one.
fn unique(stored: &[Entry], audit: &mut Audit) {
    let mut texts = BTreeSet::new();
    for entry in
        stored.iter().filter(|entry| entry.kind == EntryKind::Text && entry.visible && !entry.deleted)
    {
        if entry.text.is_empty() || entry.edited.is_some() {
            continue;
        }
        audit.expect(texts.insert((entry.conversation, entry.author, &entry.text)), Some(entry.id), || {
            format!("the text of message {} is there twice", entry.id.short())
        });
    }
}

/// How an accepted message stands that its recipient does not have.
///
/// # Errors
/// If the store cannot be read.
pub(crate) fn is_held(author: &StoreReader, entry: EntryId, to: AccountId) -> Result<bool, ReadError> {
    let deliveries: Vec<Delivery> = all(author, &KeyRange::Deliveries(entry))?;
    Ok(deliveries.iter().filter(|delivery| delivery.account == to).any(|delivery| match delivery.rank {
        rank if rank.is_open() => delivery.job.is_some(),
        Rank::Expired | Rank::Rejected => true,
        _ => false,
    }))
}

/// Whether a store has a message.
///
/// # Errors
/// If the store cannot be read.
pub(crate) fn has(reader: &StoreReader, entry: EntryId) -> Result<bool, ReadError> {
    Ok(reader.get(&Key::Entry(entry))?.is_some())
}

fn order(reader: &StoreReader, conversation: &ConversationId) -> Result<Vec<EntryId>, ReadError> {
    let mut newest_first: Vec<Entry> = Vec::new();
    loop {
        let place = newest_first.last().map(Entry::place);
        let page = reader.history(conversation, place.as_ref(), PAGE)?;
        let last = page.len() < PAGE;
        newest_first.extend(page);
        if last {
            return Ok(newest_first.into_iter().map(|entry| entry.id).collect());
        }
    }
}

/// Two friends see what they both have in the same order.
///
/// # Errors
/// If a store cannot be read.
pub(crate) fn compare(a: &StoreReader, b: &StoreReader, with: AccountId) -> Result<Audit, ReadError> {
    let mut audit = Audit::default();
    let shared =
        all::<Conversation>(a, &KeyRange::Conversations)?.into_iter().find(|known| known.with == with);
    let Some(conversation) = shared.map(|shared| shared.id) else { return Ok(audit) };
    let (of_a, of_b) = (order(a, &conversation)?, order(b, &conversation)?);
    let (in_a, in_b): (BTreeSet<_>, BTreeSet<_>) = (of_a.iter().collect(), of_b.iter().collect());
    let both_a: Vec<_> = of_a.iter().filter(|id| in_b.contains(id)).collect();
    let both_b: Vec<_> = of_b.iter().filter(|id| in_a.contains(id)).collect();
    let first = both_a.iter().zip(&both_b).find(|(a, b)| a != b).map(|(a, _)| **a);
    audit.expect(first.is_none(), first, || "two friends see their messages in different orders".to_owned());
    Ok(audit)
}
