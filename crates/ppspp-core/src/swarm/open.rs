//! Channels from the first HANDSHAKE to proof of both addresses (RFC 7574 §3.1.1, §12.1).

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::availability::PeerMap;
use crate::channel::{Channel, Established, HalfOpen, Opening, Repeat, State, Unheard};
use crate::chunk::{Geometry, RangeSet};
use crate::config::PeerSource;
use crate::context::Cx;
use crate::error::AddPeerError;
use crate::event::{CloseReason, Event, PeerId};
use crate::negotiation::{Role, Session, check, offer};
use crate::schedule::PeerSlot;
use crate::swarm::Swarm;
use crate::wire::{ChannelId, DatagramBuilder, Format, Handshake, Message, Messages, RangeMessage};

/// HAVE messages read from an opening datagram; a peer with more sends them once it is proven.
const MAX_EARLY_HAVES: usize = 32;

/// What a HANDSHAKE from an address that has not proven itself led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Admission {
    /// Nothing is sent: the peer may not be who it says (RFC 7574 §3.1.1 step 2).
    Refused,
    /// It repeats one that was answered already, or belongs to a channel that stands.
    Known(PeerSlot),
    /// A channel was begun.
    New(PeerSlot),
}

impl Swarm {
    /// Whether the swarm may have another channel; the oldest unproven one gives way.
    fn make_room(&mut self, cx: &mut Cx<'_>) -> bool {
        if self.peers.len() >= cx.config.limits.channels
            && let Some((_, oldest)) = self.oldest_half_open()
        {
            self.drop_half_open(cx, oldest, CloseReason::TimedOut);
        }
        self.peers.len() < cx.config.limits.channels
    }

    /// Drops an unproven channel that others opened.
    pub(crate) fn drop_half_open(&mut self, cx: &mut Cx<'_>, slot: PeerSlot, reason: CloseReason) {
        self.close_channel(cx, slot, reason);
        self.remove_if_closed(slot);
    }

    /// Begins a channel to `address` (step 1).
    pub(crate) fn open(
        &mut self,
        cx: &mut Cx<'_>,
        local: ChannelId,
        address: SocketAddr,
        source: PeerSource,
    ) -> Result<PeerId, AddPeerError> {
        if cx.reputation.is_shunned(address, source == PeerSource::Trusted, cx.now) {
            return Err(AddPeerError::Shunned(address));
        }
        let peer = self.begin(cx, local, address, source)?;
        self.forget_candidate(address);
        Ok(peer)
    }

    /// The same, without asking for its reputation.
    pub(crate) fn begin(
        &mut self,
        cx: &mut Cx<'_>,
        local: ChannelId,
        address: SocketAddr,
        source: PeerSource,
    ) -> Result<PeerId, AddPeerError> {
        if let Some(&slot) = self.by_address.get(&address) {
            if source == PeerSource::Trusted {
                self.trust(slot);
            }
            return Err(AddPeerError::AlreadyKnown(address));
        }
        if !self.has_outgoing_slot(cx.config) {
            return Err(AddPeerError::TooManyChannels(cx.config.max_peers));
        }
        if !self.make_room(cx) {
            return Err(AddPeerError::TooManyChannels(cx.config.limits.channels));
        }
        let slot = self.insert(cx, local, address, source, State::Opening(Opening::new(cx.now)));
        self.by_address.insert(address, slot);
        self.wake.push(slot);
        Ok(self.peers[slot as usize].id)
    }

    /// Begins a second channel beside an initiated one that fell silent; the first goes once this is proven (R11).
    pub(crate) fn reopen(&mut self, cx: &mut Cx<'_>, slot: PeerSlot, local: ChannelId) -> Option<PeerSlot> {
        if !self.make_room(cx) {
            if let Some(channel) = self.peers.get_mut(slot as usize) {
                channel.put_off_reopening();
            }
            return None;
        }
        let channel = self.peers.get_mut(slot as usize)?;
        channel.reopened = true;
        let (address, source) = (channel.address, channel.source);
        let successor = self.insert(cx, local, address, source, State::Opening(Opening::new(cx.now)));
        self.wake.push(successor);
        Some(successor)
    }

    fn insert(
        &mut self,
        cx: &Cx<'_>,
        local: ChannelId,
        address: SocketAddr,
        source: PeerSource,
        state: State,
    ) -> PeerSlot {
        self.peer_serial = self.peer_serial.wrapping_add(1);
        let entry = self.peers.vacant_entry();
        let slot = entry.key() as PeerSlot;
        let id = PeerId { swarm: self.id, slot, serial: self.peer_serial };
        entry.insert(Channel::new(id, local, address, source, state, cx.config, cx.now));
        slot
    }

    /// Judges a HANDSHAKE that opens a channel, and the minor messages behind it (step 2).
    ///
    /// `local` is a free channel id; `len` the length of the datagram.
    pub(crate) fn on_opening(
        &mut self,
        cx: &mut Cx<'_>,
        local: ChannelId,
        address: SocketAddr,
        handshake: &Handshake<'_>,
        rest: &[u8],
        len: usize,
    ) -> Admission {
        let Ok(session) = check(&self.metadata, handshake, Role::Initiator) else { return Admission::Refused };
        if let Some(known) = self.on_known_address(address, handshake, len) {
            return known;
        }
        // R9: of two simultaneous openings the one with the smaller id stands; theirs does if we are still here.
        let rival = self.by_address.get(&address).copied();
        let rival = rival.and_then(|slot| Some((slot, *self.peers.get(slot as usize)?.opening()?)));
        if let Some((slot, ours)) = rival {
            let local = self.peers[slot as usize].local;
            let half_open =
                HalfOpen { ours: Some(ours), ..self.half_open_state(cx, local, handshake, session, rest, len) };
            self.peers[slot as usize].state = State::HalfOpen(Box::new(half_open));
            self.wake.push(slot);
            return Admission::Known(slot);
        }
        if let Some(&old) = self.half_open.get(&address) {
            self.drop_half_open(cx, old, CloseReason::Replaced);
        }
        let source = self.source_of(address);
        let admitted = source == PeerSource::Trusted || self.has_incoming_slot(cx.config, address);
        if !admitted || !self.make_room(cx) {
            return Admission::Refused;
        }
        let half_open = self.half_open_state(cx, local, handshake, session, rest, len);
        let slot = self.insert(cx, local, address, source, State::HalfOpen(Box::new(half_open)));
        self.half_open.insert(address, slot);
        self.wake.push(slot);
        Admission::New(slot)
    }

    /// What a HANDSHAKE means that comes from an address with a channel; `None` if it asks for a new one.
    fn on_known_address(&mut self, address: SocketAddr, handshake: &Handshake<'_>, len: usize) -> Option<Admission> {
        if let Some(&slot) = self.half_open.get(&address)
            && let State::HalfOpen(half_open) = &mut self.peers[slot as usize].state
            && half_open.remote == handshake.source
        {
            half_open.on_handshake(len);
            self.wake.push(slot);
            return Some(Admission::Known(slot));
        }
        let &slot = self.by_address.get(&address)?;
        let channel = &mut self.peers[slot as usize];
        let local = channel.local;
        match &mut channel.state {
            State::HalfOpen(half_open) if half_open.remote == handshake.source => {
                half_open.on_handshake(len);
                self.wake.push(slot);
                Some(Admission::Known(slot))
            }
            // R9: ours is smaller, so the peer will drop its own opening and answer ours.
            State::Opening(_) | State::HalfOpen(_) if local < handshake.source => Some(Admission::Known(slot)),
            State::Established(peer) if peer.remote == handshake.source => Some(Admission::Known(slot)),
            _ => None,
        }
    }

    fn half_open_state(
        &self,
        cx: &Cx<'_>,
        local: ChannelId,
        handshake: &Handshake<'_>,
        session: Session,
        rest: &[u8],
        len: usize,
    ) -> HalfOpen {
        let mut have = PeerMap::new();
        let clip = self.content.geometry().map(Geometry::all);
        for message in Messages::new(rest, &self.format).map_while(Result::ok).take(MAX_EARLY_HAVES) {
            if let Message::Have(range) = message {
                have.add(range, clip, MAX_EARLY_HAVES);
            }
        }
        let mut bytes = reply(&self.metadata, &self.format, local, handshake.source, &session, self.exchange.is_on());
        add_haves(&mut bytes, &self.format, handshake.source, &self.content.stored, len);
        HalfOpen {
            remote: handshake.source,
            session,
            have,
            // R8: never more than was received.
            reply_due: bytes.len() <= len,
            reply: bytes,
            received: len as u64,
            sent: 0,
            opened_at: cx.now,
            replied_at: None,
            ours: None,
        }
    }

    /// Judges the answer to our opening (steps 3 and 4); returns whether the channel stands.
    pub(crate) fn on_reply(&mut self, cx: &mut Cx<'_>, slot: PeerSlot, handshake: &Handshake<'_>) -> bool {
        if handshake.is_closing() {
            self.close_channel(cx, slot, CloseReason::ByPeer);
            return false;
        }
        let has_slot = self.has_outgoing_slot(cx.config);
        let Some(channel) = self.peers.get_mut(slot as usize) else { return false };
        let Some(opening) = channel.opening() else { return false };
        // Other openings may have been answered first; a successor takes its predecessor's place (R11).
        let succeeds = self.by_address.get(&channel.address) != Some(&slot);
        let has_slot = has_slot || succeeds;
        match check(&self.metadata, handshake, Role::Responder) {
            Ok(_) if !has_slot => {
                self.end_channel(cx, slot, CloseReason::Locally, Some(handshake.source));
                false
            }
            Ok(session) => {
                let rtt = opening.rtt(cx.now);
                let mut peer = Established::new(handshake.source, session, PeerMap::new(), rtt);
                // RFC 7574 §12.1.2: the responder holds state for us, so it hears from us at once.
                peer.answer_due = true;
                channel.initiator = true;
                self.establish(cx, slot, peer);
                true
            }
            Err(why) => {
                self.end_channel(cx, slot, CloseReason::Incompatible(why), Some(handshake.source));
                false
            }
        }
    }

    /// The peer used our channel id: its address is proven (step 7).
    pub(crate) fn on_proof(&mut self, cx: &mut Cx<'_>, slot: PeerSlot) {
        let Some(channel) = self.peers.get_mut(slot as usize) else { return };
        let State::HalfOpen(half_open) = &mut channel.state else { return };
        let remote = half_open.remote;
        // It may have lied on another channel since it opened this one.
        let shunned = cx.reputation.is_shunned(channel.address, channel.source == PeerSource::Trusted, cx.now);
        if shunned || !self.admits(cx.config, slot) {
            self.end_channel(cx, slot, CloseReason::Locally, Some(remote));
            return;
        }
        let Some(channel) = self.peers.get_mut(slot as usize) else { return };
        let State::HalfOpen(half_open) = &mut channel.state else { return };
        let rtt = half_open.replied_at.map(|at| cx.now - at);
        let have = core::mem::take(&mut half_open.have);
        let peer = Established::new(half_open.remote, half_open.session, have, rtt);
        channel.initiator = false;
        if self.half_open.get(&channel.address) == Some(&slot) {
            self.half_open.remove(&channel.address);
        }
        self.establish(cx, slot, peer);
    }

    fn establish(&mut self, cx: &mut Cx<'_>, slot: PeerSlot, mut peer: Established) {
        for run in self.content.stored.runs() {
            peer.announce.insert(run);
        }
        peer.announce_at = (!peer.announce.is_empty()).then_some(cx.now);
        peer.repeat = (!peer.announce.is_empty()).then(|| Repeat::new(cx.now));
        let channel = &mut self.peers[slot as usize];
        peer.unheard = (channel.initiator && !peer.announce.is_empty()).then(|| Unheard::new(cx.now));
        channel.state = State::Established(Box::new(peer));
        let (id, address) = (channel.id, channel.address);
        self.count_peer(slot);
        // R9, R11: the new channel takes the old one's place now that it is proven.
        if let Some(old) = self.by_address.insert(address, slot)
            && old != slot
        {
            // A new channel does not clear the peer's account.
            let conduct =
                self.peers.get(old as usize).and_then(Channel::established).and_then(|old| old.conduct.as_ref());
            let conduct = conduct.map(|conduct| Box::new(conduct.succeeded(cx.now)));
            if let Some(peer) = self.peers.get_mut(slot as usize).and_then(Channel::established_mut) {
                peer.conduct = conduct;
            }
            self.close_channel(cx, old, CloseReason::Replaced);
            self.by_address.insert(address, slot);
        }
        self.on_peer_gained(cx, slot);
        cx.events.push(Event::PeerConnected { peer: id, address });
        self.wake.push(slot);
    }

    /// The unproven channel that has waited longest, with its age.
    pub(crate) fn oldest_half_open(&self) -> Option<(crate::time::Instant, PeerSlot)> {
        self.half_open
            .values()
            .filter_map(|&slot| match &self.peers[slot as usize].state {
                State::HalfOpen(half_open) => Some((half_open.opened_at, slot)),
                _ => None,
            })
            .min()
    }

    /// Number of unproven channels.
    pub(crate) fn half_open_count(&self) -> usize {
        self.half_open.len()
    }

    /// Writes our opening HANDSHAKE (step 1). In SHA-1 swarms every second one is for draft-10 peers (R7).
    pub(crate) fn write_opening(&self, local: ChannelId, attempt: u32, buf: &mut Vec<u8>) -> usize {
        let older = self.metadata.function == crate::integrity::HashFunction::Sha1 && attempt % 2 == 1;
        let handshake = offer(&self.metadata, local, Role::Initiator, older, self.exchange.is_on());
        write_handshake(&handshake, &self.format, ChannelId::ZERO, buf)
    }
}

/// The reply to an opening from channel `remote`.
fn reply(
    metadata: &crate::config::Metadata,
    format: &Format,
    local: ChannelId,
    remote: ChannelId,
    session: &Session,
    pex: bool,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_handshake(&offer(metadata, local, Role::Responder, session.older, pex), format, remote, &mut bytes);
    bytes
}

/// Appends HAVE messages as far as the whole stays within `budget` bytes (R8).
fn add_haves(reply: &mut Vec<u8>, format: &Format, remote: ChannelId, stored: &RangeSet, budget: usize) {
    let room = (budget + 4).saturating_sub(reply.len());
    let mut extra = Vec::new();
    let mut datagram = DatagramBuilder::new(&mut extra, room, remote, *format);
    for run in stored.runs().take(MAX_EARLY_HAVES) {
        if !datagram.push_range(RangeMessage::Have, run).is_empty() {
            break;
        }
    }
    datagram.finish();
    reply.extend_from_slice(extra.get(4..).unwrap_or_default());
}

/// Writes a datagram that is a HANDSHAKE alone; returns its length.
pub(crate) fn write_handshake(handshake: &Handshake<'_>, format: &Format, to: ChannelId, buf: &mut Vec<u8>) -> usize {
    let mut datagram = DatagramBuilder::new(buf, usize::MAX, to, *format);
    // Our own options always encode.
    let written = datagram.push(&Message::Handshake(*handshake));
    debug_assert!(written.is_ok(), "an offer encodes");
    datagram.finish()
}
