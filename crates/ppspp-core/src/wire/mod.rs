//! The wire format (RFC 7574 §7, §8): datagrams to messages and back, and nothing else.
//!
//! Reading borrows from the datagram, allocates nothing and trusts nothing: [`split_channel`] takes the channel id off,
//! [`Messages`] walks the rest, [`read_handshake`] reads an opening datagram before the swarm is known. Writing goes
//! through [`DatagramBuilder`], which keeps a datagram within its budget and in legal order.
//!
//! How long a message is depends on the swarm: chunk addressing, hash and signature lengths. [`Format`] carries that.
#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)
)]

mod chunk_spec;
mod cursor;
mod datagram;
mod error;
mod handshake;
mod message;
mod message_set;
#[cfg(test)]
mod properties;
mod usual;

pub(crate) use datagram::write_data_datagram;
pub use datagram::{DatagramBuilder, Messages, PushError, RangeMessage};
pub use error::{EncodeError, WireError, WireErrorKind};
pub use handshake::{Handshake, HandshakeOption, PROTOCOL_VERSION, read_handshake};
pub(crate) use message::{DataMessage, IntegrityMessage};
pub use message::{Message, MessageType};
pub use message_set::MessageSet;

use core::fmt;

use crate::chunk::{ChunkAddressing, ChunkSize};

/// Length in bytes of the channel id that opens every datagram (RFC 7574 §8.3).
pub const CHANNEL_ID_LEN: usize = 4;

/// Length in bytes of a message type, and of an option code.
const CODE_LEN: usize = 1;

/// Length in bytes of a timestamp or a delay sample (RFC 7574 §8.6, §8.7, §8.9).
const TIMESTAMP_LEN: usize = 8;

/// One end's name for a channel, chosen at random by that end (RFC 7574 §8.3). Zero names no channel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ChannelId(u32);

impl ChannelId {
    /// The destination of an opening HANDSHAKE and the source of a closing one (RFC 7574 §8.4).
    pub const ZERO: Self = Self(0);

    /// The channel id with this value.
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// The value, 0 to 2^32 - 1.
    pub const fn value(self) -> u32 {
        self.0
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What must be known of a swarm to read and write its messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Format {
    addressing: ChunkAddressing,
    chunk_size: ChunkSize,
    hash_len: usize,
    signature_len: usize,
    content_length: Option<u64>,
}

impl Format {
    /// The format of a swarm with these metadata; lengths in bytes.
    ///
    /// A `hash_len` of zero makes INTEGRITY invalid in this swarm, a `signature_len` of zero `SIGNED_INTEGRITY`.
    pub const fn new(
        addressing: ChunkAddressing,
        chunk_size: ChunkSize,
        hash_len: usize,
        signature_len: usize,
    ) -> Self {
        Self { addressing, chunk_size, hash_len, signature_len, content_length: None }
    }

    /// The same format with the length of the content in bytes, if known.
    ///
    /// Only byte ranges depend on it: they end at the last real byte (ruling R4).
    #[must_use]
    pub const fn with_content_length(self, content_length: Option<u64>) -> Self {
        Self { content_length, ..self }
    }

    /// How messages name chunks.
    pub const fn addressing(&self) -> ChunkAddressing {
        self.addressing
    }

    /// Bytes in every chunk but the last.
    pub const fn chunk_size(&self) -> ChunkSize {
        self.chunk_size
    }

    /// Bytes of a hash in INTEGRITY; zero if the swarm has none.
    pub const fn hash_len(&self) -> usize {
        self.hash_len
    }

    /// Bytes of a signature in `SIGNED_INTEGRITY`; zero if the swarm has none.
    pub const fn signature_len(&self) -> usize {
        self.signature_len
    }

    /// Length of the content in bytes, if known.
    pub const fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// Bytes of a HAVE, REQUEST or CANCEL with one chunk specification.
    pub const fn have_len(&self) -> usize {
        CODE_LEN.saturating_add(self.addressing.spec_len())
    }

    /// Bytes of an ACK with one chunk specification.
    pub const fn ack_len(&self) -> usize {
        self.have_len().saturating_add(TIMESTAMP_LEN)
    }

    /// Bytes of a DATA message without its payload: type, chunk specification and timestamp.
    pub const fn data_overhead(&self) -> usize {
        self.have_len().saturating_add(TIMESTAMP_LEN)
    }

    /// Bytes of an INTEGRITY message.
    pub const fn integrity_len(&self) -> usize {
        self.have_len().saturating_add(self.hash_len)
    }

    /// Bytes of a `SIGNED_INTEGRITY` message.
    pub const fn signed_integrity_len(&self) -> usize {
        self.have_len().saturating_add(TIMESTAMP_LEN).saturating_add(self.signature_len)
    }

    /// Bytes of a message of this type without content, hash or signature, if all are as long.
    pub(crate) const fn control_len(&self, message: MessageType) -> Option<usize> {
        match message {
            MessageType::Ack => Some(self.ack_len()),
            MessageType::Have | MessageType::Request | MessageType::Cancel => Some(self.have_len()),
            MessageType::Choke | MessageType::Unchoke | MessageType::PexReq => Some(CODE_LEN),
            _ => None,
        }
    }

    /// How many chunks, counted from the first, a chunk specification can name (ruling R3).
    pub fn max_chunks(&self) -> u64 {
        match self.addressing {
            // The end of the last chunk is a byte offset of 64 bits.
            ChunkAddressing::Byte64 => {
                let size = u64::from(self.chunk_size.bytes());
                let before_last = u64::MAX.saturating_sub(size.saturating_sub(1));
                before_last.checked_div(size).unwrap_or(0).saturating_add(1)
            }
            addressing => addressing.max_chunks(),
        }
    }
}

/// Splits a datagram into the channel it is for and the messages; `None` below four bytes (RFC 7574 §8.3).
///
/// If no bytes remain the datagram is a keep-alive (RFC 7574 §8.14).
#[inline]
pub fn split_channel(datagram: &[u8]) -> Option<(ChannelId, &[u8])> {
    let (id, body) = datagram.split_first_chunk::<CHANNEL_ID_LEN>()?;
    Some((ChannelId(u32::from_be_bytes(*id)), body))
}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;

    #[test]
    fn a_keep_alive_is_a_channel_id_alone() {
        assert_eq!(split_channel(&[0, 0, 1, 2]), Some((ChannelId::new(0x102), &[][..])));
        assert_eq!(split_channel(&[0xff, 0xff, 0xff, 0xff, 6]), Some((ChannelId::new(u32::MAX), &[6][..])));
        for len in 0..CHANNEL_ID_LEN {
            assert_eq!(split_channel(&[0; CHANNEL_ID_LEN][..len]), None);
        }
    }

    #[test]
    fn channel_ids_show_eight_digits() {
        assert_eq!(format!("{} {:?}", ChannelId::new(0xab), ChannelId::ZERO), "000000ab 00000000");
    }

    #[test]
    fn lengths_follow_the_format() {
        // NOTES 3: 4 + 17 + 1024 = 1045 bytes, and 41 bytes for each SHA-256 INTEGRITY.
        let format = Format::new(ChunkAddressing::Chunk32, ChunkSize::DEFAULT, 32, 64);
        assert_eq!((format.data_overhead(), format.integrity_len(), format.signed_integrity_len()), (17, 41, 81));
        assert_eq!((format.have_len(), format.ack_len()), (9, 17));
        let format = Format::new(ChunkAddressing::Byte64, ChunkSize::DEFAULT, 64, 0);
        assert_eq!((format.data_overhead(), format.integrity_len(), format.have_len()), (25, 81, 17));
        let format = Format::new(ChunkAddressing::Bin32, ChunkSize::DEFAULT, 20, 0);
        assert_eq!((format.data_overhead(), format.integrity_len(), format.have_len()), (13, 25, 5));
    }

    #[test]
    fn r3_each_method_names_so_many_chunks() {
        let chunks = |addressing, size| Format::new(addressing, ChunkSize::new(size).unwrap(), 20, 0).max_chunks();
        assert_eq!(chunks(ChunkAddressing::Bin32, 1024), 1 << 31);
        assert_eq!(chunks(ChunkAddressing::Chunk32, 1024), 1 << 32);
        assert_eq!(chunks(ChunkAddressing::Bin64, 1024), 1 << 63);
        assert_eq!(chunks(ChunkAddressing::Chunk64, 1024), 1 << 63);
        assert_eq!(chunks(ChunkAddressing::Byte64, 1024), 1 << 54);
        // The last whole chunk ends at or before byte 2^64 - 1.
        assert_eq!(u128::from(chunks(ChunkAddressing::Byte64, 1000)), (1_u128 << 64) / 1000);
    }
}
