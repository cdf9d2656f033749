//! Known-answer tests: what is computed from fixed inputs must equal the files in `tests/vectors/`, which docs/protocol.md
//! points to. After a deliberate change of the protocol, `KITH_WRITE_VECTORS=1 cargo test -p kith-protocol --test vectors`
//! writes them anew.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

mod common;

use std::path::PathBuf;

use bytes::Bytes;
use common::{NOW, Person};
use kith_protocol::crypto::bundle::Bundle;
use kith_protocol::crypto::custody::Custody;
use kith_protocol::crypto::envelope::{self, Content};
use kith_protocol::crypto::right::{
    RelayRight, deposit_mac, mailbox_id, read_key, sign_open, take_bundle_mac, verify_open,
};
use kith_protocol::crypto::session::{self, LocalDevice};
use kith_protocol::directory::{self, DeviceAddresses};
use kith_protocol::entry::{self, Body, Entry};
use kith_protocol::identity::{
    Certificate, DeviceList, KeyPair, Phrase, direct_conversation, safety_number, verify,
};
use kith_protocol::invite::{Acceptance, Invite, InviteSecret};
use kith_protocol::record::{Prekey, RelayRef, Session};
use kith_protocol::secret::Secret32;
use kith_protocol::testing::vectors::{FixedRng, initiator_root, responder_root};
use kith_protocol::wire::relay::{
    AccessMode, Answer, Ask, Deposit, Listed, MailboxState, OpenMailbox, Refusal, RefusalCode, RelayHello,
    RelayLimits, RelayReply, RelayRequest, RightSpec, Stored,
};
use kith_protocol::wire::{Frame, Frontier, Payload, PayloadBody, Receipt, RefuseReason, StreamHead};
use kith_protocol::{
    AccountId, Address, ConversationId, DeviceId, EntryId, EnvelopeId, MailboxId, RightId, SessionId,
    StreamId, Wall,
};
use serde_json::{Value, json};

fn hex(bytes: impl AsRef<[u8]>) -> String {
    data_encoding::HEXLOWER.encode(bytes.as_ref())
}

fn unhex(value: &Value) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn secret(value: &Value) -> Secret32 {
    Secret32::new(unhex(value).try_into().unwrap())
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(format!("{name}.json"))
}

fn write(name: &str, value: &Value) {
    std::fs::write(path(name), format!("{value:#}\n")).unwrap();
}

fn read(name: &str) -> Value {
    let text = std::fs::read_to_string(path(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn writing() -> bool {
    std::env::var_os("KITH_WRITE_VECTORS").is_some()
}

/// Compares with the committed file.
fn check(name: &str, computed: &Value) {
    if writing() {
        write(name, computed);
    }
    assert_eq!(read(name), *computed, "{name}");
}

const WORDS: &str = "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth \
                     useful legal winner thank year wave sausage worth title";

fn address(port: u8) -> Address {
    // /ip4/127.0.0.1/tcp/40xx in binary form
    Address::new(vec![0x04, 127, 0, 0, 1, 0x06, 0x0f, 0xa0 + port]).unwrap()
}

#[test]
fn identity() {
    let phrase = Phrase::parse(WORDS).unwrap();
    let account = KeyPair::from_seed(&phrase.account_seed());
    let (a, b) = (Person::new(1), Person::new(11));
    let certificate = &a.local.certificate;
    assert_eq!(Certificate::parse(&certificate.bytes).unwrap(), *certificate);
    let first = DeviceList::sign(&a.account, 1, None, NOW, NOW.plus(1000), vec![certificate.clone()]);
    let second =
        DeviceList::sign(&a.account, 2, Some(first.hash()), NOW, NOW.plus(1000), vec![certificate.clone()]);
    let (a_id, b_id) = (certificate.account, b.local.certificate.account);
    let signature = a.account.sign("kith/example/1", &[b"first part", b"", b"third"]);
    assert!(verify(a_id.as_bytes(), "kith/example/1", &[b"first part", b"", b"third"], &signature));
    check(
        "identity",
        &json!({
            "phrase": WORDS,
            "account_seed": hex(phrase.account_seed().expose()),
            "account_key": hex(account.public()),
            "signature": {
                "seed": hex([1; 32]), "domain": "kith/example/1",
                "parts": [hex("first part"), "", hex("third")],
                "signature": hex(signature),
            },
            "certificate": {
                "account_seed": hex([1; 32]), "device_seed": hex([2; 32]), "identity_secret": hex([3; 32]),
                "account": a_id.to_string(), "device": certificate.device.to_string(),
                "identity_key": hex(certificate.identity_key),
                "created": certificate.created.0, "expires": certificate.expires.0, "number": 1,
                "bytes": hex(&certificate.bytes),
            },
            "device_list": {
                "first": hex(&first.bytes), "first_hash": hex(first.hash()),
                "second": hex(&second.bytes), "second_hash": hex(second.hash()),
            },
            "pair": {
                "accounts": [a_id.to_string(), b_id.to_string()],
                "safety_number": safety_number(&a_id, &b_id),
                "conversation": direct_conversation(&a_id, &b_id).to_string(),
                "notes": direct_conversation(&a_id, &a_id).to_string(),
            },
        }),
    );
}

#[test]
fn envelopes() {
    let right = Secret32::new([0x21; 32]);
    let content = Content {
        session: SessionId([0x22; 16]),
        number: 300,
        start: None,
        message_type: 1,
        message: Bytes::from_static(b"the ratchet's message"),
    };
    let sealed = envelope::seal(&right, &content, &mut FixedRng::new("envelope")).unwrap();
    assert_eq!(envelope::open(&right, &sealed).unwrap(), content);
    check(
        "envelope",
        &json!({
            "right": hex(right.expose()), "session": content.session.to_string(), "number": content.number,
            "message_type": 1, "message": hex(&content.message),
            "nonce": hex(&sealed[1..25]), "tag": hex(&sealed[25..33]),
            "envelope": hex(&sealed), "id": envelope::envelope_id(&sealed).to_string(),
        }),
    );
}

#[test]
fn pqxdh() {
    let (a, b) = (Person::new(1), Person::new(11));
    let prekey = b.prekey(7, &mut FixedRng::new("bundle"));
    let bundle = Bundle::parse(&prekey.bundle).unwrap();
    let one_time = Secret32::new([0x31; 32]);
    let run = |one_time: Option<&Secret32>| {
        let public = one_time.map(LocalDevice::identity_key);
        let (start, root) =
            initiator_root(&a.local, &bundle, public, &mut FixedRng::new("initiator")).unwrap();
        assert_eq!(responder_root(&b.local, &prekey, one_time, &start).unwrap(), root);
        (start, root)
    };
    let (start, root) = run(None);
    let (with, root_with) = run(Some(&one_time));
    assert_eq!(start.kem_ciphertext, with.kem_ciphertext);
    let mut drawn = [0; 96];
    rand::Rng::fill_bytes(&mut FixedRng::new("initiator"), &mut drawn);
    check(
        "pqxdh",
        &json!({
            "initiator": { "certificate": hex(&a.local.certificate.bytes), "identity_secret": hex([3; 32]) },
            "responder": {
                "certificate": hex(&b.local.certificate.bytes), "identity_secret": hex([13; 32]),
                "prekey_secret": hex(prekey.secret.expose()), "kem_seed": hex(prekey.kem_seed.expose()),
                "bundle": hex(&prekey.bundle), "bundle_hash": hex(bundle.hash()),
                "one_time_secret": hex(one_time.expose()),
            },
            "base_secret": hex(&drawn[..32]), "kem_randomness": hex(&drawn[32..]),
            "base_key": hex(start.base_key), "kem_ciphertext": hex(&start.kem_ciphertext),
            "secret": hex(root.expose()),
            "secret_with_one_time_key": hex(root_with.expose()),
        }),
    );
}

/// The ratchet draws its own keys, so a transcript was recorded once; from saved states it must open for ever.
#[test]
fn recorded_session() {
    let (a, b) = (Person::new(1), Person::new(11));
    let prekey = b.prekey(7, &mut FixedRng::new("bundle"));
    let right = Secret32::new([0x41; 32]);
    if writing() {
        record(&a, &b, &prekey, &right);
    }
    let file = read("session");
    let content = |value: &Value| envelope::open(&secret(&file["right"]), &unhex(value)).unwrap();
    let messages = file["messages"].as_array().unwrap();

    let first = content(&messages[0]["envelope"]);
    let accepted = session::accept(&b.local, &prekey, &first, NOW, &mut rand::rng()).unwrap();
    assert_eq!(*accepted.plaintext, unhex(&messages[0]["plaintext"]));
    assert_eq!(accepted.session.id.to_string(), file["session"]);
    assert_eq!(accepted.initiator, a.local.certificate);
    let mut at_b = accepted.session;
    for message in &messages[1..] {
        let text = session::decrypt(&mut at_b, &content(&message["envelope"])).unwrap();
        assert_eq!(*text, unhex(&message["plaintext"]));
    }

    let mut at_a = Session {
        device: b.local.certificate.device,
        id: at_b.id,
        started: NOW,
        initiator: true,
        state: unhex(&file["initiator_state"]).into(),
        next_sent: 3,
        next_received: 0,
        start: Some(Bytes::new()),
        retired: false,
        broken: false,
    };
    let answer = session::decrypt(&mut at_a, &content(&file["answer"]["envelope"])).unwrap();
    assert_eq!(*answer, unhex(&file["answer"]["plaintext"]));
    assert_eq!(at_a.start, None);
}

fn record(a: &Person, b: &Person, prekey: &Prekey, right: &Secret32) {
    let rng = &mut rand::rng();
    let bundle = Bundle::parse(&prekey.bundle).unwrap();
    let mut at_a = session::start(&a.local, &bundle, None, NOW, rng).unwrap();
    let mut at_b: Option<Session> = None;
    let mut messages = Vec::new();
    for text in ["first", "", "third, a little longer"] {
        let content = session::encrypt(&mut at_a, text.as_bytes(), rng).unwrap();
        match &mut at_b {
            None => at_b = Some(session::accept(&b.local, prekey, &content, NOW, rng).unwrap().session),
            Some(at_b) => drop(session::decrypt(at_b, &content).unwrap()),
        }
        let envelope = envelope::seal(right, &content, rng).unwrap();
        messages.push(json!({ "plaintext": hex(text), "envelope": hex(envelope) }));
    }
    let content = session::encrypt(at_b.as_mut().unwrap(), b"answer", rng).unwrap();
    let answer = envelope::seal(right, &content, rng).unwrap();
    write(
        "session",
        &json!({
            "right": hex(right.expose()), "session": at_a.id.to_string(), "messages": messages,
            "answer": { "plaintext": hex("answer"), "envelope": hex(answer) },
            "initiator_state": hex(&at_a.state),
        }),
    );
}

#[test]
fn invites() {
    let (account, device) = (AccountId([1; 32]), DeviceId([2; 32]));
    let invite = Invite {
        account,
        device,
        secret: InviteSecret::new([0x51; 16]),
        directory_key: [0x52; 32],
        expires: Wall(1_800_000_000_000),
        addresses: vec![address(1), address(2)],
        relays: vec![RelayRef {
            relay: DeviceId([0x53; 32]),
            mailbox: MailboxId([0x54; 16]),
            address: address(3),
        }],
        group: None,
        name: "Ana".into(),
    };
    let (accepter, accepter_device) = (AccountId([3; 32]), DeviceId([4; 32]));
    let acceptance =
        Acceptance { inviter: account, accepter, inviter_device: device, accepter_device, base_key: [5; 32] };
    assert_eq!(Invite::parse(&invite.to_uri()).unwrap(), invite);
    check(
        "invite",
        &json!({
            "account": account.to_string(), "device": device.to_string(), "secret": hex([0x51; 16]),
            "directory_key": hex([0x52; 32]), "expires": invite.expires.0,
            "addresses": [hex(address(1).as_bytes()), hex(address(2).as_bytes())],
            "relays": [{
                "relay": hex([0x53; 32]), "mailbox": hex([0x54; 16]), "address": hex(address(3).as_bytes()),
            }],
            "name": "Ana",
            "bytes": hex(invite.to_bytes()), "uri": invite.to_uri(),
            "id": invite.id().to_string(), "right": hex(invite.right().expose()),
            "directory_secret": hex(invite.directory_secret().expose()),
            "directory": invite.directory().to_string(),
            "accepter": accepter.to_string(), "accepter_device": accepter_device.to_string(),
            "base_key": hex([5; 32]),
            "accept_signature": hex(invite.secret.sign_accept(&acceptance)),
            "bundle_proof": hex(invite.bundle_proof(&accepter_device, &device)),
        }),
    );
}

#[test]
fn directory_records() {
    let a = Person::new(1);
    let device = a.local.certificate.device;
    let (seed, contact_key) = (Secret32::new([0x61; 32]), Secret32::new([0x62; 32]));
    let week = directory::week_key_pair(&seed, &device, NOW.week());
    let says = DeviceAddresses {
        device,
        seq: 9,
        expires: NOW.plus(3_600_000),
        addresses: vec![address(1)],
        relays: vec![RelayRef {
            relay: DeviceId([0x53; 32]),
            mailbox: MailboxId([0x54; 16]),
            address: address(3),
        }],
        device_list: Bytes::from_static(b"in real records a device list"),
    };
    let record =
        directory::build(&week, &a.device, &contact_key, &says, &mut FixedRng::new("directory")).unwrap();
    let key = directory::directory_key(&week.public());
    assert_eq!(directory::open(&key, &record, &contact_key, &device, NOW).unwrap(), says);
    check(
        "directory",
        &json!({
            "seed": hex(seed.expose()), "device_seed": hex([2; 32]), "device": device.to_string(),
            "week": NOW.week(), "week_key": hex(week.public()), "directory_key": key.to_string(),
            "contact_key": hex(contact_key.expose()), "now": NOW.0, "seq": 9, "expires": says.expires.0,
            "addresses": [hex(address(1).as_bytes())],
            "relays": [{
                "relay": hex([0x53; 32]), "mailbox": hex([0x54; 16]), "address": hex(address(3).as_bytes()),
            }],
            "device_list": hex(&says.device_list),
            "record": hex(record),
        }),
    );
}

#[test]
fn entries() {
    let target = EntryId([0x77; 32]);
    let bodies = [
        ("text", Body::Text { text: "Grüße 👋".into(), reply_to: None }),
        ("reply", Body::Text { text: "yes".into(), reply_to: Some(target) }),
        ("edit", Body::Edit { target, text: "no".into() }),
        ("delete", Body::Delete { target }),
        ("reaction", Body::Reaction { target, emoji: "👍".into() }),
    ];
    let made = bodies.map(|(name, body)| {
        let entry = Entry {
            conversation: ConversationId([0x71; 32]),
            account: AccountId([0x72; 32]),
            device: DeviceId([0x73; 32]),
            stream: StreamId([0x74; 16]),
            number: 2,
            previous: Some(EntryId([0x75; 32])),
            parents: vec![EntryId([0x75; 32]), EntryId([0x76; 32])],
            time: NOW,
            order: NOW.0 + 5,
            body,
        };
        let (id, bytes) = entry::encode(&entry);
        assert_eq!(entry::parse(&bytes).unwrap(), (id, entry));
        json!({ "kind": name, "id": id.to_string(), "bytes": hex(bytes) })
    });
    check(
        "entry",
        &json!({
            "conversation": hex([0x71; 32]), "account": hex([0x72; 32]), "device": hex([0x73; 32]),
            "stream": hex([0x74; 16]), "number": 2, "previous": hex([0x75; 32]),
            "parents": [hex([0x75; 32]), hex([0x76; 32])], "time": NOW.0, "order": NOW.0 + 5,
            "target": target.to_string(), "entries": made,
        }),
    );
}

#[test]
fn frames_and_payloads() {
    let frontier = Frontier {
        stream: StreamId([0x81; 16]),
        delivered: 10,
        hash: Some(EntryId([0x82; 32])),
        read: 9,
        beyond: vec![(12, 3), (20, 1)],
    };
    let (conversation, stream) = (ConversationId([0x83; 32]), StreamId([0x81; 16]));
    let envelope = EnvelopeId([0x84; 16]);
    let frames = [
        ("hello", Frame::Hello { version: 1, list: Some((3, [0x85; 32])), time: NOW }),
        ("hello to a stranger", Frame::Hello { version: 1, list: None, time: NOW }),
        ("envelope", Frame::Envelope(Bytes::from_static(b"sealed"))),
        ("bundle request", Frame::BundleRequest { invite: None }),
        ("frontiers", Frame::Frontiers(vec![frontier.clone()])),
        ("typing", Frame::Typing { conversation, active: true }),
        ("ack", Frame::Ack(vec![envelope, EnvelopeId([0x86; 16])])),
        ("refuse", Frame::Refuse { envelope, reason: RefuseReason::Removed }),
        ("streams", Frame::Streams(vec![StreamHead { conversation, stream, number: 7 }])),
    ];
    let frames = frames.map(|(name, frame)| {
        assert_eq!(Frame::decode(&frame.encode()).unwrap(), frame);
        json!({ "frame": name, "bytes": hex(frame.encode()) })
    });
    let bodies = [
        ("entry", PayloadBody::Entry(Bytes::from_static(b"entry"))),
        ("frontiers", PayloadBody::Receipt(Receipt { frontiers: vec![frontier], ..Receipt::default() })),
        ("repair", PayloadBody::Repair { envelopes: vec![envelope], rolled_back: true }),
        ("list request", PayloadBody::ListRequest),
        ("entry request", PayloadBody::EntryRequest { conversation, stream, ranges: vec![(1, 2)] }),
        ("voids", PayloadBody::Voids { conversation, stream, ranges: vec![(5, 1)] }),
    ];
    let payloads = bodies.map(|(name, body)| {
        let payload = Payload { list_version: 3, list_hash: [0x85; 32], body };
        assert_eq!(Payload::decode(&payload.encode()).unwrap(), payload);
        json!({ "payload": name, "bytes": hex(payload.encode()) })
    });
    check("wire", &json!({ "frames": frames, "payloads": payloads }));
}

#[test]
fn rights_and_custody() {
    let (right, device_seed) = (Secret32::new([0x91; 32]), Secret32::new([0x92; 32]));
    let relay_pair = KeyPair::from_seed(&Secret32::new([0x93; 32]));
    let relay = DeviceId(relay_pair.public());
    let read = read_key(&device_seed, &relay, 0);
    let mailbox = mailbox_id(&read.public());
    let at_relay = RelayRight::derive(&right, &relay, &mailbox);
    let (nonce, envelope, ttl) = ([0x94; 32], EnvelopeId([0x95; 16]), 2_592_000);
    let signature = sign_open(&read, &relay, &nonce);
    assert!(verify_open(&read.public(), &relay, &nonce, &signature));
    let custody =
        Custody { relay, mailbox, envelope, size: 512, stored_at: NOW, expires_at: NOW.plus(2_592_000_000) };
    let receipt = custody.sign(&relay_pair);
    assert_eq!(Custody::verify(&receipt), Ok(custody));
    check(
        "right",
        &json!({
            "right": hex(right.expose()), "device_seed": hex(device_seed.expose()),
            "relay_seed": hex([0x93; 32]), "relay": relay.to_string(),
            "read_key": hex(read.public()), "read_key_of_epoch_1": hex(read_key(&device_seed, &relay, 1).public()),
            "mailbox": mailbox.to_string(), "hello_nonce": hex(nonce), "open_signature": hex(signature),
            "right_id": at_relay.id.to_string(), "right_key": hex(at_relay.key.expose()),
            "envelope": envelope.to_string(), "ttl": ttl,
            "deposit_mac": hex(deposit_mac(&at_relay.key, &mailbox, &envelope, ttl)),
            "take_bundle_nonce": hex([0x96; 16]),
            "take_bundle_mac": hex(take_bundle_mac(&at_relay.key, &mailbox, &[0x96; 16])),
            "size": 512, "stored_at": NOW.0, "expires_at": custody.expires_at.0, "custody": hex(receipt),
        }),
    );
}

#[test]
fn relay_frames() {
    let (mailbox, right, id) = (MailboxId([0xa1; 16]), RightId([0xa2; 16]), EnvelopeId([0xa3; 16]));
    let limits = RelayLimits {
        mailbox_bytes: 67_108_864,
        mailbox_items: 100_000,
        rights: 8192,
        ttl: 2_592_000,
        envelope: 65_536,
    };
    let spec = RightSpec {
        right,
        key: Secret32::new([0xa4; 32]),
        bytes: 1_048_576,
        items: 4096,
        deposits: 3,
        lifetime: 604_800,
    };
    let asks = [
        (
            "open",
            Ask::Open(OpenMailbox {
                read_key: [0xa5; 32],
                signature: [0xa6; 64],
                token: Bytes::from_static(b"token"),
            }),
        ),
        ("set rights", Ask::SetRights { mailbox, put: vec![spec], revoke: vec![RightId([0xa7; 16])] }),
        ("list", Ask::List { mailbox, after: 7, max: 100 }),
        ("get", Ask::Get { mailbox, envelopes: vec![id] }),
        ("collect", Ask::Collect { mailbox, envelopes: vec![id] }),
        ("wait", Ask::Wait { mailbox, after: 7, max: 100, deadline: 60_000 }),
        (
            "put bundle",
            Ask::PutBundle {
                mailbox,
                bundle: Some(Bytes::from_static(b"bundle")),
                lifetime: 1_209_600,
                one_time_keys: vec![[0xa8; 32]],
                replace: true,
            },
        ),
        (
            "deposit",
            Ask::Deposit(Deposit {
                mailbox,
                right,
                id,
                ttl: 2_592_000,
                mac: [0xa9; 32],
                envelope: Bytes::from_static(b"sealed"),
            }),
        ),
        ("take bundle", Ask::TakeBundle { mailbox, right, nonce: [0xaa; 16], mac: [0xab; 32] }),
    ];
    let state = MailboxState {
        mailbox,
        created: true,
        bytes: 512,
        items: 2,
        quota_bytes: 67_108_864,
        quota_items: 100_000,
        rights: 1,
        one_time_keys: 99,
        newest: 12,
        bundle_left: 1_209_600,
    };
    let answers = [
        ("opened", Answer::Opened(state)),
        (
            "listed",
            Answer::Listed {
                envelopes: vec![Listed { id, right, bytes: 256, stored_at: NOW, cursor: 12 }],
                more: true,
            },
        ),
        (
            "envelopes",
            Answer::Envelopes {
                envelopes: vec![Stored { id, right, envelope: Bytes::from_static(b"sealed") }],
                missing: vec![EnvelopeId([0xac; 16])],
                more: true,
            },
        ),
        ("custody", Answer::Custody(Bytes::from_static(b"signed"))),
        ("collected", Answer::Collected(id)),
        ("bundle", Answer::Bundle { bundle: Bytes::from_static(b"bundle"), one_time_key: Some([0xa8; 32]) }),
        ("refused", Answer::Refused(Refusal::after(RefusalCode::MailboxFull, 60))),
        ("closing", Answer::Closing { reconnect_after: 12_345 }),
    ];
    let hello = RelayHello { version: 1, nonce: [0xad; 32], mode: AccessMode::Token, time: NOW, limits };
    let frames = asks
        .map(|(name, ask)| (name, Frame::RelayRequest(RelayRequest { id: 5, ask })))
        .into_iter()
        .chain(answers.map(|(name, answer)| (name, Frame::RelayReply(RelayReply { id: 5, answer }))))
        .chain([("hello", Frame::RelayHello(hello))])
        .map(|(name, frame)| {
            assert_eq!(Frame::decode(&frame.encode()).unwrap(), frame);
            json!({ "frame": name, "bytes": hex(frame.encode()) })
        });
    check("relay", &json!({ "frames": frames.collect::<Vec<_>>() }));
}
