//! How many peers have each group.

use alloc::vec;
use alloc::vec::Vec;

use arrayvec::ArrayVec;

use crate::availability::PeerMap;
use crate::chunk::{ChunkIndex, ChunkRange, Geometry, partition_near};

/// Most runs in a leaf: a change moves half of them, and a search looks at two lists in place of the nodes of a deep
/// tree. Few in tests, so that there are many leaves.
const LEAF: usize = if cfg!(test) { 8 } else { 256 };

/// Runs that two leaves are made one for: scattered chunks that become whole leave few behind.
const SPARSE: usize = LEAF / 2;

/// Runs that are changed in one step.
const FEW: usize = 4;

/// A place among the runs: in which leaf, and behind how many of its runs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    leaf: usize,
    place: usize,
}

/// How many peers have each group, as runs of equal counts: memory follows how scattered the peers' chunks are, and a
/// peer that has everything is one in a counter.
///
/// Positions are group indices. A group counts for a peer that has all of its chunks.
#[derive(Clone, Debug)]
pub struct Rarity {
    /// Peers that have everything.
    complete: u32,
    /// Where a run of equal counts starts, and its count of peers that have a part, ascending; absent before the first.
    /// Leaves of at most [`LEAF`], none of them empty; any two neighbours have more than [`SPARSE`] together.
    leaves: Vec<Vec<(u64, u32)>>,
    /// Runs in all leaves.
    runs: usize,
    /// Most runs kept.
    max_runs: usize,
}

impl Rarity {
    /// Nobody has anything. At most `max_runs` runs are kept, each some 16 bytes, 128 at worst: what would take more is not
    /// counted.
    pub const fn new(max_runs: usize) -> Self {
        Self { complete: 0, leaves: Vec::new(), runs: 0, max_runs }
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
    pub const fn run_count(&self) -> usize {
        self.runs
    }

    /// The parts of `groups` of equal counts, with the counts, in order.
    pub fn runs_in(&self, groups: ChunkRange) -> impl Iterator<Item = (ChunkRange, u32)> {
        self.runs_from(self.after(groups.start()), groups)
    }

    /// [`Rarity::runs_in`] for one part after another, each behind the last: where one begins is looked for near the place
    /// `near`, which is where the one before began.
    pub(crate) fn runs_near<'r>(
        &'r self,
        near: &mut Place,
        groups: ChunkRange,
    ) -> impl Iterator<Item = (ChunkRange, u32)> + use<'r> {
        *near = self.step_to(*near, groups.start()).unwrap_or_else(|| self.after(groups.start()));
        self.runs_from(*near, groups)
    }

    /// The place [`Rarity::after`] gives for `group`, if it is in the leaf of `near` and not before that.
    fn step_to(&self, near: Place, group: u64) -> Option<Place> {
        let leaf = self.leaves.get(near.leaf)?;
        let (before, rest) = leaf.split_at_checked(near.place)?;
        // A place before the first run of a leaf may be behind one of the leaf before.
        let starts = before.last()?.0;
        let place = near.place + partition_near(rest, |(start, _)| *start <= group);
        (place < leaf.len() && starts <= group).then_some(Place { place, ..near })
    }

    /// The runs of `groups`, whose start stands at `place`.
    fn runs_from(&self, Place { leaf, place }: Place, groups: ChunkRange) -> impl Iterator<Item = (ChunkRange, u32)> {
        let mut rest = self.leaves.get(leaf).and_then(|leaf| leaf.get(place..)).unwrap_or_default();
        let mut later = self.leaves.get(leaf + 1..).unwrap_or_default().iter();
        let mut start = groups.start();
        let mut count = self.count_before(Place { leaf, place });
        core::iter::from_fn(move || {
            if start >= groups.end() {
                return None;
            }
            if rest.is_empty() {
                rest = later.next().map_or(&[], Vec::as_slice);
            }
            let next = rest.split_first().filter(|((next, _), _)| *next < groups.end());
            let run = ChunkRange::new(start, next.map_or(groups.end(), |((next, _), _)| *next));
            let counted = (run, self.complete + count);
            start = run.end();
            if let Some(((_, following), after)) = next {
                (count, rest) = (*following, after);
            }
            Some(counted)
        })
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

    /// Takes `range` away from what a peer has, in `max_runs` runs at most, which is counted here and is not everything.
    /// Costs what lies in these groups, however much else the peer has.
    pub(crate) fn take_away(&mut self, geometry: &Geometry, have: &mut PeerMap, range: ChunkRange, max_runs: usize) {
        let range = range.intersection(geometry.all());
        if range.is_empty() {
            return;
        }
        let range = have.removable(range, max_runs);
        let [first, last] = [range.start(), range.end() - 1].map(|chunk| geometry.group_of(ChunkIndex::new(chunk)));
        let touched = ChunkRange::new(geometry.group_chunks(first).start(), geometry.group_chunks(last).end());
        for part in have.as_set().intersection_in(touched) {
            self.remove(whole_groups(geometry, have, part));
        }
        have.remove(range);
        for part in have.as_set().intersection_in(touched) {
            self.add(whole_groups(geometry, have, part));
        }
    }

    fn partial(&self, group: u64) -> u32 {
        self.count_before(self.after(group))
    }

    /// The place behind the last run that starts at or before `group`.
    fn after(&self, group: u64) -> Place {
        let starts_by = |&(start, _): &(u64, u32)| start <= group;
        let leaf = self.leaves.partition_point(|leaf| leaf.first().is_some_and(starts_by)).saturating_sub(1);
        Place { leaf, place: self.leaves.get(leaf).map_or(0, |leaf| leaf.partition_point(starts_by)) }
    }

    /// The count of the run before such a place: only in the first leaf is there none.
    fn count_before(&self, Place { leaf, place }: Place) -> u32 {
        let before = place.checked_sub(1).and_then(|before| self.leaves.get(leaf)?.get(before));
        before.map_or(0, |&(_, count)| count)
    }

    fn change(&mut self, groups: ChunkRange, next: impl Fn(u32) -> u32) {
        if groups.is_empty() || self.change_few(groups, &next) {
            return;
        }
        let edges = [groups.start(), groups.end()];
        let new = edges.into_iter().filter(|&edge| self.starting_at(edge).is_none()).count();
        // Counts are hints: a crowd of scattered peers is counted in part.
        if new > 0 && self.runs + new > self.max_runs {
            return;
        }
        for edge in edges {
            self.split(edge);
        }
        let Place { leaf, .. } = self.after(groups.start());
        let inside = self.leaves[leaf..].iter_mut().flatten().skip_while(|(start, _)| *start < groups.start());
        for (_, count) in inside.take_while(|(start, _)| *start < groups.end()) {
            *count = next(*count);
        }
        // Only at the ends can neighbours have become equal.
        for edge in edges {
            self.join(edge);
        }
    }

    /// [`Rarity::change`] where few runs of one leaf are concerned, as when one peer got one group: in one step. Returns
    /// whether that is so; nothing is changed otherwise.
    fn change_few(&mut self, groups: ChunkRange, next: impl Fn(u32) -> u32) -> bool {
        let Place { leaf: at, place: after } = self.after(groups.start());
        let Some(leaf) = self.leaves.get_mut(at) else { return false };
        // The runs that `groups` touches, and one on each side of them.
        let Some(first) = after.checked_sub(1).filter(|&first| first > 0) else { return false };
        let touched = leaf[first..].iter().take(FEW + 1).take_while(|(start, _)| *start < groups.end()).count();
        let mut end = first + touched;
        if touched > FEW || end == leaf.len() || self.runs + 2 > self.max_runs {
            return false;
        }
        let mut changed: ArrayVec<(u64, u32), { FEW + 2 }> = ArrayVec::new();
        let (start, count) = leaf[first];
        let mut before = leaf[first - 1].1;
        if start < groups.start() {
            changed.push((start, count));
            before = count;
        }
        let mut last = count;
        for (start, count) in core::iter::once((groups.start(), count)).chain(leaf[first + 1..end].iter().copied()) {
            last = count;
            if next(count) != before {
                changed.push((start, next(count)));
            }
            before = next(count);
        }
        let (start, count) = leaf[end];
        if start > groups.end() {
            if last != before {
                changed.push((groups.end(), last));
            }
        } else if count == before {
            end += 1;
        }
        self.runs = self.runs + changed.len() - (end - first);
        leaf.splice(first..end, changed);
        self.balance(at);
        true
    }

    /// Leaf and place of the run that starts at `edge`.
    fn starting_at(&self, edge: u64) -> Option<(usize, usize)> {
        let Place { leaf, place: after } = self.after(edge);
        let place = after.checked_sub(1)?;
        (self.leaves.get(leaf)?.get(place)?.0 == edge).then_some((leaf, place))
    }

    /// Lets a run start at `edge`.
    fn split(&mut self, edge: u64) {
        if self.starting_at(edge).is_some() {
            return;
        }
        let found = self.after(edge);
        let (Place { leaf: at, place }, count) = (found, self.count_before(found));
        self.runs += 1;
        let Some(leaf) = self.leaves.get_mut(at) else {
            self.leaves.push(vec![(edge, count)]);
            return;
        };
        leaf.insert(place, (edge, count));
        self.balance(at);
    }

    /// Lets no run start at `edge` if those on both sides of it have equal counts.
    fn join(&mut self, edge: u64) {
        let Some((at, place)) = self.starting_at(edge) else { return };
        let before = edge.checked_sub(1).map_or(0, |before| self.partial(before));
        let leaf = &mut self.leaves[at];
        if leaf[place].1 == before {
            leaf.remove(place);
            self.runs -= 1;
            self.balance(at);
        }
    }

    /// Cuts the leaf at `at`, which has changed, in two if it has too many runs, or puts it together with a neighbour if
    /// they have few.
    fn balance(&mut self, at: usize) {
        let len = |at: usize| self.leaves.get(at).map(Vec::len);
        let Some(own) = len(at) else { return };
        if own > LEAF {
            let right = self.leaves[at].split_off(LEAF / 2);
            self.leaves.insert(at + 1, right);
            return;
        }
        if own == 0 {
            self.leaves.remove(at);
            return;
        }
        let fits = |neighbour: usize| len(neighbour).is_some_and(|len| own + len <= SPARSE);
        let left = if fits(at + 1) { Some(at) } else { at.checked_sub(1).filter(|&before| fits(before)) };
        if let Some(left) = left {
            let right = self.leaves.remove(left + 1);
            self.leaves[left].extend(right);
        }
    }
}

/// What is counted, however it lies in leaves.
impl PartialEq for Rarity {
    fn eq(&self, other: &Self) -> bool {
        self.complete == other.complete
            && self.max_runs == other.max_runs
            && self.leaves.iter().flatten().eq(other.leaves.iter().flatten())
    }
}

impl Eq for Rarity {}

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
                let leaves = &rarity.leaves;
                prop_assert_eq!(rarity.runs, leaves.iter().map(Vec::len).sum::<usize>());
                prop_assert!(leaves.iter().all(|leaf| !leaf.is_empty() && leaf.len() <= LEAF));
                prop_assert!(leaves.windows(2).all(|pair| pair[0].len() + pair[1].len() > SPARSE));
                let runs: Vec<_> = rarity.runs_in(ChunkRange::new(3, GROUPS)).collect();
                prop_assert_eq!(runs.iter().map(|(run, _)| run.count()).sum::<u64>(), GROUPS - 3);
                for (run, count) in runs {
                    prop_assert!(run.iter().all(|group| twin[group.value() as usize] == count));
                }
                // One part after another, from anywhere on.
                let mut near = Place { leaf: start as usize % 5, place: count as usize % 7 };
                for part in [(0, 1), (1, 4), (4, 4), (9, 11), (12, 30), (31, GROUPS)] {
                    let part = ChunkRange::new(part.0, part.1);
                    prop_assert!(rarity.runs_near(&mut near, part).eq(rarity.runs_in(part)));
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
    fn what_becomes_whole_leaves_no_sparse_leaves() {
        // Of each part every other group, and then what is between but for the last: a cut of two runs.
        const PART: u64 = 2 * LEAF as u64;
        let mut rarity = Rarity::new(usize::MAX);
        for part in 0..500 {
            for place in (0..PART).chain(PART..2 * PART - 1) {
                let group = 2 * PART * part + 2 * (place % PART) + place / PART;
                rarity.add(ChunkRange::new(group, group + 1));
            }
        }
        let (runs, leaves) = (rarity.run_count(), rarity.leaves.len());
        assert_eq!(runs, 1000);
        assert!(leaves <= 1 + 2 * runs / (SPARSE + 1), "{leaves}");
    }

    proptest! {
        #[test]
        fn what_is_taken_away_is_counted_no_more(
            steps in prop::collection::vec((any::<bool>(), 0u64..200, 0u64..60), 1..60),
        ) {
            let geometry = Geometry::new(150 * 1024, ChunkSize::DEFAULT).unwrap();
            let (mut have, mut rarity) = (PeerMap::new(), Rarity::new(1000));
            for (adds, start, len) in steps {
                let range = ChunkRange::new(start, start + len);
                let most = have.as_set().run_count().max(6);
                if adds {
                    have.add(range, Some(geometry.all()), 100);
                    rarity = Rarity::new(1000);
                    have.as_set().runs().for_each(|run| rarity.add(whole_groups(&geometry, &have, run)));
                } else {
                    rarity.take_away(&geometry, &mut have, range, 6);
                }
                let mut twin = Rarity::new(1000);
                have.as_set().runs().for_each(|run| twin.add(whole_groups(&geometry, &have, run)));
                prop_assert!(adds || !have.intersects(range) && have.as_set().run_count() <= most);
                prop_assert!((0..10).all(|group| rarity.count(group) == twin.count(group)), "{have:?}");
            }
        }
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
