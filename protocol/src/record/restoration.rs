//! What a restore of the store from its export log could not bring back.

use serde::{Deserialize, Serialize};

use super::Key;
use crate::id::StreamId;
use crate::time::Wall;

/// The store was damaged and written anew from its export log. One row, written by the store with the restored rows,
/// and kept until the person has taken note of it or [`limits::RESTORATION_TTL`](crate::limits::RESTORATION_TTL) is over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restoration {
    /// What was wrong, in a few words.
    pub reason: String,
    /// Commits known to have been made and found nowhere.
    pub lost_commits: u64,
    /// What was written in the last five seconds may be missing too.
    pub tail_uncertain: bool,
    /// Rows older than these commits could not be read anywhere.
    pub rows_lost: bool,
    /// Where the damaged original was put; empty if there was nothing to keep.
    pub set_aside: String,
    /// When the device looked through what was left; `None`: it has not worked with the store since.
    pub looked_through: Option<Wall>,
    /// Numbers of streams that hold nothing any more, and are asked for again.
    pub lost: Vec<Lost>,
    /// Numbers that hold nothing any more and that nobody can be asked for.
    pub gone: u64,
    /// The person has taken note.
    pub acknowledged: bool,
}

/// What one stream lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// The stream.
    pub stream: StreamId,
    /// (first, count), ascending, apart.
    pub ranges: Vec<(u64, u64)>,
}

impl Restoration {
    pub(super) fn key(&self) -> Key {
        Key::Restoration
    }

    /// Whether anything is, or may be, missing.
    #[must_use]
    pub fn has_loss(&self) -> bool {
        self.lost_commits > 0 || self.tail_uncertain || self.rows_lost
    }

    /// Entries that were asked for again: messages, edits, deletions and reactions.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.lost.iter().flat_map(|lost| &lost.ranges).map(|(_, count)| *count).fold(0, u64::saturating_add)
    }

    /// What happened, what is lost and what is done about it, in one sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut text =
            format!("The store was damaged ({}) and was restored from its export log", self.reason);
        match (self.lost_commits, self.tail_uncertain) {
            (0, false) if self.rows_lost => {}
            (0, false) => text.push_str("; nothing was lost"),
            (0, true) => text.push_str("; what was written in the last five seconds may be missing"),
            (n, uncertain) => {
                text.push_str(&match n {
                    1 => "; 1 group of changes is lost".to_owned(),
                    n => format!("; {n} groups of changes are lost"),
                });
                if uncertain {
                    text.push_str(", and what was written in the last five seconds may be missing");
                }
            }
        }
        if self.rows_lost {
            text.push_str("; some older rows could not be read anywhere and are lost");
        }
        if self.has_loss() {
            let entries = |n: u64| match n {
                1 => "1 message (or edit or reaction)".to_owned(),
                n => format!("{n} messages (edits and reactions counted)"),
            };
            match (self.looked_through, self.asked()) {
                (None, _) => text.push_str("; the next `kith run` looks for what is missing"),
                (Some(_), 0) => {}
                (Some(_), n) => {
                    text.push_str(&format!("; {} asked for again from your contacts", is(&entries(n), n)));
                }
            }
            if self.gone > 0 {
                let gone = is(&entries(self.gone), self.gone);
                text.push_str(&format!("; {gone} lost for good: nobody can be asked for that"));
            }
        }
        if !self.set_aside.is_empty() {
            text.push_str(&format!("; the damaged original is kept in {}", self.set_aside));
        }
        text
    }
}

fn is(what: &str, n: u64) -> String {
    format!("{what} {}", if n == 1 { "is" } else { "are" })
}
