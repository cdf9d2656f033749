//! What a device asks of a relay.

use bytes::Bytes;

use super::copy;
use crate::id::{EnvelopeId, MailboxId, RightId};
use crate::limits;
use crate::secret::Secret32;
use crate::wire::check::{few, short};
use crate::wire::{WireError, exact, id, proto};

/// A numbered request.
#[derive(Debug, Clone, PartialEq)]
pub struct RelayRequest {
    /// Of this link, chosen by the device, not 0.
    pub id: u64,
    /// What is asked.
    pub ask: Ask,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Ask {
    /// Makes a mailbox, or proves that it is ours; the rest of the owner's asks need it on the same link.
    Open(OpenMailbox),
    /// Puts rights in force and takes others back. Revoking removes what was stored under a right.
    SetRights {
        /// Where.
        mailbox: MailboxId,
        /// New ones, and new bounds of known ones; at most [`limits::RELAY_RIGHTS`].
        put: Vec<RightSpec>,
        /// At most [`limits::RELAY_RIGHTS`].
        revoke: Vec<RightId>,
    },
    /// What is there beyond a cursor, oldest first.
    List {
        /// Where.
        mailbox: MailboxId,
        /// The cursor of the last one known, 0 from the start.
        after: u64,
        /// At most so many; [`limits::RELAY_PAGE`] at most.
        max: u32,
    },
    /// The envelopes themselves.
    Get {
        /// Where.
        mailbox: MailboxId,
        /// At most [`limits::RELAY_PAGE`].
        envelopes: Vec<EnvelopeId>,
    },
    /// Takes envelopes away that are on the owner's disk now. The relay remembers their ids until they would have
    /// expired.
    Collect {
        /// Where.
        mailbox: MailboxId,
        /// At most [`limits::RELAY_PAGE`].
        envelopes: Vec<EnvelopeId>,
    },
    /// Like list, but answered only once something is there, or at the deadline with nothing.
    Wait {
        /// Where.
        mailbox: MailboxId,
        /// The cursor of the last one known.
        after: u64,
        /// As in list.
        max: u32,
        /// How long, in milliseconds; [`limits::RELAY_WAIT`] at most.
        deadline: u32,
    },
    /// What strangers with an invite, and contacts, start sessions with.
    PutBundle {
        /// Where.
        mailbox: MailboxId,
        /// The bundle; `None` keeps the one that is there.
        bundle: Option<Bytes>,
        /// How long it is given out, in seconds.
        lifetime: u64,
        /// X25519 keys, each given out once; [`limits::ONE_TIME_KEYS`] at most.
        one_time_keys: Vec<[u8; 32]>,
        /// Those there are removed first.
        replace: bool,
    },
    /// Puts an envelope in somebody's mailbox.
    Deposit(Deposit),
    /// Asks for somebody's bundle and a one-time key.
    TakeBundle {
        /// Where.
        mailbox: MailboxId,
        /// Under which right.
        right: RightId,
        /// Random.
        nonce: [u8; 16],
        /// Over it, under the right's key.
        mac: [u8; 32],
    },
    /// Made by a newer Kith.
    Unknown,
}

/// Opens a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenMailbox {
    /// The mailbox id is computed from it.
    pub read_key: [u8; 32],
    /// Proves the read key for this relay and link.
    pub signature: [u8; 64],
    /// The operator's, where one is needed; may be empty.
    pub token: Bytes,
}

/// A right as its mailbox's owner registers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RightSpec {
    /// Its id at this relay.
    pub right: RightId,
    /// Its key at this relay.
    pub key: Secret32,
    /// Bytes stored under it at a time, 0: the relay's own bound.
    pub bytes: u64,
    /// Envelopes stored under it at a time, 0: the relay's own bound.
    pub items: u64,
    /// Deposits ever, 0: without bound.
    pub deposits: u64,
    /// Seconds from now, 0: renewed by each visit of the owner.
    pub lifetime: u64,
}

/// An envelope for somebody's mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deposit {
    /// Where.
    pub mailbox: MailboxId,
    /// Under which right.
    pub right: RightId,
    /// The envelope's id; a second deposit of it changes nothing.
    pub id: EnvelopeId,
    /// How long it should be kept, in seconds.
    pub ttl: u32,
    /// Over mailbox, id and TTL, under the right's key.
    pub mac: [u8; 32],
    /// The envelope.
    pub envelope: Bytes,
}

impl RelayRequest {
    pub(in crate::wire) fn from_proto(request: proto::RelayRequest) -> Result<Self, WireError> {
        if request.id == 0 {
            return Err(WireError::Field("the request's number"));
        }
        Ok(Self { id: request.id, ask: Ask::from_proto(request.ask)? })
    }

    pub(in crate::wire) fn to_proto(&self) -> proto::RelayRequest {
        proto::RelayRequest { id: self.id, ask: self.ask.to_proto() }
    }
}

fn mailbox(bytes: &[u8]) -> Result<MailboxId, WireError> {
    id("the mailbox id", bytes)
}

fn envelopes(given: &[Bytes]) -> Result<Vec<EnvelopeId>, WireError> {
    few("envelope ids", given.len(), limits::RELAY_PAGE)?;
    given.iter().map(|bytes| id("an envelope id", bytes)).collect()
}

fn ids_to_proto(ids: &[EnvelopeId]) -> Vec<Bytes> {
    ids.iter().map(|id| copy(id.as_bytes())).collect()
}

impl Ask {
    fn from_proto(ask: Option<proto::relay_request::Ask>) -> Result<Self, WireError> {
        use proto::relay_request::Ask as Proto;
        Ok(match ask {
            Some(Proto::Open(open)) => {
                short("the token", open.token.len(), limits::TOKEN)?;
                Self::Open(OpenMailbox {
                    read_key: exact("the read key", &open.read_key)?,
                    signature: exact("the signature", &open.signature)?,
                    token: open.token,
                })
            }
            Some(Proto::SetRights(set)) => {
                few("rights", set.put.len(), limits::RELAY_RIGHTS)?;
                few("revoked rights", set.revoke.len(), limits::RELAY_RIGHTS)?;
                Self::SetRights {
                    mailbox: mailbox(&set.mailbox)?,
                    put: set.put.iter().map(RightSpec::from_proto).collect::<Result<_, _>>()?,
                    revoke: set
                        .revoke
                        .iter()
                        .map(|right| id("a right id", right))
                        .collect::<Result<_, _>>()?,
                }
            }
            Some(Proto::List(list)) => {
                Self::List { mailbox: mailbox(&list.mailbox)?, after: list.after, max: list.max }
            }
            Some(Proto::Get(get)) => {
                Self::Get { mailbox: mailbox(&get.mailbox)?, envelopes: envelopes(&get.envelopes)? }
            }
            Some(Proto::Collect(collect)) => Self::Collect {
                mailbox: mailbox(&collect.mailbox)?,
                envelopes: envelopes(&collect.envelopes)?,
            },
            Some(Proto::Wait(wait)) => Self::Wait {
                mailbox: mailbox(&wait.mailbox)?,
                after: wait.after,
                max: wait.max,
                deadline: wait.deadline,
            },
            Some(Proto::PutBundle(put)) => {
                short("the bundle", put.bundle.len(), limits::BUNDLE)?;
                few("one-time keys", put.one_time_keys.len(), limits::ONE_TIME_KEYS)?;
                let keys = put.one_time_keys.iter().map(|key| exact("a one-time key", key));
                Self::PutBundle {
                    mailbox: mailbox(&put.mailbox)?,
                    one_time_keys: keys.collect::<Result<_, _>>()?,
                    bundle: (!put.bundle.is_empty()).then_some(put.bundle),
                    lifetime: put.lifetime,
                    replace: put.replace,
                }
            }
            Some(Proto::Deposit(deposit)) => {
                short("the envelope", deposit.envelope.len(), limits::ENVELOPE)?;
                Self::Deposit(Deposit {
                    mailbox: mailbox(&deposit.mailbox)?,
                    right: id("the right id", &deposit.right)?,
                    id: id("the envelope id", &deposit.id)?,
                    ttl: deposit.ttl,
                    mac: exact("the deposit's MAC", &deposit.mac)?,
                    envelope: deposit.envelope,
                })
            }
            Some(Proto::TakeBundle(take)) => Self::TakeBundle {
                mailbox: mailbox(&take.mailbox)?,
                right: id("the right id", &take.right)?,
                nonce: exact("the nonce", &take.nonce)?,
                mac: exact("the request's MAC", &take.mac)?,
            },
            None => Self::Unknown,
        })
    }

    fn to_proto(&self) -> Option<proto::relay_request::Ask> {
        use proto::relay_request::Ask as Proto;
        let id = |mailbox: &MailboxId| copy(mailbox.as_bytes());
        Some(match self {
            Self::Open(open) => Proto::Open(proto::OpenMailbox {
                read_key: copy(&open.read_key),
                signature: copy(&open.signature),
                token: open.token.clone(),
            }),
            Self::SetRights { mailbox, put, revoke } => Proto::SetRights(proto::SetRights {
                mailbox: id(mailbox),
                put: put.iter().map(RightSpec::to_proto).collect(),
                revoke: revoke.iter().map(|right| copy(right.as_bytes())).collect(),
            }),
            Self::List { mailbox, after, max } => {
                Proto::List(proto::ListMailbox { mailbox: id(mailbox), after: *after, max: *max })
            }
            Self::Get { mailbox, envelopes } => {
                Proto::Get(proto::GetEnvelopes { mailbox: id(mailbox), envelopes: ids_to_proto(envelopes) })
            }
            Self::Collect { mailbox, envelopes } => Proto::Collect(proto::CollectEnvelopes {
                mailbox: id(mailbox),
                envelopes: ids_to_proto(envelopes),
            }),
            Self::Wait { mailbox, after, max, deadline } => Proto::Wait(proto::WaitMailbox {
                mailbox: id(mailbox),
                after: *after,
                max: *max,
                deadline: *deadline,
            }),
            Self::PutBundle { mailbox, bundle, lifetime, one_time_keys, replace } => {
                Proto::PutBundle(proto::PutBundle {
                    mailbox: id(mailbox),
                    bundle: bundle.clone().unwrap_or_default(),
                    lifetime: *lifetime,
                    one_time_keys: one_time_keys.iter().map(|key| copy(key)).collect(),
                    replace: *replace,
                })
            }
            Self::Deposit(deposit) => Proto::Deposit(proto::Deposit {
                mailbox: id(&deposit.mailbox),
                right: copy(deposit.right.as_bytes()),
                id: copy(deposit.id.as_bytes()),
                ttl: deposit.ttl,
                mac: copy(&deposit.mac),
                envelope: deposit.envelope.clone(),
            }),
            Self::TakeBundle { mailbox, right, nonce, mac } => Proto::TakeBundle(proto::TakeBundle {
                mailbox: id(mailbox),
                right: copy(right.as_bytes()),
                nonce: copy(nonce),
                mac: copy(mac),
            }),
            Self::Unknown => return None,
        })
    }
}

impl RightSpec {
    fn from_proto(spec: &proto::RightSpec) -> Result<Self, WireError> {
        Ok(Self {
            right: id("a right id", &spec.right)?,
            key: Secret32::new(exact("a right's key", &spec.key)?),
            bytes: spec.bytes,
            items: spec.items,
            deposits: spec.deposits,
            lifetime: spec.lifetime,
        })
    }

    fn to_proto(&self) -> proto::RightSpec {
        proto::RightSpec {
            right: copy(self.right.as_bytes()),
            key: copy(self.key.expose()),
            bytes: self.bytes,
            items: self.items,
            deposits: self.deposits,
            lifetime: self.lifetime,
        }
    }
}
