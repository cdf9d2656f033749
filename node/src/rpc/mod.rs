//! The [`api`](crate::api) over JSON-RPC 2.0 on a WebSocket at a loopback address.

mod client;

pub use client::Client;
