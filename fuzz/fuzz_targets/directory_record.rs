//! Directory records, outside and inside, under the key the record itself names where it names one.

#![no_main]

use kith_protocol::secret::Secret32;
use kith_protocol::{DeviceId, DirectoryKey, Wall, directory};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let now = Wall(1_790_000_000_000);
    let public: [u8; 32] = data.get(5..37).and_then(|key| key.try_into().ok()).unwrap_or_default();
    for key in [DirectoryKey([0; 32]), directory::directory_key(&public)] {
        let _ = directory::check(&key, data, now);
        let _ = directory::open(&key, data, &Secret32::new([0x62; 32]), &DeviceId(public), now);
    }
});
