//! Writes DATA datagrams for one peer, as many of one size as can leave together.

use arrayvec::ArrayVec;
use core::cell::Cell;
use core::num::NonZeroUsize;

use alloc::vec::Vec;

use crate::availability::PeerMap;
use crate::channel::run::Stretch;
use crate::channel::upload::{NextChunk, Upload};
use crate::chunk::{Bin, ChunkIndex, ChunkRange, Geometry, GroupIndex};
use crate::integrity::{MAX_PROOF, peaks_needed, push_uncles};
use crate::stats::TransferStats;
use crate::time::Instant;
use crate::wire::{
    CHANNEL_ID_LEN, ChannelId, DataMessage, DatagramBuilder, Format, IntegrityMessage, Message, write_data_datagram,
};

/// Most hashes that accompany a chunk: its uncles and all peaks.
const MAX_HASHES: usize = 2 * MAX_PROOF;

/// Where the bytes and hashes of chunks come from.
pub(crate) trait ChunkSource {
    /// A group at hand.
    type Group: ChunkGroup;
    /// `group`, if it is at hand.
    fn group(&self, group: GroupIndex) -> Option<&Self::Group>;
    /// The hash of `node`, if it is known.
    fn node(&self, node: Bin) -> Option<&[u8]>;
    /// Whether `chunk` could be at hand later.
    fn may_have(&self, chunk: ChunkIndex) -> bool;
}

/// The bytes and hashes of a group.
pub(crate) trait ChunkGroup {
    /// The bytes of `chunk`, one of the group's, if they are at hand and verified.
    fn chunk(&self, geometry: &Geometry, chunk: ChunkIndex) -> Option<&[u8]>;
    /// The hash of `node`, if it is known and lies below the group's.
    fn node(&self, node: Bin) -> Option<&[u8]>;
}

/// Where datagrams to a peer go and what they may weigh.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub(crate) channel: ChannelId,
    pub(crate) format: Format,
    /// Largest UDP payload that needs no fragmentation.
    pub(crate) mtu: usize,
    /// Most datagrams together.
    pub(crate) max_datagrams: usize,
    /// Most bytes together.
    pub(crate) max_bytes: usize,
}

/// Datagrams that were written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Batch {
    pub(crate) datagrams: usize,
    pub(crate) bytes: usize,
    pub(crate) segment: Option<NonZeroUsize>,
    pub(crate) may_fragment: bool,
}

/// Why no (further) datagram was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Blocked {
    /// Not at all: there may be more to send at once.
    No,
    /// Nothing is asked for.
    Idle,
    /// The bytes have to be read first.
    Reading,
    /// The window is full.
    Window,
    /// The pacer lets the next datagram go then.
    Until(Instant),
}

type Hashes = ArrayVec<Bin, MAX_HASHES>;

/// Where the peer announced nothing, around what was looked up last: what follows lies there as well, most often.
struct Unannounced<'a> {
    known: [&'a PeerMap; 2],
    gap: Cell<ChunkRange>,
}

impl Unannounced<'_> {
    /// Whether the peer announced no chunk of `range`, which is not empty.
    #[inline]
    fn covers(&self, range: ChunkRange) -> bool {
        self.gap.get().covers(range) || self.look_up(range)
    }

    /// The same where the gap that is known does not hold all of it.
    #[inline(never)]
    fn look_up(&self, range: ChunkRange) -> bool {
        if !self.gap.get().contains(ChunkIndex::new(range.start())) {
            let [have, acked] = self.known.map(|map| map.as_set().gap_at(range.start()));
            self.gap.set(have.intersection(acked));
        }
        self.gap.get().covers(range)
    }
}

/// How long datagrams become.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// Bytes of one with DATA, the payload aside.
    overhead: usize,
    /// Bytes of each hash in it.
    integrity: usize,
    /// Bytes of a whole chunk.
    chunk: usize,
    mtu: usize,
}

impl Sizes {
    const fn new(path: &Path) -> Self {
        let overhead = CHANNEL_ID_LEN + path.format.data_overhead();
        let chunk = path.format.chunk_size().bytes() as usize;
        Self { overhead, integrity: path.format.integrity_len(), chunk, mtu: path.mtu }
    }

    /// Bytes of a datagram with one chunk of `payload` bytes and so many hashes.
    const fn data_len(&self, payload: usize, hashes: usize) -> usize {
        self.overhead + payload + hashes * self.integrity
    }

    /// Bytes of a datagram with a whole chunk and `hashes` hashes.
    const fn whole(&self, hashes: u8) -> usize {
        self.data_len(self.chunk, hashes as usize)
    }

    /// Bytes a datagram with a chunk of `payload` bytes may have: the MTU, or what the chunk alone needs.
    fn limit(&self, payload: usize) -> usize {
        self.data_len(payload, 0).max(self.mtu)
    }
}

/// What is being written, to whom, and what is known about the peer.
pub(crate) struct Writer<'a, S> {
    pub(crate) upload: &'a mut Upload,
    pub(crate) source: &'a S,
    pub(crate) geometry: &'a Geometry,
    /// Chunks the peer is known to have verified, from HAVE, unless it is doubted, and from ACK.
    pub(crate) known: [&'a PeerMap; 2],
    pub(crate) path: Path,
    pub(crate) stats: &'a mut TransferStats,
}

impl<S: ChunkSource> Writer<'_, S> {
    /// Appends a batch to `buf`, and says what keeps the next datagram from being written.
    pub(crate) fn write(&mut self, now: Instant, buf: &mut Vec<u8>) -> (Batch, Blocked) {
        let mut batch = Batch::default();
        let window = self.upload.flow.controller.window();
        let rtt = self.upload.flow.rtt.pacing_rtt();
        let slow_start = self.upload.flow.controller.in_slow_start();
        let mut budget = self.upload.flow.pacer.budget(now, window, rtt, slow_start);
        // The size of the datagram that the pacer holds back.
        let mut unpaced = None;
        let sizes = Sizes::new(&self.path);
        let unannounced = Unannounced { known: self.known, gap: Cell::new(ChunkRange::EMPTY) };
        let mut hashes = Hashes::new();
        let stopped = loop {
            if let Some(stretch) = self.upload.stretch() {
                let size = sizes.whole(stretch.layer);
                let bytes = budget.min(window.saturating_sub(self.upload.in_flight.bytes()));
                let room = batch.room(size, &self.path, bytes);
                let written = self.write_stretch(stretch, size, &unannounced, room, now, buf);
                budget -= (written * size) as u64;
                if batch.add_many(written, size) {
                    break Blocked::No;
                }
            }
            if batch.datagrams >= self.path.max_datagrams {
                break Blocked::No;
            }
            let Some(next) = self.upload.next() else { break Blocked::Idle };
            let group = self.source.group(self.geometry.group_of(next.chunk));
            let Some(payload) = group.and_then(|group| group.chunk(self.geometry, next.chunk)) else {
                if self.source.may_have(next.chunk) {
                    break Blocked::Reading;
                }
                self.upload.skip_absent(next);
                continue;
            };
            self.choose_hashes(next, &unannounced, &mut hashes);
            let size = sizes.data_len(payload.len(), hashes.len());
            let flying = self.upload.in_flight.bytes();
            if flying > 0 && flying + size as u64 > window {
                break Blocked::Window;
            }
            if budget < size as u64 && budget < self.upload.flow.pacer.burst() {
                unpaced = Some(size as u64);
                break Blocked::No;
            }
            if size > sizes.limit(payload.len()) {
                if batch.datagrams > 0 || self.write_ahead(next.chunk, &hashes, payload.len(), buf, &mut batch) {
                    break Blocked::No;
                }
                self.upload.skip(next);
                continue;
            }
            if !batch.takes(size, &self.path) {
                break Blocked::No;
            }
            if !self.write_one(next, &hashes, payload, now, size, buf) {
                self.upload.skip(next);
                continue;
            }
            budget = budget.saturating_sub(size as u64);
            if batch.add(size, &self.path) {
                break Blocked::No;
            }
        };
        let pacer = &mut self.upload.flow.pacer;
        pacer.on_sent(batch.bytes as u64);
        let blocked = unpaced.map_or(stopped, |size| Blocked::Until(pacer.next_at(size)));
        self.upload.app_limited = matches!(blocked, Blocked::Idle | Blocked::Reading);
        (batch, blocked)
    }

    /// Sets `hashes` to those that must accompany `next`: peaks for a newcomer, then uncles, without those sent ahead.
    fn choose_hashes(&self, next: NextChunk, unannounced: &Unannounced<'_>, hashes: &mut Hashes) {
        hashes.clear();
        let upload = &*self.upload;
        let sent = upload.sent_beside(next);
        // Half of all chunks need none: their hash went along with their neighbour.
        if sent == Some(2) {
            return;
        }
        let [have, acked] = self.known;
        let disproved = upload.is_disproved(next.chunk);
        let announced = |range: ChunkRange| {
            !(disproved || unannounced.covers(range))
                && (acked.intersects(range) || have.intersects(range) && !upload.is_doubted(range))
        };
        // What was announced matters within half of what the run says, and where nothing was, nothing was in a part of it.
        let ask = sent.is_none_or(|sent| announced(aligned_around(next.chunk, sent / 2)));
        let knows = |range: ChunkRange| sent.is_some_and(|sent| range.count() >= sent) || ask && announced(range);
        // RFC 7574 §5.6.2: the first DATA to a newcomer brings all peaks.
        let newcomer = sent.is_none() && (disproved || self.known.iter().all(|map| map.as_set().is_empty()));
        if newcomer {
            hashes.extend(peaks_needed(self.geometry, false).take(MAX_PROOF));
        }
        push_uncles(self.geometry, next.chunk, knows, hashes);
        if let Some((chunk, ahead)) = &upload.ahead
            && *chunk == next.chunk
        {
            hashes.retain(|bin| !ahead.contains(bin));
        }
    }

    /// Writes the chunks of `stretch` in datagrams of `size` bytes, at most `most` and only whole ones; returns how many.
    ///
    /// Ends where what was announced spares hashes.
    fn write_stretch(
        &mut self,
        stretch: Stretch,
        size: usize,
        unannounced: &Unannounced<'_>,
        most: usize,
        now: Instant,
        buf: &mut Vec<u8>,
    ) -> usize {
        let mut written = Stretch { bits: [0; 2], ..stretch };
        let mut count = 0;
        let mut at_hand = None;
        'stretch: for ((first, mut left), done) in
            (stretch.first..).step_by(64).zip(stretch.bits).zip(&mut written.bits)
        {
            while left != 0 && count < most {
                let chunk = ChunkIndex::new(first + u64::from(left.trailing_zeros()));
                let number = self.geometry.group_of(chunk);
                if at_hand.is_none_or(|(last, _)| last != number) {
                    at_hand = self.source.group(number).map(|group| (number, group));
                }
                let payload = at_hand.and_then(|(_, group)| Some((group, group.chunk(self.geometry, chunk)?)));
                let Some((group, payload)) = payload.filter(|(_, payload)| self.is_whole(payload)) else {
                    break 'stretch;
                };
                if stretch.layer > 0 && !self.needs_siblings(chunk, stretch.layer, unannounced) {
                    break 'stretch;
                }
                let hashes = right_siblings(chunk, stretch.layer).map(|node| {
                    let node = node?;
                    Some(IntegrityMessage { node, hash: group.node(node).or_else(|| self.source.node(node))? })
                });
                let data = DataMessage { chunk, timestamp: now.as_micros(), payload };
                if !write_data_datagram(buf, size, self.path.channel, &self.path.format, hashes, data) {
                    break 'stretch;
                }
                *done |= left & left.wrapping_neg();
                left &= left - 1;
                count += 1;
            }
        }
        if count > 0 {
            self.stats.chunks_sent += count as u64;
            self.stats.content_bytes_sent += count as u64 * u64::from(self.geometry.chunk_size().bytes());
            self.stats.integrity_sent += count as u64 * u64::from(stretch.layer);
            self.upload.on_stretch_sent(written, size as u32, now);
        }
        count
    }

    /// Whether the peer lacks all of [`right_siblings`]: these lie within the content, and of their chunks none was
    /// announced.
    fn needs_siblings(&self, chunk: ChunkIndex, layer: u8, unannounced: &Unannounced<'_>) -> bool {
        let half = ChunkRange::new(chunk.value(), chunk.value() + (1 << layer));
        half.end() <= self.geometry.chunk_count() && unannounced.covers(half)
    }

    fn is_whole(&self, payload: &[u8]) -> bool {
        payload.len() == self.geometry.chunk_size().bytes() as usize
    }

    /// Writes one datagram; returns whether that could be done.
    fn write_one(
        &mut self,
        next: NextChunk,
        hashes: &Hashes,
        payload: &[u8],
        now: Instant,
        size: usize,
        buf: &mut Vec<u8>,
    ) -> bool {
        let known = hashes.iter().map(|&node| Some(IntegrityMessage { node, hash: self.source.node(node)? }));
        let data = DataMessage { chunk: next.chunk, timestamp: now.as_micros(), payload };
        if !write_data_datagram(buf, size, self.path.channel, &self.path.format, known, data) {
            return false;
        }
        self.stats.chunks_sent += 1;
        self.stats.content_bytes_sent += payload.len() as u64;
        self.stats.integrity_sent += hashes.len() as u64;
        self.stats.chunks_resent += u64::from(next.first_sent_at.is_some());
        self.upload.ahead = None;
        self.upload.on_sent(next, size as u32, now);
        true
    }

    /// Sends hashes that do not fit beside the chunk in a datagram of their own, highest first (RFC 7574 §5.4).
    ///
    /// Returns whether any could be sent.
    fn write_ahead(
        &mut self,
        chunk: ChunkIndex,
        hashes: &Hashes,
        payload: usize,
        buf: &mut Vec<u8>,
        batch: &mut Batch,
    ) -> bool {
        let sizes = Sizes::new(&self.path);
        let room = sizes.limit(payload).saturating_sub(sizes.data_len(payload, 0));
        let beside = room / sizes.integrity.max(1);
        let early = &hashes[..hashes.len().saturating_sub(beside)];
        let mut datagram = DatagramBuilder::new(buf, self.path.mtu, self.path.channel, self.path.format);
        let mut sent = Vec::new();
        for &node in early {
            let Some(hash) = self.source.node(node) else { continue };
            if datagram.push(&Message::Integrity { node, hash }).is_err() {
                break;
            }
            sent.push(node);
        }
        if sent.is_empty() {
            datagram.discard();
            return false;
        }
        self.stats.integrity_sent += sent.len() as u64;
        match &mut self.upload.ahead {
            Some((other, ahead)) if *other == chunk => ahead.extend(sent),
            ahead => *ahead = Some((chunk, sent)),
        }
        let size = datagram.finish();
        batch.add(size, &self.path);
        true
    }
}

/// The siblings on the way up from `chunk`, the first of an aligned run of two to the power `layer`, to the node over that
/// run, highest first (RFC 7574 §5.4).
fn right_siblings(chunk: ChunkIndex, layer: u8) -> impl Iterator<Item = Option<Bin>> {
    (0..layer).rev().map(move |layer| Bin::at(layer, (chunk.value() >> layer) + 1))
}

/// The aligned run of `count` chunks, a power of two, that holds `chunk`.
const fn aligned_around(chunk: ChunkIndex, count: u64) -> ChunkRange {
    let start = chunk.value() & !(count - 1);
    ChunkRange::new(start, start.saturating_add(count))
}

impl Batch {
    /// Whether a datagram of `size` bytes can join: none may be longer than the first.
    fn takes(&self, size: usize, path: &Path) -> bool {
        self.segment.is_none_or(|segment| size <= segment.get() && self.bytes + size <= path.max_bytes)
    }

    /// How many datagrams of `size` bytes can join and leave at once, of which `bytes` may leave.
    fn room(&self, size: usize, path: &Path, bytes: u64) -> usize {
        // One that is shorter than the first is the last.
        let most = match self.segment.map(NonZeroUsize::get) {
            None => path.max_datagrams,
            Some(segment) if segment == size => path.max_datagrams.saturating_sub(self.datagrams),
            Some(segment) => usize::from(size < segment && self.datagrams < path.max_datagrams),
        };
        if size > path.mtu {
            return 0;
        }
        let bytes = bytes.min(path.max_bytes.saturating_sub(self.bytes) as u64);
        most.min(bytes as usize / size)
    }

    /// Counts `count` datagrams of `size` bytes for which there was room; returns whether they must be the last.
    fn add_many(&mut self, count: usize, size: usize) -> bool {
        self.datagrams += count;
        self.bytes += count * size;
        if count > 0 && self.segment.is_none() {
            self.segment = NonZeroUsize::new(size);
        }
        count > 0 && self.segment.is_some_and(|segment| size < segment.get())
    }

    /// Counts a datagram of `size` bytes; returns whether it must be the last.
    fn add(&mut self, size: usize, path: &Path) -> bool {
        self.datagrams += 1;
        self.bytes += size;
        self.may_fragment = size > path.mtu;
        let shorter = self.segment.is_some_and(|segment| size < segment.get());
        if self.segment.is_none() {
            self.segment = NonZeroUsize::new(size);
        }
        shorter || self.may_fragment
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::chunk::ChunkSize;
    use crate::integrity::uncles;

    #[test]
    fn right_siblings_are_the_uncles_below_what_came_beside() {
        let geometry = Geometry::of_chunks(1000, ChunkSize::DEFAULT).unwrap();
        for layer in 0..7 {
            for chunk in (1_u64 << layer..1000 - (1 << layer)).step_by(1 << layer).map(ChunkIndex::new) {
                let expected = uncles(&geometry, chunk, |range| range.count() >= 2 << layer);
                assert_eq!(right_siblings(chunk, layer).collect::<Option<Vec<_>>>().as_deref(), Some(&expected[..]));
            }
        }
    }
}
