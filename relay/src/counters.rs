//! What a relay has done since it started: the one place where it is counted. Nothing here names anybody.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use kith_protocol::wire::relay::RefusalCode;
use serde::Serialize;

/// Codes counted each; the last one takes all above.
const CODES: usize = 32;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts, raised by the relay's task and read by whoever shows them.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub(crate) $name: AtomicU64,)*
            refused: [AtomicU64; CODES],
        }

        /// The counts at one moment.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
        pub struct Snapshot {
            $($(#[$doc])* pub $name: u64,)*
            /// Refusals by their code on the wire.
            pub refused: BTreeMap<u32, u64>,
        }

        impl Counters {
            /// The counts now.
            #[must_use]
            pub fn snapshot(&self) -> Snapshot {
                let refused = (0..).zip(&self.refused).map(|(code, count)| (code, count.load(Ordering::Relaxed)));
                Snapshot {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    refused: refused.filter(|(_, count)| *count > 0).collect(),
                }
            }
        }
    };
}

counters! {
    /// Links that came up.
    links_opened,
    /// Requests taken.
    requests,
    /// Envelopes taken into custody.
    deposits,
    /// Deposits of what was here already, or had been collected.
    deposits_again,
    /// Bytes of envelopes taken into custody.
    deposited_bytes,
    /// Envelopes handed to owners.
    fetched,
    /// Bytes of envelopes handed to owners.
    fetched_bytes,
    /// Requests in which owners collected envelopes.
    collections,
    /// Mailboxes made.
    mailboxes_made,
    /// Bundles given out.
    bundles_given,
    /// One-time keys given out.
    one_time_keys_given,
    /// Frames that were no frames.
    malformed,
    /// Requests refused because their sender or its network sends too many.
    rate_limited,
    /// Batches written.
    batches,
    /// Decisions written in them.
    batch_jobs,
    /// Milliseconds spent waiting for them.
    batch_millis,
    /// Batches of which another relay was faster with a part.
    conflicts,
    /// Decisions made again because of that.
    decided_again,
    /// Reads and writes of the store that failed.
    store_failures,
    /// Rows found damaged.
    damaged_rows,
    /// Upkeep done, in batches.
    upkeep_batches,
}

impl Counters {
    pub(crate) fn add(&self, counter: impl FnOnce(&Self) -> &AtomicU64, count: u64) {
        counter(self).fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, code: RefusalCode) {
        let at = usize::try_from(code.number()).unwrap_or(usize::MAX).min(CODES - 1);
        if let Some(counter) = self.refused.get(at) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_their_code() {
        let counters = Counters::default();
        counters.add(|c| &c.deposits, 2);
        for code in [RefusalCode::WrongMac, RefusalCode::WrongMac, RefusalCode::Other(4_000_000_000)] {
            counters.refused(code);
        }
        let snapshot = counters.snapshot();
        assert_eq!(snapshot.deposits, 2);
        assert_eq!(snapshot.refused, [(RefusalCode::WrongMac.number(), 2), (31, 1)].into());
    }
}
