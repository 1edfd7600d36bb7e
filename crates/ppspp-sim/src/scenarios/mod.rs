//! The scenarios that ship.

mod flash_crowd;

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
pub const ALL: &[Shipped] = &[Shipped {
    name: "flash-crowd",
    about: "everyone joins at once; distribution time against the least possible",
    build: flash_crowd::build,
}];

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
