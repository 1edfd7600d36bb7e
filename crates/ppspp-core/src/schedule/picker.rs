//! Picks the chunks to ask a peer for: in order, from the first that is missing.

use alloc::vec::Vec;

use crate::availability::PeerMap;
use crate::chunk::{ChunkRange, Geometry, GroupIndex, RangeSet};
use crate::schedule::requests::{PeerSlot, Requests, mask};

/// What a picker may ask for.
#[derive(Debug)]
pub(crate) struct Pickable<'a> {
    pub(crate) geometry: &'a Geometry,
    pub(crate) wanted: &'a RangeSet,
    /// Groups that are still to be read back (R22).
    pub(crate) unchecked: &'a RangeSet,
    /// Most groups with outstanding requests (R2).
    pub(crate) max_groups: usize,
}

/// Picks in order.
#[derive(Debug, Default)]
pub(crate) struct Picker {
    /// Every wanted chunk of the groups before this one is verified or asked for.
    frontier: u64,
}

impl Picker {
    /// Looks from the start again: chunks became wanted or free that were not.
    pub(crate) const fn rewind(&mut self) {
        self.frontier = 0;
    }

    /// Asks `peer`, which has `have`, for up to `allowance` chunks and returns the runs, in order.
    ///
    /// `verified` tells which chunks of a group are here already.
    pub(crate) fn pick(
        &mut self,
        from: &Pickable<'_>,
        requests: &mut Requests,
        peer: PeerSlot,
        have: &PeerMap,
        mut allowance: u64,
        verified: impl Fn(GroupIndex) -> u32,
    ) -> Vec<ChunkRange> {
        let mut picked: Vec<ChunkRange> = Vec::new();
        let mut unbroken = true;
        let mut next = self.frontier;
        while allowance > 0 && next < from.geometry.group_count() {
            let group = GroupIndex::new(next);
            let chunks = from.geometry.group_chunks(group);
            if !from.wanted.intersects(chunks) {
                // Skip to the next wanted group.
                let Some(run) =
                    from.wanted.intersection_in(ChunkRange::new(chunks.end(), from.geometry.chunk_count())).next()
                else {
                    break;
                };
                next = from.geometry.group_of(crate::chunk::ChunkIndex::new(run.start())).value();
                if unbroken {
                    self.frontier = next;
                }
                continue;
            }
            let free = if from.unchecked.contains(crate::chunk::ChunkIndex::new(next)) {
                0
            } else {
                set_mask(chunks, from.wanted) & !verified(group) & !requests.asked(group)
            };
            let offered = if free == 0 { 0 } else { free & set_mask(chunks, have.as_set()) };
            if offered != 0 {
                if requests.group_count() >= from.max_groups && requests.asked(group) == 0 {
                    break;
                }
                let taken = lowest_bits(offered, allowance);
                allowance -= u64::from(taken.count_ones());
                requests.ask(group, peer, taken);
                append_runs(&mut picked, chunks.start(), taken);
                unbroken &= taken == free;
            } else {
                unbroken &= free == 0;
            }
            next += 1;
            if unbroken {
                self.frontier = next;
            } else if offered == 0 && free != 0 {
                // Jump over what the peer lacks.
                let rest = ChunkRange::new(chunks.end(), from.geometry.chunk_count());
                let Some(run) = have.as_set().intersection_in(rest).next() else { break };
                next = from.geometry.group_of(crate::chunk::ChunkIndex::new(run.start())).value();
            }
        }
        picked
    }
}

/// The chunks of `set` among `chunks`, as bits.
fn set_mask(chunks: ChunkRange, set: &RangeSet) -> u32 {
    set.intersection_in(chunks).fold(0, |bits, run| bits | mask(chunks, run))
}

/// The lowest `count` set bits of `bits`.
const fn lowest_bits(bits: u32, count: u64) -> u32 {
    let mut rest = bits;
    let mut left = count;
    while rest != 0 && left > 0 {
        rest &= rest - 1;
        left -= 1;
    }
    bits & !rest
}

/// Appends the runs of `bits`, counted from `base`, joining the first to the last run of `picked`.
fn append_runs(picked: &mut Vec<ChunkRange>, base: u64, mut bits: u32) {
    while bits != 0 {
        let start = bits.trailing_zeros();
        let len = (bits >> start).trailing_ones();
        let run = ChunkRange::new(base + u64::from(start), base + u64::from(start + len));
        bits &= !(mask(ChunkRange::new(base, base + 32), run));
        match picked.last_mut() {
            Some(last) if last.end() == run.start() => *last = ChunkRange::new(last.start(), run.end()),
            _ => picked.push(run),
        }
    }
}
