//! A channel's life after the handshake: closing, silence, moving, opening from both sides.

use std::net::SocketAddr;
use std::time::Duration;

use ppspp_core::{CloseReason, Content, EndpointConfig, Event, PeerSource};

use crate::net::{Fate, Net, Sample};
use crate::raw::{self, BARE_CLOSING, CLOSING};

const SECOND: Duration = Duration::from_secs(1);

/// A seeder and a leecher that has everything, on an idle channel.
fn idle_pair() -> (Net, usize, usize) {
    let sample = Sample::new(5000);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let leecher = net.leecher(&sample.metadata);
    net.connect(leecher, seeder);
    net.fetches(leecher, &sample, 10 * SECOND);
    net.run_for(SECOND);
    (net, seeder, leecher)
}

/// R9: of two simultaneous openings one stands, whichever id is smaller and whatever is lost.
#[test]
fn simultaneous_openings_leave_one_channel() {
    for seed in 0..8u8 {
        for lost in 0..6 {
            let sample = Sample::new(20_000);
            let mut net = Net::new();
            for _ in 0..seed {
                // Other hosts only shift the seeds, and with them the channel ids.
                net.leecher(&sample.metadata);
            }
            let seeder = net.seeder(&sample);
            let leecher = net.leecher(&sample.metadata);
            net.rule =
                Some(Box::new(move |number, _, _, _| if number + 1 == lost { Fate::Drop } else { Fate::Deliver }));
            net.connect(leecher, seeder);
            net.connect(seeder, leecher);
            net.fetches(leecher, &sample, 30 * SECOND);
            net.run_for(20 * SECOND);
            for host in [seeder, leecher] {
                let swarm = net.hosts[host].swarm;
                let peers: Vec<_> = net.hosts[host].endpoint.swarm(swarm).unwrap().peers().collect();
                assert_eq!(peers.len(), 1, "seed {seed}, datagram {lost} lost: {peers:?}");
                assert!(peers[0].established);
            }
        }
    }
}

/// R9: a connection to ourselves is recognised and dropped.
#[test]
fn a_connection_to_ourselves_is_dropped() {
    let sample = Sample::new(5000);
    let mut net = Net::new();
    let host = net.leecher(&sample.metadata);
    net.connect(host, host);
    net.run_for(SECOND);
    assert_eq!(net.hosts[host].closed, [CloseReason::Ourselves]);
    assert_eq!(net.hosts[host].endpoint.swarm(net.hosts[host].swarm).unwrap().peers().count(), 0);
}

/// R10, RFC 7574 §8.4: leaving says goodbye, the other side hears it and never answers.
#[test]
fn leaving_says_goodbye_once() {
    for leaver_is_seeder in [false, true] {
        let (mut net, seeder, leecher) = idle_pair();
        let (leaver, other) = if leaver_is_seeder { (seeder, leecher) } else { (leecher, seeder) };
        net.keep_log = true;
        let (now, swarm) = (net.local(leaver), net.hosts[leaver].swarm);
        net.hosts[leaver].endpoint.leave(swarm, now);
        net.run_for(SECOND);
        assert!(net.hosts[leaver].left);
        assert_eq!(net.hosts[other].closed, [CloseReason::ByPeer]);
        assert_eq!(net.log.len(), 1, "one goodbye and no answer");
        assert_eq!(net.log[0].2[4..], CLOSING);
    }
}

/// R10: both forms of a close are understood; one to channel 0 means nothing.
#[test]
fn closes_without_a_version_count_and_strays_do_not() {
    let (mut net, seeder, leecher) = idle_pair();
    let from = net.hosts[leecher].address;
    net.inject(seeder, from, &raw::datagram(0, &CLOSING));
    net.inject(seeder, from, &raw::datagram(0, &BARE_CLOSING));
    assert_eq!(net.hosts[seeder].closed, []);
    net.keep_log = true;
    net.run_for(30 * SECOND);
    let channel = net.log.iter().find(|(_, to, _)| *to == seeder).map(|(_, _, bytes)| raw::channel_of(bytes)).unwrap();
    net.inject(seeder, from, &raw::datagram(channel, &BARE_CLOSING));
    assert_eq!(net.hosts[seeder].closed, [CloseReason::ByPeer]);
}

/// R11: a channel is bound to its address; what comes from elsewhere is dropped and counted.
#[test]
fn datagrams_from_elsewhere_are_dropped() {
    let (mut net, seeder, _) = idle_pair();
    net.keep_log = true;
    net.run_for(30 * SECOND);
    let channel = net.log.iter().find(|(_, to, _)| *to == seeder).map(|(_, _, bytes)| raw::channel_of(bytes)).unwrap();
    let before = net.hosts[seeder].endpoint.stats().dropped.wrong_address;
    net.inject(seeder, SocketAddr::from(([10, 9, 9, 9], 1)), &raw::datagram(channel, &CLOSING));
    assert_eq!(net.hosts[seeder].closed, []);
    assert_eq!(net.hosts[seeder].endpoint.stats().dropped.wrong_address, before + 1);
}

/// R11: a peer that lost its state is found again by a new channel once three requests went unanswered.
#[test]
fn a_restarted_seeder_is_found_again() {
    let sample = Sample::new(4 << 20);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let leecher = net.leecher(&sample.metadata);
    net.connect(leecher, seeder);
    assert!(net.run(30 * SECOND, |net| net.hosts[leecher].verified_bytes > 500_000));
    // The same address, a new life.
    let fresh = net.seeder(&sample);
    let address = net.hosts[seeder].address;
    net.hosts.swap(seeder, fresh);
    net.hosts[fresh].address = SocketAddr::from(([10, 0, 9, 9], 1));
    net.hosts[seeder].address = address;
    net.fetches(leecher, &sample, 120 * SECOND);
    assert_eq!(net.hosts[leecher].closed, [CloseReason::Replaced]);
}

/// R11: after `network_changed` the initiator opens a new channel beside the old one.
#[test]
fn a_changed_network_opens_a_new_channel() {
    let (mut net, seeder, leecher) = idle_pair();
    let now = net.local(leecher);
    net.hosts[leecher].endpoint.network_changed(now);
    net.run_for(SECOND);
    assert_eq!(net.hosts[leecher].closed, [CloseReason::Replaced]);
    assert_eq!(net.hosts[leecher].connected.len(), 2);
    // The old channel was closed by the newcomer's proof on one side, by a goodbye or the proof on the other.
    assert_eq!(net.hosts[seeder].closed.len(), 1);
    assert_eq!(net.hosts[seeder].endpoint.swarm(net.hosts[seeder].swarm).unwrap().peers().count(), 1);
}

/// R12, RFC 7574 §8.14: an idle channel carries a bare channel id every 25 s each way, and nothing else.
#[test]
fn an_idle_channel_carries_keep_alives_alone() {
    let (mut net, _, _) = idle_pair();
    net.run_for(30 * SECOND);
    net.keep_log = true;
    net.run_for(100 * SECOND);
    assert!(net.log.iter().all(|(_, _, bytes)| bytes.len() == 4), "{:?}", net.log);
    assert!((7..=9).contains(&net.log.len()), "{} keep-alives in 100 s", net.log.len());
}

/// R12: whatever is configured, three keep-alives fit into three minutes.
#[test]
fn keep_alives_are_never_rarer_than_55_seconds() {
    let sample = Sample::new(5000);
    let mut net = Net::new();
    let mut config = EndpointConfig::default();
    config.keep_alive = Duration::from_secs(3600);
    let seeder = net.add_with(
        config,
        sample.metadata.clone(),
        Content::Seed { tree: sample.tree.clone() },
        sample.bytes.clone(),
    );
    let leecher = net.leecher(&sample.metadata);
    net.connect(leecher, seeder);
    net.fetches(leecher, &sample, 10 * SECOND);
    net.run_for(Duration::from_secs(1000));
    assert_eq!(net.hosts[leecher].closed, []);
}

/// RFC 7574 §3.12: three minutes of silence and three datagrams sent in vain, and not before.
#[test]
fn a_silent_peer_is_dead_after_three_minutes() {
    let (mut net, seeder, leecher) = idle_pair();
    net.rule = Some(Box::new(|_, _, _, _| Fate::Drop));
    net.run_for(Duration::from_secs(150));
    assert_eq!(net.hosts[leecher].closed, []);
    net.run_for(Duration::from_secs(60));
    for host in [seeder, leecher] {
        assert_eq!(net.hosts[host].closed, [CloseReason::TimedOut]);
        assert_eq!(net.hosts[host].endpoint.swarm(net.hosts[host].swarm).unwrap().peers().count(), 0);
    }
    net.keep_log = true;
    net.run_for(Duration::from_secs(300));
    assert!(net.log.is_empty(), "nothing is sent to the dead");
}

/// RFC 7574 §3.1.1 step 5: an opening is repeated until its peer is dead, and then no more.
#[test]
fn an_opening_without_answer_ends() {
    let sample = Sample::new(5000);
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    let (now, swarm) = (net.local(leecher), net.hosts[leecher].swarm);
    let nobody = SocketAddr::from(([10, 7, 7, 7], 7));
    net.hosts[leecher].endpoint.add_peer(swarm, nobody, PeerSource::Trusted, now).unwrap();
    net.run_for(Duration::from_secs(600));
    assert_eq!(net.hosts[leecher].closed, [CloseReason::TimedOut]);
    assert!((20..40).contains(&net.extra.len()), "{} openings", net.extra.len());
    assert!(net.hosts[leecher].endpoint.poll_timeout().is_none(), "nothing is left to do");
}

/// Closing the endpoint closes every swarm and then it is drained.
#[test]
fn a_closed_endpoint_drains() {
    let (mut net, _, leecher) = idle_pair();
    let now = net.local(leecher);
    net.hosts[leecher].endpoint.close(now);
    assert!(!net.hosts[leecher].endpoint.is_drained(), "a goodbye is still to be said");
    net.run_for(SECOND);
    assert!(net.hosts[leecher].endpoint.is_drained() && net.hosts[leecher].left);
    assert!(!matches!(net.hosts[leecher].endpoint.poll_event(), Some(Event::PeerConnected { .. })));
}
