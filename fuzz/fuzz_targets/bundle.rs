//! Prekey bundles.

#![no_main]

use kith_protocol::crypto::bundle::Bundle;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(bundle) = Bundle::parse(data) {
        assert_eq!(bundle.bytes.as_ref(), data);
    }
});
