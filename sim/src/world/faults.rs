//! What goes wrong, and how it is mended.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::World;
use super::agenda::Action;
use super::person::State;
use crate::draw::Draw;
use crate::net::{Cell, Outage};
use crate::scenario::{Fault, FaultKind, Which};
use crate::trace::MILLI;

/// A fault that happened, for reports.
#[derive(Debug, Clone, Serialize)]
pub struct Happened {
    /// Which of the scenario.
    pub fault: usize,
    /// In words.
    pub what: String,
    /// Virtual nanoseconds since the run began.
    pub from: u64,
    /// When it was mended.
    pub to: Option<u64>,
}

/// A fault in force.
#[derive(Debug, Clone)]
pub(super) struct Active {
    hosts: Vec<u32>,
    happened: usize,
}

impl World {
    pub(super) fn plan_faults(&mut self) {
        for (n, fault) in self.scenario.fault.iter().enumerate() {
            self.agenda.plan(self.begun + fault.at.nanos(), Action::Fault { fault: n, round: 0 });
        }
    }

    /// A fault begins.
    pub(super) fn strike(&mut self, n: usize, round: u32) {
        let Some(fault) = self.scenario.fault.get(n).cloned() else { return };
        let now = self.now();
        if self.quiet {
            return;
        }
        if let Some(every) = fault.every
            && fault.times.is_none_or(|times| round + 1 < times)
        {
            self.agenda.plan(now + every.nanos(), Action::Fault { fault: n, round: round + 1 });
        }
        // it may still be in force from the round before
        self.mend(n);
        let hosts = self.choose(n, round, fault.nodes.as_ref());
        let what = words(&fault, &hosts);
        self.trace.note(crate::entropy::OUTSIDE, format_args!("fault {n}: {what}"));
        self.happened.push(Happened { fault: n, what, from: now, to: None });
        let lasts = fault.lasts.map(|time| time.nanos());
        if let Some(lasts) = lasts {
            self.agenda.plan(now + lasts, Action::Mend(n));
        }
        for &host in &hosts {
            self.hit(host, &fault, n, round);
        }
        self.active.insert(n, Active { hosts, happened: self.happened.len() - 1 });
        self.settle_weather();
    }

    fn hit(&mut self, host: u32, fault: &Fault, n: usize, round: u32) {
        let by = fault.by.map_or(0, |time| time.nanos());
        match fault.kind {
            FaultKind::Crash => match fault.between_outputs {
                Some(within) => {
                    let seed = u64::from(host) << 32 | u64::from(round);
                    let mut draw = Draw::new(self.seed ^ n as u64, "fuse", seed);
                    let outputs = draw.below(within.max(1) as usize) + 1;
                    self.watch.fuse(host, u32::try_from(outputs).unwrap_or(1));
                }
                None => self.hold_down(host, Outage::Crash),
            },
            FaultKind::PowerCut => self.hold_down(host, Outage::Power),
            FaultKind::Offline => {
                self.person(host).held_down += 1;
                self.stop(host);
            }
            FaultKind::Clock => {
                let millis = i64::try_from(by / MILLI).unwrap_or(i64::MAX);
                let millis = if fault.back { -millis } else { millis };
                self.person(host).skew.fetch_add(millis, Ordering::Relaxed);
            }
            FaultKind::SlowDisk => self.person(host).disk.set_sync(by),
            FaultKind::BadLine => {
                let loss = fault.share.map_or(0.0, |share| share.0);
                self.net.set_line(host, |line| line.loss = loss);
            }
            FaultKind::Partition | FaultKind::Loss | FaultKind::Delay => {}
        }
    }

    fn hold_down(&mut self, host: u32, how: Outage) {
        self.person(host).held_down += 1;
        if self.people[host as usize].state != State::Down {
            self.went_down(host, how);
        }
    }

    /// A fault ends.
    pub(super) fn mend(&mut self, n: usize) {
        let Some(Active { hosts, happened }) = self.active.remove(&n) else { return };
        let Some(fault) = self.scenario.fault.get(n).cloned() else { return };
        let now = self.now();
        if let Some(happened) = self.happened.get_mut(happened) {
            happened.to = Some(now);
        }
        self.trace.note(crate::entropy::OUTSIDE, format_args!("fault {n} is mended"));
        for host in hosts {
            match fault.kind {
                FaultKind::Crash if fault.between_outputs.is_some() => {}
                FaultKind::Crash | FaultKind::PowerCut | FaultKind::Offline => {
                    let person = self.person(host);
                    person.held_down = person.held_down.saturating_sub(1);
                    if person.held_down == 0 {
                        self.agenda.plan(now, Action::Boot(host));
                    }
                }
                FaultKind::Clock if fault.lasts.is_some() => {
                    let millis = i64::try_from(fault.by.map_or(0, |time| time.nanos()) / MILLI).unwrap_or(0);
                    let millis = if fault.back { millis } else { -millis };
                    self.person(host).skew.fetch_add(millis, Ordering::Relaxed);
                }
                FaultKind::SlowDisk => {
                    let sync = self.scenario.nodes.disk_sync.nanos();
                    self.person(host).disk.set_sync(sync);
                }
                FaultKind::BadLine => self.net.set_line(host, |line| line.loss = 0.0),
                FaultKind::Clock | FaultKind::Partition | FaultKind::Loss | FaultKind::Delay => {}
            }
        }
        self.settle_weather();
    }

    /// All faults are over, everybody is there, nobody writes.
    pub(super) fn mend_everything(&mut self) {
        self.quiet = true;
        self.trace.note(crate::entropy::OUTSIDE, format_args!("quiet begins"));
        self.agenda.forget(|action| {
            matches!(
                action,
                Action::Fault { .. } | Action::Mend(_) | Action::Leave(_) | Action::Return(_) | Action::Write
            )
        });
        for n in self.active.keys().copied().collect::<Vec<_>>() {
            self.mend(n);
        }
        let now = self.now();
        for host in self.able() {
            self.person(host).held_down = 0;
            if self.people[host as usize].state == State::Down {
                self.agenda.plan(now, Action::Boot(host));
            }
        }
    }

    /// The weather and the cuts of all faults in force together.
    fn settle_weather(&mut self) {
        let (mut pass, mut extra) = (1.0 - self.weather.loss, 0_u64);
        let mut cuts = BTreeSet::new();
        let mut cells = vec![0_usize; self.people.len()];
        for &n in self.active.keys() {
            let Some(fault) = self.scenario.fault.get(n) else { continue };
            match fault.kind {
                FaultKind::Loss => pass *= 1.0 - fault.share.map_or(0.0, |share| share.0),
                FaultKind::Delay => extra = extra.saturating_add(fault.by.map_or(0, |time| time.nanos())),
                FaultKind::Partition => {
                    // partitions in force at once cut each other's groups further
                    let groups = fault.groups.unwrap_or(2).max(2) as usize;
                    let mut draw = Draw::new(self.seed, "groups", n as u64);
                    for cell in &mut cells {
                        *cell = *cell * groups + draw.below(groups);
                    }
                    let all: BTreeSet<usize> = cells.iter().copied().collect();
                    cuts = BTreeSet::new();
                    for &a in &all {
                        for &b in all.iter().filter(|&&b| b != a) {
                            if !fault.one_way || a % groups == 0 {
                                cuts.insert((a as Cell, b as Cell));
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        for (host, cell) in cells.into_iter().enumerate() {
            self.net.set_cell(host as u32, cell as Cell);
        }
        self.net.set_cuts(cuts);
        self.net.set_weather(|weather| {
            weather.loss = 1.0 - pass;
            weather.extra = extra;
        });
    }

    fn choose(&mut self, n: usize, round: u32, nodes: Option<&Which>) -> Vec<u32> {
        match nodes {
            None => Vec::new(),
            Some(Which::These(list)) => list.clone(),
            Some(Which::Some(some)) => {
                let mut able = self.able();
                let number = (n as u64) << 32 | u64::from(round);
                Draw::new(self.seed, "victims", number).shuffle(&mut able);
                able.truncate(*some as usize);
                able
            }
        }
    }
}

fn words(fault: &Fault, hosts: &[u32]) -> String {
    let who = match hosts {
        [one] => format!("node {one}"),
        list if list.len() <= 4 => {
            let list: Vec<String> = list.iter().map(ToString::to_string).collect();
            format!("nodes {}", list.join(", "))
        }
        list => format!("{} nodes", list.len()),
    };
    let by = fault.by.map(|time| time.to_string()).unwrap_or_default();
    let share = fault.share.map(|share| share.to_string()).unwrap_or_default();
    match fault.kind {
        FaultKind::Partition if fault.one_way => "partition, one way".to_owned(),
        FaultKind::Partition => format!("partition into {}", fault.groups.unwrap_or(2)),
        FaultKind::Crash if fault.between_outputs.is_some() => format!("crash of {who} between two outputs"),
        FaultKind::Crash => format!("crash of {who}"),
        FaultKind::Offline => format!("{who} off-line"),
        FaultKind::PowerCut => format!("power cut at {who}"),
        FaultKind::Clock if fault.back => format!("clock of {who} {by} back"),
        FaultKind::Clock => format!("clock of {who} {by} forward"),
        FaultKind::Loss => format!("{share} of packets lost"),
        FaultKind::Delay => format!("everything {by} later"),
        FaultKind::SlowDisk => format!("disk of {who} syncs in {by}"),
        FaultKind::BadLine => format!("{share} of packets of {who} lost"),
    }
}
