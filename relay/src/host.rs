//! The real world of a relay: a tokio runtime, the system's clocks and random numbers, real sockets.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use kith_network::{Environment, Keypair, Purpose, Transport, WssCertificate};
use kith_protocol::{Mono, Wall};
use rand::SeedableRng as _;
use rand::rngs::{StdRng, SysRng};

/// Where a relay gets tasks, time, randomness and transports from.
#[derive(Debug)]
pub struct Host {
    runtime: tokio::runtime::Handle,
    started: Instant,
    seed: Mutex<StdRng>,
    certificate: WssCertificate,
}

impl Host {
    /// A host on the runtime of the caller.
    ///
    /// # Errors
    /// If there is no runtime here, or the system has no random numbers.
    #[allow(clippy::disallowed_methods, reason = "this is where the system's clock comes in")]
    pub fn current() -> io::Result<Self> {
        let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let seed = StdRng::try_from_rng(&mut SysRng).map_err(io::Error::other)?;
        Ok(Self {
            runtime,
            started: Instant::now(),
            seed: Mutex::new(seed),
            certificate: WssCertificate::default(),
        })
    }
}

/// Measures how long something takes, more finely than [`Environment::mono`].
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts one.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is where the system's clock comes in")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Since its start.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

impl Host {
    /// The certificate of secure WebSocket addresses.
    #[must_use]
    pub const fn certificate(&self) -> &WssCertificate {
        &self.certificate
    }
}

impl Environment for Host {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        tracing::trace!(name, "task started");
        drop(self.runtime.spawn(task));
    }

    #[allow(clippy::disallowed_methods, reason = "this is where the system's clock comes in")]
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

    fn transport(&self, identity: &Keypair, _purpose: Purpose) -> io::Result<Transport> {
        kith_network::product_transport_with(identity, &self.certificate)
    }

    fn has_lan(&self) -> bool {
        false
    }
}
