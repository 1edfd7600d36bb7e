//! How many peers have each group.

use alloc::collections::BTreeMap;

use crate::availability::PeerMap;
use crate::chunk::{ChunkIndex, ChunkRange, Geometry};

/// How many peers have each group, as runs of equal counts: memory follows how scattered the peers' chunks are, and a
/// peer that has everything is one in a counter.
///
/// Positions are group indices. A group counts for a peer that has all of its chunks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rarity {
    /// Peers that have everything.
    complete: u32,
    /// Where a run of equal counts starts, and its count of peers that have a part; absent before the first.
    starts: BTreeMap<u64, u32>,
    /// Most runs kept.
    max_runs: usize,
}

impl Rarity {
    /// Nobody has anything. At most `max_runs` runs are kept, each some 16 bytes: what would take more is not counted.
    pub const fn new(max_runs: usize) -> Self {
        Self { complete: 0, starts: BTreeMap::new(), max_runs }
    }

    /// Number of peers that have `group`.
    pub fn count(&self, group: u64) -> u32 {
        self.complete + self.partial(group)
    }

    /// Number of runs kept.
    pub fn run_count(&self) -> usize {
        self.starts.len()
    }

    /// The parts of `groups` of equal counts, with the counts, in order.
    pub fn runs_in(&self, groups: ChunkRange) -> impl Iterator<Item = (ChunkRange, u32)> {
        let after = groups.start().saturating_add(1);
        let inside = self.starts.range(after..groups.end().max(after));
        let counts = core::iter::once((groups.start(), self.partial(groups.start())))
            .chain(inside.clone().map(|(&start, &count)| (start, count)));
        let ends = inside.map(|(&start, _)| start).chain(core::iter::once(groups.end()));
        counts
            .zip(ends)
            .map(|((start, count), end)| (ChunkRange::new(start, end), self.complete + count))
            .filter(|(run, _)| !run.is_empty())
    }

    /// Counts a peer that has everything.
    pub const fn add_complete(&mut self) {
        self.complete = self.complete.saturating_add(1);
    }

    /// No longer counts a peer that has everything.
    pub const fn remove_complete(&mut self) {
        self.complete = self.complete.saturating_sub(1);
    }

    /// Counts one more peer for each of `groups`.
    pub fn add(&mut self, groups: ChunkRange) {
        self.change(groups, |count| count.saturating_add(1));
    }

    /// Counts one peer fewer for each of `groups`.
    pub fn remove(&mut self, groups: ChunkRange) {
        self.change(groups, |count| count.saturating_sub(1));
    }

    fn partial(&self, group: u64) -> u32 {
        self.starts.range(..=group).next_back().map_or(0, |(_, &count)| count)
    }

    fn change(&mut self, groups: ChunkRange, next: impl Fn(u32) -> u32) {
        let edges = [groups.start(), groups.end()];
        let new = edges.iter().filter(|edge| !self.starts.contains_key(edge)).count();
        // Counts are hints: a crowd of scattered peers is counted in part.
        if groups.is_empty() || (new > 0 && self.starts.len() + new > self.max_runs) {
            return;
        }
        for edge in edges {
            let count = self.partial(edge);
            self.starts.entry(edge).or_insert(count);
        }
        for (_, count) in self.starts.range_mut(groups.start()..groups.end()) {
            *count = next(*count);
        }
        // Only at the ends can neighbours have become equal.
        for edge in edges {
            let before = self.starts.range(..edge).next_back().map_or(0, |(_, &count)| count);
            if self.starts.get(&edge) == Some(&before) {
                self.starts.remove(&edge);
            }
        }
    }
}

/// The groups that a peer with `have` has in full, of those that `part` of its chunks touches.
pub fn whole_groups(geometry: &Geometry, have: &PeerMap, part: ChunkRange) -> ChunkRange {
    let part = part.intersection(geometry.all());
    if part.is_empty() {
        return ChunkRange::EMPTY;
    }
    let [first, last] = [part.start(), part.end() - 1].map(|chunk| geometry.group_of(ChunkIndex::new(chunk)));
    let start = first.value() + u64::from(!have.covers(geometry.group_chunks(first)));
    let end = last.value() + u64::from(have.covers(geometry.group_chunks(last)));
    ChunkRange::new(start, end.max(start))
}
