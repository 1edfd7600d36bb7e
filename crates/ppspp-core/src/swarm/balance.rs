//! Evens the load: what slow or silent peers were asked for goes to those that have nothing left to do, and the last
//! chunks are asked of several (RFC 7574 §3.8).

use alloc::vec::Vec;
use core::time::Duration;

use crate::channel::{Download, Established};
use crate::chunk::{ChunkRange, Geometry, GroupIndex};
use crate::context::Cx;
use crate::schedule::{BatchId, PeerSlot, RUN_BATCHES, bit_runs, mask, set_mask};
use crate::swarm::Swarm;
use crate::swarm::asking::may_request;
use crate::time::Instant;

/// How often idle peers look for work.
pub(crate) const BALANCE_INTERVAL: Duration = Duration::from_millis(100);
/// Idle peers that look for work at a time.
pub(super) const MAX_IDLE: usize = 64;
/// How much sooner than its owner a peer must be able to deliver to take over a request.
const WORTHWHILE: Duration = Duration::from_millis(600);
/// A peer that delivers nothing for so long, or two round trips, is stalled.
const STALLED: Duration = Duration::from_millis(250);
/// A peer that delivers nothing for so long beyond a round trip is not waited for alone in the end game.
const OVERDUE: Duration = Duration::from_millis(100);
/// Chunks that a peer that serves many sends together, before it serves others.
const BURST_CHUNKS: u64 = 16;
/// Longest pause between such bursts that is waited for, or a round trip.
const MAX_PAUSE: Duration = Duration::from_millis(400);
/// Groups that may still be outstanding when the end game begins.
const END_GAME_GROUPS: usize = 16;
/// Chunks asked of a second peer in the end game, at most.
const END_GAME_CHUNKS: u32 = 16;

/// A peer that owes us chunks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Owner {
    /// When it will have delivered everything, from now; the maximum if it is stalled.
    done_in: Duration,
    slot: PeerSlot,
}

impl Swarm {
    /// Lets peers with nothing to do take over what others will be long in delivering.
    pub(crate) fn balance(&mut self, cx: &mut Cx<'_>) {
        if self.asking.balance_at.is_none_or(|at| at > cx.now) {
            return;
        }
        self.asking.balance_at = None;
        let Some(geometry) = self.content.geometry() else { return };
        if self.requests.group_count() == 0 {
            self.asking.idle.clear();
            return;
        }
        let mut owners: Vec<Owner> =
            self.peers.iter().filter_map(|(slot, _)| self.owner(cx, slot as PeerSlot)).collect();
        owners.sort_unstable();
        // Where they are more than are looked at, they take turns.
        let idle = &self.asking.idle;
        let next = if idle.len() > MAX_IDLE { self.asking.idle_next } else { 0 };
        let idle: Vec<PeerSlot> = idle.range(next..).chain(idle.range(..next)).copied().take(MAX_IDLE).collect();
        self.asking.idle_next = idle.last().map_or(0, |last| last.wrapping_add(1));
        for slot in idle {
            self.asking.idle.remove(&slot);
            let Some(room) = self.room_of(cx, slot) else { continue };
            let can_ask = room > 0 && self.asking.paused_until.is_none() && !self.is_backed_up(cx.config);
            let busy = can_ask && self.find_work(cx, &geometry, slot, room, &mut owners);
            if busy {
                self.wake.push(slot);
            } else {
                self.asking.idle.insert(slot);
            }
        }
        if !self.asking.idle.is_empty() {
            self.asking.balance_at = Some(cx.now + BALANCE_INTERVAL);
        }
    }

    /// Finds something for `slot` to be asked for; returns whether there was any.
    fn find_work(&mut self, cx: &Cx<'_>, geometry: &Geometry, slot: PeerSlot, room: u64, owners: &mut [Owner]) -> bool {
        self.take_over(cx, geometry, slot, room, owners)
            || (self.requests.free().is_empty() && self.join_end_game(cx, geometry, slot, room))
    }

    /// `slot` as one who owes us chunks.
    fn owner(&self, cx: &Cx<'_>, slot: PeerSlot) -> Option<Owner> {
        let peer = self.peers.get(slot as usize)?.established()?;
        let download = peer.download.as_deref()?;
        let (since, srtt) = (download.silent_since()?, peer.srtt());
        let stalled = self.is_silent(cx, download, Some(since), srtt, STALLED.max(2 * srtt));
        let done_in = peer.srtt().saturating_add(download.time_for(0, self.metadata.chunk_size));
        Some(Owner { done_in: if stalled { Duration::MAX } else { done_in }, slot })
    }

    /// Whether a peer that has delivered nothing `since` is silent for longer than `patience` and a pause between bursts.
    fn is_silent(
        &self,
        cx: &Cx<'_>,
        download: &Download,
        since: Option<Instant>,
        srtt: Duration,
        patience: Duration,
    ) -> bool {
        let pause = download.time_to_deliver(BURST_CHUNKS, self.metadata.chunk_size).min(MAX_PAUSE.max(srtt));
        since.is_none_or(|since| cx.now - since > patience + pause)
    }

    /// Chunks that `slot` could be asked for now; `None` if it cannot be asked at all.
    fn room_of(&mut self, cx: &mut Cx<'_>, slot: PeerSlot) -> Option<u64> {
        let (peer, download) = self.download_of(slot).filter(|(peer, _)| may_request(peer))?;
        if !download.is_answering() {
            return Some(0);
        }
        let room =
            download.allowance(peer.srtt(), self.metadata.chunk_size, cx.config.limits.outstanding_requests, false);
        Some(self.ration(cx, slot, room))
    }

    /// Asks `slot` for what stalled owners were asked for, and for what one other was asked for last, as much as makes both
    /// end at the same time; returns whether there was any.
    fn take_over(&mut self, cx: &Cx<'_>, geometry: &Geometry, slot: PeerSlot, room: u64, owners: &mut [Owner]) -> bool {
        let mut left = room;
        let Some((ready, rate)) = self.download_of(slot).map(|(peer, download)| {
            (peer.srtt() + download.time_for(0, self.metadata.chunk_size), download.rate_or_assumed())
        }) else {
            return false;
        };
        if self.owner(cx, slot).is_some_and(|taker| taker.done_in == Duration::MAX) {
            return false;
        }
        for owner in owners.iter_mut().rev().filter(|owner| owner.slot != slot) {
            let Some(lead) = owner.done_in.checked_sub(ready).filter(|&lead| lead > WORTHWHILE) else { break };
            let Some((peer, download)) = self.download_of(owner.slot) else { continue };
            let stalled = owner.done_in == Duration::MAX;
            let share = if stalled {
                download.outstanding()
            } else {
                // What is on its way is not worth a CANCEL.
                let flying = chunks_in(peer.srtt(), download.rate_or_assumed(), geometry);
                let both = u128::from(rate) * u128::from(download.rate_or_assumed());
                let even = both / u128::from(rate + download.rate_or_assumed());
                let even = chunks_in(lead, u64::try_from(even).unwrap_or(u64::MAX), geometry);
                even.min(download.outstanding().saturating_sub(flying))
            };
            let ranges: Vec<ChunkRange> = download.newest().collect();
            let taken = self.move_requests(cx, geometry, [owner.slot, slot], &ranges, share.min(left), stalled);
            if taken > 0 {
                left = left.saturating_sub(taken);
                if stalled && let Some(download) = self.download_of_mut(owner.slot) {
                    download.on_taken_over();
                }
                *owner = self.owner(cx, owner.slot).unwrap_or(*owner);
                self.wake.push(owner.slot);
                if !stalled || left == 0 {
                    break;
                }
            }
        }
        left < room
    }

    /// Moves up to `most` requests within `ranges` from one peer to another, and some more to have whole groups; returns
    /// how many. Of an owner that is not `stalled`, groups are left of which something has come: the rest is on its way.
    fn move_requests(
        &mut self,
        cx: &Cx<'_>,
        geometry: &Geometry,
        [from, to]: [PeerSlot; 2],
        ranges: &[ChunkRange],
        most: u64,
        stalled: bool,
    ) -> u64 {
        let mut moved = 0;
        for &range in ranges {
            let Some((peer, _)) = self.download_of(to) else { break };
            let parts: Vec<ChunkRange> = peer.have.as_set().intersection_in(range).rev().collect();
            for part in parts {
                for group in geometry.groups_touching(part).rev() {
                    if moved >= most {
                        return moved;
                    }
                    if self.requests.has_room(group, RUN_BATCHES)
                        && (stalled || self.content.verifier.group_have(group) == 0)
                    {
                        moved += self.move_group(cx, geometry, [from, to], group, part);
                    }
                }
            }
        }
        moved
    }

    /// Moves the requests for the chunks of `group` in `part` from one peer to another, but for those that a third is asked
    /// for too or that were withdrawn; returns how many.
    fn move_group(
        &mut self,
        cx: &Cx<'_>,
        geometry: &Geometry,
        [from, to]: [PeerSlot; 2],
        group: GroupIndex,
        part: ChunkRange,
    ) -> u64 {
        let chunks = geometry.group_chunks(group);
        let bits = self.requests.asked_of_alone(group, from) & mask(chunks, part);
        let mut moved = 0;
        for range in bit_runs(chunks.start(), bits) {
            if !self.requests.has_room(group, RUN_BATCHES) {
                break;
            }
            self.take_back(cx.now, geometry, from, range);
            self.assign(cx.now, to, geometry, range);
            if let Some(taker) = self.download_of_mut(to) {
                taker.untold().insert(range);
            }
            moved += range.count();
        }
        moved
    }

    /// Asks `slot` too for the last chunks whose owners are overdue; returns whether there were any.
    fn join_end_game(&mut self, cx: &Cx<'_>, geometry: &Geometry, slot: PeerSlot, room: u64) -> bool {
        if self.requests.group_count() > END_GAME_GROUPS {
            return false;
        }
        let Some((peer, _)) = self.download_of(slot) else { return false };
        let overdue = |owner: PeerSlot, batch: Option<BatchId>| {
            // What was withdrawn is free soon.
            let Some(batch) = batch else { return false };
            self.download_of(owner).is_none_or(|(peer, download)| {
                self.is_silent(cx, download, download.waiting_since(batch), peer.srtt(), peer.srtt() + OVERDUE)
            })
        };
        let mut left = END_GAME_CHUNKS.min(u32::try_from(room).unwrap_or(u32::MAX));
        let mut wanted = Vec::new();
        for (group, asked) in self.requests.outstanding() {
            if !self.requests.has_room(group, RUN_BATCHES) {
                continue;
            }
            let mut once = 0;
            let mut twice = 0;
            for (owner, batch, chunks) in asked {
                let late = owner != slot && overdue(owner, batch);
                twice |= (once & chunks) | if late { 0 } else { chunks };
                once |= chunks;
            }
            let chunks = geometry.group_chunks(group);
            let offered = once & !twice & set_mask(chunks, peer.have.as_set());
            for run in bit_runs(chunks.start(), offered) {
                let run = ChunkRange::new(run.start(), run.end().min(run.start() + u64::from(left)));
                left -= run.count() as u32;
                wanted.push((group, run));
            }
        }
        let mut any = false;
        for (group, run) in wanted.into_iter().filter(|(_, run)| !run.is_empty()) {
            if !self.requests.has_room(group, RUN_BATCHES) {
                continue;
            }
            let Some(download) = self.download_of_mut(slot) else { break };
            download.untold().insert(run);
            for (part, batch) in download.on_requested(cx.now, run) {
                let bits = mask(geometry.group_chunks(group), part);
                any |= self.requests.ask_also(group, bits, slot, batch) != 0;
            }
        }
        any
    }

    pub(super) fn download_of(&self, slot: PeerSlot) -> Option<(&Established, &Download)> {
        let peer = self.peers.get(slot as usize)?.established()?;
        Some((peer, peer.download.as_deref()?))
    }

    /// Frees what of `range` was asked of `slot`, which is to be told so.
    fn take_back(&mut self, now: Instant, geometry: &Geometry, slot: PeerSlot, range: ChunkRange) {
        for (run, batch) in self.requests.release(geometry, slot, range) {
            if let Some(download) = self.download_of_mut(slot) {
                download.on_released(now, batch, run.count());
                download.cancel(run);
            }
        }
    }

    pub(super) fn download_of_mut(&mut self, slot: PeerSlot) -> Option<&mut Download> {
        self.peers.get_mut(slot as usize)?.established_mut()?.download.as_deref_mut()
    }
}

/// Chunks that arrive in `time` at `rate` bytes per second.
fn chunks_in(time: Duration, rate: u64, geometry: &Geometry) -> u64 {
    let bytes = time.as_micros() * u128::from(rate) / 1_000_000;
    u64::try_from(bytes / u128::from(geometry.chunk_size().bytes())).unwrap_or(u64::MAX)
}
