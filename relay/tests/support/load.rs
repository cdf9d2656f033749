//! A load on relays, and what they promised meanwhile.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kith_protocol::EnvelopeId;
use kith_protocol::crypto::envelope::envelope_id;
use kith_protocol::wire::relay::{Answer, Ask, RefusalCode};
use tokio::sync::oneshot::Receiver;

use super::peer::*;
use super::process::Process;

const TTL: u32 = 86_400;
pub const OWNERS: u64 = 3;
/// Loads are not what is limited here.
pub const CONFIG: &str = "[rate]\nrequests_per_link = 0\nrequests_per_network = 0\nmailboxes_per_network = 0";

/// What was promised for one mailbox.
#[derive(Default)]
pub struct Promised {
    /// In custody.
    kept: HashSet<EnvelopeId>,
    /// Collected, and that was acknowledged.
    gone: HashSet<EnvelopeId>,
    /// Collected, with no answer: either may be.
    asked: HashSet<EnvelopeId>,
    deposited: u64,
}

/// What was promised by all processes of a relay.
#[derive(Clone)]
pub struct Ledger {
    mailboxes: Arc<Vec<Mutex<Promised>>>,
    /// Set when a load is to end by itself.
    pub stop: Arc<AtomicBool>,
    /// Loads that have begun.
    begun: Arc<AtomicU64>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            mailboxes: Arc::new((0..OWNERS).map(|_| Mutex::default()).collect()),
            stop: Arc::default(),
            begun: Arc::default(),
        }
    }
}

impl Ledger {
    /// Deposits acknowledged so far.
    pub fn count(&self) -> u64 {
        self.mailboxes.iter().map(|promised| promised.lock().unwrap().deposited).sum()
    }

    fn of(&self, owner: u64) -> std::sync::MutexGuard<'_, Promised> {
        self.mailboxes[owner as usize].lock().unwrap()
    }

    /// Waits until all loads were begun, those of earlier rounds among them.
    pub async fn begun(&self, loads: u64) {
        let begun = async {
            while self.begun.load(Ordering::SeqCst) < loads {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(super::CEILING, begun).await.expect("a load does not begin");
    }

    /// Waits until so many more were acknowledged than `before`.
    pub async fn reaches(&self, before: u64, more: u64) {
        let reached = async {
            while self.count() < before + more {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        // the long version has much to sync
        tokio::time::timeout(super::CEILING * 10, reached).await.expect("too slow");
    }
}

/// The answer, or `None` if the link ended; one that says "busy" is `Some(None)`.
async fn unless_busy(answers: Receiver<Vec<Answer>>) -> Option<Option<Answer>> {
    let answers = tokio::time::timeout(super::CEILING, answers).await.expect("no answer in time").ok()?;
    match answers.into_iter().next()? {
        Answer::Refused(refusal) if refusal.code == RefusalCode::Busy => {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some(None)
        }
        answer => Some(Some(answer)),
    }
}

async fn deposits(owner: Arc<Owner>, n: u64, contact: Peer, name: String, ledger: Ledger) {
    for number in 0_u64.. {
        let size = [256, 512, 4096, 8192][(number % 4) as usize];
        // a few under way at a time
        let mut answers = Vec::new();
        for letter in [
            envelope(&format!("{name} {n} {number}"), size),
            envelope(&format!("{name} {n} {number} too"), 256),
        ] {
            answers.push((envelope_id(&letter), contact.send(owner.deposit(0, &letter, TTL)).await));
        }
        for (id, answer) in answers {
            match unless_busy(answer).await {
                None => return,
                Some(None) => {}
                Some(Some(Answer::Custody(_))) => {
                    let mut promised = ledger.of(n);
                    promised.kept.insert(id);
                    promised.deposited += 1;
                }
                Some(Some(other)) => panic!("{other:?}"),
            }
        }
        if ledger.stop.load(Ordering::SeqCst) {
            return;
        }
    }
}

async fn collections(owner: Arc<Owner>, n: u64, ledger: Ledger) {
    while !ledger.stop.load(Ordering::SeqCst) {
        let some: Vec<EnvelopeId> = {
            let mut promised = ledger.of(n);
            let some: Vec<EnvelopeId> =
                promised.kept.iter().filter(|id| id.0[0] % 3 == 0).take(5).copied().collect();
            for id in &some {
                promised.kept.remove(id);
                promised.asked.insert(*id);
            }
            some
        };
        if some.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if owner.peer.is_closed() {
                return;
            }
            continue;
        }
        let ask = Ask::Collect { mailbox: owner.mailbox, envelopes: some.clone() };
        match unless_busy(owner.peer.send(ask).await).await {
            None => return,
            // it may have been done all the same
            Some(None) => {}
            Some(Some(Answer::Opened(_))) => {
                let mut promised = ledger.of(n);
                for id in some {
                    promised.asked.remove(&id);
                    promised.gone.insert(id);
                }
            }
            Some(Some(other)) => panic!("{other:?}"),
        }
    }
}

/// Opens the mailbox and puts a right in force, asked again while the relay is busy.
async fn ready(owner: &Owner) {
    let rights = Ask::SetRights { mailbox: owner.mailbox, put: vec![owner.spec(0)], revoke: vec![] };
    for ask in [owner.open_ask(""), rights] {
        loop {
            match unless_busy(owner.peer.send(ask.clone()).await).await {
                Some(None) => {}
                Some(Some(answer)) => {
                    assert_eq!(refused(&answer), None);
                    break;
                }
                None => panic!("the link ended"),
            }
        }
    }
}

/// Deposits at one process and collects at another, or the same, until one is gone or the ledger says stop.
pub async fn load(owners_at: String, contacts_at: String, name: String, ledger: Ledger) {
    // all are there before the first promise is made, since with enough of them the relay is killed
    let mut people = Vec::new();
    for n in 0..OWNERS {
        // devices have keys of their own each time
        let seed = |what: &str| {
            let mut seed = [0; 8];
            let id = envelope_id(&envelope(&format!("{name} {n} {what}"), 64));
            seed.iter_mut().zip(id.0).for_each(|(to, from)| *to = from);
            u64::from_le_bytes(seed)
        };
        let owner = Arc::new(Owner::connect_as(&owners_at, 100 + n, seed("owner")).await);
        ready(&owner).await;
        people.push((n, owner, Peer::connect(&contacts_at, seed("contact")).await));
    }
    ledger.begun.fetch_add(1, Ordering::SeqCst);
    let mut tasks = tokio::task::JoinSet::new();
    for (n, owner, contact) in people {
        tasks.spawn(deposits(Arc::clone(&owner), n, contact, name.clone(), ledger.clone()));
        tasks.spawn(collections(owner, n, ledger.clone()));
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

/// What was promised is so.
pub async fn assert_promises(relay: &Process, ledger: &Ledger) {
    for n in 0..OWNERS {
        let owner = Owner::connect(relay.tcp(), 100 + n).await;
        owner.open().await;
        let listed: BTreeSet<EnvelopeId> = owner.list().await.iter().map(|listed| listed.id).collect();
        let (kept, gone) = {
            let mut promised = ledger.of(n);
            // what was asked for without an answer may be either; from now on it is known
            for id in std::mem::take(&mut promised.asked) {
                if listed.contains(&id) {
                    promised.kept.insert(id);
                } else {
                    promised.gone.insert(id);
                }
            }
            (promised.kept.clone(), promised.gone.clone())
        };
        let lost: Vec<_> = kept.iter().filter(|id| !listed.contains(id)).collect();
        let risen: Vec<_> = gone.iter().filter(|id| listed.contains(id)).collect();
        assert!(lost.is_empty() && risen.is_empty(), "lost {lost:?}, risen {risen:?}");
        let ids: Vec<EnvelopeId> = kept.into_iter().collect();
        for stored in owner.get(&ids).await {
            assert_eq!(envelope_id(&stored.envelope), stored.id);
        }
    }
    relay.audit();
}
