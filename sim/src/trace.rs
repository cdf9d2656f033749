//! What happened, line by line, and its hash.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::entropy::{OUTSIDE, mix};
use tokio::time::Instant;

/// Nanoseconds of virtual time in a second,
pub(crate) const SECOND: u64 = 1_000_000_000;
/// and in a millisecond.
pub(crate) const MILLI: u64 = 1_000_000;

/// Every event of a run in order. The hash covers all of them, whether or not a file is written.
pub(crate) struct Trace {
    start: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    hash: u64,
    lines: u64,
    line: String,
    file: Option<BufWriter<File>>,
    failed: Option<io::Error>,
    last: VecDeque<String>,
    keep: usize,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("lines", &self.lines()).finish_non_exhaustive()
    }
}

impl Trace {
    /// A trace that begins now, also written to a file if one is named. So many of its last lines are kept.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub(crate) fn new(path: Option<&Path>, last: usize) -> io::Result<Self> {
        let file = path.map(File::create).transpose()?.map(BufWriter::new);
        Ok(Self {
            start: Instant::now(),
            inner: Mutex::new(Inner {
                hash: 0,
                lines: 0,
                line: String::new(),
                file,
                failed: None,
                last: VecDeque::new(),
                keep: last,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The instant at which the run began.
    pub(crate) fn start(&self) -> Instant {
        self.start
    }

    /// Virtual nanoseconds since the run began.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(Instant::now().duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Notes an event of a host, or of the simulation itself ([`OUTSIDE`]).
    pub(crate) fn note(&self, host: u32, event: fmt::Arguments<'_>) {
        let now = self.now();
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.line.clear();
        let time = Seconds(now);
        // writing to a string cannot fail
        let _ = match host {
            OUTSIDE => writeln!(inner.line, "{time} - {event}"),
            host => writeln!(inner.line, "{time} {host} {event}"),
        };
        inner.lines += 1;
        for chunk in inner.line.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word.get_mut(..chunk.len()).into_iter().for_each(|part| part.copy_from_slice(chunk));
            inner.hash = mix(inner.hash ^ u64::from_le_bytes(word)).wrapping_add(chunk.len() as u64);
        }
        if inner.keep > 0 {
            if inner.last.len() >= inner.keep {
                inner.last.pop_front();
            }
            inner.last.push_back(inner.line.trim_end().to_owned());
        }
        if let Some(file) = &mut inner.file
            && let Err(error) = file.write_all(inner.line.as_bytes())
        {
            inner.failed.get_or_insert(error);
            inner.file = None;
        }
    }

    /// The lines kept, oldest first.
    pub(crate) fn last(&self) -> Vec<String> {
        self.lock().last.iter().cloned().collect()
    }

    /// Hash of all lines so far.
    pub(crate) fn hash(&self) -> u64 {
        self.lock().hash
    }

    /// Number of lines so far.
    pub(crate) fn lines(&self) -> u64 {
        self.lock().lines
    }

    /// Writes what is buffered.
    ///
    /// # Errors
    /// If something could not be written, now or earlier.
    pub(crate) fn finish(&self) -> io::Result<()> {
        let mut inner = self.lock();
        if let Some(error) = inner.failed.take() {
            return Err(error);
        }
        inner.file.as_mut().map_or(Ok(()), io::Write::flush)
    }
}

/// Nanoseconds, shown as seconds.
#[derive(Clone, Copy)]
pub(crate) struct Seconds(pub(crate) u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0 / SECOND, self.0 % SECOND)
    }
}
