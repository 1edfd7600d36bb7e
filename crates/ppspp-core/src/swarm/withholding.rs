//! Peers that do not deliver what they announced are asked for something else first (RFC 7574 §3.7, §12.7).

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::availability::PeerMap;
use crate::channel::{Download, Established, Withheld};
use crate::chunk::{ChunkRange, Geometry, GroupIndex, RangeSet};
use crate::config::Limits;
use crate::context::Cx;
use crate::schedule::PeerSlot;
use crate::swarm::Swarm;
use crate::time::Instant;

/// Every chunk of whatever content.
const ALL: ChunkRange = ChunkRange::new(0, u64::MAX);

impl Swarm {
    /// `slot` announced `range`. What it announced before and withholds is no news: HAVE names the biggest complete
    /// interval (RFC 7574 §4.3.1), whatever is new of it.
    pub(crate) fn on_peer_has(&mut self, now: Instant, slot: PeerSlot, range: ChunkRange, limits: &Limits) {
        let all = self.content.geometry().map(Geometry::all);
        let Some(peer) = self.peers.get_mut(slot as usize).and_then(|channel| channel.established_mut()) else {
            return;
        };
        let Some(announced) = peer.withheld.as_mut().and_then(|withheld| withheld.announced_mut()) else {
            self.count_have(now, slot, range, limits);
            return;
        };
        let fresh: Vec<ChunkRange> = announced.as_set().missing_in(range).collect();
        announced.add(range, all, limits.availability_runs);
        for part in fresh {
            self.count_have(now, slot, part, limits);
        }
    }

    /// `vain` was asked of `slot` and did not come, although the peer was heard meanwhile: what does not come a second time
    /// is asked of others, and of this peer last.
    pub(super) fn pass_over(&mut self, cx: &Cx<'_>, slot: PeerSlot, vain: &[ChunkRange]) {
        let vain: Vec<ChunkRange> = vain.iter().map(|&run| self.what_changes_with(run)).collect();
        let Some(peer) = self.peers.get_mut(slot as usize).and_then(|channel| channel.established_mut()) else {
            return;
        };
        let Some(download) = &mut peer.download else { return };
        let delivered_at = download.delivered_at();
        let withheld = peer.withheld.get_or_insert_with(|| Box::new(Withheld::new(cx.now)));
        let mut passed: Vec<ChunkRange> = Vec::new();
        for run in vain {
            if withheld.on_vain(run) {
                // What changed most often lies together: nothing came from between this and other vain requests.
                let between = withheld.small_gaps_beside(run);
                passed.extend(between.filter(|&gap| !self.content.stored.intersects(gap)));
                passed.push(run);
            }
        }
        let Some(end) = passed.last().map(|last| last.end()) else { return };
        let more = withheld.on_passed(cx.now, &peer.have, delivered_at);
        passed.push(ChunkRange::new(end, end.saturating_add(more << self.metadata.chunk_size.group_layer())));
        download.on_passed_over(more > 0, withheld.may_hurry(delivered_at));
        self.recount_peer(slot, |peer| {
            for range in passed {
                peer.have.remove_bounded(range, cx.config.limits.availability_runs);
            }
        });
        let nothing_left = |peer: &Established| peer.have.as_set().is_empty();
        if self.peers.get(slot as usize).and_then(|channel| channel.established()).is_some_and(nothing_left) {
            self.lift(cx.now, slot);
        }
    }

    /// `run` with the rest of its groups, which is read from a disk together; of a group that has begun to come the rest may
    /// have been lost on the way.
    fn what_changes_with(&self, run: ChunkRange) -> ChunkRange {
        let layer = self.metadata.chunk_size.group_layer();
        let [first, last] = [run.start(), run.end() - 1].map(|chunk| chunk >> layer);
        let verifier = &self.content.verifier;
        let sized = self.content.geometry().is_some();
        if sized && (first..=last).any(|group| verifier.group_have(GroupIndex::new(group)) != 0) {
            return run;
        }
        ChunkRange::new(first << layer, (last + 1) << layer)
    }

    /// Asks `slot` again for what it withholds, if the time for that has come.
    pub(super) fn lift_if_due(&mut self, now: Instant, slot: PeerSlot) {
        let Some(peer) = self.peers.get(slot as usize).and_then(|channel| channel.established()) else { return };
        let delivered_at = peer.download.as_deref().map_or(now, Download::delivered_at);
        if peer.withheld.as_ref().is_some_and(|withheld| withheld.is_due(now, delivered_at)) {
            self.retake(slot, |withheld, _, _| withheld.lift_in_time(now, delivered_at));
        }
    }

    /// Asks `slot`, which has nothing else to give, again for what it withholds, if any of it is wanted.
    pub(super) fn lift_if_wanted(&mut self, now: Instant, slot: PeerSlot) {
        let Some(peer) = self.peers.get(slot as usize).and_then(|channel| channel.established()) else { return };
        let Some(announced) = peer.withheld.as_ref().and_then(|withheld| withheld.announced()) else { return };
        if self.requests.free().common_with(announced.as_set(), ALL).next().is_some() {
            self.lift(now, slot);
        }
    }

    /// Asks `slot` again for some of what it withholds, or all.
    fn lift(&mut self, now: Instant, slot: PeerSlot) {
        let delivered_at = self.download(slot).map_or(now, Download::delivered_at);
        self.retake(slot, |withheld, have, free| withheld.lift(now, have, free, delivered_at));
    }

    /// Takes `slot` to have what `choose` says, given what it is taken to have and what is to be asked for.
    fn retake(&mut self, slot: PeerSlot, choose: impl FnOnce(&mut Withheld, &PeerMap, &RangeSet) -> Option<PeerMap>) {
        self.discount_peer(slot);
        if let Some(peer) = self.peers.get_mut(slot as usize).and_then(|channel| channel.established_mut()) {
            if let Some(withheld) = &mut peer.withheld
                && let Some(have) = choose(withheld, &peer.have, self.requests.free())
            {
                peer.have = have;
            }
            if let Some(download) = &mut peer.download {
                download.exhausted = None;
            }
        }
        self.count_peer(slot);
        self.wake.push(slot);
    }

    /// Changes what `slot` is taken to have.
    pub(super) fn recount_peer(&mut self, slot: PeerSlot, change: impl FnOnce(&mut Established)) {
        self.discount_peer(slot);
        if let Some(peer) = self.peers.get_mut(slot as usize).and_then(|channel| channel.established_mut()) {
            change(peer);
        }
        self.count_peer(slot);
    }
}
