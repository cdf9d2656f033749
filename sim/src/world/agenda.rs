//! What is to be done when, and what tasks have come to meanwhile.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::{Mutex, PoisonError};

use kith_node::{Node, StartError};
use kith_protocol::EntryId;
use kith_relay::Relay;
use tokio::sync::Notify;

/// Something the simulation does at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Action {
    /// A node or relay starts.
    Boot(u32),
    /// Two people meet.
    Meet(usize),
    /// Somebody writes.
    Write,
    /// Somebody reads what came.
    Read { host: u32, from: u32, entry: EntryId },
    /// Those whose turn it is come, or go.
    Turn { slot: u64, on: bool },
    /// A node goes by itself,
    Leave(u32),
    /// and comes back.
    Return(u32),
    /// A fault begins; for the so-manieth time.
    Fault { fault: usize, round: u32 },
    /// It ends.
    Mend(usize),
    /// The store of some node is looked at.
    Audit,
    /// Figures for the timeline.
    Sample,
}

/// Actions by time, those of one time in the order in which they were planned.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    actions: BinaryHeap<Reverse<(u64, u64, Action)>>,
    planned: u64,
}

impl Agenda {
    pub(super) fn plan(&mut self, at: u64, action: Action) {
        self.planned += 1;
        self.actions.push(Reverse((at, self.planned, action)));
    }

    pub(super) fn next(&self) -> Option<u64> {
        self.actions.peek().map(|Reverse((at, ..))| *at)
    }

    pub(super) fn due(&mut self, now: u64) -> Option<Action> {
        if self.next()? > now {
            return None;
        }
        self.actions.pop().map(|Reverse((.., action))| action)
    }

    pub(super) fn forget(&mut self, mut what: impl FnMut(&Action) -> bool) {
        self.actions.retain(|Reverse((.., action))| !what(action));
    }
}

/// What tasks have come to.
#[derive(Debug)]
pub(super) enum Word {
    /// A node runs, or could not start.
    Booted { host: u32, life: u32, result: Box<Result<Node, StartError>> },
    /// A node or relay was ended between two outputs.
    Crashed { host: u32, life: u32 },
    /// A node or relay has stopped in order, or would not.
    Stopped { host: u32, life: u32, stopped: bool },
    /// A relay runs, or could not start.
    RelayBooted { host: u32, life: u32, result: Result<Relay, String> },
    /// An invite was made.
    Invited { pair: usize, uri: String },
    /// Two people have exchanged an invite, or could not.
    Met { pair: usize, met: bool },
    /// A message was taken.
    Wrote { host: u32, entry: EntryId },
}

/// Where tasks leave their words.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    words: Mutex<VecDeque<Word>>,
    more: Notify,
}

impl Mailbox {
    pub(super) fn put(&self, word: Word) {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).push_back(word);
        self.more.notify_one();
    }

    pub(super) fn take(&self) -> Option<Word> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    pub(super) async fn more(&self) {
        self.more.notified().await;
    }
}
