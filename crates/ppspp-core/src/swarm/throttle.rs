//! Holds REQUESTs to the download limits, and to the upload limits that acknowledgements alone would pass. Channels that may
//! not ask wait in line, for one timer.
//!
//! Who has brought nothing yet, or left things unanswered over and over, may never bring what it is asked for: all of these
//! together are asked for half of what may come at once, so that those who give are not kept waiting, and a limit that was
//! not used for their sake is not made up for later. They take turns, and who is silent comes last.

use alloc::collections::VecDeque;

use crate::channel::Download;
use crate::context::Cx;
use crate::policy::{Intake, Reserved};
use crate::schedule::PeerSlot;
use crate::swarm::Swarm;

/// Part of the room for those who have brought nothing that one of them gets, a chunk at least.
const FIRST_SHARE: u64 = 8;

/// Channels that wait to ask, each in one line at most.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Those that bring what they are asked for.
    giving: VecDeque<PeerSlot>,
    /// Those that have not been tried.
    fresh: VecDeque<PeerSlot>,
    /// Those that were tried in vain.
    silent: VecDeque<PeerSlot>,
    /// How many were called to be tried and have not asked yet.
    called: u64,
}

impl Lines {
    /// Takes `slot` out.
    pub(super) fn leave(&mut self, slot: PeerSlot) {
        for line in [&mut self.giving, &mut self.fresh, &mut self.silent] {
            line.retain(|&hungry| hungry != slot);
        }
    }

    fn has_untried(&self) -> bool {
        !self.fresh.is_empty() || !self.silent.is_empty()
    }

    fn next_untried(&mut self) -> Option<PeerSlot> {
        self.fresh.pop_front().or_else(|| self.silent.pop_front())
    }
}

impl Swarm {
    /// How many of `chunks` the limits let `slot` ask for now. If that is none, it is woken when there are some.
    pub(crate) fn ration(&mut self, cx: &mut Cx<'_>, slot: PeerSlot, chunks: u64) -> u64 {
        if chunks == 0 {
            return 0;
        }
        let cost = self.chunk_cost();
        let mut chunks = chunks;
        if !self.brings(slot) {
            let called = self.peers.get(slot as usize).is_some_and(|channel| channel.ration.called);
            // Whoever fell silent does not go on before those who wait to be tried.
            if !called && (self.lines.has_untried() || !self.has_room_for_first(cx.down)) {
                self.wait_in_line(slot);
                return 0;
            }
            chunks = chunks.min((self.room_for_first(cx.down) / (FIRST_SHARE * cost)).max(1));
        }
        let (all, own) = (cx.down.budget(cx.now), self.down.budget(cx.now));
        let budget = all.min(own);
        // What comes is acknowledged: that alone can be more than may be sent.
        let overdrawn = [&mut *cx.up, &mut self.up].map(|up| up.overdrawn_until(cx.now)).into_iter().max().flatten();
        if budget > 0 && overdrawn.is_none() {
            return chunks.min((budget / cost).max(1));
        }
        if overdrawn.is_some() {
            self.ask_at = overdrawn;
        } else if own == 0 {
            self.ask_at = Some(self.down.opens_at());
        } else {
            self.starved = true;
        }
        self.wait_in_line(slot);
        0
    }

    /// Whether what `slot` is asked for is sure to come, as far as can be known.
    fn brings(&self, slot: PeerSlot) -> bool {
        let Some(channel) = self.peers.get(slot as usize) else { return false };
        let download = channel.established().and_then(|peer| peer.download.as_deref());
        channel.stats.chunks_received > 0 && download.is_some_and(|download| !download.is_probed())
    }

    /// Bytes that all who have brought nothing may be asked for together, under the limit of `all` swarms too.
    fn room_for_first(&self, all: &Intake) -> u64 {
        all.capacity().min(self.down.capacity()) / 2
    }

    /// Whether one more of these may be asked.
    fn has_room_for_first(&self, all: &Intake) -> bool {
        let unsure = self.down.unsure().saturating_add(self.lines.called * self.chunk_cost());
        unsure == 0 || unsure < self.room_for_first(all)
    }

    fn wait_in_line(&mut self, slot: PeerSlot) {
        let brings = self.brings(slot);
        let Some(channel) = self.peers.get_mut(slot as usize) else { return };
        if core::mem::replace(&mut channel.ration.hungry, true) {
            return;
        }
        let download = channel.established().and_then(|peer| peer.download.as_deref());
        let silent = channel.stats.chunks_received == 0 && !download.is_none_or(Download::is_answering);
        let Lines { giving, fresh, silent: last, .. } = &mut self.lines;
        let line = match (brings, silent) {
            (true, _) => giving,
            (false, false) => fresh,
            (false, true) => last,
        };
        line.push_back(slot);
    }

    /// The turn of `slot` to be tried is over, if it had one; returns whether it had.
    pub(crate) fn end_call(&mut self, slot: PeerSlot) -> bool {
        let Some(channel) = self.peers.get_mut(slot as usize) else { return false };
        let called = core::mem::take(&mut channel.ration.called);
        self.lines.called -= u64::from(called);
        called
    }

    /// Tells the limits what `slot` still owes us, and lets the next one ask if there is room.
    pub(crate) fn count_requests(&mut self, cx: &mut Cx<'_>, slot: PeerSlot) {
        let (cost, brings) = (self.chunk_cost(), self.brings(slot));
        let Some(channel) = self.peers.get_mut(slot as usize) else { return };
        let download = channel.established().and_then(|peer| peer.download.as_deref());
        let bytes = download.map_or(0, |download| download.outstanding() * cost);
        let owed = Reserved { bytes, sure: if brings { bytes } else { 0 } };
        let before = core::mem::replace(&mut channel.ration.reserved, owed);
        if before != owed {
            self.down.reserve(before, owed);
            cx.down.reserve(before, owed);
        }
        if self.ask_at.is_none() && !self.starved {
            self.wake_hungry(cx.down);
        }
    }

    /// Wakes the channel that has waited longest to ask, and one of those who have brought nothing if there is room for it;
    /// returns whether there is any.
    pub(crate) fn wake_hungry(&mut self, all: &Intake) -> bool {
        let first = if self.has_room_for_first(all) { self.lines.next_untried() } else { None };
        if let Some(channel) = first.and_then(|slot| self.peers.get_mut(slot as usize))
            && !core::mem::replace(&mut channel.ration.called, true)
        {
            self.lines.called += 1;
        }
        let next = self.lines.giving.pop_front();
        for slot in first.into_iter().chain(next) {
            if let Some(channel) = self.peers.get_mut(slot as usize) {
                channel.ration.hungry = false;
                self.wake.push(slot);
            }
        }
        first.or(next).is_some()
    }

    /// UDP payload that a chunk brings: the chunk with about one hash.
    fn chunk_cost(&self) -> u64 {
        let format = &self.format;
        let overhead = crate::wire::CHANNEL_ID_LEN + format.data_overhead() + format.integrity_len();
        u64::from(format.chunk_size().bytes()) + overhead as u64
    }
}
