//! Virtual time, and the clocks that hosts see of it.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use ppspp_core::Instant;

/// A point in virtual time, in nanoseconds since the run began. Nanoseconds, because a datagram leaves a link of
/// 10 Gbit/s within one microsecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct SimTime(u64);

impl SimTime {
    /// The beginning of the run.
    pub const ZERO: Self = Self(0);
    /// A time that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// The time `nanos` nanoseconds after the beginning.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the beginning.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Seconds since the beginning, for people and plots.
    #[expect(clippy::cast_precision_loss, reason = "shown, never decided on")]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// Time since `earlier`, zero if that is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for SimTime {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for SimTime {
    type Output = Duration;

    fn sub(self, rhs: Self) -> Duration {
        self.since(rhs)
    }
}

impl fmt::Debug for SimTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SimTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000_000, self.0 / 1000 % 1_000_000)
    }
}

/// The clock of one host: it started at an own epoch and may run fast or slow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Clock {
    /// What the clock shows at the beginning of the run, in microseconds.
    pub epoch_micros: u64,
    /// How many microseconds it gains in each second; negative if it loses some. At most 100,000 either way.
    pub drift_ppm: i32,
}

impl Clock {
    const MILLION: i128 = 1_000_000;

    /// What the clock shows at `now`.
    pub fn read(self, now: SimTime) -> Instant {
        let micros = now.0 / 1000;
        if self.drift_ppm == 0 {
            return Instant::from_micros(self.epoch_micros.saturating_add(micros));
        }
        let gained = i128::from(micros) * i128::from(self.drift_ppm) / Self::MILLION;
        let shown = i128::from(self.epoch_micros) + i128::from(micros) + gained;
        Instant::from_micros(u64::try_from(shown.max(0)).unwrap_or(u64::MAX))
    }

    /// The first time at which the clock shows `instant` or more.
    pub fn when(self, instant: Instant) -> SimTime {
        if instant == Instant::FAR_FUTURE {
            return SimTime::NEVER;
        }
        let shown = i128::from(instant.as_micros()) - i128::from(self.epoch_micros);
        if shown <= 0 {
            return SimTime::ZERO;
        }
        let micros = shown * Self::MILLION / (Self::MILLION + i128::from(self.drift_ppm));
        let mut micros = u64::try_from(micros).unwrap_or(u64::MAX / 1000).min(u64::MAX / 1000 - 2);
        // The division rounds down, and so did the drift: the first microsecond that shows enough is one of the next.
        while self.read(SimTime(micros * 1000)) < instant {
            micros += 1;
        }
        SimTime(micros * 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_deadline_is_due_when_it_comes_and_not_before(
            epoch in 0..1u64 << 40, drift in -100_000..=100_000i32, wait in 0..1u64 << 36,
        ) {
            let clock = Clock { epoch_micros: epoch, drift_ppm: drift };
            let instant = Instant::from_micros(epoch + wait);
            let due = clock.when(instant);
            prop_assert!(clock.read(due) >= instant);
            if due.as_nanos() >= 2000 {
                prop_assert!(clock.read(SimTime(due.as_nanos() - 2000)) < instant);
            }
        }
    }

    #[test]
    fn never_stays_never() {
        assert_eq!(Clock::default().when(Instant::FAR_FUTURE), SimTime::NEVER);
        assert_eq!(SimTime::NEVER + Duration::from_secs(1), SimTime::NEVER);
    }
}
