//! How the network stands, for `status`.

use futures::future::BoxFuture;

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

/// Whoever can tell.
pub(crate) trait NetworkState: Send + Sync {
    /// The facts now, or nothing once the network has ended.
    fn facts(&self) -> BoxFuture<'_, Option<NetworkFacts>>;
}
