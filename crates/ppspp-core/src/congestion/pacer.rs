//! Spreads a window over a round trip, so that a queue sees a stream rather than a burst.

use core::time::Duration;

use crate::time::{Instant, micros};

/// Fewest segments in a burst; equals what TCP stacks send unpaced after idle.
const MIN_BURST_SEGMENTS: u64 = 10;
/// A burst holds this much time at the current rate: a driver's timer is good to about a millisecond, and from
/// 45 MB/s on it fills a batch of 64 datagrams of 1,400 bytes.
const BURST_TIME: Duration = Duration::from_millis(2);
/// Tokens are counted in this fraction of a byte, so that frequent calls at a low rate lose nothing.
const FRACTION_BITS: u32 = 20;
/// No window or burst counts for more, in bytes: with its fraction it fits in 63 bits.
const MAX_BYTES: u64 = 1 << 42;
/// No pause counts for more, in microseconds (13 days): it fills any bucket, and products stay within 128 bits.
const MAX_ELAPSED: u64 = 1 << 40;

/// A token bucket whose rate is a little more than a window per round trip: 1.25 times, in slow start twice.
///
/// The window is the limit in the long run, so the factor only has to keep pacing from being a second one. The bucket
/// holds 10 segments or 2 ms at the current rate, whichever is more: for round trips below 2.5 ms the whole window.
#[derive(Clone, Debug)]
pub struct Pacer {
    mss: u64,
    /// May be below zero, down to one burst: more was sent than the budget said.
    tokens: i64,
    refilled_at: Instant,
    rate: Rate,
    /// Most tokens, at this rate: worked out once, since it is needed for every datagram.
    capacity: i64,
}

/// `bytes` per `micros`; neither is zero.
#[derive(Clone, Copy, Debug)]
struct Rate {
    bytes: u64,
    micros: u64,
}

impl Rate {
    fn new(window: u64, srtt: Duration, in_slow_start: bool) -> Self {
        let quarters = if in_slow_start { 8 } else { 5 };
        Self { bytes: window.clamp(1, MAX_BYTES) * quarters, micros: micros(srtt).max(1).saturating_mul(4) }
    }

    /// Tokens earned in `elapsed` microseconds.
    fn tokens(self, elapsed: u64) -> i64 {
        let earned = (u128::from(elapsed.min(MAX_ELAPSED)) * u128::from(self.bytes)) << FRACTION_BITS;
        i64::try_from(earned / u128::from(self.micros)).unwrap_or(i64::MAX)
    }

    /// Microseconds until `tokens` are earned, rounded up.
    fn time(self, tokens: u64) -> u64 {
        let time = u128::from(tokens) * u128::from(self.micros);
        u64::try_from(time.div_ceil(u128::from(self.bytes) << FRACTION_BITS)).unwrap_or(u64::MAX)
    }
}

fn tokens(bytes: u64) -> i64 {
    (bytes.min(MAX_BYTES) << FRACTION_BITS).cast_signed()
}

impl Pacer {
    /// A pacer with a full bucket, for segments of `mss` bytes.
    pub fn new(now: Instant, mss: u32) -> Self {
        let mss = u64::from(mss.max(1));
        let rate = Rate::new(mss, super::rtt::DEFAULT_RTT, true);
        Self { mss, tokens: tokens(mss * MIN_BURST_SEGMENTS), refilled_at: now, rate, capacity: capacity(rate, mss) }
    }

    /// The path's segment size changed to `mss` bytes.
    pub fn set_mss(&mut self, mss: u32) {
        self.mss = u64::from(mss.max(1));
        self.capacity = capacity(self.rate, self.mss);
    }

    /// Bytes that may leave now, given the controller's window and [`RttEstimator::pacing_rtt`](super::RttEstimator::pacing_rtt).
    ///
    /// Never more than [`burst`](Self::burst): a datagram longer than that leaves when the budget reaches it.
    /// A `now` before that of an earlier call earns nothing (R25).
    pub fn budget(&mut self, now: Instant, window: u64, rtt: Duration, in_slow_start: bool) -> u64 {
        self.refill(now);
        self.rate = Rate::new(window, rtt, in_slow_start);
        self.capacity = capacity(self.rate, self.mss);
        self.tokens = self.tokens.min(self.capacity);
        self.tokens.max(0).cast_unsigned() >> FRACTION_BITS
    }

    /// Takes `bytes` that left out of the bucket; more than the budget makes a debt of at most one burst.
    pub fn on_sent(&mut self, bytes: u64) {
        let debt = self.capacity.saturating_neg();
        self.tokens = self.tokens.saturating_sub(tokens(bytes)).max(debt);
    }

    /// When `bytes`, or a full burst if that is less, may leave at the rate of the latest [`budget`](Self::budget):
    /// not after its `now` if they may leave at once.
    pub fn next_at(&self, bytes: u64) -> Instant {
        let missing = tokens(bytes.min(self.burst())).saturating_sub(self.tokens);
        match u64::try_from(missing) {
            Ok(missing) => self.refilled_at + Duration::from_micros(self.rate.time(missing)),
            Err(_) => self.refilled_at,
        }
    }

    /// Most bytes that may leave at once at the rate of the latest [`budget`](Self::budget).
    pub fn burst(&self) -> u64 {
        self.capacity.cast_unsigned() >> FRACTION_BITS
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = micros(now.saturating_since(self.refilled_at));
        self.tokens = self.tokens.saturating_add(self.rate.tokens(elapsed)).min(self.capacity);
        self.refilled_at = self.refilled_at.max(now);
    }
}

/// Most tokens that a pacer holds at `rate`, for segments of `mss` bytes.
fn capacity(rate: Rate, mss: u64) -> i64 {
    rate.tokens(micros(BURST_TIME)).clamp(tokens(mss * MIN_BURST_SEGMENTS), tokens(MAX_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const MSS: u32 = 1400;
    const SRTT: Duration = Duration::from_millis(100);

    #[test]
    fn starts_with_ten_segments() {
        let mut pacer = Pacer::new(Instant::ZERO, MSS);
        assert_eq!(pacer.budget(Instant::ZERO, 2 * 1400, SRTT, true), 14_000);
        assert_eq!(pacer.next_at(14_000), Instant::ZERO);
        assert_eq!(pacer.next_at(u64::MAX), Instant::ZERO, "more than a burst counts as a burst");
    }

    #[test]
    fn paces_at_five_quarters_and_in_slow_start_at_twice_the_window_per_round_trip() {
        for (in_slow_start, micros) in [(false, 800_000), (true, 500_000)] {
            let mut pacer = Pacer::new(Instant::ZERO, MSS);
            let window = 10_000;
            let burst = pacer.budget(Instant::ZERO, window, Duration::from_secs(1), in_slow_start);
            pacer.on_sent(burst);
            assert_eq!(pacer.next_at(10_000), Instant::from_micros(micros), "slow start: {in_slow_start}");
        }
    }

    #[test]
    fn many_calls_at_a_low_rate_lose_nothing() {
        let mut pacer = Pacer::new(Instant::ZERO, MSS);
        pacer.budget(Instant::ZERO, 2800, Duration::from_secs(1), false);
        pacer.on_sent(14_000);
        for step in 1..=1_000_000_u64 {
            pacer.budget(Instant::from_micros(step), 2800, Duration::from_secs(1), false);
        }
        let budget = pacer.budget(Instant::from_micros(1_000_000), 2800, Duration::from_secs(1), false);
        // 0.0035 bytes per call; each may lose a 2^20th of a byte.
        assert!((3498..=3500).contains(&budget), "{budget}");
    }

    #[test]
    fn fills_a_batch_of_64_datagrams_at_high_rates() {
        let mut pacer = Pacer::new(Instant::ZERO, MSS);
        // 50 MB/s.
        pacer.budget(Instant::ZERO, 4_000_000, SRTT, false);
        assert!(pacer.burst() >= 64 * u64::from(MSS), "{}", pacer.burst());
    }

    #[test]
    fn never_limits_a_loopback_window() {
        for srtt_micros in [20, 50, 500, 2_000] {
            let srtt = Duration::from_micros(srtt_micros);
            let window = 300 * srtt_micros;
            let mut pacer = Pacer::new(Instant::ZERO, MSS);
            for millis in 0..100 {
                // The driver's timer fires once per millisecond; until then ACKs clock out no more than rate and burst.
                let now = Instant::from_micros(millis * 1000);
                let budget = pacer.budget(now, window, srtt, false);
                assert!(budget >= window.min(14_000), "{srtt_micros} µs, {millis} ms: {budget} of {window}");
                if millis > 0 {
                    assert!(budget >= 300_000, "{srtt_micros} µs, {millis} ms: {budget}");
                }
                pacer.on_sent(budget.min(300_000));
            }
        }
    }

    #[test]
    fn a_debt_is_paid_back_but_bounded() {
        let mut pacer = Pacer::new(Instant::ZERO, MSS);
        let window = 125_000;
        pacer.budget(Instant::ZERO, window, SRTT, false);
        pacer.on_sent(u64::MAX);
        assert_eq!(pacer.budget(Instant::ZERO, window, SRTT, false), 0);
        // 1.5625 bytes per microsecond, a burst of debt and a burst to come.
        let full = pacer.next_at(pacer.burst());
        assert_eq!(full, Instant::from_micros(17_920));
        assert_eq!(pacer.budget(full, window, SRTT, false), 14_000);
    }

    #[test]
    fn r25_a_clock_that_goes_back_earns_nothing() {
        let mut pacer = Pacer::new(Instant::from_micros(1_000_000), MSS);
        pacer.on_sent(14_000);
        for now in [900_000, 1_000_000, 0] {
            assert_eq!(pacer.budget(Instant::from_micros(now), 125_000, SRTT, false), 0, "{now}");
        }
    }

    proptest! {
        #[test]
        fn never_more_than_a_burst_and_the_rate_since(
            steps in prop::collection::vec(
                (0_u64..20_000, 1_u64..10_000_000, 50_u64..500_000, any::<bool>(), 0_u64..200_000), 1..60),
        ) {
            let mut now = Instant::ZERO;
            let mut pacer = Pacer::new(now, MSS);
            // For each step: earned until then, sent until then, and the bucket's size.
            let mut history: Vec<(f64, f64, f64)> = Vec::new();
            let (mut earned, mut sent, mut rate) = (0.0, 0.0, 0.0);
            let exact = |bytes: u64| f64::from(u32::try_from(bytes).unwrap());
            for (step, window, srtt, in_slow_start, wanted) in steps {
                now = now + Duration::from_micros(step);
                earned += rate * exact(step);
                let budget = pacer.budget(now, window, Duration::from_micros(srtt), in_slow_start);
                rate = if in_slow_start { 2.0 } else { 1.25 } * exact(window) / exact(srtt);
                history.push((earned, sent, exact(budget)));
                let leaving = wanted.min(budget);
                pacer.on_sent(leaving);
                sent += exact(leaving);
                for (earned_then, sent_then, budget_then) in &history {
                    let allowed = budget_then + (earned - earned_then);
                    prop_assert!(sent - sent_then <= allowed + 1.0, "sent {} of {}", sent - sent_then, allowed);
                }
                prop_assert!(exact(budget) <= (rate * 2_000.0).max(14_000.0) + 1.0);
            }
        }

        #[test]
        fn next_at_is_the_first_moment_that_the_budget_covers_it(
            window in 1_u64..100_000_000, srtt in 1_u64..2_000_000, in_slow_start in any::<bool>(),
            sent in 0_u64..400_000, wanted in 1_u64..400_000,
        ) {
            let srtt = Duration::from_micros(srtt);
            let now = Instant::from_micros(77);
            let mut pacer = Pacer::new(now, MSS);
            pacer.budget(now, window, srtt, in_slow_start);
            pacer.on_sent(sent);
            let at = pacer.next_at(wanted);
            let wanted = wanted.min(pacer.burst());
            prop_assert!(pacer.clone().budget(at, window, srtt, in_slow_start) >= wanted);
            if at > now {
                let before = at - Duration::from_micros(1);
                prop_assert!(pacer.budget(before, window, srtt, in_slow_start) < wanted);
            }
        }

        #[test]
        fn any_input_is_survived(steps in prop::collection::vec(any::<(u64, u64, u64, bool, u64, u32)>(), 1..30)) {
            let mut pacer = Pacer::new(Instant::ZERO, 0);
            for (now, window, srtt, in_slow_start, sent, mss) in steps {
                let budget =
                    pacer.budget(Instant::from_micros(now), window, Duration::from_micros(srtt), in_slow_start);
                prop_assert!(budget <= pacer.burst());
                pacer.on_sent(sent);
                pacer.set_mss(mss);
                prop_assert!(pacer.next_at(sent) >= pacer.refilled_at);
            }
        }
    }
}
