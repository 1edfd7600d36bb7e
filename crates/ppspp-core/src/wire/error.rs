//! What can be wrong with received bytes, and with messages to be written.

use core::fmt;

use thiserror::Error;

use super::handshake::HandshakeOption;
use super::message::MessageType;
use crate::chunk::{ChunkAddressing, ChunkRange};

/// Received bytes that are no valid message. The rest of their datagram cannot be used (RFC 7574 §3).
///
/// Displays the message, the field and the reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WireError {
    message: Option<MessageType>,
    offset: usize,
    kind: WireErrorKind,
}

impl WireError {
    pub(super) const fn new(message: Option<MessageType>, offset: usize, kind: WireErrorKind) -> Self {
        Self { message, offset, kind }
    }

    /// The message that is at fault; `None` if its type could not be read.
    pub const fn message(&self) -> Option<MessageType> {
        self.message
    }

    /// Where the field at fault begins, in bytes after the channel id.
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// What is wrong.
    pub const fn kind(&self) -> WireErrorKind {
        self.kind
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message {
            Some(message) => write!(f, "{message}: {}", self.kind),
            None => self.kind.fmt(f),
        }
    }
}

impl core::error::Error for WireError {}

/// The reason why received bytes are no valid message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum WireErrorKind {
    /// The datagram ends within a field.
    #[error("{field} is cut off after {available} of {needed} bytes")]
    Truncated {
        /// The field.
        field: &'static str,
        /// Bytes it has.
        needed: usize,
        /// Bytes that are left of the datagram.
        available: usize,
    },
    /// The message type is not assigned, so its length is not known (RFC 7574 §8.2).
    #[error("message type {code} is unknown, so is its length")]
    UnknownMessage {
        /// The type octet.
        code: u8,
    },
    /// A HANDSHAKE behind another message (RFC 7574 §3.1).
    #[error("follows another message: it must come first")]
    HandshakeNotFirst,
    /// Another message where only a HANDSHAKE can stand.
    #[error("message type {code} where a HANDSHAKE must be")]
    HandshakeExpected {
        /// The type octet.
        code: u8,
    },
    /// The swarm has no hashes, or no signatures.
    #[error("not part of this swarm's integrity method")]
    NotInSwarm,
    /// The chunk specification's end lies before its start (RFC 7574 §4.1).
    #[error("chunk specification {start}-{end} ends before it starts")]
    EndBeforeStart {
        /// First chunk or byte.
        start: u64,
        /// Last chunk or byte.
        end: u64,
    },
    /// The chunk specification of a DATA message is not one chunk (ruling R5).
    #[error("chunk specification names {count} chunks from {start}, not one")]
    NotOneChunk {
        /// First chunk.
        start: u64,
        /// Number of chunks.
        count: u64,
    },
    /// The chunk specification of a hash or signature is not one node of the tree (ruling R5).
    #[error("chunk specification names {count} chunks from {start}, not an aligned power-of-two run")]
    NotOneNode {
        /// First chunk.
        start: u64,
        /// Number of chunks.
        count: u64,
    },
    /// A byte range starts within a chunk (ruling R4).
    #[error("byte range starts at {start}, not a multiple of the chunk size {chunk_size}")]
    StartInsideChunk {
        /// First byte.
        start: u64,
        /// Bytes per chunk.
        chunk_size: u32,
    },
    /// A byte range ends within a chunk, and not with the content (ruling R4).
    #[error("byte range ends with byte {end}, neither a chunk's last (chunk size {chunk_size}) nor the content's")]
    EndInsideChunk {
        /// Last byte.
        end: u64,
        /// Bytes per chunk.
        chunk_size: u32,
    },
    /// The byte range of a DATA message is neither a whole chunk nor as long as the payload (ruling R4).
    #[error("byte range of {named} bytes with a payload of {carried} bytes")]
    PayloadLength {
        /// Bytes in the range.
        named: u64,
        /// Bytes of payload.
        carried: usize,
    },
    /// A DATA message without data.
    #[error("payload is empty")]
    EmptyPayload,
    /// The option is not assigned, so its length is not known (RFC 7574 §7).
    #[error("option {code} is unknown, so is its length")]
    UnknownOption {
        /// The option code.
        code: u8,
    },
    /// Options out of order (RFC 7574 §7).
    #[error("{option} follows {after}: options must ascend")]
    OptionOrder {
        /// The option that comes too late.
        option: HandshakeOption,
        /// The option before it.
        after: HandshakeOption,
    },
    /// An option given twice, which breaks the order (ruling R6).
    #[error("{option} is repeated")]
    OptionRepeated {
        /// The option.
        option: HandshakeOption,
    },
    /// The datagram ends where an option or End must be (RFC 7574 §7.1).
    #[error("option list has no End option")]
    MissingEnd,
    /// The Supported Messages bitmap is longer than 256 bits (RFC 7574 §7.10).
    #[error("option 8 (Supported Messages) has a bitmap of {len} bytes, more than 32")]
    BitmapTooLong {
        /// The length octet.
        len: u8,
    },
    /// The width of the Live Discard Window is unknown without the Chunk Addressing Method (RFC 7574 §7.9).
    #[error("option 7 (Live Discard Window) without option 6 (Chunk Addressing Method) before it")]
    WindowWithoutAddressing,
    /// The width of the Live Discard Window is unknown with this Chunk Addressing Method (RFC 7574 §7.9).
    #[error("option 7 (Live Discard Window) has no known width: Chunk Addressing Method {code} is unassigned")]
    WindowWidthUnknown {
        /// The value of option 6.
        code: u8,
    },
}

/// A message that cannot be written. Nothing of it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The addressing method has no empty specification; leave the message out.
    #[error("an empty run of chunks cannot be written in {addressing} addressing: leave the message out")]
    EmptyRange {
        /// How the swarm names chunks.
        addressing: ChunkAddressing,
    },
    /// A run of chunks that is not one bin; write it as several.
    #[error("{range:?} are no single bin: write them as several messages")]
    NotOneBin {
        /// The run.
        range: ChunkRange,
    },
    /// A chunk beyond what the addressing method can name (ruling R3).
    #[error("{range:?} are beyond {addressing} addressing: use chunk64")]
    BeyondAddressing {
        /// The run.
        range: ChunkRange,
        /// How the swarm names chunks.
        addressing: ChunkAddressing,
    },
    /// A payload that is empty or longer than a chunk.
    #[error("a DATA payload of {len} bytes is outside 1..={chunk_size}: send one chunk per message")]
    PayloadLength {
        /// Bytes of payload.
        len: usize,
        /// Bytes per chunk.
        chunk_size: u32,
    },
    /// A hash or signature of another length than the swarm's.
    #[error("{message} needs {expected} bytes of hash or signature, not {len}: use the swarm's algorithm")]
    DigestLength {
        /// The message.
        message: MessageType,
        /// Bytes given.
        len: usize,
        /// Bytes the swarm's messages have; zero if it has no such messages.
        expected: usize,
    },
    /// A swarm id or certificate whose length does not fit its length field.
    #[error("{field} of {len} bytes is longer than 65535: shorten it")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Bytes given.
        len: usize,
    },
    /// A Live Discard Window that option 6 gives no width, or too small a one (RFC 7574 §7.9).
    #[error("a live discard window of {window} needs option 6 with an addressing method wide enough for it")]
    DiscardWindow {
        /// The window, in chunks or bytes.
        window: u64,
    },
}
