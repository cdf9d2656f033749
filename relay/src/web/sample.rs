//! What is shown, taken at most once a second however many ask.

use std::sync::Arc;
use std::time::Duration;

use kith_network::{Environment, ProductEnvironment};
use kith_protocol::{Mono, Wall};
use tokio::sync::{Mutex, watch};

use super::histogram::HistogramView;
use super::process::Process;
use crate::config::RelayConfig;
use crate::folder::Folder;
use crate::observed::Latencies;
use crate::order::Status;
use crate::relay::Relay;

/// How long a sample is shown, in milliseconds.
const FRESH: u64 = 1_000;
/// How long the relay's task may take to say how it does.
const PATIENCE: Duration = Duration::from_secs(5);

/// Everything that is shown, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// When.
    pub at: Wall,
    /// How the relay does.
    pub status: Status,
    /// How its network does.
    pub network: kith_network::Status,
    /// What it allows, and who runs it.
    pub config: Arc<RelayConfig>,
    /// How long reads of the store took.
    pub reads: HistogramView,
    /// How long writes took.
    pub writes: HistogramView,
    /// What the system says.
    pub process: Process,
    /// When the last backup was made, if one was.
    pub last_backup: Option<Wall>,
}

/// A sample, or why there is none.
pub type Taken = Result<Arc<Sample>, Unwell>;

/// Takes samples of a running relay.
#[derive(Debug)]
pub struct Source {
    relay: Relay,
    environment: Arc<ProductEnvironment>,
    folder: Folder,
    latencies: Arc<Latencies>,
    config: watch::Receiver<Arc<RelayConfig>>,
    last: Mutex<Option<(Mono, Taken)>>,
}

/// The relay's task does not say how it does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unwell(String);

impl Source {
    /// Of this relay.
    #[must_use]
    pub fn new(
        relay: Relay,
        environment: Arc<ProductEnvironment>,
        folder: Folder,
        latencies: Arc<Latencies>,
        config: watch::Receiver<Arc<RelayConfig>>,
    ) -> Self {
        Self { relay, environment, folder, latencies, config, last: Mutex::new(None) }
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<RelayConfig> {
        self.config.borrow().clone()
    }

    /// A sample no older than a second.
    ///
    /// # Errors
    /// [`Unwell`] if the relay's task does not answer.
    pub async fn sample(&self) -> Taken {
        // whoever comes meanwhile waits for the same sample
        let mut last = self.last.lock().await;
        if let Some((at, sample)) = &*last
            && self.environment.mono().since(*at) < FRESH
        {
            return sample.clone();
        }
        let sample = self.take().await;
        *last = Some((self.environment.mono(), sample.clone()));
        sample
    }

    async fn take(&self) -> Taken {
        let mut status = match tokio::time::timeout(PATIENCE, self.relay.status()).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return Err(Unwell(error.to_string())),
            Err(_) => return Err(Unwell(format!("the relay's task has not answered for {PATIENCE:?}"))),
        };
        status.certificate_expires = self.environment.certificate().expires().map(|at| at.0);
        Ok(Arc::new(Sample {
            at: self.environment.wall(),
            status,
            network: self.relay.network().status(),
            config: self.config.borrow().clone(),
            reads: self.latencies.reads.view(),
            writes: self.latencies.writes.view(),
            process: Process::current(),
            last_backup: self.folder.last_backup(),
        }))
    }
}

/// A sample in which everything is set.
#[cfg(test)]
pub(crate) fn full_sample() -> Sample {
    use super::histogram::Histogram;
    let (reads, writes) = (Histogram::default(), Histogram::default());
    writes.observe(Duration::from_millis(3));
    let counters = crate::Snapshot {
        refused: [(1, 3), (31, 1)].into(),
        batch_millis: 1_500,
        ..crate::Snapshot::default()
    };
    let peer = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
    let mut config = RelayConfig::default();
    config.total.bytes = crate::config::Bytes(1 << 40);
    Sample {
        at: Wall(1_800_000_000_000),
        status: Status {
            peer_id: peer.into(),
            addresses: vec![format!("/ip4/203.0.113.7/tcp/4190/p2p/{peer}")],
            mode: "token".into(),
            load: "heavy".into(),
            store: "redb".into(),
            version: "0.1.0".into(),
            mailboxes: 12,
            envelopes: 3_456,
            bytes: 7_890_123,
            uptime_s: 93_784,
            free_bytes: Some(50 << 30),
            certificate_expires: Some(1_803_456_000_000),
            counters,
            ..Status::default()
        },
        config: Arc::new(config),
        reads: reads.view(),
        writes: writes.view(),
        process: Process {
            cpu_seconds: Some(1.25),
            resident_bytes: Some(1 << 25),
            open_files: Some(40),
            max_files: Some(65_536),
        },
        last_backup: Some(Wall(1_799_900_000_000)),
        ..Sample::default()
    }
}
