//! Swarms in which hosts, disks and the network fail.

use super::swarms::{Swarm, plain, swarm};
use super::{MIB, Options, millis, secs};
use crate::disk::DiskSpec;
use crate::id::HostId;
use crate::link::LinkSpec;
use crate::nat::{NatKind, NatSpec};
use crate::scenario::{Peer, Scenario};

/// The seeder leaves as soon as the leechers together have one copy.
pub(super) fn seeder_leaves(options: &Options) -> Scenario {
    let Swarm { mut scenario, seeder, leechers, .. } = swarm("seeder-leaves", options, 10, 2 * MIB, &plain());
    scenario.once(move |standing| standing.have_all(&leechers)).leave(seeder);
    scenario
}

/// The swarm falls into two halves, one without the seeder, and becomes one again.
pub(super) fn partition_heal(options: &Options) -> Scenario {
    let Swarm { mut scenario, seeder, leechers, .. } = swarm("partition-heal", options, 10, 4 * MIB, &plain());
    let (near, far) = leechers.split_at(leechers.len() / 2);
    let near: Vec<HostId> = near.iter().copied().chain([seeder]).collect();
    scenario.at(secs(2)).partition(&near, far);
    scenario.at(secs(30)).heal();
    scenario
}

/// Leechers crash and come back, some without their disks, others leave and return, one moves.
pub(super) fn churn(options: &Options) -> Scenario {
    let Swarm { mut scenario, leechers, .. } = swarm("churn", options, 12, 4 * MIB, &plain());
    let mut stream = scenario.stream("churn");
    for (number, &host) in leechers.iter().enumerate() {
        let down = millis(stream.between(1000, 20_000));
        let up = down + millis(stream.between(200, 10_000));
        match number % 4 {
            0 => scenario.at(down).crash(host),
            1 => scenario.at(down).leave(host),
            2 => scenario.at(down).crash_and_lose(host),
            _ => scenario.at(down).pause(host),
        };
        match number % 4 {
            3 => scenario.at(up).resume(host),
            _ => scenario.at(up).join(host),
        };
    }
    if let Some(&host) = leechers.last() {
        scenario.at(secs(3)).change_address(host);
    }
    scenario
}

/// Leechers behind NAT boxes of every kind; only the seeder can be called by everyone.
pub(super) fn nat(options: &Options) -> Scenario {
    let mut scenario = Scenario::new("nat", options.seed);
    let content = scenario.content(options.size(MIB));
    let seeder = scenario.add(Peer::seeder(content).on(plain()));
    let kinds = [NatKind::FullCone, NatKind::Restricted, NatKind::PortRestricted, NatKind::Symmetric];
    let leechers: Vec<_> = (0..options.peers(12))
        .map(|number| {
            let mut spec = NatSpec::new(kinds[number % kinds.len()]);
            spec.timeout = secs(30);
            let link = scenario.nat(plain(), spec);
            scenario.add(Peer::leecher(content).behind(link).knows([seeder]))
        })
        .collect();
    scenario.until_complete(&leechers, secs(600));
    scenario
}

/// Octets change on the disks of those who serve, one seeder has them right.
pub(super) fn bit_rot(options: &Options) -> Scenario {
    let Swarm { mut scenario, content, seeder, leechers } = swarm("bit-rot", options, 6, MIB, &plain());
    let sound = scenario.add(Peer::seeder(content).on(plain()));
    for &leecher in &leechers {
        scenario.introduce(leecher, [sound]);
    }
    let size = options.size(MIB);
    let mut stream = scenario.stream("rot");
    for _ in 0..8 {
        scenario.at(millis(0)).rot(seeder, stream.below(size));
    }
    for number in 0..16 {
        if let Some(&leecher) = stream.pick(&leechers) {
            scenario.at(millis(500 + 100 * number)).rot(leecher, stream.below(size));
        }
    }
    scenario
}

/// A disk is full for half a minute, another is slow; the others are not held up by either.
pub(super) fn disk_full(options: &Options) -> Scenario {
    let mut scenario = Scenario::new("disk-full", options.seed);
    let size = options.size(2 * MIB);
    let content = scenario.content(size);
    let seeder = scenario.add(Peer::seeder(content).on(plain()));
    let slow = DiskSpec { latency: millis(30), bandwidth: Some(2_000_000), ..DiskSpec::default() };
    let leechers: Vec<_> = (0..options.peers(6))
        .map(|number| {
            let disk = match number {
                0 => DiskSpec { capacity: size / 2, ..DiskSpec::default() },
                1 => slow,
                _ => DiskSpec::default(),
            };
            scenario.add(Peer::leecher(content).on(LinkSpec::cable()).knows([seeder]).disk(disk))
        })
        .collect();
    scenario.acquaint(&leechers, 5);
    scenario.at(secs(30)).change_disk(leechers[0], DiskSpec::default());
    scenario.until_complete(&leechers, secs(600));
    scenario
}
