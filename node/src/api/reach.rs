//! Who can use an invite, judged by the addresses it holds.

use super::view::Reach;

/// The widest scope among the addresses of an invite.
pub(crate) fn of_invite(_uri: &str) -> Reach {
    Reach::Nowhere
}
