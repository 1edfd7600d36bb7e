//! Which channels may have something to send, and when which deadline passes: both found without a search.

use alloc::collections::{BTreeSet, VecDeque};

use crate::schedule::PeerSlot;
use crate::time::Instant;

/// Slot of a swarm in the endpoint.
pub(crate) type SwarmSlot = u32;

/// What a deadline belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Timer {
    Swarm(SwarmSlot),
    Channel(SwarmSlot, PeerSlot),
    /// The endpoint's upload limit lets DATA pass again.
    Up,
    /// The endpoint's download limit lets REQUESTs pass again.
    Down,
    /// The channels that send are counted again.
    Share,
}

/// Channels that may have something to send, each at most once, in the order of becoming so.
#[derive(Debug, Default)]
pub(crate) struct ReadyQueue {
    queue: VecDeque<(SwarmSlot, PeerSlot)>,
}

impl ReadyQueue {
    pub(crate) fn push(&mut self, swarm: SwarmSlot, peer: PeerSlot) {
        self.queue.push_back((swarm, peer));
    }

    pub(crate) fn pop(&mut self) -> Option<(SwarmSlot, PeerSlot)> {
        self.queue.pop_front()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}

/// Deadlines in order.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    set: BTreeSet<(Instant, Timer)>,
}

impl Timers {
    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.set.first().map(|&(at, _)| at)
    }

    /// Takes a timer whose deadline has passed.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let &(at, timer) = self.set.first()?;
        if at > now {
            return None;
        }
        self.set.pop_first();
        Some(timer)
    }

    /// Makes sure that `timer` goes off by `at`. One that goes off earlier is left alone: its owner sets it anew then,
    /// which spares a move for each datagram.
    pub(crate) fn arm(&mut self, timer: Timer, armed: &mut Option<Instant>, at: Instant) {
        if armed.is_some_and(|armed| armed <= at) {
            return;
        }
        self.disarm(timer, armed);
        self.set.insert((at, timer));
        *armed = Some(at);
    }

    /// Forgets `timer`.
    pub(crate) fn disarm(&mut self, timer: Timer, armed: &mut Option<Instant>) {
        if let Some(at) = armed.take() {
            self.set.remove(&(at, timer));
        }
    }
}
