//! Relays on simulated hosts: the product's relay, on a store that takes its time and can misbehave.

mod conduct;
mod flood;
mod shelf;
mod station;

pub(crate) use flood::flood;
pub(crate) use station::{RelayStart, Station};
