//! Why a relay did not do what it was asked.

use std::fmt;

use crate::wire::proto;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $said:literal;)*) => {
        /// The reason of a refusal. It is a step in a message's journey, never a state: another relay, or this one
        /// later, may take the same deposit.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum RefusalCode {
            $($(#[$doc])* $name,)*
            /// A reason this version does not know.
            Other(u32),
        }

        impl RefusalCode {
            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> u32 {
                match self { $(Self::$name => $number,)* Self::Other(number) => number }
            }

            /// The reason behind a number.
            #[must_use]
            pub const fn from_number(number: u32) -> Self {
                match number { $($number => Self::$name,)* other => Self::Other(other) }
            }
        }

        impl fmt::Display for RefusalCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name => f.write_str($said),)*
                    Self::Other(number) => write!(f, "the relay refused for a reason this version does not know ({number})"),
                }
            }
        }
    };
}

codes! {
    /// The mailbox holds as many bytes or envelopes as it may.
    MailboxFull = 1, "the mailbox is full";
    /// The right holds as many bytes or envelopes as it may.
    RightFull = 2, "the quota of this right is used";
    /// The relay's disk or its operator's bound.
    RelayFull = 3, "the relay is full";
    /// Envelopes of this size have their own bound, and it is reached.
    ClassFull = 4, "the mailbox takes no more envelopes of this size for now";
    /// The relay knows no such mailbox.
    MailboxUnknown = 5, "the relay has no such mailbox";
    /// The mailbox knows no such right.
    RightUnknown = 6, "the mailbox knows no such right";
    /// The right's time is over.
    RightExpired = 7, "the right has expired";
    /// The owner took the right back.
    RightRevoked = 8, "the right was revoked";
    /// The right allowed so many deposits and they were made.
    RightUsedUp = 9, "the right is used up";
    /// The request was not made with the right's key.
    WrongMac = 10, "the request was not made with this right's key";
    /// The envelope is larger than the relay takes, or has not the length of a size class.
    TooLarge = 11, "the envelope is too large for this relay";
    /// The relay keeps nothing for that long.
    TtlTooLong = 12, "the relay keeps nothing for that long";
    /// The relay is closed: mailboxes can be emptied, nothing new is taken.
    Closed = 13, "the relay is closed and takes nothing new";
    /// A new mailbox needs the operator's token, and this one is missing, unknown, used up or revoked.
    TokenNeeded = 14, "a new mailbox at this relay needs a valid token of its operator";
    /// The operator has not listed this device.
    NotAllowed = 15, "the operator of this relay has not allowed this device";
    /// The mailbox was not opened on this link.
    NotOpened = 16, "the mailbox was not opened on this link";
    /// The signature does not prove the read key.
    WrongSignature = 17, "the signature does not prove the mailbox's read key";
    /// The operator has blocked the mailbox.
    Blocked = 18, "the operator of this relay has blocked this mailbox";
    /// Overload or a rate limit: again after the time told.
    Busy = 19, "the relay is busy";
    /// Bytes that are not what they should be.
    Malformed = 20, "the request is malformed";
    /// An ask of a newer version.
    Unsupported = 21, "the relay does not know this request";
    /// The owner left no bundle, or it has expired.
    NoBundle = 22, "the mailbox has no bundle to give";
    /// More rights or one-time keys than a mailbox may have.
    TooMany = 23, "the mailbox has as many of these as it may";
}

impl RefusalCode {
    /// Whether the same request may succeed later without anybody changing anything but the load.
    #[must_use]
    pub const fn passes(self) -> bool {
        matches!(self, Self::MailboxFull | Self::RightFull | Self::RelayFull | Self::ClassFull | Self::Busy)
    }
}

/// A refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub code: RefusalCode,
    /// When to ask again, in seconds; 0: not before something changes.
    pub retry_after: u64,
}

impl Refusal {
    /// A refusal that only a change will lift.
    #[must_use]
    pub const fn new(code: RefusalCode) -> Self {
        Self { code, retry_after: 0 }
    }

    /// A refusal that may be over after so many seconds.
    #[must_use]
    pub const fn after(code: RefusalCode, seconds: u64) -> Self {
        Self { code, retry_after: seconds }
    }

    pub(super) fn from_proto(refusal: proto::RelayRefusal) -> Self {
        Self { code: RefusalCode::from_number(refusal.code), retry_after: refusal.retry_after }
    }

    pub(super) const fn to_proto(self) -> proto::RelayRefusal {
        proto::RelayRefusal { code: self.code.number(), retry_after: self.retry_after }
    }
}
