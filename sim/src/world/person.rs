//! Somebody with a host: the host's lives, and the node in the present one.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use kith_network::Limits;
use kith_node::account::{self, CreateError};
use kith_node::api::Handle;
use kith_node::keys::MasterKey;
use kith_node::{Builder, Host, Node};
use kith_protocol::{AccountId, EntryId};
use kith_store::{Store, StoreConfig, StoreReader};

use super::agenda::{Mailbox, Word};
use crate::disk::Disk;
use crate::draw::Draw;
use crate::host::{Birth, Life};
use crate::net::Outage;

/// A node that was told to stop must have stopped after this.
const STOPS: Duration = Duration::from_secs(30);

/// How others can reach a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Public, and configured so.
    Public,
    /// Public without knowing it.
    Open,
    /// Behind a router.
    Routed,
}

/// What a host does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Down,
    Starting,
    Up,
    Stopping,
}

pub(crate) struct Person {
    pub(crate) host: u32,
    pub(crate) reach: Reach,
    pub(crate) disk: Disk,
    pub(crate) skew: Arc<AtomicI64>,
    pub(crate) state: State,
    pub(crate) account: Option<AccountId>,
    pub(crate) peer: String,
    /// The present life, and its number.
    pub(crate) life: Option<Arc<Life>>,
    pub(crate) lives: u32,
    pub(crate) node: Option<Node>,
    /// Number of faults that keep it down.
    pub(crate) held_down: u32,
    /// It never comes back.
    pub(crate) gone: bool,
    /// What it wrote last.
    pub(crate) wrote: Vec<EntryId>,
    /// When it goes and comes.
    pub(crate) fate: Draw,
    key: MasterKey,
}

impl Person {
    pub(crate) fn new(seed: u64, host: u32, reach: Reach, sync: u64) -> Self {
        let mut draw = Draw::new(seed, "person", u64::from(host));
        let mut key = [0; 32];
        for chunk in key.chunks_mut(8) {
            chunk.copy_from_slice(&draw.word().to_le_bytes());
        }
        Self {
            host,
            reach,
            disk: Disk::new(seed, host, sync),
            skew: Arc::new(AtomicI64::new(0)),
            state: State::Down,
            account: None,
            peer: String::new(),
            life: None,
            lives: 0,
            node: None,
            held_down: 0,
            gone: false,
            wrote: Vec::new(),
            fate: Draw::new(seed, "fate", u64::from(host)),
            key: MasterKey::from_bytes(key),
        }
    }

    pub(crate) fn handle(&self) -> Option<Handle> {
        (self.state == State::Up).then(|| self.node.as_ref().map(Node::handle)).flatten()
    }

    /// Makes the account, on a disk that is not slow yet.
    ///
    /// # Errors
    /// [`CreateError`].
    pub(super) fn create(&mut self, life: &Arc<Life>) -> Result<account::Created, CreateError> {
        let _entered = crate::entropy::enter(self.host);
        let host: &dyn Host = life.as_ref();
        let created =
            account::create_in_memory(host, &self.disk.memory(), &self.key, &format!("Node {}", self.host))?;
        self.account = Some(created.account);
        self.peer.clone_from(&created.peer_id);
        Ok(created)
    }

    /// Begins a life; the node starts in it.
    pub(super) fn begin(&mut self, birth: Birth) -> Arc<Life> {
        let life = Life::begin(birth);
        self.lives += 1;
        self.life = Some(Arc::clone(&life));
        self.state = State::Starting;
        life
    }

    /// Starts the node of the present life.
    pub(super) fn start(&self, life: &Arc<Life>, start: Start, mailbox: Arc<Mailbox>) {
        let (host, number) = (self.host, self.lives);
        let Start { listen, bootstrap } = start;
        let mut builder = Builder::in_memory(self.disk.memory(), self.key.clone())
            .host(Arc::clone(life) as Arc<dyn Host>)
            .bootstrap(bootstrap)
            .mdns(false)
            .remember(false)
            // the process is not the node's own
            .limits(Limits { memory: None, ..Limits::default() });
        if let Some(listen) = listen {
            builder = builder.listen([listen]);
        }
        life.run(async move {
            let result = Box::new(Box::pin(builder.start()).await);
            mailbox.put(Word::Booted { host, life: number, result });
        });
    }

    /// Ends the present life at once.
    pub(super) fn kill(&mut self, how: Outage) {
        if let Some(life) = self.life.take() {
            life.kill(how);
        }
        self.node = None;
        self.state = State::Down;
    }

    /// Has the node stop in order.
    #[allow(clippy::disallowed_methods, reason = "who waits for a node's end is no task of that node")]
    pub(super) fn stop(&mut self, mailbox: Arc<Mailbox>) {
        let Some(node) = self.node.take() else { return self.kill(Outage::Crash) };
        self.state = State::Stopping;
        let (host, life) = (self.host, self.lives);
        drop(tokio::spawn(async move {
            let stopped = tokio::time::timeout(STOPS, node.shutdown()).await.is_ok();
            mailbox.put(Word::Stopped { host, life, stopped });
        }));
    }

    /// The node has stopped.
    pub(super) fn stopped(&mut self) {
        if let Some(life) = self.life.take() {
            life.retire();
        }
        self.state = State::Down;
    }

    /// Reads the store, whether or not the node runs.
    pub(super) fn reader(&self) -> Option<StoreReader> {
        self.account?;
        match self.life.as_ref().and_then(|life| life.reader()) {
            Some(reader) => Some(reader),
            None => {
                let _entered = crate::entropy::enter(crate::entropy::OUTSIDE);
                let copy = StoreConfig::memory(self.disk.memory().copy(), self.key.clone());
                Store::open(copy).ok().map(|(store, _)| store.reader())
            }
        }
    }
}

/// How a node starts.
pub(super) struct Start {
    /// Without it: wherever it can.
    pub(super) listen: Option<String>,
    pub(super) bootstrap: Vec<String>,
}
