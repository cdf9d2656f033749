//! Events.

use kith_protocol::{AccountId, ConversationId, DeviceId, EntryId};
use serde::{Deserialize, Serialize};

use super::message::{CustodyView, MessageView, Status};
use super::person::ContactView;
use super::text::{Timestamp, hex, hex_option};

/// One event of the log, or a happening that is told and forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// Resume after this number. Happenings that are not stored carry that of the stored event before them.
    pub cursor: u64,
    /// When.
    pub time: Timestamp,
    /// What.
    #[serde(flatten)]
    pub body: EventBodyView,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
#[non_exhaustive]
pub enum EventBodyView {
    /// A message was written or came in.
    Message {
        /// As it stands now.
        message: Box<MessageView>,
    },
    /// A message's text, reactions or existence changed.
    Changed {
        /// As it stands now.
        message: Box<MessageView>,
    },
    /// A message's status rose.
    Status {
        /// The message.
        #[serde(with = "hex")]
        id: EntryId,
        /// Where.
        #[serde(with = "hex")]
        conversation: ConversationId,
        /// Its status.
        status: Status,
        /// Its custody.
        custody: CustodyView,
    },
    /// Incoming messages were displayed here.
    Read {
        /// Where.
        #[serde(with = "hex")]
        conversation: ConversationId,
        /// Unread ones left.
        unread: u64,
    },
    /// A contact appeared or changed.
    Contact {
        /// As it stands now.
        contact: Box<ContactView>,
    },
    /// A contact came on-line or went.
    Online {
        /// Who.
        #[serde(with = "hex")]
        account: AccountId,
        /// The name shown here.
        name: String,
        /// Connected now.
        online: bool,
    },
    /// A contact is typing, or stopped.
    Typing {
        /// Where.
        #[serde(with = "hex")]
        conversation: ConversationId,
        /// Who.
        #[serde(with = "hex")]
        account: AccountId,
        /// Typing now.
        active: bool,
    },
    /// Something a person should know.
    Notice {
        /// A stable word for programs.
        code: String,
        /// One sentence for people.
        text: String,
        /// Whom it concerns.
        #[serde(with = "hex_option", default)]
        account: Option<AccountId>,
        /// Which device it concerns.
        #[serde(with = "hex_option", default)]
        device: Option<DeviceId>,
        /// Which message it concerns.
        #[serde(with = "hex_option", default)]
        id: Option<EntryId>,
    },
    /// The cursor asked for is older than what is kept, or from another life of this store: fetch lists and history
    /// anew, then go on after this cursor.
    Resync {},
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_object() {
        let id = EntryId([7; 32]);
        let view = EventView {
            cursor: 3,
            time: Timestamp(0),
            body: EventBodyView::Status {
                id,
                conversation: ConversationId([1; 32]),
                status: Status::Delivered,
                custody: CustodyView::default(),
            },
        };
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!(json["type"], "status");
        assert_eq!(json["status"], "delivered");
        assert_eq!(json["id"], id.to_string());
        assert_eq!(json["custody"]["of"], 0);
        assert_eq!(serde_json::from_value::<EventView>(json).unwrap(), view);
        let resync = EventView { cursor: 9, time: Timestamp(0), body: EventBodyView::Resync {} };
        assert_eq!(serde_json::to_value(&resync).unwrap()["type"], "resync");
    }
}
