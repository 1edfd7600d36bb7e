//! Dead peers, false names and strangers that take every place: who is there is found all the same (RFC 7574 §3.10, §12.2,
//! §12.6.1).

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use ppspp_core::wire::{ChannelId, Handshake, Message};
use ppspp_core::{AddPeerError, Content, EndpointConfig, PeerSource, PexPolicy};

use crate::company::{leecher, standing};
use crate::net::{Fate, Net, Sample};
use crate::raw::handshake_of;
use crate::script::Script;

const SECOND: Duration = Duration::from_secs(1);
const RTT: Duration = Duration::from_millis(20);

/// How long it takes until there is a channel to `address`.
fn met(
    net: &mut Net,
    host: usize,
    address: SocketAddr,
    mut each_second: impl FnMut(&mut Net, u32),
) -> Option<Duration> {
    let began = net.now;
    for second in 0..2 * 3600 {
        each_second(net, second);
        net.run_for(SECOND);
        net.extra.clear();
        if standing(net, host).contains(&address) {
            return Some(net.now - began);
        }
    }
    None
}

/// Trusted peers that went away are dialled for ever; one that closed its channel and is there is met again meanwhile.
#[test]
fn dead_trusted_peers_do_not_keep_a_live_one_from_being_met_again() {
    for say_goodbye in [true, false] {
        let sample = Sample::new(64 << 20);
        let (mut net, leecher) = leecher(&sample, PexPolicy::Benign);
        let gone: Vec<Script> =
            (1..=24).map(|number| Script::answers(&mut net, leecher, &sample.metadata, number, RTT).0).collect();
        let seeder = net.seeder(&sample);
        // The last one by its address.
        net.hosts[seeder].address = SocketAddr::from(([10, 0, 99, 1], 6778));
        net.rule = Some(Box::new(|_, _, _, bytes| if bytes.len() > 1000 { Fate::Drop } else { Fate::Deliver }));
        net.connect(leecher, seeder);
        net.run_for(SECOND);
        if say_goodbye {
            for script in gone {
                script.say(&mut net, &[Message::Handshake(Handshake::closing())]);
            }
        } else {
            net.run_for(185 * SECOND);
        }
        net.run_for(40 * SECOND);
        let host = &net.hosts[seeder];
        let (address, now) = (host.address, net.now);
        let peer = host.endpoint.swarm(host.swarm).unwrap().peers().next().unwrap().id;
        net.hosts[seeder].endpoint.remove_peer(peer, now);
        net.run_for(SECOND);
        assert!(!standing(&net, leecher).contains(&address));
        let took = met(&mut net, leecher, address, |_, _| {});
        assert!(took.is_some_and(|took| took < 120 * SECOND), "{took:?}, goodbye {say_goodbye}");
    }
}

/// One word of a liar, or of an honest peer whose friends have gone, bans nobody.
#[test]
fn names_that_led_nowhere_do_not_keep_others_from_being_met() {
    // Eight ports of the one host that is there, and as many hosts as one teller may name.
    let ports = (0..8).map(|port| SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 1000 + port)).collect();
    let hosts = (0..32).map(|host| SocketAddrV4::new(Ipv4Addr::new(10, 0, 77, host), 6778)).collect();
    for (names, same_teller) in [(Vec::new(), true), (ports, false), (hosts, true)] {
        let sample = Sample::new(4 << 20);
        let (mut net, leecher) = leecher(&sample, PexPolicy::Benign);
        let (liar, _) = Script::answers(&mut net, leecher, &sample.metadata, 1, RTT);
        let (teller, _) = Script::answers(&mut net, leecher, &sample.metadata, 2, RTT);
        let teller = if same_teller { &liar } else { &teller };
        net.run_for(SECOND);
        for some in names.chunks(8) {
            let messages: Vec<Message<'_>> = some.iter().map(|&name| Message::PexResV4(name)).collect();
            liar.say(&mut net, &messages);
            net.run_for(30 * SECOND);
            liar.say(&mut net, &[]);
        }
        net.run_for(40 * SECOND);
        let seeder = net.seeder(&sample);
        let SocketAddr::V4(address) = net.hosts[seeder].address else { unreachable!("hosts have IPv4 addresses") };
        assert_eq!(*address.ip(), Ipv4Addr::new(10, 0, 0, 2));
        let took = met(&mut net, leecher, address.into(), |net, second| {
            if second % 20 == 0 {
                teller.say(net, &[Message::PexResV4(address)]);
                liar.say(net, &[]);
            }
        });
        assert!(took.is_some_and(|took| took < 300 * SECOND), "{took:?} after {} names", names.len());
    }
}

/// §12.6.1: however few peers there may be, strangers do not take the place of one that this side chooses.
#[test]
fn strangers_leave_a_place_however_few_there_are() {
    for (max_peers, known) in [(1, true), (1, false), (2, false), (3, false), (4, false), (8, false)] {
        let sample = Sample::new(1 << 20);
        let mut net = Net::new();
        let mut config = EndpointConfig::default();
        config.max_peers = max_peers;
        let leecher = net.add_with(config, sample.metadata.clone(), Content::Fetch, Vec::new());
        let add = |net: &mut Net, last: u8| {
            let (host, now) = (&mut net.hosts[leecher], net.now);
            host.endpoint.add_peer(host.swarm, SocketAddr::from(([10, 0, 0, last], 6778)), PeerSource::Trusted, now)
        };
        if known {
            add(&mut net, 201).unwrap();
        }
        for number in 1..=2 * max_peers as u8 {
            let mut script = Script::new(&net, leecher, &sample.metadata, number);
            let opening = script.datagram(ChannelId::ZERO, &[Message::Handshake(script.handshake(true, false))]);
            net.inject(leecher, script.address, &opening);
            net.run_for(RTT);
            let replies = script.take_raw(&mut net);
            if let Some(reply) = replies.first().and_then(|bytes| handshake_of(bytes)) {
                script.remote = reply.0.source;
                script.say(&mut net, &[]);
            }
        }
        let strangers = standing(&net, leecher).len();
        let added = add(&mut net, 200);
        let only = max_peers == 1 && !known;
        assert_eq!(added.is_err(), only, "{added:?} of {max_peers}");
        assert!(!only || added == Err(AddPeerError::TooManyChannels(1)), "{added:?}");
        assert_eq!(strangers, if only { 1 } else { max_peers - (max_peers / 4).max(1) }, "of {max_peers}");
    }
}

/// §3.10.1, §12.2.3: however few peers are aimed at, hearsay does not take the place of a trusted source.
#[test]
fn a_lost_trusted_peer_is_looked_for_however_few_are_aimed_at() {
    for aim in [2, 3, 4] {
        let sample = Sample::new(20 << 20);
        let mut net = Net::new();
        let mut config = EndpointConfig::default();
        config.aimed_peers = aim;
        let leecher = net.add_with(config, sample.metadata.clone(), Content::Fetch, Vec::new());
        let (trusted, _) = Script::answers(&mut net, leecher, &sample.metadata, 1, RTT);
        let others: Vec<usize> = (0..5).map(|_| net.leecher(&sample.metadata)).collect();
        let names: Vec<Message<'_>> = others
            .iter()
            .filter_map(|&other| match net.hosts[other].address {
                SocketAddr::V4(address) => Some(Message::PexResV4(address)),
                SocketAddr::V6(_) => None,
            })
            .collect();
        net.run_for(SECOND);
        trusted.say(&mut net, &names);
        net.run_for(10 * SECOND);
        trusted.say(&mut net, &[Message::Handshake(Handshake::closing())]);
        net.run_for(10 * SECOND);
        net.extra.clear();
        net.run_for(3600 * SECOND);
        let openings = net.extra.iter().filter(|(_, to, _)| *to == trusted.address).count();
        assert!(openings > 100, "{openings} in an hour, {aim} aimed at");
    }
}

/// Where dials of the trusted fill the share of hearsay, a name waits until they are given up, and no longer.
#[test]
fn a_name_is_dialled_once_dead_dials_are_waited_for_no_more() {
    let sample = Sample::new(64 << 20);
    let mut net = Net::new();
    let mut config = EndpointConfig::default();
    config.aimed_peers = 8;
    let leecher = net.add_with(config, sample.metadata.clone(), Content::Fetch, Vec::new());
    let [known, named] = [(); 2].map(|()| net.seeder(&sample));
    net.rule = Some(Box::new(|_, _, _, bytes| if bytes.len() > 1000 { Fate::Drop } else { Fate::Deliver }));
    let trusted: Vec<Script> =
        (1..=6).map(|number| Script::answers(&mut net, leecher, &sample.metadata, number, RTT).0).collect();
    let names = [known, named].map(|host| match net.hosts[host].address {
        SocketAddr::V4(address) => Message::PexResV4(address),
        SocketAddr::V6(_) => unreachable!("hosts have IPv4 addresses"),
    });
    net.run_for(SECOND);
    trusted[0].say(&mut net, &names[..1]);
    net.run_for(10 * SECOND);
    for script in &trusted[1..] {
        script.say(&mut net, &[Message::Handshake(Handshake::closing())]);
    }
    // They are dialled again half a minute later.
    for _ in 0..31 {
        net.run_for(SECOND);
        trusted[0].say(&mut net, &[]);
    }
    trusted[0].say(&mut net, &names[1..]);
    let address = net.hosts[named].address;
    let took = met(&mut net, leecher, address, |net, _| trusted[0].say(net, &[]));
    assert!(took.is_some_and(|took| took < 15 * SECOND), "{took:?}");
}
