//! Attacks on and with handshakes (RFC 7574 §12.1): floods, garbage, guesses, goodbyes in others' names, replays.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ppspp_core::DatagramMeta;
use proptest::prelude::*;

use crate::net::{Net, Sample};
use crate::raw::{BARE_CLOSING, CLOSING, channel_of, datagram, handshake_of, opening};

/// An address without an endpoint behind it.
fn stranger(number: u32) -> SocketAddr {
    let [_, a, b, c] = number.to_be_bytes();
    SocketAddr::from(([203, a, b, c], 4000))
}

fn peers(net: &Net, index: usize) -> usize {
    let host = &net.hosts[index];
    host.endpoint.swarm(host.swarm).unwrap().peers().count()
}

/// Numbers that look random.
fn noise(state: &mut u64) -> u32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 32) as u32
}

/// A seeder and a leecher in the middle of a transfer, with the ids of their channels: the seeder's, the leecher's.
fn transfer(sample: &Sample) -> (Net, usize, usize, [u32; 2]) {
    let mut net = Net::new();
    net.keep_log = true;
    let seeder = net.seeder(sample);
    let leecher = net.leecher(&sample.metadata);
    net.connect(leecher, seeder);
    net.run(Duration::from_secs(10), |net| !net.hosts[leecher].disk.bytes.is_empty());
    let id = |number: usize| handshake_of(&net.log[number].2).unwrap().0.source.value();
    let ids = [id(1), id(0)];
    (net, seeder, leecher, ids)
}

#[track_caller]
fn undisturbed(net: &Net) {
    for host in &net.hosts {
        assert_eq!((host.connected.len(), host.closed.len()), (1, 0));
        assert_eq!(host.progress().unwrap().peers, 1);
    }
}

// R8, RFC 7574 §12.1: 100,000 forged openings cost bounded memory and replies, and an honest peer still gets in.
#[test]
fn a_flood_of_openings_is_weathered() {
    let sample = Sample::new(500_000);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let leecher = net.leecher(&sample.metadata);
    let mut received: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    let mut connected = false;
    for number in 0..100_000 {
        let bytes = opening(&sample.metadata, number + 1);
        net.inject(seeder, stranger(number), &bytes);
        *received.entry(stranger(number)).or_default() += bytes.len();
        if number % 100 == 99 {
            net.run_for(Duration::from_millis(10));
            assert!(peers(&net, seeder) <= 257, "{} channels", peers(&net, seeder));
            for (_, to, bytes) in net.extra.drain(..) {
                let left = received.get_mut(&to).unwrap();
                *left = left.checked_sub(bytes.len()).unwrap();
            }
        }
        if number == 20_000 {
            net.connect(leecher, seeder);
        }
        connected |= net.hosts[leecher].complete;
    }
    assert!(connected, "the honest peer got nothing during the flood");
    assert!(net.hosts[leecher].disk.bytes == sample.bytes);
    net.run_for(Duration::from_secs(40));
    assert_eq!(peers(&net, seeder), 1, "the flood left channels behind");
    undisturbed(&net);
}

// RFC 7574 §3.1.1 step 2, R8: cut short or with any byte changed, an opening is refused, or answered with no more.
#[test]
fn garbled_openings_do_no_harm() {
    let sample = Sample::new(5000);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let valid = opening(&sample.metadata, 7);
    for len in 0..valid.len() {
        net.inject(seeder, stranger(1), &valid[..len]);
    }
    assert!(net.extra.is_empty(), "a truncated opening was answered");
    assert_eq!(peers(&net, seeder), 0);
    let dropped = net.hosts[seeder].endpoint.stats().dropped;
    assert_eq!(dropped.too_short + dropped.bad_handshake, valid.len() as u64);
    for place in 0..valid.len() {
        for change in 1..=255u8 {
            let mut bytes = valid.clone();
            bytes[place] ^= change;
            net.extra.clear();
            net.inject(seeder, stranger(2), &bytes);
            assert!(net.extra.iter().map(|(_, _, reply)| reply.len()).sum::<usize>() <= bytes.len());
            // Places 5 to 8 are the source channel, 10 is the version: what else differs is not our swarm.
            assert!(net.extra.is_empty() || matches!(place, 5..=8 | 10), "byte {place} changed by {change:#x}");
        }
    }
    assert!(peers(&net, seeder) <= 1);
}

// RFC 768: whatever is sent to port 0 or to many is refused by the system; some systems then refuse more.
#[test]
fn an_opening_from_where_nobody_can_be_is_not_answered() {
    let sample = Sample::new(5000);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    for nowhere in ["203.0.113.1:0", "[2001:db8::1]:0", "0.0.0.0:7", "224.0.0.1:7", "255.255.255.255:7", "[ff02::1]:7"]
    {
        net.inject(seeder, nowhere.parse().unwrap(), &opening(&sample.metadata, 7));
    }
    assert!(net.extra.is_empty());
    assert_eq!(peers(&net, seeder), 0);
    assert_eq!(net.hosts[seeder].endpoint.stats().dropped.refused_handshake, 6);
    net.inject(seeder, stranger(1), &opening(&sample.metadata, 7));
    assert_eq!(net.extra.len(), 1);
}

// RFC 7574 §12.1: who does not see the channel ids can neither feed nor end a channel.
#[test]
fn channel_ids_are_not_guessed() {
    let sample = Sample::new(3_000_000);
    let (mut net, seeder, leecher, ids) = transfer(&sample);
    let (from_leecher, from_seeder) = (net.hosts[leecher].address, net.hosts[seeder].address);
    let mut state = 1;
    for number in 0..100_000u32 {
        let guess = noise(&mut state);
        // The neighbours of the true id are no better.
        let guess = if number < 64 { ids[0] ^ (1 << (number % 32)) } else { guess };
        if ids.contains(&guess) {
            continue;
        }
        let now = net.now;
        let host = &mut net.hosts[seeder].endpoint;
        host.handle_datagram(now, DatagramMeta::from_remote(from_leecher), &datagram(guess, &CLOSING));
        let host = &mut net.hosts[leecher].endpoint;
        host.handle_datagram(now, DatagramMeta::from_remote(from_seeder), &datagram(guess, &[0xff; 30]));
    }
    assert!(net.hosts[seeder].endpoint.stats().dropped.unknown_channel >= 99_990);
    net.fetches(leecher, &sample, Duration::from_secs(30));
    undisturbed(&net);
}

// R10, R11: goodbyes count from the channel's peer alone, even if the id is known.
#[test]
fn goodbyes_in_the_name_of_others_are_ignored() {
    let sample = Sample::new(3_000_000);
    let (mut net, seeder, leecher, ids) = transfer(&sample);
    for (host, id) in [(seeder, ids[0]), (leecher, ids[1])] {
        for closing in [&CLOSING[..], &BARE_CLOSING] {
            for number in 0..100 {
                net.inject(host, stranger(number), &datagram(id, closing));
            }
            // From the right address to channel 0: an off-path sender cannot know more.
            let address = net.hosts[1 - host].address;
            net.inject(host, address, &datagram(0, closing));
        }
        assert_eq!(net.hosts[host].endpoint.stats().dropped.wrong_address, 200);
    }
    net.fetches(leecher, &sample, Duration::from_secs(30));
    undisturbed(&net);
}

// R8, R9: what was recorded on the way and is sent again, during the session or after it, opens and moves nothing.
#[test]
fn replays_achieve_nothing() {
    let sample = Sample::new(300_000);
    let (mut net, seeder, leecher, _) = transfer(&sample);
    let address = net.hosts[leecher].address;
    let first = net.log[0].2.clone();
    for _ in 0..100 {
        net.inject(seeder, address, &first);
    }
    net.fetches(leecher, &sample, Duration::from_secs(30));
    undisturbed(&net);
    let recorded: Vec<_> = net.log.iter().filter(|(from, _, _)| *from == leecher).map(|sent| sent.2.clone()).collect();
    let peer = net.hosts[leecher].connected[0];
    let now = net.now;
    net.hosts[leecher].endpoint.remove_peer(peer, now);
    net.run_for(Duration::from_secs(1));
    let reads = net.hosts[seeder].reads();
    net.log.clear();
    for bytes in &recorded {
        net.inject(seeder, address, bytes);
    }
    net.run_for(Duration::from_secs(60));
    let host = &net.hosts[seeder];
    assert_eq!(host.connected.len(), 1, "a replay opened a channel");
    assert_eq!(host.reads(), reads, "a replay caused reads");
    let sent: usize = net.log.iter().filter(|(from, _, _)| *from == seeder).map(|sent| sent.2.len()).sum();
    let openings: usize = recorded.iter().filter(|bytes| channel_of(bytes) == 0).map(Vec::len).sum();
    assert!(sent <= openings, "{sent} bytes for replayed openings of {openings}");
    assert_eq!(peers(&net, seeder), 0);
}

// RFC 7574 §12.1.2: who proves an address with an opening and then goes silent is forgotten, and was sent little.
#[test]
fn proven_and_silent_peers_are_forgotten() {
    let sample = Sample::new(50_000);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    for number in 0..500 {
        net.inject(seeder, stranger(number), &opening(&sample.metadata, 7));
        let channel = handshake_of(&net.extra.last().unwrap().2).unwrap().0.source.value();
        net.inject(seeder, stranger(number), &datagram(channel, &[]));
    }
    assert_eq!(net.hosts[seeder].connected.len(), 500);
    net.extra.clear();
    net.run_for(Duration::from_secs(200));
    assert_eq!(peers(&net, seeder), 0);
    assert_eq!(net.hosts[seeder].closed.len(), 500);
    let sent: usize = net.extra.iter().map(|(_, _, bytes)| bytes.len()).sum();
    assert!(sent <= 500 * 64, "{sent} bytes to 500 silent peers");
    assert_eq!(net.hosts[seeder].endpoint.poll_timeout(), None);
}

proptest! {
    // RFC 7574 §8: whatever arrives, from strangers or from a peer, nothing breaks and no stranger is sent more than it sent.
    #[test]
    fn any_bytes_do_no_harm(
        datagrams in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..80)), 1..40),
    ) {
        let sample = Sample::new(20_000);
        let (mut net, seeder, leecher, ids) = transfer(&sample);
        let address = net.hosts[leecher].address;
        let mut received = 0;
        for (to_peer, body) in &datagrams {
            if *to_peer {
                net.inject(seeder, address, &datagram(ids[0], body));
            } else {
                let bytes = datagram(0, body);
                received += bytes.len();
                net.inject(seeder, stranger(1), &bytes);
            }
        }
        net.run_for(Duration::from_secs(1));
        let sent: usize = net.extra.iter().map(|(_, _, bytes)| bytes.len()).sum();
        prop_assert!(sent <= received);
        prop_assert!(peers(&net, seeder) <= 2);
    }

    // R8: an opening with any messages behind it is answered with at most its length, and reads nothing.
    #[test]
    fn any_tail_of_an_opening_is_harmless(tail in prop::collection::vec(any::<u8>(), 0..600)) {
        let sample = Sample::new(117 * 1024);
        let mut net = Net::new();
        let seeder = net.seeder(&sample);
        let mut bytes = opening(&sample.metadata, 7);
        bytes.extend(tail);
        net.inject(seeder, stranger(1), &bytes);
        net.run_for(Duration::from_secs(1));
        prop_assert_eq!(net.extra.len(), 1);
        prop_assert!(net.extra[0].2.len() <= bytes.len());
        prop_assert_eq!(net.hosts[seeder].reads(), 0);
    }
}
