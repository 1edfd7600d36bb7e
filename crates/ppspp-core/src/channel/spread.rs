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

    /// Notes that `range`, part of a run, is going to be sent.
    pub(crate) fn note(&mut self, range: ChunkRange) {
        for unit in range.start() / UNIT..range.end().div_ceil(UNIT) {
            let times = self.times.entry(unit).or_default();
            *times = times.saturating_add(1);
        }
    }
}
