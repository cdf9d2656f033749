//! Addresses: text and binary multiaddrs, and how far each of them reaches.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kith_protocol::{Address, DeviceId, limits};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use thiserror::Error;

/// From where an address can be reached. Wider ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// From this machine only.
    Loopback,
    /// From the local network: private, link-local, unique-local and carrier-shared ranges.
    Lan,
    /// From anywhere.
    Global,
}

/// Text that is no address Kith can use.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("\"{text}\" is not an address Kith can use: {reason} (example: /ip4/192.0.2.7/tcp/4001)")]
pub struct ParseAddressError {
    text: String,
    reason: String,
}

impl ParseAddressError {
    fn new(text: &str, reason: impl Into<String>) -> Self {
        let shown: String = text.chars().take(120).collect();
        Self { text: shown, reason: reason.into() }
    }
}

/// Reads the text form of an address, dropping a trailing `/p2p/…`.
///
/// # Errors
/// [`ParseAddressError`] naming the text and what is wrong with it.
pub fn parse(text: &str) -> Result<Address, ParseAddressError> {
    let (address, _) = parse_multiaddr(text)?;
    to_address(&address).ok_or_else(|| ParseAddressError::new(text, "it is too long or cannot be dialled"))
}

/// Reads an address that may name the device behind it by a trailing `/p2p/…`.
///
/// # Errors
/// [`ParseAddressError`] naming the text and what is wrong with it.
pub fn parse_with_device(text: &str) -> Result<(Address, Option<DeviceId>), ParseAddressError> {
    let (address, peer) = parse_multiaddr(text)?;
    let address = to_address(&address)
        .ok_or_else(|| ParseAddressError::new(text, "it is too long or cannot be dialled"))?;
    Ok((address, peer.as_ref().and_then(DeviceId::from_peer_id)))
}

/// The text form, for people and configuration files.
#[must_use]
pub fn to_text(address: &Address) -> String {
    match to_multiaddr(address) {
        Some(address) => address.to_string(),
        None => format!("{address:?}"),
    }
}

/// How far an address reaches; `None` for one that cannot be dialled at all.
#[must_use]
pub fn scope(address: &Address) -> Option<Scope> {
    to_multiaddr(address).as_ref().and_then(multiaddr_scope)
}

/// Splits the text into a multiaddr without its peer and the peer.
pub(crate) fn parse_multiaddr(text: &str) -> Result<(Multiaddr, Option<PeerId>), ParseAddressError> {
    if text.len() > 8 * limits::ADDRESS {
        return Err(ParseAddressError::new(text, "it is too long"));
    }
    let address: Multiaddr = text
        .trim()
        .parse()
        .map_err(|e: libp2p::multiaddr::Error| ParseAddressError::new(text, e.to_string()))?;
    if address.iter().any(|p| matches!(p, Protocol::P2pCircuit)) {
        return Err(ParseAddressError::new(text, "addresses through circuit relays are not supported"));
    }
    let (address, peer) = split_peer(address);
    if address.is_empty() {
        return Err(ParseAddressError::new(text, "it names no place"));
    }
    Ok((address, peer))
}

/// The device with this peer id, if it is one of an Ed25519 key.
#[must_use]
pub fn device_of(peer: &str) -> Option<DeviceId> {
    DeviceId::from_peer_id(&peer.parse().ok()?)
}

/// Takes a trailing `/p2p/…` off.
pub(crate) fn split_peer(mut address: Multiaddr) -> (Multiaddr, Option<PeerId>) {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => {
            address.pop();
            (address, Some(peer))
        }
        _ => (address, None),
    }
}

/// The binary form without peer, if it is short enough and can be dialled.
pub(crate) fn to_address(address: &Multiaddr) -> Option<Address> {
    let (address, _) = split_peer(address.clone());
    multiaddr_scope(&address)?;
    Address::new(address.to_vec())
}

/// Reads the binary form.
pub(crate) fn to_multiaddr(address: &Address) -> Option<Multiaddr> {
    Multiaddr::try_from(address.as_bytes().to_vec()).ok()
}

/// The scope of a multiaddr, `None` if it cannot be dialled: no place, unspecified or multicast address, no transport,
/// port 0, or a relayed circuit.
pub(crate) fn multiaddr_scope(address: &Multiaddr) -> Option<Scope> {
    let mut parts = address.iter();
    // Only this kind of name tells the transport by itself.
    let mut has_transport = matches!(address.iter().next()?, Protocol::Dnsaddr(_));
    let scope = match parts.next()? {
        Protocol::Ip4(ip) => ip_scope(IpAddr::V4(ip))?,
        Protocol::Ip6(ip) => ip_scope(IpAddr::V6(ip))?,
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) | Protocol::Dnsaddr(name) => {
            if name == "localhost" { Scope::Loopback } else { Scope::Global }
        }
        // The in-process transport of tests.
        Protocol::Memory(port) => return (port != 0).then_some(Scope::Loopback),
        _ => return None,
    };
    for part in parts {
        match part {
            Protocol::Tcp(0) | Protocol::Udp(0) | Protocol::P2pCircuit => return None,
            Protocol::Tcp(_) | Protocol::QuicV1 => has_transport = true,
            _ => {}
        }
    }
    has_transport.then_some(scope)
}

/// The IP address a multiaddr begins with.
pub(crate) fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)),
        _ => None,
    }
}

/// Whether a multiaddr listens on every interface.
pub(crate) fn is_wildcard(address: &Multiaddr) -> bool {
    ip(address).is_some_and(|ip| ip.is_unspecified())
}

/// A listen address with its port left to the system.
pub(crate) fn with_any_port(address: &Multiaddr) -> Multiaddr {
    address
        .iter()
        .map(|part| match part {
            Protocol::Tcp(_) => Protocol::Tcp(0),
            Protocol::Udp(_) => Protocol::Udp(0),
            other => other,
        })
        .collect()
}

fn ip_scope(ip: IpAddr) -> Option<Scope> {
    match ip {
        IpAddr::V4(ip) => v4_scope(ip),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => v4_scope(ip),
            None => v6_scope(ip),
        },
    }
}

fn v4_scope(ip: Ipv4Addr) -> Option<Scope> {
    let [a, b, ..] = ip.octets();
    if ip.is_loopback() {
        return Some(Scope::Loopback);
    }
    if a == 0 || ip.is_multicast() || ip.is_broadcast() {
        return None;
    }
    let shared = a == 100 && (64..128).contains(&b);
    // nobody routes these across the internet, whoever uses them at home
    let tests = ip.is_documentation() || (a == 198 && (b == 18 || b == 19));
    let lan = ip.is_private() || ip.is_link_local() || shared || tests;
    Some(if lan { Scope::Lan } else { Scope::Global })
}

fn v6_scope(ip: Ipv6Addr) -> Option<Scope> {
    if ip.is_loopback() {
        return Some(Scope::Loopback);
    }
    if ip.is_unspecified() || ip.is_multicast() {
        return None;
    }
    let tests = ip.segments().starts_with(&[0x2001, 0xdb8]);
    let lan = ip.is_unicast_link_local() || ip.is_unique_local() || tests;
    Some(if lan { Scope::Lan } else { Scope::Global })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope_of(text: &str) -> Option<Scope> {
        multiaddr_scope(&text.parse().unwrap())
    }

    #[test]
    fn scopes_follow_the_ip_ranges() {
        assert_eq!(scope_of("/ip4/127.9.0.1/tcp/1"), Some(Scope::Loopback));
        assert_eq!(scope_of("/ip6/::1/udp/1/quic-v1"), Some(Scope::Loopback));
        assert_eq!(scope_of("/ip4/192.168.1.2/tcp/1/ws"), Some(Scope::Lan));
        assert_eq!(scope_of("/ip4/100.64.0.1/tcp/1"), Some(Scope::Lan));
        assert_eq!(scope_of("/ip6/fd00::1/tcp/1"), Some(Scope::Lan));
        assert_eq!(scope_of("/ip6/::ffff:10.0.0.1/tcp/1"), Some(Scope::Lan));
        assert_eq!(scope_of("/ip4/192.0.2.7/tcp/1"), Some(Scope::Lan));
        assert_eq!(scope_of("/ip4/198.19.0.1/tcp/1"), Some(Scope::Lan));
        assert_eq!(scope_of("/ip6/2001:db8::1/tcp/1"), Some(Scope::Lan));
        assert_eq!(scope_of("/ip4/8.8.8.8/tcp/1"), Some(Scope::Global));
        assert_eq!(scope_of("/dns4/chat.example.org/tcp/443"), Some(Scope::Global));
        assert_eq!(scope_of("/dns4/localhost/tcp/443"), Some(Scope::Loopback));
    }

    #[test]
    fn what_cannot_be_dialled_has_no_scope() {
        for text in [
            "/ip4/0.0.0.0/tcp/1",
            "/ip4/1.2.3.4/tcp/0",
            "/ip4/1.2.3.4",
            "/ip4/1.2.3.4/udp/1",
            "/dns4/chat.example.org",
            "/ip4/224.0.0.1/udp/1/quic-v1",
            "/ip6/::/tcp/1",
            "/tcp/1",
        ] {
            assert_eq!(scope_of(text), None, "{text}");
        }
    }

    #[test]
    fn text_and_bytes_agree_and_the_peer_is_split_off() {
        let key = libp2p::identity::Keypair::ed25519_from_bytes([7; 32]).unwrap();
        let peer = key.public().to_peer_id();
        let (address, device) = parse_with_device(&format!("/ip4/192.0.2.7/tcp/4001/p2p/{peer}")).unwrap();
        assert_eq!(to_text(&address), "/ip4/192.0.2.7/tcp/4001");
        assert_eq!(device, DeviceId::from_peer_id(&peer));
        assert_eq!(parse(&to_text(&address)).unwrap(), address);
    }

    #[test]
    fn errors_name_the_text() {
        let error = parse("192.0.2.7:4001").unwrap_err().to_string();
        assert!(error.contains("192.0.2.7:4001"), "{error}");
        let long = format!("/dns4/{}/tcp/1", "a".repeat(2000));
        assert!(parse(&long).is_err());
        assert!(parse("/ip4/1.2.3.4/tcp/0").is_err());
    }
}
