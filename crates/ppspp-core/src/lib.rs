//! PPSPP, the Peer-to-Peer Streaming Peer Protocol of RFC 7574, as a pure state machine.
//!
//! [`Endpoint`] is a peer without sockets, files, clock, threads or randomness of its own. Datagrams and timer ticks go
//! in; datagrams and events come out. That is why it runs in any event loop, on any platform with an allocator, and
//! identically every time in a test.
//!
//! # The run loop
//!
//! A driver does this, over and over:
//! 1. hand in every datagram that arrived: [`Endpoint::handle_datagram`], or several that came together:
//!    [`Endpoint::handle_datagrams`];
//! 2. if [`Endpoint::poll_timeout`] has passed: [`Endpoint::handle_timeout`];
//! 3. send what [`Endpoint::poll_transmit`] yields and act on [`Endpoint::poll_event`], until both are dry, events last:
//!    to send is to ask for what is to be read;
//! 4. sleep until a datagram arrives or [`Endpoint::poll_timeout`] passes.
//!
//! Here two endpoints exchange a content through memory, and time is a number:
//!
//! ```
//! use std::{net::SocketAddr, sync::Arc, time::Duration};
//! use bytes::Bytes;
//! use ppspp_core::chunk::{ChunkAddressing, ChunkSize, Geometry};
//! use ppspp_core::integrity::{HashFunction, TreeBuilder, TreeParams};
//! use ppspp_core::{
//!     BatchLimit, Content, DatagramMeta, Endpoint, EndpointConfig, Event, Instant, Metadata, PeerSource, SwarmConfig,
//! };
//!
//! // The content, its tree, and the metadata that a link carries.
//! let content = vec![42u8; 5000];
//! let params = TreeParams { function: HashFunction::Sha256, chunk_size: ChunkSize::DEFAULT };
//! let geometry = Geometry::new(content.len() as u64, params.chunk_size)?;
//! let mut builder = TreeBuilder::new(params, geometry);
//! for span in builder.spans() {
//!     let bytes = span.byte_range();
//!     let nodes = TreeBuilder::hash_span(params, geometry, span, &content[bytes.start as usize..bytes.end as usize])?;
//!     builder.add(nodes)?;
//! }
//! let tree = builder.finish()?;
//! let metadata = Metadata {
//!     root: *tree.root(),
//!     function: params.function,
//!     addressing: ChunkAddressing::Chunk32,
//!     chunk_size: params.chunk_size,
//!     content_length: Some(content.len() as u64),
//! };
//!
//! // One endpoint seeds, the other fetches and knows the seeder's address.
//! let addresses: [SocketAddr; 2] = ["192.0.2.1:6778".parse()?, "192.0.2.2:6778".parse()?];
//! let mut now = Instant::from_micros(0);
//! let config = Arc::new(EndpointConfig::default());
//! let mut endpoints = [Endpoint::new(config.clone(), [1; 32], now), Endpoint::new(config, [2; 32], now)];
//! endpoints[0].join(SwarmConfig { metadata: metadata.clone(), content: Content::Seed { tree } }, now)?;
//! let swarm = endpoints[1].join(SwarmConfig { metadata, content: Content::Fetch }, now)?;
//! endpoints[1].add_peer(swarm, addresses[0], PeerSource::Trusted, now)?;
//!
//! let mut fetched = vec![0u8; content.len()];
//! let mut complete = false;
//! while !complete {
//!     let mut flying = Vec::new();
//!     for (index, endpoint) in endpoints.iter_mut().enumerate() {
//!         loop {
//!             let mut datagram = Vec::new();
//!             if let Some(transmit) = endpoint.poll_transmit(now, BatchLimit::SINGLE, &mut datagram) {
//!                 flying.push((addresses[index], transmit.destination, datagram));
//!                 continue;
//!             }
//!             match endpoint.poll_event() {
//!                 Some(Event::ReadNeeded { token, offset, len, .. }) => {
//!                     let start = offset as usize;
//!                     endpoint.provide(token, Ok(Bytes::copy_from_slice(&content[start..start + len])), now);
//!                 }
//!                 Some(Event::Verified { swarm, range, offset, data }) => {
//!                     fetched[offset as usize..][..data.len()].copy_from_slice(&data);
//!                     endpoint.confirm_stored(swarm, range, Ok(()), now);
//!                 }
//!                 Some(Event::Complete { .. }) => complete = true,
//!                 Some(_) => {}
//!                 None => break,
//!             }
//!         }
//!     }
//!     // The network delivers after ten milliseconds; without traffic the clock jumps to the next deadline.
//!     now = now + Duration::from_millis(10);
//!     if flying.is_empty() {
//!         now = endpoints.iter().filter_map(|endpoint| endpoint.poll_timeout()).min().unwrap_or(now).max(now);
//!     }
//!     for (from, to, datagram) in flying {
//!         let index = addresses.iter().position(|&address| address == to).unwrap();
//!         endpoints[index].handle_datagram(now, DatagramMeta::from_remote(from), &datagram);
//!     }
//!     for endpoint in &mut endpoints {
//!         endpoint.handle_timeout(now);
//!     }
//! }
//! assert!(fetched == content);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it promises
//!
//! - **No error and no panic comes from the network.** A bad datagram is counted in [`EndpointStats`] and dropped; a
//!   peer that misbehaves is closed with a [`CloseReason`] in an event. A panic is a bug of this crate.
//! - **Nothing unverified comes out.** Bytes in [`Event::Verified`] match the swarm's root hash, and bytes that were
//!   changed on disk are not sent.
//! - **Every collection has a bound**, in [`Limits`].
//! - **The same input gives the same output**, byte for byte: randomness comes from the seed given at construction, time
//!   from the arguments, and no order from a hash map.
//!
//! The crate is `no_std`. The feature `std`, on by default, finds out at run time whether the processor can hash several
//! chunks at once; without it, chunks are hashed one by one.
//!
//! The public modules are usable alone: [`wire`] reads and writes messages, [`chunk`] does the addressing arithmetic,
//! [`integrity`] the hash trees and [`congestion`] LEDBAT.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(test, feature = "arbitrary", feature = "std"))]
extern crate std;

pub mod availability;
mod channel;
pub mod chunk;
mod config;
pub mod congestion;
mod context;
mod endpoint;
mod error;
mod event;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing {
    //! Targets of fuzzing whose subjects are private to the crate.
    pub use crate::schedule::request_ops;
}
pub mod integrity;
mod io;
mod negotiation;
mod pex;
mod policy;
mod progress;
mod schedule;
mod stats;
mod swarm;
mod time;
pub mod wire;

pub use config::{
    Content, EndpointConfig, Limits, Metadata, Order, PeerSource, PexPolicy, PlayHead, SwarmConfig, Wanted,
};
pub use endpoint::{Endpoint, Scope};
pub use error::{AddPeerError, JoinError, UnknownSwarm};
pub use event::{
    CloseReason, Event, Incompatible, MAX_READ, Misbehaviour, PeerId, ReadError, ReadToken, StoreError, SwarmId,
};
pub use io::{BatchLimit, DatagramMeta, Transmit};
pub use policy::{ByteRate, Candidate, Grant, Rates, Reciprocity, Round, UnchokePolicy};
pub use progress::{Checkpoint, Progress};
pub use stats::{DropStats, EndpointStats, MessageCount, MessageCounts, Traffic, TrafficStats, TransferStats};
pub use swarm::{PeerView, SwarmView};
pub use time::Instant;
