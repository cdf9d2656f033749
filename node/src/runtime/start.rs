//! Brings a node to life: Engine, network, and the task that joins them.

use std::sync::Arc;

use kith_network::Network;
use kith_protocol::Engine;
use kith_protocol::record::{KeyRange, Outbox, ReadError, Reader, Relay};
use kith_store::{Store, StoreConfig};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use super::driver::Ports;
use super::links::Links;
use super::live::{CALLS, Calls, LIVE, LiveSender};
use super::orders::{Order, Orders};
use super::presence::Presence;
use super::shelf::Shelf;
use super::supervisor::Supervisor;
use crate::host::{Host, now};
use crate::node::StartError;

/// Answers of others' relays not taken yet.
const ANSWERS: usize = 256;

/// The near ends of a running node.
pub(crate) struct Started {
    pub(crate) calls: Calls,
    pub(crate) live: LiveSender,
    pub(crate) network: Network,
    pub(crate) presence: Arc<Presence>,
    pub(crate) shelf: Arc<Shelf>,
    /// Cancel it to stop the node.
    pub(crate) stop: CancellationToken,
    /// Cancelled once the node has stopped and its store is closed.
    pub(crate) ended: CancellationToken,
}

pub(crate) fn start(
    host: Arc<dyn Host>,
    store: Store,
    store_config: StoreConfig,
    network_config: kith_network::Config,
) -> Result<Started, StartError> {
    let reader = store.reader();
    let engine = Engine::open(Box::new(reader.clone()), host.rng(), now(host.as_ref()))?;
    let (network, events) = kith_network::start(host.clone(), network_config)?;
    let mut orders = Orders::start(host.as_ref(), network.clone());
    prefer_known_devices(&reader, &mut orders)?;
    announce_own_relays(&reader, &mut orders)?;
    let (answers_sender, answers) = mpsc::channel(ANSWERS);
    let deposits = network.deposits(answers_sender);
    let (calls, calls_receiver) = mpsc::channel(CALLS);
    let (live, _) = broadcast::channel(LIVE);
    let presence = Arc::new(Presence::default());
    let shelf = Arc::new(Shelf::new(reader));
    let stop = CancellationToken::new();
    let ended = CancellationToken::new();
    let supervisor = Supervisor {
        ports: Ports {
            host: host.clone(),
            network: network.clone(),
            events,
            calls: calls_receiver,
            live: live.clone(),
            presence: presence.clone(),
            orders,
            links: Links::default(),
            deposits,
            answers,
            stop: stop.clone(),
        },
        store: store_config,
        shelf: shelf.clone(),
    };
    let end = ended.clone().drop_guard();
    host.spawn(
        "kith-engine",
        Box::pin(async move {
            supervisor.run(engine, store).await;
            drop(end);
        }),
    );
    Ok(Started { calls, live, network, presence, shelf, stop, ended })
}

/// Our relays are dialled at once.
fn announce_own_relays(reader: &dyn Reader, orders: &mut Orders) -> Result<(), ReadError> {
    for row in reader.range(&KeyRange::Relays, None, usize::MAX)? {
        if let Some(relay) = <Relay as kith_protocol::record::Record>::from_row(row) {
            orders.announce(&relay.relay, &relay.address);
        }
    }
    Ok(())
}

/// Devices we have something to do with pass the limits that hold for strangers.
fn prefer_known_devices(reader: &dyn Reader, orders: &mut Orders) -> Result<(), ReadError> {
    for row in reader.range(&KeyRange::Outboxes, None, usize::MAX)? {
        if let Some(outbox) = <Outbox as kith_protocol::record::Record>::from_row(row) {
            orders.push(Order::Prefer(outbox.device, true));
        }
    }
    Ok(())
}
