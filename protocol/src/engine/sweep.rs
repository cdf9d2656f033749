//! Rows that only guard against repetition go when their time is over: looked through a stretch at a time.

use super::{Engine, Fault};
use crate::limits;
use crate::record::{Key, KeyRange, Record, Replay, Row, Seen};
use crate::time::Wall;

/// Rows looked at in one stretch.
const STRETCH: usize = 2 * limits::ROWS_PER_TURN;

/// Where each sweep stands: after this key, or at the start.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    seen: Option<Key>,
    replays: Option<Key>,
}

impl Engine {
    /// Looks at the next stretch of each. True: there are more rows to look at.
    pub(super) fn sweep(&mut self) -> Result<bool, Fault> {
        let Some(believed) = self.core.believed() else { return Ok(false) };
        let seen = self.sweep.seen.take();
        self.sweep.seen = self.sweep_range(&KeyRange::Seen, seen, believed, |row: Seen| row.until)?;
        let replays = self.sweep.replays.take();
        self.sweep.replays =
            self.sweep_range(&KeyRange::Replays, replays, believed, |row: Replay| row.until)?;
        Ok(self.sweep.seen.is_some() || self.sweep.replays.is_some())
    }

    fn sweep_range<T: Record>(
        &mut self,
        range: &KeyRange,
        after: Option<Key>,
        believed: Wall,
        until: impl Fn(T) -> Wall,
    ) -> Result<Option<Key>, Fault> {
        // rows that are not on disk yet are young: the sweep may miss them
        let rows = self.core.rows.base().range(range, after.as_ref(), STRETCH)?;
        let next = (rows.len() == STRETCH).then(|| rows.last().map(Row::key)).flatten();
        for row in rows {
            let key = row.key();
            if T::from_row(row).is_some_and(|row| until(row) < believed) {
                self.core.delete(key);
            }
        }
        Ok(next)
    }
}
