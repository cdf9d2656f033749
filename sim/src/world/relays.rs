//! Relays in the world: their hosts, who uses which, and who floods them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use kith_node::api::Handle;
use kith_protocol::Address;
use kith_relay::Relay;

use super::World;
use super::agenda::{Action, Word};
use super::lives::REBOOT;
use super::person::State;
use crate::disk::Disk;
use crate::draw::Draw;
use crate::host::{Birth, Life, Witness};
use crate::net::{Line, Outage, Place};
use crate::relay::{RelayStart, Station, flood};
use crate::trace::{MILLI, SECOND};

/// A relay's line, in bytes a second.
const LINE: f64 = 1e9 / 8.0;
/// What its router queues.
const QUEUE: f64 = 8e6;
/// After this an invite is made even if not all of the inviter's relays are open.
const PATIENCE: u64 = 60 * SECOND;

impl World {
    /// Puts relays and flooders on the network, behind all people.
    pub(super) fn populate_relays(&mut self) {
        let relays = self.scenario.relays.clone();
        let regions = self.scenario.link.latency.len();
        let mut draw = Draw::new(self.seed, "stations", 0);
        let line = Line { up: LINE, down: LINE, queue: QUEUE, loss: 0.0 };
        for _ in 0..relays.count {
            let host = self.net.add(Place { region: draw.below(regions), nat: None, line });
            let station = Station::new(self.seed, host, relays.disk_sync.nanos());
            let skew = relays.clock_skew.nanos() as f64 / 1e6;
            station.skew.store(draw.between(-skew, skew) as i64, Ordering::Relaxed);
            self.watch.introduce_relay(host, station.device);
            self.relays.push(station);
        }
        for _ in 0..relays.flooders {
            let host = self.net.add(Place { region: draw.below(regions), nat: None, line });
            self.flooders.push((host, None));
        }
    }

    pub(super) fn plan_relays(&mut self) {
        for relay in &self.relays {
            self.agenda.plan(u64::from(relay.host) * MILLI, Action::Boot(relay.host));
        }
    }

    /// Which relay a host is.
    pub(super) fn relay_of(&self, host: u32) -> Option<usize> {
        let first = self.relays.first()?.host;
        host.checked_sub(first).map(|n| n as usize).filter(|n| *n < self.relays.len())
    }

    fn birth(&self, host: u32, life: u32, disk: Disk, skew: Arc<AtomicI64>) -> Birth {
        let mailbox = Arc::clone(&self.mailbox);
        Birth {
            host,
            net: Arc::clone(&self.net),
            trace: Arc::clone(&self.trace),
            witness: Arc::clone(&self.watch) as Arc<dyn Witness>,
            disk,
            skew,
            on_crash: Box::new(move || mailbox.put(Word::Crashed { host, life })),
        }
    }

    pub(super) fn boot_relay(&mut self, n: usize) {
        let Some(relay) = self.relays.get(n) else { return };
        if relay.state != State::Down || relay.held_down > 0 || relay.gone {
            return;
        }
        let (host, life) = (relay.host, relay.lives + 1);
        let birth = self.birth(host, life, relay.disk.clone(), Arc::clone(&relay.skew));
        let start = RelayStart {
            listen: self.net.address(host),
            bootstrap: self.bootstraps(host),
            relays: self.scenario.relays.clone(),
        };
        let mailbox = Arc::clone(&self.mailbox);
        let trace = Arc::clone(&self.trace);
        if let Some(relay) = self.relays.get_mut(n) {
            relay.begin(birth, start, &trace, move |result| {
                mailbox.put(Word::RelayBooted { host, life, result });
            });
        }
    }

    pub(super) fn stop_relay(&mut self, n: usize) {
        let mailbox = Arc::clone(&self.mailbox);
        let Some(relay) = self.relays.get_mut(n) else { return };
        let (host, life) = (relay.host, relay.lives);
        match relay.state {
            State::Up => relay.stop(move |stopped| mailbox.put(Word::Stopped { host, life, stopped })),
            State::Starting => self.relay_went_down(n, Outage::Crash),
            State::Down | State::Stopping => {}
        }
    }

    pub(super) fn relay_went_down(&mut self, n: usize, how: Outage) {
        if let Some(relay) = self.relays.get_mut(n) {
            self.crashes += 1;
            relay.kill(how);
        }
    }

    pub(super) fn relay_booted(&mut self, host: u32, life: u32, result: Result<Relay, String>) {
        let Some(relay) = self.relay_of(host).and_then(|n| self.relays.get_mut(n)) else { return };
        if relay.lives != life || relay.state != State::Starting {
            return;
        }
        match result {
            Ok(running) => relay.started(running),
            Err(error) => self.watch.breach(host, None, format!("the relay does not start: {error}")),
        }
    }

    /// A relay crashed around a write of its own.
    pub(super) fn relay_crashed(&mut self, host: u32, life: u32) {
        let Some(n) = self.relay_of(host) else { return };
        if self.relays.get(n).is_some_and(|relay| relay.lives == life && relay.state != State::Down) {
            self.relay_went_down(n, Outage::Crash);
            let at = self.now() + REBOOT;
            self.agenda.plan(at, Action::Boot(host));
        }
    }

    pub(super) fn relay_stopped(&mut self, host: u32, life: u32, stopped: bool) {
        let Some(relay) = self.relay_of(host).and_then(|n| self.relays.get_mut(n)) else { return };
        if relay.lives != life || relay.state != State::Stopping {
            return;
        }
        relay.stopped();
        if !stopped {
            self.watch.breach(host, None, "the relay was told to stop and did not within 30 s".to_owned());
        }
        if self.quiet {
            let at = self.now();
            self.agenda.plan(at, Action::Boot(host));
        }
    }

    /// The relays a person uses.
    fn list(&self, host: u32) -> Vec<String> {
        let mut all: Vec<usize> = (0..self.relays.len()).collect();
        Draw::new(self.seed, "lists", u64::from(host)).shuffle(&mut all);
        all.truncate(self.scenario.relays.each as usize);
        all.into_iter()
            .filter_map(|n| self.relays.get(n))
            .map(|relay| format!("{}/p2p/{}", self.net.address(relay.host), relay.peer))
            .collect()
    }

    /// A person's node is up: it is told of its relays. One that knows them already does nothing.
    #[allow(clippy::disallowed_methods, reason = "what people do is no task of their nodes")]
    pub(super) fn name_relays(&self, host: u32) {
        let Some(handle) = self.people.get(host as usize).and_then(super::Person::handle) else { return };
        if self.relays.is_empty() {
            return;
        }
        let list = self.list(host);
        drop(tokio::spawn(async move {
            for address in list {
                // an error means that the node went down: it is told again at its next start
                let _ = handle.add_relay(address, None).await;
            }
        }));
    }

    /// Whether an invite made now would name as many relays as its maker uses.
    pub(super) fn can_invite(&self, inviting: &Handle) -> bool {
        if self.relays.is_empty() || self.now() > PATIENCE {
            return true;
        }
        inviting.relays().is_ok_and(|relays| {
            relays.iter().filter(|relay| relay.named).count() >= self.scenario.relays.each as usize
        })
    }

    /// The flooders begin.
    pub(super) fn flood(&mut self) {
        let relays: Vec<_> = self
            .relays
            .iter()
            .filter_map(|relay| {
                let address = self.net.address(relay.host);
                let address: Address = kith_network::address::parse(&address).ok()?;
                Some((relay.device, address))
            })
            .collect();
        for n in 0..self.flooders.len() {
            let Some(&(host, _)) = self.flooders.get(n) else { continue };
            let disk = Disk::new(self.seed, host, 0);
            let life = Life::begin(self.birth(host, 0, disk, Arc::default()));
            flood(&life, self.seed, self.net.address(host), relays.clone());
            if let Some((_, known)) = self.flooders.get_mut(n) {
                *known = Some(life);
            }
        }
    }

    /// They stop.
    pub(super) fn ebb(&mut self) {
        for (_, life) in &mut self.flooders {
            if let Some(life) = life.take() {
                life.kill(Outage::Crash);
            }
        }
    }
}
