//! Chunks sent to one peer and not yet acknowledged; which of them are lost.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use crate::channel::run::Stretch;
use crate::chunk::{ChunkIndex, ChunkRange, GroupIndex, GroupMap};
use crate::time::Instant;

/// Chunks indexed together.
const BLOCK: u64 = u64::BITS as u64;
/// Later transmissions that must be acknowledged before one counts as lost (R15).
const LOSS_THRESHOLD: usize = 3;
/// Blocks kept for reuse.
const MAX_SPARE: usize = 8;

/// Position in the order of sending, counted from 1.
type Serial = u64;

/// Chunks of a block that left together, in ascending order, each in a datagram of `bytes` bytes.
#[derive(Debug)]
struct Transmission {
    /// The block's number.
    number: u64,
    /// Its chunks that left, the lowest with the first serial, and those that fly.
    chunks: u64,
    flying: u64,
    first: Serial,
    bytes: u32,
    repeated: bool,
    again: bool,
    sent_at: Instant,
    first_sent_at: Instant,
}

/// Which chunks of an aligned run of [`BLOCK`] are flying, and with which transmission.
#[derive(Debug)]
struct Block {
    number: u64,
    flying: u64,
    /// By chunk; see [`InFlight::oldest`].
    carriers: Box<[u32; BLOCK as usize]>,
}

impl Block {
    /// An empty block, one of those that are spare if there are any.
    fn take(spare: &mut Vec<Self>, number: u64) -> Self {
        match spare.pop() {
            Some(block) => Self { number, ..block },
            None => Self { number, flying: 0, carriers: Box::new([0; BLOCK as usize]) },
        }
    }
}

/// A chunk that was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LostChunk {
    pub(crate) chunk: ChunkIndex,
    pub(crate) bytes: u32,
    pub(crate) sent_at: Instant,
    pub(crate) first_sent_at: Instant,
}

/// What a set of acknowledgements settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Acked {
    /// Datagram bytes.
    pub(crate) bytes: u64,
    /// Sending time of the newest transmission among them.
    pub(crate) newest_sent_at: Option<Instant>,
    /// The same, unless that transmission was a repeat: its round trip is unambiguous.
    pub(crate) rtt_from: Option<Instant>,
    /// Whether that chunk was sent before, when it was asked for earlier: an ACK may be for that copy.
    pub(crate) again: bool,
    /// The newest among them that were sent before: [`InFlight::trust_copies`].
    copies: Newest,
}

/// Transmissions in order of sending, indexed by chunk.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    sent: VecDeque<Transmission>,
    /// The number of the front of `sent`; the others' follow, and wrap.
    oldest: u32,
    /// Chunks that ever left.
    serial: Serial,
    /// By number, as groups are: chunks leave run by run, and a run lies in one block.
    blocks: GroupMap<Block>,
    spare: Vec<Block>,
    bytes: u64,
    chunks: usize,
    newest_acked: Newest,
}

/// The newest acknowledged transmissions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Newest {
    /// Newest first; 0 for none.
    serials: [Serial; LOSS_THRESHOLD],
    /// When the first of them was sent.
    sent_at: Option<Instant>,
}

impl InFlight {
    /// Datagram bytes in flight: the flight size of RFC 6817.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Chunks in flight.
    pub(crate) const fn chunks(&self) -> usize {
        self.chunks
    }

    /// Whether `chunk` is in flight.
    pub(crate) fn contains(&self, chunk: ChunkIndex) -> bool {
        let bit = chunk.value() % BLOCK;
        self.blocks.get(block_of(chunk.value())).is_some_and(|block| block.flying >> bit & 1 == 1)
    }

    /// When the newest transmission was made.
    pub(crate) fn newest_sent_at(&self) -> Option<Instant> {
        self.sent.back().map(|sent| sent.sent_at)
    }

    /// Records that `chunk` leaves in a datagram of `bytes`, `again` if it was sent when it was asked for earlier. It must
    /// not be in flight already.
    pub(crate) fn on_sent(
        &mut self,
        chunk: ChunkIndex,
        bytes: u32,
        now: Instant,
        first_sent_at: Option<Instant>,
        again: bool,
    ) {
        debug_assert!(!self.contains(chunk), "a chunk flies once at a time (R16)");
        self.launch(Transmission {
            number: chunk.value() / BLOCK,
            chunks: 1 << (chunk.value() % BLOCK),
            flying: 1 << (chunk.value() % BLOCK),
            first: self.serial + 1,
            bytes,
            repeated: first_sent_at.is_some(),
            again,
            sent_at: now,
            first_sent_at: first_sent_at.unwrap_or(now),
        });
    }

    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "handed over in memory, its fields wait for the datagrams that were written"
    )]
    fn launch(&mut self, sent: Transmission) {
        let (number, chunks, count) = (sent.number, sent.chunks, sent.chunks.count_ones());
        let (spare, carrier) = (&mut self.spare, self.oldest.wrapping_add(self.sent.len() as u32));
        let block = self.blocks.get_or_insert_with(GroupIndex::new(number), || Block::take(spare, number));
        block.flying |= chunks;
        let mut left = chunks;
        while left != 0 {
            block.carriers[left.trailing_zeros() as usize] = carrier;
            left &= left - 1;
        }
        self.serial += u64::from(count);
        self.bytes += u64::from(sent.bytes) * u64::from(count);
        self.chunks += count as usize;
        self.sent.push_back(sent);
    }

    /// Whether a chunk of `stretch` is in flight.
    pub(crate) fn intersects(&self, stretch: Stretch) -> bool {
        let numbers = stretch.first / BLOCK..;
        let flying = |number: u64| self.blocks.get(GroupIndex::new(number)).map_or(0, |block| block.flying);
        numbers.zip(stretch.bits).any(|(number, bits)| bits != 0 && flying(number) & bits != 0)
    }

    /// Records that the chunks of `stretch` leave, in this order, in datagrams of `bytes` each.
    pub(crate) fn on_stretch_sent(&mut self, stretch: Stretch, bytes: u32, now: Instant, again: bool) {
        debug_assert!(!self.intersects(stretch), "a chunk flies once at a time (R16)");
        for (number, chunks) in (stretch.first / BLOCK..).zip(stretch.bits).filter(|&(_, chunks)| chunks != 0) {
            self.launch(Transmission {
                number,
                chunks,
                flying: chunks,
                first: self.serial + 1,
                bytes,
                repeated: false,
                again,
                sent_at: now,
                first_sent_at: now,
            });
        }
    }

    /// Settles the chunks of `range` that are in flight; others are not ours to judge (R5).
    pub(crate) fn on_ack(&mut self, range: ChunkRange, acked: &mut Acked) {
        if range.is_empty() || self.chunks == 0 {
            return;
        }
        let Self { sent, oldest, blocks, bytes, chunks, newest_acked, .. } = self;
        let mut settlement = Settlement { sent, oldest: *oldest, newest_acked, acked };
        let before = settlement.acked.bytes;
        let (mut settled, mut emptied) = (0, false);
        let mut settle = |block: &mut Block| {
            let hit = block.flying & mask_in(block.number, range);
            block.flying &= !hit;
            emptied |= block.flying == 0;
            settled += settlement.settle(&block.carriers, hit);
        };
        let [first, last] = [range.start(), range.end() - 1].map(block_of);
        if first == last {
            blocks.get_mut(first).map(&mut settle);
        } else {
            blocks.for_each_in(first, GroupIndex::new(last.value() + 1), settle);
        }
        *chunks -= settled;
        *bytes -= acked.bytes - before;
        if emptied {
            self.drop_empty_blocks(first, last);
        }
    }

    /// Lets copies among `acked` tell what was overtaken and is lost, unless the newest left less than `least`, the
    /// shortest round trip, before `now`.
    ///
    /// RFC 8985 §6.2: an ACK that comes sooner than one can is for the transmission before. Taken for that of the copy,
    /// it would make all in flight look lost.
    pub(crate) fn trust_copies(&mut self, acked: &Acked, now: Instant, least: Duration) {
        let Newest { serials, sent_at } = acked.copies;
        if let Some(sent_at) = sent_at.filter(|&sent_at| now - sent_at >= least) {
            for serial in serials {
                self.newest_acked.note(serial, sent_at);
            }
        }
    }

    /// Drops the chunks of `range` that are in flight: they arrived, but nothing follows from it for others.
    pub(crate) fn forget(&mut self, range: ChunkRange) {
        let newest = self.newest_acked;
        self.on_ack(range, &mut Acked::default());
        self.newest_acked = newest;
    }

    fn drop_empty_blocks(&mut self, first: GroupIndex, last: GroupIndex) {
        let end = GroupIndex::new(last.value() + 1);
        let empty = |number: &GroupIndex| self.blocks.get(*number).is_some_and(|block| block.flying == 0);
        let empty: Vec<GroupIndex> = self.blocks.groups_in(first, end).filter(empty).collect();
        for number in empty {
            self.recycle(number);
        }
    }

    fn recycle(&mut self, number: GroupIndex) {
        if let Some(block) = self.blocks.remove(number)
            && self.spare.len() < MAX_SPARE
        {
            self.spare.push(block);
        }
    }

    /// Takes out what is lost: three later transmissions were acknowledged, or one sent a quarter `rtt` later (R15).
    pub(crate) fn take_lost(&mut self, rtt: Duration, lost: &mut Vec<LostChunk>) {
        let Newest { serials: [.., third], sent_at: newest } = self.newest_acked;
        self.settle_front(lost, |sent| {
            let late = newest.is_some_and(|newest| newest > sent.sent_at + rtt / 4);
            if late { Serial::MAX } else { third }
        });
    }

    /// Takes out everything: after a congestion timeout nothing in flight is expected to arrive.
    pub(crate) fn take_all(&mut self, lost: &mut Vec<LostChunk>) {
        self.settle_front(lost, |_| Serial::MAX);
    }

    /// Takes out the newest transmission, to be sent again as a probe for the loss of a tail.
    pub(crate) fn take_newest(&mut self) -> Option<LostChunk> {
        let sent = self.sent.iter_mut().rev().find(|sent| sent.flying != 0)?;
        let bit = sent.flying.ilog2();
        sent.flying &= !(1 << bit);
        let lost = sent.lost(bit);
        self.unindex(&lost);
        Some(lost)
    }

    /// Takes out the oldest chunks in flight, those before the serial `end` of their transmission, up to the first that
    /// stays: they are lost.
    fn settle_front(&mut self, lost: &mut Vec<LostChunk>, end: impl Fn(&Transmission) -> Serial) {
        let before = lost.len();
        while let Some(sent) = self.sent.front_mut() {
            let end = end(sent);
            while sent.flying != 0 {
                let bit = sent.flying.trailing_zeros();
                if sent.serial_of(bit) >= end {
                    break;
                }
                sent.flying &= sent.flying - 1;
                lost.push(sent.lost(bit));
            }
            if sent.flying != 0 {
                break;
            }
            self.sent.pop_front();
            self.oldest = self.oldest.wrapping_add(1);
        }
        for lost in &lost[before..] {
            self.unindex(lost);
        }
    }

    fn unindex(&mut self, lost: &LostChunk) {
        self.bytes -= u64::from(lost.bytes);
        self.chunks -= 1;
        let number = block_of(lost.chunk.value());
        if let Some(block) = self.blocks.get_mut(number) {
            block.flying &= !(1 << (lost.chunk.value() % BLOCK));
            if block.flying == 0 {
                self.recycle(number);
            }
        }
    }
}

impl Transmission {
    /// The serial of the chunk at `bit`.
    const fn serial_of(&self, bit: u32) -> Serial {
        self.first + (self.chunks & ((1 << bit) - 1)).count_ones() as u64
    }

    const fn lost(&self, bit: u32) -> LostChunk {
        LostChunk {
            chunk: ChunkIndex::new(self.number * BLOCK + bit as u64),
            bytes: self.bytes,
            sent_at: self.sent_at,
            first_sent_at: self.first_sent_at,
        }
    }
}

/// What an acknowledgement changes, besides the blocks that it finds its chunks in.
struct Settlement<'a> {
    sent: &'a mut VecDeque<Transmission>,
    oldest: u32,
    newest_acked: &'a mut Newest,
    acked: &'a mut Acked,
}

impl Settlement<'_> {
    /// Settles the chunks `hit` of a block; returns how many these are.
    fn settle(&mut self, carriers: &[u32; BLOCK as usize], mut hit: u64) -> usize {
        let settled = hit.count_ones() as usize;
        while hit != 0 {
            let carrier = carriers[hit.trailing_zeros() as usize];
            let Some(sent) = self.sent.get_mut(carrier.wrapping_sub(self.oldest) as usize) else { break };
            let together = hit & sent.flying;
            debug_assert_ne!(together, 0, "what flies in a block flies with its carrier");
            hit &= !together & (hit - 1);
            sent.flying &= !together;
            self.acked.bytes += u64::from(sent.bytes) * u64::from(together.count_ones());
            if self.acked.newest_sent_at.is_none_or(|newest| newest <= sent.sent_at) {
                self.acked.newest_sent_at = Some(sent.sent_at);
                self.acked.rtt_from = (!sent.repeated).then_some(sent.sent_at);
                self.acked.again = sent.again;
            }
            let copy = sent.repeated || sent.again;
            let newest = if copy { &mut self.acked.copies } else { &mut *self.newest_acked };
            let mut left = together;
            for _ in 0..LOSS_THRESHOLD.min(together.count_ones() as usize) {
                let bit = left.ilog2();
                left &= !(1 << bit);
                newest.note(sent.serial_of(bit), sent.sent_at);
            }
        }
        settled
    }
}

impl Newest {
    #[inline]
    fn note(&mut self, serial: Serial, sent_at: Instant) {
        let [first, second, third] = self.serials;
        if serial > first {
            self.serials = [serial, first, second];
            self.sent_at = Some(sent_at);
        } else if serial > second {
            self.serials = [first, serial, second];
        } else if serial > third {
            self.serials = [first, second, serial];
        }
    }
}

/// The block that position `chunk` lies in.
const fn block_of(chunk: u64) -> GroupIndex {
    GroupIndex::new(chunk / BLOCK)
}

/// The bits of block `number` that lie in `range`.
const fn mask_in(number: u64, range: ChunkRange) -> u64 {
    let base = number * BLOCK;
    let inside = range.intersection(ChunkRange::new(base, base + BLOCK));
    if inside.is_empty() {
        return 0;
    }
    (u64::MAX >> (BLOCK - inside.count())) << (inside.start() - base)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const RTT: Duration = Duration::from_micros(40);
    /// The shortest round trip.
    const LEAST: Duration = Duration::from_micros(30);
    const BYTES: u32 = 10;

    /// What [`InFlight`] is to do, without an index: (chunk, when it was sent, whether it flies), by serial.
    #[derive(Default)]
    struct Twin {
        sent: Vec<(u64, Instant, bool)>,
        /// Serials of chunks that were sent before.
        copies: BTreeSet<usize>,
        gone: usize,
        /// Serials, in ascending order.
        acked: Vec<usize>,
    }

    impl Twin {
        fn flies(&self, chunk: u64) -> bool {
            self.sent.iter().any(|&(sent, _, flies)| flies && sent == chunk)
        }

        fn ack(&mut self, range: ChunkRange, now: Instant) {
            let mut copies = Vec::new();
            for (serial, (chunk, _, flies)) in self.sent.iter_mut().enumerate() {
                if *flies && range.contains(ChunkIndex::new(*chunk)) {
                    *flies = false;
                    if self.copies.contains(&serial) { &mut copies } else { &mut self.acked }.push(serial);
                }
            }
            if copies.last().is_some_and(|&newest| now - self.sent[newest].1 >= LEAST) {
                self.acked.extend(copies);
            }
            self.acked.sort_unstable();
        }

        fn take_lost(&mut self) -> Vec<u64> {
            let mut lost = Vec::new();
            while let Some((chunk, sent_at, flies)) = self.sent.get_mut(self.gone) {
                let overtaken = self.acked.iter().filter(|&&serial| serial > self.gone).count() >= LOSS_THRESHOLD;
                let newest = self.acked.last().copied();
                let (chunk, sent_at, flew) = (*chunk, *sent_at, core::mem::take(flies));
                let late = newest.is_some_and(|newest| sent_at + RTT / 4 < self.sent[newest].1);
                if flew && !overtaken && !late {
                    self.sent[self.gone].2 = true;
                    break;
                }
                lost.extend(flew.then_some(chunk));
                self.gone += 1;
            }
            lost
        }
    }

    proptest! {
        #[test]
        fn an_index_changes_nothing(steps in prop::collection::vec((0u8..7, 0u64..400, 1u64..70, any::<u64>()), 1..120)) {
            let (mut in_flight, mut twin) = (InFlight::default(), Twin::default());
            for (time, (kind, chunk, count, bits)) in steps.into_iter().enumerate() {
                let now = Instant::from_micros(time as u64 * 3);
                match kind {
                    0 if !twin.flies(chunk) => {
                        in_flight.on_sent(ChunkIndex::new(chunk), BYTES, now, None, false);
                        twin.sent.push((chunk, now, true));
                    }
                    // Sent again because it was lost, or because it was asked for again.
                    5 | 6 if !twin.flies(chunk) => {
                        in_flight.on_sent(ChunkIndex::new(chunk), BYTES, now, (kind == 5).then_some(now), kind == 6);
                        twin.copies.insert(twin.sent.len());
                        twin.sent.push((chunk, now, true));
                    }
                    1 => {
                        let first = chunk & !63;
                        let mut bits = [bits, bits.rotate_left(9) & 0xff];
                        for (half, word) in bits.iter_mut().enumerate() {
                            let chunks = (0..64).map(|bit| (bit, first + 64 * half as u64 + bit));
                            for (bit, chunk) in chunks.filter(|&(_, chunk)| twin.flies(chunk)).collect::<Vec<_>>() {
                                prop_assert!(in_flight.contains(ChunkIndex::new(chunk)));
                                *word &= !(1 << bit);
                            }
                            let left = *word;
                            twin.sent.extend((0..64).filter(|bit| left >> bit & 1 == 1).map(|bit| (first + 64 * half as u64 + bit, now, true)));
                        }
                        in_flight.on_stretch_sent(Stretch { first, bits, layer: 0 }, BYTES, now, false);
                    }
                    2 | 3 => {
                        let mut acked = Acked::default();
                        let before = in_flight.bytes();
                        let range = ChunkRange::new(chunk, chunk + count);
                        in_flight.on_ack(range, &mut acked);
                        in_flight.trust_copies(&acked, now, LEAST);
                        twin.ack(range, now);
                        prop_assert_eq!(acked.bytes, before - in_flight.bytes());
                    }
                    _ => {
                        let mut lost = Vec::new();
                        in_flight.take_lost(RTT, &mut lost);
                        let lost: Vec<u64> = lost.iter().map(|lost| lost.chunk.value()).collect();
                        prop_assert_eq!(lost, twin.take_lost());
                    }
                }
                let flying = twin.sent.iter().filter(|(.., flies)| *flies).count();
                prop_assert_eq!((in_flight.chunks(), in_flight.bytes()), (flying, flying as u64 * u64::from(BYTES)));
                prop_assert_eq!(in_flight.contains(ChunkIndex::new(chunk)), twin.flies(chunk));
            }
        }
    }
}
