//! A peer that opens channels, or answers those who do, and then lies.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use ppspp_core::chunk::{ChunkIndex, ChunkRange};
use ppspp_core::integrity::Hash;
use ppspp_core::wire::{ChannelId, Handshake, Message, Messages, read_handshake, split_channel};

use super::wire::{datagram, handshake, proof};
use crate::content::Content;
use crate::node::{Hand, Node};
use crate::packet::Packet;
use crate::time::SimTime;

/// Channels of one liar at most.
const CHANNELS: usize = 1024;
/// Chunks answered to one REQUEST at most.
const ANSWERS: u64 = 64;
/// How often a liar that acts by itself does so.
const TICK: Duration = Duration::from_millis(50);
/// How often a trickle drips.
const DRIP: Duration = Duration::from_secs(2);
/// How often a liar tries those again that it has no channel to.
const REDIAL: Duration = Duration::from_secs(5);

/// What a liar does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    /// Answers requests with other bytes, and the right hashes.
    BogusData,
    /// Answers requests with the right bytes, and other hashes.
    BogusHashes,
    /// Says it has everything and answers nothing.
    HaveOnly,
    /// Asks for everything over and over and acknowledges nothing.
    RequestFlood,
    /// Names peers that are not there.
    PexPoison,
    /// Answers one chunk now and then.
    Trickle,
    /// Sends back what it receives, and what it received before.
    Replay,
    /// Closes its channels and opens them anew.
    CloseAndReturn,
}

impl Lie {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::BogusData,
        Self::BogusHashes,
        Self::HaveOnly,
        Self::RequestFlood,
        Self::PexPoison,
        Self::Trickle,
        Self::Replay,
        Self::CloseAndReturn,
    ];
}

#[derive(Debug)]
struct Channel {
    peer: SocketAddrV4,
    remote: ChannelId,
    announced: bool,
    /// Chunks asked of us that a trickle has not answered.
    asked: Vec<ChunkIndex>,
}

/// A liar. It dials the hosts it knows and answers everyone.
#[derive(Debug)]
pub struct Liar {
    lie: Lie,
    content: Content,
    channels: BTreeMap<u32, Channel>,
    next_channel: u32,
    tick: SimTime,
    redial: SimTime,
    heard: Vec<Vec<u8>>,
}

impl Liar {
    /// A liar in the swarm of `content`.
    pub const fn new(lie: Lie, content: Content) -> Self {
        Self {
            lie,
            content,
            channels: BTreeMap::new(),
            next_channel: 0,
            tick: SimTime::ZERO,
            redial: SimTime::ZERO,
            heard: Vec::new(),
        }
    }

    fn channel(&mut self, peer: SocketAddrV4, remote: ChannelId) -> u32 {
        if self.channels.len() >= CHANNELS {
            self.channels.pop_first();
        }
        self.next_channel += 1;
        let local = self.next_channel;
        self.channels.insert(local, Channel { peer, remote, announced: false, asked: Vec::new() });
        local
    }

    fn dial(&mut self, hand: &mut Hand<'_>) {
        for &peer in hand.knows() {
            if self.channels.values().all(|channel| channel.peer != peer) {
                let local = self.channel(peer, ChannelId::ZERO);
                let opening = Message::Handshake(handshake(&self.content, local, true));
                hand.send(peer, datagram(&self.content, ChannelId::ZERO, &[opening]));
            }
        }
    }

    /// Says it has everything, unless it did.
    fn announce(&mut self, local: u32, hand: &mut Hand<'_>) {
        let all = self.content.geometry().all();
        let Some(channel) = self.channels.get_mut(&local) else { return };
        if std::mem::replace(&mut channel.announced, true) || channel.remote == ChannelId::ZERO {
            return;
        }
        let have = match self.content.geometry().root().base_range() {
            // A bin cannot name every range; the largest that does not exceed the content is claimed.
            root if all.covers(root) => root,
            _ => all,
        };
        hand.send(channel.peer, datagram(&self.content, channel.remote, &[Message::Have(have)]));
    }

    fn on_opening(&mut self, packet: &Packet, opening: &Handshake<'_>, hand: &mut Hand<'_>) {
        let local = self.channel(packet.source, opening.source);
        let reply = Message::Handshake(handshake(&self.content, local, false));
        hand.send(packet.source, datagram(&self.content, opening.source, &[reply]));
    }

    fn on_request(&mut self, local: u32, range: ChunkRange, hand: &mut Hand<'_>) {
        let chunks = self.content.geometry().all().intersection(range).iter().take(ANSWERS as usize);
        let Some(channel) = self.channels.get_mut(&local) else { return };
        if self.lie == Lie::Trickle {
            channel.asked.extend(chunks.take(ANSWERS as usize - channel.asked.len().min(ANSWERS as usize)));
            return;
        }
        if !matches!(self.lie, Lie::BogusData | Lie::BogusHashes) {
            return;
        }
        let (peer, remote) = (channel.peer, channel.remote);
        for chunk in chunks {
            let answer = self.answer(chunk, remote, hand);
            hand.send(peer, answer);
        }
    }

    /// A datagram with `chunk`, true or not.
    fn answer(&self, chunk: ChunkIndex, remote: ChannelId, hand: &mut Hand<'_>) -> Vec<u8> {
        let mut payload = self.content.slice(ChunkRange::single(chunk)).to_vec();
        let mut hashes = proof(&self.content, chunk);
        if self.lie == Lie::BogusData {
            let place = hand.rng().below(payload.len() as u64) as usize;
            payload[place] ^= 1;
        }
        if self.lie == Lie::BogusHashes {
            for (_, hash) in &mut hashes {
                let function = self.content.metadata().function;
                *hash = Hash::from_slice(function.leaf(hash.as_slice()).as_slice()).unwrap_or(*hash);
            }
        }
        let mut messages: Vec<_> =
            hashes.iter().map(|(node, hash)| Message::Integrity { node: *node, hash: hash.as_slice() }).collect();
        let timestamp = hand.now().as_nanos() / 1000;
        messages.push(Message::Data { chunk, timestamp, payload: &payload });
        datagram(&self.content, remote, &messages)
    }

    /// What it does by itself on one channel.
    fn act(&mut self, local: u32, hand: &mut Hand<'_>) {
        let Some(channel) = self.channels.get_mut(&local) else { return };
        let (peer, remote) = (channel.peer, channel.remote);
        if remote == ChannelId::ZERO {
            return;
        }
        let bytes = match self.lie {
            Lie::RequestFlood => {
                let all = self.content.geometry().all();
                datagram(&self.content, remote, &[Message::Request(all); 32])
            }
            Lie::Trickle => {
                let Some(chunk) = channel.asked.pop() else { return };
                channel.asked.clear();
                self.answer(chunk, remote, hand)
            }
            Lie::PexPoison => {
                let named: Vec<_> = (0..16).map(|_| Message::PexResV4(nobody(hand))).collect();
                datagram(&self.content, remote, &named)
            }
            Lie::Replay => {
                let heard = hand.rng().pick(&self.heard).cloned();
                let Some(bytes) = heard else { return };
                bytes
            }
            Lie::CloseAndReturn => {
                self.channels.remove(&local);
                datagram(&self.content, remote, &[Message::Handshake(Handshake::closing())])
            }
            Lie::BogusData | Lie::BogusHashes | Lie::HaveOnly => return,
        };
        hand.send(peer, bytes);
    }
}

/// An address at which nobody is, or one that must not be believed.
fn nobody(hand: &mut Hand<'_>) -> SocketAddrV4 {
    let draw = hand.rng().number();
    let ip = match draw % 5 {
        0 => Ipv4Addr::LOCALHOST,
        1 => Ipv4Addr::new(224, 0, 0, 1),
        2 => Ipv4Addr::UNSPECIFIED,
        3 => *hand.address().ip(),
        _ => Ipv4Addr::from(0x0aff_0000 | (draw >> 16) as u32 & 0xffff),
    };
    SocketAddrV4::new(ip, (draw >> 40) as u16)
}

impl Node for Liar {
    fn start(&mut self, _hand: &mut Hand<'_>) {}

    fn on_packet(&mut self, packet: &Packet, hand: &mut Hand<'_>) {
        let Some((channel, body)) = split_channel(&packet.payload) else { return };
        let greeting = read_handshake(body).ok().map(|(handshake, _)| handshake);
        if channel == ChannelId::ZERO {
            if let Some(opening) = greeting.filter(|opening| !opening.is_closing()) {
                self.on_opening(packet, &opening, hand);
            }
            return;
        }
        let local = channel.value();
        let Some(known) = self.channels.get_mut(&local) else { return };
        if let Some(reply) = greeting {
            if reply.is_closing() {
                self.channels.remove(&local);
                return;
            }
            known.remote = reply.source;
        }
        if self.lie == Lie::Replay && self.heard.len() < 64 {
            let mut bytes = known.remote.value().to_be_bytes().to_vec();
            bytes.extend_from_slice(body);
            self.heard.push(bytes);
        }
        self.announce(local, hand);
        let content = self.content.clone();
        for message in Messages::new(body, content.format()).map_while(Result::ok) {
            if let Message::Request(range) = message {
                self.on_request(local, range, hand);
            }
        }
    }

    fn on_wake(&mut self, hand: &mut Hand<'_>) {
        if hand.now() >= self.redial {
            self.redial = hand.now() + REDIAL;
            self.dial(hand);
        }
        if hand.now() >= self.tick {
            let slow = matches!(self.lie, Lie::Trickle | Lie::CloseAndReturn);
            self.tick = hand.now() + if slow { DRIP } else { TICK };
            let channels: Vec<u32> = self.channels.keys().copied().collect();
            for local in channels {
                self.act(local, hand);
            }
        }
    }

    fn wake_at(&self) -> Option<SimTime> {
        Some(self.tick.min(self.redial))
    }
}
