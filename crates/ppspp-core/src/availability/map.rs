//! What one peer has.

use crate::chunk::{ChunkIndex, ChunkRange, RangeSet};

/// Chunks that any addressing method can name: 2^63 (RFC 7574 §4.2).
const ADDRESSABLE: ChunkRange = ChunkRange::new(0, 1 << 63);

/// The chunks that one peer announced (HAVE, ACK), within a bound that the caller gives.
///
/// The peer decides how scattered its announcements are, so what would take one more run than allowed is ignored: the
/// peer then counts as not having it. Memory is at most 16 bytes per allowed run, doubled while it grows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PeerMap {
    chunks: RangeSet,
}

impl PeerMap {
    /// A peer that has announced nothing; allocates nothing.
    pub const fn new() -> Self {
        Self { chunks: RangeSet::new() }
    }

    /// Notes that the peer has `range`; returns how many chunks are new.
    ///
    /// `clip` is the content, once its size is known (R5: what lies past the end is clipped); until then everything
    /// below 2^63 counts, and [`PeerMap::clip`] cuts it later. Nothing is noted, and 0 returned, where that would take
    /// more than `max_runs` runs.
    pub fn add(&mut self, range: ChunkRange, clip: Option<ChunkRange>, max_runs: usize) -> u64 {
        let range = range.intersection(clip.unwrap_or(ADDRESSABLE));
        self.chunks.insert_bounded(range, max_runs).unwrap_or(0)
    }

    /// Drops what lies past the end of a content of `total` chunks, now that its size is known (R5).
    pub fn clip(&mut self, total: u64) {
        self.chunks.clip_to(ChunkRange::new(0, total));
    }

    /// Notes that the peer no longer has `range`, or never had.
    pub fn remove(&mut self, range: ChunkRange) {
        self.chunks.remove(range);
    }

    /// The same within a bound: where `range` would split a run and that makes more than `max_runs`, what lies before it
    /// in the run goes with it. The peer then counts as not having that.
    pub(crate) fn remove_bounded(&mut self, range: ChunkRange, max_runs: usize) {
        self.remove(self.removable(range, max_runs));
    }

    /// What goes with `range` then, `range` included.
    pub(crate) fn removable(&self, range: ChunkRange, max_runs: usize) -> ChunkRange {
        let full = self.chunks.run_count() >= max_runs;
        let split = self.chunks.run_at(ChunkIndex::new(range.start())).filter(|_| full);
        ChunkRange::new(split.map_or(range.start(), ChunkRange::start), range.end())
    }

    /// Whether the peer has `chunk`.
    pub fn has(&self, chunk: ChunkIndex) -> bool {
        self.chunks.contains(chunk)
    }

    /// Whether the peer has every chunk of `range`; true for an empty range.
    pub fn covers(&self, range: ChunkRange) -> bool {
        self.chunks.covers(range)
    }

    /// Whether the peer has any chunk of `range`.
    pub fn intersects(&self, range: ChunkRange) -> bool {
        self.chunks.intersects(range)
    }

    /// Whether the peer has all of a content of `total` chunks.
    pub fn is_complete(&self, total: u64) -> bool {
        self.chunks.covers(ChunkRange::new(0, total))
    }

    /// The chunks the peer has.
    pub const fn as_set(&self) -> &RangeSet {
        &self.chunks
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(start: u64, end: u64) -> ChunkRange {
        ChunkRange::new(start, end)
    }

    #[test]
    fn announcements_are_clipped_to_a_known_content() {
        // R5
        let mut map = PeerMap::new();
        let content = Some(run(0, 7));
        assert_eq!(map.add(run(5, 100), content, 8), 2);
        assert_eq!(map.add(run(7, 100), content, 8), 0);
        assert!(map.has(ChunkIndex::new(6)) && !map.has(ChunkIndex::new(7)));
        assert!(!map.is_complete(7));
        assert_eq!(map.add(run(0, 1 << 63), content, 8), 5, "everything");
        assert!(map.is_complete(7));
    }

    #[test]
    fn announcements_wait_for_the_size() {
        let mut map = PeerMap::new();
        assert_eq!(map.add(run(3, u64::MAX), None, 8), (1 << 63) - 3);
        assert!(!map.is_complete(7) && map.covers(run(3, 1 << 63)) && !map.intersects(run(1 << 63, u64::MAX)));
        map.clip(7);
        assert_eq!(map.as_set(), &RangeSet::from(run(3, 7)));
        map.add(run(0, 3), Some(run(0, 7)), 8);
        assert!(map.is_complete(7) && !map.is_complete(8));
    }

    #[test]
    fn a_full_map_still_takes_what_touches_its_runs() {
        let mut map = PeerMap::new();
        assert_eq!(map.add(run(0, 1), None, 2) + map.add(run(10, 11), None, 2), 2);
        assert_eq!(map.add(run(20, 21), None, 2), 0, "a third run");
        assert!(!map.intersects(run(20, 21)));
        assert_eq!(map.add(run(1, 21), None, 2), 19);
        assert_eq!(map.as_set().run_count(), 1);
        assert_eq!(map.add(run(30, 31), None, 2), 1, "room again");
    }

    #[test]
    fn what_is_taken_away_leaves_no_more_runs_than_allowed() {
        let mut have = PeerMap::new();
        have.add(run(0, 1000), None, 8);
        for start in 1..200 {
            have.remove_bounded(run(5 * start, 5 * start + 1), 8);
            assert!(have.as_set().run_count() <= 8);
        }
        assert!(have.covers(run(996, 1000)) && !have.intersects(run(500, 996)));
    }

    #[test]
    fn scattered_announcements_take_bounded_memory() {
        const MAX_RUNS: usize = 64;
        let mut map = PeerMap::new();
        for chunk in 0..100_000 {
            map.add(run(chunk * 2, chunk * 2 + 1), None, MAX_RUNS);
        }
        assert_eq!(map.as_set().run_count(), MAX_RUNS);
        assert_eq!(map.as_set().count(), MAX_RUNS as u64);
    }

    proptest! {
        #[test]
        fn holds_only_what_was_announced(
            ranges in prop::collection::vec((0u64..300, 1u64..40), 0..60),
            total in prop::option::of(1u64..300),
            max_runs in 0usize..12,
        ) {
            let mut map = PeerMap::new();
            let mut announced = RangeSet::new();
            for (start, count) in ranges {
                let range = run(start, start + count);
                let before = map.as_set().count();
                let new = map.add(range, total.map(|total| run(0, total)), max_runs);
                announced.insert(range);
                prop_assert_eq!(map.as_set().count(), before + new);
                prop_assert!(map.as_set().run_count() <= max_runs);
            }
            let end = total.unwrap_or(1 << 63);
            map.clip(200);
            for held in map.as_set().runs() {
                prop_assert!(announced.covers(held) && held.end() <= end.min(200));
                prop_assert!(map.covers(held) && map.intersects(held) && map.has(ChunkIndex::new(held.start())));
            }
        }
    }
}
