//! Our own relays: the link to each while it lives, the mailbox opened on it, and what was asked over it.

use std::collections::{BTreeMap, BTreeSet};

use super::links::Link;
use super::output::Output;
use super::timer::Timer;
use super::{Engine, Fault, LinkId};
use crate::crypto::right::{mailbox_id, read_key, sign_open};
use crate::id::{DeviceId, EnvelopeId, RightId};
use crate::limits;
use crate::record::{Key, KeyRange, MailboxFigures, Relay, RelayState};
use crate::time::Mono;
use crate::wire::Frame;
use crate::wire::relay::{
    Answer, Ask, MailboxState, OpenMailbox, Refusal, RefusalCode, RelayHello, RelayReply, RelayRequest,
};

/// One of our own relays, while this process lives.
#[derive(Debug, Default)]
pub(super) struct Station {
    pub(super) link: Option<LinkId>,
    /// The mailbox was opened on this link.
    pub(super) opened: bool,
    /// It has kept a mailbox for us before: what it says is waited for.
    pub(super) counts: bool,
    nonce: Option<[u8; 32]>,
    next_request: u64,
    asked: BTreeMap<u64, (Mono, Asked)>,
    /// The highest cursor it listed on this link.
    pub(super) cursor: u64,
    /// What it holds for us as far as it said, not collected yet.
    pub(super) listed: BTreeMap<EnvelopeId, Listing>,
    /// What of that is to be asked for, in the order in which it was deposited.
    pub(super) wanted: BTreeSet<(u64, EnvelopeId)>,
    /// To be collected with the next request.
    pub(super) collect: BTreeSet<EnvelopeId>,
    /// Everything it had at this instant it has listed.
    pub(super) answered: Option<Mono>,
    /// Requests for envelopes on the way.
    pub(super) gets: usize,
    /// Rights it is to be told about.
    pub(super) grants: BTreeSet<RightId>,
    /// What it said of our mailbox last.
    pub(super) holds: MailboxFigures,
    /// It said when to come back, in milliseconds.
    come_back: Option<u64>,
    /// Whole minutes connected and not, since they were last written down.
    pub(super) minutes: (u64, u64),
}

/// An envelope that one of our relays has for us.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listing {
    pub(super) right: RightId,
    pub(super) cursor: u64,
    pub(super) state: Fetch,
}

/// How far an envelope has come from a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fetch {
    /// To be asked for.
    Wanted,
    /// Asked for.
    Asked,
    /// It is here, being opened or held.
    Here,
    /// There was no room for it; when there is, it is asked for again.
    Later,
}

/// What a request was for.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    Open,
    Rights { put: Vec<RightId>, revoke: Vec<RightId> },
    List,
    Wait,
    Get(Vec<EnvelopeId>),
    Collect,
    Bundle { id: u32 },
    Check(EnvelopeId),
}

impl Station {
    fn hang_up(&mut self) {
        let old = std::mem::take(self);
        self.counts = old.counts;
        self.minutes = old.minutes;
        self.holds = old.holds;
        self.come_back = old.come_back;
    }

    /// An envelope is to be asked for.
    pub(super) fn want(&mut self, id: EnvelopeId) {
        if let Some(listing) = self.listed.get_mut(&id) {
            listing.state = Fetch::Wanted;
            self.wanted.insert((listing.cursor, id));
        }
    }

    /// An envelope's place in the list is no more.
    pub(super) fn unlist(&mut self, id: &EnvelopeId) -> bool {
        let Some(listing) = self.listed.remove(id) else { return false };
        self.wanted.remove(&(listing.cursor, *id));
        true
    }

    pub(super) fn is_asking(&self, what: impl Fn(&Asked) -> bool) -> bool {
        self.asked.values().any(|(_, asked)| what(asked))
    }
}

impl Engine {
    /// Our own relays, at the start.
    pub(super) fn open_stations(&mut self) -> Result<(), Fault> {
        let now = self.core.now.wall;
        for mut row in self.core.range::<Relay>(&KeyRange::Relays, limits::OWN_RELAYS * 2)? {
            let counts = matches!(row.state, RelayState::Open | RelayState::Leaving(_));
            let station = Station { counts, holds: row.holds, ..Station::default() };
            self.stations.insert(row.relay, station);
            self.reach_now(row.relay);
            // how it did while this device was off, nobody knows
            row.figures.down_since = Some(now);
            self.core.put(row);
        }
        Ok(())
    }

    pub(super) fn relay_row(&self, relay: &DeviceId) -> Result<Option<Relay>, Fault> {
        self.core.get(&Key::Relay(*relay))
    }

    /// Dials one of our relays, and plans the next attempt.
    pub(super) fn reach_relay(&mut self, relay: DeviceId) -> Result<(), Fault> {
        let Some(row) = self.relay_row(&relay)? else { return Ok(()) };
        self.core.say_now(Output::Dial { peer: relay, addresses: vec![row.address] });
        self.plan_next_reach(relay);
        Ok(())
    }

    pub(super) fn station_connected(&mut self, relay: DeviceId, link: LinkId) -> Result<(), Fault> {
        let Some(station) = self.stations.get_mut(&relay) else { return Ok(()) };
        station.hang_up();
        station.link = Some(link);
        station.come_back = None;
        let due = self.core.now.mono.plus(limits::RELAY_SILENCE);
        self.core.timers.set(Timer::Relay(relay), due);
        Ok(())
    }

    pub(super) fn station_gone(&mut self, relay: DeviceId, gone: &Link) -> Result<(), Fault> {
        let now = self.core.now.wall;
        let Some(station) = self.stations.get_mut(&relay) else { return Ok(()) };
        let come_back = station.come_back.take();
        station.hang_up();
        for timer in [Timer::Relay(relay), Timer::Canary(relay)] {
            self.core.timers.cancel(timer);
        }
        if let Some(mut row) = self.relay_row(&relay)? {
            row.figures.down_since = Some(now);
            self.core.put(row);
        }
        self.fetch_all();
        match come_back {
            Some(pause) => {
                let pause = pause.min(limits::BACKOFF_MAX).saturating_add(self.core.below(limits::SECOND));
                self.core.timers.set(Timer::Reach(relay), self.core.now.mono.plus(pause));
            }
            None => self.reach_soon(relay, gone),
        }
        Ok(())
    }

    /// A relay's first word on a link: our mailbox is opened on it.
    pub(super) fn relay_hello(&mut self, relay: DeviceId, hello: &RelayHello) -> Result<(), Fault> {
        let Some(station) = self.stations.get_mut(&relay) else { return Ok(()) };
        station.nonce = Some(hello.nonce);
        let needed = self.agreeing_peers_needed()?;
        self.core.clock.heard(relay, hello.time, needed);
        self.open_mailbox(relay)
    }

    fn open_mailbox(&mut self, relay: DeviceId) -> Result<(), Fault> {
        let Some(row) = self.relay_row(&relay)? else { return Ok(()) };
        let Some(nonce) = self.stations.get(&relay).and_then(|station| station.nonce) else {
            return Ok(());
        };
        let key = read_key(&self.core.own.device_seed, &relay, row.epoch);
        let ask = Ask::Open(OpenMailbox {
            read_key: key.public(),
            signature: sign_open(&key, &relay, &nonce),
            token: row.token,
        });
        self.ask(relay, ask, Asked::Open);
        Ok(())
    }

    /// Asks one of our relays something; stands behind this turn's batch.
    pub(super) fn ask(&mut self, relay: DeviceId, ask: Ask, what: Asked) {
        let now = self.core.now.mono;
        let Some(station) = self.stations.get_mut(&relay) else { return };
        let Some(link) = station.link else { return };
        station.next_request = station.next_request.saturating_add(1);
        let id = station.next_request;
        station.asked.insert(id, (now, what));
        let frame = Frame::RelayRequest(RelayRequest { id, ask }).encode();
        self.core.say(Output::Send { peer: relay, link, frame });
        self.core.timers.set_earlier(Timer::Relay(relay), now.plus(limits::RELAY_SILENCE));
    }

    /// A relay that owes an answer for too long is asked everything anew.
    pub(super) fn relay_silent(&mut self, relay: DeviceId) -> Result<(), Fault> {
        let now = self.core.now.mono;
        let Some(station) = self.stations.get_mut(&relay) else { return Ok(()) };
        let due = |(at, asked): &(Mono, Asked)| {
            let parked = if matches!(asked, Asked::Wait) { limits::RELAY_WAIT } else { 0 };
            at.plus(parked).plus(limits::RELAY_SILENCE)
        };
        let next = station.asked.values().map(due).min();
        // a relay that has not even said hello owes that
        let mute = station.link.is_some() && station.nonce.is_none();
        match next {
            Some(next) if next > now => {
                self.core.timers.set(Timer::Relay(relay), next);
                return Ok(());
            }
            None if !mute => return Ok(()),
            Some(_) | None => {}
        }
        tracing::debug!(relay = %relay.short(), "a relay does not answer; its connection is closed");
        // refusing closes what is there; after that it is as welcome as before
        self.core.say(Output::Refuse { peer: relay });
        self.core.say(Output::Admit { peer: relay });
        Ok(())
    }

    pub(super) fn relay_reply(&mut self, relay: DeviceId, reply: RelayReply) -> Result<(), Fault> {
        let Some(station) = self.stations.get_mut(&relay) else { return Ok(()) };
        if let Answer::Closing { reconnect_after } = reply.answer {
            station.come_back = Some(reconnect_after);
            return Ok(());
        }
        let Some((at, asked)) = station.asked.remove(&reply.id) else { return Ok(()) };
        if let (Asked::Get(_), Answer::Envelopes { more: true, .. }) = (&asked, &reply.answer) {
            station.asked.insert(reply.id, (at, asked.clone()));
        }
        match (asked, reply.answer) {
            (Asked::Open, Answer::Opened(state)) => self.opened_mailbox(relay, &state),
            (Asked::Open, Answer::Refused(refusal)) => self.not_opened(relay, refusal),
            (_, Answer::Refused(Refusal { code: RefusalCode::NotOpened, .. })) => self.open_mailbox(relay),
            (Asked::Rights { put, revoke }, Answer::Opened(state)) => {
                self.note_state(relay, &state);
                self.rights_set(relay, &put, &revoke)
            }
            (Asked::Rights { put, revoke }, Answer::Refused(refusal)) => {
                self.rights_refused(relay, put, revoke, refusal)
            }
            (Asked::List, Answer::Listed { envelopes, more }) => {
                self.listed(relay, &envelopes, more, Some(at))
            }
            (Asked::Wait, Answer::Listed { envelopes, more }) => self.listed(relay, &envelopes, more, None),
            (Asked::Get(asked), Answer::Envelopes { envelopes, missing, more }) => {
                self.fetched(relay, &asked, envelopes, &missing, more)
            }
            (Asked::Get(asked), _) => self.not_fetched(relay, &asked),
            (Asked::Check(envelope), Answer::Envelopes { envelopes, .. }) => {
                self.canary_checked(relay, envelope, envelopes.iter().any(|stored| stored.id == envelope))
            }
            (Asked::Bundle { id }, Answer::Opened(state)) => {
                self.note_state(relay, &state);
                self.bundle_given(relay, id)
            }
            (Asked::Collect, Answer::Opened(state)) => {
                self.note_state(relay, &state);
                self.refresh_bundle(relay)
            }
            (asked, answer) => {
                tracing::debug!(relay = %relay.short(), ?asked, ?answer, "an answer that was not expected");
                Ok(())
            }
        }
    }

    fn note_state(&mut self, relay: DeviceId, state: &MailboxState) {
        if let Some(station) = self.stations.get_mut(&relay) {
            station.holds = MailboxFigures {
                items: state.items,
                bytes: state.bytes,
                quota_items: state.quota_items,
                quota_bytes: state.quota_bytes,
                one_time_keys: state.one_time_keys,
            };
        }
    }

    fn opened_mailbox(&mut self, relay: DeviceId, state: &MailboxState) -> Result<(), Fault> {
        let Some(mut row) = self.relay_row(&relay)? else { return Ok(()) };
        if state.mailbox != row.mailbox {
            return Err(Fault::Misbehaviour("a relay opened another mailbox than ours".into()));
        }
        self.note_state(relay, state);
        let Some(station) = self.stations.get_mut(&relay) else { return Ok(()) };
        station.opened = true;
        station.counts = true;
        row.holds = station.holds;
        row.figures.down_since = None;
        if state.bundle_left == 0 {
            row.bundle = None;
        }
        let had = row.state == RelayState::Open;
        if had && state.created {
            row.canary = None;
        }
        if matches!(row.state, RelayState::New | RelayState::Refused(_)) {
            row.state = RelayState::Open;
        }
        let leaving = matches!(row.state, RelayState::Leaving(_));
        self.core.put(row);
        if state.created {
            // whatever it knew before is gone: all rights are put again
            self.want_all_grants(relay)?;
            if had {
                self.relay_forgot(relay)?;
            }
        }
        self.load_grants(relay)?;
        self.send_grants(relay)?;
        self.refresh_bundle(relay)?;
        self.list(relay);
        if !leaving {
            self.plan_canary(relay)?;
        }
        self.name_relays()
    }

    fn not_opened(&mut self, relay: DeviceId, refusal: Refusal) -> Result<(), Fault> {
        let Some(mut row) = self.relay_row(&relay)? else { return Ok(()) };
        if refusal.code.passes() {
            let pause = refusal.retry_after.max(5).saturating_mul(limits::SECOND).min(limits::HOUR);
            self.core.timers.set(Timer::OpenAgain(relay), self.core.now.mono.plus(pause));
            return Ok(());
        }
        let code = refusal.code.number();
        if row.state == RelayState::New || row.state == RelayState::Open {
            let text = format!("Relay {} does not keep a mailbox for you: {}.", relay.short(), refusal.code);
            self.core.notice("relay-refused", text, super::core::About::default());
            row.state = RelayState::Refused(code);
            self.core.put(row);
            self.name_relays()?;
        }
        self.core.timers.set(Timer::OpenAgain(relay), self.core.now.mono.plus(limits::HOUR));
        Ok(())
    }

    /// A relay that did not open our mailbox is asked again.
    pub(super) fn open_again(&mut self, relay: DeviceId) -> Result<(), Fault> {
        if self.stations.get(&relay).is_some_and(|station| station.link.is_some() && !station.opened) {
            self.open_mailbox(relay)?;
        }
        Ok(())
    }

    /// Our mailbox at a relay, opened the `epoch`th time from nothing.
    pub(super) fn own_mailbox(&self, relay: &DeviceId, epoch: u32) -> crate::id::MailboxId {
        mailbox_id(&read_key(&self.core.own.device_seed, relay, epoch).public())
    }
}
