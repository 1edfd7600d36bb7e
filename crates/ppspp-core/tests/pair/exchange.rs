//! Peers that find each other: asking, naming, dialling, and the slots kept free (RFC 7574 §3.10, §12.6.1, R24).

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ppspp_core::chunk::ChunkRange;
use ppspp_core::wire::Message;
use ppspp_core::{AddPeerError, CloseReason, Content, EndpointConfig, PeerSource, PexPolicy};

use crate::net::{Fate, Link, Net, Sample};
use crate::raw::{handshake_of, messages_of};
use crate::script::Script;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const RTT: Duration = Duration::from_millis(20);

fn with(change: impl Fn(&mut EndpointConfig)) -> EndpointConfig {
    let mut config = EndpointConfig::default();
    change(&mut config);
    config
}

/// The address of host `index` in the network named by `kind`.
fn address(kind: &str, index: usize) -> SocketAddr {
    let text = match kind {
        "loopback" => format!("127.0.0.1:{}", 7000 + index),
        "loopback6" => format!("[::1]:{}", 7000 + index),
        "private" => format!("192.168.1.{}:6778", 1 + index),
        "unique-local" => format!("[fd00::{}]:6778", 1 + index),
        "public" => format!("198.51.100.{}:6778", 1 + index),
        _ => format!("[2001:db8::{}]:6778", 1 + index),
    };
    text.parse().unwrap()
}

/// A seeder and `leechers` that know it alone.
fn swarm(sample: &Sample, kind: &str, leechers: usize, config: &EndpointConfig) -> Net {
    let mut net = Net::new();
    let seed = Content::Seed { tree: sample.tree.clone() };
    net.add_with(config.clone(), sample.metadata.clone(), seed, sample.bytes.clone());
    for _ in 0..leechers {
        net.add_with(config.clone(), sample.metadata.clone(), Content::Fetch, Vec::new());
    }
    for index in 0..=leechers {
        net.hosts[index].address = address(kind, index);
    }
    for index in 1..=leechers {
        net.connect(index, 0);
    }
    net
}

/// The addresses of the peers that host `index` has a standing channel with.
fn peers(net: &Net, index: usize) -> Vec<SocketAddr> {
    let host = &net.hosts[index];
    let view = host.endpoint.swarm(host.swarm).unwrap();
    let mut peers: Vec<_> = view.peers().filter(|peer| peer.established).map(|peer| peer.address).collect();
    peers.sort();
    peers
}

fn others(net: &Net, index: usize) -> Vec<SocketAddr> {
    let hosts = net.hosts.iter().enumerate();
    let mut others: Vec<_> = hosts.filter(|&(other, _)| other != index).map(|(_, host)| host.address).collect();
    others.sort();
    others
}

/// How many honest peers were closed for misbehaviour.
fn slandered(net: &Net) -> usize {
    let reasons = net.hosts.iter().flat_map(|host| &host.closed);
    reasons.filter(|reason| matches!(reason, CloseReason::Misbehaved(_))).count()
}

// R24, §3.10.1: within a loopback and within a private network everybody finds everybody; elsewhere by choice alone.
#[test]
fn leechers_that_know_the_seeder_alone_find_each_other() {
    let sample = Sample::new(3 << 20);
    for (kind, policy, meet) in [
        ("loopback", PexPolicy::Benign, true),
        ("loopback6", PexPolicy::Benign, true),
        ("private", PexPolicy::Benign, true),
        ("unique-local", PexPolicy::Benign, true),
        ("private", PexPolicy::Off, false),
        ("public", PexPolicy::Benign, false),
        ("public", PexPolicy::Open, true),
        ("public6", PexPolicy::Open, true),
    ] {
        let mut net = swarm(&sample, kind, 5, &with(|config| config.pex = policy));
        net.keep_log = true;
        // The seeder's chunks reach the first leecher alone: the others depend on each other.
        net.rule = Some(Box::new(
            |_, from, to, bytes| {
                if from == 0 && to > 1 && bytes.len() > 1000 { Fate::Drop } else { Fate::Deliver }
            },
        ));
        net.run_for(2 * SECOND);
        for index in 1..=5 {
            let expected = if meet { others(&net, index) } else { vec![net.hosts[0].address] };
            assert_eq!(peers(&net, index), expected, "{kind}, {policy:?}");
        }
        for index in 1..=5 {
            assert_eq!(net.complete(index, 60 * SECOND), meet || index == 1, "{kind}, {policy:?}, {index}");
        }
        if policy == PexPolicy::Off {
            for (.., bytes) in &net.log {
                let messages = handshake_of(bytes).and_then(|(handshake, _)| handshake.supported_messages);
                assert!(
                    messages.is_none_or(|messages| messages.iter().all(|kind| ![5, 6, 12, 13].contains(&kind.code())))
                );
            }
        }
        assert!(net.extra.is_empty(), "nobody was dialled who is not there");
        assert_eq!(slandered(&net), 0, "{kind}, {policy:?}");
    }
}

// RFC 7574 §3.10.1: who is complete does not ask, and a seeder dials nobody.
#[test]
fn the_complete_do_not_ask() {
    let sample = Sample::new(100_000);
    let mut net = swarm(&sample, "private", 3, &EndpointConfig::default());
    for index in 1..=3 {
        net.fetches(index, &sample, 10 * SECOND);
    }
    // Till then the seeder, which is not told who is complete, announces again to those who ask for nothing.
    net.run_for(50 * SECOND);
    net.keep_log = true;
    net.run_for(200 * SECOND);
    assert!(net.log.iter().all(|(.., bytes)| bytes.len() == 4), "keep-alives alone");
    let seeder = net.hosts[0].address;
    let script = Script::opens(&mut net, 0, &sample.metadata, 1, RTT);
    script.say(&mut net, &[Message::PexResV4("10.1.1.1:6778".parse().unwrap())]);
    net.run_for(10 * SECOND);
    assert!(net.extra.iter().all(|(from, to, _)| *from != seeder || *to == script.address));
}

// RFC 7574 §3.10.1: only peers heard from within 60 seconds are named.
#[test]
fn the_silent_are_not_named() {
    let sample = Sample::new(100_000);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let asker = Script::opens(&mut net, seeder, &sample.metadata, 1, RTT);
    let lively = Script::opens(&mut net, seeder, &sample.metadata, 2, RTT);
    let silent = Script::opens(&mut net, seeder, &sample.metadata, 3, RTT);
    let names = |net: &mut Net| {
        asker.summary(net);
        asker.say(net, &[Message::PexReq]);
        let mut names = asker.summary(net).names;
        names.sort();
        names
    };
    assert_eq!(names(&mut net), [lively.address, silent.address]);
    net.run_for(59 * SECOND);
    lively.say(&mut net, &[]);
    assert_eq!(names(&mut net), [lively.address, silent.address]);
    net.run_for(2 * SECOND);
    assert_eq!(names(&mut net), [lively.address]);
    net.run_for(60 * SECOND);
    assert_eq!(names(&mut net), []);
}

// RFC 7574 §8.13, R24: an answer never carries an address out of its network, nor the asker's own.
#[test]
fn answers_keep_addresses_where_they_belong() {
    let sample = Sample::new(100_000);
    let kinds = ["loopback", "loopback6", "private", "unique-local", "public", "public6"];
    for policy in [PexPolicy::Benign, PexPolicy::Open, PexPolicy::Off] {
        let mut net = swarm(&sample, "private", 0, &with(|config| config.pex = policy));
        let mut scripts = Vec::new();
        for (number, kind) in kinds.iter().enumerate() {
            for twin in 0..2 {
                let number = 2 * number + twin;
                scripts.push((
                    kind,
                    Script::opens_at(&mut net, 0, &sample.metadata, address(kind, 20 + number), number as u8),
                ));
            }
        }
        for (kind, script) in &scripts {
            script.summary(&mut net);
            script.say(&mut net, &[Message::PexReq]);
            let mut names = script.summary(&mut net).names;
            names.sort();
            let may = |other: &str| match policy {
                PexPolicy::Off => false,
                PexPolicy::Benign => other == **kind && !other.starts_with("public"),
                _ => {
                    other == **kind
                        || (other.starts_with("public")
                            && other.ends_with('6') == (kind.ends_with('6') || **kind == "unique-local"))
                }
            };
            let mut expected: Vec<_> = scripts
                .iter()
                .filter(|(other, named)| may(other) && named.address != script.address)
                .map(|(_, named)| named.address)
                .collect();
            expected.sort();
            assert_eq!(names, expected, "{policy:?}, {kind}");
        }
    }
}

// RFC 7574 §12.2.1: a name is dialled with three HANDSHAKEs at most, and not soon again.
#[test]
fn a_name_that_leads_nowhere_costs_little_and_is_not_reported() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    let (script, _) = Script::answers(&mut net, leecher, &sample.metadata, 1, RTT);
    net.run_for(MS);
    assert_eq!(script.summary(&mut net).questions, 1, "asked at once");
    let victim: SocketAddr = "10.66.66.66:6778".parse().unwrap();
    let SocketAddr::V4(name) = victim else { panic!("{victim}") };
    script.say(&mut net, &[Message::PexResV4(name); 16]);
    let dials = |net: &Net| net.extra.iter().filter(|(_, to, _)| *to == victim).count();
    net.run_for(59 * SECOND);
    assert_eq!(dials(&net), 3);
    // Once more after a minute.
    net.run_for(60 * SECOND);
    assert_eq!(dials(&net), 6);
    script.say(&mut net, &[]);
    net.run_for(100 * SECOND);
    assert_eq!(dials(&net), 6);
    assert_eq!(net.hosts[leecher].closed, []);
}

// RFC 7574 §12.6.1: others cannot take the slots that are kept for channels we open.
#[test]
fn a_quarter_of_the_slots_is_for_channels_we_open() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let config = with(|config| config.max_peers = 8);
    let leecher = net.add_with(config, sample.metadata.clone(), Content::Fetch, Vec::new());
    let scripts: Vec<_> =
        (0..6).map(|number| Script::opens(&mut net, leecher, &sample.metadata, number, RTT)).collect();
    assert_eq!(peers(&net, leecher).len(), 6);
    // The seventh is met with silence.
    let refused = net.hosts[leecher].endpoint.stats().dropped.refused_handshake;
    let stranger: SocketAddr = "10.0.8.8:6778".parse().unwrap();
    net.inject(leecher, stranger, &crate::raw::opening(&sample.metadata, 77));
    assert_eq!(net.hosts[leecher].endpoint.stats().dropped.refused_handshake, refused + 1);
    assert!(net.extra.iter().all(|(_, to, _)| *to != stranger));
    // One that is there may come back, and takes its own place.
    net.inject(leecher, scripts[0].address, &crate::raw::opening(&sample.metadata, 78));
    assert!(!scripts[0].hears(&mut net).is_empty() || net.extra.iter().any(|(_, to, _)| *to == scripts[0].address));
    // We open two more, and no third.
    let seeders = [net.seeder(&sample), net.seeder(&sample), net.seeder(&sample)];
    net.connect(leecher, seeders[0]);
    net.connect(leecher, seeders[1]);
    net.run_for(SECOND);
    assert_eq!(peers(&net, leecher).len(), 8);
    let (swarm, now) = (net.hosts[leecher].swarm, net.now);
    let third = net.hosts[seeders[2]].address;
    let error = net.hosts[leecher].endpoint.add_peer(swarm, third, PeerSource::Trusted, now).unwrap_err();
    assert_eq!(error, AddPeerError::TooManyChannels(8));
    net.fetches(leecher, &sample, 20 * SECOND);
}

// Strangers that prove their addresses all at once find no more slots than there are.
#[test]
fn slots_are_counted_when_addresses_are_proven() {
    let sample = Sample::new(100_000);
    let mut net = Net::new();
    let config = with(|config| config.max_peers = 4);
    let seed = Content::Seed { tree: sample.tree.clone() };
    let seeder = net.add_with(config, sample.metadata.clone(), seed, sample.bytes.clone());
    let address = |number: u8| SocketAddr::from(([10, 0, 7, number], 6778));
    for number in 0..10 {
        net.inject(seeder, address(number), &crate::raw::opening(&sample.metadata, 100 + u32::from(number)));
    }
    let replies = std::mem::take(&mut net.extra);
    assert_eq!(replies.len(), 10);
    for (_, to, bytes) in &replies {
        let (reply, _) = handshake_of(bytes).unwrap();
        net.inject(seeder, *to, &crate::raw::datagram(reply.source.value(), &[]));
    }
    assert_eq!(peers(&net, seeder).len(), 3);
    // The others are told.
    let closed = net.extra.iter().filter(|(.., bytes)| handshake_of(bytes).is_some_and(|(it, _)| it.is_closing()));
    assert_eq!(closed.count(), 7);
    assert_eq!(net.hosts[seeder].connected.len(), 3);
    assert_eq!(net.hosts[seeder].closed, []);
}

// Channels we open at once are no exception: those that are answered last are ended.
#[test]
fn slots_are_counted_when_openings_are_answered() {
    let sample = Sample::new(100_000);
    let mut net = Net::new();
    let config = with(|config| config.max_peers = 2);
    let leecher = net.add_with(config, sample.metadata.clone(), Content::Fetch, Vec::new());
    let seeders: Vec<_> = (0..4).map(|_| net.seeder(&sample)).collect();
    for &seeder in &seeders {
        net.connect(leecher, seeder);
    }
    net.fetches(leecher, &sample, 20 * SECOND);
    assert_eq!((peers(&net, leecher).len(), net.hosts[leecher].connected.len()), (2, 2));
    assert_eq!(net.hosts[leecher].closed, [CloseReason::Locally; 2]);
    net.run_for(SECOND);
    let left = seeders.iter().filter(|&&seeder| peers(&net, seeder).is_empty()).count();
    assert_eq!(left, 2, "those that were turned away know it");
}

// §12.2.3: the word of other peers fills three quarters of the aim, and the trusted are dialled again when they are
// lost.
#[test]
fn room_is_kept_for_trusted_peers_and_lost_ones_are_found_again() {
    let sample = Sample::new(20 << 20);
    let mut net = Net::new();
    let config = with(|config| config.aimed_peers = 8);
    let leecher = net.add_with(config, sample.metadata.clone(), Content::Fetch, Vec::new());
    let trusted = net.leecher(&sample.metadata);
    let others: Vec<_> = (0..20).map(|_| net.leecher(&sample.metadata)).collect();
    for &other in &others {
        net.connect(other, trusted);
    }
    net.run_for(SECOND);
    // The others are content with each other: only our leecher dials it.
    net.connect(leecher, trusted);
    net.run_for(20 * SECOND);
    let ours = |net: &Net| net.hosts[leecher].connected.len();
    assert!(ours(&net) >= 7, "{}", ours(&net));
    // The trusted peer is gone for a while, says goodbye, and is back.
    let lost = peers(&net, trusted).len();
    assert!(lost > 0);
    let id = net.hosts[trusted].connected.iter().copied();
    let address = net.hosts[leecher].address;
    let ids: Vec<_> = id.collect();
    let host = &net.hosts[trusted];
    let view = host.endpoint.swarm(host.swarm).unwrap();
    let peer = view.peers().find(|peer| peer.address == address).unwrap().id;
    assert!(ids.contains(&peer));
    let now = net.now;
    net.hosts[trusted].endpoint.remove_peer(peer, now);
    net.run_for(SECOND);
    assert_eq!(net.hosts[leecher].closed, [CloseReason::ByPeer]);
    let home = net.hosts[trusted].address;
    assert!(!peers(&net, leecher).contains(&home));
    assert!(net.run(60 * SECOND, |net| peers(net, leecher).contains(&home)), "the trusted peer was not found again");
}

// R9: our own address, named to us, is recognised once and not dialled again.
#[test]
fn our_own_address_is_dialled_once() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    let (script, _) = Script::answers(&mut net, leecher, &sample.metadata, 1, RTT);
    let SocketAddr::V4(ours) = net.hosts[leecher].address else { panic!() };
    net.keep_log = true;
    for _ in 0..100 {
        script.say(&mut net, &[Message::PexResV4(ours)]);
        net.run_for(10 * SECOND);
        script.summary(&mut net);
    }
    let to_ourselves = net.log.iter().filter(|(from, to, _)| (*from, *to) == (leecher, leecher)).count();
    assert_eq!(to_ourselves, 1);
    assert_eq!(peers(&net, leecher), [script.address]);
    assert_eq!(net.hosts[leecher].closed, []);
}

// A lost question or answer is no more than a delay.
#[test]
fn peers_meet_on_a_lossy_link() {
    let sample = Sample::new(3 << 20);
    let mut net = swarm(&sample, "private", 5, &EndpointConfig::default());
    let mut state = 7u64;
    net.rule = Some(Box::new(move |_, _, _, _| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if state >> 61 == 0 { Fate::Drop } else { Fate::Deliver }
    }));
    let all = |net: &Net| (1..=5).all(|index| peers(net, index).len() == 5 || net.hosts[index].complete);
    let met = net.run(180 * SECOND, all);
    assert!(
        met,
        "{:?}",
        (1..=5)
            .map(|index| (peers(&net, index), &net.hosts[index].closed, net.hosts[index].connected.len()))
            .collect::<Vec<_>>()
    );
    for index in 1..=5 {
        net.fetches(index, &sample, 300 * SECOND);
    }
    assert_eq!(slandered(&net), 0);
}

// libswift tells the named peer of the asker, unasked, two seconds later: taken, but seldom.
#[test]
fn an_introduction_is_taken_now_and_then() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    let (script, _) = Script::answers(&mut net, leecher, &sample.metadata, 1, RTT);
    // Asked for the fifth time after 15 seconds, for the sixth after 31.
    net.run_for(28 * SECOND);
    assert_eq!(script.summary(&mut net).questions, 5);
    for last in 1..=100 {
        script.say(&mut net, &[Message::PexResV4(format!("10.9.9.{last}:6778").parse().unwrap())]);
    }
    net.run_for(500 * MS);
    let strange = |to: &SocketAddr| matches!(to.ip(), IpAddr::V4(ip) if ip.octets()[1] == 9);
    let dialled: BTreeSet<_> = net.extra.iter().map(|(_, to, _)| *to).filter(strange).collect();
    assert_eq!(dialled.len(), 1);
    assert_eq!(net.hosts[leecher].closed, []);
    assert!(net.hosts[leecher].endpoint.stats().pex_ignored >= 99);
    let told = net.log.iter().flat_map(|(.., bytes)| messages_of(&sample.metadata, bytes));
    assert!(told.filter(|message| matches!(message, Message::PexResV4(_))).count() == 0);
    // Nor does a certificate count for anything.
    let before = net.hosts[leecher].endpoint.stats().pex_ignored;
    script.say(&mut net, &[Message::PexResCert(&[0x30; 500]), Message::Request(ChunkRange::new(0, 1))]);
    assert_eq!(net.hosts[leecher].endpoint.stats().pex_ignored, before + 1);
}

// However many answer nothing, everyone who may know of others is asked.
#[test]
fn the_silent_do_not_keep_others_from_being_asked() {
    let sample = Sample::new(64 << 10);
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    for number in 1..=70 {
        Script::opens(&mut net, leecher, &sample.metadata, number, RTT);
    }
    net.run_for(20 * SECOND);
    let late = Script::opens(&mut net, leecher, &sample.metadata, 71, RTT);
    late.summary(&mut net);
    let mut asked = false;
    for _ in 0..30 {
        net.run_for(SECOND);
        asked |= late.summary(&mut net).questions > 0;
    }
    assert!(asked);
}

// However long the network was away: a trusted peer is dialled every few minutes.
#[test]
fn a_trusted_peer_is_found_again_soon() {
    for outage in [900, 7200] {
        let sample = Sample::new(8 << 20);
        let mut net = Net::new();
        let seeder = net.seeder(&sample);
        let leecher = net.leecher(&sample.metadata);
        net.links.insert(seeder, Link::new(1_250_000, 1_250_000, 200 * MS));
        net.connect(leecher, seeder);
        net.run_for(2 * SECOND);
        net.rule = Some(Box::new(|_, _, _, _| Fate::Drop));
        net.run_for(Duration::from_secs(outage));
        net.rule = None;
        let begin = net.now;
        let done = net.complete(leecher, Duration::from_secs(4 * 3600));
        let after = net.now - begin;
        assert!(done && after < Duration::from_secs(300), "{outage} s: {done} after {after:?}");
    }
}

// Who came by itself is trusted once the application names it, and looked for when it has gone.
#[test]
fn a_peer_that_is_there_already_can_be_trusted() {
    for named in [false, true] {
        let sample = Sample::new(8 << 20);
        let mut net = Net::new();
        let seeder = net.seeder(&sample);
        let leecher = net.leecher(&sample.metadata);
        net.links.insert(seeder, Link::new(1_250_000, 1_250_000, 200 * MS));
        net.connect(seeder, leecher);
        net.run_for(2 * SECOND);
        if named {
            let (now, address) = (net.local(leecher), net.hosts[seeder].address);
            let host = &mut net.hosts[leecher];
            let added = host.endpoint.add_peer(host.swarm, address, PeerSource::Trusted, now);
            assert_eq!(added, Err(AddPeerError::AlreadyKnown(address)));
        }
        net.rule = Some(Box::new(|_, _, _, _| Fate::Drop));
        net.run_for(300 * SECOND);
        net.rule = None;
        assert_eq!(net.complete(leecher, 600 * SECOND), named);
    }
}

// An address that another peer named is being dialled when the application names it too: it is dialled again and again from
// then on, as a trusted one is, and not once an hour.
#[test]
fn an_address_dialled_on_hearsay_can_be_trusted() {
    let openings = [false, true].map(|named| {
        let sample = Sample::new(64 << 10);
        let mut net = Net::new();
        let leecher = net.leecher(&sample.metadata);
        let (script, _) = Script::answers(&mut net, leecher, &sample.metadata, 1, RTT);
        let nobody: SocketAddr = "10.9.9.9:6778".parse().unwrap();
        script.say(&mut net, &[Message::PexResV4("10.9.9.9:6778".parse().unwrap())]);
        net.run_for(500 * MS);
        assert!(net.extra.iter().any(|(_, to, _)| *to == nobody), "it is not dialled");
        if named {
            let now = net.local(leecher);
            let host = &mut net.hosts[leecher];
            let added = host.endpoint.add_peer(host.swarm, nobody, PeerSource::Trusted, now);
            assert_eq!(added, Err(AddPeerError::AlreadyKnown(nobody)));
        }
        for _ in 0..360 {
            net.run_for(20 * SECOND);
            script.say(&mut net, &[]);
        }
        net.extra.iter().filter(|(_, to, _)| *to == nobody).count()
    });
    println!("{openings:?} openings in two hours");
    assert!(openings[1] > 2 * openings[0], "{openings:?}");
}
