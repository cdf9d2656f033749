//! The event log as a stream: first what is stored, then what comes, with no gap and nothing twice.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::stream::{BoxStream, Stream, StreamExt};
use kith_protocol::EntryId;
use kith_protocol::engine::Transient;
use kith_protocol::record::{Event, EventBody};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::error::Error;
use super::reads::Reads;
use super::running::Clock;
use super::view::{EventBodyView, EventView, Status};
use crate::runtime::Live;

/// Events read from the store at a time.
const PAGE: usize = 256;

/// What happens at a node, in order. It ends when the node stops or the connection to it is lost.
pub struct EventStream(BoxStream<'static, EventView>);

impl EventStream {
    pub(crate) fn new(stream: impl Stream<Item = EventView> + Send + 'static) -> Self {
        Self(stream.boxed())
    }

    /// The next event, or `None` once the node is gone.
    pub async fn next(&mut self) -> Option<EventView> {
        self.0.next().await
    }
}

impl Stream for EventStream {
    type Item = EventView;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<EventView>> {
        self.0.poll_next_unpin(cx)
    }
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EventStream(..)")
    }
}

pub(crate) fn is_status_of(event: &Event, id: EntryId) -> bool {
    matches!(&event.body, EventBody::Status { entry, .. } if *entry == id)
}

/// What comes while the node lives.
pub(crate) struct Tail {
    pub(crate) live: broadcast::Receiver<Live>,
    /// Handles keep the sending side open, so the end of the node is told apart.
    pub(crate) ended: CancellationToken,
}

impl Tail {
    async fn next(&mut self) -> Result<Live, RecvError> {
        tokio::select! {
            // what was said before the end is still told
            biased;
            live = self.live.recv() => live,
            () = self.ended.cancelled() => Err(RecvError::Closed),
        }
    }
}

/// Follows the log after a cursor. The receiver was subscribed before this call, so nothing falls between.
pub(crate) fn follow(
    reads: Reads,
    live: Tail,
    clock: Arc<dyn Clock>,
    after: Option<u64>,
) -> Result<EventStream, Error> {
    let counters = reads.counters()?;
    // cursors of events handed out so far: first_event ..= newest
    let newest = counters.next_event.saturating_sub(1);
    let mut ready = VecDeque::new();
    let (cursor, behind) = match after {
        None => (newest, false),
        Some(after) if after > newest || after.saturating_add(1) < counters.first_event => {
            ready.push_back(EventView {
                cursor: newest,
                time: clock.wall().into(),
                body: EventBodyView::Resync {},
            });
            (newest, false)
        }
        Some(after) => (after, after < newest),
    };
    let follower = Follower { reads, live, clock, cursor, behind, ready };
    Ok(EventStream::new(futures::stream::unfold(follower, |mut follower| async move {
        follower.next().await.map(|event| (event, follower))
    })))
}

struct Follower {
    reads: Reads,
    live: Tail,
    clock: Arc<dyn Clock>,
    /// The last event given out.
    cursor: u64,
    /// The store holds events after the cursor that the live side will not bring.
    behind: bool,
    ready: VecDeque<EventView>,
}

impl Follower {
    async fn next(&mut self) -> Option<EventView> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.behind {
                self.read_page();
                continue;
            }
            match self.live.next().await {
                Ok(Live::Stored(event)) => self.take(&event),
                Ok(Live::Transient(transient)) => {
                    let Some(body) = self.show_transient(&transient) else { continue };
                    return Some(EventView { cursor: self.cursor, time: self.clock.wall().into(), body });
                }
                // too slow for the live side: the store has it all
                Err(RecvError::Lagged(_)) => self.behind = true,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn read_page(&mut self) {
        match self.reads.events(self.cursor, PAGE) {
            Ok(events) => {
                self.behind = events.len() >= PAGE;
                for event in events {
                    self.take(&event);
                }
            }
            Err(error) => {
                // a damaged stretch of the log must not end the chat: tell the follower to fetch anew
                tracing::warn!(%error, "stored events cannot be read");
                self.behind = false;
                let newest = self
                    .reads
                    .counters()
                    .map_or(self.cursor, |counters| counters.next_event.saturating_sub(1).max(self.cursor));
                self.cursor = newest;
                self.ready.push_back(EventView {
                    cursor: newest,
                    time: self.clock.wall().into(),
                    body: EventBodyView::Resync {},
                });
            }
        }
    }

    fn take(&mut self, event: &Event) {
        if event.cursor <= self.cursor {
            return; // read from the store before the live side brought it
        }
        self.cursor = event.cursor;
        self.ready.extend(show_event(&self.reads, event));
    }

    fn show_transient(&self, transient: &Transient) -> Option<EventBodyView> {
        Some(match transient {
            Transient::Online { account, online } => EventBodyView::Online {
                account: *account,
                name: self.reads.name(*account).unwrap_or_else(|_| account.short()),
                online: *online,
            },
            Transient::Typing { conversation, account, active } => {
                EventBodyView::Typing { conversation: *conversation, account: *account, active: *active }
            }
            // for whoever asks how the node stands
            Transient::Clock(_) => return None,
        })
    }
}

/// A stored event with what it speaks of as it stands now; nothing if that is gone.
fn show_event(reads: &Reads, event: &Event) -> Option<EventView> {
    let body = match &event.body {
        EventBody::Message { entry, .. } => {
            EventBodyView::Message { message: Box::new(reads.message(*entry).ok()?) }
        }
        EventBody::Changed { entry, .. } => {
            EventBodyView::Changed { message: Box::new(reads.message(*entry).ok()?) }
        }
        EventBody::Status { conversation, entry, rank, custody } => EventBodyView::Status {
            id: *entry,
            conversation: *conversation,
            status: Status::from(*rank),
            custody: (*custody).into(),
        },
        EventBody::Read { conversation, unread } => {
            EventBodyView::Read { conversation: *conversation, unread: *unread }
        }
        EventBody::Contact { account, .. } => {
            EventBodyView::Contact { contact: Box::new(reads.contact(*account).ok()?) }
        }
        EventBody::Notice { account, device, entry, code, text } => EventBodyView::Notice {
            code: code.clone(),
            text: text.clone(),
            account: *account,
            device: *device,
            id: *entry,
        },
    };
    Some(EventView { cursor: event.cursor, time: event.at.into(), body })
}
