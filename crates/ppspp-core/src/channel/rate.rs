//! How fast one peer delivers.

use core::time::Duration;

use crate::time::Instant;

/// Shortest time over which a rate is measured.
const MIN_WINDOW: Duration = Duration::from_millis(20);

/// Bytes per second, following rises at once and falls gradually.
#[derive(Debug, Default)]
pub(crate) struct RateMeter {
    window: Option<(Instant, u64)>,
    rate: Option<u64>,
}

impl RateMeter {
    /// Counts `bytes` that arrived.
    pub(crate) fn on_bytes(&mut self, now: Instant, bytes: u64, srtt: Duration) {
        let Some((start, counted)) = &mut self.window else {
            self.window = Some((now, 0));
            return;
        };
        *counted += bytes;
        let elapsed = now - *start;
        if elapsed < MIN_WINDOW.max(srtt) {
            return;
        }
        let sample = *counted * 1_000_000 / crate::time::micros(elapsed).max(1);
        self.rate = Some(self.rate.map_or(sample, |rate| sample.max((rate * 3 + sample) / 4)));
        self.window = Some((now, 0));
    }

    /// Starts over after a pause, so that the pause does not count.
    pub(crate) const fn pause(&mut self) {
        self.window = None;
    }

    /// The rate in bytes per second, once measured.
    pub(crate) const fn rate(&self) -> Option<u64> {
        self.rate
    }
}
