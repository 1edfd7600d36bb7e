//! Whole transfers: sizes, addressing methods, hash functions, bad networks.

use std::time::Duration;

use ppspp_core::chunk::ChunkAddressing;
use ppspp_core::integrity::HashFunction;

use crate::net::{Fate, Net, Sample};

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
        let mut state = seed * 7919 + 1;
        net.rule = Some(Box::new(move |_, _, _, _| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            match state >> 60 {
                0 => Fate::Drop,
                1 => Fate::Twice,
                2 => Fate::Delay(Duration::from_millis(30)),
                _ => Fate::Deliver,
            }
        }));
        net.connect(leecher, seeder);
        net.fetches(leecher, &sample, Duration::from_secs(120));
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
    assert!(net.hosts[leecher].verified_bytes < 200_000, "stored chunks are not fetched again");
}
