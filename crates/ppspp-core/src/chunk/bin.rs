//! Bin numbers (RFC 7574 §4.2): one integer for an aligned power-of-two run of chunks.

use core::fmt;

use super::{ChunkIndex, ChunkRange};

/// A node of the binary tree over all chunks, numbered in order: leaves are even, a parent lies between its children.
///
/// The number's trailing one bits give its layer, the rest its place in that layer. Every `u64` but
/// `u64::MAX`, which the wire uses for "empty", is a bin; absence is `Option<Bin>` here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bin(u64);

impl Bin {
    /// The root over 2^63 chunks: "everything" on the wire (RFC 7574 §4.2).
    pub const EVERYTHING: Self = Self(u64::MAX >> 1);
    /// The highest layer, that of [`Bin::EVERYTHING`].
    pub const MAX_LAYER: u8 = 63;

    /// The bin numbered `number`; `None` for `u64::MAX`, the empty interval.
    pub const fn from_number(number: u64) -> Option<Self> {
        if number == u64::MAX { None } else { Some(Self(number)) }
    }

    /// The bin of one chunk; `None` above the 2^63 chunks that bins can name.
    pub const fn leaf(chunk: ChunkIndex) -> Option<Self> {
        if chunk.value() >> 63 == 0 { Some(Self(chunk.value() << 1)) } else { None }
    }

    /// The `offset`-th bin of `layer`, counted from the left; `None` if there is none.
    pub const fn at(layer: u8, offset: u64) -> Option<Self> {
        if layer > Self::MAX_LAYER || (offset >> (63 - layer)) != 0 {
            return None;
        }
        let ones = (1u64 << layer) - 1;
        // layer + 1 is at most 64: shift in two steps.
        Some(Self(((offset << layer) << 1) | ones))
    }

    /// The leftmost bin of `layer`, or [`Bin::EVERYTHING`] for a layer above it.
    pub const fn leftmost(layer: u8) -> Self {
        if layer >= Self::MAX_LAYER { Self::EVERYTHING } else { Self((1u64 << layer) - 1) }
    }

    /// The bin that spans exactly `range`; `None` unless it is an aligned power-of-two run.
    pub const fn spanning(range: ChunkRange) -> Option<Self> {
        let count = range.count();
        if !count.is_power_of_two() || range.start() & (count - 1) != 0 {
            return None;
        }
        let layer = count.trailing_zeros() as u8;
        Self::at(layer, range.start() >> layer)
    }

    /// The largest bin that starts at `range`'s start and lies within `range`; `None` if `range` is empty or too high.
    pub const fn largest_prefix(range: ChunkRange) -> Option<Self> {
        let Some(fits) = range.count().checked_ilog2() else {
            return None;
        };
        let aligned = range.start().trailing_zeros();
        let layer = if aligned < fits { aligned } else { fits } as u8;
        Self::at(layer, range.start() >> layer)
    }

    /// The bin number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Height above the leaves, 0 to 63.
    pub const fn layer(self) -> u8 {
        self.0.trailing_ones() as u8
    }

    /// Place within the layer, counted from the left.
    pub const fn offset(self) -> u64 {
        (self.0 >> self.layer()) >> 1
    }

    /// Whether the bin is a single chunk.
    pub const fn is_leaf(self) -> bool {
        self.0 & 1 == 0
    }

    /// Whether the bin is the left child of its parent. [`Bin::EVERYTHING`] counts as one.
    pub const fn is_left(self) -> bool {
        self.offset() & 1 == 0
    }

    /// The bin one layer up; `None` above [`Bin::EVERYTHING`].
    pub const fn parent(self) -> Option<Self> {
        Self::at(self.layer() + 1, self.offset() >> 1)
    }

    /// The other child of the parent; `None` for [`Bin::EVERYTHING`].
    pub const fn sibling(self) -> Option<Self> {
        Self::at(self.layer(), self.offset() ^ 1)
    }

    /// The left and right halves; `None` for a leaf.
    pub const fn children(self) -> Option<(Self, Self)> {
        if self.is_leaf() {
            return None;
        }
        let half = 1u64 << (self.layer() - 1);
        Some((Self(self.0 - half), Self(self.0 + half)))
    }

    /// The ancestor at `layer`, or the bin itself if it lies there or above.
    #[must_use]
    pub const fn ancestor(self, layer: u8) -> Self {
        if layer <= self.layer() || layer > Self::MAX_LAYER {
            return self;
        }
        // Clears the bit above the layer's ones; bits further up say where the ancestor lies.
        let ones = (1u64 << layer) - 1;
        Self((self.0 | ones) & !(1u64 << layer))
    }

    /// The chunks below the bin.
    pub const fn base_range(self) -> ChunkRange {
        let layer = self.layer();
        let start = self.offset() << layer;
        ChunkRange::new(start, start + (1u64 << layer))
    }

    /// Whether `other` is this bin or lies below it.
    pub const fn contains(self, other: Self) -> bool {
        self.base_range().covers(other.base_range())
    }
}

impl fmt::Debug for Bin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bin {} ({:?})", self.0, self.base_range())
    }
}

impl fmt::Display for Bin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
