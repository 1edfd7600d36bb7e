//! Hashes that came ahead of the chunks they prove.

use alloc::collections::{BTreeMap, VecDeque};

use super::Hash;
use crate::chunk::{Bin, ChunkIndex};
use crate::time::Instant;

/// Hashes received from one peer and not proven yet (RFC 7574 §5.3).
///
/// Keep one per channel: what one peer sends must not spoil what another proves. Holds at most as many hashes as given
/// to [`EarlyHashes::new`]; the oldest make room.
#[derive(Clone, Debug)]
pub struct EarlyHashes {
    entries: BTreeMap<Bin, Entry>,
    /// By age; an entry that was removed or replaced stays until it comes to the front or the queue is swept.
    order: VecDeque<(u64, Bin)>,
    /// Layers that entries may lie in.
    layers: u64,
    serial: u64,
    max: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    hash: Hash,
    at: Instant,
    serial: u64,
}

impl EarlyHashes {
    /// Room for `max` hashes, at least one; allocates nothing yet.
    pub const fn new(max: usize) -> Self {
        let max = if max == 0 { 1 } else { max };
        Self { entries: BTreeMap::new(), order: VecDeque::new(), layers: 0, serial: 0, max }
    }

    /// Keeps `hash` as that of `bin`, in place of an earlier one. A hash of more than 64 bytes is ignored.
    pub fn insert(&mut self, bin: Bin, hash: &[u8], now: Instant) {
        let Some(hash) = Hash::from_slice(hash) else { return };
        if self.entries.len() >= self.max && !self.entries.contains_key(&bin) {
            self.drop_oldest();
        }
        self.serial += 1;
        self.entries.insert(bin, Entry { hash, at: now, serial: self.serial });
        self.order.push_back((self.serial, bin));
        self.layers |= 1 << bin.layer();
        if self.order.len() > 2 * self.max {
            let entries = &self.entries;
            self.order.retain(|(serial, bin)| entries.get(bin).is_some_and(|entry| entry.serial == *serial));
        }
    }

    /// The hash that came for `bin`.
    #[inline]
    pub fn get(&self, bin: Bin) -> Option<&[u8]> {
        if self.layers >> bin.layer() & 1 == 0 {
            return None;
        }
        self.entries.get(&bin).map(|entry| entry.hash.as_slice())
    }

    /// Removes what the verified `chunk` has proven or made useless: the hashes beside its path to the root and on it.
    pub fn remove_used(&mut self, chunk: ChunkIndex) {
        let Some(leaf) = Bin::leaf(chunk) else { return };
        let mut layers = self.layers;
        while layers != 0 && !self.entries.is_empty() {
            let node = leaf.ancestor(layers.trailing_zeros() as u8);
            layers &= layers - 1;
            self.entries.remove(&node);
            if let Some(sibling) = node.sibling() {
                self.entries.remove(&sibling);
            }
        }
        self.tidy();
    }

    /// Removes the hash of `bin`.
    pub(super) fn remove(&mut self, bin: Bin) {
        if self.entries.remove(&bin).is_some() {
            self.tidy();
        }
    }

    /// Removes what came before `before`.
    pub fn expire(&mut self, before: Instant) {
        while let Some((serial, bin)) = self.order.front() {
            if let Some(entry) = self.entries.get(bin).filter(|entry| entry.serial == *serial) {
                if entry.at >= before {
                    break;
                }
                self.entries.remove(bin);
            }
            self.order.pop_front();
        }
        self.tidy();
    }

    /// Every hash, by bin number.
    pub fn iter(&self) -> impl Iterator<Item = (Bin, &Hash)> {
        self.entries.iter().map(|(bin, entry)| (*bin, &entry.hash))
    }

    /// Number of hashes kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets all hashes.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.tidy();
    }

    fn drop_oldest(&mut self) {
        while let Some((serial, bin)) = self.order.pop_front() {
            if self.entries.get(&bin).is_some_and(|entry| entry.serial == serial) {
                self.entries.remove(&bin);
                return;
            }
        }
    }

    fn tidy(&mut self) {
        if self.entries.is_empty() {
            self.order.clear();
            self.layers = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bin(number: u64) -> Bin {
        Bin::from_number(number).unwrap()
    }

    fn at(micros: u64) -> Instant {
        Instant::from_micros(micros)
    }

    #[test]
    fn the_oldest_make_room() {
        let mut early = EarlyHashes::new(3);
        for number in 0..5 {
            early.insert(bin(number), &[number as u8; 20], at(number));
        }
        assert_eq!(early.iter().map(|(bin, _)| bin.number()).collect::<std::vec::Vec<_>>(), [2, 3, 4]);
        // Replacing one makes it the newest, and no other goes for it.
        early.insert(bin(2), &[9; 20], at(5));
        early.insert(bin(7), &[7; 20], at(6));
        assert_eq!(early.get(bin(3)), None);
        assert_eq!(early.get(bin(2)), Some([9; 20].as_slice()));
        assert_eq!(early.len(), 3);
    }

    #[test]
    fn memory_stays_bounded_whatever_comes() {
        let mut early = EarlyHashes::new(8);
        for round in 0..10_000 {
            early.insert(bin(round % 5), &[1; 20], at(round));
            early.insert(bin(round), &[1; 20], at(round));
            early.remove_used(ChunkIndex::new(round % 3));
            assert!(early.len() <= 8 && early.order.len() <= 16);
        }
        early.insert(bin(1), &[1; 65], at(0));
        assert!(EarlyHashes::new(0).max == 1);
    }

    #[test]
    fn hashes_expire_by_age() {
        let mut early = EarlyHashes::new(10);
        early.insert(bin(0), &[0; 20], at(10));
        early.insert(bin(2), &[2; 20], at(20));
        early.insert(bin(0), &[1; 20], at(30));
        early.expire(at(20));
        assert_eq!(early.len(), 2);
        early.expire(at(30));
        assert_eq!(early.iter().map(|(bin, _)| bin.number()).collect::<std::vec::Vec<_>>(), [0]);
        early.expire(at(31));
        assert!(early.is_empty() && early.order.is_empty());
    }

    #[test]
    fn a_verified_chunk_uses_up_its_path_and_what_lies_beside() {
        let mut early = EarlyHashes::new(10);
        for number in [2, 3, 5, 6, 9, 11, 13] {
            early.insert(bin(number), &[1; 20], at(0));
        }
        early.remove_used(ChunkIndex::new(0));
        assert_eq!(early.iter().map(|(bin, _)| bin.number()).collect::<std::vec::Vec<_>>(), [6, 9, 13]);
        early.clear();
        assert_eq!((early.len(), early.get(bin(6))), (0, None));
    }
}
