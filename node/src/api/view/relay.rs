//! Our own relays, as programs see them.

use kith_protocol::DeviceId;
use kith_protocol::record::{Relay, RelayState};
use kith_protocol::wire::relay::RefusalCode;
use serde::{Deserialize, Serialize};

use super::text::{Timestamp, hex};

/// Where one of our relays stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RelayStatus {
    /// It was not reached yet.
    New,
    /// It keeps a mailbox for us.
    Open,
    /// It does not open a mailbox for us.
    Refused,
    /// We gave it up; it is still emptied for a while.
    Leaving,
}

impl RelayStatus {
    /// The word scripts see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Open => "open",
            Self::Refused => "refused",
            Self::Leaving => "leaving",
        }
    }
}

/// One of our relays, and what this device measured of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayView {
    /// Its key.
    #[serde(with = "hex")]
    pub relay: DeviceId,
    /// Where it is, with its `/p2p` part.
    pub address: String,
    /// Where it stands.
    pub state: RelayStatus,
    /// Why it does not open a mailbox, if it does not.
    pub reason: Option<String>,
    /// Contacts and invites are told of it.
    pub named: bool,
    /// Connected now.
    pub connected: bool,
    /// Envelopes it keeps for us, as it last said,
    pub items: u64,
    /// and their bytes.
    pub bytes: u64,
    /// Envelopes it would keep,
    pub quota_items: u64,
    /// and their bytes.
    pub quota_bytes: u64,
    /// Of 1,000 minutes this device was up, so many it was connected; null before there is anything to say.
    pub uptime_permille: Option<u64>,
    /// Milliseconds from a deposit to its signed receipt; 0 before it was measured.
    pub latency_ms: u32,
    /// Own test envelopes it kept as promised.
    pub kept: u32,
    /// Envelopes it signed for and did not keep.
    pub broken: u32,
    /// When it was added.
    pub added: Timestamp,
}

impl RelayView {
    /// `running`: a node runs, so that what it says of connections is of now.
    pub(crate) fn of(row: &Relay, running: bool) -> Self {
        let address = kith_network::address::to_text(&row.address);
        let peer = row.relay.peer_id().map(|peer| format!("/p2p/{peer}")).unwrap_or_default();
        let reason = match row.state {
            RelayState::Refused(code) => Some(RefusalCode::from_number(code).to_string()),
            RelayState::New | RelayState::Open | RelayState::Leaving(_) => None,
        };
        Self {
            relay: row.relay,
            address: address + &peer,
            state: match row.state {
                RelayState::New => RelayStatus::New,
                RelayState::Open => RelayStatus::Open,
                RelayState::Refused(_) => RelayStatus::Refused,
                RelayState::Leaving(_) => RelayStatus::Leaving,
            },
            reason,
            named: row.named,
            connected: running && row.figures.down_since.is_none(),
            items: row.holds.items,
            bytes: row.holds.bytes,
            quota_items: row.holds.quota_items,
            quota_bytes: row.holds.quota_bytes,
            uptime_permille: row.figures.uptime(),
            latency_ms: row.figures.latency,
            kept: row.figures.kept,
            broken: row.figures.broken,
            added: row.added.into(),
        }
    }
}
