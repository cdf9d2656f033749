//! A scenario built in Rust: half of the nodes lose their power for a minute. Prints how long messages took.
//!
//! `cargo run --example outage`

use kith_sim::{Fault, FaultKind, FriendsKind, Op, Options, Scenario, Time};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let outage = Fault::new(FaultKind::PowerCut, Time::seconds(30)).some(5).lasts(Time::seconds(60));
    let run = Scenario::new("outage")
        .nodes(11)
        .friends(FriendsKind::Random, 3)
        .duration(Time::seconds(180))
        .rate(2.0)
        .fault(outage)
        .expect("delivery_ratio", Op::Equal, 1.0)
        .run(&Options { seed: 1, ..Options::default() })?;
    let latency = run.summary.delivery_latency_ms;
    println!("{} messages, {:.1} % arrived", run.summary.messages, run.summary.delivery_ratio * 100.0);
    println!("half of them within {} ms, the slowest after {} ms", latency.p50, latency.max);
    print!("{}", run.complaint());
    if run.is_good() { Ok(()) } else { Err("a promise was not kept".into()) }
}
