//! The public state machine.

mod demux;
mod intake;
mod ready;
mod sending;
mod sharing;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};
use slab::Slab;

use crate::channel::Due;
use crate::chunk::ChunkRange;
use crate::config::{EndpointConfig, PeerSource, SwarmConfig, Wanted};
use crate::congestion::LinkShare;
use crate::context::{Cx, EventQueue, Secret};
use crate::endpoint::demux::Demux;
use crate::endpoint::ready::{ReadyQueue, SwarmSlot, Timer, Timers};
use crate::error::{AddPeerError, JoinError, UnknownSwarm};
use crate::event::{CloseReason, Event, Misbehaviour, PeerId, ReadError, ReadToken, StoreError, SwarmId};
use crate::policy::{Bucket, FairQueue, Intake, Reputation};
use crate::progress::Checkpoint;
use crate::schedule::PeerSlot;
use crate::stats::EndpointStats;
use crate::swarm::{Swarm, SwarmView};
use crate::time::Instant;

pub use sending::Scope;

/// Stream of the generator that choices are drawn from; channel ids are drawn from stream 0.
const CHOICES: u64 = 1;
/// Stream of what nobody else may know.
const SECRETS: u64 = 2;

/// A PPSPP peer without its sockets, files and clock: it speaks in many swarms, with many peers in each.
///
/// Methods come in four kinds:
/// - **commands** from the application: [`join`](Self::join), [`add_peer`](Self::add_peer), [`provide`](Self::provide)
///   and others;
/// - **input** from the network and the clock, named `handle_*`;
/// - **output** to the network, the application and the clock, named `poll_*`;
/// - **views**, nouns that change nothing.
///
/// Any number of inputs and commands may precede a drain. A drain calls [`poll_transmit`](Self::poll_transmit) and
/// [`poll_event`](Self::poll_event) until both yield `None`, events last (answering them may make more to transmit, and
/// transmitting asks for reads, even when it yields nothing), and then sleeps until a datagram arrives or
/// [`poll_timeout`](Self::poll_timeout) passes. Early or needless calls are harmless. Idle polling costs the same whatever
/// the number of channels.
#[derive(Debug)]
pub struct Endpoint {
    config: Arc<EndpointConfig>,
    demux: Demux,
    rng: ChaCha12Rng,
    secret: Secret,
    swarms: Slab<Swarm>,
    by_root: BTreeMap<Vec<u8>, SwarmSlot>,
    swarm_serial: u32,
    ready: ReadyQueue,
    /// Swarms with channels that have DATA to send.
    backlog: FairQueue<SwarmSlot>,
    /// What all swarms together may send.
    up: Bucket,
    /// Until when the backlog waits for `up`, as the timer queue knows it.
    held: Option<Instant>,
    /// What all swarms together may ask for.
    down: Intake,
    /// Swarms with channels that wait for `down`, each once.
    hungry: VecDeque<SwarmSlot>,
    /// When `down` lets them ask again, as the timer queue knows it.
    starved: Option<Instant>,
    /// How many channels may send at a time.
    share: LinkShare,
    /// When that is looked at again, as the timer queue knows it; not while nothing is sent.
    share_at: Option<Instant>,
    timers: Timers,
    events: EventQueue,
    stats: EndpointStats,
    reputation: Reputation,
    latest: Instant,
    closing: bool,
    /// Swarms with chunks that wait to be judged.
    gathering: Vec<SwarmSlot>,
}

/// Splits an endpoint into a context and the rest, so that both can be borrowed.
macro_rules! cx {
    ($endpoint:ident, $now:expr) => {
        Cx {
            now: $now,
            config: &$endpoint.config,
            rng: &mut $endpoint.rng,
            secret: $endpoint.secret,
            events: &mut $endpoint.events,
            stats: &mut $endpoint.stats,
            up: &mut $endpoint.up,
            down: &mut $endpoint.down,
            reputation: &mut $endpoint.reputation,
        }
    };
}
pub(crate) use cx;

impl Endpoint {
    /// An endpoint in no swarm. All randomness comes from `seed`: it must be unpredictable to others in production, as
    /// channel ids are drawn from it, and may be fixed in tests.
    pub fn new(config: Arc<EndpointConfig>, seed: [u8; 32], now: Instant) -> Self {
        let config = config.usable();
        let events = EventQueue::new(config.limits.queued_events);
        let (up, down) = (Bucket::new(config.rates.up, now), Intake::new(config.rates.down, now));
        let reputation = Reputation::new(config.limits.shunned_hosts);
        let mut rng = ChaCha12Rng::from_seed(seed);
        rng.set_stream(CHOICES);
        let mut secrets = ChaCha12Rng::from_seed(seed);
        secrets.set_stream(SECRETS);
        Self {
            config,
            demux: Demux::new(ChaCha12Rng::from_seed(seed)),
            rng,
            secret: Secret::new([secrets.next_u64(), secrets.next_u64()]),
            swarms: Slab::new(),
            by_root: BTreeMap::new(),
            swarm_serial: 0,
            ready: ReadyQueue::default(),
            backlog: FairQueue::default(),
            up,
            held: None,
            down,
            hungry: VecDeque::new(),
            starved: None,
            share: LinkShare::default(),
            share_at: None,
            timers: Timers::default(),
            events,
            stats: EndpointStats::default(),
            reputation,
            latest: now,
            closing: false,
            gathering: Vec::new(),
        }
    }

    /// Joins a swarm. Peers are added with [`add_peer`](Self::add_peer); others may come by themselves.
    ///
    /// # Errors
    /// [`JoinError`] names what is wrong with the metadata or the content; nothing has changed then.
    pub fn join(&mut self, config: SwarmConfig, now: Instant) -> Result<SwarmId, JoinError> {
        let now = self.begin(now);
        if self.closing {
            return Err(JoinError::Closing);
        }
        let root = config.metadata.root.as_slice().to_vec();
        if self.by_root.contains_key(&root) {
            return Err(JoinError::AlreadyJoined);
        }
        if self.swarms.len() >= self.config.limits.swarms {
            return Err(JoinError::TooManySwarms(self.config.limits.swarms));
        }
        self.swarm_serial = self.swarm_serial.wrapping_add(1);
        let slot = self.swarms.vacant_key() as SwarmSlot;
        let id = SwarmId { slot, serial: self.swarm_serial };
        let swarm = Swarm::new(id, config, &mut cx!(self, now))?;
        self.swarms.insert(swarm);
        self.by_root.insert(root, slot);
        self.settle(slot);
        Ok(id)
    }

    /// Hands out, as [`Event::Verified`], what is verified and still being gathered, also parts of groups. Leaving a
    /// swarm does so too; but where no peer is to be told goodbye it is gone then, and no checkpoint can be taken.
    pub fn hand_out(&mut self, swarm: SwarmId, now: Instant) {
        let now = self.begin(now);
        let Some(slot) = self.slot_of(swarm) else { return };
        self.swarms[slot as usize].hand_out(&mut cx!(self, now));
        self.settle(slot);
    }

    /// Leaves a swarm: gathered bytes are handed out, channels closed in order; [`Event::SwarmClosed`] says when it is
    /// done. Unknown swarms are ignored.
    pub fn leave(&mut self, swarm: SwarmId, now: Instant) {
        let now = self.begin(now);
        let Some(slot) = self.slot_of(swarm) else { return };
        self.swarms[slot as usize].leave(&mut cx!(self, now));
        self.settle(slot);
        self.remove_if_left(slot);
    }

    /// Leaves all swarms and joins no other; [`is_drained`](Self::is_drained) says when it is done.
    pub fn close(&mut self, now: Instant) {
        self.closing = true;
        let swarms: Vec<SwarmId> = self.swarms.iter().map(|(_, swarm)| swarm.id).collect();
        for swarm in swarms {
            self.leave(swarm, now);
        }
    }

    /// Whether the endpoint is in no swarm and has said all its goodbyes.
    pub fn is_drained(&self) -> bool {
        self.swarms.is_empty()
    }

    /// Opens a channel to a peer (RFC 7574 §3.1.1).
    ///
    /// # Errors
    /// [`AddPeerError`] if the swarm is unknown or full, the address impossible or known.
    pub fn add_peer(
        &mut self,
        swarm: SwarmId,
        address: SocketAddr,
        source: PeerSource,
        now: Instant,
    ) -> Result<PeerId, AddPeerError> {
        let now = self.begin(now);
        let slot = self.slot_of(swarm).filter(|&slot| !self.swarms[slot as usize].leaving).ok_or(UnknownSwarm)?;
        if !is_peer_address(address) {
            return Err(AddPeerError::BadAddress(address));
        }
        let local = self.demux.fresh_id();
        let peer = self.swarms[slot as usize].open(&mut cx!(self, now), local, address, source)?;
        self.demux.insert(local, slot, peer.slot);
        self.settle(slot);
        Ok(peer)
    }

    /// Closes the channel to a peer in order. Unknown peers are ignored.
    pub fn remove_peer(&mut self, peer: PeerId, now: Instant) {
        let now = self.begin(now);
        let Some(slot) = self.slot_of(peer.swarm) else { return };
        let swarm = &mut self.swarms[slot as usize];
        if let Some(place) = swarm.slot_of(peer) {
            swarm.close_channel(&mut cx!(self, now), place, CloseReason::Locally);
        }
        self.settle(slot);
    }

    /// Chooses which chunks of a swarm are fetched, and in which order, from now on. A new swarm fetches everything.
    /// [`Event::Complete`] follows when all of them are stored, at once if they are.
    ///
    /// # Errors
    /// [`UnknownSwarm`].
    pub fn set_wanted(&mut self, swarm: SwarmId, wanted: Wanted, now: Instant) -> Result<(), UnknownSwarm> {
        let now = self.begin(now);
        let slot = self.slot_of(swarm).ok_or(UnknownSwarm)?;
        self.swarms[slot as usize].set_wanted(&mut cx!(self, now), wanted);
        self.settle(slot);
        Ok(())
    }

    /// Answers [`Event::ReadNeeded`] with exactly the bytes asked for, or tells that they cannot be read.
    ///
    /// The bytes are verified before they are sent or counted. Late answers are harmless.
    #[expect(clippy::needless_pass_by_value, reason = "a read is answered once")]
    pub fn provide(&mut self, token: ReadToken, data: Result<Bytes, ReadError>, now: Instant) {
        let now = self.begin(now);
        let Some(slot) = self.slot_of(token.swarm) else { return };
        self.swarms[slot as usize].provide(&mut cx!(self, now), token.serial, data);
        self.settle(slot);
    }

    /// Answers [`Event::Verified`]: the bytes of `range` can be read back from now on, or could not be stored.
    ///
    /// Stored chunks are announced to other peers; failed ones are fetched again (R13).
    pub fn confirm_stored(&mut self, swarm: SwarmId, range: ChunkRange, result: Result<(), StoreError>, now: Instant) {
        let now = self.begin(now);
        let Some(slot) = self.slot_of(swarm) else { return };
        self.swarms[slot as usize].confirm_stored(&mut cx!(self, now), range, result);
        self.settle(slot);
    }

    /// Tells that the host's addresses changed: every channel we opened is opened anew beside the old one (R11),
    /// and unanswered openings are repeated at once.
    pub fn network_changed(&mut self, now: Instant) {
        let now = self.begin(now);
        let mut initiated: Vec<(SwarmSlot, PeerSlot)> = Vec::new();
        for (slot, swarm) in &mut self.swarms {
            for (peer, channel) in &mut swarm.peers {
                if let Some(opening) = channel.opening_mut() {
                    opening.next_at = now;
                    swarm.wake.push(peer as PeerSlot);
                } else if channel.initiator && !channel.reopened && channel.established().is_some() {
                    initiated.push((slot as SwarmSlot, peer as PeerSlot));
                }
            }
        }
        for (slot, peer) in initiated {
            self.reopen(slot, peer, now);
        }
        let slots: Vec<SwarmSlot> = self.swarms.iter().map(|(slot, _)| slot as SwarmSlot).collect();
        for slot in slots {
            self.settle(slot);
        }
    }

    /// Tells the largest UDP payload, in bytes, that reaches a peer unfragmented; at least 548. Unknown peers are
    /// ignored.
    pub fn set_path_mtu(&mut self, peer: PeerId, bytes: u16) {
        let Some(slot) = self.slot_of(peer.swarm) else { return };
        let swarm = &mut self.swarms[slot as usize];
        if let Some(place) = swarm.slot_of(peer) {
            swarm.set_path_mtu(place, bytes.max(EndpointConfig::MIN_MTU));
        }
    }

    /// What changed in a swarm since the last checkpoint, to be saved for a resume; `None` while the content's size is
    /// unknown, and for unknown swarms.
    pub fn take_checkpoint(&mut self, swarm: SwarmId) -> Option<Checkpoint> {
        let slot = self.slot_of(swarm)?;
        self.swarms[slot as usize].take_checkpoint()
    }

    /// Tells that time has passed. To be called when [`poll_timeout`](Self::poll_timeout) has; early calls are
    /// harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.begin(now);
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Swarm(slot) => {
                    let Some(swarm) = self.swarms.get_mut(slot as usize) else { continue };
                    swarm.armed = None;
                    swarm.on_timeout(&mut cx!(self, now));
                    self.dial(slot, now);
                    self.settle(slot);
                }
                Timer::Channel(slot, peer) => self.on_channel_timer(slot, peer, now),
                // The next poll finds the bucket full.
                Timer::Up => self.held = None,
                Timer::Down => {
                    self.starved = None;
                    self.feed(now);
                }
                Timer::Share => self.share_link(now),
            }
        }
    }

    fn on_channel_timer(&mut self, slot: SwarmSlot, peer: PeerSlot, now: Instant) {
        let Some(swarm) = self.swarms.get_mut(slot as usize) else { return };
        let Some(channel) = swarm.peers.get_mut(peer as usize) else { return };
        channel.armed = None;
        match swarm.on_channel_timeout(&cx!(self, now), peer) {
            Due::Nothing => {}
            Due::Dead => swarm.close_channel(&mut cx!(self, now), peer, CloseReason::TimedOut),
            Due::Useless => {
                swarm.close_channel(&mut cx!(self, now), peer, CloseReason::Misbehaved(Misbehaviour::Useless));
            }
            Due::Reopen => self.reopen(slot, peer, now),
        }
        self.settle(slot);
    }

    /// Opens a channel to the next candidate, if one is due.
    fn dial(&mut self, slot: SwarmSlot, now: Instant) {
        let Some(swarm) = self.swarms.get_mut(slot as usize) else { return };
        let Some(candidate) = swarm.next_dial(&mut cx!(self, now)) else { return };
        let local = self.demux.fresh_id();
        if let Some(peer) = swarm.dial(&mut cx!(self, now), local, candidate) {
            self.demux.insert(local, slot, peer);
        }
    }

    fn reopen(&mut self, slot: SwarmSlot, peer: PeerSlot, now: Instant) {
        let local = self.demux.fresh_id();
        if let Some(successor) = self.swarms[slot as usize].reopen(&mut cx!(self, now), peer, local) {
            self.demux.insert(local, slot, successor);
        }
    }

    /// The next event, in order of occurrence.
    #[must_use = "events may call for an answer"]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.judge_gathered();
        let was_full = self.events.is_full();
        let event = self.events.pop();
        if was_full && !self.events.is_full() {
            self.end_hold();
        }
        event
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next, if nothing else happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// A view of a swarm; `None` if the endpoint is not, or no longer, in it.
    pub fn swarm(&self, swarm: SwarmId) -> Option<SwarmView<'_>> {
        self.slot_of(swarm).map(|slot| SwarmView::new(&self.swarms[slot as usize]))
    }

    /// Counters of the endpoint.
    pub const fn stats(&self) -> EndpointStats {
        self.stats
    }

    fn slot_of(&self, id: SwarmId) -> Option<SwarmSlot> {
        let swarm = self.swarms.get(id.slot as usize)?;
        (swarm.id == id).then_some(id.slot)
    }

    /// Begins a call that is not the arrival of a datagram: what arrived before it is judged first.
    pub(super) fn begin(&mut self, now: Instant) -> Instant {
        let now = self.advance(now);
        self.judge_gathered();
        now
    }

    /// Judges the chunks that wait in any swarm.
    fn judge_gathered(&mut self) {
        while let Some(slot) = self.gathering.pop() {
            if let Some(swarm) = self.swarms.get_mut(slot as usize) {
                swarm.end_gathering(&mut cx!(self, self.latest));
                self.settle(slot);
            }
        }
    }

    /// R25: a `now` that goes back is clamped.
    fn advance(&mut self, now: Instant) -> Instant {
        self.latest = self.latest.max(now);
        self.latest
    }

    /// Lets peers be asked that waited until the application looked at events.
    fn end_hold(&mut self) {
        let slots: Vec<usize> = self.swarms.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.swarms[slot].end_hold(&self.config);
            self.settle(slot as SwarmSlot);
        }
    }

    /// Applies what a swarm left to be done: channels to wake, ids to free, deadlines to set.
    fn settle(&mut self, slot: SwarmSlot) {
        let Some(swarm) = self.swarms.get_mut(slot as usize) else { return };
        while let Some(peer) = swarm.wake.pop() {
            if let Some(channel) = swarm.peers.get_mut(peer as usize)
                && !channel.queued
            {
                channel.queued = true;
                self.ready.push(slot, peer);
            }
        }
        while let Some((local, armed, peer)) = swarm.released.pop() {
            self.demux.remove(local);
            let mut armed = armed;
            self.timers.disarm(Timer::Channel(slot, peer), &mut armed);
        }
        if swarm.turn.is_none() && swarm.held_until.is_none() && !swarm.backlog.is_empty() {
            swarm.turn = Some(self.backlog.insert(slot));
        }
        if swarm.starved && !swarm.listed {
            swarm.listed = true;
            self.hungry.push_back(slot);
        }
        if let Some(at) = swarm.deadline() {
            self.timers.arm(Timer::Swarm(slot), &mut swarm.armed, at);
        }
    }

    /// Removes a swarm that is left and has said its goodbyes.
    fn remove_if_left(&mut self, slot: SwarmSlot) {
        let Some(swarm) = self.swarms.get(slot as usize) else { return };
        if swarm.leaving && swarm.peers.is_empty() {
            let mut swarm = self.swarms.remove(slot as usize);
            self.timers.disarm(Timer::Swarm(slot), &mut swarm.armed);
            if let Some(place) = swarm.turn.take() {
                self.backlog.remove(place);
            }
            if swarm.listed {
                self.hungry.retain(|&hungry| hungry != slot);
            }
            self.by_root.remove(swarm.metadata.root.as_slice());
            self.events.push(Event::SwarmClosed { swarm: swarm.id });
        }
    }
}

/// Whether a peer can be at `address`.
fn is_peer_address(address: SocketAddr) -> bool {
    let ip = address.ip();
    let broadcast = matches!(ip, core::net::IpAddr::V4(v4) if v4.is_broadcast());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

#[cfg(test)]
mod tests {
    use core::net::SocketAddr;
    use core::num::NonZeroUsize;

    use super::*;
    use crate::chunk::{ChunkAddressing, ChunkSize, Geometry};
    use crate::config::{Content, Metadata};
    use crate::integrity::{HashFunction, TreeBuilder, TreeParams};
    use crate::io::{BatchLimit, DatagramMeta};
    use crate::wire::{read_handshake, split_channel};

    const NOW: Instant = Instant::from_micros(1_000_000);

    const LIMIT: BatchLimit = BatchLimit { datagrams: NonZeroUsize::MIN, bytes: 1500 };

    /// The datagram that opens a channel of the swarm.
    fn opening(metadata: &Metadata) -> Vec<u8> {
        let mut endpoint = Endpoint::new(Arc::default(), [8; 32], NOW);
        let config = SwarmConfig { metadata: metadata.clone(), content: Content::Fetch };
        let swarm = endpoint.join(config, NOW).unwrap();
        endpoint.add_peer(swarm, SocketAddr::from(([10, 0, 2, 0], 6778)), PeerSource::Trusted, NOW).unwrap();
        let mut datagram = Vec::new();
        assert!(endpoint.poll_transmit(NOW, LIMIT, &mut datagram).is_some());
        datagram
    }

    /// Opens a channel from `address` and closes it if it is to `end`; returns how many channels were to be looked at then.
    fn visit(endpoint: &mut Endpoint, opening: &[u8], address: SocketAddr, end: bool) -> usize {
        let meta = DatagramMeta::from_remote(address);
        endpoint.handle_datagram(NOW, meta, opening);
        let mut reply = Vec::new();
        while endpoint.poll_transmit(NOW, LIMIT, &mut reply).is_some() {}
        let (_, body) = split_channel(&reply).unwrap();
        let local = read_handshake(body).unwrap().0.source.value().to_be_bytes();
        endpoint.handle_datagram(NOW, meta, &local);
        while endpoint.poll_transmit(NOW, LIMIT, &mut reply).is_some() {}
        if end {
            let closing = [&local[..], &[0, 0, 0, 0, 0, 255]].concat();
            endpoint.handle_datagram(NOW, meta, &closing);
        }
        endpoint.ready.len()
    }

    #[test]
    fn a_channel_that_comes_and_goes_makes_no_other_be_looked_at() {
        let (function, chunk_size) = (HashFunction::Sha256, ChunkSize::DEFAULT);
        let params = TreeParams { function, chunk_size };
        let geometry = Geometry::new(9, chunk_size).unwrap();
        let mut builder = TreeBuilder::new(params, geometry);
        let span = builder.spans().next().unwrap();
        builder.add(TreeBuilder::hash_span(params, geometry, span, b"a content").unwrap()).unwrap();
        let tree = builder.finish().unwrap();
        let metadata = Metadata {
            root: *tree.root(),
            function,
            addressing: ChunkAddressing::Chunk32,
            chunk_size,
            content_length: Some(9),
        };
        let mut endpoint = Endpoint::new(Arc::default(), [7; 32], NOW);
        let opening = opening(&metadata);
        endpoint.join(SwarmConfig { metadata, content: Content::Seed { tree } }, NOW).unwrap();
        for peer in 0..200 {
            visit(&mut endpoint, &opening, SocketAddr::from(([10, 0, 0, peer], 6778)), false);
        }
        let looked_at = visit(&mut endpoint, &opening, SocketAddr::from(([10, 0, 1, 0], 6778)), true);
        assert!(looked_at <= 1, "{looked_at} channels");
    }
}
