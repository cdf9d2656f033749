//! Figures for Prometheus, in its text format. None of them names anybody: no address, no peer, no mailbox.

use std::fmt::Write as _;

use kith_protocol::wire::relay::RefusalCode;

use super::histogram::HistogramView;
use super::sample::Sample;
use crate::counters::Snapshot;

/// The content type of what [`encode`] returns.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Loads, least first: their place is the value of `kith_relay_load_level`.
pub(crate) const LOADS: [&str; 4] = ["normal", "high", "heavy", "critical"];
const MODES: [&str; 4] = ["open", "token", "allow-list", "closed"];
const REACHABLE: [&str; 3] = ["unknown", "private", "public"];

type Count = fn(&Snapshot) -> u64;

const COUNTERS: &[(&str, &str, Count)] = &[
    ("links_opened_total", "Links that came up.", |c| c.links_opened),
    ("requests_total", "Requests taken.", |c| c.requests),
    ("deposits_total", "Envelopes taken into custody.", |c| c.deposits),
    ("deposits_repeated_total", "Deposits of what was here already or had been collected.", |c| {
        c.deposits_again
    }),
    ("deposited_bytes_total", "Bytes of envelopes taken into custody.", |c| c.deposited_bytes),
    ("fetched_envelopes_total", "Envelopes handed to owners.", |c| c.fetched),
    ("fetched_bytes_total", "Bytes of envelopes handed to owners.", |c| c.fetched_bytes),
    ("collections_total", "Requests in which owners collected envelopes.", |c| c.collections),
    ("mailboxes_created_total", "Mailboxes made.", |c| c.mailboxes_made),
    ("bundles_given_total", "Key bundles given out.", |c| c.bundles_given),
    ("one_time_keys_given_total", "One-time keys given out.", |c| c.one_time_keys_given),
    ("malformed_frames_total", "Frames that were no frames.", |c| c.malformed),
    ("rate_limited_requests_total", "Requests refused because too many came.", |c| c.rate_limited),
    ("store_batches_total", "Batches written to the store.", |c| c.batches),
    ("store_batch_decisions_total", "Decisions written in these batches.", |c| c.batch_jobs),
    ("store_conflicts_total", "Batches of which a part was decided again: another relay was faster.", |c| {
        c.conflicts
    }),
    ("store_decided_again_total", "Requests decided again: another relay was faster.", |c| c.decided_again),
    ("store_failures_total", "Reads and writes of the store that failed.", |c| c.store_failures),
    ("damaged_rows_total", "Rows found damaged.", |c| c.damaged_rows),
    ("upkeep_batches_total", "Batches in which upkeep removed what is past its time.", |c| c.upkeep_batches),
];

/// All figures.
#[must_use]
pub fn encode(sample: &Sample) -> String {
    let mut text = Text(String::with_capacity(16 * 1024));
    relay(&mut text, sample);
    for (name, help, count) in COUNTERS {
        text.one(&format!("kith_relay_{name}"), "counter", help, count(&sample.status.counters));
    }
    refusals(&mut text, &sample.status.counters);
    let waited = millis(sample.status.counters.batch_millis);
    let name = "kith_relay_store_batch_wait_seconds_total";
    text.one(name, "counter", "Time requests waited for batches to be durable.", waited);
    histogram(&mut text, sample);
    network(&mut text, sample);
    process(&mut text, sample);
    text.0
}

#[allow(clippy::cast_precision_loss, reason = "2^53 ms are more than a relay lives")]
fn millis(millis: u64) -> f64 {
    millis as f64 / 1_000.0
}

fn relay(text: &mut Text, sample: &Sample) {
    let status = &sample.status;
    text.head("kith_relay_build_info", "gauge", "Always 1: the version of the relay and its kind of store.");
    text.line("kith_relay_build_info", &[("version", &status.version), ("store", &status.store)], 1);
    text.states("kith_relay_mode", "Who may open a mailbox.", "mode", &MODES, &status.mode);
    let level = LOADS.iter().position(|load| *load == status.load).unwrap_or_default();
    let help = "0 normal, 1 high (no new mailboxes), 2 heavy (no large envelopes), 3 critical (no deposits).";
    text.one("kith_relay_load_level", "gauge", help, level);
    text.one("kith_relay_uptime_seconds", "gauge", "Time since the start.", status.uptime_s);
    let help = "1: the clock has jumped, nothing expires until it is confirmed.";
    text.one("kith_relay_clock_in_doubt", "gauge", help, u8::from(status.clock_in_doubt));
    for (name, help, value) in [
        ("mailboxes", "Mailboxes.", status.mailboxes),
        ("envelopes", "Envelopes in custody.", status.envelopes),
        ("envelope_bytes", "Bytes of envelopes in custody.", status.bytes),
        ("tombstones", "Remembered ids of collected envelopes.", status.tombstones),
        ("rights", "Rights in force.", status.rights),
    ] {
        text.one(&format!("kith_relay_{name}"), "gauge", help, value);
    }
    for (name, help, value) in [
        ("connections", "Connected nodes.", status.connections),
        ("links", "Links on which requests may come.", status.links),
        ("waits", "Owners waiting for arrivals.", status.waits),
        ("queued_requests", "Requests not begun yet.", status.queued),
    ] {
        text.one(&format!("kith_relay_{name}"), "gauge", help, value);
    }
    text.one("kith_relay_store_bytes", "gauge", "Bytes the store takes on disk.", status.store_bytes);
    if let Some(free) = status.free_bytes {
        text.one("kith_relay_disk_free_bytes", "gauge", "Bytes free where the store lies.", free);
    }
    let config = &sample.config;
    let help = "When less is free, nothing new is taken.";
    text.one("kith_relay_disk_reserve_bytes", "gauge", help, config.total.reserve.0);
    let help = "Connections that are allowed at a time.";
    text.one("kith_relay_connections_limit", "gauge", help, config.connections.total);
    if config.total.bytes.0 > 0 {
        let help = "Bytes of envelopes that are allowed.";
        text.one("kith_relay_envelope_bytes_limit", "gauge", help, config.total.bytes.0);
    }
    if let Some(at) = status.certificate_expires {
        let help = "When the certificate of secure WebSocket addresses expires, in seconds since the epoch.";
        text.one("kith_relay_certificate_expires_timestamp_seconds", "gauge", help, at / 1_000);
    }
    if let Some(at) = sample.last_backup {
        let help = "When the last backup was made, in seconds since the epoch.";
        text.one("kith_relay_last_backup_timestamp_seconds", "gauge", help, at.0 / 1_000);
    }
}

fn refusals(text: &mut Text, counters: &Snapshot) {
    let name = "kith_relay_refusals_total";
    text.head(name, "counter", "Requests refused, by reason.");
    let mut other = 0;
    let mut known = Vec::new();
    for number in 1..64 {
        let count = counters.refused.get(&number).copied().unwrap_or_default();
        match RefusalCode::from_number(number) {
            RefusalCode::Other(_) => other += count,
            code => known.push((snake_case(&format!("{code:?}")), count)),
        }
    }
    known.push(("other".into(), other));
    for (reason, count) in known {
        text.line(name, &[("reason", &reason)], count);
    }
}

fn histogram(text: &mut Text, sample: &Sample) {
    let name = "kith_relay_store_duration_seconds";
    text.head(name, "histogram", "How long the store took, by operation.");
    let mut one = |operation: &str, view: &HistogramView| {
        for (bound, count) in &view.cumulative {
            let bound = if bound.is_infinite() { "+Inf".to_owned() } else { bound.to_string() };
            text.line(&format!("{name}_bucket"), &[("operation", operation), ("le", &bound)], count);
        }
        let count = view.cumulative.last().map_or(0, |(_, count)| *count);
        text.line(&format!("{name}_sum"), &[("operation", operation)], view.sum);
        text.line(&format!("{name}_count"), &[("operation", operation)], count);
    };
    one("read", &sample.reads);
    one("write", &sample.writes);
}

fn network(text: &mut Text, sample: &Sample) {
    let network = &sample.network;
    let reachability = format!("{:?}", network.reachability).to_lowercase();
    let name = "kith_relay_reachability";
    text.states(name, "Whether others can reach the relay.", "state", &REACHABLE, &reachability);
    for (name, help, value) in [
        ("received_bytes", "Bytes received in streams, before encryption.", network.bytes_in),
        ("sent_bytes", "Bytes sent in streams, before encryption.", network.bytes_out),
        ("handshakes_failed", "Handshakes that failed or took too long.", network.counters.handshakes_failed),
        (
            "handshakes_evicted",
            "Handshakes dropped: too many from one place.",
            network.counters.handshakes_evicted,
        ),
        ("connections_refused", "Connections over a limit or banned.", network.counters.connections_refused),
        ("connections_evicted", "Idle strangers closed to make room.", network.counters.connections_evicted),
        ("violations", "Violations of the link protocol.", network.counters.violations),
        ("records_rejected", "Directory records not stored.", network.counters.records_rejected),
    ] {
        text.one(&format!("kith_relay_network_{name}_total"), "counter", help, value);
    }
    let records = network.directory_records;
    text.one("kith_relay_directory_records", "gauge", "Directory records stored for others.", records);
    let peers = network.directory_peers;
    text.one("kith_relay_directory_peers", "gauge", "Directory nodes known.", peers);
}

fn process(text: &mut Text, sample: &Sample) {
    let process = &sample.process;
    if let Some(seconds) = process.cpu_seconds {
        text.one("process_cpu_seconds_total", "counter", "Processor time used.", seconds);
    }
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Memory in RAM.", process.resident_bytes),
        ("process_open_fds", "Open files and sockets.", process.open_files),
        ("process_max_fds", "Files and sockets that may be open.", process.max_files),
    ] {
        if let Some(value) = value {
            text.one(name, "gauge", help, value);
        }
    }
    let started = sample.at.0 / 1_000;
    let started = started.saturating_sub(sample.status.uptime_s);
    let help = "When the relay started, in seconds since the epoch.";
    text.one("process_start_time_seconds", "gauge", help, started);
}

fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for (n, c) in name.chars().enumerate() {
        if c.is_ascii_uppercase() && n > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

struct Text(String);

// writing to a string does not fail
impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (n, (label, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
            let _ = write!(self.0, "{}{label}=\"{value}\"", if n == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, kind, help);
        self.line(name, &[], value);
    }

    /// One of some states: its line is 1, the others 0.
    fn states(&mut self, name: &str, help: &str, label: &str, states: &[&str], is: &str) {
        self.head(name, "gauge", help);
        for state in states {
            self.line(name, &[(label, state)], u8::from(*state == is));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::web::sample::full_sample;

    #[test]
    fn every_counter_is_shown() {
        let counters = serde_json::to_value(Snapshot::default()).unwrap();
        // `refused` and `batch_millis` have their own places
        assert_eq!(counters.as_object().unwrap().len(), COUNTERS.len() + 2);
    }

    #[test]
    fn the_text_is_in_prometheus_form_and_each_metric_is_described_once() {
        let text = encode(&full_sample());
        let mut described = BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let name = rest.split(' ').next().unwrap();
                assert!(described.insert(name.to_owned()), "{name} twice");
                continue;
            }
            if line.starts_with('#') {
                continue;
            }
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let name = name.split('{').next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            assert!(described.contains(name) || base.is_some_and(|base| described.contains(base)), "{line}");
        }
        assert!(text.contains("kith_relay_refusals_total{reason=\"mailbox_full\"} 3\n"));
        assert!(text.contains("kith_relay_refusals_total{reason=\"other\"} 1\n"));
        assert!(text.contains("kith_relay_load_level 2\n"));
        assert!(text.contains("kith_relay_mode{mode=\"token\"} 1\n"));
        assert!(text.contains("_bucket{operation=\"write\",le=\"+Inf\"} 1\n"), "{text}");
    }

    #[test]
    fn names_follow_the_conventions_and_nobody_is_named() {
        let sample = full_sample();
        let text = encode(&sample);
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
        }
        assert!(
            !text.contains(&sample.status.peer_id) && !text.contains("/ip4/") && !text.contains("203.0.113")
        );
    }

    #[test]
    fn labels_are_escaped() {
        let mut text = Text(String::new());
        text.line("x", &[("a", "q\"\\\n"), ("b", "")], 1);
        assert_eq!(text.0, "x{a=\"q\\\"\\\\\\n\",b=\"\"} 1\n");
    }
}
