//! Long ways, and ways that are longer than they look.

use std::time::Duration;

use crate::net::{Fate, Link, Net, Sample};

const MS: Duration = Duration::from_millis(1);

/// The round trip is longer than the wait before an opening is repeated: the handshake does not tell it, whoever calls.
#[test]
fn a_far_seeder_is_fetched_from() {
    for (latency, seeder_calls) in [(240, false), (260, false), (300, false), (600, false), (300, true), (600, true)] {
        let sample = Sample::new(4 << 20);
        let mut net = Net::new();
        net.latency = latency * MS;
        let seeder = net.seeder(&sample);
        let leecher = net.leecher(&sample.metadata);
        let (from, to) = if seeder_calls { (seeder, leecher) } else { (leecher, seeder) };
        net.connect(from, to);
        let begin = net.now;
        net.fetches(leecher, &sample, Duration::from_secs(40));
        println!("{latency} ms each way, seeder calls: {seeder_calls}: {:?}", net.now - begin);
    }
}

/// A lost opening leaves the round trip unknown.
#[test]
fn a_lost_opening_costs_little() {
    let sample = Sample::new(4 << 20);
    let mut net = Net::new();
    net.latency = 200 * MS;
    let seeder = net.seeder(&sample);
    let leecher = net.leecher(&sample.metadata);
    net.links.insert(seeder, Link::new(250_000, 250_000, 400 * MS));
    net.rule = Some(Box::new(|number, _, _, _| if number == 0 { Fate::Drop } else { Fate::Deliver }));
    net.connect(leecher, seeder);
    // 17 s is what the link takes.
    net.fetches(leecher, &sample, Duration::from_secs(40));
}

/// Requests wait on a busy uplink, which the delays of what comes do not show.
#[test]
fn a_queue_on_the_way_back_does_not_starve_requests() {
    for queue in [100, 150, 200] {
        let sample = Sample::new(64 << 20);
        let mut net = Net::new();
        net.latency = 20 * MS;
        let seeder = net.seeder(&sample);
        let leecher = net.leecher(&sample.metadata);
        net.connect(leecher, seeder);
        net.links.insert(seeder, Link::new(2_500_000, 2_500_000, 100 * MS));
        net.run_for(Duration::from_secs(5));
        let before = net.hosts[leecher].progress().unwrap().bytes_stored;
        net.rule =
            Some(Box::new(move |_, from, _, _| if from == leecher { Fate::Delay(queue * MS) } else { Fate::Deliver }));
        net.run_for(Duration::from_secs(15));
        let rate = (net.hosts[leecher].progress().unwrap().bytes_stored - before) / 15;
        println!("{queue} ms: {rate} bytes per second of {}", before / 5);
        assert!(rate > 250_000, "{queue} ms: {rate} bytes per second of {}", before / 5);
    }
}
