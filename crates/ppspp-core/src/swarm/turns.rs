//! Which channels stand in line to send DATA.

use crate::channel::Blocked;
use crate::schedule::PeerSlot;
use crate::swarm::Swarm;

impl Swarm {
    /// Puts `slot` behind the others that have DATA to send, if it has any.
    pub(crate) fn take_turn(&mut self, slot: PeerSlot) {
        let Some(channel) = self.peers.get_mut(slot as usize) else { return };
        if channel.turn.is_some() {
            return;
        }
        let Some(peer) = channel.established_mut() else { return };
        // Its turn is all it waits for, or nothing: what kept DATA back before is void.
        peer.blocked = Blocked::Idle;
        let choked = peer.is_choked_by_us();
        if let Some(upload) = peer.upload.as_deref_mut().filter(|upload| !choked && upload.has_requests()) {
            let place = self.backlog.insert(slot);
            // R2: what was read for it before is charged as if it had been sent. Alone it owes nobody.
            self.backlog.spend(place, core::mem::take(&mut upload.owed));
            channel.turn = Some(place);
        }
    }

    /// Takes `slot` out of the line if it cannot send more now. Whatever changes that wakes it.
    pub(crate) fn end_turn_if_blocked(&mut self, slot: PeerSlot) {
        let Some(channel) = self.peers.get_mut(slot as usize) else { return };
        let blocked = channel.established().is_none_or(|peer| peer.blocked != Blocked::No);
        if blocked && let Some(place) = channel.turn.take() {
            self.backlog.remove(place);
        }
    }
}
