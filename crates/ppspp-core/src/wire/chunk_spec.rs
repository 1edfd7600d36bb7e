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
        ChunkAddressing::Byte64 => read_bytes(cursor, format),
    }
}

/// Reads a byte range; apart from the others, which are then short enough to be compiled into their callers.
#[inline(never)]
fn read_bytes(cursor: &mut Cursor<'_>, format: &Format) -> Result<ChunkRange, WireError> {
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

/// Reads the specification of INTEGRITY or `SIGNED_INTEGRITY`: one node of the tree (ruling R5).
#[inline(always)]
#[expect(clippy::inline_always, reason = "where the error is not wanted, nothing is left of it")]
pub(super) fn read_node(cursor: &mut Cursor<'_>, format: &Format) -> Result<Bin, WireError> {
    let at = cursor.offset();
    let (node, range) = match format.addressing() {
        ChunkAddressing::Bin32 | ChunkAddressing::Bin64 => (read_bin(cursor, format)?, ChunkRange::EMPTY),
        ChunkAddressing::Chunk32 | ChunkAddressing::Chunk64 => {
            let (start, end) = read_pair(cursor, format)?;
            let range = ChunkRange::new(start, end.saturating_add(1));
            (Bin::spanning(range), range)
        }
        ChunkAddressing::Byte64 => {
            let range = read_bytes(cursor, format)?;
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
#[inline(always)]
#[expect(clippy::inline_always, reason = "where the error is not wanted, nothing is left of it")]
pub(super) fn read_chunk(cursor: &mut Cursor<'_>, format: &Format) -> Result<ChunkName, WireError> {
    let at = cursor.offset();
    let range = match format.addressing() {
        ChunkAddressing::Byte64 => return read_chunk_bytes(cursor, format),
        ChunkAddressing::Chunk32 | ChunkAddressing::Chunk64 => {
            let (start, end) = read_pair(cursor, format)?;
            ChunkRange::new(start, end.saturating_add(1))
        }
        ChunkAddressing::Bin32 | ChunkAddressing::Bin64 => {
            read_bin(cursor, format)?.map_or(ChunkRange::EMPTY, Bin::base_range)
        }
    };
    Ok(ChunkName { chunk: only_chunk(range).map_err(|kind| cursor.error_at(at, kind))?, bytes: None })
}

/// [`read_chunk`] of a byte range.
#[inline(never)]
fn read_chunk_bytes(cursor: &mut Cursor<'_>, format: &Format) -> Result<ChunkName, WireError> {
    let at = cursor.offset();
    let (start, end) = read_pair(cursor, format)?;
    let chunk = chunks_of_bytes(start, end, format).and_then(only_chunk).map_err(|kind| cursor.error_at(at, kind))?;
    Ok(ChunkName { chunk, bytes: Some(end.saturating_sub(start).saturating_add(1)) })
}

#[inline]
const fn only_chunk(range: ChunkRange) -> Result<ChunkIndex, WireErrorKind> {
    if range.count() == 1 {
        Ok(ChunkIndex::new(range.start()))
    } else {
        Err(Kind::NotOneChunk { start: range.start(), count: range.count() })
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
#[inline(always)]
#[expect(clippy::inline_always, reason = "where the error is not wanted, nothing is left of it")]
fn read_pair(cursor: &mut Cursor<'_>, format: &Format) -> Result<(u64, u64), WireError> {
    let at = cursor.offset();
    let (start, end) = match format.addressing() {
        ChunkAddressing::Bin32 | ChunkAddressing::Chunk32 => match cursor.take::<8>().map(u64::from_be_bytes) {
            Some(both) => (both >> u32::BITS, both & u64::from(u32::MAX)),
            // One of them is cut short.
            None => {
                (u64::from(cursor.u32("chunk specification start")?), u64::from(cursor.u32("chunk specification end")?))
            }
        },
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
#[inline(always)]
#[expect(clippy::inline_always, reason = "where the error is not wanted, nothing is left of it")]
pub(super) fn write_node(node: Bin, format: &Format, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let range = node.base_range();
    match format.addressing() {
        ChunkAddressing::Bin32 | ChunkAddressing::Bin64 => write_bin(node, format, out),
        ChunkAddressing::Chunk32 | ChunkAddressing::Chunk64 => {
            let last = last_chunk(range, format)?;
            write_pair(range, range.start(), last, format, out)
        }
        // R4: hashes name full chunks, even past the content's end.
        ChunkAddressing::Byte64 => write_bytes(range, None, format, out),
    }
}

/// Writes the specification of DATA with `len` bytes of payload, at least one.
#[inline(always)]
#[expect(clippy::inline_always, reason = "where the error is not wanted, nothing is left of it")]
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
        // R4: DATA ends at the last real byte.
        ChunkAddressing::Byte64 => write_bytes(range, Some(len), format, out),
    }
}

/// Writes the bytes of `range`, or the first `len` of them; apart, as [`read_bytes`] is.
#[inline(never)]
fn write_bytes(range: ChunkRange, len: Option<usize>, format: &Format, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let (start, mut end) = padded_bytes(range, format)?;
    if let Some(len) = len {
        let beyond = EncodeError::BeyondAddressing { range, addressing: format.addressing() };
        end = start.checked_add((len as u64).saturating_sub(1)).ok_or(beyond)?;
    }
    write_pair(range, start, end, format, out)
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
        // Both in one piece.
        out.extend_from_slice(&(u64::from(start) << u32::BITS | u64::from(end)).to_be_bytes());
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

#[cfg(test)]
mod tests {
    use std::string::ToString as _;
    use std::vec::Vec;

    use super::*;
    use crate::chunk::ChunkSize;

    const ALL_ONES: u64 = u64::MAX;

    fn format(addressing: ChunkAddressing) -> Format {
        Format::new(addressing, ChunkSize::DEFAULT, 20, 0)
    }

    fn known(length: u64) -> Format {
        format(ChunkAddressing::Byte64).with_content_length(Some(length))
    }

    /// Integers as one method writes them.
    fn spec(format: &Format, integers: &[u64]) -> Vec<u8> {
        let skip = 8 - format.addressing().integer_len();
        integers.iter().flat_map(|integer| integer.to_be_bytes()[skip..].to_vec()).collect()
    }

    fn range(format: &Format, integers: &[u64]) -> Result<ChunkRange, WireErrorKind> {
        read_range(&mut Cursor::new(&spec(format, integers)), format).map_err(|error| error.kind())
    }

    fn node(format: &Format, integers: &[u64]) -> Result<u64, WireErrorKind> {
        read_node(&mut Cursor::new(&spec(format, integers)), format).map(Bin::number).map_err(|error| error.kind())
    }

    fn chunk(format: &Format, integers: &[u64]) -> Result<u64, WireErrorKind> {
        let name = read_chunk(&mut Cursor::new(&spec(format, integers)), format);
        name.map(|name| name.chunk.value()).map_err(|error| error.kind())
    }

    fn written(range: ChunkRange, format: &Format) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::new();
        write_range(range, format, &mut out).map(|()| out)
    }

    #[test]
    fn bins_name_runs_the_empty_one_and_everything() {
        for (addressing, ones) in [(ChunkAddressing::Bin32, u64::from(u32::MAX)), (ChunkAddressing::Bin64, ALL_ONES)] {
            let format = format(addressing);
            let everything = ChunkRange::new(0, addressing.max_chunks());
            // RFC 7574 §4.2, Figure 2.
            let cases = [
                (7, ChunkRange::new(0, 8)),
                (3, ChunkRange::new(0, 4)),
                (2, ChunkRange::new(1, 2)),
                (9, ChunkRange::new(4, 6)),
                (ones, ChunkRange::EMPTY),
                (ones >> 1, everything),
                (ones - 1, ChunkRange::new(everything.end() - 1, everything.end())),
            ];
            for (bin, expected) in cases {
                assert_eq!(range(&format, &[bin]), Ok(expected));
                assert_eq!(written(expected, &format), Ok(spec(&format, &[bin])));
            }
            assert_eq!(
                written(ChunkRange::new(1, 3), &format).unwrap_err().to_string(),
                "chunks 1..3 are no single bin: write them as several messages"
            );
        }
        let (addressing, range) = (ChunkAddressing::Bin32, ChunkRange::new(0, 1 << 32));
        assert_eq!(written(range, &format(addressing)), Err(EncodeError::BeyondAddressing { range, addressing }));
    }

    #[test]
    fn chunk_ranges_end_with_their_last_chunk() {
        for (addressing, last) in
            [(ChunkAddressing::Chunk32, u64::from(u32::MAX)), (ChunkAddressing::Chunk64, ALL_ONES - 1)]
        {
            let format = format(addressing);
            for (start, end) in [(0, 0), (0, 6), (6, 6), (0, last), (last, last)] {
                let expected = ChunkRange::new(start, end + 1);
                assert_eq!(range(&format, &[start, end]), Ok(expected));
                assert_eq!(written(expected, &format), Ok(spec(&format, &[start, end])));
            }
            assert_eq!(range(&format, &[5, 4]), Err(Kind::EndBeforeStart { start: 5, end: 4 }));
            assert_eq!(written(ChunkRange::EMPTY, &format), Err(EncodeError::EmptyRange { addressing }));
        }
        let narrow = format(ChunkAddressing::Chunk32);
        assert_eq!(
            written(ChunkRange::new(0, (1 << 32) + 1), &narrow).unwrap_err().to_string(),
            "chunks 0..4294967297 are beyond chunk32 addressing: use chunk64"
        );
        // The last number has no place in a half-open run.
        let wide = format(ChunkAddressing::Chunk64);
        assert_eq!(range(&wide, &[0, ALL_ONES]), Ok(ChunkRange::new(0, ALL_ONES)));
        assert!(range(&wide, &[ALL_ONES, ALL_ONES]).unwrap().is_empty());
        assert_eq!(chunk(&wide, &[ALL_ONES, ALL_ONES]), Err(Kind::NotOneChunk { start: ALL_ONES, count: 0 }));
    }

    #[test]
    fn r4_byte_ranges_start_with_a_chunk() {
        let format = format(ChunkAddressing::Byte64);
        assert_eq!(range(&format, &[2048, 3071]), Ok(ChunkRange::new(2, 3)));
        assert_eq!(range(&format, &[2047, 3071]), Err(Kind::StartInsideChunk { start: 2047, chunk_size: 1024 }));
        assert_eq!(chunk(&format, &[1, 1024]), Err(Kind::StartInsideChunk { start: 1, chunk_size: 1024 }));
        assert_eq!(range(&format, &[2048, 2047]), Err(Kind::EndBeforeStart { start: 2048, end: 2047 }));
        assert_eq!(range(&format, &[0, ALL_ONES]), Ok(ChunkRange::new(0, 1 << 54)));
        assert_eq!(written(ChunkRange::new(0, 1 << 54), &format), Ok(spec(&format, &[0, ALL_ONES])));
        let addressing = ChunkAddressing::Byte64;
        for range in [ChunkRange::new(0, (1 << 54) + 1), ChunkRange::new(1 << 54, (1 << 54) + 1)] {
            assert_eq!(written(range, &format), Err(EncodeError::BeyondAddressing { range, addressing }));
        }
    }

    #[test]
    fn r4_byte_ranges_end_with_a_chunk_or_the_content() {
        // 7162 bytes: seven chunks, 1018 bytes in the last.
        let all = ChunkRange::new(0, 7);
        for format in [known(7162), format(ChunkAddressing::Byte64)] {
            assert_eq!(range(&format, &[0, 7161]), Ok(all));
            assert_eq!(range(&format, &[0, 7167]), Ok(all));
            assert_eq!(range(&format, &[0, 8191]), Ok(ChunkRange::new(0, 8)));
            assert_eq!(chunk(&format, &[6144, 7161]), Ok(6));
            assert_eq!(chunk(&format, &[6144, 7167]), Ok(6));
        }
        assert_eq!(range(&format(ChunkAddressing::Byte64), &[0, 7000]), Ok(all));
        for end in [7160, 7162, 5000] {
            assert_eq!(range(&known(7162), &[0, end]), Err(Kind::EndInsideChunk { end, chunk_size: 1024 }));
        }
        assert_eq!(written(all, &known(7162)), Ok(spec(&known(0), &[0, 7161])));
        assert_eq!(written(all, &format(ChunkAddressing::Byte64)), Ok(spec(&known(0), &[0, 7167])));
        assert_eq!(written(ChunkRange::new(2, 4), &known(7162)), Ok(spec(&known(0), &[2048, 4095])));
        // Past the end nothing is cut off.
        assert_eq!(written(ChunkRange::new(7, 8), &known(7162)), Ok(spec(&known(0), &[7168, 8191])));
    }

    #[test]
    fn r4_hashes_name_padded_runs_and_data_real_bytes() {
        let format = known(7162);
        let root = Bin::from_number(7).unwrap();
        let mut out = Vec::new();
        write_node(root, &format, &mut out).unwrap();
        assert_eq!(out, spec(&format, &[0, 8191]));
        assert_eq!(node(&format, &[0, 8191]), Ok(7));
        let leaf = Bin::from_number(12).unwrap();
        out.clear();
        write_node(leaf, &format, &mut out).unwrap();
        assert_eq!(out, spec(&format, &[6144, 7167]));
        // The real end still names the same leaf.
        assert_eq!(node(&format, &[6144, 7161]), Ok(12));
        out.clear();
        write_chunk(ChunkIndex::new(6), 1018, &format, &mut out).unwrap();
        assert_eq!(out, spec(&format, &[6144, 7161]));
    }

    #[test]
    fn r5_data_names_one_chunk() {
        for addressing in [ChunkAddressing::Chunk32, ChunkAddressing::Chunk64] {
            assert_eq!(chunk(&format(addressing), &[6, 6]), Ok(6));
            assert_eq!(chunk(&format(addressing), &[6, 7]), Err(Kind::NotOneChunk { start: 6, count: 2 }));
        }
        for (addressing, ones) in [(ChunkAddressing::Bin32, u64::from(u32::MAX)), (ChunkAddressing::Bin64, ALL_ONES)] {
            assert_eq!(chunk(&format(addressing), &[12]), Ok(6));
            assert_eq!(chunk(&format(addressing), &[13]), Err(Kind::NotOneChunk { start: 6, count: 2 }));
            assert_eq!(chunk(&format(addressing), &[ones]), Err(Kind::NotOneChunk { start: 0, count: 0 }));
        }
        let error = chunk(&format(ChunkAddressing::Byte64), &[0, 1024]).unwrap_err();
        assert_eq!(error.to_string(), "chunk specification names 2 chunks from 0, not one");
    }

    #[test]
    fn r5_hashes_name_one_aligned_power_of_two_run() {
        for addressing in [ChunkAddressing::Chunk32, ChunkAddressing::Chunk64] {
            let format = format(addressing);
            assert_eq!(node(&format, &[0, 3]), Ok(3));
            assert_eq!(node(&format, &[6, 6]), Ok(12));
            // Not a power of two; not aligned.
            assert_eq!(node(&format, &[0, 6]), Err(Kind::NotOneNode { start: 0, count: 7 }));
            assert_eq!(node(&format, &[1, 2]), Err(Kind::NotOneNode { start: 1, count: 2 }));
        }
        for (addressing, ones) in [(ChunkAddressing::Bin32, u64::from(u32::MAX)), (ChunkAddressing::Bin64, ALL_ONES)] {
            assert_eq!(node(&format(addressing), &[9]), Ok(9));
            assert_eq!(node(&format(addressing), &[ones]), Err(Kind::NotOneNode { start: 0, count: 0 }));
        }
        let error = node(&format(ChunkAddressing::Byte64), &[0, 3071]).unwrap_err();
        assert_eq!(error.to_string(), "chunk specification names 3 chunks from 0, not an aligned power-of-two run");
    }

    #[test]
    fn nodes_and_chunks_beyond_the_method_are_refused() {
        let cases = [
            (ChunkAddressing::Bin32, 1_u64 << 31, 32),
            (ChunkAddressing::Chunk32, 1 << 32, 33),
            (ChunkAddressing::Byte64, 1 << 54, 55),
        ];
        for (addressing, chunk, layer) in cases {
            let format = format(addressing);
            let mut out = Vec::new();
            let error = write_node(Bin::leftmost(layer), &format, &mut out).unwrap_err();
            assert_eq!(error, EncodeError::BeyondAddressing { range: Bin::leftmost(layer).base_range(), addressing });
            write_node(Bin::leftmost(layer - 1), &format, &mut out).unwrap();
            let range = ChunkRange::single(ChunkIndex::new(chunk));
            let error = write_chunk(ChunkIndex::new(chunk), 1, &format, &mut out).unwrap_err();
            assert_eq!(error, EncodeError::BeyondAddressing { range, addressing });
            write_chunk(ChunkIndex::new(chunk - 1), 1, &format, &mut out).unwrap();
            assert_eq!(out.len(), 2 * addressing.spec_len());
        }
    }
}
