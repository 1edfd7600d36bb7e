//! R25: many channels over one slow link.

use std::time::Duration;

use ppspp_core::congestion::ControllerConfig;
use ppspp_core::{Content, EndpointConfig, Instant, PexPolicy};

use crate::net::{Link, Net, Sample};

const SECOND: Duration = Duration::from_secs(1);
/// 2 Mbit/s, in bytes per second.
const SLOW: u64 = 250_000;
const FAST: u64 = 100_000_000;
const BUFFER: Duration = Duration::from_millis(400);

/// A seeder behind a slow link, and leechers that know only the seeder.
fn crowd(congestion: ControllerConfig, leechers: usize) -> (Net, usize, Vec<usize>) {
    let sample = Sample::new(32 << 20);
    let mut config = EndpointConfig::default();
    config.congestion = congestion;
    config.pex = PexPolicy::Off;
    let mut net = Net::new();
    let content = Content::Seed { tree: sample.tree.clone() };
    let seeder = net.add_with(config.clone(), sample.metadata.clone(), content, sample.bytes.clone());
    net.links.insert(seeder, Link::new(SLOW, FAST, BUFFER));
    let leechers: Vec<_> = (0..leechers)
        .map(|_| net.add_with(config.clone(), sample.metadata.clone(), Content::Fetch, Vec::new()))
        .collect();
    for &leecher in &leechers {
        net.hosts[leecher].disk.discard = true;
        net.connect(leecher, seeder);
    }
    (net, seeder, leechers)
}

/// The mean queue on the way up over `span`, looked at every 20 ms, and what each leecher got.
fn measure(net: &mut Net, seeder: usize, leechers: &[usize], span: Duration) -> (Duration, Vec<u64>) {
    let before: Vec<u64> = leechers.iter().map(|&leecher| net.hosts[leecher].verified_bytes).collect();
    let until: Instant = net.now + span;
    let (mut total, mut looks) = (Duration::ZERO, 0);
    while net.now < until {
        net.run_for(Duration::from_millis(20));
        total += net.links[&seeder].queue(net.now);
        looks += 1;
    }
    let got = leechers.iter().zip(before).map(|(&leecher, before)| net.hosts[leecher].verified_bytes - before);
    (total / looks, got.collect())
}

// Sixteen least windows cause a queue of 107 ms here, and channels that took that for the way add to it: without turns
// the mean is 194 ms with LEDBAT, 105 ms with LEDBAT++. One crowd differs from the next by 10 ms, so there are two.
#[test]
fn r25_a_crowded_link_is_sent_over_by_turns() {
    for (congestion, tolerable) in [(ControllerConfig::ledbat(), 150), (ControllerConfig::ledbat_plus_plus(), 90)] {
        let queues = [15, 16].map(|count| {
            let (mut net, seeder, leechers) = crowd(congestion, count);
            net.run_for(60 * SECOND);
            let (queue, got) = measure(&mut net, seeder, &leechers, 60 * SECOND);
            let total: u64 = got.iter().sum();
            assert!(total > 60 * SLOW * 80 / 100, "{:?}: {total} bytes", congestion.algorithm);
            let mean = total / got.len() as u64;
            assert!(got.iter().all(|&got| got > mean / 10), "{:?}: all are served: {got:?}", congestion.algorithm);
            queue
        });
        println!("{:?}: {queues:?}", congestion.algorithm);
        let mean = (queues[0] + queues[1]) / 2;
        assert!(mean <= Duration::from_millis(tolerable), "{:?}: {queues:?}", congestion.algorithm);
    }
}

/// How many peers the seeder chokes.
fn choked(net: &Net, seeder: usize) -> usize {
    let host = &net.hosts[seeder];
    host.endpoint.swarm(host.swarm).unwrap().peers().filter(|peer| peer.choked_by_us).count()
}

#[test]
fn r25_when_the_link_has_room_again_everyone_sends() {
    let (mut net, seeder, leechers) = crowd(ControllerConfig::ledbat(), 16);
    assert!(net.run(60 * SECOND, |net| choked(net, seeder) >= 4), "the link is crowded");
    let link = net.links.get_mut(&seeder).unwrap();
    link.up = 8 * SLOW;
    assert!(net.run(40 * SECOND, |net| choked(net, seeder) == 0), "{} wait still", choked(&net, seeder));
    let (_, got) = measure(&mut net, seeder, &leechers, 10 * SECOND);
    assert!(got.iter().all(|&got| got > 0) && got.iter().sum::<u64>() > 10 * 8 * SLOW * 80 / 100, "{got:?}");
    assert_eq!(choked(&net, seeder), 0);
}

#[test]
fn r25_few_channels_or_a_fast_link_need_no_turns() {
    for (leechers, rate) in [(16, 10 * SLOW), (3, SLOW)] {
        let (mut net, seeder, _) = crowd(ControllerConfig::ledbat(), leechers);
        net.links.get_mut(&seeder).unwrap().up = rate;
        for _ in 0..40 {
            net.run_for(SECOND / 2);
            assert_eq!(choked(&net, seeder), 0, "{leechers} leechers at {rate} bytes per second");
        }
    }
}
