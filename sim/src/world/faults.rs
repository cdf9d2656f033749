//! What goes wrong, and how it is mended.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::World;
use super::agenda::Action;
use super::person::State;
use crate::draw::Draw;
use crate::net::{Cell, Outage};
use crate::relay::Station;
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
        let hosts = self.choose(n, round, &fault);
        let what = words(&fault, &self.who(&hosts));
        self.trace.note(crate::entropy::OUTSIDE, format_args!("fault {n}: {what}"));
        self.happened.push(Happened { fault: n, what, from: now, to: None });
        let lasts = fault.lasts.map(|time| time.nanos());
        if let Some(lasts) = lasts {
            self.agenda.plan(now + lasts, Action::Mend(n));
        }
        for &host in &hosts {
            self.hit(host, &fault, n, round);
        }
        if fault.kind == FaultKind::Flood {
            self.flood();
        }
        self.active.insert(n, Active { hosts, happened: self.happened.len() - 1 });
        self.settle_weather();
    }

    fn hit(&mut self, host: u32, fault: &Fault, n: usize, round: u32) {
        let by = fault.by.map_or(0, |time| time.nanos());
        let share = fault.share.map_or(0.0, |share| share.0);
        match fault.kind {
            FaultKind::Crash => match fault.between_outputs {
                Some(within) => {
                    let seed = u64::from(host) << 32 | u64::from(round);
                    let mut draw = Draw::new(self.seed ^ n as u64, "fuse", seed);
                    let moments = u32::try_from(draw.below(within.max(1) as usize) + 1).unwrap_or(1);
                    match self.relay(host) {
                        Some(relay) if relay.state == State::Up => relay.conduct.light(moments),
                        Some(_) => {}
                        None => self.watch.fuse(host, moments),
                    }
                }
                None => self.hold_down(host, fault, Outage::Crash),
            },
            FaultKind::PowerCut => self.hold_down(host, fault, Outage::Power),
            FaultKind::LoseDisk => {
                self.hold_down(host, fault, Outage::Power);
                let sync = self.scenario.relays.disk_sync.nanos();
                let seed = self.seed;
                if let Some(relay) = self.relay(host) {
                    relay.lose_disk(seed, sync);
                }
            }
            FaultKind::Offline => {
                self.stop(host);
                let (held_down, gone) = self.outage(host);
                *held_down += 1;
                *gone |= fault.for_good;
            }
            FaultKind::Clock => {
                let millis = i64::try_from(by / MILLI).unwrap_or(i64::MAX);
                let millis = if fault.back { -millis } else { millis };
                self.skew(host, millis);
            }
            FaultKind::SlowDisk => self.set_sync(host, by),
            FaultKind::BadLine => self.net.set_line(host, |line| line.loss = share),
            FaultKind::Forget => {
                if let Some(relay) = self.relay(host) {
                    relay.conduct.forget(share);
                }
            }
            FaultKind::Full => {
                if let Some(relay) = self.relay(host) {
                    relay.conduct.fill(true);
                }
            }
            FaultKind::Partition | FaultKind::Loss | FaultKind::Delay | FaultKind::Flood => {}
        }
    }

    fn relay(&mut self, host: u32) -> Option<&mut Station> {
        let n = self.relay_of(host)?;
        self.relays.get_mut(n)
    }

    /// How many faults keep a host down, and whether it comes back at all.
    fn outage(&mut self, host: u32) -> (&mut u32, &mut bool) {
        match self.relay_of(host) {
            Some(n) => {
                let relay = &mut self.relays[n];
                (&mut relay.held_down, &mut relay.gone)
            }
            None => {
                let person = self.person(host);
                (&mut person.held_down, &mut person.gone)
            }
        }
    }

    fn skew(&mut self, host: u32, millis: i64) {
        match self.relay_of(host) {
            Some(n) => self.relays[n].skew.fetch_add(millis, Ordering::Relaxed),
            None => self.person(host).skew.fetch_add(millis, Ordering::Relaxed),
        };
    }

    fn set_sync(&mut self, host: u32, nanos: u64) {
        match self.relay_of(host) {
            Some(n) => self.relays[n].disk.set_sync(nanos),
            None => self.person(host).disk.set_sync(nanos),
        }
    }

    fn hold_down(&mut self, host: u32, fault: &Fault, how: Outage) {
        let (held_down, gone) = self.outage(host);
        *held_down += 1;
        *gone |= fault.for_good;
        let state = match self.relay_of(host) {
            Some(n) => self.relays[n].state,
            None => self.people[host as usize].state,
        };
        if state != State::Down {
            self.went_down(host, how);
        }
    }

    /// A fault ends.
    pub(super) fn mend(&mut self, n: usize) {
        let Some(fault) = self.scenario.fault.get(n).cloned() else { return };
        if fault.for_good {
            return;
        }
        let Some(Active { hosts, happened }) = self.active.remove(&n) else { return };
        let now = self.now();
        if let Some(happened) = self.happened.get_mut(happened) {
            happened.to = Some(now);
        }
        self.trace.note(crate::entropy::OUTSIDE, format_args!("fault {n} is mended"));
        if fault.kind == FaultKind::Flood {
            self.ebb();
        }
        for host in hosts {
            match fault.kind {
                FaultKind::Crash if fault.between_outputs.is_some() => {}
                FaultKind::Crash | FaultKind::PowerCut | FaultKind::Offline | FaultKind::LoseDisk => {
                    let (held_down, _) = self.outage(host);
                    *held_down = held_down.saturating_sub(1);
                    if *held_down == 0 {
                        self.agenda.plan(now, Action::Boot(host));
                    }
                }
                FaultKind::Clock if fault.lasts.is_some() => {
                    let millis = i64::try_from(fault.by.map_or(0, |time| time.nanos()) / MILLI).unwrap_or(0);
                    self.skew(host, if fault.back { millis } else { -millis });
                }
                FaultKind::SlowDisk => {
                    let relays = &self.scenario.relays;
                    let sync = match self.relay_of(host) {
                        Some(_) => relays.disk_sync,
                        None => self.scenario.nodes.disk_sync,
                    };
                    self.set_sync(host, sync.nanos());
                }
                FaultKind::BadLine => self.net.set_line(host, |line| line.loss = 0.0),
                FaultKind::Forget => {
                    if let Some(relay) = self.relay(host) {
                        relay.conduct.forget(0.0);
                    }
                }
                FaultKind::Full => {
                    if let Some(relay) = self.relay(host) {
                        relay.conduct.fill(false);
                    }
                }
                FaultKind::Clock
                | FaultKind::Partition
                | FaultKind::Loss
                | FaultKind::Delay
                | FaultKind::Flood => {}
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
        let people = if self.scenario.nodes.turns.is_none() { self.able() } else { Vec::new() };
        let relays: Vec<u32> = self.relays.iter().map(|relay| relay.host).collect();
        for host in people.into_iter().chain(relays) {
            *self.outage(host).0 = 0;
            // one that runs does not start twice
            self.agenda.plan(now, Action::Boot(host));
        }
    }

    /// The weather and the cuts of all faults in force together.
    fn settle_weather(&mut self) {
        let (mut pass, mut extra) = (1.0 - self.weather.loss, 0_u64);
        let mut cuts = BTreeSet::new();
        let hosts = self.people.len() + self.relays.len() + self.flooders.len();
        let mut cells = vec![0_usize; hosts];
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

    fn choose(&mut self, n: usize, round: u32, fault: &Fault) -> Vec<u32> {
        let (which, all, able) = match (&fault.nodes, &fault.relays) {
            (Some(which), _) => (which, (0..self.people.len() as u32).collect(), self.able()),
            (None, Some(which)) => {
                let relays: Vec<u32> = self.relays.iter().map(|relay| relay.host).collect();
                (which, relays.clone(), relays)
            }
            (None, None) => return Vec::new(),
        };
        let (all, mut able): (Vec<u32>, Vec<u32>) = (all, able);
        match which {
            Which::These(list) => list.iter().filter_map(|n| all.get(*n as usize).copied()).collect(),
            Which::Some(some) => {
                let number = (n as u64) << 32 | u64::from(round);
                Draw::new(self.seed, "victims", number).shuffle(&mut able);
                able.truncate(*some as usize);
                able
            }
        }
    }

    /// Hosts in words.
    fn who(&self, hosts: &[u32]) -> String {
        let kind = if hosts.iter().any(|host| self.relay_of(*host).is_some()) { "relay" } else { "node" };
        let name = |host: &u32| self.relay_of(*host).map_or_else(|| host.to_string(), |n| n.to_string());
        match hosts {
            [one] => format!("{kind} {}", name(one)),
            list if list.len() <= 4 => {
                let list: Vec<String> = list.iter().map(name).collect();
                format!("{kind}s {}", list.join(", "))
            }
            list => format!("{} {kind}s", list.len()),
        }
    }
}

fn words(fault: &Fault, who: &str) -> String {
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
        FaultKind::Forget => format!("{who} forgets {share} of what it signs for"),
        FaultKind::Full => format!("disk of {who} full"),
        FaultKind::LoseDisk => format!("disk of {who} lost"),
        FaultKind::Flood => "flood of requests".to_owned(),
    }
}
