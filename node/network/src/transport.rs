//! The product's transport: WebSocket, TCP and QUIC, with names resolved.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::task::{Context, Poll};

use libp2p::core::Transport;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, OrTransport, TransportError, TransportEvent};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, dns, noise, quic, tcp, websocket, yamux};

use crate::tls::WssCertificate;

/// Streams of one connection, all protocols together.
const MAX_STREAMS: usize = 128;
/// Unread bytes of one QUIC stream,
const QUIC_STREAM_DATA: u32 = 1024 * 1024;
/// and of one QUIC connection.
const QUIC_CONNECTION_DATA: u32 = 8 * 1024 * 1024;
/// A QUIC connection that hears nothing for this long is dead,
const QUIC_IDLE: u32 = 150_000;
/// and says something this often.
const QUIC_KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(60);
/// Largest WebSocket message. The multiplexer above sends smaller ones.
const WEBSOCKET_DATA: usize = 1024 * 1024;

/// Builds the transport of a real node, which listens on WSS addresses with this certificate. Must be called on a tokio
/// runtime with IO and time.
///
/// WebSocket is asked first and resolves names itself, because a resolver around it would hide the name from TLS.
///
/// # Errors
/// What the system said about its name resolver, or about the key.
pub fn product_transport(
    identity: &Keypair,
    certificate: &WssCertificate,
) -> io::Result<Boxed<(PeerId, StreamMuxerBox)>> {
    let noise = || noise::Config::new(identity).map_err(io::Error::other);
    let yamux = || {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(MAX_STREAMS);
        config
    };
    let tcp = || Exclusive(tcp::tokio::Transport::new(tcp::Config::default().nodelay(true)));

    let mut websocket = websocket::Config::new(dns::tokio::Transport::system(tcp())?);
    websocket.set_max_data_size(WEBSOCKET_DATA);
    let websocket = certificate
        .watched(websocket)
        .upgrade(Version::V1Lazy)
        .authenticate(noise()?)
        .multiplex(yamux())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));

    let plain = tcp()
        .upgrade(Version::V1Lazy)
        .authenticate(noise()?)
        .multiplex(yamux())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));

    let mut config = quic::Config::new(identity);
    config.max_concurrent_stream_limit = MAX_STREAMS as u32;
    config.max_stream_data = QUIC_STREAM_DATA;
    config.max_connection_data = QUIC_CONNECTION_DATA;
    config.max_idle_timeout = QUIC_IDLE;
    config.keep_alive_interval = QUIC_KEEP_ALIVE;
    let quic = quic::tokio::Transport::new(config).map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));

    let named =
        dns::tokio::Transport::system(OrTransport::new(plain, quic).map(|either, _| either.into_inner()))?;
    Ok(OrTransport::new(websocket, named).map(|either, _| either.into_inner()).boxed())
}

/// TCP that refuses a port another process listens on. The library shares ports, so that it can dial from the one it
/// listens on; a second program would share them, too, and get half of the connections meant for the first.
struct Exclusive(tcp::tokio::Transport);

impl Transport for Exclusive {
    type Output = <tcp::tokio::Transport as Transport>::Output;
    type Error = io::Error;
    type ListenerUpgrade = <tcp::tokio::Transport as Transport>::ListenerUpgrade;
    type Dial = <tcp::tokio::Transport as Transport>::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        if let Some(socket) = socket_address(&address).filter(|socket| socket.port() != 0) {
            // Without the sharing option this fails if anybody listens there. Other failures are the library's to tell.
            match TcpListener::bind(socket) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    return Err(TransportError::Other(error));
                }
                _ => {}
            }
        }
        self.0.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.0.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        self.0.dial(address, opts)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.0).poll(cx)
    }
}

fn socket_address(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    match (parts.next()?, parts.next()?) {
        (Protocol::Ip4(ip), Protocol::Tcp(port)) => Some((ip, port).into()),
        // Every IPv6 address, but not the IPv4 ones that the standard library would add.
        (Protocol::Ip6(ip), Protocol::Tcp(port)) if ip.is_unspecified() => {
            Some((Ipv6Addr::LOCALHOST, port).into())
        }
        (Protocol::Ip6(ip), Protocol::Tcp(port)) => Some((ip, port).into()),
        _ => None,
    }
}
