//! The figures of a run: the last line of `kith-sim run`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::judge::Percentiles;
use crate::scenario::{Expect, Op};

/// Figures that scenarios may expect something of, with what they are.
pub const METRICS: &[(&str, &str)] = &[
    ("delivery_ratio", "messages that arrived, of those accepted; for bare nodes within 30 s"),
    ("delivery_latency_ms.p50", "from written to shown at the recipient; also .p95, .p99, .max"),
    ("delivery_latency_ms.p95", ""),
    ("delivery_latency_ms.p99", ""),
    ("delivery_latency_ms.max", ""),
    ("receipt_latency_ms.p50", "from written to *Delivered* at the author; also .p95, .p99, .max"),
    ("receipt_latency_ms.p95", ""),
    ("receipt_latency_ms.p99", ""),
    ("receipt_latency_ms.max", ""),
    ("receipt_ratio", "messages whose author is shown *Delivered*, of those accepted"),
    ("duplicates_per_delivery", "envelopes (bare: copies) that came again, for each first one"),
    ("bytes_per_node_s.in", "bytes a node receives in a second, headers included"),
    ("bytes_per_node_s.out", "bytes a node sends in a second, headers included"),
    ("lookup.success", "searches for what somebody had published and read back, that found it"),
    ("lookup.p50_ms", "how long those took"),
    ("friendships", "share of the friendships planned that came about"),
    ("messages", "messages accepted"),
    ("custody_latency_ms.p50", "from handed to a relay to its receipt stored; also .p95, .p99, .max"),
    ("custody_latency_ms.p95", ""),
    ("custody_latency_ms.p99", ""),
    ("custody_latency_ms.max", ""),
    ("in_custody", "messages that relays signed for"),
    ("by_relay", "messages whose first copy came from a relay"),
    ("crashes", "nodes and relays that crashed or lost power"),
    ("dials", "dials"),
    ("connections_peak", "most connections at once"),
    ("segments_lost", "packets lost on the wires"),
    ("virtual_s", "how long the run took in virtual time"),
    ("real_time_factor", "virtual seconds in a real one; it depends on the machine"),
    ("peak_rss_mib", "memory; it depends on the machine"),
];

/// Whether scenarios may expect something of this figure.
#[must_use]
pub(crate) fn is_metric(name: &str) -> bool {
    METRICS.iter().any(|(known, _)| *known == name)
        || ["bytes_by_purpose.", "notices."]
            .iter()
            .any(|start| name.strip_prefix(start).is_some_and(|rest| !rest.is_empty()))
}

/// Bytes a node receives and sends in a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Traffic {
    /// Received.
    pub r#in: f64,
    /// Sent.
    pub out: f64,
}

/// Searches of the directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Lookup {
    /// Share that found something.
    pub success: f64,
    /// How long those took, in milliseconds.
    pub p50_ms: f64,
}

/// Something that was expected, and how it was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Expectation {
    /// The figure.
    pub metric: String,
    /// How it should compare
    pub op: Op,
    /// with this.
    pub value: f64,
    /// What it was.
    pub got: f64,
    /// Whether that is good.
    pub ok: bool,
}

/// The figures of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// Number of nodes.
    pub nodes: u32,
    /// Virtual seconds.
    pub virtual_s: f64,
    /// Real seconds.
    pub wall_s: f64,
    /// Processor seconds.
    pub cpu_s: f64,
    /// Most memory held by the process.
    pub peak_rss_mib: f64,
    /// Hash of everything that happened.
    pub trace_hash: String,
    /// Lines of the trace.
    pub trace_events: u64,
    /// Messages that arrived, of those accepted.
    pub delivery_ratio: f64,
    /// From written to shown.
    pub delivery_latency_ms: Percentiles,
    /// From written to *Delivered*.
    pub receipt_latency_ms: Percentiles,
    /// Messages whose author is shown *Delivered*, of those accepted.
    pub receipt_ratio: f64,
    /// Copies beyond the first, for each first one.
    pub duplicates_per_delivery: f64,
    /// Traffic of a node.
    pub bytes_per_node_s: Traffic,
    /// Bytes sent, by what they are for; `transport` is handshakes, encryption, multiplexing and headers.
    pub bytes_by_purpose: BTreeMap<String, u64>,
    /// Searches of the directory.
    pub lookup: Lookup,
    /// Share of the friendships planned that came about.
    pub friendships: f64,
    /// Messages accepted.
    pub messages: u64,
    /// From handed to a relay for the first time to its receipt stored.
    pub custody_latency_ms: Percentiles,
    /// Messages that relays signed for.
    pub in_custody: u64,
    /// Messages whose first copy came from a relay.
    pub by_relay: u64,
    /// Nodes and relays that crashed or lost power.
    pub crashes: u64,
    /// Dials.
    pub dials: u64,
    /// Most connections at once.
    pub connections_peak: u64,
    /// Packets lost on the wires.
    pub segments_lost: u64,
    /// Things people were told, by their word.
    pub notices: BTreeMap<String, u64>,
    /// Checks of promises made.
    pub invariants_checked: u64,
    /// Promises that were broken, in words.
    pub broken: Vec<String>,
    /// What was expected.
    pub expectations: Vec<Expectation>,
}

impl Summary {
    /// Everything holds.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.broken.is_empty() && self.expectations.iter().all(|expectation| expectation.ok)
    }

    /// One line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// A figure by its name.
    #[must_use]
    pub fn figure(&self, name: &str) -> Option<f64> {
        if name == "real_time_factor" {
            return Some(if self.wall_s > 0.0 { self.virtual_s / self.wall_s } else { f64::INFINITY });
        }
        if let Some(purpose) = name.strip_prefix("bytes_by_purpose.") {
            return Some(self.bytes_by_purpose.get(purpose).copied().unwrap_or_default() as f64);
        }
        if let Some(code) = name.strip_prefix("notices.") {
            return Some(self.notices.get(code).copied().unwrap_or_default() as f64);
        }
        let json = serde_json::to_value(self).ok()?;
        name.split('.').try_fold(&json, |value, part| value.get(part))?.as_f64()
    }

    pub(crate) fn judge(&mut self, expect: &[Expect]) {
        self.expectations = expect
            .iter()
            .map(|Expect { metric, op, value }| {
                let got = self.figure(metric).unwrap_or(f64::NAN);
                let ok = match op {
                    Op::AtLeast => got >= *value,
                    Op::AtMost => got <= *value,
                    Op::Above => got > *value,
                    Op::Below => got < *value,
                    Op::Equal => (got - value).abs() < 1e-9,
                };
                Expectation { metric: metric.clone(), op: *op, value: *value, got: round(got), ok }
            })
            .collect();
    }
}

/// A number as people read it.
pub(crate) fn round(number: f64) -> f64 {
    if number.is_finite() { (number * 1e4).round() / 1e4 } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_a_figure_of_the_summary() {
        let summary = Summary {
            scenario: String::new(),
            seed: 0,
            nodes: 0,
            virtual_s: 2.0,
            wall_s: 1.0,
            cpu_s: 0.0,
            peak_rss_mib: 0.0,
            trace_hash: String::new(),
            trace_events: 0,
            delivery_ratio: 1.0,
            delivery_latency_ms: Percentiles::default(),
            receipt_latency_ms: Percentiles::default(),
            receipt_ratio: 0.5,
            duplicates_per_delivery: 0.0,
            bytes_per_node_s: Traffic::default(),
            bytes_by_purpose: BTreeMap::from([("link".to_owned(), 7)]),
            lookup: Lookup::default(),
            friendships: 1.0,
            messages: 3,
            custody_latency_ms: Percentiles::default(),
            in_custody: 2,
            by_relay: 1,
            crashes: 0,
            dials: 0,
            connections_peak: 0,
            segments_lost: 0,
            notices: BTreeMap::new(),
            invariants_checked: 0,
            broken: Vec::new(),
            expectations: Vec::new(),
        };
        for (name, _) in METRICS {
            assert!(summary.figure(name).is_some(), "{name}");
        }
        assert_eq!(summary.figure("bytes_by_purpose.link"), Some(7.0));
        assert_eq!(summary.figure("real_time_factor"), Some(2.0));
        let mut judged = summary.clone();
        judged.judge(&[Expect { metric: "receipt_ratio".to_owned(), op: Op::AtLeast, value: 0.6 }]);
        assert!(!judged.is_good() && summary.is_good());
    }
}
