//! The only place of this crate that reads clocks for the core.

use std::time::{Duration, Instant as Monotonic, SystemTime, UNIX_EPOCH};

use ppspp_core::Instant;

/// Time as the core wants it: microseconds since the Unix epoch, anchored once and then advanced by the monotonic
/// clock, so that steps of the wall clock never reach the core.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Monotonic,
    anchor: Instant,
}

impl Clock {
    /// A clock anchored to the wall clock now. A wall clock before 1970 counts as 1970.
    pub(crate) fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { start: Monotonic::now(), anchor: Instant::ZERO + since_epoch }
    }

    /// The time now; never goes back.
    pub(crate) fn now(&self) -> Instant {
        self.anchor + self.start.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_at_unix_time_and_never_goes_back() {
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let clock = Clock::start();
        let first = clock.now();
        assert!(first >= Instant::from_micros(u64::try_from(before.as_micros()).unwrap()));
        let mut last = first;
        for _ in 0..1000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
    }
}
