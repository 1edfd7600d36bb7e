//! Which hashes to send along with a chunk (RFC 7574 §5.3, §5.4, §5.6.2).

use arrayvec::ArrayVec;

use crate::chunk::{Bin, ChunkIndex, ChunkRange, Geometry};

/// Most hashes that prove one chunk: one for each layer below the highest root.
pub const MAX_PROOF: usize = 64;

/// The hashes that a receiver needs to verify `chunk`, highest first: the order of RFC 7574 §5.4.
///
/// `knows` says of a run of chunks whether the receiver has verified any of them: it then holds the hash over that run
/// and those of both its halves (§5.3). Only aligned power-of-two runs within the content are asked for, each containing
/// the last. The receiver is taken to know all peaks; if it has acknowledged nothing yet, send [`peaks_needed`] first.
/// Empty for a chunk past the content's end.
pub fn uncles(
    geometry: &Geometry,
    chunk: ChunkIndex,
    mut knows: impl FnMut(ChunkRange) -> bool,
) -> ArrayVec<Bin, MAX_PROOF> {
    let mut out = ArrayVec::new();
    let (Some(peak), Some(mut bin)) = (geometry.peak_of(chunk), Bin::leaf(chunk)) else { return out };
    while bin != peak {
        let (Some(parent), Some(sibling)) = (bin.parent(), bin.sibling()) else { break };
        if knows(parent.base_range()) || out.try_push(sibling).is_err() {
            break;
        }
        bin = parent;
    }
    out.reverse();
    out
}

/// The peaks to send, left to right and so highest first, ahead of the uncles of the first chunk (RFC 7574 §5.6.2).
///
/// `acknowledged` says whether the receiver has acknowledged any chunk: then it has them. A content of one chunk has
/// none to send, since its hash is the root.
pub fn peaks_needed(geometry: &Geometry, acknowledged: bool) -> impl Iterator<Item = Bin> {
    let needed = !acknowledged && geometry.chunk_count() > 1;
    geometry.peaks().filter(move |_| needed)
}
