//! What time it is, if the wall clock can be believed.

use crate::limits;
use crate::time::{Mono, Now, Wall};

/// The time a relay works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BelievedTime {
    /// For receipts and lifetimes.
    pub wall: Wall,
    /// Nothing may be taken for expired while the clock is in doubt.
    pub in_doubt: bool,
}

/// Follows the wall clock, but not its jumps: after one of more than a day it goes on by the monotonic clock, and nothing
/// expires, until the operator confirms the new time or it has stood for 24 hours.
#[derive(Debug, Clone, Copy)]
pub struct RelayClock {
    /// Believed at `mono`.
    wall: Wall,
    mono: Mono,
    doubt: Option<Doubt>,
}

#[derive(Debug, Clone, Copy)]
struct Doubt {
    since: Mono,
    /// What the wall clock said when it was last looked at, and when that was.
    wall: Wall,
    mono: Mono,
}

impl RelayClock {
    /// Starts with the instant that was stored last, if the relay ran before.
    #[must_use]
    pub fn new(stored: Option<Wall>, now: Now) -> Self {
        let mut clock = Self { wall: stored.unwrap_or(now.wall), mono: now.mono, doubt: None };
        clock.read(now);
        clock
    }

    /// What time it is.
    pub fn read(&mut self, now: Now) -> BelievedTime {
        let expected = self.wall.plus(now.mono.since(self.mono));
        if differ(expected, now.wall) <= limits::CLOCK_JUMP {
            self.adopt(now);
            return BelievedTime { wall: now.wall, in_doubt: false };
        }
        let doubt = match self.doubt {
            // the same wrong time as before, or what follows from it
            Some(doubt)
                if differ(doubt.wall.plus(now.mono.since(doubt.mono)), now.wall) <= limits::CLOCK_JUMP =>
            {
                Doubt { wall: now.wall, mono: now.mono, ..doubt }
            }
            _ => Doubt { since: now.mono, wall: now.wall, mono: now.mono },
        };
        if now.mono.since(doubt.since) >= limits::DAY {
            self.adopt(now);
            return BelievedTime { wall: now.wall, in_doubt: false };
        }
        self.doubt = Some(doubt);
        BelievedTime { wall: expected, in_doubt: true }
    }

    /// The operator says that the wall clock is right.
    pub const fn confirm(&mut self, now: Now) {
        self.adopt(now);
    }

    const fn adopt(&mut self, now: Now) {
        self.wall = now.wall;
        self.mono = now.mono;
        self.doubt = None;
    }
}

const fn differ(a: Wall, b: Wall) -> u64 {
    a.0.abs_diff(b.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = limits::DAY;
    const T: u64 = 1_800_000_000_000;

    fn at(wall: u64, mono: u64) -> Now {
        Now { wall: Wall(wall), mono: Mono(mono) }
    }

    #[test]
    fn small_steps_and_drift_are_followed() {
        let mut clock = RelayClock::new(None, at(T, 0));
        assert_eq!(clock.read(at(T + 5, 0)), BelievedTime { wall: Wall(T + 5), in_doubt: false });
        assert_eq!(clock.read(at(T - DAY / 2, 10)).wall, Wall(T - DAY / 2));
    }

    #[test]
    fn after_a_jump_time_goes_on_as_before_and_is_in_doubt_for_a_day() {
        let mut clock = RelayClock::new(None, at(T, 0));
        let jumped = T + 40 * DAY;
        assert_eq!(clock.read(at(jumped, 10)), BelievedTime { wall: Wall(T + 10), in_doubt: true });
        assert!(clock.read(at(jumped + DAY - 100, DAY - 100)).in_doubt);
        let after = clock.read(at(jumped + DAY + 10, DAY + 10));
        assert_eq!(after, BelievedTime { wall: Wall(jumped + DAY + 10), in_doubt: false });
    }

    #[test]
    fn a_clock_that_jumps_back_in_time_leaves_no_trace() {
        let mut clock = RelayClock::new(None, at(T, 0));
        assert!(clock.read(at(T + 40 * DAY, 10)).in_doubt);
        assert_eq!(clock.read(at(T + 20, 20)), BelievedTime { wall: Wall(T + 20), in_doubt: false });
        assert!(clock.read(at(T - 40 * DAY, 30)).in_doubt);
        // another wrong time starts the day of waiting anew
        assert!(clock.read(at(T + 90 * DAY, DAY)).in_doubt);
        assert!(clock.read(at(T + 90 * DAY, 2 * DAY - 1)).in_doubt);
        assert!(!clock.read(at(T + 90 * DAY, 2 * DAY)).in_doubt);
    }

    #[test]
    fn what_was_stored_counts_at_a_start_and_the_operator_can_confirm() {
        assert!(!RelayClock::new(Some(Wall(T)), at(T + DAY / 2, 0)).read(at(T + DAY / 2, 0)).in_doubt);
        let mut clock = RelayClock::new(Some(Wall(T)), at(T + 3 * DAY, 0));
        assert!(clock.read(at(T + 3 * DAY, 1)).in_doubt);
        clock.confirm(at(T + 3 * DAY, 2));
        assert!(!clock.read(at(T + 3 * DAY, 3)).in_doubt);
    }
}
