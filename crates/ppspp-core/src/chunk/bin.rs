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
        // A shift by 64 would overflow: two steps.
        Some(Self(((offset << layer) << 1) | ones))
    }

    /// The leftmost bin of `layer`, or [`Bin::EVERYTHING`] for a layer above it.
    pub const fn leftmost(layer: u8) -> Self {
        if layer >= Self::MAX_LAYER { Self::EVERYTHING } else { Self((1u64 << layer) - 1) }
    }

    /// The bin that spans exactly `range`; `None` unless it is an aligned power-of-two run.
    pub const fn spanning(range: ChunkRange) -> Option<Self> {
        let (start, count) = (range.start(), range.count());
        if !count.is_power_of_two() || start & (count - 1) != 0 || range.end() > Self::EVERYTHING.0 + 1 {
            return None;
        }
        // Halfway between its first and its last leaf.
        Some(Self(2 * start + (count - 1)))
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

    /// Whether this is `top` or lies in the tree below it.
    #[inline]
    pub const fn is_under(self, top: Self) -> bool {
        // In order, a subtree's numbers are as many on either side of its top's.
        self.0.abs_diff(top.0) < 1 << top.layer()
    }

    /// The bin number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Height above the leaves, 0 to 63.
    pub const fn layer(self) -> u8 {
        self.0.trailing_ones() as u8
    }

    /// How many chunks lie below: the lowest zero bit of the number.
    #[inline]
    const fn width(self) -> u64 {
        !self.0 & self.0.wrapping_add(1)
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
        // The bit above the ones is the lowest of the offset.
        self.0 & (self.width() << 1) == 0
    }

    /// The bin one layer up; `None` above [`Bin::EVERYTHING`].
    pub const fn parent(self) -> Option<Self> {
        match self.width() << 1 {
            0 => None,
            above => Some(Self((self.0 | self.width()) & !above)),
        }
    }

    /// The other child of the parent; `None` for [`Bin::EVERYTHING`].
    pub const fn sibling(self) -> Option<Self> {
        match self.width() << 1 {
            0 => None,
            above => Some(Self(self.0 ^ above)),
        }
    }

    /// The left and right halves; `None` for a leaf.
    pub const fn children(self) -> Option<(Self, Self)> {
        if self.is_leaf() {
            return None;
        }
        let half = 1u64 << (self.layer() - 1);
        Some((Self(self.0 - half), Self(self.0 + half)))
    }

    /// The ancestor at `layer`, or the bin itself if it lies there or above; above layer 63, [`Bin::EVERYTHING`].
    #[must_use]
    pub const fn ancestor(self, layer: u8) -> Self {
        if layer <= self.layer() {
            return self;
        }
        if layer >= Self::MAX_LAYER {
            return Self::EVERYTHING;
        }
        // Clears the bit above the layer's ones; bits further up say where the ancestor lies.
        let ones = (1u64 << layer) - 1;
        Self((self.0 | ones) & !(1u64 << layer))
    }

    /// The chunks below the bin.
    pub const fn base_range(self) -> ChunkRange {
        // Without the ones: the offset, shifted by one more than the layer.
        let start = (self.0 & self.0.wrapping_add(1)) >> 1;
        ChunkRange::new(start, start + self.width())
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

#[cfg(test)]
mod tests {
    use std::format;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn bin(number: u64) -> Bin {
        Bin::from_number(number).unwrap()
    }

    #[test]
    fn the_tree_of_the_rfc() {
        // RFC 7574 §4.2, Figure 2: number, layer, offset, first chunk, last chunk, parent
        let figure = [
            (0, 0, 0, 0, 0, 1),
            (1, 1, 0, 0, 1, 3),
            (2, 0, 1, 1, 1, 1),
            (3, 2, 0, 0, 3, 7),
            (4, 0, 2, 2, 2, 5),
            (5, 1, 1, 2, 3, 3),
            (6, 0, 3, 3, 3, 5),
            (7, 3, 0, 0, 7, 15),
            (8, 0, 4, 4, 4, 9),
            (9, 1, 2, 4, 5, 11),
            (10, 0, 5, 5, 5, 9),
            (11, 2, 1, 4, 7, 7),
            (12, 0, 6, 6, 6, 13),
            (13, 1, 3, 6, 7, 11),
            (14, 0, 7, 7, 7, 13),
        ];
        for (number, layer, offset, first, last, parent) in figure {
            let node = bin(number);
            assert_eq!((node.layer(), node.offset()), (layer, offset), "{node:?}");
            assert_eq!(node.base_range(), ChunkRange::new(first, last + 1), "{node:?}");
            assert_eq!(node.parent(), Some(bin(parent)), "{node:?}");
            assert_eq!(node.is_leaf(), first == last, "{node:?}");
        }
        assert_eq!(bin(7).children(), Some((bin(3), bin(11))));
        assert_eq!(bin(11).sibling(), Some(bin(3)));
        assert_eq!(bin(2).children(), None);
        assert_eq!(format!("{} {:?}", bin(11), bin(11)), "11 bin 11 (chunks 4..8)");
    }

    #[test]
    fn the_ends_of_64_bits() {
        let everything = Bin::EVERYTHING;
        assert_eq!(everything.number(), 0x7FFF_FFFF_FFFF_FFFF);
        assert_eq!(everything.layer(), 63);
        assert_eq!(everything.base_range(), ChunkRange::new(0, 1 << 63));
        assert_eq!((everything.parent(), everything.sibling()), (None, None));
        let (left, right) = everything.children().unwrap();
        assert_eq!(right.base_range(), ChunkRange::new(1 << 62, 1 << 63));
        assert_eq!((left.parent(), right.parent()), (Some(everything), Some(everything)));
        assert_eq!(Bin::from_number(u64::MAX), None, "the empty interval");
        let last = Bin::leaf(ChunkIndex::new((1 << 63) - 1)).unwrap();
        assert_eq!(last.number(), u64::MAX - 1);
        assert_eq!((last.offset(), last.is_left()), ((1 << 63) - 1, false));
        assert_eq!(last.ancestor(63), everything);
        assert_eq!(last.ancestor(255), everything);
        for beyond in [1 << 63, u64::MAX] {
            assert_eq!(Bin::leaf(ChunkIndex::new(beyond)), None);
        }
        assert_eq!(Bin::at(63, 0), Some(everything));
        assert_eq!((Bin::at(63, 1), Bin::at(62, 2), Bin::at(0, 1 << 63), Bin::at(64, 0)), (None, None, None, None));
        assert_eq!((Bin::leftmost(63), Bin::leftmost(64), Bin::leftmost(255)), (everything, everything, everything));
    }

    #[test]
    fn the_ends_of_32_bits() {
        let last = Bin::leaf(ChunkIndex::new(u64::from(u32::MAX >> 1))).unwrap();
        assert_eq!(last.number(), 0xFFFF_FFFE, "one below the empty interval");
        assert_eq!(Bin::leftmost(31).number(), 0x7FFF_FFFF, "everything");
        assert_eq!(Bin::leftmost(31).base_range(), ChunkRange::new(0, 1 << 31));
        assert!(Bin::leftmost(31).contains(last));
    }

    #[test]
    fn only_aligned_powers_of_two_are_spanned() {
        let everything = ChunkRange::new(0, 1 << 63);
        assert_eq!(Bin::spanning(everything), Some(Bin::EVERYTHING));
        assert_eq!(Bin::spanning(ChunkRange::new(1 << 62, 1 << 63)), Bin::at(62, 1));
        for (start, end) in [(0, 0), (5, 5), (0, 3), (1, 3), (2, 6), (1 << 63, (1 << 63) + 1), (1, u64::MAX)] {
            assert_eq!(Bin::spanning(ChunkRange::new(start, end)), None, "{start}..{end}");
        }
        assert_eq!(Bin::largest_prefix(ChunkRange::new(0, u64::MAX)), Some(Bin::EVERYTHING));
        assert_eq!(Bin::largest_prefix(ChunkRange::new((1 << 63) - 1, u64::MAX)), bin(u64::MAX - 1).into());
        for (start, end) in [(0, 0), (9, 9), (1 << 63, u64::MAX), (u64::MAX, u64::MAX)] {
            assert_eq!(Bin::largest_prefix(ChunkRange::new(start, end)), None, "{start}..{end}");
        }
    }

    fn bins() -> impl Strategy<Value = Bin> {
        // Uniform numbers would hardly ever be of a high layer.
        let by_layer = (0u8..=63, any::<u64>()).prop_map(|(layer, bits)| Bin::at(layer, (bits >> layer) >> 1).unwrap());
        prop_oneof![by_layer, (0u64..2000).prop_map(bin), (0..u64::MAX).prop_map(bin)]
    }

    proptest! {
        #[test]
        fn below_a_bin_are_those_whose_chunks_it_spans(node in bins(), other in bins(), layer in 0u8..=63) {
            for other in [other, node.ancestor(layer.max(node.layer())), node] {
                let spans = other.base_range().covers(node.base_range());
                prop_assert_eq!(node.is_under(other), spans, "{:?} {:?}", node, other);
            }
        }

        #[test]
        fn number_layer_and_offset_agree(node in bins()) {
            prop_assert_eq!(Bin::from_number(node.number()), Some(node));
            prop_assert_eq!(Bin::at(node.layer(), node.offset()), Some(node));
            let range = node.base_range();
            prop_assert_eq!(range.count(), 1 << node.layer());
            prop_assert_eq!(range.start(), node.offset() << node.layer());
            prop_assert_eq!(Bin::spanning(range), Some(node));
            prop_assert_eq!(Bin::largest_prefix(range), Some(node));
            prop_assert_eq!(node.is_leaf(), node.layer() == 0);
            let leaf = Bin::leaf(ChunkIndex::new(range.start())).unwrap();
            prop_assert_eq!(leaf.base_range().start(), range.start());
            prop_assert_eq!(leaf == node, node.is_leaf());
        }

        #[test]
        fn parents_children_and_siblings_agree(node in bins()) {
            if let Some((left, right)) = node.children() {
                prop_assert_eq!(u128::from(node.number()) * 2, u128::from(left.number()) + u128::from(right.number()));
                prop_assert_eq!((left.parent(), right.parent()), (Some(node), Some(node)));
                prop_assert_eq!((left.sibling(), right.sibling()), (Some(right), Some(left)));
                prop_assert!(left.is_left() && !right.is_left());
                prop_assert_eq!(left.base_range().start(), node.base_range().start());
                prop_assert_eq!(left.base_range().end(), right.base_range().start());
                prop_assert_eq!(right.base_range().end(), node.base_range().end());
            }
            prop_assert_eq!(node.parent().is_none(), node == Bin::EVERYTHING);
            if let (Some(parent), Some(sibling)) = (node.parent(), node.sibling()) {
                let children = if node.is_left() { (node, sibling) } else { (sibling, node) };
                prop_assert_eq!(parent.children(), Some(children));
                prop_assert_eq!(parent.layer(), node.layer() + 1);
            }
        }

        #[test]
        fn an_ancestor_is_reached_by_parents(node in bins(), layer in 0u8..=63) {
            let mut expected = node;
            while expected.layer() < layer {
                expected = expected.parent().unwrap();
            }
            prop_assert_eq!(node.ancestor(layer), expected);
            prop_assert!(expected.contains(node));
        }

        #[test]
        fn containment_is_ancestry(one in bins(), other in bins()) {
            for (upper, lower) in [(one, other), (other, one)] {
                let above = lower.layer() <= upper.layer() && lower.ancestor(upper.layer()) == upper;
                prop_assert_eq!(upper.contains(lower), above);
            }
            let apart = !one.base_range().intersects(other.base_range());
            prop_assert_eq!(apart, !one.contains(other) && !other.contains(one), "bins nest or are disjoint");
        }

        #[test]
        fn prefixes_tile_a_range(start in 0u64..1000, count in 1u64..1000, shift in 0u32..=52) {
            let range = ChunkRange::new(start << shift, (start + count) << shift);
            let mut rest = range;
            let mut tiles = Vec::new();
            while let Some(tile) = Bin::largest_prefix(rest) {
                prop_assert_eq!(tile.base_range().start(), rest.start());
                prop_assert!(rest.covers(tile.base_range()));
                let grown = tile.parent().map_or(ChunkRange::EMPTY, Bin::base_range);
                prop_assert!(grown.start() != rest.start() || !rest.covers(grown) || grown.is_empty(), "largest");
                rest = ChunkRange::new(tile.base_range().end(), rest.end());
                tiles.push(tile);
            }
            prop_assert!(rest.is_empty());
            prop_assert_eq!(Bin::spanning(range).is_some(), tiles.len() == 1);
        }
    }
}
