//! A relay against the simplest model of one: random operations, restarts and conflicts with other processes. After each
//! one the answers are the same, the list is the same, and what is counted is what is there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, also in its own functions")]

#[path = "common/relay.rs"]
mod people;

use std::collections::BTreeMap;

use kith_protocol::crypto::envelope::envelope_id;
use kith_protocol::mailbox::{Policy, Usage, WriteJob, WriteKind, bucket};
use kith_protocol::testing::TestRelay;
use kith_protocol::wire::relay::{Answer, Ask, RefusalCode};
use kith_protocol::{EnvelopeId, Mono, Now, Wall, limits};
use people::*;
use proptest::prelude::*;

const T: u64 = 1_800_000_000_000;
const TTL: u32 = 36 * 3600;
const MAILBOX: Usage = Usage { bytes: 3000, items: 6 };
const KIND: Usage = Usage { bytes: 0, items: 3 };

#[derive(Debug, Clone)]
enum Op {
    Put { owner: u8, right: u8, items: u64, deposits: u64, days: u64 },
    Revoke { owner: u8, right: u8 },
    Deposit { owner: u8, right: u8, letter: u8, kind: u8 },
    Collect { owner: u8, letters: Vec<(u8, u8)> },
    Keys { owner: u8, count: u8, replace: bool },
    Take { owner: u8, right: u8 },
    Block { owner: u8, blocked: bool },
    Evict { owner: u8 },
    Wait { hours: u64 },
    Restart,
    Conflict,
}

fn op() -> impl Strategy<Value = Op> {
    let owner = || 0..2_u8;
    let right = || 0..3_u8;
    prop_oneof![
        3 => (owner(), right(), 0..4_u64, 0..6_u64, 0..4_u64)
            .prop_map(|(owner, right, items, deposits, days)| Op::Put { owner, right, items, deposits, days }),
        1 => (owner(), right()).prop_map(|(owner, right)| Op::Revoke { owner, right }),
        12 => (owner(), right(), 0..10_u8, 0..3_u8)
            .prop_map(|(owner, right, letter, kind)| Op::Deposit { owner, right, letter, kind }),
        4 => (owner(), prop::collection::vec((0..10_u8, 0..3_u8), 0..6))
            .prop_map(|(owner, letters)| Op::Collect { owner, letters }),
        1 => (owner(), 0..5_u8, any::<bool>())
            .prop_map(|(owner, count, replace)| Op::Keys { owner, count, replace }),
        2 => (owner(), right()).prop_map(|(owner, right)| Op::Take { owner, right }),
        1 => (owner(), any::<bool>()).prop_map(|(owner, blocked)| Op::Block { owner, blocked }),
        1 => owner().prop_map(|owner| Op::Evict { owner }),
        3 => (0..20_u64).prop_map(|hours| Op::Wait { hours }),
        1 => Just(Op::Restart),
        2 => Just(Op::Conflict),
    ]
}

#[derive(Default, Clone)]
struct Right {
    items_max: u64,
    deposits_max: u64,
    expires: Option<u64>,
    deposits: u64,
    revoked: Option<u64>,
}

#[derive(Clone)]
struct Letter {
    id: EnvelopeId,
    right: u8,
    size: u64,
    expires: u64,
    cursor: u64,
}

#[derive(Default, Clone)]
struct Held {
    rights: BTreeMap<u8, Right>,
    stored: Vec<Letter>,
    collected: BTreeMap<EnvelopeId, u64>,
    cursor: u64,
    blocked: bool,
    keys: u64,
    bundle: bool,
}

fn letter(number: u8, kind: u8) -> bytes::Bytes {
    envelope(&format!("letter {number}"), 256 << kind)
}

fn over(ends: u64, now: u64) -> bool {
    u64::from(bucket(Wall(ends))) <= now / limits::HOUR
}

impl Held {
    fn deposit(&mut self, right: u8, number: u8, kind: u8, now: u64) -> Result<bool, RefusalCode> {
        let bytes = letter(number, kind);
        let (id, size) = (envelope_id(&bytes), bytes.len() as u64);
        let entry = self.rights.get_mut(&right).ok_or(RefusalCode::RightUnknown)?;
        if self.blocked {
            return Err(RefusalCode::Blocked);
        }
        if entry.revoked.is_some() {
            return Err(RefusalCode::RightRevoked);
        }
        let entitled = entry.expires.is_none_or(|expires| now < expires)
            && (entry.deposits_max == 0 || entry.deposits < entry.deposits_max);
        if let Some(stored) = self.stored.iter_mut().find(|stored| stored.id == id) {
            let asked = u64::from(TTL) * 1000;
            if entitled && stored.expires.saturating_sub(now) < asked / 2 {
                stored.expires = now + asked;
            }
            return Ok(true);
        }
        if self.collected.contains_key(&id) {
            return Ok(false);
        }
        if entry.expires.is_some_and(|expires| now >= expires) {
            return Err(RefusalCode::RightExpired);
        }
        if entry.deposits_max != 0 && entry.deposits >= entry.deposits_max {
            return Err(RefusalCode::RightUsedUp);
        }
        let bytes: u64 = self.stored.iter().map(|stored| stored.size).sum();
        if bytes + size > MAILBOX.bytes || self.stored.len() as u64 >= MAILBOX.items {
            return Err(RefusalCode::MailboxFull);
        }
        if self.stored.iter().filter(|stored| stored.size == size).count() as u64 >= KIND.items {
            return Err(RefusalCode::ClassFull);
        }
        let of_right = self.stored.iter().filter(|stored| stored.right == right).count() as u64;
        if entry.items_max != 0 && of_right >= entry.items_max {
            return Err(RefusalCode::RightFull);
        }
        entry.deposits += 1;
        self.cursor += 1;
        let expires = now + u64::from(TTL) * 1000;
        self.stored.push(Letter { id, right, size, expires, cursor: self.cursor });
        Ok(true)
    }

    fn sweep(&mut self, now: u64) {
        self.stored.retain(|stored| !over(stored.expires, now));
        self.collected.retain(|_, expires| !over(*expires, now));
        let stored = &self.stored;
        self.rights.retain(|number, right| {
            let ended = right.revoked.or(right.expires);
            let used = stored.iter().any(|stored| stored.right == *number);
            used || !ended.is_some_and(|ended| over(ended + 30 * limits::DAY, now))
        });
    }
}

struct World {
    relay: TestRelay,
    owners: Vec<Owner>,
    stranger: kith_protocol::engine::LinkId,
    model: Vec<Held>,
    elapsed: u64,
}

impl World {
    fn new() -> Self {
        let now = Now { wall: Wall(T), mono: Mono(0) };
        let mut policy = Policy { mailbox: MAILBOX, ..Policy::default() };
        policy.kinds = [KIND; kith_protocol::crypto::envelope::SIZE_KINDS];
        let mut world = Self {
            relay: TestRelay::new([1; 32], policy, now),
            owners: Vec::new(),
            stranger: kith_protocol::engine::LinkId(0),
            model: vec![Held::default(); 2],
            elapsed: 0,
        };
        world.connect();
        world
    }

    fn now(&self) -> Now {
        Now { wall: Wall(T + self.elapsed), mono: Mono(self.elapsed) }
    }

    fn connect(&mut self) {
        let now = self.now();
        self.owners = (0..2).map(|n| Owner::new(&mut self.relay, 10 + n, now)).collect();
        self.stranger = stranger(&mut self.relay, now);
        for (owner, model) in self.owners.iter().zip(&self.model) {
            let answer = owner.open_with(&mut self.relay, b"", now);
            assert_eq!(refused(&answer), model.blocked.then_some(RefusalCode::Blocked));
        }
    }

    fn apply(&mut self, op: &Op) {
        let now = self.now();
        let wall = now.wall.0;
        match op.clone() {
            Op::Put { owner: n, right, items, deposits, days } => {
                let (owner, model) = (&self.owners[n as usize], &mut self.model[n as usize]);
                let mut spec = owner.spec(right);
                (spec.items, spec.deposits, spec.lifetime) = (items, deposits, days * 86_400);
                let answer = owner.put(&mut self.relay, vec![spec], now);
                if model.blocked {
                    assert!(refused(&answer).is_some());
                    return;
                }
                assert_eq!(refused(&answer), None);
                let entry = model.rights.entry(right).or_default();
                entry.items_max = items;
                entry.deposits_max = deposits;
                entry.expires = (days != 0).then(|| wall + days * limits::DAY);
                entry.revoked = None;
            }
            Op::Revoke { owner: n, right } => {
                let (owner, model) = (&self.owners[n as usize], &mut self.model[n as usize]);
                let answer = owner.revoke(&mut self.relay, right, now);
                assert_eq!(refused(&answer).is_some(), model.blocked);
                if !model.blocked
                    && let Some(entry) = model.rights.get_mut(&right)
                {
                    entry.revoked.get_or_insert(wall);
                    model.stored.retain(|stored| stored.right != right);
                }
            }
            Op::Deposit { owner: n, right, letter: number, kind } => {
                let (owner, model) = (&self.owners[n as usize], &mut self.model[n as usize]);
                let deposit = owner.deposit(right, &letter(number, kind), TTL);
                let answer = ask(&mut self.relay, self.stranger, Ask::Deposit(deposit), now);
                match model.deposit(right, number, kind, wall) {
                    Ok(true) => {
                        let id = envelope_id(&letter(number, kind));
                        let expires = model.stored.iter().find(|stored| stored.id == id).unwrap().expires;
                        assert_eq!(custody(&answer).expires_at.0, expires);
                    }
                    Ok(false) => assert!(matches!(answer, Answer::Collected(_)), "{answer:?}"),
                    Err(code) => assert_eq!(refused(&answer), Some(code)),
                }
            }
            Op::Collect { owner: n, letters } => {
                let (owner, model) = (&self.owners[n as usize], &mut self.model[n as usize]);
                let ids: Vec<_> =
                    letters.iter().map(|(number, kind)| envelope_id(&letter(*number, *kind))).collect();
                let answer = owner.collect(&mut self.relay, ids.clone(), now);
                if model.blocked {
                    assert!(refused(&answer).is_some());
                    return;
                }
                for stored in model.stored.iter().filter(|stored| ids.contains(&stored.id)) {
                    model.collected.insert(stored.id, stored.expires);
                }
                model.stored.retain(|stored| !ids.contains(&stored.id));
                let Answer::Opened(state) = answer else { panic!("{answer:?}") };
                assert_eq!(state.items, model.stored.len() as u64);
            }
            Op::Keys { owner: n, count, replace } => {
                let (owner, model) = (&self.owners[n as usize], &mut self.model[n as usize]);
                let put = Ask::PutBundle {
                    mailbox: owner.mailbox,
                    bundle: Some(bytes::Bytes::from_static(b"bundle")),
                    lifetime: 60 * 86_400,
                    one_time_keys: (0..count).map(|n| [n; 32]).collect(),
                    replace,
                };
                let answer = ask(&mut self.relay, owner.link, put, now);
                if model.blocked {
                    assert!(refused(&answer).is_some());
                } else {
                    model.keys = if replace { 0 } else { model.keys } + u64::from(count);
                    model.bundle = true;
                    let Answer::Opened(state) = answer else { panic!("{answer:?}") };
                    assert_eq!(state.one_time_keys, model.keys);
                }
            }
            Op::Take { owner: n, right } => {
                let (owner, model) = (&self.owners[n as usize], &mut self.model[n as usize]);
                let answer = ask(&mut self.relay, self.stranger, owner.take_bundle(right, 1), now);
                if let Answer::Bundle { one_time_key, .. } = answer {
                    assert!(model.bundle);
                    model.keys -= u64::from(one_time_key.is_some());
                } else {
                    assert!(refused(&answer).is_some());
                }
            }
            Op::Block { owner: n, blocked } => {
                let job = WriteKind::Block(self.owners[n as usize].mailbox, blocked);
                self.operator(job);
                self.model[n as usize].blocked = blocked;
                self.connect();
            }
            Op::Evict { owner: n } => {
                self.operator(WriteKind::Evict(self.owners[n as usize].mailbox));
                self.model[n as usize] = Held::default();
                self.relay.tick(now);
                self.connect();
            }
            Op::Wait { hours } => {
                self.elapsed += hours * limits::HOUR + 17;
                // owners visit, and what is over goes
                self.connect();
                let now = self.now();
                self.relay.tick(now);
                for model in &mut self.model {
                    model.sweep(now.wall.0);
                }
            }
            Op::Restart => {
                self.relay.restart(now);
                self.connect();
            }
            Op::Conflict => self.relay.conflicts = 2,
        }
    }

    fn operator(&mut self, kind: WriteKind) {
        let job = WriteJob { link: None, request: 0, kind };
        let now = self.now();
        let outcome = self.relay.decide(&job, now);
        self.relay.mailbox().finish_write(&job, outcome);
    }

    fn compare(&mut self) {
        let now = self.now();
        self.relay.tick(now);
        assert_eq!(self.relay.audit(), []);
        let totals = self.relay.rows().totals();
        let stored: usize = self.model.iter().map(|model| model.stored.len()).sum();
        let tombstones: usize = self.model.iter().map(|model| model.collected.len()).sum();
        let bytes: u64 = self.model.iter().flat_map(|model| &model.stored).map(|stored| stored.size).sum();
        assert_eq!(
            (totals.mailboxes, totals.envelopes, totals.tombstones, totals.bytes),
            (2, stored as i64, tombstones as i64, bytes as i64)
        );
        for (owner, model) in self.owners.iter().zip(&self.model) {
            if model.blocked {
                continue;
            }
            let expected: Vec<_> =
                model.stored.iter().map(|s| (s.id, owner.right(s.right).id, s.cursor)).collect();
            // in pages, as a device does
            let (mut got, mut after) = (Vec::new(), 0);
            loop {
                let page = listed(&owner.list(&mut self.relay, after, 2, now));
                let Some((_, _, cursor)) = page.last() else { break };
                after = *cursor;
                got.extend(page);
            }
            assert_eq!(got, expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_relay_is_its_model(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
            world.compare();
        }
    }
}
