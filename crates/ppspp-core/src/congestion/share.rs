//! R25: how many channels may send at a time over one link.
//!
//! No window is smaller than `MIN_CWND`, so that the queue of a slow link grows with every channel that sends, whatever
//! delay their controllers aim at. All that helps is that fewer send.

use alloc::vec::Vec;
use core::time::Duration;

use crate::time::micros;

/// Looks in a row that must find the link crowded before fewer may send: a start that overshoots is over by then.
const PATIENCE: u32 = 2;
/// Looks after which another one is dealt to first.
const LOOKS_PER_TURN: usize = 4;
/// Least windows that the windows of a crowded link come to on average, at most. A peer that is far faster than the others
/// does not wait for them.
const MAX_MEAN: u128 = 4;

/// How a channel that sends stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sending {
    /// Its window and the least there is, in bytes.
    pub(crate) window: u64,
    pub(crate) min_window: u64,
    /// What it finds queued; zero while it has not measured.
    pub(crate) queuing: Duration,
    /// Its round trip without queues.
    pub(crate) base: Duration,
}

impl Sending {
    /// Whether its window is as small as it can be, but for less than a segment.
    fn is_least(&self) -> bool {
        self.window < self.min_window.saturating_add(self.min_window / 2)
    }
}

/// Decides how many channels may send at a time, from looks at those that do.
///
/// A look comes long enough after the one before for the queue to have followed.
#[derive(Debug, Default)]
pub(crate) struct LinkShare {
    most: Option<usize>,
    /// Looks in a row that found the link crowded, and looks taken since there is a limit.
    crowded: u32,
    limited: usize,
}

impl LinkShare {
    /// How many may send at a time; `None` if any number may.
    pub(crate) const fn most(&self) -> Option<usize> {
        self.most
    }

    /// Who is dealt to first, to be taken modulo their number: each in turn.
    pub(crate) const fn first(&self) -> usize {
        self.limited / LOOKS_PER_TURN
    }

    /// Takes a look: `sending` are the channels that send, `wanting` counts those too that wait to. Returns how many may
    /// send from now on.
    ///
    /// The link is crowded if the queue is longer than `target` and at least half of the windows cannot shrink: not
    /// necessarily all, as a channel that took the queue for a longer way keeps it up. Then fewer send, half at least;
    /// more when there is room again.
    pub(crate) fn assess(&mut self, sending: &[Sending], wanting: usize, target: Duration) -> Option<usize> {
        let count = sending.len();
        let link = Link::of(sending, target);
        let crowded = link.is_late && link.is_shared;
        self.crowded = if crowded { self.crowded.saturating_add(1) } else { 0 };
        match self.most {
            _ if count > 1 && self.crowded >= PATIENCE => {
                self.most = Some(link.room.clamp((count / 2).max(1), count - 1));
            }
            Some(most) if count >= most && !link.is_late && link.room > most => {
                self.most = Some(most + if link.room / 2 >= most { most.div_ceil(2) } else { 1 });
            }
            _ => {}
        }
        self.most = self.most.filter(|&most| most < wanting);
        self.limited = if self.most.is_some() { self.limited.wrapping_add(1) } else { 0 };
        self.most
    }
}

/// The link as those that send see it.
struct Link {
    /// Channels with the least window that it carries with a queue of TARGET.
    room: usize,
    /// Whether more than that is queued.
    is_late: bool,
    /// Whether half of the windows or more are the least, and none so large that the link is not what holds them down.
    is_shared: bool,
}

impl Link {
    /// Windows are on the way or in the queue: all together grow and shrink with the round trip. It counts as a quarter
    /// of the channels find it at least: latecomers take a queue for a longer way, and a few may lie.
    fn of(sending: &[Sending], target: Duration) -> Self {
        let mut round_trips: Vec<(u64, u64)> =
            sending.iter().map(|one| (micros(one.queuing), micros(one.base.saturating_add(one.queuing)))).collect();
        round_trips.sort_unstable();
        let at = (round_trips.len() * 3).div_ceil(4).saturating_sub(1);
        let (queuing, present) = round_trips.get(at).copied().unwrap_or_default();
        let aim = (present - queuing).saturating_add(micros(target));
        let least = u128::from(sending.iter().map(|one| one.min_window).max().unwrap_or_default().max(1));
        let windows: u128 = sending.iter().map(|one| u128::from(one.window)).sum();
        let room = windows.saturating_mul(aim.into()) / (least * u128::from(present.max(1)));
        let count = sending.len();
        Self {
            room: usize::try_from(room).unwrap_or(usize::MAX),
            is_late: queuing > micros(target),
            is_shared: 2 * sending.iter().filter(|one| one.is_least()).count() >= count
                && windows <= MAX_MEAN * count as u128 * least,
        }
    }
}

/// Deals `total` one by one to those who want some, beginning with `first`; nobody gets more than wanted.
pub(crate) fn deal(total: usize, wanted: impl Iterator<Item = usize>, first: usize) -> Vec<usize> {
    let wanted: Vec<usize> = wanted.collect();
    let mut dealt = alloc::vec![0; wanted.len()];
    let mut left = total.min(wanted.iter().fold(0, |sum: usize, &one| sum.saturating_add(one)));
    let mut place = first;
    while left > 0 {
        place %= wanted.len();
        if dealt[place] < wanted[place] {
            dealt[place] += 1;
            left -= 1;
        }
        place += 1;
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TARGET: Duration = Duration::from_millis(100);
    const LEAST: u64 = 2000;

    /// A channel on a way of 20 ms with so many least windows, in tenths, and so many milliseconds queued.
    fn sending(tenths: u64, queuing: u64) -> Sending {
        Sending {
            window: LEAST * tenths / 10,
            min_window: LEAST,
            queuing: Duration::from_millis(queuing),
            base: Duration::from_millis(20),
        }
    }

    /// What is decided after so many looks at the same.
    fn after(looks: usize, all: &[Sending]) -> Option<usize> {
        let mut share = LinkShare::default();
        (0..looks).fold(None, |_, _| share.assess(all, all.len(), TARGET))
    }

    #[test]
    fn a_crowded_link_is_left_to_as_many_as_it_has_room_for() {
        // 16 windows make a round trip of 160 ms: 12 make the one of 120 ms that is aimed at.
        let all = [sending(10, 140); 16];
        assert_eq!((after(1, &all), after(2, &all)), (None, Some(12)), "not for a moment's queue");
        assert_eq!(after(2, &[sending(10, 1000); 16]), Some(8), "half at a time");
        assert_eq!(after(2, &[sending(5, 1000); 2]), Some(1), "one segment after a timeout");
        assert_eq!(after(2, &[sending(10, 101); 16]), Some(15), "one less at least");
    }

    #[test]
    fn one_may_always_send() {
        assert_eq!(after(9, &[]), None);
        assert_eq!(after(9, &[sending(10, 5000)]), None);
        let mut share = LinkShare::default();
        for count in [16, 16, 8, 4, 2, 1, 1, 1] {
            let all = std::vec![sending(10, 5000); count];
            share.assess(&all, 16, TARGET);
        }
        assert_eq!(share.most(), Some(1));
    }

    #[test]
    fn windows_that_can_shrink_are_left_to_do_so() {
        assert_eq!(after(9, &[sending(10, 100); 16]), None, "the queue is as long as is aimed at");
        assert_eq!(after(9, &[sending(15, 300); 16]), None, "there is a segment to give up");
        let mut all = [sending(10, 200); 16];
        all[..4].fill(sending(50, 90));
        assert_eq!(after(2, &all), Some(15), "some took the queue for the way");
        all[15] = sending(1000, 5);
        assert_eq!(after(9, &all), None, "a fast peer waits for no slow ones");
    }

    #[test]
    fn a_few_liars_make_nobody_wait() {
        let mut all = [sending(10, 20); 16];
        all[..4].fill(sending(10, 10_000));
        assert_eq!(after(9, &all), None);
    }

    #[test]
    fn with_room_more_send_until_all_do() {
        let mut share = LinkShare::default();
        for count in [16, 16] {
            share.assess(&std::vec![sending(10, 220); count], 16, TARGET);
        }
        assert_eq!(share.most(), Some(8));
        assert_eq!(share.assess(&[sending(10, 95); 8], 16, TARGET), Some(8), "room for these");
        assert_eq!(share.assess(&[sending(12, 95); 8], 16, TARGET), Some(9), "and for another");
        assert_eq!(share.assess(&[sending(30, 5); 3], 16, TARGET), Some(9), "few have asked: nothing is to be learned");
        assert_eq!(share.assess(&[sending(100, 5); 9], 16, TARGET), Some(14));
        assert_eq!(share.assess(&[sending(100, 5); 14], 16, TARGET), None);
        assert_eq!(share.first(), 0);
    }

    #[test]
    fn when_nobody_waits_there_is_no_limit() {
        let mut share = LinkShare::default();
        let all = [sending(10, 220); 4];
        assert_eq!((share.assess(&all, 4, TARGET), share.assess(&all, 4, TARGET)), (None, Some(2)));
        assert_eq!(share.assess(&[], 2, TARGET), None);
    }

    #[test]
    fn slots_are_dealt_in_turn() {
        let dealt = |total, wanted: &[usize], first| deal(total, wanted.iter().copied(), first);
        assert_eq!(dealt(4, &[9, 9, 9], 0), [2, 1, 1]);
        assert_eq!(dealt(4, &[9, 9, 9], 5), [1, 1, 2]);
        assert_eq!(dealt(4, &[1, 0, 9], 0), [1, 0, 3]);
        assert_eq!(dealt(1, &[9, 9], 3), [0, 1]);
        assert_eq!(dealt(7, &[1, 2], 0), [1, 2], "no more than wanted");
        assert_eq!(dealt(7, &[], 3), [0; 0]);
    }

    proptest! {
        #[test]
        fn any_look_is_survived(
            looks in prop::collection::vec(
                (prop::collection::vec(any::<(u64, u64, u64, u64)>(), 0..40), 0_usize..80), 1..20),
            target in any::<u64>(),
        ) {
            let mut share = LinkShare::default();
            for (channels, waiting) in looks {
                let all: Vec<_> = channels
                    .iter()
                    .map(|&(window, min_window, queuing, base)| Sending {
                        window,
                        min_window: min_window >> 1,
                        queuing: Duration::from_micros(queuing),
                        base: Duration::from_micros(base),
                    })
                    .collect();
                let wanting = all.len() + waiting;
                let most = share.assess(&all, wanting, Duration::from_micros(target));
                prop_assert!(most.is_none_or(|most| most >= 1 && most < wanting));
            }
        }
    }
}
