//! Watches everything hosts are told and do: writes the trace, follows messages, and stops the run at the first broken
//! promise.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use kith_protocol::crypto::envelope::envelope_id;
use kith_protocol::engine::{Answer, Input, Output, Transient};
use kith_protocol::record::{Change, ContactState, Event, EventBody, JobBody, Rank, Row};
use kith_protocol::wire::Frame;
use kith_protocol::wire::relay::{Answer as Reply, Ask, RelayRequest};
use kith_protocol::{AccountId, DeviceId, EntryId, EnvelopeId};
use tokio::sync::Notify;

use super::custody::Custodies;
use super::figures::{Copies, Lookups, Samples};
use super::story::{Step, Story};
use crate::host::Witness;
use crate::trace::Trace;

/// Broken promises kept; the run stops at the first.
const BROKEN: usize = 16;

/// A promise that was not kept.
#[derive(Debug, Clone)]
pub struct Broken {
    /// Virtual nanoseconds since the run began.
    pub at: u64,
    /// Where.
    pub host: u32,
    /// What.
    pub what: String,
    /// The message concerned.
    pub entry: Option<EntryId>,
}

/// Somebody has something new to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct News {
    pub(crate) host: u32,
    pub(crate) from: u32,
    pub(crate) entry: EntryId,
}

/// What is counted and collected.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) stories: BTreeMap<EntryId, Story>,
    envelopes: BTreeMap<EnvelopeId, EntryId>,
    accounts: BTreeMap<AccountId, u32>,
    devices: BTreeMap<DeviceId, u32>,
    /// Who has accepted whom.
    friends: BTreeMap<(u32, u32), u64>,
    /// Messages by the place of their job in their author's queue for a device.
    jobs: BTreeMap<(u32, DeviceId, u64), EntryId>,
    pub(crate) custodies: Custodies,
    /// When an envelope with a message was given to a relay for the first time.
    given: BTreeMap<(u32, EnvelopeId), u64>,
    pub(crate) custody: Samples,
    /// Outputs until a host crashes.
    fuses: BTreeMap<u32, u32>,
    pub(crate) news: Vec<News>,
    pub(crate) lookups: Lookups,
    pub(crate) copies: Copies,
    pub(crate) latency: Samples,
    pub(crate) ticks: Samples,
    /// When a message was shown, and how long it had taken.
    pub(crate) arrivals: Vec<(u64, u64)>,
    pub(crate) accepted: u64,
    pub(crate) arrived: u64,
    pub(crate) checks: u64,
    pub(crate) broken: Vec<Broken>,
    pub(crate) notices: BTreeMap<String, u64>,
    pub(crate) fused: u64,
}

/// See the module.
pub(crate) struct Watch {
    trace: Arc<Trace>,
    ledger: Mutex<Ledger>,
    alarm: Notify,
}

impl Watch {
    pub(crate) fn new(trace: Arc<Trace>) -> Arc<Self> {
        Arc::new(Self { trace, ledger: Mutex::default(), alarm: Notify::new() })
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends once a promise is broken.
    pub(crate) async fn alarm(&self) {
        loop {
            let alarm = self.alarm.notified();
            if !self.ledger().broken.is_empty() {
                return;
            }
            alarm.await;
        }
    }

    /// Notes a broken promise.
    pub(crate) fn breach(&self, host: u32, entry: Option<EntryId>, what: String) {
        let broken = Broken { at: self.trace.now(), host, what, entry };
        self.trace.note(host, format_args!("BROKEN {}", broken.what));
        let mut ledger = self.ledger();
        if ledger.broken.len() < BROKEN {
            ledger.broken.push(broken);
        }
        self.alarm.notify_waiters();
    }

    /// The run has a person: their account, device and host.
    pub(crate) fn introduce(&self, host: u32, account: AccountId, device: DeviceId) {
        let mut ledger = self.ledger();
        ledger.accounts.insert(account, host);
        ledger.devices.insert(device, host);
    }

    /// The run has a relay.
    pub(crate) fn introduce_relay(&self, host: u32, device: DeviceId) {
        self.ledger().devices.insert(device, host);
    }

    /// The host crashes before its so-manieth next output.
    pub(crate) fn fuse(&self, host: u32, outputs: u32) {
        self.ledger().fuses.insert(host, outputs);
    }

    /// A host went down.
    pub(crate) fn down(&self, host: u32) {
        let now = self.trace.now();
        let mut ledger = self.ledger();
        ledger.fuses.remove(&host);
        ledger.lookups.down(host);
        for story in ledger.stories.values_mut().filter(|story| !story.has_arrived()) {
            if story.author == host {
                story.note(now, host, None, Step::AuthorDown);
            } else if story.to.contains(&host) {
                story.note(now, host, None, Step::RecipientDown);
            }
        }
    }

    fn persist(&self, ledger: &mut Ledger, host: u32, changes: &[Change], now: u64) -> Option<Broken> {
        let mut broken = None;
        for change in changes {
            let Change::Put(row) = change else { continue };
            match row {
                Row::Entry(entry) => {
                    let author = ledger.accounts.get(&entry.author).copied();
                    if author == Some(host) {
                        ledger.stories.entry(entry.id).or_insert_with(|| {
                            let mut story = Story::new(entry.id, host, now, entry.visible);
                            story.note(now, host, None, Step::Written);
                            story
                        });
                        if entry.deleted
                            && let Some(story) = ledger.stories.get_mut(&entry.id)
                        {
                            story.withdrawn = true;
                        }
                    } else if let Some(story) = ledger.stories.get_mut(&entry.id)
                        && story.stored.insert(host)
                    {
                        story.note(now, host, author, Step::Stored);
                    }
                }
                Row::Delivery(delivery) => {
                    if let Some(to) = ledger.accounts.get(&delivery.account)
                        && let Some(story) = ledger.stories.get_mut(&delivery.entry)
                    {
                        story.to.insert(*to);
                    }
                }
                Row::Carriage(carriage) => {
                    ledger.checks += 1;
                    let entry = ledger.jobs.get(&(host, carriage.device, carriage.seq)).copied();
                    let devices = &ledger.devices;
                    match ledger.custodies.stored(carriage, entry, |relay| devices.get(relay).copied()) {
                        Ok(new) => {
                            let mut story = entry.and_then(|entry| ledger.stories.get_mut(&entry));
                            for (relay, envelope) in new {
                                if let Some(given) = ledger.given.remove(&(relay, envelope)) {
                                    ledger.custody.add(now - given);
                                }
                                if let Some(story) = &mut story {
                                    story.note(now, host, Some(relay), Step::InCustody);
                                }
                            }
                        }
                        Err(what) => broken = Some(Broken { at: now, host, what, entry }),
                    }
                }
                Row::Job(job) => {
                    if let JobBody::Entry(entry) = job.body {
                        ledger.jobs.insert((host, job.device, job.seq), entry);
                    }
                    if let (JobBody::Entry(entry) | JobBody::Resend(entry), Some(sealed)) =
                        (&job.body, &job.sealed)
                    {
                        ledger.envelopes.insert(sealed.id, *entry);
                    }
                }
                _ => {}
            }
        }
        broken
    }

    fn tells(&self, ledger: &mut Ledger, host: u32, event: &Event, now: u64) -> Option<Broken> {
        let broken = |what: String, entry: EntryId| Some(Broken { at: now, host, what, entry: Some(entry) });
        match &event.body {
            EventBody::Message { entry, author, .. } => {
                ledger.checks += 1;
                let from = ledger.accounts.get(author).copied()?;
                let story = ledger.stories.get_mut(entry)?;
                if from == host {
                    return None;
                }
                story.note(now, host, None, Step::Shown);
                if story.shown.insert(host, now).is_some() {
                    return broken(
                        format!("node {host} was told twice of message {}", entry.short()),
                        *entry,
                    );
                }
                story.stored.insert(host);
                let took = now.saturating_sub(story.written);
                ledger.latency.add(took);
                ledger.arrivals.push((now, took));
                ledger.arrived += 1;
                ledger.news.push(News { host, from, entry: *entry });
            }
            EventBody::Status { entry, rank, .. } => {
                ledger.checks += 2;
                let story = ledger.stories.get_mut(entry)?;
                let before = story.rank;
                if *rank < before {
                    let what = format!("message {} fell from {before:?} to {rank:?}", entry.short());
                    return broken(what, *entry);
                }
                story.rank = *rank;
                let step = match rank {
                    Rank::Delivered => Step::Delivered,
                    Rank::Read => Step::Read,
                    Rank::Expired => Step::Expired,
                    Rank::Rejected => Step::Rejected,
                    Rank::Carried => Step::Carried,
                    Rank::Sent => Step::Secured,
                    Rank::Queued => return None,
                };
                story.note(now, host, None, step);
                if matches!(rank, Rank::Carried | Rank::Sent) && !ledger.custodies.prove(entry, *rank) {
                    let what = format!("message {} is {rank:?} without enough signed custody", entry.short());
                    return broken(what, *entry);
                }
                if *rank >= Rank::Delivered {
                    if story.ticked.is_none() {
                        story.ticked = Some(now);
                        ledger.ticks.add(now.saturating_sub(story.written));
                    }
                    if !story.withdrawn && !story.to.iter().any(|to| story.stored.contains(to)) {
                        let what = format!("message {} is {rank:?}, but nobody has stored it", entry.short());
                        return broken(what, *entry);
                    }
                }
            }
            EventBody::Contact { account, state: ContactState::Accepted } => {
                let friend = ledger.accounts.get(account).copied()?;
                ledger.friends.entry((host, friend)).or_insert(now);
            }
            EventBody::Notice { code, .. } => *ledger.notices.entry(code.clone()).or_insert(0) += 1,
            EventBody::Contact { .. } | EventBody::Changed { .. } | EventBody::Read { .. } => {}
        }
        None
    }

    /// Both have accepted each other.
    pub(crate) fn are_friends(&self, a: u32, b: u32) -> bool {
        let ledger = self.ledger();
        ledger.friends.contains_key(&(a, b)) && ledger.friends.contains_key(&(b, a))
    }

    fn name(ledger: &Ledger, device: &DeviceId) -> i64 {
        ledger.devices.get(device).map_or(-1, |host| i64::from(*host))
    }

    fn frame(&self, ledger: &mut Ledger, host: u32, peer: &DeviceId, bytes: &Bytes, now: u64, sent: bool) {
        let other = ledger.devices.get(peer).copied();
        let verb = if sent { "send" } else { "hear" };
        let name = Self::name(ledger, peer);
        let note = |kind: &str| {
            self.trace
                .note(host, format_args!("{verb} {name} {kind} {} {:016x}", bytes.len(), digest(bytes)));
        };
        match Frame::decode(bytes) {
            Ok(Frame::Envelope(sealed)) => {
                note("envelope");
                let id = envelope_id(&sealed);
                if !sent {
                    ledger.copies.arrived(host, id);
                }
                let entry = ledger.envelopes.get(&id).copied();
                if let Some(story) = entry.and_then(|entry| ledger.stories.get_mut(&entry)) {
                    story.note(now, host, other, if sent { Step::Sent } else { Step::Arrived });
                    if !sent {
                        story.by_relay.get_or_insert(false);
                    }
                }
            }
            Ok(Frame::Ack(ids)) => {
                note("ack");
                for id in ids {
                    let entry = ledger.envelopes.get(&id).copied();
                    if let Some(story) = entry.and_then(|entry| ledger.stories.get_mut(&entry)) {
                        story.note(now, host, other, if sent { Step::AckSent } else { Step::Acked });
                    }
                }
            }
            Ok(Frame::Hello { .. }) => note("hello"),
            Ok(Frame::Frontiers(_)) => note("frontiers"),
            Ok(Frame::Streams(_)) => note("streams"),
            Ok(Frame::BundleRequest { .. }) => note("bundle-request"),
            Ok(Frame::Bundle(_)) => note("bundle"),
            Ok(Frame::Typing { .. }) => note("typing"),
            Ok(Frame::Refuse { .. }) => note("refuse"),
            Ok(Frame::RelayRequest(_)) => note("relay-request"),
            Ok(Frame::RelayReply(reply)) => {
                note("relay-reply");
                let Reply::Envelopes { envelopes, .. } = reply.answer else { return };
                for stored in envelopes {
                    let id = envelope_id(&stored.envelope);
                    ledger.copies.arrived(host, id);
                    let entry = ledger.envelopes.get(&id).copied();
                    if let Some(story) = entry.and_then(|entry| ledger.stories.get_mut(&entry)) {
                        story.note(now, host, other, Step::Fetched);
                        story.by_relay.get_or_insert(true);
                    }
                }
            }
            Ok(Frame::RelayHello(_)) => note("relay-hello"),
            Ok(_) => note("other"),
            Err(_) => note("malformed"),
        }
    }
}

/// Eight bytes of a hash.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let hash = blake3::hash(bytes);
    hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

impl Witness for Watch {
    fn hears(&self, host: u32, input: &Input) {
        let now = self.trace.now();
        let mut ledger = self.ledger();
        let ledger = &mut *ledger;
        let note = |event: std::fmt::Arguments<'_>| self.trace.note(host, event);
        match input {
            Input::Frame { peer, bytes, .. } => self.frame(ledger, host, peer, bytes, now, false),
            Input::Connected { peer, link, .. } => {
                note(format_args!("up {} {}", Self::name(ledger, peer), link.0))
            }
            Input::Disconnected { peer, link } => {
                note(format_args!("gone {} {}", Self::name(ledger, peer), link.0));
            }
            Input::Deposited { id, result } => match result {
                Ok(reply) => note(format_args!("deposited {} {:016x}", id.0, digest(reply))),
                Err(failure) => note(format_args!("deposited {} {failure}", id.0)),
            },
            Input::DialFailed { peer } => note(format_args!("unreachable {}", Self::name(ledger, peer))),
            Input::Found { key, record } => {
                ledger.lookups.found(host, *key, now);
                note(format_args!("found {key:?} {:016x}", digest(record)));
            }
            Input::FindEnded { key } => {
                ledger.lookups.end(host, *key);
                note(format_args!("found-all {key:?}"));
            }
            Input::Provided { key, stored } => {
                if *stored {
                    ledger.lookups.published(*key);
                }
                note(format_args!("provided {key:?} {stored}"));
            }
            Input::Addresses(list) => note(format_args!("addresses {}", list.len())),
            Input::DirectoryReady => note(format_args!("directory-ready")),
            Input::Command { id, .. } => note(format_args!("command {}", id.0)),
            Input::Discovered { .. } => note(format_args!("discovered")),
            #[allow(unreachable_patterns, reason = "the Engine may be told more than this knows")]
            _ => note(format_args!("told something else")),
        }
    }

    fn does(&self, host: u32, output: &Output) -> bool {
        let now = self.trace.now();
        let mut ledger = self.ledger();
        if let Some(fuse) = ledger.fuses.get_mut(&host) {
            *fuse = fuse.saturating_sub(1);
            if *fuse == 0 {
                ledger.fuses.remove(&host);
                ledger.fused += 1;
                return true;
            }
        }
        let ledger = &mut *ledger;
        let note = |event: std::fmt::Arguments<'_>| self.trace.note(host, event);
        let mut broken = None;
        match output {
            Output::Persist { n, changes } => {
                let bytes = postcard::to_allocvec(changes).unwrap_or_default();
                note(format_args!("persist {n} {} {:016x}", changes.len(), digest(&bytes)));
                broken = self.persist(ledger, host, changes, now);
            }
            Output::Send { peer, frame, .. } => self.frame(ledger, host, peer, frame, now, true),
            Output::Deposit { id, relay, request, .. } => {
                let name = Self::name(ledger, relay);
                note(format_args!("deposit {} {name} {} {:016x}", id.0, request.len(), digest(request)));
                if let Ok(Frame::RelayRequest(RelayRequest { ask: Ask::Deposit(deposit), .. })) =
                    Frame::decode(request)
                {
                    let relay = ledger.devices.get(relay).copied();
                    let entry = ledger.envelopes.get(&deposit.id).copied();
                    if let Some(story) = entry.and_then(|entry| ledger.stories.get_mut(&entry)) {
                        story.note(now, host, relay, Step::Deposited);
                        if let Some(relay) = relay {
                            ledger.given.entry((relay, deposit.id)).or_insert(now);
                        }
                    }
                }
            }
            Output::Answer { id, result } => {
                note(format_args!("answer {} {}", id.0, result.is_ok()));
                if let Ok(Answer::Sent { entry, .. }) = result
                    && let Some(story) = ledger.stories.get_mut(entry)
                    && story.accepted.is_none()
                {
                    story.accepted = Some(now);
                    story.note(now, host, None, Step::Queued);
                    ledger.accepted += u64::from(story.visible);
                }
            }
            Output::Event(event) => {
                note(format_args!("event {} {}", event.cursor, words(&event.body)));
                broken = self.tells(ledger, host, event, now);
            }
            Output::Transient(Transient::Online { account, online }) => {
                let who = ledger.accounts.get(account).copied().unwrap_or(u32::MAX);
                note(format_args!("online {who} {online}"));
            }
            Output::Transient(Transient::Typing { active, .. }) => note(format_args!("typing {active}")),
            Output::Transient(Transient::Clock(report)) => {
                note(format_args!("clocks {} {} {}", report.heard, report.differing, report.doubted));
            }
            Output::Dial { peer, addresses } => {
                note(format_args!("wants {} {}", Self::name(ledger, peer), addresses.len()));
            }
            Output::Refuse { peer } => note(format_args!("refuses {}", Self::name(ledger, peer))),
            Output::Admit { peer } => note(format_args!("admits {}", Self::name(ledger, peer))),
            Output::Provide { key, record, .. } => {
                note(format_args!("provide {key:?} {:016x}", digest(record)))
            }
            Output::Withdraw { key } => {
                ledger.lookups.withdrawn(*key);
                note(format_args!("withdraw {key:?}"));
            }
            Output::Find { key } => {
                ledger.lookups.begin(host, *key, now);
                note(format_args!("find {key:?}"));
            }
            #[allow(unreachable_patterns, reason = "the Engine may do more than this knows")]
            _ => note(format_args!("does something else")),
        }
        if let Some(broken) = broken {
            self.trace.note(host, format_args!("BROKEN {}", broken.what));
            if ledger.broken.len() < BROKEN {
                ledger.broken.push(broken);
            }
            self.alarm.notify_waiters();
        }
        false
    }
}

fn words(body: &EventBody) -> String {
    match body {
        EventBody::Message { entry, .. } => format!("message {}", entry.short()),
        EventBody::Changed { entry, .. } => format!("changed {}", entry.short()),
        EventBody::Status { entry, rank, .. } => format!("status {} {rank:?}", entry.short()),
        EventBody::Read { unread, .. } => format!("read {unread}"),
        EventBody::Contact { account, state } => format!("contact {} {state:?}", account.short()),
        EventBody::Notice { code, .. } => format!("notice {code}"),
    }
}
