//! Figures over time, for reports.

use serde::Serialize;

use super::World;
use super::person::State;
use crate::trace::SECOND;

/// How things stood at a moment.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Sample {
    /// Virtual seconds since the run began.
    pub at: f64,
    /// Nodes that run.
    pub up: usize,
    /// Messages accepted so far,
    pub accepted: u64,
    /// and arrived so far.
    pub arrived: u64,
    /// Bytes sent so far, headers included.
    pub bytes: u64,
}

/// Samples, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    pub(crate) samples: Vec<Sample>,
}

impl World {
    pub(super) fn take_sample(&mut self) {
        let (accepted, arrived) = match &self.crowd {
            Some(crowd) => crowd.counts(),
            None => {
                let ledger = self.watch.ledger();
                (ledger.accepted, ledger.arrived)
            }
        };
        self.timeline.samples.push(Sample {
            at: self.now() as f64 / SECOND as f64,
            up: self.people.iter().filter(|person| person.state == State::Up).count(),
            accepted,
            arrived,
            bytes: self.net.totals().bytes_out,
        });
    }
}
