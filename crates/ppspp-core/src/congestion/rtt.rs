//! The round trip estimator and the congestion timeout (RFC 6298, RFC 6817 §2.4.2).

use core::time::Duration;

use super::delay::MinuteMinima;
use crate::time::Instant;

/// The congestion timeout before the first sample (RFC 6817 §2.4.2).
pub const INITIAL_CTO: Duration = Duration::from_secs(1);
/// The same where an opening had to be repeated (RFC 6298 §5.7): the round trip may be longer than the wait for an answer.
pub const INITIAL_CTO_AFTER_REPEATS: Duration = Duration::from_secs(3);
/// The least congestion timeout, that of RFC 6298 §2.4. With the 200 ms of common TCP stacks, the queue that many slow
/// starts leave on a slow uplink outgrows the timeout faster than the average learns of it. What it costs where all in
/// flight is lost, probes win back.
pub const MIN_CTO: Duration = Duration::from_secs(1);
/// The most congestion timeout; RFC 6817 §2.4.2 and R25 demand at least 60 s.
pub const MAX_CTO: Duration = Duration::from_secs(60);
/// The round trip assumed before the first sample: with half of it as deviation, RFC 6298 gives [`INITIAL_CTO`].
pub const DEFAULT_RTT: Duration = Duration::from_micros(333_333);
/// How long the smallest round trip is remembered at least, in minutes, as the base delays of RFC 6817 §2.5 are.
pub const MIN_RTT_MINUTES: u32 = 10;

/// Longest round trip taken for real; a longer one could not be told from a dead path.
const MAX_RTT: Duration = MAX_CTO;
/// Doublings after which every timeout has reached [`MAX_CTO`].
const MAX_BACK_OFF: u32 = 9;
/// Doublings that are kept until there is a sample.
const KEPT_BACK_OFF: u32 = 2;

/// Round trip statistics of one channel, and the timeout that follows from them.
#[derive(Clone, Debug)]
pub struct RttEstimator {
    smoothed: Option<Smoothed>,
    minima: MinuteMinima<Duration>,
    /// The congestion timeout before the first sample.
    initial: Duration,
    back_off: u32,
    /// Whether data gave a sample.
    measured: bool,
}

#[derive(Clone, Copy, Debug)]
struct Smoothed {
    latest: Duration,
    /// The latest, or what a repeat says if that is less.
    pace: Duration,
    srtt: Duration,
    rttvar: Duration,
}

impl RttEstimator {
    /// An estimator without samples.
    pub fn new(now: Instant) -> Self {
        let minima = MinuteMinima::new(MIN_RTT_MINUTES, now);
        Self { smoothed: None, minima, initial: INITIAL_CTO, back_off: 0, measured: false }
    }

    /// The same after openings that had to be repeated.
    pub fn after_repeats(now: Instant) -> Self {
        Self { initial: INITIAL_CTO_AFTER_REPEATS, ..Self::new(now) }
    }

    /// The same, which knows the shortest round trip of so many `minutes`, at least [`MIN_RTT_MINUTES`]: as many as the base
    /// history of delays, whose queue it bounds.
    #[must_use]
    pub fn remembering(self, minutes: u32, now: Instant) -> Self {
        Self { minima: MinuteMinima::new(minutes.max(MIN_RTT_MINUTES), now), ..self }
    }

    /// Takes the time from sending data to the arrival, at `now`, of the first ACK for it; ends any back-off.
    ///
    /// Data that was sent twice gives no sample (RFC 6298 §3). Samples are clamped to 1 µs..=60 s.
    pub fn on_sample(&mut self, now: Instant, rtt: Duration) {
        // What a handshake took says nothing of a queue.
        let before = self.smoothed.filter(|_| self.measured);
        self.measured = true;
        let rtt = rtt.clamp(Duration::from_micros(1), MAX_RTT);
        self.minima.add(now, rtt);
        self.back_off = 0;
        // RFC 6298 §2.2 and §2.3; the deviation uses the old average.
        self.smoothed = Some(match before {
            None => Smoothed { latest: rtt, pace: rtt, srtt: rtt, rttvar: rtt / 2 },
            Some(old) => Smoothed {
                latest: rtt,
                pace: rtt,
                srtt: (old.srtt * 7 + rtt) / 8,
                rttvar: (old.rttvar * 3 + old.srtt.abs_diff(rtt)) / 4,
            },
        });
    }

    /// Takes the round trip of a handshake: a sample, but of a path that carried nothing. The first one of data takes its
    /// place.
    pub fn on_handshake(&mut self, now: Instant, rtt: Duration) {
        self.on_sample(now, rtt);
        self.measured = false;
    }

    /// How often a wait is to be doubled that only data can make shorter.
    pub(crate) const fn doublings_until_measured(&self) -> u32 {
        if self.measured { 0 } else { KEPT_BACK_OFF }
    }

    /// Ends a back-off but for two doublings: something was acknowledged, if only data sent twice, which gives no sample.
    ///
    /// RFC 6817 §2.4.2 computes the timeout anew with every acknowledgement. But where the timeout is shorter than the
    /// round trip, everything is sent twice and no sample tells (RFC 6298 §5 waits for one). Waiting longer would let a
    /// lossy path, where everything is a repeat, fall silent for a minute.
    pub fn on_progress(&mut self) {
        self.back_off = self.back_off.min(KEPT_BACK_OFF);
    }

    /// Takes the time since the newest acknowledged data was sent again. It may be the first transmission that was
    /// acknowledged (Karn), so the timeout learns nothing from it; but while a burst of losses is repaired there is no
    /// other sign that the queue has drained.
    pub fn on_repeat(&mut self, since_sent: Duration) {
        if let (Some(smoothed), Some(least)) = (&mut self.smoothed, self.minima.min()) {
            smoothed.pace = smoothed.pace.min(since_sent.max(least));
        }
    }

    /// Doubles the congestion timeout, because it ran out.
    pub fn back_off(&mut self) {
        self.back_off = (self.back_off + 1).min(MAX_BACK_OFF);
    }

    /// The congestion timeout: at first 1 s, or 3 s after repeated openings, then srtt + 4 rttvar, doubled per
    /// [`back_off`](Self::back_off), within [`MIN_CTO`]..=[`MAX_CTO`].
    pub fn cto(&self) -> Duration {
        let base = self.smoothed.map_or(self.initial, |s| s.srtt + s.rttvar * 4).clamp(MIN_CTO, MAX_CTO);
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

    /// The round trip to pace by: the newest, repeats included, if it is shorter than the smoothed one, else that, else
    /// [`DEFAULT_RTT`].
    ///
    /// When a queue drains the average lags behind; pacing by it would leave the window unused for several round trips,
    /// and what is not used is taken away (RFC 6817 §2.4.2, `max_allowed_cwnd`).
    pub fn pacing_rtt(&self) -> Duration {
        self.smoothed.map_or(DEFAULT_RTT, |s| s.srtt.min(s.pace))
    }

    /// The mean deviation, if there was a sample.
    pub fn rttvar(&self) -> Option<Duration> {
        self.smoothed.map(|s| s.rttvar)
    }

    /// The newest sample.
    pub fn latest(&self) -> Option<Duration> {
        self.smoothed.map(|s| s.latest)
    }

    /// The smallest sample of the last minutes that had one, [`MIN_RTT_MINUTES`] or more.
    pub fn min_rtt(&self) -> Option<Duration> {
        self.minima.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn repeats_tell_the_pacer_that_the_queue_drained() {
        let mut rtt = RttEstimator::new(Instant::ZERO);
        rtt.on_repeat(millis(1));
        assert_eq!(rtt.pacing_rtt(), DEFAULT_RTT, "nothing was measured yet");
        rtt.on_sample(Instant::ZERO, millis(5));
        for _ in 0..20 {
            rtt.on_sample(Instant::ZERO, millis(90));
        }
        let (srtt, cto) = (rtt.srtt(), rtt.cto());
        rtt.on_repeat(millis(8));
        assert_eq!(rtt.pacing_rtt(), millis(8));
        rtt.on_repeat(Duration::ZERO);
        assert_eq!(rtt.pacing_rtt(), millis(5), "never below what was measured");
        assert_eq!((rtt.srtt(), rtt.cto()), (srtt, cto), "Karn");
        rtt.on_sample(Instant::ZERO, millis(80));
        assert_eq!(rtt.pacing_rtt(), millis(80));
    }

    #[test]
    fn starts_with_the_timeout_that_its_default_round_trip_implies() {
        let rtt = RttEstimator::new(Instant::ZERO);
        assert_eq!(rtt.cto(), INITIAL_CTO);
        assert_eq!((rtt.srtt(), rtt.latest(), rtt.rttvar(), rtt.min_rtt()), (None, None, None, None));
        assert!(INITIAL_CTO.abs_diff(rtt.srtt_or_default() * 3) < millis(1));
    }

    #[test]
    fn follows_rfc_6298() {
        let mut rtt = RttEstimator::new(Instant::ZERO);
        rtt.on_sample(Instant::ZERO, millis(800));
        assert_eq!((rtt.srtt(), rtt.rttvar()), (Some(millis(800)), Some(millis(400))));
        assert_eq!(rtt.cto(), millis(2400));
        rtt.on_sample(Instant::ZERO, millis(400));
        assert_eq!((rtt.srtt(), rtt.rttvar()), (Some(millis(750)), Some(millis(400))));
        assert_eq!(rtt.cto(), millis(2350));
        assert_eq!((rtt.latest(), rtt.min_rtt()), (Some(millis(400)), Some(millis(400))));
    }

    #[test]
    fn r25_the_timeout_doubles_up_to_a_minute_and_a_sample_ends_that() {
        let mut rtt = RttEstimator::new(Instant::ZERO);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            assert_eq!(rtt.cto(), Duration::from_secs(seconds));
            rtt.back_off();
        }
        for _ in 0..100 {
            rtt.back_off();
        }
        assert_eq!(rtt.cto(), MAX_CTO);
        rtt.on_sample(Instant::ZERO, millis(10));
        assert_eq!((rtt.cto(), rtt.back_offs()), (MIN_CTO, 0));
        for _ in 0..9 {
            rtt.back_off();
        }
        assert_eq!(rtt.cto(), MAX_CTO, "the least timeout reaches the most, too");
    }

    #[test]
    fn some_of_the_back_off_is_kept_until_there_is_a_sample() {
        let mut rtt = RttEstimator::new(Instant::ZERO);
        rtt.on_sample(Instant::ZERO, millis(500));
        assert_eq!(rtt.cto(), millis(1500));
        rtt.back_off();
        rtt.on_progress();
        assert_eq!(rtt.cto(), millis(3000), "what was acknowledged may have been sent before");
        for _ in 0..5 {
            rtt.back_off();
        }
        rtt.on_progress();
        assert_eq!(rtt.cto(), millis(6000));
        rtt.on_sample(Instant::ZERO, millis(500));
        assert_eq!(rtt.back_offs(), 0);
    }

    #[test]
    fn the_first_data_counts_for_more_than_the_handshake() {
        let mut rtt = RttEstimator::new(Instant::ZERO);
        rtt.on_handshake(Instant::ZERO, millis(20));
        assert_eq!(rtt.doublings_until_measured(), 2);
        rtt.on_sample(Instant::ZERO, millis(450));
        assert_eq!((rtt.srtt(), rtt.cto(), rtt.min_rtt()), (Some(millis(450)), millis(1350), Some(millis(20))));
        assert_eq!(rtt.doublings_until_measured(), 0);
        rtt.on_sample(Instant::ZERO, millis(370));
        assert_eq!(rtt.srtt(), Some(millis(440)), "an average from now on");
    }

    #[test]
    fn the_timeout_of_a_steady_path_is_bounded_from_below() {
        let mut rtt = RttEstimator::new(Instant::ZERO);
        for _ in 0..200 {
            rtt.on_sample(Instant::ZERO, Duration::from_micros(50));
        }
        assert_eq!(rtt.cto(), MIN_CTO);
        assert_eq!(rtt.srtt(), Some(Duration::from_micros(50)), "no rounding eats a short round trip");
    }

    #[test]
    fn the_smallest_round_trip_is_forgotten_after_its_minutes() {
        let mut rtt = RttEstimator::new(Instant::ZERO);
        rtt.on_sample(Instant::ZERO, millis(20));
        rtt.on_sample(Instant::ZERO + Duration::from_secs(599), millis(90));
        assert_eq!(rtt.min_rtt(), Some(millis(20)));
        rtt.on_sample(Instant::ZERO + Duration::from_secs(600), millis(95));
        assert_eq!(rtt.min_rtt(), Some(millis(90)));
    }

    proptest! {
        #[test]
        fn any_samples_leave_everything_in_bounds(samples in prop::collection::vec(any::<u64>(), 1..50), backs in 0_u32..40) {
            let mut rtt = RttEstimator::new(Instant::ZERO);
            for sample in samples {
                rtt.on_sample(Instant::from_micros(sample), Duration::from_micros(sample));
                let srtt = rtt.srtt_or_default();
                prop_assert!(srtt > Duration::ZERO && srtt <= MAX_RTT);
                prop_assert!(rtt.min_rtt() <= rtt.latest());
            }
            for _ in 0..backs {
                let before = rtt.cto();
                rtt.back_off();
                prop_assert_eq!(rtt.cto(), (before * 2).min(MAX_CTO));
            }
            prop_assert!((MIN_CTO..=MAX_CTO).contains(&rtt.cto()));
        }

        #[test]
        fn the_average_stays_between_the_samples(samples in prop::collection::vec(1_u64..10_000_000, 1..100)) {
            let mut rtt = RttEstimator::new(Instant::ZERO);
            let (mut least, mut most) = (u64::MAX, 0);
            for sample in samples {
                rtt.on_sample(Instant::ZERO, Duration::from_micros(sample));
                (least, most) = (least.min(sample), most.max(sample));
                let bounds = Duration::from_micros(least)..=Duration::from_micros(most);
                // Each step truncates below a nanosecond.
                prop_assert!(bounds.contains(&(rtt.srtt_or_default() + Duration::from_nanos(8)))
                    || bounds.contains(&rtt.srtt_or_default()));
            }
        }
    }
}
