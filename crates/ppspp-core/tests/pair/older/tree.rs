//! How libswift keeps hashes and judges chunks: less patient than ours, and with a different idea of what is known.

use std::collections::BTreeMap;

use ppspp_core::chunk::{Bin, ChunkIndex, ChunkRange, ChunkSize, Geometry, RangeSet};
use ppspp_core::integrity::{Hash, HashFunction, root_from_peaks};

const SHA1: HashFunction = HashFunction::Sha1;

/// libswift's tree of one content, of which only the root is known at first.
///
/// - Until the size is known each hash is taken for the next peak; a hash that does not lie lower and right of the last
///   one starts the list anew. No chunk is accepted before the peaks add up to the root.
/// - A chunk is hashed upwards to the lowest node over a chunk that was accepted, or to its peak, and the hashes on the
///   way are overwritten, whether the chunk is accepted or not.
#[derive(Debug)]
pub(crate) struct SwiftTree {
    root: Hash,
    chunk_size: ChunkSize,
    peaks: Vec<(Bin, Hash)>,
    geometry: Option<Geometry>,
    hashes: BTreeMap<Bin, Hash>,
    have: RangeSet,
}

impl SwiftTree {
    pub(crate) const fn new(root: Hash, chunk_size: ChunkSize) -> Self {
        Self { root, chunk_size, peaks: Vec::new(), geometry: None, hashes: BTreeMap::new(), have: RangeSet::new() }
    }

    /// The chunks that were accepted.
    pub(crate) const fn have(&self) -> &RangeSet {
        &self.have
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.geometry.is_some_and(|geometry| self.have.covers(geometry.all()))
    }

    pub(crate) fn offer_hash(&mut self, node: Bin, hash: &[u8]) {
        let hash = Hash::from_slice(hash).unwrap();
        let Some(geometry) = self.geometry else { return self.offer_peak(node, hash) };
        let chunk = ChunkIndex::new(node.base_range().start());
        let Some(peak) = geometry.peak_of(chunk).filter(|&peak| peak.contains(node) && peak != node) else { return };
        let parent = node.parent().filter(|&parent| peak.contains(parent)).unwrap();
        if !self.have.intersects(parent.base_range()) {
            self.hashes.insert(node, hash);
        }
    }

    fn offer_peak(&mut self, node: Bin, hash: Hash) {
        if let Some((last, _)) = self.peaks.last()
            && (node.layer() >= last.layer() || node.base_range().start() != last.base_range().end())
        {
            self.peaks.clear();
        }
        self.peaks.push((node, hash));
        let Ok(geometry) = Geometry::of_chunks(node.base_range().end(), self.chunk_size) else { return };
        if root_from_peaks(SHA1, &geometry, &self.peaks) == Some(self.root) {
            self.hashes.extend(self.peaks.iter().copied());
            self.geometry = Some(geometry);
        }
    }

    /// Whether `chunk` was accepted, now or before.
    pub(crate) fn offer_data(&mut self, chunk: ChunkIndex, payload: &[u8]) -> bool {
        let Some(geometry) = self.geometry else { return false };
        let short = payload.len() < self.chunk_size.bytes() as usize;
        let Some(peak) = geometry.peak_of(chunk).filter(|_| !short || chunk == geometry.last_chunk()) else {
            return false;
        };
        if self.have.contains(chunk) {
            return true;
        }
        let mut node = Bin::leaf(chunk).unwrap();
        let mut hash = SHA1.leaf(payload);
        while node != peak && !self.have.intersects(node.base_range()) {
            self.hashes.insert(node, hash);
            let (left, right) = node.parent().and_then(Bin::children).unwrap();
            let of = |bin| self.hashes.get(&bin).copied().unwrap_or_else(|| Hash::zero(SHA1));
            hash = SHA1.node(of(left).as_slice(), of(right).as_slice());
            node = node.parent().unwrap();
        }
        let accepted = self.hashes.get(&node) == Some(&hash);
        if accepted {
            self.have.insert(ChunkRange::single(chunk));
        }
        accepted
    }
}
