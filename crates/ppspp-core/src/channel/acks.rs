//! When what one peer sent us is acknowledged (R14).

use alloc::vec::Vec;
use core::time::Duration;

use crate::chunk::{ChunkIndex, ChunkRange, RangeSet};
use crate::time::Instant;

/// DATA datagrams at a channel's start that are acknowledged in pairs.
const EAGER_DATAGRAMS: u64 = 256;
/// Waiting datagrams that make an ACK due at a channel's start.
const EAGER_WAITING: u32 = 2;
/// Waiting datagrams that make an ACK due later on.
const WAITING: u32 = 32;
/// Most chunks that wait to be put in order.
const MAX_FRESH: usize = 64;
/// Bounds on the delay of an ACK, an eighth of the round-trip time.
const MIN_DELAY: Duration = Duration::from_micros(500);
const MAX_DELAY: Duration = Duration::from_millis(10);

/// A chunk that arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) chunk: ChunkIndex,
    /// When it was sent, in microseconds by the sender's clock.
    pub(crate) timestamp: u64,
    pub(crate) at: Instant,
}

/// Chunks to acknowledge and the delay sample to go with them.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    pending: RangeSet,
    /// Chunks that are not in `pending` yet: they come in the sender's order, and are put in order together.
    fresh: Vec<ChunkIndex>,
    waiting: u32,
    received: u64,
    newest_timestamp: Option<u64>,
    newest_delay: u64,
    /// The smallest delay seen: clocks are unrelated, so that it tells nothing by itself.
    base_delay: Option<u64>,
    due: Option<Instant>,
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
        for Arrival { chunk, timestamp, at } in arrivals {
            self.fresh.push(chunk);
            if self.fresh.len() >= MAX_FRESH {
                self.put_in_order();
            }
            self.waiting += 1;
            self.received += 1;
            let limit = if self.received <= EAGER_DATAGRAMS { EAGER_WAITING } else { WAITING };
            due |= !self.sample(timestamp, at) || self.waiting >= limit;
        }
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

    /// When an ACK is due.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.due
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

    fn put_in_order(&mut self) {
        self.fresh.sort_unstable();
        self.pending.merge(self.fresh.iter().copied().map(ChunkRange::single));
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
