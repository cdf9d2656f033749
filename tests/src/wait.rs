//! Waiting for conditions.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Ceiling for a friend to be on-line after `accept`; the bar is 0.5 s.
pub const ONLINE: Duration = Duration::from_secs(5);
/// Ceiling for a first message to be delivered; the bar is 2 s.
pub const DELIVERED: Duration = Duration::from_secs(20);
/// Ceiling for two nodes to meet again through a third; the bar is 10 s.
pub const MEET: Duration = Duration::from_secs(100);
/// Ceiling for what has no bar of its own.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `probe` gives a value and returns it with the time that took.
///
/// # Panics
/// If there is none within `ceiling`.
#[allow(clippy::disallowed_methods, reason = "tests of real processes live in real time")]
pub fn wait_for<T>(what: &str, ceiling: Duration, probe: impl FnMut() -> Option<T>) -> (T, Duration) {
    let start = Instant::now();
    match wait_within(ceiling, probe) {
        Some(value) => (value, start.elapsed()),
        None => panic!("not within {ceiling:?}: {what}"),
    }
}

/// Waits until `probe` gives a value; none if it does not within `ceiling`.
#[allow(clippy::disallowed_methods, reason = "tests of real processes live in real time")]
pub fn wait_within<T>(ceiling: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if start.elapsed() >= ceiling {
            return None;
        }
        sleep(Duration::from_millis(20));
    }
}

/// Waits until `probe` is true and returns the time that took.
///
/// # Panics
/// If it is not within `ceiling`.
pub fn wait_until(what: &str, ceiling: Duration, mut probe: impl FnMut() -> bool) -> Duration {
    wait_for(what, ceiling, || probe().then_some(())).1
}
