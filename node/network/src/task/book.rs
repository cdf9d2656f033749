//! Addresses of other devices, from the local network, from themselves, and from connections that worked.

use std::collections::HashMap;

use kith_protocol::{Mono, limits};
use libp2p::{Multiaddr, PeerId};

/// Devices remembered.
const MAX_PEERS: usize = 1024;

struct Entry {
    addresses: Vec<Multiaddr>,
    used: Mono,
}

#[derive(Default)]
pub(super) struct Book {
    entries: HashMap<PeerId, Entry>,
}

impl Book {
    /// Notes an address; the newest comes first.
    pub(super) fn add(&mut self, peer: PeerId, address: Multiaddr, now: Mono) {
        if !self.entries.contains_key(&peer) && self.entries.len() >= MAX_PEERS {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(peer, _)| *peer);
            if let Some(oldest) = oldest {
                self.entries.remove(&oldest);
            }
        }
        let entry = self.entries.entry(peer).or_insert_with(|| Entry { addresses: Vec::new(), used: now });
        entry.used = now;
        entry.addresses.retain(|known| *known != address);
        entry.addresses.insert(0, address);
        entry.addresses.truncate(limits::ADDRESSES);
    }

    pub(super) fn get(&self, peer: &PeerId) -> Vec<Multiaddr> {
        self.entries.get(peer).map(|entry| entry.addresses.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: usize) -> Multiaddr {
        format!("/ip4/10.0.0.1/tcp/{}", n + 1).parse().unwrap()
    }

    #[test]
    fn the_newest_addresses_are_kept() {
        let mut book = Book::default();
        let peer = PeerId::random();
        for n in 0..20 {
            book.add(peer, address(n), Mono(0));
        }
        book.add(peer, address(15), Mono(0));
        let kept = book.get(&peer);
        assert_eq!(kept.len(), limits::ADDRESSES);
        assert_eq!(kept[..2], [address(15), address(19)]);
    }

    #[test]
    fn the_device_not_heard_of_for_longest_is_forgotten() {
        let mut book = Book::default();
        let first = PeerId::random();
        book.add(first, address(0), Mono(0));
        for n in 0..MAX_PEERS {
            book.add(PeerId::random(), address(n), Mono(1));
        }
        assert_eq!(book.entries.len(), MAX_PEERS);
        assert!(book.get(&first).is_empty());
    }
}
