//! Chunks sent to one peer and not yet acknowledged; which of them are lost.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::chunk::{ChunkIndex, ChunkRange};
use crate::time::Instant;

/// Chunks indexed together.
const BLOCK: u64 = 128;
/// Later transmissions that must be acknowledged before one counts as lost (R15).
const LOSS_THRESHOLD: usize = 3;
/// Blocks kept for reuse.
const MAX_SPARE: usize = 8;

/// Position in the order of sending.
type Serial = u64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Flying,
    Settled,
}

#[derive(Debug)]
struct Transmission {
    chunk: u64,
    bytes: u32,
    fate: Fate,
    repeated: bool,
    again: bool,
    sent_at: Instant,
    first_sent_at: Instant,
}

/// Which chunks of an aligned run of [`BLOCK`] are flying, and as which transmission.
#[derive(Debug)]
struct Block {
    flying: u128,
    serials: Box<[Serial; BLOCK as usize]>,
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
}

/// Transmissions in order of sending, indexed by chunk.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    sent: VecDeque<Transmission>,
    /// Serial of the front of `sent`.
    first: Serial,
    blocks: BTreeMap<u64, Block>,
    spare: Vec<Block>,
    bytes: u64,
    chunks: usize,
    /// The newest acknowledged transmissions, newest first, as (serial, sending time).
    newest_acked: [Option<(Serial, Instant)>; LOSS_THRESHOLD],
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
        self.blocks.get(&(chunk.value() / BLOCK)).is_some_and(|block| block.flying >> bit & 1 == 1)
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
        let serial = self.first + self.sent.len() as u64;
        self.sent.push_back(Transmission {
            chunk: chunk.value(),
            bytes,
            fate: Fate::Flying,
            repeated: first_sent_at.is_some(),
            again,
            sent_at: now,
            first_sent_at: first_sent_at.unwrap_or(now),
        });
        let spare = &mut self.spare;
        let block = self.blocks.entry(chunk.value() / BLOCK).or_insert_with(|| {
            spare.pop().unwrap_or_else(|| Block { flying: 0, serials: Box::new([0; BLOCK as usize]) })
        });
        let bit = chunk.value() % BLOCK;
        block.flying |= 1 << bit;
        block.serials[bit as usize] = serial;
        self.bytes += u64::from(bytes);
        self.chunks += 1;
    }

    /// Settles the chunks of `range` that are in flight; others are not ours to judge (R5).
    pub(crate) fn on_ack(&mut self, range: ChunkRange, acked: &mut Acked) {
        if range.is_empty() || self.chunks == 0 {
            return;
        }
        let mut emptied = false;
        for (&number, block) in self.blocks.range_mut(range.start() / BLOCK..=(range.end() - 1) / BLOCK) {
            let mut hit = block.flying & mask_in(number, range);
            block.flying &= !hit;
            emptied |= block.flying == 0;
            while hit != 0 {
                let serial = block.serials[hit.trailing_zeros() as usize];
                hit &= hit - 1;
                let Some(sent) = self.sent.get_mut((serial - self.first) as usize) else { continue };
                sent.fate = Fate::Settled;
                self.bytes -= u64::from(sent.bytes);
                self.chunks -= 1;
                acked.bytes += u64::from(sent.bytes);
                if acked.newest_sent_at.is_none_or(|newest| newest <= sent.sent_at) {
                    acked.newest_sent_at = Some(sent.sent_at);
                    acked.rtt_from = (!sent.repeated).then_some(sent.sent_at);
                    acked.again = sent.again;
                }
                note_newest(&mut self.newest_acked, serial, sent.sent_at);
            }
        }
        if emptied {
            self.drop_empty_blocks(range);
        }
    }

    /// Drops the chunks of `range` that are in flight: they arrived, but nothing follows from it for others.
    pub(crate) fn forget(&mut self, range: ChunkRange) {
        let newest = self.newest_acked;
        self.on_ack(range, &mut Acked::default());
        self.newest_acked = newest;
    }

    fn drop_empty_blocks(&mut self, range: ChunkRange) {
        while let Some(number) = self
            .blocks
            .range(range.start() / BLOCK..=(range.end() - 1) / BLOCK)
            .find(|(_, block)| block.flying == 0)
            .map(|(&number, _)| number)
        {
            self.recycle(number);
        }
    }

    fn recycle(&mut self, number: u64) {
        if let Some(block) = self.blocks.remove(&number)
            && self.spare.len() < MAX_SPARE
        {
            self.spare.push(block);
        }
    }

    /// Takes out what is lost: three later transmissions were acknowledged, or one sent a quarter `rtt` later (R15).
    pub(crate) fn take_lost(&mut self, rtt: core::time::Duration, lost: &mut Vec<LostChunk>) {
        let third = self.newest_acked[LOSS_THRESHOLD - 1].map(|(serial, _)| serial);
        let newest = self.newest_acked[0].map(|(_, sent_at)| sent_at);
        while let Some(front) = self.sent.front() {
            if front.fate == Fate::Flying {
                let overtaken = third.is_some_and(|third| self.first < third);
                let late = newest.is_some_and(|newest| front.sent_at + rtt / 4 < newest);
                if !overtaken && !late {
                    break;
                }
            }
            self.settle_front(lost);
        }
    }

    /// Takes out everything: after a congestion timeout nothing in flight is expected to arrive.
    pub(crate) fn take_all(&mut self, lost: &mut Vec<LostChunk>) {
        while !self.sent.is_empty() {
            self.settle_front(lost);
        }
    }

    /// Takes out the newest transmission, to be sent again as a probe for the loss of a tail.
    pub(crate) fn take_newest(&mut self) -> Option<LostChunk> {
        let sent = self.sent.iter_mut().rev().find(|sent| sent.fate == Fate::Flying)?;
        sent.fate = Fate::Settled;
        let lost = LostChunk {
            chunk: ChunkIndex::new(sent.chunk),
            bytes: sent.bytes,
            sent_at: sent.sent_at,
            first_sent_at: sent.first_sent_at,
        };
        self.unindex(lost.chunk, lost.bytes);
        Some(lost)
    }

    fn settle_front(&mut self, lost: &mut Vec<LostChunk>) {
        let Some(front) = self.sent.pop_front() else { return };
        self.first += 1;
        if front.fate == Fate::Flying {
            let chunk = ChunkIndex::new(front.chunk);
            self.unindex(chunk, front.bytes);
            lost.push(LostChunk {
                chunk,
                bytes: front.bytes,
                sent_at: front.sent_at,
                first_sent_at: front.first_sent_at,
            });
        }
    }

    fn unindex(&mut self, chunk: ChunkIndex, bytes: u32) {
        self.bytes -= u64::from(bytes);
        self.chunks -= 1;
        let number = chunk.value() / BLOCK;
        if let Some(block) = self.blocks.get_mut(&number) {
            block.flying &= !(1 << (chunk.value() % BLOCK));
            if block.flying == 0 {
                self.recycle(number);
            }
        }
    }
}

/// The bits of block `number` that lie in `range`.
const fn mask_in(number: u64, range: ChunkRange) -> u128 {
    let base = number * BLOCK;
    let inside = range.intersection(ChunkRange::new(base, base + BLOCK));
    if inside.is_empty() {
        return 0;
    }
    let count = inside.count() as u32;
    let ones = if count == 128 { u128::MAX } else { (1u128 << count) - 1 };
    ones << (inside.start() - base)
}

/// Inserts into the list of newest acknowledged transmissions, newest first.
fn note_newest(newest: &mut [Option<(Serial, Instant)>; LOSS_THRESHOLD], serial: Serial, sent_at: Instant) {
    let mut entry = Some((serial, sent_at));
    for slot in newest {
        if slot.is_none_or(|(older, _)| entry.is_some_and(|(new, _)| older < new)) {
            core::mem::swap(slot, &mut entry);
        }
    }
}
