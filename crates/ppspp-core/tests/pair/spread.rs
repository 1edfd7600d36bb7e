//! R21: a seeder sends each group once before any twice.

use std::collections::BTreeMap;
use std::time::Duration;

use ppspp_core::chunk::{ChunkAddressing, ChunkRange, ChunkSize};
use ppspp_core::wire::{Format, Message, Messages, split_channel};

use crate::net::{Net, Sample};
use crate::raw;
use crate::script::Script;

const RTT: Duration = Duration::from_millis(20);

/// The chunks in the datagrams that `from` sent, in order.
fn chunks_sent(net: &Net, from: usize) -> Vec<u64> {
    let format = Format::new(ChunkAddressing::Chunk32, ChunkSize::DEFAULT, 32, 0);
    net.log
        .iter()
        .filter(|(sender, _, _)| *sender == from)
        .filter_map(|(_, _, datagram)| split_channel(datagram))
        .flat_map(|(_, body)| Messages::new(body, &format).map_while(Result::ok).collect::<Vec<_>>())
        .filter_map(|message| match message {
            Message::Data { chunk, .. } => Some(chunk.value()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_seeder_sends_other_runs_to_other_peers_first() {
    // R21
    let sample = Sample::new(2 << 20);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let leechers = [net.leecher(&sample.metadata), net.leecher(&sample.metadata)];
    net.keep_log = true;
    for leecher in leechers {
        net.connect(leecher, seeder);
    }
    net.connect(leechers[0], leechers[1]);
    assert!(net.run(Duration::from_secs(60), |net| leechers.iter().all(|&leecher| net.hosts[leecher].complete)));
    // Both ask in order: without R21 nearly every chunk of the first half is sent twice before the second half.
    let mut times: BTreeMap<u64, u32> = BTreeMap::new();
    let mut repeated_early = 0;
    for chunk in chunks_sent(&net, seeder) {
        let count = times.entry(chunk).or_default();
        *count += 1;
        if *count > 1 && times.len() < 1024 {
            repeated_early += 1;
        }
    }
    assert_eq!(times.len(), 2048, "the seeder sent every chunk");
    assert!(repeated_early < 341, "{repeated_early} chunks were sent twice before half of them were sent once");
}

#[test]
fn who_is_alone_gets_what_it_asks_for_in_its_order() {
    let sample = Sample::new(2 << 20);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let first = Script::opens(&mut net, seeder, &sample.metadata, 1, RTT);
    // It takes the first half, and goes.
    assert_eq!(take(&mut net, &first, ChunkRange::new(0, 1024)).len(), 1024);
    net.inject(seeder, first.address, &raw::datagram(first.remote.value(), &raw::CLOSING));
    let second = Script::opens(&mut net, seeder, &sample.metadata, 2, RTT);
    let runs: Vec<u64> = take(&mut net, &second, ChunkRange::new(0, 2048)).iter().map(|chunk| chunk / 128).collect();
    assert_eq!(runs.len(), 2048);
    assert!(runs.is_sorted(), "{runs:?}");
}

/// Asks for `range` and acknowledges what comes; returns that, in order.
fn take(net: &mut Net, script: &Script, range: ChunkRange) -> Vec<u64> {
    script.say(net, &[Message::Request(range)]);
    let mut taken = Vec::new();
    for _ in 0..2000 {
        net.run_for(Duration::from_millis(5));
        taken.extend(script.acknowledges(net));
    }
    taken
}
