//! Scenarios built in Rust, as the node's own tests would use them.

use kith_sim::{Fault, FaultKind, FriendsKind, Op, Options, Scenario, Time};

#[test]
fn a_scenario_built_in_rust_runs_and_is_judged() {
    let run = Scenario::new("an absence")
        .nodes(3)
        .friends(FriendsKind::Ring, 1)
        .duration(Time::seconds(60))
        .rate(1.0)
        .fault(Fault::new(FaultKind::Offline, Time::seconds(10)).some(1).lasts(Time::seconds(30)))
        .expect("delivery_ratio", Op::Equal, 1.0)
        .expect("messages", Op::AtLeast, 20.0)
        .run(&Options { seed: 3, ..Options::default() })
        .unwrap();
    assert!(run.is_good(), "{}", run.complaint());
    assert_eq!(run.faults.len(), 1);
    assert!(run.latencies.last().unwrap() > &10_000.0, "what was written meanwhile has waited");
}

#[test]
fn a_scenario_that_makes_no_sense_is_refused() {
    let error = Scenario::new("nobody").nodes(0).run(&Options::default()).unwrap_err();
    assert!(error.to_string().contains("nodes.count"), "{error}");
}
