//! Envelopes as they come, and the content of envelopes sealed for the fuzzer's own right.

#![no_main]

use kith_protocol::crypto::envelope;
use kith_protocol::secret::Secret32;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let right = Secret32::new([0x21; 32]);
    let _ = envelope::tag_matches(&right, data);
    if let Ok(content) = envelope::open(&right, data) {
        // The seed is sealed under this right; nothing else can be.
        assert_eq!(content.message.as_ref(), b"the ratchet's message");
    }
    // Behind the seal: the same decoder that an authenticated but hostile contact reaches.
    let _ = envelope::decode_content(data);
});
