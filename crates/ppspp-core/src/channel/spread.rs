//! How often each run of the content was sent, over all channels of a swarm (R21).

use alloc::collections::BTreeMap;

/// Counts by a run's first chunk. Grows with what was sent, never with what was claimed.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    times: BTreeMap<u64, u32>,
}

impl Spread {
    /// How often the run at `base` was chosen to be sent.
    pub(crate) fn times(&self, base: u64) -> u32 {
        self.times.get(&base).copied().unwrap_or(0)
    }

    /// Notes that the run at `base` is going to be sent.
    pub(crate) fn note(&mut self, base: u64) {
        let times = self.times.entry(base).or_default();
        *times = times.saturating_add(1);
    }
}
