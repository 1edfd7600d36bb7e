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
        Self {
            mss,
            tokens: tokens(mss * MIN_BURST_SEGMENTS),
            refilled_at: now,
            rate: Rate::new(mss, super::rtt::DEFAULT_RTT, true),
        }
    }

    /// The path's segment size changed to `mss` bytes.
    pub fn set_mss(&mut self, mss: u32) {
        self.mss = u64::from(mss.max(1));
    }

    /// Bytes that may leave now, given the controller's window and the smoothed round trip.
    ///
    /// A `now` before that of an earlier call earns nothing (R25).
    pub fn budget(&mut self, now: Instant, window: u64, srtt: Duration, in_slow_start: bool) -> u64 {
        self.refill(now);
        self.rate = Rate::new(window, srtt, in_slow_start);
        self.tokens = self.tokens.min(self.capacity());
        self.tokens.max(0).cast_unsigned() >> FRACTION_BITS
    }

    /// Takes `bytes` that left out of the bucket; more than the budget makes a debt of at most one burst.
    pub fn on_sent(&mut self, bytes: u64) {
        let debt = self.capacity().saturating_neg();
        self.tokens = self.tokens.saturating_sub(tokens(bytes)).max(debt);
    }

    /// When `bytes`, or a full burst if that is less, may leave at the rate of the latest [`budget`](Self::budget):
    /// not after its `now` if they may leave at once.
    pub fn next_at(&self, bytes: u64) -> Instant {
        let missing = tokens(bytes).min(self.capacity()).saturating_sub(self.tokens);
        match u64::try_from(missing) {
            Ok(missing) => self.refilled_at + Duration::from_micros(self.rate.time(missing)),
            Err(_) => self.refilled_at,
        }
    }

    /// Most bytes that may leave at once at the rate of the latest [`budget`](Self::budget).
    pub fn burst(&self) -> u64 {
        self.capacity().cast_unsigned() >> FRACTION_BITS
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = micros(now.saturating_since(self.refilled_at));
        self.tokens = self.tokens.saturating_add(self.rate.tokens(elapsed)).min(self.capacity());
        self.refilled_at = self.refilled_at.max(now);
    }

    fn capacity(&self) -> i64 {
        self.rate.tokens(micros(BURST_TIME)).clamp(tokens(self.mss * MIN_BURST_SEGMENTS), tokens(MAX_BYTES))
    }
}
