//! The example of RFC 7574 §8.16, datagram by datagram, and the other figures that show bytes.
//!
//! The figures are used as bytes only: their swarm id is the SHA-1 of 13 bytes, though the text says SHA-256 and a
//! file of 12.

use ppspp_core::chunk::{ChunkAddressing, ChunkIndex, ChunkRange, ChunkSize};
use ppspp_core::wire::{
    ChannelId, DatagramBuilder, Format, Handshake, Message, Messages, RangeMessage, read_handshake, split_channel,
};

/// Bytes of UDP payload in an Ethernet frame over IPv4.
const BUDGET: usize = 1472;

fn format() -> Format {
    Format::new(ChunkAddressing::Chunk32, ChunkSize::DEFAULT, 20, 0)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap_or(0)).collect()
}

/// Both directions: `bytes` read as `messages`, and `messages` are written as `bytes`.
fn assert_datagram(bytes: &[u8], channel: u32, messages: &[Message<'_>]) {
    let format = format();
    let Some((read_channel, body)) = split_channel(bytes) else { panic!("no channel id") };
    assert_eq!(read_channel, ChannelId::new(channel));
    let read: Result<Vec<_>, _> = Messages::new(body, &format).collect();
    assert_eq!(read.as_deref(), Ok(messages));

    let mut written = Vec::new();
    let mut builder = DatagramBuilder::new(&mut written, BUDGET, ChannelId::new(channel), format);
    for message in messages {
        assert_eq!(builder.push(message), Ok(()));
    }
    assert_eq!(builder.finish(), bytes.len());
    assert_eq!(written, bytes);
}

const FIRST: ChunkRange = ChunkRange::new(0, 1);

fn swarm_id() -> Vec<u8> {
    hex("47a013e660d408619d894b20806b1d5086aab03b")
}

#[test]
fn the_initiator_opens() {
    let id = swarm_id();
    let handshake = Handshake {
        source: ChannelId::new(1),
        version: Some(1),
        min_version: Some(1),
        swarm_id: Some(&id),
        integrity_method: Some(1),
        hash_function: Some(2),
        addressing: Some(2),
        chunk_size: Some(1024),
        ..Handshake::default()
    };
    let bytes = hex(
        "00000000 00 00000001 0001 0101 02 0014 47a013e660d408619d894b20806b1d5086aab03b 0301 0402 0602 09 00000400 ff",
    );
    assert_datagram(&bytes, 0, &[Message::Handshake(handshake)]);
    assert_eq!(read_handshake(&bytes[4..]), Ok((handshake, &[][..])));
}

#[test]
fn the_responder_answers_and_has_the_first_chunk() {
    let handshake = Handshake {
        source: ChannelId::new(8),
        version: Some(1),
        integrity_method: Some(1),
        hash_function: Some(2),
        addressing: Some(2),
        chunk_size: Some(1024),
        ..Handshake::default()
    };
    let bytes = hex("00000001 00 00000008 0001 0301 0402 0602 09 00000400 ff 03 00000000 00000000");
    assert_datagram(&bytes, 1, &[Message::Handshake(handshake), Message::Have(FIRST)]);
}

#[test]
fn the_initiator_requests() {
    let bytes = hex("00000008 08 00000000 00000000 06");
    assert_datagram(&bytes, 8, &[Message::Request(FIRST), Message::PexReq]);
}

#[test]
fn the_responder_sends_the_chunk() {
    let bytes = hex("00000001 01 00000000 00000000 0004e94180b7db44 48656c6c6f20776f726c64210a");
    let data =
        Message::Data { chunk: ChunkIndex::new(0), timestamp: 0x0004_e941_80b7_db44, payload: b"Hello world!\n" };
    assert_datagram(&bytes, 1, &[data]);
}

#[test]
fn the_initiator_acknowledges_has_and_closes() {
    let bytes = hex("00000008 02 00000000 00000000 0000000000000064 03 00000000 00000000");
    assert_datagram(&bytes, 8, &[Message::Ack { range: FIRST, delay: 100 }, Message::Have(FIRST)]);
    let bytes = hex("00000008 00 00000000 ff");
    assert_datagram(&bytes, 8, &[Message::Handshake(Handshake::default())]);
}

#[test]
fn section_8_2_have_of_a_bin() {
    let format = Format::new(ChunkAddressing::Bin32, ChunkSize::DEFAULT, 20, 0);
    let mut written = Vec::new();
    let mut builder = DatagramBuilder::new(&mut written, BUDGET, ChannelId::ZERO, format);
    assert!(builder.push_range(RangeMessage::Have, ChunkRange::new(0, 2)).is_empty());
    assert_eq!(builder.finish(), 9);
    assert_eq!(written, hex("00000000 0300000001"));
}

#[test]
fn section_8_14_keep_alive() {
    assert_datagram(&hex("00000008"), 8, &[]);
}
