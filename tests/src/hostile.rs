//! A peer that keeps no rule: own sockets from any loopback address, the real handshake, and then raw bytes.

mod connection;
mod transport;

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};

pub use connection::{Connection, RawStream};

/// The address the hostile peer comes from, if not from the same one as everybody else.
pub const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 1);
/// The address of honest peers.
pub const HOME: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// The held link.
pub const LINK: &str = "/kith/link/1";
/// The directory.
pub const KAD: &str = "/kith/kad/1";

/// A device key of one's own, and where one comes from.
#[derive(Debug, Clone)]
pub struct Hostile {
    key: Keypair,
    from: Ipv4Addr,
    target: Multiaddr,
}

impl Hostile {
    /// A new key against the node at this TCP address.
    ///
    /// # Panics
    /// If the address is none.
    #[must_use]
    pub fn new(from: Ipv4Addr, target: &str) -> Self {
        let target: Multiaddr = target.parse().expect("a multiaddr");
        Self { key: Keypair::generate_ed25519(), from, target }
    }

    /// The same place and target under another key.
    #[must_use]
    pub fn renamed(&self) -> Self {
        Self { key: Keypair::generate_ed25519(), ..self.clone() }
    }

    /// The libp2p name.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.key.public().to_peer_id()
    }

    /// Takes a key below that of the target: the smaller one leads a link.
    #[must_use]
    pub fn leading(mut self) -> Self {
        let target = self.target.iter().find_map(|part| match part {
            libp2p::multiaddr::Protocol::P2p(peer) => Some(peer),
            _ => None,
        });
        while target.is_some_and(|target| self.peer_id() >= target) {
            self.key = Keypair::generate_ed25519();
        }
        self
    }

    /// A bare TCP connection.
    ///
    /// # Errors
    /// The system's reason.
    pub async fn socket(&self) -> Result<tokio::net::TcpStream> {
        let address = transport::socket_address(&self.target).context("the target is no TCP address")?;
        Ok(transport::connect(self.from, address).await?)
    }

    /// A connection with the whole handshake (Noise, yamux).
    ///
    /// # Errors
    /// What the handshake failed with.
    pub async fn connect(&self) -> Result<Connection> {
        Connection::open(&self.key, self.from, self.target.clone()).await
    }
}

/// The length of a frame as the link writes it.
#[must_use]
pub fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push((number & 0x7f) as u8);
    bytes
}

/// A frame with its length.
#[must_use]
pub fn framed(body: &[u8]) -> Vec<u8> {
    let mut bytes = varint(body.len() as u64);
    bytes.extend_from_slice(body);
    bytes
}

/// A protobuf field of bytes.
#[must_use]
pub fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = varint(number << 3 | 2);
    out.extend(framed(bytes));
    out
}
