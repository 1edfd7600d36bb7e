//! Which chunks are wanted, which are asked for, of whom, and since which batch.
//!
//! A chunk is in exactly one state: here (the verifier knows), asked for, free (wanted, and to be asked for), or neither
//! wanted nor asked for. [`Requests`] holds the two in the middle; the caller says when a chunk leaves or enters them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use arrayvec::ArrayVec;
use slab::Slab;

use crate::chunk::{ChunkIndex, ChunkRange, Geometry, GroupIndex, RangeSet};

/// Slot of a peer in its swarm.
pub(crate) type PeerSlot = u32;

/// Most batches that chunks of one group can be asked for in: with more, the rest of the group waits.
pub(crate) const MAX_ASKED: usize = 9;

/// Names what one peer was asked for at one time; the channel that was asked gives it out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct BatchId(pub(crate) u32);

/// Chunks of one group that one peer was asked for in one batch: bit n is the group's n-th chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Asked {
    peer: PeerSlot,
    batch: BatchId,
    chunks: u32,
}

/// Whom a chunk was asked of.
pub(crate) type Owners = ArrayVec<(PeerSlot, BatchId), MAX_ASKED>;

/// The part of a group that is asked for. Entries overlap in the end game alone.
#[derive(Debug, Default)]
struct Record {
    asked: ArrayVec<Asked, MAX_ASKED>,
}

impl Record {
    fn all(&self) -> u32 {
        self.asked.iter().fold(0, |all, asked| all | asked.chunks)
    }
}

/// Free and outstanding chunks of a swarm.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    records: Slab<Record>,
    index: BTreeMap<GroupIndex, usize>,
    /// The record used last: chunks of a group come together.
    recent: Option<(GroupIndex, usize)>,
    free: RangeSet,
    /// Groups of which a part alone is free: to be finished first (R2).
    torn: BTreeSet<GroupIndex>,
    /// Grows whenever chunks become free.
    version: u64,
}

impl Requests {
    /// Groups with outstanding requests.
    pub(crate) fn group_count(&self) -> usize {
        self.index.len()
    }

    /// The chunks that are to be asked for.
    pub(crate) const fn free(&self) -> &RangeSet {
        &self.free
    }

    /// A number that changes whenever chunks become free: who found nothing to ask for need not look again before.
    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    /// Groups of which some chunks are free and others are not, in order.
    pub(crate) fn torn(&self) -> impl Iterator<Item = GroupIndex> {
        self.torn.iter().copied()
    }

    /// Whether some chunks of `group` are free and others are not.
    pub(crate) fn is_torn(&self, group: GroupIndex) -> bool {
        self.torn.contains(&group)
    }

    /// Whether a run of `group` can be asked for: it may fall into two batches.
    pub(crate) fn has_room(&self, group: GroupIndex) -> bool {
        self.find(group).is_none_or(|key| self.records[key].asked.remaining_capacity() >= 2)
    }

    /// The chunks of `group` that are asked for.
    pub(crate) fn asked(&self, group: GroupIndex) -> u32 {
        self.find(group).map_or(0, |key| self.records[key].all())
    }

    /// Whether `chunk` is asked for.
    pub(crate) fn is_asked(&self, geometry: &Geometry, chunk: ChunkIndex) -> bool {
        let group = geometry.group_of(chunk);
        self.asked(group) & bit(geometry, group, chunk) != 0
    }

    /// The chunks of `group` that `peer` is asked for.
    pub(crate) fn asked_of(&self, group: GroupIndex, peer: PeerSlot) -> u32 {
        let Some(key) = self.find(group) else { return 0 };
        self.records[key].asked.iter().filter(|asked| asked.peer == peer).fold(0, |all, asked| all | asked.chunks)
    }

    /// The chunks of `group` that `peer` alone is asked for.
    pub(crate) fn asked_of_alone(&self, group: GroupIndex, peer: PeerSlot) -> u32 {
        let Some(key) = self.find(group) else { return 0 };
        let others = self.records[key].asked.iter().filter(|asked| asked.peer != peer);
        self.asked_of(group, peer) & !others.fold(0, |all, asked| all | asked.chunks)
    }

    /// Whom all of `chunks`, those of `group`, are asked of, if that is one peer.
    pub(crate) fn owner_of(&self, group: GroupIndex, chunks: u32) -> Option<PeerSlot> {
        let asked = self.records[self.find(group)?].asked.first()?;
        (asked.chunks == chunks).then_some(asked.peer)
    }

    /// Every group that is asked for in part at least, with whom each chunk is asked of, in order.
    pub(crate) fn outstanding(
        &self,
    ) -> impl Iterator<Item = (GroupIndex, impl Iterator<Item = (PeerSlot, BatchId, u32)>)> {
        let asked = |key: usize| self.records[key].asked.iter().map(|asked| (asked.peer, asked.batch, asked.chunks));
        self.index.iter().map(move |(&group, &key)| (group, asked(key)))
    }

    /// Makes `range` wanted: none of it is here or asked for.
    pub(crate) fn want(&mut self, geometry: &Geometry, range: ChunkRange) {
        if self.free.insert(range) > 0 {
            self.version += 1;
        }
        self.mend(geometry, range);
    }

    /// Makes the free chunks of `range` no longer wanted, or here; what is asked for stays.
    pub(crate) fn unwant(&mut self, geometry: &Geometry, range: ChunkRange) {
        self.free.remove(range);
        self.mend(geometry, range);
    }

    /// Asks `peer` for the free chunks of `range`, as part of `batch`; returns how many that are.
    pub(crate) fn ask(&mut self, geometry: &Geometry, range: ChunkRange, peer: PeerSlot, batch: BatchId) -> u64 {
        let mut left = Vec::new();
        let before = self.free.count();
        for group in geometry.groups_touching(range) {
            let chunks = geometry.group_chunks(group);
            let taken = set_mask(chunks, &self.free) & mask(chunks, range);
            if taken != 0 && !self.enter(group, peer, batch, taken) {
                left.extend(bit_runs(chunks.start(), taken));
            }
        }
        self.free.remove(range);
        self.free.extend(left);
        self.mend(geometry, range);
        before - self.free.count()
    }

    /// Asks `peer` for chunks of `group` that others are asked for already; returns those it was not asked for before.
    pub(crate) fn ask_also(&mut self, group: GroupIndex, chunks: u32, peer: PeerSlot, batch: BatchId) -> u32 {
        let added = chunks & self.asked(group) & !self.asked_of(group, peer);
        if added != 0 && self.enter(group, peer, batch, added) { added } else { 0 }
    }

    fn enter(&mut self, group: GroupIndex, peer: PeerSlot, batch: BatchId, chunks: u32) -> bool {
        let key = self.find(group).unwrap_or_else(|| {
            let key = self.records.insert(Record::default());
            self.index.insert(group, key);
            key
        });
        self.recent = Some((group, key));
        let asked = &mut self.records[key].asked;
        match asked.iter_mut().find(|asked| asked.peer == peer && asked.batch == batch) {
            Some(asked) => asked.chunks |= chunks,
            None => return asked.try_push(Asked { peer, batch, chunks }).is_ok(),
        }
        true
    }

    /// Settles `chunk`, which is here: it is neither free nor asked for. Returns whom it was asked of.
    pub(crate) fn settle(&mut self, geometry: &Geometry, chunk: ChunkIndex) -> Owners {
        let group = geometry.group_of(chunk);
        let bit = bit(geometry, group, chunk);
        let mut owners = Owners::new();
        if let Some(key) = self.find(group) {
            self.recent = Some((group, key));
            let asked = &mut self.records[key].asked;
            for asked in asked.iter_mut().filter(|asked| asked.chunks & bit != 0) {
                asked.chunks &= !bit;
                owners.push((asked.peer, asked.batch));
            }
            self.sweep(group, key);
        }
        if owners.is_empty() {
            self.unwant(geometry, ChunkRange::single(chunk));
        }
        owners
    }

    /// Takes back what of `range` was asked of `peer`: it is free, unless another is asked for it too. Returns the runs
    /// and the batches they belonged to.
    pub(crate) fn release(
        &mut self,
        geometry: &Geometry,
        peer: PeerSlot,
        range: ChunkRange,
    ) -> Vec<(ChunkRange, BatchId)> {
        let mut released = Vec::new();
        for (group, key) in self.records_in(geometry, range) {
            let chunks = geometry.group_chunks(group);
            let within = mask(chunks, range);
            let mut taken = 0;
            for asked in self.records[key].asked.iter_mut().filter(|asked| asked.peer == peer) {
                let bits = asked.chunks & within;
                asked.chunks &= !bits;
                taken |= bits;
                released.extend(bit_runs(chunks.start(), bits).map(|run| (run, asked.batch)));
            }
            if taken != 0 {
                let free = taken & !self.records[key].all();
                self.sweep(group, key);
                for run in bit_runs(chunks.start(), free) {
                    self.want(geometry, run);
                }
            }
        }
        released
    }

    /// The records of the groups that `range` touches.
    fn records_in(&self, geometry: &Geometry, range: ChunkRange) -> Vec<(GroupIndex, usize)> {
        if range.is_empty() {
            return Vec::new();
        }
        let [first, last] = [range.start(), range.end() - 1].map(|chunk| geometry.group_of(ChunkIndex::new(chunk)));
        self.index.range(first..=last).map(|(&group, &key)| (group, key)).collect()
    }

    /// Drops what is empty.
    fn sweep(&mut self, group: GroupIndex, key: usize) {
        let asked = &mut self.records[key].asked;
        if asked.iter().all(|asked| asked.chunks != 0) {
            return;
        }
        asked.retain(|asked| asked.chunks != 0);
        if asked.is_empty() {
            self.records.remove(key);
            self.index.remove(&group);
            self.recent = None;
        }
    }

    /// Finds out anew whether the groups at the ends of `range`, which changed as a whole, are torn.
    fn mend(&mut self, geometry: &Geometry, range: ChunkRange) {
        if range.is_empty() {
            return;
        }
        let first = geometry.group_of(ChunkIndex::new(range.start()));
        let last = geometry.group_of(ChunkIndex::new(range.end() - 1));
        let inside: Vec<GroupIndex> = self.torn.range(first..=last).copied().collect();
        for group in inside.into_iter().chain([first, last]) {
            let chunks = geometry.group_chunks(group);
            if self.free.intersects(chunks) && !self.free.covers(chunks) {
                self.torn.insert(group);
            } else {
                self.torn.remove(&group);
            }
        }
    }

    /// The key of `group`'s record.
    fn find(&self, group: GroupIndex) -> Option<usize> {
        match self.recent {
            Some((recent, key)) if recent == group => Some(key),
            _ => self.index.get(&group).copied(),
        }
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

/// The chunks of `set` among `chunks`, those of one group, as bits.
pub(crate) fn set_mask(chunks: ChunkRange, set: &RangeSet) -> u32 {
    set.intersection_in(chunks).fold(0, |bits, run| bits | mask(chunks, run))
}

/// The runs of `bits`, counted from `base`.
pub(crate) fn bit_runs(base: u64, bits: u32) -> impl Iterator<Item = ChunkRange> {
    let mut rest = bits;
    core::iter::from_fn(move || {
        (rest != 0).then(|| {
            let start = rest.trailing_zeros();
            let len = (rest >> start).trailing_ones();
            rest &= rest.wrapping_add(1 << start);
            ChunkRange::new(base + u64::from(start), base + u64::from(start + len))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::ChunkSize;

    /// Chunks of the content: four groups and a part.
    const CHUNKS: u64 = 70;

    fn geometry() -> Geometry {
        Geometry::new(CHUNKS * 1024 - 100, ChunkSize::DEFAULT).unwrap()
    }

    fn single(chunk: u64) -> ChunkRange {
        ChunkRange::new(chunk, chunk + 1)
    }

    #[test]
    fn a_group_torn_among_many_waits() {
        let geometry = geometry();
        let mut requests = Requests::default();
        requests.want(&geometry, ChunkRange::new(0, 16));
        for chunk in 0..MAX_ASKED as u64 {
            assert_eq!(requests.ask(&geometry, single(chunk), chunk as PeerSlot, BatchId(0)), 1);
        }
        let group = geometry.group_of(ChunkIndex::new(0));
        assert!(!requests.has_room(group));
        assert_eq!(requests.ask(&geometry, single(10), 99, BatchId(0)), 0);
        assert!(requests.free().contains(ChunkIndex::new(10)), "it stays free");
        requests.settle(&geometry, ChunkIndex::new(3));
        assert!(!requests.has_room(group), "a run may fall into two batches");
        requests.settle(&geometry, ChunkIndex::new(4));
        assert!(requests.has_room(group));
    }

    #[test]
    fn the_version_tells_of_chunks_that_became_free() {
        let geometry = geometry();
        let mut requests = Requests::default();
        requests.want(&geometry, ChunkRange::new(0, 32));
        let version = requests.version();
        requests.ask(&geometry, ChunkRange::new(0, 32), 1, BatchId(0));
        requests.settle(&geometry, ChunkIndex::new(5));
        assert_eq!(requests.version(), version);
        requests.release(&geometry, 1, ChunkRange::new(0, 4));
        assert_ne!(requests.version(), version);
    }
}
