//! Entries: the id is the hash of the bytes as they came.

#![no_main]

use bytes::Bytes;
use kith_protocol::entry;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok((id, parsed)) = entry::parse(&bytes) {
        assert_eq!(id, entry::entry_id(data));
        let (_, again) = entry::encode(&parsed);
        assert_eq!(entry::parse(&again).map(|(_, entry)| entry), Ok(parsed));
    }
});
