//! What waits to be written, per link. Senders push from any task and wake the connection's own task directly, so a
//! frame does not travel through the Swarm's task.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use futures::task::AtomicWaker;
use kith_protocol::engine::LinkId;
use kith_protocol::limits;

use super::frame;
use crate::config::Limits;
use crate::handle::SendError;

/// The links frames can be sent on.
#[derive(Clone)]
pub(crate) struct Links {
    map: Arc<Mutex<HashMap<LinkId, Arc<Outgoing>>>>,
    /// Bytes in all queues.
    total: Arc<AtomicUsize>,
    max_frames: usize,
    max_bytes: usize,
}

/// The queue of one link.
pub(crate) struct Outgoing {
    queue: Mutex<Queue>,
    waker: AtomicWaker,
    total: Arc<AtomicUsize>,
    max_frames: usize,
    max_bytes: usize,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    /// Encoded bytes of all frames the connection has not taken yet, those in the write buffer included.
    bytes: usize,
    overflowed: bool,
    closed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds one of these locks; the data is sound even if some day one did.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Links {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            map: Arc::default(),
            total: Arc::default(),
            max_frames: limits.queue_frames,
            max_bytes: limits.queue_bytes,
        }
    }

    pub(crate) fn send(&self, link: LinkId, frame: Bytes) -> Result<(), SendError> {
        if frame.is_empty() || frame.len() > limits::FRAME {
            return Err(SendError::Size(frame.len()));
        }
        let outgoing = lock(&self.map).get(&link).cloned().ok_or(SendError::Gone)?;
        outgoing.push(frame)
    }

    /// Bytes that wait on a link; 0 if it is gone.
    pub(crate) fn queued(&self, link: LinkId) -> usize {
        lock(&self.map).get(&link).map_or(0, |outgoing| lock(&outgoing.queue).bytes)
    }

    /// Bytes that wait on all links.
    pub(crate) fn bytes(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    pub(super) fn insert(&self, link: LinkId) -> Arc<Outgoing> {
        let outgoing = Arc::new(Outgoing {
            queue: Mutex::default(),
            waker: AtomicWaker::new(),
            total: Arc::clone(&self.total),
            max_frames: self.max_frames,
            max_bytes: self.max_bytes,
        });
        lock(&self.map).insert(link, Arc::clone(&outgoing));
        outgoing
    }

    pub(super) fn remove(&self, link: LinkId) {
        let removed = lock(&self.map).remove(&link);
        if let Some(outgoing) = removed {
            let mut queue = lock(&outgoing.queue);
            queue.closed = true;
            queue.frames.clear();
            self.total.fetch_sub(queue.bytes, Ordering::Relaxed);
            queue.bytes = 0;
        }
    }
}

impl Outgoing {
    fn push(&self, frame: Bytes) -> Result<(), SendError> {
        let result = {
            let mut queue = lock(&self.queue);
            let len = frame::encoded_len(frame.len());
            if queue.closed {
                return Err(SendError::Gone);
            } else if queue.overflowed {
                return Err(SendError::Overflow);
            } else if queue.frames.len() >= self.max_frames || queue.bytes + len > self.max_bytes {
                queue.overflowed = true;
                Err(SendError::Overflow)
            } else {
                queue.bytes += len;
                self.total.fetch_add(len, Ordering::Relaxed);
                queue.frames.push_back(frame);
                Ok(())
            }
        };
        self.waker.wake();
        result
    }

    /// Has `waker` woken by the next push.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    pub(super) fn overflowed(&self) -> bool {
        lock(&self.queue).overflowed
    }

    /// Moves whole frames into the buffer until it holds at least `target` bytes.
    pub(super) fn take_into(&self, buffer: &mut BytesMut, target: usize) {
        let mut queue = lock(&self.queue);
        while buffer.len() < target {
            let Some(frame) = queue.frames.pop_front() else { break };
            frame::encode(&frame, buffer);
        }
    }

    /// The connection has taken so many bytes.
    pub(super) fn written(&self, bytes: usize) {
        let mut queue = lock(&self.queue);
        let written = bytes.min(queue.bytes);
        queue.bytes -= written;
        self.total.fetch_sub(written, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(frames: usize, bytes: usize) -> Links {
        Links::new(&Limits { queue_frames: frames, queue_bytes: bytes, ..Limits::default() })
    }

    #[test]
    fn frames_on_an_unknown_link_or_of_a_wrong_size_are_refused() {
        let links = links(4, 1000);
        assert_eq!(links.send(LinkId(1), Bytes::from_static(b"x")), Err(SendError::Gone));
        links.insert(LinkId(1));
        assert_eq!(links.send(LinkId(1), Bytes::new()), Err(SendError::Size(0)));
        let long = Bytes::from(vec![0; limits::FRAME + 1]);
        assert_eq!(links.send(LinkId(1), long), Err(SendError::Size(limits::FRAME + 1)));
    }

    #[test]
    fn overflow_sticks_by_frames_and_by_bytes() {
        let links = links(2, 1000);
        let outgoing = links.insert(LinkId(1));
        for _ in 0..2 {
            links.send(LinkId(1), Bytes::from_static(b"x")).unwrap();
        }
        assert_eq!(links.send(LinkId(1), Bytes::from_static(b"x")), Err(SendError::Overflow));
        assert!(outgoing.overflowed());
        links.insert(LinkId(2));
        assert_eq!(links.send(LinkId(2), Bytes::from(vec![0; 1000])), Err(SendError::Overflow));
    }

    #[test]
    fn bytes_count_until_they_are_written() {
        let links = links(8, 1000);
        let outgoing = links.insert(LinkId(1));
        links.send(LinkId(1), Bytes::from(vec![0; 100])).unwrap();
        let mut buffer = BytesMut::new();
        outgoing.take_into(&mut buffer, 1000);
        assert_eq!((buffer.len(), lock(&outgoing.queue).bytes), (101, 101));
        assert_eq!((links.queued(LinkId(1)), links.bytes()), (101, 101));
        outgoing.written(101);
        assert_eq!((links.queued(LinkId(1)), links.bytes()), (0, 0));
        links.send(LinkId(1), Bytes::from(vec![0; 100])).unwrap();
        links.remove(LinkId(1));
        assert_eq!((links.queued(LinkId(1)), links.bytes()), (0, 0));
    }

    #[test]
    fn a_removed_link_takes_nothing() {
        let links = links(8, 1000);
        let outgoing = links.insert(LinkId(1));
        links.remove(LinkId(1));
        assert_eq!(links.send(LinkId(1), Bytes::from_static(b"x")), Err(SendError::Gone));
        assert_eq!(outgoing.push(Bytes::from_static(b"x")), Err(SendError::Gone));
    }
}
