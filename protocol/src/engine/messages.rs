//! Writing: messages, edits, deletes and reactions become entries, deliveries and jobs in one batch.

use super::command::{Answer, CommandError};
use super::{Engine, Fault};
use crate::entry::{self, Body};
use crate::id::{AccountId, ClientId, ConversationId, DeviceId, EntryId, StreamId};
use crate::identity;
use crate::limits;
use crate::record::{
    Annotation, ClientEntry, Contact, ContactState, Conversation, Custody, Delivery, Entry, EntryKind,
    EventBody, Head, JobBody, Key, KeyRange, Rank, Step, StepKind, Stream, StreamEntry,
};

impl Engine {
    pub(super) fn direct_id(&self, with: AccountId) -> ConversationId {
        identity::direct_conversation(&self.core.own.account, &with)
    }

    /// The conversation with a person, if anything was ever written in it.
    pub(super) fn direct(&self, with: AccountId) -> Result<Option<Conversation>, Fault> {
        self.core.get(&Key::Conversation(self.direct_id(with)))
    }

    pub(super) fn direct_or_new(&self, with: AccountId) -> Result<Conversation, Fault> {
        let id = self.direct_id(with);
        Ok(self.core.get(&Key::Conversation(id))?.unwrap_or(Conversation {
            id,
            with,
            own_stream: None,
            streams: Vec::new(),
            heads: Vec::new(),
            last_order: 0,
            last_activity: self.core.now.wall,
            unread: 0,
            read_up_to: 0,
        }))
    }

    pub(super) fn stream(&self, id: &StreamId) -> Result<Option<Stream>, Fault> {
        self.core.get(&Key::Stream(*id))
    }

    /// Writes a message.
    pub(super) fn send_text(
        &mut self,
        to: AccountId,
        text: String,
        reply_to: Option<EntryId>,
        client: Option<ClientId>,
    ) -> Result<Answer, CommandError> {
        check_text(&text)?;
        if let Some(client) = client
            && let Some(known) = self.core.get::<ClientEntry>(&Key::Client(client))?
        {
            let conversation = self.direct_id(to);
            return Ok(Answer::Sent { entry: known.entry, conversation, repeated: true });
        }
        if let Some(reply_to) = reply_to {
            let target = self.target(&reply_to)?;
            if target.conversation != self.direct_id(to) {
                return Err(CommandError::UnknownMessage);
            }
        }
        let entry = self.write(to, Body::Text { text, reply_to })?;
        if let Some(client) = client {
            self.core.put(ClientEntry { client, entry: entry.id });
        }
        Ok(Answer::Sent { entry: entry.id, conversation: entry.conversation, repeated: false })
    }

    pub(super) fn edit(&mut self, target: EntryId, text: String) -> Result<Answer, CommandError> {
        check_text(&text)?;
        let with = self.own_target(&target)?;
        self.write_about(with, target, Body::Edit { target, text })
    }

    pub(super) fn delete(&mut self, target: EntryId) -> Result<Answer, CommandError> {
        let with = self.own_target(&target)?;
        self.write_about(with, target, Body::Delete { target })
    }

    pub(super) fn react(&mut self, target: EntryId, emoji: String) -> Result<Answer, CommandError> {
        if emoji.len() > limits::REACTION || emoji.chars().any(char::is_control) {
            return Err(CommandError::Invalid(format!(
                "a reaction holds at most {} bytes",
                limits::REACTION
            )));
        }
        let entry = self.target(&target)?;
        if entry.deleted {
            return Err(CommandError::Deleted);
        }
        let with = self.with_of(&entry)?;
        self.write_about(with, target, Body::Reaction { target, emoji })
    }

    fn write_about(&mut self, with: AccountId, target: EntryId, body: Body) -> Result<Answer, CommandError> {
        let entry = self.write(with, body)?;
        self.annotate(target, entry.id)?;
        Ok(Answer::Sent { entry: entry.id, conversation: entry.conversation, repeated: false })
    }

    fn target(&self, id: &EntryId) -> Result<Entry, CommandError> {
        let entry: Option<Entry> = self.core.get(&Key::Entry(*id))?;
        entry.filter(|entry| entry.visible).ok_or(CommandError::UnknownMessage)
    }

    fn own_target(&self, id: &EntryId) -> Result<AccountId, CommandError> {
        let entry = self.target(id)?;
        if entry.author != self.core.own.account {
            return Err(CommandError::NotYours);
        }
        if entry.deleted {
            return Err(CommandError::Deleted);
        }
        self.with_of(&entry)
    }

    fn with_of(&self, entry: &Entry) -> Result<AccountId, CommandError> {
        let conversation: Option<Conversation> = self.core.get(&Key::Conversation(entry.conversation))?;
        Ok(conversation.ok_or(CommandError::UnknownMessage)?.with)
    }

    /// Writes an entry: itself, its place in stream and conversation, and a job for each recipient device.
    fn write(&mut self, with: AccountId, body: Body) -> Result<Entry, CommandError> {
        let recipients = self.recipients(with)?;
        let mut conversation = self.direct_or_new(with)?;
        let mut stream = self.own_stream(&mut conversation)?;
        let now = self.core.now.wall;
        let mut parents: Vec<EntryId> = conversation.heads.iter().map(|head| head.entry).collect();
        parents.sort_unstable();
        let highest =
            conversation.heads.iter().map(|head| head.order).max().unwrap_or(0).max(self.last_own(&stream)?);
        let new = entry::Entry {
            conversation: conversation.id,
            account: self.core.own.account,
            device: self.core.own.device,
            stream: stream.id,
            number: stream.gapless.saturating_add(1),
            previous: (stream.gapless > 0 && stream.gapless_id.0 != [0; 32]).then_some(stream.gapless_id),
            parents,
            time: now,
            order: now.0.max(highest.saturating_add(1)),
            body,
        };
        let (id, bytes) = entry::encode(&new);
        // what we would refuse ourselves must never leave: the other side would drop it for good
        entry::parse(&bytes).map_err(|_| Fault::Internal("writing a message"))?;
        stream.gapless = new.number;
        stream.gapless_id = id;
        stream.read = new.number;
        let visible = matches!(new.body, Body::Text { .. });
        conversation.heads = vec![Head { order: new.order, entry: id }];
        if visible {
            conversation.last_order = conversation.last_order.max(new.order);
            conversation.last_activity = now;
        }
        let rank = if recipients.is_empty() { Rank::Delivered } else { Rank::Queued };
        let row = row_of(&new, id, bytes, now, visible, rank);
        self.core.rows.begin(KeyRange::StreamNumber(stream.id, new.number));
        self.core.rows.begin(KeyRange::Deliveries(id));
        self.core.put(StreamEntry { stream: stream.id, number: new.number, entry: id });
        self.core.put(stream);
        self.core.put(conversation);
        self.core.put(row.clone());
        for (device, account) in recipients {
            self.deliver(id, device, account)?;
        }
        if visible {
            let body = EventBody::Message {
                conversation: row.conversation,
                entry: id,
                author: self.core.own.account,
            };
            self.core.event(body);
        }
        Ok(row)
    }

    fn deliver(&mut self, entry: EntryId, device: DeviceId, account: AccountId) -> Result<(), Fault> {
        let job = self.enqueue(device, account, JobBody::Entry(entry), limits::MESSAGE_TTL, None)?;
        let at = self.core.now.wall;
        let mut steps = vec![Step { at, what: StepKind::Queued, detail: String::new() }];
        if let Some((what, detail)) = self.why_waiting(device) {
            steps.push(Step { at, what, detail });
        }
        self.core.put(Delivery {
            entry,
            device,
            account,
            rank: Rank::Queued,
            proof: None,
            job: Some(job),
            steps,
        });
        Ok(())
    }

    /// The devices a message to a person goes to: theirs, and our own other ones.
    fn recipients(&self, with: AccountId) -> Result<Vec<(DeviceId, AccountId)>, CommandError> {
        let own = self.core.own.account;
        let mut recipients = Vec::new();
        if with != own {
            let contact = self.core.contact(&with)?.ok_or(CommandError::UnknownContact)?;
            check_writable(&contact)?;
            recipients.extend(contact.devices.iter().map(|device| (*device, with)));
        }
        for certificate in &self.core.keys.list.devices {
            if certificate.device != self.core.own.device {
                recipients.push((certificate.device, own));
            }
        }
        Ok(recipients)
    }

    /// Our stream in a conversation, begun if there is none that may be written.
    fn own_stream(&mut self, conversation: &mut Conversation) -> Result<Stream, Fault> {
        if let Some(id) = conversation.own_stream
            && let Some(stream) = self.stream(&id)?
            && !stream.closed
        {
            return Ok(stream);
        }
        let id = StreamId(self.core.random());
        conversation.own_stream = Some(id);
        push_stream(conversation, id);
        Ok(Stream {
            id,
            device: self.core.own.device,
            account: self.core.own.account,
            conversation: conversation.id,
            gapless: 0,
            gapless_id: EntryId([0; 32]),
            beyond: Vec::new(),
            read: 0,
            forked: false,
            closed: false,
        })
    }

    /// Order of our newest entry in a stream: ours ascend even when a head we wrote was forgotten.
    fn last_own(&self, stream: &Stream) -> Result<u64, Fault> {
        let entry: Option<Entry> = self.core.get(&Key::Entry(stream.gapless_id))?;
        Ok(entry.map_or(0, |entry| entry.order))
    }

    /// Notes that one entry speaks of another, and applies it if that one is here.
    pub(super) fn annotate(&mut self, target: EntryId, by: EntryId) -> Result<(), Fault> {
        self.core.put(Annotation { target, by });
        self.apply(target, [by])
    }
}

/// Adds a stream to a conversation; the oldest goes when there are too many.
pub(super) fn push_stream(conversation: &mut Conversation, id: StreamId) {
    if conversation.streams.contains(&id) {
        return;
    }
    if conversation.streams.len() >= limits::STREAMS {
        conversation.streams.remove(0);
    }
    conversation.streams.push(id);
}

/// The row of an entry that was just written or came in.
pub(super) fn row_of(
    entry: &entry::Entry,
    id: EntryId,
    bytes: bytes::Bytes,
    stored: crate::time::Wall,
    visible: bool,
    rank: Rank,
) -> Entry {
    let (kind, text, reply_to) = match &entry.body {
        Body::Text { text, reply_to } => (EntryKind::Text, text.clone(), *reply_to),
        Body::Edit { .. } => (EntryKind::Edit, String::new(), None),
        Body::Delete { .. } => (EntryKind::Delete, String::new(), None),
        Body::Reaction { .. } => (EntryKind::Reaction, String::new(), None),
        Body::Unknown => (EntryKind::Unknown, String::new(), None),
    };
    Entry {
        id,
        conversation: entry.conversation,
        author: entry.account,
        device: entry.device,
        stream: entry.stream,
        number: entry.number,
        order: entry.order,
        time: entry.time,
        stored,
        bytes,
        kind,
        visible,
        text,
        reply_to,
        edited: None,
        deleted: false,
        reactions: Vec::new(),
        late: false,
        recovered: false,
        rank,
        custody: Custody::default(),
    }
}

fn check_text(text: &str) -> Result<(), CommandError> {
    if text.len() > limits::TEXT {
        return Err(CommandError::TooLong { len: text.len(), max: limits::TEXT });
    }
    Ok(())
}

/// Whether messages to a contact can be written now.
fn check_writable(contact: &Contact) -> Result<(), CommandError> {
    match contact.state {
        ContactState::Waiting | ContactState::Accepted => Ok(()),
        ContactState::Blocked => Err(CommandError::Blocked),
        ContactState::Refused | ContactState::Expired | ContactState::Removed => {
            Err(CommandError::NotAContact)
        }
    }
}
