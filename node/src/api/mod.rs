//! What programs and people's front ends use: [`Session`] for either kind of node, [`Handle`] for one in this process.
//!
//! No type of the network, the wire format or the store appears here, only ids and plain values that serialise with
//! the field names that `kith --json` prints.

mod error;
mod events;
mod handle;
pub(crate) mod library;
mod reach;
mod reads;
mod running;
mod session;
mod view;
pub mod who;

pub use error::{Candidate, Error};
pub use events::EventStream;
pub use handle::Handle;
pub(crate) use library::Library;
pub(crate) use reads::Reads;
pub(crate) use running::{Clock, Running};
pub use session::{Request, Session};
pub use view::{
    ChangeView, ClockView, ContactStatus, ContactView, ConversationView, CustodyView, DeviceJourneyView,
    Direction, Draft, EventBodyView, EventView, InviteListView, InviteStatus, InviteView, JourneyView, Kind,
    MessageView, NodeView, ProfileView, Reach, ReactionView, RelayStatus, RelayView, RestoredView,
    SafetyView, SentView, SettingsView, Status, StepView, Timestamp, WaitView,
};
