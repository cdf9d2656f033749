//! One turn: requests are picked, read for, decided, written and answered.

use std::collections::{HashMap, HashSet, VecDeque};
use std::task::Poll;

use kith_network::Event;
use kith_protocol::engine::LinkId;
use kith_protocol::mailbox::{
    Accepted, Batch, Group, Mailbox, Outcome, ReadJob, RowKey, WriteJob, WriteKind,
};
use kith_protocol::wire::relay::{Answer, Ask};
use kith_store::mailbox::{Found, MailboxStoreError, Read, Written};
use tokio::sync::mpsc;
use tracing::{debug, error};

use super::Driver;
use super::links::Kind;
use crate::order::{OrderError, Reply};

/// Decisions of one group.
const JOBS: usize = 512;
/// Requests of one turn that change nothing.
const READS: usize = 128;
/// How often a request is decided because another relay was faster each time: one of two comes through, and which one is
/// chance.
const TRIES: u8 = 16;

/// Bytes that may wait on a link before it is given more to read,
const UNREAD: usize = 256 * 1024;
/// and on all links together before only those with nothing waiting are.
const UNREAD_TOTAL: usize = 256 * 1024 * 1024;

const fn is_slow((link, total): (usize, usize)) -> bool {
    link > UNREAD || (total > UNREAD_TOTAL && link > 0)
}

/// A request that changes something, until it is decided and written.
pub(super) struct Pending {
    job: WriteJob,
    /// Who ordered it, if that was the operator.
    operator: Option<Reply<bool>>,
    /// How often another relay was faster.
    tries: u8,
}

impl Pending {
    fn of_link(job: WriteJob) -> Self {
        Self { job, operator: None, tries: 0 }
    }

    pub(super) fn of_operator(kind: WriteKind, reply: Reply<bool>) -> Self {
        Self { job: WriteJob { link: None, request: 0, kind }, operator: Some(reply), tries: 0 }
    }

    /// Tells the operator what came of it.
    pub(super) fn tell(&mut self, done: Result<bool, OrderError>) {
        if let Some(reply) = self.operator.take() {
            // whoever asked may be gone
            let _ = reply.send(done);
        }
    }
}

/// A decided job.
struct Decided {
    pending: Pending,
    outcome: Outcome,
}

/// What a turn has to do.
#[derive(Default)]
struct Work {
    reads: Vec<ReadJob>,
    writes: VecDeque<Pending>,
}

impl Driver {
    /// Does what can be done together of what waits; `false` if there is nothing that can be done now.
    pub(super) async fn turn(&mut self, events: &mut mpsc::Receiver<Event>) -> bool {
        self.turns = self.turns.wrapping_add(1);
        let (mut work, picked) = self.pick();
        if work.reads.is_empty() && work.writes.is_empty() {
            return picked;
        }
        let mut group = Group::default();
        let mut damaged = HashSet::new();
        let keys: HashSet<RowKey> =
            work.writes.iter().flat_map(|pending| Mailbox::needs(&pending.job)).collect();
        let loaded = self.read_for(&mut group, keys, &mut damaged).await;
        let reads = std::mem::take(&mut work.reads);
        self.serve_reads(reads).await;
        if let Err(error) = loaded {
            self.store_failure(&error);
            self.fail_all(work.writes);
            return true;
        }
        if !work.writes.is_empty() {
            self.write_group(work.writes, group, damaged, events).await;
        }
        true
    }

    fn pick(&mut self) -> (Work, bool) {
        let mut work = Work::default();
        work.writes.append(&mut self.carried);
        let (mut reads, mut writes) = (0, work.writes.len());
        let mut writing: HashMap<LinkId, Kind> = HashMap::new();
        for pending in &work.writes {
            if let Some(link) = pending.job.link {
                writing.insert(link, Kind::Open);
            }
        }
        let network = self.network.clone();
        let picked = self.links.pick(|link, kind| {
            let before = writing.get(&link).copied();
            match (kind, before) {
                // who does not take what was sent is not sent more
                (Kind::Read, _) if is_slow(network.queued(link)) => false,
                // in order: what follows an open waits for it, and a read for the writes before it
                (_, Some(Kind::Open)) | (Kind::Read, Some(_)) => false,
                (Kind::Read, None) => {
                    reads += 1;
                    reads <= READS
                }
                (kind, _) => {
                    writes += 1;
                    if writes <= JOBS {
                        writing.insert(link, kind);
                    }
                    writes <= JOBS
                }
            }
        });
        let any = !picked.is_empty();
        for (link, request) in picked {
            let now = self.now();
            if matches!(request.ask, Ask::Open(_))
                && let Some(origin) = self.links.origin(link)
            {
                let may = self.rates.may_make_mailbox(origin, now.mono);
                self.mailbox.hold_back(link, !may);
            }
            match self.mailbox.accept(link, request, now) {
                Accepted::Reply(reply) => self.reply(link, reply),
                Accepted::Read(job) => work.reads.push(job),
                Accepted::Write(job) => work.writes.push_back(Pending::of_link(job)),
                Accepted::Nothing => {}
            }
        }
        (work, any)
    }

    /// Reads rows into a group. Damaged ones are noted: what needs them cannot be decided.
    pub(super) async fn read_for(
        &self,
        group: &mut Group,
        keys: impl IntoIterator<Item = RowKey>,
        damaged: &mut HashSet<RowKey>,
    ) -> Result<(), MailboxStoreError> {
        let keys: Vec<RowKey> = keys.into_iter().filter(|key| !group.has(key)).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let found = self.store.read(keys.iter().copied().map(Read::Row).collect()).await?;
        for (key, found) in keys.into_iter().zip(found) {
            match found {
                Found::Row(row) => group.supply(key, row),
                _ => {
                    self.counters.add(|c| &c.damaged_rows, 1);
                    damaged.insert(key);
                }
            }
        }
        Ok(())
    }

    /// Decides, writes and answers. What does not fit any more, because another relay has changed the same mailboxes, has
    /// its turn again with the next group; the rest of the group stands.
    async fn write_group(
        &mut self,
        mut jobs: VecDeque<Pending>,
        mut group: Group,
        mut damaged: HashSet<RowKey>,
        events: &mut mpsc::Receiver<Event>,
    ) {
        let mut decided = Vec::with_capacity(jobs.len());
        if let Err(error) = self.decide(&mut group, &mut jobs, &mut decided, &mut damaged).await {
            self.store_failure(&error);
            jobs.extend(decided.into_iter().map(|decided| decided.pending));
            return self.fail_all(jobs);
        }
        let batches = group.batches();
        if batches.is_empty() {
            self.carried = jobs;
            return self.finish(decided).await;
        }
        let written = self.write(batches, events, |mailbox| {
            for decided in &mut decided {
                mailbox.sign(&mut decided.outcome);
            }
        });
        match written.await {
            Ok(written) => {
                let done = self.sort_out(written, decided, jobs);
                self.finish(done).await;
            }
            Err(error) => {
                self.store_failure(&error);
                jobs.extend(decided.into_iter().map(|decided| decided.pending));
                self.fail_all(jobs);
            }
        }
    }

    /// The decisions that stand. The others have their turn next, each mailbox's in the order in which they came.
    fn sort_out(&mut self, written: Written, decided: Vec<Decided>, jobs: VecDeque<Pending>) -> Vec<Decided> {
        let Written { totals, conflicts } = written;
        if let Some(totals) = totals {
            self.counters.add(|c| &c.batches, 1);
            self.mailbox.set_totals(totals);
        }
        let (mut done, mut again) = (decided, VecDeque::new());
        if totals.is_none() || !conflicts.is_empty() {
            let conflicts: HashSet<RowKey> = conflicts.into_iter().collect();
            let stands = |decided: &Decided| {
                totals.is_some()
                    && !Mailbox::heads(&decided.pending.job).any(|head| conflicts.contains(&head))
            };
            let (standing, fallen): (Vec<_>, Vec<_>) = done.into_iter().partition(stands);
            done = standing;
            self.counters.add(|c| &c.conflicts, 1);
            self.counters.add(|c| &c.decided_again, fallen.len() as u64);
            for mut pending in fallen.into_iter().map(|decided| decided.pending) {
                pending.tries = pending.tries.saturating_add(1);
                if pending.tries < TRIES {
                    again.push_back(pending);
                } else {
                    debug!("other relays changed the same mailbox too often");
                    self.fail(pending);
                }
            }
        }
        self.counters.add(|c| &c.batch_jobs, done.len() as u64);
        again.extend(jobs);
        self.carried = again;
        done
    }

    /// Decides jobs until the group is as large as the store likes it; what is left stays in `jobs`.
    async fn decide(
        &mut self,
        group: &mut Group,
        jobs: &mut VecDeque<Pending>,
        decided: &mut Vec<Decided>,
        damaged: &mut HashSet<RowKey>,
    ) -> Result<(), MailboxStoreError> {
        let rows = self.store.batch_rows();
        let now = self.now();
        let more: HashSet<RowKey> =
            jobs.iter().flat_map(|pending| Mailbox::needs_more(group, &pending.job)).collect();
        self.read_for(group, more, damaged).await?;
        while let Some(pending) = jobs.front() {
            if group.changed() >= rows && !decided.is_empty() {
                break;
            }
            match self.mailbox.decide(group, &pending.job, now) {
                Ok(outcome) => {
                    if let Some(pending) = jobs.pop_front() {
                        decided.push(Decided { pending, outcome });
                    }
                }
                Err(keys) if keys.iter().any(|key| damaged.contains(key)) => {
                    if let Some(pending) = jobs.pop_front() {
                        error!("a request cannot be answered: its rows are damaged");
                        self.fail(pending);
                    }
                }
                Err(keys) => self.read_for(group, keys, damaged).await?,
            }
        }
        Ok(())
    }

    /// Writes batches; meanwhile what can be is prepared, and more may arrive.
    async fn write(
        &mut self,
        batches: Vec<Batch>,
        events: &mut mpsc::Receiver<Event>,
        meanwhile: impl FnOnce(&Mailbox),
    ) -> Result<Written, MailboxStoreError> {
        let now = self.now();
        let wall = self.mailbox.time(now).wall;
        let store = std::sync::Arc::clone(&self.store);
        let mut write = store.write(batches, wall);
        // a write begins when it is asked for the first time
        let mut done = futures::poll!(&mut write);
        meanwhile(&self.mailbox);
        let written = loop {
            if let Poll::Ready(written) = done {
                break written;
            }
            tokio::select! {
                biased;
                written = &mut write => done = Poll::Ready(written),
                Some(event) = events.recv(), if self.links.queued_bytes() < self.queue_bytes => self.event(event),
            }
        };
        self.counters.add(|c| &c.batch_millis, self.environment.mono().since(now.mono));
        if written.is_ok() {
            self.store_failed = false;
        }
        written
    }

    /// Answers what is durable now, and wakes those who wait for it.
    async fn finish(&mut self, decided: Vec<Decided>) {
        let mut arrivals = HashSet::new();
        for Decided { mut pending, outcome } in decided {
            if let Outcome::Operator(found) = outcome {
                pending.tell(Ok(found));
            }
            let job = pending.job;
            self.count(&job, &outcome);
            let (reply, arrived) = self.mailbox.finish_write(&job, outcome);
            if let (Some(link), Some(reply)) = (job.link, reply) {
                self.reply(link, reply);
            }
            arrivals.extend(arrived);
        }
        let mut woken = Vec::new();
        for mailbox in arrivals {
            for wait in self.mailbox.waits().arrived(mailbox) {
                woken.extend(self.mailbox.resume(&wait));
            }
        }
        if !woken.is_empty() {
            self.serve_reads(woken).await;
        }
    }

    fn count(&mut self, job: &WriteJob, outcome: &Outcome) {
        match outcome {
            Outcome::Custody { custody, new: true, .. } => {
                self.counters.add(|c| &c.deposits, 1);
                self.counters.add(|c| &c.deposited_bytes, u64::from(custody.size));
            }
            Outcome::Custody { new: false, .. } | Outcome::Answer(Answer::Collected(_)) => {
                self.counters.add(|c| &c.deposits_again, 1);
            }
            Outcome::Answer(Answer::Bundle { one_time_key, .. }) => {
                self.counters.add(|c| &c.bundles_given, 1);
                self.counters.add(|c| &c.one_time_keys_given, u64::from(one_time_key.is_some()));
            }
            Outcome::Opened(state) if state.created => {
                self.counters.add(|c| &c.mailboxes_made, 1);
                if let Some(origin) = job.link.and_then(|link| self.links.origin(link)) {
                    self.rates.mailbox_made(origin);
                }
            }
            _ => {}
        }
        match job.kind {
            WriteKind::Collect { .. } => self.counters.add(|c| &c.collections, 1),
            // what was stored under a revoked right, and a removed mailbox, goes at once
            WriteKind::SetRights { .. } | WriteKind::Evict(_) => self.upkeep_due = self.environment.mono(),
            _ => {}
        }
    }

    pub(super) fn store_failure(&mut self, error: &MailboxStoreError) {
        self.counters.add(|c| &c.store_failures, 1);
        if !self.store_failed {
            error!("{error}");
        }
        self.store_failed = true;
    }

    fn fail(&mut self, mut pending: Pending) {
        if let Some(link) = pending.job.link {
            let reply = self.mailbox.fail(link, pending.job.request);
            self.reply(link, reply);
        }
        pending.tell(Err(OrderError::Busy));
    }

    fn fail_all(&mut self, jobs: VecDeque<Pending>) {
        jobs.into_iter().for_each(|pending| self.fail(pending));
    }
}
