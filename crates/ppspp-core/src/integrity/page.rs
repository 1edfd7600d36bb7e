//! One page of the group-level tree: 512 nodes in in-order layout, only the known ones stored.

use alloc::vec;
use alloc::vec::Vec;

use crate::chunk::Bin;

/// Nodes in one page of the tree, hence of the tree's file: 256 groups, the 255 nodes above them and one from higher up.
pub const PAGE_NODES: usize = 512;

/// Nodes of a page above the group layer up to and including this one lie in the page whole.
pub(super) const PAGE_LAYER: u8 = 8;

const PAGE_SHIFT: u32 = PAGE_NODES.trailing_zeros();
const WORDS: usize = PAGE_NODES / 64;

/// Hashes a page first makes room for; doubling ends at exactly a full page.
const FIRST_ROOM: usize = 4;

/// Page and slot of `bin` in a tree whose groups lie at `group_layer`; `None` below the groups.
#[inline]
pub(super) const fn slot_of(bin: Bin, group_layer: u8) -> Option<(u64, usize)> {
    if bin.layer() < group_layer {
        return None;
    }
    let number = bin.number() >> group_layer;
    Some((number >> PAGE_SHIFT, number as usize % PAGE_NODES))
}

/// Which slots of a page are known.
pub(super) type Known = [u64; WORDS];

/// Whether `slot` is in `known`.
pub(super) fn is_known(known: &Known, slot: usize) -> bool {
    known.get(slot / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
}

/// Adds `slot` to `known`.
pub(super) fn set_known(known: &mut Known, slot: usize) {
    if let Some(word) = known.get_mut(slot / 64) {
        *word |= 1 << (slot % 64);
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Page {
    known: Known,
    /// How many slots are known before each word of these.
    before: [u16; WORDS],
    /// The known hashes in the order of their slots, without gaps: memory follows what was verified.
    hashes: Vec<u8>,
    dirty: bool,
}

impl Page {
    /// The page whose known slots are those, taken from `raw`, a page in its file form.
    pub(super) fn from_raw(known: Known, raw: &[u8], len: usize) -> Self {
        let count: u32 = known.iter().map(|word| word.count_ones()).sum();
        // A page whose groups are all known soon gets its last node too: no growing for that.
        let room = (count as usize).next_power_of_two().max(FIRST_ROOM) * len;
        let mut page = Self { hashes: Vec::with_capacity(room), ..Self::default() };
        for (slot, hash) in raw.chunks_exact(len.max(1)).take(PAGE_NODES).enumerate() {
            if is_known(&known, slot) {
                page.set_known(slot);
                page.hashes.extend_from_slice(hash);
            }
        }
        page
    }

    /// The page in its file form: every slot, unknown nodes all-zero.
    pub(super) fn to_raw(&self, len: usize) -> Vec<u8> {
        let mut raw = vec![0; PAGE_NODES * len];
        self.overlay(&mut raw, len);
        raw
    }

    /// Writes the known nodes over their slots of `raw`.
    pub(super) fn overlay(&self, raw: &mut [u8], len: usize) {
        let mut hashes = self.hashes.chunks_exact(len.max(1));
        for (slot, place) in raw.chunks_exact_mut(len.max(1)).take(PAGE_NODES).enumerate() {
            if is_known(&self.known, slot)
                && let Some(hash) = hashes.next()
            {
                place.copy_from_slice(hash);
            }
        }
    }

    pub(super) const fn known(&self) -> &Known {
        &self.known
    }

    /// How many group hashes are known: groups have the even slots.
    pub(super) fn groups_known(&self) -> u64 {
        self.known.iter().map(|word| u64::from((word & 0x5555_5555_5555_5555).count_ones())).sum()
    }

    #[inline]
    pub(super) fn get(&self, slot: usize, len: usize) -> Option<&[u8]> {
        if !is_known(&self.known, slot) {
            return None;
        }
        let at = self.rank(slot) * len;
        self.hashes.get(at..at + len)
    }

    /// Adds a node, `len` bytes; returns whether it was new.
    pub(super) fn insert(&mut self, slot: usize, hash: &[u8]) -> bool {
        if slot >= PAGE_NODES || is_known(&self.known, slot) {
            return false;
        }
        let len = hash.len();
        if self.hashes.capacity() == 0 {
            self.hashes.reserve_exact(FIRST_ROOM * len);
        }
        let at = self.rank(slot) * len;
        let old = self.hashes.len();
        self.hashes.extend_from_slice(hash);
        if at < old {
            self.hashes.copy_within(at..old, at + len);
            self.hashes[at..at + len].copy_from_slice(hash);
        }
        self.set_known(slot);
        self.dirty = true;
        true
    }

    fn set_known(&mut self, slot: usize) {
        set_known(&mut self.known, slot);
        self.before.iter_mut().skip(slot / 64 + 1).for_each(|before| *before += 1);
    }

    pub(super) const fn is_dirty(&self) -> bool {
        self.dirty
    }

    pub(super) const fn set_dirty(&mut self, dirty: bool) {
        self.dirty = dirty;
    }

    /// Known slots before `slot`.
    #[inline]
    fn rank(&self, slot: usize) -> usize {
        let (word, bit) = (slot / 64, slot % 64);
        let whole = self.before.get(word).map_or(0, |before| usize::from(*before));
        let part = self.known.get(word).map_or(0, |word| (word & ((1 << bit) - 1)).count_ones());
        whole + part as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const LEN: usize = 20;

    proptest! {
        #[test]
        fn holds_what_was_inserted(slots in proptest::collection::vec((0..PAGE_NODES, 1u8..), 0..600)) {
            let mut page = Page::default();
            let mut model = BTreeMap::new();
            for (slot, byte) in slots {
                prop_assert_eq!(page.insert(slot, &[byte; LEN]), !model.contains_key(&slot));
                model.entry(slot).or_insert(byte);
            }
            let raw = page.to_raw(LEN);
            prop_assert_eq!(raw.len(), PAGE_NODES * LEN);
            for slot in 0..PAGE_NODES {
                let hash = model.get(&slot).map(|byte| [*byte; LEN]);
                prop_assert_eq!(page.get(slot, LEN), hash.as_ref().map(<[u8; LEN]>::as_slice));
                prop_assert_eq!(&raw[slot * LEN..][..LEN], &hash.unwrap_or_default());
            }
            prop_assert_eq!(page.groups_known(), model.keys().filter(|slot| *slot % 2 == 0).count() as u64);
            let again = Page::from_raw(*page.known(), &raw, LEN);
            prop_assert_eq!((&again.known, &again.hashes), (&page.known, &page.hashes));
            prop_assert!(page.hashes.capacity() <= 2 * page.hashes.len().max(FIRST_ROOM * LEN));
        }
    }

    #[test]
    fn a_full_page_wastes_nothing() {
        let mut page = Page::default();
        for slot in 0..PAGE_NODES {
            assert!(page.insert(slot, &[1; LEN]));
        }
        assert_eq!(page.hashes.capacity(), PAGE_NODES * LEN);
        assert!(!page.insert(PAGE_NODES, &[1; LEN]));
    }

    #[test]
    fn slots_are_in_order_from_the_group_level() {
        assert_eq!(slot_of(Bin::leftmost(3), 4), None);
        assert_eq!(slot_of(Bin::leftmost(4), 4), Some((0, 0)));
        assert_eq!(slot_of(Bin::leftmost(12), 4), Some((0, 255)));
        assert_eq!(slot_of(Bin::leftmost(13), 4), Some((0, 511)));
        assert_eq!(slot_of(Bin::at(4, 256).unwrap(), 4), Some((1, 0)));
        assert_eq!(slot_of(Bin::leftmost(14), 4), Some((1, 511)));
        assert_eq!(slot_of(Bin::EVERYTHING, 0), Some((u64::MAX >> 10, 511)));
    }
}
