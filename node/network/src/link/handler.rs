//! The link on one connection: runs in the connection's own task.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncWrite, FutureExt};
use kith_protocol::engine::LinkId;
use kith_protocol::{DeviceId, Mono};
use libp2p::Stream;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol};
use thiserror::Error;
use tokio_util::sync::PollSender;

use super::frame::{self, FrameError};
use super::queue::Outgoing;
use super::{NEGOTIATION_TIMEOUT, PROTOCOL};
use crate::environment::Environment;
use crate::event::Event;

/// Read from a stream at a time.
const READ_CHUNK: usize = 16 * 1024;
/// Frames are joined to at least this much before a write.
const WRITE_BATCH: usize = 64 * 1024;
/// Read before the link is up; the rest stays in the connection.
const READ_AHEAD: usize = READ_CHUNK;
/// Frames handed on in one turn, so that one busy link does not hold its connection's other streams up.
const FRAMES_PER_TURN: usize = 128;

/// What the behaviour tells the handler.
#[derive(Debug)]
pub(crate) enum Order {
    /// Open our stream.
    Open,
    /// Both streams are there: move frames.
    Start(Start),
    /// Write what is queued, then end our stream; the peer ends the rest.
    Finish,
    /// Drop the streams.
    Drop,
}

/// What a link needs to run.
pub(crate) struct Start {
    pub(super) link: LinkId,
    pub(super) peer: DeviceId,
    pub(super) queue: Arc<Outgoing>,
    pub(super) sink: PollSender<Event>,
}

impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Start").field("link", &self.link).finish_non_exhaustive()
    }
}

/// What the handler tells the behaviour.
#[derive(Debug)]
pub(crate) enum Report {
    /// Our stream is open.
    OutboundOpen,
    /// Our stream could not be opened.
    OutboundFailed { unsupported: bool, reason: String },
    /// Their stream is open.
    InboundOpen,
    /// A stream ended, or the link that ran on both.
    Ended { link: Option<LinkId>, reason: EndReason },
}

/// Why a link or one of its streams ended.
#[derive(Debug, Error)]
pub(crate) enum EndReason {
    #[error("the other side closed it")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the other side sent {0}")]
    Frame(#[from] FrameError),
    #[error("the other side wrote on a stream that is not its own")]
    WrongStream,
    #[error("the other side opened a second stream")]
    SecondStream,
    #[error("our queue was full: frames are taken too slowly")]
    Overflow,
    #[error("nothing was taken for {0} ms while data waited")]
    Stalled(u64),
    #[error("this node is shutting down")]
    Stopped,
}

impl EndReason {
    /// Only a peer that breaks the protocol causes this.
    pub(crate) fn is_violation(&self) -> bool {
        matches!(self, Self::Frame(_) | Self::WrongStream | Self::SecondStream)
    }
}

enum Outbound {
    None,
    Wanted,
    Opening,
    Open(Stream),
}

pub(crate) struct Handler {
    environment: Arc<dyn Environment>,
    stall_timeout: u64,
    outbound: Outbound,
    inbound: Option<Stream>,
    received: BytesMut,
    running: Option<Running>,
    reports: VecDeque<Report>,
    /// A link ended here: the connection is about to be closed and takes no other.
    spent: bool,
}

struct Running {
    start: Start,
    /// Decoded, waiting for room at the owner's.
    undelivered: Option<Bytes>,
    writing: BytesMut,
    unflushed: bool,
    /// End our stream once everything is written.
    finishing: bool,
    stall: Option<Stall>,
}

struct Stall {
    since: Mono,
    timer: BoxFuture<'static, ()>,
}

impl Handler {
    pub(super) fn new(environment: Arc<dyn Environment>, stall_timeout: u64) -> Self {
        Self {
            environment,
            stall_timeout,
            outbound: Outbound::None,
            inbound: None,
            received: BytesMut::new(),
            running: None,
            reports: VecDeque::new(),
            spent: false,
        }
    }

    fn end(&mut self, reason: EndReason) {
        let link = self.running.take().map(|running| running.start.link);
        self.outbound = Outbound::None;
        self.inbound = None;
        self.received = BytesMut::new();
        self.spent |= link.is_some() || reason.is_violation();
        self.reports.push_back(Report::Ended { link, reason });
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Result<(), EndReason> {
        if let Outbound::Open(stream) = &mut self.outbound {
            // Nothing ever comes on our own stream; reading tells when the other side drops it.
            let mut byte = [0; 1];
            match Pin::new(stream).poll_read(cx, &mut byte) {
                Poll::Pending => {}
                Poll::Ready(Ok(0)) => return Err(EndReason::Closed),
                Poll::Ready(Ok(_)) => return Err(EndReason::WrongStream),
                Poll::Ready(Err(error)) => return Err(error.into()),
            }
        }
        match &mut self.running {
            Some(running) => {
                let (Outbound::Open(outbound), Some(inbound)) = (&mut self.outbound, &mut self.inbound)
                else {
                    return Err(EndReason::Closed);
                };
                running.write(outbound, &*self.environment, self.stall_timeout, cx)?;
                running.read(inbound, &mut self.received, cx)
            }
            None => {
                while let Some(inbound) = &mut self.inbound
                    && self.received.len() < READ_AHEAD
                {
                    match read_chunk(inbound, &mut self.received, cx) {
                        Poll::Pending => break,
                        Poll::Ready(result) => result?,
                    }
                }
                Ok(())
            }
        }
    }
}

/// Reads once; the end of the stream is an error.
fn read_chunk(stream: &mut Stream, into: &mut BytesMut, cx: &mut Context<'_>) -> Poll<Result<(), EndReason>> {
    let mut chunk = [0; READ_CHUNK];
    let count = ready!(Pin::new(stream).poll_read(cx, &mut chunk)).map_err(EndReason::Io)?;
    match chunk.get(..count) {
        None | Some([]) => Poll::Ready(Err(EndReason::Closed)),
        Some(bytes) => {
            into.extend_from_slice(bytes);
            Poll::Ready(Ok(()))
        }
    }
}

impl Running {
    fn new(start: Start) -> Self {
        Self {
            start,
            undelivered: None,
            writing: BytesMut::new(),
            unflushed: false,
            finishing: false,
            stall: None,
        }
    }

    fn write(
        &mut self,
        stream: &mut Stream,
        environment: &dyn Environment,
        stall_timeout: u64,
        cx: &mut Context<'_>,
    ) -> Result<(), EndReason> {
        self.start.queue.register(cx.waker());
        if self.start.queue.overflowed() {
            return Err(EndReason::Overflow);
        }
        let mut progress = false;
        let blocked = loop {
            if self.writing.is_empty() {
                self.start.queue.take_into(&mut self.writing, WRITE_BATCH);
            }
            if self.writing.is_empty() {
                if !self.unflushed {
                    if self.finishing && Pin::new(&mut *stream).poll_close(cx)?.is_pending() {
                        break true;
                    }
                    break false;
                }
                match Pin::new(&mut *stream).poll_flush(cx) {
                    Poll::Pending => break true,
                    Poll::Ready(result) => result?,
                }
                progress = true;
                self.unflushed = false;
                // An idle link keeps no buffer.
                self.writing = BytesMut::new();
                continue;
            }
            match Pin::new(&mut *stream).poll_write(cx, &self.writing) {
                Poll::Pending => break true,
                Poll::Ready(Ok(0)) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Poll::Ready(Ok(count)) => {
                    progress = true;
                    self.unflushed = true;
                    self.start.queue.written(count);
                    self.writing.advance(count);
                }
                Poll::Ready(Err(error)) => return Err(error.into()),
            }
        };
        self.watch_stall(blocked, progress, environment, stall_timeout, cx)
    }

    fn watch_stall(
        &mut self,
        blocked: bool,
        progress: bool,
        environment: &dyn Environment,
        timeout: u64,
        cx: &mut Context<'_>,
    ) -> Result<(), EndReason> {
        if !blocked {
            self.stall = None;
            return Ok(());
        }
        let now = environment.mono();
        let stall = self.stall.get_or_insert_with(|| Stall { since: now, timer: environment.sleep(timeout) });
        if progress {
            stall.since = now;
        }
        while stall.timer.poll_unpin(cx).is_ready() {
            let waited = now.since(stall.since);
            if waited >= timeout {
                return Err(EndReason::Stalled(waited));
            }
            stall.timer = environment.sleep(timeout - waited);
        }
        Ok(())
    }

    fn read(
        &mut self,
        stream: &mut Stream,
        received: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> Result<(), EndReason> {
        for _ in 0..FRAMES_PER_TURN {
            if self.undelivered.is_none() {
                self.undelivered = frame::decode(received)?;
            }
            let Some(bytes) = self.undelivered.take() else {
                match read_chunk(stream, received, cx) {
                    Poll::Pending => {
                        if received.is_empty() {
                            // An idle link keeps no buffer.
                            *received = BytesMut::new();
                        }
                        return Ok(());
                    }
                    Poll::Ready(result) => result?,
                }
                continue;
            };
            match self.start.sink.poll_reserve(cx) {
                // The owner is slow: read no further until it has taken what it has.
                Poll::Pending => {
                    self.undelivered = Some(bytes);
                    return Ok(());
                }
                Poll::Ready(Ok(())) => {
                    let Start { peer, link, .. } = self.start;
                    let event = Event::Frame { peer, link, bytes };
                    self.start.sink.send_item(event).map_err(|_| EndReason::Stopped)?;
                }
                Poll::Ready(Err(_)) => return Err(EndReason::Stopped),
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Order;
    type ToBehaviour = Report;
    type InboundProtocol = ReadyUpgrade<libp2p::StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<libp2p::StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ()).with_timeout(NEGOTIATION_TIMEOUT)
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        loop {
            if let Some(report) = self.reports.pop_front() {
                return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(report));
            }
            if matches!(self.outbound, Outbound::Wanted) {
                self.outbound = Outbound::Opening;
                let protocol = self.listen_protocol();
                return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
            }
            match self.drive(cx) {
                Ok(()) => return Poll::Pending,
                Err(reason) => self.end(reason),
            }
        }
    }

    fn on_behaviour_event(&mut self, order: Order) {
        match order {
            Order::Open if self.spent => {}
            Order::Open => {
                if matches!(self.outbound, Outbound::None) {
                    self.outbound = Outbound::Wanted;
                }
            }
            Order::Start(start) => {
                let complete = matches!(self.outbound, Outbound::Open(_)) && self.inbound.is_some();
                let link = start.link;
                if complete {
                    self.running = Some(Running::new(start));
                } else {
                    // A stream ended while this order was on its way.
                    self.spent = true;
                    self.reports.push_back(Report::Ended { link: Some(link), reason: EndReason::Closed });
                }
            }
            Order::Finish => {
                if let Some(running) = &mut self.running {
                    running.finishing = true;
                }
            }
            Order::Drop => {
                self.running = None;
                self.outbound = Outbound::None;
                self.inbound = None;
                self.received = BytesMut::new();
            }
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                if self.spent {
                    return;
                }
                if self.running.is_some() {
                    self.end(EndReason::SecondStream);
                    return;
                }
                // Before the link is up a peer may start over.
                self.received.clear();
                self.inbound = Some(protocol);
                self.reports.push_back(Report::InboundOpen);
            }
            // If it is no longer `Opening`, the order to drop it came first.
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. })
                if matches!(self.outbound, Outbound::Opening) && !self.spent =>
            {
                self.outbound = Outbound::Open(protocol);
                self.reports.push_back(Report::OutboundOpen);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                if matches!(self.outbound, Outbound::Opening) {
                    self.outbound = Outbound::None;
                    let (unsupported, reason) = match error {
                        StreamUpgradeError::NegotiationFailed => {
                            (true, "it does not speak the protocol".into())
                        }
                        StreamUpgradeError::Timeout => (false, "it did not answer in time".into()),
                        StreamUpgradeError::Io(error) => (false, error.to_string()),
                        StreamUpgradeError::Apply(never) => match never {},
                    };
                    self.reports.push_back(Report::OutboundFailed { unsupported, reason });
                }
            }
            _ => {}
        }
    }
}
