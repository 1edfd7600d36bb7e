//! A token bucket that measures out what may leave, or be asked for, under a limit.

use core::time::Duration;

use crate::policy::ByteRate;
use crate::time::{Instant, micros};

/// The bucket holds this much time's worth: a late timer, or a wait for another limit, costs nothing, and a burst after
/// a pause is a fiftieth of the ten seconds over which limits are to hold.
const CAPACITY: Duration = Duration::from_millis(200);
/// Debt beyond this much time's worth, and beyond two batches, is forgiven: a flood of control messages must not stop DATA
/// for longer.
const MAX_DEBT: Duration = Duration::from_secs(2);
/// Debt of this much time's worth, and of more than a batch, is not what DATA leaves behind: control messages alone pass the
/// limit.
const OVERDRAFT: Duration = Duration::from_millis(500);
/// An empty bucket stays shut until this many bytes, or a quarter of its capacity, are there: they leave as one batch.
const BATCH: u64 = 64 * 1024;
/// Tokens to the byte: what one byte per second earns in a microsecond.
const TOKENS: i64 = 1_000_000;

/// Bytes that are on their way and not counted yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Reserved {
    /// All of them.
    pub(crate) bytes: u64,
    /// Those of them that are sure to come: room is kept for these.
    pub(crate) sure: u64,
}

/// A limit that may be absent. May go into debt: what has passed is counted, whether it was allowed or not.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: Option<ByteRate>,
    tokens: i64,
    filled_at: Instant,
    /// Whether anything may pass until the bucket is empty.
    open: bool,
}

/// Tokens that `rate` earns in `time`.
fn earned(rate: ByteRate, time: Duration) -> i64 {
    let tokens = u128::from(rate.bytes_per_second()) * u128::from(micros(time));
    i64::try_from(tokens).unwrap_or(i64::MAX)
}

/// Tokens for `bytes`.
fn tokens(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX).saturating_mul(TOKENS)
}

impl Bucket {
    /// An empty bucket that fills at `rate`; without one nothing is limited.
    pub(crate) const fn new(rate: Option<ByteRate>, now: Instant) -> Self {
        Self { rate, tokens: 0, filled_at: now, open: true }
    }

    /// Changes the rate. What was earned or owed is kept within the new bounds.
    pub(crate) fn set_rate(&mut self, rate: Option<ByteRate>, reserved: Reserved, now: Instant) {
        self.refill(now, reserved);
        if self.rate.is_none() {
            self.tokens = tokens(reserved.bytes);
            self.filled_at = now;
        }
        self.rate = rate;
        self.open = true;
        self.refill(now, reserved);
    }

    /// Takes `bytes` that have passed out of the bucket. `reserved` are on their way, these among them: the bucket holds
    /// those that are sure to come beside its capacity.
    pub(crate) fn take(&mut self, now: Instant, bytes: u64, reserved: Reserved) {
        let Some(rate) = self.rate else { return };
        self.refill(now, reserved);
        let most = earned(rate, MAX_DEBT).max(tokens(2 * BATCH));
        self.tokens = self.tokens.saturating_sub(tokens(bytes)).max(-most);
        self.open &= self.tokens > 0;
    }

    /// Bytes that may pass now, beside those `reserved`: zero from when the bucket is empty until it holds a batch.
    pub(crate) fn budget(&mut self, now: Instant, reserved: Reserved) -> u64 {
        let Some(rate) = self.rate else { return u64::MAX };
        self.refill(now, reserved);
        let left = self.tokens.saturating_sub(tokens(reserved.bytes));
        let wanted = if self.open { 1 } else { batch(rate) };
        self.open = left >= wanted;
        // What is less than a byte is a byte: it is a matter of being open.
        if self.open { (left / TOKENS).max(1).unsigned_abs() } else { 0 }
    }

    /// When a shut bucket opens, if all that is `reserved` is still on its way then.
    pub(crate) fn opens_at(&self, reserved: Reserved) -> Instant {
        let Some(rate) = self.rate else { return self.filled_at };
        let missing =
            batch(rate).saturating_add(tokens(reserved.bytes)).saturating_sub(self.tokens).max(0).unsigned_abs();
        self.filled_at + Duration::from_micros(missing.div_ceil(rate.bytes_per_second()))
    }

    /// When the debt will be down to what DATA may leave behind; `None` if it is no more than that.
    pub(crate) fn overdrawn_until(&mut self, now: Instant) -> Option<Instant> {
        let rate = self.rate?;
        self.refill(now, Reserved::default());
        let excess = self.tokens.saturating_add(earned(rate, OVERDRAFT).max(tokens(BATCH)));
        let wait = excess.min(0).unsigned_abs().div_ceil(rate.bytes_per_second());
        (excess < 0).then(|| self.filled_at + Duration::from_micros(wait))
    }

    /// The turn of one among several that share the limit: short, so that each gets some of it often.
    pub(crate) fn quantum(&self) -> u64 {
        self.rate.map_or(BATCH, |rate| (rate.bytes_per_second() / 50).clamp(MIN_QUANTUM, BATCH))
    }

    /// Bytes that the bucket holds besides what is reserved; none is said without a limit.
    pub(crate) fn capacity(&self) -> u64 {
        self.rate.map_or(u64::MAX, |rate| (earned(rate, CAPACITY) / TOKENS).unsigned_abs())
    }

    fn refill(&mut self, now: Instant, reserved: Reserved) {
        let Some(rate) = self.rate else { return };
        let fresh = earned(rate, now.saturating_since(self.filled_at));
        self.filled_at = self.filled_at.max(now);
        // What may never come is not saved up for, beyond a batch: whoever does not give it would let others have it at once.
        let most = earned(rate, CAPACITY).saturating_add(tokens(reserved.sure));
        let most = most.max(batch(rate).saturating_add(tokens(reserved.bytes)));
        self.tokens = self.tokens.saturating_add(fresh).min(most);
    }
}

/// Shortest turn in bytes: a datagram.
const MIN_QUANTUM: u64 = 1472;

/// Tokens that open a shut bucket.
fn batch(rate: ByteRate) -> i64 {
    (earned(rate, CAPACITY) / 4).min(tokens(BATCH)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KIB: u64 = 1024;

    const NONE: Reserved = Reserved { bytes: 0, sure: 0 };

    const fn sure(bytes: u64) -> Reserved {
        Reserved { bytes, sure: bytes }
    }

    fn at(micros: u64) -> Instant {
        Instant::from_micros(micros)
    }

    fn bucket(rate: u64) -> Bucket {
        Bucket::new(ByteRate::new(rate), at(0))
    }

    #[test]
    fn without_a_rate_nothing_is_limited() {
        let mut free = bucket(0);
        free.take(at(0), u64::MAX, NONE);
        assert_eq!(free.budget(at(0), sure(u64::MAX)), u64::MAX);
    }

    #[test]
    fn once_empty_it_stays_shut_until_a_batch_is_there() {
        let mut bucket = bucket(1_000_000);
        assert_eq!(bucket.budget(at(0), NONE), 0);
        assert_eq!(bucket.opens_at(NONE), at(50_000));
        assert_eq!(bucket.budget(at(49_999), NONE), 0);
        assert_eq!(bucket.budget(at(50_000), NONE), 50_000);
        bucket.take(at(50_000), 49_000, NONE);
        assert_eq!(bucket.budget(at(50_000), NONE), 1000, "open, it is emptied");
        bucket.take(at(50_000), 1000, NONE);
        assert_eq!(bucket.budget(at(51_000), NONE), 0);
        assert_eq!(bucket.budget(at(10_000_000), NONE), 200_000, "a fifth of a second is kept");
    }

    #[test]
    fn more_is_owed_than_data_leaves_behind() {
        let mut bucket = bucket(1_000_000);
        bucket.take(at(0), 500_000, NONE);
        assert_eq!(bucket.overdrawn_until(at(0)), None, "half a second's worth");
        bucket.take(at(0), 100_000, NONE);
        assert_eq!(bucket.overdrawn_until(at(40_000)), Some(at(100_000)));
        assert_eq!(bucket.overdrawn_until(at(100_000)), None);
        // Of a slow one, a batch.
        let mut slow = Bucket::new(ByteRate::new(KIB), at(0));
        slow.take(at(0), 64 * KIB, NONE);
        assert_eq!(slow.overdrawn_until(at(0)), None);
        slow.take(at(0), 10 * KIB, NONE);
        assert_eq!(slow.overdrawn_until(at(0)), Some(at(10_000_000)));
        slow.take(at(0), 100 * KIB, NONE);
        assert_eq!(slow.overdrawn_until(at(0)), Some(at(64_000_000)), "no more is remembered");
        assert_eq!(Bucket::new(ByteRate::new(0), at(0)).overdrawn_until(at(0)), None);
    }

    #[test]
    fn debts_are_paid_but_bounded() {
        let mut bucket = bucket(1_000_000);
        bucket.take(at(0), 500_000, NONE);
        assert_eq!(bucket.opens_at(NONE), at(550_000));
        bucket.take(at(0), u64::MAX, NONE);
        assert_eq!(bucket.opens_at(NONE), at(2_050_000), "two seconds' worth");
    }

    #[test]
    fn what_is_reserved_is_neither_given_twice_nor_lost() {
        let mut bucket = bucket(1_000_000);
        assert_eq!(bucket.budget(at(100_000), NONE), 100_000);
        // All of it is asked for: the bucket fills anew meanwhile.
        assert_eq!(bucket.budget(at(100_000), sure(100_000)), 0);
        assert_eq!(bucket.opens_at(sure(100_000)), at(150_000));
        assert_eq!(bucket.budget(at(200_000), sure(100_000)), 100_000);
        // It arrives, and is no longer reserved.
        bucket.take(at(200_000), 100_000, sure(100_000));
        assert_eq!(bucket.budget(at(200_000), NONE), 100_000);
    }

    #[test]
    fn what_may_never_come_is_not_saved_up_for() {
        let mut bucket = bucket(1_000_000);
        let unsure = Reserved { bytes: 400_000, sure: 0 };
        assert_eq!(bucket.budget(at(1_000_000), unsure), 50_000, "a batch is there for others");
        // It does not come.
        assert_eq!(bucket.budget(at(1_000_000), NONE), 200_000, "no more than ever");
        let partly = Reserved { bytes: 100_000, sure: 60_000 };
        assert_eq!(bucket.budget(at(2_000_000), partly), 160_000);
        assert_eq!((bucket.capacity(), Bucket::new(None, at(0)).capacity()), (200_000, u64::MAX));
    }

    #[test]
    fn a_new_rate_holds_at_once() {
        let mut bucket = bucket(1_000_000);
        bucket.set_rate(ByteRate::new(10_000), NONE, at(1_000_000));
        assert_eq!(bucket.budget(at(1_000_000), NONE), 2000);
        bucket.set_rate(None, NONE, at(1_000_000));
        bucket.take(at(1_000_000), 1 << 30, NONE);
        bucket.set_rate(ByteRate::new(10_000), NONE, at(2_000_000));
        assert_eq!(bucket.opens_at(NONE), at(2_050_000), "unlimited, nothing is earned or owed");
    }

    #[test]
    fn turns_are_short_under_a_limit() {
        let turns = [0, 64 * KIB, KIB * KIB, 10 * KIB * KIB].map(|rate| bucket(rate).quantum());
        assert_eq!(turns, [BATCH, MIN_QUANTUM, 20_971, BATCH]);
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate_and_what_the_bucket_holds(
            rate in 1_u64..1 << 30, steps in prop::collection::vec((0_u64..200_000, 0_u64..100_000), 1..200),
        ) {
            let mut bucket = bucket(rate);
            let (mut now, mut sent) = (0, 0_u64);
            for (wait, wanted) in steps {
                now += wait;
                let bytes = wanted.min(bucket.budget(at(now), NONE));
                bucket.take(at(now), bytes, NONE);
                sent += bytes;
                // A byte more a step at most: what is less than one passes as one.
                prop_assert!(sent <= rate * now / 1_000_000 + 200, "{} of {}", sent, rate * now / 1_000_000);
            }
        }

        #[test]
        fn it_opens_when_it_says(
            rate in 1_u64..1 << 40, wait in 0_u64..5_000_000, bytes in 0_u64..1 << 40,
            (reserved, share) in (0_u64..1 << 30, 1_u64..4),
        ) {
            let mut bucket = bucket(rate);
            let reserved = Reserved { bytes: reserved, sure: reserved / share };
            bucket.take(at(wait), bytes, reserved);
            if bucket.budget(at(wait), reserved) == 0 {
                let opens = bucket.opens_at(reserved);
                prop_assert!(opens > at(wait));
                prop_assert!(bucket.budget(opens, reserved) > 0);
            }
        }

        #[test]
        fn any_input_is_survived(steps in prop::collection::vec(any::<(u64, u64, u64, u64)>(), 1..50)) {
            let mut bucket = bucket(1);
            for (now, rate, bytes, reserved) in steps {
                let reserved = Reserved { bytes: reserved, sure: reserved / 2 };
                bucket.set_rate(ByteRate::new(rate), reserved, at(now));
                bucket.take(at(now), bytes, reserved);
                if bucket.budget(at(now), reserved) == 0 {
                    let _ = bucket.opens_at(reserved);
                }
            }
        }
    }
}
