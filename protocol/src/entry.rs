//! Entries: anything in a conversation's log, in its author's own bytes.
//!
//! An entry's id is the hash of those bytes, so they are kept and passed on exactly as they came, with whatever fields a
//! newer Kith put in.

use bytes::Bytes;
use prost::Message as _;
use thiserror::Error;

use crate::id::{AccountId, ConversationId, DeviceId, EntryId, StreamId};
use crate::identity::hash;
use crate::limits;
use crate::time::Wall;
use crate::wire::{WireError, decode, id, opt_id, proto, short};

const VERSION: u32 = 1;
const HASH: &str = "kith/entry/1";

/// Bytes that are no entry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EntryError {
    /// Not well formed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Its numbers contradict each other.
    #[error("the entry's {0} contradicts the rest of it")]
    Contradiction(&'static str),
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The conversation it belongs to.
    pub conversation: ConversationId,
    /// Who wrote it.
    pub account: AccountId,
    /// On which device.
    pub device: DeviceId,
    /// In which of the device's streams.
    pub stream: StreamId,
    /// With which number, from 1.
    pub number: u64,
    /// The stream's entry before it; none for the first.
    pub previous: Option<EntryId>,
    /// The conversation's heads when it was written: ascending, each once, at most [`limits::PARENTS`].
    pub parents: Vec<EntryId>,
    /// The author's wall clock.
    pub time: Wall,
    /// The larger of `time` and one more than each parent's order.
    pub order: u64,
    /// What it says.
    pub body: Body,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Body {
    /// A message.
    Text {
        /// At most [`limits::TEXT`] bytes; may be empty.
        text: String,
        /// The message it answers.
        reply_to: Option<EntryId>,
    },
    /// Changes the text of one of the author's messages.
    Edit {
        /// Which.
        target: EntryId,
        /// The new text.
        text: String,
    },
    /// Takes one of the author's messages back, for everyone.
    Delete {
        /// Which.
        target: EntryId,
    },
    /// Reacts to a message.
    Reaction {
        /// Which.
        target: EntryId,
        /// At most [`limits::REACTION`] bytes; empty takes the reaction back.
        emoji: String,
    },
    /// Made by a newer Kith.
    Unknown,
}

/// The order an author gives an entry written at `time` after `parents`: never below the clock, always after all parents,
/// saturating. Equal on all devices, as it stands in the entry.
#[must_use]
pub fn order(time: Wall, parents: impl IntoIterator<Item = u64>) -> u64 {
    parents.into_iter().map(|parent| parent.saturating_add(1)).fold(time.0, u64::max)
}

/// The canonical bytes of a new entry and their hash. The caller keeps to the limits, or [`parse`] refuses the result.
#[must_use]
pub fn encode(entry: &Entry) -> (EntryId, Bytes) {
    use proto::entry::Body as Wire;
    let target = |id: &EntryId| Bytes::copy_from_slice(id.as_bytes());
    let option = |id: &Option<EntryId>| id.as_ref().map_or_else(Bytes::new, target);
    let body = match &entry.body {
        Body::Text { text, reply_to } => {
            Some(Wire::Text(proto::Text { text: text.clone(), reply_to: option(reply_to) }))
        }
        Body::Edit { target: id, text } => {
            Some(Wire::Edit(proto::Edit { target: target(id), text: text.clone() }))
        }
        Body::Delete { target: id } => Some(Wire::Delete(proto::Delete { target: target(id) })),
        Body::Reaction { target: id, emoji } => {
            Some(Wire::Reaction(proto::Reaction { target: target(id), emoji: emoji.clone() }))
        }
        Body::Unknown => None,
    };
    let bytes: Bytes = proto::Entry {
        version: VERSION,
        conversation: Bytes::copy_from_slice(entry.conversation.as_bytes()),
        account: Bytes::copy_from_slice(entry.account.as_bytes()),
        device: Bytes::copy_from_slice(entry.device.as_bytes()),
        stream: Bytes::copy_from_slice(entry.stream.as_bytes()),
        number: entry.number,
        previous: option(&entry.previous),
        parents: entry.parents.iter().map(target).collect(),
        time: entry.time.0,
        order: entry.order,
        body,
    }
    .encode_to_vec()
    .into();
    (entry_id(&bytes), bytes)
}

/// The id of an entry's bytes.
#[must_use]
pub fn entry_id(bytes: &[u8]) -> EntryId {
    EntryId(hash(HASH, &[bytes]))
}

/// Reads an entry.
///
/// # Errors
/// [`EntryError`] naming the part that is wrong. A newer version, or a kind this version does not know, is
/// [`Body::Unknown`].
pub fn parse(bytes: &Bytes) -> Result<(EntryId, Entry), EntryError> {
    let entry: proto::Entry = decode("the entry", bytes.clone(), limits::ENTRY)?;
    if entry.version == 0 {
        return Err(WireError::Field("the entry's version").into());
    }
    if entry.number == 0 || (entry.number == 1 && !entry.previous.is_empty()) {
        return Err(EntryError::Contradiction("number"));
    }
    if entry.order < entry.time {
        return Err(EntryError::Contradiction("order"));
    }
    let (count, max) = (entry.parents.len(), limits::PARENTS);
    if count > max {
        return Err(WireError::TooMany { what: "parents", count, max }.into());
    }
    let parents: Vec<EntryId> =
        entry.parents.iter().map(|parent| id("a parent's id", parent)).collect::<Result<_, _>>()?;
    if !parents.is_sorted_by(|a, b| a < b) {
        return Err(EntryError::Contradiction("list of parents"));
    }
    let body = match entry.body {
        Some(body) if entry.version == VERSION => Body::from_proto(body)?,
        _ => Body::Unknown,
    };
    let parsed = Entry {
        conversation: id("the entry's conversation", &entry.conversation)?,
        account: id("the entry's account", &entry.account)?,
        device: id("the entry's device", &entry.device)?,
        stream: id("the entry's stream", &entry.stream)?,
        number: entry.number,
        previous: opt_id("the previous entry's id", &entry.previous)?,
        parents,
        time: Wall(entry.time),
        order: entry.order,
        body,
    };
    Ok((entry_id(bytes), parsed))
}

impl Body {
    fn from_proto(body: proto::entry::Body) -> Result<Self, WireError> {
        use proto::entry::Body as Wire;
        Ok(match body {
            Wire::Text(text) => {
                short("the text", text.text.len(), limits::TEXT)?;
                Self::Text { reply_to: opt_id("the answered message's id", &text.reply_to)?, text: text.text }
            }
            Wire::Edit(edit) => {
                short("the text", edit.text.len(), limits::TEXT)?;
                Self::Edit { target: id("the edited message's id", &edit.target)?, text: edit.text }
            }
            Wire::Delete(delete) => Self::Delete { target: id("the deleted message's id", &delete.target)? },
            Wire::Reaction(reaction) => {
                short("the emoji", reaction.emoji.len(), limits::REACTION)?;
                Self::Reaction { target: id("the message's id", &reaction.target)?, emoji: reaction.emoji }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(body: Body) -> Entry {
        Entry {
            conversation: ConversationId([1; 32]),
            account: AccountId([2; 32]),
            device: DeviceId([3; 32]),
            stream: StreamId([4; 16]),
            number: 2,
            previous: Some(EntryId([5; 32])),
            parents: vec![EntryId([6; 32]), EntryId([7; 32])],
            time: Wall(8),
            order: 9,
            body,
        }
    }

    fn text(text: &str) -> Body {
        Body::Text { text: text.into(), reply_to: None }
    }

    #[test]
    fn each_kind_comes_back_as_it_was_written() {
        let target = EntryId([9; 32]);
        for body in [
            text(""),
            Body::Text { text: "hi".into(), reply_to: Some(target) },
            text(&"x".repeat(limits::TEXT)),
            Body::Edit { target, text: "ho".into() },
            Body::Delete { target },
            Body::Reaction { target, emoji: "👍".into() },
            Body::Unknown,
        ] {
            let (id, bytes) = encode(&entry(body.clone()));
            assert_eq!(parse(&bytes).unwrap(), (id, entry(body)));
        }
    }

    #[test]
    fn the_largest_entry_fits_its_limit() {
        let mut largest = entry(text(&"x".repeat(limits::TEXT)));
        largest.parents = (0..limits::PARENTS as u8).map(|n| EntryId([n; 32])).collect();
        (largest.number, largest.time, largest.order) = (u64::MAX, Wall(u64::MAX), u64::MAX);
        assert!(parse(&encode(&largest).1).is_ok());
    }

    #[test]
    fn entries_against_the_rules_are_refused() {
        let refused = |change: fn(&mut Entry)| {
            let mut entry = entry(text("x"));
            change(&mut entry);
            assert!(parse(&encode(&entry).1).is_err(), "{entry:?}");
        };
        refused(|e| e.number = 0);
        refused(|e| e.number = 1);
        refused(|e| e.order = 7);
        refused(|e| e.parents.reverse());
        refused(|e| e.parents = vec![EntryId([1; 32]); 2]);
        refused(|e| e.parents = (0..9).map(|n| EntryId([n; 32])).collect());
        refused(|e| e.body = text(&"x".repeat(limits::TEXT + 1)));
        refused(|e| {
            e.body = Body::Reaction { target: EntryId([0; 32]), emoji: "x".repeat(limits::REACTION + 1) };
        });
    }

    #[test]
    fn what_a_newer_version_adds_is_part_of_the_entry_and_of_its_id() {
        let (id, bytes) = encode(&entry(text("x")));
        let newer_field = [0xa2, 0x06, 0x01, 0x07]; // field 100, one byte
        let newer = Bytes::from([bytes.as_ref(), &newer_field].concat());
        let (newer_id, parsed) = parse(&newer).unwrap();
        assert_ne!(newer_id, id);
        assert_eq!(parsed, entry(text("x")));
        let mut version_two = proto::Entry::decode(bytes).unwrap();
        version_two.version = 2;
        let (_, parsed) = parse(&version_two.encode_to_vec().into()).unwrap();
        assert_eq!(parsed, entry(Body::Unknown));
    }

    #[test]
    fn order_follows_parents_and_never_overflows() {
        assert_eq!(order(Wall(10), []), 10);
        assert_eq!(order(Wall(10), [3, 12, 5]), 13);
        assert_eq!(order(Wall(10), [u64::MAX]), u64::MAX);
    }
}
