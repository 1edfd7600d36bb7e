//! PPSPP swarms in a deterministic network.
//!
//! The endpoints are those of `ppspp-core`, unchanged. The network between them, their disks and their clocks are in
//! memory and obey one seed: the same scenario and seed give the same history, byte for byte, on every machine.
//!
//! ```
//! use std::time::Duration;
//! use ppspp_sim::{LinkSpec, Peer, Scenario};
//!
//! let mut scenario = Scenario::new("two-leechers", 7);
//! let content = scenario.content(100_000);
//! let seeder = scenario.add(Peer::seeder(content));
//! let leechers = [(); 2].map(|()| scenario.add(Peer::leecher(content).on(LinkSpec::dsl()).knows([seeder])));
//! scenario.at(Duration::from_millis(50)).pause(leechers[0]);
//! scenario.at(Duration::from_secs(5)).resume(leechers[0]);
//! scenario.until_complete(&leechers, Duration::from_secs(60));
//! let report = scenario.run()?;
//! assert_eq!(report.completion.complete, 2);
//! # Ok::<(), ppspp_sim::Failure>(())
//! ```
//!
//! [`scenarios`] ship with the crate, [`fuzz`] draws others from a seed, [`check`] holds the rules that are watched.
//! `docs/SIMULATION.md` is the guide.
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
mod meter;
mod nat;
mod network;
mod node;
mod packet;
mod pcap;
mod plot;
mod progress;
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
pub use content::{Content, ContentError, ContentSpec, MAX_LENGTH};
pub use disk::{Disk, DiskSpec};
pub use id::{ContentId, HostId, LinkId};
pub use link::{CoDelSpec, LinkSpec, Loss, PipeSpec, PipeStats, QueueSpec};
pub use meter::Meter;
pub use nat::{NatKind, NatSpec};
pub use network::Ledger;
pub use node::{Hand, Node};
pub use packet::{Packet, UDP_HEADERS};
pub use plot::plot;
pub use progress::{Progress, Use};
pub use report::{Completion, HostResult, Report};
pub use rng::{Stream, Streams};
pub use run::Failure;
pub use scenario::{Peer, Scenario, ScenarioError, Standing};
pub use tape::Recording;
pub use time::{Clock, SimTime};
pub use timetable::At;

/// The guide's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/SIMULATION.md")]
struct Guide;
