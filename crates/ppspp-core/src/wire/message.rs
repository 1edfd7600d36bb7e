//! The fourteen messages (RFC 7574 §8.2).

use alloc::vec::Vec;
use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use super::chunk_spec::{read_chunk, read_node, read_range, write_chunk, write_node, write_range};
use super::cursor::Cursor;
use super::error::{EncodeError, WireError, WireErrorKind as Kind};
use super::usual::{is_usual, read_data, read_integrity, write_data_header, write_integrity};
use super::{CODE_LEN, Format, Handshake};
use crate::chunk::{Bin, ChunkIndex, ChunkRange};

/// Bytes of `PEX_RESv4`: type, address and port.
const PEX_V4_LEN: usize = 7;
/// Bytes of `PEX_RESv6`: type, address and port.
const PEX_V6_LEN: usize = 19;
/// Bytes of `PEX_REScert` before the certificate: type and length.
const PEX_CERT_OVERHEAD: usize = 3;

/// The type of a message (RFC 7574 §8.2, Table 7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
#[repr(u8)]
pub enum MessageType {
    /// HANDSHAKE (§8.4).
    Handshake = 0,
    /// DATA (§8.6).
    Data = 1,
    /// ACK (§8.7).
    Ack = 2,
    /// HAVE (§8.5).
    Have = 3,
    /// INTEGRITY (§8.8).
    Integrity = 4,
    /// `PEX_RESv4` (§8.13).
    PexResV4 = 5,
    /// `PEX_REQ` (§8.13).
    PexReq = 6,
    /// `SIGNED_INTEGRITY` (§8.9).
    SignedIntegrity = 7,
    /// REQUEST (§8.10).
    Request = 8,
    /// CANCEL (§8.11).
    Cancel = 9,
    /// CHOKE (§8.12).
    Choke = 10,
    /// UNCHOKE (§8.12).
    Unchoke = 11,
    /// `PEX_RESv6` (§8.13).
    PexResV6 = 12,
    /// `PEX_REScert` (§8.13).
    PexResCert = 13,
}

impl MessageType {
    /// Every type, in the order of their codes.
    pub const ALL: [Self; 14] = [
        Self::Handshake,
        Self::Data,
        Self::Ack,
        Self::Have,
        Self::Integrity,
        Self::PexResV4,
        Self::PexReq,
        Self::SignedIntegrity,
        Self::Request,
        Self::Cancel,
        Self::Choke,
        Self::Unchoke,
        Self::PexResV6,
        Self::PexResCert,
    ];

    /// The type octet, 0 to 13.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The type with this octet; `None` if it is unassigned or reserved.
    #[inline]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Handshake,
            1 => Self::Data,
            2 => Self::Ack,
            3 => Self::Have,
            4 => Self::Integrity,
            5 => Self::PexResV4,
            6 => Self::PexReq,
            7 => Self::SignedIntegrity,
            8 => Self::Request,
            9 => Self::Cancel,
            10 => Self::Choke,
            11 => Self::Unchoke,
            12 => Self::PexResV6,
            13 => Self::PexResCert,
            _ => return None,
        })
    }

    /// The name in RFC 7574, such as `HAVE`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Handshake => "HANDSHAKE",
            Self::Data => "DATA",
            Self::Ack => "ACK",
            Self::Have => "HAVE",
            Self::Integrity => "INTEGRITY",
            Self::PexResV4 => "PEX_RESv4",
            Self::PexReq => "PEX_REQ",
            Self::SignedIntegrity => "SIGNED_INTEGRITY",
            Self::Request => "REQUEST",
            Self::Cancel => "CANCEL",
            Self::Choke => "CHOKE",
            Self::Unchoke => "UNCHOKE",
            Self::PexResV6 => "PEX_RESv6",
            Self::PexResCert => "PEX_REScert",
        }
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One message, borrowing from its datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Message<'a> {
    /// Opens or closes a channel.
    Handshake(Handshake<'a>),
    /// Carries a chunk.
    Data {
        /// The chunk.
        chunk: ChunkIndex,
        /// When it was sent, microseconds by the sender's clock.
        timestamp: u64,
        /// Its bytes, one to the chunk size.
        payload: &'a [u8],
    },
    /// Acknowledges chunks.
    Ack {
        /// Verified chunks; any of them may never have been sent by the addressee (ruling R5).
        range: ChunkRange,
        /// One-way delay sample in microseconds, in two's complement: clocks differ.
        delay: u64,
    },
    /// Says which chunks the sender has verified.
    Have(ChunkRange),
    /// Carries the hash of a node.
    Integrity {
        /// The node.
        node: Bin,
        /// Its hash.
        hash: &'a [u8],
    },
    /// Names another peer by IPv4 address.
    PexResV4(SocketAddrV4),
    /// Asks for other peers.
    PexReq,
    /// Carries the signature of a node in a live swarm.
    SignedIntegrity {
        /// The node: a munro, or a chunk under Sign All.
        node: Bin,
        /// When it was signed, in NTP timestamp format.
        timestamp: u64,
        /// The signature.
        signature: &'a [u8],
    },
    /// Asks for chunks.
    Request(ChunkRange),
    /// Withdraws a REQUEST.
    Cancel(ChunkRange),
    /// Says that REQUESTs will not be answered.
    Choke,
    /// Says that REQUESTs will be answered.
    Unchoke,
    /// Names another peer by IPv6 address. Flow label and scope are not on the wire and read as zero.
    PexResV6(SocketAddrV6),
    /// Names another peer by a membership certificate, X.509 in DER, up to 65,535 bytes.
    PexResCert(&'a [u8]),
}

/// What follows the type octet at the start of `rest`, if that is of `message`.
#[inline]
fn fields_of(message: MessageType, rest: &[u8]) -> Option<&[u8]> {
    let (code, fields) = rest.split_first()?;
    (*code == message.code()).then_some(fields)
}

/// The fields of DATA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DataMessage<'a> {
    pub(crate) chunk: ChunkIndex,
    pub(crate) timestamp: u64,
    pub(crate) payload: &'a [u8],
}

impl<'a> DataMessage<'a> {
    /// The message at the start of `rest`, and what follows it, if it is DATA and can be read. [`Messages`](super::Messages)
    /// reads any, and says what is wrong with it.
    ///
    /// Nearly all messages carry content, and [`Message`] is as long as the longest, which costs more than reading these.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "handed over in memory, the fields are waited for")]
    pub(crate) fn read(rest: &'a [u8], format: &Format) -> Option<(Self, &'a [u8])> {
        if is_usual(format) { read_data(rest, format) } else { Self::read_other(rest, format) }
    }

    #[inline(never)]
    fn read_other(rest: &'a [u8], format: &Format) -> Option<(Self, &'a [u8])> {
        let mut cursor = Cursor::new(fields_of(MessageType::Data, rest)?);
        let message = Self::decode(&mut cursor, format).ok()?;
        Some((message, cursor.rest()))
    }

    /// Reads them at the cursor, behind the type octet.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "where the error is not wanted, nothing is left of it")]
    pub(super) fn decode(cursor: &mut Cursor<'a>, format: &Format) -> Result<Self, WireError> {
        let at = cursor.offset();
        let name = read_chunk(cursor, format)?;
        let timestamp = cursor.u64("timestamp")?;
        let chunk_size = format.chunk_size().bytes();
        let payload_at = cursor.offset();
        // RFC 7574 §8.6: only a datagram's last chunk may be short.
        let payload = cursor.at_most(usize::try_from(chunk_size).unwrap_or(usize::MAX));
        if payload.is_empty() {
            return Err(cursor.error_at(payload_at, Kind::EmptyPayload));
        }
        // R4: a byte range is the whole chunk or what there is of it.
        if let Some(named) = name.bytes
            && named != u64::from(chunk_size)
            && named != payload.len() as u64
        {
            return Err(cursor.error_at(at, Kind::PayloadLength { named, carried: payload.len() }));
        }
        Ok(Self { chunk: name.chunk, timestamp, payload })
    }

    /// Appends the message, type octet included. Something may have been written if it fails.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the error is not wanted, nor is a copy of the message")]
    pub(super) fn write(&self, format: &Format, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let chunk_size = format.chunk_size().bytes();
        let len = self.payload.len();
        if len == 0 || len as u64 > u64::from(chunk_size) {
            return Err(EncodeError::PayloadLength { len, chunk_size });
        }
        if is_usual(format) && write_data_header(self.chunk, self.timestamp, out).is_some() {
            out.extend_from_slice(self.payload);
            return Ok(());
        }
        self.write_other(format, out)
    }

    #[inline(never)]
    fn write_other(&self, format: &Format, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let len = self.payload.len();
        out.push(MessageType::Data.code());
        write_chunk(self.chunk, len, format, out)?;
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(self.payload);
        Ok(())
    }
}

/// The fields of INTEGRITY.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IntegrityMessage<'a> {
    pub(crate) node: Bin,
    pub(crate) hash: &'a [u8],
}

impl<'a> IntegrityMessage<'a> {
    /// The message at the start of `rest`, and what follows it, if it is INTEGRITY and can be read.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "handed over in memory, the fields are waited for")]
    pub(crate) fn read(rest: &'a [u8], format: &Format) -> Option<(Self, &'a [u8])> {
        if is_usual(format) { read_integrity(rest) } else { Self::read_other(rest, format) }
    }

    #[inline(never)]
    fn read_other(rest: &'a [u8], format: &Format) -> Option<(Self, &'a [u8])> {
        let mut cursor = Cursor::new(fields_of(MessageType::Integrity, rest)?);
        let message = Self::decode(&mut cursor, format, 0).ok()?;
        Some((message, cursor.rest()))
    }

    /// Reads them at the cursor, behind the type octet, which is at `at`.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "where the error is not wanted, nothing is left of it")]
    pub(super) fn decode(cursor: &mut Cursor<'a>, format: &Format, at: usize) -> Result<Self, WireError> {
        if format.hash_len() == 0 {
            return Err(cursor.error_at(at, Kind::NotInSwarm));
        }
        Ok(Self { node: read_node(cursor, format)?, hash: cursor.bytes(format.hash_len(), "hash")? })
    }

    /// Appends the message, type octet included. Something may have been written if it fails.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the error is not wanted, nor is a copy of the message")]
    pub(super) fn write(&self, format: &Format, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if is_usual(format) && write_integrity(self.node, self.hash, out).is_some() {
            return Ok(());
        }
        self.write_other(format, out)
    }

    #[inline(never)]
    fn write_other(&self, format: &Format, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        check_digest(MessageType::Integrity, self.hash, format.hash_len())?;
        out.push(MessageType::Integrity.code());
        write_node(self.node, format, out)?;
        out.extend_from_slice(self.hash);
        Ok(())
    }
}

const fn check_digest(message: MessageType, digest: &[u8], expected: usize) -> Result<(), EncodeError> {
    if digest.len() == expected && expected != 0 {
        return Ok(());
    }
    Err(EncodeError::DigestLength { message, len: digest.len(), expected })
}

impl<'a> Message<'a> {
    /// The type.
    pub const fn message_type(&self) -> MessageType {
        match self {
            Self::Handshake(_) => MessageType::Handshake,
            Self::Data { .. } => MessageType::Data,
            Self::Ack { .. } => MessageType::Ack,
            Self::Have(_) => MessageType::Have,
            Self::Integrity { .. } => MessageType::Integrity,
            Self::PexResV4(_) => MessageType::PexResV4,
            Self::PexReq => MessageType::PexReq,
            Self::SignedIntegrity { .. } => MessageType::SignedIntegrity,
            Self::Request(_) => MessageType::Request,
            Self::Cancel(_) => MessageType::Cancel,
            Self::Choke => MessageType::Choke,
            Self::Unchoke => MessageType::Unchoke,
            Self::PexResV6(_) => MessageType::PexResV6,
            Self::PexResCert(_) => MessageType::PexResCert,
        }
    }

    /// Reads the message at the cursor; `first` if nothing of the datagram was read before.
    #[inline]
    pub(super) fn decode(cursor: &mut Cursor<'a>, format: &Format, first: bool) -> Result<Self, WireError> {
        let at = cursor.offset();
        cursor.begin(None);
        let code = cursor.u8("message type")?;
        let Some(message) = MessageType::from_code(code) else {
            return Err(cursor.error_at(at, Kind::UnknownMessage { code }));
        };
        cursor.begin(Some(message));
        match message {
            MessageType::Data => match DataMessage::decode(cursor, format) {
                Ok(DataMessage { chunk, timestamp, payload }) => Ok(Self::Data { chunk, timestamp, payload }),
                Err(error) => Err(error),
            },
            MessageType::Integrity => match IntegrityMessage::decode(cursor, format, at) {
                Ok(IntegrityMessage { node, hash }) => Ok(Self::Integrity { node, hash }),
                Err(error) => Err(error),
            },
            MessageType::Ack => {
                Ok(Self::Ack { range: read_range(cursor, format)?, delay: cursor.u64("delay sample")? })
            }
            MessageType::Have => read_range(cursor, format).map(Self::Have),
            MessageType::Request => read_range(cursor, format).map(Self::Request),
            MessageType::Cancel => read_range(cursor, format).map(Self::Cancel),
            // RFC 7574 §3.1: always the first message.
            MessageType::Handshake if !first => Err(cursor.error_at(at, Kind::HandshakeNotFirst)),
            MessageType::Handshake => Handshake::decode(cursor).map(Self::Handshake),
            MessageType::SignedIntegrity => {
                if format.signature_len() == 0 {
                    return Err(cursor.error_at(at, Kind::NotInSwarm));
                }
                Ok(Self::SignedIntegrity {
                    node: read_node(cursor, format)?,
                    timestamp: cursor.u64("timestamp")?,
                    signature: cursor.bytes(format.signature_len(), "signature")?,
                })
            }
            MessageType::Choke => Ok(Self::Choke),
            MessageType::Unchoke => Ok(Self::Unchoke),
            MessageType::PexReq => Ok(Self::PexReq),
            MessageType::PexResV4 | MessageType::PexResV6 | MessageType::PexResCert => {
                Self::decode_pex(cursor, message)
            }
        }
    }

    fn decode_pex(cursor: &mut Cursor<'a>, message: MessageType) -> Result<Self, WireError> {
        Ok(match message {
            MessageType::PexResV4 => {
                let address = Ipv4Addr::from(cursor.array::<4>("address")?);
                Self::PexResV4(SocketAddrV4::new(address, cursor.u16("port")?))
            }
            MessageType::PexResV6 => {
                let address = Ipv6Addr::from(cursor.array::<16>("address")?);
                Self::PexResV6(SocketAddrV6::new(address, cursor.u16("port")?, 0, 0))
            }
            _ => {
                let len = cursor.u16("certificate length")?;
                Self::PexResCert(cursor.bytes(usize::from(len), "certificate")?)
            }
        })
    }

    /// Length in bytes on the wire, type octet included, if it can be written at all.
    #[inline]
    pub fn encoded_len(&self, format: &Format) -> usize {
        match self {
            Self::Data { payload, .. } => format.data_overhead().saturating_add(payload.len()),
            Self::Integrity { .. } => format.integrity_len(),
            Self::Ack { .. } => format.ack_len(),
            Self::Have(_) | Self::Request(_) | Self::Cancel(_) => format.have_len(),
            Self::Handshake(handshake) => handshake.encoded_len(),
            Self::SignedIntegrity { .. } => format.signed_integrity_len(),
            Self::Choke | Self::Unchoke | Self::PexReq => CODE_LEN,
            Self::PexResV4(_) => PEX_V4_LEN,
            Self::PexResV6(_) => PEX_V6_LEN,
            Self::PexResCert(certificate) => PEX_CERT_OVERHEAD.saturating_add(certificate.len()),
        }
    }

    /// Appends the message, type octet included.
    ///
    /// # Errors
    /// [`EncodeError`] if a run of chunks is not one specification of the swarm's addressing method, or a length is not
    /// what the swarm or a length field allows. Nothing is written then.
    #[inline]
    pub fn encode(&self, format: &Format, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        let result = self.write(format, out);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    #[inline]
    fn write(&self, format: &Format, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match *self {
            Self::Handshake(handshake) => return handshake.encode(out),
            Self::Data { chunk, timestamp, payload } => {
                return DataMessage { chunk, timestamp, payload }.write(format, out);
            }
            Self::Integrity { node, hash } => return IntegrityMessage { node, hash }.write(format, out),
            _ => out.push(self.message_type().code()),
        }
        match *self {
            Self::Ack { range, delay } => {
                write_range(range, format, out)?;
                out.extend_from_slice(&delay.to_be_bytes());
            }
            Self::Have(range) | Self::Request(range) | Self::Cancel(range) => write_range(range, format, out)?,
            Self::SignedIntegrity { node, timestamp, signature } => {
                check_digest(self.message_type(), signature, format.signature_len())?;
                write_node(node, format, out)?;
                out.extend_from_slice(&timestamp.to_be_bytes());
                out.extend_from_slice(signature);
            }
            Self::PexResV4(peer) => {
                out.extend_from_slice(&peer.ip().octets());
                out.extend_from_slice(&peer.port().to_be_bytes());
            }
            Self::PexResV6(peer) => {
                out.extend_from_slice(&peer.ip().octets());
                out.extend_from_slice(&peer.port().to_be_bytes());
            }
            Self::PexResCert(certificate) => {
                let len = certificate.len();
                let field_len = u16::try_from(len).map_err(|_| EncodeError::TooLong { field: "certificate", len })?;
                out.extend_from_slice(&field_len.to_be_bytes());
                out.extend_from_slice(certificate);
            }
            // Written above, or nothing but a type.
            Self::Handshake(_)
            | Self::Data { .. }
            | Self::Integrity { .. }
            | Self::Choke
            | Self::Unchoke
            | Self::PexReq => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString as _;

    use super::*;
    use crate::chunk::{ChunkAddressing, ChunkSize};
    use crate::wire::Messages;

    const HASH: [u8; 20] = [0x11; 20];
    const SIGNATURE: [u8; 64] = [0x22; 64];

    fn format(addressing: ChunkAddressing) -> Format {
        Format::new(addressing, ChunkSize::DEFAULT, HASH.len(), SIGNATURE.len())
    }

    fn read<'a>(bytes: &'a [u8], format: &Format) -> Vec<Result<Message<'a>, WireError>> {
        Messages::new(bytes, format).collect()
    }

    fn error(bytes: &[u8], format: &Format) -> (std::string::String, usize) {
        let error = read(bytes, format).pop().unwrap().unwrap_err();
        (error.to_string(), error.offset())
    }

    #[test]
    fn each_message_has_its_bytes() {
        let format = format(ChunkAddressing::Chunk32);
        let range = ChunkRange::new(2, 4);
        let node = Bin::from_number(5).unwrap();
        let spec = [0, 0, 0, 2, 0, 0, 0, 3];
        let number = 0x0102_0304_0506_0708;
        let number_bytes = [1, 2, 3, 4, 5, 6, 7, 8];
        let v6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let cases: [(Message<'_>, &[&[u8]]); 13] = [
            (
                Message::Data { chunk: ChunkIndex::new(6), timestamp: number, payload: b"Hello world!" },
                &[&[1, 0, 0, 0, 6, 0, 0, 0, 6], &number_bytes, b"Hello world!"],
            ),
            (Message::Ack { range, delay: number }, &[&[2], &spec, &number_bytes]),
            (Message::Have(range), &[&[3], &spec]),
            (Message::Integrity { node, hash: &HASH }, &[&[4], &spec, &HASH]),
            (Message::PexResV4("192.0.2.1:6778".parse().unwrap()), &[&[5, 192, 0, 2, 1, 0x1a, 0x7a]]),
            (Message::PexReq, &[&[6]]),
            (
                Message::SignedIntegrity { node, timestamp: number, signature: &SIGNATURE },
                &[&[7], &spec, &number_bytes, &SIGNATURE],
            ),
            (Message::Request(range), &[&[8], &spec]),
            (Message::Cancel(range), &[&[9], &spec]),
            (Message::Choke, &[&[10]]),
            (Message::Unchoke, &[&[11]]),
            (Message::PexResV6("[2001:db8::1]:6778".parse().unwrap()), &[&[12], &v6, &[0x1a, 0x7a]]),
            (Message::PexResCert(b"DER"), &[&[13, 0, 3], b"DER"]),
        ];
        for (code, (message, parts)) in (1..).zip(cases) {
            let bytes = parts.concat();
            let mut out = Vec::new();
            message.encode(&format, &mut out).unwrap();
            assert_eq!(out, bytes, "{message:?}");
            assert_eq!(message.encoded_len(&format), bytes.len());
            assert_eq!(read(&bytes, &format), [Ok(message)]);
            assert_eq!(message.message_type().code(), code);
            // Cut anywhere, it is an error; only a chunk may be shorter than full.
            for len in 1..bytes.len() {
                if message.message_type() == MessageType::Data && len > format.data_overhead() {
                    continue;
                }
                let error = read(&bytes[..len], &format)[0].unwrap_err();
                assert!(matches!(error.kind(), Kind::Truncated { .. } | Kind::EmptyPayload), "{error}");
                assert_eq!(error.message(), Some(message.message_type()));
            }
        }
    }

    #[test]
    fn the_example_of_section_8_2() {
        let bytes = [3, 0, 0, 0, 1];
        assert_eq!(read(&bytes, &format(ChunkAddressing::Bin32)), [Ok(Message::Have(ChunkRange::new(0, 2)))]);
    }

    #[test]
    fn codes_names_and_types_match() {
        for code in 0..=255 {
            let known = MessageType::from_code(code);
            assert_eq!(known, MessageType::ALL.get(usize::from(code)).copied());
            assert!(known.is_none_or(|message| message.code() == code));
        }
        assert_eq!(MessageType::PexResCert.to_string(), "PEX_REScert");
    }

    #[test]
    fn unassigned_and_reserved_types_void_the_rest() {
        let format = format(ChunkAddressing::Chunk32);
        for code in 14..=255 {
            let bytes = [10, code, 11];
            let messages = read(&bytes, &format);
            assert_eq!(messages.len(), 2);
            assert_eq!(messages[0], Ok(Message::Choke));
            let error = messages[1].unwrap_err();
            assert_eq!((error.message(), error.offset()), (None, 1));
            assert_eq!(error.kind(), Kind::UnknownMessage { code });
        }
        assert_eq!(error(&[14], &format).0, "message type 14 is unknown, so is its length");
    }

    #[test]
    fn errors_name_message_field_and_reason() {
        let chunks = format(ChunkAddressing::Chunk32);
        let bytes = format(ChunkAddressing::Byte64);
        let data = |end: u8, payload: &[u8]| {
            let spec = [[0; 8], [0, 0, 0, 0, 0, 0, 3, end]].concat();
            [&[1], &spec[..], &[0; 8], payload].concat()
        };
        let cases: [(&[u8], &Format, &str, usize); 9] = [
            (&[10, 0, 0, 0, 0, 0, 255], &chunks, "HANDSHAKE: follows another message: it must come first", 1),
            (&[3, 0, 0, 0, 1, 0], &chunks, "HAVE: chunk specification end is cut off after 1 of 4 bytes", 5),
            (&[11, 8, 0, 0, 0, 9, 0, 0, 0, 8], &chunks, "REQUEST: chunk specification 9-8 ends before it starts", 2),
            (&[2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3], &chunks, "ACK: delay sample is cut off after 3 of 8 bytes", 9),
            (&[0; 6], &chunks, "HANDSHAKE: Version is cut off after 0 of 1 bytes", 6),
            (&[13, 1, 0, 7], &chunks, "PEX_REScert: certificate is cut off after 1 of 256 bytes", 3),
            (&[&[1], &[0; 16][..]].concat(), &chunks, "DATA: payload is empty", 17),
            (&data(0xf0, &[0; 9]), &bytes, "DATA: byte range of 1009 bytes with a payload of 9 bytes", 1),
            (
                &[[3].as_slice(), &[0; 7], &[9], &[0; 6], &[9, 9]].concat(),
                &bytes,
                "HAVE: byte range starts at 9, not a multiple of the chunk size 1024",
                1,
            ),
        ];
        for (body, format, text, offset) in cases {
            assert_eq!(error(body, format), (std::string::String::from(text), offset));
        }
        // R4: padded or real, the range fits.
        assert!(read(&data(0xff, &[0; 9]), &bytes)[0].is_ok());
        assert!(read(&data(0xf0, &[0; 1009]), &bytes)[0].is_ok());
    }

    #[test]
    fn hashes_and_signatures_need_a_method_that_has_them() {
        let format = Format::new(ChunkAddressing::Chunk32, ChunkSize::DEFAULT, 0, 0);
        for (code, name) in [(4, "INTEGRITY"), (7, "SIGNED_INTEGRITY")] {
            let body = [&[code], &[0; 100][..]].concat();
            let text = std::format!("{name}: not part of this swarm's integrity method");
            assert_eq!(error(&body, &format), (text, 0));
        }
        let node = Bin::from_number(0).unwrap();
        let mut out = Vec::new();
        let refused = Message::Integrity { node, hash: &[] }.encode(&format, &mut out).unwrap_err();
        assert_eq!(refused, EncodeError::DigestLength { message: MessageType::Integrity, len: 0, expected: 0 });
        let signed = Message::SignedIntegrity { node, timestamp: 0, signature: &HASH };
        let refused = signed.encode(&self::format(ChunkAddressing::Chunk32), &mut out).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "SIGNED_INTEGRITY needs 64 bytes of hash or signature, not 20: use the swarm's algorithm"
        );
        assert_eq!(out, []);
    }

    #[test]
    fn a_datagram_may_carry_several_whole_chunks() {
        let format = format(ChunkAddressing::Chunk32);
        let mut body = Vec::new();
        let sizes = [1024, 1024, 7];
        for (chunk, size) in (0..).zip(sizes) {
            let message = Message::Data { chunk: ChunkIndex::new(chunk), timestamp: 9, payload: &[7; 1024][..size] };
            message.encode(&format, &mut body).unwrap();
        }
        let lengths: Vec<usize> = read(&body, &format)
            .into_iter()
            .map(|message| match message {
                Ok(Message::Data { payload, .. }) => payload.len(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(lengths, sizes);
    }

    #[test]
    fn payloads_are_one_byte_to_one_chunk() {
        let format = format(ChunkAddressing::Chunk32);
        for (len, fits) in [(0, false), (1, true), (1024, true), (1025, false)] {
            let mut out = Vec::new();
            let payload = std::vec![0; len];
            let message = Message::Data { chunk: ChunkIndex::new(0), timestamp: 0, payload: &payload };
            let result = message.encode(&format, &mut out);
            assert_eq!(result.is_ok(), fits);
            if let Err(error) = result {
                assert_eq!(error, EncodeError::PayloadLength { len, chunk_size: 1024 });
                assert_eq!(out, []);
            }
        }
    }

    #[test]
    fn certificates_fit_their_length_field() {
        let format = format(ChunkAddressing::Chunk32);
        let long = std::vec![0; 65_536];
        let mut out = Vec::new();
        Message::PexResCert(&long[1..]).encode(&format, &mut out).unwrap();
        assert_eq!(out.len(), 65_538);
        let error = Message::PexResCert(&long).encode(&format, &mut out).unwrap_err();
        assert_eq!(error.to_string(), "certificate of 65536 bytes is longer than 65535: shorten it");
        assert_eq!(out.len(), 65_538);
        assert_eq!(read(&[13, 0, 0], &format), [Ok(Message::PexResCert(&[]))]);
    }
}
