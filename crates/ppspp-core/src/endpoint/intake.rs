//! Datagrams from the network: which channel they belong to, and who may open one (RFC 7574 §3.1.1, §8.3, §12.1).

use core::net::SocketAddr;
use core::num::NonZeroUsize;

use crate::channel::{Channel, State};
use crate::config::PeerSource;
use crate::context::Cx;
use crate::endpoint::{Endpoint, cx, is_peer_address};
use crate::event::CloseReason;
use crate::io::DatagramMeta;
use crate::policy::Intake;
use crate::schedule::PeerSlot;
use crate::stats::TrafficStats;
use crate::swarm::{Admission, Swarm};
use crate::time::Instant;
use crate::wire::{CHANNEL_ID_LEN, ChannelId, Handshake, MessageType, read_handshake, split_channel};

/// First octet of a HANDSHAKE message.
const HANDSHAKE: u8 = 0;

impl Endpoint {
    /// Takes in a datagram. Whatever it holds, there is no error: bad ones are counted and dropped, and a peer that
    /// misbehaves is closed with a reason in an event.
    pub fn handle_datagram(&mut self, now: Instant, meta: DatagramMeta, payload: &[u8]) {
        self.handle_datagrams(now, meta, payload, None);
    }

    /// Takes in datagrams that came together from one address, as a kernel that coalesces them hands them over (GRO):
    /// each of `segment` bytes but for a shorter last one, or a single one. The same as
    /// [`handle_datagram`](Self::handle_datagram) for each of them, in less time.
    pub fn handle_datagrams(
        &mut self,
        now: Instant,
        meta: DatagramMeta,
        payload: &[u8],
        segment: Option<NonZeroUsize>,
    ) {
        let now = self.advance(now);
        let segment = segment.map_or(payload.len(), NonZeroUsize::get);
        if payload.is_empty() {
            self.take_any(now, meta, payload);
        }
        let mut rest = payload;
        while !rest.is_empty() {
            rest = self.take_chunks(now, meta.remote, rest, segment);
            if !rest.is_empty() {
                let (datagram, after) = rest.split_at(segment.min(rest.len()));
                self.take_any(now, meta, datagram);
                rest = after;
            }
        }
    }

    /// Takes in datagrams that bring chunks to an established channel, as far as `payload` begins with such; returns what
    /// follows them.
    fn take_chunks<'d>(&mut self, now: Instant, remote: SocketAddr, payload: &'d [u8], segment: usize) -> &'d [u8] {
        let Some((channel, _)) = split_channel(payload) else { return payload };
        let Some((slot, peer)) = self.demux.find(channel) else { return payload };
        let Some(swarm) = self.swarms.get_mut(slot as usize) else { return payload };
        // R11: a channel is bound to its address.
        if swarm.peers.get(peer as usize).is_none_or(|channel| channel.address != remote) {
            return payload;
        }
        let (rest, more) = swarm.on_chunks(&mut cx!(self, now), peer, channel, payload, segment);
        if swarm.begins_to_gather() {
            self.gathering.push(slot);
            self.settle(slot);
        } else if more {
            self.settle(slot);
        }
        rest
    }

    /// Takes in any datagram.
    fn take_any(&mut self, now: Instant, meta: DatagramMeta, payload: &[u8]) {
        self.stats.datagrams_received += 1;
        self.stats.bytes_received += payload.len() as u64;
        let Some((channel, body)) = split_channel(payload) else {
            self.stats.dropped.too_short += 1;
            return;
        };
        if channel == ChannelId::ZERO {
            self.handle_opening(now, meta.remote, body, payload.len());
            return;
        }
        let Some((slot, peer)) = self.demux.find(channel) else {
            self.stats.dropped.unknown_channel += 1;
            return;
        };
        let Some(swarm) = self.swarms.get_mut(slot as usize) else { return };
        let gathered = on_channel(swarm, &mut cx!(self, now), peer, meta.remote, body);
        if swarm.begins_to_gather() {
            self.gathering.push(slot);
        } else if gathered {
            // What waits longest is known of already, and all is settled when it is judged.
            return;
        }
        self.settle(slot);
    }

    /// A datagram to channel 0 asks for a new channel (step 2).
    fn handle_opening(&mut self, now: Instant, remote: SocketAddr, body: &[u8], len: usize) {
        let Ok((handshake, rest)) = read_handshake(body) else {
            self.stats.dropped.bad_handshake += 1;
            return;
        };
        // R10: closing a channel that was never opened means nothing.
        if handshake.is_closing() {
            return;
        }
        let slot = handshake.swarm_id.and_then(|id| self.by_root.get(id)).copied();
        // RFC 768: who sends from port 0 expects no answer, and none can be sent there.
        let Some(slot) = slot.filter(|_| !self.events.is_full() && is_peer_address(remote)) else {
            self.stats.dropped.refused_handshake += 1;
            return;
        };
        if self.swarms[slot as usize].leaving || self.is_ourselves(now, handshake.source) {
            return;
        }
        let trusted = self.swarms[slot as usize].source_of(remote) == PeerSource::Trusted;
        if self.reputation.is_shunned(remote, trusted, now) {
            self.stats.dropped.shunned += 1;
            return;
        }
        let local = self.demux.fresh_id();
        let swarm = &mut self.swarms[slot as usize];
        swarm.traffic.received.on_datagrams(1, len);
        swarm.traffic.received.on_messages(MessageType::Handshake, 1, body.len() - rest.len());
        match swarm.on_opening(&mut cx!(self, now), local, remote, &handshake, rest, len) {
            Admission::Refused => self.stats.dropped.refused_handshake += 1,
            Admission::Known(_) => {}
            Admission::New(peer) => {
                self.demux.insert(local, slot, peer);
                self.bound_half_open(now);
            }
        }
        self.settle(slot);
    }

    /// Whether a HANDSHAKE is our own, come back to us; the channel that sent it is dropped (R9).
    fn is_ourselves(&mut self, now: Instant, source: ChannelId) -> bool {
        let Some((slot, peer)) = self.demux.find(source) else { return false };
        let Some(swarm) = self.swarms.get_mut(slot as usize) else { return false };
        if swarm.peers.get(peer as usize).is_none_or(|channel| channel.opening().is_none()) {
            return false;
        }
        swarm.close_channel(&mut cx!(self, now), peer, CloseReason::Ourselves);
        self.settle(slot);
        true
    }

    /// Drops the oldest unproven channel when there are too many (R8).
    fn bound_half_open(&mut self, now: Instant) {
        let count: usize = self.swarms.iter().map(|(_, swarm)| swarm.half_open_count()).sum();
        if count <= self.config.limits.half_open {
            return;
        }
        let oldest = self
            .swarms
            .iter()
            .filter_map(|(slot, swarm)| swarm.oldest_half_open().map(|(at, peer)| (at, slot as u32, peer)))
            .min();
        let Some((_, slot, peer)) = oldest else { return };
        let swarm = &mut self.swarms[slot as usize];
        swarm.drop_half_open(&mut cx!(self, now), peer, CloseReason::TimedOut);
        self.settle(slot);
    }
}

/// A datagram with our channel id. Returns whether all that came of it is that a chunk waits to be judged.
fn on_channel(swarm: &mut Swarm, cx: &mut Cx<'_>, slot: PeerSlot, remote: SocketAddr, body: &[u8]) -> bool {
    let Some(channel) = swarm.peers.get_mut(slot as usize) else { return false };
    // R11: a channel is bound to its address.
    if channel.address != remote {
        cx.stats.dropped.wrong_address += 1;
        return false;
    }
    if body.first() == Some(&HANDSHAKE) {
        return on_handshake(swarm, cx, slot, body);
    }
    count(channel, &mut swarm.traffic, [&mut swarm.down, cx.down], cx.now, body);
    match &channel.state {
        State::Established(_) => swarm.on_messages(cx, slot, body),
        State::HalfOpen(_) => {
            swarm.on_proof(cx, slot);
            swarm.on_messages(cx, slot, body);
            false
        }
        // The reply starts with a HANDSHAKE.
        _ => false,
    }
}

/// Counts a datagram to `channel`. What comes to none is no part of a transfer, and does not count for the limits: anybody
/// could stop what is limited with it.
#[inline]
fn count(channel: &mut Channel, traffic: &mut TrafficStats, down: [&mut Intake; 2], now: Instant, body: &[u8]) {
    let len = CHANNEL_ID_LEN + body.len();
    channel.on_received(now);
    traffic.received.on_datagrams(1, len);
    for limit in down {
        limit.on_received(now, len as u64);
    }
}

/// A datagram with our channel id that starts with a HANDSHAKE.
#[inline(never)]
fn on_handshake(swarm: &mut Swarm, cx: &mut Cx<'_>, slot: PeerSlot, body: &[u8]) -> bool {
    let Ok((handshake, rest)) = read_handshake(body) else {
        cx.stats.dropped.bad_handshake += 1;
        return false;
    };
    let Some(channel) = swarm.peers.get_mut(slot as usize) else { return false };
    count(channel, &mut swarm.traffic, [&mut swarm.down, cx.down], cx.now, body);
    swarm.traffic.received.on_messages(MessageType::Handshake, 1, body.len() - rest.len());
    match &channel.state {
        State::Opening(_) => {
            on_reply(swarm, cx, slot, &handshake, rest);
            false
        }
        // A refusal, or the reply to our own opening (R9).
        State::HalfOpen(half_open) if handshake.is_closing() || half_open.remote != handshake.source => {
            on_reply(swarm, cx, slot, &handshake, rest);
            false
        }
        State::HalfOpen(_) => {
            swarm.on_proof(cx, slot);
            on_established(swarm, cx, slot, &handshake, rest);
            false
        }
        State::Established(_) => on_established(swarm, cx, slot, &handshake, rest),
        State::Closing(_) | State::Closed => false,
    }
}

fn on_reply(swarm: &mut Swarm, cx: &mut Cx<'_>, slot: PeerSlot, handshake: &Handshake<'_>, rest: &[u8]) {
    if swarm.on_reply(cx, slot, handshake) {
        swarm.on_messages(cx, slot, rest);
    }
}

fn on_established(swarm: &mut Swarm, cx: &mut Cx<'_>, slot: PeerSlot, handshake: &Handshake<'_>, rest: &[u8]) -> bool {
    if handshake.is_closing() {
        swarm.judge_gathered(cx);
        swarm.close_channel(cx, slot, CloseReason::ByPeer);
        return false;
    }
    // A repeated reply: what follows it counts, another channel id does not (§8.2).
    let remote = swarm.peers.get(slot as usize).and_then(|channel| channel.established()).map(|peer| peer.remote);
    remote == Some(handshake.source) && swarm.on_messages(cx, slot, rest)
}
