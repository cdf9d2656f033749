//! A relay: keeps sealed envelopes for devices that are away, and signs that it does.
//!
//! [`Relay::start`] runs the state machine of [`kith_protocol::mailbox`] over a [network](kith_network) and a
//! [store](kith_store::mailbox). One task decides, in groups: whatever has arrived meanwhile is read for at once, decided,
//! written as one durable batch, and only then answered. Tasks, time and randomness come from the
//! [`Environment`](kith_network::Environment), so a simulator runs the same code; nothing here starts a thread.

#[cfg(feature = "cli")]
pub mod admin;
#[cfg(feature = "cli")]
pub mod backup;
#[cfg(feature = "cli")]
pub mod certificate;
#[cfg(feature = "cli")]
pub mod check;
#[cfg(feature = "cli")]
pub mod config;
#[cfg(feature = "cli")]
pub mod count;
mod counters;
mod driver;
#[cfg(feature = "cli")]
pub mod folder;
#[cfg(feature = "cli")]
pub mod observed;
mod order;
#[cfg(all(feature = "cli", feature = "postgres"))]
pub mod postgres;
mod rate;
mod relay;
#[cfg(feature = "cli")]
mod stopwatch;
#[cfg(feature = "cli")]
pub mod web;

pub use counters::{Counters, Snapshot};
pub use order::{MailboxView, OrderError, Status, TokenView};
pub use rate::Rates;
pub use relay::{Relay, Settings, StartError};
