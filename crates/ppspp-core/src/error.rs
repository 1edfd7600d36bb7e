//! Errors of commands given by the application. Nothing from the network ends up here.

use thiserror::Error;

use crate::chunk::GeometryError;

/// A swarm that cannot be joined.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The endpoint is in that swarm already.
    #[error("the endpoint is in this swarm already")]
    AlreadyJoined,
    /// The endpoint is in as many swarms as it may be.
    #[error("the endpoint is in {0} swarms, as many as its limits allow")]
    TooManySwarms(usize),
    /// The content cannot be cut into chunks.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The root hash is not as long as the hash function's values.
    #[error("the swarm id has {actual} bytes, {expected} are needed for this hash function")]
    SwarmIdLength {
        /// Bytes the swarm id has.
        actual: usize,
        /// Bytes the hash function yields.
        expected: usize,
    },
    /// The tree belongs to other content.
    #[error("the tree belongs to other content than the metadata")]
    TreeMismatch,
    /// A seed needs a complete tree.
    #[error("the tree of a seeded content must be complete")]
    IncompleteTree,
    /// The endpoint is closing.
    #[error("the endpoint is closing")]
    Closing,
}

/// A peer that cannot be added.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum AddPeerError {
    /// No such swarm.
    #[error(transparent)]
    UnknownSwarm(#[from] UnknownSwarm),
    /// The swarm has as many channels as it may have.
    #[error("the swarm has {0} channels, as many as its limits allow")]
    TooManyChannels(usize),
    /// The address cannot be a peer's.
    #[error("{0} is not the address of a peer: it must be unicast with a port")]
    BadAddress(core::net::SocketAddr),
    /// The peer misbehaved, and is not dealt with for a while.
    #[error("{0} misbehaved lately: it can be added again later")]
    Shunned(core::net::SocketAddr),
    /// A channel to that address is there already. Its peer counts as trusted from now on if it was to be added as such.
    #[error("there is a channel to {0} already")]
    AlreadyKnown(core::net::SocketAddr),
}

/// The swarm is not, or no longer, one of the endpoint's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the endpoint is not in this swarm")]
pub struct UnknownSwarm;
