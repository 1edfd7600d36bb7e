//! What strangers and odd peers must not bring about: work without end, silence towards others.

use std::net::SocketAddr;
use std::time::Duration;

use ppspp_core::chunk::{ChunkAddressing, ChunkRange};
use ppspp_core::wire::{Message, read_handshake, split_channel};
use ppspp_core::{
    BatchLimit, ByteRate, CloseReason, Content, DatagramMeta, EndpointConfig, Metadata, Misbehaviour, PexPolicy, Rates,
    Scope, SwarmConfig,
};

use crate::net::{Link, Net, Sample};
use crate::raw;
use crate::script::Script;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const RTT: Duration = Duration::from_millis(20);

/// A content that nobody could walk through.
const VAST: u64 = 1 << 50;

/// A leecher of [`VAST`] bytes, which has none of them, and a peer that opened a channel to it.
fn vast() -> (Net, usize, Script, ChunkRange) {
    let metadata =
        Metadata { content_length: Some(VAST), addressing: ChunkAddressing::Chunk64, ..Sample::new(1024).metadata };
    let mut net = Net::new();
    let leecher = net.leecher(&metadata);
    let script = Script::opens(&mut net, leecher, &metadata, 1, RTT);
    (net, leecher, script, ChunkRange::new(1, VAST / 1024))
}

fn limit(net: &mut Net, host: usize, rates: Rates) {
    let now = net.local(host);
    net.hosts[host].endpoint.set_rates(Scope::Endpoint, rates, now);
}

/// Addresses of the peers that stand.
fn peers(net: &Net, host: usize) -> Vec<SocketAddr> {
    let host = &net.hosts[host];
    let view = host.endpoint.swarm(host.swarm).unwrap();
    view.peers().filter(|peer| peer.established).map(|peer| peer.address).collect()
}

/// How many openings went to `address`.
fn openings(net: &Net, address: SocketAddr) -> usize {
    net.extra.iter().filter(|(_, to, bytes)| *to == address && bytes[..4] == [0; 4]).count()
}

/// Tenths of a second until `script` is asked for something, at most `most`.
fn tenths_until_asked(net: &mut Net, script: &Script, most: u32) -> Option<u32> {
    (0..most).find(|_| {
        net.run_for(100 * MS);
        !script.summary(net).requests.is_empty()
    })
}

/// A regression does not return.
#[test]
fn one_request_names_more_than_is_here() {
    let (mut net, leecher, script, all) = vast();
    for _ in 0..100 {
        script.say(&mut net, &[Message::Request(all)]);
        net.run_for(MS);
    }
    assert_eq!(net.hosts[leecher].stats().chunks_sent, 0);
    assert_eq!(script.summary(&mut net).data, []);
}

/// A regression does not return.
#[test]
fn one_have_names_any_number_of_groups() {
    let (mut net, leecher, script, all) = vast();
    script.say(&mut net, &[Message::Have(all)]);
    let pairs: Vec<_> = (0..60).flat_map(|_| [Message::Request(all), Message::Have(all)]).collect();
    for _ in 0..200 {
        script.say(&mut net, &pairs);
    }
    assert_eq!(net.hosts[leecher].closed, [CloseReason::Misbehaved(Misbehaviour::Flooding)]);
}

/// An upload that went idle in the line of a limit. A regression does not return.
#[test]
fn who_wants_nothing_any_more_leaves_the_line() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let script = Script::opens(&mut net, seeder, &sample.metadata, 1, RTT);
    script.say(&mut net, &[Message::Request(ChunkRange::new(0, 512))]);
    let mut came = 0;
    for _ in 0..3000 {
        net.run_for(MS);
        came += script.acknowledges(&mut net).len();
    }
    assert_eq!(came, 512);
    limit(&mut net, seeder, Rates { up: ByteRate::new(40), down: None });
    script.say(&mut net, &[Message::Request(ChunkRange::new(512, 544))]);
    for _ in 0..100 {
        net.run_for(10 * MS);
        if !script.acknowledges(&mut net).is_empty() {
            break;
        }
    }
    script.say(&mut net, &[Message::Cancel(ChunkRange::new(0, 1024))]);
    net.run_for(60 * SECOND);
    assert!(net.hosts[seeder].closed.is_empty());
}

#[test]
fn forged_openings_prolong_no_hearsay() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    let (script, _) = Script::answers(&mut net, leecher, &sample.metadata, 1, RTT);
    // It is asked whom it knows.
    net.run_for(MS);
    let name = |net: &mut Net, address: SocketAddr| {
        let SocketAddr::V4(address) = address else { unreachable!("these are of IPv4") };
        script.say(net, &[Message::PexResV4(address)]);
    };
    let victims: Vec<SocketAddr> = (1..=8).map(|n| SocketAddr::from(([10, 66, 66, n], 6778))).collect();
    for victim in &victims {
        name(&mut net, *victim);
    }
    for _ in 0..20 {
        net.run_for(100 * MS);
        for victim in &victims {
            if openings(&net, *victim) > 0 {
                net.inject(leecher, *victim, &raw::opening(&sample.metadata, 1));
            }
        }
    }
    let honest = SocketAddr::from(([10, 77, 77, 1], 6778));
    name(&mut net, honest);
    for _ in 0..60 {
        net.run_for(SECOND);
        script.say(&mut net, &[]);
    }
    let sent: Vec<usize> = victims.iter().map(|victim| openings(&net, *victim)).collect();
    assert!(sent.iter().all(|sent| (1..=3).contains(sent)), "{sent:?}");
    assert!(openings(&net, honest) > 0, "it was dialled in its turn");
}

#[test]
fn every_idle_peer_gets_a_look_at_what_others_hold() {
    for crowd in [10, 70] {
        let sample = Sample::new(48 * 1024);
        let mut net = Net::new();
        let leecher = net.leecher(&sample.metadata);
        let mut opens = |number| Script::opens(&mut net, leecher, &sample.metadata, number, RTT);
        let (crowd, slow, fast): (Vec<_>, _, _) = ((1..=crowd).map(&mut opens).collect(), opens(201), opens(202));
        slow.has_all(&mut net, &sample);
        let asked = slow.summary(&mut net).requested();
        let group = asked[0] / 16;
        for chunk in 16 * group..16 * group + 16 {
            net.run_for(2 * MS);
            slow.gives(&mut net, &sample, chunk);
        }
        net.run_for(20 * MS);
        let more = slow.summary(&mut net).requested();
        for one in &crowd {
            one.say(&mut net, &[Message::Have(ChunkRange::new(16 * group, 16 * group + 16))]);
        }
        net.run_for(60 * MS);
        fast.has_all(&mut net, &sample);
        // It trickles on.
        let mut left: Vec<u64> = asked.into_iter().chain(more).filter(|chunk| chunk / 16 != group).collect();
        let after = (0..15).find(|tick| {
            if tick % 4 == 3
                && let Some(chunk) = left.pop()
            {
                slow.gives(&mut net, &sample, chunk);
            }
            net.run_for(100 * MS);
            !fast.summary(&mut net).requests.is_empty()
        });
        assert!(after.is_some_and(|tenths| tenths < 8), "beside {}: {after:?}", crowd.len());
    }
}

#[test]
fn the_line_for_a_download_limit_moves_on_without_those_who_left() {
    let samples = [Sample::new(1 << 20), Sample::new((1 << 20) + 5)];
    let mut net = Net::new();
    let mut config = EndpointConfig::default();
    config.pex = PexPolicy::Off;
    let host = net.add_with(config, samples[0].metadata.clone(), Content::Fetch, Vec::new());
    let now = net.local(host);
    let other = SwarmConfig { metadata: samples[1].metadata.clone(), content: Content::Fetch };
    net.hosts[host].endpoint.join(other, now).unwrap();
    let [one, two] =
        [(0, 1), (1, 2)].map(|(at, number)| Script::opens(&mut net, host, &samples[at].metadata, number, RTT));
    limit(&mut net, host, Rates { up: None, down: ByteRate::new(64 << 10) });
    one.has_all(&mut net, &samples[0]);
    two.has_all(&mut net, &samples[1]);
    assert!(one.summary(&mut net).requests.is_empty() && two.summary(&mut net).requests.is_empty());
    net.inject(host, one.address, &raw::datagram(one.remote.value(), &raw::CLOSING));
    let after = tenths_until_asked(&mut net, &two, 50);
    assert!(after.is_some_and(|tenths| tenths < 5), "{after:?}");
}

/// A regression lets no time pass.
#[test]
fn a_silent_peer_without_room_for_another_channel_is_given_up() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let mut config = EndpointConfig::default();
    config.limits.channels = 1;
    let leecher = net.add_with(config, sample.metadata.clone(), Content::Fetch, Vec::new());
    let (script, _) = Script::answers(&mut net, leecher, &sample.metadata, 1, RTT);
    script.has_all(&mut net, &sample);
    net.run_for(300 * SECOND);
    assert_eq!(net.hosts[leecher].closed, [CloseReason::TimedOut]);
}

#[test]
fn a_group_that_many_hold_up_hides_nothing_behind_it() {
    let time = |silent: u8| {
        let sample = Sample::new(4 << 20);
        let mut net = Net::new();
        let (seeder, leecher) = (net.seeder(&sample), net.leecher(&sample.metadata));
        net.links.insert(seeder, Link::new(1 << 20, 1 << 20, 100 * MS));
        let scripts: Vec<_> =
            (1..=silent).map(|number| Script::opens(&mut net, leecher, &sample.metadata, number, RTT)).collect();
        for script in &scripts {
            script.has_all(&mut net, &sample);
        }
        net.run_for(5 * SECOND);
        let start = net.now;
        net.connect(leecher, seeder);
        assert!(net.complete(leecher, 60 * SECOND));
        net.now - start
    };
    let (alone, beside) = (time(0), time(8));
    assert!(beside < alone + 4 * SECOND, "{beside:?} beside eight that are silent, {alone:?} alone");
}

#[test]
fn who_is_shunned_has_no_spare_channel() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    let script = Script::opens(&mut net, leecher, &sample.metadata, 1, RTT);
    net.inject(leecher, script.address, &raw::opening(&sample.metadata, 99));
    let spare = script.take_raw(&mut net).iter().find_map(|bytes| {
        let (channel, body) = split_channel(bytes).unwrap();
        (channel.value() == 99).then(|| read_handshake(body).unwrap().0.source)
    });
    script.has_all(&mut net, &sample);
    let asked = script.summary(&mut net).requested();
    let mut lie = script.data(&net, &sample, asked[0]);
    *lie.last_mut().unwrap() ^= 1;
    net.inject(leecher, script.address, &lie);
    net.run_for(100 * MS);
    assert_eq!(net.hosts[leecher].closed, [CloseReason::Misbehaved(Misbehaviour::WrongHash)]);
    net.inject(leecher, script.address, &raw::datagram(spare.unwrap().value(), &[]));
    assert_eq!(peers(&net, leecher), []);
}

#[test]
fn strangers_do_not_shut_out_a_trusted_peer_that_comes_back() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let mut config = EndpointConfig::default();
    config.max_peers = 4;
    let content = Content::Seed { tree: sample.tree.clone() };
    let seeder = net.add_with(config, sample.metadata.clone(), content, sample.bytes.clone());
    let (trusted, _) = Script::answers(&mut net, seeder, &sample.metadata, 9, RTT);
    let _strangers: Vec<_> =
        (1..=3).map(|number| Script::opens(&mut net, seeder, &sample.metadata, number, RTT)).collect();
    net.inject(seeder, trusted.address, &raw::datagram(trusted.remote.value(), &raw::CLOSING));
    net.run_for(100 * SECOND);
    let refused = |net: &Net| net.hosts[seeder].endpoint.stats().dropped.refused_handshake;
    let before = refused(&net);
    net.inject(seeder, trusted.address, &raw::opening(&sample.metadata, 77));
    assert_eq!(refused(&net), before);
}

#[test]
fn requests_go_on_once_the_application_looked_at_its_events() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let mut config = EndpointConfig::default();
    config.pex = PexPolicy::Off;
    config.limits.queued_events = 1;
    let leecher = net.add_with(config, sample.metadata.clone(), Content::Fetch, Vec::new());
    net.drain(leecher);
    let script = Script::opens(&mut net, leecher, &sample.metadata, 1, RTT);
    // Another swarm's event waits while requests are due.
    let now = net.local(leecher);
    let have = script.datagram(script.remote, &[Message::Have(sample.geometry().all())]);
    let other = SwarmConfig { metadata: Sample::new((1 << 20) + 7).metadata, content: Content::Fetch };
    let endpoint = &mut net.hosts[leecher].endpoint;
    endpoint.join(other, now).unwrap();
    endpoint.handle_datagram(now, DatagramMeta::from_remote(script.address), &have);
    let limit = BatchLimit { datagrams: 64.try_into().unwrap(), bytes: 65_507 };
    while endpoint.poll_transmit(now, limit, &mut Vec::new()).is_some() {}
    net.drain(leecher);
    let after = tenths_until_asked(&mut net, &script, 50);
    assert!(after.is_some_and(|tenths| tenths < 5), "{after:?}");
}
