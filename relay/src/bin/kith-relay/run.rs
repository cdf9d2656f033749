//! `kith-relay run`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use kith_network::{Environment as _, ProductEnvironment};
use kith_relay::admin::{self, Control};
use kith_relay::certificate;
use kith_relay::config::RelayConfig;
use kith_relay::folder::Folder;
use kith_relay::observed::ObservedStore;
use kith_relay::web::{Shows, Source, Web};
use kith_relay::{Relay, StartError, Status};
use kith_store::mailbox::MailboxStore;
use serde_json::json;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::cli::RunArgs;
use crate::out::Out;
use crate::store::{lock, open_store};

/// How long the network may take to listen.
const LISTENING: Duration = Duration::from_secs(10);
/// How long an end in order may take.
const ENDING: Duration = Duration::from_secs(4);
/// How often the certificate is looked at, in milliseconds.
const CERTIFICATE: u64 = 24 * 60 * 60 * 1_000;

pub(crate) async fn perform(folder: &Folder, out: &Out, args: &RunArgs) -> anyhow::Result<()> {
    let key = folder.read_key()?;
    let config = RelayConfig::read(&folder.config())?;
    start_log(&config.log, &config.log_format, args.verbose);
    raise_open_files();
    let _lock = lock(folder)?;
    let host = Arc::new(ProductEnvironment::current()?.without_lan());
    config.load_certificate(host.certificate())?;
    let store = Arc::new(ObservedStore::new(open_store(folder, &config, &host, &key).await?));
    let settings = config.settings(key, folder.is_draining());
    let relay = Relay::start(host.clone(), settings, Arc::clone(&store) as Arc<dyn MailboxStore>)
        .await
        .map_err(not_started)?;
    let control =
        Control::new(relay.clone(), folder.clone(), Arc::clone(&store), host.clone(), config.clone());
    let server = admin::serve(control.clone(), folder.clone(), host.clone()).await?;
    let status = listening(&relay).await?;
    let source =
        Source::new(relay.clone(), host.clone(), folder.clone(), store.latencies(), control.config());
    let web = match open_web(&config, &host, &Arc::new(source)).await {
        Ok(web) => web,
        Err(error) => {
            server.stop();
            // what it did until now was synced; an end in order only spares the next start some work
            let _ = tokio::time::timeout(ENDING, relay.shutdown()).await;
            return Err(error);
        }
    };
    let mut signals = Signals::new()?;
    tell(out, &status, &web)?;
    notify("READY=1");
    let mut certificate_due = host.sleep(0);
    loop {
        tokio::select! {
            () = &mut certificate_due => {
                warn_of_certificate(&host);
                certificate_due = host.sleep(CERTIFICATE);
            }
            () = control.stopped() => break,
            signal = signals.next() => match signal {
                Signal::End => break,
                Signal::Reload => match control.reload().await {
                    Ok(waiting) => {
                        info!("the configuration was read again");
                        if !waiting.is_empty() {
                            warn!("in force only after a restart: {}", waiting.join(", "));
                        }
                        warn_of_certificate(&host);
                    }
                    Err(error) => warn!("the configuration was not taken, the one before is in force: {error}"),
                },
            },
        }
    }
    info!("ending");
    notify("STOPPING=1");
    web.stop();
    server.stop();
    if tokio::time::timeout(ENDING, relay.shutdown()).await.is_err() {
        warn!("the end took too long; what was acknowledged is safe");
    }
    if out.json {
        out.json(&json!({ "event": "stopped" }))?;
    }
    Ok(())
}

/// Where the network's own words are meant for a command line without a configuration.
fn not_started(error: StartError) -> anyhow::Error {
    match error {
        StartError::Network(kith_network::StartError::Listen { address, reason }) => anyhow!(
            "cannot listen on {address}: {reason}; end the program that has it (`ss -lpn` names it), or choose another \
             address or port in `listen` in relay.toml"
        ),
        other => other.into(),
    }
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

fn warn_of_certificate(host: &ProductEnvironment) {
    if let Some(warning) =
        host.certificate().expires().and_then(|expires| certificate::warning(expires, host.wall()))
    {
        warn!("{warning}; {}", certificate::ADVICE);
    }
}

/// Opens what is to be shown. What the operator chose must be there; the address that is the default may be taken by another
/// relay on this machine, and is no reason to keep no messages.
async fn open_web(
    config: &RelayConfig,
    host: &Arc<ProductEnvironment>,
    source: &Arc<Source>,
) -> anyhow::Result<Web> {
    let mut web = Web::default();
    for (address, shows, key) in
        [(&config.web.listen, Shows::All, "web.listen"), (&config.web.page, Shows::Page, "web.page")]
    {
        if address.is_empty() {
            continue;
        }
        let Err(error) = web.open(host, address, shows, source).await else { continue };
        if shows == Shows::Page || config.web.listen_chosen {
            return Err(error).with_context(|| {
                format!("{key}: {address} cannot be listened on; end the program that has it (`ss -lptn` names it), or set another address in relay.toml")
            });
        }
        warn!(
            "metrics, health and status page are off: {address}: {error}; if another relay runs on this machine, \
             set web.listen in relay.toml to a port of its own, or to \"\" to do without"
        );
    }
    Ok(web)
}

/// Connections are files, and the soft limit is meant for programs that use `select`.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            warn!("the limit of open files stays as it is: {error}");
        }
    }
}

/// Tells the service manager, if there is one that wants to know.
fn notify(state: &str) {
    #[cfg(unix)]
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) {
        let sent = std::os::unix::net::UnixDatagram::unbound()
            .and_then(|socket| socket.send_to(state.as_bytes(), std::path::Path::new(&path)));
        if let Err(error) = sent {
            warn!("the service manager was not told: {error}");
        }
    }
}

fn tell(out: &Out, status: &Status, web: &Web) -> anyhow::Result<()> {
    let shown = |shows| web.address(shows).map(|address| format!("http://{address}"));
    let (all, page) = (shown(Shows::All), shown(Shows::Page));
    if out.json {
        let addresses = &status.addresses;
        out.json(&json!({
            "event": "listening", "peer_id": status.peer_id, "addresses": addresses, "web": all, "page": page,
        }))?;
        return Ok(());
    }
    out.line(&format!("The relay {} is on-line ({}).", status.peer_id, status.mode))?;
    for address in &status.addresses {
        out.line(&format!("  {address}"))?;
    }
    for (what, address) in [("Status page, metrics", all), ("Status page", page)] {
        if let Some(address) = address {
            out.line(&format!("{what}: {address}"))?;
        }
    }
    Ok(())
}

fn start_log(level: &str, format: &str, verbose: u8) {
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
    let _ = if format == "json" { log.json().flatten_event(true).try_init() } else { log.try_init() };
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
