//! Chunks that came before the hashes that prove them (R17).

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use crate::channel::acks::Arrival;
use crate::chunk::Bin;
use crate::integrity::{EarlyHashes, Verifier};
use crate::time::Instant;

/// A chunk that cannot be verified yet, for want of hashes (R17).
#[derive(Debug)]
pub(crate) struct PendingChunk {
    pub(crate) arrival: Arrival,
    pub(crate) payload: Vec<u8>,
    /// A node without whose hash it cannot be judged; none while the content's size is unknown.
    pub(crate) missing: Option<Bin>,
}

impl PendingChunk {
    /// Whether it still cannot be judged. Looks at one node, most often: whoever has chunks wait must not make us climb the
    /// tree for all of them with each hash.
    fn waits(&mut self, verifier: &Verifier, early: &EarlyHashes) -> bool {
        let chunk = self.arrival.chunk;
        let fits = |hash| verifier.may_be_hash(hash);
        let came = self.missing.is_none_or(|node| verifier.node(node).is_some() || early.get(node).is_some_and(fits));
        if verifier.has(chunk) {
            self.missing = None;
        } else if came {
            self.missing = verifier.missing_for(chunk, early);
        }
        self.missing.is_some()
    }
}

/// The chunks of one peer that cannot be verified yet, in order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Pending(VecDeque<PendingChunk>);

impl Pending {
    /// Keeps a chunk until its hashes arrive; the oldest goes when `limit` are kept.
    pub(crate) fn keep(&mut self, chunk: PendingChunk, limit: usize) {
        self.0.retain(|kept| kept.arrival.chunk != chunk.arrival.chunk);
        if limit == 0 {
            return;
        }
        while self.0.len() >= limit {
            self.0.pop_front();
        }
        self.0.push_back(chunk);
    }

    /// Takes those for which no hash is missing any more, in order of arrival.
    pub(crate) fn take_provable(&mut self, verifier: &Verifier, early: &EarlyHashes) -> Vec<PendingChunk> {
        let mut provable = 0;
        for kept in &mut self.0 {
            provable += usize::from(!kept.waits(verifier, early));
        }
        if provable == 0 {
            return Vec::new();
        }
        let mut ready = Vec::with_capacity(provable);
        for chunk in core::mem::take(&mut self.0) {
            if chunk.missing.is_none() { ready.push(chunk) } else { self.0.push_back(chunk) }
        }
        ready
    }

    /// Drops what is kept for longer than `life`.
    pub(crate) fn expire(&mut self, now: Instant, life: Duration) {
        while self.deadline(life).is_some_and(|at| at <= now) {
            self.0.pop_front();
        }
    }

    /// When the oldest goes.
    pub(crate) fn deadline(&self, life: Duration) -> Option<Instant> {
        self.0.front().map(|chunk| chunk.arrival.at + life)
    }

    /// Whether nothing is kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::ChunkIndex;
    use crate::integrity::reference::Content;
    use crate::integrity::{HashFunction, Verdict, uncles};

    /// What a peer sent that cannot be judged yet.
    struct Peer {
        pending: Pending,
        early: EarlyHashes,
    }

    impl Default for Peer {
        fn default() -> Self {
            Self { pending: Pending::default(), early: EarlyHashes::new(64) }
        }
    }

    impl Peer {
        fn take_provable(&mut self, verifier: &Verifier) -> Vec<PendingChunk> {
            self.pending.take_provable(verifier, &self.early)
        }
    }

    #[test]
    fn kept_chunks_are_taken_once_nothing_that_proves_them_is_missing() {
        let content = Content::new(HashFunction::Sha256, 1024, 37, 1000);
        let peaks: Vec<_> = content.geometry.peaks().map(|bin| (bin, content.node(bin))).collect();
        let mut verifier = Verifier::new(content.params, content.root(), Some(content.geometry), 8);
        let mut peer = Peer::default();
        for (bin, hash) in &peaks {
            peer.early.insert(*bin, hash.as_slice(), Instant::ZERO);
        }
        assert_eq!(verifier.check(ChunkIndex::new(36), content.chunk(36), &peer.early), Verdict::Verified);
        let keep = |peer: &mut Peer, verifier: &Verifier, chunk: u64| {
            let (chunk, at) = (ChunkIndex::new(chunk), Instant::ZERO);
            let missing = verifier.missing_for(chunk, &peer.early);
            let arrival = Arrival { chunk, timestamp: 0, at };
            peer.pending.keep(PendingChunk { arrival, payload: Vec::new(), missing }, 8);
        };
        let taken = |peer: &mut Peer, verifier: &Verifier| -> Vec<u64> {
            peer.take_provable(verifier).iter().map(|kept| kept.arrival.chunk.value()).collect()
        };
        for chunk in [2, 20, 3, 9] {
            keep(&mut peer, &verifier, chunk);
        }
        let leaf = |chunk| Bin::leaf(ChunkIndex::new(chunk)).unwrap();
        assert!(peer.pending.0.iter().all(|kept| kept.missing == leaf(kept.arrival.chunk.value()).sibling()));
        // One hash after the other, from below: nothing is taken before the last has come, and nothing else then.
        let mut proof: Vec<Bin> = uncles(&content.geometry, ChunkIndex::new(2), |_| false).into_iter().collect();
        while let Some(bin) = proof.pop() {
            assert_eq!(taken(&mut peer, &verifier), []);
            let waits = peer.pending.0.iter().find(|kept| kept.arrival.chunk.value() == 2).unwrap();
            assert_eq!(waits.missing, Some(bin));
            peer.early.insert(bin, content.node(bin).as_slice(), Instant::ZERO);
        }
        assert_eq!(taken(&mut peer, &verifier), [2]);
        // What proves it proves the one beside, but for its leaf; and what is here needs nothing.
        assert_eq!(verifier.check(ChunkIndex::new(2), content.chunk(2), &peer.early), Verdict::Verified);
        assert_eq!(taken(&mut peer, &verifier), [3]);
        for chunk in [16, 20] {
            for bin in uncles(&content.geometry, ChunkIndex::new(chunk), |_| false) {
                peer.early.insert(bin, content.node(bin).as_slice(), Instant::ZERO);
            }
        }
        assert_eq!(verifier.check(ChunkIndex::new(20), content.chunk(20), &peer.early), Verdict::Verified);
        peer.early.clear();
        assert_eq!(taken(&mut peer, &verifier), [20]);
        assert!(!peer.pending.is_empty(), "9 still waits");
    }

    #[test]
    fn kept_chunks_wait_for_peaks_and_for_hashes_that_can_be_some() {
        let content = Content::new(HashFunction::Sha256, 1024, 37, 1000);
        let mut verifier = Verifier::new(content.params, content.root(), Some(content.geometry), 8);
        let mut peer = Peer::default();
        let put = |peer: &mut Peer, bin, hash: &[u8]| peer.early.insert(bin, hash, Instant::ZERO);
        let chunk = ChunkIndex::new(2);
        let proof: Vec<Bin> = uncles(&content.geometry, chunk, |_| false).into_iter().collect();
        for &bin in &proof {
            put(&mut peer, bin, content.node(bin).as_slice());
        }
        let arrival = Arrival { chunk, timestamp: 0, at: Instant::ZERO };
        let missing = verifier.missing_for(chunk, &peer.early);
        let peaks: Vec<Bin> = content.geometry.peaks().collect();
        assert_eq!(missing, Some(peaks[0]));
        peer.pending.keep(PendingChunk { arrival, payload: Vec::new(), missing }, 8);
        // Peaks that came are learned with the chunk; they may be known before.
        for learned in [false, true] {
            let mut peer = Peer::default();
            for &bin in &proof {
                put(&mut peer, bin, content.node(bin).as_slice());
            }
            peer.pending.keep(PendingChunk { arrival, payload: Vec::new(), missing }, 8);
            for &peak in &peaks {
                assert!(peer.take_provable(&verifier).is_empty(), "{peak:?} is missing");
                put(&mut peer, peak, content.node(peak).as_slice());
            }
            if learned {
                let last = verifier.check(ChunkIndex::new(36), content.chunk(36), &peer.early);
                assert_eq!(last, Verdict::Verified);
            }
            assert_eq!(peer.take_provable(&verifier).len(), 1);
        }
        // With the peaks known: an all-zero hash, or a short one, is none and is not climbed for.
        let mut peer = Peer::default();
        let missing = verifier.missing_for(chunk, &peer.early);
        assert_eq!(missing, proof.last().copied());
        peer.pending.keep(PendingChunk { arrival, payload: Vec::new(), missing }, 8);
        for &bin in &proof {
            put(&mut peer, bin, content.node(bin).as_slice());
        }
        for wrong in [[0; 32].as_slice(), &[1; 20]] {
            put(&mut peer, proof[proof.len() - 1], wrong);
            assert!(peer.take_provable(&verifier).is_empty());
            assert_eq!(peer.pending.0[0].missing, missing);
        }
    }
}
