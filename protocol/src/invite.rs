//! Invites.
/// Why a text is no usable invite.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InviteError {
    /// Damaged.
    #[error("the invite link is incomplete or mistyped; copy it again")]
    Damaged,
}
