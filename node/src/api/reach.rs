//! Who can use an invite, judged by the addresses it holds.

use kith_network::Scope;
use kith_network::address::scope;
use kith_protocol::invite::Invite;

use super::view::Reach;

/// The widest scope among the addresses of an invite.
pub(crate) fn of_invite(uri: &str) -> Reach {
    let invite = Invite::parse(uri).ok();
    let widest = invite.iter().flat_map(|invite| &invite.addresses).filter_map(scope).max();
    match widest {
        Some(Scope::Global) => Reach::Internet,
        Some(Scope::Lan) => Reach::Network,
        Some(Scope::Loopback) => Reach::Machine,
        None => Reach::Nowhere,
    }
}
