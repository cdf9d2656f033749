//! What is past its time goes, a batch at a time, between requests.

use std::collections::HashSet;

use kith_protocol::Now;
use kith_protocol::mailbox::{Group, Row, RowKey, Upkeep, UpkeepRead, Work};
use kith_store::mailbox::{Found, MailboxStoreError, Read};
use tracing::{error, info};

use super::Driver;

/// Rows looked at in one step.
const ROWS: usize = 128;
/// How long to wait after a step that found nothing to do,
const IDLE: u64 = 5_000;
/// or failed.
const FAILED: u64 = 2_000;
/// The instant is stored at least so often.
const INSTANT: u64 = 3_600_000;

impl Driver {
    /// One step.
    pub(super) async fn upkeep(&mut self, now: Now) {
        let pause = match Box::pin(self.upkeep_step(now)).await {
            Ok(true) => 0,
            Ok(false) => IDLE,
            Err(error) => {
                self.store_failure(&error);
                FAILED
            }
        };
        self.upkeep_due = now.mono.plus(pause);
    }

    async fn upkeep_step(&mut self, now: Now) -> Result<bool, MailboxStoreError> {
        for read in self.mailbox.upkeep_reads(now) {
            let Some(upkeep) = self.find_upkeep(read).await? else { continue };
            let mut group = Group::default();
            let mut damaged = HashSet::new();
            while let Err(keys) = self.mailbox.upkeep(&mut group, &upkeep, now) {
                // a damaged row cannot be counted back: it goes without
                self.read_for(&mut group, keys, &mut damaged).await?;
                for key in damaged.drain() {
                    error!("a damaged row is taken for missing by upkeep");
                    group.supply(key, None);
                }
            }
            let batches = group.batches();
            if batches.is_empty() {
                continue;
            }
            self.counters.add(|c| &c.upkeep_batches, 1);
            let wall = self.mailbox.time(now).wall;
            if let Some(totals) = self.store.write(batches, wall).await?.totals {
                self.mailbox.set_totals(totals);
                self.store_failed = false;
            }
            // what was not written for a conflict is found again by the next step
            return Ok(true);
        }
        self.store_instant(now).await?;
        Ok(false)
    }

    /// So that a jump of the clock is noticed after a restart, and that a store that failed is tried again.
    async fn store_instant(&mut self, now: Now) -> Result<(), MailboxStoreError> {
        let time = self.mailbox.time(now);
        let last = self.store.state().await?.last;
        if self.store_failed || last.is_none_or(|last| time.wall.since(last) >= INSTANT) {
            self.store.write(Vec::new(), time.wall).await?;
            if self.store_failed {
                info!("the store works again");
            }
            self.store_failed = false;
        }
        Ok(())
    }

    async fn find_upkeep(&self, read: UpkeepRead) -> Result<Option<Upkeep>, MailboxStoreError> {
        let read = match read {
            UpkeepRead::Due(up_to) => Read::Due { up_to, max: ROWS },
            UpkeepRead::Visits(up_to) => Read::Visits { up_to, max: ROWS },
            UpkeepRead::Work => Read::Work { max: 1 },
        };
        let found = self.store.read(vec![read]).await?.pop();
        Ok(match (read, found) {
            (Read::Due { .. }, Some(Found::Keys(keys))) if !keys.is_empty() => Some(Upkeep::Due(keys)),
            (Read::Visits { .. }, Some(Found::Keys(keys))) if !keys.is_empty() => Some(Upkeep::Visits(keys)),
            (Read::Work { .. }, Some(Found::Rows(rows))) => match rows.first() {
                Some((RowKey::Work(mailbox, work), Row::Work(done))) => {
                    Some(self.find_work(*mailbox, *work, *done).await?)
                }
                _ => None,
            },
            _ => None,
        })
    }

    async fn find_work(
        &self,
        mailbox: kith_protocol::MailboxId,
        work: Work,
        done: u64,
    ) -> Result<Upkeep, MailboxStoreError> {
        let list = |after, max| Read::List { mailbox, after, max };
        match work {
            Work::Purge(right) => {
                let mut found = self.store.read(vec![list(done, ROWS + 1)]).await?;
                let Some(Found::List(mut listed)) = found.pop() else {
                    return Err(MailboxStoreError::Damaged("a mailbox cannot be listed".into()));
                };
                let more = listed.len() > ROWS;
                listed.truncate(ROWS);
                Ok(Upkeep::Purge { mailbox, right, listed, more })
            }
            Work::Evict => {
                let reads = vec![list(0, ROWS), Read::Rest { mailbox, max: ROWS * 4 }];
                let mut found = self.store.read(reads).await?;
                match (found.pop(), found.pop()) {
                    (Some(Found::Keys(rest)), Some(Found::List(listed))) => {
                        Ok(Upkeep::Evict { mailbox, listed, rest })
                    }
                    _ => Err(MailboxStoreError::Damaged("a mailbox cannot be listed".into())),
                }
            }
        }
    }
}
