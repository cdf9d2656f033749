//! A wall clock that jumped is not believed until others agree: a wrong clock must not expire anybody's messages.

use std::collections::BTreeMap;

use crate::id::DeviceId;
use crate::limits;
use crate::record::Clock;
use crate::time::{Mono, Now, Wall};

/// How often the believed time is written down.
const WRITE_EVERY: u64 = 10 * limits::MINUTE;

/// Compares the wall clock with the monotonic one, with what was stored, and with what peers say.
#[derive(Debug)]
pub(super) struct ClockGuard {
    last: Now,
    written: Mono,
    stored: Wall,
    doubted: bool,
    /// Peers that agree with our wall clock since it was doubted.
    agreeing: BTreeMap<DeviceId, ()>,
}

impl ClockGuard {
    pub(super) fn new(stored: Clock, now: Now) -> Self {
        let stored = stored.believed;
        // after a restart the monotonic clock says nothing, so only peers can confirm a large step
        let doubted = stored != Wall(0) && differ(stored, now.wall);
        Self { last: now, written: Mono(0), stored, doubted, agreeing: BTreeMap::new() }
    }

    /// Looks at the clocks; returns a row to write now and then.
    pub(super) fn observe(&mut self, now: Now) -> Option<Clock> {
        let expected = self.last.wall.plus(now.mono.since(self.last.mono));
        if differ(expected, now.wall) {
            self.doubted = true;
            self.agreeing.clear();
        }
        self.last = now;
        let due = self.stored == Wall(0) || now.mono.since(self.written) >= WRITE_EVERY;
        if self.doubted || !due {
            return None;
        }
        self.written = now.mono;
        self.stored = now.wall;
        Some(Clock { believed: now.wall })
    }

    /// A peer told its time. `needed` peers must agree before a doubted clock is believed again.
    pub(super) fn heard(&mut self, peer: DeviceId, time: Wall, needed: usize) {
        if !self.doubted || differ(time, self.last.wall) {
            return;
        }
        self.agreeing.insert(peer, ());
        if self.agreeing.len() >= needed {
            self.doubted = false;
            self.agreeing.clear();
        }
    }

    /// The wall clock, unless it is doubted.
    pub(super) const fn believed(&self, now: Now) -> Option<Wall> {
        if self.doubted { None } else { Some(now.wall) }
    }
}

/// The two are more than [`limits::CLOCK_JUMP`] apart.
const fn differ(a: Wall, b: Wall) -> bool {
    a.0.abs_diff(b.0) > limits::CLOCK_JUMP
}
