//! Relays between the two engines of a [`Pair`](super::Pair): the real state machine, good or bad in a chosen way.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::pair::Who;
use super::relay::{Sent, TestRelay};
use crate::engine::{DepositFailure, DepositId, Input, LinkId};
use crate::id::{Address, DeviceId, EnvelopeId, MailboxId};
use crate::mailbox::{Policy, Usage, WriteJob, WriteKind};
use crate::time::{Mono, Now};
use crate::wire::Frame;
use crate::wire::relay::Ask;

/// How a relay behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temper {
    /// As it should.
    Good,
    /// It signs for deposits and forgets them at once.
    Lying,
    /// Each frame takes so many milliseconds to it and back.
    Slow(u64),
    /// It has room for so many envelopes only.
    Full(u64),
    /// It keeps nothing longer than so many seconds.
    Brief(u64),
    /// It takes connections and answers no depositor.
    Mute,
}

/// Milliseconds a frame takes to a relay or back.
const DELAY: u64 = 15;
/// Until a dial to nobody fails.
const UNREACHABLE: u64 = 500;
/// Until a deposit without an answer fails.
const UNANSWERED: u64 = 30_000;

#[derive(Debug)]
struct Node {
    relay: TestRelay,
    temper: Temper,
    up: bool,
    /// The engine's link and the relay's, by side.
    links: BTreeMap<Who, (LinkId, LinkId)>,
    /// Links of throwaway keys, by side and pseudonym.
    deposits: BTreeMap<(Who, [u8; 16]), LinkId>,
    /// Which request is whose.
    asked: BTreeMap<(LinkId, u64), Who>,
}

#[derive(Debug)]
enum Hop {
    ToRelay { node: usize, link: LinkId, frame: Bytes },
    ToSide { who: Who, relay: DeviceId, link: LinkId, bytes: Bytes },
    Input(Who, Input),
}

/// All relays.
#[derive(Debug, Default)]
pub(super) struct Mesh {
    nodes: Vec<Node>,
    transit: BTreeMap<(Mono, u64), Hop>,
    counter: u64,
}

impl Mesh {
    pub(super) fn add(&mut self, temper: Temper, now: Now) -> (DeviceId, Address) {
        let number = self.nodes.len();
        let mut seed = [77; 32];
        if let (Some(place), Ok(number)) = (seed.first_mut(), u8::try_from(number)) {
            *place = number;
        }
        let mut policy = Policy::default();
        if let Temper::Full(items) = temper {
            policy.mailbox = Usage { bytes: u64::MAX, items };
        }
        if let Temper::Brief(seconds) = temper {
            policy.ttl = seconds;
        }
        let relay = TestRelay::new(seed, policy, now);
        let id = relay.id();
        self.nodes.push(Node {
            relay,
            temper,
            up: true,
            links: BTreeMap::new(),
            deposits: BTreeMap::new(),
            asked: BTreeMap::new(),
        });
        let address = Address::new(vec![100, u8::try_from(number).unwrap_or(u8::MAX)]);
        (id, address.unwrap_or_else(|| unreachable!("two bytes are an address")))
    }

    pub(super) const fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn relay(&self, number: usize) -> &TestRelay {
        self.nodes.get(number).map_or_else(|| unreachable!("no such relay"), |node| &node.relay)
    }

    pub(super) fn has(&self, peer: &DeviceId) -> bool {
        self.find(peer).is_some()
    }

    fn find(&self, peer: &DeviceId) -> Option<usize> {
        self.nodes.iter().position(|node| node.relay.id() == *peer)
    }

    fn delay(&self, node: usize) -> u64 {
        match self.nodes.get(node).map(|node| node.temper) {
            Some(Temper::Slow(millis)) => millis,
            _ => DELAY,
        }
    }

    fn later(&mut self, at: Mono, hop: Hop) {
        self.counter += 1;
        self.transit.insert((at, self.counter), hop);
    }

    /// A side dials a relay.
    pub(super) fn dial(&mut self, who: Who, device: DeviceId, peer: DeviceId, link: LinkId, now: Now) {
        let Some(number) = self.find(&peer) else { return };
        let delay = self.delay(number);
        let Some(node) = self.nodes.get_mut(number) else { return };
        if node.links.contains_key(&who) {
            return;
        }
        if !node.up {
            return self.later(now.mono.plus(UNREACHABLE), Hop::Input(who, Input::DialFailed { peer }));
        }
        let (theirs, hello) = node.relay.connect(device, now);
        node.links.insert(who, (link, theirs));
        let connected = Input::Connected { peer, link, address: None };
        self.later(now.mono.plus(delay), Hop::Input(who, connected));
        self.later(now.mono.plus(2 * delay), Hop::ToSide { who, relay: peer, link, bytes: hello });
    }

    /// A side sends a frame over its own link to a relay.
    pub(super) fn send(&mut self, who: Who, peer: DeviceId, link: LinkId, frame: Bytes, now: Now) {
        let Some(number) = self.find(&peer) else { return };
        let delay = self.delay(number);
        let link =
            self.nodes.get(number).and_then(|node| node.links.get(&who)).filter(|(ours, _)| *ours == link);
        let Some((_, theirs)) = link.copied() else { return };
        self.later(now.mono.plus(delay), Hop::ToRelay { node: number, link: theirs, frame });
    }

    /// A side asks a relay under a throwaway key.
    pub(super) fn deposit(
        &mut self,
        who: Who,
        id: DepositId,
        peer: DeviceId,
        pseudonym: [u8; 16],
        frame: Bytes,
        now: Now,
    ) {
        let number = self.find(&peer);
        let Some((number, node)) = number.and_then(|n| Some((n, self.nodes.get_mut(n)?))) else {
            let result = Err(DepositFailure::Unreachable);
            return self.later(now.mono.plus(UNREACHABLE), Hop::Input(who, Input::Deposited { id, result }));
        };
        if !node.up {
            let result = Err(DepositFailure::Unreachable);
            return self.later(now.mono.plus(UNREACHABLE), Hop::Input(who, Input::Deposited { id, result }));
        }
        if node.temper == Temper::Mute {
            let result = Err(DepositFailure::TimedOut);
            return self.later(now.mono.plus(UNANSWERED), Hop::Input(who, Input::Deposited { id, result }));
        }
        let relay = &mut node.relay;
        let link = *node.deposits.entry((who, pseudonym)).or_insert_with(|| {
            let mut key = [0; 32];
            key.iter_mut().zip(pseudonym).for_each(|(to, from)| *to = from);
            relay.connect(DeviceId(key), now).0
        });
        node.asked.insert((link, id.0), who);
        let delay = self.delay(number);
        self.later(now.mono.plus(delay), Hop::ToRelay { node: number, link, frame });
    }

    /// A side has crashed: its links are gone.
    pub(super) fn forget(&mut self, who: Who) {
        for node in &mut self.nodes {
            if let Some((_, theirs)) = node.links.remove(&who) {
                node.relay.disconnect(theirs);
            }
            let gone: Vec<_> = node.deposits.keys().filter(|(side, _)| *side == who).copied().collect();
            for key in gone {
                if let Some(link) = node.deposits.remove(&key) {
                    node.relay.disconnect(link);
                }
            }
            node.asked.retain(|_, side| *side != who);
        }
        self.transit.retain(|_, hop| match hop {
            Hop::ToSide { who: side, .. } | Hop::Input(side, _) => *side != who,
            Hop::ToRelay { .. } => true,
        });
    }

    /// Takes a relay off, or brings it back with what it keeps.
    pub(super) fn set_up(&mut self, number: usize, up: bool, now: Now) -> Vec<(Who, Input)> {
        let Some(node) = self.nodes.get_mut(number) else { return Vec::new() };
        node.up = up;
        node.relay.restart(now);
        let peer = node.relay.id();
        let mut inputs: Vec<(Who, Input)> = std::mem::take(&mut node.links)
            .into_iter()
            .map(|(who, (link, _))| (who, Input::Disconnected { peer, link }))
            .collect();
        node.deposits.clear();
        for ((_, id), who) in std::mem::take(&mut node.asked) {
            let result = Err(DepositFailure::Closed);
            inputs.push((who, Input::Deposited { id: DepositId(id), result }));
        }
        self.transit.retain(|_, hop| !matches!(hop, Hop::ToRelay { node, .. } if *node == number));
        self.transit.retain(|_, hop| !matches!(hop, Hop::ToSide { relay, .. } if *relay == peer));
        self.transit.retain(|_, hop| !is_connected(hop, &peer));
        inputs
    }

    /// A relay loses everything but its key, and starts again.
    pub(super) fn wipe(&mut self, number: usize, now: Now) -> Vec<(Who, Input)> {
        let inputs = self.set_up(number, true, now);
        if let Some(node) = self.nodes.get_mut(number) {
            node.relay.wipe(now);
        }
        inputs
    }

    /// A relay loses one envelope.
    pub(super) fn lose(&mut self, number: usize, mailbox: MailboxId, envelope: EnvelopeId, now: Now) {
        let kind = WriteKind::Collect { mailbox, envelopes: vec![envelope] };
        if let Some(node) = self.nodes.get_mut(number) {
            node.relay.decide(&WriteJob { link: None, request: 0, kind }, now);
        }
    }

    /// A side closes its link to a relay.
    pub(super) fn hang_up(&mut self, who: Who, peer: DeviceId) -> Option<(Who, Input)> {
        let number = self.find(&peer)?;
        let node = self.nodes.get_mut(number)?;
        let (link, theirs) = node.links.remove(&who)?;
        node.relay.disconnect(theirs);
        self.transit.retain(|_, hop| match hop {
            Hop::ToSide { who: side, relay, .. } => *side != who || *relay != peer,
            Hop::Input(side, _) => *side != who || !is_connected(hop, &peer),
            Hop::ToRelay { .. } => true,
        });
        Some((who, Input::Disconnected { peer, link }))
    }

    pub(super) fn next_instant(&mut self) -> Option<Mono> {
        let transit = self.transit.first_key_value().map(|((at, _), _)| *at);
        let deadlines =
            self.nodes.iter_mut().filter(|node| node.up).filter_map(|node| node.relay.next_deadline());
        deadlines.chain(transit).min()
    }

    /// The next thing that is due for a side; relays do what is due for them.
    pub(super) fn next_due(&mut self, now: Now) -> Option<(Who, Input)> {
        loop {
            for number in 0..self.nodes.len() {
                let Some(node) = self.nodes.get_mut(number) else { continue };
                if node.up && node.relay.next_deadline().is_some_and(|at| at <= now.mono) {
                    let sent = node.relay.tick(now);
                    self.route(number, sent, now);
                }
            }
            let ((at, _), _) = self.transit.first_key_value()?;
            if *at > now.mono {
                return None;
            }
            match self.transit.pop_first()?.1 {
                Hop::Input(who, input) => return Some((who, input)),
                Hop::ToSide { who, relay, link, bytes } => {
                    return Some((who, Input::Frame { peer: relay, link, bytes }));
                }
                Hop::ToRelay { node, link, frame } => self.handle(node, link, &frame, now),
            }
        }
    }

    fn handle(&mut self, number: usize, link: LinkId, frame: &Bytes, now: Now) {
        let Some(node) = self.nodes.get_mut(number).filter(|node| node.up) else { return };
        let sent = node.relay.frame(link, frame, now);
        if node.temper == Temper::Lying
            && let Ok(Frame::RelayRequest(request)) = Frame::decode(frame)
            && let Ask::Deposit(deposit) = request.ask
        {
            let kind = WriteKind::Collect { mailbox: deposit.mailbox, envelopes: vec![deposit.id] };
            node.relay.decide(&WriteJob { link: None, request: 0, kind }, now);
        }
        self.route(number, sent, now);
    }

    fn route(&mut self, number: usize, sent: Vec<Sent>, now: Now) {
        let at = now.mono.plus(self.delay(number));
        for (link, bytes) in sent {
            let Some(node) = self.nodes.get_mut(number) else { return };
            let relay = node.relay.id();
            let side = node.links.iter().find(|(_, (_, theirs))| *theirs == link);
            if let Some((who, (ours, _))) = side.map(|(who, links)| (*who, *links)) {
                self.later(at, Hop::ToSide { who, relay, link: ours, bytes });
            } else if let Ok(Frame::RelayReply(reply)) = Frame::decode(&bytes)
                && let Some(who) = node.asked.remove(&(link, reply.id))
            {
                let input = Input::Deposited { id: DepositId(reply.id), result: Ok(bytes) };
                self.later(at, Hop::Input(who, input));
            }
        }
    }
}

fn is_connected(hop: &Hop, relay: &DeviceId) -> bool {
    matches!(hop, Hop::Input(_, Input::Connected { peer, .. }) if peer == relay)
}
