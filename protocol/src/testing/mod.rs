//! For tests, the simulator and `kith store check`: two engines with a wire and a clock, a disk, and the invariants.

mod check;
mod disk;
mod pair;
pub mod vectors;

pub use check::check;
pub use disk::Disk;
pub use pair::{Pair, Side, Weather, Who};
