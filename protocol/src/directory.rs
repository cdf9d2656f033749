//! Directory records: where a device can be found, for those who hold the contact key.
//!
//! Outside, a record is signed by a weekly key whose hash is its place, so any node of the directory can check it without
//! learning whose it is. Inside, sealed under the contact key, it is signed by the device. Contacts get the weekly public
//! keys in session: they find and read, and can never write.

use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::crypto;
use crate::id::{Address, DeviceId, DirectoryKey};
use crate::identity::{KeyPair, derive, verify};
use crate::limits;
use crate::record::RelayRef;
use crate::secret::Secret32;
use crate::time::Wall;
use crate::wire::{
    WireError, addresses, canonical, decode, exact, id, proto, relays, relays_to_proto, short,
};

const OUTER_DOMAIN: &str = "kith/directory/1";
const DEVICE_DOMAIN: &str = "kith/directory/device/1";
const NONCE: usize = 24;
/// How far ahead a writer's clock may be.
const CLOCK_ERROR: u64 = limits::DAY;

/// A record that is not to be believed or kept.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// Not well formed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It stands under a key that is not its own.
    #[error("the record does not belong under this key")]
    Key,
    /// A signature does not fit.
    #[error("the record's {0} is wrong")]
    Signature(&'static str),
    /// It is past its time, or claims a time too far away.
    #[error("the record has expired, or its expiry is too far away")]
    Expired,
    /// It was sealed under another contact key.
    #[error("the record does not open with this contact key")]
    Sealed,
    /// Inside it speaks for another device or place than outside.
    #[error("the record was made for another device or place")]
    Mismatch,
}

/// What any node of the directory can see of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outer {
    /// The weekly public key.
    pub public: [u8; 32],
    /// Newer records have higher numbers.
    pub seq: u64,
    /// When it ends.
    pub expires: Wall,
}

/// What a record says to contacts.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceAddresses {
    /// The device.
    pub device: DeviceId,
    /// Newer records have higher numbers.
    pub seq: u64,
    /// When it ends.
    pub expires: Wall,
    /// Where the device can be reached, best first.
    pub addresses: Vec<Address>,
    /// Where its mailboxes are.
    pub relays: Vec<RelayRef>,
    /// The account's device list, as signed; not verified here.
    pub device_list: Bytes,
}

/// The key pair under which a device's record stands in one week; `seed` is known to the account's own devices only.
#[must_use]
pub fn week_key_pair(seed: &Secret32, device: &DeviceId, week: u64) -> KeyPair {
    let context: [&[u8]; 2] = [device.as_bytes(), &week.to_be_bytes()];
    KeyPair::from_seed(&Secret32::new(derive(seed.expose(), "kith/directory/week/1", &context)))
}

/// Where the record of a weekly (or an invite's) public key stands.
#[must_use]
pub fn directory_key(public: &[u8; 32]) -> DirectoryKey {
    DirectoryKey(Sha256::digest(public).into())
}

/// Makes a record. Addresses that would make it too long are left out from the end.
///
/// # Errors
/// [`DirectoryError::Wire`] if it is too long even without addresses.
pub fn build(
    week: &KeyPair,
    device: &KeyPair,
    contact_key: &Secret32,
    says: &DeviceAddresses,
    rng: &mut dyn rand::CryptoRng,
) -> Result<Bytes, DirectoryError> {
    let mut kept = says.addresses.iter().take(limits::ADDRESSES).collect::<Vec<_>>();
    loop {
        let record = build_with(week, device, contact_key, says, &kept, rng)?;
        match short("the directory record", record.len(), limits::DIRECTORY_RECORD) {
            Ok(()) => return Ok(record),
            Err(error) => kept.pop().map(drop).ok_or(error)?,
        }
    }
}

fn build_with(
    week: &KeyPair,
    device: &KeyPair,
    contact_key: &Secret32,
    says: &DeviceAddresses,
    addresses: &[&Address],
    rng: &mut dyn rand::CryptoRng,
) -> Result<Bytes, DirectoryError> {
    let public = week.public();
    let body = proto::DirectoryDevice {
        device: Bytes::copy_from_slice(&device.public()),
        key: Bytes::copy_from_slice(&public),
        seq: says.seq,
        expires: says.expires.0,
        addresses: addresses.iter().map(|a| Bytes::copy_from_slice(a.as_bytes())).collect(),
        relays: relays_to_proto(says.relays.get(..limits::RELAYS).unwrap_or(&says.relays)),
        device_list: says.device_list.clone(),
    }
    .encode_to_vec();
    let signature = Bytes::copy_from_slice(&device.sign(DEVICE_DOMAIN, &[&body]));
    let inner = proto::DirectoryInner { body: body.into(), signature }.encode_to_vec();

    let mut nonce = [0; NONCE];
    rng.fill_bytes(&mut nonce);
    let outer = Outer { public, seq: says.seq, expires: says.expires };
    let ciphertext =
        crypto::seal(&seal_key(contact_key), &nonce, &outer.aad(), &inner).ok_or(DirectoryError::Sealed)?;
    let body = proto::DirectoryBody {
        key: Bytes::copy_from_slice(&public),
        seq: says.seq,
        expires: says.expires.0,
        sealed: [nonce.as_slice(), &ciphertext].concat().into(),
    }
    .encode_to_vec();
    let signature = Bytes::copy_from_slice(&week.sign(OUTER_DOMAIN, &[&body]));
    Ok(proto::DirectoryRecord { body: body.into(), signature }.encode_to_vec().into())
}

/// What any node of the directory checks before it keeps or believes a record.
///
/// # Errors
/// [`DirectoryError`] if the record is malformed, not of this key, unsigned, or outside its time.
pub fn check(key: &DirectoryKey, record: &[u8], now: Wall) -> Result<Outer, DirectoryError> {
    check_outer(key, record, now).map(|(outer, _)| outer)
}

fn check_outer(key: &DirectoryKey, record: &[u8], now: Wall) -> Result<(Outer, Bytes), DirectoryError> {
    let (what, max) = ("the directory record", limits::DIRECTORY_RECORD);
    short(what, record.len(), max)?;
    let signed: proto::DirectoryRecord = canonical(what, &Bytes::copy_from_slice(record), max)?;
    let body: proto::DirectoryBody = decode(what, signed.body.clone(), max)?;
    let outer =
        Outer { public: exact("the record's key", &body.key)?, seq: body.seq, expires: Wall(body.expires) };
    if directory_key(&outer.public) != *key {
        return Err(DirectoryError::Key);
    }
    if outer.expires <= now || outer.expires > now.plus(limits::DIRECTORY_TTL + CLOCK_ERROR) {
        return Err(DirectoryError::Expired);
    }
    if !verify(&outer.public, OUTER_DOMAIN, &[&signed.body], &signed.signature) {
        return Err(DirectoryError::Signature("outer signature"));
    }
    Ok((outer, body.sealed))
}

/// Checks and reads the record of `device`.
///
/// # Errors
/// [`DirectoryError`] if [`check`] fails, the contact key is another, or the device did not sign what is inside.
pub fn open(
    key: &DirectoryKey,
    record: &[u8],
    contact_key: &Secret32,
    device: &DeviceId,
    now: Wall,
) -> Result<DeviceAddresses, DirectoryError> {
    let (outer, sealed) = check_outer(key, record, now)?;
    let (nonce, ciphertext) =
        sealed.split_first_chunk::<NONCE>().ok_or(WireError::Field("the sealed part"))?;
    let inner = crypto::open(&seal_key(contact_key), nonce, &outer.aad(), ciphertext)
        .ok_or(DirectoryError::Sealed)?;
    let (what, max) = ("the sealed part", limits::DIRECTORY_RECORD);
    let signed: proto::DirectoryInner = canonical(what, &Bytes::copy_from_slice(&inner), max)?;
    if !verify(device.as_bytes(), DEVICE_DOMAIN, &[&signed.body], &signed.signature) {
        return Err(DirectoryError::Signature("device's signature"));
    }
    let body: proto::DirectoryDevice = decode(what, signed.body, max)?;
    let public: [u8; 32] = exact("the week's key", &body.key)?;
    let named: DeviceId = id("the device", &body.device)?;
    if (named, public, body.seq, body.expires) != (*device, outer.public, outer.seq, outer.expires.0) {
        return Err(DirectoryError::Mismatch);
    }
    Ok(DeviceAddresses {
        device: named,
        seq: outer.seq,
        expires: outer.expires,
        addresses: addresses(body.addresses)?,
        relays: relays(body.relays)?,
        device_list: body.device_list,
    })
}

impl Outer {
    /// The outside is authenticated with the inside, so neither can be given to another.
    fn aad(&self) -> [u8; 48] {
        let mut aad = [0; 48];
        let parts = self.public.into_iter().chain(self.seq.to_be_bytes()).chain(self.expires.0.to_be_bytes());
        aad.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        aad
    }
}

fn seal_key(contact_key: &Secret32) -> Secret32 {
    Secret32::new(derive(contact_key.expose(), "kith/directory/seal/1", &[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_000_000);

    struct Made {
        week: KeyPair,
        device: KeyPair,
        contact_key: Secret32,
        says: DeviceAddresses,
        record: Bytes,
    }

    fn made(expires: Wall) -> Made {
        let device = KeyPair::from_seed(&Secret32::new([1; 32]));
        let id = DeviceId(device.public());
        let week = week_key_pair(&Secret32::new([2; 32]), &id, 7);
        let contact_key = Secret32::new([3; 32]);
        let says = DeviceAddresses {
            device: id,
            seq: 5,
            expires,
            addresses: vec![Address::new(vec![4; 8]).unwrap()],
            relays: vec![],
            device_list: Bytes::from_static(b"list"),
        };
        let record = build(&week, &device, &contact_key, &says, &mut rand::rng()).unwrap();
        Made { week, device, contact_key, says, record }
    }

    #[test]
    fn contacts_read_what_the_device_said_and_others_only_the_outside() {
        let m = made(NOW.plus(limits::DIRECTORY_TTL));
        let key = directory_key(&m.week.public());
        let outer = check(&key, &m.record, NOW).unwrap();
        assert_eq!(outer, Outer { public: m.week.public(), seq: 5, expires: m.says.expires });
        assert_eq!(open(&key, &m.record, &m.contact_key, &m.says.device, NOW).unwrap(), m.says);
        let stranger = Secret32::new([9; 32]);
        assert_eq!(open(&key, &m.record, &stranger, &m.says.device, NOW), Err(DirectoryError::Sealed));
    }

    #[test]
    fn a_record_holds_at_its_place_and_in_its_time_only() {
        let m = made(NOW.plus(limits::DIRECTORY_TTL));
        let key = directory_key(&m.week.public());
        assert_eq!(check(&DirectoryKey([0; 32]), &m.record, NOW), Err(DirectoryError::Key));
        assert_eq!(check(&key, &m.record, m.says.expires), Err(DirectoryError::Expired));
        assert!(check(&key, &m.record, m.says.expires.minus(1)).is_ok());
        let far = made(NOW.plus(limits::DIRECTORY_TTL + limits::DAY + 1));
        assert_eq!(check(&key, &far.record, NOW), Err(DirectoryError::Expired));
    }

    #[test]
    fn a_contact_cannot_write_a_record_or_speak_for_the_device() {
        let m = made(NOW.plus(limits::HOUR));
        let key = directory_key(&m.week.public());
        let contact = KeyPair::from_seed(&Secret32::new([8; 32]));
        let forged = build(&contact, &m.device, &m.contact_key, &m.says, &mut rand::rng()).unwrap();
        assert_eq!(check(&key, &forged, NOW), Err(DirectoryError::Key));
        let forged = build(&m.week, &contact, &m.contact_key, &m.says, &mut rand::rng()).unwrap();
        assert_eq!(
            open(&key, &forged, &m.contact_key, &m.says.device, NOW),
            Err(DirectoryError::Signature("device's signature"))
        );
    }

    #[test]
    fn flipped_bits_and_cuts_are_noticed() {
        let m = made(NOW.plus(limits::HOUR));
        let key = directory_key(&m.week.public());
        for at in 0..m.record.len() {
            assert!(check(&key, &m.record[..at], NOW).is_err());
            let mut bytes = m.record.to_vec();
            bytes[at] ^= 1 << (at % 8);
            assert!(check(&key, &bytes, NOW).is_err(), "byte {at}");
        }
    }

    #[test]
    fn addresses_give_way_to_a_long_device_list() {
        let mut m = made(NOW.plus(limits::HOUR));
        m.says.device_list = Bytes::from(vec![1; 3300]);
        m.says.addresses = (0..8).map(|n| Address::new(vec![n; 128]).unwrap()).collect();
        let record = build(&m.week, &m.device, &m.contact_key, &m.says, &mut rand::rng()).unwrap();
        assert!(record.len() <= limits::DIRECTORY_RECORD);
        let key = directory_key(&m.week.public());
        let read = open(&key, &record, &m.contact_key, &m.says.device, NOW).unwrap();
        assert!((1..8).contains(&read.addresses.len()));
        assert_eq!(read.addresses[..], m.says.addresses[..read.addresses.len()]);
        m.says.device_list = Bytes::from(vec![1; 4096]);
        assert!(build(&m.week, &m.device, &m.contact_key, &m.says, &mut rand::rng()).is_err());
    }

    #[test]
    fn weeks_and_devices_have_keys_of_their_own() {
        let seed = Secret32::new([1; 32]);
        let public = |device: u8, week| week_key_pair(&seed, &DeviceId([device; 32]), week).public();
        assert_eq!(public(1, 1), public(1, 1));
        assert_ne!(public(1, 1), public(1, 2));
        assert_ne!(public(1, 1), public(2, 1));
    }
}
