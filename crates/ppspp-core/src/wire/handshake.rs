//! HANDSHAKE and its options (RFC 7574 §7, §8.4).

use alloc::vec::Vec;
use core::fmt;

use super::cursor::Cursor;
use super::error::{EncodeError, WireError, WireErrorKind as Kind};
use super::message::MessageType;
use super::{CHANNEL_ID_LEN, CODE_LEN, ChannelId, MessageSet};
use crate::chunk::ChunkAddressing;

/// The protocol version of RFC 7574 (§7.2).
pub const PROTOCOL_VERSION: u8 = 1;

/// Bytes of the length of a swarm id.
const SWARM_ID_LEN_LEN: usize = 2;
/// Bytes of an option with a value of one byte.
const SHORT_OPTION_LEN: usize = 2;
/// Bytes of the Chunk Size option.
const CHUNK_SIZE_OPTION_LEN: usize = 5;

/// The protocol options (RFC 7574 §7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
#[repr(u8)]
pub enum HandshakeOption {
    /// Version (§7.2).
    Version = 0,
    /// Minimum Version (§7.3).
    MinVersion = 1,
    /// Swarm Identifier (§7.4).
    SwarmId = 2,
    /// Content Integrity Protection Method (§7.5).
    IntegrityMethod = 3,
    /// Merkle Hash Tree Function (§7.6).
    HashFunction = 4,
    /// Live Signature Algorithm (§7.7).
    LiveSignature = 5,
    /// Chunk Addressing Method (§7.8).
    Addressing = 6,
    /// Live Discard Window (§7.9).
    LiveDiscardWindow = 7,
    /// Supported Messages (§7.10).
    SupportedMessages = 8,
    /// Chunk Size (§7.11).
    ChunkSize = 9,
    /// End (§7.1).
    End = 255,
}

impl HandshakeOption {
    /// The option's code.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The option with `code`; `None` if it is unassigned.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Version,
            1 => Self::MinVersion,
            2 => Self::SwarmId,
            3 => Self::IntegrityMethod,
            4 => Self::HashFunction,
            5 => Self::LiveSignature,
            6 => Self::Addressing,
            7 => Self::LiveDiscardWindow,
            8 => Self::SupportedMessages,
            9 => Self::ChunkSize,
            255 => Self::End,
            _ => return None,
        })
    }

    /// The option's name in RFC 7574, Table 2.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Version => "Version",
            Self::MinVersion => "Minimum Version",
            Self::SwarmId => "Swarm Identifier",
            Self::IntegrityMethod => "Content Integrity Protection Method",
            Self::HashFunction => "Merkle Hash Tree Function",
            Self::LiveSignature => "Live Signature Algorithm",
            Self::Addressing => "Chunk Addressing Method",
            Self::LiveDiscardWindow => "Live Discard Window",
            Self::SupportedMessages => "Supported Messages",
            Self::ChunkSize => "Chunk Size",
            Self::End => "End",
        }
    }
}

impl fmt::Display for HandshakeOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "option {} ({})", self.code(), self.name())
    }
}

/// A HANDSHAKE: the sender's channel id and the options as they stand on the wire.
///
/// What the codes mean, and which options must be there, is for negotiation to judge; an absent option is `None`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Handshake<'a> {
    /// The sender's id for the channel; zero closes it.
    pub source: ChannelId,
    /// Highest version the sender speaks.
    pub version: Option<u8>,
    /// Lowest version the sender speaks.
    pub min_version: Option<u8>,
    /// Root hash or public key that names the swarm, up to 65,535 bytes.
    pub swarm_id: Option<&'a [u8]>,
    /// Code of the content integrity protection method.
    pub integrity_method: Option<u8>,
    /// Code of the Merkle tree's hash function.
    pub hash_function: Option<u8>,
    /// DNSSEC algorithm number of the live signatures.
    pub live_signature: Option<u8>,
    /// Code of the chunk addressing method.
    pub addressing: Option<u8>,
    /// Chunks, or bytes under byte ranges, that the sender keeps; all ones in the option's width if it discards none.
    pub live_discard_window: Option<u64>,
    /// Messages the sender understands; absent means all.
    pub supported_messages: Option<MessageSet>,
    /// Bytes per chunk; 0xFFFFFFFF if it varies.
    pub chunk_size: Option<u32>,
}

impl<'a> Handshake<'a> {
    /// The HANDSHAKE that closes a channel: no source, and the version alone (ruling R10).
    pub const fn closing() -> Self {
        Self {
            source: ChannelId::ZERO,
            version: Some(PROTOCOL_VERSION),
            min_version: None,
            swarm_id: None,
            integrity_method: None,
            hash_function: None,
            live_signature: None,
            addressing: None,
            live_discard_window: None,
            supported_messages: None,
            chunk_size: None,
        }
    }

    /// Whether it closes the channel: the source is zero (RFC 7574 §8.4).
    pub const fn is_closing(&self) -> bool {
        self.source.value() == 0
    }

    /// Reads what follows the type octet, up to and including End.
    pub(super) fn decode(cursor: &mut Cursor<'a>) -> Result<Self, WireError> {
        let mut handshake = Self { source: ChannelId::new(cursor.u32("source channel id")?), ..Self::default() };
        let mut previous: Option<HandshakeOption> = None;
        loop {
            let at = cursor.offset();
            if cursor.is_empty() {
                return Err(cursor.error_at(at, Kind::MissingEnd));
            }
            let code = cursor.u8("option code")?;
            let Some(option) = HandshakeOption::from_code(code) else {
                return Err(cursor.error_at(at, Kind::UnknownOption { code }));
            };
            // RFC 7574 §7: ascending; R6: a repeated option breaks the order.
            match previous {
                Some(after) if after == option => {
                    return Err(cursor.error_at(at, Kind::OptionRepeated { option }));
                }
                Some(after) if after > option => {
                    return Err(cursor.error_at(at, Kind::OptionOrder { option, after }));
                }
                _ => previous = Some(option),
            }
            if option == HandshakeOption::End {
                return Ok(handshake);
            }
            handshake.read_option(option, at, cursor)?;
        }
    }

    fn read_option(&mut self, option: HandshakeOption, at: usize, cursor: &mut Cursor<'a>) -> Result<(), WireError> {
        let field = option.name();
        match option {
            HandshakeOption::Version => self.version = Some(cursor.u8(field)?),
            HandshakeOption::MinVersion => self.min_version = Some(cursor.u8(field)?),
            HandshakeOption::SwarmId => {
                let len = cursor.u16("Swarm Identifier length")?;
                self.swarm_id = Some(cursor.bytes(usize::from(len), field)?);
            }
            HandshakeOption::IntegrityMethod => self.integrity_method = Some(cursor.u8(field)?),
            HandshakeOption::HashFunction => self.hash_function = Some(cursor.u8(field)?),
            HandshakeOption::LiveSignature => self.live_signature = Some(cursor.u8(field)?),
            HandshakeOption::Addressing => self.addressing = Some(cursor.u8(field)?),
            HandshakeOption::LiveDiscardWindow => {
                // RFC 7574 §7.9: as wide as one integer of a chunk specification.
                let code = self.addressing.ok_or_else(|| cursor.error_at(at, Kind::WindowWithoutAddressing))?;
                let addressing = ChunkAddressing::from_code(code)
                    .ok_or_else(|| cursor.error_at(at, Kind::WindowWidthUnknown { code }))?;
                self.live_discard_window = Some(match addressing.integer_len() {
                    4 => u64::from(cursor.u32(field)?),
                    _ => cursor.u64(field)?,
                });
            }
            HandshakeOption::SupportedMessages => {
                let len = cursor.u8("Supported Messages length")?;
                if usize::from(len) > MessageSet::MAX_LEN {
                    return Err(cursor.error_at(at, Kind::BitmapTooLong { len }));
                }
                self.supported_messages = MessageSet::from_bitmap(cursor.bytes(usize::from(len), field)?);
            }
            HandshakeOption::ChunkSize => self.chunk_size = Some(cursor.u32(field)?),
            HandshakeOption::End => {}
        }
        Ok(())
    }

    /// Length in bytes on the wire, type octet included.
    pub fn encoded_len(&self) -> usize {
        let short = [
            self.version,
            self.min_version,
            self.integrity_method,
            self.hash_function,
            self.live_signature,
            self.addressing,
        ];
        let short = short.iter().flatten().count().saturating_mul(SHORT_OPTION_LEN);
        let swarm_id = self.swarm_id.map_or(0, |id| CODE_LEN.saturating_add(SWARM_ID_LEN_LEN).saturating_add(id.len()));
        let window = self.window_width().map_or(0, |width| width.saturating_add(CODE_LEN));
        let messages = self.supported_messages.map_or(0, |set| set.bitmap().len().saturating_add(SHORT_OPTION_LEN));
        let chunk_size = self.chunk_size.map_or(0, |_| CHUNK_SIZE_OPTION_LEN);
        // Type, source and End.
        let fixed = CODE_LEN.saturating_add(CHANNEL_ID_LEN).saturating_add(CODE_LEN);
        [short, swarm_id, window, messages, chunk_size].into_iter().fold(fixed, usize::saturating_add)
    }

    /// Appends the message, type octet included, options in ascending order (ruling R6).
    ///
    /// # Errors
    /// [`EncodeError::TooLong`] for a swarm id above 65,535 bytes, [`EncodeError::DiscardWindow`] for a live discard
    /// window without an assigned addressing method or too wide for it. Nothing is written then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let swarm_id = match self.swarm_id {
            Some(id) => {
                let len =
                    u16::try_from(id.len()).map_err(|_| EncodeError::TooLong { field: "swarm id", len: id.len() })?;
                Some((len, id))
            }
            None => None,
        };
        let window = self.encode_window()?;

        out.push(MessageType::Handshake.code());
        out.extend_from_slice(&self.source.value().to_be_bytes());
        let short = |out: &mut Vec<u8>, option: HandshakeOption, value: Option<u8>| {
            if let Some(value) = value {
                out.extend_from_slice(&[option.code(), value]);
            }
        };
        short(out, HandshakeOption::Version, self.version);
        short(out, HandshakeOption::MinVersion, self.min_version);
        if let Some((len, id)) = swarm_id {
            out.push(HandshakeOption::SwarmId.code());
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(id);
        }
        short(out, HandshakeOption::IntegrityMethod, self.integrity_method);
        short(out, HandshakeOption::HashFunction, self.hash_function);
        short(out, HandshakeOption::LiveSignature, self.live_signature);
        short(out, HandshakeOption::Addressing, self.addressing);
        if let Some(window) = window {
            out.push(HandshakeOption::LiveDiscardWindow.code());
            match window {
                Window::Narrow(chunks) => out.extend_from_slice(&chunks.to_be_bytes()),
                Window::Wide(units) => out.extend_from_slice(&units.to_be_bytes()),
            }
        }
        if let Some(set) = self.supported_messages {
            let bitmap = set.bitmap();
            // At most 32 bytes.
            let len = u8::try_from(bitmap.len()).unwrap_or(u8::MAX);
            out.extend_from_slice(&[HandshakeOption::SupportedMessages.code(), len]);
            out.extend_from_slice(bitmap);
        }
        if let Some(bytes) = self.chunk_size {
            out.push(HandshakeOption::ChunkSize.code());
            out.extend_from_slice(&bytes.to_be_bytes());
        }
        out.push(HandshakeOption::End.code());
        Ok(())
    }

    /// Bytes of the Live Discard Window's value; `None` if there is none, or no addressing method to size it.
    fn window_width(&self) -> Option<usize> {
        self.live_discard_window?;
        Some(ChunkAddressing::from_code(self.addressing?)?.integer_len())
    }

    fn encode_window(&self) -> Result<Option<Window>, EncodeError> {
        let Some(window) = self.live_discard_window else { return Ok(None) };
        let error = EncodeError::DiscardWindow { window };
        match self.window_width() {
            Some(4) => u32::try_from(window).map(|chunks| Some(Window::Narrow(chunks))).map_err(|_| error),
            Some(_) => Ok(Some(Window::Wide(window))),
            None => Err(error),
        }
    }
}

/// A Live Discard Window in the width of the addressing method.
enum Window {
    Narrow(u32),
    Wide(u64),
}

/// Reads the HANDSHAKE that opens `body`, and returns it with the bytes after its End option.
///
/// `body` is a datagram without its channel id, type octet included. No [`Format`](super::Format) is needed, so this
/// serves datagrams whose swarm is still unknown.
///
/// # Errors
/// [`WireError`] if `body` does not begin with a valid HANDSHAKE.
pub fn read_handshake(body: &[u8]) -> Result<(Handshake<'_>, &[u8]), WireError> {
    let mut cursor = Cursor::new(body);
    let code = cursor.u8("message type")?;
    if code != MessageType::Handshake.code() {
        return Err(cursor.error_at(0, Kind::HandshakeExpected { code }));
    }
    cursor.begin(Some(MessageType::Handshake));
    let handshake = Handshake::decode(&mut cursor)?;
    Ok((handshake, cursor.rest()))
}
