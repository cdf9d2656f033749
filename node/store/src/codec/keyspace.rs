//! Where each kind of row and index lies. These numbers are the store's format: they never change their meaning.

use kith_protocol::record::{Key, KeyRange, Row};

use super::Codec;

/// Commit number and row count, written in every batch.
pub(crate) const META: &[u8] = &[0x01, 0x01];
/// The newest schema version that wrote here.
pub(crate) const SCHEMA_KEY: &[u8] = &[0x01, 0x02];
/// First keyspace of rows.
pub(crate) const FIRST_ROW: u8 = 0x10;
/// First keyspace of indexes and chunks: all of it can be made again from the rows below.
pub(crate) const FIRST_INDEX: u8 = 0x80;
/// conversation ‖ order ‖ device ‖ entry, for visible entries.
pub(crate) const SPACE_HISTORY: u8 = 0x80;
/// time of the last activity ‖ conversation.
const SPACE_ACTIVITY: u8 = 0x81;
/// start of the entry's id ‖ entry.
const SPACE_ENTRY_START: u8 = 0x82;
/// row ‖ generation ‖ number.
const SPACE_CHUNK: u8 = 0xc0;

const ENTRY: u8 = 0x24;
const CONVERSATION: u8 = 0x23;

/// Bytes of an entry id that programs and people abbreviate it to at least.
pub(crate) const ENTRY_START: usize = 4;

fn space(key: &Key) -> u8 {
    match key {
        Key::Own => 0x10,
        Key::Settings => 0x11,
        Key::Clock => 0x12,
        Key::Counters => 0x13,
        Key::Restoration => 0x14,
        Key::Telling => 0x15,
        Key::Contact(_) => 0x18,
        Key::Owner(_) => 0x19,
        Key::DeviceList(_) => 0x1a,
        Key::Peer(_) => 0x1b,
        Key::Invite(_) => 0x1c,
        Key::Session(..) => 0x1d,
        Key::Prekey(_) => 0x1e,
        Key::Replay(_) => 0x1f,
        Key::Seen(_) => 0x20,
        Key::Conversation(_) => CONVERSATION,
        Key::Entry(_) => ENTRY,
        Key::Stream(_) => 0x25,
        Key::StreamEntry(..) => 0x26,
        Key::Annotation(..) => 0x27,
        Key::Client(_) => 0x28,
        Key::Delivery(..) => 0x29,
        Key::Outbox(_) => 0x2a,
        Key::Job(..) => 0x2b,
        Key::Frontier(..) => 0x2c,
        Key::Event(_) => 0x2d,
        Key::Relay(_) => 0x30,
        Key::Grant(..) => 0x31,
        Key::OneTimeKey(_) => 0x32,
        Key::SessionCopy(..) => 0x33,
        Key::Carriage(..) => 0x34,
    }
}

/// Key bytes under construction.
struct Parts<'a> {
    codec: &'a Codec,
    space: u8,
    bytes: Vec<u8>,
}

impl Parts<'_> {
    fn id(mut self, id: &[u8]) -> Self {
        // the place in the key goes into the hash: one id in two roles gives two unlinkable values
        let place = u8::try_from(self.bytes.len()).unwrap_or(u8::MAX);
        self.bytes.extend_from_slice(&self.codec.blind(self.space, place, id));
        self
    }

    fn number(mut self, number: u64) -> Self {
        self.bytes.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    fn done(self) -> Vec<u8> {
        self.bytes
    }
}

impl Codec {
    fn parts(&self, space: u8) -> Parts<'_> {
        let mut bytes = Vec::with_capacity(64);
        bytes.push(space);
        Parts { codec: self, space, bytes }
    }

    /// The bytes a row stands under.
    pub(crate) fn key(&self, key: &Key) -> Vec<u8> {
        let parts = self.parts(space(key));
        match key {
            Key::Own | Key::Settings | Key::Clock | Key::Counters | Key::Restoration | Key::Telling => parts,
            Key::Contact(account) | Key::DeviceList(account) => parts.id(&account.0),
            Key::Owner(device) | Key::Peer(device) | Key::Outbox(device) => parts.id(&device.0),
            Key::Invite(id) => parts.id(&id.0),
            Key::Session(device, session) => parts.id(&device.0).id(&session.0),
            Key::Prekey(id) => parts.raw(&id.to_be_bytes()),
            Key::Replay(base_key) => parts.id(base_key),
            Key::Seen(envelope) => parts.id(&envelope.0),
            Key::Conversation(id) => parts.id(&id.0),
            Key::Entry(id) => parts.id(&id.0),
            Key::Stream(id) => parts.id(&id.0),
            Key::StreamEntry(stream, number, entry) => parts.id(&stream.0).number(*number).id(&entry.0),
            Key::Annotation(target, by) => parts.id(&target.0).id(&by.0),
            Key::Client(id) => parts.id(&id.0),
            Key::Delivery(entry, device) => parts.id(&entry.0).id(&device.0),
            Key::Job(device, seq) => parts.id(&device.0).number(*seq),
            Key::Frontier(device, stream) => parts.id(&device.0).id(&stream.0),
            Key::Event(cursor) => parts.number(*cursor),
            Key::Relay(relay) => parts.id(&relay.0),
            Key::Grant(relay, right) => parts.id(&relay.0).id(&right.0),
            Key::OneTimeKey(public) => parts.id(public),
            Key::SessionCopy(device, session, first) => parts.id(&device.0).id(&session.0).number(*first),
            Key::Carriage(device, seq) => parts.id(&device.0).number(*seq),
        }
        .done()
    }

    /// What the keys of a range start with.
    pub(crate) fn prefix(&self, range: &KeyRange) -> Vec<u8> {
        match range {
            KeyRange::Contacts => self.parts(0x18),
            KeyRange::DeviceLists => self.parts(0x1a),
            KeyRange::Invites => self.parts(0x1c),
            KeyRange::Sessions(device) => self.parts(0x1d).id(&device.0),
            KeyRange::Prekeys => self.parts(0x1e),
            KeyRange::Replays => self.parts(0x1f),
            KeyRange::Seen => self.parts(0x20),
            KeyRange::Conversations => self.parts(CONVERSATION),
            KeyRange::Entries => self.parts(ENTRY),
            KeyRange::Streams => self.parts(0x25),
            KeyRange::StreamEntries(stream) => self.parts(0x26).id(&stream.0),
            KeyRange::StreamNumber(stream, number) => self.parts(0x26).id(&stream.0).number(*number),
            KeyRange::Annotations(entry) => self.parts(0x27).id(&entry.0),
            KeyRange::Deliveries(entry) => self.parts(0x29).id(&entry.0),
            KeyRange::Outboxes => self.parts(0x2a),
            KeyRange::Jobs(device) => self.parts(0x2b).id(&device.0),
            KeyRange::Events => self.parts(0x2d),
            KeyRange::Relays => self.parts(0x30),
            KeyRange::Grants(relay) => self.parts(0x31).id(&relay.0),
            KeyRange::OneTimeKeys => self.parts(0x32),
            KeyRange::SessionCopies(device) => self.parts(0x33).id(&device.0),
            KeyRange::AllSessionCopies => self.parts(0x33),
            KeyRange::Carriages(device) => self.parts(0x34).id(&device.0),
        }
        .done()
    }

    /// What the history keys of a conversation start with.
    pub(crate) fn history_prefix(&self, conversation: &[u8; 32]) -> Vec<u8> {
        self.parts(SPACE_HISTORY).id(conversation).done()
    }

    /// The history prefix of all entries of one order.
    pub(crate) fn history_order(&self, conversation: &[u8; 32], order: u64) -> Vec<u8> {
        self.parts(SPACE_HISTORY).id(conversation).number(order).done()
    }

    /// What all activity keys start with.
    pub(crate) fn activity_prefix() -> Vec<u8> {
        vec![SPACE_ACTIVITY]
    }

    /// What the index keys of entries start with whose ids start with these bytes.
    pub(crate) fn entry_start_prefix(&self, start: &[u8; ENTRY_START]) -> Vec<u8> {
        self.parts(SPACE_ENTRY_START).id(start).done()
    }

    /// The index keys of a row. Each ends with the last 16 bytes of the row's own key.
    pub(crate) fn index_keys(&self, row: &Row) -> Vec<Vec<u8>> {
        match row {
            Row::Entry(entry) => {
                let key = self.key(&row.key());
                let tail = tail(&key);
                let start = entry.id.0.first_chunk::<ENTRY_START>().copied().unwrap_or_default();
                let mut keys = vec![self.parts(SPACE_ENTRY_START).id(&start).raw(tail).done()];
                if entry.visible {
                    keys.push(
                        self.parts(SPACE_HISTORY)
                            .id(&entry.conversation.0)
                            .number(entry.order)
                            .id(&entry.device.0)
                            .raw(tail)
                            .done(),
                    );
                }
                keys
            }
            Row::Conversation(conversation) => {
                let key = self.key(&row.key());
                vec![self.parts(SPACE_ACTIVITY).number(conversation.last_activity.0).raw(tail(&key)).done()]
            }
            _ => Vec::new(),
        }
    }

    /// The key of one chunk of a row.
    pub(crate) fn chunk_key(&self, row: &[u8], generation: u64, number: u16) -> Vec<u8> {
        self.parts(SPACE_CHUNK).id(row).number(generation).raw(&number.to_be_bytes()).done()
    }

    /// What an index key holds as its value: proof that we wrote it.
    pub(crate) fn index_value(&self, key: &[u8]) -> Vec<u8> {
        self.blind(SPACE_CHUNK.wrapping_add(1), 0, key).to_vec()
    }

    /// Whether rows of this keyspace have index rows.
    pub(crate) fn is_indexed(key: &Key) -> bool {
        matches!(key, Key::Entry(_) | Key::Conversation(_))
    }
}

fn tail(key: &[u8]) -> &[u8] {
    key.get(key.len().saturating_sub(16)..).unwrap_or_default()
}

/// The key of the row that an index key leads to; `None` for chunks and foreign bytes.
pub(crate) fn index_target(index: &[u8]) -> Option<Vec<u8>> {
    let space = match (*index.first()?, index.len()) {
        (SPACE_HISTORY, 57) | (SPACE_ENTRY_START, 33) => ENTRY,
        (SPACE_ACTIVITY, 25) => CONVERSATION,
        _ => return None,
    };
    let mut key = vec![space];
    key.extend_from_slice(tail(index));
    Some(key)
}

/// Whether a keyspace holds index rows, not chunks.
pub(crate) const fn is_index(space: u8) -> bool {
    space >= FIRST_INDEX && space < SPACE_CHUNK
}
