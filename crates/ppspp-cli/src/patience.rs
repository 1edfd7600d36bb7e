//! How long `get` waits.

use std::time::Duration;

use ppspp_core::ByteRate;
use ppspp_core::chunk::ChunkSize;

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

/// The longest time between two looks that counts: longer ones pass while this process is stopped, or the machine asleep,
/// and no peer can be heard.
const LONGEST_LOOK: Duration = Duration::from_millis(500);

/// Chunks for which a limit on downloads is given time: one may be on its way when the wait begins, and one be lost.
const CHUNKS: u64 = 4;

/// Watches for signs of life. Times are those since the start.
#[derive(Debug)]
pub(crate) struct Patience<M> {
    timeout: Duration,
    /// What the user's own limit takes beyond it.
    limited: Duration,
    answered: bool,
    last: Option<M>,
    looked: Duration,
    quiet: Duration,
}

impl<M: PartialEq> Patience<M> {
    /// Waits for new data for at most `timeout`, for a first answer no longer than [`FIRST_ANSWER`].
    pub(crate) fn new(timeout: Duration) -> Self {
        let zero = Duration::ZERO;
        Self { timeout, limited: zero, answered: false, last: None, looked: zero, quiet: zero }
    }

    /// Waits longer for new data by what chunks of `chunk_size` bytes take under the user's own `limit`.
    pub(crate) fn under(mut self, limit: Option<ByteRate>, chunk_size: ChunkSize) -> Self {
        let few = CHUNKS * u64::from(chunk_size.bytes());
        self.limited = limit.map_or(Duration::ZERO, |limit| Duration::from_secs(few / limit.bytes_per_second()));
        self
    }

    /// The verdict at `now`, to be asked for several times a second. `connected` tells whether there is a peer, or was one;
    /// `mark` changes whenever something is verified.
    pub(crate) fn judge(&mut self, now: Duration, connected: bool, mark: M) -> Verdict {
        let first = connected && !self.answered;
        self.answered |= connected;
        let moved = self.last.as_ref().is_some_and(|last| *last != mark);
        self.last = Some(mark);
        self.quiet += now.saturating_sub(self.looked).min(LONGEST_LOOK);
        self.looked = now;
        if first || moved {
            self.quiet = Duration::ZERO;
        }
        if self.answered {
            let limit = self.timeout.saturating_add(self.limited);
            if self.quiet >= limit { Verdict::Stalled(limit) } else { Verdict::Wait }
        } else {
            let limit = self.timeout.min(FIRST_ANSWER);
            if self.quiet >= limit { Verdict::NoAnswer(limit) } else { Verdict::Wait }
        }
    }
}

/// How often the peers that were given are tried again, those that are connected aside: while nobody is, and otherwise.
/// Peers that others name do not replace them (RFC 7574 §3.10.1).
const RETRY: Duration = Duration::from_secs(5);
const REVISIT: Duration = Duration::from_secs(30);

/// Tells when to try the peers that were given again. Times are those since the start.
#[derive(Debug, Default)]
pub(crate) struct Visits {
    last: Duration,
}

impl Visits {
    /// Whether they are to be tried now. `connected` tells whether there is a peer.
    pub(crate) fn are_due(&mut self, now: Duration, connected: bool) -> bool {
        let due = now.saturating_sub(self.last) >= if connected { REVISIT } else { RETRY };
        if due {
            self.last = now;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// The first verdict but to wait, of those at each half second from second `from` on, and the second of it.
    fn end(patience: &mut Patience<u64>, from: u64, connected: bool, mark: u64) -> (f64, Verdict) {
        (2 * from..2 * from + 2000)
            .map(|half| seconds(half) / 2)
            .map(|time| (time.as_secs_f64(), patience.judge(time, connected, mark)))
            .find(|(_, verdict)| *verdict != Verdict::Wait)
            .expect("patience ends")
    }

    #[test]
    fn a_first_answer_is_awaited_for_thirty_seconds_at_most() {
        assert_eq!(end(&mut Patience::new(seconds(60)), 0, false, 0), (30.0, Verdict::NoAnswer(seconds(30))));
        assert_eq!(end(&mut Patience::new(seconds(2)), 0, false, 0), (2.0, Verdict::NoAnswer(seconds(2))));
    }

    #[test]
    fn reading_back_what_is_there_does_not_count_as_silence() {
        let mut patience = Patience::new(seconds(60));
        for half in 0..200 {
            assert_eq!(patience.judge(seconds(half) / 2, false, 1000 - half), Verdict::Wait);
        }
        assert_eq!(end(&mut patience, 100, false, 801), (129.5, Verdict::NoAnswer(seconds(30))));
    }

    #[test]
    fn after_an_answer_only_new_data_counts() {
        let mut patience = Patience::new(seconds(60));
        for half in 0..160 {
            assert_eq!(patience.judge(seconds(half) / 2, half >= 40, u64::from(half >= 158)), Verdict::Wait);
        }
        // The peer goes and comes back, without data.
        for half in 160..200 {
            assert_eq!(patience.judge(seconds(half) / 2, false, 1), Verdict::Wait);
        }
        assert_eq!(end(&mut patience, 100, true, 1), (139.0, Verdict::Stalled(seconds(60))));
    }

    #[test]
    fn the_users_own_limit_is_no_silence() {
        let limited = |rate| Patience::new(seconds(60)).under(ByteRate::new(rate), ChunkSize::new(61_440).unwrap());
        assert_eq!(end(&mut limited(2_000), 0, true, 0), (182.0, Verdict::Stalled(seconds(182))));
        assert_eq!(end(&mut limited(2_000), 0, false, 0), (30.0, Verdict::NoAnswer(seconds(30))));
        assert_eq!(end(&mut limited(1_000_000), 0, true, 0), (60.0, Verdict::Stalled(seconds(60))));
    }

    #[test]
    fn time_in_which_the_process_was_stopped_does_not_count() {
        let mut patience = Patience::new(seconds(60));
        for second in 0..10 {
            assert_eq!(patience.judge(seconds(second), true, second), Verdict::Wait);
        }
        assert_eq!(patience.judge(seconds(10_000), true, 9), Verdict::Wait);
        assert_eq!(end(&mut patience, 10_001, true, 9), (10_060.0, Verdict::Stalled(seconds(60))));
    }

    #[test]
    fn peers_that_were_given_are_tried_again_whoever_is_connected() {
        for (connected, interval) in [(false, 5), (true, 30)] {
            let mut visits = Visits::default();
            let due: Vec<u64> = (0..100).filter(|&second| visits.are_due(seconds(second), connected)).collect();
            assert_eq!(due, (1..100).map(|turn| turn * interval).filter(|&at| at < 100).collect::<Vec<_>>());
        }
    }
}
