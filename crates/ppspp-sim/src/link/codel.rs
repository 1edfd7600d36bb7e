//! Controlled delay, RFC 8289.

use std::time::Duration;

use crate::time::SimTime;

/// Parameters of CoDel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CoDelSpec {
    /// Standing delay that is tolerated (§4.3).
    pub target: Duration,
    /// Time within which the delay must fall below the target (§4.2).
    pub interval: Duration,
    /// Wire bytes that may wait at most.
    pub bytes: u64,
}

impl Default for CoDelSpec {
    fn default() -> Self {
        Self { target: Duration::from_millis(5), interval: Duration::from_millis(100), bytes: 1 << 20 }
    }
}

/// The state of one CoDel queue.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct CoDel {
    first_above: Option<SimTime>,
    next_drop: SimTime,
    dropping: bool,
    count: u32,
    last_count: u32,
}

impl CoDel {
    /// Whether the packet that leaves the queue at `now` after waiting for `sojourn` is dropped (§5.6); `alone` if the
    /// queue held at most one packet besides.
    pub(super) fn drops(&mut self, spec: &CoDelSpec, now: SimTime, sojourn: Duration, alone: bool) -> bool {
        let standing = self.is_standing(spec, now, sojourn, alone);
        if self.dropping {
            if !standing {
                self.dropping = false;
                return false;
            }
            if now < self.next_drop {
                return false;
            }
            self.count += 1;
            self.next_drop = control_law(spec, self.next_drop, self.count);
            return true;
        }
        if !standing {
            return false;
        }
        self.dropping = true;
        // A drop soon after the last episode starts at the rate that one ended with.
        let delta = self.count - self.last_count;
        let recent = now.since(self.next_drop) < spec.interval * 16;
        self.count = if delta > 1 && recent { delta } else { 1 };
        self.last_count = self.count;
        self.next_drop = control_law(spec, now, self.count);
        true
    }

    fn is_standing(&mut self, spec: &CoDelSpec, now: SimTime, sojourn: Duration, alone: bool) -> bool {
        if alone || sojourn < spec.target {
            self.first_above = None;
            return false;
        }
        match self.first_above {
            None => {
                self.first_above = Some(now + spec.interval);
                false
            }
            Some(since) => now >= since,
        }
    }
}

/// The next drop comes after the interval divided by the square root of the number of drops (§5.4).
fn control_law(spec: &CoDelSpec, from: SimTime, count: u32) -> SimTime {
    // Integer root of count · 2^16, so that every machine drops the same packets.
    let root = u128::from((u64::from(count) << 32).isqrt());
    let nanos = (spec.interval.as_nanos() << 16) / root.max(1);
    from + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_standing_queue_is_dropped_from() {
        let spec = CoDelSpec::default();
        let mut codel = CoDel::default();
        let at = |millis| SimTime::ZERO + Duration::from_millis(millis);
        let (long, short) = (Duration::from_millis(20), Duration::from_millis(4));
        // A burst shorter than the interval passes.
        assert!((0..100).all(|now| !codel.drops(&spec, at(now), long, false)));
        assert!(codel.drops(&spec, at(100), long, false));
        // The next drops come sooner and sooner.
        let drops: Vec<u64> = (101..500).filter(|&now| codel.drops(&spec, at(now), long, false)).collect();
        assert_eq!(drops[..3], [200, 271, 329]);
        assert!(!codel.drops(&spec, at(500), short, false));
        assert!(!codel.drops(&spec, at(501), long, false));
        // A queue of one packet cannot be shorter, however long it waits.
        assert!((502..1000).all(|now| !codel.drops(&spec, at(now), long, true)));
    }
}
