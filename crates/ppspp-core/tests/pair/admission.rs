//! What an address that has not proven itself may cost (RFC 7574 §12.1, R8), and the limits on channels and swarms.

use std::net::SocketAddr;
use std::time::Duration;

use ppspp_core::chunk::ChunkAddressing;
use ppspp_core::integrity::HashFunction;
use ppspp_core::wire::{ChannelId, Handshake};
use ppspp_core::{AddPeerError, CloseReason, Content, EndpointConfig, JoinError, Limits, PeerSource, SwarmConfig};

use crate::net::{Net, Sample};
use crate::raw::{BARE_CLOSING, CLOSING, channel_of, datagram, handshake_of, offer, opening, with_handshake};

/// An address without an endpoint behind it.
fn stranger(number: u32) -> SocketAddr {
    let [_, a, b, c] = number.to_be_bytes();
    SocketAddr::from(([203, a, b, c], 4000))
}

/// An endpoint that seeds `sample` with other limits than the default.
fn limited(sample: &Sample, change: impl FnOnce(&mut Limits)) -> (Net, usize) {
    let mut config = EndpointConfig::default();
    change(&mut config.limits);
    let mut net = Net::new();
    let content = Content::Seed { tree: sample.tree.clone() };
    let seeder = net.add_with(config, sample.metadata.clone(), content, sample.bytes.clone());
    (net, seeder)
}

fn peers(net: &Net, index: usize) -> usize {
    let host = &net.hosts[index];
    host.endpoint.swarm(host.swarm).unwrap().peers().count()
}

/// The channel ids that replies gave to strangers.
fn replied(net: &Net) -> Vec<(SocketAddr, u32)> {
    let source = |bytes: &[u8]| handshake_of(bytes).unwrap().0.source.value();
    net.extra.iter().map(|(_, to, bytes)| (*to, source(bytes))).collect()
}

// R8: bytes to an unproven address never exceed the bytes received from it, whatever the addressing needs for HAVE.
#[test]
fn a_reply_is_no_longer_than_the_opening() {
    for addressing in ChunkAddressing::ALL {
        for function in HashFunction::ALL {
            // 117 chunks: six bins.
            let sample = Sample::with(117 * 1024, function, addressing, 1024);
            let mut net = Net::new();
            let seeder = net.seeder(&sample);
            let full = offer(&sample.metadata, 7);
            let shorter = Handshake { chunk_size: None, hash_function: None, ..full };
            let longer = Handshake { supported_messages: Some(ppspp_core::wire::MessageSet::ALL_KNOWN), ..full };
            for (number, handshake) in [full, shorter, longer].into_iter().enumerate() {
                for padding in [0, 1, 5, 9, 17, 40, 100, 400] {
                    net.extra.clear();
                    let address = stranger(number as u32 * 1000 + padding);
                    let mut bytes = with_handshake(0, &handshake);
                    bytes.extend(std::iter::repeat_n(3, padding as usize));
                    let mut received = 0;
                    for _ in 0..5 {
                        net.inject(seeder, address, &bytes);
                        received += bytes.len();
                        let sent: usize = net.extra.iter().map(|(_, _, bytes)| bytes.len()).sum();
                        assert!(sent <= received, "{sent} bytes for {received}");
                    }
                    if number != 1 || function == HashFunction::Sha1 {
                        assert_eq!(net.extra.len(), 5, "a repeated opening repeats the reply");
                        assert!(net.extra.iter().all(|sent| sent.2 == net.extra[0].2));
                    }
                }
            }
        }
    }
}

// R8: a long opening that is repeated in short form earns no more than it brought.
#[test]
fn repeats_are_paid_for_one_by_one() {
    let sample = Sample::with(117 * 1024, HashFunction::Sha1, ChunkAddressing::Bin32, 1024);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let mut long = opening(&sample.metadata, 7);
    long.extend([3; 200]);
    let short = opening(&sample.metadata, 7);
    let mut received = long.len();
    net.inject(seeder, stranger(1), &long);
    let reply = net.extra[0].2.len();
    assert!(reply > short.len(), "the first reply has {reply} bytes: nothing is tested");
    for _ in 0..100 {
        net.inject(seeder, stranger(1), &short);
        received += short.len();
        let sent: usize = net.extra.iter().map(|(_, _, bytes)| bytes.len()).sum();
        assert!(sent <= received, "{sent} bytes for {received}");
    }
}

// R8: the responder has no retransmission timer and keeps nothing alive before proof; then it forgets.
#[test]
fn the_responder_never_repeats_itself() {
    let sample = Sample::new(50_000);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    net.inject(seeder, stranger(1), &opening(&sample.metadata, 7));
    assert_eq!(net.extra.len(), 1);
    net.run_for(Duration::from_secs(20));
    assert_eq!(peers(&net, seeder), 1);
    net.run_for(Duration::from_secs(600));
    assert_eq!(net.extra.len(), 1, "an unproven address was sent to again");
    assert_eq!(peers(&net, seeder), 0, "an unproven channel is kept");
    let host = &net.hosts[seeder];
    assert_eq!((host.connected.len(), host.closed.len()), (0, 0), "the application is not troubled");
    assert_eq!(host.endpoint.poll_timeout(), None);
}

// RFC 7574 §3.1.1, §12.1: nothing heavy before proof: no read, no DATA, no INTEGRITY; a REQUEST then is not lost on us.
#[test]
fn nothing_heavy_before_proof() {
    let sample = Sample::new(50_000);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let request = [8, 0, 0, 0, 0, 0, 0, 0, 15];
    for source in 1..50 {
        let mut bytes = opening(&sample.metadata, source);
        for _ in 0..40 {
            bytes.extend_from_slice(&request);
        }
        net.inject(seeder, stranger(source), &bytes);
    }
    net.run_for(Duration::from_secs(5));
    assert_eq!(net.hosts[seeder].reads(), 0);
    assert_eq!(net.hosts[seeder].stats().chunks_sent, 0);
    let (address, channel) = replied(&net)[0];
    net.inject(seeder, address, &datagram(channel, &request));
    net.run_for(Duration::from_secs(1));
    assert!(net.hosts[seeder].reads() > 0);
    assert!(net.hosts[seeder].stats().chunks_sent > 0);
}

// R8, Limits::half_open: when the table is full its oldest entry goes.
#[test]
fn the_oldest_unproven_channel_goes() {
    let sample = Sample::new(5000);
    let (mut net, seeder) = limited(&sample, |limits| limits.half_open = 8);
    for number in 0..20 {
        net.inject(seeder, stranger(number), &opening(&sample.metadata, 7));
        assert_eq!(peers(&net, seeder), (number as usize + 1).min(8));
        net.run_for(Duration::from_millis(10));
    }
    let channels = replied(&net);
    assert_eq!(channels.len(), 20);
    for (number, &(address, channel)) in channels.iter().enumerate() {
        net.inject(seeder, address, &datagram(channel, &[]));
        let connected = number.saturating_sub(11);
        assert_eq!(net.hosts[seeder].connected.len(), connected, "after the proof of {number}");
    }
    assert_eq!(net.hosts[seeder].endpoint.stats().dropped.unknown_channel, 12);
    assert_eq!(net.hosts[seeder].closed, []);
}

// R8: one address holds one unproven channel in a swarm, however many openings it sends.
#[test]
fn one_address_holds_one_unproven_channel() {
    let sample = Sample::new(5000);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    for source in 1..1000 {
        net.inject(seeder, stranger(1), &opening(&sample.metadata, source));
        assert_eq!(peers(&net, seeder), 1);
    }
}

// Limits::channels: beyond it the application gets an error, and strangers silence.
#[test]
fn channels_are_limited() {
    let sample = Sample::new(5000);
    let (mut net, seeder) = limited(&sample, |limits| limits.channels = 3);
    let now = net.now;
    let swarm = net.hosts[seeder].swarm;
    let add =
        |net: &mut Net, number| net.hosts[seeder].endpoint.add_peer(swarm, stranger(number), PeerSource::Trusted, now);
    // An unproven channel gives way to the application's.
    net.inject(seeder, stranger(100), &opening(&sample.metadata, 7));
    for number in 0..3 {
        add(&mut net, number).unwrap();
    }
    assert_eq!(add(&mut net, 3), Err(AddPeerError::TooManyChannels(3)));
    assert_eq!(add(&mut net, 2), Err(AddPeerError::AlreadyKnown(stranger(2))));
    net.drain(seeder);
    assert_eq!(peers(&net, seeder), 3);
    net.extra.clear();
    net.inject(seeder, stranger(101), &opening(&sample.metadata, 7));
    assert!(net.extra.is_empty());
    assert_eq!(net.hosts[seeder].endpoint.stats().dropped.refused_handshake, 1);
    assert_eq!(peers(&net, seeder), 3);
}

// Limits::channels: strangers that prove nothing do not keep others out.
#[test]
fn unproven_channels_do_not_fill_a_swarm() {
    let sample = Sample::new(5000);
    let (mut net, seeder) = limited(&sample, |limits| limits.channels = 4);
    for number in 0..100 {
        net.inject(seeder, stranger(number), &opening(&sample.metadata, 7));
        assert!(peers(&net, seeder) <= 4);
    }
    let leecher = net.leecher(&sample.metadata);
    net.connect(leecher, seeder);
    net.fetches(leecher, &sample, Duration::from_secs(10));
}

// Limits::swarms, JoinError.
#[test]
fn swarms_are_limited() {
    let sample = Sample::new(5000);
    let (mut net, seeder) = limited(&sample, |limits| limits.swarms = 2);
    let now = net.now;
    let fetch = |len| SwarmConfig { metadata: Sample::new(len).metadata, content: Content::Fetch };
    let endpoint = &mut net.hosts[seeder].endpoint;
    assert_eq!(endpoint.join(fetch(5000), now), Err(JoinError::AlreadyJoined));
    let second = endpoint.join(fetch(6000), now).unwrap();
    assert_eq!(endpoint.join(fetch(7000), now), Err(JoinError::TooManySwarms(2)));
    endpoint.leave(second, now);
    assert!(endpoint.join(fetch(7000), now).is_ok());
}

// Limits::queued_events: an application that does not listen is not given more to hear.
#[test]
fn a_deaf_application_gets_no_new_peers() {
    let sample = Sample::new(5000);
    let (mut net, seeder) = limited(&sample, |limits| (limits.queued_events, limits.half_open) = (5, 4));
    net.drain(seeder);
    let now = net.now;
    for number in 0..200 {
        let mut buf = Vec::new();
        let endpoint = &mut net.hosts[seeder].endpoint;
        let meta = ppspp_core::DatagramMeta::from_remote(stranger(number));
        endpoint.handle_datagram(now, meta, &opening(&sample.metadata, 7));
        while endpoint.poll_transmit(now, ppspp_core::BatchLimit::SINGLE, &mut buf).is_some() {
            if let Some((handshake, _)) = handshake_of(&buf) {
                endpoint.handle_datagram(now, meta, &datagram(handshake.source.value(), &[]));
            }
            buf.clear();
        }
    }
    let events = std::iter::from_fn(|| net.hosts[seeder].endpoint.poll_event()).count();
    assert!((5..=9).contains(&events), "{events} events were queued");
    assert!(peers(&net, seeder) <= 9);
    // Once they are heard, it goes on.
    net.inject(seeder, stranger(1000), &opening(&sample.metadata, 7));
    assert_eq!(net.extra.len(), 1);
}

// AddPeerError::BadAddress: what cannot be a peer's address is refused.
#[test]
fn impossible_addresses_are_refused() {
    let sample = Sample::new(5000);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    for text in ["0.0.0.0:5", "192.0.2.1:0", "224.0.0.1:5", "255.255.255.255:5", "[::]:5", "[ff02::1]:5", "[::1]:0"] {
        let address: SocketAddr = text.parse().unwrap();
        let host = &mut net.hosts[seeder];
        let added = host.endpoint.add_peer(host.swarm, address, PeerSource::Trusted, net.now);
        assert_eq!(added, Err(AddPeerError::BadAddress(address)));
    }
    assert_eq!(peers(&net, seeder), 0);
}

// R10, R8: an unproven peer that takes its opening back is forgotten at once and without an answer.
#[test]
fn an_opening_can_be_taken_back() {
    let sample = Sample::new(5000);
    for closing in [&CLOSING[..], &BARE_CLOSING] {
        let mut net = Net::new();
        let seeder = net.seeder(&sample);
        net.inject(seeder, stranger(1), &opening(&sample.metadata, 7));
        let (address, channel) = replied(&net)[0];
        net.inject(seeder, address, &datagram(channel, closing));
        assert_eq!(peers(&net, seeder), 0);
        assert_eq!(net.extra.len(), 1);
        let host = &net.hosts[seeder];
        assert_eq!((host.connected.len(), host.closed.len()), (0, 0));
    }
}

// RFC 7574 §8.4: the reply goes to the channel that the opening named, also when it is the highest number.
#[test]
fn any_source_channel_is_answered() {
    let sample = Sample::new(5000);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    for source in [1, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        let handshake = Handshake { source: ChannelId::new(source), ..offer(&sample.metadata, 0) };
        net.inject(seeder, stranger(source), &with_handshake(0, &handshake));
        assert_eq!(channel_of(&net.extra.last().unwrap().2), source);
    }
    assert_eq!(net.hosts[seeder].closed, [] as [CloseReason; 0]);
}
