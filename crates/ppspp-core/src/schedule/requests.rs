//! Which chunks are asked for, and of whom: a chunk is asked of at most one peer at a time.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::chunk::{ChunkIndex, ChunkRange, Geometry, GroupIndex};

/// Slot of a peer in its swarm.
pub(crate) type PeerSlot = u32;

/// The chunks of one group that one peer was asked for: bit n is the group's n-th chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Asked {
    peer: PeerSlot,
    chunks: u32,
}

/// Outstanding requests of a swarm by group. A chunk that is neither verified nor here is free to be asked for.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    groups: BTreeMap<GroupIndex, Vec<Asked>>,
}

impl Requests {
    /// Groups with outstanding requests.
    pub(crate) fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// The chunks of `group` that are asked for.
    pub(crate) fn asked(&self, group: GroupIndex) -> u32 {
        self.groups.get(&group).map_or(0, |asked| asked.iter().fold(0, |all, asked| all | asked.chunks))
    }

    /// Whether `chunk` is asked for.
    pub(crate) fn is_asked(&self, geometry: &Geometry, chunk: ChunkIndex) -> bool {
        let group = geometry.group_of(chunk);
        self.asked(group) & bit(geometry, group, chunk) != 0
    }

    /// Records that `peer` is asked for `chunks` of `group`, none of which is asked for.
    pub(crate) fn ask(&mut self, group: GroupIndex, peer: PeerSlot, chunks: u32) {
        debug_assert!(self.asked(group) & chunks == 0, "a chunk is asked of one peer at a time");
        let entries = self.groups.entry(group).or_default();
        match entries.iter_mut().find(|asked| asked.peer == peer) {
            Some(asked) => asked.chunks |= chunks,
            None => entries.push(Asked { peer, chunks }),
        }
    }

    /// Settles `chunk`; returns whom it was asked of.
    pub(crate) fn settle(&mut self, geometry: &Geometry, chunk: ChunkIndex) -> Option<PeerSlot> {
        let group = geometry.group_of(chunk);
        let bit = bit(geometry, group, chunk);
        let entries = self.groups.get_mut(&group)?;
        let place = entries.iter().position(|asked| asked.chunks & bit != 0)?;
        let peer = entries[place].peer;
        entries[place].chunks &= !bit;
        if entries[place].chunks == 0 {
            entries.swap_remove(place);
            if entries.is_empty() {
                self.groups.remove(&group);
            }
        }
        Some(peer)
    }

    /// Frees what of `range` was asked of `peer`; returns how many chunks that were.
    pub(crate) fn release(&mut self, geometry: &Geometry, peer: PeerSlot, range: ChunkRange) -> u64 {
        let mut released = 0;
        for group in geometry.groups_touching(range) {
            let Some(entries) = self.groups.get_mut(&group) else { continue };
            let mask = mask(geometry.group_chunks(group), range);
            for asked in entries.iter_mut().filter(|asked| asked.peer == peer) {
                released += u64::from((asked.chunks & mask).count_ones());
                asked.chunks &= !mask;
            }
            entries.retain(|asked| asked.chunks != 0);
            if entries.is_empty() {
                self.groups.remove(&group);
            }
        }
        released
    }

    /// Frees everything that was asked of `peer`.
    pub(crate) fn release_peer(&mut self, peer: PeerSlot) {
        self.groups.retain(|_, entries| {
            entries.retain(|asked| asked.peer != peer);
            !entries.is_empty()
        });
    }
}

/// The bit of `chunk` in `group`.
fn bit(geometry: &Geometry, group: GroupIndex, chunk: ChunkIndex) -> u32 {
    mask(geometry.group_chunks(group), ChunkRange::single(chunk))
}

/// The bits of `range` among `chunks`, which are at most 32.
pub(crate) const fn mask(chunks: ChunkRange, range: ChunkRange) -> u32 {
    let inside = chunks.intersection(range);
    if inside.is_empty() {
        return 0;
    }
    let ones = if inside.count() >= 32 { u32::MAX } else { (1u32 << inside.count()) - 1 };
    ones << (inside.start() - chunks.start())
}
