//! Chunks on their way to storage: gathered by group, so that one write serves many chunks.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::chunk::{ChunkIndex, ChunkRange, Geometry, GroupIndex, GroupMap};
use crate::integrity::full_mask;
use crate::schedule::PeerSlot;
use crate::time::Instant;

/// Buffers that were handed out and may come back: as many groups as a window of 1 MiB has.
const RECYCLED: usize = 64;

/// Verified bytes ready to be stored.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) range: ChunkRange,
    pub(crate) offset: u64,
    pub(crate) data: Bytes,
}

/// The chunks of one group that are not handed out yet: bit n is the group's n-th chunk.
#[derive(Debug)]
struct Buffer {
    /// All chunks of the group.
    all: u32,
    /// Chunks that were asked for when this was last looked up.
    asked: u32,
    verified: u32,
    /// Chunks whose bytes lie here and are still to be judged.
    staged: u32,
    /// The first of these, and whether the others are from the same peer.
    first: Source,
    alike: bool,
    data: BytesMut,
}

/// Which of all chunks that ever waited to be judged one is, and the peer it is from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Source {
    pub(crate) number: u64,
    pub(crate) slot: PeerSlot,
}

/// What the group of a chunk that waits has become by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fill {
    /// The number of the first of its chunks that wait.
    pub(crate) first: u64,
    /// Nothing of it is missing now.
    pub(crate) ends: bool,
    /// All of it waits, from one peer.
    pub(crate) whole: bool,
}

/// The chunks of one group that are still to be judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Staged<'a>(Option<&'a Buffer>);

impl<'a> Staged<'a> {
    /// The bytes of `chunk`, `len` of them; none if it does not wait here.
    #[inline]
    pub(crate) fn get(self, geometry: &Geometry, chunk: ChunkIndex, len: usize) -> &'a [u8] {
        let (bit, start) = place_of(geometry, chunk);
        let buffer = self.0.filter(|buffer| buffer.staged & bit != 0);
        buffer.and_then(|buffer| buffer.data.get(start..start + len)).unwrap_or_default()
    }
}

/// Buffers of groups being filled.
#[derive(Debug)]
pub(crate) struct Assembly {
    buffers: GroupMap<Buffer>,
    /// Groups in the order in which their buffers were begun; some may be gone.
    begun: VecDeque<(Instant, GroupIndex)>,
    /// Whole buffers that were handed out, next one to look at first: memory that is used again once storage has let
    /// go of it.
    handed_out: VecDeque<Bytes>,
    flush_after: Duration,
}

impl Assembly {
    pub(crate) const fn new(flush_after: Duration) -> Self {
        Self { buffers: GroupMap::new(), begun: VecDeque::new(), handed_out: VecDeque::new(), flush_after }
    }

    /// Puts a chunk that is yet to be judged into its place; `None` if one waits there already, it does not fit, or `asked`
    /// does not tell that it is among the chunks of its group that are asked for. They are looked up again only for one that
    /// was not among them: what was asked for is taken, though the request was withdrawn since.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "every chunk passes here")]
    pub(crate) fn stage(
        &mut self,
        now: Instant,
        geometry: &Geometry,
        chunk: ChunkIndex,
        payload: &[u8],
        from: Source,
        asked: impl FnOnce(GroupIndex) -> u32,
    ) -> Option<Fill> {
        let group = geometry.group_of(chunk);
        let (bit, start) = place_of(geometry, chunk);
        let buffer = match self.buffers.get_mut(group) {
            Some(buffer) if buffer.asked & bit != 0 => buffer,
            _ => self.expect(now, geometry, (group, asked(group)), bit, from)?,
        };
        let target = buffer.data.get_mut(start..start + payload.len())?;
        if (buffer.verified | buffer.staged) & bit != 0 {
            return None;
        }
        target.copy_from_slice(payload);
        if buffer.staged == 0 {
            (buffer.first, buffer.alike) = (from, true);
        }
        buffer.alike &= buffer.first.slot == from.slot;
        buffer.staged |= bit;
        Some(Fill {
            first: buffer.first.number,
            ends: buffer.staged | buffer.verified == buffer.all,
            whole: buffer.staged == buffer.all && buffer.alike,
        })
    }

    /// The buffer of a group whose `asked` chunks may come, begun if need be; `None` if the one of `bit` is not among them.
    #[inline(never)]
    fn expect(
        &mut self,
        now: Instant,
        geometry: &Geometry,
        (group, asked): (GroupIndex, u32),
        bit: u32,
        from: Source,
    ) -> Option<&mut Buffer> {
        if asked & bit == 0 {
            return None;
        }
        let (begun, handed_out) = (&mut self.begun, &mut self.handed_out);
        let buffer = self.buffers.get_or_insert_with(group, || {
            begun.push_back((now, group));
            let chunks = geometry.group_chunks(group);
            let bytes = geometry.byte_range(chunks);
            let data = buffer_of((bytes.end - bytes.start) as usize, handed_out);
            Buffer { all: full_mask(chunks), asked, verified: 0, staged: 0, first: from, alike: true, data }
        });
        buffer.asked |= asked;
        Some(buffer)
    }

    /// The staged chunks of `group`.
    pub(crate) fn staged(&self, group: GroupIndex) -> Staged<'_> {
        Staged(self.buffers.get(group))
    }

    /// The bytes of `group`, all of whose chunks are staged.
    pub(crate) fn whole(&self, group: GroupIndex) -> &[u8] {
        self.buffers.get(group).filter(|buffer| buffer.staged == buffer.all).map_or(&[], |buffer| &buffer.data)
    }

    /// The bytes of `group`, if none of its chunks is missing.
    pub(crate) fn full(&self, group: GroupIndex) -> Option<&[u8]> {
        let buffer = self.buffers.get(group).filter(|buffer| buffer.staged | buffer.verified == buffer.all);
        buffer.map(|buffer| &*buffer.data)
    }

    /// Ends the wait of staged `chunks` of `group`: they are good, or their places are free again.
    pub(crate) fn settle(&mut self, group: GroupIndex, chunks: u32, good: bool) {
        let Some(buffer) = self.buffers.get_mut(group) else { return };
        if good {
            buffer.verified |= buffer.staged & chunks;
        }
        buffer.staged &= !chunks;
    }

    /// Hands out what was gathered of `group`: all of it in one piece, or each run.
    pub(crate) fn take(&mut self, geometry: &Geometry, group: GroupIndex, parcels: &mut Vec<Parcel>) {
        let Some(buffer) = self.buffers.remove(group) else { return };
        while self.begun.front().is_some_and(|(_, begun)| !self.buffers.contains(*begun)) {
            self.begun.pop_front();
        }
        let chunks = geometry.group_chunks(group);
        let offset = geometry.offset(ChunkIndex::new(chunks.start()));
        let data = buffer.data.freeze();
        if u64::from(buffer.verified.count_ones()) == chunks.count() {
            if self.handed_out.len() < RECYCLED {
                self.handed_out.push_back(data.clone());
            }
            parcels.push(Parcel { range: chunks, offset, data });
            return;
        }
        let mut rest = buffer.verified;
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

    /// Lets go of spare memory: nothing is being fetched.
    pub(crate) fn release_memory(&mut self) {
        self.handed_out = VecDeque::new();
    }
}

/// The bit of `chunk` in its group, and where its bytes begin there.
fn place_of(geometry: &Geometry, chunk: ChunkIndex) -> (u32, usize) {
    let bit = geometry.bit_of(chunk);
    (bit, bit.trailing_zeros() as usize * geometry.chunk_size().bytes() as usize)
}

/// A buffer of `len` bytes, whatever they are: from the next one handed out, if nobody holds that any more.
fn buffer_of(len: usize, handed_out: &mut VecDeque<Bytes>) -> BytesMut {
    if let Some(oldest) = handed_out.pop_front() {
        match oldest.try_into_mut() {
            Ok(buffer) if buffer.len() == len => return buffer,
            Ok(_) => {}
            // Storage is slow, or lets this one wait for its neighbours: the next one may be back sooner.
            Err(held) => handed_out.push_back(held),
        }
    }
    BytesMut::zeroed(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::ChunkSize;

    const CHUNK: [u8; 1024] = [7; 1024];

    fn chunk(index: u64) -> ChunkIndex {
        ChunkIndex::new(index)
    }

    fn stage(assembly: &mut Assembly, geometry: &Geometry, index: u64, slot: PeerSlot) -> Option<Fill> {
        let from = Source { number: index + 100, slot };
        assembly.stage(Instant::ZERO, geometry, chunk(index), &CHUNK, from, |_| u32::MAX)
    }

    fn add(assembly: &mut Assembly, geometry: &Geometry, index: u64) {
        assert!(stage(assembly, geometry, index, 0).is_some());
        assembly.settle(geometry.group_of(chunk(index)), geometry.bit_of(chunk(index)), true);
    }

    #[test]
    fn only_what_was_found_good_is_handed_out() {
        let geometry = Geometry::new(16 * 1024, ChunkSize::DEFAULT).unwrap();
        let mut assembly = Assembly::new(Duration::from_secs(1));
        for index in [0, 1, 3] {
            add(&mut assembly, &geometry, index);
        }
        let from = Source { number: 0, slot: 0 };
        assert!(assembly.stage(Instant::ZERO, &geometry, chunk(2), &[9; 1024], from, |_| u32::MAX).is_some());
        assert_eq!(stage(&mut assembly, &geometry, 2, 0), None, "one waits there");
        assert_eq!(stage(&mut assembly, &geometry, 3, 0), None, "that is here");
        assert_eq!(assembly.staged(GroupIndex::new(0)).get(&geometry, chunk(2), 1024), [9; 1024]);
        assembly.settle(GroupIndex::new(0), 1 << 2, false);
        assert!(assembly.staged(GroupIndex::new(0)).get(&geometry, chunk(2), 1024).is_empty());
        let mut parcels = Vec::new();
        assembly.flush(Instant::ZERO + Duration::from_secs(1), &geometry, &mut parcels);
        let ranges: Vec<_> = parcels.iter().map(|parcel| parcel.range).collect();
        assert_eq!(ranges, [ChunkRange::new(0, 2), ChunkRange::new(3, 4)]);
        assert!(parcels.iter().all(|parcel| parcel.data.iter().all(|&byte| byte == 7)));
        assert_eq!(assembly.deadline(), None);
    }

    #[test]
    fn it_tells_when_a_group_waits_whole() {
        let geometry = Geometry::new(40 * 1024, ChunkSize::DEFAULT).unwrap();
        let mut assembly = Assembly::new(Duration::from_secs(1));
        let fill = |first: u64, ends, whole| Some(Fill { first: first + 100, ends, whole });
        let group = GroupIndex::new(0);
        for (round, other) in [(0, 0), (1, 0), (2, 1)] {
            for index in 0..15 {
                assert_eq!(stage(&mut assembly, &geometry, index, 0), fill(0, false, false), "round {round}");
                assert!(assembly.whole(group).is_empty());
            }
            // From another peer, it is not to be judged with those of the first.
            assert_eq!(stage(&mut assembly, &geometry, 15, other), fill(0, true, other == 0));
            assert_eq!(assembly.whole(group), CHUNK.repeat(16));
            assembly.settle(group, u32::MAX, false);
        }
        // One that began to arrive before is never whole, and the content's end cuts the last one.
        add(&mut assembly, &geometry, 3);
        for index in (0..16).filter(|index| *index != 3) {
            assert_eq!(stage(&mut assembly, &geometry, index, 0), fill(0, index == 15, false));
        }
        for index in 32..40 {
            assert_eq!(stage(&mut assembly, &geometry, index, 0), fill(32, index == 39, index == 39));
        }
    }

    #[test]
    fn what_is_asked_for_is_looked_up_once() {
        let geometry = Geometry::new(16 * 1024, ChunkSize::DEFAULT).unwrap();
        let mut assembly = Assembly::new(Duration::from_secs(1));
        let from = Source { number: 0, slot: 0 };
        let mut stage = |index: u64, asked: Option<u32>| {
            let asked = |_| asked.expect("it was looked up before");
            assembly.stage(Instant::ZERO, &geometry, chunk(index), &CHUNK, from, asked).is_some()
        };
        assert!(!stage(0, Some(0b1110)), "nobody was asked for it");
        assert!(stage(1, Some(0b0110)) && stage(2, None));
        assert!(!stage(3, Some(0b0110)) && stage(3, Some(0b1000)), "it was asked for since");
        assert!(!stage(1, None), "it is here, and was asked for");
        let mut unasked = Assembly::new(Duration::from_secs(1));
        assert!(unasked.stage(Instant::ZERO, &geometry, chunk(0), &CHUNK, from, |_| 0b10).is_none());
        assert_eq!((unasked.deadline(), unasked.buffers.len()), (None, 0), "no memory for what nobody was asked for");
    }

    #[test]
    fn memory_comes_back_once_storage_let_go_of_it() {
        let geometry = Geometry::new(1 << 22, ChunkSize::DEFAULT).unwrap();
        let mut assembly = Assembly::new(Duration::from_secs(1));
        let mut parcels = Vec::new();
        let fill = |group: u64, assembly: &mut Assembly, parcels: &mut Vec<Parcel>| {
            for index in group * 16..group * 16 + 16 {
                add(assembly, &geometry, index);
            }
            assembly.take(&geometry, GroupIndex::new(group), parcels);
        };
        fill(0, &mut assembly, &mut parcels);
        let first = parcels[0].data.as_ptr();
        fill(1, &mut assembly, &mut parcels);
        assert_ne!(parcels[1].data.as_ptr(), first, "the first is still held");
        parcels.clear();
        fill(2, &mut assembly, &mut parcels);
        assert_eq!(parcels[0].data.as_ptr(), first);
        // Storage keeps one for long: the others are used again all the same.
        let kept = parcels.pop();
        let mut seen = std::collections::BTreeSet::new();
        for group in 3..100 {
            fill(group, &mut assembly, &mut parcels);
            seen.extend(parcels.drain(..).map(|parcel| parcel.data.as_ptr()));
        }
        assert!(seen.len() < 20, "{}: one more each time its turn comes", seen.len());
        drop(kept);
        for group in 100..200 {
            fill(group, &mut assembly, &mut parcels);
            assert!(assembly.handed_out.len() <= RECYCLED);
        }
        assembly.release_memory();
        assert!(assembly.handed_out.is_empty());
    }
}
