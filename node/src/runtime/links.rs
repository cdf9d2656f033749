//! What the network said that a new Engine must hear again.

use std::collections::BTreeMap;

use kith_network::Event;
use kith_protocol::engine::LinkId;
use kith_protocol::{Address, DeviceId};

/// Links and standing facts of the network.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Links that came up in the life of the present Engine.
    current: BTreeMap<LinkId, DeviceId>,
    addresses: Option<Vec<Address>>,
    directory_ready: bool,
}

impl Links {
    pub(super) fn note(&mut self, event: &Event) {
        match event {
            Event::Connected { peer, link, .. } => {
                self.current.insert(*link, *peer);
            }
            Event::Disconnected { link, .. } => {
                self.current.remove(link);
            }
            Event::Addresses(addresses) => self.addresses = Some(addresses.clone()),
            Event::DirectoryReady => self.directory_ready = true,
            _ => {}
        }
    }

    pub(super) fn is_current(&self, link: LinkId) -> bool {
        self.current.contains_key(&link)
    }

    /// The Engine is gone: its links mean nothing to the next one. Names the devices to disconnect.
    pub(super) fn forget(&mut self) -> Vec<DeviceId> {
        std::mem::take(&mut self.current).into_values().collect()
    }

    /// What a new Engine is told first.
    pub(super) fn replay(&self) -> Vec<Event> {
        let addresses = self.addresses.clone().map(Event::Addresses);
        let ready = self.directory_ready.then_some(Event::DirectoryReady);
        addresses.into_iter().chain(ready).collect()
    }
}
