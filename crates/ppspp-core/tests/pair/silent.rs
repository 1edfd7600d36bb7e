//! Peers that announce everything, give nothing, and choose how long they take to answer.

use std::time::Duration;

use ppspp_core::wire::{ChannelId, Message, read_handshake, split_channel};

use crate::net::{Link, Net, Sample};
use crate::script::Script;

const MS: Duration = Duration::from_millis(1);

/// Peers that open channels, prove their addresses after `rtt`, and have everything.
fn silent_peers(net: &mut Net, leecher: usize, sample: &Sample, count: u8, rtt: Duration) -> Vec<Script> {
    let mut all: Vec<Script> = (1..=count).map(|number| Script::new(net, leecher, &sample.metadata, number)).collect();
    for script in &all {
        let opening = script.datagram(ChannelId::ZERO, &[Message::Handshake(script.handshake(true, false))]);
        net.inject(leecher, script.address, &opening);
    }
    net.run_for(rtt);
    for script in &mut all {
        let replies = script.take_raw(net);
        let (_, body) = split_channel(replies.first().unwrap()).unwrap();
        script.remote = read_handshake(body).unwrap().0.source;
        script.say(net, &[]);
    }
    for script in &all {
        script.has_all(net, sample);
    }
    all
}

/// Lets a seeder of 10 Mbit/s serve a leecher among silent peers, which keep their channels alive; returns how long 1 MiB
/// takes, at most `most`.
fn time_among_silent_peers(count: u8, rtt: Duration, most: u64) -> Option<Duration> {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    let silent = silent_peers(&mut net, leecher, &sample, count, rtt);
    let seeder = net.seeder(&sample);
    net.connect(leecher, seeder);
    net.links.insert(seeder, Link::new(1_250_000, 1_250_000, 100 * MS));
    let begin = net.now;
    for second in 0..most {
        if net.complete(leecher, Duration::from_secs(1)) {
            return Some(net.now - begin);
        }
        if second % 10 == 0 {
            for script in &silent {
                script.say(&mut net, &[]);
            }
        }
        net.extra.clear();
    }
    None
}

#[test]
fn who_proves_its_address_late_is_not_waited_for_longer() {
    let took = time_among_silent_peers(1, Duration::from_secs(29), 600);
    assert!(took.is_some_and(|took| took < Duration::from_secs(15)), "{took:?}");
}

#[test]
fn silent_peers_do_not_pass_requests_round() {
    let took = time_among_silent_peers(16, 600 * MS, 600);
    assert!(took.is_some_and(|took| took < Duration::from_secs(30)), "{took:?}");
}
