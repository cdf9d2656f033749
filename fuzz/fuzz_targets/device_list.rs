//! Device lists.

#![no_main]

use kith_protocol::identity::DeviceList;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(list) = DeviceList::parse(data) {
        assert_eq!(list.bytes.as_ref(), data);
        assert!(!list.devices.is_empty());
    }
});
