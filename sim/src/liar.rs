//! Hosts that answer every question of the directory with a forged record, and keep nothing they are given.

use std::borrow::Cow;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kith_protocol::limits;
use libp2p::kad::store::{RecordStore, Result};
use libp2p::kad::{self, ProviderRecord, Record, RecordKey};
use libp2p::swarm::{self, NetworkBehaviour};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, identify};

use crate::bare::keypair;
use crate::host::Life;
use crate::net::{Net, transport};

#[derive(NetworkBehaviour)]
struct Behaviour {
    kad: kad::Behaviour<Lies>,
    identify: identify::Behaviour,
}

/// A store that has a record for every key.
struct Lies {
    seed: u64,
    /// What the last truthful record looked like: lies are made in its image.
    model: Vec<u8>,
}

impl RecordStore for Lies {
    type RecordsIter<'a> = iter::Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> = iter::Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        // noise, a record of somebody else, or a true record with one bit changed, as large as is allowed or larger
        let kind =
            key.as_ref().iter().fold(self.seed, |hash, byte| crate::entropy::mix(hash ^ u64::from(*byte)));
        let mut value = self.model.clone();
        match kind % 4 {
            0 => value = kind.to_be_bytes().iter().copied().cycle().take(limits::DIRECTORY_RECORD).collect(),
            1 => value = vec![0; limits::DIRECTORY_RECORD + 1],
            2 => {
                let len = value.len().max(1);
                if let Some(byte) = value.get_mut(kind as usize / 4 % len) {
                    *byte ^= 1;
                }
            }
            _ => {}
        }
        Some(Cow::Owned(Record::new(key.clone(), value)))
    }

    fn put(&mut self, record: Record) -> Result<()> {
        self.model = record.value;
        Ok(())
    }

    fn remove(&mut self, _: &RecordKey) {}

    fn records(&self) -> Self::RecordsIter<'_> {
        iter::empty()
    }

    fn add_provider(&mut self, _: ProviderRecord) -> Result<()> {
        Ok(())
    }

    fn providers(&self, _: &RecordKey) -> Vec<ProviderRecord> {
        Vec::new()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        iter::empty()
    }

    fn remove_provider(&mut self, _: &RecordKey, _: &PeerId) {}
}

/// Starts a liar in a life; its libp2p name.
pub(crate) fn start(life: &Arc<Life>, net: &Arc<Net>, seed: u64, bootstrap: Vec<String>) -> String {
    let key = keypair(seed, life.host);
    let peer = key.public().to_peer_id();
    let (host, net) = (life.host, Arc::clone(net));
    let me = Arc::clone(life);
    life.run(async move {
        let mut config = kad::Config::new(StreamProtocol::new("/kith/kad/1"));
        config.set_periodic_bootstrap_interval(Some(Duration::from_secs(60)));
        let mut kad = kad::Behaviour::with_config(peer, Lies { seed, model: Vec::new() }, config);
        kad.set_mode(Some(kad::Mode::Server));
        let identify = identify::Config::new("/kith/1".to_owned(), key.public());
        let behaviour = Behaviour { kad, identify: identify::Behaviour::new(identify) };
        let Ok(transport) = transport(Arc::clone(&net), host, me.boot(), &key, true) else { return };
        let config = swarm::Config::with_executor(move |task| me.run(task));
        let mut swarm = Swarm::new(transport, behaviour, peer, config);
        if let Ok(address) = net.address(host).parse::<Multiaddr>() {
            // its own address is never refused
            let _ = swarm.listen_on(address.clone());
            swarm.add_external_address(address);
        }
        for address in bootstrap.iter().filter_map(|text| text.parse::<Multiaddr>().ok()) {
            // one that cannot be dialled is one fewer
            let _ = swarm.dial(address);
        }
        loop {
            let event = swarm.select_next_some().await;
            if let swarm::SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                info,
                ..
            })) = event
            {
                for address in info.listen_addrs {
                    swarm.behaviour_mut().kad.add_address(&peer_id, address);
                }
            }
        }
    });
    peer.to_string()
}
