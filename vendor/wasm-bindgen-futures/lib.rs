//! Stand-in for `wasm-bindgen-futures` until libp2p-swarm lifts its exact version pin.
#![cfg(target_family = "wasm")]
pub use js_sys::futures::*;
