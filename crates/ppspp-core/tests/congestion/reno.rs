//! What everyone else does: TCP's congestion control (RFC 5681, RFC 3465, RFC 6582).

use std::time::Duration;

use ppspp_core::Instant;
use ppspp_core::congestion::{AckEvent, Controller, DelaySample, LossEvent};

/// The initial window of RFC 6928, in segments.
const INITIAL_SEGMENTS: u64 = 10;

/// Slow start, then a segment more per round trip; half after a loss.
#[derive(Debug)]
pub(crate) struct Reno {
    mss: u64,
    window: u64,
    threshold: u64,
    /// Bytes acknowledged towards the next segment more.
    counted: u64,
    reduced_at: Option<Instant>,
}

impl Reno {
    pub(crate) fn new(mss: u64) -> Self {
        Self { mss, window: INITIAL_SEGMENTS * mss, threshold: u64::MAX, counted: 0, reduced_at: None }
    }
}

impl Controller for Reno {
    fn on_ack(&mut self, _now: Instant, ack: &AckEvent) {
        if ack.app_limited {
            return;
        }
        if self.in_slow_start() {
            self.window += ack.bytes_acked.min(2 * self.mss);
            return;
        }
        self.counted += ack.bytes_acked;
        if self.counted >= self.window {
            self.counted -= self.window;
            self.window += self.mss;
        }
    }

    fn on_loss(&mut self, now: Instant, loss: &LossEvent) {
        if self.reduced_at.is_none_or(|reduced| loss.newest_lost_sent_at > reduced) {
            self.threshold = (self.window / 2).max(2 * self.mss);
            self.window = self.threshold;
            self.reduced_at = Some(now);
        }
    }

    fn on_congestion_timeout(&mut self, now: Instant) {
        self.threshold = (self.window / 2).max(2 * self.mss);
        self.window = self.mss;
        self.reduced_at = Some(now);
    }

    fn set_mss(&mut self, mss: u32) {
        self.mss = mss.into();
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn in_slow_start(&self) -> bool {
        self.window < self.threshold
    }

    fn queuing_delay(&self) -> Option<Duration> {
        None
    }

    fn base_delay(&self) -> Option<DelaySample> {
        None
    }
}
