//! Storage that is slow, lies or was interrupted, and peers that hold chunks up (R2, R16, R19, R22).

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use ppspp_core::chunk::{ChunkIndex, ChunkRange, RangeSet};
use ppspp_core::wire::{Message, Messages, split_channel};
use ppspp_core::{
    BatchLimit, ByteRate, Checkpoint, Content, DatagramMeta, EndpointConfig, Event, Order, Rates, Scope, Wanted,
};

use crate::net::{Net, Sample};
use crate::script::{Script, Summary};

const MS: Duration = Duration::from_millis(1);
const RTT: Duration = Duration::from_millis(20);

fn run(start: u64, end: u64) -> ChunkRange {
    ChunkRange::new(start, end)
}

/// Acknowledges whatever comes until nothing has come for a while; returns the chunks.
fn take_all(net: &mut Net, script: &Script, first: Summary) -> Vec<u64> {
    let (mut all, mut next) = (Vec::new(), first.data);
    for _ in 0..100 {
        let acks: Vec<_> = next
            .iter()
            .map(|&chunk| Message::Ack { range: ChunkRange::single(ChunkIndex::new(chunk)), delay: 10_000 })
            .collect();
        all.append(&mut next);
        script.say(net, &acks);
        net.run_for(RTT / 2);
        next = script.summary(net).data;
    }
    all
}

/// R19 between endpoints: a driver that is slow to store slows the transfer down and loses nothing.
#[test]
fn a_slow_disk_is_waited_for() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let mut config = EndpointConfig::default();
    config.limits.unconfirmed_bytes = 64 * 1024;
    let leecher = net.add_with(config, sample.metadata.clone(), Content::Fetch, Vec::new());
    net.connect(leecher, seeder);
    for _ in 0..400 {
        net.hosts[leecher].disk.hold_writes = true;
        net.run_for(50 * MS);
        let held: u64 = net.hosts[leecher].disk.held.iter().map(|(_, range)| range.count() * 1024).sum();
        assert!(held <= 65 * 1024, "{held} bytes are unconfirmed");
        let now = net.now;
        net.hosts[leecher].release_writes(now);
    }
    net.fetches(leecher, &sample, Duration::from_secs(60));
}

/// R2: no more groups than allowed are begun.
#[test]
fn open_groups_are_bounded() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let mut config = EndpointConfig::default();
    config.limits.open_groups = 1;
    let leecher = net.add_with(config, sample.metadata.clone(), Content::Fetch, Vec::new());
    let (script, _) = Script::answers(&mut net, leecher, &sample.metadata, 1, RTT);
    script.has_all(&mut net, &sample);
    assert_eq!(script.summary(&mut net).requests, [run(0, 16)]);
    let seeder = net.seeder(&sample);
    net.connect(leecher, seeder);
    net.fetches(leecher, &sample, Duration::from_secs(60));
}

/// R2: groups that wait for storage alone count as begun, and what ends their wait lets others begin at once.
#[test]
fn a_slow_disk_at_the_bound_on_open_groups_is_waited_for() {
    let sample = Sample::new(1 << 20);
    for open_groups in [1, 2, 3] {
        let mut net = Net::new();
        let seeders = [(); 2].map(|()| net.seeder(&sample));
        let mut config = EndpointConfig::default();
        config.limits.open_groups = open_groups;
        let leecher = net.add_with(config, sample.metadata.clone(), Content::Fetch, Vec::new());
        for seeder in seeders {
            net.connect(leecher, seeder);
        }
        let mut rounds = 0;
        while !net.hosts[leecher].complete {
            net.hosts[leecher].disk.hold_writes = true;
            net.run_for(10 * RTT);
            let now = net.now;
            net.hosts[leecher].release_writes(now);
            rounds += 1;
            assert!(rounds < 100, "{:?} with {open_groups} groups", net.hosts[leecher].progress());
        }
        // Each chunk that came was one that could be kept.
        let sent: u64 = seeders.iter().map(|&seeder| net.hosts[seeder].stats().chunks_sent).sum();
        assert!(sent <= 1024 + 16, "{sent} chunks were sent with {open_groups} groups");
    }
}

/// A leecher that may have so many groups open, with a seeder.
fn bounded(sample: &Sample, open_groups: usize) -> (Net, usize) {
    let mut net = Net::new();
    let seeder = net.seeder(sample);
    let mut config = EndpointConfig::default();
    config.limits.open_groups = open_groups;
    let leecher = net.add_with(config, sample.metadata.clone(), Content::Fetch, Vec::new());
    net.connect(leecher, seeder);
    (net, leecher)
}

/// R2, R13: groups that could not be stored are open and empty; they count towards the bound, and are fetched again.
#[test]
fn a_failing_disk_at_the_bound_on_open_groups_is_survived() {
    let sample = Sample::new(256 << 10);
    for open_groups in [1, 2, 3] {
        let (mut net, leecher) = bounded(&sample, open_groups);
        for _ in 0..3 {
            net.hosts[leecher].disk.fail_writes = true;
            net.run_for(5 * RTT);
            // Groups after these are begun meanwhile.
            net.hosts[leecher].disk.fail_writes = false;
            net.run_for(RTT);
        }
        net.fetches(leecher, &sample, Duration::from_secs(5));
    }
}

/// R2: groups of which nothing could be stored, and nothing is wanted any more, keep no room from those that are wanted.
#[test]
fn what_could_not_be_stored_and_is_not_wanted_holds_nothing_up() {
    let sample = Sample::new(256 << 10);
    for open_groups in [1, 2, 3] {
        let (mut net, leecher) = bounded(&sample, open_groups);
        net.hosts[leecher].disk.fail_writes = true;
        net.run_for(10 * RTT);
        net.hosts[leecher].disk.fail_writes = false;
        let now = net.local(leecher);
        let host = &mut net.hosts[leecher];
        let second_half = Wanted { ranges: RangeSet::from(run(128, 256)), order: Order::InOrder };
        host.endpoint.set_wanted(host.swarm, second_half, now).unwrap();
        assert!(net.complete(leecher, Duration::from_secs(10)), "{open_groups}: {:?}", net.hosts[leecher].progress());
        // What was dropped is fetched like any other once it is wanted again.
        let now = net.local(leecher);
        let host = &mut net.hosts[leecher];
        host.complete = false;
        let all = Wanted { ranges: RangeSet::from(run(0, 256)), order: Order::InOrder };
        host.endpoint.set_wanted(host.swarm, all, now).unwrap();
        net.fetches(leecher, &sample, Duration::from_secs(10));
    }
}

/// What changed on a leecher's disk is not sent either, and fetched again, hashes included.
#[test]
fn what_changed_on_a_leechers_disk_is_fetched_again() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let leecher = net.leecher(&sample.metadata);
    net.connect(leecher, seeder);
    assert!(net.run(Duration::from_secs(20), |net| net.hosts[leecher].progress().unwrap().bytes_stored >= 200 * 1024));
    net.keep_log = true;
    net.hosts[leecher].disk.bytes[33 * 1024] ^= 1;
    net.hosts[leecher].disk.bytes[5] ^= 1;
    let script = Script::opens(&mut net, leecher, &sample.metadata, 1, RTT);
    script.say(&mut net, &[Message::Request(run(0, 64))]);
    let sent = script.summary(&mut net);
    // R13: on the same channel, whose other end had taken the hashes for known.
    net.fetches(leecher, &sample, Duration::from_secs(3));
    assert_eq!(net.hosts[leecher].changed, [run(0, 16), run(32, 48)]);
    let sent = take_all(&mut net, &script, sent);
    assert!(sent.contains(&20) && sent.contains(&3), "{sent:?}");
    let told = net.log.iter().filter(|(from, to, _)| *from == leecher && *to == usize::MAX);
    for (.., datagram) in told {
        let (_, body) = split_channel(datagram).unwrap();
        for message in Messages::new(body, &script.format).map(Result::unwrap) {
            if let Message::Data { chunk, payload, .. } = message {
                assert!(payload == sample.chunk(chunk.value()), "wrong bytes of chunk {chunk:?} were sent");
            }
        }
    }
}

/// R16: what a silent peer was asked for goes to others; it is asked for one chunk at a time, to find out.
#[test]
fn a_silent_peer_holds_nothing_up() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    let silent: Vec<Script> = (1..=5)
        .map(|number| {
            let (script, _) = Script::answers(&mut net, leecher, &sample.metadata, number, RTT);
            script.has_all(&mut net, &sample);
            assert_eq!(script.summary(&mut net).requested().len(), 32);
            script
        })
        .collect();
    let seeder = net.seeder(&sample);
    net.connect(leecher, seeder);
    net.fetches(leecher, &sample, Duration::from_secs(5));
    for script in silent {
        assert!(script.summary(&mut net).requested().len() <= 32 + 4);
    }
}

/// R22: whenever a download is cut short, it is resumed from what was saved, never with a wrong byte.
#[test]
fn a_download_is_resumed_from_any_point() {
    let sample = Sample::new(150_000);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let leecher = net.leecher(&sample.metadata);
    net.connect(leecher, seeder);
    let mut pages = BTreeMap::new();
    let mut points = 0;
    while !net.hosts[leecher].complete {
        net.run_for(5 * MS);
        if net.hosts[leecher].size.is_none() {
            continue;
        }
        let mut saved: Checkpoint = net.hosts[leecher].checkpoint();
        pages.extend(std::mem::take(&mut saved.pages));
        saved.pages = pages.iter().map(|(page, bytes): (&u64, &Vec<u8>)| (*page, bytes.clone())).collect();
        if saved.peaks.is_empty() {
            continue;
        }
        points += 1;
        let mut bytes = net.hosts[leecher].disk.bytes.clone();
        // At every second point, a byte of what was stored is not what it was.
        let stored = saved.stored.count();
        let spoilt = points % 2 == 0 && stored > 0;
        if spoilt {
            let run = saved.stored.runs().next().unwrap();
            bytes[(run.end() * 1024 - 7) as usize] ^= 0x10;
        }
        let mut later = Net::new();
        let seeder = later.seeder(&sample);
        let resumed = later.resumed(&sample.metadata, &saved, bytes);
        later.hosts[resumed].truth = sample.bytes.clone();
        later.connect(resumed, seeder);
        later.fetches(resumed, &sample, Duration::from_secs(30));
        assert_eq!(later.hosts[resumed].changed.is_empty(), !spoilt);
        let fetched = later.hosts[resumed].stats().chunks_received;
        assert!(fetched <= 147 - stored + if spoilt { 16 } else { 0 }, "{fetched} fetched with {stored} stored");
    }
    assert!(points > 10, "{points} points");
}

/// A cache too small for what leaves and what follows it: both are read in turn, neither without end. Found by the
/// simulator's seed 30.
#[test]
fn a_cache_of_one_group_serves_several_peers() {
    let sample = Sample::new(512 << 10);
    for cached_groups in [1, 2, 3] {
        let mut net = Net::new();
        let mut config = EndpointConfig::default();
        config.limits.cached_groups = cached_groups;
        let content = Content::Seed { tree: sample.tree.clone() };
        let seeder = net.add_with(config, sample.metadata.clone(), content, sample.bytes.clone());
        let leechers = [(); 3].map(|()| net.leecher(&sample.metadata));
        for leecher in leechers {
            net.connect(leecher, seeder);
        }
        for leecher in leechers {
            net.fetches(leecher, &sample, Duration::from_secs(60));
        }
    }
}

/// What one peer alone lacked and has is of no more use: its memory is used again for what comes next. Who comes later
/// has it read again.
#[test]
fn what_nobody_else_lacks_is_not_kept() {
    let sample = Sample::new(2 << 20);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let mut reads = Vec::new();
    for _ in 0..2 {
        let leecher = net.leecher(&sample.metadata);
        net.connect(leecher, seeder);
        net.fetches(leecher, &sample, Duration::from_secs(60));
        reads.push(net.hosts[seeder].reads());
    }
    assert!(reads[0] <= 40, "{reads:?}: 2 MiB, read once");
    assert!((reads[0] * 3 / 2..=80).contains(&reads[1]), "{reads:?}: most of it is read again, and once");
}

/// To serve another copy, nobody hashes again what did not change: neither a seeder what it served to several before, nor
/// a leecher what it verified when it came, together or chunk by chunk from two. A minute after the last use it is
/// forgotten.
#[test]
fn what_did_not_change_is_not_hashed_again() {
    let sample = Sample::new((1 << 20) + 700);
    let mut net = Net::new();
    let mut config = EndpointConfig::default();
    // What is served, is read.
    config.limits.cached_groups = 1;
    let content = Content::Seed { tree: sample.tree.clone() };
    let seeder = net.add_with(config.clone(), sample.metadata.clone(), content, sample.bytes.clone());
    let leechers = [(); 3].map(|()| net.add_with(config.clone(), sample.metadata.clone(), Content::Fetch, Vec::new()));
    for (index, leecher) in leechers.into_iter().enumerate() {
        net.connect(leecher, seeder);
        for &other in &leechers[..index] {
            net.connect(leecher, other);
        }
    }
    for leecher in leechers {
        net.fetches(leecher, &sample, Duration::from_secs(20));
    }
    for forgotten in [false, true] {
        for (host, number) in [(seeder, 1), (leechers[0], 2), (leechers[1], 3)] {
            let counts = |net: &Net| {
                let stats = net.hosts[host].endpoint.stats();
                (stats.groups_served, stats.groups_recalled)
            };
            let number = number + 10 * u8::from(forgotten);
            let script = Script::opens(&mut net, host, &sample.metadata, number, RTT);
            let before = counts(&net);
            script.say(&mut net, &[Message::Request(run(0, 1025))]);
            let summary = script.summary(&mut net);
            let sent = take_all(&mut net, &script, summary);
            assert_eq!(sent.iter().collect::<BTreeSet<_>>().len(), 1025);
            let after = counts(&net);
            let (served, recalled) = (after.0 - before.0, after.1 - before.1);
            assert!(served >= 65, "host {host}: {served}");
            // The seeder finds out that it serves several a moment after it began, and a leecher remembers no group that
            // went to storage in parts.
            let least = if host == seeder { served * 3 / 4 } else { served * 9 / 10 };
            assert!(if forgotten { recalled == 0 } else { recalled >= least }, "host {host}: {recalled} of {served}");
        }
        net.run_for(Duration::from_secs(90));
    }
}

/// What was served once, is remembered, and changed on disk since, is not sent.
#[test]
fn what_changed_since_it_was_served_is_not_sent() {
    let sample = Sample::new(256 << 10);
    let mut net = Net::new();
    let mut config = EndpointConfig::default();
    config.limits.cached_groups = 1;
    let content = Content::Seed { tree: sample.tree.clone() };
    let seeder = net.add_with(config, sample.metadata.clone(), content, sample.bytes.clone());
    let leechers = [(); 2].map(|()| net.leecher(&sample.metadata));
    for leecher in leechers {
        net.connect(leecher, seeder);
    }
    for leecher in leechers {
        net.fetches(leecher, &sample, Duration::from_secs(20));
    }
    let script = Script::opens(&mut net, seeder, &sample.metadata, 1, RTT);
    let remembered = (0..15).find(|group| {
        let before = net.hosts[seeder].endpoint.stats().groups_recalled;
        script.say(&mut net, &[Message::Request(run(16 * group, 16 * group + 16))]);
        let summary = script.summary(&mut net);
        take_all(&mut net, &script, summary);
        net.hosts[seeder].endpoint.stats().groups_recalled > before
    });
    let group = remembered.expect("one of fifteen is remembered");
    let changed = run(16 * group, 16 * group + 16);
    net.hosts[seeder].disk.bytes[(changed.start() << 10) as usize + 5000] ^= 1;
    // The next group takes the place of this one in the cache.
    let script = Script::opens(&mut net, seeder, &sample.metadata, 2, RTT);
    for asked in [run(changed.end(), 256), changed] {
        script.say(&mut net, &[Message::Request(asked)]);
        let summary = script.summary(&mut net);
        let sent: BTreeSet<u64> = take_all(&mut net, &script, summary).into_iter().collect();
        let expected = if asked == changed { BTreeSet::new() } else { (changed.end()..256).collect() };
        assert_eq!(sent, expected);
    }
    assert_eq!(net.hosts[seeder].changed, [changed]);
}

/// What a peer says it has is kept while it is about to be sent all the same: otherwise it would be read without end.
#[test]
fn what_is_asked_for_and_acknowledged_at_once_is_read_once() {
    let sample = Sample::new(256 << 10);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let script = Script::opens(&mut net, seeder, &sample.metadata, 1, RTT);
    let all = run(0, 256);
    script.say(&mut net, &[Message::Request(all), Message::Ack { range: all, delay: 10_000 }]);
    net.run_for(RTT);
    let first = script.summary(&mut net);
    let sent = take_all(&mut net, &script, first);
    assert_eq!(sent.iter().collect::<BTreeSet<_>>().len(), 256, "{sent:?}");
    assert!(net.hosts[seeder].reads() <= 5, "{} reads of 256 KiB", net.hosts[seeder].reads());
}

/// R13: what changed on disk is fetched again from whoever is there, hashes included, although that peer never sent it
/// and knows from HAVE that it was here.
#[test]
fn what_was_announced_and_lost_is_fetched_from_another() {
    let sample = Sample::new(512 << 10);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let mut config = EndpointConfig::default();
    // What it serves, it reads again.
    config.limits.cached_groups = 1;
    let leecher = net.add_with(config, sample.metadata.clone(), Content::Fetch, Vec::new());
    net.connect(leecher, seeder);
    // The other holds a channel to the seeder back until the leecher has half of it.
    let other = net.leecher(&sample.metadata);
    let now = net.now;
    let slow = Rates { up: ByteRate::new(64 << 10), down: None };
    net.hosts[seeder].endpoint.set_rates(Scope::Endpoint, slow, now);
    assert!(net.run(Duration::from_secs(60), |net| net.hosts[leecher].progress().unwrap().bytes_stored >= 256 << 10));
    let script = Script::opens(&mut net, leecher, &sample.metadata, 1, RTT);
    let source = net.seeder(&sample);
    // It has it all before the leecher has it from there.
    net.hosts[other].endpoint.set_rates(Scope::Endpoint, slow, net.now);
    net.connect(other, source);
    net.connect(other, leecher);
    net.fetches(other, &sample, Duration::from_secs(20));
    net.hosts[other].endpoint.set_rates(Scope::Endpoint, Rates::default(), net.now);
    assert!(!net.hosts[leecher].complete, "it is still fetching");
    let first = net.hosts[leecher].endpoint.swarm(net.hosts[leecher].swarm).unwrap().has_stored(run(0, 16));
    assert!(first);
    for gone in [seeder, source] {
        let (swarm, now) = (net.hosts[gone].swarm, net.now);
        net.hosts[gone].endpoint.leave(swarm, now);
    }
    net.hosts[leecher].disk.bytes[5] ^= 1;
    script.say(&mut net, &[Message::Request(run(0, 16))]);
    net.fetches(leecher, &sample, Duration::from_secs(5));
    assert_eq!(net.hosts[leecher].changed, [run(0, 16)]);
}

/// R13: what could not be stored is fetched again, but not as fast as the network brings it. Found by the simulator's
/// seed 69, a full disk.
#[test]
fn a_disk_that_stays_full_does_not_keep_the_network_busy() {
    let sample = Sample::new(512 << 10);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let leecher = net.leecher(&sample.metadata);
    net.hosts[leecher].disk.fail_writes = true;
    net.connect(leecher, seeder);
    net.run_for(Duration::from_secs(10));
    let sent = net.hosts[seeder].endpoint.swarm(net.hosts[seeder].swarm).unwrap().stats().content_bytes_sent;
    assert!(sent > 0 && sent <= 12 * (512 << 10), "{sent} bytes in ten seconds");
    net.hosts[leecher].disk.fail_writes = false;
    net.fetches(leecher, &sample, Duration::from_secs(10));
}

/// Some chunks of the first group are stored; another peer asks, and a read begins. The `rest` comes before it ends, and is
/// on disk only later if the disk is to `hold` it.
fn read_in_between(
    there: impl Iterator<Item = u64>,
    rest: impl Iterator<Item = u64>,
    hold: bool,
) -> (Net, usize, Sample) {
    let sample = Sample::new(64 << 10);
    let mut net = Net::new();
    let mut config = EndpointConfig::default();
    if hold {
        config.limits.unconfirmed_bytes = 8 << 10;
    }
    let leecher = net.add_with(config, sample.metadata.clone(), Content::Fetch, Vec::new());
    let (seed, _) = Script::answers(&mut net, leecher, &sample.metadata, 1, RTT);
    seed.has_all(&mut net, &sample);
    for chunk in there {
        seed.gives(&mut net, &sample, chunk);
    }
    net.run_for(1100 * MS);
    let other = Script::opens(&mut net, leecher, &sample.metadata, 2, RTT);
    net.drain(leecher);
    let now = net.now;
    let ask = other.datagram(other.remote, &[Message::Request(run(0, 1))]);
    net.hosts[leecher].endpoint.handle_datagram(now, DatagramMeta::from_remote(other.address), &ask);
    let (mut read, mut buf) = (None, Vec::new());
    let limit = BatchLimit { datagrams: NonZeroUsize::new(64).unwrap(), bytes: 65_507 };
    for _ in 0..100 {
        let _ = net.hosts[leecher].endpoint.poll_transmit(now, limit, &mut buf);
        if let Some(Event::ReadNeeded { token, offset, len, .. }) = net.hosts[leecher].endpoint.poll_event() {
            let start = offset as usize;
            read = Some((token, Bytes::copy_from_slice(&net.hosts[leecher].disk.bytes[start..start + len])));
        }
    }
    let (token, bytes) = read.unwrap();
    for chunk in rest {
        let datagram = seed.data(&net, &sample, chunk);
        net.hosts[leecher].endpoint.handle_datagram(now, DatagramMeta::from_remote(seed.address), &datagram);
    }
    net.hosts[leecher].disk.hold_writes = hold;
    net.drain(leecher);
    net.hosts[leecher].endpoint.provide(token, Ok(bytes), now);
    net.drain(leecher);
    net.hosts[leecher].release_writes(now);
    net.drain(leecher);
    (net, leecher, sample)
}

#[test]
fn a_read_begun_before_the_rest_of_its_group_came_is_no_change() {
    let (mut net, leecher, sample) = read_in_between((0..4).chain(12..16), 4..12, true);
    let seeder = net.seeder(&sample);
    net.connect(leecher, seeder);
    assert!(net.complete(leecher, Duration::from_secs(60)), "stalled: {:?}", net.hosts[leecher].progress());
    assert_eq!(net.hosts[leecher].changed, []);
}

#[test]
fn a_read_that_ends_after_its_group_was_complete_is_no_change() {
    let (net, leecher, _) = read_in_between(0..15, 15..16, false);
    assert_eq!(net.hosts[leecher].changed, []);
    assert_eq!(net.hosts[leecher].progress().unwrap().bytes_stored, 16 << 10);
}
