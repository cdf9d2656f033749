//! A wall clock that jumped is not believed until others agree: a wrong clock must not expire anybody's messages. What
//! others' clocks say of ours is told, too.

use std::collections::{BTreeMap, VecDeque};

use super::output::ClockReport;
use crate::id::DeviceId;
use crate::limits;
use crate::record::Clock;
use crate::time::{Mono, Now, Wall};

/// How often the believed time is written down.
const WRITE_EVERY: u64 = 10 * limits::MINUTE;
/// Other devices whose clocks are remembered: those heard of last.
const OTHERS: usize = 16;
/// A step of our own clock beyond this, in milliseconds, moves what is remembered of others'.
const STEP: u64 = limits::SECOND;
/// Others' clocks are told of anew when they moved this much against ours.
const NEWS: u64 = 10 * limits::SECOND;

/// Compares the wall clock with the monotonic one, with what was stored, and with what peers say.
#[derive(Debug)]
pub(super) struct ClockGuard {
    last: Now,
    written: Mono,
    stored: Wall,
    doubted: bool,
    /// Peers that agree with our wall clock since it was doubted.
    agreeing: BTreeMap<DeviceId, ()>,
    /// How far others' clocks are ahead of ours, milliseconds; the one heard of last stands last.
    others: VecDeque<(DeviceId, i64)>,
    /// What was told of them last, if it may be different now.
    changed: bool,
    told: ClockReport,
}

impl ClockGuard {
    pub(super) fn new(stored: Clock, now: Now) -> Self {
        let stored = stored.believed;
        // after a restart the monotonic clock says nothing, so only peers can confirm a large step
        let doubted = stored != Wall(0) && differ(stored, now.wall);
        Self {
            last: now,
            written: Mono(0),
            stored,
            doubted,
            agreeing: BTreeMap::new(),
            others: VecDeque::new(),
            changed: true,
            told: ClockReport::default(),
        }
    }

    /// Looks at the clocks; returns a row to write now and then.
    pub(super) fn observe(&mut self, now: Now) -> Option<Clock> {
        let expected = self.last.wall.plus(now.mono.since(self.last.mono));
        if differ(expected, now.wall) {
            self.doubted = true;
            self.agreeing.clear();
            self.changed = true;
        }
        if expected.0.abs_diff(now.wall.0) > STEP {
            let step = ahead(now.wall, expected);
            for (_, ahead) in &mut self.others {
                *ahead = ahead.saturating_sub(step);
            }
            self.changed = true;
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
        self.others.retain(|(other, _)| *other != peer);
        self.others.push_back((peer, ahead(time, self.last.wall)));
        if self.others.len() > OTHERS {
            self.others.pop_front();
        }
        self.changed = true;
        if !self.doubted || differ(time, self.last.wall) {
            return;
        }
        self.agreeing.insert(peer, ());
        if self.agreeing.len() >= needed {
            self.doubted = false;
            self.agreeing.clear();
        }
    }

    /// What others' clocks say of ours, if that is news.
    pub(super) fn news(&mut self) -> Option<ClockReport> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let report = self.report();
        let same = ClockReport { ahead: report.ahead, ..self.told } == report;
        if same && report.ahead.abs_diff(self.told.ahead) < NEWS {
            return None;
        }
        self.told = report;
        Some(report)
    }

    fn report(&self) -> ClockReport {
        let mut sorted: Vec<i64> = self.others.iter().map(|(_, ahead)| *ahead).collect();
        sorted.sort_unstable();
        let differing = sorted.iter().filter(|ahead| ahead.unsigned_abs() > limits::CLOCK_OFF).count();
        let ahead = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
        ClockReport { heard: sorted.len(), differing, ahead, doubted: self.doubted }
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

/// How far `a` is ahead of `b`, milliseconds.
fn ahead(a: Wall, b: Wall) -> i64 {
    let signed = |wall: Wall| i64::try_from(wall.0).unwrap_or(i64::MAX);
    signed(a).saturating_sub(signed(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_790_000_000_000;

    fn at(wall: u64, mono: u64) -> Now {
        Now { wall: Wall(wall), mono: Mono(mono) }
    }

    fn report(heard: usize, differing: usize, ahead: i64, doubted: bool) -> ClockReport {
        ClockReport { heard, differing, ahead, doubted }
    }

    #[test]
    fn others_clocks_are_told_of_when_they_say_something_new() {
        let mut guard = ClockGuard::new(Clock::default(), at(START, 0));
        assert_eq!(guard.news(), None, "nobody was heard of");
        guard.observe(at(START + 5, 5));
        guard.heard(DeviceId([1; 32]), Wall(START + 15), 1);
        assert_eq!(guard.news(), Some(report(1, 0, 10, false)));
        guard.heard(DeviceId([1; 32]), Wall(START + 25), 1);
        assert_eq!(guard.news(), None, "the same device, the same word");
        for n in 2..4 {
            guard.heard(DeviceId([n; 32]), Wall(START + 5 + limits::HOUR), 2);
        }
        assert_eq!(guard.news(), Some(report(3, 2, limits::HOUR as i64, false)));
        // a time no clock can have
        guard.heard(DeviceId([4; 32]), Wall(u64::MAX), 2);
        assert_eq!(guard.news().map(|news| news.differing), Some(3));
    }

    #[test]
    fn a_clock_that_is_set_right_agrees_without_another_word() {
        let wrong = START - limits::HOUR;
        let mut guard = ClockGuard::new(Clock::default(), at(wrong, 0));
        for n in 0..20 {
            guard.heard(DeviceId([n; 32]), Wall(START), 2);
        }
        assert_eq!(guard.news(), Some(report(OTHERS, OTHERS, limits::HOUR as i64, false)));
        guard.observe(at(START + 7, 7));
        assert_eq!(guard.news(), Some(report(OTHERS, 0, 0, false)));
        guard.observe(at(START + 2 * limits::DAY, 8));
        let doubted = guard.news().unwrap();
        assert!(doubted.doubted && doubted.differing == OTHERS && doubted.ahead < 0, "{doubted:?}");
    }
}
