//! What can go wrong at the API, with sentences for people and words for programs.

use kith_protocol::engine::CommandError;
use kith_protocol::record::ReadError;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::view::Timestamp;

/// Why a wish was not granted.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Error {
    /// Nobody is called that.
    #[error("nobody is called “{who}” here; `kith contacts` lists the people you know")]
    UnknownWho {
        /// As given.
        who: String,
    },
    /// Several people are called that.
    #[error("“{who}” can mean several people; use an account id instead:{}", list(.candidates))]
    AmbiguousWho {
        /// As given.
        who: String,
        /// Who can be meant.
        candidates: Vec<Candidate>,
    },
    /// The Engine refused; nothing was changed.
    #[error("{message}")]
    Refused {
        /// A stable word: `unknown-contact`, `unknown-message`, `unknown-invite`, `unknown-relay`, `blocked`,
        /// `not-a-contact`, `not-yours`, `deleted`, `too-long`, `invalid`, `invite`, `own-invite`, `full`, `internal`.
        reason: String,
        /// One sentence for people.
        message: String,
    },
    /// The invite's time is over, by the clock of the machine that the node runs on. Nothing was changed.
    #[error(
        "this invite has expired: it ended at {expired}, and the clock of this machine says {now}. If that is wrong, set \
         the clock right; else ask for a new invite"
    )]
    InviteExpired {
        /// When it ended.
        expired: Timestamp,
        /// What the clock said.
        now: Timestamp,
    },
    /// A value is out of its bounds.
    #[error("{message}")]
    Invalid {
        /// One sentence for people.
        message: String,
    },
    /// The store failed or is damaged.
    #[error("{message}")]
    Store {
        /// One sentence for people.
        message: String,
    },
    /// The data folder was opened for reading only.
    #[error("no node is running on this data folder; start one with `kith run`")]
    Offline,
    /// The node stopped, or was stopped, before it answered.
    #[error("the node has stopped before it answered; start it again with `kith run`")]
    Stopped,
    /// The node had to reopen its store before it answered.
    #[error("the node is recovering from a failed write, it is not known whether this was done; try again")]
    Interrupted,
    /// The running node could not be reached or did not understand.
    #[error("the running node cannot be reached: {message}")]
    Remote {
        /// One sentence for people.
        message: String,
    },
}

/// One person who can be meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The account id in hex.
    pub account: String,
    /// The name shown here.
    pub name: String,
}

fn list(candidates: &[Candidate]) -> String {
    candidates.iter().map(|candidate| format!("\n  {}  {}", candidate.account, candidate.name)).collect()
}

impl Error {
    /// The request itself is at fault, not the state of things: a program ends with status 2.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::AmbiguousWho { .. })
    }

    /// Submitting again (with the same client id) may work.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Stopped | Self::Interrupted | Self::Remote { .. })
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into() }
    }
}

impl From<CommandError> for Error {
    fn from(error: CommandError) -> Self {
        let reason = match &error {
            CommandError::UnknownContact => "unknown-contact",
            CommandError::UnknownMessage => "unknown-message",
            CommandError::UnknownInvite => "unknown-invite",
            CommandError::UnknownRelay => "unknown-relay",
            CommandError::Blocked => "blocked",
            CommandError::NotAContact => "not-a-contact",
            CommandError::NotYours => "not-yours",
            CommandError::Deleted => "deleted",
            CommandError::TooLong { .. } => "too-long",
            CommandError::Invalid(_) => "invalid",
            CommandError::Invite(_) => "invite",
            CommandError::InviteExpired { expired, now } => {
                return Self::InviteExpired { expired: (*expired).into(), now: (*now).into() };
            }
            CommandError::OwnInvite => "own-invite",
            CommandError::Full(_) => "full",
            CommandError::Read(read) => return read.clone().into(),
            _ => "internal",
        };
        Self::Refused { reason: reason.to_owned(), message: error.to_string() }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        Self::Store { message: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use kith_protocol::Wall;

    use super::*;

    #[test]
    fn an_expired_invite_names_both_times_also_after_the_way_over_json() {
        let (expired, now) = (Wall(1_790_000_000_000), Wall(1_790_000_060_000));
        let error = Error::from(CommandError::InviteExpired { expired, now });
        let text = error.to_string();
        for time in [Timestamp::from(expired), Timestamp::from(now)] {
            assert!(text.contains(&time.to_string()), "{text}");
        }
        let json = serde_json::to_value(&error).unwrap();
        assert_eq!(json["kind"], "invite-expired");
        assert_eq!(serde_json::from_value::<Error>(json).unwrap(), error);
    }
}
