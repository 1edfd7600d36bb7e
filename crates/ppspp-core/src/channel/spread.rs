//! How often each part of the content was sent, over all channels of a swarm (R21).

use alloc::collections::BTreeMap;

use crate::chunk::ChunkRange;

/// Chunks counted together: the shortest run.
const UNIT: u64 = 16;

/// Counts by unit. Grows with what was sent, never with what was claimed.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    times: BTreeMap<u64, u32>,
}

impl Spread {
    /// How often the start of `range` was chosen to be sent.
    pub(crate) fn times(&self, range: ChunkRange) -> u32 {
        self.times.get(&(range.start() / UNIT)).copied().unwrap_or(0)
    }

    /// Notes that `range`, part of a run, is going to be sent. A unit that it ends within counts with the part that
    /// holds its end: else what is left of it would pass for sent.
    pub(crate) fn note(&mut self, range: ChunkRange) {
        for unit in range.start() / UNIT..range.end() / UNIT {
            let times = self.times.entry(unit).or_default();
            *times = times.saturating_add(1);
        }
    }
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
}
