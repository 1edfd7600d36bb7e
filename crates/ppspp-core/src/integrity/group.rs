//! The nodes of one group, from its chunks up to the group hash.

use alloc::vec::Vec;
use core::slice;

use arrayvec::ArrayVec;

use super::hash::{copy_hash, is_zero};
use super::{Hash, HashFunction, Hashes};
use crate::chunk::{Bin, ChunkRange, Geometry, GroupIndex};

/// Most chunks in a group: 16 KiB of 512-byte chunks.
const MAX_CHUNKS: usize = 32;

/// The known nodes of one group (ruling R2): those over its chunks, at most 63.
///
/// A group that the content's end cuts has no node over all of its chunks but one top for each one bit of their count;
/// these tops are peaks of the content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupNodes {
    function: HashFunction,
    chunks: ChunkRange,
    /// Bit n: the n-th node in order is known.
    known: u64,
    /// In order, [`HashFunction::len`] bytes each; allocated with the first node.
    hashes: Vec<u8>,
}

impl GroupNodes {
    /// No node known of the group with `chunks`; allocates nothing.
    ///
    /// Only the first 32 chunks count, the most a group has.
    pub const fn empty(function: HashFunction, chunks: ChunkRange) -> Self {
        let chunks = chunks.intersection(ChunkRange::new(chunks.start(), chunks.start() + MAX_CHUNKS as u64));
        Self { function, chunks, known: 0, hashes: Vec::new() }
    }

    /// Every node of `group`, recomputed from its bytes.
    ///
    /// `None` if `data` is not as long as [`Geometry::byte_range`] says of the group, or the group does not exist.
    pub fn from_data(function: HashFunction, geometry: &Geometry, group: GroupIndex, data: &[u8]) -> Option<Self> {
        let mut nodes = Self::empty(function, ChunkRange::EMPTY);
        nodes.refill(geometry, group, data).then_some(nodes)
    }

    /// The same of every group that lies whole in `range`, of which `data` are the bytes, in order: they are hashed
    /// together, which takes less time. `leaves` are what the chunks of each group hash to, side by side, where that is
    /// known.
    pub(crate) fn of_whole_groups(
        function: HashFunction,
        geometry: &Geometry,
        range: ChunkRange,
        data: &[u8],
        leaves: &[Option<&[u8]>],
    ) -> Vec<Self> {
        let bytes = geometry.byte_range(range);
        if bytes.end - bytes.start != data.len() as u64 {
            return Vec::new();
        }
        let whole = geometry.groups_touching(range).map(|group| geometry.group_chunks(group));
        let mut nodes: Vec<Self> = whole
            .filter(|chunks| range.covers(*chunks))
            .map(|chunks| Self { function, chunks, known: 0, hashes: Vec::new() })
            .collect();
        // The content's end may cut the last one: its layers have an odd node that is not to be paired with the next.
        let cut = nodes.last().is_some_and(|last| !last.chunks.count().is_power_of_two());
        let even = nodes.len() - usize::from(cut);
        let known = leaves.split_at(even.min(leaves.len()));
        let (even, odd) = nodes.split_at_mut(even);
        for (groups, leaves) in [(even, known.0), (odd, known.1)] {
            if let [first, ..] = groups {
                let start = geometry.byte_range(first.chunks).start - bytes.start;
                let data = data.get(start as usize..).unwrap_or_default();
                Self::fill(groups, geometry.chunk_size().bytes() as usize, data, leaves);
            }
        }
        nodes
    }

    /// [`GroupNodes::from_data`] that reuses the memory; false, with no node known, if `data` does not fit.
    pub(super) fn refill(&mut self, geometry: &Geometry, group: GroupIndex, data: &[u8]) -> bool {
        self.known = 0;
        self.chunks = geometry.group_chunks(group);
        let bytes = geometry.byte_range(self.chunks);
        if self.chunks.is_empty() || bytes.end - bytes.start != data.len() as u64 {
            self.chunks = ChunkRange::EMPTY;
            return false;
        }
        Self::fill(slice::from_mut(self), geometry.chunk_size().bytes() as usize, data, &[]);
        true
    }

    /// Computes every node of `groups` from their bytes, the start of `data`: one group, or several of a power of two of
    /// chunks, the same for all but for a last one that is smaller. `leaves` as of [`GroupNodes::of_whole_groups`].
    fn fill(groups: &mut [Self], size: usize, data: &[u8], leaves: &[Option<&[u8]>]) {
        let Some(Self { function, chunks: first, .. }) = groups.first() else { return };
        let (function, per_group) = (*function, first.count() as usize);
        let count: usize = groups.iter().map(|group| group.chunks.count() as usize).sum();
        for group in &mut *groups {
            group.hashes.resize(group.node_count() * function.len(), 0);
        }
        let mut layer = Vec::with_capacity(count * function.len());
        let mut pending: Vec<&[u8]> = Vec::with_capacity(count);
        let mut rest = data.chunks(size);
        let mut leaves = leaves.iter();
        for group in &*groups {
            let chunks = group.chunks.count() as usize;
            if let Some(Some(leaves)) = leaves.next() {
                function.digest_all(&pending, &mut layer);
                pending.clear();
                layer.extend_from_slice(leaves);
                rest.nth(chunks - 1);
            } else {
                pending.extend(rest.by_ref().take(chunks));
            }
        }
        function.digest_all(&pending, &mut layer);
        for height in 0..=per_group.ilog2() {
            if height > 0 {
                layer = function.parents(&layer);
            }
            let mut rest = layer.as_slice();
            for group in &mut *groups {
                let count = group.chunks.count() as usize >> height;
                let (hashes, others) = rest.split_at(rest.len().min(count * function.len()));
                group.put_layer(height, hashes);
                rest = others;
            }
        }
    }

    /// Keeps the first nodes of `layer`, side by side in `hashes`; there is room for them.
    fn put_layer(&mut self, layer: u32, hashes: &[u8]) {
        let len = self.function.len();
        let mut index = place(layer, 0);
        for hash in hashes.chunks_exact(len) {
            if let Some(room) = self.hashes.get_mut(index * len..(index + 1) * len) {
                copy_hash(room, hash);
                self.known |= 1 << index;
            }
            index += 2 << layer;
        }
    }

    /// The group's chunks.
    pub const fn chunks(&self) -> ChunkRange {
        self.chunks
    }

    /// The hash of `bin`, if it is known and a node of this group.
    #[inline]
    pub fn get(&self, bin: Bin) -> Option<&[u8]> {
        // A number is that of one bin only, and only nodes of this group are known.
        let index = bin.number().checked_sub(self.chunks.start() << 1)?;
        if index >= u64::from(u64::BITS) || self.known >> index & 1 == 0 {
            return None;
        }
        let (index, len) = (index as usize, self.function.len());
        self.hashes.get(index * len..(index + 1) * len)
    }

    /// Makes `hash` that of `bin`. A bin outside the group, or a hash of another length, is ignored.
    pub fn set(&mut self, bin: Bin, hash: &[u8]) {
        if let Some(index) = self.index(bin).filter(|_| hash.len() == self.function.len()) {
            self.known &= !(1 << index);
            let proposed = self.propose([(bin, hash)]);
            self.accept(proposed);
        }
    }

    /// Puts hashes into the places of their bins, unless one is known there; they are known once what this returns is
    /// accepted. A bin outside the group, or a hash of another length, is ignored.
    #[inline]
    pub(super) fn propose<const N: usize>(&mut self, nodes: [(Bin, &[u8]); N]) -> u64 {
        let len = self.function.len();
        let mut proposed = 0;
        for (bin, hash) in nodes {
            let Some(index) = self.index(bin).filter(|index| hash.len() == len && self.known >> index & 1 == 0) else {
                continue;
            };
            if self.hashes.is_empty() {
                self.hashes.resize(self.node_count() * len, 0);
            }
            if let Some(place) = self.hashes.get_mut(index * len..(index + 1) * len) {
                copy_hash(place, hash);
                proposed |= 1 << index;
            }
        }
        proposed
    }

    /// Makes known what [`GroupNodes::propose`] put into its place.
    #[inline]
    pub(super) const fn accept(&mut self, proposed: u64) {
        self.known |= proposed;
    }

    /// Climbs from the `place`-th chunk, which hashes to `leaf`, to the first known node, each step beside the next of
    /// `along` from the last to the first: the order of RFC 7574 §5.4. Returns whether that node has the hash which
    /// results; then all on the way and beside it are known.
    ///
    /// `None`, with nothing known that was not, unless these are just the hashes that it takes.
    #[inline]
    pub(super) fn prove(&mut self, place: u32, leaf: &Hash, along: Hashes<'_>) -> Option<bool> {
        let len = self.function.len();
        let (mut hash, mut above);
        hash = leaf.as_slice();
        let mut index = 2 * place as usize;
        let mut sibling_at = 2;
        let mut proven = 0;
        for (bin, beside) in along.iter().rev() {
            let sibling = index ^ sibling_at;
            let named = bin.number() == (self.chunks.start() << 1) + sibling as u64 && sibling < self.node_count();
            // R1: a node with content is never all-zero.
            let sound = beside.len() == len && hash.len() == len && !is_zero(beside);
            if !named || !sound || (self.known >> index | self.known >> sibling) & 1 != 0 {
                return None;
            }
            copy_hash(self.hashes.get_mut(index * len..(index + 1) * len)?, hash);
            copy_hash(self.hashes.get_mut(sibling * len..(sibling + 1) * len)?, beside);
            proven |= 1 << index | 1 << sibling;
            above = if index < sibling { self.function.node(hash, beside) } else { self.function.node(beside, hash) };
            hash = above.as_slice();
            // The node above lies halfway between the two.
            index = (index | sibling_at >> 1) & !sibling_at;
            sibling_at <<= 1;
        }
        if self.known >> index & 1 == 0 {
            return None;
        }
        let right = self.hashes.get(index * len..(index + 1) * len)? == hash;
        self.known |= if right { proven } else { 0 };
        Some(right)
    }

    /// The group hash, or for a group that the content's end cuts, the peaks inside it; left to right.
    ///
    /// `None` stands for a top that is not known.
    pub fn tops(&self) -> impl Iterator<Item = (Bin, Option<&[u8]>)> {
        tops(self.chunks).map(|top| (top, self.get(top)))
    }

    /// Every known node, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Bin, &[u8])> {
        let first = self.chunks.start() << 1;
        (0..self.node_count() as u64).filter_map(move |index| {
            let bin = Bin::from_number(first + index)?;
            Some((bin, self.get(bin)?))
        })
    }

    /// Nodes in order from the first leaf to the last.
    const fn node_count(&self) -> usize {
        (self.chunks.count() as usize * 2).saturating_sub(1)
    }

    /// Place of `bin` among the group's nodes; `None` unless all its chunks are the group's.
    #[inline]
    fn index(&self, bin: Bin) -> Option<usize> {
        let index = bin.number().checked_sub(self.chunks.start() << 1)?;
        let (reach, count) = (bin.base_range().count(), self.node_count() as u64);
        // In order, the nodes over a run lie between its first and its last leaf.
        (index < count && reach <= index + 1 && index + reach <= count).then_some(index as usize)
    }
}

/// Place in order of the `offset`-th node of `layer`, counted from the group's first.
const fn place(layer: u32, offset: usize) -> usize {
    (offset << (layer + 1)) + (1 << layer) - 1
}

/// The largest nodes over `chunks`, left to right.
fn tops(chunks: ChunkRange) -> impl Iterator<Item = Bin> {
    let mut rest = chunks;
    core::iter::from_fn(move || {
        let top = Bin::largest_prefix(rest)?;
        rest = ChunkRange::new(top.base_range().end(), rest.end());
        Some(top)
    })
}

/// A copy of every top; `None` while one is unknown.
pub(super) fn top_hashes(nodes: &GroupNodes) -> Option<ArrayVec<(Bin, Hash), 6>> {
    nodes.tops().map(|(bin, hash)| Some((bin, Hash::from_slice(hash?)?))).collect()
}

/// Verified nodes of a group that is not complete, to be saved and taken up again (ruling R2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SavedGroup {
    group: GroupIndex,
    nodes: Vec<(Bin, Hash)>,
}

impl SavedGroup {
    /// The nodes of `group` that are known; nodes beyond the most a group can have are left out.
    pub fn new(group: GroupIndex, nodes: impl IntoIterator<Item = (Bin, Hash)>) -> Self {
        Self { group, nodes: nodes.into_iter().take(2 * MAX_CHUNKS - 1).collect() }
    }

    /// Which group.
    pub const fn group(&self) -> GroupIndex {
        self.group
    }

    /// Its nodes, each with its place in the chunk tree.
    pub fn nodes(&self) -> &[(Bin, Hash)] {
        &self.nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integrity::HashRow;
    use crate::integrity::reference::Content;

    #[test]
    fn recomputed_nodes_are_those_of_the_reference() {
        let cases = [(512, 33, 512), (512, 31, 3), (1024, 1, 1), (1024, 23, 1000), (8192, 5, 8192), (61440, 2, 61439)];
        for (size, chunks, last) in cases {
            let content = Content::new(HashFunction::Sha256, size, chunks, last);
            for group in (0..content.geometry.group_count()).map(GroupIndex::new) {
                let range = content.geometry.group_chunks(group);
                let data = content.bytes(range);
                let nodes = GroupNodes::from_data(HashFunction::Sha256, &content.geometry, group, data).unwrap();
                assert_eq!(nodes.chunks(), range);
                assert_eq!(nodes.iter().count() as u64, 2 * range.count() - u64::from(range.count().count_ones()));
                for (bin, hash) in nodes.iter() {
                    assert_eq!(hash, content.node(bin).as_slice(), "{bin:?}");
                }
                for (top, hash) in nodes.tops() {
                    assert_eq!(hash, Some(content.node(top).as_slice()), "{top:?}");
                }
            }
        }
    }

    #[test]
    fn groups_hashed_together_are_like_each_alone() {
        for function in HashFunction::ALL {
            for chunks in [1, 8, 15, 16, 17, 24, 32, 39, 64, 71, 80] {
                let content = Content::new(function, 1024, chunks, 700);
                let geometry = &content.geometry;
                for (start, end) in [(0, chunks), (3, chunks), (0, chunks - chunks / 3), (16, 64)] {
                    let range = ChunkRange::new(start.min(end), end.min(chunks));
                    let together = GroupNodes::of_whole_groups(function, geometry, range, content.bytes(range), &[]);
                    let whole =
                        geometry.groups_touching(range).filter(|&group| range.covers(geometry.group_chunks(group)));
                    let alone: Vec<GroupNodes> = whole
                        .map(|group| {
                            let data = content.bytes(geometry.group_chunks(group));
                            GroupNodes::from_data(function, geometry, group, data).unwrap()
                        })
                        .collect();
                    assert_eq!(together, alone, "{function}, {range:?} of {chunks}");
                    // Some of which the chunk hashes are known.
                    let leaves: Vec<Vec<u8>> = alone
                        .iter()
                        .map(|nodes| {
                            nodes
                                .chunks()
                                .iter()
                                .flat_map(|chunk| function.leaf(content.chunk(chunk.value())).as_slice().to_vec())
                                .collect()
                        })
                        .collect();
                    for known in [1, 2, 3, 5] {
                        let leaves = leaves.iter().enumerate();
                        let leaves: Vec<_> = leaves
                            .map(|(group, leaves)| group.is_multiple_of(known).then_some(leaves.as_slice()))
                            .collect();
                        let data = content.bytes(range);
                        assert_eq!(GroupNodes::of_whole_groups(function, geometry, range, data, &leaves), alone);
                    }
                }
                let all = geometry.all();
                let short = &content.bytes(all)[1..];
                assert!(GroupNodes::of_whole_groups(function, geometry, all, short, &[]).is_empty());
            }
        }
    }

    /// In a group that the content's end cuts, the way up passes places beside known nodes that are not below a known one.
    #[test]
    fn hashes_that_come_along_replace_no_known_node() {
        let content = Content::new(HashFunction::Sha256, 1024, 15, 1024);
        let bin = |number| Bin::from_number(number).unwrap();
        let node = |number| content.node(bin(number));
        let mut nodes = GroupNodes::empty(HashFunction::Sha256, content.geometry.all());
        nodes.set(bin(7), node(7).as_slice());
        let other = HashFunction::Sha256.leaf(b"other");
        let along = [(bin(7), other), (bin(27), other), (bin(21), node(21)), (bin(18), node(18))];
        let along: HashRow = along.into_iter().collect();
        assert_eq!(nodes.prove(8, &node(16), along.all()), None);
        assert_eq!(nodes.iter().collect::<Vec<_>>(), [(bin(7), node(7).as_slice())]);
        nodes.set(bin(19), node(19).as_slice());
        assert_eq!(nodes.prove(8, &node(16), along.part(2, 4)), Some(true));
    }

    #[test]
    fn bytes_that_are_not_the_group_are_refused() {
        let content = Content::new(HashFunction::Sha1, 1024, 23, 1000);
        let whole = content.bytes(ChunkRange::new(0, 16));
        let refused = |group, data: &[u8]| {
            GroupNodes::from_data(HashFunction::Sha1, &content.geometry, GroupIndex::new(group), data).is_none()
        };
        assert!(!refused(0, whole));
        assert!(refused(0, &whole[1..]));
        assert!(refused(1, whole));
        assert!(refused(2, &[]));
        assert!(refused(u64::MAX >> 4, &[]));
    }

    #[test]
    fn nodes_outside_the_group_have_no_place() {
        let mut nodes = GroupNodes::empty(HashFunction::Sha1, ChunkRange::new(16, 23));
        for number in 0..200 {
            nodes.set(Bin::from_number(number).unwrap(), &[1; 20]);
        }
        nodes.set(Bin::EVERYTHING, &[1; 20]);
        nodes.set(Bin::leftmost(0), &[1; 20]);
        // 4 + 2 + 1 chunks.
        assert_eq!(nodes.iter().count(), 7 + 3 + 1);
        assert!(nodes.iter().all(|(bin, _)| nodes.chunks().covers(bin.base_range())));
        let mut short = GroupNodes::empty(HashFunction::Sha1, ChunkRange::new(16, 23));
        short.set(Bin::at(0, 16).unwrap(), &[1; 21]);
        assert_eq!(short.iter().count(), 0);
        assert_eq!(short.hashes.capacity(), 0);
    }

    #[test]
    fn a_group_never_has_more_than_63_nodes() {
        let mut nodes = GroupNodes::empty(HashFunction::Sha1, ChunkRange::new(0, u64::MAX));
        assert_eq!(nodes.chunks().count(), 32);
        for number in 0..1000 {
            nodes.set(Bin::from_number(number).unwrap(), &[1; 20]);
        }
        assert_eq!(nodes.iter().count(), 63);
    }
}
