//! One connection after its handshake. A task drives the multiplexer, answers the other side's streams with "yes" and
//! never reads them.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::task::Poll;

use anyhow::{Context, Result, anyhow, bail};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox};
use libp2p::core::transport::{DialOpts, PortUse};
use libp2p::core::upgrade::Version;
use libp2p::core::{Endpoint, Transport};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, noise, yamux};
use tokio::sync::{mpsc, oneshot, watch};

use super::transport::TcpFrom;

const MULTISTREAM: &[u8] = b"\x13/multistream/1.0.0\n";
/// Streams of the other side that are kept open and not read.
const KEPT: usize = 64;

/// A stream that is negotiated already.
pub type RawStream = SubstreamBox;

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Connection {
    open: mpsc::Sender<oneshot::Sender<SubstreamBox>>,
    closed: watch::Receiver<bool>,
    frozen: watch::Sender<bool>,
    driver: tokio::task::JoinHandle<()>,
}

impl Connection {
    pub(super) async fn open(key: &Keypair, from: Ipv4Addr, target: Multiaddr) -> Result<Self> {
        let mut transport = TcpFrom(from)
            .upgrade(Version::V1)
            .authenticate(noise::Config::new(key)?)
            .multiplex(yamux::Config::default())
            .boxed();
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let (_, muxer) = transport.dial(target, options)?.await?;
        let (open, requests) = mpsc::channel(16);
        let (alive, closed) = watch::channel(false);
        let (frozen, freeze) = watch::channel(false);
        #[allow(clippy::disallowed_methods, reason = "not part of the product")]
        let driver = tokio::spawn(async move {
            drive(muxer, requests, freeze).await;
            // Nobody may be waiting any more.
            let _ = alive.send(true);
        });
        Ok(Self { open, closed, frozen, driver })
    }

    /// Opens a stream for a protocol.
    ///
    /// # Errors
    /// If the other side refuses it or the connection is gone.
    pub async fn stream(&self, protocol: &str) -> Result<RawStream> {
        let (reply, stream) = oneshot::channel();
        self.open.send(reply).await.map_err(|_| anyhow!("the connection is closed"))?;
        let mut stream = stream.await.context("the connection is closed")?;
        let mut wish = line(protocol);
        stream.write_all(MULTISTREAM).await?;
        stream.write_all(&wish).await?;
        stream.flush().await?;
        let mut answer = vec![0; MULTISTREAM.len() + wish.len()];
        stream.read_exact(&mut answer).await?;
        wish.splice(0..0, MULTISTREAM.iter().copied());
        if answer != wish {
            bail!("{protocol} was refused: {}", String::from_utf8_lossy(&answer));
        }
        Ok(stream)
    }

    /// Never reads or writes the socket again, and does not close it either.
    pub fn freeze(&self) {
        // An error means that the driver has ended.
        let _ = self.frozen.send(true);
    }

    /// Waits until the other side has closed the connection.
    pub async fn closed(&self) {
        // An error means that the driver ended.
        let _ = self.closed.clone().wait_for(|closed| *closed).await;
    }

    /// Whether the other side has closed the connection.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn drive(
    mut muxer: StreamMuxerBox,
    mut requests: mpsc::Receiver<oneshot::Sender<SubstreamBox>>,
    mut freeze: watch::Receiver<bool>,
) {
    let mut waiting: VecDeque<oneshot::Sender<SubstreamBox>> = VecDeque::new();
    let mut answering = Vec::new();
    loop {
        let turn = poll_fn(|cx| {
            while let Poll::Ready(request) = requests.poll_recv(cx) {
                match request {
                    Some(request) => waiting.push_back(request),
                    None => return Poll::Ready(None),
                }
            }
            if let Poll::Ready(event) = muxer.poll_unpin(cx) {
                return Poll::Ready(event.ok().map(|_| Step::Nothing));
            }
            if let Poll::Ready(stream) = muxer.poll_inbound_unpin(cx) {
                return Poll::Ready(stream.ok().map(Step::Theirs));
            }
            if !waiting.is_empty()
                && let Poll::Ready(stream) = muxer.poll_outbound_unpin(cx)
            {
                return Poll::Ready(stream.ok().map(Step::Ours));
            }
            Poll::Pending
        });
        let step = tokio::select! {
            step = turn => step,
            Ok(()) = freeze.changed() => Some(Step::Freeze),
        };
        match step {
            None => return,
            Some(Step::Nothing) => {}
            // The socket stays open as long as this task is not ended.
            Some(Step::Freeze) => std::future::pending().await,
            Some(Step::Ours(stream)) => {
                // Whoever asked may have gone.
                let _ = waiting.pop_front().map(|reply| reply.send(stream));
            }
            Some(Step::Theirs(stream)) => {
                if answering.len() < KEPT {
                    #[allow(clippy::disallowed_methods, reason = "not part of the product")]
                    answering.push(tokio::spawn(agree(stream)));
                }
            }
        }
    }
}

enum Step {
    Nothing,
    Freeze,
    Ours(SubstreamBox),
    Theirs(SubstreamBox),
}

/// Says yes to whatever protocol is proposed, then holds the stream without reading.
async fn agree(mut stream: SubstreamBox) -> Option<()> {
    let mut greeting = [0; MULTISTREAM.len()];
    stream.read_exact(&mut greeting).await.ok()?;
    stream.write_all(MULTISTREAM).await.ok()?;
    let mut len = [0];
    stream.read_exact(&mut len).await.ok()?;
    let mut protocol = vec![0; usize::from(len[0] & 0x7f)];
    stream.read_exact(&mut protocol).await.ok()?;
    stream.write_all(&len).await.ok()?;
    stream.write_all(&protocol).await.ok()?;
    stream.flush().await.ok()?;
    std::future::pending().await
}

fn line(protocol: &str) -> Vec<u8> {
    super::framed(format!("{protocol}\n").as_bytes())
}
