//! What a peer announced and does not deliver. Its disk may have changed, or it boasts: no message of RFC 7574 withdraws a
//! HAVE, so that what it says it has and what it gives part ways.

use core::time::Duration;

use crate::availability::PeerMap;
use crate::chunk::{ChunkRange, RangeSet};
use crate::time::Instant;

/// Runs remembered of what the peer was asked for once in vain.
const MAX_DOUBTED: usize = 256;
/// A gap between vain requests is passed over with them if it is at most this many times as long as they are.
const GAP: u64 = 4;
/// How long a peer is not asked for what it withholds while there is anything else; doubles each time it is asked again,
/// up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// The longest time.
const MAX_PAUSE: Duration = Duration::from_secs(160);
/// How often the groups that are passed over at a time double, at most: enough for the largest content.
const MAX_DOUBLINGS: u32 = 58;

/// What one peer withholds, once there is anything.
///
/// It is asked for that last: a chunk may have been lost on the way as often as it was asked for, so that none is ever
/// crossed off for good.
#[derive(Debug)]
pub(crate) struct Withheld {
    /// What it was asked for in vain, although it was heard meanwhile.
    doubted: RangeSet,
    /// All that it announced, while it is taken to have less.
    announced: Option<PeerMap>,
    /// When it is taken to have all of that again.
    lift_at: Instant,
    pause: Duration,
    /// When something was last passed over, and how often in a row without a delivery.
    passed_at: Instant,
    steps: u32,
    /// When it was last asked for more of that again, and how often in a row without a delivery.
    lifted_at: Instant,
    lifts: u32,
}

impl Withheld {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            doubted: RangeSet::new(),
            announced: None,
            lift_at: now,
            pause: FIRST_PAUSE,
            passed_at: now,
            steps: 0,
            lifted_at: now,
            lifts: 0,
        }
    }

    /// All that the peer announced, while it is taken to have less.
    pub(crate) const fn announced(&self) -> Option<&PeerMap> {
        self.announced.as_ref()
    }

    /// The same, to change it.
    pub(crate) const fn announced_mut(&mut self) -> Option<&mut PeerMap> {
        self.announced.as_mut()
    }

    /// Whether the peer, which last delivered anything at `delivered_at`, has not done so since something was passed over:
    /// what it has is being looked for.
    fn is_searching(&self, delivered_at: Instant) -> bool {
        self.steps > 0 && self.passed_at >= delivered_at
    }

    /// Notes that the peer was asked for `run` in vain although it was heard meanwhile; returns whether it is to be passed
    /// over: the second time, since the first may have been lost, or at once if the peer withholds other things.
    pub(crate) fn on_vain(&mut self, run: ChunkRange) -> bool {
        let again = self.doubted.covers(run);
        if self.doubted.insert_bounded(run, MAX_DOUBTED).is_err() {
            // What lies between may be asked for later than it could be, which does no harm.
            let [before, after] = self.gaps_beside(run);
            self.doubted.extend(before.or(after));
            self.doubted.insert(run);
        }
        again || self.announced.is_some()
    }

    /// What lies between `run` and what was asked for in vain next before and after it.
    fn gaps_beside(&self, run: ChunkRange) -> [Option<ChunkRange>; 2] {
        let before = self.doubted.runs().rev().find(|other| other.end() <= run.start());
        let after = self.doubted.runs().find(|other| other.start() >= run.end());
        [
            before.map(|before| ChunkRange::new(before.end(), run.start())),
            after.map(|after| ChunkRange::new(run.end(), after.start())),
        ]
    }

    /// The same, where it is not much by what was asked for in vain in all.
    pub(crate) fn small_gaps_beside(&self, run: ChunkRange) -> impl Iterator<Item = ChunkRange> + use<> {
        let most = self.doubted.count().saturating_mul(GAP);
        self.gaps_beside(run).into_iter().flatten().filter(move |gap| gap.count() <= most)
    }

    /// Notes that something is passed over of a peer that announced `have`, and returns how many groups after that as well:
    /// while nothing comes at all ever more, so that a long part that changed is behind us after few requests.
    pub(crate) fn on_passed(&mut self, now: Instant, have: &PeerMap, delivered_at: Instant) -> u64 {
        let searching = self.is_searching(delivered_at);
        self.steps = if searching { self.steps.saturating_add(1) } else { 1 };
        self.passed_at = now;
        if self.announced.is_none() {
            self.lift_at = now + self.pause;
            self.announced = Some(have.clone());
        }
        if searching { 1 << (self.steps - 1).min(MAX_DOUBLINGS) } else { 0 }
    }

    /// Whether requests need not wait ever longer while what the peer has is looked for: until all was looked at twice.
    pub(crate) fn may_hurry(&self, delivered_at: Instant) -> bool {
        self.lifts < 2 || self.lifted_at < delivered_at
    }

    /// Whether the peer may be asked for everything again, after a while in which it delivered other things.
    pub(crate) fn is_due(&self, now: Instant, delivered_at: Instant) -> bool {
        self.announced.is_some() && self.lift_at <= now && !self.is_searching(delivered_at)
    }

    /// Asks again for what is withheld and in `free`, which is to be asked for: first for what the peer was not asked for in
    /// vain, or else for everything. Returns what it is to be taken to have, in place of `have`.
    pub(crate) fn lift(
        &mut self,
        now: Instant,
        have: &PeerMap,
        free: &RangeSet,
        delivered_at: Instant,
    ) -> Option<PeerMap> {
        self.on_lift(now, delivered_at);
        let announced = self.announced.as_ref()?;
        let all = ChunkRange::new(0, u64::MAX);
        if free.common_with(announced.as_set(), all).any(|piece| !self.doubted.covers(piece)) {
            let mut untried = announced.clone();
            self.doubted.runs().for_each(|run| untried.remove(run));
            // Otherwise something else keeps it from being asked for.
            if untried != *have {
                return Some(untried);
            }
        }
        self.announced.take()
    }

    /// Asks again for everything, since it is time; returns what the peer is to be taken to have.
    pub(crate) fn lift_in_time(&mut self, now: Instant, delivered_at: Instant) -> Option<PeerMap> {
        self.on_lift(now, delivered_at);
        self.pause = (2 * self.pause).min(MAX_PAUSE);
        self.announced.take()
    }

    fn on_lift(&mut self, now: Instant, delivered_at: Instant) {
        self.lifts = if self.lifted_at < delivered_at { 1 } else { self.lifts.saturating_add(1) };
        self.lifted_at = now;
        self.steps = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const START: Instant = Instant::from_micros(1_000_000_000);

    fn run(start: u64, end: u64) -> ChunkRange {
        ChunkRange::new(start, end)
    }

    fn all() -> PeerMap {
        let mut have = PeerMap::new();
        have.add(run(0, 1000), None, 8);
        have
    }

    #[test]
    fn once_may_be_chance() {
        let mut withheld = Withheld::new(START);
        assert!(!withheld.on_vain(run(0, 16)));
        assert!(!withheld.on_vain(run(16, 32)));
        assert!(withheld.on_vain(run(8, 24)));
        assert!(!withheld.on_vain(run(24, 40)), "a part was never asked for");
        withheld.on_passed(START, &all(), START);
        assert!(withheld.on_vain(run(500, 501)), "it withholds something");
        withheld.lift_in_time(START, START);
        assert!(!withheld.on_vain(run(600, 601)) && withheld.on_vain(run(0, 16)));
    }

    #[test]
    fn ever_more_is_passed_over_until_something_comes() {
        let mut withheld = Withheld::new(START);
        let at = |second| START + second * SECOND;
        let strides = [1, 2, 3, 4].map(|second| withheld.on_passed(at(second), &all(), START));
        assert_eq!(strides, [0, 2, 4, 8]);
        assert_eq!(withheld.on_passed(at(6), &all(), at(5)), 0);
        assert_eq!(
            (7..100).map(|second| withheld.on_passed(at(second), &all(), at(5))).max(),
            Some(1 << MAX_DOUBLINGS)
        );
    }

    #[test]
    fn what_is_withheld_is_asked_for_again_after_ever_longer_times() {
        let mut withheld = Withheld::new(START);
        let have = all();
        let mut now = START;
        for pause in [10, 20, 40, 80, 160, 160] {
            withheld.on_passed(now, &have, now);
            assert!(!withheld.is_due(now + 1000 * SECOND, now), "it is looked for");
            let delivered_at = now + SECOND;
            assert!(!withheld.is_due(now + (pause - 1) * SECOND, delivered_at));
            now = now + pause * SECOND;
            assert!(withheld.is_due(now, delivered_at));
            assert_eq!(withheld.lift_in_time(now, delivered_at), Some(have.clone()));
            assert!(!withheld.is_due(now + 1000 * SECOND, delivered_at), "nothing is withheld");
        }
    }

    #[test]
    fn what_was_never_asked_for_comes_first_and_all_of_it_in_the_end() {
        let mut withheld = Withheld::new(START);
        let free = RangeSet::from(run(0, 500));
        withheld.on_vain(run(0, 16));
        withheld.on_passed(START, &all(), START);
        let mut untried = all();
        untried.remove(run(0, 16));
        assert_eq!(withheld.lift(START, &all(), &free, START), Some(untried.clone()));
        assert!(withheld.may_hurry(START), "once more");
        withheld.on_vain(run(16, 500));
        assert_eq!(withheld.lift(START, &untried, &free, START), Some(all()));
        assert!(!withheld.may_hurry(START) && withheld.may_hurry(START + SECOND));
        assert_eq!(withheld.lift(START, &all(), &free, START), None);
    }

    #[test]
    fn small_gaps_are_taken_for_what_lies_around_them() {
        let mut withheld = Withheld::new(START);
        let gaps = |withheld: &Withheld, run| withheld.small_gaps_beside(run).collect::<alloc::vec::Vec<_>>();
        withheld.on_vain(run(100, 116));
        withheld.on_vain(run(300, 316));
        assert_eq!(gaps(&withheld, run(300, 316)), [], "longer than {GAP} times what was in vain");
        withheld.on_vain(run(400, 416));
        assert_eq!(gaps(&withheld, run(300, 316)), [run(116, 300), run(316, 400)]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut withheld = Withheld::new(START);
        for chunk in 0..10_000 {
            withheld.on_vain(run(2 * chunk, 2 * chunk + 1));
            assert!(withheld.doubted.run_count() <= MAX_DOUBTED);
        }
    }
}
