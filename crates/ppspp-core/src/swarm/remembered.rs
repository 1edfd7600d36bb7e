//! What the chunks of groups hash to that were verified lately: bytes read back to be sent are compared with what they
//! were, which takes a fraction of the time of hashing them again.

use alloc::vec;
use alloc::vec::Vec;
use core::hash::BuildHasher as _;

use foldhash::quality::FixedState;

use crate::chunk::{ChunkRange, Geometry, GroupIndex};
use crate::integrity::HashFunction;

/// Chunk hashes of groups, each beside a fingerprint of the bytes that have them. A group has one place, which it shares
/// with others once the content has more groups than there are places; the latest is there.
///
/// Nobody else can forge a fingerprint to any use: the bytes were verified when it was taken, and are verified again by
/// who receives them.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    /// Which group is at each place, counted from one; zero for none.
    groups: Vec<u64>,
    fingerprints: Vec<u64>,
    /// The hashes of the chunks at each place, side by side.
    leaves: Vec<u8>,
    /// Bytes of these at each place.
    room: usize,
}

impl Remembered {
    /// Remembers that the chunks of `group`, in order, hash to `leaves`, and its bytes are `data`. At most `limit` groups
    /// are remembered. Not unless there is a hash for each chunk.
    pub(crate) fn keep(
        &mut self,
        function: HashFunction,
        geometry: &Geometry,
        limit: usize,
        group: GroupIndex,
        data: &[u8],
        leaves: impl Iterator<Item = impl AsRef<[u8]>>,
    ) {
        let len = function.len();
        if self.groups.is_empty() {
            let places = geometry.group_count().min(limit as u64) as usize;
            // Memory of zeros is not there until it is written to.
            self.room = len << geometry.group_layer();
            (self.groups, self.fingerprints) = (vec![0; places], vec![0; places]);
            self.leaves = vec![0; places * self.room];
        }
        let Some(place) = self.place(group) else { return };
        let rooms = self.leaves[place * self.room..][..self.room].chunks_exact_mut(len);
        let mut kept = 0;
        for (room, leaf) in rooms.zip(leaves) {
            let leaf = leaf.as_ref();
            if leaf.len() == len {
                room.copy_from_slice(leaf);
                kept += 1;
            }
        }
        let whole = kept == geometry.group_chunks(group).count();
        self.groups[place] = if whole { group.value() + 1 } else { 0 };
        self.fingerprints[place] = fingerprint(data);
    }

    /// What the chunks of each group that lies whole in `range` hash to, side by side, if that is remembered and its bytes
    /// are what they were: those of `range` are `data`.
    pub(crate) fn recall(&self, geometry: &Geometry, range: ChunkRange, data: &[u8]) -> Vec<Option<&[u8]>> {
        if self.groups.is_empty() {
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

    /// Forgets everything and gives the memory back.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn recall_group(&self, geometry: &Geometry, group: GroupIndex, data: &[u8]) -> Option<&[u8]> {
        let place = self.place(group).filter(|&place| self.groups[place] == group.value() + 1)?;
        let chunks = geometry.group_chunks(group).count() as usize;
        let len = self.room >> geometry.group_layer();
        (self.fingerprints[place] == fingerprint(data)).then(|| &self.leaves[place * self.room..][..chunks * len])
    }

    fn place(&self, group: GroupIndex) -> Option<usize> {
        group.value().checked_rem(self.groups.len() as u64).map(|place| place as usize)
    }
}

fn fingerprint(data: &[u8]) -> u64 {
    FixedState::with_seed(0).hash_one(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integrity::Hash;
    use crate::integrity::reference::Content;

    fn keep(remembered: &mut Remembered, content: &Content, limit: usize, group: u64) {
        let (function, group) = (content.params.function, GroupIndex::new(group));
        let chunks = content.geometry.group_chunks(group);
        let leaves: Vec<_> = chunks.iter().map(|chunk| function.leaf(content.chunk(chunk.value()))).collect();
        let leaves = leaves.iter().map(Hash::as_slice);
        remembered.keep(function, &content.geometry, limit, group, content.bytes(chunks), leaves);
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
            for (size, chunks) in [(1024, 39), (512, 70), (8192, 5), (1024, 1), (61440, 3)] {
                let content = Content::new(function, size, chunks, 700.min(size));
                let mut remembered = Remembered::default();
                assert!(recalled(&remembered, &content).is_empty());
                let groups = content.geometry.group_count();
                for group in (0..groups).step_by(2) {
                    keep(&mut remembered, &content, 100, group);
                }
                assert_eq!(recalled(&remembered, &content), (0..groups).step_by(2).collect::<Vec<_>>());
                // From within the first group on, which is not whole then.
                let range = ChunkRange::new(1, chunks);
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
                    assert!(leaves.is_none_or(|leaves| leaves == expected), "{function}, {chunks:?}");
                }
            }
        }
    }

    #[test]
    fn bytes_that_changed_are_hashed_again() {
        let content = Content::new(HashFunction::Sha256, 1024, 39, 1000);
        let mut remembered = Remembered::default();
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

    #[test]
    fn no_more_groups_than_the_limit() {
        let content = Content::new(HashFunction::Sha1, 1024, 160, 1024);
        let mut remembered = Remembered::default();
        for group in 0..10 {
            keep(&mut remembered, &content, 4, group);
            assert!(recalled(&remembered, &content).contains(&group));
        }
        assert_eq!(recalled(&remembered, &content), [6, 7, 8, 9], "later ones displace earlier ones");
        assert_eq!((remembered.groups.len(), remembered.leaves.len()), (4, 4 * 16 * 20));
        remembered.clear();
        assert_eq!((recalled(&remembered, &content), remembered.leaves.capacity()), (Vec::new(), 0));
        keep(&mut remembered, &content, 0, 5);
        assert!(recalled(&remembered, &content).is_empty(), "no room for any");
    }

    #[test]
    fn a_group_without_all_its_hashes_is_not_remembered() {
        let content = Content::new(HashFunction::Sha256, 1024, 32, 1024);
        let (function, group) = (HashFunction::Sha256, GroupIndex::new(1));
        let chunks = content.geometry.group_chunks(group);
        let leaves: Vec<_> = chunks.iter().map(|chunk| function.leaf(content.chunk(chunk.value()))).collect();
        let mut remembered = Remembered::default();
        keep(&mut remembered, &content, 100, 1);
        let leaves = leaves[1..].iter().map(Hash::as_slice);
        remembered.keep(function, &content.geometry, 100, group, content.bytes(chunks), leaves);
        assert!(recalled(&remembered, &content).is_empty(), "nor is what was known of it before");
    }
}
