//! What is packaged fits the program: metrics that exist, alerts with a runbook, a unit that lets it do what it must.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeSet;

use serde_json::Value;
use support::http::get;
use support::process::{Process, command};

const DASHBOARD: &str = include_str!("../packaging/grafana.json");
const ALERTS: &str = include_str!("../packaging/alerts.yml");
const UNIT: &str = include_str!("../packaging/kith-relay.service");
const MAN: &str = include_str!("../packaging/kith-relay.1");
const GUIDE: &str = include_str!("../../docs/relay-operator.md");

/// Words of a query that are names of metrics.
fn metrics(query: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = query.split(|c: char| !is_name(c));
    words
        .filter(|word| word.starts_with("kith_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

/// Names of metrics in the text a relay shows, those of a relay with every bound set, a certificate and a backup.
fn shown() -> BTreeSet<String> {
    let folder = tempfile::tempdir().unwrap();
    let relay = Process::started(&support::certificate(folder.path(), 2040));
    let file = folder.path().join("a.backup");
    relay.json(&["backup", file.to_str().unwrap()]);
    let mut names = BTreeSet::new();
    for _ in 0..600 {
        let text = get(&relay.web, "/metrics").body;
        names = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split(['{', ' ']).next().unwrap().to_owned())
            .collect();
        // a sample is up to a second old
        if names.contains("kith_relay_last_backup_timestamp_seconds") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    names
}

#[test]
fn every_query_of_the_dashboard_and_of_the_alerts_names_metrics_that_exist() {
    let shown = shown();
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            queries.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    assert!(queries.len() > 40, "{}", queries.len());
    queries.push(ALERTS.to_owned());
    let mut named = BTreeSet::new();
    for query in &queries {
        let names = metrics(query);
        assert!(!names.is_empty(), "{query}");
        for name in names {
            assert!(shown.contains(&name), "{name} in {query} does not exist");
            named.insert(name);
        }
    }
    assert!(named.len() > 40, "{named:?}");
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let alerts: BTreeSet<&str> =
        ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10);
    let runbooks: BTreeSet<&str> = GUIDE
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .filter(|name| name.starts_with("Relay"))
        .collect();
    assert_eq!(alerts, runbooks);
}

#[test]
fn the_manual_and_the_guide_name_every_command() {
    let relay = Process::init("");
    let help = String::from_utf8(command(&relay.folder, &["--help"]).stdout).unwrap();
    let commands = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    for line in commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let name = line.split_whitespace().next().unwrap();
        assert!(name == "help" || MAN.contains(&format!("\n.B {name}")), "{name} is not in the manual");
        assert!(
            name == "help" || GUIDE.contains(&format!("kith-relay {name}")),
            "{name} is not in the guide"
        );
    }
}

#[test]
fn the_unit_starts_the_relay_as_a_user_of_its_own_and_lets_it_end() {
    for line in [
        "Type=notify",
        "ExecReload=/usr/bin/kith-relay reload --data /var/lib/kith-relay",
        "StartLimitIntervalSec=0",
        "User=kith-relay",
        "StateDirectory=kith-relay",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
    ] {
        assert!(UNIT.lines().any(|of_unit| of_unit == line), "{line}");
    }
    assert!(UNIT.contains("ExecStart=/usr/bin/kith-relay run --data /var/lib/kith-relay\n"));
    // where systemd is, it has the last word
    let Ok(output) = std::process::Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=20"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/kith-relay.service"))
        .output()
    else {
        return eprintln!("skipped: there is no systemd-analyze here");
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "exposure above 2.0: {said}{}", String::from_utf8_lossy(&output.stderr));
}

/// The service manager is told when it is ready and when it ends.
#[cfg(unix)]
#[test]
fn a_service_manager_is_told_of_start_and_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(support::CEILING)).unwrap();
    let mut relay = Process::init("");
    relay.env = vec![("NOTIFY_SOCKET".into(), path.to_str().unwrap().into())];
    relay.start();
    let mut buffer = [0; 64];
    let mut told = || {
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert_eq!(told(), "READY=1");
    relay.signal("-TERM");
    assert_eq!(told(), "STOPPING=1");
    assert!(relay.ended().success());
}
