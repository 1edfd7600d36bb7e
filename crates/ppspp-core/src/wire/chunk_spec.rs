//! Chunk specifications in the five addressing methods (RFC 7574 §4).
//!
//! The wire writes last chunks and last bytes, memory holds [`ChunkRange`]s with their end excluded; the conversion is
//! here and nowhere else.

use alloc::vec::Vec;

use super::cursor::Cursor;
use super::error::{EncodeError, WireError, WireErrorKind};
use super::{Format, WireErrorKind as Kind};
use crate::chunk::{Bin, ChunkAddressing, ChunkIndex, ChunkRange};

/// "Empty" among the 32-bit bins (RFC 7574 §4.2).
const EMPTY_BIN32: u32 = u32::MAX;
/// "Empty" among the 64-bit bins (RFC 7574 §4.2).
const EMPTY_BIN64: u64 = u64::MAX;

/// Reads the specification of HAVE, ACK, REQUEST or CANCEL: any run of chunks (ruling R5).
#[inline]
pub(super) fn read_range(cursor: &mut Cursor<'_>, format: &Format) -> Result<ChunkRange, WireError> {
    match format.addressing() {
        ChunkAddressing::Bin32 | ChunkAddressing::Bin64 => {
            Ok(read_bin(cursor, format)?.map_or(ChunkRange::EMPTY, Bin::base_range))
        }
        ChunkAddressing::Chunk32 | ChunkAddressing::Chunk64 => {
            let (start, end) = read_pair(cursor, format)?;
            Ok(ChunkRange::new(start, end.saturating_add(1)))
        }
        ChunkAddressing::Byte64 => {
            let at = cursor.offset();
            let (start, end) = read_pair(cursor, format)?;
            let range = chunks_of_bytes(start, end, format).map_err(|kind| cursor.error_at(at, kind))?;
            // R4: an end within a chunk can only be the content's.
            let size = u64::from(format.chunk_size().bytes());
            let whole = end.checked_rem(size) == Some(size.saturating_sub(1));
            if !whole && format.content_length().is_some_and(|length| length.checked_sub(1) != Some(end)) {
                return Err(cursor.error_at(at, Kind::EndInsideChunk { end, chunk_size: format.chunk_size().bytes() }));
            }
            Ok(range)
        }
    }
}

/// Reads the specification of INTEGRITY or `SIGNED_INTEGRITY`: one node of the tree (ruling R5).
#[inline]
pub(super) fn read_node(cursor: &mut Cursor<'_>, format: &Format) -> Result<Bin, WireError> {
    let at = cursor.offset();
    let (node, range) = match format.addressing() {
        ChunkAddressing::Bin32 | ChunkAddressing::Bin64 => (read_bin(cursor, format)?, ChunkRange::EMPTY),
        _ => {
            let range = read_range(cursor, format)?;
            (Bin::spanning(range), range)
        }
    };
    node.ok_or_else(|| cursor.error_at(at, Kind::NotOneNode { start: range.start(), count: range.count() }))
}

/// A DATA message's specification as read.
pub(super) struct ChunkName {
    pub(super) chunk: ChunkIndex,
    /// Bytes in the byte range, where byte ranges are used.
    pub(super) bytes: Option<u64>,
}

/// Reads the specification of DATA: exactly one chunk (ruling R5).
#[inline]
pub(super) fn read_chunk(cursor: &mut Cursor<'_>, format: &Format) -> Result<ChunkName, WireError> {
    let at = cursor.offset();
    let (range, bytes) = match format.addressing() {
        ChunkAddressing::Byte64 => {
            let (start, end) = read_pair(cursor, format)?;
            let range = chunks_of_bytes(start, end, format).map_err(|kind| cursor.error_at(at, kind))?;
            (range, Some(end.saturating_sub(start).saturating_add(1)))
        }
        _ => (read_range(cursor, format)?, None),
    };
    if range.count() == 1 {
        Ok(ChunkName { chunk: ChunkIndex::new(range.start()), bytes })
    } else {
        Err(cursor.error_at(at, Kind::NotOneChunk { start: range.start(), count: range.count() }))
    }
}

/// Reads a bin; `None` is the empty interval. "Everything" needs no care: 0x7FFF…F is the root of the whole tree.
#[inline]
fn read_bin(cursor: &mut Cursor<'_>, format: &Format) -> Result<Option<Bin>, WireError> {
    if format.addressing() == ChunkAddressing::Bin32 {
        let number = cursor.u32("bin")?;
        Ok(if number == EMPTY_BIN32 { None } else { Bin::from_number(u64::from(number)) })
    } else {
        Ok(Bin::from_number(cursor.u64("bin")?))
    }
}

/// Reads a first and a last chunk or byte, in order.
#[inline]
fn read_pair(cursor: &mut Cursor<'_>, format: &Format) -> Result<(u64, u64), WireError> {
    let at = cursor.offset();
    let (start, end) = match format.addressing() {
        ChunkAddressing::Bin32 | ChunkAddressing::Chunk32 => {
            (u64::from(cursor.u32("chunk specification start")?), u64::from(cursor.u32("chunk specification end")?))
        }
        _ => (cursor.u64("chunk specification start")?, cursor.u64("chunk specification end")?),
    };
    if end < start {
        return Err(cursor.error_at(at, Kind::EndBeforeStart { start, end }));
    }
    Ok((start, end))
}

/// The chunks that the bytes from `start` to `end`, both included, touch; they must start with a chunk (ruling R4).
fn chunks_of_bytes(start: u64, end: u64, format: &Format) -> Result<ChunkRange, WireErrorKind> {
    let chunk_size = format.chunk_size().bytes();
    let size = u64::from(chunk_size);
    if start.checked_rem(size) != Some(0) {
        return Err(Kind::StartInsideChunk { start, chunk_size });
    }
    let chunk = |byte: u64| byte.checked_div(size).unwrap_or(0);
    Ok(ChunkRange::new(chunk(start), chunk(end).saturating_add(1)))
}

/// Writes the specification of HAVE, ACK, REQUEST or CANCEL.
///
/// Bins write empty runs, and only runs that are one bin.
#[inline]
pub(super) fn write_range(range: ChunkRange, format: &Format, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let addressing = format.addressing();
    match addressing {
        ChunkAddressing::Bin32 | ChunkAddressing::Bin64 if range.is_empty() => {
            let empty = EMPTY_BIN64.to_be_bytes();
            out.extend(empty.into_iter().take(addressing.spec_len()));
            Ok(())
        }
        ChunkAddressing::Bin32 | ChunkAddressing::Bin64 => {
            if range.end() > addressing.max_chunks() {
                return Err(EncodeError::BeyondAddressing { range, addressing });
            }
            write_bin(Bin::spanning(range).ok_or(EncodeError::NotOneBin { range })?, format, out)
        }
        ChunkAddressing::Chunk32 | ChunkAddressing::Chunk64 => {
            let last = last_chunk(range, format)?;
            write_pair(range, range.start(), last, format, out)
        }
        ChunkAddressing::Byte64 => {
            let (start, end) = padded_bytes(range, format)?;
            // R4: once the length is known the content's last byte ends the range.
            let end = match format.content_length() {
                Some(length) if start < length => end.min(length.saturating_sub(1)),
                _ => end,
            };
            write_pair(range, start, end, format, out)
        }
    }
}

/// Writes the specification of INTEGRITY or `SIGNED_INTEGRITY`.
#[inline]
pub(super) fn write_node(node: Bin, format: &Format, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let range = node.base_range();
    match format.addressing() {
        ChunkAddressing::Bin32 | ChunkAddressing::Bin64 => write_bin(node, format, out),
        ChunkAddressing::Chunk32 | ChunkAddressing::Chunk64 => {
            let last = last_chunk(range, format)?;
            write_pair(range, range.start(), last, format, out)
        }
        ChunkAddressing::Byte64 => {
            // R4: hashes name full chunks, even past the content's end.
            let (start, end) = padded_bytes(range, format)?;
            write_pair(range, start, end, format, out)
        }
    }
}

/// Writes the specification of DATA with `len` bytes of payload, at least one.
#[inline]
pub(super) fn write_chunk(
    chunk: ChunkIndex,
    len: usize,
    format: &Format,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let range = ChunkRange::single(chunk);
    let addressing = format.addressing();
    let beyond = EncodeError::BeyondAddressing { range, addressing };
    match addressing {
        ChunkAddressing::Bin32 | ChunkAddressing::Bin64 => write_bin(Bin::leaf(chunk).ok_or(beyond)?, format, out),
        ChunkAddressing::Chunk32 | ChunkAddressing::Chunk64 => {
            let last = last_chunk(range, format)?;
            write_pair(range, last, last, format, out)
        }
        ChunkAddressing::Byte64 => {
            let (start, _) = padded_bytes(range, format)?;
            // R4: DATA ends at the last real byte.
            let end = start.checked_add((len as u64).saturating_sub(1)).ok_or(beyond)?;
            write_pair(range, start, end, format, out)
        }
    }
}

#[inline]
fn write_bin(node: Bin, format: &Format, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let addressing = format.addressing();
    if addressing == ChunkAddressing::Bin32 {
        match u32::try_from(node.number()) {
            Ok(number) if number != EMPTY_BIN32 => out.extend_from_slice(&number.to_be_bytes()),
            _ => return Err(EncodeError::BeyondAddressing { range: node.base_range(), addressing }),
        }
    } else {
        out.extend_from_slice(&node.number().to_be_bytes());
    }
    Ok(())
}

/// Writes the first and last chunk or byte of `range`.
#[inline]
fn write_pair(range: ChunkRange, start: u64, end: u64, format: &Format, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let addressing = format.addressing();
    if addressing.integer_len() == 4 {
        let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(end)) else {
            return Err(EncodeError::BeyondAddressing { range, addressing });
        };
        out.extend_from_slice(&start.to_be_bytes());
        out.extend_from_slice(&end.to_be_bytes());
    } else {
        out.extend_from_slice(&start.to_be_bytes());
        out.extend_from_slice(&end.to_be_bytes());
    }
    Ok(())
}

#[inline]
fn last_chunk(range: ChunkRange, format: &Format) -> Result<u64, EncodeError> {
    if range.is_empty() {
        return Err(EncodeError::EmptyRange { addressing: format.addressing() });
    }
    Ok(range.end().saturating_sub(1))
}

/// First and last byte of whole chunks.
fn padded_bytes(range: ChunkRange, format: &Format) -> Result<(u64, u64), EncodeError> {
    let addressing = format.addressing();
    let size = u64::from(format.chunk_size().bytes());
    let last = last_chunk(range, format)?;
    let bytes = || {
        let end = last.checked_mul(size)?.checked_add(size.saturating_sub(1))?;
        Some((range.start().checked_mul(size)?, end))
    };
    bytes().ok_or(EncodeError::BeyondAddressing { range, addressing })
}
