//! PPSPP (RFC 7574) as a pure state machine.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(test, feature = "arbitrary"))]
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
pub mod integrity;
mod io;
mod negotiation;
mod progress;
mod schedule;
mod stats;
mod swarm;
mod time;
pub mod wire;

pub use config::{Content, EndpointConfig, Limits, Metadata, Order, PeerSource, SwarmConfig, Wanted};
pub use endpoint::Endpoint;
pub use error::{AddPeerError, JoinError, UnknownSwarm};
pub use event::{
    CloseReason, Event, Incompatible, MAX_READ, Misbehaviour, PeerId, ReadError, ReadToken, StoreError, SwarmId,
};
pub use io::{BatchLimit, DatagramMeta, Transmit};
pub use progress::{Checkpoint, Progress};
pub use stats::{DropStats, EndpointStats, TransferStats};
pub use swarm::{PeerView, SwarmView};
pub use time::Instant;
