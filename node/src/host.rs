//! What differs between the product and the simulator: tasks, time, randomness, transports, the store.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kith_network::Environment;
use kith_protocol::engine::{Input, Output};
use kith_protocol::{Now, Wall};
use kith_store::{OpenError, OpenReport, Store, StoreConfig};

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

/// The host of the product.
pub use kith_network::ProductEnvironment as ProductHost;

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
