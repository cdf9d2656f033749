//! Kith's embeddable node: drives the [`Engine`](kith_protocol::Engine) over libp2p, keeps its store, and offers
//! [`api`] in this process and, as `rpc`, to others on this machine.
//!
//! [`account::create`] makes an account in a data folder, [`Builder`] starts a node on it, [`Node::handle`] is what a
//! front end uses. `examples/embed.rs` shows all three.

pub mod account;
pub mod api;
mod config;
pub mod doctor;
pub mod folder;
mod host;
pub mod keys;
pub mod maintenance;
mod node;
mod restored;
#[cfg(feature = "rpc")]
pub mod rpc;
mod runtime;

pub use config::{ConfigError, RunChanges, RunOptions};
pub use folder::Folder;
pub use host::{Host, ProductHost};
pub use kith_protocol as protocol;
pub use kith_store::panics;
pub use node::{Builder, Node, StartError};
