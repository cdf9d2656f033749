//! For tests, the simulator and `kith store check`: two engines with a wire and a clock, a disk, the invariants,
//! and a relay in memory.

mod check;
mod disk;
mod mesh;
mod pair;
mod relay;
pub mod vectors;

pub use check::check;
pub use disk::Disk;
pub use mesh::Temper;
pub use pair::{Pair, Side, Weather, Who};
pub use relay::{MemoryRows, Sent, TestRelay};
