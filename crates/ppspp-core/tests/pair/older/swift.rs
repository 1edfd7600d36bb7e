//! libswift, as a leecher and as a seeder.

use std::collections::VecDeque;
use std::time::Duration;

use ppspp_core::Instant;
use ppspp_core::chunk::{Bin, ChunkIndex, ChunkRange, RangeSet};
use ppspp_core::integrity::Hash;
use ppspp_core::wire::{Message, split_channel};

use super::Peer;
use super::line::{LATENCY, Line, TURN, haves, integrity, take_until};
use super::tree::SwiftTree;
use crate::net::{Net, Sample};

const RTT: Duration = Duration::from_millis(2 * LATENCY.as_millis() as u64);
/// Chunks that a leecher has asked for at most: what a second brings, at first.
const PLAN: u64 = 64;
/// A leecher forgets what it asked for after this long, and asks again.
const HINT_LIFE: Duration = Duration::from_secs(2);
/// A seeder forgets what it was asked for after this long.
const REQUEST_LIFE: Duration = Duration::from_millis(1500);
/// A seeder sends nothing to a peer that is silent for longer.
const SILENCE: Duration = Duration::from_secs(3);
/// A seeder takes a chunk for lost that is not acknowledged for so long.
const ACK_TIMEOUT: Duration = Duration::from_millis(220);
/// Longest time between two keep-alives.
const MAX_INTERVAL: Duration = Duration::from_secs(58);
/// Chunks sent in one turn at most.
const MAX_BURST: usize = 16;
/// Hashes that fit beside a chunk; with more they go ahead in a datagram of their own.
const HASHES_BESIDE: usize = 12;

/// Keep-alives: after one round trip, then twice as long, up to 58 s.
struct KeepAlive(Duration);

impl KeepAlive {
    fn speak(&mut self, line: &mut Line, net: &Net) {
        if net.now >= line.spoke_at + self.0 {
            line.say(net, &[]);
            self.0 = (2 * self.0).min(MAX_INTERVAL);
        }
        assert!(net.now < line.heard_at + 3 * MAX_INTERVAL, "the host counts as dead");
    }
}

/// Asks for one bin in a datagram, and answers each chunk with HAVE, then ACK; a duplicate with HAVE alone.
pub(super) struct SwiftLeecher {
    line: Line,
    sample: Sample,
    tree: SwiftTree,
    offered: RangeSet,
    asked: VecDeque<(Instant, ChunkRange)>,
    keep_alive: KeepAlive,
    dice: u64,
}

impl SwiftLeecher {
    pub(super) fn new(line: Line, sample: &Sample) -> Self {
        let tree = SwiftTree::new(sample.metadata.root, sample.metadata.chunk_size);
        let (offered, asked) = (RangeSet::new(), VecDeque::new());
        Self { line, sample: sample.clone(), tree, offered, asked, keep_alive: KeepAlive(RTT), dice: 1 }
    }

    fn open(&mut self, net: &Net) {
        let opening = self.line.handshake(&self.sample, true);
        self.line.say(net, &[Message::Handshake(opening)]);
    }

    /// The next bin to ask for: the first chunk, and then wherever the dice say.
    fn hint(&mut self, now: Instant) -> Option<Message<'static>> {
        take_until(&mut self.asked, now - HINT_LIFE);
        let outstanding: u64 = self.asked.iter().map(|(_, range)| range.count()).sum();
        let mut free = self.offered.clone();
        if self.tree.have().is_empty() {
            free.clip_to(ChunkRange::new(0, 1));
        }
        let taken = self.asked.iter().map(|&(_, range)| range).chain(self.tree.have().runs());
        for range in taken {
            free.remove(range);
        }
        if outstanding >= PLAN || free.is_empty() {
            return None;
        }
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pick = (self.dice >> 33) as usize % free.run_count();
        let mut bin = Bin::largest_prefix(free.runs().nth(pick)?)?;
        while bin.base_range().count() > PLAN - outstanding {
            bin = bin.children()?.0;
        }
        self.asked.push_back((now, bin.base_range()));
        Some(Message::Request(bin.base_range()))
    }

    /// The largest bin around `chunk` that is complete.
    fn cover(&self, chunk: ChunkIndex) -> ChunkRange {
        let mut bin = Bin::leaf(chunk).unwrap();
        while let Some(parent) = bin.parent().filter(|parent| self.tree.have().covers(parent.base_range())) {
            bin = parent;
        }
        bin.base_range()
    }

    fn on_data(&mut self, net: &Net, chunk: ChunkIndex, timestamp: u64, payload: &[u8]) {
        let single = ChunkRange::single(chunk);
        if self.tree.have().contains(chunk) {
            self.line.say(net, &[Message::Have(self.cover(chunk))]);
            return;
        }
        if !self.tree.offer_data(chunk, payload) {
            return;
        }
        assert!(payload == self.sample.chunk(chunk.value()));
        for (at, range) in std::mem::take(&mut self.asked) {
            let left = ChunkRange::new(range.start(), range.end().min(chunk.value()));
            let right = ChunkRange::new(range.start().max(chunk.value() + 1), range.end());
            let rest = if range.contains(chunk) { [left, right] } else { [range, ChunkRange::EMPTY] };
            self.asked.extend(rest.into_iter().filter(|part| !part.is_empty()).map(|part| (at, part)));
        }
        let delay = net.now.as_micros().wrapping_sub(timestamp);
        let mut answer = vec![Message::Have(self.cover(chunk)), Message::Ack { range: single, delay }];
        answer.extend(self.hint(net.now));
        self.line.say(net, &answer);
    }
}

impl Peer for SwiftLeecher {
    fn turn(&mut self, net: &mut Net) {
        for datagram in self.line.carry(net) {
            if self.line.remote.value() == 0 {
                self.line.on_reply(&datagram);
                self.keep_alive = KeepAlive(RTT);
            }
            for message in self.line.messages(&datagram) {
                match message {
                    Message::Have(range) => {
                        self.offered.insert(range);
                    }
                    Message::Integrity { node, hash } => self.tree.offer_hash(node, hash),
                    Message::Data { chunk, timestamp, payload } => self.on_data(net, chunk, timestamp, payload),
                    _ => {}
                }
            }
        }
        if self.line.remote.value() == 0 {
            if net.now >= self.line.spoke_at + Duration::from_secs(1) || self.line.spoke_at == self.line.heard_at {
                self.open(net);
            }
        } else if let Some(request) = self.hint(net.now) {
            self.line.say(net, &[request]);
        } else {
            self.keep_alive.speak(&mut self.line, net);
        }
    }

    fn is_done(&self) -> bool {
        self.tree.is_complete()
    }
}

/// Sends hashes until the first ACK or HAVE as if nothing had arrived, then as if everything had that was just sent.
pub(super) struct SwiftSeeder {
    line: Line,
    sample: Sample,
    /// Whether all hashes go ahead in a datagram of their own.
    apart: bool,
    acked: RangeSet,
    asked: VecDeque<(ChunkIndex, Instant)>,
    sent: VecDeque<(Instant, ChunkIndex)>,
    lost: VecDeque<ChunkIndex>,
    latest: Option<ChunkIndex>,
    window: usize,
    data_at: Instant,
    keep_alive: KeepAlive,
}

impl SwiftSeeder {
    pub(super) fn new(line: Line, sample: &Sample, apart: bool) -> Self {
        let data_at = line.spoke_at;
        Self {
            line,
            sample: sample.clone(),
            apart,
            acked: RangeSet::new(),
            asked: VecDeque::new(),
            sent: VecDeque::new(),
            lost: VecDeque::new(),
            latest: None,
            window: 1,
            data_at,
            keep_alive: KeepAlive(RTT),
        }
    }

    fn reply(&mut self, net: &Net) {
        let mut reply = vec![Message::Handshake(self.line.handshake(&self.sample, false))];
        reply.extend(haves(self.sample.geometry().all()));
        self.line.say(net, &reply);
    }

    /// One ACK settles one transmission, however many chunks it names, and opens the window by one.
    fn on_ack(&mut self, range: ChunkRange) {
        self.acked.insert(range);
        if let Some(place) = self.sent.iter().position(|(_, chunk)| range.contains(*chunk)) {
            self.sent.remove(place);
            self.window += 1;
        }
    }

    fn hashes(&self, chunk: ChunkIndex) -> Vec<(Bin, Hash)> {
        let mut bins: Vec<Bin> = Vec::new();
        let peak = self.sample.geometry().peak_of(chunk).unwrap();
        let mut bin = Bin::leaf(chunk).unwrap();
        while bin != peak {
            let parent = bin.parent().unwrap();
            let known =
                self.latest.is_some_and(|latest| parent.base_range().contains(latest)) && chunk.value() % 4 != 3;
            if known || self.acked.intersects(parent.base_range()) {
                break;
            }
            bins.push(bin.sibling().unwrap());
            bin = parent;
        }
        if self.acked.is_empty() {
            let peaks: Vec<Bin> = self.sample.geometry().peaks().collect();
            bins.extend(peaks.into_iter().rev());
        }
        bins.into_iter().rev().map(|bin| (bin, self.sample.node(bin))).collect()
    }

    fn next(&mut self, now: Instant) -> Option<ChunkIndex> {
        if now > self.line.heard_at + SILENCE {
            return None;
        }
        while let Some(chunk) = self.lost.pop_front() {
            if !self.acked.contains(chunk) {
                return Some(chunk);
            }
        }
        while let Some((chunk, at)) = self.asked.pop_front() {
            if at + REQUEST_LIFE.max(4 * RTT) >= now && !self.acked.contains(chunk) {
                return Some(chunk);
            }
        }
        None
    }

    fn send(&mut self, net: &Net) {
        for chunk in take_until(&mut self.sent, net.now - ACK_TIMEOUT) {
            if !self.acked.contains(chunk) {
                self.lost.push_back(chunk);
                self.window = (self.window / 2).max(1);
            }
        }
        // Its window sets a pace; it does not bound what is in flight.
        let interval = RTT / self.window as u32;
        for _ in 0..MAX_BURST {
            if net.now < self.data_at + interval {
                return;
            }
            self.data_at = (self.data_at + interval).max(net.now - TURN);
            let Some(chunk) = self.next(net.now) else { return };
            let hashes = self.hashes(chunk);
            let mut messages = integrity(&hashes);
            if self.apart && !messages.is_empty() || messages.len() > HASHES_BESIDE {
                self.line.say(net, &std::mem::take(&mut messages));
            }
            let payload = self.sample.chunk(chunk.value());
            messages.push(Message::Data { chunk, timestamp: 77_000_000 + net.now.as_micros(), payload });
            self.line.say(net, &messages);
            self.sent.push_back((net.now, chunk));
            if !self.acked.is_empty() {
                self.latest = Some(chunk);
            }
            self.keep_alive = KeepAlive(RTT);
        }
    }
}

impl Peer for SwiftSeeder {
    fn turn(&mut self, net: &mut Net) {
        for datagram in self.line.carry(net) {
            let opens = split_channel(&datagram).unwrap().0.value() == 0;
            if opens && self.line.on_opening(&datagram).is_some() {
                self.reply(net);
            }
            for message in self.line.messages(&datagram) {
                match message {
                    Message::Have(range) => {
                        self.acked.insert(range);
                    }
                    Message::Ack { range, .. } => self.on_ack(range),
                    Message::Request(range) => self.asked.extend(range.iter().map(|chunk| (chunk, net.now))),
                    _ => {}
                }
            }
        }
        self.send(net);
        if self.line.remote.value() != 0 {
            self.keep_alive.speak(&mut self.line, net);
        }
    }

    fn is_done(&self) -> bool {
        self.acked.covers(self.sample.geometry().all())
    }
}
