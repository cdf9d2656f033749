//! Every decoder against noise, and every frame and payload there and back.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

use bytes::Bytes;
use kith_protocol::crypto::{bundle::Bundle, envelope};
use kith_protocol::identity::{Certificate, DeviceList};
use kith_protocol::invite::Invite;
use kith_protocol::record::RelayRef;
use kith_protocol::secret::Secret32;
use kith_protocol::wire::relay::{
    AccessMode, Answer, Ask, Deposit, Listed, MailboxState, OpenMailbox, Refusal, RefusalCode, RelayHello,
    RelayLimits, RelayReply, RelayRequest, RightSpec, Stored,
};
use kith_protocol::wire::{
    ContactInfo, Frame, Frontier, Lacking, Payload, PayloadBody, Receipt, RefuseReason, RefusedReason,
    StreamHead, WireError,
};
use kith_protocol::{
    Address, ConversationId, DeviceId, DirectoryKey, EntryId, EnvelopeId, InviteId, MailboxId, RightId,
    StreamId, Wall, directory, entry, limits,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..=max).prop_map(Bytes::from)
}

fn address() -> impl Strategy<Value = Address> {
    vec(any::<u8>(), 1..=limits::ADDRESS).prop_map(|bytes| Address::new(bytes).unwrap())
}

fn relay() -> impl Strategy<Value = RelayRef> {
    (any::<[u8; 32]>(), any::<[u8; 16]>(), address()).prop_map(|(relay, mailbox, address)| RelayRef {
        relay: DeviceId(relay),
        mailbox: MailboxId(mailbox),
        address,
    })
}

/// Ascending ranges above `after`, made of gaps and lengths.
fn ranges(after: u64) -> impl Strategy<Value = Vec<(u64, u64)>> {
    vec((1..1_000_u64, 1..1_000_u64), 0..=limits::RANGES).prop_map(move |steps| {
        let mut last = after;
        steps
            .into_iter()
            .map(|(gap, count)| {
                let first = last + gap;
                last = first + count - 1;
                (first, count)
            })
            .collect()
    })
}

fn frontier() -> impl Strategy<Value = Frontier> {
    let numbers =
        (0..u64::MAX / 2).prop_flat_map(|delivered| (Just(delivered), 0..=delivered, ranges(delivered)));
    (any::<[u8; 16]>(), numbers, any::<Option<[u8; 32]>>()).prop_map(
        |(stream, (delivered, read, beyond), hash)| Frontier {
            stream: StreamId(stream),
            delivered,
            hash: hash.map(EntryId),
            read,
            beyond,
        },
    )
}

fn receipt() -> impl Strategy<Value = Receipt> {
    let ids = || vec(any::<[u8; 16]>().prop_map(EnvelopeId), 0..5);
    let lacking = (any::<[u8; 32]>(), ids(), any::<u64>()).prop_map(|(relay, envelopes, at)| Lacking {
        relay: DeviceId(relay),
        envelopes,
        at: Wall(at),
    });
    (vec(frontier(), 0..8), ids(), vec(lacking, 0..=limits::RELAYS))
        .prop_map(|(frontiers, taken, lacking)| Receipt { frontiers, taken, lacking })
}

fn contact_info() -> impl Strategy<Value = Box<ContactInfo>> {
    (
        (bytes(limits::DEVICE_LIST), "[a-zé👍]{1,12}", "[ -~]{0,64}", any::<[[u8; 32]; 2]>()),
        (any::<u64>(), vec(any::<[u8; 32]>(), 0..=limits::WEEK_KEYS)),
        (vec(address(), 0..=limits::ADDRESSES), vec(relay(), 0..=limits::RELAYS), any::<u64>()),
    )
        .prop_map(
            |(
                (device_list, name, about, [contact_key, right]),
                (first_week, week_keys),
                (addresses, relays, directory_seq),
            )| {
                let (contact_key, right) = (Secret32::new(contact_key), Secret32::new(right));
                let info = ContactInfo {
                    device_list,
                    name,
                    about,
                    contact_key,
                    first_week,
                    week_keys,
                    right,
                    addresses,
                    relays,
                    directory_seq,
                };
                Box::new(info)
            },
        )
}

fn mailbox() -> impl Strategy<Value = MailboxId> {
    any::<[u8; 16]>().prop_map(MailboxId)
}

fn right() -> impl Strategy<Value = RightId> {
    any::<[u8; 16]>().prop_map(RightId)
}

fn envelope_ids() -> impl Strategy<Value = Vec<EnvelopeId>> {
    vec(any::<[u8; 16]>().prop_map(EnvelopeId), 0..64)
}

fn ask() -> impl Strategy<Value = Ask> {
    let spec = (right(), any::<[u8; 32]>(), any::<[u64; 4]>()).prop_map(
        |(right, key, [bytes, items, deposits, lifetime])| RightSpec {
            right,
            key: Secret32::new(key),
            bytes,
            items,
            deposits,
            lifetime,
        },
    );
    let bundle = prop::option::of(vec(any::<u8>(), 1..200).prop_map(Bytes::from));
    let keys = vec(any::<[u8; 32]>(), 0..=limits::ONE_TIME_KEYS);
    prop_oneof![
        (any::<[u8; 32]>(), any::<[[u8; 32]; 2]>(), bytes(limits::TOKEN)).prop_map(
            |(read_key, signature, token)| Ask::Open(OpenMailbox {
                read_key,
                signature: signature.concat().try_into().unwrap(),
                token
            })
        ),
        (mailbox(), vec(spec, 0..8), vec(right(), 0..8)).prop_map(|(mailbox, put, revoke)| Ask::SetRights {
            mailbox,
            put,
            revoke
        }),
        (mailbox(), any::<u64>(), any::<u32>()).prop_map(|(mailbox, after, max)| Ask::List {
            mailbox,
            after,
            max
        }),
        (mailbox(), envelope_ids()).prop_map(|(mailbox, envelopes)| Ask::Get { mailbox, envelopes }),
        (mailbox(), envelope_ids()).prop_map(|(mailbox, envelopes)| Ask::Collect { mailbox, envelopes }),
        (mailbox(), any::<u64>(), any::<u32>(), any::<u32>())
            .prop_map(|(mailbox, after, max, deadline)| { Ask::Wait { mailbox, after, max, deadline } }),
        (mailbox(), bundle, any::<u64>(), keys, any::<bool>()).prop_map(
            |(mailbox, bundle, lifetime, one_time_keys, replace)| Ask::PutBundle {
                mailbox,
                bundle,
                lifetime,
                one_time_keys,
                replace
            }
        ),
        (mailbox(), right(), any::<[u8; 16]>(), any::<u32>(), any::<[u8; 32]>(), bytes(5000)).prop_map(
            |(mailbox, right, id, ttl, mac, envelope)| Ask::Deposit(Deposit {
                mailbox,
                right,
                id: EnvelopeId(id),
                ttl,
                mac,
                envelope
            })
        ),
        (mailbox(), right(), any::<[u8; 16]>(), any::<[u8; 32]>())
            .prop_map(|(mailbox, right, nonce, mac)| { Ask::TakeBundle { mailbox, right, nonce, mac } }),
        Just(Ask::Unknown),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let listed = (any::<[u8; 16]>(), right(), any::<u32>(), any::<[u64; 2]>()).prop_map(
        |(id, right, bytes, [stored_at, cursor])| Listed {
            id: EnvelopeId(id),
            right,
            bytes,
            stored_at: Wall(stored_at),
            cursor,
        },
    );
    let stored = (any::<[u8; 16]>(), right(), bytes(300)).prop_map(|(id, right, envelope)| Stored {
        id: EnvelopeId(id),
        right,
        envelope,
    });
    prop_oneof![
        (mailbox(), any::<bool>(), any::<[u64; 8]>()).prop_map(|(mailbox, created, n)| {
            let [bytes, items, quota_bytes, quota_items, rights, one_time_keys, newest, bundle_left] = n;
            Answer::Opened(MailboxState {
                mailbox,
                created,
                bytes,
                items,
                quota_bytes,
                quota_items,
                rights,
                one_time_keys,
                newest,
                bundle_left,
            })
        }),
        (vec(listed, 0..20), any::<bool>()).prop_map(|(envelopes, more)| Answer::Listed { envelopes, more }),
        (vec(stored, 0..8), envelope_ids(), any::<bool>())
            .prop_map(|(envelopes, missing, more)| Answer::Envelopes { envelopes, missing, more }),
        bytes(limits::CUSTODY).prop_map(Answer::Custody),
        any::<[u8; 16]>().prop_map(|id| Answer::Collected(EnvelopeId(id))),
        (bytes(limits::BUNDLE), any::<Option<[u8; 32]>>())
            .prop_map(|(bundle, one_time_key)| Answer::Bundle { bundle, one_time_key }),
        (0..40_u32, any::<u64>()).prop_map(|(code, retry_after)| Answer::Refused(Refusal {
            code: RefusalCode::from_number(code),
            retry_after
        })),
        any::<u64>().prop_map(|reconnect_after| Answer::Closing { reconnect_after }),
        Just(Answer::Unknown),
    ]
}

fn relay_hello() -> impl Strategy<Value = RelayHello> {
    (1..=u32::MAX, any::<[u8; 32]>(), 0..9_u32, any::<[u64; 6]>()).prop_map(|(version, nonce, mode, n)| {
        let [time, mailbox_bytes, mailbox_items, rights, ttl, envelope] = n;
        RelayHello {
            version,
            nonce,
            mode: AccessMode::from_number(mode),
            time: Wall(time),
            limits: RelayLimits { mailbox_bytes, mailbox_items, rights, ttl, envelope },
        }
    })
}

fn frame() -> impl Strategy<Value = Frame> {
    let list = prop::option::of((1..=u64::MAX, any::<[u8; 32]>()));
    let head =
        (any::<[u8; 32]>(), any::<[u8; 16]>(), any::<u64>()).prop_map(|(conversation, stream, number)| {
            StreamHead { conversation: ConversationId(conversation), stream: StreamId(stream), number }
        });
    prop_oneof![
        (1..=u32::MAX, list, any::<u64>()).prop_map(|(version, list, time)| Frame::Hello {
            version,
            list,
            time: Wall(time)
        }),
        bytes(5000).prop_map(Frame::Envelope),
        prop::option::of((any::<[u8; 8]>(), any::<[u8; 32]>())).prop_map(|invite| Frame::BundleRequest {
            invite: invite.map(|(id, proof)| (InviteId(id), proof))
        }),
        bytes(limits::BUNDLE).prop_map(Frame::Bundle),
        vec(frontier(), 0..8).prop_map(Frame::Frontiers),
        (any::<[u8; 32]>(), any::<bool>())
            .prop_map(|(id, active)| Frame::Typing { conversation: ConversationId(id), active }),
        vec(any::<[u8; 16]>().prop_map(EnvelopeId), 0..=limits::ACKS).prop_map(Frame::Ack),
        (any::<[u8; 16]>(), 0..9_u32).prop_map(|(id, reason)| Frame::Refuse {
            envelope: EnvelopeId(id),
            reason: RefuseReason::from_number(reason)
        }),
        vec(head, 0..=limits::STREAMS).prop_map(Frame::Streams),
        (1..=u64::MAX, ask()).prop_map(|(id, ask)| Frame::RelayRequest(RelayRequest { id, ask })),
        (any::<u64>(), answer()).prop_map(|(id, answer)| Frame::RelayReply(RelayReply { id, answer })),
        relay_hello().prop_map(Frame::RelayHello),
        Just(Frame::Unknown),
    ]
}

fn body() -> impl Strategy<Value = PayloadBody> {
    let stream = || (any::<[u8; 32]>(), any::<[u8; 16]>(), ranges(0));
    prop_oneof![
        bytes(5000).prop_map(PayloadBody::Entry),
        (any::<[u8; 8]>(), any::<[[u8; 32]; 2]>(), contact_info()).prop_map(|(id, signature, info)| {
            let signature = signature.concat().try_into().unwrap();
            PayloadBody::Accept { invite: InviteId(id), signature, info }
        }),
        (any::<[u8; 8]>(), contact_info())
            .prop_map(|(id, info)| PayloadBody::Welcome { invite: InviteId(id), info }),
        (any::<[u8; 8]>(), 0..9_u32).prop_map(|(id, reason)| PayloadBody::Refused {
            invite: InviteId(id),
            reason: RefusedReason::from_number(reason)
        }),
        receipt().prop_map(PayloadBody::Receipt),
        (vec(any::<[u8; 16]>().prop_map(EnvelopeId), 0..=limits::REQUESTED), any::<bool>())
            .prop_map(|(envelopes, rolled_back)| PayloadBody::Repair { envelopes, rolled_back }),
        Just(PayloadBody::ListRequest),
        stream().prop_map(|(conversation, stream, ranges)| PayloadBody::EntryRequest {
            conversation: ConversationId(conversation),
            stream: StreamId(stream),
            ranges
        }),
        contact_info().prop_map(PayloadBody::Update),
        stream().prop_map(|(conversation, stream, ranges)| PayloadBody::Voids {
            conversation: ConversationId(conversation),
            stream: StreamId(stream),
            ranges
        }),
        Just(PayloadBody::Unknown),
    ]
}

/// Gives noise to every decoder; none may panic, and noise is never signed.
fn decode_everything(noise: &Bytes) {
    let _ = Frame::decode(noise);
    let _ = Payload::decode(noise);
    let _ = PayloadBody::decode(noise);
    let _ = entry::parse(noise);
    let right = Secret32::new([1; 32]);
    let _ = envelope::tag_matches(&right, noise);
    assert!(envelope::open(&right, noise).is_err());
    assert!(Bundle::parse(noise).is_err());
    assert!(Certificate::parse(noise).is_err());
    assert!(DeviceList::parse(noise).is_err());
    assert!(directory::check(&DirectoryKey([0; 32]), noise, Wall(0)).is_err());
    let _ = Invite::from_bytes(noise);
    let _ = Invite::parse(&String::from_utf8_lossy(noise));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn noise_never_panics(noise in bytes(3000)) {
        decode_everything(&noise);
    }

    /// Noise that looks like protobuf gets further: a few fields of right types and odd sizes.
    #[test]
    fn plausible_noise_never_panics(fields in vec((1..25_u8, any::<bool>(), bytes(80), any::<u8>()), 0..12)) {
        let mut noise = Vec::new();
        for (field, is_bytes, value, number) in fields {
            let key = u16::from(field) << 3 | if is_bytes { 2 } else { 0 };
            if key > 0x7f {
                noise.extend([key as u8 & 0x7f | 0x80, (key >> 7) as u8]);
            } else {
                noise.push(key as u8);
            }
            if is_bytes {
                noise.push(value.len() as u8);
                noise.extend_from_slice(&value);
            } else {
                noise.push(number & 0x7f);
            }
        }
        decode_everything(&noise.into());
    }

    #[test]
    fn frames_come_back_as_they_were(frame in frame()) {
        let bytes = frame.encode();
        prop_assert_eq!(Frame::decode(&bytes).unwrap(), frame);
    }

    #[test]
    fn payloads_come_back_as_they_were(list_version in any::<u64>(), list_hash in any::<[u8; 32]>(), body in body()) {
        prop_assert_eq!(&PayloadBody::decode(&body.encode()).unwrap(), &body);
        let payload = Payload { list_version, list_hash, body };
        prop_assert_eq!(Payload::decode(&payload.encode()).unwrap(), payload);
    }

    /// Neither a cut nor a changed bit makes a decoder panic, and whatever still decodes can be encoded again.
    #[test]
    fn damaged_frames_and_payloads_are_errors_or_other_messages(
        frame in frame(), body in body(), at in any::<prop::sample::Index>(), bit in 0..8_u32,
    ) {
        for bytes in [frame.encode(), body.encode()] {
            if bytes.is_empty() {
                continue;
            }
            let at = at.index(bytes.len());
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1 << bit;
            for damaged in [bytes.slice(..at), Bytes::from(flipped)] {
                if let Ok(frame) = Frame::decode(&damaged) {
                    prop_assert_eq!(Frame::decode(&frame.encode()).unwrap(), frame);
                }
                if let Ok(body) = PayloadBody::decode(&damaged) {
                    prop_assert_eq!(PayloadBody::decode(&body.encode()).unwrap(), body);
                }
            }
        }
    }

    #[test]
    fn any_invite_within_the_limits_comes_back_through_its_link(
        keys in any::<[[u8; 32]; 3]>(), secret in any::<[u8; 16]>(), seconds in any::<u32>(),
        addresses in vec(vec(any::<u8>(), 1..=limits::INVITE_ADDRESS), 0..=limits::INVITE_ADDRESSES),
        relays in vec((any::<[u8; 32]>(), any::<[u8; 16]>(), vec(any::<u8>(), 1..=64)), 0..=limits::RELAYS),
        group in prop::option::of((any::<[u8; 32]>(), vec((any::<[u8; 32]>(), vec(any::<u8>(), 1..=64)), 0..=3))),
        name in "[a-zé👍]{1,12}",
    ) {
        use kith_protocol::invite::{GroupSeat, InviteSecret};
        let [account, device, directory_key] = keys;
        let address = |bytes: Vec<u8>| Address::new(bytes).unwrap();
        let invite = Invite {
            account: kith_protocol::AccountId(account),
            device: DeviceId(device),
            secret: InviteSecret::new(secret),
            directory_key,
            expires: Wall(u64::from(seconds) * 1000),
            addresses: addresses.into_iter().map(address).collect(),
            relays: relays.into_iter().map(|(relay, mailbox, bytes)| RelayRef {
                relay: DeviceId(relay), mailbox: MailboxId(mailbox), address: address(bytes),
            }).collect(),
            group: group.map(|(group, admitters)| GroupSeat {
                group,
                admitters: admitters.into_iter().map(|(id, bytes)| (DeviceId(id), address(bytes))).collect(),
            }),
            name,
        };
        prop_assert_eq!(Invite::parse(&invite.to_uri()).unwrap(), invite);
    }
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn range(first: u64, count: u64) -> Vec<u8> {
    field(5, &[vec![0x08], varint(first), vec![0x10], varint(count)].concat())
}

fn frontier_with(ranges: &[Vec<u8>]) -> Result<Frame, WireError> {
    let frontier = [field(1, &[1; 16]), vec![0x10, 10], ranges.concat()].concat();
    Frame::decode(&field(5, &field(1, &frontier)).into())
}

#[test]
fn ranges_must_ascend_without_overlap_or_overflow() {
    assert!(frontier_with(&[range(11, 1), range(12, 5), range(20, 1)]).is_ok());
    assert!(frontier_with(&[range(u64::MAX, 1)]).is_ok());
    for bad in [
        vec![range(10, 1)],
        vec![range(12, 0)],
        vec![range(12, 3), range(14, 1)],
        vec![range(20, 1), range(12, 1)],
        vec![range(u64::MAX, 2)],
        vec![range(12, u64::MAX)],
    ] {
        assert_eq!(frontier_with(&bad), Err(WireError::Field("ranges beyond")), "{bad:?}");
    }
    let many: Vec<_> = (0..65).map(|n| range(20 + 2 * n, 1)).collect();
    assert!(matches!(frontier_with(&many), Err(WireError::TooMany { count: 65, .. })));
}

#[test]
fn counts_and_sizes_are_capped_and_named() {
    let ack =
        |count: usize, len: usize| Frame::decode(&field(7, &field(1, &vec![1; len]).repeat(count)).into());
    assert!(ack(limits::ACKS, 16).is_ok());
    assert!(matches!(
        ack(limits::ACKS + 1, 16),
        Err(WireError::TooMany { what: "acknowledged envelopes", .. })
    ));
    assert_eq!(ack(1, 15), Err(WireError::Field("an envelope id")));
    let frame = Frame::decode(&vec![0; limits::FRAME + 1].into());
    assert!(matches!(frame, Err(WireError::TooLong { what: "the frame", .. })));
    let envelope = Frame::decode(&field(2, &vec![0; limits::ENVELOPE + 1]).into());
    assert!(matches!(envelope, Err(WireError::TooLong { what: "the envelope", .. })));
    let bundle = Frame::decode(&field(4, &vec![0; limits::BUNDLE + 1]).into());
    assert!(matches!(bundle, Err(WireError::TooLong { what: "the bundle", .. })));
    let entry = PayloadBody::decode(&field(10, &vec![0; limits::ENTRY + 1]));
    assert!(matches!(entry, Err(WireError::TooLong { what: "the entry", .. })));
}

#[test]
fn what_is_asked_of_a_relay_is_capped_and_numbered() {
    let request = |ask: &[u8]| Frame::decode(&field(20, &[vec![8, 1], ask.to_vec()].concat()).into());
    let get =
        |count: usize| request(&field(13, &[field(1, &[1; 16]), field(2, &[2; 16]).repeat(count)].concat()));
    assert!(get(limits::RELAY_PAGE).is_ok());
    assert!(matches!(get(limits::RELAY_PAGE + 1), Err(WireError::TooMany { what: "envelope ids", .. })));
    let revoke =
        |count: usize| request(&field(11, &[field(1, &[1; 16]), field(3, &[2; 16]).repeat(count)].concat()));
    assert!(revoke(limits::RELAY_RIGHTS).is_ok());
    assert!(matches!(revoke(limits::RELAY_RIGHTS + 1), Err(WireError::TooMany { .. })));
    assert_eq!(request(&field(12, &field(1, &[1; 15]))), Err(WireError::Field("the mailbox id")));
    assert_eq!(
        request(&field(100, b"new")),
        Ok(Frame::RelayRequest(RelayRequest { id: 1, ask: Ask::Unknown }))
    );
    assert_eq!(
        Frame::decode(&field(20, &field(12, &field(1, &[1; 16]))).into()),
        Err(WireError::Field("the request's number"))
    );
}

#[test]
fn the_largest_envelope_fits_a_frame_both_ways() {
    let (mailbox, right, id) = (MailboxId([0xff; 16]), RightId([0xff; 16]), EnvelopeId([0xff; 16]));
    let envelope = Bytes::from(vec![0xff; limits::ENVELOPE]);
    let deposit = Deposit { mailbox, right, id, ttl: u32::MAX, mac: [0xff; 32], envelope: envelope.clone() };
    let request = Frame::RelayRequest(RelayRequest { id: u64::MAX, ask: Ask::Deposit(deposit) });
    assert!(request.encode().len() <= limits::FRAME);
    let envelopes = vec![Stored { id, right, envelope }];
    let answer = Answer::Envelopes { envelopes, missing: Vec::new(), more: true };
    let reply = Frame::RelayReply(RelayReply { id: u64::MAX, answer });
    assert!(reply.encode().len() <= limits::FRAME - limits::RELAY_PAGE);
}

#[test]
fn what_a_newer_version_sends_is_unknown_and_no_error() {
    assert_eq!(Frame::decode(&field(100, b"new kind").into()), Ok(Frame::Unknown));
    let known = Frame::Typing { conversation: ConversationId([1; 32]), active: true };
    let longer = [known.encode().as_ref(), &field(100, b"new field")].concat();
    assert_eq!(Frame::decode(&longer.into()), Ok(known));
    assert_eq!(PayloadBody::decode(&field(100, b"new kind")), Ok(PayloadBody::Unknown));
}

#[test]
fn a_contact_cannot_have_a_name_that_harms_the_list_it_is_shown_in() {
    let info = |name: &str| {
        let info = [field(2, name.as_bytes()), field(4, &[1; 32]), field(6, &[1; 32])].concat();
        PayloadBody::decode(&field(17, &info))
    };
    assert!(info("Ana").is_ok());
    for name in ["", "a\u{202E}b", "a\nb"] {
        assert_eq!(info(name), Err(WireError::Field("the name")));
    }
    assert!(matches!(info(&"x".repeat(49)), Err(WireError::TooLong { what: "the name", .. })));
}
