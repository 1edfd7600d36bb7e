//! How one peer behaves on one channel: what it leaves unanswered, and what it floods us with (RFC 7574 §12.6).

use core::time::Duration;

use crate::time::Instant;

/// How long a peer may leave requests unanswered before it is judged. Outages of seconds are everyday life.
const PATIENCE: Duration = Duration::from_secs(30);
/// Expiries before a peer is judged.
const MIN_EXPIRIES: u32 = 4;
/// Chunks asked for in vain, for each that came, that make a peer useless. A peer behind a bad link, where a quarter is
/// lost and the window stays shut, leaves most requests unanswered for seconds; who lies about what it has, all.
const VAIN_PER_CHUNK: u64 = 64;

/// Excess messages that a peer may have on its account. A burst after a reordering or a change of mind fits.
const FLOOD: u64 = 4096;
/// Excess messages that are forgotten each second.
const FLOOD_LEAK: u64 = 16;

/// What a peer has done that speaks against it. Peers without such a record have none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conduct {
    /// When a request expired for the first time, and how often one did since.
    expired_since: Option<Instant>,
    expiries: u32,
    /// Messages beyond a bound, less what leaked away by `leaked_at`.
    excess: u64,
    leaked_at: Instant,
    /// Chunks that it had been sent when a request of its was last refused.
    served: u64,
}

impl Conduct {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { expired_since: None, expiries: 0, excess: 0, leaked_at: now, served: 0 }
    }

    /// Notes that requests expired; returns whether the peer is useless by now, given the chunks that it was asked for in
    /// vain and those that came.
    pub(crate) fn on_expiry(&mut self, now: Instant, vain: u64, came: u64) -> bool {
        self.expiries = self.expiries.saturating_add(1);
        let since = *self.expired_since.get_or_insert(now);
        now - since >= PATIENCE && self.expiries >= MIN_EXPIRIES && delivers_little(vain, came)
    }

    /// Whether the peer left requests unanswered several times, and was worth little.
    pub(crate) const fn is_suspect(&self, vain: u64, came: u64) -> bool {
        self.expiries >= MIN_EXPIRIES && delivers_little(vain, came)
    }

    /// The account of another channel of the same peer, which takes this one's place.
    pub(crate) const fn succeeded(&self, now: Instant) -> Self {
        Self { excess: self.excess, leaked_at: self.leaked_at, ..Self::new(now) }
    }

    /// Whether a peer that leaves had begun to flood us: it would come back with an empty account.
    pub(crate) const fn has_flooded(&self) -> bool {
        self.excess > FLOOD / 2
    }

    /// Counts `messages` that went beyond a bound and were ignored; returns whether the peer floods us.
    pub(crate) fn on_excess(&mut self, now: Instant, messages: u64) -> bool {
        let seconds = (now - self.leaked_at).as_secs();
        self.leaked_at = self.leaked_at + Duration::from_secs(seconds);
        self.excess = self.excess.saturating_sub(seconds.saturating_mul(FLOOD_LEAK)).saturating_add(messages);
        self.excess > FLOOD
    }

    /// Counts a datagram with requests that were refused; returns whether the peer floods us.
    ///
    /// Each of the `chunks` that it was sent so far makes up for one: who is served well on a bad path asks for much
    /// again, and may find no room for all of it.
    pub(crate) fn on_refusal(&mut self, now: Instant, chunks: u64) -> bool {
        self.excess = self.excess.saturating_sub(chunks.saturating_sub(self.served));
        self.served = chunks;
        self.on_excess(now, 1)
    }
}

/// Whether next to nothing came of what a peer was asked for and had time to deliver.
const fn delivers_little(vain: u64, came: u64) -> bool {
    vain > 0 && vain / VAIN_PER_CHUNK >= came
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const START: Instant = Instant::from_micros(1_000_000_000);

    #[test]
    fn who_delivers_nothing_is_useless_after_a_while() {
        let mut conduct = Conduct::new(START);
        for second in 0..30 {
            assert!(!conduct.on_expiry(START + second * SECOND, 100, 0), "after {second} s");
        }
        assert!(conduct.on_expiry(START + 30 * SECOND, 100, 0));
        // Few expiries over a long time prove nothing.
        let mut conduct = Conduct::new(START);
        for turn in 0..3 {
            assert!(!conduct.on_expiry(START + turn * 60 * SECOND, 3, 0));
        }
    }

    #[test]
    fn who_delivers_a_little_is_merely_slow() {
        let mut conduct = Conduct::new(START);
        for second in 0..1000 {
            let came = 1 + u64::from(second);
            assert!(!conduct.on_expiry(START + second * SECOND, 64 * came - 1, came));
        }
        assert!(conduct.on_expiry(START + 1000 * SECOND, 64_000, 1000));
    }

    #[test]
    fn who_is_served_may_be_refused_as_often() {
        let mut conduct = Conduct::new(START);
        for chunks in 0..100_000 {
            assert!(!conduct.on_refusal(START, chunks));
        }
        let refused = (0..10_000).find(|_| conduct.on_refusal(START, 100_000));
        assert_eq!(refused, Some(FLOOD as usize));
    }

    #[test]
    fn a_burst_is_forgiven_and_a_flood_is_not() {
        let mut conduct = Conduct::new(START);
        assert!(!conduct.on_excess(START, FLOOD));
        assert!(conduct.on_excess(START, 1));
        let mut conduct = Conduct::new(START);
        for second in 0..10_000 {
            assert!(!conduct.on_excess(START + second * SECOND, FLOOD_LEAK));
        }
        let mut conduct = Conduct::new(START);
        let flooded = (0..10_000).find(|&tenth| conduct.on_excess(START + tenth * SECOND / 10, 100));
        assert!(flooded.is_some_and(|tenth| tenth < 50), "{flooded:?}");
    }
}
