//! `kith-relay run`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kith_relay::admin::{self, Client, Control};
use kith_relay::config::RelayConfig;
use kith_relay::folder::Folder;
use kith_relay::host::Host;
use kith_relay::{Relay, Status};
use kith_store::mailbox::{KvConfig, KvStore, MailboxStore};
use kith_store::{DataLock, LockError};
use serde_json::json;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::cli::RunArgs;
use crate::out::Out;

/// How long the network may take to listen.
const LISTENING: Duration = Duration::from_secs(10);
/// How long an end in order may take.
const ENDING: Duration = Duration::from_secs(4);

pub(crate) async fn perform(folder: &Folder, out: &Out, args: &RunArgs) -> anyhow::Result<()> {
    let key = folder.read_key()?;
    let config = RelayConfig::read(&folder.config())?;
    start_log(&config.log, args.verbose);
    let _lock = lock(folder)?;
    let host = Arc::new(Host::current()?);
    config.load_certificate(host.certificate())?;
    let store = open_store(folder, &config).await?;
    let settings = config.settings(key, folder.is_draining());
    let relay = Relay::start(host.clone(), settings, Arc::clone(&store)).await?;
    let control = Control::new(relay.clone(), folder.clone(), store, host.clone());
    let server = admin::serve(control.clone(), folder.clone(), host)
        .await
        .context("the admin channel cannot be opened on a loopback address")?;
    let status = listening(&relay).await?;
    tell(out, &status)?;
    let mut signals = Signals::new()?;
    loop {
        tokio::select! {
            () = control.stopped() => break,
            signal = signals.next() => match signal {
                Signal::End => break,
                Signal::Reload => match control.reload().await {
                    Ok(()) => info!("the configuration was read again"),
                    Err(error) => warn!("the configuration was not taken: {error}"),
                },
            },
        }
    }
    info!("ending");
    server.stop();
    if tokio::time::timeout(ENDING, relay.shutdown()).await.is_err() {
        warn!("the end took too long; what was acknowledged is safe");
    }
    if out.json {
        out.json(&json!({ "event": "stopped" }))?;
    }
    Ok(())
}

fn lock(folder: &Folder) -> anyhow::Result<DataLock> {
    match DataLock::acquire(folder.path()) {
        Err(error @ LockError::Held { .. }) => match Client::new(folder) {
            Ok(client) => bail!(
                "a relay is running on {} already (process {}); `kith-relay stop` ends it",
                folder.path().display(),
                client.pid()
            ),
            Err(_) => Err(error.into()),
        },
        other => Ok(other?),
    }
}

async fn open_store(folder: &Folder, config: &RelayConfig) -> anyhow::Result<Arc<dyn MailboxStore>> {
    let engine = config.store.kind.engine();
    let config = KvConfig {
        engine,
        folder: folder.store(),
        cache_bytes: config.store.cache.0,
        min_free: config.total.reserve.0 / 8,
    };
    let (sender, receiver) = tokio::sync::oneshot::channel();
    // an engine may repair itself for a while, and must not hold up the runtime
    std::thread::Builder::new().name("open-store".into()).spawn(move || {
        // nobody waits any more: fine
        let _ = sender.send(KvStore::open(config));
    })?;
    let store = receiver.await.context("the store stopped while it was opened")?;
    Ok(Arc::new(store.with_context(|| format!("the store in {}", folder.store().display()))?))
}

/// Waits until it listens.
async fn listening(relay: &Relay) -> anyhow::Result<Status> {
    let mut watch = relay.network().watch();
    let wait = async {
        while watch.borrow_and_update().listening.is_empty() {
            if watch.changed().await.is_err() {
                return;
            }
        }
    };
    let waited = tokio::time::timeout(LISTENING, wait).await;
    let status = relay.status().await?;
    if waited.is_err() || status.addresses.is_empty() {
        bail!("the relay does not listen anywhere; look at `listen` in relay.toml");
    }
    Ok(status)
}

fn tell(out: &Out, status: &Status) -> anyhow::Result<()> {
    if out.json {
        let addresses = &status.addresses;
        out.json(&json!({ "event": "listening", "peer_id": status.peer_id, "addresses": addresses }))?;
        return Ok(());
    }
    out.line(&format!("The relay {} is on-line ({}).", status.peer_id, status.mode))?;
    for address in &status.addresses {
        out.line(&format!("  {address}"))?;
    }
    Ok(())
}

fn start_log(level: &str, verbose: u8) {
    let ours = match (verbose, level) {
        (0, level) => level,
        (1, _) => "debug",
        _ => "trace",
    };
    // libraries warn of what is ordinary on the open network, and name addresses
    let filter = format!(
        "error,kith_relay={ours},kith_network={},kith_store={ours},kith_protocol={ours}",
        if verbose > 0 { ours } else { "warn" }
    );
    let filter = match std::env::var("RUST_LOG") {
        Ok(wanted) if !wanted.is_empty() => EnvFilter::new(wanted),
        _ => EnvFilter::new(filter),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // only a second subscriber can fail here, and there is one
    let _ = log.try_init();
}

enum Signal {
    End,
    Reload,
}

#[cfg(unix)]
struct Signals {
    end: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    reload: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            end: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.end.recv() => Signal::End,
            _ = self.interrupt.recv() => Signal::End,
            _ = self.reload.recv() => Signal::Reload,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    #[allow(clippy::unnecessary_wraps, reason = "as on Unix")]
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Signal {
        // an error means that there are no signals here
        let _ = tokio::signal::ctrl_c().await;
        Signal::End
    }
}
