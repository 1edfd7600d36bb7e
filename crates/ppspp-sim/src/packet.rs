//! Packets on their way.

use std::net::SocketAddrV4;

use crate::id::HostId;

/// Bytes of the IPv4 and UDP headers before each payload.
pub const UDP_HEADERS: u32 = 28;

/// Bytes of an IPv4 header.
const IP_HEADER: u32 = 20;

/// A packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// The host that sent it.
    pub from: HostId,
    /// The address it claims to come from, as seen where the packet is.
    pub source: SocketAddrV4,
    /// The address it goes to.
    pub destination: SocketAddrV4,
    /// Bytes it takes on a link, headers included.
    pub wire: u32,
    /// Whether it crosses links that are too narrow for it in fragments, rather than not at all.
    pub may_fragment: bool,
    /// The UDP payload.
    pub payload: Vec<u8>,
}

/// What links see of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Size {
    pub(crate) wire: u32,
    pub(crate) may_fragment: bool,
}

impl Size {
    /// A packet of `wire` bytes that must not be fragmented.
    pub(crate) const fn whole(wire: u32) -> Self {
        Self { wire, may_fragment: false }
    }

    /// A datagram of `payload` bytes.
    pub(crate) const fn datagram(payload: usize, may_fragment: bool) -> Self {
        Self { wire: payload as u32 + UDP_HEADERS, may_fragment }
    }

    /// The bytes it takes on a link that carries `mtu` bytes at a time, each fragment with an IP header of its own;
    /// `None` if it does not get across.
    pub(crate) const fn on_wire(self, mtu: u32) -> Option<u32> {
        if self.wire <= mtu {
            return Some(self.wire);
        }
        if !self.may_fragment || mtu < 28 {
            return None;
        }
        // RFC 791 §3.2: all fragments but the last carry a multiple of eight bytes.
        let each = (mtu - IP_HEADER) / 8 * 8;
        let fragments = (self.wire - IP_HEADER).div_ceil(each);
        Some(self.wire + (fragments - 1) * IP_HEADER)
    }
}

/// Names a packet that is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PacketId(u32);

/// The packets on their way. Buffers of those that arrived are used again.
#[derive(Debug, Default)]
pub(crate) struct Packets {
    slots: Vec<Packet>,
    free: Vec<u32>,
}

impl Packets {
    /// Puts a packet on its way.
    pub(crate) fn insert(
        &mut self,
        from: HostId,
        source: SocketAddrV4,
        destination: SocketAddrV4,
        size: Size,
        payload: &[u8],
    ) -> PacketId {
        let Size { wire, may_fragment } = size;
        if let Some(slot) = self.free.pop() {
            let packet = &mut self.slots[slot as usize];
            (packet.from, packet.source, packet.destination) = (from, source, destination);
            (packet.wire, packet.may_fragment) = (wire, may_fragment);
            packet.payload.clear();
            packet.payload.extend_from_slice(payload);
            return PacketId(slot);
        }
        self.slots.push(Packet { from, source, destination, wire, may_fragment, payload: payload.to_vec() });
        PacketId(self.slots.len() as u32 - 1)
    }

    /// A second packet like it.
    pub(crate) fn twin(&mut self, id: PacketId) -> PacketId {
        let Packet { from, source, destination, wire, may_fragment, .. } = self.slots[id.0 as usize];
        let payload = std::mem::take(&mut self.slots[id.0 as usize].payload);
        let twin = self.insert(from, source, destination, Size { wire, may_fragment }, &payload);
        self.slots[id.0 as usize].payload = payload;
        twin
    }

    pub(crate) fn get(&self, id: PacketId) -> &Packet {
        &self.slots[id.0 as usize]
    }

    pub(crate) fn get_mut(&mut self, id: PacketId) -> &mut Packet {
        &mut self.slots[id.0 as usize]
    }

    /// Takes a packet off the network; [`Packets::give_back`] returns its buffer.
    pub(crate) fn take(&mut self, id: PacketId) -> Packet {
        let packet = &mut self.slots[id.0 as usize];
        Packet { payload: std::mem::take(&mut packet.payload), ..*packet }
    }

    /// Ends a packet that was taken.
    pub(crate) fn give_back(&mut self, id: PacketId, payload: Vec<u8>) {
        self.slots[id.0 as usize].payload = payload;
        self.free.push(id.0);
    }

    /// Ends a packet.
    pub(crate) fn remove(&mut self, id: PacketId) {
        self.free.push(id.0);
    }

    /// How many are on their way.
    pub(crate) fn flying(&self) -> u64 {
        (self.slots.len() - self.free.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_is_fragmented_or_lost() {
        assert_eq!(Size::whole(1500).on_wire(1500), Some(1500));
        assert_eq!(Size::whole(1501).on_wire(1500), None);
        // Two fragments, then three: 1,480 bytes fit into each.
        assert_eq!(Size::datagram(1473, true).on_wire(1500), Some(1521));
        assert_eq!(Size::datagram(2960, true).on_wire(1500), Some(2988 + 40));
    }
}
