//! Groups that are begun: which of their chunks are verified, and the nodes that prove them.

use super::{GroupNodes, Hash, Hashes, TreeParams};
use crate::chunk::{ChunkIndex, ChunkRange, Geometry, GroupIndex};

/// A group of which not every chunk is verified and stored.
#[derive(Clone, Debug)]
pub struct OpenGroup {
    pub(super) nodes: GroupNodes,
    pub(super) have: u32,
}

impl OpenGroup {
    /// A group of which nothing is known.
    pub(super) const fn new(params: TreeParams, geometry: &Geometry, group: GroupIndex) -> Self {
        Self { nodes: GroupNodes::empty(params.function, geometry.group_chunks(group)), have: 0 }
    }

    /// The verified nodes below the group hash.
    pub const fn nodes(&self) -> &GroupNodes {
        &self.nodes
    }

    /// Bit n: the n-th chunk of the group is verified.
    pub const fn have(&self) -> u32 {
        self.have
    }

    /// The group's chunks.
    pub const fn chunks(&self) -> ChunkRange {
        self.nodes.chunks()
    }

    /// Whether what is known here and the hashes that came along verify a `chunk` that hashes to `leaf`.
    #[inline]
    pub(super) fn check(&mut self, chunk: ChunkIndex, leaf: &Hash, along: Hashes<'_>) -> bool {
        let bit = mask_of(self, chunk);
        let good = self.have & bit == 0 && self.nodes.prove(bit.trailing_zeros(), leaf, along) == Some(true);
        self.have |= if good { bit } else { 0 };
        good
    }

    /// Whether every chunk is verified.
    pub const fn is_complete(&self) -> bool {
        self.have == full_mask(self.nodes.chunks())
    }
}

/// One bit for each chunk of a group.
pub(crate) const fn full_mask(chunks: ChunkRange) -> u32 {
    match chunks.count() {
        0 => 0,
        count if count >= 32 => u32::MAX,
        count => (1 << count) - 1,
    }
}

/// The bit of `chunk` in its group.
#[inline]
pub(super) const fn mask_of(open: &OpenGroup, chunk: ChunkIndex) -> u32 {
    let place = chunk.value().wrapping_sub(open.nodes.chunks().start());
    if place < 32 { 1 << place } else { 0 }
}
