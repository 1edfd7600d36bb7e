//! NAT boxes: one public address for the hosts behind a link (RFC 4787's terms in brackets).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::time::SimTime;

/// First port that a NAT gives out.
const FIRST_PORT: u16 = 20_000;

/// What a NAT lets in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NatKind {
    /// Anyone may use a mapping (endpoint-independent mapping and filtering).
    FullCone,
    /// Only addresses that were sent to (address-dependent filtering).
    Restricted,
    /// Only addresses and ports that were sent to (address- and port-dependent filtering).
    PortRestricted,
    /// Another mapping for each destination (address- and port-dependent mapping and filtering).
    Symmetric,
}

/// A NAT box.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NatSpec {
    /// What it lets in.
    pub kind: NatKind,
    /// How long a mapping lasts after a packet went out. RFC 4787 asks for two minutes, many boxes have thirty seconds.
    pub timeout: Duration,
}

impl NatSpec {
    /// A box of `kind` with mappings that last two minutes.
    pub const fn new(kind: NatKind) -> Self {
        Self { kind, timeout: Duration::from_secs(120) }
    }
}

#[derive(Debug)]
struct Mapping {
    inside: SocketAddrV4,
    /// The only destination, for symmetric boxes.
    destination: Option<SocketAddrV4>,
    used: SimTime,
    sent_to: BTreeSet<SocketAddrV4>,
}

/// A NAT box at work.
#[derive(Debug)]
pub(crate) struct Nat {
    spec: NatSpec,
    public: Ipv4Addr,
    by_inside: BTreeMap<(SocketAddrV4, Option<SocketAddrV4>), u16>,
    by_port: BTreeMap<u16, Mapping>,
    next_port: u16,
}

impl Nat {
    pub(crate) const fn new(spec: NatSpec, public: Ipv4Addr) -> Self {
        Self { spec, public, by_inside: BTreeMap::new(), by_port: BTreeMap::new(), next_port: FIRST_PORT }
    }

    /// The public address of a packet from `inside` to `destination`.
    pub(crate) fn outbound(&mut self, now: SimTime, inside: SocketAddrV4, destination: SocketAddrV4) -> SocketAddrV4 {
        let only = (self.spec.kind == NatKind::Symmetric).then_some(destination);
        let known = self.by_inside.get(&(inside, only)).copied();
        let port = match known.filter(|port| self.is_live(now, *port)) {
            Some(port) => port,
            None => self.map(inside, only),
        };
        if let Some(mapping) = self.by_port.get_mut(&port) {
            mapping.used = now;
            mapping.sent_to.insert(destination);
        }
        SocketAddrV4::new(self.public, port)
    }

    /// The host behind the box that a packet from `source` to `port` is for; `None` if it is filtered.
    pub(crate) fn inbound(&self, now: SimTime, source: SocketAddrV4, port: u16) -> Option<SocketAddrV4> {
        let mapping = self.by_port.get(&port).filter(|_| self.is_live(now, port))?;
        let allowed = match self.spec.kind {
            NatKind::FullCone => true,
            NatKind::Restricted => mapping.sent_to.iter().any(|sent| sent.ip() == source.ip()),
            NatKind::PortRestricted | NatKind::Symmetric => mapping.sent_to.contains(&source),
        };
        allowed.then_some(mapping.inside)
    }

    fn is_live(&self, now: SimTime, port: u16) -> bool {
        self.by_port.get(&port).is_some_and(|mapping| now.since(mapping.used) < self.spec.timeout)
    }

    /// A new port, and an end to the old one.
    fn map(&mut self, inside: SocketAddrV4, destination: Option<SocketAddrV4>) -> u16 {
        let port = self.next_port;
        self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
        if let Some(old) = self.by_inside.insert((inside, destination), port) {
            self.by_port.remove(&old);
        }
        if let Some(replaced) = self.by_port.remove(&port) {
            self.by_inside.remove(&(replaced.inside, replaced.destination));
        }
        let mapping = Mapping { inside, destination, used: SimTime::ZERO, sent_to: BTreeSet::new() };
        self.by_port.insert(port, mapping);
        port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSIDE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 0, 2), 6778);
    const PUBLIC: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

    fn peer(host: u8, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, host), port)
    }

    /// Whom a box of `kind` lets in after a packet to host 1, port 1: the same, another port, another host.
    fn lets_in(kind: NatKind) -> [bool; 3] {
        let mut nat = Nat::new(NatSpec::new(kind), PUBLIC);
        let port = nat.outbound(SimTime::ZERO, INSIDE, peer(1, 1)).port();
        [peer(1, 1), peer(1, 2), peer(2, 1)].map(|from| nat.inbound(SimTime::ZERO, from, port) == Some(INSIDE))
    }

    #[test]
    fn each_kind_filters_as_its_name_says() {
        assert_eq!(lets_in(NatKind::FullCone), [true, true, true]);
        assert_eq!(lets_in(NatKind::Restricted), [true, true, false]);
        assert_eq!(lets_in(NatKind::PortRestricted), [true, false, false]);
        assert_eq!(lets_in(NatKind::Symmetric), [true, false, false]);
    }

    #[test]
    fn only_symmetric_boxes_show_another_port_to_each_peer() {
        for kind in [NatKind::FullCone, NatKind::Restricted, NatKind::PortRestricted, NatKind::Symmetric] {
            let mut nat = Nat::new(NatSpec::new(kind), PUBLIC);
            let ports = [peer(1, 1), peer(2, 1)].map(|to| nat.outbound(SimTime::ZERO, INSIDE, to).port());
            assert_eq!(ports[0] != ports[1], kind == NatKind::Symmetric);
        }
    }

    #[test]
    fn mappings_end_and_are_made_anew() {
        let mut nat = Nat::new(NatSpec::new(NatKind::FullCone), PUBLIC);
        let at = |secs| SimTime::ZERO + Duration::from_secs(secs);
        let port = nat.outbound(at(0), INSIDE, peer(1, 1)).port();
        assert_eq!(nat.outbound(at(100), INSIDE, peer(1, 1)).port(), port);
        assert!(nat.inbound(at(219), peer(1, 1), port).is_some());
        assert!(nat.inbound(at(220), peer(1, 1), port).is_none());
        assert_ne!(nat.outbound(at(220), INSIDE, peer(1, 1)).port(), port);
        assert_eq!(nat.by_port.len(), 1);
    }
}
