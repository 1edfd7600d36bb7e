//! Content read back to be sent, or to be checked after a resume: the reads, and the groups at hand.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::channel::{ChunkGroup, ChunkSource};
use crate::chunk::{Bin, ChunkIndex, ChunkRange, Geometry, GroupIndex};
use crate::context::Cx;
use crate::event::{Event, MAX_READ, ReadToken, SwarmId};
use crate::schedule::{PeerSlot, mask};
use crate::swarm::content::ContentState;
use crate::swarm::group_cache::{CachedGroup, GroupCache};

/// What a read is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// To send it.
    Serve,
    /// To find out whether it is what an earlier run stored (R22).
    Check,
}

/// A read in progress.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) range: ChunkRange,
    pub(crate) purpose: Purpose,
    /// The groups of which a part alone was stored when it was asked for, and which: what is read says nothing of them if
    /// that is another by the time it ends.
    pub(crate) torn: Vec<(GroupIndex, u32)>,
}

impl Read {
    /// Whether what is here of `group`, whose chunks are `chunks`, is what it was.
    pub(crate) fn still_holds(&self, content: &ContentState, group: GroupIndex, chunks: ChunkRange) -> bool {
        let torn = self.torn.iter().find(|(other, _)| *other == group);
        torn.is_none_or(|&(_, stored)| !content.has_group(group) && stored_mask(content, chunks) == stored)
    }
}

/// Groups at hand and reads in progress.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    pub(super) cache: GroupCache,
    reads: BTreeMap<u64, Read>,
    serial: u64,
    /// Channels that wait for a read.
    waiting: Vec<PeerSlot>,
}

impl Uploads {
    /// Whether another read may begin.
    pub(crate) fn may_read(&self, limit: usize) -> bool {
        self.reads.len() < limit
    }

    /// Asks for the bytes of what is to be read.
    pub(crate) fn read(&mut self, cx: &mut Cx<'_>, swarm: SwarmId, geometry: &Geometry, read: Read) {
        let range = read.range;
        let bytes = geometry.byte_range(range);
        self.serial += 1;
        self.reads.insert(self.serial, read);
        cx.events.push(Event::ReadNeeded {
            token: ReadToken { swarm, serial: self.serial },
            swarm,
            range,
            offset: bytes.start,
            len: (bytes.end - bytes.start) as usize,
        });
    }

    /// Ends the read that `token` was given for; `None` if it is over already.
    pub(crate) fn take_read(&mut self, serial: u64) -> Option<Read> {
        self.reads.remove(&serial)
    }

    /// Makes `range` be at hand soon: what is missing is read, whole groups together.
    ///
    /// `peer` is woken when a read ends. Returns the bytes that are read beyond those of `range` (R2).
    pub(crate) fn prepare(
        &mut self,
        cx: &mut Cx<'_>,
        swarm: SwarmId,
        content: &ContentState,
        geometry: &Geometry,
        range: ChunkRange,
        peer: PeerSlot,
    ) -> u64 {
        let mut extra = 0;
        let mut together = Read { range: ChunkRange::EMPTY, purpose: Purpose::Serve, torn: Vec::new() };
        let mut reading = false;
        for group in geometry.groups_touching(range) {
            let chunks = geometry.group_chunks(group);
            let stored = stored_mask(content, chunks);
            let asked = stored & mask(chunks, range);
            if asked == 0 || self.is_at_hand(group, asked) {
                continue;
            }
            let needed = hull(chunks, stored);
            reading = true;
            let torn = (stored != mask(chunks, chunks)).then_some((group, stored));
            if torn.is_some() && content.has_group(group) {
                // The parts of a complete group cannot be judged alone: it is read once the rest is stored.
                continue;
            }
            if self.reads.values().any(|read| read.purpose == Purpose::Serve && read.range.covers(needed)) {
                continue;
            }
            let joined = ChunkRange::new(together.range.start(), needed.end());
            let bytes = geometry.byte_range(joined);
            let goes_on = !together.range.is_empty() && together.range.end() == needed.start();
            if goes_on && bytes.end - bytes.start <= MAX_READ as u64 {
                together.range = joined;
                together.torn.extend(torn);
                continue;
            }
            let next = Read { range: needed, purpose: Purpose::Serve, torn: torn.into_iter().collect() };
            extra += self.read_serving(cx, swarm, geometry, core::mem::replace(&mut together, next), range);
        }
        extra += self.read_serving(cx, swarm, geometry, together, range);
        if reading && !self.waiting.contains(&peer) {
            self.waiting.push(peer);
        }
        extra
    }

    /// Begins to `read`, if another read may begin; returns how many of its bytes are not in `asked`.
    fn read_serving(
        &mut self,
        cx: &mut Cx<'_>,
        swarm: SwarmId,
        geometry: &Geometry,
        read: Read,
        asked: ChunkRange,
    ) -> u64 {
        let range = read.range;
        if range.is_empty() || !self.may_read(cx.config.limits.pending_reads) {
            return 0;
        }
        self.read(cx, swarm, geometry, read);
        let [read, wanted] = [range, range.intersection(asked)].map(|range| geometry.byte_range(range));
        (read.end - read.start).saturating_sub(wanted.end - wanted.start)
    }

    fn is_at_hand(&mut self, group: GroupIndex, asked: u32) -> bool {
        self.cache.touch(group).is_some_and(|cached| asked & !cached.chunks == 0)
    }

    /// The channels to wake after a read ended.
    pub(crate) fn take_waiting(&mut self) -> Vec<PeerSlot> {
        core::mem::take(&mut self.waiting)
    }
}

/// The content as channels see it.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    uploads: &'a Uploads,
    content: &'a ContentState,
    geometry: &'a Geometry,
}

impl<'a> Source<'a> {
    pub(crate) const fn new(uploads: &'a Uploads, content: &'a ContentState, geometry: &'a Geometry) -> Self {
        Self { uploads, content, geometry }
    }
}

impl ChunkSource for Source<'_> {
    type Group = CachedGroup;

    #[inline]
    fn group(&self, group: GroupIndex) -> Option<&CachedGroup> {
        self.uploads.cache.get(group)
    }

    fn node(&self, node: Bin) -> Option<&[u8]> {
        if node.layer() < self.geometry.group_layer() {
            let group = self.geometry.group_of(ChunkIndex::new(node.base_range().start()));
            if let Some(hash) = self.group(group).and_then(|group| group.node(node)) {
                return Some(hash);
            }
        }
        self.content.verifier.node(node)
    }

    /// R13: a chunk that is verified but not stored yet will be.
    fn may_have(&self, chunk: ChunkIndex) -> bool {
        self.content.verifier.has(chunk)
    }
}

impl ChunkGroup for CachedGroup {
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "asked for every chunk, and small where it is")]
    fn chunk(&self, geometry: &Geometry, chunk: ChunkIndex) -> Option<&[u8]> {
        let place = chunk.value() & ((1 << geometry.group_layer()) - 1);
        if self.chunks >> place & 1 == 0 {
            return None;
        }
        let size = geometry.chunk_size().bytes() as usize;
        let start = (chunk.value() - self.range.start()) as usize * size;
        // The content's last chunk may be shorter, and is where the data ends.
        self.data.get(start..self.data.len().min(start + size))
    }

    #[inline]
    fn node(&self, node: Bin) -> Option<&[u8]> {
        self.nodes.get(node)
    }
}

/// The stored chunks among `chunks`, those of one group.
pub(crate) fn stored_mask(content: &ContentState, chunks: ChunkRange) -> u32 {
    content.stored.intersection_in(chunks).fold(0, |bits, run| bits | mask(chunks, run))
}

/// The smallest range within `chunks` that holds all of `bits`.
const fn hull(chunks: ChunkRange, bits: u32) -> ChunkRange {
    if bits == 0 {
        return ChunkRange::EMPTY;
    }
    let start = chunks.start() + bits.trailing_zeros() as u64;
    ChunkRange::new(start, chunks.start() + 32 - bits.leading_zeros() as u64)
}
