//! Device certificates.

#![no_main]

use kith_protocol::identity::Certificate;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(certificate) = Certificate::parse(data) {
        assert_eq!(certificate.bytes.as_ref(), data);
    }
});
