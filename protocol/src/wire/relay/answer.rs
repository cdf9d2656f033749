//! What a relay answers.

use bytes::Bytes;

use super::{Refusal, copy};
use crate::id::{EnvelopeId, MailboxId, RightId};
use crate::limits;
use crate::time::Wall;
use crate::wire::check::{few, short};
use crate::wire::{WireError, id, opt_exact, proto};

/// An answer with the number of what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayReply {
    /// The request's number; 0 if nobody asked.
    pub id: u64,
    /// The answer.
    pub answer: Answer,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// The mailbox as it is now. Answers open, set rights, collect and put bundle.
    Opened(MailboxState),
    /// Answers list and wait.
    Listed {
        /// Oldest first; at most [`limits::RELAY_PAGE`].
        envelopes: Vec<Listed>,
        /// There are more beyond the last one.
        more: bool,
    },
    /// Answers get.
    Envelopes {
        /// Found.
        envelopes: Vec<Stored>,
        /// Not there (any more).
        missing: Vec<EnvelopeId>,
        /// Another reply with the same number follows.
        more: bool,
    },
    /// Answers a deposit: the signed receipt, not verified yet.
    Custody(Bytes),
    /// Answers a deposit: the owner had that envelope and took it away. It proves nothing to anybody.
    Collected(EnvelopeId),
    /// Answers take bundle.
    Bundle {
        /// The bundle as its owner left it, not verified yet.
        bundle: Bytes,
        /// Given to nobody else; `None` if none is left.
        one_time_key: Option<[u8; 32]>,
    },
    /// It was not done.
    Refused(Refusal),
    /// The relay goes off, or this link ends.
    Closing {
        /// When this device should come back, in milliseconds: each is told another time.
        reconnect_after: u64,
    },
    /// Made by a newer Kith.
    Unknown,
}

/// A mailbox as its owner sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailboxState {
    /// Which.
    pub mailbox: MailboxId,
    /// It was made just now.
    pub created: bool,
    /// Bytes stored.
    pub bytes: u64,
    /// Envelopes stored.
    pub items: u64,
    /// Bytes that may be stored.
    pub quota_bytes: u64,
    /// Envelopes that may be stored.
    pub quota_items: u64,
    /// Rights in force.
    pub rights: u64,
    /// One-time keys left.
    pub one_time_keys: u64,
    /// Cursor of the newest envelope there ever was, 0 if there was none.
    pub newest: u64,
    /// Seconds the bundle is still given out, 0 if there is none.
    pub bundle_left: u64,
}

/// An envelope in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: EnvelopeId,
    /// The right it was deposited under.
    pub right: RightId,
    /// Its length.
    pub bytes: u32,
    /// When, by the relay's clock.
    pub stored_at: Wall,
    /// Where it stands: grows with each deposit in this mailbox.
    pub cursor: u64,
}

/// An envelope as it was deposited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its id.
    pub id: EnvelopeId,
    /// The right it was deposited under.
    pub right: RightId,
    /// The envelope.
    pub envelope: Bytes,
}

impl RelayReply {
    pub(in crate::wire) fn from_proto(reply: proto::RelayReply) -> Result<Self, WireError> {
        Ok(Self { id: reply.id, answer: Answer::from_proto(reply.answer)? })
    }

    pub(in crate::wire) fn to_proto(&self) -> proto::RelayReply {
        proto::RelayReply { id: self.id, answer: self.answer.to_proto() }
    }
}

impl Answer {
    fn from_proto(answer: Option<proto::relay_reply::Answer>) -> Result<Self, WireError> {
        use proto::relay_reply::Answer as Proto;
        Ok(match answer {
            Some(Proto::Opened(state)) => Self::Opened(MailboxState::from_proto(&state)?),
            Some(Proto::Listed(listed)) => {
                few("listed envelopes", listed.envelopes.len(), limits::RELAY_PAGE)?;
                Self::Listed {
                    envelopes: listed.envelopes.iter().map(Listed::from_proto).collect::<Result<_, _>>()?,
                    more: listed.more,
                }
            }
            Some(Proto::Envelopes(got)) => {
                few("envelopes", got.envelopes.len(), limits::RELAY_PAGE)?;
                few("missing envelopes", got.missing.len(), limits::RELAY_PAGE)?;
                Self::Envelopes {
                    envelopes: got.envelopes.into_iter().map(Stored::from_proto).collect::<Result<_, _>>()?,
                    missing: got
                        .missing
                        .iter()
                        .map(|bytes| id("an envelope id", bytes))
                        .collect::<Result<_, _>>()?,
                    more: got.more,
                }
            }
            Some(Proto::Custody(receipt)) => {
                short("the custody receipt", receipt.len(), limits::CUSTODY)?;
                Self::Custody(receipt)
            }
            Some(Proto::Collected(collected)) => Self::Collected(id("the envelope id", &collected.envelope)?),
            Some(Proto::Bundle(bundle)) => {
                short("the bundle", bundle.bundle.len(), limits::BUNDLE)?;
                Self::Bundle {
                    one_time_key: opt_exact("the one-time key", &bundle.one_time_key)?,
                    bundle: bundle.bundle,
                }
            }
            Some(Proto::Refused(refusal)) => Self::Refused(Refusal::from_proto(refusal)),
            Some(Proto::Closing(closing)) => Self::Closing { reconnect_after: closing.reconnect_after },
            None => Self::Unknown,
        })
    }

    fn to_proto(&self) -> Option<proto::relay_reply::Answer> {
        use proto::relay_reply::Answer as Proto;
        Some(match self {
            Self::Opened(state) => Proto::Opened(state.to_proto()),
            Self::Listed { envelopes, more } => Proto::Listed(proto::Listed {
                envelopes: envelopes.iter().map(|listed| listed.to_proto()).collect(),
                more: *more,
            }),
            Self::Envelopes { envelopes, missing, more } => Proto::Envelopes(proto::Envelopes {
                envelopes: envelopes.iter().map(Stored::to_proto).collect(),
                missing: missing.iter().map(|id| copy(id.as_bytes())).collect(),
                more: *more,
            }),
            Self::Custody(receipt) => Proto::Custody(receipt.clone()),
            Self::Collected(id) => Proto::Collected(proto::Collected { envelope: copy(id.as_bytes()) }),
            Self::Bundle { bundle, one_time_key } => Proto::Bundle(proto::Bundle {
                bundle: bundle.clone(),
                one_time_key: one_time_key.map_or_else(Bytes::new, |key| copy(&key)),
            }),
            Self::Refused(refusal) => Proto::Refused(refusal.to_proto()),
            Self::Closing { reconnect_after } => {
                Proto::Closing(proto::Closing { reconnect_after: *reconnect_after })
            }
            Self::Unknown => return None,
        })
    }
}

impl MailboxState {
    fn from_proto(state: &proto::MailboxState) -> Result<Self, WireError> {
        Ok(Self {
            mailbox: id("the mailbox id", &state.mailbox)?,
            created: state.created,
            bytes: state.bytes,
            items: state.items,
            quota_bytes: state.quota_bytes,
            quota_items: state.quota_items,
            rights: state.rights,
            one_time_keys: state.one_time_keys,
            newest: state.newest,
            bundle_left: state.bundle_left,
        })
    }

    fn to_proto(self) -> proto::MailboxState {
        proto::MailboxState {
            mailbox: copy(self.mailbox.as_bytes()),
            created: self.created,
            bytes: self.bytes,
            items: self.items,
            quota_bytes: self.quota_bytes,
            quota_items: self.quota_items,
            rights: self.rights,
            one_time_keys: self.one_time_keys,
            newest: self.newest,
            bundle_left: self.bundle_left,
        }
    }
}

impl Listed {
    /// What one of these takes on the wire, at most.
    pub const WIRE: usize = 72;

    fn from_proto(listed: &proto::ListedEnvelope) -> Result<Self, WireError> {
        Ok(Self {
            id: id("an envelope id", &listed.id)?,
            right: id("a right id", &listed.right)?,
            bytes: listed.bytes,
            stored_at: Wall(listed.stored_at),
            cursor: listed.cursor,
        })
    }

    fn to_proto(self) -> proto::ListedEnvelope {
        proto::ListedEnvelope {
            id: copy(self.id.as_bytes()),
            right: copy(self.right.as_bytes()),
            bytes: self.bytes,
            stored_at: self.stored_at.0,
            cursor: self.cursor,
        }
    }
}

impl Stored {
    /// What one of these takes on the wire beyond the envelope, at most.
    pub const WIRE: usize = 48;

    fn from_proto(stored: proto::StoredEnvelope) -> Result<Self, WireError> {
        short("the envelope", stored.envelope.len(), limits::ENVELOPE)?;
        Ok(Self {
            id: id("an envelope id", &stored.id)?,
            right: id("a right id", &stored.right)?,
            envelope: stored.envelope,
        })
    }

    fn to_proto(&self) -> proto::StoredEnvelope {
        proto::StoredEnvelope {
            id: copy(self.id.as_bytes()),
            right: copy(self.right.as_bytes()),
            envelope: self.envelope.clone(),
        }
    }
}
