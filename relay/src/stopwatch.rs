//! Short times, as an operator's figures show them.

use std::time::{Duration, Instant};

/// Measures how long something takes, more finely than [`Environment::mono`](kith_network::Environment::mono).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts one.
    #[allow(clippy::disallowed_methods, reason = "this is where the system's clock comes in")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Since its start.
    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
