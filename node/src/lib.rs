//! Kith's embeddable node: drives the [`Engine`](kith_protocol::Engine) over libp2p, keeps its store, and offers
//! [`api`] in this process and, as [`rpc`], to others on this machine.

pub mod api;
pub mod folder;
#[cfg(feature = "rpc")]
pub mod rpc;
mod runtime;

pub use kith_protocol as protocol;
