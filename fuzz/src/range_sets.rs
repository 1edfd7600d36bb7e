//! Range sets against a slow twin.

use std::collections::BTreeSet;

use ppspp_core::chunk::{ChunkIndex, ChunkRange, RangeSet};

use super::input::Input;

/// Positions of the twin, from some base on.
const WINDOW: u64 = 256;
/// Changes in one run.
const MAX_STEPS: usize = 512;

/// Changes a set, compares it with its twin after each change, and asks it about the range of the change.
pub fn range_set_ops(data: &[u8]) {
    let mut input = Input::new(data);
    // At both ends of the space of chunks and somewhere within.
    let base = match input.u8() % 3 {
        0 => 0,
        1 => u64::MAX - WINDOW,
        _ => input.u64().min(u64::MAX - WINDOW),
    };
    let mut pair = Pair { window: ChunkRange::new(base, base + WINDOW), set: RangeSet::new(), twin: BTreeSet::new() };
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        let op = input.u8();
        let range = pair.range(&mut input);
        pair.change(op, range);
        pair.compare();
        pair.ask(range);
    }
    let again: RangeSet = pair.set.runs().rev().collect();
    assert_eq!(again, pair.set, "the order of insertion does not matter");
}

/// A set and the same, position by position.
struct Pair {
    window: ChunkRange,
    set: RangeSet,
    twin: BTreeSet<u64>,
}

impl Pair {
    fn range(&self, input: &mut Input<'_>) -> ChunkRange {
        let start = self.window.start() + u64::from(input.u8());
        ChunkRange::new(start, start.saturating_add(u64::from(input.u8())).min(self.window.end()))
    }

    fn change(&mut self, op: u8, range: ChunkRange) {
        let before = self.twin.len() as u64;
        match op % 8 {
            0 | 1 => {
                self.twin.extend(range.iter().map(ChunkIndex::value));
                assert_eq!(self.set.insert(range), self.twin.len() as u64 - before);
            }
            2 | 3 => {
                self.twin.retain(|chunk| !range.contains(ChunkIndex::new(*chunk)));
                assert_eq!(self.set.remove(range), before - self.twin.len() as u64);
            }
            4 => self.insert_bounded(range, usize::from(op >> 3)),
            5 => {
                self.twin.retain(|chunk| range.contains(ChunkIndex::new(*chunk)));
                assert_eq!(self.set.clip_to(range), before - self.twin.len() as u64);
            }
            6 => {
                // Many short runs at once.
                let stride = u64::from(op >> 3) + 2;
                let comb: Vec<u64> = (range.start()..range.end()).step_by(stride as usize).collect();
                self.set.extend(comb.iter().map(|&chunk| ChunkRange::single(ChunkIndex::new(chunk))));
                self.twin.extend(comb);
            }
            _ => {
                self.set.clear();
                self.twin.clear();
            }
        }
    }

    fn insert_bounded(&mut self, range: ChunkRange, max_runs: usize) {
        let (runs, before) = (self.set.run_count(), self.set.clone());
        if let Ok(added) = self.set.insert_bounded(range, max_runs) {
            let count = self.twin.len() as u64;
            self.twin.extend(range.iter().map(ChunkIndex::value));
            assert_eq!(added, self.twin.len() as u64 - count);
            assert!(self.set.run_count() <= runs.max(max_runs));
        } else {
            assert!(runs >= max_runs);
            let neighbours = ChunkRange::new(range.start().saturating_sub(1), range.end().saturating_add(1));
            assert!(!self.set.intersects(neighbours), "what touches a run adds none and is never refused");
            assert_eq!(self.set, before);
        }
    }

    fn compare(&self) {
        let Self { set, twin, .. } = self;
        assert_eq!(set.count(), twin.len() as u64);
        assert_eq!(set.is_empty(), twin.is_empty());
        assert!(set.runs().flat_map(ChunkRange::iter).map(ChunkIndex::value).eq(twin.iter().copied()), "{set:?}");
        assert_eq!(set.run_count(), set.runs().len());
        let ends = set.runs().map(ChunkRange::end);
        assert!(set.runs().skip(1).zip(ends).all(|(run, end)| run.start() > end), "runs touch: {set:?}");
    }

    fn ask(&self, range: ChunkRange) {
        let Self { set, twin, window } = self;
        let held = |chunk: u64| twin.contains(&chunk);
        let inside: Vec<u64> = twin.range(range.start()..range.end()).copied().collect();
        let listed = |runs: Vec<ChunkRange>| -> Vec<u64> {
            runs.into_iter().flat_map(ChunkRange::iter).map(ChunkIndex::value).collect()
        };
        assert_eq!(listed(set.intersection_in(range).collect()), inside);
        let outside: Vec<u64> = range.iter().map(ChunkIndex::value).filter(|&chunk| !held(chunk)).collect();
        assert_eq!(listed(set.missing_in(range).collect()), outside);
        assert_eq!(set.covers(range), outside.is_empty());
        assert_eq!(set.intersects(range), !inside.is_empty());
        let missing = (range.start()..window.end()).find(|&chunk| !held(chunk)).unwrap_or(window.end());
        assert_eq!(set.first_missing_from(range.start()), missing);
        let first = ChunkIndex::new(range.start());
        assert_eq!(set.contains(first), held(first.value()));
        let around = set.runs().find(|run| run.contains(first));
        assert_eq!(set.run_at(first), around);
    }
}
