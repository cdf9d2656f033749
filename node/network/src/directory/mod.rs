//! The directory: which records this node keeps for others, publishes for itself, and looks for.
//!
//! Kademlia is a hint, never the truth: each record is checked when it is written and when it is read, and a
//! publication counts only once another node has given it back.

mod keeper;
mod store;

pub(crate) use keeper::{Keeper, Outcome};
pub(crate) use store::{Source, Store};
