//! A host's disk: it outlives the host's lives, takes its time to sync, and loses in a crash what was not synced.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use kith_store::MemoryDisk;
use tokio::sync::Notify;

use crate::draw::Draw;
use crate::host::Life;

/// A disk.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Shared>);

struct Shared {
    memory: MemoryDisk,
    /// How long a sync takes, in nanoseconds.
    sync: AtomicU64,
    syncing: AtomicBool,
    settled: AtomicU64,
    synced: Notify,
    crashes: Mutex<Draw>,
    life: Mutex<Weak<Life>>,
}

impl Disk {
    /// An empty disk whose syncs take so many nanoseconds.
    pub(crate) fn new(seed: u64, host: u32, sync: u64) -> Self {
        Self(Arc::new(Shared {
            memory: MemoryDisk::default(),
            sync: AtomicU64::new(sync),
            syncing: AtomicBool::new(false),
            settled: AtomicU64::new(0),
            synced: Notify::new(),
            crashes: Mutex::new(Draw::new(seed, "disk", u64::from(host))),
            life: Mutex::default(),
        }))
    }

    /// The store's end of it.
    pub(crate) fn memory(&self) -> MemoryDisk {
        self.0.memory.clone()
    }

    /// From now on syncs take so many nanoseconds.
    pub(crate) fn set_sync(&self, nanos: u64) {
        self.0.sync.store(nanos, Ordering::Relaxed);
    }

    /// A host boots from it.
    pub(crate) fn attach(&self, life: Weak<Life>) {
        *self.0.life.lock().unwrap_or_else(PoisonError::into_inner) = life;
        self.0.syncing.store(false, Ordering::Relaxed);
        let shared = Arc::downgrade(&self.0);
        self.0.memory.hold(move || {
            if let Some(shared) = shared.upgrade() {
                Self(shared).sync();
            }
        });
    }

    /// The host that runs on it, if one does.
    pub(crate) fn life(&self) -> Option<Arc<Life>> {
        self.0.life.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    /// Something was written. One sync is under way at a time; what is written meanwhile waits for the next.
    fn sync(&self) {
        if self.0.syncing.swap(true, Ordering::Relaxed) {
            return;
        }
        let Some(life) = self.life() else { return };
        let disk = self.clone();
        life.run(async move {
            loop {
                let mark = disk.0.memory.written();
                tokio::time::sleep(Duration::from_nanos(disk.0.sync.load(Ordering::Relaxed))).await;
                disk.0.settled.store(mark, Ordering::Relaxed);
                disk.0.memory.settle(mark);
                disk.0.synced.notify_waiters();
                if disk.0.memory.written() == mark {
                    break;
                }
            }
            disk.0.syncing.store(false, Ordering::Relaxed);
        });
    }

    /// Ends once everything written so far is on the disk. It never ends if the host goes down first.
    pub(crate) async fn durable(&self) {
        let mark = self.0.memory.written();
        self.sync();
        loop {
            let synced = self.0.synced.notified();
            if self.0.settled.load(Ordering::Relaxed) >= mark {
                return;
            }
            synced.await;
        }
    }

    /// Power off. Some of the writes that were not synced may have reached the disk, in their order.
    pub(crate) fn crash(&self) {
        let (settled, written) = (self.0.settled.load(Ordering::Relaxed), self.0.memory.written());
        let unsynced = usize::try_from(written.saturating_sub(settled)).unwrap_or(usize::MAX);
        let kept = self.0.crashes.lock().unwrap_or_else(PoisonError::into_inner).below(unsynced + 1);
        let kept = settled + kept as u64;
        // unanswered: whoever waits is gone
        self.0.memory.crash_after(kept);
        self.0.settled.store(self.0.memory.written(), Ordering::Relaxed);
    }
}
