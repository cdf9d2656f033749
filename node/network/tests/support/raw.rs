//! A peer below libp2p's Swarm: a real handshake, then streams written by hand.

use std::pin::Pin;
use std::task::Poll;

use futures::future::poll_fn;
use futures::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use kith_network::{Keypair, WssCertificate, product_transport};
use libp2p::Multiaddr;
use libp2p::core::Endpoint;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, SubstreamBox};
use libp2p::core::transport::{DialOpts, PortUse, Transport};
use tokio::task::AbortHandle;

pub const LINK: &str = "/kith/link/1";
const HEADER: &str = "/multistream/1.0.0";

pub struct Raw {
    opens: tokio::sync::mpsc::Sender<tokio::sync::oneshot::Sender<SubstreamBox>>,
    pub streams: tokio::sync::mpsc::Receiver<SubstreamBox>,
    driver: AbortHandle,
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Raw {
    /// Connects; the other side's link stream, once negotiated, comes out of `streams` and is read by nobody.
    #[allow(clippy::disallowed_methods, reason = "a test's own tasks")]
    pub async fn connect(keypair: &Keypair, address: &str) -> std::io::Result<Self> {
        let address: Multiaddr = address.parse().unwrap();
        let (address, _) = match address.iter().last() {
            Some(libp2p::multiaddr::Protocol::P2p(_)) => {
                let mut address = address;
                address.pop();
                (address, ())
            }
            _ => (address, ()),
        };
        let mut transport = product_transport(keypair, &WssCertificate::default())?;
        let opts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let (_, mut muxer) = transport.dial(address, opts).unwrap().await?;
        let (opens, mut open_requests) =
            tokio::sync::mpsc::channel::<tokio::sync::oneshot::Sender<SubstreamBox>>(4);
        let (accepted, streams) = tokio::sync::mpsc::channel(8);
        let driver = tokio::spawn(async move {
            // The transport owns the endpoints of some connections.
            let _transport = transport;
            let mut wanted = None;
            poll_fn(move |cx| {
                loop {
                    if wanted.is_none()
                        && let Poll::Ready(Some(request)) = open_requests.poll_recv(cx)
                    {
                        wanted = Some(request);
                    }
                    if wanted.is_some() {
                        match Pin::new(&mut muxer).poll_outbound(cx) {
                            Poll::Ready(Ok(stream)) => {
                                let _ = wanted.take().unwrap().send(stream);
                                continue;
                            }
                            Poll::Ready(Err(_)) => return Poll::Ready(()),
                            Poll::Pending => {}
                        }
                    }
                    match Pin::new(&mut muxer).poll_inbound(cx) {
                        Poll::Ready(Ok(stream)) => {
                            tokio::spawn(accept(stream, accepted.clone()));
                            continue;
                        }
                        Poll::Ready(Err(_)) => return Poll::Ready(()),
                        Poll::Pending => {}
                    }
                    match poll_muxer(&mut muxer, cx) {
                        Poll::Ready(Ok(())) => continue,
                        Poll::Ready(Err(())) => return Poll::Ready(()),
                        Poll::Pending => return Poll::Pending,
                    }
                }
            })
            .await;
        });
        Ok(Self { opens, streams, driver: driver.abort_handle() })
    }

    /// Opens a stream and negotiates a protocol on it.
    pub async fn open(&self, protocol: &str) -> std::io::Result<SubstreamBox> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.opens.send(sender).await.map_err(std::io::Error::other)?;
        let mut stream = receiver.await.map_err(std::io::Error::other)?;
        write_line(&mut stream, HEADER).await?;
        write_line(&mut stream, protocol).await?;
        assert_eq!(read_line(&mut stream).await?, HEADER);
        assert_eq!(read_line(&mut stream).await?, protocol);
        Ok(stream)
    }

    /// Opens our half of a link and waits for the other.
    pub async fn link(&mut self) -> std::io::Result<(SubstreamBox, SubstreamBox)> {
        let ours = self.open(LINK).await?;
        let theirs = self.streams.recv().await.ok_or(std::io::ErrorKind::ConnectionReset)?;
        Ok((ours, theirs))
    }
}

fn poll_muxer(muxer: &mut StreamMuxerBox, cx: &mut std::task::Context<'_>) -> Poll<Result<(), ()>> {
    Pin::new(muxer).poll(cx).map(|result| result.map(|_| ()).map_err(|_| ()))
}

async fn accept(
    mut stream: SubstreamBox,
    link: tokio::sync::mpsc::Sender<SubstreamBox>,
) -> std::io::Result<()> {
    assert_eq!(read_line(&mut stream).await?, HEADER);
    write_line(&mut stream, HEADER).await?;
    loop {
        let protocol = read_line(&mut stream).await?;
        if protocol == LINK {
            write_line(&mut stream, LINK).await?;
            let _ = link.send(stream).await;
            return Ok(());
        }
        write_line(&mut stream, "na").await?;
    }
}

async fn write_line(stream: &mut SubstreamBox, text: &str) -> std::io::Result<()> {
    let mut line = vec![u8::try_from(text.len() + 1).unwrap()];
    line.extend_from_slice(text.as_bytes());
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.flush().await
}

async fn read_line(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<String> {
    let mut length = [0; 1];
    stream.read_exact(&mut length).await?;
    let mut line = vec![0; usize::from(length[0])];
    stream.read_exact(&mut line).await?;
    line.pop();
    String::from_utf8(line).map_err(std::io::Error::other)
}
