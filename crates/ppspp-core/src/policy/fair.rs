//! Turns by bytes: deficit round robin (Shreedhar and Varghese, 1995).

use slab::Slab;

/// A turn ends when less than a quarter of its quantum is left, and at most this many bytes: too few for a batch of
/// their own, they count in the next turn.
const MAX_CRUMB: i64 = 16 * 1024;
/// Turns' worth of bytes that a key may owe, or so many bytes if that is more: two of the largest datagrams, each of which
/// may be many turns' worth under a low limit. A debt is paid by turns passed over.
const MAX_DEBT: i64 = 4;
const LEAST_MAX_DEBT: i64 = 128 * 1024;

/// Where a key stands in a [`FairQueue`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place(u32);

#[derive(Debug)]
struct Entry<K> {
    key: K,
    /// Bytes left of this turn, or owed.
    credit: i64,
    previous: u32,
    next: u32,
}

/// Keys that have bytes to send, in a ring. At its turn each may send about a quantum: over any stretch in which two
/// keys are in the ring, what they send differs by at most a quantum, two crumbs and two datagrams.
///
/// Each operation takes constant time; keys that are not in the ring cost nothing.
#[derive(Debug)]
pub(crate) struct FairQueue<K> {
    ring: Slab<Entry<K>>,
    head: u32,
    /// What the head's turn began with; `None` if it has not begun.
    quantum: Option<i64>,
}

impl<K> Default for FairQueue<K> {
    fn default() -> Self {
        Self { ring: Slab::new(), head: 0, quantum: None }
    }
}

impl<K: Copy> FairQueue<K> {
    pub(crate) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.ring.len()
    }

    /// Adds `key` behind all others. It is for the caller not to add it twice.
    pub(crate) fn insert(&mut self, key: K) -> Place {
        let place = self.ring.vacant_key() as u32;
        let (previous, next) = match self.ring.get(self.head as usize) {
            Some(head) => (head.previous, self.head),
            None => (place, place),
        };
        self.ring.insert(Entry { key, credit: 0, previous, next });
        if previous == place {
            self.head = place;
            self.quantum = None;
        } else {
            self.ring[previous as usize].next = place;
            self.ring[next as usize].previous = place;
        }
        Place(place)
    }

    /// Removes the key at `place`; what it had left or owed is forgotten.
    pub(crate) fn remove(&mut self, place: Place) {
        if self.head == place.0 {
            self.rotate();
        }
        let Some(entry) = self.ring.try_remove(place.0 as usize) else { return };
        if let Some(previous) = self.ring.get_mut(entry.previous as usize) {
            previous.next = entry.next;
        }
        if let Some(next) = self.ring.get_mut(entry.next as usize) {
            next.previous = entry.previous;
        }
    }

    /// Whose turn it is, and how many bytes it should send at most, if that is one datagram or more.
    ///
    /// `quantum` tells how many bytes a turn of a key has. A key alone may send without end.
    pub(crate) fn head(&mut self, quantum: impl Fn(K) -> u64) -> Option<(Place, K, u64)> {
        loop {
            let alone = self.ring.len() == 1;
            let entry = self.ring.get_mut(self.head as usize)?;
            if alone {
                entry.credit = 0;
                return Some((Place(self.head), entry.key, u64::MAX));
            }
            if self.quantum.is_none() {
                let quantum = i64::try_from(quantum(entry.key)).unwrap_or(i64::MAX).max(1);
                self.quantum = Some(quantum);
                let most = MAX_DEBT.saturating_mul(quantum).max(LEAST_MAX_DEBT);
                entry.credit = entry.credit.max(-most).saturating_add(quantum);
            }
            if entry.credit > 0 {
                return Some((Place(self.head), entry.key, entry.credit.unsigned_abs()));
            }
            self.rotate();
        }
    }

    /// Counts `bytes` that the key at `place` sent, or cost.
    pub(crate) fn spend(&mut self, place: Place, bytes: u64) {
        if self.ring.len() == 1 {
            return;
        }
        let Some(entry) = self.ring.get_mut(place.0 as usize) else { return };
        entry.credit = entry.credit.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        let credit = entry.credit;
        if place.0 == self.head
            && let Some(quantum) = self.quantum
            && credit < (quantum / 4).clamp(1, MAX_CRUMB)
        {
            self.rotate();
        }
    }

    fn rotate(&mut self) {
        if let Some(head) = self.ring.get(self.head as usize) {
            self.head = head.next;
        }
        self.quantum = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    const QUANTUM: u64 = 65_536;
    const DATAGRAM: u64 = 1472;
    /// The longest UDP payload of IPv4.
    const MAX_DATAGRAM: u64 = 65_507;

    /// What two keys may be apart over any stretch: a quantum, and what a turn may fall short of it or exceed it by.
    const fn apart(quantum: u64, datagram: u64) -> u64 {
        quantum + 2 * (MAX_CRUMB as u64 + datagram)
    }

    /// What a key does at its turn.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// Sends as much of so many datagrams of such a size as it may.
        Send(u64, u64),
        /// Leaves, and comes back at once or later.
        Leave(bool),
        /// Another one comes, if there are not too many.
        Join,
        /// Any one leaves.
        Drop(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            40 => (1_u64..64, 64..=MAX_DATAGRAM).prop_map(|(count, size)| Step::Send(count, size)),
            1 => any::<bool>().prop_map(Step::Leave),
            2 => Just(Step::Join),
            1 => any::<usize>().prop_map(Step::Drop),
        ]
    }

    #[test]
    fn a_key_alone_has_no_bounds_and_owes_nothing() {
        let mut queue = FairQueue::default();
        let alone = queue.insert('a');
        assert_eq!(queue.head(|_| QUANTUM), Some((alone, 'a', u64::MAX)));
        queue.spend(alone, 10 << 20);
        queue.insert('b');
        let mut sent = BTreeMap::new();
        for _ in 0..20 {
            let (place, key, share) = queue.head(|_| QUANTUM).unwrap();
            *sent.entry(key).or_insert(0) += share;
            queue.spend(place, share);
        }
        assert_eq!(sent[&'a'], sent[&'b'], "what was sent alone is not held against it");
    }

    #[test]
    fn turns_are_as_long_as_their_quantum_says() {
        let mut queue = FairQueue::default();
        for key in [1_u64, 2, 5] {
            queue.insert(key);
        }
        let mut sent = BTreeMap::new();
        for _ in 0..300 {
            let (place, key, share) = queue.head(|key| key * QUANTUM).unwrap();
            *sent.entry(key).or_insert(0) += share.min(50_000);
            queue.spend(place, share.min(50_000));
        }
        let unit = sent[&1];
        let apart = apart(QUANTUM, DATAGRAM);
        assert!(sent[&2].abs_diff(2 * unit) <= 3 * apart && sent[&5].abs_diff(5 * unit) <= 6 * apart, "{sent:?}");
    }

    #[test]
    fn a_debt_is_paid_by_turns_passed_over() {
        let mut queue = FairQueue::default();
        let [debtor, _] = ['a', 'b'].map(|key| queue.insert(key));
        queue.spend(debtor, u64::MAX);
        let mut order = Vec::new();
        for _ in 0..10 {
            let (place, key, share) = queue.head(|_| QUANTUM).unwrap();
            order.push(key);
            queue.spend(place, share);
        }
        assert_eq!(order.iter().take_while(|&&key| key == 'b').count(), MAX_DEBT as usize, "{order:?}");
        assert!(order[MAX_DEBT as usize..].contains(&'a'));
    }

    proptest! {
        #[test]
        fn any_two_keys_stay_within_a_quantum_over_any_stretch(
            // Turns as short and as long as a limit makes them, and chunks of any size.
            quantum in prop::sample::select(&[DATAGRAM, 5_000, QUANTUM]),
            datagram in prop::sample::select(&[DATAGRAM, 16_500, MAX_DATAGRAM]),
            count in 2_u32..12,
            steps in prop::collection::vec(step(), 1..600),
        ) {
            let mut queue = FairQueue::default();
            let mut places: BTreeMap<u32, Place> = BTreeMap::new();
            for key in 0..count {
                places.insert(key, queue.insert(key));
            }
            let mut fresh = count;
            // For each pair since both are there: how far the first is ahead, at least and at most so far.
            let mut ahead: BTreeMap<(u32, u32), (i64, i64, i64)> = BTreeMap::new();
            let mut unserved: BTreeMap<u32, usize> = BTreeMap::new();
            for step in steps {
                let leaves = match step {
                    Step::Send(count, size) if places.len() > 1 => {
                        let (place, key, share) = queue.head(|_| quantum).unwrap();
                        prop_assert_eq!(places[&key], place);
                        let size = size.min(datagram);
                        let bytes = (share / size).clamp(1, count) * size;
                        queue.spend(place, bytes);
                        for &other in places.keys().filter(|&&other| other != key) {
                            let sign = if key < other { 1 } else { -1 };
                            let entry = ahead.entry((key.min(other), key.max(other))).or_default();
                            entry.0 += sign * bytes.cast_signed();
                            (entry.1, entry.2) = (entry.1.min(entry.0), entry.2.max(entry.0));
                            prop_assert!((entry.2 - entry.1).unsigned_abs() <= apart(quantum, datagram), "{} and {}: {:?}", key, other, entry);
                            *unserved.entry(other).or_default() += 1;
                        }
                        unserved.remove(&key);
                        // No turn takes more calls than the smallest batch needs.
                        let longest = unserved.values().max().copied().unwrap_or_default();
                        let turns = datagram / quantum + 2;
                        let most = places.len() as u64 * turns * ((quantum + datagram) / 64 + 1);
                        prop_assert!(longest as u64 <= most, "{:?}", unserved);
                        None
                    }
                    Step::Send(..) => None,
                    Step::Leave(returns) => queue.head(|_| quantum).map(|(_, key, _)| (key, returns)),
                    Step::Join => {
                        if places.len() < 20 {
                            places.insert(fresh, queue.insert(fresh));
                            fresh += 1;
                        }
                        None
                    }
                    Step::Drop(n) => places.keys().nth(n % places.len().max(1)).map(|&key| (key, false)),
                };
                if let Some((key, returns)) = leaves {
                    queue.remove(places.remove(&key).unwrap());
                    ahead.retain(|pair, _| pair.0 != key && pair.1 != key);
                    unserved.remove(&key);
                    if returns {
                        places.insert(key, queue.insert(key));
                    }
                }
                if places.len() == 1 {
                    ahead.clear();
                }
                prop_assert_eq!(queue.len(), places.len());
                prop_assert_eq!(queue.is_empty(), places.is_empty());
            }
        }
    }
}
