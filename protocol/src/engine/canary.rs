//! Canaries: envelopes of our own in our own mailboxes, deposited as strangers do, to see what a relay's word is worth.
//!
//! A relay that forgets what it signed for is found out, and so is a slow one. It can tell a canary's right from others,
//! so canaries find negligent relays; relays that lie on purpose are found by what receivers say they lacked.

use bytes::Bytes;

use super::carry::Purpose;
use super::core::About;
use super::stations::Asked;
use super::timer::Timer;
use super::{DepositFailure, Engine, Fault};
use crate::crypto::custody::Custody as Signed;
use crate::crypto::envelope::{self, Content};
use crate::crypto::right::{RelayRight, deposit_mac};
use crate::id::{DeviceId, EnvelopeId, SessionId};
use crate::limits;
use crate::record::{Canary, RelayRef, RelayState};
use crate::wire::relay::{Answer, Ask, Deposit};

/// The first canary follows the opening of a mailbox so soon,
const FIRST: u64 = 20 * limits::SECOND;
/// and the others at this pace, give or take a half.
const PACE: u64 = limits::HOUR;
/// A canary is looked for so long after the relay signed for it, once,
const LOOK_SOON: u64 = 5 * limits::SECOND;
/// and once more within this time.
const LOOK_LATE: u64 = 30 * limits::MINUTE;
/// How long a canary asks to be kept, in seconds.
const TTL: u32 = 24 * 60 * 60;
/// Bytes in a canary: it looks like a short message.
const SIZE: usize = 120;
/// Times a canary is looked for before it is collected.
const LOOKS: u32 = 2;

impl Engine {
    pub(super) fn plan_canary(&mut self, relay: DeviceId) -> Result<(), Fault> {
        let now = self.core.now;
        let out = self.relay_row(&relay)?.and_then(|row| row.canary);
        let pause = match out {
            Some(canary) => canary.due.since(now.wall).max(limits::SECOND),
            None => FIRST.saturating_add(self.core.below(FIRST)),
        };
        self.core.timers.set(Timer::Canary(relay), now.mono.plus(pause));
        Ok(())
    }

    /// Sends a canary, or looks for the one that is out.
    pub(super) fn canary_due(&mut self, relay: DeviceId) -> Result<(), Fault> {
        let Some(row) = self.relay_row(&relay)? else { return Ok(()) };
        let Some(mailbox) = self.mailbox_at(&relay) else { return Ok(()) };
        if matches!(row.state, RelayState::Leaving(_)) {
            return Ok(());
        }
        match row.canary {
            Some(canary) if canary.receipt.is_some() => {
                let ask = Ask::Get { mailbox, envelopes: vec![canary.envelope] };
                self.ask(relay, ask, Asked::Check(canary.envelope));
                Ok(())
            }
            // its receipt never came: begin again
            Some(_) | None => self.send_canary(relay),
        }
    }

    fn send_canary(&mut self, relay: DeviceId) -> Result<(), Fault> {
        let Some(mut row) = self.relay_row(&relay)? else { return Ok(()) };
        let message: [u8; SIZE] = self.core.random();
        let content = Content {
            session: SessionId(self.core.random()),
            number: 0,
            start: None,
            message_type: 1,
            message: Bytes::copy_from_slice(&message),
        };
        let bytes = envelope::seal(&row.canary_right, &content, &mut *self.core.rng)?;
        let envelope = envelope::envelope_id(&bytes);
        let right = RelayRight::derive(&row.canary_right, &relay, &row.mailbox);
        let place = RelayRef { relay, mailbox: row.mailbox, address: row.address.clone() };
        let ask = Ask::Deposit(Deposit {
            mailbox: row.mailbox,
            right: right.id,
            id: envelope,
            ttl: TTL,
            mac: deposit_mac(&right.key, &row.mailbox, &envelope, TTL),
            envelope: bytes,
        });
        let now = self.core.now;
        row.canary =
            Some(Canary { envelope, sent: now.wall, receipt: None, seen: 0, due: now.wall.plus(PACE) });
        self.core.put(row);
        // its recipient is this device, as the depositing key's pseudonym says
        self.request(self.core.own.device, &place, ask, Purpose::Canary { envelope });
        self.core.timers.set(Timer::Canary(relay), now.mono.plus(PACE));
        Ok(())
    }

    /// The relay answered a canary's deposit.
    pub(super) fn canary_answered(
        &mut self,
        relay: DeviceId,
        envelope: EnvelopeId,
        answer: Result<Answer, DepositFailure>,
    ) -> Result<(), Fault> {
        let Some(mut row) = self.relay_row(&relay)? else { return Ok(()) };
        let mailbox = row.mailbox;
        let Some(canary) = row.canary.as_mut().filter(|canary| canary.envelope == envelope) else {
            return Ok(());
        };
        let now = self.core.now;
        let receipt = match answer {
            Ok(Answer::Custody(receipt)) => Some(receipt).filter(|receipt| {
                Signed::verify(receipt).is_ok_and(|signed| {
                    signed.relay == relay && signed.mailbox == mailbox && signed.envelope == envelope
                })
            }),
            Ok(_) | Err(_) => None,
        };
        let Some(receipt) = receipt else {
            row.canary = None;
            self.core.put(row);
            let pause = PACE / 4 + self.core.below(PACE / 4);
            self.core.timers.set(Timer::Canary(relay), now.mono.plus(pause));
            return Ok(());
        };
        canary.receipt = Some(receipt);
        canary.due = now.wall.plus(LOOK_SOON);
        let took = u32::try_from(now.wall.since(canary.sent)).unwrap_or(u32::MAX);
        let before = row.figures.latency;
        row.figures.latency =
            if before == 0 { took.max(1) } else { (before / 4 * 3).saturating_add(took / 4).max(1) };
        self.core.put(row);
        self.core.timers.set(Timer::Canary(relay), now.mono.plus(LOOK_SOON));
        Ok(())
    }

    /// A canary was looked for.
    pub(super) fn canary_checked(
        &mut self,
        relay: DeviceId,
        envelope: EnvelopeId,
        found: bool,
    ) -> Result<(), Fault> {
        let Some(mut row) = self.relay_row(&relay)? else { return Ok(()) };
        let Some(canary) = row.canary.as_mut().filter(|canary| canary.envelope == envelope) else {
            return Ok(());
        };
        let now = self.core.now;
        let pace = PACE / 2 + self.core.below(PACE);
        let pause = if !found {
            row.canary = None;
            self.core.put(row);
            self.count_broken(relay, 1, "signed for an envelope and did not keep it")?;
            pace
        } else {
            canary.seen = canary.seen.saturating_add(1);
            let late = LOOK_LATE / 2 + self.core.below(LOOK_LATE / 2);
            canary.due = now.wall.plus(late);
            let done = canary.seen >= LOOKS;
            if done {
                row.figures.kept = row.figures.kept.saturating_add(1);
                row.canary = None;
                if let Some(station) = self.stations.get_mut(&relay) {
                    station.collect.insert(envelope);
                }
            }
            self.core.put(row);
            if done { pace } else { late }
        };
        self.core.timers.set(Timer::Canary(relay), now.mono.plus(pause));
        Ok(())
    }

    /// A relay did not keep what it had signed for.
    pub(super) fn count_broken(&mut self, relay: DeviceId, count: u32, what: &str) -> Result<(), Fault> {
        let Some(mut row) = self.relay_row(&relay)? else { return Ok(()) };
        row.figures.broken = row.figures.broken.saturating_add(count);
        row.figures.broken_at = Some(self.core.now.wall);
        self.core.put(row);
        let text = format!(
            "Relay {} {what}. Do not rely on it: add another with `kith relay add ADDRESS`.",
            relay.short()
        );
        self.core.notice("relay-broke-word", text, About::default());
        self.name_relays()
    }
}
