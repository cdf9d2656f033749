//! Frames of the held link: what decodes must encode to something that decodes to the same.

#![no_main]

use bytes::Bytes;
use kith_protocol::wire::Frame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(frame) = Frame::decode(&Bytes::copy_from_slice(data)) {
        assert_eq!(Frame::decode(&frame.encode()).as_ref(), Ok(&frame));
    }
});
