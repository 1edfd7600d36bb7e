//! Swarms without faults: late joiners, uneven links, bad links.

use super::{MBIT, MIB, Options, millis, secs};
use crate::id::HostId;
use crate::link::LinkSpec;
use crate::report::Report;
use crate::scenario::{Peer, Scenario};

/// Peers that a tracker would name.
const DEGREE: usize = 10;

/// 10 Mbit/s each way, 40 ms between any two hosts and back.
pub(super) fn plain() -> LinkSpec {
    LinkSpec::symmetric(10 * MBIT, millis(10))
}

/// A seeder and leechers behind links of one kind, each knowing the seeder and some of the others.
pub(super) fn swarm(name: &str, options: &Options, peers: usize, size: u64, link: &LinkSpec) -> Swarm {
    let mut scenario = Scenario::new(name, options.seed);
    let content = scenario.content(options.size(size));
    let seeder = scenario.add(Peer::seeder(content).on(link.clone()));
    let peer = Peer::leecher(content).on(link.clone()).knows([seeder]);
    let leechers: Vec<_> = (0..options.peers(peers)).map(|_| scenario.add(peer.clone())).collect();
    scenario.acquaint(&leechers, DEGREE);
    scenario.until_complete(&leechers, secs(600));
    Swarm { scenario, content, seeder, leechers }
}

/// A scenario and who is in it.
#[derive(Debug)]
pub(super) struct Swarm {
    pub(super) scenario: Scenario,
    pub(super) content: crate::id::ContentId,
    pub(super) seeder: HostId,
    pub(super) leechers: Vec<HostId>,
}

/// How long the hosts took at most.
pub(super) fn slowest(report: &Report, hosts: &[HostId]) -> std::time::Duration {
    hosts.iter().filter_map(|host| report.results[host.index()].completed_after).max().unwrap_or_default()
}

/// One more leecher in each second.
pub(super) fn staggered(options: &Options) -> Scenario {
    let mut scenario = Scenario::new("staggered", options.seed);
    let content = scenario.content(options.size(2 * MIB));
    let seeder = scenario.add(Peer::seeder(content).on(plain()));
    let mut stream = scenario.stream("joins");
    let mut leechers: Vec<HostId> = Vec::new();
    for number in 0..options.peers(20) {
        let known: Vec<HostId> = (0..DEGREE).filter_map(|_| stream.pick(&leechers).copied()).collect();
        let peer = Peer::leecher(content).on(plain()).joins(secs(number as u64));
        leechers.push(scenario.add(peer.knows([seeder]).knows(known)));
    }
    scenario.until_complete(&leechers, secs(600));
    scenario
}

/// Everyone has a slow uplink but the seeder.
pub(super) fn asymmetric_dsl(options: &Options) -> Scenario {
    let mut scenario = Scenario::new("asymmetric-dsl", options.seed);
    let size = options.size(MIB);
    let content = scenario.content(size);
    let seeder = scenario.add(Peer::seeder(content).on(LinkSpec::cable()));
    let peer = Peer::leecher(content).on(LinkSpec::dsl()).knows([seeder]);
    let peers = options.peers(20);
    let leechers: Vec<_> = (0..peers).map(|_| scenario.add(peer.clone())).collect();
    scenario.acquaint(&leechers, DEGREE);
    let bound = crate::bound::fluid_bound(size, 10 * MBIT, &vec![(MBIT, 16 * MBIT); peers]);
    scenario.compare_with_bound(bound);
    scenario.until_complete(&leechers, secs(600) + bound * 10);
    scenario
}

/// Jitter and bursts of loss on every link.
pub(super) fn lossy_mobile(options: &Options) -> Scenario {
    let mut swarm = swarm("lossy-mobile", options, 10, MIB, &LinkSpec::mobile());
    swarm.scenario.until_complete(&swarm.leechers, secs(900));
    swarm.scenario
}

/// One leecher behind a link of 256 kbit/s holds nobody up.
pub(super) fn slow_peer(options: &Options) -> Scenario {
    let Swarm { mut scenario, content, seeder, leechers } = swarm("slow-peer", options, 10, MIB, &plain());
    let slow = Peer::leecher(content).on(LinkSpec::symmetric(256_000, millis(10))).knows([seeder]);
    let slow = scenario.add(slow.knows(leechers.iter().copied()));
    let all: Vec<HostId> = leechers.iter().copied().chain([slow]).collect();
    scenario.until_complete(&all, secs(900));
    scenario.expect("a slow peer holds nobody up", move |report| {
        let (fast, slow) = (slowest(report, &leechers), slowest(report, &[slow]));
        if fast * 2 < slow { Ok(()) } else { Err(format!("the others took {fast:?}, the slow one {slow:?}")) }
    });
    scenario
}
