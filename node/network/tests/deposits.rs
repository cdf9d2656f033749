//! Requests to others' relays: throwaway keys, answers, failures, bounds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests only")]

mod support;

use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use kith_network::{
    Answered, Config, DepositRequest, Deposits, Environment, Event, Keypair, Network, Options,
    ProductEnvironment, Purpose, Transport,
};
use kith_protocol::engine::{DepositFailure, DepositId, LinkId};
use kith_protocol::secret::Secret32;
use kith_protocol::wire::Frame;
use kith_protocol::wire::relay::{Answer, Ask, RelayReply, RelayRequest};
use kith_protocol::{Address, DeviceId, MailboxId, Mono, Wall, limits};
use support::{CEILING, Node, device, environment};
use tokio::sync::mpsc;

/// The products' world with clocks that the test can put forward.
struct Clocked {
    inner: Arc<ProductEnvironment>,
    ahead: AtomicU64,
}

impl Environment for Clocked {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        self.inner.spawn(name, task);
    }
    fn wall(&self) -> Wall {
        self.inner.wall().plus(self.ahead.load(Ordering::Relaxed))
    }
    fn mono(&self) -> Mono {
        self.inner.mono().plus(self.ahead.load(Ordering::Relaxed))
    }
    fn sleep(&self, millis: u64) -> BoxFuture<'static, ()> {
        self.inner.sleep(millis)
    }
    fn rng(&self) -> Box<dyn rand::CryptoRng + Send> {
        self.inner.rng()
    }
    fn transport(&self, identity: &Keypair, purpose: Purpose) -> io::Result<Transport> {
        self.inner.transport(identity, purpose)
    }
    fn has_lan(&self) -> bool {
        false
    }
}

/// Who deposits.
struct Sender {
    clock: Arc<Clocked>,
    deposits: Deposits,
    answers: mpsc::Receiver<Answered>,
    next: u64,
    _network: Network,
}

impl Sender {
    fn start() -> Self {
        let clock = Arc::new(Clocked { inner: environment(), ahead: AtomicU64::new(0) });
        let mut options = Options::new(Secret32::new([1; 32]));
        options.listen = vec!["/ip4/127.0.0.1/tcp/0".into()];
        options.listen_explicit = true;
        options.mdns = false;
        let shared: Arc<dyn Environment> = clock.clone();
        let (network, _) = kith_network::start(shared, Config::new(options).unwrap()).unwrap();
        let (sender, answers) = mpsc::channel(1024);
        Self { clock, deposits: network.deposits(sender), answers, next: 0, _network: network }
    }

    fn pass(&self, millis: u64) {
        self.clock.ahead.fetch_add(millis, Ordering::Relaxed);
    }

    fn send(
        &mut self,
        relay: DeviceId,
        address: &Address,
        pseudonym: u16,
    ) -> Result<DepositId, DepositFailure> {
        self.next += 1;
        let mut name = [0; 16];
        name[..2].copy_from_slice(&pseudonym.to_be_bytes());
        let ask = Ask::List { mailbox: MailboxId([3; 16]), after: self.next, max: 1 };
        let frame = Frame::RelayRequest(RelayRequest { id: self.next, ask }).encode();
        let id = DepositId(self.next);
        let address = address.clone();
        self.deposits.send(DepositRequest { id, relay, address, pseudonym: name, frame }).map(|()| id)
    }

    async fn answer(&mut self) -> Answered {
        tokio::time::timeout(CEILING, self.answers.recv()).await.expect("an answer in time").unwrap()
    }

    async fn failure(&mut self) -> DepositFailure {
        self.answer().await.result.expect_err("no answer can have come")
    }
}

/// Waits for a depositor at the relay.
async fn depositor(relay: &mut Node) -> (DeviceId, LinkId) {
    relay
        .wait("a depositor", |event| match event {
            Event::Connected { peer, link, .. } => Some((*peer, *link)),
            _ => None,
        })
        .await
}

/// Takes a request and answers it; its number.
async fn serve(relay: &mut Node, link: LinkId) -> u64 {
    let frame = relay.frame(link).await;
    let Frame::RelayRequest(request) = Frame::decode(&frame).unwrap() else { panic!("no request") };
    reply(relay, link, request.id);
    request.id
}

fn reply(relay: &Node, link: LinkId, id: u64) {
    let answer = Answer::Listed { envelopes: Vec::new(), more: false };
    relay.network.send(link, Frame::RelayReply(RelayReply { id, answer }).encode()).unwrap();
}

/// An address where connections are taken and nothing is ever said.
fn silence() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", listener.local_addr().unwrap().port());
    (listener, kith_network::address::parse(&address).unwrap())
}

#[tokio::test]
async fn one_key_for_each_recipient_and_day_and_never_the_devices_own() {
    let mut relay = Node::start(2).await;
    let address = relay.addresses[0].clone();
    let mut sender = Sender::start();
    let mut keys = Vec::new();
    // the first twice: one connection
    for recipient in [1, 1, 2] {
        sender.send(relay.device, &address, recipient).unwrap();
    }
    let mut links = Vec::new();
    for _ in 0..2 {
        let (key, link) = depositor(&mut relay).await;
        keys.push(key);
        links.push(link);
    }
    for _ in 0..2 {
        assert!(sender.send(relay.device, &address, 1).is_ok());
    }
    let mut served = BTreeSet::new();
    while served.len() < 5 {
        let (link, frame) = relay
            .wait("a request", |event| match event {
                Event::Frame { link, bytes, .. } => Some((*link, bytes.clone())),
                _ => None,
            })
            .await;
        let Frame::RelayRequest(request) = Frame::decode(&frame).unwrap() else { panic!("no request") };
        reply(&relay, link, request.id);
        served.insert(request.id);
    }
    let mut answered = BTreeSet::new();
    for _ in 0..5 {
        let answer = sender.answer().await;
        assert!(answer.result.is_ok());
        answered.insert(answer.id.0);
    }
    assert_eq!((served, answered), ((1..=5).collect(), (1..=5).collect()));
    // nothing more to do: both close
    sender.pass(31_000);
    for link in links {
        relay.disconnected(link).await;
    }
    // the same recipient on the same day: the same key
    sender.send(relay.device, &address, 1).unwrap();
    let (again, link) = depositor(&mut relay).await;
    serve(&mut relay, link).await;
    assert!(sender.answer().await.result.is_ok());
    assert!(keys.contains(&again));
    sender.pass(31_000);
    relay.disconnected(link).await;
    // on the next day another
    sender.pass(limits::DAY);
    sender.send(relay.device, &address, 1).unwrap();
    let (next, link) = depositor(&mut relay).await;
    serve(&mut relay, link).await;
    assert!(sender.answer().await.result.is_ok());
    keys.push(next);
    let distinct: BTreeSet<DeviceId> = keys.iter().copied().chain([device(1), relay.device]).collect();
    assert_eq!(distinct.len(), 5, "three keys, none of them a device's: {keys:?}");
}

#[tokio::test]
async fn each_way_of_failing_has_its_name_and_each_request_one_answer() {
    let mut relay = Node::start(2).await;
    let mut sender = Sender::start();
    // nobody listens
    let free = {
        let (_closed, address) = silence();
        address
    };
    sender.send(relay.device, &free, 1).unwrap();
    assert_eq!(sender.failure().await, DepositFailure::Unreachable);
    // somebody else listens
    sender.send(device(9), &relay.addresses[0].clone(), 1).unwrap();
    assert_eq!(sender.failure().await, DepositFailure::Unreachable);
    // somebody takes connections and says nothing
    let (_listener, silent) = silence();
    for _ in 0..3 {
        sender.send(device(8), &silent, 1).unwrap();
    }
    sender.pass(16_000);
    for _ in 0..3 {
        assert_eq!(sender.failure().await, DepositFailure::Unreachable);
    }
    // the relay is there and does not answer; an answer to what was not asked is none
    let address = relay.addresses[0].clone();
    sender.send(relay.device, &address, 2).unwrap();
    let (_, link) = depositor(&mut relay).await;
    relay.frame(link).await;
    reply(&relay, link, 999);
    relay.network.send(link, Bytes::from_static(b"no reply at all")).unwrap();
    sender.pass(31_000);
    assert_eq!(sender.failure().await, DepositFailure::TimedOut);
    relay.disconnected(link).await;
    // it closes the connection
    sender.send(relay.device, &address, 2).unwrap();
    let (depositor, link) = depositor(&mut relay).await;
    relay.frame(link).await;
    relay.network.disconnect(depositor).await.unwrap();
    assert_eq!(sender.failure().await, DepositFailure::Closed);
    assert!(sender.answers.try_recv().is_err(), "one answer each");
}

#[tokio::test]
async fn a_relay_that_says_nothing_holds_up_no_other() {
    let mut relay = Node::start(2).await;
    let address = relay.addresses[0].clone();
    let mut sender = Sender::start();
    let (_listener, silent) = silence();
    for recipient in 0..64 {
        sender.send(device(8), &silent, recipient).unwrap();
    }
    for _ in 0..32 {
        sender.send(relay.device, &address, 1).unwrap();
    }
    let (_, link) = depositor(&mut relay).await;
    for number in 65..97 {
        assert_eq!(serve(&mut relay, link).await, number, "in order");
        let answer = sender.answer().await;
        assert_eq!((answer.id.0, answer.result.is_ok()), (number, true));
    }
}

#[tokio::test]
async fn the_number_of_ways_is_bounded_and_an_idle_one_gives_way() {
    const WAYS: u16 = 256;
    let mut relay = Node::start(2).await;
    let address = relay.addresses[0].clone();
    let mut sender = Sender::start();
    sender.send(relay.device, &address, 9_999).unwrap();
    let (_, link) = depositor(&mut relay).await;
    serve(&mut relay, link).await;
    assert!(sender.answer().await.result.is_ok());
    let (_listener, silent) = silence();
    for recipient in 1..WAYS {
        sender.send(device(8), &silent, recipient).unwrap();
    }
    // the one that is idle goes for one more, and then there is none
    sender.send(device(8), &silent, WAYS).unwrap();
    relay.disconnected(link).await;
    assert_eq!(sender.send(device(8), &silent, WAYS + 1), Err(DepositFailure::Unreachable));
    // what is under way goes on, and makes room when it has failed
    sender.pass(16_000);
    for _ in 0..WAYS {
        assert_eq!(sender.failure().await, DepositFailure::Unreachable);
    }
    assert!(sender.send(relay.device, &address, 1).is_ok());
    let (_, link) = depositor(&mut relay).await;
    serve(&mut relay, link).await;
    assert!(sender.answer().await.result.is_ok());
}
