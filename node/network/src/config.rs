//! Configuration: text in, checked values out.

use kith_protocol::secret::Secret32;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use thiserror::Error;

use crate::address::{self, ParseAddressError};

/// Listen addresses when none are given: every interface, a port of the system's choice, all transports.
pub const DEFAULT_LISTEN: [&str; 6] = [
    "/ip4/0.0.0.0/tcp/0",
    "/ip4/0.0.0.0/udp/0/quic-v1",
    "/ip4/0.0.0.0/tcp/0/ws",
    "/ip6/::/tcp/0",
    "/ip6/::/udp/0/quic-v1",
    "/ip6/::/tcp/0/ws",
];
/// Most addresses of one kind in a configuration.
const MAX_ADDRESSES: usize = 64;

/// What can be set, as read from a file or command line. [`Config::new`] checks it.
#[derive(Debug, Clone)]
pub struct Options {
    /// The secret half of the device key.
    pub device_seed: Secret32,
    /// Where to listen, as multiaddrs. Empty: every interface, ports chosen by the system.
    pub listen: Vec<String>,
    /// The listen addresses were chosen by the operator, not remembered from an earlier start: they count as reachable
    /// in their scope, and a port that is taken is an error instead of a reason to choose another.
    pub listen_explicit: bool,
    /// Addresses others can reach us at although we do not listen there (port forwarding, proxies).
    pub external: Vec<String>,
    /// Directory nodes to start from, with or without `/p2p/…`.
    pub bootstrap: Vec<String>,
    /// Serve the directory even if nobody confirmed that we can be reached.
    pub serve: bool,
    /// Announce and discover on the local network.
    pub mdns: bool,
    /// Ask the router to forward ports.
    pub upnp: bool,
    /// What it does for others.
    pub role: Role,
    /// Bounds.
    pub limits: Limits,
}

/// What a node does for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// A person's node: everything, as far as it can be reached.
    #[default]
    Person,
    /// A relay for many, lean on each connection: the directory, circuits and tests of reachability; no gossip, no
    /// tests of its own reachability, no local network.
    Relay(Circuits),
}

/// Circuits: connections between two others through this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circuits {
    /// Nodes that may be reached through this one at a time; 0: no circuits at all.
    pub reservations: usize,
    /// Circuits at a time,
    pub circuits: usize,
    /// and of one node.
    pub per_peer: usize,
    /// Longest life of a circuit, in seconds.
    pub seconds: u64,
    /// Most bytes in each direction of a circuit.
    pub bytes: u64,
}

impl Default for Circuits {
    fn default() -> Self {
        Self { reservations: 1024, circuits: 512, per_peer: 8, seconds: 30 * 60, bytes: 64 * 1024 * 1024 }
    }
}

impl Options {
    /// The defaults of a desktop node.
    #[must_use]
    pub fn new(device_seed: Secret32) -> Self {
        Self {
            device_seed,
            listen: Vec::new(),
            listen_explicit: false,
            external: Vec::new(),
            bootstrap: Vec::new(),
            serve: false,
            mdns: true,
            upnp: false,
            role: Role::Person,
            limits: Limits::default(),
        }
    }
}

/// Bounds of connections, memory and time. Times are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all; contacts may exceed it.
    pub connections: usize,
    /// Connections of strangers from one network (/24 or /48).
    pub connections_per_network: usize,
    /// Connections of one peer; its oldest gives way.
    pub connections_per_peer: usize,
    /// Handshakes under way from one network; the oldest gives way.
    pub handshakes_per_network: usize,
    /// Handshakes under way in all; the oldest of the busiest network gives way.
    pub handshakes: usize,
    /// Failed or anonymous handshakes a minute from one network before it may only have a few at a time.
    pub failures_per_minute: u32,
    /// Violations within ten minutes that ban a device.
    pub strikes: u32,
    /// How long a ban lasts.
    pub ban: u64,
    /// No new connections while the process holds more than this many bytes. `None`: no such limit (a simulator).
    pub memory: Option<usize>,
    /// How long an incoming or outgoing handshake may take. Less than the ten seconds that AutoNAT gives a whole test: who
    /// is asked to dial back has to say in time that nobody answered, or the asker never learns it.
    pub handshake_timeout: u64,
    /// When a dial counts as failed.
    pub dial_timeout: u64,
    /// A connection without use is closed after this.
    pub idle_timeout: u64,
    /// How often a connection is tested.
    pub ping_interval: u64,
    /// How long the answer to a test may take.
    pub ping_timeout: u64,
    /// A link whose peer takes nothing for this long while data waits is closed.
    pub stall_timeout: u64,
    /// Frames waiting on one link.
    pub queue_frames: usize,
    /// Bytes waiting on one link.
    pub queue_bytes: usize,
    /// Events not taken yet by the owner.
    pub events: usize,
    /// Directory records stored for others.
    pub records: usize,
    /// Directory records stored for one source,
    pub records_per_source: usize,
    /// and for one network.
    pub records_per_network: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 200,
            connections_per_network: 48,
            connections_per_peer: 4,
            handshakes_per_network: 64,
            handshakes: 256,
            failures_per_minute: 120,
            strikes: 3,
            ban: 10 * 60 * 1000,
            memory: Some(2 * 1024 * 1024 * 1024),
            handshake_timeout: 8_000,
            dial_timeout: 20_000,
            idle_timeout: 60_000,
            ping_interval: 180_000,
            ping_timeout: 20_000,
            stall_timeout: 30_000,
            queue_frames: 2048,
            queue_bytes: 8 * 1024 * 1024,
            events: 256,
            records: 4096,
            records_per_source: 128,
            records_per_network: 1024,
        }
    }
}

/// A configuration that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A listen address.
    #[error("cannot listen: {0}")]
    Listen(ParseAddressError),
    /// An external address.
    #[error("not an external address: {0}")]
    External(ParseAddressError),
    /// A bootstrap address.
    #[error("not a bootstrap address: {0}")]
    Bootstrap(ParseAddressError),
    /// Too many addresses.
    #[error("{count} {what} addresses; at most {MAX_ADDRESSES} are allowed")]
    TooMany {
        /// Which.
        what: &'static str,
        /// How many.
        count: usize,
    },
    /// The seed makes no key.
    #[error("the device key is damaged; run `kith store check`")]
    Key,
}

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) keypair: Keypair,
    pub(crate) listen: Vec<Multiaddr>,
    pub(crate) listen_explicit: bool,
    pub(crate) external: Vec<Multiaddr>,
    pub(crate) bootstrap: Vec<(Multiaddr, Option<PeerId>)>,
    pub(crate) serve: bool,
    pub(crate) mdns: bool,
    pub(crate) upnp: bool,
    pub(crate) role: Role,
    pub(crate) limits: Limits,
}

impl Config {
    /// Checks the options.
    ///
    /// # Errors
    /// [`ConfigError`] naming the address that is wrong and why.
    pub fn new(options: Options) -> Result<Self, ConfigError> {
        // The library wipes the copy it is given.
        let mut seed = *options.device_seed.expose();
        let keypair = Keypair::ed25519_from_bytes(&mut seed).map_err(|_| ConfigError::Key)?;
        let explicit = options.listen_explicit && !options.listen.is_empty();
        let listen = if options.listen.is_empty() {
            parse_all("listen", DEFAULT_LISTEN.map(String::from).as_slice(), ConfigError::Listen)?
        } else {
            parse_all("listen", &options.listen, ConfigError::Listen)?
        };
        let external = parse_all("external", &options.external, ConfigError::External)?;
        for (given, (parsed, _)) in options.external.iter().zip(&external) {
            if address::to_address(parsed).is_none() {
                // Reports the same reason as any other address that cannot be dialled.
                address::parse(given).map_err(ConfigError::External)?;
            }
        }
        let bootstrap = parse_all("bootstrap", &options.bootstrap, ConfigError::Bootstrap)?;
        for (given, (parsed, _)) in options.bootstrap.iter().zip(&bootstrap) {
            if address::multiaddr_scope(parsed).is_none() {
                address::parse(given).map_err(ConfigError::Bootstrap)?;
            }
        }
        Ok(Self {
            keypair,
            listen: listen.into_iter().map(|(address, _)| address).collect(),
            listen_explicit: explicit,
            external: external.into_iter().map(|(address, _)| address).collect(),
            bootstrap,
            serve: options.serve,
            mdns: options.mdns,
            upnp: options.upnp,
            role: options.role,
            limits: options.limits,
        })
    }
}

fn parse_all(
    what: &'static str,
    texts: &[String],
    error: fn(ParseAddressError) -> ConfigError,
) -> Result<Vec<(Multiaddr, Option<PeerId>)>, ConfigError> {
    if texts.len() > MAX_ADDRESSES {
        return Err(ConfigError::TooMany { what, count: texts.len() });
    }
    texts.iter().map(|text| address::parse_multiaddr(text).map_err(error)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options::new(Secret32::new([1; 32]))
    }

    #[test]
    fn a_bad_address_is_named() {
        let bad = "/ip4/300.1.1.1/tcp/1".to_string();
        for set in [
            (|o: &mut Options, bad| o.listen = vec![bad]) as fn(&mut Options, String),
            |o, bad| o.external = vec![bad],
            |o, bad| o.bootstrap = vec![bad],
        ] {
            let mut options = options();
            set(&mut options, bad.clone());
            let error = Config::new(options).unwrap_err().to_string();
            assert!(error.contains(&bad), "{error}");
        }
    }

    #[test]
    fn an_external_address_must_be_dialable() {
        let mut options = options();
        options.external = vec!["/ip4/0.0.0.0/tcp/4001".into()];
        assert!(matches!(Config::new(options), Err(ConfigError::External(_))));
    }

    #[test]
    fn defaults_listen_everywhere_but_not_explicitly() {
        let mut options = options();
        options.listen_explicit = true;
        let config = Config::new(options).unwrap();
        assert_eq!(config.listen.len(), DEFAULT_LISTEN.len());
        assert!(!config.listen_explicit);
    }

    #[test]
    fn too_many_addresses_are_refused() {
        let mut options = options();
        options.bootstrap = vec!["/ip4/192.0.2.1/tcp/1".into(); MAX_ADDRESSES + 1];
        assert!(matches!(Config::new(options), Err(ConfigError::TooMany { .. })));
    }
}
