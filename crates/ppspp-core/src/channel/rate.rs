//! How fast one peer delivers.

use core::time::Duration;

use crate::time::{Instant, micros};

/// Shortest time over which a rate is measured: so many round trips, at least and at most so long, but one round trip.
const SPAN_ROUND_TRIPS: u32 = 8;
const MIN_SPAN: Duration = Duration::from_millis(2);
const ENOUGH_SPAN: Duration = Duration::from_millis(20);
/// Parts of the time over which a rate is measured, the last of them in progress.
const SLOTS: usize = 8;
/// Shortest length of a part. A peer that serves many takes turns with bursts: half a second of it tells its rate.
const MIN_SLOT: Duration = Duration::from_millis(64);

/// Parts in which a rate rises by more than an eighth that doubles with each round trip.
const RISE_SLOTS: usize = 3;
/// Eighths of the rate.
const LESS: u64 = 7;
const MORE: u128 = 9;

/// Bytes per second over the last half second or two round trips; at the start over what there is.
#[derive(Debug, Default)]
pub(crate) struct RateMeter {
    slots: [u64; SLOTS],
    /// Parts that are over and count.
    full: u32,
    /// When the part in progress began.
    since: Option<Instant>,
    /// Since when nothing is asked for.
    paused: Option<Instant>,
    /// Bytes that arrived, and in which time.
    measured: Option<(u64, Duration)>,
    /// The latest time at which bytes arrived, and the round-trip time then.
    latest: Option<(Instant, Duration)>,
    /// Whether what arrived then is among what was measured.
    counts: bool,
    /// The rate when each of the last parts ended, the latest first; zero while it was not known.
    before: [u64; RISE_SLOTS],
    /// Whether it was ever an eighth less than before.
    fell: bool,
}

impl RateMeter {
    /// Counts `bytes` that arrived.
    pub(crate) fn on_bytes(&mut self, now: Instant, bytes: u64, srtt: Duration) {
        if self.latest == Some((now, srtt)) {
            // What arrives together is measured once: no time has passed.
            self.slots[0] += bytes;
            if let Some((sum, _)) = self.measured.as_mut().filter(|_| self.counts) {
                *sum += bytes;
            }
            return;
        }
        let Some(since) = self.since else {
            // The first bytes begin the time and do not count.
            self.since = Some(now);
            return;
        };
        let slot = MIN_SLOT.max(srtt / 4);
        let mut begun = since;
        while now - begun >= slot {
            begun = begun + slot;
            self.full = (self.full + 1).min(SLOTS as u32 - 1);
            self.slots.rotate_right(1);
            self.slots[0] = 0;
            self.before.rotate_right(1);
            self.before[0] = self.rate().unwrap_or(0);
            self.fell |= self.before[0] < self.before[1] / 8 * LESS;
            if now - begun > slot * SLOTS as u32 {
                // So long ago that nothing of it counts.
                self.slots = [0; SLOTS];
                begun = now;
            }
        }
        self.since = Some(begun);
        self.slots[0] += bytes;
        let span = (now - begun) + slot * self.full;
        self.counts = span >= (srtt * SPAN_ROUND_TRIPS).clamp(MIN_SPAN, ENOUGH_SPAN).max(srtt);
        if self.counts {
            self.measured = Some((self.slots.iter().sum(), span));
        }
        self.latest = Some((now, srtt));
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
            && let Some(since) = &mut self.since
        {
            *since = *since + (now - paused);
            self.latest = None;
        }
    }

    /// Whether the peer may soon deliver much more than it did: the rate is an eighth above what it was three parts ago, or
    /// was not known then, and has not fallen yet. In a slow start it doubles with each round trip.
    pub(crate) fn is_rising(&self) -> bool {
        let before = u128::from(self.before[RISE_SLOTS - 1]);
        !self.fell && self.rate().is_none_or(|rate| u128::from(rate) * 8 > before * MORE)
    }

    /// The rate in bytes per second, once measured.
    pub(crate) fn rate(&self) -> Option<u64> {
        self.measured.map(|(bytes, span)| bytes.saturating_mul(1_000_000) / micros(span).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const RTT: Duration = Duration::from_millis(40);

    fn at(millis: u64) -> Instant {
        Instant::from_micros(1_000_000 + millis * 1000)
    }

    #[test]
    fn a_steady_peer_is_measured_after_a_round_trip() {
        let mut meter = RateMeter::default();
        for millis in 0..40 {
            meter.on_bytes(at(millis), 1000, RTT);
            assert_eq!(meter.rate(), None);
        }
        for millis in 40..2000 {
            meter.on_bytes(at(millis), 1000, RTT);
            let rate = meter.rate().unwrap();
            assert!((980_000..=1_020_000).contains(&rate), "{rate} after {millis} ms");
        }
    }

    #[test]
    fn a_near_peer_is_measured_after_some_round_trips() {
        for (rtt, expected) in [(100, 2000), (500, 4000), (1000, 8000), (10_000, 20_000), (30_000, 30_000)] {
            let mut meter = RateMeter::default();
            let start = Instant::from_micros(1_000_000);
            let moments = (0..400).map(|step| Duration::from_micros(100 * step));
            let measured = moments.into_iter().find(|moment| {
                meter.on_bytes(start + *moment, 10_000, Duration::from_micros(rtt));
                meter.rate().is_some()
            });
            assert_eq!(measured, Some(Duration::from_micros(expected)), "{rtt}");
        }
    }

    #[test]
    fn bursts_are_averaged() {
        // A tenth of the time at 1.25 MB/s: a peer that serves ten in turn.
        let mut meter = RateMeter::default();
        for millis in 0..3000 {
            if millis % 250 < 25 {
                meter.on_bytes(at(millis), 1250, RTT);
                if millis > 1000 {
                    let rate = meter.rate().unwrap();
                    assert!((60_000..220_000).contains(&rate), "{rate} after {millis} ms");
                }
            }
        }
    }

    #[test]
    fn a_change_is_followed_within_half_a_second() {
        let mut meter = RateMeter::default();
        for millis in 0..1000 {
            meter.on_bytes(at(millis), 1000, RTT);
        }
        for millis in 1000..1520 {
            meter.on_bytes(at(millis), 100, RTT);
        }
        assert!(meter.rate().unwrap() < 110_000);
    }

    #[test]
    fn a_slow_start_is_told_from_a_steady_peer() {
        for rtt in [10, 40, 80, 160, 320] {
            let mut meter = RateMeter::default();
            for millis in 0..1000 {
                meter.on_bytes(at(millis), 10 << (millis / rtt.max(40)), Duration::from_millis(rtt));
                assert!(meter.is_rising(), "round trips of {rtt} ms, after {millis}");
            }
            let mut meter = RateMeter::default();
            for millis in 0..2000 {
                meter.on_bytes(at(millis), 1000, Duration::from_millis(rtt));
                assert!(meter.is_rising() || millis > rtt, "round trips of {rtt} ms, after {millis}");
                assert!(!meter.is_rising() || millis < 2 * rtt.max(128), "round trips of {rtt} ms, after {millis}");
            }
        }
    }

    #[test]
    fn a_rate_that_fell_does_not_rise_again() {
        let mut meter = RateMeter::default();
        for millis in 0..3000 {
            meter.on_bytes(at(millis), if millis < 1000 { 1 << (millis / 40) } else { millis }, RTT);
            assert!(meter.is_rising() || millis > 1000, "after {millis}");
            assert!(!meter.is_rising() || millis < 1300, "after {millis}");
        }
    }

    #[test]
    fn time_in_which_nothing_is_asked_for_does_not_count() {
        let mut meter = RateMeter::default();
        for millis in 0..500 {
            meter.on_bytes(at(millis), 1000, RTT);
        }
        meter.pause(at(499));
        meter.resume(at(10_499));
        for millis in 10_500..10_540 {
            meter.on_bytes(at(millis), 1000, 100 * MS);
        }
        let rate = meter.rate().unwrap();
        assert!((950_000..1_050_000).contains(&rate), "{rate}");
    }
}
