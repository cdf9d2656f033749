//! The simulated network: one queue of events in virtual time, TCP-like connections, routers, weather.

mod connection;
mod fabric;
mod meter;
mod nat;
mod node;
mod stream;
mod transport;
mod weather;

pub(crate) use fabric::{Cell, Net};
pub(crate) use nat::NatKind;
pub(crate) use node::{Line, Outage, Place};
pub(crate) use transport::transport;
pub(crate) use weather::Weather;
