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
    knows: impl FnMut(ChunkRange) -> bool,
) -> ArrayVec<Bin, MAX_PROOF> {
    let mut out = ArrayVec::new();
    push_uncles(geometry, chunk, knows, &mut out);
    out
}

/// Appends [`uncles`] to `out`, as far as it has room.
pub(crate) fn push_uncles<const ROOM: usize>(
    geometry: &Geometry,
    chunk: ChunkIndex,
    mut knows: impl FnMut(ChunkRange) -> bool,
    out: &mut ArrayVec<Bin, ROOM>,
) {
    if chunk.value() >= geometry.chunk_count() {
        return;
    }
    let first = out.len();
    let mut place = Bin::leaf(chunk);
    while let Some(bin) = place {
        let (Some(parent), Some(sibling)) = (bin.parent(), bin.sibling()) else { break };
        // A node within the content whose parent reaches past it is a peak.
        if parent.base_range().end() > geometry.chunk_count()
            || knows(parent.base_range())
            || out.try_push(sibling).is_err()
        {
            break;
        }
        place = Some(parent);
    }
    if let Some(pushed) = out.get_mut(first..) {
        pushed.reverse();
    }
}

/// The peaks to send, left to right and so highest first, ahead of the uncles of the first chunk (RFC 7574 §5.6.2).
///
/// `acknowledged` says whether the receiver has acknowledged any chunk: then it has them. A content of one chunk has
/// its root for a peak: the hash tells a receiver nothing new, the size does (libswift takes no chunk before it knows).
pub fn peaks_needed(geometry: &Geometry, acknowledged: bool) -> impl Iterator<Item = Bin> {
    geometry.peaks().filter(move |_| !acknowledged)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::chunk::{ChunkSize, RangeSet};

    fn of_chunks(chunks: u64) -> Geometry {
        Geometry::of_chunks(chunks, ChunkSize::DEFAULT).unwrap()
    }

    fn numbers(bins: impl IntoIterator<Item = Bin>) -> Vec<u64> {
        bins.into_iter().map(Bin::number).collect()
    }

    /// RFC 7574 Table 1, with the nodes 11 and 13 above the peaks replaced by the peaks of §5.6.2, and without node 14,
    /// which is empty.
    #[test]
    fn in_order_download_of_table_1() {
        let geometry = of_chunks(7);
        let mut sent = Vec::new();
        for chunk in 0..7 {
            let mut bins = numbers(peaks_needed(&geometry, chunk > 0));
            bins.extend(numbers(uncles(&geometry, ChunkIndex::new(chunk), |range| range.start() < chunk)));
            sent.push(bins);
        }
        assert_eq!(
            sent,
            [std::vec![3, 9, 12, 5, 2], Vec::new(), std::vec![6], Vec::new(), std::vec![10], Vec::new(), Vec::new()]
        );
    }

    /// The example in RFC 7574 §5.3: C0 and C1 acknowledged, so the seventh chunk needs 14 and 9.
    #[test]
    fn acknowledged_chunks_save_their_uncles() {
        let bins = uncles(&of_chunks(8), ChunkIndex::new(6), |range| range.start() < 2);
        assert_eq!(numbers(bins), [9, 14]);
    }

    #[test]
    fn peaks_go_to_who_has_acknowledged_nothing() {
        assert_eq!(numbers(peaks_needed(&of_chunks(7), false)), [3, 9, 12]);
        assert_eq!(numbers(peaks_needed(&of_chunks(8), false)), [7]);
        assert_eq!(numbers(peaks_needed(&of_chunks(1), false)), [0]);
        assert_eq!(numbers(peaks_needed(&of_chunks(7), true)), []);
        assert!(uncles(&of_chunks(1), ChunkIndex::new(0), |_| false).is_empty());
        assert!(uncles(&of_chunks(7), ChunkIndex::new(7), |_| false).is_empty());
        assert!(uncles(&of_chunks(7), ChunkIndex::new(u64::MAX), |_| false).is_empty());
    }

    /// The figure that counts on the wire: libswift sends 2.05.
    #[test]
    fn an_in_order_download_costs_at_most_1_1_hashes_per_chunk() {
        const CHUNKS: u64 = 100_000;
        let geometry = of_chunks(CHUNKS);
        let mut acknowledged = RangeSet::new();
        let mut sent = 0;
        for chunk in 0..CHUNKS {
            // An acknowledgement comes after each aligned run of 128; within it, what was sent counts as known (R17).
            let run = chunk & !127;
            if chunk == run {
                acknowledged.insert(ChunkRange::new(0, run));
            }
            let in_run = ChunkRange::new(run, chunk);
            sent += peaks_needed(&geometry, chunk > 0).count();
            sent += uncles(&geometry, ChunkIndex::new(chunk), |range| {
                acknowledged.intersects(range) || in_run.intersects(range)
            })
            .len();
        }
        assert!(sent as u64 * 10 <= CHUNKS * 11, "{sent} hashes for {CHUNKS} chunks");
        // Every chunk but the left one of each pair needs its sibling: no fewer than one hash per pair are possible.
        assert!(sent as u64 >= CHUNKS / 2);
    }

    proptest! {
        #[test]
        fn a_proof_descends_below_its_peak(chunks in 1u64..=1 << 53, pick in any::<u64>()) {
            let geometry = of_chunks(chunks);
            let chunk = ChunkIndex::new(pick % chunks);
            let peak = geometry.peak_of(chunk).unwrap();
            let proof = uncles(&geometry, chunk, |range| { assert!(peak.base_range().covers(range)); false });
            prop_assert_eq!(proof.len(), usize::from(peak.layer()));
            for (bin, layer) in proof.iter().zip((0..peak.layer()).rev()) {
                prop_assert_eq!(bin.layer(), layer);
                prop_assert!(bin.parent().unwrap().base_range().contains(chunk) && !bin.base_range().contains(chunk));
            }
        }
    }
}
