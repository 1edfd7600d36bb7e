//! What the handshakes of a capture say about the channels they open.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use ppspp_core::chunk::{ChunkAddressing, ChunkSize};
use ppspp_core::integrity::HashFunction;
use ppspp_core::wire::{ChannelId, Format, Handshake, Message, Messages, read_handshake, split_channel};

/// Most channels and flows remembered; beyond it, all are forgotten and learned again.
const MAX_REMEMBERED: usize = 1 << 20;

/// What is needed to read a swarm's messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Assumed {
    /// Hash function of the tree.
    pub(crate) function: HashFunction,
    /// How messages name chunks.
    pub(crate) addressing: ChunkAddressing,
    /// Bytes per chunk.
    pub(crate) chunk_size: ChunkSize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Session {
    assumed: Assumed,
    method: u8,
    signature_len: usize,
}

/// Content integrity protection methods (RFC 7574 §7.5).
const NONE: u8 = 0;
const MERKLE: u8 = 1;
const SIGN_ALL: u8 = 2;
const UNIFIED: u8 = 3;

impl Session {
    /// The session with what `handshake` says of it.
    fn learn(self, handshake: &Handshake<'_>) -> Self {
        let Assumed { function, addressing, chunk_size } = self.assumed;
        let assumed = Assumed {
            function: handshake.hash_function.and_then(HashFunction::from_code).unwrap_or(function),
            addressing: handshake.addressing.and_then(ChunkAddressing::from_code).unwrap_or(addressing),
            chunk_size: handshake.chunk_size.map_or(chunk_size, nearest),
        };
        let signature_len = match (handshake.live_signature, handshake.swarm_id) {
            (Some(algorithm), id) => signature_len(algorithm, id).unwrap_or(self.signature_len),
            (None, _) => self.signature_len,
        };
        Self { assumed, method: handshake.integrity_method.unwrap_or(self.method), signature_len }
    }

    fn format(self) -> Format {
        let Assumed { function, addressing, chunk_size } = self.assumed;
        let hash_len = if matches!(self.method, NONE | SIGN_ALL) { 0 } else { function.len() };
        let signature_len = if matches!(self.method, NONE | MERKLE) { 0 } else { self.signature_len };
        Format::new(addressing, chunk_size, hash_len, signature_len)
    }
}

/// The chunk size closest to `bytes`, which may be "variable": it only bounds how much of a datagram is payload.
fn nearest(bytes: u32) -> ChunkSize {
    ChunkSize::new(bytes.clamp(ChunkSize::MIN.bytes(), ChunkSize::MAX.bytes())).unwrap_or_default()
}

/// Bytes of a signature by a DNSSEC algorithm (RFC 7574 §7.7); that of RSA is as long as its modulus.
fn signature_len(algorithm: u8, swarm_id: Option<&[u8]>) -> Option<usize> {
    match algorithm {
        // ECDSA with P-256 and P-384 (RFC 6605).
        13 => Some(64),
        14 => Some(96),
        // RSA: the swarm id is the algorithm and a key (RFC 7574 §7.3), exponent first (RFC 3110 §2).
        5 | 7 | 8 | 10 => {
            let key = swarm_id?.get(1..)?;
            let (exponent, rest) = match key.split_first()? {
                (0, rest) => {
                    let (len, rest) = rest.split_first_chunk()?;
                    (usize::from(u16::from_be_bytes(*len)), rest)
                }
                (len, rest) => (usize::from(*len), rest),
            };
            rest.len().checked_sub(exponent)
        }
        _ => None,
    }
}

/// One direction of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Direction {
    /// The sender.
    pub(crate) source: SocketAddr,
    /// The receiver, which chose the channel id that opens the datagram.
    pub(crate) destination: SocketAddr,
}

/// What is known of the channels seen so far.
pub(crate) struct Channels {
    unknown: Session,
    /// By the end that chose the id, and the id.
    known: BTreeMap<(SocketAddr, ChannelId), Session>,
    /// Pairs of addresses that speak PPSPP, the smaller first.
    flows: BTreeSet<(SocketAddr, SocketAddr)>,
}

impl Channels {
    /// Channels whose handshake was not seen are read as `assumed` says.
    pub(crate) fn new(assumed: Assumed) -> Self {
        // Unified Merkle trees have hashes and signatures; 64 bytes are those of ECDSA P-256.
        let unknown = Session { assumed, method: UNIFIED, signature_len: 64 };
        Self { unknown, known: BTreeMap::new(), flows: BTreeSet::new() }
    }

    /// The format of a datagram's messages, and whether a handshake told it. Learns from the datagram if it has one.
    pub(crate) fn format(&mut self, way: Direction, channel: ChannelId, body: &[u8]) -> (Format, bool) {
        let known = self.known.get(&(way.destination, channel)).copied();
        let base = known.unwrap_or(self.unknown);
        match read_handshake(body) {
            Ok((handshake, _)) if !handshake.is_closing() => {
                let session = base.learn(&handshake);
                if self.known.len() >= MAX_REMEMBERED {
                    self.known.clear();
                }
                self.known.insert((way.source, handshake.source), session);
                (session.format(), true)
            }
            _ => (base.format(), known.is_some()),
        }
    }

    /// Whether a datagram is part of a PPSPP conversation: it, or one before it, opens a channel or is in order.
    pub(crate) fn is_ppspp(&mut self, way: Direction, datagram: &[u8]) -> bool {
        let Direction { source, destination } = way;
        let flow = (source.min(destination), source.max(destination));
        if self.flows.contains(&flow) {
            return true;
        }
        let Some((channel, body)) = split_channel(datagram) else { return false };
        let opens = channel == ChannelId::ZERO && body.first() == Some(&0);
        let in_order = || {
            let format = self.known.get(&(destination, channel)).unwrap_or(&self.unknown).format();
            let first = segment_end(channel, body, &format).and_then(|end| body.get(..end)).unwrap_or(body);
            !first.is_empty() && Messages::new(first, &format).all(|message| message.is_ok())
        };
        let found = opens || in_order();
        if found {
            if self.flows.len() >= MAX_REMEMBERED {
                self.flows.clear();
            }
            self.flows.insert(flow);
        }
        found
    }
}

/// Where the datagram that `body` begins with ends, if another one of the same channel follows it.
///
/// Captures on a sending or receiving machine show batches of datagrams as one packet. DATA comes last in a datagram, so
/// that a channel id behind it begins the next one; elsewhere it does if it cannot be a message.
pub(crate) fn segment_end(channel: ChannelId, body: &[u8], format: &Format) -> Option<usize> {
    /// Message types are assigned up to 13 (RFC 7574 §8.2).
    const ASSIGNED: u8 = 14;
    let id = channel.value().to_be_bytes();
    let mut messages = Messages::new(body, format);
    while let Some(Ok(message)) = messages.next() {
        let end = messages.offset();
        let follows = body.get(end..).is_some_and(|rest| rest.len() > id.len() && rest.starts_with(&id));
        let certain = matches!(message, Message::Data { .. }) || id.first().is_some_and(|first| *first >= ASSIGNED);
        if follows && certain && channel != ChannelId::ZERO {
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(from: u16, to: u16) -> Direction {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Direction { source: loopback(from), destination: loopback(to) }
    }

    fn body(handshake: Handshake<'_>) -> Vec<u8> {
        let mut body = Vec::new();
        handshake.encode(&mut body).unwrap();
        body
    }

    #[test]
    fn an_unknown_channel_may_be_live() {
        let mut channels = Channels::new(Assumed {
            function: HashFunction::Sha1,
            addressing: ChunkAddressing::Bin32,
            chunk_size: ChunkSize::DEFAULT,
        });
        let (format, told) = channels.format(way(1, 2), ChannelId::new(5), &[10]);
        assert!(!told);
        assert_eq!((format.hash_len(), format.signature_len(), format.addressing()), (20, 64, ChunkAddressing::Bin32));
    }

    #[test]
    fn replies_inherit_what_the_opening_said() {
        let mut channels = Channels::new(Assumed {
            function: HashFunction::Sha256,
            addressing: ChunkAddressing::Chunk32,
            chunk_size: ChunkSize::DEFAULT,
        });
        let opening = Handshake {
            source: ChannelId::new(7),
            integrity_method: Some(1),
            hash_function: Some(0),
            addressing: Some(3),
            chunk_size: Some(8192),
            ..Handshake::default()
        };
        let (format, told) = channels.format(way(1, 2), ChannelId::ZERO, &body(opening));
        assert!(told);
        assert_eq!((format.hash_len(), format.signature_len()), (20, 0));
        let reply = Handshake { source: ChannelId::new(9), version: Some(1), ..Handshake::default() };
        assert_eq!(channels.format(way(2, 1), ChannelId::new(7), &body(reply)), (format, true));
        assert_eq!(channels.format(way(1, 2), ChannelId::new(9), &[]), (format, true));
        assert_eq!(channels.format(way(2, 1), ChannelId::new(7), &[10]), (format, true));
        // The ids are their owners': the same numbers elsewhere are other channels.
        assert!(!channels.format(way(1, 2), ChannelId::new(7), &[10]).1);
        assert!(!channels.format(way(3, 2), ChannelId::ZERO, &[10]).1);
    }

    #[test]
    fn signatures_are_as_long_as_their_algorithm_says() {
        assert_eq!(signature_len(13, None), Some(64));
        assert_eq!(signature_len(14, None), Some(96));
        let rsa = [&[5, 3, 1, 0, 1][..], &[0xaa; 128]].concat();
        assert_eq!(signature_len(5, Some(&rsa)), Some(128));
        let long_exponent = [&[5, 0, 1, 0][..], &[1; 256], &[0xaa; 256]].concat();
        assert_eq!(signature_len(8, Some(&long_exponent)), Some(256));
        for broken in [&[][..], &[5], &[5, 0], &[5, 0, 1], &[5, 9, 1]] {
            assert_eq!(signature_len(5, Some(broken)), None);
        }
        assert_eq!(signature_len(200, None), None);
    }

    #[test]
    fn odd_chunk_sizes_do_not_stop_the_decoder() {
        assert_eq!(nearest(0), ChunkSize::MIN);
        assert_eq!(nearest(u32::MAX), ChunkSize::MAX);
        assert_eq!(nearest(1000).bytes(), 1000);
    }
}
