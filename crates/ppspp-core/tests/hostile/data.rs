//! Peers that lie about content, flood with messages, or drag their feet.

use std::time::Duration;

use ppspp_core::chunk::{Bin, ChunkAddressing, ChunkIndex, ChunkRange};
use ppspp_core::integrity::{Hash, HashFunction, peaks_needed};
use ppspp_core::wire::{Message, MessageType};
use ppspp_core::{ByteRate, CloseReason, Content, EndpointConfig, Misbehaviour, Rates, Scope};

use crate::net::{Fate, Net, Sample};
use crate::script::Script;

const MS: Duration = Duration::from_millis(1);
const RTT: Duration = Duration::from_millis(20);

const WRONG_HASH: CloseReason = CloseReason::Misbehaved(Misbehaviour::WrongHash);

/// A leecher, and a scripted peer that claims to have everything and was asked for chunk 0.
fn lured(sample: &Sample) -> (Net, usize, Script) {
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    net.hosts[leecher].truth.clone_from(&sample.bytes);
    let (script, _) = Script::answers(&mut net, leecher, &sample.metadata, 1, RTT);
    script.has_all(&mut net, sample);
    assert!(!script.summary(&mut net).requests.is_empty());
    (net, leecher, script)
}

/// An honest seeder arrives, and the content is fetched without a wrong byte.
#[track_caller]
fn recovers(net: &mut Net, leecher: usize, sample: &Sample) {
    let seeder = net.seeder(sample);
    net.connect(leecher, seeder);
    net.fetches(leecher, sample, Duration::from_secs(20));
}

impl Script {
    /// Sends arbitrary bytes on the channel.
    fn say_raw(&self, net: &mut Net, body: &[u8]) {
        let mut datagram = self.remote.value().to_be_bytes().to_vec();
        datagram.extend_from_slice(body);
        net.inject(self.host, self.address, &datagram);
    }
}

fn hash_of(bytes: &[u8]) -> Hash {
    HashFunction::Sha256.leaf(bytes)
}

// RFC 7574 §5.2: wrong bytes, or right ones with a wrong hash, close the channel and reach nobody.
#[test]
fn wrong_data_and_wrong_hashes_close_the_liar() {
    let sample = Sample::new(100_000);
    let timestamp = 1;
    for lie in 0..4 {
        let (mut net, leecher, script) = lured(&sample);
        let mut proof = sample.proof(0);
        let mut payload = sample.chunk(0).to_vec();
        let mut reason = WRONG_HASH;
        match lie {
            0 => payload[1023] ^= 0x80,
            // An uncle; the peaks are known to fit the root only together, so a wrong one proves nothing.
            1 => proof.last_mut().unwrap().1 = hash_of(b"wrong"),
            2 => {
                payload.pop();
                reason = CloseReason::Misbehaved(Misbehaviour::WrongLength);
            }
            _ => payload = sample.chunk(1).to_vec(),
        }
        let mut messages: Vec<_> =
            proof.iter().map(|(node, hash)| Message::Integrity { node: *node, hash: hash.as_slice() }).collect();
        messages.push(Message::Data { chunk: ChunkIndex::new(0), timestamp, payload: &payload });
        script.say(&mut net, &messages);
        assert_eq!(net.hosts[leecher].closed, [reason], "lie {lie}");
        assert_eq!(net.hosts[leecher].verified_bytes, 0);
        assert!(script.summary(&mut net).closed, "the liar is told");
        recovers(&mut net, leecher, &sample);
    }
    // DATA past the end.
    let (mut net, leecher, script) = lured(&sample);
    script.say(&mut net, &[Message::Data { chunk: ChunkIndex::new(98), timestamp, payload: sample.chunk(0) }]);
    assert_eq!(net.hosts[leecher].closed, [CloseReason::Misbehaved(Misbehaviour::OutOfRange)]);
    recovers(&mut net, leecher, &sample);
}

// RFC 7574 §5.2: whatever bit flips on the way, nothing wrong passes for verified, and the transfer completes.
#[test]
fn flipped_bits_in_live_datagrams_do_no_lasting_harm() {
    let sample = Sample::new(300_000);
    for seed in 0..40u64 {
        let mut net = Net::new();
        let leecher = net.leecher(&sample.metadata);
        let seeders = [net.seeder(&sample), net.seeder(&sample)];
        net.hosts[leecher].truth.clone_from(&sample.bytes);
        net.connect(leecher, seeders[0]);
        let (liar, address) = (seeders[0], net.hosts[seeders[0]].address);
        // Everything of the first seeder's is caught on the way, spoilt now and then, and handed over by hand.
        net.keep_log = true;
        net.rule = Some(Box::new(move |_, from, _, _| if from == liar { Fate::Drop } else { Fate::Deliver }));
        let mut state = seed * 7919 + 1;
        let mut seen = 0;
        for _ in 0..200 {
            net.run_for(10 * MS);
            let fresh: Vec<_> =
                net.log[seen..].iter().filter(|(from, ..)| *from == liar).map(|(.., bytes)| bytes.clone()).collect();
            seen = net.log.len();
            for mut datagram in fresh {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if state >> 61 == 0 {
                    let bit = (state >> 20) as usize % (datagram.len() * 8);
                    datagram[bit / 8] ^= 1 << (bit % 8);
                }
                net.inject(leecher, address, &datagram);
            }
        }
        net.rule = None;
        net.connect(leecher, seeders[1]);
        net.fetches(leecher, &sample, Duration::from_secs(30));
    }
}

// R1: what peaks claim costs nothing but themselves, closes nobody, and keeps nobody from finding the true size.
#[test]
fn a_forged_size_is_only_a_claim() {
    let sample = Sample::new(100_000).without_length();
    let root = sample.metadata.root;
    for layer in [0, 7, 20, 31] {
        let (mut net, leecher, script) = lured(&sample);
        let claimed = 1_u64 << layer;
        script.say(
            &mut net,
            &[
                Message::Integrity { node: Bin::leftmost(layer), hash: root.as_slice() },
                Message::Data { chunk: ChunkIndex::new(0), timestamp: 1, payload: sample.chunk(0) },
            ],
        );
        if layer > 0 {
            // The peer is asked to prove it with its last chunk.
            assert_eq!(script.summary(&mut net).requested(), [claimed - 1], "a claim of {claimed} chunks");
        }
        assert_eq!(net.hosts[leecher].size, None);
        recovers(&mut net, leecher, &sample);
        assert_eq!(net.hosts[leecher].size, Some(100_000));
        let others: Vec<_> = net.hosts[leecher].closed.iter().filter(|&&reason| reason != WRONG_HASH).collect();
        assert!(others.is_empty() && net.hosts[leecher].closed.len() <= 1, "{others:?}");
    }
}

// R1: an interior node is no chunk: a tree cut off above its leaves is refused, whoever claims it.
#[test]
fn a_tree_cut_off_above_its_leaves_is_refused() {
    let sample = Sample::new(2048).without_length();
    let (mut net, leecher, script) = lured(&sample);
    let children = [sample.node(Bin::leftmost(0)), sample.node(Bin::at(0, 1).unwrap())];
    let forged: Vec<u8> = children.iter().flat_map(|hash| hash.as_slice().to_vec()).collect();
    assert_eq!(hash_of(&forged), sample.metadata.root, "the forgery hashes to the root");
    script.say(&mut net, &[Message::Data { chunk: ChunkIndex::new(0), timestamp: 1, payload: &forged }]);
    assert_eq!((net.hosts[leecher].size, net.hosts[leecher].verified_bytes), (None, 0));
    recovers(&mut net, leecher, &sample);
}

// RFC 7574 §5.6, R1, R17: chunks that were kept until the size was known are judged together; a good one ahead of one of
// wrong length is taken in, and its place is not held for anybody.
#[test]
fn good_chunks_kept_ahead_of_a_wrong_one_are_taken_in() {
    let sample = Sample::new(100_000).without_length();
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    net.hosts[leecher].truth.clone_from(&sample.bytes);
    let single = |chunk| ChunkRange::single(ChunkIndex::new(chunk));
    // The liar is asked for two chunks of a content of unknown size, one after the other, and answers both.
    let (liar, _) = Script::answers(&mut net, leecher, &sample.metadata, 1, RTT);
    liar.say(&mut net, &[Message::Have(single(5))]);
    liar.say(&mut net, &[Message::Have(single(3))]);
    net.run_for(600 * MS);
    let asked = liar.summary(&mut net).requested();
    assert_eq!(asked, [5, 3], "the second when the first has expired");
    let peaks: Vec<_> = peaks_needed(&sample.geometry(), false).map(|bin| (bin, sample.node(bin))).collect();
    let good = liar.data_with(&net, &sample, 3, &peaks);
    net.inject(leecher, liar.address, &good);
    let short = &sample.chunk(5)[1..];
    liar.say(&mut net, &[Message::Data { chunk: ChunkIndex::new(5), timestamp: 1, payload: short }]);
    // The size becomes known from another.
    let (honest, _) = Script::answers(&mut net, leecher, &sample.metadata, 2, RTT);
    honest.has_all(&mut net, &sample);
    honest.gives(&mut net, &sample, 0);
    honest.gives(&mut net, &sample, 97);
    assert_eq!(net.hosts[leecher].size, Some(100_000));
    assert_eq!(net.hosts[leecher].closed, []);
    // The hashes of what is kept come with one chunk more.
    let hashes = [sample.proof(3), sample.proof(4)].concat();
    let more = liar.data_with(&net, &sample, 4, &hashes);
    net.inject(leecher, liar.address, &more);
    assert_eq!(net.hosts[leecher].closed, [CloseReason::Misbehaved(Misbehaviour::WrongLength)]);
    for chunk in (1..16).filter(|chunk| ![3, 4].contains(chunk)) {
        honest.gives(&mut net, &sample, chunk);
    }
    assert_eq!(net.hosts[leecher].verified_bytes, 16 * 1024, "the group is whole at once");
    recovers(&mut net, leecher, &sample);
}

// R5: HAVE and ACK far past the end, or of everything, are clipped and mean no harm.
#[test]
fn boundless_ranges_are_clipped() {
    for addressing in ChunkAddressing::ALL {
        let sample = Sample::with(100_000, HashFunction::Sha256, addressing, 1024);
        let most = addressing.max_chunks().min(1 << 50);
        for with_length in [true, false] {
            let sample = if with_length { sample.clone() } else { sample.clone().without_length() };
            let mut net = Net::new();
            let leecher = net.leecher(&sample.metadata);
            let (script, _) = Script::answers(&mut net, leecher, &sample.metadata, 1, RTT);
            for range in [ChunkRange::new(most / 2, most), ChunkRange::new(0, most.next_power_of_two() / 2)] {
                script.say(&mut net, &[Message::Have(range), Message::Ack { range, delay: 1 }]);
            }
            let asked = script.summary(&mut net).requested();
            assert!(!with_length || asked.iter().all(|&chunk| chunk < 98), "{asked:?}");
            assert_eq!(net.hosts[leecher].closed, []);
            recovers(&mut net, leecher, &sample);
        }
    }
}

// RFC 7574 §12.6.6: REQUESTs beyond the bound are ignored, wherever they point; others are served.
#[test]
fn floods_of_requests_are_bounded() {
    let sample = Sample::new(2 << 20);
    let mut net = Net::new();
    let mut config = EndpointConfig::default();
    config.limits.queued_requests = 8;
    let content = Content::Seed { tree: sample.tree.clone() };
    let seeder = net.add_with(config, sample.metadata.clone(), content, sample.bytes.clone());
    let script = Script::opens(&mut net, seeder, &sample.metadata, 1, RTT);
    for _ in 0..50 {
        let requests: Vec<_> =
            (0..1000).map(|chunk| Message::Request(ChunkRange::new(2 * chunk, 2 * chunk + 1))).collect();
        script.say(&mut net, &requests);
    }
    let mut got = 0;
    for _ in 0..200 {
        let data = script.summary(&mut net).data;
        got += data.len();
        let acks: Vec<_> = data
            .iter()
            .map(|&chunk| Message::Ack { range: ChunkRange::single(ChunkIndex::new(chunk)), delay: 10_000 })
            .collect();
        script.say(&mut net, &acks);
        net.run_for(RTT / 2);
    }
    // Nothing is owed for what was ignored: eight ranges, and some that found room as others left.
    assert!((8..64).contains(&got), "{got} chunks were sent");
    let leecher = net.leecher(&sample.metadata);
    recovers(&mut net, leecher, &sample);
}

// RFC 7574 §12.6.4: acknowledging what was never sent moves neither window nor anything else.
#[test]
fn false_acks_open_no_window() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let script = Script::opens(&mut net, seeder, &sample.metadata, 1, RTT);
    script.say(&mut net, &[Message::Request(ChunkRange::new(0, 1))]);
    let window = |net: &Net| {
        let host = &net.hosts[seeder];
        host.endpoint.swarm(host.swarm).unwrap().peers().next().unwrap().cwnd
    };
    let before = window(&net);
    assert!(before.is_some());
    for start in 1..1000 {
        script.say(&mut net, &[Message::Ack { range: ChunkRange::new(start, 1024), delay: u64::MAX - start }]);
    }
    assert_eq!(window(&net), before);
    assert_eq!(net.hosts[seeder].closed, []);
}

// RFC 7574 §12.6.3: chunks that nobody asked for are neither stored nor acknowledged.
#[test]
fn unrequested_data_is_dropped() {
    let known = Sample::new(1 << 20);
    for sample in [known.clone(), known.without_length()] {
        let (mut net, leecher, script) = lured(&sample);
        for chunk in 512..1024 {
            script.gives(&mut net, &sample, chunk);
        }
        assert_eq!(net.hosts[leecher].endpoint.stats().dropped.unrequested, 512);
        assert_eq!((net.hosts[leecher].verified_bytes, script.summary(&mut net).acks), (0, vec![]));
        recovers(&mut net, leecher, &sample);
    }
}

// RFC 7574 §12.6.2, R17: hashes for nothing push out older ones of the same peer, and harm no other.
#[test]
fn floods_of_hashes_are_bounded() {
    let sample = Sample::new(1 << 20);
    let (mut net, leecher, script) = lured(&sample);
    let seeder = net.seeder(&sample);
    net.connect(leecher, seeder);
    let junk = hash_of(b"junk");
    for round in 0..200 {
        let messages: Vec<_> = (0..100)
            .map(|at| Message::Integrity { node: Bin::from_number(round * 100 + at).unwrap(), hash: junk.as_slice() })
            .collect();
        script.say(&mut net, &messages);
        net.run_for(MS);
    }
    net.fetches(leecher, &sample, Duration::from_secs(10));
    assert_eq!(net.hosts[leecher].closed, []);
    assert!(net.hosts[leecher].stats().integrity_received >= 20_000);
}

// R16, R20: a peer that trickles keeps its own small share waiting, and the transfer not for long.
#[test]
fn a_trickle_does_not_stop_a_transfer() {
    let sample = Sample::new(1 << 20);
    let (mut net, leecher, script) = lured(&sample);
    let seeder = net.seeder(&sample);
    net.connect(leecher, seeder);
    let begin = net.now;
    let mut asked: Vec<u64> = (0..32).collect();
    for turn in 0..60 {
        if net.hosts[leecher].complete {
            break;
        }
        // Just before its requests would be made anew, one more chunk.
        net.run_for(490 * MS);
        asked.extend(script.summary(&mut net).requested());
        if let Some(&chunk) = asked.get(turn) {
            script.gives(&mut net, &sample, chunk);
        }
    }
    let took = net.now - begin;
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert!(net.hosts[leecher].complete && net.hosts[leecher].disk.bytes == sample.bytes);
}

// RFC 7574 §3: datagrams that do not decode are dropped from there on, and after 16 of them the channel is closed.
#[test]
fn garbage_ends_a_channel_and_nothing_else() {
    let sample = Sample::new(100_000);
    let mut state = 1u64;
    let (mut net, leecher, script) = lured(&sample);
    for turn in 0..16 {
        assert_eq!(net.hosts[leecher].closed, [], "after {turn}");
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        script.say_raw(&mut net, &[14 + (state >> 60) as u8, 1, 2, 3]);
    }
    assert!(matches!(net.hosts[leecher].closed[..], [CloseReason::Misbehaved(Misbehaviour::Undecodable(_))]));
    assert_eq!(net.hosts[leecher].endpoint.stats().dropped.undecodable, 16);
    recovers(&mut net, leecher, &sample);

    // Random bytes of any length, whatever they decode to.
    for seed in 0..20u64 {
        let (mut net, leecher, script) = lured(&sample);
        let mut state = seed;
        for len in 0..200 {
            let body: Vec<u8> = (0..len)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    // Mostly message types.
                    if state >> 63 == 0 { (state >> 33) as u8 % 14 } else { (state >> 33) as u8 }
                })
                .collect();
            script.say_raw(&mut net, &body);
        }
        recovers(&mut net, leecher, &sample);
    }
}

// RFC 7574 §3.1.1: more messages than a datagram should hold are not looked at, and cost no more than their bytes.
#[test]
fn swarms_of_tiny_messages_are_cut_off() {
    let sample = Sample::new(100_000);
    let (mut net, leecher, script) = lured(&sample);
    // The bound lies between: CHOKE counts, the UNCHOKE behind it does not.
    let mut body = vec![MessageType::Choke.code(); 4096];
    body.push(MessageType::Unchoke.code());
    script.say_raw(&mut net, &body);
    let view = |net: &Net| {
        let host = &net.hosts[leecher];
        host.endpoint.swarm(host.swarm).unwrap().peers().next().unwrap().choking_us
    };
    assert!(view(&net));
    for _ in 0..100 {
        script.say_raw(&mut net, &[MessageType::Choke.code(), MessageType::Unchoke.code()].repeat(2048));
    }
    assert!(!view(&net));
    recovers(&mut net, leecher, &sample);
}

// RFC 7574 §12.6: announcements that are scattered on purpose are kept within a bound.
#[test]
fn scattered_announcements_are_bounded() {
    let sample = Sample::new(4 << 20);
    let mut net = Net::new();
    let mut config = EndpointConfig::default();
    config.limits.availability_runs = 10;
    let leecher = net.add_with(config, sample.metadata.clone(), Content::Fetch, Vec::new());
    let (script, _) = Script::answers(&mut net, leecher, &sample.metadata, 1, RTT);
    let haves: Vec<_> = (0..2000).map(|at| Message::Have(ChunkRange::single(ChunkIndex::new(2 * at)))).collect();
    script.say(&mut net, &haves);
    let mut asked = script.summary(&mut net).requested();
    asked.sort_unstable();
    assert_eq!(asked, (0..10).map(|at| 2 * at).collect::<Vec<_>>());
    recovers(&mut net, leecher, &sample);
}

// RFC 7574 §12.6: each time a peer that has everything asks for some of it, all counts of what peers have change. A disk
// that fails now and then costs no channel, and a flood of it does.
#[test]
fn who_takes_back_everything_over_and_over_is_closed() {
    let sample = Sample::new(1 << 20);
    for (pairs, pause, closed) in [(1, Duration::from_secs(1), None), (20, 10 * MS, Some(Misbehaviour::Flooding))] {
        let (mut net, leecher, script) = lured(&sample);
        let chunk = ChunkRange::single(ChunkIndex::new(9));
        let turn = [Message::Have(sample.geometry().all()), Message::Request(chunk), Message::Cancel(chunk)];
        let mut turns = 0;
        while turns < 400 && net.hosts[leecher].closed.is_empty() {
            script.say(&mut net, &turn.repeat(pairs));
            net.run_for(pause);
            script.summary(&mut net);
            turns += pairs;
        }
        let ends: Vec<_> = closed.map(CloseReason::Misbehaved).into_iter().collect();
        assert_eq!(net.hosts[leecher].closed, ends, "after {turns} turns");
        assert!(closed.is_none() || turns <= 300, "{turns}");
        recovers(&mut net, leecher, &sample);
    }
}

// RFC 7574 §12.6.2: whoever announces much, over and over, is asked for no more than one that announces once, and
// nobody else waits for it.
#[test]
fn floods_of_announcements_bring_no_more_requests() {
    let sample = Sample::new(1 << 20);
    let (mut net, leecher, script) = lured(&sample);
    let mut asked = script.summary(&mut net).requested().len();
    let seeder = net.seeder(&sample);
    let slow = Rates { up: ByteRate::new(256 << 10), down: None };
    let now = net.now;
    net.hosts[seeder].endpoint.set_rates(Scope::Endpoint, slow, now);
    net.connect(leecher, seeder);
    let begin = net.now;
    let mut datagrams = 0;
    for round in 0.. {
        if net.hosts[leecher].complete {
            break;
        }
        let haves: Vec<_> = (0..256).map(|at| Message::Have(ChunkRange::new(4 * at + round % 4, 4 * at + 4))).collect();
        for _ in 0..20 {
            script.say(&mut net, &haves);
        }
        script.say(&mut net, &[Message::Have(sample.geometry().all())]);
        net.run_for(10 * MS);
        let heard = script.summary(&mut net);
        asked += heard.requested().len();
        datagrams += heard.datagrams;
        assert!(round < 1000, "{:?}", net.hosts[leecher].progress());
    }
    assert!(net.hosts[leecher].disk.bytes == sample.bytes);
    let took = net.now - begin;
    assert!(took < Duration::from_secs(8), "{took:?}");
    // R16: once silent it is asked for a chunk at a time, to find out.
    assert!(asked <= 32 + 16, "{asked} chunks were asked for");
    assert!(datagrams <= 200, "{datagrams} datagrams");
}
