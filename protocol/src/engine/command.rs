//! What a person or program can ask of the Engine, and what it answers.

use bytes::Bytes;
use thiserror::Error;

use crate::id::{AccountId, Address, ClientId, ConversationId, DeviceId, EntryId, InviteId};
use crate::record::{ContactState, ReadError};
use crate::time::Wall;

/// A wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Make an invite.
    CreateInvite {
        /// How many people may use it, 1 to 1,000.
        uses: u32,
        /// Its life in milliseconds, at most [`limits::INVITE_TTL`](crate::limits::INVITE_TTL).
        ttl: u64,
    },
    /// Take an invite back.
    RevokeInvite(InviteId),
    /// Accept somebody's invite (`KITH:…`).
    AcceptInvite {
        /// The link as typed or scanned.
        uri: String,
    },
    /// Write a message to a contact (or to oneself).
    Send {
        /// To whom.
        to: AccountId,
        /// At most [`limits::TEXT`](crate::limits::TEXT) bytes of UTF-8; may be empty.
        text: String,
        /// The message it answers.
        reply_to: Option<EntryId>,
        /// Makes submitting again harmless.
        client: Option<ClientId>,
    },
    /// Change the text of one's own message.
    Edit {
        /// The message.
        target: EntryId,
        /// The new text.
        text: String,
    },
    /// Take one's own message back, for everyone.
    Delete {
        /// The message.
        target: EntryId,
    },
    /// React to a message; an empty emoji takes the reaction back.
    React {
        /// The message.
        target: EntryId,
        /// At most [`limits::REACTION`](crate::limits::REACTION) bytes.
        emoji: String,
    },
    /// The person has seen incoming messages.
    MarkRead {
        /// With whom.
        with: AccountId,
        /// Up to and including this one; `None`: all.
        up_to: Option<EntryId>,
    },
    /// The person is typing, or stopped.
    Typing {
        /// To whom.
        to: AccountId,
        /// Typing now.
        active: bool,
    },
    /// Give a contact a name of our own; `None` goes back to theirs.
    RenameContact {
        /// Who.
        account: AccountId,
        /// At most [`limits::NAME`](crate::limits::NAME) bytes.
        name: Option<String>,
    },
    /// Refuse everything from a contact.
    Block(AccountId),
    /// Take a block back.
    Unblock(AccountId),
    /// Forget a contact's keys; the history stays.
    RemoveContact(AccountId),
    /// Record that safety numbers were compared.
    VerifyContact {
        /// Who.
        account: AccountId,
        /// They matched.
        verified: bool,
    },
    /// Read receipts for everyone, or for one contact (`None`: as for everyone).
    SetReadReceipts {
        /// One contact, or everyone.
        account: Option<AccountId>,
        /// On, off, or back to the general setting.
        on: Option<bool>,
    },
    /// Whether contacts are told while the person types.
    SetTyping(bool),
    /// Change one's name or line.
    SetProfile {
        /// New name.
        name: Option<String>,
        /// New line.
        about: Option<String>,
    },
    /// Keep a mailbox at a relay and name it to contacts. For a known one: a new address or token.
    AddRelay {
        /// The relay's key.
        relay: DeviceId,
        /// Where it is.
        address: Address,
        /// Its operator's token for a new mailbox, at most [`limits::TOKEN`](crate::limits::TOKEN) bytes; may be empty.
        token: Bytes,
    },
    /// Give a relay up. It is still emptied for a week.
    RemoveRelay(DeviceId),
    /// The person has taken note of what a restore of the store lost.
    AcknowledgeRestoration,
}

/// A granted wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing more to say.
    Done,
    /// A new invite.
    Invite {
        /// Its id.
        id: InviteId,
        /// `KITH:…`
        uri: String,
        /// When it ends.
        expires: Wall,
    },
    /// An acceptance is on its way, or was settled before.
    Accepted {
        /// Who invited.
        account: AccountId,
        /// Where the contact stands now.
        state: ContactState,
    },
    /// A message is on disk and queued.
    Sent {
        /// The message.
        entry: EntryId,
        /// Its conversation.
        conversation: ConversationId,
        /// The client id had been used before: this is the message it stands for.
        repeated: bool,
    },
}

/// A wish that was not granted; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// No such contact.
    #[error("no contact with this account id; `kith contacts` lists them")]
    UnknownContact,
    /// No such message.
    #[error("no message with this id")]
    UnknownMessage,
    /// No such invite.
    #[error("no invite with this id; `kith invite list` shows them")]
    UnknownInvite,
    /// No such relay.
    #[error("no such relay; `kith relay list` shows yours")]
    UnknownRelay,
    /// The contact was blocked.
    #[error("this contact is blocked; `kith contacts unblock` takes that back")]
    Blocked,
    /// The contact was removed, or refused us.
    #[error("this person is not a contact any more; ask for a new invite")]
    NotAContact,
    /// Only one's own messages can be changed.
    #[error("only your own messages can be edited or deleted")]
    NotYours,
    /// The message was taken back.
    #[error("this message was deleted")]
    Deleted,
    /// The text is too long.
    #[error("the text has {len} bytes; a message holds at most {max}")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A name, emoji, lifetime or count is out of its bounds.
    #[error("{0}")]
    Invalid(String),
    /// The link is no invite.
    #[error("{0}")]
    Invite(#[from] crate::invite::InviteError),
    /// The invite's time is over, if this device's clock is right: one that is ahead makes every invite look ended.
    #[error("this invite has expired; set the clock if it is wrong, else ask for a new one")]
    InviteExpired {
        /// When it ended.
        expired: Wall,
        /// What the clock said.
        now: Wall,
    },
    /// The invite is one's own.
    #[error("this invite is your own; send it to the person you want to talk to")]
    OwnInvite,
    /// Too many of something.
    #[error("{0}")]
    Full(String),
    /// The store failed or is damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A cryptographic step failed, which is a fault of this program or a damaged row.
    #[error("internal error while {0}; run `kith store check`")]
    Internal(&'static str),
}
