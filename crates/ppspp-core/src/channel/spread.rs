//! How often each part of the content was sent, over all channels of a swarm (R21).

use alloc::collections::BTreeMap;
use core::time::Duration;

use crate::chunk::ChunkRange;
use crate::time::Instant;

/// Chunks counted together: the shortest run.
const UNIT: u64 = 16;

/// What was sent before waits while something was sent for the first time so recently.
const FRESH: Duration = Duration::from_millis(50);

/// Counts by unit. Grows with what was sent, never with what was claimed.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    times: BTreeMap<u64, u32>,
    /// When something was last chosen to be sent for the first time.
    fresh_at: Option<Instant>,
}

impl Spread {
    /// How often the start of `range` was chosen to be sent.
    pub(crate) fn times(&self, range: ChunkRange) -> u32 {
        self.times.get(&(range.start() / UNIT)).copied().unwrap_or(0)
    }

    /// Notes that `range`, part of a run, is going to be sent. A unit that it ends within counts with the part that
    /// holds its end: else what is left of it would pass for sent.
    pub(crate) fn note(&mut self, now: Instant, range: ChunkRange) {
        if self.times(range) == 0 {
            self.fresh_at = Some(now);
        }
        for unit in range.start() / UNIT..range.end() / UNIT {
            let times = self.times.entry(unit).or_default();
            *times = times.saturating_add(1);
        }
    }

    /// Whether there is enough to send that nobody has.
    pub(crate) fn is_fresh(&self, now: Instant) -> bool {
        self.fresh_at.is_some_and(|at| now - at < FRESH)
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
        spread.note(Instant::ZERO, run(0, 17));
        assert_eq!([spread.times(run(0, 16)), spread.times(run(17, 32))], [1, 0]);
        spread.note(Instant::ZERO, run(17, 32));
        assert_eq!(spread.times(run(16, 32)), 1);
    }
}
