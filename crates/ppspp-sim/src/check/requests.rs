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
/// What a peer sent before it heard a CANCEL may still come, and is nobody else's until then, for a second at most
/// (R21). In milliseconds.
const MAY_COME: u32 = 1000;

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
    /// It was taken back by a CANCEL then, from whom it may still come.
    TakenBack { at: u32 },
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
    /// Chunks that were asked of another peer as well, until the instant is over: a CANCEL may follow, and
    /// what was freed may be asked for again.
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
            *known = place;
        }
    }

    /// What was asked of this peer, of `range` only, is at `place` now.
    fn forget(&mut self, address: SocketAddr, range: ChunkRange, place: Place) {
        let peer = self.peer(address);
        for chunk in range.iter() {
            if matches!(self.chunks.get(chunk.value() as usize), Some(Place::Asked { of, .. }) if *of == peer) {
                self.put(chunk, place);
            }
        }
    }

    /// Whether a chunk is left that nobody was asked for.
    fn is_any_free(&self, now: u32) -> bool {
        self.chunks.iter().zip(0..).any(|(place, chunk)| {
            let free = match place {
                Place::Free => true,
                Place::TakenBack { at } => now - at >= MAY_COME,
                Place::Asked { .. } | Place::Came => false,
            };
            let chunk = ChunkIndex::new(chunk);
            free && !self.verified.contains(chunk) && !self.kept.contains(chunk)
        })
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
        for chunk in range.iter() {
            if self.verified.contains(chunk) {
                return Err(format!("chunk {} was asked of {of} and is verified already", chunk.value()));
            }
            if let Place::Asked { of: other, at } = self.chunks[chunk.value() as usize]
                && other != peer
                && now - at < EXPIRES
                && self.is_any_free(now)
            {
                let chunk = chunk.value();
                self.twice.push(Twice { chunk, first: other, second: peer, at: scene.now, apart: now - at });
            }
            self.put(chunk, Place::Asked { of: peer, at: now });
        }
        Ok(())
    }

    /// A request is moved to another peer by a CANCEL to the first at the same instant.
    fn cancel(&mut self, now: SimTime, address: SocketAddr, range: ChunkRange) {
        self.forget(address, range, Place::TakenBack { at: millis(now) });
        let peer = self.peer(address);
        self.twice.retain(|twice| twice.first != peer || !range.contains(ChunkIndex::new(twice.chunk)));
    }

    /// What was asked twice, not cancelled, and not in the end game when time went on.
    fn judge(&mut self, scene: &Scene<'_>) -> Result<(), String> {
        if self.twice.first().is_none_or(|twice| twice.at == scene.now) {
            return Ok(());
        }
        let Twice { chunk, first, second, at, apart } = self.twice[0];
        self.twice.clear();
        if !self.is_any_free(millis(at)) {
            return Ok(());
        }
        let [first, second] = [first, second].map(|peer| self.peers[peer as usize]);
        Err(format!("chunk {chunk} was asked of {second} and, {apart} ms before, of {first}"))
    }

    /// Takes note of what came, and of a CHOKE, which ends what was asked for before (RFC 7574 §3.9).
    fn receive(&mut self, scene: &Scene<'_>, from: SocketAddrV4, payload: &[u8]) {
        let Some((_, body)) = split_channel(payload) else { return };
        let all = scene.content.geometry().all();
        // What tells the size may come before anything else is asked for.
        self.chunks.resize(all.count() as usize, Place::Free);
        for message in Messages::new(body, scene.content.format()).map_while(Result::ok) {
            match message {
                Message::Data { chunk, .. } if all.contains(chunk) && !self.verified.contains(chunk) => {
                    self.put(chunk, Place::Came);
                }
                Message::Choke => self.forget(SocketAddr::V4(from), all, Place::Free),
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
        asked.judge(scene)?;
        let all = scene.content.geometry().all();
        match fact {
            Fact::Started => {
                let mut kept = std::mem::take(&mut asked.kept);
                kept.extend(asked.verified.runs());
                *asked = Asked { kept, ..Asked::default() };
            }
            Fact::Said { to, message: Message::Request(range) } => return asked.ask(scene, *to, *range),
            Fact::Said { to, message: Message::Cancel(range) } => {
                asked.cancel(scene.now, *to, all.intersection(*range));
            }
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
            Fact::Closed(address, _) => asked.forget(*address, all, Place::Free),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use ppspp_core::EndpointConfig;

    use super::*;
    use crate::content::{Content, ContentSpec};
    use crate::disk::{Disk, DiskSpec};
    use crate::id::HostId;
    use crate::rng::Streams;

    /// CHOKE on a channel of any id.
    const CHOKE: [u8; 5] = [0, 0, 0, 1, 10];

    /// What comes of messages to peers, and of CHOKE from them, at so many milliseconds each.
    fn judge(content: &Content, said: &[(u64, u8, Message<'_>)]) -> Result<(), String> {
        let disk = Disk::new(DiskSpec::default(), content.clone(), Streams::new(1).stream("disk"));
        let config = EndpointConfig::default();
        let mut checker = NothingIsAskedTwice::default();
        said.iter().try_for_each(|(millis, peer, message)| {
            let now = SimTime::from_nanos(millis * 1_000_000);
            let scene = Scene { now, host: HostId(0), content, disk: &disk, config: &config, memory: None };
            let peer = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, *peer), 6778);
            let fact = match message {
                Message::Choke => Fact::Received { from: peer, payload: &CHOKE },
                message => Fact::Said { to: peer.into(), message },
            };
            checker.observe(&scene, &fact)
        })
    }

    const fn request(from: u64, to: u64) -> Message<'static> {
        Message::Request(ChunkRange::new(from, to))
    }

    #[test]
    fn what_is_asked_twice_is_judged_when_the_instant_is_over() {
        let content = Content::new(ContentSpec::new(4096), 1).unwrap();
        let judge = |said: &[_]| judge(&content, said);
        let later = (20, 4, Message::Choke);
        // All four chunks are asked for. Two go from one peer to another; in between a third is asked of a second peer.
        let end_game = [
            (0, 1, request(0, 2)),
            (0, 2, request(2, 4)),
            (10, 1, Message::Choke),
            (10, 3, request(0, 1)),
            (10, 3, request(2, 3)),
            (10, 3, request(1, 2)),
        ];
        assert_eq!(judge(&[&end_game[..], &[later]].concat()), Ok(()));
        // Without the last one a chunk is left that nobody was asked for.
        assert!(judge(&end_game[..5]).is_ok());
        assert!(judge(&[&end_game[..5], &[later]].concat()).unwrap_err().starts_with("chunk 2 was asked of 10.0.0.3"));
    }

    #[test]
    fn what_is_taken_back_may_still_come() {
        let content = Content::new(ContentSpec::new(4096), 1).unwrap();
        let judge = |millis: u64| {
            let taken_back = [(0, 1, request(0, 2)), (0, 1, Message::Cancel(ChunkRange::new(0, 1)))];
            let twice = [2, 3].map(|peer| (millis, peer, request(2, 4)));
            judge(&content, &[&taken_back[..], &twice, &[(millis + 1, 4, Message::Choke)]].concat())
        };
        assert_eq!(judge(999), Ok(()));
        assert!(judge(1000).unwrap_err().starts_with("chunk 2 was asked of 10.0.0.3"));
    }
}
