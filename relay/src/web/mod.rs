//! What a relay shows over HTTP: figures for Prometheus, health for supervisors, and a status page for people.
//!
//! One listener, on a loopback address unless the operator wants it otherwise, shows everything; a second one, if wanted,
//! shows the page alone to everybody. All of it comes from one [`Sample`](sample::Sample), taken at most once a second.

mod health;
pub mod histogram;
pub mod metrics;
pub mod page;
mod process;
pub mod sample;
mod server;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use kith_network::ProductEnvironment;
use tokio::net::TcpListener;
use tokio::sync::Notify;

pub(crate) use process::max_open_files;
pub use sample::Source;
pub use server::Shows;

/// The listeners that are open. Dropping it does not close them; [`Web::stop`] does.
#[derive(Debug, Default)]
pub struct Web {
    open: Vec<(Shows, SocketAddr, Arc<Notify>)>,
}

impl Web {
    /// Opens a listener, for example on `127.0.0.1:4192`.
    ///
    /// # Errors
    /// What the system said, or that this is no address.
    pub async fn open(
        &mut self,
        environment: &Arc<ProductEnvironment>,
        address: &str,
        shows: Shows,
        source: &Arc<Source>,
    ) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(address).await?;
        let stop = Arc::new(Notify::new());
        let bound = server::serve(environment, listener, shows, Arc::clone(source), Arc::clone(&stop))?;
        self.open.push((shows, bound, stop));
        Ok(bound)
    }

    /// Where this is shown.
    #[must_use]
    pub fn address(&self, shows: Shows) -> Option<SocketAddr> {
        self.open.iter().find(|(what, ..)| *what == shows).map(|(_, address, _)| *address)
    }

    /// Takes no more connections.
    pub fn stop(&self) {
        for (.., stop) in &self.open {
            stop.notify_one();
        }
    }
}
