//! All of libp2p's behaviours in one, in the order in which they are asked.

use std::sync::Arc;
use std::time::Duration;

use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    StreamProtocol, autonat, connection_limits, gossipsub, identify, kad, mdns, memory_connection_limits,
    ping, relay, upnp,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use thiserror::Error;
use tracing::warn;

use crate::config::{Circuits, Config, Role};
use crate::directory::Store;
use crate::environment::Environment;
use crate::gate::Policy;
use crate::gatekeeper::Gatekeeper;
use crate::link;

mod candidates;
mod compact;
mod quiet;

use candidates::Candidates;
pub(crate) use compact::Compact;
use quiet::Quiet;

/// The directory's protocol.
pub(crate) const KAD: StreamProtocol = StreamProtocol::new("/kith/kad/1");
/// What identify calls this network.
const NETWORK: &str = "/kith/1";
/// Topics of this network, the only ones whose subscriptions are remembered.
const TOPIC_PREFIX: &str = "kith/";
/// Topics remembered of one peer.
const MAX_TOPICS: usize = 256;
/// Bytes of a gossip message's id, a hash of its topic and content.
const MESSAGE_ID: usize = 20;
/// Dials under way.
const MAX_PENDING_DIALS: u32 = 128;
/// How long one directory query may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(20);
/// How often the routing table is refreshed.
const BOOTSTRAP_INTERVAL: Duration = Duration::from_secs(30 * 60);

type Topics = gossipsub::MaxCountSubscriptionFilter<
    gossipsub::CallbackSubscriptionFilter<fn(&gossipsub::TopicHash) -> bool>,
>;

/// Field order is the order of asking: who may connect comes first.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) gatekeeper: Gatekeeper,
    pub(crate) limits: connection_limits::Behaviour,
    memory: Toggle<memory_connection_limits::Behaviour>,
    pub(crate) link: link::Behaviour,
    ping: ping::Behaviour,
    identify: identify::Behaviour,
    pub(crate) kad: kad::Behaviour<Store>,
    // a connection has room for the handlers of parts that are switched off, too: on the heap that is a pointer
    pub(crate) gossip: Toggle<Compact<Quiet<gossipsub::Behaviour<gossipsub::IdentityTransform, Topics>>>>,
    autonat_client: Toggle<Compact<Candidates>>,
    pub(crate) autonat_server: Toggle<autonat::v2::server::Behaviour<StdRng>>,
    relay: Toggle<relay::Behaviour>,
    mdns: Toggle<mdns::tokio::Behaviour>,
    upnp: Toggle<upnp::tokio::Behaviour>,
}

/// A part that does not accept its settings.
#[derive(Debug, Error)]
#[error("internal error: gossipsub does not accept its settings: {0}")]
pub(crate) struct BuildError(String);

impl Behaviour {
    pub(crate) fn new(
        environment: &Arc<dyn Environment>,
        config: &Config,
        policy: &Arc<Policy>,
        link: link::Behaviour,
    ) -> Result<Self, BuildError> {
        let public = config.keypair.public();
        let local = public.to_peer_id();
        let limits = &config.limits;
        let max = u32::try_from(limits.connections.saturating_mul(2)).unwrap_or(u32::MAX);
        let person = config.role == Role::Person;
        let gossip = person.then(gossip).transpose().map_err(BuildError)?;
        let relay = match config.role {
            Role::Relay(circuits) if circuits.reservations > 0 => Some(self::circuits(local, circuits)),
            _ => None,
        };
        let mdns = (person && config.mdns && environment.has_lan())
            .then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), local))
            .transpose()
            .unwrap_or_else(|error| {
                warn!("no discovery on the local network: {error}");
                None
            });
        Ok(Self {
            gatekeeper: Gatekeeper::new(Arc::clone(environment), Arc::clone(policy), limits.clone()),
            limits: connection_limits::Behaviour::new(
                connection_limits::ConnectionLimits::default()
                    .with_max_pending_outgoing(Some(MAX_PENDING_DIALS))
                    .with_max_established(Some(max)),
            ),
            memory: limits.memory.map(memory_connection_limits::Behaviour::with_max_bytes).into(),
            link,
            ping: ping::Behaviour::new(
                ping::Config::new()
                    .with_interval(Duration::from_millis(limits.ping_interval))
                    .with_timeout(Duration::from_millis(limits.ping_timeout)),
            ),
            identify: identify::Behaviour::new(
                identify::Config::new(NETWORK.into(), public)
                    .with_agent_version(concat!("kith/", env!("CARGO_PKG_VERSION")).into())
                    .with_hide_listen_addrs(true)
                    .with_cache_size(0),
            ),
            kad: kad(environment, config, local),
            gossip: gossip.map(|gossip| Compact(Quiet(gossip))).into(),
            autonat_client: person.then(|| Compact(Candidates::new(seeded(environment)))).into(),
            autonat_server: None.into(),
            relay: relay.into(),
            mdns: mdns.into(),
            upnp: (person && config.upnp && environment.has_lan())
                .then(upnp::tokio::Behaviour::default)
                .into(),
        })
    }

    /// Answers other nodes' questions whether they can be reached.
    pub(crate) fn serve_autonat(&mut self, environment: &Arc<dyn Environment>) {
        if !self.autonat_server.is_enabled() {
            self.autonat_server = Some(autonat::v2::server::Behaviour::new(seeded(environment))).into();
        }
    }
}

/// The library's own limits of how often one peer and one address may ask stand.
fn circuits(local: libp2p::PeerId, circuits: Circuits) -> relay::Behaviour {
    let settings = relay::Config {
        max_reservations: circuits.reservations,
        max_circuits: circuits.circuits,
        max_circuits_per_peer: circuits.per_peer,
        max_circuit_duration: Duration::from_secs(circuits.seconds),
        max_circuit_bytes: circuits.bytes,
        ..relay::Config::default()
    };
    let mut behaviour = relay::Behaviour::new(local, settings);
    // where it listens is on purpose, so nobody has to confirm it first
    behaviour.set_status(Some(relay::Status::Enable));
    behaviour
}

fn seeded(environment: &Arc<dyn Environment>) -> StdRng {
    let mut seed = [0; 32];
    environment.rng().fill_bytes(&mut seed);
    StdRng::from_seed(seed)
}

fn kad(environment: &Arc<dyn Environment>, config: &Config, local: libp2p::PeerId) -> kad::Behaviour<Store> {
    let mut settings = kad::Config::new(KAD);
    settings
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_caching(kad::Caching::Disabled)
        // Whoever provides a record publishes it again; what others stored here is not passed on.
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_record_ttl(Some(Duration::from_millis(kith_protocol::limits::DIRECTORY_TTL)))
        .set_query_timeout(QUERY_TIMEOUT)
        .set_periodic_bootstrap_interval(Some(BOOTSTRAP_INTERVAL))
        .disjoint_query_paths(true);
    let mut kad = kad::Behaviour::with_config(
        local,
        Store::new(Arc::clone(environment), local, &config.limits),
        settings,
    );
    // The library would take any confirmed address, private ones too, as a reason to serve.
    kad.set_mode(Some(kad::Mode::Client));
    kad
}

/// No topic is joined yet; the protocol is there so that other nodes can mesh with this one once it does.
fn gossip() -> Result<gossipsub::Behaviour<gossipsub::IdentityTransform, Topics>, String> {
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message| {
            let topic = message.topic.as_str().as_bytes();
            let mut hasher = blake3::Hasher::new();
            hasher.update(&(topic.len() as u64).to_be_bytes()).update(topic).update(&message.data);
            let mut id = vec![0; MESSAGE_ID];
            hasher.finalize_xof().fill(&mut id);
            gossipsub::MessageId::from(id)
        })
        .connection_handler_queue_len(256)
        .publish_queue_duration(Duration::from_secs(5))
        .forward_queue_duration(Duration::from_secs(1))
        .build()
        .map_err(|error| error.to_string())?;
    let ours: fn(&gossipsub::TopicHash) -> bool = |topic| topic.as_str().starts_with(TOPIC_PREFIX);
    let topics = gossipsub::MaxCountSubscriptionFilter {
        filter: gossipsub::CallbackSubscriptionFilter(ours),
        max_subscribed_topics: MAX_TOPICS,
        max_subscriptions_per_request: MAX_TOPICS,
    };
    let anonymous = gossipsub::MessageAuthenticity::Anonymous;
    gossipsub::Behaviour::new_with_subscription_filter(anonymous, config, topics).map_err(String::from)
}
