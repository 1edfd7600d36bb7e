//! A channel's life and end: goodbyes (R10), addresses (R11), keep-alives and death (R12, RFC 7574 §3.12), leaving.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ppspp_core::{
    AddPeerError, CloseReason, Content, Endpoint, EndpointConfig, Instant, JoinError, PeerSource, SwarmConfig,
};

use crate::net::{Fate, Net, Sample};
use crate::raw::{BARE_CLOSING, CLOSING, channel_of, datagram, handshake_of};

const SECOND: Duration = Duration::from_secs(1);

/// A seeder and a leecher that has everything; nothing is left to say.
fn idle(config: &EndpointConfig, sample: &Sample) -> (Net, usize, usize) {
    let mut net = Net::new();
    net.keep_log = true;
    let content = Content::Seed { tree: sample.tree.clone() };
    let seeder = net.add_with(config.clone(), sample.metadata.clone(), content, sample.bytes.clone());
    let leecher = net.add_with(config.clone(), sample.metadata.clone(), Content::Fetch, Vec::new());
    net.connect(leecher, seeder);
    net.fetches(leecher, sample, 30 * SECOND);
    net.run_for(5 * SECOND);
    net.log.clear();
    (net, seeder, leecher)
}

/// The channel that `host` sends to, from the log.
fn destination(net: &Net, host: usize) -> u32 {
    channel_of(&net.log.iter().find(|(from, _, _)| *from == host).unwrap().2)
}

fn config(keep_alive: u64, dead_after: u64) -> EndpointConfig {
    let mut config = EndpointConfig::default();
    config.keep_alive = Duration::from_secs(keep_alive);
    config.dead_after = Duration::from_secs(dead_after);
    config
}

// R12, RFC 7574 §3.12, §8.14: an idle channel sends its id alone every 25 s; at most every 55 s, whatever is asked for.
#[test]
fn an_idle_channel_sends_keep_alives_and_nothing_else() {
    for (asked, every) in [(25, 25), (10, 10), (55, 55), (60, 55), (100_000, 55)] {
        let (mut net, seeder, leecher) = idle(&config(asked, 180), &Sample::new(50_000));
        net.run_for(1100 * SECOND);
        for host in [seeder, leecher] {
            let sent: Vec<_> = net.log.iter().filter(|(from, _, _)| *from == host).collect();
            let expected = 1100 / every;
            assert!((expected - 1..=expected + 1).contains(&sent.len()), "{} in 1,100 s: {asked} s", sent.len());
            assert!(sent.iter().all(|(_, _, bytes)| bytes.len() == 4 && *bytes == sent[0].2));
            assert_eq!(net.hosts[host].closed, [], "{asked} s");
        }
    }
}

/// Cuts the wire after each host heard from the other, and returns for each how many seconds later it gave its peer up
/// and how many datagrams it sent till then.
fn deaths(config: &EndpointConfig) -> Vec<(u64, usize)> {
    let (mut net, seeder, leecher) = idle(config, &Sample::new(50_000));
    net.run_for(60 * SECOND);
    net.rule = Some(Box::new(|_, _, _, _| Fate::Drop));
    let (to_leecher, to_seeder) = (destination(&net, seeder), destination(&net, leecher));
    for (host, channel) in [(seeder, to_seeder), (leecher, to_leecher)] {
        let address = net.hosts[1 - host].address;
        net.inject(host, address, &datagram(channel, &[]));
    }
    net.log.clear();
    let mut found = Vec::new();
    for second in 1..400 {
        net.run_for(SECOND);
        for host in [seeder, leecher] {
            if std::mem::take(&mut net.hosts[host].closed) == [CloseReason::TimedOut] {
                assert_eq!(net.hosts[host].progress().unwrap().peers, 0);
                found.push((second, net.log.iter().filter(|(from, _, _)| *from == host).count()));
            }
        }
    }
    assert_eq!(found.len(), 2, "each host gives its peer up once");
    found
}

// RFC 7574 §3.12, R12: dead after three minutes of silence, not before, with three datagrams sent and no goodbye.
#[test]
fn a_silent_peer_is_dead_after_three_minutes() {
    for (keep_alive, most) in [(25, 8), (40, 5), (55, 4), (100, 4)] {
        for (second, sent) in deaths(&config(keep_alive, 180)) {
            assert!((180..=181).contains(&second), "dead after {second} s");
            assert!((3..=most).contains(&sent), "{sent} datagrams every {keep_alive} s");
        }
    }
}

// RFC 7574 §3.12: however short the silence, three datagrams must have been sent into it.
#[test]
fn death_takes_three_datagrams() {
    for (second, sent) in deaths(&config(25, 10)) {
        assert!((50..=76).contains(&second), "dead after {second} s");
        assert_eq!(sent, 3);
    }
}

// RFC 7574 §3.12: a peer is not dead as long as it says anything, and is given up only at the third minute exactly.
#[test]
fn one_keep_alive_in_three_minutes_keeps_a_peer() {
    let (mut net, seeder, leecher) = idle(&EndpointConfig::default(), &Sample::new(50_000));
    net.run_for(30 * SECOND);
    let to_leecher = destination(&net, seeder);
    let address = net.hosts[seeder].address;
    net.rule = Some(Box::new(|_, _, _, _| Fate::Drop));
    for _ in 0..5 {
        net.inject(leecher, address, &datagram(to_leecher, &[]));
        net.run_for(179 * SECOND);
        assert_eq!(net.hosts[leecher].closed, []);
    }
    net.inject(leecher, address, &datagram(to_leecher, &[]));
    net.run_for(181 * SECOND);
    assert_eq!(net.hosts[leecher].closed, [CloseReason::TimedOut]);
    assert!(net.hosts[leecher].endpoint.poll_timeout().is_none(), "a dead channel keeps no timer");
}

// RFC 7574 §3.12: an opening that nobody answers is given up after three minutes.
#[test]
fn an_unanswered_opening_is_given_up() {
    let sample = Sample::new(3000);
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    let host = &mut net.hosts[leecher];
    let nobody = SocketAddr::from(([192, 0, 2, 1], 4000));
    host.endpoint.add_peer(host.swarm, nobody, PeerSource::Trusted, net.now).unwrap();
    net.run_for(179 * SECOND);
    assert_eq!(net.hosts[leecher].closed, []);
    net.run_for(10 * SECOND);
    assert_eq!(net.hosts[leecher].closed, [CloseReason::TimedOut]);
    let sent = net.extra.len();
    assert!((20..30).contains(&sent), "{sent} openings");
    net.run_for(600 * SECOND);
    assert_eq!(net.extra.len(), sent);
}

// R10, RFC 7574 §8.4: either side may say goodbye, once and unanswered.
#[test]
fn a_goodbye_is_said_once_and_not_answered() {
    for by_initiator in [false, true] {
        let (mut net, seeder, leecher) = idle(&EndpointConfig::default(), &Sample::new(50_000));
        let (one, other) = if by_initiator { (leecher, seeder) } else { (seeder, leecher) };
        let peer = net.hosts[one].connected[0];
        let now = net.now;
        net.hosts[one].endpoint.remove_peer(peer, now);
        net.run_for(600 * SECOND);
        assert_eq!(net.hosts[one].closed, [CloseReason::Locally]);
        assert_eq!(net.hosts[other].closed, [CloseReason::ByPeer]);
        assert_eq!(net.log.len(), 1, "one datagram and no answer");
        assert_eq!(net.log[0].0, one);
        assert_eq!(net.log[0].2[4..], CLOSING);
        for host in &net.hosts {
            assert_eq!(host.progress().unwrap().peers, 0);
            assert_eq!(host.endpoint.poll_timeout(), None);
        }
    }
}

// R10: a closing HANDSHAKE may come with Version or with no option at all.
#[test]
fn both_forms_of_a_goodbye_are_understood() {
    for closing in [&CLOSING[..], &BARE_CLOSING] {
        let (mut net, seeder, leecher) = idle(&EndpointConfig::default(), &Sample::new(50_000));
        net.run_for(30 * SECOND);
        let to_seeder = destination(&net, leecher);
        let address = net.hosts[leecher].address;
        net.inject(seeder, address, &datagram(to_seeder, closing));
        assert_eq!(net.hosts[seeder].closed, [CloseReason::ByPeer]);
    }
}

// R10: goodbyes that cross are both heard or ignored; nothing follows.
#[test]
fn crossing_goodbyes_end_in_silence() {
    let (mut net, seeder, leecher) = idle(&EndpointConfig::default(), &Sample::new(50_000));
    let now = net.now;
    for host in [seeder, leecher] {
        let peer = net.hosts[host].connected[0];
        net.hosts[host].endpoint.remove_peer(peer, now);
    }
    net.run_for(600 * SECOND);
    assert_eq!(net.log.len(), 2);
    assert!(net.hosts.iter().all(|host| host.closed == [CloseReason::Locally]));
}

// R10: a goodbye to channel 0 means nothing, and says nothing about the channel that stands.
#[test]
fn a_goodbye_to_channel_zero_is_ignored() {
    let (mut net, seeder, leecher) = idle(&EndpointConfig::default(), &Sample::new(50_000));
    let address = net.hosts[leecher].address;
    for closing in [&CLOSING[..], &BARE_CLOSING] {
        net.inject(seeder, address, &datagram(0, closing));
        net.inject(seeder, SocketAddr::from(([192, 0, 2, 1], 4000)), &datagram(0, closing));
    }
    net.run_for(SECOND);
    assert_eq!(net.log, []);
    assert_eq!(net.hosts[seeder].closed, []);
    assert_eq!(net.hosts[seeder].progress().unwrap().peers, 1);
}

// R11: a channel is bound to its peer's address; what comes from elsewhere is dropped and counted.
#[test]
fn datagrams_from_elsewhere_are_dropped() {
    let (mut net, seeder, leecher) = idle(&EndpointConfig::default(), &Sample::new(50_000));
    net.run_for(30 * SECOND);
    let to_seeder = destination(&net, leecher);
    let mut elsewhere = net.hosts[leecher].address;
    elsewhere.set_port(1);
    let reads = net.hosts[seeder].reads();
    net.log.clear();
    for body in [&CLOSING[..], &[], &[8, 0, 0, 0, 0, 0, 0, 0, 9], &[0xff; 9]] {
        net.inject(seeder, elsewhere, &datagram(to_seeder, body));
    }
    net.run_for(SECOND);
    let host = &net.hosts[seeder];
    assert_eq!(host.endpoint.stats().dropped.wrong_address, 4);
    assert_eq!(host.closed, []);
    assert_eq!(host.reads(), reads);
    assert!(net.log.iter().all(|(_, _, bytes)| bytes.len() == 4));
    assert!(net.extra.is_empty());
    // Nor do they keep the peer alive.
    net.rule = Some(Box::new(|_, _, _, _| Fate::Drop));
    for _ in 0..200 {
        net.inject(seeder, elsewhere, &datagram(to_seeder, &[]));
        net.run_for(SECOND);
    }
    assert_eq!(net.hosts[seeder].closed, [CloseReason::TimedOut]);
}

// R11: after a change of address the initiator opens a new channel, and goes on from there.
#[test]
fn a_change_of_network_reopens_the_channel() {
    for told in 1..4 {
        let sample = Sample::new(3_000_000);
        let mut net = Net::new();
        let seeder = net.seeder(&sample);
        let leecher = net.leecher(&sample.metadata);
        net.connect(leecher, seeder);
        net.run(30 * SECOND, |net| net.hosts[leecher].disk.bytes.len() > 500_000);
        assert!(!net.hosts[leecher].complete);
        net.hosts[leecher].address = SocketAddr::from(([10, 7, 7, 7], 1234));
        let now = net.now;
        for _ in 0..told {
            net.hosts[leecher].endpoint.network_changed(now);
        }
        let peers = |net: &Net| {
            let host = &net.hosts[leecher];
            host.endpoint.swarm(host.swarm).unwrap().peers().count()
        };
        assert_eq!(peers(&net), 2, "one successor beside the old channel, told {told} times");
        net.fetches(leecher, &sample, 10 * SECOND);
        // The seeder may name the address that the leecher had before, which nobody answers at.
        net.run_for(10 * SECOND);
        assert_eq!(peers(&net), 1);
        assert_eq!(net.hosts[leecher].closed, [CloseReason::Replaced]);
        assert_eq!(net.hosts[leecher].connected.len(), 2);
    }
}

/// Puts a new endpoint in the place of a seeder, as if its process had been started again.
fn restart(net: &mut Net, seeder: usize, sample: &Sample) {
    let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), [99; 32], net.now);
    let content = Content::Seed { tree: sample.tree.clone() };
    let swarm = endpoint.join(SwarmConfig { metadata: sample.metadata.clone(), content }, net.now).unwrap();
    let host = &mut net.hosts[seeder];
    (host.endpoint, host.swarm) = (endpoint, swarm);
}

// R11: a seeder that was started again knows no channel; the leecher opens a new one after about five seconds.
#[test]
fn a_restarted_seeder_is_found_again() {
    let sample = Sample::new(3_000_000);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let leecher = net.leecher(&sample.metadata);
    net.connect(leecher, seeder);
    net.run(30 * SECOND, |net| net.hosts[leecher].disk.bytes.len() > 500_000);
    restart(&mut net, seeder, &sample);
    let at = net.now;
    assert!(net.run(60 * SECOND, |net| net.hosts[leecher].connected.len() == 2));
    let after = net.now - at;
    assert!(after >= 4 * SECOND, "a new channel after {after:?}");
    assert!(after <= 8 * SECOND, "a new channel after {after:?}");
    net.fetches(leecher, &sample, 20 * SECOND);
    assert_eq!(net.hosts[leecher].closed, [CloseReason::Replaced]);
}

// R11: a silence that ends leaves one channel, old or new, and the transfer goes on.
#[test]
fn a_silence_is_survived() {
    for silence in [1, 4, 6, 20, 100, 170] {
        let sample = Sample::new(3_000_000);
        let mut net = Net::new();
        let seeder = net.seeder(&sample);
        let leecher = net.leecher(&sample.metadata);
        net.connect(leecher, seeder);
        net.run(30 * SECOND, |net| net.hosts[leecher].disk.bytes.len() > 500_000);
        net.rule = Some(Box::new(|_, _, _, _| Fate::Drop));
        net.run_for(Duration::from_secs(silence));
        net.rule = None;
        net.fetches(leecher, &sample, 90 * SECOND);
        net.run_for(SECOND);
        assert_eq!(net.hosts[leecher].progress().unwrap().peers, 1, "after {silence} s");
        assert_eq!(net.hosts[seeder].progress().unwrap().peers, 1, "after {silence} s");
    }
}

// RFC 7574 §8.6: clocks need not agree; the handshake and the timers of a channel know only their own.
#[test]
fn clocks_need_not_agree() {
    for offsets in [[0, 1 << 62], [1 << 62, 0], [1, 1 << 40], [u64::from(u32::MAX), 0]] {
        let sample = Sample::new(50_000);
        let mut net = Net::new();
        let seeder = net.seeder(&sample);
        let leecher = net.leecher(&sample.metadata);
        (net.hosts[seeder].clock_offset, net.hosts[leecher].clock_offset) = (offsets[0], offsets[1]);
        net.connect(leecher, seeder);
        net.fetches(leecher, &sample, 10 * SECOND);
        net.run_for(1000 * SECOND);
        for host in &net.hosts {
            assert_eq!((host.connected.len(), host.closed.len()), (1, 0), "{offsets:?}");
        }
    }
}

// R25: a clock that goes back is taken to stand still.
#[test]
fn a_clock_that_goes_back_does_no_harm() {
    let (mut net, _, leecher) = idle(&EndpointConfig::default(), &Sample::new(50_000));
    net.hosts[leecher].endpoint.handle_timeout(Instant::ZERO);
    let peer = net.hosts[leecher].connected[0];
    net.hosts[leecher].endpoint.remove_peer(peer, Instant::ZERO);
    net.run_for(SECOND);
    assert_eq!(net.hosts[leecher].closed, [CloseReason::Locally]);
}

// RFC 7574 §8.4, R10: leaving says goodbye to each peer; the swarm is gone when that is done.
#[test]
fn leaving_says_goodbye_and_ends() {
    for close in [false, true] {
        let (mut net, seeder, leecher) = idle(&EndpointConfig::default(), &Sample::new(50_000));
        let now = net.now;
        let swarm = net.hosts[seeder].swarm;
        let endpoint = &mut net.hosts[seeder].endpoint;
        if close {
            endpoint.close(now);
        } else {
            endpoint.leave(swarm, now);
        }
        assert!(!endpoint.is_drained(), "the goodbye has not left yet");
        // A swarm that is being left takes nobody in.
        let address = SocketAddr::from(([192, 0, 2, 1], 4000));
        let added = endpoint.add_peer(swarm, address, PeerSource::Trusted, now);
        assert!(matches!(added, Err(AddPeerError::UnknownSwarm(_))));
        net.run_for(SECOND);
        assert!(net.hosts[seeder].left);
        assert!(net.hosts[seeder].endpoint.is_drained());
        assert_eq!(net.hosts[seeder].closed, [CloseReason::Locally]);
        assert_eq!(net.hosts[leecher].closed, [CloseReason::ByPeer]);
        assert_eq!(net.log.len(), 1);
        assert!(handshake_of(&net.log[0].2).unwrap().0.is_closing());
        assert!(net.hosts[seeder].endpoint.swarm(swarm).is_none());
        assert_eq!(net.hosts[seeder].endpoint.poll_timeout(), None);
        let metadata = Sample::new(7000).metadata;
        let joined = net.hosts[seeder].endpoint.join(SwarmConfig { metadata, content: Content::Fetch }, now);
        assert_eq!(joined.err(), close.then_some(JoinError::Closing));
    }
}

// RFC 7574 §3.1.1: leaving amid openings of our own and of others leaves nothing behind.
#[test]
fn leaving_amid_openings_ends_as_well() {
    let sample = Sample::new(3000);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let leecher = net.leecher(&sample.metadata);
    for number in 0..10 {
        let host = &mut net.hosts[leecher];
        let address = SocketAddr::from(([192, 0, 2, number], 4000));
        host.endpoint.add_peer(host.swarm, address, PeerSource::Trusted, net.now).unwrap();
    }
    net.connect(seeder, leecher);
    net.run_for(Duration::from_millis(15));
    let now = net.now;
    net.hosts[leecher].endpoint.close(now);
    net.run_for(SECOND);
    assert!(net.hosts[leecher].left);
    assert!(net.hosts[leecher].endpoint.is_drained());
    assert_eq!(net.hosts[leecher].endpoint.poll_timeout(), None);
}

/// What is known of the path to an idle peer is kept for as long as its base delays are, and then makes room.
#[test]
fn an_idle_channel_forgets_its_window_with_its_base_delays() {
    let sample = Sample::new(100_000);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let leecher = net.leecher(&sample.metadata);
    net.connect(leecher, seeder);
    net.fetches(leecher, &sample, Duration::from_secs(10));
    let window = |net: &Net| {
        let host = &net.hosts[seeder];
        host.endpoint.swarm(host.swarm).unwrap().peers().next().map(|peer| (peer.cwnd.is_some(), peer.srtt.is_some()))
    };
    net.run_for(Duration::from_secs(600));
    assert_eq!(window(&net), Some((true, true)));
    net.run_for(Duration::from_secs(120));
    assert_eq!(window(&net), Some((false, true)), "the round-trip time stays");
    assert_eq!(net.hosts[seeder].closed, []);
}

/// What cannot be meant does not make an endpoint spin.
#[test]
fn no_configuration_makes_time_stand_still() {
    let sets: [fn(&mut EndpointConfig); 3] = [
        |config| config.keep_alive = Duration::ZERO,
        |config| config.mtu_v4 = 0,
        |config| config.limits.cached_groups = usize::MAX,
    ];
    for set in sets {
        let sample = Sample::new(256 << 10);
        let mut net = Net::new();
        let mut config = EndpointConfig::default();
        set(&mut config);
        let content = Content::Seed { tree: sample.tree.clone() };
        let seeder = net.add_with(config, sample.metadata.clone(), content, sample.bytes.clone());
        let leecher = net.leecher(&sample.metadata);
        net.connect(leecher, seeder);
        net.fetches(leecher, &sample, 10 * SECOND);
    }
}
