//! What relays signed for, and whether they keep it.

use std::collections::{BTreeMap, BTreeSet};

use futures::FutureExt as _;
use kith_protocol::crypto::custody::Custody;
use kith_protocol::mailbox::{self, Row, RowKey};
use kith_protocol::record::{Carriage, Rank};
use kith_protocol::{DeviceId, EntryId, EnvelopeId, Wall};
use kith_store::mailbox::{KvStore, MailboxStore as _};

/// Rows read at a time.
const PAGE: usize = 1_000;

/// What one relay signed for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signed {
    /// The message, if it is one.
    pub(crate) entry: Option<EntryId>,
    /// By the relay's clock.
    pub(crate) until: Wall,
}

/// Everything relays signed for, and how many did so for each message.
#[derive(Debug, Default)]
pub(crate) struct Custodies {
    /// By the relay's host.
    by_relay: BTreeMap<u32, BTreeMap<EnvelopeId, Signed>>,
    /// Relays that signed, and how many make *Sent*, for each device a message is for.
    carried: BTreeMap<EntryId, BTreeMap<DeviceId, (u32, u32)>>,
}

impl Custodies {
    /// A device stored what relays said of an envelope. The hosts of relays whose word is new, and of which envelope; an
    /// error is a receipt that proves nothing.
    pub(crate) fn stored(
        &mut self,
        carriage: &Carriage,
        entry: Option<EntryId>,
        host_of: impl Fn(&DeviceId) -> Option<u32>,
    ) -> Result<Vec<(u32, EnvelopeId)>, String> {
        let mut new = Vec::new();
        for custodian in carriage.custodians.iter().filter(|custodian| !custodian.receipt.is_empty()) {
            let Some(relay) = host_of(&custodian.relay) else { continue };
            let known = self.by_relay.entry(relay).or_default();
            if known.contains_key(&custodian.envelope) {
                continue;
            }
            match Custody::verify(&custodian.receipt) {
                Ok(signed) if signed.relay == custodian.relay && signed.envelope == custodian.envelope => {
                    known.insert(custodian.envelope, Signed { entry, until: signed.expires_at });
                    new.push((relay, custodian.envelope));
                }
                Ok(_) => return Err("a custody receipt of something else was stored".to_owned()),
                Err(error) => {
                    return Err(format!("a custody receipt that proves nothing was stored: {error}"));
                }
            }
        }
        if let Some(entry) = entry {
            let carried = self.carried.entry(entry).or_default();
            carried.insert(carriage.device, (carriage.have(), carriage.needed()));
        }
        Ok(new)
    }

    /// Whether enough relays signed for a message to be shown so.
    pub(crate) fn prove(&self, entry: &EntryId, rank: Rank) -> bool {
        let Some(carried) = self.carried.get(entry) else { return false };
        carried.values().any(|(have, needed)| match rank {
            Rank::Carried => *have >= 1,
            Rank::Sent => have >= needed,
            _ => false,
        })
    }

    /// Messages that relays signed for.
    pub(crate) fn messages(&self) -> impl Iterator<Item = &EntryId> {
        self.carried.iter().filter(|(_, by)| by.values().any(|(have, _)| *have > 0)).map(|(entry, _)| entry)
    }

    /// Whether one of these relays signed for a message.
    pub(crate) fn is_with(&self, entry: &EntryId, relays: &BTreeSet<u32>) -> bool {
        relays
            .iter()
            .filter_map(|relay| self.by_relay.get(relay))
            .any(|signed| signed.values().any(|signed| signed.entry == Some(*entry)))
    }

    /// Checks the rows of an honest relay. One sentence for each broken promise, with the message concerned, and the
    /// number of checks.
    pub(crate) fn audit(
        &self,
        relay: u32,
        rows: &KvStore,
        now: Wall,
    ) -> (Vec<(String, Option<EntryId>)>, u64) {
        let mut broken = Vec::new();
        let found = match read(rows) {
            Ok(found) => found,
            Err(what) => return (vec![(what, None)], 1),
        };
        let mut checks = found.faults.len() as u64 + 1;
        broken.extend(found.faults.into_iter().map(|what| (format!("the relay's store: {what}"), None)));
        for (envelope, signed) in self.by_relay.get(&relay).into_iter().flatten() {
            // a little before its end it may be gone already: times are kept by the hour
            if signed.entry.is_none() || signed.until <= now {
                continue;
            }
            checks += 1;
            if !found.known.contains(envelope) {
                let what =
                    "a relay signed for an envelope and has neither it nor a word that it was collected";
                broken.push((what.to_owned(), signed.entry));
            }
        }
        (broken, checks)
    }
}

struct Rows {
    known: BTreeSet<EnvelopeId>,
    faults: Vec<String>,
}

fn read(rows: &KvStore) -> Result<Rows, String> {
    // in memory nothing is waited for
    let never = || "the relay's store does not answer".to_owned();
    let mut audit = mailbox::Audit::default();
    let (mut known, mut stored, mut faults) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    let mut after = Vec::new();
    loop {
        let page =
            rows.scan(after, PAGE).now_or_never().ok_or_else(never)?.map_err(|error| error.to_string())?;
        for (key, row) in &page.rows {
            audit.row(key, row);
            match (key, row) {
                (RowKey::Known(_, envelope), _) => drop(known.insert(*envelope)),
                (_, Row::Envelope(row)) => drop(stored.insert(row.id)),
                _ => {}
            }
        }
        faults.extend(page.damaged);
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    let state = rows.state().now_or_never().ok_or_else(never)?.map_err(|error| error.to_string())?;
    let (_, found) = audit.finish(state.totals);
    faults.extend(found.into_iter().map(|fault| fault.what));
    if let Some(envelope) = stored.iter().find(|envelope| !known.contains(envelope)) {
        faults.push(format!("envelope {envelope:?} is stored and not known"));
    }
    Ok(Rows { known, faults })
}
