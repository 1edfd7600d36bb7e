//! Channels that are to be looked at once a swarm has done what it was called for.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::schedule::PeerSlot;

/// Fewest entries after which those that come twice are looked for.
const FEW: usize = 64;

/// Slots of channels to wake, the latest woken first.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    /// One may be in it several times: the last counts.
    slots: Vec<PeerSlot>,
    /// Different ones among them when that was last looked at.
    different: usize,
}

impl Wake {
    /// Wakes `slot` before all others. Takes no more memory than [`FEW`] entries and twice as many as there are channels,
    /// however often one message after the other wakes everyone.
    #[inline]
    pub(crate) fn push(&mut self, slot: PeerSlot) {
        if self.slots.len() >= FEW + 2 * self.different {
            self.drop_repeats();
        }
        self.slots.push(slot);
    }

    /// The next to wake.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<PeerSlot> {
        let next = self.slots.pop();
        if next.is_none() {
            self.different = 0;
        }
        next
    }

    #[inline(never)]
    fn drop_repeats(&mut self) {
        let mut seen = BTreeSet::new();
        let mut kept: Vec<PeerSlot> = self.slots.drain(..).rev().filter(|&slot| seen.insert(slot)).collect();
        kept.reverse();
        self.slots.extend(&kept);
        self.different = kept.len();
    }
}

impl Extend<PeerSlot> for Wake {
    fn extend<I: IntoIterator<Item = PeerSlot>>(&mut self, slots: I) {
        slots.into_iter().for_each(|slot| self.push(slot));
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    #[test]
    fn the_latest_is_the_first_and_repeats_take_no_memory() {
        let mut wake = Wake::default();
        for peers in [1, 40, 3000] {
            for _ in 0..50 {
                wake.extend(0..peers);
                assert!(wake.slots.len() <= FEW + 2 * peers as usize, "{}", wake.slots.len());
            }
            wake.push(peers / 2);
            let mut order: Vec<PeerSlot> = Vec::new();
            while let Some(slot) = wake.pop() {
                if !order.contains(&slot) {
                    order.push(slot);
                }
            }
            let mut expected = vec![peers / 2];
            expected.extend((0..peers).rev().filter(|&slot| slot != peers / 2));
            assert_eq!(order, expected);
        }
    }
}
