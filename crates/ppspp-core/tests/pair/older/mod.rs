//! A draft-10 peer as libswift is one: SHA-1, no options 8 and 9, an ACK for each chunk, HAVE before ACK (R6, R7).

pub(crate) mod tree;

use std::collections::BTreeSet;
use std::time::Duration;

use ppspp_core::chunk::{Bin, ChunkAddressing, ChunkIndex, ChunkRange};
use ppspp_core::integrity::{EarlyHashes, HashFunction, TreeParams, Verdict, Verifier};
use ppspp_core::wire::Message;

use crate::net::{Net, Sample};
use crate::script::Script;

const RTT: Duration = Duration::from_millis(20);

/// Takes the content of `sample` from a seeder, one aligned run per REQUEST, trusting the root alone.
fn fetch(sample: &Sample) {
    let mut net = Net::new();
    let seeder = net.seeder(sample);
    let script = Script::opens_as(&mut net, seeder, &sample.metadata, 1, RTT, true);
    let params = TreeParams { function: HashFunction::Sha1, chunk_size: sample.metadata.chunk_size };
    let mut verifier = Verifier::new(params, sample.metadata.root, Some(sample.geometry()), 1024);
    let mut early = EarlyHashes::new(1024);
    let mut missing: BTreeSet<u64> = sample.geometry().all().iter().map(ChunkIndex::value).collect();
    let mut peaks_seen: Vec<Bin> = Vec::new();
    for _ in 0..5000 {
        for heard in script.hears(&mut net) {
            let mut replies = Vec::new();
            for message in heard.messages() {
                match message {
                    Message::Integrity { node, hash } => {
                        if sample.geometry().peaks().any(|peak| peak == node) {
                            peaks_seen.push(node);
                        }
                        early.insert(node, hash, net.now);
                    }
                    Message::Data { chunk, payload, .. } => {
                        match verifier.check(chunk, payload, &early) {
                            Verdict::Verified => assert!(payload == sample.chunk(chunk.value())),
                            Verdict::AlreadyHave => {}
                            // libswift drops what it cannot verify, and asks again.
                            other => panic!("{chunk:?} cannot be verified on arrival: {other:?}"),
                        }
                        missing.remove(&chunk.value());
                        let range = ChunkRange::single(chunk);
                        replies.extend([Message::Have(range), Message::Ack { range, delay: 10_000 }]);
                    }
                    Message::Have(_) => {}
                    other => panic!("a draft-10 peer does not understand {other:?}"),
                }
            }
            if !replies.is_empty() {
                script.say(&mut net, &replies);
            }
        }
        let Some(&first) = missing.first() else { break };
        let rest = ChunkRange::new(first, sample.geometry().chunk_count());
        let bin = Bin::largest_prefix(rest).unwrap();
        let bin = if bin.layer() > 3 { Bin::at(3, first >> 3).unwrap() } else { bin };
        script.say(&mut net, &[Message::Request(bin.base_range())]);
        net.run_for(RTT);
    }
    assert_eq!(missing, BTreeSet::new());
    assert_eq!(net.hosts[seeder].closed, []);
    // Its leecher starts with the first peak and takes each next one for the one to the right.
    let count = sample.geometry().peaks().count();
    if sample.geometry().chunk_count() > 1 {
        assert_eq!(peaks_seen[..count], sample.geometry().peaks().collect::<Vec<_>>());
    }
    assert!(peaks_seen[..count.min(peaks_seen.len())].is_sorted_by_key(|peak| std::cmp::Reverse(peak.layer())));
}

#[test]
fn a_draft_10_leecher_completes() {
    for addressing in [ChunkAddressing::Bin32, ChunkAddressing::Chunk32] {
        for len in [1, 1024, 1025, 7162, 100_000, 300_000] {
            fetch(&Sample::with(len, HashFunction::Sha1, addressing, 1024));
        }
    }
}
