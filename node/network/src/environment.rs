//! What differs between the product and the simulator.

use std::io;

use futures::future::BoxFuture;
use kith_protocol::{Mono, Wall};
use libp2p::PeerId;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
pub use libp2p::identity::Keypair;

/// A transport that authenticates peers and multiplexes streams.
pub type Transport = Boxed<(PeerId, StreamMuxerBox)>;

/// Which of a device's Swarms a transport is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The one that holds links and serves the directory.
    Main,
    /// The short-lived one that makes deposits under a throwaway key.
    Deposit,
}

/// Where the network gets tasks, time, randomness and transports from.
pub trait Environment: Send + Sync + 'static {
    /// Runs a task until it ends.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>);
    /// The wall clock.
    fn wall(&self) -> Wall;
    /// The monotonic clock.
    fn mono(&self) -> Mono;
    /// Ends after this many milliseconds.
    fn sleep(&self, millis: u64) -> BoxFuture<'static, ()>;
    /// A generator of random numbers fit for keys.
    fn rng(&self) -> Box<dyn rand::CryptoRng + Send>;
    /// A transport that authenticates peers and multiplexes streams.
    ///
    /// # Errors
    /// What the system said, for example when no name resolver is configured.
    fn transport(&self, identity: &Keypair, purpose: Purpose) -> io::Result<Transport>;
    /// Whether there is a local network to announce oneself on. mDNS and UPnP exist only where this is true.
    fn has_lan(&self) -> bool;
}
