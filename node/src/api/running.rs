//! What a running node adds to its data folder.

#[cfg(feature = "rpc")]
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kith_network::Network;
use kith_protocol::engine::{Answer, Command};
use kith_protocol::{EntryId, Wall};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::error::Error;
use super::events;
use super::reads::Reads;
use super::view::{Status, WaitView};
#[cfg(feature = "rpc")]
use crate::host::Host;
use crate::runtime::{Call, Calls, Live, LiveSender};

/// The clocks of the host, without its type.
pub(crate) trait Clock: Send + Sync {
    fn wall(&self) -> Wall;
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()>;
}

/// What a running node adds to its data folder.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) calls: Calls,
    pub(crate) live: LiveSender,
    pub(crate) network: Network,
    pub(crate) stop: CancellationToken,
    pub(crate) ended: CancellationToken,
    #[cfg(feature = "rpc")]
    pub(crate) host: Arc<dyn Host>,
}

impl Running {
    /// Has the Engine carry out a command; answers once what it rests on is on disk.
    pub(super) async fn command(&self, command: Command) -> Result<Answer, Error> {
        self.submit(command).await?.await.map_err(|_| Error::Stopped)?
    }

    /// Hands a command to the Engine; what is handed over one after the other is carried out in that order.
    pub(super) async fn submit(
        &self,
        command: Command,
    ) -> Result<oneshot::Receiver<Result<Answer, Error>>, Error> {
        let (reply, answer) = oneshot::channel();
        self.calls.send(Call { command, reply }).await.map_err(|_| Error::Stopped)?;
        Ok(answer)
    }

    /// Waits for a message's status, until `over` at the latest.
    pub(super) async fn wait_for(
        &self,
        reads: &Reads,
        id: EntryId,
        status: Status,
        mut over: BoxFuture<'static, ()>,
    ) -> Result<WaitView, Error> {
        // listen first, look then: what happens between is heard
        let mut live = self.live.subscribe();
        loop {
            let (_, rank) = reads.rank(id)?;
            let now = Status::from(rank);
            let view = WaitView { id, status: now, reached: now.meets(status) };
            if view.reached || now.failed() {
                return Ok(view);
            }
            // until something was said of this message
            loop {
                let heard = tokio::select! {
                    heard = live.recv() => heard,
                    () = &mut over => return Ok(view),
                    () = self.ended.cancelled() => return Err(Error::Stopped),
                };
                match heard {
                    Ok(Live::Stored(event)) if events::is_status_of(&event, id) => break,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return Err(Error::Stopped),
                }
            }
        }
    }
}
