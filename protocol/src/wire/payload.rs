//! Payloads: what a session carries between two devices.

use bytes::Bytes;
use prost::Message as _;

use super::check::{few, ranges_to_proto, short};
use super::{ContactInfo, WireError, decode, exact, id, opt_id, proto, ranges};
use crate::id::{ConversationId, DeviceId, EntryId, EnvelopeId, InviteId, StreamId};
use crate::time::Wall;
use crate::{crypto, limits};

/// The plaintext of one message of a session.
#[derive(Debug, Clone, PartialEq)]
pub struct Payload {
    /// Version of the sender's device list,
    pub list_version: u64,
    /// and its hash, so that a hidden revocation is noticed.
    pub list_hash: [u8; 32],
    /// The content.
    pub body: PayloadBody,
}

/// What a payload can be.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum PayloadBody {
    /// An entry, in its author's bytes.
    Entry(Bytes),
    /// Takes an invite.
    Accept {
        /// Which.
        invite: InviteId,
        /// By the key derived from the invite's secret; see [`crate::invite`].
        signature: [u8; 64],
        /// About the accepting device.
        info: Box<ContactInfo>,
    },
    /// Answers an acceptance.
    Welcome {
        /// Which invite.
        invite: InviteId,
        /// About the inviting device.
        info: Box<ContactInfo>,
    },
    /// Turns an acceptance down.
    Refused {
        /// Which invite.
        invite: InviteId,
        /// Why.
        reason: RefusedReason,
    },
    /// What the sender has of the receiver's streams.
    Receipt(Receipt),
    /// Asks for entries again, in this fresh session.
    Repair {
        /// Envelopes that could not be opened.
        envelopes: Vec<EnvelopeId>,
        /// The asking device found itself older than it was.
        rolled_back: bool,
    },
    /// Asks for entries of a stream.
    EntryRequest {
        /// Which conversation.
        conversation: ConversationId,
        /// Which stream.
        stream: StreamId,
        /// Which numbers: (first, count), ascending, apart.
        ranges: Vec<(u64, u64)>,
    },
    /// News about the sending device or its person.
    Update(Box<ContactInfo>),
    /// Numbers of the sender's stream that hold no entry and never will.
    Voids {
        /// Which conversation.
        conversation: ConversationId,
        /// Which stream.
        stream: StreamId,
        /// Which numbers: (first, count), ascending, apart.
        ranges: Vec<(u64, u64)>,
    },
    /// Asks for the receiver's device list; an update is the answer.
    ListRequest,
    /// Made by a newer Kith.
    Unknown,
}

/// Why an acceptance was turned down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusedReason {
    /// All uses are spent.
    Used,
    /// Its time was over.
    Expired,
    /// It was taken back.
    Revoked,
    /// The inviting device does not know it.
    Unknown,
    /// A reason this version does not know.
    Other(u32),
}

impl RefusedReason {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Used => 1,
            Self::Expired => 2,
            Self::Revoked => 3,
            Self::Unknown => 4,
            Self::Other(number) => number,
        }
    }

    /// The reason for people, after "the invite was not taken:".
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::Used => "it was used up",
            Self::Expired => "it had expired",
            Self::Revoked => "it was taken back",
            Self::Unknown | Self::Other(_) => "it is not known there",
        }
    }

    /// The reason behind a number.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Used,
            2 => Self::Expired,
            3 => Self::Revoked,
            4 => Self::Unknown,
            other => Self::Other(other),
        }
    }
}

/// What a device has, said inside a session: receipts that travel by relays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Of the receiver's streams; at most [`limits::FRONTIERS`].
    pub frontiers: Vec<Frontier>,
    /// Envelopes that came by relays, hold no entry and are on the sender's disk; at most [`limits::ACKS`].
    pub taken: Vec<EnvelopeId>,
    /// Relays that did not have what another one had; at most [`limits::RELAYS`].
    pub lacking: Vec<Lacking>,
}

/// What one relay did not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// The relay.
    pub relay: DeviceId,
    /// The envelopes, at most [`limits::REQUESTED`]; none: all it had kept.
    pub envelopes: Vec<EnvelopeId>,
    /// When the relay said what it had, by the asking device's clock.
    pub at: Wall,
}

/// What a device has of one stream: a receipt for everything it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontier {
    /// The stream.
    pub stream: StreamId,
    /// Highest number with no gap below it.
    pub delivered: u64,
    /// Id of the entry with that number; none if there is none or the number is void.
    pub hash: Option<EntryId>,
    /// Highest number up to which all was displayed, at most `delivered`.
    pub read: u64,
    /// Held above a gap: (first, count), ascending, apart.
    pub beyond: Vec<(u64, u64)>,
}

impl Frontier {
    pub(super) fn all_from_proto(given: proto::Frontiers) -> Result<Vec<Self>, WireError> {
        few("frontiers", given.frontiers.len(), limits::FRONTIERS)?;
        given.frontiers.into_iter().map(Self::from_proto).collect()
    }

    fn from_proto(frontier: proto::Frontier) -> Result<Self, WireError> {
        if frontier.read > frontier.delivered {
            return Err(WireError::Field("the read mark"));
        }
        Ok(Self {
            stream: id("the stream id", &frontier.stream)?,
            delivered: frontier.delivered,
            hash: opt_id("the entry id", &frontier.hash)?,
            read: frontier.read,
            beyond: ranges("ranges beyond", &frontier.beyond, frontier.delivered, limits::RANGES)?,
        })
    }

    pub(super) fn all_to_proto(frontiers: &[Self]) -> proto::Frontiers {
        let frontiers = frontiers
            .iter()
            .map(|f| proto::Frontier {
                stream: Bytes::copy_from_slice(f.stream.as_bytes()),
                delivered: f.delivered,
                hash: f.hash.map_or_else(Bytes::new, |hash| Bytes::copy_from_slice(hash.as_bytes())),
                read: f.read,
                beyond: ranges_to_proto(&f.beyond),
            })
            .collect();
        proto::Frontiers { frontiers, ..proto::Frontiers::default() }
    }
}

impl Receipt {
    fn from_proto(given: proto::Frontiers) -> Result<Self, WireError> {
        few("envelopes taken", given.taken.len(), limits::ACKS)?;
        few("relays", given.lacking.len(), limits::RELAYS)?;
        let taken = envelope_ids(&given.taken)?;
        let lacking = given.lacking.iter().map(Lacking::from_proto).collect::<Result<_, _>>()?;
        Ok(Self { taken, lacking, frontiers: Frontier::all_from_proto(given)? })
    }

    fn to_proto(&self) -> proto::Frontiers {
        proto::Frontiers {
            taken: envelope_ids_to_proto(&self.taken),
            lacking: self.lacking.iter().map(Lacking::to_proto).collect(),
            ..Frontier::all_to_proto(&self.frontiers)
        }
    }
}

impl Lacking {
    fn from_proto(given: &proto::Lacking) -> Result<Self, WireError> {
        few("envelopes lacking", given.envelopes.len(), limits::REQUESTED)?;
        Ok(Self {
            relay: id("the relay's key", &given.relay)?,
            envelopes: envelope_ids(&given.envelopes)?,
            at: Wall(given.at),
        })
    }

    fn to_proto(&self) -> proto::Lacking {
        proto::Lacking {
            relay: Bytes::copy_from_slice(self.relay.as_bytes()),
            envelopes: envelope_ids_to_proto(&self.envelopes),
            at: self.at.0,
        }
    }
}

fn envelope_ids(given: &[Bytes]) -> Result<Vec<EnvelopeId>, WireError> {
    given.iter().map(|bytes| id("an envelope id", bytes)).collect()
}

fn envelope_ids_to_proto(ids: &[EnvelopeId]) -> Vec<Bytes> {
    ids.iter().map(|id| Bytes::copy_from_slice(id.as_bytes())).collect()
}

impl Payload {
    /// Decodes a payload.
    ///
    /// # Errors
    /// [`WireError`] naming the part that is wrong. A payload of a kind this version does not know has the body
    /// [`PayloadBody::Unknown`].
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let payload = decode_payload(bytes)?;
        Ok(Self {
            list_version: payload.list_version,
            list_hash: exact("the device list's hash", &payload.list_hash)?,
            body: payload.body.map_or(Ok(PayloadBody::Unknown), PayloadBody::from_proto)?,
        })
    }

    /// Encodes the payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let payload = proto::Payload {
            list_version: self.list_version,
            list_hash: Bytes::copy_from_slice(&self.list_hash),
            body: self.body.to_proto(),
        };
        payload.encode_to_vec().into()
    }
}

fn decode_payload(bytes: &[u8]) -> Result<proto::Payload, WireError> {
    let max = crypto::envelope::max_payload();
    short("the payload", bytes.len(), max)?;
    decode("the payload", Bytes::copy_from_slice(bytes), max)
}

impl PayloadBody {
    /// Encodes the body alone, as a job keeps it until the payload around it is made.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        proto::Payload { body: self.to_proto(), ..proto::Payload::default() }.encode_to_vec().into()
    }

    /// Reads what [`encode`](Self::encode) made.
    ///
    /// # Errors
    /// [`WireError`] as for [`Payload::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        decode_payload(bytes)?.body.map_or(Ok(Self::Unknown), Self::from_proto)
    }

    fn from_proto(body: proto::payload::Body) -> Result<Self, WireError> {
        use proto::payload::Body;
        let info = |info: Option<proto::ContactInfo>| {
            let info = info.ok_or(WireError::Field("the contact's details"))?;
            ContactInfo::from_proto(info).map(Box::new)
        };
        Ok(match body {
            Body::Entry(entry) => {
                short("the entry", entry.len(), limits::ENTRY)?;
                Self::Entry(entry)
            }
            Body::Accept(accept) => Self::Accept {
                invite: id("the invite id", &accept.invite)?,
                signature: exact("the acceptance's signature", &accept.signature)?,
                info: info(accept.info)?,
            },
            Body::Welcome(welcome) => {
                Self::Welcome { invite: id("the invite id", &welcome.invite)?, info: info(welcome.info)? }
            }
            Body::Refused(refused) => Self::Refused {
                invite: id("the invite id", &refused.invite)?,
                reason: RefusedReason::from_number(refused.reason),
            },
            Body::Frontiers(frontiers) => Self::Receipt(Receipt::from_proto(frontiers)?),
            Body::Repair(repair) => {
                few("envelopes to repair", repair.envelopes.len(), limits::REQUESTED)?;
                Self::Repair { envelopes: envelope_ids(&repair.envelopes)?, rolled_back: repair.rolled_back }
            }
            Body::EntryRequest(request) => Self::EntryRequest {
                conversation: id("the conversation id", &request.conversation)?,
                stream: id("the stream id", &request.stream)?,
                ranges: ranges("requested ranges", &request.ranges, 0, limits::RANGES)?,
            },
            Body::ListRequest(proto::ListRequest {}) => Self::ListRequest,
            Body::Update(update) => Self::Update(info(Some(update))?),
            Body::Voids(voids) => Self::Voids {
                conversation: id("the conversation id", &voids.conversation)?,
                stream: id("the stream id", &voids.stream)?,
                ranges: ranges("void ranges", &voids.ranges, 0, limits::RANGES)?,
            },
        })
    }

    fn to_proto(&self) -> Option<proto::payload::Body> {
        use proto::payload::Body;
        let invite_bytes = |invite: &InviteId| Bytes::copy_from_slice(invite.as_bytes());
        Some(match self {
            Self::Entry(entry) => Body::Entry(entry.clone()),
            Self::Accept { invite, signature, info } => Body::Accept(proto::Accept {
                invite: invite_bytes(invite),
                signature: Bytes::copy_from_slice(signature),
                info: Some(info.to_proto()),
            }),
            Self::Welcome { invite, info } => {
                Body::Welcome(proto::Welcome { invite: invite_bytes(invite), info: Some(info.to_proto()) })
            }
            Self::Refused { invite, reason } => {
                Body::Refused(proto::Refused { invite: invite_bytes(invite), reason: reason.number() })
            }
            Self::Receipt(receipt) => Body::Frontiers(receipt.to_proto()),
            Self::Repair { envelopes, rolled_back } => Body::Repair(proto::RepairRequest {
                envelopes: envelope_ids_to_proto(envelopes),
                rolled_back: *rolled_back,
            }),
            Self::EntryRequest { conversation, stream, ranges } => Body::EntryRequest(proto::EntryRequest {
                conversation: Bytes::copy_from_slice(conversation.as_bytes()),
                stream: Bytes::copy_from_slice(stream.as_bytes()),
                ranges: ranges_to_proto(ranges),
            }),
            Self::Update(info) => Body::Update(info.to_proto()),
            Self::Voids { conversation, stream, ranges } => Body::Voids(proto::Voids {
                conversation: Bytes::copy_from_slice(conversation.as_bytes()),
                stream: Bytes::copy_from_slice(stream.as_bytes()),
                ranges: ranges_to_proto(ranges),
            }),
            Self::ListRequest => Body::ListRequest(proto::ListRequest {}),
            Self::Unknown => return None,
        })
    }
}
