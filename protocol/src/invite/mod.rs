//! Invites: the link by which two people meet.
//!
//! An invite is not signed: who can change the link can replace it whole. It carries a 16-byte secret from which both
//! sides derive what they need. It never holds the contact key, so a leaked link does not locate its owner for ever.

mod bytes;
mod secret;

use ::bytes::Bytes;
use thiserror::Error;

pub use self::secret::{Acceptance, InviteSecret};
use crate::id::{AccountId, Address, DeviceId, DirectoryKey, InviteId};
use crate::record::RelayRef;
use crate::secret::Secret32;
use crate::time::Wall;
use crate::{directory, limits};

/// What every invite link begins with.
pub const SCHEME: &str = "KITH:";

/// Why a text is no usable invite.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InviteError {
    /// Something else.
    #[error("this is not an invite; an invite begins with {SCHEME}")]
    NotAnInvite,
    /// Longer than any invite.
    #[error("this is too long for an invite; copy the link alone, from {SCHEME} to its end")]
    TooLong,
    /// Cut off, mistyped or changed.
    #[error("the invite link is incomplete or mistyped; copy it again")]
    Damaged,
    /// A format of the future.
    #[error("this invite was made by a newer Kith; update yours to use it")]
    Newer,
}

/// What an invite says.
#[derive(Debug, Clone, PartialEq)]
pub struct Invite {
    /// The inviting account.
    pub account: AccountId,
    /// The inviting device.
    pub device: DeviceId,
    /// The invite's secret.
    pub secret: InviteSecret,
    /// Ed25519 public key of the invite's own directory record.
    pub directory_key: [u8; 32],
    /// When it ends; whole seconds, at most 2106.
    pub expires: Wall,
    /// Where the device can be reached, best first: at most [`limits::INVITE_ADDRESSES`] of at most
    /// [`limits::INVITE_ADDRESS`] bytes.
    pub addresses: Vec<Address>,
    /// Relays with the device's mailboxes: at most [`limits::RELAYS`].
    pub relays: Vec<RelayRef>,
    /// A seat in a group.
    pub group: Option<GroupSeat>,
    /// Shown until the inviter's own word has come: at most [`limits::NAME`] bytes.
    pub name: String,
}

/// A group an invite leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSeat {
    /// The group.
    pub group: [u8; 32],
    /// Members who can admit: at most [`limits::INVITE_ADMITTERS`].
    pub admitters: Vec<(DeviceId, Address)>,
}

impl Invite {
    /// The invite's id.
    #[must_use]
    pub fn id(&self) -> InviteId {
        self.secret.id()
    }

    /// The right under which the acceptance is sealed and deposited.
    #[must_use]
    pub fn right(&self) -> Secret32 {
        self.secret.right()
    }

    /// Seals and opens the invite's own directory record, in place of a contact key.
    #[must_use]
    pub fn directory_secret(&self) -> Secret32 {
        self.secret.directory_secret()
    }

    /// Where the invite's own directory record stands.
    #[must_use]
    pub fn directory(&self) -> DirectoryKey {
        directory::directory_key(&self.directory_key)
    }

    /// Proves to the device `asked` that `asking` holds the invite.
    #[must_use]
    pub fn bundle_proof(&self, asking: &DeviceId, asked: &DeviceId) -> [u8; 32] {
        self.secret.bundle_proof(asking, asked)
    }

    /// The link: `KITH:` and base32 in upper case, fit for a QR code's alphanumeric mode.
    #[must_use]
    pub fn to_uri(&self) -> String {
        let mut uri = String::from(SCHEME);
        data_encoding::BASE32_NOPAD.encode_append(&self.to_bytes(), &mut uri);
        uri
    }

    /// Reads a link as a person pastes it: any case, white space around it and line breaks inside it are fine.
    ///
    /// # Errors
    /// [`InviteError`] saying what to do.
    pub fn parse(text: &str) -> Result<Self, InviteError> {
        // Each of the characters that count stands for 5 bits; a mail program may break lines after every few.
        if text.len() > 4 * limits::INVITE {
            return Err(InviteError::TooLong);
        }
        let text: String =
            text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_uppercase()).collect();
        let code = text.strip_prefix(SCHEME).ok_or(InviteError::NotAnInvite)?;
        if code.len() > limits::INVITE.div_ceil(5) * 8 {
            return Err(InviteError::TooLong);
        }
        let bytes = data_encoding::BASE32_NOPAD.decode(code.as_bytes()).map_err(|_| InviteError::Damaged)?;
        Self::from_bytes(&bytes)
    }

    /// The binary form. What does not fit the limits is left out from the end of its list.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        bytes::encode(self)
    }

    /// Reads the binary form.
    ///
    /// # Errors
    /// [`InviteError`] saying what to do.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InviteError> {
        bytes::decode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn invite() -> Invite {
        let address = |len: usize| Address::new(vec![len as u8; len]).unwrap();
        let relay =
            RelayRef { relay: DeviceId([7; 32]), mailbox: crate::MailboxId([8; 16]), address: address(8) };
        Invite {
            account: AccountId([1; 32]),
            device: DeviceId([2; 32]),
            secret: InviteSecret::new([3; 16]),
            directory_key: [4; 32],
            expires: Wall(1_800_000_000_000),
            addresses: vec![address(8), address(64)],
            relays: vec![relay.clone(), relay],
            group: None,
            name: "Ana".into(),
        }
    }

    #[test]
    fn a_link_survives_mail_programs() {
        let invite = invite();
        let uri = invite.to_uri();
        assert!(uri.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b':'));
        assert_eq!(Invite::parse(&uri).unwrap(), invite);
        let (a, b) = uri.split_at(70);
        assert_eq!(Invite::parse(&format!(" \n{}\r\n  {b}\n", a.to_lowercase())).unwrap(), invite);
    }

    #[test]
    fn a_group_seat_travels_too() {
        let admitters = vec![(DeviceId([5; 32]), Address::new(vec![6; 9]).unwrap())];
        let invite = Invite { group: Some(GroupSeat { group: [9; 32], admitters }), ..invite() };
        assert_eq!(Invite::parse(&invite.to_uri()).unwrap(), invite);
    }

    #[test]
    fn each_way_to_be_no_invite_says_what_to_do() {
        let uri = invite().to_uri();
        assert_eq!(Invite::parse("https://example.org"), Err(InviteError::NotAnInvite));
        assert_eq!(Invite::parse(""), Err(InviteError::NotAnInvite));
        assert_eq!(Invite::parse(&uri[..uri.len() - 3]), Err(InviteError::Damaged));
        assert_eq!(Invite::parse(&uri.replacen('A', "B", 1)), Err(InviteError::Damaged));
        assert_eq!(Invite::parse(&format!("{uri}!")), Err(InviteError::Damaged));
        assert_eq!(Invite::parse("KITH:"), Err(InviteError::Damaged));
        assert_eq!(Invite::parse(&format!("KITH:{}", "A".repeat(5000))), Err(InviteError::TooLong));
        assert_eq!(Invite::parse(&" ".repeat(9000)), Err(InviteError::TooLong));
    }
}
