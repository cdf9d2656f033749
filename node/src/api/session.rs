//! One set of methods, whether the node lives in this process or in another.

use std::time::Duration;

use kith_protocol::{AccountId, ClientId, DeviceId, EntryId, InviteId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::Error;
use super::events::EventStream;
use super::handle::Handle;
use super::view::{
    ContactView, ConversationView, Draft, InviteListView, InviteView, JourneyView, MessageView, NodeView,
    ProfileView, RelayView, SafetyView, SentView, SettingsView, Status, WaitView, hex, hex_list, hex_option,
};

/// Longest wait asked of a node in one call; longer ones are made of several.
const WAIT_STEP: Duration = Duration::from_secs(20);

/// A node to talk to.
#[derive(Debug, Clone)]
pub enum Session {
    /// In this process; or only its data folder, opened for reading.
    Local(Handle),
    /// In another process, over JSON-RPC.
    #[cfg(feature = "rpc")]
    Remote(crate::rpc::Client),
}

macro_rules! call_local {
    (read, $call:expr) => {
        $call
    };
    (act, $call:expr) => {
        $call.await
    };
}

macro_rules! surface {
    ($(
        $(#[$doc:meta])*
        $mode:ident $variant:ident => $name:ident($($(#[$attr:meta])* $arg:ident: $ty:ty),*) -> $reply:ty;
    )*) => {
        /// One call, as it travels: `{"method": …, "params": {…}}`.
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(tag = "method", content = "params", rename_all = "snake_case")]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "parameters are named and described as in the method")]
        pub enum Request {
            $(
                $(#[$doc])*
                $variant { $($(#[$attr])* $arg: $ty),* },
            )*
        }

        impl Request {
            /// Names of all methods.
            pub const METHODS: &'static [&'static str] = &[$(stringify!($name)),*];

            /// Makes the call on a node in this process.
            ///
            /// # Errors
            /// As the method of [`Session`] of that name.
            pub async fn perform(self, handle: &Handle) -> Result<Value, Error> {
                match self {
                    $(Self::$variant { $($arg),* } => {
                        let reply: $reply = call_local!($mode, handle.$name($($arg),*))?;
                        serde_json::to_value(reply).map_err(|error| Error::Remote { message: error.to_string() })
                    })*
                }
            }
        }

        #[allow(clippy::unused_async, reason = "only the remote side of some methods waits")]
        impl Session {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// [`Error`] says why it was not done and what to do.
                pub async fn $name(&self, $($arg: $ty),*) -> Result<$reply, Error> {
                    match self {
                        Self::Local(handle) => call_local!($mode, handle.$name($($arg),*)),
                        #[cfg(feature = "rpc")]
                        Self::Remote(client) => {
                            client.call(&Request::$variant { $($arg),* }).await
                        }
                    }
                }
            )*
        }
    };
}

surface! {
    /// This device and its person.
    read Profile => profile() -> ProfileView;
    /// Changes one's name or line; what is null stays.
    act SetProfile => set_profile(name: Option<String>, about: Option<String>) -> ProfileView;
    /// What the person chose.
    read Settings => settings() -> SettingsView;
    /// Read receipts for everyone, or for one contact (null: as for everyone).
    act SetReceipts => set_receipts(
        #[serde(with = "hex_option", default)] account: Option<AccountId>, on: Option<bool>
    ) -> ();
    /// Whether contacts are told while we type.
    act SetTyping => set_typing(on: bool) -> ();
    /// Makes an invite for `uses` people that ends after `ttl` milliseconds.
    act Invite => invite(uses: u32, ttl: u64) -> InviteView;
    /// Our invites, newest first.
    read Invites => invites() -> Vec<InviteListView>;
    /// Takes an invite back.
    act RevokeInvite => revoke_invite(#[serde(with = "hex")] id: InviteId) -> ();
    /// Accepts somebody's invite.
    act Accept => accept(uri: String) -> ContactView;
    /// Our relays, with what this device measured of them.
    read Relays => relays() -> Vec<RelayView>;
    /// Keeps a mailbox at a relay (its address ends in `/p2p/…`) and names it to contacts.
    act AddRelay => add_relay(address: String, token: Option<String>) -> RelayView;
    /// Gives a relay up; it is still emptied for a week.
    act RemoveRelay => remove_relay(#[serde(with = "hex")] relay: DeviceId) -> ();
    /// The person meant by an account id, its first eight or more digits, or a name; remembers names in use.
    read Resolve => resolve(who: String) -> ContactView;
    /// The people we know, by name.
    read Contacts => contacts() -> Vec<ContactView>;
    /// One person.
    read Contact => contact(#[serde(with = "hex")] account: AccountId) -> ContactView;
    /// Gives a contact a name of our own; null goes back to theirs.
    act Rename => rename(#[serde(with = "hex")] account: AccountId, name: Option<String>) -> ContactView;
    /// Refuses everything from a contact.
    act Block => block(#[serde(with = "hex")] account: AccountId) -> ContactView;
    /// Takes a block back.
    act Unblock => unblock(#[serde(with = "hex")] account: AccountId) -> ContactView;
    /// Forgets a contact's keys; the history stays.
    act Remove => remove(#[serde(with = "hex")] account: AccountId) -> ContactView;
    /// Records whether safety numbers were compared.
    act Verify => verify(#[serde(with = "hex")] account: AccountId, verified: bool) -> ContactView;
    /// The safety number with a contact.
    read SafetyNumber => safety_number(#[serde(with = "hex")] account: AccountId) -> SafetyView;
    /// Conversations, newest activity first.
    read Conversations => conversations() -> Vec<ConversationView>;
    /// Writes a message; answers once it is on disk. A client id makes submitting again harmless.
    act Send => send(
        #[serde(with = "hex")] to: AccountId, text: String,
        #[serde(with = "hex_option", default)] reply_to: Option<EntryId>,
        #[serde(with = "hex_option", default)] client: Option<ClientId>
    ) -> SentView;
    /// Writes several messages, in this order; answers once all are on disk. When it fails, some of them may have been
    /// written: with client ids it can simply be called again.
    act SendMany => send_many(#[serde(with = "hex")] to: AccountId, messages: Vec<Draft>) -> Vec<SentView>;
    /// Changes the text of one's own message.
    act Edit => edit(#[serde(with = "hex")] id: EntryId, text: String) -> SentView;
    /// Takes one's own message back, for everyone.
    act Delete => delete(#[serde(with = "hex")] id: EntryId) -> SentView;
    /// Reacts to a message; an empty emoji takes the reaction back.
    act React => react(#[serde(with = "hex")] id: EntryId, emoji: String) -> SentView;
    /// The person has seen incoming messages, up to one or all.
    act MarkRead => mark_read(
        #[serde(with = "hex")] with: AccountId, #[serde(with = "hex_option", default)] up_to: Option<EntryId>
    ) -> ();
    /// The person is typing, or stopped.
    act Typing => typing(#[serde(with = "hex")] to: AccountId, active: bool) -> ();
    /// A page of a conversation, oldest first: the newest `limit` messages, or those before one.
    read History => history(
        #[serde(with = "hex")] with: AccountId, limit: u32,
        #[serde(with = "hex_option", default)] before: Option<EntryId>
    ) -> Vec<MessageView>;
    /// One message.
    read Message => message(#[serde(with = "hex")] id: EntryId) -> MessageView;
    /// The message meant by an id, or by at least eight of its first digits.
    read FindMessage => find_message(id: String) -> MessageView;
    /// Where messages stand, in the order of their ids.
    read Statuses => statuses(#[serde(with = "hex_list")] ids: Vec<EntryId>) -> Vec<Status>;
    /// A message's story per recipient device.
    read Journey => journey(#[serde(with = "hex")] id: EntryId) -> JourneyView;
    /// Messages that hold all the words, newest first.
    read Search => search(
        words: String, #[serde(with = "hex_option", default)] with: Option<AccountId>, limit: u32
    ) -> Vec<MessageView>;
    /// How the node stands.
    read Status => status() -> NodeView;
    /// Waits at most `timeout` milliseconds (of which one call takes at most 20 s) for a message's status.
    act WaitFor => wait_for(#[serde(with = "hex")] id: EntryId, status: Status, timeout: u64) -> WaitView;
    /// The person has taken note of what a restore of the store lost.
    act AcknowledgeRestored => acknowledge_restored() -> ();
    /// Stops the node.
    act Stop => stop() -> ();
}

impl Session {
    /// Waits until a message reaches a status (or a success above it), fails for good, or the time is over.
    ///
    /// # Errors
    /// [`Error`] if the message is unknown or the node went away.
    pub async fn wait(&self, id: EntryId, status: Status, timeout: Duration) -> Result<WaitView, Error> {
        let mut left = timeout;
        loop {
            let step = left.min(WAIT_STEP);
            let millis = u64::try_from(step.as_millis()).unwrap_or(u64::MAX);
            let view = self.wait_for(id, status, millis).await?;
            left = left.saturating_sub(step);
            if view.reached || view.status.failed() || left.is_zero() {
                return Ok(view);
            }
        }
    }

    /// Follows what happens: first what is stored after a cursor, then what comes, with no gap between. Without a
    /// cursor only what comes. The stream ends when the node stops or the connection is lost: resume after the last
    /// cursor seen.
    ///
    /// # Errors
    /// [`Error`] if the node cannot be reached or only its folder is open.
    #[allow(clippy::unused_async, reason = "only the remote side waits")]
    pub async fn events(&self, after: Option<u64>) -> Result<EventStream, Error> {
        match self {
            Self::Local(handle) => handle.events(after),
            #[cfg(feature = "rpc")]
            Self::Remote(client) => client.events(after).await,
        }
    }

    /// Whether a node runs behind this session.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        match self {
            Self::Local(handle) => handle.is_running(),
            #[cfg(feature = "rpc")]
            Self::Remote(_) => true,
        }
    }
}
