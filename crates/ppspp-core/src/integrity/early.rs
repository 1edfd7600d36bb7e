//! Hashes that came ahead of the chunks they prove.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use super::Hash;
use crate::chunk::{Bin, ChunkIndex};
use crate::time::Instant;

/// Hashes received from one peer and not proven yet (RFC 7574 §5.3).
///
/// Keep one per channel: what one peer sends must not spoil what another proves. Holds at most as many hashes as given
/// to [`EarlyHashes::new`]; the oldest make room.
#[derive(Clone, Debug)]
pub struct EarlyHashes {
    /// By age; one that was removed or replaced leaves a gap until it is the oldest or gaps are swept out.
    entries: VecDeque<Entry>,
    /// Entries that are no gaps.
    count: usize,
    /// Finds entries by bin: open addressing with linear probing, at most half full. None, or a power of two of them.
    /// Holds serial numbers; zero is free. What is a gap by now keeps its place until all are placed anew.
    ///
    /// A peer that aims for collisions slows its own look-ups, by no more than a few times the number of hashes kept.
    places: Vec<u32>,
    /// Places that are not free.
    taken: usize,
    /// Serial number of the oldest entry. They count from one whenever all are placed anew.
    oldest: u32,
    /// Layers that entries may lie in.
    layers: u64,
    max: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    /// `None` is a gap.
    bin: Option<Bin>,
    hash: Hash,
    at: Instant,
}

/// Names a hash that was looked up: its serial number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ticket(u32);

/// Most hashes kept, whatever is asked for.
const MAX: usize = 1 << 15;
/// Fewest places, once there are any.
const MIN_PLACES: usize = 64;
/// Places for each entry when all are placed anew: as many again can come before that is due.
const PLACES_PER_ENTRY: usize = 4;

impl EarlyHashes {
    /// Room for `max` hashes, at least one and at most 32,768; allocates nothing yet.
    pub const fn new(max: usize) -> Self {
        let max = match max {
            0 => 1,
            1..MAX => max,
            _ => MAX,
        };
        Self { entries: VecDeque::new(), count: 0, places: Vec::new(), taken: 0, oldest: 1, layers: 0, max }
    }

    /// Keeps `hash` as that of `bin`, in place of an earlier one. A hash of more than 64 bytes is ignored.
    pub fn insert(&mut self, bin: Bin, hash: &[u8], now: Instant) {
        let Some(hash) = Hash::from_slice(hash) else { return };
        self.remove(bin);
        if self.count >= self.max {
            self.drop_oldest();
        }
        if self.taken * 2 >= self.places.len() || self.entries.len() >= 2 * self.max {
            self.place_anew();
        }
        self.put(bin, self.oldest + self.entries.len() as u32);
        self.entries.push_back(Entry { bin: Some(bin), hash, at: now });
        self.count += 1;
        self.layers |= 1 << bin.layer();
    }

    /// The hash that came for `bin`.
    pub fn get(&self, bin: Bin) -> Option<&[u8]> {
        self.look_up(bin).map(|(_, hash)| hash)
    }

    /// Whether a hash came for `bin`.
    #[inline]
    pub fn contains(&self, bin: Bin) -> bool {
        !self.is_empty() && self.find(bin).is_some()
    }

    /// The hash that came for `bin`, and what [`EarlyHashes::take_out`] knows it by until another is kept.
    #[inline]
    pub(super) fn look_up(&self, bin: Bin) -> Option<(Ticket, &[u8])> {
        let at = self.find(bin)?;
        Some((Ticket(self.oldest + at as u32), self.entries[at].hash.as_slice()))
    }

    /// Removes hashes that were looked up.
    #[inline]
    pub(super) fn take_out(&mut self, tickets: &[Ticket]) {
        for Ticket(serial) in tickets {
            if let Some(entry) = self.entries.get_mut(serial.wrapping_sub(self.oldest) as usize) {
                self.count -= usize::from(entry.bin.take().is_some());
            }
        }
        self.drop_gaps();
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
    fn remove(&mut self, bin: Bin) {
        if let Some(at) = self.find(bin) {
            self.take_out(&[Ticket(self.oldest + at as u32)]);
        }
    }

    /// Removes what came before `before`.
    pub fn expire(&mut self, before: Instant) {
        while self.entries.front().is_some_and(|entry| entry.at < before) {
            self.drop_oldest();
        }
    }

    /// Removes the oldest ones, no more than `most`, up to the first that is not `settled`.
    pub(crate) fn drop_settled(&mut self, most: usize, settled: impl Fn(Bin) -> bool) {
        for _ in 0..most {
            let oldest = self.entries.front().and_then(|entry| entry.bin);
            if !oldest.is_some_and(&settled) {
                return;
            }
            self.drop_oldest();
        }
    }

    /// Every hash, by bin number.
    pub fn iter(&self) -> impl Iterator<Item = (Bin, &Hash)> {
        let mut all: Vec<_> = self.entries.iter().filter_map(|entry| Some((entry.bin?, &entry.hash))).collect();
        all.sort_unstable_by_key(|(bin, _)| *bin);
        all.into_iter()
    }

    /// Number of hashes kept.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether none is kept.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Forgets all hashes.
    pub fn clear(&mut self) {
        *self = Self::new(self.max);
    }

    /// Drops the oldest entry. It is never a gap.
    #[inline(never)]
    fn drop_oldest(&mut self) {
        if self.entries.pop_front().is_some() {
            self.oldest += 1;
            self.count -= 1;
            self.drop_gaps();
        }
    }

    /// Drops gaps ahead of the oldest entry.
    #[inline]
    fn drop_gaps(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.bin.is_none()) {
            self.entries.pop_front();
            self.oldest += 1;
        }
        if self.count == 0 {
            self.layers = 0;
        }
    }

    /// Where the search for `bin` begins. Multiplying spreads neighbours in the tree.
    #[inline]
    const fn home(&self, bin: Bin) -> usize {
        let spread = bin.number().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (spread >> 32) as usize & (self.places.len().wrapping_sub(1))
    }

    /// The index of the entry for `bin`.
    #[inline]
    fn find(&self, bin: Bin) -> Option<usize> {
        if self.layers >> bin.layer() & 1 == 0 {
            return None;
        }
        let mut place = self.home(bin);
        loop {
            match *self.places.get(place)? {
                0 => return None,
                serial => {
                    let at = serial.wrapping_sub(self.oldest) as usize;
                    if self.entries.get(at).is_some_and(|entry| entry.bin == Some(bin)) {
                        return Some(at);
                    }
                }
            }
            place = (place + 1) & (self.places.len() - 1);
        }
    }

    /// Takes a place for the entry with `serial`, which is for `bin`.
    fn put(&mut self, bin: Bin, serial: u32) {
        let mut place = self.home(bin);
        while self.places[place] != 0 {
            place = (place + 1) & (self.places.len() - 1);
        }
        self.places[place] = serial;
        self.taken += 1;
    }

    /// Sweeps gaps out and gives every entry a new place.
    #[inline(never)]
    fn place_anew(&mut self) {
        self.entries.retain(|entry| entry.bin.is_some());
        let places = ((self.count + 1) * PLACES_PER_ENTRY).next_power_of_two().max(MIN_PLACES);
        if places == self.places.len() {
            self.places.fill(0);
        } else {
            self.places = vec![0; places];
        }
        (self.taken, self.oldest) = (0, 1);
        for at in 0..self.entries.len() {
            if let Some(bin) = self.entries[at].bin {
                self.put(bin, self.oldest + at as u32);
            }
        }
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
            assert!(early.len() <= 8 && early.entries.len() <= 16 && early.places.len() <= MIN_PLACES);
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
        assert!(early.is_empty() && early.entries.is_empty());
    }

    #[test]
    fn the_oldest_go_once_they_have_nothing_to_prove() {
        let mut early = EarlyHashes::new(10);
        let left = |early: &EarlyHashes| early.iter().map(|(bin, _)| bin.number()).collect::<Vec<_>>();
        for number in [4, 8, 2, 7, 6] {
            early.insert(bin(number), &[1; 20], at(0));
        }
        let is_even = |bin: Bin| bin.number().is_multiple_of(2);
        early.drop_settled(2, is_even);
        assert_eq!(left(&early), [2, 6, 7]);
        early.drop_settled(9, is_even);
        assert_eq!(left(&early), [6, 7], "the one in front is still needed");
        early.drop_settled(9, |_| true);
        assert!(early.is_empty() && early.entries.is_empty());
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
                            let at = early.entries.iter().find(|entry| entry.bin == Some(bin(*first))).unwrap().at;
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
                prop_assert!(early.entries.len() <= 48 && early.places.len() <= 128);
            }
        }
    }
}
