//! The running node: one task drives the Engine, everything else talks to it over bounded queues.

mod facts;
mod live;
mod presence;

pub(crate) use facts::{NetworkFacts, NetworkState};
pub(crate) use live::{CALLS, Call, Calls, LIVE, Live, LiveSender};
pub(crate) use presence::Presence;
