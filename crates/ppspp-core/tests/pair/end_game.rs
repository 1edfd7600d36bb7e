//! RFC 7574 §3.8: the last chunks are asked of a second peer, and taken back once they are here.

use std::time::Duration;

use ppspp_core::chunk::ChunkRange;

use crate::net::{Net, Sample};
use crate::script::Script;

const MS: Duration = Duration::from_millis(1);
const RTT: Duration = Duration::from_millis(20);
/// What the first peer is asked for and does not send in time.
const LAST: ChunkRange = ChunkRange::new(28, 32);

/// A leecher that has all but [`LAST`], which it has asked two of three peers for.
fn end_game() -> (Net, usize, Sample, [Script; 3]) {
    let sample = Sample::new(32 * 1024);
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    let peers = [1, 2, 3].map(|number| Script::answers(&mut net, leecher, &sample.metadata, number, RTT).0);
    peers[0].has_all(&mut net, &sample);
    assert_eq!(peers[0].summary(&mut net).requested(), (0..32).collect::<Vec<_>>());
    for other in &peers[1..] {
        other.has_all(&mut net, &sample);
    }
    for chunk in 0..LAST.start() {
        net.run_for(MS);
        peers[0].gives(&mut net, &sample, chunk);
    }
    // Longer than a round trip, and not so long that the first is taken for stalled.
    net.run_for(200 * MS);
    let [first, second, third] = peers.each_ref().map(|peer| peer.summary(&mut net));
    assert_eq!(first.cancels, [], "the first may send them still");
    assert_eq!(second.requests, [LAST]);
    assert_eq!(third.requests, [], "two are enough");
    (net, leecher, sample, peers)
}

#[test]
fn the_last_chunks_are_asked_of_two_peers_and_taken_back_from_the_later() {
    for sooner in [0, 1] {
        let (mut net, leecher, sample, peers) = end_game();
        for chunk in [29, 28, 31, 30] {
            peers[sooner].gives(&mut net, &sample, chunk);
            let cancels = peers.each_ref().map(|peer| peer.summary(&mut net).cancels);
            let mut expected = [const { Vec::new() }; 3];
            expected[1 - sooner] = vec![ChunkRange::new(chunk, chunk + 1)];
            assert_eq!(cancels, expected, "{chunk} came from {sooner}");
        }
        assert!(net.hosts[leecher].complete);
    }
}
