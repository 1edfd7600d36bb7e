//! A host's disk: slow, small, forgetful or rotting, as the scenario says.
//!
//! A disk keeps no bytes. What it holds is the source content's bytes, kept by reference, with a note of every octet
//! that differs. So a thousand hosts with the same content cost what one costs.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use ppspp_core::chunk::{ChunkRange, Geometry, RangeSet};
use ppspp_core::{ReadToken, SwarmId};

use crate::content::Content;
use crate::rng::Stream;
use crate::time::SimTime;

/// What a disk is like.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct DiskSpec {
    /// Time that each operation takes besides moving its bytes.
    pub latency: Duration,
    /// Bytes per second, reads and writes together; `None` if moving bytes takes no time.
    pub bandwidth: Option<u64>,
    /// Bytes it can hold of the content; writes beyond fail.
    pub capacity: u64,
    /// A crash loses what was written within this time.
    pub sync_after: Duration,
    /// Share of reads that come back with an octet changed.
    pub corrupt_reads: f64,
}

impl Default for DiskSpec {
    /// A disk without flaws that takes no time.
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            bandwidth: None,
            capacity: u64::MAX,
            sync_after: Duration::ZERO,
            corrupt_reads: 0.0,
        }
    }
}

/// An operation that takes time.
#[derive(Debug)]
pub(crate) enum Operation {
    Read {
        token: ReadToken,
        range: ChunkRange,
    },
    /// `None` once nobody waits for it.
    Write {
        swarm: Option<SwarmId>,
        range: ChunkRange,
    },
}

/// A disk at work.
#[derive(Debug)]
pub struct Disk {
    pub(crate) spec: DiskSpec,
    content: Content,
    stored: RangeSet,
    /// Octets that differ from the content, by offset: what they are to be combined with by exclusive or.
    flips: BTreeMap<u64, u8>,
    unsynced: VecDeque<(SimTime, ChunkRange)>,
    busy_until: SimTime,
    pending: BTreeMap<u64, Operation>,
    serial: u64,
    rng: Stream,
}

impl Disk {
    pub(crate) fn new(spec: DiskSpec, content: Content, rng: Stream) -> Self {
        Self {
            spec,
            content,
            stored: RangeSet::new(),
            flips: BTreeMap::new(),
            unsynced: VecDeque::new(),
            busy_until: SimTime::ZERO,
            pending: BTreeMap::new(),
            serial: 0,
            rng,
        }
    }

    /// Whether `range` was written, and not lost in a crash.
    pub fn has_stored(&self, range: ChunkRange) -> bool {
        self.stored.covers(range)
    }

    /// Whether it holds every byte of `range` as the content has it.
    pub fn holds(&self, range: ChunkRange) -> bool {
        self.stored.covers(range) && (self.flips.is_empty() || !self.differs(range))
    }

    /// Bytes it holds.
    pub fn bytes_stored(&self) -> u64 {
        self.stored.runs().map(|run| length(self.content.geometry(), run)).sum()
    }

    /// The chunks it holds.
    pub(crate) const fn stored(&self) -> &RangeSet {
        &self.stored
    }

    fn differs(&self, range: ChunkRange) -> bool {
        self.flips.range(self.content.geometry().byte_range(range)).next().is_some()
    }

    /// Everything is there, since long ago.
    pub(crate) fn fill(&mut self) {
        self.stored.insert(self.content.geometry().all());
    }

    /// Forgets everything.
    pub(crate) fn wipe(&mut self) {
        self.stored.clear();
        self.flips.clear();
        self.unsynced.clear();
    }

    /// Changes the octet at `offset`.
    pub(crate) fn rot(&mut self, offset: u64) {
        self.flips.insert(offset, 1 << (offset % 8));
    }

    /// When an operation on `bytes` that begins now is done; `None` if it takes no time.
    pub(crate) fn schedule(&mut self, now: SimTime, range: ChunkRange) -> Option<SimTime> {
        if self.spec.latency.is_zero() && self.spec.bandwidth.is_none() {
            return None;
        }
        let bytes = length(self.content.geometry(), range);
        let moving = self.spec.bandwidth.map_or(0, |rate| bytes.saturating_mul(1_000_000_000) / rate.max(1));
        self.busy_until = self.busy_until.max(now) + Duration::from_nanos(moving);
        Some(self.busy_until + self.spec.latency)
    }

    /// Remembers an operation until it is done; its number.
    pub(crate) fn begin(&mut self, operation: Operation) -> u64 {
        self.serial += 1;
        self.pending.insert(self.serial, operation);
        self.serial
    }

    /// The process goes: what it handed over is written all the same, and nothing comes back to another one.
    pub(crate) fn release(&mut self) {
        self.pending.retain(|_, operation| match operation {
            Operation::Read { .. } => false,
            Operation::Write { swarm, .. } => {
                *swarm = None;
                true
            }
        });
    }

    /// The operation that is done; `None` if it ended with who asked for it.
    pub(crate) fn end(&mut self, number: u64) -> Option<Operation> {
        self.pending.remove(&number)
    }

    /// Reads `range`; what was lost reads as zeros.
    pub(crate) fn read(&mut self, range: ChunkRange) -> Bytes {
        let geometry = *self.content.geometry();
        let span = geometry.byte_range(range);
        let corrupt = self.rng.chance(self.spec.corrupt_reads);
        if !corrupt && self.holds(range) {
            return self.content.slice(range);
        }
        let mut bytes = self.content.slice(range).to_vec();
        for run in self.stored.missing_in(range) {
            let gap = geometry.byte_range(run);
            bytes[(gap.start - span.start) as usize..(gap.end - span.start) as usize].fill(0);
        }
        for (&offset, &mask) in self.flips.range(span.clone()) {
            bytes[(offset - span.start) as usize] ^= mask;
        }
        if corrupt {
            let place = self.rng.below(bytes.len() as u64) as usize;
            bytes[place] ^= 0x40;
        }
        Bytes::from(bytes)
    }

    /// Writes `range`; false if it is full.
    pub(crate) fn write(&mut self, now: SimTime, range: ChunkRange) -> bool {
        let geometry = *self.content.geometry();
        if self.spec.capacity != u64::MAX
            && self.bytes_stored() + length(&geometry, range) > self.spec.capacity
            && !self.stored.covers(range)
        {
            return false;
        }
        self.stored.insert(range);
        if !self.flips.is_empty() {
            let span = geometry.byte_range(range);
            self.flips.retain(|offset, _| !span.contains(offset));
        }
        if !self.spec.sync_after.is_zero() {
            while self.unsynced.front().is_some_and(|(at, _)| now.since(*at) >= self.spec.sync_after) {
                self.unsynced.pop_front();
            }
            self.unsynced.push_back((now, range));
        }
        true
    }

    /// The power goes: operations end, and what was written last is lost.
    pub(crate) fn crash(&mut self, now: SimTime) {
        self.pending.clear();
        self.busy_until = now;
        for (at, range) in self.unsynced.drain(..) {
            if now.since(at) < self.spec.sync_after {
                self.stored.remove(range);
            }
        }
    }
}

const fn length(geometry: &Geometry, range: ChunkRange) -> u64 {
    let bytes = geometry.byte_range(range);
    bytes.end - bytes.start
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::ContentSpec;
    use crate::rng::Streams;

    fn disk(spec: DiskSpec) -> Disk {
        let content = Content::new(ContentSpec::new(10_000), 5).unwrap();
        Disk::new(spec, content, Streams::new(1).stream("disk"))
    }

    #[test]
    fn it_holds_what_was_written() {
        let mut disk = disk(DiskSpec::default());
        let range = ChunkRange::new(8, 10);
        assert!(disk.write(SimTime::ZERO, range));
        assert!(disk.holds(range) && !disk.holds(ChunkRange::new(7, 10)));
        assert_eq!(disk.bytes_stored(), 10_000 - 8 * 1024);
        assert_eq!(disk.read(range), disk.content.slice(range));
        disk.rot(9000);
        assert!(!disk.holds(range));
        assert_ne!(disk.read(range), disk.content.slice(range));
        disk.write(SimTime::ZERO, range);
        assert!(disk.holds(range));
    }

    #[test]
    fn a_full_disk_refuses_and_a_crash_loses() {
        let mut disk = disk(DiskSpec { capacity: 3000, sync_after: Duration::from_secs(5), ..DiskSpec::default() });
        let at = |secs| SimTime::ZERO + Duration::from_secs(secs);
        assert!(disk.write(at(0), ChunkRange::new(0, 1)));
        assert!(disk.write(at(4), ChunkRange::new(1, 2)));
        assert!(!disk.write(at(4), ChunkRange::new(2, 3)));
        disk.crash(at(6));
        assert!(disk.holds(ChunkRange::new(0, 1)) && !disk.holds(ChunkRange::new(1, 2)));
        assert!(disk.read(ChunkRange::new(1, 2)).iter().all(|&octet| octet == 0));
    }

    #[test]
    fn operations_take_their_time_one_after_the_other() {
        let spec = DiskSpec { latency: Duration::from_millis(5), bandwidth: Some(1_024_000), ..DiskSpec::default() };
        let mut disk = disk(spec);
        let done = |disk: &mut Disk| disk.schedule(SimTime::ZERO, ChunkRange::new(0, 2)).unwrap().as_nanos() / 1000;
        assert_eq!([done(&mut disk), done(&mut disk)], [7000, 9000]);
    }
}
