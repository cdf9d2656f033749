//! The running node: one task drives the Engine, everything else talks to it over bounded queues.

mod driver;
mod facts;
mod links;
mod live;
mod orders;
mod presence;
mod queue;
mod shelf;
mod start;
mod supervisor;

pub(crate) use facts::NetworkFacts;
pub(crate) use live::{Call, Calls, Live, LiveSender};
pub(crate) use presence::Presence;
pub(crate) use shelf::Shelf;
pub(crate) use start::{Started, start};
