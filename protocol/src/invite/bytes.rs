//! The byte table of an invite (docs/protocol.md, "Invite").

use bytes::Bytes;

use super::{GroupSeat, Invite, InviteError, InviteSecret};
use crate::id::{AccountId, Address, DeviceId, MailboxId};
use crate::record::RelayRef;
use crate::time::Wall;
use crate::{identity, limits};

const VERSION: u8 = 1;
const GROUP: u8 = 1;
const CHECKSUM: usize = 4;

pub(super) fn encode(invite: &Invite) -> Bytes {
    let mut out = Vec::with_capacity(512);
    out.push(VERSION);
    out.push(if invite.group.is_some() { GROUP } else { 0 });
    out.extend_from_slice(invite.account.as_bytes());
    out.extend_from_slice(invite.device.as_bytes());
    out.extend_from_slice(invite.secret.as_bytes());
    out.extend_from_slice(&invite.directory_key);
    let seconds = u32::try_from(invite.expires.0 / limits::SECOND).unwrap_or(u32::MAX);
    out.extend_from_slice(&seconds.to_be_bytes());
    put_list(&mut out, invite.addresses.iter().filter(|a| fits(a)), limits::INVITE_ADDRESSES, put_address);
    put_list(&mut out, invite.relays.iter().filter(|r| fits(&r.address)), limits::RELAYS, |out, relay| {
        out.extend_from_slice(relay.relay.as_bytes());
        out.extend_from_slice(relay.mailbox.as_bytes());
        put_address(out, &relay.address);
    });
    if let Some(seat) = &invite.group {
        out.extend_from_slice(&seat.group);
        let admitters = seat.admitters.iter().filter(|(_, address)| fits(address));
        put_list(&mut out, admitters, limits::INVITE_ADMITTERS, |out, (device, address)| {
            out.extend_from_slice(device.as_bytes());
            put_address(out, address);
        });
    }
    let name_end = (0..=limits::NAME).rev().find(|end| invite.name.is_char_boundary(*end)).unwrap_or(0);
    let name = invite.name.get(..name_end).unwrap_or(&invite.name);
    put_bytes(&mut out, name.as_bytes());
    let checksum = checksum(&out);
    out.extend_from_slice(&checksum);
    out.into()
}

fn fits(address: &Address) -> bool {
    address.as_bytes().len() <= limits::INVITE_ADDRESS
}

fn put_address(out: &mut Vec<u8>, address: &Address) {
    put_bytes(out, address.as_bytes());
}

/// One length byte, then the bytes; every caller stays below 256.
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
    out.extend(bytes.iter().take(u8::MAX.into()));
}

fn put_list<'a, T: 'a>(
    out: &mut Vec<u8>,
    items: impl Iterator<Item = &'a T>,
    max: usize,
    put: impl Fn(&mut Vec<u8>, &T),
) {
    let at = out.len();
    out.push(0);
    let mut count = 0;
    for item in items.take(max) {
        put(out, item);
        count += 1;
    }
    if let Some(place) = out.get_mut(at) {
        *place = count;
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let mut sum = [0; CHECKSUM];
    blake3::Hasher::new().update(bytes).finalize_xof().fill(&mut sum);
    sum
}

pub(super) fn decode(bytes: &[u8]) -> Result<Invite, InviteError> {
    use InviteError::Damaged;
    if bytes.len() > limits::INVITE {
        return Err(InviteError::TooLong);
    }
    let (body, sum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(Damaged)?;
    // Every version ends in this sum, so a mistyped version byte is told from a newer one.
    if checksum(body) != *sum {
        return Err(Damaged);
    }
    let mut input = Input(body);
    if input.byte()? != VERSION {
        return Err(InviteError::Newer);
    }
    let flags = input.byte()?;
    if flags & !GROUP != 0 {
        return Err(InviteError::Newer);
    }
    let account = AccountId(input.array()?);
    let device = DeviceId(input.array()?);
    let secret = InviteSecret::new(input.array()?);
    let directory_key = input.array()?;
    let expires = Wall(u64::from(u32::from_be_bytes(input.array()?)) * limits::SECOND);
    let addresses = input.list(limits::INVITE_ADDRESSES, Input::address)?;
    let relays = input.list(limits::RELAYS, |input| {
        Ok(RelayRef {
            relay: DeviceId(input.array()?),
            mailbox: MailboxId(input.array()?),
            address: input.address()?,
        })
    })?;
    let group = if flags & GROUP == 0 {
        None
    } else {
        let group = input.array()?;
        let admitters =
            input.list(limits::INVITE_ADMITTERS, |input| Ok((DeviceId(input.array()?), input.address()?)))?;
        Some(GroupSeat { group, admitters })
    };
    let name = input.bytes(limits::NAME)?;
    let name = std::str::from_utf8(name).map_err(|_| Damaged)?;
    // Whoever made the link may have put anything here; what cannot be shown is not shown.
    let name = identity::check_name(name).unwrap_or_default();
    if !input.0.is_empty() {
        return Err(Damaged);
    }
    Ok(Invite { account, device, secret, directory_key, expires, addresses, relays, group, name })
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], InviteError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(InviteError::Damaged)?;
        self.0 = rest;
        Ok(*head)
    }

    fn byte(&mut self) -> Result<u8, InviteError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn bytes(&mut self, max: usize) -> Result<&'a [u8], InviteError> {
        let len = usize::from(self.byte()?);
        if len > max {
            return Err(InviteError::Damaged);
        }
        let (head, rest) = self.0.split_at_checked(len).ok_or(InviteError::Damaged)?;
        self.0 = rest;
        Ok(head)
    }

    fn address(&mut self) -> Result<Address, InviteError> {
        Address::new(self.bytes(limits::INVITE_ADDRESS)?.to_vec()).ok_or(InviteError::Damaged)
    }

    fn list<T>(
        &mut self,
        max: usize,
        item: impl Fn(&mut Self) -> Result<T, InviteError>,
    ) -> Result<Vec<T>, InviteError> {
        let count = usize::from(self.byte()?);
        if count > max {
            return Err(InviteError::Damaged);
        }
        (0..count).map(|_| item(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::invite;
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = encode(&invite());
        for at in 0..bytes.len() {
            assert!(decode(&bytes[..at]).is_err());
            for bit in 0..8 {
                let mut bytes = bytes.to_vec();
                bytes[at] ^= 1 << bit;
                assert!(decode(&bytes).is_err(), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let long = Address::new(vec![1; 65]).unwrap();
        let address = Address::new(vec![1; 64]).unwrap();
        let given = Invite {
            addresses: std::iter::once(long).chain(std::iter::repeat_n(address.clone(), 9)).collect(),
            name: "é".repeat(40),
            ..invite()
        };
        let read = decode(&encode(&given)).unwrap();
        assert_eq!(read.addresses, vec![address; limits::INVITE_ADDRESSES]);
        assert_eq!(read.name, "é".repeat(24));
    }

    #[test]
    fn a_newer_version_an_unknown_flag_or_a_tail_is_refused() {
        let body = encode(&invite());
        let body = &body[..body.len() - CHECKSUM];
        let with_sum = |body: &[u8]| [body, &checksum(body)].concat();
        assert!(decode(&with_sum(body)).is_ok());
        let mut newer = body.to_vec();
        newer[0] = 2;
        assert_eq!(decode(&with_sum(&newer)), Err(InviteError::Newer));
        let mut flagged = body.to_vec();
        flagged[1] = 2;
        assert_eq!(decode(&with_sum(&flagged)), Err(InviteError::Newer));
        assert_eq!(decode(&with_sum(&[body, &[0]].concat())), Err(InviteError::Damaged));
    }
}
