//! Peers that come, go, stall and crawl: the others make up for it.

use std::time::Duration;

use ppspp_core::chunk::{ChunkRange, RangeSet};
use ppspp_core::{Order, Wanted};

use crate::crowd::{Crowd, TEN_MBIT};
use crate::net::{Fate, Net};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Cuts a host off.
fn silence(net: &mut Net, host: usize) {
    net.rule =
        Some(Box::new(move |_, from, to, _| if from == host || to == host { Fate::Drop } else { Fate::Deliver }));
}

fn want(net: &mut Net, host: usize, range: ChunkRange, order: Order) {
    let now = net.local(host);
    let host = &mut net.hosts[host];
    host.endpoint.set_wanted(host.swarm, Wanted { ranges: RangeSet::from(range), order }, now).unwrap();
}

#[test]
fn a_peer_that_vanishes_holds_nothing_up() {
    let mut crowd = Crowd::new(2 << 20, 2, 1);
    crowd.connect();
    crowd.net.run_for(600 * MS);
    silence(&mut crowd.net, 0);
    // What the other needs for all of it, and the time to notice.
    let times = crowd.run(10 * SECOND);
    assert!(times[0] < 4 * SECOND, "{times:?}");
}

#[test]
fn a_peer_that_returns_is_asked_again() {
    let mut crowd = Crowd::new(2 << 20, 1, 1);
    crowd.connect();
    crowd.net.run_for(600 * MS);
    silence(&mut crowd.net, 0);
    crowd.net.run_for(3 * SECOND);
    crowd.net.rule = None;
    let times = crowd.run(20 * SECOND);
    assert!(times[0] < 15 * SECOND, "{times:?}");
}

#[test]
fn the_seeder_may_leave_once_a_copy_is_out() {
    let mut crowd = Crowd::new(1 << 20, 1, 4);
    crowd.connect();
    let leechers = crowd.leechers.clone();
    let total = ChunkRange::new(0, 1024);
    let out = crowd.net.run(20 * SECOND, |net| {
        let view = |&leecher: &usize| net.hosts[leecher].endpoint.swarm(net.hosts[leecher].swarm).unwrap();
        total.iter().all(|chunk| leechers.iter().any(|leecher| view(leecher).has_stored(ChunkRange::single(chunk))))
    });
    assert!(out);
    silence(&mut crowd.net, 0);
    crowd.run(20 * SECOND);
}

#[test]
fn everybody_has_another_half() {
    let mut crowd = Crowd::new(1 << 20, 1, 2);
    let (left, right) = (crowd.leechers[0], crowd.leechers[1]);
    // Cut within a group.
    want(&mut crowd.net, left, ChunkRange::new(0, 505), Order::Auto);
    want(&mut crowd.net, right, ChunkRange::new(505, 1024), Order::Auto);
    for leecher in [left, right] {
        crowd.net.connect(leecher, 0);
    }
    assert!(crowd.net.run(20 * SECOND, |net| net.hosts[left].complete && net.hosts[right].complete));
    silence(&mut crowd.net, 0);
    for leecher in [left, right] {
        crowd.net.hosts[leecher].complete = false;
        want(&mut crowd.net, leecher, ChunkRange::new(0, 1024), Order::Auto);
    }
    crowd.net.connect(left, right);
    crowd.run(20 * SECOND);
}

#[test]
fn a_slow_peer_does_not_hold_up_the_end() {
    let mut fast = Crowd::new(2 << 20, 2, 1);
    fast.connect();
    let alone = fast.run(20 * SECOND)[0];
    let mut crowd = Crowd::new(2 << 20, 3, 1);
    crowd.link(2, TEN_MBIT / 40);
    crowd.connect();
    let time = crowd.run(20 * SECOND)[0];
    assert!(time < alone + alone / 4, "{time:?} with a slow peer, {alone:?} without");
    assert!(crowd.duplicates() < 100, "{} duplicates of 10,000", crowd.duplicates());
}

#[test]
fn several_seeders_share_the_work_without_duplicates() {
    let mut crowd = Crowd::new(4 << 20, 4, 1);
    crowd.link(4, 10 * TEN_MBIT);
    crowd.connect();
    let time = crowd.run(20 * SECOND)[0];
    // One alone takes 3.7 s.
    assert!(time < 2 * SECOND, "{time:?}");
    let sent: Vec<u64> = crowd.seeders.iter().map(|&seeder| crowd.net.hosts[seeder].stats().chunks_sent).collect();
    assert!(sent.iter().all(|&sent| sent > 512), "{sent:?}");
    assert!(crowd.duplicates() < 100, "{} duplicates of 10,000", crowd.duplicates());
}

/// RFC 7574 §3.2: a HAVE that is lost is made good, though nobody asks.
#[test]
fn a_lost_announcement_is_repeated() {
    let mut crowd = Crowd::new(256 << 10, 1, 2);
    let (near, far) = (crowd.leechers[0], crowd.leechers[1]);
    crowd.net.connect(far, near);
    crowd.net.run_for(SECOND);
    crowd.net.connect(near, 0);
    // Nothing that the one says for a second reaches the other.
    crowd.net.rule =
        Some(Box::new(move |_, from, to, _| if (from, to) == (near, far) { Fate::Drop } else { Fate::Deliver }));
    assert!(crowd.net.run(20 * SECOND, |net| net.hosts[near].complete));
    crowd.net.run_for(SECOND);
    crowd.net.rule = None;
    crowd.run(20 * SECOND);
}
