//! Network address translation: which strangers get in, and for how long.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// How a router translates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NatKind {
    /// A port once opened from inside is open to everybody.
    FullCone,
    /// It is open to those addresses that were called from it.
    Restricted,
    /// Each destination gets a port of its own, open to that destination only.
    Symmetric,
}

/// An address and a port.
pub(super) type Socket = (Ipv4Addr, u16);

#[derive(Debug)]
struct Mapping {
    inside: u16,
    outside: u16,
    /// Symmetric only.
    towards: Option<Socket>,
    called: BTreeMap<Ipv4Addr, u64>,
    used: u64,
}

/// One router with one host behind it.
#[derive(Debug)]
pub(super) struct Nat {
    kind: NatKind,
    /// A mapping that nothing used for this long is forgotten, and so is a connection.
    timeout: u64,
    mappings: Vec<Mapping>,
    next: u16,
}

impl Nat {
    pub(super) fn new(kind: NatKind, timeout: u64) -> Self {
        Self { kind, timeout, mappings: Vec::new(), next: 20_000 }
    }

    pub(super) const fn timeout(&self) -> u64 {
        self.timeout
    }

    fn forget(&mut self, now: u64) {
        let timeout = self.timeout;
        self.mappings.retain(|mapping| now.saturating_sub(mapping.used) < timeout);
    }

    /// A packet goes out: the port it seems to come from.
    pub(super) fn outbound(&mut self, inside: u16, to: Socket, now: u64) -> u16 {
        self.forget(now);
        let towards = (self.kind == NatKind::Symmetric).then_some(to);
        let known = self.mappings.iter_mut().find(|m| m.inside == inside && m.towards == towards);
        let mapping = match known {
            Some(mapping) => mapping,
            None => {
                let outside = self.next;
                self.next = self.next.checked_add(1).unwrap_or(20_000);
                self.mappings.push(Mapping { inside, outside, towards, called: BTreeMap::new(), used: now });
                let Some(mapping) = self.mappings.last_mut() else { return outside };
                mapping
            }
        };
        mapping.used = now;
        mapping.called.insert(to.0, now);
        mapping.outside
    }

    /// A stranger knocks: the port inside, if he gets in.
    pub(super) fn inbound(&mut self, outside: u16, from: Socket, now: u64) -> Option<u16> {
        self.forget(now);
        let mapping = self.mappings.iter_mut().find(|mapping| mapping.outside == outside)?;
        let open = match self.kind {
            NatKind::FullCone => true,
            NatKind::Restricted => {
                mapping.called.get(&from.0).is_some_and(|at| now.saturating_sub(*at) < self.timeout)
            }
            NatKind::Symmetric => mapping.towards == Some(from),
        };
        open.then(|| {
            mapping.used = now;
            mapping.inside
        })
    }

    /// The host is gone, and all it had opened.
    pub(super) fn clear(&mut self) {
        self.mappings.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Socket = (Ipv4Addr::new(20, 0, 1, 1), 4001);
    const B: Socket = (Ipv4Addr::new(20, 0, 2, 1), 4001);

    #[test]
    fn a_full_cone_lets_anybody_in_until_it_forgets() {
        let mut nat = Nat::new(NatKind::FullCone, 100);
        let port = nat.outbound(4001, A, 0);
        assert_eq!(nat.inbound(port, B, 50), Some(4001));
        assert_eq!(nat.inbound(port, B, 149), Some(4001));
        assert_eq!(nat.inbound(port, B, 300), None);
    }

    #[test]
    fn a_restricted_cone_knows_whom_it_called() {
        let mut nat = Nat::new(NatKind::Restricted, 100);
        let port = nat.outbound(4001, A, 0);
        assert_eq!(nat.outbound(4001, B, 1), port, "one port for all");
        assert_eq!(nat.inbound(port, (A.0, 9), 2), Some(4001), "any port of an address that was called");
        assert_eq!(nat.inbound(port, (Ipv4Addr::new(20, 0, 3, 1), 1), 2), None);
    }

    #[test]
    fn a_symmetric_one_takes_a_port_for_each_destination() {
        let mut nat = Nat::new(NatKind::Symmetric, 100);
        let (a, b) = (nat.outbound(4001, A, 0), nat.outbound(4001, B, 0));
        assert_ne!(a, b);
        assert_eq!(nat.inbound(a, A, 1), Some(4001));
        assert_eq!(nat.inbound(a, B, 1), None);
    }
}
