//! How a run is described: hosts, links, contents, a timetable, checkers, and when it is over.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use ppspp_core::EndpointConfig;
use thiserror::Error;

use crate::check::{self, Checker};
use crate::content::{Content, ContentError, ContentSpec};
use crate::disk::DiskSpec;
use crate::host::Role;
use crate::id::{ContentId, HostId, LinkId};
use crate::link::LinkSpec;
use crate::meter::Meter;
use crate::nat::NatSpec;
use crate::network::MAX_HOSTS;
use crate::node::Node;
use crate::report::Report;
use crate::rng::{Stream, Streams};
use crate::run::{Failure, World};
use crate::tape::Recording;
use crate::time::{Clock, SimTime};
use crate::timetable::{Action, At, When};

/// A scenario that cannot be run.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// The content cannot be made.
    #[error("the content cannot be made: {0}")]
    Content(#[from] ContentError),
    /// A link that cannot be.
    #[error("{0}")]
    Link(String),
    /// A clock that drifts too much.
    #[error("a clock may drift by at most 100,000 ppm, not {0}")]
    Drift(i32),
    /// More hosts than addresses.
    #[error("{0} hosts are too many, {MAX_HOSTS} have an address")]
    TooManyHosts(usize),
    /// The trace or the capture cannot be written.
    #[error("the recording cannot be written: {0}")]
    Recording(String),
}

/// A peer to be placed in the network.
#[derive(Clone, Debug)]
pub struct Peer {
    pub(crate) content: ContentId,
    pub(crate) role: Role,
    pub(crate) link: Place,
    pub(crate) knows: Vec<HostId>,
    pub(crate) joins: Option<SimTime>,
    pub(crate) disk: DiskSpec,
    pub(crate) clock: Option<Clock>,
    pub(crate) config: EndpointConfig,
}

/// Where a host is in the network.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// Behind a link of its own.
    Own(Box<LinkSpec>),
    /// Behind a link with others.
    Shared(LinkId),
}

impl Peer {
    /// A peer that has all of `content`.
    pub fn seeder(content: ContentId) -> Self {
        Self::new(content, Role::Seeder)
    }

    /// A peer that fetches `content`.
    pub fn leecher(content: ContentId) -> Self {
        Self::new(content, Role::Leecher)
    }

    fn new(content: ContentId, role: Role) -> Self {
        Self {
            content,
            role,
            link: Place::Own(Box::new(LinkSpec::fibre())),
            knows: Vec::new(),
            joins: Some(SimTime::ZERO),
            disk: DiskSpec::default(),
            clock: None,
            config: EndpointConfig::default(),
        }
    }

    /// Behind a link of its own. Default: [`LinkSpec::fibre`].
    #[must_use]
    pub fn on(mut self, link: LinkSpec) -> Self {
        self.link = Place::Own(Box::new(link));
        self
    }

    /// Behind a link that other hosts share.
    #[must_use]
    pub fn behind(mut self, link: LinkId) -> Self {
        self.link = Place::Shared(link);
        self
    }

    /// Opens channels to these hosts when it joins, and again while it fetches and has none to them.
    #[must_use]
    pub fn knows(mut self, hosts: impl IntoIterator<Item = HostId>) -> Self {
        self.knows.extend(hosts);
        self
    }

    /// Joins so long after the beginning. Default: at once.
    #[must_use]
    pub fn joins(mut self, after: Duration) -> Self {
        self.joins = Some(SimTime::ZERO + after);
        self
    }

    /// Joins only when the timetable says so.
    #[must_use]
    pub const fn joins_later(mut self) -> Self {
        self.joins = None;
        self
    }

    /// Stores on such a disk. Default: one without flaws that takes no time.
    #[must_use]
    pub const fn disk(mut self, disk: DiskSpec) -> Self {
        self.disk = disk;
        self
    }

    /// Has such a clock. Default: an epoch drawn from the seed, no drift.
    #[must_use]
    pub const fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Changes the endpoint's configuration.
    #[must_use]
    pub fn config(mut self, change: impl FnOnce(&mut EndpointConfig)) -> Self {
        change(&mut self.config);
        self
    }
}

/// A host of any kind.
#[derive(Debug)]
pub(crate) enum Entry {
    Peer(Box<Peer>),
    Node { node: Box<dyn Node>, place: Place, knows: Vec<HostId> },
}

/// A condition on the whole of a run, asked once in each second of virtual time.
pub(crate) type Condition = Box<dyn FnMut(&Standing<'_>) -> bool + Send>;

/// A judgement on a report.
type Judge = Box<dyn FnOnce(&Report) -> Result<(), String> + Send>;

/// What is expected of the report.
pub(crate) struct Expectation {
    pub(crate) rule: &'static str,
    pub(crate) judge: Judge,
}

impl fmt::Debug for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expectation").field(&self.rule).finish()
    }
}

/// When a run is over.
pub(crate) enum Goal {
    /// When these are complete.
    Complete(BTreeSet<HostId>),
    /// When the time is up.
    Time,
    /// When this is so.
    When(Condition),
}

impl fmt::Debug for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete(hosts) => f.debug_tuple("Complete").field(&hosts.len()).finish(),
            Self::Time => f.write_str("Time"),
            Self::When(_) => f.write_str("When"),
        }
    }
}

/// How things stand, for conditions.
#[derive(Debug)]
pub struct Standing<'a> {
    pub(crate) world: &'a World,
}

impl Standing<'_> {
    /// The time.
    pub const fn now(&self) -> SimTime {
        self.world.now()
    }

    /// Whether a host has all of its content.
    pub fn is_complete(&self, host: HostId) -> bool {
        self.world.is_complete(host)
    }

    /// Whether `hosts` together have all of their content, so that they need nobody else.
    pub fn have_all(&self, hosts: &[HostId]) -> bool {
        self.world.have_all(hosts)
    }

    /// Bytes of the content on a host's disk.
    pub fn bytes_stored(&self, host: HostId) -> u64 {
        self.world.bytes_stored(host)
    }
}

/// A run to be.
///
/// Hosts are added in order and named by what [`add`](Self::add) returns. See the crate's documentation for a whole
/// example.
pub struct Scenario {
    pub(crate) name: String,
    pub(crate) seed: u64,
    pub(crate) contents: Vec<Result<Content, ContentError>>,
    pub(crate) links: Vec<(LinkSpec, Option<NatSpec>)>,
    pub(crate) hosts: Vec<Entry>,
    pub(crate) timetable: Vec<(When, Action)>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) expectations: Vec<Expectation>,
    pub(crate) checkers: Vec<Box<dyn Checker>>,
    pub(crate) goal: Goal,
    pub(crate) deadline: SimTime,
    pub(crate) bound: Option<Duration>,
    pub(crate) repeat: String,
    pub(crate) keeps_progress: bool,
    pub(crate) meter: Option<Meter>,
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Scenario");
        debug.field("name", &self.name).field("seed", &self.seed).field("hosts", &self.hosts.len());
        debug.finish_non_exhaustive()
    }
}

impl Scenario {
    /// A scenario without hosts, with the standard checkers, over after an hour of virtual time.
    pub fn new(name: &str, seed: u64) -> Self {
        Self {
            name: name.to_owned(),
            seed,
            contents: Vec::new(),
            links: Vec::new(),
            hosts: Vec::new(),
            timetable: Vec::new(),
            conditions: Vec::new(),
            expectations: Vec::new(),
            checkers: check::standard(),
            goal: Goal::Time,
            deadline: SimTime::ZERO + Duration::from_secs(3600),
            bound: None,
            repeat: format!("ppspp-sim run {name} --seed {seed}"),
            keeps_progress: false,
            meter: None,
        }
    }

    /// The stream of random numbers called `name`, for choices that the scenario makes.
    pub fn stream(&self, name: &str) -> Stream {
        Streams::new(self.seed).stream(&format!("scenario/{name}"))
    }

    /// A content of `length` bytes with the protocol's defaults.
    pub fn content(&mut self, length: u64) -> ContentId {
        self.content_of(ContentSpec::new(length))
    }

    /// A content made to order.
    pub fn content_of(&mut self, spec: ContentSpec) -> ContentId {
        let number = self.contents.len();
        let seed = self.stream(&format!("content/{number}")).number();
        self.contents.push(Content::new(spec, seed));
        ContentId(number as u32)
    }

    /// The content itself, for adversaries; `None` if it cannot be made.
    pub fn lookup(&self, content: ContentId) -> Option<Content> {
        self.contents.get(content.0 as usize)?.clone().ok()
    }

    /// A link for several hosts.
    pub fn link(&mut self, spec: LinkSpec) -> LinkId {
        self.links.push((spec, None));
        LinkId(self.links.len() as u32 - 1)
    }

    /// A link behind a NAT box, for up to 200 hosts.
    pub fn nat(&mut self, spec: LinkSpec, nat: NatSpec) -> LinkId {
        self.links.push((spec, Some(nat)));
        LinkId(self.links.len() as u32 - 1)
    }

    /// Adds a peer.
    pub fn add(&mut self, peer: Peer) -> HostId {
        self.push(Entry::Peer(Box::new(peer)))
    }

    /// Adds a host that is no peer, behind a link of its own; it knows the addresses of `knows`.
    pub fn add_node(&mut self, node: impl Node + 'static, link: LinkSpec, knows: &[HostId]) -> HostId {
        self.push(Entry::Node { node: Box::new(node), place: Place::Own(Box::new(link)), knows: knows.to_vec() })
    }

    /// Adds a host that is no peer behind a link with others.
    pub fn add_node_behind(&mut self, node: impl Node + 'static, link: LinkId, knows: &[HostId]) -> HostId {
        self.push(Entry::Node { node: Box::new(node), place: Place::Shared(link), knows: knows.to_vec() })
    }

    fn push(&mut self, entry: Entry) -> HostId {
        self.hosts.push(entry);
        HostId(self.hosts.len() as u32 - 1)
    }

    /// Makes `host` know `others` as well.
    pub fn introduce(&mut self, host: HostId, others: impl IntoIterator<Item = HostId>) {
        match &mut self.hosts[host.index()] {
            Entry::Peer(peer) => peer.knows.extend(others),
            Entry::Node { knows, .. } => knows.extend(others),
        }
    }

    /// Makes each of `hosts` know up to `degree` others among them, drawn from the seed, as a tracker would.
    pub fn acquaint(&mut self, hosts: &[HostId], degree: usize) {
        let mut stream = self.stream("acquaintances");
        for &host in hosts {
            let mut known = BTreeSet::new();
            let most = degree.min(hosts.len().saturating_sub(1));
            while known.len() < most {
                known.extend(stream.pick(hosts).copied().filter(|&other| other != host));
            }
            self.introduce(host, known);
        }
    }

    /// The timetable at `after` from the beginning.
    pub fn at(&mut self, after: Duration) -> At<'_> {
        At::new(When::At(SimTime::ZERO + after), &mut self.timetable)
    }

    /// The timetable once `condition`, asked in each second, is true.
    pub fn once(&mut self, condition: impl FnMut(&Standing<'_>) -> bool + Send + 'static) -> At<'_> {
        self.conditions.push(Box::new(condition));
        At::new(When::Once(self.conditions.len() - 1), &mut self.timetable)
    }

    /// Judges the report of a run whose goal was reached; `rule` names what is broken if there is a sentence.
    pub fn expect(&mut self, rule: &'static str, judge: impl FnOnce(&Report) -> Result<(), String> + Send + 'static) {
        self.expectations.push(Expectation { rule, judge: Box::new(judge) });
    }

    /// Adds a checker to the standard ones.
    pub fn check(&mut self, checker: impl Checker + 'static) {
        self.checkers.push(Box::new(checker));
    }

    /// Measures the memory of every endpoint with `meter` and watches that it stays within its bound.
    ///
    /// `tests/memory.rs` lends an allocator that counts.
    pub fn measure_memory(&mut self, meter: Meter) {
        self.meter = Some(meter);
        self.check(check::MemoryHolds::default());
    }

    /// Does without checkers, for figures on the cost of a run.
    pub fn without_checkers(&mut self) {
        self.checkers.clear();
    }

    /// Is over when all of `hosts` are complete, and fails if they are not within `limit`.
    pub fn until_complete(&mut self, hosts: &[HostId], limit: Duration) {
        self.goal = Goal::Complete(hosts.iter().copied().collect());
        self.deadline = SimTime::ZERO + limit;
    }

    /// Is over when `condition`, asked once in each second, is true; fails if it is not within `limit`.
    pub fn until(&mut self, limit: Duration, condition: impl FnMut(&Standing<'_>) -> bool + Send + 'static) {
        self.goal = Goal::When(Box::new(condition));
        self.deadline = SimTime::ZERO + limit;
    }

    /// Is over after `limit` at the latest, whatever was said before; a goal must be reached until then.
    pub fn must_end_within(&mut self, limit: Duration) {
        self.deadline = self.deadline.min(SimTime::ZERO + limit);
    }

    /// Is over after `time`.
    pub fn for_time(&mut self, time: Duration) {
        self.goal = Goal::Time;
        self.deadline = SimTime::ZERO + time;
    }

    /// Reports the time that all of `leechers` took against the least possible, [`fluid_bound`](crate::fluid_bound).
    pub const fn compare_with_bound(&mut self, bound: Duration) {
        self.bound = Some(bound);
    }

    /// Keeps the progress of every host over time, for plots.
    pub const fn keep_progress(&mut self) {
        self.keeps_progress = true;
    }

    /// The command that repeats the run, for the report of a failure.
    pub fn repeated_by(&mut self, command: impl Into<String>) {
        self.repeat = command.into();
    }

    /// Runs it.
    ///
    /// # Errors
    /// [`Failure`] if it cannot be run, a rule was broken, or the goal was not reached in time.
    pub fn run(self) -> Result<Report, Failure> {
        self.run_recorded(Recording::default())
    }

    /// Runs it and records it.
    ///
    /// # Errors
    /// As [`Scenario::run`], and if the recording cannot be written.
    pub fn run_recorded(self, recording: Recording) -> Result<Report, Failure> {
        World::new(self, recording).map_err(Failure::Impossible)?.run()
    }
}
