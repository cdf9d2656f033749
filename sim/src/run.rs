//! One run: a scenario and a seed in, figures and the story of every message out.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::judge::{Broken, Note, Percentiles, Story};
use crate::overrides::{cpu_nanos, real_nanos};
use crate::process::{ProcessError, peak_rss_mib, simulate};
use crate::progress::Progress;
use crate::scenario::{Scenario, ScenarioError};
use crate::summary::{Lookup, Summary, Traffic, round};
use crate::trace::{Seconds, Trace};
use crate::world::{Happened, Sample, State, World};

/// Messages of which the report tells the story, at most.
const STORIES: usize = 400;

/// Why there was no run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// The scenario makes no sense.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// This process cannot simulate.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The trace file.
    #[error("the trace cannot be written: {0}")]
    Trace(#[from] io::Error),
}

/// How a scenario is run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Everything random follows from this.
    pub seed: u64,
    /// Write every event to this file.
    pub trace: Option<PathBuf>,
    /// End the run at this virtual time, in nanoseconds, whatever happens.
    pub until: Option<u64>,
    /// Keep so many of the last events.
    pub last: usize,
    /// Told how far the run is.
    pub progress: Arc<Progress>,
    /// Leave time and chance to the system. Only tests do that, to show what the overrides are for.
    pub without_overrides: bool,
}

/// How a node ended up.
#[derive(Debug, Clone, serde::Serialize)]
pub struct NodeRow {
    /// Its number.
    pub node: u32,
    /// What it is.
    pub role: String,
    /// Whether it runs in the end.
    pub up: bool,
    /// Times it booted.
    pub boots: u32,
    /// Bytes received,
    pub bytes_in: u64,
    /// and sent.
    pub bytes_out: u64,
    /// Messages it wrote that were accepted,
    pub written: u64,
    /// that came to it,
    pub received: u64,
    /// and of its own that arrived.
    pub arrived: u64,
    /// Peers it is connected with in the end.
    pub peers: usize,
}

/// Everything known of a run.
#[derive(Debug, Clone)]
pub struct Run {
    /// What was run.
    pub scenario: Scenario,
    /// Its figures.
    pub summary: Summary,
    /// Promises broken.
    pub broken: Vec<Broken>,
    /// How long messages took, in milliseconds, sorted.
    pub latencies: Vec<f64>,
    /// When messages arrived (virtual seconds), and how long they had taken (milliseconds).
    pub arrivals: Vec<(f64, f64)>,
    /// Figures over time.
    pub timeline: Vec<Sample>,
    /// What went wrong when.
    pub faults: Vec<Happened>,
    /// Virtual nanoseconds at which the workload began.
    pub begun: u64,
    /// Nodes.
    pub nodes: Vec<NodeRow>,
    /// The messages with the most to tell.
    pub stories: Vec<Story>,
    /// The last events, if they were asked for.
    pub last: Vec<String>,
}

impl Run {
    /// Everything holds.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.summary.is_good()
    }

    /// For each broken promise the seed, the time and the last steps of the message concerned.
    #[must_use]
    pub fn complaint(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        for broken in &self.broken {
            // writing to a string cannot fail
            let _ = writeln!(
                text,
                "broken: {}\n  seed {}, node {}, virtual time {}",
                broken.what,
                self.summary.seed,
                broken.host,
                Seconds(broken.at)
            );
            let story = broken.entry.and_then(|entry| self.stories.iter().find(|story| story.entry == entry));
            if let Some(story) = story {
                let steps = story.notes();
                let _ = writeln!(text, "  message {} of node {}:", story.entry.short(), story.author);
                for note in steps.iter().skip(steps.len().saturating_sub(30)) {
                    let _ = writeln!(text, "  {note}");
                }
            }
        }
        for missed in self.summary.expectations.iter().filter(|expectation| !expectation.ok) {
            let op = serde_json::to_value(missed.op).unwrap_or_default();
            let op = op.as_str().unwrap_or_default();
            let _ =
                writeln!(text, "missed: {} is {}, expected {op} {}", missed.metric, missed.got, missed.value);
        }
        text
    }
}

impl Scenario {
    /// Runs this scenario. Only the first run of a process has the same trace in each process: libp2p and tokio number
    /// things per process.
    ///
    /// # Errors
    /// [`RunError`]. A promise that is broken, or an expectation that is missed, is none: see [`Run::is_good`].
    pub fn run(&self, options: &Options) -> Result<Run, RunError> {
        self.validate()?;
        let (wall, until) = (real_nanos(), options.until);
        let progress = Arc::clone(&options.progress);
        let (path, last) = (options.trace.clone(), options.last);
        let (scenario, seed) = (self.clone(), options.seed);
        let run = simulate(seed, !options.without_overrides, move || async move {
            let trace = Arc::new(Trace::new(path.as_deref(), last)?);
            let mut world = World::new(scenario, seed, Arc::clone(&trace), progress, until);
            Box::pin(world.run()).await;
            let run = conclude(&world);
            trace.finish()?;
            Ok::<_, io::Error>((run, cpu_nanos()))
        })?;
        let (mut run, cpu) = run?;
        run.summary.wall_s = round(real_nanos().saturating_sub(wall) as f64 / 1e9);
        run.summary.cpu_s = round(cpu as f64 / 1e9);
        run.summary.peak_rss_mib = peak_rss_mib();
        run.summary.judge(&self.expect);
        Ok(run)
    }
}

/// What a world came to.
fn conclude(world: &World) -> Run {
    let totals = world.net.totals();
    let (hash, events) = (world.trace.hash(), world.trace.lines());
    let seconds = (world.ended as f64 / 1e9).max(1e-9);
    let nodes = world.people.len() as f64;
    let mut purposes = world.net.by_purpose();
    let streams: u64 = purposes.values().sum();
    purposes.insert("transport".to_owned(), totals.bytes_out.saturating_sub(streams));
    let met = world.friendships();
    let ledger = world.watch.ledger();
    let ratio = |part: u64, whole: u64| if whole == 0 { 1.0 } else { part as f64 / whole as f64 };
    let visible = || {
        ledger.stories.values().filter(|story| story.accepted.is_some() && story.visible && !story.withdrawn)
    };
    let accepted = visible().count() as u64;
    let mut arrivals = ledger.arrivals.clone();
    let mut latency = ledger.latency.clone();
    let (mut delivery, mut duplicates) = (
        ratio(visible().filter(|story| story.has_arrived()).count() as u64, accepted),
        ledger.copies.duplicates(),
    );
    let mut messages = accepted;
    if let Some(crowd) = &world.crowd {
        let gossip = crowd.gossip();
        delivery = ratio(gossip.arrived, gossip.expected);
        duplicates = ratio(gossip.copies.saturating_sub(gossip.arrived), gossip.arrived.max(1));
        messages = gossip.published;
        (latency, arrivals) = (gossip.latency, gossip.arrivals);
    }
    let ticked = visible().filter(|story| story.ticked.is_some()).count() as u64;
    let summary = Summary {
        scenario: world.scenario.scenario.name.clone(),
        seed: world.seed,
        nodes: world.scenario.nodes.count,
        virtual_s: round(seconds),
        wall_s: 0.0,
        cpu_s: 0.0,
        peak_rss_mib: 0.0,
        trace_hash: format!("{hash:016x}"),
        trace_events: events,
        delivery_ratio: round(delivery),
        delivery_latency_ms: rounded(latency.percentiles()),
        receipt_latency_ms: rounded(ledger.ticks.percentiles()),
        receipt_ratio: round(ratio(ticked, accepted)),
        duplicates_per_delivery: round(duplicates),
        bytes_per_node_s: Traffic {
            r#in: round(totals.bytes_in as f64 / nodes / seconds),
            out: round(totals.bytes_out as f64 / nodes / seconds),
        },
        bytes_by_purpose: purposes,
        lookup: Lookup {
            success: round(ratio(ledger.lookups.found, ledger.lookups.ended)),
            p50_ms: round(ledger.lookups.times.percentiles().p50),
        },
        friendships: round(ratio(met as u64, world.meetings.len() as u64)),
        messages,
        custody_latency_ms: rounded(ledger.custody.percentiles()),
        in_custody: ledger
            .custodies
            .messages()
            .filter(|entry| ledger.stories.get(*entry).is_some_and(|story| story.visible))
            .count() as u64,
        by_relay: visible().filter(|story| story.by_relay == Some(true)).count() as u64,
        crashes: world.crashes,
        dials: totals.dials,
        connections_peak: totals.peak_connections as u64,
        segments_lost: totals.segments_lost + totals.queue_drops,
        notices: ledger.notices.clone(),
        invariants_checked: ledger.checks,
        broken: ledger.broken.iter().map(|broken| broken.what.clone()).collect(),
        expectations: Vec::new(),
    };
    let mut rows = world
        .people
        .iter()
        .map(|person| {
            let (bytes_in, bytes_out) = world.net.bytes(person.host);
            let own = || visible().filter(|story| story.author == person.host);
            NodeRow {
                node: person.host,
                role: world.role(person.host),
                up: person.state == State::Up,
                boots: person.lives,
                bytes_in,
                bytes_out,
                written: own().count() as u64,
                received: visible().filter(|story| story.shown.contains_key(&person.host)).count() as u64,
                arrived: own().filter(|story| story.has_arrived()).count() as u64,
                peers: world.net.connections(person.host).len(),
            }
        })
        .collect::<Vec<_>>();
    let hosts = world.relays.iter().map(|relay| (relay.host, relay.state == State::Up, relay.lives));
    let flooders = world.flooders.iter().map(|(host, life)| (*host, life.is_some(), 0));
    rows.extend(hosts.chain(flooders).map(|(node, up, boots)| {
        let (bytes_in, bytes_out) = world.net.bytes(node);
        NodeRow {
            node,
            role: world.role(node),
            up,
            boots,
            bytes_in,
            bytes_out,
            written: 0,
            received: 0,
            arrived: 0,
            peers: world.net.connections(node).len(),
        }
    }));
    let concerned = |story: &&Story| ledger.broken.iter().any(|broken| broken.entry == Some(story.entry));
    let mut stories: Vec<&Story> = ledger.stories.values().filter(concerned).collect();
    let mut others: Vec<&Story> = visible().filter(|story| !concerned(story)).collect();
    others.sort_by_key(|story| (std::cmp::Reverse(interest(story)), story.written));
    stories.extend(others);
    stories.truncate(STORIES);
    Run {
        scenario: world.scenario.clone(),
        summary,
        broken: ledger.broken.clone(),
        latencies: latency.sorted_ms(),
        arrivals: arrivals.iter().map(|(at, took)| (*at as f64 / 1e9, *took as f64 / 1e6)).collect(),
        timeline: world.timeline.samples.clone(),
        faults: world.happened.clone(),
        begun: world.begun,
        nodes: rows,
        stories: stories.into_iter().cloned().collect(),
        last: world.trace.last(),
    }
}

/// How much there is to tell of a message.
fn interest(story: &Story) -> (bool, usize) {
    let notes: &[Note] = story.notes();
    (!story.has_arrived(), notes.len())
}

fn rounded(p: Percentiles) -> Percentiles {
    Percentiles { p50: round(p.p50), p95: round(p.p95), p99: round(p.p99), max: round(p.max) }
}
