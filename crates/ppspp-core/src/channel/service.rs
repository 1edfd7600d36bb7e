//! Whether we serve a peer, and whether it knows (RFC 7574 §3.9).

use core::time::Duration;

use crate::time::Instant;

/// A CHOKE is repeated to a peer that goes on asking, at most so often (§12.6.8).
const REPEAT_CHOKE: Duration = Duration::from_millis(250);
/// An UNCHOKE is repeated after this long if the peer does not ask; the wait doubles up to [`MAX_REPEAT`], and then
/// keep-alives carry it.
const REPEAT_UNCHOKE: Duration = Duration::from_millis(500);
/// Longest wait before an UNCHOKE is repeated by itself.
const MAX_REPEAT: Duration = Duration::from_secs(4);
/// How a peer that has asked stands with us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// It may ask, and has no slot for want of requests.
    Open,
    /// It has a slot.
    Served,
    /// It waits for one, and was told.
    Choked,
}

/// What a peer that has asked is granted.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) standing: Standing,
    /// Whether its slot is not earned yet.
    pub(crate) optimistic: bool,
    /// When the standing began.
    pub(crate) since: Instant,
    /// When it last asked, or was first allowed to.
    asked_at: Instant,
    /// When it is to be told (again) whether it may ask.
    tell_at: Option<Instant>,
    told_at: Option<Instant>,
    wait: Duration,
    /// It was told that it may ask, and has not asked since: it may not have heard.
    unheard: bool,
    /// Content bytes received from and sent to it, when its rates were last measured.
    marks: (u64, u64),
    marked_at: Instant,
    /// Content bytes per second received and sent.
    pub(crate) rates: (u64, u64),
}

impl Service {
    pub(crate) const fn new(now: Instant, marks: (u64, u64)) -> Self {
        Self {
            standing: Standing::Open,
            optimistic: false,
            since: now,
            asked_at: now,
            tell_at: None,
            told_at: None,
            wait: REPEAT_UNCHOKE,
            unheard: false,
            marks,
            marked_at: now,
            rates: (0, 0),
        }
    }

    /// The peer asks.
    pub(crate) fn on_request(&mut self, now: Instant) {
        self.asked_at = now;
        if self.standing == Standing::Choked {
            // RFC 7574 §12.6.8: the CHOKE was lost, or ignored.
            let earliest = self.told_at.map_or(now, |told| told + REPEAT_CHOKE);
            self.tell_at = Some(self.tell_at.map_or(earliest, |at| at.min(earliest)).max(now));
        } else {
            self.unheard = false;
            self.tell_at = None;
        }
    }

    pub(crate) const fn choke(&mut self, now: Instant) {
        self.standing = Standing::Choked;
        self.optimistic = false;
        self.since = now;
        self.tell_at = Some(now);
        self.unheard = false;
    }

    /// Gives the peer a slot; one that was choked is told.
    pub(crate) fn serve(&mut self, now: Instant, optimistic: bool) {
        if self.standing == Standing::Choked {
            self.tell_at = Some(now);
            self.unheard = true;
            self.wait = REPEAT_UNCHOKE;
            self.asked_at = now;
        }
        self.standing = Standing::Served;
        self.optimistic = optimistic;
        self.since = now;
    }

    /// Takes the slot back; the peer may ask for it again.
    pub(crate) const fn release(&mut self, now: Instant) {
        self.standing = Standing::Open;
        self.optimistic = false;
        self.since = now;
    }

    /// Whether a peer without requests, last sent to at `active`, has asked for nothing for `patience`, so that another may
    /// have its slot. It may ask for one again.
    pub(crate) fn is_idle(&self, now: Instant, active: Instant, patience: Duration) -> bool {
        self.standing == Standing::Served && now - self.asked_at.max(active) >= patience
    }

    /// Whether the peer is to be told now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.tell_at.is_some_and(|at| at <= now)
    }

    pub(crate) const fn tell_at(&self) -> Option<Instant> {
        self.tell_at
    }

    /// Whether a keep-alive tells it again that it may ask.
    pub(crate) const fn reminds(&self) -> bool {
        self.unheard
    }

    /// The peer is told.
    pub(crate) fn on_told(&mut self, now: Instant) {
        self.told_at = Some(now);
        self.tell_at = (self.unheard && self.wait <= MAX_REPEAT).then(|| now + self.wait);
        self.wait = (2 * self.wait).min(2 * MAX_REPEAT);
    }

    /// Measures the rates since the last time.
    pub(crate) fn measure(&mut self, now: Instant, (received, sent): (u64, u64)) {
        let elapsed = crate::time::micros(now - self.marked_at);
        if elapsed == 0 {
            return;
        }
        let rate = |bytes: u64| u64::try_from(u128::from(bytes) * 1_000_000 / u128::from(elapsed)).unwrap_or(u64::MAX);
        let fresh = (rate(received.saturating_sub(self.marks.0)), rate(sent.saturating_sub(self.marks.1)));
        self.rates = (self.rates.0.midpoint(fresh.0), self.rates.1.midpoint(fresh.1));
        (self.marks, self.marked_at) = ((received, sent), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(1000 * millis)
    }

    #[test]
    fn telling_any_number_of_times_is_bounded_in_rate() {
        let mut service = Service::new(at(0), (0, 0));
        service.choke(at(0));
        let mut told = 0;
        for millis in 0..100_000 {
            service.on_request(at(millis));
            if service.is_due(at(millis)) {
                service.on_told(at(millis));
                told += 1;
            }
        }
        assert_eq!(told, 400);
        service.serve(at(100_000), false);
        let due: std::vec::Vec<_> = (100_000..200_000)
            .filter(|&millis| {
                let due = service.is_due(at(millis));
                if due {
                    service.on_told(at(millis));
                }
                due
            })
            .collect();
        assert_eq!(due, [100_000, 100_500, 101_500, 103_500, 107_500]);
        for millis in 0..1000 {
            service.on_told(at(200_000 + millis));
        }
        assert!(service.reminds());
    }

    #[test]
    fn a_slot_is_idle_when_neither_asked_for_nor_used() {
        let mut service = Service::new(at(0), (0, 0));
        let idle = |service: &Service, now, active| service.is_idle(at(now), at(active), Duration::from_millis(50));
        service.serve(at(0), false);
        assert!(!idle(&service, 49, 0) && idle(&service, 50, 0));
        assert!(!idle(&service, 50, 1), "something was acknowledged since");
        service.on_request(at(100));
        assert!(!idle(&service, 149, 0));
        service.choke(at(4000));
        assert!(!idle(&service, 60_000, 0), "it has none");
        service.serve(at(60_000), true);
        assert!(!idle(&service, 60_049, 0) && idle(&service, 60_050, 0));
    }

    #[test]
    fn rates_follow_what_was_moved() {
        let mut service = Service::new(at(0), (500, 0));
        service.measure(at(10_000), (20_500, 40_000));
        assert_eq!(service.rates, (1000, 2000));
        service.measure(at(20_000), (40_500, 40_000));
        assert_eq!(service.rates, (1500, 1000));
        service.measure(at(20_000), (50_000, 50_000));
        assert_eq!(service.rates, (1500, 1000), "no time has passed");
    }
}
