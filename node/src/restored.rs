//! What a restore of the store lost, while the person has not taken note of it.

use kith_protocol::record::{Key, KeyRange, ReadError, Restoration};

use crate::api::{Library, RestoredView, library};

/// Numbers looked up to see what came back; of those beyond it is not known, and they count as missing.
const LOOKED_AT: u64 = 20_000;

/// The restore that is to be told of, if there is one.
pub(crate) fn read(rows: &dyn Library) -> Result<Option<RestoredView>, ReadError> {
    let row: Option<Restoration> = library::get(rows, &Key::Restoration)?;
    let Some(row) = row.filter(|row| row.has_loss() && !row.acknowledged) else { return Ok(None) };
    let missing = missing(rows, &row)?;
    Ok(Some(RestoredView::of(&row, missing)))
}

/// How many of the numbers asked for still hold nothing.
fn missing(rows: &dyn Library, row: &Restoration) -> Result<u64, ReadError> {
    let (mut missing, mut left) = (0_u64, LOOKED_AT);
    for lost in &row.lost {
        for (first, count) in &lost.ranges {
            let looked = (*count).min(left);
            left = left.saturating_sub(looked);
            missing = missing.saturating_add(count.saturating_sub(looked));
            for number in *first..first.saturating_add(looked) {
                let there = rows.rows(&KeyRange::StreamNumber(lost.stream, number), None, 1)?;
                missing = missing.saturating_add(u64::from(there.is_empty()));
            }
        }
    }
    Ok(missing)
}
