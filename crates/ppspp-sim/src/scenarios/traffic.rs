//! Swarms that share links with other traffic, and with each other.

use std::time::Duration;

use super::swarms::plain;
use super::{MBIT, MIB, Options, millis, secs};
use crate::cross::{RenoReceiver, RenoSender};
use crate::id::HostId;
use crate::link::LinkSpec;
use crate::report::Report;
use crate::scenario::{Peer, Scenario};
use crate::time::SimTime;

/// When measuring begins and ends.
const FROM: u64 = 30;
const UNTIL: u64 = 90;
/// Share that the download must keep of what it gets alone, in per cent.
const KEPT: u64 = 90;
/// Most that one of two swarms may get for each unit of the other, in tenths.
const UNEVEN: u64 = 13;

/// Bytes that a host got in the time that is measured.
fn measured(report: &Report, host: HostId) -> u64 {
    let Some(progress) = &report.progress else { return 0 };
    let at = |second| progress.stored_at(host, SimTime::ZERO + secs(second));
    at(UNTIL) - at(FROM)
}

/// An access link of 10 Mbit/s, down which a download over TCP comes, and eight seeders for the leecher behind it.
fn shared(options: &Options, seeders: usize) -> (Scenario, HostId) {
    let mut scenario = Scenario::new("ledbat-vs-tcp", options.seed);
    let access = scenario.link(plain());
    let receiver = scenario.add_node_behind(RenoReceiver::default(), access, &[]);
    scenario.add_node(RenoSender::new(secs(10)), LinkSpec::lan(), &[receiver]);
    if seeders > 0 {
        let content = scenario.content(options.size(256 * MIB));
        let seeders: Vec<_> = (0..seeders)
            .map(|_| scenario.add(Peer::seeder(content).on(LinkSpec::symmetric(100 * MBIT, millis(5)))))
            .collect();
        scenario.add(Peer::leecher(content).behind(access).knows(seeders));
    }
    scenario.keep_progress();
    scenario.for_time(secs(UNTIL));
    (scenario, receiver)
}

/// A download over TCP keeps its rate while a swarm fills the rest of its access link.
pub(super) fn ledbat_vs_tcp(options: &Options) -> Scenario {
    let (alone, receiver) = shared(options, 0);
    let alone = alone.run().map_or(0, |report| measured(&report, receiver));
    let (mut scenario, receiver) = shared(options, options.peers(8));
    scenario.expect("a download over TCP keeps its rate", move |report| {
        let kept = measured(report, receiver) * 100 / alone.max(1);
        if kept >= KEPT { Ok(()) } else { Err(format!("it kept {kept} % of {alone} bytes, {KEPT} % are its due")) }
    });
    scenario
}

/// Two swarms that share an uplink, one of them half a minute younger, get about the same.
pub(super) fn latecomer(options: &Options) -> Scenario {
    let mut scenario = Scenario::new("latecomer", options.seed);
    let access = scenario.link(plain());
    let size = options.size(256 * MIB);
    let leechers: Vec<HostId> = [Duration::ZERO, secs(FROM / 2)]
        .into_iter()
        .map(|joins| {
            let content = scenario.content(size);
            let seeder = scenario.add(Peer::seeder(content).behind(access));
            let link = LinkSpec::symmetric(100 * MBIT, millis(5));
            scenario.add(Peer::leecher(content).on(link).knows([seeder]).joins(joins))
        })
        .collect();
    scenario.keep_progress();
    scenario.for_time(secs(UNTIL));
    scenario.expect("a latecomer gets its share", move |report| {
        let [first, second] = [0, 1].map(|index| measured(report, leechers[index]));
        let (less, more) = (first.min(second), first.max(second));
        if more * 10 <= less * UNEVEN {
            Ok(())
        } else {
            Err(format!("the first got {first} bytes, the latecomer {second}"))
        }
    });
    scenario
}
