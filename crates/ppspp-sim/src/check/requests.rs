//! No chunk is asked for twice outside the end game.

use std::net::SocketAddr;
use std::time::Duration;

use ppspp_core::chunk::{ChunkRange, RangeSet};
use ppspp_core::wire::{Message, Messages, split_channel};

use super::integrity::clip;
use super::{Checker, Fact, Scene, slot};
use crate::time::SimTime;

/// A request may be made again after half a second (R16), counted from when the first of a batch was asked for; a peer
/// that stalls may be given up sooner.
const EXPIRES: Duration = Duration::from_millis(200);

/// A chunk is asked of one peer at a time until none is left that nobody was asked for, and never once it is verified.
#[derive(Clone, Debug, Default)]
pub struct NothingIsAskedTwice {
    hosts: Vec<Asked>,
}

#[derive(Clone, Debug, Default)]
struct Asked {
    /// Of whom each chunk was asked last, and when.
    chunks: Vec<Option<(u32, SimTime)>>,
    peers: Vec<SocketAddr>,
    verified: RangeSet,
    /// Chunks asked for and not verified.
    outstanding: u64,
}

impl Asked {
    fn peer(&mut self, address: SocketAddr) -> u32 {
        let place = self.peers.iter().position(|&known| known == address).unwrap_or_else(|| {
            self.peers.push(address);
            self.peers.len() - 1
        });
        place as u32
    }

    fn forget(&mut self, chunk: u64) {
        if let Some(asked) = self.chunks.get_mut(chunk as usize)
            && asked.take().is_some()
        {
            self.outstanding -= 1;
        }
    }

    /// Nothing that was asked of this peer will come.
    fn forget_peer(&mut self, address: SocketAddr) {
        let peer = self.peer(address);
        for asked in &mut self.chunks {
            if asked.is_some_and(|(of, _)| of == peer) {
                *asked = None;
                self.outstanding -= 1;
            }
        }
    }

    fn ask(&mut self, scene: &Scene<'_>, of: SocketAddr, range: ChunkRange) -> Result<(), String> {
        if !scene.content.spec().length_known && self.verified.is_empty() {
            // Every peer is asked for the chunks that tell the size: each one's claim is its own (R1).
            return Ok(());
        }
        let total = scene.content.geometry().chunk_count();
        self.chunks.resize(total as usize, None);
        let peer = self.peer(of);
        let free = total - self.verified.count() - self.outstanding;
        for chunk in clip(scene.content.geometry(), range).iter() {
            if self.verified.contains(chunk) {
                return Err(format!("chunk {} was asked of {of} and is verified already", chunk.value()));
            }
            let asked = &mut self.chunks[chunk.value() as usize];
            match *asked {
                Some((other, at)) if other != peer && free > 0 && scene.now.since(at) < EXPIRES => {
                    let (chunk, other, since) = (chunk.value(), self.peers[other as usize], scene.now.since(at));
                    return Err(format!("chunk {chunk} was asked of {of} and of {other} {since:?} before"));
                }
                Some(_) => {}
                None => self.outstanding += 1,
            }
            *asked = Some((peer, scene.now));
        }
        Ok(())
    }
}

impl Checker for NothingIsAskedTwice {
    fn name(&self) -> &'static str {
        "no chunk is asked for twice outside the end game"
    }

    fn observe(&mut self, scene: &Scene<'_>, fact: &Fact<'_>) -> Result<(), String> {
        let asked = slot(&mut self.hosts, scene.host);
        match fact {
            Fact::Started => *asked = Asked::default(),
            Fact::Said { to, message: Message::Request(range) } => return asked.ask(scene, *to, *range),
            Fact::Said { message: Message::Cancel(range), .. } => {
                clip(scene.content.geometry(), *range).iter().for_each(|chunk| asked.forget(chunk.value()));
            }
            Fact::Verified { range, .. } => {
                asked.verified.insert(*range);
                range.iter().for_each(|chunk| asked.forget(chunk.value()));
            }
            Fact::Stored { range, good: false } | Fact::Changed(range) => {
                asked.verified.remove(*range);
            }
            Fact::Closed(address, _) => asked.forget_peer(*address),
            // A CHOKE ends what was asked for before (RFC 7574 §3.9).
            Fact::Received { from, payload } if payload.len() < 64 => {
                let Some((_, body)) = split_channel(payload) else { return Ok(()) };
                let choked = Messages::new(body, scene.content.format()).any(|message| message == Ok(Message::Choke));
                if choked {
                    asked.forget_peer(SocketAddr::V4(*from));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
