//! What the Engine says takes effect in its order, and only once what it rests on is on disk.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

mod support;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use kith_network::{Environment, Keypair, Purpose, Transport};
use kith_node::api::{Error, EventBodyView, Session, Status};
use kith_node::keys::{MasterKey, MemoryDisk};
use kith_node::protocol::engine::{Answer, Output};
use kith_node::protocol::record::{Change, Key, Row};
use kith_node::protocol::{Mono, Wall};
use kith_node::{Builder, Host, Node, ProductHost, account};
use kith_store::{OpenError, OpenReport, Store, StoreConfig};
use support::{befriend, deliver, incoming};

/// The product's host with a memory disk that it looks at before each output.
struct Watcher {
    product: ProductHost,
    disk: MemoryDisk,
    key: MasterKey,
    seen: Mutex<Seen>,
    /// The next commit finds the disk gone.
    crash: AtomicBool,
}

#[derive(Default)]
struct Seen {
    persists: Vec<u64>,
    checked: usize,
    missing: Vec<String>,
}

impl Watcher {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            product: ProductHost::current().unwrap(),
            disk: MemoryDisk::default(),
            key: MasterKey::from_bytes([7; 32]),
            seen: Mutex::default(),
            crash: AtomicBool::new(false),
        })
    }

    /// Whether a row would survive a power cut now.
    fn is_durable(&self, key: &Key) -> bool {
        let copy = self.disk.copy();
        copy.crash();
        let (store, _) = Store::open(StoreConfig::memory(copy, self.key.clone())).unwrap();
        store.row_exists(key)
    }

    fn demand(&self, seen: &mut Seen, key: &Key, why: &str) {
        seen.checked += 1;
        if !self.is_durable(key) {
            seen.missing.push(format!("{why}: {key:?}"));
        }
    }
}

trait RowExists {
    fn row_exists(&self, key: &Key) -> bool;
}

impl RowExists for Store {
    fn row_exists(&self, key: &Key) -> bool {
        kith_node::protocol::record::Reader::get(&self.reader(), key).unwrap().is_some()
    }
}

impl Environment for Watcher {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        self.product.spawn(name, task);
    }
    fn wall(&self) -> Wall {
        self.product.wall()
    }
    fn mono(&self) -> Mono {
        self.product.mono()
    }
    fn sleep(&self, millis: u64) -> BoxFuture<'static, ()> {
        self.product.sleep(millis)
    }
    fn rng(&self) -> Box<dyn rand::CryptoRng + Send> {
        self.product.rng()
    }
    fn transport(&self, identity: &Keypair, purpose: Purpose) -> io::Result<Transport> {
        self.product.transport(identity, purpose)
    }
    fn has_lan(&self) -> bool {
        false
    }
}

impl Host for Watcher {
    fn open_store(&self, config: StoreConfig) -> Result<(Store, OpenReport), OpenError> {
        Store::open(config)
    }

    fn observe(&self, output: &Output) {
        let mut seen = self.seen.lock().unwrap();
        match output {
            Output::Persist { n, changes } => {
                let written = changes.iter().any(|change| matches!(change, Change::Put(Row::Entry(_))));
                if written && self.crash.swap(false, Ordering::SeqCst) {
                    self.disk.crash();
                }
                seen.persists.push(*n);
            }
            Output::Event(event) => self.demand(&mut seen, &Key::Event(event.cursor), "event"),
            Output::Answer { result: Ok(Answer::Sent { entry, .. }), .. } => {
                self.demand(&mut seen, &Key::Entry(*entry), "answer");
            }
            _ => {}
        }
    }
}

async fn start(name: &str, watcher: &Arc<Watcher>) -> (Node, kith_node::protocol::AccountId) {
    let made = account::create_in_memory(watcher.as_ref(), &watcher.disk, &watcher.key, name).unwrap();
    let node = Builder::in_memory(watcher.disk.clone(), watcher.key.clone())
        .host(watcher.clone())
        .listen(["/ip4/127.0.0.1/tcp/0"])
        .mdns(false)
        .start()
        .await
        .unwrap();
    (node, made.account)
}

#[tokio::test(flavor = "multi_thread")]
async fn events_and_answers_come_only_once_their_rows_survive_a_power_cut() {
    let (watch_a, watch_b) = (Watcher::new(), Watcher::new());
    let ((ann, a), (bob, b)) = (start("Ann", &watch_a).await, start("Bob", &watch_b).await);
    befriend(&ann.handle(), a, &bob.handle(), b).await;
    let session = Session::Local(ann.handle());
    for n in 0..20 {
        deliver(&session, b, &format!("message {n}")).await;
    }
    for watcher in [&watch_a, &watch_b] {
        let seen = watcher.seen.lock().unwrap();
        assert_eq!(seen.missing, Vec::<String>::new());
        assert!(seen.checked > 20, "only {} outputs were checked", seen.checked);
        assert!(seen.persists.is_sorted(), "{:?}", seen.persists);
    }
    ann.shutdown().await;
    bob.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_write_the_engine_starts_again_from_the_disk_and_the_chat_goes_on() {
    let (watch_a, watch_b) = (Watcher::new(), Watcher::new());
    let ((ann, a), (bob, b)) = (start("Ann", &watch_a).await, start("Bob", &watch_b).await);
    befriend(&ann.handle(), a, &bob.handle(), b).await;
    let session = Session::Local(ann.handle());
    deliver(&session, b, "before").await;
    let mut events = bob.handle().events(None).unwrap();
    let mut own = ann.handle().events(None).unwrap();

    watch_a.crash.store(true, Ordering::SeqCst);
    let lost = session.send(b, "never written".to_owned(), None, None).await;
    assert_eq!(lost, Err(Error::Interrupted), "what is not on disk is not answered as done");
    // the contact is seen to go, and to come back once the store is open again
    support::until(&mut own, |event| match &event.body {
        EventBodyView::Online { online: false, .. } => Some(()),
        _ => None,
    })
    .await;
    let sent = loop {
        match session.send(b, "after".to_owned(), None, None).await {
            Ok(sent) => break sent,
            Err(error) => assert!(error.is_passing(), "{error}"),
        }
    };
    assert!(session.wait(sent.id, Status::Delivered, support::PATIENCE).await.unwrap().reached);
    incoming(&mut events, "after").await;
    let texts: Vec<_> = session.history(b, 10, None).await.unwrap().into_iter().map(|m| m.text).collect();
    assert_eq!(texts, ["before", "after"]);
    ann.shutdown().await;
    bob.shutdown().await;
}
