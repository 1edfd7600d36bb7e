//! DATA that waits to be judged: chunks of many datagrams are hashed together, which takes half the time.

use alloc::vec::Vec;

use crate::channel::{Arrival, Channel, Download};
use crate::chunk::{Bin, ChunkRange, Geometry, GroupIndex};
use crate::config::EndpointConfig;
use crate::context::Cx;
use crate::event::CloseReason;
use crate::integrity::{Along, EarlyHashes, Hash, HashRow, Hashes, MAX_PROOF, Verdict, full_mask};
use crate::schedule::PeerSlot;
use crate::swarm::Swarm;
use crate::swarm::assembly::Fill;

/// Chunks that are judged as soon as no more of their groups are missing.
const ENOUGH_CHUNKS: usize = 64;
/// Groups whose rest is waited for then: those of the runs that four seeders send at a time, each a little of every group
/// of its own. It takes long until more are whole.
const MAX_TORN: usize = 32;
/// Most chunks that wait.
const MAX_CHUNKS: usize = 1024;
/// Most bytes that wait, one chunk aside: four runs.
const MAX_BYTES: usize = 512 * 1024;
/// Most hashes that wait with one chunk, as many as prove one, and with all chunks.
const MAX_ALONG: usize = MAX_PROOF;
const MAX_HASHES: usize = 4096;

/// A chunk whose bytes lie in the assembly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) slot: PeerSlot,
    pub(super) arrival: Arrival,
    len: u32,
    /// The hashes that wait with it: they came in the same datagram.
    pub(super) along: Span,
    /// Which of those that wait is the first of its group.
    first: u32,
    /// Which of the groups that wait whole is its own, if it is the first of one.
    whole: Option<u32>,
    /// Which of the digests is its own, if it waits without the rest of its group.
    digest: u32,
    /// Whether it was verified with its group.
    verified: bool,
}

impl Waiting {
    /// One that was verified without waiting.
    pub(super) fn verified(slot: PeerSlot, arrival: Arrival, len: usize) -> Self {
        let len = len as u32;
        Self { slot, arrival, len, along: Span::default(), first: 0, whole: None, digest: 0, verified: true }
    }

    /// How many bytes.
    #[inline]
    pub(super) const fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) const fn is_verified(&self) -> bool {
        self.verified
    }
}

/// A part of the hashes that wait.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// That part of `hashes`.
    #[inline]
    pub(super) fn of(self, hashes: &HashRow) -> Hashes<'_> {
        hashes.part(self.start as usize, self.end as usize)
    }
}

/// Chunks in order of arrival, and the memory for their hashes.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    waiting: Vec<Waiting>,
    /// How many waited before these.
    taken: u64,
    bytes: usize,
    /// Groups of which some chunks wait and others are missing.
    torn: usize,
    /// Groups that wait whole, each after the place of its first chunk.
    whole: Vec<(u32, GroupIndex)>,
    /// What the chunks hash to, side by side, and those of the chunks that are judged one by one.
    digests: Vec<u8>,
    leaves: Vec<Hash>,
    /// Hashes that came along with the chunks: each lot proves its own chunk, most often, and nothing else.
    hashes: HashRow,
    /// How many of them belong to chunks that wait. The others came in the datagram that is being read.
    owned: usize,
    /// Whether some came with a chunk that was not the first of its group, and are of nodes beyond that.
    strays: bool,
    /// Whether the endpoint knows that chunks wait.
    told: bool,
}

impl Gathered {
    /// The number of the next chunk that will wait, among all that ever did.
    pub(super) const fn next_number(&self) -> u64 {
        self.taken + self.waiting.len() as u64
    }

    /// How many chunks wait.
    pub(super) const fn count(&self) -> usize {
        self.waiting.len()
    }

    /// Keeps a hash of the datagram that is being read for the chunk that follows; false if there is no room.
    #[inline]
    pub(super) fn keep_hash(&mut self, node: Bin, hash: &[u8]) -> bool {
        let room = self.hashes.len() < MAX_HASHES && self.loose_hashes() < MAX_ALONG;
        room && self.hashes.push(node, hash)
    }

    /// Drops the hashes of the datagram that is being read.
    #[inline]
    pub(super) fn drop_loose(&mut self) {
        self.hashes.truncate(self.owned);
    }

    /// Bytes of all chunks that wait.
    #[inline]
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Whether the chunks that wait are to be judged.
    #[inline]
    pub(super) const fn is_due(&self) -> bool {
        let count = self.waiting.len();
        let awaits = self.torn > 0 && self.torn <= MAX_TORN;
        (count >= ENOUGH_CHUNKS && !awaits) || count >= MAX_CHUNKS || self.bytes >= MAX_BYTES
    }

    /// Lets a chunk of `len` bytes wait that were put into the assembly and made `fill` of its group, with the hashes of
    /// the datagram that is being read.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "handed over in memory, the arrival waits for the bytes that were copied")]
    pub(super) fn push(&mut self, geometry: &Geometry, slot: PeerSlot, arrival: Arrival, len: usize, fill: Fill) {
        let group = geometry.group_of(arrival.chunk);
        if fill.first == self.next_number() {
            self.torn += 1;
        } else if self.loose_hashes() > 0 {
            let top = Bin::at(geometry.group_layer(), group.value());
            let nodes = self.hashes.nodes(self.owned, self.hashes.len());
            self.strays |= !nodes.iter().all(|node| top.is_some_and(|top| node.is_under(top)));
        }
        let along = Span { start: self.owned as u32, end: self.hashes.len() as u32 };
        self.owned = self.hashes.len();
        self.bytes += len;
        // What was judged is staged no more: the first is among those that wait.
        debug_assert!(fill.first >= self.taken, "a chunk outlived its judgement");
        let first = fill.first.saturating_sub(self.taken) as u32;
        let len = len as u32;
        self.waiting.push(Waiting { slot, arrival, len, along, first, whole: None, digest: 0, verified: false });
        if fill.ends {
            self.torn = self.torn.saturating_sub(1);
            self.whole.extend((fill.whole && fill.first >= self.taken).then_some((first, group)));
        }
    }

    /// How many hashes of the datagram that is being read have no chunk yet.
    #[inline]
    pub(super) const fn loose_hashes(&self) -> usize {
        self.hashes.len() - self.owned
    }

    /// How many hashes wait with chunks.
    pub(super) const fn tied_hashes(&self) -> usize {
        self.owned
    }
}

impl Swarm {
    /// Whether chunks wait to be judged of which the endpoint was not told: told once, it calls
    /// [`Swarm::end_gathering`].
    pub(crate) fn begins_to_gather(&mut self) -> bool {
        !self.gathered.waiting.is_empty() && !core::mem::replace(&mut self.gathered.told, true)
    }

    /// Lets a chunk wait whose bytes were put into the assembly; judges all that wait when they are many.
    pub(super) fn gather(
        &mut self,
        cx: &mut Cx<'_>,
        geometry: &Geometry,
        slot: PeerSlot,
        arrival: Arrival,
        len: usize,
        fill: Fill,
    ) {
        self.gathered.push(geometry, slot, arrival, len, fill);
        if self.gathered.is_due() {
            self.judge_gathered(cx);
        }
    }

    /// Puts the hashes of the datagram that is being read among the early ones of `slot`: no chunk waits with them.
    #[inline(never)]
    pub(super) fn free_hashes(&mut self, cx: &Cx<'_>, slot: PeerSlot) {
        let owned = self.gathered.owned;
        let peer = self.peers.get_mut(slot as usize).and_then(Channel::established_mut);
        if let Some(download) = peer.and_then(|peer| peer.download.as_mut()) {
            for (node, hash) in self.gathered.hashes.part(owned, self.gathered.hashes.len()).iter() {
                download.early.insert(node, hash, cx.now);
            }
        }
        self.gathered.drop_loose();
    }

    /// Whether no more may be taken in before some is confirmed, with what waits to be judged (R19).
    pub(super) fn is_backed_up(&self, config: &EndpointConfig) -> bool {
        self.gathered.bytes() >= self.content.room(config)
    }

    /// Judges the chunks that wait because the endpoint turns to something else.
    pub(crate) fn end_gathering(&mut self, cx: &mut Cx<'_>) {
        self.gathered.told = false;
        self.judge_gathered(cx);
    }

    /// Judges the chunks that wait, then those that were kept for want of the hashes that came with them. A peer that sent
    /// a wrong one is closed.
    pub(crate) fn judge_gathered(&mut self, cx: &mut Cx<'_>) {
        let keeping = self.judge_waiting(cx);
        self.retry_pending(cx, keeping);
    }

    /// Judges the chunks that wait, in order of arrival. A peer that sent a wrong one is closed. Returns those of the peers
    /// whose chunks are kept for want of hashes.
    pub(super) fn judge_waiting(&mut self, cx: &mut Cx<'_>) -> Vec<PeerSlot> {
        let mut slots = Vec::new();
        let Some(geometry) = self.content.geometry().filter(|_| !self.gathered.waiting.is_empty()) else {
            return slots;
        };
        let mut waiting = core::mem::take(&mut self.gathered.waiting);
        let mut leaves = core::mem::take(&mut self.gathered.leaves);
        let mut hashes = core::mem::take(&mut self.gathered.hashes);
        self.gathered.taken += waiting.len() as u64;
        (self.gathered.bytes, self.gathered.owned, self.gathered.torn) = (0, 0, 0);
        if self.judge_whole(cx, &geometry, &mut waiting, &mut leaves, &hashes) {
            for together in waiting.chunk_by(|one, next| one.slot == next.slot) {
                slots.push(together[0].slot);
                self.on_arrivals(cx.now, together);
            }
        } else {
            self.judge_each(cx, &geometry, &mut waiting, &leaves, &hashes, &mut slots);
        }
        waiting.clear();
        hashes.truncate(0);
        self.gathered.waiting = waiting;
        self.gathered.leaves = leaves;
        self.gathered.hashes = hashes;
        slots.sort_unstable();
        slots.dedup();
        slots.retain(|slot| self.download(*slot).is_some_and(Download::has_pending));
        slots
    }

    /// Judges the chunks of `waiting` that were not verified with their groups and hash to `leaves`, in order of arrival,
    /// and tells each peer's channel of all. Adds the peers to `slots`.
    fn judge_each(
        &mut self,
        cx: &mut Cx<'_>,
        geometry: &Geometry,
        waiting: &mut [Waiting],
        leaves: &[Hash],
        hashes: &HashRow,
        slots: &mut Vec<PeerSlot>,
    ) {
        // How many of these chunks their peer's channel knows of, how many are judged, and of these by their leaves.
        let (mut told, mut judged, mut hashed) = (0, 0, 0);
        while let Some(&Waiting { slot, verified, .. }) = waiting.get(judged) {
            if slots.last() != Some(&slot) {
                slots.push(slot);
            }
            if waiting[told].slot != slot {
                self.on_arrivals(cx.now, &waiting[told..judged]);
                told = judged;
            }
            if verified {
                judged += 1;
                continue;
            }
            if self.download(slot).is_none() {
                // The channel ended meanwhile, and the hashes it brought are gone.
                let chunk = waiting[judged].arrival.chunk;
                self.content.assembly.settle(geometry.group_of(chunk), geometry.bit_of(chunk), false);
                (told, judged, hashed) = (judged + 1, judged + 1, hashed + 1);
                continue;
            }
            let (good, verdict) = self.judge_staged(cx, geometry, &mut waiting[judged..], &leaves[hashed..], hashes);
            (judged, hashed) = (judged + good, hashed + good);
            if verdict == Verdict::Verified {
                continue;
            }
            self.on_arrivals(cx.now, &waiting[told..judged]);
            (judged, hashed) = (judged + 1, hashed + 1);
            told = judged;
            if let Err(why) = self.on_staged(cx, geometry, waiting[judged - 1], verdict) {
                self.close_channel(cx, slot, CloseReason::Misbehaved(why));
            }
        }
        self.on_arrivals(cx.now, &waiting[told..]);
    }

    /// Hashes the chunks of `waiting` together, since many take less time: those of `whole` groups first, then the others
    /// as they came. Tells the first of the whole ones, and each of the others, where its digest is.
    fn hash(&self, geometry: &Geometry, waiting: &mut [Waiting], whole: &[(u32, GroupIndex)], digests: &mut Vec<u8>) {
        let (function, assembly) = (self.metadata.function, &self.content.assembly);
        let size = geometry.chunk_size().bytes() as usize;
        let mut payloads: Vec<&[u8]> = Vec::with_capacity(waiting.len());
        for (at, (first, group)) in (0..).zip(whole) {
            if let Some(first) = waiting.get_mut(*first as usize) {
                first.whole = Some(at);
            }
            payloads.extend(assembly.whole(*group).chunks(size));
        }
        let mut place = 0;
        while payloads.len() < waiting.len() {
            let Some(next) = waiting.get(place) else { break };
            let (chunk, len) = (next.arrival.chunk, next.len());
            if waiting.get(next.first as usize).is_none_or(|first| first.whole.is_none()) {
                waiting[place].digest = payloads.len() as u32;
                payloads.push(assembly.staged(geometry.group_of(chunk)).get(geometry, chunk, len));
            }
            place += 1;
        }
        digests.clear();
        function.digest_all(&payloads, digests);
    }

    /// Judges groups that wait whole, in the order in which they began, since later ones lean on what came with earlier
    /// ones: one hash proves all chunks of one. Those that are good are taken in in the content's order. Writes the hashes
    /// of the chunks that are not verified so, and left to be judged one by one, to `leaves`; returns whether there are none.
    fn judge_whole(
        &mut self,
        cx: &mut Cx<'_>,
        geometry: &Geometry,
        waiting: &mut [Waiting],
        leaves: &mut Vec<Hash>,
        hashes: &HashRow,
    ) -> bool {
        let (layer, len) = (geometry.group_layer(), self.metadata.function.len());
        let mut whole = core::mem::take(&mut self.gathered.whole);
        let mut digests = core::mem::take(&mut self.gathered.digests);
        // The content's end may cut one: no single hash is over that.
        whole.retain(|(_, group)| geometry.group_chunks(*group).count() == 1 << layer);
        whole.sort_unstable_by_key(|(first, _)| *first);
        self.hash(geometry, waiting, &whole, &mut digests);
        let (theirs, _) = digests.split_at(digests.len().min((whole.len() << layer) * len));
        let tops = self.metadata.function.roots(theirs, layer);
        let mut verified = Vec::with_capacity(whole.len());
        let mut good: Vec<(GroupIndex, PeerSlot, usize)> = Vec::with_capacity(whole.len());
        for (at, (top, (first, group))) in tops.chunks_exact(len).zip(&whole).enumerate() {
            let first = Hash::from_slice(top).zip(waiting.get(*first as usize));
            let slot = first.and_then(|(top, first)| self.prove_whole(*group, first, &top, hashes));
            verified.push(slot.is_some());
            good.extend(slot.map(|slot| (*group, slot, at)));
        }
        good.sort_unstable();
        for (group, slot, at) in good {
            let chunks = geometry.group_chunks(group);
            let bytes = geometry.byte_range(chunks);
            let leaves = theirs.get((at << layer) * len..((at + 1) << layer) * len);
            self.take_in(cx, geometry, slot, (group, full_mask(chunks)), bytes.end - bytes.start, leaves);
        }
        leaves.clear();
        let all = verified.len() << layer == waiting.len() && verified.iter().all(|verified| *verified);
        if !core::mem::take(&mut self.gathered.strays) && all {
            self.drop_whole(whole, digests);
            return true;
        }
        for place in 0..waiting.len() {
            let next = waiting[place];
            let whole = waiting.get(next.first as usize).and_then(|first| first.whole);
            if whole.is_some_and(|at| verified.get(at as usize) == Some(&true)) {
                waiting[place].verified = true;
                if next.whole.is_none() {
                    self.keep_strays(&next, geometry.group_chunks(geometry.group_of(next.arrival.chunk)), hashes);
                }
                continue;
            }
            let within = geometry.bit_of(next.arrival.chunk).trailing_zeros();
            let digest = whole.map_or(next.digest, |at| (at << layer) + within) as usize;
            leaves.extend(digests.get(digest * len..(digest + 1) * len).and_then(Hash::from_slice));
        }
        self.drop_whole(whole, digests);
        all
    }

    /// Gives back the memory of a judgement.
    fn drop_whole(&mut self, mut whole: Vec<(u32, GroupIndex)>, digests: Vec<u8>) {
        whole.clear();
        self.gathered.whole = whole;
        self.gathered.digests = digests;
    }

    /// The peer that `first` and all others of its `group` are from, which hash to `top`, if that and what came along with
    /// the `first` verify them.
    fn prove_whole(&mut self, group: GroupIndex, first: &Waiting, top: &Hash, hashes: &HashRow) -> Option<PeerSlot> {
        let peer = self.peers.get_mut(first.slot as usize).and_then(Channel::established_mut);
        let download = peer.and_then(|peer| peer.download.as_mut())?;
        let along = Along { hashes: first.along.of(hashes), at: first.arrival.at };
        self.content.verifier.check_group(group, top, along, &mut download.early).then_some(first.slot)
    }

    /// Puts hashes that came along with a chunk of a group with these `chunks`, all verified by now and not by these, and
    /// may prove something else among the early ones.
    fn keep_strays(&mut self, verified: &Waiting, chunks: ChunkRange, hashes: &HashRow) {
        for (node, hash) in verified.along.of(hashes).iter() {
            if !chunks.covers(node.base_range())
                && self.content.verifier.node(node).is_none()
                && let Some(peer) = self.peers.get_mut(verified.slot as usize).and_then(Channel::established_mut)
                && let Some(download) = &mut peer.download
            {
                download.early.insert(node, hash, verified.arrival.at);
            }
        }
    }
}

/// Puts the hashes that wait with chunks of `slot` among its `early` ones, but for those of the first, which are there:
/// they came after that chunk and may prove it. Those of chunks that were verified stay away: most are known, and would
/// take the room of those that others wait for. Returns whether there were any.
#[inline(never)]
pub(super) fn free_later(waiting: &mut [Waiting], slot: PeerSlot, hashes: &HashRow, early: &mut EarlyHashes) -> bool {
    let mut freed = false;
    for later in waiting.iter_mut().skip(1).filter(|later| later.slot == slot && !later.verified) {
        for (node, hash) in core::mem::take(&mut later.along).of(hashes).iter() {
            early.insert(node, hash, later.arrival.at);
            freed = true;
        }
    }
    freed
}
