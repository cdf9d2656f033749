//! Tools for tests and the simulator.

pub mod vectors;
