//! Everyone joins at once. The links are alike, so the least possible time is known.

use super::{MBIT, MIB, Options, millis, secs};
use crate::bound::fluid_bound;
use crate::link::LinkSpec;
use crate::scenario::{Peer, Scenario};

/// Peers that a tracker would name.
const DEGREE: usize = 20;
/// How many leechers the seeder is known to; they pass on what they get.
const SEEDED: usize = 20;

pub(super) fn build(options: &Options) -> Scenario {
    let mut scenario = Scenario::new("flash-crowd", options.seed);
    let (peers, size) = (options.peers(100), options.size(4 * MIB));
    let content = scenario.content(size);
    // 10 Mbit/s each way, 40 ms between any two hosts and back, 300 ms of queue.
    let link = LinkSpec::symmetric(10 * MBIT, millis(10));
    let seeder = scenario.add(Peer::seeder(content).on(link.clone()));
    let leechers: Vec<_> = (0..peers).map(|_| scenario.add(Peer::leecher(content).on(link.clone()))).collect();
    for &leecher in leechers.iter().take(SEEDED) {
        scenario.introduce(leecher, [seeder]);
    }
    scenario.acquaint(&leechers, DEGREE);
    let bound = fluid_bound(size, 10 * MBIT, &vec![(10 * MBIT, 10 * MBIT); peers]);
    scenario.compare_with_bound(bound);
    scenario.until_complete(&leechers, secs(600) + bound * 20);
    scenario
}
