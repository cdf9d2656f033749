//! Device lists: which devices an account has, signed, versioned and chained.

use bytes::Bytes;
use prost::Message as _;

use super::{Certificate, IdentityError, KeyPair, hash, verify};
use crate::id::{AccountId, DeviceId};
use crate::limits;
use crate::time::Wall;
use crate::wire::{WireError, canonical, decode, id, opt_exact, proto};

const DOMAIN: &str = "kith/device-list/1";
const HASH: &str = "kith/device-list-hash/1";

/// An account's devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceList {
    /// The account.
    pub account: AccountId,
    /// Counts the account's lists from 1.
    pub version: u64,
    /// Hash of the list before; none in the first.
    pub previous: Option<[u8; 32]>,
    /// When it was signed.
    pub issued: Wall,
    /// When it should have been renewed: afterwards it warns, it stops nothing.
    pub expires: Wall,
    /// At least one certificate, one per device.
    pub devices: Vec<Certificate>,
    /// As signed and received.
    pub bytes: Bytes,
}

/// How one list stands to another of the same account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListChange {
    /// It replaces the other.
    Newer,
    /// It is the other.
    Same,
    /// The other replaces it.
    Older,
    /// Both claim the same place: the account's key signed two histories, which is a reason to warn.
    Fork,
}

impl DeviceList {
    /// Makes a list.
    #[must_use]
    pub fn sign(
        account: &KeyPair,
        version: u64,
        previous: Option<[u8; 32]>,
        issued: Wall,
        expires: Wall,
        devices: Vec<Certificate>,
    ) -> Self {
        let body = proto::DeviceListBody {
            account: Bytes::copy_from_slice(&account.public()),
            version,
            previous: previous.map_or_else(Bytes::new, |hash| Bytes::copy_from_slice(&hash)),
            issued: issued.0,
            expires: expires.0,
            certificates: devices.iter().map(|certificate| certificate.bytes.clone()).collect(),
        }
        .encode_to_vec();
        let signature = Bytes::copy_from_slice(&account.sign(DOMAIN, &[&body]));
        let bytes = proto::DeviceList { body: body.into(), signature }.encode_to_vec().into();
        let account = AccountId(account.public());
        Self { account, version, previous, issued, expires, devices, bytes }
    }

    /// Reads a list and checks its signature and all its certificates.
    ///
    /// # Errors
    /// [`IdentityError`] if anything is malformed, unsigned or against the rules.
    pub fn parse(bytes: &[u8]) -> Result<Self, IdentityError> {
        if bytes.len() > limits::DEVICE_LIST {
            let (what, len, max) = ("the device list", bytes.len(), limits::DEVICE_LIST);
            return Err(WireError::TooLong { what, len, max }.into());
        }
        let bytes = Bytes::copy_from_slice(bytes);
        let outer: proto::DeviceList = canonical("the device list", &bytes, limits::DEVICE_LIST)?;
        let body: proto::DeviceListBody = decode("the device list", outer.body.clone(), limits::DEVICE_LIST)?;
        let account: AccountId = id("the device list's account", &body.account)?;
        let previous = opt_exact("the hash of the previous device list", &body.previous)?;
        if body.version == 0 || (body.version == 1) != previous.is_none() {
            return Err(WireError::Field("the device list's version").into());
        }
        let (count, max) = (body.certificates.len(), limits::DEVICES);
        if count > max {
            return Err(WireError::TooMany { what: "devices of one account", count, max }.into());
        }
        if !verify(account.as_bytes(), DOMAIN, &[&outer.body], &outer.signature) {
            return Err(IdentityError::Signature("account's signature of the device list"));
        }
        let mut devices: Vec<Certificate> = Vec::with_capacity(count);
        for bytes in &body.certificates {
            let certificate = Certificate::parse(bytes)?;
            if certificate.account != account {
                return Err(IdentityError::Rule("the device list names a device of another account"));
            }
            if devices.iter().any(|known| known.device == certificate.device) {
                return Err(IdentityError::Rule("the device list names a device twice"));
            }
            devices.push(certificate);
        }
        if devices.is_empty() {
            return Err(IdentityError::Rule("the device list is empty"));
        }
        let (issued, expires) = (Wall(body.issued), Wall(body.expires));
        Ok(Self { account, version: body.version, previous, issued, expires, devices, bytes })
    }

    /// What payloads and the next list name this one by.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        Self::hash_of(&self.bytes)
    }

    /// The same for the bytes of a list that was read before: no signature is checked.
    #[must_use]
    pub fn hash_of(bytes: &[u8]) -> [u8; 32] {
        hash(HASH, &[bytes])
    }

    /// The certificate of a device on the list.
    #[must_use]
    pub fn certificate(&self, device: &DeviceId) -> Option<&Certificate> {
        self.devices.iter().find(|certificate| certificate.device == *device)
    }

    /// How this list stands to one known before. Lists of different accounts are a [`ListChange::Fork`].
    #[must_use]
    pub fn compare(&self, known: &Self) -> ListChange {
        if self.bytes == known.bytes {
            return ListChange::Same;
        }
        if self.account != known.account || self.version == known.version {
            return ListChange::Fork;
        }
        let (newer, older, change) = if self.version > known.version {
            (self, known, ListChange::Newer)
        } else {
            (known, self, ListChange::Older)
        };
        let adjacent = newer.version - 1 == older.version;
        if adjacent && newer.previous != Some(older.hash()) { ListChange::Fork } else { change }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret32;

    fn pair(seed: u8) -> KeyPair {
        KeyPair::from_seed(&Secret32::new([seed; 32]))
    }

    fn certificate(account: &KeyPair, device: u8) -> Certificate {
        Certificate::sign(account, &pair(device), [device; 32], Wall(1), Wall(2), 1)
    }

    fn list(version: u64, previous: Option<[u8; 32]>, devices: &[u8]) -> DeviceList {
        let account = pair(1);
        let devices = devices.iter().map(|device| certificate(&account, *device)).collect();
        DeviceList::sign(&account, version, previous, Wall(7), Wall(8), devices)
    }

    #[test]
    fn a_list_comes_back_as_it_was_signed() {
        let made = list(1, None, &[2, 3]);
        assert_eq!(DeviceList::parse(&made.bytes).unwrap(), made);
        assert!(made.certificate(&DeviceId(pair(3).public())).is_some());
        assert!(made.certificate(&DeviceId(pair(4).public())).is_none());
    }

    #[test]
    fn a_full_list_fits_its_limit() {
        let devices: Vec<u8> = (10..10 + limits::DEVICES as u8).collect();
        assert!(DeviceList::parse(&list(1, None, &devices).bytes).is_ok());
        let too_many: Vec<u8> = (10..11 + limits::DEVICES as u8).collect();
        assert!(DeviceList::parse(&list(1, None, &too_many).bytes).is_err());
    }

    #[test]
    fn lists_against_the_rules_are_refused() {
        let account = pair(1);
        assert!(DeviceList::parse(&list(0, None, &[2]).bytes).is_err(), "version 0");
        assert!(DeviceList::parse(&list(1, Some([0; 32]), &[2]).bytes).is_err(), "first with previous");
        assert!(DeviceList::parse(&list(2, None, &[2]).bytes).is_err(), "second without previous");
        assert!(DeviceList::parse(&list(1, None, &[]).bytes).is_err(), "empty");
        assert!(DeviceList::parse(&list(1, None, &[2, 2]).bytes).is_err(), "twice the same");
        let foreign = certificate(&pair(9), 2);
        let foreign = DeviceList::sign(&account, 1, None, Wall(7), Wall(8), vec![foreign]);
        assert!(DeviceList::parse(&foreign.bytes).is_err(), "another account's device");
    }

    #[test]
    fn newer_older_and_forked_lists_are_told_apart() {
        let first = list(1, None, &[2]);
        let second = list(2, Some(first.hash()), &[2, 3]);
        let third = list(3, Some(second.hash()), &[3]);
        assert_eq!(second.compare(&first), ListChange::Newer);
        assert_eq!(first.compare(&second), ListChange::Older);
        assert_eq!(third.compare(&first), ListChange::Newer);
        assert_eq!(first.compare(&first), ListChange::Same);
        assert_eq!(list(2, Some(first.hash()), &[4]).compare(&second), ListChange::Fork);
        assert_eq!(list(2, Some([9; 32]), &[4]).compare(&first), ListChange::Fork);
    }
}
