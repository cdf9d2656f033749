//! Orders to the network that may have to wait: carried out in order by a task of their own.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kith_network::{AddBootstrapError, Network, Stopped};
use kith_protocol::{Address, DeviceId, DirectoryKey};
use tokio::sync::mpsc;

use crate::host::Host;

/// Orders handed to the task at a time.
const ORDERS: usize = 256;
/// Orders that wait here, above which the Engine gets no input.
const WAITING: usize = 4 * 1024;

#[derive(Debug)]
pub(super) enum Order {
    Dial {
        peer: DeviceId,
        addresses: Vec<Address>,
    },
    Refuse(DeviceId),
    Admit(DeviceId),
    Prefer(DeviceId, bool),
    Disconnect(DeviceId),
    Provide {
        key: DirectoryKey,
        record: Bytes,
        ttl: u64,
    },
    Withdraw(DirectoryKey),
    Find(DirectoryKey),
    /// One of our own relays: it may be dialled whatever its scope, and knows the directory.
    Relay(String),
}

/// The near end of the task.
#[derive(Debug)]
pub(super) struct Orders {
    sender: mpsc::Sender<Order>,
    waiting: VecDeque<Order>,
    announced: BTreeMap<DeviceId, Address>,
}

impl Orders {
    pub(super) fn start(host: &dyn Host, network: Network) -> Self {
        let (sender, receiver) = mpsc::channel(ORDERS);
        host.spawn("kith-orders", Box::pin(carry_out(network, receiver)));
        Self { sender, waiting: VecDeque::new(), announced: BTreeMap::new() }
    }

    /// Never waits.
    pub(super) fn push(&mut self, order: Order) {
        self.waiting.push_back(order);
        self.flush();
    }

    /// One of our own relays, named once for each address.
    pub(super) fn announce(&mut self, relay: &DeviceId, address: &Address) {
        if self.announced.get(relay) == Some(address) {
            return;
        }
        self.announced.insert(*relay, address.clone());
        self.push(Order::Prefer(*relay, true));
        if let Some(peer) = relay.peer_id() {
            self.push(Order::Relay(format!("{}/p2p/{peer}", kith_network::address::to_text(address))));
        }
    }

    /// Hands over what there is room for.
    pub(super) fn flush(&mut self) {
        while let Some(order) = self.waiting.pop_front() {
            match self.sender.try_send(order) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(order)) => {
                    self.waiting.push_front(order);
                    return;
                }
                // the network has stopped, and with it the wish
                Err(mpsc::error::TrySendError::Closed(_)) => self.waiting.clear(),
            }
        }
    }

    /// Waits until there is room again; never ends while nothing waits.
    pub(super) async fn room(&self) {
        if self.waiting.is_empty() {
            return std::future::pending().await;
        }
        // an error means that the network has stopped: then there is room for anything
        let _ = self.sender.reserve().await;
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING
    }
}

async fn carry_out(network: Network, mut orders: mpsc::Receiver<Order>) {
    while let Some(order) = orders.recv().await {
        let done = match order {
            Order::Dial { peer, addresses } => network.dial(peer, addresses).await,
            Order::Refuse(peer) => network.refuse(peer).await,
            Order::Admit(peer) => network.admit(peer).await,
            Order::Prefer(peer, preferred) => network.prefer(peer, preferred).await,
            Order::Disconnect(peer) => network.disconnect(peer).await,
            Order::Provide { key, record, ttl } => network.provide(key, record, ttl).await,
            Order::Withdraw(key) => network.withdraw(key).await,
            Order::Find(key) => network.find(key).await,
            Order::Relay(address) => match network.add_bootstrap(&address).await {
                Ok(()) => Ok(()),
                Err(AddBootstrapError::Stopped(error)) => Err(error),
                Err(error) => {
                    tracing::warn!(%error, "a relay's address cannot be used");
                    Ok(())
                }
            },
        };
        match done {
            Ok(()) => {}
            Err(Stopped::ShutDown) => return,
            Err(error) => tracing::warn!(%error, "the network does not take orders"),
        }
    }
}
