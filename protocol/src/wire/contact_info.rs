//! What a person's device tells a contact about itself.

use bytes::Bytes;

use super::check::{few, short};
use super::{WireError, exact, id, proto};
use crate::id::Address;
use crate::record::RelayRef;
use crate::secret::Secret32;
use crate::{identity, limits};

/// A device's word about its person and itself; exchanged in acceptance, welcome and updates.
#[derive(Debug, Clone, PartialEq)]
pub struct ContactInfo {
    /// The account's device list, as signed; not verified yet.
    pub device_list: Bytes,
    /// The person's name for themselves.
    pub name: String,
    /// The person's line about themselves.
    pub about: String,
    /// Opens the directory records of the person's devices.
    pub contact_key: Secret32,
    /// Week number of `week_keys[0]`.
    pub first_week: u64,
    /// Public keys under which the sending device's weekly records stand.
    pub week_keys: Vec<[u8; 32]>,
    /// Lets the receiving device deposit for, and seal headers to, the sending device.
    pub right: Secret32,
    /// Where the sending device can be reached.
    pub addresses: Vec<Address>,
    /// Where its mailboxes are.
    pub relays: Vec<RelayRef>,
    /// Counts with the device's directory records: those with a lower number are older than this; 0: not known.
    pub directory_seq: u64,
}

impl ContactInfo {
    pub(super) fn from_proto(info: proto::ContactInfo) -> Result<Self, WireError> {
        short("the device list", info.device_list.len(), limits::DEVICE_LIST)?;
        short("the name", info.name.len(), limits::NAME)?;
        short("the about line", info.about.len(), limits::ABOUT)?;
        let name = identity::check_name(&info.name).map_err(|_| WireError::Field("the name"))?;
        identity::check_line(&info.about).map_err(|_| WireError::Field("the about line"))?;
        let weeks = info.weeks.unwrap_or_default();
        few("directory keys", weeks.keys.len(), limits::WEEK_KEYS)?;
        let week_keys =
            weeks.keys.iter().map(|key| exact("a directory key", key)).collect::<Result<_, _>>()?;
        Ok(Self {
            device_list: info.device_list,
            name,
            about: info.about,
            contact_key: Secret32::new(exact("the contact key", &info.contact_key)?),
            first_week: weeks.first,
            week_keys,
            right: Secret32::new(exact("the right", &info.right)?),
            addresses: addresses(info.addresses)?,
            relays: relays(info.relays)?,
            directory_seq: info.directory_seq,
        })
    }

    pub(super) fn to_proto(&self) -> proto::ContactInfo {
        proto::ContactInfo {
            device_list: self.device_list.clone(),
            name: self.name.clone(),
            about: self.about.clone(),
            contact_key: Bytes::copy_from_slice(self.contact_key.expose()),
            weeks: Some(proto::DirectoryWeeks {
                first: self.first_week,
                keys: self.week_keys.iter().map(|key| Bytes::copy_from_slice(key)).collect(),
            }),
            right: Bytes::copy_from_slice(self.right.expose()),
            addresses: self.addresses.iter().map(|a| Bytes::copy_from_slice(a.as_bytes())).collect(),
            relays: relays_to_proto(&self.relays),
            directory_seq: self.directory_seq,
        }
    }
}

/// Checked addresses.
pub(crate) fn addresses(given: Vec<Bytes>) -> Result<Vec<Address>, WireError> {
    few("addresses", given.len(), limits::ADDRESSES)?;
    given.into_iter().map(|a| Address::new(a.to_vec()).ok_or(WireError::Field("an address"))).collect()
}

/// Checked relays.
pub(crate) fn relays(given: Vec<proto::RelayRef>) -> Result<Vec<RelayRef>, WireError> {
    few("relays", given.len(), limits::RELAYS)?;
    given
        .into_iter()
        .map(|relay| {
            Ok(RelayRef {
                relay: id("a relay's key", &relay.relay)?,
                mailbox: id("a mailbox id", &relay.mailbox)?,
                address: Address::new(relay.address.to_vec()).ok_or(WireError::Field("a relay's address"))?,
            })
        })
        .collect()
}

/// The other way.
pub(crate) fn relays_to_proto(relays: &[RelayRef]) -> Vec<proto::RelayRef> {
    relays
        .iter()
        .map(|relay| proto::RelayRef {
            relay: Bytes::copy_from_slice(relay.relay.as_bytes()),
            mailbox: Bytes::copy_from_slice(relay.mailbox.as_bytes()),
            address: Bytes::copy_from_slice(relay.address.as_bytes()),
        })
        .collect()
}
