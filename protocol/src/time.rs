//! Time as the protocol sees it: handed in, never read.

use serde::{Deserialize, Serialize};

/// Wall-clock time in milliseconds since the Unix epoch, as the device's owner has set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Wall(pub u64);

/// Monotonic time in milliseconds since an arbitrary start, never going back while the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Mono(pub u64);

/// One instant on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For what people and other devices see, and for lifetimes that outlast the process.
    pub wall: Wall,
    /// For timers.
    pub mono: Mono,
}

impl Wall {
    /// This instant moved later, saturating.
    #[must_use]
    pub const fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// This instant moved earlier, saturating at the epoch.
    #[must_use]
    pub const fn minus(self, millis: u64) -> Self {
        Self(self.0.saturating_sub(millis))
    }

    /// Milliseconds since `earlier`, zero if that lies in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The number of whole weeks since the epoch: names the directory key in force.
    #[must_use]
    pub const fn week(self) -> u64 {
        self.0 / crate::limits::WEEK
    }
}

impl Mono {
    /// This instant moved later, saturating.
    #[must_use]
    pub const fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds since `earlier`, zero if that lies in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
