//! Chunks by deadline: the soonest of several readers first, from whom they come in time.

use std::time::Duration;

use ppspp_core::chunk::{ChunkIndex, ChunkRange, RangeSet};
use ppspp_core::{Order, PlayHead, Wanted};

use crate::net::{Net, Sample};
use crate::script::Script;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const RTT: Duration = Duration::from_millis(20);

/// Sets readers anew.
fn read(net: &mut Net, host: usize, heads: &[PlayHead]) {
    let now = net.local(host);
    let host = &mut net.hosts[host];
    let wanted =
        Wanted { ranges: RangeSet::from(ChunkRange::new(0, u64::MAX)), order: Order::Deadline(heads.to_vec()) };
    host.endpoint.set_wanted(host.swarm, wanted, now).unwrap();
}

const fn head(position: u64, bytes_per_second: u64, window: Duration) -> PlayHead {
    PlayHead { position: ChunkIndex::new(position), bytes_per_second, window }
}

/// A peer that gives what it is asked for, in the order of asking.
struct Giver {
    script: Script,
    asked: Vec<u64>,
    given: usize,
}

impl Giver {
    fn new(net: &mut Net, leecher: usize, sample: &Sample, number: u8) -> Self {
        let (script, _) = Script::answers(net, leecher, &sample.metadata, number, RTT);
        script.has_all(net, sample);
        Self { script, asked: Vec::new(), given: 0 }
    }

    fn listen(&mut self, net: &mut Net) {
        let heard = self.script.summary(net);
        for cancelled in heard.cancels {
            let kept = self.asked.split_off(self.given);
            self.asked.extend(kept.into_iter().filter(|&chunk| !cancelled.contains(ChunkIndex::new(chunk))));
        }
        self.asked.extend(heard.requests.iter().flat_map(|range| range.iter()).map(ChunkIndex::value));
    }

    /// Gives one chunk, if any is asked for.
    fn give(&mut self, net: &mut Net, sample: &Sample) {
        self.listen(net);
        if let Some(&chunk) = self.asked.get(self.given) {
            self.script.gives(net, sample, chunk);
            self.given += 1;
        }
    }
}

// The slowest reader is named first, and would be served alone if only it counted, and last if it were the other way round.
#[test]
fn several_readers_share_by_what_each_needs_soonest() {
    let sample = Sample::new(4 << 20);
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    let heads = [(0, 50_000), (1000, 100_000), (2000, 400_000)];
    let heads = heads.map(|(position, rate)| head(position, rate, 8 * SECOND));
    read(&mut net, leecher, &heads);
    let mut giver = Giver::new(&mut net, leecher, &sample, 1);
    for tick in 1..=1000 {
        net.run_for(MS);
        giver.give(&mut net, &sample);
        if tick >= 400 && tick % 200 == 0 {
            // How far each is served, in milliseconds of its own.
            let ahead = heads.map(|head| {
                let near = head.position.value()..head.position.value() + 1000;
                let count = giver.asked.iter().filter(|chunk| near.contains(chunk)).count() as u64;
                1_024_000 * count / head.bytes_per_second
            });
            assert!(ahead.iter().max() < ahead.iter().min().map(|least| 2 * least).as_ref(), "{ahead:?}");
        }
    }
}

// Both have all, and the slow one has room: what is needed next is left to the fast one all the same.
#[test]
fn near_chunks_come_from_the_fastest_peers() {
    let sample = Sample::new(8 << 20);
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    read(&mut net, leecher, &[head(0, 400_000, 4 * SECOND)]);
    let mut slow = Giver::new(&mut net, leecher, &sample, 1);
    let mut fast = Giver::new(&mut net, leecher, &sample, 2);
    let mut slow_asked = 0;
    for position in [2048, 4096, 6144] {
        for tick in 0..1200 {
            net.run_for(MS);
            fast.give(&mut net, &sample);
            if tick % 40 == 0 {
                slow.give(&mut net, &sample);
            }
        }
        slow.listen(&mut net);
        fast.listen(&mut net);
        let (before, ahead) = (slow.asked.len(), fast.asked.len());
        read(&mut net, leecher, &[head(position, 400_000, 4 * SECOND)]);
        // The slow one has room first.
        for _ in 0..3 {
            slow.give(&mut net, &sample);
        }
        slow.listen(&mut net);
        // It takes a tenth of a second at least for what it is asked for: 40 chunks of the reader.
        let near = position..position + 40;
        let after = &slow.asked[before..];
        slow_asked += after.len();
        assert!(!after.iter().any(|chunk| near.contains(chunk)), "{after:?} of the slow one at {position}");
        while fast.asked.len() == ahead {
            fast.give(&mut net, &sample);
        }
        assert!(near.clone().eq(fast.asked[ahead..].iter().copied().take(40)), "{:?}", &fast.asked[ahead..]);
    }
    assert!(slow_asked > 3, "the slow one was asked for {slow_asked}");
}
