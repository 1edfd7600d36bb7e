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

#[cfg(test)]
mod tests {
    use std::string::ToString as _;
    use std::vec::Vec;

    use super::*;

    /// Every option, in order, with its value.
    const OPTIONS: [&[u8]; 11] = [
        &[0, 1],
        &[1, 1],
        &[2, 0, 3, 0xa, 0xb, 0xc],
        &[3, 3],
        &[4, 2],
        &[5, 13],
        &[6, 2],
        &[7, 0, 0, 1, 0],
        &[8, 2, 0xd9, 0xf0],
        &[9, 0, 0, 4, 0],
        &[255],
    ];

    fn body(options: &[&[u8]]) -> Vec<u8> {
        [&[0, 0x12, 0x34, 0x56, 0x78], &options.concat()[..]].concat()
    }

    fn error(options: &[&[u8]]) -> WireError {
        read_handshake(&body(options)).unwrap_err()
    }

    #[test]
    fn all_options() {
        let bytes = body(&OPTIONS);
        let (handshake, rest) = read_handshake(&bytes).unwrap();
        assert_eq!(rest, []);
        let expected = Handshake {
            source: ChannelId::new(0x1234_5678),
            version: Some(1),
            min_version: Some(1),
            swarm_id: Some(&[0xa, 0xb, 0xc]),
            integrity_method: Some(3),
            hash_function: Some(2),
            live_signature: Some(13),
            addressing: Some(2),
            live_discard_window: Some(256),
            supported_messages: MessageSet::from_bitmap(&[0xd9, 0xf0]),
            chunk_size: Some(1024),
        };
        assert_eq!(handshake, expected);
        assert!(!handshake.is_closing());
        let mut again = Vec::new();
        handshake.encode(&mut again).unwrap();
        assert_eq!(again, bytes);
        assert_eq!(handshake.encoded_len(), bytes.len());
    }

    #[test]
    fn a_handshake_cut_anywhere_is_an_error() {
        let bytes = body(&OPTIONS);
        for len in 0..bytes.len() {
            let error = read_handshake(&bytes[..len]).unwrap_err();
            assert!(matches!(error.kind(), Kind::Truncated { .. } | Kind::MissingEnd), "{len}: {error}");
            assert_eq!(error.message(), (len > 0).then_some(MessageType::Handshake));
            assert!(error.offset() <= len);
        }
    }

    #[test]
    fn every_two_options_in_the_wrong_order_are_named() {
        // Option 7 cannot be read without option 6 and is left out.
        let codes = [0, 1, 2, 3, 4, 5, 6, 8, 9];
        let pairs = codes.iter().flat_map(|late| codes.iter().map(move |after| (*late, *after)));
        for (late, after) in pairs.filter(|(late, after)| late < after) {
            let error = error(&[OPTIONS[after], OPTIONS[late], OPTIONS[10]]);
            let option = HandshakeOption::from_code(u8::try_from(late).unwrap()).unwrap();
            let after = HandshakeOption::from_code(u8::try_from(after).unwrap()).unwrap();
            assert_eq!(error.kind(), Kind::OptionOrder { option, after });
        }
    }

    #[test]
    fn errors_name_message_option_and_reason() {
        let window = OPTIONS[7];
        let cases: [(&[&[u8]], &str, usize); 11] = [
            (
                &[OPTIONS[9], OPTIONS[6], OPTIONS[10]],
                "HANDSHAKE: option 6 (Chunk Addressing Method) follows option 9 (Chunk Size): options must ascend",
                10,
            ),
            (&[OPTIONS[2], OPTIONS[2], OPTIONS[10]], "HANDSHAKE: option 2 (Swarm Identifier) is repeated", 11),
            (&[OPTIONS[0]], "HANDSHAKE: option list has no End option", 7),
            (&[], "HANDSHAKE: option list has no End option", 5),
            (&[&[10, 0], OPTIONS[10]], "HANDSHAKE: option 10 is unknown, so is its length", 5),
            (&[&[254, 0], OPTIONS[10]], "HANDSHAKE: option 254 is unknown, so is its length", 5),
            (&[&[2, 0, 9, 1]], "HANDSHAKE: Swarm Identifier is cut off after 1 of 9 bytes", 8),
            (
                &[&[8, 33], &[0; 33], OPTIONS[10]],
                "HANDSHAKE: option 8 (Supported Messages) has a bitmap of 33 bytes, more than 32",
                5,
            ),
            (
                &[window, OPTIONS[10]],
                "HANDSHAKE: option 7 (Live Discard Window) without option 6 (Chunk Addressing Method) before it",
                5,
            ),
            (
                &[&[6, 5], window, OPTIONS[10]],
                "HANDSHAKE: option 7 (Live Discard Window) has no known width: Chunk Addressing Method 5 is unassigned",
                7,
            ),
            (&[&[6, 1], window, OPTIONS[10]], "HANDSHAKE: Live Discard Window is cut off after 5 of 8 bytes", 8),
        ];
        for (options, text, offset) in cases {
            let error = error(options);
            assert_eq!(error.to_string(), text);
            assert_eq!(error.offset(), offset, "{text}");
            assert_eq!(error.message(), Some(MessageType::Handshake));
        }
        let error = read_handshake(&[3, 0, 0]).unwrap_err();
        assert_eq!(error.to_string(), "message type 3 where a HANDSHAKE must be");
    }

    #[test]
    fn a_window_is_as_wide_as_the_addressing_says() {
        for addressing in ChunkAddressing::ALL {
            let never = if addressing.integer_len() == 4 { u64::from(u32::MAX) } else { u64::MAX };
            let handshake = Handshake {
                addressing: Some(addressing.code()),
                live_discard_window: Some(never),
                ..Handshake::default()
            };
            let mut bytes = Vec::new();
            handshake.encode(&mut bytes).unwrap();
            assert_eq!(bytes.len(), 5 + 2 + 1 + addressing.integer_len() + 1);
            assert_eq!(read_handshake(&bytes), Ok((handshake, &[][..])));
        }
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_behind() {
        let long = std::vec![7; 65_536];
        let wide = u64::from(u32::MAX) + 1;
        let cases = [
            (
                Handshake { swarm_id: Some(&long), ..Handshake::default() },
                "swarm id of 65536 bytes is longer than 65535: shorten it",
            ),
            (
                Handshake { live_discard_window: Some(1), ..Handshake::default() },
                "a live discard window of 1 needs option 6 with an addressing method wide enough for it",
            ),
            (
                Handshake { live_discard_window: Some(1), addressing: Some(9), ..Handshake::default() },
                "a live discard window of 1 needs option 6 with an addressing method wide enough for it",
            ),
            (
                Handshake { live_discard_window: Some(wide), addressing: Some(2), ..Handshake::default() },
                "a live discard window of 4294967296 needs option 6 with an addressing method wide enough for it",
            ),
        ];
        for (handshake, text) in cases {
            let mut out = Vec::new();
            assert_eq!(handshake.encode(&mut out).unwrap_err().to_string(), text);
            assert_eq!(out, []);
        }
        let longest = Handshake { swarm_id: Some(&long[1..]), ..Handshake::default() };
        let mut out = Vec::new();
        longest.encode(&mut out).unwrap();
        assert_eq!(read_handshake(&out).unwrap().0, longest);
    }

    #[test]
    fn r10_a_close_has_no_source_and_the_version_alone() {
        let mut out = Vec::new();
        Handshake::closing().encode(&mut out).unwrap();
        assert_eq!(out, [0, 0, 0, 0, 0, 0, 1, 255]);
        assert!(read_handshake(&out).unwrap().0.is_closing());
        // RFC 7574 §8.4: the list may be empty.
        let (empty, rest) = read_handshake(&[0, 0, 0, 0, 0, 255, 6]).unwrap();
        assert!(empty.is_closing());
        assert_eq!((empty, rest), (Handshake::default(), &[6][..]));
    }

    #[test]
    fn codes_and_options_match() {
        let known: Vec<u8> = (0..=255).filter(|code| HandshakeOption::from_code(*code).is_some()).collect();
        assert_eq!(known, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255]);
        assert!(known.iter().all(|code| HandshakeOption::from_code(*code).unwrap().code() == *code));
    }
}
