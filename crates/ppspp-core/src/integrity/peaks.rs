//! Peak hashes: what ties a content's size to its root (RFC 7574 §5.6.1).

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use thiserror::Error;

use super::HashFunction;
use super::hash::is_zero;
use super::{EarlyHashes, Hash, MAX_PROOF, TreeParams};
use crate::chunk::{Bin, ChunkIndex, ChunkSize, Geometry};
use crate::time::Instant;

/// Most hashes that [`PeakClaim::find`] looks at: a content has at most 54 peaks, and its first chunk fewer uncles.
pub const MAX_CLAIM_CANDIDATES: usize = 128;

/// Peaks or a geometry that do not belong to the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum PeaksError {
    /// The geometry is cut into chunks of another size.
    #[error("the geometry has chunks of {found}, the tree of {expected}")]
    ChunkSize {
        /// The tree's chunk size.
        expected: ChunkSize,
        /// The geometry's chunk size.
        found: ChunkSize,
    },
    /// Another geometry is already known.
    #[error("the content is known to have {known} chunks, not {found}")]
    Contradiction {
        /// Chunks the content is known to have.
        known: u64,
        /// Chunks of the rejected geometry.
        found: u64,
    },
    /// The nodes are not the geometry's peaks, from left to right, or one of them is all-zero.
    #[error("the nodes are not the peaks of {chunks} chunks; give every peak once, from left to right")]
    NotPeaks {
        /// Chunks of the geometry.
        chunks: u64,
    },
    /// The peaks do not hash to the root.
    #[error("the peaks of {chunks} chunks do not hash to the root; use the peaks of this content")]
    Root {
        /// Chunks of the geometry.
        chunks: u64,
    },
}

/// The root over `peaks` (RFC 7574 §5.6.1, lemma); `None` unless they are `geometry`'s peaks from left to right.
///
/// Costs at most one hash per layer of the tree.
pub fn root_from_peaks(function: HashFunction, geometry: &Geometry, peaks: &[(Bin, Hash)]) -> Option<Hash> {
    let mut given = peaks.iter();
    let complete = geometry.peaks().all(|bin| given.next().is_some_and(|(peak, _)| *peak == bin));
    if !complete || given.next().is_some() {
        return None;
    }
    let zero = Hash::zero(function);
    let mut left = peaks.iter().rev();
    let (mut bin, mut hash) = *left.next()?;
    // Climbing from the last peak, everything to the right is empty and everything to the left is a peak.
    while bin != geometry.root() {
        hash = if bin.is_left() {
            function.node(hash.as_slice(), zero.as_slice())
        } else {
            function.node(left.next()?.1.as_slice(), hash.as_slice())
        };
        bin = bin.parent()?;
    }
    Some(hash)
}

/// Checks `peaks` against `root`.
pub(super) fn check_peaks(
    params: TreeParams,
    root: &Hash,
    geometry: &Geometry,
    peaks: &[(Bin, Hash)],
) -> Result<(), PeaksError> {
    let chunks = geometry.chunk_count();
    let computed = root_from_peaks(params.function, geometry, peaks).ok_or(PeaksError::NotPeaks { chunks })?;
    // A node with content never hashes to zeros: zeros would let an empty node pass for a peak.
    if peaks.iter().any(|(_, hash)| is_zero(hash.as_slice()) || hash.as_slice().len() != params.function.len()) {
        return Err(PeaksError::NotPeaks { chunks });
    }
    if computed == *root { Ok(()) } else { Err(PeaksError::Root { chunks }) }
}

/// A peer's claim of how many chunks a content has, with peaks that hash to the trusted root.
///
/// The root does not vouch for the peaks' height, so this is a claim until the last chunk it names verifies (ruling
/// R1): see [`Verifier::adopt`](super::Verifier::adopt). Holds at most 54 hashes whatever size is claimed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeakClaim {
    geometry: Geometry,
    peaks: Vec<(Bin, Hash)>,
}

impl PeakClaim {
    /// Finds the peaks among the hashes that a peer sent ahead of its first chunk, in any order (RFC 7574 §5.6.2).
    ///
    /// Starting at chunk 0, takes the largest node that starts where the last one ended and is smaller than it, as long as
    /// there is one; all-zero nodes, which are past the content's end, are passed over. `None` unless the row of these
    /// hashes to `root`. Only the first [`MAX_CLAIM_CANDIDATES`] candidates count.
    pub fn find(params: TreeParams, root: &Hash, candidates: &[(Bin, Hash)]) -> Option<Self> {
        let candidates = candidates.get(..MAX_CLAIM_CANDIDATES).unwrap_or(candidates);
        let mut peaks: Vec<(Bin, Hash)> = Vec::new();
        let (mut end, mut layer) = (0, Bin::MAX_LAYER + 1);
        let follows = |bin: Bin, end, layer| bin.base_range().start() == end && bin.layer() < layer;
        while let Some(next) = candidates
            .iter()
            .filter(|(bin, hash)| follows(*bin, end, layer) && !hash.is_zero())
            .max_by_key(|(bin, _)| bin.layer())
        {
            peaks.push(*next);
            end = next.0.base_range().end();
            layer = next.0.layer();
        }
        // Tried once, not with each peak that was found: who sends a long row would make us hash a thousand times for a
        // chunk of one byte. No peer has a node that starts where the content ends.
        let geometry = Geometry::of_chunks(end, params.chunk_size).ok()?;
        check_peaks(params, root, &geometry, &peaks).ok()?;
        Some(Self { geometry, peaks })
    }

    /// The claim that goes with a first chunk without any hashes: it is the only one, and its hash is the root.
    pub fn one_chunk(params: TreeParams, root: &Hash) -> Option<Self> {
        let geometry = Geometry::of_chunks(1, params.chunk_size).ok()?;
        Some(Self { geometry, peaks: alloc::vec![(geometry.root(), *root)] })
    }

    /// Whether `payload` hashes, as `chunk`, to the claimed peak over it, with the siblings among `early`. If it does, the
    /// hashes on the way are put there: they prove other chunks whose hashes this one implies.
    ///
    /// Only for chunks before the last, which are whole: a last one is for [`Verifier::adopt`](super::Verifier::adopt).
    pub(crate) fn proves(
        &self,
        params: TreeParams,
        chunk: ChunkIndex,
        payload: &[u8],
        early: &mut EarlyHashes,
        now: Instant,
    ) -> bool {
        let function = params.function;
        if payload.len() != params.chunk_size.bytes() as usize {
            return false;
        }
        let Some((peak, expected)) = self.peaks.iter().find(|(peak, _)| peak.base_range().contains(chunk)) else {
            return false;
        };
        let mut path: ArrayVec<(Bin, Hash), MAX_PROOF> = ArrayVec::new();
        let Some(mut bin) = Bin::leaf(chunk) else { return false };
        let mut hash = function.leaf(payload);
        while bin != *peak {
            let Some((parent, sibling)) = bin.parent().zip(bin.sibling()) else { return false };
            let Some(beside) = early.get(sibling) else { return false };
            let (left, right) = if bin.is_left() { (hash.as_slice(), beside) } else { (beside, hash.as_slice()) };
            let above = function.node(left, right);
            if path.try_push((bin, hash)).is_err() {
                return false;
            }
            (bin, hash) = (parent, above);
        }
        if hash != *expected {
            return false;
        }
        for (bin, hash) in path {
            early.insert(bin, hash.as_slice(), now);
        }
        true
    }

    /// The claimed number of chunks.
    pub const fn chunks(&self) -> u64 {
        self.geometry.chunk_count()
    }

    /// The claimed cut, with the last chunk's length unknown.
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The peaks, left to right.
    pub fn peaks(&self) -> &[(Bin, Hash)] {
        &self.peaks
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::integrity::reference::Content;

    fn content(chunks: u64) -> Content {
        Content::new(HashFunction::Sha1, 512, chunks, 1)
    }

    #[test]
    fn peaks_hash_to_the_root() {
        for chunks in (1..70).chain([127, 128, 129]) {
            let content = content(chunks);
            let root = root_from_peaks(HashFunction::Sha1, &content.geometry, &content.peaks());
            assert_eq!(root, Some(content.root()), "{chunks} chunks");
        }
    }

    /// RFC 7574 Figure 4.
    #[test]
    fn a_file_of_7162_bytes_has_peaks_3_9_12() {
        let content = Content::new(HashFunction::Sha256, 1024, 7, 1018);
        assert_eq!(content.geometry.content_length(), Some(7162));
        let peaks = content.peaks();
        assert_eq!(peaks.iter().map(|(bin, _)| bin.number()).collect::<Vec<_>>(), [3, 9, 12]);
        assert_eq!(root_from_peaks(HashFunction::Sha256, &content.geometry, &peaks), Some(content.root()));
    }

    /// A chunk before the last counts under its peer's claim, and leaves the hashes that it implies for the last one.
    #[test]
    fn a_claim_proves_whole_chunks_and_what_they_imply() {
        let now = Instant::ZERO;
        for chunks in 2..40 {
            let content = content(chunks);
            let claim = PeakClaim::find(content.params, &content.root(), &content.peaks()).unwrap();
            for chunk in (0..chunks - 1).map(ChunkIndex::new) {
                let mut early = EarlyHashes::new(256);
                let uncles = crate::integrity::uncles(&content.geometry, chunk, |_| false);
                for &bin in &uncles {
                    assert!(!claim.proves(content.params, chunk, content.chunk(chunk.value()), &mut early, now));
                    early.insert(bin, content.node(bin).as_slice(), now);
                }
                let mut wrong = content.chunk(chunk.value()).to_vec();
                wrong[0] ^= 1;
                assert!(!claim.proves(content.params, chunk, &wrong, &mut early, now));
                assert!(!claim.proves(content.params, chunk, &wrong[1..], &mut early, now));
                assert_eq!(early.len(), uncles.len(), "what is false leaves no trace");
                assert!(claim.proves(content.params, chunk, content.chunk(chunk.value()), &mut early, now));
                // The last chunk's proof, without what the acknowledged chunk implies (RFC 7574 §5.3).
                let last = content.geometry.last_chunk();
                for bin in crate::integrity::uncles(&content.geometry, last, |range| range.contains(chunk)) {
                    early.insert(bin, content.node(bin).as_slice(), now);
                }
                let mut verifier = crate::integrity::Verifier::new(content.params, content.root(), None, 4);
                let adopted = verifier.adopt(&claim, content.chunk(last.value()), &early);
                assert_eq!(adopted.map(Geometry::chunk_count), Ok(chunks), "{chunk:?}");
            }
        }
    }

    #[test]
    fn other_nodes_are_no_peaks() {
        let content = content(7);
        let peaks = content.peaks();
        let check = |peaks: &[_]| check_peaks(content.params, &content.root(), &content.geometry, peaks);
        assert_eq!(check(&peaks), Ok(()));
        let not_peaks = Err(PeaksError::NotPeaks { chunks: 7 });
        assert_eq!(check(&peaks[1..]), not_peaks);
        assert_eq!(check(&[]), not_peaks);
        assert_eq!(check(&[peaks.clone(), peaks.clone()].concat()), not_peaks);
        assert_eq!(check(&[peaks[1], peaks[0], peaks[2]]), not_peaks);
        let zero = (peaks[2].0, Hash::zero(HashFunction::Sha1));
        assert_eq!(check(&[peaks[0], peaks[1], zero]), not_peaks);
        let wrong = (peaks[2].0, peaks[1].1);
        assert_eq!(check(&[peaks[0], peaks[1], wrong]), Err(PeaksError::Root { chunks: 7 }));
    }

    #[test]
    fn a_claim_is_found_among_uncles_in_any_order() {
        for chunks in 2..40 {
            let content = content(chunks);
            for chunk in 0..chunks {
                let uncles = crate::integrity::uncles(&content.geometry, ChunkIndex::new(chunk), |_| false);
                let mut sent = content.peaks();
                sent.extend(uncles.iter().map(|bin| (*bin, content.node(*bin))));
                for _ in 0..2 {
                    let claim = PeakClaim::find(content.params, &content.root(), &sent).unwrap();
                    assert_eq!((claim.chunks(), claim.peaks()), (chunks, content.peaks().as_slice()));
                    sent.reverse();
                }
            }
        }
    }

    #[test]
    fn no_claim_without_every_peak() {
        let content = content(7);
        let peaks = content.peaks();
        let find = |candidates: &[_]| PeakClaim::find(content.params, &content.root(), candidates);
        assert_eq!(find(&[]), None);
        for left_out in 0..3 {
            let mut some = peaks.clone();
            some.remove(left_out);
            assert_eq!(find(&some), None);
        }
        // Past the bound nothing is looked at.
        let mut many = std::vec![(Bin::leftmost(0), peaks[0].1); MAX_CLAIM_CANDIDATES];
        many.extend(peaks);
        assert_eq!(find(&many), None);
    }

    /// RFC 7574 §12: to look for a claim costs no more than to hash one row, however long it is.
    #[test]
    fn only_the_longest_row_is_tried() {
        for chunks in [2, 6, 7, 12, 33] {
            let content = content(chunks);
            let find = |candidates: &[_]| PeakClaim::find(content.params, &content.root(), candidates);
            let mut more = content.peaks();
            let layer = more.last().unwrap().0.layer();
            // Whoever sends the padding as well has no other peaks (RFC 7574 §5.1).
            let after = (0..layer).rev().filter_map(|layer| Bin::at(layer, chunks >> layer));
            more.extend(after.clone().map(|bin| (bin, Hash::zero(HashFunction::Sha1))));
            assert_eq!(find(&more).map(|claim| claim.chunks()), Some(chunks));
            more.truncate(content.peaks().len());
            more.extend(after.clone().map(|bin| (bin, content.root())));
            assert_eq!(find(&more).is_some(), after.count() == 0, "{chunks} chunks");
        }
    }

    /// R1: the root passes as a lone peak at any height; the claim costs nothing but its one hash.
    #[test]
    fn a_root_claimed_as_a_lone_peak_is_only_a_claim() {
        let content = content(7);
        for layer in 0..=Bin::MAX_LAYER {
            let lone = [(Bin::leftmost(layer), content.root())];
            match PeakClaim::find(content.params, &content.root(), &lone) {
                Some(claim) => assert_eq!((claim.chunks(), claim.peaks.capacity() <= 4), (1 << layer, true)),
                // 2^54 chunks of 512 bytes are more than any content has.
                None => assert!(layer >= 54),
            }
        }
    }

    proptest! {
        #[test]
        fn junk_makes_no_claim(junk in proptest::collection::vec((0u64..u64::MAX, any::<[u8; 20]>()), 0..200)) {
            let candidates: Vec<_> = junk
                .iter()
                .map(|(bin, hash)| (Bin::from_number(*bin).unwrap(), Hash::from_slice(hash).unwrap()))
                .collect();
            prop_assert_eq!(PeakClaim::find(content(7).params, &content(7).root(), &candidates), None);
        }
    }
}
