//! The scenarios that ship.

mod faults;
mod flash_crowd;
mod hostile;
mod swarms;
mod traffic;

use std::time::Duration;

use crate::scenario::Scenario;

/// What the command line may change of a scenario.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// Leechers; `None` for the scenario's own number.
    pub peers: Option<usize>,
    /// Content bytes; `None` for the scenario's own length.
    pub size: Option<u64>,
}

impl Options {
    /// The scenario as it ships.
    pub const fn seed(seed: u64) -> Self {
        Self { seed, peers: None, size: None }
    }

    fn peers(&self, default: usize) -> usize {
        self.peers.unwrap_or(default)
    }

    fn size(&self, default: u64) -> u64 {
        self.size.unwrap_or(default)
    }

    /// The command that repeats a run of `name` with these.
    pub fn command(&self, name: &str) -> String {
        let peers = self.peers.map_or_else(String::new, |peers| format!(" --peers {peers}"));
        let size = self.size.map_or_else(String::new, |size| format!(" --size {size}"));
        format!("ppspp-sim run {name} --seed {}{peers}{size}", self.seed)
    }
}

/// A scenario that ships.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    name: &'static str,
    about: &'static str,
    build: fn(&Options) -> Scenario,
}

impl Shipped {
    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What it shows, in a line.
    pub const fn about(&self) -> &'static str {
        self.about
    }

    /// The scenario, ready to run.
    pub fn build(&self, options: &Options) -> Scenario {
        let mut scenario = (self.build)(options);
        scenario.repeated_by(options.command(self.name));
        scenario
    }
}

/// All of them.
pub const ALL: &[Shipped] = &[
    Shipped {
        name: "flash-crowd",
        about: "everyone joins at once; distribution time against the least possible",
        build: flash_crowd::build,
    },
    Shipped { name: "staggered", about: "one more leecher in each second", build: swarms::staggered },
    Shipped {
        name: "seeder-leaves",
        about: "the seeder leaves as soon as one copy is in the swarm",
        build: faults::seeder_leaves,
    },
    Shipped {
        name: "partition-heal",
        about: "half of the swarm is cut off for half a minute",
        build: faults::partition_heal,
    },
    Shipped { name: "churn", about: "leechers crash, leave, pause, move, and come back", build: faults::churn },
    Shipped {
        name: "asymmetric-dsl",
        about: "everyone has a slow uplink but the seeder",
        build: swarms::asymmetric_dsl,
    },
    Shipped { name: "nat", about: "leechers behind NAT boxes of every kind", build: faults::nat },
    Shipped { name: "lossy-mobile", about: "jitter and bursts of loss on every link", build: swarms::lossy_mobile },
    Shipped { name: "slow-peer", about: "one leecher at 256 kbit/s holds nobody up", build: swarms::slow_peer },
    Shipped { name: "liars", about: "eight kinds of lying peers; the honest ones complete", build: hostile::liars },
    Shipped {
        name: "handshake-flood",
        about: "forged handshakes by the thousand while leechers join",
        build: hostile::handshake_flood,
    },
    Shipped {
        name: "bit-rot",
        about: "octets change on disks; none of them is ever passed on",
        build: faults::bit_rot,
    },
    Shipped { name: "disk-full", about: "a full disk, then room; a slow disk beside it", build: faults::disk_full },
    Shipped {
        name: "ledbat-vs-tcp",
        about: "a download over TCP shares its access link with a swarm and keeps 90 % of its rate",
        build: traffic::ledbat_vs_tcp,
    },
    Shipped {
        name: "latecomer",
        about: "two swarms share an uplink, the younger gets its share",
        build: traffic::latecomer,
    },
];

/// The one called `name`.
pub fn find(name: &str) -> Option<&'static Shipped> {
    ALL.iter().find(|shipped| shipped.name == name)
}

const MBIT: u64 = 1_000_000;
const MIB: u64 = 1 << 20;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
