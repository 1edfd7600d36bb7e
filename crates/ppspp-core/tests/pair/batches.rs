//! Several datagrams handed over before the endpoint does anything: what is judged together is judged as if alone.

use std::time::Duration;

use ppspp_core::chunk::ChunkRange;
use ppspp_core::wire::{Handshake, Message};
use ppspp_core::{CloseReason, Misbehaviour};

use crate::net::{Net, Sample};
use crate::script::Script;

const MS: Duration = Duration::from_millis(1);
const RTT: Duration = Duration::from_millis(20);

/// A leecher and a script it asked for chunks; an even one and the one after it are among them.
fn asked() -> (Net, usize, Sample, Script, u64) {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    let (script, _) = Script::answers(&mut net, leecher, &sample.metadata, 1, RTT);
    script.has_all(&mut net, &sample);
    net.run_for(RTT);
    let asked = script.summary(&mut net).requested();
    let even = asked.iter().copied().find(|chunk| chunk % 2 == 0 && asked.contains(&(chunk + 1))).unwrap();
    (net, leecher, sample, script, even)
}

/// R17: a chunk whose hashes come later in the same batch is tried again in it, with the first hashes or after.
#[test]
fn hashes_may_come_after_the_chunk() {
    for peaks_are_known in [false, true] {
        let (mut net, leecher, sample, script, even) = asked();
        if peaks_are_known {
            script.gives(&mut net, &sample, even + 16);
        }
        let before = net.hosts[leecher].stats().chunks_received;
        let batch = [script.data_with(&net, &sample, even + 1, &[]), script.data(&net, &sample, even)];
        script.say_together(&mut net, &batch);
        assert_eq!(net.hosts[leecher].stats().chunks_received - before, 2);
        net.run_for(RTT);
        let acked = script.summary(&mut net).acks;
        assert!(acked.iter().any(|(range, _)| range.covers(ChunkRange::new(even, even + 2))), "{acked:?}");
    }
}

/// RFC 7574 §5.3: hashes that come without the chunk they prove are kept for it.
#[test]
fn hashes_may_come_alone_or_with_what_is_not_wanted() {
    for unwanted in [None, Some(600)] {
        let (mut net, leecher, sample, script, even) = asked();
        script.gives(&mut net, &sample, even + 16);
        let hashes = sample.proof(even);
        let first = match unwanted {
            Some(chunk) => script.data_with(&net, &sample, chunk, &hashes),
            None => script.hashes(&hashes),
        };
        let batch = [first, script.data_with(&net, &sample, even, &[])];
        script.say_together(&mut net, &batch);
        assert_eq!(net.hosts[leecher].stats().chunks_received, 2, "{unwanted:?}");
    }
}

/// R17: what waits for hashes of one peer is tried again as well when its chunk is judged because of another's hashes.
#[test]
fn kept_chunks_of_two_peers_are_tried_together() {
    let sample = Sample::new(4 << 20);
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    let scripts = [1, 2].map(|number| {
        let (script, _) = Script::answers(&mut net, leecher, &sample.metadata, number, RTT);
        script.has_all(&mut net, &sample);
        script
    });
    net.run_for(RTT);
    let mut chunks = Vec::new();
    for script in &scripts {
        let asked = script.summary(&mut net).requested();
        script.gives(&mut net, &sample, asked[0]);
        // In the second group that it was asked for, of which nothing is known.
        let even = asked.iter().copied().find(|chunk| chunk / 16 > asked[0] / 16 && chunk % 2 == 0).unwrap();
        assert!(asked.contains(&(even + 1)));
        chunks.push(even);
    }
    let [one, other] = &scripts;
    for (script, chunk) in scripts.iter().zip(&chunks) {
        let alone = script.data_with(&net, &sample, chunk + 1, &[]);
        script.say_together(&mut net, &[alone]);
    }
    assert_eq!(net.hosts[leecher].stats().chunks_received, 2);
    let carrier = other.data(&net, &sample, chunks[1]);
    let hashes = one.hashes(&sample.proof(chunks[0] + 1));
    net.inject_mixed(leecher, &[(other.address, &carrier), (one.address, &hashes)]);
    assert_eq!(net.hosts[leecher].stats().chunks_received, 5);
}

#[test]
fn what_came_before_a_goodbye_counts() {
    let (mut net, leecher, sample, script, even) = asked();
    let mut goodbye = script.remote.value().to_be_bytes().to_vec();
    Message::Handshake(Handshake::closing()).encode(&script.format, &mut goodbye).unwrap();
    let batch = [script.data(&net, &sample, even), goodbye];
    script.say_together(&mut net, &batch);
    assert_eq!(net.hosts[leecher].stats().chunks_received, 1);
    assert_eq!(net.hosts[leecher].closed, [CloseReason::ByPeer]);
}

/// R13.
#[test]
fn a_chunk_that_comes_twice_counts_once() {
    let (mut net, leecher, sample, script, even) = asked();
    let datagram = script.data(&net, &sample, even);
    script.say_together(&mut net, &[datagram.clone(), datagram]);
    let stats = net.hosts[leecher].stats();
    assert_eq!((stats.chunks_received, stats.duplicate_chunks), (1, 1));
}

/// RFC 7574 §5.2: what a liar sent before its lie is good, what it sent after is dropped.
#[test]
fn a_lie_spoils_nothing_else() {
    let (mut net, leecher, sample, script, even) = asked();
    let good = script.data(&net, &sample, even);
    let mut lie = script.data(&net, &sample, even + 1);
    *lie.last_mut().unwrap() ^= 1;
    let late = script.data(&net, &sample, even + 1);
    script.say_together(&mut net, &[good, lie, late]);
    assert_eq!(net.hosts[leecher].closed, [CloseReason::Misbehaved(Misbehaviour::WrongHash)]);
    assert_eq!(net.hosts[leecher].stats().chunks_received, 1);
    let seeder = net.seeder(&sample);
    net.connect(leecher, seeder);
    net.fetches(leecher, &sample, Duration::from_secs(60));
}

/// The order in which the chunks of a group come: scattered, as a seeder sends them.
const SCATTERED: [u64; 16] = [0, 8, 4, 12, 2, 6, 10, 14, 1, 3, 5, 7, 9, 11, 13, 15];

/// A leecher that knows the peaks, a script it asked for a whole group, and that group's first chunk.
fn asked_for_a_group() -> (Net, usize, Sample, Script, u64) {
    let (mut net, leecher, sample, script, even) = asked();
    let start = even / 16 * 16;
    // A run of 16 and one: the second group of what was asked for, or the first, is whole.
    script.gives(&mut net, &sample, start + 16);
    (net, leecher, sample, script, start)
}

#[test]
fn a_group_that_comes_whole_is_taken_in() {
    // What comes with its first chunk proves it, or what comes with a later one, or what came before.
    for proof in 0..3 {
        let (mut net, leecher, sample, script, start) = asked_for_a_group();
        if proof == 2 {
            let hashes = sample.proof(start);
            net.inject(leecher, script.address, &script.hashes(&hashes));
        }
        let datagram = |place: usize, chunk: u64| match (proof, place) {
            (0, 0) | (1, 9) => script.data(&net, &sample, start + chunk),
            _ => script.data_with(&net, &sample, start + chunk, &[]),
        };
        let batch: Vec<_> = SCATTERED.iter().enumerate().map(|(place, &chunk)| datagram(place, chunk)).collect();
        script.say_together(&mut net, &batch);
        let stats = net.hosts[leecher].stats();
        assert_eq!((stats.chunks_received, stats.duplicate_chunks), (1 + 16, 0), "{proof}");
        net.run_for(RTT);
        let acked = script.summary(&mut net).acks;
        assert!(acked.iter().any(|(range, _)| range.covers(ChunkRange::new(start, start + 16))), "{acked:?}");
        let seeder = net.seeder(&sample);
        net.connect(leecher, seeder);
        net.fetches(leecher, &sample, Duration::from_secs(60));
    }
}

/// RFC 7574 §5.2: one wrong chunk of a whole group closes the channel; what came before it is good.
#[test]
fn a_lie_in_a_whole_group_is_found() {
    for lie in 0..16 {
        let (mut net, leecher, sample, script, start) = asked_for_a_group();
        let mut batch: Vec<_> = SCATTERED.iter().map(|chunk| script.data(&net, &sample, start + chunk)).collect();
        *batch[lie].last_mut().unwrap() ^= 1;
        script.say_together(&mut net, &batch);
        assert_eq!(net.hosts[leecher].closed, [CloseReason::Misbehaved(Misbehaviour::WrongHash)], "{lie}");
        assert_eq!(net.hosts[leecher].stats().chunks_received, 1 + lie as u64);
        let seeder = net.seeder(&sample);
        net.connect(leecher, seeder);
        net.fetches(leecher, &sample, Duration::from_secs(60));
    }
}

/// RFC 7574 §5.3: hashes that come with a chunk of a whole group and prove another are kept for that.
#[test]
fn hashes_for_another_chunk_may_come_with_a_whole_group() {
    let (mut net, leecher, sample, script, start) = asked_for_a_group();
    // What came with the first chunk of its group does not prove it.
    let other = start + 20;
    let bare = script.data_with(&net, &sample, other, &[]);
    script.say_together(&mut net, &[bare]);
    assert_eq!(net.hosts[leecher].stats().chunks_received, 1);
    let mut batch: Vec<_> = SCATTERED.iter().map(|chunk| script.data(&net, &sample, start + chunk)).collect();
    batch[5] = script.data_with(&net, &sample, start + SCATTERED[5], &sample.proof(other));
    script.say_together(&mut net, &batch);
    assert_eq!(net.hosts[leecher].stats().chunks_received, 1 + 16 + 1);
    let bare = script.data_with(&net, &sample, other + 1, &[]);
    script.say_together(&mut net, &[bare]);
    assert_eq!(net.hosts[leecher].stats().chunks_received, 1 + 16 + 2);
}

/// RFC 7574 §5.3: the same if they come with the group's first chunk, which proves it.
#[test]
fn hashes_for_another_chunk_may_come_with_the_first_of_a_whole_group() {
    let (mut net, leecher, sample, script, start) = asked_for_a_group();
    let other = start + 20;
    let mut batch: Vec<_> = SCATTERED.iter().map(|chunk| script.data(&net, &sample, start + chunk)).collect();
    let proofs = [sample.proof(start), sample.proof(other)].concat();
    batch[0] = script.data_with(&net, &sample, start, &proofs);
    script.say_together(&mut net, &batch);
    assert_eq!(net.hosts[leecher].stats().chunks_received, 1 + 16);
    let bare = script.data_with(&net, &sample, other, &[]);
    script.say_together(&mut net, &[bare]);
    assert_eq!(net.hosts[leecher].stats().chunks_received, 1 + 16 + 1);
}

/// What a liar sent with its lie and is good counts in chunks and in bytes.
#[test]
fn counts_agree_when_a_liar_is_closed() {
    let (mut net, leecher, sample, script, start) = asked_for_a_group();
    let mut lie = script.data(&net, &sample, start + 17);
    *lie.last_mut().unwrap() ^= 1;
    let mut batch = vec![lie];
    batch.extend(SCATTERED.iter().map(|chunk| script.data(&net, &sample, start + chunk)));
    script.say_together(&mut net, &batch);
    assert_eq!(net.hosts[leecher].closed, [CloseReason::Misbehaved(Misbehaviour::WrongHash)]);
    let stats = net.hosts[leecher].stats();
    assert_eq!((stats.chunks_received, stats.content_bytes_received), (17, 17 * 1024));
}

/// Makes datagrams of the script's for the group that begins with the chunk given.
type Maker<'a> = &'a dyn Fn(&Net, &Sample, &Script, u64) -> Vec<Vec<u8>>;

/// What a leecher does with datagrams that its kernel coalesced, and with the same one by one.
fn both_ways(datagrams: Maker<'_>) -> [String; 2] {
    [false, true].map(|coalesced| {
        let (mut net, leecher, sample, script, start) = asked_for_a_group();
        net.keep_log = true;
        let batch = datagrams(&net, &sample, &script, start);
        if coalesced {
            net.inject_coalesced(leecher, script.address, &batch);
        } else {
            script.say_together(&mut net, &batch);
        }
        net.run_for(RTT);
        let endpoint = &net.hosts[leecher].endpoint;
        let traffic = endpoint.swarm(net.hosts[leecher].swarm).map(|swarm| swarm.traffic());
        format!("{:?} {:?} {traffic:?} {:?}", net.hosts[leecher].stats(), endpoint.stats(), net.log)
    })
}

#[test]
fn coalesced_datagrams_count_as_each_alone() {
    let spoilt = |mut datagram: Vec<u8>, at: usize| {
        datagram[at] ^= 1;
        datagram
    };
    let kinds: [Maker<'_>; 8] = [
        // Whole groups and parts of them, with all hashes, or with none after the first.
        &|net, sample, script, start| (0..20).map(|chunk| script.data(net, sample, start + chunk)).collect(),
        &|net, sample, script, start| {
            let bare = |chunk| script.data_with(net, sample, start + chunk, &[]);
            (0..17).map(|chunk| if chunk == 0 { script.data(net, sample, start) } else { bare(chunk) }).collect()
        },
        // Chunks that come twice, or for which nobody asked.
        &|net, sample, script, start| {
            [0, 1, 1, 2, 2, 600, 3, 0].map(|chunk| script.data_with(net, sample, start + chunk, &[])).to_vec()
        },
        // Hashes alone, and then chunks that need them.
        &|net, sample, script, start| {
            let bare = (0..4).map(|chunk| script.data_with(net, sample, start + chunk, &[]));
            bare.chain([script.hashes(&sample.proof(start))]).collect()
        },
        // A lie in the middle, which ends the channel.
        &|net, sample, script, start| {
            let mut batch: Vec<_> = (0..16).map(|chunk| script.data(net, sample, start + chunk)).collect();
            batch[7] = spoilt(batch[7].clone(), 900);
            batch
        },
        // Another channel, an unknown message, a message cut short, and one message more than a chunk.
        &|net, sample, script, start| {
            (0..16).map(|chunk| spoilt(script.data(net, sample, start + chunk), chunk as usize)).collect()
        },
        &|net, sample, script, start| {
            let mut batch: Vec<_> = (0..16).map(|chunk| script.data(net, sample, start + chunk)).collect();
            batch[15].truncate(30);
            batch
        },
        &|net, sample, script, start| {
            let mut batch: Vec<_> = (0..16).map(|chunk| script.data_with(net, sample, start + chunk, &[])).collect();
            batch.iter_mut().step_by(3).for_each(|datagram| datagram.push(10));
            batch
        },
    ];
    for (number, datagrams) in kinds.into_iter().enumerate() {
        let [alone, coalesced] = both_ways(datagrams);
        assert_eq!(alone, coalesced, "{number}");
    }
}

/// R21 counts what was sent in units of 16 chunks: what is left of one must not wait behind everything else.
#[test]
fn what_is_left_of_a_unit_is_sent_in_its_turn() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let script = Script::opens(&mut net, seeder, &sample.metadata, 1, RTT);
    script.say(&mut net, &[Message::Request(ChunkRange::new(0, 17))]);
    script.say(&mut net, &[Message::Request(ChunkRange::new(17, 1024))]);
    let mut sent = Vec::new();
    for _ in 0..200 {
        net.run_for(5 * MS);
        let data = script.summary(&mut net).data;
        for &chunk in &data {
            script.say(&mut net, &[Message::Ack { range: ChunkRange::new(chunk, chunk + 1), delay: 1 }]);
        }
        sent.extend(data);
        if sent.contains(&17) {
            break;
        }
    }
    assert!(sent.contains(&17) && sent.len() < 256, "{} were sent first", sent.len());
}
