//! Views made of stored rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use kith_protocol::engine::own_directory_key;
use kith_protocol::identity::{direct_conversation, safety_number};
use kith_protocol::record::{
    Annotation, Contact, ContactState, Conversation, Counters, Delivery, Entry, EntryKind, Event, Invite,
    InviteState, Key, KeyRange, Outbox, Own, Rank, Record, Relay, Settings, Stream,
};
use kith_protocol::wire::RefusedReason;
use kith_protocol::{AccountId, ConversationId, EntryId, StreamId, Wall};

use super::error::Error;
use super::library::{Library, all, get};
use super::view::{
    ChangeView, ContactStatus, ContactView, ConversationView, DeviceJourneyView, Direction, InviteListView,
    InviteStatus, JourneyView, MessageView, NodeView, ProfileView, ReactionView, RelayView, SafetyView,
    SettingsView, Status, StepView, step_word,
};
use super::who::Person;
use crate::runtime::{NetworkFacts, Presence};

/// Largest page of history or search.
pub(crate) const PAGE: u32 = 1_000;

/// Edits, deletions and reactions of one message that are looked at for its deletion.
const ANNOTATIONS: usize = 1_000;

/// Reads rows and shows them.
#[derive(Clone)]
pub(crate) struct Reads {
    library: Arc<dyn Library>,
    presence: Arc<Presence>,
    own: AccountId,
}

impl Reads {
    pub(crate) fn open(library: Arc<dyn Library>, presence: Arc<Presence>) -> Result<Self, Error> {
        let own: Own = get(library.as_ref(), &Key::Own)?.ok_or_else(no_account)?;
        Ok(Self { library, presence, own: own.account })
    }

    pub(crate) fn own(&self) -> Result<Own, Error> {
        get(self.library.as_ref(), &Key::Own)?.ok_or_else(no_account)
    }

    pub(crate) fn profile(&self) -> Result<ProfileView, Error> {
        let own = self.own()?;
        Ok(ProfileView {
            account: own.account,
            device: own.device,
            peer_id: own.device.peer_id().map(|peer| peer.to_string()).unwrap_or_default(),
            name: own.name,
            about: own.about,
        })
    }

    pub(crate) fn settings(&self) -> Result<SettingsView, Error> {
        let settings: Settings = get(self.library.as_ref(), &Key::Settings)?.unwrap_or_default();
        Ok(SettingsView { read_receipts: settings.read_receipts, typing: settings.typing })
    }

    pub(crate) fn contact(&self, account: AccountId) -> Result<ContactView, Error> {
        match get::<Contact>(self.library.as_ref(), &Key::Contact(account))? {
            Some(contact) => Ok(self.show_contact(&contact)),
            None if account == self.own => self.oneself(),
            None => Err(Error::UnknownWho { who: account.to_string() }),
        }
    }

    pub(crate) fn contacts(&self) -> Result<Vec<ContactView>, Error> {
        let mut contacts: Vec<_> = all::<Contact>(self.library.as_ref(), &KeyRange::Contacts)?
            .iter()
            .filter(|contact| contact.state != ContactState::Removed)
            .map(|contact| self.show_contact(contact))
            .collect();
        contacts.sort_by_cached_key(|contact| (super::who::fold(&contact.name), contact.account));
        Ok(contacts)
    }

    /// Everybody a name can mean: contacts, also removed ones (their history stays), and oneself by id.
    pub(crate) fn people(&self) -> Result<Vec<Person>, Error> {
        let mut people: Vec<_> = all::<Contact>(self.library.as_ref(), &KeyRange::Contacts)?
            .into_iter()
            .map(|contact| Person {
                account: contact.account,
                own_name: contact.own_name,
                profile_name: contact.name,
            })
            .collect();
        if people.iter().all(|person| person.account != self.own) {
            people.push(Person { account: self.own, own_name: None, profile_name: String::new() });
        }
        Ok(people)
    }

    pub(crate) fn invites(&self, now: Wall) -> Result<Vec<InviteListView>, Error> {
        let mut invites = all::<Invite>(self.library.as_ref(), &KeyRange::Invites)?;
        invites.sort_by_key(|invite| (std::cmp::Reverse(invite.created), invite.id));
        let mut names = Names::default();
        invites
            .into_iter()
            .map(|invite| {
                let ended = invite.state == InviteState::Live && invite.expires <= now;
                let used_by = invite
                    .used_by
                    .iter()
                    .map(|account| names.get(self, *account))
                    .collect::<Result<_, _>>()?;
                Ok(InviteListView {
                    id: invite.id,
                    state: if ended { InviteStatus::Expired } else { invite.state.into() },
                    created: invite.created.into(),
                    expires: invite.expires.into(),
                    uses: invite.uses,
                    uses_total: invite.uses_total,
                    used_by,
                })
            })
            .collect()
    }

    /// The conversation with somebody, once there is one.
    fn conversation_with(&self, account: AccountId) -> Result<Option<ConversationId>, Error> {
        let id = direct_conversation(&self.own, &account);
        let row: Option<Conversation> = get(self.library.as_ref(), &Key::Conversation(id))?;
        Ok(row.map(|row| row.id))
    }

    pub(crate) fn conversations(&self) -> Result<Vec<ConversationView>, Error> {
        let mut rows = all::<Conversation>(self.library.as_ref(), &KeyRange::Conversations)?;
        rows.sort_by_key(|row| (std::cmp::Reverse(row.last_activity), row.id));
        let mut names = Names::default();
        rows.into_iter()
            .map(|row| {
                let last = self.library.history(row.id, None, 1)?.into_iter().next();
                Ok(ConversationView {
                    id: row.id,
                    with: row.with,
                    name: names.get(self, row.with)?,
                    unread: row.unread,
                    last_activity: row.last_activity.into(),
                    last: last.map(|entry| self.show_entry(entry, row.with, &mut names)).transpose()?,
                })
            })
            .collect()
    }

    pub(crate) fn history(
        &self,
        with: AccountId,
        limit: u32,
        before: Option<EntryId>,
    ) -> Result<Vec<MessageView>, Error> {
        let Some(conversation) = self.conversation_with(with)? else {
            // a contact nobody has written to yet has an empty history; a stranger has none
            return self.contact(with).map(|_| Vec::new());
        };
        if let Some(before) = before
            && self.entry(before)?.conversation != conversation
        {
            return Err(Error::invalid("the message given as `before` is not in this conversation"));
        }
        let mut names = Names::default();
        let mut page = self.library.history(conversation, before, page_size(limit))?;
        page.reverse();
        page.into_iter().map(|entry| self.show_entry(entry, with, &mut names)).collect()
    }

    pub(crate) fn search(
        &self,
        words: &str,
        with: Option<AccountId>,
        limit: u32,
    ) -> Result<Vec<MessageView>, Error> {
        if words.trim().is_empty() {
            return Err(Error::invalid("nothing to search for: give one or more words"));
        }
        let conversation = match with {
            None => None,
            Some(with) => match self.conversation_with(with)? {
                Some(conversation) => Some(conversation),
                None => return self.contact(with).map(|_| Vec::new()),
            },
        };
        let mut names = Names::default();
        self.library
            .search(words, conversation, page_size(limit))?
            .into_iter()
            .map(|entry| {
                let with = self.other_side(entry.conversation)?;
                self.show_entry(entry, with, &mut names)
            })
            .collect()
    }

    pub(crate) fn message(&self, id: EntryId) -> Result<MessageView, Error> {
        let entry = self.entry(id)?;
        let with = self.other_side(entry.conversation)?;
        self.show_entry(entry, with, &mut Names::default())
    }

    /// The message meant by an id, or by at least eight of its first digits.
    pub(crate) fn find_message(&self, id: &str) -> Result<MessageView, Error> {
        let id = id.trim();
        if let Ok(id) = id.parse() {
            return self.message(id);
        }
        if id.len() < super::who::PREFIX || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let shown: String = id.chars().take(80).collect();
            return Err(Error::invalid(format!(
                "“{shown}” is no message id; give the id or at least its first {} digits, as `kith history` shows them",
                super::who::PREFIX
            )));
        }
        let found = self.library.with_prefix(id, 2)?;
        match found.as_slice() {
            [] => Err(kith_protocol::engine::CommandError::UnknownMessage.into()),
            [entry] => self.message(entry.id),
            _ => Err(Error::invalid(format!("several messages begin with {id}; give more digits"))),
        }
    }

    pub(crate) fn rank(&self, id: EntryId) -> Result<(ConversationId, Rank), Error> {
        self.entry(id).map(|entry| (entry.conversation, entry.rank))
    }

    pub(crate) fn journey(&self, id: EntryId) -> Result<JourneyView, Error> {
        let entry = self.entry(id)?;
        let mut names = Names::default();
        let devices = all::<Delivery>(self.library.as_ref(), &KeyRange::Deliveries(id))?
            .into_iter()
            .map(|delivery| {
                Ok(DeviceJourneyView {
                    account: delivery.account,
                    name: names.get(self, delivery.account)?,
                    device: delivery.device,
                    status: delivery.rank.into(),
                    steps: delivery
                        .steps
                        .into_iter()
                        .map(|step| StepView {
                            at: step.at.into(),
                            what: step_word(step.what).to_owned(),
                            detail: step.detail,
                        })
                        .collect(),
                })
            })
            .collect::<Result<_, Error>>()?;
        Ok(JourneyView {
            id,
            conversation: entry.conversation,
            direction: self.direction(entry.author),
            status: entry.rank.into(),
            custody: entry.custody.into(),
            devices,
        })
    }

    pub(crate) fn node(&self, network: Option<NetworkFacts>, now: Wall) -> Result<NodeView, Error> {
        let own = self.own()?;
        let running = network.is_some();
        let network = network.unwrap_or_default();
        Ok(NodeView {
            account: own.account,
            device: own.device,
            peer_id: own.device.peer_id().map(|peer| peer.to_string()).unwrap_or_default(),
            name: own.name.clone(),
            addresses: network.addresses,
            directory_key: own_directory_key(&own, now).to_string(),
            peers: network.peers,
            contacts_online: self.presence.count(),
            relays: self.relays(running)?,
            reachability: network.reachability,
            queued: self.queued()?,
            running,
            clock: running.then(|| self.presence.clock().into()),
            restored: crate::restored::read(self.library.as_ref())?,
        })
    }

    /// Our relays, the named ones first.
    pub(crate) fn relays(&self, running: bool) -> Result<Vec<RelayView>, Error> {
        let mut rows = all::<Relay>(self.library.as_ref(), &KeyRange::Relays)?;
        rows.sort_by_key(|row| (!row.named, row.added, row.relay));
        Ok(rows.iter().map(|row| RelayView::of(row, running)).collect())
    }

    pub(crate) fn safety_number(&self, account: AccountId) -> Result<SafetyView, Error> {
        let contact = self.contact(account)?;
        Ok(SafetyView {
            account,
            name: contact.name,
            number: safety_number(&self.own, &account),
            verified: contact.verified,
        })
    }

    fn queued(&self) -> Result<u64, Error> {
        let outboxes = all::<Outbox>(self.library.as_ref(), &KeyRange::Outboxes)?;
        Ok(outboxes.iter().map(|outbox| outbox.open).sum())
    }

    pub(crate) fn counters(&self) -> Result<Counters, Error> {
        Ok(get(self.library.as_ref(), &Key::Counters)?.unwrap_or_default())
    }

    /// Stored events after a cursor, oldest first.
    pub(crate) fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, Error> {
        let rows = self.library.rows(&KeyRange::Events, Some(&Key::Event(after)), limit)?;
        Ok(rows.into_iter().filter_map(<Event as Record>::from_row).collect())
    }

    pub(crate) fn name(&self, account: AccountId) -> Result<String, Error> {
        if account == self.own {
            return Ok(self.own()?.name);
        }
        let contact: Option<Contact> = get(self.library.as_ref(), &Key::Contact(account))?;
        Ok(contact.map_or_else(|| account.short(), |contact| contact.display_name()))
    }

    fn entry(&self, id: EntryId) -> Result<Entry, Error> {
        get(self.library.as_ref(), &Key::Entry(id))?
            .ok_or_else(|| kith_protocol::engine::CommandError::UnknownMessage.into())
    }

    fn other_side(&self, conversation: ConversationId) -> Result<AccountId, Error> {
        let row: Option<Conversation> = get(self.library.as_ref(), &Key::Conversation(conversation))?;
        Ok(row.map_or(self.own, |row| row.with))
    }

    fn direction(&self, author: AccountId) -> Direction {
        if author == self.own { Direction::Out } else { Direction::In }
    }

    fn oneself(&self) -> Result<ContactView, Error> {
        let own = self.own()?;
        Ok(ContactView {
            account: own.account,
            name: own.name.clone(),
            profile_name: own.name.clone(),
            own_name: None,
            about: own.about.clone(),
            state: ContactStatus::Accepted,
            online: true,
            verified: true,
            read_receipts: None,
            refused: None,
            since: own.created.into(),
            last_seen: None,
        })
    }

    fn show_contact(&self, contact: &Contact) -> ContactView {
        ContactView {
            account: contact.account,
            name: contact.display_name(),
            profile_name: contact.name.clone(),
            own_name: contact.own_name.clone(),
            about: contact.about.clone(),
            state: contact.state.into(),
            online: self.presence.is_online(contact.account),
            verified: contact.verified,
            read_receipts: contact.read_receipts,
            refused: refused_for(contact),
            since: contact.since.into(),
            last_seen: contact.last_seen.map(Into::into),
        }
    }

    /// Where the edit or the deletion in force of one's own message stands.
    fn change(&self, entry: &Entry) -> Result<Option<ChangeView>, Error> {
        let by = if entry.deleted {
            self.deletion(entry)?
        } else {
            match entry.edited {
                Some((_, id)) => get::<Entry>(self.library.as_ref(), &Key::Entry(id))?,
                None => None,
            }
        };
        Ok(by.map(|by| ChangeView { id: by.id, status: by.rank.into() }))
    }

    /// The furthest of the author's deletions of a message: one that arrived is enough.
    fn deletion(&self, entry: &Entry) -> Result<Option<Entry>, Error> {
        let range = KeyRange::Annotations(entry.id);
        let mut found: Option<Entry> = None;
        for row in self.library.rows(&range, None, ANNOTATIONS)? {
            let Some(annotation) = <Annotation as Record>::from_row(row) else { continue };
            let Some(by) = get::<Entry>(self.library.as_ref(), &Key::Entry(annotation.by))? else { continue };
            let deletes = by.kind == EntryKind::Delete && by.author == entry.author;
            if deletes && found.as_ref().is_none_or(|found| found.rank < by.rank) {
                found = Some(by);
            }
        }
        Ok(found)
    }

    fn show_entry(&self, entry: Entry, with: AccountId, names: &mut Names) -> Result<MessageView, Error> {
        let direction = self.direction(entry.author);
        let status = match direction {
            Direction::Out => entry.rank.into(),
            Direction::In if entry.number <= names.read(self, entry.stream)? => Status::Read,
            Direction::In => Status::Delivered,
        };
        let change = match direction {
            Direction::Out => self.change(&entry)?,
            Direction::In => None,
        };
        Ok(MessageView {
            id: entry.id,
            conversation: entry.conversation,
            with,
            author: entry.author,
            author_name: names.get(self, entry.author)?,
            direction,
            kind: entry.kind.into(),
            text: entry.text,
            time: entry.time.into(),
            stored: entry.stored.into(),
            status,
            custody: entry.custody.into(),
            late: entry.late,
            recovered: entry.recovered,
            reply_to: entry.reply_to,
            edited: entry.edited.is_some(),
            deleted: entry.deleted,
            change,
            reactions: entry
                .reactions
                .into_iter()
                .filter(|reaction| !reaction.emoji.is_empty())
                .map(|reaction| ReactionView { account: reaction.account, emoji: reaction.emoji })
                .collect(),
        })
    }
}

impl std::fmt::Debug for Reads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reads").field("own", &self.own).finish_non_exhaustive()
    }
}

/// Names, and how far streams were read, looked up once per page.
#[derive(Default)]
struct Names {
    names: BTreeMap<AccountId, String>,
    read: BTreeMap<StreamId, u64>,
}

impl Names {
    fn get(&mut self, reads: &Reads, account: AccountId) -> Result<String, Error> {
        if let Some(name) = self.names.get(&account) {
            return Ok(name.clone());
        }
        let name = reads.name(account)?;
        self.names.insert(account, name.clone());
        Ok(name)
    }

    /// The highest number of a stream that was displayed here; its author is told the same.
    fn read(&mut self, reads: &Reads, stream: StreamId) -> Result<u64, Error> {
        if let Some(read) = self.read.get(&stream) {
            return Ok(*read);
        }
        let row: Option<Stream> = get(reads.library.as_ref(), &Key::Stream(stream))?;
        let read = row.map_or(0, |row| row.read);
        self.read.insert(stream, read);
        Ok(read)
    }
}

fn page_size(limit: u32) -> usize {
    limit.clamp(1, PAGE) as usize
}

fn no_account() -> Error {
    Error::invalid("no account here yet; run `kith init --name YOU` first")
}

/// Why somebody did not take our acceptance of their invite.
fn refused_for(contact: &Contact) -> Option<String> {
    let reason = contact.pending.as_ref().filter(|_| contact.state == ContactState::Refused)?.refused?;
    Some(RefusedReason::from_number(reason).why().to_owned())
}
