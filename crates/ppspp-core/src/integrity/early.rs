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
