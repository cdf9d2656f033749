//! The handle: commands in, never blocking.

use std::sync::Arc;

use bytes::Bytes;
use kith_protocol::engine::LinkId;
use kith_protocol::{Address, DeviceId, DirectoryKey, limits};
use libp2p::{Multiaddr, PeerId};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use crate::address::{self, ParseAddressError};
use crate::deposit::{Answered, Deposits};
use crate::environment::Environment;
use crate::event::Status;
use crate::gate::Policy;
use crate::link::Links;

/// How long a command may wait for room in the queue.
const COMMAND_WAIT: u64 = 5_000;

/// The network's task is gone or did not take a command in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Stopped {
    /// It was shut down.
    #[error("the network was shut down")]
    ShutDown,
    /// It is overloaded.
    #[error("the network did not take a command within {} s; the machine is overloaded", COMMAND_WAIT / 1000)]
    Busy,
}

/// Why a frame was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SendError {
    /// The link is gone; `Disconnected` has been or will be told.
    #[error("the link is gone")]
    Gone,
    /// The queue of the link is full; the link is being closed.
    #[error("the other side takes frames too slowly; the link is being closed")]
    Overflow,
    /// The frame is empty or too long.
    #[error("a frame of {0} bytes; 1 to {max} are allowed", max = limits::FRAME)]
    Size(usize),
}

#[derive(Debug)]
pub(crate) enum Command {
    Dial { peer: DeviceId, addresses: Vec<Address> },
    Refuse(DeviceId),
    Admit(DeviceId),
    Prefer { peer: DeviceId, preferred: bool },
    Disconnect(DeviceId),
    Provide { key: DirectoryKey, record: Bytes, ttl: u64 },
    Withdraw(DirectoryKey),
    Find(DirectoryKey),
    AddBootstrap { address: Multiaddr, peer: Option<PeerId> },
    Shutdown(oneshot::Sender<()>),
}

/// The running network. Clones share one task, which ends with [`Network::shutdown`] or when every clone is dropped.
#[derive(Clone)]
pub struct Network {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) links: Links,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) environment: Arc<dyn Environment>,
    pub(crate) policy: Arc<Policy>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("status", &*self.status.borrow()).finish_non_exhaustive()
    }
}

impl Network {
    async fn command(&self, command: Command) -> Result<(), Stopped> {
        let command = match self.commands.try_send(command) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Stopped::ShutDown),
            Err(mpsc::error::TrySendError::Full(command)) => command,
        };
        let send = Box::pin(self.commands.send(command));
        match futures::future::select(send, self.environment.sleep(COMMAND_WAIT)).await {
            futures::future::Either::Left((sent, _)) => sent.map_err(|_| Stopped::ShutDown),
            futures::future::Either::Right(_) => Err(Stopped::Busy),
        }
    }

    /// The ways to relays that are not ours. Each request is answered once on `answers`.
    #[must_use]
    pub fn deposits(&self, answers: mpsc::Sender<Answered>) -> Deposits {
        Deposits::new(Arc::clone(&self.environment), Arc::clone(&self.policy), answers)
    }

    /// Queues a frame on a link. Frames of one link arrive in order or not at all.
    ///
    /// # Errors
    /// [`SendError`]; with `Overflow` the link is closed, because a peer that keeps its window never lets the queue
    /// fill.
    pub fn send(&self, link: LinkId, frame: Bytes) -> Result<(), SendError> {
        self.links.send(link, frame)
    }

    /// Bytes of frames that the peer of a link has not taken yet, and of all links together: who answers much to little
    /// questions waits until they are small.
    #[must_use]
    pub fn queued(&self, link: LinkId) -> (usize, usize) {
        (self.links.queued(link), self.links.bytes())
    }

    /// Tries to get a link to a device: at these addresses and at those known from the local network, the directory
    /// and earlier connections, all at once. Ends with one `Connected` or one `DialFailed`; calls made meanwhile are
    /// joined, one for a linked device does nothing.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn dial(&self, peer: DeviceId, addresses: Vec<Address>) -> Result<(), Stopped> {
        self.command(Command::Dial { peer, addresses }).await
    }

    /// Closes every connection with a device and lets none in until [`Network::admit`].
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn refuse(&self, peer: DeviceId) -> Result<(), Stopped> {
        self.command(Command::Refuse(peer)).await
    }

    /// Takes a refusal and any ban back.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn admit(&self, peer: DeviceId) -> Result<(), Stopped> {
        self.command(Command::Admit(peer)).await
    }

    /// Names a contact's device: it passes the limits that hold for strangers. `preferred: false` takes that back.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn prefer(&self, peer: DeviceId, preferred: bool) -> Result<(), Stopped> {
        self.command(Command::Prefer { peer, preferred }).await
    }

    /// Closes every connection with a device; it may come back.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn disconnect(&self, peer: DeviceId) -> Result<(), Stopped> {
        self.command(Command::Disconnect(peer)).await
    }

    /// Keeps a record in the directory: published now and again on the network's schedule until `ttl` milliseconds are
    /// over or [`Network::withdraw`]. Each publication ends with `Provided`.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn provide(&self, key: DirectoryKey, record: Bytes, ttl: u64) -> Result<(), Stopped> {
        self.command(Command::Provide { key, record, ttl }).await
    }

    /// Stops keeping a record. Copies at other nodes expire by themselves.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn withdraw(&self, key: DirectoryKey) -> Result<(), Stopped> {
        self.command(Command::Withdraw(key)).await
    }

    /// Searches the directory. Ends with `FindEnded`; searches for one key are joined.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn find(&self, key: DirectoryKey) -> Result<(), Stopped> {
        self.command(Command::Find(key)).await
    }

    /// Adds a directory node to start from.
    ///
    /// # Errors
    /// [`AddBootstrapError`] naming the address, or that the network stopped.
    pub async fn add_bootstrap(&self, text: &str) -> Result<(), AddBootstrapError> {
        let (address, peer) = address::parse_multiaddr(text)?;
        if address::multiaddr_scope(&address).is_none() {
            address::parse(text)?;
        }
        Ok(self.command(Command::AddBootstrap { address, peer }).await?)
    }

    /// How the node does.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Tells each change of the status, at most a few a second.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Sends what is queued, closes all connections and ends the task, within half a second.
    pub async fn shutdown(&self) {
        let (done, wait) = oneshot::channel();
        if self.command(Command::Shutdown(done)).await.is_ok() {
            // An error means that the task ended without answering, which is what we want, too.
            let _ = wait.await;
        }
    }
}

/// Why a directory node was not added.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddBootstrapError {
    /// The address is wrong.
    #[error(transparent)]
    Address(#[from] ParseAddressError),
    /// The network stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}
