//! How fast one peer delivers.

use core::time::Duration;

use crate::time::Instant;

/// Shortest time over which a rate is measured.
const MIN_WINDOW: Duration = Duration::from_millis(20);

/// Bytes per second, following rises at once and falls gradually.
#[derive(Debug, Default)]
pub(crate) struct RateMeter {
    window: Option<(Instant, u64)>,
    /// Since when nothing is asked for.
    paused: Option<Instant>,
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

    /// Nothing is asked for any more: the time until something is does not count.
    pub(crate) const fn pause(&mut self, now: Instant) {
        if self.paused.is_none() {
            self.paused = Some(now);
        }
    }

    /// Something is asked for. The way there and back counts: a peer that delivers all at once and is then asked for
    /// more has a rate as well.
    pub(crate) fn resume(&mut self, now: Instant) {
        if let Some(paused) = self.paused.take()
            && let Some((start, _)) = &mut self.window
        {
            *start = *start + (now - paused);
        }
    }

    /// The rate in bytes per second, once measured.
    pub(crate) const fn rate(&self) -> Option<u64> {
        self.rate
    }
}
