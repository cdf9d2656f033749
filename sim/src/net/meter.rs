//! What the bytes are for: streams are counted by the protocol their first bytes ask for.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox};

/// Bytes in which the protocol must have been named.
const HEAD: usize = 512;
/// A name that is longer is not one of ours.
const NAME: usize = 100;

/// Bytes sent in streams, by what they are for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Purposes(Arc<Mutex<BTreeMap<String, u64>>>);

impl Purposes {
    fn add(&self, purpose: &str, bytes: u64) {
        let mut purposes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match purposes.get_mut(purpose) {
            Some(sum) => *sum += bytes,
            None => {
                purposes.insert(purpose.to_owned(), bytes);
            }
        }
    }

    pub(crate) fn totals(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The word for a protocol in reports.
fn purpose(protocol: &str) -> &str {
    let known = [
        ("/kith/link/", "link"),
        ("/kith/kad/", "directory"),
        ("/ipfs/id/", "identify"),
        ("/ipfs/ping/", "ping"),
        ("/meshsub/", "gossip"),
        ("/floodsub/", "gossip"),
        ("/libp2p/autonat/", "autonat"),
        ("/sim/kad/", "directory"),
    ];
    known.iter().find(|(start, _)| protocol.starts_with(start)).map_or(protocol, |(_, word)| *word)
}

/// A multiplexer whose streams are counted.
pub(super) struct Metered {
    inner: StreamMuxerBox,
    purposes: Purposes,
}

impl Metered {
    pub(super) const fn new(inner: StreamMuxerBox, purposes: Purposes) -> Self {
        Self { inner, purposes }
    }

    fn wrap(&self, inner: SubstreamBox, opened: bool) -> MeteredStream {
        MeteredStream {
            inner,
            opened,
            head: Some(Vec::new()),
            purpose: None,
            early: 0,
            purposes: self.purposes.clone(),
        }
    }
}

impl StreamMuxer for Metered {
    type Substream = MeteredStream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<MeteredStream>> {
        Pin::new(&mut self.inner).poll_inbound(cx).map_ok(|stream| self.wrap(stream, false))
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<MeteredStream>> {
        Pin::new(&mut self.inner).poll_outbound(cx).map_ok(|stream| self.wrap(stream, true))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

/// A counted stream.
pub(super) struct MeteredStream {
    inner: SubstreamBox,
    /// We opened it: the protocol is named in what we write, else in what we read.
    opened: bool,
    /// The first bytes of that direction, until the protocol is known.
    head: Option<Vec<u8>>,
    purpose: Option<String>,
    /// Bytes written before it was known.
    early: u64,
    purposes: Purposes,
}

impl MeteredStream {
    fn sniff(&mut self, bytes: &[u8]) {
        let Some(head) = &mut self.head else { return };
        head.extend(bytes.iter().take(HEAD - head.len().min(HEAD)));
        let full = head.len() >= HEAD;
        let (name, ended) = named(head);
        if let Some(name) = name {
            self.purpose = Some(purpose(name).to_owned());
        }
        if ended || full {
            self.head = None;
        }
    }

    fn count(&mut self, bytes: usize) {
        let sum = self.early + bytes as u64;
        match &self.purpose {
            Some(purpose) => {
                self.purposes.add(purpose, sum);
                self.early = 0;
            }
            None => self.early = sum,
        }
    }
}

impl Drop for MeteredStream {
    fn drop(&mut self) {
        if self.early > 0 {
            self.purposes.add("unknown", self.early);
        }
    }
}

/// The protocol asked for last in a negotiation, and whether what follows is no negotiation any more.
fn named(mut bytes: &[u8]) -> (Option<&str>, bool) {
    let mut name = None;
    loop {
        let Some((&length, rest)) = bytes.split_first() else { return (name, false) };
        let length = usize::from(length);
        if length == 0 || length > NAME {
            return (name, true);
        }
        let Some((message, rest)) = rest.split_at_checked(length) else { return (name, false) };
        let line = message.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok());
        match line {
            Some(line) if line.starts_with("/multistream/") => {}
            Some(line) if line.starts_with('/') => name = Some(line),
            _ => return (name, true),
        }
        bytes = rest;
    }
}

impl AsyncRead for MeteredStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_read(cx, bytes);
        if let Poll::Ready(Ok(n)) = result
            && !self.opened
            && self.head.is_some()
            && let Some(read) = bytes.get(..n)
        {
            self.sniff(read);
        }
        result
    }
}

impl AsyncWrite for MeteredStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if let Poll::Ready(Ok(n)) = result {
            if self.opened
                && self.head.is_some()
                && let Some(written) = bytes.get(..n)
            {
                self.sniff(written);
            }
            self.count(n);
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_is_the_last_one_asked_for() {
        let head = b"\x13/multistream/1.0.0\n\x0d/kith/link/1\n\x05hello";
        assert_eq!(named(head), (Some("/kith/link/1"), true));
        let second = b"\x13/multistream/1.0.0\n\x07/a/b/1\n\x0d/kith/link/1\n";
        assert_eq!(named(second), (Some("/kith/link/1"), false));
        assert_eq!(named(b"\x13/multistream/1."), (None, false));
        assert_eq!(named(b""), (None, false));
        assert_eq!(purpose("/meshsub/1.2.0"), "gossip");
        assert_eq!(purpose("/other/1"), "/other/1");
    }
}
