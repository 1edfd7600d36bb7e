//! How long `get` waits.

use std::time::Duration;

/// The longest time without a first answer, whatever the timeout is.
pub(crate) const FIRST_ANSWER: Duration = Duration::from_secs(30);

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Wait on.
    Wait,
    /// Give up: no peer answered within this time.
    NoAnswer(Duration),
    /// Give up: nothing new came for this time.
    Stalled(Duration),
}

/// Watches for signs of life. Times are those since the start.
#[derive(Debug)]
pub(crate) struct Patience<M> {
    timeout: Duration,
    answered: bool,
    last: Option<M>,
    since: Duration,
}

impl<M: PartialEq> Patience<M> {
    /// Waits for new data for at most `timeout`, for a first answer no longer than [`FIRST_ANSWER`].
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { timeout, answered: false, last: None, since: Duration::ZERO }
    }

    /// The verdict at `now`. `connected` tells whether there is a peer; `mark` changes whenever something is verified.
    pub(crate) fn judge(&mut self, now: Duration, connected: bool, mark: M) -> Verdict {
        let first = connected && !self.answered;
        self.answered |= connected;
        let moved = self.last.as_ref().is_some_and(|last| *last != mark);
        self.last = Some(mark);
        if first || moved {
            self.since = now;
        }
        let quiet = now.saturating_sub(self.since);
        if self.answered {
            if quiet >= self.timeout { Verdict::Stalled(self.timeout) } else { Verdict::Wait }
        } else {
            let limit = self.timeout.min(FIRST_ANSWER);
            if quiet >= limit { Verdict::NoAnswer(limit) } else { Verdict::Wait }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_first_answer_is_awaited_for_thirty_seconds_at_most() {
        let mut patience = Patience::new(seconds(60));
        assert_eq!(patience.judge(seconds(29), false, 0), Verdict::Wait);
        assert_eq!(patience.judge(seconds(30), false, 0), Verdict::NoAnswer(seconds(30)));
        let mut patience = Patience::new(seconds(2));
        assert_eq!(patience.judge(seconds(1), false, 0), Verdict::Wait);
        assert_eq!(patience.judge(seconds(2), false, 0), Verdict::NoAnswer(seconds(2)));
    }

    #[test]
    fn reading_back_what_is_there_does_not_count_as_silence() {
        let mut patience = Patience::new(seconds(60));
        for second in 0..100 {
            assert_eq!(patience.judge(seconds(second), false, 1000 - second), Verdict::Wait);
        }
        assert_eq!(patience.judge(seconds(129), false, 901), Verdict::NoAnswer(seconds(30)));
    }

    #[test]
    fn after_an_answer_only_new_data_counts() {
        let mut patience = Patience::new(seconds(60));
        assert_eq!(patience.judge(seconds(20), true, 0), Verdict::Wait);
        assert_eq!(patience.judge(seconds(79), true, 0), Verdict::Wait);
        assert_eq!(patience.judge(seconds(79), true, 1), Verdict::Wait);
        // The peer goes and comes back, without data.
        assert_eq!(patience.judge(seconds(100), false, 1), Verdict::Wait);
        assert_eq!(patience.judge(seconds(138), true, 1), Verdict::Wait);
        assert_eq!(patience.judge(seconds(139), true, 1), Verdict::Stalled(seconds(60)));
    }
}
