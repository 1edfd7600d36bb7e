//! Hashes that came ahead of the chunks they prove.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use slab::Slab;

use super::Hash;
use crate::chunk::{Bin, ChunkIndex};
use crate::time::Instant;

/// Hashes received from one peer and not proven yet (RFC 7574 §5.3).
///
/// Keep one per channel: what one peer sends must not spoil what another proves. Holds at most as many hashes as given
/// to [`EarlyHashes::new`]; the oldest make room.
#[derive(Clone, Debug)]
pub struct EarlyHashes {
    entries: Slab<Entry>,
    index: Index,
    /// By age; an entry that was removed or replaced stays until it comes to the front or the queue is swept.
    order: VecDeque<(u64, u16)>,
    /// Layers that entries may lie in.
    layers: u64,
    serial: u64,
    max: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    bin: Bin,
    hash: Hash,
    at: Instant,
    serial: u64,
}

/// Most hashes kept, whatever is asked for: places in the index are short.
const MAX: usize = 1 << 15;

impl EarlyHashes {
    /// Room for `max` hashes, at least one and at most 32,768; allocates nothing yet.
    pub const fn new(max: usize) -> Self {
        let max = match max {
            0 => 1,
            1..MAX => max,
            _ => MAX,
        };
        Self { entries: Slab::new(), index: Index::new(), order: VecDeque::new(), layers: 0, serial: 0, max }
    }

    /// Keeps `hash` as that of `bin`, in place of an earlier one. A hash of more than 64 bytes is ignored.
    pub fn insert(&mut self, bin: Bin, hash: &[u8], now: Instant) {
        let Some(hash) = Hash::from_slice(hash) else { return };
        self.serial += 1;
        let serial = self.serial;
        let key = if let Some((_, key)) = self.index.find(&self.entries, bin) {
            if let Some(entry) = self.entries.get_mut(usize::from(key)) {
                (entry.hash, entry.at, entry.serial) = (hash, now, serial);
            }
            key
        } else {
            if self.entries.len() >= self.max {
                self.drop_oldest();
            }
            let key = self.entries.insert(Entry { bin, hash, at: now, serial }) as u16;
            self.index.insert(&self.entries, bin, key);
            key
        };
        self.order.push_back((serial, key));
        self.layers |= 1 << bin.layer();
        if self.order.len() > 2 * self.max {
            let entries = &self.entries;
            self.order.retain(|&(serial, key)| is_current(entries, serial, key));
        }
    }

    /// The hash that came for `bin`.
    #[inline]
    pub fn get(&self, bin: Bin) -> Option<&[u8]> {
        if self.layers >> bin.layer() & 1 == 0 {
            return None;
        }
        let (_, key) = self.index.find(&self.entries, bin)?;
        self.entries.get(usize::from(key)).map(|entry| entry.hash.as_slice())
    }

    /// Removes what the verified `chunk` has proven or made useless: the hashes beside its path to the root and on it.
    pub fn remove_used(&mut self, chunk: ChunkIndex) {
        let Some(leaf) = Bin::leaf(chunk) else { return };
        let mut layers = self.layers;
        while layers != 0 && !self.is_empty() {
            let node = leaf.ancestor(layers.trailing_zeros() as u8);
            layers &= layers - 1;
            self.remove(node);
            if let Some(sibling) = node.sibling() {
                self.remove(sibling);
            }
        }
    }

    /// Removes the hash of `bin`.
    #[inline]
    pub(super) fn remove(&mut self, bin: Bin) {
        if let Some((place, key)) = self.index.find(&self.entries, bin) {
            self.index.remove(&self.entries, place);
            self.entries.try_remove(usize::from(key));
            self.tidy();
        }
    }

    /// Removes what came before `before`.
    pub fn expire(&mut self, before: Instant) {
        while let Some(&(serial, key)) = self.order.front() {
            if is_current(&self.entries, serial, key) {
                let entry = &self.entries[usize::from(key)];
                if entry.at >= before {
                    return;
                }
                self.remove(entry.bin);
            }
            self.order.pop_front();
        }
    }

    /// Every hash, by bin number.
    pub fn iter(&self) -> impl Iterator<Item = (Bin, &Hash)> {
        let mut all: Vec<_> = self.entries.iter().map(|(_, entry)| (entry.bin, &entry.hash)).collect();
        all.sort_unstable_by_key(|(bin, _)| *bin);
        all.into_iter()
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
        self.index = Index::new();
        self.tidy();
    }

    fn drop_oldest(&mut self) {
        while let Some((serial, key)) = self.order.pop_front() {
            if is_current(&self.entries, serial, key) {
                self.remove(self.entries[usize::from(key)].bin);
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

/// Whether the entry at `key` is still the one that was queued as `serial`.
fn is_current(entries: &Slab<Entry>, serial: u64, key: u16) -> bool {
    entries.get(usize::from(key)).is_some_and(|entry| entry.serial == serial)
}

/// Finds entries by bin: open addressing with linear probing, at most half full.
///
/// A peer that aims for collisions slows its own look-ups, by no more than the number of hashes kept for it.
#[derive(Clone, Debug)]
struct Index {
    /// An entry's key plus one; zero is free. None, or a power of two of them.
    places: Vec<u16>,
}

/// Fewest places, once there are any.
const MIN_PLACES: usize = 16;

impl Index {
    const fn new() -> Self {
        Self { places: Vec::new() }
    }

    /// Where the search for `bin` begins. Multiplying spreads neighbours in the tree.
    #[inline]
    fn home(&self, bin: Bin) -> usize {
        let spread = bin.number().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (spread >> 32) as usize & (self.places.len().wrapping_sub(1))
    }

    /// The place and the key of the entry for `bin`.
    #[inline]
    fn find(&self, entries: &Slab<Entry>, bin: Bin) -> Option<(usize, u16)> {
        let mut place = self.home(bin);
        loop {
            let key = self.places.get(place)?.checked_sub(1)?;
            if entries.get(usize::from(key)).is_some_and(|entry| entry.bin == bin) {
                return Some((place, key));
            }
            place = (place + 1) & (self.places.len() - 1);
        }
    }

    /// Adds the entry at `key`, which is for `bin` and not in the index.
    fn insert(&mut self, entries: &Slab<Entry>, bin: Bin, key: u16) {
        if entries.len() * 2 > self.places.len() {
            self.places = vec![0; (entries.len() * 2).next_power_of_two().max(MIN_PLACES)];
            for (key, entry) in entries {
                self.put(entry.bin, key as u16);
            }
        } else {
            self.put(bin, key);
        }
    }

    fn put(&mut self, bin: Bin, key: u16) {
        let mut place = self.home(bin);
        while self.places[place] != 0 {
            place = (place + 1) & (self.places.len() - 1);
        }
        self.places[place] = key + 1;
    }

    /// Frees `place`; what was pushed past it moves back.
    fn remove(&mut self, entries: &Slab<Entry>, mut place: usize) {
        let last = self.places.len() - 1;
        let mut next = place;
        loop {
            next = (next + 1) & last;
            let Some(entry) = self.places[next].checked_sub(1).and_then(|key| entries.get(usize::from(key))) else {
                break;
            };
            let home = self.home(entry.bin);
            // It may move back unless its home lies between the gap and itself.
            if (next.wrapping_sub(home) & last) >= (next.wrapping_sub(place) & last) {
                self.places[place] = self.places[next];
                place = next;
            }
        }
        self.places[place] = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        assert_eq!(early.iter().map(|(bin, _)| bin.number()).collect::<Vec<_>>(), [2, 3, 4]);
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
        assert_eq!(early.iter().map(|(bin, _)| bin.number()).collect::<Vec<_>>(), [0]);
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
        assert_eq!(early.iter().map(|(bin, _)| bin.number()).collect::<Vec<_>>(), [6, 9, 13]);
        early.clear();
        assert_eq!((early.len(), early.get(bin(6))), (0, None));
    }

    proptest! {
        #[test]
        fn keeps_what_a_plain_map_keeps(steps in prop::collection::vec((0u8..4, 0u64..40, any::<u8>()), 0..400)) {
            let mut early = EarlyHashes::new(24);
            let mut twin: Vec<(u64, u8)> = Vec::new();
            for (time, (kind, number, value)) in steps.into_iter().enumerate() {
                twin.retain(|(known, _)| *known != number || kind == 3);
                match kind {
                    0 => early.remove(bin(number)),
                    3 => {
                        let before = twin.len().min(usize::from(value % 8));
                        if let Some((first, _)) = twin.get(before) {
                            let at = early.entries.iter().find(|(_, entry)| entry.bin == bin(*first)).unwrap().1.at;
                            early.expire(at);
                            twin.drain(..before);
                        }
                    }
                    _ => {
                        if twin.len() == 24 {
                            twin.remove(0);
                        }
                        twin.push((number, value));
                        early.insert(bin(number), &[value; 20], at(time as u64));
                    }
                }
                prop_assert_eq!(early.len(), twin.len());
                for (number, value) in &twin {
                    prop_assert_eq!(early.get(bin(*number)).map(<[u8]>::to_vec), Some(vec![*value; 20]));
                }
                for number in (0..40).filter(|number| twin.iter().all(|(known, _)| known != number)) {
                    prop_assert_eq!(early.get(bin(number)), None);
                }
                prop_assert!(early.order.len() <= 48 && early.index.places.len() <= 64);
            }
        }
    }
}
