//! Connections: two ends, ordered bytes between them, a window each way.

use std::collections::VecDeque;
use std::io;
use std::task::Waker;

/// Bytes under way or unread in one direction, above which the writer waits.
pub(super) const WINDOW: usize = 256 * 1024;

/// Which of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The one that dialled.
    Dialler = 0,
    /// The one that was dialled.
    Listener = 1,
}

impl Side {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Listener,
            Self::Listener => Self::Dialler,
        }
    }
}

/// What arrives at an end.
#[derive(Debug)]
pub(super) enum Parcel {
    Data(Vec<u8>),
    End,
}

/// One end, with what is on its way to it.
#[derive(Debug)]
pub(super) struct End {
    pub(super) host: u32,
    /// Arrived and unread.
    pub(super) inbox: VecDeque<Vec<u8>>,
    /// Read of the first of them.
    pub(super) offset: usize,
    /// Written by this end and not yet read by the other.
    pub(super) outstanding: usize,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// Nothing arrives here before this.
    pub(super) last_arrival: u64,
    /// When the last of what is on the last mile will be here.
    pub(super) last_delivery: u64,
    /// What cannot get here at the moment, in order, and how often that was tried.
    pub(super) held: VecDeque<Parcel>,
    pub(super) attempts: u32,
    pub(super) held_since: u64,
    /// This end said that it writes no more.
    pub(super) finished: bool,
    /// The other end said so.
    pub(super) ended: bool,
    pub(super) failed: Option<io::ErrorKind>,
    /// The program let go of it, or is gone.
    pub(super) dropped: bool,
}

impl End {
    pub(super) const fn new(host: u32) -> Self {
        Self {
            host,
            inbox: VecDeque::new(),
            offset: 0,
            outstanding: 0,
            reader: None,
            writer: None,
            last_arrival: 0,
            last_delivery: 0,
            held: VecDeque::new(),
            attempts: 0,
            held_since: 0,
            finished: false,
            ended: false,
            failed: None,
            dropped: false,
        }
    }

    /// Fails this end; whom to wake.
    pub(super) fn fail(&mut self, kind: io::ErrorKind) -> [Option<Waker>; 2] {
        self.failed.get_or_insert(kind);
        [self.reader.take(), self.writer.take()]
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    ends: [End; 2],
    /// When bytes last passed a router.
    pub(super) used: u64,
}

impl Connection {
    pub(super) const fn new(dialler: End, listener: End, now: u64) -> Self {
        Self { ends: [dialler, listener], used: now }
    }

    pub(super) const fn end(&mut self, side: Side) -> &mut End {
        let [dialler, listener] = &mut self.ends;
        match side {
            Side::Dialler => dialler,
            Side::Listener => listener,
        }
    }

    pub(super) const fn host(&self, side: Side) -> u32 {
        let [dialler, listener] = &self.ends;
        match side {
            Side::Dialler => dialler.host,
            Side::Listener => listener.host,
        }
    }

    /// Nobody holds an end any more, and nothing is under way that anybody would miss.
    pub(super) fn is_over(&self) -> bool {
        self.ends.iter().all(|end| end.dropped)
    }
}
