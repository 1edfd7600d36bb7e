//! Datagrams written by hand, for peers that are no endpoints, and read by hand.

use ppspp_core::wire::{ChannelId, Handshake, Message, Messages, PROTOCOL_VERSION, read_handshake, split_channel};
use ppspp_core::{Metadata, wire::Format};

/// The bytes of a HANDSHAKE that closes a channel: source 0, Version, End (R10).
pub(crate) const CLOSING: [u8; 8] = [0, 0, 0, 0, 0, 0, 1, 255];
/// The same without any option.
pub(crate) const BARE_CLOSING: [u8; 6] = [0, 0, 0, 0, 0, 255];

/// What an initiator offers for the swarm, with every option it needs.
pub(crate) fn offer(metadata: &Metadata, source: u32) -> Handshake<'_> {
    Handshake {
        source: ChannelId::new(source),
        version: Some(PROTOCOL_VERSION),
        min_version: Some(PROTOCOL_VERSION),
        swarm_id: Some(metadata.root.as_slice()),
        integrity_method: Some(1),
        hash_function: Some(metadata.function.code()),
        addressing: Some(metadata.addressing.code()),
        chunk_size: Some(metadata.chunk_size.bytes()),
        ..Handshake::default()
    }
}

/// A datagram to channel `to` with `body`.
pub(crate) fn datagram(to: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = to.to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

/// A datagram to channel `to` with a HANDSHAKE.
pub(crate) fn with_handshake(to: u32, handshake: &Handshake<'_>) -> Vec<u8> {
    let mut bytes = to.to_be_bytes().to_vec();
    handshake.encode(&mut bytes).unwrap();
    bytes
}

/// A valid opening of the swarm from channel `source`.
pub(crate) fn opening(metadata: &Metadata, source: u32) -> Vec<u8> {
    with_handshake(0, &offer(metadata, source))
}

/// The channel a datagram is for.
pub(crate) fn channel_of(datagram: &[u8]) -> u32 {
    split_channel(datagram).unwrap().0.value()
}

/// The HANDSHAKE of a datagram and the messages behind it, if it begins with one.
pub(crate) fn handshake_of(datagram: &[u8]) -> Option<(Handshake<'_>, &[u8])> {
    read_handshake(split_channel(datagram)?.1).ok()
}

/// The messages of a datagram in a swarm with `metadata`; all must decode.
pub(crate) fn messages_of<'a>(metadata: &Metadata, datagram: &'a [u8]) -> Vec<Message<'a>> {
    let format = Format::new(metadata.addressing, metadata.chunk_size, metadata.function.len(), 0)
        .with_content_length(metadata.content_length);
    Messages::new(split_channel(datagram).unwrap().1, &format).map(Result::unwrap).collect()
}

/// The codes of a HANDSHAKE's options as they stand in a datagram, End included.
pub(crate) fn option_codes(datagram: &[u8]) -> Vec<u8> {
    let mut at = 9;
    let mut codes = Vec::new();
    loop {
        let code = datagram[at];
        codes.push(code);
        at += 1 + match code {
            0 | 1 | 3..=6 => 1,
            2 => 2 + usize::from(u16::from_be_bytes([datagram[at + 1], datagram[at + 2]])),
            8 => 1 + usize::from(datagram[at + 1]),
            9 => 4,
            255 => return codes,
            _ => panic!("option {code} in {datagram:x?}"),
        };
    }
}
