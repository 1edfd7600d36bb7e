//! The search for peers: asking, naming and dialling (RFC 7574 §3.10, §12.2, §12.6.1, R24).

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use arrayvec::ArrayVec;
use rand_core::Rng as _;

use crate::channel::Channel;
use crate::config::{EndpointConfig, PeerSource, PexPolicy};
use crate::context::Cx;
use crate::event::{CloseReason, Misbehaviour};
use crate::pex::{Candidates, Dial, Dialogue, MAX_NAMES, may_pass, may_tell};
use crate::policy::{Conduct, Host, Offence};
use crate::schedule::PeerSlot;
use crate::swarm::Swarm;
use crate::time::Instant;
use crate::wire::{ChannelId, DatagramBuilder, Message, MessageType};

/// Only peers heard from within this time are named (RFC 7574 §3.10.1).
const HEARD_WITHIN: Duration = Duration::from_secs(60);
/// Channels looked at for one answer: a question costs the same in swarms of any size.
const MAX_PROBES: usize = 256;
/// Peers asked in one round, and the shortest time until others are.
const MAX_ASKED: usize = 32;
const ROUND_INTERVAL: Duration = Duration::from_secs(1);
/// Addresses of our own that are remembered.
const MAX_OURS: usize = 8;
/// A quarter of the peers aimed at, or one, comes from trusted sources if there are any, and a quarter of the slots, or one,
/// is for channels that we open ourselves.
const KEPT_SHARE: usize = 4;

/// Established channels, by how they came about.
#[derive(Clone, Copy, Debug, Default)]
struct Census {
    /// To peers from trusted sources.
    trusted: usize,
    /// Opened by us, on the word of other peers.
    dialled: usize,
    /// Opened by others.
    incoming: usize,
}

impl Census {
    const fn total(&self) -> usize {
        self.trusted + self.dialled + self.incoming
    }

    const fn of(&mut self, source: PeerSource, initiator: bool) -> &mut usize {
        match source {
            PeerSource::Trusted => &mut self.trusted,
            PeerSource::Exchange if initiator => &mut self.dialled,
            PeerSource::Exchange => &mut self.incoming,
        }
    }
}

/// What a swarm knows of peers it has no channel to.
#[derive(Debug)]
pub(crate) struct Exchange {
    policy: PexPolicy,
    candidates: Candidates,
    census: Census,
    /// Addresses that turned out to be our own (R9).
    ours: ArrayVec<SocketAddr, MAX_OURS>,
    /// When peers are asked for others next.
    ask_at: Option<Instant>,
    /// When a candidate is dialled next.
    dial_at: Option<Instant>,
}

impl Exchange {
    pub(crate) fn new(policy: PexPolicy) -> Self {
        Self {
            policy,
            candidates: Candidates::default(),
            census: Census::default(),
            ours: ArrayVec::new(),
            ask_at: None,
            dial_at: None,
        }
    }

    /// Whether PEX messages are spoken here.
    pub(crate) fn is_on(&self) -> bool {
        self.policy != PexPolicy::Off
    }

    /// When something is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.ask_at.into_iter().chain(self.dial_at).min()
    }
}

/// How many of `places` are kept: a quarter, and one at least where that leaves another.
fn kept_of(places: usize) -> usize {
    (places / KEPT_SHARE).max(1).min(places.saturating_sub(1))
}

/// Channels that others may open: all but those that are kept, or as many as we aim at if that is less (RFC 7574 §12.6.1).
fn incoming_slots(config: &EndpointConfig) -> usize {
    config.max_peers - kept_of(config.max_peers).min(config.aimed_peers)
}

impl Swarm {
    /// How many more peers are looked for. Those that came by themselves fill three quarters of the aim at most: they
    /// may all be one attacker's (RFC 7574 §12.6.1).
    fn missing_peers(&self, config: &EndpointConfig) -> usize {
        if self.leaving || self.content.complete {
            return 0;
        }
        let aim = config.aimed_peers.min(config.max_peers);
        let census = &self.exchange.census;
        let incoming = census.incoming.min(aim - kept_of(aim));
        aim.saturating_sub(census.trusted + census.dialled + incoming)
    }

    /// Looks for peers from now on, if any are missing.
    pub(crate) const fn search(&mut self, now: Instant) {
        if !self.leaving && !self.content.complete {
            self.exchange.ask_at = Some(now);
            self.exchange.dial_at = Some(now);
        }
    }

    /// Whether there is a slot for the peer in `slot`, which has just proven the address it opened a channel from.
    pub(crate) fn admits(&self, config: &EndpointConfig, slot: PeerSlot) -> bool {
        let Some(channel) = self.peers.get(slot as usize) else { return false };
        channel.source == PeerSource::Trusted || self.has_incoming_slot(config, channel.address)
    }

    /// Whether a channel that others open from `address` finds a slot, be it that of the one it replaces.
    pub(crate) fn has_incoming_slot(&self, config: &EndpointConfig, address: SocketAddr) -> bool {
        let census = &self.exchange.census;
        let free = census.incoming < incoming_slots(config) && census.total() < config.max_peers;
        // Of a single place none can be kept: it is left to a trusted source, if one is known.
        let free = free && !(config.max_peers == 1 && !self.content.complete && self.knows_trusted());
        let replaced = self.by_address.get(&address).and_then(|&slot| self.peers.get(slot as usize));
        free || replaced.is_some_and(|channel| channel.established().is_some())
    }

    /// Whether there is a peer from a trusted source, or one may return.
    fn knows_trusted(&self) -> bool {
        self.exchange.candidates.has_trusted()
            || self.peers.iter().any(|(_, channel)| channel.source == PeerSource::Trusted)
    }

    /// Whether we may open another channel.
    pub(crate) const fn has_outgoing_slot(&self, config: &EndpointConfig) -> bool {
        self.exchange.census.total() < config.max_peers
    }

    /// Where `address`, which opens a channel, is known from.
    pub(crate) fn source_of(&self, address: SocketAddr) -> PeerSource {
        let standing = self.by_address.get(&address).and_then(|&slot| self.peers.get(slot as usize));
        match standing {
            Some(channel) => channel.source,
            None if self.exchange.candidates.is_trusted(address) => PeerSource::Trusted,
            None => PeerSource::Exchange,
        }
    }

    /// The application names a peer: it is no candidate any more.
    pub(crate) fn forget_candidate(&mut self, address: SocketAddr) {
        self.exchange.candidates.settle(address);
    }

    /// A channel stands.
    pub(crate) fn on_peer_gained(&mut self, cx: &Cx<'_>, slot: PeerSlot) {
        let Some(channel) = self.peers.get(slot as usize) else { return };
        *self.exchange.census.of(channel.source, channel.initiator) += 1;
        self.exchange.candidates.settle(channel.address);
        self.search(cx.now);
    }

    /// Takes the peer in `slot` to come from a trusted source, however its channel began.
    pub(crate) fn trust(&mut self, slot: PeerSlot) {
        let Some(channel) = self.peers.get_mut(slot as usize) else { return };
        let before = core::mem::replace(&mut channel.source, PeerSource::Trusted);
        self.exchange.candidates.trust(channel.address);
        if channel.established().is_some() {
            *self.exchange.census.of(before, channel.initiator) -= 1;
            *self.exchange.census.of(PeerSource::Trusted, channel.initiator) += 1;
        }
    }

    /// A channel ends for `reason`, in the state it still has; returns whether the application knows of it.
    pub(crate) fn on_peer_ending(&mut self, cx: &mut Cx<'_>, slot: PeerSlot, reason: CloseReason) -> bool {
        let Some(channel) = self.peers.get(slot as usize) else { return false };
        let (address, source) = (channel.address, channel.source);
        let trusted = source == PeerSource::Trusted;
        let exchange = &mut self.exchange;
        let limit = cx.config.limits.candidates;
        match reason {
            CloseReason::Misbehaved(why) => cx.reputation.strike(address, trusted, offence(why), cx.now),
            CloseReason::ByPeer if has_flooded(channel) => {
                cx.reputation.strike(address, trusted, Offence::Nuisance, cx.now);
            }
            CloseReason::ByPeer if left_us_waiting(channel) => {
                cx.reputation.strike(address, trusted, Offence::Uselessness, cx.now);
            }
            CloseReason::Ourselves if !exchange.ours.contains(&address) => {
                // A full list is no reason to forget: the connection is recognised anew.
                let _full = exchange.ours.try_push(address);
            }
            _ => {}
        }
        if channel.established().is_none() {
            // An unproven channel that others opened was never reported, nor is a name that led nowhere.
            if channel.opening().is_none() {
                return false;
            }
            let dialled = exchange.candidates.is_dialling(address);
            let hopeless = matches!(reason, CloseReason::Incompatible(_) | CloseReason::Ourselves);
            exchange.candidates.fail(address, cx.now, hopeless);
            self.search(cx.now);
            return !dialled;
        }
        *exchange.census.of(source, channel.initiator) -= 1;
        let gone = matches!(reason, CloseReason::ByPeer | CloseReason::TimedOut | CloseReason::Misbehaved(_));
        // Uselessness may pass, lies do not.
        let worth_while = channel.initiator || trusted || reason == CloseReason::Misbehaved(Misbehaviour::Useless);
        if gone && worth_while {
            exchange.candidates.lose(address, source, cx.now, limit);
        }
        self.search(cx.now);
        true
    }

    /// Has peers asked for others, while some are missing.
    pub(crate) fn ask_around(&mut self, cx: &Cx<'_>) {
        if self.exchange.ask_at.is_none_or(|at| at > cx.now) {
            return;
        }
        self.exchange.ask_at = None;
        if !self.exchange.is_on() || self.missing_peers(cx.config) == 0 {
            return;
        }
        // Who was never asked comes first, then who was asked longest ago: none can keep the others from being asked.
        let policy = self.exchange.policy;
        let mut others: Vec<(Option<Instant>, PeerSlot)> = self
            .peers
            .iter()
            .filter(|(_, channel)| may_tell(policy, channel.address))
            .filter_map(|(slot, channel)| channel.established().map(|peer| (slot, peer)))
            .filter(|(_, peer)| peer.session.messages.contains(MessageType::PexReq))
            .map(|(slot, peer)| (peer.dialogue.as_ref().map(|dialogue| dialogue.ask_at()), slot as PeerSlot))
            .collect();
        let mut next_round = None;
        if others.len() > MAX_ASKED {
            let (_, &mut (ask_at, _), _) = others.select_nth_unstable(MAX_ASKED);
            next_round = Some(ask_at.unwrap_or(cx.now).max(cx.now + ROUND_INTERVAL));
            others.truncate(MAX_ASKED);
        }
        others.sort_unstable_by_key(|&(_, slot)| slot);
        for (_, slot) in others {
            let Some(peer) = self.peers[slot as usize].established_mut() else { continue };
            let dialogue = peer.dialogue.get_or_insert_with(|| Box::new(Dialogue::new(cx.now)));
            if dialogue.ask(cx.now) {
                self.wake.push(slot);
            }
            let next = dialogue.ask_at();
            next_round = Some(next_round.map_or(next, |at| at.min(next)));
        }
        self.exchange.ask_at = next_round;
    }

    /// The candidate to dial now, if there is one and a peer is missing.
    pub(crate) fn next_dial(&mut self, cx: &mut Cx<'_>) -> Option<(SocketAddr, PeerSource)> {
        if self.exchange.dial_at.is_none_or(|at| at > cx.now) {
            return None;
        }
        self.exchange.dial_at = None;
        let Some(which) = self.may_dial(cx.config, cx.now) else {
            self.exchange.dial_at = self.exchange.candidates.awaited_until(cx.now);
            return None;
        };
        let Exchange { candidates, ours, .. } = &mut self.exchange;
        let (by_address, reputation, now) = (&self.by_address, &*cx.reputation, cx.now);
        let picked = candidates.dial(now, which, cx.rng, |address, source| {
            !by_address.contains_key(&address)
                && !ours.contains(&address)
                && !reputation.is_shunned(address, source == PeerSource::Trusted, now)
        });
        let next = candidates.next_dial(now, which);
        let then = candidates.awaited_until(now).filter(|_| which == Dial::Trusted);
        self.exchange.dial_at = next.into_iter().chain(then).min();
        picked
    }

    /// Which candidates may be dialled. The word of other peers fills no more than three quarters of the aim: there is
    /// room for a trusted source always (RFC 7574 §3.10.1, §12.2.3).
    fn may_dial(&self, config: &EndpointConfig, now: Instant) -> Option<Dial> {
        let pending = self.exchange.candidates.awaited(now);
        if self.missing_peers(config) <= pending || !self.has_outgoing_slot(config) {
            return None;
        }
        let aim = config.aimed_peers.min(config.max_peers);
        let hearsay = self.exchange.census.dialled + pending;
        let full = hearsay >= aim - kept_of(aim);
        Some(if full { Dial::Trusted } else { Dial::Any })
    }

    /// Opens a channel to a candidate that [`Swarm::next_dial`] picked.
    pub(crate) fn dial(
        &mut self,
        cx: &mut Cx<'_>,
        local: ChannelId,
        (address, source): (SocketAddr, PeerSource),
    ) -> Option<PeerSlot> {
        let begun = self.begin(cx, local, address, source);
        if begun.is_err() {
            self.exchange.candidates.fail(address, cx.now, false);
        }
        begun.ok().map(|peer| peer.slot)
    }

    /// Handles a PEX message from an established peer.
    pub(crate) fn on_exchange(
        &mut self,
        cx: &mut Cx<'_>,
        slot: PeerSlot,
        message: &Message<'_>,
    ) -> Result<(), Misbehaviour> {
        let done = match *message {
            Message::PexReq => self.on_question(cx, slot),
            Message::PexResV4(named) => self.on_name(cx, slot, SocketAddr::V4(named)),
            Message::PexResV6(named) => self.on_name(cx, slot, SocketAddr::V6(named)),
            // Certificates come with their judge, the application; without one they are worth nothing (§12.2.1).
            _ => false,
        };
        if done {
            return Ok(());
        }
        cx.stats.pex_ignored += 1;
        self.on_excess(cx.now, slot, 1)
    }

    /// Answers `PEX_REQ`, unless it comes too soon or there is nobody to name; returns whether it was in time.
    fn on_question(&mut self, cx: &mut Cx<'_>, slot: PeerSlot) -> bool {
        if !self.exchange.is_on() {
            return false;
        }
        let Some(peer) = self.peers.get_mut(slot as usize).and_then(Channel::established_mut) else { return true };
        if !peer.dialogue.get_or_insert_with(|| Box::new(Dialogue::new(cx.now))).may_answer(cx.now) {
            return false;
        }
        let names = self.names_for(cx, slot);
        if let Some(dialogue) = self.dialogue_mut(slot) {
            dialogue.answer(names);
        }
        true
    }

    /// Peers to name to `slot`: heard from lately, of its address family, and not kept from it by §8.13 and R24.
    fn names_for(&self, cx: &mut Cx<'_>, slot: PeerSlot) -> Vec<SocketAddr> {
        let mut names = Vec::new();
        let (Some(asker), size) = (self.peers.get(slot as usize), self.peers.capacity()) else { return names };
        let Some(peer) = asker.established() else { return names };
        let form = if asker.address.is_ipv4() { MessageType::PexResV4 } else { MessageType::PexResV6 };
        if !peer.session.messages.contains(form) {
            return names;
        }
        let start = cx.rng.next_u32() as usize % size.max(1);
        for place in (start..size).chain(0..start).take(MAX_PROBES) {
            let Some(channel) = self.peers.get(place) else { continue };
            let address = channel.address;
            if channel.established().is_some()
                && address != asker.address
                && address.is_ipv4() == asker.address.is_ipv4()
                && cx.now - channel.last_received < HEARD_WITHIN
                && may_pass(self.exchange.policy, asker.address, address)
            {
                names.push(address);
                if names.len() == MAX_NAMES {
                    break;
                }
            }
        }
        names
    }

    /// Takes in an address that the peer in `slot` named; returns whether it was asked for, or near enough.
    fn on_name(&mut self, cx: &Cx<'_>, slot: PeerSlot, named: SocketAddr) -> bool {
        let wanted = self.exchange.is_on() && self.missing_peers(cx.config) > 0;
        let Some(channel) = self.peers.get_mut(slot as usize) else { return true };
        let teller = channel.address;
        let Some(peer) = channel.established_mut() else { return true };
        let dialogue = peer.dialogue.get_or_insert_with(|| Box::new(Dialogue::new(cx.now)));
        if !wanted || !dialogue.takes_name(cx.now) {
            return false;
        }
        let exchange = &mut self.exchange;
        let usable = named != teller
            && may_pass(exchange.policy, teller, named)
            && !self.by_address.contains_key(&named)
            && !exchange.ours.contains(&named)
            && !cx.reputation.is_shunned(named, false, cx.now);
        if usable && exchange.candidates.learn(named, Host::of(teller.ip()), cx.now, cx.config.limits.candidates) {
            dialogue.on_news(cx.now);
            exchange.dial_at = Some(cx.now);
        }
        true
    }

    /// Writes what is due of the exchange with `slot`.
    pub(crate) fn write_exchange(&mut self, now: Instant, slot: PeerSlot, datagram: &mut DatagramBuilder<'_>) {
        let Some(dialogue) = self.dialogue_mut(slot) else { return };
        if dialogue.is_ask_due() && datagram.push(&Message::PexReq).is_ok() {
            dialogue.on_asked(now);
        }
        while let Some(name) = dialogue.next_name() {
            let message = match name {
                SocketAddr::V4(name) => Message::PexResV4(name),
                SocketAddr::V6(name) => Message::PexResV6(name),
            };
            if datagram.push(&message).is_err() {
                return;
            }
            dialogue.on_named();
        }
    }

    fn dialogue_mut(&mut self, slot: PeerSlot) -> Option<&mut Dialogue> {
        self.peers.get_mut(slot as usize)?.established_mut()?.dialogue.as_deref_mut()
    }

    /// Counts `messages` of a peer that went beyond a bound and were ignored.
    ///
    /// # Errors
    /// [`Misbehaviour::Flooding`] when it has become a flood.
    pub(crate) fn on_excess(&mut self, now: Instant, slot: PeerSlot, messages: u64) -> Result<(), Misbehaviour> {
        let Some(peer) = self.peers.get_mut(slot as usize).and_then(Channel::established_mut) else { return Ok(()) };
        let conduct = peer.conduct.get_or_insert_with(|| Box::new(Conduct::new(now)));
        if conduct.on_excess(now, messages) { Err(Misbehaviour::Flooding) } else { Ok(()) }
    }

    /// Counts a datagram of REQUESTs that were not all taken in: over the bound, while choked, or for what there is not.
    ///
    /// # Errors
    /// [`Misbehaviour::Flooding`] when it has become a flood (RFC 7574 §12.6.6).
    pub(crate) fn on_refused(&mut self, now: Instant, slot: PeerSlot) -> Result<(), Misbehaviour> {
        let Some(channel) = self.peers.get_mut(slot as usize) else { return Ok(()) };
        let chunks = channel.stats.chunks_sent;
        let Some(peer) = channel.established_mut() else { return Ok(()) };
        let conduct = peer.conduct.get_or_insert_with(|| Box::new(Conduct::new(now)));
        if conduct.on_refusal(now, chunks) { Err(Misbehaviour::Flooding) } else { Ok(()) }
    }

    /// Whether the peer in `slot`, whose requests just expired, is worth no slot: it has left almost everything
    /// unanswered, is not a trusted source, and others have something to give.
    pub(crate) fn is_useless(&mut self, now: Instant, slot: PeerSlot) -> bool {
        let Some(channel) = self.peers.get_mut(slot as usize) else { return false };
        let (source, stats) = (channel.source, channel.stats);
        let Some(peer) = channel.established_mut() else { return false };
        let conduct = peer.conduct.get_or_insert_with(|| Box::new(Conduct::new(now)));
        if !conduct.on_expiry(now, stats.requests_expired, stats.chunks_received) || source == PeerSource::Trusted {
            return false;
        }
        self.peers
            .iter()
            .filter(|&(other, _)| other as PeerSlot != slot)
            .any(|(_, other)| other.established().is_some_and(|peer| !peer.choked && !peer.have.as_set().is_empty()))
    }
}

/// Whether the peer leaves after it answered almost nothing: it may come back to do so again.
fn left_us_waiting(channel: &Channel) -> bool {
    let conduct = channel.established().and_then(|peer| peer.conduct.as_deref());
    let stats = &channel.stats;
    conduct.is_some_and(|conduct| conduct.is_suspect(stats.requests_expired, stats.chunks_received))
}

/// Whether the peer leaves after it asked for or said so much too much that it would not have been kept for long.
fn has_flooded(channel: &Channel) -> bool {
    channel.established().and_then(|peer| peer.conduct.as_deref()).is_some_and(Conduct::has_flooded)
}

/// How bad it is.
const fn offence(why: Misbehaviour) -> Offence {
    match why {
        Misbehaviour::WrongHash | Misbehaviour::WrongLength | Misbehaviour::OutOfRange => Offence::Lie,
        Misbehaviour::Undecodable(_) | Misbehaviour::Flooding => Offence::Nuisance,
        Misbehaviour::Useless => Offence::Uselessness,
    }
}
