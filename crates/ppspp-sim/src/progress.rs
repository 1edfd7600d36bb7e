//! Progress over time, for plots and for scenarios that measure a part of a run.

use std::time::Duration;

use crate::id::HostId;
use crate::link::Pipe;
use crate::network::Line;
use crate::time::SimTime;

/// Time between two columns at first.
const STEP: Duration = Duration::from_millis(100);
/// Columns at most: every second one goes when there are so many, and from then on the time between two is double. Odd,
/// so that the first and the last stay.
const MOST: usize = 1201;

/// How all uplinks, or all downlinks, fared since the column before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Use {
    /// Wire bytes that left their queues.
    pub carried: u64,
    /// Wire bytes that could have; links without a rate are in neither.
    pub capacity: u64,
    /// Packets that entered the queues of all links.
    pub packets: u64,
    /// Sum of the waits of those, in nanoseconds.
    pub waited_nanos: u64,
    /// The longest queue at the moment.
    pub longest: Duration,
}

/// Progress over time, column by column. The first is the beginning.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    pub(crate) times: Vec<SimTime>,
    pub(crate) stored: Vec<Vec<u64>>,
    pub(crate) up: Vec<Use>,
    pub(crate) down: Vec<Use>,
    step: Duration,
    /// Bytes, packets and waits of all uplinks and all downlinks until the last column.
    before: [[u64; 3]; 2],
}

impl Progress {
    pub(crate) fn new(hosts: usize) -> Self {
        let (times, up, down) = (Vec::new(), Vec::new(), Vec::new());
        Self { times, stored: vec![Vec::new(); hosts], up, down, step: STEP, before: [[0; 3]; 2] }
    }

    /// Takes a column; returns when the next is due.
    pub(crate) fn add(&mut self, now: SimTime, stored: impl Iterator<Item = u64>, lines: &[Line]) -> SimTime {
        let last = self.times.last().copied().unwrap_or_default();
        self.times.push(now);
        self.stored.iter_mut().zip(stored).for_each(|(column, bytes)| column.push(bytes));
        let [up, down] = &mut self.before;
        self.up.push(used(last, now, lines, |line| &line.up, up));
        self.down.push(used(last, now, lines, |line| &line.down, down));
        if self.times.len() >= MOST {
            self.thin_out();
        }
        now + self.step
    }

    /// Makes one column of two. The first stays alone.
    fn thin_out(&mut self) {
        self.step *= 2;
        every_second(&mut self.times);
        self.stored.iter_mut().for_each(every_second);
        for uses in [&mut self.up, &mut self.down] {
            let pairs = uses.get(1..).unwrap_or_default().chunks_exact(2).map(|pair| Use {
                carried: pair[0].carried + pair[1].carried,
                capacity: pair[0].capacity + pair[1].capacity,
                packets: pair[0].packets + pair[1].packets,
                waited_nanos: pair[0].waited_nanos + pair[1].waited_nanos,
                longest: pair[0].longest.max(pair[1].longest),
            });
            *uses = uses.first().copied().into_iter().chain(pairs).collect();
        }
    }

    /// When each column was taken.
    pub fn times(&self) -> &[SimTime] {
        &self.times
    }

    /// Bytes that `host` had stored then; for nodes, bytes they delivered.
    pub fn stored(&self, host: HostId) -> &[u64] {
        self.stored.get(host.index()).map_or(&[], Vec::as_slice)
    }

    /// Use of all uplinks, column by column.
    pub fn up(&self) -> &[Use] {
        &self.up
    }

    /// Use of all downlinks, column by column.
    pub fn down(&self) -> &[Use] {
        &self.down
    }

    /// What `host` had stored at `at`: the last column that was taken until then.
    pub fn stored_at(&self, host: HostId, at: SimTime) -> u64 {
        let column = self.times.partition_point(|time| *time <= at).checked_sub(1);
        column.and_then(|column| self.stored(host).get(column).copied()).unwrap_or(0)
    }
}

fn every_second<T: Copy>(column: &mut Vec<T>) {
    let kept = column.iter().copied().step_by(2).collect();
    *column = kept;
}

fn used(last: SimTime, now: SimTime, lines: &[Line], way: fn(&Line) -> &Pipe, before: &mut [u64; 3]) -> Use {
    let (mut sum, mut capacity, mut longest) = ([0; 3], 0, Duration::ZERO);
    for pipe in lines.iter().map(way) {
        let stats = pipe.stats(now);
        let so_far = [stats.bytes, stats.queued, stats.waited_nanos];
        sum.iter_mut().zip(so_far).for_each(|(sum, part)| *sum += part);
        capacity += pipe.capacity(last, now);
        longest = longest.max(pipe.backlog(now));
    }
    let [carried, packets, waited_nanos] = [0, 1, 2].map(|index| sum[index] - before[index]);
    *before = sum;
    Use { carried, capacity, packets, waited_nanos, longest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_thinned_out_and_stay_even() {
        let mut progress = Progress::new(1);
        let mut now = SimTime::ZERO;
        // Each column stores as many bytes as milliseconds have passed.
        while now < SimTime::ZERO + Duration::from_secs(1000) {
            let millis = now.as_nanos() / 1_000_000;
            now = progress.add(now, std::iter::once(millis), &[]);
        }
        assert!(progress.times.len() < MOST && progress.times.len() > MOST / 3, "{}", progress.times.len());
        assert!([progress.stored[0].len(), progress.up.len(), progress.down.len()] == [progress.times.len(); 3]);
        let steps: Vec<_> = progress.times.windows(2).map(|pair| pair[1].since(pair[0])).collect();
        assert!(steps.iter().all(|step| *step == steps[0]));
        let at = |secs| progress.stored_at(HostId(0), SimTime::ZERO + Duration::from_secs(secs));
        assert_eq!([at(0), at(400)], [0, 400_000]);
        assert_eq!(progress.stored_at(HostId(7), SimTime::ZERO), 0);
    }
}
