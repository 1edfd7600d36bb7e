//! DATA that waits to be judged: chunks of many datagrams are hashed together, which takes half the time.

use alloc::vec::Vec;

use arrayvec::ArrayVec;

use crate::channel::Arrival;
use crate::chunk::Geometry;
use crate::config::EndpointConfig;
use crate::context::Cx;
use crate::event::CloseReason;
use crate::integrity::Hash;
use crate::schedule::PeerSlot;
use crate::swarm::Swarm;

/// Most chunks that wait.
const MAX_CHUNKS: usize = 64;
/// Most bytes that wait, one chunk aside.
const MAX_BYTES: usize = 64 * 1024;

/// A chunk whose bytes lie in the assembly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) slot: PeerSlot,
    pub(super) arrival: Arrival,
    pub(super) len: usize,
    /// Whether INTEGRITY came in the same datagram.
    pub(super) brought_hashes: bool,
}

/// Chunks in order of arrival, and the memory for their hashes.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    waiting: Vec<Waiting>,
    bytes: usize,
    leaves: Vec<Hash>,
    /// Whether the endpoint knows that chunks wait.
    told: bool,
}

impl Gathered {
    /// How many chunks wait.
    pub(super) const fn count(&self) -> usize {
        self.waiting.len()
    }
}

impl Swarm {
    /// Whether chunks wait to be judged of which the endpoint was not told: told once, it calls
    /// [`Swarm::end_gathering`].
    pub(crate) fn begins_to_gather(&mut self) -> bool {
        !self.gathered.waiting.is_empty() && !core::mem::replace(&mut self.gathered.told, true)
    }

    /// Lets a chunk wait whose bytes were put into the assembly; judges all that wait when they are many.
    pub(super) fn gather(&mut self, cx: &mut Cx<'_>, waiting: Waiting) {
        self.gathered.bytes += waiting.len;
        self.gathered.waiting.push(waiting);
        if self.gathered.waiting.len() >= MAX_CHUNKS || self.gathered.bytes >= MAX_BYTES {
            self.judge_gathered(cx);
        }
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
        self.gathered.bytes = 0;
        self.hash(&geometry, &waiting, &mut leaves);
        let mut judged = 0;
        while let Some(Waiting { slot, .. }) = waiting.get(judged) {
            let (count, outcome) = self.judge_staged(cx, &geometry, &waiting[judged..], &leaves[judged..]);
            if let Err(why) = outcome {
                self.close_channel(cx, *slot, CloseReason::Misbehaved(why));
            }
            judged += count;
        }
        waiting.clear();
        self.gathered.waiting = waiting;
        self.gathered.leaves = leaves;
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
