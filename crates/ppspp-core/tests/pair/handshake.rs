//! The handshake of RFC 7574 §3.1.1: its eight steps, its options, what is lost on the way and what does not fit.

use std::net::SocketAddr;
use std::time::Duration;

use ppspp_core::chunk::ChunkAddressing;
use ppspp_core::integrity::HashFunction;
use ppspp_core::wire::{ChannelId, Handshake, Message};
use ppspp_core::{CloseReason, Incompatible, PeerSource};

use crate::net::{Fate, Net, Sample};
use crate::raw::{CLOSING, channel_of, datagram, handshake_of, messages_of, offer, option_codes, with_handshake};

/// An address without an endpoint behind it.
const STRANGER: ([u8; 4], u16) = ([192, 0, 2, 1], 4000);

fn stranger() -> SocketAddr {
    SocketAddr::from(STRANGER)
}

/// A seeder and a leecher of some content; they do not know each other yet.
fn strangers(sample: &Sample) -> (Net, usize, usize) {
    let mut net = Net::new();
    net.keep_log = true;
    let seeder = net.seeder(sample);
    let leecher = net.leecher(&sample.metadata);
    (net, seeder, leecher)
}

// RFC 7574 §3.1.1 steps 1 to 8, and §12.1.2
#[test]
fn eight_steps_in_both_roles() {
    for seeder_opens in [false, true] {
        let sample = Sample::new(50_000);
        let (mut net, seeder, leecher) = strangers(&sample);
        let (initiator, responder) = if seeder_opens { (seeder, leecher) } else { (leecher, seeder) };
        net.connect(initiator, responder);
        net.fetches(leecher, &sample, Duration::from_secs(10));

        let log = &net.log;
        let ends: Vec<_> = log.iter().take(3).map(|&(from, to, _)| (from, to)).collect();
        assert_eq!(ends, [(initiator, responder), (responder, initiator), (initiator, responder)]);
        let (first, second, third) = (&log[0].2, &log[1].2, &log[2].2);
        // Step 1: to channel 0, with the initiator's channel id and the swarm.
        assert_eq!(channel_of(first), 0);
        let (one, behind_one) = handshake_of(first).unwrap();
        assert_ne!(one.source, ChannelId::ZERO);
        assert_eq!(one.swarm_id, Some(sample.metadata.root.as_slice()));
        assert!(behind_one.is_empty());
        // Step 2: to that channel, with the responder's channel id and nothing heavy behind the options.
        assert_eq!(channel_of(second), one.source.value());
        let (two, _) = handshake_of(second).unwrap();
        assert_ne!(two.source, ChannelId::ZERO);
        assert_ne!(two.source, one.source);
        let light = |message: &Message<'_>| matches!(message, Message::Handshake(_) | Message::Have(_));
        assert!(messages_of(&sample.metadata, second).iter().all(light));
        // Step 5: to the responder's channel, and no HANDSHAKE any more.
        assert_eq!(channel_of(third), two.source.value());
        assert!(handshake_of(third).is_none());
        // No DATA, INTEGRITY or read before the proof in datagram 3.
        for (from, to, bytes) in log.iter().skip(2) {
            let expected = if *from == initiator { two.source } else { one.source };
            assert_ne!(from, to);
            assert_eq!(channel_of(bytes), expected.value());
        }
        for host in &net.hosts {
            assert_eq!((host.connected.len(), host.closed.len()), (1, 0));
        }
    }
}

// RFC 7574 §3.1.1, R8: a lost opening or reply is repaired by the initiator, a lost proof by what it sends next.
#[test]
fn any_two_of_the_first_datagrams_may_be_lost() {
    for seeder_opens in [false, true] {
        for first in 0..7 {
            for second in first..7 {
                let sample = Sample::new(3000);
                let (mut net, seeder, leecher) = strangers(&sample);
                net.rule = Some(Box::new(
                    move |number, _, _, _| {
                        if number == first || number == second { Fate::Drop } else { Fate::Deliver }
                    },
                ));
                let (initiator, responder) = if seeder_opens { (seeder, leecher) } else { (leecher, seeder) };
                net.connect(initiator, responder);
                net.fetches(leecher, &sample, Duration::from_secs(60));
                net.run_for(Duration::from_secs(60));
                for host in &net.hosts {
                    assert_eq!(host.connected.len(), 1, "datagrams {first} and {second} lost");
                    assert_eq!(host.closed, [], "datagrams {first} and {second} lost");
                }
            }
        }
    }
}

// RFC 7574 §3.1.1: a datagram that comes twice, or late, opens no second channel.
#[test]
fn duplicates_and_latecomers_open_nothing_twice() {
    for fate in [Fate::Twice, Fate::Delay(Duration::from_millis(400)), Fate::Delay(Duration::from_millis(1700))] {
        for which in 0..6 {
            let sample = Sample::new(3000);
            let (mut net, seeder, leecher) = strangers(&sample);
            net.rule = Some(Box::new(move |number, _, _, _| if number == which { fate } else { Fate::Deliver }));
            net.connect(leecher, seeder);
            net.fetches(leecher, &sample, Duration::from_secs(30));
            net.run_for(Duration::from_secs(60));
            for host in &net.hosts {
                assert_eq!((host.connected.len(), host.closed.len()), (1, 0), "datagram {which}: {fate:?}");
                assert_eq!(host.progress().unwrap().peers, 1, "datagram {which}: {fate:?}");
            }
        }
    }
}

// RFC 7574 §8.3, §12.1: channel ids are random, differ and are never zero.
#[test]
fn channel_ids_are_random() {
    let sample = Sample::new(3000);
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    for port in 1..=2000 {
        let host = &mut net.hosts[leecher];
        let address = SocketAddr::from((STRANGER.0, port));
        host.endpoint.add_peer(host.swarm, address, PeerSource::Trusted, net.now).unwrap();
    }
    net.drain(leecher);
    let mut ids: Vec<u32> =
        net.extra.iter().map(|(_, _, bytes)| handshake_of(bytes).unwrap().0.source.value()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 2000, "no id is used twice");
    assert_ne!(ids[0], 0);
    // Of 2,000 numbers drawn from 2^32, the quarters hold about 500 each.
    for quarter in 0..4u32 {
        let count = ids.iter().filter(|&&id| id >> 30 == quarter).count();
        assert!((350..650).contains(&count), "{count} of 2,000 ids in quarter {quarter}");
    }
}

// R6, RFC 7574 §7: options ascend and are complete for the swarm; the swarm id is never in a reply.
#[test]
fn options_ascend_and_are_complete() {
    for addressing in ChunkAddressing::ALL {
        for function in HashFunction::ALL {
            let sample = Sample::with(5000, function, addressing, 2048);
            let (mut net, seeder, leecher) = strangers(&sample);
            net.connect(leecher, seeder);
            net.fetches(leecher, &sample, Duration::from_secs(10));
            assert_eq!(option_codes(&net.log[0].2), [0, 1, 2, 3, 4, 6, 8, 9, 255]);
            assert_eq!(option_codes(&net.log[1].2), [0, 1, 3, 4, 6, 8, 9, 255]);
            for (_, _, bytes) in &net.log[..2] {
                let (handshake, _) = handshake_of(bytes).unwrap();
                assert_eq!((handshake.version, handshake.min_version), (Some(1), Some(1)));
                assert_eq!(handshake.integrity_method, Some(1));
                assert_eq!(handshake.hash_function, Some(function.code()));
                assert_eq!(handshake.addressing, Some(addressing.code()));
                assert_eq!(handshake.chunk_size, Some(2048));
                let messages = handshake.supported_messages.unwrap();
                let codes: Vec<u8> = messages.iter().map(ppspp_core::wire::MessageType::code).collect();
                assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12], "what we understand (§7.10)");
            }
        }
    }
}

// R6: options 8 and 9 are left out of a reply only if the opening had no option 9.
#[test]
fn only_older_openings_get_shorter_replies() {
    let sample = Sample::with(5000, HashFunction::Sha1, ChunkAddressing::Chunk32, 1024);
    let (mut net, seeder, _) = strangers(&sample);
    let full = offer(&sample.metadata, 7);
    let without_nine = Handshake { source: ChannelId::new(8), chunk_size: None, ..full };
    // NOTES 5: libswift takes a missing option 4 for SHA-1.
    let without_four = Handshake { source: ChannelId::new(9), hash_function: None, ..without_nine };
    for (handshake, codes) in [
        (full, &[0, 1, 3, 4, 6, 8, 9, 255][..]),
        (without_nine, &[0, 1, 3, 4, 6, 255]),
        (without_four, &[0, 1, 3, 4, 6, 255]),
    ] {
        net.inject(seeder, stranger(), &with_handshake(0, &handshake));
        let (_, _, reply) = net.extra.pop().unwrap();
        assert_eq!(option_codes(&reply), codes);
        assert_eq!(channel_of(&reply), handshake.source.value());
    }
    // In other swarms there are no older peers.
    let sample = Sample::new(5000);
    let (mut net, seeder, _) = strangers(&sample);
    let older = Handshake { chunk_size: None, ..offer(&sample.metadata, 8) };
    net.inject(seeder, stranger(), &with_handshake(0, &older));
    assert!(net.extra.is_empty());
}

// R7: openings to a silent peer alternate in SHA-1 swarms, with one source channel id; in others they stay the same.
#[test]
fn openings_alternate_in_sha1_swarms() {
    for function in HashFunction::ALL {
        let sample = Sample::with(5000, function, ChunkAddressing::Chunk32, 1024);
        let (mut net, seeder, leecher) = strangers(&sample);
        net.rule = Some(Box::new(|_, _, _, _| Fate::Drop));
        net.connect(leecher, seeder);
        net.run_for(Duration::from_secs(40));
        assert!(net.log.len() >= 6, "{} openings in 40 s", net.log.len());
        assert!(net.log.len() <= 10, "{} openings in 40 s", net.log.len());
        let source = handshake_of(&net.log[0].2).unwrap().0.source;
        for (number, (_, _, bytes)) in net.log.iter().enumerate() {
            let older = function == HashFunction::Sha1 && number % 2 == 1;
            let expected: &[u8] = if older { &[0, 1, 2, 3, 4, 6, 255] } else { &[0, 1, 2, 3, 4, 6, 8, 9, 255] };
            assert_eq!(option_codes(bytes), expected, "opening {number}");
            assert_eq!(handshake_of(bytes).unwrap().0.source, source);
        }
    }
}

// R7: both forms of an opening are duplicates of one attempt.
#[test]
fn both_forms_of_an_opening_are_one_attempt() {
    for replies_lost in 0..5 {
        let sample = Sample::with(5000, HashFunction::Sha1, ChunkAddressing::Chunk32, 1024);
        let (mut net, seeder, leecher) = strangers(&sample);
        let mut lost = 0;
        net.rule = Some(Box::new(move |_, from, _, _| {
            if from == seeder && lost < replies_lost {
                lost += 1;
                return Fate::Drop;
            }
            Fate::Deliver
        }));
        net.connect(leecher, seeder);
        net.fetches(leecher, &sample, Duration::from_secs(30));
        let reply = |bytes: &[u8]| handshake_of(bytes).is_some();
        let replies: Vec<_> = net.log.iter().filter(|(from, _, bytes)| *from == seeder && reply(bytes)).collect();
        assert!(replies.len() > replies_lost, "each opening was answered");
        assert!(replies.iter().all(|reply| reply.2 == replies[0].2), "with the same reply (R8)");
        for host in &net.hosts {
            assert_eq!((host.connected.len(), host.closed.len()), (1, 0));
        }
    }
}

// R7: an older peer that only understands the second form is reached, and options 8 and 9 are not missed.
#[test]
fn an_older_responder_is_accepted() {
    let sample = Sample::with(5000, HashFunction::Sha1, ChunkAddressing::Chunk32, 1024);
    let (mut net, _, leecher) = strangers(&sample);
    let host = &mut net.hosts[leecher];
    host.endpoint.add_peer(host.swarm, stranger(), PeerSource::Trusted, net.now).unwrap();
    net.run_for(Duration::from_millis(700));
    assert_eq!(option_codes(&net.extra[1].2), [0, 1, 2, 3, 4, 6, 255]);
    let channel = handshake_of(&net.extra[1].2).unwrap().0.source.value();
    let reply = Handshake { swarm_id: None, chunk_size: None, min_version: None, ..offer(&sample.metadata, 77) };
    net.inject(leecher, stranger(), &with_handshake(channel, &reply));
    assert_eq!(net.hosts[leecher].connected.len(), 1);
    assert_eq!(channel_of(&net.extra.last().unwrap().2), 77);
}

type Change = fn(&mut Handshake<'_>);

/// Changes to a handshake that make it unfit for a SHA-256 swarm with 32-bit chunk ranges of 1,024 bytes.
fn misfits() -> Vec<(Change, Incompatible)> {
    let missing = Incompatible::MissingOption;
    let version = |minimum, maximum| Incompatible::Version { minimum, maximum };
    let method = |theirs| Incompatible::IntegrityMethod { theirs, ours: 1 };
    let size = |theirs| Incompatible::ChunkSize { theirs, ours: 1024 };
    vec![
        (|h| h.version = None, missing("Version")),
        (|h| h.version = Some(0), version(1, 0)),
        (|h| (h.version, h.min_version) = (Some(2), Some(2)), version(2, 2)),
        (|h| h.min_version = Some(0), version(0, 1)),
        (|h| h.swarm_id = Some(&[9; 32]), Incompatible::SwarmId),
        (|h| h.swarm_id = Some(&[]), Incompatible::SwarmId),
        (|h| h.integrity_method = None, missing("Content Integrity Protection Method")),
        // Errata 4725, 4880: protection cannot be switched off.
        (|h| h.integrity_method = Some(0), method(0)),
        (|h| h.integrity_method = Some(2), method(2)),
        (|h| h.integrity_method = Some(200), method(200)),
        (|h| h.hash_function = None, missing("Merkle Hash Tree Function")),
        (|h| h.hash_function = Some(0), Incompatible::HashFunction { theirs: 0, ours: 2 }),
        (|h| h.hash_function = Some(99), Incompatible::HashFunction { theirs: 99, ours: 2 }),
        (|h| h.addressing = None, missing("Chunk Addressing Method")),
        (|h| h.addressing = Some(0), Incompatible::Addressing { theirs: 0, ours: 2 }),
        (|h| h.addressing = Some(99), Incompatible::Addressing { theirs: 99, ours: 2 }),
        (|h| h.chunk_size = None, missing("Chunk Size")),
        (|h| h.chunk_size = Some(2048), size(2048)),
        (|h| h.chunk_size = Some(0), size(0)),
        // R3: variable chunk sizes are not for static content.
        (|h| h.chunk_size = Some(u32::MAX), size(u32::MAX)),
    ]
}

// RFC 7574 §3.1.1 step 2: an opening that does not fit is met with silence.
#[test]
fn a_misfit_opening_is_met_with_silence() {
    let sample = Sample::new(5000);
    let mut changes: Vec<Change> = misfits().into_iter().map(|(change, _)| change).collect();
    // Only an opening must have these.
    changes.push(|h| h.swarm_id = None);
    changes.push(|h| h.min_version = None);
    for (number, change) in changes.into_iter().enumerate() {
        let (mut net, seeder, _) = strangers(&sample);
        let mut handshake = offer(&sample.metadata, 7);
        change(&mut handshake);
        net.inject(seeder, stranger(), &with_handshake(0, &handshake));
        net.run_for(Duration::from_secs(60));
        let host = &net.hosts[seeder];
        assert!(net.log.is_empty(), "misfit {number} was answered");
        assert_eq!(host.endpoint.stats().dropped.refused_handshake, 1, "misfit {number} is not counted");
        assert_eq!(host.endpoint.swarm(host.swarm).unwrap().peers().count(), 0, "misfit {number} is remembered");
        assert_eq!(host.closed, [], "misfit {number} is reported");
    }
}

// RFC 7574 §3.1.1 steps 3 and 4: the initiator names what does not fit, and closes the channel.
#[test]
fn a_misfit_reply_closes_the_channel() {
    let sample = Sample::new(5000);
    for (number, (change, why)) in misfits().into_iter().enumerate() {
        let (mut net, _, leecher) = strangers(&sample);
        let host = &mut net.hosts[leecher];
        host.endpoint.add_peer(host.swarm, stranger(), PeerSource::Trusted, net.now).unwrap();
        net.drain(leecher);
        let channel = handshake_of(&net.extra[0].2).unwrap().0.source.value();
        let mut reply = Handshake { swarm_id: None, ..offer(&sample.metadata, 77) };
        change(&mut reply);
        net.inject(leecher, stranger(), &with_handshake(channel, &reply));
        net.run_for(Duration::from_secs(60));
        let host = &net.hosts[leecher];
        assert_eq!(host.closed, [CloseReason::Incompatible(why)], "misfit {number}");
        assert_eq!(host.connected, [], "misfit {number}");
        assert_eq!(net.log.len(), 2, "misfit {number}: an opening and a close");
        assert_eq!(net.log[1].2, datagram(77, &CLOSING), "misfit {number}");
        assert_eq!(host.endpoint.swarm(host.swarm).unwrap().peers().count(), 0);
    }
}

// RFC 7574 §7.2, §7.3: later versions are welcome if they accept ours; option 8 may be absent; a reply may do with less.
#[test]
fn what_fits_differently_is_accepted() {
    let sample = Sample::new(5000);
    let changes: [Change; 3] = [
        |h| h.version = Some(9),
        |h| h.supported_messages = None,
        |h| h.supported_messages = Some(ppspp_core::wire::MessageSet::ALL_KNOWN),
    ];
    for change in changes {
        let (mut net, seeder, _) = strangers(&sample);
        let mut handshake = offer(&sample.metadata, 7);
        change(&mut handshake);
        net.inject(seeder, stranger(), &with_handshake(0, &handshake));
        assert_eq!(net.extra.len(), 1);
        let channel = handshake_of(&net.extra[0].2).unwrap().0.source.value();
        net.inject(seeder, stranger(), &datagram(channel, &[]));
        assert_eq!(net.hosts[seeder].connected.len(), 1);
    }
}

// RFC 7574 §3.1.1 step 4: before the reply nothing else counts, and a reply to another channel neither.
#[test]
fn only_a_handshake_answers_an_opening() {
    let sample = Sample::new(5000);
    let (mut net, _, leecher) = strangers(&sample);
    let host = &mut net.hosts[leecher];
    host.endpoint.add_peer(host.swarm, stranger(), PeerSource::Trusted, net.now).unwrap();
    net.drain(leecher);
    let channel = handshake_of(&net.extra[0].2).unwrap().0.source.value();
    let reply = Handshake { swarm_id: None, ..offer(&sample.metadata, 77) };
    // HAVE, keep-alive, garbage, then a reply for the channel next door.
    for body in [&[3, 0, 0, 0, 0, 0, 0, 0, 4][..], &[], &[0xff; 40]] {
        net.inject(leecher, stranger(), &datagram(channel, body));
    }
    net.inject(leecher, stranger(), &with_handshake(channel ^ 1, &reply));
    assert_eq!(net.hosts[leecher].connected, []);
    net.inject(leecher, stranger(), &with_handshake(channel, &reply));
    assert_eq!(net.hosts[leecher].connected.len(), 1);
    // RFC 7574 §8.2: a second reply does not move the channel.
    let other = Handshake { source: ChannelId::new(78), ..reply };
    net.inject(leecher, stranger(), &with_handshake(channel, &other));
    net.extra.clear();
    net.run_for(Duration::from_secs(30));
    assert!(!net.extra.is_empty());
    assert!(net.extra.iter().all(|(_, _, bytes)| channel_of(bytes) == 77));
}
