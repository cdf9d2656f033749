//! What a message costs two Engines in processor time, with no disk and no network.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

use kith_protocol::testing::{Pair, Weather, Who};
use kith_tests::bench::{Bar, report, time};

fn main() {
    let mut pair = Pair::friends(1, Weather::FAIR);
    let mut number = 0_u32;
    let mut message = || {
        number += 1;
        pair.send(Who::A, &format!("message {number}")).unwrap();
        assert!(pair.run_until(10_000, Pair::all_delivered));
    };
    message();
    let times = time(300, &mut message);
    report("engines: message, receipt and all", "us", &times, Bar::None);
}
