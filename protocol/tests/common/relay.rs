//! Two kinds of people at a test relay: owners of mailboxes and depositors.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part")]

use bytes::Bytes;
use kith_protocol::crypto::custody::Custody;
use kith_protocol::crypto::envelope::envelope_id;
use kith_protocol::crypto::right::{
    RelayRight, deposit_mac, mailbox_id, read_key, sign_open, take_bundle_mac,
};
use kith_protocol::engine::LinkId;
use kith_protocol::identity::KeyPair;
use kith_protocol::secret::Secret32;
use kith_protocol::testing::TestRelay;
use kith_protocol::wire::Frame;
use kith_protocol::wire::relay::{
    Answer, Ask, Deposit, MailboxState, OpenMailbox, RefusalCode, RelayRequest, RightSpec,
};
use kith_protocol::{DeviceId, EnvelopeId, MailboxId, Now, RightId};

/// An envelope of a size class; relays look no further.
pub(crate) fn envelope(text: &str, len: usize) -> Bytes {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(len, 0);
    bytes.into()
}

pub(crate) fn right_secret(number: u8) -> Secret32 {
    Secret32::new([number; 32])
}

/// The owner of a mailbox, with a link.
pub(crate) struct Owner {
    pub(crate) key: KeyPair,
    pub(crate) mailbox: MailboxId,
    pub(crate) link: LinkId,
    nonce: [u8; 32],
    relay: DeviceId,
}

impl Owner {
    pub(crate) fn new(relay: &mut TestRelay, seed: u8, now: Now) -> Self {
        let id = relay.id();
        let key = read_key(&Secret32::new([seed; 32]), &id, 0);
        let (link, hello) = relay.connect(DeviceId([seed; 32]), now);
        let Frame::RelayHello(hello) = Frame::decode(&hello).unwrap() else { panic!("no hello") };
        Self { mailbox: mailbox_id(&key.public()), key, link, nonce: hello.nonce, relay: id }
    }

    pub(crate) fn open_with(&self, relay: &mut TestRelay, token: &[u8], now: Now) -> Answer {
        let open = OpenMailbox {
            read_key: self.key.public(),
            signature: sign_open(&self.key, &self.relay, &self.nonce),
            token: Bytes::copy_from_slice(token),
        };
        ask(relay, self.link, Ask::Open(open), now)
    }

    pub(crate) fn open(&self, relay: &mut TestRelay, now: Now) -> MailboxState {
        match self.open_with(relay, b"", now) {
            Answer::Opened(state) => state,
            other => panic!("not opened: {other:?}"),
        }
    }

    pub(crate) fn right(&self, number: u8) -> RelayRight {
        RelayRight::derive(&right_secret(number), &self.relay, &self.mailbox)
    }

    pub(crate) fn spec(&self, number: u8) -> RightSpec {
        let right = self.right(number);
        RightSpec { right: right.id, key: right.key, bytes: 0, items: 0, deposits: 0, lifetime: 0 }
    }

    pub(crate) fn put(&self, relay: &mut TestRelay, put: Vec<RightSpec>, now: Now) -> Answer {
        ask(relay, self.link, Ask::SetRights { mailbox: self.mailbox, put, revoke: Vec::new() }, now)
    }

    pub(crate) fn revoke(&self, relay: &mut TestRelay, number: u8, now: Now) -> Answer {
        let revoke = vec![self.right(number).id];
        ask(relay, self.link, Ask::SetRights { mailbox: self.mailbox, put: Vec::new(), revoke }, now)
    }

    pub(crate) fn list(&self, relay: &mut TestRelay, after: u64, max: u32, now: Now) -> Answer {
        ask(relay, self.link, Ask::List { mailbox: self.mailbox, after, max }, now)
    }

    pub(crate) fn collect(&self, relay: &mut TestRelay, envelopes: Vec<EnvelopeId>, now: Now) -> Answer {
        ask(relay, self.link, Ask::Collect { mailbox: self.mailbox, envelopes }, now)
    }

    /// What a contact with this right sends.
    pub(crate) fn deposit(&self, number: u8, envelope: &Bytes, ttl: u32) -> Deposit {
        let (right, id) = (self.right(number), envelope_id(envelope));
        Deposit {
            mailbox: self.mailbox,
            right: right.id,
            id,
            ttl,
            mac: deposit_mac(&right.key, &self.mailbox, &id, ttl),
            envelope: envelope.clone(),
        }
    }

    pub(crate) fn take_bundle(&self, number: u8, nonce: u8) -> Ask {
        let (right, nonce) = (self.right(number), [nonce; 16]);
        let mac = take_bundle_mac(&right.key, &self.mailbox, &nonce);
        Ask::TakeBundle { mailbox: self.mailbox, right: right.id, nonce, mac }
    }
}

/// A link of nobody in particular.
pub(crate) fn stranger(relay: &mut TestRelay, now: Now) -> LinkId {
    relay.connect(DeviceId([0xee; 32]), now).0
}

/// Asks and takes the one answer.
pub(crate) fn ask(relay: &mut TestRelay, link: LinkId, ask: Ask, now: Now) -> Answer {
    let mut answers = ask_all(relay, link, 7, ask, now);
    assert_eq!(answers.len(), 1, "{answers:?}");
    answers.remove(0).2
}

/// Asks and takes whatever is sent to anybody.
pub(crate) fn ask_all(
    relay: &mut TestRelay,
    link: LinkId,
    id: u64,
    ask: Ask,
    now: Now,
) -> Vec<(LinkId, u64, Answer)> {
    let frame = Frame::RelayRequest(RelayRequest { id, ask }).encode();
    relay.frame(link, &frame, now).into_iter().map(|(link, bytes)| decoded(link, &bytes)).collect()
}

pub(crate) fn decoded(link: LinkId, bytes: &Bytes) -> (LinkId, u64, Answer) {
    match Frame::decode(bytes).unwrap() {
        Frame::RelayReply(reply) => (link, reply.id, reply.answer),
        other => panic!("not a reply: {other:?}"),
    }
}

/// The reason of a refusal.
pub(crate) fn refused(answer: &Answer) -> Option<RefusalCode> {
    match answer {
        Answer::Refused(refusal) => Some(refusal.code),
        _ => None,
    }
}

/// The custody a deposit was taken into.
pub(crate) fn custody(answer: &Answer) -> Custody {
    match answer {
        Answer::Custody(receipt) => Custody::verify(receipt).unwrap(),
        other => panic!("no custody: {other:?}"),
    }
}

/// Ids and rights of a list.
pub(crate) fn listed(answer: &Answer) -> Vec<(EnvelopeId, RightId, u64)> {
    match answer {
        Answer::Listed { envelopes, .. } => envelopes.iter().map(|e| (e.id, e.right, e.cursor)).collect(),
        other => panic!("no list: {other:?}"),
    }
}
