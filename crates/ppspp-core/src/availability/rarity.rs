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

    /// Number of peers that have everything.
    pub const fn complete(&self) -> u32 {
        self.complete
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

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::chunk::ChunkSize;

    const GROUPS: u64 = 40;

    proptest! {
        #[test]
        fn counts_like_a_counter_per_group(
            steps in prop::collection::vec((0..GROUPS, 1u64..20, any::<bool>()), 0..60),
            complete in 0u32..3,
        ) {
            let mut rarity = Rarity::new(usize::MAX);
            let mut twin = [complete; GROUPS as usize];
            for _ in 0..complete {
                rarity.add_complete();
            }
            let mut added: Vec<ChunkRange> = Vec::new();
            for (start, count, leave) in steps {
                // Only what was added is removed.
                if leave && let Some(groups) = added.pop() {
                    rarity.remove(groups);
                    groups.iter().for_each(|group| twin[group.value() as usize] -= 1);
                } else {
                    let groups = ChunkRange::new(start, (start + count).min(GROUPS));
                    rarity.add(groups);
                    groups.iter().for_each(|group| twin[group.value() as usize] += 1);
                    added.push(groups);
                }
                for group in 0..GROUPS {
                    prop_assert_eq!(rarity.count(group), twin[group as usize]);
                }
                let runs: Vec<_> = rarity.runs_in(ChunkRange::new(3, GROUPS)).collect();
                prop_assert_eq!(runs.iter().map(|(run, _)| run.count()).sum::<u64>(), GROUPS - 3);
                for (run, count) in runs {
                    prop_assert!(run.iter().all(|group| twin[group.value() as usize] == count));
                }
            }
            for groups in added {
                rarity.remove(groups);
            }
            prop_assert_eq!(rarity.run_count(), 0, "nothing is left of peers that left");
        }
    }

    #[test]
    fn scattered_peers_take_bounded_memory() {
        const MAX_RUNS: usize = 100;
        let mut rarity = Rarity::new(MAX_RUNS);
        for group in 0..10_000 {
            rarity.add(ChunkRange::new(3 * group, 3 * group + 1));
            assert!(rarity.run_count() <= MAX_RUNS);
        }
        rarity.add_complete();
        assert_eq!((rarity.count(0), rarity.count(1), rarity.complete()), (2, 1, 1));
    }

    #[test]
    fn a_group_counts_when_it_is_whole() {
        let geometry = Geometry::new(70 * 1024, ChunkSize::DEFAULT).unwrap();
        let mut have = PeerMap::new();
        for (range, whole) in
            [((0, 10), (0, 0)), ((10, 40), (0, 2)), ((66, 70), (5, 5)), ((64, 66), (4, 5)), ((40, 64), (2, 4))]
        {
            let range = ChunkRange::new(range.0, range.1);
            have.add(range, None, 100);
            let found = whole_groups(&geometry, &have, range);
            assert_eq!((found.count(), ChunkRange::new(whole.0, whole.1).count()), (whole.1 - whole.0, found.count()));
            assert!(found.is_empty() || found == ChunkRange::new(whole.0, whole.1), "{found:?}");
        }
    }
}
