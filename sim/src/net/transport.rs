//! A libp2p transport on the simulated network, with the product's security and multiplexing above it.

use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{BoxFuture, Ready};
use libp2p::core::Transport;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, PortUse, TransportError, TransportEvent};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, noise, yamux};

use super::fabric::Net;
use super::meter::Metered;
use super::stream::Stream;

/// The port a host listens on if the system may choose.
pub(crate) const PORT: u16 = 4001;
/// Streams of one connection, as in the product.
const MAX_STREAMS: usize = 128;

/// The transport of one host.
///
/// # Errors
/// If the key cannot be used.
pub(crate) fn transport(
    net: Arc<Net>,
    host: u32,
    boot: u32,
    identity: &Keypair,
    listens: bool,
) -> io::Result<Boxed<(PeerId, StreamMuxerBox)>> {
    let purposes = net.purposes();
    let mut config = yamux::Config::default();
    config.set_max_num_streams(MAX_STREAMS);
    Ok(Wire { net, host, boot, listens }
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(identity).map_err(io::Error::other)?)
        .multiplex(config)
        .map(move |(peer, muxer), _| {
            let metered = Metered::new(StreamMuxerBox::new(muxer), purposes);
            (peer, StreamMuxerBox::new(metered))
        })
        .boxed())
}

struct Wire {
    net: Arc<Net>,
    host: u32,
    boot: u32,
    /// A second transport of a host only dials: what comes in is for the first.
    listens: bool,
}

/// The socket of `/ip4/…/tcp/…`, the one kind of address there is.
fn socket(address: &Multiaddr) -> Option<(Ipv4Addr, u16)> {
    let mut parts = address.iter();
    match (parts.next()?, parts.next()?, parts.next(), parts.next()) {
        (Protocol::Ip4(ip), Protocol::Tcp(port), None | Some(Protocol::P2p(_)), None) => Some((ip, port)),
        _ => None,
    }
}

impl Transport for Wire {
    type Output = Stream;
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<Stream>>;
    type Dial = BoxFuture<'static, io::Result<Stream>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        let Some((ip, port)) = socket(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        self.net.listen(self.host, id, ip, port).map_err(TransportError::Other)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.net.unlisten(self.host, id)
    }

    fn dial(&mut self, address: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some(to) = socket(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let (net, host, boot) = (Arc::clone(&self.net), self.host, self.boot);
        let reuse = opts.port_use == PortUse::Reuse;
        Ok(Box::pin(async move {
            let answer = net.dial(host, boot, to, reuse);
            answer.await.unwrap_or_else(|_| Err(io::ErrorKind::ConnectionAborted.into()))
        }))
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        if self.listens { self.net.poll_incoming(self.host, cx) } else { Poll::Pending }
    }
}
