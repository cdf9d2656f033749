//! Building scenarios in Rust.

use super::model::{Churn, Expect, Fault, FaultKind, FriendsKind, Nat, NodeKind, Op, Scenario, Which};
use super::units::{Share, Time};

impl Scenario {
    /// Two friends and nothing that goes wrong; everything else is set from here.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let mut scenario = Self::default();
        scenario.scenario.name = name.into();
        scenario
    }

    /// How many nodes, the bootstrap node included.
    #[must_use]
    pub fn nodes(mut self, count: u32) -> Self {
        self.nodes.count = count;
        self
    }

    /// Bare libp2p nodes instead of whole Kith nodes.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.nodes.kind = NodeKind::Bare;
        self
    }

    /// So many relays, of which each person uses some.
    #[must_use]
    pub fn relays(mut self, count: u32, each: u32) -> Self {
        self.relays.count = count;
        self.relays.each = each;
        self
    }

    /// Who knows whom.
    #[must_use]
    pub fn friends(mut self, kind: FriendsKind, degree: u32) -> Self {
        self.friends.kind = kind;
        self.friends.degree = degree;
        self
    }

    /// How long people write.
    #[must_use]
    pub fn duration(mut self, duration: Time) -> Self {
        self.scenario.duration = duration;
        self
    }

    /// Messages a second in the whole network.
    #[must_use]
    pub fn rate(mut self, rate: f64) -> Self {
        self.workload.rate = rate;
        self
    }

    /// Share of packets lost.
    #[must_use]
    pub fn loss(mut self, share: f64) -> Self {
        self.link.loss = Share::of(share);
        self
    }

    /// Everything takes this long on the wires.
    #[must_use]
    pub fn latency(mut self, latency: Time) -> Self {
        self.link.latency = vec![vec![latency]];
        self
    }

    /// Nodes behind routers.
    #[must_use]
    pub fn nat(mut self, nat: Nat) -> Self {
        self.nat = nat;
        self
    }

    /// Nodes that come and go.
    #[must_use]
    pub fn churn(mut self, churn: Churn) -> Self {
        self.churn = Some(churn);
        self
    }

    /// Something that goes wrong.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.fault.push(fault);
        self
    }

    /// Something that must hold in the end. Figures are those of the summary, for example `delivery_ratio`.
    #[must_use]
    pub fn expect(mut self, metric: impl Into<String>, op: Op, value: f64) -> Self {
        self.expect.push(Expect { metric: metric.into(), op, value });
        self
    }

    /// As a file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_default()
    }
}

impl Fault {
    /// A fault of this kind at a time after the start of the workload.
    #[must_use]
    pub const fn new(kind: FaultKind, at: Time) -> Self {
        Self {
            kind,
            at,
            lasts: None,
            nodes: None,
            relays: None,
            for_good: false,
            by: None,
            back: false,
            share: None,
            groups: None,
            one_way: false,
            between_outputs: None,
            every: None,
            times: None,
        }
    }

    /// It lasts this long.
    #[must_use]
    pub const fn lasts(mut self, time: Time) -> Self {
        self.lasts = Some(time);
        self
    }

    /// It concerns so many nodes, chosen by chance.
    #[must_use]
    pub fn some(mut self, nodes: u32) -> Self {
        self.nodes = Some(Which::Some(nodes));
        self
    }

    /// It concerns these nodes.
    #[must_use]
    pub fn these(mut self, nodes: impl Into<Vec<u32>>) -> Self {
        self.nodes = Some(Which::These(nodes.into()));
        self
    }

    /// It concerns so many relays, chosen by chance.
    #[must_use]
    pub fn some_relays(mut self, relays: u32) -> Self {
        self.relays = Some(Which::Some(relays));
        self
    }

    /// It concerns these relays.
    #[must_use]
    pub fn these_relays(mut self, relays: impl Into<Vec<u32>>) -> Self {
        self.relays = Some(Which::These(relays.into()));
        self
    }

    /// It is never mended.
    #[must_use]
    pub const fn for_good(mut self) -> Self {
        self.for_good = true;
        self
    }

    /// By this much.
    #[must_use]
    pub const fn by(mut self, time: Time) -> Self {
        self.by = Some(time);
        self
    }

    /// This share.
    #[must_use]
    pub const fn share(mut self, share: f64) -> Self {
        self.share = Some(Share::of(share));
        self
    }

    /// Again after this time, so many times in all.
    #[must_use]
    pub const fn again(mut self, every: Time, times: u32) -> Self {
        self.every = Some(every);
        self.times = Some(times);
        self
    }

    /// A crash between two effects of the Engine, after at most so many.
    #[must_use]
    pub const fn between_outputs(mut self, within: u32) -> Self {
        self.between_outputs = Some(within);
        self
    }
}
