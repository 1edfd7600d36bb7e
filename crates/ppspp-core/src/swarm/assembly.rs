//! Verified chunks on their way to storage: gathered by group, so that one write serves many chunks.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use crate::chunk::{ChunkIndex, ChunkRange, Geometry, GroupIndex};
use crate::time::Instant;

/// Verified bytes ready to be stored.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) range: ChunkRange,
    pub(crate) offset: u64,
    pub(crate) data: Bytes,
}

/// The verified chunks of one group that are not handed out yet: bit n is the group's n-th chunk.
#[derive(Debug)]
struct Buffer {
    chunks: u32,
    data: Vec<u8>,
}

/// Buffers of groups being filled.
#[derive(Debug)]
pub(crate) struct Assembly {
    buffers: BTreeMap<GroupIndex, Buffer>,
    /// Groups in the order in which their buffers were begun; some may be gone.
    begun: VecDeque<(Instant, GroupIndex)>,
    flush_after: Duration,
}

impl Assembly {
    pub(crate) const fn new(flush_after: Duration) -> Self {
        Self { buffers: BTreeMap::new(), begun: VecDeque::new(), flush_after }
    }

    /// Takes in a verified chunk.
    pub(crate) fn add(&mut self, now: Instant, geometry: &Geometry, chunk: ChunkIndex, payload: &[u8]) {
        let group = geometry.group_of(chunk);
        let chunks = geometry.group_chunks(group);
        let begun = &mut self.begun;
        let buffer = self.buffers.entry(group).or_insert_with(|| {
            begun.push_back((now, group));
            let bytes = geometry.byte_range(chunks);
            Buffer { chunks: 0, data: vec![0; (bytes.end - bytes.start) as usize] }
        });
        let place = (chunk.value() - chunks.start()) as usize;
        let start = place * geometry.chunk_size().bytes() as usize;
        if let Some(target) = buffer.data.get_mut(start..start + payload.len()) {
            target.copy_from_slice(payload);
            buffer.chunks |= 1 << place;
        }
    }

    /// Hands out what was gathered of `group`: all of it in one piece, or each run.
    pub(crate) fn take(&mut self, geometry: &Geometry, group: GroupIndex, parcels: &mut Vec<Parcel>) {
        let Some(buffer) = self.buffers.remove(&group) else { return };
        while self.begun.front().is_some_and(|(_, begun)| !self.buffers.contains_key(begun)) {
            self.begun.pop_front();
        }
        let chunks = geometry.group_chunks(group);
        let offset = geometry.offset(ChunkIndex::new(chunks.start()));
        if u64::from(buffer.chunks.count_ones()) == chunks.count() {
            parcels.push(Parcel { range: chunks, offset, data: Bytes::from(buffer.data) });
            return;
        }
        let data = Bytes::from(buffer.data);
        let mut rest = buffer.chunks;
        while rest != 0 {
            let start = rest.trailing_zeros();
            let len = (rest >> start).trailing_ones();
            rest &= rest.wrapping_add(1 << start);
            let range = ChunkRange::new(chunks.start() + u64::from(start), chunks.start() + u64::from(start + len));
            let bytes = geometry.byte_range(range);
            let piece = data.slice((bytes.start - offset) as usize..(bytes.end - offset) as usize);
            parcels.push(Parcel { range, offset: bytes.start, data: piece });
        }
    }

    /// When the oldest buffer is handed out as it is.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.begun.front().map(|&(at, _)| at + self.flush_after)
    }

    /// Hands out buffers that have waited long enough.
    pub(crate) fn flush(&mut self, now: Instant, geometry: &Geometry, parcels: &mut Vec<Parcel>) {
        while self.deadline().is_some_and(|at| at <= now) {
            let Some((_, group)) = self.begun.pop_front() else { return };
            self.take(geometry, group, parcels);
        }
    }

    /// Hands out everything.
    pub(crate) fn flush_all(&mut self, geometry: &Geometry, parcels: &mut Vec<Parcel>) {
        while let Some((_, group)) = self.begun.pop_front() {
            self.take(geometry, group, parcels);
        }
    }
}
