//! The run: events one after the other until the goal is reached, a rule is broken, or the time is up.

use std::fmt;
use std::time::Duration;

use ppspp_core::chunk::RangeSet;

use crate::build::{self, Host};
use crate::check::{Violation, Watch};
use crate::content::Content;
use crate::host::PeerHost;
use crate::id::HostId;
use crate::network::{Happening, MAX_HOSTS, Network};
use crate::node::{Hand, Node, NodeHost, Outgoing};
use crate::packet::{Packet, PacketId, Size};
use crate::progress::Progress;
use crate::report::{HostResult, Report, Summary};
use crate::rng::Streams;
use crate::scenario::{Condition, Expectation, Goal, Scenario, ScenarioError, Standing};
use crate::tape::{Mark, Recording, Tape};
use crate::time::SimTime;
use crate::timetable::{Action, When};

/// How often the run is looked at as a whole.
const SAMPLE: Duration = Duration::from_secs(1);
/// Events at one instant beyond which a host is said to make the time stand still.
const MOST_AT_ONCE: u64 = 2_000_000;

/// Why there is no report of success.
#[derive(Debug)]
pub enum Failure {
    /// The scenario cannot be run.
    Impossible(ScenarioError),
    /// A rule was broken, or the goal was not reached.
    Broken {
        /// The rule.
        violation: Violation,
        /// The run until then.
        report: Box<Report>,
        /// The command that repeats it.
        repeat: String,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Impossible(error) => error.fmt(f),
            Self::Broken { violation, report, repeat } => {
                write!(f, "seed {}, {violation}; repeat with: {repeat}", report.seed)
            }
        }
    }
}

impl std::error::Error for Failure {}

/// What is done once a condition is true.
struct Trigger {
    condition: Condition,
    actions: Vec<u32>,
}

impl fmt::Debug for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trigger").field(&self.actions).finish()
    }
}

/// Everything in a run.
#[derive(Debug)]
pub(crate) struct World {
    name: String,
    seed: u64,
    repeat: String,
    net: Network,
    watch: Watch,
    hosts: Vec<Host>,
    timetable: Vec<Action>,
    triggers: Vec<Trigger>,
    expectations: Vec<Expectation>,
    goal: Goal,
    /// Hosts that must be complete, and how many of them are not.
    awaited: Vec<bool>,
    open: usize,
    deadline: SimTime,
    bound: Option<Duration>,
    progress: Option<Progress>,
    events: u64,
    at_once: (SimTime, u64),
    /// Entries of the timetable that have not happened: a goal counts when the last fault is over.
    planned: usize,
    outgoing: Vec<Outgoing>,
}

impl World {
    pub(crate) fn new(scenario: Scenario, recording: Recording) -> Result<Self, ScenarioError> {
        if scenario.hosts.len() + scenario.links.len() > MAX_HOSTS {
            return Err(ScenarioError::TooManyHosts(scenario.hosts.len()));
        }
        let tape = Tape::new(recording).map_err(|error| ScenarioError::Recording(error.to_string()))?;
        let contents: Vec<Content> = scenario.contents.into_iter().collect::<Result<_, _>>()?;
        let mut net = Network::new(Streams::new(scenario.seed), tape);
        for (spec, nat) in &scenario.links {
            build::check_link(spec)?;
            net.add_link(spec, *nat);
        }
        let hosts = build::hosts(scenario.hosts, &contents, &scenario.timetable, scenario.meter, &mut net)?;
        let (joins, hosts): (Vec<_>, Vec<_>) = hosts.into_iter().unzip();
        let joins = joins.into_iter().enumerate();
        let joins = joins.filter_map(|(host, at)| Some((When::At(at?), Action::Join(HostId(host as u32)))));
        let mut triggers: Vec<Trigger> =
            scenario.conditions.into_iter().map(|condition| Trigger { condition, actions: Vec::new() }).collect();
        let mut timetable = Vec::new();
        for (number, (when, action)) in joins.chain(scenario.timetable).enumerate() {
            match when {
                When::At(at) => net.queue.plan(at, Happening::Act(number as u32)),
                When::Once(condition) => triggers[condition].actions.push(number as u32),
            }
            timetable.push(action);
        }
        let mut awaited = vec![false; hosts.len()];
        if let Goal::Complete(goal) = &scenario.goal {
            for host in goal {
                awaited[host.index()] = true;
            }
        }
        net.queue.plan(SimTime::ZERO + SAMPLE, Happening::Sample);
        if scenario.keeps_progress {
            net.queue.plan(SimTime::ZERO, Happening::Note);
        }
        Ok(Self {
            name: scenario.name,
            seed: scenario.seed,
            repeat: scenario.repeat,
            net,
            watch: Watch::new(scenario.checkers),
            progress: scenario.keeps_progress.then(|| Progress::new(hosts.len())),
            hosts,
            planned: timetable.len(),
            timetable,
            triggers,
            expectations: scenario.expectations,
            goal: scenario.goal,
            open: awaited.iter().filter(|&&awaited| awaited).count(),
            awaited,
            deadline: scenario.deadline,
            bound: scenario.bound,
            events: 0,
            at_once: (SimTime::ZERO, 0),
            outgoing: Vec::new(),
        })
    }

    pub(crate) const fn now(&self) -> SimTime {
        self.net.now
    }

    pub(crate) fn is_complete(&self, host: HostId) -> bool {
        self.peer(host).is_some_and(|peer| peer.completed_at.is_some())
    }

    pub(crate) fn bytes_stored(&self, host: HostId) -> u64 {
        self.peer(host).map_or(0, |peer| peer.disk.bytes_stored())
    }

    pub(crate) fn have_all(&self, hosts: &[HostId]) -> bool {
        let mut union = RangeSet::new();
        let mut total = 0;
        for peer in hosts.iter().filter_map(|&host| self.peer(host)) {
            total = peer.content.geometry().chunk_count();
            peer.disk.stored().runs().for_each(|run| {
                union.insert(run);
            });
        }
        total > 0 && union.count() == total
    }

    fn peer(&self, host: HostId) -> Option<&PeerHost> {
        match self.hosts.get(host.index()) {
            Some(Host::Peer(peer)) => Some(peer),
            _ => None,
        }
    }

    /// Runs to the end.
    pub(crate) fn run(mut self) -> Result<Report, Failure> {
        for index in 0..self.hosts.len() {
            self.with_node(index, |node, hand| node.start(hand));
        }
        let mut over = false;
        while self.watch.violation.is_none() && !over {
            let Some((at, what)) = self.net.queue.next().filter(|(at, _)| *at <= self.deadline) else { break };
            self.net.now = self.net.now.max(at);
            // Who looks on changes nothing.
            if !matches!(what, Happening::Note) {
                self.count();
            }
            over = self.happen(what);
        }
        if self.watch.violation.is_none() && !over {
            self.net.now = self.deadline;
            self.watch.violation = self.unreached();
        }
        self.check_balance();
        if let Err(error) = self.net.tape.finish() {
            return Err(Failure::Impossible(ScenarioError::Recording(error.to_string())));
        }
        let broken = self.watch.violation.take();
        let repeat = std::mem::take(&mut self.repeat);
        let expectations = std::mem::take(&mut self.expectations);
        let at = self.net.now;
        let report = self.report();
        let judged = expectations.into_iter().find_map(|Expectation { rule, judge }| {
            let detail = judge(&report).err()?;
            Some(Violation { at, host: None, rule, detail })
        });
        match broken.or(judged) {
            None => Ok(report),
            Some(violation) => Err(Failure::Broken { violation, report: Box::new(report), repeat }),
        }
    }

    /// Counts an event. Hosts that ask to be woken again and again at one instant make the time stand still.
    fn count(&mut self) {
        self.events += 1;
        let so_far = if self.at_once.0 == self.net.now { self.at_once.1 } else { 0 };
        self.at_once = (self.net.now, so_far + 1);
        if so_far > MOST_AT_ONCE {
            self.break_rule(None, "time goes on", format!("{MOST_AT_ONCE} events happened at one instant"));
        }
    }

    /// Lets one thing happen; returns whether the goal is reached.
    fn happen(&mut self, what: Happening) -> bool {
        match what {
            Happening::Arrive(packet) => {
                self.net.arrive(packet);
                false
            }
            Happening::Deliver(host, packet) => {
                self.deliver(host, packet);
                self.settle(host)
            }
            Happening::Wake(host) => {
                self.wake(host);
                self.settle(host)
            }
            Happening::Disk(host, number) => {
                self.with_peer(host, |host, net, watch| host.on_disk(number, net, watch));
                self.settle(host)
            }
            Happening::Act(number) => self.act_on(number),
            Happening::Note => {
                self.note_progress();
                false
            }
            Happening::Sample => {
                self.sample();
                let mut over = false;
                for number in self.triggered() {
                    over |= self.act_on(number);
                }
                over || self.holds()
            }
        }
    }

    /// Takes note if a host became complete; returns whether it was the last one.
    fn settle(&mut self, host: HostId) -> bool {
        let place = host.index();
        if !self.awaited[place] || !self.is_complete(host) {
            return false;
        }
        self.awaited[place] = false;
        self.open -= 1;
        self.is_over()
    }

    const fn is_over(&self) -> bool {
        matches!(self.goal, Goal::Complete(_)) && self.open == 0 && self.planned == 0
    }

    fn deliver(&mut self, host: HostId, id: PacketId) {
        let packet = self.net.packets.take(id);
        let taken = match &mut self.hosts[host.index()] {
            Host::Peer(peer) => peer.on_packet(&packet, &mut self.net, &mut self.watch),
            Host::Node(_) => {
                self.with_node(host.index(), |node, hand| node.on_packet(&packet, hand));
                true
            }
        };
        let Packet { source, destination, wire, payload, .. } = packet;
        if taken {
            self.net.ledger.delivered += 1;
            self.net.ledger.bytes_delivered += u64::from(wire);
            self.net.tape.packet(self.net.now, Mark::Delivered, host, source, destination, &payload);
        } else {
            self.net.ledger.unreceived += 1;
            self.net.tape.packet(self.net.now, Mark::Dropped, host, source, destination, &[]);
        }
        self.net.packets.give_back(id, payload);
    }

    fn wake(&mut self, host: HostId) {
        match &mut self.hosts[host.index()] {
            Host::Peer(peer) => peer.on_wake(&mut self.net, &mut self.watch),
            Host::Node(node) => {
                if self.net.now >= node.armed {
                    node.armed = SimTime::NEVER;
                }
                if node.node.wake_at().is_some_and(|at| at <= self.net.now) {
                    self.with_node(host.index(), |node, hand| node.on_wake(hand));
                } else {
                    self.with_node(host.index(), |_, _| {});
                }
            }
        }
    }

    /// Lets a node act, sends what it sends, and sees to its being woken.
    fn with_node(&mut self, index: usize, act: impl FnOnce(&mut dyn Node, &mut Hand<'_>)) {
        let Host::Node(host) = &mut self.hosts[index] else { return };
        let NodeHost { id, node, address, knows, rng, armed } = &mut **host;
        let mut hand = Hand { now: self.net.now, address: *address, knows, rng, out: &mut self.outgoing };
        act(&mut **node, &mut hand);
        for packet in self.outgoing.drain(..) {
            self.net.send(*id, packet.source, packet.destination, Size::whole(packet.wire), &packet.payload);
        }
        if let Some(at) = node.wake_at().map(|at| at.max(self.net.now))
            && at < *armed
        {
            *armed = at;
            self.net.queue.plan(at, Happening::Wake(*id));
        }
    }

    /// The entries of the timetable whose conditions became true.
    fn triggered(&mut self) -> Vec<u32> {
        let mut due = Vec::new();
        let mut triggers = std::mem::take(&mut self.triggers);
        triggers.retain_mut(|trigger| {
            let fires = (trigger.condition)(&Standing { world: self });
            if fires {
                due.append(&mut trigger.actions);
            }
            !fires
        });
        self.triggers = triggers;
        due
    }

    /// Does what an entry of the timetable says; returns whether the goal is reached.
    fn act_on(&mut self, number: u32) -> bool {
        self.planned -= 1;
        let action = self.timetable[number as usize].clone();
        let host = action.host();
        self.act(action);
        host.is_some_and(|host| self.settle(host)) || self.is_over()
    }

    /// Does one thing.
    fn act(&mut self, action: Action) {
        match action {
            Action::Cut(cut) => self.net.cuts.push(cut),
            Action::Heal => self.net.cuts.clear(),
            Action::Link(host, spec) => {
                let link = self.net.link_of(host);
                self.net.change_link(link, &spec);
            }
            Action::Meet(host, other) => {
                let address = self.hosts[other.index()].address();
                self.with_peer(host, |host, net, watch| host.meet(address, net, watch));
            }
            Action::Join(host) => self.join(host),
            Action::Leave(host) => self.with_peer(host, PeerHost::leave),
            Action::Crash { host, keep } => {
                self.with_peer(host, |host, net, _| host.crash(net, keep));
                self.await_again(host);
            }
            Action::Pause(host) => self.with_peer(host, |host, net, _| host.pause(net)),
            Action::Resume(host) => self.with_peer(host, PeerHost::unpause),
            Action::Move(host) => self.with_peer(host, PeerHost::move_away),
            Action::Disk(host, spec) => self.with_peer(host, |host, _, _| host.disk.spec = spec),
            Action::Rot(host, offset) => self.with_peer(host, |host, _, _| host.disk.rot(offset)),
        }
    }

    fn with_peer(&mut self, host: HostId, act: impl FnOnce(&mut PeerHost, &mut Network, &mut Watch)) {
        if let Some(Host::Peer(peer)) = self.hosts.get_mut(host.index()) {
            act(peer, &mut self.net, &mut self.watch);
        }
    }

    fn join(&mut self, host: HostId) {
        let mut refused = None;
        self.with_peer(host, |peer, net, watch| refused = peer.start(net, watch).err());
        if let Some(error) = refused {
            self.break_rule(Some(host), "a swarm can be joined", error);
        }
    }

    /// A host that lost what it had is awaited again if it was before.
    fn await_again(&mut self, host: HostId) {
        if let Goal::Complete(goal) = &self.goal
            && goal.contains(&host)
            && !self.is_complete(host)
            && !self.awaited[host.index()]
        {
            self.awaited[host.index()] = true;
            self.open += 1;
        }
    }

    /// Looks at the run as a whole.
    fn sample(&mut self) {
        self.net.queue.plan(self.net.now + SAMPLE, Happening::Sample);
        for host in &self.hosts {
            if let Host::Peer(peer) = host {
                peer.sample(&self.net, &mut self.watch);
            }
        }
    }

    /// Takes note of how far every host is.
    fn note_progress(&mut self) {
        let Some(progress) = &mut self.progress else { return };
        let stored = self.hosts.iter().map(|host| match host {
            Host::Peer(peer) => peer.disk.bytes_stored(),
            Host::Node(node) => node.node.delivered(),
        });
        let next = progress.add(self.net.now, stored, &self.net.lines);
        self.net.queue.plan(next, Happening::Note);
    }

    /// Whether a condition that ends the run is true.
    fn holds(&mut self) -> bool {
        if !matches!(self.goal, Goal::When(_)) || self.planned > 0 {
            return false;
        }
        let mut goal = std::mem::replace(&mut self.goal, Goal::Time);
        let holds = match &mut goal {
            Goal::When(condition) => condition(&Standing { world: self }),
            _ => false,
        };
        self.goal = goal;
        holds
    }

    fn break_rule(&mut self, host: Option<HostId>, rule: &'static str, detail: String) {
        let violation = Violation { at: self.net.now, host, rule, detail };
        self.watch.violation.get_or_insert(violation);
    }

    /// What is missing when the time is up.
    fn unreached(&self) -> Option<Violation> {
        let (host, detail) = match &self.goal {
            Goal::Time => return None,
            Goal::When(_) => (None, "the condition did not come true".to_owned()),
            Goal::Complete(_) => {
                let host = HostId(self.awaited.iter().position(|&awaited| awaited)? as u32);
                let state = self.peer(host).map_or_else(String::new, PeerHost::state);
                (Some(host), format!("{} hosts are not complete; the first {state}", self.open))
            }
        };
        Some(Violation { at: self.net.now, host, rule: "the goal is reached in time", detail })
    }

    /// Every packet that was sent has arrived, was dropped, or is on its way.
    fn check_balance(&mut self) {
        let ledger = self.net.ledger();
        if !ledger.is_balanced() {
            self.break_rule(None, "every packet is accounted for", format!("{ledger:?}"));
        }
    }

    fn report(self) -> Report {
        let hosts = self.hosts.iter().map(|host| match host {
            Host::Peer(peer) => peer.result(),
            Host::Node(node) => HostResult::of_node(node.id, node.node.delivered()),
        });
        let hosts = hosts.collect();
        Report::new(Summary {
            name: self.name,
            seed: self.seed,
            time: self.net.now,
            events: self.events,
            ledger: self.net.ledger(),
            trace_hash: self.net.tape.hash(),
            bound: self.bound,
            pipes: self
                .net
                .lines
                .iter()
                .map(|line| [&line.up, &line.down].map(|pipe| pipe.stats(self.net.now)))
                .collect(),
            hosts,
            progress: self.progress,
        })
    }
}
