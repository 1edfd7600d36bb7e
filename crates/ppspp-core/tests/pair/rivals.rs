//! Two channels where one is meant: simultaneous openings, newcomers at a known address, ourselves (R9).

use std::net::SocketAddr;
use std::time::Duration;

use ppspp_core::{AddPeerError, CloseReason, PeerSource};

use crate::net::{Fate, Net, Sample};
use crate::raw::{channel_of, datagram, handshake_of, offer, opening, with_handshake};

/// A seeder and a leecher in either order of joining, so that either has the smaller channel id.
fn pair(sample: &Sample, seeder_first: bool) -> (Net, usize, usize) {
    let mut net = Net::new();
    net.keep_log = true;
    if seeder_first {
        let seeder = net.seeder(sample);
        let leecher = net.leecher(&sample.metadata);
        (net, seeder, leecher)
    } else {
        let leecher = net.leecher(&sample.metadata);
        let seeder = net.seeder(sample);
        (net, seeder, leecher)
    }
}

/// The same, and both open a channel to the other before they hear of each other.
fn simultaneous(sample: &Sample, seeder_first: bool) -> (Net, usize, usize) {
    let (mut net, seeder, leecher) = pair(sample, seeder_first);
    net.connect(seeder, leecher);
    net.connect(leecher, seeder);
    (net, seeder, leecher)
}

/// The channel id in the first opening of `host`.
fn opened_as(net: &Net, host: usize) -> u32 {
    let opening = net.log.iter().find(|(from, _, bytes)| *from == host && channel_of(bytes) == 0);
    handshake_of(&opening.unwrap().2).unwrap().0.source.value()
}

// R9: both sides keep the channel whose initiator's id is smaller, whoever that is.
#[test]
fn of_two_openings_the_smaller_id_stands() {
    let mut smaller = [false; 2];
    for seeder_first in [false, true] {
        let sample = Sample::new(50_000);
        let (mut net, seeder, leecher) = simultaneous(&sample, seeder_first);
        net.fetches(leecher, &sample, Duration::from_secs(10));
        net.run_for(Duration::from_secs(60));
        let (by_seeder, by_leecher) = (opened_as(&net, seeder), opened_as(&net, leecher));
        smaller[usize::from(by_seeder < by_leecher)] = true;
        let winner = if by_seeder < by_leecher { seeder } else { leecher };
        let replies: Vec<usize> = net
            .log
            .iter()
            .filter(|(_, _, bytes)| channel_of(bytes) != 0 && handshake_of(bytes).is_some())
            .map(|&(from, _, _)| from)
            .collect();
        assert_eq!(replies, [1 - winner], "only the opening with the smaller id is answered");
        for host in &net.hosts {
            assert_eq!((host.connected.len(), host.closed.len()), (1, 0));
            assert_eq!(host.progress().unwrap().peers, 1);
        }
    }
    assert_eq!(smaller, [true; 2], "either side had the smaller id once");
}

// R9 under loss: any two of the first datagrams may be lost; one channel results.
#[test]
fn simultaneous_openings_survive_loss() {
    for seeder_first in [false, true] {
        for first in 0..8 {
            for second in first..8 {
                let sample = Sample::new(3000);
                let (mut net, _, leecher) = simultaneous(&sample, seeder_first);
                net.rule = Some(Box::new(
                    move |number, _, _, _| {
                        if number == first || number == second { Fate::Drop } else { Fate::Deliver }
                    },
                ));
                net.fetches(leecher, &sample, Duration::from_secs(60));
                net.run_for(Duration::from_secs(60));
                for host in &net.hosts {
                    assert_eq!((host.connected.len(), host.closed.len()), (1, 0), "{first} and {second} lost");
                    assert_eq!(host.progress().unwrap().peers, 1, "{first} and {second} lost");
                }
            }
        }
    }
}

// R9, RFC 7574 §12.1: openings forged in the name of a peer that we are opening to cannot keep us from it.
#[test]
fn a_forged_rival_takes_nothing_over() {
    for sources in [&[1][..], &[u32::MAX], &[5, 4, 3, 2, 1], &[1, 2, 3], &[3, u32::MAX, 2]] {
        for replies_lost in 0..3 {
            let sample = Sample::new(50_000);
            let (mut net, seeder, leecher) = pair(&sample, true);
            let mut lost = 0;
            net.rule = Some(Box::new(move |_, from, _, _| {
                if from == seeder && lost < replies_lost {
                    lost += 1;
                    return Fate::Drop;
                }
                Fate::Deliver
            }));
            net.connect(leecher, seeder);
            net.drain(leecher);
            let address = net.hosts[seeder].address;
            for &source in sources {
                net.inject(leecher, address, &opening(&sample.metadata, source));
            }
            net.fetches(leecher, &sample, Duration::from_secs(20));
            for host in &net.hosts {
                assert_eq!((host.connected.len(), host.closed.len()), (1, 0), "{sources:?}");
            }
        }
    }
}

// R9: an opening that was overtaken and then never proven ends like any other that is not answered.
#[test]
fn an_overtaken_opening_times_out_with_an_event() {
    let sample = Sample::new(3000);
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    let address = SocketAddr::from(([192, 0, 2, 1], 4000));
    let host = &mut net.hosts[leecher];
    host.endpoint.add_peer(host.swarm, address, PeerSource::Trusted, net.now).unwrap();
    net.drain(leecher);
    net.inject(leecher, address, &opening(&sample.metadata, 1));
    net.run_for(Duration::from_secs(400));
    assert_eq!(net.hosts[leecher].closed, [CloseReason::TimedOut]);
    assert_eq!(net.hosts[leecher].connected, []);
}

// R9: a new opening from a known address changes nothing until its sender has proven to be there.
#[test]
fn a_newcomer_replaces_only_once_proven() {
    let sample = Sample::new(2_000_000);
    let (mut net, seeder, leecher) = pair(&sample, true);
    net.connect(leecher, seeder);
    net.run(Duration::from_secs(10), |net| !net.hosts[leecher].disk.bytes.is_empty());
    let address = net.hosts[leecher].address;
    for source in 1..20 {
        net.inject(seeder, address, &opening(&sample.metadata, source));
    }
    net.fetches(leecher, &sample, Duration::from_secs(30));
    for host in &net.hosts {
        assert_eq!((host.connected.len(), host.closed.len()), (1, 0), "forged openings did something");
    }

    net.inject(seeder, address, &opening(&sample.metadata, 77));
    let replied = net.log.iter().rev().find(|(_, _, bytes)| channel_of(bytes) == 77).unwrap();
    let channel = handshake_of(&replied.2).unwrap().0.source.value();
    net.inject(seeder, address, &datagram(channel, &[]));
    assert_eq!(net.hosts[seeder].connected.len(), 2);
    assert_eq!(net.hosts[seeder].closed, [CloseReason::Replaced]);
    assert_eq!(net.hosts[seeder].progress().unwrap().peers, 1);
    // The old channel was closed in order.
    net.run_for(Duration::from_secs(1));
    assert_eq!(net.hosts[leecher].closed, [CloseReason::ByPeer]);
}

// R9: a connection to ourselves is recognised and dropped, at the first datagram and without an answer.
#[test]
fn a_connection_to_ourselves_is_dropped() {
    let sample = Sample::new(3000);
    let (mut net, seeder, _) = pair(&sample, true);
    net.connect(seeder, seeder);
    net.run_for(Duration::from_secs(600));
    let host = &net.hosts[seeder];
    assert_eq!(host.closed, [CloseReason::Ourselves]);
    assert_eq!(host.connected, []);
    assert_eq!(net.log.len(), 1);
    // By another of our addresses, as a router may reflect it.
    net.connect(seeder, seeder);
    net.hosts[seeder].address = SocketAddr::from(([10, 0, 0, 99], 6778));
    net.drain(seeder);
    let (_, _, bytes) = net.extra.pop().unwrap();
    net.inject(seeder, SocketAddr::from(([203, 0, 113, 5], 999)), &bytes);
    net.run_for(Duration::from_secs(600));
    assert_eq!(net.hosts[seeder].closed, [CloseReason::Ourselves; 2]);
    assert_eq!(net.log.len(), 2);
}

// R9: an address is added once; while it is, and again after it went.
#[test]
fn an_address_is_added_once() {
    let sample = Sample::new(3000);
    let (mut net, seeder, leecher) = pair(&sample, true);
    let peer = net.connect(leecher, seeder);
    let address = net.hosts[seeder].address;
    let add = |net: &mut Net| {
        let host = &mut net.hosts[leecher];
        host.endpoint.add_peer(host.swarm, address, PeerSource::Trusted, net.now)
    };
    assert_eq!(add(&mut net), Err(AddPeerError::AlreadyKnown(address)));
    net.fetches(leecher, &sample, Duration::from_secs(10));
    assert_eq!(add(&mut net), Err(AddPeerError::AlreadyKnown(address)));
    let now = net.now;
    net.hosts[leecher].endpoint.remove_peer(peer, now);
    net.run_for(Duration::from_secs(1));
    add(&mut net).unwrap();
    net.run_for(Duration::from_secs(1));
    assert_eq!(net.hosts[seeder].connected.len(), 2);
    assert_eq!(net.hosts[leecher].progress().unwrap().peers, 1);
}

// R9: a peer that answers our opening from a channel of its own, while we answer its, is heard as well (libswift).
#[test]
fn a_rival_that_answers_is_heard() {
    let sample = Sample::new(3000);
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    let address = SocketAddr::from(([192, 0, 2, 1], 4000));
    let host = &mut net.hosts[leecher];
    host.endpoint.add_peer(host.swarm, address, PeerSource::Trusted, net.now).unwrap();
    net.drain(leecher);
    let channel = handshake_of(&net.extra[0].2).unwrap().0.source.value();
    net.inject(leecher, address, &opening(&sample.metadata, 1));
    assert_eq!(channel_of(&net.extra.last().unwrap().2), 1);
    net.inject(leecher, address, &with_handshake(channel, &offer(&sample.metadata, 55)));
    assert_eq!(net.hosts[leecher].connected.len(), 1);
    assert_eq!(channel_of(&net.extra.last().unwrap().2), 55);
}
