//! DATA that waits to be judged: chunks of many datagrams are hashed together, which takes half the time.

use alloc::vec::Vec;

use arrayvec::ArrayVec;

use crate::channel::{Arrival, Channel, Download};
use crate::chunk::{Bin, Geometry};
use crate::config::EndpointConfig;
use crate::context::Cx;
use crate::event::CloseReason;
use crate::integrity::{EarlyHashes, Hash, MAX_PROOF, Verdict};
use crate::schedule::PeerSlot;
use crate::swarm::Swarm;

/// Most chunks that wait.
const MAX_CHUNKS: usize = 64;
/// Most bytes that wait, one chunk aside.
const MAX_BYTES: usize = 128 * 1024;
/// Most hashes that wait with one chunk, as many as prove one, and with all chunks.
const MAX_ALONG: usize = MAX_PROOF;
const MAX_HASHES: usize = 1024;

/// A chunk whose bytes lie in the assembly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) slot: PeerSlot,
    pub(super) arrival: Arrival,
    pub(super) len: usize,
    /// Whether INTEGRITY came in the same datagram.
    pub(super) brought_hashes: bool,
    /// Those of these hashes that wait with the chunk.
    pub(super) along: Span,
}

/// A part of the hashes that wait.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    start: usize,
    end: usize,
}

impl Span {
    /// That part of `hashes`.
    #[inline]
    pub(super) fn of(self, hashes: &[(Bin, Hash)]) -> &[(Bin, Hash)] {
        hashes.get(self.start..self.end).unwrap_or_default()
    }
}

/// Chunks in order of arrival, and the memory for their hashes.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    waiting: Vec<Waiting>,
    bytes: usize,
    leaves: Vec<Hash>,
    /// Hashes that came along with the chunks: each lot proves its own chunk, most often, and nothing else.
    hashes: Vec<(Bin, Hash)>,
    /// How many of them belong to chunks that wait. The others came in the datagram that is being read.
    owned: usize,
    /// Whether the endpoint knows that chunks wait.
    told: bool,
}

impl Gathered {
    /// How many chunks wait.
    pub(super) const fn count(&self) -> usize {
        self.waiting.len()
    }

    /// Keeps a hash of the datagram that is being read for the chunk that follows; false if there is no room.
    #[inline]
    pub(super) fn keep_hash(&mut self, node: Bin, hash: &[u8]) -> bool {
        let room = self.hashes.len() < MAX_HASHES && self.hashes.len() - self.owned < MAX_ALONG;
        let hash = Hash::from_slice(hash).filter(|_| room);
        self.hashes.extend(hash.map(|hash| (node, hash)));
        hash.is_some()
    }

    /// Whether hashes of the datagram that is being read have no chunk yet.
    #[inline]
    pub(super) const fn has_loose_hashes(&self) -> bool {
        self.hashes.len() > self.owned
    }

    /// Gives the hashes of the datagram that is being read to the chunk that is in it.
    #[inline]
    pub(super) const fn tie_hashes(&mut self) -> Span {
        let span = Span { start: self.owned, end: self.hashes.len() };
        self.owned = span.end;
        span
    }
}

impl Swarm {
    /// Whether chunks wait to be judged of which the endpoint was not told: told once, it calls
    /// [`Swarm::end_gathering`].
    pub(crate) fn begins_to_gather(&mut self) -> bool {
        !self.gathered.waiting.is_empty() && !core::mem::replace(&mut self.gathered.told, true)
    }

    /// Lets a chunk wait whose bytes were put into the assembly; judges all that wait when they are many.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "every chunk passes here")]
    pub(super) fn gather(&mut self, cx: &mut Cx<'_>, waiting: Waiting) {
        self.gathered.bytes += waiting.len;
        self.gathered.waiting.push(waiting);
        if self.gathered.waiting.len() >= MAX_CHUNKS || self.gathered.bytes >= MAX_BYTES {
            self.judge_gathered(cx);
        }
    }

    /// Puts the hashes of the datagram that is being read among the early ones of `slot`: no chunk waits with them.
    #[inline(never)]
    pub(super) fn free_hashes(&mut self, cx: &Cx<'_>, slot: PeerSlot) {
        let owned = self.gathered.owned;
        let peer = self.peers.get_mut(slot as usize).and_then(Channel::established_mut);
        if let Some(download) = peer.and_then(|peer| peer.download.as_mut()) {
            for (node, hash) in &self.gathered.hashes[owned..] {
                download.early.insert(*node, hash.as_slice(), cx.now);
            }
        }
        self.gathered.hashes.truncate(owned);
    }

    /// Whether no more may be taken in before some is confirmed, with what waits to be judged (R19).
    pub(super) fn is_backed_up(&self, config: &EndpointConfig) -> bool {
        self.content.is_backed_up(config, self.gathered.bytes as u64)
    }

    /// Judges the chunks that wait because the endpoint turns to something else.
    pub(crate) fn end_gathering(&mut self, cx: &mut Cx<'_>) {
        self.gathered.told = false;
        self.judge_gathered(cx);
    }

    /// Judges the chunks that wait, in order of arrival. A peer that sent a wrong one is closed.
    pub(crate) fn judge_gathered(&mut self, cx: &mut Cx<'_>) {
        let Some(geometry) = self.content.geometry().filter(|_| !self.gathered.waiting.is_empty()) else { return };
        let mut waiting = core::mem::take(&mut self.gathered.waiting);
        let mut leaves = core::mem::take(&mut self.gathered.leaves);
        let mut hashes = core::mem::take(&mut self.gathered.hashes);
        (self.gathered.bytes, self.gathered.owned) = (0, 0);
        self.hash(&geometry, &waiting, &mut leaves);
        let (mut told, mut judged) = (0, 0);
        while let Some(&Waiting { slot, .. }) = waiting.get(judged) {
            if waiting[told].slot != slot {
                self.on_arrivals(cx.now, &waiting[told..judged]);
                told = judged;
            }
            let Some(keeps) = self.download(slot).map(Download::has_pending) else {
                // The channel ended meanwhile, and the hashes it brought are gone.
                let chunk = waiting[judged].arrival.chunk;
                self.content.assembly.settle(geometry.group_of(chunk), geometry.bit_of(chunk), false);
                (told, judged) = (judged + 1, judged + 1);
                continue;
            };
            // What came with a chunk may prove those that are kept: they go first.
            let end = if keeps { judged + 1 } else { waiting.len() };
            let (good, verdict) =
                self.judge_staged(cx, &geometry, &mut waiting[judged..end], &leaves[judged..], &hashes);
            judged += good;
            if verdict == Verdict::Verified && !keeps {
                continue;
            }
            self.on_arrivals(cx.now, &waiting[told..judged]);
            judged += usize::from(verdict != Verdict::Verified);
            told = judged;
            if let Err(why) = self.conclude(cx, &geometry, waiting[judged - 1], verdict) {
                self.close_channel(cx, slot, CloseReason::Misbehaved(why));
            }
        }
        self.on_arrivals(cx.now, &waiting[told..]);
        waiting.clear();
        hashes.clear();
        self.gathered.waiting = waiting;
        self.gathered.leaves = leaves;
        self.gathered.hashes = hashes;
    }

    /// Writes the leaf hashes of `waiting` to `leaves`.
    fn hash(&self, geometry: &Geometry, waiting: &[Waiting], leaves: &mut Vec<Hash>) {
        let function = self.metadata.function;
        leaves.resize(waiting.len(), Hash::zero(function));
        let assembly = &self.content.assembly;
        let group_of = |waiting: &Waiting| geometry.group_of(waiting.arrival.chunk);
        let mut payloads: ArrayVec<&[u8], MAX_CHUNKS> = ArrayVec::new();
        for run in waiting.chunk_by(|one, next| group_of(one) == group_of(next)) {
            let staged = assembly.staged(group_of(&run[0]));
            payloads.extend(run.iter().map(|waiting| staged.get(geometry, waiting.arrival.chunk, waiting.len)));
        }
        function.digest_many(&payloads, leaves);
    }
}

/// Puts the hashes that wait with chunks of `slot` among its `early` ones, but for those of the first, which are there:
/// they came after that chunk and may prove it. Returns whether there were any.
#[inline(never)]
pub(super) fn free_later(
    waiting: &mut [Waiting],
    slot: PeerSlot,
    hashes: &[(Bin, Hash)],
    early: &mut EarlyHashes,
) -> bool {
    let mut freed = false;
    for later in waiting.iter_mut().skip(1).filter(|later| later.slot == slot) {
        for (node, hash) in core::mem::take(&mut later.along).of(hashes) {
            early.insert(*node, hash.as_slice(), later.arrival.at);
            freed = true;
        }
    }
    freed
}
