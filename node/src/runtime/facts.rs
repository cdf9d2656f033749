//! How the network stands, for `status`.

use kith_network::{Network, Reachability};

/// What the network knows of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NetworkFacts {
    /// Listen addresses, each ending in its `/p2p` part.
    pub(crate) addresses: Vec<String>,
    /// Connected peers.
    pub(crate) peers: usize,
    /// `public`, `private` or `unknown`.
    pub(crate) reachability: String,
}

impl NetworkFacts {
    pub(crate) fn of(network: &Network) -> Self {
        let status = network.status();
        let peer = format!("/p2p/{}", status.peer_id);
        let addresses = status
            .listening
            .into_iter()
            .map(|address| if address.contains("/p2p/") { address } else { address + &peer })
            .collect();
        let reachability = match status.reachability {
            Reachability::Unknown => "unknown",
            Reachability::Private => "private",
            Reachability::Public => "public",
        };
        Self { addresses, peers: status.peers, reachability: reachability.to_owned() }
    }
}
