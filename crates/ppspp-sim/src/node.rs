//! Hosts that are no peers: flows of other traffic, and adversaries that speak the raw wire.

use std::fmt;
use std::net::SocketAddrV4;

use crate::id::HostId;
use crate::packet::{Packet, UDP_HEADERS};
use crate::rng::Stream;
use crate::time::SimTime;

/// A packet that a node sends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Outgoing {
    /// The address it claims to come from.
    pub source: SocketAddrV4,
    /// Where it goes.
    pub destination: SocketAddrV4,
    /// Bytes it takes on a link, headers included.
    pub wire: u32,
    /// The UDP payload.
    pub payload: Vec<u8>,
}

/// What a node is given when it acts.
#[derive(Debug)]
pub struct Hand<'a> {
    pub(crate) now: SimTime,
    pub(crate) address: SocketAddrV4,
    pub(crate) knows: &'a [SocketAddrV4],
    pub(crate) rng: &'a mut Stream,
    pub(crate) out: &'a mut Vec<Outgoing>,
}

impl<'a> Hand<'a> {
    /// The time.
    pub const fn now(&self) -> SimTime {
        self.now
    }

    /// The node's own address.
    pub const fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// The addresses of the hosts it was told to know, in that order.
    pub const fn knows(&self) -> &'a [SocketAddrV4] {
        self.knows
    }

    /// The node's random numbers.
    pub const fn rng(&mut self) -> &mut Stream {
        self.rng
    }

    /// Sends a datagram from the node's own address.
    pub fn send(&mut self, destination: SocketAddrV4, payload: Vec<u8>) {
        self.send_from(self.address, destination, payload);
    }

    /// Sends a datagram that claims to come from `source`.
    pub fn send_from(&mut self, source: SocketAddrV4, destination: SocketAddrV4, payload: Vec<u8>) {
        let wire = payload.len() as u32 + UDP_HEADERS;
        self.out.push(Outgoing { source, destination, wire, payload });
    }

    /// Sends a packet that takes `wire` bytes on a link, whatever its payload.
    pub fn send_sized(&mut self, destination: SocketAddrV4, wire: u32, payload: Vec<u8>) {
        self.out.push(Outgoing { source: self.address, destination, wire, payload });
    }
}

/// A host that is no peer.
pub trait Node: Send + fmt::Debug {
    /// Begins.
    fn start(&mut self, hand: &mut Hand<'_>);

    /// Takes a packet.
    fn on_packet(&mut self, packet: &Packet, hand: &mut Hand<'_>);

    /// Acts on the time.
    fn on_wake(&mut self, hand: &mut Hand<'_>);

    /// When it wants to be woken.
    fn wake_at(&self) -> Option<SimTime>;

    /// Bytes of its own kind that it delivered so far, for flows.
    fn delivered(&self) -> u64 {
        0
    }
}

/// A node at its place in the network.
#[derive(Debug)]
pub(crate) struct NodeHost {
    pub(crate) id: HostId,
    pub(crate) node: Box<dyn Node>,
    pub(crate) address: SocketAddrV4,
    pub(crate) knows: Vec<SocketAddrV4>,
    pub(crate) rng: Stream,
    pub(crate) armed: SimTime,
}
