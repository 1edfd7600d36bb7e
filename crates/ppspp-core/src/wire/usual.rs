//! The two messages that carry content, in the format that nearly all swarms have: chunk ranges of 32 bits, and hashes of
//! 32 bytes. Their fields have fixed places there, and are read and written in one piece.

use alloc::vec::Vec;

use super::Format;
use super::message::{DataMessage, IntegrityMessage, MessageType};
use crate::chunk::{Bin, ChunkAddressing, ChunkIndex, ChunkRange};

/// Bytes of a SHA-256 hash.
const HASH_LEN: usize = 32;
/// The type octet, a first and a last chunk, and a hash.
const INTEGRITY_LEN: usize = 1 + 8 + HASH_LEN;
/// The type octet, a first and a last chunk, and a timestamp.
const DATA_LEN: usize = 1 + 8 + 8;

/// Whether `format` is the one.
#[inline]
pub(super) fn is_usual(format: &Format) -> bool {
    format.addressing() == ChunkAddressing::Chunk32 && format.hash_len() == HASH_LEN
}

/// The message at the start of `rest`, and what follows it, if it is a good INTEGRITY.
#[inline(always)]
#[expect(clippy::inline_always, reason = "handed over in memory, the fields are waited for")]
pub(super) fn read_integrity(rest: &[u8]) -> Option<(IntegrityMessage<'_>, &[u8])> {
    let (message, rest) = rest.split_first_chunk::<INTEGRITY_LEN>()?;
    let [code, fields @ ..] = message;
    if *code != MessageType::Integrity.code() {
        return None;
    }
    let (spec, hash) = fields.split_first_chunk()?;
    let (start, last) = first_and_last(*spec);
    Some((IntegrityMessage { node: Bin::spanning(ChunkRange::new(start, last.saturating_add(1)))?, hash }, rest))
}

/// The message at the start of `rest`, and what follows it, if it is a good DATA.
#[inline(always)]
#[expect(clippy::inline_always, reason = "handed over in memory, the fields are waited for")]
pub(super) fn read_data<'a>(rest: &'a [u8], format: &Format) -> Option<(DataMessage<'a>, &'a [u8])> {
    let (message, rest) = rest.split_first_chunk::<DATA_LEN>()?;
    let [code, fields @ ..] = message;
    let (spec, fields) = fields.split_first_chunk()?;
    let (start, last) = first_and_last(*spec);
    if *code != MessageType::Data.code() || start != last || rest.is_empty() {
        return None;
    }
    // RFC 7574 §8.6: only a datagram's last chunk may be short.
    let (payload, rest) = rest.split_at_checked(format.chunk_size().bytes() as usize).unwrap_or((rest, &[]));
    let timestamp = u64::from_be_bytes(*fields.first_chunk()?);
    Some((DataMessage { chunk: ChunkIndex::new(start), timestamp, payload }, rest))
}

/// Appends an INTEGRITY message, if the hash is as long as it must be and the node within what 32 bits address; otherwise
/// nothing.
#[inline]
pub(super) fn write_integrity(node: Bin, hash: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let hash: &[u8; HASH_LEN] = hash.try_into().ok()?;
    let range = node.base_range();
    let spec = spec(range.start(), range.end().saturating_sub(1))?;
    // Put together elsewhere first, they would be waited for to be copied.
    out.push(MessageType::Integrity.code());
    out.extend_from_slice(&spec);
    out.extend_from_slice(hash);
    Some(())
}

/// Appends what stands ahead of the payload in a DATA message, if the chunk is within what 32 bits address; otherwise
/// nothing.
#[inline]
pub(super) fn write_data_header(chunk: ChunkIndex, timestamp: u64, out: &mut Vec<u8>) -> Option<()> {
    let spec = spec(chunk.value(), chunk.value())?;
    out.push(MessageType::Data.code());
    out.extend_from_slice(&spec);
    out.extend_from_slice(&timestamp.to_be_bytes());
    Some(())
}

/// A first and a last chunk, in order, if they have 32 bits.
#[inline]
fn spec(start: u64, last: u64) -> Option<[u8; 8]> {
    u32::try_from(last).is_ok().then_some((start << u32::BITS | last).to_be_bytes())
}

/// Both at once.
#[inline]
const fn first_and_last(spec: [u8; 8]) -> (u64, u64) {
    let both = u64::from_be_bytes(spec);
    (both >> u32::BITS, both & u32::MAX as u64)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::chunk::ChunkSize;
    use crate::wire::{Message, Messages};

    proptest! {
        #[test]
        fn they_are_read_as_any_message_is(
            code in prop_oneof![Just(1u8), Just(4), any::<u8>()],
            (layer, at, odd) in (0u32..=32, any::<u32>(), prop_oneof![Just(0u32), Just(0), any::<u32>()]),
            (tail, size) in (prop_oneof![vec(any::<u8>(), 0..100), vec(any::<u8>(), 512..1200)], 512u32..1024),
        ) {
            let format = Format::new(ChunkAddressing::Chunk32, ChunkSize::new(size).unwrap(), HASH_LEN, 0);
            prop_assert!(is_usual(&format));
            // Aligned runs, most often, and whatever else two numbers may say.
            let width = 1u64.checked_shl(layer).unwrap_or(1);
            let start = u64::from(at) / width * width;
            let last = (start + width - 1).min(u64::from(u32::MAX)) as u32 ^ odd;
            let mut bytes = Vec::from([code]);
            bytes.extend((start as u32).to_be_bytes());
            bytes.extend(last.to_be_bytes());
            bytes.extend(tail);
            let expected = Messages::new(&bytes, &format).next().and_then(Result::ok);
            match (expected, read_integrity(&bytes), read_data(&bytes, &format)) {
                (Some(Message::Integrity { node, hash }), Some((read, rest)), None) => {
                    prop_assert_eq!((read.node, read.hash), (node, hash));
                    prop_assert_eq!(rest, &bytes[INTEGRITY_LEN..]);
                    let mut written = Vec::new();
                    prop_assert!(write_integrity(node, hash, &mut written).is_some());
                    prop_assert_eq!(&written, &bytes[..INTEGRITY_LEN]);
                }
                (Some(Message::Data { chunk, timestamp, payload }), None, Some((read, rest))) => {
                    prop_assert_eq!((read.chunk, read.timestamp, read.payload), (chunk, timestamp, payload));
                    prop_assert_eq!(rest, &bytes[DATA_LEN + payload.len()..]);
                    let mut written = Vec::new();
                    prop_assert!(write_data_header(chunk, timestamp, &mut written).is_some());
                    prop_assert_eq!(&written, &bytes[..DATA_LEN]);
                }
                (Some(Message::Integrity { .. } | Message::Data { .. }), ..) | (_, Some(_), _) | (.., Some(_)) => {
                    prop_assert!(false, "{:?} is read otherwise", expected);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn what_32_bits_do_not_address_is_not_written() {
        let far = 1 << 32;
        let mut out = Vec::new();
        let node = |start, end| Bin::spanning(ChunkRange::new(start, end)).unwrap();
        assert!(write_data_header(ChunkIndex::new(far), 0, &mut out).is_none());
        assert!(write_integrity(node(0, 2 * far), &[1; 32], &mut out).is_none());
        assert!(write_integrity(node(0, 1), &[1; 20], &mut out).is_none() && out.is_empty());
        assert!(write_data_header(ChunkIndex::new(far - 1), 0, &mut out).is_some());
        assert!(write_integrity(node(0, far), &[1; 32], &mut out).is_some());
    }
}
