//! Bounds as small as an application may set them.

use std::time::Duration;

use ppspp_core::{Content, EndpointConfig};

use crate::net::{Net, Sample};

type Bound = fn(&mut EndpointConfig);

/// Each bound set to nothing, but for the number of swarms and of channels, of which nothing would come.
const NOTHING: [Bound; 24] = [
    |config| config.limits.half_open = 0,
    |config| config.limits.queued_events = 0,
    |config| config.limits.unconfirmed_bytes = 0,
    |config| config.limits.open_groups = 0,
    |config| config.limits.outstanding_requests = 0,
    |config| config.limits.queued_requests = 0,
    |config| config.limits.availability_runs = 0,
    |config| config.limits.rarity_runs = 0,
    |config| config.limits.early_hashes = 0,
    |config| config.limits.pending_chunks = 0,
    |config| config.limits.cached_groups = 0,
    |config| config.limits.remembered_groups = 0,
    |config| config.limits.pending_reads = 0,
    |config| config.limits.in_flight = 0,
    |config| config.limits.upload_slots = 0,
    |config| config.limits.messages_per_datagram = 0,
    |config| config.limits.candidates = 0,
    |config| config.limits.shunned_hosts = 0,
    |config| config.mtu_v4 = 0,
    |config| config.receive_buffer = 0,
    |config| config.flush_after = Duration::ZERO,
    |config| config.keep_alive = Duration::ZERO,
    |config| config.dead_after = Duration::ZERO,
    |config| config.aimed_peers = 0,
];

fn completes(sample: &Sample, leecher: EndpointConfig, seeder: EndpointConfig) -> bool {
    let mut net = Net::new();
    let content = Content::Seed { tree: sample.tree.clone() };
    let seeder = net.add_with(seeder, sample.metadata.clone(), content, sample.bytes.clone());
    let leecher = net.add_with(leecher, sample.metadata.clone(), Content::Fetch, Vec::new());
    net.connect(leecher, seeder);
    net.complete(leecher, Duration::from_secs(120))
}

#[test]
fn no_bound_of_nothing_keeps_a_transfer_from_its_end() {
    let sample = Sample::new(300_000);
    for (at, nothing) in NOTHING.into_iter().enumerate() {
        let mut config = EndpointConfig::default();
        nothing(&mut config);
        assert!(completes(&sample, config.clone(), EndpointConfig::default()), "bound {at} of the leecher");
        assert!(completes(&sample, EndpointConfig::default(), config), "bound {at} of the seeder");
    }
    let mut config = EndpointConfig::default();
    for nothing in NOTHING {
        nothing(&mut config);
    }
    assert!(completes(&sample, config.clone(), config), "all of them together");
}
