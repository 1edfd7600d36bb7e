//! libperegrine, as a leecher and as a seeder.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ppspp_core::Instant;
use ppspp_core::chunk::{Bin, ChunkIndex, ChunkRange, RangeSet};
use ppspp_core::integrity::uncles;
use ppspp_core::wire::{Message, split_channel};

use super::Peer;
use super::line::{Line, integrity};
use crate::net::{Net, Sample};

/// A seeder answers what it was asked for so often.
const ROUND: Duration = Duration::from_millis(100);
/// Chunks asked for at once.
const WINDOW: u64 = 4;
/// A leecher asks again after this long.
const PATIENCE: Duration = Duration::from_secs(1);

/// Learns the size from INTEGRITY, verifies nothing, answers each chunk with an ACK, and knows no HAVE.
pub(super) struct PeregrineLeecher {
    line: Line,
    sample: Sample,
    end: u64,
    bytes: BTreeMap<u64, Vec<u8>>,
    asked: RangeSet,
    asked_at: Option<Instant>,
}

impl PeregrineLeecher {
    pub(super) fn new(line: Line, sample: &Sample) -> Self {
        let (bytes, asked) = (BTreeMap::new(), RangeSet::new());
        Self { line, sample: sample.clone(), end: 0, bytes, asked, asked_at: None }
    }

    fn ask(&mut self, net: &Net) {
        let late = self.asked_at.is_none_or(|at| net.now >= at + PATIENCE);
        if !self.asked.is_empty() && !late || self.is_done() {
            return;
        }
        let first = (0..=self.end).find(|chunk| !self.bytes.contains_key(chunk)).unwrap();
        let range = ChunkRange::new(first, if self.end == 0 { 1 } else { self.end.min(first + WINDOW) });
        self.asked = RangeSet::from(range);
        self.asked_at = Some(net.now);
        let mut rest = range;
        let mut messages = Vec::new();
        while !rest.is_empty() {
            let bins = matches!(self.sample.metadata.addressing, ppspp_core::chunk::ChunkAddressing::Bin32);
            let part = if bins { Bin::largest_prefix(rest).unwrap().base_range() } else { rest };
            messages.push(Message::Request(part));
            rest = ChunkRange::new(part.end(), rest.end());
        }
        self.line.say(net, &messages);
    }
}

impl Peer for PeregrineLeecher {
    fn turn(&mut self, net: &mut Net) {
        for datagram in self.line.carry(net) {
            if self.line.remote.value() == 0 {
                self.line.on_reply(&datagram);
            }
            for message in self.line.messages(&datagram) {
                match message {
                    Message::Integrity { node, .. } => self.end = self.end.max(node.base_range().end()),
                    Message::Data { chunk, timestamp, payload } if self.end > 0 => {
                        self.bytes.insert(chunk.value(), payload.to_vec());
                        self.asked.remove(ChunkRange::single(chunk));
                        let delay = net.now.as_micros().wrapping_sub(timestamp);
                        self.line.say(net, &[Message::Ack { range: ChunkRange::single(chunk), delay }]);
                    }
                    _ => {}
                }
            }
        }
        if self.line.remote.value() != 0 {
            self.ask(net);
        } else if self.asked_at.is_none() {
            // It opens once: a repeated opening is not in its code.
            self.asked_at = Some(net.now);
            let opening = self.line.handshake(&self.sample, true);
            self.line.say(net, &[Message::Handshake(opening)]);
        }
    }

    fn is_done(&self) -> bool {
        self.bytes.values().flatten().eq(&self.sample.bytes)
    }
}

/// Sends hashes in a datagram of their own, answers every tenth of a second, and repeats nothing by itself.
pub(super) struct PeregrineSeeder {
    line: Line,
    sample: Sample,
    known: RangeSet,
    acked: RangeSet,
    asked: VecDeque<ChunkIndex>,
    round_at: Instant,
}

impl PeregrineSeeder {
    pub(super) fn new(line: Line, sample: &Sample) -> Self {
        let round_at = line.spoke_at;
        let (known, acked, asked) = (RangeSet::new(), RangeSet::new(), VecDeque::new());
        Self { line, sample: sample.clone(), known, acked, asked, round_at }
    }

    fn send(&mut self, net: &Net, chunk: ChunkIndex) {
        let geometry = self.sample.geometry();
        let bins = uncles(&geometry, chunk, |range| self.known.intersects(range));
        let peaks = geometry.peaks().filter(|_| self.known.is_empty());
        let hashes: Vec<_> = peaks.chain(bins).map(|bin| (bin, self.sample.node(bin))).collect();
        if !hashes.is_empty() {
            self.line.say(net, &integrity(&hashes));
        }
        let payload = self.sample.chunk(chunk.value());
        self.line.say(net, &[Message::Data { chunk, timestamp: net.now.as_micros(), payload }]);
        self.known.insert(ChunkRange::single(chunk));
    }
}

impl Peer for PeregrineSeeder {
    fn turn(&mut self, net: &mut Net) {
        for datagram in self.line.carry(net) {
            let opens = split_channel(&datagram).unwrap().0.value() == 0;
            // It does not answer a repeated opening.
            if opens && self.line.remote.value() == 0 && self.line.on_opening(&datagram).is_some() {
                let mut reply = vec![Message::Handshake(self.line.handshake(&self.sample, false))];
                reply.extend(super::line::haves(self.sample.geometry().all()));
                self.line.say(net, &reply);
            }
            for message in self.line.messages(&datagram) {
                match message {
                    Message::Ack { range, .. } => {
                        self.acked.insert(range);
                    }
                    Message::Request(range) => {
                        // What is asked for again did not arrive, nor perhaps its hashes.
                        if self.known.intersects(range) {
                            self.known = self.acked.clone();
                        }
                        self.asked.extend(range.iter());
                    }
                    _ => {}
                }
            }
        }
        if net.now >= self.round_at + ROUND {
            self.round_at = net.now;
            for chunk in std::mem::take(&mut self.asked) {
                self.send(net, chunk);
            }
        }
    }

    fn is_done(&self) -> bool {
        self.acked.covers(self.sample.geometry().all())
    }
}
