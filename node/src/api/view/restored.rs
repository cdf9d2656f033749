//! What a restore of the store lost, as programs see it.

use kith_protocol::record::Restoration;
use serde::{Deserialize, Serialize};

use super::text::Timestamp;

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
    /// Messages, edits and reactions that nobody can be asked for.
    pub gone: u64,
}

impl RestoredView {
    /// `missing`: of what was asked for, not here yet.
    pub(crate) fn of(row: &Restoration, missing: u64) -> Self {
        let mut text = row.sentence();
        if row.looked_through.is_some() && row.asked() > 0 {
            text.push_str(&match missing {
                0 => ". All that was asked for is here again".to_owned(),
                n => format!(". Of what was asked for, {n} did not come yet"),
            });
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
            gone: row.gone,
        }
    }
}
