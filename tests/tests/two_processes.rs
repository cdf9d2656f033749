//! One data folder belongs to one process at a time; all others attach to it or say why they cannot.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use kith_tests::{PATIENCE, Person, two_friends, wait_until};

#[test]
fn a_second_node_on_a_folder_says_who_has_it_and_leaves_the_first_alone() {
    let mut ana = Person::new("Ana");
    let pid = ana.run().pid();
    let second = ana.kith(&["run", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"]).failed(1);
    assert!(
        second.stderr.contains(&pid.to_string()) || second.stderr.contains("running"),
        "{}",
        second.stderr
    );
    assert!(ana.node_mut().is_running());
    ana.kith(&["status"]).ok();
}

#[test]
fn commands_attach_to_the_running_node_and_open_the_store_without_one() {
    let (mut ana, ben) = two_friends();
    ana.deliver(&ben, "hello");
    let attached = ana.kith(&["history", "Ben"]).ok().stdout;
    ana.kill();
    let alone = ana.kith(&["history", "Ben"]).ok().stdout;
    assert_eq!(attached, alone);
    assert_eq!(ana.contact("Ben").unwrap()["online"], false);
}

#[test]
fn maintenance_of_the_store_needs_the_node_off() {
    let mut ana = Person::new("Ana");
    ana.run();
    for args in [["store", "compact"].as_slice(), &["store", "migrate", "--to", "redb"]] {
        let refused = ana.kith(args).failed(1);
        assert!(refused.stderr.contains("kith stop"), "it says what to do: {}", refused.stderr);
    }
    ana.stop();
    ana.kith(&["store", "check"]).ok();
    ana.kith(&["store", "compact"]).ok();
}

#[test]
fn a_history_survives_the_migration_to_the_other_engine_and_back() {
    let (mut ana, mut ben) = two_friends();
    ana.deliver(&ben, "written under the first engine");
    for engine in ["redb", "sled"] {
        ana.stop();
        ana.kith(&["store", "migrate", "--to", engine]).ok();
        ana.kith(&["store", "check"]).ok();
        ana.run();
        wait_until("on-line again", PATIENCE, || {
            ana.contact("Ben").is_some_and(|contact| contact["online"] == true)
        });
        ana.deliver(&ben, &format!("written under {engine}"));
    }
    let expected = ["written under the first engine", "written under redb", "written under sled"];
    assert_eq!(ana.texts("Ben"), expected);
    assert_eq!(ben.texts("Ana"), expected);
    ben.kill();
}

#[test]
fn a_node_that_was_killed_leaves_a_folder_that_opens_at_once() {
    let mut ana = Person::new("Ana");
    for _ in 0..3 {
        ana.run();
        ana.kill();
    }
    ana.run();
    ana.kith(&["status"]).ok();
    ana.stop();
}

#[test]
fn two_nodes_started_at_once_on_a_folder_leave_one_running() {
    let ana = Person::new("Ana");
    let args = ["run", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"];
    let mut nodes = [ana.start(&args), ana.start(&args)];
    wait_until("one of them gives up", PATIENCE, || {
        let [first, second] = &mut nodes;
        first.is_running() != second.is_running()
    });
    wait_until("the other one answers", PATIENCE, || ana.kith(&["status"]).code == Some(0));
    ana.kith(&["stop"]).ok();
    let codes = nodes.map(|node| node.finish(PATIENCE).code);
    assert!(codes.contains(&Some(0)) && codes.contains(&Some(1)), "{codes:?}");
}
