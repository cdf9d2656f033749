//! A node: built from a data folder, running until it is told to stop.

use std::sync::Arc;
use std::time::Duration;

use futures::future::select;
use kith_protocol::engine;
use kith_protocol::record::{Key, Own, ReadError};
use kith_store::{OpenReport, Progress, Store, StoreConfig};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::api::{self, Handle, Reads, Running};
use crate::config::{ConfigError, RunChanges, RunOptions};
use crate::folder::{Folder, PinFile};
use crate::host::{Host, HostClock, ProductHost};
use crate::keys::{self, EngineKind, KeyError, MasterKey, MemoryDisk};
use crate::runtime::{Presence, Shelf, Started, start};

/// How long a start waits for the first listen address.
const LISTEN_WAIT: Duration = Duration::from_secs(5);

/// Why a node did not start, or a data folder could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// Nothing is there yet.
    #[error("no account here yet; run `kith init --name YOU` first")]
    NoAccount,
    /// The key that seals the store.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store.
    #[error(transparent)]
    Store(#[from] kith_store::OpenError),
    /// A row of the store.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The Engine.
    #[error(transparent)]
    Engine(engine::OpenError),
    /// The remembered or given options.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address among the options.
    #[error(transparent)]
    Address(#[from] kith_network::ConfigError),
    /// The network.
    #[error(transparent)]
    Network(#[from] kith_network::StartError),
    /// The API.
    #[error(transparent)]
    Api(#[from] api::Error),
    /// The system.
    #[error("the node cannot start: {0}")]
    System(#[from] std::io::Error),
}

impl From<engine::OpenError> for StartError {
    fn from(error: engine::OpenError) -> Self {
        match error {
            engine::OpenError::NoAccount => Self::NoAccount,
            error => Self::Engine(error),
        }
    }
}

impl StartError {
    /// The request itself is at fault: a program ends with status 2.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Address(_) | Self::Config(ConfigError::Address(_) | ConfigError::NotLoopback(_)))
    }

    /// Another process uses the data folder.
    #[must_use]
    pub const fn is_locked(&self) -> bool {
        matches!(self, Self::Store(kith_store::OpenError::Locked(_)))
    }
}

/// Puts a node together.
#[must_use = "a builder does nothing until it is started or opened"]
pub struct Builder {
    folder: Option<Folder>,
    host: Option<Arc<dyn Host>>,
    key: Option<MasterKey>,
    passphrase: Option<Zeroizing<String>>,
    changes: RunChanges,
    remember: bool,
    engine: EngineKind,
    memory: Option<MemoryDisk>,
    progress: Option<Progress>,
    limits: kith_network::Limits,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("folder", &self.folder)
            .field("changes", &self.changes)
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// A node that keeps everything in a folder. [`account::create`](crate::account::create) puts an account there.
    pub fn new(folder: Folder) -> Self {
        Self {
            folder: Some(folder),
            host: None,
            key: None,
            passphrase: None,
            changes: RunChanges::default(),
            remember: true,
            engine: EngineKind::Sled,
            memory: None,
            progress: None,
            limits: kith_network::Limits::default(),
        }
    }

    /// A node that keeps everything in memory, on a disk that outlives it.
    pub fn in_memory(disk: MemoryDisk, key: MasterKey) -> Self {
        Self {
            folder: None,
            key: Some(key),
            memory: Some(disk),
            engine: EngineKind::Memory,
            ..Self::new(Folder::new(""))
        }
    }

    /// Where tasks, time, randomness, transports and the store come from. Without it: the product's.
    pub fn host(mut self, host: Arc<dyn Host>) -> Self {
        self.host = Some(host);
        self
    }

    /// What opens the key of the store, if it is sealed under a passphrase.
    pub fn passphrase(mut self, passphrase: Option<Zeroizing<String>>) -> Self {
        self.passphrase = passphrase;
        self
    }

    /// The key of the store itself, kept elsewhere.
    pub fn key(mut self, key: MasterKey) -> Self {
        self.key = Some(key);
        self
    }

    /// What to change in the remembered run options.
    pub fn changes(mut self, changes: RunChanges) -> Self {
        self.changes = changes;
        self
    }

    /// Where to listen.
    pub fn listen<T: Into<String>>(mut self, addresses: impl IntoIterator<Item = T>) -> Self {
        self.changes.listen = Some(addresses.into_iter().map(Into::into).collect());
        self
    }

    /// Directory nodes to start from.
    pub fn bootstrap<T: Into<String>>(mut self, addresses: impl IntoIterator<Item = T>) -> Self {
        self.changes.bootstrap = Some(addresses.into_iter().map(Into::into).collect());
        self
    }

    /// Addresses others can reach us at although we do not listen there.
    pub fn external<T: Into<String>>(mut self, addresses: impl IntoIterator<Item = T>) -> Self {
        self.changes.external = Some(addresses.into_iter().map(Into::into).collect());
        self
    }

    /// Serve the directory even if nobody confirmed that we can be reached.
    pub fn serve(mut self, serve: bool) -> Self {
        self.changes.serve = Some(serve);
        self
    }

    /// Announce and discover on the local network.
    pub fn mdns(mut self, mdns: bool) -> Self {
        self.changes.mdns = Some(mdns);
        self
    }

    /// Whether this start's options and ports are remembered for the next.
    pub fn remember(mut self, remember: bool) -> Self {
        self.remember = remember;
        self
    }

    /// Bounds of connections, memory and time other than the defaults.
    pub fn limits(mut self, limits: kith_network::Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Told about long work while the store opens.
    pub fn progress(mut self, progress: Progress) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Starts the node. Returns once it listens.
    ///
    /// # Errors
    /// [`StartError`] says what is wrong and what to do.
    pub async fn start(self) -> Result<Node, StartError> {
        let host = self.host_or_default()?;
        let remembered = match &self.folder {
            Some(folder) => RunOptions::read(folder)?,
            None => RunOptions::default(),
        };
        let mut options = remembered.with(self.changes.clone())?;
        let store_config = self.store_config()?;
        let (store, report) = host.open_store(store_config.clone())?;
        let own: Own = store.row(&Key::Own)?.ok_or(StartError::NoAccount)?;
        let started = begin(&host, store, &store_config, &own, &options, &self.limits)?;
        options.chosen = listening(&host, &started).await;
        if let Some(folder) = self.folder.as_ref().filter(|_| self.remember) {
            options.write(folder)?;
        }
        let Started { calls, live, network, presence, shelf, stop, ended } = started;
        let running = Running {
            calls,
            live,
            network,
            stop: stop.clone(),
            ended: ended.clone(),
            #[cfg(feature = "rpc")]
            host: host.clone(),
        };
        let reads = Reads::open(shelf, presence)?;
        let handle =
            Handle::new(reads, self.pins(&store_config.key)?, Arc::new(HostClock(host)), Some(running));
        Ok(Node { handle, options, report, stop, ended })
    }

    /// Opens the data folder without a network, for reading.
    ///
    /// # Errors
    /// [`StartError`] says what is wrong and what to do; another process may use the folder.
    pub fn open(self) -> Result<Handle, StartError> {
        let host = self.host_or_default()?;
        let config = self.store_config()?;
        let key = config.key.clone();
        let (store, report) = host.open_store(config)?;
        if let Some(notice) = report.notice() {
            // told once: also to those who asked for something else
            tracing::error!("{notice}");
        }
        let own: Option<Own> = store.row(&Key::Own)?;
        own.ok_or(StartError::NoAccount)?;
        let shelf = Arc::new(Shelf::new(store.reader()));
        let reads = Reads::open(shelf, Arc::new(Presence::default()))?;
        Ok(Handle::new(reads, self.pins(&key)?, Arc::new(HostClock(host)), None))
    }

    pub(crate) fn host_or_default(&self) -> Result<Arc<dyn Host>, StartError> {
        match &self.host {
            Some(host) => Ok(host.clone()),
            None => Ok(Arc::new(ProductHost::current()?)),
        }
    }

    pub(crate) fn store_config(&self) -> Result<StoreConfig, StartError> {
        let key = match (&self.key, &self.folder) {
            (Some(key), _) => key.clone(),
            (None, Some(folder)) => {
                match keys::open(folder.path(), self.passphrase.as_deref().map(String::as_str)) {
                    Err(KeyError::Missing(_)) if !folder.has_store() => return Err(StartError::NoAccount),
                    key => key?,
                }
            }
            (None, None) => return Err(StartError::NoAccount),
        };
        let mut config = match (&self.memory, &self.folder) {
            (Some(disk), _) => StoreConfig::memory(disk.clone(), key),
            (None, Some(folder)) => StoreConfig::new(folder.store(), self.engine, key),
            (None, None) => return Err(StartError::NoAccount),
        };
        config.progress = self.progress.clone();
        Ok(config)
    }

    fn pins(&self, key: &MasterKey) -> Result<PinFile, api::Error> {
        match &self.folder {
            Some(folder) => PinFile::open(folder, key),
            None => Ok(PinFile::in_memory()),
        }
    }
}

/// Starts the tasks. A remembered port that is taken meanwhile is given up if the system had chosen it.
fn begin(
    host: &Arc<dyn Host>,
    store: Store,
    store_config: &StoreConfig,
    own: &Own,
    options: &RunOptions,
    limits: &kith_network::Limits,
) -> Result<Started, StartError> {
    let network = |listen: Vec<String>| {
        kith_network::Config::new(kith_network::Options {
            listen,
            listen_explicit: !options.listen.is_empty(),
            external: options.external.clone(),
            bootstrap: options.bootstrap.clone(),
            serve: options.serve,
            mdns: options.mdns,
            limits: limits.clone(),
            ..kith_network::Options::new(own.device_seed.clone())
        })
    };
    let again = options.listen_again();
    let first = start(host.clone(), store.clone(), store_config.clone(), network(again.clone())?);
    match first {
        Err(StartError::Network(kith_network::StartError::Listen { address, reason }))
            if again != options.listen =>
        {
            tracing::warn!(%address, %reason, "the port of the last start is taken; another is chosen");
            start(host.clone(), store, store_config.clone(), network(options.listen.clone())?)
        }
        started => started,
    }
}

/// Waits until every listener has said where it listens; after a while those that have must do.
async fn listening(host: &Arc<dyn Host>, started: &Started) -> Vec<String> {
    let mut status = started.network.watch();
    let ready = Box::pin(status.wait_for(|status| status.listening_everywhere));
    let wait = host.sleep(u64::try_from(LISTEN_WAIT.as_millis()).unwrap_or(u64::MAX));
    // what is told late is in the status all the same
    let _ = select(ready, wait).await;
    started.network.status().listening
}

/// A running node. Dropping it stops it; [`Node::shutdown`] also waits until it has stopped.
#[derive(Debug)]
pub struct Node {
    handle: Handle,
    options: RunOptions,
    report: OpenReport,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Node {
    /// What programs use.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The options it runs with, and the addresses it listens on.
    #[must_use]
    pub const fn options(&self) -> &RunOptions {
        &self.options
    }

    /// One sentence for people if opening the store found something out of the ordinary.
    #[must_use]
    pub fn notice(&self) -> Option<String> {
        self.report.notice()
    }

    /// Waits until the node has stopped, by whoever's wish, and its store is closed.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Stops the node: what it was writing is written, links are closed, then the store.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.ended.cancelled().await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
