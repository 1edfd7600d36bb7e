//! PPSPP swarms in a deterministic network.
//!
//! The endpoints are those of `ppspp-core`, unchanged. The network between them, their disks and their clocks are in
//! memory and obey one seed: the same scenario and seed give the same history, byte for byte, on every machine.
#![forbid(unsafe_code)]

pub mod adversary;
mod bound;
mod build;
pub mod check;
mod content;
pub mod cross;
mod disk;
pub mod fuzz;
mod host;
mod id;
mod link;
mod nat;
mod network;
mod node;
mod packet;
mod pcap;
mod plot;
mod queue;
mod report;
mod rng;
mod run;
mod scenario;
pub mod scenarios;
mod tape;
mod time;
mod timetable;

pub use bound::fluid_bound;
pub use check::{Checker, Fact, Scene, Violation};
pub use content::{Content, ContentSpec};
pub use disk::{Disk, DiskSpec};
pub use id::{ContentId, HostId, LinkId};
pub use link::{CoDelSpec, LinkSpec, Loss, PipeSpec, PipeStats, QueueSpec};
pub use nat::{NatKind, NatSpec};
pub use network::Ledger;
pub use node::{Hand, Node};
pub use packet::{Packet, UDP_HEADERS};
pub use plot::plot;
pub use report::{Completion, HostResult, Progress, Report};
pub use rng::{Stream, Streams};
pub use run::Failure;
pub use scenario::{Peer, Scenario, ScenarioError, Standing};
pub use tape::Recording;
pub use time::{Clock, SimTime};
pub use timetable::At;
