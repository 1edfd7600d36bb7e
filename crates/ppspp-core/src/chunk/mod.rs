//! Addressing arithmetic: chunks, runs of chunks, bins, groups, and how they lie in the content's bytes.
//!
//! Nothing here knows about messages, hashes or peers.

mod bin;
#[cfg(feature = "arbitrary")]
mod from_bytes;
mod geometry;
mod group_map;
mod near;
mod range_set;

pub use bin::Bin;
pub use geometry::{ChunkAddressing, ChunkSize, GROUP_BYTES, Geometry, GeometryError, GroupIndex, UnknownName};
pub(crate) use group_map::GroupMap;
pub(crate) use near::partition_near;
pub use range_set::{RangeSet, TooManyRuns};

use core::fmt;

/// The position of a chunk in the content, counted from zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct ChunkIndex(u64);

impl ChunkIndex {
    /// The chunk at position `index`.
    pub const fn new(index: u64) -> Self {
        Self(index)
    }

    /// The position as a number.
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The chunk after this one; saturates.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Debug for ChunkIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chunk {}", self.0)
    }
}

impl fmt::Display for ChunkIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A run of consecutive chunks, `start` included, `end` excluded; possibly empty.
///
/// The wire writes ends inclusively (RFC 7574 §4.1); `wire::chunk_spec` converts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ChunkRange {
    start: u64,
    end: u64,
}

impl ChunkRange {
    /// The empty run.
    pub const EMPTY: Self = Self { start: 0, end: 0 };

    /// The run from `start` up to but excluding `end`; empty if `end <= start`.
    pub const fn new(start: u64, end: u64) -> Self {
        if end <= start { Self { start, end: start } } else { Self { start, end } }
    }

    /// The run that holds `chunk` alone.
    pub const fn single(chunk: ChunkIndex) -> Self {
        Self { start: chunk.0, end: chunk.0.saturating_add(1) }
    }

    /// Position of the first chunk.
    pub const fn start(self) -> u64 {
        self.start
    }

    /// Position after the last chunk.
    pub const fn end(self) -> u64 {
        self.end
    }

    /// Number of chunks.
    pub const fn count(self) -> u64 {
        self.end - self.start
    }

    /// Whether the run holds no chunk.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Whether `chunk` lies in the run.
    pub const fn contains(self, chunk: ChunkIndex) -> bool {
        self.start <= chunk.0 && chunk.0 < self.end
    }

    /// Whether every chunk of `other` lies in the run.
    pub const fn covers(self, other: Self) -> bool {
        other.is_empty() || (self.start <= other.start && other.end <= self.end)
    }

    /// The chunks in both runs.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        let start = if self.start > other.start { self.start } else { other.start };
        let end = if self.end < other.end { self.end } else { other.end };
        Self::new(start, end)
    }

    /// Whether any chunk lies in both runs.
    pub const fn intersects(self, other: Self) -> bool {
        !self.intersection(other).is_empty()
    }

    /// The chunks, in order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = ChunkIndex> {
        (self.start..self.end).map(ChunkIndex)
    }
}

impl fmt::Debug for ChunkRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chunks {}..{}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn run(start: u64, end: u64) -> ChunkRange {
        ChunkRange::new(start, end)
    }

    #[test]
    fn a_reversed_run_is_empty() {
        assert_eq!(run(5, 3), run(5, 5));
        assert!(run(5, 3).is_empty() && run(5, 3).iter().next().is_none());
        assert_eq!(run(5, 3).count(), 0);
    }

    #[test]
    fn the_highest_index_has_no_run() {
        let last = ChunkIndex::new(u64::MAX);
        assert!(ChunkRange::single(last).is_empty());
        assert_eq!(last.next(), last);
        assert!(!run(0, u64::MAX).contains(last));
        assert_eq!(run(0, u64::MAX).count(), u64::MAX);
    }

    #[test]
    fn runs_overlap_cover_and_hold() {
        let base = run(10, 20);
        for (other, shared) in [
            (run(0, 10), 0),
            (run(20, 30), 0),
            (run(0, 11), 1),
            (run(19, 30), 1),
            (run(12, 15), 3),
            (run(0, 99), 10),
            (run(15, 15), 0),
        ] {
            assert_eq!(base.intersection(other).count(), shared, "{other:?}");
            assert_eq!(other.intersection(base).count(), shared, "{other:?}");
            assert_eq!(base.intersects(other), shared > 0, "{other:?}");
            assert_eq!(base.covers(other), shared == other.count(), "{other:?}");
            assert_eq!(other.iter().filter(|chunk| base.contains(*chunk)).count() as u64, shared, "{other:?}");
        }
        assert_eq!(run(3, 6).iter().rev().map(ChunkIndex::value).collect::<Vec<_>>(), [5, 4, 3]);
    }
}
