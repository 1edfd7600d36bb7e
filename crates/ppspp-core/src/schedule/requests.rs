//! Which chunks are wanted, which are asked for, of whom, and since which batch.
//!
//! A chunk is in exactly one state: here (the verifier knows), asked for, free (wanted, and to be asked for), or neither
//! wanted nor asked for. [`Requests`] holds the two in the middle; the caller says when a chunk leaves or enters them.
//! What was asked for and withdrawn counts as asked for until the caller knows that it will not come.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use crate::chunk::{ChunkIndex, ChunkRange, Geometry, GroupIndex, GroupMap, RangeSet};
use arrayvec::ArrayVec;

/// Slot of a peer in its swarm.
pub(crate) type PeerSlot = u32;

/// Most batches that chunks of one group can be asked for in: with more, the rest of the group waits.
pub(crate) const MAX_ASKED: usize = 9;
/// Batches that a run may fall into.
pub(crate) const RUN_BATCHES: usize = 2;
/// Batches that a group must have room for where a peer is asked for one chunk of it to find out whether it answers: those
/// that do not leave the rest to others.
pub(crate) const PROBE_BATCHES: usize = MAX_ASKED - 2;

/// Names what one peer was asked for at one time; the channel that was asked gives it out. Names repeat after 2^31.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct BatchId(NonZeroU32);

impl BatchId {
    /// The name of the batch with this number.
    pub(crate) fn new(number: u32) -> Self {
        // Never zero: a batch or none takes no more room than a number.
        Self(NonZeroU32::MIN | (number << 1))
    }

    /// How many batches after the one with the number `first` it was named.
    pub(crate) const fn after(self, first: u32) -> u32 {
        (self.0.get() >> 1).wrapping_sub(first) & (u32::MAX >> 1)
    }
}

/// Chunks of one group that one peer was asked for in one batch: bit n is the group's n-th chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Asked {
    peer: PeerSlot,
    /// None of those that were withdrawn.
    batch: Option<BatchId>,
    chunks: u32,
}

/// The part of a group that is asked for. Entries overlap in the end game alone.
#[derive(Debug, Default)]
struct Record {
    /// The chunks of all entries.
    all: u32,
    asked: ArrayVec<Asked, MAX_ASKED>,
}

impl Record {
    /// Brings `all` up to date after entries changed.
    fn join(&mut self) {
        self.all = self.asked.iter().fold(0, |all, asked| all | asked.chunks);
    }
}

/// Free and outstanding chunks of a swarm.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    records: GroupMap<Record>,
    free: RangeSet,
    /// Groups of which a part alone is free: to be finished first (R2).
    torn: BTreeSet<GroupIndex>,
    /// Grows whenever chunks become free.
    version: u64,
}

impl Requests {
    /// Groups with outstanding requests.
    pub(crate) fn group_count(&self) -> usize {
        self.records.len()
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

    /// Whether chunks of `group` can be asked for in so many more `batches`.
    pub(crate) fn has_room(&self, group: GroupIndex, batches: usize) -> bool {
        self.records.get(group).is_none_or(|record| record.asked.remaining_capacity() >= batches)
    }

    /// The chunks of `group` that are asked for.
    pub(crate) fn asked(&self, group: GroupIndex) -> u32 {
        self.records.get(group).map_or(0, |record| record.all)
    }

    /// Whether `chunk` is asked for.
    pub(crate) fn is_asked(&self, geometry: &Geometry, chunk: ChunkIndex) -> bool {
        self.asked(geometry.group_of(chunk)) & geometry.bit_of(chunk) != 0
    }

    /// The chunks of `group` that `peer` is asked for.
    pub(crate) fn asked_of(&self, group: GroupIndex, peer: PeerSlot) -> u32 {
        let Some(record) = self.records.get(group) else { return 0 };
        record.asked.iter().filter(|asked| asked.peer == peer).fold(0, |all, asked| all | asked.chunks)
    }

    /// The chunks of `group` that `peer` alone is asked for, but for those that were withdrawn.
    pub(crate) fn asked_of_alone(&self, group: GroupIndex, peer: PeerSlot) -> u32 {
        let Some(record) = self.records.get(group) else { return 0 };
        let (theirs, others) = record.asked.iter().fold((0, 0), |(theirs, others), asked| {
            let is_live = asked.peer == peer && asked.batch.is_some();
            if is_live { (theirs | asked.chunks, others) } else { (theirs, others | asked.chunks) }
        });
        theirs & !others
    }

    /// Whom all of `chunks`, those of `group`, are asked of, if that is one peer and they were not withdrawn.
    pub(crate) fn owner_of(&self, group: GroupIndex, chunks: u32) -> Option<PeerSlot> {
        let asked = self.records.get(group)?.asked.first()?;
        (asked.chunks == chunks && asked.batch.is_some()).then_some(asked.peer)
    }

    /// Every group that is asked for in part at least, with whom each chunk is asked of, in order.
    pub(crate) fn outstanding(
        &self,
    ) -> impl Iterator<Item = (GroupIndex, impl Iterator<Item = (PeerSlot, Option<BatchId>, u32)>)> {
        self.records
            .iter()
            .map(|(group, record)| (group, record.asked.iter().map(|asked| (asked.peer, asked.batch, asked.chunks))))
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
        let Record { all, asked } = self.records.get_or_insert_with(group, Record::default);
        let batch = Some(batch);
        let entered = match asked.iter_mut().find(|asked| asked.peer == peer && asked.batch == batch) {
            Some(asked) => {
                asked.chunks |= chunks;
                true
            }
            None => asked.try_push(Asked { peer, batch, chunks }).is_ok(),
        };
        *all |= if entered { chunks } else { 0 };
        entered
    }

    /// Settles `chunks` of `group`, which are here: they are neither free nor asked for. Tells `on_owner` whom they were
    /// asked of.
    #[inline]
    pub(crate) fn settle(
        &mut self,
        geometry: &Geometry,
        group: GroupIndex,
        chunks: u32,
        mut on_owner: impl FnMut(PeerSlot, Option<BatchId>, u32),
    ) {
        let mut unasked = chunks;
        if let Some(Record { all, asked }) = self.records.get_mut(group) {
            let mut done = false;
            *all &= !chunks;
            for asked in asked.iter_mut().filter(|asked| asked.chunks & chunks != 0) {
                on_owner(asked.peer, asked.batch, asked.chunks & chunks);
                unasked &= !asked.chunks;
                asked.chunks &= !chunks;
                done |= asked.chunks == 0;
            }
            if done {
                self.sweep(group);
            }
        }
        if unasked != 0 {
            for run in bit_runs(geometry.group_chunks(group).start(), unasked) {
                self.unwant(geometry, run);
            }
        }
    }

    /// Takes back what of `range` was asked of `peer` and not withdrawn: it is free, unless another is asked for it too.
    /// Returns the runs and the batches they belonged to.
    pub(crate) fn release(
        &mut self,
        geometry: &Geometry,
        peer: PeerSlot,
        range: ChunkRange,
    ) -> Vec<(ChunkRange, BatchId)> {
        let mut released = Vec::new();
        self.release_if(
            geometry,
            range,
            |asked| asked.batch.filter(|_| asked.peer == peer),
            |run, batch| {
                released.push((run, batch));
            },
        );
        released
    }

    /// Frees all that `peer` was asked for, unless another is asked for it too: nothing of it will come.
    pub(crate) fn release_all(&mut self, geometry: &Geometry, peer: PeerSlot) {
        self.release_if(geometry, geometry.all(), |asked| (asked.peer == peer).then_some(()), |_, ()| {});
    }

    /// Withdraws all that `peer` is asked for of `group`: it belongs to no batch any more, and to nobody else until
    /// [`Requests::release_withdrawn`]. Returns the runs and the batches they belonged to.
    pub(crate) fn withdraw(
        &mut self,
        geometry: &Geometry,
        peer: PeerSlot,
        group: GroupIndex,
    ) -> Vec<(ChunkRange, BatchId)> {
        let mut withdrawn = Vec::new();
        let Some(Record { asked, .. }) = self.records.get_mut(group) else { return withdrawn };
        let start = geometry.group_chunks(group).start();
        let mut all = 0;
        for one in asked.iter_mut().filter(|asked| asked.peer == peer) {
            let chunks = core::mem::take(&mut one.chunks);
            all |= chunks;
            if let Some(batch) = one.batch {
                withdrawn.extend(bit_runs(start, chunks).map(|run| (run, batch)));
            }
        }
        if let Some(one) = asked.iter_mut().find(|asked| asked.peer == peer) {
            *one = Asked { peer, batch: None, chunks: all };
            self.sweep(group);
        }
        withdrawn
    }

    /// Frees what of `group` was withdrawn from `peer` and has not come, unless another is asked for it too.
    pub(crate) fn release_withdrawn(&mut self, geometry: &Geometry, peer: PeerSlot, group: GroupIndex) {
        let chunks = geometry.group_chunks(group);
        let applies = |asked: &Asked| (asked.peer == peer && asked.batch.is_none()).then_some(());
        self.release_if(geometry, chunks, applies, |_, ()| {});
    }

    /// Frees what of `range` belongs to entries that `choose` has something to say of, and tells that with each run.
    fn release_if<T: Copy>(
        &mut self,
        geometry: &Geometry,
        range: ChunkRange,
        choose: impl Fn(&Asked) -> Option<T>,
        mut tell: impl FnMut(ChunkRange, T),
    ) {
        for group in self.asked_in(geometry, range) {
            let Some(record) = self.records.get_mut(group) else { continue };
            let chunks = geometry.group_chunks(group);
            let within = mask(chunks, range);
            let mut taken = 0;
            for asked in &mut record.asked {
                let Some(chosen) = choose(asked) else { continue };
                let bits = asked.chunks & within;
                asked.chunks &= !bits;
                taken |= bits;
                bit_runs(chunks.start(), bits).for_each(|run| tell(run, chosen));
            }
            if taken != 0 {
                record.join();
                let free = taken & !record.all;
                self.sweep(group);
                for run in bit_runs(chunks.start(), free) {
                    self.want(geometry, run);
                }
            }
        }
    }

    /// The groups that `range` touches and that are asked for in part at least.
    fn asked_in(&self, geometry: &Geometry, range: ChunkRange) -> Vec<GroupIndex> {
        if range.is_empty() {
            return Vec::new();
        }
        let first = geometry.group_of(ChunkIndex::new(range.start()));
        let last = geometry.group_of(ChunkIndex::new(range.end() - 1));
        self.records.groups_in(first, GroupIndex::new(last.value() + 1)).collect()
    }

    /// Those of `groups`, by their numbers, that are asked for in part at least.
    pub(crate) fn asked_among(&self, groups: ChunkRange) -> impl Iterator<Item = GroupIndex> {
        self.records.groups_in(GroupIndex::new(groups.start()), GroupIndex::new(groups.end()))
    }

    /// Drops what is empty of the record of `group`.
    fn sweep(&mut self, group: GroupIndex) {
        let Some(Record { asked, .. }) = self.records.get_mut(group) else { return };
        if asked.iter().all(|asked| asked.chunks != 0) {
            return;
        }
        asked.retain(|asked| asked.chunks != 0);
        if asked.is_empty() {
            self.records.remove(group);
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
            assert_eq!(requests.ask(&geometry, single(chunk), chunk as PeerSlot, BatchId::new(0)), 1);
        }
        let group = geometry.group_of(ChunkIndex::new(0));
        assert!(!requests.has_room(group, RUN_BATCHES));
        assert_eq!(requests.ask(&geometry, single(10), 99, BatchId::new(0)), 0);
        assert!(requests.free().contains(ChunkIndex::new(10)), "it stays free");
        requests.settle(&geometry, group, 1 << 3, |_, _, _| {});
        assert!(!requests.has_room(group, RUN_BATCHES), "a run may fall into two batches");
        requests.settle(&geometry, group, 1 << 4, |_, _, _| {});
        assert!(requests.has_room(group, RUN_BATCHES));
    }

    #[test]
    fn the_place_of_a_batch_follows_from_its_name_wherever_numbers_wrap() {
        for first in [0, 5, (1 << 31) - 1, 1 << 31, u32::MAX - 1, u32::MAX] {
            for place in [0, 1, 2, 1000] {
                assert_eq!(BatchId::new(first.wrapping_add(place)).after(first), place, "{first}");
            }
            // One that is over has no place among any number of batches.
            assert!(BatchId::new(first.wrapping_sub(1)).after(first) > 1 << 30, "{first}");
        }
        assert_eq!(size_of::<Option<BatchId>>(), 4);
    }

    #[test]
    fn the_version_tells_of_chunks_that_became_free() {
        let geometry = geometry();
        let mut requests = Requests::default();
        requests.want(&geometry, ChunkRange::new(0, 32));
        let version = requests.version();
        requests.ask(&geometry, ChunkRange::new(0, 32), 1, BatchId::new(0));
        requests.settle(&geometry, GroupIndex::new(0), 1 << 5, |_, _, _| {});
        assert_eq!(requests.version(), version);
        requests.release(&geometry, 1, ChunkRange::new(0, 4));
        assert_ne!(requests.version(), version);
    }
}
