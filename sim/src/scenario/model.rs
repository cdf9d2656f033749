//! What a scenario says. The comments here are what editors show.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{Bandwidth, Bytes, Share, Time};

/// A simulation: who is there, how they are connected, what they do, what goes wrong, and what must hold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// What it is called and how long it runs.
    pub scenario: About,
    /// Who is there.
    pub nodes: Nodes,
    /// Relays, and who uses which.
    #[serde(skip_serializing_if = "Relays::are_none")]
    pub relays: Relays,
    /// Who knows whom.
    pub friends: Friends,
    /// The wires.
    pub link: Link,
    /// Which nodes are behind which kind of router. Shares of all nodes but the bootstrap nodes; the rest is public.
    pub nat: Nat,
    /// Nodes that come and go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub churn: Option<Churn>,
    /// What people write.
    pub workload: Workload,
    /// What goes wrong, and when.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fault: Vec<Fault>,
    /// What must hold in the end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<Expect>,
}

/// What it is called and how long it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct About {
    /// Its name; the file's if it has none.
    pub name: String,
    /// What it shows, in a sentence.
    pub about: String,
    /// How long people have to meet before the workload begins. It begins earlier if all have met.
    pub warmup: Time,
    /// How long people write and things go wrong.
    pub duration: Time,
    /// After that everything is mended and nobody writes. The run ends when all is delivered, or after this.
    pub quiet: Time,
}

impl Default for About {
    fn default() -> Self {
        Self {
            name: String::new(),
            about: String::new(),
            warmup: Time::seconds(300),
            duration: Time::seconds(120),
            quiet: Time::seconds(1_800),
        }
    }
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// A whole Kith node: Engine, store, network.
    #[default]
    Kith,
    /// A bare libp2p node that gossips on one topic.
    Bare,
}

/// Who is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Nodes {
    /// How many, bootstrap nodes and liars included.
    #[schemars(range(min = 1, max = 10_000))]
    pub count: u32,
    /// What they are.
    pub kind: NodeKind,
    /// The first so many are public, never go down by themselves, and are what all others start from.
    pub bootstrap: u32,
    /// The last so many are no nodes but liars: they answer each question of the directory with forged records.
    pub liars: u32,
    /// The nodes start within this time.
    pub start_within: Time,
    /// This share of the nodes (not the bootstrap nodes) is a crowd that comes later,
    pub late: Share,
    /// this long after the workload began,
    pub late_at: Time,
    /// within this time.
    pub late_within: Time,
    /// How long a disk takes to sync.
    pub disk_sync: Time,
    /// Wall clocks are off by up to this, either way.
    pub clock_skew: Time,
    /// Nodes with even and with odd numbers are on-line in turns of this length and never together, but for bootstrap
    /// nodes. Friends of kind `pairs` never meet then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turns: Option<Time>,
    /// Bare nodes: peers each of them dials.
    pub dials: u32,
    /// Bare nodes: whether they also run Kademlia.
    pub kademlia: bool,
}

impl Default for Nodes {
    fn default() -> Self {
        Self {
            count: 2,
            kind: NodeKind::Kith,
            bootstrap: 1,
            liars: 0,
            start_within: Time::seconds(5),
            late: Share(0.0),
            late_at: Time::seconds(0),
            late_within: Time::seconds(5),
            disk_sync: Time::millis(3),
            clock_skew: Time(0),
            turns: None,
            dials: 6,
            kademlia: false,
        }
    }
}

/// Relays, and who uses which. Each is the product's relay on a public host of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Relays {
    /// How many.
    #[schemars(range(max = 100))]
    pub count: u32,
    /// Each person uses so many of them, chosen by chance.
    #[schemars(range(min = 1, max = 6))]
    pub each: u32,
    /// Envelopes that one mailbox holds,
    pub mailbox_items: u64,
    /// and their bytes.
    pub mailbox_bytes: Bytes,
    /// How long a relay's disk takes to sync.
    pub disk_sync: Time,
    /// Relays' wall clocks are off by up to this, either way.
    pub clock_skew: Time,
    /// Hosts that ask all relays as much as they can while a fault of kind `flood` lasts.
    #[schemars(range(max = 100))]
    pub flooders: u32,
}

impl Default for Relays {
    fn default() -> Self {
        Self {
            count: 0,
            each: 2,
            mailbox_items: 50_000,
            mailbox_bytes: Bytes(64 << 20),
            disk_sync: Time::millis(3),
            clock_skew: Time(0),
            flooders: 0,
        }
    }
}

impl Relays {
    fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

/// How people know each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FriendsKind {
    /// Each knows the next so many.
    Ring,
    /// Each knows at least so many others, by chance.
    #[default]
    Random,
    /// The first and the second, the third and the fourth …
    Pairs,
    /// All know the first one that is no bootstrap node.
    Star,
}

/// Who knows whom. They meet by invites, as people do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Friends {
    /// How.
    pub kind: FriendsKind,
    /// How many friends.
    pub degree: u32,
    /// Bootstrap nodes are people, too.
    pub bootstrap_too: bool,
}

impl Default for Friends {
    fn default() -> Self {
        Self { kind: FriendsKind::Random, degree: 3, bootstrap_too: true }
    }
}

/// The wires.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Link {
    /// One-way latency between regions, each row as long as there are rows. Nodes are spread over them by chance. One
    /// row of one time: everywhere the same.
    pub latency: Vec<Vec<Time>>,
    /// Packets take up to this share of their latency longer.
    pub jitter: Share,
    /// Share of packets lost.
    pub loss: Share,
    /// Share of packets overtaken by others,
    pub reorder: Share,
    /// by up to this.
    pub reorder_delay: Time,
    /// Each node's line to the network,
    pub uplink: Bandwidth,
    /// and from it.
    pub downlink: Bandwidth,
    /// What a router queues in each direction before it drops packets.
    pub queue: Bytes,
    /// Largest packet.
    pub mtu: Bytes,
}

impl Default for Link {
    fn default() -> Self {
        // five regions of the world
        let world = [
            [8, 40, 75, 110, 130],
            [40, 8, 45, 90, 140],
            [75, 45, 8, 60, 100],
            [110, 90, 60, 8, 55],
            [130, 140, 100, 55, 8],
        ];
        Self {
            latency: world.iter().map(|row| row.iter().map(|ms| Time::millis(*ms)).collect()).collect(),
            jitter: Share(0.15),
            loss: Share(0.0),
            reorder: Share(0.0),
            reorder_delay: Time::millis(20),
            uplink: Bandwidth::mbit(20.0),
            downlink: Bandwidth::mbit(100.0),
            queue: Bytes(512 << 10),
            mtu: Bytes(1_500),
        }
    }
}

/// Which nodes are behind which kind of router.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Nat {
    /// Public, but they do not know it: others must tell them.
    pub open: Share,
    /// Behind a full cone.
    pub full_cone: Share,
    /// Behind a restricted cone.
    pub restricted: Share,
    /// Behind a symmetric router.
    pub symmetric: Share,
    /// Routers forget what nothing used for this long.
    pub timeout: Time,
}

impl Default for Nat {
    fn default() -> Self {
        let none = Share(0.0);
        Self { open: none, full_cone: none, restricted: none, symmetric: none, timeout: Time::seconds(7_200) }
    }
}

/// How long something lasts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lifetime {
    /// Memoryless, with this mean.
    Exponential(Time),
    /// Many short ones and a few very long ones, if the shape is below 1.
    Weibull {
        /// Shape.
        shape: f64,
        /// Scale.
        scale: Time,
    },
}

/// Nodes that come and go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Churn {
    /// How long they stay,
    pub session: Lifetime,
    /// and how long they are away.
    pub downtime: Lifetime,
    /// This share of all nodes but the bootstrap nodes.
    #[serde(default = "whole")]
    pub share: Share,
    /// This share of the goings is in order; the rest are crashes.
    #[serde(default = "half")]
    pub graceful: Share,
    /// This share of the crashes are power cuts: nobody is told.
    #[serde(default = "half")]
    pub power: Share,
}

const fn whole() -> Share {
    Share(1.0)
}

const fn half() -> Share {
    Share(0.5)
}

/// What people write.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Workload {
    /// Messages a second in the whole network.
    pub rate: f64,
    /// Shortest text,
    pub min_size: Bytes,
    /// and longest.
    pub max_size: Bytes,
    /// This share of messages is read,
    pub read: Share,
    /// after about this long.
    pub read_after: Time,
    /// Edits, reactions and deletions for each message.
    pub changes: Share,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            rate: 1.0,
            min_size: Bytes(5),
            max_size: Bytes(300),
            read: Share(0.7),
            read_after: Time::seconds(3),
            changes: Share(0.0),
        }
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The network falls into `groups`; with `one_way` the first does not reach the others, but they reach it.
    Partition,
    /// `nodes` crash and come back after `lasts`; with `between_outputs` between two effects of their Engine.
    Crash,
    /// `nodes` stop in order and come back after `lasts`.
    Offline,
    /// The power of `nodes` fails: nobody is told. They come back after `lasts`.
    PowerCut,
    /// Wall clocks of `nodes` jump by `by`.
    Clock,
    /// Packets are lost, a `share` of them.
    Loss,
    /// Everything takes `by` longer on the wires.
    Delay,
    /// Disks of `nodes` take `by` to sync.
    SlowDisk,
    /// Lines of `nodes` lose a `share` of their packets.
    BadLine,
    /// `relays` sign for a `share` of the envelopes they are given and do not keep them.
    Forget,
    /// Disks of `relays` are full: nothing new is taken.
    Full,
    /// `relays` go down and lose their disks; they come back after `lasts` with their keys and nothing else.
    LoseDisk,
    /// The flooders ask all relays as much as they can.
    Flood,
}

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// When, counted from the start of the workload.
    pub at: Time,
    /// How long it lasts. Without it, until the workload ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Time>,
    /// Which: a number of nodes chosen by chance (never bootstrap nodes), or a list of their numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Which>,
    /// Which relays, in place of nodes: a number of them, or a list; relays are numbered from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relays: Option<Which>,
    /// It is never mended: who went down stays down.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub for_good: bool,
    /// A time that depends on the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Time>,
    /// Clock: back instead of forward.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub back: bool,
    /// A share that depends on the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
    /// Partition: into how many groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<u32>,
    /// Partition: only in one direction.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_way: bool,
    /// Crash: within the outputs of the Engine, or the writes of the relay, after so many at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between_outputs: Option<u32>,
    /// It happens again after this,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Time>,
    /// so many times in all; without it until the workload ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

/// Nodes of a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a number of nodes, or a list of node numbers like [1, 4]")]
pub enum Which {
    /// So many, by chance.
    Some(u32),
    /// These.
    These(Vec<u32>),
}

/// How a figure compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Op {
    /// At least.
    #[serde(rename = ">=")]
    AtLeast,
    /// At most.
    #[serde(rename = "<=")]
    AtMost,
    /// More than.
    #[serde(rename = ">")]
    Above,
    /// Less than.
    #[serde(rename = "<")]
    Below,
    /// Exactly.
    #[serde(rename = "==")]
    Equal,
}

/// What must hold in the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// A figure of the summary, for example `delivery_latency_ms.p95` or `bytes_by_purpose.directory`.
    pub metric: String,
    /// How it compares.
    pub op: Op,
    /// To what.
    pub value: f64,
}

/// Figures by name.
pub type Figures = BTreeMap<String, f64>;
