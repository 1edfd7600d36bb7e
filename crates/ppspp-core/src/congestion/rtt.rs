//! The round trip estimator and the congestion timeout (RFC 6298, RFC 6817 §2.4.2).

use core::time::Duration;

use super::delay::MinuteMinima;
use crate::time::Instant;

/// The congestion timeout before the first sample (RFC 6817 §2.4.2).
pub const INITIAL_CTO: Duration = Duration::from_secs(1);
/// The least congestion timeout: as in common TCP stacks; well above the 10 ms that a peer may hold an ACK (R14).
pub const MIN_CTO: Duration = Duration::from_millis(200);
/// The most congestion timeout; RFC 6817 §2.4.2 and R25 demand at least 60 s.
pub const MAX_CTO: Duration = Duration::from_secs(60);
/// The round trip assumed before the first sample: with half of it as deviation, RFC 6298 gives [`INITIAL_CTO`].
pub const DEFAULT_RTT: Duration = Duration::from_micros(333_333);
/// How long the smallest round trip is remembered, in minutes, as the base delays of RFC 6817 §2.5 are.
pub const MIN_RTT_MINUTES: u32 = 10;

/// Longest round trip taken for real; a longer one could not be told from a dead path.
const MAX_RTT: Duration = MAX_CTO;
/// Doublings after which every timeout has reached [`MAX_CTO`].
const MAX_BACK_OFF: u32 = 9;

/// Round trip statistics of one channel, and the timeout that follows from them.
#[derive(Clone, Debug)]
pub struct RttEstimator {
    smoothed: Option<Smoothed>,
    minima: MinuteMinima<Duration>,
    back_off: u32,
}

#[derive(Clone, Copy, Debug)]
struct Smoothed {
    latest: Duration,
    srtt: Duration,
    rttvar: Duration,
}

impl RttEstimator {
    /// An estimator without samples.
    pub fn new(now: Instant) -> Self {
        Self { smoothed: None, minima: MinuteMinima::new(MIN_RTT_MINUTES, now), back_off: 0 }
    }

    /// Takes the time from sending data to the arrival, at `now`, of the first ACK for it; ends any back-off.
    ///
    /// Data that was sent twice gives no sample (RFC 6298 §3). Samples are clamped to 1 µs..=60 s.
    pub fn on_sample(&mut self, now: Instant, rtt: Duration) {
        let rtt = rtt.clamp(Duration::from_micros(1), MAX_RTT);
        self.minima.add(now, rtt);
        self.back_off = 0;
        // RFC 6298 §2.2 and §2.3; the deviation uses the old average.
        self.smoothed = Some(match self.smoothed {
            None => Smoothed { latest: rtt, srtt: rtt, rttvar: rtt / 2 },
            Some(old) => Smoothed {
                latest: rtt,
                srtt: (old.srtt * 7 + rtt) / 8,
                rttvar: (old.rttvar * 3 + old.srtt.abs_diff(rtt)) / 4,
            },
        });
    }

    /// Doubles the congestion timeout, because it ran out.
    pub fn back_off(&mut self) {
        self.back_off = (self.back_off + 1).min(MAX_BACK_OFF);
    }

    /// The congestion timeout: at first 1 s, then srtt + 4 rttvar, doubled per [`back_off`](Self::back_off), within
    /// [`MIN_CTO`]..=[`MAX_CTO`].
    pub fn cto(&self) -> Duration {
        let base = self.smoothed.map_or(INITIAL_CTO, |s| s.srtt + s.rttvar * 4).clamp(MIN_CTO, MAX_CTO);
        (base * (1 << self.back_off)).min(MAX_CTO)
    }

    /// Times the congestion timeout ran out since the last sample; stops counting where doubling ends.
    pub const fn back_offs(&self) -> u32 {
        self.back_off
    }

    /// The smoothed round trip, if there was a sample.
    pub fn srtt(&self) -> Option<Duration> {
        self.smoothed.map(|s| s.srtt)
    }

    /// The smoothed round trip, or [`DEFAULT_RTT`].
    pub fn srtt_or_default(&self) -> Duration {
        self.srtt().unwrap_or(DEFAULT_RTT)
    }

    /// The mean deviation, if there was a sample.
    pub fn rttvar(&self) -> Option<Duration> {
        self.smoothed.map(|s| s.rttvar)
    }

    /// The newest sample.
    pub fn latest(&self) -> Option<Duration> {
        self.smoothed.map(|s| s.latest)
    }

    /// The smallest sample of the last [`MIN_RTT_MINUTES`] minutes that had one.
    pub fn min_rtt(&self) -> Option<Duration> {
        self.minima.min()
    }
}
