//! Peers that name false addresses, boast of what they do not give, and come back after they were shown the door
//! (RFC 7574 §12.2, §12.6.1, §12.7, R24); and honest ones that might be taken for such.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;

use ppspp_core::chunk::{ChunkIndex, ChunkRange};
use ppspp_core::wire::Message;
use ppspp_core::{AddPeerError, CloseReason, Content, EndpointConfig, Misbehaviour, PeerSource, PexPolicy};

use crate::net::{Fate, Link, Net, Sample};
use crate::raw::{datagram, handshake_of, opening};
use crate::script::Script;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const RTT: Duration = Duration::from_millis(20);

const USELESS: CloseReason = CloseReason::Misbehaved(Misbehaviour::Useless);
const FLOODING: CloseReason = CloseReason::Misbehaved(Misbehaviour::Flooding);
const WRONG_HASH: CloseReason = CloseReason::Misbehaved(Misbehaviour::WrongHash);

/// A leecher in a swarm with `policy`.
pub(crate) fn leecher(sample: &Sample, policy: PexPolicy) -> (Net, usize) {
    let mut net = Net::new();
    let mut config = EndpointConfig::default();
    config.pex = policy;
    let leecher = net.add_with(config, sample.metadata.clone(), Content::Fetch, Vec::new());
    net.hosts[leecher].truth.clone_from(&sample.bytes);
    (net, leecher)
}

pub(crate) fn standing(net: &Net, host: usize) -> Vec<SocketAddr> {
    let host = &net.hosts[host];
    let view = host.endpoint.swarm(host.swarm).unwrap();
    view.peers().filter(|peer| peer.established).map(|peer| peer.address).collect()
}

fn v4(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

/// An honest seeder arrives, and the content is fetched without a wrong byte.
#[track_caller]
fn recovers(net: &mut Net, leecher: usize, sample: &Sample) {
    let seeder = net.seeder(sample);
    net.connect(leecher, seeder);
    net.fetches(leecher, sample, Duration::from_secs(60));
}

impl Script {
    /// Sends a chunk that does not verify.
    fn lies(&self, net: &mut Net, sample: &Sample, chunk: u64) {
        let mut spoilt = self.data(net, sample, chunk);
        *spoilt.last_mut().unwrap() ^= 1;
        net.inject(self.host, self.address, &spoilt);
    }

    /// Sends the opening HANDSHAKE again; returns whether it was answered.
    fn knocks(&self, net: &mut Net, source: u32) -> bool {
        net.extra.clear();
        net.inject(self.host, self.address, &opening(&self.metadata, source));
        net.extra.iter().any(|(_, to, bytes)| {
            *to == self.address && handshake_of(bytes).is_some_and(|(reply, _)| !reply.is_closing())
        })
    }
}

// R24, §12.2.1: of thousands of names few are dialled, slowly; those of no use, our own and the known ones never.
#[test]
fn poisoned_answers_cost_little() {
    let sample = Sample::new(1 << 20);
    for policy in [PexPolicy::Benign, PexPolicy::Open] {
        let (mut net, leecher) = leecher(&sample, policy);
        let (liar, _) = Script::answers(&mut net, leecher, &sample.metadata, 1, RTT);
        let SocketAddr::V4(ours) = net.hosts[leecher].address else { panic!() };
        let SocketAddr::V4(own) = liar.address else { panic!() };
        let useless = [
            v4("127.0.0.1:6778"),
            v4("0.0.0.0:6778"),
            v4("10.0.0.77:0"),
            v4("224.0.0.1:6778"),
            v4("255.255.255.255:6778"),
            v4("240.1.2.3:6778"),
            own,
        ];
        let v6: SocketAddrV6 = "[fe80::1]:6778".parse().unwrap();
        let victim = |port: u16| SocketAddrV4::new([192, 168, 66, 66].into(), port);
        let mut dialled: BTreeMap<SocketAddr, usize> = BTreeMap::new();
        let minutes = 10;
        for turn in 0..minutes * 60_u16 {
            let mut names: Vec<_> = useless.iter().map(|&name| Message::PexResV4(name)).collect();
            names.push(Message::PexResV6(v6));
            names.push(Message::PexResV4(ours));
            if turn % 2 == 0 {
                names.clear();
            }
            // The victim's ports, and strangers, new ones every time.
            for part in 0..16 {
                names.push(Message::PexResV4(victim(1 + turn * 16 + part)));
                let number = u32::from(turn) * 16 + u32::from(part);
                names.push(Message::PexResV4(SocketAddrV4::new((0x0a80_0000 + number).into(), 6778)));
                names.push(Message::PexResV4(SocketAddrV4::new((0x0808_0000 + number).into(), 6778)));
            }
            // Spread out, or the flood ends the channel.
            names.truncate(20);
            if turn % 10 == 0 {
                liar.say(&mut net, &names);
            } else {
                liar.say(&mut net, &[]);
            }
            net.run_for(SECOND);
            for (_, to, _) in std::mem::take(&mut net.extra) {
                *dialled.entry(to).or_default() += 1;
            }
            net.log.clear();
        }
        dialled.remove(&liar.address);
        // An eighth of the table of 256, three HANDSHAKEs at a time, after 1, 4 and 16 minutes, or half of that where another
        // takes the place: four times in ten minutes.
        assert!(dialled.values().sum::<usize>() <= 32 * 4 * 3, "{policy:?}: {dialled:?}");
        assert!(dialled.values().all(|&times| times <= 9), "{policy:?}: {dialled:?}");
        let to_victim: usize =
            dialled.iter().filter(|(to, _)| to.ip() == *victim(1).ip()).map(|(_, &times)| times).sum();
        assert!(to_victim <= 8 * 4 * 3, "{policy:?}: {to_victim} datagrams to the victim");
        let bad = useless.iter().map(|&name| SocketAddr::V4(name));
        assert!(bad.chain([SocketAddr::V6(v6)]).all(|name| !dialled.contains_key(&name)), "{policy:?}: {dialled:?}");
        let public = dialled.keys().any(|to| to.ip().to_string().starts_with("8."));
        assert!(policy == PexPolicy::Open || !public);
        assert_eq!(net.hosts[leecher].closed, [], "{policy:?}");
        recovers(&mut net, leecher, &sample);
    }
}

// RFC 7574 §12.6.11: a flood of questions brings one answer a second, and then the door.
#[test]
fn floods_of_questions_are_answered_once_a_second() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let friends: Vec<_> =
        (1..=30).map(|number| Script::opens(&mut net, seeder, &sample.metadata, number, RTT)).collect();
    let nosy = Script::opens(&mut net, seeder, &sample.metadata, 99, RTT);
    net.extra.clear();
    let mut names = 0;
    for _ in 0..1000 {
        nosy.say(&mut net, &[Message::PexReq]);
        net.run_for(10 * MS);
        names += nosy.summary(&mut net).names.len();
    }
    assert!(names <= 11 * 16, "{names} names in ten seconds");
    assert!(names >= 9 * 16, "{names} names in ten seconds");
    assert_eq!(net.hosts[seeder].closed, []);
    // More of it ends the channel, and keeps it closed for a while.
    for _ in 0..10 {
        nosy.say(&mut net, &vec![Message::PexReq; 1000]);
    }
    assert_eq!(net.hosts[seeder].closed, [FLOODING]);
    assert!(!nosy.knocks(&mut net, 1234));
    assert!(friends[0].knocks(&mut net, 1235), "others are welcome");
    let leecher = net.leecher(&sample.metadata);
    net.connect(leecher, seeder);
    net.fetches(leecher, &sample, 20 * SECOND);
}

// §12.7: who announces everything and gives nothing is dropped after half a minute, and not dealt with for a minute.
#[test]
fn boasters_are_dropped_and_shunned() {
    let sample = Sample::new(64 << 20);
    let (mut net, leecher) = leecher(&sample, PexPolicy::Off);
    let boasters: Vec<_> =
        (1..=3).map(|number| Script::opens(&mut net, leecher, &sample.metadata, number, RTT)).collect();
    let seeder = net.seeder(&sample);
    net.connect(leecher, seeder);
    // The seeder delivers slowly, and all the time.
    let mut count = 0u64;
    net.rule = Some(Box::new(move |_, from, _, bytes| {
        count += u64::from(from == seeder && bytes.len() > 1000);
        if from == seeder && bytes.len() > 1000 && !count.is_multiple_of(4) { Fate::Drop } else { Fate::Deliver }
    }));
    let begin = net.now;
    for boaster in &boasters {
        boaster.has_all(&mut net, &sample);
    }
    while net.hosts[leecher].closed.len() < 3 && net.now - begin < 200 * SECOND {
        net.run_for(SECOND);
        for boaster in &boasters {
            if standing(&net, leecher).contains(&boaster.address) {
                boaster.say(&mut net, &[]);
            }
        }
    }
    let took = net.now - begin;
    assert_eq!(net.hosts[leecher].closed, [USELESS; 3], "after {took:?}");
    assert!(took >= 30 * SECOND, "{took:?}");
    assert!(!boasters[0].knocks(&mut net, 4321));
    net.run_for(61 * SECOND);
    assert!(boasters[0].knocks(&mut net, 4322), "forgiven after a minute");
    net.rule = None;
    net.fetches(leecher, &sample, 60 * SECOND);
}

// The last source is not dropped, and a trusted one is not, however long it takes.
#[test]
fn the_last_source_and_trusted_ones_are_waited_for() {
    let sample = Sample::new(1 << 20);
    for trusted in [false, true] {
        let (mut net, leecher) = leecher(&sample, PexPolicy::Off);
        let script = if trusted {
            Script::answers(&mut net, leecher, &sample.metadata, 1, RTT).0
        } else {
            Script::opens(&mut net, leecher, &sample.metadata, 1, RTT)
        };
        script.has_all(&mut net, &sample);
        // Another peer with something to give, if it is trust that protects.
        let other = trusted.then(|| Script::answers(&mut net, leecher, &sample.metadata, 2, RTT).0);
        for _ in 0..120 {
            script.say(&mut net, &[]);
            if let Some(other) = &other {
                other.has_all(&mut net, &sample);
            }
            net.run_for(SECOND);
        }
        let closed = &net.hosts[leecher].closed;
        assert!(closed.iter().all(|reason| !matches!(reason, CloseReason::Misbehaved(_))), "{closed:?}");
        recovers(&mut net, leecher, &sample);
    }
}

// §12.7: a liar that comes back is not let in, each time for longer; nor is it called.
#[test]
fn liars_that_return_are_kept_out() {
    let sample = Sample::new(1 << 20);
    let (mut net, leecher) = leecher(&sample, PexPolicy::Benign);
    let mut waits = Vec::new();
    for _ in 0..3 {
        net.extra.clear();
        let liar = Script::opens(&mut net, leecher, &sample.metadata, 1, RTT);
        liar.has_all(&mut net, &sample);
        liar.lies(&mut net, &sample, 0);
        assert_eq!(net.hosts[leecher].closed.pop(), Some(WRONG_HASH));
        let shunned = net.hosts[leecher].endpoint.stats().dropped.shunned;
        assert!(!liar.knocks(&mut net, 1000));
        assert_eq!(net.hosts[leecher].endpoint.stats().dropped.shunned, shunned + 1);
        let (swarm, now) = (net.hosts[leecher].swarm, net.now);
        let called = net.hosts[leecher].endpoint.add_peer(swarm, liar.address, PeerSource::Exchange, now);
        assert_eq!(called.unwrap_err(), AddPeerError::Shunned(liar.address));
        let since = net.now;
        while !liar.knocks(&mut net, 2000) {
            net.run_for(60 * SECOND);
        }
        waits.push((net.now - since).as_secs() / 60);
        net.run_for(60 * SECOND);
    }
    assert_eq!(waits, [10, 40, 160]);
    recovers(&mut net, leecher, &sample);
}

// A host whose peers lie from port after port is kept out as a whole; until then its honest neighbours are welcome.
#[test]
fn changing_the_port_does_not_help_for_long() {
    let sample = Sample::new(1 << 20);
    let (mut net, leecher) = leecher(&sample, PexPolicy::Off);
    let at = |port: u16| SocketAddr::from(([10, 0, 5, 5], port));
    for port in 1..=4 {
        let liar = Script::opens_at(&mut net, leecher, &sample.metadata, at(port), port as u8);
        liar.has_all(&mut net, &sample);
        liar.lies(&mut net, &sample, 0);
    }
    assert_eq!(net.hosts[leecher].closed, [WRONG_HASH; 4]);
    net.extra.clear();
    net.inject(leecher, at(5), &opening(&sample.metadata, 5));
    assert!(net.extra.is_empty());
    recovers(&mut net, leecher, &sample);
}

// §12.1: whoever forges a source address brings its owner no discredit, whatever is sent.
#[test]
fn forged_addresses_slander_nobody() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let leecher = net.leecher(&sample.metadata);
    let victim = net.hosts[leecher].address;
    for number in 1..2000 {
        net.inject(seeder, victim, &opening(&sample.metadata, number));
        net.inject(seeder, victim, &datagram(0, &[0xff; 50]));
        net.inject(seeder, victim, &datagram(number, &[0xff; 50]));
        net.inject(seeder, victim, &datagram(number, &[6; 4000]));
    }
    assert_eq!(net.hosts[seeder].endpoint.stats().dropped.shunned, 0);
    net.connect(leecher, seeder);
    net.fetches(leecher, &sample, 20 * SECOND);
    assert_eq!(net.hosts[seeder].closed, []);
}

// A trusted peer that lies once, say for a bad memory, is called again half a minute later.
#[test]
fn a_trusted_peer_that_lies_is_called_again_soon() {
    let sample = Sample::new(1 << 20);
    let (mut net, leecher) = leecher(&sample, PexPolicy::Off);
    let (script, _) = Script::answers(&mut net, leecher, &sample.metadata, 1, RTT);
    script.has_all(&mut net, &sample);
    script.lies(&mut net, &sample, 0);
    assert_eq!(net.hosts[leecher].closed, [WRONG_HASH]);
    net.extra.clear();
    net.run_for(29 * SECOND);
    assert!(net.extra.iter().all(|(_, to, _)| *to != script.address));
    net.run_for(2 * SECOND);
    assert!(net.extra.iter().any(|(_, to, _)| *to == script.address));
}

// A seeder whose file changed in part gives the rest, and is not dropped for what it cannot give.
#[test]
fn a_seeder_that_lost_a_part_is_no_liar() {
    let sample = Sample::new(1 << 20);
    let (mut net, leecher) = leecher(&sample, PexPolicy::Off);
    let spoilt = net.seeder(&sample);
    net.hosts[spoilt].disk.bytes[300_000..500_000].fill(0);
    net.connect(spoilt, leecher);
    net.run_for(10 * SECOND);
    assert!(net.hosts[leecher].verified_bytes >= 800_000);
    // There is another with something to give.
    let other = Script::opens(&mut net, leecher, &sample.metadata, 2, RTT);
    for _ in 0..150 {
        other.say(&mut net, &[Message::Have(ChunkRange::new(0, 1))]);
        net.run_for(SECOND);
    }
    assert!(!net.hosts[leecher].complete && net.hosts[leecher].stats().requests_expired > 20);
    assert_eq!(net.hosts[leecher].closed, []);
    assert_eq!(standing(&net, leecher).len(), 2);
    recovers(&mut net, leecher, &sample);
}

// Who announces everything and gives a part is used for that part, and holds up nothing of the rest.
#[test]
fn boasters_that_give_a_part_hold_nothing_up() {
    let sample = Sample::new(4 << 20);
    let mut took = Vec::new();
    for boasting in [false, true] {
        let (mut net, leecher) = leecher(&sample, PexPolicy::Off);
        let seeder = net.seeder(&sample);
        net.links.insert(seeder, Link::new(200_000, 200_000, SECOND));
        let begin = net.now;
        net.connect(leecher, seeder);
        let boaster = boasting.then(|| Script::opens(&mut net, leecher, &sample.metadata, 1, RTT));
        if let Some(boaster) = &boaster {
            boaster.has_all(&mut net, &sample);
        }
        let mut given = 0;
        while !net.hosts[leecher].complete && net.now - begin < 100 * SECOND {
            net.run_for(50 * MS);
            let Some(boaster) = &boaster else { continue };
            boaster.say(&mut net, &[]);
            for chunk in boaster.summary(&mut net).requested() {
                // Every eighth group.
                if chunk / 16 % 8 == 0 {
                    boaster.gives(&mut net, &sample, chunk);
                    given += 1;
                }
            }
        }
        took.push(net.now - begin);
        assert!(net.hosts[leecher].complete, "{:?}", net.hosts[leecher].progress());
        let stats = net.hosts[leecher].stats();
        assert!(stats.duplicate_chunks * 20 < stats.chunks_received, "{stats:?}");
        assert_eq!(net.hosts[leecher].closed, []);
        assert!(!boasting || given >= 32, "{given}");
    }
    assert!(took[1] < took[0], "{took:?}");
}

// Who was dropped for giving nothing is called again when its time is over: it may have been asked at a bad moment.
#[test]
fn the_useless_have_another_chance() {
    let sample = Sample::new(64 << 20);
    let (mut net, leecher) = leecher(&sample, PexPolicy::Off);
    let idle = Script::opens(&mut net, leecher, &sample.metadata, 1, RTT);
    let other = Script::opens(&mut net, leecher, &sample.metadata, 2, RTT);
    idle.has_all(&mut net, &sample);
    other.say(&mut net, &[Message::Have(ChunkRange::new(0, 1))]);
    while net.hosts[leecher].closed.is_empty() {
        idle.say(&mut net, &[]);
        net.run(SECOND, |net| !net.hosts[leecher].closed.is_empty());
    }
    assert_eq!(net.hosts[leecher].closed, [USELESS]);
    net.extra.clear();
    net.run_for(59 * SECOND);
    assert!(net.extra.iter().all(|(_, to, _)| *to != idle.address));
    net.run_for(60 * SECOND);
    assert!(net.extra.iter().any(|(_, to, _)| *to == idle.address));
}

// A peer that refuses to serve us says so with CHOKE, and nothing speaks against it.
#[test]
fn who_chokes_us_is_no_liar() {
    let sample = Sample::new(8 << 20);
    let (mut net, leecher) = leecher(&sample, PexPolicy::Off);
    let choking = Script::opens(&mut net, leecher, &sample.metadata, 1, RTT);
    choking.has_all(&mut net, &sample);
    choking.say(&mut net, &[Message::Choke]);
    let giving = Script::opens(&mut net, leecher, &sample.metadata, 2, RTT);
    giving.has_all(&mut net, &sample);
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        choking.say(&mut net, &[]);
        for chunk in giving.summary(&mut net).requested().into_iter().take(20) {
            seen.insert(chunk);
            giving.gives(&mut net, &sample, chunk);
        }
        net.run_for(SECOND);
    }
    assert!(!seen.is_empty());
    assert_eq!(net.hosts[leecher].closed, []);
    choking.say(&mut net, &[Message::Unchoke, Message::Have(ChunkRange::single(ChunkIndex::new(0)))]);
    recovers(&mut net, leecher, &sample);
}
