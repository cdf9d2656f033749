//! Invites in binary form; the checksum is put right, or nothing would get past it.

#![no_main]

use kith_protocol::invite::Invite;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = Invite::from_bytes(data);
    let mut whole = data.to_vec();
    whole.extend_from_slice(&kith_fuzz::checksum(data));
    if let Ok(invite) = Invite::from_bytes(&whole) {
        assert_eq!(Invite::from_bytes(&invite.to_bytes()), Ok(invite));
    }
});
