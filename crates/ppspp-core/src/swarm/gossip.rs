//! HAVE, both ways: what peers have, and how they learn what we have (RFC 7574 §3.2, §4.3.1, R21).

use alloc::vec::Vec;
use core::time::Duration;

use crate::availability::{PeerMap, whole_groups};
use crate::channel::{Blocked, Channel, Repeat};
use crate::chunk::{ChunkRange, Geometry, RangeSet};
use crate::config::Limits;
use crate::context::Cx;
use crate::event::Misbehaviour;
use crate::schedule::PeerSlot;
use crate::swarm::Swarm;
use crate::time::Instant;

/// How long a HAVE may wait for company; longer the more peers it goes to, so that news cost little.
const HAVE_DELAY: Duration = Duration::from_millis(50);
/// Peers that are told without a longer wait.
const PROMPTLY_TOLD: u32 = 32;
/// Longest wait.
const MAX_HAVE_DELAY: Duration = Duration::from_secs(1);
/// Runs of a repeated announcement.
const MAX_REPEATED: usize = 128;
/// Excess messages that it counts as when a peer takes back that it has everything: all counts of the others change.
const RECOUNT: u64 = 16;

/// Stored chunks that no peer was told of yet: kept once for all peers.
#[derive(Debug, Default)]
pub(crate) struct News {
    fresh: RangeSet,
    flush_at: Option<Instant>,
    /// Whether a whole group was stored: from then on only whole groups are news (R21).
    in_groups: bool,
}

impl News {
    /// When the peers are told.
    pub(crate) const fn flush_at(&self) -> Option<Instant> {
        self.flush_at
    }
}

/// Adds or takes away what one peer has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sign {
    Plus,
    Minus,
}

impl Swarm {
    /// Counts that `slot` has `range`.
    pub(super) fn count_have(&mut self, now: Instant, slot: PeerSlot, range: ChunkRange, limits: &Limits) {
        let geometry = self.content.geometry();
        let Some(peer) = self.peers.get_mut(slot as usize).and_then(|channel| channel.established_mut()) else {
            return;
        };
        if let Some(download) = &mut peer.download
            && (geometry.is_none() || self.requests.free().intersects(range))
        {
            download.exhausted = None;
        }
        let Some(geometry) = geometry else {
            peer.have.add(range, None, limits.availability_runs);
            return;
        };
        let range = range.intersection(geometry.all());
        if peer.have.covers(range) {
            return;
        }
        if peer.have.as_set().missing_in(geometry.all()).all(|gap| range.covers(gap)) {
            self.asking.count(&geometry, &peer.have, Sign::Minus);
            peer.have.add(range, Some(geometry.all()), limits.availability_runs);
            self.asking.count(&geometry, &peer.have, Sign::Plus);
            return;
        }
        let gaps: Vec<ChunkRange> = peer.have.as_set().missing_in(range).collect();
        if peer.have.add(range, Some(geometry.all()), limits.availability_runs) == 0 {
            return;
        }
        let mut counted = 0;
        let mut news = Vec::new();
        for gap in gaps {
            let groups = whole_groups(&geometry, &peer.have, gap);
            let groups = ChunkRange::new(groups.start().max(counted), groups.end());
            self.asking.rarity.add(groups);
            counted = groups.end();
            news.push(groups);
        }
        self.spare_seeders(now, slot, &geometry, &news, limits);
    }

    /// `slot` does not have `range`, whatever it said.
    ///
    /// # Errors
    /// [`Misbehaviour::Flooding`] of a peer that takes back over and over what it said; that it has everything weighs more.
    pub(crate) fn on_peer_lacks(&mut self, cx: &Cx<'_>, slot: PeerSlot, range: ChunkRange) -> Result<(), Misbehaviour> {
        let most = cx.config.limits.availability_runs;
        let Some(geometry) = self.content.geometry() else { return Ok(()) };
        let Some(peer) = self.peers.get_mut(slot as usize).and_then(|channel| channel.established_mut()) else {
            return Ok(());
        };
        if let Some(announced) = peer.withheld.as_mut().and_then(|withheld| withheld.announced_mut()) {
            announced.remove_bounded(range, most);
        }
        if !peer.have.intersects(range) {
            return Ok(());
        }
        if peer.have.is_complete(geometry.chunk_count()) {
            self.recount_peer(slot, |peer| peer.have.remove_bounded(range, most));
            return self.on_excess(cx.now, slot, RECOUNT);
        }
        self.asking.rarity.take_away(&geometry, &mut peer.have, range, most);
        self.on_excess(cx.now, slot, 1)
    }

    /// `range` is stored: peers are to be told soon. Costs nothing per peer.
    pub(crate) fn spread_word(&mut self, now: Instant, range: ChunkRange) {
        let Some(geometry) = self.content.geometry() else { return };
        let stored = &self.content.stored;
        let whole = |chunks: ChunkRange| stored.covers(chunks);
        self.news.in_groups |= geometry.groups_touching(range).any(|group| whole(geometry.group_chunks(group)));
        for group in geometry.groups_touching(range) {
            let chunks = geometry.group_chunks(group);
            if whole(chunks) {
                self.news.fresh.insert(chunks);
            } else if !self.news.in_groups {
                self.news.fresh.insert(range.intersection(chunks));
            }
        }
        if !self.news.fresh.is_empty() && self.news.flush_at.is_none() {
            let crowd = u32::try_from(self.asking.leechers).unwrap_or(u32::MAX) / PROMPTLY_TOLD;
            self.news.flush_at = Some(now + HAVE_DELAY.saturating_mul(crowd.max(1)).min(MAX_HAVE_DELAY));
        }
    }

    /// Passes the news on to those who lack something, once they are due.
    pub(crate) fn tell_news(&mut self, now: Instant) {
        if self.news.flush_at.is_none_or(|at| at > now) {
            return;
        }
        self.news.flush_at = None;
        let fresh = core::mem::take(&mut self.news.fresh);
        let total = self.content.geometry().map_or(u64::MAX, Geometry::chunk_count);
        for (slot, channel) in &mut self.peers {
            let Some(peer) = channel.established_mut() else { continue };
            // RFC 7574 §3.2: seeders are not sent HAVE.
            if !peer.announced().is_complete(total) {
                peer.announce.extend(fresh.runs());
                peer.announce_at = Some(now);
                peer.repeat = Some(peer.repeat.unwrap_or_else(|| Repeat::new(now)));
                self.wake.push(slot as PeerSlot);
            } else if peer.blocked == Blocked::Reading {
                self.wake.push(slot as PeerSlot);
            }
        }
    }

    /// Announces again what a peer may have missed: HAVE is not acknowledged.
    ///
    /// Everything, to one that has not been heard since it was announced first. Later, to one that asks for nothing,
    /// what it lacks.
    pub(crate) fn repeat_announcement(&mut self, cx: &Cx<'_>, slot: PeerSlot) {
        let Some(peer) = self.peers.get_mut(slot as usize).and_then(Channel::established_mut) else { return };
        if let Some(unheard) = peer.unheard.filter(|unheard| unheard.at <= cx.now) {
            peer.unheard = unheard.next(cx.now);
            peer.announce.extend(self.content.stored.runs());
            peer.announce_at = Some(cx.now);
        }
        if let Some(repeat) = peer.repeat.filter(|repeat| repeat.at <= cx.now) {
            // What it acknowledged it knows of, although it does not tell a seeder that it has it.
            let knows = |run| peer.have.as_set().missing_in(run).all(|gap| peer.acked.covers(gap));
            let unknown = self.content.stored.runs().filter(|&run| !knows(run)).take(MAX_REPEATED);
            let before = peer.announce.count();
            peer.announce.extend(unknown);
            peer.repeat = if peer.announce.count() > before { repeat.next(cx.now) } else { None };
            peer.announce_at = (!peer.announce.is_empty()).then_some(cx.now);
        }
    }

    /// Counts what `slot`, which was just established, has.
    pub(crate) fn count_peer(&mut self, slot: PeerSlot) {
        let Some(geometry) = self.content.geometry() else { return };
        if let Some(peer) = self.peers.get(slot as usize).and_then(|channel| channel.established()) {
            self.asking.count(&geometry, &peer.have, Sign::Plus);
        }
    }

    /// No longer counts what `slot` has.
    pub(crate) fn discount_peer(&mut self, slot: PeerSlot) {
        let Some(geometry) = self.content.geometry() else { return };
        if let Some(peer) = self.peers.get(slot as usize).and_then(|channel| channel.established()) {
            self.asking.count(&geometry, &peer.have, Sign::Minus);
        }
    }
}

impl super::asking::Asking {
    fn count(&mut self, geometry: &Geometry, have: &PeerMap, sign: Sign) {
        let rarity = &mut self.rarity;
        if have.is_complete(geometry.chunk_count()) {
            match sign {
                Sign::Plus => rarity.add_complete(),
                Sign::Minus => rarity.remove_complete(),
            }
            return;
        }
        match sign {
            Sign::Plus => self.leechers += 1,
            Sign::Minus => self.leechers = self.leechers.saturating_sub(1),
        }
        for run in have.as_set().runs() {
            let groups = whole_groups(geometry, have, run);
            match sign {
                Sign::Plus => rarity.add(groups),
                Sign::Minus => rarity.remove(groups),
            }
        }
    }
}
