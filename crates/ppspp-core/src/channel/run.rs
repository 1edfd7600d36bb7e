//! The order in which an aligned run of requested chunks leaves.

use crate::chunk::{ChunkIndex, ChunkRange, ChunkSize};

/// Most chunks in a run.
const MAX_CHUNKS: u64 = 128;
/// Fewest chunks in a whole run: with fewer, too many hashes are sent twice.
const MIN_CHUNKS: u64 = 16;
/// Bytes in a whole run, within these bounds: all of it is read before it is sent.
const RUN_BYTES: u64 = 128 * 1024;
/// Chunks of a whole run: a power of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RunLength(u64);

impl RunLength {
    /// For chunks of `chunk_size`, at most `max_chunks` but at least one group.
    pub(crate) fn new(chunk_size: ChunkSize, max_chunks: u64) -> Self {
        let chunks = RUN_BYTES / u64::from(chunk_size.bytes());
        let wanted = chunks.next_power_of_two().clamp(MIN_CHUNKS, MAX_CHUNKS);
        let most = if max_chunks == 0 { 1 } else { 1 << max_chunks.ilog2() };
        Self(wanted.min(most).max(1 << chunk_size.group_layer()))
    }
}

/// Layers within a run, its top included.
const LAYERS: usize = MAX_CHUNKS.trailing_zeros() as usize + 1;

/// For each layer, the offsets whose trailing zeros are exactly that many; the last holds offset 0.
const RULER: [u128; LAYERS] = {
    let mut masks = [0u128; LAYERS];
    let mut offset = 0u64;
    while offset < MAX_CHUNKS {
        let layer = if offset == 0 { LAYERS - 1 } else { offset.trailing_zeros() as usize };
        masks[layer] |= 1 << offset;
        offset += 1;
    }
    masks
};

/// Chunks in the order of their numbers: those from `first` on, which is a multiple of 64, whose bits are set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stretch {
    pub(crate) first: u64,
    pub(crate) bits: [u64; 2],
    /// Each begins an aligned run of two to this power, and what was sent beside that run brought the hash over it.
    pub(crate) layer: u8,
}

/// Part of an aligned run, sent so that chunks that need equally many hashes leave together, most hashes first.
///
/// The first chunk brings the hashes from its layer up; the one at half the run then needs one layer fewer, the
/// two at the quarters two fewer, and half of all chunks none: equal datagrams, which one GSO call can carry.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    base: u64,
    todo: u128,
    sent: u128,
    /// The highest layer with anything still to be sent may be this one.
    layer: usize,
    /// Whether any of it was planned for the peer before.
    pub(super) again: bool,
}

impl Run {
    /// The part of `requested` within the aligned run at its start, and the rest.
    pub(crate) fn split_from(requested: ChunkRange, len: RunLength) -> (Self, ChunkRange) {
        let base = requested.start() & !(len.0 - 1);
        let whole = ChunkRange::new(base, base.saturating_add(len.0));
        let part = requested.intersection(whole);
        (
            Self { base, todo: mask(base, part), sent: 0, layer: LAYERS - 1, again: false },
            ChunkRange::new(part.end(), requested.end()),
        )
    }

    /// The smallest range that holds everything still to be sent.
    pub(crate) const fn rest(&self) -> ChunkRange {
        if self.todo == 0 {
            return ChunkRange::EMPTY;
        }
        ChunkRange::new(
            self.base + self.todo.trailing_zeros() as u64,
            self.base + 128 - self.todo.leading_zeros() as u64,
        )
    }

    /// The chunk to send next.
    pub(crate) fn next(&mut self) -> Option<ChunkIndex> {
        let offset = self.next_layer()?.trailing_zeros();
        Some(ChunkIndex::new(self.base + u64::from(offset)))
    }

    /// What is still to be sent of the highest layer with anything.
    fn next_layer(&mut self) -> Option<u128> {
        loop {
            let next = self.todo & RULER[self.layer];
            if next != 0 {
                return Some(next);
            }
            self.layer = self.layer.checked_sub(1)?;
        }
    }

    /// What is to be sent next, as far as it needs equally many hashes: the chunks of one layer whose nearest neighbours of
    /// the layers above, which brought the hashes over them, were sent.
    pub(crate) fn stretch(&mut self) -> Option<Stretch> {
        let next = self.next_layer()?;
        // Nothing comes before the first of a run.
        let layer = Some(self.layer).filter(|layer| *layer < LAYERS - 1)?;
        let unready = next & !(self.sent << (1 << layer));
        let before = if unready == 0 { u128::MAX } else { (1 << unready.trailing_zeros()) - 1 };
        // A run is aligned: one that does not begin at a multiple of 64 ends before the next.
        let bits = (next & before) << (self.base % 64);
        let (first, bits) = (self.base - self.base % 64, [bits as u64, (bits >> 64) as u64]);
        (bits != [0; 2]).then_some(Stretch { first, bits, layer: layer as u8 })
    }

    /// Notes that a part of [`Run::stretch`] was sent.
    pub(crate) const fn on_stretch_sent(&mut self, sent: Stretch) {
        let [low, high] = sent.bits;
        let bits = (low as u128 | (high as u128) << 64) >> (self.base % 64);
        self.todo &= !bits;
        self.sent |= bits;
    }

    /// Notes that `chunk` was sent.
    pub(crate) const fn on_sent(&mut self, chunk: ChunkIndex) {
        let bit = 1 << (chunk.value() - self.base);
        self.todo &= !bit;
        self.sent |= bit;
    }

    /// Drops `range` from what is to be sent.
    pub(crate) fn cancel(&mut self, range: ChunkRange) {
        self.todo &= !mask(self.base, range);
    }

    /// How many chunks the smallest aligned run has that holds `chunk`, one of this run, and one that was sent as part of
    /// it: a power of two.
    pub(crate) fn sent_beside(&self, chunk: ChunkIndex) -> Option<u64> {
        let offset = (chunk.value() - self.base) as u32;
        // No nearer place comes earlier in the order than that without the lowest bit: most often it was sent.
        let earlier = offset & offset.saturating_sub(1);
        if earlier != offset && self.sent >> earlier & 1 == 1 {
            return Some(u64::from(offset - earlier) * 2);
        }
        // Two numbers lie in one aligned run from the highest bit on in which they differ: the nearest below or above.
        let below = (self.sent << (u128::BITS - 1 - offset)).leading_zeros();
        let above = (self.sent >> offset).trailing_zeros();
        let before = offset.checked_sub(below).map(|near| near ^ offset);
        let after = (above < u128::BITS).then(|| (offset + above) ^ offset);
        let apart = before.into_iter().chain(after).min()?;
        Some(u64::from(apart + 1).next_power_of_two())
    }

    /// Forgets what was sent, so that its hashes are no longer taken for known.
    pub(crate) const fn distrust(&mut self) {
        self.sent = 0;
    }

    /// Whether everything was sent.
    pub(crate) const fn is_done(&self) -> bool {
        self.todo == 0
    }
}

/// The bits of `range` in the run at `base`.
const fn mask(base: u64, range: ChunkRange) -> u128 {
    let inside = range.intersection(ChunkRange::new(base, base.saturating_add(MAX_CHUNKS)));
    if inside.is_empty() {
        return 0;
    }
    let count = inside.count() as u32;
    let ones = if count == 128 { u128::MAX } else { (1u128 << count) - 1 };
    ones << (inside.start() - base)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_whole_run_follows_the_ruler() {
        let (mut run, rest) = Run::split_from(ChunkRange::new(256, 400), RunLength::new(ChunkSize::DEFAULT, u64::MAX));
        assert_eq!(rest, ChunkRange::new(384, 400));
        let mut order = Vec::new();
        while let Some(chunk) = run.next() {
            order.push(chunk.value() - 256);
            run.on_sent(chunk);
        }
        assert_eq!(order.len(), 128);
        assert_eq!(order[..8], [0, 64, 32, 96, 16, 48, 80, 112]);
        assert!(order[64..].iter().all(|offset| offset % 2 == 1));
    }

    #[test]
    fn a_part_is_sent_without_its_neighbours() {
        let (mut run, rest) = Run::split_from(ChunkRange::new(5, 9), RunLength::new(ChunkSize::DEFAULT, u64::MAX));
        assert!(rest.is_empty());
        assert_eq!(run.rest(), ChunkRange::new(5, 9));
        run.cancel(ChunkRange::new(8, 200));
        let first = run.next();
        assert_eq!(first, Some(ChunkIndex::new(6)));
        run.on_sent(ChunkIndex::new(6));
        assert_eq!(run.sent_beside(ChunkIndex::new(7)), Some(2));
        run.distrust();
        assert_eq!(run.sent_beside(ChunkIndex::new(7)), None);
    }

    proptest! {
        #[test]
        fn a_stretch_is_what_would_leave_next_with_equally_many_hashes(
            start in 0u64..300, count in 1u64..200, length in 4u32..=7, lost in any::<u128>(),
        ) {
            let (mut run, _) = Run::split_from(ChunkRange::new(start, start + count), RunLength(1 << length));
            for step in 0.. {
                if let Some(stretch) = run.stretch() {
                    let mut twin = run.clone();
                    for offset in 0..128_u64 {
                        if stretch.bits[offset as usize / 64] >> (offset % 64) & 1 == 1 {
                            let chunk = ChunkIndex::new(stretch.first + offset);
                            prop_assert_eq!((twin.next(), twin.sent_beside(chunk)), (Some(chunk), Some(2 << stretch.layer)));
                            twin.on_sent(chunk);
                        }
                    }
                    // The one after these is of another layer, or its neighbour was not sent.
                    let same = |chunk: &ChunkIndex| chunk.value().trailing_zeros() == u32::from(stretch.layer);
                    let next = twin.next().filter(same);
                    prop_assert!(next.is_none_or(|chunk| twin.sent_beside(chunk) != Some(2 << stretch.layer)));
                    run.on_stretch_sent(stretch);
                    prop_assert_eq!((run.todo, run.sent), (twin.todo, twin.sent));
                }
                let Some(chunk) = run.next() else { break };
                if lost >> step & 1 == 1 {
                    run.cancel(ChunkRange::single(chunk));
                } else {
                    run.on_sent(chunk);
                }
            }
        }

        #[test]
        fn what_was_sent_beside_a_chunk_is_found(
            start in 0u64..300, count in 1u64..200, lost in any::<u128>(), distrusted in 0usize..128,
        ) {
            let (mut run, _) = Run::split_from(ChunkRange::new(start, start + count), RunLength(MAX_CHUNKS));
            let mut sent = Vec::new();
            for step in 0.. {
                let Some(chunk) = run.next() else { break };
                let holds = |width: &u64| sent.iter().any(|sent| sent / width == chunk.value() / width);
                prop_assert_eq!(run.sent_beside(chunk), (1..=7).map(|layer| 1 << layer).find(holds));
                if lost >> step & 1 == 1 {
                    run.cancel(ChunkRange::single(chunk));
                } else {
                    run.on_sent(chunk);
                    sent.push(chunk.value());
                }
                if step == distrusted {
                    run.distrust();
                    sent.clear();
                }
            }
        }
    }

    #[test]
    fn length_follows_the_chunk_size_and_the_room() {
        let length = |bytes, room| RunLength::new(ChunkSize::new(bytes).unwrap(), room);
        assert_eq!(length(1024, u64::MAX), RunLength(128));
        assert_eq!(length(512, u64::MAX), RunLength(128));
        assert_eq!(length(8192, u64::MAX), RunLength(16));
        assert_eq!(length(61_440, u64::MAX), RunLength(16));
        assert_eq!(length(1024, 100), RunLength(64));
        assert_eq!(length(1024, 0), RunLength(16));
        assert_eq!(length(61_440, 3), RunLength(2));
    }
}
