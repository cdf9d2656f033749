//! One device's state machine.
//!
//! Order of calls: [`Engine::handle_input`] (or [`Engine::handle_timeout`] once [`Engine::poll_timeout`] is due), then
//! [`Engine::poll_output`] until it is empty. The driver makes every [`Output::Persist`] durable before it releases what
//! stands behind it, then calls [`Engine::persisted`]. While [`Engine::is_full`] it takes no input.
//!
//! The Engine knows no socket and no file. Its parts: `links` (what lives as long as a connection), `outbox` (jobs),
//! `inbox` (envelopes) and `holes` (those that came too early), `sessions`, `messages` (writing) and `entries` (what
//! comes in), `acks` and `receipts`, `gaps` (repair), `invites`, `contacts`, `telling` (them about us) and `lists` (of their devices), `discovery`. Of relays: `carry` and
//! `custody` (deposits at others' relays), `relayed` (receipts on that way), `accused` (relays that lost something); `stations`, `fetch`, `grants`, `prekeys`,
//! `canary` and `own_relays` (our own). Each is a set of steps on the one `core::Core` of rows and clocks.

mod accused;
mod acks;
mod canary;
mod carry;
mod clock;
mod command;
mod contacts;
mod core;
mod custody;
mod discovery;
mod entries;
mod fetch;
mod gaps;
mod genesis;
mod grants;
mod holes;
mod inbox;
mod input;
mod invites;
mod links;
mod lists;
mod messages;
mod outbox;
mod output;
mod own_relays;
mod prekeys;
mod receipts;
mod relayed;
mod restored;
mod sessions;
mod stations;
mod sweep;
mod telling;
mod timer;

use std::collections::{BTreeMap, BTreeSet};

pub use command::{Answer, Command, CommandError};
pub use discovery::own_directory_key;
pub use genesis::{Genesis, NewAccount, genesis};
pub use input::{CommandId, DepositFailure, DepositId, Input, LinkId};
pub use output::{ClockReport, Output, Transient};

use self::core::Core;
use self::timer::Timer;
use crate::crypto::CryptoError;
use crate::id::{AccountId, DeviceId, EnvelopeId};
use crate::limits;
use crate::record::{ReadError, Reader};
use crate::time::{Mono, Now, Wall};

/// How often lifetimes are looked at.
const HOUSEKEEPING: u64 = limits::MINUTE;

/// Why a device's Engine could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The store holds no account yet.
    #[error("no account here yet; run `kith init --name YOU` first")]
    NoAccount,
    /// The account's own certificate or list cannot be read.
    #[error("this device's own keys are damaged; run `kith store check`")]
    Damaged,
    /// The store failed or is damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why a step could not be finished. Nothing of the step remains.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// The other side did what a correct Kith does not do.
    #[error("{0}")]
    Misbehaviour(String),
    #[error("internal error while {0}")]
    Internal(&'static str),
}

impl From<Fault> for CommandError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Read(error) => Self::Read(error),
            Fault::Crypto(_) => Self::Internal("encrypting"),
            Fault::Misbehaviour(_) => Self::Internal("handling a command"),
            Fault::Internal(what) => Self::Internal(what),
        }
    }
}

/// One device.
#[derive(Debug)]
pub struct Engine {
    core: Core,
    links: BTreeMap<DeviceId, links::Link>,
    reach: BTreeMap<DeviceId, discovery::Reach>,
    directory: discovery::Directory,
    gaps: gaps::Gaps,
    /// What a restore of the store lost and is asked for again.
    lost_numbers: restored::LostNumbers,
    sweep: sweep::Sweep,
    /// Queues being ended: up to which place, and why.
    dropping: BTreeMap<DeviceId, (u64, &'static str)>,
    /// Devices whose payloads made no sense, in this process: people are told once.
    senseless: BTreeSet<DeviceId>,
    /// This device found itself older than it was, in this process.
    rolled_back_at: Option<Wall>,
    /// Contacts that said so without proof, in this process.
    rolled_back_for: BTreeSet<AccountId>,
    /// Devices whose queue may move.
    pump: BTreeSet<DeviceId>,
    /// Devices that are owed acknowledgements or receipts.
    tell: BTreeSet<DeviceId>,
    /// Contacts that are still to be told anew about us.
    untold: telling::Untold,
    /// Our weekly directory keys, made once for all who are told.
    week_keys: Option<telling::WeekKeys>,
    /// The week up to which contacts' supply of directory keys was looked at.
    topped_up: Option<u64>,
    /// Device lists of contacts that were heard of and are not here.
    lists: lists::Lists,
    /// When devices were last told our own because they asked.
    lists_told: BTreeMap<DeviceId, Mono>,
    /// What came and is not opened.
    inbound: BTreeMap<DeviceId, holes::Inbound>,
    /// Bundles that are wanted.
    wishes: BTreeMap<DeviceId, sessions::Wish>,
    /// Receipts that go by relays.
    relayed: relayed::Relayed,
    /// Deposits at others' relays.
    carry: carry::Carry,
    /// Our own relays.
    stations: BTreeMap<DeviceId, stations::Station>,
    /// Envelopes taken from relays lately.
    taken: BTreeSet<EnvelopeId>,
    /// Relays that had not what others had, by who sent it.
    lacking: fetch::LackingBy,
    /// Relays that others say broke their word.
    accused: accused::Accused,
    /// When those that lost all we had there were last told of.
    forgetful: BTreeMap<DeviceId, Mono>,
    /// When a device was last believed that a relay had lost all it kept for it.
    lost: BTreeMap<(DeviceId, DeviceId), Mono>,
    /// When one-time keys were last looked through.
    keys_swept: Wall,
}

impl Engine {
    /// Opens the device whose rows `reader` holds.
    ///
    /// # Errors
    /// [`OpenError`] if there is no account or the store is damaged.
    pub fn open(
        reader: Box<dyn Reader>,
        rng: Box<dyn rand::CryptoRng + Send>,
        now: Now,
    ) -> Result<Self, OpenError> {
        let mut engine = Self {
            core: Core::open(reader, rng, now)?,
            links: BTreeMap::new(),
            reach: BTreeMap::new(),
            directory: discovery::Directory::default(),
            gaps: BTreeMap::new(),
            lost_numbers: BTreeMap::new(),
            sweep: sweep::Sweep::default(),
            dropping: BTreeMap::new(),
            senseless: BTreeSet::new(),
            rolled_back_at: None,
            rolled_back_for: BTreeSet::new(),
            pump: BTreeSet::new(),
            tell: BTreeSet::new(),
            untold: telling::Untold::new(),
            week_keys: None,
            topped_up: None,
            lists: lists::Lists::new(),
            lists_told: BTreeMap::new(),
            inbound: BTreeMap::new(),
            wishes: BTreeMap::new(),
            relayed: relayed::Relayed::default(),
            carry: carry::Carry::new([0; 16], 0),
            stations: BTreeMap::new(),
            taken: BTreeSet::new(),
            lacking: fetch::LackingBy::new(),
            accused: accused::Accused::new(),
            forgetful: BTreeMap::new(),
            lost: BTreeMap::new(),
            keys_swept: Wall(0),
        };
        let first = u32::from_be_bytes(engine.core.random());
        engine.carry = carry::Carry::new(engine.core.random(), first);
        engine.core.begin(now);
        engine.core.timers.set(Timer::Housekeeping, now.mono.plus(1));
        let looked = engine.look_after_restore();
        engine.finish(looked, "looking after a restore");
        let started = engine.resume();
        engine.finish(started, "starting");
        Ok(engine)
    }

    /// Picks up what a stop interrupted.
    fn resume(&mut self) -> Result<(), Fault> {
        self.resume_dropping()?;
        self.open_stations()?;
        self.resume_carrying()?;
        self.plan_receipts()?;
        self.resume_telling()?;
        self.plan_reach()
    }

    /// Takes one input.
    pub fn handle_input(&mut self, input: Input, now: Now) {
        self.core.begin(now);
        let (result, doing) = match input {
            Input::Command { id, command } => {
                let result = self.command(command);
                if result.is_err() {
                    self.core.abandon();
                }
                self.core.say(Output::Answer { id, result });
                (Ok(()), "answering a command")
            }
            Input::Connected { peer, link, address } => {
                (self.connected(peer, link, address), "greeting a device")
            }
            Input::Disconnected { peer, link } => (self.disconnected(peer, link), "closing a link"),
            Input::Frame { peer, link, bytes } => (self.frame(peer, link, &bytes), "reading a frame"),
            // the next attempt is planned already
            Input::DialFailed { peer: _ } | Input::Provided { key: _, stored: true } => (Ok(()), "dialling"),
            Input::Provided { key: _, stored: false } => {
                self.core.timers.set_earlier(Timer::Publish, now.mono.plus(30 * limits::SECOND));
                (Ok(()), "publishing")
            }
            Input::Discovered { peer, addresses } => (self.discovered(peer, addresses), "looking round"),
            Input::Addresses(addresses) => {
                self.addresses_changed(addresses);
                (Ok(()), "taking addresses")
            }
            Input::Found { key, record } => (self.found(key, &record), "reading a directory record"),
            Input::FindEnded { key } => {
                self.find_ended(key);
                (Ok(()), "searching")
            }
            Input::Deposited { id, result } => (self.deposited(id, result), "taking a relay's answer"),
            Input::DirectoryReady => (self.directory_ready(), "joining the directory"),
        };
        self.finish(result, doing);
    }

    /// Does what is due; call when [`Engine::poll_timeout`] says so.
    pub fn handle_timeout(&mut self, now: Now) {
        self.core.begin(now);
        while let Some(timer) = self.core.timers.pop_due(now.mono) {
            let result = self.timer(timer);
            self.finish(result, timer.reason());
            if self.is_full() {
                break;
            }
        }
    }

    /// Seals any payload for a device, whatever an honest engine would say: for tests of what a contact may do to us.
    #[cfg(feature = "testing")]
    pub(crate) fn whisper(
        &mut self,
        device: DeviceId,
        account: AccountId,
        body: crate::wire::PayloadBody,
        now: Now,
    ) -> bool {
        self.core.begin(now);
        let said = self.enqueue_payload(device, account, body);
        let well = said.is_ok();
        self.finish(said.map(|_| ()), "whispering");
        well
    }

    /// When to call [`Engine::handle_timeout`] at the latest, and why (for logs).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Mono, &'static str)> {
        self.core.timers.next().map(|(at, timer)| (at, timer.reason()))
    }

    /// The next effect.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.core.poll()
    }

    /// All batches up to `n` are on disk.
    pub fn persisted(&mut self, n: u64) {
        self.core.rows.persisted(n);
    }

    /// Too much is not on disk yet: take no input now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.core.rows.bytes() > limits::UNPERSISTED
    }

    /// Devices with a live link.
    pub fn linked(&self) -> impl Iterator<Item = DeviceId> + '_ {
        self.links.keys().copied()
    }

    fn timer(&mut self, timer: Timer) -> Result<(), Fault> {
        match timer {
            Timer::Receipts(device) => self.tell_device(device),
            Timer::Apply(device, stream) => self.apply_frontier(device, stream),
            Timer::Hole(device) => self.hole_timeout(device),
            Timer::Gap(stream) => self.gap_timeout(stream),
            Timer::Repair(device) => self.ask_repair(device),
            Timer::Stalled(device) => self.stalled(device),
            Timer::Drop(device) => self.drop_more(device),
            Timer::Reach(device) => self.reach_timeout(device),
            Timer::Carry(device) => self.carry_due(device),
            Timer::RelayReceipt(device) => self.relay_receipt_due(device),
            Timer::ReceiptAfterStart(device) => self.receipt_after_start(device),
            Timer::Relay(relay) => self.relay_silent(relay),
            Timer::OpenAgain(relay) => self.open_again(relay),
            Timer::Canary(relay) => self.canary_due(relay),
            Timer::List(device) => self.list_missing(device),
            Timer::Tell => self.tell_more(),
            Timer::Publish => self.publish(),
            Timer::Housekeeping => self.housekeeping(),
        }
    }

    fn housekeeping(&mut self) -> Result<(), Fault> {
        let more = self.expire_jobs()? | self.sweep()?;
        let pause = if more { 1 } else { HOUSEKEEPING };
        self.core.timers.set(Timer::Housekeeping, self.core.now.mono.plus(pause));
        self.current_bundle()?;
        self.prune_prekeys()?;
        self.prune_invites()?;
        self.core.prune_events()?;
        self.forget_restoration()?;
        self.renew_list()?;
        self.prune_copies()?;
        self.tend_relays()?;
        self.ask_for_lost()?;
        if self.top_up_weeks()? {
            self.core.timers.set(Timer::Housekeeping, self.core.now.mono.plus(1));
        }
        Ok(())
    }

    fn command(&mut self, command: Command) -> Result<Answer, CommandError> {
        match command {
            Command::CreateInvite { uses, ttl } => self.create_invite(uses, ttl),
            Command::RevokeInvite(id) => self.revoke_invite(id),
            Command::AcceptInvite { uri } => self.accept_invite(&uri),
            Command::Send { to, text, reply_to, client } => self.send_text(to, text, reply_to, client),
            Command::Edit { target, text } => self.edit(target, text),
            Command::Delete { target } => self.delete(target),
            Command::React { target, emoji } => self.react(target, emoji),
            Command::MarkRead { with, up_to } => {
                self.mark_read(with, up_to)?;
                Ok(Answer::Done)
            }
            Command::Typing { to, active } => self.typing(to, active),
            Command::RenameContact { account, name } => self.rename(account, name),
            Command::Block(account) => self.block(account),
            Command::Unblock(account) => self.unblock(account),
            Command::RemoveContact(account) => self.remove(account),
            Command::VerifyContact { account, verified } => self.verify_contact(account, verified),
            Command::SetReadReceipts { account, on } => self.set_read_receipts(account, on),
            Command::SetTyping(on) => self.set_typing(on),
            Command::SetProfile { name, about } => self.set_profile(name, about),
            Command::AddRelay { relay, address, token } => self.add_relay(relay, address, token),
            Command::RemoveRelay(relay) => self.remove_relay(relay),
            Command::AcknowledgeRestoration => self.acknowledge_restoration(),
        }
    }

    /// Ends a turn: its batch, then what queues and joined receipts have to send.
    fn finish(&mut self, result: Result<(), Fault>, doing: &'static str) {
        if let Err(fault) = result {
            self.core.abandon();
            self.report(&fault, doing);
        }
        self.core.commit();
        self.pump_all();
        self.tell_all();
        self.tell_relays();
    }

    /// What our own relays are to know after this turn: rights, and what they need not keep.
    fn tell_relays(&mut self) {
        if self.stations.is_empty() {
            return;
        }
        if let Err(fault) = self.send_all_grants() {
            self.core.abandon();
            self.report(&fault, "telling relays about rights");
        }
        self.collect_all();
        self.core.commit();
    }

    fn report(&self, fault: &Fault, doing: &'static str) {
        match fault {
            Fault::Misbehaviour(why) => tracing::debug!(doing, why, "a device misbehaves"),
            Fault::Read(_) | Fault::Crypto(_) | Fault::Internal(_) => {
                tracing::warn!(doing, %fault, "a step failed")
            }
        }
    }
}
