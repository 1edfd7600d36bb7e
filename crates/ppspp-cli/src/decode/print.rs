//! Messages as lines of text.

use std::fmt;

use ppspp_core::chunk::{ChunkAddressing, ChunkRange};
use ppspp_core::integrity::HashFunction;
use ppspp_core::wire::{Handshake, Message};

use crate::hex::Hex;

/// A run of chunks with its ends, both included, as on the wire.
struct Chunks(ChunkRange);

impl fmt::Display for Chunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.count() {
            0 => f.write_str("no chunks"),
            1 => write!(f, "chunk {}", self.0.start()),
            _ => write!(f, "chunks {}-{}", self.0.start(), self.0.end().saturating_sub(1)),
        }
    }
}

/// A message on one line.
pub(crate) struct Line<'a>(pub(crate) &'a Message<'a>);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.0.message_type();
        match self.0 {
            Message::Handshake(handshake) => write!(f, "{kind} {}", Options(handshake)),
            Message::Data { chunk, timestamp, payload } => {
                write!(f, "{kind} chunk {chunk}, {} bytes, sent at {timestamp} us", payload.len())
            }
            // The sample is a difference of two clocks, in two's complement (R5).
            Message::Ack { range, delay } => {
                write!(f, "{kind} {}, one-way delay {} us", Chunks(*range), delay.cast_signed())
            }
            Message::Have(range) | Message::Request(range) | Message::Cancel(range) => {
                write!(f, "{kind} {}", Chunks(*range))
            }
            Message::Integrity { node, hash } => write!(f, "{kind} {}, hash {}", Chunks(node.base_range()), Hex(hash)),
            Message::SignedIntegrity { node, timestamp, signature } => {
                let (seconds, fraction) = (timestamp >> 32, timestamp & 0xffff_ffff);
                let micros = (fraction * 1_000_000) >> 32;
                let chunks = Chunks(node.base_range());
                write!(f, "{kind} {chunks}, NTP time {seconds}.{micros:06} s, signature {}", Hex(signature))
            }
            Message::PexResV4(peer) => write!(f, "{kind} {peer}"),
            Message::PexResV6(peer) => write!(f, "{kind} {peer}"),
            Message::PexResCert(certificate) => write!(f, "{kind} certificate of {} bytes", certificate.len()),
            _ => write!(f, "{kind}"),
        }
    }
}

/// The options of a handshake, in the order of the wire.
struct Options<'a>(&'a Handshake<'a>);

impl fmt::Display for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Handshake { source, version, min_version, swarm_id, integrity_method, hash_function, .. } = self.0;
        let Handshake { live_signature, addressing, live_discard_window, supported_messages, chunk_size, .. } = self.0;
        if self.0.is_closing() {
            f.write_str("closes the channel")?;
        } else {
            write!(f, "source {source}")?;
        }
        optional(f, "version", *version)?;
        optional(f, "minimum version", *min_version)?;
        optional(f, "swarm id", swarm_id.map(Hex))?;
        optional(f, "integrity", integrity_method.map(|code| Named(code, integrity_name(code))))?;
        optional(
            f,
            "hash",
            hash_function.map(|code| Named(code, HashFunction::from_code(code).map(HashFunction::name))),
        )?;
        optional(f, "signature", live_signature.map(|code| Named(code, signature_name(code))))?;
        let addressing_name = |code| ChunkAddressing::from_code(code).map(ChunkAddressing::name);
        optional(f, "addressing", addressing.map(|code| Named(code, addressing_name(code))))?;
        optional(f, "discard window", *live_discard_window)?;
        if let Some(messages) = supported_messages {
            f.write_str(", messages")?;
            messages.iter().try_for_each(|message| write!(f, " {message}"))?;
        }
        optional(f, "chunk size", *chunk_size)
    }
}

fn optional(f: &mut fmt::Formatter<'_>, name: &str, value: Option<impl fmt::Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, ", {name} {value}"))
}

/// A code, by its name if it has one.
struct Named(u8, Option<&'static str>);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(name) => f.write_str(name),
            None => write!(f, "{} (unassigned)", self.0),
        }
    }
}

/// RFC 7574 §7.5.
const fn integrity_name(code: u8) -> Option<&'static str> {
    Some(match code {
        0 => "none",
        1 => "merkle",
        2 => "sign-all",
        3 => "unified-merkle",
        _ => return None,
    })
}

/// The DNSSEC algorithms that RFC 7574 §7.7 and §12 name.
const fn signature_name(code: u8) -> Option<&'static str> {
    Some(match code {
        5 => "rsasha1",
        8 => "rsasha256",
        10 => "rsasha512",
        13 => "ecdsap256sha256",
        14 => "ecdsap384sha384",
        15 => "ed25519",
        16 => "ed448",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use ppspp_core::chunk::{Bin, ChunkIndex};
    use ppspp_core::wire::{ChannelId, MessageSet, MessageType};

    use super::*;

    #[test]
    fn each_message_is_one_line() {
        let mut messages = MessageSet::default();
        messages.insert(MessageType::Handshake);
        messages.insert(MessageType::Have);
        let handshake = Handshake {
            source: ChannelId::new(0xab),
            version: Some(1),
            min_version: Some(1),
            swarm_id: Some(&[1, 0xfe]),
            integrity_method: Some(1),
            hash_function: Some(2),
            live_signature: Some(99),
            addressing: Some(2),
            live_discard_window: Some(9),
            supported_messages: Some(messages),
            chunk_size: Some(1024),
        };
        let run = ChunkRange::new(4, 8);
        for (message, line) in [
            (
                Message::Handshake(handshake),
                "HANDSHAKE source 000000ab, version 1, minimum version 1, swarm id 01fe, integrity merkle, hash sha256, \
                 signature 99 (unassigned), addressing chunk32, discard window 9, messages HANDSHAKE HAVE, chunk size 1024",
            ),
            (Message::Handshake(Handshake::closing()), "HANDSHAKE closes the channel, version 1"),
            (
                Message::Data { chunk: ChunkIndex::new(3), timestamp: 5, payload: &[0; 7] },
                "DATA chunk 3, 7 bytes, sent at 5 us",
            ),
            (Message::Ack { range: run, delay: u64::MAX }, "ACK chunks 4-7, one-way delay -1 us"),
            (Message::Have(ChunkRange::new(5, 6)), "HAVE chunk 5"),
            (Message::Request(run), "REQUEST chunks 4-7"),
            (Message::Cancel(ChunkRange::EMPTY), "CANCEL no chunks"),
            (
                Message::Integrity { node: Bin::at(2, 1).unwrap(), hash: &[0xde, 0xad] },
                "INTEGRITY chunks 4-7, hash dead",
            ),
            (
                Message::SignedIntegrity { node: Bin::at(0, 1).unwrap(), timestamp: 3 << 31, signature: &[1] },
                "SIGNED_INTEGRITY chunk 1, NTP time 1.500000 s, signature 01",
            ),
            (Message::PexResV4("10.0.0.1:80".parse().unwrap()), "PEX_RESv4 10.0.0.1:80"),
            (Message::PexResV6("[::1]:80".parse().unwrap()), "PEX_RESv6 [::1]:80"),
            (Message::PexResCert(&[0; 9]), "PEX_REScert certificate of 9 bytes"),
            (Message::PexReq, "PEX_REQ"),
            (Message::Choke, "CHOKE"),
            (Message::Unchoke, "UNCHOKE"),
        ] {
            assert_eq!(Line(&message).to_string(), line);
        }
    }
}
