//! The promise behind a commit: awaited or waited for, without a runtime.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use thiserror::Error;

/// Bytes of a megabyte, as people are told.
const MB: u64 = 1024 * 1024;

/// Why a commit was refused. Nothing of it is stored, and nothing that was committed after it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The disk is nearly full.
    #[error("only {} MB are free where the store lies, {} MB must stay free: free some space", free / MB, needed / MB)]
    NoSpace {
        /// Bytes free.
        free: u64,
        /// Bytes that must stay free.
        needed: u64,
    },
    /// The store would outgrow its quota.
    #[error(
        "the store takes {used} of {quota} bytes: raise the quota, or delete and run `kith store compact`"
    )]
    Quota {
        /// Bytes used.
        used: u64,
        /// The quota.
        quota: u64,
    },
    /// More than one commit may hold.
    #[error("a commit of {rows} rows and {bytes} bytes is too large")]
    TooLarge {
        /// Its rows.
        rows: usize,
        /// Their encoded bytes.
        bytes: usize,
    },
    /// The engine failed. The store must be opened anew.
    #[error("the store failed: {0}; restart, and run `kith store check`")]
    Failed(String),
    /// An earlier commit was refused, and the order must not have holes.
    #[error("not stored, since an earlier commit failed: {0}")]
    Halted(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl CommitError {
    /// There is no room: [`Store::resume`](crate::Store::resume) takes commits again once there is. Nothing of what was
    /// refused is stored.
    #[must_use]
    pub const fn is_space(&self) -> bool {
        matches!(self, Self::NoSpace { .. } | Self::Quota { .. })
    }
}

#[derive(Debug, Default)]
struct State {
    result: Option<Result<(), CommitError>>,
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    done: Condvar,
}

/// A commit under way. Dropping it does not take the commit back.
#[derive(Debug)]
#[must_use = "until the ticket is redeemed nothing is known to be on disk"]
pub struct CommitTicket {
    shared: Arc<Shared>,
}

/// The other end of a ticket; answers [`CommitError::Closed`] if it is dropped unanswered.
#[derive(Debug)]
pub(crate) struct Promise {
    shared: Option<Arc<Shared>>,
}

pub(crate) fn promise() -> (Promise, CommitTicket) {
    let shared = Arc::new(Shared::default());
    (Promise { shared: Some(Arc::clone(&shared)) }, CommitTicket { shared })
}

impl CommitTicket {
    /// The result, if it is known.
    #[must_use]
    pub fn try_result(&self) -> Option<Result<(), CommitError>> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).result.clone()
    }

    /// Blocks until the commit is on disk or refused.
    ///
    /// # Errors
    /// [`CommitError`] if it is refused.
    pub fn wait(self) -> Result<(), CommitError> {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(result) = &state.result {
                return result.clone();
            }
            let (next, timeout) = self
                .shared
                .done
                .wait_timeout(state, Duration::from_secs(30))
                .unwrap_or_else(PoisonError::into_inner);
            state = next;
            if timeout.timed_out() && state.result.is_none() {
                tracing::error!("a commit takes over 30 s; the disk or the engine hangs");
            }
        }
    }
}

impl Future for CommitTicket {
    type Output = Result<(), CommitError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &state.result {
            Some(result) => Poll::Ready(result.clone()),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Promise {
    pub(crate) fn answer(mut self, result: Result<(), CommitError>) {
        self.settle(result);
    }

    fn settle(&mut self, result: Result<(), CommitError>) {
        let Some(shared) = self.shared.take() else { return };
        let waker = {
            let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.result = Some(result);
            state.waker.take()
        };
        shared.done.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.settle(Err(CommitError::Closed));
    }
}
