//! What an endpoint tells the application.

use core::fmt;
use core::net::SocketAddr;

use bytes::Bytes;

use crate::chunk::{ChunkRange, Geometry};
use crate::wire::WireError;

/// Names a swarm of one endpoint. Never reused by that endpoint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SwarmId {
    pub(crate) slot: u32,
    pub(crate) serial: u32,
}

impl fmt::Debug for SwarmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "swarm {}", self.serial)
    }
}

/// Names a peer of one swarm: one channel's life. Never reused by that endpoint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId {
    pub(crate) swarm: SwarmId,
    pub(crate) slot: u32,
    pub(crate) serial: u32,
}

impl PeerId {
    /// The swarm the peer is in.
    pub const fn swarm(self) -> SwarmId {
        self.swarm
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer {} of {:?}", self.serial, self.swarm)
    }
}

/// Ties an answer to [`Event::ReadNeeded`]. Not `Copy`: a read is answered once.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "the read must be answered with Endpoint::provide"]
pub struct ReadToken {
    pub(crate) swarm: SwarmId,
    pub(crate) serial: u64,
}

/// Why a channel ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// The application asked for it.
    Locally,
    /// The peer said goodbye.
    ByPeer,
    /// The peer was silent for too long (§3.12).
    TimedOut,
    /// The peer's options do not fit the swarm.
    Incompatible(Incompatible),
    /// The peer broke the protocol or sent what does not verify.
    Misbehaved(Misbehaviour),
    /// Another channel to the same peer took its place (R9, R11).
    Replaced,
    /// The peer is this endpoint itself (R9).
    Ourselves,
}

/// What in a peer's handshake does not fit the swarm.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Incompatible {
    /// No protocol version in common.
    #[error("the peer speaks protocol versions {minimum} to {maximum}, we speak 1")]
    Version {
        /// Lowest version the peer accepts.
        minimum: u8,
        /// Highest version the peer speaks.
        maximum: u8,
    },
    /// A mandatory option is absent.
    #[error("the handshake lacks option {0}")]
    MissingOption(&'static str),
    /// Another swarm.
    #[error("the peer is in another swarm")]
    SwarmId,
    /// Another way to protect integrity.
    #[error("the peer's content integrity protection method is {theirs}, the swarm's is {ours}")]
    IntegrityMethod {
        /// The peer's code.
        theirs: u8,
        /// The swarm's code.
        ours: u8,
    },
    /// Another hash function.
    #[error("the peer's hash function is {theirs}, the swarm's is {ours}")]
    HashFunction {
        /// The peer's code.
        theirs: u8,
        /// The swarm's code.
        ours: u8,
    },
    /// Another addressing method.
    #[error("the peer's chunk addressing method is {theirs}, the swarm's is {ours}")]
    Addressing {
        /// The peer's code.
        theirs: u8,
        /// The swarm's code.
        ours: u8,
    },
    /// Another chunk size.
    #[error("the peer's chunk size is {theirs} bytes, the swarm's is {ours}")]
    ChunkSize {
        /// The peer's size in bytes.
        theirs: u32,
        /// The swarm's size in bytes.
        ours: u32,
    },
}

/// How a peer broke the rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Misbehaviour {
    /// A chunk or hash contradicts the tree.
    #[error("a chunk or hash does not match the tree")]
    WrongHash,
    /// A chunk has the wrong length.
    #[error("a chunk has the wrong length")]
    WrongLength,
    /// A chunk lies past the content's end.
    #[error("a chunk lies past the end of the content")]
    OutOfRange,
    /// It says it has chunks, and answers almost no request for them.
    #[error("almost nothing came of what the peer says it has")]
    Useless,
    /// Messages beyond every bound, for long.
    #[error("a flood of messages")]
    Flooding,
    /// Too many undecodable datagrams on an established channel; the last error is given.
    #[error("undecodable messages: {0}")]
    Undecodable(WireError),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locally => f.write_str("closed by us"),
            Self::ByPeer => f.write_str("closed by the peer"),
            Self::TimedOut => f.write_str("the peer fell silent"),
            Self::Incompatible(why) => write!(f, "incompatible: {why}"),
            Self::Misbehaved(why) => write!(f, "misbehaved: {why}"),
            Self::Replaced => f.write_str("replaced by a newer channel"),
            Self::Ourselves => f.write_str("the peer is ourselves"),
        }
    }
}

/// What happened, in order.
#[derive(PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A channel is established; both sides have proven their addresses.
    PeerConnected {
        /// The peer.
        peer: PeerId,
        /// Its address.
        address: SocketAddr,
    },
    /// A channel ended, established or not.
    PeerClosed {
        /// The peer.
        peer: PeerId,
        /// Its address.
        address: SocketAddr,
        /// Why.
        reason: CloseReason,
    },
    /// The content's size is known. Comes before the first [`Event::Verified`], also when the metadata had the size.
    SizeKnown {
        /// The swarm.
        swarm: SwarmId,
        /// The cut of the content; its length is known.
        geometry: Geometry,
    },
    /// Verified bytes to be stored; answer with `Endpoint::confirm_stored` for the same range.
    Verified {
        /// The swarm.
        swarm: SwarmId,
        /// The chunks, all of one group.
        range: ChunkRange,
        /// Offset of the first byte in the content.
        offset: u64,
        /// The bytes.
        data: Bytes,
    },
    /// Bytes to be read; answer with `Endpoint::provide`.
    ReadNeeded {
        /// Ties the answer to the question.
        token: ReadToken,
        /// The swarm.
        swarm: SwarmId,
        /// The chunks.
        range: ChunkRange,
        /// Offset of the first byte in the content.
        offset: u64,
        /// Number of bytes, at most [`MAX_READ`].
        len: usize,
    },
    /// More of the content is stored; coalesced: ask `Endpoint::swarm` for the figures.
    Progress {
        /// The swarm.
        swarm: SwarmId,
    },
    /// Stored bytes that were read back do not match the tree. A seeder stops serving them; a leecher fetches them again.
    ContentChanged {
        /// The swarm.
        swarm: SwarmId,
        /// The chunks.
        range: ChunkRange,
    },
    /// Every wanted chunk is verified, stored and confirmed. Nothing is wanted from then on, so that what changes on disk
    /// is not fetched again. [`Endpoint::set_wanted`](crate::Endpoint::set_wanted) brings another one at once if it finds
    /// nothing to fetch: to call it whenever this comes would go on for ever.
    Complete {
        /// The swarm.
        swarm: SwarmId,
    },
    /// The swarm is gone; its id is not used again.
    SwarmClosed {
        /// The swarm.
        swarm: SwarmId,
    },
}

/// Longest read that [`Event::ReadNeeded`] asks for, in bytes.
pub const MAX_READ: usize = 128 * 1024;

/// The read asked for could not be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the content could not be read")]
pub struct ReadError;

/// The bytes could not be stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the content could not be stored")]
pub struct StoreError;
