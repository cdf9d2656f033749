//! Puts the parts together and starts the task.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kith_protocol::DeviceId;
use libp2p::core::Transport as _;
use libp2p::swarm;
use libp2p::{Multiaddr, Swarm, TransportError};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};

use crate::address;
use crate::behaviour::{Behaviour, BuildError, Compact};
use crate::config::{Config, Role};
use crate::environment::{Environment, Purpose};
use crate::event::{Event, Status};
use crate::gate::{Gate, Policy};
use crate::handle::Network;
use crate::link::{self, Links};
use crate::task::{Listener, Task};

/// Commands not taken yet.
const COMMANDS: usize = 256;

/// Why the network did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// A listen address chosen by the operator is not free or not ours.
    #[error("cannot listen on {address}: {reason}; choose another address or port with --listen")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// No transport.
    #[error("no network transport: {0}")]
    Transport(#[from] io::Error),
    /// A fault of this program.
    #[error("{0}")]
    Internal(String),
}

impl From<BuildError> for StartError {
    fn from(error: BuildError) -> Self {
        Self::Internal(error.to_string())
    }
}

/// Starts the network. In the product it must be called on a tokio runtime with IO and time.
///
/// The network runs until [`Network::shutdown`], until every [`Network`] is dropped, or until the receiver is.
///
/// # Errors
/// [`StartError`] if an explicit listen address cannot be used, or none at all.
pub fn start(
    environment: Arc<dyn Environment>,
    config: Config,
) -> Result<(Network, mpsc::Receiver<Event>), StartError> {
    let peer_id = config.keypair.public().to_peer_id();
    let device = DeviceId::from_public_key(&config.keypair.public())
        .ok_or_else(|| StartError::Internal("the device key is no Ed25519 key".into()))?;
    let policy = Policy::new(&config.limits);
    let (events, receiver) = mpsc::channel(config.limits.events.max(1));
    let (commands, command_receiver) = mpsc::channel(COMMANDS);
    let (status_sender, status) =
        watch::channel(Status { peer_id: peer_id.to_string(), ..Status::default() });
    let links = Links::new(&config.limits);
    let link = link::Behaviour::new(
        Arc::clone(&environment),
        device,
        links.clone(),
        events.clone(),
        config.limits.stall_timeout,
    );
    let behaviour = Compact(Behaviour::new(&environment, &config, &policy, link)?);
    let inner = environment.transport(&config.keypair, Purpose::Main)?;
    let transport = Gate::new(inner, Arc::clone(&policy), Arc::clone(&environment)).boxed();
    let executor = {
        let environment = Arc::clone(&environment);
        move |task| environment.spawn("connection", task)
    };
    let settings = swarm::Config::with_executor(executor)
        .with_idle_connection_timeout(Duration::from_millis(config.limits.idle_timeout))
        .with_max_negotiating_inbound_streams(32);
    // with thousands of connections these queues would be most of what each of them takes
    let settings = match config.role {
        Role::Person => settings,
        Role::Relay(_) => settings
            .with_per_connection_event_buffer_size(2)
            .with_notify_handler_buffer_size(std::num::NonZeroUsize::MIN),
    };
    let mut swarm = Swarm::new(transport, behaviour, peer_id, settings);
    let listeners = listen(&mut swarm, &config)?;

    let task = Task::new(
        Arc::clone(&environment),
        swarm,
        config,
        Arc::clone(&policy),
        listeners,
        command_receiver,
        events,
        status_sender,
        links.clone(),
    );
    environment.spawn("network", Box::pin(task.run()));
    Ok((Network { commands, links, status, environment, policy }, receiver))
}

/// Listens everywhere it was told to. A remembered port that is taken is replaced, an explicit one is an error, and an
/// address family that does not exist here is no reason to stay silent on the other.
fn listen(swarm: &mut Swarm<Compact<Behaviour>>, config: &Config) -> Result<Vec<Listener>, StartError> {
    let mut listeners = Vec::new();
    let mut last = None;
    for configured in &config.listen {
        let mut result = swarm.listen_on(configured.clone());
        if result.is_err() && !config.listen_explicit {
            let other = address::with_any_port(configured);
            if other != *configured {
                warn!(address = %configured, "this port is taken; taking another");
                result = swarm.listen_on(other);
            }
        }
        match result {
            Ok(id) => listeners.push(Listener { id, configured: configured.clone(), bound: None }),
            Err(error) => {
                let error = listen_error(configured, &error);
                if config.listen_explicit {
                    return Err(error);
                }
                debug!("{error}");
                last = Some(error);
            }
        }
    }
    match last {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

fn listen_error(address: &Multiaddr, error: &TransportError<io::Error>) -> StartError {
    let reason = match error {
        TransportError::MultiaddrNotSupported(_) => "no transport understands it".to_string(),
        TransportError::Other(error) => innermost(error),
    };
    StartError::Listen { address: address.to_string(), reason }
}

/// The libraries wrap what the system said several times without adding anything.
fn innermost(error: &io::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static));
    while let Some(error) = source {
        text = error.to_string();
        source = error.source();
    }
    text
}
