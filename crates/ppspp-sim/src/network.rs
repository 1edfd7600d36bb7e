//! The network: links, NAT boxes, routes, partitions, and what is on its way.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use serde::Serialize;

use crate::id::{HostId, LinkId};
use crate::link::{Carried, LinkSpec, Pipe};
use crate::nat::{Nat, NatSpec};
use crate::packet::{PacketId, Packets, Size};
use crate::queue::Queue;
use crate::rng::Streams;
use crate::tape::{Mark, Tape};
use crate::time::SimTime;

/// Port of every peer.
pub(crate) const PORT: u16 = 6778;
/// The network 10.0.0.0/8, in which addresses are given out in order.
const BASE: u32 = 0x0a00_0000;
/// Hosts at most: the addresses of 10.0.0.0/8, but for the first.
pub(crate) const MAX_HOSTS: usize = (1 << 24) - 2;

/// Room for the largest datagram, or the largest batch of them.
const SCRATCH: usize = 1 << 16;

/// What happens at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Happening {
    /// A packet reached the link of whom it is for.
    Arrive(PacketId),
    /// A packet came out of that link.
    Deliver(HostId, PacketId),
    /// A host asked to be woken.
    Wake(HostId),
    /// A host's disk is done with an operation.
    Disk(HostId, u64),
    /// An entry of the timetable.
    Act(u32),
    /// The run is looked at as a whole.
    Sample,
    /// How far every host is is noted.
    Note,
}

/// Who is at an address.
#[derive(Clone, Copy, Debug)]
enum Home {
    Nobody,
    Host(HostId),
    Nat(LinkId),
}

/// A link at work.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) up: Pipe,
    pub(crate) down: Pipe,
    nat: Option<Nat>,
    /// Hosts behind the NAT by their inner addresses.
    inside: Vec<(SocketAddrV4, HostId)>,
    name: String,
}

/// Packets that do not get from some hosts to others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cut {
    pub(crate) from: BTreeSet<HostId>,
    pub(crate) to: BTreeSet<HostId>,
    pub(crate) both_ways: bool,
}

impl Cut {
    fn stops(&self, from: HostId, to: HostId) -> bool {
        (self.from.contains(&from) && self.to.contains(&to))
            || (self.both_ways && self.from.contains(&to) && self.to.contains(&from))
    }
}

/// Packets by their fate. What was sent or doubled has arrived, was dropped, or is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Ledger {
    /// Packets sent.
    pub sent: u64,
    /// Wire bytes of those.
    pub bytes_sent: u64,
    /// Packets that the network doubled.
    pub doubled: u64,
    /// Packets handed to a host.
    pub delivered: u64,
    /// Wire bytes of those.
    pub bytes_delivered: u64,
    /// Dropped by a full or standing queue.
    pub overflowed: u64,
    /// Lost at random.
    pub lost: u64,
    /// Larger than a link allows.
    pub too_large: u64,
    /// For an address at which nobody is.
    pub unroutable: u64,
    /// Not let in by a NAT.
    pub filtered: u64,
    /// Stopped by a partition.
    pub partitioned: u64,
    /// For a host that was down, or whose socket was full while it was paused.
    pub unreceived: u64,
    /// Still on their way.
    pub flying: u64,
}

impl Ledger {
    /// Whether every packet is accounted for.
    pub const fn is_balanced(&self) -> bool {
        let dropped = self.overflowed
            + self.lost
            + self.too_large
            + self.unroutable
            + self.filtered
            + self.partitioned
            + self.unreceived;
        self.sent + self.doubled == self.delivered + dropped + self.flying
    }
}

/// The network and the clock.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) now: SimTime,
    pub(crate) queue: Queue<Happening>,
    pub(crate) packets: Packets,
    pub(crate) lines: Vec<Line>,
    pub(crate) tape: Tape,
    pub(crate) streams: Streams,
    pub(crate) cuts: Vec<Cut>,
    pub(crate) ledger: Ledger,
    /// A buffer that hosts write datagrams into, one at a time.
    pub(crate) scratch: Vec<u8>,
    homes: Vec<Home>,
    link_of: Vec<LinkId>,
}

impl Network {
    pub(crate) fn new(streams: Streams, tape: Tape) -> Self {
        Self {
            now: SimTime::ZERO,
            queue: Queue::default(),
            packets: Packets::default(),
            lines: Vec::new(),
            tape,
            streams,
            cuts: Vec::new(),
            ledger: Ledger::default(),
            scratch: Vec::with_capacity(SCRATCH),
            homes: vec![Home::Nobody],
            link_of: Vec::new(),
        }
    }

    pub(crate) fn add_link(&mut self, spec: &LinkSpec, nat: Option<NatSpec>) -> LinkId {
        let id = LinkId(self.lines.len() as u32);
        let name = format!("link/{}", id.0);
        let nat = nat.map(|spec| Nat::new(spec, self.settle(Home::Nat(id))));
        let (up, down) = (format!("{name}/up"), format!("{name}/down"));
        let streams = self.streams;
        self.lines.push(Line {
            up: Pipe::new(spec.up.clone(), || streams.stream(&up)),
            down: Pipe::new(spec.down.clone(), || streams.stream(&down)),
            nat,
            inside: Vec::new(),
            name,
        });
        id
    }

    /// Gives the link other properties from now on.
    pub(crate) fn change_link(&mut self, link: LinkId, spec: &LinkSpec) {
        let streams = self.streams;
        let line = &mut self.lines[link.0 as usize];
        let (up, down) = (format!("{}/up", line.name), format!("{}/down", line.name));
        line.up.change(self.now, spec.up.clone(), || streams.stream(&up));
        line.down.change(self.now, spec.down.clone(), || streams.stream(&down));
    }

    /// Puts `host` behind `link` and says at which address it is.
    pub(crate) fn add_host(&mut self, host: HostId, link: LinkId) -> SocketAddrV4 {
        self.link_of.push(link);
        let line = &mut self.lines[link.0 as usize];
        if line.nat.is_some() {
            let address = SocketAddrV4::new(Ipv4Addr::new(192, 168, 0, 2 + line.inside.len() as u8), PORT);
            line.inside.push((address, host));
            return address;
        }
        SocketAddrV4::new(self.settle(Home::Host(host)), PORT)
    }

    /// Moves `host` from `old` to an address of its own that nobody had.
    pub(crate) fn move_host(&mut self, host: HostId, old: SocketAddrV4) -> SocketAddrV4 {
        if let Some(place) = self.homes.get_mut((u32::from(*old.ip()).wrapping_sub(BASE)) as usize) {
            *place = Home::Nobody;
        }
        SocketAddrV4::new(self.settle(Home::Host(host)), PORT)
    }

    fn settle(&mut self, home: Home) -> Ipv4Addr {
        self.homes.push(home);
        Ipv4Addr::from(BASE + self.homes.len() as u32 - 1)
    }

    pub(crate) fn link_of(&self, host: HostId) -> LinkId {
        self.link_of[host.index()]
    }

    /// Sends a packet from `host`, which claims to be `source`.
    pub(crate) fn send(
        &mut self,
        host: HostId,
        source: SocketAddrV4,
        destination: SocketAddrV4,
        size: Size,
        payload: &[u8],
    ) {
        self.ledger.sent += 1;
        self.ledger.bytes_sent += u64::from(size.wire);
        let line = &mut self.lines[self.link_of[host.index()].0 as usize];
        let source = line.nat.as_mut().map_or(source, |nat| nat.outbound(self.now, source, destination));
        self.tape.packet(self.now, Mark::Sent, host, source, destination, payload);
        let carried = line.up.carry(self.now, size);
        if let Some(dropped) = self.ledger.of_fate(carried) {
            *dropped += 1;
            self.tape.packet(self.now, Mark::Dropped, host, source, destination, &[]);
            return;
        }
        let id = self.packets.insert(host, source, destination, size, payload);
        self.forward(carried, id, Happening::Arrive);
    }

    /// A packet reached the far end of its sender's link.
    pub(crate) fn arrive(&mut self, id: PacketId) {
        let packet = self.packets.get(id);
        let (from, source, destination) = (packet.from, packet.source, packet.destination);
        let size = Size { wire: packet.wire, may_fragment: packet.may_fragment };
        let Some((host, inner)) = self.route(source, destination, id) else { return };
        if self.cuts.iter().any(|cut| cut.stops(from, host)) {
            self.ledger.partitioned += 1;
            self.drop_packet(id, host);
            return;
        }
        self.packets.get_mut(id).destination = inner;
        let carried = self.lines[self.link_of[host.index()].0 as usize].down.carry(self.now, size);
        if let Some(dropped) = self.ledger.of_fate(carried) {
            *dropped += 1;
            self.drop_packet(id, host);
            return;
        }
        self.forward(carried, id, |id| Happening::Deliver(host, id));
    }

    /// Who gets a packet, and under which address. What nobody gets is dropped.
    fn route(
        &mut self,
        source: SocketAddrV4,
        destination: SocketAddrV4,
        id: PacketId,
    ) -> Option<(HostId, SocketAddrV4)> {
        let index = u32::from(*destination.ip()).wrapping_sub(BASE) as usize;
        match self.homes.get(index).copied().unwrap_or(Home::Nobody) {
            Home::Host(host) => return Some((host, destination)),
            Home::Nat(link) => {
                let line = &self.lines[link.0 as usize];
                let inner = line.nat.as_ref().and_then(|nat| nat.inbound(self.now, source, destination.port()));
                let host = inner.and_then(|inner| line.inside.iter().find(|(address, _)| *address == inner));
                if let Some(&(inner, host)) = host {
                    return Some((host, inner));
                }
                self.ledger.filtered += 1;
            }
            Home::Nobody => self.ledger.unroutable += 1,
        }
        let from = self.packets.get(id).from;
        self.drop_packet(id, from);
        None
    }

    /// Plans what comes after a pipe.
    fn forward(&mut self, carried: Carried, id: PacketId, next: impl Fn(PacketId) -> Happening) {
        let Carried::Arrives { at, again, flipped } = carried else { return };
        if let Some(again) = again {
            let twin = self.packets.twin(id);
            self.ledger.doubled += 1;
            self.queue.plan(again, next(twin));
        }
        if let Some(flipped) = flipped {
            let payload = &mut self.packets.get_mut(id).payload;
            let bit = flipped.checked_rem(payload.len() as u64 * 8).unwrap_or(0);
            if let Some(octet) = payload.get_mut(bit as usize / 8) {
                *octet ^= 1 << (bit % 8);
            }
        }
        self.queue.plan(at, next(id));
    }

    fn drop_packet(&mut self, id: PacketId, host: HostId) {
        let packet = self.packets.get(id);
        self.tape.packet(self.now, Mark::Dropped, host, packet.source, packet.destination, &[]);
        self.packets.remove(id);
    }

    /// The fates of all packets so far.
    pub(crate) fn ledger(&self) -> Ledger {
        Ledger { flying: self.packets.flying(), ..self.ledger }
    }
}

impl Ledger {
    /// The count that a packet goes to which a pipe did not carry.
    const fn of_fate(&mut self, carried: Carried) -> Option<&mut u64> {
        match carried {
            Carried::Arrives { .. } => None,
            Carried::Overflow => Some(&mut self.overflowed),
            Carried::Lost => Some(&mut self.lost),
            Carried::TooLarge => Some(&mut self.too_large),
        }
    }
}
