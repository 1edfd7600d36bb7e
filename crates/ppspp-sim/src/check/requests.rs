//! No chunk is asked for twice outside the end game.

use std::net::{SocketAddr, SocketAddrV4};

use ppspp_core::chunk::{ChunkIndex, ChunkRange, RangeSet};
use ppspp_core::wire::{Message, Messages, split_channel};

use super::integrity::clip;
use super::{Checker, Fact, Scene, slot};
use crate::time::SimTime;

/// A request may be made again after half a second (R16), counted from when the first of a batch was asked for. A peer that
/// stalls may be given up a quarter of a second after it last gave something, and was asked for the latest only then. In
/// milliseconds.
const EXPIRES: u32 = 150;

/// A chunk is asked of one peer at a time until none is left that nobody was asked for, and never once it is verified.
#[derive(Clone, Debug, Default)]
pub struct NothingIsAskedTwice {
    hosts: Vec<Asked>,
}

/// Where a chunk is, as far as can be seen from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Place {
    /// Nobody was asked for it.
    #[default]
    Free,
    /// It was asked of one peer, so many milliseconds after the beginning.
    Asked { of: u32, at: u32 },
    /// It came, and may wait for the rest of its group.
    Came,
}

#[derive(Clone, Debug, Default)]
struct Asked {
    chunks: Vec<Place>,
    peers: Vec<SocketAddr>,
    /// Chunks that were handed out.
    verified: RangeSet,
    /// Chunks that were handed out before a restart: the disk may have kept them.
    kept: RangeSet,
    /// Chunks that are not free and were not handed out.
    busy: u64,
    /// Chunks that were asked of another peer as well, until it is clear that no CANCEL follows.
    twice: Vec<Twice>,
}

/// A chunk that was asked of a second peer.
#[derive(Clone, Copy, Debug)]
struct Twice {
    chunk: u64,
    first: u32,
    second: u32,
    at: SimTime,
    apart: u32,
}

impl Asked {
    fn peer(&mut self, address: SocketAddr) -> u32 {
        let place = self.peers.iter().position(|&known| known == address).unwrap_or_else(|| {
            self.peers.push(address);
            self.peers.len() - 1
        });
        place as u32
    }

    fn put(&mut self, chunk: ChunkIndex, place: Place) {
        if let Some(known) = self.chunks.get_mut(chunk.value() as usize) {
            self.busy += u64::from(*known == Place::Free && place != Place::Free);
            self.busy -= u64::from(*known != Place::Free && place == Place::Free);
            *known = place;
        }
    }

    /// What was asked of this peer, of `range` only, will not come.
    fn forget(&mut self, address: SocketAddr, range: ChunkRange) {
        let peer = self.peer(address);
        for chunk in range.iter() {
            if matches!(self.chunks.get(chunk.value() as usize), Some(Place::Asked { of, .. }) if *of == peer) {
                self.put(chunk, Place::Free);
            }
        }
    }

    fn ask(&mut self, scene: &Scene<'_>, of: SocketAddr, range: ChunkRange) -> Result<(), String> {
        if !scene.content.spec().length_known && self.verified.is_empty() && range.count() == 1 {
            // Every peer is asked for the chunks that tell the size, one at a time: each one's claim is its own (R1).
            return Ok(());
        }
        let total = scene.content.geometry().chunk_count();
        self.chunks.resize(total as usize, Place::Free);
        let peer = self.peer(of);
        let now = millis(scene.now);
        let range = clip(scene.content.geometry(), range);
        self.kept.remove(range);
        let free = total.saturating_sub(self.verified.count() + self.kept.count() + self.busy);
        for chunk in range.iter() {
            if self.verified.contains(chunk) {
                return Err(format!("chunk {} was asked of {of} and is verified already", chunk.value()));
            }
            if let Place::Asked { of: other, at } = self.chunks[chunk.value() as usize]
                && other != peer
                && free > 0
                && now - at < EXPIRES
            {
                let chunk = chunk.value();
                self.twice.push(Twice { chunk, first: other, second: peer, at: scene.now, apart: now - at });
            }
            self.put(chunk, Place::Asked { of: peer, at: now });
        }
        Ok(())
    }

    /// A request is moved to another peer by a CANCEL to the first at the same instant.
    fn cancel(&mut self, address: SocketAddr, range: ChunkRange) {
        self.forget(address, range);
        let peer = self.peer(address);
        self.twice.retain(|twice| twice.first != peer || !range.contains(ChunkIndex::new(twice.chunk)));
    }

    /// What was asked twice and not cancelled when time went on.
    fn judge(&self, now: SimTime) -> Result<(), String> {
        let Some(Twice { chunk, first, second, apart, .. }) = self.twice.first().filter(|twice| twice.at < now) else {
            return Ok(());
        };
        let [first, second] = [first, second].map(|peer| self.peers[*peer as usize]);
        Err(format!("chunk {chunk} was asked of {second} and, {apart} ms before, of {first}"))
    }

    /// Takes note of what came, and of a CHOKE, which ends what was asked for before (RFC 7574 §3.9).
    fn receive(&mut self, scene: &Scene<'_>, from: SocketAddrV4, payload: &[u8]) {
        let Some((_, body)) = split_channel(payload) else { return };
        let all = scene.content.geometry().all();
        for message in Messages::new(body, scene.content.format()).map_while(Result::ok) {
            match message {
                Message::Data { chunk, .. } if all.contains(chunk) && !self.verified.contains(chunk) => {
                    self.put(chunk, Place::Came);
                }
                Message::Choke => self.forget(SocketAddr::V4(from), all),
                _ => {}
            }
        }
    }
}

fn millis(at: SimTime) -> u32 {
    (at.as_nanos() / 1_000_000) as u32
}

impl Checker for NothingIsAskedTwice {
    fn name(&self) -> &'static str {
        "no chunk is asked for twice outside the end game"
    }

    fn observe(&mut self, scene: &Scene<'_>, fact: &Fact<'_>) -> Result<(), String> {
        let asked = slot(&mut self.hosts, scene.host);
        asked.judge(scene.now)?;
        let all = scene.content.geometry().all();
        match fact {
            Fact::Started => {
                let mut kept = std::mem::take(&mut asked.kept);
                kept.extend(asked.verified.runs());
                *asked = Asked { kept, ..Asked::default() };
            }
            Fact::Said { to, message: Message::Request(range) } => return asked.ask(scene, *to, *range),
            Fact::Said { to, message: Message::Cancel(range) } => asked.cancel(*to, all.intersection(*range)),
            Fact::Received { from, payload } => asked.receive(scene, *from, payload),
            Fact::Verified { range, .. } => {
                asked.verified.insert(*range);
                asked.kept.remove(*range);
                for chunk in range.iter() {
                    asked.put(chunk, Place::Free);
                }
            }
            Fact::Stored { range, good: false } | Fact::Changed(range) => {
                asked.verified.remove(*range);
            }
            Fact::Closed(address, _) => asked.forget(*address, all),
            _ => {}
        }
        Ok(())
    }
}
