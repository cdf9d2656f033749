//! The invariants of delivery, checked on what is stored. Used by `Pair`, the simulator and `kith store check` alike.

use std::collections::BTreeMap;

use crate::crypto::custody::Custody;
use crate::id::{DeviceId, EntryId};
use crate::record::{
    Carriage, Delivery, Entry, Job, JobBody, Key, KeyRange, Outbox, Proof, Rank, ReadError, Reader,
    ReceivedFrontier, Record,
};

/// Looks at every message and queue of a store; returns one sentence for each broken invariant.
///
/// # Errors
/// [`ReadError`] if the store cannot be read.
pub fn check(reader: &dyn Reader) -> Result<Vec<String>, ReadError> {
    let mut broken = Vec::new();
    let entries: Vec<Entry> = all(reader, &KeyRange::Entries)?;
    let mut jobs: BTreeMap<(EntryId, DeviceId), u64> = BTreeMap::new();
    for outbox in all::<Outbox>(reader, &KeyRange::Outboxes)? {
        let queue: Vec<Job> = all(reader, &KeyRange::Jobs(outbox.device))?;
        if queue.len() as u64 != outbox.open {
            broken.push(format!(
                "{:?}: {} jobs, but {} are counted",
                outbox.device,
                queue.len(),
                outbox.open
            ));
        }
        for job in queue {
            if let JobBody::Entry(entry) = job.body {
                jobs.insert((entry, job.device), job.seq);
            }
        }
    }
    for entry in entries {
        check_entry(reader, &entry, &mut jobs, &mut broken)?;
    }
    for ((entry, device), _) in jobs {
        broken.push(format!("a job brings {entry:?} to {device:?}, but no delivery owns it"));
    }
    Ok(broken)
}

fn check_entry(
    reader: &dyn Reader,
    entry: &Entry,
    jobs: &mut BTreeMap<(EntryId, DeviceId), u64>,
    broken: &mut Vec<String>,
) -> Result<(), ReadError> {
    let deliveries: Vec<Delivery> = all(reader, &KeyRange::Deliveries(entry.id))?;
    for delivery in &deliveries {
        let job = jobs.remove(&(entry.id, delivery.device));
        if delivery.rank.is_open() != job.is_some() || delivery.job != job {
            let (rank, named) = (delivery.rank, delivery.job);
            broken.push(format!("{:?} is {rank:?} with job {named:?}, but the queue has {job:?}", entry.id));
        }
        if delivery.rank != Rank::Queued && !is_proven(reader, entry, delivery)? {
            broken.push(format!("{:?} is {:?} without proof", entry.id, delivery.rank));
        }
    }
    let best = deliveries.iter().map(|delivery| delivery.rank).max();
    if let Some(best) = best
        && entry.rank > best
    {
        broken.push(format!("{:?} is shown as {:?}, but got no further than {best:?}", entry.id, entry.rank));
    }
    Ok(())
}

fn is_proven(reader: &dyn Reader, entry: &Entry, delivery: &Delivery) -> Result<bool, ReadError> {
    Ok(match &delivery.proof {
        Some(Proof::Frontier(stream)) => {
            let row =
                reader.get(&Key::Frontier(delivery.device, *stream))?.and_then(ReceivedFrontier::from_row);
            row.is_some_and(|row| {
                let read = delivery.rank != Rank::Read || row.read >= entry.number;
                let beyond = row.applied_delivered >= entry.number
                    || row
                        .beyond
                        .iter()
                        .any(|(first, count)| (*first..first.saturating_add(*count)).contains(&entry.number));
                *stream == entry.stream && read && beyond && !row.receipt.is_empty()
            })
        }
        Some(Proof::Custody) => {
            let Some(seq) = delivery.job else { return Ok(false) };
            let carriage = reader.get(&Key::Carriage(delivery.device, seq))?.and_then(Carriage::from_row);
            carriage.is_some_and(|carriage| match delivery.rank {
                Rank::Carried => signed(&carriage) >= 1,
                Rank::Sent => signed(&carriage) >= carriage.needed(),
                _ => false,
            })
        }
        Some(Proof::Refusal(word)) => delivery.rank == Rank::Rejected && !word.is_empty(),
        Some(Proof::Ttl(_)) => delivery.rank == Rank::Expired,
        None => false,
    })
}

/// Relays whose receipts prove what they say.
fn signed(carriage: &Carriage) -> u32 {
    let proven = carriage.custodians.iter().filter(|custodian| {
        Custody::verify(&custodian.receipt)
            .is_ok_and(|signed| signed.relay == custodian.relay && signed.envelope == custodian.envelope)
    });
    u32::try_from(proven.count()).unwrap_or(u32::MAX)
}

fn all<T: Record>(reader: &dyn Reader, range: &KeyRange) -> Result<Vec<T>, ReadError> {
    Ok(reader.range(range, None, usize::MAX / 4)?.into_iter().filter_map(T::from_row).collect())
}
