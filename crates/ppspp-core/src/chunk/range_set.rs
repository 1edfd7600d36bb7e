//! Sets of positions (chunks, or groups), kept as runs.

use alloc::vec::Vec;
use core::fmt;

use thiserror::Error;

use super::{ChunkIndex, ChunkRange, partition_near};

/// Runs that `Debug` writes out before it only counts them: a peer's set may hold thousands.
const DEBUG_RUNS: usize = 16;

/// A set of chunks, stored as disjoint, non-adjacent runs in order: everything, or a long run, costs 16 bytes.
///
/// It holds any position below `u64::MAX` and knows no unit, so it counts groups as well as chunks. Look-ups take
/// O(log runs), changes that plus the runs they move; growing or extending the last run is constant.
///
/// Memory grows with the number of runs: a set that a peer can shape takes [`RangeSet::insert_bounded`].
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct RangeSet {
    /// Ascending; between one run's end and the next one's start lies at least one position.
    runs: Vec<ChunkRange>,
    /// Positions in all runs.
    count: u64,
}

/// A set would have to keep more runs than it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("{range:?} would be one run more than the {max_runs} the set may hold; raise the limit or drop runs first")]
pub struct TooManyRuns {
    /// The run that was refused.
    pub range: ChunkRange,
    /// The limit it met.
    pub max_runs: usize,
}

impl RangeSet {
    /// The empty set; allocates nothing.
    pub const fn new() -> Self {
        Self { runs: Vec::new(), count: 0 }
    }

    /// Adds `range`; returns how many chunks were new.
    pub fn insert(&mut self, range: ChunkRange) -> u64 {
        // Never refused: no `Vec` holds that many runs.
        self.insert_bounded(range, usize::MAX).unwrap_or(0)
    }

    /// Adds `range` unless that takes one more run than `max_runs`; returns how many chunks were new.
    ///
    /// A range that touches a run is always taken, since it adds none.
    ///
    /// # Errors
    /// [`TooManyRuns`]; the set is unchanged.
    pub fn insert_bounded(&mut self, range: ChunkRange, max_runs: usize) -> Result<u64, TooManyRuns> {
        if range.is_empty() {
            return Ok(0);
        }
        let from = match self.runs.last() {
            Some(last) if range.start() > last.end() => self.runs.len(),
            Some(last) if range.start() >= last.start() => self.runs.len() - 1,
            _ => self.runs.partition_point(|run| run.end() < range.start()),
        };
        // One by one: all of these but one are dropped.
        let to = from + self.runs[from..].iter().take_while(|run| run.start() <= range.end()).count();
        let touched = &self.runs[from..to];
        let added = if let (Some(first), Some(last)) = (touched.first(), touched.last()) {
            let merged = ChunkRange::new(first.start().min(range.start()), last.end().max(range.end()));
            let added = merged.count() - touched.iter().map(|run| run.count()).sum::<u64>();
            self.runs[from] = merged;
            if to - from > 1 {
                self.runs.drain(from + 1..to);
            }
            added
        } else if self.runs.len() < max_runs {
            self.runs.insert(from, range);
            range.count()
        } else {
            return Err(TooManyRuns { range, max_runs });
        };
        self.count += added;
        Ok(added)
    }

    /// Adds `ranges`, which ascend and of which none is empty, in one pass over the part of the set that they span; returns
    /// how many chunks were new. Many at once cost little more than one.
    pub(crate) fn merge(&mut self, ranges: &[ChunkRange]) -> u64 {
        let (Some(first), Some(end)) = (ranges.first(), ranges.iter().map(|range| range.end()).max()) else { return 0 };
        let from = self.runs.partition_point(|run| run.end() < first.start());
        let to = from + self.runs[from..].partition_point(|run| run.start() <= end);
        let (mut ours, mut theirs) = (&self.runs[from..to], ranges);
        let mut merged: Vec<ChunkRange> = Vec::with_capacity(ours.len() + theirs.len());
        let mut last = ChunkRange::new(first.start(), first.start());
        let (mut before, mut after) = (0, 0);
        loop {
            let run = match (ours, theirs) {
                ([our, rest @ ..], _) if theirs.first().is_none_or(|their| our.start() < their.start()) => {
                    before += our.count();
                    ours = rest;
                    *our
                }
                (_, [their, rest @ ..]) => {
                    theirs = rest;
                    *their
                }
                _ => break,
            };
            if run.start() <= last.end() {
                last = ChunkRange::new(last.start().min(run.start()), last.end().max(run.end()));
            } else {
                after += last.count();
                merged.push(last);
                last = run;
            }
        }
        merged.push(last);
        let added = after + last.count() - before;
        self.runs.splice(from..to, merged);
        self.count += added;
        added
    }

    /// Removes `range`; returns how many chunks were there. May split a run in two.
    pub fn remove(&mut self, range: ChunkRange) -> u64 {
        let (mut from, mut to) = self.overlap(range);
        let touched = &self.runs[from..to];
        let (Some(first), Some(last)) = (touched.first(), touched.last()) else {
            return 0;
        };
        let removed = touched.iter().map(|run| run.intersection(range).count()).sum::<u64>();
        let before = ChunkRange::new(first.start(), range.start());
        let after = ChunkRange::new(range.end(), last.end());
        if to - from == 1 && !before.is_empty() && !after.is_empty() {
            self.runs[from] = before;
            self.runs.insert(to, after);
        } else {
            if !before.is_empty() {
                self.runs[from] = before;
                from += 1;
            }
            if !after.is_empty() {
                to -= 1;
                self.runs[to] = after;
            }
            self.runs.drain(from..to);
        }
        self.count -= removed;
        removed
    }

    /// Removes what lies outside `range`; returns how many chunks that were.
    pub fn clip_to(&mut self, range: ChunkRange) -> u64 {
        self.remove(ChunkRange::new(0, range.start())) + self.remove(ChunkRange::new(range.end(), u64::MAX))
    }

    /// Removes everything; keeps the memory for reuse.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.count = 0;
    }

    /// Whether `chunk` is in the set.
    pub fn contains(&self, chunk: ChunkIndex) -> bool {
        self.run_at(chunk).is_some()
    }

    /// Whether every chunk of `range` is in the set; true for an empty range.
    pub fn covers(&self, range: ChunkRange) -> bool {
        // Too few chunks, which is most often why not, shows without a look at the runs.
        range.count() <= self.count
            && (range.is_empty() || self.run_at(ChunkIndex::new(range.start())).is_some_and(|run| run.covers(range)))
    }

    /// Whether any chunk of `range` is in the set.
    pub fn intersects(&self, range: ChunkRange) -> bool {
        // What is asked for most often lies past everything.
        if self.end() <= range.start() {
            return false;
        }
        let after = self.runs.partition_point(|run| run.end() <= range.start());
        self.runs.get(after).is_some_and(|run| run.intersects(range))
    }

    /// Whether the set holds no chunk.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Number of chunks; O(1).
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Number of runs, each 16 bytes of memory; O(1).
    pub const fn run_count(&self) -> usize {
        self.runs.len()
    }

    /// The runs in ascending order; none is empty, and no two touch.
    pub fn runs(&self) -> impl DoubleEndedIterator<Item = ChunkRange> + ExactSizeIterator + Clone {
        self.runs.iter().copied()
    }

    /// The position after the last chunk, 0 without any.
    pub fn end(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.end())
    }

    /// The same, for [`RangeSet::merge`].
    pub(crate) fn as_slice(&self) -> &[ChunkRange] {
        &self.runs
    }

    /// The whole run that holds `chunk`: the biggest complete interval around it (RFC 7574 §4.3.1).
    pub fn run_at(&self, chunk: ChunkIndex) -> Option<ChunkRange> {
        let after = self.runs.partition_point(|run| run.start() <= chunk.value());
        self.runs[..after].last().copied().filter(|run| run.contains(chunk))
    }

    /// The runs that hold a chunk of `parts`, each once, ascending.
    pub(crate) fn runs_around(&self, parts: &Self) -> impl Iterator<Item = ChunkRange> {
        let (mut at, mut after) = (0, 0);
        parts.runs.iter().filter_map(move |part| {
            at += partition_near(&self.runs[at..], |run| run.end() <= part.start());
            let run = *self.runs.get(at)?;
            let found = at >= after && run.intersects(*part);
            after = if found { at + 1 } else { after };
            found.then_some(run)
        })
    }

    /// All positions around `position` up to the next runs, of which none is in the set; empty if `position` is.
    pub(crate) fn gap_at(&self, position: u64) -> ChunkRange {
        let before = |run: &ChunkRange| run.end() <= position;
        // What is asked for most often lies past everything.
        let after = if self.end() <= position { self.runs.len() } else { self.runs.partition_point(before) };
        let start = self.runs[..after].last().map_or(0, |run| run.end());
        let end = self.runs.get(after).map_or(u64::MAX, |run| run.start());
        if end > position { ChunkRange::new(start, end) } else { ChunkRange::EMPTY }
    }

    /// The lowest position from `position` on that is not in the set.
    pub fn first_missing_from(&self, position: u64) -> u64 {
        self.run_at(ChunkIndex::new(position)).map_or(position, ChunkRange::end)
    }

    /// The runs of `range` that are not in the set, ascending.
    pub fn missing_in(&self, range: ChunkRange) -> impl Iterator<Item = ChunkRange> + Clone {
        let (from, to) = self.overlap(range);
        let overlap = &self.runs[from..to];
        let starts = core::iter::once(range.start()).chain(overlap.iter().map(|run| run.end()));
        let ends = overlap.iter().map(|run| run.start()).chain(core::iter::once(range.end()));
        starts.zip(ends).map(|(start, end)| ChunkRange::new(start, end)).filter(|gap| !gap.is_empty())
    }

    /// The runs of `range` that are in the set, ascending.
    pub fn intersection_in(
        &self,
        range: ChunkRange,
    ) -> impl DoubleEndedIterator<Item = ChunkRange> + ExactSizeIterator + Clone {
        let (from, to) = self.overlap(range);
        self.runs[from..to].iter().map(move |run| run.intersection(range))
    }

    /// The runs of `range` that are in this set and in `other`, ascending.
    pub(crate) fn common_with<'r>(
        &'r self,
        other: &'r Self,
        range: ChunkRange,
    ) -> impl Iterator<Item = ChunkRange> + 'r {
        let [mut ours, mut theirs] = [self, other].map(|set| {
            let (from, to) = set.overlap(range);
            &set.runs[from..to]
        });
        core::iter::from_fn(move || {
            loop {
                let (our, their) = (*ours.first()?, *theirs.first()?);
                let shared = our.intersection(their).intersection(range);
                // Whichever ends first has no more in common with anything.
                if our.end() < their.end() {
                    ours = skip_to(&ours[1..], their.start());
                } else {
                    theirs = skip_to(&theirs[1..], our.start());
                }
                if !shared.is_empty() {
                    return Some(shared);
                }
            }
        })
    }

    /// The indices, half-open, of the runs that share a chunk with `range`.
    fn overlap(&self, range: ChunkRange) -> (usize, usize) {
        if range.is_empty() {
            return (0, 0);
        }
        let from = self.runs.partition_point(|run| run.end() <= range.start());
        let rest = &self.runs[from..];
        let before = |run: &ChunkRange| run.start() < range.end();
        // Most ranges that are asked for share chunks with one run or none.
        let shared = if rest.get(1).is_some_and(before) {
            rest.partition_point(before)
        } else {
            usize::from(rest.first().is_some_and(before))
        };
        (from, from + shared)
    }
}

/// The rest of `runs`, from the first on that ends after `position`: most often it is the next one, or not far.
fn skip_to(runs: &[ChunkRange], position: u64) -> &[ChunkRange] {
    &runs[partition_near(runs, |run| run.end() <= position)..]
}

impl FromIterator<ChunkRange> for RangeSet {
    fn from_iter<I: IntoIterator<Item = ChunkRange>>(ranges: I) -> Self {
        let mut set = Self::new();
        set.extend(ranges);
        set
    }
}

impl Extend<ChunkRange> for RangeSet {
    fn extend<I: IntoIterator<Item = ChunkRange>>(&mut self, ranges: I) {
        for range in ranges {
            self.insert(range);
        }
    }
}

impl From<ChunkRange> for RangeSet {
    fn from(range: ChunkRange) -> Self {
        Self::from_iter([range])
    }
}

impl fmt::Debug for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut set = f.debug_set();
        for run in self.runs.iter().take(DEBUG_RUNS) {
            set.entry(&format_args!("{}..{}", run.start(), run.end()));
        }
        if let Some(more) = self.runs.len().checked_sub(DEBUG_RUNS).filter(|more| *more > 0) {
            set.entry(&format_args!("{more} more runs"));
        }
        set.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::format;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn run(start: u64, end: u64) -> ChunkRange {
        ChunkRange::new(start, end)
    }

    fn set<const N: usize>(runs: [(u64, u64); N]) -> RangeSet {
        runs.into_iter().map(|(start, end)| run(start, end)).collect()
    }

    fn listed(set: &RangeSet) -> Vec<(u64, u64)> {
        set.runs().map(|run| (run.start(), run.end())).collect()
    }

    #[test]
    fn merges_what_touches() {
        let mut set = set([(10, 20), (30, 40), (50, 60)]);
        assert_eq!(set.insert(run(20, 30)), 10, "adjacent on both sides");
        assert_eq!(listed(&set), [(10, 40), (50, 60)]);
        assert_eq!(set.insert(run(12, 38)), 0, "inside");
        assert_eq!(set.insert(run(5, 55)), 15, "over several");
        assert_eq!(listed(&set), [(5, 60)]);
        assert_eq!(set.insert(run(60, 61)), 1, "extends the last run");
        assert_eq!(set.insert(run(62, 63)), 1, "appends");
        assert_eq!(set.insert(run(0, 4)), 4, "prepends");
        assert_eq!(listed(&set), [(0, 4), (5, 61), (62, 63)]);
        assert_eq!(set.insert(run(0, 63)), 2);
        assert_eq!(listed(&set), [(0, 63)]);
        assert_eq!((set.count(), set.end(), RangeSet::new().end()), (63, 63, 0));
    }

    #[test]
    fn the_runs_around_others() {
        let all = set([(0, 10), (20, 30), (40, 50), (60, 70), (80, 90)]);
        let around = |parts: &RangeSet| all.runs_around(parts).map(ChunkRange::start).collect::<Vec<_>>();
        assert_eq!(around(&set([(3, 4), (6, 8), (45, 46), (47, 48), (85, 90)])), [0, 40, 80]);
        assert_eq!(around(&set([(65, 66)])), [60]);
        assert_eq!(around(&set([(10, 20), (30, 35), (90, 99)])), []);
        assert_eq!(around(&set([(15, 21), (22, 23)])), [20]);
        assert_eq!(around(&RangeSet::new()), []);
        assert_eq!(around(&all), [0, 20, 40, 60, 80]);
    }

    #[test]
    fn gaps_end_where_the_next_runs_begin() {
        let two = set([(3, 5), (8, 9)]);
        let gaps = (0..11).map(|position| two.gap_at(position));
        let [first, second, last] = [run(0, 3), run(5, 8), run(9, u64::MAX)];
        let none = ChunkRange::EMPTY;
        assert!(gaps.eq([first, first, first, none, none, second, second, second, none, last, last]));
        assert_eq!(RangeSet::new().gap_at(7), run(0, u64::MAX));
    }

    #[test]
    fn removes_and_splits() {
        let mut set = set([(0, 10), (20, 30), (40, 50)]);
        assert_eq!(set.remove(run(4, 6)), 2);
        assert_eq!(listed(&set), [(0, 4), (6, 10), (20, 30), (40, 50)]);
        assert_eq!(set.remove(run(8, 45)), 17, "cuts two, drops one");
        assert_eq!(listed(&set), [(0, 4), (6, 8), (45, 50)]);
        assert_eq!(set.remove(run(8, 45)), 0);
        assert_eq!(set.remove(run(6, 8)), 2, "exactly one run");
        assert_eq!(set.remove(run(0, u64::MAX)), 9);
        assert!(set.is_empty());
    }

    #[test]
    fn reaches_the_end_of_numbers() {
        let mut set = RangeSet::new();
        assert_eq!(set.insert(run(0, u64::MAX)), u64::MAX);
        assert_eq!(set.insert(run(5, u64::MAX)), 0);
        assert_eq!(set.count(), u64::MAX);
        assert_eq!(set.first_missing_from(0), u64::MAX);
        assert!(!set.contains(ChunkIndex::new(u64::MAX)));
        assert_eq!(set.remove(run(u64::MAX - 1, u64::MAX)), 1);
        assert_eq!(set.remove(run(0, 1)), 1);
        assert_eq!(listed(&set), [(1, u64::MAX - 1)]);
    }

    #[test]
    fn an_empty_range_changes_nothing() {
        let mut set = set([(0, 10), (20, 30)]);
        for at in [0, 5, 10, 15, 20, 99] {
            assert_eq!(set.insert(run(at, at)), 0);
            assert_eq!(set.remove(run(at, at)), 0);
            assert!(set.covers(run(at, at)));
            assert!(!set.intersects(run(at, at)));
            assert_eq!(set.missing_in(run(at, at)).count(), 0);
            assert_eq!(set.intersection_in(run(at, at)).count(), 0);
        }
        assert_eq!(listed(&set), [(0, 10), (20, 30)]);
    }

    #[test]
    fn a_bound_refuses_only_new_runs() {
        let mut set = set([(0, 10), (20, 30)]);
        let before = set.clone();
        let refused = TooManyRuns { range: run(12, 15), max_runs: 2 };
        assert_eq!(set.insert_bounded(run(12, 15), 2), Err(refused));
        assert_eq!(set, before);
        assert_eq!(
            format!("{refused}"),
            "chunks 12..15 would be one run more than the 2 the set may hold; raise the limit or drop runs first"
        );
        assert_eq!(set.insert_bounded(run(10, 12), 2), Ok(2));
        assert_eq!(set.insert_bounded(run(30, 31), 0), Ok(1), "extending is always allowed");
        assert_eq!(set.insert_bounded(run(0, 31), 2), Ok(8));
        assert_eq!(set.insert_bounded(run(40, 41), 2), Ok(1));
        assert_eq!(RangeSet::new().insert_bounded(ChunkRange::EMPTY, 0), Ok(0));
    }

    #[test]
    fn lists_gaps_and_overlaps() {
        let set = set([(10, 20), (30, 40)]);
        let gaps = |start, end| set.missing_in(run(start, end)).map(|gap| (gap.start(), gap.end())).collect::<Vec<_>>();
        assert_eq!(gaps(0, 50), [(0, 10), (20, 30), (40, 50)]);
        assert_eq!(gaps(15, 35), [(20, 30)]);
        assert_eq!(gaps(12, 18), []);
        assert_eq!(gaps(22, 25), [(22, 25)]);
        let held = set.intersection_in(run(15, 50)).collect::<Vec<_>>();
        assert_eq!(held, [run(15, 20), run(30, 40)]);
        assert_eq!(set.intersection_in(run(15, 50)).next_back(), Some(run(30, 40)));
    }

    #[test]
    fn debug_is_short() {
        assert_eq!(format!("{:?}", set([(0, 5), (7, 9)])), "{0..5, 7..9}");
        let many = (0..100).map(|at| run(at * 2, at * 2 + 1)).collect::<RangeSet>();
        let text = format!("{many:?}");
        assert!(text.ends_with("30..31, 84 more runs}"), "{text}");
    }

    /// One change of a set.
    #[derive(Clone, Debug)]
    enum Change {
        Insert(ChunkRange),
        InsertBounded(ChunkRange, usize),
        Merge(Vec<ChunkRange>),
        Remove(ChunkRange),
        ClipTo(ChunkRange),
        Clear,
    }

    fn ranges() -> impl Strategy<Value = ChunkRange> {
        (0u64..200, 0u64..30).prop_map(|(start, count)| run(start, start + count))
    }

    fn changes() -> impl Strategy<Value = Change> {
        prop_oneof![
            8 => ranges().prop_map(Change::Insert),
            4 => (ranges(), 0usize..8).prop_map(|(range, max)| Change::InsertBounded(range, max)),
            4 => prop::collection::vec(ranges(), 0..20).prop_map(|mut ranges| {
                ranges.retain(|range| !range.is_empty());
                ranges.sort_unstable();
                Change::Merge(ranges)
            }),
            6 => ranges().prop_map(Change::Remove),
            1 => (0u64..100, 50u64..150).prop_map(|(start, count)| Change::ClipTo(run(start, start + count))),
            1 => Just(Change::Clear),
        ]
    }

    /// Number of runs in a plain set.
    fn run_count(model: &BTreeSet<u64>) -> usize {
        model.iter().filter(|at| **at == 0 || !model.contains(&(**at - 1))).count()
    }

    /// Makes the same change to a plain set; returns the number of chunks that came or went, or that it is refused.
    fn apply(model: &mut BTreeSet<u64>, change: &Change) -> Option<u64> {
        let before = model.len();
        match change {
            Change::Insert(range) => model.extend(range.start()..range.end()),
            Change::InsertBounded(range, max) => {
                let mut grown = model.clone();
                grown.extend(range.start()..range.end());
                let runs = run_count(&grown);
                if runs > run_count(model) && runs > *max {
                    return None;
                }
                *model = grown;
            }
            Change::Merge(ranges) => model.extend(ranges.iter().flat_map(|range| range.start()..range.end())),
            Change::Remove(range) => model.retain(|at| !range.contains(ChunkIndex::new(*at))),
            Change::ClipTo(range) => model.retain(|at| range.contains(ChunkIndex::new(*at))),
            Change::Clear => model.clear(),
        }
        Some(before.abs_diff(model.len()) as u64)
    }

    proptest! {
        #[test]
        fn behaves_like_a_plain_set(changes in prop::collection::vec(changes(), 1..60), probe in ranges()) {
            let mut set = RangeSet::new();
            let mut model = BTreeSet::new();
            for change in &changes {
                let changed = match change {
                    Change::Insert(range) => Some(set.insert(*range)),
                    Change::InsertBounded(range, max) => set.insert_bounded(*range, *max).ok(),
                    Change::Merge(ranges) => Some(set.merge(ranges)),
                    Change::Remove(range) => Some(set.remove(*range)),
                    Change::ClipTo(range) => Some(set.clip_to(*range)),
                    Change::Clear => {
                        let count = set.count();
                        set.clear();
                        Some(count)
                    }
                };
                prop_assert_eq!(changed, apply(&mut model, change), "{:?}", change);
                let members = set.runs().flat_map(|run| run.start()..run.end()).collect::<BTreeSet<_>>();
                prop_assert_eq!(&members, &model);
                prop_assert_eq!(set.count(), model.len() as u64);
                prop_assert_eq!(set.is_empty(), model.is_empty());
                prop_assert_eq!(set.run_count(), run_count(&model), "no two runs touch");
                prop_assert!(set.runs().all(|run| !run.is_empty()));
                prop_assert!(set.runs().is_sorted());
            }
            for at in 0..240 {
                let chunk = ChunkIndex::new(at);
                prop_assert_eq!(set.contains(chunk), model.contains(&at));
                let missing = (at..300).find(|at| !model.contains(at));
                prop_assert_eq!(Some(set.first_missing_from(at)), missing);
                prop_assert_eq!(set.run_at(chunk), set.runs().find(|run| run.contains(chunk)));
            }
            let inside = |at: &u64| model.contains(at);
            prop_assert_eq!(set.covers(probe), (probe.start()..probe.end()).all(|at| inside(&at)));
            prop_assert_eq!(set.intersects(probe), (probe.start()..probe.end()).any(|at| inside(&at)));
            let held = set.intersection_in(probe).collect::<RangeSet>();
            let gaps = set.missing_in(probe).collect::<RangeSet>();
            prop_assert_eq!(held.count() + gaps.count(), probe.count());
            prop_assert_eq!(held.run_count(), set.intersection_in(probe).count());
            prop_assert_eq!(gaps.run_count(), set.missing_in(probe).count());
            prop_assert!(held.runs().all(|run| set.covers(run) && probe.covers(run)));
            prop_assert!(gaps.runs().all(|run| !set.intersects(run) && probe.covers(run)));
        }

        #[test]
        fn what_two_sets_have_in_common_is_in_both(
            ours in prop::collection::vec(ranges(), 0..30),
            theirs in prop::collection::vec(ranges(), 0..30),
            probe in ranges(),
        ) {
            let [ours, theirs] = [ours, theirs].map(|ranges| ranges.into_iter().collect::<RangeSet>());
            let common: Vec<_> = ours.common_with(&theirs, probe).collect();
            let expected: Vec<_> =
                ours.intersection_in(probe).flat_map(|run| theirs.intersection_in(run)).collect();
            prop_assert_eq!(common, expected);
        }

        #[test]
        fn order_of_insertion_does_not_matter(ranges in prop::collection::vec(ranges(), 0..30)) {
            let forward = ranges.iter().copied().collect::<RangeSet>();
            let backward = ranges.iter().rev().copied().collect::<RangeSet>();
            prop_assert_eq!(forward, backward);
        }
    }
}
