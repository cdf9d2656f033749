//! How far a run is, for whoever watches from another thread.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nodes start, people meet.
    Meeting,
    /// People write, things go wrong.
    Working,
    /// Everything is mended; what is under way arrives.
    Quiet,
    /// Stores are looked at.
    Judging,
}

/// How far a run is.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    now: AtomicU64,
    end: AtomicU64,
    beats: AtomicU64,
}

impl Progress {
    pub(crate) fn enter(&self, phase: Phase, end: u64) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.end.store(end, Ordering::Relaxed);
    }

    pub(crate) fn at(&self, now: u64) {
        self.now.store(now, Ordering::Relaxed);
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// What it is doing.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Meeting,
            1 => Phase::Working,
            2 => Phase::Quiet,
            _ => Phase::Judging,
        }
    }

    /// Virtual nanoseconds so far, and when this phase ends at the latest.
    #[must_use]
    pub fn times(&self) -> (u64, u64) {
        (self.now.load(Ordering::Relaxed), self.end.load(Ordering::Relaxed))
    }

    /// A number that changes as long as virtual time goes on.
    #[must_use]
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }
}
