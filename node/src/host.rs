//! What differs between the product and the simulator: tasks, time, randomness, transports, the store.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use kith_network::{Environment, Purpose};
use kith_protocol::engine::{Input, Output};
use kith_protocol::{Mono, Now, Wall};
use kith_store::{OpenError, OpenReport, Store, StoreConfig};
use rand::SeedableRng as _;
use rand::rngs::{StdRng, SysRng};

use crate::api::Clock;

/// Where a node gets everything from that is not its own logic.
pub trait Host: Environment {
    /// Opens the store.
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong and what to do.
    fn open_store(&self, config: StoreConfig) -> Result<(Store, OpenReport), OpenError> {
        Store::open(config)
    }

    /// Called before each output takes effect, in their order. The simulator crashes a host here.
    fn observe(&self, output: &Output) {
        let _ = output;
    }

    /// Called before the Engine is told something, in that order.
    fn hear(&self, input: &Input) {
        let _ = input;
    }
}

/// Both clocks of a host.
pub(crate) fn now(host: &dyn Host) -> Now {
    Now { wall: host.wall(), mono: host.mono() }
}

/// The host of the product: a tokio runtime, the system's clocks and random numbers, real sockets and files.
#[derive(Debug)]
pub struct ProductHost {
    runtime: tokio::runtime::Handle,
    started: Instant,
    seed: Mutex<StdRng>,
}

impl ProductHost {
    /// A host on the runtime of the caller.
    ///
    /// # Errors
    /// If there is no runtime here, or the system has no random numbers.
    pub fn current() -> io::Result<Self> {
        let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        Self::on(runtime)
    }

    /// A host on a runtime.
    ///
    /// # Errors
    /// If the system has no random numbers.
    #[allow(clippy::disallowed_methods, reason = "the product's host is where the system's clock comes in")]
    pub fn on(runtime: tokio::runtime::Handle) -> io::Result<Self> {
        let seed = StdRng::try_from_rng(&mut SysRng).map_err(io::Error::other)?;
        Ok(Self { runtime, started: Instant::now(), seed: Mutex::new(seed) })
    }
}

impl Environment for ProductHost {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        tracing::trace!(name, "task started");
        drop(self.runtime.spawn(task));
    }

    #[allow(clippy::disallowed_methods, reason = "the product's host is where the system's clock comes in")]
    fn wall(&self) -> Wall {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn mono(&self) -> Mono {
        Mono(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn sleep(&self, millis: u64) -> BoxFuture<'static, ()> {
        let _runtime = self.runtime.enter();
        Box::pin(tokio::time::sleep(Duration::from_millis(millis)))
    }

    fn rng(&self) -> Box<dyn rand::CryptoRng + Send> {
        let mut seed = self.seed.lock().unwrap_or_else(PoisonError::into_inner);
        Box::new(StdRng::from_rng(&mut *seed))
    }

    fn transport(
        &self,
        identity: &kith_network::Keypair,
        _purpose: Purpose,
    ) -> io::Result<kith_network::Transport> {
        kith_network::product_transport(identity)
    }

    fn has_lan(&self) -> bool {
        true
    }
}

impl Host for ProductHost {}

/// A host's clocks for the API.
pub(crate) struct HostClock(pub(crate) Arc<dyn Host>);

impl Clock for HostClock {
    fn wall(&self) -> Wall {
        self.0.wall()
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        self.0.sleep(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }
}
