//! Who is who: keys, the recovery phrase, device certificates and lists, names, safety numbers.
//!
//! An [`AccountId`](crate::AccountId) is the account's Ed25519 public key, a [`DeviceId`](crate::DeviceId) the device's.

mod certificate;
mod device_list;
mod keys;
mod name;
mod phrase;
mod safety;

pub use certificate::{Certificate, IdentityError};
pub use device_list::{DeviceList, ListChange};
pub use keys::{KeyPair, verify};
pub(crate) use keys::{derive, hash};
pub use name::{NameError, check_line, check_name};
pub use phrase::{Phrase, PhraseError};
pub use safety::{direct_conversation, safety_number};
