//! How content is cut into chunks and groups, and where they lie in its bytes.

use core::fmt;
use core::ops::Range;
use core::str::FromStr;

use thiserror::Error;

use super::{Bin, ChunkIndex, ChunkRange};

/// A group is the largest aligned power-of-two run of chunks within this many bytes (ruling R2).
pub const GROUP_BYTES: u32 = 16 * 1024;

/// Longest content, in bytes: offsets fit a signed 64-bit integer, as file systems have it.
const MAX_CONTENT_LENGTH: u64 = i64::MAX as u64;

/// Bytes in every chunk but the last, 512 to 61,440 (RFC 7574 §8.1, ruling R3). The default is 1,024.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkSize(u32);

impl ChunkSize {
    /// The smallest chunk size, 512 bytes.
    pub const MIN: Self = Self(512);
    /// The largest chunk size, 61,440 bytes.
    pub const MAX: Self = Self(61_440);
    /// The recommended chunk size, 1,024 bytes.
    pub const DEFAULT: Self = Self(1024);

    /// A chunk size of `bytes`.
    ///
    /// # Errors
    /// [`GeometryError::ChunkSize`] outside 512..=61,440.
    pub const fn new(bytes: u32) -> Result<Self, GeometryError> {
        if bytes < Self::MIN.0 || bytes > Self::MAX.0 { Err(GeometryError::ChunkSize(bytes)) } else { Ok(Self(bytes)) }
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u32 {
        self.0
    }

    /// Layer of a whole group in the chunk tree: a group holds `1 << layer` chunks.
    pub const fn group_layer(self) -> u8 {
        (GROUP_BYTES.ilog2() as u8).saturating_sub((32 - (self.0 - 1).leading_zeros()) as u8)
    }
}

impl Default for ChunkSize {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Debug for ChunkSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

impl fmt::Display for ChunkSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How messages name chunks (RFC 7574 §7.8).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[non_exhaustive]
pub enum ChunkAddressing {
    /// 32-bit bins.
    Bin32,
    /// 64-bit byte ranges.
    Byte64,
    /// 32-bit chunk ranges, the default.
    #[default]
    Chunk32,
    /// 64-bit bins.
    Bin64,
    /// 64-bit chunk ranges.
    Chunk64,
}

impl ChunkAddressing {
    /// Every method, in the order of their codes.
    pub const ALL: [Self; 5] = [Self::Bin32, Self::Byte64, Self::Chunk32, Self::Bin64, Self::Chunk64];

    /// The code of the handshake option, 0 to 4.
    pub const fn code(self) -> u8 {
        match self {
            Self::Bin32 => 0,
            Self::Byte64 => 1,
            Self::Chunk32 => 2,
            Self::Bin64 => 3,
            Self::Chunk64 => 4,
        }
    }

    /// The method with `code`; `None` if it is unassigned.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Bin32,
            1 => Self::Byte64,
            2 => Self::Chunk32,
            3 => Self::Bin64,
            4 => Self::Chunk64,
            _ => return None,
        })
    }

    /// The name used in commands: `bin32`, `byte64`, `chunk32`, `bin64` or `chunk64`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bin32 => "bin32",
            Self::Byte64 => "byte64",
            Self::Chunk32 => "chunk32",
            Self::Bin64 => "bin64",
            Self::Chunk64 => "chunk64",
        }
    }

    /// The most chunks a content may have under this method (ruling R3).
    pub const fn max_chunks(self) -> u64 {
        match self {
            Self::Bin32 => 1 << 31,
            Self::Chunk32 => 1 << 32,
            Self::Byte64 | Self::Bin64 | Self::Chunk64 => 1 << 63,
        }
    }

    /// Width in bytes of one integer of a chunk specification.
    pub const fn integer_len(self) -> usize {
        match self {
            Self::Bin32 | Self::Chunk32 => 4,
            Self::Byte64 | Self::Bin64 | Self::Chunk64 => 8,
        }
    }

    /// Length in bytes of a chunk specification.
    pub const fn spec_len(self) -> usize {
        match self {
            Self::Bin32 => 4,
            Self::Chunk32 | Self::Bin64 => 8,
            Self::Byte64 | Self::Chunk64 => 16,
        }
    }
}

impl fmt::Display for ChunkAddressing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ChunkAddressing {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|method| method.name() == name).ok_or(UnknownName)
    }
}

/// The name of an algorithm or method is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("unknown name")]
pub struct UnknownName;

/// Content that cannot be cut into chunks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// The chunk size is out of range.
    #[error("chunk size {0} is outside 512..=61440 bytes")]
    ChunkSize(u32),
    /// There is nothing to share.
    #[error("the content is empty; share at least one byte")]
    Empty,
    /// The content is longer than 2^63 - 1 bytes.
    #[error("a content of {0} bytes is longer than the 2^63 - 1 bytes supported; split it")]
    TooLong(u64),
    /// The addressing method cannot name that many chunks.
    #[error("{chunks} chunks are more than {addressing} addressing can name; use chunk64")]
    TooManyChunks {
        /// Chunks the content has.
        chunks: u64,
        /// The method that is too narrow.
        addressing: ChunkAddressing,
    },
}

/// The place of a group in the content, counted from zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GroupIndex(u64);

impl GroupIndex {
    /// The group at position `index`.
    pub const fn new(index: u64) -> Self {
        Self(index)
    }

    /// The position as a number.
    pub const fn value(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for GroupIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group {}", self.0)
    }
}

/// The cut of one content into chunks and groups.
///
/// The number of chunks is always known; the length of the last chunk, hence of the content, may not be yet
/// (RFC 7574 §5.6, automatic size detection).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    chunk_size: ChunkSize,
    chunks: u64,
    last_len: Option<u32>,
    /// Kept: it is asked for several times for every chunk.
    group_layer: u8,
}

impl Geometry {
    /// The cut of a content of `length` bytes.
    ///
    /// # Errors
    /// [`GeometryError::Empty`] for zero bytes, [`GeometryError::TooLong`] above 2^63 - 1 bytes.
    pub const fn new(length: u64, chunk_size: ChunkSize) -> Result<Self, GeometryError> {
        if length == 0 {
            return Err(GeometryError::Empty);
        }
        if length > MAX_CONTENT_LENGTH {
            return Err(GeometryError::TooLong(length));
        }
        let size = chunk_size.0 as u64;
        let chunks = length.div_ceil(size);
        let last_len = (length - (chunks - 1) * size) as u32;
        Ok(Self { chunk_size, chunks, last_len: Some(last_len), group_layer: chunk_size.group_layer() })
    }

    /// The cut of a content of `chunks` chunks whose exact length is not known yet.
    ///
    /// # Errors
    /// [`GeometryError::Empty`] for zero chunks, [`GeometryError::TooLong`] (with the shortest length such a content
    /// can have, saturated) if that is above 2^63 - 1 bytes.
    pub const fn of_chunks(chunks: u64, chunk_size: ChunkSize) -> Result<Self, GeometryError> {
        if chunks == 0 {
            return Err(GeometryError::Empty);
        }
        let shortest = (chunks - 1).saturating_mul(chunk_size.0 as u64).saturating_add(1);
        if shortest > MAX_CONTENT_LENGTH {
            return Err(GeometryError::TooLong(shortest));
        }
        Ok(Self { chunk_size, chunks, last_len: None, group_layer: chunk_size.group_layer() })
    }

    /// The same cut with the last chunk known to be `last_len` bytes.
    ///
    /// `None` unless that is within 1..=chunk size and the content within 2^63 - 1 bytes.
    #[must_use]
    pub const fn with_last_len(self, last_len: u32) -> Option<Self> {
        let fits = self.offset(self.last_chunk()) + last_len as u64 <= MAX_CONTENT_LENGTH;
        if last_len == 0 || last_len > self.chunk_size.0 || !fits {
            return None;
        }
        Some(Self { last_len: Some(last_len), ..self })
    }

    /// Checks that `addressing` can name every chunk.
    ///
    /// # Errors
    /// [`GeometryError::TooManyChunks`] if not (ruling R3).
    pub const fn check_addressing(self, addressing: ChunkAddressing) -> Result<(), GeometryError> {
        if self.chunks > addressing.max_chunks() {
            return Err(GeometryError::TooManyChunks { chunks: self.chunks, addressing });
        }
        Ok(())
    }

    /// Bytes per chunk.
    pub const fn chunk_size(self) -> ChunkSize {
        self.chunk_size
    }

    /// Number of chunks, at least one.
    pub const fn chunk_count(self) -> u64 {
        self.chunks
    }

    /// All chunks.
    pub const fn all(self) -> ChunkRange {
        ChunkRange::new(0, self.chunks)
    }

    /// The last chunk.
    pub const fn last_chunk(self) -> ChunkIndex {
        ChunkIndex::new(self.chunks - 1)
    }

    /// Length of the content in bytes, if known.
    pub const fn content_length(self) -> Option<u64> {
        match self.last_len {
            Some(last) => Some(self.offset(self.last_chunk()) + last as u64),
            None => None,
        }
    }

    /// Offset of the first byte of `chunk`, also past the end; saturates.
    pub const fn offset(self, chunk: ChunkIndex) -> u64 {
        chunk.value().saturating_mul(self.chunk_size.0 as u64)
    }

    /// Length of `chunk`; `None` for the last chunk of a content of unknown length and past the end.
    pub const fn chunk_len(self, chunk: ChunkIndex) -> Option<u32> {
        let last = self.chunks - 1;
        if chunk.value() < last {
            Some(self.chunk_size.0)
        } else if chunk.value() == last {
            self.last_len
        } else {
            None
        }
    }

    /// The bytes of `range`, clipped to the content. While the length is unknown the last chunk counts as full.
    pub const fn byte_range(self, range: ChunkRange) -> Range<u64> {
        let length = match self.content_length() {
            Some(length) => length,
            None => self.offset(ChunkIndex::new(self.chunks)),
        };
        let start = self.offset(ChunkIndex::new(range.start()));
        let end = self.offset(ChunkIndex::new(range.end()));
        (if start < length { start } else { length })..(if end < length { end } else { length })
    }

    /// Layer of a whole group.
    pub const fn group_layer(self) -> u8 {
        self.group_layer
    }

    /// Number of groups.
    pub const fn group_count(self) -> u64 {
        // Without a division: this is asked several times for every chunk. There is at least one.
        ((self.chunks - 1) >> self.group_layer()) + 1
    }

    /// The group that holds `chunk`.
    pub const fn group_of(self, chunk: ChunkIndex) -> GroupIndex {
        GroupIndex(chunk.value() >> self.group_layer())
    }

    /// The bit of `chunk` in its group: bit n stands for the group's n-th chunk.
    pub(crate) const fn bit_of(self, chunk: ChunkIndex) -> u32 {
        1 << (chunk.value() & ((1 << self.group_layer()) - 1))
    }

    /// The chunks of `group`, cut at the content's end (ruling R2); empty past it.
    pub const fn group_chunks(self, group: GroupIndex) -> ChunkRange {
        if group.0 >= self.group_count() {
            return ChunkRange::EMPTY;
        }
        let start = group.0 << self.group_layer();
        ChunkRange::new(start, start + (1 << self.group_layer())).intersection(self.all())
    }

    /// The groups that `range`, clipped to the content, touches, ascending.
    pub fn groups_touching(self, range: ChunkRange) -> impl DoubleEndedIterator<Item = GroupIndex> + Clone {
        let range = range.intersection(self.all());
        let layer = self.group_layer();
        let end = if range.is_empty() { range.start() >> layer } else { ((range.end() - 1) >> layer) + 1 };
        ((range.start() >> layer)..end).map(GroupIndex)
    }

    /// The peaks, left to right: the filled nodes whose siblings are not (RFC 7574 §5.6.1).
    ///
    /// One for each one bit of the chunk count; a power-of-two count has a single peak, the root.
    pub fn peaks(self) -> impl Iterator<Item = Bin> {
        let mut rest = self.all();
        core::iter::from_fn(move || {
            let peak = Bin::largest_prefix(rest)?;
            rest = ChunkRange::new(peak.base_range().end(), rest.end());
            Some(peak)
        })
    }

    /// The peak above `chunk`; `None` past the end.
    pub fn peak_of(self, chunk: ChunkIndex) -> Option<Bin> {
        if chunk.value() >= self.chunks {
            return None;
        }
        // The highest bit in which the chunk differs from the count is one in the count: its peak's layer.
        let layer = (chunk.value() ^ self.chunks).checked_ilog2()?;
        Bin::at(layer as u8, chunk.value() >> layer)
    }

    /// The root of the tree over all chunks: the smallest bin from chunk 0 that covers them (RFC 7574 §5.1).
    pub const fn root(self) -> Bin {
        let layer = if self.chunks == 1 { 0 } else { 64 - (self.chunks - 1).leading_zeros() };
        Bin::leftmost(layer as u8)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString as _;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const SIZES: [u32; 8] = [512, 1000, 1024, 4097, 8192, 16_384, 16_385, 61_440];

    fn size(bytes: u32) -> ChunkSize {
        ChunkSize::new(bytes).unwrap()
    }

    fn of_chunks(chunks: u64) -> Geometry {
        Geometry::of_chunks(chunks, ChunkSize::DEFAULT).unwrap()
    }

    fn peaks(geometry: Geometry) -> Vec<u64> {
        geometry.peaks().map(Bin::number).collect()
    }

    #[test]
    fn chunk_sizes_are_bounded() {
        for bytes in [0, 1, 511, 61_441, u32::MAX] {
            assert_eq!(ChunkSize::new(bytes), Err(GeometryError::ChunkSize(bytes)), "R3");
        }
        for bytes in [512, 1000, 61_440] {
            assert_eq!(size(bytes).bytes(), bytes);
        }
    }

    #[test]
    fn a_group_is_the_largest_run_within_16_kib() {
        for (bytes, chunks) in [(512, 32), (1000, 16), (1024, 16), (4097, 2), (8192, 2), (8193, 1), (16_384, 1)] {
            assert_eq!(1 << size(bytes).group_layer(), chunks, "R2: {bytes}");
        }
        assert_eq!(size(61_440).group_layer(), 0, "R2: at least one chunk");
    }

    #[test]
    fn peaks_and_root_by_chunk_count() {
        let table: [(u64, &[u64], u64); 10] = [
            (1, &[0], 0),
            (2, &[1], 1),
            (3, &[1, 4], 3),
            (7, &[3, 9, 12], 7),
            (15, &[7, 19, 25, 28], 15),
            (16, &[15], 15),
            (17, &[15, 32], 31),
            (31, &[15, 39, 51, 57, 60], 31),
            (32, &[31], 31),
            (33, &[31, 64], 63),
        ];
        for (chunks, expected, root) in table {
            assert_eq!(peaks(of_chunks(chunks)), expected, "{chunks} chunks");
            assert_eq!(of_chunks(chunks).root().number(), root, "{chunks} chunks");
        }
    }

    #[test]
    fn powers_of_two_and_their_neighbours() {
        for layer in 2..=52 {
            let power = 1u64 << layer;
            assert_eq!(peaks(of_chunks(power)), [power - 1]);
            assert_eq!(of_chunks(power).root(), Bin::leftmost(layer));
            assert_eq!(peaks(of_chunks(power + 1)), [power - 1, 2 * power]);
            assert_eq!(of_chunks(power + 1).root(), Bin::leftmost(layer + 1));
            assert_eq!(of_chunks(power - 1).peaks().count(), usize::from(layer));
            assert_eq!(of_chunks(power - 1).root(), Bin::leftmost(layer));
        }
    }

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 7574 §5.6.1, Figure 4
        let geometry = Geometry::new(7162, ChunkSize::DEFAULT).unwrap();
        assert_eq!(geometry.chunk_count(), 7);
        assert_eq!(peaks(geometry), [3, 9, 12]);
        assert_eq!(geometry.chunk_len(ChunkIndex::new(5)), Some(1024));
        assert_eq!(geometry.chunk_len(ChunkIndex::new(6)), Some(1018));
        assert_eq!(geometry.chunk_len(ChunkIndex::new(7)), None);
        assert_eq!(geometry.byte_range(ChunkRange::new(5, 9)), 5120..7162);
        assert_eq!(geometry.group_count(), 1);
        assert_eq!(geometry.group_chunks(GroupIndex::new(0)), geometry.all(), "R2: cut at the end");
    }

    #[test]
    fn lengths_at_the_limits() {
        assert_eq!(Geometry::new(0, ChunkSize::DEFAULT), Err(GeometryError::Empty));
        assert_eq!(Geometry::of_chunks(0, ChunkSize::DEFAULT), Err(GeometryError::Empty));
        let limit = i64::MAX as u64;
        for bytes in SIZES {
            let longest = Geometry::new(limit, size(bytes)).unwrap();
            assert_eq!(longest.content_length(), Some(limit));
            assert_eq!(longest.byte_range(longest.all()), 0..limit);
            assert_eq!(Geometry::new(limit + 1, size(bytes)), Err(GeometryError::TooLong(limit + 1)));
            let chunks = longest.chunk_count();
            let unknown = Geometry::of_chunks(chunks, size(bytes)).unwrap();
            let last_len = longest.chunk_len(longest.last_chunk()).unwrap();
            assert_eq!(unknown.with_last_len(last_len), Some(longest));
            assert_eq!(unknown.with_last_len(last_len + 1), None);
            for above in [chunks + 1, 1 << 63, u64::MAX] {
                let refused = Geometry::of_chunks(above, size(bytes)).unwrap_err();
                assert!(matches!(refused, GeometryError::TooLong(length) if length > limit), "{refused}");
            }
        }
    }

    #[test]
    fn the_last_length_may_come_later() {
        let unknown = of_chunks(7);
        assert_eq!(unknown.content_length(), None);
        assert_eq!(unknown.chunk_len(ChunkIndex::new(6)), None);
        assert_eq!(unknown.byte_range(unknown.all()), 0..7168);
        assert_eq!(unknown.with_last_len(1018), Geometry::new(7162, ChunkSize::DEFAULT).ok());
        assert_eq!(unknown.with_last_len(0), None);
        assert_eq!(unknown.with_last_len(1025), None);
    }

    #[test]
    fn addressing_methods_have_limits() {
        for (addressing, most) in [(ChunkAddressing::Bin32, 1u64 << 31), (ChunkAddressing::Chunk32, 1 << 32)] {
            assert_eq!(of_chunks(most).check_addressing(addressing), Ok(()));
            let refused = of_chunks(most + 1).check_addressing(addressing).unwrap_err();
            assert_eq!(refused, GeometryError::TooManyChunks { chunks: most + 1, addressing }, "R3");
            assert!(refused.to_string().contains(addressing.name()));
        }
        let longest = Geometry::new(i64::MAX as u64, ChunkSize::MIN).unwrap();
        for addressing in [ChunkAddressing::Byte64, ChunkAddressing::Bin64, ChunkAddressing::Chunk64] {
            assert_eq!(longest.check_addressing(addressing), Ok(()));
        }
    }

    #[test]
    fn addressing_methods_have_codes_and_names() {
        for (code, addressing) in (0..).zip(ChunkAddressing::ALL) {
            assert_eq!(addressing.code(), code);
            assert_eq!(ChunkAddressing::from_code(code), Some(addressing));
            assert_eq!(addressing.name().parse(), Ok(addressing));
            assert_eq!(addressing.spec_len() % addressing.integer_len(), 0);
        }
        assert!((5..=255).all(|code| ChunkAddressing::from_code(code).is_none()));
        assert_eq!("Chunk32".parse::<ChunkAddressing>(), Err(UnknownName));
    }

    #[test]
    fn groups_that_a_range_touches() {
        let geometry = of_chunks(40);
        let touched = |start, end| {
            geometry.groups_touching(ChunkRange::new(start, end)).map(GroupIndex::value).collect::<Vec<_>>()
        };
        assert_eq!(touched(0, 1), [0]);
        assert_eq!(touched(0, 16), [0]);
        assert_eq!(touched(15, 17), [0, 1]);
        assert_eq!(touched(16, 99), [1, 2]);
        assert_eq!(touched(16, 16), []);
        assert_eq!(touched(40, 99), []);
        assert_eq!(touched(1 << 63, u64::MAX), []);
    }

    fn geometries() -> impl Strategy<Value = Geometry> {
        let lengths = prop_oneof![1u64..600_000, 1u64..1 << 40, 1u64..=i64::MAX as u64];
        (lengths, prop_oneof![prop::sample::select(&SIZES), 512u32..=61_440], any::<bool>()).prop_map(
            |(length, bytes, known)| {
                let geometry = Geometry::new(length, size(bytes)).unwrap();
                if known { geometry } else { Geometry::of_chunks(geometry.chunk_count(), size(bytes)).unwrap() }
            },
        )
    }

    fn numbers() -> impl Strategy<Value = u64> {
        prop_oneof![0u64..1000, any::<u64>(), (0u64..3).prop_map(|below| u64::MAX - below)]
    }

    proptest! {
        #[test]
        fn chunks_and_groups_partition_the_content(length in 1u64..2_000_000, bytes in prop::sample::select(&SIZES)) {
            let geometry = Geometry::new(length, size(bytes)).unwrap();
            let mut offset = 0;
            for chunk in geometry.all().iter() {
                let len = u64::from(geometry.chunk_len(chunk).unwrap());
                prop_assert!(len > 0);
                prop_assert_eq!(geometry.offset(chunk), offset);
                prop_assert_eq!(geometry.byte_range(ChunkRange::single(chunk)), offset..offset + len);
                offset += len;
            }
            prop_assert_eq!(offset, length);
            let mut at = 0;
            for index in 0..geometry.group_count() {
                let chunks = geometry.group_chunks(GroupIndex::new(index));
                prop_assert_eq!(chunks.start(), at);
                prop_assert!(chunks.iter().all(|chunk| geometry.group_of(chunk).value() == index));
                prop_assert!(!chunks.is_empty());
                at = chunks.end();
            }
            prop_assert_eq!(at, geometry.chunk_count());
        }

        #[test]
        fn peaks_are_the_filled_nodes_without_a_filled_parent(chunks in 1u64..300) {
            let geometry = of_chunks(chunks);
            let filled = |bin: Bin| geometry.all().covers(bin.base_range());
            let mut expected = (0..chunks * 2)
                .filter_map(Bin::from_number)
                .filter(|bin| filled(*bin) && !bin.parent().is_some_and(filled))
                .collect::<Vec<_>>();
            expected.sort_by_key(|bin| bin.base_range().start());
            prop_assert_eq!(geometry.peaks().collect::<Vec<_>>(), expected);
        }

        #[test]
        fn every_chunk_lies_below_one_peak_below_the_root(geometry in geometries(), seed in any::<u64>()) {
            let mut end = 0;
            let mut layer = Bin::MAX_LAYER + 1;
            for peak in geometry.peaks() {
                prop_assert_eq!(peak.base_range().start(), end);
                prop_assert!(peak.layer() < layer, "descending");
                prop_assert!(geometry.root().contains(peak));
                end = peak.base_range().end();
                layer = peak.layer();
            }
            prop_assert_eq!(end, geometry.chunk_count());
            prop_assert_eq!(geometry.peaks().count(), geometry.chunk_count().count_ones() as usize);
            let root = geometry.root();
            let half = root.children().map_or(0, |(left, _)| left.base_range().end());
            prop_assert!(root.base_range().end() >= geometry.chunk_count() && half < geometry.chunk_count());
            for chunk in [0, seed % geometry.chunk_count(), geometry.chunk_count() - 1].map(ChunkIndex::new) {
                let above = geometry.peaks().find(|peak| peak.base_range().contains(chunk));
                prop_assert_eq!(geometry.peak_of(chunk), above);
            }
        }

        #[test]
        fn foreign_numbers_do_no_harm(geometry in geometries(), start in numbers(), end in numbers()) {
            let chunk = ChunkIndex::new(start);
            let inside = geometry.all().contains(chunk);
            prop_assert_eq!(geometry.peak_of(chunk).is_some(), inside);
            prop_assert_eq!(geometry.chunk_len(chunk).is_some(), inside && (start + 1 < geometry.chunk_count()
                || geometry.content_length().is_some()));
            prop_assert!(geometry.all().covers(geometry.group_chunks(GroupIndex::new(start))));
            prop_assert_eq!(geometry.group_chunks(geometry.group_of(chunk)).contains(chunk), inside);
            let range = ChunkRange::new(start, end);
            let bytes = geometry.byte_range(range);
            let whole = geometry.byte_range(geometry.all());
            prop_assert!(bytes.start <= bytes.end && bytes.end <= whole.end);
            prop_assert_eq!(bytes.is_empty(), !range.intersects(geometry.all()));
            let touched = geometry.groups_touching(range);
            prop_assert_eq!(touched.clone().next().is_some(), range.intersects(geometry.all()));
            if let Some(last) = touched.clone().next_back() {
                prop_assert!(geometry.group_chunks(last).intersects(range));
                prop_assert!(last.value() < geometry.group_count());
            }
        }
    }
}
