//! Rows and stores for the tests of this crate.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use kith_protocol::id::{AccountId, ConversationId, DeviceId, EntryId, InviteId, StreamId};
use kith_protocol::record::{
    Change, Clock, Contact, ContactState, Conversation, Custody, Delivery, Entry, EntryKind, Event,
    EventBody, Invite, InviteState, Job, JobBody, Key, Rank, Row, Seen, Step, StepKind, StreamEntry,
};
use kith_protocol::secret::Secret32;
use kith_protocol::time::Wall;
use kith_store::{EngineKind, MasterKey, MemoryDisk, OpenReport, Store, StoreConfig};

pub fn key() -> MasterKey {
    MasterKey::from_bytes([7; 32])
}

/// 32 bytes that differ for different numbers.
pub fn id(kind: u8, n: u64) -> [u8; 32] {
    let mut bytes = [kind; 32];
    bytes[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    bytes[8..16].copy_from_slice(&n.to_be_bytes());
    bytes
}

pub fn conversation_id(n: u64) -> ConversationId {
    ConversationId(id(1, n))
}

pub fn entry_id(n: u64) -> EntryId {
    EntryId(id(2, n))
}

pub fn device_id(n: u64) -> DeviceId {
    DeviceId(id(3, n))
}

pub fn account_id(n: u64) -> AccountId {
    AccountId(id(4, n))
}

pub fn stream_id(n: u64) -> StreamId {
    StreamId(id(5, n)[..16].try_into().unwrap())
}

pub fn entry(conversation: u64, n: u64) -> Entry {
    Entry {
        id: entry_id(n),
        conversation: conversation_id(conversation),
        author: account_id(n % 3),
        device: device_id(n % 5),
        stream: stream_id(n % 5),
        number: n,
        order: n,
        time: Wall(1_000 + n),
        stored: Wall(2_000 + n),
        bytes: Bytes::from(format!("canonical bytes of message {n}")),
        kind: EntryKind::Text,
        visible: true,
        text: format!("Message number {n}"),
        reply_to: None,
        edited: None,
        deleted: false,
        reactions: Vec::new(),
        late: false,
        recovered: false,
        rank: Rank::Queued,
        custody: Custody::default(),
    }
}

pub fn long_entry(conversation: u64, n: u64, len: usize) -> Entry {
    let text: String = (0..len).map(|at| char::from(b'a' + ((at as u64 * 7 + n) % 26) as u8)).collect();
    Entry { bytes: Bytes::from(text.clone()), text, ..entry(conversation, n) }
}

pub fn conversation(n: u64, activity: u64) -> Conversation {
    Conversation {
        id: conversation_id(n),
        with: account_id(n),
        own_stream: None,
        streams: Vec::new(),
        heads: Vec::new(),
        last_order: activity,
        last_activity: Wall(activity),
        unread: 0,
        read_up_to: 0,
    }
}

pub fn contact(n: u64, name: &str) -> Contact {
    Contact {
        account: account_id(n),
        name: name.to_owned(),
        about: String::new(),
        own_name: None,
        state: ContactState::Accepted,
        verified: false,
        read_receipts: None,
        since: Wall(n),
        last_seen: None,
        contact_key: Some(Secret32::new(id(9, n))),
        pending: None,
        before_block: None,
        devices: Vec::new(),
    }
}

pub fn event(cursor: u64) -> Event {
    let body = EventBody::Message {
        conversation: conversation_id(1),
        entry: entry_id(cursor),
        author: account_id(1),
    };
    Event { cursor, at: Wall(cursor), body }
}

pub fn delivery(entry: u64, device: u64) -> Delivery {
    Delivery {
        entry: entry_id(entry),
        device: device_id(device),
        account: account_id(device),
        rank: Rank::Queued,
        proof: None,
        job: Some(entry),
        steps: vec![Step { at: Wall(entry), what: StepKind::Queued, detail: String::new() }],
    }
}

pub fn job(device: u64, seq: u64) -> Job {
    Job {
        device: device_id(device),
        seq,
        body: JobBody::Entry(entry_id(seq)),
        created: Wall(seq),
        ttl: 1_000,
        sealed: None,
    }
}

pub fn stream_entry(stream: u64, number: u64) -> StreamEntry {
    StreamEntry { stream: stream_id(stream), number, entry: entry_id(number) }
}

pub fn seen(n: u64) -> Seen {
    Seen { envelope: id(6, n)[..16].try_into().map(kith_protocol::id::EnvelopeId).unwrap(), until: Wall(n) }
}

pub fn invite(n: u64) -> Invite {
    Invite {
        id: InviteId(id(7, n)[..8].try_into().unwrap()),
        secret: Secret32::new(id(8, n)),
        directory_seed: Secret32::new(id(9, n)),
        created: Wall(n),
        expires: Wall(n + 10),
        uses: 1,
        uses_total: 1,
        state: InviteState::Live,
        used_by: Vec::new(),
    }
}

pub fn put(row: impl Into<Row>) -> Change {
    Change::Put(row.into())
}

/// What sending one message writes: ten rows, one of them overwritten each time.
pub fn message(n: u64) -> Vec<Change> {
    let text = if n.is_multiple_of(16) { long_entry(1, n, 6_000) } else { entry(1, n) };
    let mut changes = vec![
        put(text),
        put(conversation(1, n)),
        put(stream_entry(1, n)),
        put(delivery(n, 1)),
        put(delivery(n, 2)),
        put(job(1, n)),
        put(job(2, n)),
        put(event(n)),
        put(Clock { believed: Wall(n) }),
        put(seen(n)),
    ];
    if n > 20 {
        changes.push(Change::Delete(Key::Job(device_id(1), n - 20)));
    }
    changes
}

pub const DISK_ENGINES: [EngineKind; 2] = [EngineKind::Sled, EngineKind::Redb];

pub fn config(path: &Path, engine: EngineKind) -> StoreConfig {
    StoreConfig { min_free_bytes: 0, cache_bytes: 8 * 1024 * 1024, ..StoreConfig::new(path, engine, key()) }
}

/// A place for one store of any engine, that can be opened again and again.
pub struct Place {
    pub engine: EngineKind,
    pub folder: tempfile::TempDir,
    pub disk: MemoryDisk,
}

impl Place {
    pub fn new(engine: EngineKind) -> Self {
        Self { engine, folder: tempfile::tempdir().unwrap(), disk: MemoryDisk::default() }
    }

    pub fn config(&self) -> StoreConfig {
        match self.engine {
            EngineKind::Memory => StoreConfig::memory(self.disk.clone(), key()),
            engine => config(self.folder.path(), engine),
        }
    }

    pub fn open(&self) -> Store {
        self.open_report().0
    }

    pub fn open_report(&self) -> (Store, OpenReport) {
        Store::open(self.config()).unwrap()
    }

    /// The folder of the engine in use.
    pub fn engine_folder(&self) -> PathBuf {
        std::fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                let name = path.file_name().unwrap().to_str().unwrap();
                name.starts_with(&format!("{}-", self.engine))
            })
            .max()
            .unwrap()
    }

    /// The engine's largest file.
    pub fn engine_file(&self) -> PathBuf {
        let name = if self.engine == EngineKind::Sled { "db" } else { "data.redb" };
        self.engine_folder().join(name)
    }
}

/// Compares all that messages `from..=to` left behind.
pub fn assert_messages(store: &Store, from: u64, to: u64) {
    use kith_protocol::record::Reader as _;
    for n in from..=to {
        for change in message(n) {
            let Change::Put(row) = change else { continue };
            // overwritten by each message
            if matches!(row, Row::Clock(_) | Row::Conversation(_)) {
                continue;
            }
            if matches!(&row, Row::Job(job) if job.device == device_id(1)) && n + 20 <= to {
                continue;
            }
            assert_eq!(store.get(&row.key()).unwrap().as_ref(), Some(&row), "message {n}");
        }
    }
}
