//! R21: what a leecher can give is taken back from a seeder, and asked for again once it cannot come from there.

use std::time::Duration;

use ppspp_core::chunk::{ChunkIndex, ChunkRange, RangeSet};
use ppspp_core::wire::{Handshake, Message};
use ppspp_core::{Order, Wanted};

use crate::net::{Net, Sample};
use crate::script::Script;

const MS: Duration = Duration::from_millis(1);
const RTT: Duration = Duration::from_millis(40);

/// A leecher that knows a seeder and another leecher, which has nothing yet.
struct Spared {
    net: Net,
    sample: Sample,
    leecher: usize,
    seeder: Script,
    other: Script,
    /// A group that the seeder was just asked for.
    group: ChunkRange,
}

impl Spared {
    fn new() -> Self {
        let sample = Sample::new(128 * 1024);
        let mut net = Net::new();
        let leecher = net.leecher(&sample.metadata);
        let (seeder, _) = Script::answers(&mut net, leecher, &sample.metadata, 1, RTT);
        let other = Script::opens(&mut net, leecher, &sample.metadata, 2, RTT);
        seeder.has_all(&mut net, &sample);
        let asked = seeder.summary(&mut net).requested();
        assert_eq!(asked.len(), 32, "two groups, while the rate is not known");
        let start = asked.iter().min().unwrap() / 16 * 16;
        let group = ChunkRange::new(start, start + 16);
        other.hears(&mut net);
        Self { net, sample, leecher, seeder, other, group }
    }

    fn other_has_it(&mut self) {
        self.other.say(&mut self.net, &[Message::Have(self.group)]);
    }

    fn want_only(&mut self, range: ChunkRange) {
        let now = self.net.local(self.leecher);
        let host = &mut self.net.hosts[self.leecher];
        let wanted = Wanted { ranges: RangeSet::from(range), order: Order::Auto };
        host.endpoint.set_wanted(host.swarm, wanted, now).unwrap();
    }

    fn duplicates(&self) -> u64 {
        self.net.hosts[self.leecher].stats().duplicate_chunks
    }
}

#[test]
fn what_a_seeder_may_have_sent_is_asked_of_nobody_else_until_it_must_be_here() {
    let mut spared = Spared::new();
    spared.other_has_it();
    let Spared { mut net, sample, leecher, seeder, other, group } = spared;
    let told = seeder.summary(&mut net);
    assert_eq!(told.cancels, [group]);
    assert_eq!(told.requested().len(), 16, "something else at once");
    assert!(told.requests.iter().all(|range| range.intersection(group).is_empty()));
    // Some of it was on its way.
    net.run_for(30 * MS);
    for chunk in group.start()..group.start() + 6 {
        seeder.gives(&mut net, &sample, chunk);
    }
    assert_eq!(other.summary(&mut net).requests, [], "the rest may be, too");
    net.run_for(20 * MS);
    let asked = other.summary(&mut net).requested();
    let rest: Vec<u64> = (group.start() + 6..group.end()).collect();
    assert!(rest.iter().all(|chunk| asked.contains(chunk)), "{asked:?}");
    assert!(asked.iter().all(|&chunk| chunk >= group.start() + 6 && chunk < group.end()), "{asked:?}");
    let stats = net.hosts[leecher].stats();
    assert_eq!((stats.chunks_received, stats.duplicate_chunks), (6, 0));
}

#[test]
fn what_comes_all_the_same_is_not_asked_for_again() {
    let mut spared = Spared::new();
    spared.other_has_it();
    for chunk in spared.group.iter() {
        spared.seeder.gives(&mut spared.net, &spared.sample, chunk.value());
    }
    spared.net.run_for(Duration::from_millis(400));
    assert_eq!(spared.other.summary(&mut spared.net).requests, []);
    assert_eq!(spared.duplicates(), 0);
}

#[test]
fn what_is_no_longer_wanted_is_asked_of_nobody() {
    let mut spared = Spared::new();
    spared.want_only(spared.group);
    spared.other_has_it();
    // The seeder is asked for nothing at all then.
    spared.seeder.hears(&mut spared.net);
    let next = (spared.group.start() + 64) % 128;
    spared.want_only(ChunkRange::new(next, next + 16));
    spared.net.run_for(Duration::from_millis(400));
    for peer in [&spared.seeder, &spared.other] {
        let asked = peer.summary(&mut spared.net).requested();
        assert!(asked.iter().all(|chunk| (next..next + 16).contains(chunk)), "{:?}: {asked:?}", peer.address);
    }
}

#[test]
fn whoever_can_give_it_is_asked_once_the_leecher_cannot() {
    for goodbye in [false, true] {
        let mut spared = Spared::new();
        spared.want_only(spared.group);
        spared.other_has_it();
        let leaves = if goodbye { Message::Handshake(Handshake::closing()) } else { Message::Choke };
        spared.other.say(&mut spared.net, &[leaves]);
        spared.seeder.hears(&mut spared.net);
        spared.net.run_for(60 * MS);
        let asked = spared.seeder.summary(&mut spared.net).requested();
        assert_eq!(asked, spared.group.iter().map(ChunkIndex::value).collect::<Vec<_>>(), "goodbye: {goodbye}");
    }
}

#[test]
fn what_is_withdrawn_does_not_expire_with_the_rest_of_its_batch() {
    let mut spared = Spared::new();
    spared.net.run_for(480 * MS);
    spared.other_has_it();
    spared.net.run_for(30 * MS);
    let expired = spared.net.hosts[spared.leecher].stats().requests_expired;
    assert_eq!((expired, spared.other.summary(&mut spared.net).requests), (16, vec![]));
    spared.net.run_for(60 * MS);
    assert_eq!(spared.other.summary(&mut spared.net).requests, [spared.group]);
}
