//! Simulates networks of whole Kith nodes: the same code, on the same libp2p, as the product's, in virtual time on a
//! virtual network. One seed gives one trace, byte by byte.
//!
//! A [`Scenario`] says who is there, how they are connected, what they do, what goes wrong and what must hold; it is read
//! from TOML or built in Rust, and [`Scenario::run`] runs it:
//!
//! ```no_run
//! use kith_sim::{Fault, FaultKind, Op, Options, Scenario, Time};
//!
//! let run = Scenario::new("a crash")
//!     .nodes(4)
//!     .duration(Time::seconds(60))
//!     .fault(Fault::new(FaultKind::Crash, Time::seconds(20)).some(1).lasts(Time::seconds(10)))
//!     .expect("delivery_ratio", Op::Equal, 1.0)
//!     .run(&Options { seed: 7, ..Options::default() })?;
//! assert!(run.is_good(), "{}", run.complaint());
//! # Ok::<(), kith_sim::RunError>(())
//! ```

mod bare;
mod disk;
mod draw;
mod entropy;
mod host;
mod judge;
mod liar;
mod net;
mod overrides;
mod process;
mod progress;
mod relay;
pub mod report;
mod run;
pub mod scenario;
mod summary;
mod trace;
mod world;

pub use draw::Draw;
pub use judge::{Broken, Note, Percentiles, Step, Story};
pub use overrides::{cpu_nanos, real_nanos};
pub use process::{ProcessError, peak_rss_mib, simulate};
pub use progress::{Phase, Progress};
pub use run::{NodeRow, Options, Run, RunError};
pub use scenario::{
    Bandwidth, Bytes, Churn, Fault, FaultKind, FriendsKind, Lifetime, Nat, Op, Scenario, ScenarioError,
    Share, Time,
};
pub use summary::{Expectation, Lookup, METRICS, Summary, Traffic};
pub use world::{Happened, Sample};
