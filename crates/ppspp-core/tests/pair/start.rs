//! How soon a fetch yields its first verified bytes.

use std::time::Duration;

use ppspp_core::Metadata;
use ppspp_core::chunk::ChunkAddressing;
use ppspp_core::integrity::HashFunction;

use crate::net::{Net, Sample};

/// Round trips from the first datagram to the first verified chunk.
fn round_trips(sample: &Sample, metadata: &Metadata) -> f64 {
    let mut net = Net::new();
    let seeder = net.seeder(sample);
    let leecher = net.leecher(metadata);
    net.connect(leecher, seeder);
    let began = net.now;
    while net.hosts[leecher].stats().chunks_received == 0 {
        assert!(
            net.step(began + Duration::from_secs(1)),
            "nothing arrived: {} {metadata:?} {:?}",
            sample.bytes.len(),
            net.hosts[leecher].stats()
        );
        net.drain(leecher);
    }
    net.now.saturating_since(began).as_secs_f64() / (2 * net.latency).as_secs_f64()
}

/// HANDSHAKE; HANDSHAKE and HAVE; REQUEST; DATA. Without the length, the last chunk comes before the first counts (R1).
#[test]
fn the_first_chunk_is_verified_after_two_round_trips_or_three() {
    for addressing in [ChunkAddressing::Chunk32, ChunkAddressing::Bin32, ChunkAddressing::Byte64] {
        for len in [1000, 7162, 300_000, 5 << 20] {
            let sample = Sample::with(len, HashFunction::Sha256, addressing, 1024);
            assert!((round_trips(&sample, &sample.metadata) - 2.0).abs() < 1e-9, "{len} bytes, {addressing:?}");
            let lengthless = sample.clone().without_length().metadata;
            let expected = if len <= 1024 { 2.0 } else { 3.0 };
            assert!((round_trips(&sample, &lengthless) - expected).abs() < 1e-9, "{len} bytes, {addressing:?}");
        }
    }
}
