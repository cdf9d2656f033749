//! Who can use an invite, judged by the addresses it holds.

use kith_network::Scope;
use kith_network::address::scope;
use kith_protocol::invite::Invite;

use super::view::Reach;

/// The widest scope among the addresses of an invite and its relays, and how many relays it names.
pub(crate) fn of_invite(uri: &str) -> (Reach, usize) {
    let invite = Invite::parse(uri).ok();
    let relays = invite.as_ref().map_or(0, |invite| invite.relays.len());
    let own = invite.iter().flat_map(|invite| &invite.addresses);
    let theirs = invite.iter().flat_map(|invite| &invite.relays).map(|relay| &relay.address);
    let reach = match own.chain(theirs).filter_map(scope).max() {
        Some(Scope::Global) => Reach::Internet,
        Some(Scope::Lan) => Reach::Network,
        Some(Scope::Loopback) => Reach::Machine,
        None => Reach::Nowhere,
    };
    (reach, relays)
}
