//! When the Engine wants to be woken, and why.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{DeviceId, StreamId};
use crate::time::Mono;

/// One reason to wake up. A reason stands once; setting it again moves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Receipts and acknowledgements that were being joined are due.
    Receipts(DeviceId),
    /// More of a received frontier is to be applied.
    Apply(DeviceId, StreamId),
    /// Envelopes have waited at a hole long enough.
    Hole(DeviceId),
    /// A missing entry is to be asked for.
    Gap(StreamId),
    /// A repair may be asked for again.
    Repair(DeviceId),
    /// Nothing came back over a live link for a while.
    Stalled(DeviceId),
    /// More of a queue that nobody serves any more is to be ended.
    Drop(DeviceId),
    /// A device is to be reached.
    Reach(DeviceId),
    /// Deposits for a device may go on.
    Carry(DeviceId),
    /// A receipt that goes by relays was joined long enough.
    RelayReceipt(DeviceId),
    /// A device that wrote before the start is owed a receipt, if no link to it came up.
    ReceiptAfterStart(DeviceId),
    /// One of our relays may owe an answer.
    Relay(DeviceId),
    /// One of our relays is asked again to open our mailbox.
    OpenAgain(DeviceId),
    /// A canary is to be sent or looked for.
    Canary(DeviceId),
    /// A device list that this device named is not here yet.
    List(DeviceId),
    /// More contacts are to be told about us.
    Tell,
    /// The directory record is to be published.
    Publish,
    /// Lifetimes are to be looked at.
    Housekeeping,
}

impl Timer {
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Receipts(_) => "receipts",
            Self::Apply(..) => "apply a frontier",
            Self::Hole(_) => "hole",
            Self::Gap(_) => "gap",
            Self::Repair(_) => "repair",
            Self::Stalled(_) => "a stalled link",
            Self::Drop(_) => "end a queue",
            Self::Reach(_) => "reach a device",
            Self::Carry(_) => "deposits",
            Self::RelayReceipt(_) => "a receipt by relay",
            Self::ReceiptAfterStart(_) => "a receipt after the start",
            Self::Relay(_) => "a silent relay",
            Self::OpenAgain(_) => "open a mailbox",
            Self::Canary(_) => "a canary",
            Self::List(_) => "a device list",
            Self::Tell => "tell contacts",
            Self::Publish => "publish",
            Self::Housekeeping => "housekeeping",
        }
    }
}

/// All timers, by time.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_timer: BTreeMap<Timer, Mono>,
    by_time: BTreeSet<(Mono, Timer)>,
}

impl Timers {
    /// Sets or moves a timer.
    pub(super) fn set(&mut self, timer: Timer, at: Mono) {
        self.cancel(timer);
        self.by_timer.insert(timer, at);
        self.by_time.insert((at, timer));
    }

    /// Sets a timer unless it already stands earlier.
    pub(super) fn set_earlier(&mut self, timer: Timer, at: Mono) {
        if self.by_timer.get(&timer).is_none_or(|stands| at < *stands) {
            self.set(timer, at);
        }
    }

    pub(super) fn cancel(&mut self, timer: Timer) {
        if let Some(at) = self.by_timer.remove(&timer) {
            self.by_time.remove(&(at, timer));
        }
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.by_timer.contains_key(&timer)
    }

    /// The earliest.
    pub(super) fn next(&self) -> Option<(Mono, Timer)> {
        self.by_time.first().copied()
    }

    /// Takes one that is due.
    pub(super) fn pop_due(&mut self, now: Mono) -> Option<Timer> {
        let (at, timer) = self.next()?;
        if at > now {
            return None;
        }
        self.cancel(timer);
        Some(timer)
    }
}
