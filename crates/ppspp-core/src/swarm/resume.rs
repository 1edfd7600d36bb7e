//! Bytes read back: to be sent, or to find out whether they are what an earlier run stored (R22).

use alloc::vec::Vec;

use bytes::Bytes;

use crate::chunk::{Bin, ChunkIndex, ChunkRange, Geometry, GroupIndex};
use crate::context::Cx;
use crate::event::{Event, MAX_READ, ReadError};
use crate::integrity::{EarlyHashes, GroupNodes, Verdict};
use crate::schedule::mask;
use crate::swarm::Swarm;
use crate::swarm::group_cache::CachedGroup;
use crate::swarm::uploads::{Purpose, Read};

/// A group of which every byte was read back.
struct WholeGroup {
    nodes: GroupNodes,
    /// Its chunks were not hashed: what they hash to was remembered, and its bytes have the same fingerprint.
    recalled: bool,
}

impl Swarm {
    /// Reads back what an earlier run stored, in order, a bounded number of reads at a time.
    pub(crate) fn check_next(&mut self, cx: &mut Cx<'_>) {
        let Some(geometry) = self.content.geometry() else { return };
        while self.uploads.may_read(cx.config.limits.pending_reads) {
            let Some(run) = self.content.to_read.runs().next() else { break };
            let range = read_at_once(&geometry, run);
            self.content.to_read.remove(range);
            let read = Read { range, purpose: Purpose::Check, torn: Vec::new() };
            self.uploads.read(cx, self.id, &geometry, read);
        }
        if self.content.unchecked.is_empty() {
            self.finish_if_satisfied(cx);
        }
    }

    /// Takes the bytes that a read yielded.
    pub(crate) fn provide(&mut self, cx: &mut Cx<'_>, serial: u64, data: Result<Bytes, ReadError>) {
        let Some(read) = self.uploads.take_read(serial) else { return };
        let Read { range, purpose, .. } = read;
        let Some(geometry) = self.content.geometry() else { return };
        let bytes = geometry.byte_range(range);
        let data = data.ok().filter(|data| data.len() as u64 == bytes.end - bytes.start);
        let whole = self.whole_groups(&geometry, range, data.as_deref().unwrap_or_default(), purpose);
        let mut whole = whole.into_iter();
        for group in geometry.groups_touching(range) {
            let part = range.intersection(geometry.group_chunks(group));
            let inside = geometry.byte_range(part);
            let piece = data
                .as_ref()
                .map(|data| data.slice((inside.start - bytes.start) as usize..(inside.end - bytes.start) as usize));
            let whole = if part == geometry.group_chunks(group) { whole.next() } else { None };
            if !read.still_holds(&self.content, group, geometry.group_chunks(group)) {
                continue;
            }
            let good = piece.is_some_and(|piece| match purpose {
                Purpose::Serve => self.take_served(cx, &geometry, group, part, piece, whole),
                Purpose::Check => self.take_checked(&geometry, group, part, &piece, whole.map(|whole| whole.nodes)),
            });
            if !good && purpose == Purpose::Serve {
                let stored: Vec<ChunkRange> = self.content.stored.intersection_in(part).collect();
                for run in stored {
                    self.on_changed(cx, run, purpose);
                }
            } else if !good {
                self.on_changed(cx, part, purpose);
            } else if purpose == Purpose::Check {
                self.on_stored(cx, part);
            }
        }
        if purpose == Purpose::Check {
            self.content.claimed.remove(range);
            for group in geometry.groups_touching(range) {
                if !self.content.claimed.intersects(geometry.group_chunks(group)) {
                    self.content.unchecked.remove(ChunkRange::single(ChunkIndex::new(group.value())));
                }
            }
            let [first, last] = [range.start(), range.end() - 1].map(|chunk| geometry.group_of(ChunkIndex::new(chunk)));
            self.recount(ChunkRange::new(geometry.group_chunks(first).start(), geometry.group_chunks(last).end()));
            self.check_next(cx);
            self.wake_all();
        }
        for slot in self.uploads.take_waiting() {
            self.wake.push(slot);
        }
    }

    /// Each group that lies whole in `range`, which was read back and has `data` for its bytes.
    fn whole_groups(&self, geometry: &Geometry, range: ChunkRange, data: &[u8], purpose: Purpose) -> Vec<WholeGroup> {
        let remembered = match purpose {
            Purpose::Serve => self.remembered.recall(geometry, range, data),
            Purpose::Check => Vec::new(),
        };
        let nodes = GroupNodes::of_whole_groups(self.metadata.function, geometry, range, data, &remembered);
        let whole = |(at, nodes)| WholeGroup { nodes, recalled: remembered.get(at).is_some_and(Option::is_some) };
        nodes.into_iter().enumerate().map(whole).collect()
    }

    /// Keeps bytes to be sent if they match the tree: what does not is never sent. `whole` is given of a
    /// group that was read whole.
    fn take_served(
        &mut self,
        cx: &mut Cx<'_>,
        geometry: &Geometry,
        group: GroupIndex,
        part: ChunkRange,
        piece: Bytes,
        whole: Option<WholeGroup>,
    ) -> bool {
        let function = self.metadata.function;
        if let Some(WholeGroup { nodes, recalled }) = whole.filter(|_| self.content.has_group(group)) {
            if !self.content.verifier.verify_group(group, &nodes) {
                return false;
            }
            cx.stats.groups_served += 1;
            cx.stats.groups_recalled += u64::from(recalled);
            if recalled {
                self.remembered.on_recalled(cx.now);
            } else if self.served.is_some_and(|served| served.count > 1) && !self.peers.is_empty() {
                // The next copy is for another.
                let leaves = part.iter().map_while(|chunk| nodes.get(Bin::leaf(chunk)?));
                let limit = cx.config.limits.remembered_groups;
                self.remembered.keep(cx.now, geometry, limit, group, &piece, leaves);
            }
            let chunks = mask(part, part);
            self.keep(cx, geometry, group, CachedGroup { range: part, chunks, data: piece, nodes });
            return true;
        }
        // R2: an incomplete group is served chunk by chunk against its leaf hashes, which its open nodes hold.
        let chunks = geometry.group_chunks(group);
        let base = geometry.byte_range(part).start;
        let mut good = 0;
        let stored: Vec<ChunkRange> = self.content.stored.intersection_in(part).collect();
        for chunk in stored.into_iter().flat_map(ChunkRange::iter) {
            let single = ChunkRange::single(chunk);
            let inside = geometry.byte_range(single);
            let bytes = piece.get((inside.start - base) as usize..(inside.end - base) as usize);
            let leaf = Bin::leaf(chunk).and_then(|leaf| self.content.verifier.node(leaf));
            if bytes.zip(leaf).is_some_and(|(bytes, leaf)| function.leaf(bytes).as_slice() == leaf) {
                good |= mask(chunks, single);
            } else {
                self.on_changed(cx, single, Purpose::Serve);
            }
        }
        let nodes = GroupNodes::empty(function, chunks);
        self.keep(cx, geometry, group, CachedGroup { range: part, chunks: good, data: piece, nodes });
        true
    }

    /// Keeps a group at hand. Where one peer alone lacks anything, what it has is of no more use: to read the next bytes
    /// into the same memory, which is in the processor's cache, takes a fraction of the time.
    fn keep(&mut self, cx: &Cx<'_>, geometry: &Geometry, group: GroupIndex, cached: CachedGroup) {
        let only = self.served.and_then(|served| served.only).filter(|_| self.asking.leechers == 1);
        let only = only.and_then(|slot| self.peers.get(slot as usize)?.established());
        // It may have become complete since, and another be the one that is not.
        let only = only.filter(|peer| !peer.have.is_complete(geometry.chunk_count()));
        self.uploads.cache.keep(group, cached, cx.config.limits.cached_groups, |group| {
            only.is_some_and(|peer| peer.needs_no_more(geometry.group_chunks(group)))
        });
    }

    /// Counts bytes that an earlier run stored as verified if they match the tree (R22). `nodes` are those of a whole
    /// group.
    fn take_checked(
        &mut self,
        geometry: &Geometry,
        group: GroupIndex,
        part: ChunkRange,
        piece: &Bytes,
        nodes: Option<GroupNodes>,
    ) -> bool {
        if let Some(nodes) = nodes {
            let good = self.content.verifier.verify_group(group, &nodes);
            if good {
                self.content.verifier.mark_complete(group);
            }
            return good;
        }
        let base = geometry.byte_range(part).start;
        let early = EarlyHashes::new(0);
        let verifier = &mut self.content.verifier;
        part.iter().all(|chunk| {
            let inside = geometry.byte_range(ChunkRange::single(chunk));
            let bytes = piece.get((inside.start - base) as usize..(inside.end - base) as usize).unwrap_or_default();
            matches!(verifier.check(chunk, bytes, &early), Verdict::Verified | Verdict::AlreadyHave)
        })
    }

    /// Bytes on disk are not what they were: they are neither sent nor counted, and fetched again if they are wanted.
    fn on_changed(&mut self, cx: &mut Cx<'_>, range: ChunkRange, purpose: Purpose) {
        let Some(geometry) = self.content.geometry() else { return };
        for group in geometry.groups_touching(range) {
            self.uploads.cache.drop_group(group);
        }
        if purpose == Purpose::Check || self.content.stored.intersects(range) {
            cx.events.push(Event::ContentChanged { swarm: self.id, range });
        }
        self.content.forget(range);
        self.recount(range);
        self.wake_all();
    }
}

/// The start of `run` that one read takes: up to a group's end within [`MAX_READ`], at least one group's part.
fn read_at_once(geometry: &Geometry, run: ChunkRange) -> ChunkRange {
    let mut end = run.start();
    for group in geometry.groups_touching(run) {
        let next = geometry.group_chunks(group).end().min(run.end());
        let bytes = geometry.byte_range(ChunkRange::new(run.start(), next));
        if end > run.start() && bytes.end - bytes.start > MAX_READ as u64 {
            break;
        }
        end = next;
    }
    ChunkRange::new(run.start(), end)
}
