//! Scenarios: read from TOML, or built in Rust.

mod builder;
mod library;
mod model;
mod read;
mod units;

pub use library::{LIBRARY, find, schema};
pub use model::{
    About, Churn, Expect, Fault, FaultKind, Figures, Friends, FriendsKind, Lifetime, Link, Nat, NodeKind,
    Nodes, Op, Relays, Scenario, Which, Workload,
};
pub use read::ScenarioError;
pub use units::{Bandwidth, Bytes, Share, Time};
