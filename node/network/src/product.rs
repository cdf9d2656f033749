//! The environment of the products: a tokio runtime, the system's clocks and random numbers, real sockets.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use kith_protocol::{Mono, Wall};
use libp2p::identity::Keypair;
use rand::SeedableRng as _;
use rand::rngs::{StdRng, SysRng};

use crate::environment::{Environment, Purpose, Transport};
use crate::tls::WssCertificate;
use crate::transport::product_transport;

/// The real world, as a node or a relay meets it.
#[derive(Debug)]
pub struct ProductEnvironment {
    runtime: tokio::runtime::Handle,
    started: Instant,
    seed: Mutex<StdRng>,
    certificate: WssCertificate,
    has_lan: bool,
}

impl ProductEnvironment {
    /// The environment on the runtime of the caller, with a local network around it.
    ///
    /// # Errors
    /// If there is no runtime here, or the system has no random numbers.
    pub fn current() -> io::Result<Self> {
        let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        Self::on(runtime)
    }

    /// The environment on a runtime, with a local network around it.
    ///
    /// # Errors
    /// If the system has no random numbers.
    #[allow(clippy::disallowed_methods, reason = "this is where the system's clock comes in")]
    pub fn on(runtime: tokio::runtime::Handle) -> io::Result<Self> {
        let seed = StdRng::try_from_rng(&mut SysRng).map_err(io::Error::other)?;
        Ok(Self {
            runtime,
            started: Instant::now(),
            seed: Mutex::new(seed),
            certificate: WssCertificate::default(),
            has_lan: true,
        })
    }

    /// The same for a host that is not announced in its local network: a relay.
    #[must_use]
    pub fn without_lan(self) -> Self {
        Self { has_lan: false, ..self }
    }

    /// The certificate of secure WebSocket addresses.
    #[must_use]
    pub const fn certificate(&self) -> &WssCertificate {
        &self.certificate
    }
}

impl Environment for ProductEnvironment {
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
        product_transport(identity, &self.certificate)
    }

    fn has_lan(&self) -> bool {
        self.has_lan
    }
}
