//! Draft-10 peers, scripted after libswift and libperegrine, in both roles (R6, R7, R14, R16).

mod line;
mod peregrine;
mod swift;
pub(crate) mod tree;

use std::time::Duration;

use ppspp_core::chunk::{ChunkAddressing, ChunkRange};
use ppspp_core::integrity::HashFunction;
use ppspp_core::wire::Message;
use ppspp_core::{Instant, PeerSource};

use crate::net::{Net, Sample};
use crate::script::Script;
use line::{Line, Loses, TURN};
use peregrine::{PeregrineLeecher, PeregrineSeeder};
use swift::{SwiftLeecher, SwiftSeeder};

/// Lengths of one chunk, a power of two of chunks, and others.
const LENGTHS: [usize; 7] = [1, 1024, 1025, 7162, 65_536, 100_000, 300_000];
const ADDRESSINGS: [ChunkAddressing; 2] = [ChunkAddressing::Bin32, ChunkAddressing::Chunk32];

/// A scripted peer.
trait Peer {
    /// Hears, thinks and speaks.
    fn turn(&mut self, net: &mut Net);
    /// Whether the content is on the other side.
    fn is_done(&self) -> bool;
}

fn never(_: u64, _: Instant) -> bool {
    false
}

fn every_seventeenth(n: u64, _: Instant) -> bool {
    n % 17 == 11
}

/// Nothing arrives for five seconds, from the first quarter of a second on.
fn outage(_: u64, now: Instant) -> bool {
    (1_000_250_000..1_005_250_000).contains(&now.as_micros())
}

fn sample(len: usize, addressing: ChunkAddressing) -> Sample {
    Sample::with(len, HashFunction::Sha1, addressing, 1024)
}

/// Lets host and peer talk for `time`, or until `done`.
fn talk(net: &mut Net, peer: &mut dyn Peer, time: Duration, done: impl Fn(&Net, &dyn Peer) -> bool) -> bool {
    let until = net.now + time;
    while net.now < until {
        peer.turn(net);
        net.run_for(TURN);
        if done(net, peer) {
            return true;
        }
    }
    false
}

/// A host seeds to the peer that `make` makes.
fn seeds_to<P: Peer>(sample: &Sample, loses: Loses, time: Duration, make: impl Fn(Line, &Sample) -> P) -> (Net, P) {
    let mut net = Net::new();
    let host = net.seeder(sample);
    let mut peer = make(Line::new(&net, host, sample, loses), sample);
    let done = talk(&mut net, &mut peer, time, |_, peer| peer.is_done());
    let what = format!("{} bytes, {:?}", sample.bytes.len(), sample.metadata.addressing);
    assert!(done, "not complete after {time:?}: {what}, {:?}", net.hosts[host].stats());
    assert_eq!(net.hosts[host].closed, [], "{what}");
    (net, peer)
}

/// A host fetches from the peer that `make` makes.
fn fetches_from<P: Peer>(sample: &Sample, loses: Loses, time: Duration, make: impl Fn(Line, &Sample) -> P) -> (Net, P) {
    let mut net = Net::new();
    let host = net.leecher(&sample.metadata);
    net.hosts[host].truth.clone_from(&sample.bytes);
    let line = Line::new(&net, host, sample, loses);
    let (swarm, now) = (net.hosts[host].swarm, net.now);
    net.hosts[host].endpoint.add_peer(swarm, line.address, PeerSource::Trusted, now).unwrap();
    let mut peer = make(line, sample);
    let done = talk(&mut net, &mut peer, time, |net, _| net.hosts[host].complete);
    let what = format!("{} bytes, {:?}", sample.bytes.len(), sample.metadata);
    assert!(done, "not complete after {time:?}: {what}, {:?}", net.hosts[host].stats());
    assert!(net.hosts[host].disk.bytes == sample.bytes, "{what}");
    assert_eq!(net.hosts[host].closed, [], "{what}");
    (net, peer)
}

#[test]
fn libswift_leechers_complete() {
    for addressing in ADDRESSINGS {
        for len in LENGTHS {
            let sample = sample(len, addressing);
            let (net, _) = seeds_to(&sample, never, Duration::from_secs(4), SwiftLeecher::new);
            assert_eq!(net.hosts[0].stats().chunks_resent, 0);
        }
    }
}

#[test]
fn libswift_leechers_complete_over_bad_lines() {
    for addressing in ADDRESSINGS {
        for loses in [every_seventeenth, outage] {
            seeds_to(&sample(300_000, addressing), loses, Duration::from_secs(60), SwiftLeecher::new);
        }
    }
}

#[test]
fn libswift_seeders_are_fetched_from() {
    for addressing in ADDRESSINGS {
        for len in LENGTHS {
            for apart in [false, true] {
                let known = sample(len, addressing);
                for sample in [known.clone(), known.without_length()] {
                    let make = |line, sample: &Sample| SwiftSeeder::new(line, sample, apart);
                    let (net, _) = fetches_from(&sample, never, Duration::from_secs(6), make);
                    assert_eq!(net.hosts[0].stats().duplicate_chunks, 0);
                }
            }
        }
    }
}

#[test]
fn libswift_seeders_are_fetched_from_over_bad_lines() {
    for addressing in ADDRESSINGS {
        for loses in [every_seventeenth, outage] {
            for apart in [false, true] {
                let make = |line, sample: &Sample| SwiftSeeder::new(line, sample, apart);
                fetches_from(&sample(300_000, addressing), loses, Duration::from_secs(60), make);
                fetches_from(&sample(300_000, addressing).without_length(), loses, Duration::from_secs(60), make);
            }
        }
    }
}

/// Both sides' keep-alives are enough for the other: after ten idle minutes nobody counts as dead.
#[test]
fn an_idle_channel_to_libswift_lives() {
    let sample = sample(7162, ChunkAddressing::Chunk32);
    let (mut net, mut peer) = seeds_to(&sample, never, Duration::from_secs(4), SwiftLeecher::new);
    talk(&mut net, &mut peer, Duration::from_secs(600), |_, _| false);
    assert_eq!(net.hosts[0].closed, []);
    let make = |line, sample: &Sample| SwiftSeeder::new(line, sample, false);
    let (mut net, mut peer) = fetches_from(&sample, never, Duration::from_secs(4), make);
    talk(&mut net, &mut peer, Duration::from_secs(600), |_, _| false);
    assert_eq!(net.hosts[0].closed, []);
}

#[test]
fn libperegrine_leechers_complete() {
    for addressing in ADDRESSINGS {
        for len in LENGTHS {
            seeds_to(&sample(len, addressing), never, Duration::from_secs(10), PeregrineLeecher::new);
        }
    }
}

#[test]
fn libperegrine_seeders_are_fetched_from() {
    for addressing in ADDRESSINGS {
        for len in LENGTHS {
            let known = sample(len, addressing);
            for sample in [known.clone(), known.without_length()] {
                fetches_from(&sample, never, Duration::from_secs(10), PeregrineSeeder::new);
            }
        }
    }
}

/// libswift answers DATA that it has with HAVE: what was sent in vain is neither in flight nor lost any more.
#[test]
fn a_have_in_place_of_an_ack_settles_a_repeat() {
    let sample = sample(7162, ChunkAddressing::Chunk32);
    let mut net = Net::new();
    let host = net.seeder(&sample);
    let script = Script::opens_as(&mut net, host, &sample.metadata, 1, Duration::from_millis(20), true);
    let first = ChunkRange::new(0, 1);
    script.say(&mut net, &[Message::Request(first)]);
    assert_eq!(script.summary(&mut net).data, [0]);
    // The ACK is lost, and the chunk is sent again, until the timeout takes the window down.
    net.run_for(Duration::from_secs(1));
    assert_eq!(script.summary(&mut net).data.first(), Some(&0));
    let flying = |net: &Net| {
        let view = net.hosts[host].endpoint.swarm(net.hosts[host].swarm).unwrap();
        view.peers().map(|peer| (peer.in_flight, peer.srtt)).next().unwrap()
    };
    let before = flying(&net);
    assert!(before.0 > 0);
    script.say(&mut net, &[Message::Have(first)]);
    assert_eq!(flying(&net), (0, before.1));
    net.run_for(Duration::from_secs(10));
    assert_eq!(script.summary(&mut net).data, Vec::<u64>::new());
    // With the ACK beside it the HAVE takes no sample away.
    script.say(&mut net, &[Message::Request(ChunkRange::new(1, 2))]);
    net.run_for(Duration::from_millis(60));
    let known = ChunkRange::new(1, 2);
    script.say(&mut net, &[Message::Have(known), Message::Ack { range: known, delay: 10_000 }]);
    let (in_flight, srtt) = flying(&net);
    assert!(in_flight == 0 && srtt > before.1, "{srtt:?} after {before:?}");
}
