//! HANDSHAKEs: reading any options, writing any, and answering strangers.

use std::net::SocketAddr;

use ppspp_core::wire::{
    ChannelId, EncodeError, Handshake, HandshakeOption, MessageSet, MessageType, WireErrorKind, read_handshake,
    split_channel,
};
use ppspp_core::{BatchLimit, Content, DatagramMeta, Endpoint, Instant, SwarmConfig};

use super::content::{Sample, samples};
use super::input::Input;

/// Reads bytes as the options of a HANDSHAKE, writes options of the input's choice, and sends both to a seeder.
pub fn handshake_options(data: &[u8]) {
    let mut input = Input::new(data);
    let sample = &samples()[usize::from(input.u8()) % samples().len()];
    let mut body = vec![0];
    let raw = input.rest();
    body.extend_from_slice(raw);
    match read_handshake(&body) {
        Ok((handshake, rest)) => {
            write_and_read(&handshake);
            let options = &body[5..body.len() - rest.len()];
            assert_eq!(options.last(), Some(&HandshakeOption::End.code()));
        }
        Err(error) => {
            assert!(error.offset() <= body.len());
            assert_ne!(error.kind(), WireErrorKind::HandshakeExpected { code: 0 });
            assert!(!error.to_string().is_empty());
        }
    }
    let made = made_handshake(raw, sample);
    write_and_read(&made);
    answer(sample, &body);
    let mut body = Vec::new();
    if made.encode(&mut body).is_ok() {
        answer(sample, &body);
    }
}

fn write_and_read(handshake: &Handshake<'_>) {
    let mut bytes = vec![0xa5];
    match handshake.encode(&mut bytes) {
        Ok(()) => {
            assert_eq!(bytes.len() - 1, handshake.encoded_len());
            bytes.push(6);
            assert_eq!(read_handshake(&bytes[1..]), Ok((*handshake, &[6][..])));
        }
        Err(error) => {
            assert_eq!(bytes, [0xa5]);
            assert!(matches!(error, EncodeError::DiscardWindow { .. }), "{error}");
        }
    }
}

/// The sample's own options, some left out and some replaced.
fn made_handshake<'a>(bytes: &'a [u8], sample: &'a Sample) -> Handshake<'a> {
    let mut input = Input::new(bytes);
    let mut handshake = sample.opening(ChannelId::new(input.u32()));
    let (absent, changed) = (input.u16(), input.u16());
    let mut code = |bit: u16, option: &mut Option<u8>| {
        if changed & (1 << bit) != 0 {
            *option = Some(input.u8());
        }
        if absent & (1 << bit) != 0 {
            *option = None;
        }
    };
    code(0, &mut handshake.version);
    code(1, &mut handshake.min_version);
    code(3, &mut handshake.integrity_method);
    code(4, &mut handshake.hash_function);
    code(5, &mut handshake.live_signature);
    code(6, &mut handshake.addressing);
    if changed & (1 << 7) != 0 {
        handshake.live_discard_window = Some(input.u64() >> (input.u8() % 64));
    }
    if changed & (1 << 9) != 0 {
        handshake.chunk_size = Some(input.u32());
    }
    if changed & (1 << 8) != 0 {
        let bitmap = input.u16();
        let mut set = MessageSet::EMPTY;
        for (bit, message) in MessageType::ALL.into_iter().enumerate() {
            if bitmap & (1 << bit) != 0 {
                set.insert(message);
            }
        }
        handshake.supported_messages = Some(set);
    }
    if absent & (1 << 8) != 0 {
        handshake.supported_messages = None;
    }
    if absent & (1 << 9) != 0 {
        handshake.chunk_size = None;
    }
    if changed & (1 << 2) != 0 {
        handshake.swarm_id = Some(input.bytes());
    }
    if absent & (1 << 2) != 0 {
        handshake.swarm_id = None;
    }
    handshake
}

/// Opens a channel to a seeder with `body`: no more comes back than went in (R8), only to an offer that fits.
fn answer(sample: &Sample, body: &[u8]) {
    let now = Instant::from_micros(1_000_000);
    let mut endpoint = Endpoint::new(super::content::small_config(), [3; 32], now);
    let content = Content::Seed { tree: sample.tree.clone() };
    let Ok(swarm) = endpoint.join(SwarmConfig { metadata: sample.metadata.clone(), content }, now) else {
        panic!("a seeder cannot join")
    };
    while endpoint.poll_event().is_some() {}
    let remote = SocketAddr::from(([10, 0, 0, 9], 6778));
    let mut received = 0;
    let mut sent = 0;
    for _ in 0..2 {
        let mut datagram = vec![0; 4];
        datagram.extend_from_slice(body);
        received += datagram.len();
        endpoint.handle_datagram(now, DatagramMeta::from_remote(remote), &datagram);
        let mut buf = Vec::new();
        while let Some(transmit) = endpoint.poll_transmit(now, BatchLimit::SINGLE, &mut buf) {
            assert_eq!(transmit.destination, remote);
            assert_eq!(transmit.size, buf.len());
            check_reply(sample, body, &buf);
            sent += buf.len();
            buf.clear();
        }
        assert!(sent <= received, "{sent} bytes to an unproven address that sent {received}");
    }
    let established = endpoint.swarm(swarm).is_some_and(|view| view.peers().any(|peer| peer.established));
    assert!(!established, "established without proof of the return path");
}

/// A reply starts with a HANDSHAKE for the opener's channel, and there is one only for the swarm's own metadata.
fn check_reply(sample: &Sample, body: &[u8], reply: &[u8]) {
    let Ok((theirs, _)) = read_handshake(body) else { panic!("an undecodable handshake was answered") };
    let Some((channel, reply)) = split_channel(reply) else { panic!("a reply without a channel id") };
    let Ok((ours, _)) = read_handshake(reply) else { panic!("a reply without a handshake") };
    assert!(!theirs.is_closing(), "a close was answered (R10)");
    assert_eq!(channel, theirs.source);
    assert!(!ours.is_closing() && ours.swarm_id.is_none());
    assert_eq!(theirs.swarm_id, Some(sample.metadata.root.as_slice()));
    assert!(theirs.version.is_some_and(|version| version >= 1), "a reply without a common version");
    assert!(theirs.min_version.is_none_or(|version| version <= 1), "a reply without a common version");
    assert!(theirs.integrity_method.is_none_or(|code| code == 1));
    assert!(theirs.hash_function.is_none_or(|code| code == sample.metadata.function.code()));
    assert!(theirs.addressing.is_none_or(|code| code == sample.metadata.addressing.code()));
    assert!(theirs.chunk_size.is_none_or(|size| size == sample.metadata.chunk_size.bytes()));
}
