//! How often each part of the content was sent, over all channels of a swarm (R21).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use crate::chunk::ChunkRange;

/// Chunks counted together: the shortest run.
const UNIT: u64 = 16;

/// Counts that lie side by side: 1 KiB of memory for 4 MiB of content in chunks of 1 KiB.
const PAGE: usize = 256;

/// Counts by unit. Grows with what was sent, never with what was claimed.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    pages: BTreeMap<u64, Box<[u32; PAGE]>>,
}

impl Spread {
    /// How often the start of `range` was chosen to be sent.
    pub(crate) fn times(&self, range: ChunkRange) -> u32 {
        let (page, place) = place_of(range.start() / UNIT);
        self.pages.get(&page).map_or(0, |times| times[place])
    }

    /// Notes that `range`, part of a run, is going to be sent. A unit that it ends within counts with the part that
    /// holds its end: else what is left of it would pass for sent.
    pub(crate) fn note(&mut self, range: ChunkRange) {
        for unit in range.start() / UNIT..range.end() / UNIT {
            let (page, place) = place_of(unit);
            let times = &mut self.pages.entry(page).or_insert_with(|| Box::new([0; PAGE]))[place];
            *times = times.saturating_add(1);
        }
    }
}

/// The page of `unit`, and its place there.
const fn place_of(unit: u64) -> (u64, usize) {
    (unit / PAGE as u64, (unit % PAGE as u64) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(start: u64, end: u64) -> ChunkRange {
        ChunkRange::new(start, end)
    }

    #[test]
    fn what_is_left_of_a_unit_was_not_sent() {
        let mut spread = Spread::default();
        spread.note(run(0, 17));
        assert_eq!([spread.times(run(0, 16)), spread.times(run(17, 32))], [1, 0]);
        spread.note(run(17, 32));
        assert_eq!(spread.times(run(16, 32)), 1);
    }

    #[test]
    fn counts_grow_with_what_was_sent() {
        let mut spread = Spread::default();
        let far = u64::MAX / UNIT * UNIT;
        for (start, end) in [(0, UNIT * 3), (UNIT, UNIT * 2), (UNIT * 255, UNIT * 257), (far - UNIT, far)] {
            spread.note(run(start, end));
        }
        let times = |unit: u64| spread.times(run(unit * UNIT, (unit + 1) * UNIT));
        assert_eq!([0, 1, 2, 3, 254, 255, 256, 257].map(times), [1, 2, 1, 0, 0, 1, 1, 0]);
        assert_eq!([spread.times(run(far - UNIT, far)), spread.times(run(far - 2 * UNIT, far))], [1, 0]);
        assert_eq!(spread.pages.len(), 3);
    }
}
