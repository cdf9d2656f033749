//! What happened to one message.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kith_protocol::EntryId;
use kith_protocol::record::Rank;
use serde::Serialize;

use crate::trace::Seconds;

/// Notes kept of one message; from then on only the last ones are.
const NOTES: usize = 96;

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Note {
    /// Virtual nanoseconds since the run began.
    pub at: u64,
    /// Where.
    pub host: u32,
    /// The other side of it.
    pub peer: Option<u32>,
    /// What.
    pub what: Step,
}

/// What can happen to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Its author's Engine wrote it.
    Written,
    /// The person was told that it is queued.
    Queued,
    /// An envelope with it was handed to the link to the peer.
    Sent,
    /// An envelope with it came from the peer.
    Arrived,
    /// An envelope with it was handed to the relay,
    Deposited,
    /// and the relay's receipt is stored.
    InCustody,
    /// An envelope with it came from the recipient's relay.
    Fetched,
    /// The person was told that it is in custody,
    Carried,
    /// of as many relays as make it *Sent*.
    Secured,
    /// The recipient's Engine stored it.
    Stored,
    /// The recipient's programs were told of it.
    Shown,
    /// The peer was told that the envelope is stored,
    AckSent,
    /// and heard that.
    Acked,
    /// The author is shown *Delivered*,
    Delivered,
    /// or *Read*,
    Read,
    /// or that its time ran out,
    Expired,
    /// or that it was refused.
    Rejected,
    /// The author's device crashed or stopped.
    AuthorDown,
    /// The recipient's device crashed or stopped.
    RecipientDown,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>16}  node {:<4} ", Seconds(self.at), self.host)?;
        let what = match self.what {
            Step::Written => "wrote it",
            Step::Queued => "told its person: queued",
            Step::Sent => "sent it",
            Step::Arrived => "received an envelope with it",
            Step::Deposited => "gave it to a relay",
            Step::InCustody => "stored the relay's receipt",
            Step::Fetched => "got an envelope with it from a relay",
            Step::Carried => "told its person: carried",
            Step::Secured => "told its person: sent",
            Step::Stored => "stored it",
            Step::Shown => "showed it",
            Step::AckSent => "acknowledged it",
            Step::Acked => "heard the acknowledgement",
            Step::Delivered => "told its person: delivered",
            Step::Read => "told its person: read",
            Step::Expired => "told its person: expired",
            Step::Rejected => "told its person: rejected",
            Step::AuthorDown => "went down (the author)",
            Step::RecipientDown => "went down (the recipient)",
        };
        f.write_str(what)?;
        self.peer.map_or(Ok(()), |peer| write!(f, " (node {peer})"))
    }
}

/// A message from being written to being read.
#[derive(Debug, Clone)]
pub struct Story {
    /// The message.
    pub entry: EntryId,
    /// Who wrote it.
    pub author: u32,
    /// For whom.
    pub to: BTreeSet<u32>,
    /// When it was written.
    pub written: u64,
    /// When its author was told that it is queued: from then on it must not be lost.
    pub accepted: Option<u64>,
    /// Who stored it.
    pub stored: BTreeSet<u32>,
    /// Whose programs were told of it, and when.
    pub shown: BTreeMap<u32, u64>,
    /// What its author was shown last.
    pub rank: Rank,
    /// When that was *Delivered*.
    pub ticked: Option<u64>,
    /// A message people see, not a change of one.
    pub visible: bool,
    /// Its author took it back. A recipient that did not have it yet gets a tombstone in its place, and what the author
    /// is told from then on speaks of that.
    pub withdrawn: bool,
    /// The first copy that came to a recipient was a relay's; `None` before one came.
    pub by_relay: Option<bool>,
    notes: Vec<Note>,
}

impl Story {
    pub(super) fn new(entry: EntryId, author: u32, written: u64, visible: bool) -> Self {
        Self {
            entry,
            author,
            to: BTreeSet::new(),
            written,
            accepted: None,
            stored: BTreeSet::new(),
            shown: BTreeMap::new(),
            rank: Rank::Queued,
            ticked: None,
            visible,
            withdrawn: false,
            by_relay: None,
            notes: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, at: u64, host: u32, peer: Option<u32>, what: Step) {
        if self.notes.len() >= NOTES {
            self.notes.remove(NOTES / 2);
        }
        self.notes.push(Note { at, host, peer, what });
    }

    /// The steps, oldest first; of a very long story some in the middle are missing.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// It has reached everybody it is for.
    #[must_use]
    pub fn has_arrived(&self) -> bool {
        self.withdrawn
            || self.to.iter().all(|host| self.shown.contains_key(host) || self.stored.contains(host))
    }
}
