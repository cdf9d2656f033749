//! The beginning of an account: keys, certificate and list of its first device.

use crate::crypto::session::LocalDevice;
use crate::id::{AccountId, DeviceId};
use crate::identity::{Certificate, DeviceList, KeyPair, NameError, Phrase, check_name};
use crate::limits;
use crate::record::{Change, Clock, Counters, Own, Settings};
use crate::secret::Secret32;
use crate::time::Wall;

/// How long a device certificate is good for; its end warns, it stops nothing.
const CERTIFICATE_TTL: u64 = 10 * 365 * limits::DAY;

/// What a new account is made of.
#[derive(Debug)]
pub struct NewAccount<'a> {
    /// The name shown to contacts.
    pub name: &'a str,
    /// The account's words, if it exists already (a restored account is a new device); else they are drawn.
    pub phrase: Option<Phrase>,
}

/// A new account and its first device.
#[derive(Debug)]
pub struct Genesis {
    /// Rows for an empty store.
    pub changes: Vec<Change>,
    /// The account.
    pub account: AccountId,
    /// The device.
    pub device: DeviceId,
    /// The account's words: to be written down by the person, and stored nowhere else.
    pub phrase: Phrase,
}

/// Makes an account with its first device.
///
/// # Errors
/// [`NameError`] if the name cannot be used.
pub fn genesis(new: NewAccount<'_>, now: Wall, rng: &mut dyn rand::CryptoRng) -> Result<Genesis, NameError> {
    let name = check_name(new.name)?;
    let phrase = new.phrase.unwrap_or_else(|| Phrase::generate(rng));
    let account_seed = phrase.account_seed();
    let account_keys = KeyPair::from_seed(&account_seed);
    let device_seed = Secret32::random(rng);
    let device_keys = KeyPair::from_seed(&device_seed);
    let identity_secret = Secret32::random(rng);
    let identity_key = LocalDevice::identity_key(&identity_secret);
    let expires = now.plus(CERTIFICATE_TTL);
    let certificate = Certificate::sign(&account_keys, &device_keys, identity_key, now, expires, 1);
    let list_expires = now.plus(limits::DEVICE_LIST_TTL);
    let list = DeviceList::sign(&account_keys, 1, None, now, list_expires, vec![certificate.clone()]);
    let account = AccountId(account_keys.public());
    let device = DeviceId(device_keys.public());
    let own = Own {
        account,
        account_seed: Some(account_seed),
        device,
        device_seed,
        identity_secret,
        certificate: certificate.bytes,
        device_list: list.bytes,
        name,
        about: String::new(),
        directory_seed: Secret32::random(rng),
        contact_key: Secret32::random(rng),
        created: now,
    };
    let changes = vec![
        Change::Put(own.into()),
        Change::Put(Settings::default().into()),
        Change::Put(Clock { believed: now }.into()),
        Change::Put(Counters { next_event: 1, first_event: 1, next_prekey: 1, directory_seq: 0 }.into()),
    ];
    Ok(Genesis { changes, account, device, phrase })
}
