//! What libswift and libperegrine said, captured, said again to an endpoint that takes the place of the other side.
//!
//! Only channel ids are rewritten, and a datagram waits until what it answers has happened. What is in each capture
//! stands in `tests/vectors/README.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ppspp_core::chunk::{ChunkAddressing, RangeSet};
use ppspp_core::integrity::HashFunction;
use ppspp_core::wire::{ChannelId, Format, Message, Messages, read_handshake, split_channel};
use ppspp_core::{CloseReason, PeerSource, Wanted};

use crate::net::{Net, Sample};
use crate::older::tree::SwiftTree;
use crate::raw::option_codes;

/// How long a captured datagram waits for what it answers.
const PATIENCE: Duration = Duration::from_secs(5);
/// Options that draft-10 has.
const DRAFT_10_OPTIONS: [u8; 7] = [0, 1, 3, 4, 6, 7, 255];

fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

/// A captured datagram and the UDP ports it went from and to.
#[derive(Debug)]
struct Captured {
    from: u16,
    to: u16,
    payload: Vec<u8>,
}

impl Captured {
    fn channel(&self) -> ChannelId {
        split_channel(&self.payload).unwrap().0
    }

    fn messages(&self) -> Vec<Message<'_>> {
        Messages::new(&self.payload[4..], &format()).map(Result::unwrap).collect()
    }

    /// The channel id that it announces as its sender's.
    fn source(&self) -> Option<ChannelId> {
        read_handshake(&self.payload[4..]).ok().map(|(handshake, _)| handshake.source)
    }
}

/// The UDP datagrams over IPv4 in a little-endian Ethernet capture.
fn captured(name: &str) -> Vec<Captured> {
    let file = std::fs::read(vector(&format!("{name}.pcap"))).unwrap();
    let mut records = &file[24..];
    let mut datagrams = Vec::new();
    while !records.is_empty() {
        let len = u32::from_le_bytes(*records[8..].first_chunk().unwrap()) as usize;
        let (frame, rest) = records[16..].split_at(len);
        records = rest;
        let ip = &frame[14..];
        if frame[12..14] == [8, 0] && ip[9] == 17 {
            let udp = &ip[usize::from(ip[0] & 15) * 4..];
            let port = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
            datagrams.push(Captured { from: port(0), to: port(2), payload: udp[8..usize::from(port(4))].to_vec() });
        }
    }
    datagrams
}

fn format() -> Format {
    Format::new(ChunkAddressing::Chunk32, ppspp_core::chunk::ChunkSize::DEFAULT, HashFunction::Sha1.len(), 0)
}

/// The content of a capture: what its DATA carry.
fn content(datagrams: &[Captured]) -> Sample {
    let mut chunks = BTreeMap::new();
    for datagram in datagrams {
        for message in datagram.messages() {
            if let Message::Data { chunk, payload, .. } = message {
                chunks.insert(chunk, payload.to_vec());
            }
        }
    }
    let bytes = chunks.into_values().flatten().collect();
    Sample::of(bytes, HashFunction::Sha1, ChunkAddressing::Chunk32, 1024)
}

/// What the endpoint said to one captured peer.
struct Spoken {
    tree: SwiftTree,
    /// Chunks in the order of sending.
    data: Vec<u64>,
    requested: RangeSet,
    acked: Vec<u64>,
    /// Our channel ids, by those of the peer.
    ours: BTreeMap<ChannelId, ChannelId>,
    /// Our openings, in order, as codes of options.
    openings: Vec<(ChannelId, Vec<u8>)>,
}

/// An endpoint among captured peers, each known by its port.
struct Replay {
    net: Net,
    host: usize,
    spoken: BTreeMap<u16, Spoken>,
    sample: Sample,
    /// The ids of the captured peer whose place the endpoint takes, and what they are here.
    ids: BTreeMap<ChannelId, ChannelId>,
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 9, 1], port))
}

impl Replay {
    fn new(mut net: Net, host: usize, sample: Sample) -> Self {
        net.latency = Duration::ZERO;
        Self { net, host, spoken: BTreeMap::new(), sample, ids: BTreeMap::new() }
    }

    fn to(&mut self, port: u16) -> &mut Spoken {
        let metadata = &self.sample.metadata;
        self.spoken.entry(port).or_insert_with(|| Spoken {
            tree: SwiftTree::new(metadata.root, metadata.chunk_size),
            data: Vec::new(),
            requested: RangeSet::new(),
            acked: Vec::new(),
            ours: BTreeMap::new(),
            openings: Vec::new(),
        })
    }

    /// Takes in what the endpoint sent.
    fn listen(&mut self) {
        for (_, to, datagram) in std::mem::take(&mut self.net.extra) {
            let (channel, body) = split_channel(&datagram).unwrap();
            let spoken = self.to(to.port());
            for message in Messages::new(body, &format()).map(Result::unwrap) {
                match message {
                    Message::Handshake(handshake) if channel == ChannelId::ZERO => {
                        spoken.openings.push((handshake.source, option_codes(&datagram)));
                    }
                    Message::Handshake(handshake) => {
                        let codes = option_codes(&datagram);
                        assert!(codes.iter().all(|code| DRAFT_10_OPTIONS.contains(code)), "reply with {codes:?}");
                        if !handshake.is_closing() {
                            spoken.ours.insert(channel, handshake.source);
                        }
                    }
                    Message::Integrity { node, hash } => spoken.tree.offer_hash(node, hash),
                    Message::Data { chunk, payload, .. } => {
                        assert!(spoken.tree.offer_data(chunk, payload), "{chunk:?} cannot be verified on arrival");
                        spoken.data.push(chunk.value());
                    }
                    Message::Request(range) => {
                        spoken.requested.insert(range);
                    }
                    Message::Ack { range, .. } => {
                        assert_eq!(range.count(), 1, "an ACK counts for one chunk");
                        spoken.acked.push(range.start());
                    }
                    // Draft-10 has PEX_REQ.
                    Message::Have(_) | Message::PexReq => {}
                    other => panic!("{other:?} says nothing to a draft-10 peer"),
                }
            }
        }
    }

    /// Lets time pass until `done`.
    fn wait(&mut self, done: impl Fn(&Self) -> bool) -> bool {
        let until = self.net.now + PATIENCE;
        loop {
            self.listen();
            if done(self) || self.net.now >= until {
                return done(self);
            }
            self.net.run_for(Duration::from_millis(1));
        }
    }

    /// Has the captured peer say `datagram`, with the channel id it would have used here.
    fn say(&mut self, datagram: &Captured) {
        let channel = datagram.channel();
        let ours = if channel == ChannelId::ZERO { channel } else { self.ids[&channel] };
        let mut payload = datagram.payload.clone();
        payload[..4].copy_from_slice(&ours.value().to_be_bytes());
        self.net.run_for(Duration::from_millis(1));
        self.net.inject(self.host, address(datagram.from), &payload);
        self.listen();
    }
}

/// Whether the chunks that `datagram` acknowledges were sent.
fn is_due(replay: &Replay, datagram: &Captured) -> bool {
    let sent = |chunk| replay.spoken.get(&datagram.from).is_some_and(|spoken| spoken.data.contains(&chunk));
    datagram.messages().iter().all(|message| !matches!(message, Message::Ack { range, .. } if !sent(range.start())))
}

/// Whether `datagram` holds nothing but an ACK.
fn is_pure_ack(datagram: &Captured) -> bool {
    matches!(datagram.messages()[..], [Message::Ack { .. }])
}

/// Puts an endpoint in the place of the seeder at port `seeder`, before a leecher at port `leecher`.
///
/// A seeder is free in the order of sending (R21): ACKs that stand alone follow it, others are said as captured.
fn serves(name: &str, seeder: u16, leecher: u16) {
    let datagrams = captured(name);
    let sample = content(&datagrams);
    let chunks = sample.geometry().chunk_count();
    let mut net = Net::new();
    let host = net.seeder(&sample);
    let mut replay = Replay::new(net, host, sample);
    let mut left: Vec<&Captured> = datagrams.iter().filter(|datagram| datagram.to == seeder).collect();
    while let Some(&first) = left.first() {
        let together = left.iter().take_while(|datagram| is_pure_ack(datagram)).count().max(1);
        let due = |replay: &Replay| left[..together].iter().position(|datagram| is_due(replay, datagram));
        assert!(replay.wait(|replay| due(replay).is_some()), "{name}: {:?} was not sent", first.messages());
        let datagram = left.remove(due(&replay).unwrap());
        replay.say(datagram);
        if datagram.channel() == ChannelId::ZERO {
            let theirs = datagram.source().unwrap();
            let replied = |replay: &Replay| replay.spoken.get(&leecher)?.ours.get(&theirs).copied();
            assert!(replay.wait(|replay| replied(replay).is_some()), "{name}: no reply");
            let reply = datagrams.iter().find(|reply| reply.from == seeder && reply.channel() == theirs).unwrap();
            let ours = replied(&replay).unwrap();
            replay.ids.insert(reply.source().unwrap(), ours);
        }
    }
    let spoken = &replay.spoken[&leecher];
    let mut sent = spoken.data.clone();
    sent.sort_unstable();
    assert_eq!(sent, (0..chunks).collect::<Vec<_>>(), "{name}: each chunk is sent once");
    assert!(spoken.tree.is_complete());
    let reasons = &replay.net.hosts[host].closed;
    assert!(
        reasons.iter().all(|why| matches!(why, CloseReason::ByPeer | CloseReason::Replaced)),
        "{name}: {reasons:?}"
    );
}

/// Puts an endpoint in the place of the leecher at port `leecher`, that opens a channel to `seeder`.
fn fetches(name: &str, leecher: u16, seeder: u16, length_known: bool) {
    let datagrams = captured(name);
    let sample = content(&datagrams);
    let mut net = Net::new();
    let metadata = if length_known { sample.metadata.clone() } else { sample.clone().without_length().metadata };
    let host = net.leecher(&metadata);
    net.hosts[host].truth.clone_from(&sample.bytes);
    let mut replay = Replay::new(net, host, sample);
    let swarm = replay.net.hosts[host].swarm;
    let now = replay.net.now;
    // What the captured leecher asked for is what this one wants.
    let mut wanted = RangeSet::new();
    let endpoint = &mut replay.net.hosts[host].endpoint;
    endpoint.add_peer(swarm, address(seeder), PeerSource::Trusted, now).unwrap();
    // R7: the first opening is met with silence, the second has no option that libswift stumbles over.
    assert!(replay.wait(|replay| replay.spoken.get(&seeder).is_some_and(|spoken| spoken.openings.len() == 2)));
    let openings = &replay.spoken[&seeder].openings;
    assert_eq!(openings[0].0, openings[1].0);
    assert_eq!(
        (&openings[0].1[..], &openings[1].1[..]),
        (&[0, 1, 2, 3, 4, 6, 8, 9, 255][..], &[0, 1, 2, 3, 4, 6, 255][..])
    );
    let ours = openings[1].0;
    let opening = datagrams.iter().find(|opening| opening.from == leecher && opening.to == seeder).unwrap();
    replay.ids.insert(opening.source().unwrap(), ours);
    for datagram in &datagrams {
        if datagram.from == leecher {
            for message in datagram.messages() {
                if let Message::Request(range) = message {
                    wanted.insert(range);
                }
            }
            if length_known {
                let now = replay.net.now;
                let wanted = Wanted { ranges: wanted.clone(), ..wanted_in_order() };
                replay.net.hosts[host].endpoint.set_wanted(swarm, wanted, now).unwrap();
                replay.net.drain(host);
            }
            continue;
        }
        if datagram.to != leecher
            || datagram.channel() != ChannelId::ZERO && !replay.ids.contains_key(&datagram.channel())
        {
            // It belongs to a channel that is not opened here.
            continue;
        }
        let port = datagram.from;
        for message in datagram.messages() {
            if let Message::Data { chunk, .. } = message {
                let asked = replay.wait(|replay| {
                    replay.spoken[&port].requested.contains(chunk)
                        || replay.spoken[&port].acked.contains(&chunk.value())
                });
                assert!(asked, "{name}: {chunk:?} was not asked for");
            }
        }
        replay.say(datagram);
    }
    let complete = replay.wait(|replay| replay.net.hosts[host].complete);
    assert!(complete, "{name}: {:?}", replay.net.hosts[host].progress());
    assert!(replay.net.hosts[host].disk.bytes == replay.sample.bytes);
    assert_eq!(replay.net.hosts[host].closed, [], "{name}");
    // R14: each chunk has an ACK of its own.
    let acked: BTreeSet<u64> = replay.spoken[&seeder].acked.iter().copied().collect();
    assert_eq!(acked.len() as u64, replay.sample.geometry().chunk_count(), "{name}");
}

fn wanted_in_order() -> Wanted {
    Wanted { ranges: RangeSet::new(), order: ppspp_core::Order::InOrder }
}

#[test]
fn captured_libswift_leechers_are_served() {
    for name in ["libswift-1-byte", "libswift-1024", "libswift-7162", "libswift-keepalive"] {
        serves(name, 7101, 7102);
    }
}

#[test]
fn a_captured_libperegrine_leecher_is_served() {
    serves("peregrine-7162", 12001, 12002);
}

#[test]
fn captured_libswift_seeders_are_fetched_from() {
    for name in ["libswift-1-byte", "libswift-1024", "libswift-7162", "libswift-keepalive"] {
        fetches(name, 7102, 7101, true);
        fetches(name, 7102, 7101, false);
    }
}

#[test]
fn a_captured_libperegrine_seeder_is_fetched_from() {
    fetches("peregrine-7162", 12002, 12001, true);
}

/// The third peer, a libswift leecher, opens a channel of its own.
#[test]
fn a_captured_swarm_of_libswift_peers_is_fetched_from() {
    fetches("libswift-3peers", 7102, 7101, true);
}
