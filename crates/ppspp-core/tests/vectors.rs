//! Datagrams of other implementations, captured: all decode, or the rule they break is named.
//!
//! What is in each capture stands in `tests/vectors/README.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ppspp_core::chunk::{ChunkAddressing, ChunkSize};
use ppspp_core::wire::{Format, Handshake, Message, MessageType, Messages, WireError, read_handshake, split_channel};

fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..)?.first_chunk().map(|bytes| usize::from(u16::from_be_bytes(*bytes)))
}

/// The UDP payload of an Ethernet frame; `None` for anything but UDP over IPv4.
fn udp_payload(frame: &[u8]) -> Option<&[u8]> {
    let ip = frame.get(14..).filter(|_| u16_at(frame, 12) == Some(0x0800))?;
    let header = usize::from(ip.first()? & 15) * 4;
    let udp = ip.get(header..).filter(|_| ip.get(9) == Some(&17))?;
    udp.get(8..u16_at(udp, 4)?)
}

/// The UDP payloads in a little-endian pcap file; `None` if it is none or is cut off.
fn udp_payloads(mut file: &[u8]) -> Option<Vec<Vec<u8>>> {
    const MAGIC: [u8; 4] = 0xa1b2_c3d4_u32.to_le_bytes();
    file = file.strip_prefix(&MAGIC)?.get(20..)?;
    let mut payloads = Vec::new();
    while !file.is_empty() {
        let len = u32::from_le_bytes(*file.get(8..)?.first_chunk()?);
        let (frame, rest) = file.get(16..)?.split_at_checked(usize::try_from(len).ok()?)?;
        payloads.extend(udp_payload(frame).map(<[u8]>::to_vec));
        file = rest;
    }
    Some(payloads)
}

fn datagrams(capture: &str) -> Vec<Vec<u8>> {
    let path = vector(&format!("{capture}.pcap"));
    let payloads = std::fs::read(&path).ok().and_then(|file| udp_payloads(&file));
    payloads.unwrap_or_else(|| panic!("{} is no capture", path.display()))
}

/// What a capture holds.
struct Expected {
    capture: &'static str,
    format: Format,
    datagrams: usize,
    keep_alives: usize,
    messages: &'static [(MessageType, usize)],
    errors: &'static [(&'static str, usize)],
}

fn format(addressing: ChunkAddressing, hash_len: usize, signature_len: usize) -> Format {
    Format::new(addressing, ChunkSize::DEFAULT, hash_len, signature_len)
}

fn sha1_chunks() -> Format {
    format(ChunkAddressing::Chunk32, 20, 0)
}

/// The messages of a datagram and the error that ends them, checked on the way.
fn decode<'a>(body: &'a [u8], format: &Format) -> (Vec<Message<'a>>, Option<WireError>) {
    let mut messages = Vec::new();
    let mut error = None;
    let mut decoder = Messages::new(body, format);
    let mut start = 0;
    for result in decoder.by_ref() {
        match result {
            Ok(message) => messages.push(message),
            Err(failure) => error = Some(failure),
        }
    }
    assert!(error.is_some() || decoder.offset() == body.len());
    for message in &messages {
        let mut again = Vec::new();
        assert_eq!(message.encode(format, &mut again), Ok(()), "{message:?}");
        assert_eq!(body.get(start..start + again.len()), Some(&again[..]), "{message:?}");
        start += again.len();
    }
    if body.first() == Some(&MessageType::Handshake.code()) {
        match (read_handshake(body), messages.first()) {
            (Ok((read, _)), Some(Message::Handshake(first))) => assert_eq!(read, *first),
            (read, _) => assert_eq!(read.err(), error),
        }
    }
    let data = messages.iter().position(|message| message.message_type() == MessageType::Data);
    assert!(data.is_none_or(|at| at == messages.len() - 1), "DATA is not last");
    (messages, error)
}

fn check(expected: &Expected) {
    let Expected { capture, format, .. } = expected;
    let payloads = datagrams(capture);
    let mut keep_alives = 0;
    let mut counts = BTreeMap::new();
    let mut errors = BTreeMap::new();
    for payload in &payloads {
        let Some((_, body)) = split_channel(payload) else { panic!("{capture}: no channel id") };
        keep_alives += usize::from(body.is_empty());
        let (messages, error) = decode(body, format);
        for message in messages {
            *counts.entry(message.message_type()).or_insert(0) += 1;
        }
        if let Some(error) = error {
            *errors.entry(error.to_string()).or_insert(0) += 1;
        }
    }
    assert_eq!(payloads.len(), expected.datagrams, "{capture}: datagrams");
    assert_eq!(keep_alives, expected.keep_alives, "{capture}: keep-alives");
    assert_eq!(counts, expected.messages.iter().copied().collect(), "{capture}: messages");
    let named = expected.errors.iter().map(|(text, count)| ((*text).to_owned(), *count));
    assert_eq!(errors, named.collect(), "{capture}: errors");
}

#[test]
fn libswift_small_contents() {
    use MessageType::{Ack, Data, Handshake, Have, Integrity, PexReq, Request};
    for (capture, datagrams, keep_alives) in [("libswift-1-byte", 19, 13), ("libswift-1024", 20, 14)] {
        check(&Expected {
            capture,
            format: sha1_chunks(),
            datagrams,
            keep_alives,
            messages: &[(Handshake, 3), (Have, 2), (Request, 1), (PexReq, 1), (Integrity, 1), (Data, 1), (Ack, 1)],
            errors: &[],
        });
    }
    check(&Expected {
        capture: "libswift-7162",
        format: sha1_chunks(),
        datagrams: 34,
        keep_alives: 16,
        messages: &[(Handshake, 3), (Have, 10), (Request, 5), (PexReq, 1), (Integrity, 8), (Data, 7), (Ack, 7)],
        errors: &[],
    });
    check(&Expected {
        capture: "libswift-keepalive",
        format: sha1_chunks(),
        datagrams: 59,
        keep_alives: 50,
        messages: &[(Handshake, 6), (Have, 6), (Request, 1), (PexReq, 1), (Integrity, 1), (Data, 1), (Ack, 1)],
        errors: &[],
    });
}

#[test]
fn libswift_three_peers() {
    use MessageType::{Ack, Data, Handshake, Have, Integrity, PexReq, PexResV4, Request};
    check(&Expected {
        capture: "libswift-3peers",
        format: sha1_chunks(),
        datagrams: 1332,
        keep_alives: 83,
        messages: &[
            (Handshake, 10),
            (Have, 715),
            (Request, 24),
            (PexReq, 4),
            (PexResV4, 6),
            (Integrity, 1192),
            (Data, 600),
            (Ack, 600),
        ],
        errors: &[],
    });
}

#[test]
fn libswift_live() {
    use MessageType::{Ack, Data, Handshake, Have, Integrity, PexReq, Request, SignedIntegrity};
    check(&Expected {
        capture: "libswift-live-ecdsa",
        format: format(ChunkAddressing::Chunk32, 20, 64),
        datagrams: 729,
        keep_alives: 76,
        messages: &[
            (Handshake, 2),
            (Have, 325),
            (PexReq, 6),
            (Integrity, 633),
            (SignedIntegrity, 10),
            (Request, 28),
            (Data, 320),
            (Ack, 320),
        ],
        errors: &[],
    });
}

/// Eight of the 33 opening HANDSHAKEs break a rule of RFC 7574 §7. The peer that offers version 0 is answered in an older
/// framing, with 32-bit bins and no End. One peer asks with 32-bit bins, though the swarm has 32-bit chunk ranges.
#[test]
fn libswift_probed_with_wrong_handshakes() {
    use MessageType::{Data, Handshake, Have, Integrity, Request};
    check(&Expected {
        capture: "libswift-probe-handshakes",
        format: sha1_chunks(),
        datagrams: 186,
        keep_alives: 0,
        messages: &[(Handshake, 68), (Have, 54), (Request, 18), (Integrity, 233), (Data, 19)],
        errors: &[
            (
                "HANDSHAKE: option 0 (Version) follows option 3 (Content Integrity Protection Method): \
                 options must ascend",
                1,
            ),
            (
                "HANDSHAKE: option 2 (Swarm Identifier) follows option 6 (Chunk Addressing Method): \
                 options must ascend",
                1,
            ),
            ("HANDSHAKE: option 2 (Swarm Identifier) follows option 8 (Supported Messages): options must ascend", 1),
            (
                "HANDSHAKE: option 3 (Content Integrity Protection Method) follows option 8 (Supported Messages): \
                 options must ascend",
                1,
            ),
            (
                "HANDSHAKE: option 3 (Content Integrity Protection Method) follows option 9 (Chunk Size): \
                 options must ascend",
                1,
            ),
            (
                "HANDSHAKE: option 4 (Merkle Hash Tree Function) follows option 6 (Chunk Addressing Method): \
                 options must ascend",
                1,
            ),
            (
                "HANDSHAKE: option 5 (Live Signature Algorithm) follows option 6 (Chunk Addressing Method): \
                 options must ascend",
                1,
            ),
            ("HANDSHAKE: option 42 is unknown, so is its length", 1),
            ("HANDSHAKE: option list has no End option", 1),
            ("INTEGRITY: chunk specification names 3404397673 chunks from 3, not an aligned power-of-two run", 21),
            ("REQUEST: chunk specification end is cut off after 0 of 4 bytes", 1),
        ],
    });
}

#[test]
fn peregrine() {
    use MessageType::{Ack, Data, Handshake, Have, Integrity, Request};
    check(&Expected {
        capture: "peregrine-7162",
        format: sha1_chunks(),
        datagrams: 23,
        keep_alives: 0,
        messages: &[(Handshake, 3), (Have, 1), (Request, 3), (Integrity, 8), (Data, 7), (Ack, 7)],
        errors: &[],
    });
}

/// Its option 10 is not assigned (RFC 7574 §7), so its opening handshakes cannot be read to their end.
#[test]
fn pyppspp() {
    use MessageType::{Ack, Data, Handshake, Have, Request};
    check(&Expected {
        capture: "pyppspp-7162",
        format: format(ChunkAddressing::Chunk32, 0, 0),
        datagrams: 15,
        keep_alives: 0,
        messages: &[(Handshake, 1), (Have, 1), (Request, 1), (Data, 8), (Ack, 2)],
        errors: &[("HANDSHAKE: option 10 is unknown, so is its length", 2)],
    });
}

/// Its handshakes have option 9 before option 7, which RFC 7574 §7 forbids.
#[test]
fn slugalisk_live() {
    use MessageType::{Ack, Data, Have, Integrity, Request, SignedIntegrity};
    check(&Expected {
        capture: "slugalisk-live-umt",
        format: format(ChunkAddressing::Bin32, 32, 64),
        datagrams: 2095,
        keep_alives: 0,
        messages: &[(Have, 47), (Request, 783), (Integrity, 3915), (SignedIntegrity, 783), (Data, 783), (Ack, 783)],
        errors: &[("HANDSHAKE: option 7 (Live Discard Window) follows option 9 (Chunk Size): options must ascend", 4)],
    });
}

#[test]
fn the_data_are_the_content() {
    let captures = [
        ("libswift-1-byte", "libswift-1-byte"),
        ("libswift-1024", "libswift-1024"),
        ("libswift-7162", "libswift-7162"),
        ("peregrine-7162", "peregrine-and-pyppspp-7162"),
        ("pyppspp-7162", "peregrine-and-pyppspp-7162"),
    ];
    for (capture, content) in captures {
        let content = std::fs::read(vector(&format!("{content}.content.bin"))).unwrap();
        let mut carried = vec![None; content.len()];
        for payload in datagrams(capture) {
            let (_, body) = split_channel(&payload).unwrap();
            for message in Messages::new(body, &sha1_chunks()).flatten() {
                if let Message::Data { chunk, payload, .. } = message {
                    let at = usize::try_from(chunk.value()).unwrap() * 1024;
                    let bytes = carried[at..at + payload.len()].iter_mut();
                    bytes.zip(payload).for_each(|(place, byte)| *place = Some(*byte));
                }
            }
        }
        let carried: Option<Vec<u8>> = carried.into_iter().collect();
        assert_eq!(carried, Some(content), "{capture}");
    }
}

#[test]
fn handshakes_say_what_they_hold() {
    let opening = |capture: &str| datagrams(capture).swap_remove(0);
    let swarm_id = |capture: &str| {
        let hex = std::fs::read_to_string(vector(&format!("{capture}.swarm-id.txt"))).unwrap();
        let digits: Vec<char> = hex.trim().chars().collect();
        let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
        digits.chunks(2).map(byte).collect::<Vec<u8>>()
    };
    for capture in ["libswift-1-byte", "libswift-1024", "libswift-7162", "libswift-3peers", "libswift-keepalive"] {
        let datagram = opening(capture);
        let (channel, body) = split_channel(&datagram).unwrap();
        let (handshake, rest) = read_handshake(body).unwrap();
        let id = swarm_id(capture);
        let expected = Handshake {
            source: handshake.source,
            version: Some(1),
            min_version: Some(1),
            swarm_id: Some(&id),
            integrity_method: Some(1),
            hash_function: Some(0),
            addressing: Some(2),
            ..Handshake::default()
        };
        assert_eq!((channel.value(), rest), (0, &[][..]));
        assert_eq!(handshake, expected, "{capture}");
        assert!(!handshake.is_closing());
    }
    let datagram = opening("libswift-live-ecdsa");
    let (handshake, _) = read_handshake(&datagram[4..]).unwrap();
    let id = swarm_id("libswift-live-ecdsa");
    let expected = Handshake {
        source: handshake.source,
        version: Some(1),
        min_version: Some(1),
        swarm_id: Some(&id),
        integrity_method: Some(3),
        live_signature: Some(13),
        addressing: Some(2),
        live_discard_window: Some(u64::from(u32::MAX)),
        ..Handshake::default()
    };
    assert_eq!(handshake, expected);
}
