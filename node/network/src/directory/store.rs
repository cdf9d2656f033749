//! Records kept for others, in memory: bounded, checked, the newest of each key.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use kith_protocol::{DirectoryKey, Wall, directory, limits};
use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore};
use libp2p::kad::{KBucketKey, ProviderRecord, Record, RecordKey};
use thiserror::Error as ThisError;

use crate::config::Limits;
use crate::environment::Environment;
use crate::gate::Network;

/// Why a record was not stored.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub(crate) enum Rejected {
    #[error("the key has not 32 bytes")]
    Key,
    #[error("a record of {0} bytes")]
    Size(usize),
    #[error("{0}")]
    Invalid(String),
    #[error("a newer or different record of this key is stored")]
    Stale,
    #[error("its source has stored enough")]
    Source,
    #[error("the store is full of nearer records")]
    Full,
}

/// Who brought a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) peer: PeerId,
    pub(crate) network: Network,
}

struct Stored {
    value: Vec<u8>,
    seq: u64,
    expires: Wall,
    /// `None`: this node itself; never evicted.
    source: Option<Source>,
}

/// The store behind libp2p's Kademlia.
pub(crate) struct Store {
    environment: Arc<dyn Environment>,
    local: KBucketKey<PeerId>,
    records: HashMap<DirectoryKey, Stored>,
    max: usize,
    max_per_source: usize,
    max_per_network: usize,
}

pub(crate) fn record_key(key: &DirectoryKey) -> RecordKey {
    RecordKey::new(key.as_bytes())
}

/// The directory key that Kademlia's bytes stand for.
pub(crate) fn directory_key(key: &RecordKey) -> Option<DirectoryKey> {
    DirectoryKey::try_from(key.as_ref()).ok()
}

/// Checks a record, whoever it came from, and returns its number and end.
pub(crate) fn check(key: &DirectoryKey, value: &[u8], now: Wall) -> Result<(u64, Wall), Rejected> {
    if value.is_empty() || value.len() > limits::DIRECTORY_RECORD {
        return Err(Rejected::Size(value.len()));
    }
    let outer = directory::check(key, value, now).map_err(|error| Rejected::Invalid(error.to_string()))?;
    Ok((outer.seq, outer.expires))
}

impl Store {
    pub(crate) fn new(environment: Arc<dyn Environment>, local: PeerId, limits: &Limits) -> Self {
        Self {
            environment,
            local: KBucketKey::from(local),
            records: HashMap::new(),
            max: limits.records.max(1),
            max_per_source: limits.records_per_source,
            max_per_network: limits.records_per_network,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Stores a record if it is valid, newer than what is there, and its source has not stored too much.
    pub(crate) fn insert(&mut self, record: Record, source: Option<Source>) -> Result<(), Rejected> {
        let key = directory_key(&record.key).ok_or(Rejected::Key)?;
        let now = self.environment.wall();
        let (seq, expires) = check(&key, &record.value, now)?;
        if let Some(stored) = self.records.get_mut(&key)
            && stored.expires > now
        {
            if stored.seq > seq || (stored.seq == seq && stored.value != record.value) {
                return Err(Rejected::Stale);
            }
            stored.value = record.value;
            stored.seq = seq;
            stored.expires = expires;
            if source.is_none() {
                stored.source = None;
            }
            return Ok(());
        }
        self.records.remove(&key);
        if let Some(source) = source {
            self.make_room(&key, source, now)?;
        }
        self.records.insert(key, Stored { value: record.value, seq, expires, source });
        Ok(())
    }

    /// Forgets an own record.
    pub(crate) fn withdraw(&mut self, key: &DirectoryKey) {
        self.records.remove(key);
    }

    /// Drops what has expired.
    pub(crate) fn sweep(&mut self) {
        let now = self.environment.wall();
        self.records.retain(|_, stored| stored.expires > now);
    }

    fn make_room(&mut self, key: &DirectoryKey, source: Source, now: Wall) -> Result<(), Rejected> {
        let of = |matches: &dyn Fn(Source) -> bool| {
            self.records.values().filter(|stored| stored.source.is_some_and(matches)).count()
        };
        // Everybody on this machine comes from one network.
        let crowded = source.network != Network::Loopback
            && of(&|other| other.network == source.network) >= self.max_per_network;
        if crowded || of(&|other| other.peer == source.peer) >= self.max_per_source {
            return Err(Rejected::Source);
        }
        if self.records.len() < self.max {
            return Ok(());
        }
        self.records.retain(|_, stored| stored.expires > now);
        if self.records.len() < self.max {
            return Ok(());
        }
        let distance = |key: &DirectoryKey| self.local.distance(&KBucketKey::new(record_key(key)));
        let farthest = self
            .records
            .iter()
            .filter(|(_, stored)| stored.source.is_some())
            .map(|(key, _)| (distance(key), *key))
            .max();
        match farthest {
            Some((far, evicted)) if far > distance(key) => {
                self.records.remove(&evicted);
                Ok(())
            }
            _ => Err(Rejected::Full),
        }
    }

    fn record(key: &DirectoryKey, stored: &Stored) -> Record {
        Record::new(record_key(key), stored.value.clone())
    }
}

impl RecordStore for Store {
    type RecordsIter<'a> = std::vec::IntoIter<Cow<'a, Record>>;
    type ProvidedIter<'a> = std::iter::Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        let key = directory_key(key)?;
        let stored = self.records.get(&key)?;
        (stored.expires > self.environment.wall()).then(|| Cow::Owned(Self::record(&key, stored)))
    }

    fn put(&mut self, record: Record) -> Result<(), Error> {
        self.insert(record, None).map_err(|_| Error::ValueTooLarge)
    }

    fn remove(&mut self, key: &RecordKey) {
        if let Some(key) = directory_key(key) {
            self.records.remove(&key);
        }
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        let records: Vec<_> =
            self.records.iter().map(|(key, stored)| Cow::Owned(Self::record(key, stored))).collect();
        records.into_iter()
    }

    // Provider records are not part of this directory.
    fn add_provider(&mut self, _: ProviderRecord) -> Result<(), Error> {
        Err(Error::MaxProvidedKeys)
    }

    fn providers(&self, _: &RecordKey) -> Vec<ProviderRecord> {
        Vec::new()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        std::iter::empty()
    }

    fn remove_provider(&mut self, _: &RecordKey, _: &PeerId) {}
}
