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
        let chunks = GROUP_BYTES / self.0;
        if chunks == 0 { 0 } else { chunks.ilog2() as u8 }
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
    #[error("the content is empty")]
    Empty,
    /// The content is longer than 2^63 - 1 bytes.
    #[error("a content of {0} bytes is longer than any supported content")]
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
        Ok(Self { chunk_size, chunks, last_len: Some(last_len) })
    }

    /// The cut of a content of `chunks` chunks whose exact length is not known yet.
    ///
    /// # Errors
    /// [`GeometryError::Empty`] for zero chunks, [`GeometryError::TooLong`] if even the shortest such content is.
    pub const fn of_chunks(chunks: u64, chunk_size: ChunkSize) -> Result<Self, GeometryError> {
        if chunks == 0 {
            return Err(GeometryError::Empty);
        }
        match chunks.checked_mul(chunk_size.0 as u64) {
            Some(length) if length <= MAX_CONTENT_LENGTH => Ok(Self { chunk_size, chunks, last_len: None }),
            _ => Err(GeometryError::TooLong(chunks)),
        }
    }

    /// The same cut with the last chunk known to be `last_len` bytes; `None` unless 1..=chunk size.
    #[must_use]
    pub const fn with_last_len(self, last_len: u32) -> Option<Self> {
        if last_len == 0 || last_len > self.chunk_size.0 {
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
            Some(last) => Some((self.chunks - 1) * self.chunk_size.0 as u64 + last as u64),
            None => None,
        }
    }

    /// Offset of the first byte of `chunk`.
    pub const fn offset(self, chunk: ChunkIndex) -> u64 {
        chunk.value() * self.chunk_size.0 as u64
    }

    /// Length of `chunk`; `None` for the last chunk of a content of unknown length and past the end.
    pub const fn chunk_len(self, chunk: ChunkIndex) -> Option<u32> {
        if chunk.value() + 1 < self.chunks {
            Some(self.chunk_size.0)
        } else if chunk.value() + 1 == self.chunks {
            self.last_len
        } else {
            None
        }
    }

    /// The bytes of `range`, clipped to the content. While the length is unknown the last chunk counts as full.
    pub const fn byte_range(self, range: ChunkRange) -> Range<u64> {
        let range = range.intersection(self.all());
        let size = self.chunk_size.0 as u64;
        let mut end = range.end() * size;
        if let Some(length) = self.content_length()
            && end > length
        {
            end = length;
        }
        let start = range.start() * size;
        start..if end < start { start } else { end }
    }

    /// Layer of a whole group.
    pub const fn group_layer(self) -> u8 {
        self.chunk_size.group_layer()
    }

    /// Number of groups.
    pub const fn group_count(self) -> u64 {
        self.chunks.div_ceil(1 << self.group_layer())
    }

    /// The group that holds `chunk`.
    pub const fn group_of(self, chunk: ChunkIndex) -> GroupIndex {
        GroupIndex(chunk.value() >> self.group_layer())
    }

    /// The chunks of `group`, cut at the content's end (ruling R2).
    pub const fn group_chunks(self, group: GroupIndex) -> ChunkRange {
        let start = group.0 << self.group_layer();
        ChunkRange::new(start, start + (1 << self.group_layer())).intersection(self.all())
    }

    /// The groups that `range`, clipped to the content, touches.
    pub fn groups_touching(self, range: ChunkRange) -> impl DoubleEndedIterator<Item = GroupIndex> {
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
        // The highest bit in which the chunk differs from the count is set in the count: that is its peak's layer.
        let layer = (chunk.value() ^ self.chunks).checked_ilog2()?;
        Bin::at(layer as u8, chunk.value() >> layer)
    }

    /// The root of the tree over all chunks: the smallest bin from chunk 0 that covers them (RFC 7574 §5.1).
    pub const fn root(self) -> Bin {
        let layer = if self.chunks == 1 { 0 } else { 64 - (self.chunks - 1).leading_zeros() };
        Bin::leftmost(layer as u8)
    }
}
