//! Rate limits: within 5 % over any ten seconds after the first five, in both directions, at every scope.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use ppspp_core::chunk::ChunkAddressing;
use ppspp_core::integrity::HashFunction;
use ppspp_core::{ByteRate, Content, EndpointConfig, PeerSource, Rates, Scope, SwarmConfig, SwarmId};

use crate::net::{Link, Net, Sample};
use crate::script::Script;

const KIB: u64 = 1024;
const LIMITS: [u64; 4] = [64 * KIB, 256 * KIB, KIB * KIB, 10 * KIB * KIB];
const STEP: Duration = Duration::from_millis(100);
const SETTLE: Duration = Duration::from_secs(5);
const WINDOW: Duration = Duration::from_secs(10);

const fn up(rate: u64) -> Rates {
    Rates { up: ByteRate::new(rate), down: None }
}

const fn down(rate: u64) -> Rates {
    Rates { up: None, down: ByteRate::new(rate) }
}

/// Content for `time` at `rate`, of zeros: their pages take no memory while they are only read. Its chunks are the larger
/// the higher the rate, which is the harder to keep to and the sooner done. SHA-1 is fast in a debug build as well: it
/// comes from a dependency.
fn sample(rate: u64, time: Duration) -> Sample {
    let len = rate * (SETTLE + time).as_secs() * 11 / 10;
    let chunk_size = if rate > KIB * KIB { 8192 } else { 1024 };
    Sample::of(vec![0; len as usize], HashFunction::Sha1, ChunkAddressing::Chunk32, chunk_size)
}

fn seeder(net: &mut Net, sample: &Sample) -> usize {
    net.add(sample.metadata.clone(), Content::Seed { tree: sample.tree.clone() }, vec![0; sample.bytes.len()])
}

fn leecher(net: &mut Net, sample: &Sample) -> usize {
    let leecher = net.leecher(&sample.metadata);
    net.hosts[leecher].disk.bytes = vec![0; sample.bytes.len()];
    net.hosts[leecher].disk.discard = true;
    leecher
}

/// Bytes in some direction, so far.
type Meter = fn(&Net, usize) -> u64;

fn sent(net: &Net, host: usize) -> u64 {
    net.hosts[host].endpoint.stats().bytes_sent
}

fn received(net: &Net, host: usize) -> u64 {
    net.hosts[host].endpoint.stats().bytes_received
}

fn set(net: &mut Net, host: usize, scope: Scope, rates: Rates) {
    let now = net.local(host);
    net.hosts[host].endpoint.set_rates(scope, rates, now);
}

/// Lets time pass until every ten seconds of `time` after the first five were measured.
#[track_caller]
fn holds(net: &mut Net, host: usize, meter: Meter, limit: u64, time: Duration) {
    holds_by(net, |net| meter(net, host), limit, time);
}

#[track_caller]
fn holds_by(net: &mut Net, meter: impl Fn(&Net) -> u64, limit: u64, time: Duration) {
    net.run_for(SETTLE);
    let mut samples = VecDeque::from([meter(net)]);
    let mut windows = 0;
    let until = net.now + time;
    let wanted = limit * WINDOW.as_secs();
    while net.now < until {
        net.run_for(STEP);
        let now = meter(net);
        samples.push_back(now);
        if samples.len() > (WINDOW.as_millis() / STEP.as_millis()) as usize {
            let moved = now - samples.pop_front().unwrap();
            assert!(moved.abs_diff(wanted) * 20 <= wanted, "{moved} bytes in ten seconds, {wanted} are the limit");
            windows += 1;
        }
    }
    assert!(windows > 0);
}

/// The windows that are looked at: more of them where they cost little.
fn time(limit: u64) -> Duration {
    if limit > KIB * KIB { Duration::from_secs(12) } else { Duration::from_secs(30) }
}

#[test]
fn what_an_endpoint_sends_to_one_peer() {
    for limit in LIMITS {
        let sample = sample(limit, time(limit));
        let mut net = Net::new();
        let seeder = seeder(&mut net, &sample);
        let leecher = leecher(&mut net, &sample);
        set(&mut net, seeder, Scope::Endpoint, up(limit));
        net.connect(leecher, seeder);
        holds(&mut net, seeder, sent, limit, time(limit));
    }
}

/// What comes is acknowledged: 20 MiB in a second with twice as much as may be sent.
#[test]
fn what_a_leecher_sends_that_only_acknowledges() {
    let (limit, time) = (64 * KIB, Duration::from_secs(12));
    let sample = sample(KIB * KIB, 13 * time);
    for own in [false, true] {
        let mut net = Net::new();
        let (seeder, leecher) = (seeder(&mut net, &sample), leecher(&mut net, &sample));
        net.links.insert(seeder, Link::new(20 << 20, 1 << 20, Duration::from_millis(1)));
        let scope = if own { Scope::Swarm(net.hosts[leecher].swarm) } else { Scope::Endpoint };
        set(&mut net, leecher, scope, up(limit));
        net.connect(leecher, seeder);
        holds(&mut net, leecher, sent, limit, time);
        assert!(!net.hosts[leecher].complete);
    }
}

/// Below what limits are promised to hold within 5 %, they hold on average.
#[test]
fn what_a_leecher_sends_under_a_slow_limit() {
    for limit in [KIB, 10 * KIB] {
        let sample = sample(KIB * KIB, Duration::from_secs(300));
        let mut net = Net::new();
        let (seeder, leecher) = (seeder(&mut net, &sample), leecher(&mut net, &sample));
        net.links.insert(seeder, Link::new(20 << 20, 1 << 20, Duration::from_millis(1)));
        set(&mut net, leecher, Scope::Endpoint, up(limit));
        net.connect(leecher, seeder);
        net.run_for(Duration::from_secs(150));
        let before = sent(&net, leecher);
        net.run_for(Duration::from_secs(150));
        let moved = sent(&net, leecher) - before;
        assert!(!net.hosts[leecher].complete && moved < 150 * limit * 21 / 20, "{} B/s, {limit} allowed", moved / 150);
    }
}

#[test]
fn what_an_endpoint_receives_from_one_peer() {
    for limit in LIMITS {
        let sample = sample(limit, time(limit));
        let mut net = Net::new();
        let seeder = seeder(&mut net, &sample);
        let leecher = leecher(&mut net, &sample);
        set(&mut net, leecher, Scope::Endpoint, down(limit));
        net.connect(leecher, seeder);
        holds(&mut net, leecher, received, limit, time(limit));
    }
}

#[test]
fn what_an_endpoint_sends_to_many_peers() {
    for limit in LIMITS {
        let sample = sample(limit, time(limit));
        let mut net = Net::new();
        let seeder = seeder(&mut net, &sample);
        set(&mut net, seeder, Scope::Endpoint, up(limit));
        for _ in 0..8 {
            let leecher = leecher(&mut net, &sample);
            net.connect(leecher, seeder);
        }
        holds(&mut net, seeder, sent, limit, time(limit));
    }
}

#[test]
fn what_an_endpoint_receives_from_many_peers() {
    for limit in LIMITS {
        let sample = sample(limit, time(limit));
        let mut net = Net::new();
        let leecher = leecher(&mut net, &sample);
        set(&mut net, leecher, Scope::Endpoint, down(limit));
        for _ in 0..8 {
            let seeder = seeder(&mut net, &sample);
            net.connect(leecher, seeder);
        }
        holds(&mut net, leecher, received, limit, time(limit));
    }
}

#[test]
fn limits_of_the_configuration_hold_from_the_start() {
    let sample = sample(256 * KIB, Duration::from_secs(15));
    let mut net = Net::new();
    let seeder = seeder(&mut net, &sample);
    let mut config = EndpointConfig::default();
    config.rates = down(256 * KIB);
    let leecher = net.add_with(config, sample.metadata.clone(), Content::Fetch, vec![0; sample.bytes.len()]);
    net.connect(leecher, seeder);
    holds(&mut net, leecher, received, 256 * KIB, Duration::from_secs(15));
}

#[test]
fn a_limit_can_be_changed_and_lifted() {
    for (meter, rates, limited) in [(sent as Meter, up as fn(u64) -> Rates, 0), (received, down, 1)] {
        let sample = sample(1024 * KIB, Duration::from_secs(60));
        let mut net = Net::new();
        seeder(&mut net, &sample);
        leecher(&mut net, &sample);
        net.connect(1, 0);
        for limit in [1024 * KIB, 64 * KIB, 512 * KIB] {
            set(&mut net, limited, Scope::Endpoint, rates(limit));
            holds(&mut net, limited, meter, limit, Duration::from_secs(15));
        }
        set(&mut net, limited, Scope::Endpoint, Rates::default());
        let before = meter(&net, limited);
        net.run_for(SETTLE);
        assert!(meter(&net, limited) - before > 10 * 1024 * KIB, "nothing holds it back");
    }
}

/// A host in two swarms, and at the other end of each another host; `serves` tells which end has the content.
fn two_swarms(serves: bool) -> (Net, usize, [SwarmId; 2]) {
    let mut net = Net::new();
    // Two lengths make two contents.
    let samples = [20, 21].map(|seconds| sample(256 * KIB, Duration::from_secs(seconds)));
    let end = |net: &mut Net, sample: &Sample, serves| if serves { seeder(net, sample) } else { leecher(net, sample) };
    let host = end(&mut net, &samples[1], serves);
    let Sample { tree, metadata, .. } = samples[0].clone();
    let content = if serves { Content::Seed { tree } } else { Content::Fetch };
    let now = net.local(host);
    let first = net.hosts[host].endpoint.join(SwarmConfig { metadata, content }, now).unwrap();
    let swarms = [first, net.hosts[host].swarm];
    for (sample, swarm) in samples.iter().zip(swarms) {
        let other = end(&mut net, sample, !serves);
        let address = net.hosts[other].address;
        net.hosts[host].endpoint.add_peer(swarm, address, PeerSource::Trusted, now).unwrap();
    }
    (net, host, swarms)
}

fn moved(net: &Net, host: usize, swarm: SwarmId) -> u64 {
    let traffic = net.hosts[host].endpoint.swarm(swarm).unwrap().traffic();
    traffic.sent.bytes.max(traffic.received.bytes)
}

// Several swarms share the endpoint's limit.
#[test]
fn what_several_swarms_move_together() {
    for (serves, meter, rates) in [(true, sent as Meter, up as fn(u64) -> Rates), (false, received, down)] {
        let (mut net, host, swarms) = two_swarms(serves);
        set(&mut net, host, Scope::Endpoint, rates(256 * KIB));
        holds(&mut net, host, meter, 256 * KIB, Duration::from_secs(12));
        let [first, second] = swarms.map(|swarm| moved(&net, host, swarm));
        assert!(first.abs_diff(second) * 10 <= first, "{first} and {second}");
    }
}

// A swarm at its own limit leaves the rest of the endpoint's to the other.
#[test]
fn what_a_swarm_moves_within_its_endpoint() {
    for (serves, meter, rates) in [(true, sent as Meter, up as fn(u64) -> Rates), (false, received, down)] {
        let (mut net, host, swarms) = two_swarms(serves);
        set(&mut net, host, Scope::Endpoint, rates(256 * KIB));
        set(&mut net, host, Scope::Swarm(swarms[0]), rates(64 * KIB));
        holds(&mut net, host, meter, 256 * KIB, Duration::from_secs(12));
        let (mut net, host, swarms) = two_swarms(serves);
        set(&mut net, host, Scope::Endpoint, rates(256 * KIB));
        set(&mut net, host, Scope::Swarm(swarms[0]), rates(64 * KIB));
        holds_by(&mut net, |net| moved(net, host, swarms[0]), 64 * KIB, Duration::from_secs(12));
    }
}

/// Whoever is no peer cannot stop a download by filling its limit.
#[test]
fn what_comes_to_no_channel_does_not_count() {
    let (rate, sample) = (128 << 10, Sample::new(1 << 20));
    let mut net = Net::new();
    let mut config = EndpointConfig::default();
    config.rates = down(rate);
    let leecher = net.add_with(config, sample.metadata.clone(), Content::Fetch, Vec::new());
    let seeder = net.seeder(&sample);
    net.connect(leecher, seeder);
    let began = net.now;
    while !net.hosts[leecher].complete && net.now - began < Duration::from_secs(60) {
        // Twice the limit.
        for garbage in [&[0xa5; 1400][..], &[0; 1400], &[0xa5; 3], &[0xa5; 1400], &[0xa5; 1400]] {
            net.inject(leecher, SocketAddr::from(([203, 0, 113, 9], 9)), garbage);
        }
        net.run_for(Duration::from_millis(20));
    }
    let took = net.now - began;
    assert!(took > Duration::from_secs(7) && took < Duration::from_secs(10), "{took:?}");
}

/// Peers that announce everything and give nothing neither use up a download limit nor let more of it pass afterwards.
#[test]
fn a_download_limit_holds_among_those_who_give_nothing() {
    for (boasters, limit) in [(5, 64 * KIB), (60, 64 * KIB), (20, 256 * KIB), (60, 256 * KIB), (60, KIB * KIB)] {
        let sample = Sample::new((limit * 70) as usize);
        let mut net = Net::new();
        let (seeder, leecher) = (net.seeder(&sample), leecher(&mut net, &sample));
        set(&mut net, leecher, Scope::Endpoint, down(limit));
        net.connect(leecher, seeder);
        net.run_for(Duration::from_secs(15));
        let scripts: Vec<Script> = (0..boasters)
            .map(|number| Script::opens(&mut net, leecher, &sample.metadata, number, Duration::from_millis(1)))
            .collect();
        for script in &scripts {
            script.has_all(&mut net, &sample);
        }
        // All that comes counts, the HAVEs of so many too.
        let mut marks = vec![received(&net, leecher)];
        for tenth in 0..400 {
            if tenth % 30 == 0 {
                for script in &scripts {
                    script.say(&mut net, &[]);
                }
            }
            net.run_for(STEP);
            net.extra.clear();
            marks.push(received(&net, leecher));
        }
        let wanted = limit * WINDOW.as_secs();
        for (at, window) in marks.windows(101).enumerate() {
            let moved = window[100] - window[0];
            assert!(moved * 20 <= wanted * 21, "{moved} bytes in ten seconds after {at} tenths, {boasters}, {limit}");
            assert!(moved * 100 >= wanted * 90, "{moved} bytes in ten seconds after {at} tenths, {boasters}, {limit}");
        }
    }
}
