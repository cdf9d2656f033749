//! A node in this process, or a data folder opened for reading.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kith_protocol::engine::{Answer, Command};
use kith_protocol::{AccountId, ClientId, DeviceId, EntryId, InviteId};

use super::error::{Candidate, Error};
use super::events::{self, EventStream};
use super::reads::Reads;
use super::running::{Clock, Running};
use super::view::{
    ContactView, ConversationView, Draft, InviteListView, InviteView, JourneyView, MessageView, NodeView,
    ProfileView, RelayView, SafetyView, SentView, SettingsView, Status, WaitView,
};
use super::who::{self, Meaning};
use crate::folder::PinFile;
use crate::runtime::NetworkFacts;

/// Longest single wait; see `Session::wait` for longer ones.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// A node in this process, or only its data folder. Cheap to clone; all methods can be called from any task.
#[derive(Clone)]
pub struct Handle {
    reads: Reads,
    pins: Arc<Mutex<PinFile>>,
    clock: Arc<dyn Clock>,
    running: Option<Running>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("reads", &self.reads)
            .field("running", &self.is_running())
            .finish_non_exhaustive()
    }
}

impl Handle {
    pub(crate) fn new(reads: Reads, pins: PinFile, clock: Arc<dyn Clock>, running: Option<Running>) -> Self {
        Self { reads, pins: Arc::new(Mutex::new(pins)), clock, running }
    }

    /// Whether a node runs behind this handle, or only its data folder is open.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Waits until the node has been told to stop.
    pub async fn stopping(&self) {
        if let Some(running) = &self.running {
            running.stop.cancelled().await;
        }
    }

    /// Runs a task on the host of the node, if one runs.
    #[cfg(feature = "rpc")]
    pub(crate) fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(running) = &self.running {
            running.host.spawn(name, Box::pin(task));
        }
    }

    /// See [`Session::profile`](super::Session::profile).
    ///
    /// # Errors
    /// [`Error::Store`] if the row cannot be read.
    pub fn profile(&self) -> Result<ProfileView, Error> {
        self.reads.profile()
    }

    /// See [`Session::set_profile`](super::Session::set_profile).
    ///
    /// # Errors
    /// [`Error`] says why it was not done.
    pub async fn set_profile(
        &self,
        name: Option<String>,
        about: Option<String>,
    ) -> Result<ProfileView, Error> {
        self.command(Command::SetProfile { name, about }).await?;
        self.reads.profile()
    }

    /// See [`Session::settings`](super::Session::settings).
    ///
    /// # Errors
    /// [`Error::Store`] if the row cannot be read.
    pub fn settings(&self) -> Result<SettingsView, Error> {
        self.reads.settings()
    }

    /// See [`Session::set_receipts`](super::Session::set_receipts).
    ///
    /// # Errors
    /// [`Error`] says why it was not done.
    pub async fn set_receipts(&self, account: Option<AccountId>, on: Option<bool>) -> Result<(), Error> {
        self.command(Command::SetReadReceipts { account, on }).await.map(drop)
    }

    /// See [`Session::set_typing`](super::Session::set_typing).
    ///
    /// # Errors
    /// [`Error`] says why it was not done.
    pub async fn set_typing(&self, on: bool) -> Result<(), Error> {
        self.command(Command::SetTyping(on)).await.map(drop)
    }

    /// See [`Session::acknowledge_restored`](super::Session::acknowledge_restored).
    ///
    /// # Errors
    /// [`Error`] says why it was not done.
    pub async fn acknowledge_restored(&self) -> Result<(), Error> {
        self.command(Command::AcknowledgeRestoration).await.map(drop)
    }

    /// See [`Session::invite`](super::Session::invite).
    ///
    /// # Errors
    /// [`Error`] says why it was not done.
    pub async fn invite(&self, uses: u32, ttl: u64) -> Result<InviteView, Error> {
        match self.command(Command::CreateInvite { uses, ttl }).await? {
            Answer::Invite { id, uri, expires } => {
                let (reach, relays) = super::reach::of_invite(&uri);
                Ok(InviteView { id, uri, expires: expires.into(), uses, reach, relays })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// See [`Session::invites`](super::Session::invites).
    ///
    /// # Errors
    /// [`Error::Store`] if rows cannot be read.
    pub fn invites(&self) -> Result<Vec<InviteListView>, Error> {
        self.reads.invites(self.clock.wall())
    }

    /// See [`Session::revoke_invite`](super::Session::revoke_invite).
    ///
    /// # Errors
    /// [`Error`] says why it was not done.
    pub async fn revoke_invite(&self, id: InviteId) -> Result<(), Error> {
        self.command(Command::RevokeInvite(id)).await.map(drop)
    }

    /// See [`Session::accept`](super::Session::accept).
    ///
    /// # Errors
    /// [`Error`] says why it was not done.
    pub async fn accept(&self, uri: String) -> Result<ContactView, Error> {
        match self.command(Command::AcceptInvite { uri }).await? {
            Answer::Accepted { account, .. } => self.reads.contact(account),
            other => Err(unexpected(&other)),
        }
    }

    /// See [`Session::relays`](super::Session::relays).
    ///
    /// # Errors
    /// [`Error::Store`] if rows cannot be read.
    pub fn relays(&self) -> Result<Vec<RelayView>, Error> {
        self.reads.relays(self.is_running())
    }

    /// See [`Session::add_relay`](super::Session::add_relay).
    ///
    /// # Errors
    /// [`Error`] says why it was not done.
    pub async fn add_relay(&self, address: String, token: Option<String>) -> Result<RelayView, Error> {
        let (address, relay) = kith_network::address::parse_with_device(&address)
            .map_err(|error| Error::invalid(error.to_string()))?;
        let relay = relay.ok_or_else(|| {
            Error::invalid("a relay's address ends in /p2p/ and its peer id; its operator gives it whole")
        })?;
        let token = token.unwrap_or_default().into_bytes().into();
        self.command(Command::AddRelay { relay, address, token }).await?;
        let relays = self.reads.relays(self.is_running())?;
        relays.into_iter().find(|view| view.relay == relay).ok_or(Error::Interrupted)
    }

    /// See [`Session::remove_relay`](super::Session::remove_relay).
    ///
    /// # Errors
    /// [`Error`] says why it was not done.
    pub async fn remove_relay(&self, relay: DeviceId) -> Result<(), Error> {
        self.command(Command::RemoveRelay(relay)).await.map(drop)
    }

    /// See [`Session::resolve`](super::Session::resolve).
    ///
    /// # Errors
    /// [`Error::UnknownWho`] or [`Error::AmbiguousWho`].
    pub fn resolve(&self, who: String) -> Result<ContactView, Error> {
        let people = self.reads.people()?;
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        match who::resolve(&who, &people, pins.pins()) {
            Meaning::One(account) => self.reads.contact(account),
            Meaning::ByProfileName(account) => {
                pins.pin(&who, account)?;
                self.reads.contact(account)
            }
            Meaning::Several(accounts) => {
                let candidates = accounts
                    .into_iter()
                    .map(|account| {
                        let name = self.reads.contact(account).map(|contact| contact.name)?;
                        Ok(Candidate { account: account.to_string(), name })
                    })
                    .collect::<Result<_, Error>>()?;
                Err(Error::AmbiguousWho { who, candidates })
            }
            Meaning::Nobody => Err(Error::UnknownWho { who }),
        }
    }

    /// See [`Session::contacts`](super::Session::contacts).
    ///
    /// # Errors
    /// [`Error::Store`] if rows cannot be read.
    pub fn contacts(&self) -> Result<Vec<ContactView>, Error> {
        self.reads.contacts()
    }

    /// See [`Session::contact`](super::Session::contact).
    ///
    /// # Errors
    /// [`Error::UnknownWho`] if there is no such contact.
    pub fn contact(&self, account: AccountId) -> Result<ContactView, Error> {
        self.reads.contact(account)
    }

    /// See [`Session::rename`](super::Session::rename).
    ///
    /// # Errors
    /// [`Error`] says why it was not done.
    pub async fn rename(&self, account: AccountId, name: Option<String>) -> Result<ContactView, Error> {
        self.change_contact(account, Command::RenameContact { account, name }).await
    }

    /// See [`Session::block`](super::Session::block).
    ///
    /// # Errors
    /// [`Error`] says why it was not done.
    pub async fn block(&self, account: AccountId) -> Result<ContactView, Error> {
        self.change_contact(account, Command::Block(account)).await
    }

    /// See [`Session::unblock`](super::Session::unblock).
    ///
    /// # Errors
    /// [`Error`] says why it was not done.
    pub async fn unblock(&self, account: AccountId) -> Result<ContactView, Error> {
        self.change_contact(account, Command::Unblock(account)).await
    }

    /// See [`Session::remove`](super::Session::remove).
    ///
    /// # Errors
    /// [`Error`] says why it was not done.
    pub async fn remove(&self, account: AccountId) -> Result<ContactView, Error> {
        self.change_contact(account, Command::RemoveContact(account)).await
    }

    /// See [`Session::verify`](super::Session::verify).
    ///
    /// # Errors
    /// [`Error`] says why it was not done.
    pub async fn verify(&self, account: AccountId, verified: bool) -> Result<ContactView, Error> {
        self.change_contact(account, Command::VerifyContact { account, verified }).await
    }

    /// See [`Session::safety_number`](super::Session::safety_number).
    ///
    /// # Errors
    /// [`Error::UnknownWho`] if there is no such contact.
    pub fn safety_number(&self, account: AccountId) -> Result<SafetyView, Error> {
        self.reads.safety_number(account)
    }

    /// See [`Session::conversations`](super::Session::conversations).
    ///
    /// # Errors
    /// [`Error::Store`] if rows cannot be read.
    pub fn conversations(&self) -> Result<Vec<ConversationView>, Error> {
        self.reads.conversations()
    }

    /// See [`Session::send`](super::Session::send).
    ///
    /// # Errors
    /// [`Error`] says why it was not done.
    pub async fn send(
        &self,
        to: AccountId,
        text: String,
        reply_to: Option<EntryId>,
        client: Option<ClientId>,
    ) -> Result<SentView, Error> {
        self.submit(Command::Send { to, text, reply_to, client }).await
    }

    /// See [`Session::send_many`](super::Session::send_many).
    ///
    /// # Errors
    /// [`Error`] says why it was not done.
    pub async fn send_many(&self, to: AccountId, messages: Vec<Draft>) -> Result<Vec<SentView>, Error> {
        let running = self.running.as_ref().ok_or(Error::Offline)?;
        let mut answers = Vec::with_capacity(messages.len());
        for Draft { text, client } in messages {
            answers.push(running.submit(Command::Send { to, text, reply_to: None, client }).await?);
        }
        let mut sent = Vec::with_capacity(answers.len());
        for answer in answers {
            sent.push(self.sent(answer.await.map_err(|_| Error::Stopped)??)?);
        }
        Ok(sent)
    }

    /// See [`Session::edit`](super::Session::edit).
    ///
    /// # Errors
    /// [`Error`] says why it was not done.
    pub async fn edit(&self, id: EntryId, text: String) -> Result<SentView, Error> {
        self.change_message(id, Command::Edit { target: id, text }).await
    }

    /// See [`Session::delete`](super::Session::delete).
    ///
    /// # Errors
    /// [`Error`] says why it was not done.
    pub async fn delete(&self, id: EntryId) -> Result<SentView, Error> {
        self.change_message(id, Command::Delete { target: id }).await
    }

    /// See [`Session::react`](super::Session::react).
    ///
    /// # Errors
    /// [`Error`] says why it was not done.
    pub async fn react(&self, id: EntryId, emoji: String) -> Result<SentView, Error> {
        self.change_message(id, Command::React { target: id, emoji }).await
    }

    /// See [`Session::mark_read`](super::Session::mark_read).
    ///
    /// # Errors
    /// [`Error`] says why it was not done.
    pub async fn mark_read(&self, with: AccountId, up_to: Option<EntryId>) -> Result<(), Error> {
        self.command(Command::MarkRead { with, up_to }).await.map(drop)
    }

    /// See [`Session::typing`](super::Session::typing).
    ///
    /// # Errors
    /// [`Error`] says why it was not done.
    pub async fn typing(&self, to: AccountId, active: bool) -> Result<(), Error> {
        self.command(Command::Typing { to, active }).await.map(drop)
    }

    /// See [`Session::history`](super::Session::history).
    ///
    /// # Errors
    /// [`Error`] if nobody is known by this account, or rows cannot be read.
    pub fn history(
        &self,
        with: AccountId,
        limit: u32,
        before: Option<EntryId>,
    ) -> Result<Vec<MessageView>, Error> {
        self.reads.history(with, limit, before)
    }

    /// See [`Session::message`](super::Session::message).
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such message.
    pub fn message(&self, id: EntryId) -> Result<MessageView, Error> {
        self.reads.message(id)
    }

    /// See [`Session::find_message`](super::Session::find_message).
    ///
    /// # Errors
    /// [`Error`] if no message or several are meant.
    pub fn find_message(&self, id: String) -> Result<MessageView, Error> {
        self.reads.find_message(&id)
    }

    /// See [`Session::statuses`](super::Session::statuses).
    ///
    /// # Errors
    /// [`Error::Refused`] if one of them does not exist.
    pub fn statuses(&self, ids: Vec<EntryId>) -> Result<Vec<Status>, Error> {
        ids.into_iter().map(|id| self.reads.rank(id).map(|(_, rank)| rank.into())).collect()
    }

    /// See [`Session::journey`](super::Session::journey).
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such message.
    pub fn journey(&self, id: EntryId) -> Result<JourneyView, Error> {
        self.reads.journey(id)
    }

    /// See [`Session::search`](super::Session::search).
    ///
    /// # Errors
    /// [`Error::Invalid`] without words.
    pub fn search(
        &self,
        words: String,
        with: Option<AccountId>,
        limit: u32,
    ) -> Result<Vec<MessageView>, Error> {
        self.reads.search(&words, with, limit)
    }

    /// See [`Session::status`](super::Session::status).
    ///
    /// # Errors
    /// [`Error::Store`] if rows cannot be read.
    pub fn status(&self) -> Result<NodeView, Error> {
        let network = self.running.as_ref().map(|running| NetworkFacts::of(&running.network));
        self.reads.node(network, self.clock.wall())
    }

    /// See [`Session::wait_for`](super::Session::wait_for).
    ///
    /// # Errors
    /// [`Error`] if the message is unknown, or the node went away.
    pub async fn wait_for(&self, id: EntryId, status: Status, timeout: u64) -> Result<WaitView, Error> {
        let running = self.running.as_ref().ok_or(Error::Offline)?;
        let over = self.clock.sleep(Duration::from_millis(timeout).min(WAIT_MAX));
        running.wait_for(&self.reads, id, status, over).await
    }

    /// See [`Session::events`](super::Session::events).
    ///
    /// # Errors
    /// [`Error::Offline`] if only the data folder is open.
    pub fn events(&self, after: Option<u64>) -> Result<EventStream, Error> {
        let running = self.running.as_ref().ok_or(Error::Offline)?;
        let live = events::Tail { live: running.live.subscribe(), ended: running.ended.clone() };
        events::follow(self.reads.clone(), live, Arc::clone(&self.clock), after)
    }

    /// Tells the node to stop; it finishes what it is writing.
    ///
    /// # Errors
    /// [`Error::Offline`] if only the data folder is open.
    #[allow(clippy::unused_async, reason = "as of a session")]
    pub async fn stop(&self) -> Result<(), Error> {
        self.running.as_ref().ok_or(Error::Offline)?.stop.cancel();
        Ok(())
    }

    async fn submit(&self, command: Command) -> Result<SentView, Error> {
        self.sent(self.command(command).await?)
    }

    fn sent(&self, answer: Answer) -> Result<SentView, Error> {
        match answer {
            Answer::Sent { entry, conversation, repeated } => {
                // a fresh message is queued; a repeated one may have come further
                let status = if repeated { self.reads.rank(entry)?.1.into() } else { Status::Queued };
                Ok(SentView { id: entry, conversation, status, repeated })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Changes to a message answer with the entry that changes it, or with nothing but that it is done.
    async fn change_message(&self, id: EntryId, command: Command) -> Result<SentView, Error> {
        match self.command(command).await? {
            Answer::Sent { entry, conversation, repeated } => {
                let status = self.reads.rank(entry).map_or(Status::Queued, |(_, rank)| rank.into());
                Ok(SentView { id: entry, conversation, status, repeated })
            }
            _ => {
                let (conversation, rank) = self.reads.rank(id)?;
                Ok(SentView { id, conversation, status: rank.into(), repeated: false })
            }
        }
    }

    async fn change_contact(&self, account: AccountId, command: Command) -> Result<ContactView, Error> {
        self.command(command).await?;
        self.reads.contact(account)
    }

    async fn command(&self, command: Command) -> Result<Answer, Error> {
        self.running.as_ref().ok_or(Error::Offline)?.command(command).await
    }
}

fn unexpected(answer: &Answer) -> Error {
    Error::Refused {
        reason: "internal".to_owned(),
        message: format!("internal error: the Engine gave an answer of another kind ({answer:?})"),
    }
}
