//! One-way delays: samples on unsynchronised clocks, the base delay history and the current delay filter.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::time::{Instant, micros};

const MICROS_PER_MINUTE: u64 = 60_000_000;

/// A one-way delay as the receiver of data measured it, in microseconds (RFC 7574 §8.7).
///
/// It is the difference of two clocks that nobody synchronised, modulo 2^64: only differences between samples of the
/// same channel mean anything, and those wrap as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DelaySample(u64);

impl DelaySample {
    /// The sample that an ACK message carries.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// What an ACK message carries.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The receiver's side: data stamped `sent` by its sender's clock arrived at `received` on ours.
    pub const fn measure(sent: Instant, received: Instant) -> Self {
        Self(received.as_micros().wrapping_sub(sent.as_micros()))
    }

    /// How much more than `origin` this is, in microseconds.
    const fn relative_to(self, origin: Self) -> i64 {
        self.0.wrapping_sub(origin.0).cast_signed()
    }

    const fn offset(self, by: i64) -> Self {
        Self(self.0.wrapping_add_signed(by))
    }
}

/// Minimum over the running minute and the ones before it; minutes without a sample hold nothing.
#[derive(Clone, Debug)]
pub(super) struct MinuteMinima<T> {
    /// What may still be the minimum, as (minute, value): both ascend, so that the first is it. A minute whose minimum
    /// a later one undercuts is left out, as the RFC's +INFINITY is.
    minima: VecDeque<(u64, T)>,
    /// The running minute.
    minute: u64,
    /// Minutes remembered, the running one included.
    kept: u32,
}

impl<T: Copy + Ord> MinuteMinima<T> {
    /// Remembers `minutes` minutes, the running one included; at least one.
    pub(super) fn new(minutes: u32, now: Instant) -> Self {
        Self { minima: VecDeque::new(), minute: now.as_micros() / MICROS_PER_MINUTE, kept: minutes.max(1) }
    }

    pub(super) fn add(&mut self, now: Instant, value: T) {
        // A clock that went back stays in the running minute (R25).
        self.minute = self.minute.max(now.as_micros() / MICROS_PER_MINUTE);
        while self.minima.front().is_some_and(|&(minute, _)| self.minute - minute >= self.kept.into()) {
            self.minima.pop_front();
        }
        while self.minima.back().is_some_and(|&(_, later)| later >= value) {
            self.minima.pop_back();
        }
        if self.minima.back().is_none_or(|&(minute, _)| minute < self.minute) {
            self.minima.push_back((self.minute, value));
        }
    }

    pub(super) fn min(&self) -> Option<T> {
        self.minima.front().map(|&(_, value)| value)
    }
}

/// `CURRENT_FILTER`: RFC 6817 §2.5 asks for at least 4 samples; more would hide a growing queue for longer.
const CURRENT_FILTER: usize = 4;

/// The queuing delay: a minimum over the newest samples, above a minimum over minutes.
#[derive(Clone, Debug)]
pub(super) struct DelayTracker {
    /// The first sample; all others are kept relative to it, so that neither epoch nor wrapping matters.
    origin: Option<DelaySample>,
    base: MinuteMinima<i64>,
    current: [Option<(Instant, i64)>; CURRENT_FILTER],
    next: usize,
}

impl DelayTracker {
    pub(super) fn new(base_history: u32, now: Instant) -> Self {
        Self { origin: None, base: MinuteMinima::new(base_history, now), current: [None; CURRENT_FILTER], next: 0 }
    }

    pub(super) fn add(&mut self, now: Instant, sample: DelaySample) {
        let delay = sample.relative_to(*self.origin.get_or_insert(sample));
        self.base.add(now, delay);
        if let Some(slot) = self.current.get_mut(self.next) {
            *slot = Some((now, delay));
        }
        self.next = (self.next + 1) % CURRENT_FILTER;
    }

    /// FILTER(`current_delays`) - MIN(`base_delays`), over samples no older than `rtt`; `None` without one.
    ///
    /// Never more than `rtt`: no datagram queues for longer than its round trip took, whatever the peer says.
    pub(super) fn queuing(&self, now: Instant, rtt: Duration) -> Option<Duration> {
        let recent = self.current.iter().flatten().filter(|(at, _)| now.saturating_since(*at) <= rtt);
        let current = recent.map(|&(_, delay)| delay).min()?;
        let base = self.base.min()?;
        let above = u64::try_from(i128::from(current) - i128::from(base)).unwrap_or(0);
        Some(Duration::from_micros(above.min(micros(rtt))))
    }

    pub(super) fn base(&self) -> Option<DelaySample> {
        Some(self.origin?.offset(self.base.min()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const fn at_minute(minute: u64) -> Instant {
        Instant::from_micros(minute * MICROS_PER_MINUTE)
    }

    fn queuing(tracker: &DelayTracker, now: Instant, rtt_millis: u64) -> Option<u64> {
        tracker.queuing(now, Duration::from_millis(rtt_millis)).map(micros)
    }

    #[test]
    fn a_measured_delay_survives_clocks_that_disagree() {
        let sample = DelaySample::measure(Instant::from_micros(1_000), Instant::from_micros(400));
        assert_eq!(sample.as_micros(), 600_u64.wrapping_neg());
        assert_eq!(sample.relative_to(DelaySample::from_micros(100)), -700);
        assert_eq!(DelaySample::from_micros(u64::MAX).relative_to(DelaySample::from_micros(u64::MAX - 7)), 7);
    }

    #[test]
    fn the_base_is_kept_for_exactly_its_minutes() {
        let mut minima = MinuteMinima::new(10, at_minute(7));
        minima.add(at_minute(7), 5);
        minima.add(at_minute(8), 9);
        minima.add(at_minute(16), 8);
        assert_eq!(minima.min(), Some(5));
        minima.add(at_minute(17), 20);
        assert_eq!(minima.min(), Some(8), "the minute of 5 is ten minutes old");
    }

    #[test]
    fn r25_idle_minutes_are_infinity() {
        let mut minima = MinuteMinima::new(10, at_minute(0));
        for minute in 0..10 {
            minima.add(at_minute(minute), 1);
        }
        minima.add(at_minute(18), 50);
        assert_eq!(minima.min(), Some(1), "minute 9 still counts");
        minima.add(at_minute(19), 60);
        assert_eq!(minima.min(), Some(50), "the idle minutes hold nothing");
        minima.add(at_minute(1_000_000), 70);
        assert_eq!(minima.min(), Some(70), "measurement begins anew");
    }

    #[test]
    fn r25_a_clock_that_goes_back_stays_in_the_running_minute() {
        let mut minima = MinuteMinima::new(2, at_minute(5));
        minima.add(at_minute(5), 10);
        minima.add(at_minute(3), 4);
        minima.add(at_minute(6), 20);
        assert_eq!(minima.min(), Some(4));
        minima.add(at_minute(7), 30);
        assert_eq!(minima.min(), Some(20));
    }

    #[test]
    fn the_end_of_time_is_a_minute_like_any_other() {
        let mut minima = MinuteMinima::new(3, Instant::ZERO);
        minima.add(Instant::ZERO, 1);
        minima.add(Instant::FAR_FUTURE, 2);
        assert_eq!(minima.min(), Some(2));
    }

    #[test]
    fn the_filter_takes_the_least_of_the_newest_four_within_a_round_trip() {
        let mut tracker = DelayTracker::new(10, Instant::ZERO);
        let sample = |millis: u64| DelaySample::from_micros(millis * 1000);
        let at = |millis: u64| Instant::from_micros(millis * 1000);
        assert_eq!(queuing(&tracker, at(0), 100), None);
        for (time, delay) in [(0, 10), (10, 40), (20, 60), (30, 50), (40, 70)] {
            tracker.add(at(time), sample(delay));
        }
        assert_eq!(queuing(&tracker, at(40), 100), Some(30_000), "10 is the base and no longer among the four");
        assert_eq!(queuing(&tracker, at(120), 100), Some(40_000), "40 is older than the round trip");
        assert_eq!(queuing(&tracker, at(141), 100), None, "all are");
    }

    #[test]
    fn no_queuing_delay_exceeds_the_round_trip() {
        let mut tracker = DelayTracker::new(10, Instant::ZERO);
        tracker.add(Instant::ZERO, DelaySample::from_micros(0));
        for sample in [1 << 62, 1 << 63, u64::MAX, (1 << 63) - 1] {
            for _ in 0..CURRENT_FILTER {
                tracker.add(Instant::ZERO, DelaySample::from_micros(sample));
            }
            assert!(queuing(&tracker, Instant::ZERO, 80) <= Some(80_000), "{sample:#x}");
        }
    }

    #[test]
    fn the_base_is_reported_on_the_clock_of_the_samples() {
        let mut tracker = DelayTracker::new(10, Instant::ZERO);
        assert_eq!(tracker.base(), None);
        tracker.add(Instant::ZERO, DelaySample::from_micros(3));
        tracker.add(Instant::ZERO, DelaySample::from_micros(u64::MAX - 4));
        tracker.add(Instant::ZERO, DelaySample::from_micros(90));
        assert_eq!(tracker.base(), Some(DelaySample::from_micros(u64::MAX - 4)));
    }

    proptest! {
        #[test]
        fn minima_equal_a_list_of_all_samples(
            minutes in 1_u32..12,
            steps in prop::collection::vec((0_u64..4 * MICROS_PER_MINUTE, any::<i64>()), 1..60),
        ) {
            let mut now = Instant::from_micros(12_345_678_901);
            let mut minima = MinuteMinima::new(minutes, now);
            let mut all = Vec::new();
            for (step, value) in steps {
                now = now + Duration::from_micros(step);
                minima.add(now, value);
                let minute = now.as_micros() / MICROS_PER_MINUTE;
                all.push((minute, value));
                let kept = all.iter().filter(|(m, _)| m + u64::from(minutes) > minute);
                prop_assert_eq!(minima.min(), kept.map(|&(_, v)| v).min());
            }
        }

        #[test]
        fn the_epoch_of_the_samples_does_not_matter(
            offset in any::<u64>(),
            steps in prop::collection::vec((0_u64..90_000_000, 0_u64..1_000_000), 1..60),
        ) {
            let mut now = Instant::ZERO;
            let (mut plain, mut shifted) = (DelayTracker::new(10, now), DelayTracker::new(10, now));
            for (step, sample) in steps {
                now = now + Duration::from_micros(step);
                plain.add(now, DelaySample::from_micros(sample));
                shifted.add(now, DelaySample::from_micros(sample.wrapping_add(offset)));
                prop_assert_eq!(queuing(&plain, now, 500), queuing(&shifted, now, 500));
                let base = plain.base().map(|base| base.as_micros().wrapping_add(offset));
                prop_assert_eq!(base, shifted.base().map(DelaySample::as_micros));
            }
        }
    }
}
