//! What a restore of the store lost, as programs see it.

use kith_protocol::record::Restoration;
use serde::{Deserialize, Serialize};

use super::text::Timestamp;
use crate::restored::Found;

/// The store was damaged and restored with a loss that the person has not taken note of yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredView {
    /// When the device looked through what was left; null before it did.
    pub at: Option<Timestamp>,
    /// What happened, what is lost and what is done about it, in one sentence.
    pub text: String,
    /// Commits known to have been made and found nowhere. One holds up to some hundred messages.
    pub lost_commits: u64,
    /// What was written in the last five seconds before may be missing too.
    pub tail_uncertain: bool,
    /// Rows older than these commits could not be read anywhere.
    pub rows_lost: bool,
    /// Messages, edits and reactions that were asked for again.
    pub asked: u64,
    /// Of these, not here yet.
    pub missing: u64,
    /// Of these, taken back by their author, or lost there too.
    pub void: u64,
    /// Messages, edits and reactions that nobody can be asked for.
    pub gone: u64,
}

impl RestoredView {
    pub(crate) fn of(row: &Restoration, found: Found) -> Self {
        let Found { missing, void } = found;
        let mut text = row.sentence();
        if row.looked_through.is_some() && row.asked() > 0 {
            text.push_str(&match (missing, void) {
                (0, 0) => ". All that was asked for is here again".to_owned(),
                (0, _) => ". What was asked for is here again".to_owned(),
                (n, _) => format!(". Of what was asked for, {n} did not come yet"),
            });
            match void {
                0 => {}
                1 => text.push_str(", and 1 was taken back by its author or is lost there too"),
                n => {
                    text.push_str(&format!(", and {n} were taken back by their author or are lost there too"))
                }
            }
        }
        text.push_str(". `kith store acknowledge` ends this reminder");
        Self {
            at: row.looked_through.map(Into::into),
            text,
            lost_commits: row.lost_commits,
            tail_uncertain: row.tail_uncertain,
            rows_lost: row.rows_lost,
            asked: row.asked(),
            missing,
            void,
            gone: row.gone,
        }
    }
}
