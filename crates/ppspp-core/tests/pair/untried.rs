//! Download limits among peers of which some never bring what they are asked for: those who give are found, and kept
//! busy.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ppspp_core::chunk::ChunkAddressing;
use ppspp_core::integrity::HashFunction;
use ppspp_core::{ByteRate, Content, EndpointConfig, Rates};

use crate::net::{Fate, Net, Sample};
use crate::script::Script;

const KIB: u64 = 1024;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A leecher of `sample` that may receive `limit` bytes in a second.
fn leecher(net: &mut Net, sample: &Sample, limit: u64) -> usize {
    let mut config = EndpointConfig::default();
    config.rates = Rates { up: None, down: ByteRate::new(limit) };
    net.add_with(config, sample.metadata.clone(), Content::Fetch, Vec::new())
}

/// Content for twenty seconds.
fn sample(limit: u64, chunk_size: u32) -> Sample {
    Sample::with((20 * limit) as usize, HashFunction::Sha1, ChunkAddressing::Chunk32, chunk_size)
}

/// Lets nothing of those at `hung` through that might be DATA.
fn hang(net: &mut Net, hung: Vec<usize>) {
    net.rule = Some(Box::new(
        move |_, from, _, bytes| {
            if hung.contains(&from) && bytes.len() > 900 { Fate::Drop } else { Fate::Deliver }
        },
    ));
}

#[test]
fn boasters_that_came_first_hold_up_no_seeder_for_long() {
    for (boasters, limit, sized) in [(60, 64 * KIB, true), (60, 256 * KIB, true), (8, 64 * KIB, false)] {
        let sample = if sized { sample(limit, 1024) } else { sample(limit, 1024).without_length() };
        let mut net = Net::new();
        let (seeder, leecher) = (net.seeder(&sample), leecher(&mut net, &sample, limit));
        let scripts: Vec<Script> =
            (0..boasters).map(|number| Script::opens(&mut net, leecher, &sample.metadata, number, MS)).collect();
        for script in &scripts {
            script.has_all(&mut net, &sample);
        }
        net.run_for(2 * SECOND);
        net.connect(leecher, seeder);
        let began = net.now;
        while !net.hosts[leecher].complete {
            for script in &scripts {
                script.say(&mut net, &[]);
            }
            net.run_for(SECOND);
            net.extra.clear();
            assert!(net.now - began < 32 * SECOND, "{boasters} at {limit}: {:?}", net.hosts[leecher].progress());
        }
    }
}

/// With chunks as large as what may come at once, one peer takes all the room that the untried have.
#[test]
fn a_hung_seeder_that_came_first_holds_up_no_other() {
    for (hung, limit, chunk_size) in
        [(1, 64 * KIB, 8192), (1, 64 * KIB, 16_384), (1, 256 * KIB, 32_768), (4, 1024 * KIB, 32_768)]
    {
        for sized in [true, false] {
            let sample = if sized { sample(limit, chunk_size) } else { sample(limit, chunk_size).without_length() };
            let mut net = Net::new();
            let leecher = leecher(&mut net, &sample, limit);
            let dead: Vec<usize> = (0..hung).map(|_| net.seeder(&sample)).collect();
            hang(&mut net, dead.clone());
            for seeder in dead {
                net.connect(leecher, seeder);
            }
            net.run_for(SECOND);
            let seeder = net.seeder(&sample);
            net.connect(leecher, seeder);
            assert!(net.complete(leecher, 26 * SECOND), "{hung} at {limit}: {:?}", net.hosts[leecher].progress());
        }
    }
}

/// Whoever gave much and is cut off for a moment is not taken for one that gives nothing.
#[test]
fn a_short_cut_does_not_put_a_seeder_behind_hung_ones() {
    for (hung, limit, chunk_size) in [(1, 256 * KIB, 32_768), (1, 64 * KIB, 8192), (8, 64 * KIB, 1024)] {
        let sample = sample(2 * limit, chunk_size);
        let mut net = Net::new();
        let leecher = leecher(&mut net, &sample, limit);
        let good = net.seeder(&sample);
        net.connect(leecher, good);
        net.run_for(5 * SECOND);
        let dead: Vec<usize> = (0..hung).map(|_| net.seeder(&sample)).collect();
        let (cut, hung) = (Rc::new(Cell::new(false)), dead.clone());
        let is_cut = Rc::clone(&cut);
        net.rule = Some(Box::new(move |_, from, _, bytes| {
            if is_cut.get() || (hung.contains(&from) && bytes.len() > 900) { Fate::Drop } else { Fate::Deliver }
        }));
        for seeder in dead {
            net.connect(leecher, seeder);
        }
        net.run_for(5 * SECOND);
        cut.set(true);
        net.run_for(1500 * MS);
        cut.set(false);
        net.run_for(5 * SECOND);
        let before = net.hosts[leecher].stats().content_bytes_received;
        net.run_for(10 * SECOND);
        let came = net.hosts[leecher].stats().content_bytes_received - before;
        assert!(came > 8 * limit, "{came} bytes in ten seconds at {limit}");
    }
}

/// Openings come to no channel: they may be forged, from ever new addresses.
#[test]
fn openings_of_strangers_do_not_count() {
    let limit = 128 * KIB;
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let leecher = leecher(&mut net, &sample, limit);
    let seeder = net.seeder(&sample);
    net.connect(leecher, seeder);
    let began = net.now;
    let mut number = 0_u32;
    while !net.hosts[leecher].complete && net.now - began < 60 * SECOND {
        for _ in 0..2 {
            number += 1;
            let mut opening = crate::raw::opening(&sample.metadata, number);
            // Keep-alives of another draft behind it: whatever makes it long.
            opening.resize(1400, 0);
            let address = SocketAddr::from(((0x0b00_0000 + number).to_be_bytes(), 6778));
            net.inject(leecher, address, &opening);
        }
        net.run_for(20 * MS);
        net.extra.clear();
    }
    let took = net.now - began;
    assert!(took < 11 * SECOND, "{took:?}");
}
