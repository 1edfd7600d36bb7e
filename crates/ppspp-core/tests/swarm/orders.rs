//! In which order chunks are fetched, and that it can be changed at any time.

use std::time::Duration;

use ppspp_core::chunk::{ChunkIndex, ChunkRange, RangeSet};
use ppspp_core::{Order, PlayHead, Wanted};

use crate::crowd::Crowd;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn order(crowd: &mut Crowd, host: usize, order: Order) {
    let now = crowd.net.local(host);
    let host = &mut crowd.net.hosts[host];
    let ranges = RangeSet::from(ChunkRange::new(0, u64::MAX));
    host.endpoint.set_wanted(host.swarm, Wanted { ranges, order }, now).unwrap();
}

fn stored(crowd: &mut Crowd, host: usize) -> RangeSet {
    crowd.net.hosts[host].checkpoint().stored
}

#[test]
fn rarest_first_spreads() {
    let mut crowd = Crowd::new(8 << 20, 1, 3);
    for leecher in crowd.leechers.clone() {
        order(&mut crowd, leecher, Order::RarestFirst);
        crowd.net.connect(leecher, 0);
    }
    crowd.net.run_for(1500 * MS);
    let sets: Vec<RangeSet> = crowd.leechers.clone().into_iter().map(|leecher| stored(&mut crowd, leecher)).collect();
    let sum: u64 = sets.iter().map(RangeSet::count).sum();
    let union: RangeSet = sets.iter().flat_map(RangeSet::runs).collect();
    assert!(sum > 300, "{sum}");
    assert!(union.count() * 10 > sum * 8, "{} different chunks of {sum}", union.count());
}

#[test]
fn in_order_is_in_order() {
    let mut crowd = Crowd::new(4 << 20, 2, 1);
    let leecher = crowd.leechers[0];
    order(&mut crowd, leecher, Order::InOrder);
    crowd.connect();
    crowd.net.run_for(1200 * MS);
    let have = stored(&mut crowd, leecher);
    let reach = have.runs().last().unwrap().end();
    assert!(have.count() > 200 && reach < have.count() + 1200, "{have:?}");
}

#[test]
fn a_seek_is_followed_at_once_and_back() {
    let mut crowd = Crowd::new(8 << 20, 2, 1);
    let leecher = crowd.leechers[0];
    crowd.connect();
    for position in [6000, 1000, 4000] {
        let head = PlayHead { position: ChunkIndex::new(position), bytes_per_second: 200_000, window: 2 * SECOND };
        order(&mut crowd, leecher, Order::Deadline(vec![head]));
        crowd.net.run_for(SECOND);
        let near = ChunkRange::new(position, position + 300);
        let have: u64 = stored(&mut crowd, leecher).intersection_in(near).map(ChunkRange::count).sum();
        assert!(have > 250, "{have} of the 300 chunks at {position}");
    }
    order(&mut crowd, leecher, Order::Auto);
    crowd.run(30 * SECOND);
    assert!(crowd.duplicates() < 100, "{} duplicates of 10,000", crowd.duplicates());
}
