//! Searches and publications under way, and when own records are published again.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use kith_protocol::{DirectoryKey, Mono, Wall, limits};
use libp2p::PeerId;
use libp2p::kad::{self, GetRecordOk, QueryId, QueryResult, Quorum, Record};
use tracing::{debug, warn};

use super::store::{Rejected, Store, check, directory_key, record_key};
use crate::environment::Environment;

/// Queries under way at once; the rest waits.
const MAX_RUNNING: usize = 16;
/// Searches under way or waiting.
const MAX_FINDS: usize = 1024;
/// Records provided.
const MAX_PROVIDED: usize = 1024;
/// A search is over once so many nodes have given the same newest record, and nobody a newer one.
const ENOUGH_COPIES: usize = 4;
/// First and longest pause after a publication that was not read back.
const RETRY_MIN: u64 = 2_000;
const RETRY_MAX: u64 = limits::DIRECTORY_REPUBLISH / 6;
/// A directory node that comes back is given our records again, at most this often,
const PUSH_INTERVAL: u64 = 60_000;
/// so many of them,
const MAX_PUSHED: usize = 64;
/// and so many such nodes are remembered.
const MAX_PUSH_PEERS: usize = 256;

/// What the directory tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Found { key: DirectoryKey, record: Bytes },
    FindEnded { key: DirectoryKey },
    Provided { key: DirectoryKey, stored: bool },
}

type Kad = kad::Behaviour<Store>;

enum Query {
    Find(DirectoryKey),
    /// Looking for the nodes that shall hold the record.
    Locate(DirectoryKey),
    Put(DirectoryKey),
    ReadBack(DirectoryKey),
    /// Giving a returned node what it may have lost.
    Push,
}

#[derive(Default)]
struct Find {
    best: Option<(u64, Bytes)>,
    copies: usize,
}

struct Provided {
    record: Bytes,
    seq: u64,
    ends: Wall,
    due: Mono,
    failures: u32,
    /// A publication is under way.
    busy: bool,
    /// Changed meanwhile: publish again at once.
    again: bool,
    copies: HashSet<PeerId>,
}

enum Job {
    Find(DirectoryKey),
    Publish(DirectoryKey),
}

pub(crate) struct Keeper {
    environment: Arc<dyn Environment>,
    queries: HashMap<QueryId, Query>,
    finds: HashMap<DirectoryKey, Find>,
    provided: BTreeMap<DirectoryKey, Provided>,
    waiting: VecDeque<Job>,
    pushed: HashMap<PeerId, Mono>,
    outcomes: Vec<Outcome>,
}

impl Keeper {
    pub(crate) fn new(environment: Arc<dyn Environment>) -> Self {
        Self {
            environment,
            queries: HashMap::new(),
            finds: HashMap::new(),
            provided: BTreeMap::new(),
            waiting: VecDeque::new(),
            pushed: HashMap::new(),
            outcomes: Vec::new(),
        }
    }

    /// What happened since the last call.
    pub(crate) fn take_outcomes(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.outcomes)
    }

    pub(crate) fn find(&mut self, kad: &mut Kad, key: DirectoryKey) {
        if self.finds.contains_key(&key) {
            return;
        }
        if self.finds.len() >= MAX_FINDS {
            debug!(%key, "too many searches at once");
            self.outcomes.push(Outcome::FindEnded { key });
            return;
        }
        self.finds.insert(key, Find::default());
        self.waiting.push_back(Job::Find(key));
        self.run(kad);
    }

    pub(crate) fn provide(&mut self, kad: &mut Kad, key: DirectoryKey, record: Bytes, ttl: u64) {
        let now = self.environment.wall();
        let seq = match check(&key, &record, now) {
            Ok((seq, _)) => seq,
            Err(rejected) => return self.refuse(key, &rejected),
        };
        let known = self.provided.contains_key(&key);
        if !known && self.provided.len() >= MAX_PROVIDED {
            return self.refuse(key, &Rejected::Full);
        }
        let own = Record::new(record_key(&key), record.to_vec());
        if let Err(rejected) = kad.store_mut().insert(own, None) {
            return self.refuse(key, &rejected);
        }
        let due = self.environment.mono();
        let ends = now.plus(ttl);
        match self.provided.get_mut(&key) {
            Some(provided) => {
                provided.again = provided.busy;
                (provided.record, provided.seq, provided.ends, provided.due) = (record, seq, ends, due);
                provided.failures = 0;
            }
            None => {
                let (copies, failures) = (HashSet::new(), 0);
                let new = Provided { record, seq, ends, due, failures, busy: false, again: false, copies };
                self.provided.insert(key, new);
            }
        }
        self.publish_due(kad);
    }

    fn refuse(&mut self, key: DirectoryKey, rejected: &Rejected) {
        warn!(%key, "own directory record not published: {rejected}");
        self.outcomes.push(Outcome::Provided { key, stored: false });
    }

    pub(crate) fn withdraw(&mut self, kad: &mut Kad, key: &DirectoryKey) {
        if self.provided.remove(key).is_some() {
            kad.store_mut().withdraw(key);
        }
    }

    /// The directory was out of reach and is back: publish everything now.
    pub(crate) fn ready(&mut self, kad: &mut Kad) {
        let now = self.environment.mono();
        for provided in self.provided.values_mut() {
            provided.due = now;
            provided.failures = 0;
        }
        self.publish_due(kad);
    }

    /// A directory node (re)connected: it may have lost what it held. In a large directory it is one of many and
    /// `closest` is false.
    pub(crate) fn push(&mut self, kad: &mut Kad, peer: PeerId, closest: bool) {
        let now = self.environment.mono();
        let recent = self.pushed.get(&peer).is_some_and(|at| now.since(*at) < PUSH_INTERVAL);
        if !closest || recent || self.provided.is_empty() {
            return;
        }
        if self.pushed.len() >= MAX_PUSH_PEERS {
            self.pushed.retain(|_, at| now.since(*at) < PUSH_INTERVAL);
            if self.pushed.len() >= MAX_PUSH_PEERS {
                return;
            }
        }
        self.pushed.insert(peer, now);
        for (key, provided) in self.provided.iter().take(MAX_PUSHED) {
            let record = Record::new(record_key(key), provided.record.to_vec());
            let id = kad.put_record_to(record, [peer].into_iter(), Quorum::One);
            self.queries.insert(id, Query::Push);
        }
    }

    /// Does what is due; call about once a second.
    pub(crate) fn tick(&mut self, kad: &mut Kad) {
        let now = self.environment.wall();
        let over: Vec<_> =
            self.provided.iter().filter(|(_, provided)| provided.ends <= now).map(|(key, _)| *key).collect();
        for key in over {
            debug!(%key, "own directory record has ended");
            self.withdraw(kad, &key);
        }
        self.publish_due(kad);
    }

    fn publish_due(&mut self, kad: &mut Kad) {
        let now = self.environment.mono();
        for (key, provided) in &mut self.provided {
            if provided.due <= now && !provided.busy {
                provided.busy = true;
                self.waiting.push_back(Job::Publish(*key));
            }
        }
        self.run(kad);
    }

    fn run(&mut self, kad: &mut Kad) {
        while self.queries.len() < MAX_RUNNING
            && let Some(job) = self.waiting.pop_front()
        {
            let (id, query) = match job {
                Job::Find(key) => (kad.get_record(record_key(&key)), Query::Find(key)),
                Job::Publish(key) if self.provided.contains_key(&key) => {
                    (kad.get_closest_peers(key.as_bytes().to_vec()), Query::Locate(key))
                }
                // Withdrawn meanwhile.
                Job::Publish(_) => continue,
            };
            self.queries.insert(id, query);
        }
    }

    /// Takes a step of one of our queries.
    pub(crate) fn progressed(&mut self, kad: &mut Kad, id: QueryId, result: QueryResult, last: bool) {
        let Some(query) = self.queries.get(&id) else { return };
        match (query, result) {
            (&Query::Find(key), QueryResult::GetRecord(result)) => self.find_step(kad, id, key, result, last),
            (&Query::Locate(key), QueryResult::GetClosestPeers(result)) if last => {
                self.queries.remove(&id);
                let peers = match result {
                    Ok(found) => found.peers,
                    Err(kad::GetClosestPeersError::Timeout { peers, .. }) => peers,
                };
                self.located(kad, key, peers.into_iter().map(|peer| peer.peer_id).collect());
            }
            (&Query::Put(key), QueryResult::PutRecord(result)) if last => {
                self.queries.remove(&id);
                if let Err(error) = result {
                    debug!(%key, "putting a record: {error}");
                }
                if let Some(provided) = self.provided.get_mut(&key) {
                    provided.copies.clear();
                    let id = kad.get_record(record_key(&key));
                    self.queries.insert(id, Query::ReadBack(key));
                }
            }
            (&Query::ReadBack(key), QueryResult::GetRecord(result)) => {
                self.read_back(kad, id, key, result, last);
            }
            (Query::Push, _) if last => {
                self.queries.remove(&id);
            }
            _ if last => {
                self.queries.remove(&id);
            }
            _ => {}
        }
        self.run(kad);
    }

    fn find_step(
        &mut self,
        kad: &mut Kad,
        id: QueryId,
        key: DirectoryKey,
        result: kad::GetRecordResult,
        last: bool,
    ) {
        let now = self.environment.wall();
        let mut enough = false;
        if let Ok(GetRecordOk::FoundRecord(found)) = result
            && let Some(find) = self.finds.get_mut(&key)
        {
            match check_found(&key, &found.record, now) {
                Err(rejected) => debug!(%key, from = ?found.peer, "a found record is not valid: {rejected}"),
                Ok(seq) => match &find.best {
                    Some((best, record)) if *best == seq => {
                        find.copies += usize::from(record[..] == found.record.value[..]);
                        enough = find.copies >= ENOUGH_COPIES;
                    }
                    Some((best, _)) if *best > seq => {}
                    _ => {
                        let record = Bytes::from(found.record.value);
                        find.copies = 1;
                        find.best = Some((seq, record.clone()));
                        self.outcomes.push(Outcome::Found { key, record });
                    }
                },
            }
        }
        if enough && let Some(mut query) = kad.query_mut(&id) {
            query.finish();
        }
        if last {
            self.queries.remove(&id);
            self.finds.remove(&key);
            self.outcomes.push(Outcome::FindEnded { key });
        }
    }

    fn located(&mut self, kad: &mut Kad, key: DirectoryKey, peers: Vec<PeerId>) {
        let Some(provided) = self.provided.get(&key) else { return };
        if peers.is_empty() {
            return self.published(kad, key, false);
        }
        debug!(%key, nodes = peers.len(), "publishing a directory record");
        // No publisher: who keeps the record need not learn whose it is.
        let record = Record::new(record_key(&key), provided.record.to_vec());
        let id = kad.put_record_to(record, peers.into_iter(), Quorum::One);
        self.queries.insert(id, Query::Put(key));
    }

    fn read_back(
        &mut self,
        kad: &mut Kad,
        id: QueryId,
        key: DirectoryKey,
        result: kad::GetRecordResult,
        last: bool,
    ) {
        let now = self.environment.wall();
        let mut enough = false;
        if let Ok(GetRecordOk::FoundRecord(found)) = &result
            && let (Some(peer), Some(provided)) = (found.peer, self.provided.get_mut(&key))
            && check_found(&key, &found.record, now).is_ok_and(|seq| seq >= provided.seq)
        {
            provided.copies.insert(peer);
            enough = provided.copies.len() >= ENOUGH_COPIES;
        }
        if enough && let Some(mut query) = kad.query_mut(&id) {
            query.finish();
        }
        if last {
            self.queries.remove(&id);
            let copies = self.provided.get(&key).map_or(0, |provided| provided.copies.len());
            self.published(kad, key, copies > 0);
        }
    }

    fn published(&mut self, kad: &mut Kad, key: DirectoryKey, stored: bool) {
        let now = self.environment.mono();
        let mut random = [0; 2];
        self.environment.rng().fill_bytes(&mut random);
        // 7/8 to 9/8, so that nodes started together drift apart.
        let jitter =
            |millis: u64| millis * (7 * 65536 + 2 * u64::from(u16::from_le_bytes(random))) / (8 * 65536);
        let Some(provided) = self.provided.get_mut(&key) else { return };
        provided.busy = false;
        if std::mem::take(&mut provided.again) {
            return self.publish_due(kad);
        }
        if stored {
            provided.failures = 0;
            provided.due = now.plus(jitter(limits::DIRECTORY_REPUBLISH));
        } else {
            let pause = RETRY_MIN.saturating_mul(1 << provided.failures.min(16)).min(RETRY_MAX);
            provided.failures = provided.failures.saturating_add(1);
            provided.due = now.plus(jitter(pause));
        }
        debug!(%key, stored, "directory record published");
        self.outcomes.push(Outcome::Provided { key, stored });
    }
}

fn check_found(key: &DirectoryKey, record: &Record, now: Wall) -> Result<u64, Rejected> {
    if directory_key(&record.key).as_ref() != Some(key) {
        return Err(Rejected::Key);
    }
    check(key, &record.value, now).map(|(seq, _)| seq)
}
