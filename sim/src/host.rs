//! One life of a simulated host, from boot to its end: the node's `Host`.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use kith_network::{Environment, Keypair, Purpose, Transport};
use kith_node::Host;
use kith_node::protocol::engine::{Input, Output};
use kith_node::protocol::{Mono, Wall};
use kith_store::{OpenError, OpenReport, Store, StoreConfig, StoreReader};
use rand::rngs::StdRng;
use tokio::task::AbortHandle;

use crate::disk::Disk;
use crate::net::{Net, Outage, transport};
use crate::overrides::WALL_START;
use crate::trace::{MILLI, Trace};

/// Who watches what a host is told and does.
pub(crate) trait Witness: Send + Sync {
    /// The host's Engine is about to be told this.
    fn hears(&self, host: u32, input: &Input);
    /// The host is about to do this. True if it crashes first.
    fn does(&self, host: u32, output: &Output) -> bool;
}

/// One life of a host.
pub(crate) struct Life {
    me: Weak<Self>,
    pub(crate) host: u32,
    boot: u32,
    born: u64,
    net: Arc<Net>,
    trace: Arc<Trace>,
    witness: Arc<dyn Witness>,
    disk: Disk,
    /// Wall clock's error, in milliseconds.
    skew: Arc<AtomicI64>,
    alive: AtomicBool,
    tasks: Mutex<Tasks>,
    store: Mutex<Option<Store>>,
    /// Told once this life is over by a crash of its own.
    on_crash: Box<dyn Fn() + Send + Sync>,
    draws: AtomicU64,
}

#[derive(Default)]
struct Tasks {
    next: u64,
    running: BTreeMap<u64, AbortHandle>,
}

impl std::fmt::Debug for Life {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Life").field("host", &self.host).field("boot", &self.boot).finish_non_exhaustive()
    }
}

/// What a life begins with.
pub(crate) struct Birth {
    pub(crate) host: u32,
    pub(crate) net: Arc<Net>,
    pub(crate) trace: Arc<Trace>,
    pub(crate) witness: Arc<dyn Witness>,
    pub(crate) disk: Disk,
    pub(crate) skew: Arc<AtomicI64>,
    pub(crate) on_crash: Box<dyn Fn() + Send + Sync>,
}

impl Life {
    /// Boots a host.
    pub(crate) fn begin(birth: Birth) -> Arc<Self> {
        let Birth { host, net, trace, witness, disk, skew, on_crash } = birth;
        let boot = net.boot(host);
        let born = trace.now();
        trace.note(host, format_args!("boot {boot}"));
        Arc::new_cyclic(|life: &Weak<Self>| Self {
            me: life.clone(),
            host,
            boot,
            born,
            net,
            trace,
            witness,
            disk,
            skew,
            alive: AtomicBool::new(true),
            tasks: Mutex::default(),
            store: Mutex::default(),
            on_crash,
            draws: AtomicU64::new(0),
        })
    }

    /// From now on the disk takes its time. The account is made before that: it waits for the disk in place.
    pub(crate) fn hold_disk(&self) {
        self.disk.attach(self.me.clone());
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the store, as long as this life opened one.
    pub(crate) fn reader(&self) -> Option<StoreReader> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|store| store.reader())
    }

    /// Ends this life at once. What was written and not yet on the disk is lost, nothing more is said.
    pub(crate) fn kill(&self, how: Outage) {
        if !self.alive.swap(false, Ordering::Relaxed) {
            return;
        }
        self.trace.note(self.host, format_args!("dies ({how:?})"));
        self.net.down(self.host, how);
        self.disk.crash();
        self.abort();
    }

    /// The host crashes by itself.
    pub(crate) fn crash(&self) {
        if self.is_alive() {
            self.kill(Outage::Crash);
            (self.on_crash)();
        }
    }

    /// Ends a life whose node has stopped in order.
    pub(crate) fn retire(&self) {
        if !self.alive.swap(false, Ordering::Relaxed) {
            return;
        }
        self.trace.note(self.host, format_args!("stops"));
        self.net.down(self.host, Outage::Crash);
        self.abort();
    }

    pub(crate) const fn boot(&self) -> u32 {
        self.boot
    }

    fn abort(&self) {
        let running = std::mem::take(&mut self.tasks().running);
        for task in running.into_values() {
            task.abort();
        }
    }

    /// Runs a task of the simulation in the place of this host: its draws are the host's, and it ends with it.
    #[allow(clippy::disallowed_methods, reason = "this is the one place where hosts' tasks are started")]
    pub(crate) fn run(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let number = {
            let mut tasks = self.tasks();
            tasks.next += 1;
            tasks.next
        };
        let inside = Inside { life: Arc::clone(self), number, task: Box::pin(task) };
        let handle = tokio::spawn(inside);
        if self.is_alive() {
            self.tasks().running.insert(number, handle.abort_handle());
        } else {
            handle.abort();
        }
    }

    /// Wall clock without this host's error, for the simulation.
    pub(crate) fn wall_at(now: u64) -> u64 {
        WALL_START * 1_000 + now / MILLI
    }
}

/// A task of a host.
struct Inside {
    life: Arc<Life>,
    number: u64,
    task: BoxFuture<'static, ()>,
}

impl Future for Inside {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.life.is_alive() {
            return Poll::Ready(());
        }
        let _entered = crate::entropy::enter(self.life.host);
        let poll = self.task.as_mut().poll(cx);
        if poll.is_ready() {
            let number = self.number;
            self.life.tasks().running.remove(&number);
        }
        poll
    }
}

impl Environment for Life {
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        if let Some(life) = self.me.upgrade() {
            life.run(task);
        }
    }

    fn wall(&self) -> Wall {
        Wall(Self::wall_at(self.trace.now()).saturating_add_signed(self.skew.load(Ordering::Relaxed)))
    }

    fn mono(&self) -> Mono {
        Mono((self.trace.now() - self.born) / MILLI)
    }

    fn sleep(&self, millis: u64) -> BoxFuture<'static, ()> {
        // far too long stands for never
        Box::pin(tokio::time::sleep(Duration::from_millis(millis.min(1 << 40))))
    }

    fn rng(&self) -> Box<dyn rand::CryptoRng + Send> {
        let _entered = crate::entropy::enter(self.host);
        self.draws.fetch_add(1, Ordering::Relaxed);
        Box::new(rand::make_rng::<StdRng>())
    }

    fn transport(&self, identity: &Keypair, purpose: Purpose) -> io::Result<Transport> {
        transport(Arc::clone(&self.net), self.host, self.boot, identity, purpose == Purpose::Main)
    }

    fn has_lan(&self) -> bool {
        false
    }
}

impl Host for Life {
    fn open_store(&self, config: StoreConfig) -> Result<(Store, OpenReport), OpenError> {
        let _entered = crate::entropy::enter(self.host);
        let opened = Store::open(config)?;
        *self.store.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened.0.clone());
        Ok(opened)
    }

    fn observe(&self, output: &Output) {
        if self.is_alive() && self.witness.does(self.host, output) {
            self.crash();
        }
    }

    fn hear(&self, input: &Input) {
        if self.is_alive() {
            self.witness.hears(self.host, input);
        }
    }
}
