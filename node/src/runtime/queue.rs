//! Outputs on their way to taking effect: what stands behind a `Persist` waits for it, in order.

use std::collections::VecDeque;

use kith_protocol::engine::Output;
use kith_protocol::record::Change;
use kith_store::{CommitError, CommitTicket};

/// Outputs are read ahead up to this many bytes,
const AHEAD_BYTES: usize = 1024 * 1024;
/// and this many rows, before they are committed.
const AHEAD_ROWS: usize = 1_000;
/// What a message of usual size takes at most.
const LIGHT_ROWS: usize = 64;
/// Bytes of it.
const LIGHT_BYTES: usize = 64 * 1024;
/// Commits on their way to the disk. The store joins those that wait into one write.
const COMMITS: usize = 64;
/// Outputs that wait for the disk, above which nothing more is read.
const WAITING: usize = 16 * 1024;

/// A commit on its way to the disk and what waits for it.
#[derive(Debug)]
struct Commit {
    ticket: CommitTicket,
    /// Highest number among its `Persist`s.
    n: u64,
    behind: Vec<Output>,
}

/// What the next commit will hold.
#[derive(Debug, Default)]
struct Forming {
    changes: Vec<Change>,
    bytes: usize,
    n: Option<u64>,
    behind: Vec<Output>,
}

/// The one ordered stream of outputs, as far as it has not taken effect.
#[derive(Debug, Default)]
pub(super) struct Queue {
    commits: VecDeque<Commit>,
    forming: Forming,
    waiting: usize,
}

impl Queue {
    /// Takes the next output. Gives it back if it may take effect at once: nothing it could depend on is under way.
    pub(super) fn push(&mut self, output: Output) -> Option<Output> {
        match output {
            Output::Persist { n, changes } => {
                self.forming.bytes += changes.iter().map(Change::weight).sum::<usize>();
                self.forming.changes.extend(changes);
                self.forming.n = Some(n);
                None
            }
            output if self.forming.n.is_some() => {
                self.forming.bytes += size(&output);
                self.forming.behind.push(output);
                self.waiting += 1;
                None
            }
            output => match self.commits.back_mut() {
                Some(commit) => {
                    commit.behind.push(output);
                    self.waiting += 1;
                    None
                }
                None => Some(output),
            },
        }
    }

    /// The forming commit is as large as it may become.
    pub(super) fn is_formed(&self) -> bool {
        self.forming.bytes >= AHEAD_BYTES || self.forming.changes.len() >= AHEAD_ROWS
    }

    /// No more outputs can be taken before something is on disk.
    pub(super) fn is_full(&self) -> bool {
        self.waiting >= WAITING || (self.commits.len() >= COMMITS && self.is_formed())
    }

    /// Hands what has formed to the store as one batch, if there is room on the way.
    pub(super) fn commit(&mut self, store: impl FnOnce(Vec<Change>) -> CommitTicket) {
        let Some(n) = self.forming.n else { return };
        if self.commits.len() >= COMMITS {
            return;
        }
        let forming = std::mem::take(&mut self.forming);
        self.commits.push_back(Commit { ticket: store(forming.changes), n, behind: forming.behind });
    }

    /// No commit is on its way to the disk, and the next is as small as a message's.
    pub(super) fn is_light(&self) -> bool {
        let Forming { changes, bytes, .. } = &self.forming;
        self.commits.is_empty() && changes.len() <= LIGHT_ROWS && *bytes <= LIGHT_BYTES
    }

    /// Waits for the oldest commit; never ends while there is none. Cancelling loses nothing.
    pub(super) async fn persisted(&mut self) -> Result<(u64, Vec<Output>), CommitError> {
        match self.commits.front_mut() {
            Some(commit) => (&mut commit.ticket).await?,
            None => std::future::pending().await,
        }
        let Some(commit) = self.commits.pop_front() else { return std::future::pending().await };
        self.waiting = self.waiting.saturating_sub(commit.behind.len());
        Ok((commit.n, commit.behind))
    }

    /// Everything has taken effect.
    pub(super) fn is_empty(&self) -> bool {
        self.commits.is_empty() && self.forming.n.is_none()
    }
}

fn size(output: &Output) -> usize {
    match output {
        Output::Send { frame, .. } => frame.len(),
        Output::Deposit { request, .. } => request.len(),
        Output::Provide { record, .. } => record.len(),
        _ => 64,
    }
}

#[cfg(test)]
mod tests {
    use kith_protocol::engine::LinkId;
    use kith_protocol::record::{Clock, Row};
    use kith_protocol::{DeviceId, Wall};
    use kith_store::{MasterKey, MemoryDisk, Store, StoreConfig};

    use super::*;

    fn persist(n: u64) -> Output {
        Output::Persist { n, changes: vec![Change::Put(Row::from(Clock { believed: Wall(n) }))] }
    }

    fn send(link: u64) -> Output {
        Output::Send { peer: DeviceId([1; 32]), link: LinkId(link), frame: vec![0; 10].into() }
    }

    fn store() -> Store {
        Store::open(StoreConfig::memory(MemoryDisk::default(), MasterKey::from_bytes([7; 32]))).unwrap().0
    }

    #[tokio::test]
    async fn what_stands_before_every_persist_goes_at_once() {
        let mut queue = Queue::default();
        assert_eq!(queue.push(send(1)), Some(send(1)));
        assert!(queue.is_empty());
    }

    #[tokio::test]
    async fn what_stands_behind_a_persist_waits_for_it_in_order() {
        let store = store();
        let mut queue = Queue::default();
        for output in [persist(1), send(1), persist(2), send(2)] {
            assert_eq!(queue.push(output), None);
        }
        queue.commit(|changes| {
            assert_eq!(changes.len(), 2, "both persists are one batch");
            store.commit(changes)
        });
        assert_eq!(queue.push(send(3)), None, "nothing overtakes a commit under way");
        let (n, behind) = queue.persisted().await.unwrap();
        assert_eq!((n, behind), (2, vec![send(1), send(2), send(3)]));
        assert!(queue.is_empty());
        assert_eq!(queue.push(send(4)), Some(send(4)));
    }

    #[tokio::test]
    async fn the_next_commit_forms_while_one_is_under_way() {
        let store = store();
        let mut queue = Queue::default();
        queue.push(persist(1));
        queue.push(send(1));
        queue.commit(|changes| store.commit(changes));
        queue.push(persist(2));
        queue.push(send(2));
        queue.commit(|changes| store.commit(changes));
        assert_eq!(queue.persisted().await.unwrap(), (1, vec![send(1)]));
        assert_eq!(queue.persisted().await.unwrap(), (2, vec![send(2)]));
    }

    #[test]
    fn reading_ahead_is_bounded() {
        let mut queue = Queue::default();
        let mut n = 0;
        while !queue.is_formed() {
            n += 1;
            queue.push(persist(n));
        }
        assert_eq!(n as usize, AHEAD_ROWS);
    }
}
