//! The key that seals the store, and the engines that keep it.

pub use kith_store::keys::{KeyError, KeyKind, MasterKey, create, keep, kind, open};
pub use kith_store::{EngineKind, MemoryDisk, OpenStage, Progress};
