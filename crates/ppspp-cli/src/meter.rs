//! How fast bytes move, from counters that only grow.

use std::collections::VecDeque;
use std::time::Duration;

/// The time over which rates are taken: long enough to be read, short enough to follow.
const WINDOW: Duration = Duration::from_secs(2);
/// Counters kept: one for each turn of a command within the window, and some.
const SAMPLES: usize = 64;

/// Bytes per second.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Rates {
    /// Received.
    pub(crate) down: u64,
    /// Sent.
    pub(crate) up: u64,
}

/// Takes rates over the last two seconds.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    samples: VecDeque<(Duration, u64, u64)>,
}

impl Meter {
    /// The rates at `now`, a time since any fixed moment, when so many bytes were received and sent in all.
    pub(crate) fn rates(&mut self, now: Duration, down: u64, up: u64) -> Rates {
        // The newest sample that the window has left behind stays: the rate is taken from it.
        while self.samples.len() >= SAMPLES
            || self.samples.get(1).is_some_and(|next| now.saturating_sub(next.0) >= WINDOW)
        {
            self.samples.pop_front();
        }
        self.samples.push_back((now, down, up));
        let Some(&(since, down_then, up_then)) = self.samples.front() else { return Rates::default() };
        let time = now.saturating_sub(since).as_micros();
        let rate = |bytes: u64| match time {
            0 => 0,
            time => u64::try_from(u128::from(bytes) * 1_000_000 / time).unwrap_or(u64::MAX),
        };
        Rates { down: rate(down.saturating_sub(down_then)), up: rate(up.saturating_sub(up_then)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_the_last_two_seconds() {
        let mut meter = Meter::default();
        let mut at = |tenths: u64, down, up| meter.rates(Duration::from_millis(100 * tenths), down, up);
        assert_eq!(at(0, 5000, 0), Rates::default());
        assert_eq!(at(10, 6000, 500), Rates { down: 1000, up: 500 });
        assert_eq!(at(20, 6000, 1000), Rates { down: 500, up: 500 });
        assert_eq!(at(30, 6000, 1000), Rates { down: 0, up: 250 });
        assert_eq!(at(30, 6000, 1000), Rates { down: 0, up: 250 });
        // After a pause the rate is that of the pause.
        assert_eq!(at(130, 16_000, 1000), Rates { down: 1000, up: 0 });
    }

    #[test]
    fn memory_is_bounded() {
        let mut meter = Meter::default();
        for micros in 0..10_000 {
            meter.rates(Duration::from_micros(micros), micros, 0);
        }
        assert!(meter.samples.len() <= SAMPLES);
        assert_eq!(meter.rates(Duration::from_millis(10), 10_000, 0).down, 1_000_000);
    }
}
