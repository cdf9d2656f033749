//! A relay's store on a simulated disk: a write counts once the disk has synced it. The disk may be full, forget, or the
//! host crash around a write.

use std::sync::{Arc, Weak};

use kith_protocol::Wall;
use kith_protocol::mailbox::{Batch, RowKey};
use kith_store::mailbox::{
    Doing, Found, KvStore, MailboxStore, MailboxStoreError, MailboxStoreStats, Read, ScanPage, StoredState,
    Written,
};

use super::conduct::Conduct;
use crate::disk::Disk;
use crate::host::Life;
use crate::trace::Trace;

/// What a disk has that is not full.
const FREE: u64 = 64 << 30;

/// See the module.
pub(super) struct Shelf {
    pub(super) inner: Arc<KvStore>,
    pub(super) disk: Disk,
    pub(super) life: Weak<Life>,
    pub(super) host: u32,
    pub(super) conduct: Arc<Conduct>,
    pub(super) trace: Arc<Trace>,
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Shelf {
    /// The host may crash here.
    async fn moment(&self) {
        if self.conduct.burns()
            && let Some(life) = self.life.upgrade()
        {
            life.crash();
            std::future::pending::<()>().await;
        }
    }
}

impl MailboxStore for Shelf {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn batch_rows(&self) -> usize {
        self.inner.batch_rows()
    }

    fn state(&self) -> Doing<'_, StoredState> {
        self.inner.state()
    }

    fn read(&self, reads: Vec<Read>) -> Doing<'_, Vec<Found>> {
        self.inner.read(reads)
    }

    fn write(&self, mut batches: Vec<Batch>, now: Wall) -> Doing<'_, Written> {
        Box::pin(async move {
            if self.conduct.is_full() {
                return Err(MailboxStoreError::NoSpace { free: 0, needed: 1 });
            }
            self.moment().await;
            let rows = |batches: &[Batch]| batches.iter().map(|batch| batch.changes.len()).sum::<usize>();
            let all = rows(&batches);
            for batch in &mut batches {
                batch.changes.retain(|(key, row)| {
                    !matches!(key, RowKey::Envelope(..)) || row.is_none() || !self.conduct.forgets()
                });
            }
            let kept = rows(&batches);
            let written = self.inner.write(batches, now).await?;
            self.trace.note(self.host, format_args!("relay writes {kept} of {all} {written:?}"));
            self.moment().await;
            self.disk.durable().await;
            Ok(written)
        })
    }

    fn stats(&self) -> Doing<'_, MailboxStoreStats> {
        Box::pin(async move {
            let stats = self.inner.stats().await?;
            let free = if self.conduct.is_full() { 0 } else { FREE };
            Ok(MailboxStoreStats { free: Some(free), ..stats })
        })
    }

    fn scan(&self, after: Vec<u8>, max: usize) -> Doing<'_, ScanPage> {
        self.inner.scan(after, max)
    }

    fn close(&self) -> Doing<'_, ()> {
        self.inner.close()
    }
}
