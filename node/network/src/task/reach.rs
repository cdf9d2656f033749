//! Where we listen, which scopes that opens, what we tell others, and whether they can reach us.

use std::collections::BTreeSet;

use kith_protocol::{Address, limits};
use libp2p::Multiaddr;
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;

use crate::address::{self, Scope};
use crate::config::Config;
use crate::event::Reachability;

/// Confirmed addresses that are kept.
const MAX_CONFIRMED: usize = 8;
/// So many failed tests and no successful one mean that nobody can reach us. A node behind a router has two addresses to
/// test, TCP and WebSocket, and each that failed is not tested again.
const FAILED_TESTS: u32 = 2;

/// One thing we listen on.
pub(crate) struct Listener {
    pub(crate) id: ListenerId,
    pub(crate) configured: Multiaddr,
    /// The configured address with the port the system chose, once known.
    pub(crate) bound: Option<Multiaddr>,
}

pub(crate) struct Reach {
    listeners: Vec<Listener>,
    bound: BTreeSet<Multiaddr>,
    external: Vec<Multiaddr>,
    confirmed: Vec<Multiaddr>,
    explicit: bool,
    explicit_loopback: bool,
    serve: bool,
    tested: bool,
    failed: u32,
}

impl Reach {
    pub(crate) fn new(config: &Config, listeners: Vec<Listener>) -> Self {
        let has_scope = |address: &Multiaddr| address::multiaddr_scope(&with_some_port(address));
        // A certain interface is named on purpose, whoever remembered it.
        let chosen = |address: &Multiaddr| !address::is_wildcard(address);
        let loopback = |address: &Multiaddr| has_scope(address) == Some(Scope::Loopback);
        Self {
            explicit: config.listen_explicit || config.listen.iter().any(chosen),
            explicit_loopback: config.listen.iter().any(|address| chosen(address) && loopback(address))
                || config.bootstrap.iter().any(|(address, _)| loopback(address))
                || config.external.iter().any(loopback),
            listeners,
            bound: BTreeSet::new(),
            external: config.external.clone(),
            confirmed: Vec::new(),
            serve: config.serve,
            tested: false,
            failed: 0,
        }
    }

    pub(crate) fn listening(&mut self, id: ListenerId, address: Multiaddr) {
        if let Some(listener) = self.listeners.iter_mut().find(|listener| listener.id == id) {
            listener.bound = Some(with_port_of(&listener.configured, &address));
        }
        self.bound.insert(address);
    }

    pub(crate) fn expired(&mut self, address: &Multiaddr) {
        self.bound.remove(address);
    }

    pub(crate) fn closed(&mut self, id: ListenerId) {
        self.listeners.retain(|listener| listener.id != id);
    }

    /// Every listener has said where it listens.
    pub(crate) fn is_complete(&self) -> bool {
        self.listeners.iter().all(|listener| listener.bound.is_some())
    }

    pub(crate) fn bound(&self) -> impl Iterator<Item = &Multiaddr> {
        self.bound.iter()
    }

    /// What to listen on next time to get the same ports.
    pub(crate) fn listen_again(&self) -> Vec<String> {
        self.listeners
            .iter()
            .filter_map(|listener| listener.bound.as_ref())
            .map(Multiaddr::to_string)
            .collect()
    }

    pub(crate) fn confirmed(&mut self, address: &Multiaddr) {
        let (address, _) = address::split_peer(address.clone());
        let known = self.confirmed.contains(&address) || self.external.contains(&address);
        if !known && address::multiaddr_scope(&address).is_some() && self.confirmed.len() < MAX_CONFIRMED {
            self.confirmed.push(address);
        }
    }

    pub(crate) fn unconfirmed(&mut self, address: &Multiaddr) {
        let (address, _) = address::split_peer(address.clone());
        self.confirmed.retain(|known| *known != address);
    }

    /// Another node tried to dial back.
    pub(crate) fn tested(&mut self, reached: bool) {
        if reached {
            self.tested = true;
        } else {
            self.failed = self.failed.saturating_add(1);
        }
    }

    pub(crate) fn reachability(&self) -> Reachability {
        let configured =
            self.external.iter().any(|address| address::multiaddr_scope(address) == Some(Scope::Global));
        if configured || self.tested {
            Reachability::Public
        } else if self.failed >= FAILED_TESTS {
            Reachability::Private
        } else {
            Reachability::Unknown
        }
    }

    /// Whether this node keeps directory records for others.
    pub(crate) fn serves(&self) -> bool {
        self.serve || self.explicit || self.reachability() == Reachability::Public
    }

    /// Loopback addresses mean something only to those who listen there on purpose, or who have nothing else.
    fn loopback(&self) -> bool {
        let only = !self.bound.is_empty()
            && self.bound.iter().all(|address| address::multiaddr_scope(address) == Some(Scope::Loopback));
        self.explicit_loopback || only
    }

    /// Whether anything but loopback is listened on, or nothing at all (a client).
    fn outside(&self) -> bool {
        let configured = self.listeners.iter().map(|listener| &listener.configured);
        self.listeners.is_empty()
            || !self.external.is_empty()
            || configured
                .into_iter()
                .any(|address| address::multiaddr_scope(&with_some_port(address)) != Some(Scope::Loopback))
    }

    /// The scopes in which addresses given to us are dialled.
    pub(crate) fn dialled(&self) -> Vec<Scope> {
        let mut scopes = Vec::new();
        if self.loopback() {
            scopes.push(Scope::Loopback);
        }
        if self.outside() {
            scopes.extend([Scope::Lan, Scope::Global]);
        }
        scopes
    }

    /// Whether an address that a stranger claims to have is remembered and passed on. Private addresses are, only if we
    /// listen in their scope on purpose.
    pub(crate) fn learns(&self, address: &Multiaddr) -> bool {
        match address::multiaddr_scope(address) {
            Some(Scope::Global) => self.outside(),
            Some(Scope::Lan) => {
                let lan = |address: &Multiaddr| address::multiaddr_scope(address) == Some(Scope::Lan);
                self.explicit && self.bound.iter().any(lan)
            }
            Some(Scope::Loopback) => self.loopback() && self.explicit,
            None => false,
        }
    }

    /// Addresses that identify tells everybody: those we were told to listen on, and those known to work.
    pub(crate) fn announced(&self) -> Vec<Multiaddr> {
        let bound = self.bound.iter().filter(|address| self.explicit && self.is_told(address));
        self.external.iter().chain(&self.confirmed).chain(bound).cloned().collect()
    }

    fn is_told(&self, address: &Multiaddr) -> bool {
        match address::multiaddr_scope(address) {
            None => false,
            Some(Scope::Loopback) => self.loopback(),
            // Of no use without the name of the interface.
            Some(Scope::Lan) => {
                !matches!(address.iter().next(), Some(Protocol::Ip6(ip)) if ip.is_unicast_link_local())
            }
            Some(Scope::Global) => true,
        }
    }

    /// Addresses for contacts, widest reach first.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let mut all: Vec<&Multiaddr> = self.external.iter().chain(&self.confirmed).collect();
        all.extend(self.bound.iter().filter(|address| self.is_told(address)));
        let mut keyed: Vec<_> = all
            .into_iter()
            .enumerate()
            .map(|(n, address)| {
                ((std::cmp::Reverse(address::multiaddr_scope(address)), kind(address), n), address)
            })
            .collect();
        keyed.sort_by_key(|(key, _)| *key);
        let mut addresses = Vec::new();
        for address in keyed.into_iter().filter_map(|(_, address)| address::to_address(address)) {
            if !addresses.contains(&address) && addresses.len() < limits::ADDRESSES {
                addresses.push(address);
            }
        }
        addresses
    }
}

/// Plain TCP first: it works most often. Then QUIC, then WebSocket.
fn kind(address: &Multiaddr) -> u8 {
    let mut kind = 0;
    for part in address.iter() {
        kind = match part {
            Protocol::QuicV1 => 1,
            Protocol::Ws(_) | Protocol::Wss(_) => 2,
            _ => kind,
        };
    }
    kind
}

/// Port 0 means "any" in a configuration and "none" everywhere else.
fn with_some_port(address: &Multiaddr) -> Multiaddr {
    address
        .iter()
        .map(|part| match part {
            Protocol::Tcp(0) => Protocol::Tcp(1),
            Protocol::Udp(0) => Protocol::Udp(1),
            Protocol::Memory(0) => Protocol::Memory(1),
            other => other,
        })
        .collect()
}

fn with_port_of(configured: &Multiaddr, bound: &Multiaddr) -> Multiaddr {
    let port = bound.iter().find_map(|part| match part {
        Protocol::Tcp(port) | Protocol::Udp(port) => Some(port),
        _ => None,
    });
    configured
        .iter()
        .map(|part| match (part, port) {
            (Protocol::Tcp(_), Some(port)) => Protocol::Tcp(port),
            (Protocol::Udp(_), Some(port)) => Protocol::Udp(port),
            (other, _) => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use kith_protocol::secret::Secret32;

    use super::*;
    use crate::config::Options;

    fn reach(listen: &[&str], explicit: bool, bound: &[&str]) -> Reach {
        let mut options = Options::new(Secret32::new([1; 32]));
        options.listen = listen.iter().map(ToString::to_string).collect();
        options.listen_explicit = explicit;
        let config = Config::new(options).unwrap();
        let listeners: Vec<_> = config
            .listen
            .iter()
            .map(|configured| Listener {
                id: ListenerId::next(),
                configured: configured.clone(),
                bound: None,
            })
            .collect();
        let first = listeners.first().map(|listener| listener.id);
        let mut reach = Reach::new(&config, listeners);
        for address in bound {
            reach.listening(first.unwrap(), address.parse().unwrap());
        }
        reach
    }

    fn texts(addresses: Vec<Address>) -> Vec<String> {
        addresses.iter().map(address::to_text).collect()
    }

    #[test]
    fn an_explicit_loopback_listener_opens_loopback_only() {
        let reach = reach(&["/ip4/127.0.0.1/tcp/0"], true, &["/ip4/127.0.0.1/tcp/4000"]);
        assert_eq!(reach.dialled(), [Scope::Loopback]);
        assert!(reach.serves());
        assert!(reach.learns(&"/ip4/127.0.0.1/tcp/9".parse().unwrap()));
        assert!(!reach.learns(&"/ip4/8.8.8.8/tcp/9".parse().unwrap()));
        assert_eq!(texts(reach.addresses()), ["/ip4/127.0.0.1/tcp/4000"]);
        assert_eq!(reach.announced().len(), 1);
        assert_eq!(reach.listen_again(), ["/ip4/127.0.0.1/tcp/4000"]);
    }

    #[test]
    fn defaults_tell_contacts_lan_addresses_and_strangers_nothing() {
        let bound = ["/ip4/127.0.0.1/tcp/4000", "/ip4/192.168.1.5/tcp/4000", "/ip6/fe80::1/tcp/4000"];
        let reach = reach(&[], false, &bound);
        assert_eq!(reach.dialled(), [Scope::Lan, Scope::Global]);
        assert!(!reach.serves());
        assert!(!reach.learns(&"/ip4/192.168.1.9/tcp/9".parse().unwrap()));
        assert!(reach.learns(&"/ip4/8.8.8.8/tcp/9".parse().unwrap()));
        assert_eq!(texts(reach.addresses()), ["/ip4/192.168.1.5/tcp/4000"]);
        assert!(reach.announced().is_empty());
        assert_eq!(reach.listen_again(), ["/ip4/0.0.0.0/tcp/4000"]);
    }

    #[test]
    fn a_machine_without_a_network_uses_loopback() {
        let reach = reach(&[], false, &["/ip4/127.0.0.1/tcp/4000"]);
        assert!(reach.dialled().contains(&Scope::Loopback));
        assert_eq!(texts(reach.addresses()), ["/ip4/127.0.0.1/tcp/4000"]);
    }

    #[test]
    fn wide_addresses_come_first_and_plain_tcp_before_the_rest() {
        let bound = ["/ip4/10.0.0.2/tcp/1/ws", "/ip4/10.0.0.2/udp/1/quic-v1", "/ip4/10.0.0.2/tcp/2"];
        let mut reach = reach(&[], false, &bound);
        reach.confirmed(&"/ip4/8.8.8.8/udp/7/quic-v1".parse().unwrap());
        let order = [
            "/ip4/8.8.8.8/udp/7/quic-v1",
            "/ip4/10.0.0.2/tcp/2",
            "/ip4/10.0.0.2/udp/1/quic-v1",
            "/ip4/10.0.0.2/tcp/1/ws",
        ];
        assert_eq!(texts(reach.addresses()), order);
    }

    #[test]
    fn reachability_follows_the_tests_of_others() {
        let mut reach = reach(&[], false, &[]);
        assert_eq!(reach.reachability(), Reachability::Unknown);
        for _ in 0..FAILED_TESTS {
            reach.tested(false);
        }
        assert_eq!(reach.reachability(), Reachability::Private);
        reach.tested(true);
        assert_eq!(reach.reachability(), Reachability::Public);
        assert!(reach.serves());
    }
}
