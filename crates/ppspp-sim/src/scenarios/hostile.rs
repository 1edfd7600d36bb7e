//! Swarms with adversaries.

use super::swarms::{Swarm, plain, swarm};
use super::{MIB, Options, secs};
use crate::adversary::{HandshakeFlood, Liar, Lie};
use crate::link::LinkSpec;
use crate::scenario::Scenario;

/// One liar of each kind, known to every leecher and knowing everyone.
pub(super) fn liars(options: &Options) -> Scenario {
    let Swarm { mut scenario, content, seeder, leechers } = swarm("liars", options, 8, MIB, &plain());
    scenario.until_complete(&leechers, secs(120));
    let everyone: Vec<_> = leechers.iter().copied().chain([seeder]).collect();
    if let Some(content) = scenario.lookup(content) {
        for lie in Lie::ALL {
            let liar = scenario.add_node(Liar::new(lie, content.clone()), plain(), &everyone);
            for &leecher in &leechers {
                scenario.introduce(leecher, [liar]);
            }
        }
    }
    scenario
}

/// Two thousand forged handshakes in a second, while the leechers join one after the other.
pub(super) fn handshake_flood(options: &Options) -> Scenario {
    let mut scenario = Scenario::new("handshake-flood", options.seed);
    let content = scenario.content(options.size(MIB));
    let seeder = scenario.add(crate::Peer::seeder(content).on(LinkSpec::fibre()));
    let peer = crate::Peer::leecher(content).on(plain()).knows([seeder]);
    let leechers: Vec<_> =
        (0..options.peers(5)).map(|number| scenario.add(peer.clone().joins(secs(1 + number as u64)))).collect();
    if let Some(content) = scenario.lookup(content) {
        let flood = HandshakeFlood::new(content, 2000, secs(0), secs(20));
        scenario.add_node(flood, LinkSpec::fibre(), &[seeder]);
    }
    scenario.until_complete(&leechers, secs(300));
    scenario
}
