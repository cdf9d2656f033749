//! The program from outside: one seed is one trace, and what goes wrong is said.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn kith_sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kith-sim")).args(arguments).output().unwrap()
}

fn summary(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.lines().last().unwrap_or_else(|| panic!("nothing on standard output; {complaint}"));
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}; {complaint}"))
}

/// A small network in which a lot happens.
const BUSY: &str = r#"
[scenario]
duration = "40s"
[nodes]
count = 6
clock_skew = "1m"
[link]
loss = "2%"
[churn]
session = { exponential = "20s" }
downtime = { exponential = "5s" }
share = "40%"
[workload]
rate = 2
[[fault]]
kind = "partition"
at = "10s"
lasts = "10s"
[[fault]]
kind = "crash"
at = "15s"
nodes = 1
between_outputs = 20
[[expect]]
metric = "delivery_ratio"
op = "=="
value = 1
"#;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn scenario(&self, text: &str) -> String {
        let path = self.file("scenario.toml");
        std::fs::write(&path, text).unwrap();
        text_of(&path)
    }
}

fn text_of(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

const RELAYED: &str = r#"
[scenario]
duration = "60s"
[nodes]
count = 5
[relays]
count = 2
each = 2
disk_sync = "20ms"
[workload]
rate = 1
[churn]
session = { exponential = "20s" }
downtime = { exponential = "15s" }
[[fault]]
kind = "crash"
at = "5s"
relays = 1
between_outputs = 20
every = "10s"
[[fault]]
kind = "clock"
at = "20s"
relays = [0]
by = "1h"
"#;

#[test]
fn one_seed_is_one_trace_in_two_processes_and_another_seed_another() {
    let folder = Folder::new();
    let scenario = folder.scenario(BUSY);
    let run = |seed: &str, name: &str| {
        let trace = text_of(&folder.file(name));
        let output = kith_sim(&["run", &scenario, "--seed", seed, "--trace", &trace]);
        (summary(&output), trace)
    };
    let ((first, a), (again, b), (other, c)) = (run("5", "a"), run("5", "b"), run("6", "c"));
    assert_eq!(first["trace_hash"], again["trace_hash"]);
    assert!(std::fs::read(&a).unwrap() == std::fs::read(&b).unwrap(), "byte by byte");
    assert_ne!(first["trace_hash"], other["trace_hash"]);
    // equal and useless would be easy: something has happened
    assert!(first["messages"].as_u64().unwrap() > 30, "{first}");
    assert!(first["crashes"].as_u64().unwrap() > 0, "{first}");
    assert_eq!(first["delivery_ratio"], 1.0, "{first}");

    let same = kith_sim(&["diff", &a, &b]);
    assert_eq!(same.status.code(), Some(0));
    let differ = kith_sim(&["diff", &a, &c]);
    assert_eq!(differ.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&differ.stdout).contains("is the first that differs"));
}

#[test]
fn relays_are_simulated_the_same_way_twice() {
    let folder = Folder::new();
    let scenario = folder.scenario(RELAYED);
    let run = || summary(&kith_sim(&["run", &scenario, "--seed", "3"]));
    let (first, again) = (run(), run());
    assert_eq!(first["trace_hash"], again["trace_hash"]);
    assert!(first["in_custody"].as_u64().unwrap() > 5, "{first}");
    assert!(first["crashes"].as_u64().unwrap() > 5, "{first}");
    assert_eq!(first["broken"], serde_json::json!([]), "{first}");
    assert_eq!(first["delivery_ratio"], 1.0, "{first}");
}

#[test]
fn without_the_overrides_two_runs_differ() {
    let run = || {
        let output = kith_sim(&["run", "two-friends", "--duration", "20s", "--without-overrides"]);
        summary(&output)["trace_hash"].clone()
    };
    assert_ne!(run(), run());
}

#[test]
fn the_summary_has_every_field_it_promises() {
    let output = kith_sim(&["run", "two-friends", "--duration", "20s"]);
    let summary = summary(&output);
    for field in [
        "scenario",
        "seed",
        "nodes",
        "virtual_s",
        "wall_s",
        "cpu_s",
        "peak_rss_mib",
        "trace_hash",
        "delivery_ratio",
        "duplicates_per_delivery",
        "bytes_by_purpose",
        "invariants_checked",
        "expectations",
    ] {
        assert!(!summary[field].is_null(), "{field} in {summary}");
    }
    for figure in ["p50", "p95", "p99", "max"] {
        assert!(summary["delivery_latency_ms"][figure].is_number());
    }
    assert!(summary["bytes_per_node_s"]["in"].is_number() && summary["bytes_per_node_s"]["out"].is_number());
    assert!(summary["lookup"]["success"].is_number() && summary["lookup"]["p50_ms"].is_number());
    let expectation = &summary["expectations"][0];
    for field in ["metric", "op", "value", "got", "ok"] {
        assert!(!expectation[field].is_null(), "{field}");
    }
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_missed_expectation_ends_with_1_and_says_by_how_much() {
    let folder = Folder::new();
    let text = "[scenario]\nduration = \"10s\"\n[[expect]]\nmetric = \"delivery_latency_ms.p50\"\nop = \"<\"\nvalue = 1\n";
    let output = kith_sim(&["run", &folder.scenario(text)]);
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.contains("missed: delivery_latency_ms.p50 is "), "{complaint}");
    assert_eq!(summary(&output)["expectations"][0]["ok"], false);
}

#[test]
fn a_bad_scenario_ends_with_2_and_names_the_line() {
    let folder = Folder::new();
    for (text, line) in [
        ("[nodes]\ncount = 3\nbootstrapp = 1\n", ":3: unknown field `bootstrapp`"),
        ("[scenario]\nduration = \"2 fortnights\"\n", ":2: invalid value"),
        ("[nodes]\n[[fault]]\nkind = \"crash\"\nat = \"1s\"\n", ":3: fault[0].kind: it needs `nodes`"),
        ("[link\n", ":1: "),
        ("[relays]\ncount = 2\neach = 3\n", ":3: relays.each: each person uses 3 relays; 1 to 2"),
        (
            "[relays]\ncount = 2\n[[fault]]\nkind = \"forget\"\nat = \"1s\"\nshare = 1\nrelays = [2]\n",
            ":7: fault[0].relays: there is no relay 2",
        ),
        (
            "[[fault]]\nkind = \"full\"\nat = \"1s\"\nnodes = 1\n",
            ":4: fault[0].nodes: this kind hits `relays`",
        ),
    ] {
        let output = kith_sim(&["run", &folder.scenario(text)]);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{complaint}");
        assert!(complaint.contains(line), "{complaint}");
    }
    let missing = kith_sim(&["run", "no-such-scenario"]);
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn a_replay_shows_the_last_events_before_a_moment() {
    let output = kith_sim(&["replay", "two-friends", "--until", "40s", "--last", "7"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("the last events before 40s"), "{text}");
    let times: Vec<f64> = text
        .lines()
        .skip(1)
        .take(7)
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .collect();
    assert_eq!(times.len(), 7, "{text}");
    assert!(times.iter().all(|time| *time <= 40.0), "{text}");
}

#[test]
fn shrinking_leaves_out_what_the_failure_does_not_need() {
    let folder = Folder::new();
    let text = r#"
[scenario]
duration = "20s"
quiet = "2s"
[nodes]
count = 5
[[fault]]
kind = "loss"
at = "1s"
share = "1%"
[[fault]]
kind = "delay"
at = "2s"
by = "10s"
[[expect]]
metric = "delivery_latency_ms.max"
op = "<"
value = 5000
"#;
    let (scenario, small) = (folder.scenario(text), folder.file("small.toml"));
    let output = kith_sim(&["shrink", &scenario, "--seed", "2", "--out", &text_of(&small)]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let small = std::fs::read_to_string(&small).unwrap();
    assert!(small.contains("delay") && !small.contains("loss\""), "{small}");
}

#[test]
fn a_report_opens_from_disk_in_a_browser() {
    let folder = Folder::new();
    let reports = text_of(&folder.file("report"));
    let output = kith_sim(&["run", &folder.scenario(BUSY), "--seed", "5", "--report", &reports]);
    let csv = std::fs::read_to_string(folder.file("report/messages.csv")).unwrap();
    assert!(csv.lines().count() > 30, "{}", String::from_utf8_lossy(&output.stderr));
    let json: Value =
        serde_json::from_slice(&std::fs::read(folder.file("report/report.json")).unwrap()).unwrap();
    assert_eq!(json["summary"]["seed"], 5);
    let page = folder.file("report/report.html");
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(!text.contains("http://") && !text.contains("https://"), "nothing from the network");

    let Some(browser) = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    }) else {
        assert!(std::env::var("KITH_TEST_CHROMIUM").as_deref() != Ok("1"), "no Chromium was found");
        eprintln!("no Chromium: the page itself was not looked at; `apt-get install chromium` brings it");
        return;
    };
    let dom = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--virtual-time-budget=2000",
        ])
        .arg(format!("--user-data-dir={}", text_of(&folder.file("browser"))))
        .args(["--dump-dom", &format!("file://{}", text_of(&page))])
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&dom.stdout).into_owned();
    for heading in [
        "Figures",
        "How long messages took",
        "Latency over time",
        "Bytes by purpose",
        "The way of one message",
        "Nodes",
    ] {
        assert!(dom.contains(&format!("<h2>{heading}</h2>")), "{heading}");
    }
    assert!(dom.contains("<polyline") && dom.contains("class=\"spacetime\""), "the plots are drawn");
}
