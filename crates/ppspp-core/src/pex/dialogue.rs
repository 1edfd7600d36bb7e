//! What one peer was asked, told and has told us: the rates of PEX messages on one channel.

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use crate::time::Instant;

/// Addresses in one answer, at most, and taken from one: 16 of IPv6 take 304 bytes.
pub(crate) const MAX_NAMES: usize = 16;
/// Shortest time between two answers to one peer. libswift asks every 1.1 s.
const ANSWER_INTERVAL: Duration = Duration::from_secs(1);
/// First wait before a peer is asked again; doubles while it tells nothing new.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait before a peer is asked again.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Wait before a peer is asked again that told something new.
const FRUITFUL_WAIT: Duration = Duration::from_secs(10);
/// How long an answer is waited for.
const ANSWER_LIFE: Duration = Duration::from_secs(10);
/// How often a name is taken that nobody asked for: libswift tells both sides of each introduction.
const UNASKED_INTERVAL: Duration = Duration::from_secs(10);

/// The exchange of addresses with one peer.
#[derive(Debug)]
pub(crate) struct Dialogue {
    /// When the peer may be asked (again).
    ask_at: Instant,
    wait: Duration,
    /// `PEX_REQ` is to leave with the next datagram.
    ask_due: bool,
    /// Names still taken from the answer to our question.
    expected: usize,
    expected_until: Instant,
    /// When a name is taken next that was not asked for.
    unasked_at: Instant,
    /// When the peer is answered next.
    answer_at: Instant,
    /// The answer that is to leave.
    names: Vec<SocketAddr>,
}

impl Dialogue {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            ask_at: now,
            wait: FIRST_WAIT,
            ask_due: false,
            expected: 0,
            expected_until: now,
            unasked_at: now,
            answer_at: now,
            names: Vec::new(),
        }
    }

    /// When the peer may be asked (again).
    pub(crate) const fn ask_at(&self) -> Instant {
        self.ask_at
    }

    /// Has the peer asked with the next datagram, if it is time.
    pub(crate) fn ask(&mut self, now: Instant) -> bool {
        if self.ask_at > now {
            return false;
        }
        self.ask_due = true;
        self.ask_at = now + self.wait;
        self.wait = (2 * self.wait).min(MAX_WAIT);
        true
    }

    /// Whether `PEX_REQ` is to leave.
    pub(crate) const fn is_ask_due(&self) -> bool {
        self.ask_due
    }

    /// `PEX_REQ` has left.
    pub(crate) fn on_asked(&mut self, now: Instant) {
        self.ask_due = false;
        self.expected = MAX_NAMES;
        self.expected_until = now + ANSWER_LIFE;
    }

    /// Whether a name that arrives now is looked at: one that was asked for, or a rare one that was not.
    pub(crate) fn takes_name(&mut self, now: Instant) -> bool {
        if self.expected > 0 && now < self.expected_until {
            self.expected -= 1;
            return true;
        }
        let unasked = self.unasked_at <= now;
        if unasked {
            self.unasked_at = now + UNASKED_INTERVAL;
        }
        unasked
    }

    /// The peer told something new: it is worth asking again, though not at once.
    pub(crate) fn on_news(&mut self, now: Instant) {
        self.wait = FRUITFUL_WAIT;
        self.ask_at = now + FRUITFUL_WAIT;
    }

    /// Whether a question that arrives now is answered.
    pub(crate) fn may_answer(&mut self, now: Instant) -> bool {
        let may = self.answer_at <= now && self.names.is_empty();
        if may {
            self.answer_at = now + ANSWER_INTERVAL;
        }
        may
    }

    /// Has `names` sent.
    pub(crate) fn answer(&mut self, mut names: Vec<SocketAddr>) {
        names.truncate(MAX_NAMES);
        self.names = names;
    }

    /// The next name to send.
    pub(crate) fn next_name(&self) -> Option<SocketAddr> {
        self.names.last().copied()
    }

    /// The name was sent. Without names no memory is held.
    pub(crate) fn on_named(&mut self) {
        self.names.pop();
        if self.names.is_empty() {
            self.names = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const START: Instant = Instant::from_micros(1_000_000_000);

    #[test]
    fn a_peer_that_tells_nothing_is_asked_less_and_less() {
        let mut dialogue = Dialogue::new(START);
        let mut asked = Vec::new();
        for second in 0..300 {
            let now = START + second * SECOND;
            if dialogue.ask(now) {
                dialogue.on_asked(now);
                asked.push(second);
            }
        }
        assert_eq!(asked, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
        // News brings it back to every ten seconds.
        let now = START + 300 * SECOND;
        dialogue.on_news(now);
        assert_eq!(dialogue.ask_at(), now + FRUITFUL_WAIT);
    }

    #[test]
    fn only_so_many_names_are_taken() {
        let mut dialogue = Dialogue::new(START);
        // Unasked, one in ten seconds.
        let taken = (0..1000).filter(|&turn| dialogue.takes_name(START + turn * SECOND / 10)).count();
        assert_eq!(taken, 10);
        // Asked for, sixteen within ten seconds.
        let now = START + 200 * SECOND;
        assert!(dialogue.takes_name(now) && dialogue.ask(now));
        dialogue.on_asked(now);
        let taken = (0..100).filter(|_| dialogue.takes_name(now)).count();
        assert_eq!(taken, MAX_NAMES);
        dialogue.on_asked(now);
        assert!(dialogue.takes_name(now + 9 * SECOND));
        assert!(dialogue.takes_name(now + 10 * SECOND), "unasked again");
        assert!(!dialogue.takes_name(now + 11 * SECOND));
    }

    #[test]
    fn one_answer_a_second_and_no_memory_after() {
        let mut dialogue = Dialogue::new(START);
        let name: SocketAddr = "192.0.2.1:6778".parse().unwrap();
        let mut sent = 0;
        for turn in 0..100 {
            let now = START + turn * SECOND / 10;
            if dialogue.may_answer(now) {
                dialogue.answer(std::vec![name; 100]);
            }
            while dialogue.next_name().is_some() {
                dialogue.on_named();
                sent += 1;
            }
        }
        assert_eq!(sent, 10 * MAX_NAMES);
        assert_eq!(dialogue.names.capacity(), 0);
    }
}
