//! Whom the upload slots go to (RFC 7574 §3.9).

use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt::Debug;
use core::time::Duration;

/// How long a peer keeps a slot that it was given without merit, and how long one with a slot wins a tie: many round trips
/// of what asking anew costs, and short beside a download.
const TURN: Duration = Duration::from_secs(4);

/// A peer that wants a slot, or has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Candidate {
    /// What it was granted before.
    pub grant: Grant,
    /// How long it has been served, or has waited.
    pub time: Duration,
    /// Content bytes per second that it sent us lately.
    pub received: u64,
    /// Content bytes per second that we sent it lately.
    pub sent: u64,
}

impl Candidate {
    /// A candidate of which nothing more is known.
    pub const fn new(grant: Grant, time: Duration) -> Self {
        Self { grant, time, received: 0, sent: 0 }
    }
}

/// What a candidate gets until the next round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grant {
    /// No slot.
    Choked,
    /// A slot.
    Earned,
    /// A slot to show what it is worth, or to have its turn.
    Optimistic,
}

/// What is shared out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Round {
    /// Slots of the swarm, at least one.
    pub slots: usize,
    /// Whether we have all we want: nobody can do us a favour.
    pub seeding: bool,
}

impl Round {
    /// A round over `slots`.
    pub const fn new(slots: usize, seeding: bool) -> Self {
        Self { slots, seeding }
    }
}

/// Decides every two seconds who is served, while more peers ask than there are slots.
///
/// Peers that ask while a slot is free are served without a decision.
pub trait UnchokePolicy: Debug + Send + Sync {
    /// Sets the grant of each candidate. Grants beyond the number of slots do not count; slots that are left go to
    /// those who have waited longest.
    fn allot(&self, round: Round, candidates: &mut [Candidate]);
}

/// The default: while leeching slots go to those who send us most, while seeding to those who take most, in turns of four
/// seconds among those whose rates are alike: within the same power of four. Some slots go in such turns to those who have
/// waited longest, whatever they send, so that everyone is served and can prove itself.
///
/// A fifth of the slots goes by turns while leeching and a third while seeding, one at least.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reciprocity;

impl UnchokePolicy for Reciprocity {
    fn allot(&self, round: Round, candidates: &mut [Candidate]) {
        let slots = round.slots.min(candidates.len());
        if slots == 0 {
            for candidate in candidates {
                candidate.grant = Grant::Choked;
            }
            return;
        }
        let by_turns = (round.slots / if round.seeding { 3 } else { 5 }).clamp(1, slots);
        let is_at_turn = |one: &Candidate| one.grant == Grant::Optimistic && one.time < TURN;
        // Among equals it is luck who sends most, and who is served by few falls behind.
        let merit = |one: &Candidate| {
            let rate = if round.seeding { one.sent } else { one.received };
            rate.checked_ilog(4).map_or(0, |power| power + 1)
        };
        // Best first; among equals those who were served only lately stay, then come those who waited longest.
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        order.sort_by_key(|&at| {
            let one = &candidates[at];
            let settled = one.grant != Grant::Choked && one.time < TURN;
            let waited = if one.grant == Grant::Choked { one.time } else { Duration::ZERO };
            (Reverse(merit(one)), !settled, Reverse(waited), at)
        });
        let mut waiting: Vec<usize> =
            order.iter().copied().filter(|&at| candidates[at].grant == Grant::Choked).collect();
        waiting.sort_by_key(|&at| (Reverse(candidates[at].time), at));
        let mut grants = alloc::vec![Grant::Choked; candidates.len()];
        let at_turn: Vec<usize> =
            order.iter().copied().filter(|&at| is_at_turn(&candidates[at])).take(by_turns).collect();
        for &at in &at_turn {
            grants[at] = Grant::Optimistic;
        }
        let earned = order.iter().filter(|at| !at_turn.contains(at)).take(slots - by_turns);
        let mut left = slots - at_turn.len();
        for &at in earned {
            grants[at] = Grant::Earned;
            left -= 1;
        }
        for at in waiting.into_iter().chain(order) {
            if left == 0 {
                break;
            }
            if grants[at] == Grant::Choked {
                // Whoever had its turn and is kept for want of others begins no new one.
                grants[at] = if candidates[at].grant == Grant::Choked { Grant::Optimistic } else { Grant::Earned };
                left -= 1;
            }
        }
        for (candidate, grant) in candidates.iter_mut().zip(grants) {
            candidate.grant = grant;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn allot(slots: usize, seeding: bool, candidates: &mut [Candidate]) -> Vec<Grant> {
        Reciprocity.allot(Round::new(slots, seeding), candidates);
        candidates.iter().map(|candidate| candidate.grant).collect()
    }

    #[test]
    fn while_leeching_those_who_give_are_served() {
        let mut candidates: Vec<_> = (0..20).map(|_| Candidate::new(Grant::Choked, SECOND)).collect();
        for at in [3, 7, 11, 12] {
            candidates[at].received = 1000;
        }
        candidates[5] = Candidate { sent: 9000, ..Candidate::new(Grant::Choked, 9 * SECOND) };
        let grants = allot(5, false, &mut candidates);
        assert!([3, 7, 11, 12].iter().all(|&at| grants[at] == Grant::Earned), "{grants:?}");
        assert_eq!(grants[5], Grant::Optimistic, "who has waited longest");
        assert_eq!(grants.iter().filter(|&&grant| grant != Grant::Choked).count(), 5);
    }

    #[test]
    fn while_seeding_those_who_take_are_served() {
        let mut candidates: Vec<_> = (0..20).map(|_| Candidate::new(Grant::Earned, 60 * SECOND)).collect();
        for at in [3, 7] {
            candidates[at].sent = 1000;
        }
        candidates[5].received = 9000;
        let grants = allot(3, true, &mut candidates);
        assert!([3, 7].iter().all(|&at| grants[at] == Grant::Earned), "{grants:?}");
        assert_eq!(grants[5], Grant::Choked);
    }

    #[test]
    fn without_slots_or_candidates_nobody_is_served() {
        assert_eq!(allot(3, false, &mut []), []);
        assert_eq!(allot(0, true, &mut [Candidate::new(Grant::Earned, SECOND)]), [Grant::Choked]);
    }

    #[test]
    fn a_turn_lasts_four_seconds() {
        let mut candidates = [
            Candidate { received: 5, ..Candidate::new(Grant::Earned, 90 * SECOND) },
            Candidate::new(Grant::Optimistic, 3 * SECOND),
            Candidate::new(Grant::Choked, 300 * SECOND),
        ];
        assert_eq!(allot(2, false, &mut candidates), [Grant::Earned, Grant::Optimistic, Grant::Choked]);
        candidates[1].time = 4 * SECOND;
        assert_eq!(allot(2, false, &mut candidates), [Grant::Earned, Grant::Choked, Grant::Optimistic]);
    }

    proptest! {
        #[test]
        fn every_slot_is_used_and_nobody_starves(
            slots in 1_usize..12, rates in prop::collection::vec((0_u64..4, 0_u64..4), 1..40), seeding in any::<bool>(),
        ) {
            let mut candidates: Vec<_> = rates.iter().map(|&(received, sent)| {
                Candidate { received, sent, ..Candidate::new(Grant::Choked, Duration::ZERO) }
            }).collect();
            let mut served = alloc::vec![false; candidates.len()];
            // A turn for each, if turns came one by one.
            for _ in 0..3 * candidates.len() + 6 {
                let before: Vec<_> = candidates.iter().map(|candidate| candidate.grant).collect();
                let grants = allot(slots, seeding, &mut candidates);
                prop_assert_eq!(
                    grants.iter().filter(|&&grant| grant != Grant::Choked).count(), slots.min(candidates.len()));
                for (at, candidate) in candidates.iter_mut().enumerate() {
                    served[at] |= candidate.grant != Grant::Choked;
                    let same = (candidate.grant == Grant::Choked) == (before[at] == Grant::Choked);
                    candidate.time = if same { candidate.time + 10 * SECOND } else { 10 * SECOND };
                }
            }
            prop_assert!(served.iter().all(|&served| served), "{:?}", served);
        }
    }
}
