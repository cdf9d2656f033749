//! Kith's store: typed rows, sealed at rest, behind one narrow seam.
//!
//! [`Store`] is what the node uses: atomic, numbered, ordered commits of [`Change`](kith_protocol::record::Change)s
//! and reads by key, range or query. Below it a row becomes blinded key bytes and sealed value bytes, and
//! an [`engine`] keeps those: sled, redb or memory. One thread owns all writes, joins what waits into one durable
//! write, and keeps beside the engine an export log from which the store is rebuilt when the engine is damaged.
//! [`mailbox`] is the store of a relay, on the same engines.

mod actor;
mod applier;
mod check;
mod codec;
mod config;
mod disk;
pub mod engine;
pub mod keys;
mod lock;
mod log;
pub mod mailbox;
mod open;
pub mod panics;
pub mod private;
mod query;
mod reader;
mod sealed_file;
mod staging;
mod store;
mod ticket;
mod transfer;
mod writer;

pub use check::{CheckReport, Problem};
pub use config::{EngineKind, OpenError, OpenReport, OpenStage, Progress, StoreConfig, UnknownEngine};
pub use engine::memory::MemoryDisk;
pub use keys::{KeyKind, MasterKey};
pub use lock::{DataLock, LockError};
pub use query::Place;
pub use reader::StoreReader;
pub use sealed_file::SealedFile;
pub use store::{Store, StoreStats};
pub use ticket::{CommitError, CommitTicket};
pub use transfer::{ExportKey, TransferError, TransferReport, compact, export, import, migrate};
