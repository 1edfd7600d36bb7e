//! One direction of a link at work.

use std::time::Duration;

use super::codel::CoDel;
use super::{PipeSpec, QueueSpec};
use crate::packet::Size;
use crate::rng::Stream;
use crate::time::SimTime;

/// What became of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Carried {
    /// It arrives.
    Arrives {
        /// When.
        at: SimTime,
        /// When it arrives a second time, if it does.
        again: Option<SimTime>,
        /// Which bit of it is flipped, as any number: the packet's length reduces it.
        flipped: Option<u64>,
    },
    /// There was no room, or the queue stood too long.
    Overflow,
    /// It is lost on the way.
    Lost,
    /// It is larger than the path allows.
    TooLarge,
}

/// What a pipe carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct PipeStats {
    /// Packets offered.
    pub packets: u64,
    /// Packets that the queue took in; without a rate there is none.
    pub queued: u64,
    /// Wire bytes that left the queue.
    pub bytes: u64,
    /// Packets dropped by the queue.
    pub overflows: u64,
    /// Packets lost at random.
    pub lost: u64,
    /// Packets larger than the path allows.
    pub too_large: u64,
    /// Packets that arrived a second time.
    pub duplicated: u64,
    /// Sum of all waiting times in the queue, in nanoseconds.
    pub waited_nanos: u64,
    /// The longest of them.
    pub longest_wait_nanos: u64,
}

/// One direction of a link. The queue is first in, first out, and what is in it leaves at the rate it found, so when a
/// packet leaves is known when it enters: a pipe needs no events of its own.
#[derive(Debug)]
pub(crate) struct Pipe {
    spec: PipeSpec,
    /// Rates it had before, none as zero, and until when: a queue empties at the rate that its packets found.
    before: Vec<(SimTime, u64)>,
    rng: Option<Box<Stream>>,
    /// When the last packet in the queue will have left.
    busy_until: SimTime,
    /// When the last packet in order arrives.
    last_arrival: SimTime,
    /// Whether a burst of loss lasts.
    bad: bool,
    codel: CoDel,
    /// Its bytes are those that the queue took in.
    stats: PipeStats,
}

impl Pipe {
    /// A pipe that draws from `rng` if it draws at all.
    pub(crate) fn new(spec: PipeSpec, rng: impl FnOnce() -> Stream) -> Self {
        let rng = spec.is_random().then(|| Box::new(rng()));
        Self {
            spec,
            before: Vec::new(),
            rng,
            busy_until: SimTime::ZERO,
            last_arrival: SimTime::ZERO,
            bad: false,
            codel: CoDel::default(),
            stats: PipeStats::default(),
        }
    }

    /// What it carried.
    pub(crate) fn stats(&self, now: SimTime) -> PipeStats {
        PipeStats { bytes: self.stats.bytes.saturating_sub(self.waiting(now)), ..self.stats }
    }

    /// How long a packet that came now would wait.
    pub(crate) const fn backlog(&self, now: SimTime) -> Duration {
        self.busy_until.since(now)
    }

    /// Another pipe from now on; packets on their way are not touched.
    pub(crate) fn change(&mut self, now: SimTime, spec: PipeSpec, rng: impl FnOnce() -> Stream) {
        if spec.is_random() && self.rng.is_none() {
            self.rng = Some(Box::new(rng()));
        }
        if spec.rate != self.spec.rate {
            self.before.push((self.busy_until.max(now), self.spec.rate.unwrap_or(0)));
        }
        self.spec = spec;
    }

    /// Wire bytes that leave the queue between two times, if it is never empty.
    pub(crate) fn capacity(&self, mut from: SimTime, to: SimTime) -> u64 {
        let over = self.before.partition_point(|(until, _)| *until <= from);
        let current = (SimTime::NEVER, self.spec.rate.unwrap_or(0));
        let mut bits = 0;
        for &(until, rate) in self.before[over..].iter().chain([&current]) {
            bits += until.min(to).since(from).as_nanos() * u128::from(rate);
            from = from.max(until);
        }
        u64::try_from(bits / 8_000_000_000).unwrap_or(u64::MAX)
    }

    /// Wire bytes in the queue.
    fn waiting(&self, now: SimTime) -> u64 {
        self.capacity(now, self.busy_until)
    }

    /// Takes a packet.
    pub(crate) fn carry(&mut self, now: SimTime, size: Size) -> Carried {
        self.stats.packets += 1;
        let Some(wire) = size.on_wire(self.spec.mtu) else {
            self.stats.too_large += 1;
            return Carried::TooLarge;
        };
        let Some(left) = self.enqueue(now, wire) else {
            self.stats.overflows += 1;
            return Carried::Overflow;
        };
        let Some(rng) = &mut self.rng else {
            return Carried::Arrives { at: left + self.spec.delay, again: None, flipped: None };
        };
        if self.spec.loss.strikes(&mut self.bad, rng) {
            self.stats.lost += 1;
            return Carried::Lost;
        }
        let late = rng.chance(self.spec.reorder);
        let mut at = left + self.spec.delay + jitter(self.spec.jitter, rng);
        if late {
            at = at + self.spec.reorder_delay;
        } else {
            at = at.max(self.last_arrival);
            self.last_arrival = at;
        }
        let again = rng.chance(self.spec.duplicate).then(|| at + jitter(self.spec.reorder_delay, rng));
        self.stats.duplicated += u64::from(again.is_some());
        let flipped = rng.chance(self.spec.corrupt).then(|| rng.number());
        Carried::Arrives { at, again, flipped }
    }

    /// When the packet will have left the queue; `None` if it is dropped.
    fn enqueue(&mut self, now: SimTime, wire: u32) -> Option<SimTime> {
        let start = self.busy_until.max(now);
        // What waited when the link lost its rate is not overtaken.
        let Some(rate) = self.spec.rate else { return Some(start) };
        let waits = start.since(now);
        let backlog = self.waiting(now);
        let room = match self.spec.queue {
            QueueSpec::DropTail { bytes } => bytes,
            QueueSpec::CoDel(spec) => {
                // What will be behind the packet when it leaves is not known yet: in a queue that stands, as much as
                // is before it now.
                let alone = backlog <= u64::from(self.spec.mtu);
                if self.codel.drops(&spec, start, waits, alone) {
                    return None;
                }
                spec.bytes
            }
        };
        if backlog > 0 && backlog + u64::from(wire) > room {
            return None;
        }
        self.stats.queued += 1;
        self.stats.bytes += u64::from(wire);
        let nanos = waits.as_nanos() as u64;
        self.stats.waited_nanos += nanos;
        self.stats.longest_wait_nanos = self.stats.longest_wait_nanos.max(nanos);
        self.busy_until = start + Duration::from_nanos(u64::from(wire) * 8_000_000_000 / rate);
        Some(self.busy_until)
    }
}

fn jitter(most: Duration, rng: &mut Stream) -> Duration {
    if most.is_zero() {
        return Duration::ZERO;
    }
    Duration::from_nanos(rng.below(most.as_nanos() as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Loss;
    use crate::rng::Streams;

    fn pipe(spec: PipeSpec) -> Pipe {
        Pipe::new(spec, || Streams::new(1).stream("pipe"))
    }

    fn arrival(carried: Carried) -> u128 {
        match carried {
            Carried::Arrives { at, .. } => at.since(SimTime::ZERO).as_micros(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_queue_delays_and_then_drops() {
        // 1,000 bytes take 8 ms; the queue holds 40 ms.
        let spec = PipeSpec::new(1_000_000, Duration::from_millis(10)).queue_of(Duration::from_millis(40));
        let mut pipe = pipe(spec);
        let arrivals: Vec<u128> = (0..5).map(|_| arrival(pipe.carry(SimTime::ZERO, Size::whole(1000)))).collect();
        assert_eq!(arrivals, [18_000, 26_000, 34_000, 42_000, 50_000]);
        assert_eq!(pipe.carry(SimTime::ZERO, Size::whole(1000)), Carried::Overflow);
        // One packet leaves, one fits.
        let later = SimTime::ZERO + Duration::from_millis(8);
        assert_eq!(arrival(pipe.carry(later, Size::whole(1000))), 58_000);
        assert_eq!(pipe.stats(SimTime::ZERO).overflows, 1);
        assert_eq!(pipe.stats(SimTime::ZERO).longest_wait_nanos, 32_000_000);
    }

    #[test]
    fn a_queue_holds_as_many_bytes_when_the_rate_changes() {
        // Five packets fit, and each takes 8 ms at first.
        let spec =
            |rate| PipeSpec { queue: QueueSpec::DropTail { bytes: 5000 }, ..PipeSpec::new(rate, Duration::ZERO) };
        let packet = Size::whole(1000);
        let at = |millis| SimTime::ZERO + Duration::from_millis(millis);
        for (rate, fifth) in [(100_000_000, 32_080), (100_000, 112_000)] {
            let mut pipe = pipe(spec(1_000_000));
            let last = (0..4).map(|_| arrival(pipe.carry(SimTime::ZERO, packet))).last();
            assert_eq!(last, Some(32_000));
            pipe.change(SimTime::ZERO, spec(rate), || unreachable!("nothing is drawn"));
            assert_eq!(arrival(pipe.carry(SimTime::ZERO, packet)), fifth);
            assert_eq!(pipe.carry(SimTime::ZERO, packet), Carried::Overflow);
            // Two have left after 16 ms. It may change once more.
            pipe.change(at(16), spec(500_000), || unreachable!("nothing is drawn"));
            let taken = (0..5).filter(|_| pipe.carry(at(16), packet) != Carried::Overflow).count();
            assert_eq!((taken, pipe.waiting(at(16))), (2, 5000));
        }
    }

    #[test]
    fn nothing_is_overtaken_when_a_link_loses_its_rate() {
        let mut pipe = pipe(PipeSpec::new(1_000_000, Duration::ZERO));
        assert_eq!(arrival(pipe.carry(SimTime::ZERO, Size::whole(1000))), 8000);
        pipe.change(SimTime::ZERO, PipeSpec::free(Duration::ZERO), || unreachable!("nothing is drawn"));
        assert_eq!(arrival(pipe.carry(SimTime::ZERO, Size::whole(1000))), 8000);
        let later = SimTime::from_nanos(9_000_000);
        assert_eq!(arrival(pipe.carry(later, Size::whole(1000))), 9000);
    }

    #[test]
    fn what_is_too_large_never_arrives() {
        let mut pipe = pipe(PipeSpec { mtu: 1400, ..PipeSpec::free(Duration::ZERO) });
        assert_eq!(pipe.carry(SimTime::ZERO, Size::whole(1401)), Carried::TooLarge);
        assert_eq!(arrival(pipe.carry(SimTime::ZERO, Size::whole(1400))), 0);
    }

    #[test]
    fn jitter_keeps_order_and_reordering_does_not() {
        let mut spec = PipeSpec::free(Duration::from_millis(10));
        spec.jitter = Duration::from_millis(5);
        let mut steady = pipe(spec.clone());
        let at = |pipe: &mut Pipe, index: u64| arrival(pipe.carry(SimTime::from_nanos(index * 1000), Size::whole(100)));
        let arrivals: Vec<u128> = (0..200).map(|index| at(&mut steady, index)).collect();
        assert!(arrivals.is_sorted());
        assert!(arrivals.first() != arrivals.last());
        let mut loose = pipe(PipeSpec { reorder: 0.2, ..spec });
        let arrivals: Vec<u128> = (0..200).map(|index| at(&mut loose, index)).collect();
        assert!(!arrivals.is_sorted());
    }

    #[test]
    fn everything_offered_is_accounted_for() {
        let mut spec = PipeSpec::new(1_000_000, Duration::ZERO).queue_of(Duration::from_millis(100));
        (spec.loss, spec.duplicate, spec.corrupt) = (Loss::Uniform(0.2), 0.1, 0.1);
        let mut pipe = pipe(spec);
        let mut arrived = 0;
        for index in 0..1000 {
            if let Carried::Arrives { again, .. } =
                pipe.carry(SimTime::from_nanos(index * 6_000_000), Size::whole(1000))
            {
                arrived += 1 + u64::from(again.is_some());
            }
        }
        let stats = pipe.stats(SimTime::NEVER);
        assert_eq!(stats.packets + stats.duplicated, arrived + stats.overflows + stats.lost + stats.too_large);
        assert!(stats.overflows > 0 && stats.lost > 0 && stats.duplicated > 0);
    }
}
