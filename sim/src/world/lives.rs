//! Hosts that boot, stop, crash and come back.

use std::sync::Arc;

use super::World;
use super::agenda::{Action, Word};
use super::person::{Reach, Start, State};
use crate::draw::Draw;
use crate::host::{Birth, Witness};
use crate::net::Outage;
use crate::scenario::{Lifetime, NodeKind};
use crate::trace::{MILLI, SECOND};

/// How long a node that crashed by itself stays down.
pub(super) const REBOOT: u64 = 5 * SECOND;
/// Between two turns nobody is on-line for so long.
const BETWEEN: u64 = 20 * SECOND;

impl World {
    /// What a host is, by its number.
    pub(super) fn is_liar(&self, host: u32) -> bool {
        host >= self.scenario.nodes.count - self.scenario.nodes.liars
    }

    pub(super) fn is_bootstrap(&self, host: u32) -> bool {
        host < self.scenario.nodes.bootstrap
    }

    /// Hosts of people whom faults and churn may hit.
    pub(super) fn able(&self) -> Vec<u32> {
        (0..self.scenario.nodes.count)
            .filter(|&host| !self.is_bootstrap(host) && !self.is_liar(host))
            .collect()
    }

    pub(super) fn person(&mut self, host: u32) -> &mut super::Person {
        &mut self.people[host as usize]
    }

    pub(super) fn plan_boots(&mut self) {
        let mut draw = Draw::new(self.seed, "boots", 0);
        let nodes = &self.scenario.nodes;
        let within = nodes.start_within.nanos();
        let mut able = self.able();
        draw.shuffle(&mut able);
        let late = (able.len() as f64 * nodes.late.0).round() as usize;
        let (early, _) = able.split_at(able.len() - late);
        let mut plans: Vec<(u64, u32)> = Vec::new();
        for host in (0..nodes.count).filter(|&host| self.is_bootstrap(host) || self.is_liar(host)) {
            plans.push((u64::from(host) * MILLI, host));
        }
        let mut times: Vec<u64> =
            early.iter().map(|_| SECOND + (within as f64 * draw.unit()) as u64).collect();
        let mut early = early.to_vec();
        if self.crowd.is_some() {
            // a bare node dials such as have started before it
            early.sort_unstable();
            times.sort_unstable();
        }
        plans.extend(times.into_iter().zip(early));
        if let Some(turn) = nodes.turns {
            plans.retain(|(_, host)| self.is_bootstrap(*host) || self.is_liar(*host));
            self.agenda.plan(SECOND, Action::Turn { slot: 0, on: true });
            self.agenda.plan(turn.nanos() - BETWEEN, Action::Turn { slot: 0, on: false });
        }
        plans.sort_unstable();
        for (at, host) in plans {
            self.agenda.plan(at, Action::Boot(host));
        }
    }

    /// Those whose turn it is come, or go.
    pub(super) fn turn(&mut self, slot: u64, on: bool) {
        let Some(length) = self.scenario.nodes.turns else { return };
        let turn: Vec<u32> = self.able().into_iter().filter(|host| u64::from(host % 2) == slot % 2).collect();
        for host in turn {
            if on {
                self.boot(host);
            } else {
                self.stop(host);
            }
        }
        let next = slot + 1;
        let at = if on { next * length.nanos() } else { (next + 1) * length.nanos() - BETWEEN };
        self.agenda.plan(at, Action::Turn { slot: next, on });
    }

    /// Those who come late, now that the time they come is known.
    pub(super) fn plan_crowd(&mut self) {
        let nodes = &self.scenario.nodes;
        if nodes.late.0 <= 0.0 {
            return;
        }
        let (from, within) = (self.begun + nodes.late_at.nanos(), nodes.late_within.nanos());
        let mut draw = Draw::new(self.seed, "crowd", 0);
        let late: Vec<u32> =
            self.able().into_iter().filter(|&host| self.people[host as usize].lives == 0).collect();
        for host in late {
            self.agenda.plan(from + (within as f64 * draw.unit()) as u64, Action::Boot(host));
        }
    }

    /// The addresses that a host starts from.
    pub(super) fn bootstraps(&self, host: u32) -> Vec<String> {
        (0..self.scenario.nodes.bootstrap)
            .filter(|&other| other != host)
            .filter_map(|other| {
                let peer = &self.people[other as usize].peer;
                (!peer.is_empty()).then(|| format!("{}/p2p/{peer}", self.net.address(other)))
            })
            .collect()
    }

    /// A host boots and its node starts.
    pub(super) fn boot(&mut self, host: u32) {
        if let Some(n) = self.relay_of(host) {
            return self.boot_relay(n);
        }
        let person = &self.people[host as usize];
        if person.state != State::Down || person.held_down > 0 || person.gone {
            return;
        }
        let life_number = self.people[host as usize].lives + 1;
        let mailbox = Arc::clone(&self.mailbox);
        let birth = Birth {
            host,
            net: Arc::clone(&self.net),
            trace: Arc::clone(&self.trace),
            witness: Arc::clone(&self.watch) as Arc<dyn Witness>,
            disk: self.people[host as usize].disk.clone(),
            skew: Arc::clone(&self.people[host as usize].skew),
            on_crash: Box::new(move || mailbox.put(Word::Crashed { host, life: life_number })),
        };
        let first = self.people[host as usize].account.is_none();
        let life = self.person(host).begin(birth);
        let bootstrap = self.bootstraps(host);
        if self.is_liar(host) {
            let peer = crate::liar::start(&life, &self.net, self.seed, bootstrap);
            self.person(host).peer = peer;
            self.person(host).state = State::Up;
            return;
        }
        if let Some(crowd) = &self.crowd {
            let nodes = &self.scenario.nodes;
            let dials = crowd.acquaintances(host, nodes.dials, self.seed);
            let peer = crowd.start(&life, &self.net, self.seed, dials, nodes.kademlia);
            self.person(host).peer = peer;
            self.person(host).state = State::Up;
            return;
        }
        if first {
            match self.person(host).create(&life) {
                Ok(created) => self.watch.introduce(host, created.account, created.device),
                Err(error) => {
                    self.watch.breach(host, None, format!("no account could be made: {error}"));
                    return;
                }
            }
        }
        life.hold_disk();
        let listen = (self.people[host as usize].reach == Reach::Public).then(|| self.net.address(host));
        self.people[host as usize].start(&life, Start { listen, bootstrap }, Arc::clone(&self.mailbox));
    }

    /// What a task of some life has come to, unless that life is over.
    pub(super) fn hear(&mut self, word: Word) {
        match word {
            Word::Booted { host, life, result } => {
                let person = self.person(host);
                if person.lives != life || person.state != State::Starting {
                    return;
                }
                match *result {
                    Ok(node) => {
                        person.node = Some(node);
                        person.state = State::Up;
                        self.name_relays(host);
                        if life > 1 {
                            self.audit(host);
                        }
                    }
                    Err(error) => self.watch.breach(host, None, format!("the node does not start: {error}")),
                }
            }
            Word::RelayBooted { host, life, result } => self.relay_booted(host, life, result),
            Word::Crashed { host, life } if self.relay_of(host).is_some() => self.relay_crashed(host, life),
            Word::Stopped { host, life, stopped } if self.relay_of(host).is_some() => {
                self.relay_stopped(host, life, stopped);
            }
            Word::Crashed { host, life } => {
                let person = self.person(host);
                if person.lives == life && person.state != State::Down {
                    self.went_down(host, Outage::Crash);
                    let at = self.now() + REBOOT;
                    self.agenda.plan(at, Action::Boot(host));
                }
            }
            Word::Stopped { host, life, stopped } => {
                let person = self.person(host);
                if person.lives != life || person.state != State::Stopping {
                    return;
                }
                person.stopped();
                self.watch.down(host);
                if !stopped {
                    let what = "the node was told to stop and did not within 30 s".to_owned();
                    self.watch.breach(host, None, what);
                }
                if self.quiet && self.scenario.nodes.turns.is_none() {
                    let at = self.now();
                    self.agenda.plan(at, Action::Boot(host));
                }
            }
            Word::Invited { pair, uri } => self.invited(pair, uri),
            Word::Met { pair, met } => self.met(pair, met),
            Word::Wrote { host, entry } => {
                let wrote = &mut self.person(host).wrote;
                wrote.push(entry);
                if wrote.len() > 8 {
                    wrote.remove(0);
                }
            }
        }
    }

    /// Ends a host's life at once.
    pub(super) fn went_down(&mut self, host: u32, how: Outage) {
        if let Some(n) = self.relay_of(host) {
            return self.relay_went_down(n, how);
        }
        if let Some(crowd) = &self.crowd {
            crowd.down(host);
        }
        self.crashes += 1;
        self.person(host).kill(how);
        self.watch.down(host);
    }

    /// Has a host stop in order.
    pub(super) fn stop(&mut self, host: u32) {
        if let Some(n) = self.relay_of(host) {
            return self.stop_relay(n);
        }
        let mailbox = Arc::clone(&self.mailbox);
        match self.people[host as usize].state {
            State::Up if self.crowd.is_none() => self.person(host).stop(mailbox),
            State::Up | State::Starting => self.went_down(host, Outage::Crash),
            State::Down | State::Stopping => {}
        }
    }

    pub(super) fn plan_churn(&mut self) {
        let Some(churn) = self.scenario.churn.clone() else { return };
        let mut able = self.able();
        Draw::new(self.seed, "churn", 0).shuffle(&mut able);
        let n = (able.len() as f64 * churn.share.0).round() as usize;
        for &host in able.iter().take(n) {
            let stays = lasts(&churn.session, &mut self.person(host).fate);
            let at = self.now() + stays;
            self.agenda.plan(at, Action::Leave(host));
        }
    }

    pub(super) fn leave(&mut self, host: u32) {
        let Some(churn) = self.scenario.churn.clone() else { return };
        let now = self.now();
        let person = self.person(host);
        let away = lasts(&churn.downtime, &mut person.fate);
        let graceful = person.fate.chance(churn.graceful.0);
        let power = person.fate.chance(churn.power.0);
        if person.state == State::Up {
            if graceful && self.scenario.nodes.kind == NodeKind::Kith {
                self.stop(host);
            } else {
                self.went_down(host, if power { Outage::Power } else { Outage::Crash });
            }
        }
        self.agenda.plan(now + away, Action::Return(host));
    }

    pub(super) fn come_back(&mut self, host: u32) {
        let now = self.now();
        if self.people[host as usize].state == State::Stopping {
            self.agenda.plan(now + SECOND, Action::Return(host));
            return;
        }
        self.boot(host);
        if let Some(churn) = self.scenario.churn.clone() {
            let stays = lasts(&churn.session, &mut self.person(host).fate);
            self.agenda.plan(now + stays, Action::Leave(host));
        }
    }
}

fn lasts(lifetime: &Lifetime, draw: &mut Draw) -> u64 {
    let nanos = match lifetime {
        Lifetime::Exponential(mean) => draw.exponential(mean.nanos() as f64),
        Lifetime::Weibull { shape, scale } => draw.weibull(*shape, scale.nanos() as f64),
    };
    (nanos as u64).clamp(MILLI, 366 * 86_400 * SECOND)
}
