//! What a restore of the store lost, while the person has not taken note of it.

use kith_protocol::EntryId;
use kith_protocol::record::{Key, KeyRange, ReadError, Record, Restoration, StreamEntry};

use crate::api::{Library, RestoredView, library};

/// Numbers looked up to see what came back; of those beyond it is not known, and they count as missing.
const LOOKED_AT: u64 = 20_000;

/// The restore that is to be told of, if there is one.
pub(crate) fn read(rows: &dyn Library) -> Result<Option<RestoredView>, ReadError> {
    let row: Option<Restoration> = library::get(rows, &Key::Restoration)?;
    let Some(row) = row.filter(|row| row.has_loss() && !row.acknowledged) else { return Ok(None) };
    let found = look(rows, &row)?;
    Ok(Some(RestoredView::of(&row, found)))
}

/// What became of what was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Not here yet.
    pub(crate) missing: u64,
    /// Its author has nothing under these numbers any more.
    pub(crate) void: u64,
}

fn look(rows: &dyn Library, row: &Restoration) -> Result<Found, ReadError> {
    let (mut found, mut left) = (Found::default(), LOOKED_AT);
    for lost in &row.lost {
        for (first, count) in &lost.ranges {
            let looked = (*count).min(left);
            left = left.saturating_sub(looked);
            found.missing = found.missing.saturating_add(count.saturating_sub(looked));
            for number in *first..first.saturating_add(looked) {
                let there = rows.rows(&KeyRange::StreamNumber(lost.stream, number), None, 1)?;
                match there.into_iter().next().and_then(StreamEntry::from_row) {
                    None => found.missing = found.missing.saturating_add(1),
                    Some(place) if place.entry == EntryId([0; 32]) => {
                        found.void = found.void.saturating_add(1);
                    }
                    Some(_) => {}
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use kith_protocol::StreamId;
    use kith_protocol::Wall;
    use kith_protocol::record::{Change, Lost};
    use kith_store::{MasterKey, MemoryDisk, Store, StoreConfig};

    use super::*;
    use crate::runtime::Shelf;

    fn told(row: &Restoration, places: &[(u64, u8)]) -> Option<RestoredView> {
        let config = StoreConfig::memory(MemoryDisk::default(), MasterKey::from_bytes([1; 32]));
        let store = Store::open(config).unwrap().0;
        let place =
            |(number, entry)| StreamEntry { stream: StreamId([1; 16]), number, entry: EntryId([entry; 32]) };
        let mut changes: Vec<Change> = places.iter().map(|there| Change::Put(place(*there).into())).collect();
        changes.push(Change::Put(row.clone().into()));
        store.commit(changes).wait().unwrap();
        read(&Shelf::new(store.reader())).unwrap()
    }

    #[test]
    fn what_came_back_what_did_not_and_what_is_nowhere_are_told_apart() {
        let lost = Lost { stream: StreamId([1; 16]), ranges: vec![(3, 4), (9, 1)] };
        let row = Restoration {
            lost_commits: 2,
            looked_through: Some(Wall(1)),
            lost: vec![lost],
            ..Restoration::default()
        };
        let view = told(&row, &[(2, 7), (3, 7), (4, 0)]).unwrap();
        assert_eq!((view.asked, view.missing, view.void), (5, 3, 1));
        assert!(
            view.text.contains("3 did not come yet") && view.text.contains("1 was taken back"),
            "{}",
            view.text
        );
        let view = told(&row, &[(3, 7), (4, 7), (5, 7), (6, 7), (9, 7)]).unwrap();
        assert!(view.text.contains("All that was asked for is here again"), "{}", view.text);
        assert_eq!(told(&Restoration { acknowledged: true, ..row }, &[]), None);
        assert_eq!(told(&Restoration::default(), &[]), None, "nothing was lost");
    }
}
