//! What a swarm counts of its datagrams and messages.

use std::time::Duration;

use ppspp_core::TrafficStats;
use ppspp_core::chunk::{ChunkAddressing, ChunkSize};
use ppspp_core::integrity::HashFunction;
use ppspp_core::wire::{CHANNEL_ID_LEN, Format, MessageType};

use crate::net::{Net, Sample};

/// A transfer without loss; what the seeder and the leecher counted.
fn transfer(sample: &Sample) -> [TrafficStats; 2] {
    let mut net = Net::new();
    let (seeder, leecher) = (net.seeder(sample), net.leecher(&sample.metadata));
    net.connect(leecher, seeder);
    assert!(net.run(Duration::from_secs(60), |net| net.hosts[leecher].complete));
    net.run_for(Duration::from_secs(1));
    [seeder, leecher].map(|host| {
        let host = &net.hosts[host];
        let traffic = *host.endpoint.swarm(host.swarm).unwrap().traffic();
        let total = host.endpoint.stats();
        assert_eq!((traffic.sent.datagrams, traffic.sent.bytes), (total.datagrams_sent, total.bytes_sent));
        let received = (traffic.received.datagrams, traffic.received.bytes);
        assert_eq!(received, (total.datagrams_received, total.bytes_received));
        traffic
    })
}

#[test]
fn what_one_side_sends_the_other_receives() {
    for addressing in [ChunkAddressing::Chunk32, ChunkAddressing::Bin32] {
        let sample = Sample::with(300_000, HashFunction::Sha256, addressing, 1024);
        let [seeder, leecher] = transfer(&sample);
        assert_eq!(seeder.sent, leecher.received);
        assert_eq!(leecher.sent, seeder.received);
        for traffic in [seeder.sent, leecher.sent] {
            let framing = traffic.datagrams * CHANNEL_ID_LEN as u64;
            assert_eq!(
                traffic.messages.bytes() + framing,
                traffic.bytes,
                "every byte is a message's or a channel id's"
            );
        }
        let format = Format::new(addressing, ChunkSize::DEFAULT, 32, 0);
        let data = seeder.sent.messages.of(MessageType::Data);
        assert_eq!((data.count, data.bytes), (293, 300_000 + 293 * format.data_overhead() as u64));
        let acks = leecher.sent.messages.of(MessageType::Ack);
        assert!(acks.count > 0);
        assert_eq!(acks.bytes, acks.count * format.ack_len() as u64);
        let handshakes = [seeder, leecher].map(|traffic| traffic.sent.messages.of(MessageType::Handshake).count);
        assert_eq!(handshakes, [1, 1]);
    }
}
