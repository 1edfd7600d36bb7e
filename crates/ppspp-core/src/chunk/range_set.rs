//! Sets of chunks, kept as runs.

use alloc::vec::Vec;

use super::{ChunkIndex, ChunkRange};

/// A set of chunks, stored as disjoint, non-adjacent runs in order: everything, or a long run, costs 16 bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RangeSet {
    runs: Vec<ChunkRange>,
}

impl RangeSet {
    /// The empty set; allocates nothing.
    pub const fn new() -> Self {
        Self { runs: Vec::new() }
    }

    /// Adds `range`; returns how many chunks were new.
    pub fn insert(&mut self, range: ChunkRange) -> u64 {
        let _ = range;
        0
    }

    /// Removes `range`; returns how many chunks were there.
    pub fn remove(&mut self, range: ChunkRange) -> u64 {
        let _ = range;
        0
    }
    /// whether
    pub fn contains(&self, chunk: ChunkIndex) -> bool {
        let _ = chunk;
        false
    }
}
