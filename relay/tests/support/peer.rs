//! A device at a relay: one link, numbered requests, replies as they come.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Buf as _, Bytes, BytesMut};
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use kith_network::Keypair;
use kith_protocol::crypto::custody::Custody;
use kith_protocol::crypto::envelope::envelope_id;
use kith_protocol::crypto::right::{
    RelayRight, deposit_mac, mailbox_id, read_key, sign_open, take_bundle_mac,
};
use kith_protocol::identity::KeyPair;
use kith_protocol::secret::Secret32;
use kith_protocol::wire::Frame;
use kith_protocol::wire::relay::{
    Answer, Ask, Deposit, Listed, MailboxState, OpenMailbox, RefusalCode, RelayHello, RelayRequest,
    RightSpec, Stored,
};
use kith_protocol::{DeviceId, EnvelopeId, MailboxId};
use libp2p::core::muxing::SubstreamBox;
use tokio::sync::{mpsc, oneshot};

use super::CEILING;
use super::raw::Raw;

type Pending = Arc<Mutex<HashMap<u64, (Vec<Answer>, Option<oneshot::Sender<Vec<Answer>>>)>>>;

/// A link to a relay.
pub struct Peer {
    _raw: Raw,
    frames: mpsc::Sender<Bytes>,
    pending: Pending,
    next: AtomicU64,
    pub hello: RelayHello,
    pub relay: DeviceId,
    /// Replies nobody asked for.
    pub unasked: Arc<Mutex<Vec<Answer>>>,
    reader: tokio::task::JoinHandle<()>,
    deaf: Arc<AtomicBool>,
}

/// A link whose other end is not read.
pub struct Deaf {
    frames: mpsc::Sender<Bytes>,
    _peer: Peer,
}

impl Deaf {
    /// Sends; `false` if the link takes nothing more.
    pub async fn push(&self, frame: Bytes) -> bool {
        matches!(
            tokio::time::timeout(std::time::Duration::from_millis(200), self.frames.send(frame)).await,
            Ok(Ok(()))
        )
    }
}

pub fn keypair(seed: u64) -> Keypair {
    let mut bytes = [9; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    Keypair::ed25519_from_bytes(bytes).unwrap()
}

pub fn relay_id(address: &str) -> DeviceId {
    kith_network::device_of(address.rsplit('/').next().unwrap()).unwrap()
}

pub fn encode(frame: &Bytes) -> Vec<u8> {
    let (mut len, mut out) = (frame.len(), Vec::with_capacity(frame.len() + 3));
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(frame);
    out
}

fn take_frame(buffer: &mut BytesMut) -> Option<Bytes> {
    let (mut len, mut shift, mut used) = (0_usize, 0, 0);
    loop {
        let byte = *buffer.get(used)?;
        used += 1;
        len |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            break;
        }
    }
    if buffer.len() < used + len {
        return None;
    }
    buffer.advance(used);
    Some(buffer.split_to(len).freeze())
}

async fn next_frame(stream: &mut SubstreamBox, buffer: &mut BytesMut) -> std::io::Result<Bytes> {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        if let Some(frame) = take_frame(buffer) {
            return Ok(frame);
        }
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        buffer.extend_from_slice(&chunk[..read]);
    }
}

impl Peer {
    pub async fn connect(address: &str, seed: u64) -> Self {
        tokio::time::timeout(CEILING, Self::try_connect(address, seed))
            .await
            .expect("no link in time")
            .unwrap()
    }

    #[allow(clippy::disallowed_methods, reason = "a test's own tasks")]
    pub async fn try_connect(address: &str, seed: u64) -> std::io::Result<Self> {
        let mut raw = Raw::connect(&keypair(seed), address).await?;
        let (mut ours, mut theirs) = raw.link().await?;
        let mut buffer = BytesMut::new();
        let first = next_frame(&mut theirs, &mut buffer).await?;
        let Ok(Frame::RelayHello(hello)) = Frame::decode(&first) else {
            panic!("the first frame is no hello")
        };
        let (frames, mut outgoing) = mpsc::channel::<Bytes>(256);
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while let Some(frame) = outgoing.recv().await {
                batch.clear();
                batch.extend_from_slice(&encode(&frame));
                while batch.len() < 64 * 1024
                    && let Ok(frame) = outgoing.try_recv()
                {
                    batch.extend_from_slice(&encode(&frame));
                }
                if ours.write_all(&batch).await.is_err() || ours.flush().await.is_err() {
                    return;
                }
            }
        });
        let pending = Pending::default();
        let unasked = Arc::<Mutex<Vec<Answer>>>::default();
        let (of_reader, told) = (Arc::clone(&pending), Arc::clone(&unasked));
        let deaf = Arc::<AtomicBool>::default();
        let is_deaf = Arc::clone(&deaf);
        let reader = tokio::spawn(async move {
            while let Ok(frame) = next_frame(&mut theirs, &mut buffer).await {
                if is_deaf.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
                let Ok(Frame::RelayReply(reply)) = Frame::decode(&frame) else { panic!("not a reply") };
                if reply.id == 0 {
                    told.lock().unwrap().push(reply.answer);
                    continue;
                }
                let more = matches!(&reply.answer, Answer::Envelopes { more: true, .. });
                let mut pending = of_reader.lock().unwrap();
                let entry = pending.get_mut(&reply.id).expect("a reply to nothing");
                entry.0.push(reply.answer);
                if !more {
                    let (answers, sender) = pending.remove(&reply.id).unwrap();
                    let _ = sender.unwrap().send(answers);
                }
            }
            // whoever waits learns that nothing comes any more
            of_reader.lock().unwrap().clear();
        });
        Ok(Self {
            _raw: raw,
            frames,
            pending,
            next: AtomicU64::new(1),
            hello,
            relay: relay_id(address),
            unasked,
            reader,
            deaf,
        })
    }

    /// Whether the relay has ended the link.
    pub fn is_closed(&self) -> bool {
        self.reader.is_finished()
    }

    pub async fn closed(&mut self) {
        tokio::time::timeout(CEILING, &mut self.reader).await.expect("the link stays").unwrap();
    }

    /// From now on nothing is read any more, but the link stays.
    pub fn deafen(self) -> Deaf {
        self.deaf.store(true, Ordering::SeqCst);
        Deaf { frames: self.frames.clone(), _peer: self }
    }

    /// Sends bytes that may be no frame.
    pub async fn send_raw(&self, frame: Bytes) {
        let _ = self.frames.send(frame).await;
    }

    /// Asks without waiting for the answer.
    pub async fn send(&self, ask: Ask) -> oneshot::Receiver<Vec<Answer>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.pending.lock().unwrap().insert(id, (Vec::new(), Some(sender)));
        if self.is_closed() {
            self.pending.lock().unwrap().clear();
        }
        let _ = self.frames.send(Frame::RelayRequest(RelayRequest { id, ask }).encode()).await;
        receiver
    }

    /// The answers; `None` if the link ends first.
    pub async fn try_ask(&self, ask: Ask) -> Option<Vec<Answer>> {
        let receiver = self.send(ask).await;
        tokio::time::timeout(CEILING, receiver).await.expect("no answer in time").ok()
    }

    pub async fn ask(&self, ask: Ask) -> Answer {
        let mut answers = self.try_ask(ask).await.expect("the link ended");
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }
}

/// The owner of a mailbox at a relay, linked to it.
pub struct Owner {
    pub peer: Peer,
    pub key: KeyPair,
    pub mailbox: MailboxId,
}

impl Owner {
    pub async fn connect(address: &str, seed: u64) -> Self {
        Self::connect_as(address, seed, seed).await
    }

    /// With a device key of its own: a relay holds one link of each.
    pub async fn connect_as(address: &str, seed: u64, device: u64) -> Self {
        let peer = Peer::connect(address, device).await;
        let mut secret = [3; 32];
        secret[..8].copy_from_slice(&seed.to_le_bytes());
        let key = read_key(&Secret32::new(secret), &peer.relay, 0);
        Self { mailbox: mailbox_id(&key.public()), key, peer }
    }

    pub fn open_ask(&self, token: &str) -> Ask {
        Ask::Open(OpenMailbox {
            read_key: self.key.public(),
            signature: sign_open(&self.key, &self.peer.relay, &self.peer.hello.nonce),
            token: Bytes::copy_from_slice(token.as_bytes()),
        })
    }

    pub async fn open(&self) -> MailboxState {
        match self.peer.ask(self.open_ask("")).await {
            Answer::Opened(state) => state,
            other => panic!("not opened: {other:?}"),
        }
    }

    /// Opens and puts rights of these numbers in force.
    pub async fn ready(&self, rights: std::ops::Range<u64>) {
        self.open().await;
        let put: Vec<RightSpec> = rights.map(|number| self.spec(number)).collect();
        for put in put.chunks(256) {
            let ask = Ask::SetRights { mailbox: self.mailbox, put: put.to_vec(), revoke: vec![] };
            assert_eq!(refused(&self.peer.ask(ask).await), None);
        }
    }

    pub fn right(&self, number: u64) -> RelayRight {
        let mut secret = [5; 32];
        secret[..8].copy_from_slice(&number.to_le_bytes());
        RelayRight::derive(&Secret32::new(secret), &self.peer.relay, &self.mailbox)
    }

    pub fn spec(&self, number: u64) -> RightSpec {
        let right = self.right(number);
        RightSpec { right: right.id, key: right.key, bytes: 0, items: 0, deposits: 0, lifetime: 0 }
    }

    /// What a contact with this right sends.
    pub fn deposit(&self, number: u64, envelope: &Bytes, ttl: u32) -> Ask {
        let (right, id) = (self.right(number), envelope_id(envelope));
        Ask::Deposit(Deposit {
            mailbox: self.mailbox,
            right: right.id,
            id,
            ttl,
            mac: deposit_mac(&right.key, &self.mailbox, &id, ttl),
            envelope: envelope.clone(),
        })
    }

    pub fn take_bundle(&self, number: u64) -> Ask {
        let (right, nonce) = (self.right(number), [1; 16]);
        let mac = take_bundle_mac(&right.key, &self.mailbox, &nonce);
        Ask::TakeBundle { mailbox: self.mailbox, right: right.id, nonce, mac }
    }

    /// Everything there is.
    pub async fn list(&self) -> Vec<Listed> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let ask = Ask::List { mailbox: self.mailbox, after, max: 512 };
            let Answer::Listed { envelopes, more } = self.peer.ask(ask).await else { panic!("no list") };
            after = envelopes.last().map_or(after, |listed| listed.cursor);
            all.extend(envelopes);
            if !more {
                return all;
            }
        }
    }

    /// Fetches these, asking again for what did not fit.
    pub async fn get(&self, ids: &[EnvelopeId]) -> Vec<Stored> {
        let mut wanted: Vec<EnvelopeId> = ids.to_vec();
        let mut got = Vec::new();
        while !wanted.is_empty() {
            let asked: Vec<EnvelopeId> = wanted.iter().take(512).copied().collect();
            let ask = Ask::Get { mailbox: self.mailbox, envelopes: asked };
            let before = got.len();
            for answer in self.peer.try_ask(ask).await.unwrap() {
                let Answer::Envelopes { envelopes, missing, .. } = answer else { panic!("no envelopes") };
                assert_eq!(missing, []);
                got.extend(envelopes);
            }
            assert!(got.len() > before, "a get without progress");
            let here: std::collections::HashSet<_> = got[before..].iter().map(|stored| stored.id).collect();
            wanted.retain(|id| !here.contains(id));
        }
        got
    }

    pub async fn collect(&self, ids: Vec<EnvelopeId>) -> Option<MailboxState> {
        let answers = self.peer.try_ask(Ask::Collect { mailbox: self.mailbox, envelopes: ids }).await?;
        match answers.first() {
            Some(Answer::Opened(state)) => Some(*state),
            other => panic!("not collected: {other:?}"),
        }
    }
}

/// An envelope of a size class; relays look no further.
pub fn envelope(text: &str, len: usize) -> Bytes {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(len, 0);
    bytes.into()
}

/// The reason of a refusal.
pub fn refused(answer: &Answer) -> Option<RefusalCode> {
    match answer {
        Answer::Refused(refusal) => Some(refusal.code),
        _ => None,
    }
}

/// The custody a deposit was taken into.
pub fn custody(answer: &Answer) -> Custody {
    match answer {
        Answer::Custody(receipt) => Custody::verify(receipt).unwrap(),
        other => panic!("no custody: {other:?}"),
    }
}
