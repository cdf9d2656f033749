//! Kith's pure core: wire format, identity, end-to-end encryption, and the [`Engine`] of one device.
//!
//! Nothing here does IO, reads a clock or spawns a task. A driver feeds the Engine with
//! [`Engine::handle_input`] and takes what it wants done from [`Engine::poll_output`]; see [`engine`] for the order of
//! calls and the one rule about outputs. [`mailbox`] is the state machine of a relay.

pub mod crypto;
pub mod directory;
pub mod engine;
pub mod entry;
pub mod id;
pub mod identity;
pub mod invite;
pub mod limits;
pub mod mailbox;
pub mod record;
pub mod secret;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;
pub mod wire;

pub use engine::{Engine, Input, Output};
pub use id::{
    AccountId, Address, ClientId, ConversationId, DeviceId, DirectoryKey, EntryId, EnvelopeId, InviteId,
    MailboxId, RightId, SessionId, StreamId,
};
pub use time::{Mono, Now, Wall};
