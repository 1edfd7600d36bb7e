//! What the chunks of groups hash to that were verified lately: bytes read back to be sent are compared with what they
//! were, which takes a fraction of the time of hashing them again.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::hash::Hasher as _;
use core::time::Duration;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

use crate::chunk::{Bin, ChunkRange, Geometry, GroupIndex};
use crate::context::Secret;
use crate::swarm::Swarm;
use crate::time::Instant;

/// Groups for which there is memory at a time.
const BLOCK: usize = 64;
/// Unused for so long, everything is forgotten.
const LIFE: Duration = Duration::from_secs(60);

/// Chunk hashes of groups, each beside a fingerprint of the bytes that have them. A group has one place, which it shares
/// with others once the content has more groups than there are places; the first that comes stays, so that the others
/// cost nothing.
///
/// Fingerprints tell what a disk, or another program, did to bytes that were verified; a change goes unnoticed with a
/// chance of about one in 2^60. Their seeds are secret: who made the content cannot have chosen bytes that may change
/// so.
pub(crate) struct Remembered {
    seeds: Seeds,
    /// Memory for [`BLOCK`] places each, when the first of them is used.
    blocks: Vec<Option<Box<Block>>>,
    places: u64,
    /// When anything was last kept, or of use.
    used_at: Instant,
}

/// What a fingerprint begins with. With a state of zero, which is what a hasher begins with unless it is told otherwise, it
/// would be blind to much of a group of zeros.
struct Seeds {
    state: u64,
    shared: SharedSeed,
}

impl Seeds {
    fn new(secret: Secret) -> Self {
        let [state, shared] = secret.reveal();
        Self { state, shared: SharedSeed::from_u64(shared) }
    }

    fn fingerprint(&self, data: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.state, &self.shared);
        hasher.write(data);
        hasher.finish()
    }
}

struct Block {
    /// Which group is at each place, counted from one; zero for none.
    groups: [u64; BLOCK],
    fingerprints: [u64; BLOCK],
    /// The hashes of the chunks at each place, side by side.
    leaves: Vec<u8>,
}

impl fmt::Debug for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blocks = self.blocks.iter().flatten();
        let groups: usize = blocks.map(|block| block.groups.iter().filter(|group| **group != 0).count()).sum();
        f.debug_struct("Remembered").field("groups", &groups).field("places", &self.places).finish_non_exhaustive()
    }
}

impl Remembered {
    /// Nothing yet.
    pub(crate) fn new(secret: Secret, now: Instant) -> Self {
        Self { seeds: Seeds::new(secret), blocks: Vec::new(), places: 0, used_at: now }
    }

    /// Whether the place of `group`, one of at most `limit`, is free.
    pub(crate) fn has_room(&self, limit: usize, group: GroupIndex) -> bool {
        let free = |(block, at): (usize, usize)| {
            self.blocks.get(block).and_then(Option::as_deref).is_none_or(|block| block.groups[at] == 0)
        };
        if self.places == 0 { limit > 0 } else { self.place(group).is_some_and(free) }
    }

    /// Remembers that the chunks of `group`, in order, hash to `leaves`, and its bytes are `data`, unless another group is
    /// at its place. At most `limit` groups are remembered. Nothing is unless there is a hash for each chunk.
    pub(crate) fn keep(
        &mut self,
        now: Instant,
        geometry: &Geometry,
        limit: usize,
        group: GroupIndex,
        data: &[u8],
        leaves: impl Iterator<Item: AsRef<[u8]>>,
    ) {
        if !self.has_room(limit, group) {
            return;
        }
        if self.places == 0 {
            self.places = geometry.group_count().min(limit as u64);
        }
        let Some((block, at)) = self.place(group) else { return };
        let mut leaves = leaves.peekable();
        let Some(len) = leaves.peek().map(|leaf| leaf.as_ref().len()) else { return };
        if self.blocks.len() <= block {
            self.blocks.resize_with(block + 1, || None);
        }
        let room = len << geometry.group_layer();
        let block = self.blocks[block].get_or_insert_with(|| {
            Box::new(Block { groups: [0; BLOCK], fingerprints: [0; BLOCK], leaves: vec![0; BLOCK * room] })
        });
        let Some(rooms) = block.leaves.get_mut(at * room..(at + 1) * room) else { return };
        let mut kept = 0;
        for (room, leaf) in rooms.chunks_exact_mut(len).zip(leaves) {
            if leaf.as_ref().len() == len {
                room.copy_from_slice(leaf.as_ref());
                kept += 1;
            }
        }
        if kept == geometry.group_chunks(group).count() {
            block.groups[at] = group.value() + 1;
            block.fingerprints[at] = self.seeds.fingerprint(data);
            self.used_at = now;
        }
    }

    /// What the chunks of each group that lies whole in `range` hash to, side by side, if that is remembered and its bytes
    /// are what they were: those of `range` are `data`.
    pub(crate) fn recall(&self, geometry: &Geometry, range: ChunkRange, data: &[u8]) -> Vec<Option<&[u8]>> {
        if self.places == 0 {
            return Vec::new();
        }
        let start = geometry.byte_range(range).start;
        let whole = geometry.groups_touching(range).filter(|group| range.covers(geometry.group_chunks(*group)));
        whole
            .map(|group| {
                let bytes = geometry.byte_range(geometry.group_chunks(group));
                let data = data.get((bytes.start - start) as usize..(bytes.end - start) as usize)?;
                self.recall_group(geometry, group, data)
            })
            .collect()
    }

    /// Notes that what was remembered was of use.
    pub(crate) const fn on_recalled(&mut self, now: Instant) {
        self.used_at = now;
    }

    fn recall_group(&self, geometry: &Geometry, group: GroupIndex, data: &[u8]) -> Option<&[u8]> {
        let (block, at) = self.place(group)?;
        let block = self.blocks.get(block)?.as_deref().filter(|block| block.groups[at] == group.value() + 1)?;
        let room = block.leaves.len() / BLOCK;
        let len = room >> geometry.group_layer();
        let chunks = geometry.group_chunks(group).count() as usize;
        let leaves = block.leaves.get(at * room..at * room + chunks * len)?;
        (block.fingerprints[at] == self.seeds.fingerprint(data)).then_some(leaves)
    }

    /// Block and place in it of `group`, if there are any places.
    fn place(&self, group: GroupIndex) -> Option<(usize, usize)> {
        let place = group.value().checked_rem(self.places)? as usize;
        Some((place / BLOCK, place % BLOCK))
    }

    /// Forgets everything, and gives the memory back, if it was not used for a minute.
    pub(crate) fn forget_unused(&mut self, now: Instant) {
        if self.places > 0 && now - self.used_at >= LIFE {
            self.forget();
        }
    }

    /// Forgets everything, and gives the memory back.
    pub(crate) fn forget(&mut self) {
        (self.blocks, self.places) = (Vec::new(), 0);
    }
}

impl Swarm {
    /// Remembers what the chunks of `group` hash to, if all are verified and lie in the assembly, and somebody lacks
    /// anything. `leaves` are those hashes, side by side, unless they are known otherwise.
    pub(super) fn remember(
        &mut self,
        now: Instant,
        geometry: &Geometry,
        limit: usize,
        group: GroupIndex,
        leaves: Option<&[u8]>,
    ) {
        if self.asking.leechers == 0 || !self.content.has_group(group) || !self.remembered.has_room(limit, group) {
            return;
        }
        let Some(data) = self.content.assembly.full(group) else { return };
        let verifier = &self.content.verifier;
        if let Some(leaves) = leaves {
            let leaves = leaves.chunks_exact(self.metadata.function.len());
            self.remembered.keep(now, geometry, limit, group, data, leaves);
        } else {
            let leaves = geometry.group_chunks(group).iter().map_while(|chunk| verifier.node(Bin::leaf(chunk)?));
            self.remembered.keep(now, geometry, limit, group, data, leaves);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::ChunkIndex;
    use crate::integrity::reference::Content;
    use crate::integrity::{Hash, HashFunction};

    const NOW: Instant = Instant::from_micros(7);

    fn remembered() -> Remembered {
        Remembered::new(Secret::new([1, 2]), NOW)
    }

    fn keep(remembered: &mut Remembered, content: &Content, limit: usize, group: u64) {
        let (function, group) = (content.params.function, GroupIndex::new(group));
        let chunks = content.geometry.group_chunks(group);
        let leaves: Vec<_> = chunks.iter().map(|chunk| function.leaf(content.chunk(chunk.value()))).collect();
        let leaves = leaves.iter().map(Hash::as_slice);
        remembered.keep(NOW, &content.geometry, limit, group, content.bytes(chunks), leaves);
    }

    /// Which groups are remembered, given their bytes.
    fn recalled(remembered: &Remembered, content: &Content) -> Vec<u64> {
        let all = content.geometry.all();
        let recalled = remembered.recall(&content.geometry, all, content.bytes(all));
        (0..).zip(recalled).filter_map(|(group, leaves)| leaves.map(|_| group)).collect()
    }

    #[test]
    fn what_comes_back_is_what_the_chunks_hash_to() {
        for function in HashFunction::ALL {
            for (size, chunks) in [(1024, 39), (512, 70), (8192, 5), (1024, 1), (1024, 17), (61440, 3)] {
                let content = Content::new(function, size, chunks, 700.min(size));
                let mut remembered = remembered();
                assert!(recalled(&remembered, &content).is_empty());
                let groups = content.geometry.group_count();
                for group in (0..groups).step_by(2) {
                    keep(&mut remembered, &content, 100, group);
                }
                assert_eq!(recalled(&remembered, &content), (0..groups).step_by(2).collect::<Vec<_>>());
                // From within the first group on, which is not whole then.
                let range = ChunkRange::new(1.min(chunks - 1), chunks);
                let data = content.bytes(range);
                let leaves = remembered.recall(&content.geometry, range, data);
                let whole = content.geometry.groups_touching(range).map(|group| content.geometry.group_chunks(group));
                let whole: Vec<_> = whole.filter(|chunks| range.covers(*chunks)).collect();
                assert_eq!(leaves.len(), whole.len());
                for (leaves, chunks) in leaves.into_iter().zip(whole) {
                    let expected: Vec<u8> = chunks
                        .iter()
                        .flat_map(|chunk| function.leaf(content.chunk(chunk.value())).as_slice().to_vec())
                        .collect();
                    let group = content.geometry.group_of(ChunkIndex::new(chunks.start()));
                    let expected = group.value().is_multiple_of(2).then_some(expected);
                    assert_eq!(leaves.map(<[u8]>::to_vec), expected, "{function}, {chunks:?}");
                }
            }
        }
    }

    #[test]
    fn bytes_that_changed_are_hashed_again() {
        let content = Content::new(HashFunction::Sha256, 1024, 39, 1000);
        let mut remembered = remembered();
        (0..3).for_each(|group| keep(&mut remembered, &content, 100, group));
        let all = content.geometry.all();
        for place in [0, 5, 16 << 10, (39 << 10) - 30] {
            let mut data = content.bytes(all).to_vec();
            data[place] ^= 1;
            let recalled = remembered.recall(&content.geometry, all, &data);
            let changed = place >> 14;
            let expected: Vec<bool> = (0..3).map(|group| group != changed).collect();
            assert_eq!(recalled.iter().map(Option::is_some).collect::<Vec<_>>(), expected);
        }
        let short = &content.bytes(all)[..16 << 10];
        let recalled = remembered.recall(&content.geometry, all, short);
        assert_eq!(recalled.iter().flatten().count(), 1, "what is not there is not what it was");
    }

    /// A word that is equal to a seed makes a lane forget what it saw before. The seeds that are the same everywhere are
    /// not those that are used.
    #[test]
    fn who_made_the_content_cannot_hide_a_change() {
        let known = 0xc0ac_29b7_c97c_50dd_u64.to_le_bytes();
        let mut data = vec![0x5a; 16 << 10];
        data[16_080..16_128].copy_from_slice(&known.repeat(6));
        let mut changed = data.clone();
        changed[5] ^= 1;
        let fixed = |data: &[u8]| {
            let mut hasher = FoldHasher::with_seed(0, SharedSeed::global_fixed());
            hasher.write(data);
            hasher.finish()
        };
        assert_eq!(fixed(&data), fixed(&changed), "the case is what it is meant to be");
        for seed in 0..1000 {
            let seeds = Seeds::new(Secret::new([seed, seed + 1]));
            assert_ne!(seeds.fingerprint(&data), seeds.fingerprint(&changed));
        }
    }

    /// A state of zero stays zero as long as zeros come: a hasher that begins with one is blind to much of what follows.
    #[test]
    fn changes_among_zeros_are_seen() {
        let seeds = Seeds::new(Secret::new([0, 0]));
        for len in [1, 3, 8, 15, 16, 17, 100, 700, 16 << 10] {
            let zeros = vec![0; len];
            let fingerprint = seeds.fingerprint(&zeros);
            for place in 0..len {
                let mut changed = zeros.clone();
                changed[place] = 0x40;
                assert_ne!(seeds.fingerprint(&changed), fingerprint, "{place} of {len}");
            }
        }
        let unseeded = |data: &[u8]| {
            let mut hasher = FoldHasher::with_seed(0, &seeds.shared);
            hasher.write(data);
            hasher.finish()
        };
        let mut changed = vec![0; 16 << 10];
        changed[48] = 0x40;
        assert_eq!(unseeded(&changed), unseeded(&vec![0; 16 << 10]), "the case is what it is meant to be");
    }

    #[test]
    fn no_more_groups_than_the_limit_and_the_first_stay() {
        let content = Content::new(HashFunction::Sha1, 1024, 160, 1024);
        let mut remembered = remembered();
        for group in 0..10 {
            assert_eq!(remembered.has_room(4, GroupIndex::new(group)), group < 4, "{group}");
            keep(&mut remembered, &content, 4, group);
        }
        assert_eq!(recalled(&remembered, &content), [0, 1, 2, 3]);
        let mut all = Remembered::new(Secret::new([1, 2]), NOW);
        keep(&mut all, &content, usize::MAX, 9);
        assert_eq!((recalled(&all, &content), all.places), (vec![9], 10), "no more places than groups");
        assert!(!Remembered::new(Secret::new([1, 2]), NOW).has_room(0, GroupIndex::new(5)));
        let mut none = Remembered::new(Secret::new([1, 2]), NOW);
        keep(&mut none, &content, 0, 5);
        assert!(recalled(&none, &content).is_empty(), "no room for any");
    }

    #[test]
    fn memory_comes_with_use_and_goes_without() {
        let content = Content::new(HashFunction::Sha1, 1024, 16 * 200, 1024);
        let mut remembered = remembered();
        keep(&mut remembered, &content, 1000, 130);
        keep(&mut remembered, &content, 1000, 131);
        let blocks = |remembered: &Remembered| remembered.blocks.iter().flatten().count();
        assert_eq!(blocks(&remembered), 1);
        keep(&mut remembered, &content, 1000, 5);
        assert_eq!(blocks(&remembered), 2);
        remembered.forget_unused(NOW + LIFE - Duration::from_micros(1));
        assert_eq!(recalled(&remembered, &content), [5, 130, 131]);
        remembered.forget_unused(NOW + LIFE);
        assert_eq!((blocks(&remembered), remembered.blocks.capacity()), (0, 0));
        assert!(recalled(&remembered, &content).is_empty());
        keep(&mut remembered, &content, 1000, 7);
        assert_eq!(recalled(&remembered, &content), [7]);
    }

    #[test]
    fn a_group_without_all_its_hashes_is_not_remembered() {
        let content = Content::new(HashFunction::Sha256, 1024, 32, 1024);
        let (function, group) = (HashFunction::Sha256, GroupIndex::new(1));
        let chunks = content.geometry.group_chunks(group);
        let leaves: Vec<_> = chunks.iter().map(|chunk| function.leaf(content.chunk(chunk.value()))).collect();
        let mut remembered = remembered();
        let some = leaves[1..].iter().map(Hash::as_slice);
        remembered.keep(NOW, &content.geometry, 100, group, content.bytes(chunks), some);
        assert!(recalled(&remembered, &content).is_empty());
        keep(&mut remembered, &content, 100, 1);
        assert_eq!(recalled(&remembered, &content), [1], "its place is free");
    }
}
