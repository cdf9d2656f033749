//! The whole relay but for its store, its links and its clock.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::access::{Admission, Links};
use super::batch::{Group, Stop, Tx};
use super::clock::{BelievedTime, RelayClock};
use super::policy::{Load, Policy};
use super::row::{RowKey, TokenRow, Totals};
use super::waits::{Parked, Waits};
use super::{Upkeep, UpkeepRead, deposit, expire, owner, rights, token_key};
use crate::crypto::custody::Custody;
use crate::crypto::envelope::{envelope_id, size_kind};
use crate::crypto::right::{mailbox_id, verify_open};
use crate::engine::LinkId;
use crate::id::{DeviceId, EnvelopeId, MailboxId, RightId};
use crate::identity::KeyPair;
use crate::limits;
use crate::time::{Mono, Now, Wall};
use crate::wire::Frame;
use crate::wire::relay::{
    AccessMode, Answer, Ask, Deposit, Listed, MailboxState, OpenMailbox, Refusal, RefusalCode, RelayHello,
    RelayReply, RelayRequest, RightSpec, Stored,
};

/// Envelopes above this are the first to be refused under load.
const LARGE: usize = 4096;
/// Bytes of envelopes answered to one get: whoever wants more asks again.
const GET_BYTES: usize = 256 * 1024;
/// When to try again under load, in seconds.
const BUSY_RETRY: u64 = 30;

/// What becomes of a request.
#[derive(Debug)]
pub enum Accepted {
    /// It is answered.
    Reply(RelayReply),
    /// Rows are to be read for it.
    Read(ReadJob),
    /// It is to be decided in a [`Group`].
    Write(WriteJob),
    /// The link is gone.
    Nothing,
}

/// A request that changes nothing.
#[derive(Debug, Clone)]
pub struct ReadJob {
    /// From this link,
    pub link: LinkId,
    /// under this number.
    pub request: u64,
    /// Where.
    pub mailbox: MailboxId,
    /// What.
    pub kind: ReadKind,
}

/// What is read.
#[derive(Debug, Clone)]
pub enum ReadKind {
    /// Envelopes beyond a cursor.
    List {
        /// The cursor.
        after: u64,
        /// At most so many, and one more to know whether there are more.
        max: u32,
        /// Park it until then, if there are none.
        wait_until: Option<Mono>,
    },
    /// These envelopes.
    Get(Vec<EnvelopeId>),
}

/// A request that changes something.
#[derive(Debug)]
pub struct WriteJob {
    /// From this link; `None`: the operator.
    pub link: Option<LinkId>,
    /// Under this number.
    pub request: u64,
    /// What.
    pub kind: WriteKind,
}

/// What is changed.
#[derive(Debug)]
pub enum WriteKind {
    /// Opens or makes a mailbox; the key was proven.
    Open {
        /// The key.
        read_key: [u8; 32],
        /// What lets it be made.
        admission: Admission,
    },
    /// Rights come and go.
    SetRights {
        /// Where.
        mailbox: MailboxId,
        /// These come.
        put: Vec<RightSpec>,
        /// These go.
        revoke: Vec<RightId>,
    },
    /// The owner has these.
    Collect {
        /// Where.
        mailbox: MailboxId,
        /// Which.
        envelopes: Vec<EnvelopeId>,
    },
    /// The owner leaves a bundle.
    PutBundle {
        /// Where.
        mailbox: MailboxId,
        /// The bundle.
        bundle: Option<Bytes>,
        /// In seconds.
        lifetime: u64,
        /// Keys.
        one_time_keys: Vec<[u8; 32]>,
        /// Those there go first.
        replace: bool,
    },
    /// A deposit; its envelope has the id it says.
    Deposit(Deposit),
    /// A bundle and a key are given out.
    TakeBundle {
        /// Where.
        mailbox: MailboxId,
        /// Under which right.
        right: RightId,
        /// Proven by
        nonce: [u8; 16],
        /// this.
        mac: [u8; 32],
    },
    /// The operator has a mailbox removed.
    Evict(MailboxId),
    /// The operator blocks a mailbox, or takes that back.
    Block(MailboxId, bool),
    /// The operator makes a token.
    PutToken([u8; 16], TokenRow),
    /// The operator takes a token back.
    RevokeToken([u8; 16]),
}

/// What was decided. It may be told once the batch is durable.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// This answer.
    Answer(Answer),
    /// The mailbox is open to this link.
    Opened(MailboxState),
    /// The envelope is in custody.
    Custody {
        /// To be signed.
        custody: Custody,
        /// It was not there before.
        new: bool,
        /// Signed in advance, by [`Mailbox::sign`].
        receipt: Option<Bytes>,
    },
    /// It is refused.
    Refused(Refusal),
    /// The operator's order was carried out, or there was nothing to carry it out on.
    Operator(bool),
}

/// One relay's state machine. See [the module](super).
#[derive(Debug)]
pub struct Mailbox {
    relay: DeviceId,
    key: KeyPair,
    policy: Policy,
    clock: RelayClock,
    links: Links,
    waits: Waits,
    load: Load,
    totals: Totals,
}

impl Mailbox {
    /// A relay with this key. `stored` is the last instant it stored, `totals` what it stored of its sums.
    #[must_use]
    pub fn new(key: KeyPair, policy: Policy, stored: Option<Wall>, totals: Totals, now: Now) -> Self {
        Self {
            relay: DeviceId(key.public()),
            key,
            policy,
            clock: RelayClock::new(stored, now),
            links: Links::default(),
            waits: Waits::default(),
            load: Load::Normal,
            totals,
        }
    }

    /// The relay's id.
    #[must_use]
    pub const fn relay(&self) -> DeviceId {
        self.relay
    }

    /// What the operator has set.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The operator has set something else.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// How much is refused from now on.
    pub const fn set_load(&mut self, load: Load) {
        self.load = load;
    }

    /// How much is refused.
    #[must_use]
    pub const fn load(&self) -> Load {
        self.load
    }

    /// The sums, as of the last batch that was written.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// A batch was written. With several processes on one store, the store's own sums are handed in now and then.
    pub const fn set_totals(&mut self, totals: Totals) {
        self.totals = totals;
    }

    /// What time it is, if the clock can be believed.
    pub fn time(&mut self, now: Now) -> BelievedTime {
        self.clock.read(now)
    }

    /// The operator says that the wall clock is right.
    pub const fn confirm_clock(&mut self, now: Now) {
        self.clock.confirm(now);
    }

    /// A link is up. The hello goes out on it first. `nonce` is fresh and random.
    pub fn connected(&mut self, link: LinkId, peer: DeviceId, nonce: [u8; 32], now: Now) -> Bytes {
        self.links.insert(link, peer, nonce);
        let hello = RelayHello {
            version: crate::wire::VERSION,
            nonce,
            mode: self.policy.mode,
            time: self.clock.read(now).wall,
            limits: self.policy.limits(),
        };
        Frame::RelayHello(hello).encode()
    }

    /// A link is gone.
    pub fn disconnected(&mut self, link: LinkId) {
        self.links.remove(link);
        self.waits.disconnected(link);
    }

    /// Whether this link may not make a mailbox now: its network has made many lately.
    pub fn hold_back(&mut self, link: LinkId, held_back: bool) {
        if let Some(state) = self.links.get_mut(link) {
            state.held_back = held_back;
        }
    }

    /// Links up.
    #[must_use]
    pub fn links(&self) -> usize {
        self.links.len()
    }

    /// Parked waits.
    #[must_use]
    pub const fn waits(&mut self) -> &mut Waits {
        &mut self.waits
    }

    /// Takes a request: answers it, or says what has to be done for it.
    pub fn accept(&mut self, link: LinkId, request: RelayRequest, now: Now) -> Accepted {
        let number = request.id;
        match self.check(link, request, now) {
            Ok(accepted) => accepted,
            Err(refusal) => Accepted::Reply(RelayReply { id: number, answer: Answer::Refused(refusal) }),
        }
    }

    fn check(&mut self, link: LinkId, request: RelayRequest, now: Now) -> Result<Accepted, Refusal> {
        let RelayRequest { id: request, ask } = request;
        let Some(state) = self.links.get_mut(link) else { return Ok(Accepted::Nothing) };
        if state.open_requests >= limits::RELAY_REQUESTS {
            return Err(Refusal::after(RefusalCode::Busy, 1));
        }
        let kind = match ask {
            Ask::Open(open) => self.open(link, &open)?,
            Ask::SetRights { mailbox, put, revoke } => {
                self.owned(link, mailbox)?;
                self.bear(Load::Critical, put.is_empty())?;
                WriteKind::SetRights { mailbox, put, revoke }
            }
            Ask::List { mailbox, after, max } => {
                self.owned(link, mailbox)?;
                return Ok(self.read(link, request, mailbox, list(after, max, None)));
            }
            Ask::Wait { mailbox, after, max, deadline } => {
                self.owned(link, mailbox)?;
                let until = now.mono.plus(u64::from(deadline).min(limits::RELAY_WAIT));
                return Ok(self.read(link, request, mailbox, list(after, max, Some(until))));
            }
            Ask::Get { mailbox, envelopes } => {
                self.owned(link, mailbox)?;
                return Ok(self.read(link, request, mailbox, ReadKind::Get(envelopes)));
            }
            Ask::Collect { mailbox, envelopes } => {
                self.owned(link, mailbox)?;
                WriteKind::Collect { mailbox, envelopes }
            }
            Ask::PutBundle { mailbox, bundle, lifetime, one_time_keys, replace } => {
                self.owned(link, mailbox)?;
                self.bear(Load::Critical, false)?;
                WriteKind::PutBundle { mailbox, bundle, lifetime, one_time_keys, replace }
            }
            Ask::Deposit(deposit) => {
                self.bear(Load::Critical, false)?;
                self.bear(Load::Heavy, deposit.envelope.len() <= LARGE)?;
                if self.policy.mode == AccessMode::Closed {
                    return Err(Refusal::new(RefusalCode::Closed));
                }
                if deposit.ttl == 0 || size_kind(deposit.envelope.len()).is_none() {
                    return Err(Refusal::new(RefusalCode::Malformed));
                }
                if envelope_id(&deposit.envelope) != deposit.id {
                    return Err(Refusal::new(RefusalCode::Malformed));
                }
                WriteKind::Deposit(deposit)
            }
            Ask::TakeBundle { mailbox, right, nonce, mac } => {
                self.bear(Load::Critical, false)?;
                WriteKind::TakeBundle { mailbox, right, nonce, mac }
            }
            Ask::Unknown => return Err(Refusal::new(RefusalCode::Unsupported)),
        };
        self.begun(link);
        Ok(Accepted::Write(WriteJob { link: Some(link), request, kind }))
    }

    fn begun(&mut self, link: LinkId) {
        if let Some(state) = self.links.get_mut(link) {
            state.open_requests += 1;
        }
    }

    fn ended(&mut self, link: LinkId) {
        if let Some(state) = self.links.get_mut(link) {
            state.open_requests = state.open_requests.saturating_sub(1);
        }
    }

    fn read(&mut self, link: LinkId, request: u64, mailbox: MailboxId, kind: ReadKind) -> Accepted {
        self.begun(link);
        Accepted::Read(ReadJob { link, request, mailbox, kind })
    }

    fn owned(&mut self, link: LinkId, mailbox: MailboxId) -> Result<(), Refusal> {
        match self.links.get_mut(link) {
            Some(state) if state.has_opened(mailbox) => Ok(()),
            _ => Err(Refusal::new(RefusalCode::NotOpened)),
        }
    }

    /// Refuses at this load, unless it is `light`.
    fn bear(&self, level: Load, light: bool) -> Result<(), Refusal> {
        if self.load >= level && !light {
            return Err(Refusal::after(RefusalCode::Busy, BUSY_RETRY));
        }
        Ok(())
    }

    fn open(&mut self, link: LinkId, open: &OpenMailbox) -> Result<WriteKind, Refusal> {
        let relay = self.relay;
        let Some(state) = self.links.get_mut(link) else {
            return Err(Refusal::new(RefusalCode::NotOpened));
        };
        if !verify_open(&open.read_key, &relay, &state.nonce, &open.signature) {
            return Err(Refusal::new(RefusalCode::WrongSignature));
        }
        let (peer, held_back) = (state.peer, state.held_back);
        let full = self.policy.mailboxes != 0
            && u64::try_from(self.totals.mailboxes).unwrap_or(0) >= self.policy.mailboxes;
        let admission = match self.policy.mode {
            AccessMode::Closed | AccessMode::Other(_) => Admission::Closed,
            AccessMode::AllowList if !self.policy.allowed.contains(&peer) => Admission::NotAllowed,
            AccessMode::Token if open.token.is_empty() => Admission::NoToken,
            _ if full => Admission::Full,
            _ if self.load >= Load::High || held_back => Admission::Busy,
            AccessMode::Token => Admission::Token(token_key(&open.token)),
            AccessMode::Open | AccessMode::AllowList => Admission::Free,
        };
        Ok(WriteKind::Open { read_key: open.read_key, admission })
    }

    /// Rows a job will surely need, to be read for many jobs at once.
    pub fn needs(job: &WriteJob) -> Vec<RowKey> {
        match &job.kind {
            WriteKind::Open { read_key, admission } => {
                let mut keys = vec![RowKey::Mailbox(mailbox_id(read_key))];
                if let Admission::Token(token) = admission {
                    keys.push(RowKey::Token(*token));
                }
                keys
            }
            WriteKind::SetRights { mailbox, put, revoke } => std::iter::once(RowKey::Mailbox(*mailbox))
                .chain(put.iter().map(|spec| RowKey::Right(*mailbox, spec.right)))
                .chain(revoke.iter().map(|right| RowKey::Right(*mailbox, *right)))
                .collect(),
            WriteKind::Collect { mailbox, envelopes } => std::iter::once(RowKey::Mailbox(*mailbox))
                .chain(envelopes.iter().map(|envelope| RowKey::Known(*mailbox, *envelope)))
                .collect(),
            WriteKind::PutBundle { mailbox, .. }
            | WriteKind::Evict(mailbox)
            | WriteKind::Block(mailbox, _) => {
                vec![RowKey::Mailbox(*mailbox)]
            }
            WriteKind::Deposit(deposit) => vec![
                RowKey::Mailbox(deposit.mailbox),
                RowKey::Right(deposit.mailbox, deposit.right),
                RowKey::Known(deposit.mailbox, deposit.id),
            ],
            WriteKind::TakeBundle { mailbox, right, .. } => {
                vec![RowKey::Mailbox(*mailbox), RowKey::Right(*mailbox, *right), RowKey::Bundle(*mailbox)]
            }
            WriteKind::PutToken(key, _) | WriteKind::RevokeToken(key) => vec![RowKey::Token(*key)],
        }
    }

    /// The mailbox and the token a job is decided upon. If one of them was changed by somebody else before the job's group
    /// was written, the job is decided again, also if it changed nothing: it may have seen what the group did not keep.
    pub fn heads(job: &WriteJob) -> impl Iterator<Item = RowKey> {
        Self::needs(job).into_iter().filter(|key| *key == key.head())
    }

    /// Rows a job will need besides, as far as that can be told by those that were supplied: read for many jobs at once,
    /// they are one round trip instead of one for each job.
    pub fn needs_more(group: &Group, job: &WriteJob) -> Vec<RowKey> {
        let WriteKind::Collect { mailbox, envelopes } = &job.kind else { return Vec::new() };
        let rights: BTreeSet<RightId> =
            envelopes.iter().filter_map(|envelope| group.stored_under(*mailbox, *envelope)).collect();
        rights.into_iter().map(|right| RowKey::Right(*mailbox, right)).collect()
    }

    /// Decides a job on the rows of a group.
    ///
    /// # Errors
    /// Rows to supply to the group before this job is decided again.
    pub fn decide(&mut self, group: &mut Group, job: &WriteJob, now: Now) -> Result<Outcome, Vec<RowKey>> {
        let time = self.clock.read(now);
        let total = u64::try_from(self.totals.plus(group.totals_so_far()).bytes).unwrap_or(0);
        let (policy, relay) = (&self.policy, self.relay);
        let decided = group.decide(|tx| decide(tx, policy, relay, total, &job.kind, time))?;
        Ok(decided.unwrap_or_else(Outcome::Refused))
    }

    /// Signs a receipt while its batch is being written: signing takes as long as a fast disk does. It must not leave before
    /// [`Mailbox::finish_write`].
    pub fn sign(&self, outcome: &mut Outcome) {
        if let Outcome::Custody { custody, receipt: receipt @ None, .. } = outcome {
            *receipt = Some(custody.sign(&self.key));
        }
    }

    /// The reply to a job whose batch is durable, and the mailbox in which something arrived.
    pub fn finish_write(
        &mut self,
        job: &WriteJob,
        outcome: Outcome,
    ) -> (Option<RelayReply>, Option<MailboxId>) {
        if let Some(link) = job.link {
            self.ended(link);
        }
        let mut arrived = None;
        let answer = match outcome {
            Outcome::Answer(answer) => answer,
            Outcome::Opened(state) => {
                let max = self.policy.opened_per_link;
                if let (WriteKind::Open { .. }, Some(link)) = (&job.kind, job.link)
                    && let Some(link) = self.links.get_mut(link)
                {
                    link.open(state.mailbox, max);
                }
                Answer::Opened(state)
            }
            Outcome::Custody { custody, new, receipt } => {
                arrived = new.then_some(custody.mailbox);
                Answer::Custody(receipt.unwrap_or_else(|| custody.sign(&self.key)))
            }
            Outcome::Refused(refusal) => Answer::Refused(refusal),
            Outcome::Operator(found) => {
                match job.kind {
                    WriteKind::Evict(mailbox) | WriteKind::Block(mailbox, true) if found => {
                        self.links.close_mailbox(mailbox);
                    }
                    _ => {}
                }
                return (None, None);
            }
        };
        (job.link.map(|_| RelayReply { id: job.request, answer }), arrived)
    }

    /// The reply to a job that could not be written, though it was accepted.
    pub fn fail(&mut self, link: LinkId, request: u64) -> RelayReply {
        self.ended(link);
        let refusal = Refusal::after(RefusalCode::Busy, BUSY_RETRY);
        RelayReply { id: request, answer: Answer::Refused(refusal) }
    }

    /// The reply to a list: `listed` are those beyond the cursor, up to one more than asked for. `None`: it is parked.
    /// The second reply is to a wait that had to give way.
    pub fn finish_list(
        &mut self,
        job: &ReadJob,
        mut listed: Vec<Listed>,
        now: Now,
    ) -> (Option<RelayReply>, Option<(LinkId, RelayReply)>) {
        self.ended(job.link);
        let ReadKind::List { after, max, wait_until } = job.kind else { return (None, None) };
        if let Some(deadline) = wait_until
            && listed.is_empty()
            && deadline > now.mono
        {
            if self.links.get_mut(job.link).is_none() {
                return (None, None);
            }
            let (link, request, mailbox) = (job.link, job.request, job.mailbox);
            let gave_way = self.waits.park(Parked { link, request, mailbox, after, max, deadline });
            return (None, gave_way.map(|wait| (wait.link, nothing(wait.request))));
        }
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let more = listed.len() > max;
        listed.truncate(max);
        (Some(RelayReply { id: job.request, answer: Answer::Listed { envelopes: listed, more } }), None)
    }

    /// A wait that was woken becomes a list again; if nothing is there after all it is parked once more.
    pub fn resume(&mut self, wait: &Parked) -> Option<ReadJob> {
        let state = self.links.get_mut(wait.link)?;
        state.open_requests += 1;
        let kind = ReadKind::List { after: wait.after, max: wait.max, wait_until: Some(wait.deadline) };
        Some(ReadJob { link: wait.link, request: wait.request, mailbox: wait.mailbox, kind })
    }

    /// The replies to a get. What was asked for and is in none of them has to be asked for again.
    pub fn finish_get(
        &mut self,
        job: &ReadJob,
        found: Vec<Stored>,
        missing: Vec<EnvelopeId>,
    ) -> Vec<RelayReply> {
        self.ended(job.link);
        let room = limits::FRAME - missing.len() * (EnvelopeId::LEN + 4) - 64;
        let mut pages: Vec<Vec<Stored>> = vec![Vec::new()];
        let mut used = 0;
        for stored in found {
            let size = stored.envelope.len() + Stored::WIRE;
            if used + size > room && used > 0 {
                pages.push(Vec::new());
                used = 0;
            }
            used += size;
            if let Some(page) = pages.last_mut() {
                page.push(stored);
            }
        }
        let last = pages.len() - 1;
        let mut missing = Some(missing);
        let reply = |(n, envelopes)| RelayReply {
            id: job.request,
            answer: Answer::Envelopes {
                envelopes,
                missing: missing.take().unwrap_or_default(),
                more: n < last,
            },
        };
        pages.into_iter().enumerate().map(reply).collect()
    }

    /// Bytes of envelopes after which a get is answered with what there is.
    #[must_use]
    pub const fn get_bytes() -> usize {
        GET_BYTES
    }

    /// The answer to a wait whose deadline has passed.
    #[must_use]
    pub const fn nothing(wait: &Parked) -> RelayReply {
        nothing(wait.request)
    }

    /// What to read to find work for [`Mailbox::upkeep`], in this order. Nothing that ends while the clock is in doubt.
    pub fn upkeep_reads(&mut self, now: Now) -> Vec<UpkeepRead> {
        let time = self.clock.read(now);
        if time.in_doubt {
            return vec![UpkeepRead::Work];
        }
        vec![
            UpkeepRead::Work,
            UpkeepRead::Due(expire::hour(time.wall)),
            UpkeepRead::Visits(expire::abandoned_day(time.wall)),
        ]
    }

    /// Does upkeep on the rows of a group of its own.
    ///
    /// # Errors
    /// Rows to supply to the group before it is done again.
    pub fn upkeep(&mut self, group: &mut Group, upkeep: &Upkeep, now: Now) -> Result<(), Vec<RowKey>> {
        let time = self.clock.read(now);
        // upkeep refuses nothing
        group.decide(|tx| expire::run(tx, upkeep, time.wall)).map(|done| done.unwrap_or_default())
    }
}

const fn nothing(request: u64) -> RelayReply {
    RelayReply { id: request, answer: Answer::Listed { envelopes: Vec::new(), more: false } }
}

fn list(after: u64, max: u32, wait_until: Option<Mono>) -> ReadKind {
    let page = u32::try_from(limits::RELAY_PAGE).unwrap_or(u32::MAX);
    ReadKind::List { after, max: max.clamp(1, page), wait_until }
}

fn decide(
    tx: &mut Tx<'_>,
    policy: &Policy,
    relay: DeviceId,
    total_bytes: u64,
    kind: &WriteKind,
    time: BelievedTime,
) -> Result<Outcome, Stop> {
    match kind {
        WriteKind::Open { read_key, admission } => owner::open(tx, policy, read_key, *admission, time),
        WriteKind::SetRights { mailbox, put, revoke } => {
            rights::set_rights(tx, policy, *mailbox, put, revoke, time)
        }
        WriteKind::Collect { mailbox, envelopes } => owner::collect(tx, policy, *mailbox, envelopes, time),
        WriteKind::PutBundle { mailbox, bundle, lifetime, one_time_keys, replace } => {
            let put = owner::Bundle {
                bundle: bundle.as_ref(),
                lifetime: *lifetime,
                one_time_keys,
                replace: *replace,
            };
            owner::put_bundle(tx, policy, *mailbox, &put, time)
        }
        WriteKind::Deposit(ask) => deposit::deposit(tx, policy, relay, total_bytes, ask, time),
        WriteKind::TakeBundle { mailbox, right, nonce, mac } => {
            deposit::take_bundle(tx, *mailbox, *right, nonce, mac, time)
        }
        WriteKind::Evict(id) => {
            let row = tx.mailbox(*id)?;
            let found = row.is_some();
            if let Some(row) = row.filter(|row| !row.evicting) {
                expire::mark_for_eviction(tx, *id, row);
            }
            Ok(Outcome::Operator(found))
        }
        WriteKind::Block(id, blocked) => {
            let row = tx.mailbox(*id)?;
            let found = row.is_some();
            if let Some(mut row) = row {
                row.blocked = *blocked;
                tx.set_mailbox(*id, row);
            }
            Ok(Outcome::Operator(found))
        }
        WriteKind::PutToken(key, row) => {
            // the version must rise also where a token of the same text was before
            let version = tx.token(*key)?.map_or(0, |old| old.version);
            tx.set_token(*key, TokenRow { version, ..row.clone() });
            Ok(Outcome::Operator(true))
        }
        WriteKind::RevokeToken(key) => {
            let row = tx.token(*key)?;
            let found = row.is_some();
            if let Some(row) = row {
                tx.set_token(*key, TokenRow { revoked: true, ..row });
            }
            Ok(Outcome::Operator(found))
        }
    }
}
