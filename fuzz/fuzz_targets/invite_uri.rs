//! Invite links as people paste them.

#![no_main]

use kith_protocol::invite::Invite;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(invite) = Invite::parse(text)
    {
        assert_eq!(Invite::parse(&invite.to_uri()), Ok(invite));
    }
});
