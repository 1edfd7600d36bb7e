//! Packets on their way.

use std::net::SocketAddrV4;

use crate::id::HostId;

/// Bytes of the IPv4 and UDP headers before each payload.
pub const UDP_HEADERS: u32 = 28;

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
    /// The UDP payload.
    pub payload: Vec<u8>,
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
        wire: u32,
        payload: &[u8],
    ) -> PacketId {
        if let Some(slot) = self.free.pop() {
            let packet = &mut self.slots[slot as usize];
            (packet.from, packet.source, packet.destination, packet.wire) = (from, source, destination, wire);
            packet.payload.clear();
            packet.payload.extend_from_slice(payload);
            return PacketId(slot);
        }
        self.slots.push(Packet { from, source, destination, wire, payload: payload.to_vec() });
        PacketId(self.slots.len() as u32 - 1)
    }

    /// A second packet like it.
    pub(crate) fn twin(&mut self, id: PacketId) -> PacketId {
        let Packet { from, source, destination, wire, .. } = self.slots[id.0 as usize];
        let payload = std::mem::take(&mut self.slots[id.0 as usize].payload);
        let twin = self.insert(from, source, destination, wire, &payload);
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
