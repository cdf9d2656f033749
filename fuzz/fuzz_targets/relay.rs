//! A relay that is sent frames: each behind its length as two bytes. Whatever comes, its sums fit what it keeps.

#![no_main]

use bytes::Bytes;
use kith_protocol::mailbox::Policy;
use kith_protocol::testing::TestRelay;
use kith_protocol::wire::Frame;
use kith_protocol::{DeviceId, Mono, Now, Wall};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let now = Now { wall: Wall(1_790_000_000_000), mono: Mono(0) };
    let mut relay = TestRelay::new([1; 32], Policy::default(), now);
    let (link, _) = relay.connect(DeviceId([2; 32]), now);
    let mut rest = data;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (frame, after) = after.split_at(length);
        rest = after;
        for (to, reply) in relay.frame(link, &Bytes::copy_from_slice(frame), now) {
            assert_eq!(to, link);
            assert!(matches!(Frame::decode(&reply), Ok(Frame::RelayReply(_))));
        }
    }
    let later = Now { wall: Wall(1_790_000_000_000 + 3_600_000), mono: Mono(3_600_000) };
    relay.tick(later);
    assert_eq!(relay.audit(), []);
});
