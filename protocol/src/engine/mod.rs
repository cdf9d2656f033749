//! One device's state machine.
//!
//! Order of calls: [`Engine::handle_input`] (or [`Engine::handle_timeout`] once [`Engine::poll_timeout`] is due), then
//! [`Engine::poll_output`] until it is empty. The driver makes every [`Output::Persist`] durable before it releases what
//! stands behind it, then calls [`Engine::persisted`]. While [`Engine::is_full`] it takes no input.

mod command;
mod input;
mod output;

use std::collections::VecDeque;

pub use command::{Answer, Command, CommandError};
pub use input::{CommandId, Input, LinkId};
pub use output::{Output, Transient};

use crate::record::{Change, Overlay, ReadError, Reader};
use crate::time::{Mono, Now, Wall};

/// What the Engine is told once.
#[derive(Debug, Clone, Default)]
pub struct Config {}

/// Why a device's Engine could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The store holds no account yet.
    #[error("no account here yet; run `kith init --name YOU` first")]
    NoAccount,
    /// The store failed or is damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// One device.
#[derive(Debug)]
pub struct Engine {
    rows: Overlay,
    outputs: VecDeque<Output>,
}

impl Engine {
    /// Opens the device whose rows `reader` holds.
    ///
    /// # Errors
    /// [`OpenError`] if there is no account or the store is damaged.
    pub fn open(
        _config: Config,
        reader: Box<dyn Reader>,
        _rng: Box<dyn rand::CryptoRng + Send>,
        _now: Now,
    ) -> Result<Self, OpenError> {
        Ok(Self { rows: Overlay::new(reader), outputs: VecDeque::new() })
    }

    /// Takes one input.
    pub fn handle_input(&mut self, _input: Input, _now: Now) {}

    /// Does what is due; call when [`Engine::poll_timeout`] says so.
    pub fn handle_timeout(&mut self, _now: Now) {}

    /// When to call [`Engine::handle_timeout`] at the latest, and why (for logs).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Mono, &'static str)> {
        None
    }

    /// The next effect.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// All batches up to `n` are on disk.
    pub fn persisted(&mut self, n: u64) {
        self.rows.persisted(n);
    }

    /// Too much is not on disk yet: take no input now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.rows.bytes() > crate::limits::UNPERSISTED
    }
}

/// Makes a new account with its first device: the rows to write into an empty store.
#[must_use]
pub fn genesis(_name: &str, _now: Wall, _rng: &mut dyn rand::CryptoRng) -> Vec<Change> {
    Vec::new()
}
