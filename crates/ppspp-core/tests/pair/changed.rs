//! Content that changes on disk while it is shared: no message of RFC 7574 withdraws a HAVE. What is intact arrives, and
//! who cannot give the rest is asked for it last.

use std::collections::VecDeque;
use std::time::Duration;

use ppspp_core::chunk::{ChunkRange, RangeSet};
use ppspp_core::wire::Message;
use ppspp_core::{Content, EndpointConfig, Instant, Order, Wanted};

use crate::net::{Fate, Link, Net, Sample};
use crate::script::Script;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const RTT: Duration = Duration::from_millis(20);
/// Bytes of a group.
const GROUP: usize = 16 * 1024;

fn run(start: u64, end: u64) -> ChunkRange {
    ChunkRange::new(start, end)
}

/// Has `host` fetch all in `order`.
fn wants(net: &mut Net, host: usize, sample: &Sample, order: Order) {
    let (ranges, now) = (RangeSet::from(sample.geometry().all()), net.now);
    let host = &mut net.hosts[host];
    host.endpoint.set_wanted(host.swarm, Wanted { ranges, order }, now).unwrap();
}

/// Overwrites bytes on the disk of `host`.
fn spoil(net: &mut Net, host: usize, bytes: std::ops::Range<usize>) {
    for byte in &mut net.hosts[host].disk.bytes[bytes] {
        *byte ^= 0xff;
    }
}

fn stored(net: &Net, host: usize) -> u64 {
    net.hosts[host].progress().unwrap().bytes_stored
}

/// How many chunks `host` was told have changed.
fn changed(net: &Net, host: usize) -> u64 {
    net.hosts[host].changed.iter().copied().collect::<RangeSet>().count()
}

fn sent(net: &Net) -> u64 {
    net.hosts.iter().map(|host| host.sent).sum()
}

#[test]
fn the_intact_rest_of_a_changed_content_arrives() {
    let sample = Sample::new(2 << 20);
    for order in [Order::InOrder, Order::Auto, Order::RarestFirst] {
        for parts in [[0..1, 0..0], [0..100_000, 0..0], [0..1 << 20, 0..0], [500_000..600_000, 1_000_000..1_000_001]] {
            let mut net = Net::new();
            let seeder = net.seeder(&sample);
            let leecher = net.leecher(&sample.metadata);
            wants(&mut net, leecher, &sample, order.clone());
            let mut groups = RangeSet::new();
            for part in &parts {
                spoil(&mut net, seeder, part.clone());
                groups.insert(run((part.start / GROUP) as u64, part.end.div_ceil(GROUP) as u64));
            }
            let intact = sample.bytes.len() as u64 - groups.count() * GROUP as u64;
            net.connect(leecher, seeder);
            let what = format!("{order:?}, {parts:?}");
            assert!(net.run(40 * SECOND, |net| stored(net, leecher) == intact), "{what}: {}", stored(&net, leecher));
            assert!(sent(&net) < 6000, "{what}: {} datagrams", sent(&net));
            let told = |net: &Net| changed(net, seeder);
            assert!(net.run(2000 * SECOND, |net| told(net) == groups.count() * 16), "{what}: {} are told", told(&net));
            assert_eq!((stored(&net, leecher), net.hosts[leecher].complete), (intact, false), "{what}");
            assert_eq!([seeder, leecher].map(|host| net.hosts[host].closed.len()), [0, 0], "{what}");
            // What nobody has is asked for every few seconds.
            let before = sent(&net);
            net.run_for(100 * SECOND);
            assert!(sent(&net) - before <= 100, "{what}: {} datagrams in vain", sent(&net) - before);
        }
    }
}

#[test]
fn what_changed_comes_from_another() {
    let sample = Sample::new(2 << 20);
    for order in [Order::InOrder, Order::Auto] {
        for late in [Duration::ZERO, 60 * SECOND] {
            let mut net = Net::new();
            let seeder = net.seeder(&sample);
            let other = net.seeder(&sample);
            let leecher = net.leecher(&sample.metadata);
            wants(&mut net, leecher, &sample, order.clone());
            spoil(&mut net, seeder, 0..100_000);
            spoil(&mut net, other, 1_000_000..2_000_000);
            net.connect(leecher, seeder);
            net.run_for(late);
            net.connect(leecher, other);
            net.fetches(leecher, &sample, 30 * SECOND);
            assert_eq!(net.hosts[leecher].closed, [], "{order:?}, {late:?}");
        }
    }
}

/// Who asks for what is not there any more hears that the seeder is, in no more bytes than it sent.
#[test]
fn a_request_for_what_changed_is_answered_with_a_keep_alive() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    spoil(&mut net, seeder, 0..100_000);
    let script = Script::opens(&mut net, seeder, &sample.metadata, 1, RTT);
    net.run_for(SECOND);
    script.hears(&mut net);
    for start in [0, 4, 20, 0] {
        script.say(&mut net, &[Message::Request(run(start, start + 16))]);
        net.run_for(100 * MS);
        let heard = script.hears(&mut net);
        assert!(heard.len() == 1 && heard[0].messages().is_empty(), "{} datagrams", heard.len());
    }
}

/// A seeder that does not say that it is there, as older ones, keeps its channel with HAVE and keep-alives.
#[test]
fn a_peer_is_asked_for_something_else_once_it_was_heard() {
    let sample = Sample::new(1 << 20);
    for heard in [false, true] {
        let mut net = Net::new();
        let leecher = net.leecher(&sample.metadata);
        wants(&mut net, leecher, &sample, Order::InOrder);
        let script = Script::opens(&mut net, leecher, &sample.metadata, 1, RTT);
        script.has_all(&mut net, &sample);
        let mut asked = RangeSet::new();
        for _ in 0..60 {
            net.run_for(500 * MS);
            asked.extend(script.summary(&mut net).requests);
            if heard {
                script.has_all(&mut net, &sample);
            }
        }
        if heard {
            assert!(asked.end() > 512 && asked.count() < 100, "{asked:?}");
        } else {
            assert_eq!(asked, RangeSet::from(run(0, 32)), "nothing is known of a peer that is not heard");
        }
    }
}

/// Loss is no proof: what did not come is asked for again after a while, although there is other work.
#[test]
fn nothing_is_crossed_off_for_good() {
    let sample = Sample::new(4 << 20);
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    wants(&mut net, leecher, &sample, Order::InOrder);
    let script = Script::opens(&mut net, leecher, &sample.metadata, 1, RTT);
    script.has_all(&mut net, &sample);
    let begin = net.now;
    let mut asked = VecDeque::new();
    let mut came_at = None;
    while !net.hosts[leecher].complete && net.now - begin < 100 * SECOND {
        for chunk in script.summary(&mut net).requested() {
            if !asked.contains(&chunk) && (chunk >= 16 || net.now - begin > 15 * SECOND) {
                asked.push_back(chunk);
            }
        }
        for chunk in asked.drain(..asked.len().min(8)) {
            script.gives(&mut net, &sample, chunk);
            came_at = came_at.or((chunk < 16).then_some(net.now - begin));
        }
        net.run_for(100 * MS);
    }
    assert!(net.hosts[leecher].complete, "{:?}", net.hosts[leecher].progress());
    let (came_at, took) = (came_at.unwrap(), net.now - begin);
    assert!(came_at < 40 * SECOND && took > 50 * SECOND, "{came_at:?} of {took:?}");
}

/// Announcements in more pieces than are kept apart: of what changed here and there the rest arrives as well.
#[test]
fn changes_all_over_leave_the_rest() {
    let sample = Sample::new(2 << 20);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let mut config = EndpointConfig::default();
    config.limits.availability_runs = 8;
    let leecher = net.add_with(config, sample.metadata.clone(), Content::Fetch, Vec::new());
    wants(&mut net, leecher, &sample, Order::InOrder);
    for group in (0..128).step_by(2) {
        spoil(&mut net, seeder, group * GROUP..group * GROUP + 1);
    }
    net.connect(leecher, seeder);
    assert!(net.run(200 * SECOND, |net| stored(net, leecher) == 1 << 20), "{}", stored(&net, leecher));
}

/// R1: without a length in the link, the size comes from whichever chunk is there.
#[test]
fn the_size_is_learnt_although_the_start_changed() {
    let sample = Sample::new(2 << 20).without_length();
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let leecher = net.leecher(&sample.metadata);
    spoil(&mut net, seeder, 0..100_000);
    net.connect(leecher, seeder);
    let intact = sample.bytes.len() as u64 - 7 * GROUP as u64;
    assert!(net.run(60 * SECOND, |net| stored(net, leecher) == intact), "{}", stored(&net, leecher));
}

/// On a path that loses much, nobody is taken to have less for long.
#[test]
fn loss_starves_no_chunk() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let leecher = net.leecher(&sample.metadata);
    wants(&mut net, leecher, &sample, Order::InOrder);
    let mut state = 1_u64;
    net.rule = Some(Box::new(move |_, _, _, _| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if (state >> 33).is_multiple_of(10) { Fate::Drop } else { Fate::Deliver }
    }));
    net.connect(leecher, seeder);
    net.fetches(leecher, &sample, 300 * SECOND);
}

// A chunk that gets lost twice is not put off: whoever reads in order waits for it.
#[test]
fn loss_holds_the_head_up_for_seconds_at_most() {
    let sample = Sample::new(6 << 20);
    for (rate, per_mille) in [(200_000, 30), (200_000, 50), (10_000, 20)] {
        let mut net = Net::new();
        net.latency = 50 * MS;
        let seeder = net.seeder(&sample);
        let leecher = net.leecher(&sample.metadata);
        wants(&mut net, leecher, &sample, Order::InOrder);
        net.links.insert(seeder, Link::new(rate, rate, SECOND));
        let mut state = 7_u64;
        net.rule = Some(Box::new(move |_, _, _, _| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if (state >> 33) % 1000 < per_mille { Fate::Drop } else { Fate::Deliver }
        }));
        net.connect(leecher, seeder);
        let (mut head, mut since, mut longest) = (0, net.now, Duration::ZERO);
        while !net.hosts[leecher].complete && net.now.saturating_since(Instant::ZERO) < 600 * SECOND {
            net.run_for(200 * MS);
            let bytes = &net.hosts[leecher].disk.bytes;
            let arrived = sample.bytes[head..].chunks(GROUP).zip(bytes[head.min(bytes.len())..].chunks(GROUP));
            let groups = arrived.take_while(|(right, here)| right == here).count();
            longest = longest.max(net.now - since);
            if groups > 0 {
                (head, since) = (head + groups * GROUP, net.now);
            }
        }
        assert!(longest < 12 * SECOND, "{rate} bytes per second, {per_mille} in 1000 lost: {longest:?}");
    }
}
