//! What can go wrong with a node and its transfers.

use std::io;
use std::net::SocketAddr;

use ppspp_core::{AddPeerError, JoinError};
use thiserror::Error;

use crate::file::{FileError, FileProblem, is_out_of_files};
use crate::socket::BindError;
use crate::store::StoreOpenError;

/// A node that cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The socket cannot be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// This process, or the whole system, has as many files open as it may: none is left to wait for the socket with.
    #[error("the event loop cannot start: {problem}", problem = FileProblem::TooManyOpen)]
    TooManyOpen,
    /// The system gives no means to wait for the socket, or no thread to do it in.
    #[error("the event loop cannot start: {0}; close some programs and try again")]
    Loop(io::Error),
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        if is_out_of_files(&error) { Self::TooManyOpen } else { Self::Loop(error) }
    }
}

/// A file that cannot be shared.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ShareError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file's length is not the one the tree was made for.
    #[error("{} has {actual} bytes, its tree was made for {expected}; hash it again", path.display())]
    Length {
        /// The file.
        path: std::path::PathBuf,
        /// Bytes the file has.
        actual: u64,
        /// Bytes the tree covers.
        expected: u64,
    },
    /// The endpoint does not take the swarm.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The node is no longer running.
    #[error(transparent)]
    Stopped(#[from] NodeStopped),
}

/// A fetch that cannot begin.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The output cannot be opened.
    #[error(transparent)]
    Open(#[from] StoreOpenError),
    /// The output is complete already, but cannot be read to be shared.
    #[error(transparent)]
    File(FileError),
    /// None of the peers can be talked to: what is wrong with the first.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The endpoint does not take the swarm.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The node is no longer running.
    #[error(transparent)]
    Stopped(#[from] NodeStopped),
}

/// A peer that cannot be talked to.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The socket is of the other address family, or bound to an address that cannot reach the peer.
    #[error("{peer} cannot be reached from {local}; listen on [::] or on an address of its family")]
    Unreachable {
        /// The peer.
        peer: SocketAddr,
        /// What the node listens on.
        local: SocketAddr,
    },
    /// The endpoint does not take it.
    #[error(transparent)]
    Refused(#[from] AddPeerError),
}

/// A transfer that failed. What was stored is kept.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The content could not be written, or the finished file not given its name.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The node's event loop has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the node has stopped; start another one")]
pub struct NodeStopped;
