//! What we ask of peers: picked, asked for, taken back, settled (RFC 7574 §3.7, §3.8, R16 to R21).

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use crate::availability::Rarity;
use crate::channel::{Download, Established, State};
use crate::chunk::{ChunkIndex, ChunkRange, Geometry, GroupIndex, RangeSet};
use crate::config::{Limits, Order};
use crate::context::Cx;
use crate::integrity::OpenGroup;
use crate::schedule::{PROBE_BATCHES, Pace, PeerSlot, Picker, Plan, RUN_BATCHES, bit_runs};
use crate::swarm::Swarm;
use crate::swarm::balance::BALANCE_INTERVAL;
use crate::swarm::shares::Shares;
use crate::swarm::sparing::Sparing;
use crate::time::Instant;
use crate::wire::{DatagramBuilder, MessageType, RangeMessage};

/// How long the rate of the fastest peer is believed after it was last measured.
const FASTEST_LIFE: Duration = Duration::from_secs(2);
/// How long nothing is asked for after a store failed: a full disk would have the same fetched again and again, as fast as
/// the network brings it.
pub(super) const STORE_RETRY: Duration = Duration::from_secs(1);

/// What decides whom is asked for what, besides the state of each chunk.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) rarity: Rarity,
    /// Peers that do not have everything.
    pub(crate) leechers: usize,
    /// Peers with room for requests and nothing free to ask them for.
    pub(super) idle: BTreeSet<PeerSlot>,
    /// The next of them to look for work, where they are many.
    pub(super) idle_next: PeerSlot,
    /// When they may take over what others are asked for.
    pub(crate) balance_at: Option<Instant>,
    /// Whether requests wait for storage or for the application (R19).
    pub(super) held: bool,
    /// Nothing is asked for until then: it could not be stored.
    pub(crate) paused_until: Option<Instant>,
    order: Order,
    ordered_at: Instant,
    /// The highest rate of any peer, in bytes per second, and when it was seen.
    fastest: (u64, Instant),
    pub(super) shares: Shares,
    pub(crate) sparing: Sparing,
}

impl Asking {
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            rarity: Rarity::new(limits.rarity_runs),
            leechers: 0,
            idle: BTreeSet::new(),
            idle_next: 0,
            balance_at: None,
            held: false,
            paused_until: None,
            order: Order::default(),
            ordered_at: now,
            fastest: (0, now),
            shares: Shares::new(now),
            sparing: Sparing::default(),
        }
    }

    /// Picks in `order` from now on.
    pub(crate) fn set_order(&mut self, order: Order, now: Instant) {
        self.order = order;
        self.ordered_at = now;
    }

    /// The order among `channels` peers, established or expected.
    fn plan(&self, now: Instant, channels: usize) -> Plan<'_> {
        match &self.order {
            // Who is not known to be a seeder yet may be a leecher.
            Order::Auto if channels > self.rarity.complete() as usize => Plan::RarestFirst,
            Order::Auto | Order::InOrder => Plan::InOrder,
            Order::RarestFirst => Plan::RarestFirst,
            Order::Deadline(heads) => {
                Plan::Deadline { heads: &heads[..heads.len().min(Order::MAX_HEADS)], since: now - self.ordered_at }
            }
        }
    }

    /// Whether what few have goes first.
    pub(super) fn spreads(&self, now: Instant, channels: usize) -> bool {
        matches!(self.plan(now, channels), Plan::RarestFirst)
    }

    /// Whether no other peer is twice as fast as one of `rate`.
    fn is_fastest(&mut self, rate: u64, now: Instant) -> bool {
        let (fastest, at) = self.fastest;
        if rate >= fastest || now - at > FASTEST_LIFE {
            self.fastest = (rate, now);
        }
        rate >= self.fastest.0 / 2
    }
}

impl Swarm {
    /// Asks for more chunks and takes back what is not wanted any more; returns whether any were asked for.
    pub(crate) fn write_requests(
        &mut self,
        cx: &mut Cx<'_>,
        slot: PeerSlot,
        datagram: &mut DatagramBuilder<'_>,
    ) -> bool {
        let before = self.peers[slot as usize].stats.chunks_requested;
        if !self.content.complete && self.write_untold(slot, datagram) {
            match self.content.geometry() {
                Some(geometry) => self.write_picked(cx, slot, &geometry, datagram),
                None => self.write_first(cx, slot, datagram),
            }
        }
        self.peers[slot as usize].stats.chunks_requested > before
    }

    /// Asks for what was chosen for the peer before; returns whether the datagram has room for more.
    fn write_untold(&mut self, slot: PeerSlot, datagram: &mut DatagramBuilder<'_>) -> bool {
        let channel = &mut self.peers[slot as usize];
        let State::Established(peer) = &mut channel.state else { return false };
        let Some(download) = &mut peer.download else { return true };
        loop {
            let Some(run) = download.untold().runs().next() else { return true };
            let rest = datagram.push_range(RangeMessage::Request, run);
            channel.stats.chunks_requested += run.count() - rest.count();
            download.untold().remove(told(run, rest));
            if !rest.is_empty() {
                return false;
            }
        }
    }

    /// Picks runs for the peer and asks for them.
    fn write_picked(
        &mut self,
        cx: &mut Cx<'_>,
        slot: PeerSlot,
        geometry: &Geometry,
        datagram: &mut DatagramBuilder<'_>,
    ) {
        let mut allowance = self.allowance(cx, slot);
        let mut after = 0;
        while allowance > 0 {
            let Some(range) = self.pick(cx, slot, geometry, after, allowance) else { break };
            let rest = datagram.push_range(RangeMessage::Request, range);
            let asked = told(range, rest);
            self.assign(cx.now, slot, geometry, asked);
            self.peers[slot as usize].stats.chunks_requested += asked.count();
            if !rest.is_empty() {
                return;
            }
            allowance = allowance.saturating_sub(asked.count());
            after = asked.end();
        }
    }

    /// Most chunks that `slot` may be asked for now: by its rate, and by what the download limits let pass.
    fn allowance(&mut self, cx: &mut Cx<'_>, slot: PeerSlot) -> u64 {
        let (most_ahead, most_choice) = self.time_in_buffer(cx, slot);
        let Some(download) = self.download_mut(cx, slot) else { return 0 };
        (download.most_ahead, download.most_choice) = (most_ahead, most_choice);
        let limit = self.most_outstanding(cx, slot);
        let Some(peer) = self.peers[slot as usize].established() else { return 0 };
        let Some(download) = &peer.download else { return 0 };
        if download.exhausted == Some(self.requests.version()) {
            return 0;
        }
        let seeds = self.content.geometry().is_some_and(|geometry| peer.have.is_complete(geometry.chunk_count()));
        let amply = seeds
            && match self.asking.plan(cx.now, self.by_address.len()) {
                Plan::RarestFirst => true,
                Plan::InOrder => download.rate.is_rising(),
                // What is asked for early is not what is needed next any more.
                Plan::Deadline { .. } => false,
            };
        let room = download.allowance(peer.srtt(), self.metadata.chunk_size, limit, amply);
        self.ration(cx, slot, room)
    }

    /// Most groups that may have outstanding requests, at least where `allowance` chunks come near that bound. Groups that
    /// are begun although nothing of them is asked for count as well, such as those that wait for storage (R2): chunks of
    /// one more would be refused when they come.
    fn group_limit(&self, limits: &Limits, geometry: &Geometry, allowance: u64) -> usize {
        let verifier = &self.content.verifier;
        let wanted = usize::try_from(allowance >> geometry.group_layer()).unwrap_or(usize::MAX);
        let begun = self.requests.group_count() + verifier.open_count();
        if begun.saturating_add(wanted).saturating_add(2) <= limits.open_groups {
            return limits.open_groups - verifier.open_count();
        }
        // One of which nothing is here any more, since it could not be stored, is begun again like any other.
        let waiting =
            verifier.open_groups().filter(|&(group, open)| open.have() != 0 && self.requests.asked(group) == 0);
        limits.open_groups.saturating_sub(waiting.count())
    }

    /// The next run to ask `slot` for.
    fn pick(
        &mut self,
        cx: &mut Cx<'_>,
        slot: PeerSlot,
        geometry: &Geometry,
        after: u64,
        allowance: u64,
    ) -> Option<ChunkRange> {
        let chunk_size = self.metadata.chunk_size;
        self.want_leftovers(&cx.config.limits);
        let max_groups = self.group_limit(&cx.config.limits, geometry, allowance);
        let State::Established(peer) = &mut self.peers[slot as usize].state else { return None };
        let srtt = peer.srtt();
        let withholds = peer.withheld.is_some();
        let download = peer.download.as_deref_mut()?;
        let probed = withholds && download.is_probed();
        let pace = Pace {
            ready: srtt + download.time_for(0, chunk_size),
            rate: download.rate_or_assumed(),
            fastest: self.asking.is_fastest(download.rate_or_assumed(), cx.now),
        };
        let mut picker = Picker {
            geometry,
            requests: &self.requests,
            rarity: &self.asking.rarity,
            have: &peer.have,
            pace,
            max_groups,
            batches: if probed { PROBE_BATCHES } else { RUN_BATCHES },
            cursor: download.cursor,
            shortlist: &mut download.shortlist,
            now: cx.now,
            rng: cx.rng,
        };
        let verifier = &self.content.verifier;
        let picked = if verifier.is_full() {
            picker.finish(verifier.open_groups().map(|(_, open)| open.chunks()), allowance)
        } else {
            picker.pick(self.asking.plan(cx.now, self.by_address.len()), after, allowance)
        };
        match picked {
            // Whole groups are for who gives them.
            Some(range) if probed => {
                return Some(ChunkRange::new(range.start(), range.start() + 1));
            }
            Some(range) => download.cursor = range.end(),
            None if after == 0 => {
                let exhausted = picker.has_nothing();
                if exhausted {
                    download.exhausted = Some(self.requests.version());
                }
                let unused = exhausted || download.outstanding() == 0;
                self.asking.idle.insert(slot);
                self.asking.balance_at.get_or_insert(cx.now + BALANCE_INTERVAL);
                if unused && withholds {
                    self.lift_if_wanted(cx.now, slot);
                }
            }
            None => {}
        }
        picked
    }

    /// Makes the rest of begun groups wanted of which only a part was, when they take up half of the room for groups and
    /// others are wanted: they would never be closed (R2).
    fn want_leftovers(&mut self, limits: &Limits) {
        if 2 * self.content.verifier.open_count() < limits.open_groups || self.requests.free().is_empty() {
            return;
        }
        self.drop_abandoned();
        let (verifier, requests) = (&self.content.verifier, &self.requests);
        let is_left = |group: GroupIndex, open: &OpenGroup| {
            open.have() != 0
                && !open.is_complete()
                && requests.asked(group) == 0
                && !requests.free().intersects(open.chunks())
        };
        let left: Vec<ChunkRange> = verifier
            .open_groups()
            .filter(|&(group, open)| is_left(group, open))
            .map(|(_, open)| open.chunks())
            .collect();
        if 2 * left.len() < limits.open_groups {
            return;
        }
        for chunks in left {
            self.content.wanted.insert(chunks);
            self.recount(chunks);
        }
    }

    /// Drops begun groups of which nothing is here any more, since it could not be stored or read back, and nothing is
    /// wanted: they would keep the room for groups that are (R2).
    fn drop_abandoned(&mut self) {
        let (content, requests) = (&mut self.content, &self.requests);
        let is_abandoned = |group: GroupIndex, open: &OpenGroup| {
            open.have() == 0
                && requests.asked(group) == 0
                && !requests.free().intersects(open.chunks())
                && !content.claimed.intersects(open.chunks())
        };
        let open = content.verifier.open_groups();
        let abandoned: Vec<GroupIndex> =
            open.filter(|&(group, open)| is_abandoned(group, open)).map(|(group, _)| group).collect();
        for group in abandoned {
            content.verifier.drop_empty_group(group);
        }
    }

    /// Moves the free chunks of `range` to `slot`.
    pub(super) fn assign(&mut self, now: Instant, slot: PeerSlot, geometry: &Geometry, range: ChunkRange) {
        let State::Established(peer) = &mut self.peers[slot as usize].state else { return };
        let Some(download) = &mut peer.download else { return };
        for (part, batch) in download.on_requested(now, range) {
            self.requests.ask(geometry, part, slot, batch);
        }
    }

    /// Asks for one chunk of a content of unknown size: the first brings the peer's peaks, the last proves them (R1).
    fn write_first(&mut self, cx: &mut Cx<'_>, slot: PeerSlot, datagram: &mut DatagramBuilder<'_>) {
        if self.allowance(cx, slot) == 0 {
            return;
        }
        let channel = &mut self.peers[slot as usize];
        let State::Established(peer) = &mut channel.state else { return };
        let Some(download) = peer.download.as_deref_mut().filter(|download| download.outstanding() == 0) else {
            return;
        };
        let last = download.claim.as_ref().map(|claim| ChunkIndex::new(claim.chunks() - 1));
        let next = last.or_else(|| super::first_of(peer.have.as_set()));
        if let Some(range) = next.map(ChunkRange::single)
            && datagram.push_range(RangeMessage::Request, range).is_empty()
        {
            download.on_requested(cx.now, range);
            channel.stats.chunks_requested += 1;
        }
    }

    /// `chunks` of `group` are here, from `slot`: whoever else was asked for them need not send them (RFC 7574 §3.8).
    pub(crate) fn settle_requests(
        &mut self,
        now: Instant,
        slot: PeerSlot,
        geometry: &Geometry,
        group: GroupIndex,
        chunks: u32,
    ) {
        let (requests, peers, wake) = (&mut self.requests, &mut self.peers, &mut self.wake);
        requests.settle(geometry, group, chunks, |owner, batch, chunks| {
            let peer = peers.get_mut(owner as usize).and_then(|channel| channel.established_mut());
            let Some(download) = peer.and_then(|peer| peer.download.as_deref_mut()) else { return };
            download.on_settled(now, batch, u64::from(chunks.count_ones()), owner == slot);
            if owner != slot {
                bit_runs(geometry.group_chunks(group).start(), chunks).for_each(|run| download.cancel(run));
                wake.push(owner);
            }
        });
    }

    /// Frees what `slot` was asked for in vain, so that it is asked for again (R16); returns whether there was any.
    pub(crate) fn expire_requests(&mut self, cx: &Cx<'_>, slot: PeerSlot) -> bool {
        let Some(channel) = self.peers.get_mut(slot as usize) else { return false };
        let State::Established(peer) = &mut channel.state else { return false };
        let srtt = peer.srtt();
        let Some(download) = &mut peer.download else { return false };
        let mut freed = false;
        let mut vain = Vec::new();
        while download.request_deadline(srtt).is_some_and(|at| at <= cx.now) {
            let ignored = download.is_ignored(channel.last_received, srtt);
            let Some(range) = download.take_expired() else { break };
            freed = true;
            let Some(geometry) = self.content.geometry() else {
                vain.extend(ignored.then_some(range));
                continue;
            };
            for (run, batch) in self.requests.release(&geometry, slot, range) {
                channel.stats.requests_expired += run.count();
                download.on_released(cx.now, batch, run.count());
                // Unless it is asked for the same again.
                download.cancel(run);
                vain.extend(ignored.then_some(run));
            }
        }
        if !vain.is_empty() {
            self.pass_over(cx, slot, &vain);
        }
        freed
    }

    /// Frees everything that was asked of `slot`: it will not answer. Others are woken if there was anything, so that
    /// channels that come and go cost them nothing.
    pub(crate) fn release_peer(&mut self, slot: PeerSlot) {
        let Some(geometry) = self.content.geometry() else { return };
        let before = self.requests.version();
        self.requests.release_all(&geometry, slot);
        if self.requests.version() != before {
            self.wake_all();
        }
    }

    /// Chooses what is to be fetched; what peers were asked for besides is taken back.
    pub(crate) fn want_only(&mut self, now: Instant, wanted: RangeSet) {
        self.content.wanted = wanted;
        let Some(geometry) = self.content.geometry() else { return };
        self.content.wanted.clip_to(geometry.all());
        self.free_withdrawn(Instant::FAR_FUTURE);
        let unwanted: Vec<ChunkRange> = self.content.wanted.missing_in(geometry.all()).collect();
        for (slot, channel) in &mut self.peers {
            let Some(Established { download: Some(download), .. }) = channel.established_mut() else { continue };
            if download.outstanding() == 0 {
                continue;
            }
            for &range in &unwanted {
                for (run, batch) in self.requests.release(&geometry, slot as PeerSlot, range) {
                    download.on_released(now, batch, run.count());
                    download.cancel(run);
                }
            }
        }
        self.recount(geometry.all());
    }

    /// Finds out anew which chunks of `range` are to be asked for: wanted, neither here nor to be read back, and not
    /// asked for.
    pub(crate) fn recount(&mut self, range: ChunkRange) {
        let Some(geometry) = self.content.geometry() else { return };
        let content = &self.content;
        let mut free: RangeSet =
            content.wanted.intersection_in(range).flat_map(|run| content.stored.missing_in(run)).collect();
        for (_, open) in content.verifier.open_groups() {
            for run in bit_runs(open.chunks().start(), open.have()) {
                free.remove(run);
            }
        }
        for (group, asked) in self.requests.outstanding() {
            let start = geometry.group_chunks(group).start();
            for run in asked.flat_map(|(_, _, chunks)| bit_runs(start, chunks)) {
                free.remove(run);
            }
        }
        let layer = geometry.group_layer();
        for groups in content.unchecked.runs() {
            free.remove(ChunkRange::new(groups.start() << layer, groups.end() << layer));
        }
        self.requests.unwant(&geometry, range);
        for run in free.runs() {
            self.requests.want(&geometry, run);
        }
    }
}

/// Whether the peer can be asked for anything.
pub(crate) fn may_request(peer: &Established) -> bool {
    // RFC 7574 §3.9: no REQUEST while choked.
    !peer.choked && peer.session.messages.contains(MessageType::Request) && !peer.have.as_set().is_empty()
}

/// Tells the peer what it is not to send any more (RFC 7574 §3.8), as far as there is room. One that did not offer to
/// take CANCEL (§7.10) is told nothing: it may do without, and a HAVE follows that takes the requests back as well (R18).
pub(crate) fn write_cancels(datagram: &mut DatagramBuilder<'_>, download: &mut Download, understood: bool) {
    loop {
        let Some(run) = download.cancels().runs().next() else { return };
        let rest = if understood { datagram.push_range(RangeMessage::Cancel, run) } else { ChunkRange::EMPTY };
        download.cancels().remove(told(run, rest));
        if !rest.is_empty() {
            return;
        }
    }
}

/// The part of `range` that was written when `rest` was not.
const fn told(range: ChunkRange, rest: ChunkRange) -> ChunkRange {
    ChunkRange::new(range.start(), if rest.is_empty() { range.end() } else { rest.start() })
}
