//! Sockets that have not shown the token yet: few, for a short time, and the oldest goes when another comes.
//!
//! Any program of this machine can connect. Without a bound, some hundred sockets that say nothing would use up the
//! process's file descriptors, and the network and the store need them.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use jsonrpsee::server::{HttpBody, HttpRequest, HttpResponse};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// Sockets that have not shown the token yet. An honest program shows it within a millisecond.
const WAITING: usize = 64;
/// How long a socket may take to show it.
pub(super) const TO_SHOW: Duration = Duration::from_secs(5);
/// Pause after a socket could not be taken, as when the process has no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Where sockets wait. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Door(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
}

/// A socket's place. It is sent away when its time is over or its place is needed, unless it was let in before.
#[derive(Debug)]
pub(super) struct Place {
    door: Door,
    id: u64,
    let_in: oneshot::Receiver<()>,
}

/// Lets one socket in.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    door: Door,
    id: u64,
}

impl Door {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a socket that just came; the one that waited longest loses its own if there are too many.
    pub(super) fn take_place(&self) -> Place {
        let (sender, let_in) = oneshot::channel();
        let mut queue = self.lock();
        let id = queue.next;
        queue.next = queue.next.wrapping_add(1);
        queue.waiting.push_back((id, sender));
        while queue.waiting.len() > WAITING {
            queue.waiting.pop_front();
        }
        Place { door: self.clone(), id, let_in }
    }

    fn take(&self, id: u64) -> Option<oneshot::Sender<()>> {
        let mut queue = self.lock();
        let at = queue.waiting.iter().position(|(waiting, _)| *waiting == id)?;
        queue.waiting.remove(at).map(|(_, sender)| sender)
    }
}

impl Pass {
    /// It has shown the token: from here on only the count of programs bounds it.
    pub(super) fn let_in(&self) {
        if let Some(sender) = self.door.take(self.id) {
            // the socket may have gone meanwhile
            let _ = sender.send(());
        }
    }
}

impl Place {
    pub(super) fn pass(&self) -> Pass {
        Pass { door: self.door.clone(), id: self.id }
    }

    /// Ends when the socket is to go, after `time` at the latest; never, once it was let in.
    pub(super) async fn sent_away(mut self, time: Duration) {
        if let Ok(Ok(())) = tokio::time::timeout(time, &mut self.let_in).await {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.door.take(self.id);
    }
}

/// The next socket. Failures to take one are waited out: they are the system's, and pass.
pub(super) async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => match socket.set_nodelay(true) {
                Ok(()) => return socket,
                Err(error) => failed(&error).await,
            },
            Err(error) => failed(&error).await,
        }
    }
}

async fn failed(error: &io::Error) {
    tracing::debug!(%error, "a program could not be taken");
    tokio::time::sleep(PAUSE).await;
}

/// An answer without a body of its own.
pub(super) fn refuse<B>(request: &HttpRequest<B>, reason: &'static str) -> HttpResponse {
    tracing::debug!(path = %request.uri().path(), reason, "API request refused");
    let mut answer = HttpResponse::new(HttpBody::from(reason));
    *answer.status_mut() = StatusCode::FORBIDDEN;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_was_let_in_stays_and_the_others_go() {
        let door = Door::default();
        let (quiet, honest) = (door.take_place(), door.take_place());
        honest.pass().let_in();
        let moment = Duration::from_millis(20);
        tokio::select! {
            () = honest.sent_away(moment) => panic!("an honest program was sent away"),
            () = quiet.sent_away(5 * moment) => {}
        }
        assert!(door.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn the_oldest_goes_at_once_when_there_are_too_many() {
        let door = Door::default();
        let first = door.take_place();
        let rest: Vec<Place> = (0..WAITING).map(|_| door.take_place()).collect();
        // not after an hour
        first.sent_away(Duration::from_secs(3_600)).await;
        assert_eq!(door.lock().waiting.len(), WAITING);
        drop(rest);
        assert!(door.lock().waiting.is_empty());
    }
}
