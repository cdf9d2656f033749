//! A js-libp2p node dials a Kith node, identifies, pings, finds peers and reads a device record in its Kademlia.
//!
//! `cargo xtask test` installs it (`npm ci` in `tests/js`). Without node or the packages the tests say so and pass;
//! with `KITH_TEST_JS=1` they fail instead.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kith_tests::{PATIENCE, Person, loopback, meet, wait_until, wait_within};
use serde_json::Value;

#[test]
fn a_js_libp2p_node_reads_a_device_record_over_tcp() {
    visit(&["/tcp/"], "/ws");
}

#[test]
fn a_js_libp2p_node_reads_a_device_record_over_websocket() {
    visit(&["/tcp/", "/ws"], "\0");
}

fn visit(parts: &[&str], without: &str) {
    let Some(js) = js_folder() else { return };
    let listen = [loopback(0), format!("{}/ws", loopback(0))];
    let mut cy = Person::new("Cy").listening_at(&listen);
    cy.run();
    let addresses = cy.node().addresses.clone();
    let address = addresses
        .iter()
        .find(|address| parts.iter().all(|part| address.contains(part)) && !address.contains(without))
        .unwrap_or_else(|| panic!("no such address in {addresses:?}"));
    // Two friends who keep their records at Cy's node.
    let bootstrap = [cy.node().address(&["/tcp/"]).to_owned()];
    let mut ana = Person::new("Ana").bootstrapping_at(&bootstrap);
    let mut ben = Person::new("Ben").bootstrapping_at(&bootstrap);
    ana.run();
    ben.run();
    meet(&ana, &ben);
    let status = ana.kith(&["status"]).ok().object();
    let key = status["directory_key"].as_str().unwrap();

    let steps = run_peer(&js, &[address, key, &"5a".repeat(32)]);
    let step = |name: &str| {
        steps.iter().find(|step| step["step"] == name).unwrap_or_else(|| panic!("no {name} in {steps:?}"))
    };
    let cy_status = cy.kith(&["status"]).ok().object();
    assert_eq!(step("connected")["peer"], cy_status["peer_id"]);
    let protocols = step("identified")["protocols"].as_array().unwrap();
    for wanted in ["/kith/kad/1", "/ipfs/ping/1.0.0", "/ipfs/id/1.0.0"] {
        assert!(protocols.iter().any(|protocol| protocol == wanted), "{wanted} is not in {protocols:?}");
    }
    assert!(step("pinged")["ms"].as_f64().is_some_and(|ms| ms >= 0.0));
    let peers = step("peers")["peers"].as_array().unwrap();
    assert!(peers.contains(&status["peer_id"]), "{peers:?}");
    let record = step("record")["value"].as_str().unwrap();
    assert!(record.len() > 200 && record.len() <= 2 * 4096, "{} hex digits", record.len());
    let junk = step("junk");
    assert_eq!((&junk["stored"], &junk["replaced"]), (&Value::Bool(false), &Value::Bool(false)), "{junk}");
    step("done");

    wait_until("the node is still well", PATIENCE, || cy.kith(&["status"]).code == Some(0));
    ana.deliver(&ben, "and so are its users");
}

fn run_peer(js: &Path, args: &[&str]) -> Vec<Value> {
    let file = || tempfile::NamedTempFile::new().unwrap();
    let read = |file: &tempfile::NamedTempFile| std::fs::read_to_string(file.path()).unwrap();
    let (out, err) = (file(), file());
    let mut child = Child(
        Command::new("node")
            .arg("peer.mjs")
            .args(args)
            .current_dir(js)
            .stdin(Stdio::null())
            .stdout(out.reopen().unwrap())
            .stderr(err.reopen().unwrap())
            .spawn()
            .unwrap(),
    );
    let ended = wait_within(PATIENCE * 2, || child.0.try_wait().unwrap());
    let (out, err) = (read(&out), read(&err));
    assert!(ended.is_some_and(|status| status.success()), "the js peer: {ended:?}\n{out}\n{err}");
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Ends with the test, whatever happens.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where the js peer lies, if it can run here.
fn js_folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("js");
    let node = Command::new("node").arg("--version").output().is_ok_and(|output| output.status.success());
    if node && folder.join("node_modules/libp2p").is_dir() {
        return Some(folder);
    }
    let wanted = std::env::var("KITH_TEST_JS").is_ok_and(|value| value == "1");
    assert!(!wanted, "js-libp2p is not installed; run `npm ci` in tests/js");
    println!("left out: no node, or js-libp2p is not installed (`npm ci` in tests/js)");
    None
}
