//! Holds REQUESTs to the download limits, and to the upload limits that acknowledgements alone would pass. Channels that may
//! not ask wait in line, for one timer.

use crate::context::Cx;
use crate::schedule::PeerSlot;
use crate::swarm::Swarm;

impl Swarm {
    /// How many of `chunks` the limits let `slot` ask for now. If that is none, it is woken when there are some.
    pub(crate) fn ration(&mut self, cx: &mut Cx<'_>, slot: PeerSlot, chunks: u64) -> u64 {
        if chunks == 0 {
            return 0;
        }
        let (all, own) = (cx.down.budget(cx.now), self.down.budget(cx.now));
        let budget = all.min(own);
        // What comes is acknowledged: that alone can be more than may be sent.
        let overdrawn = [&mut *cx.up, &mut self.up].map(|up| up.overdrawn_until(cx.now)).into_iter().max().flatten();
        if budget > 0 && overdrawn.is_none() {
            return chunks.min((budget / self.chunk_cost()).max(1));
        }
        if overdrawn.is_some() {
            self.ask_at = overdrawn;
        } else if own == 0 {
            self.ask_at = Some(self.down.opens_at());
        } else {
            self.starved = true;
        }
        if let Some(channel) = self.peers.get_mut(slot as usize)
            && !channel.ration.hungry
        {
            channel.ration.hungry = true;
            self.hungry.push_back(slot);
        }
        0
    }

    /// Tells the limits what `slot` still owes us, and lets the next one ask if there is room.
    pub(crate) fn count_requests(&mut self, cx: &mut Cx<'_>, slot: PeerSlot) {
        let cost = self.chunk_cost();
        let Some(channel) = self.peers.get_mut(slot as usize) else { return };
        let download = channel.established().and_then(|peer| peer.download.as_deref());
        let owed = download.map_or(0, |download| download.outstanding() * cost);
        let before = core::mem::replace(&mut channel.ration.reserved, owed);
        if before != owed {
            self.down.reserve(before, owed);
            cx.down.reserve(before, owed);
        }
        if self.ask_at.is_none() && !self.starved {
            self.wake_hungry();
        }
    }

    /// Wakes the channel that has waited longest to ask; returns whether there is one.
    pub(crate) fn wake_hungry(&mut self) -> bool {
        let Some(slot) = self.hungry.pop_front() else { return false };
        if let Some(channel) = self.peers.get_mut(slot as usize) {
            channel.ration.hungry = false;
            self.wake.push(slot);
        }
        true
    }

    /// UDP payload that a chunk brings: the chunk with about one hash.
    fn chunk_cost(&self) -> u64 {
        let format = &self.format;
        let overhead = crate::wire::CHANNEL_ID_LEN + format.data_overhead() + format.integrity_len();
        u64::from(format.chunk_size().bytes()) + overhead as u64
    }
}
