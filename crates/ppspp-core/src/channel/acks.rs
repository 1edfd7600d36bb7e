//! When what one peer sent us is acknowledged (R14).

use alloc::vec::Vec;
use core::time::Duration;

use arrayvec::ArrayVec;

use crate::chunk::{ChunkIndex, ChunkRange, RangeSet};
use crate::time::Instant;

/// DATA datagrams at a channel's start that are acknowledged in pairs.
const EAGER_DATAGRAMS: u64 = 256;
/// Waiting datagrams that make an ACK due at a channel's start.
const EAGER_WAITING: u32 = 2;
/// Waiting datagrams that make an ACK due later on.
const WAITING: u32 = 32;
/// Most words of chunks that wait to be put in order.
const MAX_FRESH: usize = 16;
/// Bounds on the delay of an ACK, an eighth of the round-trip time.
const MIN_DELAY: Duration = Duration::from_micros(500);
const MAX_DELAY: Duration = Duration::from_millis(10);
/// How often an ACK is sent again with later ones: at a channel's start, when one that is lost ends the peer's slow start,
/// and later on.
const EAGER_COPIES: usize = 2;
const COPIES: usize = 1;
/// One copy more for so many ACKs that seem to have been lost, each within that time of the one before. A few come of
/// timeouts that ran out early.
const DOUBTED: u32 = 4;
const DOUBT: Duration = Duration::from_secs(60);
const MAX_COPIES: usize = 4;
/// Most runs of chunks that a datagram of ACKs says again: a way back that is narrow must not be filled with copies.
const MAX_COPIED_RUNS: usize = 32;

/// A chunk that arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) chunk: ChunkIndex,
    /// When it was sent, in microseconds by the sender's clock.
    pub(crate) timestamp: u64,
    pub(crate) at: Instant,
}

/// Chunks in a word.
const WORD: u64 = u64::BITS as u64;

/// Chunks of an aligned run of as many as a word has bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Word {
    number: u64,
    /// Bit n: the n-th of them.
    chunks: u64,
}

impl Word {
    /// The runs of its chunks, in order.
    fn runs(self) -> impl Iterator<Item = ChunkRange> {
        let base = self.number * WORD;
        let mut rest = self.chunks;
        core::iter::from_fn(move || {
            let start = (rest != 0).then(|| rest.trailing_zeros())?;
            let len = (rest >> start).trailing_ones();
            rest &= rest.wrapping_add(1 << start);
            Some(ChunkRange::new(base + u64::from(start), base + u64::from(start + len)))
        })
    }
}

/// Chunks to acknowledge and the delay sample to go with them.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    pending: RangeSet,
    /// Chunks that are not in `pending` yet: they come in the sender's order, and are put in order together.
    fresh: ArrayVec<Word, MAX_FRESH>,
    waiting: u32,
    received: u64,
    newest_timestamp: Option<u64>,
    newest_delay: u64,
    /// The smallest delay seen: clocks are unrelated, so that it tells nothing by itself.
    base_delay: Option<u64>,
    due: Option<Instant>,
    /// How many ACKs seem to have been lost, and when that is forgotten.
    missed: u32,
    missed_until: Option<Instant>,
    /// What the last datagrams of ACKs said first, the newest first.
    told: ArrayVec<RangeSet, MAX_COPIES>,
    /// When that is said again, if no DATA brings a reason to.
    again_at: Option<Instant>,
}

impl Acks {
    /// Notes that verified DATA arrived, in this order. `urgent` for a duplicate or the last requested chunk.
    pub(crate) fn on_data(
        &mut self,
        now: Instant,
        arrivals: impl IntoIterator<Item = Arrival>,
        rtt: Duration,
        urgent: bool,
    ) {
        let mut due = urgent;
        // Chunks that come together are neighbours, most often.
        let mut word = Word { number: 0, chunks: 0 };
        for Arrival { chunk, timestamp, at } in arrivals {
            let (number, bit) = (chunk.value() / WORD, 1 << (chunk.value() % WORD));
            if number != word.number {
                self.note(word);
                word = Word { number, chunks: 0 };
            }
            word.chunks |= bit;
            self.waiting += 1;
            self.received += 1;
            let limit = if self.received <= EAGER_DATAGRAMS { EAGER_WAITING } else { WAITING };
            due |= !self.sample(timestamp, at) || self.waiting >= limit;
        }
        self.note(word);
        self.again_at = None;
        if due {
            self.due = Some(now);
        } else if self.due.is_none() {
            self.due = Some(now + (rtt / 8).clamp(MIN_DELAY, MAX_DELAY));
        }
    }

    /// Takes the delay of DATA sent at `timestamp`, unless later DATA came before; returns whether it was taken.
    #[inline]
    fn sample(&mut self, timestamp: u64, at: Instant) -> bool {
        // Peers' clocks are unrelated: differences wrap.
        let reordered = self.newest_timestamp.is_some_and(|newest| timestamp.wrapping_sub(newest).cast_signed() < 0);
        if !reordered {
            self.newest_timestamp = Some(timestamp);
            // R13: the sample is taken at arrival, however long judging takes.
            self.newest_delay = at.as_micros().wrapping_sub(timestamp);
            let rise = |base: u64| self.newest_delay.wrapping_sub(base).cast_signed();
            if self.base_delay.is_none_or(|base| rise(base) < 0) {
                self.base_delay = Some(self.newest_delay);
            }
        }
        !reordered
    }

    /// When an ACK is due, or one is to be sent again.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due.or(self.again_at)
    }

    /// The delay sample for the ACKs of one datagram: that of the newest DATA, taken at its arrival (R13).
    pub(crate) const fn delay(&self) -> u64 {
        self.newest_delay
    }

    /// How much longer than the fastest the newest DATA was on its way: what waits in the network.
    pub(crate) fn queueing(&self) -> Duration {
        let rise = self.base_delay.map_or(0, |base| self.newest_delay.wrapping_sub(base).cast_signed());
        Duration::from_micros(u64::try_from(rise).unwrap_or(0))
    }

    /// The chunks to acknowledge.
    pub(crate) fn pending(&mut self) -> &RangeSet {
        self.put_in_order();
        &self.pending
    }

    /// Notes that the peer sent DATA twice that was acknowledged: the ACK may have been lost, for which the peer takes DATA
    /// to be lost and the path to be congested.
    pub(crate) fn on_repeat(&mut self, now: Instant) {
        self.missed = if self.is_doubtful(now) { self.missed.saturating_add(1) } else { 1 };
        self.missed_until = Some(now + DOUBT);
    }

    /// Whether an ACK seems to have been lost of late.
    fn is_doubtful(&self, now: Instant) -> bool {
        self.missed_until.is_some_and(|until| now < until)
    }

    /// How many later datagrams say again what one said.
    fn copies(&self, now: Instant) -> usize {
        let usual = if self.received <= EAGER_DATAGRAMS { EAGER_COPIES } else { COPIES };
        let more = if self.is_doubtful(now) { self.missed / DOUBTED } else { 0 };
        usual.saturating_add(more as usize).min(MAX_COPIES)
    }

    /// Before a datagram of ACKs: lets what the last ones said first wait again.
    ///
    /// Chunks leave spread over a run, so that most ACKs name an interval that no later one covers: of one that gets lost
    /// the peer would conclude that DATA was. Where nothing more comes there is no later one, so that the last is sent
    /// once more after a round trip of `rtt`: at a channel's start, and for as long as some seem to get lost.
    /// At most `room` runs fit into the datagram.
    pub(crate) fn tell_again(&mut self, now: Instant, rtt: Duration, room: usize) {
        self.put_in_order();
        let copies = self.copies(now);
        self.told.truncate(copies);
        let first = self.pending.clone();
        let doubtful = self.is_doubtful(now) && self.missed >= DOUBTED;
        let mut room = room.saturating_sub(first.run_count()).min(if doubtful { usize::MAX } else { MAX_COPIED_RUNS });
        for told in &self.told {
            let runs = told.as_slice();
            self.pending.merge(&runs[..runs.len().min(room)]);
            room = room.saturating_sub(runs.len());
        }
        let tail = !first.is_empty() && self.received <= EAGER_DATAGRAMS;
        self.told.truncate(copies - 1);
        self.told.insert(0, first);
        let any = self.told.iter().any(|told| !told.is_empty());
        self.again_at = (any && (tail || doubtful)).then(|| now + rtt + rtt / 4 + MAX_DELAY);
    }

    /// Keeps the chunks of `word` to be put in order.
    fn note(&mut self, word: Word) {
        if word.chunks == 0 {
            return;
        }
        if let Some(known) = self.fresh.iter_mut().rev().find(|known| known.number == word.number) {
            known.chunks |= word.chunks;
            return;
        }
        if self.fresh.is_full() {
            self.put_in_order();
        }
        self.fresh.push(word);
    }

    fn put_in_order(&mut self) {
        self.fresh.sort_unstable();
        let runs: Vec<ChunkRange> = self.fresh.iter().flat_map(|word| word.runs()).collect();
        self.pending.merge(&runs);
        self.fresh.clear();
    }

    /// Notes that everything up to position `end` was acknowledged.
    pub(crate) fn on_sent(&mut self, end: u64) {
        self.put_in_order();
        self.pending.remove(ChunkRange::new(0, end));
        if self.pending.is_empty() {
            self.waiting = 0;
            self.due = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn chunks_are_put_in_order_whatever_theirs_is() {
        // In order, spread within a run, and all over the place: more words than are kept apart.
        for step in [1, 37, 7 * 64 + 1] {
            let mut acks = Acks::default();
            let mut twin = BTreeSet::new();
            for turn in 0..900 {
                let chunk = turn * step % 4096;
                acks.on_data(
                    Instant::ZERO,
                    [Arrival { chunk: ChunkIndex::new(chunk), timestamp: turn, at: Instant::ZERO }],
                    Duration::ZERO,
                    false,
                );
                twin.insert(chunk);
                assert!(acks.fresh.len() <= MAX_FRESH);
                if turn % 100 == 99 {
                    assert!(
                        acks.pending()
                            .runs()
                            .flat_map(ChunkRange::iter)
                            .map(ChunkIndex::value)
                            .eq(twin.iter().copied())
                    );
                    assert_eq!(acks.pending().run_count(), twin.iter().filter(|at| !twin.contains(&(*at + 1))).count());
                }
            }
        }
    }

    /// A way back that is narrow is not filled with copies, nor is a datagram.
    #[test]
    fn what_is_said_again_is_bounded() {
        let far_apart = |from: u64| {
            (from..from + 40).map(|turn| Arrival {
                chunk: ChunkIndex::new(2 * turn),
                timestamp: turn,
                at: Instant::ZERO,
            })
        };
        for (repeats, room, most) in [(0, 100, 32), (0, 50, 10), (20, 500, 160), (20, 100, 60), (20, 20, 0)] {
            let mut acks = Acks::default();
            for _ in 0..repeats {
                acks.on_repeat(Instant::ZERO);
            }
            for datagram in 0..9 {
                acks.on_data(Instant::ZERO, far_apart(datagram * 100), Duration::ZERO, true);
                acks.tell_again(Instant::ZERO, Duration::ZERO, room);
                let said_again = acks.pending().run_count() - 40;
                assert!(said_again <= most && (datagram < 8 || said_again == most), "{said_again} of {most}");
                acks.on_sent(u64::MAX);
                assert!(acks.told.len() <= MAX_COPIES);
            }
        }
    }
}
