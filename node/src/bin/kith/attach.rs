//! Where a command's node is: the running one, the data folder alone, or one started for this command.

use std::time::Duration;

use kith_node::api::{self, Session};
use kith_node::rpc::Client;
use kith_node::{Folder, Node, StartError};
use kith_store::{DataLock, LockError};
use tokio::time::Instant;

use crate::app::{App, Busy};

/// How long a node started for one command stays to bring what was just written on its way.
const LINGER: Duration = Duration::from_secs(2);
/// How long a folder may be in use by a command that is about to end, or by a node that is about to answer.
const IN_USE: Duration = Duration::from_secs(5);
/// Pause between two attempts.
const AGAIN: Duration = Duration::from_millis(50);

/// A node to talk to, for the length of one command.
pub(crate) struct Access {
    pub(crate) session: Session,
    node: Option<Node>,
}

/// What was found on a data folder.
enum Found<T> {
    /// A node runs.
    Running(Client),
    /// None does, and this was done with the folder instead.
    Own(T),
}

impl App {
    /// The running node, or the data folder opened for reading.
    pub(crate) async fn read(&self) -> anyhow::Result<Access> {
        self.need_account()?;
        if let Ok(Some(client)) = Client::attach(&self.folder).await {
            return Ok(Access::remote(client));
        }
        let passphrase = self.passphrase_if_needed()?;
        let busy = Busy::start(self, "Opening your data");
        let opened = self
            .attach_or(async || self.builder_with(passphrase.clone()).progress(busy.progress()).open())
            .await;
        busy.end();
        Ok(match opened? {
            Found::Running(client) => Access::remote(client),
            Found::Own(handle) => Access { session: Session::Local(handle), node: None },
        })
    }

    /// The running node, or one started for this command.
    pub(crate) async fn change(&self) -> anyhow::Result<Access> {
        self.need_account()?;
        if let Ok(Some(client)) = Client::attach(&self.folder).await {
            return Ok(Access::remote(client));
        }
        let passphrase = self.passphrase_if_needed()?;
        let busy = Busy::start(self, "Opening your data");
        let started = self
            .attach_or(async || {
                let builder = self.builder_with(passphrase.clone()).progress(busy.progress());
                Box::pin(builder.start()).await
            })
            .await;
        busy.end();
        Ok(match started? {
            Found::Running(client) => Access::remote(client),
            Found::Own(node) => Access { session: Session::Local(node.handle()), node: Some(node) },
        })
    }

    /// The running node, which there must be.
    pub(crate) async fn running(&self) -> anyhow::Result<Session> {
        self.need_account()?;
        match Client::attach(&self.folder).await? {
            Some(client) => Ok(Session::Remote(client)),
            None => {
                anyhow::bail!("no node runs on {}; start it with `kith run`", self.folder.path().display())
            }
        }
    }

    /// Does something that needs the folder for itself; waits a little while others have it, and takes a node that
    /// appears meanwhile.
    pub(crate) async fn take_folder<T>(
        &self,
        act: impl AsyncFnMut() -> Result<T, StartError>,
    ) -> anyhow::Result<Option<T>> {
        Ok(match self.attach_or(act).await? {
            Found::Running(_) => None,
            Found::Own(done) => Some(done),
        })
    }

    async fn attach_or<T>(
        &self,
        mut act: impl AsyncFnMut() -> Result<T, StartError>,
    ) -> anyhow::Result<Found<T>> {
        let over = Instant::now() + IN_USE;
        loop {
            let attached = Client::attach(&self.folder).await;
            if let Ok(Some(client)) = attached {
                return Ok(Found::Running(client));
            }
            match act().await {
                Ok(done) => return Ok(Found::Own(done)),
                Err(error) if error.is_locked() && Instant::now() < over => tokio::time::sleep(AGAIN).await,
                Err(error) => {
                    // a node that has the folder and does not answer is the better explanation
                    return Err(match attached {
                        Err(unreachable) if error.is_locked() => unreachable.into(),
                        _ => error.into(),
                    });
                }
            }
        }
    }
}

impl Access {
    /// A node in another process.
    pub(crate) const fn remote(client: Client) -> Self {
        Self { session: Session::Remote(client), node: None }
    }

    /// The node was started for this command and ends with it.
    pub(crate) const fn is_own(&self) -> bool {
        self.node.is_some()
    }

    /// The node started for this command, if it was.
    pub(crate) const fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// Lets go of the node.
    pub(crate) async fn close(self) {
        if let Some(node) = self.node {
            node.shutdown().await;
        }
    }

    /// Gives a node of our own a moment to deliver what was written, then lets go.
    pub(crate) async fn finish(self, app: &App) {
        if self.is_own() {
            let over = Instant::now() + LINGER;
            while Instant::now() < over && queued(&self.session).await != Ok(0) {
                tokio::time::sleep(AGAIN).await;
            }
            if queued(&self.session).await != Ok(0) {
                app.out.note("What is not delivered yet stays queued; run `kith run` to deliver it.");
            }
        }
        self.close().await;
    }
}

async fn queued(session: &Session) -> Result<u64, api::Error> {
    session.status().await.map(|node| node.queued)
}

/// Waits until nobody uses a data folder any more; false if that does not come in time.
pub(crate) async fn is_free(folder: &Folder, over: Instant) -> bool {
    loop {
        match DataLock::acquire(&folder.store()) {
            Err(LockError::Held { .. }) if Instant::now() < over => tokio::time::sleep(AGAIN).await,
            Err(LockError::Held { .. }) => return false,
            // what else is wrong with the folder, the next command says
            Ok(_) | Err(_) => return true,
        }
    }
}
