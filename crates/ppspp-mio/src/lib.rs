//! Shares and fetches files with PPSPP (RFC 7574) over real UDP sockets.
//!
//! [`Node`] is a socket with a thread that serves it: one blocking loop that owns the protocol's state machine (crate
//! `ppspp-core`), the sockets and the files. An application talks to it through handles, from any thread:
//! [`Node::share`] offers a complete file, [`Node::fetch`] downloads one, [`Node::stream`] lets one be read while it
//! arrives, and the [`Transfer`] that each returns reports progress and stops it.
//!
//! # Example
//! ```
//! use std::sync::atomic::AtomicBool;
//! use std::time::Duration;
//!
//! use ppspp_core::Metadata;
//! use ppspp_core::chunk::{ChunkAddressing, ChunkSize, Geometry};
//! use ppspp_core::integrity::{HashFunction, TreeParams};
//! use ppspp_mio::hashing::hash_file;
//! use ppspp_mio::{FetchRequest, Node, NodeConfig, ShareSource, TransferEvent};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let (path, output) = (dir.path().join("film.mp4"), dir.path().join("copy.mp4"));
//! # std::fs::write(&path, vec![42; 100_000])?;
//! // Any free port of this machine; the default listens for peers from everywhere.
//! let config = NodeConfig::listening_on("127.0.0.1:0".parse()?);
//!
//! // One side hashes a file and shares it. What names the content travels to the others by some trusted way.
//! let params = TreeParams { function: HashFunction::Sha256, chunk_size: ChunkSize::DEFAULT };
//! let tree = hash_file(&path, params, &|_done, _total| {}, &AtomicBool::new(false))?;
//! let metadata = Metadata {
//!     root: *tree.root(),
//!     function: params.function,
//!     addressing: ChunkAddressing::default(),
//!     chunk_size: params.chunk_size,
//!     content_length: tree.geometry().and_then(Geometry::content_length),
//! };
//! let seeder = Node::start(config.clone())?;
//! let shared = seeder.share(ShareSource { path, tree, metadata: metadata.clone() })?;
//!
//! // The other fetches it.
//! let leecher = Node::start(config)?;
//! let peers = vec![seeder.local_address()];
//! let fetched = leecher.fetch(FetchRequest { metadata, peers, output, force: false })?;
//! let path = loop {
//!     match fetched.events().recv_timeout(Duration::from_secs(60))? {
//!         TransferEvent::Complete { path } => break path,
//!         TransferEvent::Failed(error) => return Err(error.into()),
//!         _ => {}
//!     }
//! };
//! println!("{} bytes in {path:?}", fetched.progress().bytes_fetched);
//! # assert_eq!(fetched.progress().bytes_fetched, 100_000);
//!
//! // Saves state, says goodbye to the peers.
//! leecher.shutdown(Duration::from_secs(2));
//! # drop(shared);
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//! - Nothing from the network ends a node: errors of the socket are counted ([`SocketStats`]) and logged.
//! - A file appears under its final name only once every byte was verified, in this run; until then it is a partial
//!   file beside it, from which the next [`Node::fetch`] goes on.
//! - Memory is bounded, however large the content and however many peers there are: by the limits of the endpoint's
//!   configuration, a megabyte of receive buffers, and 256 waiting events for each transfer.
//!
//! Logging goes through `tracing`; what single datagrams cause is at level `trace`.

pub mod cache;
mod clock;
mod command;
mod content;
mod error;
mod event_loop;
pub mod file;
pub mod hashing;
pub mod link;
mod node;
mod progress;
mod socket;
pub mod source;
pub mod store;
mod stream;
mod swarm;
#[cfg(test)]
mod testing;
mod transfer;
mod tree_file;

pub use command::NodeStats;
pub use error::{FetchError, NodeStopped, PeerError, ShareError, StartError, TransferError};
pub use node::{FetchRequest, Node, NodeConfig, ShareSource, ShutdownReport};
pub use progress::{TransferEvent, TransferProgress};
pub use socket::{BindError, DEFAULT_PORT, Listen, SocketStats};
pub use stream::{ByteStream, StreamRequest};
pub use transfer::Transfer;

/// Keeps the README's example compiling.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
