//! Hashes as they come with chunks: side by side, since nearly all are looked at once and dropped.

use alloc::vec::Vec;

use super::{Hash, MAX_HASH_LEN};
use crate::chunk::Bin;

/// Hashes of nodes in the order in which they came, all of one length.
#[derive(Clone, Debug, Default)]
pub struct HashRow {
    nodes: Vec<Bin>,
    bytes: Vec<u8>,
    /// Bytes of each.
    len: usize,
}

impl HashRow {
    /// Adds the hash of `node`; false, and nothing is added, if it is empty, longer than 64 bytes, or not as long as those
    /// before it.
    #[inline]
    pub fn push(&mut self, node: Bin, hash: &[u8]) -> bool {
        if hash.len() != self.len {
            if !self.is_empty() || hash.len() > MAX_HASH_LEN {
                return false;
            }
            self.len = hash.len();
        }
        if hash.is_empty() {
            return false;
        }
        self.nodes.push(node);
        // A length known when compiling spares the call that copies.
        match <&[u8; 32]>::try_from(hash) {
            Ok(hash) => self.bytes.extend_from_slice(hash),
            Err(_) => self.bytes.extend_from_slice(hash),
        }
        true
    }

    /// How many.
    #[inline]
    pub const fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Drops all but the first `count`.
    #[inline]
    pub fn truncate(&mut self, count: usize) {
        self.nodes.truncate(count);
        self.bytes.truncate(count * self.len);
    }

    /// Those from the `start`-th up to and without the `end`-th; none if there are not as many.
    #[inline]
    pub fn part(&self, start: usize, end: usize) -> Hashes<'_> {
        let nodes = self.nodes(start, end);
        Hashes { nodes, bytes: self.bytes.get(start * self.len..end * self.len).unwrap_or_default(), len: self.len }
    }

    /// The nodes of [`HashRow::part`].
    #[inline]
    pub fn nodes(&self, start: usize, end: usize) -> &[Bin] {
        self.nodes.get(start..end).unwrap_or_default()
    }

    /// All of them.
    pub fn all(&self) -> Hashes<'_> {
        self.part(0, self.len())
    }
}

impl FromIterator<(Bin, Hash)> for HashRow {
    /// The hashes that [`HashRow::push`] takes.
    fn from_iter<I: IntoIterator<Item = (Bin, Hash)>>(hashes: I) -> Self {
        let mut row = Self::default();
        for (node, hash) in hashes {
            row.push(node, hash.as_slice());
        }
        row
    }
}

/// A part of a [`HashRow`].
#[derive(Clone, Copy, Debug)]
pub struct Hashes<'h> {
    nodes: &'h [Bin],
    bytes: &'h [u8],
    len: usize,
}

impl<'h> Hashes<'h> {
    /// No hashes.
    pub const NONE: Self = Self { nodes: &[], bytes: &[], len: 0 };

    /// How many.
    #[inline]
    pub const fn len(self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.nodes.is_empty()
    }

    /// Each node and its hash, in order.
    #[inline]
    pub fn iter(self) -> impl DoubleEndedIterator<Item = (Bin, &'h [u8])> + Clone {
        // Cut into pieces, the bytes would be divided by their length to count these.
        let hash = move |at| self.bytes.get(at * self.len..(at + 1) * self.len).unwrap_or_default();
        self.nodes.iter().enumerate().map(move |(at, node)| (*node, hash(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_lie_side_by_side() {
        let node = |number| Bin::from_number(number).unwrap();
        for len in [20, 32, 64] {
            let mut row = HashRow::default();
            assert!(!row.push(node(0), &[]) && !row.push(node(0), &[0; 65]) && row.is_empty());
            for number in 0..5 {
                assert!(row.push(node(number), &[number as u8; 64][..len]));
            }
            assert!(!row.push(node(5), &[1; 33]), "of another length");
            row.truncate(4);
            let of = |hashes: Hashes<'_>| hashes.iter().map(|(node, hash)| (node.number(), hash.to_vec())).collect();
            let expected = |numbers: core::ops::Range<u64>| -> Vec<_> {
                numbers.map(|number| (number, [number as u8; 64][..len].to_vec())).collect()
            };
            let part: Vec<_> = of(row.part(1, 3));
            assert_eq!((part, of(row.all())), (expected(1..3), expected(0..4)));
            assert!(row.nodes(1, 3).iter().map(|node| node.number()).eq([1, 2]));
            assert!(row.part(1, 5).is_empty() && row.part(3, 2).is_empty() && row.part(2, 2).is_empty());
            row.truncate(0);
            assert!(row.push(node(9), &[9; 33]), "another row");
        }
    }
}
