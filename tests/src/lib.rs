//! Whole-system tests: people with real processes, real sockets and real stores on the loopback address.
//!
//! [`Person`] is somebody with a data folder; [`Person::run`] starts their `kith run`. Tests wait for conditions
//! ([`wait_for`]) with ceilings ten times the bars of the benches, and never for a span of time. mDNS is always off.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's step that goes wrong ends the test, with a message"
)]

mod binary;
mod node;
mod person;
mod relay;
mod text;
mod wait;

pub mod bench;
pub mod hostile;

pub use binary::{kith_binary, relay_binary};
pub use node::{Node, free_port, loopback, resident_bytes};
pub use person::{Command, Finished, Person};
pub use relay::{Backup, Limping, Relay};
pub use text::real_text;
pub use wait::{DELIVERED, MEET, ONLINE, PATIENCE, wait_for, wait_until, wait_within};

/// Runs the long version of a test (`cargo xtask soak`).
#[must_use]
pub fn soak() -> bool {
    std::env::var_os("KITH_SOAK").is_some_and(|value| value == "1")
}

/// Makes two people, both running, who have accepted each other.
///
/// # Panics
/// If any step fails.
#[must_use]
pub fn two_friends() -> (Person, Person) {
    let mut ana = Person::new("Ana");
    let mut ben = Person::new("Ben");
    ana.run();
    ben.run();
    meet(&ana, &ben);
    (ana, ben)
}

/// `guest` accepts an invite of `host`; both must be running.
///
/// # Panics
/// If they are not both accepted in time.
pub fn meet(host: &Person, guest: &Person) {
    let invite = host.invite();
    guest.kith(&["accept", &invite]).ok();
    for (one, other) in [(host, guest), (guest, host)] {
        wait_until("both sides are accepted and on-line", PATIENCE, || {
            one.contact(&other.name)
                .is_some_and(|contact| contact["state"] == "accepted" && contact["online"] == true)
        });
    }
}
