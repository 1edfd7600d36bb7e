//! Spares seeders what leechers can give: a request is withdrawn from a seeder once a leecher has the group (R21).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use crate::chunk::{ChunkRange, Geometry, GroupIndex};
use crate::config::Limits;
use crate::schedule::{PeerSlot, mask};
use crate::swarm::Swarm;
use crate::swarm::asking::may_request;
use crate::swarm::balance::MAX_IDLE;
use crate::time::Instant;

/// Chunks taken from seeders for one announcement of a leecher, at most.
const MAX_SPARED: u32 = 1024;
/// Runs of free groups looked at for one that only seeders have.
const MAX_LOOKED_AT: usize = 256;
/// How long the CANCEL and what was sent before it wait in the processes at both ends. What waits in front of ours is
/// measured, and as much is taken to wait in front of the seeder's.
const IN_PROCESSES: Duration = Duration::from_millis(25);
/// Longest time for which a group is nobody else's, whatever the seeder makes of its answers and timestamps.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// As much of a queue is believed: congestion control aims at less, and clocks drift apart.
const MAX_QUEUE: Duration = Duration::from_millis(100);

/// How long after a CANCEL what the seeder sent before it heard it may arrive.
fn time_to_come(srtt: Duration, queueing: Duration) -> Duration {
    let queueing = queueing.min(MAX_QUEUE);
    queueing.saturating_add(srtt.max(queueing + IN_PROCESSES)).min(MAX_WAIT)
}

/// A group withdrawn from a seeder that may have sent it already: nobody else is asked for it until then.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Withdrawn {
    until: Instant,
    group: GroupIndex,
    chunks: u64,
    seeder: PeerSlot,
    /// Who has it too.
    leecher: PeerSlot,
}

/// What is withdrawn from seeders; of what has come since something may remain until its time is over.
#[derive(Debug, Default)]
pub(crate) struct Sparing {
    withdrawn: BTreeSet<Withdrawn>,
    /// Chunks of these that each leecher is to be asked for; of what has come since, too.
    promised: BTreeMap<PeerSlot, u64>,
}

impl Sparing {
    /// When the next group is free.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.withdrawn.first().map(|first| first.until)
    }

    /// Chunks that `leecher` is to be asked for.
    fn promised(&self, leecher: PeerSlot) -> u64 {
        self.promised.get(&leecher).copied().unwrap_or(0)
    }

    /// Adds `what`; false if there are as many as `most` already.
    fn admit(&mut self, what: Withdrawn, most: usize) -> bool {
        let admitted = self.withdrawn.len() < most && self.withdrawn.insert(what);
        if admitted {
            *self.promised.entry(what.leecher).or_default() += what.chunks;
        }
        admitted
    }

    fn take_due(&mut self, now: Instant) -> Option<Withdrawn> {
        if self.deadline()? > now {
            return None;
        }
        let due = self.withdrawn.pop_first()?;
        let left = self.promised(due.leecher).saturating_sub(due.chunks);
        if left > 0 {
            self.promised.insert(due.leecher, left);
        } else {
            self.promised.remove(&due.leecher);
        }
        Some(due)
    }
}

impl Swarm {
    /// Asks seeders no longer for `groups`, which the leecher in `slot` has by now, if it can be asked for them, or the
    /// seeders for something that only they have (R21).
    ///
    /// They are told at once and may be asked for other things, but what they were asked for is free only once what they
    /// sent before they were should be here: on a fast link that is most of it.
    pub(crate) fn spare_seeders(
        &mut self,
        now: Instant,
        slot: PeerSlot,
        geometry: &Geometry,
        groups: &[ChunkRange],
        limits: &Limits,
    ) {
        if !self.asking.spreads(now, self.by_address.len()) {
            return;
        }
        let Some(peer) = self.peers.get(slot as usize).and_then(|channel| channel.established()) else { return };
        let mut room = if may_request(peer) {
            let download = peer.download.as_deref();
            download.map_or(1, |one| one.allowance(peer.srtt(), self.metadata.chunk_size, MAX_SPARED, false))
        } else {
            0
        };
        room = room.saturating_sub(self.asking.sparing.promised(slot));
        let mut rarer = None;
        // One message may name any number of groups: those that are asked for are few (R2).
        let asked: Vec<GroupIndex> = groups.iter().flat_map(|groups| self.requests.asked_among(*groups)).collect();
        for group in asked {
            let chunks = geometry.group_chunks(group);
            let Some(owner) = self.requests.owner_of(group, mask(chunks, chunks)).filter(|&owner| owner != slot) else {
                continue;
            };
            let Some((peer, download)) = self.download_of(owner) else { continue };
            if !peer.have.is_complete(geometry.chunk_count())
                || (room == 0 && !*rarer.get_or_insert_with(|| self.is_any_lonely(geometry)))
            {
                continue;
            }
            let until = now + time_to_come(peer.srtt(), download.acks.queueing());
            let what = Withdrawn { until, group, chunks: chunks.count(), seeder: owner, leecher: slot };
            if !self.asking.sparing.admit(what, limits.open_groups) {
                return;
            }
            room = room.saturating_sub(chunks.count());
            self.withdraw(now, geometry, owner, group);
        }
    }

    fn withdraw(&mut self, now: Instant, geometry: &Geometry, seeder: PeerSlot, group: GroupIndex) {
        for (run, batch) in self.requests.withdraw(geometry, seeder, group) {
            if let Some(download) = self.download_of_mut(seeder) {
                download.on_released(now, batch, run.count());
                download.cancel(run);
            }
        }
        self.wake.push(seeder);
    }

    /// Whether there is a free group that only seeders have.
    fn is_any_lonely(&self, geometry: &Geometry) -> bool {
        let (rarity, layer) = (&self.asking.rarity, geometry.group_layer());
        let groups = |run: ChunkRange| ChunkRange::new(run.start() >> layer, ((run.end() - 1) >> layer) + 1);
        let mut counts = self.requests.free().runs().flat_map(|run| rarity.runs_in(groups(run))).take(MAX_LOOKED_AT);
        counts.any(|(_, count)| count <= rarity.complete())
    }

    /// Frees what was withdrawn from seeders until now at the latest, and has not come.
    pub(crate) fn free_withdrawn(&mut self, now: Instant) {
        let Some(geometry) = self.content.geometry() else { return };
        let mut due = Vec::new();
        while let Some(what) = self.asking.sparing.take_due(now) {
            self.requests.release_withdrawn(&geometry, what.seeder, what.group);
            due.push(what);
        }
        if due.is_empty() {
            return;
        }
        // The latest woken is the first to ask: the leechers, or, if they have gone or choked us, the seeders and others.
        self.wake.extend(self.asking.idle.iter().copied().take(MAX_IDLE));
        self.wake.extend(due.iter().map(|what| what.seeder));
        self.wake.extend(due.iter().map(|what| what.leecher));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_withdrawn_is_bounded_and_falls_due_in_time() {
        const MS: Duration = Duration::from_millis(1);
        let mut sparing = Sparing::default();
        for group in 0..1000 {
            let until = Instant::ZERO + MS * (1000 - group);
            let leecher = group % 3;
            let what = Withdrawn { until, group: GroupIndex::new(group.into()), chunks: 16, seeder: 7, leecher };
            assert_eq!(sparing.admit(what, 100), group < 100);
        }
        assert_eq!([0, 1, 2, 3].map(|leecher| sparing.promised(leecher)), [34 * 16, 33 * 16, 33 * 16, 0]);
        assert_eq!(sparing.deadline(), Some(Instant::ZERO + MS * 901));
        assert_eq!(sparing.take_due(Instant::ZERO + MS * 900), None);
        let mut due = Vec::new();
        while let Some(what) = sparing.take_due(Instant::ZERO + MS * 910) {
            due.push(what.group.value());
        }
        assert_eq!(due, (90..100).rev().collect::<Vec<_>>());
        assert_eq!(sparing.deadline(), Some(Instant::ZERO + MS * 911));
        while sparing.take_due(Instant::FAR_FUTURE).is_some() {}
        assert!(sparing.promised.is_empty());
    }

    #[test]
    fn what_waits_at_both_ends_counts_where_the_way_is_short() {
        let ms = Duration::from_millis;
        assert_eq!(time_to_come(ms(0), ms(0)), IN_PROCESSES);
        assert_eq!(time_to_come(ms(1), ms(10)), IN_PROCESSES + ms(20));
        assert_eq!(time_to_come(ms(80), ms(10)), ms(90));
    }

    #[test]
    fn no_timestamp_keeps_a_group_from_others_for_long() {
        let ms = Duration::from_millis;
        assert_eq!(time_to_come(ms(1), Duration::MAX), 2 * MAX_QUEUE + IN_PROCESSES);
        assert_eq!(time_to_come(ms(400), Duration::MAX), ms(400) + MAX_QUEUE);
        assert_eq!(time_to_come(Duration::MAX, ms(0)), MAX_WAIT);
    }
}
