//! A relay's host: its disk, its key, its lives, and the relay in the present one.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use kith_network::{Circuits, Limits, Options, Role};
use kith_protocol::DeviceId;
use kith_protocol::identity::KeyPair;
use kith_protocol::mailbox::Usage;
use kith_protocol::secret::Secret32;
use kith_relay::{Relay, Settings, StartError};
use kith_store::mailbox::KvStore;

use super::conduct::Conduct;
use super::shelf::Shelf;
use crate::disk::Disk;
use crate::draw::Draw;
use crate::host::{Birth, Life};
use crate::net::Outage;
use crate::scenario::Relays;
use crate::trace::Trace;
use crate::world::State;

/// A relay that was told to stop must have stopped after this.
const STOPS: Duration = Duration::from_secs(30);
/// Connections of a relay, as its configuration's default.
const CONNECTIONS: usize = 10_000;

/// See the module.
pub(crate) struct Station {
    pub(crate) host: u32,
    pub(crate) device: DeviceId,
    /// Its libp2p name.
    pub(crate) peer: String,
    pub(crate) disk: Disk,
    pub(crate) conduct: Arc<Conduct>,
    pub(crate) skew: Arc<AtomicI64>,
    pub(crate) state: State,
    pub(crate) lives: u32,
    /// Number of faults that keep it down.
    pub(crate) held_down: u32,
    /// It never comes back.
    pub(crate) gone: bool,
    seed: Secret32,
    disks: u64,
    life: Option<Arc<Life>>,
    relay: Option<Relay>,
    store: Option<Arc<KvStore>>,
}

impl Station {
    pub(crate) fn new(seed: u64, host: u32, sync: u64) -> Self {
        let own = Secret32::new(Draw::new(seed, "relay", u64::from(host)).bytes());
        let device = DeviceId(KeyPair::from_seed(&own).public());
        Self {
            host,
            device,
            // every public key of a key pair is a point
            peer: device.peer_id().map(|peer| peer.to_string()).unwrap_or_default(),
            disk: Disk::new(seed, host, sync),
            conduct: Arc::new(Conduct::new(seed, host)),
            skew: Arc::new(AtomicI64::new(0)),
            state: State::Down,
            lives: 0,
            held_down: 0,
            gone: false,
            seed: own,
            disks: 0,
            life: None,
            relay: None,
            store: None,
        }
    }

    /// A new disk, with nothing on it.
    pub(crate) fn lose_disk(&mut self, seed: u64, sync: u64) {
        self.disks += 1;
        self.disk = Disk::new(seed.wrapping_add(self.disks), self.host, sync);
        self.store = None;
        self.conduct.lose();
    }

    /// Begins a life, in which the relay starts; `done` is told what came of it.
    pub(crate) fn begin(
        &mut self,
        birth: Birth,
        start: RelayStart,
        trace: &Arc<Trace>,
        done: impl FnOnce(Result<Relay, String>) + Send + 'static,
    ) {
        let life = Life::begin(birth);
        self.lives += 1;
        self.life = Some(Arc::clone(&life));
        self.state = State::Starting;
        life.hold_disk();
        let opened = {
            let _entered = crate::entropy::enter(self.host);
            KvStore::memory(&self.disk.memory())
        };
        let store = match opened {
            Ok(store) => Arc::new(store),
            Err(error) => return done(Err(error.to_string())),
        };
        self.store = Some(Arc::clone(&store));
        let shelf = Shelf {
            inner: store,
            disk: self.disk.clone(),
            life: Arc::downgrade(&life),
            host: self.host,
            conduct: Arc::clone(&self.conduct),
            trace: Arc::clone(trace),
        };
        let mut network = Options::new(self.seed.clone());
        network.listen = vec![start.listen];
        network.listen_explicit = true;
        network.bootstrap = start.bootstrap;
        network.mdns = false;
        network.role = Role::Relay(Circuits::default());
        network.limits = Limits { connections: CONNECTIONS, memory: None, ..Limits::default() };
        let mut settings = Settings::new(network);
        let Relays { mailbox_items, mailbox_bytes, .. } = start.relays;
        settings.policy.mailbox = Usage { bytes: mailbox_bytes.0, items: mailbox_items };
        let environment = Arc::clone(&life);
        life.run(async move {
            let started: Result<_, StartError> =
                Box::pin(Relay::start(environment, settings, Arc::new(shelf))).await;
            done(started.map_err(|error| error.to_string()));
        });
    }

    /// The relay of the present life runs.
    pub(crate) fn started(&mut self, relay: Relay) {
        self.relay = Some(relay);
        self.state = State::Up;
    }

    /// Ends the present life at once.
    pub(crate) fn kill(&mut self, how: Outage) {
        if let Some(life) = self.life.take() {
            life.kill(how);
        }
        self.conduct.snuff();
        self.relay = None;
        self.store = None;
        self.state = State::Down;
    }

    /// Has the relay stop in order; `done` is told whether it did in time.
    #[allow(clippy::disallowed_methods, reason = "who waits for a relay's end is no task of that relay")]
    pub(crate) fn stop(&mut self, done: impl FnOnce(bool) + Send + 'static) {
        let Some(relay) = self.relay.take() else { return self.kill(Outage::Crash) };
        self.state = State::Stopping;
        drop(tokio::spawn(async move {
            done(tokio::time::timeout(STOPS, relay.shutdown()).await.is_ok());
        }));
    }

    /// The relay has stopped.
    pub(crate) fn stopped(&mut self) {
        if let Some(life) = self.life.take() {
            life.retire();
        }
        self.conduct.snuff();
        self.store = None;
        self.state = State::Down;
    }

    /// Reads what it keeps, whether or not it runs. `None` if that cannot be read.
    pub(crate) fn rows(&self) -> Option<Arc<KvStore>> {
        if let Some(store) = &self.store {
            return Some(Arc::clone(store));
        }
        if self.lives == 0 {
            return None;
        }
        let _entered = crate::entropy::enter(crate::entropy::OUTSIDE);
        KvStore::memory(&self.disk.memory().copy()).ok().map(Arc::new)
    }
}

/// How a relay starts.
pub(crate) struct RelayStart {
    pub(crate) listen: String,
    pub(crate) bootstrap: Vec<String>,
    pub(crate) relays: Relays,
}
