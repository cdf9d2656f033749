//! Payloads, and payload bodies as jobs keep them.

#![no_main]

use kith_protocol::wire::{Payload, PayloadBody};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(payload) = Payload::decode(data) {
        assert_eq!(Payload::decode(&payload.encode()).as_ref(), Ok(&payload));
    }
    if let Ok(body) = PayloadBody::decode(data) {
        assert_eq!(PayloadBody::decode(&body.encode()).as_ref(), Ok(&body));
    }
});
