//! Samples and counts, and what is computed from them.

use std::collections::{BTreeMap, BTreeSet};

use kith_protocol::{DirectoryKey, EnvelopeId};
use serde::Serialize;

use crate::trace::MILLI;

/// Times in nanoseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<u64>);

impl Samples {
    pub(crate) fn add(&mut self, nanos: u64) {
        self.0.push(nanos);
    }

    /// Sorted, in milliseconds.
    pub(crate) fn sorted_ms(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted.into_iter().map(|nanos| nanos as f64 / MILLI as f64).collect()
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        let sorted = self.sorted_ms();
        let at = |share: f64| {
            let rank = (sorted.len() as f64 * share).ceil() as usize;
            sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        Percentiles { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1.0) }
    }
}

/// Milliseconds below which a share of the samples lies (nearest rank).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half of them.
    pub p50: f64,
    /// 95 %.
    pub p95: f64,
    /// 99 %.
    pub p99: f64,
    /// All of them.
    pub max: f64,
}

/// Searches of the directory for something that somebody has published.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    published: BTreeSet<DirectoryKey>,
    open: BTreeMap<(u32, DirectoryKey), (u64, Option<u64>)>,
    pub(crate) ended: u64,
    pub(crate) found: u64,
    pub(crate) times: Samples,
}

impl Lookups {
    pub(crate) fn published(&mut self, key: DirectoryKey) {
        self.published.insert(key);
    }

    pub(crate) fn withdrawn(&mut self, key: DirectoryKey) {
        self.published.remove(&key);
    }

    pub(crate) fn begin(&mut self, host: u32, key: DirectoryKey, now: u64) {
        if self.published.contains(&key) {
            self.open.entry((host, key)).or_insert((now, None));
        }
    }

    pub(crate) fn found(&mut self, host: u32, key: DirectoryKey, now: u64) {
        if let Some((_, found)) = self.open.get_mut(&(host, key)) {
            found.get_or_insert(now);
        }
    }

    pub(crate) fn end(&mut self, host: u32, key: DirectoryKey) {
        let Some((begun, found)) = self.open.remove(&(host, key)) else { return };
        self.ended += 1;
        if let Some(found) = found {
            self.found += 1;
            self.times.add(found - begun);
        }
    }

    pub(crate) fn down(&mut self, host: u32) {
        self.open.retain(|(who, _), _| *who != host);
    }
}

/// Envelopes that arrived, and how many of them were not the first of their kind.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    seen: BTreeSet<(u32, EnvelopeId)>,
    pub(crate) all: u64,
}

impl Copies {
    pub(crate) fn arrived(&mut self, host: u32, envelope: EnvelopeId) {
        self.all += 1;
        self.seen.insert((host, envelope));
    }

    /// Copies beyond the first, for each first one.
    pub(crate) fn duplicates(&self) -> f64 {
        let first = self.seen.len() as f64;
        if first > 0.0 { (self.all as f64 - first) / first } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut samples = Samples::default();
        for ms in (1..=100).rev() {
            samples.add(ms * MILLI);
        }
        let all = samples.percentiles();
        assert_eq!((all.p50, all.p95, all.p99, all.max), (50.0, 95.0, 99.0, 100.0));
        assert_eq!(Samples::default().percentiles(), Percentiles::default());
    }
}
