//! Kith's network: transports, gatekeeper, held links and the directory, behind one handle.
//!
//! [`start`] runs one task that owns the libp2p Swarm. The returned [`Network`] is cheap to clone and never blocks;
//! what happens comes out of the one bounded channel of [`Event`]s. No libp2p type is part of this interface, except in
//! [`Environment::transport`], which the product answers with [`product_transport`] (see [`ProductEnvironment`]) and the simulator with its own.
//!
//! Everything that is remembered about a peer is bounded, and every size a peer claims is checked before memory is taken.

pub mod address;
mod behaviour;
mod config;
mod deposit;
mod directory;
mod environment;
mod event;
mod gate;
mod gatekeeper;
mod handle;
mod link;
mod product;
mod start;
mod task;
mod tls;
mod transport;

pub use address::{Scope, device_of};
pub use config::{Circuits, Config, ConfigError, DEFAULT_LISTEN, Limits, Options, Role};
pub use deposit::{Answered, DepositRequest, Deposits};
pub use environment::{Environment, Keypair, Purpose, Transport};
pub use event::{Counters, Event, Origin, Reachability, Status};
pub use handle::{AddBootstrapError, Network, SendError, Stopped};
pub use product::ProductEnvironment;
pub use start::{StartError, start};
pub use tls::{CertificateError, WssCertificate};
pub use transport::product_transport;
