//! What goes in and out of an endpoint on the network side.

use core::net::{IpAddr, SocketAddr};
use core::num::NonZeroUsize;

/// Where a datagram came from and went to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DatagramMeta {
    /// Address of the sender.
    pub remote: SocketAddr,
    /// Our address the datagram arrived at, if the driver knows it.
    pub local: Option<IpAddr>,
    /// The IP header's ECN bits, if the driver knows them.
    pub ecn: Option<u8>,
}

impl DatagramMeta {
    /// A datagram from `remote` of which nothing more is known.
    pub const fn from_remote(remote: SocketAddr) -> Self {
        Self { remote, local: None, ecn: None }
    }
}

/// How much one [`Transmit`] may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchLimit {
    /// Datagrams, at least one.
    pub datagrams: NonZeroUsize,
    /// Bytes of all datagrams together, at most 65,507.
    pub bytes: usize,
}

impl BatchLimit {
    /// One datagram at a time.
    pub const SINGLE: Self = Self { datagrams: NonZeroUsize::MIN, bytes: 65_507 };
}

/// Datagrams to send to one destination: all of `segment_size`, the last may be shorter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "the datagrams in the buffer must be sent"]
#[non_exhaustive]
pub struct Transmit {
    /// Where to.
    pub destination: SocketAddr,
    /// From which of our addresses, if that matters.
    pub source: Option<IpAddr>,
    /// Bytes appended to the buffer.
    pub size: usize,
    /// Bytes of each datagram but the last; `None` for a single datagram.
    pub segment_size: Option<NonZeroUsize>,
    /// Whether the datagram exceeds the path MTU, so that it must leave alone and with DF cleared (R3).
    pub may_fragment: bool,
}
