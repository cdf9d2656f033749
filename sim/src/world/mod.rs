//! The simulated world: hosts that boot, people who meet and write, and what goes wrong meanwhile.

mod agenda;
mod faults;
mod finish;
mod graph;
mod lives;
mod person;
mod relays;
mod timeline;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::draw::Draw;
use crate::host::Life;
use crate::judge::Watch;
use crate::net::{Line, Net, Place, Weather};
use crate::progress::{Phase, Progress};
use crate::relay::Station;
use crate::scenario::{NodeKind, Scenario};
use crate::trace::{SECOND, Trace};

use agenda::{Action, Agenda, Mailbox};
use faults::Active;
pub use faults::Happened;
pub(crate) use person::State;
use person::{Person, Reach};
pub use timeline::Sample;
use timeline::Timeline;
use work::Meeting;

/// How often the world is looked at when nothing else happens.
const BEAT: u64 = SECOND;
/// Stores are audited this often, one after the other; in long scenarios 2,000 times.
const AUDIT: u64 = 20 * SECOND;

/// Everything there is.
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) seed: u64,
    pub(crate) net: Arc<Net>,
    pub(crate) trace: Arc<Trace>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) people: Vec<Person>,
    pub(crate) relays: Vec<Station>,
    pub(crate) flooders: Vec<(u32, Option<Arc<Life>>)>,
    pub(crate) meetings: Vec<Meeting>,
    pub(crate) timeline: Timeline,
    pub(crate) happened: Vec<Happened>,
    pub(crate) crowd: Option<Arc<crate::bare::Crowd>>,
    pub(crate) crashes: u64,
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    progress: Arc<Progress>,
    agenda: Agenda,
    mailbox: Arc<Mailbox>,
    active: BTreeMap<usize, Active>,
    weather: Weather,
    work: Draw,
    written: u64,
    audited: usize,
    audited_relay: usize,
    quiet: bool,
    /// When the run is cut off, whatever happens.
    until: u64,
}

impl World {
    pub(crate) fn new(
        scenario: Scenario,
        seed: u64,
        trace: Arc<Trace>,
        progress: Arc<Progress>,
        until: Option<u64>,
    ) -> Self {
        let weather = weather(&scenario);
        let net = Net::new(seed, weather.clone(), Arc::clone(&trace));
        let watch = Watch::new(Arc::clone(&trace));
        let mut world = Self {
            people: Vec::new(),
            relays: Vec::new(),
            flooders: Vec::new(),
            meetings: Vec::new(),
            timeline: Timeline::default(),
            happened: Vec::new(),
            crowd: None,
            crashes: 0,
            begun: 0,
            ended: 0,
            agenda: Agenda::default(),
            mailbox: Arc::default(),
            active: BTreeMap::new(),
            work: Draw::new(seed, "work", 0),
            written: 0,
            audited: 0,
            audited_relay: 0,
            quiet: false,
            until: until.unwrap_or(u64::MAX),
            weather,
            net,
            watch,
            trace,
            progress,
            scenario,
            seed,
        };
        world.populate();
        world
    }

    /// Puts hosts on the network.
    fn populate(&mut self) {
        let Scenario { nodes, link, nat, .. } = &self.scenario;
        let line = Line {
            up: link.uplink.bytes(),
            down: link.downlink.bytes(),
            queue: link.queue.0 as f64,
            loss: 0.0,
        };
        let regions = link.latency.len();
        let mut draw = Draw::new(self.seed, "places", 0);
        let able = nodes.count.saturating_sub(nodes.bootstrap + nodes.liars) as usize;
        // exact shares, spread by chance
        let mut kinds = Vec::with_capacity(able);
        let mut share = |share: f64, reach: Reach, kind| {
            let n = (able as f64 * share).round() as usize;
            kinds.extend(std::iter::repeat_n((reach, kind), n.min(able - kinds.len().min(able))));
        };
        use crate::net::NatKind::{FullCone, Restricted, Symmetric};
        share(nat.open.0, Reach::Open, None);
        share(nat.full_cone.0, Reach::Routed, Some(FullCone));
        share(nat.restricted.0, Reach::Routed, Some(Restricted));
        share(nat.symmetric.0, Reach::Routed, Some(Symmetric));
        kinds.resize(able, (Reach::Public, None));
        draw.shuffle(&mut kinds);
        let (bootstrap, liars_from) = (nodes.bootstrap, nodes.count - nodes.liars);
        for host in 0..nodes.count {
            let (reach, kind) = match host.checked_sub(bootstrap) {
                Some(n) if host < liars_from => {
                    kinds.get(n as usize).copied().unwrap_or((Reach::Public, None))
                }
                _ => (Reach::Public, None),
            };
            let nat = kind.map(|kind| (kind, self.scenario.nat.timeout.nanos()));
            let number = self.net.add(Place { region: draw.below(regions), nat, line });
            let person = Person::new(self.seed, number, reach, nodes.disk_sync.nanos());
            let skew = nodes.clock_skew.nanos() as f64 / 1e6;
            let off = draw.between(-skew, skew) as i64;
            person.skew.store(off, std::sync::atomic::Ordering::Relaxed);
            self.people.push(person);
        }
        self.populate_relays();
        if self.scenario.nodes.kind == NodeKind::Bare {
            self.crowd = Some(crate::bare::Crowd::new(Arc::clone(&self.trace)));
        }
    }

    /// Runs the scenario to its end, or to the first broken promise.
    #[allow(clippy::disallowed_methods, reason = "the network itself is no host's task")]
    pub(crate) async fn run(&mut self) {
        drop(tokio::spawn(Arc::clone(&self.net).run()));
        self.plan_relays();
        self.plan_boots();
        self.plan_meetings();
        self.agenda.plan(AUDIT, Action::Audit);
        self.agenda.plan(SECOND, Action::Sample);
        self.progress.enter(Phase::Meeting, self.scenario.scenario.warmup.nanos());
        let warm = self.scenario.scenario.warmup.nanos();
        let go_on = self.until_then(warm, |world| world.now() > 30 * SECOND && world.all_met()).await;
        if go_on {
            self.begin();
            let end = self.begun + self.scenario.scenario.duration.nanos();
            self.progress.enter(Phase::Working, end);
            if self.until_then(end, |_| false).await {
                self.mend_everything();
                let quiet = self.now() + self.scenario.scenario.quiet.nanos();
                self.progress.enter(Phase::Quiet, quiet);
                if self.until_then(quiet, World::is_settled).await {
                    // receipts of the last messages find their way
                    let rest = (self.now() + 30 * SECOND).min(quiet.max(self.now()));
                    self.until_then(rest, |_| false).await;
                }
            }
        }
        self.ended = self.now();
        self.progress.enter(Phase::Judging, self.ended);
        self.judge();
        self.take_sample();
    }

    pub(crate) fn now(&self) -> u64 {
        self.trace.now()
    }

    pub(crate) fn role(&self, host: u32) -> String {
        if let Some(relay) = self.relay_of(host).and_then(|n| self.relays.get(n)) {
            let lost = if relay.conduct.is_honest() { "" } else { ", lost what it had" };
            let number = self.relay_of(host).unwrap_or_default();
            return format!("relay {number}{lost}");
        }
        if self.flooders.iter().any(|(flooder, _)| *flooder == host) {
            return "flooder".to_owned();
        }
        if self.is_bootstrap(host) {
            return "bootstrap".to_owned();
        }
        if self.is_liar(host) {
            return "liar".to_owned();
        }
        match self.people.get(host as usize).map(|person| person.reach) {
            Some(Reach::Open) => "open",
            Some(Reach::Routed) => "behind a router",
            Some(Reach::Public) | None => "public",
        }
        .to_owned()
    }

    /// The workload begins, and with it whatever goes wrong.
    fn begin(&mut self) {
        self.begun = self.now();
        self.trace.note(crate::entropy::OUTSIDE, format_args!("work begins"));
        self.plan_writing();
        self.plan_faults();
        self.plan_churn();
        self.plan_crowd();
    }

    /// Lets time pass until then. False if a promise was broken, or the run is to end here.
    async fn until_then(&mut self, end: u64, done: impl Fn(&Self) -> bool) -> bool {
        loop {
            let now = self.now();
            self.progress.at(now);
            if !self.watch.ledger().broken.is_empty() || now >= self.until {
                return false;
            }
            while let Some(word) = self.mailbox.take() {
                self.hear(word);
            }
            self.read_news();
            if let Some(action) = self.agenda.due(now) {
                self.act(action);
                continue;
            }
            if now >= end || done(self) {
                return true;
            }
            let next = self.agenda.next().unwrap_or(u64::MAX).min(end).min(now + BEAT).min(self.until);
            let sleep = tokio::time::sleep_until(self.trace.start() + Duration::from_nanos(next));
            let (mailbox, watch) = (Arc::clone(&self.mailbox), Arc::clone(&self.watch));
            tokio::select! {
                biased;
                () = watch.alarm() => return false,
                () = mailbox.more() => {}
                () = sleep => {}
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Boot(host) => self.boot(host),
            Action::Meet(pair) => self.meet(pair),
            Action::Write => self.write(),
            Action::Read { host, from, entry } => self.read(host, from, entry),
            Action::Turn { slot, on } => self.turn(slot, on),
            Action::Leave(host) => self.leave(host),
            Action::Return(host) => self.come_back(host),
            Action::Fault { fault, round } => self.strike(fault, round),
            Action::Mend(fault) => self.mend(fault),
            Action::Audit => {
                self.audit_next();
                self.audit_next_relay();
                let span = self.scenario.scenario.duration.nanos() / 2_000;
                let next = self.now() + AUDIT.max(span);
                self.agenda.plan(next, Action::Audit);
            }
            Action::Sample => {
                self.take_sample();
                let span = self.scenario.scenario.duration.nanos() / 120;
                let next = self.now() + span.max(SECOND);
                self.agenda.plan(next, Action::Sample);
            }
        }
    }
}

/// The weather of a scenario before anything goes wrong.
fn weather(scenario: &Scenario) -> Weather {
    let link = &scenario.link;
    Weather {
        latency: link.latency.iter().map(|row| row.iter().map(|time| time.nanos()).collect()).collect(),
        jitter: link.jitter.0,
        loss: link.loss.0,
        reorder: link.reorder.0,
        reorder_delay: link.reorder_delay.nanos(),
        mtu: usize::try_from(link.mtu.0).unwrap_or(1_500),
        extra: 0,
    }
}
