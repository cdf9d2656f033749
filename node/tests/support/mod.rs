//! People with nodes in this process, on loopback.

#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

pub mod relay;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kith_node::account::{self, NewAccount};
use kith_node::api::{ContactStatus, EventBodyView, EventStream, EventView, Handle, Session, Status};
use kith_node::keys::KeyKind;
use kith_node::protocol::AccountId;
use kith_node::{Builder, Folder, Host, Node, ProductHost};
use tempfile::TempDir;

/// Ceiling of every wait.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Somebody with a data folder and perhaps a running node.
pub struct Person {
    pub folder: Folder,
    pub account: AccountId,
    pub node: Option<Node>,
    host: Arc<dyn Host>,
    _home: TempDir,
}

impl Person {
    pub fn new(name: &str) -> Self {
        Self::on(name, Arc::new(ProductHost::current().unwrap()))
    }

    pub fn on(name: &str, host: Arc<dyn Host>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::new(home.path().join("kith"));
        let new = NewAccount { key: KeyKind::File, ..NewAccount::named(name) };
        let made = account::create(host.as_ref(), &folder, new).unwrap();
        Self { folder, account: made.account, node: None, host, _home: home }
    }

    pub fn builder(&self) -> Builder {
        Builder::new(self.folder.clone()).host(self.host.clone()).listen(["/ip4/127.0.0.1/tcp/0"]).mdns(false)
    }

    pub async fn start(&mut self) -> Handle {
        assert!(self.node.is_none());
        let node = self.builder().start().await.unwrap();
        let handle = node.handle();
        self.node = Some(node);
        handle
    }

    pub async fn stop(&mut self) {
        patient(self.node.take().unwrap().shutdown()).await;
    }

    pub fn handle(&self) -> Handle {
        self.node.as_ref().unwrap().handle()
    }

    pub fn session(&self) -> Session {
        Session::Local(self.handle())
    }
}

/// Both start, one invites, the other accepts, both know each other.
pub async fn meet(ann: &mut Person, bob: &mut Person) {
    let (a, b) = (ann.start().await, bob.start().await);
    befriend(&a, ann.account, &b, bob.account).await;
}

/// One invites, the other accepts, both know each other.
pub async fn befriend(a: &Handle, ann: AccountId, b: &Handle, bob: AccountId) {
    let mut events = b.events(None).unwrap();
    let mut back = a.events(None).unwrap();
    let invite = a.invite(1, 3_600_000).await.unwrap();
    b.accept(invite.uri).await.unwrap();
    let accepted = |handle: &Handle, who| {
        handle.contact(who).is_ok_and(|contact| contact.state == ContactStatus::Accepted)
    };
    until(&mut events, |_| accepted(b, ann).then_some(())).await;
    if !accepted(a, bob) {
        until(&mut back, |_| accepted(a, bob).then_some(())).await;
    }
}

/// Fails instead of hanging.
pub async fn patient<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes far too long")
}

/// Reads events until one gives what is wanted.
pub async fn until<T>(events: &mut EventStream, mut want: impl FnMut(&EventView) -> Option<T>) -> T {
    patient(async {
        loop {
            let event = events.next().await.expect("the node is still there");
            if let Some(found) = want(&event) {
                return found;
            }
        }
    })
    .await
}

/// Waits until a message with this text has come in.
pub async fn incoming(events: &mut EventStream, text: &str) -> kith_node::api::MessageView {
    until(events, |event| match &event.body {
        EventBodyView::Message { message } if message.text == text => Some((**message).clone()),
        _ => None,
    })
    .await
}

/// Sends a text and waits until it has arrived.
pub async fn deliver(from: &Session, to: AccountId, text: &str) -> kith_node::api::SentView {
    let sent = from.send(to, text.to_owned(), None, None).await.unwrap();
    let view = from.wait(sent.id, Status::Delivered, PATIENCE).await.unwrap();
    assert!(view.reached, "{text:?} is {}", view.status);
    sent
}
