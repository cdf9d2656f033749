//! Frames of the held link between two devices.

use bytes::Bytes;
use prost::Message as _;

use super::check::{few, short};
use super::relay::{RelayHello, RelayReply, RelayRequest};
use super::{Frontier, WireError, decode, exact, id, proto};
use crate::id::{ConversationId, EnvelopeId, InviteId, StreamId};
use crate::limits;
use crate::time::Wall;

/// One frame.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Frame {
    /// The first frame in each direction.
    Hello {
        /// Highest protocol version the sender speaks.
        version: u32,
        /// Version and hash of the sender's device list; told to contacts only.
        list: Option<(u64, [u8; 32])>,
        /// The sender's wall clock: a jumped clock is noticed by comparing.
        time: Wall,
    },
    /// A sealed envelope.
    Envelope(Bytes),
    /// Asks for a prekey bundle.
    BundleRequest {
        /// A stranger's invite with the proof of holding it; a contact needs none.
        invite: Option<(InviteId, [u8; 32])>,
    },
    /// A prekey bundle, not verified yet.
    Bundle(Bytes),
    /// What the sender has of the receiver's streams.
    Frontiers(Vec<Frontier>),
    /// The person is typing, or stopped.
    Typing {
        /// Where.
        conversation: ConversationId,
        /// Typing now.
        active: bool,
    },
    /// These envelopes are on the sender's disk (or were before).
    Ack(Vec<EnvelopeId>),
    /// An envelope will never be taken.
    Refuse {
        /// Which.
        envelope: EnvelopeId,
        /// Why.
        reason: RefuseReason,
    },
    /// How far the sender's own streams go: a receiver that has less asks for the rest.
    Streams(Vec<StreamHead>),
    /// A device asks a relay.
    RelayRequest(RelayRequest),
    /// A relay answers.
    RelayReply(RelayReply),
    /// A relay's first frame.
    RelayHello(RelayHello),
    /// Made by a newer Kith.
    Unknown,
}

/// The end of one of the sender's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamHead {
    /// The conversation.
    pub conversation: ConversationId,
    /// The stream.
    pub stream: StreamId,
    /// The last number written.
    pub number: u64,
}

/// Why an envelope was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefuseReason {
    /// The receiver has removed the contact.
    Removed,
    /// It is larger than the receiver takes.
    TooLarge,
    /// It is no envelope.
    Malformed,
    /// A reason this version does not know.
    Other(u32),
}

impl RefuseReason {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Removed => 1,
            Self::TooLarge => 2,
            Self::Malformed => 3,
            Self::Other(number) => number,
        }
    }

    /// The reason behind a number.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Removed,
            2 => Self::TooLarge,
            3 => Self::Malformed,
            other => Self::Other(other),
        }
    }
}

impl StreamHead {
    fn from_proto(head: &proto::StreamHead) -> Result<Self, WireError> {
        Ok(Self {
            conversation: id("the conversation id", &head.conversation)?,
            stream: id("the stream id", &head.stream)?,
            number: head.number,
        })
    }

    fn to_proto(self) -> proto::StreamHead {
        proto::StreamHead {
            conversation: Bytes::copy_from_slice(self.conversation.as_bytes()),
            stream: Bytes::copy_from_slice(self.stream.as_bytes()),
            number: self.number,
        }
    }
}

impl Frame {
    /// Decodes a frame without its length prefix.
    ///
    /// # Errors
    /// [`WireError`] naming the part that is wrong. A frame of a kind this version does not know is
    /// [`Frame::Unknown`].
    pub fn decode(bytes: &Bytes) -> Result<Self, WireError> {
        use proto::frame::Kind;
        let frame: proto::Frame = decode("the frame", bytes.clone(), limits::FRAME)?;
        Ok(match frame.kind {
            Some(Kind::Hello(hello)) => {
                if hello.version == 0 {
                    return Err(WireError::Field("the protocol version"));
                }
                let list = match hello.list_version {
                    0 => None,
                    version => Some((version, exact("the device list's hash", &hello.list_hash)?)),
                };
                Self::Hello { version: hello.version, list, time: Wall(hello.time) }
            }
            Some(Kind::Envelope(envelope)) => {
                short("the envelope", envelope.len(), limits::ENVELOPE)?;
                Self::Envelope(envelope)
            }
            Some(Kind::BundleRequest(request)) if request.invite.is_empty() && request.proof.is_empty() => {
                Self::BundleRequest { invite: None }
            }
            Some(Kind::BundleRequest(request)) => Self::BundleRequest {
                invite: Some((
                    id("the invite id", &request.invite)?,
                    exact("the invite proof", &request.proof)?,
                )),
            },
            Some(Kind::Bundle(bundle)) => {
                short("the bundle", bundle.len(), limits::BUNDLE)?;
                Self::Bundle(bundle)
            }
            Some(Kind::Frontiers(frontiers)) => Self::Frontiers(Frontier::all_from_proto(frontiers)?),
            Some(Kind::Typing(typing)) => Self::Typing {
                conversation: id("the conversation id", &typing.conversation)?,
                active: typing.active,
            },
            Some(Kind::Ack(ack)) => {
                few("acknowledged envelopes", ack.envelopes.len(), limits::ACKS)?;
                let ids = ack.envelopes.iter().map(|e| id("an envelope id", e)).collect::<Result<_, _>>()?;
                Self::Ack(ids)
            }
            Some(Kind::Refuse(refuse)) => Self::Refuse {
                envelope: id("the envelope id", &refuse.envelope)?,
                reason: RefuseReason::from_number(refuse.reason),
            },
            Some(Kind::Streams(streams)) => {
                few("stream heads", streams.heads.len(), limits::STREAMS)?;
                Self::Streams(streams.heads.iter().map(StreamHead::from_proto).collect::<Result<_, _>>()?)
            }
            Some(Kind::RelayRequest(request)) => Self::RelayRequest(RelayRequest::from_proto(request)?),
            Some(Kind::RelayReply(reply)) => Self::RelayReply(RelayReply::from_proto(reply)?),
            Some(Kind::RelayHello(hello)) => Self::RelayHello(RelayHello::from_proto(hello)?),
            None => Self::Unknown,
        })
    }

    /// Encodes the frame, without a length prefix. [`Frame::Unknown`] gives no bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        use proto::frame::Kind;
        let kind = match self {
            Self::Hello { version, list, time } => Some(Kind::Hello(proto::Hello {
                version: *version,
                list_version: list.map_or(0, |(version, _)| version),
                list_hash: list.map_or_else(Bytes::new, |(_, hash)| Bytes::copy_from_slice(&hash)),
                time: time.0,
            })),
            Self::Envelope(envelope) => Some(Kind::Envelope(envelope.clone())),
            Self::BundleRequest { invite } => {
                let (invite, proof) = match invite {
                    Some((id, proof)) => {
                        (Bytes::copy_from_slice(id.as_bytes()), Bytes::copy_from_slice(proof))
                    }
                    None => (Bytes::new(), Bytes::new()),
                };
                Some(Kind::BundleRequest(proto::BundleRequest { invite, proof }))
            }
            Self::Bundle(bundle) => Some(Kind::Bundle(bundle.clone())),
            Self::Frontiers(frontiers) => Some(Kind::Frontiers(Frontier::all_to_proto(frontiers))),
            Self::Typing { conversation, active } => Some(Kind::Typing(proto::Typing {
                conversation: Bytes::copy_from_slice(conversation.as_bytes()),
                active: *active,
            })),
            Self::Ack(envelopes) => Some(Kind::Ack(proto::Ack {
                envelopes: envelopes.iter().map(|e| Bytes::copy_from_slice(e.as_bytes())).collect(),
            })),
            Self::Refuse { envelope, reason } => Some(Kind::Refuse(proto::Refuse {
                envelope: Bytes::copy_from_slice(envelope.as_bytes()),
                reason: reason.number(),
            })),
            Self::Streams(heads) => Some(Kind::Streams(proto::Streams {
                heads: heads.iter().map(|head| head.to_proto()).collect(),
            })),
            Self::RelayRequest(request) => Some(Kind::RelayRequest(request.to_proto())),
            Self::RelayReply(reply) => Some(Kind::RelayReply(reply.to_proto())),
            Self::RelayHello(hello) => Some(Kind::RelayHello(hello.to_proto())),
            Self::Unknown => None,
        };
        proto::Frame { kind }.encode_to_vec().into()
    }
}
