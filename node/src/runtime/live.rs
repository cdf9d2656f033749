//! What the driver hands to the API side: commands in, happenings out.

use std::sync::Arc;

use kith_protocol::engine::{Answer, Command, Transient};
use kith_protocol::record::Event;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::api::Error;

/// Commands that wait for the driver.
pub(crate) const CALLS: usize = 256;
/// Happenings a slow follower may lag behind before it reads from the store again.
pub(crate) const LIVE: usize = 1_024;

/// A command on its way to the Engine.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) command: Command,
    pub(crate) reply: oneshot::Sender<Result<Answer, Error>>,
}

/// Something to tell followers, after what it rests on is on disk.
#[derive(Debug, Clone)]
pub(crate) enum Live {
    Stored(Arc<Event>),
    Transient(Transient),
}

pub(crate) type Calls = mpsc::Sender<Call>;
pub(crate) type LiveSender = broadcast::Sender<Live>;
