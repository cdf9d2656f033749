//! Connections that are kept, and made again when the server comes back.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tracing::{info, warn};

use super::error::Failure;
use super::session::{Connector, Session};

/// After a failure the next connection is tried so much later,
const RETRY_MIN: u64 = 100;
/// twice as much after each further one, up to this.
const RETRY_MAX: u64 = 2_000;

/// Up to so many connections.
pub(super) struct Pool {
    connector: Connector,
    permits: Semaphore,
    state: Mutex<State>,
    is_down: Notify,
}

#[derive(Default)]
struct State {
    idle: Vec<Session>,
    /// Raised when a connection was lost: those made before are not used again.
    generation: u64,
    /// Why no connection can be made; [`Pool::revive`] tries.
    down: Option<Failure>,
}

/// A connection in use. It goes back to the pool unless it was lost.
pub(super) struct Lease<'a> {
    pool: &'a Pool,
    session: Option<Session>,
    generation: u64,
    _permit: SemaphorePermit<'a>,
}

/// How long to wait before the next try.
pub(super) fn pause(failures: u32) -> u64 {
    RETRY_MIN.saturating_mul(1 << failures.min(16)).min(RETRY_MAX)
}

impl Pool {
    pub(super) fn new(connector: Connector, size: usize) -> Self {
        Self {
            connector,
            permits: Semaphore::new(size.max(1)),
            state: Mutex::new(State::default()),
            is_down: Notify::new(),
        }
    }

    pub(super) const fn connector(&self) -> &Connector {
        &self.connector
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection. While the server cannot be reached this fails at once.
    pub(super) async fn get(&self) -> Result<Lease<'_>, Failure> {
        let permit = self.permits.acquire().await.map_err(|_| Failure::Closed)?;
        let generation = {
            let mut state = self.state();
            if let Some(failure) = &state.down {
                return Err(failure.clone());
            }
            while let Some(session) = state.idle.pop() {
                if !session.client.is_closed() {
                    let generation = state.generation;
                    return Ok(Lease { pool: self, session: Some(session), generation, _permit: permit });
                }
            }
            state.generation
        };
        match self.connector.session().await {
            Ok(session) => Ok(Lease { pool: self, session: Some(session), generation, _permit: permit }),
            Err(failure) => {
                warn!(
                    "the database cannot be used: {}",
                    kith_store::mailbox::MailboxStoreError::from(failure.clone())
                );
                self.state().down = Some(failure.clone());
                self.is_down.notify_one();
                Err(failure)
            }
        }
    }

    /// Tries again and again while no connection can be made. Never ends.
    pub(super) async fn revive(&self) {
        loop {
            self.is_down.notified().await;
            let mut failures = 0;
            while self.state().down.is_some() {
                self.connector.environment.sleep(pause(failures)).await;
                failures = failures.saturating_add(1);
                match self.connector.session().await {
                    Ok(session) => {
                        let mut state = self.state();
                        state.idle.push(session);
                        state.down = None;
                        info!("the database answers again");
                    }
                    // it may be another reason by now
                    Err(failure) => self.state().down = Some(failure),
                }
            }
        }
    }

    /// Connections are made anew, and checked, before anything else is done.
    pub(super) fn renew(&self) {
        let mut state = self.state();
        state.generation = state.generation.wrapping_add(1);
        state.idle.clear();
    }

    /// No connection is given out any more.
    pub(super) fn close(&self) {
        self.permits.close();
        self.state().idle.clear();
    }
}

impl Lease<'_> {
    pub(super) fn session(&self) -> Result<&Session, Failure> {
        self.session.as_ref().ok_or(Failure::Closed)
    }

    /// Gives the connection back. If it was lost, it is not used again, nor are those that were made before it.
    pub(super) fn done<T>(mut self, done: Result<T, Failure>) -> Result<T, Failure> {
        if matches!(done, Err(Failure::Lost(_))) {
            self.session = None;
            let mut state = self.pool.state();
            if state.generation == self.generation {
                state.generation = state.generation.wrapping_add(1);
                state.idle.clear();
            }
        }
        done
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        let mut state = self.pool.state();
        if state.generation == self.generation
            && !session.client.is_closed()
            && !self.pool.permits.is_closed()
        {
            state.idle.push(session);
        }
    }
}
