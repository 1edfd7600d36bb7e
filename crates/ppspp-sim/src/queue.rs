//! What is to happen, ordered by time and then by the order in which it was planned.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::SimTime;

/// Nanoseconds that one bucket spans, as a power of two: about 16 microseconds.
const WIDTH_BITS: u32 = 14;
/// Buckets of the wheel: together about a quarter of a second, more than most datagrams take.
const BUCKETS: usize = 1 << 14;

#[derive(Debug)]
struct Entry<T> {
    at: SimTime,
    sequence: u64,
    what: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// A calendar queue: a wheel of buckets for the near future and a heap for the rest.
///
/// An entry of the near future is appended to its bucket, and only the bucket at hand is kept in order. So the cost per
/// entry depends on how many fall into the same sixteen microseconds, not on how many hosts there are.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    /// The bucket at hand, the next entry last.
    current: Vec<Entry<T>>,
    /// What was planned for the bucket at hand, or for the past, since it was opened.
    late: BinaryHeap<Reverse<Entry<T>>>,
    /// Number of the bucket at hand since the beginning.
    cursor: u64,
    wheel: Vec<Vec<Entry<T>>>,
    /// Which buckets of the wheel hold anything, a bit each.
    occupied: Vec<u64>,
    far: BinaryHeap<Reverse<Entry<T>>>,
    /// Room of emptied buckets, used again: memory follows what is planned, not the fullest time of each bucket.
    spare: Vec<Vec<Entry<T>>>,
    sequence: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            current: Vec::new(),
            late: BinaryHeap::new(),
            cursor: 0,
            wheel: std::iter::repeat_with(Vec::new).take(BUCKETS).collect(),
            occupied: vec![0; BUCKETS / 64],
            far: BinaryHeap::new(),
            spare: Vec::new(),
            sequence: 0,
        }
    }
}

impl<T> Queue<T> {
    /// Plans `what` for `at`. What is planned for the past happens next.
    pub(crate) fn plan(&mut self, at: SimTime, what: T) {
        self.sequence += 1;
        let entry = Entry { at, sequence: self.sequence, what };
        let bucket = at.as_nanos() >> WIDTH_BITS;
        if bucket <= self.cursor {
            self.late.push(Reverse(entry));
        } else if bucket - self.cursor < BUCKETS as u64 {
            let place = bucket as usize % BUCKETS;
            let bit = 1 << (place % 64);
            if self.occupied[place / 64] & bit == 0 {
                self.occupied[place / 64] |= bit;
                self.wheel[place] = self.spare.pop().unwrap_or_default();
            }
            self.wheel[place].push(entry);
        } else {
            self.far.push(Reverse(entry));
        }
    }

    /// Takes what happens next.
    pub(crate) fn next(&mut self) -> Option<(SimTime, T)> {
        while self.current.is_empty() && self.late.is_empty() {
            let far = self.far.peek().map(|Reverse(entry)| entry.at.as_nanos() >> WIDTH_BITS);
            self.cursor = match (self.next_bucket(), far) {
                (Some(near), Some(far)) => near.min(far),
                (Some(bucket), None) | (None, Some(bucket)) => bucket,
                (None, None) => return None,
            };
            self.open();
        }
        let late = self.late.peek().map(|Reverse(entry)| entry);
        let entry = match (self.current.last(), late) {
            (Some(next), Some(late)) if late < next => self.late.pop().map(|Reverse(entry)| entry),
            (None, _) => self.late.pop().map(|Reverse(entry)| entry),
            (Some(_), _) => self.current.pop(),
        }?;
        Some((entry.at, entry.what))
    }

    /// Puts the entries of the bucket at the cursor in order.
    fn open(&mut self) {
        let place = self.cursor as usize % BUCKETS;
        let bit = 1 << (place % 64);
        if self.occupied[place / 64] & bit != 0 {
            self.occupied[place / 64] &= !bit;
            let bucket = std::mem::take(&mut self.wheel[place]);
            self.spare.push(std::mem::replace(&mut self.current, bucket));
        }
        while let Some(Reverse(entry)) = self.far.peek()
            && entry.at.as_nanos() >> WIDTH_BITS <= self.cursor
        {
            self.current.extend(self.far.pop().map(|Reverse(entry)| entry));
        }
        self.current.sort_unstable_by(|one, other| other.cmp(one));
    }

    /// Number of the first bucket of the wheel after the cursor that holds anything.
    fn next_bucket(&self) -> Option<u64> {
        let start = (self.cursor as usize + 1) % BUCKETS;
        let words = self.occupied.len();
        for step in 0..=words {
            let word = (start / 64 + step) % words;
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            }
            if step == words {
                bits &= !(u64::MAX << (start % 64));
            }
            if bits != 0 {
                let place = word * 64 + bits.trailing_zeros() as usize;
                let ahead = (place + BUCKETS - start) % BUCKETS;
                return Some(self.cursor + 1 + ahead as u64);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn order_is_that_of_a_sorted_list(
            steps in proptest::collection::vec((any::<bool>(), 0u32..36, any::<u64>()), 1..400),
        ) {
            let mut queue = Queue::default();
            let mut twin: Vec<(SimTime, u64)> = Vec::new();
            let (mut now, mut number) = (0, 0);
            for (plan, bits, draw) in steps {
                if plan {
                    let at = SimTime::from_nanos(now + draw % (1 << bits));
                    queue.plan(at, number);
                    twin.push((at, number));
                    number += 1;
                } else {
                    twin.sort_unstable();
                    let expected = if twin.is_empty() { None } else { Some(twin.remove(0)) };
                    prop_assert_eq!(queue.next(), expected);
                    now = expected.map_or(now, |(at, _)| at.as_nanos());
                }
            }
        }
    }

    #[test]
    fn what_is_late_happens_next() {
        let mut queue = Queue::default();
        queue.plan(SimTime::from_nanos(1 << 40), 1);
        assert_eq!(queue.next(), Some((SimTime::from_nanos(1 << 40), 1)));
        queue.plan(SimTime::from_nanos(1 << 41), 3);
        queue.plan(SimTime::from_nanos(5), 2);
        assert_eq!(queue.next(), Some((SimTime::from_nanos(5), 2)));
        assert_eq!(queue.next(), Some((SimTime::from_nanos(1 << 41), 3)));
        assert_eq!(queue.next(), None);
    }
}
