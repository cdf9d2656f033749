//! Two whole nodes in this process, each on a thread of its own as in the program, real sockets on the loopback address,
//! durable writes on both sides.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench that cannot go on ends, and measures real time"
)]

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use kith_network::{Environment, Keypair, Purpose, Transport};
use kith_node::account::{self, NewAccount};
use kith_node::api::{ContactStatus, Handle, Status};
use kith_node::keys::KeyKind;
use kith_node::{Builder, Folder, Host, Node, ProductHost};
use kith_protocol::wire::Frame;
use kith_protocol::{AccountId, Mono, Output, Wall};
use kith_tests::bench::{Bar, Disk, median, micros, report};

/// Messages one after the other.
const SINGLE: usize = 500;
/// Messages of the one-way stream.
const STREAM: usize = 10_000;
/// Of which so many may be waiting for their answer.
const WINDOW: usize = 256;

fn main() {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(measure());
}

async fn measure() {
    let folder = tempfile::tempdir().unwrap();
    let mut ana = Person::new(folder.path(), "Ana");
    let mut ben = Person::new(folder.path(), "Ben");
    let (a, b) = (ana.start().await, ben.start().await);

    let start = Instant::now();
    let invite = a.invite(1, 3_600_000).await.unwrap();
    b.accept(invite.uri).await.unwrap();
    until(&b, |b| b.contact(ana.account).is_ok_and(|contact| contact.state == ContactStatus::Accepted)).await;
    until(&a, |a| a.contact(ben.account).is_ok_and(|contact| contact.state == ContactStatus::Accepted)).await;
    report("invite accepted by both", "ms", &[micros(start.elapsed()) / 1e3], Bar::AtMost(500.0));

    // the disk is not equally fast at all times, so it is asked between the messages, but not so often as to disturb them
    let mut disk = Disk::new(folder.path());
    let (mut receipts, mut delivered, mut syncs) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..SINGLE + 50 {
        ben.host.take_receipt();
        let start = Instant::now();
        let sent = a.send(ben.account, format!("message {number}"), None, None).await.unwrap();
        let reached = a.wait_for(sent.id, Status::Delivered, 30_000).await.unwrap();
        let end = start.elapsed();
        assert!(reached.reached);
        if number >= 50 {
            delivered.push(micros(end));
            receipts.extend(ben.host.take_receipt().map(|at| micros(at.duration_since(start))));
        }
        if number % 50 == 49 {
            syncs.extend((0..20).map(|_| disk.sync_micros()));
        }
    }
    let fsync = median(&syncs);
    report("fsync of 4 KiB here", "us", &syncs, Bar::None);
    report("send to receipt on the wire", "us", &receipts, Bar::AtMost(2.0 * fsync + 250.0));
    report("send to delivered event", "us", &delivered, Bar::AtMost(3.0 * fsync + 250.0));

    let start = Instant::now();
    let mut window = std::collections::VecDeque::new();
    for number in 0..STREAM {
        if window.len() == WINDOW {
            let first: Option<tokio::task::JoinHandle<()>> = window.pop_front();
            first.unwrap().await.unwrap();
        }
        let (a, to) = (a.clone(), ben.account);
        window.push_back(tokio::spawn(async move {
            a.send(to, format!("line {number} of a stream"), None, None).await.unwrap();
        }));
    }
    for send in window {
        send.await.unwrap();
    }
    until(&a, |a| a.status().is_ok_and(|status| status.queued == 0)).await;
    let rate = STREAM as f64 / start.elapsed().as_secs_f64();
    report("messages delivered a second, one way", "/s", &[rate], Bar::AtLeast(500.0));

    let mut online = Vec::new();
    for _ in 0..10 {
        ben.stop().await;
        until(&a, |a| a.contact(ben.account).is_ok_and(|contact| !contact.online)).await;
        let start = Instant::now();
        let b = ben.start().await;
        until(&b, |b| b.contact(ana.account).is_ok_and(|contact| contact.online)).await;
        online.push(micros(start.elapsed()) / 1e3);
    }
    report("start to contact on-line", "ms", &online, Bar::AtMost(500.0));
    ben.stop().await;
    ana.stop().await;
}

struct Person {
    folder: Folder,
    account: AccountId,
    host: Arc<Watched>,
    runtime: tokio::runtime::Handle,
    node: Option<Node>,
}

impl Person {
    fn new(home: &Path, name: &str) -> Self {
        let folder = Folder::new(home.join(name));
        let own = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let runtime = own.handle().clone();
        // it ends with the program
        std::thread::spawn(move || own.block_on(std::future::pending::<()>()));
        let entered = runtime.enter();
        let host = Arc::new(Watched { host: ProductHost::current().unwrap(), receipt: Mutex::new(None) });
        let made = account::create(
            host.as_ref(),
            &folder,
            NewAccount { key: KeyKind::File, ..NewAccount::named(name) },
        );
        drop(entered);
        Self { folder, account: made.unwrap().account, host, runtime, node: None }
    }

    async fn start(&mut self) -> Handle {
        let builder = Builder::new(self.folder.clone()).host(self.host.clone());
        let start = builder.listen(["/ip4/127.0.0.1/tcp/0"]).mdns(false).start();
        let node = self.runtime.spawn(start).await.unwrap().unwrap();
        self.node.insert(node).handle()
    }

    async fn stop(&mut self) {
        if let Some(node) = self.node.take() {
            node.shutdown().await;
        }
    }
}

/// Looks every millisecond; none of the figures above is that fine.
async fn until(handle: &Handle, done: impl Fn(&Handle) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(300);
    while !done(handle) {
        assert!(Instant::now() < deadline, "it takes far too long");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The product's host, that notes when a receipt leaves.
struct Watched {
    host: ProductHost,
    receipt: Mutex<Option<Instant>>,
}

impl Watched {
    fn take_receipt(&self) -> Option<Instant> {
        self.receipt.lock().unwrap().take()
    }
}

impl Host for Watched {
    fn observe(&self, output: &Output) {
        if let Output::Send { frame, .. } = output
            && matches!(Frame::decode(frame), Ok(Frame::Frontiers(_)))
        {
            self.receipt.lock().unwrap().get_or_insert_with(Instant::now);
        }
    }
}

impl Environment for Watched {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        self.host.spawn(name, task);
    }

    fn wall(&self) -> Wall {
        self.host.wall()
    }

    fn mono(&self) -> Mono {
        self.host.mono()
    }

    fn sleep(&self, millis: u64) -> BoxFuture<'static, ()> {
        self.host.sleep(millis)
    }

    fn rng(&self) -> Box<dyn rand::CryptoRng + Send> {
        self.host.rng()
    }

    fn transport(&self, identity: &Keypair, purpose: Purpose) -> io::Result<Transport> {
        self.host.transport(identity, purpose)
    }

    fn has_lan(&self) -> bool {
        false
    }
}
