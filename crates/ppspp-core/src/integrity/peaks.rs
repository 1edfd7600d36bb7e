//! Peak hashes: what ties a content's size to its root (RFC 7574 §5.6.1).

use alloc::vec::Vec;

use thiserror::Error;

use super::HashFunction;
use super::hash::is_zero;
use super::{Hash, TreeParams};
use crate::chunk::{Bin, ChunkSize, Geometry};

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
    /// Starting at chunk 0, takes the largest node that starts where the last one ended and is smaller than it, and
    /// tries after each whether the nodes so far hash to `root`. `None` if no such row does. Only the first
    /// [`MAX_CLAIM_CANDIDATES`] candidates count.
    pub fn find(params: TreeParams, root: &Hash, candidates: &[(Bin, Hash)]) -> Option<Self> {
        let candidates = candidates.get(..MAX_CLAIM_CANDIDATES).unwrap_or(candidates);
        let mut peaks: Vec<(Bin, Hash)> = Vec::new();
        let (mut end, mut layer) = (0, Bin::MAX_LAYER + 1);
        loop {
            let next = candidates
                .iter()
                .filter(|(bin, _)| bin.base_range().start() == end && bin.layer() < layer)
                .max_by_key(|(bin, _)| bin.layer())?;
            peaks.push(*next);
            end = next.0.base_range().end();
            layer = next.0.layer();
            // A size past any supported content ends the search: what follows would only be larger.
            let geometry = Geometry::of_chunks(end, params.chunk_size).ok()?;
            if check_peaks(params, root, &geometry, &peaks).is_ok() {
                return Some(Self { geometry, peaks });
            }
        }
    }

    /// The claim that goes with a first chunk without any hashes: it is the only one, and its hash is the root.
    pub fn one_chunk(params: TreeParams, root: &Hash) -> Option<Self> {
        let geometry = Geometry::of_chunks(1, params.chunk_size).ok()?;
        Some(Self { geometry, peaks: alloc::vec![(geometry.root(), *root)] })
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
