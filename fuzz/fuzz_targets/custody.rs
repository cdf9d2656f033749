//! Custody receipts: whatever verifies must sign to the same bytes again, which only the one in the seeds can.

#![no_main]

use bytes::Bytes;
use kith_protocol::crypto::custody::Custody;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(custody) = Custody::verify(&Bytes::copy_from_slice(data)) {
        assert!(custody.expires_at >= custody.stored_at);
    }
});
