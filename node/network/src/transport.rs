//! The product's transport: WebSocket, TCP and QUIC, with names resolved.

use std::io;

use libp2p::core::Transport;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, OrTransport};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{PeerId, dns, noise, quic, tcp, websocket, yamux};

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

/// Builds the transport of a real node. Must be called on a tokio runtime with IO and time.
///
/// WebSocket is asked first and resolves names itself, because a resolver around it would hide the name from TLS.
///
/// # Errors
/// What the system said about its name resolver, or about the key.
pub fn product_transport(identity: &Keypair) -> io::Result<Boxed<(PeerId, StreamMuxerBox)>> {
    let noise = || noise::Config::new(identity).map_err(io::Error::other);
    let yamux = || {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(MAX_STREAMS);
        config
    };
    let tcp = || tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));

    let mut websocket = websocket::Config::new(dns::tokio::Transport::system(tcp())?);
    websocket.set_max_data_size(WEBSOCKET_DATA);
    let websocket = websocket
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
