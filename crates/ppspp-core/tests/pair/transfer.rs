//! Whole transfers: sizes, addressing methods, hash functions, bad networks.

use std::time::Duration;

use ppspp_core::chunk::{ChunkAddressing, ChunkRange, RangeSet};
use ppspp_core::integrity::HashFunction;
use ppspp_core::{CloseReason, Content, EndpointConfig, Misbehaviour, Order, PexPolicy, Wanted};

use crate::net::{Fate, Link, Net, Sample, restore};

/// Loses, delays and doubles one datagram in sixteen each.
fn rough(seed: u64) -> impl FnMut(u64, usize, usize, &[u8]) -> Fate {
    let mut state = seed * 7919 + 1;
    move |_, _, _, _| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        match state >> 60 {
            0 => Fate::Drop,
            1 => Fate::Twice,
            2 => Fate::Delay(Duration::from_millis(30)),
            _ => Fate::Deliver,
        }
    }
}

#[test]
fn sizes_around_chunks_and_groups() {
    for len in [1, 1023, 1024, 1025, 7162, 16_384, 16_385, 100_000, 300 * 1024, 1 << 20] {
        let sample = Sample::new(len);
        let mut net = Net::new();
        let seeder = net.seeder(&sample);
        let leecher = net.leecher(&sample.metadata);
        net.connect(leecher, seeder);
        net.fetches(leecher, &sample, Duration::from_secs(30));
    }
}

#[test]
fn every_addressing_with_every_hash() {
    for addressing in ChunkAddressing::ALL {
        for function in HashFunction::ALL {
            let sample = Sample::with(50_000, function, addressing, 1024);
            let mut net = Net::new();
            let seeder = net.seeder(&sample);
            let leecher = net.leecher(&sample.metadata);
            net.connect(leecher, seeder);
            net.fetches(leecher, &sample, Duration::from_secs(30));
        }
    }
}

#[test]
fn size_is_detected_without_a_length() {
    for len in [1, 1024, 1025, 5000, 7162, 16_384, 70_000, 1 << 20] {
        let sample = Sample::new(len).without_length();
        let mut net = Net::new();
        let seeder = net.seeder(&sample);
        let leecher = net.leecher(&sample.metadata);
        net.connect(leecher, seeder);
        net.fetches(leecher, &sample, Duration::from_secs(30));
        assert_eq!(net.hosts[leecher].size, Some(len as u64));
    }
}

#[test]
fn loss_is_repaired() {
    for seed in 0..20u64 {
        let sample = Sample::new(400_000);
        let mut net = Net::new();
        let seeder = net.seeder(&sample);
        let leecher = net.leecher(&sample.metadata);
        net.rule = Some(Box::new(rough(seed)));
        net.connect(leecher, seeder);
        net.fetches(leecher, &sample, Duration::from_secs(120));
    }
}

#[test]
fn every_addressing_with_every_hash_on_a_bad_network() {
    for (place, addressing) in ChunkAddressing::ALL.into_iter().enumerate() {
        for (turn, function) in HashFunction::ALL.into_iter().enumerate() {
            let len = [1, 1025, 16_385, 60_000, 131_073][(place + turn) % 5];
            let sample = Sample::with(len, function, addressing, 1024);
            let mut net = Net::new();
            let seeder = net.seeder(&sample);
            let leecher = net.leecher(&sample.metadata);
            net.hosts[leecher].truth = sample.bytes.clone();
            let mut fate = rough(len as u64 + turn as u64);
            // One datagram in ten is lost besides.
            net.rule = Some(Box::new(
                move |number, from, to, datagram| {
                    if number % 10 == 7 { Fate::Drop } else { fate(number, from, to, datagram) }
                },
            ));
            net.connect(leecher, seeder);
            net.fetches(leecher, &sample, Duration::from_secs(120));
        }
    }
}

/// R3: chunk sizes from 512 to 61,440 bytes; chunks above the path MTU may be fragmented and leave alone.
#[test]
fn every_chunk_size() {
    for addressing in [ChunkAddressing::Chunk32, ChunkAddressing::Bin32, ChunkAddressing::Byte64] {
        for chunk_size in [512, 1000, 1024, 8192, 16_384, 61_440] {
            for len in [300_000, 5 * chunk_size as usize, 5 * chunk_size as usize + 1] {
                let sample = Sample::with(len, HashFunction::Sha256, addressing, chunk_size);
                let mut net = Net::new();
                let seeder = net.seeder(&sample);
                let leecher = net.leecher(&sample.metadata);
                net.connect(leecher, seeder);
                net.fetches(leecher, &sample, Duration::from_secs(60));
                assert_eq!(net.hosts[seeder].fragmented, chunk_size > 1472, "chunks of {chunk_size}");
                assert!(!net.hosts[leecher].fragmented);
            }
        }
    }
}

/// RFC 7574 §8.7: peers' clocks are unrelated; only differences of their timestamps count.
#[test]
fn clock_offsets_do_not_matter() {
    let hour = 3_600_000_000;
    for (seeder_offset, leecher_offset) in [(0, 50 * hour), (1_000_000 * hour, 0), (7, 3 * hour + 11)] {
        let sample = Sample::new(500_000);
        let mut net = Net::new();
        let seeder = net.seeder(&sample);
        let leecher = net.leecher(&sample.metadata);
        net.hosts[seeder].clock_offset = seeder_offset;
        net.hosts[leecher].clock_offset = leecher_offset;
        for host in &mut net.hosts {
            host.endpoint.handle_timeout(net.now + Duration::from_micros(host.clock_offset));
        }
        net.connect(leecher, seeder);
        net.fetches(leecher, &sample, Duration::from_secs(20));
    }
}

/// What a leecher holds that stopped when it had `range`.
fn partial(sample: &Sample, range: ChunkRange) -> (Content, Vec<u8>) {
    let mut net = Net::new();
    let seeder = net.seeder(sample);
    let leecher = net.leecher(&sample.metadata);
    want(&mut net, leecher, range);
    net.connect(leecher, seeder);
    assert!(net.complete(leecher, Duration::from_secs(30)));
    let saved = net.hosts[leecher].checkpoint();
    assert_eq!(saved.stored, RangeSet::from(range));
    (restore(&sample.metadata, &saved), std::mem::take(&mut net.hosts[leecher].disk.bytes))
}

fn want(net: &mut Net, index: usize, range: ChunkRange) {
    let now = net.local(index);
    let host = &mut net.hosts[index];
    let wanted = Wanted { ranges: RangeSet::from(range), order: Order::InOrder };
    host.endpoint.set_wanted(host.swarm, wanted, now).unwrap();
}

#[test]
fn two_halves_are_exchanged_at_once() {
    // 293 chunks, cut within a group.
    let sample = Sample::new(300_000);
    let mut net = Net::new();
    let (content, bytes) = partial(&sample, ChunkRange::new(0, 150));
    let left = net.add(sample.metadata.clone(), content, bytes);
    let (content, bytes) = partial(&sample, ChunkRange::new(150, 293));
    let right = net.add(sample.metadata.clone(), content, bytes);
    net.connect(left, right);
    net.fetches(left, &sample, Duration::from_secs(30));
    net.fetches(right, &sample, Duration::from_secs(30));
    for index in [left, right] {
        let stats = net.hosts[index].stats();
        assert!(stats.chunks_received >= 143 && stats.chunks_sent >= 143, "{stats:?}");
        assert!(stats.duplicate_chunks <= 4, "{stats:?}");
    }
}

#[test]
fn two_leechers_share_one_seeder() {
    let sample = Sample::new(600_000);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let leechers = [net.leecher(&sample.metadata), net.leecher(&sample.metadata)];
    for leecher in leechers {
        net.connect(leecher, seeder);
    }
    net.connect(leechers[0], leechers[1]);
    for leecher in leechers {
        net.fetches(leecher, &sample, Duration::from_secs(60));
    }
    assert!(net.hosts[seeder].reads() <= 37, "hot groups are read once");
}

#[test]
fn chunks_pass_through_a_chain_of_three() {
    for metadata_has_length in [true, false] {
        let sample = if metadata_has_length { Sample::new(500_000) } else { Sample::new(500_000).without_length() };
        let mut net = Net::new();
        let seeder = net.seeder(&sample);
        let middle = net.leecher(&sample.metadata);
        // By itself the end would find the seeder.
        let mut config = EndpointConfig::default();
        config.pex = PexPolicy::Off;
        let end = net.add_with(config, sample.metadata.clone(), Content::Fetch, Vec::new());
        net.connect(middle, seeder);
        net.connect(end, middle);
        net.fetches(end, &sample, Duration::from_secs(60));
        net.fetches(middle, &sample, Duration::from_secs(1));
        let stats = net.hosts[end].stats();
        assert_eq!(stats.requests_expired, 0, "every request was answered: {stats:?}");
    }
}

/// R1, RFC 7574 §5.6: the size comes from peak hashes and the last chunk.
#[test]
fn size_is_detected_with_every_addressing() {
    for addressing in ChunkAddressing::ALL {
        for len in [1, 1024, 7162, 70_000] {
            let sample = Sample::with(len, HashFunction::Sha256, addressing, 1024).without_length();
            let mut net = Net::new();
            let seeder = net.seeder(&sample);
            let leecher = net.leecher(&sample.metadata);
            net.connect(leecher, seeder);
            net.fetches(leecher, &sample, Duration::from_secs(30));
            assert_eq!(net.hosts[leecher].size, Some(len as u64));
        }
    }
}

/// R1: chunks that arrive without the hashes that went ahead of them neither prove nor disprove anything.
#[test]
fn size_is_detected_on_a_bad_network() {
    for seed in 0..10 {
        for (function, chunk_size) in [(HashFunction::Sha512, 1024), (HashFunction::Sha256, 8192)] {
            let sample = Sample::with(300_000, function, ChunkAddressing::Chunk32, chunk_size).without_length();
            let mut net = Net::new();
            let seeder = net.seeder(&sample);
            let leecher = net.leecher(&sample.metadata);
            net.rule = Some(Box::new(rough(seed)));
            net.connect(leecher, seeder);
            net.fetches(leecher, &sample, Duration::from_secs(120));
            assert!(net.hosts[leecher].closed.iter().all(|reason| *reason == CloseReason::Replaced));
        }
    }
}

/// R1: a lone chunk of two hash lengths could be an interior node; only a trusted length tells.
#[test]
fn content_of_two_hash_lengths_needs_its_length() {
    let sample = Sample::new(64);
    for (sample, fetched) in [(sample.clone(), true), (sample.without_length(), false)] {
        let mut net = Net::new();
        let seeder = net.seeder(&sample);
        let leecher = net.leecher(&sample.metadata);
        net.connect(leecher, seeder);
        assert_eq!(net.complete(leecher, Duration::from_secs(30)), fetched);
        assert_eq!(net.hosts[leecher].verified_bytes, if fetched { 64 } else { 0 });
        if !fetched {
            assert_eq!(net.hosts[leecher].closed, [CloseReason::Misbehaved(Misbehaviour::WrongHash)]);
        }
    }
}

#[test]
fn only_what_is_wanted_is_fetched() {
    let sample = Sample::new(300_000);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let leecher = net.leecher(&sample.metadata);
    want(&mut net, leecher, ChunkRange::new(37, 90));
    net.connect(leecher, seeder);
    assert!(net.complete(leecher, Duration::from_secs(30)));
    assert_eq!(net.hosts[leecher].stats().chunks_received, 53);
    assert!(net.hosts[leecher].disk.bytes[37 * 1024..] == sample.bytes[37 * 1024..90 * 1024]);

    // Wanting what is there already is satisfied at once, and said so.
    net.hosts[leecher].complete = false;
    want(&mut net, leecher, ChunkRange::new(40, 50));
    assert!(net.complete(leecher, Duration::from_millis(1)));

    net.hosts[leecher].complete = false;
    want(&mut net, leecher, ChunkRange::new(0, u64::MAX));
    net.fetches(leecher, &sample, Duration::from_secs(30));
    assert_eq!(net.hosts[leecher].stats().chunks_received, 293);
}

/// The seeder's counters, the leecher's, the datagrams that the leecher sent, and the time it took.
fn download(len: usize, latency: Duration) -> (ppspp_core::TransferStats, ppspp_core::TransferStats, u64, Duration) {
    let sample = Sample::new(len);
    let mut net = Net::new();
    net.latency = latency;
    let seeder = net.seeder(&sample);
    let leecher = net.leecher(&sample.metadata);
    net.connect(leecher, seeder);
    let begin = net.now;
    net.fetches(leecher, &sample, Duration::from_secs(120));
    (net.hosts[seeder].stats(), net.hosts[leecher].stats(), net.hosts[leecher].sent, net.now - begin)
}

/// R14, R17: an in-order download costs at most 1.1 INTEGRITY messages per chunk, next to no duplicates, and few ACKs.
#[test]
fn a_download_is_thrifty() {
    for latency in [Duration::from_millis(10), Duration::from_micros(100)] {
        let (sent, received, control, took) = download(8 << 20, latency);
        let chunks = 8192;
        println!(
            "{latency:?}: {} INTEGRITY, {} sent, {} resent, {} duplicates, {control} control, {took:?}",
            sent.integrity_sent, sent.chunks_sent, sent.chunks_resent, received.duplicate_chunks
        );
        assert!(sent.integrity_sent * 10 <= chunks * 11, "{} INTEGRITY for {chunks} chunks", sent.integrity_sent);
        assert_eq!((received.chunks_received, received.duplicate_chunks), (chunks, 0));
        assert_eq!((sent.chunks_resent, received.requests_expired), (0, 0));
        assert!(control <= 1000, "{control} datagrams of ACK, HAVE and REQUEST");
    }
}

#[test]
fn a_download_is_resumed() {
    let sample = Sample::new(300_000);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let leecher = net.leecher(&sample.metadata);
    net.connect(leecher, seeder);
    net.run(Duration::from_secs(30), |net| net.hosts[leecher].disk.bytes.len() > 120_000);
    let saved = net.hosts[leecher].checkpoint();
    let bytes = std::mem::take(&mut net.hosts[leecher].disk.bytes);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let leecher = net.resumed(&sample.metadata, &saved, bytes);
    net.connect(leecher, seeder);
    net.fetches(leecher, &sample, Duration::from_secs(30));
    let stored = saved.stored.count() * 1024;
    assert!(stored > 50_000, "{stored} bytes were stored when the download was cut");
    assert_eq!(net.hosts[leecher].verified_bytes, 300_000 - stored, "stored chunks are not fetched again");
}

/// R2: groups of which only a part is wanted do not use up the room for groups: the rest of them is fetched then.
#[test]
fn parts_of_more_groups_than_may_be_open_are_fetched() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let mut config = EndpointConfig::default();
    config.limits.open_groups = 8;
    let leecher = net.add_with(config, sample.metadata.clone(), Content::Fetch, Vec::new());
    let parts: RangeSet = (0..64).map(|group| ChunkRange::new(16 * group + 3, 16 * group + 5)).collect();
    let now = net.local(leecher);
    let host = &mut net.hosts[leecher];
    host.endpoint.set_wanted(host.swarm, Wanted { ranges: parts.clone(), order: Order::InOrder }, now).unwrap();
    net.connect(leecher, seeder);
    assert!(net.complete(leecher, Duration::from_secs(60)));
    let stored = net.hosts[leecher].checkpoint().stored;
    assert!(parts.runs().all(|part| stored.covers(part)), "{stored:?}");
    net.hosts[leecher].complete = false;
    want(&mut net, leecher, sample.geometry().all());
    net.fetches(leecher, &sample, Duration::from_secs(60));
}

/// A seek away from two thousand scattered chunks that the seeder is still asked for, and it hears little of that: there
/// is no room for so many CANCELs, and all are lost besides. What it sends in vain must not keep what is wanted now waiting.
#[test]
fn what_is_wanted_no_longer_does_not_hold_up_what_is() {
    for lost in [false, true] {
        let sample = Sample::new(8 << 20);
        let mut net = Net::new();
        let (seeder, leecher) = (net.seeder(&sample), net.leecher(&sample.metadata));
        net.links.insert(seeder, Link::new(4 << 20, 4 << 20, Duration::from_millis(500)));
        want(&mut net, leecher, ChunkRange::new(0, 2048));
        net.connect(leecher, seeder);
        assert!(net.complete(leecher, Duration::from_secs(10)));
        let scattered: RangeSet = (1024..3072).map(|number| ChunkRange::new(2 * number, 2 * number + 1)).collect();
        let wanted = Wanted { ranges: scattered, order: Order::RarestFirst };
        let now = net.local(leecher);
        let host = &mut net.hosts[leecher];
        host.complete = false;
        host.endpoint.set_wanted(host.swarm, wanted, now).unwrap();
        net.run_for(Duration::from_millis(200));
        let asked = net.hosts[leecher].stats().chunks_requested;
        assert!(asked > 3500, "{asked} chunks asked for");
        if lost {
            let mut sent = 0;
            net.rule = Some(Box::new(move |_, from, _, _| {
                sent += u32::from(from == leecher);
                if from == leecher && sent <= 2 { Fate::Drop } else { Fate::Deliver }
            }));
        }
        want(&mut net, leecher, ChunkRange::new(8000, 8064));
        let began = net.now;
        assert!(net.complete(leecher, Duration::from_secs(60)), "lost: {lost}");
        let took = net.now - began;
        assert!(took < Duration::from_secs(2), "lost: {lost}, {took:?}");
    }
}
