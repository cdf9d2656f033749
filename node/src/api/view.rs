//! What programs see: plain values with the field names that scripts rely on.

mod event;
mod message;
mod person;
mod relay;
mod restored;
mod text;

pub use event::{EventBodyView, EventView};
pub(crate) use message::step_word;
pub use message::{
    ChangeView, ConversationView, CustodyView, DeviceJourneyView, Direction, Draft, JourneyView, Kind,
    MessageView, ReactionView, SentView, Status, StepView, WaitView,
};
pub use person::{
    ClockView, ContactStatus, ContactView, InviteListView, InviteStatus, InviteView, NodeView, ProfileView,
    Reach, SafetyView, SettingsView,
};
pub use relay::{RelayStatus, RelayView};
pub use restored::RestoredView;
pub use text::Timestamp;
pub(crate) use text::{hex, hex_list, hex_option};
