//! Where a command's node is: the running one, the data folder alone, or one started for this command.

use std::time::Duration;

use kith_node::api::Session;
use kith_node::rpc::Client;
use kith_node::{Builder, Node};

use crate::app::App;

/// How long a node started for one command stays to bring what was just written on its way.
const LINGER: Duration = Duration::from_secs(2);

/// A node to talk to, for the length of one command.
pub(crate) struct Access {
    pub(crate) session: Session,
    node: Option<Node>,
}

impl App {
    /// The running node, or the data folder opened for reading.
    pub(crate) async fn read(&self) -> anyhow::Result<Access> {
        self.need_account()?;
        if let Some(client) = Client::attach(&self.folder).await? {
            return Ok(Access { session: Session::Remote(client), node: None });
        }
        let handle = self.builder()?.open()?;
        Ok(Access { session: Session::Local(handle), node: None })
    }

    /// The running node, or one started for this command.
    pub(crate) async fn change(&self) -> anyhow::Result<Access> {
        self.need_account()?;
        if let Some(client) = Client::attach(&self.folder).await? {
            return Ok(Access { session: Session::Remote(client), node: None });
        }
        let node = self.builder()?.remember(false).start().await?;
        Ok(Access { session: Session::Local(node.handle()), node: Some(node) })
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

    /// A builder for this folder, with the passphrase if one was given or can be asked for.
    pub(crate) fn builder(&self) -> anyhow::Result<Builder> {
        let passphrase = match kith_node::keys::kind(self.folder.path())? {
            Some(kith_node::keys::KeyKind::Passphrase) => Some(self.passphrase()?),
            _ => self.given_passphrase()?,
        };
        Ok(Builder::new(self.folder.clone()).passphrase(passphrase))
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

    /// Lets go of the node.
    pub(crate) async fn close(self) {
        if let Some(node) = self.node {
            node.shutdown().await;
        }
    }

    /// Gives a node of our own a moment to deliver what was written, then lets go.
    pub(crate) async fn finish(self, app: &App) {
        if self.is_own() {
            tokio::time::sleep(LINGER).await;
            app.out.note("What is not delivered yet stays queued; `kith run` delivers it.");
        }
        self.close().await;
    }
}
