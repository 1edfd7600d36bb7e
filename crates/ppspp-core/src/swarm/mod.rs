//! One content and the channels that exchange it. This room wires the others; each concern has a file.

mod asking;
mod assembly;
mod balance;
mod choking;
mod chunks;
mod content;
mod data;
mod exchange;
mod gather;
mod gossip;
mod group_cache;
mod open;
mod receive;
mod remembered;
mod resume;
mod shares;
mod sharing;
mod sparing;
mod throttle;
mod transmit;
mod turns;
mod uploads;
mod view;
mod wake;
mod withholding;

pub(crate) use open::Admission;
pub use view::{PeerView, SwarmView};

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::SocketAddr;

use slab::Slab;

use crate::channel::{Channel, Due, Spread, State};
use crate::chunk::{ChunkIndex, ChunkRange, Geometry, RangeSet};
use crate::config::{Content, EndpointConfig, Metadata, SwarmConfig, Wanted};
use crate::context::Cx;
use crate::error::JoinError;
use crate::event::{CloseReason, Event, PeerId, StoreError, SwarmId};
use crate::integrity::{Hash, SavedGroup, Tree};
use crate::policy::{Bucket, FairQueue, Intake, Place};
use crate::progress::Checkpoint;
use crate::schedule::{PeerSlot, Requests, bit_runs, mask};
use crate::stats::{TrafficStats, TransferStats};
use crate::swarm::asking::{Asking, STORE_RETRY};
use crate::swarm::choking::Slots;
use crate::swarm::content::ContentState;
use crate::swarm::exchange::Exchange;
use crate::swarm::gather::Gathered;
use crate::swarm::gossip::News;
use crate::swarm::remembered::Remembered;
use crate::swarm::throttle::Lines;
use crate::swarm::transmit::Served;
use crate::swarm::uploads::Uploads;
use crate::swarm::wake::Wake;
use crate::time::Instant;
use crate::wire::{ChannelId, Format};

/// A swarm of the endpoint.
#[derive(Debug)]
pub(crate) struct Swarm {
    pub(crate) id: SwarmId,
    pub(crate) metadata: Metadata,
    format: Format,
    content: ContentState,
    requests: Requests,
    asking: Asking,
    news: News,
    uploads: Uploads,
    remembered: Remembered,
    gathered: Gathered,
    spread: Spread,
    served: Option<Served>,
    pub(crate) peers: Slab<Channel>,
    /// The channel that stands for an address: established, or opened by us.
    by_address: BTreeMap<SocketAddr, PeerSlot>,
    /// Unproven channels opened by others.
    half_open: BTreeMap<SocketAddr, PeerSlot>,
    peer_serial: u32,
    /// What channels that are gone have moved.
    past: TransferStats,
    pub(crate) traffic: TrafficStats,
    /// Channels that may have something to send.
    pub(crate) wake: Wake,
    /// Channels that are gone: their ids are free again, their timers are to be stopped.
    pub(crate) released: Vec<(ChannelId, Option<Instant>, PeerSlot)>,
    pub(crate) leaving: bool,
    /// Peers it has no channel to.
    exchange: Exchange,
    /// The deadline the timer queue knows.
    pub(crate) armed: Option<Instant>,
    slots: Slots,
    /// Channels with DATA to send.
    pub(crate) backlog: FairQueue<PeerSlot>,
    /// Where the swarm stands among those with a backlog.
    pub(crate) turn: Option<Place>,
    /// What the swarm may send.
    pub(crate) up: Bucket,
    /// The backlog waits for `up` until then.
    pub(crate) held_until: Option<Instant>,
    /// What the swarm may ask for.
    pub(crate) down: Intake,
    /// When `down` lets channels ask again that wait for it.
    pub(crate) ask_at: Option<Instant>,
    /// Channels that wait to ask.
    lines: Lines,
    /// Whether they wait for the endpoint's limit, and whether the endpoint knows.
    pub(crate) starved: bool,
    pub(crate) listed: bool,
}

impl Swarm {
    pub(crate) fn new(id: SwarmId, config: SwarmConfig, cx: &mut Cx<'_>) -> Result<Self, JoinError> {
        let SwarmConfig { metadata, content } = config;
        let expected = metadata.function.len();
        let actual = metadata.root.as_slice().len();
        if actual != expected {
            return Err(JoinError::SwarmIdLength { actual, expected });
        }
        let geometry = metadata.geometry()?;
        let content = content_state(&metadata, geometry, content, cx.config)?;
        let format = Format::new(metadata.addressing, metadata.chunk_size, expected, 0)
            .with_content_length(content.geometry().and_then(Geometry::content_length));
        let mut swarm = Self {
            id,
            metadata,
            format,
            content,
            requests: Requests::default(),
            asking: Asking::new(&cx.config.limits, cx.now),
            news: News::default(),
            uploads: Uploads::default(),
            remembered: Remembered::new(cx.secret, cx.now),
            gathered: Gathered::default(),
            spread: Spread::default(),
            served: None,
            peers: Slab::new(),
            by_address: BTreeMap::new(),
            half_open: BTreeMap::new(),
            peer_serial: 0,
            past: TransferStats::default(),
            traffic: TrafficStats::default(),
            wake: Wake::default(),
            released: Vec::new(),
            leaving: false,
            exchange: Exchange::new(cx.config.pex),
            armed: None,
            slots: Slots::default(),
            backlog: FairQueue::default(),
            turn: None,
            up: Bucket::new(None, cx.now),
            held_until: None,
            down: Intake::new(None, cx.now),
            ask_at: None,
            lines: Lines::default(),
            starved: false,
            listed: false,
        };
        if let Some(geometry) = swarm.content.geometry()
            && geometry.content_length().is_some()
        {
            cx.events.push(Event::SizeKnown { swarm: id, geometry });
        }
        if let Some(geometry) = swarm.content.geometry() {
            swarm.recount(geometry.all());
        }
        swarm.check_next(cx);
        Ok(swarm)
    }

    /// Chooses which chunks to fetch, and in which order.
    pub(crate) fn set_wanted(&mut self, cx: &mut Cx<'_>, wanted: Wanted) {
        self.asking.set_order(wanted.order, cx.now);
        self.want_only(cx.now, wanted.ranges);
        self.content.complete = false;
        self.search(cx.now);
        self.finish_if_satisfied(cx);
        self.wake_all();
    }

    /// Takes the news of whether `range` was stored.
    pub(crate) fn confirm_stored(&mut self, cx: &mut Cx<'_>, range: ChunkRange, result: Result<(), StoreError>) {
        let Some(geometry) = self.content.geometry() else { return };
        let range = range.intersection(geometry.all());
        if range.is_empty() {
            return;
        }
        self.content.confirm(range);
        self.end_hold(cx.config);
        // Only what was verified and handed out can be stored, and some may have been found wrong since.
        let verified: RangeSet = geometry
            .groups_touching(range)
            .flat_map(|group| {
                let chunks = geometry.group_chunks(group);
                bit_runs(chunks.start(), mask(chunks, range) & self.content.verifier.group_have(group))
            })
            .collect();
        if verified.is_empty() {
            return;
        }
        let full = self.content.verifier.is_full();
        for run in verified.runs() {
            if result.is_ok() {
                self.on_stored(cx, run);
            } else {
                // R13: acknowledged or not, they are wanted again.
                self.content.forget(run);
                self.recount(run);
            }
        }
        if result.is_err() {
            self.asking.paused_until = Some(cx.now + STORE_RETRY);
        } else if full && !self.content.verifier.is_full() {
            // R2: others may be begun now, and nobody looked for any since.
            self.wake_all();
        }
    }

    /// Lets peers be asked that waited for storage or for the application, unless storage is behind still (R19).
    pub(crate) fn end_hold(&mut self, config: &EndpointConfig) {
        if self.asking.held && !self.is_backed_up(config) {
            self.asking.held = false;
            self.wake_all();
        }
    }

    /// Counts `range` as stored, announces it, and says so if nothing is missing any more.
    fn on_stored(&mut self, cx: &mut Cx<'_>, range: ChunkRange) {
        self.content.on_stored(range);
        if let Some(geometry) = self.content.geometry() {
            // What was kept of a group while it was incomplete leans on hashes that go when it is complete.
            for group in geometry.groups_touching(range) {
                self.uploads.cache.drop_group(group);
            }
        }
        cx.events.push_progress(self.id);
        self.spread_word(cx.now, range);
        for slot in self.uploads.take_waiting() {
            self.wake.push(slot);
        }
        self.finish_if_satisfied(cx);
    }

    fn finish_if_satisfied(&mut self, cx: &mut Cx<'_>) {
        if !self.content.complete && self.content.is_satisfied() {
            self.content.complete = true;
            // What changes on disk from now on is not fetched again unasked.
            self.content.wanted = RangeSet::new();
            self.content.assembly.release_memory();
            self.want_only(cx.now, RangeSet::new());
            cx.events.push_progress(self.id);
            cx.events.push(Event::Complete { swarm: self.id });
        }
    }

    /// The geometry became known from a peer (RFC 7574 §5.6): what peers announced past the end is clipped (R5).
    fn on_size_known(&mut self, cx: &mut Cx<'_>) {
        let Some(geometry) = self.content.geometry() else { return };
        self.format = self.format.with_content_length(geometry.content_length());
        self.content.wanted.clip_to(geometry.all());
        for (_, channel) in &mut self.peers {
            if let Some(peer) = channel.established_mut() {
                peer.have.clip(geometry.chunk_count());
                peer.acked.clip(geometry.chunk_count());
                if let Some(announced) = peer.withheld.as_mut().and_then(|withheld| withheld.announced_mut()) {
                    announced.clip(geometry.chunk_count());
                }
                if let Some(download) = &mut peer.download {
                    download.claim = None;
                    download.clear_requests(cx.now);
                }
            }
        }
        let slots: Vec<PeerSlot> = self.peers.iter().map(|(slot, _)| slot as PeerSlot).collect();
        for slot in slots {
            self.count_peer(slot);
        }
        self.recount(geometry.all());
        cx.events.push(Event::SizeKnown { swarm: self.id, geometry });
        self.wake_all();
    }

    pub(crate) fn wake_all(&mut self) {
        self.wake.extend(self.peers.iter().map(|(slot, _)| slot as PeerSlot));
    }

    /// When something of the swarm itself is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let timers = [
            self.content.flush_deadline(),
            self.held_until,
            self.ask_at,
            self.exchange.deadline(),
            self.slots.deadline(),
            self.news.flush_at(),
            self.asking.balance_at,
            self.asking.paused_until,
            self.asking.sparing.deadline(),
        ];
        // Asked after every datagram: a plain minimum is cheaper than skipping what is not set.
        let earliest =
            timers.map(|at| at.unwrap_or(Instant::FAR_FUTURE)).into_iter().fold(Instant::FAR_FUTURE, Instant::min);
        (earliest != Instant::FAR_FUTURE).then_some(earliest)
    }

    /// Acts on the swarm's own deadline.
    pub(crate) fn on_timeout(&mut self, cx: &mut Cx<'_>) {
        self.content.flush(cx, self.id, false);
        if self.held_until.is_some_and(|at| at <= cx.now) {
            self.held_until = None;
        }
        if self.asking.paused_until.take_if(|at| *at <= cx.now).is_some() {
            self.wake_all();
        }
        self.share_slots(cx);
        if self.ask_at.is_some_and(|at| at <= cx.now) {
            self.ask_at = None;
            self.wake_hungry(cx.down);
        }
        self.ask_around(cx);
        self.tell_news(cx.now);
        self.free_withdrawn(cx.now);
        self.balance(cx);
    }

    /// Acts on the deadlines of one channel.
    pub(crate) fn on_channel_timeout(&mut self, cx: &Cx<'_>, slot: PeerSlot) -> Due {
        let Some(channel) = self.peers.get_mut(slot as usize) else { return Due::Nothing };
        let due = channel.on_timeout(cx.now, cx.config);
        self.remembered.forget_unused(cx.now);
        self.repeat_announcement(cx, slot);
        self.lift_if_due(cx.now, slot);
        // The latest woken is the first to ask: what this peer left unanswered goes to others if they have room.
        self.wake.push(slot);
        if self.expire_requests(cx, slot) {
            self.wake.extend(self.peers.iter().map(|(other, _)| other as PeerSlot).filter(|&other| other != slot));
            if due == Due::Nothing && self.is_useless(cx.now, slot) {
                return Due::Useless;
            }
        }
        due
    }

    /// Ends a channel: tells the peer if it may be listening, frees what was asked of it, and reports.
    pub(crate) fn close_channel(&mut self, cx: &mut Cx<'_>, slot: PeerSlot, reason: CloseReason) {
        let goodbye = !matches!(reason, CloseReason::ByPeer | CloseReason::TimedOut | CloseReason::Ourselves);
        let established = self.peers.get(slot as usize).and_then(Channel::established);
        let to = established.filter(|_| goodbye).map(|peer| peer.remote);
        self.end_channel(cx, slot, reason, to);
    }

    /// Ends a channel, with a goodbye to the peer's channel `to`.
    fn end_channel(&mut self, cx: &mut Cx<'_>, slot: PeerSlot, reason: CloseReason, to: Option<ChannelId>) {
        let Some(channel) = self.peers.get_mut(slot as usize) else { return };
        if matches!(channel.state, State::Closing(_) | State::Closed) {
            return;
        }
        let established = channel.established().is_some();
        if established {
            self.discount_peer(slot);
        }
        let Some(channel) = self.peers.get_mut(slot as usize) else { return };
        let opening = channel.opening().is_some();
        let reported = self.on_peer_ending(cx, slot, reason);
        let Some(channel) = self.peers.get_mut(slot as usize) else { return };
        channel.state = to.map_or(State::Closed, State::Closing);
        if let Some(place) = channel.turn.take() {
            self.backlog.remove(place);
        }
        if core::mem::take(&mut channel.ration.hungry) {
            self.lines.leave(slot);
        }
        let (peer, address) = (channel.id, channel.address);
        if reported {
            cx.events.push(Event::PeerClosed { peer, address, reason });
        }
        for index in [&mut self.by_address, &mut self.half_open] {
            if index.get(&address) == Some(&slot) {
                index.remove(&address);
            }
        }
        self.wake.push(slot);
        if opening && let Some(&standing) = self.by_address.get(&address) {
            // R11: the successor failed; the channel that stands may have another.
            self.peers[standing as usize].reopened = false;
            self.wake.push(standing);
        }
        // Nothing was asked of a peer before, and forged openings must cost little (RFC 7574 §12.1).
        if established {
            self.end_call(slot);
            self.count_requests(cx, slot);
            self.leave_slot(cx, slot);
            self.release_peer(slot);
        }
    }

    /// Removes a channel that has nothing left to say.
    pub(crate) fn remove_if_closed(&mut self, slot: PeerSlot) {
        if self.peers.get(slot as usize).is_some_and(|channel| matches!(channel.state, State::Closed)) {
            let channel = self.peers.remove(slot as usize);
            self.past.add(&channel.stats);
            self.released.push((channel.local, channel.armed, slot));
            if self.peers.is_empty() {
                self.remembered.forget();
            }
        }
    }

    /// Hands out all that is verified and still being gathered.
    pub(crate) fn hand_out(&mut self, cx: &mut Cx<'_>) {
        self.content.flush(cx, self.id, true);
    }

    /// Begins to leave: gathered bytes are handed out and every channel says goodbye.
    pub(crate) fn leave(&mut self, cx: &mut Cx<'_>) {
        if self.leaving {
            return;
        }
        self.leaving = true;
        self.hand_out(cx);
        let slots: Vec<PeerSlot> = self.peers.iter().map(|(slot, _)| slot as PeerSlot).collect();
        for slot in slots {
            self.close_channel(cx, slot, CloseReason::Locally);
        }
    }

    /// The slot of `peer`, if it is still there.
    pub(crate) fn slot_of(&self, peer: PeerId) -> Option<PeerSlot> {
        let channel = self.peers.get(peer.slot as usize)?;
        (channel.id == peer).then_some(peer.slot)
    }

    /// Chunks stored, tree pages that changed and nodes of open groups, to be saved.
    pub(crate) fn take_checkpoint(&mut self) -> Option<Checkpoint> {
        self.content.geometry()?;
        let tree = self.content.verifier.tree_mut();
        let pages = tree.take_dirty();
        let pages = pages.into_iter().filter_map(|page| Some((page, tree.page_bytes(page)?))).collect();
        let peaks = tree.peaks().to_vec();
        let open_groups = self
            .content
            .verifier
            .open_groups()
            .map(|(group, open)| {
                let nodes = open.nodes().iter().filter_map(|(bin, hash)| Some((bin, Hash::from_slice(hash)?)));
                SavedGroup::new(group, nodes)
            })
            .collect();
        let mut stored = self.content.stored.clone();
        stored.extend(self.content.claimed.runs());
        Some(Checkpoint { pages, peaks, stored, open_groups })
    }
}

/// The state that `content` begins in, once it is checked against the metadata.
fn content_state(
    metadata: &Metadata,
    geometry: Option<Geometry>,
    content: Content,
    config: &EndpointConfig,
) -> Result<ContentState, JoinError> {
    match content {
        Content::Fetch => Ok(ContentState::fetch(metadata, geometry, config)),
        Content::Resume { tree, stored, open_groups } => {
            let cut = check_tree(metadata, &tree)?;
            let mut state = ContentState::resume(tree, cut, &stored, config);
            for saved in open_groups.iter().take(config.limits.open_groups) {
                state.verifier.restore_open_group(saved.group(), saved.nodes());
            }
            Ok(state)
        }
        Content::Seed { tree } => {
            let cut = check_tree(metadata, &tree)?;
            if !tree.is_complete() {
                return Err(JoinError::IncompleteTree);
            }
            Ok(ContentState::seed(tree, cut, config))
        }
    }
}

/// The geometry of `tree`, which must be the metadata's.
fn check_tree(metadata: &Metadata, tree: &Tree) -> Result<Geometry, JoinError> {
    let geometry = tree.geometry().ok_or(JoinError::TreeMismatch)?;
    let length_fits = metadata.content_length.is_none_or(|length| geometry.content_length() == Some(length));
    let params = tree.params();
    if *tree.root() != metadata.root
        || params.function != metadata.function
        || params.chunk_size != metadata.chunk_size
        || geometry.content_length().is_none()
        || !length_fits
    {
        return Err(JoinError::TreeMismatch);
    }
    geometry.check_addressing(metadata.addressing)?;
    Ok(geometry)
}

/// The first chunk of `set`.
fn first_of(set: &RangeSet) -> Option<ChunkIndex> {
    set.runs().next().map(|run| ChunkIndex::new(run.start()))
}
