//! The [`api`](crate::api) over JSON-RPC 2.0 on a WebSocket at a loopback address.
//!
//! [`serve`] writes `api.json` into the data folder: address, token and process id, for the owner's eyes only. A request
//! for a socket must carry the token as `Authorization: Bearer …`, must not carry an `Origin` (web pages always do), and
//! must name the loopback address as `Host`. [`Client`] reads the file and connects.

mod client;
mod door;
mod file;
mod guard;
mod server;

pub use client::Client;
pub use file::ApiFile;
pub use server::{ServeError, Server, serve};

/// Largest request: the longest text, escaped in the worst way, and its frame.
const REQUEST_MAX: u32 = 256 * 1024;
/// Largest answer: a page of long messages.
const ANSWER_MAX: u32 = 64 * 1024 * 1024;
