//! The system's keyring, where this build has one.

use super::{KeyError, MasterKey};

#[cfg(feature = "keyring")]
const SERVICE: &str = "kith";

#[cfg(feature = "keyring")]
fn entry(name: &str) -> Result<keyring::Entry, KeyError> {
    if let Err(error) = keyring::Entry::store_status() {
        return Err(KeyError::NoKeyring(error.to_string()));
    }
    keyring::Entry::new(SERVICE, name).map_err(|error| KeyError::NoKeyring(error.to_string()))
}

#[cfg(feature = "keyring")]
pub(super) fn set(name: &str, key: &MasterKey) -> Result<(), KeyError> {
    let text = zeroize::Zeroizing::new(data_encoding::HEXLOWER.encode(key.expose()));
    entry(name)?.set_password(&text).map_err(|error| KeyError::NoKeyring(error.to_string()))
}

#[cfg(feature = "keyring")]
pub(super) fn get(name: &str) -> Result<MasterKey, KeyError> {
    let missing = || KeyError::NoEntry { entry: name.to_owned() };
    let text = match entry(name)?.get_password() {
        Ok(text) => zeroize::Zeroizing::new(text),
        Err(keyring::Error::NoEntry) => return Err(missing()),
        Err(error) => return Err(KeyError::NoKeyring(error.to_string())),
    };
    let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map(zeroize::Zeroizing::new);
    let bytes = bytes.map_err(|_| missing())?;
    Ok(MasterKey::from_bytes(bytes.as_slice().try_into().map_err(|_| missing())?))
}

#[cfg(not(feature = "keyring"))]
pub(super) fn set(_name: &str, _key: &MasterKey) -> Result<(), KeyError> {
    Err(KeyError::NoKeyring("this Kith was built without it".to_owned()))
}

#[cfg(not(feature = "keyring"))]
pub(super) fn get(_name: &str) -> Result<MasterKey, KeyError> {
    Err(KeyError::NoKeyring("this Kith was built without it".to_owned()))
}
